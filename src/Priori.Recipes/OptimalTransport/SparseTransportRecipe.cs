using System.Globalization;
using System.Text;
using System.Text.Json;
using Priori.Data;
using Priori.Nn;
using Priori.OptimalTransport;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using Ot = Priori.OptimalTransport.OptimalTransport;

namespace Priori.Recipes.OptimalTransport;

/// <summary>Options of <see cref="SparseTransportRecipe"/>.</summary>
public sealed record SparseTransportOptions : RecipeOptions
{
    /// <summary>Regularisation of one's own problem.</summary>
    [Option("Regularisation of your own problem.")]
    public OtRegularization Regularization { get; init; } = OtRegularization.SparsityConstrained;

    /// <summary>k of one's own problem.</summary>
    [Option("Most non-zeros in a column of your own plan: partners of each target.", Min = 1)]
    public int MaxNonZeros { get; init; } = 3;

    /// <summary>Strength.</summary>
    [Option("Strength of the regularisation, in units of the (scaled) cost.", Min = 1e-12)]
    public double Gamma { get; init; } = 0.1;

    /// <summary>Form.</summary>
    [Option("Which concave problem is maximised.")]
    public OtForm Form { get; init; } = OtForm.SemiDual;

    /// <summary>Per row.</summary>
    [Option("Whether rows (sources) instead of columns (targets) have at most max-non-zeros partners.")]
    public bool PerRow { get; init; }

    /// <summary>Metric.</summary>
    [Option("Cost between points X and Y.")]
    public TransportMetric Metric { get; init; } = TransportMetric.SquaredEuclidean;

    /// <summary>Scaling.</summary>
    [Option("Whether costs are divided by the largest, so that gamma means the same for every data.")]
    public bool ScaleCost { get; init; } = true;

    /// <summary>Rounding.</summary>
    [Option("Whether your own plan is rounded to exact marginals, which may break its sparsity.")]
    public bool Round { get; init; }

    /// <summary>Palette.</summary>
    [Option("Colours of each palette in colour transfer.", Min = 2, Max = 4096)]
    public int Colors { get; init; } = 256;

    /// <summary>Points of the reproduction.</summary>
    [Option("Points of each Gaussian in the reproduction.", Min = 4, Max = 1024)]
    public int Points { get; init; } = 32;

    /// <summary>Sparsities of the reproduction.</summary>
    [Option("Sparsities k that the reproduction compares, ascending, from 1.", Min = 1)]
    public IReadOnlyList<int> Sparsities { get; init; } = [1, 2, 4, 8, 32];

    /// <summary>Experts.</summary>
    [Option("Experts of the mixtures, and sub-tasks of the generated data.", Min = 2)]
    public int Experts { get; init; } = 8;

    /// <summary>Width of generated rows.</summary>
    [Option("Dimension of the generated rows.", Min = 2)]
    public int Dim { get; init; } = 16;

    /// <summary>Hidden width.</summary>
    [Option("Hidden width of an expert.", Min = 1)]
    public int Hidden { get; init; } = 32;

    /// <summary>Training rows.</summary>
    [Option("Generated training rows.", Min = 2)]
    public int TrainRows { get; init; } = 12_800;

    /// <summary>Test rows.</summary>
    [Option("Generated test rows.", Min = 2)]
    public int TestRows { get; init; } = 3_200;

    /// <summary>Epochs.</summary>
    [Option("Epochs of the mixtures.", Min = 1)]
    public int Epochs { get; init; } = 12;

    /// <summary>Batch size.</summary>
    [Option("Rows routed together.", Min = 2)]
    public int BatchSize { get; init; } = 256;

    /// <summary>Learning rate.</summary>
    [Option("Learning rate of Adam for the mixtures.", Min = 1e-9)]
    public double LearningRate { get; init; } = 5e-3;

    /// <summary>Dense learning rates.</summary>
    [Option("Learning rates of the dense baseline; the best of them is compared.", Min = 1e-9)]
    public IReadOnlyList<double> DenseLearningRates { get; init; } = [5e-3, 1e-2, 2e-2, 4e-2];

    /// <summary>Capacity.</summary>
    [Option("Capacity of an expert relative to an even load, for the balanced routers.", Min = 0.01)]
    public double CapacityFactor { get; init; } = 1.25;

    /// <summary>Router's strength.</summary>
    [Option("Gamma of the sparse router.", Min = 1e-12)]
    public double RouterGamma { get; init; } = 10;

    /// <summary>Router's steps.</summary>
    [Option("Adam steps of the sparse router on the semi-dual, a batch.", Min = 1)]
    public int RouterIterations { get; init; } = 60;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Sparsities.Count < 2 || Sparsities[0] != 1 || Sparsities.Zip(Sparsities.Skip(1)).Any(pair => pair.First >= pair.Second))
            throw new BadInputException("Option 'sparsities' must begin with 1 and ascend, such as 1,2,4,8,32.");
        if (DenseLearningRates.Count == 0) throw new BadInputException("Option 'dense-learning-rates' needs at least one rate.");
    }

    internal OtOptions Problem => new(Regularization, Gamma, MaxNonZeros, Form) { PerRow = PerRow, Round = Round };
}

/// <summary>What a solved problem leaves for new data.</summary>
/// <param name="Options">How it was solved.</param>
/// <param name="Metric">Cost between points.</param>
/// <param name="Scale">What costs were divided by.</param>
/// <param name="Mass">Mean mass of a column (row, if per row).</param>
/// <param name="Colors">Whether the points are colours.</param>
/// <param name="Partners">Names of the rows (columns, if per row).</param>
internal sealed record TransportDescription(OtOptions Options, TransportMetric Metric, double Scale, double Mass, bool Colors, IReadOnlyList<string>? Partners);

/// <summary>
/// Plans with at most k non-zeros a column between two Gaussians, and mixtures of experts routed by them; or the user's own problem: a cost matrix, two sets
/// of points, two images (src, dst), or a table to classify with a mixture of experts.
/// </summary>
public sealed class SparseTransportRecipe : Recipe<SparseTransportOptions>
{
    private const string Linear = "linear program", Entropic = "entropic", TopKTight = "TopK, capacity 1", TopK = "TopK", Sinkhorn = "Sinkhorn", SparseOt = "SparseOT";
    private const int MixtureSeeds = 4;

    private static readonly CultureInfo s_culture = CultureInfo.InvariantCulture;
    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals };

    /// <inheritdoc/>
    public override string Id => "sparse-transport";

    /// <inheritdoc/>
    public override string Area => "OptimalTransport";

    /// <inheritdoc/>
    public override string Title => "Sparsity-constrained optimal transport";

    /// <inheritdoc/>
    public override string Summary => "Matches two weighted sets so that every target has at most k partners, and routes tokens to experts in balance.";

    /// <inheritdoc/>
    public override Paper Paper => new("Sparsity-Constrained Optimal Transport", "Liu, Puigcerver, Blondel", "ICLR", 2023, "https://arxiv.org/abs/2209.15466");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims { get; } =
    [
        new("sparsity", "Plans: non-zeros of any column - k <= 0, all k and seeds."),
        new("monotone", "Plans: D_k is non-increasing in k (largest increase <= 1e-6)."),
        new("relaxed", "Plans: |D_k - relaxed primal| <= 1e-5, all k and seeds."),
        new("plain-transport", "Plans: |S_1 - (linear program + gamma/2 sum b^2)| <= 1e-3, all seeds."),
        new("iterations", "Plans: L-BFGS iterations do not increase from k = 2 to k = 32 (slope of their mean over log2 k <= 0)."),
        new("load", "Mixtures: largest load of an expert under SparseOT - capacity <= 0, every step and seed."),
        new("uncovered", "Mixtures: tokens SparseOT leaves uncovered <= 3 % (mean over the last 100 steps and seeds)."),
        new("drops", "Mixtures: tokens TopK drops - 3 times those SparseOT leaves uncovered, at the same capacity >= 0."),
        new("accuracy-topk", "Mixtures: test accuracy of SparseOT - TopK (capacity 1) >= -0.005, mean over seeds."),
        new("accuracy-dense", "Mixtures: test accuracy of SparseOT - best dense single expert >= 0.02, mean over seeds."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2, 3, 4];

    /// <inheritdoc/>
    public override SparseTransportOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Points = 16, Epochs = 1, DenseLearningRates = [5e-3] },
        Budget.Full => new(),
        // Experts of the width and number of V-MoE-B (768-3072-768, 32 experts). Its images (JFT-300M) are not public: the generated sub-tasks take their place.
        _ => new() { Experts = 32, Dim = 768, Hidden = 3072, TrainRows = 1_024_000, TestRows = 32_000, BatchSize = 4096, Epochs = 4, LearningRate = 1e-3, DenseLearningRates = [1e-3, 3e-4] },
    };

    /// <inheritdoc/>
    public override void Run(SparseTransportOptions options, RunContext context)
    {
        if (context.Data is null)
        {
            context.UsedData($"two 2-D Gaussians, {options.Points} points each");
            RunPlans(options, context);
            RunMixtures(options, context, seed => ExpertTasks.Generate(options.TrainRows, options.TestRows, options.Experts, options.Dim, seed));
        }
        else if (context.Data.Target is { } target)
        {
            if (Directory.Exists(context.Data.Path)) throw new BadInputException($"{context.Data.Path} is a folder; with a target column give a table (CSV, TSV or Parquet).");
            ExpertTasks tasks = ExpertTasks.Read(new(context.Data.Path, target));
            RunMixtures(options, context, _ => tasks);
        }
        else if (ColorTransfer.Find(context.Data.Path) is { } images)
        {
            RunColors(options, context, images);
        }
        else
        {
            RunProblem(options, context);
        }
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        if (run.Models.Contains("mixture") && !run.Models.Contains("transport"))
        {
            Route(run, context);
            return;
        }
        TransportDescription description = run.Description<TransportDescription>("transport");
        Dictionary<string, Tensor> model = run.Model("transport");
        if (description.Colors)
        {
            if (!ColorTransfer.IsImage(context.DataPath)) throw new BadInputException($"{context.DataPath} is no image; this run recolours PNG, JPEG, WebP and BMP images.");
            (Tensor pixels, int height, int width) = ColorTransfer.Read(context.DataPath);
            Tensor recolored = ColorTransfer.Recolor(pixels, model["points"], model["potentials"], description.Options, description.Scale, description.Mass);
            AtomicFile.Write(context.OutPath, stream => stream.Write(ColorTransfer.Png(recolored, height, width)));
            context.Report($"Recoloured {width} x {height} pixels: {context.OutPath}");
            return;
        }
        Tensor potentials = model["potentials"];
        bool hasPoints = model.TryGetValue("points", out Tensor? points);
        Tensor given = TransportData.ReadMatrix(context.DataPath, description.Options.PerRow ? "X" : "Y", "C");
        if (hasPoints && run.Models.Contains("mixture") && given.shape[1] != points!.shape[1])
        {
            Route(run, context);
            return;
        }
        if (hasPoints && given.shape[1] != points!.shape[1]) throw new BadInputException($"{context.DataPath} has points of {given.shape[1]} coordinates; those of the run have {points.shape[1]}.");
        Tensor cost = hasPoints ? TransportData.CostBetween(points!, given, description.Metric) : description.Options.PerRow ? given.t() : given;
        if (cost.shape[0] != potentials.shape[0])
            throw new BadInputException($"{context.DataPath} gives costs to {cost.shape[0]} {(description.Options.PerRow ? "columns" : "rows")}; the run has {potentials.shape[0]}.");
        Tensor shares = Ot.Extend(potentials, cost / description.Scale, description.Options, description.Mass);
        Tensor? mapped = hasPoints ? shares.t().mm(points!) : null;
        string Partner(long i) => description.Partners?[(int)i] ?? i.ToString(s_culture);
        var text = new StringBuilder(hasPoints ? $"row,{string.Join(',', Enumerable.Range(0, (int)points!.shape[1]).Select(i => $"x{i}"))},partners\n" : "column,partners\n");
        for (long q = 0; q < shares.shape[1]; q++)
        {
            double[] share = shares.select(1, q).contiguous().data<double>().ToArray();
            string partners = string.Join(' ', share.Index().Where(s => s.Item > 0).OrderByDescending(s => s.Item).Select(s => string.Create(s_culture, $"{Partner(s.Index)}:{s.Item:G6}")));
            string coordinates = mapped is null ? "" : string.Concat(mapped[q].data<double>().ToArray().Select(v => string.Create(s_culture, $"{v:R},")));
            text.Append(s_culture, $"{q},{coordinates}{Csv.Cell(partners)}\n");
        }
        AtomicFile.WriteText(context.OutPath, text.ToString());
        context.Report($"{shares.shape[1]} new {(hasPoints ? "points mapped to the barycentres of their partners" : "targets matched")}: {context.OutPath}");
    }

    private static void RunPlans(SparseTransportOptions options, RunContext context)
    {
        var results = new Dictionary<string, List<ArmResult>>();
        string[] arms = [Linear, Entropic, .. options.Sparsities.Select(k => $"k = {k}")];
        foreach (int seed in context.Seeds)
        {
            foreach ((string arm, OtOptions problem) in arms.Zip([new(OtRegularization.None), new(OtRegularization.Entropic, options.Gamma),
                .. options.Sparsities.Select(k => new OtOptions(OtRegularization.SparsityConstrained, options.Gamma, k, options.Form))]))
            {
                ArmResult result = context.Arm(arm, seed, run =>
                {
                    (Tensor x, Tensor y) = Gaussians(options.Points, seed);
                    Tensor cost = TransportData.CostBetween(x, y, TransportMetric.SquaredEuclidean), mass = torch.full(options.Points, 1.0 / options.Points, dtype: ScalarType.Float64);
                    double scale = cost.max().item<double>();
                    OtResult solved = Ot.Solve(mass, mass, cost / scale, problem);
                    Measure(run, solved);
                    if (problem.MaxNonZeros == 2 && seed == context.Seeds[0]) SaveProblem(context, solved, problem, options.Metric, scale, x, y, mass, mass, false, null);
                });
                if (!results.TryGetValue(arm, out List<ArmResult>? list)) results[arm] = list = [];
                list.Add(result);
            }
        }
        List<ArmResult>[] sparse = [.. options.Sparsities.Select(k => results[$"k = {k}"])];
        double[] PerSeed(Func<int, double> figure) => [.. Enumerable.Range(0, context.Seeds.Count).Select(figure)];
        double[] excess = PerSeed(s => sparse.Zip(options.Sparsities, (arm, k) => arm[s]["nonZeros"] - k).Max());
        double[] increase = PerSeed(s => sparse.Zip(sparse.Skip(1), (less, more) => more[s]["dual"] - less[s]["dual"]).Max());
        double[] gap = PerSeed(s => sparse.Max(arm => Math.Abs(arm[s]["dual"] - arm[s]["relaxed"])));
        double[] plain = PerSeed(s => Math.Abs(sparse[0][s]["dual"] - results[Linear][s]["dual"] - options.Gamma / 2 / options.Points));
        (double X, List<ArmResult> Y)[] trend = [.. options.Sparsities.Zip(sparse).Where(p => p.First >= 2).Select(p => (Math.Log2(p.First), p.Second))];
        double[] slope = PerSeed(s => Slope([.. trend.Select(p => (p.X, p.Y[s]["iterations"]))]));
        context.Check("sparsity", excess.Max(), Comparison.AtMost, 0, excess);
        context.Check("monotone", increase.Max(), Comparison.AtMost, 1e-6, increase);
        context.Check("relaxed", gap.Max(), Comparison.AtMost, 1e-5, gap);
        context.Check("plain-transport", plain.Max(), Comparison.AtMost, 1e-3, plain);
        context.Check("iterations", slope.Average(), Comparison.AtMost, 0, slope);

        context.Table("plans", "Plans between two Gaussians: means over seeds (non-zeros: the largest column of any seed).",
            ["plan", "dual value", "relaxed - dual", "non-zeros", "iterations", "row error", "seeds with ties"],
            [.. arms.Select(arm => (IReadOnlyList<string>)[arm, Format(results[arm].Average(r => r["dual"]), "F6"), Format(results[arm].Max(r => Math.Abs(r["relaxed"] - r["dual"])), "E1"),
                Format(results[arm].Max(r => r["nonZeros"]), "F0"), Format(results[arm].Average(r => r["iterations"]), "F0"), Format(results[arm].Max(r => r["rowError"]), "E1"),
                Format(results[arm].Sum(r => r["ties"]), "F0")])]);
        foreach (string arm in arms.Skip(1))
        {
            ArmResult first = results[arm][0];
            context.Figure($"plan-{arm.Replace(" = ", "-", StringComparison.Ordinal)}", $"Plan, {arm}: {Format(first["nonZerosTotal"], "F0")} non-zeros, at most {Format(first["nonZeros"], "F0")} in a column.",
                Charts.Heatmap($"{arm}: {Format(first["nonZerosTotal"], "F0")} non-zeros", Matrix(first.Tensor("plan")), "target", "source"), 720, 640);
        }
        // The distance to the final value, on a logarithmic axis: the values themselves lie on top of each other.
        const double Smallest = 1e-10;
        context.Figure("dual", "How far the dual value is from its optimum over L-BFGS iterations; the smaller k, the less smooth the dual. Curves that stop high lie on ties and are polished.",
            Charts.Lines("Dual value: distance to the optimum", "iteration", "D - dual value", [.. options.Sparsities.Zip(sparse, (k, arm) =>
            {
                (double[] x, double[] y) = arm[0].Series("trace");
                return new Curve($"k = {k}", x, [.. y.Select(value => Math.Max(arm[0]["dual"] - value, Smallest))]);
            })], logY: true));
    }

    private static (Tensor X, Tensor Y) Gaussians(int points, int seed)
    {
        SplitMix64 random = SplitMix64.For(seed, 0x4F54);
        Tensor Draw(double x, double y, double deviation)
        {
            var values = new double[points, 2];
            for (int i = 0; i < points; i++) (values[i, 0], values[i, 1]) = (x + deviation * random.NextGaussian(), y + deviation * random.NextGaussian());
            return torch.tensor(values);
        }
        return (Draw(0, 0, Math.Sqrt(0.25)), Draw(1.5, 1, Math.Sqrt(0.4)));
    }

    private static void Measure(ArmRun run, OtResult solved)
    {
        run.Metric("dual", solved.DualValue.item<double>());
        run.Metric("primal", solved.PrimalValue.item<double>());
        run.Metric("relaxed", solved.RelaxedValue.item<double>());
        run.Metric("nonZeros", solved.NonZeros.max().item<long>());
        run.Metric("nonZerosTotal", solved.NonZeros.sum().item<long>());
        run.Metric("iterations", solved.Iterations.item<long>());
        run.Metric("converged", solved.Converged.item<bool>() ? 1 : 0);
        run.Metric("ties", solved.HasTies.item<bool>() ? 1 : 0);
        run.Metric("rowError", solved.RowMarginalError.item<double>());
        run.Metric("columnError", solved.ColMarginalError.item<double>());
        double[] trace = solved.Trace.data<double>().ToArray();
        run.Series("trace", [.. Enumerable.Range(1, trace.Length).Select(i => (double)i)], trace);
        if (solved.Plan.numel() <= 1 << 20) run.Tensor("plan", solved.Plan);
    }

    private static void SaveProblem(RunContext context, OtResult solved, OtOptions problem, TransportMetric metric, double scale, Tensor? x, Tensor? y, Tensor a, Tensor b, bool colors, IReadOnlyList<string>? partners)
    {
        var tensors = new Dictionary<string, Tensor> { ["alpha"] = solved.Alpha, ["beta"] = solved.Beta, ["potentials"] = (problem.PerRow ? solved.Beta : solved.Alpha).clone() };
        if ((problem.PerRow ? y : x) is { } points) tensors["points"] = points;
        context.SaveModel("transport", tensors, new TransportDescription(problem, metric, scale, (problem.PerRow ? a : b).mean().item<double>(), colors, partners));
    }

    private static void RunProblem(SparseTransportOptions options, RunContext context)
    {
        string path = context.Data!.Path;
        TransportData data = TransportData.Read(path, options.Metric);
        (long m, long n) = (data.Cost.shape[0], data.Cost.shape[1]);
        context.UsedData($"{Path.GetFileName(path)}, {m} sources and {n} targets");
        ArmResult result = context.Arm("solution", context.Seeds[0], run =>
        {
            double scale = options.ScaleCost ? Math.Max(data.Cost.abs().max().item<double>(), 1e-300) : 1;
            OtResult solved = Solve(path, data.A, data.B, data.Cost / scale, options.Problem);
            Measure(run, solved);
            run.Metric("transportCost", (solved.Plan * data.Cost).sum().item<double>());
            run.Tensor("nonZeroCounts", options.PerRow ? solved.Plan.ne(0).sum(-1) : solved.NonZeros);
            SaveProblem(context, solved, options.Problem, options.Metric, scale, data.X, data.Y, data.A, data.B, false, options.PerRow ? data.Columns : data.Rows);
            WritePlan(context.OutputPath("plan.csv"), solved.Plan, data.Rows, data.Columns);
        });
        WriteMetrics(context, result);
        if ((double)m * n <= 1 << 20)
            context.Figure("plan", $"The plan: {Format(result["nonZerosTotal"], "F0")} non-zeros of {m * n}.", Charts.Heatmap("Plan", Matrix(result.Tensor("plan")), "target", "source"), 800, 720);
        context.Figure("non-zeros", "How many partners each target (source, if per row) has.", Charts.Histogram("Partners", "non-zeros", [("plan", [.. result.Tensor("nonZeroCounts").data<long>().ToArray().Select(c => (double)c)])], 20));
        ReportSolution(context, result);
    }

    private static OtResult Solve(string path, Tensor a, Tensor b, Tensor cost, OtOptions problem)
    {
        try
        {
            return Ot.Solve(a, b, cost, problem);
        }
        catch (InfeasibleTransportException e)
        {
            throw new BadInputException($"{path}: {e.Message} (option max-non-zeros)", e);
        }
    }

    private static void ReportSolution(RunContext context, ArmResult result)
    {
        context.Table("solution", "The solved problem.", ["figure", "value"], [.. result.Metrics.Select(m => (IReadOnlyList<string>)[m.Key, Format(m.Value, "G6")])]);
        if (result["ties"] > 0) context.Note("Some scores are tied at rank k: the plan keeps at most k partners but misses some row masses (see rowError). A larger max-non-zeros, or round=true, gives exact masses.");
        else if (result["converged"] == 0) context.Note("The solver stopped before the tolerance: see rowError.");
    }

    private static void WritePlan(string path, Tensor plan, IReadOnlyList<string>? rows, IReadOnlyList<string>? columns)
    {
        Tensor where = plan.nonzero();
        long[] index = where.reshape(-1).data<long>().ToArray();
        double[] mass = plan.masked_select(plan.ne(0)).data<double>().ToArray();
        string Name(IReadOnlyList<string>? names, long i) => names is null ? i.ToString(s_culture) : Csv.Cell(names[(int)i]);
        AtomicFile.WriteText(path, "row,column,mass\n" + string.Concat(mass.Select((value, e) => string.Create(s_culture, $"{Name(rows, index[2 * e])},{Name(columns, index[2 * e + 1])},{value:R}\n"))));
    }

    private static void WriteMetrics(RunContext context, ArmResult result)
    {
        var figures = result.Metrics.ToDictionary(m => m.Key, m => (object)m.Value);
        figures["dualityGap"] = result["primal"] - result["dual"];
        figures["nonZeroHistogram"] = result.Tensor("nonZeroCounts").data<long>().ToArray().GroupBy(c => c).OrderBy(g => g.Key).ToDictionary(g => g.Key.ToString(s_culture), g => g.Count());
        AtomicFile.WriteText(context.OutputPath("metrics.json"), JsonSerializer.Serialize(figures, s_json));
    }

    private static void RunColors(SparseTransportOptions options, RunContext context, (string Source, string Reference) images)
    {
        context.UsedData($"{Path.GetFileName(images.Source)} recoloured like {Path.GetFileName(images.Reference)}");
        ArmResult result = context.Arm("solution", context.Seeds[0], run =>
        {
            (Tensor source, int height, int width) = ColorTransfer.Read(images.Source);
            (Tensor reference, _, _) = ColorTransfer.Read(images.Reference);
            (Tensor x, Tensor a) = ColorTransfer.Palette(reference, options.Colors);
            (Tensor y, Tensor b) = ColorTransfer.Palette(source, options.Colors);
            Tensor cost = TransportData.CostBetween(x, y, TransportMetric.SquaredEuclidean);
            double scale = options.ScaleCost ? Math.Max(cost.max().item<double>(), 1e-300) : 1;
            // Rows are the reference's colours, columns the image's: at most k partners a colour of the image. Ties only cost a little of the palette's balance.
            OtOptions problem = options.Problem with { PerRow = false, Polish = false };
            OtResult solved = Solve(context.Data!.Path, a, b, cost / scale, problem);
            Measure(run, solved);
            run.Tensor("nonZeroCounts", solved.NonZeros);
            SaveProblem(context, solved, problem, TransportMetric.SquaredEuclidean, scale, x, y, a, b, true, null);
            Tensor recolored = ColorTransfer.Recolor(source, x, solved.Alpha, problem, scale, b.mean().item<double>());
            AtomicFile.Write(context.OutputPath("recolored.png"), stream => stream.Write(ColorTransfer.Png(recolored, height, width)));
            WritePlan(context.OutputPath("plan.csv"), solved.Plan, null, null);
        });
        WriteMetrics(context, result);
        context.Image("recolored", $"{Path.GetFileName(images.Source)} with the colours of {Path.GetFileName(images.Reference)}.", File.ReadAllBytes(context.OutputPath("recolored.png")));
        ReportSolution(context, result);
    }

    private static void RunMixtures(SparseTransportOptions options, RunContext context, Func<int, ExpertTasks> data)
    {
        int[] seeds = [.. context.Seeds.Take(MixtureSeeds)];
        (string Arm, MixtureDescription Mixture)[] mixtures =
        [
            (TopKTight, Describe(MixtureDescription.TopK, 1)), (TopK, Describe(MixtureDescription.TopK, options.CapacityFactor)),
            (Sinkhorn, Describe(MixtureDescription.Sinkhorn, options.CapacityFactor)), (SparseOt, Describe(MixtureDescription.SparseOt, options.CapacityFactor)),
        ];
        MixtureDescription Describe(string router, double capacity) => new(router, options.Dim, options.Experts, options.Hidden, 2, capacity, options.RouterGamma, options.RouterIterations, options.BatchSize, null);
        var results = new Dictionary<string, List<ArmResult>>();
        void Keep(ArmResult result) => (results.TryGetValue(result.Arm, out List<ArmResult>? list) ? list : results[result.Arm] = []).Add(result);
        foreach (int seed in seeds)
        {
            using var scope = torch.NewDisposeScope();
            ExpertTasks tasks = data(seed);
            if (seed == seeds[0]) context.UsedData(tasks.Description);
            foreach ((string arm, MixtureDescription description) in mixtures)
            {
                Keep(context.Arm(arm, seed, run =>
                {
                    MixtureDescription built = description with { Dim = (int)tasks.TrainX.shape[1], Classes = tasks.Classes, Schema = tasks.Schema };
                    MixtureOfExperts model = built.Build().to(run.Device);
                    using var learner = new ExpertLearner(model, options.LearningRate);
                    TrainAndTest(run, options, tasks, learner);
                    if (arm == SparseOt && seed == seeds[0]) run.SaveModel("mixture", model.state_dict(), built);
                }));
            }
            foreach (double rate in options.DenseLearningRates)
            {
                Keep(context.Arm(Dense(rate), seed, run =>
                {
                    using var learner = new ExpertLearner(new Mlp(tasks.TrainX.shape[1], [options.Hidden], tasks.Classes).to(run.Device), rate);
                    TrainAndTest(run, options, tasks, learner);
                }));
            }
        }
        string best = options.DenseLearningRates.Select(Dense).MaxBy(arm => results[arm].Average(r => r["accuracy"]))!;
        double[] Each(Func<int, double> figure) => [.. Enumerable.Range(0, seeds.Length).Select(figure)];
        double[] over = Each(s => results[SparseOt][s]["largestLoad"] - results[SparseOt][s]["capacity"]), uncovered = Each(s => results[SparseOt][s]["uncovered"]);
        double[] drops = Each(s => results[TopK][s]["uncovered"] - 3 * results[SparseOt][s]["uncovered"]);
        double[] topK = Each(s => results[SparseOt][s]["accuracy"] - results[TopKTight][s]["accuracy"]), dense = Each(s => results[SparseOt][s]["accuracy"] - results[best][s]["accuracy"]);
        context.Check("load", over.Max(), Comparison.AtMost, 0, over);
        context.Check("uncovered", uncovered.Average(), Comparison.AtMost, 0.03, uncovered);
        context.Check("drops", drops.Average(), Comparison.AtLeast, 0, drops);
        context.Check("accuracy-topk", topK.Average(), Comparison.AtLeast, -0.005, topK);
        context.Check("accuracy-dense", dense.Average(), Comparison.AtLeast, 0.02, dense);

        string[] routers = [.. mixtures.Select(m => m.Arm)];
        context.Table("mixtures", "Mixtures of experts: means over seeds (load: the largest of any step).", ["router", "test accuracy", "uncovered in training", "uncovered in test", "largest load", "capacity"],
            [.. routers.Append(best).Select(arm => (IReadOnlyList<string>)[arm, .. Cells(results[arm])])]);
        context.Figure("load", "Test rows that each expert processes, as a share of all rows.", Charts.GroupedBars("Load of the experts", "share of the rows",
            [.. Enumerable.Range(1, options.Experts).Select(e => $"expert {e}")],
            [.. routers.Select(arm => (arm, (IReadOnlyList<IReadOnlyList<double>>)[.. Enumerable.Range(0, options.Experts).Select(e => (IReadOnlyList<double>)[.. results[arm].Select(r => r.Series("load").Y[e])])]))]));
        context.Figure("accuracy", "Test accuracy of the mixtures and of the best dense expert.", Charts.Bars("Test accuracy", "accuracy", [.. routers.Append(best).Select(arm => (arm, (IReadOnlyList<double>)[.. results[arm].Select(r => r["accuracy"])]))]));

        static string Dense(double rate) => string.Create(s_culture, $"dense expert, rate {rate:G3}");
        static IEnumerable<string> Cells(List<ArmResult> arm)
        {
            yield return Format(arm.Average(r => r["accuracy"]), "F4");
            foreach ((string metric, string format) in ((string, string)[])[("uncovered", "F4"), ("testUncovered", "F4")]) yield return arm[0].Metrics.ContainsKey(metric) ? Format(arm.Average(r => r[metric]), format) : "";
            foreach (string metric in (string[])["largestLoad", "capacity"]) yield return arm[0].Metrics.ContainsKey(metric) ? Format(arm.Max(r => r[metric]), "F0") : "";
        }
    }

    private static void TrainAndTest(ArmRun run, SparseTransportOptions options, ExpertTasks tasks, ExpertLearner learner)
    {
        const int LastSteps = 100;
        Module<Tensor, Tensor> model = learner.Model;
        var mixture = model as MixtureOfExperts;
        int batch = (int)Math.Min(options.BatchSize, tasks.TrainX.shape[0]);
        TrainingHistory history = run.Trainer(new() { Epochs = options.Epochs, BatchSize = batch, DropLast = true }).Fit(learner, new TensorSource(tasks.TrainX, tasks.TrainY), cancellation: run.Cancellation);
        run.Include(history);
        if (mixture is not null)
        {
            int stepsPerEpoch = (int)(tasks.TrainX.shape[0] / batch), lastEpochs = Math.Max(1, (int)Math.Ceiling((double)LastSteps / stepsPerEpoch));
            run.Metric("uncovered", history.Series["uncovered"].TakeLast(lastEpochs).Average());
            run.Metric("largestLoad", learner.LargestLoad);
        }
        model.eval();
        using var noGradient = torch.no_grad();
        double correct = 0, uncovered = 0;
        var load = new double[options.Experts];
        long rows = tasks.TestX.shape[0];
        for (long start = 0; start < rows; start += batch)
        {
            using var scope = torch.NewDisposeScope();
            long count = Math.Min(batch, rows - start);
            Tensor x = tasks.TestX.narrow(0, start, count).to(run.Device), y = tasks.TestY.narrow(0, start, count).to(run.Device);
            Routing? routing = mixture?.Router.call(x);
            Tensor logits = routing is null ? model.call(x) : mixture!.Combine(x, routing);
            correct += logits.argmax(-1).eq(y).sum().item<long>();
            if (routing is null) continue;
            uncovered += routing.Uncovered.item<float>() * count;
            long[] counts = routing.Load.cpu().data<long>().ToArray();
            for (int e = 0; e < load.Length; e++) load[e] += counts[e];
            if (start == 0) run.Metric("capacity", Math.Ceiling(routing.Capacity * (double)batch / count));
        }
        run.Metric("accuracy", correct / rows);
        if (mixture is null) return;
        run.Metric("testUncovered", uncovered / rows);
        run.Series("load", [.. Enumerable.Range(1, load.Length).Select(e => (double)e)], [.. load.Select(l => l / rows)]);
    }

    /// <summary>Routes and classifies new rows with the mixture of a run.</summary>
    private static void Route(SavedRun run, ApplyContext context)
    {
        MixtureDescription description = run.Description<MixtureDescription>("mixture");
        MixtureOfExperts model = description.Build();
        model.load_state_dict(run.Model("mixture"));
        model.eval();
        Tensor x = description.Schema is { } schema ? ExpertTasks.Dense(schema.Encode(Table.Read(context.DataPath)), schema) : TransportData.ReadMatrix(context.DataPath, "X").@float();
        if (x.shape[1] != description.Dim) throw new BadInputException($"{context.DataPath} has {x.shape[1]} columns; the mixture was trained on {description.Dim}.");
        using var noGradient = torch.no_grad();
        var text = new StringBuilder("row,class,experts,gates\n");
        var load = new long[description.Experts];
        for (long start = 0; start < x.shape[0]; start += description.BatchSize)
        {
            using var scope = torch.NewDisposeScope();
            Tensor part = x.narrow(0, start, Math.Min(description.BatchSize, x.shape[0] - start));
            Routing routing = model.Router.call(part);
            long[] classes = model.Combine(part, routing).argmax(-1).data<long>().ToArray();
            bool[] assigned = routing.Assignment.contiguous().data<bool>().ToArray();
            float[] gates = routing.Gates.contiguous().data<float>().ToArray();
            for (int i = 0; i < classes.Length; i++)
            {
                int[] experts = [.. Enumerable.Range(0, load.Length).Where(e => assigned[i * load.Length + e]).OrderByDescending(e => gates[i * load.Length + e])];
                foreach (int e in experts) load[e]++;
                string name = description.Schema?.Target!.Classes[(int)classes[i]] ?? classes[i].ToString(s_culture);
                text.Append(s_culture, $"{start + i},{Csv.Cell(name)},{string.Join(' ', experts)},{string.Join(' ', experts.Select(e => gates[i * load.Length + e].ToString("F4", s_culture)))}\n");
            }
        }
        AtomicFile.WriteText(context.OutPath, text.ToString());
        context.Report($"{x.shape[0]} rows routed: {context.OutPath}; rows an expert: {string.Join(", ", load)}");
    }

    private static double[,] Matrix(Tensor plan)
    {
        var matrix = new double[plan.shape[0], plan.shape[1]];
        double[] values = plan.contiguous().data<double>().ToArray();
        Buffer.BlockCopy(values, 0, matrix, 0, values.Length * sizeof(double));
        return matrix;
    }

    private static double Slope((double X, double Y)[] points)
    {
        double x = points.Average(p => p.X), y = points.Average(p => p.Y);
        return points.Sum(p => (p.X - x) * (p.Y - y)) / points.Sum(p => (p.X - x) * (p.X - x));
    }

    private static string Format(double value, string format) => value.ToString(format, s_culture);
}
