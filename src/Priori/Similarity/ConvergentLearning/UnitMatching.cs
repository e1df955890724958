using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Similarity;

/// <summary>Which unit of B corresponds to each unit of A.</summary>
/// <param name="Assignment">Unit of B for each unit of A; -1 for units that are left out (dead) or stay over (A has more units than B).</param>
/// <param name="Score">Similarity of each pair; 0 where there is none.</param>
/// <param name="Mean">Mean score of the pairs.</param>
/// <param name="Unique">Units of A that are not left out and whose pair scores below the threshold, or that have none.</param>
public sealed record MatchingResult(int[] Assignment, double[] Score, double Mean, IReadOnlyList<int> Unique)
{
    /// <summary>Order of B's units in which those matched to A's units 0, 1, ... come first (the others follow, ascending): it makes the diagonal of the similarity heavy.</summary>
    /// <param name="units">Number of units of B.</param>
    public int[] AlignedOrder(int units)
    {
        int[] matched = [.. Assignment.Where(b => b >= 0).Distinct()];
        return [.. matched, .. Enumerable.Range(0, units).Except(matched)];
    }
}

/// <summary>
/// Correspondences between the units of two layers (section 3): one-to-one by a maximum-weight matching, which is optimal (not greedy), and one-to-many by the best partner of each unit (semi-matching).
/// The similarity is the signed correlation or the mutual information.
/// </summary>
public static class UnitMatching
{
    /// <summary>The score below which a unit counts as unique. The paper reads 0.3 to 0.5 off its figures.</summary>
    public const double UniqueBelow = 0.5;

    /// <summary>The one-to-one matching of the greatest total similarity; of a rectangular matrix, as many pairs as its smaller side.</summary>
    /// <param name="similarity">[p, q], finite.</param>
    /// <param name="deadA">Units of A to leave out; none when null.</param>
    /// <param name="deadB">Units of B to leave out; none when null.</param>
    /// <param name="uniqueBelow">Score below which a unit is unique.</param>
    /// <exception cref="ArgumentException">The similarity is no finite matrix, or all units of a side are left out.</exception>
    public static MatchingResult Bipartite(Tensor similarity, IReadOnlyList<bool>? deadA = null, IReadOnlyList<bool>? deadB = null, double uniqueBelow = UniqueBelow)
        => Match(similarity, deadA, deadB, uniqueBelow, LinearAssignment.Maximize);

    /// <summary>The one-to-one matching of the greatest total correlation, without dead units.</summary>
    /// <param name="correlation">The correlations.</param>
    /// <param name="uniqueBelow">Score below which a unit is unique.</param>
    /// <exception cref="ArgumentException">All units of a side are dead.</exception>
    public static MatchingResult Bipartite(CrossCorrelation correlation, double uniqueBelow = UniqueBelow)
    {
        ArgumentNullException.ThrowIfNull(correlation);
        return Bipartite(correlation.Between, correlation.A.Dead, correlation.B.Dead, uniqueBelow);
    }

    /// <summary>The most similar unit of B for each unit of A; units of B may repeat. Its mean is at least that of the one-to-one matching.</summary>
    /// <param name="similarity">[p, q], finite.</param>
    /// <param name="deadA">Units of A to leave out; none when null.</param>
    /// <param name="deadB">Units of B to leave out; none when null.</param>
    /// <param name="uniqueBelow">Score below which a unit is unique.</param>
    /// <exception cref="ArgumentException">The similarity is no finite matrix, or all units of a side are left out.</exception>
    public static MatchingResult SemiMatching(Tensor similarity, IReadOnlyList<bool>? deadA = null, IReadOnlyList<bool>? deadB = null, double uniqueBelow = UniqueBelow)
        => Match(similarity, deadA, deadB, uniqueBelow, values => [.. values.argmax(1).data<long>().ToArray().Select(j => (int)j)]);

    /// <summary>The most correlated unit of B for each unit of A, without dead units.</summary>
    /// <param name="correlation">The correlations.</param>
    /// <param name="uniqueBelow">Score below which a unit is unique.</param>
    /// <exception cref="ArgumentException">All units of a side are dead.</exception>
    public static MatchingResult SemiMatching(CrossCorrelation correlation, double uniqueBelow = UniqueBelow)
    {
        ArgumentNullException.ThrowIfNull(correlation);
        return SemiMatching(correlation.Between, correlation.A.Dead, correlation.B.Dead, uniqueBelow);
    }

    /// <summary>Both matchings by mutual information in place of correlation (supplement S.1), without dead units; scores are nats.</summary>
    /// <param name="information">The mutual information of all pairs.</param>
    /// <param name="correlation">The correlations over the same observations, which tell the dead units.</param>
    /// <param name="uniqueBelow">Score in nats below which a unit is unique. Default 0: none.</param>
    /// <exception cref="ArgumentException">Shapes differ, or all units of a side are dead.</exception>
    public static (MatchingResult Bipartite, MatchingResult SemiMatching) MutualInformation(UnitInformation information, CrossCorrelation correlation, double uniqueBelow = 0)
    {
        ArgumentNullException.ThrowIfNull(information);
        ArgumentNullException.ThrowIfNull(correlation);
        return (Bipartite(information.Nats, correlation.A.Dead, correlation.B.Dead, uniqueBelow), SemiMatching(information.Nats, correlation.A.Dead, correlation.B.Dead, uniqueBelow));
    }

    /// <summary>The best one-to-one matching of a layer with itself in which no unit is its own partner: pairs of near duplicates. See <see cref="Cycles"/>.</summary>
    /// <param name="similarity">[p, p], finite, p at least 2.</param>
    /// <param name="dead">Units to leave out; none when null. At least 2 must stay.</param>
    /// <exception cref="ArgumentException">The similarity is no finite square matrix, or fewer than 2 units stay.</exception>
    public static MatchingResult SelfMatching(Tensor similarity, IReadOnlyList<bool>? dead = null)
    {
        ArgumentNullException.ThrowIfNull(similarity);
        if (similarity.dim() != 2 || similarity.shape[0] != similarity.shape[1] || similarity.shape[0] - (dead?.Count(d => d) ?? 0) < 2)
            throw new ArgumentException($"A matching with itself needs [p, p] with at least 2 live units, not [{string.Join(", ", similarity.shape)}].", nameof(similarity));
        using DisposeScope scope = NewDisposeScope();
        // So low that no gain elsewhere pays for one pair on the diagonal.
        Tensor values = similarity.detach().to(float64).clone();
        double low = values.min().item<double>() - (values.shape[0] + 1) * (1 + values.max().item<double>() - values.min().item<double>());
        values.diagonal().fill_(low);
        return Match(values, dead, dead, double.NegativeInfinity, LinearAssignment.Maximize);
    }

    /// <summary>The cycles of a permutation, for a display in which every unit stands beside its partner; the cycle of the lowest unit comes first.</summary>
    /// <param name="permutation">A permutation of 0..n-1.</param>
    /// <exception cref="ArgumentException">It is no permutation.</exception>
    public static IReadOnlyList<IReadOnlyList<int>> Cycles(IReadOnlyList<int> permutation)
    {
        ArgumentNullException.ThrowIfNull(permutation);
        if (!permutation.Order().SequenceEqual(Enumerable.Range(0, permutation.Count))) throw new ArgumentException("Cycles are those of a permutation of 0..n-1.", nameof(permutation));
        var seen = new bool[permutation.Count];
        var cycles = new List<IReadOnlyList<int>>();
        for (int start = 0; start < permutation.Count; start++)
        {
            if (seen[start]) continue;
            var cycle = new List<int>();
            for (int unit = start; !seen[unit]; unit = permutation[unit])
            {
                seen[unit] = true;
                cycle.Add(unit);
            }
            cycles.Add(cycle);
        }
        return cycles;
    }

    /// <summary>Mean score of random one-to-one pairings of the units that are not dead: what a matching has to beat.</summary>
    /// <param name="correlation">The correlations.</param>
    /// <param name="pairings">Number of pairings, at least 1. Default 100.</param>
    /// <param name="seed">Their seed.</param>
    /// <exception cref="ArgumentException">All units of a side are dead.</exception>
    public static double RandomPairings(CrossCorrelation correlation, int pairings = 100, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(correlation);
        ArgumentOutOfRangeException.ThrowIfLessThan(pairings, 1);
        var random = SplitMix64.For(seed);
        double total = 0;
        for (int i = 0; i < pairings; i++)
        {
            total += Match(correlation.Between, correlation.A.Dead, correlation.B.Dead, double.NegativeInfinity, values =>
            {
                int rows = (int)values.shape[0], columns = (int)values.shape[1];
                int[] order = [.. Enumerable.Range(0, Math.Max(rows, columns))];
                random.Shuffle<int>(order);
                return [.. order.Take(rows).Select(j => j < columns ? j : -1)];
            }).Mean;
        }
        return total / pairings;
    }

    private static MatchingResult Match(Tensor similarity, IReadOnlyList<bool>? deadA, IReadOnlyList<bool>? deadB, double uniqueBelow, Func<Tensor, int[]> assign)
    {
        ArgumentNullException.ThrowIfNull(similarity);
        if (similarity.dim() != 2 || similarity.numel() == 0) throw new ArgumentException($"The similarity must be [p, q], not [{string.Join(", ", similarity.shape)}].", nameof(similarity));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor values = similarity.detach().to(float64).cpu();
        if (!values.isfinite().all().item<bool>()) throw new ArgumentException("Similarities must be finite.", nameof(similarity));
        int[] a = Live(values.shape[0], deadA, nameof(deadA)), b = Live(values.shape[1], deadB, nameof(deadB));
        if (a.Length < values.shape[0]) values = values.index_select(0, tensor(a).to(int64));
        if (b.Length < values.shape[1]) values = values.index_select(1, tensor(b).to(int64));
        double[] flat = values.contiguous().data<double>().ToArray();
        int[] found = assign(values), assignment = [.. Enumerable.Repeat(-1, (int)similarity.shape[0])];
        var score = new double[assignment.Length];
        var unique = new List<int>();
        double total = 0;
        for (int i = 0; i < a.Length; i++)
        {
            if (found[i] >= 0)
            {
                assignment[a[i]] = b[found[i]];
                total += score[a[i]] = flat[((long)i * b.Length) + found[i]];
            }
            if (found[i] < 0 || score[a[i]] < uniqueBelow) unique.Add(a[i]);
        }
        return new MatchingResult(assignment, score, total / found.Count(j => j >= 0), unique);
    }

    private static int[] Live(long count, IReadOnlyList<bool>? dead, string name)
    {
        if (dead is not null && dead.Count != count) throw new ArgumentException($"There are {dead.Count} marks for {count} units.", name);
        int[] live = [.. Enumerable.Range(0, (int)count).Where(i => dead is null || !dead[i])];
        return live.Length > 0 ? live : throw new ArgumentException($"All {count} units of {(name == "deadA" ? "the first" : "the second")} layer are dead (constant): there is nothing to match.", name);
    }
}
