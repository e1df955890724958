using Priori.Nn;

namespace Priori.Similarity;

/// <summary>Which features pruning keeps.</summary>
public enum PruningCriterion
{
    /// <summary>Those with the largest product of the norms of incoming and outgoing weights.</summary>
    Magnitude,
    /// <summary>Those with the largest L2 norm of incoming weights (Li et al., ICLR 2017, with L2 in place of L1).</summary>
    IncomingNorm,
    /// <summary>Any.</summary>
    Random,
}

/// <summary>Data-free pruning to given widths without fine-tuning: the baselines that remove features where <see cref="IterativeFeatureMerging"/> merges them.</summary>
public static class WidthPruning
{
    /// <summary>Keeps the best features of each group, in their order, and removes the others.</summary>
    /// <param name="state">Tensors by name.</param>
    /// <param name="spec">The wiring.</param>
    /// <param name="widths">Features to keep by the group's name, at least 1 and at most its size; groups without a number stay.</param>
    /// <param name="criterion">Which features are kept.</param>
    /// <param name="seed">Seed of <see cref="PruningCriterion.Random"/>.</param>
    /// <returns>New tensors for what shrank; the others are the given ones.</returns>
    /// <exception cref="ArgumentException">A width is out of range, a group is unknown, or the checkpoint does not fit the wiring.</exception>
    public static Dictionary<string, Tensor> Prune(IReadOnlyDictionary<string, Tensor> state, PermutationSpec spec, IReadOnlyDictionary<string, long> widths, PruningCriterion criterion, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(widths);
        spec.Validate(state);
        var random = Runtime.SplitMix64.For(seed, 37);
        var kept = new Dictionary<string, long[]>();
        foreach ((string name, long width) in widths)
        {
            PermutationGroup group = spec.Groups.FirstOrDefault(g => g.Name == name) ?? throw new ArgumentException($"The wiring has no group '{name}'.", nameof(widths));
            if (width < 1 || width > group.Size) throw new ArgumentOutOfRangeException(nameof(widths), width, $"Group '{name}' has {group.Size} features; it cannot keep {width}.");
            long[] order = [.. Enumerable.Range(0, (int)group.Size).Select(i => (long)i)];
            if (criterion == PruningCriterion.Random) random.Shuffle<long>(order);
            else order = [.. Scores(state, group, criterion).Select((score, i) => (score, i)).OrderByDescending(x => x.score).Select(x => (long)x.i)];
            kept[name] = [.. order.Take((int)width).Order()];
        }
        return spec.Permute(state, kept);
    }

    private static double[] Scores(IReadOnlyDictionary<string, Tensor> state, PermutationGroup group, PruningCriterion criterion)
    {
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        Tensor SquaredNorms(AxisRole role) => group.Axes.Where(x => x.Role == role && state[x.Tensor].dim() > 1)
            .Aggregate(zeros(group.Size, float64), (sum, x) => sum + x.Units(state[x.Tensor].cpu().to(float64), group.Size).square().sum(dim: 1));
        Tensor scores = SquaredNorms(AxisRole.Output);
        if (criterion == PruningCriterion.Magnitude) scores = scores * SquaredNorms(AxisRole.Input);
        return scores.data<double>().ToArray();
    }
}
