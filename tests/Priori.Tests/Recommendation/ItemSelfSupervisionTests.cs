using MathNet.Numerics.Distributions;
using Priori.Data;
using Priori.Nn;
using Priori.Numerics;
using Priori.Recommendation;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Recommendation;

public class ItemSelfSupervisionTests
{
    private static readonly double[,] Information = Symmetric([
        [5, 1, 3, 2, .5, .1],
        [1, 5, .2, .3, 2, .4],
        [3, .2, 5, .1, .6, 2],
        [2, .3, .1, 5, .7, .8],
        [.5, 2, .6, .7, 5, 3],
        [.1, .4, 2, .8, 3, 5]]);

    [Fact]
    public void Correlated_masking_takes_the_seed_and_its_most_informative_features_and_the_views_are_complements()
    {
        var policy = new CorrelatedFeatureMask(Information);
        Assert.Equal([0, 2, 3, 1], policy.MaskedWith[0]);
        Assert.Equal([5, 4, 2, 3], policy.MaskedWith[5]);
        var random = new SplitMix64(1);
        var seen = new HashSet<string>();
        for (int i = 0; i < 300; i++)
        {
            (bool[] a, bool[] b) = policy.Draw(random);
            Assert.Equal(4, a.Count(m => m));
            Assert.All(a.Zip(b), m => Assert.NotEqual(m.First, m.Second));
            Assert.Contains(policy.MaskedWith.Values, set => set.Order().SequenceEqual(Enumerable.Range(0, 6).Where(f => a[f])));
            seen.Add(string.Concat(a));
        }
        Assert.Equal(policy.MaskedWith.Values.Select(s => string.Join(',', s.Order())).Distinct().Count(), seen.Count);
    }

    [Fact]
    public void The_id_is_masked_in_exactly_one_view_though_it_informs_about_everything()
    {
        double[,] withId = (double[,])Information.Clone();
        for (int f = 1; f < 6; f++) withId[0, f] = withId[f, 0] = 4;
        IFeatureMaskPolicy[] policies = [new CorrelatedFeatureMask(withId, idFeature: 0), new RandomComplementaryMask(6), new RandomIndependentMask(6, idFeature: 0)];
        Assert.All(((CorrelatedFeatureMask)policies[0]).MaskedWith.Values, set => Assert.DoesNotContain(0, set));
        Assert.All(((CorrelatedFeatureMask)policies[0]).MaskedWith.Values, set => Assert.Equal(3, set.Length));
        foreach (IFeatureMaskPolicy policy in policies)
        {
            var random = new SplitMix64(2);
            int inFirst = 0;
            for (int i = 0; i < 400; i++)
            {
                (bool[] a, bool[] b) = policy.Draw(random);
                Assert.NotEqual(a[0], b[0]);
                inFirst += a[0] ? 1 : 0;
            }
            Assert.InRange(inFirst, 150, 250);
        }
    }

    [Fact]
    public void Random_masks_are_halves_complementary_or_independent()
    {
        var random = new SplitMix64(3);
        var complementary = new RandomComplementaryMask(6);
        var independent = new RandomIndependentMask(6);
        int overlaps = 0;
        for (int i = 0; i < 200; i++)
        {
            (bool[] a, bool[] b) = complementary.Draw(random);
            Assert.Equal(3, a.Count(m => m));
            Assert.All(a.Zip(b), m => Assert.NotEqual(m.First, m.Second));
            (a, b) = independent.Draw(random);
            Assert.Equal((3, 3), (a.Count(m => m), b.Count(m => m)));
            overlaps += a.Zip(b).Count(m => m.First && m.Second);
        }
        Assert.Equal(1.5, overlaps / 200.0, .2); // 6 features, each masked in both views with probability 1/4
    }

    [Fact]
    public void Wrong_arguments_are_refused()
    {
        Assert.Throws<ArgumentException>(() => new RandomComplementaryMask(1));
        Assert.Throws<ArgumentException>(() => new RandomIndependentMask(2, idFeature: 0));
        Assert.Throws<ArgumentException>(() => new CorrelatedFeatureMask(new double[1, 1]));
        Assert.Throws<ArgumentException>(() => new CorrelatedFeatureMask(Information, n: 5));
        Assert.Throws<ArgumentException>(() => new CorrelatedFeatureMask(Information, idFeature: 6));
        Assert.Equal([0], new CorrelatedFeatureMask(new double[2, 2]).MaskedWith[0]); // the other feature is left
        var (schema, items) = Small();
        using TwoTowerModel model = Model(schema, items: schema);
        Assert.Throws<ArgumentOutOfRangeException>(() => new ItemContrastiveTask(model.Item, new NoMask(4), temperature: 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => new ItemContrastiveTask(model.Item, new NoMask(4), valueDropout: 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new TwoTowerModel(model.Query, model.Item, temperature: -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new TwoTowerLearner(model, items, items, null, new TwoTowerLearnerOptions { Alpha = -.1 }));
        Assert.Throws<ArgumentException>(() => new TwoTowerLearner(model, items, items, null, new TwoTowerLearnerOptions { TaskBatchSize = 1000 }));
        Assert.Throws<ArgumentException>(() => new TwoTowerLearner(model, items, items, null, new TwoTowerLearnerOptions { LogQ = zeros(3) }));
        Assert.Throws<ArgumentException>(() => ItemContrastiveTask.Sample(10, 11, new SplitMix64(0)));
    }

    [Fact]
    public void The_task_samples_the_catalogue_uniformly_where_the_interactions_do_not()
    {
        const int Items = 200, Batch = 50, Draws = 100_000;
        var random = new SplitMix64(5);
        double[] uniform = new double[Items], popular = new double[Items];
        for (int i = 0; i < Draws / Batch; i++)
        {
            long[] batch = ItemContrastiveTask.Sample(Items, Batch, random).data<long>().ToArray();
            Assert.Equal(Batch, batch.Distinct().Count());
            foreach (long item in batch) uniform[item]++;
        }
        ItemPairsData log = ItemPairs.Generate(0, Items, 1000);
        for (int i = 0; i < Draws; i++) popular[log.Pairs[random.Next(1000), 1].item<long>()]++;
        double threshold = ChiSquared.InvCDF(Items - 1, 1 - 1e-3);
        double Statistic(double[] counts) => counts.Sum(c => (c - Draws / (double)Items) * (c - Draws / (double)Items)) * Items / Draws;
        Assert.True(Statistic(uniform) < threshold);
        Assert.True(Statistic(popular) > threshold);
        // Every item has its turn at every place of the catalogue, the last one included.
        Assert.All(uniform, c => Assert.InRange(c, 380, 620));
    }

    [Fact]
    public void With_weight_zero_the_towers_are_those_without_the_task_to_the_bit()
    {
        Dictionary<string, Tensor> plain = Trained(alpha: null), zero = Trained(alpha: 0), some = Trained(alpha: .3);
        foreach ((string name, Tensor weight) in plain)
        {
            Assert.True(weight.eq(zero[name]).all().item<bool>(), name);
            if (name.Contains("table", StringComparison.Ordinal)) Assert.False(weight.eq(some[name]).all().item<bool>(), name);
        }

        static Dictionary<string, Tensor> Trained(double? alpha)
        {
            var (schema, items) = Small();
            Seeds.Set(7);
            TwoTowerModel model = Model(schema, schema);
            ItemContrastiveTask? task = alpha is null ? null : new ItemContrastiveTask(model.Item, new RandomComplementaryMask(schema.Features.Count));
            using var learner = new TwoTowerLearner(model, items, items, task, new TwoTowerLearnerOptions { Alpha = alpha ?? 0, FeatureDropout = .2 });
            new Trainer(new TrainerOptions { Epochs = 2, BatchSize = 16, Seed = 1 }).Fit(learner, new TensorSource(arange(60, ScalarType.Int64), arange(60, ScalarType.Int64).flip(0)));
            return model.state_dict().ToDictionary(p => p.Key, p => p.Value.clone());
        }
    }

    [Fact]
    public void The_task_has_no_gradient_for_tables_of_queries_only()
    {
        var (schema, items) = Small();
        var queries = new ItemFeatureSchema([new ItemFeature("user", ItemFeatureKind.Categorical) { Vocabulary = ["a", "b"] }]);
        using TwoTowerModel model = Model(queries, schema);
        new ItemContrastiveTask(model.Item, new RandomComplementaryMask(4)).Loss(items, new SplitMix64(0)).backward();
        Assert.All(model.Query.parameters(), p => Assert.True(p.grad is null || p.grad.count_nonzero().item<long>() == 0));
        Assert.All(model.Item.parameters(), p => Assert.True(p.grad is not null && p.grad.count_nonzero().item<long>() > 0));
    }

    [Fact]
    public void A_masked_feature_is_its_mask_embedding_for_every_value_and_so_is_a_missing_one()
    {
        var (schema, items) = Small();
        foreach (MaskEmbedding kind in Enum.GetValues<MaskEmbedding>())
        {
            using var embedding = new FeatureEmbedding(schema, 4, kind);
            int learned = embedding.parameters().Count(p => p.shape.SequenceEqual([4, 4]));
            Assert.Equal(kind == MaskEmbedding.Learned ? 1 : 0, learned);
            Tensor mask = embedding.state_dict()["mask"];
            if (kind == MaskEmbedding.Learned) using (no_grad()) mask.copy_(randn(4, 4));
            Tensor all = embedding.forward(items.Ids, items.Values), masked = embedding.Embed(items, tensor(new[] { false, true, false, true }));
            Assert.True(masked[.., 1].eq(mask[1]).all().item<bool>() && masked[.., 3].eq(mask[3]).all().item<bool>());
            Assert.True(masked[.., 0].eq(all[.., 0]).all().item<bool>() && masked[.., 2].eq(all[.., 2]).all().item<bool>());
            Tensor missing = embedding.forward(items.Ids, zeros_like(items.Values));
            Assert.True(missing[.., 0].eq(mask[0]).all().item<bool>() && missing[.., 2].eq(mask[2]).all().item<bool>());
            Assert.Equal(0, missing[.., 3].abs().max().item<float>()); // a missing number is the mean
        }
    }

    [Fact]
    public void A_multi_valued_feature_is_the_mean_or_the_sum_of_its_values()
    {
        Table table = Catalogue();
        ItemFeatureSchema mean = ItemFeatureSchema.Learn(table, new ItemFeatureOptions { Id = "item" });
        ItemFeatureSchema sum = ItemFeatureSchema.Learn(table, new ItemFeatureOptions { Id = "item", Pooling = Pooling.Sum });
        Assert.Equal(ItemFeatureKind.MultiValued, mean.Features[2].Kind);
        Assert.Equal(["drama", "noir", "war"], mean.Features[2].Vocabulary);
        Assert.Equal(3, mean.Features[2].Slots);
        Seeds.Set(1);
        using var first = new FeatureEmbedding(mean, 4);
        Seeds.Set(1);
        using var second = new FeatureEmbedding(sum, 4);
        Tensor weight = first.state_dict()["table.table.weight"];
        ItemFeatures items = mean.Encode(table);
        int offset = mean.Offsets[2];
        Tensor a = first.Embed(items), b = second.Embed(sum.Encode(table));
        Assert.True(a[0, 2].allclose((weight[offset] + weight[offset + 2]) / 2));
        Assert.True(b[0, 2].allclose(weight[offset] + weight[offset + 2]));
        Assert.True(a[1, 2].allclose(weight.narrow(0, offset, 3).mean([0])));
        Assert.True(a[2, 2].eq(first.state_dict()["mask"][2]).all().item<bool>()); // no value
    }

    [Fact]
    public void Hashed_tables_serve_the_towers_as_well()
    {
        var (schema, items) = Small();
        ItemFeature[] categories = [.. schema.Features.Where(f => f.Kind != ItemFeatureKind.Numeric)];
        var config = new UnifiedEmbeddingConfig(rows: 16, chunkDim: 4);
        foreach (ItemFeature feature in categories) config.AddFeature(feature.Name);
        var hashed = new HashedFieldEmbedding(new UnifiedEmbedding(config), [.. categories.Select(f => f.Vocabulary)], [.. categories.Select(f => f.Slots)], numbers: schema.Features.Count - categories.Length);
        using var tower = new FeatureTower(new FeatureEmbedding(schema, 4, table: hashed), [8], 6);
        Assert.Equal([60, 4, 4], tower.Embedding.forward(items.Ids, items.Values).shape);
        new ItemContrastiveTask(tower, new RandomComplementaryMask(4)).Loss(items, new SplitMix64(0)).backward();
        Assert.All(tower.parameters(), p => Assert.True(p.grad!.count_nonzero().item<long>() > 0));
    }

    [Fact]
    public void Dropped_values_leave_at_least_one_and_touch_nothing_else()
    {
        var (schema, items) = Small();
        Seeds.Set(4);
        Tensor before = items.Values.clone();
        ItemFeatures dropped = schema.DropValues(items, .7);
        Assert.True(before.eq(items.Values).all().item<bool>());
        int start = schema.FirstSlots[2], slots = schema.Features[2].Slots;
        Tensor kept = dropped.Values.narrow(1, start, slots), had = items.Values.narrow(1, start, slots);
        Tensor keptCount = kept.ne(0).sum(1), hadCount = had.ne(0).sum(1);
        Assert.True(keptCount.ge(1).eq(hadCount.ge(1)).all().item<bool>());
        Assert.True(kept.ne(0).logical_and(had.eq(0)).any().item<bool>() is false);
        Assert.True(kept.sum(1).allclose(had.sum(1)));
        Assert.InRange(keptCount.sum().item<long>() / (double)hadCount.sum().item<long>(), .35, .65);
        Assert.True(dropped.Values.narrow(1, 0, start).eq(items.Values.narrow(1, 0, start)).all().item<bool>());
        Assert.Same(items, schema.DropValues(items, 0));
    }

    [Fact]
    public void A_schema_encodes_new_items_with_unknown_and_missing_values_and_survives_json()
    {
        Table table = Catalogue();
        ItemFeatureSchema schema = ItemFeatureSchema.Learn(table, new ItemFeatureOptions { Id = "item", Kinds = new Dictionary<string, ItemFeatureKind> { ["price"] = ItemFeatureKind.Numeric } });
        schema = System.Text.Json.JsonSerializer.Deserialize<ItemFeatureSchema>(System.Text.Json.JsonSerializer.Serialize(schema))!;
        Assert.Equal(0, schema.IdFeature);
        ItemFeatures fresh = schema.Encode(new Table([
            TableColumn.Texts("item", ["new"]), TableColumn.Texts("genres", ["war|opera"]), TableColumn.Texts("price", [null]), TableColumn.Texts("maker", ["?x"]), TableColumn.Texts("extra", ["y"])]));
        float[] values = fresh.Values.data<float>().ToArray();
        Assert.Equal([0, 0, 1, 0, 0, 0], values);
        Assert.Equal(schema.Offsets[2] + 2, fresh.Ids[0, 2].item<long>());
        double[] prices = [.. schema.Encode(table).Values[.., ^1].to(ScalarType.Float64).data<double>()];
        Assert.Equal(0, prices.Average(), 1e-6);
        Tensor codes = schema.Codes(schema.Encode(table));
        Assert.Equal([4, 4], codes.shape);
        Assert.True(codes[0, 2].Equals(codes[3, 2])); // the same set of genres in another order
        Assert.False(codes[0, 2].Equals(codes[1, 2]));
        Assert.Equal(-1, codes[3, 1].item<long>());
        Assert.Throws<BadInputException>(() => schema.Encode(new Table([TableColumn.Texts("item", ["new"])])));
        Assert.Throws<BadInputException>(() => ItemFeatureSchema.Learn(table, new ItemFeatureOptions { Id = "sku" }));
        Assert.Throws<BadInputException>(() => ItemFeatureSchema.Learn(new Table([TableColumn.Texts("a", [null, null])])));
        Assert.Throws<BadInputException>(() => ItemFeatureSchema.Learn(table, new ItemFeatureOptions { Kinds = new Dictionary<string, ItemFeatureKind> { ["maker"] = ItemFeatureKind.Numeric } }));
    }

    [Fact]
    public void Spreading_out_compares_an_item_with_itself_and_the_towers_may_share_everything()
    {
        var (schema, items) = Small();
        using TwoTowerModel model = Model(schema, schema);
        Tensor z = model.Item.Vectors(items);
        double expected = (z.matmul(z.t()) / .1).logsumexp(1).mean().item<float>() - 10;
        Assert.Equal(expected, new ItemContrastiveTask(model.Item, new NoMask(4), valueDropout: 0).Loss(items, new SplitMix64(0)).item<float>(), 1e-4);
        Assert.True(z.norm(1).allclose(ones(60)));
        // Shared tables are one parameter of the model, trained once a step.
        Assert.Equal(model.parameters().Count(), model.parameters().Select(p => p.Handle).Distinct().Count());
        Assert.Equal(1, model.parameters().Count(p => p.shape.SequenceEqual([schema.Ids, 4])));
    }

    [Fact]
    public void Matching_views_stays_hard_when_the_id_is_masked_and_is_trivial_when_it_is_not()
    {
        ItemPairsData data = ItemPairs.Generate(0, 300, 100);
        Table table = data.Items();
        ItemFeatureSchema schema = ItemFeatureSchema.Learn(table, new ItemFeatureOptions { Id = "item" });
        ItemFeatures items = schema.Encode(table);
        double[,] information = MutualInformation.Matrix(schema.Codes(items));
        Assert.True(LossAfter200(new CorrelatedFeatureMask(information, idFeature: 0)) > .05);
        Assert.True(LossAfter200(new IdInBoth()) < .05);

        double LossAfter200(IFeatureMaskPolicy policy)
        {
            Seeds.Set(0);
            using var tower = new FeatureTower(new FeatureEmbedding(schema, 16), [64], 32);
            var task = new ItemContrastiveTask(tower, policy);
            using var adam = optim.Adam(tower.parameters(), 1e-2);
            var random = new SplitMix64(0);
            double loss = 0;
            for (int step = 0; step < 200; step++)
            {
                using var scope = NewDisposeScope();
                Tensor value = task.Loss(items.Select(ItemContrastiveTask.Sample(300, 64, random)), random);
                adam.zero_grad();
                value.backward();
                adam.step();
                loss = value.item<float>();
            }
            return loss;
        }
    }

    /// <summary>The toy: the id is visible in both views.</summary>
    private sealed class IdInBoth : IFeatureMaskPolicy
    {
        public (bool[] MaskA, bool[] MaskB) Draw(SplitMix64 random) => ([false, true, true, false, false, false], [false, false, false, true, true, true]);
    }

    private static TwoTowerModel Model(ItemFeatureSchema queries, ItemFeatureSchema items)
    {
        var embedding = new FeatureEmbedding(items, 4);
        return new TwoTowerModel(new FeatureTower(ReferenceEquals(queries, items) ? embedding : new FeatureEmbedding(queries, 4), [8], 6), new FeatureTower(embedding, [8], 6));
    }

    private static (ItemFeatureSchema Schema, ItemFeatures Items) Small()
    {
        var random = new SplitMix64(11);
        string[] genres = ["drama", "noir", "war", "comedy", "opera"];
        Table table = new([
            TableColumn.Texts("item", Enumerable.Range(0, 60).Select(i => $"i{i}")),
            TableColumn.Texts("maker", Enumerable.Range(0, 60).Select(_ => $"m{random.Next(6)}")),
            TableColumn.Texts("genres", Enumerable.Range(0, 60).Select(_ => string.Join('|', genres.Where(_ => random.Next(2) == 0).DefaultIfEmpty("war")))),
            TableColumn.Numbers("price", [.. Enumerable.Range(0, 60).Select(_ => random.NextDouble())])]);
        ItemFeatureSchema schema = ItemFeatureSchema.Learn(table, new ItemFeatureOptions { Id = "item" });
        return (schema, schema.Encode(table));
    }

    private static Table Catalogue() => new([
        TableColumn.Texts("item", ["a", "b", "c", "d"]), TableColumn.Texts("maker", ["x", "y", "x", null]),
        TableColumn.Texts("genres", ["war|drama", "noir | war|drama", null, "drama|war"]), TableColumn.Texts("price", ["1", "2", "4", "8.5"])]);

    private static double[,] Symmetric(double[][] rows)
    {
        var matrix = new double[rows.Length, rows.Length];
        for (int i = 0; i < rows.Length; i++)
            for (int j = 0; j < rows.Length; j++) matrix[i, j] = rows[i][j];
        return matrix;
    }
}
