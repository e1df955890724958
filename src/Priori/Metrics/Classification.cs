namespace Priori.Metrics;

/// <summary>Metrics of classifiers.</summary>
public static class Classification
{
    /// <summary>Share of rows whose largest score is at the label.</summary>
    /// <param name="scores">Logits or probabilities, [n, classes].</param>
    /// <param name="labels">True classes, int64 [n].</param>
    /// <exception cref="ArgumentException">The shapes do not fit or there are no rows.</exception>
    public static double Accuracy(Tensor scores, Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(scores);
        ArgumentNullException.ThrowIfNull(labels);
        if (scores.dim() != 2 || labels.dim() != 1 || scores.shape[0] != labels.shape[0] || labels.shape[0] == 0)
            throw new ArgumentException($"Scores must be [n, classes] and labels [n] with n >= 1; got [{string.Join(",", scores.shape)}] and [{string.Join(",", labels.shape)}].");
        using var scope = NewDisposeScope();
        return scores.argmax(1).eq(labels).to(ScalarType.Float64).mean().ToDouble();
    }
}
