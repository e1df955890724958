using Priori.NoisyLabels;
using Priori.Training;

namespace Priori.Tests.NoisyLabels;

public sealed class EarlyLearningPlusLearnerTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Plus_learner_takes_targets_from_the_other_average_on_the_unmixed_batch()
    {
        manual_seed(1);
        List<(string Module, Tensor Input)> calls = [];
        string[] names = ["network1", "network2", "average1", "average2"];
        int made = 0;
        using var learner = new EarlyLearningPlusLearner(
            () => new Recording(names[made++], calls), 8, 3, m => new Optimization(optim.SGD(m.parameters(), .1)));
        Tensor x = randn(8, 4), y = randint(3, [8], ScalarType.Int64);
        new Trainer(new TrainerOptions { Epochs = 1, BatchSize = 8, Sampler = new SequentialSampler() }).Fit(learner, new TensorSource(x, y));

        Assert.Equal(["network1", "average2", "network2", "average1"], calls.Select(c => c.Module));
        Assert.True(calls[1].Input.Equals(x));
        Assert.True(calls[3].Input.Equals(x));
        Assert.False(calls[0].Input.Equals(x));
        Assert.False(calls[2].Input.Equals(x));
        Assert.False(calls[0].Input.Equals(calls[2].Input));
    }

    [Fact]
    public void Plus_learner_keeps_two_tables_optimizers_and_orders_and_averages_its_own_network()
    {
        manual_seed(1);
        using var learner = new EarlyLearningPlusLearner(
            () => nn.Linear(4, 3), 32, 3, m => new Optimization(optim.SGD(m.parameters(), .5)), new EarlyLearningPlusOptions { EmaRampUp = false, EmaDecay = .5 });
        Tensor x = randn(32, 4), y = randint(3, [32], ScalarType.Int64);
        Tensor Weight(string module) => learner.Modules[module].state_dict()["weight"];
        Assert.False(Weight("network1").Equals(Weight("network2")));
        Assert.True(Weight("network1").Equals(Weight("average1")));
        Assert.True(Weight("network2").Equals(Weight("average2")));
        Tensor before = Weight("network1").clone();
        new Trainer(new TrainerOptions { Epochs = 1, BatchSize = 32 }).Fit(learner, new TensorSource(x, y));
        Assert.Equal(["loss1", "loss2"], learner.Optimizers.Keys.Order());
        Assert.True((Weight("average1") - (before + Weight("network1")) / 2).abs().max().ToDouble() < 1e-6); // decay at step 1 is min(1/2, .5)

        var tables = learner.Modules.Where(m => m.Key.StartsWith("loss", StringComparison.Ordinal)).Select(m => ((EarlyLearningPlusLoss)m.Value).Targets).ToArray();
        Assert.Equal(2, tables.Length);
        Assert.All(tables, t => Assert.True((t.sum(1) - .3).abs().max().ToDouble() < 1e-6));
        Assert.False(tables[0].Equals(tables[1]));
        Assert.True(learner.Targets.Equals(tables[0] + tables[1]));
    }

    [Fact]
    public void Plus_ablations_switch_off_one_part_each()
    {
        manual_seed(1);
        List<(string Module, Tensor Input)> calls = [];
        string[] names = ["network1", "network2", "average1", "average2"];
        int made = 0;
        using var learner = new EarlyLearningPlusLearner(
            () => new Recording(names[made++], calls), 8, 3, m => new Optimization(optim.SGD(m.parameters(), .1)),
            new EarlyLearningPlusOptions { MixupAlpha = 0, EmaDecay = 0, Beta = 0 });
        Tensor x = randn(8, 4);
        new Trainer(new TrainerOptions { Epochs = 2, BatchSize = 8, Sampler = new SequentialSampler() }).Fit(learner, new TensorSource(x, zeros(8, ScalarType.Int64)));
        Assert.All(calls, call => Assert.True(call.Input.Equals(x))); // no mixup
        foreach ((string key, Tensor value) in learner.Modules["network1"].state_dict()) Assert.True(value.Equals(learner.Modules["average1"].state_dict()[key])); // no weight averaging
        Assert.True((learner.Targets.sum(1) - 2).abs().max().ToDouble() < 1e-5); // no temporal ensembling: targets are the present predictions
    }

    [Fact]
    public void Plus_prediction_is_the_mean_of_both_networks_logits()
    {
        manual_seed(1);
        Tensor x = randn(5, 4);
        using var learner = new EarlyLearningPlusLearner(() => nn.Sequential(nn.Linear(4, 3), nn.Dropout(.5)), 8, 3, m => new Optimization(optim.SGD(m.parameters(), .1)));
        Tensor expected = zeros(5, 3);
        foreach (string name in (string[])["network1", "network2"])
        {
            var state = learner.Modules[name].state_dict();
            expected += functional.linear(x, state["0.weight"], state["0.bias"]) / 2;
        }
        Assert.True((learner.Predict(x) - expected).abs().max().ToDouble() < 1e-6);
        Assert.True(learner.Modules["network1"].training);
    }

    [Fact]
    public void A_resumed_training_ends_with_the_same_tables_averages_and_weights()
    {
        string folder = Directory.CreateTempSubdirectory().FullName;
        Tensor x = randn(40, 4), y = randint(3, [40], ScalarType.Int64);
        EarlyLearningPlusLearner Learner(int seed)
        {
            manual_seed(seed);
            return new EarlyLearningPlusLearner(
                () => nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), 40, 3,
                m => new Optimization(optim.SGD(m.parameters(), .1, momentum: .9)), new EarlyLearningPlusOptions { EmaRampUpSteps = 20, CoefficientRampUpSteps = 20, WarmUpEpochs = 1 });
        }

        var options = new TrainerOptions { Epochs = 4, BatchSize = 8, Seed = 5 };
        using EarlyLearningPlusLearner whole = Learner(1), killed = Learner(1), resumed = Learner(2);
        new Trainer(options).Fit(whole, new TensorSource(x, y));
        using var cancellation = new CancellationTokenSource();
        Assert.Throws<OperationCanceledException>(() => new Trainer(options with { CheckpointFolder = folder }).Fit(killed, new TensorSource(x, y), epoch =>
        {
            if (epoch == 2) cancellation.Cancel();
            return new Dictionary<string, double>();
        }, cancellation.Token));
        new Trainer(options with { CheckpointFolder = folder }).Fit(resumed, new TensorSource(x, y));
        foreach ((string name, Module module) in whole.Modules)
            foreach ((string key, Tensor value) in module.state_dict()) Assert.True(value.Equals(resumed.Modules[name].state_dict()[key]), $"{name}.{key}");
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>A linear model that writes down who was called on what.</summary>
    private sealed class Recording : Module<Tensor, Tensor>
    {
        private readonly Module<Tensor, Tensor> layer = nn.Linear(4, 3);
        private readonly string _name;
        private readonly List<(string, Tensor)> _calls;

        public Recording(string name, List<(string, Tensor)> calls) : base(name)
        {
            (_name, _calls) = (name, calls);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            _calls.Add((_name, input.clone().DetachFromDisposeScope()));
            return layer.forward(input);
        }
    }
}
