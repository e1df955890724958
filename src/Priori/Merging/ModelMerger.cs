using Priori.Data;
using Priori.Nn;

namespace Priori.Merging;

/// <summary>Ways to make one network of two.</summary>
public enum MergeMethod
{
    /// <summary>Averages weights without alignment.</summary>
    SimpleAverage,
    /// <summary>Git Re-Basin: aligns the units, then averages (PLeaS without separate units and without least squares).</summary>
    GitReBasin,
    /// <summary>RegMean (Jin et al., ICLR 2023): least squares on both networks' features without alignment.</summary>
    RegMean,
    /// <summary>Aligns and merges partially under the budget, without least squares.</summary>
    PartialMerge,
    /// <summary>PLeaS: aligns, merges partially, fits every layer by permuted least squares.</summary>
    Pleas,
    /// <summary>Ablation: least squares on separate rows of A and B.</summary>
    PermSeparateLs,
    /// <summary>Ablation: averaged features, separate targets.</summary>
    PermMixedLs,
    /// <summary>Both networks side by side in one: the average of their logits at twice the cost.</summary>
    Ensemble,
}

/// <summary>How units are aligned.</summary>
public enum MatchingMethod
{
    /// <summary>By distances of activations; needs inputs.</summary>
    Activations,
    /// <summary>By inner products of activations; needs inputs.</summary>
    ActivationInnerProducts,
    /// <summary>By weights; needs no inputs.</summary>
    Weights,
}

/// <summary>How the budget is spent over the layers.</summary>
public enum BudgetAllocationMethod
{
    /// <summary>By leave-one-out weights (<see cref="BudgetAllocator.Allocate"/>); the accuracy in them is agreement with the originals' own predictions, so no labels are used.</summary>
    Optimized,
    /// <summary>First layers merged, last layers separate.</summary>
    Zip,
    /// <summary>The same ratio everywhere.</summary>
    Uniform,
}

/// <summary>Settings of <see cref="ModelMerger"/>.</summary>
public sealed record MergeOptions
{
    /// <summary>The method.</summary>
    public MergeMethod Method { get; init; } = MergeMethod.Pleas;

    /// <summary>Allowed FLOPs of the merged network relative to one original, in [1, 2].</summary>
    public double Budget { get; init; } = 1;

    /// <summary>Ratios of separate units by the group's name; they replace the budget.</summary>
    public IReadOnlyDictionary<string, double>? Ratios { get; init; }

    /// <summary>How a budget between 1 and 2 is spent.</summary>
    public BudgetAllocationMethod Allocation { get; init; } = BudgetAllocationMethod.Optimized;

    /// <summary>How units are aligned.</summary>
    public MatchingMethod Matching { get; init; } = MatchingMethod.Activations;

    /// <summary>Settings of the least squares; the method sets the target.</summary>
    public LeastSquaresOptions LeastSquares { get; init; } = new();

    /// <summary>Inputs a batch in activation matching and in the batch normalisation reset.</summary>
    public int BatchSize { get; init; } = 32;

    /// <summary>Most batches in activation matching and in the batch normalisation reset; 100 in the published code.</summary>
    public int MaxBatches { get; init; } = 100;

    /// <summary>Whether running statistics of batch normalisation are estimated anew when there are inputs.</summary>
    public bool ResetBatchNorm { get; init; } = true;

    /// <summary>Seed of all random orders.</summary>
    public int Seed { get; init; }
}

/// <summary>A merged network.</summary>
/// <param name="Architecture">Its description, with the new widths.</param>
/// <param name="State">Its tensors by name, on the inputs' device.</param>
/// <param name="Ratios">Realised fraction of separate units by the group's name.</param>
/// <param name="Match">The alignment.</param>
/// <param name="Partitions">The split of each group.</param>
/// <param name="LayerLosses">Losses of the least squares; empty for methods without.</param>
/// <param name="FlopsFactor">FLOPs relative to one original at the realised ratios.</param>
public sealed record MergeResult(
    Architecture Architecture, Dictionary<string, Tensor> State, IReadOnlyDictionary<string, double> Ratios, MatchResult Match,
    IReadOnlyDictionary<string, UnitPartition> Partitions, IReadOnlyList<LayerLoss> LayerLosses, double FlopsFactor)
{
    /// <summary>The merged network in evaluation mode, on the device of its tensors.</summary>
    public Network ToNetwork() => ModelMerger.Load(Architecture, State);
}

/// <summary>
/// Merges two trained networks of one architecture into one network of a chosen size (Nasery, Hayase, Koh and Oh, PLeaS - Merging Models with Permutations
/// and Least Squares, CVPR 2025), with the published baselines. No labels are used.
/// </summary>
public static class ModelMerger
{
    private const int ProxyInputs = 512;

    /// <summary>Merges two networks with the same label space; the merged network's logits stand for the average of the two.</summary>
    /// <param name="architecture">The architecture of both.</param>
    /// <param name="a">Checkpoint A.</param>
    /// <param name="b">Checkpoint B.</param>
    /// <param name="inputs">Unlabelled inputs [n, ...] of the domains of both, or public ones; null only for methods that need none.</param>
    /// <param name="options">Settings; null for the defaults (PLeaS at the cost of one network).</param>
    /// <exception cref="ArgumentException">A checkpoint does not fit the architecture, there are no inputs for a method that needs them, or a ratio or the budget is outside its range.</exception>
    public static MergeResult Merge(Architecture architecture, IReadOnlyDictionary<string, Tensor> a, IReadOnlyDictionary<string, Tensor> b, Tensor? inputs, MergeOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        options ??= new MergeOptions();
        PermutationSpec spec = architecture.Wiring();
        using Network networkA = Load(architecture, a, inputs?.device), networkB = Load(architecture, b, inputs?.device);
        Merged merged = Merge(networkA, networkB, spec, inputs, options, (candidate, probe) =>
        {
            Tensor ensemble = networkA.call(probe) + networkB.call(probe);
            using Network network = Load(candidate.Architecture, candidate.State);
            if (options.ResetBatchNorm) BatchNormReset.Run(network, probe, options.BatchSize, options.MaxBatches, options.Seed);
            return Agreement(network.call(probe), ensemble);
        });
        return Finish(merged, merged.Architecture, merged.State, inputs, options, FlopCounter.Terms(architecture, spec));
    }

    /// <summary>
    /// Merges two or more networks with the same label space at the cost of one. Two are merged as <see cref="Merge(Architecture, IReadOnlyDictionary{string, Tensor}, IReadOnlyDictionary{string, Tensor}, Tensor?, MergeOptions?)"/> does.
    /// Of more, which the paper does not treat, all are aligned with the first, every unit is merged, and the least squares fit the ensemble of all.
    /// </summary>
    /// <param name="architecture">The architecture of all.</param>
    /// <param name="states">The checkpoints, at least two.</param>
    /// <param name="inputs">Unlabelled inputs [n, ...]; null only for methods that need none.</param>
    /// <param name="options">Settings; null for the defaults. More than two networks take the budget 1 and no ratios.</param>
    /// <exception cref="ArgumentException">There are fewer than two checkpoints, or as for two networks.</exception>
    public static MergeResult Merge(Architecture architecture, IReadOnlyList<IReadOnlyDictionary<string, Tensor>> states, Tensor? inputs, MergeOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        ArgumentNullException.ThrowIfNull(states);
        options ??= new MergeOptions();
        if (states.Count < 2) throw new ArgumentException($"Merging takes at least two checkpoints, not {states.Count}.", nameof(states));
        if (states.Count == 2) return Merge(architecture, states[0], states[1], inputs, options);
        if (options.Budget != 1 || options.Ratios is not null || options.Method is MergeMethod.PartialMerge or MergeMethod.Ensemble)
            throw new ArgumentException($"Only two networks can be merged partially; {states.Count} are merged whole: budget 1, no ratios, and another method than {options.Method}.", nameof(options));
        PermutationSpec spec = architecture.Wiring();
        IReadOnlyList<IReadOnlyDictionary<string, Tensor>> aligned = IsAligned(options.Method) ? Align(architecture, states, inputs, options) : states;
        Network[] networks = [.. aligned.Select(s => Load(architecture, s, inputs?.device))];
        try
        {
            Dictionary<string, Tensor> state = StateDict.Combine([.. networks.Select(n => (1.0 / networks.Length, (IReadOnlyDictionary<string, Tensor>)n.State()))]).ToDictionary();
            IReadOnlyList<LayerLoss> losses = [];
            if (Target(options.Method) is { } target)
                (state, losses) = PermutedLeastSquares.Fit(networks, spec, state, inputs!, options.LeastSquares with { Target = target });
            MatchResult identity = MatchResult.Identity(spec);
            return Finish(new Merged(architecture, state, identity, PartialMerge.Partition(spec, identity, PartialMerge.Uniform(spec, 0)), losses), architecture, state, inputs, options, FlopCounter.Terms(architecture, spec));
        }
        finally
        {
            foreach (Network network in networks) network.Dispose();
        }
    }

    /// <summary>Reorders the units of all networks but the first so that they correspond to the first one's; the functions are unchanged.</summary>
    /// <param name="architecture">The architecture of all.</param>
    /// <param name="states">The checkpoints.</param>
    /// <param name="inputs">Unlabelled inputs [n, ...]; null when weights are matched.</param>
    /// <param name="options">How units are aligned; null for the defaults.</param>
    /// <returns>The checkpoints, the first as given.</returns>
    /// <exception cref="ArgumentException">A checkpoint does not fit the architecture, or there are no inputs for a matching that needs them.</exception>
    public static IReadOnlyList<IReadOnlyDictionary<string, Tensor>> Align(Architecture architecture, IReadOnlyList<IReadOnlyDictionary<string, Tensor>> states, Tensor? inputs, MergeOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        ArgumentNullException.ThrowIfNull(states);
        options ??= new MergeOptions();
        PermutationSpec spec = architecture.Wiring();
        if (states.Count == 0) return [];
        using Network first = Load(architecture, states[0], inputs?.device);
        var aligned = new List<IReadOnlyDictionary<string, Tensor>> { states[0] };
        foreach (IReadOnlyDictionary<string, Tensor> state in states.Skip(1))
        {
            using Network other = Load(architecture, state, inputs?.device);
            aligned.Add(spec.Permute(state, Match(first, other, spec, inputs, options).Permutations));
        }
        return aligned;
    }

    /// <summary>
    /// Merges two networks with different label spaces: the trunks are merged, each head stays. The merged network gives A's logits followed by B's.
    /// The last layer of both must be linear; everything before it must be the same.
    /// </summary>
    /// <param name="architectureA">Architecture of A.</param>
    /// <param name="a">Checkpoint A.</param>
    /// <param name="architectureB">Architecture of B; only the head's width may differ.</param>
    /// <param name="b">Checkpoint B.</param>
    /// <param name="inputs">Unlabelled inputs [n, ...].</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>The merged network with layers <c>{head}_a</c>, <c>{head}_b</c> and their concatenation; see <see cref="HeadNames"/>.</returns>
    /// <exception cref="ArgumentException">The trunks differ, or as for networks with the same label space.</exception>
    public static MergeResult MergeTrunks(
        Architecture architectureA, IReadOnlyDictionary<string, Tensor> a, Architecture architectureB, IReadOnlyDictionary<string, Tensor> b, Tensor? inputs, MergeOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(architectureA);
        ArgumentNullException.ThrowIfNull(architectureB);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        options ??= new MergeOptions();
        Architecture trunk = architectureA.Trunk();
        if (trunk.ToJson() != architectureB.Trunk().ToJson()) throw new ArgumentException("The architectures differ before their heads.", nameof(architectureB));
        Layer headA = architectureA.Layers[^1], headB = architectureB.Layers[^1];
        PermutationSpec spec = trunk.Wiring(fixOutput: false);
        PermutationGroup? features = spec.Groups.FirstOrDefault(g => g.Sites.Contains(PermutationGroup.OutputSite));
        Dictionary<string, Tensor> TrunkOf(IReadOnlyDictionary<string, Tensor> state, Layer head) => state.Where(p => p.Key != $"{head.Name}.weight" && p.Key != $"{head.Name}.bias").ToDictionary();
        using Network fullA = Load(architectureA, a, inputs?.device), fullB = Load(architectureB, b, inputs?.device);
        using Network networkA = Load(trunk, TrunkOf(a, headA), inputs?.device), networkB = Load(trunk, TrunkOf(b, headB), inputs?.device);

        (Architecture, Dictionary<string, Tensor>) WithHeads(Merged merged)
        {
            (string nameA, string nameB) = HeadNames(headA.Name);
            string feature = merged.Architecture.Layers[^1].Name;
            var state = merged.State.ToDictionary();
            foreach ((Layer head, string name, MergeSource source, Network full) in new[] { (headA, nameA, MergeSource.A, fullA), (headB, nameB, MergeSource.B, fullB) })
            {
                Dictionary<string, Tensor> own = full.State();
                state[$"{name}.weight"] = SeparateHeads.FoldHead(own[$"{head.Name}.weight"], features is null ? null : merged.Partitions[features.Name], source);
                if (head.Bias) state[$"{name}.bias"] = own[$"{head.Name}.bias"];
            }
            Layer[] layers =
            [
                .. merged.Architecture.Layers,
                headA with { Name = nameA, Inputs = [feature] },
                headB with { Name = nameB, Inputs = [feature] },
                new Layer("logits", LayerKind.Concat) { Inputs = [nameA, nameB] },
            ];
            return (merged.Architecture with { Layers = layers }, state);
        }

        Merged merged = Merge(networkA, networkB, spec, inputs, options, (candidate, probe) =>
        {
            (Architecture architecture, Dictionary<string, Tensor> state) = WithHeads(candidate);
            using Network network = Load(architecture, state);
            if (options.ResetBatchNorm) BatchNormReset.Run(network, probe, options.BatchSize, options.MaxBatches, options.Seed);
            Tensor logits = network.call(probe);
            return (Agreement(logits.narrow(1, 0, headA.Width), fullA.call(probe)) + Agreement(logits.narrow(1, headA.Width, headB.Width), fullB.call(probe))) / 2;
        });
        (Architecture final, Dictionary<string, Tensor> tensors) = WithHeads(merged);
        return Finish(merged, final, tensors, inputs, options, FlopCounter.Terms(trunk, spec));
    }

    /// <summary>Names of the two heads of <see cref="MergeTrunks"/>, given the original head's name.</summary>
    /// <param name="head">Name of the head in A's architecture.</param>
    public static (string A, string B) HeadNames(string head) => ($"{head}_a", $"{head}_b");

    internal static Network Load(Architecture architecture, IReadOnlyDictionary<string, Tensor> state, Device? device = null)
    {
        ArgumentNullException.ThrowIfNull(state);
        var network = new Network(architecture);
        if (state.Values.Any(t => t.dtype == ScalarType.Float64)) network.to(ScalarType.Float64);
        network.Load(state).eval();
        if ((device ?? state.Values.FirstOrDefault()?.device) is { } target) network.to(target);
        return network;
    }

    private sealed record Merged(Architecture Architecture, Dictionary<string, Tensor> State, MatchResult Match, IReadOnlyDictionary<string, UnitPartition> Partitions, IReadOnlyList<LayerLoss> Losses);

    private static Merged Merge(Network a, Network b, PermutationSpec spec, Tensor? inputs, MergeOptions options, Func<Merged, Tensor, double> fidelity)
    {
        if (options.Budget is not (>= 1 and <= 2)) throw new ArgumentOutOfRangeException(nameof(options), options.Budget, "The budget must be in [1, 2].");
        Dictionary<string, Tensor> stateA = a.State(), stateB = b.State();
        MatchResult match = IsAligned(options.Method) ? Match(a, b, spec, inputs, options) : MatchResult.Identity(spec);
        Merged Partial(IReadOnlyDictionary<string, double> ratios)
        {
            IReadOnlyDictionary<string, UnitPartition> partitions = PartialMerge.Partition(spec, match, ratios);
            Architecture architecture = a.Architecture.WithWidths(spec, partitions.ToDictionary(p => p.Key, p => p.Value.Size));
            return new Merged(architecture, PartialMerge.Build(spec, stateA, stateB, partitions), match, partitions, []);
        }
        Merged merged = Partial(Ratios(a.Architecture, spec, inputs, options, (ratios, probe) =>
        {
            using var scope = NewDisposeScope();
            using var _ = no_grad();
            return fidelity(Partial(ratios), probe);
        }));
        LeastSquaresTarget? target = Target(options.Method);
        if (target is null) return merged;
        (Dictionary<string, Tensor> state, IReadOnlyList<LayerLoss> losses) =
            PermutedLeastSquares.Fit(a, b, spec, merged.Partitions, merged.State, inputs!, options.LeastSquares with { Target = target.Value });
        return merged with { State = state, Losses = losses };
    }

    private static bool IsAligned(MergeMethod method) => method is not (MergeMethod.SimpleAverage or MergeMethod.RegMean or MergeMethod.Ensemble);

    private static MatchResult Match(Network a, Network b, PermutationSpec spec, Tensor? inputs, MergeOptions options) => options.Matching == MatchingMethod.Weights
        ? WeightMatching.Match(spec, a.State(), b.State(), seed: options.Seed)
        : ActivationMatching.Match(a, b, spec, inputs!, options.Matching == MatchingMethod.Activations ? ActivationSimilarity.Distance : ActivationSimilarity.InnerProduct, options.BatchSize, options.MaxBatches, options.Seed);

    private static LeastSquaresTarget? Target(MergeMethod method) => method switch
    {
        MergeMethod.Pleas => LeastSquaresTarget.Averaged,
        MergeMethod.RegMean or MergeMethod.PermSeparateLs => LeastSquaresTarget.Separate,
        MergeMethod.PermMixedLs => LeastSquaresTarget.Mixed,
        _ => null,
    };

    private static Dictionary<string, double> Ratios(Architecture architecture, PermutationSpec spec, Tensor? inputs, MergeOptions options, Func<IReadOnlyDictionary<string, double>, Tensor, double> fidelity)
    {
        string[] groups = [.. spec.Groups.Where(g => !g.Inseparable).Select(g => g.Name)];
        switch (options.Method)
        {
            case MergeMethod.SimpleAverage or MergeMethod.GitReBasin or MergeMethod.RegMean: return PartialMerge.Uniform(spec, 0);
            case MergeMethod.Ensemble when groups.Length < spec.Groups.Count: throw new ArgumentException("Layer normalisation mixes the units of a residual stream, so the two networks cannot stand side by side in one.");
            case MergeMethod.Ensemble: return PartialMerge.Uniform(spec, 1);
        }
        if (options.Ratios is not null) return options.Ratios.ToDictionary();
        if (options.Budget == 1) return PartialMerge.Uniform(spec, 0);
        if (options.Budget == 2) return PartialMerge.Uniform(spec, 1);
        IReadOnlyList<FlopTerm> terms = FlopCounter.Terms(architecture, spec);
        IReadOnlyDictionary<string, double> ratios = options.Allocation switch
        {
            BudgetAllocationMethod.Uniform => BudgetAllocator.Uniform(terms, groups, options.Budget),
            BudgetAllocationMethod.Zip => BudgetAllocator.Zip(terms, groups, options.Budget),
            _ => BudgetAllocator.Allocate(terms, ProxyWeights(spec, groups, inputs, options, fidelity), options.Budget).Ratios,
        };
        return spec.Groups.ToDictionary(g => g.Name, g => WholeUnits(ratios.GetValueOrDefault(g.Name), g.Size));
    }

    private static Dictionary<string, double> ProxyWeights(PermutationSpec spec, string[] groups, Tensor? inputs, MergeOptions options, Func<IReadOnlyDictionary<string, double>, Tensor, double> fidelity)
    {
        Calibration.Require(inputs, "Optimizing the budget");
        long[] rows = Calibration.Batches(inputs!.shape[0], (int)Math.Min(ProxyInputs, inputs.shape[0]), 1, options.Seed).First();
        using Tensor probe = inputs.index_select(0, tensor(rows, device: inputs.device));
        Dictionary<string, double> none = PartialMerge.Uniform(spec, 0), all = PartialMerge.Uniform(spec, 1);
        Dictionary<string, double> Flip(Dictionary<string, double> ratios, string group, double ratio) => new(ratios) { [group] = ratio };
        return BudgetAllocator.Weights(
            groups.ToDictionary(g => g, g => fidelity(Flip(none, g, 1), probe)),
            groups.ToDictionary(g => g, g => fidelity(Flip(all, g, 0), probe)),
            fidelity(none, probe), fidelity(all, probe), options.Budget);
    }

    // The ratio whose quantile splits off floor(r * size) units, so that the budget holds in whole units.
    private static double WholeUnits(double ratio, long size)
    {
        long separate = (long)Math.Floor(ratio * size + 1e-9);
        if (separate == size || separate == 0) return separate == 0 ? 0 : 1;
        while (separate > 0 && separate / (size - 1.0) >= 1 - 1e-3) separate--;
        return separate / (size - 1.0);
    }

    private static double Agreement(Tensor logits, Tensor reference) => logits.argmax(1).eq(reference.argmax(1)).to(float64).mean().item<double>();

    private static MergeResult Finish(Merged merged, Architecture architecture, Dictionary<string, Tensor> state, Tensor? inputs, MergeOptions options, IReadOnlyList<FlopTerm> terms)
    {
        if (options.ResetBatchNorm && inputs is not null)
        {
            using Network network = Load(architecture, state);
            if (BatchNormReset.Run(network, inputs, options.BatchSize, options.MaxBatches, options.Seed) > 0) state = network.State();
        }
        var ratios = merged.Partitions.ToDictionary(p => p.Key, p => p.Value.Ratio);
        return new MergeResult(architecture, state, ratios, merged.Match, merged.Partitions, merged.Losses, BudgetAllocator.Flops(terms, ratios) / BudgetAllocator.Flops(terms, new Dictionary<string, double>()));
    }
}
