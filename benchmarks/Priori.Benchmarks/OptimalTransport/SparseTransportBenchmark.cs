using BenchmarkDotNet.Attributes;
using Priori.OptimalTransport;
using Ot = Priori.OptimalTransport.OptimalTransport;

namespace Priori.Benchmarks.OptimalTransport;

/// <summary>
/// One evaluation of the semi-dual (value and gradient, 512 x 512, k = 8, float64, one thread) against the part of it that cannot be avoided,
/// the scores and their top-k; and whole solves.
/// </summary>
public class SparseTransportBenchmark
{
    private const int Size = 512, K = 8;
    private readonly Tensor cost, transposed, mass, alpha, smallCost, smallMass;
    private readonly Func<Tensor, (Tensor Value, Tensor Gradient)> objective;

    /// <summary>Costs between random points in the unit square.</summary>
    public SparseTransportBenchmark()
    {
        torch.set_num_threads(1);
        torch.manual_seed(0);
        Tensor Cost(int size) => torch.cdist(torch.rand(size, 2, dtype: ScalarType.Float64), torch.rand(size, 2, dtype: ScalarType.Float64)).square();
        (cost, smallCost) = (Cost(Size), Cost(64));
        transposed = cost.t().contiguous();
        (mass, smallMass) = (torch.full(Size, 1.0 / Size, dtype: ScalarType.Float64), torch.full(64, 1.0 / 64, dtype: ScalarType.Float64));
        alpha = torch.randn(Size, dtype: ScalarType.Float64) * 0.1;
        objective = Ot.Objective(mass, mass, cost, new(OtRegularization.SparsityConstrained, 0.1, K));
    }

    /// <summary>Scores and top-k alone.</summary>
    [Benchmark(Baseline = true)]
    public long ScoresAndTopK()
    {
        using var scope = torch.NewDisposeScope();
        return (alpha.unsqueeze(0) - transposed).topk(K, -1).values.numel();
    }

    /// <summary>The whole evaluation: value and gradient.</summary>
    [Benchmark]
    public long SemiDual()
    {
        using var scope = torch.NewDisposeScope();
        return objective(alpha).Gradient.numel();
    }

    /// <summary>A solve to 1e-9, 512 x 512, k = 8.</summary>
    [Benchmark]
    public long Solve512()
    {
        using var scope = torch.NewDisposeScope();
        return Ot.Solve(mass, mass, cost, new(OtRegularization.SparsityConstrained, 1, K) { Polish = false }).Iterations.item<long>();
    }

    /// <summary>A solve to 1e-9 with polishing, 64 x 64, k = 2 (on ties).</summary>
    [Benchmark]
    public long SolveWithTies64()
    {
        using var scope = torch.NewDisposeScope();
        return Ot.Solve(smallMass, smallMass, smallCost, new(OtRegularization.SparsityConstrained, 0.1, 2)).Iterations.item<long>();
    }
}
