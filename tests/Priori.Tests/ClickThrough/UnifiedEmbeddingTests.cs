using System.Globalization;
using System.Text.Json;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Nn;

namespace Priori.Tests.ClickThrough;

public class UnifiedEmbeddingTests
{
    private static readonly string[][] s_vocabularies = [[.. Enumerable.Range(0, 40).Select(i => i.ToString(CultureInfo.InvariantCulture))], ["red", "blue"], ["x", "y", "z"]];

    [Fact]
    public void Block_cosines_compare_the_columns_of_each_feature()
    {
        // Three features of width 2, two outputs: blocks [[1,0],[0,1]], [[2,0],[0,2]] and [[0,1],[1,0]].
        Tensor weight = tensor(new float[,] { { 1, 0, 2, 0, 0, 1 }, { 0, 1, 0, 2, 1, 0 } });
        Tensor cosines = InterferenceReport.BlockCosines(weight, 2);
        Assert.True(cosines.allclose(tensor(new double[,] { { 1, 1, 0 }, { 1, 1, 0 }, { 0, 0, 1 } })));
        Assert.Equal(1 / 3.0, InterferenceReport.MeanAbsolute(cosines), 12);
        Assert.Equal(13, InterferenceReport.MeanSquaredNorm(tensor(new float[,] { { 3, 4 }, { 0, 1 } })), 12);
        Assert.Throws<ArgumentException>(() => InterferenceReport.BlockCosines(weight, 4));
    }

    [Theory]
    [InlineData(BackboneKind.Lr)]
    [InlineData(BackboneKind.Fm)]
    [InlineData(BackboneKind.Dnn)]
    [InlineData(BackboneKind.DeepFm)]
    [InlineData(BackboneKind.Dcn)]
    [InlineData(BackboneKind.DcnV2)]
    [InlineData(BackboneKind.Ipnn)]
    [InlineData(BackboneKind.Afn)]
    [InlineData(BackboneKind.ArmNet)]
    public void Every_backbone_learns_over_one_table_of_the_counted_size(BackboneKind kind)
    {
        manual_seed(1);
        // Two chunks of the user, a color, a bag of up to two tags, a number: five fields.
        var backbone = Backbone.Create(kind, new BackboneOptions { Fields = 5, EmbeddingDim = 6, MlpHidden = [16], Neurons = 8, Heads = 1 });
        var table = new UnifiedEmbedding(new UnifiedEmbeddingConfig(30, backbone.InputDim).AddFeature("user", 2).AddFeature("color").AddFeature("tags"));
        using var model = new ClickModel(new HashedFieldEmbedding(table, s_vocabularies, [1, 1, 2], numbers: 1), backbone);
        Assert.Equal(30 * backbone.InputDim, table.ParameterCount);
        Tensor users = randint(40, [256, 1], ScalarType.Int64), colors = randint(2, [256, 1], ScalarType.Int64), tags = randint(3, [256, 2], ScalarType.Int64);
        Tensor ids = cat([users, colors + 40, tags + 42, zeros([256, 1], ScalarType.Int64)], 1), values = cat([ones(256, 3), randint(2, [256, 1], ScalarType.Float32), randn(256, 1)], 1);
        Tensor target = colors.squeeze(1).to(ScalarType.Float32);
        using var adam = optim.Adam(model.parameters(), 0.02);
        double first = 0, last = 0;
        for (int step = 0; step < 60; step++)
        {
            using DisposeScope scope = NewDisposeScope();
            adam.zero_grad();
            Tensor loss = functional.binary_cross_entropy_with_logits(model.forward(ids, values).squeeze(1), target);
            loss.backward();
            adam.step();
            last = loss.item<float>();
            if (step == 0) first = last;
        }
        Assert.Equal([256, 1], model.forward(ids, values).shape);
        Assert.True(last < first * 0.5, $"{kind}: {first} to {last}");
    }

    [Fact]
    public void A_saved_model_scores_new_values_from_many_threads()
    {
        var schema = new HashedSchema([new("user", HashedColumnKind.Category), new("tags", HashedColumnKind.Bag), new("price", HashedColumnKind.Number, 1, 2)], new SchemaTarget("click", TargetKind.Classes, ["no", "yes"]));
        ClickModelDescription description = new UnifiedEmbeddingDescription
        {
            Task = TabularTask.Binary,
            Fields = ["user", "tags", "price"],
            Ids = 10,
            Kind = BackboneKind.DeepFm,
            Backbone = new BackboneOptions { Fields = 4, EmbeddingDim = 5, MlpHidden = [8] },
            Scheme = new EmbeddingSchemeOptions { Features = [new("user", 2), new("tags", Pooling: Pooling.Mean)], Parameters = 600 },
            Columns = schema,
        };
        var read = JsonSerializer.Deserialize<ClickModelDescription>(JsonSerializer.Serialize(description))!;
        var built = (ClickModel)description.Build();
        built.eval();
        using var scorer = new ClickScorer(read, built.state_dict());
        Assert.Equal("yes", scorer.Description.ClassName(1));
        Table Rows(int from) => new([TableColumn.Texts("user", Enumerable.Range(from, 50).Select(i => $"new {i}")), TableColumn.Texts("tags", Enumerable.Range(from, 50).Select(i => i % 3 == 0 ? null : "a|b|c")), TableColumn.Texts("price", Enumerable.Range(from, 50).Select(i => i.ToString(CultureInfo.InvariantCulture)))]);
        Parallel.For(0, 4, i =>
        {
            using DisposeScope scope = NewDisposeScope();
            HashedTable table = schema.Encode(Rows(i));
            float[] scored = scorer.Score(Rows(i)).data<float>().ToArray();
            lock (built)
            {
                ((HashedFieldEmbedding)built.Embedding).Bind(table.Vocabularies, table.Lengths);
                using var ungraphed = no_grad();
                float[] expected = built.forward(table.Ids, table.Values).sigmoid().reshape(-1).data<float>().ToArray();
                for (int row = 0; row < 50; row++) Assert.Equal(expected[row], scored[row], 1e-6f);
            }
        });
        Assert.Throws<InvalidOperationException>(() => (((UnifiedEmbeddingDescription)description) with { Hash = "siphash" }).Build());
        Assert.Throws<InvalidOperationException>(() => (((UnifiedEmbeddingDescription)description) with { Scheme = new EmbeddingSchemeOptions { Features = [new("tags"), new("user")], Parameters = 600 } }).Build());
    }

    [Fact]
    public void Training_turns_equal_weights_apart_and_further_in_a_smaller_table()
    {
        // Two features of 200 values each; the click depends on the first as a coin and on the second as another coin.
        double Cosine(long rows)
        {
            manual_seed(2);
            string[] values = [.. Enumerable.Range(0, 200).Select(i => i.ToString(CultureInfo.InvariantCulture))];
            var table = new UnifiedEmbedding(new UnifiedEmbeddingConfig(rows, 8).AddFeature("a").AddFeature("b"));
            var logistic = new BlockLogistic(new BackboneOptions { Fields = 2, EmbeddingDim = 8 });
            Assert.Equal(1, InterferenceReport.BlockCosines(logistic.Theta, 8)[0, 1].ToDouble(), 1e-6);
            using var model = new ClickModel(new HashedFieldEmbedding(table, [values, values]), logistic);
            Tensor coin = randn(2, 200), a = randint(200, [4000], ScalarType.Int64), b = randint(200, [4000], ScalarType.Int64);
            Tensor target = (coin[0].index_select(0, a) + coin[1].index_select(0, b)).mul(2).sigmoid().bernoulli(), ids = stack([a, b + 200], 1);
            using var sgd = optim.Adam(model.parameters(), 0.01);
            for (int step = 0; step < 300; step++)
            {
                using DisposeScope scope = NewDisposeScope();
                sgd.zero_grad();
                functional.binary_cross_entropy_with_logits(model.forward(ids, ones(4000, 2)).squeeze(1), target).backward();
                sgd.step();
            }
            return InterferenceReport.BlockCosines(logistic.Theta, 8)[0, 1].ToDouble();
        }
        double large = Cosine(4000), small = Cosine(40);
        Assert.True(small < large - 0.1 && small < 0.9, $"{large} and {small}");
    }
}
