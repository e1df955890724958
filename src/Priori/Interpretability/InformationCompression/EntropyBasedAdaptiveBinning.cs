using Priori.Numerics;

namespace Priori.Interpretability;

/// <summary>
/// Entropy-based adaptive binning (Chelombiev, Houghton, O'Donnell, ICLR 2019, section 3): the bins of a layer are quantiles of its
/// <i>unique</i> activation levels at that epoch, so that every bin holds equally many levels and the mass of dead units, all exactly at the lower bound,
/// stays in one bin. T is then the row of bin numbers: I(X;T) = H(T) and I(T;Y) = H(T) - sum_y p(y) H(T|y). Codes do not change under any increasing map of
/// the activations that keeps <c>low</c>.
/// </summary>
public sealed class EntropyBasedAdaptiveBinning : IMutualInformationEstimator
{
    private readonly int bins;
    private readonly double? low;

    /// <summary>Creates the estimator.</summary>
    /// <param name="bins">Bins B above the lower bound, at least 2. Paper: 30.</param>
    /// <param name="low">
    /// Lower edge: the activation's lower bound, or a value just below a bound that is reached. Paper's code: 0 for ReLU and softplus, -1.000001 for tanh and ELU
    /// (<see cref="HiddenActivations.LowerEdge"/>). By default just below the smallest activation, for activations without a known bound.
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than 2 bins, or <paramref name="low"/> is not finite.</exception>
    public EntropyBasedAdaptiveBinning(int bins = 30, double? low = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bins, 2);
        if (low is { } edge && !double.IsFinite(edge)) throw new ArgumentOutOfRangeException(nameof(low), low, "The lower edge must be finite.");
        (this.bins, this.low) = (bins, low);
    }

    /// <summary>The estimator for an activation function, with the lower edge of the paper's code.</summary>
    /// <param name="activation">The activation of the hidden layers.</param>
    /// <param name="bins">Bins above the lower bound, at least 2.</param>
    public static EntropyBasedAdaptiveBinning For(HiddenActivation activation, int bins = 30) => new(bins, activation.LowerEdge());

    /// <summary>
    /// Bin edges of a layer, float64 [B + 2]: low, u[floor(k |u| / B)] for k = 0..B-1, and the largest of u, where u are the sorted unique activations
    /// without low; only [low] where no other value occurs. With fewer than B levels some edges repeat, which changes no partition.
    /// </summary>
    /// <param name="t">Activations of one layer at one epoch, [n, units].</param>
    /// <exception cref="ArgumentException">n is less than 2, an activation is NaN or infinite, or one lies below <c>low</c>.</exception>
    public Tensor Edges(Tensor t)
    {
        using var scope = NewDisposeScope();
        return EdgesOf(Population.Rows(t)).MoveToOuterDisposeScope();
    }

    /// <summary>Bin of every activation by the layer's own <see cref="Edges"/>: the number of edges at or below it, less one; int32 [n, units].</summary>
    /// <param name="t">Activations of one layer at one epoch, [n, units].</param>
    /// <exception cref="ArgumentException">As <see cref="Edges"/>.</exception>
    public Tensor Digitize(Tensor t)
    {
        using var scope = NewDisposeScope();
        return Codes(Population.Rows(t)).MoveToOuterDisposeScope();
    }

    /// <summary>Joint entropy H(T) of the binned units, bits.</summary>
    /// <param name="t">Activations of one layer at one epoch, [n, units].</param>
    /// <exception cref="ArgumentException">As <see cref="Edges"/>.</exception>
    public double Entropy(Tensor t)
    {
        using var scope = NewDisposeScope();
        return HistogramEntropy.OfRows(Codes(Population.Rows(t)));
    }

    /// <inheritdoc/>
    public LayerInformation Estimate(Tensor t, Tensor labels, LayerRunStatistics run)
    {
        using var scope = NewDisposeScope();
        Tensor rows = Population.Rows(t);
        return Binned.Information(Codes(rows), Population.Classes(labels, rows));
    }

    private Tensor Codes(Tensor rows) => rows.bucketize(EdgesOf(rows), outInt32: true, right: true).sub_(1);

    private Tensor EdgesOf(Tensor rows)
    {
        (Tensor levels, _, _) = rows.unique(sorted: true);
        double smallest = levels[0].item<double>();
        // Relative for large activations, so that the default edge is below them in floating point.
        double edge = low ?? smallest - 1e-6 * Math.Max(1, Math.Abs(smallest));
        if (smallest < edge)
            throw new ArgumentException($"The activation {smallest} lies below the lower edge {edge}; leave low out for activations without that bound.", nameof(rows));
        if (smallest == edge) levels = levels[1..];
        long count = levels.shape[0];
        Tensor lowest = tensor([edge], device: rows.device);
        if (count == 0) return lowest;
        long[] quantiles = [.. Enumerable.Range(0, bins).Select(k => k * count / bins), count - 1];
        return cat([lowest, levels.index_select(0, tensor(quantiles, device: rows.device))]);
    }
}

/// <summary>Information of binned layers: deterministic T, so H(T|X) = 0.</summary>
internal static class Binned
{
    public static LayerInformation Information(Tensor codes, RowGroups classes)
    {
        RowGroups groups = HistogramEntropy.GroupRows(codes);
        return new(HistogramEntropy.OfCounts(groups.Counts), HistogramEntropy.MutualInformation(groups, classes), groups.Counts.shape[0]);
    }
}
