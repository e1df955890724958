using BenchmarkDotNet.Attributes;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Benchmarks.Numerics;

/// <summary>Matching of n by n units. The matrices come from a portable generator, so that other implementations can solve the same ones.</summary>
public class LinearAssignmentBenchmark
{
    private double[,] _values = null!;

    [Params(512, 4096)]
    public int Units { get; set; } = 512;

    /// <summary>"uniform": independent entries; "similarity": cosines between 16-dimensional vectors and noisy copies of them, as correlations of two networks' units.</summary>
    [Params("uniform", "similarity")]
    public string Kind { get; set; } = "uniform";

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        _values = Matrix(Units, Kind);
    }

    [Benchmark]
    public int[] Maximize() => LinearAssignment.Maximize(_values);

    internal static double[,] Matrix(int n, string kind)
    {
        var random = new SplitMix64(1);
        var values = new double[n, n];
        if (kind == "uniform")
        {
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) values[i, j] = random.NextDouble();
            return values;
        }
        const int Width = 16;
        double[][] a = new double[n][], b = new double[n][];
        for (int i = 0; i < n; i++) a[i] = Unit([.. Enumerable.Range(0, Width).Select(_ => random.NextDouble() - .5)]);
        for (int i = 0; i < n; i++) b[i] = Unit([.. a[n - 1 - i].Select(x => x + .6 * (random.NextDouble() - .5))]);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
            {
                double sum = 0;
                for (int k = 0; k < Width; k++) sum += a[i][k] * b[j][k];
                values[i, j] = sum;
            }
        return values;
    }

    private static double[] Unit(double[] x)
    {
        double norm = Math.Sqrt(x.Sum(v => v * v));
        return [.. x.Select(v => v / norm)];
    }
}
