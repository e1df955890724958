using Priori.Runtime;

namespace Priori.Training;

/// <summary>The order in which an epoch visits the rows: a pure function of seed, epoch and pass, so a resumed run sees the same order.</summary>
public abstract class Sampler
{
    /// <summary>Row ids of one pass, int64 [visits], on the CPU.</summary>
    /// <param name="count">Rows of the source.</param>
    /// <param name="seed">The run's seed.</param>
    /// <param name="epoch">Epoch, from 0.</param>
    /// <param name="pass">Pass within the epoch, from 0.</param>
    public abstract Tensor Order(long count, int seed, int epoch, int pass);
}

/// <summary>Every row once, in a fresh random order each pass.</summary>
public sealed class ShuffledSampler : Sampler
{
    /// <inheritdoc/>
    public override Tensor Order(long count, int seed, int epoch, int pass)
    {
        Seeds.Set(Seeds.Derive(seed, epoch, pass, 1));
        return randperm(count, ScalarType.Int64);
    }
}

/// <summary>Every row once, in the order of the source.</summary>
public sealed class SequentialSampler : Sampler
{
    /// <inheritdoc/>
    public override Tensor Order(long count, int seed, int epoch, int pass) => arange(count, ScalarType.Int64);
}

/// <summary>The same number of rows of each class, in random order: each class is drawn without replacement, and anew when it is exhausted.</summary>
/// <param name="labels">Class of each row, int64 [rows], on the CPU; every value of 0..classes-1 that occurs is drawn equally often.</param>
/// <param name="perClass">Rows of each class in a pass, at least 1.</param>
public sealed class ClassBalancedSampler(Tensor labels, long perClass) : Sampler
{
    private readonly Tensor[] _rowsOfClass = RowsOfClass(labels);

    /// <inheritdoc/>
    public override Tensor Order(long count, int seed, int epoch, int pass)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(perClass, 1);
        Seeds.Set(Seeds.Derive(seed, epoch, pass, 2));
        using var scope = NewDisposeScope();
        Tensor drawn = cat([.. _rowsOfClass.Select(rows => rows.index_select(0, Draws(rows.shape[0])))]);
        return drawn.index_select(0, randperm(drawn.shape[0], ScalarType.Int64)).MoveToOuterDisposeScope();
    }

    private Tensor Draws(long size)
        => cat([.. Enumerable.Range(0, (int)((perClass + size - 1) / size)).Select(_ => randperm(size, ScalarType.Int64))]).narrow(0, 0, perClass);

    private static Tensor[] RowsOfClass(Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(labels);
        long classes = labels.max().ToInt64() + 1;
        return [.. Enumerable.Range(0, (int)classes).Select(c => labels.eq(c).nonzero().flatten().DetachFromDisposeScope()).Where(rows => rows.shape[0] > 0)];
    }
}
