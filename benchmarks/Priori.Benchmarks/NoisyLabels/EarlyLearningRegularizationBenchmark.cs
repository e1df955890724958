using BenchmarkDotNet.Attributes;
using Priori.Nn;
using Priori.NoisyLabels;

namespace Priori.Benchmarks.NoisyLabels;

/// <summary>What the regularizer adds to a step of cross-entropy: MNIST-size perceptron, batch 128, 10 classes, a table of 60,000 rows.</summary>
public class EarlyLearningRegularizationBenchmark
{
    private readonly Mlp _network = new(784, [256, 256], 10);
    private readonly Tensor _inputs = rand(128, 784);
    private readonly Tensor _labels = randint(10, [128], ScalarType.Int64);
    private readonly Tensor _rows = randperm(60_000, ScalarType.Int64).narrow(0, 0, 128).contiguous();
    private readonly EarlyLearningRegularizationLoss _checked = new(60_000, 10);
    private readonly EarlyLearningRegularizationLoss _unchecked = new(60_000, 10, checkRows: false);
    private optim.Optimizer _optimizer = null!;

    /// <summary>Makes the optimizer, on one thread.</summary>
    [GlobalSetup]
    public void Setup()
    {
        set_num_threads(1);
        _optimizer = optim.SGD(_network.parameters(), 0.01, momentum: 0.9);
    }

    /// <summary>Cross-entropy.</summary>
    [Benchmark(Baseline = true)]
    public void CrossEntropy() => Step(logits => functional.cross_entropy(logits, _labels));

    /// <summary>ELR with its checks of row ids and labels.</summary>
    [Benchmark]
    public void Elr() => Step(logits => _checked.forward(_rows, logits, _labels));

    /// <summary>ELR without the checks.</summary>
    [Benchmark]
    public void ElrUnchecked() => Step(logits => _unchecked.forward(_rows, logits, _labels));

    private void Step(Func<Tensor, Tensor> loss)
    {
        using var scope = NewDisposeScope();
        _optimizer.zero_grad();
        loss(_network.forward(_inputs)).backward();
        _optimizer.step();
    }
}
