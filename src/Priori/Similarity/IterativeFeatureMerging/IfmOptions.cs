namespace Priori.Similarity;

/// <summary>How the weights of two merged features are combined.</summary>
public enum MergeRule
{
    /// <summary>Incoming weights, biases and normalisation vectors are summed, outgoing weights averaged by their counts: exact for duplicates where the activation is positively homogeneous (ReLU). The paper's rule.</summary>
    SumInMeanOut,
    /// <summary>Incoming weights are averaged by their counts, outgoing weights summed: exact for duplicates under any activation.</summary>
    MeanInSumOut,
}

/// <summary>How batch normalisation is merged.</summary>
public enum BatchNormMerge
{
    /// <summary>Standard deviations follow the rule of the incoming weights, (sqrt v_m + sqrt v_n)^2 in a sum, so that duplicates keep the function.</summary>
    Exact,
    /// <summary>Variances themselves follow that rule, as in the published code: n merged copies come out sqrt(n) times too large.</summary>
    Reference,
}

/// <summary>What the distance of two features measures.</summary>
public enum DistanceMode
{
    /// <summary>Current weights as they are. Summed features are larger, so the largest distance, and with it the threshold, grows as merging proceeds. As published.</summary>
    Reference,
    /// <summary>Summed weights divided by the number of features they hold: merges more at the same beta.</summary>
    CountNormalized,
}

/// <summary>How the inner products of the features are kept up to date.</summary>
public enum GramUpdate
{
    /// <summary>Each merge updates one row and column of its group, and the others by a matrix of low rank: O(n d) a merge.</summary>
    Incremental,
    /// <summary>Every round computes all of them anew, as the published code does: O(n^2 d) a merge. For comparison; the merges are the same.</summary>
    Recomputed,
}

/// <summary>Options of <see cref="IterativeFeatureMerging"/>.</summary>
public sealed record IfmOptions
{
    /// <summary>The threshold: the closest pair of a group is merged while its distance is at most beta times the largest distance in the group. In [0, 1); at 0 only duplicates are merged. Default 0.1; the paper sweeps 0.001 to 0.3.</summary>
    public double Beta { get; init; } = 0.1;

    /// <summary>A group takes part in at most this many rounds, as a fraction of its features. In [0, 1]; default 1, as published.</summary>
    public double MaxRatio { get; init; } = 1;

    /// <summary>Fewest features of a group, at least 1. Default 2.</summary>
    public int MinimumWidth { get; init; } = 2;

    /// <summary>How weights are combined.</summary>
    public MergeRule MergeRule { get; init; } = MergeRule.SumInMeanOut;

    /// <summary>How batch normalisation is merged.</summary>
    public BatchNormMerge BatchNormMerge { get; init; } = BatchNormMerge.Exact;

    /// <summary>What the distance measures.</summary>
    public DistanceMode DistanceMode { get; init; } = DistanceMode.Reference;

    /// <summary>Whether batch normalisation is folded into the layer before it first (<see cref="Nn.BatchNormFolding"/>); needs an architecture. Default false.</summary>
    public bool FoldBatchNorm { get; init; }

    /// <summary>Names of the groups to merge, or beginnings of them that end before a dot (<c>layer3</c>); null: every group that can be. The paper merges all convolutions of VGG and <c>layer3</c> and <c>layer4</c> of residual networks.</summary>
    public IReadOnlyList<string>? Groups { get; init; }

    /// <summary>Parts of names of tensors that distances leave out: projections of shortcuts, as published, under the names of the published code and of torchvision.</summary>
    public IReadOnlyList<string> IgnoredInDistance { get; init; } = ["identity_transform", "downsample"];

    /// <summary>How inner products are kept up to date.</summary>
    public GramUpdate GramUpdate { get; init; } = GramUpdate.Incremental;

    internal void Validate()
    {
        if (Beta is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(Beta), Beta, "Beta must be in [0, 1).");
        if (MaxRatio is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(MaxRatio), MaxRatio, "The ratio of rounds must be in [0, 1].");
        ArgumentOutOfRangeException.ThrowIfLessThan(MinimumWidth, 1);
    }
}
