using BenchmarkDotNet.Attributes;
using Priori.Nn;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Benchmarks.Training;

/// <summary>An epoch of the Trainer against a hand-written TorchSharp loop that does the same work: 64-64-10 (the worst case for overhead) and a small CNN, batch 128.</summary>
public class TrainerBenchmark
{
    private const int Batch = 128;
    private Tensor _x = null!, _y = null!;

    [Params("mlp", "cnn")]
    public string Model { get; set; } = "mlp";

    private int Rows => Model == "mlp" ? 400 * Batch : 8 * Batch;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        _x = Model == "mlp" ? randn(Rows, 64) : randn(Rows, 1, 28, 28);
        _y = randint(10, [Rows], ScalarType.Int64);
    }

    [Benchmark(Baseline = true)]
    public double HandWritten()
    {
        using Module<Tensor, Tensor> network = Network();
        using var optimizer = optim.SGD(network.parameters(), 0.05, momentum: 0.9);
        double sum = 0;
        using Tensor order = randperm(Rows, ScalarType.Int64);
        for (int start = 0; start < Rows; start += Batch)
        {
            using var scope = NewDisposeScope();
            Tensor rows = order.slice(0, start, start + Batch, 1);
            Tensor loss = functional.cross_entropy(network.forward(_x.index_select(0, rows)), _y.index_select(0, rows));
            sum += loss.ToDouble();
            optimizer.zero_grad();
            loss.backward();
            optimizer.step();
        }
        return sum;
    }

    [Benchmark]
    public double Trainer()
    {
        using var learner = new Classifier(Network());
        return new Trainer(new TrainerOptions { BatchSize = Batch }).Fit(learner, new TensorSource(_x, _y)).Last("loss");
    }

    private Module<Tensor, Tensor> Network() => Model == "mlp"
        ? new Mlp(64, [64], 10)
        : Sequential(Conv2d(1, 16, 3, padding: 1), ReLU(), MaxPool2d(2), Conv2d(16, 32, 3, padding: 1), ReLU(), MaxPool2d(2), Flatten(), Linear(32 * 49, 10));

    private sealed class Classifier : Learner
    {
        private readonly Module<Tensor, Tensor> _network;

        public Classifier(Module<Tensor, Tensor> network)
        {
            _network = network;
            Modules = new Dictionary<string, Module> { ["network"] = network };
            Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(optim.SGD(network.parameters(), 0.05, momentum: 0.9)) };
        }

        public override IReadOnlyDictionary<string, Module> Modules { get; }

        public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

        public override void Step(Batch batch, TrainingStep step) => step.Minimize("loss", functional.cross_entropy(_network.forward(batch[0]), batch[1]));
    }
}
