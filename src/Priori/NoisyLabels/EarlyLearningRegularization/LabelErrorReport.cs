namespace Priori.NoisyLabels;

/// <summary>
/// Probable label errors, read from the running targets of early-learning regularization: a row is suspect when its target's largest class is not the given label.
/// Rows never visited (targets of 0) are not suspect and score 0.
/// </summary>
/// <param name="Given">Given labels, int64 [n].</param>
/// <param name="Suggested">Class with the largest target, int64 [n]; the given label for rows never visited.</param>
/// <param name="Scores">1 - T[i, label] / sum(T[i]), in [0, 1], float [n]: 1 is surely wrong in the model's view.</param>
/// <param name="Suspect">Suggested differs from given, bool [n].</param>
public sealed record LabelErrorReport(Tensor Given, Tensor Suggested, Tensor Scores, Tensor Suspect)
{
    /// <summary>Makes the report.</summary>
    /// <param name="targets">Running targets T, [n, C]; for two tables their sum.</param>
    /// <param name="labels">Given labels, int64 [n].</param>
    /// <exception cref="ArgumentException">Shapes do not fit or a label is not a class.</exception>
    public static LabelErrorReport From(Tensor targets, Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(targets);
        if (targets.dim() != 2) throw new ArgumentException($"Targets must be [n, C]; got [{string.Join(",", targets.shape)}].", nameof(targets));
        EarlyLearning.CheckLabels(targets, labels, (int)targets.shape[1], checkValues: true);
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        Tensor sums = targets.sum(1);
        Tensor visited = sums.gt(0);
        Tensor ofLabel = targets.gather(1, labels.unsqueeze(1)).squeeze(1);
        Tensor suggested = where(visited, targets.argmax(1), labels);
        Tensor scores = where(visited, 1 - ofLabel / sums, zeros_like(sums));
        return new LabelErrorReport(
            labels.clone().MoveToOuterDisposeScope(),
            suggested.MoveToOuterDisposeScope(),
            scores.MoveToOuterDisposeScope(),
            suggested.ne(labels).MoveToOuterDisposeScope());
    }

    /// <summary>Share of rows on which "suspect" agrees with "the given label is wrong".</summary>
    /// <param name="truth">True labels, int64 [n].</param>
    public double DetectionAccuracy(Tensor truth)
    {
        using var scope = NewDisposeScope();
        return Suspect.eq(Given.ne(truth)).to(ScalarType.Float64).mean().ToDouble();
    }

    /// <summary>Share of suspect rows whose given label is wrong; NaN when no row is suspect.</summary>
    /// <param name="truth">True labels, int64 [n].</param>
    public double Precision(Tensor truth) => Ratio(truth, Suspect);

    /// <summary>Share of rows with a wrong label that are suspect; NaN when no label is wrong.</summary>
    /// <param name="truth">True labels, int64 [n].</param>
    public double Recall(Tensor truth)
    {
        using Tensor wrong = Given.ne(truth);
        return Ratio(truth, wrong);
    }

    private double Ratio(Tensor truth, Tensor among)
    {
        using var scope = NewDisposeScope();
        return Suspect.logical_and(Given.ne(truth)).sum().ToDouble() / among.sum().ToDouble();
    }
}
