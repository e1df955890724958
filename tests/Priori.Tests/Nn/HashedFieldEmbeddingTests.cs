using Priori.Data;
using Priori.Nn;
using Priori.Training;

namespace Priori.Tests.Nn;

public class HashedFieldEmbeddingTests
{
    private static readonly string[][] s_vocabularies = [["u1", "u2", "u3"], ["red", "blue"], ["x", "y", "z"]];

    private static UnifiedEmbeddingConfig Config(Pooling pooling = Pooling.Sum) => new UnifiedEmbeddingConfig(50, 4).AddFeature("user", 2).AddFeature("color").AddFeature("tags", 2, pooling);

    private static Tensor Rows(UnifiedEmbedding table, string feature, string value) => table.Weight.index_select(0, tensor(table.Encode(feature, value)));

    [Theory]
    [InlineData(Pooling.Sum)]
    [InlineData(Pooling.Mean)]
    public void Chunks_bags_and_numbers_are_fields(Pooling pooling)
    {
        var table = new UnifiedEmbedding(Config(pooling));
        using var embedding = new HashedFieldEmbedding(table, s_vocabularies, [1, 1, 3], numbers: 1);
        Assert.Equal(6, embedding.Fields); // 2 + 1 + 2 chunks and a number
        Tensor ids = tensor(new long[,] { { 1, 4, 5, 7, 6, 0 }, { 2, 3, 5, 5, 5, 0 } }), values = tensor(new float[,] { { 1, 1, 1, 1, 0, -.5f }, { 1, 1, 0, 0, 0, 2 } });
        Tensor output = embedding.forward(ids, values);
        Assert.Equal([2, 6, 4], output.shape);
        Tensor both = Rows(table, "tags", "x") + Rows(table, "tags", "z");
        Tensor number = embedding.state_dict()["numbers"][0];
        Tensor expected = cat([Rows(table, "user", "u2"), Rows(table, "color", "blue"), pooling == Pooling.Mean ? both / 2 : both, (number * -.5f).unsqueeze(0)]);
        Assert.True(output[0].allclose(expected));
        Assert.Equal(0, output[1].narrow(0, 3, 2).abs().sum().item<float>()); // an empty bag
        Assert.Equal(["numbers", "scheme.table.weight"], embedding.state_dict().Keys.Order());
    }

    [Fact]
    public void A_single_column_for_each_feature_is_a_plain_gather()
    {
        UnifiedEmbeddingConfig config = new UnifiedEmbeddingConfig(50, 4).AddFeature("user").AddFeature("color");
        var table = new UnifiedEmbedding(config);
        using var embedding = new HashedFieldEmbedding(table, s_vocabularies[..2]);
        Tensor output = embedding.forward(tensor(new long[,] { { 2, 3 }, { 0, 4 } }), ones(2, 2));
        Assert.True(output.flatten(1).equal(table.forward(config.Encode([["u3", "u1"], ["red", "blue"]]))).all().item<bool>());
    }

    [Theory]
    [InlineData(EmbeddingSchemeKind.MultiHash)]
    [InlineData(EmbeddingSchemeKind.RobeZ)]
    [InlineData(EmbeddingSchemeKind.HashedNet)]
    [InlineData(EmbeddingSchemeKind.QuotientRemainder)]
    public void Schemes_of_several_codes_are_looked_up_alike(EmbeddingSchemeKind kind)
    {
        EmbeddingScheme scheme = EmbeddingScheme.Create(new EmbeddingSchemeOptions { Kind = kind, Features = [new("user", 2), new("color")], Dim = 4, Parameters = 200 });
        using var embedding = new HashedFieldEmbedding(scheme, s_vocabularies[..2]);
        Tensor output = embedding.forward(tensor(new long[,] { { 2, 3 } }), ones(1, 2));
        Assert.True(output.flatten(1).allclose(scheme.forward(tensor((long[])[.. scheme.Encode("user", "u3"), .. scheme.Encode("color", "red")]).unsqueeze(0))));
    }

    [Fact]
    public void Other_rows_bring_their_own_vocabulary()
    {
        var table = new UnifiedEmbedding(Config());
        using var embedding = new HashedFieldEmbedding(table, s_vocabularies);
        Tensor before = embedding.forward(tensor(new long[,] { { 1, 4, 7 } }), ones(1, 3));
        embedding.Bind([["new", "u2"], ["blue"], ["q", "z"]]);
        Tensor after = embedding.forward(tensor(new long[,] { { 1, 2, 4 }, { 0, 2, 3 } }), ones(2, 3));
        Assert.True(before[0].equal(after[0]).all().item<bool>());
        Assert.True(after[1].narrow(0, 0, 2).equal(Rows(table, "user", "new")).all().item<bool>()); // a value that training never saw has rows
    }

    [Theory]
    [InlineData(EmbeddingSchemeKind.Multiplexed)]
    [InlineData(EmbeddingSchemeKind.RobeZ)]
    [InlineData(EmbeddingSchemeKind.MultiHash)]
    [InlineData(EmbeddingSchemeKind.Collisionless)]
    public void Rows_encoded_without_a_vocabulary_are_embedded_alike(EmbeddingSchemeKind kind)
    {
        var schema = new HashedSchema([new("user", HashedColumnKind.Category), new("color", HashedColumnKind.Category), new("tags", HashedColumnKind.Bag), new("x", HashedColumnKind.Number)], null);
        HashedTable table = schema.Encode(new Table([TableColumn.Texts("user", ["u1", "zoë"]), TableColumn.Texts("color", ["red", "red"]), TableColumn.Texts("tags", ["x|y|q", null]), TableColumn.Texts("x", ["2", "-1"])]));
        EmbeddingScheme scheme = EmbeddingScheme.Create(new EmbeddingSchemeOptions { Kind = kind, Features = [new("user", 2), new("color"), new("tags", 2, Pooling.Mean)], Dim = 4, Parameters = 200, Vocabularies = s_vocabularies });
        using var embedding = new HashedFieldEmbedding(scheme, numbers: 1);
        var (ids, values) = embedding.Encode(table);
        Tensor coded = embedding.forward(ids, values);
        Assert.Throws<ArgumentException>(() => embedding.forward(ids + 100_000, values));
        embedding.Bind(table.Vocabularies, table.Lengths);
        Assert.True(embedding.forward(table.Ids, table.Values).allclose(coded, 1e-6));
        Assert.Equal([2, 6, 4], coded.shape);
        if (kind == EmbeddingSchemeKind.Collisionless) Assert.Equal(0, coded[1].narrow(0, 0, 2).abs().sum().item<float>()); // "zoë" is not in its vocabulary
    }

    [Fact]
    public void Sparse_gradients_touch_the_rows_of_the_batch_alone()
    {
        UnifiedEmbeddingConfig config = new UnifiedEmbeddingConfig(1000, 4).AddFeature("user", 2).AddFeature("color");
        using var table = new UnifiedEmbedding(config, sparse: true);
        using var optimizer = new RowwiseAdagrad(table.parameters());
        Tensor before = table.Weight.detach().clone(), codes = config.Encode([["a", "b"], ["red", "red"]]);
        table.forward(codes).square().sum().backward();
        optimizer.step();
        HashSet<long> touched = [.. codes.reshape(-1).data<long>()];
        Tensor changed = table.Weight.ne(before).any(1);
        Assert.Equal(touched.Order(), Enumerable.Range(0, 1000).Select(r => (long)r).Where(r => changed[r].item<bool>()));
    }

    [Fact]
    public void Wrong_input_is_refused()
    {
        using var embedding = new HashedFieldEmbedding(new UnifiedEmbedding(Config()), s_vocabularies);
        Assert.Throws<ArgumentException>(() => embedding.forward(zeros([1, 3], ScalarType.Int64), ones(1, 3))); // id 0 is a user, not a color
        Assert.Throws<ArgumentException>(() => embedding.forward(tensor(new long[,] { { 0, 3, 8 } }), ones(1, 3)));
        Assert.Throws<ArgumentException>(() => embedding.forward(tensor(new long[,] { { 0, 3 } }), ones(1, 2)));
        Assert.Throws<ArgumentException>(() => embedding.forward(tensor(new long[,] { { 0, 3, 5 } }), full(1, 3, float.NaN)));
        Assert.Throws<ArgumentException>(() => embedding.Bind(s_vocabularies[..2]));
        Assert.Throws<ArgumentOutOfRangeException>(() => embedding.Bind(s_vocabularies, [1, 1, 0]));
    }
}
