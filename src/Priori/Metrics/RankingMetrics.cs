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

    /// <summary>
    /// GAUC (Zhu et al., KDD 2017; Zhou et al., KDD 2018, eq. 10): the AUC within each group (user), averaged with the groups' numbers of rows (impressions) as weights.
    /// Groups in which one of the classes is missing have no AUC and are left out. Exact, ties counting one half, in O(n log n).
    /// </summary>
    /// <param name="scores">Scores or logits [n]; only their order within a group matters.</param>
    /// <param name="targets">Targets [n]; 1 (or any number above 0.5) is positive.</param>
    /// <param name="groups">Group of each row, int64 [n]: any numbers.</param>
    /// <returns>GAUC in [0, 1]; NaN when no group has both classes.</returns>
    /// <exception cref="ArgumentException">Shapes differ, or a score is NaN.</exception>
    public static double GroupAuc(Tensor scores, Tensor targets, Tensor groups)
    {
        ArgumentNullException.ThrowIfNull(groups);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor s = Flat(scores, targets);
        if (groups.numel() != s.numel()) throw new ArgumentException($"Groups [{string.Join(", ", groups.shape)}] must be as many as the {s.numel()} scores.", nameof(groups));
        if (s.isnan().any().item<bool>()) throw new ArgumentException("AUC needs scores that are numbers; a score is NaN.", nameof(scores));
        Tensor positive = targets.reshape(-1).gt(0.5).to(ScalarType.Float64);
        Tensor level = s.unique(return_inverse: true).inverse_indices!;
        var (_, group, rows) = groups.reshape(-1).unique(return_inverse: true, return_counts: true);
        long count = rows!.numel();
        Tensor size = rows.to(ScalarType.Float64);
        // Equal scores of one group form a cell; cells sorted by (group, score) have consecutive ranks.
        var (_, cell, ties) = (group! * (level.max() + 1) + level).unique(return_inverse: true, return_counts: true);
        Tensor last = ties!.cumsum(0).to(ScalarType.Float64);
        Tensor rank = (last - (ties.to(ScalarType.Float64) - 1) / 2)[cell!] - (size.cumsum(0) - size)[group!];
        Tensor Sum(Tensor values) => zeros(count, ScalarType.Float64, s.device).index_add_(0, group!, values, 1);
        Tensor positives = Sum(positive), negatives = size - positives;
        Tensor auc = (Sum(rank * positive) - positives * (positives + 1) / 2) / (positives * negatives);
        Tensor both = (positives * negatives).gt(0);
        return both.any().item<bool>() ? ((auc * size)[both].sum() / size[both].sum()).item<double>() : double.NaN;
    }

    /// <summary>RelaImpr (Yan et al., ICML 2014; Zhou et al., KDD 2018, eq. 11): how much more of an AUC is above chance than of a baseline's, in percent: ((auc - 1/2) / (baseline - 1/2) - 1) * 100.</summary>
    /// <param name="auc">The model's AUC or GAUC.</param>
    /// <param name="baseline">The baseline's.</param>
    /// <returns>Percent; NaN when the baseline is not above chance.</returns>
    public static double RelaImpr(double auc, double baseline) => baseline > 0.5 ? ((auc - 0.5) / (baseline - 0.5) - 1) * 100 : double.NaN;

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
