using System.Globalization;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.ClickThrough;

/// <summary>Options of <see cref="OptfsRecipe"/>.</summary>
public sealed record OptfsRecipeOptions : ClickOptions
{
    /// <summary>The base model.</summary>
    [Option("Base model.", Choices = ["fm", "deep-fm", "dcn", "ipnn", "dnn", "dcn-v2"])]
    public string Model { get; init; } = "deep-fm";

    /// <summary>Variants of the method.</summary>
    [Option("Variants beside the method: the true set (generated data only), random and lottery-ticket initialisation, no retraining; by default all on the generated log, none elsewhere.", Choices = ["oracle", "random", "lottery", "no-retrain"])]
    public IReadOnlyList<string>? Variants { get; init; }

    /// <summary>Further base models.</summary>
    [Option("Further base models, with and without OptFS, to compare; by default fm, dcn and ipnn, on own data none.", Choices = ["fm", "deep-fm", "dcn", "ipnn", "dnn", "dcn-v2"])]
    public IReadOnlyList<string>? FurtherModels { get; init; }

    /// <summary>Penalty.</summary>
    [Option("Penalty lambda: what a value must save of the mean loss to be kept; by default 0.6 / training rows.", Min = 0)]
    public double? Lambda { get; init; }

    /// <summary>Sweep.</summary>
    [Option("Lambdas of the trade-off between the size of the set and the figure of merit, as multiples of lambda.", Min = 0)]
    public IReadOnlyList<double> Sweep { get; init; } = [1 / 3.0, 10 / 3.0];

    /// <summary>Final temperature.</summary>
    [Option("Temperature of the last search epoch.", Min = 1)]
    public double FinalTemperature { get; init; } = 200;

    /// <summary>Search epochs.</summary>
    [Option("Search epochs; by default 8 on the generated log, 20 elsewhere.", Min = 2)]
    public int? SearchEpochs { get; init; }

    /// <summary>Rewind epoch.</summary>
    [Option("Search epoch, from 0, at whose beginning the weights are kept to retrain from.", Min = 0)]
    public int RewindEpoch { get; init; } = 1;

    /// <summary>Learning rate of the gates.</summary>
    [Option("Adam's learning rate of the gates; by default 0.01 on the generated log, whose search is short, elsewhere that of the weights, as in the paper.", Min = 1e-8)]
    public double? GateLearningRate { get; init; }

    /// <summary>Normalisation.</summary>
    [Option("What follows each hidden layer of the MLPs.")]
    public Normalization Normalization { get; init; } = Normalization.None;

    /// <summary>Rare values.</summary>
    [Option("Own tables: values with fewer training rows share one id of their column.", Min = 1)]
    public int MinimumFrequency { get; init; } = 1;

    /// <summary>The authors' settings.</summary>
    [Option("The authors' learning rate, weight decay, lambda, temperature, search and rewind epochs for a dataset; they replace these options.", Choices = ["none", "criteo", "avazu", "kdd12"])]
    public string Published { get; init; } = "none";

    /// <summary>Real data.</summary>
    [Option("Also search Frappe where it is present, to report.")]
    public bool Frappe { get; init; }

    /// <inheritdoc/>
    public override void Validate()
    {
        base.Validate();
        int epochs = SearchEpochs ?? OptfsRecipe.ShortSearch;
        if (RewindEpoch >= epochs) throw new BadInputException($"Option 'rewind-epoch' is {RewindEpoch}; it must be below search-epochs, {epochs}.");
        if (FurtherModels?.Contains(Model) == true) throw new BadInputException($"Option 'further-models' names the base model {Model} again.");
        if (Published != "none" && ((FurtherModels ?? []).Append(Model).Any(m => m is "dnn" or "dcn-v2"))) throw new BadInputException("Option 'published' has settings for fm, deep-fm, dcn and ipnn.");
    }

    /// <summary>The library's settings for a model and a dataset.</summary>
    internal OptFsOptions Search(BackboneKind kind, TabularDataset data) => Published != "none" ? OptFsOptions.Published(Published, kind) : new OptFsOptions
    {
        Lambda = Lambda ?? OptfsRecipe.LossPerValue / data.Train.Count,
        FinalTemperature = FinalTemperature,
        SearchEpochs = SearchEpochs ?? (OptfsRecipe.IsGenerated(data) ? OptfsRecipe.ShortSearch : 20),
        RewindEpoch = RewindEpoch,
        LearningRate = LearningRate,
        GateLearningRate = GateLearningRate ?? (OptfsRecipe.IsGenerated(data) ? 1e-2 : null),
        WeightDecay = WeightDecay,
    };
}

/// <summary>OptFS on logs whose useful values are known, on Frappe, and on the user's own table.</summary>
public sealed class OptfsRecipe : ClickRecipe<OptfsRecipeOptions>
{
    // lambda * training rows: what a value must save of the summed loss. The card's working point, 3e-5 at 20,000 rows; the authors' 1e-8 .. 2e-9 on Criteo's 3.7e7 rows are 0.07 .. 0.4.
    internal const double LossPerValue = 0.6;
    internal const int ShortSearch = 8;
    private const int GeneratedRows = 30_000, HistogramBins = 24, FieldsShown = 40;
    private const double HistogramLow = -1.2, HistogramHigh = 1.2;
    private const string Generated = "useful-value log";
    private static readonly string[] s_variants = ["oracle", "random", "lottery", "no-retrain"], s_models = ["fm", "dcn", "ipnn"];

    /// <inheritdoc/>
    public override string Id => "optfs";

    /// <inheritdoc/>
    public override string Title => "OptFS";

    /// <inheritdoc/>
    public override string Summary => "Finds which values of which columns a click model needs, and leaves a smaller model without the others.";

    /// <inheritdoc/>
    public override Paper Paper => new("Optimizing Feature Set for Click-Through Rate Prediction", "Lyu, Tang, Liu, Chen, He, Liu", "WWW", 2023, "https://arxiv.org/abs/2301.10909");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("small-set", "OptFS keeps at most 55 % of the values."),
        new("useful-values", "The share of useful values that OptFS keeps is at least twice the share of noise values that it keeps."),
        new("auc", "OptFS's mean test AUC is at least that of the base model with all values."),
        new("auc-each-seed", "In every seed, OptFS's test AUC is at most 0.001 below that of the base model."),
        new("monotone", "The larger lambda is, the fewer values are kept (largest rise of the kept share from one lambda to the next)."),
    ];

    /// <inheritdoc/>
    public override OptfsRecipeOptions Defaults(Budget budget)
    {
        var full = new OptfsRecipeOptions
        {
            EmbeddingDim = 8, MlpHidden = [64, 32], LearningRate = 2e-3, WeightDecay = 1e-6, Numbers = FieldKind.Quantiles, Frappe = true,
        };
        return budget switch
        {
            Budget.Smoke => full with { Rows = 9000, SearchEpochs = 4, Epochs = 3, Frappe = false },
            Budget.Paper => full with { Published = "criteo", EmbeddingDim = 16, MlpHidden = [1024, 512, 256], BatchSize = 4096, Sweep = [], Frappe = false, Numbers = FieldKind.LogSquares, MinimumFrequency = 2 },
            _ => full,
        };
    }

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Full ? [0, 1, 2, 3, 4] : base.Seeds(budget);

    /// <inheritdoc/>
    public override void Run(OptfsRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        if (context.Data is not null)
        {
            TabularDataset own = TabularDataset.Read(Id, context.Data, options.Columns with { MinimumFrequency = options.MinimumFrequency }, options.Rows);
            Study(context, options, [.. context.Seeds.Select(_ => own)], useful: null);
            return;
        }
        if (context.Budget == Budget.Paper) throw new BadInputException("The paper's data do not come with Priori: give the Criteo, Avazu or KDD12 log with --data and --target.");
        var logs = context.Seeds.Select(seed => Generate(options.Rows > 0 ? options.Rows : GeneratedRows, seed)).ToArray();
        Study(context, options, [.. logs.Select(l => l.Data)], [.. logs.Select(l => l.Useful)]);
        if (!options.Frappe) return;
        if (context.DataFolder.Find(TabularDataset.Frappe) is { } folder)
        {
            TabularDataset frappe = TabularDataset.ReadFrappe(folder, options.Rows) with { Report = true };
            Study(context, options with { FurtherModels = [], Variants = options.Variants ?? [] }, [.. context.Seeds.Select(_ => frappe)], useful: null);
        }
        else context.Note("Frappe is not in the data folder; the run on real data was left out.");
    }

    internal static bool IsGenerated(TabularDataset data) => !data.Own && data.Name == Generated;

    /// <summary>A generated log, split 20 : 4 : 6 in the order of its independent rows, and which of its values are useful.</summary>
    private static (TabularDataset Data, bool[] Useful) Generate(int rows, int seed)
    {
        UsefulValueLogData log = UsefulValueLog.Generate(rows, seed);
        var all = new TabularRows(log.Ids, ones_like(log.Ids, ScalarType.Float32), log.Labels);
        long train = rows * 20L / 30, valid = rows * 4L / 30;
        TabularRows Part(long start, long count) => all.Select(arange(start, start + count, ScalarType.Int64));
        string[] fields = [.. Enumerable.Range(1, (int)log.Ids.size(1)).Select(f => $"column{f}")];
        bool[] useful = [.. log.Useful.data<bool>()];
        return (new TabularDataset(Generated, $"generated log of {fields.Length} columns of {useful.Length / fields.Length} values, about a third of which are useful, {train} training, {valid} validation and {rows - train - valid} test rows (other effects in each seed)",
            fields, useful.Length, TabularTask.Binary, null, null, (Part(0, train), Part(train, valid), Part(train + valid, rows - train - valid))), useful);
    }

    /// <summary>Trains the base model and OptFS with all its variants on one dataset, and reports.</summary>
    /// <param name="context">The run.</param>
    /// <param name="options">Its options.</param>
    /// <param name="data">The dataset of each seed.</param>
    /// <param name="useful">Which ids are useful, of each seed; null where that is not known.</param>
    private static void Study(RunContext context, OptfsRecipeOptions options, TabularDataset[] data, bool[][]? useful)
    {
        context.UsedData(data[0].Description);
        IReadOnlyList<string> variants = options.Variants ?? (data[0].Own ? [] : s_variants);
        IReadOnlyList<string> models = options.FurtherModels ?? (data[0].Own ? [] : [.. s_models.Where(m => m != options.Model)]);
        string prefix = data[0].Report ? $"{data[0].Name} " : "";
        double lambda = options.Search(Kind(options.Model), data[0]).Lambda;
        List<Arm> arms = [new("backbone", options.Model, "backbone", lambda), new("optfs", options.Model, "optfs", lambda)];
        arms.AddRange(variants.Where(v => v != "oracle" || useful is not null).Select(v => new Arm(v is "random" or "lottery" ? $"optfs-{v}" : v, options.Model, v, lambda)));
        arms.AddRange(options.Sweep.Select(factor => new Arm(string.Create(CultureInfo.InvariantCulture, $"optfs lambda {lambda * factor:G2}"), options.Model, "optfs", lambda * factor)));
        foreach (string model in models)
        {
            double own = options.Search(Kind(model), data[0]).Lambda;
            arms.AddRange([new Arm(model, model, "backbone", own), new Arm($"{model}+optfs", model, "optfs", own)]);
        }
        Dictionary<string, ArmResult[]> results = arms.DistinctBy(a => a.Name).ToDictionary(arm => arm.Name, arm => context.Seeds
            .Select((seed, i) => context.Arm(prefix + arm.Name, seed, run => Train(run, arm, data[i], options, useful?[i]))).ToArray());

        string metric = data[0].Task.Metric;
        List<(string, Func<ArmResult[], string>)> further = [("values kept", r => Share(r, "keep_ratio")), ("model bytes", r => Numbers.MeanAndDeviation(r, "bytes", "N0"))];
        if (useful is not null) further.AddRange([("useful kept", r => Share(r, "kept_useful")), ("noise kept", r => Share(r, "kept_noise"))]);
        ReportModels(context, data[0], results, further);
        string label = prefix.Length == 0 ? "" : $"{data[0].Name}: ";
        context.Compare(useful is null ? null : "auc", $"{label}optfs - backbone", results["optfs"], results["backbone"], metric);
        foreach (string name in results.Keys.Where(n => n is not ("optfs" or "backbone") && !models.Contains(n)))
        {
            string baseline = name.EndsWith("+optfs", StringComparison.Ordinal) ? name[..^"+optfs".Length] : name.StartsWith("optfs lambda", StringComparison.Ordinal) || name == "oracle" ? "backbone" : "optfs";
            context.Compare(null, $"{label}{name} - {baseline}", results[name], results[baseline], metric);
        }
        var sweep = arms.Where(a => a.Variant == "optfs" && a.Model == options.Model).OrderBy(a => a.Lambda).Select(a => (a.Lambda, Runs: results[a.Name])).ToArray();
        if (useful is not null) CheckClaims(context, results, sweep);
        Draw(context, data, results, sweep, useful);
        ReportSet(context, data[0], results);
    }

    private static void Train(ArmRun run, Arm arm, TabularDataset data, OptfsRecipeOptions options, bool[]? useful)
    {
        BackboneKind kind = Kind(arm.Model);
        OptFsOptions search = options.Search(kind, data) with { Lambda = arm.Lambda };
        var backbone = new BackboneOptions
        {
            Fields = data.Fields.Count, EmbeddingDim = options.EmbeddingDim, Outputs = data.Task.Outputs, MlpHidden = options.MlpHidden, Dropout = options.Dropout,
            Normalization = options.Normalization, FirstOrder = false,
        };
        TrainerOptions settings = data.Own ? Settings(options, data) : new TrainerOptions
        {
            Epochs = options.Epochs ?? 20,
            BatchSize = options.BatchSize ?? 512,
            EarlyStopping = new EarlyStopping(data.Task.Metric, options.Patience ?? (IsGenerated(data) ? 1 : 5)),
        };
        TensorSource train = data.Train.Source();
        ClickModel model = Build(gated: arm.Variant != "backbone");
        if (arm.Variant is "backbone" or "oracle")
        {
            if (arm.Variant == "oracle") OptFs.Fix(FeatureGate.Of(model), where(tensor(useful!), 0.5f, -0.5f).to(run.Device));
            var learner = new OptFsLearner(model, data.Task, search);
            TrainingHistory history = run.Trainer(settings).Fit(learner, train, _ => Evaluate(model, data, data.Valid), run.Cancellation);
            Record(run, model, data, history);
            run.Metric("keep_ratio", useful is null || arm.Variant == "backbone" ? 1 : useful.Average(u => u ? 1.0 : 0));
            run.Metric("kept_useful", 1);
            run.Metric("kept_noise", arm.Variant == "backbone" ? 1 : 0);
            Sizes(run, arm.Variant == "backbone" ? model : OptFs.Export(model));
            return;
        }

        FeatureGate gate = FeatureGate.Of(model);
        using FeatureSetResult found = OptFs.Search(model, data.Task, train, search, settings, Watch, run.Trainer, run.Cancellation);
        foreach (var (name, values) in found.History.Series) run.Series($"search {name}", [.. Enumerable.Range(1, values.Length).Select(e => (double)e)], values);
        run.Metric("search_ms_per_step", 1000 * found.History.Seconds / found.History.Steps);
        run.Metric("keep_ratio", found.KeepRatio);
        run.Tensor("gamma", found.Gamma);
        if (useful is not null)
        {
            IReadOnlyList<bool> keep = found.Keep;
            run.Metric("kept_useful", keep.Where((_, id) => useful[id]).Average(k => k ? 1.0 : 0));
            run.Metric("kept_noise", keep.Where((_, id) => !useful[id]).Average(k => k ? 1.0 : 0));
        }
        if (found.KeepRatio == 0)
            throw new BadInputException(string.Create(CultureInfo.InvariantCulture, $"lambda {arm.Lambda:G3} is too large: no value is left. Lower it with --set lambda=... (or the largest of --set sweep=...)."));

        RetrainInit init = arm.Variant switch { "random" => RetrainInit.Random, "lottery" => RetrainInit.LotteryTicket, "no-retrain" => RetrainInit.None, _ => RetrainInit.Customised };
        if (init == RetrainInit.Random) model = Build(gated: true);
        TrainingHistory? retrained = OptFs.Retrain(model, found, init, data.Task, train, search, settings, _ => Evaluate(model, data, data.Valid), run.Trainer, run.Cancellation);
        Record(run, model, data, retrained ?? found.History with { BestEpoch = search.SearchEpochs });
        ClickModel pruned = OptFs.Export(model);
        Sizes(run, pruned);
        run.Metric("export_error", Difference(model, pruned, data.Test));
        if (arm.Name == "optfs" && !data.Report)
        {
            run.SaveModel($"optfs-{run.Seed}", pruned.state_dict(), new PrunedDescription
            {
                Task = data.Task, Fields = data.Fields, Ids = data.Ids, Schema = data.Schema, Validation = Evaluate(model, data, data.Valid)[data.Task.Metric],
                Kind = kind, Backbone = backbone, Kept = ((PrunedEmbedding)pruned.Embedding).Kept.size(0),
            });
        }

        ClickModel Build(bool gated)
        {
            ClickModel plain = ClickModel.Create(kind, backbone, data.Ids);
            ClickModel built = gated ? new ClickModel(new GatedEmbedding(plain.Embedding, new FeatureGate(data.Ids)), plain.Backbone) : plain;
            built.to(run.Device);
            return built;
        }

        IReadOnlyDictionary<string, double> Watch(int epoch)
        {
            var figures = new Dictionary<string, double>(Evaluate(model, data, data.Valid));
            using DisposeScope scope = NewDisposeScope();
            Tensor gamma = gate.Weight.detach().cpu();
            long[] bins = [.. gamma.sub(HistogramLow).mul(HistogramBins / (HistogramHigh - HistogramLow)).floor().clamp(0, HistogramBins - 1).to(ScalarType.Int64).bincount(null, minlength: HistogramBins).data<long>()];
            for (int b = 0; b < HistogramBins; b++) figures[$"bin {b}"] = bins[b] / (double)data.Ids;
            if (useful is null) return figures;
            Tensor mask = tensor(useful);
            (figures["gamma useful"], figures["gamma noise"]) = (gamma[mask].mean().ToDouble(), gamma[mask.logical_not()].mean().ToDouble());
            return figures;
        }
    }

    private static void CheckClaims(RunContext context, Dictionary<string, ArmResult[]> results, (double Lambda, ArmResult[] Runs)[] sweep)
    {
        ArmResult[] optfs = results["optfs"], backbone = results["backbone"];
        double[] kept = [.. optfs.Select(r => r["keep_ratio"])], differences = [.. optfs.Zip(backbone, (a, b) => a["auc"] - b["auc"])];
        context.Check("small-set", kept.Average(), Comparison.AtMost, 0.55, kept);
        context.Check("useful-values", optfs.Average(r => r["kept_useful"]) / optfs.Average(r => r["kept_noise"]), Comparison.AtLeast, 2, [.. optfs.Select(r => r["kept_useful"] / r["kept_noise"])]);
        context.Check("auc-each-seed", differences.Min(), Comparison.AtLeast, -0.001, differences);
        if (sweep.Length < 2) return;
        double Rise(Func<ArmResult[], double> ratio) => Enumerable.Range(1, sweep.Length - 1).Max(i => ratio(sweep[i].Runs) - ratio(sweep[i - 1].Runs));
        context.Check("monotone", Rise(runs => runs.Average(r => r["keep_ratio"])), Comparison.AtMost, 0, [.. Enumerable.Range(0, optfs.Length).Select(s => Rise(runs => runs[s]["keep_ratio"]))]);
    }

    private static void Draw(RunContext context, TabularDataset[] data, Dictionary<string, ArmResult[]> results, (double Lambda, ArmResult[] Runs)[] sweep, bool[][]? useful)
    {
        TabularDataset first = data[0];
        string metric = first.Task.Metric, suffix = first.Report ? $"-{first.Name}" : "";
        ArmResult[] optfs = results["optfs"];
        double[] Kept(ArmResult[] runs) => [.. runs.Select(r => r["keep_ratio"])];
        double[] Figures(ArmResult[] runs) => [.. runs.Select(r => r[metric] - results["backbone"].First(b => b.Seed == r.Seed)[metric])];
        var groups = sweep.Select(s => (string.Create(CultureInfo.InvariantCulture, $"lambda {s.Lambda:G2}"), Kept(s.Runs), Figures(s.Runs))).ToList();
        if (results.TryGetValue("oracle", out ArmResult[]? oracle)) groups.Add(("true set", Kept(oracle), Figures(oracle)));
        groups.Add(("all values", Kept(results["backbone"]), Figures(results["backbone"])));
        context.Figure($"pareto{suffix}", $"What dropping values costs on {first.Name}: test {metric} above that of the base model with all values of the same seed, against the share of values kept; a dot is a seed.",
            Charts.Scatter($"{metric} against the size of the set", "share of values kept", $"{metric} - {metric} of the base model", groups));

        if (useful is not null)
        {
            double[] epochs = optfs[0].Series("search gamma useful").X;
            Curve Of(string label, string series, bool dashed = false) => new(label, epochs, [.. optfs.Select(r => (IReadOnlyList<double>)r.Series(series).Y)], dashed);
            context.Figure("trajectories", "Mean gate parameter of the useful and of the noise values at the end of each search epoch, mean over seeds with the range; gates above 0 stay open. All start at 0.5.",
                Charts.Lines("Gates during the search", "search epoch", "mean gamma", [Of("useful", "search gamma useful"), Of("noise", "search gamma noise", dashed: true)]));
        }

        double[][] bins = [.. Enumerable.Range(0, HistogramBins).Select(b => optfs[0].Series($"search bin {b}").Y)];
        var histogram = new double[HistogramBins, bins[0].Length];
        for (int b = 0; b < HistogramBins; b++)
            for (int e = 0; e < bins[0].Length; e++) histogram[HistogramBins - 1 - b, e] = bins[b][e];
        double Edge(int b) => HistogramLow + (b * (HistogramHigh - HistogramLow) / HistogramBins);
        context.Figure($"gate-histogram{suffix}", $"Share of the gates with each gamma after each search epoch on {first.Name}, seed {optfs[0].Seed}; the outermost rows hold all beyond.",
            Charts.Heatmap("Gates over the search", histogram, "search epoch", "gamma (lower edge)", [.. Enumerable.Range(1, bins[0].Length).Select(e => $"{e}")], [.. Enumerable.Range(0, HistogramBins).Reverse().Select(b => Numbers.Text(Edge(b), "0.0"))]));

        // By column and by frequency, over all seeds.
        var vocabularies = data.Distinct().ToDictionary(d => d, d => new Vocabulary(d));
        int fields = Math.Min(FieldsShown, first.Fields.Count);
        IReadOnlyList<double>[] byField = [.. Enumerable.Range(0, fields).Select(f => (IReadOnlyList<double>)[.. optfs.Select((r, s) => Vocabulary.Kept(r.Tensor("gamma"), id => vocabularies[data[s]].Field[id] == f))])];
        context.Figure($"kept-by-column{suffix}", $"Share of each column's values that OptFS keeps on {first.Name}; a dot is a seed.{(useful is null ? "" : " The last four columns hold no useful value.")}",
            Charts.Bars("Values kept by column", "share of values kept", [.. Enumerable.Range(0, fields).Select(f => (first.Fields[f], byField[f]))]), width: 1100);
        double[] edges = [0, .. Enumerable.Range(0, 18).Select(i => Math.Pow(2, i))];
        long most = vocabularies.Values.Max(v => v.Frequency.DefaultIfEmpty().Max());
        edges = [.. edges.TakeWhile(e => e <= most)];
        Curve ByFrequency(string label, Func<int, int, bool> which, bool dashed = false) => new(label, [.. Enumerable.Range(0, edges.Length).Select(i => (double)i)], [.. optfs.Select((r, s) => (IReadOnlyList<double>)[.. Enumerable.Range(0, edges.Length)
            .Select(i => Vocabulary.Kept(r.Tensor("gamma"), id => which(s, id) && vocabularies[data[s]].Frequency[id] >= edges[i] && (i + 1 == edges.Length || vocabularies[data[s]].Frequency[id] < edges[i + 1])))])], dashed);
        Curve[] curves = useful is null ? [ByFrequency("all values", (_, _) => true)] : [ByFrequency("useful", (s, id) => useful[s][id]), ByFrequency("noise", (s, id) => !useful[s][id], dashed: true)];
        ScottPlot.Plot plot = Charts.Lines("Values kept by frequency", "training rows with the value, at least", "share of values kept", curves);
        plot.Axes.Bottom.SetTicks([.. Enumerable.Range(0, edges.Length).Select(i => (double)i)], [.. edges.Select(e => Numbers.Text(e, "0"))]);
        context.Figure($"kept-by-frequency{suffix}", $"Share of the values kept against how many training rows have them, on {first.Name}.", plot);
    }

    /// <summary>The set of the best seed: which values, what each column keeps, and columns of which nothing is left.</summary>
    private static void ReportSet(RunContext context, TabularDataset data, Dictionary<string, ArmResult[]> results)
    {
        string metric = data.Task.Metric, suffix = data.Report ? $"-{data.Name}" : "";
        ArmResult best = results["optfs"].MaxBy(r => r["validation"])!, before = results["backbone"].First(r => r.Seed == best.Seed);
        if (IsGenerated(data)) data = Generate((int)(data.Train.Count + data.Valid.Count + data.Test.Count), best.Seed).Data;
        var vocabulary = new Vocabulary(data);
        float[] gamma = [.. best.Tensor("gamma").data<float>()];
        Csv.Write(context.OutputPath($"feature_set{suffix}.csv"), ["field", "value", "frequency", "gamma", "kept"],
            Enumerable.Range(0, gamma.Length).Where(id => vocabulary.Field[id] >= 0).Select(id => (string[])
                [data.Fields[vocabulary.Field[id]], vocabulary.Value(id), $"{vocabulary.Frequency[id]}", Numbers.Text(gamma[id], "G6"), gamma[id] > 0 ? "1" : "0"]));
        var columns = Enumerable.Range(0, data.Fields.Count).Select(f =>
        {
            int[] ids = [.. Enumerable.Range(0, gamma.Length).Where(id => vocabulary.Field[id] == f)];
            long rows = ids.Sum(id => vocabulary.Frequency[id]);
            return (Name: data.Fields[f], Values: ids.Length, Kept: ids.Count(id => gamma[id] > 0), Rows: ids.Where(id => gamma[id] > 0).Sum(id => vocabulary.Frequency[id]) / Math.Max(1.0, rows));
        }).ToArray();
        context.Table($"columns{suffix}", $"What is kept of each column of {data.Name} (seed {best.Seed}, the best on its validation rows)", ["column", "values", "kept", "share kept", "training rows whose value is kept"],
            [.. columns.OrderByDescending(c => c.Rows).Select(c => (IReadOnlyList<string>)[c.Name, $"{c.Values}", $"{c.Kept}", Numbers.Text(c.Kept / Math.Max(1.0, c.Values), "P1"), Numbers.Text(c.Rows, "P1")])]);
        string[] empty = [.. columns.Where(c => c.Kept == 0).Select(c => c.Name)];
        if (empty.Length > 0) context.Note($"{data.Name}: no value is kept of {string.Join(", ", empty)}: {(empty.Length == 1 ? "this column" : "these columns")} can be left out.");
        context.Note($"{data.Name}: {columns.Sum(c => c.Kept)} of {columns.Sum(c => c.Values)} values are kept ({Numbers.Text(best["keep_ratio"], "P1")} of all ids); test {metric} {Numbers.Text(before[metric], "F4")} with all values, {Numbers.Text(best[metric], "F4")} with the kept ones; model {before["bytes"]:N0} -> {best["bytes"]:N0} bytes.");
    }

    private static double Difference(ClickModel model, ClickModel pruned, TabularRows rows)
    {
        using DisposeScope scope = NewDisposeScope();
        return (TabularLearner.Logits(model, rows.Ids, rows.Values) - TabularLearner.Logits(pruned, rows.Ids, rows.Values)).abs().max().ToDouble();
    }

    private static void Sizes(ArmRun run, Module model)
    {
        run.Metric("parameters", model.parameters().Sum(p => p.numel()));
        run.Metric("bytes", model.state_dict().Values.Sum(t => t.numel() * t.element_size()));
    }

    private static string Share(ArmResult[] runs, string metric) => runs[0].Metrics.ContainsKey(metric) ? Numbers.MeanAndDeviation(runs, metric, "P1") : "";

    private static BackboneKind Kind(string model) => model switch
    {
        "fm" => BackboneKind.Fm, "dcn" => BackboneKind.Dcn, "ipnn" => BackboneKind.Ipnn, "dnn" => BackboneKind.Dnn, "dcn-v2" => BackboneKind.DcnV2, _ => BackboneKind.DeepFm,
    };

    private sealed record Arm(string Name, string Model, string Variant, double Lambda);

    /// <summary>The ids of a dataset: the field of each (-1 for one that no row has), and how many training rows have it.</summary>
    private sealed class Vocabulary
    {
        private readonly TabularDataset data;

        public Vocabulary(TabularDataset data)
        {
            this.data = data;
            Frequency = [.. data.Train.Ids.flatten().bincount(null, minlength: data.Ids).data<long>()];
            Field = new int[data.Ids];
            if (data.Schema is { } schema)
            {
                for (int id = 0; id < Field.Length; id++) Field[id] = schema.Locate(id).Field;
                return;
            }
            Array.Fill(Field, -1);
            foreach (TabularRows rows in new[] { data.Test, data.Valid, data.Train })
                for (int f = 0; f < data.Fields.Count; f++)
                    foreach (long id in rows.Ids[.., f].unique().output.data<long>()) Field[id] = f;
        }

        public long[] Frequency { get; }

        public int[] Field { get; }

        public string Value(int id) => data.Schema is { } schema && schema.Locate(id) is var (field, local) ? schema.Fields[field].Meaning(local) : $"{id}";

        /// <summary>Share of the chosen ids whose gamma is above 0; NaN if none is chosen.</summary>
        public static double Kept(Tensor gamma, Func<int, bool> which)
        {
            float[] gates = [.. gamma.data<float>()];
            int[] ids = [.. Enumerable.Range(0, gates.Length).Where(which)];
            return ids.Length == 0 ? double.NaN : ids.Count(id => gates[id] > 0) / (double)ids.Length;
        }
    }
}
