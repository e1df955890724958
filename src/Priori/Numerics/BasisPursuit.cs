using Google.OrTools.LinearSolver;

namespace Priori.Numerics;

/// <summary>
/// Basis pursuit (Chen, Donoho, Saunders, SIAM Review 2001): the solution of A x = b of smallest 1-norm, exact, as the linear program over x = p - q with p, q at least 0,
/// by the simplex method of OR-Tools (GLOP). A vertex has at most rank(A) entries that are not zero.
/// </summary>
public static class BasisPursuit
{
    /// <summary>argmin |x|_1 subject to A x = b.</summary>
    /// <param name="matrix">A [m, n], floating point, finite.</param>
    /// <param name="target">b [m].</param>
    /// <param name="tolerance">Largest |A x - b| relative to |b| of the nearest x at which the system still counts as solvable. Default 1e-8; loosen it for float32 inputs.</param>
    /// <returns>x, float64 [n] on the CPU.</returns>
    /// <exception cref="ArgumentException">The shapes do not fit or an entry is not finite.</exception>
    /// <exception cref="InvalidOperationException">No x solves A x = b; the message names the smallest residual.</exception>
    public static Tensor Solve(Tensor matrix, Tensor target, double tolerance = 1e-8)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        ArgumentNullException.ThrowIfNull(target);
        if (matrix.dim() != 2 || target.dim() != 1 || matrix.shape[0] != target.shape[0] || matrix.numel() == 0)
            throw new ArgumentException($"A must be [m, n] and b [m], not [{string.Join(", ", matrix.shape)}] and [{string.Join(", ", target.shape)}].", nameof(target));
        ArgumentOutOfRangeException.ThrowIfNegative(tolerance);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor a = matrix.to(float64).cpu(), b = target.to(float64).cpu();
        if (!a.isfinite().all().item<bool>() || !b.isfinite().all().item<bool>()) throw new ArgumentException("A and b must be finite.", nameof(matrix));
        long n = a.shape[1];
        double size = b.norm().item<double>();
        if (size == 0) return zeros(n, float64).MoveToOuterDisposeScope();

        // A x = b with A = U S V^T is V^T x = S^-1 U^T b and b in the span of U: no row depends on others, and the scale of A is gone.
        var (u, s, vt) = linalg.svd(a, fullMatrices: false);
        long rank = s.gt(s[0] * (Math.Max(a.shape[0], n) * 2.2e-16)).sum().item<long>(); // LAPACK's rule
        Tensor coordinates = u.narrow(1, 0, rank).t().mv(b);
        double residual = (b - u.narrow(1, 0, rank).mv(coordinates)).norm().item<double>();
        if (residual > tolerance * size)
            throw new InvalidOperationException(FormattableString.Invariant($"Basis pursuit is infeasible: A [{a.shape[0]}, {n}] has rank {rank}, and the nearest A x leaves a residual of {residual:G4} from b of norm {size:G4}."));
        Tensor rows = vt.narrow(0, 0, rank).contiguous(), right = coordinates / s.narrow(0, 0, rank);
        double scale = right.norm().item<double>();
        double[] x = Minimize(rows, right / scale);

        // Least squares on the support takes the simplex's tolerances (1e-6) out of the digits.
        double largest = x.Max(Math.Abs);
        long[] support = [.. Enumerable.Range(0, (int)n).Where(i => Math.Abs(x[i]) > 1e-7 * largest)];
        Tensor columns = tensor(support);
        Tensor exact = linalg.lstsq(rows.index_select(1, columns), (right / scale).unsqueeze(1)).Solution.squeeze(1) * scale;
        return zeros(n, float64).index_copy(0, columns, exact).MoveToOuterDisposeScope();
    }

    private static double[] Minimize(Tensor rows, Tensor right)
    {
        int m = (int)rows.shape[0], n = (int)rows.shape[1];
        double[] a = rows.data<double>().ToArray(), b = right.data<double>().ToArray();
        using Solver solver = Solver.CreateSolver("GLOP");
        Constraint[] constraints = [.. b.Select(value => solver.MakeConstraint(value, value))];
        using Objective objective = solver.Objective();
        Variable[] Part(int sign) => [.. Enumerable.Range(0, n).Select(j =>
        {
            Variable variable = solver.MakeNumVar(0, double.PositiveInfinity, "");
            for (int i = 0; i < m; i++) constraints[i].SetCoefficient(variable, sign * a[(i * n) + j]);
            objective.SetCoefficient(variable, 1);
            return variable;
        })];
        Variable[] positive = Part(1), negative = Part(-1);
        objective.SetMinimization();
        Solver.ResultStatus status = solver.Solve();
        if (status != Solver.ResultStatus.OPTIMAL) throw new InvalidOperationException($"Basis pursuit [{m}, {n}] has no optimum: the solver says {status}.");
        return [.. positive.Zip(negative, (p, q) => p.SolutionValue() - q.SolutionValue())];
    }
}
