using Priori.Continual;
using Priori.Metrics;
using Priori.Nn;
using Priori.Training;

namespace Priori.Tests.Continual;

/// <summary>The exact checks of stationary representations, in the order of the numbers.</summary>
public class StationaryRepresentationsTests
{
    private static readonly Tensor s_old = tensor(new double[,] { { 1, 0 }, { 0, 1 }, { .6, .8 } });
    private static readonly Tensor s_new = tensor(new double[,] { { .8, .6 }, { 0, 1 }, { 1, 0 } });
    private static readonly Tensor s_labels = tensor(new long[] { 0, 0, 1 });

    private static void AssertClose(double[] expected, Tensor actual, double tolerance)
    {
        double[] values = actual.to(float64).detach().flatten().data<double>().ToArray();
        Assert.Equal(expected.Length, values.Length);
        for (int i = 0; i < values.Length; i++) Assert.Equal(expected[i], values[i], tolerance);
    }

    [Fact] // 1
    public void The_vertices_form_a_regular_simplex()
    {
        AssertClose([.965926, -.258819, -.258819, .965926, -.707107, -.707107], Simplex.Vertices(3), 1e-6);
        AssertClose([1, -1], Simplex.Vertices(2), 1e-12);
        Tensor four = Simplex.Vertices(4, ScalarType.Float64);
        AssertClose([.. Enumerable.Range(0, 16).Select(i => i % 5 == 0 ? 1 : -1 / 3.0)], four.matmul(four.t()), 1e-12);
        AssertClose([0, 0, 0], four.sum(dim: 0), 1e-12);
        Assert.Throws<ArgumentOutOfRangeException>(() => Simplex.Vertices(1));
    }

    [Theory] // 2
    [InlineData(HocNegatives.ZeroMasked, -1.0391133)]
    [InlineData(HocNegatives.Excluded, -1.4053664)]
    public void The_compatibility_loss_has_the_worked_value(HocNegatives negatives, double expected)
    {
        var loss = new HigherOrderCompatibilityLoss(10, negatives);
        Assert.Equal(expected, loss.call(s_new, s_old, s_labels).ToDouble(), 1e-6);
        Assert.Equal(1.2002990, new HigherOrderCompatibilityLoss().call(s_old, s_new, s_labels).ToDouble(), 1e-6); // exchanged models are another loss
    }

    [Fact]
    public void A_batch_of_one_class_is_finite_either_way()
    {
        Tensor one = zeros(3, int64);
        double masked = new HigherOrderCompatibilityLoss(10).call(s_new, s_old, one).ToDouble();
        Assert.Equal(masked, new HigherOrderCompatibilityLoss(10, HocNegatives.Excluded).call(s_new, s_old, one).ToDouble(), 1e-12);
        Assert.True(double.IsFinite(masked));
    }

    [Fact] // 3
    public void Compatibility_is_strict()
    {
        var report = new CompatibilityReport([[.5], [.55, .6], [.48, .62, .7], [.51, .6, .71, .8]]);
        Assert.Equal(4 / 6.0, report.AverageCompatibility, 1e-12);
        Assert.Equal(.607, report.AverageAccuracy, 1e-12);
        Assert.False(report.IsCompatible(3, 1)); // .6 against .6
        Assert.Throws<ArgumentException>(() => new CompatibilityReport([[.5], [.5]]));
    }

    [Fact] // 4
    public void The_head_is_the_product_with_the_vertices_and_is_not_learned()
    {
        manual_seed(0);
        var head = new FixedSimplexHead(6);
        Assert.Empty(head.parameters());
        Tensor z = randn(7, 5, dtype: float64).requires_grad_(), vertices = Simplex.Vertices(6, ScalarType.Float64), y = randint(0, 6, 7, int64);
        AssertClose(z.matmul(vertices.t()).detach().data<double>().ToArray(), head.call(z), 1e-12);
        Tensor expected = (functional.softmax(z.detach().matmul(vertices.t()), 1) - functional.one_hot(y, 6)).matmul(vertices) / 7;
        functional.cross_entropy(head.call(z), y).backward();
        AssertClose(expected.data<double>().ToArray(), z.grad!, 1e-12);
        Assert.Throws<ArgumentException>(() => head.call(zeros(2, 6)));
    }

    [Fact] // 5
    public void With_lambda_one_the_old_model_does_not_matter_and_it_never_changes()
    {
        (Tensor x, Tensor y) = Data();
        float[] Train(double lambda, bool withOld)
        {
            manual_seed(3);
            var encoder = Sequential(("linear", Linear(4, 8)), ("bn", BatchNorm1d(8)), ("out", Linear(8, 5, hasBias: false)));
            using var old = Sequential(("linear", Linear(4, 8)), ("bn", BatchNorm1d(8)), ("out", Linear(8, 5, hasBias: false)));
            float[] before = State(old);
            using var learner = new CompatibleLearner(encoder, new FixedSimplexHead(6), withOld ? old : null, new CompatibilityOptions { Lambda = lambda, LearningRate = .1 });
            new Trainer(new TrainerOptions { Epochs = 2, BatchSize = 8 }).Fit(learner, new TensorSource(x, y));
            Assert.Equal(before, State(old));
            return State(encoder);
        }
        Assert.Equal(Train(1, false), Train(1, true));
        Assert.Equal(Train(.1, false), Train(1, false)); // without an old model it is cross-entropy
        Assert.NotEqual(Train(.1, true), Train(1, true));
    }

    [Fact] // 6
    public void Rotations_and_scales_change_the_cross_entropy_only()
    {
        double angle = .7;
        Tensor rotation = tensor(new[,] { { Math.Cos(angle), -Math.Sin(angle) }, { Math.Sin(angle), Math.Cos(angle) } });
        var loss = new HigherOrderCompatibilityLoss();
        double expected = loss.call(s_new, s_old, s_labels).ToDouble();
        Assert.Equal(expected, loss.call(s_new.matmul(rotation), s_old.matmul(rotation), s_labels).ToDouble(), 1e-12);
        Assert.Equal(expected, loss.call(s_new * 3, s_old * .2, s_labels).ToDouble(), 1e-12);
        var head = new FixedSimplexHead(3);
        Assert.NotEqual(functional.cross_entropy(head.call(s_new), s_labels).ToDouble(), functional.cross_entropy(head.call(s_new * 3), s_labels).ToDouble(), 1e-3);
    }

    [Fact]
    public void No_gradient_reaches_the_old_features()
    {
        Tensor old = s_old.clone().requires_grad_(), updated = s_new.clone().requires_grad_();
        new HigherOrderCompatibilityLoss().call(updated, old, s_labels).backward();
        Assert.Null(old.grad);
        Assert.True(updated.grad!.abs().sum().ToDouble() > 0);
    }

    [Theory] // 7
    [InlineData(100, 40, 16)]
    [InlineData(10, 3, 16)] // both pools are smaller than their share: drawn with replacement
    [InlineData(50, 0, 16)]
    public void Half_of_a_batch_is_memory(int count, int memory, int batch)
    {
        var sampler = new MemoryBalancedSampler(memory, batch);
        long[] order = sampler.Order(count, 1, 0, 0).data<long>().ToArray();
        Assert.Equal(Math.Max(1, count / batch) * batch, order.Length);
        foreach (long[] rows in order.Chunk(batch))
        {
            Assert.Equal(memory == 0 ? 0 : batch / 2, rows.Count(r => r >= count - memory));
            if (count - memory >= batch) Assert.Equal(rows.Length, rows.Distinct().Count());
        }
        Assert.Equal(order, sampler.Order(count, 1, 0, 0).data<long>().ToArray());
        Assert.NotEqual(order, sampler.Order(count, 1, 1, 0).data<long>().ToArray());
    }

    [Fact] // 8
    public void Only_matrices_decay()
    {
        var encoder = Sequential(("conv", Conv2d(1, 2, 3)), ("bn", BatchNorm2d(2)), ("flatten", Flatten()), ("linear", Linear(8, 3)));
        using var learner = new CompatibleLearner(encoder, new FixedSimplexHead(4), null, new CompatibilityOptions());
        var groups = learner.Optimizers["encoder"].Optimizer.ParamGroups.ToArray();
        Assert.Equal(2, groups.Length);
        Assert.Equal(6, learner.Optimizers["encoder"].Optimizer.parameters().Count());
        // A gradient of zero moves what decays and nothing else.
        var optimizer = learner.Optimizers["encoder"].Optimizer;
        var before = encoder.named_parameters().ToDictionary(p => p.name, p => p.parameter.detach().clone());
        foreach (var p in optimizer.parameters()) p.grad = zeros_like(p);
        optimizer.step();
        Assert.Equal(["conv.weight", "linear.weight"], encoder.named_parameters().Where(p => !p.parameter.equal(before[p.name]).all().ToBoolean()).Select(p => p.name).Order());
    }

    [Fact] // 9
    public void A_thousand_vertices_stay_regular_in_single_precision()
    {
        Tensor vertices = Simplex.Vertices(1024);
        Tensor gram = vertices.to(float64).matmul(vertices.to(float64).t());
        gram.diagonal().fill_(-1 / 1023.0);
        Assert.True((gram + 1 / 1023.0).abs().max().ToDouble() < 1e-6);
    }

    [Fact] // 10
    public void A_template_is_the_normalised_mean_and_ties_go_to_the_smaller_class()
    {
        (Tensor templates, Tensor classes) = TemplateRetrieval.Templates(tensor(new double[,] { { 2, 0 }, { 0, 5 } }), tensor(new long[] { 4, 4 }));
        AssertClose([.707107, .707107], templates, 1e-6);
        Assert.Equal([4], classes.data<long>().ToArray());
        Tensor gallery = tensor(new double[,] { { 1, 0 }, { 1, 0 } });
        Assert.Equal(1, TemplateRetrieval.Accuracy(tensor(new double[,] { { 1, 1 } }), tensor(new long[] { 2 }), gallery, tensor(new long[] { 7, 2 })));
        Assert.Contains("Row 1", Assert.Throws<ArgumentException>(() => TemplateRetrieval.Templates(tensor(new double[,] { { 1, 0 }, { 0, 0 } }), tensor(new long[] { 0, 1 }))).Message);
    }

    [Fact]
    public void Violations_are_counted_over_pairs()
    {
        Tensor old = tensor(new double[,] { { 1, 0 }, { .8, .6 }, { 0, 1 } });
        var none = CompatibilityViolations.Of(old, old, s_labels);
        Assert.Equal((0, 0), (none.SameClass, none.DifferentClass));
        // The new model maps sample 0 onto the other class's old place: both its pairs with class 1 and its own class's are worse.
        Tensor updated = tensor(new double[,] { { 0, 1 }, { .8, .6 }, { 0, 1 } });
        var some = CompatibilityViolations.Of(updated, old, s_labels);
        Assert.Equal(.5, some.SameClass, 1e-12);          // (0, 1) of (0, 1) and (1, 0)
        Assert.Equal(.25, some.DifferentClass, 1e-12);    // (0, 2) of (0, 2), (1, 2), (2, 0), (2, 1)
    }

    [Fact]
    public void The_memory_keeps_so_many_of_each_class_and_never_changes_them()
    {
        (Tensor x, Tensor y) = Data();
        var memory = new EpisodicMemory(3);
        memory.Add(x, y, seed: 1);
        (Tensor inputs, Tensor labels) = memory.Samples();
        Assert.Equal(9, memory.Count);
        Assert.Equal([0, 0, 0, 1, 1, 1, 2, 2, 2], labels.data<long>().ToArray());
        memory.Add(x * 2, y, seed: 2);
        Assert.Equal(inputs.data<float>().ToArray(), memory.Samples().Inputs.data<float>().ToArray());
        Assert.Throws<InvalidOperationException>(() => new EpisodicMemory(0).Samples());
    }

    [Fact]
    public void Slots_of_two_parties_do_not_collide()
    {
        Assert.Equal([63, 54], CompatibleLearner.ClientLabel(tensor(new long[] { 0, 9 }), 64, 20).data<long>().ToArray());
        Assert.Throws<ArgumentException>(() => CompatibleLearner.ClientLabel(tensor(new long[] { 0, 44 }), 64, 20));
        Assert.Throws<ArgumentException>(() => CompatibleLearner.ClientLabel(tensor(new long[] { -1 }), 64));
    }

    private static (Tensor X, Tensor Y) Data()
    {
        manual_seed(1);
        return (randn(30, 4), arange(30, int64).remainder(3));
    }

    private static float[] State(Module module) => [.. module.state_dict().OrderBy(p => p.Key).SelectMany(p => p.Value.to(float32).data<float>().ToArray())];
}
