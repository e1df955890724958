using Priori.Nn;

namespace Priori.Similarity;

/// <summary>The feature complexity of a group at a threshold (section 4): the features left when functionally equivalent ones are merged.</summary>
/// <param name="Beta">The threshold.</param>
/// <param name="Group">Name of the group.</param>
/// <param name="Features">Features left.</param>
/// <param name="Size">Features before.</param>
public sealed record FeatureComplexity(double Beta, string Group, long Features, long Size)
{
    /// <summary>Features left as a fraction of those before.</summary>
    public double Ratio => Features / (double)Size;

    /// <summary>The complexity of every group at every threshold; each threshold starts from the given weights.</summary>
    /// <param name="state">Tensors by name.</param>
    /// <param name="spec">The wiring.</param>
    /// <param name="betas">Thresholds, each in [0, 1).</param>
    /// <param name="options">Further options; defaults when null.</param>
    /// <exception cref="ArgumentException">As <see cref="IterativeFeatureMerging.Run(IReadOnlyDictionary{string, Tensor}, PermutationSpec, IfmOptions?)"/>.</exception>
    public static IReadOnlyList<FeatureComplexity> Profile(IReadOnlyDictionary<string, Tensor> state, PermutationSpec spec, IReadOnlyList<double> betas, IfmOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(betas);
        var profile = new List<FeatureComplexity>();
        foreach (double beta in betas)
        {
            using var scope = NewDisposeScope();
            profile.AddRange(Of(beta, IterativeFeatureMerging.Run(state, spec, (options ?? new IfmOptions()) with { Beta = beta })));
        }
        return profile;
    }

    /// <summary>The complexity of every group of one result.</summary>
    /// <param name="beta">The threshold it was merged at.</param>
    /// <param name="result">The result.</param>
    public static IReadOnlyList<FeatureComplexity> Of(double beta, IfmResult result)
    {
        ArgumentNullException.ThrowIfNull(result);
        return [.. result.Groups.Select(g => new FeatureComplexity(beta, g.Key, g.Value.Length, g.Value.Sum(f => f.Length)))];
    }
}
