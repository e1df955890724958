using System.Globalization;
using System.Text;
using System.Text.Json;
using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;
using Priori.Training;
using static Priori.Recipes.BadInput;

namespace Priori.Recipes.Similarity;

/// <summary>Options of <see cref="IterativeFeatureMergingRecipe"/>.</summary>
public sealed record IterativeFeatureMergingRecipeOptions : RecipeOptions
{
    /// <summary>Threshold.</summary>
    [Option("Own checkpoint: threshold beta at which the saved network is merged.", Min = 0, Max = .999)]
    public double Beta { get; init; } = .1;

    /// <summary>Thresholds.</summary>
    [Option("Thresholds that are swept.", Min = 0, Max = .999)]
    public IReadOnlyList<double> Betas { get; init; } = [.001, .01, .03, .05, .07, .1, .12, .15, .2, .25, .3];

    /// <summary>Largest share of rounds.</summary>
    [Option("Most merges of a group, relative to its size.", Min = 0, Max = 1)]
    public double MaxRatio { get; init; } = 1;

    /// <summary>Merge rule.</summary>
    [Option("Which side is summed: incoming weights, exact for ReLU, or outgoing ones, exact for any activation.")]
    public MergeRule MergeRule { get; init; } = MergeRule.SumInMeanOut;

    /// <summary>Batch normalisation.</summary>
    [Option("How batch normalisation is merged: exactly, or as the published code does.")]
    public BatchNormMerge BatchNorm { get; init; } = BatchNormMerge.Exact;

    /// <summary>Distance.</summary>
    [Option("Distances of the merged weights as they are (published), or divided by how many features they stand for.")]
    public DistanceMode Distance { get; init; } = DistanceMode.Reference;

    /// <summary>Folding.</summary>
    [Option("Whether batch normalisation is folded into the layer before it first.")]
    public bool FoldBatchNorm { get; init; }

    /// <summary>Width.</summary>
    [Option("Default data: width of the perceptron's two hidden layers.", Min = 4)]
    public int Width { get; init; } = 256;

    /// <summary>Training images.</summary>
    [Option("Default data: training images.", Min = 100)]
    public int TrainImages { get; init; } = 20_000;

    /// <summary>Test images.</summary>
    [Option("Default data: test images.", Min = 10)]
    public int TestImages { get; init; } = 4000;

    /// <summary>Epochs.</summary>
    [Option("Default data: epochs of the perceptron.", Min = 1)]
    public int Epochs { get; init; } = 6;

    /// <summary>Learning rate.</summary>
    [Option("Default data: learning rate of SGD with momentum 0.9 and a cosine.", Min = 1e-9)]
    public double LearningRate { get; init; } = .1;

    /// <summary>Weight decays.</summary>
    [Option("Default data: weight decays; claims are judged at the first.", Min = 0)]
    public IReadOnlyList<double> WeightDecays { get; init; } = [1e-3, 1e-4];

    /// <summary>Channels of the convolutional network.</summary>
    [Option("Default data: channels of the convolutional network with batch normalisation.", Min = 2)]
    public IReadOnlyList<int> Channels { get; init; } = [16, 32, 64];

    /// <summary>Training images of the convolutional network.</summary>
    [Option("Default data: training images of the convolutional network.", Min = 100)]
    public int ConvTrainImages { get; init; } = 6000;

    /// <summary>Epochs of the convolutional network.</summary>
    [Option("Default data: epochs of the convolutional network.", Min = 1)]
    public int ConvEpochs { get; init; } = 3;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Betas.Count == 0 || !Betas.SequenceEqual(Betas.Distinct().Order())) throw new BadInputException("Option 'betas' must ascend.");
        if (WeightDecays.Count == 0) throw new BadInputException("Option 'weight-decays' needs a number.");
    }
}

/// <summary>The merged network of <see cref="IterativeFeatureMergingRecipe"/>.</summary>
/// <param name="Architecture">Its layers (JSON); null for a checkpoint with a wiring only.</param>
public sealed record MergedNetwork(string? Architecture);

/// <summary>Iterative feature merging against pruning without data, and the user's own checkpoint made narrower.</summary>
public sealed class IterativeFeatureMergingRecipe : Recipe<IterativeFeatureMergingRecipeOptions>
{
    private const string Model = "model", Layers = "arch", Wiring = "wiring";
    private static readonly PruningCriterion[] s_pruners = [PruningCriterion.Magnitude, PruningCriterion.IncomingNorm, PruningCriterion.Random];
    private static readonly string[] s_layers = ["layer 1", "layer 2"], s_batchNorms = ["Exact", "Reference", "folded"];
    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true };

    /// <inheritdoc/>
    public override string Id => "iterative-feature-merging";

    /// <inheritdoc/>
    public override string Area => "Similarity";

    /// <inheritdoc/>
    public override string Title => "Iterative feature merging";

    /// <inheritdoc/>
    public override string Summary => "Tells how redundant each layer of a trained network is and makes it narrower at once, without data and without training.";

    /// <inheritdoc/>
    public override Paper Paper => new("Going Beyond Neural Network Feature Similarity: The Network Feature Complexity and Its Interpretation Using Category Theory", "Chen, Zhou, Yan", "ICLR", 2024, "https://arxiv.org/abs/2310.06756");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("half", "Some threshold leaves at most half of the parameters and costs at most 0.03 of accuracy, without fine-tuning, on every seed (weight decay 1e-3; the largest loss)."),
        new("pruning", "At that threshold merging is at least 0.02 more accurate than the best of pruning by magnitude, by incoming norm and at random to the same widths, on every seed (the smallest difference)."),
        new("wider", "Of a perceptron twice as wide a smaller share of the features is left at beta 0.1, on every seed (the largest difference)."),
        new("batch-norm", "Exact merging of batch normalisation is at least as accurate as the published one at equal thresholds (mean over the thresholds that merge), on every seed (the smallest difference)."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        [Model] = "The checkpoint to make narrower (.safetensors).",
        [Layers] = "arch.json, its layers; found beside the checkpoint when not given.",
        [Wiring] = "wiring.json, the groups of tensor axes, for a checkpoint of any other network.",
    };

    /// <inheritdoc/>
    public override IterativeFeatureMergingRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Width = 64, Betas = [.05, .1, .2], TrainImages = 2000, TestImages = 500, Epochs = 2, Channels = [4, 8], ConvTrainImages = 400, ConvEpochs = 1 },
        // VGG16's schedule on CIFAR-10; its checkpoint comes with --data.model.
        Budget.Paper => new() { Epochs = 160, TrainImages = 50_000, TestImages = 10_000, WeightDecays = [1e-4] },
        _ => new(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Full ? [0, 1, 2, 3, 4] : base.Seeds(budget);

    /// <inheritdoc/>
    public override void Run(IterativeFeatureMergingRecipeOptions options, RunContext context)
    {
        if (context.Data is { } data)
        {
            RunOwn(options, context, data);
            return;
        }
        Digits digits = Digits.Load(context, Math.Max(options.TrainImages, options.ConvTrainImages), options.TestImages);
        (Tensor testX, Tensor testY) = digits.TestPart(0, options.TestImages);
        RunPerceptron(options, context, digits.TrainPart(0, options.TrainImages), testX, testY);
        RunConvolutional(options, context, digits.TrainPart(0, options.ConvTrainImages), testX, testY);
    }

    private static IfmOptions Merging(IterativeFeatureMergingRecipeOptions options, double beta) => new()
    {
        Beta = beta,
        MaxRatio = options.MaxRatio,
        MergeRule = options.MergeRule,
        BatchNormMerge = options.BatchNorm,
        DistanceMode = options.Distance,
        FoldBatchNorm = options.FoldBatchNorm,
    };

    private static Dictionary<string, Tensor> Train(ArmRun run, Architecture architecture, Tensor x, Tensor y, int epochs, double learningRate, double weightDecay)
    {
        Runtime.Seeds.Set(Runtime.Seeds.Derive(run.Seed, 37));
        var network = new Network(architecture);
        network.to(run.Device);
        using var learner = new ClassifierLearner(network, optim.SGD(network.parameters(), learningRate, momentum: .9, weight_decay: weightDecay), new CosineSchedule());
        run.Trainer(new TrainerOptions { Epochs = epochs, BatchSize = 100 }).Fit(learner, new TensorSource(x, y), cancellation: run.Cancellation);
        network.eval();
        return network.State().ToDictionary(p => p.Key, p => p.Value.cpu());
    }

    private static double Accuracy(Architecture architecture, IReadOnlyDictionary<string, Tensor> state, Tensor x, Tensor y)
    {
        using Network network = new Network(architecture).Load(state);
        return Classification.Accuracy(Inference.Outputs(network, x), y);
    }

    private static string Named(PruningCriterion pruner) => pruner switch
    {
        PruningCriterion.Magnitude => "pruning by magnitude",
        PruningCriterion.IncomingNorm => "pruning by incoming norm",
        _ => "random pruning",
    };

    private static double Parameters(IReadOnlyDictionary<string, Tensor> state) => state.Where(t => t.Value.is_floating_point() && !t.Key.Contains("running_", StringComparison.Ordinal)).Sum(t => (double)t.Value.numel());

    private static void RunPerceptron(IterativeFeatureMergingRecipeOptions options, RunContext context, (Tensor X, Tensor Y) train, Tensor testX, Tensor testY)
    {
        var sweeps = options.WeightDecays.ToDictionary(d => d, _ => new List<ArmResult>());
        var wide = new List<ArmResult>();
        foreach (int seed in context.Seeds)
        {
            ArmResult Sweep(string arm, int width, double decay) => context.Arm(arm, seed, run =>
            {
                Architecture architecture = Architectures.Mlp([1, 28, 28], [width, width], 10);
                PermutationSpec spec = architecture.Wiring();
                Dictionary<string, Tensor> state = Train(run, architecture, train.X, train.Y, options.Epochs, options.LearningRate, decay);
                double parameters = Parameters(state);
                run.Metric("accuracy", Accuracy(architecture, state, testX, testY));
                var series = new Dictionary<string, List<double>>();
                void Add(string name, double value) => (series.TryGetValue(name, out List<double>? list) ? list : series[name] = []).Add(value);
                foreach (double beta in options.Betas)
                {
                    using var scope = NewDisposeScope();
                    IfmResult merged = IterativeFeatureMerging.Run(architecture, state, Merging(options, beta));
                    Add("parameters", Parameters(merged.State) / parameters);
                    Add("flops", FlopCounter.Count(merged.Architecture!) / FlopCounter.Count(architecture));
                    Add("merged", Accuracy(merged.Architecture!, merged.State, testX, testY));
                    Add("features", merged.WidthByGroup.Values.Sum() / (2.0 * width));
                    foreach ((string group, int layer) in merged.WidthByGroup.Keys.Select((g, i) => (g, i + 1))) Add($"layer {layer}", merged.WidthByGroup[group]);
                    foreach (PruningCriterion pruner in s_pruners)
                        Add(pruner.ToString(), Accuracy(merged.Architecture!, WidthPruning.Prune(state, spec, merged.WidthByGroup, pruner, seed), testX, testY));
                    if (beta == options.Beta && width == options.Width && decay == options.WeightDecays[0] && seed == context.Seeds[0]) run.SaveModel("merged", merged.State, new MergedNetwork(merged.Architecture!.ToJson()));
                }
                foreach ((string name, List<double> values) in series) run.Series(name, options.Betas, values);
            });
            foreach (double decay in options.WeightDecays) sweeps[decay].Add(Sweep(FormattableString.Invariant($"perceptron, weight decay {decay}"), options.Width, decay));
            wide.Add(Sweep("perceptron, twice as wide", 2 * options.Width, options.WeightDecays[0]));
        }

        List<ArmResult> judged = sweeps[options.WeightDecays[0]];
        // Of the thresholds that leave at most half of the parameters the one that costs least.
        int? Best(ArmResult arm) => Enumerable.Range(0, options.Betas.Count).Where(i => arm.Series("parameters").Y[i] <= .5).OrderByDescending(i => arm.Series("merged").Y[i]).Select(i => (int?)i).FirstOrDefault();
        double Loss(ArmResult arm) => Best(arm) is { } i ? arm["accuracy"] - arm.Series("merged").Y[i] : 1;
        double Ahead(ArmResult arm) => Best(arm) is { } i ? arm.Series("merged").Y[i] - s_pruners.Max(p => arm.Series(p.ToString()).Y[i]) : -1;
        double[] losses = [.. judged.Select(Loss)], ahead = [.. judged.Select(Ahead)];
        context.Check("half", losses.Max(), Comparison.AtMost, .03, losses);
        context.Check("pruning", ahead.Min(), Comparison.AtLeast, .02, ahead);
        int at = options.Betas.ToList().IndexOf(.1);
        if (at >= 0)
        {
            double[] wider = [.. wide.Zip(judged, (w, n) => w.Series("features").Y[at] - n.Series("features").Y[at])];
            context.Check("wider", wider.Max(), Comparison.AtMost, -1e-9, wider);
        }
        string Row(ArmResult arm, int i, string name) => arm.Series(name).Y[i].ToString(name.StartsWith("layer", StringComparison.Ordinal) ? "0" : "0.000", CultureInfo.InvariantCulture);
        string[] columns = ["parameters", "flops", "layer 1", "layer 2", "merged", .. s_pruners.Select(p => p.ToString())];
        foreach ((double decay, List<ArmResult> arms) in sweeps)
            context.Table(FormattableString.Invariant($"perceptron-{decay}"), FormattableString.Invariant($"Perceptron, weight decay {decay}, no fine-tuning: the thresholds from which at most half of the parameters are left; parameters and FLOPs relative to the whole network, widths, accuracy of merging and of pruning to the same widths."),
                ["seed", "whole network", "beta", .. columns],
                [.. arms.SelectMany(a => Enumerable.Range(0, options.Betas.Count).Where(i => i == Best(a) || options.Betas[i] is .1 or .2)
                    .Select(i => (IReadOnlyList<string>)[$"{a.Seed}", Numbers.Text(a["accuracy"], "F3"), options.Betas[i].ToString(CultureInfo.InvariantCulture), .. columns.Select(c => Row(a, i, c))]))]);
        IReadOnlyList<double> Mean(List<ArmResult> arms, string name) => [.. Enumerable.Range(0, options.Betas.Count).Select(i => arms.Average(a => a.Series(name).Y[i]))];
        Curve Line(string label, string name, List<ArmResult> arms, bool dashed = false) => new(label, Mean(arms, "parameters"), [.. arms.Select(a => (IReadOnlyList<double>)a.Series(name).Y)], dashed);
        // Parameters fall with beta, so positions are turned round.
        static Curve Ascending(Curve c) => new(c.Label, [.. c.X.Reverse()], [.. c.Ys.Select(y => (IReadOnlyList<double>)[.. y.Reverse()])], c.Dashed);
        context.Figure("accuracy-parameters", "Accuracy against the share of parameters left, without fine-tuning, for merging and for pruning to the same widths.",
            Charts.Lines("Merging against pruning", "parameters left", "accuracy", [Ascending(Line("merging", "merged", judged)), .. s_pruners.Select(p => Ascending(Line(Named(p), p.ToString(), judged, dashed: true)))]));
        context.Figure("complexity", "Share of the features that is left against the threshold: two widths, and the same width with less weight decay.",
            Charts.Lines("Feature complexity", "beta", "features left", [.. sweeps.Select(s => new Curve(FormattableString.Invariant($"{options.Width}, weight decay {s.Key}"), options.Betas, [.. s.Value.Select(a => (IReadOnlyList<double>)a.Series("features").Y)])),
                new Curve($"{2 * options.Width}, weight decay {options.WeightDecays[0].ToString(CultureInfo.InvariantCulture)}", options.Betas, [.. wide.Select(a => (IReadOnlyList<double>)a.Series("features").Y)])], logX: options.Betas.All(b => b > 0)));
        context.Figure("layers", "Features left in each layer against the threshold.", Charts.Lines("Feature complexity of each layer", "beta", "features",
            [.. s_layers.Select(l => new Curve(l, options.Betas, [.. judged.Select(a => (IReadOnlyList<double>)a.Series(l).Y)]))], logX: options.Betas.All(b => b > 0)));
    }

    private static void RunConvolutional(IterativeFeatureMergingRecipeOptions options, RunContext context, (Tensor X, Tensor Y) train, Tensor testX, Tensor testY)
    {
        Architecture architecture = Architectures.ConvNet([1, 28, 28], [.. options.Channels.Select(c => (long)c)], 10);
        var results = new List<ArmResult>();
        foreach (int seed in context.Seeds)
            results.Add(context.Arm("convolutional", seed, run =>
            {
                Dictionary<string, Tensor> state = Train(run, architecture, train.X, train.Y, options.ConvEpochs, options.LearningRate, options.WeightDecays[0]);
                run.Metric("accuracy", Accuracy(architecture, state, testX, testY));
                double whole = Parameters(state);
                var accuracies = Enum.GetValues<BatchNormMerge>().ToDictionary(m => m, _ => new List<double>());
                var folded = new List<double>();
                var parameters = new List<double>();
                foreach (double beta in options.Betas)
                {
                    using var scope = NewDisposeScope();
                    foreach ((BatchNormMerge mode, List<double> list) in accuracies)
                    {
                        IfmResult merged = IterativeFeatureMerging.Run(architecture, state, Merging(options, beta) with { BatchNormMerge = mode, FoldBatchNorm = false });
                        list.Add(Accuracy(merged.Architecture!, merged.State, testX, testY));
                        if (mode == BatchNormMerge.Exact) parameters.Add(Parameters(merged.State) / whole);
                    }
                    IfmResult fold = IterativeFeatureMerging.Run(architecture, state, Merging(options, beta) with { FoldBatchNorm = true });
                    folded.Add(Accuracy(fold.Architecture!, fold.State, testX, testY));
                }
                run.Series("parameters", options.Betas, parameters);
                foreach ((BatchNormMerge mode, List<double> list) in accuracies) run.Series(mode.ToString(), options.Betas, list);
                run.Series("folded", options.Betas, folded);
            }));
        double Gain(ArmResult arm)
        {
            int[] merging = [.. Enumerable.Range(0, options.Betas.Count).Where(i => arm.Series("parameters").Y[i] < 1)];
            return merging.Length == 0 ? 0 : merging.Average(i => arm.Series("Exact").Y[i] - arm.Series("Reference").Y[i]);
        }
        double[] gains = [.. results.Select(Gain)];
        context.Check("batch-norm", gains.Min(), Comparison.AtLeast, 0, gains);
        string Mean(string series, int i) => Numbers.Text(results.Average(r => r.Series(series).Y[i]), "F3");
        context.Table("convolutional", $"Convolutional network with batch normalisation ({string.Join("-", options.Channels)}), mean over seeds: accuracy when batch normalisation is merged exactly, as published, or folded first.",
            ["beta", "parameters", "exact", "published", "folded first"],
            [.. options.Betas.Select((beta, i) => (IReadOnlyList<string>)[beta.ToString(CultureInfo.InvariantCulture), Mean("parameters", i), Mean("Exact", i), Mean("Reference", i), Mean("folded", i)])]);
        context.Figure("batch-norm", "Accuracy against the threshold when batch normalisation is merged exactly, as published, or folded into the convolutions first.", Charts.Lines("Merging batch normalisation", "beta", "accuracy",
            [.. s_batchNorms.Select((n, k) => new Curve(n, options.Betas, [.. results.Select(r => (IReadOnlyList<double>)r.Series(n).Y)], Dashed: k > 0))], logX: options.Betas.All(b => b > 0)));
    }

    // ---- the user's checkpoint ----

    private static void RunOwn(IterativeFeatureMergingRecipeOptions options, RunContext context, UserData data)
    {
        string checkpoint = data.Part(Model);
        if (data.Parts.TryGetValue(Wiring, out string? wiring))
        {
            PermutationSpec spec = Refusing(wiring, () => PermutationSpec.FromJson(File.ReadAllText(wiring)));
            Dictionary<string, Tensor> tensors = Safetensors.Read(checkpoint);
            context.UsedData($"{checkpoint}: {tensors.Count} tensors, {spec.Groups.Count} groups");
            context.Arm("merge", context.Seeds[0], run =>
            {
                IfmResult merged = Refusing(checkpoint, () => IterativeFeatureMerging.Run(tensors, spec, Merging(options, options.Beta)));
                Write(merged, context.OutputPath);
                run.Metric("parameters", Parameters(merged.State) / Parameters(tensors));
                run.SaveModel("merged", merged.State, new MergedNetwork(null));
            });
            Complexity(context, Refusing(checkpoint, () => FeatureComplexity.Profile(tensors, spec, options.Betas, Merging(options, 0))));
            return;
        }
        using Network network = UserModel.Load(checkpoint, data.Parts.GetValueOrDefault(Layers));
        Architecture architecture = network.Architecture;
        Dictionary<string, Tensor> state = network.State();
        Examples? examples = data.Path.Length > 0 ? Examples.Read(data.Path, architecture.Input) : null;
        context.UsedData($"{checkpoint}: {state.Count} tensors{(examples is null ? "" : $", {examples.Count} inputs of {data.Path}")}");
        foreach (string warning in IterativeFeatureMerging.Warnings(architecture, options.MergeRule)) context.Note(warning);
        Tensor? reference = examples is null ? null : Inference.Outputs(network, examples.Inputs);
        double whole = Parameters(state), flops = FlopCounter.Count(architecture);
        var profile = new List<FeatureComplexity>();
        ArmResult result = context.Arm("merge", context.Seeds[0], run =>
        {
            var series = new Dictionary<string, List<double>>();
            void Add(string name, double value) => (series.TryGetValue(name, out List<double>? list) ? list : series[name] = []).Add(value);
            foreach (double beta in options.Betas.Append(options.Beta).Distinct().Order())
            {
                using var scope = NewDisposeScope();
                IfmResult merged = Refusing(checkpoint, () => IterativeFeatureMerging.Run(architecture, state, Merging(options, beta)));
                Add("beta", beta);
                Add("parameters", Parameters(merged.State) / whole);
                Add("flops", FlopCounter.Count(merged.Architecture!) / flops);
                Add("bytes", merged.State.Values.Sum(t => (double)t.numel() * t.ElementSize));
                foreach ((string group, long features) in merged.WidthByGroup) Add($"features {group}", features);
                if (examples is not null && reference is not null)
                {
                    using Network narrow = merged.ToNetwork();
                    Tensor outputs = Inference.Outputs(narrow, examples.Inputs);
                    Add("metric", examples.Labels is { } labels ? Classification.Accuracy(outputs, labels) : outputs.argmax(1).eq(reference.argmax(1)).to(float64).mean().ToDouble());
                }
                if (beta != options.Beta) continue;
                Write(merged, context.OutputPath);
                run.SaveModel("merged", merged.State, new MergedNetwork(merged.Architecture!.ToJson()));
            }
            foreach ((string name, List<double> values) in series) run.Series(name, series["beta"], values);
            if (examples?.Labels is { } known) run.Metric("whole network", Classification.Accuracy(reference!, known));
        });
        double[] betas = result.Series("beta").Y;
        PermutationSpec groups = architecture.Wiring();
        var sizes = groups.Groups.ToDictionary(g => g.Name, g => g.Size);
        string[] names = [.. result.Curves.Keys.Where(k => k.StartsWith("features ", StringComparison.Ordinal)).Select(k => k[9..])];
        for (int i = 0; i < betas.Length; i++)
            foreach (string name in names) profile.Add(new FeatureComplexity(betas[i], name, (long)result.Series($"features {name}").Y[i], sizes[name]));
        Complexity(context, profile);
        bool measured = result.Curves.ContainsKey("metric");
        string metric = examples?.Labels is null ? "agreement with the whole network" : "accuracy";
        context.Table("path", $"The network along the thresholds{(examples?.Labels is null ? "" : $"; whole network: accuracy {Numbers.Text(result["whole network"], "F4")}")}. The saved one is at beta {options.Beta.ToString(CultureInfo.InvariantCulture)}.",
            ["beta", "parameters left", "FLOPs left", "bytes", .. measured ? new[] { metric } : []],
            [.. betas.Select((b, i) => (IReadOnlyList<string>)[b.ToString(CultureInfo.InvariantCulture), Numbers.Text(result.Series("parameters").Y[i], "F3"), Numbers.Text(result.Series("flops").Y[i], "F3"), $"{result.Series("bytes").Y[i]:0}",
                .. measured ? new[] { Numbers.Text(result.Series("metric").Y[i], "F4") } : []])]);
        if (!measured) return;
        context.Figure("path", $"{char.ToUpperInvariant(metric[0])}{metric[1..]} against the share of parameters left.", Charts.Lines("Along the merging path", "parameters left", metric,
            [new Curve("merging", [.. result.Series("parameters").Y.Reverse()], (IReadOnlyList<double>)[.. result.Series("metric").Y.Reverse()])]));
    }

    private static void Write(IfmResult merged, Func<string, string> output)
    {
        Safetensors.Write(output("merged.safetensors"), merged.State);
        if (merged.Architecture is { } architecture) AtomicFile.WriteText(output("arch.merged.json"), architecture.ToJson());
        else AtomicFile.WriteText(output("wiring.merged.json"), merged.Spec.ToJson());
        AtomicFile.WriteText(output("groups.json"), JsonSerializer.Serialize(merged.Groups, s_json));
    }

    private static void Complexity(RunContext context, IReadOnlyList<FeatureComplexity> profile)
    {
        var text = new StringBuilder("beta,group,features,size,ratio\n");
        foreach (FeatureComplexity c in profile) text.Append(CultureInfo.InvariantCulture, $"{c.Beta},{c.Group},{c.Features},{c.Size},{c.Ratio:0.######}\n");
        AtomicFile.WriteText(context.OutputPath("complexity.csv"), text.ToString());
        string[] groups = [.. profile.Select(c => c.Group).Distinct()];
        double[] betas = [.. profile.Select(c => c.Beta).Distinct()];
        context.Table("complexity", "Features left in each group at each threshold.", ["group", "size", .. betas.Select(b => b.ToString(CultureInfo.InvariantCulture))],
            [.. groups.Select(g => (IReadOnlyList<string>)[g, $"{profile.First(c => c.Group == g).Size}", .. profile.Where(c => c.Group == g).Select(c => $"{c.Features}")])]);
        if (groups.Length <= 20)
            context.Figure("complexity", "Share of the features that is left in each group against the threshold.", Charts.Lines("Feature complexity", "beta", "features left",
                [.. groups.Select(g => new Curve(g, betas, (IReadOnlyList<double>)[.. profile.Where(c => c.Group == g).Select(c => c.Ratio)]))]));
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        IterativeFeatureMergingRecipeOptions options = run.Options<IterativeFeatureMergingRecipeOptions>();
        if (context.Data.Parts.TryGetValue(Model, out string? checkpoint))
        {
            if (Path.HasExtension(context.OutPath)) throw new BadInputException($"A merged checkpoint is written into a folder, not as {context.OutPath}.");
            using Network network = UserModel.Load(checkpoint, context.Data.Parts.GetValueOrDefault(Layers));
            IfmResult merged = Refusing(checkpoint, () => IterativeFeatureMerging.Run(network.Architecture, network.State(), Merging(options, options.Beta)));
            Directory.CreateDirectory(context.OutPath);
            Write(merged, name => Path.Combine(context.OutPath, name));
            context.Report(FormattableString.Invariant($"Merged {checkpoint} to {100 * Parameters(merged.State) / Parameters(network.State()):0.0} % of its parameters: {context.OutPath}"));
            return;
        }
        MergedNetwork description = run.Description<MergedNetwork>("merged");
        if (description.Architecture is null) throw new BadInputException("The merged checkpoint of this run has no architecture, so it cannot be run; give a checkpoint with --data.model.");
        Architecture architecture = Architecture.FromJson(description.Architecture);
        Examples examples = Examples.Read(context.DataPath, architecture.Input);
        using Network narrow = new Network(architecture).Load(run.Model("merged"));
        narrow.to(context.Device);
        Tensor logits = Inference.Outputs(narrow, examples.Inputs);
        (Tensor best, Tensor classes) = logits.softmax(1).max(1);
        var text = new StringBuilder("row,class,probability\n");
        foreach ((int row, long c, float p) in Enumerable.Range(0, (int)examples.Count).Zip(classes.data<long>().ToArray(), best.data<float>().ToArray())) text.Append(CultureInfo.InvariantCulture, $"{row},{c},{p:0.######}\n");
        string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "predictions.csv");
        AtomicFile.WriteText(path, text.ToString());
        context.Report($"Predicted {examples.Count} rows{(examples.Labels is { } labels ? FormattableString.Invariant($", accuracy {Classification.Accuracy(logits, labels):0.0000}") : "")}: {path}");
    }
}
