using Priori.Merging;
using Priori.Nn;
using Priori.Runtime;
using TorchSharp.Modules;

namespace Priori.Tests.Merging;

/// <summary>The exact checks of PLeaS, its refusals and its errors. Networks are in double precision where a check is tighter than single precision.</summary>
public class PleasTests
{
    private static readonly double[,] TinyInputs = { { 1, 0 }, { 0, 1 }, { 1, 1 }, { -1, 2 } };

    private static Architecture Tiny => new([2],
    [
        new("w1", LayerKind.Linear) { Width = 2, Bias = false }, new("relu", LayerKind.Relu), new("w2", LayerKind.Linear) { Width = 1, Bias = false },
    ]);

    private static (Dictionary<string, Tensor> A, Dictionary<string, Tensor> B) TinyPair() => (
        new() { ["w1.weight"] = eye(2, dtype: float64), ["w2.weight"] = tensor(new double[,] { { 1, 2 } }) },
        new() { ["w1.weight"] = tensor(new double[,] { { 0, 1.2 }, { .8, 0 } }), ["w2.weight"] = tensor(new double[,] { { 1.5, 1.1 } }) });

    private static MergeOptions Exact(MergeMethod method, double ratio = 0, PermutationSpec? spec = null) => new()
    {
        Method = method,
        Ratios = spec is null ? null : PartialMerge.Uniform(spec, ratio),
        BatchSize = 4,
        LeastSquares = new LeastSquaresOptions { Ridge = 0 },
        ResetBatchNorm = false,
    };

    // Check 2.
    [Fact]
    public void The_worked_example_is_reproduced()
    {
        var (a, b) = TinyPair();
        Tensor x = tensor(TinyInputs);
        MergeResult pleas = ModelMerger.Merge(Tiny, a, b, x, Exact(MergeMethod.Pleas));
        AssertClose([-2.870540, -.282843, -.489898, -2.383275], pleas.Match.Scores["w1"], 5e-7);
        Assert.Equal([1, 0], pleas.Match.Permutations["w1"]);
        AssertClose([.9, 0, 0, 1.1], pleas.State["w1.weight"], 1e-12);
        AssertClose([1.044444, 1.727273], pleas.State["w2.weight"], 5e-7);
        double[] ensemble = [.94, 1.9, 2.84, 3.8];
        AssertClose(ensemble, Output(Tiny, a, x) / 2 + Output(Tiny, b, x) / 2, 1e-12);
        Assert.True((Output(pleas, x) - tensor(ensemble).unsqueeze(1)).square().mean().item<double>() < 1e-28);

        MergeResult rebasin = ModelMerger.Merge(Tiny, a, b, x, Exact(MergeMethod.GitReBasin));
        AssertClose([1.05, 1.75], rebasin.State["w2.weight"], 1e-12);
        AssertClose([.945, 1.925, 2.87, 3.85], Output(rebasin, x), 1e-12);
        Assert.Equal(.0010125, Error(rebasin), 1e-12);
        Assert.Equal(1.054644, Error(ModelMerger.Merge(Tiny, a, b, x, Exact(MergeMethod.SimpleAverage))), 5e-7);

        double Error(MergeResult result) => (Output(result, x) - tensor(ensemble).unsqueeze(1)).square().mean().item<double>();
    }

    // Check 5.
    [Fact]
    public void The_quantile_decides_which_pairs_are_merged()
    {
        var (a, b) = TinyPair();
        PermutationSpec spec = Tiny.Wiring();
        MergeResult half = ModelMerger.Merge(Tiny, a, b, tensor(TinyInputs), Exact(MergeMethod.PartialMerge, .5, spec));
        Assert.Equal(-.386370, half.Match.Scores["w1"].gather(1, tensor(half.Match.Permutations["w1"]).unsqueeze(1)).mean().item<double>(), 5e-7); // of two values the median is the mean
        UnitPartition partition = half.Partitions["w1"];
        Assert.Equal([[0], [1], [1], [0]], new[] { partition.MergedA, partition.MergedB, partition.SeparateA, partition.SeparateB });
        // Rows: the pair (A0, B1), A1, B0. The last layer reads the average of the pair and half of each separate unit.
        AssertClose([.9, 0, 0, 1, 0, 1.2], half.State["w1.weight"], 1e-12);
        AssertClose([1.05, 1, .75], half.State["w2.weight"], 1e-12);
    }

    // Check 4.
    [Theory]
    [InlineData(0, 0, 1)]
    [InlineData(.5, .5, 1.75)]
    [InlineData(1, 1, 2)]
    [InlineData(1, 0, 2)]
    public void Flops_of_a_layer_follow_the_ratios_of_its_two_groups(double r1, double r2, double factor)
    {
        FlopTerm[] terms = [new("layer", 100, "out", "in")];
        Assert.Equal(100 * factor, BudgetAllocator.Flops(terms, new Dictionary<string, double> { ["out"] = r1, ["in"] = r2 }), 1e-12);
    }

    public static TheoryData<string, double> Cases => new(
        from name in new[] { "mlp", "conv", "resnet", "flatten" }
        from ratio in new[] { 0, .2, .5, 1 }
        select (name, ratio));

    // Check 1.
    [Theory]
    [MemberData(nameof(Cases))]
    public void A_permuted_copy_is_recognised_and_merging_keeps_the_function(string name, double ratio)
    {
        var (architecture, a, _, x) = Pair(name);
        PermutationSpec spec = architecture.Wiring();
        Dictionary<string, long[]> shuffle = Shuffles(spec);
        Dictionary<string, Tensor> copy = spec.Permute(a, shuffle);
        Tensor expected = Output(architecture, a, x);
        foreach (MatchingMethod matching in new[] { MatchingMethod.Activations, MatchingMethod.Weights })
            foreach (MergeMethod method in new[] { MergeMethod.PartialMerge, MergeMethod.Pleas })
            {
                MergeResult merged = ModelMerger.Merge(architecture, a, copy, x, Exact(method, ratio, spec) with { Matching = matching });
                foreach ((string group, long[] order) in shuffle)
                    Assert.True(merged.Match.Permutations[group].Select(j => order[j]).SequenceEqual(Enumerable.Range(0, order.Length).Select(i => (long)i)), $"{matching} {group}");
                AssertClose(expected, Output(merged, x), 1e-6);
            }
    }

    // Check 3, and the width and the cost of the result.
    [Theory]
    [InlineData("mlp")]
    [InlineData("conv")]
    [InlineData("resnet")]
    [InlineData("flatten")]
    public void With_everything_separate_the_network_is_the_ensemble(string name)
    {
        var (architecture, a, b, x) = Pair(name);
        PermutationSpec spec = architecture.Wiring();
        Tensor expected = (Output(architecture, a, x) + Output(architecture, b, x)) / 2;
        foreach (MergeMethod method in new[] { MergeMethod.Ensemble, MergeMethod.PartialMerge, MergeMethod.Pleas })
        {
            MergeResult merged = ModelMerger.Merge(architecture, a, b, x, Exact(method, 1, spec));
            AssertClose(expected, Output(merged, x), 1e-5);
            Assert.All(spec.Groups, g => Assert.Equal(2 * g.Size, merged.Partitions[g.Name].Size));
            Assert.Equal(2, merged.FlopsFactor, 1e-9);
        }
    }

    // Check 8.
    [Theory]
    [InlineData("mlp")]
    [InlineData("conv")]
    public void Merging_a_network_with_itself_gives_it_back(string name)
    {
        var (architecture, a, _, x) = Pair(name);
        foreach (MergeMethod method in Enum.GetValues<MergeMethod>().Where(m => m != MergeMethod.Ensemble))
        {
            MergeResult merged = ModelMerger.Merge(architecture, a, a, x, Exact(method));
            foreach ((string tensor, Tensor value) in merged.State) AssertClose(a[tensor], value, 1e-9);
        }
    }

    // Check 6.
    [Theory]
    [InlineData("mlp", LeastSquaresSolver.ClosedForm)]
    [InlineData("conv", LeastSquaresSolver.ClosedForm)]
    [InlineData("mlp", LeastSquaresSolver.Adam)]
    public void Separate_units_of_one_network_never_read_those_of_the_other(string name, LeastSquaresSolver solver)
    {
        var (architecture, a, b, x) = Pair(name);
        PermutationSpec spec = architecture.Wiring();
        MergeOptions options = Exact(MergeMethod.Pleas, .5, spec);
        MergeResult merged = ModelMerger.Merge(architecture, a, b, x, options with { LeastSquares = options.LeastSquares with { Solver = solver, AdamSteps = 20 } });
        MergeResult partial = ModelMerger.Merge(architecture, a, b, x, options with { Method = MergeMethod.PartialMerge });
        int checkedLayers = 0;
        foreach (string weight in merged.State.Keys.Where(k => spec.AxisOf(k, AxisRole.Output) is not null && spec.AxisOf(k, AxisRole.Input) is not null))
        {
            UnitPartition rows = merged.Partitions[spec.GroupOf(weight, AxisRole.Output)!.Name], columns = merged.Partitions[spec.GroupOf(weight, AxisRole.Input)!.Name];
            Tensor w = merged.State[weight];
            (int mr, int sr, int mc, int sc) = (rows.MergedA.Length, rows.SeparateA.Length, columns.MergedA.Length, columns.SeparateA.Length);
            Assert.True(sr > 0 && sc > 0);
            Assert.Equal(0, w.narrow(0, mr, sr).narrow(1, mc + sc, sc).abs().max().item<double>());
            Assert.Equal(0, w.narrow(0, mr + sr, sr).narrow(1, mc, sc).abs().max().item<double>());
            Assert.True((w - partial.State[weight]).abs().max().item<double>() > 1e-6); // and it was fitted
            checkedLayers++;
        }
        Assert.True(checkedLayers > 0);
        if (solver == LeastSquaresSolver.ClosedForm) Assert.All(merged.LayerLosses, l => Assert.True(l.After <= l.Before * (1 + 1e-9) + 1e-20, l.ToString()));
        Assert.True(merged.LayerLosses.Sum(l => l.After) < merged.LayerLosses.Sum(l => l.Before));
    }

    // Check 6: the normal equations of each block of outputs, with ridge 0.
    [Fact]
    public void The_residual_is_orthogonal_to_the_allowed_features()
    {
        var (architecture, a, b, x) = Pair("mlp");
        PermutationSpec spec = architecture.Wiring();
        MergeResult merged = ModelMerger.Merge(architecture, a, b, x, Exact(MergeMethod.Pleas, .5, spec));
        using Network networkA = Load(architecture, a), networkB = Load(architecture, b);
        Tensor za = networkA.Evaluate(x, "layers.2"), zb = networkB.Evaluate(x, "layers.2"), ya = networkA.Evaluate(x, "layers.3"), yb = networkB.Evaluate(x, "layers.3");
        UnitPartition input = merged.Partitions["layers.1"], output = merged.Partitions["layers.3"];
        Tensor Join(Tensor ofA, Tensor ofB, UnitPartition p) => cat(
            [(ofA.index_select(1, tensor(p.MergedA)) + ofB.index_select(1, tensor(p.MergedB))) / 2, ofA.index_select(1, tensor(p.SeparateA)), ofB.index_select(1, tensor(p.SeparateB))], 1);
        Tensor z = cat([Join(za, zb, input), ones(x.shape[0], 1, float64)], 1), y = Join(ya, yb, output);
        Tensor residual = y - z.matmul(cat([merged.State["layers.3.weight"], merged.State["layers.3.bias"].unsqueeze(1)], 1).t());
        Tensor products = z.t().matmul(residual) / x.shape[0]; // [features + 1, outputs]
        (int m, int s, int n, int t) = (input.MergedA.Length, input.SeparateA.Length, output.MergedA.Length, output.SeparateA.Length);
        double Largest(long rows, long count, long column, long width) => products.narrow(0, rows, count).narrow(1, column, width).abs().max().item<double>();
        Assert.True(Largest(0, m + 2 * s + 1, 0, n) < 1e-8);
        Assert.True(Largest(0, m + s, n, t) < 1e-8);
        Assert.True(Largest(0, m, n + t, t) < 1e-8 && Largest(m + s, s, n + t, t) < 1e-8);
        Assert.True(Largest(m + 2 * s, 1, n, 2 * t) < 1e-8);
        Assert.True(Largest(m + s, s, n, t) > 1e-6); // what A's units may not read is not fitted
    }

    // Check 7.
    [Theory]
    [InlineData("mlp")]
    [InlineData("conv")]
    public void Adam_reaches_the_loss_of_the_closed_form(string name)
    {
        var (architecture, a, b, x) = Pair(name, inputs: 48);
        PermutationSpec spec = architecture.Wiring();
        MergeOptions options = Exact(MergeMethod.Pleas, .5, spec);
        double Loss(LeastSquaresOptions leastSquares) => ModelMerger.Merge(architecture, a, b, x, options with { LeastSquares = leastSquares }).LayerLosses.Sum(l => l.After);
        double closed = Loss(new LeastSquaresOptions { Ridge = 0 });
        double adam = Loss(new LeastSquaresOptions { Solver = LeastSquaresSolver.Adam, AdamSteps = 2000, LearningRate = 5e-3, BatchSize = 48 });
        Assert.True(closed <= adam * (1 + 1e-9));
        Assert.InRange(adam / closed, 1 - 1e-9, 1.01);
    }

    // Check 7.
    [Fact]
    public void The_objective_of_weight_matching_never_falls()
    {
        var (architecture, a, b, _) = Pair("resnet");
        MatchResult match = WeightMatching.Match(architecture.Wiring(), a, b);
        Assert.True(match.Objective.Count > 1);
        Assert.All(match.Objective.Zip(match.Objective.Skip(1)), p => Assert.True(p.Second >= p.First - 1e-9));
        // The scores are in B's own order: the matched ones add up to the group's part of the objective at a fixed point.
        PermutationSpec spec = architecture.Wiring();
        Dictionary<string, Tensor> aligned = spec.Permute(b, match.Permutations.ToDictionary());
        PermutationGroup group = spec.Groups[1];
        double direct = group.Axes.Where(x => !x.Tensor.Contains("running")).Sum(x => (a[x.Tensor] * aligned[x.Tensor]).sum().item<double>());
        Assert.Equal(direct, match.Scores[group.Name].gather(1, tensor(match.Permutations[group.Name]).unsqueeze(1)).sum().item<double>(), 1e-6);
    }

    [Fact]
    public void Heads_of_different_label_spaces_read_the_merged_trunk()
    {
        var (_, _, _, x) = Pair("mlp");
        Architecture three = Architectures.Mlp([6], [8, 8], 3), four = Architectures.Mlp([6], [8, 8], 4);
        Dictionary<string, Tensor> a = State(three, 1), b = State(four, 2);
        PermutationSpec spec = three.Trunk().Wiring(fixOutput: false);
        MergeResult all = ModelMerger.MergeTrunks(three, a, four, b, x, Exact(MergeMethod.Pleas, 1, spec));
        AssertClose(cat([Output(three, a, x), Output(four, b, x)], 1), Output(all, x), 1e-9);

        MergeResult half = ModelMerger.MergeTrunks(three, a, four, b, x, Exact(MergeMethod.Pleas, .5, spec));
        using Network network = half.ToNetwork();
        Tensor features = network.Evaluate(x, "layers.4"), logits = network.call(x);
        UnitPartition partition = half.Partitions["layers.3"];
        Tensor Head(Dictionary<string, Tensor> state, MergeSource source) =>
            functional.linear(SeparateHeads.Unpermute(features, partition, source), state["layers.5.weight"], state["layers.5.bias"]);
        AssertClose(cat([Head(a, MergeSource.A), Head(b, MergeSource.B)], 1), logits, 1e-9);
        Assert.True((logits - Output(all, x)).abs().max().item<double>() > 1e-4);
        Assert.Contains("differ", Assert.Throws<ArgumentException>(() => ModelMerger.MergeTrunks(three, a, Architectures.Mlp([6], [8, 7], 4), b, x)).Message);
    }

    [Fact]
    public void A_probe_learns_from_features()
    {
        Seeds.Set(0);
        Tensor labels = randint(3, [300], int64), features = functional.one_hot(labels, 3).to(float32) * 4 + 0.1 * randn(300, 3);
        using Linear probe = SeparateHeads.FitProbe(features, labels, 3, epochs: 60, learningRate: 1e-2);
        Assert.True(probe.call(features).argmax(1).eq(labels).to(float32).mean().item<float>() > 0.98f);
        Assert.Throws<ArgumentException>(() => SeparateHeads.FitProbe(features, labels, 2));
    }

    [Fact]
    public void Transformers_merge_by_heads_and_keep_their_stream()
    {
        var (architecture, a, b, x) = Pair("vit");
        PermutationSpec spec = architecture.Wiring();
        PermutationGroup heads = spec.GroupOf("blocks.0.attention.query.weight", AxisRole.Output)!, stream = spec.GroupOf("patch_embedding.weight", AxisRole.Output)!;
        Assert.Equal(3, heads.Size);
        Assert.True(stream.Inseparable);
        Dictionary<string, long[]> shuffle = Shuffles(spec);
        MergeResult copy = ModelMerger.Merge(architecture, a, spec.Permute(a, shuffle), x, Exact(MergeMethod.Pleas, .5, spec));
        AssertClose(Output(architecture, a, x), Output(copy, x), 1e-6);
        MergeResult split = ModelMerger.Merge(architecture, a, b, x, Exact(MergeMethod.Pleas, 1, spec));
        Assert.Equal(6, split.Architecture.Layers.First(l => l.Kind == LayerKind.Attention).Heads);
        Assert.Equal([x.shape[0], 3], Output(split, x).shape);
        Assert.Throws<ArgumentException>(() => ModelMerger.Merge(architecture, a, b, x, Exact(MergeMethod.Pleas) with { Ratios = new Dictionary<string, double> { [stream.Name] = .5 } }));
        Assert.Throws<ArgumentException>(() => ModelMerger.Merge(architecture, a, b, x, Exact(MergeMethod.Ensemble)));
    }

    [Fact]
    public void Batch_normalisation_is_estimated_anew_from_the_inputs()
    {
        var (architecture, a, b, x) = Pair("conv");
        MergeResult merged = ModelMerger.Merge(architecture, a, b, x, Exact(MergeMethod.Pleas) with { ResetBatchNorm = true, BatchSize = (int)x.shape[0] });
        Tensor first = functional.conv2d(x, merged.State["conv1.weight"], padding: [1, 1]);
        AssertClose(first.mean([0, 2, 3]), merged.State["bn1.running_mean"], 1e-9);
        AssertClose(first.var([0, 2, 3]), merged.State["bn1.running_var"], 1e-9);
        AssertClose((a["bn1.weight"] + b["bn1.weight"].index_select(0, tensor(merged.Match.Permutations["conv1"]))) / 2, merged.State["bn1.weight"], 1e-12);
    }

    [Fact]
    public void Allocation_is_within_the_budget_and_near_the_best()
    {
        var random = new SplitMix64(5);
        for (int trial = 0; trial < 12; trial++)
        {
            int groups = trial < 8 ? 3 : 14;
            string[] names = [.. Enumerable.Range(0, groups).Select(i => $"g{i}")];
            List<FlopTerm> terms = [new("first", 1 + random.NextDouble(), names[0], null), new("last", 1 + random.NextDouble(), null, names[^1])];
            for (int i = 1; i < groups; i++) terms.Add(new($"t{i}", 1 + 5 * random.NextDouble(), names[i], names[i - 1]));
            if (trial % 2 == 1) terms.Add(new("tied", 2, names[1], names[1]));
            var weights = names.ToDictionary(n => n, _ => random.NextDouble());
            double budget = 1.1 + 0.8 * random.NextDouble(), allowed = budget * terms.Sum(t => t.Flops);
            BudgetAllocation allocation = BudgetAllocator.Allocate(terms, weights, budget);
            Assert.True(BudgetAllocator.Flops(terms, allocation.Ratios) <= allowed * (1 + 1e-9));
            Assert.All(allocation.Ratios.Values, r => Assert.InRange(r, 0, 1));
            Assert.True(allocation.UpperBound >= allocation.Objective - 1e-9);
            double worst = BudgetAllocator.Uniform(terms, names, budget).Sum(p => weights[p.Key] * p.Value);
            Assert.True(allocation.Objective >= worst - 1e-6);
            if (groups > 3) continue;
            double best = 0;
            for (int i = 0; i <= 50; i++)
                for (int j = 0; j <= 50; j++)
                    for (int k = 0; k <= 50; k++)
                    {
                        double value = (weights["g0"] * i + weights["g1"] * j + weights["g2"] * k) / 50;
                        if (value > best && BudgetAllocator.Flops(terms, new Dictionary<string, double> { ["g0"] = i / 50.0, ["g1"] = j / 50.0, ["g2"] = k / 50.0 }) <= allowed) best = value;
                    }
            Assert.True(allocation.Objective >= best - 1e-3, $"{allocation.Objective} against {best}");
        }
    }

    [Theory]
    [InlineData(18, new[] { 1.24, 1.46, 1.71 })]
    [InlineData(50, new[] { 1.2, 1.55, 1.8 })]
    public void The_published_zip_budgets_are_stages_of_the_network(int depth, double[] budgets)
    {
        Architecture architecture = ResNet.Describe(depth, 345, ResNetStem.ImageNet);
        PermutationSpec spec = architecture.Wiring();
        IReadOnlyList<FlopTerm> terms = FlopCounter.Terms(architecture, spec);
        string[] groups = [.. spec.Groups.Select(g => g.Name)];
        for (int separateStages = 1; separateStages <= budgets.Length; separateStages++)
        {
            var ratios = groups.ToDictionary(g => g, g => g.StartsWith("layer", StringComparison.Ordinal) && g[5] - '0' > 4 - separateStages ? 1.0 : 0.0);
            double factor = BudgetAllocator.Flops(terms, ratios) / terms.Sum(t => t.Flops);
            Assert.Equal(budgets[separateStages - 1], factor, 0.06);
            Dictionary<string, double> zip = BudgetAllocator.Zip(terms, groups, factor);
            Assert.Equal(ratios.Where(r => r.Value == 1).Select(r => r.Key).Order(), zip.Where(r => r.Value == 1).Select(r => r.Key).Order());
        }
    }

    [Theory]
    [InlineData(BudgetAllocationMethod.Optimized)]
    [InlineData(BudgetAllocationMethod.Zip)]
    [InlineData(BudgetAllocationMethod.Uniform)]
    public void The_merged_network_keeps_to_the_budget(BudgetAllocationMethod allocation)
    {
        var (architecture, a, b, x) = Pair("conv");
        MergeResult merged = ModelMerger.Merge(architecture, a, b, x, new MergeOptions { Budget = 1.6, Allocation = allocation, BatchSize = 8 });
        Assert.InRange(merged.FlopsFactor, 1, 1.6 + 1e-9);
        Assert.True(merged.FlopsFactor > 1.2);
        Assert.True(FlopCounter.Count(merged.Architecture) > FlopCounter.Count(architecture));
        Assert.Equal([x.shape[0], 3], Output(merged, x).shape);
    }

    [Theory]
    [InlineData(MergeMethod.Pleas)]
    [InlineData(MergeMethod.GitReBasin)]
    public void Three_copies_in_other_orders_become_the_network_itself(MergeMethod method)
    {
        var (architecture, a, _, x) = Pair("conv");
        PermutationSpec spec = architecture.Wiring();
        IReadOnlyDictionary<string, Tensor> Shuffled(int seed) => spec.Permute(a, spec.Groups.ToDictionary(g => g.Name, g =>
        {
            long[] order = [.. Enumerable.Range(0, (int)g.Size).Select(i => (long)i)];
            SplitMix64.For(seed, g.Size).Shuffle<long>(order);
            return order;
        }));
        MergeResult merged = ModelMerger.Merge(architecture, [a, Shuffled(1), Shuffled(2)], x, new MergeOptions { Method = method, BatchSize = 8, ResetBatchNorm = false });
        AssertClose(Output(architecture, a, x), Output(merged, x), 1e-4);
        Assert.Equal(1, merged.FlopsFactor, 1e-12);
    }

    [Fact]
    public void The_least_squares_of_three_networks_fit_their_ensemble()
    {
        var (a, b) = TinyPair();
        var c = new Dictionary<string, Tensor> { ["w1.weight"] = tensor(new double[,] { { 1.1, 0 }, { 0, .7 } }), ["w2.weight"] = tensor(new double[,] { { .8, 2.2 } }) };
        Tensor x = tensor(TinyInputs);
        Tensor Features(Dictionary<string, Tensor> state) => x.matmul(state["w1.weight"].t()).relu();
        Tensor za = Features(a), zb = Features(b).index_select(1, tensor(new long[] { 1, 0 })), zc = Features(c);
        Tensor ya = Output(Tiny, a, x), yb = Output(Tiny, b, x), yc = Output(Tiny, c, x);
        Tensor Fit(Tensor z, Tensor y) => linalg.solve(z.t().matmul(z), z.t().matmul(y)).t();
        Tensor Weight(MergeMethod method) => ModelMerger.Merge(Tiny, [a, b, c], x, Exact(method)).State["w2.weight"];
        AssertClose(Fit((za + zb + zc) / 3, (ya + yb + yc) / 3), Weight(MergeMethod.Pleas), 1e-9);
        AssertClose(Fit(cat([za, zb, zc], 0), cat([ya, yb, yc], 0)), Weight(MergeMethod.PermSeparateLs), 1e-9);
        Assert.Contains("Only two networks", Assert.Throws<ArgumentException>(() => ModelMerger.Merge(Tiny, [a, b, c], x, Exact(MergeMethod.Pleas) with { Budget = 1.5 })).Message);
        Assert.Throws<ArgumentException>(() => ModelMerger.Merge(Tiny, [a], x, Exact(MergeMethod.Pleas)));
    }

    [Fact]
    public void Ablations_and_regmean_solve_their_own_problems()
    {
        var (a, b) = TinyPair();
        Tensor x = tensor(TinyInputs);
        Tensor Weight(MergeMethod method) => ModelMerger.Merge(Tiny, a, b, x, Exact(method)).State["w2.weight"];
        Tensor za = tensor(new double[,] { { 1, 0 }, { 0, 1 }, { 1, 1 }, { 0, 2 } }), zb = tensor(new double[,] { { 0, .8 }, { 1.2, 0 }, { 1.2, .8 }, { 2.4, 0 } });
        Tensor ya = za.matmul(a["w2.weight"].t()), yb = zb.matmul(b["w2.weight"].t());
        Tensor Fit(Tensor z, Tensor y) => linalg.solve(z.t().matmul(z), z.t().matmul(y)).t();
        AssertClose(Fit(cat([za, zb], 0), cat([ya, yb], 0)), Weight(MergeMethod.RegMean), 1e-9);
        Tensor aligned = zb.index_select(1, tensor(new long[] { 1, 0 }));
        AssertClose(Fit(cat([za, aligned], 0), cat([ya, yb], 0)), Weight(MergeMethod.PermSeparateLs), 1e-9);
        AssertClose(Fit((za + aligned) / 2, (ya + yb) / 2), Weight(MergeMethod.PermMixedLs), 1e-9); // without separate units, two targets for one input are their mean
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        var (architecture, a, b, x) = Pair("mlp");
        PermutationSpec spec = architecture.Wiring();
        Assert.Throws<ArgumentException>(() => ModelMerger.Merge(architecture, a, b, null)); // activation matching without data
        Assert.Throws<ArgumentException>(() => ModelMerger.Merge(architecture, a, b, x.narrow(0, 0, 0)));
        Assert.Throws<ArgumentException>(() => ModelMerger.Merge(architecture, a, b, null, new MergeOptions { Matching = MatchingMethod.Weights }));
        Assert.Throws<ArgumentOutOfRangeException>(() => ModelMerger.Merge(architecture, a, b, x, new MergeOptions { Budget = 2.5 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => ModelMerger.Merge(architecture, a, b, x, Exact(MergeMethod.Pleas, 1.5, spec)));
        Assert.Throws<ArgumentException>(() => ModelMerger.Merge(architecture, a, b, x, Exact(MergeMethod.Pleas) with { Ratios = new Dictionary<string, double> { ["nothing"] = .5 } }));
        Assert.Throws<ArgumentException>(() => ModelMerger.Merge(architecture, a, b, x, new MergeOptions { LeastSquares = new LeastSquaresOptions { Ridge = -1 } }));
        Dictionary<string, Tensor> missing = new(b);
        missing.Remove("layers.1.bias");
        Assert.Contains("layers.1.bias", Assert.Throws<ArgumentException>(() => PartialMerge.Build(spec, a, missing, MatchResult.Identity(spec), PartialMerge.Uniform(spec, 0))).Message);
        Assert.Contains("layers.1.bias", Assert.Throws<ArgumentException>(() => WeightMatching.Match(spec, a, missing)).Message);
        Assert.NotNull(ModelMerger.Merge(architecture, a, b, null, new MergeOptions { Method = MergeMethod.GitReBasin, Matching = MatchingMethod.Weights }).State);
        Assert.Contains("w1", Assert.Throws<ArgumentException>(() => new PermutationSpec([new("g", 2, [new("w1", 0, AxisRole.Output), new("w1", 1, AxisRole.Output)], [])])).Message);
    }

    private static (Architecture Architecture, Dictionary<string, Tensor> A, Dictionary<string, Tensor> B, Tensor Inputs) Pair(string name, long inputs = 40)
    {
        Architecture architecture = name switch
        {
            "mlp" => Architectures.Mlp([6], [8, 8], 3),
            "conv" => Architectures.ConvNet([2, 6, 6], [6, 8], 3),
            "resnet" => ResNet.Describe(18, 3, ResNetStem.Cifar, width: 4, inputChannels: 2, imageSize: 8),
            "vit" => Architectures.VisionTransformer(1, 8, 4, width: 12, depth: 1, heads: 3, mlpWidth: 10, classes: 3),
            "flatten" => new Architecture([2, 5, 5],
            [
                new("c", LayerKind.Conv2d) { Width = 5, Kernel = 3 }, new("t", LayerKind.Tanh), new("f", LayerKind.Flatten),
                new("h", LayerKind.Linear) { Width = 6 }, new("n", LayerKind.BatchNorm), new("r", LayerKind.Relu), new("o", LayerKind.Linear) { Width = 3 },
            ]),
            _ => throw new ArgumentException(name),
        };
        Seeds.Set(9);
        return (architecture, State(architecture, 1), State(architecture, 2), randn([inputs, .. architecture.Input], dtype: float64));
    }

    private static Dictionary<string, Tensor> State(Architecture architecture, int seed)
    {
        Seeds.Set(seed);
        using var network = new Network(architecture);
        network.to(ScalarType.Float64);
        using (no_grad())
            foreach (NormBase norm in network.WeightedLayers.Values.OfType<NormBase>())
            {
                norm.weight.uniform_(.5, 1.5);
                norm.bias!.normal_(0, .2);
            }
        BatchNormReset.Run(network, randn([64, .. architecture.Input], dtype: float64)); // units stay alive behind a ReLU
        return network.State();
    }

    private static Dictionary<string, long[]> Shuffles(PermutationSpec spec)
    {
        var random = new SplitMix64(11);
        return spec.Groups.ToDictionary(g => g.Name, g =>
        {
            long[] order = [.. Enumerable.Range(0, (int)g.Size).Select(i => (long)i)];
            random.Shuffle<long>(order);
            return order;
        });
    }

    private static Network Load(Architecture architecture, IReadOnlyDictionary<string, Tensor> state) => ModelMerger.Load(architecture, state);

    private static Tensor Output(Architecture architecture, IReadOnlyDictionary<string, Tensor> state, Tensor x)
    {
        using Network network = Load(architecture, state);
        return network.call(x).detach();
    }

    private static Tensor Output(MergeResult merged, Tensor x) => Output(merged.Architecture, merged.State, x);

    private static void AssertClose(double[] expected, Tensor actual, double tolerance)
    {
        double[] values = actual.detach().to(float64).contiguous().data<double>().ToArray();
        Assert.Equal(expected.Length, values.Length);
        for (int i = 0; i < values.Length; i++) Assert.Equal(expected[i], values[i], tolerance);
    }

    private static void AssertClose(Tensor expected, Tensor actual, double tolerance)
    {
        Assert.Equal(expected.shape, actual.shape);
        double worst = (expected - actual).abs().max().to(float64).item<double>();
        Assert.True(worst <= tolerance, $"differs by {worst}");
    }
}
