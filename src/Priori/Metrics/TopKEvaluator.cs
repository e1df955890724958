namespace Priori.Metrics;

/// <summary>Means over the queries that have something to find.</summary>
/// <param name="K">How many items are looked at.</param>
/// <param name="Queries">Queries with at least one true item; the means are over these.</param>
/// <param name="Recall">Hits among the first K over the number of true items.</param>
/// <param name="Ndcg">Sum of 1 / log2(1 + rank) over hits, over that of min(true items, K) hits at the top.</param>
/// <param name="Map">Average precision at the hits: sum of (hits so far / rank) over hits, over min(true items, K).</param>
/// <param name="HitRate">Part of the queries with at least one hit.</param>
public sealed record TopKMetrics(int K, int Queries, double Recall, double Ndcg, double Map, double HitRate);

/// <summary>
/// Evaluates top-K recommendation: every query (a user, a partial bundle, a job) ranks all items, what it already knows is masked, and the first K are compared with what it should find.
/// Scores are asked for in blocks of queries, so nothing of size queries x items is ever held.
/// </summary>
public static class TopKEvaluator
{
    /// <summary>Ranks all items for every query.</summary>
    /// <param name="score">Scores of all items, [queries of the block, items], for query numbers int64 [queries of the block] on the CPU; any device. Called without gradients, in order.</param>
    /// <param name="truth">The items each query should find; queries with none are kept but not counted. An item counts once.</param>
    /// <param name="known">Items each query already has, which are never recommended; null for none.</param>
    /// <param name="k">Length of the rankings, at least 1: the largest K that will be asked for.</param>
    /// <param name="blockSize">Queries scored at once; by default 256.</param>
    /// <exception cref="ArgumentException">The lists differ in length, an item is outside the scores, or a score is NaN.</exception>
    public static TopKResult Evaluate(Func<Tensor, Tensor> score, IReadOnlyList<IReadOnlyCollection<int>> truth, IReadOnlyList<IReadOnlyCollection<int>>? known, int k, int blockSize = 256)
    {
        ArgumentNullException.ThrowIfNull(score);
        ArgumentNullException.ThrowIfNull(truth);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(blockSize, 1);
        if (known is not null && known.Count != truth.Count) throw new ArgumentException($"There are {truth.Count} queries with true items and {known.Count} with known ones.", nameof(known));
        var rankings = new int[truth.Count][];
        using var ungraphed = no_grad();
        for (int start = 0; start < truth.Count; start += blockSize)
        {
            using DisposeScope scope = NewDisposeScope();
            int size = Math.Min(blockSize, truth.Count - start);
            int first = start;
            Tensor scores = score(arange(start, start + size, ScalarType.Int64));
            if (scores.dim() != 2 || scores.size(0) != size) throw new ArgumentException($"{size} queries were asked for; the scores have the shape [{string.Join(", ", scores.shape)}].", nameof(score));
            int[][] ranked = Rank(scores, known is null ? null : i => known[first + i], k);
            for (int i = 0; i < size; i++)
            {
                if (truth[start + i].Any(item => item < 0 || item >= scores.size(1))) throw new ArgumentException($"Query {start + i} should find an item that is not one of {scores.size(1)}.", nameof(truth));
                rankings[start + i] = ranked[i];
            }
        }
        return new TopKResult(rankings, truth, k);
    }

    /// <summary>The best items of each row, best first; equal scores in any order.</summary>
    /// <param name="scores">Scores [queries, items].</param>
    /// <param name="known">Items of a row that are left out; null for none.</param>
    /// <param name="k">Most items of a row; fewer where fewer are left.</param>
    /// <exception cref="ArgumentException">A known item is outside the scores, or a score is NaN.</exception>
    public static int[][] Rank(Tensor scores, Func<int, IEnumerable<int>>? known, int k)
    {
        ArgumentNullException.ThrowIfNull(scores);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        int rows = (int)scores.size(0);
        long items = scores.size(1);
        if (scores.isnan().any().item<bool>()) throw new ArgumentException("A score is NaN.", nameof(scores));
        List<long> hidden = [];
        for (int i = 0; known is not null && i < rows; i++)
        {
            foreach (int item in known(i))
            {
                if (item < 0 || item >= items) throw new ArgumentException($"Known item {item} is not one of {items}.", nameof(known));
                hidden.Add(i * items + item);
            }
        }
        if (hidden.Count > 0) scores = scores.reshape(-1).index_fill(0, tensor(hidden.ToArray()).to(scores.device), double.NegativeInfinity).view(rows, items);
        var (values, indices) = scores.topk((int)Math.Min(k, items), -1);
        bool[] left = values.gt(double.NegativeInfinity).cpu().reshape(-1).data<bool>().ToArray();
        long[] order = indices.cpu().reshape(-1).data<long>().ToArray();
        int width = (int)indices.size(1);
        return [.. Enumerable.Range(0, rows).Select(i => Enumerable.Range(i * width, width).Where(j => left[j]).Select(j => (int)order[j]).ToArray())];
    }
}

/// <summary>Rankings of all queries with what they should find; figures for any K, slice of items and slice of queries come from it.</summary>
public sealed class TopKResult
{
    private readonly IReadOnlyList<IReadOnlySet<int>> _truth;

    internal TopKResult(IReadOnlyList<int[]> rankings, IEnumerable<IReadOnlyCollection<int>> truth, int length)
    {
        Rankings = rankings;
        _truth = [.. truth.Select(t => t as IReadOnlySet<int> ?? t.ToHashSet())];
        Length = length;
    }

    /// <summary>The best items of each query, best first.</summary>
    public IReadOnlyList<int[]> Rankings { get; }

    /// <summary>The largest K.</summary>
    public int Length { get; }

    /// <summary>Means over all queries that have a true item; NaN where there is no such query.</summary>
    /// <param name="k">How many items are looked at, 1..<see cref="Length"/>.</param>
    public TopKMetrics At(int k)
    {
        if (k < 1 || k > Length) throw new ArgumentOutOfRangeException(nameof(k), k, $"The rankings hold {Length} items.");
        var (queries, recall, ndcg, map, hit) = (0, 0.0, 0.0, 0.0, 0.0);
        for (int q = 0; q < Rankings.Count; q++)
        {
            if (_truth[q].Count == 0) continue;
            queries++;
            var (hits, gain, precision, ideal, best) = (0, 0.0, 0.0, 0.0, Math.Min(_truth[q].Count, k));
            for (int r = 0; r < k; r++)
            {
                double discount = 1 / Math.Log2(r + 2);
                if (r < best) ideal += discount;
                if (r >= Rankings[q].Length || !_truth[q].Contains(Rankings[q][r])) continue;
                gain += discount;
                precision += ++hits / (r + 1.0);
            }
            recall += (double)hits / _truth[q].Count;
            ndcg += gain / ideal;
            map += precision / best;
            hit += hits > 0 ? 1 : 0;
        }
        return new TopKMetrics(k, queries, recall / queries, ndcg / queries, map / queries, hit / queries);
    }

    /// <summary>The same rankings when only some items are to be found (head and tail, warm and cold): a query's true items outside the slice do not count, ranks stay as they are.</summary>
    /// <param name="slice">Whether an item is in the slice.</param>
    public TopKResult ForItems(Func<int, bool> slice)
    {
        ArgumentNullException.ThrowIfNull(slice);
        return new TopKResult(Rankings, _truth.Select(t => t.Where(slice).ToHashSet()), Length);
    }

    /// <summary>Only some of the queries (new users, short histories).</summary>
    /// <param name="slice">Whether a query, by its number, is in the slice.</param>
    public TopKResult ForQueries(Func<int, bool> slice)
    {
        ArgumentNullException.ThrowIfNull(slice);
        int[] queries = [.. Enumerable.Range(0, Rankings.Count).Where(slice)];
        return new TopKResult([.. queries.Select(q => Rankings[q])], queries.Select(q => _truth[q]), Length);
    }
}
