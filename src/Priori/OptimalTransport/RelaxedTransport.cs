using Priori.Numerics;

namespace Priori.OptimalTransport;

/// <summary>
/// The relaxed primal min over U(a, b) of &lt;T, C&gt; + gamma / 2 * sum_j ||t_j||^2 (k-support norm), whose dual is the sparsity-constrained one
/// (Liu, Puigcerver and Blondel, ICLR 2023, proposition 2), by the proximal method of multipliers (Rockafellar, 1976): each round adds
/// epsilon / 2 * ||T - T_previous||^2, which makes the dual smooth where top-k ties make it kinked, and solves that by L-BFGS.
/// </summary>
internal static class RelaxedTransport
{
    private const int Rounds = 100;
    private const double Shrink = 0.5, SmallestRatio = 1e-3; // of epsilon: a round's factor, and its least value over gamma

    /// <summary>Solves from given potentials and columns. Costs [..., n, m] (columns of C last), potentials [..., m + n], columns [..., n, m].</summary>
    internal static (Tensor Potentials, Tensor Columns, Tensor Settled) Solve(Tensor a, Tensor b, Tensor cost, SparsityConstrainedRegularizer regularizer,
        int k, double gamma, Tensor potentials, Tensor columns, double tolerance)
    {
        using var scope = torch.NewDisposeScope();
        long m = a.shape[^1], n = b.shape[^1];
        Tensor marginals = torch.cat([a, b], -1);
        double epsilon = gamma;
        Tensor settled = torch.zeros(a.shape[..^1], dtype: ScalarType.Bool, device: a.device);
        (Tensor bestPotentials, Tensor bestColumns) = (potentials, columns);
        for (int round = 0; round < Rounds && !settled.all().item<bool>(); round++)
        {
            using var step = torch.NewDisposeScope();
            Tensor center = columns * epsilon - cost;
            (Tensor Value, Tensor Columns) Smoothed(Tensor x) => SmoothedConjugate(center + x.narrow(-1, 0, m).unsqueeze(-2) + x.narrow(-1, m, n).unsqueeze(-1), k, gamma, epsilon);
            LbfgsResult inner = Lbfgs.Minimize(x =>
            {
                using var evaluation = torch.NewDisposeScope();
                (Tensor value, Tensor maximiser) = Smoothed(x);
                Tensor gradient = torch.cat([maximiser.sum(-2), maximiser.sum(-1)], -1) - marginals;
                return ((value.sum(-1) - (x * marginals).sum(-1)).MoveToOuterDisposeScope(), gradient.MoveToOuterDisposeScope());
            }, potentials, new() { Tolerance = tolerance, MaxIterations = 300 });
            potentials = inner.X.MoveToOuterDisposeScope();
            columns = Smoothed(potentials).Columns.MoveToOuterDisposeScope();

            Tensor alpha = potentials.narrow(-1, 0, m);
            Tensor dual = (alpha * a).sum(-1) - regularizer.MassConjugate(alpha.unsqueeze(-2) - cost, b).Value.sum(-1);
            Tensor primal = (columns * cost).sum([-2, -1]) + regularizer.RelaxedPenalty(columns).sum(-1);
            Tensor error = inner.Gradient.abs().amax([-1]);
            Tensor done = error.le(10 * tolerance).logical_and((primal - dual).abs().le(10 * tolerance * (1 + dual.abs())));
            Tensor changing = settled.logical_not();
            bestPotentials = torch.where(changing.unsqueeze(-1), potentials, bestPotentials).MoveToOuterDisposeScope();
            bestColumns = torch.where(changing.unsqueeze(-1).unsqueeze(-1), columns, bestColumns).MoveToOuterDisposeScope();
            settled = settled.logical_or(done).MoveToOuterDisposeScope();
            epsilon = Math.Max(epsilon * Shrink, SmallestRatio * gamma);
        }
        return (bestPotentials.MoveToOuterDisposeScope(), bestColumns.MoveToOuterDisposeScope(), settled.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// max over t >= 0 of &lt;s, t&gt; - gamma / 2 * ||t||^2 (k-support) - epsilon / 2 * ||t||^2. With ||t||^2 = min over 0 &lt; eta &lt;= 1, sum eta &lt;= k of
    /// sum t^2 / eta the maximiser is t = eta s / (gamma + epsilon eta), eta = clamp((w s - gamma) / epsilon, 0, 1) where w makes sum eta = k.
    /// </summary>
    private static (Tensor Value, Tensor Columns) SmoothedConjugate(Tensor scores, int k, double gamma, double epsilon)
    {
        Tensor s = scores.clamp_min(0);
        // sum eta is piecewise linear in w; entry i adds the slope s_i / epsilon between w = gamma / s_i and (gamma + epsilon) / s_i.
        Tensor positive = torch.maximum(s, s.amax([-1], keepdim: true) * 1e-10).clamp_min(1e-100);
        (Tensor knots, Tensor order) = torch.cat([gamma / positive, (gamma + epsilon) / positive], -1).sort(-1);
        Tensor slopes = (torch.cat([positive, -positive], -1) / epsilon).gather(-1, order).cumsum(-1);
        long last = knots.shape[^1] - 1;
        Tensor sums = (slopes.narrow(-1, 0, last) * (knots.narrow(-1, 1, last) - knots.narrow(-1, 0, last))).cumsum(-1); // at knots 1, 2, ...
        Tensor segment = sums.lt(k).sum(-1, keepdim: true).clamp_max(last - 1);                                      // sum eta = k lies right of this knot
        Tensor before = torch.where(segment.gt(0), sums.gather(-1, (segment - 1).clamp_min(0)), 0);
        Tensor w = knots.gather(-1, segment) + (k - before) / slopes.gather(-1, segment);
        Tensor eta = ((w * s - gamma) / epsilon).clamp(0, 1);
        Tensor columns = eta * s / (gamma + epsilon * eta);
        return ((columns * s).sum(-1) / 2, columns);
    }
}
