namespace Priori.Metrics;

/// <summary>How well probabilities decide a binary target at a threshold.</summary>
/// <param name="Accuracy">Share of right decisions.</param>
/// <param name="Precision">Share of true positives among predicted ones; 0 when none is predicted.</param>
/// <param name="Recall">Share of positives that are found; 0 when there is none.</param>
/// <param name="F1">Harmonic mean of precision and recall; 0 when both are.</param>
public sealed record BinaryClassification(double Accuracy, double Precision, double Recall, double F1)
{
    /// <summary>Decides and counts.</summary>
    /// <param name="probabilities">Probabilities of the positive class [n].</param>
    /// <param name="targets">Targets [n]; above 0.5 is positive.</param>
    /// <param name="threshold">Probabilities from here on are decided positive.</param>
    /// <exception cref="ArgumentException">The lengths differ or are 0.</exception>
    public static BinaryClassification Of(Tensor probabilities, Tensor targets, double threshold = 0.5)
    {
        ArgumentNullException.ThrowIfNull(probabilities);
        ArgumentNullException.ThrowIfNull(targets);
        if (probabilities.numel() != targets.numel() || probabilities.numel() == 0)
            throw new ArgumentException($"Probabilities [{string.Join(", ", probabilities.shape)}] and targets [{string.Join(", ", targets.shape)}] must be as many and at least one.", nameof(probabilities));
        using var scope = NewDisposeScope();
        Tensor predicted = probabilities.reshape(-1).ge(threshold), positive = targets.reshape(-1).gt(0.5);
        double hits = predicted.logical_and(positive).sum().ToDouble(), found = predicted.sum().ToDouble(), all = positive.sum().ToDouble();
        double precision = found > 0 ? hits / found : 0, recall = all > 0 ? hits / all : 0;
        return new BinaryClassification(predicted.eq(positive).to(ScalarType.Float64).mean().ToDouble(), precision, recall, hits > 0 ? 2 * precision * recall / (precision + recall) : 0);
    }
}
