using BenchmarkDotNet.Attributes;
using Priori.Interpretability;
using TorchSharp;
using static TorchSharp.torch;

namespace Priori.Benchmarks.Interpretability;

/// <summary>Basis and edges of a perceptron 100-100-100-10 (ReLU) from 2,000 samples on one thread: the closed form of its sections against one reverse pass for each target coordinate.</summary>
public class InteractionBasisBenchmark
{
    private SectionedModel closed = null!, differentiated = null!;
    private Tensor x = null!;

    [Params(true, false)]
    public bool Edges { get; set; } = true;

    [GlobalSetup]
    public void Setup()
    {
        set_num_threads(1);
        manual_seed(0).Dispose();
        long[] widths = [100, 100, 100, 10];
        LinearSection[] sections = [.. Enumerable.Range(0, 3).Select(l => new LinearSection(randn([widths[l + 1], widths[l]], float64) / 10, randn([widths[l + 1]], float64) / 10, Relu: l < 2))];
        closed = SectionedModel.OfLinear(["input", "h1", "h2", "out"], sections);
        differentiated = new SectionedModel(closed.Nodes, closed.Sections);
        x = randn([2000, 100], float64);
    }

    [Benchmark(Baseline = true)]
    public double ClosedForm() => Lambda(closed);

    [Benchmark]
    public double PerOutput() => Lambda(differentiated);

    private double Lambda(SectionedModel model)
    {
        using var scope = NewDisposeScope();
        return InteractionBasis.Compute(model, x, new InteractionBasisOptions { Edges = Edges }).Layers[0].Lambda[0].ToDouble();
    }
}
