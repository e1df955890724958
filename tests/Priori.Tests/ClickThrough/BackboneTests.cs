using System.Text.Json;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Nn;

namespace Priori.Tests.ClickThrough;

public class BackboneTests
{
    private static readonly BackboneOptions s_options = new() { Fields = 4, EmbeddingDim = 5, MlpHidden = [6, 7], Neurons = 3, Heads = 2, CrossLayers = 2 };

    public static TheoryData<BackboneKind, long> Kinds => [.. Enum.GetValues<BackboneKind>().SelectMany(kind => new[] { (kind, 1L), (kind, 3L) })];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Every_backbone_maps_rows_to_logits_and_learns_all_its_parameters(BackboneKind kind, long outputs)
    {
        manual_seed(1);
        using ClickModel model = ClickModel.Create(kind, s_options with { Outputs = outputs, Heads = 1 }, ids: 20);
        var (ids, values) = Rows(8);
        Tensor before = values.clone(), logits = model.forward(ids, values);
        Assert.Equal([8, outputs], logits.shape);
        Assert.True(values.equal(before).all().item<bool>());
        logits.square().sum().backward();
        Assert.All(model.named_parameters(), p => Assert.True(p.parameter.grad is not null, p.name));
        model.eval();
        Assert.True((model.forward(ids, values)[3] - model.forward(ids.narrow(0, 3, 1), values.narrow(0, 3, 1))[0]).abs().max().item<float>() < 1e-5f);
        Assert.Throws<ArgumentException>(() => model.Backbone.forward(zeros(8, 4, model.Backbone.InputDim + 1)));
        Assert.Throws<ArgumentException>(() => model.forward(ids + 20, values));
    }

    [Fact]
    public void Factorization_machine_and_logistic_regression_match_their_formulas()
    {
        Tensor e = randn([6, 4, 2 * 5 + 2], ScalarType.Float64, generator: new Generator(3));
        using var fm = new FactorizationMachine(s_options with { Outputs = 2 });
        using var pairsOnly = new FactorizationMachine(s_options with { Outputs = 2, FirstOrder = false });
        fm.to(ScalarType.Float64);
        Set(fm, "bias", tensor(new[] { .3, -.4 }));
        Tensor logits = fm.forward(e), pairs = pairsOnly.forward(e.narrow(2, 0, 10));
        for (int row = 0; row < 6; row++)
            for (int output = 0; output < 2; output++)
            {
                double expected = 0;
                for (int i = 0; i < 4; i++)
                    for (int j = 0; j < i; j++) expected += e[row, i].view(-1).narrow(0, output * 5, 5).dot(e[row, j].narrow(0, output * 5, 5)).ToDouble();
                Assert.Equal(expected, pairs[row, output].ToDouble(), 1e-10);
                double first = Enumerable.Range(0, 4).Sum(i => e[row, i, 10 + output].ToDouble());
                Assert.Equal(expected + first + (output == 0 ? .3 : -.4), logits[row, output].ToDouble(), 1e-10);
            }
        using var lr = new LogisticRegression(s_options with { Outputs = 2 });
        lr.to(ScalarType.Float64);
        Assert.True(lr.forward(e.narrow(2, 0, 2)).allclose(e.narrow(2, 0, 2).sum(1)));
    }

    [Fact]
    public void Factorization_machine_on_three_vectors()
    {
        // Rows [1, 2], [3, -1], [.5, .5]: 1 + 1.5 + 1 = 3.5.
        using var fm = new FactorizationMachine(new BackboneOptions { Fields = 3, EmbeddingDim = 2, FirstOrder = false });
        Tensor e = tensor(new[] { 1f, 2, 3, -1, .5f, .5f }).view(1, 3, 2);
        Assert.Equal(3.5, fm.forward(e).ToDouble(), 6);
    }

    [Fact]
    public void Cross_layers_match_their_formulas()
    {
        Tensor x0 = tensor(new[] { 1.0, 2 }).view(1, 2), x = tensor(new[] { 3.0, -1 }).view(1, 2);
        using var matrix = new CrossLayer(2);
        matrix.to(ScalarType.Float64);
        Set(matrix, "weight.weight", tensor(new[] { 1.0, 2, 0, -1 }).view(2, 2));
        Set(matrix, "weight.bias", tensor(new[] { .5, -.5 }));
        // W x + b = [1.5, .5]; x0 * that = [1.5, 1]; + x.
        Assert.True(matrix.forward(x0, x).allclose(tensor(new[] { 4.5, 0 }).view(1, 2)));
        using var vector = new CrossLayer(2, matrix: false);
        vector.to(ScalarType.Float64);
        Set(vector, "weight.weight", tensor(new[] { 1.0, 2 }).view(1, 2));
        Set(vector, "bias", tensor(new[] { .5, -.5 }));
        // w . x = 1; x0 * 1 + b + x = [4.5, .5].
        Assert.True(vector.forward(x0, x).allclose(tensor(new[] { 4.5, .5 }).view(1, 2)));
    }

    [Fact]
    public void Deep_models_are_the_sum_and_the_concatenation_of_their_parts()
    {
        manual_seed(2);
        BackboneOptions options = s_options with { Normalization = Normalization.None };
        using var deepFm = new DeepFm(options);
        Tensor e = randn(6, 4, 6);
        var parts = deepFm.named_children().ToDictionary(c => c.name, c => c.module);
        Assert.True(deepFm.forward(e).allclose(((FactorizationMachine)parts["fm"]).forward(e) + ((Mlp)parts["mlp"]).forward(e.narrow(2, 0, 5))));
        using var ipnn = new Ipnn(options);
        Tensor x = randn(6, 4, 5);
        Tensor inner = stack([.. Enumerable.Range(0, 4).SelectMany(i => Enumerable.Range(i + 1, 3 - i).Select(j => (x.select(1, i) * x.select(1, j)).sum(1)))], 1);
        Assert.Equal([6, 6], inner.shape);
        Assert.True(ipnn.forward(x).allclose(((Mlp)ipnn.named_children().Single().module).forward(cat([x.flatten(1), inner], 1)), 1e-4, 1e-6));
        Assert.Throws<ArgumentOutOfRangeException>(() => new Ipnn(options with { Fields = 1 }));
    }

    [Fact]
    public void Afn_uses_embeddings_positive_and_lets_them_leave_zero()
    {
        manual_seed(4);
        using var afn = new Afn(s_options);
        afn.eval();
        Tensor e = randn(6, 4, 5);
        Assert.True(afn.forward(e).allclose(afn.forward(-e)));
        Assert.True(afn.forward(e * 0).allclose(afn.forward(full_like(e, 1e-4f)), 1e-4, 1e-5));
        Tensor tiny = full([6, 4, 5], 1e-5f).requires_grad_();
        afn.forward(tiny).sum().backward();
        Assert.True(tiny.grad!.abs().max().item<float>() > 0);
    }

    [Fact]
    public void Values_are_used_clamped_where_the_table_says_so()
    {
        manual_seed(5);
        var (ids, values) = Rows(8);
        values[0, 0] = 5;
        values[1, 1] = -3;
        using ClickModel clamped = ClickModel.Create(BackboneKind.Dnn, s_options, ids: 20, clampValues: true), free = ClickModel.Create(BackboneKind.Dnn, s_options, ids: 20);
        clamped.eval();
        free.eval();
        Assert.True(clamped.forward(ids, values).allclose(clamped.forward(ids, values.clamp(1e-3, 1))));
        Assert.False(free.forward(ids, values).allclose(free.forward(ids, values.clamp(1e-3, 1))));
    }

    [Fact]
    public void A_saved_model_is_rebuilt_from_its_description_and_scores_the_same_from_many_threads()
    {
        manual_seed(6);
        ClickModelDescription description = new BackboneDescription
        {
            Kind = BackboneKind.ArmNet, Backbone = s_options, Ids = 20, Task = TabularTask.Binary, Fields = ["a", "b", "c", "d"], Validation = .5, ClampValues = true,
        };
        using Module<Tensor, Tensor, Tensor> model = description.Build();
        var read = JsonSerializer.Deserialize<ClickModelDescription>(JsonSerializer.Serialize(description))!;
        Assert.Equal(BackboneKind.ArmNet, Assert.IsType<BackboneDescription>(read).Kind);
        using var scorer = new ClickScorer(read, model.state_dict());
        var (ids, values) = Rows(1000);
        Tensor expected = TabularTask.Binary.Predict(TabularLearner.Logits(model, ids, values));
        Tensor[] scores = new Tensor[8];
        Parallel.For(0, scores.Length, i => scores[i] = scorer.Score(ids, values));
        Assert.All(scores, s => Assert.True(s.equal(expected).all().item<bool>()));
        using ClickModel other = ClickModel.Create(BackboneKind.Dnn, s_options, ids: 20);
        Assert.Throws<ArgumentException>(() => new ClickScorer(read, other.state_dict()));
        Assert.Throws<InvalidOperationException>(() => scorer.Score(new Table([TableColumn.Texts("a", ["x"])])));
    }

    private static (Tensor Ids, Tensor Values) Rows(long count)
    {
        var generator = new Generator(11);
        return (randint(20, [count, 4], ScalarType.Int64, generator: generator), rand([count, 4], generator: generator));
    }

    private static void Set(Module model, string name, Tensor value)
    {
        using var ungraphed = no_grad();
        model.named_parameters().Single(p => p.name == name).parameter.copy_(value);
    }
}
