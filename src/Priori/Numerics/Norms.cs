namespace Priori.Numerics;

/// <summary>Norms that libtorch does not have.</summary>
public static class Norms
{
    /// <summary>
    /// The k-support norm (Argyriou, Foygel and Srebro, NeurIPS 2012, proposition 2.1): its unit ball is the convex hull of the unit vectors with at
    /// most k non-zeros. k = 1 is the l1 norm, k = n the l2 norm.
    /// </summary>
    /// <param name="v">[..., n], floating point.</param>
    /// <param name="k">The sparsity, at least 1; more than n means n.</param>
    /// <returns>The norm of each vector, [...]; differentiable where the norm is.</returns>
    /// <exception cref="ArgumentOutOfRangeException">k is less than 1.</exception>
    public static Tensor KSupport(Tensor v, int k)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        using var scope = torch.NewDisposeScope();
        long n = v.shape[^1];
        int limit = (int)Math.Min(k, n);
        Tensor sorted = v.abs().sort(-1, descending: true).Values;
        Tensor squares = torch.cat([torch.zeros_like(sorted.narrow(-1, 0, 1)), sorted.square().cumsum(-1)], -1); // squares[p] = sum of the p largest squares
        Tensor tails = sorted.flip(-1).cumsum(-1).flip(-1);                                                     // tails[p] = sum of all but the p largest
        // Value for r is head squares plus (tail sum)^2 / (r + 1), where the head holds the k - r - 1 largest. Among r = 0..k-1 exactly one
        // satisfies t_[k-r-1] > tail / (r + 1) >= t_[k-r]; it is the one with the largest value (the norm is the maximum over r of these).
        Tensor r = torch.arange(limit, dtype: v.dtype, device: v.device);
        Tensor heads = torch.arange(limit - 1, -1, -1, dtype: ScalarType.Int64, device: v.device); // k - r - 1 for r = 0..k-1
        Tensor tail = tails.index_select(-1, heads);
        Tensor mean = tail / (r + 1);
        Tensor next = sorted.index_select(-1, heads);                                              // t_[k-r], 1-based
        Tensor previous = torch.cat([torch.full_like(next.narrow(-1, 0, 1), double.PositiveInfinity), sorted], -1).index_select(-1, heads);
        Tensor valid = previous.gt(mean).logical_and(mean.ge(next));
        Tensor values = squares.index_select(-1, heads) + tail.square() / (r + 1);
        // Rounding can blur the two inequalities at ties, where neighbouring r give the same value: then the first is as good.
        Tensor chosen = valid.to(ScalarType.Int64).argmax(-1, keepdim: true);
        return values.gather(-1, chosen).squeeze(-1).sqrt().MoveToOuterDisposeScope();
    }
}
