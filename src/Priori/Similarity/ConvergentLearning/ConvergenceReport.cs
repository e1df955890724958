using Priori.Numerics;

namespace Priori.Similarity;

/// <summary>What <see cref="ConvergenceReport"/> computes.</summary>
public sealed record ConvergenceOptions
{
    /// <summary>Penalties of the sparse prediction. The published ones are 0 and 1e-5 to 1e-1 on its own scale.</summary>
    public IReadOnlyList<double> Lambdas { get; init; } = [0, .001, .003, .01, .03, .1, .3];

    /// <summary>number of clusters, 1 to the number of live units of both layers.</summary>
    public int Clusters { get; init; } = 6;

    /// <summary>Bins of the mutual information; 0 leaves it out.</summary>
    public int Bins { get; init; } = 10;

    /// <summary>Score below which a unit counts as unique.</summary>
    public double UniqueBelow { get; init; } = UnitMatching.UniqueBelow;

    /// <summary>How the lasso is solved.</summary>
    public LassoSolver Solver { get; init; } = LassoSolver.CoordinateDescent;

    /// <summary>Observations that the mutual information uses at most (the first ones); it holds them in memory. Default 100,000.</summary>
    public long InformationObservations { get; init; } = 100_000;

    /// <summary>Seed of k-means and of the random pairings.</summary>
    public int Seed { get; init; }
}

/// <summary>Everything about a pair of layers.</summary>
/// <param name="Layer">Its name.</param>
/// <param name="Correlation">The correlations.</param>
/// <param name="Matching">One-to-one matching of A's units.</param>
/// <param name="SemiAtoB">Best unit of B for each unit of A.</param>
/// <param name="SemiBtoA">Best unit of A for each unit of B.</param>
/// <param name="RandomPairing">Mean correlation of 100 random pairings.</param>
/// <param name="Information">Mutual information; null when left out.</param>
/// <param name="InformationMatching">One-to-one matching by mutual information; null when left out.</param>
/// <param name="StitchAtoB">Sparse prediction of B's units from A's.</param>
/// <param name="StitchBtoA">Sparse prediction of A's units from B's.</param>
/// <param name="Spectral">Spectral clusters of both layers' units.</param>
/// <param name="Hierarchical">Average-linkage clusters of both layers' units.</param>
public sealed record LayerConvergence(string Layer, CrossCorrelation Correlation, MatchingResult Matching, MatchingResult SemiAtoB, MatchingResult SemiBtoA, double RandomPairing, UnitInformation? Information,
    MatchingResult? InformationMatching, StitchPath StitchAtoB, StitchPath StitchBtoA, UnitClusters Spectral, UnitClusters Hierarchical)
{
    /// <summary>Share of A's matched units for which mutual information and correlation choose the same partner; null without the former.</summary>
    public double? InformationAgreement => InformationMatching is null ? null : Matching.Assignment.Zip(InformationMatching.Assignment).Where(p => p.First >= 0).Average(p => p.First == p.Second ? 1.0 : 0);

    /// <summary>The between-net correlations with B's units in the order of the matching [p, q].</summary>
    public Tensor Aligned()
    {
        using DisposeScope scope = NewDisposeScope();
        return Correlation.Between.index_select(1, tensor(Matching.AlignedOrder(Correlation.B.Count)).to(int64).to(Correlation.Between.device)).MoveToOuterDisposeScope();
    }
}

/// <summary>All analyses of the paper for pairs of layers of two networks, or of two tables of activations.</summary>
public static class ConvergenceReport
{
    /// <summary>Runs both networks over the inputs once and analyses each pair of layers.</summary>
    /// <param name="a">Activations of the layers of the first network; see <see cref="LayerActivations"/>.</param>
    /// <param name="b">Activations of the layers of the second network, as many.</param>
    /// <param name="layers">A name for each pair of layers.</param>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <param name="options">What is computed; defaults when null.</param>
    /// <param name="batchSize">Inputs a batch.</param>
    /// <exception cref="ArgumentException">Layers, samples or positions do not fit, activations are not finite, all units of a layer are dead, or an option does not fit.</exception>
    public static IReadOnlyList<LayerConvergence> Build(Func<Tensor, IReadOnlyList<Tensor>> a, Func<Tensor, IReadOnlyList<Tensor>> b, IReadOnlyList<string> layers, Tensor inputs, ConvergenceOptions? options = null, int batchSize = 256)
    {
        ArgumentNullException.ThrowIfNull(layers);
        options ??= new ConvergenceOptions();
        // The first observations are kept for the histograms while the sums are gathered.
        var kept = new List<(List<Tensor> A, List<Tensor> B, long Rows)>();
        using DisposeScope scope = NewDisposeScope();
        IReadOnlyList<Tensor>? left = null;
        IReadOnlyList<Tensor> First(Tensor batch) => left = a(batch);
        IReadOnlyList<Tensor> Second(Tensor batch)
        {
            IReadOnlyList<Tensor> right = b(batch);
            for (int i = 0; options.Bins > 0 && i < Math.Min(left!.Count, right.Count); i++)
            {
                if (kept.Count == i) kept.Add(([], [], 0));
                if (kept[i].Rows >= options.InformationObservations) continue;
                (Tensor x, Tensor y) = CrossCorrelation.Paired(left[i], right[i]);
                long rows = Math.Min(x.shape[0], options.InformationObservations - kept[i].Rows);
                foreach ((Tensor values, List<Tensor> list) in new[] { (x, kept[i].A), (y, kept[i].B) }) list.Add(values.narrow(0, 0, rows).clone().MoveToOuterDisposeScope());
                kept[i] = kept[i] with { Rows = kept[i].Rows + rows };
            }
            return right;
        }
        IReadOnlyList<CrossCorrelation> correlations = CrossCorrelation.Collect(First, Second, inputs, batchSize);
        if (correlations.Count != layers.Count) throw new ArgumentException($"The networks give {correlations.Count} layers for {layers.Count} names.", nameof(layers));
        var report = new List<LayerConvergence>();
        for (int i = 0; i < layers.Count; i++)
        {
            UnitInformation? information = options.Bins > 0 ? UnitInformation.Estimate(cat(kept[i].A, 0), cat(kept[i].B, 0), options.Bins) : null;
            report.Add(Moved(Analyse(layers[i], correlations[i], information, options)));
        }
        return report;
    }

    /// <summary>Analyses two tables of activations over the same samples.</summary>
    /// <param name="a">[n, p], [n, p, height, width] or [n, tokens, p].</param>
    /// <param name="b">The same samples and positions, q units.</param>
    /// <param name="layer">A name for the report.</param>
    /// <param name="options">What is computed; defaults when null.</param>
    /// <exception cref="ArgumentException">Samples or positions do not fit, activations are not finite, all units of a layer are dead, or an option does not fit.</exception>
    public static LayerConvergence Build(Tensor a, Tensor b, string layer = "units", ConvergenceOptions? options = null)
    {
        options ??= new ConvergenceOptions();
        using DisposeScope scope = NewDisposeScope();
        CrossCorrelation correlation = CrossCorrelation.Of(a, b);
        UnitInformation? information = null;
        if (options.Bins > 0)
        {
            (Tensor x, Tensor y) = CrossCorrelation.Paired(a, b);
            long rows = Math.Min(options.InformationObservations, x.shape[0]);
            information = UnitInformation.Estimate(x.narrow(0, 0, rows), y.narrow(0, 0, rows), options.Bins);
        }
        return Moved(Analyse(layer, correlation, information, options));
    }

    private static LayerConvergence Analyse(string layer, CrossCorrelation correlation, UnitInformation? information, ConvergenceOptions options)
    {
        MatchingResult matching = UnitMatching.Bipartite(correlation, options.UniqueBelow);
        return new LayerConvergence(layer, correlation, matching, UnitMatching.SemiMatching(correlation, options.UniqueBelow), UnitMatching.SemiMatching(correlation.Swapped, options.UniqueBelow),
            UnitMatching.RandomPairings(correlation, seed: options.Seed), information, information is null ? null : UnitMatching.MutualInformation(information, correlation).Bipartite,
            SparseStitching.Fit(correlation, options.Lambdas, options.Solver), SparseStitching.Fit(correlation.Swapped, options.Lambdas, options.Solver),
            UnitSpectralClustering.Fit(correlation, options.Clusters, options.Seed), UnitSpectralClustering.Hierarchical(correlation, options.Clusters));
    }

    private static LayerConvergence Moved(LayerConvergence result)
    {
        CrossCorrelation c = result.Correlation;
        foreach (Tensor? tensor in new[] { c.A.Mean, c.A.Deviation, c.A.Correlation, c.B.Mean, c.B.Deviation, c.B.Correlation, c.Between, result.Information?.Nats }) tensor?.MoveToOuterDisposeScope();
        foreach (StitchMap map in result.StitchAtoB.Maps.Concat(result.StitchBtoA.Maps)) map.W.MoveToOuterDisposeScope();
        return result;
    }
}
