using Priori.Nn;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Tests.Similarity;

public class IterativeFeatureMergingTests
{
    private const string Group = "layers.1", In = "layers.1.weight", Bias = "layers.1.bias", Out = "layers.3.weight";

    private static readonly Architecture s_small = Architectures.Mlp([2], [4], 2);

    public static TheoryData<string> Networks => ["mlp", "residual", "flatten", "conv", "vgg", "resnet18", "resnet50", "vit", "fused-vit"];

    private static Dictionary<string, Tensor> Worked() => Small(
        new double[,] { { 1, 0 }, { 1.1, .1 }, { -1, 2 }, { 0, -1.5 } }, [0, .1, -.2, .3], new double[,] { { 1, .9, -1, .5 }, { 0, .2, 1, 1 } });

    private static Dictionary<string, Tensor> Small(double[,] incoming, double[] bias, double[,] outgoing) =>
        new() { [In] = tensor(incoming), [Bias] = tensor(bias), [Out] = tensor(outgoing), ["layers.3.bias"] = zeros(2, float64) };

    private static Tensor Evaluate(Architecture architecture, IReadOnlyDictionary<string, Tensor> state, Tensor x)
    {
        using var network = new Network(architecture);
        network.to(float64);
        network.Load(state).eval();
        return network.call(x);
    }

    private static void Close(Tensor expected, Tensor actual, double tolerance)
    {
        Assert.Equal(expected.shape, actual.shape);
        double difference = (expected - actual).abs().max().item<double>();
        Assert.True(difference <= tolerance, $"differs by {difference}: {actual.cstr()} and not {expected.cstr()}");
    }

    private static Architecture Named(string name) => name switch
    {
        "mlp" => Architectures.Mlp([5], [12, 9], 3),
        "residual" => new Architecture([6], [ // the weight of 'inner' has both its axes in one group
            new("first", LayerKind.Linear) { Width = 8 }, new("r1", LayerKind.Relu), new("inner", LayerKind.Linear) { Width = 8 }, new("sum", LayerKind.Add) { Inputs = ["inner", "r1"] },
            new("r2", LayerKind.Relu), new("out", LayerKind.Linear) { Width = 3 }]),
        "flatten" => new Architecture([1, 6, 6], [
            new("c", LayerKind.Conv2d) { Width = 6, Kernel = 3 }, new("d", LayerKind.Conv2d) { Width = 6, Kernel = 3, Groups = 6, Padding = 1 }, new("r", LayerKind.Relu),
            new("p", LayerKind.MaxPool) { Kernel = 2, Stride = 2 }, new("f", LayerKind.Flatten), new("h", LayerKind.Linear) { Width = 7 }, new("r2", LayerKind.Relu), new("o", LayerKind.Linear) { Width = 3 }]),
        "conv" => Architectures.ConvNet([2, 8, 8], [6, 8], 3),
        "vgg" => Architectures.Vgg(11, 3, width: 3, inputChannels: 1),
        "resnet18" => ResNet.Describe(18, 3, ResNetStem.Cifar, width: 4, inputChannels: 1, imageSize: 16),
        "resnet50" => ResNet.Describe(50, 3, ResNetStem.ImageNet, width: 3, inputChannels: 1, imageSize: 32),
        "vit" => Architectures.VisionTransformer(1, 8, 4, width: 12, depth: 2, heads: 3, mlpWidth: 10, classes: 3),
        "fused-vit" => new Architecture([2, 3, 3], [
            new("t", LayerKind.Tokens), new("e", LayerKind.Linear) { Width = 8 }, new("qkv", LayerKind.Linear) { Width = 24 },
            new("a", LayerKind.Attention) { Heads = 4 }, new("proj", LayerKind.Linear) { Width = 8 }, new("sum", LayerKind.Add) { Inputs = ["e", "proj"] },
            new("m", LayerKind.MeanTokens), new("o", LayerKind.Linear) { Width = 3 }]),
        _ => throw new ArgumentException(name),
    };

    private static Dictionary<string, Tensor> Randomized(Architecture architecture, int seed)
    {
        Seeds.Set(seed);
        using var network = new Network(architecture);
        return network.State().ToDictionary(p => p.Key, p => !p.Value.is_floating_point() ? p.Value
            : p.Key.EndsWith("running_var", StringComparison.Ordinal) ? rand(p.Value.shape, float64) + .5
            : p.Value.dim() == 1 ? p.Value.to(float64) + .3 * randn(p.Value.shape, float64) : p.Value.to(float64));
    }

    // Check 1.
    [Fact]
    public void The_worked_example_merges_its_two_close_features()
    {
        IfmResult result = IterativeFeatureMerging.Run(s_small, Worked(), new IfmOptions { Beta = .01 });
        MergeStep step = Assert.Single(result.MergeLog);
        Assert.Equal((0, Group, 0, 1), (step.Round, step.Group, step.First, step.Second));
        Assert.Equal(.07, step.Distance, 1e-12);
        Assert.Equal(15.5, step.LargestDistance, 1e-12);
        Assert.Equal([[2], [3], [0, 1]], result.Groups[Group]);
        Close(tensor(new double[,] { { -1, 2 }, { 0, -1.5 }, { 2.1, .1 } }), result.State[In], 1e-12);
        Close(tensor(new[] { -.2, .3, .1 }), result.State[Bias], 1e-12);
        Close(tensor(new double[,] { { -1, .5, .95 }, { 1, 1, .1 } }), result.State[Out], 1e-12);

        Assert.Equal(3, IterativeFeatureMerging.Run(s_small, Worked(), new IfmOptions { Beta = .1 }).WidthByGroup[Group]);
        IfmResult further = IterativeFeatureMerging.Run(s_small, Worked(), new IfmOptions { Beta = .6 });
        Assert.Equal(2, further.WidthByGroup[Group]);
        Assert.Equal(7.9825, further.MergeLog[1].Distance, 1e-12);
        Assert.Equal(17.8325, further.MergeLog[1].LargestDistance, 1e-12);
    }

    // Check 2.
    [Fact]
    public void The_merged_example_gives_the_worked_outputs()
    {
        Tensor x = tensor(new double[,] { { 1, 2 }, { -1, .5 }, { .3, -.7 } });
        Close(tensor(new[,] { { -.54, 3.08 }, { -1.8, 1.8 }, { 1.299, 1.422 } }), Evaluate(s_small, Worked(), x), 1e-12);
        IfmResult result = IterativeFeatureMerging.Run(s_small, Worked(), new IfmOptions { Beta = .01 });
        Close(tensor(new[,] { { -.52, 3.04 }, { -1.8, 1.8 }, { 1.302, 1.416 } }), Evaluate(result.Architecture!, result.State, x), 1e-12);
    }

    // Check 3.
    [Fact]
    public void Duplicates_leave_the_function_and_a_third_one_merges_only_with_normalised_counts()
    {
        double[,] incoming = { { .7, -.3 }, { .7, -.3 }, { -1, 2 }, { 0, -1.5 } }, outgoing = { { 1, 1, -1, .5 }, { .4, .4, 1, 1 } };
        Dictionary<string, Tensor> twins = Small(incoming, [.1, .1, -.2, .3], outgoing);
        Tensor x = randn(20, 2, float64);
        IfmResult result = IterativeFeatureMerging.Run(s_small, twins, new IfmOptions { Beta = 0 });
        Assert.Equal(0, Assert.Single(result.MergeLog).Distance);
        Close(Evaluate(s_small, twins, x), Evaluate(result.Architecture!, result.State, x), 1e-12);

        Dictionary<string, Tensor> triplets = Small(new[,] { { .7, -.3 }, { .7, -.3 }, { .7, -.3 }, { 0, -1.5 } }, [.1, .1, .1, .3], new[,] { { 1, 1, 1, .5 }, { .4, .4, .4, 1 } });
        IfmResult reference = IterativeFeatureMerging.Run(s_small, triplets, new IfmOptions { Beta = .01 });
        Assert.Equal(3, reference.WidthByGroup[Group]);
        IfmResult normalized = IterativeFeatureMerging.Run(s_small, triplets, new IfmOptions { Beta = .01, DistanceMode = DistanceMode.CountNormalized });
        Assert.Equal([[3], [2, 0, 1]], normalized.Groups[Group]);
        foreach (IfmResult merged in new[] { reference, normalized }) Close(Evaluate(s_small, triplets, x), Evaluate(merged.Architecture!, merged.State, x), 1e-12);
    }

    // Check 4.
    [Theory]
    [InlineData(2, BatchNormMerge.Exact, -4.027164, -.232452, 5.459616)]
    [InlineData(2, BatchNormMerge.Reference, -5.860973, -.494425, 7.555398)]
    [InlineData(3, BatchNormMerge.Exact, -6.040746, -.348678, 8.189424)]
    [InlineData(3, BatchNormMerge.Reference, -10.902152, -1.043165, 13.745317)]
    public void Merged_copies_behind_batch_normalisation_give_the_worked_values(int copies, BatchNormMerge merge, double first, double second, double third)
    {
        var architecture = new Architecture([1], [new("in", LayerKind.Linear) { Width = copies }, new("bn", LayerKind.BatchNorm), new("out", LayerKind.Linear) { Width = 1 }]);
        Tensor Copies(double value) => full(copies, value, float64);
        var state = new Dictionary<string, Tensor>
        {
            ["in.weight"] = ones(copies, 1, float64), ["in.bias"] = Copies(0), ["bn.weight"] = Copies(1.5), ["bn.bias"] = Copies(.2),
            ["bn.running_mean"] = Copies(.4), ["bn.running_var"] = Copies(.9), ["out.weight"] = ones(1, copies, float64), ["out.bias"] = zeros(1, float64),
        };
        var options = new IfmOptions { Beta = 0, MinimumWidth = 1, BatchNormMerge = merge, DistanceMode = DistanceMode.CountNormalized };
        IfmResult result = IterativeFeatureMerging.Run(architecture, state, options);
        Tensor z = tensor(new[,] { { -1 }, { .2 }, { 2.0 } }), expected = tensor(new[,] { { first }, { second }, { third } });
        Close(expected, Evaluate(result.Architecture!, result.State, z), merge == BatchNormMerge.Exact ? 1e-4 : 1e-6);
        if (merge == BatchNormMerge.Reference) return;
        Close(Evaluate(architecture, state, z), expected, 1e-6); // the ideal is the unmerged network
        result = IterativeFeatureMerging.Run(architecture, state, options with { FoldBatchNorm = true });
        Assert.DoesNotContain(result.Architecture!.Layers, l => l.Kind == LayerKind.BatchNorm);
        Close(Evaluate(architecture, state, z), Evaluate(result.Architecture!, result.State, z), 1e-12);
    }

    // Check 5.
    [Fact]
    public void Behind_tanh_only_sums_of_outgoing_weights_leave_the_function()
    {
        Architecture tanh = s_small with { Layers = [.. s_small.Layers.Select(l => l.Kind == LayerKind.Relu ? l with { Kind = LayerKind.Tanh } : l)] };
        Dictionary<string, Tensor> twins = Small(new[,] { { .7, -.3 }, { .7, -.3 }, { -1, 2 }, { 0, -1.5 } }, [.1, .1, -.2, .3], new[,] { { 1, .3, -1, .5 }, { .4, .2, 1, 1 } });
        Tensor x = randn(20, 2, float64), expected = Evaluate(tanh, twins, x);
        Tensor Merged(MergeRule rule)
        {
            IfmResult result = IterativeFeatureMerging.Run(tanh, twins, new IfmOptions { Beta = .1, MergeRule = rule });
            Assert.Equal(3, result.WidthByGroup[Group]);
            return Evaluate(result.Architecture!, result.State, x);
        }
        Close(expected, Merged(MergeRule.MeanInSumOut), 1e-12);
        Assert.True((expected - Merged(MergeRule.SumInMeanOut)).abs().max().item<double>() > .1);
        Assert.Contains("'layers.2' (Tanh)", Assert.Single(IterativeFeatureMerging.Warnings(tanh, MergeRule.SumInMeanOut)));
        Assert.Empty(IterativeFeatureMerging.Warnings(tanh, MergeRule.MeanInSumOut));
        Assert.Empty(IterativeFeatureMerging.Warnings(s_small, MergeRule.SumInMeanOut));
    }

    // Check 6: every logged pair is the closest of its group by brute force over weights that this test merges itself.
    [Theory]
    [InlineData(GramUpdate.Incremental)]
    [InlineData(GramUpdate.Recomputed)]
    public void Every_merge_is_the_true_minimum_of_its_round(GramUpdate update)
    {
        Dictionary<string, Tensor> state = Randomized(Named("mlp"), 5);
        IfmResult result = IterativeFeatureMerging.Run(Named("mlp"), state, new IfmOptions { Beta = .999, GramUpdate = update });
        Assert.All(result.WidthByGroup.Values, w => Assert.Equal(2, w));
        Assert.Equal(10 + 7, result.MergeLog.Count);
        double[][] Rows(string name) => [.. Enumerable.Range(0, (int)state[name].shape[0]).Select(i => state[name][i].data<double>().ToArray())];
        List<List<double>> Of(string name) => [.. Rows(name).Select(r => r.ToList())];
        List<List<double>>[] weights = [Of("layers.1.weight"), Of("layers.3.weight"), Of("layers.5.weight")];
        List<double>[] counts = [[.. Enumerable.Repeat(1.0, 12)], [.. Enumerable.Repeat(1.0, 9)]];
        static double Squared(double x) => x * x;
        foreach (MergeStep step in result.MergeLog)
        {
            int layer = step.Group == "layers.1" ? 0 : 1, n = counts[layer].Count;
            List<List<double>> rows = weights[layer], readers = weights[layer + 1];
            double D(int a, int b) => rows[a].Zip(rows[b], (x, y) => Squared(x - y)).Sum() + readers.Sum(r => Squared(r[a] - r[b]));
            double[] all = [.. Enumerable.Range(0, n).SelectMany(a => Enumerable.Range(a + 1, n - a - 1).Select(b => D(a, b)))];
            Assert.Equal(all.Min(), step.Distance, 1e-12);
            Assert.Equal(all.Max(), step.LargestDistance, 1e-12);
            Assert.Equal(step.Distance, D(step.First, step.Second), 1e-12);
            (double c, double d) = (counts[layer][step.First], counts[layer][step.Second]);
            rows.Add([.. rows[step.First].Zip(rows[step.Second], (x, y) => x + y)]);
            foreach (List<double> reader in readers) reader.Add((c * reader[step.First] + d * reader[step.Second]) / (c + d));
            counts[layer].Add(c + d);
            foreach (int gone in new[] { step.Second, step.First })
            {
                rows.RemoveAt(gone);
                counts[layer].RemoveAt(gone);
                foreach (List<double> reader in readers) reader.RemoveAt(gone);
            }
        }
        Close(tensor(weights[1].SelectMany(r => r).ToArray()).view(2, 2), result.State["layers.3.weight"], 1e-12);
        Assert.Equal([0, 1], result.MergeLog.Where(s => s.Round == 0).Select(s => s.Group == "layers.1" ? 0 : 1)); // one pair of each group a round
        Assert.Empty(IterativeFeatureMerging.Run(state, Named("mlp").Wiring(), new IfmOptions { Beta = 0, GramUpdate = update }).MergeLog);
    }

    [Theory]
    [MemberData(nameof(Networks))]
    public void Incremental_inner_products_lead_to_the_same_merges(string name)
    {
        Architecture architecture = Named(name);
        Dictionary<string, Tensor> state = Randomized(architecture, 3);
        foreach (MergeRule rule in Enum.GetValues<MergeRule>())
            foreach (DistanceMode mode in Enum.GetValues<DistanceMode>())
            {
                var options = new IfmOptions { Beta = .9, MergeRule = rule, DistanceMode = mode };
                IfmResult fast = IterativeFeatureMerging.Run(architecture, state, options), slow = IterativeFeatureMerging.Run(architecture, state, options with { GramUpdate = GramUpdate.Recomputed });
                Assert.Equal(slow.MergeLog.Select(s => (s.Round, s.Group, s.First, s.Second)), fast.MergeLog.Select(s => (s.Round, s.Group, s.First, s.Second)));
                Assert.All(slow.MergeLog.Zip(fast.MergeLog), p => Assert.Equal(1, p.Second.Distance / p.First.Distance, 1e-9));
                foreach ((string tensor, Tensor value) in slow.State) Close(value.to(float64), fast.State[tensor].to(float64), 1e-9 * (1 + value.to(float64).abs().max().item<double>()));
                Assert.Equal(slow.Groups.SelectMany(g => g.Value).ToArray(), fast.Groups.SelectMany(g => g.Value).ToArray());
                if (rule == MergeRule.MeanInSumOut || name is not "fused-vit") Assert.NotEmpty(fast.MergeLog);
            }
    }

    // Duplicates in every group at once: the function stays, whatever tensors the group runs through.
    [Theory]
    [MemberData(nameof(Networks))]
    public void Duplicates_anywhere_leave_the_function(string name)
    {
        Architecture architecture = Named(name);
        MergeRule rule = name.Contains("vit", StringComparison.Ordinal) ? MergeRule.MeanInSumOut : MergeRule.SumInMeanOut;
        PermutationSpec spec = architecture.Wiring();
        PermutationGroup[] groups = [.. spec.Groups.Where(g => !g.Inseparable)];
        Dictionary<string, Tensor> state = spec.Permute(Randomized(architecture, 7), groups.ToDictionary(g => g.Name, g => (long[])[0, 0, .. Enumerable.Range(2, (int)g.Size - 2).Select(i => (long)i)]));
        Tensor x = randn([4, .. architecture.Input], float64), expected = Evaluate(architecture, state, x);
        bool norms = architecture.Layers.Any(l => l.Kind == LayerKind.BatchNorm);
        foreach (bool fold in new[] { false, true })
        {
            IfmResult result = IterativeFeatureMerging.Run(architecture, state, new IfmOptions { Beta = 0, MergeRule = rule, FoldBatchNorm = fold });
            Assert.All(groups, g => Assert.Equal(g.Size - 1, result.WidthByGroup[g.Name]));
            Assert.All(result.Groups.Values, g => Assert.Equal([0, 1], g[^1]));
            Close(expected, Evaluate(result.Architecture!, result.State, x), (norms && !fold ? 1e-4 : 1e-10) * (1 + expected.abs().max().item<double>()));
            if (name == "mlp") Assert.True((expected - Evaluate(architecture, Randomized(architecture, 7), x)).abs().max().item<double>() > 1e-3);
        }
    }

    // Check 7.
    [Fact]
    public void The_rebuilt_network_has_the_analytic_number_of_parameters_and_loads_strictly()
    {
        var architecture = Architectures.Mlp([5], [12, 9], 3);
        IfmResult mlp = IterativeFeatureMerging.Run(architecture, Randomized(architecture, 1), new IfmOptions { Beta = .5 });
        (long a, long b) = (mlp.WidthByGroup["layers.1"], mlp.WidthByGroup["layers.3"]);
        Assert.True(a < 12 && b < 9);
        Assert.Equal(a * 6 + b * (a + 1) + 3 * (b + 1), ParameterCounter.Count(mlp.Architecture!));
        using Network network = mlp.ToNetwork();
        Assert.Equal(ParameterCounter.Count(mlp.Architecture!), network.parameters().Sum(p => p.numel()));

        IfmResult vgg = IterativeFeatureMerging.Run(Named("vgg"), Randomized(Named("vgg"), 1), new IfmOptions { Beta = .9 });
        long[] widths = [1, .. vgg.Spec.Groups.Select(g => g.Size)];
        Assert.Equal(widths.Zip(widths.Skip(1), (i, o) => o * (9 * i + 1) + 2 * o).Sum() + 3 * (widths[^1] + 1), ParameterCounter.Count(vgg.Architecture!));
        using Network narrow = vgg.ToNetwork();
        Assert.Equal([2, 3], narrow.call(randn(2, 1, 32, 32)).shape);
    }

    // Check 8.
    [Fact]
    public void The_order_of_the_features_does_not_matter()
    {
        Architecture architecture = Named("conv");
        PermutationSpec spec = architecture.Wiring();
        Dictionary<string, Tensor> state = Randomized(architecture, 2);
        var random = new SplitMix64(4);
        Dictionary<string, Tensor> permuted = spec.Permute(state, spec.Groups.ToDictionary(g => g.Name, g =>
        {
            long[] order = [.. Enumerable.Range(0, (int)g.Size).Select(i => (long)i)];
            random.Shuffle<long>(order);
            return order;
        }));
        var options = new IfmOptions { Beta = .8 };
        IfmResult one = IterativeFeatureMerging.Run(architecture, state, options), two = IterativeFeatureMerging.Run(architecture, permuted, options);
        Assert.True(one.MergeLog.Count > 4);
        Assert.Equal(one.WidthByGroup, two.WidthByGroup);
        Tensor x = randn(5, 2, 8, 8, float64);
        Close(Evaluate(one.Architecture!, one.State, x), Evaluate(two.Architecture!, two.State, x), 1e-10);
    }

    [Fact]
    public void A_wiring_from_json_types_of_tensors_and_limits_are_kept()
    {
        Architecture architecture = Named("conv");
        Dictionary<string, Tensor> state = Randomized(architecture, 2).ToDictionary(p => p.Key, p => p.Value.is_floating_point() ? p.Value.to(float32) : p.Value);
        PermutationSpec spec = PermutationSpec.FromJson(architecture.Wiring().ToJson());
        IfmResult result = IterativeFeatureMerging.Run(state, spec, new IfmOptions { Beta = .99, MinimumWidth = 4, Groups = ["conv2"] });
        Assert.Null(result.Architecture);
        Assert.Equal(["conv2"], result.WidthByGroup.Keys);
        Assert.Equal(4, result.WidthByGroup["conv2"]);
        Assert.Equal([4, 6, 3, 3], result.State["conv2.weight"].shape);
        Assert.All(result.State.Where(p => p.Value.is_floating_point()), p => Assert.Equal(float32, p.Value.dtype));
        result.Spec.Validate(result.State);
        Assert.Equal(2, IterativeFeatureMerging.Run(state, spec, new IfmOptions { Beta = .99, MaxRatio = .25, Groups = ["conv2"] }).MergeLog.Count); // rounds 0 and 1 of 8 features

        IReadOnlyList<FeatureComplexity> profile = FeatureComplexity.Profile(state, spec, [0, .5, .9]);
        Assert.Equal(6, profile.Count);
        Assert.Equal([6L, 8L], profile.Take(2).Select(p => p.Features));
        Assert.True(profile[4].Features < 6 && profile[4].Ratio == profile[4].Features / 6.0);
    }

    [Fact]
    public void Pruning_keeps_the_features_with_the_largest_norms_in_their_order()
    {
        PermutationSpec spec = s_small.Wiring();
        // Norms of incoming weights 1, 1.105, 2.236, 1.5 and products with those of outgoing weights 1, 1.018, 3.162, 1.677.
        var widths = new Dictionary<string, long> { [Group] = 2 };
        Close(tensor(new[,] { { -1, 2 }, { 0, -1.5 } }), WidthPruning.Prune(Worked(), spec, widths, PruningCriterion.Magnitude)[In], 0);
        Dictionary<string, Tensor> loud = Worked();
        loud[Out] = tensor(new[,] { { 9, .9, -1, .5 }, { 0, .2, 1, 1 } });
        Close(tensor(new[,] { { 9.0, -1 }, { 0, 1 } }), WidthPruning.Prune(loud, spec, widths, PruningCriterion.Magnitude)[Out], 0);
        Dictionary<string, Tensor> incoming = WidthPruning.Prune(loud, spec, widths, PruningCriterion.IncomingNorm);
        Close(tensor(new[,] { { -1, .5 }, { 1, 1 } }), incoming[Out], 0);
        Close(tensor(new[] { -.2, .3 }), incoming[Bias], 0);
        Assert.True(Enumerable.Range(0, 8).Select(s => WidthPruning.Prune(loud, spec, widths, PruningCriterion.Random, s)[Bias].sum().item<double>()).Distinct().Count() > 2);
        Assert.Throws<ArgumentOutOfRangeException>(() => WidthPruning.Prune(loud, spec, new Dictionary<string, long> { [Group] = 5 }, PruningCriterion.Random));
    }

    [Fact]
    public void Activation_maps_are_the_members_mean_behind_the_activation()
    {
        Seeds.Set(0);
        using var network = new Network(Named("conv"));
        Assert.Equal("relu2", GroupActivations.Layer(network.Architecture, "conv2"));
        Tensor x = randn(3, 2, 8, 8), maps = GroupActivations.Mean(network, x, "relu1", [[1], [0, 4]]);
        network.eval();
        Tensor all = network.Evaluate(x, "relu1");
        Close(stack([all.select(1, 1), (all.select(1, 0) + all.select(1, 4)) / 2], 1).to(float64), maps.to(float64), 1e-6);
        Assert.Throws<ArgumentOutOfRangeException>(() => GroupActivations.Mean(network, x, "relu1", [[6]]));
    }

    [Fact]
    public void What_cannot_be_merged_is_refused_by_name()
    {
        string Message(Action<Dictionary<string, Tensor>> spoil, IfmOptions? options = null)
        {
            Dictionary<string, Tensor> state = Worked();
            spoil(state);
            return Assert.ThrowsAny<ArgumentException>(() => IterativeFeatureMerging.Run(state, s_small.Wiring(), options)).Message;
        }
        Assert.Contains("Beta", Message(_ => { }, new IfmOptions { Beta = 1 }));
        Assert.Contains("Beta", Message(_ => { }, new IfmOptions { Beta = -.1 }));
        Assert.Contains("ratio", Message(_ => { }, new IfmOptions { MaxRatio = 2 }));
        Assert.Contains("'layers.3.weight'", Message(s => s.Remove(Out)));
        Assert.Contains("Axis 1 of tensor 'layers.3.weight' [2, 3] does not hold the 4 units of group 'layers.1'", Message(s => s[Out] = ones(2, 3, float64)));
        Assert.Contains("'layers.1.bias' holds numbers that are not finite", Message(s => s[Bias] = s[Bias] / 0));
        Assert.Contains("no group 'layers.9'; it has: layers.1", Message(_ => { }, new IfmOptions { Groups = ["layers.9"] }));
        Assert.Contains("needs an architecture", Message(_ => { }, new IfmOptions { FoldBatchNorm = true }));
        Architecture narrow = Architectures.Mlp([2], [4, 1], 2), vit = Named("vit");
        Assert.Contains("'layers.3' has one feature", Assert.Throws<ArgumentException>(() => IterativeFeatureMerging.Run(narrow, Randomized(narrow, 0))).Message);
        Assert.Equal(["layers.1"], IterativeFeatureMerging.Run(narrow, Randomized(narrow, 0), new IfmOptions { Groups = ["layers.1"] }).Groups.Keys);
        Assert.Contains("layer normalisation", Assert.Throws<ArgumentException>(() => IterativeFeatureMerging.Run(vit, Randomized(vit, 0), new IfmOptions { Groups = ["patch_embedding"] })).Message);
    }
}
