using Priori.ClickThrough;
using Priori.Nn;

namespace Priori.Tests.ClickThrough;

public class ArmNetTests
{
    // E = [[.1, -.2], [.3, .4], [-.5, .6]], W = I, q = [1, -1], v = [.5, -1, 2]: the card's worked example.
    private static readonly double[,] Embeddings = { { .1, -.2 }, { .3, .4 }, { -.5, .6 } };

    private static ArmNet Worked(double alpha, double queryScale = 1)
    {
        var model = new ArmNet(new BackboneOptions { Fields = 3, EmbeddingDim = 2, Heads = 1, Neurons = 1, Alpha = alpha, MlpHidden = [4] });
        model.to(ScalarType.Float64);
        Set(model, "query", tensor(new double[] { 1, -1 }).view(1, 1, 2) * queryScale);
        Set(model, "headKeys", eye(2, dtype: ScalarType.Float64).unsqueeze(0));
        Set(model, "values", tensor(new double[] { .5, -1, 2 }).view(1, 1, 3));
        return model;
    }

    private static readonly Tensor Row = tensor(Embeddings).unsqueeze(0);

    [Fact]
    public void An_exponential_neuron_is_the_product_of_powers()
    {
        using ArmNet model = Worked(2);
        Tensor e = tensor(Embeddings).unsqueeze(0);
        double[] neuron = model.Neurons(e, tensor(new double[] { 2, 1, 0 }).view(1, 1, 3)).data<double>().ToArray();
        Near([1.648721, 1], neuron);
        Near(neuron, (e[0, 0].exp().square() * e[0, 1].exp()).data<double>().ToArray(), 1e-12);
    }

    [Fact]
    public void Attention_logits_match_the_worked_example()
    {
        using ArmNet model = Worked(2);
        Near([.212132, -.070711, -.777817], model.AttentionLogits(tensor(Embeddings).unsqueeze(0)).reshape(-1).data<double>().ToArray());
    }

    [Theory]
    [InlineData(2, 1, new[] { .641421, .358579, 0 }, new[] { .927277, .812553 })]
    [InlineData(1.7, 1, new[] { .6129, .384161, .002939 }, new[] { .91618, .809428 })]
    [InlineData(2, 9, new[] { 1.0, 0, 0 }, null)]
    [InlineData(1.7, 9, new[] { 1.0, 0, 0 }, null)]
    public void Gates_and_neuron_match_the_worked_example(double alpha, double scale, double[] gate, double[]? neuron)
    {
        using ArmNet model = Worked(alpha, scale);
        var (gates, powers) = model.Attend(Row);
        Near(gate, gates.reshape(-1).data<double>().ToArray());
        if (neuron is not null) Near(neuron, model.Neurons(tensor(Embeddings).unsqueeze(0), powers).reshape(-1).data<double>().ToArray());
    }

    [Fact]
    public void A_shared_key_is_a_linear_map_of_the_embedding()
    {
        var options = new BackboneOptions { Fields = 3, EmbeddingDim = 2, Heads = 1, Neurons = 1, KeyDim = 3, SharedKey = true };
        using var model = new ArmNet(options);
        model.to(ScalarType.Float64);
        Tensor map = randn([3, 2], ScalarType.Float64, generator: new Generator(0)), query = randn([1, 3], ScalarType.Float64, generator: new Generator(1));
        Set(model, "sharedKey.weight", map);
        Set(model, "query", query);
        Tensor expected = tensor(Embeddings).matmul(map.t()).matmul(query.t()).t() / Math.Sqrt(3);
        Near(expected.reshape(-1).data<double>().ToArray(), model.AttentionLogits(tensor(Embeddings).unsqueeze(0)).reshape(-1).data<double>().ToArray(), 1e-12);
    }

    [Fact]
    public void Without_values_the_prediction_ignores_the_row()
    {
        using ArmNet model = Small();
        Set(model, "values", zeros(2, 3, 4));
        Tensor e = Rows(16);
        Assert.True((model.Neurons(ones(16, 4, 5), model.Attend(e).Powers) == 1).all().item<bool>());
        foreach (bool training in new[] { true, false })
        {
            model.train(training);
            Tensor logits = model.forward(e);
            Assert.True((logits - logits[0]).abs().max().item<float>() < 1e-5f);
        }
    }

    [Fact]
    public void A_constant_on_all_logits_of_a_neuron_changes_nothing()
    {
        // A component shared by all embeddings adds q^T W^T c to every field's logit.
        using ArmNet model = Worked(1.7);
        Tensor before = model.Attend(Row).Gates;
        Assert.True((model.Attend(Row + tensor(new double[] { .7, -.2 })).Gates - before).abs().max().item<double>() < 1e-9);
    }

    [Fact]
    public void The_ensemble_starts_as_the_mean_of_both_models_with_embeddings_of_their_own()
    {
        foreach (long outputs in new long[] { 1, 3 })
        {
            BackboneOptions options = SmallOptions with { Outputs = outputs, Ensemble = true };
            using var both = new ArmNet(options);
            using var arm = new ArmNet(options with { Ensemble = false });
            using var deep = new Dnn(options);
            Assert.Equal(2 * arm.InputDim, both.InputDim);
            Copy(both, arm, "");
            Copy(both, deep, "ensemble.deep.");
            foreach (Module module in new Module[] { both, arm, deep }) module.eval();
            Tensor first = Rows(8), second = Rows(8, seed: 12);
            Tensor expected = (arm.forward(first) + deep.forward(second)) / 2;
            Assert.True((both.forward(cat([first, second], 2)) - expected).abs().max().item<float>() < 1e-6f);
        }
    }

    [Fact]
    public void Two_rows_have_two_sets_of_powers_and_sparsemax_closes_gates()
    {
        using ArmNet model = Small(alpha: 2);
        Set(model, "query", randn([2, 3, 5], generator: new Generator(5)) * 20);
        var (gates, powers) = model.Attend(Rows(8));
        Assert.True((powers[0] - powers[1]).abs().max().item<float>() > 1e-3f);
        Assert.True((gates == 0).sum().item<long>() > 0);
        Assert.Equal([8, 6, 4], powers.shape);
    }

    [Fact]
    public void Batch_norm_has_one_channel_a_neuron()
    {
        using ArmNet model = Small();
        Assert.Equal([6], model.named_parameters().Single(p => p.name == "norm.weight").parameter.shape);
    }

    [Fact]
    public void Large_exponents_are_clamped_and_counted()
    {
        using ArmNet model = Small();
        model.forward(Rows(8));
        Assert.Equal(0, model.ClampedExponents);
        Set(model, "values", full([2, 3, 4], 1e4f));
        Tensor logits = model.forward(ones(8, 4, 5));
        Assert.True(logits.isfinite().all().item<bool>());
        Assert.Equal(8 * 6 * 5, model.ClampedExponents);
    }

    [Fact]
    public void The_explanation_of_the_worked_example_is_its_gate()
    {
        using ArmNet network = Worked(2);
        using var table = new FieldEmbedding(3, 3, 2);
        table.to(ScalarType.Float64);
        Set(table, "table.weight", tensor(Embeddings));
        using var model = new ClickModel(table, network);
        Tensor ids = tensor(new long[] { 0, 1, 2 }).unsqueeze(0), values = ones(1, 3, ScalarType.Float64);
        ArmNetExplanation explanation = ArmNetExplanation.Of(model, ids, values);
        double sum = .641421 * .5 + .358579;
        Near([.641421 * .5 / sum, .358579 / sum, 0], [.. explanation.Fields.Select(f => f.Importance)]);
        CrossFeature cross = Assert.Single(explanation.CrossFeatures);
        Assert.Equal([0, 1], cross.Fields);
        Assert.Equal((2, 1.0), (cross.Order, cross.Frequency));
        Assert.Equal(sum / 2, cross.MeanPower, 1e-5);
        Assert.Equal(1 / 3.0, explanation.ZeroFraction, 1e-12);
        Assert.Equal(.641421 * .5 * .358579, explanation.JointPower[0, 1], 1e-6);
        Assert.Equal(0, explanation.JointPower[1, 2], 1e-12);
    }

    [Fact]
    public void A_global_explanation_equals_the_direct_count_for_many_fields_and_blocks()
    {
        const int fields = 70, neurons = 2;
        manual_seed(3);
        using var model = ClickModel.Create(BackboneKind.ArmNet, new BackboneOptions { Fields = fields, EmbeddingDim = 4, Heads = 1, Neurons = neurons, Alpha = 2 }, ids: 90);
        Set(model, "backbone.query", randn([1, neurons, 4], generator: new Generator(1)) * 30);
        Tensor ids = randint(90, [5000, fields], ScalarType.Int64), values = ones(5000, fields);
        ArmNetExplanation explanation = ArmNetExplanation.Of(model, ids, values);

        var (gates, powers) = ((ArmNet)model.Backbone).Attend(model.Embedding.forward(ids, values));
        Tensor local = ArmNetExplanation.LocalImportance(model, ids.narrow(0, 0, 3), values.narrow(0, 0, 3));
        Assert.True(local.allclose(powers.narrow(0, 0, 3).abs().sum(1) / powers.narrow(0, 0, 3).abs().sum([1, 2]).unsqueeze(1)));
        double[] mean = powers.abs().mean([0, 1]).data<float>().ToArray().Select(x => (double)x).ToArray();
        Near([.. mean.Select(x => x / mean.Sum())], [.. explanation.Fields.Select(f => f.Importance)], 1e-5);
        var counts = new Dictionary<string, int>();
        bool[] open = gates.ne(0).reshape(-1).data<bool>().ToArray();
        for (int i = 0; i < 5000 * neurons; i++)
        {
            string key = string.Join(',', Enumerable.Range(0, fields).Where(j => open[i * fields + j]));
            counts[key] = counts.GetValueOrDefault(key) + 1;
        }
        Assert.Equal(counts.Count, explanation.CrossFeatures.Count);
        Assert.All(explanation.CrossFeatures, c => Assert.Equal(counts[string.Join(',', c.Fields)] / (5000.0 * neurons), c.Frequency, 1e-12));
        Assert.Equal(1, explanation.CrossFeatures.Sum(c => c.Frequency), 1e-9);
    }

    [Fact]
    public void Standardised_numeric_columns_and_several_classes_train_without_the_clamp()
    {
        manual_seed(0);
        using var model = ClickModel.Create(BackboneKind.ArmNet, SmallOptions with { Fields = 3, Outputs = 3 }, ids: 3);
        Tensor values = randn(256, 3, generator: new Generator(7)), ids = arange(3).expand(256, 3);
        Tensor target = (values.select(1, 0) * values.select(1, 1)).gt(0).to(ScalarType.Int64) + values.select(1, 2).gt(1).to(ScalarType.Int64);
        using var adam = optim.Adam(model.parameters(), 1e-2);
        double first = 0, last = 0;
        for (int step = 0; step < 60; step++)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor loss = functional.cross_entropy(model.forward(ids, values), target);
            adam.zero_grad();
            loss.backward();
            adam.step();
            last = loss.ToDouble();
            if (step == 0) first = last;
        }
        Assert.True(last < first / 2, $"cross-entropy {first:F3} -> {last:F3}");
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        using ArmNet model = Small();
        Tensor e = Rows(4);
        Assert.Contains("[batch, 4, 5]", Assert.Throws<ArgumentException>(() => model.forward(e.narrow(1, 0, 3))).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => model.forward(e.narrow(2, 0, 4)));
        foreach (BackboneOptions bad in new[]
        {
            SmallOptions with { Alpha = .9 }, SmallOptions with { Heads = 0 }, SmallOptions with { Neurons = 0 }, SmallOptions with { KeyDim = 0 },
            SmallOptions with { SharedKey = true }, SmallOptions with { Fields = 0 }, SmallOptions with { Outputs = 0 }, SmallOptions with { Dropout = 1 },
        })
            Assert.ThrowsAny<ArgumentException>(() => new ArmNet(bad));
        using ClickModel other = ClickModel.Create(BackboneKind.Dnn, SmallOptions, ids: 20);
        Tensor ids = zeros(2, 4, ScalarType.Int64), values = ones(2, 4);
        Assert.Contains("ARM-Net", Assert.Throws<ArgumentException>(() => ArmNetExplanation.Of(other, ids, values)).Message, StringComparison.Ordinal);
        using ClickModel own = ClickModel.Create(BackboneKind.ArmNet, SmallOptions, ids: 20);
        Assert.Throws<ArgumentException>(() => ArmNetExplanation.Of(own, ids.narrow(0, 0, 0), values.narrow(0, 0, 0)));
    }

    private static BackboneOptions SmallOptions => new() { Fields = 4, EmbeddingDim = 5, Heads = 2, Neurons = 3, MlpHidden = [8] };

    private static ArmNet Small(double alpha = 1.7)
    {
        manual_seed(0);
        return new ArmNet(SmallOptions with { Alpha = alpha });
    }

    private static Tensor Rows(long count, int seed = 11) => randn([count, 4, 5], generator: new Generator((ulong)seed)) * .3;

    private static void Set(Module model, string name, Tensor value)
    {
        using var ungraphed = no_grad();
        model.named_parameters().Single(p => p.name == name).parameter.copy_(value);
    }

    private static void Copy(Module from, Module to, string prefix)
    {
        var source = from.state_dict();
        using var ungraphed = no_grad();
        foreach (var (name, tensor) in to.state_dict()) tensor.copy_(source[prefix + name]);
    }

    private static void Near(double[] expected, double[] actual, double tolerance = 1e-6)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++) Assert.Equal(expected[i], actual[i], tolerance);
    }
}
