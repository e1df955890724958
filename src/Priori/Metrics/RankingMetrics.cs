namespace Priori.Metrics;

/// <summary>How well scores order the rows of a binary target.</summary>
public static class RankingMetrics
{
    /// <summary>
    /// Area under the ROC curve: the probability that a positive row scores above a negative one, ties counting one half. Exact, by ranks
    /// (the Mann-Whitney U statistic), in O(n log n).
    /// </summary>
    /// <param name="scores">Scores or logits [n]; only their order matters.</param>
    /// <param name="targets">Targets [n]; 1 (or any number above 0.5) is positive.</param>
    /// <returns>AUC in [0, 1]; NaN when one of the classes is missing.</returns>
    /// <exception cref="ArgumentException">Shapes differ, or a score is NaN.</exception>
    public static double Auc(Tensor scores, Tensor targets)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor s = Flat(scores, targets);
        if (s.isnan().any().item<bool>()) throw new ArgumentException("AUC needs scores that are numbers; a score is NaN.", nameof(scores));
        Tensor positive = targets.reshape(-1).gt(0.5);
        long positives = positive.sum().item<long>(), negatives = positive.numel() - positives;
        if (positives == 0 || negatives == 0) return double.NaN;
        var (_, inverse, counts) = s.unique(return_inverse: true, return_counts: true);
        Tensor last = counts!.cumsum(0).to(ScalarType.Float64);
        Tensor rank = last - (counts.to(ScalarType.Float64) - 1) / 2;                  // mean rank of equal scores, from 1
        double rankSum = rank[inverse!][positive].sum().item<double>();
        return (rankSum - positives * (positives + 1.0) / 2) / ((double)positives * negatives);
    }

    /// <summary>Mean binary cross-entropy of predicted probabilities, in nats.</summary>
    /// <param name="probabilities">Probabilities of the positive class [n], in [0, 1]; used clamped to [1e-7, 1 - 1e-7].</param>
    /// <param name="targets">Targets [n], 0 or 1.</param>
    /// <exception cref="ArgumentException">Shapes differ.</exception>
    public static double LogLoss(Tensor probabilities, Tensor targets)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor p = Flat(probabilities, targets).to(ScalarType.Float64).clamp(1e-7, 1 - 1e-7);
        Tensor y = targets.reshape(-1).to(ScalarType.Float64);
        return -(y * p.log() + (1 - y) * (1 - p).log()).mean().item<double>();
    }

    private static Tensor Flat(Tensor scores, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(scores);
        ArgumentNullException.ThrowIfNull(targets);
        if (scores.numel() != targets.numel() || scores.numel() == 0)
            throw new ArgumentException($"Scores [{string.Join(", ", scores.shape)}] and targets [{string.Join(", ", targets.shape)}] must be as many and at least one.", nameof(scores));
        return scores.reshape(-1);
    }
}
