using Priori.Training;

namespace Priori.Tests.Training;

public class CoTeachingTests
{
    private static readonly Tensor Inputs, Labels;

    static CoTeachingTests()
    {
        manual_seed(11);
        Inputs = randn(64, 5);
        Labels = Inputs.sum(1).gt(0).to(ScalarType.Int64);
    }

    [Fact]
    public void The_smallest_losses_are_kept_and_losses_become_weights()
    {
        Tensor losses = tensor(new[] { .1, 2, .5, 1.2, .3 });
        Assert.Equal([0, 4, 2], CoTeaching.SmallLosses(losses, .6).data<long>().ToArray());
        double[] weights = CoTeaching.Weights(losses, null, .2).data<double>().ToArray();
        double[] expected = [.98, .6, .9, .76, .94];
        for (int i = 0; i < 5; i++) Assert.Equal(expected[i], weights[i], 12);
        Assert.Equal([1, .6, 1, .76, .94], CoTeaching.Weights(losses, tensor(new long[] { 1, 0, 1, 0, 0 }), .2).data<double>().ToArray().Select(w => Math.Round(w, 12)));
        Assert.Equal(0, CoTeaching.Weights(tensor(new[] { 7.0 }), null, .2).item<double>());
    }

    [Fact]
    public void A_weight_on_the_label_instead_of_the_loss_would_change_nothing()
    {
        // The formula of the public code, target = w y with w = 1 + beta (y - 1) l: a positive keeps weight 1, a negative's target stays 0.
        double[] y = [1, 0, 0, 1], l = [.7, .2, 3, .1];
        double[] w = [.. y.Zip(l, (label, loss) => Math.Round(1 + .2 * (label - 1) * loss, 12))];
        Assert.Equal([1, .96, .4, 1], w);
        Assert.Equal(y, w.Zip(y, (weight, label) => weight * label));
    }

    [Fact]
    public void The_discarded_share_grows_to_the_rate_over_the_warm_up()
        => Assert.Equal([0, .05, .1, .15, .2, .25, .3, .3, .3], Enumerable.Range(0, 9).Select(e => Math.Round(CoTeaching.DiscardedShare(e, .3, 6), 12)));

    [Fact]
    public void Selection_within_classes_keeps_the_share_of_each()
    {
        // The rare class has the largest losses: without balance all of it goes.
        Tensor losses = tensor(new[] { .1f, .2f, .3f, .4f, .5f, .6f, 3f, 2f }), classes = tensor(new long[] { 0, 0, 0, 0, 0, 0, 1, 1 });
        Assert.DoesNotContain(6L, CoTeaching.SmallLosses(losses, .5).data<long>().ToArray());
        Assert.Equal([0, 1, 2, 7], CoTeaching.SmallLosses(losses, .5, classes).data<long>().ToArray());
    }

    [Fact]
    public void Filtering_at_rate_zero_is_joint_training_to_the_bit()
    {
        Assert.Equal(Train(new CoTeachingOptions { Mode = CoTeachingMode.Joint }).Weights, Train(new CoTeachingOptions { NoiseRate = 0 }).Weights);
        Assert.NotEqual(Train(new CoTeachingOptions { Mode = CoTeachingMode.Joint }).Weights, Train(new CoTeachingOptions { NoiseRate = .3 }).Weights);
    }

    [Fact]
    public void Every_mode_trains_and_the_modes_differ()
    {
        var weights = Enum.GetValues<CoTeachingMode>().Select(mode => Convert.ToHexString(Train(new CoTeachingOptions { Mode = mode }).Weights)).ToArray();
        Assert.Equal(weights.Length, weights.Distinct().Count());
        Assert.NotEqual(Train(new CoTeachingOptions()).Weights, Train(new CoTeachingOptions { PerClass = true }).Weights);
        Assert.NotEqual(Train(new CoTeachingOptions { Mode = CoTeachingMode.Reweight }).Weights, Train(new CoTeachingOptions { Mode = CoTeachingMode.Reweight, ApplyToPositives = true }).Weights);
    }

    [Theory]
    [InlineData(CoTeachingMode.Filter)]
    [InlineData(CoTeachingMode.SelfPaced)]
    [InlineData(CoTeachingMode.Reweight)]
    public void Swapping_the_models_swaps_the_results(CoTeachingMode mode)
    {
        var options = new CoTeachingOptions { Mode = mode };
        Assert.Equal(Train(options).Weights, Train(options, swap: true).Weights);
    }

    [Fact]
    public void The_step_uses_losses_from_before_either_update_and_only_the_other_s_choice()
    {
        // The losses are parameters themselves, one a sample: their gradients show who was trained on what.
        using var a = new Table([.1f, 2, .5f, 1.2f, .3f]);
        using var b = new Table([2, .1f, .2f, .3f, 1]);
        int forwards = 0;
        byte[][]? before = null;
        using var learner = new CoTeachingLearner(a, b, _ =>
        {
            forwards++;
            before ??= [a.Values.bytes.ToArray(), b.Values.bytes.ToArray()];
            return (new SampleLosses(a.Values * 1), new SampleLosses(b.Values * 1));
        }, new Optimization(optim.SGD(a.parameters(), 1)), new Optimization(optim.SGD(b.parameters(), 1)), 5, new CoTeachingOptions { NoiseRate = .4, WarmupEpochs = 1 });
        var gradients = new List<(float[] A, float[] B)>();
        new Trainer(new TrainerOptions { Epochs = 2, BatchSize = 5, Sampler = new SequentialSampler() }).Fit(learner, new TensorSource(zeros(5)), _ =>
        {
            gradients.Add((a.Values.grad!.data<float>().ToArray(), b.Values.grad!.data<float>().ToArray()));
            return new Dictionary<string, double>();
        });
        Assert.Equal(2, forwards); // one forward of both models a step, used for selection and update alike
        Assert.All(gradients[0].A, g => Assert.Equal(.2f, g)); // epoch 0 discards nothing
        float third = 1f / 3;
        Assert.Equal([0, third, third, third, 0], gradients[1].A); // B's smallest: 1, 2, 3
        Assert.Equal([third, 0, third, 0, third], gradients[1].B); // A's smallest: 0, 4, 2
        Assert.Equal([1f, 0, 1, 0, 1], learner.Report.LastWeights[TensorIndex.Colon, 0].data<float>().ToArray());
        Assert.Equal([1f, .5f, 1, .5f, 1], learner.Report.KeptShares[TensorIndex.Colon, 0].data<float>().ToArray());
        Assert.Equal(2, learner.Report.Visits[0].item<float>());
    }

    [Fact]
    public void Weights_carry_no_gradient()
    {
        using var a = new Table([1, 2]);
        using var b = new Table([3, .5f]);
        using var learner = new CoTeachingLearner(a, b, _ => (new SampleLosses(a.Values * 1), new SampleLosses(b.Values * 1)),
            new Optimization(optim.SGD(a.parameters(), 0)), new Optimization(optim.SGD(b.parameters(), 0)), 2, new CoTeachingOptions { Mode = CoTeachingMode.Reweight }, _ => tensor(new long[] { 0, 1 }));
        new Trainer(new TrainerOptions { BatchSize = 2, Sampler = new SequentialSampler() }).Fit(learner, new TensorSource(zeros(2)));
        Assert.Equal([(1 - .2f * 3) / 2, .5f], a.Values.grad!.data<float>().ToArray(), (x, y) => Math.Abs(x - y) < 1e-6);
        Assert.Equal([(1 - .2f) / 2, .5f], b.Values.grad!.data<float>().ToArray(), (x, y) => Math.Abs(x - y) < 1e-6);
    }

    [Fact]
    public void A_killed_run_ends_with_the_weights_and_the_report_of_one_that_was_not()
    {
        using var folder = new Tests.Data.TemporaryFolder();
        var (whole, report) = Train(new CoTeachingOptions());
        var options = new CoTeachingOptions();
        Assert.Throws<InvalidOperationException>(() => Train(options, folder: folder.File("checkpoints"), failAt: 9));
        var (weights, resumed) = Train(options, folder: folder.File("checkpoints"));
        Assert.Equal(whole, weights);
        Assert.Equal(report, resumed);
    }

    [Fact]
    public void Wrong_settings_and_one_model_twice_are_refused()
    {
        Assert.Throws<ArgumentException>(() => Train(new CoTeachingOptions { NoiseRate = 1 }));
        Assert.Throws<ArgumentException>(() => Train(new CoTeachingOptions { NoiseRate = -.1 }));
        Assert.Throws<ArgumentException>(() => Train(new CoTeachingOptions { WarmupEpochs = 0 }));
        using var model = nn.Linear(5, 2);
        Assert.Throws<ArgumentException>(() => new CoTeachingLearner(model, model, _ => default, new Optimization(optim.SGD(model.parameters(), 1)), new Optimization(optim.SGD(model.parameters(), 1)), 4));
        Assert.Throws<ArgumentException>(() => CoTeaching.SmallLosses(zeros(0), .5));
        Assert.Throws<ArgumentException>(() => CoTeaching.SmallLosses(zeros(3), 0));
    }

    /// <summary>Trains two classifiers; returns the bytes of A's weights then B's (with swap: of the model that plays B, then A) and those of the report.</summary>
    private static (byte[] Weights, byte[] Report) Train(CoTeachingOptions options, bool swap = false, string? folder = null, int? failAt = null)
    {
        manual_seed(3);
        var first = nn.Linear(5, 2);
        var second = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2));
        (Module<Tensor, Tensor> a, Module<Tensor, Tensor> b) = swap ? ((Module<Tensor, Tensor>)second, (Module<Tensor, Tensor>)first) : (first, second);
        int steps = 0;
        SampleLosses Losses(Module<Tensor, Tensor> model, Batch batch)
        {
            Tensor logits = model.forward(batch[0]);
            return new SampleLosses(functional.cross_entropy(logits, batch[1], reduction: Reduction.None), logits.argmax(1));
        }
        using var learner = new CoTeachingLearner(a, b, batch => failAt == ++steps ? throw new InvalidOperationException() : (Losses(a, batch), Losses(b, batch)),
            new Optimization(optim.Adam(a.parameters(), .01)), new Optimization(optim.Adam(b.parameters(), .01)), 64, options with { WarmupEpochs = options.WarmupEpochs == 6 ? 2 : options.WarmupEpochs }, batch => batch[1]);
        new Trainer(new TrainerOptions { Epochs = 4, BatchSize = 16, Seed = 5, CheckpointFolder = folder, CheckpointEvery = TimeSpan.Zero }).Fit(learner, new TensorSource(Inputs, Labels));
        byte[] weights = [.. first.parameters().Concat(second.parameters()).SelectMany(p => p.bytes.ToArray())];
        return (weights, [.. learner.Report.state_dict().Values.SelectMany(t => t.bytes.ToArray())]);
    }

    private sealed class Table : Module
    {
        public readonly TorchSharp.Modules.Parameter Values;

        public Table(float[] values) : base(nameof(Table))
        {
            Values = new TorchSharp.Modules.Parameter(tensor(values));
            RegisterComponents();
        }
    }
}
