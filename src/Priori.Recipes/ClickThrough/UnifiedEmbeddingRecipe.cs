using System.Globalization;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes.ClickThrough;

/// <summary>Options of <see cref="UnifiedEmbeddingRecipe"/>.</summary>
public sealed record UnifiedEmbeddingRecipeOptions : ClickOptions
{
    /// <summary>Sets what differs from other click models: the widths, rate and penalty of the card's ML-100K setting.</summary>
    public UnifiedEmbeddingRecipeOptions()
    {
        EmbeddingDim = 30;
        MlpHidden = [192, 64];
        LearningRate = 2e-3;
        WeightDecay = 1e-5;
    }

    /// <summary>Embedding schemes.</summary>
    [Option("Schemes to train; + is the multiplexed form. unified is the multiplexed table with the width of an embedding split into chunks; no-salt leaves the feature out of the hashed key; logistic is the model of the paper's theory over the multiplexed table. unified, no-salt and those from multi-hash on are trained at the smallest size only.",
        Choices = ["collisionless", "separate", "multiplexed", "unified", "no-salt", "logistic", "multi-hash", "multi-hash+", "hashed-net", "hashed-net+", "robe-z", "robe-z+", "quotient-remainder", "quotient-remainder+"])]
    public IReadOnlyList<string> Arms { get; init; } = ["collisionless", "separate", "multiplexed", "unified", "no-salt", "logistic"];

    /// <summary>Default data.</summary>
    [Option("Default data: ml-100k, ml-1m, the generated click-log, or auto (ml-100k where it is present).", Choices = ["auto", HashedDataset.Ml100k, HashedDataset.Ml1m, HashedDataset.Generated])]
    public string Dataset { get; init; } = "auto";

    /// <summary>Sizes of the tables.</summary>
    [Option("Sizes of the tables, as shares of the collisionless one.", Min = 1e-6, Max = 1000)]
    public IReadOnlyList<double> Sizes { get; init; } = [1, 0.5, 0.1];

    /// <summary>Rows of the tables.</summary>
    [Option("Sizes of the tables in rows, in place of shares.", Min = 1)]
    public IReadOnlyList<long> TableRows { get; init; } = [];

    /// <summary>Chunks.</summary>
    [Option("Features with more than one lookup, such as user_id=3,item_id=2; they are categories.")]
    public IReadOnlyList<string> Chunks { get; init; } = [];

    /// <summary>Columns of several values.</summary>
    [Option("Own tables: columns with several values in a cell.")]
    public IReadOnlyList<string> Bags { get; init; } = [];

    /// <summary>Separator of several values.</summary>
    [Option("Own tables: the character between the values of a cell.")]
    public string Separator { get; init; } = "|";

    /// <summary>Pooling.</summary>
    [Option("How several values of a cell are joined, chunk by chunk.")]
    public Pooling Pooling { get; init; } = Pooling.Sum;

    /// <summary>The model behind the embeddings.</summary>
    [Option("The model behind the embeddings.")]
    public BackboneKind Backbone { get; init; } = BackboneKind.DcnV2;

    /// <summary>Cross layers.</summary>
    [Option("Cross layers of DCN and DCN-v2.", Min = 1)]
    public int CrossLayers { get; init; } = 1;

    /// <summary>Chunks of the unified arm.</summary>
    [Option("unified: chunks that the width of every embedding is split into, at the same memory and width.", Min = 2)]
    public int SplitChunks { get; init; } = 3;

    /// <summary>Tables.</summary>
    [Option("Physical tables that the multiplexed rows are divided into.", Min = 1)]
    public int Tables { get; init; } = 1;

    /// <summary>Hashes.</summary>
    [Option("Rows that multi-hash sums.", Min = 1)]
    public int Hashes { get; init; } = 2;

    /// <summary>Block size.</summary>
    [Option("Numbers Z of a block of robe-z.", Min = 1)]
    public int BlockSize { get; init; } = 8;

    /// <inheritdoc/>
    public override void Validate()
    {
        base.Validate();
        if (Arms.Count == 0) throw new BadInputException("Option 'arms' needs at least one scheme.");
        if (Sizes.Count == 0 && TableRows.Count == 0) throw new BadInputException("Option 'sizes' or 'table-rows' needs at least one size.");
        if (Numbers != FieldKind.Numeric || Scaling != NumericScaling.MinMax) throw new BadInputException("Options 'numbers' and 'scaling' do not apply: unified-embedding takes numbers as standardised logarithms of 1 + x; name ids in option 'categories'.");
        if (Separator.Length != 1) throw new BadInputException($"Option 'separator' is one character; it was '{Separator}'.");
        if (Arms.Contains("unified") && EmbeddingDim % SplitChunks != 0) throw new BadInputException($"Arm unified splits the width of an embedding, {EmbeddingDim}, into {SplitChunks} chunks: set 'embedding-dim' to a multiple of it, or 'split-chunks' to a divisor.");
        _ = ChunksByFeature;
    }

    /// <summary>Chunks by feature.</summary>
    internal IReadOnlyDictionary<string, int> ChunksByFeature
    {
        get
        {
            var chunks = new Dictionary<string, int>();
            foreach (string entry in Chunks)
            {
                int equals = entry.LastIndexOf('=');
                if (equals < 1 || !int.TryParse(entry.AsSpan(equals + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int count) || count < 1 || !chunks.TryAdd(entry[..equals], count))
                    throw new BadInputException($"Option 'chunks' is a list such as user_id=3,item_id=2, each feature once with at least 1; '{entry}' is not.");
            }
            return chunks;
        }
    }
}

/// <summary>Feature multiplexing against a hashed table for each feature, at equal memory, on click logs and on the user's own table.</summary>
public sealed class UnifiedEmbeddingRecipe : ClickRecipe<UnifiedEmbeddingRecipeOptions>
{
    private const string Smallest = "0.1x", Whole = "1x";
    private static readonly string[] s_further = ["multi-hash", "hashed-net", "robe-z", "quotient-remainder"];
    private static readonly string[] s_all = ["collisionless", "separate", "multiplexed", "unified", "no-salt", "logistic", .. s_further.SelectMany(arm => new[] { arm, arm + "+" })];
    private static readonly string[] s_swept = ["separate", "multiplexed"];

    /// <inheritdoc/>
    public override string Id => "unified-embedding";

    /// <inheritdoc/>
    public override string Title => "Unified Embedding";

    /// <inheritdoc/>
    public override string Summary => "Embeds all categorical columns, of any number of values, in one hashed table of a given size.";

    /// <inheritdoc/>
    public override Paper Paper => new("Unified Embedding: Battle-Tested Feature Representations for Web-Scale ML Systems", "Coleman, Kang, Fahrbach, Wang, Hong, Chi, Cheng", "NeurIPS", 2023, "https://arxiv.org/abs/2305.12102");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("above-separate", "At a tenth of the collisionless memory, the test AUC of the multiplexed table is at least 0.010 above that of separate hashed tables."),
        new("every-seed", "At a tenth of the collisionless memory, the multiplexed table has the higher test AUC in every seed. (Share of seeds.)"),
        new("collisions-cost", "At equal memory, separate hashed tables have a test AUC at least 0.010 below the collisionless table."),
    ];

    /// <inheritdoc/>
    public override UnifiedEmbeddingRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new UnifiedEmbeddingRecipeOptions { Rows = 20_000, Epochs = 2, Sizes = [0.1], Arms = s_all },
        Budget.Paper => new UnifiedEmbeddingRecipeOptions { Dataset = HashedDataset.Ml1m, LearningRate = 1e-3, BatchSize = 128, Epochs = 30, Arms = ["collisionless", "separate", "multiplexed"] },
        _ => new UnifiedEmbeddingRecipeOptions(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2, 3, 4];

    /// <inheritdoc/>
    public override void Run(UnifiedEmbeddingRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        IReadOnlyDictionary<string, int> chunks = options.ChunksByFeature;
        var columns = new HashedSchemaOptions { Ignore = [.. options.Ignore], Categories = [.. options.Categories, .. chunks.Keys], Bags = [.. options.Bags], Separator = options.Separator[0] };
        HashedDataset data = context.Data is { } own ? HashedDataset.Read(own, columns) : HashedDataset.Default(options.Dataset, options.Rows, context.DataFolder);
        if (chunks.Keys.FirstOrDefault(name => !data.Table.Has(name) || name == data.Columns.Target) is { } wrong)
            throw new BadInputException($"Option 'chunks' names '{wrong}', which is no feature of {data.Name}; its columns are: {string.Join(", ", data.Table.Columns)}.");
        if (!data.Own) options = options with { Epochs = options.Epochs ?? 10, BatchSize = options.BatchSize ?? 512, Patience = options.Patience ?? 2 };

        var splits = context.Seeds.ToDictionary(seed => seed, seed => data.Split(seed, options.Rows));
        HashedSplit first = splits[context.Seeds[0]];
        context.UsedData(first.Data.Description);
        EmbeddingFeature[] features = [.. first.Schema.Categories.Select((c, t) => new EmbeddingFeature(c.Name, chunks.GetValueOrDefault(c.Name, 1), options.Pooling, first.Vocabularies[t].Count))];
        long whole = features.Sum(f => f.Vocabulary * f.Chunks);
        (string Label, long Rows)[] sizes = options.TableRows.Count > 0
            ? [.. options.TableRows.Distinct().OrderDescending().Select(rows => ($"{rows} rows", rows))]
            : [.. options.Sizes.Distinct().OrderDescending().Select(share => (FormattableString.Invariant($"{share}x"), Math.Max(2 * features.Length, (long)Math.Round(share * whole))))];
        Dictionary<string, ArmResult[]> results = [];
        foreach (string arm in options.Arms.Distinct())
        {
            foreach (var (label, rows) in arm == "collisionless" ? [("", whole)] : IsFurther(arm) ? sizes[^1..] : sizes)
            {
                string name = $"{arm} {label}".TrimEnd();
                results[name] = [.. context.Seeds.Select(seed => context.Arm(name, seed, run => Train(run, arm, rows, features, splits[seed], options)))];
            }
        }
        Report(context, first.Data, sizes, results);
        Compare(context, first.Data.Task.Metric, sizes, results);
    }

    private static bool IsFurther(string arm) => arm is not ("collisionless" or "separate" or "multiplexed" or "logistic");

    private static UnifiedEmbeddingDescription Describe(string arm, long rows, EmbeddingFeature[] features, HashedSplit split, UnifiedEmbeddingRecipeOptions options, int seed)
    {
        long wide = options.EmbeddingDim;
        if (arm == "unified")
        {
            features = [.. features.Select(f => f with { Chunks = f.Chunks * options.SplitChunks })];
            wide /= options.SplitChunks;
            rows *= options.SplitChunks;
        }
        var backbone = new BackboneOptions
        {
            Fields = features.Sum(f => f.Chunks) + split.Schema.Numbers.Count,
            EmbeddingDim = wide,
            Outputs = split.Data.Task.Outputs,
            MlpHidden = options.MlpHidden,
            Dropout = options.Dropout,
            Normalization = Normalization.None,
            CrossLayers = options.CrossLayers,
        };
        using var sized = Backbone.Create(options.Backbone, backbone);
        long dim = arm == "logistic" ? wide : sized.InputDim;
        return new UnifiedEmbeddingDescription
        {
            Task = split.Data.Task,
            Fields = split.Data.Fields,
            Ids = split.Data.Ids,
            Kind = options.Backbone,
            Backbone = backbone,
            Columns = split.Schema,
            Scheme = new EmbeddingSchemeOptions
            {
                Kind = arm.TrimEnd('+') switch
                {
                    "collisionless" => EmbeddingSchemeKind.Collisionless,
                    "separate" => EmbeddingSchemeKind.HashSeparate,
                    "multi-hash" => EmbeddingSchemeKind.MultiHash,
                    "hashed-net" => EmbeddingSchemeKind.HashedNet,
                    "robe-z" => EmbeddingSchemeKind.RobeZ,
                    "quotient-remainder" => EmbeddingSchemeKind.QuotientRemainder,
                    _ => EmbeddingSchemeKind.Multiplexed,
                },
                Multiplexed = arm.EndsWith('+'),
                Features = features,
                Dim = dim,
                Parameters = rows * dim,
                Tables = options.Tables,
                Seed = seed, // Each seed draws another hash function too, so that the spread over seeds is also that over hash functions.
                Salted = arm != "no-salt",
                Hashes = options.Hashes,
                BlockSize = options.BlockSize,
                Vocabularies = arm == "collisionless" ? split.Vocabularies : null,
            },
        };
    }

    private static void Train(ArmRun run, string arm, long rows, EmbeddingFeature[] features, HashedSplit split, UnifiedEmbeddingRecipeOptions options)
    {
        UnifiedEmbeddingDescription description = Describe(arm, rows, features, split, options, run.Seed);
        ClickModel model;
        try
        {
            model = arm == "logistic"
                ? new ClickModel(new HashedFieldEmbedding(EmbeddingScheme.Create(description.Scheme), split.Schema.Numbers.Count), new BlockLogistic(description.Backbone))
                : (ClickModel)description.Build();
        }
        catch (ArgumentException e)
        {
            throw new BadInputException($"{arm} with {rows} rows: {e.Message}", e);
        }
        var embedding = (HashedFieldEmbedding)model.Embedding;
        embedding.Bind(split.Vocabularies, split.Lengths);
        Parameter(model, out Tensor? layer, out long width);
        if (layer is not null) run.Tensor("cosines-start", InterferenceReport.BlockCosines(layer, width));
        double validation = Fit(run, model, split.Data, options);

        run.Metric("table_parameters", embedding.Scheme.ParameterCount);
        CollisionReport collisions = embedding.Scheme.CollisionReport(split.Vocabularies);
        run.Metric("occupied_share", (double)collisions.OccupiedCodes / collisions.Codes);
        run.Metric("shared", collisions.Shared);
        run.Metric("shared_with_others", collisions.SharedWithOthers);
        run.Metric("indistinguishable", collisions.Indistinguishable);
        Tensor? table = embedding.Scheme switch { UnifiedEmbedding unified => unified.Weight, SeparateEmbedding separate => separate.Weight, CollisionlessEmbedding all => all.Weight, _ => null };
        if (table is not null) run.Metric("row_norm", InterferenceReport.MeanSquaredNorm(table.index_select(0, embedding.OccupiedCodes())));
        if (layer is not null)
        {
            Tensor cosines = InterferenceReport.BlockCosines(layer, width);
            run.Tensor("cosines-end", cosines);
            run.Metric("mean_cosine", InterferenceReport.MeanAbsolute(cosines));
        }
        if (arm is not ("collisionless" or "no-salt" or "logistic"))
            run.SaveModel($"{run.Arm}-{run.Seed}".Replace(' ', '-'), model.state_dict(), description with { Validation = validation });
    }

    /// <summary>The layer that reads the embeddings field by field: theta, or the first of the MLP; null where the backbone has none.</summary>
    private static void Parameter(ClickModel model, out Tensor? layer, out long width)
    {
        long fields = model.Backbone.Options.Fields;
        layer = model.Backbone is BlockLogistic logistic ? logistic.Theta
            : model.Backbone.named_parameters().Where(p => p.name.Contains("mlp", StringComparison.Ordinal) && p.parameter.dim() == 2 && p.parameter.size(1) % fields == 0).Select(p => p.parameter).FirstOrDefault();
        width = layer is null ? 0 : layer.size(1) / fields;
    }

    private static void Report(RunContext context, TabularDataset data, (string Label, long Rows)[] sizes, Dictionary<string, ArmResult[]> results)
    {
        ReportModels(context, data, results,
            ("in the tables", r => Numbers.Text(r[0]["table_parameters"], "N0")),
            ("memory", r => $"{Numbers.Text(r[0]["table_parameters"] * sizeof(float) / 1024, "N0")} KiB"),
            ("collide within a feature", r => Numbers.Text(r.Average(a => a["shared"]), "P1")),
            ("with another feature", r => Numbers.Text(r.Average(a => a["shared_with_others"]), "P1")),
            ("indistinguishable values", r => Numbers.Text(r.Average(a => a["indistinguishable"]), "P1")),
            ("rows in use", r => Numbers.Text(r.Average(a => a["occupied_share"]), "P1")));

        string metric = data.Task.Metric;
        string[] swept = [.. s_swept.Where(arm => results.ContainsKey($"{arm} {sizes[0].Label}"))];
        if (swept.Length > 0)
        {
            ScottPlot.Plot plot = Charts.Lines($"Test {metric} over memory on {data.Name}", "parameters of the tables", metric, [.. swept.Select(arm => Sweep(arm, metric, "table_parameters"))], logX: true);
            if (results.TryGetValue("collisionless", out ArmResult[]? exact)) plot.WithReference(exact.Average(r => r[metric]), "collisionless");
            context.Figure($"{metric}-parameters", $"Test {metric} at each size of the tables, which is the same number of parameters for all; the band is from the lowest to the highest seed.", plot);
            context.Figure("row-norms", "Mean squared norm of the rows in use: the fewer rows, the larger.",
                Charts.Lines($"Row norms on {data.Name}", "parameters of the tables", "mean squared norm", [.. swept.Select(arm => Sweep(arm, "row_norm", "table_parameters"))], logX: true, logY: true));
        }
        foreach (string arm in new[] { "multiplexed", "logistic" })
        {
            string name = $"{arm} {sizes[^1].Label}";
            if (!results.TryGetValue(name, out ArmResult[]? runs) || !runs[0].Metrics.ContainsKey("mean_cosine")) continue;
            foreach (string when in new[] { "start", "end" })
            {
                double[][,] all = [.. runs.Select(r => Matrix(r.Tensor($"cosines-{when}")))];
                int n = all[0].GetLength(0);
                var mean = new double[n, n];
                for (int i = 0; i < n * n; i++) mean[i / n, i % n] = all.Average(c => c[i / n, i % n]);
                string[]? ticks = n == data.Fields.Count ? [.. data.Fields] : null;
                context.Figure($"cosines-{arm}-{when}", $"Cosines between the weights of the features in the first layer of {name} at the {when} of training, mean over seeds: 0 is no interference.",
                    Charts.Heatmap($"{name}, {when}", mean, "", "", ticks, ticks), width: 760, height: 640);
            }
        }
        string[] rotated = [.. results.Keys.Where(k => k.StartsWith("logistic", StringComparison.Ordinal))];
        if (rotated.Length > 0)
        {
            context.Table("rotation", "Interference: mean |cosine| of the features' weights after training, and mean squared norm of the rows in use. The logistic model starts with equal weights, cosine 1", ["model", "mean |cosine|", "mean squared row norm"],
                [.. results.Where(r => r.Value[0].Metrics.ContainsKey("mean_cosine") && r.Value[0].Metrics.ContainsKey("row_norm")).Select(r => (IReadOnlyList<string>)[r.Key, Numbers.MeanAndDeviation(r.Value, "mean_cosine", "F3"), Numbers.MeanAndDeviation(r.Value, "row_norm", "F3")])]);
        }

        Curve Sweep(string arm, string y, string x)
        {
            ArmResult[][] runs = [.. sizes.Select(s => results[$"{arm} {s.Label}"]).Reverse()];
            return new Curve(arm, [.. runs.Select(r => r[0][x])], [.. context.Seeds.Select((_, seed) => (IReadOnlyList<double>)[.. runs.Select(r => r[seed][y])])]);
        }
    }

    private static void Compare(RunContext context, string metric, (string Label, long Rows)[] sizes, Dictionary<string, ArmResult[]> results)
    {
        foreach (var (label, _) in sizes)
        {
            bool judged = label == Smallest && metric == "auc";
            Paired(judged ? "above-separate" : null, $"multiplexed {label}", $"separate {label}", 0.010);
            if (judged && results.TryGetValue($"multiplexed {label}", out ArmResult[]? shared) && results.TryGetValue($"separate {label}", out ArmResult[]? own))
            {
                double[] wins = [.. shared.Zip(own, (a, b) => a[metric] > b[metric] ? 1.0 : 0)];
                context.Check("every-seed", wins.Average(), Comparison.AtLeast, 1, wins);
            }
            Paired(label == Whole && metric == "auc" ? "collisions-cost" : null, "collisionless", $"separate {label}", 0.010);
        }
        string least = sizes[^1].Label;
        Paired(null, $"unified {least}", $"separate {least}", 0);
        Paired(null, $"unified {least}", $"multiplexed {least}", 0);
        Paired(null, $"multiplexed {least}", $"no-salt {least}", 0);
        foreach (string arm in s_further) Paired(null, $"{arm}+ {least}", $"{arm} {least}", 0);

        void Paired(string? claim, string arm, string baseline, double margin)
        {
            if (results.TryGetValue(arm, out ArmResult[]? a) && results.TryGetValue(baseline, out ArmResult[]? b)) context.Compare(claim, $"{arm} - {baseline}", a, b, metric, margin);
        }
    }

    private static double[,] Matrix(Tensor tensor)
    {
        int n = (int)tensor.size(0);
        double[] flat = tensor.reshape(-1).data<double>().ToArray();
        var matrix = new double[n, n];
        for (int i = 0; i < flat.Length; i++) matrix[i / n, i % n] = flat[i];
        return matrix;
    }
}
