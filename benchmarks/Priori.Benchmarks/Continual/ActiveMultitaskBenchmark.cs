using BenchmarkDotNet.Attributes;
using Priori.Continual;
using Priori.Numerics;

namespace Priori.Benchmarks.Continual;

/// <summary>The relevance of many sources, and the linear synthetic comparison of the method's page (12 seeds, 40 sources), on one thread.</summary>
public class ActiveMultitaskBenchmark
{
    private readonly Tensor _heads, _target;
    private readonly double _largest;

    /// <summary>Normal heads of 200 dimensions for 5,000 sources.</summary>
    public ActiveMultitaskBenchmark()
    {
        torch.set_num_threads(1);
        using var generator = new Generator(0);
        _heads = torch.randn([200, 5000], torch.float64, generator: generator);
        _target = torch.randn([200], torch.float64, generator: generator);
        _largest = LassoCoordinateDescent.LargestPenalty(_heads, _target);
    }

    /// <summary>The lasso at 0.05 of the largest penalty, k = 200, M = 5,000, double.</summary>
    [Benchmark]
    public int Lasso() => LassoCoordinateDescent.Solve(_heads, _target, .05 * _largest).Sweeps;

    /// <summary>The lasso at 0.2 of the largest penalty.</summary>
    [Benchmark]
    public int LassoSparse() => LassoCoordinateDescent.Solve(_heads, _target, .2 * _largest).Sweeps;

    /// <summary>Ten penalties from the largest to 0.05 of it.</summary>
    [Benchmark]
    public int LassoPath() => LassoCoordinateDescent.Path(_heads, _target, [.. Enumerable.Range(0, 10).Select(i => _largest * Math.Pow(.05, i / 9.0))]).Count;

    /// <summary>Basis pursuit, 5 x 40.</summary>
    [Benchmark]
    public double BasisPursuitSmall()
    {
        using var scope = torch.NewDisposeScope();
        return BasisPursuit.Solve(_heads.narrow(0, 0, 5).narrow(1, 0, 40), _target.narrow(0, 0, 5))[0].ToDouble();
    }

    /// <summary>Known relevance at 4,000 labels (uniform, nu2 squared, nu1) and estimated relevance at 12,000 (uniform, nu2 squared, lasso) for 12 seeds; labels are drawn too.</summary>
    [Benchmark]
    public double SyntheticTwelveSeeds()
    {
        double sum = 0;
        for (int seed = 0; seed < 12; seed++)
        {
            using var scope = torch.NewDisposeScope();
            var world = new World(seed);
            Tensor sparse = Relevance.BasisPursuit(world.Heads, world.Target), dense = Relevance.MinNorm(world.Heads, world.Target);
            sum += world.Error(4000, SamplingStrategy.Uniform, null) + world.Error(4000, SamplingStrategy.MinNormSquared, dense) + world.Error(4000, SamplingStrategy.Lasso, sparse);
            sum += world.Error(12000, SamplingStrategy.Uniform, null) + world.Error(12000, SamplingStrategy.MinNormSquared, null) + world.Error(12000, SamplingStrategy.Lasso, null);
        }
        return sum;
    }

    private sealed class World : ILabelOracle
    {
        private readonly Generator _generator;
        private readonly Tensor _basis, _parameter;
        private readonly TaskBatch _own;

        public World(int seed)
        {
            _generator = new Generator((ulong)seed);
            _basis = torch.linalg.qr(torch.randn([20, 5], torch.float64, generator: _generator)).Q;
            Tensor heads = torch.randn([5, 40], torch.float64, generator: _generator);
            heads = heads / heads.norm(0, keepdim: true);
            heads.narrow(1, 0, 3).mul_(3);
            Tensor target = heads.narrow(1, 0, 3).mv(torch.tensor([.4, -.4, .4]));
            (Heads, Target) = (heads, target / target.norm());
            _parameter = _basis.mv(Target);
            _own = Sample(_parameter, 200);
        }

        public Tensor Heads { get; }

        public Tensor Target { get; }

        public int Tasks => 40;

        public long Available(int task) => long.MaxValue;

        public TaskBatch Query(int task, long count) => Sample(_basis.mv(Heads.select(1, task)), count);

        public double Error(int budget, SamplingStrategy strategy, Tensor? known)
        {
            ActiveMultiTaskResult result = new ActiveMultiTaskSampler(new LinearErm(5), new ActiveMultiTaskOptions { Budget = budget, Strategy = strategy }).Run(this, _own, known);
            Tensor rows = ((TorchSharp.Modules.Linear)result.Representation).weight.detach();
            return (_parameter - rows.t().mv(rows.mv(_parameter))).square().sum().ToDouble();
        }

        private TaskBatch Sample(Tensor parameter, long count)
        {
            Tensor x = torch.randn([count, 20], torch.float64, generator: _generator);
            return new TaskBatch(x, x.mv(parameter) + torch.randn([count], torch.float64, generator: _generator));
        }
    }
}
