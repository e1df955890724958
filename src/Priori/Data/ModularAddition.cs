using Priori.Runtime;

namespace Priori.Data;

/// <summary>Addition modulo p as a learning problem (Power et al., Grokking, 2022): all pairs (a, b) with the class (a + b) mod p, of which a share is for training.</summary>
/// <param name="Modulus">p.</param>
/// <param name="TrainPairs">int64 [n, 2], each number in 0..p-1.</param>
/// <param name="TrainSums">int64 [n].</param>
/// <param name="TestPairs">The other pairs, int64 [p * p - n, 2].</param>
/// <param name="TestSums">int64 [p * p - n].</param>
public sealed record ModularAddition(int Modulus, Tensor TrainPairs, Tensor TrainSums, Tensor TestPairs, Tensor TestSums)
{
    /// <summary>Divides all p * p pairs at random.</summary>
    /// <param name="modulus">p, at least 2; 113 in the literature.</param>
    /// <param name="trainShare">Share of the pairs for training, in (0, 1).</param>
    /// <param name="seed">Seed of the division.</param>
    /// <exception cref="ArgumentException">A part would be empty.</exception>
    public static ModularAddition Generate(int modulus, double trainShare, int seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(modulus, 2);
        long[] order = [.. Enumerable.Range(0, modulus * modulus).Select(i => (long)i)];
        SplitMix64.For(seed, 0x4D4F44).Shuffle<long>(order);
        int train = (int)Math.Round(trainShare * order.Length);
        if (train < 1 || train >= order.Length) throw new ArgumentException($"A share of {trainShare} leaves {train} of {order.Length} pairs for training; both parts need at least one.", nameof(trainShare));
        using var scope = NewDisposeScope();
        (Tensor Pairs, Tensor Sums) Part(long[] indices)
        {
            Tensor i = tensor(indices), a = i.div(modulus, RoundingMode.floor).to(int64), b = i.remainder(modulus);
            return (stack([a, b], 1).MoveToOuterDisposeScope(), (a + b).remainder(modulus).MoveToOuterDisposeScope());
        }
        (Tensor trainPairs, Tensor trainSums) = Part(order[..train]);
        (Tensor testPairs, Tensor testSums) = Part(order[train..]);
        return new ModularAddition(modulus, trainPairs, trainSums, testPairs, testSums);
    }

    /// <summary>Pairs as two one-hot vectors side by side, float32 [n, 2 p].</summary>
    /// <param name="pairs">int64 [n, 2].</param>
    public Tensor OneHot(Tensor pairs)
    {
        ArgumentNullException.ThrowIfNull(pairs);
        return functional.one_hot(pairs, Modulus).to(float32).flatten(1);
    }
}
