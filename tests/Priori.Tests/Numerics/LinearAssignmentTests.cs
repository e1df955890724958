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

    [Theory]
    [InlineData(60, 60, 0)]
    [InlineData(60, 60, 5)]
    [InlineData(35, 90, 0)]
    [InlineData(90, 35, 3)]
    [InlineData(61, 67, 2)]
    public void Larger_totals_equal_those_of_the_textbook_algorithm(int rows, int columns, int levels)
    {
        for (ulong trial = 0; trial < 10; trial++)
        {
            var random = new SplitMix64(trial);
            var costs = new double[rows, columns];
            double[] left = [.. Enumerable.Range(0, rows).Select(_ => random.NextGaussian())], right = [.. Enumerable.Range(0, columns).Select(_ => random.NextGaussian())];
            for (int i = 0; i < rows; i++) // few distinct costs; or a matrix of nearly rank one, where rows compete for the same columns
                for (int j = 0; j < columns; j++) costs[i, j] = levels > 0 ? random.Next(levels) : (left[i] * right[j]) + (.1 * random.NextGaussian());
            int[] assignment = LinearAssignment.Minimize(costs);
            Assert.Equal(Math.Min(rows, columns), assignment.Where(c => c >= 0).Distinct().Count());
            Assert.Equal(Textbook(costs), assignment.Select((c, i) => c < 0 ? 0 : costs[i, c]).Sum(), 1e-9);
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

    // Kuhn's algorithm with potentials, row by row, from 1.
    private static double Textbook(double[,] costs)
    {
        bool swap = costs.GetLength(0) > costs.GetLength(1);
        int n = Math.Min(costs.GetLength(0), costs.GetLength(1)), m = Math.Max(costs.GetLength(0), costs.GetLength(1));
        double Cost(int i, int j) => swap ? costs[j - 1, i - 1] : costs[i - 1, j - 1];
        double[] u = new double[n + 1], v = new double[m + 1];
        int[] rowOf = new int[m + 1], way = new int[m + 1];
        for (int start = 1; start <= n; start++)
        {
            rowOf[0] = start;
            double[] least = [.. Enumerable.Repeat(double.PositiveInfinity, m + 1)];
            var used = new bool[m + 1];
            int column = 0;
            do
            {
                used[column] = true;
                int row = rowOf[column], next = 0;
                double delta = double.PositiveInfinity;
                for (int j = 1; j <= m; j++)
                {
                    if (used[j]) continue;
                    double reduced = Cost(row, j) - u[row] - v[j];
                    if (reduced < least[j]) (least[j], way[j]) = (reduced, column);
                    if (least[j] < delta) (delta, next) = (least[j], j);
                }
                for (int j = 0; j <= m; j++)
                {
                    if (used[j]) (u[rowOf[j]], v[j]) = (u[rowOf[j]] + delta, v[j] - delta);
                    else least[j] -= delta;
                }
                column = next;
            }
            while (rowOf[column] != 0);
            for (; column != 0; column = way[column]) rowOf[column] = rowOf[way[column]];
        }
        return Enumerable.Range(1, m).Where(j => rowOf[j] > 0).Sum(j => Cost(rowOf[j], j));
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
