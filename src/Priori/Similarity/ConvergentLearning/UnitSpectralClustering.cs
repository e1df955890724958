using Priori.Numerics;

namespace Priori.Similarity;

/// <summary>A cluster of units of both layers.</summary>
/// <param name="Index">Its number.</param>
/// <param name="UnitsA">Units of A in it.</param>
/// <param name="UnitsB">Units of B in it.</param>
/// <param name="Affinity">Mean affinity of its pairs of different units; 0 of a single unit.</param>
public sealed record UnitCluster(int Index, IReadOnlyList<int> UnitsA, IReadOnlyList<int> UnitsB, double Affinity)
{
    /// <summary>Whether it holds units of both layers: a subspace that both have.</summary>
    public bool IsShared => UnitsA.Count > 0 && UnitsB.Count > 0;
}

/// <summary>Clusters over the units of two layers.</summary>
/// <param name="LabelsA">Cluster of each unit of A; -1 of dead ones.</param>
/// <param name="LabelsB">Cluster of each unit of B; -1 of dead ones.</param>
/// <param name="Clusters">The clusters.</param>
public sealed record UnitClusters(int[] LabelsA, int[] LabelsB, IReadOnlyList<UnitCluster> Clusters)
{
    /// <summary>Share of the units that are in clusters with units of both layers.</summary>
    public double SharedFraction
    {
        get
        {
            double all = Clusters.Sum(c => c.UnitsA.Count + c.UnitsB.Count);
            return Clusters.Where(c => c.IsShared).Sum(c => c.UnitsA.Count + c.UnitsB.Count) / all;
        }
    }
}

/// <summary>
/// Many-to-many correspondences (section 3.3): the units of both layers are the nodes of one graph, whose affinities are the absolute correlations within and between the layers, and are clustered spectrally
/// (Ng, Jordan and Weiss, NIPS 2001).
/// </summary>
public static class UnitSpectralClustering
{
    private const int Restarts = 10; // of k-means

    /// <summary>Clusters the nodes of a graph: the k smallest eigenvectors of the normalised Laplacian, rows of length 1, k-means++ with 10 restarts.</summary>
    /// <param name="affinity">[n, n], symmetric, at least 0.</param>
    /// <param name="clusters">k, 1 to n. The paper's figures show about 30 to 50 for convolutions of 96 to 384 units.</param>
    /// <param name="seed">Seed of k-means.</param>
    /// <returns>Cluster of each node, 0..k-1.</returns>
    /// <exception cref="ArgumentException">The affinity is not of this kind, or k is outside its range.</exception>
    public static int[] Fit(Tensor affinity, int clusters, int seed = 0)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        KMeansResult found = KMeans.Fit(SpectralEmbedding.Fit(affinity, clusters).UnitRows(), clusters, iterations: 100, restarts: Restarts, seed: seed);
        return [.. found.Labels.cpu().data<long>().ToArray().Select(l => (int)l)];
    }

    /// <summary>Clusters the units of two layers together; dead units stay out.</summary>
    /// <param name="correlation">The correlations.</param>
    /// <param name="clusters">k, 1 to the number of live units of both layers.</param>
    /// <param name="seed">Seed of k-means.</param>
    /// <exception cref="ArgumentException">k is outside its range.</exception>
    public static UnitClusters Fit(CrossCorrelation correlation, int clusters, int seed = 0) => Cluster(correlation, clusters, affinity => Fit(affinity, clusters, seed));

    /// <summary>
    /// Clusters the units of two layers hierarchically: average linkage on 1 - |correlation|. (The supplement's agglomeration is not specified in full; this is the standard one.)
    /// </summary>
    /// <param name="correlation">The correlations.</param>
    /// <param name="clusters">Number of clusters at which the tree is cut.</param>
    /// <exception cref="ArgumentException">The number is outside its range.</exception>
    public static UnitClusters Hierarchical(CrossCorrelation correlation, int clusters) => Cluster(correlation, clusters, affinity => AgglomerativeClustering.Fit(1 - affinity).Cut(clusters));

    /// <summary>The affinity over the live units of both layers, A's first: absolute correlations within and between, diagonal 0.</summary>
    /// <param name="correlation">The correlations.</param>
    /// <returns>[n, n], float64.</returns>
    public static Tensor Affinity(CrossCorrelation correlation)
    {
        ArgumentNullException.ThrowIfNull(correlation);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor whole = cat([cat([correlation.A.Correlation, correlation.Between], 1), cat([correlation.Between.t(), correlation.B.Correlation], 1)], 0);
        Tensor live = tensor((long[])[.. correlation.A.Alive.Select(i => (long)i), .. correlation.B.Alive.Select(j => (long)(correlation.A.Count + j))], device: whole.device);
        Tensor affinity = whole.index_select(0, live).index_select(1, live).abs_();
        affinity = (affinity + affinity.t()) / 2; // the same but for the last bit
        affinity.diagonal().fill_(0);
        return affinity.MoveToOuterDisposeScope();
    }

    private static UnitClusters Cluster(CrossCorrelation correlation, int clusters, Func<Tensor, int[]> fit)
    {
        ArgumentNullException.ThrowIfNull(correlation);
        int[] a = correlation.A.Alive, b = correlation.B.Alive;
        if (clusters < 1 || clusters > a.Length + b.Length)
            throw new ArgumentOutOfRangeException(nameof(clusters), clusters, $"The layers have {a.Length} and {b.Length} live units, so 1..{a.Length + b.Length} clusters are possible.");
        using DisposeScope scope = NewDisposeScope();
        Tensor affinity = Affinity(correlation);
        int[] labels = fit(affinity);
        int[] Spread(int[] units, int first, int count)
        {
            int[] spread = [.. Enumerable.Repeat(-1, count)];
            for (int i = 0; i < units.Length; i++) spread[units[i]] = labels[first + i];
            return spread;
        }
        int[] labelsA = Spread(a, 0, correlation.A.Count), labelsB = Spread(b, a.Length, correlation.B.Count);
        return new UnitClusters(labelsA, labelsB, [.. labels.Distinct().Order().Select(label =>
        {
            long[] members = [.. Enumerable.Range(0, labels.Length).Where(i => labels[i] == label).Select(i => (long)i)];
            Tensor index = tensor(members, device: affinity.device);
            double pairs = members.Length * (members.Length - 1.0), mean = pairs > 0 ? affinity.index_select(0, index).index_select(1, index).sum().item<double>() / pairs : 0;
            return new UnitCluster(label, [.. a.Where(i => labelsA[i] == label)], [.. b.Where(j => labelsB[j] == label)], mean);
        })]);
    }
}
