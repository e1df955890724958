namespace Priori.Nn;

/// <summary>Reductions over some of the entries of a dimension: padded sets and sequences. A mask is true where an entry is real.</summary>
public static class Masked
{
    /// <summary>Softmax over the real entries; the others, and all entries where none is real, are exactly 0 and get no gradient.</summary>
    /// <param name="logits">Logits of any shape, floating point.</param>
    /// <param name="mask">Which entries are real, bool, broadcastable to the logits.</param>
    /// <param name="dim">The dimension that sums to one.</param>
    public static Tensor Softmax(Tensor logits, Tensor mask, long dim = -1)
    {
        ArgumentNullException.ThrowIfNull(logits);
        ArgumentNullException.ThrowIfNull(mask);
        Tensor hidden = mask.logical_not();
        double lowest = logits.dtype == ScalarType.Float16 ? -6e4 : -1e9;
        return functional.softmax(logits.masked_fill(hidden, lowest), dim).masked_fill(hidden, 0);
    }

    /// <summary>Mean over the real entries of a set; 0 for a set with none. What padded entries hold, NaN included, has no influence.</summary>
    /// <param name="x">Entries [..., n, d].</param>
    /// <param name="mask">Which entries are real, bool [..., n].</param>
    /// <returns>Means [..., d].</returns>
    public static Tensor Mean(Tensor x, Tensor mask)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(mask);
        Tensor count = mask.sum(dim: -1, keepdim: true).clamp_min(1).to(x.dtype);
        return x.masked_fill(mask.logical_not().unsqueeze(-1), 0).sum(dim: -2) / count;
    }
}
