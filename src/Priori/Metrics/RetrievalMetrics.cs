namespace Priori.Metrics;

/// <summary>Measures of ranked retrieval. Positions count from 0 in lists, ranks from 1 in results.</summary>
public static class RetrievalMetrics
{
    /// <summary>Recall@N: the part of the relevant items that is among the first N of the ranking.</summary>
    /// <param name="ranking">Items, best first.</param>
    /// <param name="relevant">The relevant items, at least one.</param>
    /// <param name="n">How many items are looked at, at least 1.</param>
    public static double RecallAtN<T>(IReadOnlyList<T> ranking, IReadOnlyCollection<T> relevant, int n)
    {
        Check(relevant, n);
        var wanted = relevant.ToHashSet();
        return (double)ranking.Take(n).Where(wanted.Contains).Distinct().Count() / wanted.Count;
    }

    /// <summary>Recall@N over queries with one wanted item each: the part of the queries whose item has a rank of at most N.</summary>
    /// <param name="ranks">The rank of each query's item from 1; <see cref="int.MaxValue"/> where it was not found.</param>
    /// <param name="n">How many candidates are looked at, at least 1.</param>
    public static double RecallAtN(IReadOnlyCollection<int> ranks, int n)
    {
        Check(ranks, n);
        return (double)ranks.Count(rank => rank <= n) / ranks.Count;
    }

    /// <summary>The least number of candidates a query that makes recall reach a level (MUVERA, table 1).</summary>
    /// <param name="ranks">The rank of each query's item from 1; <see cref="int.MaxValue"/> where it was not found.</param>
    /// <param name="recall">The wanted part of the queries, above 0 and at most 1.</param>
    /// <returns>The number, or <see cref="int.MaxValue"/> where the lists were too short.</returns>
    public static int CandidatesForRecall(IReadOnlyCollection<int> ranks, double recall)
    {
        Check(ranks, 1);
        if (recall is not (> 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(recall), recall, "A recall lies above 0 and at most at 1.");
        var needed = Math.Max(1, (int)Math.Ceiling(recall * ranks.Count - 1e-9));
        return ranks.Order().ElementAt(needed - 1);
    }

    /// <summary>
    /// Normalised discounted cumulative gain of the first k items (Järvelin and Kekäläinen, TOIS 2002): sum of gain / log2(1 + rank), over that of the best
    /// possible ranking. 0 where no item has a gain.
    /// </summary>
    /// <param name="ranking">Items, best first.</param>
    /// <param name="gains">The gain of each relevant item, not negative; others have 0.</param>
    /// <param name="k">How many items are looked at, at least 1.</param>
    public static double NdcgAtK<T>(IReadOnlyList<T> ranking, IReadOnlyDictionary<T, double> gains, int k) where T : notnull
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        static double Dcg(IEnumerable<double> values) => values.Select((gain, i) => gain / Math.Log2(i + 2)).Sum();
        var ideal = Dcg(gains.Values.OrderDescending().Take(k));
        return ideal == 0 ? 0 : Dcg(ranking.Take(k).Select(item => gains.GetValueOrDefault(item))) / ideal;
    }

    /// <summary>Mean reciprocal rank: the mean over queries of 1 / rank of the first relevant item, 0 where it was not found.</summary>
    /// <param name="ranks">Ranks from 1; <see cref="int.MaxValue"/> where no relevant item was found.</param>
    public static double Mrr(IReadOnlyCollection<int> ranks)
    {
        Check(ranks, 1);
        return ranks.Average(rank => rank == int.MaxValue ? 0 : 1.0 / rank);
    }

    private static void Check<T>(IReadOnlyCollection<T> items, int n)
    {
        if (items.Count == 0) throw new ArgumentException("There is nothing to measure: the collection is empty.", nameof(items));
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
    }
}
