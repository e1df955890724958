using Priori.Numerics;

namespace Priori.Continual;

/// <summary>
/// How much each source task matters for a target task (Wang, Chen, Jamieson, Du, ICML 2023). Task m has the parameters w_m, a column of W [k, M] over a shared representation,
/// and any nu with W nu = w of the target transfers: the target is that combination of the sources. Estimating source m from N_m labels has a variance proportional to 1 / N_m,
/// so nu costs <see cref="Variance"/> = sum nu_m^2 / N_m; at the best split of N labels that is |nu|_1^2 / N. Hence the relevance of smallest 1-norm.
/// All methods work in double precision on the CPU and are invariant to an orthogonal change of the representation's coordinates. The columns of W must keep their scale:
/// a source with a strong signal is cheaper because its nu is smaller.
/// </summary>
public static class Relevance
{
    /// <summary>nu^1 = argmin |nu|_1 subject to W nu = w, exact (a linear program); at most rank(W) entries are not zero.</summary>
    /// <param name="heads">W [k, M].</param>
    /// <param name="target">w [k].</param>
    /// <param name="prices">Price of a label of each source, above 0; minimises sum sqrt(price) |nu|, which is best for a budget of money. All equal when null.</param>
    /// <returns>nu, float64 [M].</returns>
    /// <exception cref="ArgumentException">The shapes do not fit, an entry is not finite, or a price is not above 0.</exception>
    /// <exception cref="InvalidOperationException">No combination of the sources gives the target; the message names the residual.</exception>
    public static Tensor BasisPursuit(Tensor heads, Tensor target, IReadOnlyList<double>? prices = null)
        => Weighted(heads, target, prices, (w, t) => Numerics.BasisPursuit.Solve(w, t));

    /// <summary>nu^2 = argmin |nu|_2 subject to W nu = w, or as near to w as can be: pinv(W) w, the dense relevance of Chen, Du, Jamieson (ICML 2022).</summary>
    /// <param name="heads">W [k, M].</param>
    /// <param name="target">w [k].</param>
    /// <returns>nu, float64 [M].</returns>
    /// <exception cref="ArgumentException">The shapes do not fit or an entry is not finite.</exception>
    public static Tensor MinNorm(Tensor heads, Tensor target)
        => Weighted(heads, target, null, (w, t) => linalg.pinv(w).mv(t));

    /// <summary>argmin 1/2 |W nu - w|^2 + lambda |nu|_1: the sparse relevance when W and w are estimates.</summary>
    /// <param name="heads">W [k, M].</param>
    /// <param name="target">w [k].</param>
    /// <param name="lambda">Penalty, at least 0; 0.05 times <see cref="LargestPenalty"/> is a fair start.</param>
    /// <param name="prices">As in <see cref="BasisPursuit"/>: the penalty becomes lambda sum sqrt(price) |nu|.</param>
    /// <returns>nu, float64 [M].</returns>
    /// <exception cref="ArgumentException">The shapes do not fit, an entry is not finite, lambda is negative, or a price is not above 0.</exception>
    public static Tensor Lasso(Tensor heads, Tensor target, double lambda, IReadOnlyList<double>? prices = null)
        => Weighted(heads, target, prices, (w, t) => tensor(LassoCoordinateDescent.Solve(w, t, lambda).Coefficients));

    /// <summary>The smallest penalty at which <see cref="Lasso"/> is 0: max_m |w_m . w| / sqrt(price).</summary>
    /// <param name="heads">W [k, M].</param>
    /// <param name="target">w [k].</param>
    /// <param name="prices">As in <see cref="Lasso"/>.</param>
    public static double LargestPenalty(Tensor heads, Tensor target, IReadOnlyList<double>? prices = null)
    {
        using Tensor correlation = Weighted(heads, target, null, (w, t) => w.t().mv(t).abs());
        double[] values = [.. correlation.data<double>()];
        return values.Select((value, m) => value / Math.Sqrt(prices?[m] ?? 1)).Max();
    }

    /// <summary>
    /// Chooses the penalty of <see cref="Lasso"/> by cross-validation over the target's rows, as a share of <see cref="LargestPenalty"/>: each fold's target head is fitted to the other rows,
    /// and W nu has to predict the fold. Sensible from about ten rows a dimension on.
    /// </summary>
    /// <param name="heads">W [k, M].</param>
    /// <param name="features">Representation of the target's inputs [n, k].</param>
    /// <param name="labels">The target's labels [n].</param>
    /// <param name="ratios">Shares to choose from; null: 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5.</param>
    /// <param name="folds">Folds, at least 2; row i is in fold i mod folds.</param>
    /// <param name="ridge">Ridge of the folds' heads.</param>
    /// <param name="intercept">Whether the heads have an intercept.</param>
    /// <returns>The share with the smallest squared error on the folds.</returns>
    public static double CrossValidate(Tensor heads, Tensor features, Tensor labels, IReadOnlyList<double>? ratios = null, int folds = 5, double ridge = 0, bool intercept = false)
    {
        ArgumentNullException.ThrowIfNull(heads);
        ArgumentNullException.ThrowIfNull(features);
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentOutOfRangeException.ThrowIfLessThan(folds, 2);
        ratios ??= [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        (Tensor w, Tensor z, Tensor y) = (heads.to(float64).cpu(), features.to(float64).cpu(), labels.to(float64).cpu());
        double[] errors = new double[ratios.Count];
        Tensor fold = arange(z.shape[0]).remainder(folds);
        for (int f = 0; f < folds; f++)
        {
            Tensor inside = fold.eq(f).nonzero().squeeze(1), outside = fold.ne(f).nonzero().squeeze(1);
            using TorchSharp.Modules.Linear head = TargetHead.Fit(z.index_select(0, outside), y.index_select(0, outside), ridge, intercept);
            Tensor target = head.weight.detach().squeeze(0);
            double largest = LargestPenalty(w, target);
            for (int i = 0; i < ratios.Count; i++)
            {
                Tensor predicted = z.index_select(0, inside).mv(w.mv(Lasso(w, target, ratios[i] * largest)));
                if (intercept) predicted = predicted + head.bias!;
                errors[i] += (predicted - y.index_select(0, inside)).square().sum().item<double>();
            }
        }
        return ratios[Array.IndexOf(errors, errors.Min())];
    }

    /// <summary>
    /// The relevance when every source in use costs a fee besides its labels, so that few sources win: among the supports on the path of the lasso and that of basis pursuit, each refitted by least squares,
    /// the one with the smallest |W nu - w|^2 + noise (sum sqrt(price) |nu|)^2 / (budget - fee * sources in use), bias plus the variance that the rest of the budget leaves.
    /// </summary>
    /// <param name="heads">W [k, M].</param>
    /// <param name="target">w [k].</param>
    /// <param name="openingFee">Fee of a source in use, at least 0.</param>
    /// <param name="budget">Money, above the fee.</param>
    /// <param name="noise">Variance of an estimated parameter from one label (label noise times the number of inputs), at least 0; 0 insists on W nu = w as far as it can be had.</param>
    /// <param name="prices">Price of a label of each source; all 1 when null.</param>
    /// <returns>nu, float64 [M].</returns>
    /// <exception cref="ArgumentException">The shapes do not fit, or no source can be paid for.</exception>
    public static Tensor WithOpeningFee(Tensor heads, Tensor target, double openingFee, double budget, double noise, IReadOnlyList<double>? prices = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(openingFee);
        ArgumentOutOfRangeException.ThrowIfNegative(noise);
        if (!(budget > openingFee)) throw new ArgumentException(FormattableString.Invariant($"A budget of {budget} pays for no source at an opening fee of {openingFee}."), nameof(budget));
        return Weighted(heads, target, prices, (w, t) =>
        {
            double largest = LassoCoordinateDescent.LargestPenalty(w, t);
            if (largest == 0) return zeros_like(w[0]);
            const int Penalties = 40;
            List<Tensor> candidates = [.. LassoCoordinateDescent.Path(w, t, [.. Enumerable.Range(1, Penalties).Select(i => largest * Math.Pow(1e-4, (double)i / Penalties))]).Select(s => tensor(s.Coefficients))];
            try
            {
                candidates.Add(Numerics.BasisPursuit.Solve(w, t));
            }
            catch (InvalidOperationException) // infeasible: the path alone
            {
            }
            double best = double.PositiveInfinity;
            Tensor chosen = zeros_like(w[0]);
            foreach (Tensor support in candidates.Select(nu => nu.nonzero().squeeze(1)).DistinctBy(s => string.Join(',', s.data<long>())))
            {
                double left = budget - (openingFee * support.shape[0]);
                if (support.shape[0] == 0 || left <= 0) continue;
                Tensor columns = w.index_select(1, support), nu = linalg.pinv(columns).mv(t);
                double size = nu.abs().sum().item<double>(), value = (columns.mv(nu) - t).square().sum().item<double>() + (noise * size * size / left);
                if (value >= best - (1e-12 * t.square().sum().item<double>())) continue; // of equals the sparser, which comes first on the path
                (best, chosen) = (value, zeros_like(w[0]).index_copy(0, support, nu));
            }
            return chosen;
        });
    }

    /// <summary>V(nu, N) = the sum of nu_m^2 / N_m over the sources with nu_m not 0; infinite where one of them has no labels. The variance of the transferred target, up to a factor.</summary>
    /// <param name="relevance">nu [M].</param>
    /// <param name="counts">Labels N of each source [M].</param>
    public static double Variance(Tensor relevance, IReadOnlyList<double> counts)
    {
        ArgumentNullException.ThrowIfNull(counts);
        double[] nu = Values(relevance);
        if (nu.Length != counts.Count) throw new ArgumentException($"There are {counts.Count} counts for {nu.Length} sources.", nameof(counts));
        return nu.Select((value, m) => value == 0 ? 0 : value * value / counts[m]).Sum();
    }

    internal static double[] Values(Tensor vector)
    {
        ArgumentNullException.ThrowIfNull(vector);
        if (vector.dim() != 1) throw new ArgumentException($"A vector was expected, not [{string.Join(", ", vector.shape)}].", nameof(vector));
        using DisposeScope scope = NewDisposeScope();
        return vector.detach().to(float64).cpu().contiguous().data<double>().ToArray();
    }

    // With nu' = sqrt(price) nu the weighted 1-norm is a plain one over the columns w_m / sqrt(price).
    private static Tensor Weighted(Tensor heads, Tensor target, IReadOnlyList<double>? prices, Func<Tensor, Tensor, Tensor> solve)
    {
        ArgumentNullException.ThrowIfNull(heads);
        ArgumentNullException.ThrowIfNull(target);
        if (heads.dim() != 2 || target.dim() != 1 || heads.shape[0] != target.shape[0])
            throw new ArgumentException($"W must be [k, M] and w [k], not [{string.Join(", ", heads.shape)}] and [{string.Join(", ", target.shape)}].", nameof(target));
        if (prices is not null && (prices.Count != heads.shape[1] || prices.Any(p => !(p > 0) || double.IsInfinity(p))))
            throw new ArgumentException($"Each of the {heads.shape[1]} sources needs a price above 0.", nameof(prices));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor w = heads.detach().to(float64).cpu(), t = target.detach().to(float64).cpu();
        if (!w.isfinite().all().item<bool>() || !t.isfinite().all().item<bool>()) throw new ArgumentException("W and w must be finite.", nameof(heads));
        if (prices is null) return solve(w, t).MoveToOuterDisposeScope();
        Tensor root = tensor(prices.ToArray()).sqrt();
        return (solve(w / root, t) / root).MoveToOuterDisposeScope();
    }
}
