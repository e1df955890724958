using Priori.Metrics;

namespace Priori.Similarity;

/// <summary>How well the latent similarity to a good network foretells performance (section 4.2 of the paper).</summary>
/// <param name="Similarities">Mean cosine of each network's relative representations and those of the reference.</param>
/// <param name="Pearson">Correlation of the similarities with the networks' scores; NaN where one of them does not vary.</param>
public sealed record PerformanceProxy(IReadOnlyList<double> Similarities, double Pearson);

/// <summary>
/// Measures of whether two spaces are the same (Moschella et al., ICLR 2023, section 4.1): row i of both is the same sample, its counterpart. Neighbours are by cosine; all but <see cref="Cka"/> and
/// <see cref="OwnNeighbours"/> compare vectors of one space with those of the other, so the widths must be equal.
/// </summary>
public static class LatentSpaceComparison
{
    private const long BlockRows = 512;

    /// <summary>Mean Jaccard index of the k nearest rows of <paramref name="a"/> to a_i (a_i itself is one of them) and to b_i.</summary>
    /// <param name="a">Floating point [n, d].</param>
    /// <param name="b">[n, d].</param>
    /// <param name="k">Neighbours, 1 to n. Paper: 10.</param>
    /// <exception cref="ArgumentException">Shapes or types differ, k is outside its range, or a row has length zero; the message names it.</exception>
    public static double Jaccard(Tensor a, Tensor b, int k = 10) => Mean(JaccardPerRow(a, b, k));

    /// <summary>The Jaccard index of each row; see <see cref="Jaccard"/>.</summary>
    /// <param name="a">Floating point [n, d].</param>
    /// <param name="b">[n, d].</param>
    /// <param name="k">Neighbours, 1 to n.</param>
    /// <returns>Float64 [n].</returns>
    public static Tensor JaccardPerRow(Tensor a, Tensor b, int k = 10)
    {
        Check(a, b, k);
        if (a.shape[1] != b.shape[1]) throw Widths(a, b);
        return Overlap(a, a, b, a, k);
    }

    /// <summary>Mean Jaccard index of the k nearest rows of a_i within <paramref name="a"/> and of b_i within <paramref name="b"/>: whether the two spaces agree on neighbours at all, whatever their widths.</summary>
    /// <param name="a">Floating point [n, d].</param>
    /// <param name="b">[n, e].</param>
    /// <param name="k">Neighbours, 1 to n.</param>
    public static double OwnNeighbours(Tensor a, Tensor b, int k = 10)
    {
        Check(a, b, k);
        return Mean(Overlap(a, a, b, b, k));
    }

    /// <summary>Mean reciprocal rank of a_i among all rows of <paramref name="a"/> by cosine to b_i.</summary>
    /// <param name="a">Floating point [n, d]: what is searched.</param>
    /// <param name="b">[n, d]: the queries.</param>
    public static double Mrr(Tensor a, Tensor b) => RetrievalMetrics.Mrr(Ranks(a, b));

    /// <summary>The rank, from 1, of a_i among all rows of <paramref name="a"/> by cosine to b_i. Of rows equally near, the one with the smaller index comes first.</summary>
    /// <param name="a">Floating point [n, d].</param>
    /// <param name="b">[n, d].</param>
    public static int[] Ranks(Tensor a, Tensor b)
    {
        Check(a, b, 1);
        if (a.shape[1] != b.shape[1]) throw Widths(a, b);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor index = Unit(a), queries = Unit(b);
        long n = a.shape[0];
        int[] ranks = new int[n];
        for (long start = 0; start < n; start += BlockRows)
        {
            using DisposeScope block = NewDisposeScope();
            long rows = Math.Min(BlockRows, n - start);
            Tensor s = queries.narrow(0, start, rows).matmul(index.t());
            Tensor own = s.diagonal(start).unsqueeze(1);
            Tensor before = s.gt(own) | (s.eq(own) & arange(n, device: a.device).unsqueeze(0).lt(arange(start, start + rows, device: a.device).unsqueeze(1)));
            long[] counts = before.sum(1).cpu().data<long>().ToArray();
            for (int i = 0; i < counts.Length; i++) ranks[start + i] = (int)counts[i] + 1;
        }
        return ranks;
    }

    /// <summary>Part of the rows b_i whose counterpart a_i is among the k nearest rows of <paramref name="a"/>.</summary>
    /// <param name="a">Floating point [n, d].</param>
    /// <param name="b">[n, d].</param>
    /// <param name="k">Neighbours, 1 to n.</param>
    public static double RecallAt(Tensor a, Tensor b, int k)
    {
        Check(a, b, k);
        return RetrievalMetrics.RecallAtN(Ranks(a, b), k);
    }

    /// <summary>Mean cosine of counterparts.</summary>
    /// <param name="a">Floating point [n, d].</param>
    /// <param name="b">[n, d].</param>
    public static double Cosine(Tensor a, Tensor b)
    {
        Check(a, b, 1);
        if (a.shape[1] != b.shape[1]) throw Widths(a, b);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        return Mean((Unit(a) * Unit(b)).sum(1));
    }

    /// <summary>Linear centred kernel alignment; see <see cref="RepresentationSimilarity.LinearCka"/>. The widths may differ.</summary>
    /// <param name="a">Floating point [n, d], n at least 2.</param>
    /// <param name="b">[n, e].</param>
    public static double Cka(Tensor a, Tensor b)
    {
        using var ungraphed = no_grad();
        using Tensor cka = RepresentationSimilarity.LinearCka(a, b);
        return cka.to(ScalarType.Float64).item<double>();
    }

    /// <summary>Indices of the k nearest rows of <paramref name="index"/> by cosine to each query, nearest first; of rows equally near, the one with the smaller index.</summary>
    /// <param name="index">Floating point [n, d].</param>
    /// <param name="queries">[m, d].</param>
    /// <param name="k">Neighbours, 1 to n.</param>
    /// <returns>int64 [m, k].</returns>
    public static Tensor Nearest(Tensor index, Tensor queries, int k)
    {
        ArgumentNullException.ThrowIfNull(index);
        ArgumentNullException.ThrowIfNull(queries);
        if (k < 1 || k > index.shape[0]) throw new ArgumentOutOfRangeException(nameof(k), k, $"There are {index.shape[0]} rows, so 1..{index.shape[0]} neighbours.");
        if (index.dim() != 2 || queries.dim() != 2 || index.shape[1] != queries.shape[1]) throw Widths(index, queries);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        return NearestUnit(Unit(index), Unit(queries), k).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Similarity of networks to a reference as a proxy of their performance: the mean cosine of relative representations, network against reference, and its Pearson correlation with the networks' scores.
    /// </summary>
    /// <param name="reference">Relative representations of a network that performs well [n, k].</param>
    /// <param name="candidates">Relative representations of the same samples by the other networks, each [n, k].</param>
    /// <param name="scores">A score of each of them, for example accuracy.</param>
    /// <exception cref="ArgumentException">There are not as many scores as networks, or fewer than two.</exception>
    public static PerformanceProxy PerformanceProxy(Tensor reference, IReadOnlyList<Tensor> candidates, IReadOnlyList<double> scores)
    {
        ArgumentNullException.ThrowIfNull(candidates);
        ArgumentNullException.ThrowIfNull(scores);
        if (candidates.Count != scores.Count || scores.Count < 2) throw new ArgumentException($"As many scores as networks are needed, at least two, not {scores.Count} and {candidates.Count}.", nameof(scores));
        double[] similarities = [.. candidates.Select(c => Cosine(reference, c))];
        double x = similarities.Average(), y = scores.Average();
        double covariance = similarities.Zip(scores, (s, p) => (s - x) * (p - y)).Sum();
        return new PerformanceProxy(similarities, covariance / Math.Sqrt(similarities.Sum(s => (s - x) * (s - x)) * scores.Sum(p => (p - y) * (p - y))));
    }

    // Jaccard index of the neighbours of each row of `first` in `firstIndex` and of each row of `second` in `secondIndex`.
    private static Tensor Overlap(Tensor firstIndex, Tensor first, Tensor secondIndexQueries, Tensor secondIndex, int k)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor one = NearestUnit(Unit(firstIndex), Unit(first), k), two = NearestUnit(Unit(secondIndex), Unit(secondIndexQueries), k);
        Tensor shared = one.unsqueeze(2).eq(two.unsqueeze(1)).sum([1, 2]).to(ScalarType.Float64);
        return (shared / (2 * k - shared)).MoveToOuterDisposeScope();
    }

    private static Tensor NearestUnit(Tensor index, Tensor queries, int k)
    {
        var blocks = new List<Tensor>();
        for (long start = 0; start < queries.shape[0]; start += BlockRows)
        {
            using DisposeScope block = NewDisposeScope();
            Tensor s = queries.narrow(0, start, Math.Min(BlockRows, queries.shape[0] - start)).matmul(index.t());
            (_, Tensor order) = sort(s, dim: 1, descending: true, stable: true);
            blocks.Add(order.narrow(1, 0, k).clone().MoveToOuterDisposeScope());
        }
        return cat(blocks, 0);
    }

    private static Tensor Unit(Tensor x)
    {
        Tensor lengths = x.norm(1, keepdim: true);
        if (!(lengths.isfinite() & lengths.gt(0)).all().item<bool>())
            throw new ArgumentException($"Row {(lengths.isfinite() & lengths.gt(0)).squeeze(1).to(ScalarType.Int32).argmin().item<long>()} has length zero or holds NaN or infinity, so it has no cosine.");
        return x / lengths;
    }

    private static double Mean(Tensor values) => values.to(ScalarType.Float64).mean().item<double>();

    private static ArgumentException Widths(Tensor a, Tensor b) => new($"Spaces [{string.Join(", ", a.shape)}] and [{string.Join(", ", b.shape)}] have different widths, so their vectors cannot be compared.");

    private static void Check(Tensor a, Tensor b, int k)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        if (a.dim() != 2 || b.dim() != 2 || a.shape[0] != b.shape[0] || a.shape[0] < 1 || !a.is_floating_point() || a.dtype != b.dtype)
            throw new ArgumentException($"Spaces must be floating point [n, d] and [n, e] of one type, row i of both being the same sample, not {a.dtype} [{string.Join(", ", a.shape)}] and {b.dtype} [{string.Join(", ", b.shape)}].", nameof(b));
        if (k < 1 || k > a.shape[0]) throw new ArgumentOutOfRangeException(nameof(k), k, $"There are {a.shape[0]} rows, so 1..{a.shape[0]} neighbours.");
    }
}
