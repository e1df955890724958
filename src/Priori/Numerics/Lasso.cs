using System.Numerics;
using System.Runtime.InteropServices;

namespace Priori.Numerics;

/// <summary>How <see cref="Lasso"/> is solved.</summary>
public enum LassoSolver
{
    /// <summary>Cyclic coordinate descent on the Gram matrix, columns in parallel on the CPU.</summary>
    CoordinateDescent,

    /// <summary>Accelerated proximal gradient on all columns at once by matrix products, on the device of the Gram matrix.</summary>
    Fista,
}

/// <summary>A solution of <see cref="Lasso"/>, one column for each target.</summary>
/// <param name="Coefficients">W [p, q], float64; exact zeros outside the support.</param>
/// <param name="Penalty">lambda.</param>
/// <param name="Violation">Largest violation of the optimality conditions over all entries: |c - G w - lambda sign(w)| on the support, max(0, |c - G w| - lambda) outside. In the units of c.</param>
/// <param name="Iterations">Iterations of FISTA, or sweeps of the column that took most.</param>
/// <param name="Converged">Whether the violation reached its tolerance.</param>
public sealed record LassoFit(Tensor Coefficients, double Penalty, double Violation, int Iterations, bool Converged);

/// <summary>
/// The lasso for many targets from second moments alone: each column of W is argmin 1/2 w^T G w - c^T w + lambda |w|_1 with the Gram matrix G = X^T X and c = X^T y
/// (1/2 |y - X w|^2 + lambda |w|_1 without its constant; no factor 1/n). With correlations in place of G and C it is the lasso on standardised variables.
/// <see cref="LassoCoordinateDescent"/> is for few rows and one target.
/// </summary>
public static class Lasso
{
    private const int ActiveSweeps = 100; // over the support between two over all coordinates, at most
    private const int CheckEvery = 10;    // iterations of FISTA between two tests of optimality

    /// <summary>The second moments G = X^T X [p, p] and C = X^T Y [p, q], float64.</summary>
    /// <param name="x">X [n, p].</param>
    /// <param name="y">Y [n, q].</param>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static (Tensor Gram, Tensor Moments) SecondMoments(Tensor x, Tensor y)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(y);
        if (x.dim() != 2 || y.dim() != 2 || x.shape[0] != y.shape[0]) throw new ArgumentException($"X must be [n, p] and Y [n, q], not [{string.Join(", ", x.shape)}] and [{string.Join(", ", y.shape)}].", nameof(y));
        using DisposeScope scope = NewDisposeScope();
        Tensor wide = x.detach().to(float64), transposed = wide.t();
        return (transposed.matmul(wide).MoveToOuterDisposeScope(), transposed.matmul(y.detach().to(float64)).MoveToOuterDisposeScope());
    }

    /// <summary>The smallest lambda for which all coefficients are 0: max |c|.</summary>
    /// <param name="moments">C [p, q].</param>
    public static double LargestPenalty(Tensor moments)
    {
        ArgumentNullException.ThrowIfNull(moments);
        using DisposeScope scope = NewDisposeScope();
        return moments.abs().max().to(float64).item<double>();
    }

    /// <summary>Solves for one penalty.</summary>
    /// <param name="gram">G [p, p], symmetric and positive semidefinite; variables of norm 0 keep the coefficient 0.</param>
    /// <param name="moments">C [p, q].</param>
    /// <param name="lambda">Penalty, at least 0; 0 is least squares (of least norm where G is singular), solved directly.</param>
    /// <param name="solver">Default coordinate descent.</param>
    /// <param name="start">W [p, q] to begin from, such as that of a nearby penalty; zeros when null.</param>
    /// <param name="tolerance">Violation at exit, relative to the largest |c|. Default 1e-9.</param>
    /// <param name="maxIterations">Iterations (FISTA) or sweeps of a column (coordinate descent) at most.</param>
    /// <exception cref="ArgumentException">Shapes do not fit, an entry is not finite, or lambda is negative.</exception>
    public static LassoFit Solve(Tensor gram, Tensor moments, double lambda, LassoSolver solver = LassoSolver.CoordinateDescent, Tensor? start = null, double tolerance = 1e-9, int maxIterations = 100_000)
        => Path(gram, moments, [lambda], solver, start, tolerance, maxIterations)[0];

    /// <summary>Solves for several penalties, from the largest to the smallest, each beginning from the solution before it.</summary>
    /// <param name="gram">G [p, p].</param>
    /// <param name="moments">C [p, q].</param>
    /// <param name="lambdas">Penalties, in any order.</param>
    /// <param name="solver">Default coordinate descent.</param>
    /// <param name="start">W [p, q] to begin from; zeros when null.</param>
    /// <param name="tolerance">Violation at exit, relative to the largest |c|.</param>
    /// <param name="maxIterations">Iterations or sweeps at most, for each penalty.</param>
    /// <returns>The solutions in the order of <paramref name="lambdas"/>.</returns>
    /// <exception cref="ArgumentException">Shapes do not fit, an entry is not finite, or a lambda is negative.</exception>
    public static IReadOnlyList<LassoFit> Path(Tensor gram, Tensor moments, IReadOnlyList<double> lambdas, LassoSolver solver = LassoSolver.CoordinateDescent, Tensor? start = null, double tolerance = 1e-9, int maxIterations = 100_000)
    {
        ArgumentNullException.ThrowIfNull(gram);
        ArgumentNullException.ThrowIfNull(moments);
        ArgumentNullException.ThrowIfNull(lambdas);
        if (gram.dim() != 2 || gram.shape[0] != gram.shape[1] || moments.dim() != 2 || moments.shape[0] != gram.shape[0] || moments.numel() == 0)
            throw new ArgumentException($"G must be [p, p] and C [p, q], not [{string.Join(", ", gram.shape)}] and [{string.Join(", ", moments.shape)}].", nameof(moments));
        if (start is not null && !start.shape.AsSpan().SequenceEqual(moments.shape)) throw new ArgumentException($"The start must be [{string.Join(", ", moments.shape)}], not [{string.Join(", ", start.shape)}].", nameof(start));
        foreach (double lambda in lambdas)
            if (!(lambda >= 0) || double.IsInfinity(lambda)) throw new ArgumentOutOfRangeException(nameof(lambdas), lambda, "The penalty lambda must be at least 0.");
        ArgumentOutOfRangeException.ThrowIfNegative(tolerance);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxIterations, 1);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor g = gram.detach().to(float64), c = moments.detach().to(float64);
        if (!(g.isfinite().all() & c.isfinite().all()).item<bool>()) throw new ArgumentException("G and C must be finite.", nameof(gram));
        c = where(g.diagonal().unsqueeze(1) > 0, c, zeros_like(c));
        double enough = tolerance * LargestPenalty(c);
        double lipschitz = solver == LassoSolver.Fista ? LargestEigenvalue(g) : 0;
        Tensor w = start?.detach().to(float64) ?? zeros_like(c);
        var fits = new LassoFit[lambdas.Count];
        foreach (int i in Enumerable.Range(0, lambdas.Count).OrderByDescending(i => lambdas[i]))
        {
            double lambda = lambdas[i];
            (Tensor solution, int iterations) = lambda == 0 ? (LeastSquares(g, c), 1)
                : solver == LassoSolver.Fista ? Fista(g, c, lambda, w, lipschitz, enough, maxIterations) : Descend(g, c, lambda, w, enough, maxIterations);
            w = solution;
            double violation = Violation(w, c - g.matmul(w), lambda);
            fits[i] = new LassoFit(w.clone().MoveToOuterDisposeScope(), lambda, violation, iterations, lambda == 0 || violation <= enough);
        }
        return fits;
    }

    private static double Violation(Tensor w, Tensor gradient, double lambda)
    {
        using DisposeScope scope = NewDisposeScope();
        return where(w == 0, gradient.abs().sub_(lambda).clamp_min_(0), (gradient - lambda * w.sign()).abs_()).max().item<double>();
    }

    // By the Cholesky factor; by the pseudoinverse where G is singular.
    private static Tensor LeastSquares(Tensor g, Tensor c)
    {
        (Tensor factor, Tensor info) = linalg.cholesky_ex(g);
        if (info.item<int>() == 0)
        {
            Tensor pivots = factor.diagonal();
            if (pivots.min().item<double>() > 1e-6 * pivots.max().item<double>()) return c.cholesky_solve(factor);
        }
        (Tensor values, Tensor vectors) = linalg.eigh(g);
        Tensor kept = values > 1e-12 * values.max();
        return vectors.matmul(where(kept, values.reciprocal(), zeros_like(values)).unsqueeze(1) * vectors.t().matmul(c));
    }

    // Power iteration. A step that is up to a third too long still converges, so a few digits are enough.
    private static double LargestEigenvalue(Tensor g)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor v = ones([g.shape[0], 1], float64, device: g.device) + randn([g.shape[0], 1], float64, generator: new Generator(0)).to(g.device) * .1;
        double norm = 0;
        for (int i = 0; i < 100; i++)
        {
            v = g.matmul(v);
            double next = v.norm().item<double>();
            if (next == 0) break;
            v = v / next;
            if (Math.Abs(next - norm) <= 1e-4 * next)
            {
                norm = next;
                break;
            }
            norm = next;
        }
        return norm > 0 ? 1.05 * norm : 1;
    }

    // Beck and Teboulle, SIAM J. Imaging Sciences 2009, with the restart of each column whose momentum points uphill (O'Donoghue and Candes, 2015).
    private static (Tensor W, int Iterations) Fista(Tensor g, Tensor c, double lambda, Tensor start, double lipschitz, double enough, int maxIterations)
    {
        Tensor w = start.clone(), z = w, t = ones([1, c.shape[1]], float64, device: c.device);
        int iteration = 0;
        using DisposeScope outer = NewDisposeScope();
        while (iteration < maxIterations)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor step = (z + (c - g.matmul(z)) / lipschitz), next = step.sign() * (step.abs() - lambda / lipschitz).clamp_min_(0);
            Tensor move = next - w;
            Tensor restart = ((z - next) * move).sum(dim: 0, keepdim: true) > 0;
            Tensor old = where(restart, ones_like(t), t), grown = (1 + (1 + 4 * old.square()).sqrt_()) / 2;
            z = (next + where(restart, zeros_like(t), (old - 1) / grown) * move).MoveToOuterDisposeScope();
            (w, t) = (next.MoveToOuterDisposeScope(), grown.MoveToOuterDisposeScope());
            iteration++;
            if (iteration % CheckEvery == 0 && Violation(w, c - g.matmul(w), lambda) <= enough) break;
        }
        return (w.MoveToOuterDisposeScope(), iteration);
    }

    private static unsafe (Tensor W, int Iterations) Descend(Tensor g, Tensor c, double lambda, Tensor start, double enough, int maxIterations)
    {
        int p = (int)c.shape[0], q = (int)c.shape[1];
        using DisposeScope scope = NewDisposeScope();
        // One row for each target: its coefficients, and its gradient c - G w.
        Tensor rows = g.cpu().contiguous(), w = start.t().cpu().contiguous().clone(), gradient = (c - g.matmul(start)).t().cpu().contiguous().clone();
        double* matrix = TensorMemory.Pointer<double>(rows), coefficients = TensorMemory.Pointer<double>(w), gradients = TensorMemory.Pointer<double>(gradient);
        var sweeps = new int[q];
        Parallel.For(0, q, TensorMemory.Threads(20.0 * p * p * q), k =>
            sweeps[k] = Descend(matrix, p, new Span<double>(coefficients + ((long)k * p), p), new Span<double>(gradients + ((long)k * p), p), lambda, enough, maxIterations));
        Tensor result = w.t().contiguous().to(c.device);
        GC.KeepAlive(rows);
        GC.KeepAlive(gradient);
        return (result.MoveToOuterDisposeScope(), sweeps.Max());
    }

    private static unsafe int Descend(double* matrix, int p, Span<double> w, Span<double> gradient, double lambda, double enough, int maxSweeps)
    {
        var active = new List<int>();
        int sweeps = 0;
        while (sweeps < maxSweeps)
        {
            active.Clear();
            for (int j = 0; j < p; j++)
            {
                Update(matrix, p, j, w, gradient, lambda);
                if (w[j] != 0) active.Add(j);
            }
            sweeps++;
            double violation = 0;
            for (int j = 0; j < p; j++) violation = Math.Max(violation, w[j] == 0 ? Math.Abs(gradient[j]) - lambda : Math.Abs(gradient[j] - Math.CopySign(lambda, w[j])));
            if (violation <= enough / 2) break; // half, for the rounding that the gradient has gathered
            for (int i = 0; i < ActiveSweeps && sweeps < maxSweeps; i++, sweeps++)
            {
                double largest = 0;
                foreach (int j in active) largest = Math.Max(largest, Update(matrix, p, j, w, gradient, lambda));
                if (largest <= enough / 4) break;
            }
        }
        return sweeps;
    }

    // Minimises over one coefficient; returns the violation that it had.
    private static unsafe double Update(double* matrix, int p, int j, Span<double> w, Span<double> gradient, double lambda)
    {
        double square = matrix[((long)j * p) + j], old = w[j], slope = gradient[j];
        if (square <= 0 || (old == 0 && Math.Abs(slope) <= lambda)) return 0;
        double z = slope + (square * old), updated = Math.Abs(z) <= lambda ? 0 : (z - Math.CopySign(lambda, z)) / square, change = old - updated;
        if (change == 0) return 0;
        w[j] = updated;
        var row = new ReadOnlySpan<double>(matrix + ((long)j * p), p);
        Span<Vector<double>> target = MemoryMarshal.Cast<double, Vector<double>>(gradient);
        ReadOnlySpan<Vector<double>> source = MemoryMarshal.Cast<double, Vector<double>>(row);
        var factor = new Vector<double>(change);
        for (int i = 0; i < target.Length; i++) target[i] = Vector.FusedMultiplyAdd(source[i], factor, target[i]);
        for (int rest = target.Length * Vector<double>.Count; rest < p; rest++) gradient[rest] += row[rest] * change;
        return square * Math.Abs(change);
    }
}
