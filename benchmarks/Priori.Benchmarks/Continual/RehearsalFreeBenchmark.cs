using BenchmarkDotNet.Attributes;
using Priori.Continual;
using Priori.Nn;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Benchmarks.Continual;

/// <summary>
/// A second task of 100 steps (784-256-256 perceptron, batch 64, one thread) with each penalty. Beside fine-tuning stands fine-tuning with one more forward pass of the previous model:
/// what a penalty may cost at most.
/// </summary>
public class RehearsalFreeBenchmark
{
    private const int Steps = 100, Batch = 64;
    private Tensor _x = null!, _y = null!;
    private Network _other = null!;
    private Trainer _trainer = null!;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        _x = randn(Steps * Batch, 1, 28, 28);
        _y = randint(2, [Steps * Batch], ScalarType.Int64);
        _other = Backbone();
        _trainer = new Trainer(new TrainerOptions { BatchSize = Batch });
    }

    [Benchmark(Baseline = true)]
    public void FineTuning() => Run(null, []);

    [Benchmark]
    public void WithOneMoreForward() => Run(x =>
    {
        using (no_grad()) _other.call(x).Dispose();
        return x;
    }, []);

    [Benchmark]
    public void PredictionDistillation() => Run(null, [new PredictionDistillation()]);

    [Benchmark]
    public void L2() => Run(null, [new L2Anchor(.1)]);

    [Benchmark]
    public void ElasticWeightConsolidation() => Run(null, [new ElasticWeightConsolidation(10, samples: 64)]);

    [Benchmark]
    public void PredictionDistillationWithL2() => Run(null, [new PredictionDistillation(), new L2Anchor(.1)]);

    // The first task has a single step: it gives anchors and the previous model.
    private void Run(Func<Tensor, Tensor>? augment, ContinualPenalty[] penalties)
    {
        using var scope = NewDisposeScope();
        using var learner = new ContinualLearner(Backbone, 256, new ContinualOptions { Loss = ClassificationLoss.LocalBCE, Penalties = penalties, Augment = augment });
        learner.FitTask(_x.narrow(0, 0, Batch), _y.narrow(0, 0, Batch), _trainer, 0);
        learner.FitTask(_x, _y + 2, _trainer, 0);
    }

    private static Network Backbone() => new(Architectures.Mlp([1, 28, 28], [256, 256], 10).Trunk());
}

/// <summary>The diagonal Fisher information of a perceptron 784-256-256-10 from 1,000 samples: one backward pass a batch with outer products, against one a sample.</summary>
public class DiagonalFisherBenchmark
{
    private Network _network = null!;
    private Tensor _x = null!, _y = null!;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        _network = new Network(Architectures.Mlp([1, 28, 28], [256, 256], 10));
        _x = randn(1000, 1, 28, 28);
        _y = randint(10, [1000], ScalarType.Int64);
    }

    [Benchmark(Baseline = true)]
    public void OuterProducts()
    {
        using var scope = NewDisposeScope();
        DiagonalFisher.Estimate(_network, _x, _y);
    }

    [Benchmark]
    public void OneBackwardASample()
    {
        using var scope = NewDisposeScope();
        Tensor[] parameters = [.. _network.parameters()];
        Tensor[] fisher = [.. parameters.Select(p => zeros_like(p, requires_grad: false))];
        for (int i = 0; i < _x.shape[0]; i++)
        {
            using var sample = NewDisposeScope();
            Tensor loss = functional.cross_entropy(_network.call(_x.narrow(0, i, 1)), _y.narrow(0, i, 1));
            IList<Tensor> gradients = autograd.grad([loss], parameters);
            for (int p = 0; p < fisher.Length; p++) fisher[p].addcmul_(gradients[p], gradients[p], 1);
        }
    }
}
