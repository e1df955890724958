using Priori.Nn;

namespace Priori.Similarity;

/// <summary>
/// Iterative feature merging (Chen, Zhou, Yan, ICLR 2024, section 4): two features of a layer whose incoming and outgoing weights are close are functionally equivalent and become one, without data and
/// without training. Every round merges the closest pair of each group while its distance is at most beta times the group's largest; features left are the layer's complexity, the result is a narrower network.
/// </summary>
public static class IterativeFeatureMerging
{
    /// <summary>Merges the features of a network. Residual streams are one group; groups that layer normalisation mixes and, with <see cref="MergeRule.SumInMeanOut"/>, attention heads are left out.</summary>
    /// <param name="architecture">The network.</param>
    /// <param name="state">Its tensors by name.</param>
    /// <param name="options">Options; defaults when null.</param>
    /// <exception cref="ArgumentException">An option is out of range, a tensor is missing or of another shape or not finite, or a group has one feature.</exception>
    public static IfmResult Run(Architecture architecture, IReadOnlyDictionary<string, Tensor> state, IfmOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        ArgumentNullException.ThrowIfNull(state);
        options ??= new IfmOptions();
        using var scope = NewDisposeScope();
        if (options.FoldBatchNorm) (architecture, state) = BatchNormFolding.Fold(architecture, state);
        PermutationSpec spec = architecture.Wiring();
        IReadOnlyDictionary<string, string> units = architecture.UnitGroups();
        HashSet<string> heads = [.. architecture.Layers.Where(l => l.Kind == LayerKind.Attention && units.ContainsKey(l.Name)).Select(l => units[l.Name])];
        IReadOnlyList<string>? groups = options.Groups is null && options.MergeRule == MergeRule.SumInMeanOut && heads.Count > 0
            ? [.. spec.Groups.Where(g => !g.Inseparable && !heads.Contains(g.Name)).Select(g => g.Name)] : options.Groups;
        IfmResult result = Run(state, spec, options with { FoldBatchNorm = false, Groups = groups });
        foreach (Tensor tensor in result.State.Values) tensor.MoveToOuterDisposeScope();
        return result with { Architecture = architecture.WithWidths(spec, result.WidthByGroup) };
    }

    /// <summary>Merges the features of a checkpoint of which only the wiring is known.</summary>
    /// <param name="state">Tensors by name.</param>
    /// <param name="spec">The wiring: <see cref="Architecture.Wiring"/>, or read from JSON.</param>
    /// <param name="options">Options; defaults when null.</param>
    /// <exception cref="ArgumentException">An option is out of range, a tensor is missing or does not fit or is not finite, or a group has one feature.</exception>
    public static IfmResult Run(IReadOnlyDictionary<string, Tensor> state, PermutationSpec spec, IfmOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(spec);
        options ??= new IfmOptions();
        options.Validate();
        if (options.FoldBatchNorm) throw new ArgumentException("Folding batch normalisation needs an architecture; this checkpoint has a wiring only.", nameof(options));
        spec.Validate(state);
        PermutationGroup[] groups = Selected(spec, options);
        foreach (PermutationGroup group in groups)
        {
            if (group.Size < 2) throw new ArgumentException($"Group '{group.Name}' has one feature, which has none to be merged with; leave it out.", nameof(spec));
            foreach (PermutationAxis axis in group.Axes)
                if (!state[axis.Tensor].isfinite().all().item<bool>()) throw new ArgumentException($"Tensor '{axis.Tensor}' holds numbers that are not finite.", nameof(state));
        }
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        var tensors = state.ToDictionary(p => p.Key, p => groups.Any(g => g.Axes.Any(a => a.Tensor == p.Key)) ? p.Value.detach().cpu().to(float64).contiguous().clone() : p.Value.detach());
        (Dictionary<string, int[][]> members, List<MergeStep> log) = options.GramUpdate == GramUpdate.Incremental
            ? new IncrementalMerging(tensors, spec, groups, options).Run() : PublishedMerging.Run(tensors, groups, options);
        var widths = members.ToDictionary(m => m.Key, m => (long)m.Value.Length);
        var merged = tensors.ToDictionary(t => t.Key, t => t.Value.to(state[t.Key].dtype, state[t.Key].device, copy: true).MoveToOuterDisposeScope());
        return new IfmResult(merged, spec.WithSizes(widths), widths, members, log);
    }

    /// <summary>Layers under which merged features do not keep the function with a rule, even where they are duplicates: activations that are not positively homogeneous between summed and averaged weights.</summary>
    /// <param name="architecture">The network.</param>
    /// <param name="rule">The rule.</param>
    /// <returns>One sentence a layer; empty when there are none.</returns>
    public static IReadOnlyList<string> Warnings(Architecture architecture, MergeRule rule)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        if (rule == MergeRule.MeanInSumOut) return [];
        IReadOnlyDictionary<string, string> units = architecture.UnitGroups();
        return [.. architecture.Layers.Where(l => l.Kind is LayerKind.Tanh or LayerKind.Gelu or LayerKind.Silu && units.ContainsKey(l.Name))
            .Select(l => $"Layer '{l.Name}' ({l.Kind}) is not positively homogeneous: merging group '{units[l.Name]}' by sums changes the function even of duplicates; use {nameof(MergeRule.MeanInSumOut)}.")];
    }

    private static PermutationGroup[] Selected(PermutationSpec spec, IfmOptions options)
    {
        if (options.Groups is null) return [.. spec.Groups.Where(g => !g.Inseparable)];
        bool Matches(PermutationGroup group, string name) => group.Name == name || group.Name.StartsWith(name + ".", StringComparison.Ordinal);
        if (options.Groups.FirstOrDefault(name => !spec.Groups.Any(g => Matches(g, name))) is { } unknown)
            throw new ArgumentException($"The wiring has no group '{unknown}'; it has: {string.Join(", ", spec.Groups.Select(g => g.Name))}.", nameof(options));
        PermutationGroup[] selected = [.. spec.Groups.Where(g => options.Groups.Any(name => Matches(g, name)))];
        return selected.FirstOrDefault(g => g.Inseparable) is { } mixed ? throw new ArgumentException($"Group '{mixed.Name}' is mixed by layer normalisation and cannot be merged.", nameof(options)) : selected;
    }
}
