namespace Priori.Numerics;

/// <summary>
/// Euclidean projections onto simplices: batched over all other dimensions, differentiable (any order) on every device and
/// floating type.
/// </summary>
public static class Projections
{
    /// <summary>
    /// Projects onto the simplex {t >= 0, sum t = z} along one dimension; with z = 1 this is sparsemax (Martins and Astudillo, ICML 2016).
    /// </summary>
    /// <param name="v">Any shape, floating point. Entries of -infinity stay 0; a slice with NaN gives NaN.</param>
    /// <param name="z">The mass of the simplex, positive. Default 1.</param>
    /// <param name="dim">The dimension that holds a vector. Default: the last.</param>
    /// <returns>The shape of <paramref name="v"/>. The Jacobian is I - 11'/rho on the rho positive entries and 0 elsewhere.</returns>
    /// <exception cref="ArgumentException">The mass is not positive or the dimension does not exist.</exception>
    public static Tensor Simplex(Tensor v, double z = 1, long dim = -1) => SparseSimplex(v, int.MaxValue, z, dim);

    /// <summary>
    /// Projects onto {t >= 0, sum t = z, at most k non-zeros}: the k largest entries are projected onto the simplex, the others are 0
    /// (Kyrillidis et al., ICML 2013; Liu, Puigcerver and Blondel, ICLR 2023, section 4). With ties at rank k any of the tied entries may be kept.
    /// </summary>
    /// <param name="v">Any shape, floating point. Entries of -infinity stay 0; a slice with NaN gives NaN.</param>
    /// <param name="k">The number of entries that may be non-zero, at least 1; more than there are means no limit.</param>
    /// <param name="z">The mass of the simplex, positive. Default 1.</param>
    /// <param name="dim">The dimension that holds a vector. Default: the last.</param>
    /// <returns>The shape of <paramref name="v"/>. The Jacobian is I - 11'/rho on the rho positive entries and 0 elsewhere.</returns>
    /// <exception cref="ArgumentException">k or the mass is not positive or the dimension does not exist.</exception>
    public static Tensor SparseSimplex(Tensor v, int k, double z = 1, long dim = -1)
    {
        if (!(z > 0) || double.IsInfinity(z)) throw new ArgumentOutOfRangeException(nameof(z), z, "The mass of a simplex must be positive and finite.");
        using Tensor mass = torch.tensor(z, dtype: v.dtype, device: v.device);
        return SparseSimplex(v, k, mass, dim);
    }

    /// <summary>As <see cref="SparseSimplex(Tensor, int, double, long)"/>, with a mass for each vector.</summary>
    /// <param name="v">Any shape, floating point.</param>
    /// <param name="k">The number of entries that may be non-zero, at least 1; more than there are means no limit.</param>
    /// <param name="z">Positive masses: the shape of <paramref name="v"/> without <paramref name="dim"/>, or anything that broadcasts to it.</param>
    /// <param name="dim">The dimension that holds a vector. Default: the last.</param>
    /// <returns>The shape of <paramref name="v"/>; differentiable in <paramref name="v"/> and <paramref name="z"/>.</returns>
    /// <exception cref="ArgumentException">k is not positive or the dimension does not exist.</exception>
    public static Tensor SparseSimplex(Tensor v, int k, Tensor z, long dim = -1)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        long axis = dim < 0 ? dim + v.dim() : dim;
        if (axis < 0 || axis >= v.dim()) throw new ArgumentOutOfRangeException(nameof(dim), dim, $"The tensor has {v.dim()} dimensions.");
        if (!v.is_floating_point()) throw new ArgumentException($"A projection needs floating-point entries, not {v.dtype}.", nameof(v));
        using var scope = torch.NewDisposeScope();
        // The vectors last, shifted so that their largest entry is 0: the projection does not change, and large entries stay exact.
        // On the (locally constant) support it is then the linear map v - (sum v - z) / rho.
        Tensor vectors = v.movedim([axis], [-1]);
        vectors = vectors - vectors.detach().amax([-1], keepdim: true);
        Tensor mass = z.dim() == 0 ? z : z.unsqueeze(-1);
        (Tensor support, Tensor rho) = Support(vectors.detach(), k, mass.detach());
        Tensor kept = vectors.masked_fill(support.logical_not(), 0);
        Tensor threshold = (kept.sum(-1, keepdim: true) - mass) / rho;
        Tensor projected = (vectors - threshold).clamp_min(0).masked_fill(support.logical_not(), 0);
        projected = projected.masked_fill(rho.eq(0), double.NaN); // no support: the slice held a NaN
        return projected.movedim([-1], [axis]).MoveToOuterDisposeScope();
    }

    /// <summary>Support [..., n] (bool) of the projection along the last dimension, and its size rho [..., 1].</summary>
    private static (Tensor Support, Tensor Rho) Support(Tensor v, int k, Tensor z)
    {
        (Tensor top, Tensor indices) = v.topk((int)Math.Min(k, v.shape[^1]), -1);
        Tensor ranks = torch.arange(1, top.shape[^1] + 1, dtype: v.dtype, device: v.device);
        Tensor positive = (top - (top.cumsum(-1) - z) / ranks).gt(0); // true exactly for the ranks up to rho
        Tensor support = torch.zeros(v.shape, dtype: ScalarType.Bool, device: v.device).scatter(-1, indices, positive);
        return (support, positive.sum(-1, keepdim: true, type: v.dtype));
    }
}
