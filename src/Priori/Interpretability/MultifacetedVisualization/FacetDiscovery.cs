using Priori.Numerics;

namespace Priori.Interpretability;

/// <summary>Where k-means looks for facets.</summary>
public enum FacetSpace
{
    /// <summary>In the two-dimensional t-SNE embedding, as in the paper.</summary>
    Embedding,

    /// <summary>In the principal components of the codes; another method than the paper's, for comparison.</summary>
    Codes,
}

/// <summary>Options of <see cref="FacetDiscovery"/>; the defaults are those of section 2 of the paper.</summary>
public sealed record FacetOptions
{
    /// <summary>Clusters k, at least 1. Default 10.</summary>
    public int Count { get; init; } = 10;

    /// <summary>Principal components of the codes before t-SNE; at most min(n, d) are used. Default 50.</summary>
    public int PcaDimensions { get; init; } = 50;

    /// <summary>Images nearest to the centroid that are averaged, m, at least 1; at most the cluster's size are used. Default 15.</summary>
    public int MeanOf { get; init; } = 15;

    /// <summary>Perplexity of t-SNE; at most (n - 1) / 3 is used. Default 30.</summary>
    public double Perplexity { get; init; } = 30;

    /// <summary>Steps of t-SNE. Default 1000.</summary>
    public int Iterations { get; init; } = 1000;

    /// <summary>Space of k-means and of the distances to the centroid. Default the embedding.</summary>
    public FacetSpace Space { get; init; }

    /// <summary>Seed of k-means and t-SNE.</summary>
    public int Seed { get; init; }
}

/// <summary>The facets of a set of images.</summary>
/// <param name="Labels">int64 [n]: facet of each image, largest facet first; -1 for images of dropped clusters (fewer than 2 images).</param>
/// <param name="Embedding">[n, 2].</param>
/// <param name="MeanImages">[facets, channels, height, width].</param>
/// <param name="Exemplars">For each facet the rows of the averaged images, nearest to the centroid first.</param>
/// <param name="Components">The principal components of the codes.</param>
/// <param name="Codes">[n, p]: codes in these components.</param>
public sealed record Facets(Tensor Labels, Tensor Embedding, Tensor MeanImages, IReadOnlyList<long[]> Exemplars, Pca Components, Tensor Codes)
{
    /// <summary>Number of facets.</summary>
    public int Count => Exemplars.Count;

    /// <summary>The facet of new images: the vote of their nearest neighbours among the images that the facets were found in (t-SNE itself has no map for new points).</summary>
    /// <param name="codes">Codes of the new images [m, d], from the same layer.</param>
    /// <param name="neighbours">Voting neighbours, at least 1; at most all images vote. Default 10.</param>
    /// <returns>int64 [m]; of facets with as many votes, that of the nearest neighbour among them.</returns>
    public Tensor Assign(Tensor codes, int neighbours = 10) => Assign(Components, Codes, Labels, codes, neighbours);

    /// <summary>As <see cref="Assign(Tensor, int)"/>, from parts that were stored.</summary>
    /// <param name="components">The principal components.</param>
    /// <param name="known">Codes of the known images in these components [n, p].</param>
    /// <param name="labels">Their facets int64 [n]; those with -1 do not vote.</param>
    /// <param name="codes">Codes of the new images [m, d].</param>
    /// <param name="neighbours">Voting neighbours, at least 1.</param>
    public static Tensor Assign(Pca components, Tensor known, Tensor labels, Tensor codes, int neighbours = 10)
    {
        ArgumentNullException.ThrowIfNull(components);
        ArgumentNullException.ThrowIfNull(known);
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentOutOfRangeException.ThrowIfLessThan(neighbours, 1);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor voting = labels.ge(0).nonzero().flatten(), centers = known.index_select(0, voting), facets = labels.index_select(0, voting), x = components.Transform(codes);
        Tensor nearness = addmm(-centers.square().sum(dim: 1).unsqueeze(0), x, centers.t(), beta: 1, alpha: 2); // |x|^2 - distance^2
        int votes = (int)Math.Min(neighbours, voting.shape[0]);
        (_, Tensor nearest) = nearness.topk(votes, 1);
        Tensor voted = facets.index_select(0, nearest.flatten()).view(-1, votes);
        Tensor ballots = zeros([x.shape[0], facets.max().ToInt64() + 1], float32, x.device);
        // Ranks break ties: together they weigh less than one vote.
        Tensor weights = (1 + linspace(0.5, 0, votes, float32, x.device) / votes).unsqueeze(0).expand_as(voted);
        return ballots.scatter_add_(1, voted, weights.contiguous()).argmax(1).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Finds the kinds of images that excite a unit (Nguyen, Yosinski and Clune, 2016, section 2, algorithm 1): codes of a late layer are reduced by PCA, embedded in the plane by t-SNE and
/// clustered by k-means; the mean of the images nearest to each centroid is where activation maximisation starts.
/// </summary>
public static class FacetDiscovery
{
    private const int Restarts = 10; // k-means, the best of so many

    /// <summary>Finds facets.</summary>
    /// <param name="images">Floating-point images [n, channels, height, width] in pixels, n at least 5 and at least the number of facets.</param>
    /// <param name="codes">Floating-point codes [n, d].</param>
    /// <param name="options">Options; defaults when null.</param>
    /// <param name="cancellation">Ends the search with an exception.</param>
    /// <exception cref="ArgumentException">There are fewer images than facets, rows of images and codes differ, an option is outside its range, or a code is not finite.</exception>
    public static Facets Fit(Tensor images, Tensor codes, FacetOptions? options = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentNullException.ThrowIfNull(codes);
        options ??= new FacetOptions();
        if (images.dim() != 4 || !images.is_floating_point()) throw new ArgumentException($"Images must be floating point [n, channels, height, width], not {images.dtype} [{string.Join(", ", images.shape)}].", nameof(images));
        if (codes.dim() != 2 || codes.shape[0] != images.shape[0]) throw new ArgumentException($"Codes [{string.Join(", ", codes.shape)}] must be one row for each of the {images.shape[0]} images.", nameof(codes));
        long n = images.shape[0];
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Count, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.PcaDimensions, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MeanOf, 1);
        if (n < Math.Max(5, options.Count)) throw new ArgumentException($"{n} images are too few for {options.Count} facets: at least {Math.Max(5, options.Count)} are needed.", nameof(images));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Pca components = Pca.Fit(codes, (int)Math.Min(options.PcaDimensions, Math.Min(n, codes.shape[1])));
        Tensor reduced = components.Transform(codes);
        Tensor embedding = TSne.Embed(reduced, new TSneOptions { Perplexity = Math.Min(options.Perplexity, (n - 1) / 3.0), Iterations = options.Iterations, Seed = options.Seed }, cancellation).Embedding;
        Tensor space = options.Space == FacetSpace.Embedding ? embedding : reduced;
        KMeansResult clusters = KMeans.Fit(space, options.Count, iterations: 300, restarts: Restarts, seed: options.Seed);
        long[] found = clusters.Labels.cpu().data<long>().ToArray();
        (long Cluster, long[] Rows)[] kept = [.. found.Index().GroupBy(p => p.Item).Select(g => (g.Key, g.Select(p => (long)p.Index).ToArray()))
            .Where(g => g.Item2.Length >= 2).OrderByDescending(g => g.Item2.Length).ThenBy(g => g.Item2[0])];
        if (kept.Length == 0) throw new ArgumentException($"No facet has two images: {options.Count} facets are too many for {n} images.", nameof(options));
        long[] labels = [.. Enumerable.Repeat(-1L, found.Length)];
        var exemplars = new List<long[]>();
        var means = new List<Tensor>();
        for (int facet = 0; facet < kept.Length; facet++)
        {
            (long cluster, long[] rows) = kept[facet];
            foreach (long row in rows) labels[row] = facet;
            Tensor members = tensor(rows, device: space.device), distances = (space.index_select(0, members) - clusters.Centers[cluster]).square().sum(dim: 1);
            Tensor nearest = members.index_select(0, distances.argsort(0).narrow(0, 0, Math.Min(options.MeanOf, rows.Length)));
            exemplars.Add(nearest.cpu().data<long>().ToArray());
            means.Add(images.index_select(0, nearest.to(images.device)).mean([0L]));
        }
        foreach (Tensor part in new[] { components.Mean, components.Components, components.ExplainedVariance }) part.MoveToOuterDisposeScope();
        return new Facets(tensor(labels, device: codes.device).MoveToOuterDisposeScope(), embedding.MoveToOuterDisposeScope(), stack(means).MoveToOuterDisposeScope(), exemplars, components, reduced.MoveToOuterDisposeScope());
    }
}
