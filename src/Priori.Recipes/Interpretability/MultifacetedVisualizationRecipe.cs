using System.Globalization;
using Priori.Data;
using Priori.Interpretability;
using Priori.Metrics;
using Priori.Nn;
using Priori.Numerics;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using static Priori.Recipes.BadInput;

namespace Priori.Recipes.Interpretability;

/// <summary>Options of <see cref="MultifacetedVisualizationRecipe"/>.</summary>
public sealed record MultifacetedVisualizationOptions : RecipeOptions
{
    /// <summary>Units for own data.</summary>
    [Option("Own data: units to show, each LAYER:INDEX or LAYER:INDEX@ROWxCOLUMN; the outputs (at most 10) when empty.")]
    public IReadOnlyList<string> Unit { get; init; } = [];

    /// <summary>Layer of the codes.</summary>
    [Option("Own data: layer whose activations are the codes; what the output layer reads when empty.")]
    public string? CodeLayer { get; init; }

    /// <summary>Facets.</summary>
    [Option("Facets of a unit: clusters of its images.", Min = 1)]
    public int Facets { get; init; } = 4;

    /// <summary>Images of a mean.</summary>
    [Option("Images nearest to a cluster's centroid that are averaged.", Min = 1)]
    public int MeanOf { get; init; } = 15;

    /// <summary>Principal components.</summary>
    [Option("Principal components of the codes.", Min = 1)]
    public int PcaDimensions { get; init; } = 50;

    /// <summary>Perplexity.</summary>
    [Option("Perplexity of t-SNE.", Min = 1.5)]
    public double Perplexity { get; init; } = 30;

    /// <summary>Space of the clusters.</summary>
    [Option("Space of k-means: the paper's two-dimensional embedding, or the codes.")]
    public FacetSpace Space { get; init; }

    /// <summary>Images of a unit.</summary>
    [Option("Images of a unit: those of its class, or for hidden units the most activating ones.", Min = 10)]
    public int ImagesPerUnit { get; init; } = 300;

    /// <summary>Steps of the digits' activation maximisation.</summary>
    [Option("Digits: steps of activation maximisation.", Min = 1)]
    public int Steps { get; init; } = 60;

    /// <summary>Step size.</summary>
    [Option("Digits: mean change of a pixel by a step, pixels in 0..1.", Min = 1e-6, Max = 1)]
    public double StepSize { get; init; } = .02;

    /// <summary>Smoothing.</summary>
    [Option("Digits: weight of the total variation against half the squared distance, in each step's denoising.", Min = 1e-6)]
    public double Smoothing { get; init; } = .03;

    /// <summary>Iterations of the published schedules.</summary>
    [Option("Iterations of the paper's octaves, relative to the paper.", Min = .001)]
    public double OctaveIterations { get; init; } = 1;

    /// <summary>Units of the digits.</summary>
    [Option("Digits: super-classes that are shown.", Min = 1, Max = 5)]
    public int Units { get; init; } = 5;

    /// <summary>Training images.</summary>
    [Option("Digits: training images of each network. Own data: most images that the classifier is trained on.", Min = 20)]
    public int TrainImages { get; init; } = 12_000;

    /// <summary>Test images.</summary>
    [Option("Digits: test images.", Min = 10)]
    public int TestImages { get; init; } = 4000;

    /// <summary>Epochs.</summary>
    [Option("Epochs of a classifier.", Min = 1)]
    public int Epochs { get; init; } = 3;

    /// <summary>Channels.</summary>
    [Option("Channels of the classifier's convolutions, each of stride 2.", Min = 1)]
    public IReadOnlyList<long> Widths { get; init; } = [16, 32];

    /// <summary>Learning rate.</summary>
    [Option("Learning rate of Adam.", Min = 1e-8)]
    public double LearningRate { get; init; } = 2e-3;

    /// <summary>Batch size.</summary>
    [Option("Images of a training batch.", Min = 1)]
    public int BatchSize { get; init; } = 32;

    /// <summary>Image size.</summary>
    [Option("Own images without a model: they are cropped and resampled to this side; as they are when empty.", Min = 4)]
    public int? ImageSize { get; init; }

    /// <summary>Mean of the channels.</summary>
    [Option("Own model: mean of each channel, subtracted from pixels in 0..1; empty for none.")]
    public IReadOnlyList<double> Mean { get; init; } = [];

    /// <summary>Deviation of the channels.</summary>
    [Option("Own model: deviation of each channel, which pixels are divided by.")]
    public IReadOnlyList<double> Deviation { get; init; } = [];

    /// <summary>Whether the baselines run on own data.</summary>
    [Option("Own data: whether the baselines are drawn beside the facets.")]
    public bool Baselines { get; init; } = true;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Mean.Count != Deviation.Count) throw new BadInputException("Options 'mean' and 'deviation' must have as many numbers.");
        if (Deviation.Any(d => d == 0)) throw new BadInputException("Option 'deviation' must not be 0.");
        if (Widths.Count == 0) throw new BadInputException("Option 'widths' is empty; give the channels of at least one convolution.");
        if (ImagesPerUnit < Facets) throw new BadInputException($"Option 'images-per-unit' is {ImagesPerUnit}, which is fewer than the {Facets} facets.");
    }
}

/// <summary>The facets of units that are multifaceted by construction, judged by another network; and those of the user's own units.</summary>
public sealed class MultifacetedVisualizationRecipe : Recipe<MultifacetedVisualizationOptions>
{
    private const int SuperClasses = 5;
    private const string Multifaceted = "multifaceted", RandomStart = "random start", ClassMean = "class mean", CenterBiased = "centre-biased", Jittered = "jittered", Hidden = "hidden units";

    /// <inheritdoc/>
    public override string Id => "multifaceted-visualization";

    /// <inheritdoc/>
    public override string Area => "Interpretability";

    /// <inheritdoc/>
    public override string Title => "Multifaceted feature visualization";

    /// <inheritdoc/>
    public override string Summary => "Shows the different kinds of images that a unit of a network responds to, each as a synthesized image with the real ones behind it.";

    /// <inheritdoc/>
    public override Paper Paper => new("Multifaceted Feature Visualization: Uncovering the Different Types of Features Learned By Each Neuron in Deep Neural Networks", "Nguyen, Yosinski, Clune", "ICML workshop on visualization", 2016, "https://arxiv.org/abs/1602.03616");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("purity", "Units of two digits each: the discovered facets have a purity of at least 0.85 in their digits, on every seed."),
        new("above-random", "The share of a unit's digits that another network recognises in its facets is at least 0.15 higher than with as many random starts, on every seed."),
        new("above-class-mean", "It is at least 0.15 higher than with a start from the mean of all images of the unit, on every seed."),
        new("target-probability", "The visualised network gives the facets its own class with a probability of at least 0.95, on every seed."),
        new("centre-energy", "Center-biased regularization puts at least 10 % more energy |x - background|^2 into the central half of the area than plain jittered maximisation, the background being the grey of the start, on every seed (the smallest ratio)."),
        new("centre-energy-own", "The same with the image's own background, its median pixel."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        ["model"] = "a network as .safetensors whose units are shown; without it a small classifier is trained on the labels of --data",
        ["arch"] = "its layers, arch.json, if they are not beside it",
    };

    /// <inheritdoc/>
    public override MultifacetedVisualizationOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Units = 2, Steps = 20, TrainImages = 1500, TestImages = 300, Epochs = 2, ImagesPerUnit = 60, OctaveIterations = .03 },
        // The paper shows units of AlexNet (CaffeNet) with 10 facets of 1,300 images; the network and the images come with --data.
        Budget.Paper => new() { Facets = 10, ImagesPerUnit = 1300, CodeLayer = "classifier.5", Mean = [.485, .456, .406], Deviation = [.229, .224, .225] },
        _ => new(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Full ? [0, 1, 2, 3, 4] : [0];

    /// <inheritdoc/>
    public override void Run(MultifacetedVisualizationOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        if (context.Data is { } data)
        {
            RunOnOwn(options, context, data);
            return;
        }
        if (context.Budget == Budget.Paper)
            throw new BadInputException("The paper shows units of AlexNet on ImageNet: bring both with --data IMAGES --data.model alexnet.safetensors (tensors as torchvision names them), or another network with --data.arch arch.json.");
        Digits digits = Digits.Load(context, 2 * options.TrainImages, options.TestImages);
        var arms = new Dictionary<string, List<ArmResult>>();
        foreach (int seed in context.Seeds)
            foreach (ArmResult result in RunSeed(options, context, digits, seed))
            {
                if (!arms.TryGetValue(result.Arm, out List<ArmResult>? list)) arms[result.Arm] = list = [];
                list.Add(result);
            }
        CheckClaims(context, arms);
        Tables(context, arms);
        Figures(options, context, arms);
    }

    // ---- digits: units that have exactly two facets

    /// <summary>Pairs the digits at random: [10] the super-class of each digit.</summary>
    private static int[] Pairing(int seed)
    {
        int[] digits = [.. Enumerable.Range(0, 10)];
        SplitMix64.For(seed, 0x9A12).Shuffle<int>(digits);
        int[] classes = new int[10];
        for (int i = 0; i < 10; i++) classes[digits[i]] = i / 2;
        return classes;
    }

    private static List<ArmResult> RunSeed(MultifacetedVisualizationOptions options, RunContext context, Digits digits, int seed)
    {
        using var scope = NewDisposeScope();
        bool first = seed == context.Seeds[0];
        int[] pairing = Pairing(seed);
        Tensor superOf = tensor(pairing, int64);
        (Tensor images, Tensor labels) = digits.TrainPart(0, options.TrainImages);
        string path = context.OutputPath($"networks-{seed}.safetensors");
        Architecture architecture = FacetFiles.Classifier([1, 28, 28], options.Widths, SuperClasses), judgeArchitecture = FacetFiles.Classifier([1, 28, 28], options.Widths, 10);
        List<ArmResult> results = [context.Arm("networks", seed, run =>
        {
            (Tensor other, Tensor otherLabels) = digits.TrainPart(options.TrainImages, options.TrainImages);
            (Tensor test, Tensor testLabels) = digits.TestPart(0, options.TestImages);
            var state = new Dictionary<string, Tensor>();
            foreach ((string name, Architecture a, Tensor x, Tensor y, Tensor truth) in new[] { ("classifier", architecture, images, superOf[labels], superOf[testLabels]), ("judge", judgeArchitecture, other, otherLabels, testLabels) })
            {
                using Network network = Train(run, options, a, x, y, Runtime.Seeds.Derive(seed, name.Length));
                run.Metric($"{name} accuracy", Classification.Accuracy(Inference.Outputs(network, test), truth));
                foreach ((string key, Tensor value) in network.State()) state[$"{name}/{key}"] = value.cpu();
                if (first && name == "classifier") run.SaveModel("network", network.State(), new FacetNetwork(a.ToJson(), "code", [], []));
            }
            Safetensors.Write(path, state);
        })];
        Dictionary<string, Tensor> both = Safetensors.Read(path);
        Network Load(string name, Architecture a) => (Network)new Network(a).Load(both.Where(p => p.Key.StartsWith(name + "/", StringComparison.Ordinal)).ToDictionary(p => p.Key[(name.Length + 1)..], p => p.Value)).to(context.Device);
        using Network classifier = Load("classifier", architecture), judge = Load("judge", judgeArchitecture);
        classifier.eval();
        judge.eval();

        // The images of each unit: training images of its super-class.
        (Tensor Images, Tensor Labels)[] ofUnit = [.. Enumerable.Range(0, options.Units).Select(u =>
        {
            Tensor rows = superOf[labels].eq(u).nonzero().flatten();
            rows = rows.narrow(0, 0, Math.Min(options.ImagesPerUnit, rows.shape[0]));
            return (images.index_select(0, rows), labels.index_select(0, rows));
        })];
        FacetOptions discovery = Discovery(options, seed);
        OctaveSchedule plain = OctaveSchedule.Custom(new Octave(options.Steps) { StepStart = options.StepSize, StepEnd = options.StepSize, WeightStart = 1 / options.Smoothing, WeightEnd = 1 / options.Smoothing });
        OctaveSchedule undenoised = OctaveSchedule.Custom(plain.Octaves[0] with { WeightStart = double.PositiveInfinity, WeightEnd = double.PositiveInfinity });
        // The published octaves start from the same means, which the arm before has stored.
        ArmResult multifaceted = null!;

        void Arm(string name, Func<int, Tensor> start, OctaveSchedule schedule, Action<ArmRun, int>? before = null)
        {
            ArmResult result = context.Arm(name, seed, run =>
            {
                double coverage = 0, target = 0, confidence = 0, stops = 0;
                for (int u = 0; u < options.Units; u++)
                {
                    using var temporaries = NewDisposeScope();
                    before?.Invoke(run, u);
                    AmResult made = Maximizer(classifier, u).Run(start(u), schedule, Runtime.Seeds.Derive(seed, u), run.Cancellation);
                    Tensor seen = ImageZoom.Resize(made.Images, 28, 28), probabilities = Inference.Outputs(judge, seen).softmax(1);
                    int[] own = [.. Enumerable.Range(0, 10).Where(d => pairing[d] == u)];
                    coverage += own.Average(d => probabilities.select(1, d).gt(.5).any().item<bool>() ? 1 : 0) / options.Units;
                    confidence += probabilities.index_select(1, tensor(own, int64)).amax([1]).mean().ToDouble() / options.Units;
                    target += Maximizer(classifier, u).Evaluate(seen, UnitObjective.Probability).mean().ToDouble() / options.Units;
                    Keep(run, $"{u}", made);
                    stops += made.Stops.Count;
                }
                run.Metric("coverage", coverage);
                run.Metric("stops", stops);
                run.Metric("target probability", target);
                run.Metric("judge's confidence", confidence);
            });
            if (name == Multifaceted) multifaceted = result;
            results.Add(result);
        }

        Facets? found = null;
        double purities = 0;
        void Discover(ArmRun run, int u, FacetOptions how, bool save)
        {
            (Tensor x, Tensor y) = ofUnit[u];
            found = FacetDiscovery.Fit(x, MultifacetedVisualizer.Codes(classifier, x, "code"), how, run.Cancellation);
            run.Tensor($"means {u}", found.MeanImages);
            run.Tensor($"embedding {u}", found.Embedding);
            run.Tensor($"labels {u}", found.Labels);
            run.Tensor($"digits {u}", y);
            purities = (u == 0 ? 0 : purities) + Purity(found, y) / options.Units;
            run.Metric("purity", purities);
            if (save) SaveFacets(run, $"facets-{u}", new UnitSelector("fc", u), found);
        }

        Tensor Noisy(Tensor image, int u) => (image.expand(options.Facets, -1, -1, -1) + .05 * randn([options.Facets, .. image.shape[1..]], generator: new Generator((ulong)Runtime.Seeds.Derive(seed, 7, u)))).clamp(0, 1);
        Tensor MeanOf(int u) => ofUnit[u].Images.mean([0L], keepdim: true);
        Arm(Multifaceted, _ => found!.MeanImages, plain, (run, u) => Discover(run, u, discovery, first));
        Arm(RandomStart, u => rand([options.Facets, 1, 28, 28], generator: new Generator((ulong)Runtime.Seeds.Derive(seed, 3, u))), plain);
        Arm(ClassMean, MeanOf, plain);
        Arm("class mean with noise", u => Noisy(MeanOf(u), u), plain);
        Arm("real images", u => ofUnit[u].Images.narrow(0, 0, options.Facets), plain);
        Arm("k-means of codes", _ => found!.MeanImages, plain, (run, u) => Discover(run, u, discovery with { Space = FacetSpace.Codes }, false));
        Arm("no denoising", u => multifaceted.Tensor($"means {u}"), undenoised);
        Arm("octaves", u => multifaceted.Tensor($"means {u}"), OctaveSchedule.MeanInit(28).Lengthened(options.OctaveIterations));

        results.Add(context.Arm(Hidden, seed, run =>
        {
            // The code units that are active most, each on the images of any digit that excite it most.
            Tensor codes = MultifacetedVisualizer.Codes(classifier, images, "code");
            long[] units = codes.mean([0L]).topk(options.Units, 0).indexes.data<long>().ToArray();
            double kinds = 0, purity = 0;
            for (int u = 0; u < units.Length; u++)
            {
                using var temporaries = NewDisposeScope();
                var shown = new UnitSelector("code", units[u]);
                MultifacetedResult result = MultifacetedVisualizer.Visualize(classifier, shown, images, "code",
                    new MultifacetedOptions { Facets = discovery, Schedule = plain, MostActivating = options.ImagesPerUnit, Seed = Runtime.Seeds.Derive(seed, u) }, run.Cancellation);
                Tensor y = labels.index_select(0, result.Rows);
                kinds += Majorities(result.Facets, y).Select(m => m.Digit).Distinct().Count() / (double)units.Length;
                purity += Purity(result.Facets, y) / units.Length;
                run.Metric($"unit {u}", units[u]);
                run.Tensor($"means {u}", result.Facets.MeanImages);
                Keep(run, $"{u}", result.Maximized);
            }
            run.Metric("digits of a unit's facets", kinds);
            run.Metric("purity", purity);
        }));

        OctaveSchedule centred = OctaveSchedule.CenterBiased(28).Lengthened(options.OctaveIterations);
        foreach ((string name, OctaveSchedule schedule) in new[] { (CenterBiased, centred), (Jittered, Unbiased(centred, 28)) })
            results.Add(context.Arm(name, seed, run =>
            {
                double centre = 0, share = 0, own = 0, ownShare = 0, target = 0, stops = 0;
                for (int u = 0; u < options.Units; u++)
                {
                    using var temporaries = NewDisposeScope();
                    AmResult made = new ActivationMaximizer(classifier, new UnitSelector("fc", u)).Run(OctaveSchedule.GreyNoise(1, 1, 28, 28, Runtime.Seeds.Derive(seed, 5, u)), schedule, Runtime.Seeds.Derive(seed, u), run.Cancellation);
                    (double inside, double all) = CentreEnergy(made.Images, 175.0 / 255);
                    (double insideOwn, double allOwn) = CentreEnergy(made.Images, made.Images.flatten().median().ToDouble());
                    centre += inside / options.Units;
                    share += inside / all / options.Units;
                    own += insideOwn / options.Units;
                    ownShare += insideOwn / allOwn / options.Units;
                    target += Maximizer(classifier, u).Evaluate(ImageZoom.Resize(made.Images, 28, 28), UnitObjective.Probability).mean().ToDouble() / options.Units;
                    Keep(run, $"{u}", made);
                    stops += made.Stops.Count;
                }
                run.Metric("centre energy", centre);
                run.Metric("stops", stops);
                run.Metric("centre share", share);
                run.Metric("centre energy about the median", own);
                run.Metric("centre share about the median", ownShare);
                run.Metric("target probability", target);
            }));
        return results;
    }

    /// <summary>The most frequent digit of each facet, how often it occurs, and the size of the facet.</summary>
    private static (long Digit, double Count, long Size)[] Majorities(Facets facets, Tensor digits) => [.. Enumerable.Range(0, facets.Count).Select(f =>
    {
        Tensor own = digits.index_select(0, facets.Labels.eq(f).nonzero().flatten()), counts = own.bincount(null, 10);
        return (counts.argmax().ToInt64(), counts.max().ToDouble(), own.shape[0]);
    })];

    private static double Purity(Facets facets, Tensor digits)
    {
        (long, double Count, long Size)[] facetsOf = Majorities(facets, digits);
        return facetsOf.Sum(f => f.Count) / facetsOf.Sum(f => f.Size);
    }

    /// <summary>Energy |x - background|^2 in the central box of half the area, and in the whole image.</summary>
    private static (double Inside, double All) CentreEnergy(Tensor image, double background)
    {
        Tensor energy = (image - background).square();
        long side = energy.shape[2], inner = (long)Math.Round(side * Math.Sqrt(.5)), edge = (side - inner) / 2;
        return (energy.narrow(2, edge, inner).narrow(3, edge, inner).sum().ToDouble(), energy.sum().ToDouble());
    }

    /// <summary>The same steps without the centre bias: the canvas has its last size from the start, crops fall anywhere in the default window, and no margin holds the border.</summary>
    private static OctaveSchedule Unbiased(OctaveSchedule schedule, int size)
    {
        double last = schedule.Octaves.Aggregate((double)size, (side, o) => Math.Round(side * o.Scale));
        return OctaveSchedule.Custom([.. schedule.Octaves.Select((o, i) => o with { Scale = i == 0 ? last / size : 1, Margin = 0, Window = .3 })]);
    }

    private static ActivationMaximizer Maximizer(Network network, int unit)
        => new(network, new UnitSelector("fc", unit)) { Denoiser = new TotalVariationDenoiser { Solver = TotalVariationSolver.Chambolle, MaxIterations = 100, Tolerance = 1e-4 } };

    private static FacetOptions Discovery(MultifacetedVisualizationOptions options, int seed)
        => new() { Count = options.Facets, MeanOf = options.MeanOf, PcaDimensions = options.PcaDimensions, Perplexity = options.Perplexity, Space = options.Space, Seed = seed };

    private static void Keep(ArmRun run, string key, AmResult made)
    {
        run.Tensor($"images {key}", made.Images);
        run.Tensor($"trace {key}", made.ActivationTrace);
    }

    private static void SaveFacets(ArmRun run, string name, UnitSelector unit, Facets facets)
        => run.SaveModel(name, new Dictionary<string, Tensor>
        {
            ["mean"] = facets.Components.Mean,
            ["components"] = facets.Components.Components,
            ["variance"] = facets.Components.ExplainedVariance,
            ["codes"] = facets.Codes,
            ["labels"] = facets.Labels,
        }.ToDictionary(p => p.Key, p => p.Value.cpu()), new UnitFacets(unit.ToString(), facets.Components.TotalVariance));

    private static Network Train(ArmRun run, MultifacetedVisualizationOptions options, Architecture architecture, Tensor x, Tensor y, int seed)
    {
        Runtime.Seeds.Set(seed);
        var network = new Network(architecture);
        network.to(run.Device);
        var adam = optim.Adam(network.parameters(), options.LearningRate);
        var learner = new ClassifierLearner(network, adam);
        run.Include(run.Trainer(new TrainerOptions { Epochs = options.Epochs, BatchSize = options.BatchSize, Seed = seed }).Fit(learner, new TensorSource(x, y), cancellation: run.Cancellation));
        network.eval();
        return network;
    }

    private static void CheckClaims(RunContext context, Dictionary<string, List<ArmResult>> arms)
    {
        double[] Of(string arm, string metric) => [.. arms[arm].Select(r => r[metric])];
        void AtLeast(string claim, double[] perSeed, double threshold) => context.Check(claim, perSeed.Min(), Comparison.AtLeast, threshold, perSeed);
        double[] Above(string arm) => [.. Of(Multifaceted, "coverage").Zip(Of(arm, "coverage"), (a, b) => a - b)];
        AtLeast("purity", Of(Multifaceted, "purity"), .85);
        AtLeast("above-random", Above(RandomStart), .15 - 1e-9);
        AtLeast("above-class-mean", Above(ClassMean), .15 - 1e-9);
        AtLeast("target-probability", Of(Multifaceted, "target probability"), .95);
        double[] Ratio(string metric) => [.. Of(CenterBiased, metric).Zip(Of(Jittered, metric), (a, b) => a / b)];
        AtLeast("centre-energy", Ratio("centre energy"), 1.1);
        AtLeast("centre-energy-own", Ratio("centre energy about the median"), 1.1);
        foreach (string arm in arms.Keys.Where(a => a != Multifaceted && arms[a][0].Metrics.ContainsKey("coverage")))
            context.Compare(null, $"{Multifaceted} - {arm}", arms[Multifaceted], arms[arm], "coverage");
        foreach (string metric in (string[])["centre energy", "centre share", "centre energy about the median", "centre share about the median"])
            context.Compare(null, $"{CenterBiased} - {Jittered}", arms[CenterBiased], arms[Jittered], metric);
    }

    private static void Tables(RunContext context, Dictionary<string, List<ArmResult>> arms)
    {
        string Cell(string arm, string metric, string format = "0.000")
        {
            double[] values = [.. arms[arm].Where(r => r.Metrics.ContainsKey(metric)).Select(r => r[metric])];
            return values.Length == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"{values.Average().ToString(format, CultureInfo.InvariantCulture)} ({string.Join(" ", values.Select(v => v.ToString("0.00", CultureInfo.InvariantCulture)))})");
        }
        string[] judged = [.. arms.Keys.Where(a => arms[a][0].Metrics.ContainsKey("coverage"))];
        context.Table("coverage", "Share of a unit's two digits that another network recognises (probability above 0.5) in the synthesized images: mean over seeds, and each seed.",
            ["start", "coverage", "target probability", "judge's confidence in one of the two", "purity of the facets"],
            [.. judged.Select(a => (IReadOnlyList<string>)[a, Cell(a, "coverage"), Cell(a, "target probability"), Cell(a, "judge's confidence"), Cell(a, "purity")])]);
        context.Table("centre", "Energy |x - background|^2 in the central half of the area, and its share of the whole (0.5 when spread evenly): about the grey of the start, and about the image's own median.",
            ["arm", "energy, grey", "share, grey", "energy, median", "share, median", "target probability"],
            [.. new[] { CenterBiased, Jittered }.Select(a => (IReadOnlyList<string>)[a, Cell(a, "centre energy", "0.0"), Cell(a, "centre share"), Cell(a, "centre energy about the median", "0.0"), Cell(a, "centre share about the median"), Cell(a, "target probability")])]);
        context.Table("hidden", "Hidden units (of the 64-unit code) on the images that excite them most: how many different digits lead their facets, and the purity of the facets.", ["facets of", "different digits", "purity"],
            [["hidden units", Cell(Hidden, "digits of a unit's facets", "0.00"), Cell(Hidden, "purity")]]);
        context.Table("networks", "Test accuracy of the visualised network (5 super-classes) and of the judge (10 digits).", ["network", "accuracy"],
            [["classifier", Cell("networks", "classifier accuracy")], ["judge", Cell("networks", "judge accuracy")]]);
    }

    private static void Figures(MultifacetedVisualizationOptions options, RunContext context, Dictionary<string, List<ArmResult>> arms)
    {
        using var scope = NewDisposeScope();
        int[] pairing = Pairing(context.Seeds[0]);
        string[] shown = [.. arms.Keys.Where(a => arms[a][0].Metrics.ContainsKey("target probability"))];
        for (int u = 0; u < options.Units; u++)
        {
            string name = string.Join(" and ", Enumerable.Range(0, 10).Where(d => pairing[d] == u));
            (string, Tensor)[] rows = [("mean images", arms[Multifaceted][0].Tensor($"means {u}")), .. shown.Select(a => (a, arms[a][0].Tensor($"images {u}")))];
            GridFigure(context, $"unit-{u}", $"Unit {u}, the digits {name}: the mean images of its facets, what is made from them, and other starts and schedules. Seed {context.Seeds[0]}.", $"Unit {u}: {name}", rows, (0, 1));
            ArmResult facets = arms[Multifaceted][0];
            Tensor digits = facets.Tensor($"digits {u}");
            EmbeddingFigure(context, $"embedding-{u}", $"t-SNE of the codes of unit {u}'s images ({name}), coloured by facet.", $"Images of unit {u}", facets.Tensor($"embedding {u}"), facets.Tensor($"labels {u}"),
                f => $"facet {f}: " + string.Join(", ", digits.index_select(0, facets.Tensor($"labels {u}").eq(f).nonzero().flatten()).data<long>().ToArray().GroupBy(d => d).OrderByDescending(g => g.Count()).Select(g => $"{g.Count()} x {g.Key}")));
        }
        ArmResult hidden = arms[Hidden][0];
        GridFigure(context, "hidden", $"Hidden units: the mean images of their facets, and what is made from them. Seed {context.Seeds[0]}.", "Hidden units of the code",
            [.. Enumerable.Range(0, options.Units).SelectMany(u => new[] { ($"unit {hidden[$"unit {u}"]}: means", hidden.Tensor($"means {u}")), ("maximized", hidden.Tensor($"images {u}")) })], (0, 1));
        TraceFigure(context, "traces-0", $"Logit of unit 0 over the steps, mean and range over its images. Seed {context.Seeds[0]}.", [Multifaceted, RandomStart, ClassMean, "no denoising"], arm => arms[arm][0].Tensor("trace 0"));
        TraceFigure(context, "octaves-0", "Unit 0 over the steps of the published octaves: its logit, and its probability in the first two octaves of center-biased regularization.", ["octaves", CenterBiased, Jittered], arm => arms[arm][0].Tensor("trace 0"));
    }

    private static void GridFigure(RunContext context, string name, string caption, string title, (string Label, Tensor Images)[] rows, (double Low, double High) range)
    {
        long columns = rows.Max(r => r.Images.shape[0]), height = rows.Max(r => r.Images.shape[2]), width = rows.Max(r => r.Images.shape[3]);
        var cells = new List<Tensor>();
        foreach ((_, Tensor images) in rows)
        {
            Tensor seen = FacetFiles.Visible(ImageZoom.Resize(images.to(float32), height, width, cubic: false), range);
            cells.Add(seen);
            if (seen.shape[0] < columns) cells.Add(ones([columns - seen.shape[0], .. seen.shape[1..]]));
        }
        context.Figure(name, caption, Charts.Images(title, cat(cells), (int)columns, [.. rows.Select(r => r.Label)]), 260 + 90 * (int)columns, 110 + 90 * rows.Length);
    }

    private static void EmbeddingFigure(RunContext context, string name, string caption, string title, Tensor embedding, Tensor labels, Func<long, string> label)
    {
        (string, double[], double[])[] groups = [.. labels.data<long>().ToArray().Distinct().Order().Select(f =>
        {
            Tensor points = embedding.index_select(0, labels.eq(f).nonzero().flatten()).to(float64);
            double[] Axis(int axis) => points.select(1, axis).contiguous().data<double>().ToArray();
            return (f < 0 ? "single images" : label(f), Axis(0), Axis(1));
        })];
        context.Figure(name, caption, Charts.Scatter(title, "t-SNE 1", "t-SNE 2", groups));
    }

    private static void TraceFigure(RunContext context, string name, string caption, IReadOnlyList<string> arms, Func<string, Tensor> trace)
        => context.Figure(name, caption, Charts.Lines("Activation while it is maximised", "step", "value of the unit", [.. arms.Select(arm =>
        {
            Tensor values = trace(arm).to(float64);
            return new Curve(arm, [.. Enumerable.Range(1, (int)values.shape[0]).Select(i => (double)i)], [.. Enumerable.Range(0, (int)values.shape[1]).Select(k => (IReadOnlyList<double>)values.select(1, k).contiguous().data<double>().ToArray())]);
        })]));

    // ---- the user's own images

    private static void RunOnOwn(MultifacetedVisualizationOptions options, RunContext context, UserData data)
    {
        using var scope = NewDisposeScope();
        int seed = context.Seeds[0];
        if (!data.Parts.ContainsKey("model")) options = options with { Mean = [], Deviation = [] }; // The classifier is trained on pixels.
        FacetNetwork Description(Architecture layers) => new(layers.ToJson(), options.CodeLayer ?? FacetFiles.LastCodes(layers), options.Mean, options.Deviation);
        Network network;
        Examples examples;
        IReadOnlyList<string>? classes;
        if (data.Parts.TryGetValue("model", out string? checkpoint))
        {
            string? described = data.Parts.GetValueOrDefault("arch");
            network = UserModel.Load(checkpoint, context.Budget == Budget.Paper && described is null ? FacetFiles.AlexNet() : UserModel.Describe(checkpoint, described));
            (examples, classes) = FacetFiles.ReadFor(network.Architecture, data.Path);
            context.Arm("network", seed, run => run.SaveModel("network", network.State(), Description(network.Architecture)));
        }
        else
        {
            (examples, classes) = FacetFiles.Read(data.Path, options.ImageSize);
            network = TrainOwn(options, context, data, examples, seed, Description);
        }
        network.to(context.Device).eval();
        using var owned = network;
        context.UsedData($"{data.Path}: {examples.Count} images [{string.Join(", ", examples.Inputs.shape[1..])}]{(examples.Labels is null ? "" : " with labels")}");
        Tensor images = examples.Inputs;
        double low = images.min().ToDouble(), high = images.max().ToDouble();
        (double Low, double High) range = low >= 0 && high <= 1 ? (0, 1) : (low, high);
        FacetNetwork description = Description(network.Architecture);
        var normalization = new ImageNormalization(options.Mean, options.Deviation);
        string output = network.Architecture.Layers[^1].Name;
        long outputs = network.Architecture.Layers[^1].Width;
        UnitSelector[] units = [.. options.Unit.Count > 0
            ? options.Unit.Select(text => Refusing($"Option 'unit'", () => UnitSelector.Parse(text)))
            : Enumerable.Range(0, (int)Math.Min(10, outputs)).Select(u => new UnitSelector(output, u))];
        if (units.Length == 0) throw new BadInputException("The network's output has no units of its own; name some with --set unit=LAYER:INDEX.");

        var embedding = new List<object[]>();
        var activations = new List<object[]>();
        var table = new List<IReadOnlyList<string>>();
        for (int u = 0; u < units.Length; u++)
        {
            UnitSelector unit = units[u];
            string key = Name(unit);
            var maximizer = new ActivationMaximizer(network, unit, normalization) { PixelRange = range };
            ArmResult result = context.Arm($"unit {key}", seed, run =>
            {
                (Tensor rows, Tensor values) = Refusing(data.Path, () => ImagesOf(options, maximizer, unit, examples, unit.Layer is null || unit.Layer == output));
                Tensor used = images.index_select(0, rows);
                Facets facets = Refusing(data.Path, () => FacetDiscovery.Fit(used, MultifacetedVisualizer.Codes(network, used, description.CodeLayer, normalization), Discovery(options, seed), run.Cancellation));
                SaveFacets(run, $"facets-{u}", unit, facets);
                run.Tensor("rows", rows);
                run.Tensor("values", values);
                run.Tensor("embedding", facets.Embedding);
                run.Tensor("labels", facets.Labels);
                run.Tensor("means", facets.MeanImages);
                for (int f = 0; f < facets.Count; f++) run.Tensor($"exemplars {f}", rows.index_select(0, tensor(facets.Exemplars[f])));
                int size = (int)Math.Min(images.shape[2], images.shape[3]);
                OctaveSchedule schedule = OctaveSchedule.MeanInit(size).Lengthened(options.OctaveIterations), centred = OctaveSchedule.CenterBiased(size).Lengthened(options.OctaveIterations);
                Tensor grey = OctaveSchedule.GreyNoise(facets.Count, images.shape[1], images.shape[2], images.shape[3], seed) * (range.High - range.Low) + range.Low;
                void Made(string name, Tensor start, OctaveSchedule how)
                {
                    AmResult made = Refusing($"Unit {unit}", () => maximizer.Run(start, how, seed, run.Cancellation));
                    Keep(run, name, made);
                    foreach (AmStop stop in made.Stops.DistinctBy(s => (s.Octave, s.Image)).Take(3)) context.Note($"{name}: {stop.Reason}");
                }
                Made(Multifaceted, facets.MeanImages, schedule);
                run.Metric("facets", facets.Count);
                if (!options.Baselines) return;
                Made(RandomStart, grey, schedule);
                Made(ClassMean, used.mean([0L], keepdim: true), schedule);
                Made(CenterBiased, grey, centred);
                Made("no denoising", facets.MeanImages, OctaveSchedule.Custom([.. schedule.Octaves.Select(o => o with { WeightStart = double.PositiveInfinity, WeightEnd = double.PositiveInfinity })]));
                Made("no jitter", facets.MeanImages, OctaveSchedule.Custom([.. schedule.Octaves.Select(o => o with { Scale = 1 })]));
            });
            long[] used = result.Tensor("rows").data<long>().ToArray(), labels = result.Tensor("labels").data<long>().ToArray();
            float[] value = result.Tensor("values").to(float32).data<float>().ToArray(), points = result.Tensor("embedding").to(float32).contiguous().data<float>().ToArray();
            for (int i = 0; i < used.Length; i++) embedding.Add([unit, used[i], labels[i], points[2 * i], points[2 * i + 1], value[i]]);
            int count = (int)result["facets"];
            Tensor made = result.Tensor($"images {Multifaceted}");
            Directory.CreateDirectory(context.OutputPath(key));
            for (int f = 0; f < count; f++) FacetFiles.WritePng(context.OutputPath(Path.Combine(key, $"facet_{f:00}.png")), made[f], range);
            FacetFiles.WritePng(context.OutputPath(Path.Combine(key, "exemplars.png")), FacetFiles.Montage(images, [.. Enumerable.Range(0, count).Select(f => result.Tensor($"exemplars {f}").data<long>().ToArray())]), range);
            string[] arms = [.. new[] { Multifaceted, RandomStart, ClassMean, CenterBiased, "no denoising", "no jitter" }.Take(options.Baselines ? 6 : 1)];
            foreach (string arm in arms)
            {
                Tensor trace = result.Tensor($"trace {arm}").to(float32);
                for (int i = 0; i < trace.shape[0]; i++)
                    for (int f = 0; f < trace.shape[1]; f++) activations.Add([unit, arm, f, i + 1, trace[i, f].item<float>()]);
            }
            GridFigure(context, $"unit-{key}", $"Unit {unit}: the mean images of its facets, what is made from them, and the baselines.", $"Unit {unit}{(classes is not null && unit.Layer == output && unit.Index < classes.Count ? $": {classes[(int)unit.Index]}" : "")}",
                [("mean images", result.Tensor("means")), .. arms.Select(a => (a, result.Tensor($"images {a}")))], range);
            EmbeddingFigure(context, $"embedding-{key}", $"t-SNE of the codes of the {used.Length} images of unit {unit}, coloured by facet.", $"Images of unit {unit}", result.Tensor("embedding"), result.Tensor("labels"), f => $"facet {f}");
            TraceFigure(context, $"traces-{key}", $"Value of unit {unit} over the steps, mean and range over the images.", arms, arm => result.Tensor($"trace {arm}"));
            table.Add([unit.ToString(), used.Length.ToString(CultureInfo.InvariantCulture), string.Join(" ", Enumerable.Range(0, count).Select(f => labels.Count(l => l == f))),
                .. new[] { result.Tensor($"trace {Multifaceted}") }.Select(t => string.Create(CultureInfo.InvariantCulture, $"{t[0].mean().ToDouble():0.##} to {t[-1].mean().ToDouble():0.##}"))]);
        }
        FacetFiles.WriteCsv(context.OutputPath("embedding.csv"), "unit,row,facet,x,y,activation", embedding);
        FacetFiles.WriteCsv(context.OutputPath("activations.csv"), "unit,arm,image,step,value", activations);
        context.Table("facets", "The units: their images, the sizes of their facets, and the mean value of the unit at the first and the last step.", ["unit", "images", "facet sizes", "activation"], table);
    }

    private static string Name(UnitSelector unit) => unit.ToString().Replace(':', '-').Replace('@', '-');

    /// <summary>Rows of a unit's images, and its value for each: a class unit takes the images of its class, other units the most activating ones.</summary>
    private static (Tensor Rows, Tensor Values) ImagesOf(MultifacetedVisualizationOptions options, ActivationMaximizer maximizer, UnitSelector unit, Examples examples, bool isClass)
    {
        Tensor values = maximizer.Evaluate(examples.Inputs);
        if (isClass && examples.Labels is { } labels && labels.eq(unit.Index).nonzero().flatten() is var own && own.shape[0] >= options.Facets)
        {
            own = own.narrow(0, 0, Math.Min(options.ImagesPerUnit, own.shape[0]));
            return (own, values.index_select(0, own));
        }
        (Tensor top, Tensor rows) = values.topk((int)Math.Min(options.ImagesPerUnit, examples.Count), 0);
        return (rows, top);
    }

    private static Network TrainOwn(MultifacetedVisualizationOptions options, RunContext context, UserData data, Examples examples, int seed, Func<Architecture, FacetNetwork> describe)
    {
        if (examples.Labels is not { } labels) throw new BadInputException($"{data.Path} has no labels to train a classifier on; give labels, folders named by class, or a network with --data.model.");
        if (labels.min().ToInt64() < 0) throw new BadInputException($"{data.Path} has the label {labels.min().ToInt64()}; labels start at 0.");
        Architecture architecture = FacetFiles.Classifier(examples.Inputs.shape[1..], options.Widths, labels.max().ToInt64() + 1);
        string path = context.OutputPath("network.safetensors");
        ArmResult trained = context.Arm("network", seed, run =>
        {
            // A tenth is held out for the accuracy.
            long used = Math.Min(examples.Count, options.TrainImages), held = Math.Max(1, used / 10);
            Tensor order = randperm(examples.Count, int64, generator: new Generator((ulong)seed)), train = order.narrow(0, held, used - held), test = order.narrow(0, 0, held);
            using Network network = Train(run, options, architecture, examples.Inputs.index_select(0, train), labels.index_select(0, train), seed);
            run.Metric("accuracy", Classification.Accuracy(Inference.Outputs(network, examples.Inputs.index_select(0, test)), labels.index_select(0, test)));
            run.SaveModel("network", network.State(), describe(architecture));
            Safetensors.Write(path, network.State().ToDictionary(p => p.Key, p => p.Value.cpu()));
        });
        context.Table("network", "The classifier that was trained on the labels: accuracy on a tenth of the images, which was held out.", ["accuracy"], [[trained["accuracy"].ToString("0.000", CultureInfo.InvariantCulture)]]);
        return new Network(architecture).Load(Safetensors.Read(path));
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        using var scope = NewDisposeScope();
        var description = run.Description<FacetNetwork>("network");
        Architecture architecture = Architecture.FromJson(description.Architecture);
        using Network network = new Network(architecture).Load(run.Model("network"));
        network.to(context.Device).eval();
        Tensor images = FacetFiles.ReadFor(architecture, context.DataPath).Examples.Inputs;
        var normalization = new ImageNormalization(description.Mean, description.Deviation);
        Tensor codes = MultifacetedVisualizer.Codes(network, images, description.CodeLayer, normalization);
        var rows = new List<object[]>();
        string[] units = [.. run.Models.Where(m => m.StartsWith("facets-", StringComparison.Ordinal))];
        foreach (string name in units)
        {
            context.Cancellation.ThrowIfCancellationRequested();
            var saved = run.Description<UnitFacets>(name);
            Dictionary<string, Tensor> model = run.Model(name);
            long[] facets = Facets.Assign(Pca.Of(model["mean"], model["components"], model["variance"], saved.TotalVariance), model["codes"], model["labels"], codes).data<long>().ToArray();
            float[] values = new ActivationMaximizer(network, UnitSelector.Parse(saved.Unit), normalization).Evaluate(images).data<float>().ToArray();
            rows.AddRange(facets.Select((f, i) => new object[] { i, saved.Unit, f, values[i] }));
        }
        string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "facets.csv");
        FacetFiles.WriteCsv(path, "row,unit,facet,activation", rows);
        context.Report($"{images.shape[0]} images in the facets of {units.Length} units: {path}");
    }
}
