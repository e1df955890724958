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
public sealed record ArmNetRecipeOptions : ClickOptions
{
    /// <summary>Models to train.</summary>
    [Option("Models to train; +noise appends fields of random values.", Choices = ["lr", "fm", "dnn", "afn", "afn+", "arm-net", "arm-net-1h", "arm-net+", "dnn+noise", "arm-net+noise"])]
    public IReadOnlyList<string> Arms { get; init; } = ["lr", "fm", "dnn", "afn", "arm-net", "arm-net+", "dnn+noise", "arm-net+noise"];

    /// <summary>Default data.</summary>
    [Option("Default data: frappe, the generated click-log, or auto (frappe where it is present).", Choices = ["auto", "frappe", "click-log"])]
    public string Dataset { get; init; } = "auto";

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

    /// <summary>Noise fields.</summary>
    [Option("Random fields of the +noise arms.", Min = 1)]
    public int NoiseFields { get; init; } = 4;

    /// <summary>Values of a noise field.</summary>
    [Option("Values of each random field.", Min = 2)]
    public int NoiseValues { get; init; } = 50;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Arms.Count == 0) throw new BadInputException("Option 'arms' needs at least one model.");
        base.Validate();
    }
}

/// <summary>ARM-Net and its baselines on click logs and on the user's own table.</summary>
public sealed class ArmNetRecipe : ClickRecipe<ArmNetRecipeOptions>
{
    private const int TopCrossFeatures = 50, SampleRows = 5, LocalColumns = 3;
    private static readonly string[] Interpreted = ["arm-net", "arm-net-1h", "arm-net+"];
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <inheritdoc/>
    public override string Id => "arm-net";

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
    protected override bool BinaryTarget => false;

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2, 3, 4];

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
        TabularDataset data = context.Data is null ? TabularDataset.Default(options.Dataset, options.Rows, context.DataFolder) : ReadOwn(options, context);
        TabularDataset noisy = data.WithNoise(options.NoiseFields, options.NoiseValues);
        context.UsedData(data.Description);
        Dictionary<string, ArmResult[]> results = options.Arms.Distinct().ToDictionary(arm => arm, arm => context.Seeds
            .Select(seed => context.Arm(arm, seed, run => Train(run, arm, arm.EndsWith("+noise", StringComparison.Ordinal) ? noisy : data, options))).ToArray());

        ReportModels(context, data, results, ("zero gates", runs => runs[0].Metrics.ContainsKey("zero_fraction") ? Numbers.Text(runs.Average(a => a["zero_fraction"]), "P1") : ""));
        double clamped = results.Values.SelectMany(r => r).Where(r => r.Metrics.ContainsKey("clamped_exponents")).Sum(r => r["clamped_exponents"]);
        if (clamped > 0) context.Note($"{clamped:F0} exponents were clamped to {ArmNet.LargestExponent}: training came close to diverging; lower the learning rate.");
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
    internal override IReadOnlyList<string> FurtherColumns(ClickModelDescription model)
        => [.. Enumerable.Range(1, Math.Min(LocalColumns, model.Fields.Count)).SelectMany(i => new[] { $"column {i}", $"importance {i}" })];

    /// <inheritdoc/>
    internal override IEnumerable<IReadOnlyList<string>> FurtherCells(ClickScorer scorer, Tensor ids, Tensor values)
    {
        IReadOnlyList<string> fields = scorer.Description.Fields;
        int top = Math.Min(LocalColumns, fields.Count);
        var (shares, columns) = ArmNetExplanation.LocalImportance((ClickModel)scorer.Model, ids, values).topk(top, -1);
        float[] share = shares.cpu().reshape(-1).data<float>().ToArray();
        long[] column = columns.cpu().reshape(-1).data<long>().ToArray();
        for (int at = 0; at < share.Length; at += top)
            yield return [.. Enumerable.Range(at, top).SelectMany(i => new[] { fields[(int)column[i]], Numbers.Text(share[i], "F4") })];
    }

    private static BackboneDescription Describe(string arm, TabularDataset data, ArmNetRecipeOptions options)
    {
        (BackboneKind kind, bool ensemble) = arm.Replace("+noise", "", StringComparison.Ordinal) switch
        {
            "lr" => (BackboneKind.Lr, false),
            "fm" => (BackboneKind.Fm, false),
            "dnn" => (BackboneKind.Dnn, false),
            "afn" => (BackboneKind.Afn, false),
            "afn+" => (BackboneKind.Afn, true),
            "arm-net+" => (BackboneKind.ArmNet, true),
            _ => (BackboneKind.ArmNet, false),
        };
        return new BackboneDescription
        {
            Task = data.Task,
            Fields = data.Fields,
            Ids = data.Ids,
            Schema = data.Schema,
            Kind = kind,
            ClampValues = kind is BackboneKind.Afn or BackboneKind.ArmNet && (data.Schema is null || options.Scaling == NumericScaling.MinMax),
            Backbone = new BackboneOptions
            {
                Fields = data.Fields.Count,
                EmbeddingDim = options.EmbeddingDim,
                Outputs = data.Task.Outputs,
                MlpHidden = options.MlpHidden,
                Dropout = options.Dropout,
                Ensemble = ensemble,
                SharedKey = arm == "arm-net-1h",
                Heads = arm switch { "arm-net-1h" => 1, "arm-net+" => options.PlusHeads, _ => options.Heads },
                Neurons = kind == BackboneKind.Afn || arm == "arm-net-1h" ? options.Heads * options.Neurons : arm == "arm-net+" ? options.PlusNeurons : options.Neurons,
                Alpha = arm == "arm-net+" ? options.PlusAlpha : options.Alpha,
            },
        };
    }

    private static void Train(ArmRun run, string arm, TabularDataset data, ArmNetRecipeOptions options)
    {
        BackboneDescription description = Describe(arm, data, options);
        var model = (ClickModel)description.Build();
        double validation = Fit(run, model, data, options);
        if (model.Backbone is not ArmNet network) return;

        model.eval();
        ArmNetExplanation explanation = ArmNetExplanation.Of(model, data.Test.Ids, data.Test.Values);
        run.Metric("zero_fraction", explanation.ZeroFraction);
        run.Metric("clamped_exponents", network.ClampedExponents);
        run.Tensor("importance", tensor(explanation.Fields.Select(f => f.Importance).ToArray()));
        run.Tensor("joint_power", tensor(explanation.JointPower));
        CrossFeature[] top = [.. explanation.CrossFeatures.Take(TopCrossFeatures)];
        run.Tensor("cross_fields", tensor(top.SelectMany(c => Enumerable.Range(0, data.Fields.Count).Select(f => c.Fields.Contains(f) ? 1L : 0)).ToArray()).view(top.Length, -1));
        run.Tensor("cross_use", tensor(top.SelectMany(c => new[] { c.Frequency, c.MeanPower }).ToArray()).view(top.Length, 2));
        long samples = Math.Min(SampleRows, data.Test.Count);
        Tensor ids = data.Test.Ids.narrow(0, 0, samples), values = data.Test.Values.narrow(0, 0, samples);
        run.Tensor("sample_importance", ArmNetExplanation.LocalImportance(model, ids, values).cpu());
        run.Tensor("sample_prediction", data.Task.Predict(TabularLearner.Logits(model, ids, values)).cpu().view(samples, -1));
        if (!arm.EndsWith("+noise", StringComparison.Ordinal))
            run.SaveModel($"{arm}-{run.Seed}", model.state_dict(), description with { Validation = validation });
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
            if (results.TryGetValue(arm, out ArmResult[]? a) && results.TryGetValue(baseline, out ArmResult[]? b)) context.Compare(claim, $"{arm} - {baseline}", a, b, "auc", margin);
        }
    }

    private static void ReportImportance(RunContext context, TabularDataset data, string arm, ArmResult[] runs, bool noise)
    {
        double[][] importance = [.. runs.Select(r => r.Tensor("importance").data<double>().ToArray())];
        int[] order = [.. Enumerable.Range(0, data.Fields.Count).OrderByDescending(f => importance.Average(i => i[f]))];
        context.Figure(noise ? "importance-noise" : "importance", $"Global importance of each field in {arm}: its share of the mean absolute power over the test rows; a dot is a seed.{(noise ? " The random fields are named random1, random2, ..." : "")}",
            Charts.Bars($"Global importance on {data.Name}", "share of mean |power|", [.. order.Take(25).Select(f => (data.Fields[f], (IReadOnlyList<double>)[.. importance.Select(i => i[f])]))]), width: 1100);
        if (noise) return;
        Csv.Write(context.OutputPath("importance.csv"), ["field", "importance", .. runs.Select(r => $"seed {r.Seed}")],
            order.Select(f => (string[])[data.Fields[f], Numbers.Text(importance.Average(i => i[f]), "G6"), .. importance.Select(i => Numbers.Text(i[f], "G6"))]));
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
        Csv.Write(context.OutputPath("cross_features.csv"), ["fields", "order", "frequency", "mean power"],
            cross.Select(c => (string[])[string.Join(" x ", c.Fields), Numbers.Text(c.Fields.Length, "F0"), Numbers.Text(c.Frequency, "G6"), Numbers.Text(c.MeanPower, "G6")]));
        context.Table("cross-features", $"Cross features most often in use ({best.Arm}, seed {best.Seed}): fields whose gates are open together, over test rows and neurons", ["fields", "order", "frequency", "mean |power|"],
            [.. cross.Take(12).Select(c => (IReadOnlyList<string>)[string.Join(" x ", c.Fields), Numbers.Text(c.Fields.Length, "F0"), Numbers.Text(c.Frequency, "P1"), Numbers.Text(c.MeanPower, "G3")])]);
        double zeros = runs.Average(r => r["zero_fraction"]);
        context.Note(zeros < 0.01
            ? $"{Numbers.Text(zeros, "P1")} of the gates are exactly zero: the neurons use all fields, so cross features are told apart by their powers and not by their fields."
            : $"{Numbers.Text(zeros, "P1")} of the gates are exactly zero.");

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
            return (IReadOnlyList<string>)[string.Join(" x ", pair.Interaction.Select(f => data.Fields[f])), $"{data.Fields[pair.A]} x {data.Fields[pair.B]}", Numbers.Text(ranks.Average(), "F1"), string.Join(", ", ranks.Select(r => Numbers.Text(r, "F0")))];
        });
        context.Table("planted", $"Were the planted interactions found? Rank of their pairs by joint power among all {pairs} pairs (by chance {Numbers.Text((pairs + 1) / 2.0, "F0")})", ["planted interaction", "pair", "mean rank", "rank in each seed"], [.. rows]);
    }
}
