using Priori.Numerics;

namespace Priori.Recommendation;

/// <summary>Item vectors from user-item feedback alone.</summary>
public static class CollaborativeFactors
{
    /// <summary>
    /// Right singular vectors of the symmetrically normalised user-item matrix, times sqrt(items) / 4 so that an entry has a deviation of about 1/4. The matrix stays sparse.
    /// Items without feedback get a vector of zeros.
    /// </summary>
    /// <param name="users">User of each pair, int64 [pairs].</param>
    /// <param name="items">Item of each pair, int64 [pairs].</param>
    /// <param name="userCount">Number of users.</param>
    /// <param name="itemCount">Number of items.</param>
    /// <param name="dim">Width, 64 by default; less where there are fewer users or items.</param>
    /// <param name="seed">Seed of the decomposition.</param>
    /// <returns>float32 [items, dim].</returns>
    /// <exception cref="ArgumentException">As for <see cref="BipartiteGraph.Normalized"/>.</exception>
    public static Tensor Svd(Tensor users, Tensor items, long userCount, long itemCount, int dim = 64, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(items);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        using DisposeScope scope = NewDisposeScope();
        Tensor matrix = BipartiteGraph.Normalized(users, items, userCount, itemCount);
        Tensor factors = TruncatedSvd.Compute(matrix, (int)Math.Min(dim, Math.Min(userCount, itemCount)), seed: seed).V * (Math.Sqrt(itemCount) / 4);
        return factors.masked_fill(HasFeedback(items, itemCount).logical_not().unsqueeze(-1), 0).MoveToOuterDisposeScope();
    }

    /// <summary>Which items occur in a pair, bool [items].</summary>
    /// <param name="items">Item of each pair, int64 [pairs].</param>
    /// <param name="itemCount">Number of items.</param>
    public static Tensor HasFeedback(Tensor items, long itemCount)
    {
        ArgumentNullException.ThrowIfNull(items);
        return items.bincount(null, itemCount).gt(0);
    }
}
