using Priori.Nn;
using Priori.Runtime;
using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Tests.Training;

public sealed class RowwiseOptimizerTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-rowwise-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(ScalarType.Float64, true, 1e-13)]
    [InlineData(ScalarType.Float64, false, 1e-13)]
    [InlineData(ScalarType.Float32, true, 2e-6)]
    public void Where_every_row_occurs_in_every_step_it_is_Adam(ScalarType type, bool fused, double tolerance)
    {
        (Embedding sparse, Embedding dense) = Twins(7, 19, type);
        using var rowwise = new RowwiseAdam(sparse.parameters(), 0.05, 0.8, 0.95, 1e-6, 0.01) { Fused = fused };
        Run(sparse, dense, rowwise, optim.Adam(dense.parameters(), 0.05, 0.8, 0.95, 1e-6, 0.01), s => cat([arange(7), randint(0, 7, 9 + s)]), tolerance);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Where_a_row_is_one_weight_it_is_Adagrad(bool fused)
    {
        (Embedding sparse, Embedding dense) = Twins(7, 1, ScalarType.Float64);
        using var rowwise = new RowwiseAdagrad(sparse.parameters(), 0.05, 1e-6) { Fused = fused };
        // Adagrad leaves rows with a zero gradient alone, so here they may be absent.
        Run(sparse, dense, rowwise, new Adagrad(dense.parameters(), 0.05, eps: 1e-6), s => randint(0, 7, 5 + s), 1e-13);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Rowwise_Adagrad_follows_its_equation(bool fused)
    {
        (Embedding table, _) = Twins(5, 19, ScalarType.Float64);
        using var optimizer = new RowwiseAdagrad(table.parameters(), 0.1, 1e-3, 0.2) { Fused = fused };
        Tensor weight = table.weight!.detach().clone(), accumulator = zeros(5, ScalarType.Float64);
        for (int s = 0; s < 4; s++)
        {
            optimizer.zero_grad();
            Loss(table, tensor(new long[] { 4, 1, 4 })).backward();
            Tensor gradient = table.weight!.grad!.to_dense() + (0.2 * weight);
            foreach (int row in new[] { 1, 4 })
            {
                accumulator[row] += gradient[row].square().mean();
                weight[row] -= 0.1 * gradient[row] / (accumulator[row].sqrt() + 1e-3);
            }
            optimizer.step();
            Assert.True((table.weight! - weight).abs().max().item<double>() < 1e-14);
        }
    }

    [Theory]
    [InlineData("adam", true)]
    [InlineData("adam", false)]
    [InlineData("adagrad", true)]
    [InlineData("adagrad", false)]
    public void Rows_that_do_not_occur_keep_their_bits_and_equal_rows_are_summed(string name, bool fused)
    {
        (Embedding table, Embedding other) = Twins(50, 8, ScalarType.Float32);
        using RowwiseOptimizer optimizer = Create(name, table, fused), twin = Create(name, other, fused);
        using var scope = no_grad();
        void Step(Embedding on, RowwiseOptimizer by, long[] rows, Tensor gradients)
        {
            on.weight!.grad = sparse_coo_tensor(tensor(rows).unsqueeze(0), gradients, [50, 8]);
            by.step();
        }
        Step(table, optimizer, [.. Enumerable.Range(0, 50).Select(r => (long)r)], randn(50, 8));
        Step(other, twin, [.. Enumerable.Range(0, 50).Select(r => (long)r)], table.weight!.grad!.SparseValues);
        byte[] weights = table.weight!.bytes.ToArray(), state = State(optimizer);
        Tensor g = randn(4, 8);
        Step(table, optimizer, [31, 7, 31, 31], g);
        Step(other, twin, [7, 31], stack([g[1], g[0] + g[2] + g[3]]));
        int rowBytes = 8 * sizeof(float);
        for (int row = 0; row < 50; row++)
            Assert.Equal(row is 7 or 31, !weights.AsSpan(row * rowBytes, rowBytes).SequenceEqual(table.weight!.bytes.Slice(row * rowBytes, rowBytes)));
        Assert.Equal(table.weight!.bytes.ToArray(), other.weight!.bytes.ToArray());
        // A state is its header, its steps and a piece for each row; those of the two rows changed.
        byte[] after = State(optimizer);
        int width = name == "adam" ? 2 * rowBytes : sizeof(float), start = after.Length - (50 * width);
        for (int row = 0; row < 50; row++)
            Assert.Equal(row is 7 or 31, !state.AsSpan(start + (row * width), width).SequenceEqual(after.AsSpan(start + (row * width), width)));
        Step(table, optimizer, [], zeros(0, 8));
        Assert.Equal(other.weight!.bytes.ToArray(), table.weight!.bytes.ToArray());
    }

    [Fact]
    public void Distinct_rows_are_found_however_the_hashes_collide()
    {
        (Embedding table, _) = Twins(3000, 3, ScalarType.Float64);
        (Embedding other, _) = Twins(3000, 3, ScalarType.Float64);
        using RowwiseOptimizer a = Create("adagrad", table, true), b = Create("adagrad", other, false);
        Run(table, other, a, b, s => randint(0, 3000, 4000 * (s % 2) + 1), 1e-12, steps: 4);
    }

    [Fact]
    public void Dense_parameters_are_updated_as_by_Adam_and_Adagrad()
    {
        foreach (string name in new[] { "adam", "adagrad" })
        {
            Seeds.Set(3);
            using Linear a = Linear(5, 4, dtype: ScalarType.Float64), b = Linear(5, 4, dtype: ScalarType.Float64);
            b.load_state_dict(a.state_dict());
            using optim.Optimizer own = name == "adam" ? new RowwiseAdam(a.parameters(), 0.1, weight_decay: 0.1) : new RowwiseAdagrad(a.parameters(), 0.1);
            using optim.Optimizer dense = name == "adam" ? optim.Adam(b.parameters(), 0.1, weight_decay: 0.1) : new Adagrad(b.parameters(), 0.1);
            for (int s = 0; s < 5; s++)
            {
                Tensor x = randn(6, 5, ScalarType.Float64);
                foreach ((Linear layer, optim.Optimizer o) in new[] { (a, own), (b, dense) })
                {
                    o.zero_grad();
                    layer.forward(x).square().mean().backward();
                    o.step();
                }
            }
            Assert.True((a.weight - b.weight).abs().max().item<double>() < 1e-13);
            Assert.True((a.bias! - b.bias!).abs().max().item<double>() < 1e-13);
        }
    }

    [Theory]
    [InlineData(0.01, null)]
    [InlineData(null, 0.05)]
    [InlineData(0.01, 0.05)]
    public void Clipping_is_that_of_the_dense_gradient(double? clipValue, double? clipNorm)
    {
        byte[] sparse = Weights(Train(new TrainerOptions { Epochs = 2, BatchSize = 16 }, true, "sgd", clipNorm, clipValue));
        byte[] dense = Weights(Train(new TrainerOptions { Epochs = 2, BatchSize = 16 }, false, "sgd", clipNorm, clipValue));
        byte[] free = Weights(Train(new TrainerOptions { Epochs = 2, BatchSize = 16 }, true, "sgd", null, null));
        for (int i = 0; i < sparse.Length; i += 4) Assert.Equal(BitConverter.ToSingle(dense, i), BitConverter.ToSingle(sparse, i), 1e-5);
        Assert.NotEqual(free, sparse);
    }

    [Theory]
    [InlineData("adam")]
    [InlineData("adagrad")]
    public void A_killed_run_continues_to_the_same_bits(string optimizer)
    {
        var options = new TrainerOptions { Epochs = 4, BatchSize = 16, Seed = 1, CheckpointFolder = _folder, CheckpointEvery = TimeSpan.Zero };
        byte[] whole = Weights(Train(options with { CheckpointFolder = null }, true, optimizer, 0.5, 0.1));
        Assert.Throws<InvalidOperationException>(() => Train(options, true, optimizer, 0.5, 0.1, failAt: 13));
        Assert.Equal(whole, Weights(Train(options, true, optimizer, 0.5, 0.1)));
    }

    [Fact]
    public void A_loss_that_is_nan_changes_nothing()
    {
        SparseClassifier? learner = null;
        byte[]? before = null;
        var error = Assert.Throws<NonFiniteLossException>(() => Train(new TrainerOptions { BatchSize = 16 }, true, "adam", null, null, onStep: (l, step) =>
        {
            (learner, before) = (l, Weights(l));
            return step.Index == 3 ? double.NaN : 1;
        }));
        Assert.Equal(3, error.Step);
        Assert.Equal(before, Weights(learner!));
    }

    [Fact]
    public void Native_memory_is_flat_over_steps()
    {
        long[] steps = [20, 500, 999], live = new long[3], resident = new long[3];
        foreach (string optimizer in new[] { "adam", "adagrad" })
        {
            Train(new TrainerOptions { Epochs = 200, BatchSize = 16 }, true, optimizer, 1, 1, onStep: (_, step) =>
            {
                int at = Array.IndexOf(steps, step.Index);
                if (at < 0) return 1;
                live[at] = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
                GC.Collect();
                resident[at] = Environment.WorkingSet;
                return 1;
            });
            Assert.Equal(live[0], live[1]);
            Assert.Equal(live[0], live[2]);
            Assert.True(resident[2] - resident[1] < 16 << 20, $"{resident[1]} bytes became {resident[2]}.");
        }
    }

    [Fact]
    public void Misuse_is_refused()
    {
        (Embedding table, _) = Twins(5, 4, ScalarType.Float32);
        Assert.Throws<ArgumentOutOfRangeException>(() => new RowwiseAdam(table.parameters(), -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new RowwiseAdam(table.parameters(), beta1: 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new RowwiseAdam(table.parameters(), beta2: double.NaN));
        Assert.Throws<ArgumentOutOfRangeException>(() => new RowwiseAdagrad(table.parameters(), eps: -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new RowwiseAdagrad(table.parameters(), weight_decay: -1));
        using var optimizer = new RowwiseAdam(table.parameters());
        Loss(table, tensor(new long[] { 1 })).backward();
        optimizer.step();
        optimizer.zero_grad();
        table.weight!.sum().backward();
        Assert.Contains("sparse gradients in some steps", Assert.Throws<InvalidOperationException>(() => optimizer.step()).Message, StringComparison.Ordinal);
    }

    private static RowwiseOptimizer Create(string name, Embedding table, bool fused)
        => name == "adam" ? new RowwiseAdam(table.parameters()) { Fused = fused } : new RowwiseAdagrad(table.parameters()) { Fused = fused };

    private static (Embedding Sparse, Embedding Dense) Twins(long rows, long dim, ScalarType type)
    {
        Seeds.Set(5);
        Embedding sparse = Embedding(rows, dim, sparse: true, dtype: type), dense = Embedding(rows, dim, dtype: type);
        dense.load_state_dict(sparse.state_dict());
        return (sparse, dense);
    }

    private static Tensor Loss(Embedding table, Tensor ids) => (table.forward(ids) * arange(1, ids.numel() + 1, table.weight!.dtype).unsqueeze(1)).square().mean();

    private static void Run(Embedding a, Embedding b, optim.Optimizer by, optim.Optimizer other, Func<int, Tensor> rows, double tolerance, int steps = 20)
    {
        Tensor start = a.weight!.detach().clone();
        for (int s = 0; s < steps; s++)
        {
            Tensor ids = rows(s);
            foreach ((Embedding table, optim.Optimizer optimizer) in new[] { (a, by), (b, other) })
            {
                optimizer.zero_grad();
                Loss(table, ids).backward();
                optimizer.step();
            }
            Assert.True((a.weight! - b.weight!).abs().max().ToDouble() < tolerance);
        }
        Assert.True((a.weight! - start).abs().max().ToDouble() > 0.01);
    }

    private static byte[] State(OptimizerHelper optimizer)
    {
        using var blob = new MemoryStream();
        using (var writer = new BinaryWriter(blob)) optimizer.save_state_dict(writer);
        return blob.ToArray();
    }

    private static byte[] Weights(SparseClassifier learner) => [.. learner.Modules["network"].state_dict().OrderBy(t => t.Key).SelectMany(t => t.Value.bytes.ToArray())];

    private static SparseClassifier Train(TrainerOptions options, bool sparse, string optimizer, double? clipNorm, double? clipValue, int failAt = -1, Func<SparseClassifier, TrainingStep, double>? onStep = null)
    {
        Seeds.Set(17);
        Tensor ids = randint(0, 40, [80, 3], ScalarType.Int64), y = (ids.sum(1) > 60).to(ScalarType.Float32);
        var learner = new SparseClassifier(sparse, optimizer, clipNorm, clipValue, failAt, onStep);
        new Trainer(options).Fit(learner, new TensorSource(ids, y));
        return learner;
    }

    private sealed class Scorer : Module<Tensor, Tensor>
    {
        private readonly FieldEmbedding embedding;
        private readonly Linear top = Linear(12, 1);

        public Scorer(bool sparse) : base(nameof(Scorer))
        {
            embedding = new FieldEmbedding(3, 60, 4, sparse: sparse);
            RegisterComponents();
        }

        public override Tensor forward(Tensor ids) => top.forward(embedding.forward(ids, ones(ids.shape)).flatten(1)).squeeze(1);
    }

    private sealed class SparseClassifier : Learner
    {
        private readonly Scorer _network;
        private readonly int _failAt;
        private readonly Func<SparseClassifier, TrainingStep, double>? _onStep;

        public SparseClassifier(bool sparse, string optimizer, double? clipNorm, double? clipValue, int failAt, Func<SparseClassifier, TrainingStep, double>? onStep)
        {
            _network = new Scorer(sparse);
            optim.Optimizer o = optimizer switch
            {
                "sgd" => optim.SGD(_network.parameters(), 1),
                "adam" => new RowwiseAdam(_network.parameters(), 0.05, weight_decay: 1e-3),
                _ => new RowwiseAdagrad(_network.parameters(), 0.05),
            };
            Optimizers = new Dictionary<string, Optimization> { ["scorer"] = new(o, new CosineSchedule(2), clipNorm, clipValue) };
            Modules = new Dictionary<string, Module> { ["network"] = _network };
            (_failAt, _onStep) = (failAt, onStep);
        }

        public override IReadOnlyDictionary<string, Module> Modules { get; }

        public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

        public override void Step(Batch batch, TrainingStep step)
        {
            if (step.Index == _failAt) throw new InvalidOperationException("crash");
            double factor = _onStep?.Invoke(this, step) ?? 1;
            step.Minimize("scorer", functional.binary_cross_entropy_with_logits(_network.forward(batch[0]), batch[1]) * factor);
        }
    }
}
