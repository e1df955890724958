using Priori.ClickThrough;
using Priori.Data;
using Priori.Metrics;
using Priori.Numerics;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.ClickThrough;

/// <summary>Options of <see cref="OptinterRecipe"/>.</summary>
public sealed record OptinterRecipeOptions : ClickOptions
{
    /// <summary>The card's small setting of the generated log.</summary>
    public OptinterRecipeOptions() => (EmbeddingDim, MlpHidden, LearningRate, Scaling) = (8, [64, 32], 5e-3, NumericScaling.ZeroToOne);

    /// <summary>Plans to train.</summary>
    [Option("Plans to train: what the search finds, one method for all pairs, a random method for each, and what variants of the search find.",
        Choices = ["optinter", "memorize", "factorize", "naive", "random", "bi-level", "gumbel", "repeated"])]
    public IReadOnlyList<string>? Arms { get; init; }

    /// <summary>Default data.</summary>
    [Option("Default data: the generated log of six fields with known pairs, or frappe.", Choices = ["pairs", "frappe"])]
    public string Dataset { get; init; } = "pairs";

    /// <summary>Width of an interaction.</summary>
    [Option("Width of an interaction.", Min = 1)]
    public int CrossDim { get; init; } = 4;

    /// <summary>Decay of the interactions' tables.</summary>
    [Option("L2 penalty of memorized pairs and factors.", Min = 0)]
    public double CrossWeightDecay { get; init; } = 1e-6;

    /// <summary>The product.</summary>
    [Option("The product of a factorized interaction.")]
    public Factorization Factorization { get; init; }

    /// <summary>Threshold of combinations.</summary>
    [Option("Training rows that a combination of values needs for an embedding of its own; by default 1, on own data 5.", Min = 1)]
    public int? MinPairCount { get; init; }

    /// <summary>Threshold of categories.</summary>
    [Option("Own tables: training rows that a category needs for an id of its own.", Min = 1)]
    public int MinCount { get; init; } = 1;

    /// <summary>Learning rate of the search.</summary>
    [Option("Adam's learning rate while searching.", Min = 1e-8)]
    public double SearchLearningRate { get; init; } = 1e-2;

    /// <summary>Learning rate of the architecture.</summary>
    [Option("Adam's learning rate of the architecture parameters.", Min = 1e-8)]
    public double ArchLearningRate { get; init; } = 3e-2;

    /// <summary>Batch of the search.</summary>
    [Option("Rows in a batch while searching; by default 256 on the generated log, elsewhere a six-hundredth of the training rows within 16..256.", Min = 2)]
    public int? SearchBatchSize { get; init; }

    /// <summary>Epochs of the search.</summary>
    [Option("Times over the training rows while searching.", Min = 1)]
    public int SearchEpochs { get; init; } = 1;

    /// <summary>Levels of the search.</summary>
    [Option("Whether the architecture learns from the same rows as the weights (joint) or from others (bi-level); by default joint for one epoch and bi-level for more, since rows that repeat make memorizing look useful.")]
    public SearchMode? SearchMode { get; init; }

    /// <summary>Rate of the temperature.</summary>
    [Option("The temperature falls by this much each step; by default it reaches tau-min with the last one.", Min = 0)]
    public double? TauRate { get; init; }

    /// <summary>Least temperature.</summary>
    [Option("Least temperature.", Min = 1e-6, Max = 1)]
    public double TauMin { get; init; } = 0.05;

    /// <inheritdoc/>
    public override void Validate()
    {
        base.Validate();
        if (Arms is { Count: 0 }) throw new BadInputException("Option 'arms' needs at least one plan.");
        if (WeightDecay > 0) throw new BadInputException("OptInter decays only the tables of interactions: use option 'cross-weight-decay'.");
    }
}

/// <summary>OptInter and its fixed plans on a log with known pairs, on Frappe, and on the user's own table.</summary>
public sealed class OptinterRecipe : ClickRecipe<OptinterRecipeOptions>
{
    private const int TrainRows = 100_000, ValidRows = 10_000, TestRows = 20_000, RepeatedRows = 44_000, RepeatedEpochs = 5;
    private const int SearchSteps = 600, LeastSearchBatch = 16, MostSearchBatch = 256, FewRows = 30_000, InformationRows = 100_000, RegressionBuckets = 10;
    private static readonly string[] Searched = ["optinter", "bi-level", "gumbel", "repeated"];
    private static readonly bool[] Kinds = [true, false];
    private static readonly string[] OwnArms = ["optinter", "memorize", "factorize", "naive"];

    /// <inheritdoc/>
    public override string Id => "optinter";

    /// <inheritdoc/>
    public override string Title => "OptInter";

    /// <inheritdoc/>
    public override string Summary => "Finds out for each pair of columns whether to memorize its combinations, to factorize them or to ignore them, and trains that model.";

    /// <inheritdoc/>
    public override Paper Paper => new("Memorize, Factorize, or be Naïve: Learning Optimal Feature Interaction Methods for CTR Prediction", "Lyu, Tang, Guo, Tang, He, Zhang, Liu", "ICDE", 2022, "https://arxiv.org/abs/2108.01265");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("planted-kept", "In every seed at least 5 of the 6 pairs that interact are not called naive. (The least number over seeds.)"),
        new("null-naive", "In every seed at least 8 of the 9 pairs that do not interact are called naive. (The least number over seeds.)"),
        new("with-memorized", "In every seed the found plan's test AUC is at most 0.0005 below that of all pairs memorized. (The least difference over seeds.)"),
        new("above-memorized", "On average the found plan's test AUC is at least 0.0005 above that of all pairs memorized."),
        new("above-factorized", "The found plan's test AUC is at least 0.03 above that of all pairs factorized."),
        new("parameters", "In every seed the found plan has at most 0.6 of the interaction parameters of all pairs memorized. (The largest share over seeds.)"),
    ];

    /// <inheritdoc/>
    protected override bool BinaryTarget => false;

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2, 3, 4];

    /// <inheritdoc/>
    public override OptinterRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new OptinterRecipeOptions { Rows = 12_000, Epochs = 1 },
        // Criteo, table of the authors' repository; one epoch more than the best is enough to stop (patience 1).
        Budget.Paper => new OptinterRecipeOptions
        {
            EmbeddingDim = 20, CrossDim = 10, MlpHidden = [700, 700, 700, 700, 700], LearningRate = 1e-3, BatchSize = 2000, Epochs = 10, Patience = 1, CrossWeightDecay = 3e-8,
            SearchLearningRate = 1e-4, ArchLearningRate = 1e-3, SearchBatchSize = 2000, SearchEpochs = 10, SearchMode = Priori.ClickThrough.SearchMode.Joint, TauRate = 5e-5, TauMin = 0.01,
            MinPairCount = 20, MinCount = 20, Arms = ["optinter", "memorize", "factorize", "naive", "random"],
        },
        _ => new OptinterRecipeOptions(),
    };

    /// <inheritdoc/>
    public override void Run(OptinterRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        bool generated = context.Data is null && options.Dataset == "pairs";
        // Each seed of the generated log is another world with other effects; other data are the same for all seeds.
        (TabularDataset Data, double Best)[] worlds = generated ? [.. context.Seeds.Select(seed => Generated(seed, options.Rows))] : [];
        TabularDataset[] data = generated ? [.. worlds.Select(w => w.Data)] : [.. Enumerable.Repeat(Read(options, context), context.Seeds.Count)];
        context.UsedData(data[0].Description);
        int[] categorical = [.. Enumerable.Range(0, data[0].Fields.Count).Where(f => data[0].Schema is null || data[0].Schema!.Fields[f].Kind != FieldKind.Numeric)];
        if (categorical.Length < 2)
            throw new BadInputException($"{data[0].Name} has {categorical.Length} categorical column{(categorical.Length == 1 ? "" : "s")}, and pairs need two; name columns of numbers that are categories in option 'categories', or set numbers=quantiles.");
        IReadOnlyList<FieldPair> pairs = FieldPair.All(categorical);

        string[] arms = [.. (options.Arms ?? (generated ? ["optinter", "memorize", "factorize", "naive", "random", "bi-level", "gumbel", "repeated"] : OwnArms)).Distinct()];
        var results = arms.ToDictionary(arm => arm, arm => new ArmResult[context.Seeds.Count]);
        for (int i = 0; i < context.Seeds.Count; i++)
        {
            TabularDataset rows = data[i];
            CrossVocabulary vocabulary = CrossVocabulary.Build(rows.Train.Ids, pairs, rows.Ids, options.MinPairCount ?? (rows.Own ? 5 : 1));
            foreach (string arm in arms)
                results[arm][i] = context.Arm(arm, context.Seeds[i], run => Train(run, arm, rows, vocabulary, options, save: arm == (arms.Contains("optinter") ? "optinter" : arms[0])));
        }

        ReportModels(context, data[0], results, ("interaction parameters", r => Numbers.MeanAndDeviation(r, "cross_parameters", "N0")), ("rows/s", r => Numbers.Text(r.Average(a => a["rows_per_second"]), "N0")));
        ReportScatter(context, data[0], results);
        if (generated)
        {
            ReportPlanted(context, data[0], pairs, results);
            context.Note($"No model ranks better than the true click probabilities; their AUC on the test rows of seeds {string.Join(", ", context.Seeds)} is {string.Join(", ", worlds.Select(w => Numbers.Text(w.Best, "F4")))}.");
        }
        if (results.TryGetValue("optinter", out ArmResult[]? found)) ReportPairs(context, data, pairs, found);
        Compare(context, results, data[0], generated);
        if (data[0].Own && found is not null && results.MaxBy(r => r.Value.Average(a => a["validation"])) is { Key: not "optinter" } best)
            context.Note($"On the validation rows the plan {best.Key} is best ({data[0].Task.Metric} {Numbers.Text(best.Value.Average(a => a["validation"]), "F4")}, optinter {Numbers.Text(found.Average(a => a["validation"]), "F4")}): "
                + "choosing pair by pair does not pay on these rows. Apply uses the model of optinter; set arms to keep another.");
    }

    /// <summary>A world of the generated log, and the AUC of the true probabilities on its test rows.</summary>
    private static (TabularDataset Data, double Best) Generated(int world, int rows)
    {
        int train = rows > 0 ? rows : TrainRows, valid = Math.Max(100, train / (TrainRows / ValidRows)), test = Math.Max(100, train / (TrainRows / TestRows));
        PairwiseClickData log = PairwiseClickLog.Generate(train + valid + test, world);
        TabularRows Part(int start, int count) => new(log.Ids.narrow(0, start, count), ones([count, PairwiseClickLog.Fields]), log.Labels.narrow(0, start, count));
        double best = RankingMetrics.Auc(log.Probabilities.narrow(0, train + valid, test), log.Labels.narrow(0, train + valid, test));
        var data = new TabularDataset(
            "pairs", $"generated click log of {PairwiseClickLog.Fields} fields of {PairwiseClickLog.Values} values with {PairwiseClickLog.Planted.Count} interacting pairs, another world each seed, {train} training, {valid} validation and {test} test rows",
            [.. Enumerable.Range(0, PairwiseClickLog.Fields).Select(f => $"field{f}")], PairwiseClickLog.Fields * PairwiseClickLog.Values, TabularTask.Binary, null,
            [.. PairwiseClickLog.Planted.Select(p => (IReadOnlyList<int>)[p.First, p.Second])], (Part(0, train), Part(train, valid), Part(train + valid, test)));
        return (data, best);
    }

    private TabularDataset Read(OptinterRecipeOptions options, RunContext context)
        => context.Data is { } own ? TabularDataset.Read(Id, own, options.Columns with { MinimumFrequency = options.MinCount }, options.Rows) : TabularDataset.Default(TabularDataset.Frappe, options.Rows, context.DataFolder);

    private static void Train(ArmRun run, string arm, TabularDataset data, CrossVocabulary vocabulary, OptinterRecipeOptions options, bool save)
    {
        var network = new OptInterOptions
        {
            Fields = data.Fields.Count, Ids = data.Ids, OriginalDim = options.EmbeddingDim, CrossDim = options.CrossDim, Hidden = options.MlpHidden, Dropout = options.Dropout,
            Factorization = options.Factorization, Outputs = data.Task.Outputs,
        };
        InteractionPlan plan = arm switch
        {
            "memorize" => InteractionPlan.All(vocabulary.Pairs, InteractionMethod.Memorize),
            "factorize" => InteractionPlan.All(vocabulary.Pairs, InteractionMethod.Factorize),
            "naive" => InteractionPlan.All(vocabulary.Pairs, InteractionMethod.Naive),
            "random" => InteractionPlan.Random(vocabulary.Pairs, run.Seed),
            _ => Search(run, arm, data, vocabulary, network, options),
        };
        run.Tensor("methods", tensor(plan.Choices.Select(c => (long)c.Method).ToArray()));
        run.Metric("cross_parameters", plan.ParameterCount(vocabulary, options.CrossDim));
        run.Metric("cross_share", plan.ParameterCount(vocabulary, options.CrossDim) / (double)InteractionPlan.All(vocabulary.Pairs, InteractionMethod.Memorize).ParameterCount(vocabulary, options.CrossDim));

        Runtime.Seeds.Set(Runtime.Seeds.Derive(run.Seed, 2)); // All plans of a seed start alike, whether they were searched for or not.
        var model = new OptInterModel(network, plan, vocabulary);
        model.to(run.Device);
        TrainerOptions settings = Settings(data.Planted is null ? options : options with { Epochs = options.Epochs ?? 3, BatchSize = options.BatchSize ?? 512, Patience = options.Patience ?? 3 }, data);
        var training = new OptInterTraining { LearningRate = options.LearningRate, CrossWeightDecay = options.CrossWeightDecay, BatchSize = settings.BatchSize, Epochs = settings.Epochs, Patience = settings.EarlyStopping!.Patience };
        TrainingHistory history = OptInter.Retrain(model, data.Train.Ids, data.Train.Values, data.Train.Target, training, data.Task, m => Evaluate(m, data, data.Valid), run.Trainer, run.Device, run.Cancellation);
        double validation = Record(run, model, data, history);
        run.Metric("rows_per_second", Rate(model, data));
        if (save) run.SaveModel($"{arm}-{run.Seed}", model.state_dict(), OptInterDescription.Of(model, data.Task, data.Fields) with { Schema = data.Schema, Validation = validation });
    }

    private static InteractionPlan Search(ArmRun run, string arm, TabularDataset data, CrossVocabulary vocabulary, OptInterOptions network, OptinterRecipeOptions options)
    {
        TabularRows rows = data.Train;
        int epochs = options.SearchEpochs, batch = options.SearchBatchSize ?? (data.Planted is not null ? MostSearchBatch : (int)Math.Clamp(rows.Count / SearchSteps, LeastSearchBatch, MostSearchBatch));
        SearchMode? mode = arm switch { "bi-level" => SearchMode.BiLevel, "repeated" => SearchMode.Joint, _ => options.SearchMode };
        if (arm == "repeated")
        {
            rows = rows.Select(arange(Math.Min(rows.Count, Math.Max(100, rows.Count * RepeatedRows / TrainRows)), ScalarType.Int64));
            epochs = RepeatedEpochs;
        }
        var search = new OptInterSearchOptions
        {
            LearningRate = options.SearchLearningRate, ArchLearningRate = options.ArchLearningRate, CrossWeightDecay = options.CrossWeightDecay, BatchSize = batch, Epochs = epochs,
            TauRate = options.TauRate, TauMin = options.TauMin, Mode = mode, Relaxation = arm == "gumbel" ? Relaxation.GumbelSoftmax : Relaxation.AnnealedSoftmax,
        };
        // Rows that repeat in one level: stop as the authors do, when an epoch does not improve; but not the control, which shows what happens then.
        bool stop = search.EffectiveMode == SearchMode.Joint && epochs > 1 && arm != "repeated";
        OptInterSearch found = OptInter.Search(network, vocabulary, rows.Ids, rows.Values, rows.Target, search, data.Task, stop ? m => Evaluate(m, data, data.Valid) : null, run.Trainer, run.Device, run.Cancellation);
        run.Tensor("alpha", found.Alpha);
        run.Tensor("trajectory", found.Trajectory);
        run.Metric("search_epochs", found.History.Series.Values.First().Length);
        run.Metric("search_seconds", found.History.Seconds);
        run.Metric("search_levels", found.Mode == SearchMode.Joint ? 1 : 2);
        run.Metric("rows_repeat", found.RowsRepeat ? 1 : 0);
        return found.Plan;
    }

    /// <summary>Rows scored in a second, in blocks as apply reads them, on the device of the model.</summary>
    private static double Rate(OptInterModel model, TabularDataset data)
    {
        TabularLearner.Logits(model, data.Test.Ids, data.Test.Values).Dispose();
        long start = System.Diagnostics.Stopwatch.GetTimestamp();
        TabularLearner.Logits(model, data.Test.Ids, data.Test.Values).cpu().Dispose();
        return data.Test.Count / System.Diagnostics.Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static InteractionMethod[] Methods(ArmResult run) => [.. run.Tensor("methods").data<long>().Select(m => (InteractionMethod)m)];

    private static string Name(InteractionMethod method) => method switch { InteractionMethod.Memorize => "memorized", InteractionMethod.Factorize => "factorized", _ => "naive" };

    private static double[] Naive(ArmResult run)
    {
        using DisposeScope scope = NewDisposeScope();
        return run.Tensor("alpha").to(ScalarType.Float64).softmax(1).select(1, (long)InteractionMethod.Naive).contiguous().data<double>().ToArray();
    }

    private static void ReportScatter(RunContext context, TabularDataset data, Dictionary<string, ArmResult[]> results)
        => context.Figure("parameters", $"Test {data.Task.Metric} against the parameters of the interactions; a dot is a seed.",
            Charts.Scatter($"{data.Name}: figure against size", "parameters of the interactions", $"test {data.Task.Metric}", [.. results.Select(r => (r.Key, r.Value.Select(a => a["cross_parameters"]).ToArray(), r.Value.Select(a => a[data.Task.Metric]).ToArray()))]));

    private static void ReportPlanted(RunContext context, TabularDataset data, IReadOnlyList<FieldPair> pairs, Dictionary<string, ArmResult[]> results)
    {
        bool[] planted = [.. pairs.Select(p => data.Planted!.Any(q => q[0] == p.First && q[1] == p.Second))];
        int Count(ArmResult run, bool interacting, InteractionMethod method) => Methods(run).Where((m, p) => planted[p] == interacting && m == method).Count();
        string[] searched = [.. Searched.Where(results.ContainsKey)];
        string All(string arm, bool interacting, InteractionMethod method) => string.Join(", ", results[arm].Select(r => Count(r, interacting, method)));
        if (searched.Length > 0)
            context.Table("searches", "What each search called the 6 pairs that interact and the 9 that do not, seed by seed", ["search", "interacting: memorize", "factorize", "naive", "null: memorize", "factorize", "naive", "seconds"],
                [.. searched.Select(arm => (IReadOnlyList<string>)[arm, .. Kinds.SelectMany(i => Enum.GetValues<InteractionMethod>().Select(m => All(arm, i, m))), Numbers.MeanAndDeviation(results[arm], "search_seconds", "F1")])]);
        if (results.TryGetValue("optinter", out ArmResult[]? found))
        {
            double[] kept = [.. found.Select(r => 6.0 - Count(r, true, InteractionMethod.Naive))], naive = [.. found.Select(r => (double)Count(r, false, InteractionMethod.Naive))], share = [.. found.Select(r => r["cross_share"])];
            context.Check("planted-kept", kept.Min(), Comparison.AtLeast, 5, kept);
            context.Check("null-naive", naive.Min(), Comparison.AtLeast, 8, naive);
            context.Check("parameters", share.Max(), Comparison.AtMost, 0.6, share);
        }
        var curves = new List<Curve>();
        foreach (string arm in searched.Where(a => a is "optinter" or "repeated"))
            foreach (bool interacting in Kinds)
                curves.Add(Trajectory($"{(arm == "optinter" ? "one pass" : $"{RepeatedEpochs} passes over {data.Train.Count * RepeatedRows / TrainRows:N0} rows")}, {(interacting ? "interacting" : "null")} pairs", results[arm], p => planted[p] == interacting, dashed: arm == "repeated"));
        if (curves.Count > 0)
            context.Figure("one-pass", "Why the search sees each row once: weight of the naive method (at temperature 1) over the search, mean over pairs and seeds with its range. That of null pairs should rise. Rows that repeat make memorizing look useful for every pair.",
                Charts.Lines("Weight of the naive method", "share of the search", "softmax(alpha), naive", curves));
    }

    /// <summary>Weight of the naive method over the search: a curve for each chosen pair and seed.</summary>
    private static Curve Trajectory(string label, IEnumerable<ArmResult> runs, Func<int, bool> chosen, bool dashed = false)
    {
        using DisposeScope scope = NewDisposeScope();
        List<IReadOnlyList<double>> lines = [];
        int points = 0;
        foreach (ArmResult run in runs)
        {
            Tensor naive = run.Tensor("trajectory").to(ScalarType.Float64).select(2, (long)InteractionMethod.Naive); // [points, pairs]
            points = (int)naive.size(0);
            for (int p = 0; p < naive.size(1); p++)
                if (chosen(p)) lines.Add(naive.select(1, p).contiguous().data<double>().ToArray());
        }
        return new Curve(label, [.. Enumerable.Range(1, points).Select(i => (double)i / points)], lines, dashed);
    }

    private static void ReportPairs(RunContext context, TabularDataset[] data, IReadOnlyList<FieldPair> pairs, ArmResult[] found)
    {
        TabularDataset first = data[0];
        double[][] naive = [.. found.Select(Naive)];
        InteractionMethod[][] methods = [.. found.Select(Methods)];
        (double Pair, double Alone)[] information = Information(first, pairs);
        string[] names = [.. pairs.Select(p => $"{first.Fields[p.First]} x {first.Fields[p.Second]}")];
        string Votes(int p) => string.Join(", ", methods.GroupBy(m => m[p]).OrderByDescending(g => g.Count()).Select(g => Name(g.Key) + (methods.Length == 1 ? "" : $" {g.Count()}")));
        int[] order = [.. Enumerable.Range(0, pairs.Count).OrderBy(p => naive.Average(n => n[p]))];
        string[] header = ["pair", "method (seeds)", "weight of naive", "MI of the pair with the target (mnat)", "MI of its columns alone (mnat)"];
        string[] Row(int p, string format) => [names[p], Votes(p), Numbers.Text(naive.Average(n => n[p]), format), Numbers.Text(1000 * information[p].Pair, format), Numbers.Text(1000 * information[p].Alone, format)];
        string[] planted = [.. pairs.Select(p => first.Planted is null ? "" : first.Planted.Any(q => q[0] == p.First && q[1] == p.Second) ? "interacts" : "null")];
        if (first.Planted is not null) header = [.. header, "by construction"];
        IReadOnlyList<string> Whole(int p, string format) => first.Planted is null ? Row(p, format) : [.. Row(p, format), planted[p]];
        Csv.Write(context.OutputPath("interactions.csv"), header, order.Select(p => Whole(p, "G6")));
        context.Table("interactions", $"Pairs of columns of {first.Name}{(pairs.Count > 30 ? ", the 30 least ignored" : "")}: the method that the search chose, and the mutual information with the target{(first.Planted is null ? "" : $" on the rows of seed {context.Seeds[0]}")}, less what chance gives",
            header, [.. order.Take(30).Select(p => Whole(p, "F3"))]);
        for (int i = 0; i < found.Length; i++)
        {
            using DisposeScope scope = NewDisposeScope();
            InteractionPlan.From(pairs, found[i].Tensor("alpha")).Save(context.OutputPath($"plan-{found[i].Seed}.json"));
        }

        int m = first.Fields.Count;
        if (m <= 40)
        {
            double[,] map = new double[m, m], bits = new double[m, m];
            for (int i = 0; i < m * m; i++) map[i / m, i % m] = bits[i / m, i % m] = double.NaN;
            for (int p = 0; p < pairs.Count; p++)
            {
                var (a, b) = pairs[p];
                map[a, b] = 1 - naive.Average(n => n[p]);
                if (first.Planted is not null) map[b, a] = planted[p] == "null" ? 0 : 1;
                bits[a, b] = bits[b, a] = 1000 * information[p].Pair;
            }
            context.Figure("pairs", $"Weight of an interaction (1 - weight of naive), mean over seeds{(first.Planted is null ? "" : "; below the diagonal the truth")}.", Charts.Heatmap($"Which pairs interact on {first.Name}", map, "", "", [.. first.Fields], [.. first.Fields]), width: 900, height: 760);
            context.Figure("information", "Mutual information of each pair with the target, in thousandths of a nat, less what chance gives.", Charts.Heatmap($"Mutual information with the target on {first.Name}", bits, "", "", [.. first.Fields], [.. first.Fields]), width: 900, height: 760);
        }
        int Chosen(InteractionMethod method) => methods[0].Count(x => x == method);
        context.Note($"Of {pairs.Count} pairs the search (seed {found[0].Seed}, {found[0]["search_epochs"]:F0} epoch{(found[0]["search_epochs"] > 1 ? "s" : "")}, {(found[0]["search_levels"] > 1 ? "two levels" : "one level")}) memorizes {Chosen(InteractionMethod.Memorize)}, factorizes {Chosen(InteractionMethod.Factorize)} and ignores {Chosen(InteractionMethod.Naive)}: "
            + $"{Numbers.Text(found[0]["cross_share"], "P0")} of the parameters of memorizing all.");
        if (first.Planted is null && first.Train.Count < FewRows)
            context.Note($"{first.Train.Count:N0} training rows are few for a search: trust the order of the pairs by their weight of naive more than the method itself, and compare the plans on the validation rows.");
        if (found.Any(r => r["rows_repeat"] > 0)) context.Note("The search saw rows more than once in one level: then memorizing looks useful for every pair. Leave out search-mode=joint, or use one epoch.");
    }

    /// <summary>Mutual information of each pair with the target in nats, and of its two columns one by one, less the bias (cells - 1)(classes - 1) / 2n of frequencies; on training rows.</summary>
    private static (double Pair, double Alone)[] Information(TabularDataset data, IReadOnlyList<FieldPair> pairs)
    {
        using DisposeScope scope = NewDisposeScope();
        TabularRows rows = data.Train;
        long n = Math.Min(rows.Count, InformationRows);
        Tensor ids = rows.Ids.narrow(0, 0, n), target = rows.Target.narrow(0, 0, n);
        if (data.Task.Kind == TargetKind.Regression)
            target = bucketize(target.to(ScalarType.Float32).contiguous(), target.to(ScalarType.Float32).quantile(linspace(0, 1, RegressionBuckets + 1).narrow(0, 1, RegressionBuckets - 1)));
        target = target.to(ScalarType.Int64);
        int classes = (int)target.unique().Item1.numel();
        double Of(Tensor code) => MutualInformation.Matrix(stack([code, target], 1))[0, 1] - (code.unique().Item1.numel() - 1.0) * (classes - 1) / (2.0 * n);
        double[] alone = [.. Enumerable.Range(0, data.Fields.Count).Select(f => pairs.Any(p => p.First == f || p.Second == f) ? Of(ids.select(1, f)) : 0)];
        return [.. pairs.Select(p => (Of(ids.select(1, p.First) * data.Ids + ids.select(1, p.Second)), alone[p.First] + alone[p.Second]))];
    }

    private static void Compare(RunContext context, Dictionary<string, ArmResult[]> results, TabularDataset data, bool generated)
    {
        if (!results.TryGetValue("optinter", out ArmResult[]? found)) return;
        string metric = data.Task.Metric;
        foreach (var (arm, baseline) in results.Where(r => r.Key != "optinter"))
        {
            var (claim, margin) = arm switch { "memorize" => ("above-memorized", 0.0005), "factorize" => ("above-factorized", 0.03), _ => (null, 0) };
            context.Compare(generated ? claim : null, $"optinter - {arm}", found, baseline, metric, margin);
        }
        if (!generated || !results.TryGetValue("memorize", out ArmResult[]? memorized)) return;
        double[] differences = [.. found.Zip(memorized, (a, b) => a[metric] - b[metric])];
        context.Check("with-memorized", differences.Min(), Comparison.AtLeast, -0.0005, differences);
    }
}
