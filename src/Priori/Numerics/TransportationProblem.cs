using Google.OrTools.LinearSolver;

namespace Priori.Numerics;

/// <summary>The transportation linear program (Hitchcock, 1941), solved exactly by the simplex method of OR-Tools (GLOP).</summary>
public static class TransportationProblem
{
    /// <summary>The plan of minimal cost among T >= 0 with row sums a and column sums b, and the dual potentials that prove it.</summary>
    /// <param name="a">Row masses [m].</param>
    /// <param name="b">Column masses [n], with the same sum.</param>
    /// <param name="cost">[m, n], finite.</param>
    /// <returns>The plan [m, n]; potentials [m] and [n] with alpha_i + beta_j at most C_ij; the value; simplex iterations.</returns>
    /// <exception cref="ArgumentException">The shapes do not fit or the sums differ.</exception>
    /// <exception cref="InvalidOperationException">The solver found no optimum (numerically inconsistent masses or costs).</exception>
    public static (double[,] Plan, double[] Alpha, double[] Beta, double Value, long Iterations) Solve(IReadOnlyList<double> a, IReadOnlyList<double> b, double[,] cost)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        ArgumentNullException.ThrowIfNull(cost);
        int m = a.Count, n = b.Count;
        if (cost.GetLength(0) != m || cost.GetLength(1) != n)
            throw new ArgumentException($"Masses [{m}] and [{n}] do not fit a cost matrix [{cost.GetLength(0)}, {cost.GetLength(1)}].", nameof(cost));
        double total = a.Sum(), ratio = total / b.Sum();
        if (Math.Abs(ratio - 1) > 1e-6) throw new ArgumentException($"The row masses sum to {total}, the column masses to {b.Sum()}.", nameof(b));

        using Solver solver = Solver.CreateSolver("GLOP");
        Constraint[] rows = [.. a.Select(mass => solver.MakeConstraint(mass, mass))];
        Constraint[] columns = [.. b.Select(mass => solver.MakeConstraint(mass * ratio, mass * ratio))];
        using Objective objective = solver.Objective();
        var variables = new Variable[m, n];
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++)
            {
                Variable variable = variables[i, j] = solver.MakeNumVar(0, double.PositiveInfinity, "");
                rows[i].SetCoefficient(variable, 1);
                columns[j].SetCoefficient(variable, 1);
                objective.SetCoefficient(variable, cost[i, j]);
            }
        objective.SetMinimization();
        Solver.ResultStatus status = solver.Solve();
        if (status != Solver.ResultStatus.OPTIMAL) throw new InvalidOperationException($"The transportation problem [{m}, {n}] has no optimum: the solver says {status}.");
        var plan = new double[m, n];
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++)
                plan[i, j] = Math.Max(variables[i, j].SolutionValue(), 0);
        return (plan, [.. rows.Select(row => row.DualValue())], [.. columns.Select(column => column.DualValue())], objective.Value(), solver.Iterations());
    }
}
