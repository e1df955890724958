using Priori.Runtime;

namespace Priori.Merging;

/// <summary>Batches of unlabelled inputs.</summary>
internal static class Calibration
{
    /// <summary>Refuses missing or empty inputs.</summary>
    public static void Require(Tensor? inputs, string what)
    {
        if (inputs is null || inputs.dim() < 2 || inputs.shape[0] < 1) throw new ArgumentException($"{what} needs unlabelled inputs [n, ...] with n of at least 1.", nameof(inputs));
    }

    /// <summary>Row indices of full batches in a random order (domains mixed); one smaller batch when there are fewer rows than a batch holds.</summary>
    public static IEnumerable<long[]> Batches(long count, int batchSize, int maxBatches, int seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(batchSize, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxBatches, 1);
        long[] order = new long[count];
        for (long i = 0; i < count; i++) order[i] = i;
        SplitMix64.For(seed, 47).Shuffle<long>(order);
        return order.Chunk(batchSize).TakeWhile((chunk, index) => index < maxBatches && (chunk.Length == batchSize || index == 0));
    }
}
