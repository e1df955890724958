using BenchmarkDotNet.Attributes;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Benchmarks.Numerics;

/// <summary>alpha-entmax forward and backward against torch's softmax, over attention of 10 fields as in ARM-Net.</summary>
public class EntmaxBenchmark
{
    private Tensor _x = null!, _upstream = null!;

    [Params(32, 128)]
    public long Fields { get; set; } = 32;

    [Params(1.3, 1.5, 1.7, 2, 2.5)]
    public double Alpha { get; set; } = 1.7;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        (_x, _upstream) = (randn(1024, Fields, 10).requires_grad_(), randn(1024, Fields, 10));
    }

    [Benchmark(Baseline = true)]
    public void Softmax() => Run(x => nn.functional.softmax(x, -1));

    [Benchmark]
    public void Entmax() => Run(x => Sparse.Entmax(x, Alpha));

    private void Run(Func<Tensor, Tensor> normalise)
    {
        using var scope = NewDisposeScope();
        normalise(_x).backward([_upstream]);
        _x.grad = null;
    }
}
