using Priori.Nn;
using Priori.Runtime;
using TorchSharp.Modules;

namespace Priori.Tests.Nn;

public class NetworkTests
{
    public static TheoryData<string> Names => ["mlp", "mlp-bn", "conv", "resnet18", "resnet50", "vit", "flatten", "fused-vit"];

    private static Architecture Named(string name) => name switch
    {
        "mlp" => Architectures.Mlp([1, 4, 4], [6, 5], 3),
        "mlp-bn" => Architectures.Mlp([7], [6, 5], 3, batchNorm: true),
        "conv" => Architectures.ConvNet([2, 8, 8], [4, 6], 3),
        "resnet18" => ResNet.Describe(18, 3, ResNetStem.Cifar, width: 4, inputChannels: 1, imageSize: 16),
        "resnet50" => ResNet.Describe(50, 3, ResNetStem.ImageNet, width: 2, inputChannels: 3, imageSize: 64),
        "vit" => Architectures.VisionTransformer(1, 8, 4, width: 12, depth: 2, heads: 3, mlpWidth: 10, classes: 3),
        "flatten" => new Architecture([1, 6, 6], [
            new("c", LayerKind.Conv2d) { Width = 4, Kernel = 3 }, new("d", LayerKind.Conv2d) { Width = 4, Kernel = 3, Groups = 4 }, new("r", LayerKind.Relu),
            new("p", LayerKind.MaxPool) { Kernel = 2, Stride = 1, Inputs = ["r"] }, new("f", LayerKind.Flatten), new("o", LayerKind.Linear) { Width = 3 }]),
        "fused-vit" => new Architecture([2, 3, 3], [
            new("t", LayerKind.Tokens), new("e", LayerKind.Linear) { Width = 8 }, new("qkv", LayerKind.Linear) { Width = 24 },
            new("a", LayerKind.Attention) { Heads = 4 }, new("proj", LayerKind.Linear) { Width = 8 }, new("sum", LayerKind.Add) { Inputs = ["e", "proj"] },
            new("m", LayerKind.MeanTokens), new("o", LayerKind.Linear) { Width = 3 }]),
        _ => throw new ArgumentException(name),
    };

    [Theory]
    [MemberData(nameof(Names))]
    public void Permuting_all_groups_keeps_the_function(string name)
    {
        Seeds.Set(0);
        Architecture architecture = Named(name);
        PermutationSpec spec = PermutationSpec.FromJson(architecture.Wiring().ToJson());
        using Network network = Randomized(architecture), permuted = new(Architecture.FromJson(architecture.ToJson()));
        Tensor x = randn([5, .. architecture.Input]);
        var random = new SplitMix64(3);
        var permutations = spec.Groups.ToDictionary(g => g.Name, g =>
        {
            long[] order = [.. Enumerable.Range(0, (int)g.Size).Select(i => (long)i)];
            random.Shuffle<long>(order);
            return order;
        });
        Assert.Contains(permutations.Values, p => !p.SequenceEqual(p.Order()));
        permuted.Load(spec.Permute(network.State(), permutations));
        network.eval();
        permuted.eval();
        Tensor expected = network.call(x);
        Assert.True(expected.std().item<float>() > 1e-3f);
        Assert.True((expected - permuted.call(x)).abs().max().item<float>() < 1e-5f * (1 + expected.abs().max().item<float>()));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Parameters_are_counted_from_the_description(string name)
    {
        using var network = new Network(Named(name));
        Assert.Equal(network.parameters().Sum(p => p.numel()), ParameterCounter.Count(network.Architecture));
    }

    [Theory]
    [InlineData("mlp-bn")]
    [InlineData("conv")]
    [InlineData("resnet18")]
    public void Folding_batch_normalisation_keeps_the_function(string name)
    {
        Seeds.Set(0);
        using Network network = Randomized(Named(name));
        (Architecture architecture, Dictionary<string, Tensor> state) = BatchNormFolding.Fold(network.Architecture, network.State());
        Assert.DoesNotContain(architecture.Layers, l => l.Kind == LayerKind.BatchNorm);
        using Network folded = new Network(architecture).Load(state);
        network.eval();
        Tensor x = randn([3, .. architecture.Input]), expected = network.call(x);
        Assert.True(expected.std().item<float>() > 1e-3f);
        Assert.True((expected - folded.call(x)).abs().max().item<float>() < 1e-5f * (1 + expected.abs().max().item<float>()));
    }

    [Fact]
    public void A_normalisation_stays_where_its_layer_has_another_reader_or_stands_first()
    {
        var architecture = new Architecture([4], [
            new("bn0", LayerKind.BatchNorm), new("a", LayerKind.Linear) { Width = 4 }, new("bn1", LayerKind.BatchNorm), new("sum", LayerKind.Add) { Inputs = ["a", "bn1"] }, new("out", LayerKind.Linear) { Width = 2 }]);
        using var network = new Network(architecture);
        Assert.Equal(architecture.ToJson(), BatchNormFolding.Fold(architecture, network.State()).Architecture.ToJson());
    }

    [Theory]
    [InlineData(16, 14_728_266)] // the count that is published for this network on CIFAR-10
    [InlineData(11, 9_231_114)]
    public void Vgg_for_small_images_has_its_number_of_parameters(int depth, long expected) => Assert.Equal(expected, ParameterCounter.Count(Architectures.Vgg(depth, 10)));

    [Fact]
    public void Every_layer_knows_the_group_of_its_units()
    {
        IReadOnlyDictionary<string, string> units = Named("resnet18").UnitGroups();
        Assert.Equal("conv1", units["layer1.1.relu"]);
        Assert.Equal("layer2.0.conv1", units["layer2.0.relu1"]);
        Assert.DoesNotContain("fc", units.Keys);
        Assert.DoesNotContain(Architecture.InputName, units.Keys);
    }

    [Fact]
    public void Names_and_weights_are_those_of_the_mlp_module()
    {
        Seeds.Set(0);
        using var mlp = new Mlp(16, [6, 5], 3);
        using Network network = new Network(Named("mlp")).Load(mlp.state_dict());
        Tensor x = randn(2, 1, 4, 4);
        Assert.True(network.call(x).allclose(mlp.call(x)));
    }

    [Theory]
    [InlineData(18, ResNetStem.ImageNet, 11_689_512)] // torchvision's documented parameter counts
    [InlineData(34, ResNetStem.ImageNet, 21_797_672)]
    [InlineData(50, ResNetStem.ImageNet, 25_557_032)]
    public void Parameter_counts_are_those_of_torchvision(int depth, ResNetStem stem, long expected)
    {
        using var network = new Network(ResNet.Describe(depth, 1000, stem));
        Assert.Equal(expected, network.parameters().Sum(p => p.numel()));
        Assert.Contains("layer2.0.downsample.1.running_var", network.state_dict().Keys);
    }

    [Theory]
    [InlineData(18, 1.814)] // multiply-accumulates at 224x224 in billions, as torchvision documents them
    [InlineData(50, 4.089)]
    public void Flops_are_those_of_torchvision(int depth, double gigaMacs) =>
        Assert.Equal(gigaMacs, FlopCounter.Count(ResNet.Describe(depth, 1000, ResNetStem.ImageNet)) / 2e9, 0.001);

    [Fact]
    public void A_residual_stream_is_one_group_and_blocks_have_their_own()
    {
        PermutationSpec spec = Named("resnet18").Wiring();
        Assert.Equal(4 + 8, spec.Groups.Count); // four streams, eight blocks
        PermutationGroup stream = spec.GroupOf("layer2.0.conv2.weight", AxisRole.Output)!;
        Assert.Same(stream, spec.GroupOf("layer2.0.downsample.0.weight", AxisRole.Output));
        Assert.Same(stream, spec.GroupOf("layer2.1.conv2.weight", AxisRole.Output));
        Assert.Same(stream, spec.GroupOf("layer3.0.conv1.weight", AxisRole.Input));
        Assert.Equal(["layer2.1.conv1", "layer3.0.conv1"], stream.Sites); // each stream value once: the downsampling convolution reads the same one
    }

    [Fact]
    public void The_attention_layer_is_torchs_attention()
    {
        Seeds.Set(0);
        Tensor x = randn(2, 5, 24);
        var architecture = new Architecture([24, 5, 1], [new("t", LayerKind.Tokens), new("a", LayerKind.Attention) { Heads = 2 }]);
        using var network = new Network(architecture);
        Tensor heads = x.view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4);
        Tensor expected = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2]).transpose(1, 2).flatten(2);
        Assert.True(network.call(x.transpose(1, 2).unsqueeze(3)).allclose(expected, atol: 1e-6));
    }

    [Theory]
    [InlineData(24, 32)]
    [InlineData(20, 24)]
    [InlineData(16, 40)]
    [InlineData(3, 12)]
    public void Convolutions_of_odd_widths_are_right_forward_and_backward(long inputs, long outputs)
    {
        Seeds.Set(0);
        using var single = nn.Conv2d(inputs, outputs, 3, stride: 2, padding: 1);
        Tensor x = randn(32, inputs, 14, 14), weight = single.weight.detach().to(float64).requires_grad_(), x64 = x.to(float64).requires_grad_();
        Tensor bias = single.bias!.detach().to(float64);
        x.requires_grad_();
        Tensor y = single.call(x), exact = functional.conv2d(x64, weight, bias, [2, 2], [1, 1]);
        y.square().mean().backward();
        exact.square().mean().backward();
        void Close(Tensor expected, Tensor actual) => Assert.True((expected - actual.to(float64)).abs().max().item<double>() < 1e-5);
        Close(exact, y);
        Close(x64.grad!, x.grad!);
        Close(weight.grad!, single.weight.grad!);
    }

    [Fact]
    public void The_recorder_sees_inputs_and_outputs_of_layers()
    {
        using var network = new Network(Named("conv"));
        using var recorder = new ActivationRecorder(network, ["conv2"]);
        network.call(randn(3, 2, 8, 8));
        Assert.Equal([3, 4, 8, 8], recorder.Inputs["conv2"].shape);
        Assert.True(recorder.Inputs["conv2"].min().item<float>() >= 0); // behind the ReLU
        Assert.True(network.WeightedLayers["conv2"].forward(recorder.Inputs["conv2"]).allclose(recorder.Outputs["conv2"]));
        Assert.Equal([3 * 16, 6], ActivationRecorder.Flatten(recorder.Outputs["conv2"]).shape);
        Assert.Throws<ArgumentException>(() => new ActivationRecorder(network, ["conv9"]));
    }

    [Fact]
    public void A_wrong_description_is_refused_by_name()
    {
        string Message(params Layer[] layers) => Assert.Throws<ArgumentException>(() => new Network(new Architecture([4], layers))).Message;
        Assert.Contains("'a'", Message(new Layer("a", LayerKind.Linear)));
        Assert.Contains("'b' reads 'x'", Message(new Layer("a", LayerKind.Relu), new Layer("b", LayerKind.Add) { Inputs = ["a", "x"] }));
        Assert.Contains("taken", Message(new Layer("a", LayerKind.Relu), new Layer("a", LayerKind.Relu)));
        Assert.Contains("[channels, height, width]", Message(new Layer("c", LayerKind.Conv2d) { Width = 2 }));
        Assert.Throws<ArgumentException>(() => Architecture.FromJson("{\"input\":[4],\"layers\":[{\"name\":\"a\",\"kind\":\"warp\"}]}"));
        Assert.Throws<ArgumentException>(() => Architecture.FromJson("{\"input\":[4],\"layers\":[{\"name\":\"a\",\"kind\":\"relu\",\"colour\":1}]}"));
        Assert.Throws<ArgumentException>(() => new Architecture([4, 4, 4], [new("c", LayerKind.Conv2d) { Width = 8, Groups = 2 }]).Wiring());
    }

    [Fact]
    public void A_checkpoint_that_does_not_fit_is_refused_by_name()
    {
        using var network = new Network(Named("mlp"));
        Dictionary<string, Tensor> state = network.State();
        state["layers.1.weight"] = zeros(2, 2);
        Assert.Contains("layers.1.weight", Assert.Throws<ArgumentException>(() => network.Load(state)).Message);
        state.Remove("layers.1.weight");
        Assert.Contains("layers.1.weight", Assert.Throws<ArgumentException>(() => network.Load(state)).Message);
        Assert.Throws<ArgumentException>(() => network.call(zeros(2, 3)));
    }

    private static Network Randomized(Architecture architecture)
    {
        var network = new Network(architecture);
        using (no_grad())
            foreach (NormBase norm in network.WeightedLayers.Values.OfType<NormBase>())
            {
                norm.weight.uniform_(0.5, 1.5);
                norm.bias!.normal_(0, 0.2);
                norm.running_mean!.normal_(0, 0.2);
                norm.running_var!.uniform_(0.5, 1.5);
            }
        return network;
    }
}
