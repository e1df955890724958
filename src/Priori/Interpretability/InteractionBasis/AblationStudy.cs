namespace Priori.Interpretability;

/// <summary>
/// The proof that what a basis drops does not matter (Bushnaq et al., The Local Interaction Basis, 2024, section 5): directions or edges are taken away, least important first, and the network is run
/// on what is left. Outputs are those of the last node layer.
/// </summary>
public sealed class AblationStudy
{
    private readonly SectionedModel _model;
    private readonly InteractionGraph _graph;
    private readonly IReadOnlyList<Tensor> _activations;
    private readonly Func<Tensor, double> _metric;
    private const int ChunkElements = 1 << 22;

    /// <summary>Prepares a study.</summary>
    /// <param name="model">The network.</param>
    /// <param name="graph">Its bases, and its edges where edges are studied.</param>
    /// <param name="inputs">Inputs on which outputs are compared [n, ...].</param>
    /// <param name="metric">Of the outputs [n, ...], larger is better, for example accuracy.</param>
    public AblationStudy(SectionedModel model, InteractionGraph graph, Tensor inputs, Func<Tensor, double> metric)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(graph);
        ArgumentNullException.ThrowIfNull(metric);
        (_model, _graph, _metric) = (model, graph, metric);
        _activations = model.Activations(inputs);
        Baseline = metric(_activations[^1]);
    }

    /// <summary>The metric of the whole network.</summary>
    public double Baseline { get; }

    /// <summary>Most directions that a node layer can lose: all but the isolated ones.</summary>
    /// <param name="layer">Index of the node layer.</param>
    public int NodeCount(int layer) => Basis(layer).Size - Basis(layer).Isolated;

    /// <summary>Most edges that a section can lose: all but those from isolated directions.</summary>
    /// <param name="section">Index of the section.</param>
    public int EdgeCount(int section) => (int)EdgeWeights(section).shape[0] * NodeCount(section);

    /// <summary>Outputs when a node layer keeps only its most important directions, for a basis f' = mean + fhat[:k] CPinv[:k]. Isolated ones are kept besides.</summary>
    /// <param name="layer">Index of the node layer.</param>
    /// <param name="kept">Directions kept, 0 to all.</param>
    public Tensor WithNodes(int layer, int kept)
    {
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        LayerBasis basis = Basis(layer);
        ArgumentOutOfRangeException.ThrowIfNegative(kept);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(kept, NodeCount(layer));
        Tensor mask = zeros(basis.Size, basis.C.dtype);
        mask.narrow(0, 0, basis.Isolated).fill_(1);
        // Neurons are not in the order of their importance.
        if (kept > 0) mask.index_fill_(0, basis.Lambda.narrow(0, basis.Isolated, NodeCount(layer)).argsort(descending: true).narrow(0, 0, kept) + basis.Isolated, 1);
        return _model.Continue(layer, basis.Activations(basis.Coordinates(_activations[layer]) * mask)).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Outputs when only the strongest edges of a section are kept. For each direction of the later layer the section is run on the input in which all directions but the kept ones are at their
    /// mean, and that direction's coordinate is read; the constant is always kept.
    /// </summary>
    /// <param name="section">Index of the section.</param>
    /// <param name="kept">Edges kept, 0 to all.</param>
    public Tensor WithEdges(int section, int kept)
    {
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        Tensor weights = EdgeWeights(section);
        ArgumentOutOfRangeException.ThrowIfNegative(kept);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(kept, EdgeCount(section));
        (LayerBasis from, LayerBasis to) = (Basis(section), Basis(section + 1));
        Tensor mask = zeros(EdgeCount(section), weights.dtype);
        if (kept > 0) mask.index_fill_(0, Sorted(weights, from).Indices.narrow(0, 0, kept), 1);
        mask = cat([ones(to.Size, from.Isolated, weights.dtype), mask.view(to.Size, -1)], 1); // [later, earlier]
        Tensor coordinates = from.Coordinates(_activations[section]);
        Func<Tensor, Tensor> run = x => _model.Sections[section](from.Activations(x));
        if (_model.Linear[section] is { } linear)
        {
            // From coordinates through the weights in one product.
            Tensor shift = linear.Weight.matmul(from.Mean);
            var fused = new LinearSection(linear.Weight.matmul(from.CPinv.t()), linear.Bias is null ? shift : shift + linear.Bias, linear.Relu);
            run = fused.Apply;
        }
        var parts = new List<Tensor>();
        long perRow = Math.Max(1, coordinates.numel() / coordinates.shape[0]) * to.Size, rows = Math.Max(1, ChunkElements / Math.Max(1, perRow));
        for (long start = 0; start < coordinates.shape[0]; start += rows)
        {
            using var chunk = NewDisposeScope();
            Tensor few = coordinates.narrow(0, start, Math.Min(rows, coordinates.shape[0] - start));
            // One copy of the rows for each direction of the later layer, of which only that direction's coordinate is read.
            Tensor copies = few.unsqueeze(0) * (few.dim() == 2 ? mask.unsqueeze(1) : mask.unsqueeze(1).unsqueeze(1));
            Tensor reached = run(copies.flatten(0, 1)) - to.Mean;
            reached = reached.reshape([to.Size, -1, to.C.shape[0]]).bmm(to.C.t().unsqueeze(2)).reshape([to.Size, few.shape[0], .. reached.shape[1..^1]]);
            parts.Add((reached.dim() == 2 ? reached.t() : reached.permute(1, 2, 0)).contiguous().MoveToOuterDisposeScope());
        }
        return _model.Continue(section + 1, to.Activations(cat(parts, 0))).MoveToOuterDisposeScope();
    }

    /// <summary>The metric against the number of leading directions kept.</summary>
    /// <param name="layer">Index of the node layer.</param>
    /// <param name="counts">Numbers of directions.</param>
    public double[] NodeCurve(int layer, IEnumerable<int> counts)
    {
        ArgumentNullException.ThrowIfNull(counts);
        return [.. counts.Select(k => Measured(WithNodes(layer, k)))];
    }

    /// <summary>The metric against the number of edges kept.</summary>
    /// <param name="section">Index of the section.</param>
    /// <param name="counts">Numbers of edges.</param>
    public double[] EdgeCurve(int section, IEnumerable<int> counts)
    {
        ArgumentNullException.ThrowIfNull(counts);
        return [.. counts.Select(k => Measured(WithEdges(section, k)))];
    }

    /// <summary>Fewest leading directions with which the metric is within a tolerance of the whole network's.</summary>
    /// <param name="layer">Index of the node layer.</param>
    /// <param name="tolerance">At least 0; 0.001 in the published runs.</param>
    public int NodesNeeded(int layer, double tolerance) => Fewest(NodeCount(layer), k => Measured(WithNodes(layer, k)), tolerance);

    /// <summary>Fewest edges with which the metric is within a tolerance of the whole network's, found by bisection.</summary>
    /// <param name="section">Index of the section.</param>
    /// <param name="tolerance">At least 0; 0.001 in the published runs.</param>
    public int EdgesNeeded(int section, double tolerance) => Fewest(EdgeCount(section), k => Measured(WithEdges(section, k)), tolerance);

    /// <summary>The weakest of the strongest edges of a section: with the number that is needed, the resolution below which interactions do not matter.</summary>
    /// <param name="section">Index of the section.</param>
    /// <param name="edges">How many are looked at, 1 to all.</param>
    public double WeakestOf(int section, int edges)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(edges, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(edges, EdgeCount(section));
        using var scope = NewDisposeScope();
        return Sorted(EdgeWeights(section), Basis(section)).Values[edges - 1].ToDouble();
    }

    /// <summary>The smallest edge of a section that is needed at a tolerance; the largest where none is.</summary>
    /// <param name="section">Index of the section.</param>
    /// <param name="tolerance">At least 0.</param>
    public double Resolution(int section, double tolerance) => WeakestOf(section, Math.Max(1, EdgesNeeded(section, tolerance)));

    private double Measured(Tensor outputs)
    {
        using (outputs) return _metric(outputs);
    }

    // Bisection, as the metric rises with what is kept up to noise; all of it is taken when even that is not enough.
    private int Fewest(int most, Func<int, double> metric, double tolerance)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(tolerance);
        int low = -1, high = most; // low is too few, high is enough
        while (high - low > 1)
        {
            int middle = (low + high) / 2;
            if (metric(middle) >= Baseline - tolerance) high = middle;
            else low = middle;
        }
        return high;
    }

    private static (Tensor Values, Tensor Indices) Sorted(Tensor weights, LayerBasis from) => weights.narrow(1, from.Isolated, from.Size - from.Isolated).flatten().sort(descending: true);

    private LayerBasis Basis(int layer)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layer);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(layer, _graph.Layers.Count);
        return _graph.Layers[layer];
    }

    private Tensor EdgeWeights(int section) => _graph.Edges.FirstOrDefault(e => e.From == section)?.Weights
        ?? throw new ArgumentException($"The graph has no edges of section {section}; compute it with edges.", nameof(section));
}
