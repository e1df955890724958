using Parameter = TorchSharp.Modules.Parameter;

namespace Priori.Nn;

/// <summary>
/// A directed graph whose edges have relations, laid out for <see cref="RelationalGraphConv"/>: edges are grouped by relation and target, so that the mean over the neighbours of a node under a relation is one
/// sum over a group. It takes memory in proportion to the edges; there is no adjacency matrix.
/// </summary>
public sealed class RelationalGraph : IDisposable
{
    /// <summary>Lays out a graph. Parallel edges count as often as they occur.</summary>
    /// <param name="nodes">Number of nodes, at least 1.</param>
    /// <param name="relations">Number of relations, at least 1.</param>
    /// <param name="source">Node u that each edge comes from, int64 [edges].</param>
    /// <param name="target">Node v that each edge goes to: u is a neighbour of v.</param>
    /// <param name="relation">Relation of each edge, in 0..relations-1.</param>
    /// <param name="device">Where the graph lies; the CPU when null.</param>
    /// <exception cref="ArgumentException">The arrays differ in length, or an edge names a node or relation that does not exist.</exception>
    public RelationalGraph(long nodes, int relations, IReadOnlyList<long> source, IReadOnlyList<long> target, IReadOnlyList<int> relation, Device? device = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(relation);
        ArgumentOutOfRangeException.ThrowIfLessThan(nodes, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(relations, 1);
        if (source.Count != target.Count || source.Count != relation.Count)
            throw new ArgumentException($"Edges need a source, a target and a relation each; there are {source.Count}, {target.Count} and {relation.Count}.", nameof(relation));
        for (int e = 0; e < source.Count; e++)
        {
            if (relation[e] < 0 || relation[e] >= relations) throw new ArgumentException($"Edge {e} has relation {relation[e]}, which is outside 0..{relations - 1}.", nameof(relation));
            if (source[e] < 0 || source[e] >= nodes || target[e] < 0 || target[e] >= nodes) throw new ArgumentException($"Edge {e} goes from node {source[e]} to node {target[e]}; nodes are 0..{nodes - 1}.", nameof(source));
        }
        (Nodes, Relations) = (nodes, relations);
        int[] order = [.. Enumerable.Range(0, source.Count).OrderBy(e => relation[e]).ThenBy(e => target[e])];
        var groups = new List<(int Relation, long Target, int Size)>();
        var groupOfEdge = new long[order.Length];
        for (int i = 0; i < order.Length; i++)
        {
            int e = order[i];
            if (groups.Count == 0 || groups[^1].Relation != relation[e] || groups[^1].Target != target[e]) groups.Add((relation[e], target[e], 0));
            groups[^1] = groups[^1] with { Size = groups[^1].Size + 1 };
            groupOfEdge[i] = groups.Count - 1;
        }
        Tensor Place(Tensor t) => t.to(device ?? CPU).DetachFromDisposeScope();
        Source = Place(tensor(order.Select(e => source[e]).ToArray()));
        Group = Place(tensor(groupOfEdge));
        Target = Place(tensor(groups.Select(g => g.Target).ToArray()));
        Degree = Place(tensor(groups.Select(g => (float)g.Size).ToArray()));
        GroupsOfRelation = [.. Enumerable.Range(0, relations).Select(r => (long)groups.Count(g => g.Relation == r))];
        EdgesOfRelation = [.. Enumerable.Range(0, relations).Select(r => (long)relation.Count(x => x == r))];
    }

    /// <summary>Number of nodes.</summary>
    public long Nodes { get; }

    /// <summary>Number of relations.</summary>
    public int Relations { get; }

    /// <summary>Number of edges of each relation.</summary>
    public IReadOnlyList<long> EdgesOfRelation { get; }

    /// <summary>Source node of each edge, in the order of the groups, int64 [edges].</summary>
    internal Tensor Source { get; }

    /// <summary>Group of each edge, ascending, int64 [edges].</summary>
    internal Tensor Group { get; }

    /// <summary>Target node of each group, int64 [groups]; groups are ordered by relation.</summary>
    internal Tensor Target { get; }

    /// <summary>Edges of each group, |N_v^rho|, float32 [groups].</summary>
    internal Tensor Degree { get; }

    /// <summary>Number of groups of each relation.</summary>
    internal IReadOnlyList<long> GroupsOfRelation { get; }

    /// <summary>Mean of the neighbours' states under each relation, [groups, width]; only nodes that have neighbours.</summary>
    internal Tensor Means(Tensor states)
    {
        Tensor sums = zeros([Degree.shape[0], states.shape[1]], states.dtype, states.device);
        return sums.index_add(0, Group, states.index_select(0, Source), 1) / Degree.to(states.dtype).unsqueeze(1);
    }

    /// <summary>Mean state of each node's neighbours under one relation, [nodes, width]; zero for a node that has none.</summary>
    /// <param name="states">Node states [nodes, width].</param>
    /// <param name="relation">The relation.</param>
    public Tensor Messages(Tensor states, int relation)
    {
        ArgumentNullException.ThrowIfNull(states);
        if (relation < 0 || relation >= Relations) throw new ArgumentException($"Relation {relation} is outside 0..{Relations - 1}.", nameof(relation));
        using var scope = NewDisposeScope();
        long start = GroupsOfRelation.Take(relation).Sum(), count = GroupsOfRelation[relation];
        Tensor messages = zeros([Nodes, states.shape[1]], states.dtype, states.device);
        return messages.index_add(0, Target.narrow(0, start, count), Means(states).narrow(0, start, count), 1).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Source.Dispose();
        Group.Dispose();
        Target.Dispose();
        Degree.Dispose();
    }
}

/// <summary>
/// A layer of a relational graph convolutional network (Schlichtkrull et al., ESWC 2018, eq. 2 with c = |N_v^rho|):
/// out_v = W_0 h_v + sum over relations rho of W_rho times the mean of h_u over the neighbours u of v under rho. A node without neighbours gets W_0 h_v alone. There is no activation.
/// With bases, W_rho = sum_b a_{rho b} V_b (eq. 3). Sums are by index_add, in O(edges * width); on CUDA their order, and so the last bits, vary from run to run.
/// </summary>
public sealed class RelationalGraphConv : Module<Tensor, RelationalGraph, Tensor>
{
    private readonly Parameter weight;
    private readonly Parameter? coefficients;
    private readonly Module<Tensor, Tensor> self;

    /// <summary>Creates the layer; weights are drawn as Glorot and Bengio's.</summary>
    /// <param name="inDim">Width of the states.</param>
    /// <param name="outDim">Width of the result.</param>
    /// <param name="relations">Number of relations, at least 1.</param>
    /// <param name="bases">Number of bases; null gives every relation a matrix of its own.</param>
    /// <param name="bias">Whether W_0 has a bias; default false, as in the paper.</param>
    public RelationalGraphConv(long inDim, long outDim, int relations, int? bases = null, bool bias = false) : base(nameof(RelationalGraphConv))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(inDim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(outDim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(relations, 1);
        if (bases is { } count) ArgumentOutOfRangeException.ThrowIfLessThan(count, 1, nameof(bases));
        (InDim, Relations) = (inDim, relations);
        double bound = Math.Sqrt(6.0 / (inDim + outDim));
        weight = new Parameter(empty(bases ?? relations, inDim, outDim).uniform_(-bound, bound));
        if (bases is { } b)
        {
            double spread = Math.Sqrt(6.0 / (relations + b));
            coefficients = new Parameter(empty(relations, b).uniform_(-spread, spread));
        }
        self = nn.Linear(inDim, outDim, hasBias: bias);
        nn.init.xavier_uniform_(((TorchSharp.Modules.Linear)self).weight!);
        RegisterComponents();
    }

    /// <summary>Width of the states.</summary>
    public long InDim { get; }

    /// <summary>Number of relations.</summary>
    public int Relations { get; }

    /// <summary>The matrices W_rho, [relations, inDim, outDim].</summary>
    public Tensor RelationWeights() => coefficients is null ? weight : coefficients.matmul(weight.view(weight.shape[0], -1)).view(Relations, weight.shape[1], weight.shape[2]);

    /// <summary>New states [nodes, outDim].</summary>
    /// <param name="states">States [nodes, inDim].</param>
    /// <param name="graph">The graph, on the same device.</param>
    /// <exception cref="ArgumentException">States or relations do not fit the graph.</exception>
    public override Tensor forward(Tensor states, RelationalGraph graph)
    {
        ArgumentNullException.ThrowIfNull(states);
        ArgumentNullException.ThrowIfNull(graph);
        if (states.dim() != 2 || states.shape[0] != graph.Nodes || states.shape[1] != InDim)
            throw new ArgumentException($"States must be [{graph.Nodes}, {InDim}]; got [{string.Join(",", states.shape)}].", nameof(states));
        if (graph.Relations != Relations) throw new ArgumentException($"The graph has {graph.Relations} relations, the layer {Relations}.", nameof(graph));
        using var scope = NewDisposeScope();
        Tensor result = self.forward(states);
        if (graph.Degree.shape[0] > 0)
        {
            Tensor weights = RelationWeights(), means = graph.Means(states);
            var messages = new List<Tensor>();
            long start = 0;
            for (int r = 0; r < Relations; start += graph.GroupsOfRelation[r], r++)
                if (graph.GroupsOfRelation[r] > 0) messages.Add(means.narrow(0, start, graph.GroupsOfRelation[r]).matmul(weights[r]));
            result = result.index_add(0, graph.Target, cat(messages), 1);
        }
        return result.MoveToOuterDisposeScope();
    }
}
