using System.Globalization;
using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Numerics;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;
using Priori.Training;

namespace Priori.Recipes.Similarity;

/// <summary>Options of <see cref="ConvergentLearningRecipe"/>.</summary>
public sealed record ConvergentLearningRecipeOptions : RecipeOptions
{
    /// <summary>Layers.</summary>
    [Option("Own data: layers of the first network, or arrays of its file, to compare; when empty, all activation functions or arrays that both have.")]
    public IReadOnlyList<string> Layers { get; init; } = [];

    /// <summary>Layers of the second network.</summary>
    [Option("Own data: layers of the second network in the same order; those of the first when empty.")]
    public IReadOnlyList<string> LayersB { get; init; } = [];

    /// <summary>Penalties.</summary>
    [Option("Penalties of the sparse prediction; 0 is dense.", Min = 0)]
    public IReadOnlyList<double> Lambdas { get; init; } = [0, .001, .003, .01, .03, .1, .3];

    /// <summary>The penalty of the reported maps.</summary>
    [Option("Penalty of the one-to-many maps that are reported and that apply uses; one of lambdas.", Min = 0)]
    public double Lambda { get; init; } = .1;

    /// <summary>Clusters.</summary>
    [Option("Clusters over the units of both networks.", Min = 1)]
    public int Clusters { get; init; } = 6;

    /// <summary>Bins.</summary>
    [Option("Histogram bins of each unit for mutual information; 0 leaves it out.", Min = 0)]
    public int Bins { get; init; } = 10;

    /// <summary>Threshold of unique units.</summary>
    [Option("Correlation with its partner below which a unit counts as unique.", Min = -1, Max = 1)]
    public double UniqueBelow { get; init; } = UnitMatching.UniqueBelow;

    /// <summary>Solver.</summary>
    [Option("Solver of the lasso.")]
    public LassoSolver Solver { get; init; } = LassoSolver.CoordinateDescent;

    /// <summary>Mean of each channel.</summary>
    [Option("Own images: mean of each channel, subtracted from inputs in 0..1; empty for none.")]
    public IReadOnlyList<double> Mean { get; init; } = [];

    /// <summary>Deviation of each channel.</summary>
    [Option("Own images: deviation of each channel, which inputs are divided by.")]
    public IReadOnlyList<double> Deviation { get; init; } = [];

    /// <summary>Images of the experiment.</summary>
    [Option("Images of the experiment: MNIST where present and generated digits otherwise, or CIFAR-10.", Choices = ["digits", "cifar10"])]
    public string Images { get; init; } = "digits";

    /// <summary>Channels.</summary>
    [Option("Channels of the three convolutions.", Min = 2)]
    public IReadOnlyList<long> Widths { get; init; } = [16, 32, 32];

    /// <summary>Training images.</summary>
    [Option("Training images.", Min = 100)]
    public int TrainImages { get; init; } = 12_000;

    /// <summary>Test images.</summary>
    [Option("Test images over which statistics are gathered.", Min = 20)]
    public int TestImages { get; init; } = 2000;

    /// <summary>Epochs.</summary>
    [Option("Epochs of each network.", Min = 1)]
    public int Epochs { get; init; } = 3;

    /// <summary>Learning rate.</summary>
    [Option("Learning rate of Adam.", Min = 0)]
    public double LearningRate { get; init; } = 2e-3;

    /// <summary>Batch size.</summary>
    [Option("Images in a training batch.", Min = 1)]
    public int BatchSize { get; init; } = 100;

    /// <summary>Steps of the stitching layer.</summary>
    [Option("Iterations of the stitching layer that is trained by gradient descent.", Min = 1)]
    public int StitchSteps { get; init; } = 4000;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (!Lambdas.Contains(Lambda)) throw new BadInputException(FormattableString.Invariant($"Option 'lambda' is {Lambda}; it must be one of 'lambdas': {string.Join(", ", Lambdas.Select(l => l.ToString(CultureInfo.InvariantCulture)))}."));
        if (Bins == 1) throw new BadInputException("Option 'bins' must be 0 or at least 2.");
        if (LayersB.Count > 0 && LayersB.Count != Layers.Count) throw new BadInputException($"Options 'layers' and 'layers-b' name {Layers.Count} and {LayersB.Count} layers; they must be as many.");
        if (Mean.Count != Deviation.Count) throw new BadInputException("Options 'mean' and 'deviation' must have as many numbers.");
        if (Widths.Count == 0) throw new BadInputException("Option 'widths' names no convolution.");
    }

    internal ConvergenceOptions Analysis(int seed) => new() { Lambdas = Lambdas, Clusters = Clusters, Bins = Bins, UniqueBelow = UniqueBelow, Solver = Solver, Seed = seed };
}

/// <summary>How a network of <see cref="ConvergentLearningRecipe"/> is rebuilt.</summary>
/// <param name="Architecture">Its description (JSON).</param>
public sealed record ConvergentLearningNetwork(string Architecture);

/// <summary>Convergent learning: which units of two networks correspond, one to one, one to many, many to many.</summary>
public sealed class ConvergentLearningRecipe : Recipe<ConvergentLearningRecipeOptions>
{
    internal const string A = "a", B = "b", Arch = "arch", ArchB = "arch-b", Maps = "maps";

    /// <inheritdoc/>
    public override string Id => "convergent-learning";

    /// <inheritdoc/>
    public override string Area => "Similarity";

    /// <inheritdoc/>
    public override string Title => "Convergent learning";

    /// <inheritdoc/>
    public override string Summary => "Says which units of two networks correspond: one-to-one matching, sparse one-to-many maps, and clusters of units of both.";

    /// <inheritdoc/>
    public override Paper Paper => new("Convergent Learning: Do different neural networks learn the same representations?", "Li, Yosinski, Clune, Lipson, Hopcroft", "ICLR", 2016, "https://arxiv.org/abs/1511.07543");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("depth", "The mean matched correlation falls by at least 0.08 from the first to the last convolution, on every pair of networks (the smallest fall)."),
        new("shared-subspace", "Predicting a unit from its best single partner has an error at least 0.08 above that of dense linear prediction, in every layer of every pair: the subspace is shared, the basis is not."),
        new("few-units", "The lasso with on average at most 10 units closes at least 35 % of that gap, in every layer of every pair."),
        new("above-random", "Matched units correlate at least 0.2 more than randomly paired ones, in every layer of every pair."),
        new("shared-clusters", "At least 80 % of the units are in spectral clusters that hold units of both networks, in every layer of every pair."),
        new("untrained", "Two untrained networks match worse by at least 0.1, in every layer of every pair."),
        new("permuted-copy", "Against its own copy with permuted units a network has all matched correlations 1 and dense error 0 (largest deviation at most 1e-6)."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        [A] = "The first network (.safetensors), with --data the inputs; or, without --data, a file of its activations, rows are samples: npz, npy, safetensors, Parquet, CSV.",
        [B] = "The second network or file of activations, over the same samples in the same order.",
        [Arch] = "arch.json, the layers of the networks; found beside them when not given.",
        [ArchB] = "arch.json of the second network where it differs.",
    };

    /// <inheritdoc/>
    public override ConvergentLearningRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new ConvergentLearningRecipeOptions { TrainImages = 4000, Epochs = 1, TestImages = 500, StitchSteps = 200 },
        // Four CaffeNets trained on ImageNet; the checkpoints come with --data.
        Budget.Paper => new ConvergentLearningRecipeOptions { Clusters = 40, Mean = [.485, .456, .406], Deviation = [.229, .224, .225] },
        _ => new ConvergentLearningRecipeOptions(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0, 1] : [0, 1, 2, 3, 4, 5];

    /// <inheritdoc/>
    public override void Run(ConvergentLearningRecipeOptions options, RunContext context)
    {
        if (context.Data is { } data)
        {
            RunOnOwn(options, context, data);
            return;
        }
        if (context.Budget == Budget.Paper)
            throw new BadInputException("The paper compares AlexNets trained on ImageNet: bring two with --data IMAGES --data.a A.safetensors --data.b B.safetensors.");
        if (context.Seeds.Count < 2) throw new BadInputException("Each seed trains a network, and two are compared: give at least two seeds.");
        ConvergentImages images = ConvergentImages.Load(options, context);
        Architecture architecture = Describe(images.Shape, options.Widths, images.Classes);
        string[] layers = [.. options.Widths.Select((_, i) => $"relu{i + 1}")];
        foreach (int seed in context.Seeds) Train(options, context, images, architecture, seed);
        Network Trained(int seed) => UserModel.Load(Path.Combine(context.Folder, "model", $"network-{seed}.safetensors"), architecture);

        var pairs = new List<ArmResult>();
        var untrained = new List<ArmResult>();
        (int I, int J)[] chosen = [.. context.Seeds.SelectMany((a, i) => context.Seeds.Skip(i + 1).Select(b => (a, b)))];
        foreach ((int i, int j) in chosen)
        {
            bool first = pairs.Count == 0;
            pairs.Add(context.Arm($"networks {i} and {j}", i, run =>
            {
                using Network a = Trained(i), b = Trained(j);
                IReadOnlyList<LayerConvergence> report = ConvergenceReport.Build(LayerActivations.Of(a, layers), LayerActivations.Of(b, layers), layers, images.TestInputs, options.Analysis(i));
                foreach (LayerConvergence layer in report) ConvergentOutputs.Measure(run, layer, options);
                if (first) ConvergentOutputs.Save(run, context, report, layers, options);
            }));
            untrained.Add(context.Arm($"untrained {i} and {j}", i, run =>
            {
                using Network a = Untrained(architecture, i), b = Untrained(architecture, j);
                IReadOnlyList<CrossCorrelation> correlations = CrossCorrelation.Collect(LayerActivations.Of(a, layers), LayerActivations.Of(b, layers), images.TestInputs);
                for (int l = 0; l < layers.Length; l++) run.Metric($"{layers[l]} match", UnitMatching.Bipartite(correlations[l]).Mean);
            }));
        }
        ArmResult[] copies = [.. context.Seeds.Select(seed => context.Arm("permuted copy", seed, run =>
        {
            using Network a = Trained(seed);
            PermutationSpec wiring = architecture.Wiring();
            var permutations = wiring.Groups.ToDictionary(g => g.Name, g => randperm(g.Size, int64).data<long>().ToArray());
            using Network b = new Network(architecture).Load(wiring.Permute(a.State(), permutations));
            IReadOnlyList<CrossCorrelation> correlations = CrossCorrelation.Collect(LayerActivations.Of(a, layers), LayerActivations.Of(b, layers), images.TestInputs);
            run.Metric("match", correlations.Min(c => UnitMatching.Bipartite(c).Score.Where((_, i) => !c.A.Dead[i]).Min()));
            run.Metric("dense error", correlations.Max(c => SparseStitching.Fit(c, [0])[0].Error.Where(e => !double.IsNaN(e)).Max(Math.Abs)));
        }))];
        ArmResult descent = Descend(options, context, images, layers, Trained, chosen[0]);

        Judge(options, context, layers, pairs, untrained, copies);
        Show(options, context, layers, chosen, pairs, untrained, descent);
        ConvergentOutputs.Show(context, options);
        context.Note("Dead units (deviation below 1e-8 of the layer's largest) are left out of matchings, means and clusters; the column 'match, dead as 0' counts them as zeros instead.");
    }

    // The card's networks: 5x5 and two 3x3 convolutions of stride 2 with ReLU, and a linear head.
    internal static Architecture Describe(IReadOnlyList<long> shape, IReadOnlyList<long> widths, long classes)
    {
        var layers = new List<Layer>();
        for (int i = 0; i < widths.Count; i++)
        {
            layers.Add(new Layer($"conv{i + 1}", LayerKind.Conv2d) { Width = widths[i], Kernel = i == 0 ? 5 : 3, Padding = i == 0 ? 2 : 1, Stride = 2 });
            layers.Add(new Layer($"relu{i + 1}", LayerKind.Relu));
        }
        layers.Add(new Layer("flatten", LayerKind.Flatten));
        layers.Add(new Layer("fc", LayerKind.Linear) { Width = classes });
        return new Architecture(shape, layers);
    }

    /// <summary>The network of the paper (CaffeNet without its local response normalisation), at a fraction of the width.</summary>
    internal static Architecture AlexNet(long classes, double scale = 1, long size = 227)
    {
        long Width(long full) => Math.Max(2, (long)(full * scale) / 2 * 2);
        Layer Conv(string name, long width, long kernel, long stride, long padding, long groups) => new(name, LayerKind.Conv2d) { Width = Width(width), Kernel = kernel, Stride = stride, Padding = padding, Groups = groups };
        Layer Pool(string name) => new(name, LayerKind.MaxPool) { Kernel = 3, Stride = 2 };
        Layer Relu(string name) => new(name, LayerKind.Relu);
        return new Architecture([3, size, size],
        [
            Conv("conv1", 96, 11, 4, 0, 1), Relu("relu1"), Pool("pool1"), Conv("conv2", 256, 5, 1, 2, 2), Relu("relu2"), Pool("pool2"),
            Conv("conv3", 384, 3, 1, 1, 1), Relu("relu3"), Conv("conv4", 384, 3, 1, 1, 2), Relu("relu4"), Conv("conv5", 256, 3, 1, 1, 2), Relu("relu5"), Pool("pool5"),
            new Layer("flatten", LayerKind.Flatten), new Layer("fc6", LayerKind.Linear) { Width = Width(4096) }, Relu("relu6"), new Layer("fc7", LayerKind.Linear) { Width = Width(4096) }, Relu("relu7"),
            new Layer("fc8", LayerKind.Linear) { Width = classes },
        ]);
    }

    private static Network Untrained(Architecture architecture, int seed)
    {
        Runtime.Seeds.Set(Runtime.Seeds.Derive(seed, 25));
        return new Network(architecture);
    }

    private static void Train(ConvergentLearningRecipeOptions options, RunContext context, ConvergentImages images, Architecture architecture, int seed)
        => context.Arm("network", seed, run =>
        {
            Network network = Untrained(architecture, seed);
            using var learner = new ClassifierLearner(network, optim.Adam(network.parameters(), options.LearningRate));
            Trainer trainer = run.Trainer(new TrainerOptions { Epochs = options.Epochs, BatchSize = options.BatchSize });
            run.Include(trainer.Fit(learner, new TensorSource(images.TrainInputs, images.TrainLabels), cancellation: run.Cancellation));
            run.Metric("accuracy", Classification.Accuracy(Inference.Outputs(network, images.TestInputs), images.TestLabels));
            run.SaveModel($"network-{seed}", network.State().ToDictionary(p => p.Key, p => p.Value.cpu()), new ConvergentLearningNetwork(architecture.ToJson()));
        });

    // The published solver on the first pair, beside the exact solution of the same problem.
    private static ArmResult Descend(ConvergentLearningRecipeOptions options, RunContext context, ConvergentImages images, string[] layers, Func<int, Network> trained, (int I, int J) pair)
        => context.Arm("stitching layer", pair.I, run =>
        {
            using Network a = trained(pair.I), b = trained(pair.J);
            foreach (string layer in layers)
            {
                using DisposeScope scope = NewDisposeScope();
                Tensor x = ActivationRecorder.Flatten(Inference.Outputs(a, i => a.Evaluate(i, layer), images.TestInputs)), y = ActivationRecorder.Flatten(Inference.Outputs(b, i => b.Evaluate(i, layer), images.TestInputs));
                var correlation = CrossCorrelation.Of(x, y);
                Tensor Standard(Tensor values, UnitStatistics s) => ((values - s.Mean) / s.Deviation.clamp_min(1e-30) * s.Deviation.gt(0)).to(float32);
                (x, y) = (Standard(x, correlation.A), Standard(y, correlation.B));
                using var stitch = new SgdStitchLayer(x.shape[1], y.shape[1], new SgdStitchOptions { Lambda = options.Lambda });
                for (int step = 0; step < options.StitchSteps; step++)
                {
                    run.Cancellation.ThrowIfCancellationRequested();
                    using DisposeScope batch = NewDisposeScope();
                    Tensor rows = randint(0, x.shape[0], [Math.Min(1024, x.shape[0])], int64);
                    stitch.Step(x.index_select(0, rows), y.index_select(0, rows));
                }
                StitchMap exact = SparseStitching.Fit(correlation, [options.Lambda], options.Solver)[options.Lambda];
                Tensor w = stitch.Weight.detach().t().to(float64), error = 1 - 2 * (w * correlation.Between).sum(dim: 0) + (w * correlation.A.Correlation.matmul(w)).sum(dim: 0);
                run.Metric($"{layer} error", error.index_select(0, tensor(correlation.B.Alive).to(int64)).mean().item<double>());
                run.Metric($"{layer} exact error", exact.MeanError);
                run.Metric($"{layer} largest difference of a weight", (w - exact.W).abs().max().item<double>());
            }
        });

    private static void Judge(ConvergentLearningRecipeOptions options, RunContext context, string[] layers, List<ArmResult> pairs, List<ArmResult> untrained, ArmResult[] copies)
    {
        void AtLeast(string claim, double threshold, Func<ArmResult, string, double> figure)
        {
            double[] each = [.. pairs.Select(pair => layers.Min(layer => figure(pair, layer)))];
            context.Check(claim, each.Min(), Comparison.AtLeast, threshold, each);
        }
        double[] falls = [.. pairs.Select(p => p[$"{layers[0]} match"] - p[$"{layers[^1]} match"])];
        context.Check("depth", falls.Min(), Comparison.AtLeast, .08, falls);
        if (options.Lambdas.Contains(0))
        {
            AtLeast("shared-subspace", .08, (pair, layer) => pair[$"{layer} single error"] - pair[$"{layer} dense error"]);
            AtLeast("few-units", .35, (pair, layer) => pair[$"{layer} lasso units"] > 10 ? 0 : (pair[$"{layer} single error"] - pair[$"{layer} lasso error"]) / (pair[$"{layer} single error"] - pair[$"{layer} dense error"]));
        }
        AtLeast("above-random", .2, (pair, layer) => pair[$"{layer} match"] - pair[$"{layer} random"]);
        AtLeast("shared-clusters", .8, (pair, layer) => pair[$"{layer} shared"]);
        double[] gains = [.. pairs.Zip(untrained, (p, u) => layers.Min(l => p[$"{l} match"] - u[$"{l} match"]))];
        context.Check("untrained", gains.Min(), Comparison.AtLeast, .1, gains);
        double[] deviations = [.. copies.Select(c => Math.Max(1 - c["match"], c["dense error"]))];
        context.Check("permuted-copy", deviations.Max(), Comparison.AtMost, 1e-6, deviations);
        foreach (string layer in layers) context.Compare(null, "trained - untrained, over pairs", pairs, untrained, $"{layer} match");
    }

    private static void Show(ConvergentLearningRecipeOptions options, RunContext context, string[] layers, (int I, int J)[] chosen, List<ArmResult> pairs, List<ArmResult> untrained, ArmResult descent)
    {
        static string Number(double value) => value.ToString("0.000", CultureInfo.InvariantCulture);
        string lambda = options.Lambda.ToString(CultureInfo.InvariantCulture);
        string[] metrics = ["semi", "match", "match, dead as 0", "random", "single error", "dense error", "lasso error", "lasso units", "shared", "shared, hierarchical", "agreement", "match by information", "dead"];
        string Cell(ArmResult result, string metric) => result.Metrics.TryGetValue(metric, out double value) ? Number(value) : "";
        context.Table("pairs", $"Every pair of networks, by layer. Errors are squared errors relative to the variance of the predicted unit; lasso has lambda {lambda}; 'shared' is the share of units in clusters of both networks, 'agreement' that of units to which mutual information gives the same partner, 'match by information' the correlation of its pairs.",
            ["pair", "layer", .. metrics, "untrained match"],
            [.. chosen.SelectMany((pair, p) => layers.Select(layer => (IReadOnlyList<string>)[$"{pair.I},{pair.J}", layer, .. metrics.Select(m => Cell(pairs[p], $"{layer} {m}")), Cell(untrained[p], $"{layer} match")]))]);
        context.Table("means", "Means over the pairs, smallest and largest in brackets.", ["layer", .. metrics],
            [.. layers.Select(layer => (IReadOnlyList<string>)[layer, .. metrics.Select(m => pairs[0].Metrics.ContainsKey($"{layer} {m}")
                ? $"{Number(pairs.Average(p => p[$"{layer} {m}"]))} ({Number(pairs.Min(p => p[$"{layer} {m}"]))}-{Number(pairs.Max(p => p[$"{layer} {m}"]))})" : "")])]);
        context.Table("descent", $"The stitching layer of the published solver (momentum 0.98, learning rate 0.001 halved every 1,500 of {options.StitchSteps} iterations, L1 decay {lambda}) on standardised activations, beside the exact solution.",
            ["layer", "error", "exact error", "largest difference of a weight"], [.. layers.Select(l => (IReadOnlyList<string>)[l, Number(descent[$"{l} error"]), Number(descent[$"{l} exact error"]), Number(descent[$"{l} largest difference of a weight"])])]);

        double[] depth = [.. layers.Select((_, i) => i + 1.0)];
        Curve Line(string label, IEnumerable<ArmResult> arms, string metric, bool dashed = false) => new(label, depth, [.. arms.Select(a => (IReadOnlyList<double>)[.. layers.Select(l => a[$"{l} {metric}"])])], dashed);
        context.Figure("layers", "Mean correlation of matched units by depth: the best partner (semi-matching), one-to-one matching, random pairs, and the matching of untrained networks. Bands span the pairs.",
            Charts.Lines("Correlation of corresponding units", "convolution", "mean correlation", [Line("semi-matching", pairs, "semi"), Line("matching", pairs, "match"), Line("random pairs", pairs, "random", true), Line("matching, untrained", untrained, "match", true)]));
        context.Figure("lasso-path", "Error of the sparse prediction against the number of units it uses, mean over pairs; the first point of each line is the best single unit.",
            Charts.Lines("Sparse prediction of the other network's units", "units used", "relative squared error", [.. layers.Select(layer =>
            {
                (double[] _, double[] error) = pairs[0].Series($"{layer} path error");
                int[] order = [.. Enumerable.Range(0, error.Length).Reverse()];
                double Units(int k) => pairs.Average(p => p.Series($"{layer} path units").Y[k]);
                return new Curve(layer, [.. order.Select(Units)], [.. pairs.Select(p => (IReadOnlyList<double>)[.. order.Select(k => p.Series($"{layer} path error").Y[k])])]);
            })], logX: true));
    }

    private static void RunOnOwn(ConvergentLearningRecipeOptions options, RunContext context, UserData data)
    {
        context.Arm("layers", context.Seeds[0], run =>
        {
            ConvergentInput input = ConvergentInput.Read(data, options, context.Device);
            IReadOnlyList<LayerConvergence> report = BadInput.Refusing(input.What, () => input.Build(options.Analysis(run.Seed)));
            foreach (LayerConvergence layer in report) ConvergentOutputs.Measure(run, layer, options);
            ConvergentOutputs.Save(run, context, report, input.LayersB, options);
        });
        context.UsedData(data.Path.Length > 0 ? $"networks {data.Part(A)} and {data.Part(B)} on {data.Path}" : $"activations {data.Part(A)} and {data.Part(B)}");
        ConvergentOutputs.Show(context, options);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context) => ConvergentOutputs.Apply(run, context, run.Options<ConvergentLearningRecipeOptions>());
}

/// <summary>The images of the experiment, float32 in 0..1.</summary>
internal sealed record ConvergentImages(Tensor TrainInputs, Tensor TrainLabels, Tensor TestInputs, Tensor TestLabels, long Classes)
{
    public long[] Shape => [.. TrainInputs.shape.Skip(1)];

    public static ConvergentImages Load(ConvergentLearningRecipeOptions options, RunContext context)
    {
        if (options.Images == "digits")
        {
            Digits digits = Digits.Load(context, options.TrainImages, options.TestImages);
            (Tensor x, Tensor y) = digits.TrainPart(0, options.TrainImages);
            (Tensor testX, Tensor testY) = digits.TestPart(0, options.TestImages);
            return new ConvergentImages(x, y, testX, testY, 10);
        }
        string folder = context.DataFolder.Find("cifar10-jpeg") ?? throw new BadInputException($"CIFAR-10 is not in {context.DataFolder.Root}: priori data import cifar10-jpeg DIR.");
        string zip = Path.Combine(folder, "cifar10-jpeg.zip");
        (Tensor Images, Tensor Labels) Part(string split, int count)
        {
            ImageDataset all = ImageFolder.Read(zip, split: split);
            if (count > all.Images.shape[0]) throw new BadInputException($"CIFAR-10 has {all.Images.shape[0]} images to {split}; options ask for {count}.");
            Tensor rows = randperm(all.Images.shape[0], int64, generator: new Generator(0)).narrow(0, 0, count); // the files are in the order of the classes
            return (all.Images.index_select(0, rows).to(float32).div_(255), all.Labels.index_select(0, rows));
        }
        (Tensor trainX, Tensor trainY) = Part("train", options.TrainImages);
        (Tensor otherX, Tensor otherY) = Part("test", options.TestImages);
        context.UsedData($"CIFAR-10 (JPEG files), {options.TrainImages} training and {options.TestImages} test images");
        return new ConvergentImages(trainX, trainY, otherX, otherY, 10);
    }
}
