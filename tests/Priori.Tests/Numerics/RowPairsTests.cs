using System.Runtime.Intrinsics;
using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class RowPairsTests
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(7, 3)]
    [InlineData(131, 10)]
    [InlineData(1200, 5)]
    public void Sums_distances_and_counts_are_those_of_all_pairs(int n, int dim)
    {
        Tensor rows = randn([n, dim], ScalarType.Float64, generator: new Generator((ulong)n)) * 2;
        if (n > 7) rows[5] = rows[6];
        Tensor squares = (rows.unsqueeze(1) - rows.unsqueeze(0)).square().sum(-1), kernel = (-squares).exp(), greatest = (rows.unsqueeze(1) - rows.unsqueeze(0)).abs().amax([2]);
        int first = n / 3;
        Tensor group = (arange(n) >= first).to(ScalarType.Int64);
        int threads = get_num_threads();
        foreach (int count in new[] { 1, 2 })
        {
            set_num_threads(count);
            using var pairs = new RowPairs(rows);
            (double[] all, double[] own) = pairs.KernelSums(first > 0 ? [first, n - first] : [n]);
            Close(kernel.sum(dim: 1), all, 1e-13);
            Close((kernel * group.unsqueeze(1).eq(group.unsqueeze(0))).sum(dim: 1), own, 1e-13);
            foreach (int k in new[] { 1, 3 })
            {
                if (n <= k) continue;
                double[] radius = pairs.NeighbourDistances(k);
                Close(greatest.topk(k + 1, largest: false).values[.., k], radius, 0);
                Close(greatest.lt(tensor(radius).unsqueeze(1)).sum(dim: 1).to(ScalarType.Float64), pairs.CountNearer(radius), 0);
            }
        }
        set_num_threads(threads);
    }

    [Fact]
    public void The_exponential_is_right_to_the_last_bits()
    {
        var random = new Random(1);
        double[] exponents = [0, 1e-300, 1e-9, 0.3465, 0.3466, 1, 700, 707.99, 708, 709, 1e9, double.PositiveInfinity, .. Enumerable.Range(0, 20_000).Select(_ => random.NextDouble() * Math.Pow(10, random.Next(-3, 3)))];
        for (int i = 0; i + Vector512<double>.Count <= exponents.Length; i += Vector512<double>.Count)
        {
            Vector512<double> actual = VectorMath.ExpNegative(Vector512.Create<double>(exponents.AsSpan(i)));
            for (int lane = 0; lane < Vector512<double>.Count; lane++)
            {
                double x = exponents[i + lane], expected = x > VectorMath.GreatestExponent ? 0 : Math.Exp(-x);
                Assert.True(Math.Abs(actual[lane] - expected) <= 5e-16 * expected, $"exp(-{x}) is {expected}, not {actual[lane]}.");
            }
        }
    }

    private static void Close(Tensor expected, double[] actual, double tolerance)
    {
        double[] values = expected.data<double>().ToArray();
        Assert.Equal(values.Length, actual.Length);
        for (int i = 0; i < actual.Length; i++) Assert.True(Math.Abs(values[i] - actual[i]) <= tolerance * values[i], $"{values[i]} is not {actual[i]}.");
    }
}
