using Priori.Data;
using Priori.Metrics;
using Priori.Recommendation;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Recommendation;

public class ClheTests
{
    private static ItemModalities Features(int items = 12, bool feedback = true)
    {
        Tensor text = randn(items, 5, generator: new Generator(2));
        text[3] = 0; // no text
        Tensor cf = randn(items, 6, generator: new Generator(3));
        cf[7] = 0; // no feedback
        return new ItemModalities(items, new Dictionary<string, Tensor> { ["content"] = randn(items, 4, generator: new Generator(1)), ["text"] = text }, feedback ? cf : null);
    }

    private static readonly ClheOptions s_small = new() { EmbeddingDim = 8, ItemAlpha = 0, BundleAlpha = 0 };
    private static readonly int[][] s_bundles = [[0, 1, 2], [3, 4, 5, 6], [7, 8], [9, 10, 11], [1, 5, 9], [2, 7]];

    private static Clhe Model(ItemModalities features, ClheOptions options, int seed = 0)
    {
        Seeds.Set(seed);
        return new Clhe(features, options);
    }

    // ---- the card's exact checks ----

    [Fact]
    public void Reconstruction_loss_of_the_worked_example()
    {
        using Tensor scores = tensor(new float[,] { { 1, 2, 0, -1 } });
        PaddedSets items = PaddedSets.Of([[0, 2]]);
        Assert.Equal(1.9402, Clhe.ReconstructionLoss(scores, items.Items, items.Mask).item<float>(), 4);
        // A padded bundle beside it: the mean over bundles of means over their items.
        PaddedSets two = PaddedSets.Of([[0, 2], [1]]);
        Tensor logs = functional.log_softmax(scores, 1);
        double expected = (1.9401897 - logs[0, 1].ToDouble()) / 2;
        Assert.Equal(expected, Clhe.ReconstructionLoss(scores.expand(2, 4), two.Items, two.Mask).item<float>(), 5);
    }

    [Fact]
    public void Fusion_of_the_worked_example()
    {
        using var fusion = new TokenSelfFusion(2);
        using (no_grad()) foreach (TorchSharp.Modules.Parameter p in fusion.parameters()) p.copy_(eye(2));
        using Tensor tokens = tensor(new[,,] { { { 1f, 0 }, { 0, 1 }, { .7071f, .7071f } } });
        Assert.True(fusion.Attention(tokens)[0, 0].allclose(tensor(new[] { .433651f, .21382f, .352529f }), atol: 1e-5));
        Assert.True(fusion.forward(tokens).allclose(tensor(new[,] { { .574965f, .574965f } }), atol: 1e-5));
        using Tensor dropped = tensor(new[,,] { { { 1f, 0 }, { 0, 0 }, { .7071f, .7071f } } });
        Assert.True(fusion.forward(dropped).allclose(tensor(new[,] { { .637043f, .263872f } }), atol: 1e-5));
        Assert.True(fusion.forward(tokens * 7).allclose(fusion.forward(tokens))); // tokens are normalised
    }

    [Theory]
    [InlineData(.05, new[] { 1, 1, 1, 1, 1, 1, 1 })]
    [InlineData(.5, new[] { 1, 2, 2, 3, 4, 4, 4 })]
    [InlineData(.75, new[] { 1, 2, 3, 4, 5, 6, 6 })]
    public void Lengths_of_sub_bundles(double ratio, int[] expected)
        => Assert.Equal(expected, Enumerable.Range(2, 7).Select(size => SubBundles.Kept(size, ratio)));

    [Fact]
    public void Order_and_padding_leave_a_bundle_s_vector_unchanged()
    {
        using ItemModalities features = Features();
        using Clhe model = Model(features, s_small);
        PaddedSets a = PaddedSets.Of([[3, 1, 8]]), b = PaddedSets.Of([[8, 3, 1], [0, 2, 4, 5, 6, 9]]);
        Tensor u = model.BundleVectors(a.Items, a.Mask);
        Assert.True(model.BundleVectors(b.Items, b.Mask)[0].allclose(u[0], atol: 1e-6));
        using Tensor filled = b.Items.masked_fill(b.Mask.logical_not(), 11);
        Assert.True(model.BundleVectors(filled, b.Mask)[0].allclose(u[0], atol: 1e-6));
        using var completer = new BundleCompleter(model);
        Assert.True(completer.Score([[1, 8, 3]]).allclose(model.forward(a.Items, a.Mask), atol: 1e-5));
    }

    [Fact]
    public void Without_contrast_it_is_the_plain_model_to_the_bit()
    {
        using ItemModalities features = Features();
        using var learner = new ClheLearner(Model(features, s_small), s_bundles);
        new Trainer(new TrainerOptions { Epochs = 4, BatchSize = 6, Sampler = new SequentialSampler() }).Fit(learner, learner.Rows);

        using Clhe plain = Model(features, s_small);
        using optim.Optimizer adam = optim.Adam(plain.parameters(), 1e-3, weight_decay: 1e-5);
        PaddedSets sets = PaddedSets.Of(s_bundles);
        int[] order = [.. s_bundles.SelectMany(b => b).Distinct()]; // each item is encoded once, as it comes
        PaddedSets local = PaddedSets.Of([.. s_bundles.Select(b => b.Select(i => Array.IndexOf(order, i)).ToArray())]);
        for (int epoch = 0; epoch < 4; epoch++)
        {
            adam.zero_grad();
            Tensor vectors = plain.Encoder.forward(tensor(order.Select(i => (long)i).ToArray()));
            Tensor u = plain.Bundles.forward(vectors.index_select(0, local.Items.reshape(-1)).view(6, 4, 8), local.Mask);
            Clhe.ReconstructionLoss(u.matmul(plain.Decoder.All().t()), sets.Items, sets.Mask).backward();
            adam.step();
        }
        foreach (var (name, value) in plain.state_dict()) Assert.True(value.equal(learner.Modules["clhe"].state_dict()[name]).all().item<bool>(), name);
    }

    [Fact]
    public void An_item_without_feedback_takes_its_features_token_and_teaches_the_feedback_map_nothing()
    {
        using ItemModalities features = Features();
        using var encoder = new ItemEncoder(features, s_small);
        Tensor tokens = encoder.Tokens(arange(12, ScalarType.Int64));
        Assert.True(tokens[7, 2].equal(tokens[7, 0]).all().item<bool>());
        Assert.False(tokens[6, 2].allclose(tokens[6, 0]));
        tokens[7].sum().backward();
        Tensor map = encoder.named_parameters().Single(p => p.name == "feedback.weight").parameter;
        Assert.Equal(0, map.grad is null ? 0 : map.grad.abs().sum().item<float>());
        encoder.zero_grad();
        encoder.Tokens(tensor(new long[] { 6 })).sum().backward();
        Assert.True(map.grad!.abs().sum().item<float>() > 0);
    }

    [Fact]
    public void Encoder_and_decoder_share_no_parameter()
    {
        using ItemModalities features = Features();
        using Clhe model = Model(features, s_small);
        var handles = model.Encoder.parameters().Select(p => p.Handle).ToHashSet();
        Assert.Equal(12 + 1 + 2 + 2, handles.Count); // two towers of three Linear, item vectors, feedback, queries and keys
        Assert.DoesNotContain(model.Decoder.parameters(), p => handles.Contains(p.Handle));
        Assert.False(model.Encoder.All().allclose(model.Decoder.All()));
    }

    [Fact]
    public void Identical_views_of_orthonormal_items()
    {
        using ItemModalities features = Features();
        using var learner = new ClheLearner(Model(features, s_small with { ItemAugmentation = ItemAugmentation.None }), s_bundles);
        var (a, b) = learner.ItemViews(zeros(2, 3, 2), eye(2));
        Assert.Equal(.313262, InfoNce.Loss(a, b, 1).item<float>(), 5);
    }

    // ---- what is easily built wrong ----

    [Fact]
    public void Views_of_items_are_those_of_their_augmentation()
    {
        using ItemModalities features = Features();
        using Tensor tokens = randn(200, 3, 8), vectors = randn(200, 8);
        (Tensor A, Tensor B) Views(ItemAugmentation augmentation)
        {
            Seeds.Set(1);
            using var learner = new ClheLearner(Model(features, s_small with { ItemAugmentation = augmentation, DropoutRate = .2, NoiseWeight = .02 }), s_bundles);
            var views = learner.ItemViews(tokens, vectors);
            Clhe model = (Clhe)learner.Modules["clhe"];
            // MD does without the projector, FD and FN pass it.
            views.A.sum().backward();
            bool projected = model.Projector.parameters().Any(p => p.grad is not null);
            Assert.Equal(augmentation is ItemAugmentation.FeatureDropout or ItemAugmentation.FeatureNoise, projected);
            if (augmentation == ItemAugmentation.FeatureNoise) Assert.InRange((views.A - model.Projector.forward(vectors)).abs().max().item<float>(), 1e-4, .5);
            if (augmentation == ItemAugmentation.ModalityDropout)
            {
                Tensor whole = model.Encoder.Fusion.forward(tokens);
                Assert.InRange(views.A.isclose(whole, rtol: 1e-4, atol: 1e-6).all(1).to(ScalarType.Float32).mean().item<float>(), .8f * .8f * .8f - .12f, .8f * .8f * .8f + .12f);
            }
            return views;
        }
        foreach (ItemAugmentation augmentation in new[] { ItemAugmentation.ModalityDropout, ItemAugmentation.FeatureDropout, ItemAugmentation.FeatureNoise })
        {
            var (a, b) = Views(augmentation);
            Assert.False(a.allclose(b), $"{augmentation}");
        }
    }

    [Fact]
    public void Views_of_bundles_leave_out_replace_or_add_items()
    {
        int[] bundle = [4, 8, 15, 16, 23, 42];
        SplitMix64 random = new(5);
        for (int i = 0; i < 50; i++)
        {
            int[] less = SubBundles.Draw(bundle, .5, BundleAugmentation.ItemDropout, 50, 6, random);
            Assert.Equal(4, less.Length);
            Assert.Subset(bundle.ToHashSet(), less.ToHashSet());
            int[] replaced = SubBundles.Draw(bundle, .5, BundleAugmentation.ItemReplacement, 50, 6, random);
            Assert.Equal((6, 6, 4), (replaced.Length, replaced.Distinct().Count(), replaced.Count(bundle.Contains)));
            int[] more = SubBundles.Draw(bundle, 1.4, BundleAugmentation.ItemDropout, 50, 10, random);
            Assert.Equal((10, 10, 6), (more.Length, more.Distinct().Count(), more.Count(bundle.Contains)));
            Assert.Equal(bundle, SubBundles.Draw(bundle, 1, BundleAugmentation.ItemDropout, 50, 6, random).Order());
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => SubBundles.Kept(1, .5));
    }

    [Fact]
    public void Each_contrast_changes_what_is_learned_and_reference_quirks_do_too()
    {
        using ItemModalities features = Features();
        double Trained(ClheOptions options)
        {
            using var learner = new ClheLearner(Model(features, options), s_bundles);
            new Trainer(new TrainerOptions { Epochs = 2, BatchSize = 3 }).Fit(learner, learner.Rows);
            return ((Clhe)learner.Modules["clhe"]).Encoder.All().abs().sum().ToDouble();
        }
        double[] sums =
        [
            Trained(s_small), Trained(s_small with { ItemAlpha = .5 }), Trained(s_small with { BundleAlpha = .5 }), Trained(s_small with { BundleAlpha = .5, BundleAugmentation = BundleAugmentation.ItemReplacement }),
            Trained(s_small with { BundleAlpha = .5, BundleRatio = 1.5 }), Trained(s_small with { BundleAlpha = .5, ReferenceCompatibility = true }),
        ];
        Assert.Equal(sums.Length, sums.Distinct().Count());
        using Clhe quirky = Model(features, s_small with { ReferenceCompatibility = true });
        Assert.All(quirky.Bundles.parameters(), p => Assert.False(p.requires_grad));
    }

    [Fact]
    public void Missing_rows_add_nothing_and_missing_kinds_make_no_token()
    {
        using ItemModalities features = Features();
        Assert.Equal(3, features.TokenCount);
        Assert.False(features.Has("text")[3].item<bool>());
        Assert.False(features.Has("collaborative")[7].item<bool>());
        using var encoder = new ItemEncoder(features, s_small);
        using (no_grad()) foreach (var (name, p) in encoder.named_parameters()) if (name.EndsWith("bias", StringComparison.Ordinal)) p.fill_(.3);
        Tensor media = encoder.Tokens(arange(12, ScalarType.Int64)).select(1, 0);
        Assert.InRange(media[3].norm().item<float>(), .999f, 1.001f); // the content's unit vector alone
        using ItemModalities none = new(5), nan = new(2, new Dictionary<string, Tensor> { ["a.b"] = tensor(new[,] { { 1f, float.NaN }, { 3, 4 } }) });
        Assert.Equal([5, 1, 8], new ItemEncoder(none, s_small).Tokens(arange(5, ScalarType.Int64)).shape);
        Assert.False(nan.Has("a.b")[0].item<bool>());
        Assert.False(new ItemEncoder(nan, s_small).All().isnan().any().item<bool>());
    }

    [Fact]
    public void Items_missing_everything_get_finite_gradients()
    {
        using ItemModalities features = new(4, new Dictionary<string, Tensor> { ["text"] = tensor(new float[,] { { 0, 0 }, { 0, 0 }, { 1, 0 }, { 0, 1 } }) }, zeros(4, 3));
        using var learner = new ClheLearner(Model(features, s_small with { ItemAlpha = 1, BundleAlpha = 1 }), [[0, 1, 2], [1, 3]]);
        new Trainer(new TrainerOptions { Epochs = 5, BatchSize = 2 }).Fit(learner, learner.Rows);
        Assert.True(((Clhe)learner.Modules["clhe"]).parameters().All(p => p.isfinite().all().item<bool>()));
    }

    // ---- use ----

    [Fact]
    public void A_frozen_model_completes_bundles_without_their_own_items_and_is_rebuilt_from_its_tensors()
    {
        using ItemModalities features = Features();
        string warning = "";
        using BundleCompleter completer = Clhe.Fit(features, [.. s_bundles, [4]], s_small with { BundleAlpha = 1 }, new TrainerOptions { Epochs = 60, BatchSize = 7 }, ([[0, 1]], [[2]]), text => warning = text);
        Assert.StartsWith("1 of 7 training bundles have one item", warning, StringComparison.Ordinal);
        var completions = completer.Complete([3, 4], 3);
        Assert.Equal(3, completions.Count);
        Assert.DoesNotContain(completions, c => c.Item is 3 or 4);
        Assert.Equal(completions.Select(c => c.Score).OrderDescending(), completions.Select(c => c.Score));
        Assert.Equal(10, completer.Complete([3, 4], 50).Count);

        using var rebuilt = new BundleCompleter(completer.State());
        Assert.Equal(completions, rebuilt.Complete([3, 4], 3));
        Assert.Throws<ArgumentException>(() => completer.Complete([], 3));
        Assert.Throws<ArgumentException>(() => completer.Complete([12], 3));
        Assert.Throws<ArgumentException>(() => new BundleCompleter(new Dictionary<string, Tensor>()));
    }

    [Fact]
    public void It_learns_which_items_go_together_and_completes_cold_items_by_their_features()
    {
        // Three groups of ten items whose features say the group; item 9 of each is in no training bundle.
        Tensor group = arange(30, ScalarType.Int64).div(10, RoundingMode.floor);
        using ItemModalities features = new(30, new Dictionary<string, Tensor> { ["image"] = functional.one_hot(group, 3).to(ScalarType.Float32) + .1f * randn(30, 3, generator: new Generator(1)) });
        SplitMix64 random = new(1);
        int[][] bundles = [.. Enumerable.Range(0, 60).Select(b => { int[] items = [.. Enumerable.Range(b % 3 * 10, 9)]; random.Shuffle(items.AsSpan()); return items[..4]; })];
        Seeds.Set(0);
        using BundleCompleter completer = Clhe.Fit(features, bundles, s_small with { EmbeddingDim = 16, ItemAlpha = .1, BundleAlpha = .1, LearningRate = 1e-2 }, new TrainerOptions { Epochs = 15, BatchSize = 60 });
        TopKResult result = completer.Evaluate([[0, 1], [10, 11], [20, 21]], [[2, 9], [12, 19], [22, 29]], 10);
        Assert.Equal(1, result.At(10).Recall); // the eight others of the group, the cold one included, are among the ten best of 28
    }

    [Fact]
    public void Bad_input_is_refused()
    {
        Assert.Throws<ArgumentException>(() => new ItemModalities(3, new Dictionary<string, Tensor> { ["text"] = zeros(4, 2) }));
        Assert.Throws<ArgumentException>(() => new ItemModalities(3, collaborative: zeros(3, 2), hasFeedback: ones(2)));
        using ItemModalities features = new(3);
        Assert.Throws<ArgumentException>(() => new ClheLearner(new Clhe(features), []));
        Assert.Throws<ArgumentException>(() => new ClheLearner(new Clhe(features), [[0, 1], []]));
        Assert.Throws<ArgumentException>(() => new ClheLearner(new Clhe(features), [[0, 3]]));
        foreach (ClheOptions bad in new[] { new ClheOptions { ItemTemperature = 0 }, new() { BundleTemperature = -1 }, new() { DropoutRate = 1 }, new() { ItemAlpha = -1 }, new() { BundleRatio = 0 } })
            Assert.Throws<ArgumentOutOfRangeException>(() => new Clhe(features, bad));
    }

    [Fact]
    public void The_paper_s_settings()
    {
        Assert.Equal((.05, 2.0, .5, .1, ItemAugmentation.ModalityDropout), (ClheOptions.PogDense.BundleTemperature, ClheOptions.PogDense.BundleAlpha, ClheOptions.PogDense.ItemTemperature, ClheOptions.PogDense.ItemAlpha, ClheOptions.PogDense.ItemAugmentation));
        Assert.Equal((.01, .5, .5, 2.0, ItemAugmentation.FeatureNoise), (ClheOptions.Pog.BundleTemperature, ClheOptions.Pog.BundleAlpha, ClheOptions.Pog.ItemTemperature, ClheOptions.Pog.ItemAlpha, ClheOptions.Pog.ItemAugmentation));
        Assert.Equal((.05, .2, .5, .05, .1), (ClheOptions.Spotify.BundleRatio, ClheOptions.Spotify.BundleTemperature, ClheOptions.Spotify.BundleAlpha, ClheOptions.Spotify.ItemTemperature, ClheOptions.Spotify.ItemAlpha));
        Assert.Equal((.05, 1.0, 1.0, .2, .1), (ClheOptions.SpotifySparse.BundleRatio, ClheOptions.SpotifySparse.BundleTemperature, ClheOptions.SpotifySparse.BundleAlpha, ClheOptions.SpotifySparse.ItemTemperature, ClheOptions.SpotifySparse.ItemAlpha));
    }
}
