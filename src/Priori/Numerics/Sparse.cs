namespace Priori.Numerics;

/// <summary>
/// Normalising transformations of logits to probabilities that can be exactly zero: the alpha-entmax family
/// (Peters, Niculae, Martins, ACL 2019), with softmax (alpha = 1), 1.5-entmax and sparsemax (alpha = 2; Martins, Astudillo, ICML 2016) as members.
/// <code>p_j = [(alpha - 1) z_j - tau]_+^(1 / (alpha - 1)),  tau such that sum_j p_j = 1</code>
/// The backward pass is the closed-form Jacobian product, so nothing of the search for tau is recorded.
/// Works on any device for float and double; second derivatives are not available (except for alpha = 1).
/// </summary>
public static class Sparse
{
    /// <summary>alpha-entmax along one dimension.</summary>
    /// <param name="x">Logits of any shape, floating point and finite.</param>
    /// <param name="alpha">At least 1; 1 is softmax. Larger is sparser.</param>
    /// <param name="dim">The dimension that sums to one.</param>
    /// <param name="iterations">Finds tau by so many halvings, at least 1. By default it is found to the type's precision: by Newton's method for up to 512 elements on the CPU,
    /// else by sorting (alpha = 1.5 and 2, exact) or bisection (25 halvings for float, 54 for double).</param>
    /// <returns>Probabilities of the shape of <paramref name="x"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="alpha"/> is below 1 or not finite, or <paramref name="iterations"/> is below 1.</exception>
    /// <exception cref="ArgumentException"><paramref name="x"/> is not floating point or has no elements along <paramref name="dim"/>.</exception>
    public static Tensor Entmax(Tensor x, double alpha, long dim = -1, int? iterations = null)
    {
        ArgumentNullException.ThrowIfNull(x);
        if (!(alpha >= 1) || !double.IsFinite(alpha)) throw new ArgumentOutOfRangeException(nameof(alpha), alpha, "alpha must be finite and at least 1 (1 is softmax, 2 is sparsemax).");
        if (iterations is { } given) ArgumentOutOfRangeException.ThrowIfLessThan(given, 1, nameof(iterations));
        if (!x.is_floating_point()) throw new ArgumentException($"Logits must be floating point, not {x.dtype}.", nameof(x));
        if (x.dim() == 0 || x.shape[dim < 0 ? dim + x.dim() : dim] == 0) throw new ArgumentException("Logits need at least one element along the dimension that sums to one.", nameof(x));

        if (alpha == 1) return functional.softmax(x, dim);
        bool differentiated = x.requires_grad && is_grad_enabled();
        var (p, s, weights) = Project(x, alpha, dim, iterations, backward: differentiated);
        if (!differentiated) return p;
        Tensor zero = x - x.detach();                                                    // value 0, gradient 1: p's value stays exact
        return p.addcmul(s!, zero - (weights! * zero).sum(dim, keepdim: true), 1);
    }

    /// <summary>Sparsemax, the Euclidean projection onto the simplex: <see cref="Entmax"/> with alpha = 2, exact by sorting.</summary>
    /// <param name="x">Logits of any shape, floating point and finite.</param>
    /// <param name="dim">The dimension that sums to one.</param>
    /// <returns>Probabilities of the shape of <paramref name="x"/>.</returns>
    public static Tensor Sparsemax(Tensor x, long dim = -1) => Entmax(x, 2, dim);

    /// <summary><see cref="Entmax"/> with alpha = 1.5, exact by sorting (Peters et al., algorithm 2).</summary>
    /// <param name="x">Logits of any shape, floating point and finite.</param>
    /// <param name="dim">The dimension that sums to one.</param>
    /// <returns>Probabilities of the shape of <paramref name="x"/>.</returns>
    public static Tensor Entmax15(Tensor x, long dim = -1) => Entmax(x, 1.5, dim);

    // p = entmax(x) and, for the backward pass, s = p^(2 - alpha) on the support and s / sum(s), all without a graph.
    // The Jacobian is diag(s) - s s^T / sum(s) (Peters et al., proposition 2): that of x -> s * (x - sum(s x) / sum(s)).
    internal static (Tensor P, Tensor? S, Tensor? Weights) Project(Tensor x, double alpha, long dim, int? iterations, bool fused = true, bool backward = true)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor z = x.transpose(dim, -1);
        if (fused && iterations is null && x.device_type == DeviceType.CPU && z.size(-1) <= EntmaxKernel.LongestRow && x.dtype is ScalarType.Float32 or ScalarType.Float64)
            return x.dtype == ScalarType.Float32 ? InMemory<float>(z, alpha, dim, backward) : InMemory<double>(z, alpha, dim, backward);
        int steps = iterations ?? (x.dtype == ScalarType.Float64 ? 54 : 25);
        z = (z - z.amax([-1], keepdim: true)).mul_(alpha - 1);                           // tau moves with the logits
        Tensor p = alpha switch { 2 => SortedSparsemax(z), 1.5 => SortedEntmax15(z), _ => Bisect(z, alpha, steps) };
        p = p.transpose(dim, -1);
        if (!backward) return (p.MoveToOuterDisposeScope(), null, null);
        Tensor s = alpha switch
        {
            2 => p.gt(0).to(p.dtype),
            1.5 => p.sqrt(),
            < 2 => p.pow(2 - alpha),
            _ => p.pow(2 - alpha).masked_fill_(p.eq(0), 0),
        };
        Tensor weights = s / s.sum(dim, keepdim: true);
        return (p.MoveToOuterDisposeScope(), s.MoveToOuterDisposeScope(), weights.MoveToOuterDisposeScope());
    }

    private static unsafe (Tensor P, Tensor? S, Tensor? Weights) InMemory<T>(Tensor z, double alpha, long dim, bool backward)
        where T : unmanaged, System.Numerics.IFloatingPointIeee754<T>
    {
        z = z.contiguous();
        Tensor p = empty_like(z);
        Tensor? s = backward ? empty_like(z) : null, weights = backward ? empty_like(z) : null;
        int m = (int)z.size(-1);
        EntmaxKernel.Project(TensorMemory.Pointer<T>(z), TensorMemory.Pointer<T>(p), s is null ? null : TensorMemory.Pointer<T>(s), weights is null ? null : TensorMemory.Pointer<T>(weights), z.numel() / m, m, alpha);
        GC.KeepAlive(z);
        Tensor? Outside(Tensor? tensor) => tensor?.transpose(dim, -1).MoveToOuterDisposeScope();
        return (Outside(p)!, Outside(s), Outside(weights));
    }

    // Each takes z = (alpha - 1)(x - max x) with the simplex along the last dimension.

    private static Tensor SortedSparsemax(Tensor z)
    {
        Tensor sorted = z.sort(-1, descending: true).Values;
        Tensor rank = arange(1, z.size(-1) + 1, z.dtype, z.device);
        Tensor excess = sorted.cumsum(-1).sub_(1);
        Tensor support = (sorted * rank).gt(excess).sum(-1, keepdim: true);
        Tensor tau = excess.gather(-1, support - 1).div_(support);
        return (z - tau).clamp_min_(0);
    }

    private static Tensor SortedEntmax15(Tensor z)
    {
        Tensor sorted = z.sort(-1, descending: true).Values;
        Tensor rank = arange(1, z.size(-1) + 1, z.dtype, z.device);
        Tensor mean = sorted.cumsum(-1).div_(rank);
        Tensor variance = sorted.square().cumsum(-1).div_(rank).addcmul_(mean, mean, -1);
        Tensor taus = mean.sub_(variance.neg_().add_(rank.reciprocal()).clamp_min_(0).sqrt_());
        Tensor support = taus.le(sorted).sum(-1, keepdim: true);
        return (z - taus.gather(-1, support - 1)).clamp_min_(0).pow_(2);
    }

    private static Tensor Bisect(Tensor z, double alpha, int iterations)
    {
        double exponent = 1 / (alpha - 1);
        double width = 1 - Math.Pow(z.size(-1), 1 - alpha);                              // tau lies in [max z - 1, max z - m^(1 - alpha)], max z = 0
        Tensor tau = full_like(z.narrow(-1, 0, 1), -1);
        Tensor p = empty_like(z);
        for (int i = 0; i < iterations; i++)
        {
            width /= 2;
            using DisposeScope step = NewDisposeScope();
            p.copy_(z).sub_(tau).sub_(width).clamp_min_(0).pow_(exponent);
            tau.add_(p.sum(-1, keepdim: true).ge(1).to(z.dtype), width);                 // sum >= 1: tau is in the upper half
        }
        p.copy_(z).sub_(tau).clamp_min_(0).pow_(exponent);
        return p.div_(p.sum(-1, keepdim: true));
    }
}
