namespace Priori.Numerics;

/// <summary>Distance between two clusters.</summary>
public enum Linkage
{
    /// <summary>Mean over all pairs of members (UPGMA).</summary>
    AverageLink,

    /// <summary>The nearest pair.</summary>
    SingleLink,

    /// <summary>The farthest pair.</summary>
    CompleteLink,
}

/// <summary>A merge of two clusters. Clusters 0..n-1 are the points; merge i makes cluster n + i.</summary>
/// <param name="Left">The cluster of the smaller number.</param>
/// <param name="Right">The other one.</param>
/// <param name="Distance">Their distance.</param>
/// <param name="Size">Points in the new cluster.</param>
public readonly record struct ClusterMerge(int Left, int Right, double Distance, int Size);

/// <summary>A hierarchy of clusters: n - 1 merges by ascending distance, numbered as SciPy's linkage matrix.</summary>
/// <param name="Count">Number of points n.</param>
/// <param name="Merges">The merges.</param>
public sealed record Dendrogram(int Count, IReadOnlyList<ClusterMerge> Merges)
{
    /// <summary>The partition into so many clusters.</summary>
    /// <param name="clusters">1 to n.</param>
    /// <returns>Cluster of each point, 0.. in order of first appearance.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The number is outside its range.</exception>
    public int[] Cut(int clusters)
    {
        if (clusters < 1 || clusters > Count) throw new ArgumentOutOfRangeException(nameof(clusters), clusters, $"There are {Count} points, so 1..{Count} clusters are possible.");
        int[] parent = [.. Enumerable.Range(0, 2 * Count - 1)];
        for (int i = 0; i < Count - clusters; i++) parent[Merges[i].Left] = parent[Merges[i].Right] = Count + i;
        var names = new Dictionary<int, int>();
        return [.. Enumerable.Range(0, Count).Select(point =>
        {
            while (parent[point] != point) point = parent[point];
            return names.TryGetValue(point, out int name) ? name : names[point] = names.Count;
        })];
    }

    /// <summary>The points in the order of the tree's leaves, so that every cluster is a run.</summary>
    public int[] Leaves()
    {
        var leaves = new List<int>(Count);
        var open = new Stack<int>([2 * Count - 2]);
        while (open.TryPop(out int node))
        {
            if (node < Count) leaves.Add(node);
            else
            {
                open.Push(Merges[node - Count].Right);
                open.Push(Merges[node - Count].Left);
            }
        }
        return [.. leaves];
    }
}

/// <summary>Agglomerative clustering from distances by nearest-neighbour chains (Murtagh, 1983; Muellner, 2011), O(n^2) time and memory; exact for these linkages.</summary>
public static class AgglomerativeClustering
{
    /// <summary>Builds the hierarchy.</summary>
    /// <param name="distances">[n, n], symmetric, finite, at least 0; the diagonal is not used.</param>
    /// <param name="linkage">Default average.</param>
    /// <exception cref="ArgumentException">The matrix is not of this kind.</exception>
    public static Dendrogram Fit(Tensor distances, Linkage linkage = Linkage.AverageLink)
    {
        ArgumentNullException.ThrowIfNull(distances);
        if (distances.dim() != 2 || distances.shape[0] != distances.shape[1] || distances.numel() == 0) throw new ArgumentException($"Distances must be [n, n], not [{string.Join(", ", distances.shape)}].", nameof(distances));
        int n = checked((int)distances.shape[0]);
        double[] d;
        using (NewDisposeScope())
        {
            Tensor wide = distances.detach().to(float64).cpu();
            if (!wide.isfinite().all().item<bool>() || (wide < 0).any().item<bool>()) throw new ArgumentException("Distances must be finite and at least 0.", nameof(distances));
            if ((wide - wide.t()).abs().max().item<double>() > 1e-9 * wide.max().item<double>()) throw new ArgumentException("Distances must be symmetric.", nameof(distances));
            d = wide.contiguous().data<double>().ToArray();
        }
        var size = new int[n]; // 0: merged into another
        Array.Fill(size, 1);
        var merges = new List<(int A, int B, double Distance)>(n - 1);
        var chain = new List<int>();
        while (merges.Count < n - 1)
        {
            if (chain.Count == 0) chain.Add(Array.FindIndex(size, s => s > 0));
            int tip = chain[^1], before = chain.Count > 1 ? chain[^2] : -1, nearest = before;
            double least = before < 0 ? double.PositiveInfinity : d[((long)tip * n) + before];
            for (int j = 0; j < n; j++)
            {
                if (size[j] == 0 || j == tip || d[((long)tip * n) + j] >= least) continue;
                (least, nearest) = (d[((long)tip * n) + j], j);
            }
            if (nearest != before)
            {
                chain.Add(nearest);
                continue;
            }
            chain.RemoveRange(chain.Count - 2, 2); // each is the nearest of the other
            merges.Add((tip, before, least));
            for (int j = 0; j < n; j++)
            {
                if (size[j] == 0 || j == tip || j == before) continue;
                double a = d[((long)tip * n) + j], b = d[((long)before * n) + j];
                d[((long)before * n) + j] = d[((long)j * n) + before] = linkage switch
                {
                    Linkage.SingleLink => Math.Min(a, b),
                    Linkage.CompleteLink => Math.Max(a, b),
                    _ => ((size[tip] * a) + (size[before] * b)) / (size[tip] + size[before]),
                };
            }
            size[before] += size[tip];
            size[tip] = 0;
        }
        return Numbered(n, merges);
    }

    // The chain finds merges out of order; by distance, each joins the clusters that its two points are in by then.
    private static Dendrogram Numbered(int n, List<(int A, int B, double Distance)> merges)
    {
        int[] parent = [.. Enumerable.Range(0, 2 * n - 1)], sizes = [.. Enumerable.Repeat(1, 2 * n - 1)];
        int Root(int node)
        {
            while (parent[node] != node) node = parent[node] = parent[parent[node]];
            return node;
        }
        var ordered = new List<ClusterMerge>(n - 1);
        foreach ((int a, int b, double distance) in merges.OrderBy(m => m.Distance)) // stable
        {
            (int left, int right) = (Root(a), Root(b));
            int made = n + ordered.Count;
            parent[left] = parent[right] = made;
            sizes[made] = sizes[left] + sizes[right];
            ordered.Add(new ClusterMerge(Math.Min(left, right), Math.Max(left, right), distance, sizes[made]));
        }
        return new Dendrogram(n, ordered);
    }
}
