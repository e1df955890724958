using Priori.Runtime;

namespace Priori.Training;

/// <summary>A few samples of every class that was learned, chosen at random when the class appears and kept for good.</summary>
/// <param name="perClass">Samples kept of a class, at least 0; with 0 the memory stays empty.</param>
public sealed class EpisodicMemory(int perClass)
{
    private readonly SortedDictionary<long, Tensor> _samples = [];

    /// <summary>Number of samples that are kept.</summary>
    public long Count => _samples.Values.Sum(s => s.size(0));

    /// <summary>The classes of which samples are kept, ascending.</summary>
    public IReadOnlyCollection<long> Classes => _samples.Keys;

    /// <summary>Keeps samples of the classes that are not in the memory yet.</summary>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <param name="labels">Classes, int64 [n].</param>
    /// <param name="seed">Seed of the choice.</param>
    /// <exception cref="ArgumentException">Inputs and labels have different counts.</exception>
    public void Add(Tensor inputs, Tensor labels, int seed)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentOutOfRangeException.ThrowIfNegative(perClass);
        if (labels.dim() != 1 || inputs.size(0) != labels.size(0)) throw new ArgumentException($"{inputs.size(0)} inputs need as many labels, not [{string.Join(", ", labels.shape)}].", nameof(labels));
        if (perClass == 0) return;
        using var scope = NewDisposeScope();
        using Tensor ownLabels = labels.cpu();
        foreach (long label in ownLabels.data<long>().ToArray().Distinct().Where(c => !_samples.ContainsKey(c)))
        {
            long[] rows = ownLabels.eq(label).nonzero().flatten().data<long>().ToArray();
            SplitMix64.For(seed, label).Shuffle<long>(rows);
            _samples[label] = inputs.index_select(0, tensor(rows[..Math.Min(perClass, rows.Length)], device: inputs.device)).DetachFromDisposeScope();
        }
    }

    /// <summary>All samples, by class.</summary>
    /// <returns>Inputs [m, ...] and labels, int64 [m], on the device of the inputs.</returns>
    /// <exception cref="InvalidOperationException">The memory is empty.</exception>
    public (Tensor Inputs, Tensor Labels) Samples()
    {
        if (_samples.Count == 0) throw new InvalidOperationException("The memory is empty.");
        Device device = _samples.Values.First().device;
        return (cat([.. _samples.Values]), cat([.. _samples.Select(s => full(s.Value.size(0), s.Key, int64, device))]));
    }
}

/// <summary>
/// Batches that hold as many samples of a memory as of the present task (Biondi et al., CVPR 2024): the source's last rows are the memory. A pass has floor(rows / batch size) batches, at least 1;
/// each draws floor(batch size / 2) rows of the memory and the rest of the task, without replacement within a batch unless a pool is too small.
/// </summary>
/// <param name="memory">Number of the source's last rows that are memory; with 0 all rows are the task's.</param>
/// <param name="batchSize">Rows a batch, at least 2; the trainer must use the same.</param>
public sealed class MemoryBalancedSampler(long memory, int batchSize) : Sampler
{
    /// <inheritdoc/>
    public override Tensor Order(long count, int seed, int epoch, int pass)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(memory);
        ArgumentOutOfRangeException.ThrowIfLessThan(batchSize, 2);
        long current = count - memory;
        if (current < 1) throw new ArgumentException($"The source has {count} rows, of which {memory} are memory; the task needs at least one.");
        Seeds.Set(Seeds.Derive(seed, epoch, pass, 3));
        using var scope = NewDisposeScope();
        long half = memory == 0 ? 0 : batchSize / 2;
        var batches = new List<Tensor>();
        for (long b = 0; b < Math.Max(1, count / batchSize); b++)
        {
            if (half > 0) batches.Add(current + Draw(memory, half));
            batches.Add(Draw(current, batchSize - half));
        }
        return cat(batches).MoveToOuterDisposeScope();
    }

    private static Tensor Draw(long pool, long size) => size <= pool ? randperm(pool, int64).narrow(0, 0, size) : randint(0, pool, size, int64);
}
