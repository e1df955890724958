using System.Diagnostics;
using System.Globalization;
using System.Text;
using Priori.Data;
using Priori.Merging;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using static Priori.Recipes.BadInput;

namespace Priori.Recipes.Merging;

/// <summary>Options of <see cref="PleasRecipe"/>.</summary>
public sealed record PleasRecipeOptions : RecipeOptions
{
    /// <summary>Method for own checkpoints.</summary>
    [Option("Own checkpoints: how to merge.")]
    public MergeMethod Method { get; init; } = MergeMethod.Pleas;

    /// <summary>FLOPs budget for own checkpoints.</summary>
    [Option("Own checkpoints: FLOPs of the merged network relative to one of them; 1.2 for two checkpoints unless given, and always 1 for more.", Min = 1, Max = 2)]
    public double? Budget { get; init; }

    /// <summary>Allocation of the budget.</summary>
    [Option("Own checkpoints: how the budget is spent over the layers.")]
    public BudgetAllocationMethod Allocation { get; init; } = BudgetAllocationMethod.Optimized;

    /// <summary>Uniform ratio for checkpoints with a wiring only.</summary>
    [Option("Own checkpoints with wiring.json only: fraction of units kept separate in every group.", Min = 0, Max = 1)]
    public double Ratio { get; init; }

    /// <summary>Heads.</summary>
    [Option("Own checkpoints: one label space, or a head for each network.", Choices = ["shared", "separate"])]
    public string Heads { get; init; } = "shared";

    /// <summary>Matching.</summary>
    [Option("How units are aligned.")]
    public MatchingMethod Matching { get; init; } = MatchingMethod.Activations;

    /// <summary>Solver.</summary>
    [Option("Solver of the least squares.")]
    public LeastSquaresSolver Solver { get; init; } = LeastSquaresSolver.ClosedForm;

    /// <summary>Ridge.</summary>
    [Option("Ridge of the closed form, relative to the mean diagonal of the Gram matrix.", Min = 0)]
    public double Ridge { get; init; } = 1e-4;

    /// <summary>Steps of Adam.</summary>
    [Option("Steps of the Adam solver.", Min = 1)]
    public int AdamSteps { get; init; } = 400;

    /// <summary>Batches of matching and of the batch normalisation reset.</summary>
    [Option("Most batches in activation matching and in the batch normalisation reset.", Min = 1)]
    public int Batches { get; init; } = 100;

    /// <summary>Mean of each channel.</summary>
    [Option("Own data: mean of each channel, subtracted from inputs in 0..1; empty for none.")]
    public IReadOnlyList<double> Mean { get; init; } = [];

    /// <summary>Deviation of each channel.</summary>
    [Option("Own data: deviation of each channel, which inputs are divided by.")]
    public IReadOnlyList<double> Deviation { get; init; } = [];

    /// <summary>Width of the perceptron.</summary>
    [Option("Width of both hidden layers of the perceptron.", Min = 2)]
    public int Width { get; init; } = 128;

    /// <summary>Ratios.</summary>
    [Option("Fractions of separate units that are compared.", Min = 0, Max = 1)]
    public IReadOnlyList<double> Ratios { get; init; } = [0, .2, .5, 1];

    /// <summary>Training images.</summary>
    [Option("Training images of each network.", Min = 100)]
    public int TrainImages { get; init; } = 20_000;

    /// <summary>Epochs.</summary>
    [Option("Epochs of each network.", Min = 1)]
    public int Epochs { get; init; } = 4;

    /// <summary>Calibration images.</summary>
    [Option("Unlabelled images, half of each domain.", Min = 64)]
    public int CalibrationImages { get; init; } = 4000;

    /// <summary>Test images.</summary>
    [Option("Test images of each domain.", Min = 10)]
    public int TestImages { get; init; } = 4000;

    /// <summary>Training images of the convolutional networks.</summary>
    [Option("Training images of each convolutional network.", Min = 100)]
    public int ConvTrainImages { get; init; } = 8000;

    /// <summary>Widths of the convolutional networks.</summary>
    [Option("Channels of the convolutional networks.", Min = 2)]
    public IReadOnlyList<long> ConvWidths { get; init; } = [16, 32, 32];

    /// <summary>Learning rate.</summary>
    [Option("Adam's learning rate in training.", Min = 1e-8)]
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Batch size.</summary>
    [Option("Images in a training batch.", Min = 2)]
    public int BatchSize { get; init; } = 100;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Ratios.Count == 0 || !Ratios.SequenceEqual(Ratios.Order()) || Ratios[0] != 0) throw new BadInputException("Option 'ratios' must ascend from 0, for example 0,0.2,0.5,1.");
        if (Mean.Count != Deviation.Count) throw new BadInputException("Options 'mean' and 'deviation' must have as many numbers.");
    }
}

/// <summary>How a merged model of <see cref="PleasRecipe"/> is rebuilt and fed.</summary>
/// <param name="Architecture">The description of the merged network (JSON); null for checkpoints with a wiring only.</param>
/// <param name="ClassesA">Number of A's logits when each network has its own head (A's come first); 0 for one label space.</param>
/// <param name="Mean">Mean of each channel that was subtracted.</param>
/// <param name="Deviation">Deviation of each channel.</param>
public sealed record PleasModel(string? Architecture, int ClassesA, IReadOnlyList<double> Mean, IReadOnlyList<double> Deviation);

/// <summary>PLeaS and its baselines: two networks of different initialisations and domains become one, and the user's own two checkpoints do.</summary>
public sealed class PleasRecipe : Recipe<PleasRecipeOptions>
{
    private static readonly double[] PublishedBudgets = [1, 1.2, 1.55, 1.8, 2];

    /// <inheritdoc/>
    public override string Id => "pleas";

    /// <inheritdoc/>
    public override string Area => "Merging";

    /// <inheritdoc/>
    public override string Title => "PLeaS";

    /// <inheritdoc/>
    public override string Summary => "Merges two networks of one architecture into one of a chosen size, with unlabelled inputs and no training.";

    /// <inheritdoc/>
    public override Paper Paper => new("PLeaS - Merging Models with Permutations and Least Squares", "Nasery, Hayase, Koh, Oh", "CVPR", 2025, "https://arxiv.org/abs/2407.02447");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("above-rebasin", "At the cost of one network PLeaS is at least 0.06 more accurate than Git Re-Basin, on every seed (the smallest difference)."),
        new("above-regmean", "At the cost of one network PLeaS is at least 0.015 more accurate than RegMean, on every seed."),
        new("least-squares-r0.2", "With ratio 0.2 least squares add at least 0.05 to the partial merge, on every seed."),
        new("least-squares-r0.5", "With ratio 0.5 least squares add at least 0.05 to the partial merge, on every seed."),
        new("increasing", "PLeaS becomes more accurate with every larger ratio, on every seed (the smallest step is above 0)."),
        new("ensemble", "With ratio 1 PLeaS is within 0.005 of the ensemble of the two networks, on every seed (the largest difference)."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        [MergeFolder.Tuned] = "The checkpoints to merge, in place of a folder with a.safetensors, b.safetensors: a folder of .safetensors files, or paths with commas between them.",
        [MergeFolder.Layers] = "arch.json, the layers of the checkpoints; found beside them when not given.",
    };

    /// <inheritdoc/>
    public override PleasRecipeOptions Defaults(Budget budget) => budget switch
    {
        Reproduction.Budget.Smoke => new PleasRecipeOptions { Width = 64, Ratios = [0, .5], TrainImages = 1000, Epochs = 1, CalibrationImages = 200, TestImages = 200, ConvTrainImages = 200, ConvWidths = [4, 8], Batches = 10, AdamSteps = 20 },
        // Table 1 of the paper: ResNet-50, the published solver, batches and steps. The checkpoints come with --data.
        Reproduction.Budget.Paper => new PleasRecipeOptions { Solver = LeastSquaresSolver.Adam, AdamSteps = 400, Batches = 100, Mean = [.485, .456, .406], Deviation = [.229, .224, .225] },
        _ => new PleasRecipeOptions(),
    };

    /// <inheritdoc/>
    public override void Run(PleasRecipeOptions options, RunContext context)
    {
        if (context.Data is { } data)
        {
            RunOnCheckpoints(options, context, data);
            return;
        }
        if (context.Budget == Reproduction.Budget.Paper)
            throw new BadInputException("The paper merges ResNets trained on DomainNet and fine-grained sets: bring them with --data FOLDER (a.safetensors, b.safetensors, arch.json, calib).");
        TurnedDigits digits = TurnedDigits.Load(options, context);
        RunDomains(options, context, digits);
        RunConvolutional(options, context, digits);
        RunLabelSpaces(options, context, digits);
    }

    // The card's main experiment: upright and rotated digits, one label space.
    private static void RunDomains(PleasRecipeOptions options, RunContext context, TurnedDigits digits)
    {
        Architecture architecture = Architectures.Mlp([1, 28, 28], [options.Width, options.Width], 10);
        PermutationSpec spec = architecture.Wiring();
        (string Name, Tensor Inputs)? other = OtherImages(options, context);
        Tensor calibration = digits.Calibration;
        var results = new Dictionary<string, List<ArmResult>>();
        foreach (int seed in context.Seeds)
        {
            TrainPair("mlp", options, context, seed, architecture, digits.Train(options.TrainImages, rotated: false), architecture, digits.Train(options.TrainImages, rotated: true));
            void Arm(string name, MergeMethod method, double ratio, Func<MergeOptions, MergeOptions>? change = null, Tensor? inputs = null, bool save = false)
            {
                ArmResult result = context.Arm(name, seed, run =>
                {
                    (Dictionary<string, Tensor> a, Dictionary<string, Tensor> b) = Pair("mlp", context, seed);
                    MergeOptions merging = Merging(options, method, seed, Math.Max(2, options.CalibrationImages / options.Batches)) with { Ratios = PartialMerge.Uniform(spec, ratio) };
                    MergeResult merged = Merge(run, () => ModelMerger.Merge(architecture, a, b, inputs ?? calibration, change is null ? merging : change(merging)));
                    using Network network = merged.ToNetwork();
                    MeasureDomains(run, network, digits, options.TestImages);
                    if (save && seed == context.Seeds[0]) run.SaveModel("merged", merged.State, new PleasModel(merged.Architecture.ToJson(), 0, [], []));
                });
                if (!results.TryGetValue(name, out List<ArmResult>? list)) results[name] = list = [];
                list.Add(result);
            }
            Arm("simple average", MergeMethod.SimpleAverage, 0);
            Arm("git re-basin", MergeMethod.GitReBasin, 0);
            Arm("git re-basin, weights", MergeMethod.GitReBasin, 0, m => m with { Matching = MatchingMethod.Weights });
            Arm("regmean", MergeMethod.RegMean, 0);
            double middle = options.Ratios[options.Ratios.Count / 2];
            foreach (double ratio in options.Ratios)
            {
                if (ratio is > 0 and < 1) Arm(Named("partial merge", ratio), MergeMethod.PartialMerge, ratio);
                Arm(Named("pleas", ratio), MergeMethod.Pleas, ratio, save: ratio == middle);
                if (other is { } free && ratio < 1) Arm(Named($"pleas-free ({free.Name})", ratio), MergeMethod.Pleas, ratio, inputs: free.Inputs);
            }
            Arm(Named("perm separate-ls", middle), MergeMethod.PermSeparateLs, middle);
            Arm(Named("perm mixed-ls", middle), MergeMethod.PermMixedLs, middle);
            Arm(Named("pleas, adam", middle), MergeMethod.Pleas, middle, m => m with { LeastSquares = m.LeastSquares with { Solver = LeastSquaresSolver.Adam } });
            foreach (BudgetAllocationMethod allocation in Enum.GetValues<BudgetAllocationMethod>())
                Arm($"pleas, budget 1.55 {allocation.ToString().ToLowerInvariant()}", MergeMethod.Pleas, 0, m => m with { Ratios = null, Budget = 1.55, Allocation = allocation });
            Arm("ensemble", MergeMethod.Ensemble, 1);
        }

        double[] Accuracy(string arm) => [.. results[arm].Select(r => r["accuracy"])];
        double[] Gain(string arm, string over) => [.. Accuracy(arm).Zip(Accuracy(over), (x, y) => x - y)];
        void AtLeast(string claim, double[] perSeed, double threshold) => context.Check(claim, perSeed.Min(), Comparison.AtLeast, threshold, perSeed);
        AtLeast("above-rebasin", Gain("pleas", "git re-basin"), .06);
        AtLeast("above-regmean", Gain("pleas", "regmean"), .015);
        foreach (double ratio in new[] { .2, .5 })
            if (options.Ratios.Contains(ratio)) AtLeast(FormattableString.Invariant($"least-squares-r{ratio}"), Gain(Named("pleas", ratio), Named("partial merge", ratio)), .05);
        double[][] steps = [.. options.Ratios.Zip(options.Ratios.Skip(1), (low, high) => Gain(Named("pleas", high), Named("pleas", low)))];
        if (steps.Length > 0)
        {
            double[] smallest = [.. Enumerable.Range(0, context.Seeds.Count).Select(s => steps.Min(step => step[s]))];
            context.Check("increasing", smallest.Min(), Comparison.AtLeast, 1e-9, smallest);
        }
        if (options.Ratios.Contains(1))
        {
            double[] differences = [.. Gain(Named("pleas", 1), "ensemble").Select(Math.Abs)];
            context.Check("ensemble", differences.Max(), Comparison.AtMost, .005, differences);
        }
        Table(context, "domains", "Upright and rotated digits, perceptron: mean accuracy over the two domains, cost relative to one network.", results);

        Curve Line(string method, bool dashed) => new(method,
            [.. options.Ratios.Where(r => results.ContainsKey(Named(method, r))).Select(r => results[Named(method, r)].Average(x => x["flops"]))],
            [.. context.Seeds.Select((_, s) => (IReadOnlyList<double>)[.. options.Ratios.Where(r => results.ContainsKey(Named(method, r))).Select(r => results[Named(method, r)][s]["accuracy"])])], dashed);
        var curves = new List<Curve> { Line("pleas", false) };
        if (other is { } used) curves.Add(Line($"pleas-free ({used.Name})", false));
        double[] partial = [.. options.Ratios.Where(r => r is > 0 and < 1)];
        string PartialArm(double r) => r == 0 ? "git re-basin" : r == 1 ? "ensemble" : Named("partial merge", r);
        double[] all = [0, .. partial, 1];
        curves.Add(new Curve("partial merge (re-basin to ensemble)", [.. all.Select(r => results[PartialArm(r)].Average(x => x["flops"]))],
            [.. context.Seeds.Select((_, s) => (IReadOnlyList<double>)[.. all.Select(r => results[PartialArm(r)][s]["accuracy"])])], true));
        foreach (string point in new[] { "simple average", "regmean", Named("perm separate-ls", options.Ratios[options.Ratios.Count / 2]), Named("perm mixed-ls", options.Ratios[options.Ratios.Count / 2]) })
            curves.Add(new Curve(point, [results[point][0]["flops"]], [.. results[point].Select(r => (IReadOnlyList<double>)[r["accuracy"]])]));
        context.Figure("accuracy-flops", "Mean accuracy over both domains against the cost of the merged network.", Charts.Lines("Upright and rotated digits, one network of two", "FLOPs relative to one network", "accuracy", curves));
        LossFigure(context, "layer-loss", results[Named("pleas", options.Ratios[options.Ratios.Count / 2])]);
    }

    private static void RunConvolutional(PleasRecipeOptions options, RunContext context, TurnedDigits digits)
    {
        Architecture architecture = Architectures.ConvNet([1, 28, 28], options.ConvWidths, 10, firstStride: 2);
        PermutationSpec spec = architecture.Wiring();
        // 250 of each domain are enough: a convolution has many observations an image.
        long half = digits.Calibration.shape[0] / 2;
        Tensor calibration = digits.Calibration.view(2, half, 1, 28, 28).narrow(1, 0, Math.Min(250, half)).flatten(0, 1);
        var results = new Dictionary<string, List<ArmResult>>();
        foreach (int seed in context.Seeds)
        {
            TrainPair("conv", options, context, seed, architecture, digits.Train(options.ConvTrainImages, rotated: false), architecture, digits.Train(options.ConvTrainImages, rotated: true));
            void Arm(string name, MergeMethod method, double ratio, bool reset = true)
            {
                ArmResult result = context.Arm($"conv {name}", seed, run =>
                {
                    (Dictionary<string, Tensor> a, Dictionary<string, Tensor> b) = Pair("conv", context, seed);
                    MergeResult merged = Merge(run, () => ModelMerger.Merge(architecture, a, b, calibration, Merging(options, method, seed) with { Ratios = PartialMerge.Uniform(spec, ratio), ResetBatchNorm = reset }));
                    using Network network = merged.ToNetwork();
                    MeasureDomains(run, network, digits, options.TestImages);
                });
                if (!results.TryGetValue(name, out List<ArmResult>? list)) results[name] = list = [];
                list.Add(result);
            }
            Arm("simple average", MergeMethod.SimpleAverage, 0);
            Arm("git re-basin, no reset", MergeMethod.GitReBasin, 0, reset: false);
            Arm("git re-basin", MergeMethod.GitReBasin, 0);
            Arm("regmean", MergeMethod.RegMean, 0);
            Arm("pleas", MergeMethod.Pleas, 0);
            Arm(Named("partial merge", .5), MergeMethod.PartialMerge, .5);
            Arm(Named("pleas", .5), MergeMethod.Pleas, .5);
            Arm("ensemble, no reset", MergeMethod.Ensemble, 1, reset: false);
        }
        Table(context, "conv", "Upright and rotated digits, convolutions with batch normalisation: statistics are estimated anew after merging unless it says no reset.", results);
    }

    private static void RunLabelSpaces(PleasRecipeOptions options, RunContext context, TurnedDigits digits)
    {
        Architecture architecture = Architectures.Mlp([1, 28, 28], [options.Width, options.Width], 5);
        PermutationSpec spec = architecture.Trunk().Wiring(fixOutput: false);
        string feature = architecture.Layers[^2].Name;
        var results = new Dictionary<string, List<ArmResult>>();
        foreach (int seed in context.Seeds)
        {
            TrainPair("heads", options, context, seed, architecture, digits.OfClasses(0, options.TrainImages), architecture, digits.OfClasses(5, options.TrainImages));
            void Arm(string name, MergeMethod method, double ratio)
            {
                ArmResult result = context.Arm($"heads {name}", seed, run =>
                {
                    (Dictionary<string, Tensor> a, Dictionary<string, Tensor> b) = Pair("heads", context, seed);
                    Tensor calibration = digits.Calibration.narrow(0, 0, digits.Calibration.shape[0] / 2); // upright: both networks' domain
                    MergeResult merged = Merge(run, () => ModelMerger.MergeTrunks(architecture, a, architecture, b, calibration, Merging(options, method, seed) with { Ratios = PartialMerge.Uniform(spec, ratio) }));
                    using Network network = merged.ToNetwork();
                    using var _ = no_grad();
                    (Tensor x, Tensor y) = digits.Test(options.TestImages, rotated: false);
                    Tensor logits = network.call(x), isA = y.lt(5), own = where(isA, logits.narrow(1, 0, 5).argmax(1), logits.narrow(1, 5, 5).argmax(1) + 5);
                    run.Metric("accuracy", own.eq(y).to(float64).mean().item<double>());
                    Tensor trainX = digits.Train(Math.Min(4000, options.TrainImages), rotated: false).Inputs, trainY = digits.Train(Math.Min(4000, options.TrainImages), rotated: false).Labels!;
                    Tensor features = network.Evaluate(trainX, feature);
                    using (enable_grad())
                    using (TorchSharp.Modules.Linear probe = SeparateHeads.FitProbe(features, trainY, 10, seed: seed))
                        run.Metric("probe", Classification.Accuracy(probe.call(network.Evaluate(x, feature)).detach(), y));
                });
                if (!results.TryGetValue(name, out List<ArmResult>? list)) results[name] = list = [];
                list.Add(result);
            }
            Arm("simple average", MergeMethod.SimpleAverage, 0);
            Arm("git re-basin", MergeMethod.GitReBasin, 0);
            Arm("pleas", MergeMethod.Pleas, 0);
            Arm(Named("partial merge", .5), MergeMethod.PartialMerge, .5);
            Arm(Named("pleas", .5), MergeMethod.Pleas, .5);
            Arm("both networks", MergeMethod.Ensemble, 1);
        }
        Table(context, "heads", "Digits 0-4 and digits 5-9, a head each on the merged trunk: accuracy of each head on its own digits, and of a linear probe for all ten on the merged features.", results, "probe");
    }

    private static string Named(string method, double ratio) => ratio == 0 ? method : FormattableString.Invariant($"{method} r={ratio}");

    private static MergeOptions Merging(PleasRecipeOptions options, MergeMethod method, int seed, int batchSize = 32) => new()
    {
        Method = method,
        Matching = options.Matching,
        MaxBatches = options.Batches,
        BatchSize = batchSize,
        LeastSquares = new LeastSquaresOptions { Solver = options.Solver, Ridge = options.Ridge, AdamSteps = options.AdamSteps, Seed = seed },
        Seed = seed,
    };

    private static MergeResult Merge(ArmRun run, Func<MergeResult> merge)
    {
        var watch = Stopwatch.StartNew();
        MergeResult merged = merge();
        run.Metric("seconds to merge", watch.Elapsed.TotalSeconds);
        run.Metric("flops", merged.FlopsFactor);
        if (merged.LayerLosses.Count == 0) return merged;
        double[] index = [.. merged.LayerLosses.Select((_, i) => i + 1.0)];
        run.Metric("layer loss", merged.LayerLosses.Sum(l => l.After));
        run.Series("layer loss before", index, [.. merged.LayerLosses.Select(l => l.Before)]);
        run.Series("layer loss after", index, [.. merged.LayerLosses.Select(l => l.After)]);
        return merged;
    }

    private static void MeasureDomains(ArmRun run, Network network, TurnedDigits digits, int count)
    {
        using var _ = no_grad();
        double Accuracy(bool rotated)
        {
            (Tensor x, Tensor y) = digits.Test(count, rotated);
            return Classification.Accuracy(network.call(x), y);
        }
        double upright = Accuracy(false), turned = Accuracy(true);
        run.Metric("accuracy", (upright + turned) / 2);
        run.Metric("accuracy upright", upright);
        run.Metric("accuracy rotated", turned);
    }

    private static void Table(RunContext context, string name, string caption, Dictionary<string, List<ArmResult>> results, params string[] further)
    {
        string[] metrics = ["flops", .. further, "layer loss", "seconds to merge"];
        string Cell(IEnumerable<ArmResult> arm, string metric) => arm.All(r => r.Metrics.ContainsKey(metric)) ? arm.Average(r => r[metric]).ToString("0.####", CultureInfo.InvariantCulture) : "";
        context.Table(name, caption, ["arm", "accuracy", .. context.Seeds.Select(s => $"seed {s}"), .. metrics],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, Cell(r.Value, "accuracy"), .. r.Value.Select(x => x["accuracy"].ToString("0.000", CultureInfo.InvariantCulture)), .. metrics.Select(m => Cell(r.Value, m))])]);
    }

    private static void LossFigure(RunContext context, string name, List<ArmResult> arm)
    {
        double[] layers = arm[0].Series("layer loss before").X;
        IReadOnlyList<double> Values(string series, int layer) => [.. arm.Select(r => r.Series(series).Y[layer])];
        context.Figure(name, "Mean squared error of each layer against the ensemble's pre-activations, with averaged and with fitted weights.",
            Charts.GroupedBars("Error of the merged layers", "mean squared error", [.. layers.Select(l => $"layer {l:0}")],
            [
                ("averaged weights", [.. layers.Select((_, i) => Values("layer loss before", i))]),
                ("permuted least squares", [.. layers.Select((_, i) => Values("layer loss after", i))]),
            ]));
    }

    // Trains the two originals once; later arms, also of a resumed run, read them from the run folder.
    private static void TrainPair(string setting, PleasRecipeOptions options, RunContext context, int seed, Architecture architectureA, Examples a, Architecture architectureB, Examples b)
    {
        context.Arm($"{setting} originals", seed, run =>
        {
            var tensors = new Dictionary<string, Tensor>();
            foreach ((string name, Architecture architecture, Examples examples) in new[] { ("a", architectureA, a), ("b", architectureB, b) })
            {
                Runtime.Seeds.Set(Runtime.Seeds.Derive(seed, name[0]));
                var network = new Network(architecture);
                using var learner = new ClassifierLearner(network, optim.Adam(network.parameters(), options.LearningRate));
                Trainer trainer = run.Trainer(new TrainerOptions { Epochs = options.Epochs, BatchSize = options.BatchSize, Seed = Runtime.Seeds.Derive(seed, name[0]) });
                run.Metric($"loss {name}", trainer.Fit(learner, new TensorSource(examples.Inputs, examples.Labels!), cancellation: run.Cancellation).Last("model"));
                network.eval();
                foreach ((string key, Tensor value) in network.State()) tensors[$"{name}/{key}"] = value.cpu();
            }
            Safetensors.Write(PairPath(setting, context, seed), tensors);
        });
    }

    private static string PairPath(string setting, RunContext context, int seed) => context.OutputPath($"originals-{setting}-{seed}.safetensors");

    private static (Dictionary<string, Tensor> A, Dictionary<string, Tensor> B) Pair(string setting, RunContext context, int seed)
    {
        Dictionary<string, Tensor> both = Safetensors.Read(PairPath(setting, context, seed));
        Dictionary<string, Tensor> Of(string name) => both.Where(p => p.Key.StartsWith(name + "/", StringComparison.Ordinal)).ToDictionary(p => p.Key[2..], p => p.Value);
        return (Of("a"), Of("b"));
    }

    // PLeaS-free: calibration images of neither domain.
    private static (string Name, Tensor Inputs)? OtherImages(PleasRecipeOptions options, RunContext context)
    {
        bool digitsAreGlyphs = context.DataFolder.Find("mnist") is null;
        if (context.DataFolder.Find("fashion-mnist") is { } fashion)
            return ("fashion-mnist", Mnist.Read(fashion).Train.Images.narrow(0, 0, options.CalibrationImages).to(float32) / 255);
        if (digitsAreGlyphs) return null;
        return ("glyph digits", GlyphDigits.Generate(options.CalibrationImages, 4711).Images.to(float32) / 255);
    }

    private static void RunOnCheckpoints(PleasRecipeOptions options, RunContext context, UserData data)
    {
        MergeFolder folder = MergeFolder.Read(data, options.Mean, options.Deviation);
        string path = folder.Path;
        context.UsedData($"{path}: {folder.Checkpoints.Count} checkpoints of {folder.A.Count} tensors, {folder.Calibration?.Count ?? 0} calibration inputs");
        ArmResult result = context.Arm("merge", context.Seeds[0], run =>
        {
            (Dictionary<string, Tensor> state, PleasModel model) = MergeInto(options, folder, context.OutputPath, run, context.Device, context.Seeds[0]);
            run.SaveModel("merged", state, model);
        });
        context.Table("merged", "The merged network.", ["FLOPs relative to one network", "layer loss"],
            [[result.Metrics.TryGetValue("flops", out double flops) ? flops.ToString("0.####", CultureInfo.InvariantCulture) : "unknown (wiring only)",
              result.Metrics.TryGetValue("layer loss", out double loss) ? loss.ToString("0.######", CultureInfo.InvariantCulture) : ""]]);
        if (result.Curves.ContainsKey("layer loss before")) LossFigure(context, "layer-loss", [result]);
        if (folder.Architecture is null || options.Heads == "separate") return;
        ShowOwn(options, context, folder);
        if (folder.Calibration?.Labels is null || folder.Checkpoints.Count > 2) return;
        var curves = new List<Curve>();
        foreach (MergeMethod method in new[] { MergeMethod.PartialMerge, MergeMethod.Pleas })
        {
            ArmResult swept = context.Arm($"{method} over budgets", context.Seeds[0], run =>
            {
                var factors = new List<double>();
                var accuracies = new List<double>();
                foreach (double budget in PublishedBudgets)
                {
                    using var scope = NewDisposeScope();
                    using var _ = no_grad();
                    MergeResult merged = Refusing(path, () => ModelMerger.Merge(folder.Architecture, folder.A, folder.B, folder.Calibration.Inputs, Merging(options, method, run.Seed) with { Budget = budget, Allocation = options.Allocation }));
                    using Network network = merged.ToNetwork();
                    factors.Add(merged.FlopsFactor);
                    accuracies.Add(Classification.Accuracy(Inference.Outputs(network, folder.Calibration.Inputs), folder.Calibration.Labels));
                }
                run.Series("accuracy", factors, accuracies);
            });
            (double[] x, double[] y) = swept.Series("accuracy");
            curves.Add(new Curve(method == MergeMethod.Pleas ? "pleas" : "partial merge", x, y));
        }
        context.Figure("accuracy-budget", "Accuracy on the labelled calibration data against the cost of the merged network.", Charts.Lines("Accuracy against budget", "FLOPs relative to one network", "accuracy", curves));
    }

    // How good the originals and the merged network are, and where the originals differ.
    private static void ShowOwn(PleasRecipeOptions options, RunContext context, MergeFolder folder)
    {
        ArmResult own = context.Arm("originals", context.Seeds[0], run =>
        {
            IReadOnlyDictionary<string, Tensor>[] states = [.. folder.Checkpoints.Select(c => c.State)];
            MergeMethod[] unaligned = [MergeMethod.SimpleAverage, MergeMethod.RegMean];
            IReadOnlyList<(string, double Disagreement)> apart = MergeFolder.Disagreements(unaligned.Contains(options.Method) ? states
                : Refusing(folder.Path, () => ModelMerger.Align(folder.Architecture!, states, folder.Calibration?.Inputs, Merging(options, options.Method, run.Seed))));
            run.Series("disagreement", [.. apart.Select((_, i) => i + 1.0)], [.. apart.Select(a => a.Disagreement)]);
            if (folder.Calibration is not { Labels: { } labels } examples) return;
            foreach (Checkpoint checkpoint in folder.Checkpoints)
            {
                using Network network = new Network(folder.Architecture!).Load(checkpoint.State);
                run.Metric(checkpoint.Name, Classification.Accuracy(Inference.Outputs(network, examples.Inputs), labels));
            }
            using Network merged = new Network(Architecture.FromJson(File.ReadAllText(context.OutputPath("arch.merged.json")))).Load(Safetensors.Read(context.OutputPath("merged.safetensors")));
            run.Metric("merged", Classification.Accuracy(Inference.Outputs(merged, examples.Inputs), labels));
        });
        string[] tensors = [.. folder.A.Where(t => t.Value.is_floating_point() && t.Value.dim() > 1).Select(t => t.Key)];
        double[] disagreements = own.Series("disagreement").Y;
        context.Table("layers", "Where the checkpoints disagree, most first: distance of the aligned weights from their mean, relative to their norm (0: equal).", ["tensor", "disagreement"],
            [.. tensors.Zip(disagreements).OrderByDescending(p => p.Second).Select(p => (IReadOnlyList<string>)[p.First, p.Second.ToString("0.0000", CultureInfo.InvariantCulture)])]);
        context.Figure("disagreement", "How far the checkpoints are apart in each layer once their units correspond.",
            Charts.Bars("Disagreement of the checkpoints", "relative distance from the mean", [.. tensors.Zip(disagreements).Select(p => (p.First, (IReadOnlyList<double>)[p.Second]))]));
        if (own.Metrics.Count > 0)
            context.Table("accuracy", "Accuracy on the labelled data.", ["network", "accuracy"], [.. own.Metrics.Select(m => (IReadOnlyList<string>)[m.Key, m.Value.ToString("0.0000", CultureInfo.InvariantCulture)])]);
    }

    private static (Dictionary<string, Tensor> State, PleasModel Model) MergeInto(PleasRecipeOptions options, MergeFolder folder, Func<string, string> output, ArmRun? run, Device device, int seed)
    {
        if (folder.Architecture is null) return MergeByWiring(options, folder, output);
        bool separate = options.Heads == "separate";
        if (separate && folder.Checkpoints.Count > 2) throw new BadInputException($"Networks with a head each are merged two at a time; there are {folder.Checkpoints.Count} checkpoints.");
        Tensor? inputs = folder.Calibration?.Inputs.to(device);
        MergeOptions merging = Merging(options, options.Method, seed) with { Budget = options.Budget ?? (folder.Checkpoints.Count == 2 ? 1.2 : 1), Allocation = options.Allocation };
        MergeResult Work() => Refusing(folder.Path, () => separate
            ? ModelMerger.MergeTrunks(folder.Architecture, folder.A, folder.ArchitectureB!, folder.B, inputs, merging)
            : ModelMerger.Merge(folder.Architecture, [.. folder.Checkpoints.Select(c => c.State)], inputs, merging));
        MergeResult merged = run is null ? Work() : Merge(run, Work);
        Dictionary<string, Tensor> state = merged.State.ToDictionary(p => p.Key, p => p.Value.cpu());
        Safetensors.Write(output("merged.safetensors"), state);
        AtomicFile.WriteText(output("arch.merged.json"), merged.Architecture.ToJson());
        PermutationSpec spec = separate ? folder.Architecture.Trunk().Wiring(fixOutput: false) : folder.Architecture.Wiring();
        MergeFolder.WriteWidths(output("widths.csv"), spec, merged.Partitions);
        if (merged.LayerLosses.Count > 0) MergeFolder.WriteLosses(output("layer_loss.csv"), merged.LayerLosses);
        return (state, new PleasModel(merged.Architecture.ToJson(), separate ? (int)folder.Architecture.Layers[^1].Width : 0, options.Mean, options.Deviation));
    }

    // A foreign checkpoint of which only the permutation groups are known: it cannot be run, so units are matched by their weights and averaged.
    private static (Dictionary<string, Tensor> State, PleasModel Model) MergeByWiring(PleasRecipeOptions options, MergeFolder folder, Func<string, string> output)
    {
        if (options.Method is not (MergeMethod.SimpleAverage or MergeMethod.GitReBasin or MergeMethod.PartialMerge))
            throw new BadInputException($"{folder.Path} has wiring.json but no arch.json, so the networks cannot be run: set method to partial-merge, git-re-basin or simple-average, or describe the layers in arch.json.");
        PermutationSpec spec = folder.Wiring!;
        (IReadOnlyDictionary<string, UnitPartition> partitions, Dictionary<string, Tensor> state) = Refusing(folder.Path, () =>
        {
            MatchResult match = options.Method == MergeMethod.SimpleAverage ? MatchResult.Identity(spec) : WeightMatching.Match(spec, folder.A, folder.B);
            IReadOnlyDictionary<string, UnitPartition> split = PartialMerge.Partition(spec, match, PartialMerge.Uniform(spec, options.Method == MergeMethod.PartialMerge ? options.Ratio : 0));
            return (split, PartialMerge.Build(spec, folder.A, folder.B, split));
        });
        Safetensors.Write(output("merged.safetensors"), state);
        AtomicFile.WriteText(output("wiring.merged.json"), spec.WithSizes(partitions.ToDictionary(p => p.Key, p => p.Value.Size)).ToJson());
        MergeFolder.WriteWidths(output("widths.csv"), spec, partitions);
        return (state, new PleasModel(null, 0, options.Mean, options.Deviation));
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        PleasRecipeOptions options = run.Options<PleasRecipeOptions>();
        if (MergeFolder.Is(context.Data))
        {
            Directory.CreateDirectory(context.OutPath);
            MergeInto(options, MergeFolder.Read(context.Data, options.Mean, options.Deviation), name => Path.Combine(context.OutPath, name), null, context.Device, run.Result.Seeds[0]);
            context.Report($"Merged the checkpoints of {(context.DataPath.Length > 0 ? context.DataPath : context.Data.Part(MergeFolder.Tuned))} into {Path.Combine(context.OutPath, "merged.safetensors")}.");
            return;
        }
        PleasModel model = run.Description<PleasModel>("merged");
        if (model.Architecture is null) throw new BadInputException("The merged checkpoint of this run has no architecture, so it cannot be run; give a folder of two checkpoints to merge.");
        Architecture architecture = Architecture.FromJson(model.Architecture);
        Examples examples = Examples.Read(context.DataPath, architecture.Input, model.Mean, model.Deviation);
        using Network network = new Network(architecture).Load(run.Model("merged"));
        network.to(context.Device).eval();
        using var _ = no_grad();
        Tensor logits = Inference.Outputs(network, examples.Inputs);
        (string Name, Tensor Logits)[] heads = model.ClassesA == 0 ? [("", logits)] : [("_a", logits.narrow(1, 0, model.ClassesA)), ("_b", logits.narrow(1, model.ClassesA, logits.shape[1] - model.ClassesA))];
        var text = new StringBuilder("row").AppendJoin("", heads.Select(h => $",class{h.Name},probability{h.Name}")).Append('\n');
        (long[] Class, float[] Probability)[] columns = [.. heads.Select(h =>
        {
            (Tensor values, Tensor indexes) = h.Logits.softmax(1).max(1);
            return (indexes.data<long>().ToArray(), values.data<float>().ToArray());
        })];
        for (int row = 0; row < logits.shape[0]; row++)
        {
            text.Append(row);
            foreach ((long[] classes, float[] probabilities) in columns) text.Append(CultureInfo.InvariantCulture, $",{classes[row]},{probabilities[row]:0.######}");
            text.Append('\n');
        }
        AtomicFile.WriteText(context.OutPath, text.ToString());
        context.Report($"Predicted {logits.shape[0]} rows.");
        if (examples.Labels is not null && model.ClassesA == 0) context.Report(FormattableString.Invariant($"Accuracy {Classification.Accuracy(logits, examples.Labels):0.0000}."));
    }

    // Digits upright and turned by 90 degrees.
    private sealed record TurnedDigits(Tensor TrainImages, Tensor TrainLabels, Tensor TestImages, Tensor TestLabels, int CalibrationImages)
    {
        public static TurnedDigits Load(PleasRecipeOptions options, RunContext context)
        {
            int train = Math.Max(options.TrainImages, options.ConvTrainImages) + options.CalibrationImages;
            Digits digits = Digits.Load(context, train, options.TestImages);
            context.UsedData($"of the training images {options.CalibrationImages}, without labels, calibrate");
            (Tensor trainImages, Tensor trainLabels) = digits.TrainPart(0, train);
            (Tensor testImages, Tensor testLabels) = digits.TestPart(0, options.TestImages);
            return new TurnedDigits(trainImages, trainLabels, testImages, testLabels, options.CalibrationImages);
        }

        // Images that no network has seen, the first half upright, the second rotated; without labels.
        public Tensor Calibration
        {
            get
            {
                Tensor images = TrainImages.narrow(0, TrainImages.shape[0] - CalibrationImages, CalibrationImages / 2 * 2);
                return cat([images.narrow(0, 0, CalibrationImages / 2), Turn(images.narrow(0, CalibrationImages / 2, CalibrationImages / 2))], 0);
            }
        }

        public Examples Train(int count, bool rotated) => new(Turned(TrainImages.narrow(0, 0, count), rotated), TrainLabels.narrow(0, 0, count));

        // The five classes from the first one on, with labels 0..4.
        public Examples OfClasses(int first, int count)
        {
            Tensor rows = TrainLabels.narrow(0, 0, count).ge(first).logical_and(TrainLabels.narrow(0, 0, count).lt(first + 5)).nonzero().flatten();
            return new Examples(TrainImages.index_select(0, rows), TrainLabels.index_select(0, rows) - first);
        }

        public (Tensor Inputs, Tensor Labels) Test(int count, bool rotated) => (Turned(TestImages.narrow(0, 0, count), rotated), TestLabels.narrow(0, 0, count));

        private static Tensor Turned(Tensor images, bool rotated) => rotated ? Turn(images) : images;

        private static Tensor Turn(Tensor images) => images.transpose(2, 3).flip(2).contiguous();
    }
}
