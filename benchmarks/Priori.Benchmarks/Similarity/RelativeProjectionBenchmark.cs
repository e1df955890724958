using BenchmarkDotNet.Attributes;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Benchmarks.Similarity;

/// <summary>Relative representations of stored embeddings, [n, 384] against 300 anchors, one thread: the library, torch's normalize and matmul, and the product alone, which is the bound.</summary>
public class RelativeProjectionBenchmark
{
    private Tensor _embeddings = null!, _anchors = null!;

    [Params(10_000, 100_000)]
    public long Rows { get; set; } = 100_000;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        (_embeddings, _anchors) = (randn(Rows, 384), randn(300, 384));
    }

    [Benchmark(Baseline = true)]
    public void Torch()
    {
        using var scope = NewDisposeScope();
        using var ungraphed = no_grad();
        functional.normalize(_embeddings, dim: 1).matmul(functional.normalize(_anchors, dim: 1).t());
    }

    [Benchmark]
    public void Product()
    {
        using var scope = NewDisposeScope();
        using var ungraphed = no_grad();
        _embeddings.matmul(_anchors.t());
    }

    [Benchmark]
    public void Project()
    {
        using var scope = NewDisposeScope();
        RelativeProjection.Project(_embeddings, _anchors);
    }
}
