using System.Globalization;
using Priori.Data;
using Priori.Metrics;
using Priori.Numerics;
using Priori.Recommendation;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Retrieval;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Recommendation;

/// <summary>Options of <see cref="ItemSelfSupervisionRecipe"/>.</summary>
public sealed record ItemSelfSupervisionRecipeOptions : RecipeOptions
{
    /// <summary>Arms to train.</summary>
    [Option("Arms: none (no self-supervision), cfm and rfm (correlated and random feature masking), rfm-independent, so (spread-out: no masking), fd (feature dropout on the main task); +logq corrects the main loss for popularity.",
        Choices = ["none", "cfm", "rfm", "rfm-independent", "so", "fd", "none+logq", "cfm+logq"])]
    public IReadOnlyList<string> Arms { get; init; } = ["none", "cfm", "rfm", "rfm-independent", "so", "fd", "none+logq", "cfm+logq"];

    /// <summary>Weight of the task.</summary>
    [Option("Weight alpha of the self-supervised loss.", Min = 0)]
    public double Alpha { get; init; } = 0.3;

    /// <summary>Further weights.</summary>
    [Option("Further weights alpha that cfm, rfm and so are trained with, for the curve over alpha; may be empty.", Min = 0)]
    public IReadOnlyList<double> Alphas { get; init; } = [0.1, 1];

    /// <summary>Default data.</summary>
    [Option("Default data: generated item-to-item pairs, or ml-100k (films that users rated 4 or 5).", Choices = ["generated", "ml-100k"])]
    public string Dataset { get; init; } = "generated";

    /// <summary>Items generated.</summary>
    [Option("Items of the generated catalogue.", Min = 60)]
    public int Items { get; init; } = 2000;

    /// <summary>Pairs generated.</summary>
    [Option("Generated pairs.", Min = 100)]
    public int Pairs { get; init; } = 8000;

    /// <summary>What queries are.</summary>
    [Option("Own data: whether queries are ids (with the features of --data.queries where it is given) or items of the catalogue.", Choices = ["ids", "items"])]
    public string Queries { get; init; } = "ids";

    /// <summary>Embedding width.</summary>
    [Option("Width of a feature's embedding.", Min = 1)]
    public int EmbeddingDim { get; init; } = 16;

    /// <summary>Initial deviation.</summary>
    [Option("Standard deviation of the embeddings at the start.", Min = 1e-6)]
    public double InitialDeviation { get; init; } = 0.1;

    /// <summary>Further initial deviations.</summary>
    [Option("Further standard deviations of the embeddings at the start that none, cfm and so are trained with; may be empty.", Min = 1e-6)]
    public IReadOnlyList<double> InitialDeviations { get; init; } = [0.25, 1];

    /// <summary>Hidden widths.</summary>
    [Option("Hidden widths of each tower.", Min = 1)]
    public IReadOnlyList<long> Hidden { get; init; } = [64];

    /// <summary>Width of the vectors.</summary>
    [Option("Width of the vectors.", Min = 1)]
    public int OutputDim { get; init; } = 32;

    /// <summary>Temperature of the main loss.</summary>
    [Option("Temperature of the main loss.", Min = 0.01)]
    public double Temperature { get; init; } = 0.1;

    /// <summary>Temperature of the task.</summary>
    [Option("Temperature of the self-supervised loss.", Min = 0.01)]
    public double TaskTemperature { get; init; } = 0.1;

    /// <summary>Value dropout.</summary>
    [Option("Probability with which a view drops a value of a multi-valued feature.", Min = 0, Max = 0.99)]
    public double ValueDropout { get; init; } = 0.3;

    /// <summary>Feature dropout of the fd arm.</summary>
    [Option("Probability with which arm fd masks each feature of an item in the main task.", Min = 0, Max = 0.99)]
    public double FeatureDropout { get; init; } = 0.3;

    /// <summary>What a masked feature becomes.</summary>
    [Option("What stands in the place of a masked or missing feature.")]
    public MaskEmbedding MaskEmbedding { get; init; } = MaskEmbedding.Learned;

    /// <summary>Normalised mutual information.</summary>
    [Option("Whether masks are chosen by normalised mutual information, which is less biased towards features with many values.")]
    public bool NormalizeInformation { get; init; }

    /// <summary>Accidental hits.</summary>
    [Option("Whether the same item in another row of the batch is no negative.")]
    public bool MaskAccidentalHits { get; init; } = true;

    /// <summary>Learning rate.</summary>
    [Option("Adam's learning rate.", Min = 1e-8)]
    public double LearningRate { get; init; } = 3e-3;

    /// <summary>Batch size.</summary>
    [Option("Pairs in a batch, and items drawn from the catalogue for the task.", Min = 2)]
    public int BatchSize { get; init; } = 256;

    /// <summary>Epochs.</summary>
    [Option("Epochs; by default 16 on generated pairs, at most 40 elsewhere, where training stops early.", Min = 1)]
    public int? Epochs { get; init; }

    /// <summary>Patience.</summary>
    [Option("Own data and ml-100k: epochs without a better validation recall@50 before training stops.", Min = 1)]
    public int Patience { get; init; } = 4;

    /// <summary>Most evaluated queries.</summary>
    [Option("Most queries that are evaluated, drawn at random where there are more.", Min = 1)]
    public int EvaluatedQueries { get; init; } = 10_000;

    /// <summary>Separator of values.</summary>
    [Option("Own tables: what separates the values of a multi-valued cell.")]
    public string Separator { get; init; } = "|";

    /// <summary>Columns of categories.</summary>
    [Option("Own item table: columns of numbers that are categories.")]
    public IReadOnlyList<string> Categorical { get; init; } = [];

    /// <summary>Columns left out.</summary>
    [Option("Own item table: columns to leave out, such as titles.")]
    public IReadOnlyList<string> Ignore { get; init; } = [];

    /// <summary>Recommendations.</summary>
    [Option("Items recommended to a query.", Min = 1)]
    public int TopK { get; init; } = 10;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Arms.Count == 0) throw new BadInputException("Option 'arms' needs at least one arm.");
        if (Separator.Length == 0) throw new BadInputException("Option 'separator' must not be empty.");
    }
}

/// <summary>How saved towers are rebuilt and fed. Beside the weights, the model's file holds the catalogue: catalogue.ids, catalogue.values and catalogue.vectors.</summary>
/// <param name="Arm">The arm.</param>
/// <param name="Validation">recall@50 on the validation pairs; null where there were none.</param>
/// <param name="Items">How an item table becomes inputs.</param>
/// <param name="Queries">How a table of queries does; null when queries are items.</param>
/// <param name="QueryColumn">Column of the query.</param>
/// <param name="ItemColumn">Column of the item.</param>
/// <param name="Options">Widths and temperatures.</param>
public sealed record ItemTowersModel(string Arm, double? Validation, ItemFeatureSchema Items, ItemFeatureSchema? Queries, string QueryColumn, string ItemColumn, ItemSelfSupervisionRecipeOptions Options)
{
    /// <summary>The towers, with fresh weights.</summary>
    public TwoTowerModel Build()
    {
        var embedding = new FeatureEmbedding(Items, Options.EmbeddingDim, Options.MaskEmbedding, Options.InitialDeviation);
        FeatureEmbedding queries = Queries is null ? embedding : new FeatureEmbedding(Queries, Options.EmbeddingDim, Options.MaskEmbedding, Options.InitialDeviation);
        return new TwoTowerModel(new FeatureTower(queries, Options.Hidden, Options.OutputDim), new FeatureTower(embedding, Options.Hidden, Options.OutputDim), Options.Temperature, Options.MaskAccidentalHits);
    }
}

/// <summary>Two-tower retrieval with self-supervised learning on item features, its variants and baselines, on generated pairs, MovieLens and the user's own interactions.</summary>
public sealed class ItemSelfSupervisionRecipe : Recipe<ItemSelfSupervisionRecipeOptions>
{
    private const int GeneratedEpochs = 16, MostEpochs = 40, Depth = 50, RecommendedQueries = 1000, DrawnGroups = 8;
    private const string Catalogue = "catalogue.";
    private static readonly string[] s_masking = ["cfm", "rfm", "so"], s_started = ["none", "cfm", "so"], s_drawn = ["none", "cfm"];

    /// <inheritdoc/>
    public override string Id => "item-self-supervision";

    /// <inheritdoc/>
    public override string Area => "Recommendation";

    /// <inheritdoc/>
    public override string Title => "Self-supervised item retrieval";

    /// <inheritdoc/>
    public override string Summary => "Learns vectors of queries and items for retrieval, and makes rare and new items easier to find by telling views of item features apart.";

    /// <inheritdoc/>
    public override Paper Paper => new("Self-supervised Learning for Large-scale Item Recommendations", "Yao, Yi, Cheng, Yu, Chen, Menon, Hong, Chi, Tjoa, Kang, Ettinger", "CIKM", 2021, "https://arxiv.org/abs/2007.12865");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("hits", "With correlated feature masking, hit@50 on unseen pairs is at least 0.008 above that without self-supervision."),
        new("cold-seeds", "In at least five of six seeds, the scores of items that were never a training target correlate more with the truth with correlated feature masking than without self-supervision. (Share of seeds.)"),
        new("cold", "The correlation of the scores of those items with the truth is at least 0.010 above that without self-supervision."),
        new("cold-spread-out", "The correlation of the scores of those items with the truth is at least 0.040 above that of the spread-out baseline, which masks nothing."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        ["items"] = "Item table (CSV, TSV, Parquet), one row an item: the column of --item and its features, several values as a|b|c.",
        ["queries"] = "Optional table of the queries' own features, one row a query, with the column of --user.",
    };

    /// <inheritdoc/>
    public override ItemSelfSupervisionRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Items = 600, Pairs = 2400, Epochs = 3, Alphas = [1], InitialDeviations = [1] },
        Budget.Paper => new() { Items = 20_000, Pairs = 400_000, Hidden = [1024], OutputDim = 128, BatchSize = 1024 },
        _ => new(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2, 3, 4, 5];

    /// <inheritdoc/>
    public override void Run(ItemSelfSupervisionRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        Func<int, RetrievalDataset> data = Loader(options, context);
        RetrievalDataset first = data(context.Seeds[0]);
        context.UsedData(first.Description);
        foreach (string remark in first.Remarks) context.Note(remark);

        string[] arms = [.. options.Arms.Distinct()];
        string[] byAlpha = [.. s_masking.Where(arms.Contains).SelectMany(arm => options.Alphas.Where(a => a != options.Alpha).Distinct().Select(a => AtAlpha(arm, a)))];
        string[] byDeviation = [.. s_started.Where(arms.Contains).SelectMany(arm => options.InitialDeviations.Where(d => d != options.InitialDeviation).Distinct().Select(d => AtDeviation(arm, d)))];
        Dictionary<string, List<ArmResult>> results = arms.Concat(byAlpha).Concat(byDeviation).ToDictionary(arm => arm, _ => new List<ArmResult>());
        foreach (int seed in context.Seeds)
        {
            RetrievalDataset current = data(seed);
            foreach (string arm in results.Keys)
                results[arm].Add(context.Arm(arm, seed, run => Train(run, arm, current, options, seed == context.Seeds[0] && arms.Contains(arm))));
        }
        ReportArms(context, first, options, results, arms);
        CheckClaims(context, first, options, results);
        ReportInformation(context, first, options);
        if (byAlpha.Length > 0) ReportAlphas(context, first, options, results);
        string best = first.Valid.Count > 0 ? arms.MaxBy(arm => results[arm].Average(r => r["validation"]))! : Preferred(arms);
        ReportVectors(context, first, results, arms);
        WriteVectors(context, first, best, results[best][0], options);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        if (!File.Exists(context.DataPath)) throw new BadInputException($"{context.DataPath} does not exist: give a table of items, or of queries with --user COLUMN.");
        if (run.Models.Count == 0) throw new BadInputException($"Run {run.Folder} kept no model.");
        var models = run.Models.Select(name => (Name: name, Model: run.Description<ItemTowersModel>(name))).ToArray();
        var (chosen, saved) = models.All(m => m.Model.Validation is null) ? models.First(m => m.Model.Arm == Preferred([.. models.Select(x => x.Model.Arm)])) : models.MaxBy(m => m.Model.Validation ?? double.NegativeInfinity);
        Dictionary<string, Tensor> tensors = run.Model(chosen);
        using TwoTowerModel towers = saved.Build();
        towers.load_state_dict(tensors.Where(t => !t.Key.StartsWith(Catalogue, StringComparison.Ordinal)).ToDictionary());
        towers.to(context.Device);
        var catalogue = new ItemFeatures(tensors[Catalogue + "ids"], tensors[Catalogue + "values"]);
        string[] names = Names(saved.Items, catalogue);
        using var index = new FlatIndex((int)towers.Item.OutputDim);
        index.Add(tensors[Catalogue + "vectors"]);
        Table table = Table.Read(context.DataPath);
        if (context.Data.Roles.TryGetValue("user", out string? queryColumn)) Recommend();
        else EncodeItems();

        void Recommend()
        {
            string[] queries = [.. RetrievalDataset.Column(table, queryColumn).Select((q, row) => q ?? throw new BadInputException($"{table.Source}, row {row + 1}: the query in column '{queryColumn}' is missing."))];
            ItemFeatureSchema schema = saved.Queries ?? saved.Items;
            string id = schema.Features[schema.IdFeature!.Value].Name;
            ItemFeatures features;
            if (schema.Features.All(f => table.Has(f.Name) || (f.Name == id && schema.Features.Count == 1)))
            {
                features = schema.Encode(schema.Features.Count > 1 ? table : new Table([TableColumn.Texts(id, queries)], table.Source));
            }
            else
            {
                if (saved.Queries is not null) throw new BadInputException($"{table.Source} lacks features of the queries, which the model was trained with: {string.Join(", ", schema.Features.Select(f => f.Name))}.");
                var rows = names.Select((name, row) => (name, row)).ToDictionary(n => n.name, n => (long)n.row);
                features = catalogue.Select(tensor(queries.Select(q => rows.TryGetValue(q, out long row) ? row : throw new BadInputException($"{table.Source}: '{q}' is not in the catalogue; give its features too: {string.Join(", ", schema.Features.Select(f => f.Name))}.")).ToArray()));
            }
            int unknown = (int)features.Values[.., schema.FirstSlots[schema.IdFeature.Value]].eq(0).sum().item<long>();
            if (unknown > 0 && schema.Features.Count == 1) context.Report($"{unknown} of {queries.Length} queries were not in training: they all get the same recommendations.");
            string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "recommendations.csv");
            Neighbors[] found = index.Search(towers.Query.Vectors(features), run.Options<ItemSelfSupervisionRecipeOptions>().TopK + 1);
            WriteNeighbors(path, saved.QueryColumn, queries, found, names, run.Options<ItemSelfSupervisionRecipeOptions>().TopK, (q, item) => saved.Queries is null && queries[q] == names[item]);
            context.Report($"{queries.Length} queries answered by {saved.Arm}: {path}");
        }

        void EncodeItems()
        {
            ItemFeatures items = saved.Items.Encode(table);
            string[] ids = [.. RetrievalDataset.Column(table, saved.ItemColumn).Select((id, row) => id ?? (row + 1).ToString(CultureInfo.InvariantCulture))];
            int fresh = (int)items.Values[.., saved.Items.FirstSlots[saved.Items.IdFeature!.Value]].eq(0).sum().item<long>();
            Tensor vectors = towers.Item.Vectors(items);
            if (Path.GetExtension(context.OutPath).ToUpperInvariant() is ".CSV")
            {
                float[] flat = vectors.data<float>().ToArray();
                int width = (int)vectors.size(1);
                WriteCsv(context.OutPath, [saved.ItemColumn, .. Enumerable.Range(0, width).Select(d => $"v{d}")], ids.Select((id, row) => (IReadOnlyList<string>)[id, .. Enumerable.Range(0, width).Select(d => Text(flat[row * width + d], "G7"))]));
                context.Report($"{ids.Length} items ({fresh} not in the catalogue) encoded by {saved.Arm}: {context.OutPath}");
                return;
            }
            string folder = Path.HasExtension(context.OutPath) ? throw new BadInputException($"Vectors are written as .csv or into a folder (npz, safetensors and csv), not as {context.OutPath}.") : context.OutPath;
            WriteVectorFiles(folder, saved.ItemColumn, ids, vectors);
            WriteNeighbors(Path.Combine(folder, "similar_items.csv"), saved.ItemColumn, ids, index.Search(vectors, run.Options<ItemSelfSupervisionRecipeOptions>().TopK + 1), names, run.Options<ItemSelfSupervisionRecipeOptions>().TopK, (q, item) => ids[q] == names[item]);
            context.Report($"{ids.Length} items ({fresh} not in the catalogue) encoded by {saved.Arm}: {folder}");
        }
    }

    private static string AtAlpha(string arm, double alpha) => string.Create(CultureInfo.InvariantCulture, $"{arm}@alpha={alpha}");

    private static string AtDeviation(string arm, double deviation) => string.Create(CultureInfo.InvariantCulture, $"{arm}@init={deviation}");

    private static string Preferred(IReadOnlyCollection<string> arms) => arms.Contains("cfm") ? "cfm" : arms.First();

    private static Func<int, RetrievalDataset> Loader(ItemSelfSupervisionRecipeOptions options, RunContext context)
    {
        var bySeed = new Dictionary<int, RetrievalDataset>();
        if (context.Data is null && options.Dataset == "generated")
            return seed => bySeed.TryGetValue(seed, out RetrievalDataset? known) ? known : bySeed[seed] = RetrievalDataset.Generated(seed, options.Items, options.Pairs);
        RetrievalTables tables;
        if (context.Data is { } own)
        {
            string query = own.Roles.GetValueOrDefault("user") ?? throw new BadInputException("Name the column of the query in the pairs with --user.");
            string item = own.Roles.GetValueOrDefault("item") ?? throw new BadInputException("Name the column of the item, in the pairs and in the item table, with --item.");
            if (own.Path.Length == 0) throw new BadInputException("Give the pairs of queries and items with --data PATH.");
            string items = own.Part("items");
            tables = new RetrievalTables(Path.GetFileName(own.Path), Table.Read(own.Path), Table.Read(items), own.Parts.TryGetValue("queries", out string? queries) ? Table.Read(queries) : null, query, item, own.Roles.GetValueOrDefault("time"));
            if (tables.Queries is not null && options.Queries == "items") throw new BadInputException("Queries that are items have the features of the item table: leave out --data.queries, or --set queries=ids.");
        }
        else
        {
            tables = RetrievalDataset.MovieLens(context.DataFolder.Find("ml-100k") ?? throw new BadInputException("MovieLens 100K is not in the data folder: fetch it with priori data get ml-100k, or use --set dataset=generated."));
        }
        var kinds = (context.Data is null ? ["year"] : options.Categorical).ToDictionary(c => c, _ => ItemFeatureKind.Categorical);
        var features = new ItemFeatureOptions { Separator = options.Separator, Ignore = [.. options.Ignore], Kinds = kinds };
        RetrievalDataset data = RetrievalDataset.Of(tables, new RetrievalSplit(context.Data is not null && options.Queries == "items", features, 0.1, 0.1, Seed: 0));
        return _ => data;
    }

    private static double[,] Information(RetrievalDataset data, ItemSelfSupervisionRecipeOptions options, bool? normalize = null)
    {
        using var scope = NewDisposeScope();
        return MutualInformation.Matrix(data.ItemSchema.Codes(data.Items), normalize ?? options.NormalizeInformation);
    }

    private static IFeatureMaskPolicy? Policy(string name, RetrievalDataset data, ItemSelfSupervisionRecipeOptions options)
    {
        int features = data.ItemSchema.Features.Count;
        return name switch
        {
            "cfm" => new CorrelatedFeatureMask(Information(data, options), idFeature: data.ItemSchema.IdFeature),
            "rfm" => new RandomComplementaryMask(features),
            "rfm-independent" => new RandomIndependentMask(features, data.ItemSchema.IdFeature),
            "so" => new NoMask(features),
            _ => null,
        };
    }

    private static void Train(ArmRun run, string arm, RetrievalDataset data, ItemSelfSupervisionRecipeOptions options, bool keep)
    {
        string[] parts = arm.Split('@', '+', '=');
        string name = parts[0];
        bool corrected = arm.EndsWith("+logq", StringComparison.Ordinal);
        double At(string what, double otherwise) => parts.Length == 3 && parts[1] == what ? double.Parse(parts[2], CultureInfo.InvariantCulture) : otherwise;
        double alpha = At("alpha", options.Alpha);
        var description = new ItemTowersModel(arm, null, data.ItemSchema, data.QuerySchema, data.Tables.Query, data.Tables.Item, options with { InitialDeviation = At("init", options.InitialDeviation) });
        TwoTowerModel model = description.Build();
        model.to(run.Device);
        ItemFeatures items = data.Items.To(run.Device), queries = data.Queries.To(run.Device);
        ItemContrastiveTask? task = Policy(name, data, options) is { } policy ? new ItemContrastiveTask(model.Item, policy, options.TaskTemperature, name == "so" ? 0 : options.ValueDropout) : null;
        Tensor? logQ = corrected ? tensor(data.ItemCounts).to(ScalarType.Float32).div(data.Train.Count).clamp_min(1e-12).log().to(run.Device) : null;
        using var learner = new TwoTowerLearner(model, queries, items, task, new TwoTowerLearnerOptions
        {
            LearningRate = options.LearningRate, Alpha = alpha, LogQ = logQ, FeatureDropout = name == "fd" ? options.FeatureDropout : 0,
            TaskBatchSize = (int)Math.Min(options.BatchSize, items.Count),
        });
        bool watched = data.Valid.Count > 0;
        var settings = new TrainerOptions
        {
            Epochs = options.Epochs ?? (watched ? MostEpochs : GeneratedEpochs), BatchSize = options.BatchSize, DropLast = data.Train.Count > options.BatchSize,
            EarlyStopping = watched ? new EarlyStopping("validation", options.Patience) : null,
        };
        static Tensor Rows(int[] rows) => tensor(rows.Select(r => (long)r).ToArray());
        TrainingHistory history = run.Trainer(settings).Fit(learner, new TensorSource(Rows(data.Train.Queries), Rows(data.Train.Items)), watched ? _ => new Dictionary<string, double> { ["validation"] = Evaluate(model, data, data.Valid, options).At(Depth).Recall } : null, run.Cancellation);
        run.Include(history);
        double? validation = watched ? history.Series["validation"][history.BestEpoch - 1] : null;
        if (validation is { } best) run.Metric("validation", best);

        TopKResult test = Evaluate(model, data, data.Test, options);
        run.Metric("recall@10", test.At(10).Recall);
        run.Metric("recall@50", test.At(Depth).Recall);
        run.Metric("map@10", test.At(10).Map);
        FrequencySlice[] slices = FrequencySlices.Of(data.ItemCounts);
        foreach (FrequencySlice slice in Enum.GetValues<FrequencySlice>()) run.Metric(SliceMetric(slice), test.ForItems(item => slices[item] == slice).At(Depth).Recall);
        if (data.Truth is { } truth && slices.Contains(FrequencySlice.Cold)) run.Metric("cold_correlation", ColdCorrelation(model, data, truth, slices));
        run.Metric("parameters", model.parameters().Sum(p => p.numel()));
        run.Metric("ms_per_step", 1000 * history.Seconds / history.Steps);
        if (!keep) return;
        Tensor vectors = model.Item.Vectors(data.Items);
        run.Tensor("item_vectors", vectors);
        run.Tensor("query_vectors", model.Query.Vectors(data.Queries));
        Dictionary<string, Tensor> saved = model.state_dict().ToDictionary(t => t.Key, t => t.Value);
        (saved[Catalogue + "ids"], saved[Catalogue + "values"], saved[Catalogue + "vectors"]) = (data.Items.Ids, data.Items.Values, vectors);
        run.SaveModel($"{arm}-{run.Seed}", saved, description with { Validation = validation });
    }

    /// <summary>Ranks the catalogue for the queries of some pairs. On generated data each pair is a query of its own (hit@k of pairs), elsewhere each query has a list of items to find.</summary>
    private static TopKResult Evaluate(TwoTowerModel model, RetrievalDataset data, PairRows pairs, ItemSelfSupervisionRecipeOptions options)
    {
        using var scope = NewDisposeScope();
        (int Query, int[] Truth)[] wanted = data.Truth is null
            ? [.. pairs.Queries.Zip(pairs.Items).GroupBy(p => p.First).Select(g => (g.Key, g.Select(p => p.Second).ToArray()))]
            : [.. pairs.Queries.Zip(pairs.Items).Select(p => (p.First, new[] { p.Second }))];
        if (wanted.Length > options.EvaluatedQueries)
        {
            SplitMix64.For(0, 0x4556414C).Shuffle(wanted.AsSpan());
            wanted = wanted[..options.EvaluatedQueries];
        }
        Tensor items = model.Item.Vectors(data.Items);
        Tensor queries = model.Query.Vectors(data.Queries.Select(tensor(wanted.Select(w => (long)w.Query).ToArray())));
        return TopKEvaluator.Evaluate(rows => queries.index_select(0, rows).matmul(items.t()), [.. wanted.Select(w => (IReadOnlyCollection<int>)w.Truth)], [.. wanted.Select(w => (IReadOnlyCollection<int>)data.Known[w.Query])], Depth);
    }

    /// <summary>Mean over the queries of the test of the correlation between the scores of the cold items and their true affinities z_q . z_i.</summary>
    private static double ColdCorrelation(TwoTowerModel model, RetrievalDataset data, ItemPairsData truth, FrequencySlice[] slices)
    {
        using var scope = NewDisposeScope();
        Tensor cold = tensor(Enumerable.Range(0, slices.Length).Where(i => slices[i] == FrequencySlice.Cold).Select(i => (long)i).ToArray());
        Tensor seeds = tensor(data.Test.Queries.Distinct().Select(q => (long)q).ToArray());
        static Tensor Standard(Tensor rows)
        {
            Tensor centred = rows - rows.mean([1], keepdim: true);
            return centred / centred.norm(1, keepdim: true).clamp_min(1e-12);
        }
        Tensor scores = model.Query.Vectors(data.Queries.Select(seeds)).matmul(model.Item.Vectors(data.Items.Select(cold)).t()).to(ScalarType.Float64);
        Tensor affinities = truth.Vectors.index_select(0, seeds).matmul(truth.Vectors.index_select(0, cold).t());
        return (Standard(scores) * Standard(affinities)).sum(1).mean().item<double>();
    }

    private static string SliceMetric(FrequencySlice slice) => $"recall@50 {slice.ToString().ToLowerInvariant()}";

    private static void ReportArms(RunContext context, RetrievalDataset data, ItemSelfSupervisionRecipeOptions options, Dictionary<string, List<ArmResult>> results, string[] arms)
    {
        string[] slices = [.. Enum.GetValues<FrequencySlice>().Select(SliceMetric)];
        string[] metrics = ["recall@50", "recall@10", "map@10", .. slices, .. data.Truth is null ? Array.Empty<string>() : ["cold_correlation"]];
        string what = data.Truth is null ? "recall@k is the mean over queries" : "recall@k is hit@k: each unseen pair has one item to find";
        FrequencySlice[] sliceOf = FrequencySlices.Of(data.ItemCounts);
        context.Table("arms", $"Test figures on {data.Name}, mean ± standard deviation over {context.Seeds.Count} seeds; {what}. Head: the tenth of the items seen in training that was seen most, tail: the half seen least, cold: never seen ({sliceOf.Count(s => s == FrequencySlice.Cold)} items).",
            ["arm", .. metrics.Select(m => m.Replace('_', ' ')), "ms per step"],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. metrics.Select(m => MeanAndDeviation(r.Value, m)), Text(r.Value.Average(a => a["ms_per_step"]), "F1")])]);
        context.Figure("recall-by-frequency", "recall@50 by how often an item was seen in training; a dot is a seed.",
            Charts.GroupedBars($"recall@50 by item frequency on {data.Name}", "recall@50", [.. Enum.GetNames<FrequencySlice>().Select(n => n.ToLowerInvariant())],
                [.. arms.Where(a => !a.EndsWith("+logq", StringComparison.Ordinal)).Select(arm => (arm, (IReadOnlyList<IReadOnlyList<double>>)[.. slices.Select(s => (IReadOnlyList<double>)[.. results[arm].Select(r => r[s])])]))]), width: 1100);
        ArmResult[] tasks = [.. arms.SelectMany(a => results[a]).Where(r => r.Curves.ContainsKey("self"))];
        if (tasks.Length > 0)
        {
            context.Figure("self-loss", "The self-supervised loss over epochs. At zero the views would match trivially.",
                Charts.Lines("Self-supervised loss", "epoch", "L_self", [.. tasks.GroupBy(r => r.Arm).Select(g => new Curve(g.Key, g.MaxBy(r => r.Series("self").X.Length)!.Series("self").X, SameLength(g)))]));
        }

        static IReadOnlyList<IReadOnlyList<double>> SameLength(IEnumerable<ArmResult> runs)
        {
            double[][] curves = [.. runs.Select(r => r.Series("self").Y)];
            int length = curves.Max(c => c.Length);
            return [.. curves.Select(c => (IReadOnlyList<double>)[.. c, .. Enumerable.Repeat(double.NaN, length - c.Length)])];
        }
    }

    private static void CheckClaims(RunContext context, RetrievalDataset data, ItemSelfSupervisionRecipeOptions options, Dictionary<string, List<ArmResult>> results)
    {
        bool judged = data.Truth is not null;
        Compare(judged ? "hits" : null, "cfm", "none", "recall@50", 0.008);
        if (judged)
        {
            if (Compare("cold", "cfm", "none", "cold_correlation", 0.010) is { } cold)
                context.Check("cold-seeds", (double)cold.Wins / cold.Count, Comparison.AtLeast, 5.0 / 6, [.. results["cfm"].Zip(results["none"], (a, b) => a["cold_correlation"] - b["cold_correlation"])]);
            Compare("cold-spread-out", "cfm", "so", "cold_correlation", 0.040);
        }
        string[] shown = judged ? ["recall@50", "cold_correlation"] : ["recall@50", SliceMetric(FrequencySlice.Tail), SliceMetric(FrequencySlice.Cold)];
        foreach (string metric in shown)
        {
            foreach (var (arm, baseline) in new[] { ("cfm", "rfm"), ("rfm", "none"), ("so", "none"), ("fd", "none"), ("cfm+logq", "none+logq") }) Compare(null, arm, baseline, metric, 0);
            if (!judged && metric != "recall@50") Compare(null, "cfm", "none", metric, 0);
            foreach (double deviation in options.InitialDeviations)
            {
                Compare(null, AtDeviation("cfm", deviation), AtDeviation("none", deviation), metric, 0);
                if (metric == "cold_correlation") Compare(null, AtDeviation("cfm", deviation), AtDeviation("so", deviation), metric, 0);
            }
        }

        PairedDifference? Compare(string? claim, string arm, string baseline, string metric, double margin)
            => results.TryGetValue(arm, out List<ArmResult>? a) && results.TryGetValue(baseline, out List<ArmResult>? b) && a.Concat(b).All(r => r.Metrics.TryGetValue(metric, out double value) && double.IsFinite(value))
                ? context.Compare(claim, $"{arm} - {baseline}", a, b, metric, margin) : null;
    }

    private static void ReportInformation(RunContext context, RetrievalDataset data, ItemSelfSupervisionRecipeOptions options)
    {
        string[] names = [.. data.ItemSchema.Features.Select(f => f.Name)];
        if (names.Length <= 40)
        {
            context.Figure("mutual-information", $"Mutual information of the features of {data.Name} in nats{(options.NormalizeInformation ? ", normalised" : "")}; on the diagonal a feature's entropy. The id informs about every feature and is kept out of the choice of masks.",
                Charts.Heatmap("Mutual information of features", Information(data, options), "", "", names, names), width: 820, height: 700);
        }
        var policy = (CorrelatedFeatureMask)Policy("cfm", data, options)!;
        context.Table("masks", "Features that correlated masking hides together in the first view, by the seed feature drawn; the second view hides all others. The id is hidden in one of the two at random.", ["seed", "hidden with it"],
            [.. policy.MaskedWith.Select(m => (IReadOnlyList<string>)[names[m.Key], string.Join(", ", m.Value.Skip(1).Select(f => names[f]))])]);
    }

    private static void ReportAlphas(RunContext context, RetrievalDataset data, ItemSelfSupervisionRecipeOptions options, Dictionary<string, List<ArmResult>> results)
    {
        string[] metrics = data.Truth is null ? ["recall@50"] : ["recall@50", "cold_correlation"];
        foreach (string metric in metrics)
        {
            Curve[] curves = [.. s_masking.Where(results.ContainsKey).Select(arm =>
            {
                (double Alpha, string Arm)[] points = [.. options.Alphas.Where(a => a != options.Alpha).Distinct().Select(a => (a, AtAlpha(arm, a))).Append((options.Alpha, arm))
                    .Concat(results.ContainsKey("none") ? [(0, "none")] : Array.Empty<(double, string)>()).OrderBy(p => p.Item1)];
                return new Curve(arm, [.. points.Select(p => p.Alpha)], [.. Enumerable.Range(0, context.Seeds.Count).Select(s => (IReadOnlyList<double>)[.. points.Select(p => results[p.Arm][s][metric])])]);
            })];
            context.Figure($"alpha-{(metric == "recall@50" ? "recall" : "cold")}", $"{metric.Replace('_', ' ')} by the weight of the self-supervised loss; 0 is no self-supervision. The band is from the least to the greatest of the seeds.",
                Charts.Lines($"{metric.Replace('_', ' ')} by alpha on {data.Name}", "alpha", metric.Replace('_', ' '), curves));
        }
    }

    /// <summary>The first two principal components of the item vectors, coloured by topic or by a feature.</summary>
    private static void ReportVectors(RunContext context, RetrievalDataset data, Dictionary<string, List<ArmResult>> results, string[] arms)
    {
        (string What, long[] Group)? colours = data.Truth is { } truth ? ("topic", truth.Topics.data<long>().ToArray()) : ByFeature();
        if (colours is not { } groups) return;
        long[] largest = [.. groups.Group.Where(g => g >= 0).GroupBy(g => g).OrderByDescending(g => g.Count()).ThenBy(g => g.Key).Take(DrawnGroups).Select(g => g.Key)];
        foreach (string arm in s_drawn.Where(arms.Contains))
        {
            using var scope = NewDisposeScope();
            Tensor vectors = results[arm][0].Tensor("item_vectors").to(ScalarType.Float64);
            Tensor centred = vectors - vectors.mean([0], keepdim: true);
            var (_, _, v) = linalg.svd(centred, fullMatrices: false);
            double[] plane = centred.matmul(v.narrow(0, 0, Math.Min(2, v.size(0))).t()).reshape(-1).data<double>().ToArray();
            if (plane.Length < 2 * groups.Group.Length) return;
            context.Figure($"vectors-{arm}", $"Item vectors of arm {arm}, first seed: their first two principal components, for the items of the {largest.Length} largest groups by {groups.What}.",
                Charts.Scatter($"Item vectors of {arm} by {groups.What}", "first component", "second component", [.. largest.Select(g =>
                {
                    int[] rows = [.. Enumerable.Range(0, groups.Group.Length).Where(i => groups.Group[i] == g)];
                    return (Label(g), rows.Select(i => plane[2 * i]).ToArray(), rows.Select(i => plane[2 * i + 1]).ToArray());
                })]));
        }

        (string, long[])? ByFeature()
        {
            ItemFeatureSchema schema = data.ItemSchema;
            int feature = Enumerable.Range(0, schema.Features.Count).Where(f => f != schema.IdFeature && schema.Features[f].Kind == ItemFeatureKind.Categorical && schema.Features[f].Vocabulary.Count > 1).OrderBy(f => schema.Features[f].Vocabulary.Count).FirstOrDefault(-1);
            return feature < 0 ? null : (schema.Features[feature].Name, schema.Codes(data.Items)[.., feature].contiguous().data<long>().ToArray());
        }

        string Label(long group) => data.Truth is not null ? $"topic {group}" : data.ItemSchema.Features.First(f => f.Name == groups.What).Vocabulary[(int)group];
    }

    /// <summary>Vectors of the catalogue for any index, and recommendations found with the library's own.</summary>
    private static void WriteVectors(RunContext context, RetrievalDataset data, string arm, ArmResult result, ItemSelfSupervisionRecipeOptions options)
    {
        using var scope = NewDisposeScope();
        Tensor vectors = result.Tensor("item_vectors"), queries = result.Tensor("query_vectors");
        string folder = Path.GetDirectoryName(context.OutputPath("item_vectors.npz"))!;
        WriteVectorFiles(folder, data.Tables.Item, data.ItemNames, vectors);
        int[] asked = [.. data.Test.Queries.Distinct().Take(RecommendedQueries)];
        using var index = new FlatIndex((int)vectors.size(1));
        index.Add(vectors);
        int longest = asked.Max(q => data.Known[q].Count);
        Neighbors[] found = index.Search(queries.index_select(0, tensor(asked.Select(q => (long)q).ToArray())), options.TopK + longest);
        WriteNeighbors(context.OutputPath("recommendations.csv"), data.Tables.Query, [.. asked.Select(q => data.QueryNames[q])], found, data.ItemNames, options.TopK, (q, item) => data.Known[asked[q]].Contains(item));
        context.Note($"outputs/ holds the vectors of {data.ItemNames.Count:N0} items by arm {arm} (item_vectors.npz, item_vectors.safetensors, item_ids.csv) and recommendations for {asked.Length} queries, items they already have left out.");
    }

    private static void WriteVectorFiles(string folder, string column, IReadOnlyList<string> ids, Tensor vectors)
    {
        Directory.CreateDirectory(folder);
        var arrays = new Dictionary<string, Tensor> { ["item_vectors"] = vectors };
        Npz.Write(Path.Combine(folder, "item_vectors.npz"), arrays);
        Safetensors.Write(Path.Combine(folder, "item_vectors.safetensors"), arrays);
        WriteCsv(Path.Combine(folder, "item_ids.csv"), ["row", column], ids.Select((id, row) => (IReadOnlyList<string>)[row.ToString(CultureInfo.InvariantCulture), id]));
    }

    private static void WriteNeighbors(string path, string query, string[] queries, Neighbors[] found, IReadOnlyList<string> names, int count, Func<int, int, bool> leftOut)
        => WriteCsv(path, [query, "rank", "item", "score"], found.SelectMany((n, q) => n.Positions.Zip(n.Scores).Where(p => !leftOut(q, p.First)).Take(count)
            .Select((p, rank) => (IReadOnlyList<string>)[queries[q], (rank + 1).ToString(CultureInfo.InvariantCulture), names[p.First], Text(p.Second, "F5")])));

    /// <summary>The ids of encoded items of the catalogue.</summary>
    private static string[] Names(ItemFeatureSchema schema, ItemFeatures items)
    {
        int id = schema.IdFeature!.Value;
        return [.. (items.Ids[.., schema.FirstSlots[id]] - schema.Offsets[id]).contiguous().data<long>().ToArray().Select(code => schema.Features[id].Vocabulary[(int)code])];
    }

    private static string MeanAndDeviation(IReadOnlyList<ArmResult> runs, string metric)
    {
        double[] values = [.. runs.Select(r => r[metric]).Where(double.IsFinite)];
        if (values.Length == 0) return "";
        double mean = values.Average();
        return values.Length > 1 ? $"{Text(mean, "F4")} ± {Text(Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (values.Length - 1)), "F4")}" : Text(mean, "F4");
    }

    private static void WriteCsv(string path, IReadOnlyList<string> header, IEnumerable<IReadOnlyList<string>> rows)
        => AtomicFile.WriteText(path, string.Concat(rows.Prepend(header).Select(row => string.Join(',', row.Select(Quote)) + "\n")));

    private static string Quote(string text) => text.AsSpan().ContainsAny(",\"\r\n") ? $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : text;

    private static string Text(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
}
