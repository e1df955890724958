using Priori.Metrics;

namespace Priori.Tests.Metrics;

public class TopKEvaluatorTests
{
    // Items 0..4 are ranked in their order.
    private static readonly float[] s_descending = [5, 4, 3, 2, 1];

    [Theory]
    [InlineData(new[] { 0, 2, 9 }, .703918, .666667)] // hits [1,0,1,0,0], 3 relevant
    [InlineData(new[] { 0, 2 }, .919721, 1)]          // 2 relevant
    public void Ndcg_and_recall_of_the_worked_example(int[] truth, double ndcg, double recall)
    {
        float[] scores = [.. s_descending, -1, -2, -3, -4, -5];
        TopKMetrics m = TopKEvaluator.Evaluate(_ => tensor(scores).view(1, -1), [truth], null, 5).At(5);
        Assert.Equal(ndcg, m.Ndcg, 6);
        Assert.Equal(recall, m.Recall, 6);
        Assert.Equal((1 + 2 / 3.0) / truth.Length, m.Map, 12);
        Assert.Equal(1, m.HitRate);
    }

    [Fact]
    public void Known_items_are_masked_and_queries_without_truth_are_not_counted()
    {
        int[][] truth = [[2], [], [4], [1, 3]], known = [[0, 1], [0], [0, 1, 2, 3], []];
        TopKResult result = TopKEvaluator.Evaluate(rows => tensor(s_descending).expand(rows.numel(), 5), truth, known, 2, blockSize: 3);
        Assert.Equal([2, 3], result.Rankings[0]);
        Assert.Equal([4], result.Rankings[2]); // one item is left
        TopKMetrics first = result.At(1), two = result.At(2);
        Assert.Equal((3, 2 / 3.0, 2 / 3.0), (first.Queries, first.Recall, first.HitRate));
        Assert.Equal((1 + 1 + .5) / 3, two.Recall, 12);
        Assert.Equal((1 + 1 + 1 / Math.Log2(3) / (1 + 1 / Math.Log2(3))) / 3, two.Ndcg, 12);
        Assert.Equal((1 + 1 + .5 / 2) / 3, two.Map, 12);
    }

    [Fact]
    public void Slices_count_only_their_items_or_queries()
    {
        int[][] truth = [[0, 4], [1], [3]];
        TopKResult result = TopKEvaluator.Evaluate(rows => tensor(s_descending).expand(rows.numel(), 5), truth, null, 4);
        TopKMetrics head = result.ForItems(i => i < 2).At(4), tail = result.ForItems(i => i >= 2).At(4);
        Assert.Equal((2, 1.0), (head.Queries, head.Recall));
        Assert.Equal((2, .5), (tail.Queries, tail.Recall));
        Assert.Equal(1, result.ForQueries(q => q > 0).At(4).Recall);
        Assert.Equal(.5, result.ForQueries(q => q == 0).At(4).Recall);
        Assert.Equal(double.NaN, result.ForQueries(_ => false).At(4).Recall);
    }

    [Fact]
    public void Scores_are_asked_for_in_blocks()
    {
        List<long> sizes = [];
        int[][] truth = [.. Enumerable.Range(0, 10).Select(i => new[] { i })];
        TopKResult result = TopKEvaluator.Evaluate(rows => { sizes.Add(rows.numel()); return eye(10)[rows]; }, truth, null, 1, blockSize: 4);
        Assert.Equal([4, 4, 2], sizes);
        Assert.Equal(1, result.At(1).Recall);
    }

    [Fact]
    public void Bad_input_is_refused()
    {
        Assert.Throws<ArgumentException>(() => TopKEvaluator.Evaluate(_ => zeros(1, 3), [[3]], null, 1));
        Assert.Throws<ArgumentException>(() => TopKEvaluator.Evaluate(_ => zeros(1, 3), [[0]], [[3]], 1));
        Assert.Throws<ArgumentException>(() => TopKEvaluator.Evaluate(_ => zeros(1, 3), [[0]], [], 1));
        Assert.Throws<ArgumentException>(() => TopKEvaluator.Evaluate(_ => full(1, 3, float.NaN), [[0]], null, 1));
        Assert.Throws<ArgumentException>(() => TopKEvaluator.Evaluate(_ => zeros(2, 3), [[0]], null, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => TopKEvaluator.Evaluate(_ => zeros(1, 3), [[0]], null, 1).At(2));
    }
}
