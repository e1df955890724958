using System.Globalization;
using System.Text;
using Priori.Continual;
using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Continual;

/// <summary>Options of <see cref="StationaryRepresentationsRecipe"/>.</summary>
public sealed record StationaryRepresentationsRecipeOptions : RecipeOptions
{
    /// <summary>Preallocated classes.</summary>
    [Option("K: classes of the fixed head, at least all that pre-training and tasks will ever use; 1024 in the paper.", Min = 2)]
    public int Classes { get; init; } = 64;

    /// <summary>Weight of the cross-entropy.</summary>
    [Option("lambda: weight of the cross-entropy; the rest is the compatibility loss.", Min = 0, Max = 1)]
    public double Lambda { get; init; } = .1;

    /// <summary>Inverse temperature.</summary>
    [Option("mu: inverse temperature of the compatibility loss.", Min = 1e-6)]
    public double Mu { get; init; } = 10;

    /// <summary>Pairs of one class.</summary>
    [Option("Pairs of one class among the negatives of the compatibility loss: zero-masked as published, or excluded.")]
    public HocNegatives Negatives { get; init; } = HocNegatives.ZeroMasked;

    /// <summary>Hidden widths.</summary>
    [Option("Hidden widths of the encoder.", Min = 1)]
    public IReadOnlyList<int> Hidden { get; init; } = [256, 128];

    /// <summary>Number of tasks.</summary>
    [Option("Tasks into which the classes are divided.", Min = 1)]
    public int Tasks { get; init; } = 5;

    /// <summary>Training images.</summary>
    [Option("Training images of a class.", Min = 2)]
    public int ImagesPerClass { get; init; } = 300;

    /// <summary>Memory.</summary>
    [Option("Images of a class that the memory keeps; 20 in the paper.", Min = 0)]
    public int Rehearsal { get; init; } = 20;

    /// <summary>Epochs.</summary>
    [Option("Epochs of a task; 70 in the paper.", Min = 1)]
    public int Epochs { get; init; } = 10;

    /// <summary>Batch size.</summary>
    [Option("Images in a batch; half of them are memory.", Min = 4)]
    public int BatchSize { get; init; } = 64;

    /// <summary>Learning rate.</summary>
    [Option("Learning rate of a task, decayed to a hundredth by a cosine.", Min = 1e-9)]
    public double LearningRate { get; init; } = .02;

    /// <summary>Replacement.</summary>
    [Option("Default data: tasks (from 0) before which the better pre-trained model replaces the last one; own data: those before which the checkpoints of --data.replacements do, one each.", Min = 1)]
    public IReadOnlyList<int> ReplaceAt { get; init; } = [3];

    /// <summary>Pre-training images.</summary>
    [Option("Default data: pre-training images of a turned domain.", Min = 10)]
    public int PreTrainingImages { get; init; } = 3000;

    /// <summary>Pre-training steps.</summary>
    [Option("Default data: pre-training steps of the first model and of the one that replaces it.", Min = 1)]
    public IReadOnlyList<int> PreTrainingSteps { get; init; } = [500, 900];

    /// <summary>Test images.</summary>
    [Option("Test images; the first half is the gallery, the rest are queries.", Min = 20)]
    public int TestImages { get; init; } = 10_000;

    /// <summary>Settings that are compared.</summary>
    [Option("Default data: further values of lambda that are compared; may be empty.", Min = 0, Max = 1)]
    public IReadOnlyList<double> Lambdas { get; init; } = [.3, .5, .9];

    /// <summary>Heads that are compared.</summary>
    [Option("Default data: further numbers of classes K that are compared; may be empty.", Min = 61)]
    public IReadOnlyList<int> HeadSizes { get; init; } = [128, 512];

    /// <summary>Gallery share.</summary>
    [Option("Own embeddings: share of the rows that become the gallery; the others are queries.", Min = .01, Max = .99)]
    public double Gallery { get; init; } = .5;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (PreTrainingSteps.Count != 2) throw new BadInputException("Option 'pre-training-steps' takes two numbers, of the first model and of the one that replaces it.");
        if (Hidden.Count == 0) throw new BadInputException("Option 'hidden' needs at least one width.");
        if (!ReplaceAt.SequenceEqual(ReplaceAt.Distinct().Order())) throw new BadInputException("Option 'replace-at' must ascend.");
    }
}

/// <summary>What an encoder of <see cref="StationaryRepresentationsRecipe"/> is, so that it can be rebuilt, and replaced by one of the same head.</summary>
/// <param name="Architecture">The layers (JSON).</param>
/// <param name="Classes">K of the fixed head; 0 for a learned head.</param>
/// <param name="Mean">Mean of each channel that was subtracted; empty for none.</param>
/// <param name="Deviation">Deviation of each channel.</param>
public sealed record StationaryEncoder(string Architecture, int Classes, IReadOnlyList<double> Mean, IReadOnlyList<double> Deviation);

/// <summary>Encoders that are fine-tuned and replaced without extracting the gallery again: d-Simplex-HOC against a fixed head alone and a learned head; and a report for any models' embeddings.</summary>
public sealed class StationaryRepresentationsRecipe : Recipe<StationaryRepresentationsRecipeOptions>
{
    private const string Er = "er", DSimplex = "d-simplex", Hoc = "hoc", Models = "models";
    private const int Digit = 10;

    // What pre-training sees: digits turned by 90, 180 and 270 degrees, mirrored, and mirrored and turned; none upright.
    private static readonly int[] s_domains = [1, 2, 3, 4, 5];

    /// <inheritdoc/>
    public override string Id => "stationary-representations";

    /// <inheritdoc/>
    public override string Area => "Continual";

    /// <inheritdoc/>
    public override string Title => "Stationary representations";

    /// <inheritdoc/>
    public override string Summary => "Fine-tunes and replaces an embedding model so that new queries still search the old gallery, and tells for any two models whether the gallery must be indexed again.";

    /// <inheritdoc/>
    public override Paper Paper => new("Stationary Representations: Optimally Approximating Compatibility and Implications for Improved Model Replacements", "Biondi, Pernici, Ricci, Del Bimbo", "CVPR", 2024, "https://arxiv.org/abs/2405.02581");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("compatibility", "With a model replaced, the average compatibility AC of HOC exceeds that of ER by at least 0.1 on every seed (the smallest difference)."),
        new("compatibility-mean", "With a model replaced, AC of HOC exceeds that of ER by at least 0.2 in the mean."),
        new("accuracy", "With a model replaced, the average accuracy AM of HOC exceeds that of ER by at least 0.08 on every seed (the smallest difference)."),
        new("compatibility-alone", "Without a replacement AC of HOC is at least 0.9 in the mean."),
        new("accuracy-alone", "Without a replacement AM of HOC exceeds that of ER by at least 0.08 on every seed (the smallest difference)."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        [Models] = "Embeddings of the same labelled rows by several models, oldest first: .npz, .safetensors, CSV or Parquet files in a folder or a list with commas; reported, not trained.",
    };

    /// <inheritdoc/>
    public override StationaryRepresentationsRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Tasks = 3, Epochs = 2, ImagesPerClass = 60, ReplaceAt = [2], PreTrainingImages = 300, PreTrainingSteps = [30, 40], TestImages = 400, Lambdas = [.5], HeadSizes = [] },
        Budget.Paper => new() { Classes = 1024, Tasks = 7, Epochs = 70, BatchSize = 128, LearningRate = 1e-3, ReplaceAt = [2, 4], Hidden = [512], Lambdas = [], HeadSizes = [] },
        _ => new(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Full ? [0, 1, 2, 3, 4] : base.Seeds(budget);

    /// <inheritdoc/>
    public override void Run(StationaryRepresentationsRecipeOptions options, RunContext context)
    {
        if (context.Data is { } data)
        {
            if (data.Parts.TryGetValue(Models, out string? models)) Report(options, context, models, data.Target);
            else throw new BadInputException("Name the embeddings of the models with --data.models.");
            return;
        }
        if (options.ReplaceAt.Any(t => t >= options.Tasks)) throw new BadInputException($"Option 'replace-at' names a task outside 0..{options.Tasks - 1}.");
        RunDigits(options, context);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        StationaryEncoder description = run.Description<StationaryEncoder>("encoder");
        Architecture architecture = Architecture.FromJson(description.Architecture);
        Examples examples = Examples.Read(context.DataPath, architecture.Input, description.Mean, description.Deviation);
        using Network encoder = new Network(architecture).Load(run.Model("encoder"));
        encoder.to(context.Device);
        Tensor features = functional.normalize(Inference.Outputs(encoder, examples.Inputs), dim: 1);
        if (Path.GetExtension(context.OutPath).Equals(".csv", StringComparison.OrdinalIgnoreCase)) WriteCsv(context.OutPath, features);
        else if (Path.HasExtension(context.OutPath)) throw new BadInputException($"Embeddings are written as .csv or into a folder (embeddings.npz), not as {context.OutPath}.");
        else
        {
            Directory.CreateDirectory(context.OutPath);
            Npz.Write(Path.Combine(context.OutPath, "embeddings.npz"), examples.Labels is { } labels ? new Dictionary<string, Tensor> { ["features"] = features, ["labels"] = labels } : new Dictionary<string, Tensor> { ["features"] = features });
        }
        context.Report($"Embedded {features.size(0)} images in {features.size(1)} dimensions, normalised: {context.OutPath}");
    }

    private static void WriteCsv(string path, Tensor features)
    {
        float[] values = features.data<float>().ToArray();
        int width = (int)features.size(1);
        var text = new StringBuilder("row").AppendJoin("", Enumerable.Range(0, width).Select(d => $",x_{d}")).Append('\n');
        for (int row = 0; row < features.size(0); row++)
        {
            text.Append(row);
            for (int d = 0; d < width; d++) text.Append(CultureInfo.InvariantCulture, $",{values[row * width + d]:G7}");
            text.Append('\n');
        }
        AtomicFile.WriteText(path, text.ToString());
    }

    // ---- the reproduction ----

    private static void RunDigits(StationaryRepresentationsRecipeOptions options, RunContext context)
    {
        Digits digits = Digits.Load(context, Math.Max(options.PreTrainingImages, options.ImagesPerClass * Digit * 3 / 2), options.TestImages);
        (Tensor testX, Tensor testY) = digits.TestPart(0, options.TestImages);
        long half = options.TestImages / 2;
        (Tensor galleryX, Tensor galleryY, Tensor queryX, Tensor queryY) = (testX.narrow(0, 0, half), testY.narrow(0, 0, half), testX.narrow(0, half, options.TestImages - half), testY.narrow(0, half, options.TestImages - half));
        var results = new Dictionary<string, List<ArmResult>>();
        foreach (int seed in context.Seeds)
        {
            var preTrained = new HashSet<(int Head, int Classes, int Model)>();
            void Arm(string name, string method, StationaryRepresentationsRecipeOptions settings, bool replaced)
            {
                int head = method == Er ? 0 : settings.Classes;
                foreach (int model in replaced ? new[] { 0, 1 } : [0])
                    if (preTrained.Add((head, settings.Classes, model))) PreTrain(settings, context, digits, seed, head, model);
                ArmResult result = context.Arm(name, seed, run =>
                {
                    Dictionary<string, Tensor> Given(int model) => Safetensors.Read(PreTrained(context, seed, head, settings.Classes, model));
                    Architecture architecture = Encoder(settings);
                    IReadOnlyList<Dictionary<string, Tensor>> checkpoints = Train(settings, run, architecture, DigitTasks(settings, digits, seed), method, s_domains.Length * Digit,
                        task => task == 0 ? Given(0) : replaced && settings.ReplaceAt.Contains(task) ? Given(1) : null);
                    Measure(run, [.. checkpoints.Select(state => FeaturesOf(architecture, state, galleryX, queryX))], galleryY, queryY);
                    if (name == Hoc && seed == context.Seeds[0]) run.SaveModel("encoder", checkpoints[^1], new StationaryEncoder(architecture.ToJson(), settings.Classes, [], []));
                });
                if (!results.TryGetValue(name, out List<ArmResult>? list)) results[name] = list = [];
                list.Add(result);
            }
            foreach (string method in new[] { Er, DSimplex, Hoc })
            {
                Arm(method, method, options, replaced: true);
                Arm($"{method}, no replacement", method, options, replaced: false);
            }
            Arm("hoc, no memory", Hoc, options with { Rehearsal = 0 }, replaced: true);
            Arm("hoc, excluded negatives", Hoc, options with { Negatives = HocNegatives.Excluded }, replaced: true);
            foreach (double lambda in options.Lambdas) Arm(FormattableString.Invariant($"hoc, lambda {lambda}"), Hoc, options with { Lambda = lambda }, replaced: true);
            foreach (int classes in options.HeadSizes) Arm($"hoc, K {classes}", Hoc, options with { Classes = classes }, replaced: true);
        }
        Judge(context, results);
        Show(options, context, results);
    }

    private static Architecture Encoder(StationaryRepresentationsRecipeOptions options)
    {
        Architecture mlp = Architectures.Mlp([1, 28, 28], [.. options.Hidden.Select(h => (long)h)], options.Classes - 1);
        return mlp with { Layers = [.. mlp.Layers.SkipLast(1), mlp.Layers[^1] with { Bias = false }] };
    }

    private static string PreTrained(RunContext context, int seed, int classes, int headWidth, int model) => context.OutputPath($"pre-trained-{(classes == 0 ? "learned" : "simplex")}-{headWidth}-{model}-{seed}.safetensors");

    // Another party's model: turned digits, each domain with ten classes of its own, in the head's classes from 0 upward.
    private static void PreTrain(StationaryRepresentationsRecipeOptions options, RunContext context, Digits digits, int seed, int classes, int model)
    {
        context.Arm($"pre-training {(classes == 0 ? "learned" : "simplex")} {options.Classes} {model}", seed, run =>
        {
            int domains = model == 0 ? 2 : s_domains.Length, steps = options.PreTrainingSteps[model], batch = 128;
            (Tensor x, Tensor y) = digits.TrainPart(0, options.PreTrainingImages);
            Tensor inputs = cat([.. s_domains.Take(domains).Select(d => TaskSplits.Dihedral(x, d))]), labels = cat([.. Enumerable.Range(0, domains).Select(d => y + Digit * d)]);
            if (classes > 0 && domains * Digit > classes - Digit) throw new BadInputException($"Pre-training has {domains * Digit} classes and the tasks {Digit}; option 'classes' is {classes}.");
            Runtime.Seeds.Set(Runtime.Seeds.Derive(seed, model, 51));
            var encoder = new Network(Encoder(options));
            Module<Tensor, Tensor> head = classes == 0 ? nn.Linear(options.Classes - 1, domains * Digit, hasBias: false) : new FixedSimplexHead(classes);
            encoder.to(run.Device);
            head.to(run.Device);
            using var learner = new CompatibleLearner(encoder, head, null, new CompatibilityOptions { LearningRate = .1, MinimumLearningRate = 0 });
            int perEpoch = (int)Math.Max(1, inputs.size(0) / batch), epochs = Math.Max(1, (int)Math.Round(steps / (double)perEpoch));
            run.Trainer(new TrainerOptions { Epochs = epochs, BatchSize = batch, DropLast = inputs.size(0) >= batch }).Fit(learner, new TensorSource(inputs, labels), cancellation: run.Cancellation);
            Safetensors.Write(PreTrained(context, seed, classes, options.Classes, model), encoder.State().ToDictionary(p => p.Key, p => p.Value.cpu()));
        });
    }

    private static Examples[] DigitTasks(StationaryRepresentationsRecipeOptions options, Digits digits, int seed)
    {
        (Tensor images, Tensor labels) = digits.TrainPart(0, options.ImagesPerClass * Digit * 3 / 2);
        return [.. TaskSplits.ClassIncremental(labels, (Digit + options.Tasks - 1) / options.Tasks, seed).Select(classes =>
        {
            Tensor rows = cat([.. classes.Select(c => TaskSplits.Rows(labels, [c])).Select(r => r.narrow(0, 0, Math.Min(options.ImagesPerClass, r.size(0))))]);
            return new Examples(images.index_select(0, rows), labels.index_select(0, rows));
        })];
    }

    private static ModelFeatures FeaturesOf(Architecture architecture, IReadOnlyDictionary<string, Tensor> state, Tensor gallery, Tensor queries)
    {
        using Network encoder = new Network(architecture).Load(state);
        return new ModelFeatures(Inference.Outputs(encoder, gallery), Inference.Outputs(encoder, queries));
    }

    // The sequence of tasks; the encoder after each. Before a task a given checkpoint takes the place of the last one, which is then also the old model.
    private static List<Dictionary<string, Tensor>> Train(
        StationaryRepresentationsRecipeOptions options, ArmRun run, Architecture architecture, Examples[] tasks, string method, int preTrainedClasses, Func<int, Dictionary<string, Tensor>?> given)
    {
        var memory = new EpisodicMemory(options.Rehearsal);
        var checkpoints = new List<Dictionary<string, Tensor>>();
        var met = new List<long>();
        IReadOnlyList<long> blocks = [];
        Dictionary<string, Tensor> headState = [];
        for (int task = 0; task < tasks.Length; task++)
        {
            (Tensor x, Tensor y) = (tasks[task].Inputs, tasks[task].Labels!);
            long[] added = [.. TaskSplits.Classes(y).Except(met)];
            met.AddRange(added);
            long kept = memory.Count;
            if (kept > 0)
            {
                (Tensor memoryX, Tensor memoryY) = memory.Samples();
                (x, y) = (cat([x, memoryX]), cat([y, memoryY]));
            }
            Dictionary<string, Tensor>? brought = given(task), start = brought ?? checkpoints.LastOrDefault();
            Runtime.Seeds.Set(Runtime.Seeds.Derive(run.Seed, task, 52));
            var encoder = new Network(architecture);
            using Network? old = method == Hoc && start is not null ? new Network(architecture).Load(start) : null;
            if (start is not null) encoder.Load(start);
            Module<Tensor, Tensor> head;
            Tensor slots;
            if (method == Er)
            {
                // Classes in the order in which they were met; a model that replaces another brings no classifier for them.
                var grown = new ExpandingHead(architecture.Layers[^1].Width, bias: false);
                if (blocks.Count > 0 && brought is null)
                {
                    foreach (long block in blocks) grown.Expand(block);
                    grown.load_state_dict(headState);
                    if (added.Length > 0) grown.Expand(added.Length);
                }
                else grown.Expand(met.Count);
                head = grown;
                slots = tensor(met.ToArray()).unsqueeze(0).eq(y.unsqueeze(1)).to(int64).argmax(1);
            }
            else
            {
                head = new FixedSimplexHead(options.Classes);
                slots = CompatibleLearner.ClientLabel(y, options.Classes, preTrainedClasses);
            }
            encoder.to(run.Device);
            old?.to(run.Device);
            head.to(run.Device);
            using var learner = new CompatibleLearner(encoder, head, old, new CompatibilityOptions
            {
                Lambda = options.Lambda,
                Mu = options.Mu,
                Negatives = options.Negatives,
                LearningRate = options.LearningRate,
                MinimumLearningRate = options.LearningRate / 100,
            });
            int batch = (int)Math.Min(options.BatchSize, x.size(0));
            TrainingHistory history = run.Trainer(new TrainerOptions { Epochs = options.Epochs, BatchSize = batch, Sampler = task == 0 ? new ShuffledSampler() : new MemoryBalancedSampler(kept, batch), DropLast = true })
                .Fit(learner, new TensorSource(x, slots), cancellation: run.Cancellation);
            run.Series($"cross-entropy {task}", [.. history.Series["cross_entropy"].Select((_, e) => e + 1.0)], history.Series["cross_entropy"]);
            checkpoints.Add(encoder.State().ToDictionary(p => p.Key, p => p.Value.cpu()));
            if (head is ExpandingHead fitted) (blocks, headState) = (fitted.Blocks, fitted.state_dict().ToDictionary(p => p.Key, p => p.Value.cpu().clone()));
            memory.Add(tasks[task].Inputs, tasks[task].Labels!, Runtime.Seeds.Derive(run.Seed, task, 53));
        }
        return checkpoints;
    }

    private static void Measure(ArmRun run, IReadOnlyList<ModelFeatures> features, Tensor galleryLabels, Tensor queryLabels)
    {
        var report = CompatibilityReport.FromFeatures(features, galleryLabels, queryLabels);
        run.Metric("AC", report.AverageCompatibility);
        run.Metric("AM", report.AverageAccuracy);
        run.Metric("last model", report.Matrix[^1][^1]);
        run.Metric("last model, first gallery", report.Matrix[^1][0]);
        int sample = (int)Math.Min(2000, galleryLabels.size(0));
        Tensor old = features[0].Gallery.narrow(0, 0, sample), updated = features[^1].Gallery.narrow(0, 0, sample), labels = galleryLabels.narrow(0, 0, sample);
        var violations = CompatibilityViolations.Of(updated, old, labels);
        run.Metric("violations, same class", violations.SameClass);
        run.Metric("violations, different class", violations.DifferentClass);
        int n = features.Count;
        Tensor matrix = full(n, n, double.NaN, dtype: float64);
        for (int i = 0; i < n; i++)
            for (int j = 0; j <= i; j++) matrix[i, j] = report.Matrix[i][j];
        run.Tensor("matrix", matrix);
        // Distances of pairs, for the histogram: old to old and new to old.
        Tensor u = functional.normalize(updated.narrow(0, 0, Math.Min(200, sample)), dim: 1), v = functional.normalize(old.narrow(0, 0, Math.Min(200, sample)), dim: 1), few = labels.narrow(0, 0, u.size(0));
        Tensor same = few.unsqueeze(1).eq(few.unsqueeze(0)).logical_and(eye(u.size(0), dtype: ScalarType.Bool).logical_not());
        foreach ((string name, Tensor other) in new[] { ("old to old", v), ("new to old", u) })
            run.Tensor(name, (2 - 2 * other.matmul(v.t())).clamp_min(0).sqrt().masked_select(same).to(float32));
    }

    private static void Judge(RunContext context, Dictionary<string, List<ArmResult>> results)
    {
        double[] Gain(string suffix, string metric) => [.. results[Hoc + suffix].Zip(results[Er + suffix], (a, b) => a[metric] - b[metric])];
        void Smallest(string claim, double[] gains, double margin) => context.Check(claim, gains.Min(), Comparison.AtLeast, margin, gains);
        const string alone = ", no replacement";
        Smallest("compatibility", Gain("", "AC"), .1);
        context.Compare("compatibility-mean", "hoc - er, AC", results[Hoc], results[Er], "AC", .2);
        Smallest("accuracy", Gain("", "AM"), .08);
        double[] without = [.. results[Hoc + alone].Select(r => r["AC"])];
        context.Check("compatibility-alone", without.Average(), Comparison.AtLeast, .9, without);
        Smallest("accuracy-alone", Gain(alone, "AM"), .08);
        context.Compare(null, "hoc - er, AM", results[Hoc], results[Er], "AM");
        context.Compare(null, "hoc - d-simplex, AC", results[Hoc], results[DSimplex], "AC");
        context.Compare(null, "hoc - d-simplex, AM", results[Hoc], results[DSimplex], "AM");
        context.Compare(null, "hoc - er, AM, no replacement", results[Hoc + alone], results[Er + alone], "AM");
    }

    private static void Show(StationaryRepresentationsRecipeOptions options, RunContext context, Dictionary<string, List<ArmResult>> results)
    {
        string[] metrics = ["AC", "AM", "last model", "last model, first gallery", "violations, same class", "violations, different class"];
        context.Table("arms", "Average compatibility, average accuracy of the matrix, and the last model on its own and on the first model's gallery (means over seeds).", ["arm", .. metrics],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. metrics.Select(m => Numbers.Text(r.Value.Average(a => a[m]), "F3"))])]);
        foreach (string arm in new[] { Er, DSimplex, Hoc }) Heatmap(context, $"matrix-{arm}", $"Accuracy of queries of each model in the gallery of each earlier one: {arm} (mean over seeds).", $"Compatibility matrix, {arm}", results[arm]);
        ArmResult shown = results[Hoc][0];
        float[] Distances(string name) => shown.Tensor(name).data<float>().ToArray();
        context.Figure("distances", "Distances of pairs of one class within the first model, and from the last model to the first (HOC, first seed).",
            Charts.Histogram("Distances of pairs of one class", "distance of normalised features", [("old to old", [.. Distances("old to old").Select(d => (double)d)]), ("new to old", [.. Distances("new to old").Select(d => (double)d)])]));
        double[] lambdas = [options.Lambda, .. options.Lambdas, 1];
        string[] arms = [Hoc, .. options.Lambdas.Select(l => FormattableString.Invariant($"hoc, lambda {l}")), DSimplex];
        int[] byLambda = [.. Enumerable.Range(0, lambdas.Length).OrderBy(i => lambdas[i])];
        Curve Line(string metric) => new(metric, [.. byLambda.Select(i => lambdas[i])], [.. context.Seeds.Select((_, s) => (IReadOnlyList<double>)[.. byLambda.Select(i => results[arms[i]][s][metric])])]);
        context.Figure("lambda", "Compatibility and accuracy against the weight of the cross-entropy; 1 is the fixed head alone.", Charts.Lines("Weight of the cross-entropy", "lambda", "AC, AM", [Line("AC"), Line("AM")]));
    }

    private static void Heatmap(RunContext context, string name, string caption, string title, IReadOnlyList<ArmResult> arm)
    {
        Tensor mean = stack([.. arm.Select(r => r.Tensor("matrix"))]).mean([0]);
        int n = (int)mean.size(0);
        double[] flat = mean.data<double>().ToArray();
        var values = new double[n, n];
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) values[i, j] = flat[i * n + j];
        string[] ticks = [.. Enumerable.Range(1, n).Select(i => $"model {i}")];
        context.Figure(name, caption, Charts.Heatmap(title, values, "gallery of", "queries of", ticks, ticks));
    }

    // ---- embeddings of the user's own models ----

    private static void Report(StationaryRepresentationsRecipeOptions options, RunContext context, string models, string? target)
    {
        string[] paths = Directory.Exists(models) ? [.. Directory.EnumerateFiles(models).Order(StringComparer.Ordinal)] : [.. UserData.Paths(models)];
        if (paths.Length < 2) throw new BadInputException($"{models}: a comparison needs the embeddings of at least two models.");
        LabeledEmbeddings[] embeddings = [.. paths.Select(p => LabeledEmbeddings.Read(p, target))];
        for (int i = 1; i < paths.Length; i++) embeddings[0].RequireSameRows(paths[0], embeddings[i], paths[i]);
        string[] names = [.. paths.Select(p => Path.GetFileNameWithoutExtension(p))];
        context.UsedData($"{paths.Length} models' embeddings of {embeddings[0].Labels.size(0)} rows: {string.Join(", ", names)}");
        ArmResult result = context.Arm("models", context.Seeds[0], run =>
        {
            long[] rows = [.. Enumerable.Range(0, (int)embeddings[0].Labels.size(0)).Select(i => (long)i)];
            SplitMix64.For(run.Seed, 51).Shuffle<long>(rows);
            int count = Math.Clamp((int)Math.Round(options.Gallery * rows.Length), 1, rows.Length - 1);
            Tensor gallery = tensor(rows[..count]), queries = tensor(rows[count..]), labels = embeddings[0].Labels;
            Measure(run, [.. embeddings.Select(e => new ModelFeatures(e.Features.index_select(0, gallery), e.Features.index_select(0, queries)))], labels.index_select(0, gallery), labels.index_select(0, queries));
        });
        Tensor measured = result.Tensor("matrix");
        var report = new CompatibilityReport([.. Enumerable.Range(0, names.Length).Select(i => (IReadOnlyList<double>)[.. Enumerable.Range(0, i + 1).Select(j => measured[i, j].ToDouble())])]);
        context.Table("matrix", "Accuracy of queries of each model (rows) in the gallery of each earlier one (columns).", ["queries of", .. names],
            [.. report.Matrix.Select((row, i) => (IReadOnlyList<string>)[names[i], .. row.Select(a => Numbers.Text(a, "F4")), .. Enumerable.Repeat("", names.Length - row.Count)])]);
        context.Table("summary", "Average compatibility and accuracy, and how often pairs break the two inequalities of compatibility (last model against the first).", ["AC", "AM", "violations, same class", "violations, different class"],
            [[Numbers.Text(result["AC"], "F4"), Numbers.Text(result["AM"], "F4"), Numbers.Text(result["violations, same class"], "F4"), Numbers.Text(result["violations, different class"], "F4")]]);
        Heatmap(context, "matrix", "Accuracy of queries of each model in the gallery of each earlier one.", "Compatibility matrix", [result]);
        for (int j = 0; j < names.Length - 1; j++)
        {
            int last = names.Length - 1;
            string cross = Numbers.Text(report.Matrix[last][j], "F4"), self = Numbers.Text(report.Matrix[j][j], "F4"), own = Numbers.Text(report.Matrix[last][last], "F4");
            context.Note(report.IsCompatible(last, j)
                ? $"The gallery of {names[j]} can stay: queries of {names[last]} find {cross} in it, queries of {names[j]} {self}; indexed again with {names[last]} it would be {own}."
                : $"The gallery of {names[j]} must be indexed again: queries of {names[last]} find {cross} in it, no more than queries of {names[j]} do ({self}); indexed again with {names[last]} it would be {own}.");
        }
        var text = new StringBuilder("queries,gallery,accuracy,compatible\n");
        for (int i = 0; i < names.Length; i++)
            for (int j = 0; j <= i; j++) text.Append(CultureInfo.InvariantCulture, $"{names[i]},{names[j]},{report.Matrix[i][j]:0.######},{(i == j ? "" : report.IsCompatible(i, j) ? "yes" : "no")}\n");
        AtomicFile.WriteText(context.OutputPath("compatibility-matrix.csv"), text.ToString());
    }
}
