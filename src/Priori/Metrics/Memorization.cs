namespace Priori.Metrics;

/// <summary>
/// How a classifier treats training rows with right and with wrong labels (Liu et al., NeurIPS 2020, Fig. 1), as shares of the rows concerned;
/// NaN where there are no such rows.
/// </summary>
/// <param name="CleanCorrect">Rows with the right label that are predicted as it.</param>
/// <param name="FlippedCorrect">Rows with a wrong label that are predicted as the true class.</param>
/// <param name="FlippedMemorized">Rows with a wrong label that are predicted as that label.</param>
public sealed record Memorization(double CleanCorrect, double FlippedCorrect, double FlippedMemorized)
{
    /// <summary>Measures it.</summary>
    /// <param name="predictions">Predicted classes, int64 [n].</param>
    /// <param name="given">Labels used for training, int64 [n].</param>
    /// <param name="truth">True labels, int64 [n].</param>
    /// <exception cref="ArgumentException">The shapes differ.</exception>
    public static Memorization Of(Tensor predictions, Tensor given, Tensor truth)
    {
        ArgumentNullException.ThrowIfNull(predictions);
        ArgumentNullException.ThrowIfNull(given);
        ArgumentNullException.ThrowIfNull(truth);
        if (!predictions.shape.SequenceEqual(given.shape) || !predictions.shape.SequenceEqual(truth.shape))
            throw new ArgumentException($"Predictions [{string.Join(",", predictions.shape)}], given [{string.Join(",", given.shape)}] and true labels [{string.Join(",", truth.shape)}] must have one shape.");
        using var scope = NewDisposeScope();
        Tensor flipped = given.ne(truth);
        return new Memorization(
            Share(predictions.eq(truth), flipped.logical_not()),
            Share(predictions.eq(truth), flipped),
            Share(predictions.eq(given), flipped));
    }

    private static double Share(Tensor hit, Tensor among) => hit.logical_and(among).sum().ToDouble() / among.sum().ToDouble();
}
