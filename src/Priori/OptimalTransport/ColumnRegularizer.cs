using Priori.Numerics;

namespace Priori.OptimalTransport;

/// <summary>
/// The regularisation of one column of a plan and its two conjugates (Liu, Puigcerver and Blondel, ICLR 2023, section 3): everything that the dual and the
/// semi-dual need to know about it. Columns are vectors along the last dimension; all functions are batched and differentiable.
/// </summary>
public abstract class ColumnRegularizer
{
    /// <summary>phi(s) = max over t >= 0 of &lt;s, t&gt; - O(t), for scores [..., n, m].</summary>
    public abstract ColumnSolution Conjugate(Tensor scores);

    /// <summary>psi(s) = max over t >= 0 with sum t = b of &lt;s, t&gt; - O(t), for scores [..., n, m] and masses [..., n].</summary>
    public abstract ColumnSolution MassConjugate(Tensor scores, Tensor mass);

    /// <summary>O(t) of columns [..., n, m], [..., n].</summary>
    public abstract Tensor Penalty(Tensor columns);

    /// <summary>The largest convex function below O, [..., n]; O itself where that is convex.</summary>
    public virtual Tensor RelaxedPenalty(Tensor columns) => Penalty(columns);
}

/// <summary>The value of a conjugate and the column that attains it, which is its gradient.</summary>
/// <param name="Value">[..., n].</param>
/// <param name="Entries">The column's entries at <paramref name="Indices"/>, [..., n, k]; or all, [..., n, m].</param>
/// <param name="Indices">Where they are, int64 [..., n, k]; null if all are given. The others are 0.</param>
/// <param name="Beta">The multiplier of the column's mass, [..., n]; 0 for the conjugate without mass.</param>
public sealed record ColumnSolution(Tensor Value, Tensor Entries, Tensor? Indices, Tensor Beta)
{
    /// <summary>The columns [..., n, m].</summary>
    public Tensor Columns(long rows)
        => Indices is null ? Entries : Scatter([.. Entries.shape[..^1], rows], Indices, Entries);

    /// <summary>Sums over the columns, [..., m].</summary>
    public Tensor RowSums(long rows)
        => Indices is null ? Entries.sum(-2) : Scatter([.. Entries.shape[..^2], rows], Indices.flatten(-2), Entries.flatten(-2));

    private static Tensor Scatter(long[] shape, Tensor indices, Tensor values)
        => torch.zeros(shape, dtype: values.dtype, device: values.device).scatter_add(-1, indices, values);
}

/// <summary>
/// O(t) = gamma / 2 * ||t||^2 on vectors with at most k non-zeros, infinite elsewhere (section 4); k = m is the quadratic regularisation of
/// Blondel, Seguy and Rolet (AISTATS 2018).
/// </summary>
/// <param name="k">Non-zeros at most, at least 1.</param>
/// <param name="gamma">Strength, positive.</param>
public sealed class SparsityConstrainedRegularizer(int k, double gamma) : ColumnRegularizer
{
    /// <inheritdoc/>
    public override ColumnSolution Conjugate(Tensor scores)
    {
        (Tensor top, Tensor indices) = Top(scores);
        Tensor entries = top.clamp_min(0) / gamma;
        return new(entries.square().sum(-1) * (gamma / 2), entries, indices, torch.zeros_like(top.select(-1, 0)));
    }

    /// <inheritdoc/>
    public override ColumnSolution MassConjugate(Tensor scores, Tensor mass)
    {
        (Tensor top, Tensor indices) = Top(scores);
        Tensor largest = top.narrow(-1, 0, 1);
        Tensor shifted = (top - largest) / gamma;
        Tensor ranks = torch.arange(1, top.shape[^1] + 1, dtype: top.dtype, device: top.device);
        // The threshold is the largest of (u_1 + ... + u_r - b) / r: these rise up to r = rho and fall after it.
        Tensor threshold = ((shifted.cumsum(-1) - mass.unsqueeze(-1)) / ranks).amax([-1], keepdim: true);
        Tensor entries = (shifted - threshold).clamp_min(0);
        return new((entries * (top - entries * (gamma / 2))).sum(-1), entries, indices, (threshold * -gamma - largest).squeeze(-1));
    }

    /// <inheritdoc/>
    public override Tensor Penalty(Tensor columns) => columns.square().sum(-1) * (gamma / 2);

    /// <summary>gamma / 2 times the squared k-support norm.</summary>
    public override Tensor RelaxedPenalty(Tensor columns) => Norms.KSupport(columns, k).square() * (gamma / 2);

    private (Tensor Top, Tensor Indices) Top(Tensor scores) => scores.topk((int)Math.Min(k, scores.shape[^1]), -1);
}

/// <summary>O(t) = gamma * sum t log t (Cuturi, NeurIPS 2013).</summary>
/// <param name="gamma">Strength, positive.</param>
public sealed class EntropicRegularizer(double gamma) : ColumnRegularizer
{
    /// <inheritdoc/>
    public override ColumnSolution Conjugate(Tensor scores)
    {
        Tensor entries = (scores / gamma - 1).exp();
        return new(entries.sum(-1) * gamma, entries, null, torch.zeros_like(scores.select(-1, 0)));
    }

    /// <inheritdoc/>
    public override ColumnSolution MassConjugate(Tensor scores, Tensor mass)
    {
        Tensor scaled = scores / gamma, sum = scaled.logsumexp(-1), entries = (scaled - sum.unsqueeze(-1)).exp() * mass.unsqueeze(-1);
        Tensor multiplier = mass.log() - sum;
        return new(mass * multiplier * -gamma, entries, null, (multiplier + 1) * gamma);
    }

    /// <inheritdoc/>
    public override Tensor Penalty(Tensor columns) => columns.xlogy(columns).sum(-1) * gamma;
}
