using Priori.Numerics;

namespace Priori.Interpretability;

/// <summary>How edges become the weights of the graph in which modules are sought.</summary>
public enum EdgeTransform
{
    /// <summary>E.</summary>
    Identity,

    /// <summary>sqrt(E).</summary>
    Sqrt,

    /// <summary>E divided by the sum of its section.</summary>
    AbsSum,

    /// <summary>E divided by the largest of its section.</summary>
    Max,

    /// <summary>max(0, log10(E / eps)), with one resolution eps: the cost of an interaction grows with the log of its strength.</summary>
    Log,

    /// <summary>The same with a resolution for each section.</summary>
    LogPerLayer,
}

/// <summary>Modules of an interaction graph.</summary>
/// <param name="Modules">Module of each direction, by node layer.</param>
/// <param name="Modularity">Q of this division.</param>
public sealed record ModulePartition(IReadOnlyList<int[]> Modules, double Modularity);

/// <summary>Modules of a network: groups of directions, over all layers, that interact among themselves (Bushnaq et al., 2024, section 5), found by maximising Newman's modularity with the Leiden algorithm.</summary>
public static class ModularityAnalysis
{
    /// <summary>The transformed edges.</summary>
    /// <param name="edges">E, at least 0.</param>
    /// <param name="transform">The transform.</param>
    /// <param name="resolution">eps of the logarithms, above 0; 1e-5.</param>
    /// <exception cref="ArgumentOutOfRangeException">The resolution is not above 0.</exception>
    public static Tensor Transform(Tensor edges, EdgeTransform transform, double resolution = 1e-5)
    {
        ArgumentNullException.ThrowIfNull(edges);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(resolution);
        using var scope = NewDisposeScope();
        Tensor transformed = transform switch
        {
            EdgeTransform.Identity => edges.clone(),
            EdgeTransform.Sqrt => edges.sqrt(),
            EdgeTransform.AbsSum => edges / edges.abs().sum().clamp_min(double.Epsilon),
            EdgeTransform.Max => edges / edges.max().clamp_min(double.Epsilon),
            _ => (edges / resolution).clamp_min(1e-300).log10().clamp_min(0),
        };
        return transformed.MoveToOuterDisposeScope();
    }

    /// <summary>Divides all directions of all node layers into modules. Constants take no part.</summary>
    /// <param name="graph">Bases and edges.</param>
    /// <param name="transform">The transform of the edges; the logarithm by default.</param>
    /// <param name="resolutions">eps of each section (<see cref="AblationStudy.Resolution"/>); 1e-5 for all when null. <see cref="EdgeTransform.Log"/> takes the smallest for all.</param>
    /// <param name="gamma">Resolution of the modularity, above 0.</param>
    /// <param name="seed">Seed of the Leiden algorithm.</param>
    /// <exception cref="ArgumentException">The graph has no edges, or there are not as many resolutions as sections.</exception>
    public static ModulePartition Detect(InteractionGraph graph, EdgeTransform transform = EdgeTransform.Log, IReadOnlyList<double>? resolutions = null, double gamma = 1, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(graph);
        if (graph.Edges.Count == 0) throw new ArgumentException("The interaction graph has no edges; compute it with edges.", nameof(graph));
        resolutions ??= [.. Enumerable.Repeat(1e-5, graph.Edges.Count)];
        if (resolutions.Count != graph.Edges.Count) throw new ArgumentException($"{resolutions.Count} resolutions for {graph.Edges.Count} sections.", nameof(resolutions));
        int[] first = [0, .. graph.Layers.Select(l => l.Size)];
        for (int l = 1; l < first.Length; l++) first[l] += first[l - 1];
        var weighted = new WeightedGraph(first[^1]);
        for (int e = 0; e < graph.Edges.Count; e++)
        {
            EdgeMatrix edge = graph.Edges[e];
            using Tensor weights = Transform(edge.Weights, transform, transform == EdgeTransform.Log ? resolutions.Min() : resolutions[e]);
            double[] flat = weights.contiguous().data<double>().ToArray();
            int inputs = graph.Layers[edge.From].Size;
            for (int k = 0; k < flat.Length; k++) weighted.Add(first[edge.From] + k % inputs, first[edge.From + 1] + k / inputs, flat[k]);
        }
        int[] communities = Leiden.Communities(weighted, gamma, seed: seed);
        return new ModulePartition([.. graph.Layers.Select((l, i) => communities[first[i]..first[i + 1]])], Leiden.Modularity(weighted, communities, gamma));
    }
}
