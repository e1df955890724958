using System.Globalization;
using System.Text.Json;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.ClickThrough;

/// <summary>Options of <see cref="ArmNetRecipe"/>.</summary>
public sealed record ArmNetRecipeOptions : RecipeOptions
{
    /// <summary>Models to train.</summary>
    [Option("Models to train; +noise appends fields of random values.", Choices = ["lr", "fm", "dnn", "afn", "afn+", "arm-net", "arm-net-1h", "arm-net+", "dnn+noise", "arm-net+noise"])]
    public IReadOnlyList<string> Arms { get; init; } = ["lr", "fm", "dnn", "afn", "arm-net", "arm-net+", "dnn+noise", "arm-net+noise"];

    /// <summary>Default data.</summary>
    [Option("Default data: frappe, the generated click-log, or auto (frappe where it is present).", Choices = ["auto", "frappe", "click-log"])]
    public string Dataset { get; init; } = "auto";

    /// <summary>Rows used.</summary>
    [Option("Rows of the generated log, and most rows used of other data; 0 is all (60,000 generated).", Min = 0)]
    public int Rows { get; init; }

    /// <summary>Embedding width.</summary>
    [Option("Width of an embedding.", Min = 1)]
    public int EmbeddingDim { get; init; } = 10;

    /// <summary>Heads.</summary>
    [Option("Attention heads K.", Min = 1)]
    public int Heads { get; init; } = 1;

    /// <summary>Neurons of a head.</summary>
    [Option("Exponential neurons o of each head; AFN has as many logarithmic ones in all.", Min = 1)]
    public int Neurons { get; init; } = 32;

    /// <summary>Sparsity.</summary>
    [Option("Sparsity of the gates: 1 softmax, 2 sparsemax.", Min = 1)]
    public double Alpha { get; init; } = 2;

    /// <summary>Heads of ARM-Net+.</summary>
    [Option("Attention heads of ARM-Net+ (the paper's Frappe setting by default).", Min = 1)]
    public int PlusHeads { get; init; } = 4;

    /// <summary>Neurons of a head of ARM-Net+.</summary>
    [Option("Exponential neurons of each head of ARM-Net+.", Min = 1)]
    public int PlusNeurons { get; init; } = 4;

    /// <summary>Sparsity of ARM-Net+.</summary>
    [Option("Sparsity of the gates of ARM-Net+.", Min = 1)]
    public double PlusAlpha { get; init; } = 1.5;

    /// <summary>Hidden widths.</summary>
    [Option("Hidden widths of every MLP.", Min = 1)]
    public IReadOnlyList<long> MlpHidden { get; init; } = [128, 128];

    /// <summary>Dropout.</summary>
    [Option("Dropout probability of every MLP.", Min = 0, Max = 0.99)]
    public double Dropout { get; init; }

    /// <summary>Learning rate.</summary>
    [Option("Adam's learning rate.", Min = 1e-8)]
    public double LearningRate { get; init; } = 3e-3;

    /// <summary>Batch size.</summary>
    [Option("Rows in a batch; by default 1024, on own data a hundredth of the training rows within 32..1024.", Min = 2)]
    public int? BatchSize { get; init; }

    /// <summary>Epochs.</summary>
    [Option("Most epochs; by default 8, on own data 50.", Min = 1)]
    public int? Epochs { get; init; }

    /// <summary>Patience.</summary>
    [Option("Epochs without a better validation figure before training stops; by default 2, on own data 5.", Min = 1)]
    public int? Patience { get; init; }

    /// <summary>Noise fields.</summary>
    [Option("Random fields of the +noise arms.", Min = 1)]
    public int NoiseFields { get; init; } = 4;

    /// <summary>Values of a noise field.</summary>
    [Option("Values of each random field.", Min = 2)]
    public int NoiseValues { get; init; } = 50;

    /// <summary>Encoding of numeric columns.</summary>
    [Option("Own tables: how columns of numbers become fields, one scaled value or quantile buckets.")]
    public FieldKind Numbers { get; init; } = FieldKind.Numeric;

    /// <summary>Scaling of numeric columns.</summary>
    [Option("Own tables: how numbers are scaled.")]
    public NumericScaling Scaling { get; init; } = NumericScaling.MinMax;

    /// <summary>Columns left out.</summary>
    [Option("Own tables: columns to leave out, such as row numbers.")]
    public IReadOnlyList<string> Ignore { get; init; } = [];

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Arms.Count == 0) throw new BadInputException("Option 'arms' needs at least one model.");
        if (Numbers == FieldKind.Categorical) throw new BadInputException("Option 'numbers' is numeric or quantiles.");
    }
}

/// <summary>How a saved model of <see cref="ArmNetRecipe"/> is rebuilt and fed.</summary>
/// <param name="Network">The network.</param>
/// <param name="Task">What its logits mean.</param>
/// <param name="Fields">Names of the fields.</param>
/// <param name="Schema">How table columns become fields; null for libFM ids.</param>
/// <param name="Validation">Its figure on the validation rows.</param>
public sealed record ArmNetModel(ArmNetOptions Network, TabularTask Task, IReadOnlyList<string> Fields, ColumnSchema? Schema, double Validation);

/// <summary>ARM-Net and its baselines on click logs and on the user's own table.</summary>
public sealed class ArmNetRecipe : Recipe<ArmNetRecipeOptions>
{
    private const int GeneratedRows = 60_000, TopCrossFeatures = 50, SampleRows = 5, LocalColumns = 3, ApplyBlock = 4096;
    private static readonly string[] Interpreted = ["arm-net", "arm-net-1h", "arm-net+"];
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <inheritdoc/>
    public override string Id => "arm-net";

    /// <inheritdoc/>
    public override string Area => "ClickThrough";

    /// <inheritdoc/>
    public override string Title => "ARM-Net";

    /// <inheritdoc/>
    public override string Summary => "Predicts from a table with interactions that adapt to each row, and says which columns and combinations it used.";

    /// <inheritdoc/>
    public override Paper Paper => new("ARM-Net: Adaptive Relation Modeling Network for Structured Data", "Cai, Zheng, Chen, Jagadish, Ooi, Zhang", "SIGMOD", 2021, "https://arxiv.org/abs/2107.01830");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("above-fm", "ARM-Net's test AUC is at least 0.010 above FM's."),
        new("with-dnn", "ARM-Net's test AUC is at most 0.001 below DNN's."),
        new("plus-above-dnn", "ARM-Net+'s test AUC is at least 0.001 above DNN's."),
        new("noise-robust", "With random fields appended, ARM-Net's test AUC is at least 0.0005 above DNN's."),
        new("importance", "In each seed, the fields that carry the signal lead the global importance: user and item on Frappe; on the generated log every informative field is above both noise fields. (Share of seeds.)"),
    ];

    /// <inheritdoc/>
    public override ArmNetRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new ArmNetRecipeOptions { Rows = 10_000, Epochs = 1 },
        Budget.Paper => new ArmNetRecipeOptions { Dataset = "frappe", Heads = 8, MlpHidden = [256, 256], LearningRate = 1e-3, BatchSize = 4096, Epochs = 100, Patience = 1 },
        _ => new ArmNetRecipeOptions(),
    };

    /// <inheritdoc/>
    public override void Run(ArmNetRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        TabularDataset data = Load(options, context);
        TabularDataset noisy = data.WithNoise(options.NoiseFields, options.NoiseValues);
        context.UsedData(data.Description);
        Dictionary<string, ArmResult[]> results = options.Arms.Distinct().ToDictionary(arm => arm, arm => context.Seeds
            .Select(seed => context.Arm(arm, seed, run => Train(run, arm, arm.EndsWith("+noise", StringComparison.Ordinal) ? noisy : data, options, context.Data is not null))).ToArray());

        ReportModels(context, data, results);
        if (data.Task.Metric == "auc") CheckClaims(context, data, results);
        if (Interpreted.FirstOrDefault(results.ContainsKey) is { } arm)
        {
            ReportImportance(context, data, arm, results[arm], noise: false);
            ReportInterpretation(context, data, results[arm]);
            ReportJointPower(context, data, results[arm]);
        }
        if (results.TryGetValue("arm-net+noise", out ArmResult[]? noiseRuns)) ReportImportance(context, noisy, "arm-net+noise", noiseRuns, noise: true);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        if (!File.Exists(context.DataPath)) throw new BadInputException($"{context.DataPath} does not exist.");
        if (run.Models.Count == 0) throw new BadInputException($"Run {run.Folder} trained no ARM-Net; run it with arm-net among its arms.");
        var (name, saved) = run.Models.Select(m => (Name: m, Model: run.Description<ArmNetModel>(m))).MaxBy(m => m.Model.Validation);
        using var network = new ArmNet(saved.Network);
        network.load_state_dict(run.Model(name));
        network.to(context.Device);
        network.eval();

        string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "predictions.csv");
        string[] predicted = saved.Task.Kind == TargetKind.Regression ? ["prediction"]
            : ["prediction", .. saved.Task.Outputs == 1 ? [$"probability of {Class(saved, 1)}"] : Enumerable.Range(0, saved.Task.Classes).Select(c => $"probability of {Class(saved, c)}")];
        string[] header = ["row", .. predicted, .. Enumerable.Range(1, Math.Min(LocalColumns, saved.Fields.Count)).SelectMany(i => new[] { $"column {i}", $"importance {i}" })];
        long rows = 0;
        AtomicFile.Write(path, stream =>
        {
            using var writer = new StreamWriter(stream, leaveOpen: true) { NewLine = "\n" };
            writer.WriteLine(string.Join(',', header.Select(Quote)));
            foreach (var (ids, values) in Blocks(context.DataPath, saved))
            {
                context.Cancellation.ThrowIfCancellationRequested();
                using DisposeScope scope = NewDisposeScope();
                using var ungraphed = no_grad();
                Tensor predictions = saved.Task.Predict(TabularLearner.Logits(network, ids, values)).cpu();
                Tensor importance = LocalImportance(network, ids, values);
                var (shares, columns) = importance.topk(Math.Min(LocalColumns, saved.Fields.Count), -1);
                Write(writer, saved, rows, predictions, shares, columns);
                rows += ids.size(0);
                ids.Dispose();
                values.Dispose();
            }
        });
        context.Report($"{rows} rows predicted by {name} ({saved.Task.Metric} {saved.Validation.ToString("F4", CultureInfo.InvariantCulture)} on its validation rows): {path}");
    }

    private static TabularDataset Load(ArmNetRecipeOptions options, RunContext context)
    {
        if (context.Data is { } own)
            return TabularDataset.Read(own, new ColumnSchemaOptions { NumericKind = options.Numbers, Scaling = options.Scaling, Ignore = [.. options.Ignore] }, options.Rows);
        string? frappe = options.Dataset == TabularDataset.ClickLog ? null : context.DataFolder.Find(TabularDataset.Frappe);
        if (frappe is not null) return TabularDataset.ReadFrappe(frappe, options.Rows);
        if (options.Dataset == TabularDataset.Frappe) throw new BadInputException("Frappe is not in the data folder: fetch it with priori data get frappe, or use --set dataset=click-log.");
        return TabularDataset.Generated(options.Rows > 0 ? options.Rows : GeneratedRows);
    }

    private static Module<Tensor, Tensor, Tensor> Build(string arm, TabularDataset data, ArmNetRecipeOptions options)
    {
        long fields = data.Fields.Count, ids = data.Ids, dim = options.EmbeddingDim, outputs = data.Task.Outputs;
        return arm.Replace("+noise", "", StringComparison.Ordinal) switch
        {
            "lr" => new LogisticRegression(fields, ids, outputs),
            "fm" => new FactorizationMachine(fields, ids, dim, outputs),
            "dnn" => new Dnn(fields, ids, dim, options.MlpHidden, options.Dropout, outputs),
            "afn" or "afn+" => new Afn(fields, ids, dim, options.Heads * options.Neurons, options.MlpHidden, options.Dropout, arm == "afn+", outputs),
            _ => new ArmNet(new ArmNetOptions
            {
                Fields = fields,
                Ids = ids,
                EmbeddingDim = dim,
                Heads = arm switch { "arm-net-1h" => 1, "arm-net+" => options.PlusHeads, _ => options.Heads },
                Neurons = arm switch { "arm-net-1h" => options.Heads * options.Neurons, "arm-net+" => options.PlusNeurons, _ => options.Neurons },
                Alpha = arm == "arm-net+" ? options.PlusAlpha : options.Alpha,
                MlpHidden = options.MlpHidden,
                Dropout = options.Dropout,
                Ensemble = arm == "arm-net+",
                SharedKey = arm == "arm-net-1h",
                Outputs = outputs,
                ClampValues = data.Schema is null || options.Scaling == NumericScaling.MinMax,
            }),
        };
    }

    private static void Train(ArmRun run, string arm, TabularDataset data, ArmNetRecipeOptions options, bool own)
    {
        Module<Tensor, Tensor, Tensor> model = Build(arm, data, options);
        model.to(run.Device);
        using var learner = new TabularLearner(model, data.Task, options.LearningRate);
        var settings = new TrainerOptions
        {
            Epochs = options.Epochs ?? (own ? 50 : 8),
            BatchSize = options.BatchSize ?? (own ? (int)Math.Clamp(data.Train.Count / 100, 32, 1024) : 1024),
            EarlyStopping = new EarlyStopping(data.Task.Metric, options.Patience ?? (own ? 5 : 2)),
        };
        TrainingHistory history = run.Trainer(settings).Fit(learner, new TensorSource(data.Train.Ids, data.Train.Values, data.Train.Target), _ => Evaluate(data.Valid), run.Cancellation);
        run.Include(history);
        foreach (var (name, value) in Evaluate(data.Test)) run.Metric(name, value);
        double validation = history.Series[data.Task.Metric][history.BestEpoch - 1];
        run.Metric("validation", validation);
        run.Metric("parameters", model.parameters().Sum(p => p.numel()));
        run.Metric("ms_per_step", 1000 * history.Seconds / history.Steps);
        if (model is not ArmNet network) return;

        network.eval();
        ArmNetExplanation explanation = network.Explain(data.Test.Ids, data.Test.Values);
        run.Metric("zero_fraction", explanation.ZeroFraction);
        run.Metric("clamped_exponents", network.ClampedExponents);
        run.Tensor("importance", tensor(explanation.Fields.Select(f => f.Importance).ToArray()));
        run.Tensor("joint_power", tensor(explanation.JointPower));
        CrossFeature[] top = [.. explanation.CrossFeatures.Take(TopCrossFeatures)];
        run.Tensor("cross_fields", tensor(top.SelectMany(c => Enumerable.Range(0, data.Fields.Count).Select(f => c.Fields.Contains(f) ? 1L : 0)).ToArray()).view(top.Length, -1));
        run.Tensor("cross_use", tensor(top.SelectMany(c => new[] { c.Frequency, c.MeanPower }).ToArray()).view(top.Length, 2));
        long samples = Math.Min(SampleRows, data.Test.Count);
        Tensor ids = data.Test.Ids.narrow(0, 0, samples), values = data.Test.Values.narrow(0, 0, samples);
        run.Tensor("sample_importance", LocalImportance(network, ids, values));
        run.Tensor("sample_prediction", data.Task.Predict(TabularLearner.Logits(network, ids, values)).cpu().view(samples, -1));
        if (!arm.EndsWith("+noise", StringComparison.Ordinal))
            run.SaveModel($"{arm}-{run.Seed}", network.state_dict(), new ArmNetModel(network.Options, data.Task, data.Fields, data.Schema, validation));

        IReadOnlyDictionary<string, double> Evaluate(TabularRows rows) => data.Task.Evaluate(TabularLearner.Logits(model, rows.Ids, rows.Values).cpu(), rows.Target);
    }

    /// <summary>Share of each field in a row's absolute powers, [rows, fields], on the CPU.</summary>
    private static Tensor LocalImportance(ArmNet network, Tensor ids, Tensor values)
    {
        using DisposeScope scope = NewDisposeScope();
        Device device = network.parameters().First().device;
        Tensor use = network.Attend(ids.to(device), values.to(device)).Powers.abs().sum(1);
        return (use / use.sum(-1, keepdim: true).clamp_min(1e-12)).cpu().MoveToOuterDisposeScope();
    }

    private static void ReportModels(RunContext context, TabularDataset data, Dictionary<string, ArmResult[]> results)
    {
        string[] metrics = data.Task.Metric switch { "auc" => ["auc", "log_loss", "accuracy"], "accuracy" => ["accuracy", "log_loss"], _ => ["r2", "rmse"] };
        context.Table("models", $"Test figures on {data.Name}, mean ± standard deviation over {context.Seeds.Count} seeds", ["model", .. metrics, "parameters", "ms per step", "zero gates"],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. metrics.Select(m => MeanAndDeviation(r.Value, m)), Text(r.Value[0]["parameters"], "N0"), Text(r.Value.Average(a => a["ms_per_step"]), "F1"),
                r.Value[0].Metrics.ContainsKey("zero_fraction") ? Text(r.Value.Average(a => a["zero_fraction"]), "P1") : ""])]);
        var bars = results.Select(r => (r.Key, (IReadOnlyList<double>)[.. r.Value.Select(a => a[data.Task.Metric])])).ToArray();
        ScottPlot.Plot plot = Charts.Bars($"Test {data.Task.Metric} on {data.Name}", data.Task.Metric, bars);
        double[] all = [.. bars.SelectMany(b => b.Item2)];
        double margin = Math.Max(1e-4, all.Max() - all.Min()) * 0.3;
        plot.Axes.SetLimitsY(all.Min() - margin, all.Max() + margin);
        context.Figure(data.Task.Metric, $"Test {data.Task.Metric} of each model; a dot is a seed. The axis does not start at zero.", plot);
        double clamped = results.Values.SelectMany(r => r).Where(r => r.Metrics.ContainsKey("clamped_exponents")).Sum(r => r["clamped_exponents"]);
        if (clamped > 0) context.Note($"{clamped:F0} exponents were clamped to {ArmNet.LargestExponent}: training came close to diverging; lower the learning rate.");
    }

    private static void CheckClaims(RunContext context, TabularDataset data, Dictionary<string, ArmResult[]> results)
    {
        Compare("above-fm", "arm-net", "fm", 0.010);
        Compare("with-dnn", "arm-net", "dnn", -0.001);
        Compare("plus-above-dnn", "arm-net+", "dnn", 0.001);
        Compare("noise-robust", "arm-net+noise", "dnn+noise", 0.0005);
        if (!results.TryGetValue("arm-net", out ArmResult[]? runs) || data.Name is not (TabularDataset.Frappe or TabularDataset.ClickLog)) return;
        double[] leads = [.. runs.Select(run =>
        {
            double[] importance = run.Tensor("importance").data<double>().ToArray();
            bool[] signal = [.. data.Fields.Select(f => data.Planted is null ? f is "user" or "item" : !f.StartsWith("noise", StringComparison.Ordinal))];
            return importance.Where((_, f) => signal[f]).Min() > importance.Where((_, f) => !signal[f]).Max() ? 1.0 : 0;
        })];
        context.Check("importance", leads.Average(), Comparison.AtLeast, 1, leads);

        void Compare(string claim, string arm, string baseline, double margin)
        {
            if (!results.TryGetValue(arm, out ArmResult[]? a) || !results.TryGetValue(baseline, out ArmResult[]? b)) return;
            double[] gains = [.. a.Zip(b, (x, y) => x["auc"] - y["auc"])];
            context.Check(claim, gains.Average(), Comparison.AtLeast, margin, gains);
        }
    }

    private static void ReportImportance(RunContext context, TabularDataset data, string arm, ArmResult[] runs, bool noise)
    {
        double[][] importance = [.. runs.Select(r => r.Tensor("importance").data<double>().ToArray())];
        int[] order = [.. Enumerable.Range(0, data.Fields.Count).OrderByDescending(f => importance.Average(i => i[f]))];
        context.Figure(noise ? "importance-noise" : "importance", $"Global importance of each field in {arm}: its share of the mean absolute power over the test rows; a dot is a seed.{(noise ? " The random fields are named random1, random2, ..." : "")}",
            Charts.Bars($"Global importance on {data.Name}", "share of mean |power|", [.. order.Take(25).Select(f => (data.Fields[f], (IReadOnlyList<double>)[.. importance.Select(i => i[f])]))]), width: 1100);
        if (noise) return;
        WriteCsv(context.OutputPath("importance.csv"), ["field", "importance", .. runs.Select(r => $"seed {r.Seed}")],
            order.Select(f => (string[])[data.Fields[f], Text(importance.Average(i => i[f]), "G6"), .. importance.Select(i => Text(i[f], "G6"))]));
    }

    private static void ReportInterpretation(RunContext context, TabularDataset data, ArmResult[] runs)
    {
        ArmResult best = runs.MaxBy(r => r["validation"])!;
        double[] importance = best.Tensor("importance").data<double>().ToArray();
        Tensor fields = best.Tensor("cross_fields"), use = best.Tensor("cross_use"), local = best.Tensor("sample_importance"), predictions = best.Tensor("sample_prediction");
        var cross = Enumerable.Range(0, (int)fields.size(0)).Select(i => new
        {
            Fields = Enumerable.Range(0, data.Fields.Count).Where(f => fields[i, f].ToInt64() == 1).Select(f => data.Fields[f]).ToArray(),
            Frequency = use[i, 0].ToDouble(),
            MeanPower = use[i, 1].ToDouble(),
        }).ToArray();
        WriteCsv(context.OutputPath("cross_features.csv"), ["fields", "order", "frequency", "mean power"],
            cross.Select(c => (string[])[string.Join(" x ", c.Fields), Text(c.Fields.Length, "F0"), Text(c.Frequency, "G6"), Text(c.MeanPower, "G6")]));
        context.Table("cross-features", $"Cross features most often in use ({best.Arm}, seed {best.Seed}): fields whose gates are open together, over test rows and neurons", ["fields", "order", "frequency", "mean |power|"],
            [.. cross.Take(12).Select(c => (IReadOnlyList<string>)[string.Join(" x ", c.Fields), Text(c.Fields.Length, "F0"), Text(c.Frequency, "P1"), Text(c.MeanPower, "G3")])]);
        double zeros = runs.Average(r => r["zero_fraction"]);
        context.Note(zeros < 0.01
            ? $"{Text(zeros, "P1")} of the gates are exactly zero: the neurons use all fields, so cross features are told apart by their powers and not by their fields."
            : $"{Text(zeros, "P1")} of the gates are exactly zero.");

        AtomicFile.WriteText(context.OutputPath("interpretation.json"), JsonSerializer.Serialize(new
        {
            best.Arm,
            best.Seed,
            ZeroFraction = best["zero_fraction"],
            Fields = data.Fields.Select((name, f) => new { Name = name, Importance = importance[f] }).OrderByDescending(f => f.Importance),
            CrossFeatures = cross.Take(20),
            PlantedInteractions = data.Planted?.Select(p => p.Select(f => data.Fields[f])),
            Rows = Enumerable.Range(0, (int)local.size(0)).Select(row => new
            {
                Row = row,
                Prediction = predictions[row].data<float>().ToArray(),
                Target = data.Test.Target[row].to(ScalarType.Float64).ToDouble(),
                Fields = Enumerable.Range(0, data.Fields.Count).OrderByDescending(f => local[row, f].ToDouble())
                    .Select(f => new { Cell = data.Cell(f, data.Test.Ids[row, f].ToInt64(), data.Test.Values[row, f].ToSingle()), Importance = local[row, f].ToDouble() }),
            }),
        }, Json));
    }

    private static void ReportJointPower(RunContext context, TabularDataset data, ArmResult[] runs)
    {
        int m = data.Fields.Count;
        double[][,] joint = [.. runs.Select(r => { Tensor t = r.Tensor("joint_power"); var a = new double[m, m]; for (int i = 0; i < m * m; i++) a[i / m, i % m] = i / m == i % m ? double.NaN : t[i / m, i % m].ToDouble(); return a; })];
        if (m <= 30)
        {
            var mean = new double[m, m];
            for (int i = 0; i < m * m; i++) mean[i / m, i % m] = joint.Average(a => a[i / m, i % m]);
            context.Figure("joint-power", "Which fields are used together: mean |power| of one times that of the other, over test rows and neurons, mean over seeds.",
                Charts.Heatmap($"Joint power on {data.Name}", mean, "", "", [.. data.Fields], [.. data.Fields]), width: 900, height: 760);
        }
        if (data.Planted is null) return;
        int pairs = m * (m - 1) / 2;
        var rows = data.Planted.SelectMany(p => p.SelectMany((a, i) => p.Skip(i + 1).Select(b => (Interaction: p, A: a, B: b)))).Select(pair =>
        {
            double[] ranks = [.. joint.Select(j => 1.0 + Enumerable.Range(0, m).Sum(a => Enumerable.Range(a + 1, m - a - 1).Count(b => j[a, b] > j[pair.A, pair.B])))];
            return (IReadOnlyList<string>)[string.Join(" x ", pair.Interaction.Select(f => data.Fields[f])), $"{data.Fields[pair.A]} x {data.Fields[pair.B]}", Text(ranks.Average(), "F1"), string.Join(", ", ranks.Select(r => Text(r, "F0")))];
        });
        context.Table("planted", $"Were the planted interactions found? Rank of their pairs by joint power among all {pairs} pairs (by chance {Text((pairs + 1) / 2.0, "F0")})", ["planted interaction", "pair", "mean rank", "rank in each seed"], [.. rows]);
    }

    private static IEnumerable<(Tensor Ids, Tensor Values)> Blocks(string path, ArmNetModel model)
    {
        if (model.Schema is null)
        {
            foreach (LibFmData block in LibFm.Blocks(path, ApplyBlock))
            {
                if (block.Ids.size(1) != model.Fields.Count || block.FeatureCount > model.Network.Ids)
                    throw new BadInputException($"{path}: the model has {model.Fields.Count} fields and ids below {model.Network.Ids}; this file has {block.Ids.size(1)} fields and ids up to {block.FeatureCount - 1}.");
                yield return (block.Ids, block.Values);
            }
            yield break;
        }
        foreach (Table block in TableReader.Blocks(path, ApplyBlock))
        {
            EncodedTable encoded = model.Schema.Encode(block);
            yield return (encoded.Ids, encoded.Values);
        }
    }

    private static void Write(StreamWriter writer, ArmNetModel model, long first, Tensor predictions, Tensor shares, Tensor columns)
    {
        int count = (int)predictions.size(0), outputs = (int)model.Task.Outputs, top = (int)columns.size(1);
        float[] prediction = predictions.reshape(-1).data<float>().ToArray(), share = shares.reshape(-1).data<float>().ToArray();
        long[] column = columns.reshape(-1).data<long>().ToArray();
        var line = new List<string>();
        for (int row = 0; row < count; row++)
        {
            line.Clear();
            line.Add((first + row + 1).ToString(CultureInfo.InvariantCulture));
            float[] p = prediction[(row * outputs)..((row + 1) * outputs)];
            if (model.Task.Kind != TargetKind.Regression) line.Add(Class(model, outputs > 1 ? Array.IndexOf(p, p.Max()) : p[0] > 0.5f ? 1 : 0));
            line.AddRange(p.Select(value => Text(value, "G6")));
            for (int i = 0; i < top; i++)
            {
                line.Add(model.Fields[(int)column[row * top + i]]);
                line.Add(Text(share[row * top + i], "F4"));
            }
            writer.WriteLine(string.Join(',', line.Select(Quote)));
        }
    }

    private static string Class(ArmNetModel model, int index) => model.Schema?.Target?.Classes[index] ?? index.ToString(CultureInfo.InvariantCulture);

    private static string MeanAndDeviation(ArmResult[] runs, string metric)
    {
        double mean = runs.Average(r => r[metric]);
        double deviation = runs.Length > 1 ? Math.Sqrt(runs.Sum(r => Math.Pow(r[metric] - mean, 2)) / (runs.Length - 1)) : 0;
        string format = mean >= 100 ? "F0" : "F4";
        return runs.Length > 1 ? $"{Text(mean, format)} ± {Text(deviation, format)}" : Text(mean, format);
    }

    private static void WriteCsv(string path, IReadOnlyList<string> header, IEnumerable<IReadOnlyList<string>> rows)
        => AtomicFile.WriteText(path, string.Concat(rows.Prepend(header).Select(row => string.Join(',', row.Select(Quote)) + "\n")));

    private static string Quote(string text) => text.AsSpan().ContainsAny(",\"\r\n") ? $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : text;

    private static string Text(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
}
