using Priori.Numerics;

namespace Priori.Interpretability;

/// <summary>What a layer's activations span over a whole training run; estimators that must be comparable between epochs scale by it.</summary>
/// <param name="Minimum">Smallest activation of any unit, sample and epoch.</param>
/// <param name="Maximum">Largest activation of any unit, sample and epoch.</param>
public readonly record struct LayerRunStatistics(double Minimum, double Maximum)
{
    /// <summary>Largest absolute activation.</summary>
    public double Magnitude => Math.Max(Math.Abs(Minimum), Math.Abs(Maximum));

    /// <summary>The statistics of a layer whose activations at the recorded epochs are <paramref name="epochs"/>, any shapes.</summary>
    /// <exception cref="ArgumentException">There is no activation, or one is NaN or infinite.</exception>
    public static LayerRunStatistics Of(params IEnumerable<Tensor> epochs)
    {
        using var scope = NewDisposeScope();
        double minimum = double.PositiveInfinity, maximum = double.NegativeInfinity;
        foreach (Tensor t in epochs.Where(t => t.numel() > 0))
        {
            if (!t.isfinite().all().item<bool>()) throw new ArgumentException("An activation is NaN or infinite.", nameof(epochs));
            (Tensor low, Tensor high) = t.aminmax();
            minimum = Math.Min(minimum, low.to(ScalarType.Float64).item<double>());
            maximum = Math.Max(maximum, high.to(ScalarType.Float64).item<double>());
        }
        return minimum <= maximum ? new(minimum, maximum) : throw new ArgumentException("There is no activation.", nameof(epochs));
    }
}

/// <summary>What one layer carries at one epoch.</summary>
/// <param name="Ixt">I(X;T), bits: what the layer keeps of the input. NaN where the estimator has none (see <see cref="KnnMutualInformation"/>).</param>
/// <param name="Ity">I(T;Y), bits: what the layer knows of the label.</param>
/// <param name="UniqueRows">
/// Distinct rows as the estimator sees them: of bin codes for binning, of activations otherwise. Where it equals the number of samples,
/// I(X;T) is at its cap log2 n and says nothing about the layer.
/// </param>
public readonly record struct LayerInformation(double Ixt, double Ity, long UniqueRows);

/// <summary>
/// Estimates what a layer's activations T carry about the input X and the label Y. The samples are the whole population: inputs are
/// equiprobable (an input that occurs twice counts twice) and T is a deterministic function of the input.
/// </summary>
public interface IMutualInformationEstimator
{
    /// <summary>I(X;T) and I(T;Y) in bits. Runs on the device of <paramref name="t"/>.</summary>
    /// <param name="t">Activations of one layer at one epoch, [n, units]; more dimensions are flattened; n at least 2.</param>
    /// <param name="labels">Class of each sample, integers [n], any values.</param>
    /// <param name="run">The layer's statistics over the run (<see cref="LayerRunStatistics.Of"/>).</param>
    /// <exception cref="ArgumentException">Lengths differ, labels are continuous, n is less than 2, or an activation is NaN or infinite.</exception>
    LayerInformation Estimate(Tensor t, Tensor labels, LayerRunStatistics run);
}

/// <summary>The activations and labels of an estimate, checked.</summary>
internal static class Population
{
    /// <summary>Activations as float64 [n, units].</summary>
    public static Tensor Rows(Tensor t)
    {
        ArgumentNullException.ThrowIfNull(t);
        if (t.dim() == 0 || t.shape[0] < 2 || t.numel() == 0)
            throw new ArgumentException($"Activations must be [n, units] with n at least 2, not [{string.Join(", ", t.shape)}].", nameof(t));
        Tensor rows = t.detach().reshape(t.shape[0], -1).to(ScalarType.Float64);
        if (!rows.isfinite().all().item<bool>()) throw new ArgumentException("An activation is NaN or infinite.", nameof(t));
        return rows;
    }

    /// <summary>Groups of equal labels.</summary>
    public static RowGroups Classes(Tensor labels, Tensor rows)
    {
        ArgumentNullException.ThrowIfNull(labels);
        if (labels.dim() != 1 || labels.shape[0] != rows.shape[0])
            throw new ArgumentException($"Labels must be [{rows.shape[0]}], one for each row of activations, not [{string.Join(", ", labels.shape)}].", nameof(labels));
        if (labels.is_floating_point() || labels.is_complex())
            throw new ArgumentException($"Labels must be integers, not {labels.dtype}: these estimators are for discrete labels; bin continuous ones first.", nameof(labels));
        return HistogramEntropy.GroupRows(labels.to(rows.device));
    }

    /// <summary>Number of distinct rows of activations (0 and -0 are equal).</summary>
    public static long UniqueRows(Tensor rows)
    {
        (_, Tensor? ranks, _) = rows.unique(sorted: true, return_inverse: true);
        return HistogramEntropy.GroupRows(ranks!.reshape(rows.shape)).Counts.shape[0];
    }
}
