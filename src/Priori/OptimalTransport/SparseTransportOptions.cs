namespace Priori.OptimalTransport;

/// <summary>What is added to the cost &lt;T, C&gt; of a transport plan, column by column.</summary>
public enum OtRegularization
{
    /// <summary>Nothing: the transportation linear program.</summary>
    None,

    /// <summary>gamma * sum t log t: dense plans.</summary>
    Entropic,

    /// <summary>gamma / 2 * ||t||^2: plans whose sparsity depends on gamma.</summary>
    Quadratic,

    /// <summary>gamma / 2 * ||t||^2 and at most <see cref="OtOptions.MaxNonZeros"/> non-zeros in each column.</summary>
    SparsityConstrained,
}

/// <summary>Which concave problem is maximised; both have the same value.</summary>
public enum OtForm
{
    /// <summary>Over alpha and beta: cheaper per iteration, all marginals approximate until converged.</summary>
    Dual,

    /// <summary>Over alpha, beta eliminated: column sums are exact at every iteration.</summary>
    SemiDual,
}

/// <summary>Settings of <see cref="OptimalTransport.Solve"/>.</summary>
/// <param name="Reg">The regularisation.</param>
/// <param name="Gamma">Its strength, positive, in units of cost (entropic) or cost over mass (quadratic). Default 1.</param>
/// <param name="MaxNonZeros">k: non-zeros in each column (or row, see <see cref="PerRow"/>) at most; required for <see cref="OtRegularization.SparsityConstrained"/>, more than there are rows means that many.</param>
/// <param name="Form">Default: the semi-dual.</param>
/// <param name="MaxIter">L-BFGS iterations at most. Default 500.</param>
/// <param name="Tolerance">Largest accepted entry of the dual's gradient, that is error of a marginal. Default 1e-9.</param>
public sealed record OtOptions(OtRegularization Reg, double Gamma = 1.0, int? MaxNonZeros = null, OtForm Form = OtForm.SemiDual, int MaxIter = 500, double Tolerance = 1e-9)
{
    /// <summary>Regularises rows instead of columns: at most k non-zeros in each row. Default false.</summary>
    public bool PerRow { get; init; }

    /// <summary>Whether a sparsity-constrained problem that L-BFGS cannot finish (its optimum lies on ties) is polished. Default true.</summary>
    public bool Polish { get; init; } = true;

    /// <summary>
    /// Whether a problem is solved although no plan with so few non-zeros can reach every row: dual value, potentials and relaxed plan are then still right,
    /// the sparse plan cannot meet the row masses. Default false: such a problem is refused.
    /// </summary>
    public bool Relax { get; init; }

    /// <summary>Whether the plan is rounded to exact marginals at the end, which may break its sparsity. Default false.</summary>
    public bool Round { get; init; }
}

/// <summary>A solved problem; [...] is its batch shape (empty for one problem). Values have the type and device of the cost.</summary>
/// <param name="Plan">
/// T, [..., m, n]: the maximiser of the dual at the potentials. With the sparsity constraint each column (row, if per row) has at most k non-zeros. It is
/// optimal for the non-convex problem when its marginal errors are 0; with ties it may violate the marginals that were not eliminated.
/// </param>
/// <param name="RelaxedPlan">The optimum of the relaxed (k-support) primal, [..., m, n]: feasible; denser than k where there are ties, else equal to <paramref name="Plan"/>.</param>
/// <param name="Alpha">Potentials of the rows [..., m].</param>
/// <param name="Beta">Potentials of the columns [..., n].</param>
/// <param name="DualValue">D, [...].</param>
/// <param name="PrimalValue">&lt;T, C&gt; plus the regularisation of the columns of <paramref name="Plan"/>, [...].</param>
/// <param name="RelaxedValue">The relaxed primal's value at <paramref name="RelaxedPlan"/>, [...]; equals <paramref name="DualValue"/> when converged.</param>
/// <param name="RowMarginalError">Largest error of a row sum of <paramref name="Plan"/>, [...].</param>
/// <param name="ColMarginalError">Largest error of a column sum of <paramref name="Plan"/>, [...].</param>
/// <param name="Iterations">L-BFGS (or simplex) iterations, int64 [...].</param>
/// <param name="Converged">Whether the marginals or, after polishing, the relaxed plan and its gap are within the tolerance, bool [...].</param>
/// <param name="HasTies">Whether in some column the k-th and (k+1)-th score are equal and used: there the plan is not unique, bool [...].</param>
/// <param name="Trace">The dual value before the first and after each L-BFGS iteration, [1 + iterations, ...].</param>
public sealed record OtResult(Tensor Plan, Tensor RelaxedPlan, Tensor Alpha, Tensor Beta, Tensor DualValue, Tensor PrimalValue, Tensor RelaxedValue,
    Tensor RowMarginalError, Tensor ColMarginalError, Tensor Iterations, Tensor Converged, Tensor HasTies, Tensor Trace)
{
    /// <summary><see cref="PrimalValue"/> minus <see cref="DualValue"/>, [...]: 0 for an optimal plan, negative only for plans that violate a marginal.</summary>
    public Tensor DualityGap => PrimalValue - DualValue;

    /// <summary>Non-zeros of each column of <see cref="Plan"/>, int64 [..., n].</summary>
    public Tensor NonZeros => Plan.ne(0).sum(-2);
}

/// <summary>No plan meets the constraints: with at most k non-zeros a column, n columns cannot reach every row.</summary>
/// <param name="message">What was asked for and what would be feasible.</param>
public sealed class InfeasibleTransportException(string message) : ArgumentException(message);
