using BenchmarkDotNet.Attributes;
using Priori.Numerics;
using TorchSharp;
using static TorchSharp.torch;

namespace Priori.Benchmarks.Interpretability;

/// <summary>t-SNE of 50 principal components: 1,000 steps, perplexity 30, on one thread.</summary>
public class TSneBenchmark
{
    private Tensor data = null!;

    [Params(1000, 2000)]
    public int Points { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        set_num_threads(1);
        manual_seed(0);
        data = randn(Points, 50) + 4 * randn(10, 50).repeat_interleave(Points / 10, 0);
    }

    [Benchmark]
    public double Embed()
    {
        using var scope = NewDisposeScope();
        return TSne.Embed(data).Divergence;
    }
}

/// <summary>Total-variation denoising of float32 images, 100 iterations at most to the tolerance of activation maximisation (1e-3 / 255), on one thread.</summary>
public class TotalVariationBenchmark
{
    private Tensor images = null!;

    [Params("10 x 1 x 28 x 28", "1 x 3 x 224 x 224", "1 x 1 x 512 x 512")]
    public string Size { get; set; } = "";

    [Params(TotalVariationSolver.SplitBregman, TotalVariationSolver.Chambolle)]
    public TotalVariationSolver Solver { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        set_num_threads(1);
        manual_seed(0);
        long[] shape = [.. Size.Split(" x ").Select(long.Parse)];
        // Blocks of 8 x 8 with noise, as a picture after a gradient step.
        images = (nn.functional.interpolate(rand([shape[0], shape[1], shape[2] / 8 + 1, shape[3] / 8 + 1]), scale_factor: [8, 8]).narrow(2, 0, shape[2]).narrow(3, 0, shape[3]) + 0.1 * randn(shape)).clamp(0, 1);
    }

    [Benchmark]
    public double Denoise()
    {
        using var scope = NewDisposeScope();
        return new TotalVariationDenoiser { Solver = Solver, Tolerance = 1e-3 / 255 }.Denoise(images, 10).sum().ToDouble();
    }
}
