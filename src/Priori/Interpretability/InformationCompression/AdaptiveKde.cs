using Priori.Numerics;

namespace Priori.Interpretability;

/// <summary>How the noise of <see cref="AdaptiveKde"/> follows the largest activation m of the layer's run.</summary>
public enum NoiseScaling
{
    /// <summary>Variance s2 = kappa m, as in the paper: not invariant to the scale of the activations.</summary>
    Variance,

    /// <summary>Standard deviation kappa m, so s2 = (kappa m)^2: invariant to the scale of the activations.</summary>
    Std,
}

/// <summary>Which pairwise-distance bound of the entropy of a Gaussian mixture is used (Kolchinsky and Tracey, Entropy 2017).</summary>
public enum EntropyBound
{
    /// <summary>Kullback-Leibler distances between components: never below the true entropy.</summary>
    Upper,

    /// <summary>Bhattacharyya distances between components: never above the true entropy.</summary>
    Lower,
}

/// <summary>
/// Adaptive kernel density estimation (Chelombiev et al., ICLR 2019, section 3): T' = T + noise is a mixture of n Gaussians at the
/// activations, whose entropy is bounded in closed form by pairwise distances; the noise follows the largest activation of the layer over the run, so that nets with
/// unbounded activations can be compared.
/// </summary>
public sealed class AdaptiveKde : IMutualInformationEstimator
{
    private readonly double kappa;
    private readonly NoiseScaling scaling;
    private readonly EntropyBound bound;

    /// <summary>Creates the estimator.</summary>
    /// <param name="kappa">Noise for a largest activation of 1, above 0. Default 1e-3; the paper does not print its constant.</param>
    /// <param name="scaling">How the noise follows the largest activation.</param>
    /// <param name="bound">Upper or lower bound of the entropies.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="kappa"/> is not above 0 and finite.</exception>
    public AdaptiveKde(double kappa = 1e-3, NoiseScaling scaling = NoiseScaling.Variance, EntropyBound bound = EntropyBound.Upper)
    {
        if (!(kappa > 0) || !double.IsFinite(kappa)) throw new ArgumentOutOfRangeException(nameof(kappa), kappa, "The noise must be above 0.");
        (this.kappa, this.scaling, this.bound) = (kappa, scaling, bound);
    }

    /// <summary>The noise variance s2 for a layer; 0 for a layer that is 0 throughout the run.</summary>
    /// <param name="run">The layer's statistics over the run.</param>
    public double NoiseVariance(LayerRunStatistics run)
        => scaling == NoiseScaling.Std ? kappa * run.Magnitude * kappa * run.Magnitude : kappa * run.Magnitude;

    /// <inheritdoc/>
    public LayerInformation Estimate(Tensor t, Tensor labels, LayerRunStatistics run)
        => PairwiseDistanceBounds.Information(t, labels, NoiseVariance(run), bound);
}

/// <summary>Kernel density estimation with the same noise for every layer and run, the baseline (Saxe et al., ICLR 2018).</summary>
public sealed class FixedNoiseKde : IMutualInformationEstimator
{
    private readonly double variance;
    private readonly EntropyBound bound;

    /// <summary>Creates the estimator.</summary>
    /// <param name="variance">Noise variance s2, above 0, in squared units of the activations. Default 0.1, as Saxe et al.</param>
    /// <param name="bound">Upper or lower bound of the entropies.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="variance"/> is not above 0 and finite.</exception>
    public FixedNoiseKde(double variance = 0.1, EntropyBound bound = EntropyBound.Upper)
    {
        if (!(variance > 0) || !double.IsFinite(variance)) throw new ArgumentOutOfRangeException(nameof(variance), variance, "The noise must be above 0.");
        (this.variance, this.bound) = (variance, bound);
    }

    /// <inheritdoc/>
    public LayerInformation Estimate(Tensor t, Tensor labels, LayerRunStatistics run)
        => PairwiseDistanceBounds.Information(t, labels, variance, bound);
}

/// <summary>
/// Kolchinsky-Tracey bounds. With H(T'|X) = D/2 (log 2 pi s2 + 1) the terms in D cancel and
/// I(X;T') = -1/n sum_i log 1/n sum_j exp(-|t_i - t_j|^2 / (2 s2)), for the lower bound with 4 s2 in the place of s2.
/// </summary>
internal static class PairwiseDistanceBounds
{
    public static LayerInformation Information(Tensor t, Tensor labels, double variance, EntropyBound bound)
    {
        using var scope = NewDisposeScope();
        Tensor rows = Population.Rows(t);
        RowGroups classes = Population.Classes(labels, rows);
        long unique = Population.UniqueRows(rows), n = rows.shape[0];
        if (variance == 0 || unique == 1) return new(0, 0, unique);

        // Rows in the order of their classes: those of one class lie together.
        rows = rows.index_select(0, classes.Ids.argsort());
        rows = (rows - rows.mean([0])) / Math.Sqrt(bound == EntropyBound.Lower ? 8 * variance : 2 * variance);
        long[] counts = [.. classes.Counts.cpu().data<long>()];
        using var pairs = new RowPairs(rows);
        (double[] all, double[] own) = pairs.KernelSums(counts);
        double withinAll = all.Sum(Math.Log), withinClass = own.Sum(Math.Log) - counts.Sum(count => count * Math.Log(count));
        double information = Math.Log2(n) - withinAll / n / Math.Log(2);
        double givenLabel = -withinClass / n / Math.Log(2);
        return new(Math.Max(0, information), Math.Max(0, information - givenLabel), unique);
    }
}
