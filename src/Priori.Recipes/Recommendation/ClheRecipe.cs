using System.Globalization;
using Priori.Data;
using Priori.Metrics;
using Priori.Recommendation;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Recommendation;

/// <summary>Options of <see cref="ClheRecipe"/>.</summary>
public sealed record ClheRecipeOptions : RecipeOptions
{
    internal const string Clhe = "clhe", NoContrast = "no-contrast", ItemContrast = "item-contrast", BundleContrast = "bundle-contrast", RandomFeatures = "random-features", RandomPlain = "random-features-no-contrast", LightGcn = "light-gcn";

    /// <summary>Variants to train.</summary>
    [Option("Variants to train; by default all on generated data, clhe and no-contrast on own data.", Choices = [Clhe, NoContrast, ItemContrast, BundleContrast, "feature-dropout", "feature-noise", "no-augmentation", "item-replacement", "reference-quirks", "without-media", "without-feedback", LightGcn, RandomFeatures, RandomPlain])]
    public IReadOnlyList<string> Arms { get; init; } = [];

    /// <summary>Items of a generated world.</summary>
    [Option("Items of a generated world.", Min = 60)]
    public int Items { get; init; } = 1200;

    /// <summary>Training bundles of a generated world.</summary>
    [Option("Training bundles of a generated world.", Min = 2, Max = 870)]
    public int Bundles { get; init; } = 120;

    /// <summary>Training bundles of the figure.</summary>
    [Option("Further numbers of training bundles, for the figure; empty leaves it out.", Min = 2, Max = 870)]
    public IReadOnlyList<int> BundleCounts { get; init; } = [60, 500];

    /// <summary>Missing text of the figure.</summary>
    [Option("Further parts of items without text, for the figure; empty leaves it out.", Min = 0, Max = 1)]
    public IReadOnlyList<double> MissingParts { get; init; } = [0.2, 0.6];

    /// <summary>Width.</summary>
    [Option("Width of every vector.", Min = 1)]
    public int EmbeddingDim { get; init; } = 64;

    /// <summary>Views of items.</summary>
    [Option("Two views of an item.")]
    public ItemAugmentation ItemAugmentation { get; init; } = ItemAugmentation.ModalityDropout;

    /// <summary>Item-level weight.</summary>
    [Option("Weight of the item-level contrast.", Min = 0)]
    public double ItemAlpha { get; init; } = 0.5;

    /// <summary>Item-level temperature.</summary>
    [Option("Temperature of the item-level contrast.", Min = 1e-6)]
    public double ItemTemperature { get; init; } = 0.2;

    /// <summary>Bundle-level weight.</summary>
    [Option("Weight of the bundle-level contrast.", Min = 0)]
    public double BundleAlpha { get; init; } = 0.5;

    /// <summary>Bundle-level temperature.</summary>
    [Option("Temperature of the bundle-level contrast.", Min = 1e-6)]
    public double BundleTemperature { get; init; } = 0.2;

    /// <summary>Part of a bundle that its second view keeps.</summary>
    [Option("Part of a bundle that its second view keeps; above 1 items are added.", Min = 1e-6)]
    public double BundleRatio { get; init; } = 0.5;

    /// <summary>Second view of a bundle.</summary>
    [Option("What becomes of the items that a bundle's second view leaves out.")]
    public BundleAugmentation BundleAugmentation { get; init; } = BundleAugmentation.ItemDropout;

    /// <summary>Dropout of the item views.</summary>
    [Option("Probability that a token or an entry is dropped in a view of an item.", Min = 0, Max = 0.99)]
    public double DropoutRate { get; init; } = 0.2;

    /// <summary>Noise of the item views.</summary>
    [Option("Deviation of the noise of feature-noise views.", Min = 0)]
    public double NoiseWeight { get; init; } = 0.02;

    /// <summary>Layer normalisation of tokens.</summary>
    [Option("Whether the fusion of tokens layer-normalises them.")]
    public bool TokenLayerNorm { get; init; }

    /// <summary>Value projection of tokens.</summary>
    [Option("Whether the fusion of tokens has a value projection.")]
    public bool TokenValueProjection { get; init; }

    /// <summary>Layers of the bundle encoder.</summary>
    [Option("Attention layers of the bundle encoder.", Min = 0)]
    public int BundleLayers { get; init; } = 1;

    /// <summary>Most items read.</summary>
    [Option("Most items of a bundle that are read.", Min = 1)]
    public int MaxItems { get; init; } = 200;

    /// <summary>Width of the vectors from feedback.</summary>
    [Option("Width of the item vectors learned from feedback.", Min = 1)]
    public int FactorDim { get; init; } = 64;

    /// <summary>Epochs of LightGCN.</summary>
    [Option("Epochs of LightGCN, in the arm of that name (batches of 2048 pairs, learning rate 0.005).", Min = 1)]
    public int LightGcnEpochs { get; init; } = 20;

    /// <summary>Learning rate.</summary>
    [Option("Adam's learning rate.", Min = 1e-8)]
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Weight decay.</summary>
    [Option("Adam's weight decay.", Min = 0)]
    public double WeightDecay { get; init; } = 1e-5;

    /// <summary>Batch size.</summary>
    [Option("Bundles in a batch.", Min = 1)]
    public int BatchSize { get; init; } = 128;

    /// <summary>Epochs.</summary>
    [Option("Most epochs; the best on the validation bundles is kept.", Min = 1)]
    public int Epochs { get; init; } = 80;

    /// <summary>Patience.</summary>
    [Option("Epochs without a better validation figure before training stops.", Min = 1)]
    public int Patience { get; init; } = 20;

    /// <summary>Completions of apply.</summary>
    [Option("Items that priori apply suggests for each bundle.", Min = 1)]
    public int Suggestions { get; init; } = 20;

    internal ClheOptions Model(string variant) => new()
    {
        EmbeddingDim = EmbeddingDim,
        ItemAugmentation = variant switch { "feature-dropout" => ItemAugmentation.FeatureDropout, "feature-noise" => ItemAugmentation.FeatureNoise, "no-augmentation" => ItemAugmentation.None, _ => ItemAugmentation },
        ItemAlpha = variant is NoContrast or BundleContrast or RandomPlain ? 0 : ItemAlpha,
        ItemTemperature = ItemTemperature,
        BundleAlpha = variant is NoContrast or ItemContrast or RandomPlain ? 0 : BundleAlpha,
        BundleTemperature = BundleTemperature,
        BundleRatio = BundleRatio,
        BundleAugmentation = variant == "item-replacement" ? BundleAugmentation.ItemReplacement : BundleAugmentation,
        DropoutRate = DropoutRate,
        NoiseWeight = NoiseWeight,
        TokenLayerNorm = TokenLayerNorm,
        TokenValueProjection = TokenValueProjection,
        BundleLayers = BundleLayers,
        MaxItems = MaxItems,
        LearningRate = LearningRate,
        WeightDecay = WeightDecay,
        ReferenceCompatibility = variant == "reference-quirks",
    };
}

/// <summary>How a saved model of <see cref="ClheRecipe"/> is used.</summary>
/// <param name="Items">Name of each item.</param>
/// <param name="MaxItems">Most items of a bundle that are read.</param>
/// <param name="Validation">Recall + NDCG at 20 on the validation bundles.</param>
public sealed record ClheModel(IReadOnlyList<string> Items, int MaxItems, double Validation);

/// <summary>CLHE and its ablations on generated worlds and on the user's own bundles.</summary>
public sealed class ClheRecipe : Recipe<ClheRecipeOptions>
{
    private const int K = 20, VariantSeeds = 3, FewMissingBundles = 500, ExampleBundles = 8, ExampleItems = 10;
    private const double MissingContent = 0.4, MissingText = 0.4, FewMissingText = 0.2;
    private static readonly string[] s_all =
    [
        ClheRecipeOptions.Clhe, ClheRecipeOptions.NoContrast, ClheRecipeOptions.ItemContrast, ClheRecipeOptions.BundleContrast, "feature-dropout", "feature-noise", "no-augmentation", "item-replacement",
        "reference-quirks", "without-media", "without-feedback", ClheRecipeOptions.LightGcn, ClheRecipeOptions.RandomFeatures, ClheRecipeOptions.RandomPlain,
    ];

    /// <summary>What a world is like.</summary>
    private sealed record Setup(int Bundles, double MissingText, double MissingContent, string Suffix = "");

    /// <inheritdoc/>
    public override string Id => "clhe";

    /// <inheritdoc/>
    public override string Area => "Recommendation";

    /// <inheritdoc/>
    public override string Title => "CLHE";

    /// <inheritdoc/>
    public override string Summary => "Completes bundles (outfits, playlists, baskets) from item features, user feedback and existing bundles, cold items included.";

    /// <inheritdoc/>
    public override Paper Paper => new("Leveraging Multimodal Features and Item-level User Feedback for Bundle Construction", "Ma, Liu, Wei, Tao, Wang, Chua", "WSDM", 2024, "https://arxiv.org/abs/2310.18770");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("contrast", "With 120 training bundles and many missing modalities, recall@20 of CLHE is in each seed at least 0.02 above that without contrast. (Smallest difference.)"),
        new("item-contrast", "With 120 training bundles and many missing modalities, recall@20 with the item-level contrast alone is at least 0.01 above that without contrast."),
        new("features", "With 500 training bundles and few missing modalities, recall@20 of CLHE is at least 0.15 above that of CLHE with random features."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        ["items"] = "item features: matrices by modality in .npz, .safetensors, a folder of .npy, or columns of a table (CSV, TSV, Parquet) with a column of item names; rows of zeros or missing values are missing",
        ["feedback"] = "which user took which item: a table (CSV, TSV, Parquet) of user-item pairs, or lines of lists (.txt)",
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : budget == Budget.Full ? [0, 1, 2, 3, 4] : [0, 1, 2];

    /// <inheritdoc/>
    public override ClheRecipeOptions Defaults(Budget budget)
    {
        ClheOptions paper = ClheOptions.PogDense;
        return budget switch
        {
            Budget.Smoke => new ClheRecipeOptions { Items = 400, Epochs = 5, BundleCounts = [60], MissingParts = [0.2], LightGcnEpochs = 1 },
            Budget.Paper => new ClheRecipeOptions
            {
                ItemAlpha = paper.ItemAlpha, ItemTemperature = paper.ItemTemperature, BundleAlpha = paper.BundleAlpha, BundleTemperature = paper.BundleTemperature, BundleRatio = paper.BundleRatio,
                BatchSize = 256, Epochs = 50, Patience = 50,
            },
            _ => new ClheRecipeOptions(),
        };
    }

    /// <inheritdoc/>
    public override void Run(ClheRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        if (context.Data is { } own) RunOnOwn(options, context, ClheData.Read(own, context.Note));
        else if (context.Budget == Budget.Paper) throw new BadInputException("The paper's datasets (huggingface.co/datasets/xhLiu/BundleConstruction) do not come with Priori: give a folder in their layout with --data, its features converted to .npy, .npz or .safetensors.");
        else RunOnWorlds(options, context);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        if (!File.Exists(context.DataPath)) throw new BadInputException($"{context.DataPath} does not exist; partial bundles are a table of bundle-item pairs, or lines of lists (.txt).");
        if (run.Models.Count == 0) throw new BadInputException($"Run {run.Folder} kept no model.");
        var (name, saved) = run.Models.Select(m => (Name: m, Model: run.Description<ClheModel>(m))).MaxBy(m => m.Model.Validation);
        using var completer = new BundleCompleter(run.Model(name), saved.MaxItems, context.Device);
        Dictionary<string, int> number = saved.Items.Select((item, i) => (item, i)).ToDictionary(p => p.item, p => p.i);
        IReadOnlyList<ItemList> bundles = ItemLists.Read(context.DataPath, null, context.Data.Roles.GetValueOrDefault("item"));
        (string Bundle, int[] Items)[] known = [.. bundles.Select(b => (b.Owner, b.Items.Where(number.ContainsKey).Select(i => number[i]).ToArray()))];
        int strangers = bundles.Sum(b => b.Items.Count) - known.Sum(b => b.Items.Length);
        if (strangers > 0) context.Report($"{strangers} items are unknown to the model and are passed over.");
        (string Bundle, int[] Items)[] usable = [.. known.Where(b => b.Items.Length > 0)];
        if (usable.Length == 0) throw new BadInputException($"{context.DataPath}: no bundle has an item that the model knows.");
        if (usable.Length < known.Length) context.Report($"{known.Length - usable.Length} bundles have no item that the model knows and are not completed: {string.Join(", ", known.Where(b => b.Items.Length == 0).Take(5).Select(b => b.Bundle))}{(known.Length - usable.Length > 5 ? ", ..." : "")}.");

        string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "completions.csv");
        int suggestions = run.Options<ClheRecipeOptions>().Suggestions;
        AtomicFile.Write(path, stream =>
        {
            using var writer = new StreamWriter(stream, leaveOpen: true) { NewLine = "\n" };
            writer.WriteLine("bundle,rank,item,score");
            foreach (var (bundle, items) in usable)
            {
                context.Cancellation.ThrowIfCancellationRequested();
                int rank = 0;
                foreach (var (item, score) in completer.Complete(items, suggestions)) writer.WriteLine($"{Quote(bundle)},{++rank},{Quote(saved.Items[item])},{Text(score, "G6")}");
            }
        });
        context.Report($"{usable.Length} bundles completed by {name}: {path}");
    }

    private static void RunOnWorlds(ClheRecipeOptions options, RunContext context)
    {
        string[] variants = options.Arms.Count > 0 ? [.. options.Arms.Distinct()] : s_all;
        string[] pair = [.. new[] { ClheRecipeOptions.Clhe, ClheRecipeOptions.NoContrast }.Intersect(variants)];
        var main = new Setup(options.Bundles, MissingText, MissingContent);
        var few = new Setup(FewMissingBundles, FewMissingText, 0, $", {FewMissingBundles} bundles, few missing");
        string Amount(double part) => part.ToString("P0", CultureInfo.InvariantCulture).Replace(" ", "", StringComparison.Ordinal);
        Setup[] counts = [.. options.BundleCounts.Where(c => c != main.Bundles).Distinct().Select(c => main with { Bundles = c, Suffix = $", {c} bundles" })];
        Setup[] missing = [.. options.MissingParts.Where(m => m != main.MissingText).Distinct().Select(m => main with { MissingText = m, Suffix = $", {Amount(m)} without text" })];
        string[] judged = [ClheRecipeOptions.Clhe, ClheRecipeOptions.NoContrast, ClheRecipeOptions.ItemContrast, ClheRecipeOptions.BundleContrast];
        context.UsedData($"generated worlds, one for each seed: {options.Items:N0} items of 30 styles, content and text features of which {Amount(MissingText)} lack text and {Amount(MissingContent)} of the others content, 20,000 user-item pairs of 800 users, {options.Bundles} training, {ClheData.ValidationBundles} validation and {ClheData.TestBundles} test bundles");

        var results = new Dictionary<string, ArmResult[]>();
        foreach (string variant in variants.Where(v => v != ClheRecipeOptions.RandomPlain)) Add(variant, main, judged.Contains(variant) ? context.Seeds : [.. context.Seeds.Take(VariantSeeds)]);
        foreach (string variant in new[] { ClheRecipeOptions.Clhe, ClheRecipeOptions.NoContrast, ClheRecipeOptions.RandomFeatures, ClheRecipeOptions.RandomPlain }.Intersect(variants)) Add(variant, few, context.Seeds);
        foreach (Setup setup in counts.Concat(missing)) foreach (string variant in pair) Add(variant, setup, [.. context.Seeds.Take(VariantSeeds)]);

        ReportModels(context, results);
        Judge(context, results, few);
        Curves(context, "training-bundles", "Recall@20 by the number of training bundles.", "training bundles", [.. counts.Append(main).OrderBy(s => s.Bundles).Select(s => ((double)s.Bundles, s))], pair, results);
        Curves(context, "missing-modalities", "Recall@20 by the part of items without text; of the others 40 % lack content.", "part of items without text", [.. missing.Append(main).OrderBy(s => s.MissingText).Select(s => (s.MissingText, s))], pair, results);
        if (results.TryGetValue(ClheRecipeOptions.Clhe, out ArmResult[]? runs))
        {
            ArmResult shown = runs[0];
            ClheData world = World(shown.Seed, main);
            Examples(context, world, shown);
            WriteCompletions(context, world, shown);
        }

        ClheData World(int seed, Setup setup) => ClheData.Generated(seed, options.Items, setup.Bundles, setup.MissingText, setup.MissingContent);

        void Add(string variant, Setup setup, IReadOnlyList<int> seeds)
            => results[variant + setup.Suffix] = [.. seeds.Select(seed => context.Arm(variant + setup.Suffix, seed, run =>
            {
                ClheData world = World(seed, setup);
                Train(run, variant, world, variant == ClheRecipeOptions.LightGcn ? LearnLightGcn(run, world, options) : Factors(world, options), options, save: setup.Suffix.Length == 0 && variant == ClheRecipeOptions.Clhe);
            }))];
    }

    private static void RunOnOwn(ClheRecipeOptions options, RunContext context, ClheData data)
    {
        string[] variants = options.Arms.Count > 0 ? [.. options.Arms.Distinct()] : [ClheRecipeOptions.Clhe, ClheRecipeOptions.NoContrast];
        if (variants.Contains(ClheRecipeOptions.LightGcn) && data.Bundles.FeedbackUsers.numel() == 0) throw new BadInputException("The arm light-gcn learns from user-item pairs: give --data.feedback.");
        context.UsedData(data.Description);
        int single = data.Bundles.Train.Count(b => b.Length == 1);
        if (single > 0) context.Note($"{single} of {data.Bundles.Train.Count} training bundles have one item: they are reconstructed, but left out of the bundle-level contrast.");
        Tensor? factors = Factors(data, options);
        Dictionary<string, ArmResult[]> results = variants.ToDictionary(variant => variant, variant => context.Seeds.Select(seed => context.Arm(variant, seed, run
            => Train(run, variant, data, variant == ClheRecipeOptions.LightGcn ? LearnLightGcn(run, data, options) : factors, options, save: variant is not (ClheRecipeOptions.RandomFeatures or ClheRecipeOptions.RandomPlain)))).ToArray());
        ReportModels(context, results);
        if (results.TryGetValue(ClheRecipeOptions.Clhe, out ArmResult[]? clhe))
            foreach (var (variant, runs) in results.Where(r => r.Key != ClheRecipeOptions.Clhe)) context.Compare(null, $"clhe - {variant}", clhe, runs, "recall20");
        WriteCompletions(context, data, results.Values.SelectMany(r => r).MaxBy(r => r["validation"])!);
    }

    private static Tensor? Factors(ClheData data, ClheRecipeOptions options)
        => data.Factors ?? (data.HasFeedback ? CollaborativeFactors.Svd(data.Bundles.FeedbackUsers, data.Bundles.FeedbackItems, data.Bundles.UserCount, data.ItemCount, options.FactorDim) : null);

    private static Tensor LearnLightGcn(ArmRun run, ClheData data, ClheRecipeOptions options)
    {
        BundleDataset bundles = data.Bundles;
        Tensor users = bundles.FeedbackUsers.to(run.Device), items = bundles.FeedbackItems.to(run.Device);
        var model = new LightGcn(users, items, bundles.UserCount, data.ItemCount, options.FactorDim, device: run.Device);
        using var learner = new LightGcnLearner(model, users, items, data.ItemCount, learningRate: 5e-3);
        run.Include(run.Trainer(new TrainerOptions { Epochs = options.LightGcnEpochs, BatchSize = 2048 }).Fit(learner, new TensorSource(users, items), cancellation: run.Cancellation));
        using var ungraphed = no_grad();
        return model.Propagate().Items.detach().clone();
    }

    private static void Train(ArmRun run, string variant, ClheData data, Tensor? factors, ClheRecipeOptions options, bool save)
    {
        BundleDataset bundles = data.Bundles;
        bool random = variant is ClheRecipeOptions.RandomFeatures or ClheRecipeOptions.RandomPlain;
        IReadOnlyDictionary<string, Tensor> media = data.Modalities;
        Tensor? feedback = bundles.FeedbackItems.numel() > 0 ? CollaborativeFactors.HasFeedback(bundles.FeedbackItems, data.ItemCount) : null;
        if (variant == "without-media") media = new Dictionary<string, Tensor>();
        if (variant == "without-feedback") factors = null;
        if (random)
        {
            media = media.ToDictionary(m => m.Key, m => randn_like(m.Value));
            (factors, feedback) = (factors is null ? null : randn_like(factors), null);
        }
        using var items = new ItemModalities(data.ItemCount, media, factors, feedback, run.Device);
        using var learner = new ClheLearner(new Clhe(items, options.Model(variant)), bundles.Train);
        var model = (Clhe)learner.Modules["clhe"];
        bool choose = bundles.Validation.Truth.Any(t => t.Length > 0);
        var settings = new TrainerOptions { Epochs = options.Epochs, BatchSize = options.BatchSize, EarlyStopping = choose ? new EarlyStopping("validation", options.Patience) : null };
        TrainingHistory history = run.Trainer(settings).Fit(learner, learner.Rows, choose ? _ => Clhe.Validate(model, bundles.Validation.Partial, bundles.Validation.Truth) : null, run.Cancellation);
        run.Include(history);

        using var completer = new BundleCompleter(model);
        TopKResult result = completer.Evaluate(bundles.Test.Partial, bundles.Test.Truth, Math.Max(K, options.Suggestions));
        TopKMetrics at = result.At(K);
        run.Metric("recall20", at.Recall);
        run.Metric("ndcg20", at.Ndcg);
        run.Metric("map20", at.Map);
        run.Metric("hit20", at.HitRate);
        HashSet<int> warm = [.. bundles.Train.SelectMany(b => b)];
        Slice("warm", item => warm.Contains(item));
        Slice("cold", item => !warm.Contains(item));
        foreach (string name in data.Modalities.Keys.Where(_ => variant != "without-media" && !random)) SliceLacking(name);
        if (factors is not null && !random) SliceLacking("collaborative");
        double validation = choose ? history.Series["validation"][history.BestEpoch - 1] : 0;
        run.Metric("validation", validation);
        run.Metric("best_epoch", history.BestEpoch);
        run.Metric("parameters", model.parameters().Sum(p => p.numel()));
        run.Metric("ms_per_epoch", 1000 * history.Seconds / history.Series["loss"].Length);
        run.Tensor("rankings", tensor(result.Rankings.SelectMany(r => Enumerable.Range(0, K).Select(i => i < r.Length ? (long)r[i] : -1)).ToArray()).view(result.Rankings.Count, K));
        if (save) run.SaveModel($"{run.Arm}-{run.Seed}", completer.State(), new ClheModel(bundles.Items, options.MaxItems, validation));

        void SliceLacking(string name)
        {
            bool[] has = items.Has(name).cpu().data<bool>().ToArray();
            Slice($"lacking {(name == "collaborative" ? "feedback" : name)}", item => !has[item]);
        }

        void Slice(string name, Func<int, bool> slice)
        {
            TopKMetrics part = result.ForItems(slice).At(K);
            if (part.Queries > 0) run.Metric($"recall20 {name}", part.Recall);
        }
    }

    private static void ReportModels(RunContext context, Dictionary<string, ArmResult[]> results)
    {
        context.Table("models", "Test figures, mean ± standard deviation over seeds", ["arm", "seeds", "recall@20", "NDCG@20", "MAP@20", "hit rate@20", "best epoch", "parameters", "ms per epoch"],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, $"{r.Value.Length}", Spread(r.Value, "recall20"), Spread(r.Value, "ndcg20"), Spread(r.Value, "map20"), Spread(r.Value, "hit20"), Text(r.Value.Average(a => a["best_epoch"]), "F0"), Text(r.Value[0]["parameters"], "N0"), Text(r.Value.Average(a => a["ms_per_epoch"]), "F0")])]);
        string[] slices = [.. results.Values.SelectMany(r => r).SelectMany(a => a.Metrics.Keys).Where(k => k.StartsWith("recall20 ", StringComparison.Ordinal)).Distinct()];
        string[] shown = [.. results.Keys.Where(k => !k.Contains(',', StringComparison.Ordinal))];
        context.Table("slices", "Recall@20 counting only items of a slice: warm (in a training bundle), cold (in none), and those lacking a kind of feature", ["arm", .. slices.Select(s => s["recall20 ".Length..])],
            [.. shown.Select(arm => (IReadOnlyList<string>)[arm, .. slices.Select(s => results[arm].All(a => a.Metrics.ContainsKey(s)) ? Spread(results[arm], s) : "")])]);
        if (shown.Length == 0) return;
        context.Figure("recall", "Test recall@20 of each variant; a dot is a seed.", Charts.Bars("Test recall@20", "recall@20", [.. shown.Select(arm => (arm, (IReadOnlyList<double>)[.. results[arm].Select(a => a["recall20"])]))]), width: 1200);
    }

    private static void Judge(RunContext context, Dictionary<string, ArmResult[]> results, Setup few)
    {
        const string Metric = "recall20";
        if (!results.TryGetValue(ClheRecipeOptions.Clhe, out ArmResult[]? clhe)) return;
        if (results.TryGetValue(ClheRecipeOptions.NoContrast, out ArmResult[]? plain))
        {
            context.Compare("contrast", "clhe - no-contrast", clhe, plain, Metric, 0.02);
            double[] gains = [.. clhe.Zip(plain, (a, b) => a[Metric] - b[Metric])];
            context.Check("contrast", gains.Min(), Comparison.AtLeast, 0.02, gains); // in each seed
            if (results.TryGetValue(ClheRecipeOptions.ItemContrast, out ArmResult[]? items)) context.Compare("item-contrast", "item-contrast - no-contrast", items, plain, Metric, 0.01);
            if (results.TryGetValue(ClheRecipeOptions.BundleContrast, out ArmResult[]? bundles)) context.Compare(null, "bundle-contrast - no-contrast", bundles, plain, Metric);
        }
        if (results.TryGetValue(ClheRecipeOptions.Clhe + few.Suffix, out ArmResult[]? full))
        {
            if (results.TryGetValue(ClheRecipeOptions.RandomFeatures + few.Suffix, out ArmResult[]? random)) context.Compare("features", $"clhe - random-features{few.Suffix}", full, random, Metric, 0.15);
            if (results.TryGetValue(ClheRecipeOptions.NoContrast + few.Suffix, out ArmResult[]? fewPlain))
            {
                context.Compare(null, $"clhe - no-contrast{few.Suffix}", full, fewPlain, Metric);
                if (results.TryGetValue(ClheRecipeOptions.RandomPlain + few.Suffix, out ArmResult[]? randomPlain)) context.Compare(null, $"no-contrast - {ClheRecipeOptions.RandomPlain}{few.Suffix}", fewPlain, randomPlain, Metric);
            }
        }
        foreach (var (variant, runs) in results.Where(r => r.Value.Length == Math.Min(VariantSeeds, clhe.Length) && !r.Key.Contains(',', StringComparison.Ordinal) && r.Key is not (ClheRecipeOptions.Clhe or ClheRecipeOptions.NoContrast or ClheRecipeOptions.ItemContrast or ClheRecipeOptions.BundleContrast)))
            context.Compare(null, $"clhe - {variant}", [.. clhe.Take(runs.Length)], runs, Metric);
    }

    private static void Curves(RunContext context, string name, string caption, string xLabel, (double X, Setup Setup)[] points, string[] variants, Dictionary<string, ArmResult[]> results)
    {
        if (points.Length < 2 || variants.Length == 0) return;
        Curve[] curves = [.. variants.Select(variant => new Curve(variant, [.. points.Select(p => p.X)],
            [.. Enumerable.Range(0, Math.Min(VariantSeeds, context.Seeds.Count)).Select(s => (IReadOnlyList<double>)[.. points.Select(p => results[variant + p.Setup.Suffix][s]["recall20"])])], Dashed: variant == ClheRecipeOptions.NoContrast))];
        context.Figure(name, caption, Charts.Lines(caption.TrimEnd('.').Split(';')[0], xLabel, "recall@20", curves));
    }

    private static void Examples(RunContext context, ClheData world, ArmResult run)
    {
        Tensor rankings = run.Tensor("rankings");
        int shown = Math.Min(ExampleBundles, world.Bundles.Test.Partial.Count);
        ScottPlot.Plot plot = Charts.Create("Completions of test bundles; numbers and colours are styles", "query (left), suggestions by rank (right); squares are items of the bundle", "test bundle");
        for (int b = 0; b < shown; b++)
        {
            int[] query = world.Bundles.Test.Partial[b];
            for (int i = 0; i < query.Length; i++) Item(query[i], i - query.Length, b, ScottPlot.MarkerShape.FilledDiamond);
            for (int i = 0; i < ExampleItems; i++)
            {
                int item = (int)rankings[b, i].ToInt64();
                Item(item, i + 1, b, world.Bundles.Test.Truth[b].Contains(item) ? ScottPlot.MarkerShape.FilledSquare : ScottPlot.MarkerShape.FilledCircle);
            }
        }
        plot.Axes.SetLimits(-5, ExampleItems + 1, -0.7, shown - 0.3);
        context.Figure("completions", $"The first {shown} test bundles of seed {run.Seed}: known items (diamonds) and the {ExampleItems} first suggestions (squares where they are in the bundle). The number is the item's style.", plot);

        void Item(int item, double x, double y, ScottPlot.MarkerShape shape)
        {
            int style = world.Styles![item];
            plot.Add.Marker(x, y, shape, 24, Charts.Color(style));
            ScottPlot.Plottables.Text label = plot.Add.Text($"{style}", x, y);
            label.LabelFontColor = ScottPlot.Colors.White;
            label.LabelFontSize = 11;
            label.LabelAlignment = ScottPlot.Alignment.MiddleCenter;
        }
    }

    private static void WriteCompletions(RunContext context, ClheData data, ArmResult run)
    {
        long[] rankings = run.Tensor("rankings").data<long>().ToArray();
        BundleQueries test = data.Bundles.Test;
        AtomicFile.Write(context.OutputPath("completions.csv"), stream =>
        {
            using var writer = new StreamWriter(stream, leaveOpen: true) { NewLine = "\n" };
            writer.WriteLine("test bundle,known,rank,item,found");
            for (int b = 0; b < test.Partial.Count; b++)
            {
                string known = Quote(string.Join(' ', test.Partial[b].Select(i => data.Bundles.Items[i])));
                for (int r = 0; r < K && rankings[b * K + r] >= 0; r++)
                {
                    int item = (int)rankings[b * K + r];
                    writer.WriteLine($"{b + 1},{known},{r + 1},{Quote(data.Bundles.Items[item])},{(test.Truth[b].Contains(item) ? 1 : 0)}");
                }
            }
        });
    }

    private static string Spread(ArmResult[] runs, string metric)
    {
        double mean = runs.Average(r => r[metric]);
        return runs.Length < 2 ? Text(mean, "F4") : $"{Text(mean, "F4")} ± {Text(Math.Sqrt(runs.Sum(r => Math.Pow(r[metric] - mean, 2)) / (runs.Length - 1)), "F4")}";
    }

    private static string Quote(string text) => text.AsSpan().ContainsAny(",\"\r\n") ? $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : text;

    private static string Text(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
}
