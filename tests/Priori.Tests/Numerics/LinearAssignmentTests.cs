using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Tests.Numerics;

public class LinearAssignmentTests
{
    [Fact]
    public void The_optimum_is_found_where_greedy_matching_fails()
    {
        double[,] similarity = { { .9, .8, .1 }, { .85, .3, .2 }, { .4, .35, .05 } };
        int[] assignment = LinearAssignment.Maximize(similarity);
        Assert.Equal([1, 0, 2], assignment);
        Assert.Equal(1.70, Enumerable.Range(0, 3).Sum(i => similarity[i, assignment[i]]), 12);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(6, 6)]
    [InlineData(4, 7)]
    [InlineData(7, 4)]
    public void It_agrees_with_brute_force(int rows, int columns)
    {
        var random = new SplitMix64(7);
        for (int trial = 0; trial < 20; trial++)
        {
            var costs = new double[rows, columns];
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < columns; j++) costs[i, j] = trial % 2 == 0 ? random.NextGaussian() * 1e-7 : random.Next(4); // tiny differences; many ties
            int[] assignment = LinearAssignment.Minimize(costs);
            int[] used = [.. assignment.Where(c => c >= 0)];
            Assert.Equal(Math.Min(rows, columns), used.Length);
            Assert.Equal(used.Length, used.Distinct().Count());
            double total = assignment.Select((c, i) => c < 0 ? 0 : costs[i, c]).Sum();
            Assert.Equal(Best(costs, 0, new bool[columns], Math.Max(0, rows - columns)), total, 1e-13);
        }
    }

    [Fact]
    public void A_large_permutation_is_recovered()
    {
        const int n = 300;
        var random = new SplitMix64(1);
        int[] truth = [.. Enumerable.Range(0, n)];
        random.Shuffle<int>(truth);
        Tensor values = rand(n, n, float64) * 0.9;
        for (int i = 0; i < n; i++) values[i, truth[i]] = 1.0;
        Assert.Equal(truth, LinearAssignment.Maximize(values));
    }

    [Fact]
    public void Bad_costs_are_refused()
    {
        Assert.Throws<ArgumentException>(() => LinearAssignment.Minimize(new double[0, 0]));
        Assert.Throws<ArgumentException>(() => LinearAssignment.Minimize(new[,] { { double.NaN } }));
        Assert.Throws<ArgumentException>(() => LinearAssignment.Maximize(ones(3)));
    }

    private static double Best(double[,] costs, int row, bool[] taken, int skips)
    {
        if (row == costs.GetLength(0)) return 0;
        double best = skips > 0 ? Best(costs, row + 1, taken, skips - 1) : double.PositiveInfinity;
        for (int j = 0; j < taken.Length; j++)
        {
            if (taken[j]) continue;
            taken[j] = true;
            best = Math.Min(best, costs[row, j] + Best(costs, row + 1, taken, skips));
            taken[j] = false;
        }
        return best;
    }
}
