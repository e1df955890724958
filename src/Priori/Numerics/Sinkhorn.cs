namespace Priori.Numerics;

/// <summary>Entropic optimal transport by Sinkhorn's algorithm, and the rounding of nearly feasible plans.</summary>
public static class Sinkhorn
{
    /// <summary>
    /// The plan of minimal &lt;T, C&gt; + gamma * sum T log T with row sums a and column sums b (Cuturi, NeurIPS 2013), iterated on
    /// the potentials in the log domain, so that small gamma does not underflow.
    /// </summary>
    /// <param name="a">Row masses [..., m], positive.</param>
    /// <param name="b">Column masses [..., n], positive, with the same sum.</param>
    /// <param name="cost">[..., m, n].</param>
    /// <param name="gamma">Strength of the entropy, positive; in units of the cost.</param>
    /// <param name="iterations">Pairs of row and column updates at most. Default 1000.</param>
    /// <param name="tolerance">Stops when no row sum is off by more; 0 runs all iterations and never waits for the device. Default 1e-9.</param>
    /// <returns>The plan [..., m, n]: column sums exact, row sums as converged. Differentiable through all iterations.</returns>
    /// <exception cref="ArgumentOutOfRangeException">gamma is not positive or there is no iteration.</exception>
    public static Tensor Plan(Tensor a, Tensor b, Tensor cost, double gamma, int iterations = 1000, double tolerance = 1e-9)
    {
        if (!(gamma > 0)) throw new ArgumentOutOfRangeException(nameof(gamma), gamma, "The entropy's strength must be positive.");
        ArgumentOutOfRangeException.ThrowIfLessThan(iterations, 1);
        using var scope = torch.NewDisposeScope();
        Tensor kernel = cost / -gamma, logA = a.log(), logB = b.log();
        Tensor columns = torch.zeros_like(logB), rows = logA;
        for (int i = 0; i < iterations; i++)
        {
            Tensor update = logA - (kernel + columns.unsqueeze(-2)).logsumexp(-1);
            // The row update measures the error of the row sums that the last column update left.
            bool exact = i > 0 && tolerance > 0 && (a * (rows - update).expm1()).abs().max().item<double>() <= tolerance;
            if (exact) break;
            rows = update;
            columns = logB - (kernel + rows.unsqueeze(-1)).logsumexp(-2);
        }
        return (kernel + rows.unsqueeze(-1) + columns.unsqueeze(-2)).exp().MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Rounds a plan to exact marginals (Altschuler, Weed and Rigollet, NeurIPS 2017, algorithm 2): rows, then columns that hold too
    /// much are scaled down, and the missing mass is spread by a rank-one matrix. Sparse plans become denser.
    /// </summary>
    /// <param name="plan">Non-negative [..., m, n].</param>
    /// <param name="a">Row masses [..., m].</param>
    /// <param name="b">Column masses [..., n], with the same sum.</param>
    /// <returns>A plan with row sums a and column sums b.</returns>
    public static Tensor Round(Tensor plan, Tensor a, Tensor b)
    {
        using var scope = torch.NewDisposeScope();
        Tensor rounded = plan * (a / plan.sum(-1)).clamp_max(1).nan_to_num(1).unsqueeze(-1);
        rounded = rounded * (b / rounded.sum(-2)).clamp_max(1).nan_to_num(1).unsqueeze(-2);
        Tensor missingRows = (a - rounded.sum(-1)).clamp_min(0), missingColumns = (b - rounded.sum(-2)).clamp_min(0);
        Tensor total = missingRows.sum(-1, keepdim: true);
        total = torch.where(total.gt(0), total, 1);
        return (rounded + missingRows.unsqueeze(-1) * (missingColumns / total).unsqueeze(-2)).MoveToOuterDisposeScope();
    }
}
