using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// Approximate search on a proximity graph whose similarity is the inner product itself (Morozov and Babenko, "Non-metric similarity graphs for maximum inner product search", NeurIPS 2018), in one layer and with
/// bounded degree as in DiskANN (Subramanya et al., NeurIPS 2019). Turning inner products into distances by an extra coordinate, as for metric graphs, finds less than half as many neighbours of encodings.
/// It is built in batches that double: a batch searches the graph so far in parallel, then its edges are merged, so the same input gives the same graph with any number of threads.
/// </summary>
public sealed unsafe class GraphIndex : MipsIndex
{
    private readonly NativeBuffer<float> _vectors;
    private readonly NativeBuffer<int> _edges; // [n, 2 + degree]: the number of neighbours, the link, the neighbours

    /// <summary>An empty index.</summary>
    /// <param name="dimension">The length of a vector.</param>
    /// <param name="degree">Most neighbours of a vector. Paper: 200 for millions of documents; default 32.</param>
    /// <param name="buildBeam">Vectors kept while searching for neighbours. Paper: 600; default 64.</param>
    public GraphIndex(int dimension, int degree = 32, int buildBeam = 64)
        : this(dimension, degree, buildBeam, new NativeBuffer<float>(), new NativeBuffer<int>(), null) { }

    internal GraphIndex(int dimension, int degree, int buildBeam, NativeBuffer<float> vectors, NativeBuffer<int> edges, NativeBuffer<byte>? removed) : base(removed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dimension, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(degree, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(buildBeam, degree);
        (Dimension, Degree, BuildBeam) = (dimension, degree, buildBeam);
        (_vectors, _edges) = (vectors, edges);
    }

    /// <inheritdoc/>
    public override int Dimension { get; }

    /// <summary>Most neighbours of a vector.</summary>
    public int Degree { get; }

    /// <summary>Vectors kept while searching for neighbours.</summary>
    public int BuildBeam { get; }

    /// <inheritdoc/>
    public override long BytesPerVector => (long)Dimension * sizeof(float) + (2L + Degree) * sizeof(int);

    private protected override void AddCore(Tensor vectors)
    {
        var (first, n) = (Count, Count + (int)vectors.shape[0]);
        _vectors.Resize((long)n * Dimension);
        Buffer.MemoryCopy(TensorMemory.Pointer<float>(vectors), Vector(first), vectors.numel() * sizeof(float), vectors.numel() * sizeof(float));
        _edges.Resize(n * (2L + Degree));
        for (var i = first; i < n; i++) Link(i) = -1;
        for (int start = first, end; start < n; start = end)
        {
            end = Math.Min(n, start + Math.Max(1, Math.Min(start, Math.Max(64, n / 50))));
            if (start == 0) continue; // the first vector has no one to be joined to
            Insert(start, end);
        }
    }

    private void Insert(int start, int end)
    {
        var nearest = new int[end - start];
        Parallel.For(start, end, TensorMemory.Threads((double)(end - start) * BuildBeam * Degree * Dimension), i =>
        {
            var beam = Walk(Vector(i), start, BuildBeam, null);
            nearest[i - start] = beam[0].Node;
            SetNeighbors(i, Prune(beam));
        });
        // Pruning may leave a vector that no one names. So each vector also enters the chain of links that starts at its nearest vector: there is always a way to it.
        for (var i = start; i < end; i++)
        {
            ref var link = ref Link(nearest[i - start]);
            Link(i) = link;
            link = i;
        }
        var incoming = new SortedDictionary<int, List<int>>();
        for (var i = start; i < end; i++)
        {
            foreach (var neighbor in NeighborsOf(i).ToArray())
            {
                if (!incoming.TryGetValue(neighbor, out var list)) incoming[neighbor] = list = [];
                list.Add(i);
            }
        }
        Parallel.ForEach(incoming, TensorMemory.Threads((double)incoming.Count * Degree * Degree * Dimension), entry =>
        {
            var (node, added) = (entry.Key, entry.Value);
            int[] merged = [.. NeighborsOf(node), .. added];
            SetNeighbors(node, merged.Length <= Degree ? merged : Prune([.. merged.Select(other => (Similarity(node, other), other))]));
        });
    }

    /// <summary>Keeps the most similar candidates, but none that is more similar to one already kept than to the node: it is found by way of that one.</summary>
    private int[] Prune(List<(float Similarity, int Node)> candidates)
    {
        candidates.Sort((a, b) => a.Similarity != b.Similarity ? b.Similarity.CompareTo(a.Similarity) : a.Node.CompareTo(b.Node));
        var kept = new List<int>();
        foreach (var (similarity, candidate) in candidates)
        {
            if (kept.Count == Degree) break;
            if (kept.TrueForAll(other => Similarity(other, candidate) <= similarity)) kept.Add(candidate);
        }
        return [.. kept];
    }

    private float Similarity(int a, int b) => FlatIndex.Dot(Vector(a), Vector(b), Dimension);

    private float* Vector(long i) => _vectors.Pointer + i * Dimension;

    private ref int Link(int node) => ref _edges[node * (2L + Degree) + 1];

    private void SetNeighbors(int node, int[] neighbors)
    {
        var row = node * (2L + Degree);
        _edges[row] = neighbors.Length;
        neighbors.CopyTo(_edges.Slice(row + 2, Degree));
    }

    private ReadOnlySpan<int> NeighborsOf(int node)
    {
        var row = node * (2L + Degree);
        var count = _edges[row];
        if (count < 0 || count > Degree) throw new InvalidDataException($"The graph is damaged: vector {node} claims {count} neighbours, at most {Degree} are possible.");
        return _edges.Slice(row + 2, count);
    }

    /// <summary>Best-first search from vector 0 with a beam. Vectors from <paramref name="limit"/> on are not part of the graph yet.</summary>
    private List<(float Score, int Node)> Walk(float* query, int limit, int beam, TopK? found)
    {
        var visited = new HashSet<int>();
        var list = new List<(float Score, int Node, bool Expanded)>(beam + 1);
        Visit(0);
        for (var next = 0; next < list.Count;)
        {
            if (list[next].Expanded)
            {
                next++;
                continue;
            }
            list[next] = list[next] with { Expanded = true };
            var lowest = next;
            var (node, link) = (list[next].Node, Link(list[next].Node));
            foreach (var neighbor in NeighborsOf(node)) lowest = Math.Min(lowest, Visit(neighbor));
            if (link != -1) lowest = Math.Min(lowest, Visit(link));
            next = lowest;
        }
        return [.. list.Select(item => (item.Score, item.Node))];

        int Visit(int node)
        {
            if ((uint)node >= (uint)limit) throw new InvalidDataException($"The graph is damaged: a neighbour has the number {node}, but there are {limit} vectors.");
            if (!visited.Add(node)) return int.MaxValue;
            var score = FlatIndex.Dot(query, Vector(node), Dimension);
            if (found != null && !IsRemoved(node)) found.Push(node, score);
            if (list.Count == beam && score <= list[^1].Score) return int.MaxValue;
            var at = list.Count;
            while (at > 0 && list[at - 1].Score < score) at--;
            list.Insert(at, (score, node, false));
            if (list.Count > beam) list.RemoveAt(beam);
            return at;
        }
    }

    private protected override Neighbors[] SearchCore(Tensor queries, int count)
    {
        var q = TensorMemory.Pointer<float>(queries);
        var result = new Neighbors[queries.shape[0]];
        if (Count == 0) return [.. result.Select(_ => new Neighbors([], []))];
        Parallel.For(0, result.Length, TensorMemory.Threads((double)result.Length * BuildBeam * Degree * Dimension), i =>
        {
            var found = new TopK(count);
            Walk(q + (long)i * Dimension, Count, Math.Max(count, BuildBeam), found);
            result[i] = found.Sorted();
        });
        GC.KeepAlive(queries);
        return result;
    }

    internal override IEnumerable<(string Name, Action<Stream> Write)> Files =>
        [("vectors.bin", _vectors.Write), ("graph.bin", _edges.Write)];

    /// <inheritdoc/>
    public override void Dispose()
    {
        _vectors.Dispose();
        _edges.Dispose();
        base.Dispose();
    }
}
