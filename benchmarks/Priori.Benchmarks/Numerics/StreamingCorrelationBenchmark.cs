using BenchmarkDotNet.Attributes;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Benchmarks.Numerics;

/// <summary>The correlations between two layers in one pass against their bare matrix product, in batches of 1,000 observations.</summary>
public class StreamingCorrelationBenchmark
{
    private const int Batch = 1000;
    private Tensor _x = null!, _y = null!;

    [Params(256, 4096)]
    public long Units { get; set; } = 256;

    [Params(5_000, 50_000)]
    public int Observations { get; set; } = 50_000;

    /// <summary>Float64 is the default of the library; Float32 computes a batch's products in single precision.</summary>
    [Params(ScalarType.Float64, ScalarType.Float32)]
    public ScalarType Products { get; set; } = ScalarType.Float64;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        (_x, _y) = (randn(Batch, Units).relu(), randn(Batch, Units).relu());
    }

    /// <summary>X^T Y alone, on values that are already of the type.</summary>
    [Benchmark(Baseline = true)]
    public void Product()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor x = _x.to(Products), y = _y.to(Products), sum = zeros([Units, Units], Products);
        for (int i = 0; i < Observations / Batch; i++) sum.addmm_(x.t(), y, 1, 1);
    }

    [Benchmark]
    public void Between()
    {
        using DisposeScope scope = NewDisposeScope();
        using var sums = new StreamingCorrelation(within: false, Products);
        for (int i = 0; i < Observations / Batch; i++) sums.Add(_x, _y);
        CrossMoments moments = sums.Moments();
        CrossMoments.Correlation(moments.XY, moments.VarianceX.sqrt(), moments.VarianceY.sqrt());
    }
}
