using Priori.Numerics;

namespace Priori.Similarity;

/// <summary>A linear map from the units of one layer to those of another, for standardised activations: b = a W.</summary>
/// <param name="Lambda">Penalty lambda.</param>
/// <param name="W">[p, q], float64, exact zeros outside the support; zero rows and columns for dead units.</param>
/// <param name="Error">Squared error of each target unit relative to its variance, 1 - 2 w^T c + w^T G w [q]: 0 perfect, 1 as good as its mean; NaN of dead units.</param>
/// <param name="NonZeros">Source units that each target uses [q].</param>
/// <param name="Converged">Whether the solver reached its tolerance.</param>
public sealed record StitchMap(double Lambda, Tensor W, double[] Error, int[] NonZeros, bool Converged)
{
    /// <summary>Mean error of the target units that are not dead.</summary>
    public double MeanError => Error.Where(e => !double.IsNaN(e)).Average();

    /// <summary>Mean number of source units of the target units that are not dead.</summary>
    public double MeanNonZeros => NonZeros.Where((_, j) => !double.IsNaN(Error[j])).Average();

    /// <summary>Turns activations of the source layer into the units of the target layer: standardised, mapped, and put on the target's scale. A dead target unit gets its mean.</summary>
    /// <param name="activations">[n, p], any floating type.</param>
    /// <param name="source">Statistics of the source layer, p units.</param>
    /// <param name="target">Statistics of the target layer, q units.</param>
    /// <returns>[n, q] of the same type.</returns>
    /// <exception cref="ArgumentException">The activations are not [n, p].</exception>
    public Tensor Translate(Tensor activations, UnitStatistics source, UnitStatistics target)
    {
        ArgumentNullException.ThrowIfNull(activations);
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(target);
        if (activations.dim() != 2 || activations.shape[1] != W.shape[0]) throw new ArgumentException($"Activations must be [n, {W.shape[0]}], not [{string.Join(", ", activations.shape)}].", nameof(activations));
        using DisposeScope scope = NewDisposeScope();
        Tensor scale = where(source.Deviation > 0, source.Deviation.reciprocal(), zeros_like(source.Deviation));
        Tensor slope = scale.unsqueeze(1) * W * target.Deviation;
        return ((activations.to(float64) - source.Mean).matmul(slope) + target.Mean).to(activations.dtype).MoveToOuterDisposeScope();
    }
}

/// <summary>How a unit of the target layer is present in the source layer (section 3.2).</summary>
public enum UnitCode
{
    /// <summary>One source unit predicts it well.</summary>
    Local,

    /// <summary>A few source units together do: a shared subspace with another basis.</summary>
    Subspace,

    /// <summary>Only many together do.</summary>
    Distributed,

    /// <summary>No linear map predicts it well.</summary>
    Unique,

    /// <summary>It is dead.</summary>
    Dead,
}

/// <summary>Maps at several penalties, in the order given, and what one unit alone predicts.</summary>
/// <param name="Maps">The maps.</param>
/// <param name="BestSingle">Error of each target unit predicted by its best single source unit, 1 - max c^2 [q]; NaN of dead units.</param>
public sealed record StitchPath(IReadOnlyList<StitchMap> Maps, double[] BestSingle)
{
    /// <summary>Mean of <see cref="BestSingle"/> over the units that are not dead.</summary>
    public double MeanBestSingle => BestSingle.Where(e => !double.IsNaN(e)).Average();

    /// <summary>The map of a penalty.</summary>
    /// <param name="lambda">One of the penalties.</param>
    /// <exception cref="ArgumentException">The path has no such penalty.</exception>
    public StitchMap this[double lambda] => Maps.FirstOrDefault(m => m.Lambda == lambda) ?? throw new ArgumentException($"The path has no penalty {lambda}; it has {string.Join(", ", Maps.Select(m => m.Lambda))}.", nameof(lambda));

    /// <summary>How each target unit is present among the source units.</summary>
    /// <param name="well">Error up to which a unit counts as predicted well. Default 0.5.</param>
    /// <param name="few">Number of source units that counts as few. Default 10.</param>
    public UnitCode[] Codes(double well = .5, int few = 10) => [.. BestSingle.Select((single, j) =>
        double.IsNaN(single) ? UnitCode.Dead
        : single <= well ? UnitCode.Local
        : Maps.Any(m => m.Error[j] <= well && m.NonZeros[j] <= few) ? UnitCode.Subspace
        : Maps.Any(m => m.Error[j] <= well) ? UnitCode.Distributed
        : UnitCode.Unique)];
}

/// <summary>
/// Sparse prediction of each unit of one layer from all units of another (section 3.2): min_W 1/2 E|b - W a|^2 + lambda |W|_1 on standardised activations, where the free bias is 0.
/// It depends on the correlations alone, so it is solved exactly and for all target units at once. The other direction is another problem: swap the layers.
/// </summary>
public static class SparseStitching
{
    /// <summary>Fits maps from correlations.</summary>
    /// <param name="g">Correlation within the source layer [p, p].</param>
    /// <param name="c">Correlation of the source units with the target units [p, q].</param>
    /// <param name="lambdas">Penalties, at least 0; 0 is dense least squares.</param>
    /// <param name="solver">How the lasso is solved. Default coordinate descent.</param>
    /// <exception cref="ArgumentException">Shapes do not fit, an entry is not finite, or a penalty is negative.</exception>
    public static StitchPath Fit(Tensor g, Tensor c, IReadOnlyList<double> lambdas, LassoSolver solver = LassoSolver.CoordinateDescent)
    {
        ArgumentNullException.ThrowIfNull(g);
        ArgumentNullException.ThrowIfNull(c);
        ArgumentNullException.ThrowIfNull(lambdas);
        using var ungraphed = no_grad();
        IReadOnlyList<LassoFit> fits = Lasso.Path(g, c, lambdas, solver);
        using DisposeScope scope = NewDisposeScope();
        Tensor gram = g.detach().to(float64), moments = c.detach().to(float64);
        Tensor silent = moments.eq(0).all(dim: 0); // a dead target
        double[] Column(Tensor values) => values.masked_fill(silent, double.NaN).cpu().contiguous().data<double>().ToArray();
        return new StitchPath([.. fits.Select(fit =>
        {
            Tensor w = fit.Coefficients;
            return new StitchMap(fit.Penalty, w, Column(1 - 2 * (w * moments).sum(dim: 0) + (w * gram.matmul(w)).sum(dim: 0)), [.. w.ne(0).sum(dim: 0).cpu().data<long>().ToArray().Select(k => (int)k)], fit.Converged);
        })], Column(1 - moments.abs().amax([0L]).square()));
    }

    /// <summary>Fits maps from layer A to layer B.</summary>
    /// <param name="correlation">The correlations; <see cref="CrossCorrelation.Swapped"/> for the other direction.</param>
    /// <param name="lambdas">Penalties, at least 0.</param>
    /// <param name="solver">How the lasso is solved.</param>
    /// <exception cref="ArgumentException">A penalty is negative, or it is 0 and A has at least as many live units as there are observations.</exception>
    public static StitchPath Fit(CrossCorrelation correlation, IReadOnlyList<double> lambdas, LassoSolver solver = LassoSolver.CoordinateDescent)
    {
        ArgumentNullException.ThrowIfNull(correlation);
        ArgumentNullException.ThrowIfNull(lambdas);
        int units = correlation.A.Alive.Length;
        if (lambdas.Contains(0) && correlation.Observations <= units)
            throw new ArgumentException($"Dense prediction (lambda 0) from {units} units needs more than {units} observations; there are {correlation.Observations}: bring more, or leave lambda 0 out.", nameof(lambdas));
        return Fit(correlation.A.Correlation, correlation.Between, lambdas, solver);
    }
}
