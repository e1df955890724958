using Priori.ClickThrough;
using Priori.Data;
using Priori.Nn;
using Priori.Tests.Data;
using Priori.Training;

namespace Priori.Tests.ClickThrough;

public sealed class OptFsTests
{
    private const int Fields = 12, Ids = 240;
    private static readonly UsefulValueLogData s_log = UsefulValueLog.Generate(3000, 5, new UsefulValueLogOptions { Values = 20 });
    private static readonly TensorSource s_train = new(s_log.Ids, ones(3000, Fields), s_log.Labels);
    private static readonly OptFsOptions s_options = new() { Lambda = 3e-4, FinalTemperature = 100, SearchEpochs = 4, LearningRate = 5e-3, GateLearningRate = 2e-2, WeightDecay = 1e-6 };
    private static readonly TrainerOptions s_training = new() { BatchSize = 128, Seed = 1, Epochs = 2 };

    public static TheoryData<BackboneKind> Kinds => [BackboneKind.Fm, BackboneKind.DeepFm, BackboneKind.Dcn, BackboneKind.Ipnn];

    [Fact]
    public void The_scale_opens_every_gate_at_the_start() // Check 1.
    {
        var gate = new FeatureGate(37);
        Assert.Equal(1.6065306597, 1 / gate.Scale.ToDouble(), 1e-6);
        Assert.All(gate.forward(arange(37)).data<float>().ToArray(), g => Assert.Equal(1f, g));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_gated_model_starts_as_the_ungated_one_to_the_bit(BackboneKind kind) // Check 1.
    {
        ClickModel gated = Gated(kind), plain = Plain(kind);
        Tensor ids = s_log.Ids[..200], values = rand(200, Fields);
        gated.eval();
        plain.eval();
        Assert.Equal(plain.forward(ids, values).data<float>().ToArray(), gated.forward(ids, values).data<float>().ToArray());
    }

    [Fact]
    public void Temperatures_grow_by_a_constant_factor_each_epoch() // Check 2.
    {
        double[] expected = [1, 3.760603, 14.142136, 53.182959, 200];
        for (int e = 0; e < 5; e++) Assert.Equal(expected[e], OptFs.Temperature(e, 5, 200), 1e-6);
        Assert.Throws<ArgumentOutOfRangeException>(() => OptFs.Temperature(0, 1, 200));
        Assert.Throws<ArgumentOutOfRangeException>(() => OptFs.Temperature(5, 5, 200));
    }

    [Theory] // Check 3.
    [InlineData(.01, 1, .8072816)]
    [InlineData(.01, 200, 1.4150275)]
    [InlineData(-.01, 1, .7992490)]
    [InlineData(-.01, 200, .1915031)]
    public void A_gate_sharpens_with_the_temperature(double gamma, double temperature, double expected)
    {
        FeatureGate gate = Gate(gamma);
        gate.Temperature = temperature;
        Assert.Equal(expected, gate.forward(zeros(1, 1, ScalarType.Int64)).ToDouble(), 2e-7);
        gate.Hard = true;
        Assert.Equal(gamma > 0 ? 1.6065306597 : 0, gate.forward(zeros(1, 1, ScalarType.Int64)).ToDouble(), 1e-6);
        Assert.Equal(gamma > 0 ? 1 : 0, gate.KeepRatio);
    }

    [Fact]
    public void The_penalty_pulls_every_id_in_the_batch_or_not() // Check 4.
    {
        FeatureGate gate = Gate(.1, .1, .1);
        gate.Temperature = 10;
        gate.Penalty().backward();
        Assert.All(gate.Weight.grad!.data<float>().ToArray(), g => Assert.Equal(1.9661193, g, 1e-6));
        Assert.Equal(3 / (1 + Math.Exp(-1)), gate.Penalty().ToDouble(), 1e-6);
    }

    [Theory] // Check 5.
    [InlineData(1, 1, 1, 3.5)]
    [InlineData(1, 0, 1, 1.5)]
    [InlineData(.9, .3, .6, 1.26)]
    public void Gates_of_values_gate_their_interactions(double g1, double g2, double g3, double expected)
    {
        var table = new FieldEmbedding(3, 3, 2);
        double scale = 1 / (1 + Math.Exp(-.5));
        FeatureGate gate = Gate([.. new[] { g1, g2, g3 }.Select(g => g == 0 ? -60 : -Math.Log(1 / (g * scale) - 1))]);
        using (no_grad()) table.Weight.copy_(tensor(new[,] { { 1f, 2 }, { 3, -1 }, { .5f, .5f } }));
        var model = new ClickModel(new GatedEmbedding(table, gate), Backbone.Create(BackboneKind.Fm, new BackboneOptions { Fields = 3, EmbeddingDim = 2, FirstOrder = false }));
        Assert.Equal(expected, model.forward(arange(3).unsqueeze(0), ones(1, 3)).ToDouble(), 1e-5);
    }

    [Fact]
    public void With_frozen_gates_and_no_penalty_training_is_that_of_the_backbone() // Check 6.
    {
        OptFsOptions options = s_options with { Lambda = 0 };
        ClickModel gated = Gated(BackboneKind.DeepFm), plain = Plain(BackboneKind.DeepFm);
        FeatureGate.Of(gated).Weight.requires_grad = false;
        double[] a = Fit(gated), b = Fit(plain);
        Assert.Equal(b, a);
        Assert.True(a[1] < a[0]);

        double[] Fit(ClickModel model)
        {
            var learner = new OptFsLearner(model, TabularTask.Binary, options);
            return new Trainer(s_training).Fit(learner, s_train).Series["loss"];
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_exported_model_is_the_hard_gated_one_and_smaller(BackboneKind kind) // Check 7.
    {
        using var folder = new TemporaryFolder();
        ClickModel model = Gated(kind);
        using FeatureSetResult result = OptFs.Search(model, TabularTask.Binary, s_train, s_options, s_training);
        OptFs.Retrain(model, result, RetrainInit.None, TabularTask.Binary, s_train, s_options, s_training);
        Assert.InRange(result.KeepRatio, .05, .95);
        model.eval();
        ClickModel pruned = OptFs.Export(model);
        var input = (PrunedEmbedding)pruned.Embedding;
        Tensor values = rand(3000, Fields), masked = model.forward(s_log.Ids, values), outputs = pruned.forward(s_log.Ids, values);
        Assert.InRange((masked - outputs).abs().max().ToDouble(), 0, 1e-6 * Math.Max(1, masked.abs().max().ToDouble()));
        Assert.True(masked.std().ToDouble() > 1e-3);

        long kept = result.Keep.Count(k => k);
        Assert.Equal(new[] { kept + 1, input.Weight.size(1) }, input.Weight.shape);
        Assert.Equal(0, input.Weight[0].abs().max().ToDouble());
        long[] rows = input.Remap(arange(Ids)).data<long>().ToArray();
        Assert.Equal(result.Keep, rows.Select(r => r > 0));
        Assert.Equal(Enumerable.Range(1, (int)kept).Select(i => (long)i), rows.Where(r => r > 0));

        Safetensors.Write(folder.File("full"), Plain(kind).state_dict());
        Safetensors.Write(folder.File("pruned"), pruned.state_dict());
        long width = input.Weight.size(1);
        // A dropped row saves its floats; a kept one costs an index of 4 bytes.
        Assert.True(new FileInfo(folder.File("pruned")).Length <= new FileInfo(folder.File("full")).Length - ((Ids - kept - 1) * width * 4) + (4 * kept) + 200);

        var again = new ClickModel(new PrunedEmbedding(Fields, kept, width), Backbone.Create(kind, Options(kind)));
        again.load_state_dict(Safetensors.Read(folder.File("pruned")));
        again.eval();
        Assert.Equal(outputs.data<float>().ToArray(), again.forward(s_log.Ids, values).data<float>().ToArray());
    }

    [Fact]
    public void The_snapshot_is_every_weight_but_the_gates_as_the_rewind_epoch_began() // Check 8.
    {
        ClickModel model = Gated(BackboneKind.Dcn);
        Dictionary<string, byte[]> begin = Weights(model), rewind = [];
        IReadOnlyDictionary<string, double> Capture(int epoch)
        {
            if (epoch == 2) rewind = Weights(model);
            return new Dictionary<string, double>();
        }
        using FeatureSetResult result = OptFs.Search(model, TabularTask.Binary, s_train, s_options with { RewindEpoch = 2 }, s_training, Capture);
        Dictionary<string, byte[]> end = Weights(model);
        Assert.Contains(end.Keys, k => k.Contains("cross", StringComparison.Ordinal) && k.EndsWith("bias", StringComparison.Ordinal));
        Assert.Contains(end.Keys, k => k.EndsWith("running_var", StringComparison.Ordinal));
        Assert.NotEqual(rewind, end);
        result.Snapshot.Restore(model);
        Assert.Equal(rewind, Weights(model));
        result.Initial.Restore(model);
        Assert.Equal(begin, Weights(model));
    }

    [Fact]
    public void Gates_have_no_weight_decay_and_a_rate_of_their_own() // Check 9.
    {
        ClickModel model = Gated(BackboneKind.DeepFm);
        FeatureGate gate = FeatureGate.Of(model);
        byte[] before = gate.Weight.bytes.ToArray();
        Tensor table = ((FieldEmbedding)((GatedEmbedding)model.Embedding).Embedding).Weight, old = table.detach().clone();
        Step(s_options with { Lambda = 0, WeightDecay = .1 }, zeros(64, Fields)); // Values of zero: nothing reaches the gates.
        Assert.Equal(before, gate.Weight.bytes.ToArray());
        Assert.True((table - old).abs().max().ToDouble() > 1e-4); // The weights do decay.

        Step(s_options with { Lambda = 1, GateLearningRate = .25 }, zeros(64, Fields));
        Assert.All(gate.Weight.data<float>().ToArray(), g => Assert.Equal(.25, g, 1e-5)); // Adam's first step is its rate.

        void Step(OptFsOptions options, Tensor values)
        {
            var learner = new OptFsLearner(model, TabularTask.Binary, options with { RewindEpoch = 0 });
            new Trainer(new TrainerOptions { BatchSize = 64 }).Fit(learner, new TensorSource(s_log.Ids[..64], values, s_log.Labels[..64]));
        }
    }

    [Fact]
    public void Retraining_starts_where_it_is_told_with_the_gates_fixed()
    {
        ClickModel model = Gated(BackboneKind.Fm);
        OptFsOptions still = s_options with { LearningRate = 1e-30, WeightDecay = 0 };
        using FeatureSetResult result = OptFs.Search(model, TabularTask.Binary, s_train, s_options, s_training);
        Dictionary<string, byte[]> searched = Weights(model), initial = Weights(Gated(BackboneKind.Fm));
        Assert.Null(OptFs.Retrain(model, result, RetrainInit.None, TabularTask.Binary, s_train, still, s_training));
        Assert.Equal(searched, Weights(model));
        Assert.NotEqual(initial, Retrained(RetrainInit.Customised, model));
        Assert.Equal(initial, Retrained(RetrainInit.LotteryTicket, model));
        ClickModel fresh = Gated(BackboneKind.Fm, seed: 9);
        Dictionary<string, byte[]> other = Weights(fresh);
        Assert.Equal(other, Retrained(RetrainInit.Random, fresh));
        Assert.Equal(result.Gamma.bytes.ToArray(), FeatureGate.Of(fresh).Weight.bytes.ToArray());

        Dictionary<string, byte[]> Retrained(RetrainInit init, ClickModel into)
        {
            TrainingHistory history = OptFs.Retrain(into, result, init, TabularTask.Binary, s_train, still, s_training, _ => new Dictionary<string, double> { ["auc"] = .5 })!;
            Assert.Equal(2, history.Series["auc"].Length); // The second epoch is not better: patience 1.
            Assert.True(FeatureGate.Of(into).Hard);
            return Weights(into);
        }
    }

    [Fact]
    public void A_search_finds_useful_values_keeps_fewer_with_a_larger_lambda_and_says_when_none_is_left()
    {
        bool[] useful = s_log.Useful.data<bool>().ToArray();
        double[] ratios = [.. new[] { 3e-4, 6e-4, 1.2e-3 }.Select(lambda =>
        {
            using FeatureSetResult result = Search(lambda);
            double Kept(bool which) => useful.Zip(result.Keep).Where(v => v.First == which).Average(v => v.Second ? 1.0 : 0);
            Assert.True(Kept(true) > 1.25 * Kept(false), $"{lambda}: {Kept(true)} {Kept(false)}");
            IReadOnlyList<double> byField = result.KeepRatioByField(arange(Ids).div(20, RoundingMode.floor), Fields);
            Assert.Equal(result.KeepRatio, byField.Average(), 1e-9);
            Assert.Equal(100, result.History.Last("temperature"), 1e-6);
            Assert.Equal(result.KeepRatio, result.History.Last("keep_ratio"));
            return result.KeepRatio;
        })];
        Assert.True(ratios[0] > ratios[1] && ratios[1] > ratios[2]);

        ClickModel model = Gated(BackboneKind.Fm);
        using FeatureSetResult none = OptFs.Search(model, TabularTask.Binary, s_train, s_options with { Lambda = 1 }, s_training);
        Assert.Equal(0, none.KeepRatio);
        var error = Assert.Throws<InvalidOperationException>(() => { OptFs.Retrain(model, none, RetrainInit.Customised, TabularTask.Binary, s_train, s_options, s_training); });
        Assert.Contains("lambda is too large and the feature set is empty", error.Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => { OptFs.Export(model); });

        FeatureSetResult Search(double lambda) => OptFs.Search(Gated(BackboneKind.DeepFm), TabularTask.Binary, s_train, s_options with { Lambda = lambda, SearchEpochs = 10 }, s_training);
    }

    [Fact]
    public void A_search_that_is_killed_continues_to_the_same_gates_and_snapshot()
    {
        using var folder = new TemporaryFolder();
        using FeatureSetResult whole = Search(null, CancellationToken.None);
        using var stop = new CancellationTokenSource();
        int epochs = 0;
        Assert.ThrowsAny<OperationCanceledException>(() => { Search(folder.File("checkpoints"), stop.Token, () => { if (++epochs == 2) stop.Cancel(); }); });
        using FeatureSetResult resumed = Search(folder.File("checkpoints"), CancellationToken.None);
        Assert.Equal(whole.Gamma.bytes.ToArray(), resumed.Gamma.bytes.ToArray());
        Assert.Equal(Weights(whole.Snapshot), Weights(resumed.Snapshot));
        Assert.Equal(Weights(whole.Initial), Weights(resumed.Initial));

        FeatureSetResult Search(string? checkpoints, CancellationToken cancellation, Action? afterEpoch = null) => OptFs.Search(
            Gated(BackboneKind.Fm), TabularTask.Binary, s_train, s_options, s_training with { CheckpointFolder = checkpoints, CheckpointEvery = TimeSpan.Zero },
            _ => { afterEpoch?.Invoke(); return new Dictionary<string, double>(); }, null, cancellation);
    }

    [Fact]
    public void Several_classes_and_numbers_are_targets_too()
    {
        foreach (var (task, target) in new[] { (new TabularTask(TargetKind.Classes, 3), s_log.Ids[.., 0].remainder(3)), (new TabularTask(TargetKind.Regression), s_log.Probabilities) })
        {
            var backbone = Backbone.Create(BackboneKind.DeepFm, Options(BackboneKind.DeepFm) with { Outputs = task.Outputs });
            var model = new ClickModel(new GatedEmbedding(new FieldEmbedding(Fields, Ids, backbone.InputDim), new FeatureGate(Ids)), backbone);
            using FeatureSetResult result = OptFs.Search(model, task, new TensorSource(s_log.Ids, ones(3000, Fields), target), s_options with { SearchEpochs = 2, Lambda = 1e-5 }, s_training);
            Assert.True(double.IsFinite(result.History.Last("loss")));
        }
    }

    [Fact]
    public void Wrong_arguments_are_refused()
    {
        foreach (OptFsOptions bad in new[] { s_options with { SearchEpochs = 1, RewindEpoch = 0 }, s_options with { RewindEpoch = 4 }, s_options with { RewindEpoch = -1 }, s_options with { Lambda = -1 }, s_options with { Lambda = double.NaN }, s_options with { FinalTemperature = .5 }, s_options with { GateLearningRate = 0 } })
            Assert.ThrowsAny<ArgumentException>(bad.Validate);
        Assert.Throws<ArgumentOutOfRangeException>(() => { _ = new FeatureGate(3, 0); });
        Assert.Throws<ArgumentException>(() => { OptFs.Search(Plain(BackboneKind.Fm), TabularTask.Binary, s_train, s_options, s_training); });
        Assert.Throws<ArgumentException>(() => { OptFs.Export(Plain(BackboneKind.Fm)); });
        Assert.Equal((3e-4, 1e-8, 10000.0, 5, 2), OptFsOptions.Published("criteo", BackboneKind.Dcn) is var o ? (o.LearningRate, o.Lambda, o.FinalTemperature, o.SearchEpochs, o.RewindEpoch) : default);
        Assert.Throws<ArgumentException>(() => { OptFsOptions.Published("frappe", BackboneKind.Fm); });
        foreach (string dataset in new[] { "criteo", "avazu", "kdd12" })
            foreach (BackboneKind kind in Kinds) OptFsOptions.Published(dataset, kind).Validate();
    }

    private static BackboneOptions Options(BackboneKind kind) => new() { Fields = Fields, EmbeddingDim = 4, MlpHidden = [8], FirstOrder = false, CrossLayers = kind == BackboneKind.Dcn ? 2 : 3 };

    private static ClickModel Plain(BackboneKind kind, int seed = 1)
    {
        manual_seed(seed);
        return ClickModel.Create(kind, Options(kind), Ids);
    }

    private static ClickModel Gated(BackboneKind kind, int seed = 1)
    {
        ClickModel plain = Plain(kind, seed);
        return new ClickModel(new GatedEmbedding(plain.Embedding, new FeatureGate(Ids)), plain.Backbone);
    }

    private static FeatureGate Gate(params double[] gamma)
    {
        var gate = new FeatureGate(gamma.Length);
        using (no_grad()) gate.Weight.copy_(tensor(gamma));
        return gate;
    }

    private static Dictionary<string, byte[]> Weights(Module module)
        => module.state_dict().Where(t => !t.Key.Contains("gate.", StringComparison.Ordinal)).ToDictionary(t => t.Key, t => t.Value.bytes.ToArray());
}
