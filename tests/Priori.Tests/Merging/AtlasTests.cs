using Priori.Data;
using Priori.Merging;
using Priori.Nn;
using Priori.Runtime;
using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Tests.Merging;

public class AtlasTests
{
    // y = theta . x in two blocks, theta = (a, b): the card's worked example.
    private sealed class TwoBlocks : Module<Tensor, Tensor>
    {
        private readonly Parameter a = new(tensor(new[] { 1f, 0 })), b = new(tensor(new[] { 0f, 2 }));

        public TwoBlocks() : base(nameof(TwoBlocks)) => RegisterComponents();

        public override Tensor forward(Tensor x) => x.matmul(cat([a, b], 0));
    }

    private static readonly float[] s_targets = [2.5f, 1.25f, -.5f, 2.5f, 5.75f];

    private static TaskVector[] WorkedVectors() =>
    [
        TaskVector.FromChanges(new Dictionary<string, Tensor> { ["a"] = tensor(new[] { 1f, 1 }), ["b"] = zeros(2) }, name: "1"),
        TaskVector.FromChanges(new Dictionary<string, Tensor> { ["a"] = tensor(new[] { 0f, 1 }), ["b"] = tensor(new[] { 1f, -1 }) }, name: "2"),
    ];

    private static Tensor WorkedInputs() => cat([eye(4), ones(1, 4)], 0);

    private static Tensor WorkedLoss(AnisotropicComposition composition) => composition.Loss(f => (f(WorkedInputs()) - tensor(s_targets)).square().mean());

    private static (Network Base, Dictionary<string, Tensor> State, TaskVector[] Vectors) Tuned(Architecture architecture, int vectors, int seed = 0)
    {
        Seeds.Set(seed);
        var network = new Network(architecture);
        network.eval();
        Dictionary<string, Tensor> state = network.State();
        return (network, state, [.. Enumerable.Range(0, vectors).Select(i => TaskVector.FromCheckpoints(state,
            state.ToDictionary(p => p.Key, p => p.Value.is_floating_point() ? p.Value + 0.2 * randn(p.Value.shape) : p.Value + 3), $"t{i}"))]);
    }

    private static Architecture SmallMlp() => Architectures.Mlp([1, 3, 3], [8, 7], 4);

    private static bool Same(Dictionary<string, Tensor> a, Dictionary<string, Tensor> b) => a.Count == b.Count && a.All(p => p.Value.equal(b[p.Key]).all().item<bool>());

    // Check 1.
    [Fact]
    public void Zero_is_the_base_one_is_the_tuned_model_and_equal_groups_are_a_block()
    {
        using var scope = NewDisposeScope();
        (Network network, Dictionary<string, Tensor> state, TaskVector[] vectors) = Tuned(Architectures.ConvNet([1, 6, 6], [4, 5], 3), 1);
        foreach (Granularity granularity in new[] { Granularity.Global, Granularity.Block, Granularity.Partition(3) })
        {
            using var composition = new AnisotropicComposition(network, vectors, granularity);
            composition.Install();
            Assert.True(Same(state, network.State())); // to the bit
            Assert.True(Same(state, composition.Fold()));
            composition.Set(ones(1));
            Dictionary<string, Tensor> tuned = vectors[0].ApplyTo(state), folded = composition.Fold();
            string[] parameters = [.. network.named_parameters().Select(p => p.name)];
            Assert.All(parameters, name => Assert.True(tuned[name].allclose(folded[name], 1e-6, 1e-6), name));
            Assert.All(state.Keys.Except(parameters), name => Assert.True(state[name].equal(folded[name]).all().item<bool>(), name)); // buffers stay those of the base
            composition.Restore();
            Assert.True(Same(state, network.State()));
        }
        (network, _, vectors) = Tuned(SmallMlp(), 3);
        using var block = new AnisotropicComposition(network, vectors);
        using var partition = new AnisotropicComposition(network, vectors, Granularity.Partition(5), seed: 4);
        Tensor coefficients = randn(3, block.Blocks.Count);
        block.Set(coefficients);
        partition.Set(coefficients.unsqueeze(2));
        Dictionary<string, Tensor> x = block.Fold(), y = partition.Fold();
        Assert.All(x.Keys, name => Assert.True(x[name].allclose(y[name], 1e-6, 1e-6), name));
    }

    // Check 2: MSE 2.375 at the base, .005 at the isotropic optimum (1.6, -.45), 0 at the anisotropic one.
    [Fact]
    public void The_worked_example_has_its_losses_and_training_finds_its_optima()
    {
        using var scope = NewDisposeScope();
        using var model = new TwoBlocks();
        using var block = new AnisotropicComposition(model, WorkedVectors());
        Assert.Equal(["a", "b"], block.Blocks);
        Assert.Equal(2.375, WorkedLoss(block).ToDouble(), 1e-6);
        block.Set(tensor(new[] { 1.5f, 7, -.25f, -.5f }).view(2, 2)); // tau1 is zero in block 2: its coefficient does not matter
        Assert.Equal(0, WorkedLoss(block).ToDouble(), 1e-6);
        block.Restore();
        using var global = new AnisotropicComposition(model, WorkedVectors(), Granularity.Global);
        global.Set(tensor(new[] { 1.6f, -.45f }));
        Assert.Equal(.005, WorkedLoss(global).ToDouble(), 1e-6);

        void Descend(AnisotropicComposition composition, params float[] optimum)
        {
            composition.Set(zeros(1));
            for (int step = 0; step < 3000; step++)
            {
                using var one = NewDisposeScope();
                Tensor gradient = TaskVectorGradient(composition);
                composition.Set(composition.Coefficients.detach() - 0.05 * gradient);
            }
            Assert.Equal(optimum, composition.Coefficients.detach().flatten().data<float>().ToArray().Select(c => MathF.Round(c, 3)));
        }
        Descend(global, 1.6f, -.45f);
        Descend(block, 1.5f, 0, -.25f, -.5f);
    }

    private static Tensor TaskVectorGradient(AnisotropicComposition composition) => Gradients.Of(WorkedLoss(composition), [composition.Coefficients])[0];

    // Check 3.
    [Fact]
    public void Gradients_are_inner_products_with_the_task_vectors()
    {
        using var scope = NewDisposeScope();
        using var model = new TwoBlocks();
        using var block = new AnisotropicComposition(model, WorkedVectors());
        Assert.Equal([-3.3f, 0, -1.6f, .4f], TaskVectorGradient(block).flatten().data<float>().ToArray().Select(g => MathF.Round(g, 5)));
        using var global = new AnisotropicComposition(model, WorkedVectors(), Granularity.Global);
        Assert.Equal([-3.3f, -1.2f], TaskVectorGradient(global).data<float>().ToArray().Select(g => MathF.Round(g, 5)));
    }

    public static TheoryData<string, int> Granularities => new() { { "global", 0 }, { "block", 1 }, { "partition", 3 }, { "matrices", 1 }, { "lora", 1 }, { "lora", 3 } };

    [Theory]
    [MemberData(nameof(Granularities))]
    public void Gradients_agree_with_finite_differences(string kind, int groups)
    {
        using var scope = NewDisposeScope();
        Seeds.Set(5);
        using var network = new Mlp(5, [6, 6], 3); // ReLU
        network.to(float64);
        Dictionary<string, Tensor> state = network.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());
        TaskVector Vector(int i) => kind == "lora" && i != 1
            ? TaskVector.FromChanges(new Dictionary<string, Tensor>(), state.Where(p => p.Value.dim() == 2).ToDictionary(p => p.Key, p => new LowRankDelta(randn(p.Value.shape[0], 2, float64) / 2, randn(2, p.Value.shape[1], float64) / 2)))
            : TaskVector.FromChanges(state.ToDictionary(p => p.Key, p => randn(p.Value.shape, float64) / 2));
        TaskVector[] vectors = [Vector(0), Vector(1), Vector(2)];
        using var composition = new AnisotropicComposition(network, vectors, groups == 0 ? Granularity.Global : Granularity.Partition(groups), matricesOnly: kind == "matrices");
        composition.to(float64); // so that differences are exact enough
        composition.Set(0.3 * randn(composition.Coefficients.shape, float64));
        Tensor x = randn(7, 5, float64), y = randint(3, [7], ScalarType.Int64);
        Tensor Loss() => composition.Loss(f => functional.cross_entropy(f(x), y));
        Tensor gradient = Gradients.Of(Loss(), [composition.Coefficients])[0].flatten(), at = composition.Coefficients.detach().clone();
        const double H = 1e-5;
        for (long i = 0; i < gradient.shape[0]; i++)
        {
            double Shifted(double by)
            {
                Tensor moved = at.flatten().clone();
                moved[i] += by;
                composition.Set(moved.view(at.shape));
                return Loss().ToDouble();
            }
            double expected = (Shifted(H) - Shifted(-H)) / (2 * H), found = gradient[i].ToDouble();
            Assert.True(Math.Abs(expected - found) <= 1e-4 * Math.Max(1e-3, Math.Abs(expected)), $"{i}: {found} instead of {expected}");
        }
    }

    // Check 4.
    [Fact]
    public void Only_the_coefficients_are_trained()
    {
        using var scope = NewDisposeScope();
        (Network network, _, TaskVector[] vectors) = Tuned(SmallMlp(), 3);
        foreach ((Granularity granularity, bool matrices, long count) in new[] { (Granularity.Global, false, 3L), (Granularity.Block, false, 3 * 6), (Granularity.Partition(4), false, 3 * 6 * 4), (Granularity.Block, true, 3 * 3) })
        {
            using var composition = new AnisotropicComposition(network, vectors, granularity, matrices);
            Parameter trained = Assert.Single(composition.parameters());
            Assert.Equal(count, trained.numel());
            composition.Loss(f => f(randn(2, 1, 3, 3)).square().mean()).backward();
            Assert.NotNull(trained.grad);
            Assert.All(network.parameters(), p => Assert.True(!p.requires_grad && p.grad is null));
            Assert.Throws<System.Runtime.InteropServices.ExternalException>(() => composition.call(randn(2, 1, 3, 3)).sum().backward()); // no silent zero: outputs carry no graph
        }
        Assert.Equal(["layers.1.weight", "layers.3.weight", "layers.5.weight"], new AnisotropicComposition(network, vectors, matricesOnly: true).Blocks);
    }

    // Check 5.
    [Fact]
    public void Ufm_takes_confident_samples_only()
    {
        using var scope = NewDisposeScope();
        Tensor weak = tensor(new float[,] { { 6, 0, 0 }, { 2, 1, 0 }, { 0, 7, 0 } }), strong = tensor(new[,] { { 1, 0, 0 }, { .5f, .5f, 0 }, { 0, 0, 2 } }).requires_grad_(true);
        Assert.Equal(1.397051, TestTimeAdapter.UfmLoss(weak, strong, temperature: 1).ToDouble(), 1e-6);
        Tensor loss = TestTimeAdapter.UfmLoss(weak, strong);
        Assert.Equal(1.395500, loss.ToDouble(), 1e-6);
        loss.backward();
        Assert.Equal([true, false, true], strong.grad!.abs().sum(dim: 1).gt(0).data<bool>().ToArray()); // the mask (1, 0, 1)
        Tensor none = TestTimeAdapter.UfmLoss(weak, strong, threshold: 1);
        Assert.Equal(0, none.ToDouble());
        none.backward();
        Assert.True(strong.grad!.isfinite().all().item<bool>());
        // A trusted sample counts with its label, however unsure the model is.
        Tensor trusted = tensor(new[] { false, true, false }), labels = tensor(new[] { 0L, 2, 0 });
        double second = -strong.detach()[1].log_softmax(0)[2].ToDouble();
        Assert.Equal((2 * 1.395500 + second) / 3, TestTimeAdapter.UfmLoss(weak, strong, trusted: trusted, labels: labels).ToDouble(), 1e-6);
        Assert.Throws<ArgumentException>(() => TestTimeAdapter.UfmLoss(weak, strong.narrow(0, 0, 2)));
    }

    [Fact]
    public void Ufm_trusts_the_most_confident_of_each_class()
    {
        using var scope = NewDisposeScope();
        // 40 samples, 2 classes: k = min(40 / 2 / 10, 100) = 2 of each.
        Tensor p = linspace(0.01, 0.99, 40), trusted = TestTimeAdapter.TrustedSamples(stack([p, 1 - p], 1));
        Assert.Equal([0, 1, 38, 39], trusted.nonzero().flatten().data<long>().ToArray());
        Assert.Equal(0, TestTimeAdapter.TrustedSamples(ones(19, 2)).sum().item<long>());
    }

    // Check 6.
    [Fact]
    public void The_linearised_model_is_the_first_order_expansion()
    {
        using var scope = NewDisposeScope();
        Seeds.Set(2);
        using var network = Sequential(Linear(4, 6), Tanh(), Linear(6, 3));
        network.to(float64);
        Dictionary<string, Tensor> state = network.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());
        TaskVector tau = TaskVector.FromChanges(state.ToDictionary(p => p.Key, p => 0.2 * randn(p.Value.shape, float64)));
        Tensor x = randn(5, 4, float64), f0 = network.call(x).detach();
        Tensor F(double scale)
        {
            network.load_state_dict(tau.ApplyTo(state, scale));
            Tensor outputs = network.call(x).detach();
            network.load_state_dict(state);
            return outputs;
        }
        Tensor directional = (F(1e-6) - F(-1e-6)) / 2e-6; // J tau
        using var composition = new LinearizedComposition(network, [tau]);
        Tensor G(double scale)
        {
            composition.Set(tensor(scale));
            return composition.call(x);
        }
        Assert.True(G(0).allclose(f0, 1e-12, 1e-12));
        Assert.True(G(1).allclose(f0 + directional, 1e-7, 1e-8));
        double[] errors = [.. new[] { 0.1, 0.05, 0.025 }.Select(scale => (F(scale) - G(scale)).norm().ToDouble())];
        Assert.InRange(errors[0] / errors[1], 3.5, 4.5);
        Assert.InRange(errors[1] / errors[2], 3.7, 4.3);

        // The gradient reaches the coefficients: the loss of a linear function is differenced exactly.
        composition.Set(0.5 * ones(1));
        Tensor y = randint(3, [5], ScalarType.Int64);
        Tensor Loss() => composition.Loss(f => functional.cross_entropy(f(x), y));
        Tensor gradient = Gradients.Of(Loss(), [composition.Coefficients])[0], at = composition.Coefficients.detach().clone();
        for (int j = 0; j < composition.Blocks.Count; j++)
        {
            double Shifted(double by)
            {
                Tensor moved = at.clone();
                moved[0, j] += by;
                composition.Set(moved);
                return Loss().ToDouble();
            }
            Assert.Equal((Shifted(1e-3) - Shifted(-1e-3)) / 2e-3, gradient[0, j].ToDouble(), 1e-3);
        }

        // The same expansion with weights of its own, for fine-tuning.
        foreach (Parameter parameter in network.parameters()) parameter.requires_grad = true;
        using var model = new LinearizedModel(network);
        Assert.True(model.call(x).allclose(f0, 1e-12, 1e-12));
        var optimizer = optim.SGD(model.parameters(), 0.5);
        double before = functional.cross_entropy(model.call(x), y).ToDouble();
        for (int step = 0; step < 20; step++)
        {
            optimizer.zero_grad();
            model.Loss(f => functional.cross_entropy(f(x), y)).backward();
            optimizer.step();
        }
        Assert.True(functional.cross_entropy(model.call(x), y).ToDouble() < before - 0.1);
        Assert.True(Same(state, network.state_dict())); // theta_0 stays
        using var one = new LinearizedComposition(network, [TaskVector.FromCheckpoints(state, model.State())]);
        one.Set(ones(1));
        Assert.True(one.call(x).allclose(model.call(x), 1e-9, 1e-9));
    }

    // Check 7.
    [Fact]
    public void A_folded_checkpoint_computes_what_the_composition_does()
    {
        using var scope = NewDisposeScope();
        Architecture architecture = Architectures.ConvNet([1, 8, 8], [4, 6], 3);
        (Network network, _, TaskVector[] vectors) = Tuned(architecture, 3);
        foreach (Granularity granularity in new[] { Granularity.Global, Granularity.Block, Granularity.Partition(5) })
        {
            using var composition = new AnisotropicComposition(network, vectors, granularity);
            composition.Set(0.5 * randn(composition.Coefficients.shape));
            Tensor x = randn(6, 1, 8, 8), functionalForward = composition.call(x);
            using Network folded = new Network(architecture).Load(composition.Fold());
            folded.eval();
            Assert.True(folded.call(x).allclose(functionalForward, 1e-5, 1e-5));
            composition.Restore();
        }
    }

    [Fact]
    public void Task_vectors_are_vectors()
    {
        using var scope = NewDisposeScope();
        var first = new Dictionary<string, Tensor> { ["w"] = tensor(new float[,] { { 1, 2 }, { 3, 4 } }), ["n"] = tensor(5L) };
        TaskVector a = TaskVector.FromCheckpoints(first, new Dictionary<string, Tensor> { ["w"] = tensor(new float[,] { { 1, 3 }, { 3, 6 } }), ["n"] = tensor(9L) }, "a"); // (0, 1, 0, 2)
        TaskVector b = TaskVector.FromChanges(new Dictionary<string, Tensor> { ["w"] = tensor(new float[,] { { 2, 2 }, { 0, 0 } }) });
        Assert.Equal(["w"], a.Keys); // counters have no difference
        Assert.Equal(Math.Sqrt(5), a.Norm(), 1e-12);
        Assert.Equal(2, a.Dot(b), 1e-12);
        Assert.Equal(2 / Math.Sqrt(5 * 8), a.Cosine(b), 1e-12);
        Assert.Equal([4f, 3f, 0f, -2f], (2 * b - a).Delta("w")!.flatten().data<float>().ToArray()[..1].Concat((2 * b - a).Delta("w")!.flatten().data<float>().ToArray()[1..]));
        Dictionary<string, Tensor> moved = (-a).ApplyTo(first, 0.5);
        Assert.Equal([1f, 1.5f, 3f, 3f], moved["w"].flatten().data<float>().ToArray());
        Assert.Equal(5, moved["n"].item<long>());
        Assert.Equal(0, a.Cosine(0 * b));
    }

    [Fact]
    public void Low_rank_vectors_stay_factors_and_compute_as_if_they_were_whole()
    {
        using var scope = NewDisposeScope();
        Seeds.Set(1);
        (Network network, Dictionary<string, Tensor> state, TaskVector[] dense) = Tuned(Architectures.ConvNet([1, 6, 6], [4, 5], 3), 1);
        TaskVector Lora() => TaskVector.FromLora(new Dictionary<string, Tensor>
        {
            ["base_model.model.fc.lora_A.weight"] = randn(2, 5), ["base_model.model.fc.lora_B.weight"] = randn(3, 2),
            ["conv2.lora_A.weight"] = randn(1, 36), ["conv2.lora_B.weight"] = randn(5, 1),
        }, scale: 2, "lora");
        TaskVector x = Lora(), y = Lora();
        Assert.Equal(["fc.weight", "conv2.weight"], x.Keys);
        TaskVector Whole(TaskVector v) => TaskVector.FromChanges(v.Keys.ToDictionary(k => k, k => v.Delta(k)!.view(state[k].shape)));
        Assert.Equal(4, (x + y).Factors["fc.weight"].A.shape[0]); // ranks add
        Assert.True((x - y).Delta("fc.weight")!.allclose(x.Delta("fc.weight")! - y.Delta("fc.weight")!, 1e-5, 1e-5));
        Assert.Equal(Whole(x).Dot(Whole(y)), x.Dot(y), 1e-3);
        Assert.True((x + dense[0]).Delta("conv2.weight")!.flatten().allclose((x.Delta("conv2.weight")!.flatten() + dense[0].Delta("conv2.weight")!.flatten()), 1e-5, 1e-5));
        foreach (Granularity granularity in new[] { Granularity.Block, Granularity.Partition(3) })
        {
            using var factors = new AnisotropicComposition(network, [x, dense[0], y], granularity, seed: 1);
            using var whole = new AnisotropicComposition(network, [Whole(x), dense[0], Whole(y)], granularity, seed: 1);
            Tensor coefficients = randn(factors.Coefficients.shape) / 3;
            factors.Set(coefficients);
            whole.Set(coefficients);
            Dictionary<string, Tensor> f = factors.Fold(), w = whole.Fold();
            Assert.All(f.Keys, key => Assert.True(f[key].allclose(w[key], 1e-4, 1e-5), key));
            factors.Restore();
        }
        Assert.Contains("lora_B", Assert.Throws<ArgumentException>(() => TaskVector.FromLora(new Dictionary<string, Tensor> { ["fc.lora_A.weight"] = randn(2, 5) })).Message);
        Assert.Contains("[3, 5]", Assert.Throws<ArgumentException>(() => new AnisotropicComposition(network,
            [TaskVector.FromLora(new Dictionary<string, Tensor> { ["fc.lora_A.weight"] = randn(2, 9), ["fc.lora_B.weight"] = randn(3, 2) })])).Message);
    }

    [Fact]
    public void A_half_precision_store_is_composed_in_single_precision()
    {
        using var scope = NewDisposeScope();
        (Network network, _, TaskVector[] vectors) = Tuned(SmallMlp(), 2);
        using var half = new AnisotropicComposition(network, vectors, storage: ScalarType.Float16);
        using var single = new AnisotropicComposition(network, vectors);
        half.Set(full(1, 0.7));
        single.Set(full(1, 0.7));
        Dictionary<string, Tensor> h = half.Compose(), s = single.Compose();
        Assert.All(h.Keys, key => Assert.True(h[key].dtype == ScalarType.Float32 && h[key].allclose(s[key], 1e-3, 1e-3), key));
    }

    [Fact]
    public void Wrong_vectors_are_refused_in_a_sentence()
    {
        using var scope = NewDisposeScope();
        (Network network, Dictionary<string, Tensor> state, TaskVector[] vectors) = Tuned(SmallMlp(), 1);
        string Message(Action wrong) => Assert.ThrowsAny<ArgumentException>(wrong).Message;
        var lacking = state.Where(p => p.Key != "layers.1.bias").ToDictionary();
        Assert.Contains("'layers.1.bias'", Message(() => TaskVector.FromCheckpoints(state, lacking, "t")));
        Assert.Contains("'extra'", Message(() => TaskVector.FromCheckpoints(lacking, new Dictionary<string, Tensor>(lacking) { ["extra"] = ones(1) })));
        var shaped = new Dictionary<string, Tensor>(state) { ["layers.1.bias"] = ones(9) };
        string shapes = Message(() => TaskVector.FromCheckpoints(state, shaped, "t"));
        Assert.Contains("'layers.1.bias' is [8]", shapes);
        Assert.Contains("[9]", shapes);
        Assert.Contains("floating-point", Message(() => TaskVector.FromCheckpoints(new Dictionary<string, Tensor> { ["n"] = ones(1, int64) }, new Dictionary<string, Tensor> { ["n"] = ones(1, int64) })));
        Assert.Throws<ArgumentOutOfRangeException>(() => Granularity.Partition(0));
        Message(() => new AnisotropicComposition(network, []).Dispose());
        Assert.Contains("'other.weight'", Message(() => new AnisotropicComposition(network, [TaskVector.FromChanges(new Dictionary<string, Tensor> { ["other.weight"] = ones(1) })]).Dispose()));
        var target = new CompositionTask("t0", randn(4, 1, 3, 3), arange(4, int64));
        using var composition = new AnisotropicComposition(network, vectors);
        Assert.Contains("allowTarget", Message(() => FewShotTrainer.Fit(composition, target, null)));
        FewShotTrainer.Fit(composition, target, null, allowTarget: true, options: new CompositionOptions { Epochs = 1, BatchSize = 2 });
    }
}
