using Priori.Runtime;

namespace Priori.Training;

/// <summary>
/// Every row once, in random order but with rows of like length in one batch, so that little is padded: shuffled rows are sorted by length within pools of some batches, and the batches are
/// shuffled. A last incomplete batch stays last.
/// </summary>
/// <param name="lengths">Length of each row, int64 [rows], on the CPU.</param>
/// <param name="batchSize">Rows in a batch: the trainer's, at least 1.</param>
/// <param name="pool">Batches that are sorted together, at least 1; 1 is a plain shuffle.</param>
public sealed class LengthBucketSampler(Tensor lengths, int batchSize, int pool = 32) : Sampler
{
    /// <inheritdoc/>
    public override Tensor Order(long count, int seed, int epoch, int pass)
    {
        ArgumentNullException.ThrowIfNull(lengths);
        ArgumentOutOfRangeException.ThrowIfLessThan(batchSize, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(pool, 1);
        if (lengths.dim() != 1 || lengths.size(0) != count) throw new ArgumentException($"Lengths must be [{count}] like the rows, not [{string.Join(", ", lengths.shape)}].", nameof(count));
        Seeds.Set(Seeds.Derive(seed, epoch, pass, 3));
        using DisposeScope scope = NewDisposeScope();
        Tensor shuffled = randperm(count, ScalarType.Int64);
        long whole = count / batchSize * batchSize, size = (long)pool * batchSize;
        if (whole == 0) return shuffled.MoveToOuterDisposeScope();
        var pools = new List<Tensor>();
        for (long start = 0; start < whole; start += size)
        {
            Tensor rows = shuffled.narrow(0, start, Math.Min(size, whole - start));
            pools.Add(rows.index_select(0, lengths.index_select(0, rows).sort(0, descending: false, stable: true).Indices));
        }
        Tensor batches = cat(pools).view(-1, batchSize);
        batches = batches.index_select(0, randperm(batches.size(0), ScalarType.Int64));
        return cat([batches.reshape(-1), shuffled.narrow(0, whole, count - whole)]).MoveToOuterDisposeScope();
    }
}
