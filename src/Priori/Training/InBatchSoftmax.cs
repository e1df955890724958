namespace Priori.Training;

/// <summary>
/// The batch softmax of two-tower retrieval: each query's item is told apart from the items of the other rows of the batch,
/// -(1/n) sum_i log( exp(s_ii) / sum_j exp(s_ij) ).
/// </summary>
public static class InBatchSoftmax
{
    /// <summary>The mean loss over the rows.</summary>
    /// <param name="logits">s [n, n], n at least 1: score of query i with the item of row j, already divided by the temperature.</param>
    /// <param name="logQ">
    /// log of the probability with which the item of each row is drawn into a batch, [n]; it is subtracted from the item's column (Yi et al., RecSys 2019, eq. 3).
    /// Without it the score approximates log p(item | query) / p(item), with it log p(item | query).
    /// </param>
    /// <param name="items">Id of each row's item, int64 [n]; where row j has the item of row i, j is no negative of i (an accidental hit).</param>
    /// <returns>A scalar.</returns>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static Tensor Loss(Tensor logits, Tensor? logQ = null, Tensor? items = null)
    {
        ArgumentNullException.ThrowIfNull(logits);
        long n = logits.dim() == 2 ? logits.size(0) : 0;
        if (n == 0 || logits.size(1) != n) throw new ArgumentException($"Logits must be [n, n] with n at least 1, not [{string.Join(", ", logits.shape)}].", nameof(logits));
        Check(logQ, n, nameof(logQ));
        Check(items, n, nameof(items));
        if (logQ is not null) logits = logits - logQ.unsqueeze(0);
        if (items is not null)
        {
            Tensor accidental = items.unsqueeze(0).eq(items.unsqueeze(1)).logical_and(eye(n, dtype: ScalarType.Bool, device: logits.device).logical_not());
            logits = logits.masked_fill(accidental, double.NegativeInfinity);
        }
        return functional.cross_entropy(logits, arange(n, ScalarType.Int64, device: logits.device));
    }

    private static void Check(Tensor? column, long n, string name)
    {
        if (column is not null && (column.dim() != 1 || column.size(0) != n))
            throw new ArgumentException($"{name} must be [{n}] for logits [{n}, {n}], not [{string.Join(", ", column.shape)}].", name);
    }
}
