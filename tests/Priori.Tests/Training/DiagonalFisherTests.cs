using Priori.Nn;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Training;

public sealed class DiagonalFisherTests
{
    [Theory]
    [InlineData(FisherKind.Empirical)]
    [InlineData(FisherKind.True)]
    public void Worked_example(FisherKind kind)
    {
        using var model = Linear(2, 2, hasBias: false);
        using (no_grad()) model.weight!.zero_();
        Tensor fisher = DiagonalFisher.Estimate(model, tensor(new[] { 1f, 2f }).view(1, 2), tensor(new long[] { 0 }), kind)["weight"];
        Assert.True(fisher.allclose(tensor(new[] { .25f, 1, .25f, 1 }).view(2, 2), rtol: 1e-6));
    }

    [Fact]
    public void Squares_are_averaged_not_averages_squared()
    {
        using var model = Linear(2, 2, hasBias: false);
        using (no_grad()) model.weight!.zero_();
        Tensor fisher = DiagonalFisher.Estimate(model, tensor(new[] { 1f, 0, -1, 0 }).view(2, 2), tensor(new long[] { 0, 0 }))["weight"];
        Assert.Equal(.25f, fisher[0, 0].ToSingle());
    }

    public static TheoryData<string, FisherKind> Networks()
    {
        var data = new TheoryData<string, FisherKind>();
        foreach (string name in new[] { "mlp", "batchnorm", "conv", "grouped", "vit", "layernorm", "shared" })
            foreach (FisherKind kind in Enum.GetValues<FisherKind>()) data.Add(name, kind);
        return data;
    }

    [Theory]
    [MemberData(nameof(Networks))]
    public void Every_kind_of_layer_gives_what_a_loop_over_samples_gives(string name, FisherKind kind)
    {
        Seeds.Set(3);
        (Module<Tensor, Tensor> model, Tensor x) = name switch
        {
            "mlp" => (new Network(Architectures.Mlp([5], [7, 6], 3)), randn(9, 5)),
            "batchnorm" => (new Network(Architectures.ConvNet([2, 6, 6], [4, 5], 3)), randn(9, 2, 6, 6)),
            "conv" => (Sequential(Conv2d(2, 4, 3, stride: 2, padding: 1), ReLU(), Flatten(), Linear(36, 3)), randn(9, 2, 6, 6)),
            "grouped" => (Sequential(Conv2d(4, 6, 3, dilation: 2, groups: 2), ReLU(), Flatten(), Linear(24, 3)), randn(9, 4, 6, 6)),
            "vit" => (new Network(Architectures.VisionTransformer(1, 6, 3, 8, 1, 2, 10, 3)), randn(9, 1, 6, 6)),
            "layernorm" => ((Module<Tensor, Tensor>)Sequential(Linear(5, 6), LayerNorm(6), Tanh(), BatchNorm1d(6), Linear(6, 3)), randn(9, 5)),
            _ => (new TwiceUsed(), randn(9, 5)),
        };
        using (model)
        {
            Tensor y = randint(3, [9], int64);
            using (no_grad())
                foreach (var (buffer, tensor) in model.named_buffers())
                    if (buffer.EndsWith("running_mean", StringComparison.Ordinal)) tensor.add_(.3);
            model.train();
            Dictionary<string, Tensor> fisher = DiagonalFisher.Estimate(model, x, y, kind, batchSize: 4);
            Assert.True(model.training);
            Dictionary<string, Tensor> expected = OneByOne(model, x, y, kind);
            Assert.Equal(expected.Keys.Order(), fisher.Keys.Order());
            foreach ((string parameter, Tensor value) in expected)
                Assert.True(fisher[parameter].allclose(value, rtol: 1e-3, atol: 1e-7), $"{parameter}: {fisher[parameter].max().ToDouble()} against {value.max().ToDouble()}");
            Assert.All(model.parameters(), p => Assert.Null(p.grad));
        }
    }

    [Fact]
    public void Parameters_are_chosen_by_name_and_frozen_ones_stay_frozen()
    {
        using var model = Sequential(Linear(3, 4), ReLU(), Linear(4, 2));
        foreach (var parameter in model.parameters()) parameter.requires_grad = false;
        Dictionary<string, Tensor> fisher = DiagonalFisher.Estimate(model, model.call, randn(5, 3), zeros(5, int64), include: n => n.StartsWith("2.", StringComparison.Ordinal));
        Assert.Equal(["2.bias", "2.weight"], fisher.Keys.Order());
        Assert.All(model.parameters(), p => Assert.False(p.requires_grad));
        Assert.True(fisher["2.weight"].gt(0).any().item<bool>());
    }

    [Fact]
    public void No_data_and_wrong_labels_are_refused()
    {
        using var model = Linear(2, 2);
        Assert.Contains("at least one sample", Assert.Throws<ArgumentException>(() => DiagonalFisher.Estimate(model, zeros(0, 2), zeros(0, int64))).Message);
        Assert.Throws<ArgumentException>(() => DiagonalFisher.Estimate(model, zeros(1, 2), null));
        Assert.Throws<ArgumentException>(() => DiagonalFisher.Estimate(model, zeros(1, 2), full([1], 2, int64)));
    }

    private static Dictionary<string, Tensor> OneByOne(Module<Tensor, Tensor> model, Tensor x, Tensor y, FisherKind kind)
    {
        model.eval();
        var named = model.named_parameters().ToArray();
        var sums = named.ToDictionary(p => p.name, p => zeros(p.parameter.shape));
        for (long i = 0; i < x.shape[0]; i++)
        {
            Tensor log = model.call(x.narrow(0, i, 1)).log_softmax(1)[0];
            for (long c = 0; c < 3; c++)
            {
                double weight = kind == FisherKind.True ? Math.Exp(log[c].ToDouble()) : y[i].ToInt64() == c ? 1 : 0;
                Tensor[] gradients = [.. autograd.grad([log[c]], [.. named.Select(p => (Tensor)p.parameter)], retain_graph: true, allow_unused: true)];
                for (int p = 0; p < named.Length; p++) sums[named[p].name].add_(gradients[p].square() * weight);
            }
        }
        foreach (Tensor sum in sums.Values) sum.div_(x.shape[0]);
        return sums;
    }

    // One layer that runs twice: its gradient is a sum, which no single outer product gives.
    private sealed class TwiceUsed : Module<Tensor, Tensor>
    {
        private readonly TorchSharp.Modules.Linear layer = Linear(5, 5), head = Linear(5, 3);

        public TwiceUsed() : base("twice") => RegisterComponents();

        public override Tensor forward(Tensor input) => head.call(layer.call(layer.call(input).tanh()).tanh());
    }
}
