using BenchmarkDotNet.Attributes;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Benchmarks.Numerics;

/// <summary>The lasso of 256 target units on 256 source units, time per target: all at once from second moments, and one after the other by coordinate descent on 2,000 rows (four of the targets).</summary>
public class LassoBenchmark
{
    private const int Units = 256, Rows = 2000, Few = 4;
    private Tensor _gram = null!, _moments = null!, _x = null!, _y = null!;

    [Params(.1, .01)]
    public double Lambda { get; set; } = .1;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        Tensor latent = randn([Rows, 64], float64), a = (latent.matmul(randn([64, Units], float64)) + 2 * randn([Rows, Units], float64)).relu(), b = (latent.matmul(randn([64, Units], float64)) + 2 * randn([Rows, Units], float64)).relu();
        Tensor Standard(Tensor t) => (t - t.mean([0L])) / t.std(0, unbiased: false) / Math.Sqrt(Rows);
        (_x, _y) = (Standard(a), Standard(b));
        (_gram, _moments) = Lasso.SecondMoments(_x, _y);
    }

    [Benchmark(Baseline = true, OperationsPerInvoke = Few)]
    public void RowsOneByOne()
    {
        for (int k = 0; k < Few; k++) LassoCoordinateDescent.Solve(_x, _y.select(1, k).contiguous(), Lambda, tolerance: 1e-6);
    }

    [Benchmark(OperationsPerInvoke = Units)]
    public void CoordinateDescent() => Lasso.Solve(_gram, _moments, Lambda, LassoSolver.CoordinateDescent, tolerance: 1e-6).Coefficients.Dispose();

    [Benchmark(OperationsPerInvoke = Units)]
    public void Fista() => Lasso.Solve(_gram, _moments, Lambda, LassoSolver.Fista, tolerance: 1e-6).Coefficients.Dispose();

    [Benchmark(OperationsPerInvoke = Units)]
    public void SecondMoments()
    {
        (Tensor gram, Tensor moments) = Lasso.SecondMoments(_x, _y);
        gram.Dispose();
        moments.Dispose();
    }
}
