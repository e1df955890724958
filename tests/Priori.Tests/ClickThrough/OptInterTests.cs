using Priori.ClickThrough;
using Priori.Data;
using Priori.Tests.Data;
using Priori.Training;

namespace Priori.Tests.ClickThrough;

public class OptInterTests
{
    private static readonly OptInterOptions Small = new() { Fields = 3, Ids = 9, OriginalDim = 2, CrossDim = 2, Hidden = [16, 8] };

    [Theory]
    [InlineData(1, new[] { .388326, .260303, .351372 })]
    [InlineData(.5, new[] { .440905, .198112, .360983 })]
    [InlineData(.1, new[] { .721399, .013213, .265388 })]
    [InlineData(.01, new[] { .999955, 0, .000045 })]
    public void Weights_are_the_softmax_at_the_temperature(double temperature, double[] expected)
    {
        using OptInterSearchModel model = Model(out _);
        Set(model.Alpha, tensor(new[] { .3, -.1, .2 }).repeat(3, 1));
        model.Temperature = temperature;
        Near(expected, model.Weights()[1], 1e-6);
    }

    [Fact]
    public void The_mixture_scales_memorized_and_factorized_and_leaves_room_for_nothing()
    {
        Tensor weights = tensor(new[] { .3, -.1, .2 }).unsqueeze(0).softmax(1);
        Tensor z = OptInterSearchModel.Mix(tensor(new double[] { 1, -2 }).view(1, 1, 2), tensor(new[] { .5, .5 }).view(1, 1, 2), weights);
        Near([.518477, -.6465], z, 1e-6);
    }

    [Fact]
    public void The_temperature_falls_linearly_to_its_least_value()
    {
        var paper = new OptInterSearchOptions();
        Assert.Equal(5e-5, paper.TauRate);
        foreach (var (step, tau) in new[] { (0L, 1), (1000L, .95), (19_800L, .01), (30_000L, .01) }) Assert.Equal(tau, paper.Temperature(step, 1), 12);
        var fitted = new OptInterSearchOptions { TauRate = null, TauMin = .05 };
        Assert.Equal(1, fitted.Temperature(0, 391), 12);
        Assert.Equal(.525, fitted.Temperature(195, 391), 12);
        Assert.Equal(.05, fitted.Temperature(390, 391), 12);
    }

    [Theory]
    [InlineData(Factorization.Hadamard)]
    [InlineData(Factorization.InnerProduct)]
    [InlineData(Factorization.Sum)]
    public void A_one_hot_mixture_is_the_model_of_its_plan(Factorization factorization)
    {
        using OptInterSearchModel search = Model(out Tensor ids, Small with { Factorization = factorization });
        Set(search.Alpha, 100 * tensor(new double[,] { { 0, 1, 0 }, { 1, 0, 0 }, { 0, 0, 1 } }));
        search.Temperature = .01;
        InteractionPlan plan = search.Plan();
        Assert.Equal([InteractionMethod.Factorize, InteractionMethod.Memorize, InteractionMethod.Naive], plan.Choices.Select(c => c.Method));
        using var model = new OptInterModel(search.Options, plan, search.Vocabulary).to(ScalarType.Float64);

        Dictionary<string, Tensor> from = search.state_dict(), to = model.state_dict();
        Copy(from["original.table.weight"], to["original.table.weight"]);
        Copy(from["factors.weight"], to["factors.weight"]);
        // The one memorized pair is the second: its rows, and its out-of-vocabulary row.
        long start = search.Vocabulary.Counts[0], count = search.Vocabulary.Counts[1];
        Copy(cat([from["memorized.weight"].narrow(0, start, count), from["memorized.weight"].narrow(0, search.Vocabulary.Known + 1, 1)]), to["memorized.weight"]);
        Tensor first = from["classifier.layers.1.weight"]; // inputs: three fields, then the pairs; the model has memorized before factorized ones
        Copy(cat([first.narrow(1, 0, 6), first.narrow(1, 8, 2), first.narrow(1, 6, 2)], 1), to["classifier.layers.1.weight"]);
        foreach (string name in to.Keys.Where(k => k.StartsWith("classifier", StringComparison.Ordinal) && k != "classifier.layers.1.weight")) Copy(from[name], to[name]);

        Tensor unseen = tensor(new long[,] { { 0, 3, 6 }, { 2, 5, 8 }, { 1, 3, 8 } }), all = cat([ids, unseen]), values = rand([all.size(0), 3], ScalarType.Float64, generator: new Generator(1));
        Tensor logits = search.forward(all, values);
        Assert.True(logits.std().ToDouble() > .01);
        Near(logits, model.forward(all, values), 1e-12);
    }

    [Fact]
    public void Naive_pairs_have_no_gradient_and_no_parameters()
    {
        using OptInterSearchModel search = Model(out Tensor ids);
        Set(search.Alpha, 100 * tensor(new double[,] { { 0, 0, 1 } }).repeat(3, 1));
        search.Temperature = .01;
        search.forward(ids, ones_like(ids, ScalarType.Float64)).square().sum().backward();
        foreach (TorchSharp.Modules.Parameter table in search.CrossParameters) Assert.Equal(0, table.grad!.abs().max().ToDouble());

        InteractionPlan plan = search.Plan();
        using var model = new OptInterModel(Small, plan, null);
        Assert.Empty(model.CrossParameters);
        Assert.Equal(0, plan.ParameterCount(search.Vocabulary, 2));
        Assert.Equal(["classifier", "original"], model.state_dict().Keys.Select(k => k.Split('.')[0]).Distinct().Order());
        Assert.Equal(6, model.state_dict()["classifier.layers.1.weight"].size(1));
    }

    [Fact]
    public void Only_what_a_plan_needs_is_allocated()
    {
        CrossVocabulary vocabulary = Model(out _).Vocabulary;
        IReadOnlyList<FieldPair> pairs = vocabulary.Pairs;
        InteractionPlan one = InteractionPlan.From(pairs, tensor(new[,] { { 1f, 0, 0 }, { 0, 0, 1 }, { 0, 0, 1 } })), factorized = InteractionPlan.All(pairs, InteractionMethod.Factorize);
        long Parameters(InteractionPlan plan)
        {
            using var model = new OptInterModel(Small, plan, vocabulary);
            long cross = model.CrossParameters.Sum(p => p.numel());
            Assert.Equal(plan.ParameterCount(vocabulary, Small.CrossDim), cross);
            return cross;
        }
        Assert.Equal(2 * (vocabulary.Counts[0] + 1), Parameters(one));
        Assert.Equal(2 * 9, Parameters(factorized));
        Assert.Equal(2 * vocabulary.Rows, Parameters(InteractionPlan.All(pairs, InteractionMethod.Memorize)));
        using var saved = new OptInterModel(Small, one, vocabulary);
        Assert.Equal(vocabulary.Counts[0], saved.state_dict()["vocabulary.keys"].numel());
    }

    [Fact]
    public void Pairs_are_in_the_order_of_the_paper()
    {
        IReadOnlyList<FieldPair> pairs = FieldPair.All(26);
        Assert.Equal(325, pairs.Count);
        Assert.Equal([new(0, 1), new(0, 2)], pairs.Take(2));
        Assert.Equal(new FieldPair(24, 25), pairs[^1]);
        Assert.Equal([new(2, 5), new(2, 7), new(5, 7)], FieldPair.All([2, 5, 7])); // continuous fields are left out, and indices stay those of the row
    }

    [Fact]
    public void Rare_and_unseen_combinations_share_the_row_of_their_pair()
    {
        Tensor train = tensor(new long[,] { { 0, 3, 6 }, { 0, 3, 6 }, { 0, 3, 7 }, { 1, 4, 7 }, { 1, 4, 7 }, { 1, 4, 8 } });
        var vocabulary = CrossVocabulary.Build(train, FieldPair.All(3), 9, minCount: 3);
        Assert.Equal([2, 0, 0], vocabulary.Counts);
        Assert.Equal(5, vocabulary.Rows);
        vocabulary = CrossVocabulary.Build(train, FieldPair.All(3), 9, minCount: 2);
        Assert.Equal([2, 2, 2], vocabulary.Counts);
        Tensor rows = vocabulary.forward(tensor(new long[,] { { 0, 3, 6 }, { 0, 3, 7 }, { 2, 5, 8 }, { 1, 4, 7 }, { 0, 4, 6 } }));
        long[,] expected = { { 0, 2, 4 }, { 0, 7, 8 }, { 6, 7, 8 }, { 1, 3, 5 }, { 6, 2, 8 } };
        Assert.Equal(expected.Cast<long>(), rows.data<long>().ToArray());
        // Seen once (Y - 1 times): (0, 7) of pair 1; never seen: (2, 8). The same row, and another than the other pairs'.
        Assert.Equal(rows[1, 1].ToInt64(), rows[2, 1].ToInt64());
        Assert.Equal(3, rows[2].data<long>().ToArray().Distinct().Count());
    }

    [Fact]
    public void A_vocabulary_agrees_with_a_dictionary_and_keeps_chosen_pairs()
    {
        Tensor Rows(int n, ulong seed) => randint(20, [n, 4], ScalarType.Int64, generator: new Generator(seed)) + arange(4, ScalarType.Int64) * 20;
        Tensor train = Rows(300, 0), test = Rows(400, 1);
        IReadOnlyList<FieldPair> pairs = FieldPair.All(4);
        var vocabulary = CrossVocabulary.Build(train, pairs, 80, minCount: 2);
        Tensor rows = vocabulary.forward(test);
        FieldPair[] some = [new(1, 3), new(0, 2)];
        CrossVocabulary chosen = vocabulary.Select(some);
        Tensor fewer = chosen.forward(test);
        for (int p = 0; p < pairs.Count; p++)
        {
            var counts = Enumerable.Range(0, 300).GroupBy(r => (train[r, pairs[p].First].ToInt64(), train[r, pairs[p].Second].ToInt64())).ToDictionary(g => g.Key, g => g.Count());
            (long, long)[] known = [.. counts.Where(c => c.Value >= 2).Select(c => c.Key).Order()];
            Assert.Equal(known.Length, vocabulary.Counts[p]);
            int at = Array.IndexOf(some, pairs[p]);
            for (int r = 0; r < 400; r++)
            {
                int index = Array.IndexOf(known, (test[r, pairs[p].First].ToInt64(), test[r, pairs[p].Second].ToInt64()));
                Assert.Equal(index < 0 ? vocabulary.Known + p : vocabulary.Counts.Take(p).Sum() + index, rows[r, p].ToInt64());
                if (at >= 0) Assert.Equal(index < 0 ? chosen.Known + at : chosen.Counts.Take(at).Sum() + index, fewer[r, at].ToInt64());
            }
        }
        using var loaded = new CrossVocabulary(some, 80, chosen.Counts);
        loaded.load_state_dict(chosen.state_dict());
        Assert.True(loaded.forward(test).equal(fewer).all().ToBoolean());
    }

    [Fact]
    public void The_gradient_of_alpha_is_that_of_finite_differences_and_sums_to_zero()
    {
        using OptInterSearchModel model = Model(out Tensor ids);
        model.Temperature = .7;
        Tensor values = rand([ids.size(0), 3], ScalarType.Float64, generator: new Generator(2)), target = tensor(new double[] { 1, 0, 1, 1 });
        Tensor Loss() => TabularTask.Binary.Loss(model.forward(ids, values), target);
        Loss().backward();
        Tensor gradient = model.Alpha.grad!;
        Near(zeros(3, ScalarType.Float64), gradient.sum(1), 1e-15);
        Assert.InRange(gradient.abs().max().ToDouble(), 1e-2, 10);
        using var ungraphed = no_grad();
        for (int p = 0; p < 3; p++)
            for (int k = 0; k < 3; k++)
            {
                double Shifted(double by)
                {
                    model.Alpha[p, k].add_(by);
                    double loss = Loss().ToDouble();
                    model.Alpha[p, k].sub_(by);
                    return loss;
                }
                Assert.Equal((Shifted(1e-5) - Shifted(-1e-5)) / 2e-5, gradient[p, k].ToDouble(), 1e-7);
            }
    }

    [Theory]
    [InlineData(SearchMode.Joint)]
    [InlineData(SearchMode.BiLevel)]
    public void Weight_decay_touches_only_the_tables_of_interactions(SearchMode mode)
    {
        Dictionary<string, Tensor> After(double decay)
        {
            manual_seed(3);
            using var scope = NewDisposeScope();
            OptInterSearchModel model = Model(out Tensor ids);
            Set(model.Alpha, tensor(new double[,] { { 0, 0, 1e4 } }).repeat(3, 1)); // all naive: nothing else moves the tables
            model.to(ScalarType.Float32);
            var search = new OptInterSearchOptions { LearningRate = .01, CrossWeightDecay = decay, Mode = mode };
            Tensor values = ones(ids.shape), target = tensor(new[] { 1f, 0, 1, 1 });
            using var learner = new OptInterLearner(model, TabularTask.Binary, search, (ids, values, target));
            new Trainer(new TrainerOptions { BatchSize = 4 }).Fit(learner, new TensorSource(ids, values, target));
            return model.state_dict().ToDictionary(t => t.Key, t => t.Value.clone().MoveToOuterDisposeScope());
        }
        Dictionary<string, Tensor> without = After(0), with = After(.1);
        foreach (string name in without.Keys)
        {
            bool table = name is "memorized.weight" or "factors.weight";
            Assert.True(table != without[name].equal(with[name]).all().ToBoolean(), name);
        }
        // Adam's first step is the learning rate in the direction of the decay: every entry moves towards 0.
        Tensor moved = without["factors.weight"].abs() - with["factors.weight"].abs();
        Assert.Equal(.01, moved[without["factors.weight"].abs().gt(.02)].min().ToDouble(), 4);
    }

    [Fact]
    public void A_re_trained_model_decays_its_tables_and_nothing_else()
    {
        Dictionary<string, Tensor> After(double decay)
        {
            CrossVocabulary vocabulary = Model(out Tensor ids).Vocabulary;
            manual_seed(3);
            var model = new OptInterModel(Small, InteractionPlan.All(vocabulary.Pairs, InteractionMethod.Memorize), vocabulary);
            Tensor unseen = full_like(ids, 2); // combinations that no batch has keep their rows but for the decay
            OptInter.Retrain(model, unseen + arange(3, ScalarType.Int64) * 3, ones(ids.shape), ones(ids.size(0)), new OptInterTraining { CrossWeightDecay = decay, Epochs = 1 });
            return model.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone()); // a model that is collected frees its own
        }
        Dictionary<string, Tensor> without = After(0), with = After(.1);
        foreach (string name in without.Keys)
            Assert.True(name == "memorized.weight" != without[name].equal(with[name]).all().ToBoolean(), name);
    }

    [Fact]
    public void Gumbel_noise_is_added_in_training_only()
    {
        CrossVocabulary vocabulary = Model(out _).Vocabulary;
        using var model = new OptInterSearchModel(Small, vocabulary.Select(vocabulary.Pairs), Relaxation.GumbelSoftmax);
        Set(model.Alpha, tensor(new[] { 1f, 0, -1 }).repeat(3, 1));
        model.Temperature = .01;
        model.eval();
        Assert.True(model.Weights().select(1, 0).gt(.999).all().ToBoolean());
        model.train();
        manual_seed(0);
        Tensor share = zeros(3);
        for (int i = 0; i < 2000; i++) share += model.Weights().mean([0]).detach() / 2000;
        Near(tensor(new[] { .665241, .244728, .090031 }), share, .02); // Gumbel-max: methods are drawn with softmax(alpha)
    }

    [Fact]
    public void A_plan_survives_its_file_and_a_damaged_file_is_named()
    {
        using var folder = new TemporaryFolder();
        IReadOnlyList<FieldPair> pairs = FieldPair.All([1, 3, 4]);
        InteractionPlan plan = InteractionPlan.From(pairs, tensor(new[,] { { .1f, .2, .3f }, { 2, 0, 0 }, { 0, 5, 1 } }.Cast<double>().ToArray()).view(3, 3));
        plan.Save(folder.File("plan.json"));
        InteractionPlan loaded = InteractionPlan.Load(folder.File("plan.json"));
        Assert.Equal(plan.Choices.Select(c => (c.Pair, c.Method)), loaded.Choices.Select(c => (c.Pair, c.Method)));
        Assert.Equal(plan.Choices.SelectMany(c => c.Probabilities), loaded.Choices.SelectMany(c => c.Probabilities));
        Assert.Contains("plan.json", Assert.Throws<InvalidDataException>(() => InteractionPlan.Load(folder.File("plan.json", "{}"))).Message, StringComparison.Ordinal);
        string twice = """{"choices":[{"first":0,"second":1,"method":"naive","probabilities":[]},{"first":0,"second":1,"method":"naive","probabilities":[]}]}""";
        Assert.Throws<InvalidDataException>(() => InteractionPlan.Load(folder.File("plan.json", twice)));
        Assert.Equal(InteractionPlan.Random(pairs, 1).Choices.Select(c => c.Method), InteractionPlan.Random(pairs, 1).Choices.Select(c => c.Method));
        Assert.Equal(3, FieldPair.All(26).Select((p, i) => InteractionPlan.Random(FieldPair.All(26), 2).Choices[i].Method).Distinct().Count());
    }

    [Fact]
    public void Wrong_arguments_are_refused()
    {
        CrossVocabulary vocabulary = Model(out Tensor ids).Vocabulary;
        Assert.ThrowsAny<ArgumentException>(() => FieldPair.All(1));
        Assert.ThrowsAny<ArgumentException>(() => FieldPair.All([3, 1]));
        Assert.ThrowsAny<ArgumentException>(() => CrossVocabulary.Build(ids, vocabulary.Pairs, 9, minCount: 0));
        Assert.ThrowsAny<ArgumentException>(() => CrossVocabulary.Build(ids, vocabulary.Pairs, 8));
        Assert.ThrowsAny<ArgumentException>(() => CrossVocabulary.Build(ids, FieldPair.All(4), 9));
        Assert.ThrowsAny<ArgumentException>(() => CrossVocabulary.Build(ids, FieldPair.All(3), long.MaxValue / 2));
        Assert.ThrowsAny<ArgumentException>(() => vocabulary.forward(ids + 1));
        Assert.ThrowsAny<ArgumentException>(() => new OptInterModel(Small, InteractionPlan.All(FieldPair.All(4), InteractionMethod.Naive), vocabulary)); // a field that the schema lacks
        Assert.ThrowsAny<ArgumentException>(() => new OptInterModel(Small, InteractionPlan.All(vocabulary.Pairs, InteractionMethod.Memorize), vocabulary.Select([new(0, 1)])));
        Assert.ThrowsAny<ArgumentException>(() => InteractionPlan.From(vocabulary.Pairs, full([3, 3], double.NaN)));
        Assert.ThrowsAny<ArgumentException>(() => InteractionPlan.From(vocabulary.Pairs, zeros(2, 3)));
        Assert.ThrowsAny<ArgumentException>(() => new OptInterSearchModel(Small with { Ids = 10 }, vocabulary));
        Assert.ThrowsAny<ArgumentException>(() => new OptInterLearner(Model(out _), TabularTask.Binary, new OptInterSearchOptions { Mode = SearchMode.BiLevel }));
        Assert.ThrowsAny<ArgumentException>(() => new OptInterLearner(Model(out _), TabularTask.Binary, new OptInterSearchOptions { TauMin = 0 }));
    }

    [Fact]
    public void A_search_keeps_the_interacting_pair_and_drops_the_others()
    {
        // click depends on the parity of the first two fields alone; rows are fresh: one pass.
        manual_seed(0);
        Tensor local = randint(4, [12_000, 3], ScalarType.Int64, generator: new Generator(5)), ids = local + arange(3, ScalarType.Int64) * 4;
        Tensor odd = (local.select(1, 0) + local.select(1, 1)).remainder(2).to(ScalarType.Float32), target = rand([12_000], generator: new Generator(6)).lt(.1 + .8 * odd).to(ScalarType.Float32);
        OptInterOptions options = Small with { Ids = 12, Hidden = [16] };
        var vocabulary = CrossVocabulary.Build(ids, FieldPair.All(3), 12);
        var search = new OptInterSearchOptions { LearningRate = 1e-2, ArchLearningRate = 3e-2, BatchSize = 64, TauRate = null, TauMin = .05 };
        OptInterSearch found = OptInter.Search(options, vocabulary, ids, ones(ids.shape), target, search);
        Assert.Equal(SearchMode.Joint, found.Mode);
        Assert.False(found.RowsRepeat);
        Assert.NotEqual(InteractionMethod.Naive, found.Plan.Choices[0].Method);
        Assert.Equal([InteractionMethod.Naive, InteractionMethod.Naive], found.Plan.Choices.Skip(1).Select(c => c.Method));
        Assert.True(found.Trajectory[-1].allclose(found.Alpha.softmax(1)));
        Assert.False(found.Trajectory.isnan().any().ToBoolean());

        OptInterSearch levels = OptInter.Search(options, vocabulary, ids, ones(ids.shape), target, search with { Epochs = 2 });
        Assert.Equal(SearchMode.BiLevel, levels.Mode); // rows repeat: alpha learns from rows that the weights do not see
        Assert.NotEqual(InteractionMethod.Naive, levels.Plan.Choices[0].Method);
        Assert.True(OptInter.Search(options, vocabulary, ids, ones(ids.shape), target, search with { Epochs = 2, Mode = SearchMode.Joint }).RowsRepeat);
    }

    [Fact]
    public void A_stopped_search_ends_with_the_same_alpha_to_the_bit()
    {
        using var folder = new TemporaryFolder();
        Tensor ids = randint(3, [600, 3], ScalarType.Int64, generator: new Generator(5)) + arange(3, ScalarType.Int64) * 3, values = ones(600, 3), target = rand([600], generator: new Generator(6)).round();
        var vocabulary = CrossVocabulary.Build(ids, FieldPair.All(3), 9);
        var search = new OptInterSearchOptions { BatchSize = 32, Epochs = 2, ArchLearningRate = .1, LearningRate = .01, Relaxation = Relaxation.GumbelSoftmax };
        OptInterSearch Run(string? checkpoints, CancellationToken cancellation, Action<EpochReport>? onEpoch = null)
        {
            manual_seed(1);
            return OptInter.Search(Small, vocabulary, ids, values, target, search, trainer: o => new Trainer(o with { Seed = 7, CheckpointFolder = checkpoints, OnEpoch = onEpoch }), cancellation: cancellation);
        }
        OptInterSearch whole = Run(null, default);
        using var stop = new CancellationTokenSource();
        Assert.Throws<OperationCanceledException>(() => Run(folder.File("checkpoints"), stop.Token, _ => stop.Cancel()));
        OptInterSearch continued = Run(folder.File("checkpoints"), default);
        Assert.True(whole.Alpha.equal(continued.Alpha).all().ToBoolean());
        Assert.True(whole.Trajectory.equal(continued.Trajectory).all().ToBoolean());
    }

    /// <summary>A search model of three fields of three values each, in double precision, and the four rows of its vocabulary.</summary>
    private static OptInterSearchModel Model(out Tensor ids, OptInterOptions? options = null)
    {
        ids = tensor(new long[,] { { 0, 3, 6 }, { 0, 4, 7 }, { 1, 4, 6 }, { 1, 5, 8 } });
        manual_seed(0);
        var model = new OptInterSearchModel(options ?? Small, CrossVocabulary.Build(ids, FieldPair.All(3), 9));
        model.to(ScalarType.Float64);
        model.eval();
        return model;
    }

    private static void Set(Tensor parameter, Tensor value)
    {
        using var ungraphed = no_grad();
        parameter.copy_(value);
    }

    private static void Copy(Tensor from, Tensor to)
    {
        Assert.Equal(to.shape, from.shape);
        Set(to, from);
    }

    private static void Near(double[] expected, Tensor actual, double tolerance) => Near(tensor(expected), actual.to(ScalarType.Float64), tolerance);

    private static void Near(Tensor expected, Tensor actual, double tolerance)
    {
        Assert.Equal(expected.numel(), actual.numel());
        Assert.InRange((expected.reshape(-1) - actual.reshape(-1)).abs().max().ToDouble(), 0, tolerance);
    }
}
