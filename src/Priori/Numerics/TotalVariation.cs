namespace Priori.Numerics;

/// <summary>How <see cref="TotalVariationDenoiser"/> finds the minimum.</summary>
public enum TotalVariationSolver
{
    /// <summary>Split Bregman (Goldstein and Osher, SIAM J. Imaging Sci. 2009); its quadratic step is solved exactly, in the cosine basis.</summary>
    SplitBregman,

    /// <summary>Projected gradient on Chambolle's dual (J. Math. Imaging Vis. 2004), accelerated as by Beck and Teboulle (IEEE Trans. Image Process. 2009).</summary>
    Chambolle,
}

/// <summary>Total variation of signals and images, with forward differences that are zero behind the last row and column. The last one or two dimensions are the grid, all others a batch.</summary>
public static class TotalVariation
{
    /// <summary>sum |grad u| over the grid; differentiable (the isotropic norm has the gradient 0 where it is flat).</summary>
    /// <param name="u">Floating point [..., height, width], or [..., length] with <paramref name="dimensions"/> 1.</param>
    /// <param name="isotropic">Whether |grad u| is the Euclidean norm of the two differences rather than the sum of their absolute values. Default true.</param>
    /// <param name="dimensions">1 or 2. Default 2.</param>
    /// <returns>[...], one value for each signal or channel.</returns>
    /// <exception cref="ArgumentException">The tensor has fewer dimensions than the grid.</exception>
    public static Tensor Of(Tensor u, bool isotropic = true, int dimensions = 2)
    {
        Check(u, dimensions);
        Tensor[] d = [.. Enumerable.Range(1, dimensions).Select(axis => Difference(u, -axis))];
        Tensor size = isotropic && dimensions == 2 ? Length(d[0], d[1]) : d.Aggregate(zeros_like(u), (sum, next) => sum + next.abs());
        return size.sum(dimensions == 1 ? [-1L] : [-2L, -1L]);
    }

    internal static void Check(Tensor u, int dimensions)
    {
        ArgumentNullException.ThrowIfNull(u);
        if (dimensions is not (1 or 2)) throw new ArgumentOutOfRangeException(nameof(dimensions), dimensions, "The grid has 1 or 2 dimensions.");
        if (u.dim() < dimensions || u.numel() == 0 || !u.is_floating_point()) throw new ArgumentException($"A floating-point tensor with at least {dimensions} dimensions was expected, not {u.dtype} [{string.Join(", ", u.shape)}].", nameof(u));
    }

    /// <summary>u[i + 1] - u[i] along an axis, 0 at the end.</summary>
    private static Tensor Difference(Tensor u, int axis)
    {
        long n = u.size(axis);
        return cat([u.narrow(axis, 1, n - 1) - u.narrow(axis, 0, n - 1), zeros_like(u.narrow(axis, 0, 1))], axis);
    }

    private static Tensor Length(Tensor a, Tensor b)
    {
        Tensor squared = a.square() + b.square(), flat = squared.eq(0);
        return where(flat, zeros_like(squared), where(flat, ones_like(squared), squared).sqrt());
    }
}

/// <summary>
/// Total-variation denoising (Rudin, Osher and Fatemi, 1992): argmin_u sum |grad u| + (w / 2) ||u - f||^2 for every signal or channel of a batch on its own.
/// The weight w multiplies the fidelity: a small weight smooths strongly, an infinite one returns f. For values on another scale, u = s v, the weight of v is s w.
/// Device and floating type follow the input. The mean of the output is that of the input.
/// </summary>
public sealed record TotalVariationDenoiser
{
    /// <summary>Solver. Default split Bregman.</summary>
    public TotalVariationSolver Solver { get; init; } = TotalVariationSolver.SplitBregman;

    /// <summary>Whether |grad u| is the Euclidean norm of the two differences rather than the sum of their absolute values. Default true.</summary>
    public bool Isotropic { get; init; } = true;

    /// <summary>Dimensions of the grid: the last 2 for images, the last 1 for signals. Default 2.</summary>
    public int Dimensions { get; init; } = 2;

    /// <summary>Most iterations, at least 1. Default 100.</summary>
    public int MaxIterations { get; init; } = 100;

    /// <summary>Iterations end when no signal of the batch changes by more than this, root mean square, in units of f; at least 0. Default 1e-5.</summary>
    public double Tolerance { get; init; } = 1e-5;

    /// <summary>Penalty of split Bregman that ties the differences to their split variables, above 0; when null, twice the weight.</summary>
    public double? Penalty { get; init; }

    /// <summary>Denoises a batch.</summary>
    /// <param name="f">Floating point [..., height, width], or [..., length] when <see cref="Dimensions"/> is 1.</param>
    /// <param name="weight">Weight w of the fidelity, above 0; positive infinity returns a copy of f.</param>
    /// <returns>The shape of f, detached.</returns>
    /// <exception cref="ArgumentException">The weight is not positive, an option is outside its range or f has too few dimensions.</exception>
    public Tensor Denoise(Tensor f, double weight)
    {
        TotalVariation.Check(f, Dimensions);
        if (!(weight > 0)) throw new ArgumentOutOfRangeException(nameof(weight), weight, "The weight of the fidelity must be above 0.");
        ArgumentOutOfRangeException.ThrowIfLessThan(MaxIterations, 1);
        if (!(Tolerance >= 0)) throw new ArgumentException($"The tolerance {Tolerance} must be at least 0.");
        if (Penalty is { } given && !(given > 0 && double.IsFinite(given))) throw new ArgumentException($"The penalty {given} must be above 0.");
        using var ungraphed = no_grad();
        if (double.IsInfinity(weight)) return f.detach().clone();
        using DisposeScope scope = NewDisposeScope();
        Tensor grid = Dimensions == 2 ? f.detach().reshape(-1, f.size(-2), f.size(-1)) : f.detach().reshape(-1, 1, f.size(-1));
        Tensor u = Solver == TotalVariationSolver.SplitBregman ? SplitBregman(grid, weight) : Chambolle(grid, weight);
        return u.reshape(f.shape).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// min |d| + w/2 |u - f|^2 + penalty/2 |d - Du - b|^2, in turn over u (a Poisson-like equation) and d (shrinkage), with b += Du - d.
    /// D^T D is diagonal in the cosine basis (DCT-II), where the equation is a division.
    /// </summary>
    private Tensor SplitBregman(Tensor f, double weight)
    {
        double penalty = Penalty ?? 2 * weight;
        long height = f.shape[1], width = f.shape[2];
        (Tensor rows, Tensor rowValues) = CosineBasis(height, f);
        (Tensor columns, Tensor columnValues) = CosineBasis(width, f);
        Tensor divisor = (rowValues.unsqueeze(1) + columnValues.unsqueeze(0)) * penalty + weight;
        Tensor rowsT = rows.t().contiguous(), columnsT = columns.t().contiguous();
        Tensor u = f.clone(), dx = zeros_like(f), dy = zeros_like(f), bx = zeros_like(f), by = zeros_like(f);
        for (int i = 0; i < MaxIterations; i++)
        {
            using DisposeScope temporaries = NewDisposeScope();
            Tensor right = f * weight;
            AddTransposed(right, dx.sub_(bx), dy.sub_(by), penalty);
            Tensor next = rowsT.matmul(rows.matmul(right).matmul(columnsT).div_(divisor).matmul(columns));
            Tensor change = (next - u).square().mean([1L, 2L]).max();
            u.copy_(next);
            // tx = Du + b; d = shrink(tx, 1 / penalty); b = tx - d. (b holds tx on the way.)
            AddDifferences(bx, by, u, 1);
            if (Isotropic)
            {
                Tensor shrink = (bx.square() + by.square()).sqrt_().clamp_min_(1e-30).reciprocal_().mul_(-1 / penalty).add_(1).clamp_min_(0);
                dx.copy_(bx).mul_(shrink);
                dy.copy_(by).mul_(shrink);
                bx.sub_(dx);
                by.sub_(dy);
            }
            else
            {
                foreach ((Tensor d, Tensor b) in new[] { (dx, bx), (dy, by) })
                {
                    d.copy_(b);
                    b.clamp_(-1 / penalty, 1 / penalty);
                    d.sub_(b);
                }
            }
            if (change.ToDouble() <= Tolerance * Tolerance) break;
        }
        return u;
    }

    /// <summary>
    /// The dual: u = f - D^T p / w with |p| at most 1, and p the minimiser of |f w - D^T p|^2; steps of 1/8, the bound of |D|^2, from an extrapolated point.
    /// </summary>
    private Tensor Chambolle(Tensor f, double weight)
    {
        Tensor u = f.clone(), px = zeros_like(f), py = zeros_like(f), rx = zeros_like(f), ry = zeros_like(f);
        double step = weight / (Dimensions == 2 ? 8 : 4), t = 1;
        for (int i = 0; i < MaxIterations; i++)
        {
            using DisposeScope temporaries = NewDisposeScope();
            Tensor next = f.clone();
            AddTransposed(next, rx, ry, -1 / weight);
            Tensor change = (next - u).square().mean([1L, 2L]).max();
            u.copy_(next);
            if (i > 0 && change.ToDouble() <= Tolerance * Tolerance) break;
            AddDifferences(rx, ry, u, step);
            if (Isotropic)
            {
                Tensor length = (rx.square() + ry.square()).sqrt_().clamp_min_(1);
                rx.div_(length);
                ry.div_(length);
            }
            else
            {
                rx.clamp_(-1, 1);
                ry.clamp_(-1, 1);
            }
            double following = (1 + Math.Sqrt(1 + 4 * t * t)) / 2, momentum = (t - 1) / following;
            t = following;
            // r = p_new + momentum (p_new - p_old)
            Tensor oldX = px.clone(), oldY = py.clone();
            px.copy_(rx);
            py.copy_(ry);
            rx.mul_(1 + momentum).add_(oldX, -momentum);
            ry.mul_(1 + momentum).add_(oldY, -momentum);
        }
        Tensor result = f.clone();
        AddTransposed(result, px, py, -1 / weight);
        return result;
    }

    /// <summary>target += factor * D^T (x, y). The last column of x and row of y are zero.</summary>
    private static void AddTransposed(Tensor target, Tensor x, Tensor y, double factor)
    {
        for (int axis = 1; axis <= 2; axis++)
        {
            Tensor d = axis == 1 ? y : x;
            long n = d.shape[axis] - 1;
            if (n == 0) continue;
            using Tensor inner = d.narrow(axis, 0, n), after = target.narrow(axis, 1, n), before = target.narrow(axis, 0, n);
            after.add_(inner, factor);
            before.add_(inner, -factor);
        }
    }

    /// <summary>(x, y) += factor * D u.</summary>
    private static void AddDifferences(Tensor x, Tensor y, Tensor u, double factor)
    {
        for (int axis = 1; axis <= 2; axis++)
        {
            long n = u.shape[axis] - 1;
            if (n == 0) continue;
            using Tensor inner = (axis == 1 ? y : x).narrow(axis, 0, n), after = u.narrow(axis, 1, n), before = u.narrow(axis, 0, n);
            inner.add_(after, factor).add_(before, -factor);
        }
    }

    /// <summary>The orthonormal DCT-II [n, n], frequencies in rows, and the eigenvalues 2 - 2 cos(pi k / n) of D^T D.</summary>
    private static (Tensor Basis, Tensor Values) CosineBasis(long n, Tensor like)
    {
        Tensor k = arange(n, float64), angle = (k.unsqueeze(1) * (k.unsqueeze(0) + 0.5)) * (Math.PI / n);
        Tensor basis = angle.cos() * Math.Sqrt(2.0 / n);
        basis[0] *= Math.Sqrt(0.5);
        return (basis.to(like.dtype).to(like.device), (2 - 2 * (k * (Math.PI / n)).cos()).to(like.dtype).to(like.device));
    }
}
