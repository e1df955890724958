namespace Priori.Interpretability;

/// <summary>
/// Equal-width binning, the baseline of the information-plane literature (Shwartz-Ziv and Tishby, 2017): the same bins at every epoch, between fixed limits.
/// Its estimate depends on the scale of the activations, which is what adaptive estimators repair.
/// </summary>
public sealed class EqualWidthBinning : IMutualInformationEstimator
{
    private readonly int bins;
    private readonly double? low, high;

    /// <summary>Creates the estimator.</summary>
    /// <param name="bins">Number of bins, at least 2. Default 30, as in the paper.</param>
    /// <param name="low">Lower limit; by default the smallest activation of the run. Use -1 for tanh.</param>
    /// <param name="high">Upper limit, above <paramref name="low"/>; by default the largest activation of the run. Use 1 for tanh.</param>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than 2 bins, or the limits are not finite and in order.</exception>
    public EqualWidthBinning(int bins = 30, double? low = null, double? high = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bins, 2);
        if (!double.IsFinite(low ?? 0) || !double.IsFinite(high ?? 0) || low >= high)
            throw new ArgumentOutOfRangeException(nameof(high), high, $"The limits must be finite and the upper above the lower ({low}).");
        (this.bins, this.low, this.high) = (bins, low, high);
    }

    /// <summary>Bin of every activation, int32 [n, units]: right-open bins, the last one closed; values outside the limits go to the outer bins.</summary>
    /// <param name="t">Activations of one layer at one epoch, [n, units].</param>
    /// <param name="run">The layer's statistics over the run.</param>
    /// <exception cref="ArgumentException">n is less than 2, or an activation is NaN or infinite.</exception>
    public Tensor Digitize(Tensor t, LayerRunStatistics run)
    {
        using var scope = NewDisposeScope();
        double from = low ?? run.Minimum, to = high ?? run.Maximum;
        Tensor rows = Population.Rows(t);
        if (!(from < to)) return zeros_like(rows, ScalarType.Int32).MoveToOuterDisposeScope(); // A constant layer: one bin.
        Tensor inner = linspace(from, to, bins + 1, ScalarType.Float64, rows.device)[1..bins];
        return rows.bucketize(inner, outInt32: true, right: true).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public LayerInformation Estimate(Tensor t, Tensor labels, LayerRunStatistics run)
    {
        using var scope = NewDisposeScope();
        Tensor codes = Digitize(t, run);
        return Binned.Information(codes, Population.Classes(labels, codes));
    }
}
