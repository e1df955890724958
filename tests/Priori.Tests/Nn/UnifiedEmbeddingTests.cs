using System.Globalization;
using Priori.Data;
using Priori.Nn;
using Priori.Tests.Data;

namespace Priori.Tests.Nn;

public class UnifiedEmbeddingTests
{
    private static readonly string[] s_values = [.. Enumerable.Range(0, 500).Select(i => i.ToString(CultureInfo.InvariantCulture))];

    private static UnifiedEmbeddingConfig Config(int tables = 1) => new UnifiedEmbeddingConfig(1000, 4, tables).AddFeature("user_id", chunks: 3).AddFeature("city").AddFeature("tags", chunks: 2, pooling: Pooling.Mean);

    [Fact]
    public void Values_have_the_rows_of_the_documented_hash()
    {
        UnifiedEmbeddingConfig config = Config();
        Assert.Equal([871, 486], config.Encode("user_id", "42")[..2]);
        Assert.Equal(config.Encode("user_id", "42"), config.Encode("user_id", 42));
        Assert.Equal([263], config.Encode("city", "42"));
        Assert.Equal(904, config.Encode("tags", "zürich")[0]);
        using var embedding = new UnifiedEmbedding(config);
        Assert.Equal(config.Encode("tags", "zürich"), embedding.Encode("tags", "zürich"));
        // A name is no part of the hash; the index is.
        Assert.Equal([871], new UnifiedEmbeddingConfig(1000, 4).AddFeature("renamed").Encode("renamed", "42"));
        Assert.Equal([263], new UnifiedEmbeddingConfig(1000, 4).AddFeature("first").AddFeature("renamed").Encode("renamed", "42"));
    }

    [Fact]
    public void One_table_holds_exactly_rows_times_width_parameters()
    {
        using var embedding = new UnifiedEmbedding(Config());
        Assert.Equal(4000, embedding.ParameterCount);
        Assert.Equal(["table.weight"], embedding.state_dict().Keys);
        Assert.InRange(embedding.Weight.abs().max().item<float>(), .0495f, .05f);
        using var banks = new UnifiedEmbedding(Config(tables: 2));
        Assert.Equal(8000, banks.ParameterCount);
    }

    [Fact]
    public void A_lookup_is_the_concatenation_of_its_rows_and_follows_the_rows_of_the_batch()
    {
        UnifiedEmbeddingConfig config = Config();
        using var embedding = new UnifiedEmbedding(config);
        string[][] columns = [["42", "7", "unseen"], ["zürich", "42", ""], ["a", "b", "42"]];
        Tensor codes = config.Encode(columns), output = embedding.forward(codes);
        Assert.Equal([3, 24], output.shape);
        for (int row = 0; row < 3; row++)
        {
            long[] rows = [.. config.Encode("user_id", columns[0][row]), .. config.Encode("city", columns[1][row]), .. config.Encode("tags", columns[2][row])];
            Assert.True(output[row].equal(cat([.. rows.Select(r => embedding.Weight[r])])).all().item<bool>());
        }
        Tensor order = tensor(new long[] { 2, 0, 1 });
        Assert.True(embedding.forward(codes[order]).equal(output[order]).all().item<bool>());
    }

    [Fact]
    public void A_row_that_two_features_hit_gets_both_gradients()
    {
        // A table of one row: every lookup of every feature hits it.
        var config = new UnifiedEmbeddingConfig(1, 3).AddFeature("a").AddFeature("b", chunks: 2);
        using var embedding = new UnifiedEmbedding(config);
        embedding.to(ScalarType.Float64);
        Tensor codes = config.Encode([["x", "y"], ["x", "z"]]), upstream = randn([2, 9], ScalarType.Float64, generator: new Generator(1));
        embedding.forward(codes).mul(upstream).sum().backward();
        Tensor gradient = embedding.Weight.grad!;
        Assert.True(gradient[0].allclose(upstream.view(6, 3).sum(dim: 0)));
        using var ungraphed = no_grad();
        for (int i = 0; i < 3; i++)
        {
            double Loss(double shift)
            {
                Tensor moved = embedding.Weight.clone();
                moved[0, i] += shift;
                return moved[codes].flatten(1).mul(upstream).sum().ToDouble();
            }
            Assert.Equal((Loss(1e-4) - Loss(-1e-4)) / 2e-4, gradient[0, i].ToDouble(), 1e-6);
        }
    }

    [Fact]
    public void One_feature_and_one_chunk_are_the_hashing_trick_bit_for_bit()
    {
        var options = new EmbeddingSchemeOptions { Features = [new("only", Vocabulary: 500)], Dim = 8, Parameters = 8 * 77 };
        manual_seed(3);
        using EmbeddingScheme shared = EmbeddingScheme.Create(options);
        manual_seed(3);
        using EmbeddingScheme separate = EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.HashSeparate });
        Assert.All(s_values, v => Assert.Equal(shared.Encode("only", v), separate.Encode("only", v)));
        Tensor codes = tensor(s_values.SelectMany(v => shared.Encode("only", v)).ToArray(), [500, 1], ScalarType.Int64);
        Assert.True(shared.forward(codes).equal(separate.forward(codes)).all().item<bool>());
    }

    [Fact]
    public void Chunks_are_dealt_to_the_tables_in_turn_over_all_features()
    {
        UnifiedEmbeddingConfig one = Config(), two = Config(tables: 2);
        foreach (string value in s_values)
        {
            long[] flat = [.. one.Encode("user_id", value), .. one.Encode("city", value), .. one.Encode("tags", value)];
            long[] dealt = [.. two.Encode("user_id", value), .. two.Encode("city", value), .. two.Encode("tags", value)];
            for (int chunk = 0; chunk < flat.Length; chunk++) Assert.Equal(chunk % 2 * 1000 + flat[chunk], dealt[chunk]);
        }
    }

    [Fact]
    public void A_saved_configuration_is_read_back_and_another_order_is_refused()
    {
        using var folder = new TemporaryFolder();
        string file = folder.File("features.json");
        Config(tables: 2).Save(file);
        UnifiedEmbeddingConfig read = UnifiedEmbeddingConfig.Load(file);
        read.RequireSame(Config(tables: 2));
        Assert.Equal(Config(tables: 2).Encode("tags", "a"), read.Encode("tags", "a"));
        Assert.Throws<ArgumentException>(() => read.RequireSame(Config()));
        var reordered = new UnifiedEmbeddingConfig(1000, 4, 2).AddFeature("city").AddFeature("user_id", 3).AddFeature("tags", 2, Pooling.Mean);
        Assert.Contains("order", Assert.Throws<ArgumentException>(() => reordered.RequireSame(read)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidDataException>(() => UnifiedEmbeddingConfig.Load(folder.File("other.json", File.ReadAllText(file).Replace(FeatureHash.Id, "siphash", StringComparison.Ordinal))));
        Assert.Throws<InvalidDataException>(() => UnifiedEmbeddingConfig.Load(folder.File("broken.json", "{")));
    }

    [Fact]
    public void Wrong_arguments_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new UnifiedEmbeddingConfig(0, 4));
        Assert.Throws<ArgumentOutOfRangeException>(() => Config().AddFeature("x", chunks: 0));
        Assert.Throws<ArgumentException>(() => Config().AddFeature("city"));
        Assert.Throws<ArgumentException>(() => Config().Encode("nothing", "1"));
        Assert.Throws<ArgumentException>(() => new UnifiedEmbedding(new UnifiedEmbeddingConfig(10, 4)));
        using var embedding = new UnifiedEmbedding(Config());
        Assert.Throws<ArgumentException>(() => embedding.forward(full([1, 6], 1000, ScalarType.Int64)));
        Assert.Throws<ArgumentException>(() => embedding.forward(full([1, 6], -1, ScalarType.Int64)));
        Assert.Throws<ArgumentException>(() => embedding.forward(zeros([1, 5], ScalarType.Int64)));
        EmbeddingSchemeOptions options = new() { Features = [new("a", Vocabulary: 100), new("b", Vocabulary: 2)], Dim = 8, Kind = EmbeddingSchemeKind.HashSeparate };
        Assert.Throws<ArgumentException>(() => EmbeddingScheme.Create(options with { Parameters = 8 })); // one row for two features
        Assert.Throws<ArgumentException>(() => EmbeddingScheme.Create(options with { Parameters = 80, Features = [new("a"), new("b")] }));
        Assert.Throws<ArgumentException>(() => EmbeddingScheme.Create(options with { Parameters = 80, Features = [new("a", Vocabulary: 1), new("a", Vocabulary: 1)] }));
        Assert.Throws<ArgumentException>(() => EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.Multiplexed, Parameters = 7 }));
        Assert.Throws<ArgumentException>(() => EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.Collisionless }));
    }

    [Fact]
    public void Separate_tables_have_their_share_and_the_same_budget()
    {
        // ML-100K's vocabularies at a tenth: 346 rows.
        EmbeddingFeature[] features = [new("user", Vocabulary: 943), new("movie", Vocabulary: 1642), new("age", Vocabulary: 61), new("gender", Vocabulary: 2), new("occupation", Vocabulary: 21), new("zip", Vocabulary: 795)];
        EmbeddingSchemeOptions options = new() { Features = features, Dim = 30, Parameters = 346 * 30 };
        using var separate = (SeparateEmbedding)EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.HashSeparate });
        Assert.Equal([94, 164, 6, 1, 2, 79], separate.TableRows); // by the formula in every table; their sum is 346
        using EmbeddingScheme shared = EmbeddingScheme.Create(options);
        Assert.Equal(10380, separate.ParameterCount);
        Assert.Equal(10380, shared.ParameterCount);
        using var odd = (SeparateEmbedding)EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.HashSeparate, Parameters = 11 * 30 });
        Assert.Equal(11, odd.TableRows.Sum());
        Assert.Equal(1, odd.TableRows[3]);
    }

    [Theory]
    [InlineData(EmbeddingSchemeKind.Collisionless, false)]
    [InlineData(EmbeddingSchemeKind.HashSeparate, false)]
    [InlineData(EmbeddingSchemeKind.Multiplexed, true)]
    [InlineData(EmbeddingSchemeKind.MultiHash, false)]
    [InlineData(EmbeddingSchemeKind.MultiHash, true)]
    [InlineData(EmbeddingSchemeKind.HashedNet, false)]
    [InlineData(EmbeddingSchemeKind.HashedNet, true)]
    [InlineData(EmbeddingSchemeKind.RobeZ, false)]
    [InlineData(EmbeddingSchemeKind.RobeZ, true)]
    [InlineData(EmbeddingSchemeKind.QuotientRemainder, false)]
    [InlineData(EmbeddingSchemeKind.QuotientRemainder, true)]
    public void Every_scheme_keeps_to_its_budget_and_its_regions(EmbeddingSchemeKind kind, bool multiplexed)
    {
        const int Dim = 10, Budget = 4000;
        using EmbeddingScheme scheme = EmbeddingScheme.Create(new EmbeddingSchemeOptions
        {
            Kind = kind,
            Multiplexed = multiplexed,
            Features = [new("a", Chunks: 2, Vocabulary: 500), new("b", Vocabulary: 250)],
            Dim = Dim,
            Parameters = Budget,
            BlockSize = 4,
            Vocabularies = [s_values, s_values[..250]],
        });
        Assert.Equal(kind == EmbeddingSchemeKind.Collisionless ? (2 * 500 + 250) * Dim : kind == EmbeddingSchemeKind.MultiHash ? Budget / 12 * 12 : Budget, scheme.ParameterCount);
        HashSet<long> a = [.. s_values.SelectMany(v => scheme.Encode("a", v))], b = [.. s_values[..250].SelectMany(v => scheme.Encode("b", v))];
        Assert.All(a.Concat(b), code => Assert.InRange(code, 0, scheme.CodeCount - 1));
        Assert.Equal(multiplexed, a.Overlaps(b));
        Assert.Equal(multiplexed, scheme.Multiplexed);

        Tensor codes = tensor(s_values[..250].SelectMany(v => (long[])[.. scheme.Encode("a", v), .. scheme.Encode("b", v)]).ToArray()).view(250, -1);
        Tensor output = scheme.forward(codes);
        Assert.Equal([250, 3 * Dim], output.shape);
        output.square().sum().backward();
        Assert.All(scheme.parameters(), p => Assert.True(p.grad!.abs().sum().item<float>() > 0));
        CollisionReport report = scheme.CollisionReport([s_values, s_values[..250]]);
        Assert.Equal(kind == EmbeddingSchemeKind.Collisionless ? 0 : 1, Math.Sign(report.Shared));
        Assert.Equal(multiplexed ? 1 : 0, Math.Sign(report.Features[1].SharedWithOthers));
    }

    [Fact]
    public void The_schemes_combine_rows_as_their_papers_say()
    {
        EmbeddingSchemeOptions options = new() { Features = [new("a"), new("b")], Dim = 6, Parameters = 240, BlockSize = 4 };
        using var robe = EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.RobeZ });
        long[] codes = robe.Encode("a", "x");
        Assert.Equal([codes[0], (codes[0] + 1) % 240, (codes[0] + 2) % 240, (codes[0] + 3) % 240, codes[4], (codes[4] + 1) % 240], codes);
        Assert.Contains(s_values, v => robe.Encode("a", v).AsSpan(0, 4).SequenceEqual([238L, 239, 0, 1])); // The array is circular.

        using var product = EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.QuotientRemainder });
        Tensor table = product.parameters().Single();
        codes = product.Encode("b", "x");
        Assert.True(product.Lookup(tensor(codes)).equal(table[codes[0]] * table[codes[1]]).all().item<bool>());
        Assert.InRange(codes[0], 0, 19);
        Assert.InRange(codes[1], 20, 39);

        using var many = EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.MultiHash, Hashes = 3 });
        codes = many.Encode("b", "x");
        Tensor rows = many.state_dict()["table.weight"], weights = many.state_dict()["importance.weight"];
        Assert.Equal(4, codes.Length);
        Tensor expected = Enumerable.Range(0, 3).Select(n => weights[codes[3], n] * rows[codes[n]]).Aggregate((x, y) => x + y);
        Assert.True(many.Lookup(tensor(codes)).allclose(expected));

        using var known = EmbeddingScheme.Create(options with { Kind = EmbeddingSchemeKind.Collisionless, Vocabularies = [["x"], ["x", "y"]] });
        Assert.Equal([2], known.Encode("b", "y"));
        Assert.Equal([-1], known.Encode("a", "y"));
        Assert.Equal(0, known.forward(tensor(new long[,] { { -1, -1 } })).abs().sum().item<float>());
    }

    [Fact]
    public void Collisions_are_counted_and_expected()
    {
        UnifiedEmbeddingConfig config = new UnifiedEmbeddingConfig(1000, 1).AddFeature("a").AddFeature("b");
        using var embedding = new UnifiedEmbedding(config);
        CollisionReport one = embedding.CollisionReport([s_values, []]);
        Assert.Equal(393, one.OccupiedCodes);
        Assert.Equal(393.62, CollisionReport.ExpectedOccupied(500, 1000), .01);
        Assert.Equal(0, one.SharedWithOthers);

        CollisionReport both = embedding.CollisionReport([s_values, s_values]);
        long[] a = [.. s_values.Select(v => config.Encode("a", v)[0])], b = [.. s_values.Select(v => config.Encode("b", v)[0])];
        double within = a.Count(r => a.Count(x => x == r) > 1) / 500.0, across = a.Count(b.Contains) / 500.0;
        Assert.Equal(within, both.Features[0].Shared, 12);
        Assert.Equal(within, both.Features[0].Indistinguishable, 12); // one chunk: the row is all there is
        Assert.Equal(across, both.Features[0].SharedWithOthers, 12);
        Assert.Equal(a.Concat(b).Distinct().Count(), both.OccupiedCodes);
        Assert.Equal(1000, both.Values);

        // Several chunks tell almost all values apart.
        using var chunked = new UnifiedEmbedding(new UnifiedEmbeddingConfig(1000, 1).AddFeature("a", chunks: 3));
        CollisionReport three = chunked.CollisionReport([s_values]);
        Assert.True(three.Shared > .3);
        Assert.Equal(0, three.Indistinguishable);
    }
}
