using Priori.Runtime;

namespace Priori.Numerics;

/// <summary>An undirected graph with weighted edges, as lists of neighbours.</summary>
public sealed class WeightedGraph
{
    private readonly List<(int Node, double Weight)>[] _neighbours;
    private readonly double[] _loops;

    /// <summary>A graph without edges.</summary>
    /// <param name="nodes">Number of nodes, at least 1.</param>
    public WeightedGraph(int nodes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(nodes, 1);
        _neighbours = [.. Enumerable.Range(0, nodes).Select(_ => new List<(int, double)>())];
        _loops = new double[nodes];
    }

    /// <summary>Number of nodes.</summary>
    public int Nodes => _loops.Length;

    /// <summary>m: the sum of all edge weights.</summary>
    public double TotalWeight { get; private set; }

    /// <summary>Adds an edge; parallel edges add up. An edge from a node to itself counts twice in its degree, as usual.</summary>
    /// <param name="a">One end.</param>
    /// <param name="b">The other.</param>
    /// <param name="weight">Its weight, at least 0; 0 adds nothing.</param>
    /// <exception cref="ArgumentException">The weight is negative or not finite.</exception>
    public void Add(int a, int b, double weight)
    {
        if (weight is not (>= 0 and < double.PositiveInfinity)) throw new ArgumentOutOfRangeException(nameof(weight), weight, "The weight of an edge must be finite and at least 0.");
        if (weight == 0) return;
        TotalWeight += weight;
        if (a == b)
        {
            _loops[a] += weight;
            return;
        }
        _neighbours[a].Add((b, weight));
        _neighbours[b].Add((a, weight));
    }

    /// <summary>The edges of a node to others.</summary>
    /// <param name="node">The node.</param>
    public IReadOnlyList<(int Node, double Weight)> Neighbours(int node) => _neighbours[node];

    /// <summary>Weight of the edge from a node to itself.</summary>
    /// <param name="node">The node.</param>
    public double Loop(int node) => _loops[node];

    /// <summary>k: the weights of a node's edges, its own loop twice.</summary>
    /// <param name="node">The node.</param>
    public double Degree(int node) => _neighbours[node].Sum(n => n.Weight) + 2 * _loops[node];
}

/// <summary>
/// Communities of a graph that maximise Newman's modularity Q = (1/2m) sum_ij [A_ij - gamma k_i k_j / 2m] 1[c_i = c_j], by the Leiden algorithm (Traag, Waltman, van Eck, Scientific Reports 2019):
/// nodes move to the best community, communities are refined inside themselves, and the refined parts become the nodes of a smaller graph, until nothing moves.
/// </summary>
public static class Leiden
{
    private const double Smallest = 1e-12;

    /// <summary>Modularity of a partition, at most 1; 0 for a graph without edges.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="communities">Community of each node.</param>
    /// <param name="gamma">Resolution, above 0; 1 is Newman's.</param>
    /// <exception cref="ArgumentException">There are not as many communities as nodes.</exception>
    public static double Modularity(WeightedGraph graph, IReadOnlyList<int> communities, double gamma = 1)
    {
        ArgumentNullException.ThrowIfNull(graph);
        ArgumentNullException.ThrowIfNull(communities);
        if (communities.Count != graph.Nodes) throw new ArgumentException($"{communities.Count} communities for {graph.Nodes} nodes.", nameof(communities));
        if (graph.TotalWeight == 0) return 0;
        double inside = 0;
        var degrees = new Dictionary<int, double>();
        for (int i = 0; i < graph.Nodes; i++)
        {
            inside += 2 * graph.Loop(i) + graph.Neighbours(i).Where(n => communities[n.Node] == communities[i]).Sum(n => n.Weight);
            degrees[communities[i]] = degrees.GetValueOrDefault(communities[i]) + graph.Degree(i);
        }
        double twice = 2 * graph.TotalWeight;
        return inside / twice - gamma * degrees.Values.Sum(d => d / twice * (d / twice));
    }

    /// <summary>Finds communities.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="gamma">Resolution, above 0; larger gives more communities.</param>
    /// <param name="iterations">Most passes of the whole algorithm; each starts from the communities of the one before.</param>
    /// <param name="seed">Seed of the orders.</param>
    /// <returns>Community of each node, 0, 1, ... in the order of their first node. A node without edges is alone.</returns>
    public static int[] Communities(WeightedGraph graph, double gamma = 1, int iterations = 10, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(graph);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(gamma);
        ArgumentOutOfRangeException.ThrowIfLessThan(iterations, 1);
        SplitMix64 random = SplitMix64.For(seed, 0x4C6569);
        int[] communities = [.. Enumerable.Range(0, graph.Nodes)];
        for (int i = 0; i < iterations && graph.TotalWeight > 0; i++)
        {
            int[] before = [.. communities];
            Pass(graph, communities, gamma, random);
            if (Numbered(communities).AsSpan().SequenceEqual(Numbered(before))) break;
        }
        return Numbered(communities);
    }

    private static void Pass(WeightedGraph original, int[] communities, double gamma, SplitMix64 random)
    {
        WeightedGraph graph = original;
        int[] partOf = [.. Enumerable.Range(0, original.Nodes)]; // original node to node of the present graph
        int[] current = Numbered(communities);
        while (true)
        {
            Move(graph, current, gamma, random);
            for (int v = 0; v < partOf.Length; v++) communities[v] = current[partOf[v]];
            int[] refined = Refine(graph, current, gamma, random);
            int parts = refined.Max() + 1;
            if (parts == graph.Nodes) return;
            int[] community = new int[parts];
            for (int v = 0; v < graph.Nodes; v++) community[refined[v]] = current[v];
            graph = Aggregate(graph, refined, parts);
            current = Numbered(community);
            for (int v = 0; v < partOf.Length; v++) partOf[v] = refined[partOf[v]];
        }
    }

    // Fast local moving: a queue of nodes whose neighbourhood changed.
    private static void Move(WeightedGraph graph, int[] community, double gamma, SplitMix64 random)
    {
        int n = graph.Nodes;
        double twice = 2 * graph.TotalWeight;
        double[] degree = [.. Enumerable.Range(0, n).Select(graph.Degree)], total = new double[n];
        int[] size = new int[n];
        for (int v = 0; v < n; v++)
        {
            total[community[v]] += degree[v];
            size[community[v]]++;
        }
        var free = new Stack<int>(Enumerable.Range(0, n).Where(c => size[c] == 0));
        int[] order = [.. Enumerable.Range(0, n)];
        random.Shuffle<int>(order);
        var queue = new Queue<int>(order);
        var queued = new bool[n];
        Array.Fill(queued, true);
        var weights = new double[n];
        var touched = new List<int>();
        while (queue.TryDequeue(out int v))
        {
            queued[v] = false;
            int own = community[v];
            foreach ((int u, double w) in graph.Neighbours(v))
            {
                if (weights[community[u]] == 0) touched.Add(community[u]);
                weights[community[u]] += w;
            }
            total[own] -= degree[v];
            size[own]--;
            int best = own;
            double bestGain = weights[own] - gamma * degree[v] * total[own] / twice;
            // An empty community is a candidate too: the node's own when it was alone, else a free number (there are more numbers than communities then).
            foreach (int candidate in size[own] > 0 ? touched.Append(free.Peek()) : touched)
            {
                double gain = weights[candidate] - gamma * degree[v] * total[candidate] / twice;
                if (gain > bestGain + Smallest) (best, bestGain) = (candidate, gain);
            }
            community[v] = best;
            total[best] += degree[v];
            if (best != own && size[best] == 0) free.Pop();
            size[best]++;
            if (size[own] == 0) free.Push(own);
            foreach (int c in touched) weights[c] = 0;
            touched.Clear();
            if (best == own) continue;
            foreach ((int u, _) in graph.Neighbours(v))
                if (community[u] != best && !queued[u])
                {
                    queued[u] = true;
                    queue.Enqueue(u);
                }
        }
    }

    // Inside each community nodes start alone and join well-connected parts; a part that grew is never left.
    private static int[] Refine(WeightedGraph graph, int[] community, double gamma, SplitMix64 random)
    {
        const double randomness = .01; // theta of the paper
        int n = graph.Nodes;
        double twice = 2 * graph.TotalWeight;
        double[] degree = [.. Enumerable.Range(0, n).Select(graph.Degree)];
        var inCommunity = new Dictionary<int, double>();
        for (int v = 0; v < n; v++) inCommunity[community[v]] = inCommunity.GetValueOrDefault(community[v]) + degree[v];
        int[] part = [.. Enumerable.Range(0, n)], size = [.. Enumerable.Repeat(1, n)];
        double[] total = [.. degree];
        // Weight from a part to the rest of its community.
        double[] outside = [.. Enumerable.Range(0, n).Select(v => graph.Neighbours(v).Where(u => community[u.Node] == community[v]).Sum(u => u.Weight))];
        int[] order = [.. Enumerable.Range(0, n)];
        random.Shuffle<int>(order);
        var weights = new Dictionary<int, double>();
        foreach (int v in order)
        {
            double whole = inCommunity[community[v]];
            bool WellConnected(int p) => outside[p] >= gamma * total[p] * (whole - total[p]) / twice - Smallest;
            if (size[part[v]] > 1 || !WellConnected(part[v])) continue;
            weights.Clear();
            foreach ((int u, double w) in graph.Neighbours(v))
                if (community[u] == community[v]) weights[part[u]] = weights.GetValueOrDefault(part[u]) + w;
            (int Part, double Gain)[] candidates = [.. weights.Where(w => w.Key != part[v] && WellConnected(w.Key))
                .Select(w => (w.Key, w.Value - gamma * degree[v] * total[w.Key] / twice)).Where(c => c.Item2 >= 0).OrderBy(c => c.Key)];
            if (candidates.Length == 0) continue;
            double most = candidates.Max(c => c.Gain);
            double[] chances = [.. candidates.Select(c => Math.Exp((c.Gain - most) / graph.TotalWeight / randomness))];
            double draw = random.NextDouble() * chances.Sum();
            int chosen = 0;
            while (chosen < candidates.Length - 1 && (draw -= chances[chosen]) > 0) chosen++;
            int target = candidates[chosen].Part;
            outside[target] += outside[part[v]] - 2 * weights[target];
            total[target] += degree[v];
            size[target]++;
            size[part[v]] = 0;
            part[v] = target;
        }
        return Numbered(part);
    }

    private static WeightedGraph Aggregate(WeightedGraph graph, int[] part, int parts)
    {
        var smaller = new WeightedGraph(parts);
        var sums = new Dictionary<(int, int), double>();
        for (int v = 0; v < graph.Nodes; v++)
        {
            smaller.Add(part[v], part[v], graph.Loop(v));
            foreach ((int u, double w) in graph.Neighbours(v))
            {
                if (u < v) continue; // every edge once
                (int, int) key = (Math.Min(part[u], part[v]), Math.Max(part[u], part[v]));
                sums[key] = sums.GetValueOrDefault(key) + w;
            }
        }
        foreach (((int a, int b), double weight) in sums.OrderBy(s => s.Key)) smaller.Add(a, b, weight);
        return smaller;
    }

    private static int[] Numbered(IReadOnlyList<int> labels)
    {
        var numbers = new Dictionary<int, int>();
        return [.. labels.Select(l => numbers.TryGetValue(l, out int number) ? number : numbers[l] = numbers.Count)];
    }
}
