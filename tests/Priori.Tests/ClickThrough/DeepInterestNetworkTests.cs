using Priori.ClickThrough;
using Priori.Data;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.ClickThrough;

public class DeepInterestNetworkTests
{
    private static readonly ActivationNormalization[] Normalizations = Enum.GetValues<ActivationNormalization>();
    private static readonly InterestActivation[] Activations = Enum.GetValues<InterestActivation>();

    private static DinOptions Small(InterestActivation activation = InterestActivation.PRelu, ActivationNormalization normalization = ActivationNormalization.None) => new()
    {
        Features = [new("item", 40, 6), new("category", 7, 4)], UnitHidden = [12, 5], MlpHidden = [10], Activation = activation, Normalization = normalization,
    };

    [Fact]
    public void The_first_layer_is_that_of_the_concatenation()
    {
        Seeds.Set(1);
        using var unit = new LocalActivationUnit(5, [8], InterestActivation.Sigmoid);
        var weights = unit.state_dict();
        Tensor q = randn(3, 2, 5), k = randn(3, 4, 5), mask = ones(3, 4, ScalarType.Bool);
        Tensor first = weights.Single(w => w.Key == "first.weight").Value, bias = weights.Single(w => w.Key == "first.bias").Value;
        Tensor last = weights.Single(w => w.Key.StartsWith("rest", StringComparison.Ordinal) && w.Key.EndsWith("weight", StringComparison.Ordinal)).Value;
        Tensor lastBias = weights.Single(w => w.Key.StartsWith("rest", StringComparison.Ordinal) && w.Key.EndsWith("bias", StringComparison.Ordinal)).Value;
        Tensor a = q.unsqueeze(2).expand(-1, -1, 4, -1), b = k.unsqueeze(1).expand(-1, 2, -1, -1);
        Tensor expected = functional.linear(functional.linear(cat([a, b, a - b, a * b], -1), first, bias).sigmoid(), last, lastBias).squeeze(-1);
        var (pooled, found) = unit.forward(q, k, mask);
        Near(expected, found, 1e-5);
        Near(expected.matmul(k), pooled, 1e-5);
        var (one, weightsOfOne) = unit.forward(q.select(1, 1), k, mask);
        Near(pooled.select(1, 1), one, 1e-6);
        Near(found.select(1, 1), weightsOfOne, 1e-6);
    }

    [Fact]
    public void Padding_and_the_order_of_the_history_change_nothing()
    {
        foreach (InterestModel model in Models())
        {
            foreach (bool train in new[] { false, true })
            {
                using DisposeScope scope = NewDisposeScope();
                model.train(train);
                var (candidate, history, mask) = Batch(6, 5);
                Tensor garbage = randint(4, [6, 3, 2], ScalarType.Int64) + 3, order = tensor(new long[] { 3, 0, 4, 2, 1 });
                Tensor logits = model.forward(candidate, history, mask);
                Near(logits, model.forward(candidate, cat([history, garbage], 1), cat([mask, zeros(6, 3, ScalarType.Bool)], 1)), 1e-5);
                Near(logits, model.forward(candidate, history.index_select(1, order), mask.index_select(1, order)), 1e-5);
            }
            model.Dispose();
        }
    }

    [Fact]
    public void An_empty_history_pools_to_zero_and_trains()
    {
        foreach (InterestModel model in Models())
        {
            var (candidate, history, mask) = Batch(4, 3);
            Tensor none = zeros_like(mask);
            model.train();
            Tensor logits = model.forward(candidate, history, none);
            functional.binary_cross_entropy_with_logits(logits, ones(4)).backward();
            Assert.True(logits.isfinite().all().item<bool>());
            Assert.All(model.parameters().Where(p => p.grad is not null), p => Assert.True(p.grad!.isfinite().all().item<bool>()));
            model.eval();
            Tensor other = randint(7, [4, 3, 2], ScalarType.Int64);
            Near(model.forward(candidate, history, none), model.forward(candidate, other, none), 0);
            Assert.True(model.forward(candidate, history, mask).isfinite().all().item<bool>());
            model.Dispose();
        }
        using var unit = new LocalActivationUnit(5);
        var (pooled, weights) = unit.forward(randn(2, 5), randn(2, 3, 5), tensor(new[] { false, false, false, true, false, true }).view(2, 3));
        Assert.Equal(0, pooled[0].abs().max().item<float>());
        Assert.Equal(0, weights[0].abs().max().item<float>());
        Assert.Equal(0, weights[1, 1].item<float>());
    }

    [Fact]
    public void A_doubled_history_doubles_the_interest_unless_weights_are_normalised()
    {
        foreach (ActivationNormalization normalization in Normalizations)
        {
            using var unit = new LocalActivationUnit(5, [6], normalization: normalization);
            Tensor q = randn(3, 5), k = randn(3, 4, 5), mask = tensor(new[] { true, true, false, true, true, false, false, false, true, true, true, true }).view(3, 4);
            Tensor once = unit.forward(q, k, mask).Pooled, twice = unit.forward(q, cat([k, k], 1), cat([mask, mask], 1)).Pooled;
            Near(normalization == ActivationNormalization.None ? once * 2 : once, twice, 1e-5);
            if (normalization != ActivationNormalization.None) Near(ones(3), unit.forward(q, k, mask).Weights.sum(dim: 1), 1e-5);
        }
    }

    [Fact]
    public void Scaled_softmax_divides_by_the_root_of_the_width()
    {
        Tensor q = randn(2, 16), k = randn(2, 3, 16), mask = ones(2, 3, ScalarType.Bool);
        Tensor Weights(ActivationNormalization normalization)
        {
            Seeds.Set(3);
            using var unit = new LocalActivationUnit(16, [6], normalization: normalization);
            return unit.forward(q, k, mask).Weights;
        }
        Near((Weights(ActivationNormalization.None) / 4).softmax(-1), Weights(ActivationNormalization.ScaledSoftmax), 1e-6);
    }

    [Fact]
    public void Statistics_of_dice_are_over_padding_only_when_asked()
    {
        Tensor q = randn(4, 5), k = randn(4, 6, 5), mask = arange(6).unsqueeze(0).lt(tensor(new long[] { 1, 3, 6, 2 }).unsqueeze(1));
        Tensor Weights(bool overPadding, Tensor keys)
        {
            Seeds.Set(3);
            using var unit = new LocalActivationUnit(5, [6, 4], InterestActivation.Dice, statisticsOverPadding: overPadding);
            return unit.forward(q, keys, mask).Weights;
        }
        Tensor other = k.masked_fill(mask.logical_not().unsqueeze(-1), 9);
        Near(Weights(false, k), Weights(false, other), 1e-6);
        Assert.True((Weights(true, k) - Weights(true, other)).abs().max().item<float>() > 1e-3);
    }

    [Fact]
    public void Several_candidates_score_like_one_at_a_time()
    {
        foreach (InterestModel model in Models())
        {
            model.eval();
            var (candidate, history, mask) = Batch(4, 5);
            Tensor several = stack([candidate, candidate.flip(0)], 1);
            Tensor logits = model.forward(several, history, mask);
            Near(model.forward(candidate, history, mask), logits.select(1, 0), 1e-5);
            Near(model.forward(candidate.flip(0), history, mask), logits.select(1, 1), 1e-5);
            Near(logits, model.Score(candidate, history, mask, positions: 7).gather(1, tensor(new long[] { 0, 3, 1, 2, 2, 1, 3, 0 }).view(4, 2)), 1e-5);
            model.Dispose();
        }
    }

    [Fact]
    public void Units_of_their_own_pool_each_feature_in_its_place_and_context_joins()
    {
        Seeds.Set(5);
        DinOptions options = Small() with { Units = [[1], [0]], ContextFields = 2, ContextIds = 9 };
        using var model = new DeepInterestNetwork(options);
        var (candidate, history, mask) = Batch(3, 4);
        Tensor context = tensor(new long[] { 0, 8, 1, 7, 2, 6 }).view(3, 2);
        model.eval();
        Tensor logits = model.forward(candidate, history, mask, context);
        Assert.Equal([3], logits.shape);
        Assert.Equal(2, model.Weights(candidate, history, mask).Count);
        Assert.True((logits - model.forward(candidate, history, mask, context.flip(0))).abs().max().item<float>() > 1e-4);
        Assert.Throws<ArgumentException>(() => model.forward(candidate, history, mask));

        // The same units, given in the order of the features, see the same things.
        using var ordered = new DeepInterestNetwork(options with { Units = [[0], [1]] });
        var state = model.state_dict().ToDictionary(s => s.Key.Replace("unit0", "unitX", StringComparison.Ordinal).Replace("unit1", "unit0", StringComparison.Ordinal).Replace("unitX", "unit1", StringComparison.Ordinal), s => s.Value);
        ordered.load_state_dict(state);
        ordered.eval();
        Near(logits, ordered.forward(candidate, history, mask, context), 1e-6);
    }

    [Fact]
    public void The_mini_batch_aware_penalty_has_the_gradient_of_equation_7()
    {
        foreach (int times in new[] { 1, 7 })
        {
            Tensor table = tensor(new double[] { 3, 3, .5, -1, 2, 2 }).view(3, 2).requires_grad_();
            using var regularizer = new MiniBatchAwareL2(tensor(new float[] { 1, 4, 0 }), .01);
            regularizer.Penalty(table, full(times, 1L, ScalarType.Int64))!.backward();
            Assert.Equal([0, 0, .00125, -.0025, 0, 0], table.grad!.reshape(-1).data<double>().ToArray(), (a, b) => Math.Abs(a - b) < 1e-12);
            Assert.Throws<ArgumentException>(() => regularizer.Penalty(table, tensor(new long[] { 2 }))); // its count is 0
            Assert.Throws<ArgumentException>(() => regularizer.Penalty(table, tensor(new long[] { 3 })));
        }
    }

    [Fact]
    public void Over_an_epoch_the_mini_batch_aware_penalties_are_the_exact_norm()
    {
        using var folder = NewDisposeScope();
        Tensor table = randn(5, 3, ScalarType.Float64), counts = tensor(new float[] { 1, 2, 3, 4, 5 });
        using var regularizer = new MiniBatchAwareL2(counts, .3);
        double sum = 0;
        for (int sample = 0; sample < 5; sample++) // id j occurs in samples 0..j
            sum += regularizer.Penalty(table, arange(sample, 5, ScalarType.Int64))!.item<double>();
        Assert.Equal(.15 * table.square().sum().item<double>(), sum, 1e-6);
    }

    [Fact]
    public void DiFacto_counts_occurrences_dropout_drops_whole_ids_and_the_filter_shares_a_row()
    {
        Tensor table = tensor(new double[] { 1, 2, 3 }).view(3, 1).requires_grad_();
        using var difacto = new DiFactoL2(.1);
        difacto.Penalty(table, tensor(new long[] { 2, 2, 1 }))!.backward();
        Assert.Equal([0, .2, .6], table.grad!.reshape(-1).data<double>().ToArray(), (a, b) => Math.Abs(a - b) < 1e-12);

        using var dropout = new IdDropout(.5);
        Seeds.Set(0);
        Tensor dropped = dropout.Drop(ones(400, 5, 3));
        Assert.Equal([0f, 2f], dropped.unique().output.data<float>().ToArray());
        Near(dropped.select(-1, 0), dropped.select(-1, 2), 0);
        Assert.InRange(dropped.mean().item<float>(), .9f, 1.1f);
        dropout.eval();
        Assert.Equal(1, dropout.Drop(ones(4, 3)).min().item<float>());

        using var filter = new FrequencyFilter(tensor(new float[] { 0, 5, 1, 9 }), keep: 2);
        Assert.Equal([0L, 1, 0, 3, 1], filter.Rows(tensor(new long[] { 0, 1, 2, 3, 1 })).data<long>().ToArray());
        Assert.Contains("row_of", filter.state_dict().Keys); // part of a saved model
    }

    [Fact]
    public void Sparse_tables_have_the_same_gradient_and_rows_outside_the_batch_keep_their_bits()
    {
        var (candidate, history, mask) = Batch(4, 3);
        InterestModel Model(bool sparse)
        {
            Seeds.Set(4);
            var model = new DeepInterestNetwork(Small() with { Sparse = sparse }, [new MiniBatchAwareL2(full(40, 2f), .1), null]);
            (model.forward(candidate, history, mask).sum() + model.Penalty(candidate, history, mask)).backward();
            return model;
        }
        using InterestModel dense = Model(false), rows = Model(true);
        Assert.True(rows.Table(0).grad!.is_sparse);
        Near(dense.Table(0).grad!, rows.Table(0).grad!.to_dense(), 1e-6);
        Tensor before = rows.Table(0).clone();
        using var adam = new RowwiseAdam(rows.parameters(), 1e-2);
        adam.step();
        long[] changed = before.ne(rows.Table(0)).any(1).nonzero().flatten().data<long>().ToArray();
        Assert.Equal(cat([candidate.select(-1, 0), history.select(-1, 0).reshape(-1)]).unique().output.data<long>().ToArray().Intersect(changed), changed);
    }

    [Fact]
    public void The_model_s_penalty_leaves_padding_out()
    {
        DinOptions options = Small();
        using var model = new DeepInterestNetwork(options, [new MiniBatchAwareL2(full(40, 2f), .1), null]);
        var (candidate, history, mask) = (tensor(new long[] { 1, 0, 2, 0 }).view(2, 2), tensor(new long[] { 1, 0, 9, 0, 3, 0, 9, 0 }).view(2, 2, 2), tensor(new[] { true, false, true, false }).view(2, 2));
        Near(model.Table(0).index_select(0, tensor(new long[] { 1, 2, 3 })).square().sum() * (.05 / 2), model.Penalty(candidate, history, mask), 1e-5);
    }

    [Fact]
    public void Samples_hold_the_last_event_out_and_draw_negatives_from_outside_the_list()
    {
        EventLog log = InterestLog.Generate(0, new InterestLogOptions { Users = 40, Categories = 4, ItemsPerCategory = 5, Favorites = 3, Events = 8 });
        foreach (bool validation in new[] { false, true })
        {
            InterestSamples samples = InterestSamples.Of(log, 7, new InterestSampleOptions { MaxHistory = 4, Validation = validation, Negatives = 2, TestNegatives = 3 });
            int last = validation ? 6 : 7;
            Assert.Equal((40 * (last - 1) * 3, 40 * 4), (samples.Train.Count, samples.Test.Count));
            Assert.Equal(validation ? 40 * 3 : null, samples.Validation?.Count);
            foreach (var (part, known) in new[] { (samples.Train, last), (samples.Validation, 7), (samples.Test, 8) })
            {
                if (part is null) continue;
                Batch batch = part.Get(arange(part.Count, ScalarType.Int64), CPU);
                for (int row = 0, k = 0; row < part.Count; row++)
                {
                    int user = (int)part.Users[row].item<long>(), candidate = (int)part.Candidates[row].item<long>() - 1;
                    int[] own = log.ItemsOf(user).ToArray();
                    if (part.Labels[row].item<float>() == 0)
                    {
                        Assert.DoesNotContain(candidate, own[..known]);
                        continue;
                    }
                    k = part == samples.Train ? row == 0 || part.Users[row - 1].item<long>() != user ? 1 : k + 1 : known - 1;
                    Assert.Equal(own[k], candidate);
                    Tensor past = batch[1][row].select(-1, 0)[batch[2][row]];
                    Assert.Equal(own[Math.Max(0, k - 4)..k].Select(i => i + 1L), past.data<long>().ToArray());
                }
                Assert.Equal(batch[0].select(1, 1).data<long>().ToArray(), (batch[0].select(1, 0) - 1).div(5, RoundingMode.floor).data<long>().ToArray().Select(c => c + 1)); // the category of each candidate
            }
        }
    }

    [Fact]
    public void Users_with_one_event_or_every_item_give_no_sample()
    {
        EventLog log = new([0, 1, 1, 2, 2, 2, 2, 3, 3, 3], [0, 0, 1, 0, 1, 2, 0, 0, 1, 0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], ["one", "two", "all", "three"], ["x", "y", "z"]);
        InterestSamples samples = InterestSamples.Of(log, 0);
        Assert.Equal(2, samples.UsersWithoutSample); // one and all
        Assert.Equal([3L, 3], samples.Train.Users.data<long>().ToArray());
        Assert.Equal([2L, 3], samples.Train.Candidates.data<long>().ToArray()); // y, and z: the only item that three does not have
        Assert.Equal([1L, 1, 3, 3], samples.Test.Users.data<long>().ToArray());
        Assert.Throws<ArgumentException>(() => InterestSamples.Of(new([0, 1], [0, 1], [1, 2], ["a", "b"], ["x", "y"]), 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => InterestSamples.Of(log, 0, new InterestSampleOptions { Keep = 0 }));
    }

    [Fact]
    public void Counts_are_samples_in_which_an_id_occurs()
    {
        // User 0: a b a c | d; samples: (a | b), (a b | a), (a b a | c) and a negative each, out of e, f only.
        EventLog log = new([0, 0, 0, 0, 0, 1, 1], [0, 1, 0, 2, 3, 4, 5], [1, 2, 3, 4, 5, 1, 2], ["u", "v"], ["a", "b", "c", "d", "e", "f"]);
        InterestSamples samples = InterestSamples.Of(log, 0);
        float[] counts = samples.Train.Counts(0, 7).data<float>().ToArray();
        Assert.Equal(6, samples.Train.Count);
        Assert.Equal((0, 6, 5, 1), (counts[0], counts[1], counts[2], counts[3]));
        Assert.Equal(3, counts[4] + counts[5] + counts[6]); // the three negatives
    }

    [Fact]
    public void Batches_of_the_bucket_sampler_have_like_lengths_and_every_row_once()
    {
        Seeds.Set(0);
        Tensor lengths = randint(1, 50, [1003], ScalarType.Int64);
        var sampler = new LengthBucketSampler(lengths, 32, pool: 31);
        Tensor order = sampler.Order(1003, 1, 0, 0);
        Assert.Equal(Enumerable.Range(0, 1003).Select(i => (long)i), order.data<long>().ToArray().Order());
        Assert.Equal(order.data<long>().ToArray(), sampler.Order(1003, 1, 0, 0).data<long>().ToArray());
        Assert.NotEqual(order.data<long>().ToArray(), sampler.Order(1003, 1, 1, 0).data<long>().ToArray());
        Tensor batches = lengths.index_select(0, order.narrow(0, 0, 31 * 32)).view(31, 32);
        Assert.True((batches.amax(1) - batches.amin(1)).max().item<long>() <= 8);
        Assert.Throws<ArgumentException>(() => sampler.Order(1000, 1, 0, 0));
    }

    [Fact]
    public void Training_lowers_the_loss_and_saved_weights_give_the_same_scores()
    {
        EventLog log = InterestLog.Generate(0, new InterestLogOptions { Users = 60, Categories = 5, ItemsPerCategory = 6, Favorites = 3 });
        InterestSamples samples = InterestSamples.Of(log, 0);
        DinOptions options = Small(InterestActivation.Dice) with { Features = [new("item", 31, 6), new("category", 6, 4)] };
        Seeds.Set(0);
        using var learner = new InterestLearner(new DeepInterestNetwork(options, [new MiniBatchAwareL2(samples.Train.Counts(0, 31), .1), null]));
        TrainingHistory history = new Trainer(new TrainerOptions { Epochs = 4, BatchSize = 64, Sampler = new LengthBucketSampler(samples.Train.Lengths, 64) }).Fit(learner, samples.Train);
        Assert.True(history.Series["cross_entropy"][^1] < history.Series["cross_entropy"][0]);
        var model = (DeepInterestNetwork)learner.Modules["model"];
        using var copy = new DeepInterestNetwork(options);
        copy.load_state_dict(model.state_dict().Where(s => !s.Key.Contains("regularizer", StringComparison.Ordinal)).ToDictionary(s => s.Key, s => s.Value));
        Near(InterestLearner.Logits(model, samples.Test), InterestLearner.Logits(copy, samples.Test, block: 7), 1e-4);
        Assert.InRange(InterestLearner.Evaluate(model, samples.Test)["gauc"], 0, 1);
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        using var model = new DeepInterestNetwork(Small());
        var (candidate, history, mask) = Batch(2, 3);
        Assert.Throws<ArgumentException>(() => model.forward(candidate, history, mask.narrow(1, 0, 2)));
        Assert.Throws<ArgumentException>(() => model.forward(candidate, history.narrow(2, 0, 1), mask));
        Assert.Throws<ArgumentException>(() => model.forward(candidate + 40, history, mask));
        Assert.Throws<ArgumentException>(() => model.forward(candidate, history - 1, mask));
        Assert.Throws<ArgumentException>(() => model.forward(candidate, history, mask, zeros(2, 1, ScalarType.Int64)));
        Assert.Throws<ArgumentException>(() => new DeepInterestNetwork(Small() with { Units = [[0]] }));
        Assert.Throws<ArgumentException>(() => new DeepInterestNetwork(Small() with { Features = [] }));
        Assert.Throws<ArgumentException>(() => new LocalActivationUnit(4, []));
        using var unit = new LocalActivationUnit(4);
        Assert.Throws<ArgumentException>(() => unit.forward(randn(2, 4), randn(2, 3, 4), ones(2, 2, ScalarType.Bool)));
        Assert.Throws<ArgumentException>(() => unit.forward(randn(2, 5), randn(2, 3, 4), ones(2, 3, ScalarType.Bool)));
        Assert.Throws<ArgumentException>(() => new MiniBatchAwareL2(tensor(new float[] { -1 })));
    }

    private static IEnumerable<InterestModel> Models()
    {
        Seeds.Set(2);
        foreach (InterestActivation activation in Activations)
            foreach (ActivationNormalization normalization in Normalizations)
                yield return new DeepInterestNetwork(Small(activation, normalization));
        yield return new BaseInterestModel(Small(), InterestPooling.Sum);
        yield return new BaseInterestModel(Small(InterestActivation.Dice), InterestPooling.Mean);
    }

    private static (Tensor Candidate, Tensor History, Tensor Mask) Batch(int rows, int length)
    {
        var generator = new Generator(9);
        Tensor Ids(params long[] shape) => stack([randint(40, shape, ScalarType.Int64, generator: generator), randint(7, shape, ScalarType.Int64, generator: generator)], -1);
        return (Ids(rows), Ids(rows, length), arange(length).unsqueeze(0).lt(randint(1, length + 1, [rows, 1], ScalarType.Int64, generator: generator)));
    }

    private static void Near(Tensor expected, Tensor actual, double tolerance)
    {
        Assert.Equal(expected.shape, actual.shape);
        Assert.True((expected - actual).abs().max().to(ScalarType.Float64).item<double>() <= tolerance, $"{expected} {actual}");
    }
}
