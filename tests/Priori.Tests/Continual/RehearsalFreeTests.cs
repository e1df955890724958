using Priori.Continual;
using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Continual;

public sealed class RehearsalFreeTests
{
    private static readonly Tensor s_theta = tensor(new[] { 1.0, 2, -1 }), s_anchor = tensor(new[] { .5, 2.5, -1 }), s_fisher = tensor(new[] { 4.0, 1, 10 });

    [Fact]
    public void Quadratic_penalties_of_the_worked_example()
    {
        Assert.Equal(.5, AnchoredPenalty.Quadratic(s_theta, s_anchor).ToDouble(), 12);
        Assert.Equal(1.25, AnchoredPenalty.Quadratic(s_theta, s_anchor, s_fisher).ToDouble(), 12);
        Assert.Equal(.5, AnchoredPenalty.Quadratic(s_theta, s_anchor, ones_like(s_theta)).ToDouble(), 12);
        Tensor theta = s_theta.clone().requires_grad_();
        AnchoredPenalty.Quadratic(theta, s_anchor, s_fisher).backward();
        Assert.True(theta.grad!.allclose(2 * s_fisher * (s_theta - s_anchor)));
        Assert.Throws<ArgumentException>(() => AnchoredPenalty.Quadratic(s_theta, s_anchor.narrow(0, 0, 2)));
    }

    [Theory]
    [InlineData(false, 1.25)]
    [InlineData(true, .625)]
    public void Elastic_weight_consolidation_weighs_with_the_given_fisher_information(bool half, double expected)
    {
        using ContinualModel model = Single(s_anchor);
        using var ewc = new ElasticWeightConsolidation(1, half: half, pretrainedFisher: new Dictionary<string, Tensor> { ["backbone.weight"] = s_fisher.to(float32).view(1, 3) });
        using var l2 = new L2Anchor(1);
        ewc.OnPretrained(model);
        l2.OnPretrained(model);
        using (no_grad()) model.get_parameter("backbone.weight")!.copy_(s_theta.view(1, 3));
        Assert.True(ewc.Begin(model));
        Assert.True(l2.Begin(model));
        Assert.Equal(expected, ewc.Loss(NoContext(model)).ToDouble(), 6);
        Assert.Equal(.5, l2.Loss(NoContext(model)).ToDouble(), 6);
    }

    [Fact]
    public void Online_importance_is_averaged_at_one_anchor_and_separate_ones_add_up()
    {
        (Tensor x, Tensor y) = Blobs([0, 1], 1);
        foreach (EwcMemory memory in Enum.GetValues<EwcMemory>())
        {
            using var model = new ContinualModel(Linear(4, 3, hasBias: false), 3);
            model.Head.Expand(2);
            using var ewc = new ElasticWeightConsolidation(1, memory: memory);
            Tensor current = arange(2, int64);
            var anchors = new List<(Tensor Fisher, Tensor Anchor)>();
            for (int task = 0; task < 2; task++)
            {
                using (no_grad()) model.get_parameter("backbone.weight")!.add_(.3);
                anchors.Add((DiagonalFisher.Estimate(model, model.call, x, y)["backbone.weight"], model.get_parameter("backbone.weight")!.detach().clone()));
                ewc.OnTaskEnd(new LearnedTask(model, x, y, current, 0));
            }
            using (no_grad()) model.get_parameter("backbone.weight")!.mul_(1.5);
            Tensor theta = model.get_parameter("backbone.weight")!.detach();
            ewc.Begin(model);
            double expected = memory == EwcMemory.Online
                ? AnchoredPenalty.Quadratic(theta, anchors[1].Anchor, .5 * anchors[0].Fisher + .5 * anchors[1].Fisher).ToDouble()
                : anchors.Sum(a => AnchoredPenalty.Quadratic(theta, a.Anchor, a.Fisher).ToDouble());
            Assert.Equal(expected, ewc.Loss(NoContext(model)).ToDouble(), 5);
            Assert.NotEqual(0, expected, 5);
        }
    }

    [Fact]
    public void Local_losses_have_no_gradient_at_old_logits_and_the_global_one_has()
    {
        Tensor targets = tensor(new long[] { 3, 2, 2 }), current = tensor(new long[] { 2, 3 });
        foreach (ClassificationLoss loss in Enum.GetValues<ClassificationLoss>())
        {
            Tensor logits = randn(3, 4, requires_grad: true);
            IncrementalLoss.Of(logits, targets, current, loss).backward();
            Assert.Equal(loss != ClassificationLoss.GlobalCE, logits.grad!.narrow(1, 0, 2).eq(0).all().item<bool>());
            Assert.True(logits.grad!.narrow(1, 2, 2).ne(0).all().item<bool>());
        }
    }

    [Fact]
    public void Local_losses_of_worked_examples()
    {
        Tensor logits = tensor(new[] { 2.0, -1 }).view(1, 2), target = tensor(new long[] { 0 }), current = arange(2, int64);
        Assert.Equal(.440190, IncrementalLoss.Of(logits, target, current, ClassificationLoss.LocalBCE).ToDouble(), 6);
        Assert.Equal(.440190, IncrementalLoss.Of(logits.repeat(5, 1), target.repeat(5), current, ClassificationLoss.LocalBCE).ToDouble(), 6);
        Assert.Equal(Math.Log(1 + Math.Exp(-3)), IncrementalLoss.Of(cat([logits, 9 * ones(1, 1, dtype: float64)], 1), target, current, ClassificationLoss.LocalCE).ToDouble(), 6);
        Assert.Contains("outside 0..1", Assert.Throws<ArgumentException>(() => IncrementalLoss.Of(logits, tensor(new long[] { 2 }), current, ClassificationLoss.GlobalCE)).Message);
        Assert.Contains("not among", Assert.Throws<ArgumentException>(() => IncrementalLoss.Of(logits, tensor(new long[] { 1 }), tensor(new long[] { 0 }), ClassificationLoss.LocalCE)).Message);
    }

    [Fact]
    public void Penalties_of_weight_zero_train_as_fine_tuning_to_the_bit()
    {
        Dictionary<string, byte[]> plain = Bytes(Train([])), zero = Bytes(Train([new PredictionDistillation(0), new FeatureDistillation(0), new L2Anchor(0), new ElasticWeightConsolidation(0)]));
        Assert.Equal(plain, zero);
        Assert.NotEqual(plain, Bytes(Train([new L2Anchor(1)])));
        Assert.NotEqual(plain, Bytes(Train([new PredictionDistillation(1)])));
        Assert.NotEqual(plain, Bytes(Train([new FeatureDistillation(1)])));
        Assert.NotEqual(plain, Bytes(Train([new ElasticWeightConsolidation(10)])));
    }

    [Fact]
    public void A_huge_weight_keeps_the_selected_parameters_at_the_anchor()
    {
        var drifts = new List<double>();
        foreach (double weight in new[] { 0, 1e8 })
        {
            using var learner = new ContinualLearner(() => Backbone(), 6, new ContinualOptions { Penalties = [new L2Anchor(weight)], Optimizer = p => optim.Adam(p, 3e-3) });
            Fit(learner, [0, 1], 1);
            Dictionary<string, Tensor> anchor = learner.Model.Backbone.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());
            Fit(learner, [2, 3], 2, epochs: 40);
            drifts.Add(learner.Model.Backbone.state_dict().Max(p => (p.Value - anchor[p.Key]).abs().max().ToDouble()));
        }
        Assert.InRange(drifts[1], 0, 1e-4);
        Assert.True(drifts[0] > 1e-2, $"{drifts[0]}");
    }

    [Fact]
    public void Only_attention_projections_move_when_only_they_may()
    {
        using var learner = new ContinualLearner(Transformer, 8, new ContinualOptions { Trainable = ParameterSelector.Attention(), Penalties = [new L2Anchor(.1, ParameterSelector.Attention())], Optimizer = p => optim.Adam(p, 1e-2) });
        Dictionary<string, byte[]> before = Bytes(learner.Model.Backbone);
        Seeds.Set(5);
        for (int task = 0; task < 2; task++) learner.FitTask(randn(20, 1, 6, 6), randint(2, [20], int64) + 2 * task, Loop(3), 1);
        Dictionary<string, byte[]> after = Bytes(learner.Model.Backbone);
        string[] moved = [.. before.Keys.Where(k => !before[k].SequenceEqual(after[k])).Order()];
        string[] projections = [.. new[] { "key", "query", "value" }.SelectMany(p => new[] { $"blocks.0.attention.{p}.bias", $"blocks.0.attention.{p}.weight" })];
        Assert.Empty(moved.Except(projections)); // a softmax is blind to a shift of all keys: the key's bias has no gradient but rounding
        Assert.Empty(projections.Where(p => p != "blocks.0.attention.key.bias").Except(moved));
    }

    [Fact]
    public void A_packed_projection_is_chosen_whole_and_the_output_projection_only_on_request()
    {
        using var model = new ContinualModel(new PackedAttention(4), 4);
        Assert.Equal(["backbone.attn.in_proj.weight", "backbone.attn.in_proj.bias"], ParameterSelector.Attention().Select(model).Select(p => p.Name));
        Assert.Equal([12L, 4], ParameterSelector.Attention().Select(model)[0].Parameter.shape); // q, k and v rows
        Assert.Equal(4, ParameterSelector.Attention(output: true).Select(model).Count);
        using var vit = new ContinualModel(Transformer(), 8);
        Assert.Equal(["query", "key", "value"], ParameterSelector.Attention().Select(vit).Where(p => p.Name.EndsWith("weight", StringComparison.Ordinal)).Select(p => p.Name.Split('.')[^2]));
        Assert.Contains("backbone.blocks.0.attention.output.bias", ParameterSelector.Attention(output: true).Select(vit).Select(p => p.Name));
        Assert.All(ParameterSelector.Backbone.Select(vit), p => Assert.StartsWith("backbone.", p.Name));
        vit.Head.Expand(2);
        Assert.Equal(2, ParameterSelector.All.Select(vit).Count - ParameterSelector.Backbone.Select(vit).Count);
        Assert.Equal(2, ParameterSelector.Regex(@"mlp\.linear1").Select(vit).Count);
        Assert.Empty(ParameterSelector.None.Select(vit));
        Assert.Contains("No parameter is chosen by names that match 'conv9'", Assert.Throws<ArgumentException>(() => ParameterSelector.Regex("conv9").Select(vit)).Message);
        Assert.Throws<ArgumentException>(() => { new ContinualLearner(() => Backbone(), 6, new ContinualOptions { Trainable = ParameterSelector.Attention() }).Dispose(); });
        Assert.Throws<ArgumentException>(() => { new ContinualLearner(() => Backbone(), 6, new ContinualOptions { Penalties = [new L2Anchor(1, ParameterSelector.Attention())] }).Dispose(); });
    }

    [Fact]
    public void Just_after_the_snapshot_all_penalties_are_at_their_minimum()
    {
        ContinualPenalty[] penalties = [new PredictionDistillation(1), new PredictionDistillation(1, DistillationForm.Softmax), new FeatureDistillation(1), new L2Anchor(1), new ElasticWeightConsolidation(1)];
        using var learner = new ContinualLearner(() => Backbone(), 6, new ContinualOptions { Penalties = penalties });
        Fit(learner, [0, 1], 1);
        learner.Model.Head.Expand(2);
        (Tensor x, _) = Blobs([2, 3], 2);
        Tensor features = learner.Model.Backbone.call(x), logits = learner.Model.Head.call(features);
        var context = new PenaltyContext(logits, features, logits.detach().narrow(1, 0, 2), features.detach(), arange(2, int64), learner.Model);
        foreach (ContinualPenalty penalty in penalties)
        {
            learner.Model.zero_grad();
            Assert.True(penalty.Begin(learner.Model));
            penalty.Loss(context).backward(retain_graph: true);
            Assert.All(learner.Model.parameters(), p => Assert.True(p.grad is null || p.grad.abs().max().ToDouble() <= 1e-7, penalty.GetType().Name));
        }
        Assert.All(penalties, p => Assert.False(p is L2Anchor or ElasticWeightConsolidation && p.Loss(context).ToDouble() != 0));
    }

    [Fact]
    public void Prediction_distillation_leaves_new_logits_alone()
    {
        foreach (DistillationForm form in Enum.GetValues<DistillationForm>())
        {
            using var model = new ContinualModel(Backbone(), 6);
            using var penalty = new PredictionDistillation(1, form);
            Tensor logits = randn(3, 5, requires_grad: true);
            penalty.Loss(new PenaltyContext(logits, randn(3, 6), randn(3, 3), randn(3, 6), arange(3, int64), model)).backward();
            Assert.True(logits.grad!.narrow(1, 3, 2).eq(0).all().item<bool>());
            Assert.True(logits.grad!.narrow(1, 0, 3).ne(0).all().item<bool>());
        }
    }

    [Fact]
    public void Results_do_not_depend_on_what_ran_before()
    {
        Dictionary<string, byte[]> first = Bytes(Train([]));
        Train([new ElasticWeightConsolidation(10), new PredictionDistillation()]).Dispose();
        randn(17).Dispose();
        Assert.Equal(first, Bytes(Train([])));
    }

    [Fact]
    public void Forgetting_among_all_classes_and_within_tasks_are_both_measured()
    {
        using var learner = new ContinualLearner(() => Backbone(), 6, new ContinualOptions { Loss = ClassificationLoss.GlobalCE, Optimizer = p => optim.Adam(p, 1e-2) });
        var tests = new List<(Tensor, Tensor)>();
        for (int task = 0; task < 3; task++)
        {
            Fit(learner, [2 * task, 2 * task + 1], task, epochs: 30);
            tests.Add(Blobs([2 * task, 2 * task + 1], 50 + task));
            learner.Evaluate(tests);
        }
        AccuracyMatrix global = learner.GlobalAccuracy, local = learner.LocalAccuracy;
        Assert.True(global.Forgetting > .5, $"{global.Forgetting}"); // plain fine-tuning collapses to the newest task
        Assert.True(global.FinalAverage <= local.FinalAverage);
        Assert.NotEqual(global.Forgetting, local.Forgetting);
        Assert.Throws<ArgumentException>(() => learner.Evaluate(tests));
        Tensor predicted = learner.Predict(tests[2].Item1);
        Assert.Equal(global[2, 2], predicted.eq(tests[2].Item2).to(float64).mean().ToDouble(), 12);
    }

    [Fact]
    public void Local_forgetting_is_not_bounded_by_global_forgetting()
    {
        // Right within its task at first and wrong later, while always wrong among all classes: F^L above F^G.
        var global = new AccuracyMatrix([[0.0], [0, 1]]);
        var local = new AccuracyMatrix([[1.0], [.5, 1]]);
        Assert.True(local.Forgetting > global.Forgetting);
    }

    [Fact]
    public void Classes_that_reappear_are_refused_or_trained_further()
    {
        using var strict = new ContinualLearner(() => Backbone(), 6);
        Fit(strict, [4, 7], 1);
        Assert.Contains("Class 7 of task 2 was in task 1", Assert.Throws<ArgumentException>(() => Fit(strict, [7, 9], 2)).Message);
        Assert.Contains("no samples", Assert.Throws<ArgumentException>(() => strict.FitTask(zeros(0, 4), zeros(0, int64), Loop(1), 0)).Message);
        Assert.Contains("Class 5 has no row", Assert.Throws<ArgumentException>(() => strict.Rows(tensor(new long[] { 5 }))).Message);
        using var open = new ContinualLearner(() => Backbone(), 6, new ContinualOptions { AllowReappearing = true, Penalties = [new PredictionDistillation()] });
        Fit(open, [4, 7], 1);
        Fit(open, [7, 9], 2);
        Fit(open, [4, 7, 9], 3);
        Assert.Equal([4L, 7, 9], open.Classes);
        Assert.Equal(3, open.Model.Head.Classes);
    }

    [Fact]
    public void Anchors_follow_the_previous_task_or_stay_at_the_pretrained_weights()
    {
        foreach (AnchorMode mode in Enum.GetValues<AnchorMode>())
        {
            using ContinualModel model = Single(s_anchor);
            using var l2 = new L2Anchor(1, anchor: mode);
            Assert.False(l2.Begin(model)); // nothing to keep yet
            l2.OnPretrained(model);
            using (no_grad()) model.get_parameter("backbone.weight")!.copy_(s_theta.view(1, 3));
            l2.OnTaskEnd(new LearnedTask(model, zeros(1, 3), zeros(1, int64), zeros(1, int64), 0));
            Assert.True(l2.Begin(model));
            Assert.Equal(mode == AnchorMode.Previous ? 0 : .5, l2.Loss(NoContext(model)).ToDouble(), 6);
        }
    }

    [Fact]
    public void A_pretrained_start_is_held_from_the_first_task_on()
    {
        double[] drift = [.. new[] { false, true }.Select(pretrained =>
        {
            using var learner = new ContinualLearner(() => Backbone(), 6, new ContinualOptions { Pretrained = pretrained, Penalties = [new L2Anchor(1e6), new FeatureDistillation(1)] });
            Tensor start = learner.Model.Backbone.parameters().First().detach().clone();
            Fit(learner, [0, 1], 1);
            return (learner.Model.Backbone.parameters().First() - start).abs().max().ToDouble();
        })];
        Assert.True(drift[1] < drift[0] / 10, $"{drift[0]} {drift[1]}");
    }

    [Fact]
    public void Batch_normalisation_statistics_stay_after_the_first_task_when_frozen()
    {
        foreach (bool freeze in new[] { false, true })
        {
            using var learner = new ContinualLearner(() => Sequential(Linear(4, 6), BatchNorm1d(6), ReLU()), 6, new ContinualOptions { FreezeBatchNorm = freeze });
            Tensor Mean() => learner.Model.named_buffers().Single(b => b.name.EndsWith("running_mean", StringComparison.Ordinal)).buffer.clone();
            Tensor start = Mean();
            Fit(learner, [0, 1], 1);
            Tensor first = Mean();
            Fit(learner, [2, 3], 2);
            Assert.False(start.Equals(first));
            Assert.Equal(freeze, first.Equals(Mean()));
        }
    }

    [Fact]
    public void A_linear_probe_trains_the_head_alone()
    {
        using var learner = new ContinualLearner(() => Sequential(Linear(4, 6), BatchNorm1d(6), ReLU()), 6, new ContinualOptions { Trainable = ParameterSelector.None });
        Dictionary<string, byte[]> before = Bytes(learner.Model.Backbone);
        Fit(learner, [0, 1], 1);
        Assert.Equal(before, Bytes(learner.Model.Backbone)); // the statistics of batch normalisation too
        Assert.True(learner.Model.Head.Classes == 2);
    }

    [Fact]
    public void A_killed_task_continues_to_the_same_weights()
    {
        string folder = Directory.CreateTempSubdirectory("priori-continual-").FullName;
        try
        {
            byte[][] weights = [.. new[] { false, true }.Select(kill =>
            {
                using ContinualLearner learner = New([new PredictionDistillation(), new ElasticWeightConsolidation(10, memory: EwcMemory.Separate), new L2Anchor(.1)]);
                Fit(learner, [0, 1], 1);
                (Tensor x, Tensor y) = Blobs([2, 3], 2);
                var options = new TrainerOptions { Epochs = 4, BatchSize = 8, Seed = 2, CheckpointFolder = kill ? folder : null };
                if (kill)
                {
                    using var stop = new CancellationTokenSource();
                    var cancelling = new Trainer(options with { OnEpoch = e => { if (e.Epoch == 2) stop.Cancel(); } });
                    Assert.Throws<OperationCanceledException>(() => learner.FitTask(x, y, cancelling, 0, stop.Token));
                    using ContinualLearner again = New([new PredictionDistillation(), new ElasticWeightConsolidation(10, memory: EwcMemory.Separate), new L2Anchor(.1)]);
                    Fit(again, [0, 1], 1);
                    again.FitTask(x, y, new Trainer(options), 0);
                    return again.Model.Backbone.parameters().First().bytes.ToArray();
                }
                learner.FitTask(x, y, new Trainer(options), 0);
                return learner.Model.Backbone.parameters().First().bytes.ToArray();
            })];
            Assert.Equal(weights[0], weights[1]);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Augmentation_is_seen_alike_by_both_models()
    {
        // Were the previous model given the plain inputs, its features would differ at the first step.
        using var learner = new ContinualLearner(() => Backbone(), 6, new ContinualOptions { Penalties = [new FeatureDistillation(1)], Augment = x => x + randn_like(x), Optimizer = p => optim.SGD(p, 0) });
        Fit(learner, [0, 1], 1);
        (Tensor x, Tensor y) = Blobs([2, 3], 2);
        TrainingHistory history = learner.FitTask(x, y, Loop(1), 0);
        Assert.Equal(0, history.Last(nameof(FeatureDistillation)), 6);
        Assert.True(history.Last("classification") > 0);
    }

    [Fact]
    public void Prompts_are_learned_in_front_of_a_frozen_transformer()
    {
        Seeds.Set(2);
        using var learner = new ContinualLearner(() => new PromptedTransformer((Network)Transformer(), pool: 4, length: 2, top: 2), 8, new ContinualOptions
        {
            Pretrained = true, Trainable = PromptedTransformer.Prompts, Penalties = [new PromptMatching()], Optimizer = p => optim.Adam(p, 1e-2),
        });
        Dictionary<string, byte[]> before = Bytes(learner.Model.Backbone);
        Tensor x = randn(12, 1, 6, 6);
        TrainingHistory history = learner.FitTask(x, randint(2, [12], int64), Loop(8), 1);
        Dictionary<string, byte[]> after = Bytes(learner.Model.Backbone);
        Assert.Equal(["keys", "pool"], before.Keys.Where(k => !before[k].SequenceEqual(after[k])).Order());
        Assert.True(history.Series[nameof(PromptMatching)][^1] < history.Series[nameof(PromptMatching)][0]);
        Assert.Throws<ArgumentException>(() => new PromptedTransformer(new Network(Architectures.Mlp([4], [3], 2))));
        Assert.Throws<ArgumentException>(() => new PromptedTransformer((Network)Transformer(), pool: 2, top: 3));
    }

    [Fact]
    public void A_network_continues_from_any_layer()
    {
        using var network = (Network)Transformer();
        network.eval();
        Tensor x = randn(2, 1, 6, 6), tokens = network.Evaluate(x, "position_embedding");
        Assert.Equal(network.call(x).contiguous().bytes.ToArray(), network.EvaluateFrom(tokens, "position_embedding", "features").contiguous().bytes.ToArray());
        Assert.Equal([2, 8], network.EvaluateFrom(cat([tokens, tokens], 1), "position_embedding", "features").shape);
        Assert.Contains("comes before", Assert.Throws<ArgumentException>(() => network.EvaluateFrom(tokens, "blocks.0.norm1", "features")).Message);
        Assert.Throws<ArgumentException>(() => network.EvaluateFrom(tokens, "nowhere", "features"));
        Assert.Throws<ArgumentException>(() => network.EvaluateFrom(tokens, "features", "tokens"));
    }

    [Fact]
    public void Weights_below_zero_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => { new L2Anchor(-1).Dispose(); });
        Assert.Throws<ArgumentOutOfRangeException>(() => { new PredictionDistillation(double.NaN).Dispose(); });
        Assert.Throws<ArgumentOutOfRangeException>(() => { new ElasticWeightConsolidation(1, gamma: 2).Dispose(); });
    }

    private static PenaltyContext NoContext(ContinualModel model) => new(zeros(1, 1), zeros(1, 1), null, null, zeros(0, int64), model);

    private static ContinualModel Single(Tensor weight)
    {
        var model = new ContinualModel(Linear(3, 1, hasBias: false), 1);
        using (no_grad()) model.get_parameter("backbone.weight")!.copy_(weight.view(1, 3));
        return model;
    }

    private static Module<Tensor, Tensor> Backbone()
    {
        Seeds.Set(7);
        return Sequential(Linear(4, 8), ReLU(), Linear(8, 6), ReLU());
    }

    private static Module<Tensor, Tensor> Transformer()
    {
        Seeds.Set(7);
        return new Network(Architectures.VisionTransformer(1, 6, 3, 8, 1, 2, 10, 2).Trunk());
    }

    private static Trainer Loop(int epochs) => new(new TrainerOptions { Epochs = epochs, BatchSize = 8, Seed = 3 });

    private static ContinualLearner New(IReadOnlyList<ContinualPenalty> penalties) => new(() => Backbone(), 6, new ContinualOptions { Loss = ClassificationLoss.LocalBCE, Penalties = penalties, Optimizer = p => optim.Adam(p, 5e-3) });

    private static void Fit(ContinualLearner learner, long[] classes, int seed, int epochs = 3)
    {
        (Tensor x, Tensor y) = Blobs(classes, seed);
        learner.FitTask(x, y, Loop(epochs), 0);
    }

    private static ContinualModel Train(IReadOnlyList<ContinualPenalty> penalties)
    {
        ContinualLearner learner = New(penalties);
        for (int task = 0; task < 3; task++) Fit(learner, [2 * task, 2 * task + 1], task);
        return learner.Model;
    }

    private static (Tensor X, Tensor Y) Blobs(long[] classes, int seed)
    {
        Seeds.Set(100 + seed);
        Tensor y = tensor(Enumerable.Range(0, 40).Select(i => classes[i % classes.Length]).ToArray());
        Tensor centres = stack([.. Enumerable.Range(0, 40).Select(i => tensor(new[] { (float)Math.Sin(2.1 * classes[i % classes.Length]), (float)Math.Cos(1.3 * classes[i % classes.Length]), (float)Math.Sin(3.7 * classes[i % classes.Length] + 1), (float)Math.Cos(classes[i % classes.Length]) }))]);
        return (2 * centres + .3 * randn(40, 4), y);
    }

    private static Dictionary<string, byte[]> Bytes(Module module) => module.state_dict().ToDictionary(t => t.Key, t => t.Value.bytes.ToArray());

    private sealed class PackedAttention : Module<Tensor, Tensor>
    {
        private readonly Attn attn;

        public PackedAttention(long width) : base("packed")
        {
            attn = new Attn(width);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input) => attn.call(input);

        private sealed class Attn : Module<Tensor, Tensor>
        {
            private readonly TorchSharp.Modules.Linear in_proj, out_proj;

            public Attn(long width) : base("attn")
            {
                in_proj = Linear(width, 3 * width);
                out_proj = Linear(width, width);
                RegisterComponents();
            }

            public override Tensor forward(Tensor input) => out_proj.call(in_proj.call(input).chunk(3, -1)[2]);
        }
    }
}
