using BenchmarkDotNet.Attributes;
using Priori.Interpretability;
using TorchSharp;
using static TorchSharp.torch;

namespace Priori.Benchmarks.Interpretability;

/// <summary>One layer at one epoch: 4,096 samples of 10 units with two classes, on one thread.</summary>
public class EstimatorsBenchmark
{
    private readonly EntropyBasedAdaptiveBinning adaptive = new(30, 0);
    private readonly EqualWidthBinning equalWidth = new();
    private readonly AdaptiveKde kde = new();
    private readonly KnnMutualInformation neighbours = new();
    private Tensor t = null!, labels = null!;
    private LayerRunStatistics run;

    [Params("relu", "softplus")]
    public string Activation { get; set; } = "relu";

    [GlobalSetup]
    public void Setup()
    {
        set_num_threads(1);
        manual_seed(0);
        Tensor normal = randn(4096, 10);
        t = Activation == "relu" ? normal.relu() : nn.functional.softplus(normal);
        labels = (t[.., 0] > 0.5).to(int64);
        run = LayerRunStatistics.Of(t);
    }

    [Benchmark(Baseline = true)]
    public LayerInformation AdaptiveBinning() => adaptive.Estimate(t, labels, run);

    [Benchmark]
    public LayerInformation EqualWidth() => equalWidth.Estimate(t, labels, run);

    [Benchmark]
    public LayerInformation Kde() => kde.Estimate(t, labels, run);

    [Benchmark]
    public LayerInformation NearestNeighbours() => neighbours.Estimate(t, labels, run);
}
