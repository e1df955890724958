using Priori.Nn;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Training;

public sealed class TrainerTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-trainer-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Same_seed_gives_the_same_weights_and_another_seed_others()
    {
        byte[] first = Train(new TrainerOptions { Epochs = 3, BatchSize = 16, Seed = 5 });
        Assert.Equal(first, Train(new TrainerOptions { Epochs = 3, BatchSize = 16, Seed = 5 }));
        Assert.NotEqual(first, Train(new TrainerOptions { Epochs = 3, BatchSize = 16, Seed = 6 }));
    }

    [Theory]
    [InlineData("sgd")]
    [InlineData("adam")]
    [InlineData("adamw")]
    [InlineData("rmsprop")]
    public void A_run_interrupted_anywhere_ends_with_the_weights_of_one_that_was_not(string optimizer)
    {
        var options = new TrainerOptions { Epochs = 4, BatchSize = 16, Seed = 1, EarlyStopping = new EarlyStopping("accuracy", 3) };
        byte[] whole = Train(options, optimizer: optimizer);
        int starts = 0;
        // Each start is killed after a few more steps: the checkpoint is written before every step, as a cancellation would at any moment.
        byte[]? resumed = null;
        for (int budget = 1; resumed is null; budget += 3)
        {
            starts++;
            resumed = Interrupted(options with { CheckpointFolder = Path.Combine(_folder, optimizer) }, optimizer, budget % 7 + 1);
        }
        Assert.True(starts > 4);
        Assert.Equal(whole, resumed);
    }

    [Fact]
    public void A_killed_run_continues_from_a_checkpoint_of_the_middle()
    {
        // No cancellation: an exception tears the run down after step 20, as a crash would; checkpoints were written on time.
        var options = new TrainerOptions { Epochs = 4, BatchSize = 16, Seed = 1, CheckpointFolder = _folder, CheckpointEvery = TimeSpan.Zero };
        byte[] whole = Train(options with { CheckpointFolder = null });
        Assert.Throws<InvalidOperationException>(() => Train(options, failAt: 13));
        Assert.Equal(2, Directory.GetFiles(_folder, "*.safetensors").Length);
        Assert.Equal(whole, Train(options));
    }

    [Fact]
    public void A_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used()
    {
        List<string> warnings = [];
        var options = new TrainerOptions { Epochs = 4, BatchSize = 16, Seed = 1, CheckpointFolder = _folder, CheckpointEvery = TimeSpan.Zero, Warn = warnings.Add };
        byte[] whole = Train(options with { CheckpointFolder = null });
        Assert.Throws<InvalidOperationException>(() => Train(options, failAt: 13));
        string newest = Directory.GetFiles(_folder, "*.safetensors").Max()!;
        byte[] bytes = File.ReadAllBytes(newest);
        bytes[^5] ^= 1;
        File.WriteAllBytes(newest, bytes);
        Assert.Equal(whole, Train(options));
        Assert.Contains(newest, Assert.Single(warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void A_checkpoint_of_another_architecture_is_refused()
    {
        var options = new TrainerOptions { Epochs = 4, BatchSize = 16, CheckpointFolder = _folder, CheckpointEvery = TimeSpan.Zero };
        Assert.Throws<InvalidOperationException>(() => Train(options, failAt: 13));
        var error = Assert.Throws<BadInputException>(() => Train(options, hidden: 9));
        Assert.Contains("another architecture", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_loss_that_becomes_nan_stops_with_step_part_and_checkpoint()
    {
        var options = new TrainerOptions { Epochs = 4, BatchSize = 16, CheckpointFolder = _folder, CheckpointEvery = TimeSpan.Zero };
        var error = Assert.Throws<NonFiniteLossException>(() => Train(options, nanAt: 10));
        Assert.Equal((10, 2, "classifier"), (error.Step, error.Epoch, error.Part));
        Assert.Contains(Path.GetFileName(Directory.GetFiles(_folder, "*.safetensors").Max()!), error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Early_stopping_restores_the_weights_of_the_best_epoch()
    {
        double[] scores = [0.1, 0.9, 0.5, 0.4, 0.3];
        List<byte[]> weights = [];
        byte[] stopped = Train(new TrainerOptions { Epochs = 5, BatchSize = 16, Seed = 3, EarlyStopping = new EarlyStopping("score", 2) },
            evaluateWith: (epoch, network) =>
            {
                weights.Add(Weights(network));
                return new Dictionary<string, double> { ["score"] = scores[epoch - 1] };
            },
            check: history =>
            {
                Assert.Equal(2, history.BestEpoch);
                Assert.Equal(scores[..4], history.Series["score"]);
            });
        Assert.Equal(4, weights.Count);
        Assert.NotEqual(weights[1], weights[3]);
        Assert.Equal(weights[1], stopped);
    }

    [Fact]
    public void Native_memory_is_flat_over_ten_thousand_steps()
    {
        long[] steps = [20, 5_000, 9_999], live = new long[3], resident = new long[3];
        Train(new TrainerOptions { Epochs = 2_000, BatchSize = 16 }, onStep: step =>
        {
            int at = Array.IndexOf(steps, step.Index);
            if (at < 0) return;
            live[at] = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
            GC.Collect();
            resident[at] = Environment.WorkingSet;
        }, evaluateWith: (_, _) => new Dictionary<string, double>());
        Assert.True(live[0] > 0);
        Assert.Equal(live[0], live[1]);
        Assert.Equal(live[0], live[2]);
        Assert.True(resident[2] - resident[1] < 16 << 20, $"{resident[1]} bytes became {resident[2]}.");
    }

    [Fact]
    public void A_last_batch_of_one_row_joins_the_one_before()
    {
        List<long> sizes = [];
        Train(new TrainerOptions { Epochs = 1, BatchSize = 9 }, onBatch: b => sizes.Add(b.Rows.shape[0]), rows: 64);
        Assert.Equal([9, 9, 9, 9, 9, 9, 10], sizes);
        sizes.Clear();
        Train(new TrainerOptions { Epochs = 1, BatchSize = 9, DropLast = true }, onBatch: b => sizes.Add(b.Rows.shape[0]), rows: 70);
        Assert.Equal([9, 9, 9, 9, 9, 9, 9], sizes);
    }

    [Fact]
    public void Schedules_follow_their_formulas()
    {
        var step = new StepSchedule([2, 3], 0.1);
        Assert.Equal([1, 0.1, 0.01], new[] { 1.99, 2, 3.5 }.Select(e => step.Factor(0, 1, e)), (a, b) => Math.Abs(a - b) < 1e-12);
        var cosine = new CosineSchedule(warmupSteps: 10, minimum: 0.1);
        Assert.Equal(0.5, cosine.Factor(4, 110, 0), 12);
        Assert.Equal(1, cosine.Factor(10, 110, 0), 12);
        Assert.Equal(0.55, cosine.Factor(60, 110, 0), 12);
        Assert.Equal(0.1, cosine.Factor(110, 110, 0), 12);
        var restarts = new CosineRestarts(10, 0.05);
        Assert.Equal(restarts.Factor(0, 1, 0), restarts.Factor(0, 1, 10.5));
        Assert.Equal(0.525, restarts.Factor(0, 1, 15), 12);
    }

    [Fact]
    public void The_learning_rate_follows_the_schedule_and_clipping_bounds_the_gradient()
    {
        using var p = new TorchSharp.Modules.Parameter(zeros(2));
        using var optimizer = optim.SGD([p], 1.0);
        var learner = new OneParameter(p, new Optimization(optimizer, new StepSchedule([1], 0.5), clipNorm: 1));
        new Trainer(new TrainerOptions { Epochs = 2, BatchSize = 1, Sampler = new SequentialSampler() }).Fit(learner, new TensorSource(tensor(new float[] { 30, 40 }).reshape(1, 2)));
        // Gradient (-30,-40) clipped to norm 1 is (-0.6,-0.8); rates 1 and 0.5.
        Assert.Equal([0.9f, 1.2f], p.data<float>().ToArray(), (a, b) => Math.Abs(a - b) < 1e-5);
    }

    [Fact]
    public void Class_balanced_order_draws_every_class_equally()
    {
        using Tensor labels = tensor(Enumerable.Range(0, 100).Select(i => i < 90 ? 0L : i < 98 ? 1L : 2L).ToArray());
        using Tensor order = new ClassBalancedSampler(labels, 20).Order(100, 0, 0, 0);
        Assert.Equal([20L, 20, 20], labels.index_select(0, order).bincount(null, 0).data<long>().ToArray());
        Assert.Equal(20, order.masked_select(labels.index_select(0, order).eq(0)).unique().output.numel()); // No row of a large class twice.
        using Tensor again = new ClassBalancedSampler(labels, 20).Order(100, 0, 0, 0);
        using Tensor next = new ClassBalancedSampler(labels, 20).Order(100, 0, 1, 0);
        Assert.True(order.eq(again).all().ToBoolean());
        Assert.False(order.eq(next).all().ToBoolean());
    }

    private static byte[]? Interrupted(TrainerOptions options, string optimizer, int steps)
    {
        using var cancel = new CancellationTokenSource();
        int done = 0;
        try
        {
            return Train(options, optimizer: optimizer, cancellation: cancel.Token, onStep: _ =>
            {
                if (++done == steps) cancel.Cancel();
            });
        }
        catch (OperationCanceledException)
        {
            return null;
        }
    }

    private static byte[] Train(TrainerOptions options, string optimizer = "adam", int hidden = 8, int rows = 80, int failAt = -1, int nanAt = -1,
        Func<int, Module, IReadOnlyDictionary<string, double>>? evaluateWith = null, Action<TrainingHistory>? check = null, Action<TrainingStep>? onStep = null, Action<Batch>? onBatch = null, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        Seeds.Set(17);
        Tensor x = randn(rows, 6), y = (x.sum(1) > 0).to(ScalarType.Int64);
        using var learner = new Classifier(hidden, optimizer, failAt, nanAt, onStep, onBatch);
        TrainingHistory history = new Trainer(options).Fit(learner, new TensorSource(x, y),
            epoch => evaluateWith?.Invoke(epoch, learner.Network) ?? new Dictionary<string, double> { ["accuracy"] = learner.Network.forward(x).argmax(1).eq(y).to(ScalarType.Float32).mean().ToDouble() }, cancellation);
        check?.Invoke(history);
        return Weights(learner.Network);
    }

    private static byte[] Weights(Module network) => [.. network.state_dict().OrderBy(t => t.Key).SelectMany(t => t.Value.bytes.ToArray())];

    private sealed class Classifier : Learner
    {
        private readonly int _failAt, _nanAt;
        private readonly Action<TrainingStep>? _onStep;
        private readonly Action<Batch>? _onBatch;

        public Classifier(int hidden, string optimizer, int failAt, int nanAt, Action<TrainingStep>? onStep, Action<Batch>? onBatch)
        {
            Network = new Mlp(6, [hidden], 2, normalization: Normalization.BatchNorm, dropout: 0.2);
            optim.Optimizer o = optimizer switch
            {
                "sgd" => optim.SGD(Network.parameters(), 0.05, momentum: 0.9, weight_decay: 1e-3),
                "adamw" => optim.AdamW(Network.parameters(), 1e-2),
                "rmsprop" => optim.RMSProp(Network.parameters(), 1e-2),
                _ => optim.Adam(Network.parameters(), 1e-2),
            };
            Optimizers = new Dictionary<string, Optimization> { ["classifier"] = new(o, new CosineSchedule(2)) };
            Modules = new Dictionary<string, Module> { ["network"] = Network };
            (_failAt, _nanAt, _onStep, _onBatch) = (failAt, nanAt, onStep, onBatch);
        }

        public Mlp Network { get; }

        public override IReadOnlyDictionary<string, Module> Modules { get; }

        public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

        public override void Step(Batch batch, TrainingStep step)
        {
            if (step.Index == _failAt) throw new InvalidOperationException("crash");
            _onStep?.Invoke(step);
            _onBatch?.Invoke(batch);
            Network.train();
            Tensor loss = functional.cross_entropy(Network.forward(batch[0]), batch[1]);
            step.Minimize("classifier", step.Index == _nanAt ? loss * double.NaN : loss);
            Network.eval();
        }
    }

    private sealed class OneParameter(TorchSharp.Modules.Parameter p, Optimization optimization) : Learner
    {
        public override IReadOnlyDictionary<string, Module> Modules { get; } = new Dictionary<string, Module>();

        public override IReadOnlyDictionary<string, Optimization> Optimizers { get; } = new Dictionary<string, Optimization> { ["p"] = optimization };

        public override void Step(Batch batch, TrainingStep step) => step.Minimize("p", -(batch[0] * p).sum());
    }
}
