namespace Priori.NoisyLabels;

/// <summary>
/// The target table of early-learning regularization (Liu et al., NeurIPS 2020, sec. 4.2; temporal ensembling of Laine and Aila, ICLR 2017):
/// for each training row a running average of the probabilities predicted for it, T[i] &lt;- beta T[i] + (1 - beta) p[i], from 0.
/// After k visits a row of T sums to 1 - beta^k; it is not renormalised. The table is a buffer, so checkpoints and <c>to(device)</c> carry it.
/// </summary>
public sealed class TemporalEnsemble : Module
{
    private readonly double _beta;
    private readonly long _exampleCount;
    private readonly bool _checkRows;

    /// <summary>Creates a table of zeros, float32 [exampleCount, classCount].</summary>
    /// <param name="exampleCount">Number of training rows n, at least 1.</param>
    /// <param name="classCount">Number of classes C, at least 2.</param>
    /// <param name="beta">Share of the old average, in [0, 1); 0 keeps the newest prediction only.</param>
    /// <param name="checkRows">
    /// Whether each update checks that row ids are inside the table and distinct: one sort on the device and one boolean read back.
    /// Without it a duplicate id silently loses a prediction.
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is outside its range.</exception>
    public TemporalEnsemble(long exampleCount, int classCount, double beta = 0.7, bool checkRows = true) : base(nameof(TemporalEnsemble))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(exampleCount, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(classCount, 2);
        if (beta is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(beta), beta, "Beta must be in [0, 1).");
        _beta = beta;
        _exampleCount = exampleCount;
        _checkRows = checkRows;
        ClassCount = classCount;
        register_buffer("targets", zeros(exampleCount, classCount));
    }

    /// <summary>Number of classes C.</summary>
    public int ClassCount { get; }

    /// <summary>The table T, [n, C]; it belongs to this module.</summary>
    public Tensor Targets => get_buffer("targets")!;

    /// <summary>Averages new predictions in and returns the updated rows. Nothing changes when an exception is thrown.</summary>
    /// <param name="rowIds">Stable ids of the rows, int64 [batch], on the predictions' device; not their places in the batch.</param>
    /// <param name="probabilities">Predicted probabilities, rows sum to 1, [batch, C]; their gradient is not followed.</param>
    /// <returns>T[rowIds], [batch, C], with the type of the probabilities and without a gradient.</returns>
    /// <exception cref="ArgumentException">Row ids are outside the table, occur twice, or the shapes do not fit.</exception>
    public Tensor Update(Tensor rowIds, Tensor probabilities)
    {
        ArgumentNullException.ThrowIfNull(rowIds);
        ArgumentNullException.ThrowIfNull(probabilities);
        if (probabilities.dim() != 2 || probabilities.shape[1] != ClassCount)
            throw new ArgumentException($"Logits must be [batch, {ClassCount}]; got [{string.Join(",", probabilities.shape)}].", nameof(probabilities));
        if (rowIds.dtype != ScalarType.Int64 || rowIds.dim() != 1 || rowIds.shape[0] != probabilities.shape[0])
            throw new ArgumentException($"Row ids must be int64 [{probabilities.shape[0]}]; got {rowIds.dtype} [{string.Join(",", rowIds.shape)}].", nameof(rowIds));
        if (_checkRows) CheckRows(rowIds);
        if (Targets.device_type != probabilities.device_type || Targets.device_index != probabilities.device_index) this.to(probabilities.device);

        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        Tensor updated = _beta * Targets.index_select(0, rowIds) + (1 - _beta) * probabilities.to(Targets.dtype);
        Targets.index_copy_(0, rowIds, updated);
        return updated.to(probabilities.dtype).MoveToOuterDisposeScope();
    }

    private void CheckRows(Tensor rowIds)
    {
        long count = rowIds.shape[0];
        if (count == 0) return;
        using var scope = NewDisposeScope();
        Tensor sorted = rowIds.sort().Values;
        Tensor bad = sorted[0].lt(0).logical_or(sorted[-1].ge(_exampleCount));
        if (count > 1) bad = bad.logical_or(sorted.narrow(0, 1, count - 1).eq(sorted.narrow(0, 0, count - 1)).any());
        if (!bad.ToBoolean()) return;
        long[] ids = sorted.cpu().data<long>().ToArray();
        throw new ArgumentException(
            ids[0] < 0 || ids[^1] >= _exampleCount
                ? $"Row id {(ids[0] < 0 ? ids[0] : ids[^1])} is outside 0..{_exampleCount - 1}."
                : $"Row id {ids.Skip(1).Where((id, i) => id == ids[i]).First()} occurs twice in the batch; each row may occur once.",
            nameof(rowIds));
    }
}
