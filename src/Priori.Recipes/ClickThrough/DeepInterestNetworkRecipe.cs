using System.Globalization;
using System.Text;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Metrics;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.ClickThrough;

/// <summary>Options of <see cref="DeepInterestNetworkRecipe"/>.</summary>
public sealed record DeepInterestNetworkRecipeOptions : RecipeOptions
{
    /// <summary>Models to train.</summary>
    [Option("Models to train.", Choices = ["base-sum", "base-mean", "din", "din-dice", "din-softmax", "din-scaled-softmax"])]
    public IReadOnlyList<string> Arms { get; init; } = ["base-sum", "base-mean", "din", "din-dice", "din-softmax"];

    /// <summary>Regularizers compared on a large catalog.</summary>
    [Option("Regularizers of the item table to compare on a generated log with a large catalog (DIN): none, mba-LAMBDA, difacto-LAMBDA, dropout-P or filter-SHARE; on other data, those compared there (none by default).")]
    public IReadOnlyList<string>? Regularizers { get; init; }

    /// <summary>Regularizer of all models.</summary>
    [Option("Regularizer of the item table of all models: none, mba-LAMBDA, difacto-LAMBDA, dropout-P or filter-SHARE.")]
    public string Regularizer { get; init; } = "none";

    /// <summary>Default data.</summary>
    [Option("Default data: the generated interest-log, or MovieLens 100K.", Choices = [InterestDataset.Generated, InterestDataset.MovieLens])]
    public string Dataset { get; init; } = InterestDataset.Generated;

    /// <summary>Users of the generated log.</summary>
    [Option("Users of the generated log; the large catalog has half of them.", Min = 4)]
    public int Users { get; init; } = 3000;

    /// <summary>Part of the training positions.</summary>
    [Option("Part of the training positions that is used; by default 0.35 of the generated log, else all.", Min = 1e-6, Max = 1)]
    public double? Keep { get; init; }

    /// <summary>Category columns.</summary>
    [Option("Own data: columns that describe the item (category, brand, shop).")]
    public IReadOnlyList<string> Category { get; init; } = [];

    /// <summary>Width of an item's embedding.</summary>
    [Option("Width of an item's embedding.", Min = 1)]
    public int ItemDim { get; init; } = 8;

    /// <summary>Width of a category's embedding.</summary>
    [Option("Width of each category's embedding.", Min = 1)]
    public int CategoryDim { get; init; } = 8;

    /// <summary>Initial deviation of embeddings.</summary>
    [Option("Standard deviation of the initial embeddings; Xavier uniform if empty.", Min = 0)]
    public double? EmbeddingDeviation { get; init; } = 0.1;

    /// <summary>Hidden widths of the units.</summary>
    [Option("Hidden widths of the local activation unit.", Min = 1)]
    public IReadOnlyList<long> UnitHidden { get; init; } = [36];

    /// <summary>Hidden widths on top.</summary>
    [Option("Hidden widths of the network on top.", Min = 1)]
    public IReadOnlyList<long> MlpHidden { get; init; } = [64, 32];

    /// <summary>Optimizer.</summary>
    [Option("Optimizer; rowwise-adam touches only the table rows of a batch.", Choices = ["adam", "rowwise-adam", "sgd"])]
    public string Optimizer { get; init; } = "rowwise-adam";

    /// <summary>Learning rate.</summary>
    [Option("Learning rate.", Min = 1e-8)]
    public double LearningRate { get; init; } = 3e-3;

    /// <summary>Decay.</summary>
    [Option("Factor on the learning rate at the end, reached exponentially; 1 keeps it.", Min = 1e-8, Max = 1)]
    public double Decay { get; init; } = 1;

    /// <summary>Gradient clipping.</summary>
    [Option("Largest norm of the gradient; 0 clips nothing.", Min = 0)]
    public double ClipNorm { get; init; }

    /// <summary>Batch size.</summary>
    [Option("Samples in a batch.", Min = 2)]
    public int BatchSize { get; init; } = 256;

    /// <summary>Buckets.</summary>
    [Option("Batches sorted together by length of history, so that little is padded; 1 is a plain shuffle.", Min = 1)]
    public int Buckets { get; init; } = 8;

    /// <summary>Epochs.</summary>
    [Option("Most epochs; by default 4, on other than generated data 20.", Min = 1)]
    public int? Epochs { get; init; }

    /// <summary>Epochs of the comparison of regularizers.</summary>
    [Option("Epochs of the comparison of regularizers.", Min = 1)]
    public int RegularizerEpochs { get; init; } = 8;

    /// <summary>Patience.</summary>
    [Option("Epochs without a better validation GAUC before training stops; 0 never stops and holds no validation event out. By default 0 on the generated log, else 2.", Min = 0)]
    public int? Patience { get; init; }

    /// <summary>Longest history.</summary>
    [Option("Most past events of a history, the newest ones.", Min = 1)]
    public int MaxHistory { get; init; } = 50;

    /// <summary>Test negatives.</summary>
    [Option("Negatives drawn for each user of the test.", Min = 1)]
    public int TestNegatives { get; init; } = 1;

    /// <summary>Length of applied rankings.</summary>
    [Option("Items that priori apply ranks for each user.", Min = 1)]
    public int Top { get; init; } = 10;

    /// <summary>Whether rankings hold past items.</summary>
    [Option("Whether priori apply also ranks items of the user's present history.")]
    public bool Repeats { get; init; }

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Arms.Count == 0) throw new BadInputException("Option 'arms' needs at least one model.");
        foreach (string regularizer in (Regularizers ?? []).Append(Regularizer)) TableRegularizer.Parse(regularizer);
    }
}

/// <summary>A regularizer by name: its kind and its strength.</summary>
internal sealed record TableRegularizer(string Kind, double Value)
{
    public static TableRegularizer Parse(string text)
    {
        if (text == "none") return new TableRegularizer("none", 0);
        int dash = text.IndexOf('-', StringComparison.Ordinal);
        if (dash > 0 && double.TryParse(text[(dash + 1)..], NumberStyles.Float, CultureInfo.InvariantCulture, out double value) && double.IsFinite(value) && (text[..dash], value) switch
        {
            ("mba" or "difacto", >= 0) => true,
            ("dropout", >= 0 and < 1) => true,
            ("filter", > 0 and <= 1) => true,
            _ => false,
        }) return new TableRegularizer(text[..dash], value);
        throw new BadInputException($"A regularizer is none, mba-LAMBDA or difacto-LAMBDA (at least 0), dropout-P (in [0, 1)) or filter-SHARE (in (0, 1]), such as mba-0.1; it was '{text}'.");
    }

    public EmbeddingRegularizer? Create(InterestSamples samples, long ids) => Kind switch
    {
        "mba" => new MiniBatchAwareL2(samples.Train.Counts(0, ids), Value),
        "difacto" => new DiFactoL2(Value),
        "dropout" => new IdDropout(Value),
        "filter" => new FrequencyFilter(samples.Train.Counts(0, ids), Math.Max(1, (long)(Value * ids))),
        _ => null,
    };
}

/// <summary>How a saved model of <see cref="DeepInterestNetworkRecipe"/> is rebuilt and fed. Its file also holds the features of each behavior and the items' names.</summary>
/// <param name="Arm">The model.</param>
/// <param name="Network">The architecture.</param>
/// <param name="FilteredIds">Ids of the item table if rare ones share a row; 0 otherwise.</param>
/// <param name="User">Column of the user.</param>
/// <param name="Item">Column of the item.</param>
/// <param name="Time">Column of the time; null for the order of the file.</param>
/// <param name="Validation">Its GAUC on the validation samples; NaN without any.</param>
public sealed record DeepInterestNetworkModel(string Arm, DinOptions Network, long FilteredIds, string User, string Item, string? Time, double Validation);

/// <summary>Deep interest network and its baselines on generated logs of users with several interests, MovieLens, and the user's own event log.</summary>
public sealed class DeepInterestNetworkRecipe : Recipe<DeepInterestNetworkRecipeOptions>
{
    private const int LargeCatalog = 600, ActivationUsers = 20, MapItems = 2000;
    private const string Candidates = "candidates", FeatureTensor = "behavior_features", NameTensor = "item_names";
    private static readonly string[] s_compared = ["none", "mba-0.01", "mba-0.1", "mba-1", "dropout-0.5", "filter-0.2", "difacto-0.01"];

    /// <inheritdoc/>
    public override string Id => "deep-interest-network";

    /// <inheritdoc/>
    public override string Area => "ClickThrough";

    /// <inheritdoc/>
    public override string Title => "Deep Interest Network";

    /// <inheritdoc/>
    public override string Summary => "Predicts what a user clicks next from past behaviors, weighted anew for each candidate, and says which of them it used.";

    /// <inheritdoc/>
    public override Paper Paper => new("Deep Interest Network for Click-Through Rate Prediction", "Zhou, Zhu, Song, Fan, Zhu, Ma, Yan, Jin, Li, Gai", "KDD", 2018, "https://arxiv.org/abs/1706.06978");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("above-base", "In each seed, DIN's test GAUC is at least 0.03 above that of the better base model (sum or mean pooling)."),
        new("dice-early", "After the first epoch, DIN with Dice has a test GAUC at least 0.02 above DIN with PReLU."),
        new("same-category", "DIN gives past items of the candidate's category at least twice the mean absolute weight of other past items."),
        new("mba", "On the large catalog, mini-batch aware regularization with lambda 1 ends with a test GAUC at least 0.05 above none in each seed."),
        new("mba-mild", "On the large catalog, mini-batch aware regularization with lambda 0.1 ends with a higher test GAUC than none."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        [Candidates] = "priori apply: a table whose item column lists the items to rank; without it all items of the training log are ranked",
    };

    /// <inheritdoc/>
    public override DeepInterestNetworkRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new DeepInterestNetworkRecipeOptions { Users = 300, Epochs = 1, RegularizerEpochs = 1, Arms = ["base-sum", "base-mean", "din", "din-dice", "din-softmax", "din-scaled-softmax"] },
        // Amazon: item and category 64 each, SGD from 1.0 down to 0.1 times that, batch 32 (section 6.3 and the authors' code).
        Budget.Paper => new DeepInterestNetworkRecipeOptions
        {
            Arms = ["base-sum", "base-mean", "din", "din-dice"], Regularizers = [], ItemDim = 64, CategoryDim = 64, EmbeddingDeviation = null, UnitHidden = [80, 40], MlpHidden = [200, 80],
            Optimizer = "sgd", LearningRate = 1, Decay = 0.1, ClipNorm = 5, BatchSize = 32, Keep = 1, Epochs = 10, Patience = 0, MaxHistory = 100,
        },
        _ => new DeepInterestNetworkRecipeOptions(),
    };

    /// <inheritdoc/>
    public override void Run(DeepInterestNetworkRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        bool generated = context.Data is null && options.Dataset == InterestDataset.Generated;
        Dictionary<int, InterestDataset> data = Load(options, context, generated);
        InterestDataset first = data[context.Seeds[0]];
        context.UsedData(first.Description);
        Remark(context, first);
        TableRegularizer regularizer = TableRegularizer.Parse(options.Regularizer);
        Dictionary<string, ArmResult[]> models = options.Arms.Distinct().ToDictionary(arm => arm, arm => context.Seeds
            .Select(seed => context.Arm(arm, seed, run => Train(run, arm, regularizer, data[seed], options, options.Epochs ?? (generated ? 4 : 20), generated))).ToArray());

        string[] names = [.. (options.Regularizers ?? (generated ? s_compared : [])).Distinct()];
        Dictionary<int, InterestDataset> large = data;
        if (generated && names.Length > 0)
        {
            large = context.Seeds.ToDictionary(seed => seed, seed => InterestDataset.Generate(seed, new InterestLogOptions { Users = options.Users / 2, ItemsPerCategory = LargeCatalog }, Samples(options, generated)));
            context.UsedData($"large catalog, {large[context.Seeds[0]].Description}");
        }
        Dictionary<string, ArmResult[]> regularized = names.ToDictionary(name => name, name => context.Seeds
            .Select(seed => context.Arm(name, seed, run => Train(run, "din", TableRegularizer.Parse(name), large[seed], options, options.RegularizerEpochs, generated, keepModel: false))).ToArray());

        ReportModels(context, models);
        if (regularized.Count > 0) ReportRegularizers(context, regularized);
        CheckClaims(context, models, regularized, generated);
        if (models.Keys.FirstOrDefault(arm => arm.StartsWith("din", StringComparison.Ordinal)) is { } interpreted) ReportActivation(context, first, models[interpreted][0]);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context) => Rank(run, context, InterestRanker.PartBytes);

    internal static void Rank(SavedRun run, ApplyContext context, long partBytes)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        if (run.Models.Count == 0) throw new BadInputException($"Run {run.Folder} trained no DIN; run it with din among its arms.");
        var (name, saved) = run.Models.Select(m => (Name: m, Model: run.Description<DeepInterestNetworkModel>(m))).MaxBy(m => m.Model.Validation);
        var options = run.Options<DeepInterestNetworkRecipeOptions>();
        Dictionary<string, Tensor> weights = run.Model(name);
        if (!weights.Remove(FeatureTensor, out Tensor? features) || !weights.Remove(NameTensor, out Tensor? text)) throw new BadInputException($"Model '{name}' of run {run.Folder} is of another version.");
        string[] items = Encoding.UTF8.GetString(text.data<byte>().ToArray()).Split('\0');
        EmbeddingRegularizer? filter = saved.FilteredIds > 0 ? new FrequencyFilter(ones(saved.FilteredIds), 1) : null;
        using var model = new DeepInterestNetwork(saved.Network, [filter, .. saved.Network.Features.Skip(1).Select(_ => (EmbeddingRegularizer?)null)]);
        model.load_state_dict(weights);
        model.to(context.Device);
        model.eval();

        var columns = new EventColumns(context.Data.Roles.GetValueOrDefault("user") ?? saved.User, context.Data.Roles.GetValueOrDefault("item") ?? saved.Item, context.Data.Roles.GetValueOrDefault("time") ?? saved.Time);
        string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "ranking.csv");
        var ranker = new InterestRanker(model, features, items, options.MaxHistory, options.Top, options.Repeats, context.Device);
        long[] candidates = context.Data.Parts.TryGetValue(Candidates, out string? list) ? ranker.Candidates(list, columns.Item) : ranker.Candidates();
        RankingCounts counts = ranker.Rank(context.DataPath, columns, candidates, path, partBytes, context.Cancellation);
        context.Report($"{counts.Users} users ranked by {name}: {path}");
        if (counts.UnknownEvents > 0) context.Report($"{counts.UnknownEvents} events are of items that the model does not know; they were left out.");
        if (counts.EmptyUsers > 0) context.Report($"{counts.EmptyUsers} users have no item that the model knows; their ranking is that of an empty history.");
    }

    private static Dictionary<int, InterestDataset> Load(DeepInterestNetworkRecipeOptions options, RunContext context, bool generated)
    {
        InterestSampleOptions samples = Samples(options, generated);
        if (context.Data is { } own)
        {
            EventColumns columns = InterestDataset.ColumnsOf(own, options.Category);
            EventLog log = EventLog.Read(own.Path, columns);
            return context.Seeds.ToDictionary(seed => seed, seed => InterestDataset.Read(own, log, columns, seed, samples));
        }
        if (generated) return context.Seeds.ToDictionary(seed => seed, seed => InterestDataset.Generate(seed, new InterestLogOptions { Users = options.Users }, samples));
        string folder = context.DataFolder.Find(InterestDataset.MovieLens) ?? throw new BadInputException("MovieLens 100K is not in the data folder: fetch it with priori data get ml-100k.");
        return context.Seeds.ToDictionary(seed => seed, seed => InterestDataset.ReadMovieLens(folder, seed, samples));
    }

    private static InterestSampleOptions Samples(DeepInterestNetworkRecipeOptions options, bool generated) => new()
    {
        MaxHistory = options.MaxHistory,
        Keep = options.Keep ?? (generated ? 0.35 : 1),
        TestNegatives = options.TestNegatives,
        Validation = Patience(options, generated) > 0,
    };

    private static int Patience(DeepInterestNetworkRecipeOptions options, bool generated) => options.Patience ?? (generated ? 0 : 2);

    private static void Remark(RunContext context, InterestDataset data)
    {
        if (data.Log.SkippedRows > 0) context.Note($"{data.Log.SkippedRows} rows without user, item or time were skipped.");
        if (data.Samples.UsersWithoutSample > 0) context.Note($"{data.Samples.UsersWithoutSample} users give no sample: they have one event, or every item is in their list.");
        if (data.Columns.Time is null) context.Note("No time column was named: the order of the rows is the order of the events.");
        context.Note("Negatives are drawn uniformly from the items outside the user's own list; for training, that list ends before the held-out events.");
    }

    private static void Train(ArmRun run, string arm, TableRegularizer regularizer, InterestDataset data, DeepInterestNetworkRecipeOptions options, int epochs, bool generated, bool keepModel = true)
    {
        InterestSamples samples = data.Samples;
        BehaviorFeature[] features = [new("item", data.Log.Items.Count + 1, options.ItemDim), .. data.Log.Categories.Select(c => new BehaviorFeature(c.Name, c.Values.Count + 1, options.CategoryDim))];
        var network = new DinOptions
        {
            Features = features,
            UnitHidden = options.UnitHidden,
            MlpHidden = options.MlpHidden,
            EmbeddingDeviation = options.EmbeddingDeviation,
            Sparse = options.Optimizer == "rowwise-adam",
            Activation = arm == "din-dice" ? InterestActivation.Dice : InterestActivation.PRelu,
            Normalization = arm switch { "din-softmax" => ActivationNormalization.Softmax, "din-scaled-softmax" => ActivationNormalization.ScaledSoftmax, _ => ActivationNormalization.None },
        };
        EmbeddingRegularizer?[] regularizers = [regularizer.Create(samples, features[0].Ids), .. data.Log.Categories.Select(_ => (EmbeddingRegularizer?)null)];
        InterestModel model = arm switch
        {
            "base-sum" => new BaseInterestModel(network, InterestPooling.Sum, regularizers),
            "base-mean" => new BaseInterestModel(network, InterestPooling.Mean, regularizers),
            _ => new DeepInterestNetwork(network, regularizers),
        };
        model.to(run.Device);
        optim.Optimizer optimizer = options.Optimizer switch
        {
            "sgd" => optim.SGD(model.parameters(), options.LearningRate),
            "rowwise-adam" => new RowwiseAdam(model.parameters(), options.LearningRate),
            _ => optim.Adam(model.parameters(), options.LearningRate),
        };
        using var learner = new InterestLearner(model, new Optimization(optimizer, options.Decay < 1 ? new ExponentialSchedule(options.Decay) : null, options.ClipNorm > 0 ? options.ClipNorm : null));
        HistorySource watched = samples.Validation ?? samples.Test;
        var settings = new TrainerOptions
        {
            Epochs = epochs,
            BatchSize = options.BatchSize,
            Sampler = new LengthBucketSampler(samples.Train.Lengths, options.BatchSize, options.Buckets),
            EarlyStopping = samples.Validation is null ? null : new EarlyStopping("gauc", Patience(options, generated)),
        };
        TrainingHistory history = run.Trainer(settings).Fit(learner, samples.Train, _ => InterestLearner.Evaluate(model, watched), run.Cancellation);
        run.Include(history);
        foreach (var (name, value) in InterestLearner.Evaluate(model, samples.Test)) run.Metric(name, value);
        run.Metric("gauc_first_epoch", history.Series["gauc"][0]);
        run.Metric("gauc_best_epoch", history.Series["gauc"].Max());
        run.Metric("epochs", history.Series["gauc"].Length);
        run.Metric("parameters", model.parameters().Sum(p => p.numel()));
        run.Metric("seconds_per_epoch", history.Seconds / history.Series["gauc"].Length);
        if (model is not DeepInterestNetwork din || !keepModel) return;

        KeepActivation(run, din, data);
        if (features.Length > 1)
        {
            var (same, other) = WeightsByCategory(din, samples);
            run.Metric("weight_same_category", same);
            run.Metric("weight_other_category", other);
        }
        Dictionary<string, Tensor> state = din.state_dict().Where(s => !s.Key.Contains("regularizer", StringComparison.Ordinal) || regularizer.Kind == "filter").ToDictionary(s => s.Key, s => s.Value);
        state[FeatureTensor] = samples.Features;
        state[NameTensor] = tensor(Encoding.UTF8.GetBytes(string.Join('\0', data.Log.Items)));
        run.SaveModel($"{arm}-{run.Seed}", state, new DeepInterestNetworkModel(arm, network, regularizer.Kind == "filter" ? features[0].Ids : 0, data.Columns.User, data.Columns.Item, data.Columns.Time,
            samples.Validation is null ? double.NaN : history.Series["gauc"][history.BestEpoch - 1]));
    }

    /// <summary>Mean absolute weight of past items in the candidate's category and of the others, over the test's positives.</summary>
    private static (double Same, double Other) WeightsByCategory(DeepInterestNetwork model, InterestSamples samples)
    {
        using DisposeScope scope = NewDisposeScope();
        using var ungraphed = no_grad();
        model.eval();
        double[] sums = new double[2], counts = new double[2];
        foreach (Tensor rows in samples.Test.Labels.gt(0.5).nonzero().squeeze(1).split(1024))
        {
            using DisposeScope step = NewDisposeScope();
            var batch = samples.Test.Get(rows, model.Table(0).device);
            Tensor weights = model.Weights(batch[0], batch[1], batch[2])[0].abs(), same = batch[1].select(-1, 1).eq(batch[0].select(-1, 1).unsqueeze(1));
            foreach (var (part, i) in new[] { same & batch[2], same.logical_not() & batch[2] }.Select((part, i) => (part, i)))
            {
                sums[i] += weights.masked_select(part).sum(ScalarType.Float64).item<double>();
                counts[i] += part.sum().item<long>();
            }
        }
        return (sums[0] / Math.Max(1, counts[0]), sums[1] / Math.Max(1, counts[1]));
    }

    /// <summary>Keeps the weights of some test samples, those of one user for candidates of several categories, and a map of the items.</summary>
    private static void KeepActivation(ArmRun run, DeepInterestNetwork model, InterestDataset data)
    {
        using DisposeScope scope = NewDisposeScope();
        using var ungraphed = no_grad();
        model.eval();
        HistorySource test = data.Samples.Test;
        Tensor rows = arange(Math.Min(test.Count, ActivationUsers * test.Count / Math.Max(1, (long)test.Labels.sum().item<float>())), ScalarType.Int64);
        var batch = test.Get(rows, run.Device);
        run.Tensor("activation", model.Weights(batch[0], batch[1], batch[2])[0]);

        long[] best = [];
        long[] candidates = [];
        for (int row = 0; row < rows.size(0); row++)
        {
            var (history, mask) = test.History(rows.narrow(0, row, 1));
            long[] past = history.masked_select(mask).data<long>().ToArray();
            long[] chosen = CandidatesFor(data, past, test.Candidates[row].item<long>());
            if (chosen.Length > candidates.Length || (chosen.Length == candidates.Length && past.Length > best.Length)) (best, candidates) = (past, chosen);
        }
        Tensor query = data.Samples.Features.index_select(0, tensor(candidates)).unsqueeze(0), keys = data.Samples.Features.index_select(0, tensor(best)).unsqueeze(0);
        run.Tensor("heat", model.Weights(query.to(run.Device), keys.to(run.Device), ones(1, best.Length, ScalarType.Bool, run.Device))[0].squeeze(0));
        run.Tensor("heat_history", tensor(best));
        run.Tensor("heat_candidates", tensor(candidates));

        Tensor items = model.Table(0).narrow(0, 1, Math.Min(MapItems, data.Log.Items.Count)).cpu();
        Tensor centred = items - items.mean([0]);
        var (u, s, _) = linalg.svd(centred, fullMatrices: false);
        long components = Math.Min(2, s.size(0));
        run.Tensor("map", functional.pad(u.narrow(1, 0, components) * s.narrow(0, 0, components), [0, 2 - components]));
    }

    /// <summary>New items of the history's most frequent categories and of two others; without categories, the candidate itself.</summary>
    private static long[] CandidatesFor(InterestDataset data, long[] past, long candidate)
    {
        if (data.Log.Categories.Count == 0) return [candidate];
        IReadOnlyList<int> categoryOf = data.Log.Categories[0].OfItem;
        int[] frequent = [.. past.Select(b => categoryOf[(int)b - 1]).Where(c => c >= 0).GroupBy(c => c).OrderByDescending(g => g.Count()).Select(g => g.Key).Take(4)];
        int[] others = [.. Enumerable.Range(0, data.Log.Categories[0].Values.Count).Where(c => !frequent.Contains(c)).Take(2)];
        HashSet<long> known = [.. past];
        return [.. frequent.Concat(others).Select(c => Enumerable.Range(0, categoryOf.Count).FirstOrDefault(i => categoryOf[i] == c && !known.Contains(i + 1), -1)).Where(i => i >= 0).Select(i => i + 1L)];
    }

    private static void ReportModels(RunContext context, Dictionary<string, ArmResult[]> models)
    {
        string? baseline = models.ContainsKey("base-sum") ? "base-sum" : null;
        context.Table("models", $"Test figures, mean ± standard deviation over {context.Seeds.Count} seeds{(baseline is null ? "" : $"; RelaImpr against {baseline}")}",
            ["model", "GAUC", "AUC", "log-loss", "RelaImpr", "GAUC after epoch 1", "|weight| same category / others", "epochs", "parameters", "s per epoch"],
            [.. models.Select(m => (IReadOnlyList<string>)[m.Key, Mean(m.Value, "gauc"), Mean(m.Value, "auc"), Mean(m.Value, "log_loss"), Improvement(m.Value, baseline is null ? null : models[baseline]),
                Mean(m.Value, "gauc_first_epoch"), m.Value[0].Metrics.ContainsKey("weight_same_category") ? $"{Numbers.Text(m.Value.Average(a => a["weight_same_category"]), "G3")} / {Numbers.Text(m.Value.Average(a => a["weight_other_category"]), "G3")}" : "",
                Numbers.Text(m.Value.Average(a => a["epochs"]), "F1"), Numbers.Text(m.Value[0]["parameters"], "N0"), Numbers.Text(m.Value.Average(a => a["seconds_per_epoch"]), "F1")])]);
        context.Figure("models", "GAUC after each epoch on the samples that are watched (the test without validation): the mean of the seeds, and their range.", Charts.Lines("Models by epoch", "epoch", "GAUC", Curves(models, "gauc")));
    }

    private static void ReportRegularizers(RunContext context, Dictionary<string, ArmResult[]> regularized)
    {
        ArmResult[]? none = regularized.GetValueOrDefault("none");
        context.Table("regularizers", "Regularizers of DIN's item table: test GAUC after the last epoch, mean ± standard deviation; the best epoch is chosen on the test itself, as an upper bound", ["regularizer", "GAUC", "RelaImpr", "GAUC of the best epoch", "log-loss", "cross-entropy in training"],
            [.. regularized.Select(r => (IReadOnlyList<string>)[r.Key, Mean(r.Value, "gauc"), Improvement(r.Value, none), Mean(r.Value, "gauc_best_epoch"), Mean(r.Value, "log_loss"), Numbers.Text(r.Value.Average(a => a.Series("cross_entropy").Y[^1]), "F4")])]);
        context.Figure("regularizers", "GAUC after each epoch with each regularizer of the item table (fig. 4 of the paper).", Charts.Lines("Regularizers by epoch", "epoch", "GAUC", Curves(regularized, "gauc")));
        context.Figure("regularizers-training", "Cross-entropy in training with each regularizer (fig. 4 of the paper): how well it memorises.", Charts.Lines("Cross-entropy in training", "epoch", "cross-entropy", Curves(regularized, "cross_entropy")));
    }

    private static void CheckClaims(RunContext context, Dictionary<string, ArmResult[]> models, Dictionary<string, ArmResult[]> regularized, bool generated)
    {
        string? Claim(string id) => generated ? id : null;
        if (models.TryGetValue("din", out ArmResult[]? din))
        {
            foreach (string other in models.Keys.Where(m => m != "din")) context.Compare(null, $"din - {other}", din, models[other], "gauc");
            if (generated && models.TryGetValue("base-sum", out ArmResult[]? sum) && models.TryGetValue("base-mean", out ArmResult[]? mean))
            {
                double[] gains = [.. din.Select((d, i) => d["gauc"] - Math.Max(sum[i]["gauc"], mean[i]["gauc"]))];
                context.Check("above-base", gains.Min(), Comparison.AtLeast, 0.03, gains);
            }
            if (models.TryGetValue("din-dice", out ArmResult[]? dice)) context.Compare(Claim("dice-early"), "din-dice - din after epoch 1", dice, din, "gauc_first_epoch", 0.02);
            if (generated)
            {
                double[] ratios = [.. din.Select(d => d["weight_same_category"] / d["weight_other_category"])];
                context.Check("same-category", ratios.Average(), Comparison.AtLeast, 2, ratios);
            }
        }
        if (!regularized.TryGetValue("none", out ArmResult[]? none)) return;
        foreach (var (name, results) in regularized.Where(r => r.Key != "none"))
        {
            var difference = context.Compare(name == "mba-0.1" ? Claim("mba-mild") : null, $"{name} - none", results, none, "gauc");
            double[] gains = [.. results.Zip(none, (a, b) => a["gauc"] - b["gauc"])];
            if (name == "mba-1" && generated) context.Check("mba", gains.Min(), Comparison.AtLeast, 0.05, gains);
        }
    }

    private static void ReportActivation(RunContext context, InterestDataset data, ArmResult result)
    {
        long[] history = result.Tensor("heat_history").data<long>().ToArray(), candidates = result.Tensor("heat_candidates").data<long>().ToArray();
        if (history.Length > 0 && candidates.Length > 0)
        {
            float[] weights = result.Tensor("heat").reshape(-1).data<float>().ToArray();
            var cells = new double[candidates.Length, history.Length];
            for (int i = 0; i < weights.Length; i++) cells[i / history.Length, i % history.Length] = weights[i];
            string Label(long behavior) => data.Names(behavior) is var (item, category) && category.Length > 0 ? category : item;
            context.Figure("activation", $"Weights that {result.Arm} (seed {result.Seed}) gives to one user's past items (columns, oldest first) for new items of several categories (rows); labels are the items' categories.",
                Charts.Heatmap("Activation of one user's history", cells, "past items, oldest first", "candidate", [.. history.Select(Label)], [.. candidates.Select(Label)]), width: 1200);
        }
        HistorySource test = data.Samples.Test;
        Tensor activation = result.Tensor("activation");
        Tensor rows = arange(activation.size(0), ScalarType.Int64);
        var (behaviors, mask) = test.History(rows);
        int width = (int)activation.size(1);
        float[] values = activation.reshape(-1).data<float>().ToArray();
        long[] past = behaviors.reshape(-1).data<long>().ToArray();
        bool[] valid = mask.reshape(-1).data<bool>().ToArray();
        List<IReadOnlyList<string>> lines = [];
        for (int i = 0; i < values.Length; i++)
        {
            if (!valid[i]) continue;
            int row = i / width;
            var (candidate, candidateCategory) = data.Names(test.Candidates[row].item<long>());
            var (item, category) = data.Names(past[i]);
            lines.Add([data.Log.Users[(int)test.Users[row].item<long>()], candidate, candidateCategory, test.Labels[row].item<float>() > 0 ? "1" : "0", Numbers.Text(i % width + 1, "F0"), item, category, Numbers.Text(values[i], "G6")]);
        }
        Csv.Write(context.OutputPath("activation.csv"), ["user", "candidate", "candidate category", "label", "position", "past item", "category", "weight"], lines);

        if (data.Log.Categories.Count == 0) return;
        float[] map = result.Tensor("map").reshape(-1).data<float>().ToArray();
        var points = Enumerable.Range(0, map.Length / 2).Where(i => data.Log.Categories[0].OfItem[i] >= 0).GroupBy(i => data.Log.Categories[0].OfItem[i]).OrderByDescending(g => g.Count()).Take(8)
            .Select(g => (data.Log.Categories[0].Values[g.Key], g.Select(i => (double)map[2 * i]).ToArray(), g.Select(i => (double)map[2 * i + 1]).ToArray())).ToArray();
        context.Figure("items", $"The item table of {result.Arm} (seed {result.Seed}) on its first two principal components, by category (the eight largest; the paper's fig. 6 uses t-SNE).", Charts.Scatter("Item embeddings", "first component", "second component", points));
    }

    private static Curve[] Curves(Dictionary<string, ArmResult[]> arms, string series) => [.. arms.Select(arm =>
    {
        int epochs = arm.Value.Max(a => a.Series(series).Y.Length);
        return new Curve(arm.Key, [.. Enumerable.Range(1, epochs).Select(e => (double)e)],
            [.. arm.Value.Select(a => (IReadOnlyList<double>)[.. a.Series(series).Y.Concat(Enumerable.Repeat(double.NaN, epochs - a.Series(series).Y.Length))])]);
    })];

    private static string Improvement(ArmResult[] arm, ArmResult[]? baseline)
        => baseline is null ? "" : Numbers.Text(arm.Zip(baseline, (a, b) => RankingMetrics.RelaImpr(a["gauc"], b["gauc"])).Average(), "F1") + " %";

    private static string Mean(ArmResult[] runs, string metric) => Numbers.MeanAndDeviation(runs, metric);
}
