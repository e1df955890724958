using Priori.Continual;
using Priori.Data;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Recipes.Continual;

/// <summary>Options of <see cref="ActiveMultitaskRecipe"/>.</summary>
public sealed record ActiveMultitaskRecipeOptions : RecipeOptions
{
    /// <summary>Budget of own data.</summary>
    [Option("Own data: labels of source tasks that may be bought in all; money where --data.prices gives prices.", Min = 1)]
    public double Budget { get; init; } = 5000;

    /// <summary>Representation dimension of own data.</summary>
    [Option("Own data: dimension k of the shared representation.", Min = 1)]
    public int Dim { get; init; } = 8;

    /// <summary>Model of own data.</summary>
    [Option("Own data: representation.", Choices = ["linear", "mlp"])]
    public string Model { get; init; } = "linear";

    /// <summary>Hidden units.</summary>
    [Option("Own data and digits: hidden units of the mlp.", Min = 1)]
    public int Hidden { get; init; } = 64;

    /// <summary>Plan only.</summary>
    [Option("Own data: only say which labels to buy next; rows of the pool without a label are for sale.")]
    public bool Plan { get; init; }

    /// <summary>Strategy of own data.</summary>
    [Option("Own data: strategy of the plan and of the model that is kept.")]
    public SamplingStrategy Strategy { get; init; } = SamplingStrategy.Lasso;

    /// <summary>Task column.</summary>
    [Option("Own data: column that names the source task.")]
    public string TaskColumn { get; init; } = "task_id";

    /// <summary>Ignored columns.</summary>
    [Option("Own data: columns that are no inputs.")]
    public IReadOnlyList<string> Ignore { get; init; } = [];

    /// <summary>Test share.</summary>
    [Option("Own data: share of the target's rows that test the strategies where --data.test gives none; the model that is kept uses all.", Min = 0.05, Max = 0.9)]
    public double TestShare { get; init; } = 0.3;

    /// <summary>Share of exploration.</summary>
    [Option("Share of the budget that explores all sources equally.", Min = 0.01, Max = 0.99)]
    public double Explore { get; init; } = 0.25;

    /// <summary>Minimum.</summary>
    [Option("Labels of each source at least.", Min = 0)]
    public int MinPerTask { get; init; } = 20;

    /// <summary>Penalty.</summary>
    [Option("Penalty of the lasso, as a share of the smallest one whose relevance is 0.", Min = 0, Max = 1)]
    public double LambdaRatio { get; init; } = 0.05;

    /// <summary>Cross-validation.</summary>
    [Option("Own data: choose the penalty by 5-fold cross-validation over the target's rows, where there are ten a dimension.")]
    public bool CrossValidate { get; init; }

    /// <summary>Rounds.</summary>
    [Option("Own data: rounds of exploitation, each with twice the budget of the one before.", Min = 1, Max = 16)]
    public int Epochs { get; init; } = 1;

    /// <summary>Ridge.</summary>
    [Option("Own data and digits: ridge of the target's head.", Min = 0)]
    public double Ridge { get; init; } = 1;

    /// <summary>Opening fee.</summary>
    [Option("Own data: fee of each source that a purchase uses.", Min = 0)]
    public double OpeningFee { get; init; }

    /// <summary>Adam's steps.</summary>
    [Option("Own data and digits: steps of AdamW for an mlp.", Min = 1)]
    public int Steps { get; init; } = 1500;

    /// <summary>Learning rate.</summary>
    [Option("Own data and digits: AdamW's learning rate at the start.", Min = 1e-8)]
    public double LearningRate { get; init; } = 2e-3;

    /// <summary>Weight decay.</summary>
    [Option("Own data and digits: AdamW's decoupled weight decay.", Min = 0)]
    public double WeightDecay { get; init; } = 1e-2;

    /// <summary>Ridge of the sources' heads.</summary>
    [Option("Own data and digits: ridge of the sources' heads, solved once more on the trained representation; none keeps the trained heads.", Min = 0)]
    public double? HeadRidge { get; init; }

    /// <summary>Tasks of the synthetic world.</summary>
    [Option("Synthetic tasks: sources M.", Min = 4)]
    public int Tasks { get; init; } = 40;

    /// <summary>Budgets of the synthetic world.</summary>
    [Option("Synthetic tasks: budgets of the curves.")]
    public IReadOnlyList<int> Budgets { get; init; } = [1000, 2000, 4000, 8000, 12000, 24000];

    /// <summary>Digit targets.</summary>
    [Option("Corrupted digits: how many of the four targets; 0 leaves them out.", Min = 0, Max = 4)]
    public int DigitTargets { get; init; } = 4;

    /// <summary>Digit strategies.</summary>
    [Option("Corrupted digits: strategies.", Choices = ["target only", "uniform", "nu2 squared", "nu2", "nu1 lasso", ActiveMultitaskRecipe.SameDigit])]
    public IReadOnlyList<string> DigitStrategies { get; init; } = ["target only", "uniform", "nu2 squared", "nu2", "nu1 lasso", ActiveMultitaskRecipe.SameDigit];

    /// <summary>Digit seeds.</summary>
    [Option("Corrupted digits: how many of the seeds.", Min = 1)]
    public int DigitSeeds { get; init; } = 3;

    /// <summary>Digit budget.</summary>
    [Option("Corrupted digits: labels of source tasks.", Min = 1)]
    public int DigitBudget { get; init; } = 6000;

    /// <summary>Digit target labels.</summary>
    [Option("Corrupted digits: labels of the target.", Min = 10)]
    public int DigitTargetLabels { get; init; } = 200;

    /// <summary>Digit pool.</summary>
    [Option("Corrupted digits: images of each corruption that can be labelled.", Min = 20)]
    public int DigitPool { get; init; } = 2000;

    /// <summary>Digit test images.</summary>
    [Option("Corrupted digits: test images.", Min = 10)]
    public int DigitTest { get; init; } = 4000;

    /// <summary>Digit dimension.</summary>
    [Option("Corrupted digits: dimension k of the representation.", Min = 1)]
    public int DigitDim { get; init; } = 16;

    /// <summary>Digit network.</summary>
    [Option("Corrupted digits: mlp on 14 x 14 pixels, or a convolutional network of two layers on 28 x 28.", Choices = ["mlp", "cnn"])]
    public string DigitModel { get; init; } = "mlp";

    internal DeepErmOptions Deep(int seed, Device device)
        => new() { Steps = Steps, LearningRate = LearningRate, WeightDecay = WeightDecay, HeadRidge = HeadRidge, Seed = seed, Device = device };

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Budgets.Count == 0 || Budgets.Any(b => b < 1)) throw new BadInputException("Option 'budgets' needs at least one budget above 0.");
    }
}

/// <summary>Which source tasks to label for the good of one target task: relevance by the lasso against other strategies, on synthetic tasks, corrupted digits and own data.</summary>
public sealed class ActiveMultitaskRecipe : Recipe<ActiveMultitaskRecipeOptions>
{
    private const int Inputs = 20, Rank = 5, KnownBudget = 4000, EstimatedBudget = 12000, FirstFreshSeed = 12;
    internal const string SameDigit = "known same digit"; // no estimate: all but the least number of labels goes to the sources of the target's digit, equally
    private static readonly string[] ClaimSuffixes = ["", "-pilot"], Measures = ["error", "excess"], Shown = ["nu1", "nu1 lasso", "nu2"];
    private static readonly string[] Known = ["uniform", "nu2 squared", "nu2", "nu1"];
    private static readonly string[] Estimated = ["uniform", "nu2 squared estimated", "nu2 estimated", "nu1 lasso", "top tasks"];
    private static readonly (string Name, SamplingStrategy Strategy)[] DigitStrategies =
        [("target only", SamplingStrategy.TargetOnly), ("uniform", SamplingStrategy.Uniform), ("nu2 squared", SamplingStrategy.MinNormSquared), ("nu2", SamplingStrategy.MinNorm), ("nu1 lasso", SamplingStrategy.Lasso), (SameDigit, SamplingStrategy.Lasso)];

    /// <summary>The variants of the estimated relevance: what differs from 200 target labels, reuse and a penalty of 0.05.</summary>
    private static readonly (string Name, SamplingStrategy Strategy, int Labels, bool Reuse, double Lambda, int Epochs, bool CrossValidate)[] Variants =
    [
        ("nu1 lasso, lambda 0.2", SamplingStrategy.Lasso, 200, true, .2, 1, false),
        ("nu1 lasso, cross-validated", SamplingStrategy.Lasso, 200, true, .05, 1, true),
        ("nu1 lasso, 4 rounds", SamplingStrategy.Lasso, 200, true, .05, 4, false),
        ("nu2 squared, 4 rounds", SamplingStrategy.MinNormSquared, 200, true, .05, 4, false),
        ("nu1 lasso, 1000 target labels", SamplingStrategy.Lasso, 1000, true, .05, 1, false),
        ("nu2 squared, 1000 target labels", SamplingStrategy.MinNormSquared, 1000, true, .05, 1, false),
        ("nu1 lasso, 40 target labels, no reuse", SamplingStrategy.Lasso, 40, false, .05, 1, false),
        ("nu2 squared, 40 target labels, no reuse", SamplingStrategy.MinNormSquared, 40, false, .05, 1, false),
    ];

    /// <inheritdoc/>
    public override string Id => "active-multitask";

    /// <inheritdoc/>
    public override string Area => "Continual";

    /// <inheritdoc/>
    public override string Title => "Active multi-task representation learning via the lasso";

    /// <inheritdoc/>
    public override string Summary => "Says how many labels to buy of which source task for the good of one target task, and learns the shared representation from them.";

    /// <inheritdoc/>
    public override Paper Paper => new("Improved Active Multi-Task Representation Learning via Lasso", "Wang, Chen, Jamieson, Du", "ICML", 2023, "https://arxiv.org/abs/2306.02556");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        .. new[] { ("", "fresh seeds (12 and above)"), ("-pilot", "seeds 0-11, on which the thresholds were chosen") }.SelectMany(g => new Claim[]
        {
            new($"known-nu2{g.Item1}", $"Known relevance, 4,000 labels: the mean subspace error of nu^1 is at most 0.75 times that of nu^2 squared; {g.Item2}."),
            new($"known-uniform{g.Item1}", $"Known relevance, 4,000 labels: at most 0.3 times that of uniform; {g.Item2}."),
            new($"lasso-nu2{g.Item1}", $"Estimated relevance, 12,000 labels, 200 of the target: the mean subspace error of the lasso is at most 0.8 times that of nu^2 squared; {g.Item2}."),
            new($"lasso-uniform{g.Item1}", $"Estimated relevance, 12,000 labels: at most 0.4 times that of uniform; {g.Item2}."),
            new($"support-size{g.Item1}", $"Estimated relevance, 12,000 labels: the lasso uses at most 2k = 10 sources in every seed; {g.Item2}."),
            new($"support-planted{g.Item1}", $"Estimated relevance, 12,000 labels: it uses at least two of the three planted sources in every seed; {g.Item2}."),
        }),
        new("digits-uniform", "Corrupted digits: the lasso's mean target error is at least 0.5 points below that of uniform."),
        new("digits-same", "Corrupted digits: sources of the target's digit have at least half of |nu|."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        ["target"] = "table of the target task, with its label (--target, by default y) and the input columns of the pool",
        ["test"] = "further rows of the target, which only test",
        ["prices"] = "table with task_id and price: what a label of each source costs",
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Full ? [.. Enumerable.Range(0, 24)] : [0, 1];

    /// <inheritdoc/>
    public override ActiveMultitaskRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Tasks = 12, Budgets = [400, 1000], DigitTargets = 1, DigitSeeds = 1, DigitBudget = 600, DigitPool = 100, DigitTest = 200, MinPerTask = 5, Steps = 60 },
        Budget.Paper => new() { DigitModel = "cnn", DigitDim = 50, DigitPool = 4900, DigitTest = 10_000, DigitBudget = 20_000, Steps = 10_000, Hidden = 128 },
        _ => new(),
    };

    /// <inheritdoc/>
    public override void Run(ActiveMultitaskRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        if (context.Data is { } data)
        {
            OwnTasks.Run(options, context, TaskPool.Read(data, options));
            return;
        }
        RunSynthetic(options, context);
        if (options.DigitTargets > 0) RunDigits(options, context);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context) => OwnTasks.Apply(run, context);

    private static void RunSynthetic(ActiveMultitaskRecipeOptions options, RunContext context)
    {
        int[] budgets = [.. options.Budgets.Where(b => b >= options.Tasks * options.MinPerTask).Order()];
        if (budgets.Length == 0) throw new BadInputException($"No budget of option 'budgets' gives {options.Tasks} sources {options.MinPerTask} labels: at least {options.Tasks * options.MinPerTask} are needed.");
        context.UsedData($"linear tasks (generated): {options.Tasks} sources, {Inputs} inputs, representation of {Rank}, three planted sources");
        var results = new Dictionary<string, List<ArmResult>>();
        foreach (int seed in context.Seeds)
        {
            using var world = new LinearTaskWorld(Inputs, Rank, options.Tasks, seed);
            void Arm(string name, int[] at, int labels, ActiveMultiTaskOptions settings, Func<Tensor>? known = null)
            {
                if (!results.TryGetValue(name, out List<ArmResult>? list)) results[name] = list = [];
                list.Add(context.Arm(name, seed, run => Synthetic(run, world, at, labels, settings, known)));
            }
            ActiveMultiTaskOptions Settings(SamplingStrategy strategy) => new() { Budget = 1, Strategy = strategy, ExploreFraction = options.Explore, MinPerTask = options.MinPerTask, LambdaRatio = options.LambdaRatio };
            Tensor Sparse() => Relevance.BasisPursuit(world.Heads, world.Target);
            Tensor Dense() => Relevance.MinNorm(world.Heads, world.Target);
            Arm("uniform", budgets, 200, Settings(SamplingStrategy.Uniform));
            Arm("nu2 squared", budgets, 200, Settings(SamplingStrategy.MinNormSquared), Dense);
            Arm("nu2", budgets, 200, Settings(SamplingStrategy.MinNorm), Dense);
            Arm("nu1", budgets, 200, Settings(SamplingStrategy.Lasso), Sparse);
            Arm("nu2 squared estimated", budgets, 200, Settings(SamplingStrategy.MinNormSquared));
            Arm("nu2 estimated", budgets, 200, Settings(SamplingStrategy.MinNorm));
            Arm("nu1 lasso", budgets, 200, Settings(SamplingStrategy.Lasso));
            Arm("top tasks", budgets, 200, Settings(SamplingStrategy.TopTasks));
            Arm("target only", [budgets[^1]], 200, Settings(SamplingStrategy.TargetOnly));
            int[] twice = [.. budgets.Where(b => b is KnownBudget or EstimatedBudget)];
            if (twice.Length == 0) twice = [budgets[^1]];
            foreach (var v in Variants)
                Arm(v.Name, twice, v.Labels, Settings(v.Strategy) with { ReuseExploration = v.Reuse, LambdaRatio = v.Lambda, Epochs = v.Epochs, CrossValidate = v.CrossValidate });
        }
        Report(options, context, results, budgets);
    }

    // The relevance that the last purchase followed; of a strategy without one, what all labels show in the end.
    private static Tensor Followed(ActiveMultiTaskResult result) => (result.Plans.Count > 0 ? result.Plans[^1].Relevance : null) ?? result.Relevance;

    private static void Synthetic(ArmRun run, LinearTaskWorld world, int[] budgets, int labels, ActiveMultiTaskOptions settings, Func<Tensor>? known)
    {
        Tensor truth = world.Parameter;
        TaskBatch target = world.Rows(world.Tasks, 0, labels);
        List<double> errors = [], excess = [];
        foreach (int budget in budgets)
        {
            using DisposeScope scope = NewDisposeScope();
            ActiveMultiTaskResult result = new ActiveMultiTaskSampler(new LinearErm(Rank), settings with { Budget = budget }).Run(new LinearTaskOracle(world), target, known?.Invoke());
            Tensor basis = ((Linear)result.Representation).weight.detach(); // [k, d]
            double error = (truth - basis.t().mv(basis.mv(truth))).square().sum().item<double>();
            double risk = (truth - basis.t().mv(result.Head.weight.detach().squeeze(0))).square().sum().item<double>();
            Tensor nu = Followed(result);
            errors.Add(error * 1000);
            excess.Add(risk * 1000);
            run.Metric($"error {budget}", error * 1000);
            run.Metric($"excess {budget}", risk * 1000);
            run.Metric($"sources {budget}", nu.ne(0).sum().item<long>());
            run.Metric($"planted {budget}", nu.narrow(0, 0, LinearTaskWorld.Planted).ne(0).sum().item<long>());
            if (budget != budgets[^1]) continue;
            run.Tensor("relevance", nu);
            run.Tensor("counts", tensor(result.Counts.ToArray()));
            if (run.Arm == "nu1 lasso")
                OwnTasks.Save(run, $"synthetic-{run.Seed}", result, new TaskColumns([.. Enumerable.Range(0, Inputs).Select(i => $"x_{i}")], "y", [.. Enumerable.Repeat(0.0, Inputs)], [.. Enumerable.Repeat(1.0, Inputs)], 1, null), "linear", Rank, 0);
        }
        run.Series("error", [.. budgets.Select(b => (double)b)], errors);
        run.Series("excess", [.. budgets.Select(b => (double)b)], excess);
    }

    private static void Report(ActiveMultitaskRecipeOptions options, RunContext context, Dictionary<string, List<ArmResult>> results, int[] budgets)
    {
        int known = budgets.Contains(KnownBudget) ? KnownBudget : budgets[0], estimated = budgets.Contains(EstimatedBudget) ? EstimatedBudget : budgets[^1];
        ArmResult[][] groups = [[.. results["nu1"].Where(r => r.Seed >= FirstFreshSeed)], [.. results["nu1"].Where(r => r.Seed < FirstFreshSeed)]];
        foreach (var (group, suffix) in groups.Zip(ClaimSuffixes))
        {
            if (group.Length == 0) continue;
            int[] seeds = [.. group.Select(r => r.Seed)];
            ArmResult[] Of(string arm) => [.. results[arm].Where(r => seeds.Contains(r.Seed))];
            void Ratio(string claim, string arm, string baseline, string metric, double threshold)
            {
                ArmResult[] a = Of(arm), b = Of(baseline);
                context.Check(claim + suffix, a.Average(r => r[metric]) / b.Average(r => r[metric]), Comparison.AtMost, threshold, [.. a.Zip(b, (x, y) => x[metric] / y[metric])]);
            }
            Ratio("known-nu2", "nu1", "nu2 squared", $"error {known}", .75);
            Ratio("known-uniform", "nu1", "uniform", $"error {known}", .3);
            Ratio("lasso-nu2", "nu1 lasso", "nu2 squared estimated", $"error {estimated}", .8);
            Ratio("lasso-uniform", "nu1 lasso", "uniform", $"error {estimated}", .4);
            double[] sizes = [.. Of("nu1 lasso").Select(r => r[$"sources {estimated}"])], planted = [.. Of("nu1 lasso").Select(r => r[$"planted {estimated}"])];
            context.Check("support-size" + suffix, sizes.Max(), Comparison.AtMost, 2 * Rank, sizes);
            context.Check("support-planted" + suffix, planted.Min(), Comparison.AtLeast, LinearTaskWorld.Planted - 1, planted);
            // Errors are the worse the larger: the differences are baseline minus method.
            string part = suffix.Length == 0 ? $"seeds {seeds.Min()}-{seeds.Max()}" : $"seeds {seeds.Min()}-{seeds.Max()} (pilot)";
            foreach (string baseline in new[] { "nu2 squared", "nu2", "uniform" }) context.Compare(null, $"{baseline} - nu1, known, {part}", Of(baseline), Of("nu1"), $"error {known}");
            foreach (int budget in new[] { known, estimated }.Distinct())
                foreach (string baseline in new[] { "nu2 squared estimated", "nu2 estimated", "top tasks", "uniform" }) context.Compare(null, $"{baseline} - nu1 lasso, {part}", Of(baseline), Of("nu1 lasso"), $"error {budget}");
        }
        IReadOnlyList<string> Row(string arm) =>
        [
            arm,
            .. Measures.SelectMany(metric => budgets.Where(b => b == known || b == estimated).Select(b => results[arm][0].Metrics.ContainsKey($"{metric} {b}") ? Numbers.MeanAndDeviation(results[arm], $"{metric} {b}", "F2") : "")),
            results[arm][0].Metrics.ContainsKey($"sources {estimated}") ? Numbers.Text(results[arm].Average(r => r[$"sources {estimated}"]), "F1") : "",
            results[arm][0].Metrics.ContainsKey($"planted {estimated}") ? Numbers.Text(results[arm].Average(r => r[$"planted {estimated}"]), "F1") : "",
        ];
        string[] shown = [.. budgets.Where(b => b == known || b == estimated).Select(b => Numbers.Text(b, "N0"))];
        context.Table("synthetic", $"Linear tasks: squared subspace error |theta - B B^T theta|^2 and excess risk, both in thousandths (mean and deviation over {context.Seeds.Count} seeds), sources in use and planted ones among them (of 3)",
            ["strategy", .. shown.Select(b => $"error, {b} labels"), .. shown.Select(b => $"excess risk, {b} labels"), $"sources, {shown[^1]}", $"planted, {shown[^1]}"], [.. results.Keys.Select(Row)]);
        void Curves(string name, string title, string[] arms) => context.Figure(name, $"{title}: squared subspace error of the target's parameter against the labels of source tasks; mean and range over {context.Seeds.Count} seeds.",
            Charts.Lines(title, "labels of source tasks", "subspace error, 1e-3", [.. arms.Select(a => new Curve(a, results[a][0].Series("error").X, [.. results[a].Select(r => (IReadOnlyList<double>)r.Series("error").Y)], Dashed: a == "uniform"))], logX: true, logY: true));
        Curves("known", "Known relevance", Known);
        Curves("estimated", "Estimated relevance", Estimated);
        context.Figure("sources", $"Sources that the relevance uses at {Numbers.Text(estimated, "N0")} labels; a dot is a seed.", Charts.Bars("Sources in use", "sources", [.. Known.Skip(1).Concat(Estimated.Skip(1)).Select(a => (a, (IReadOnlyList<double>)[.. results[a].Select(r => r[$"sources {estimated}"])]))]), width: 1100);
        int seed = context.Seeds[0];
        IReadOnlyList<double> Bars(string arm) => [.. results[arm].First(r => r.Seed == seed).Tensor("relevance").abs().data<double>()];
        context.Figure("relevance", $"Relevance |nu| of each source, seed {seed}; sources 0-2 are planted.",
            Charts.GroupedBars("Relevance of the sources", "|nu|", [.. Enumerable.Range(0, options.Tasks).Select(m => $"{m}")], [.. Shown.Select(a => (a, (IReadOnlyList<IReadOnlyList<double>>)[.. Bars(a).Select(v => (IReadOnlyList<double>)[v])]))]), width: 1400);
    }

    private static void RunDigits(ActiveMultitaskRecipeOptions options, RunContext context)
    {
        Digits digits = Digits.Load(context, CorruptedDigits.TrainImages(options), options.DigitTest);
        int[] seeds = [.. context.Seeds.Take(options.DigitSeeds)];
        var strategies = DigitStrategies.Where(s => options.DigitStrategies.Contains(s.Name)).ToArray();
        var results = strategies.ToDictionary(s => s.Name, _ => new List<ArmResult>());
        foreach (int seed in seeds)
        {
            using DisposeScope scope = NewDisposeScope();
            var tasks = new CorruptedDigits(digits, options, seed);
            foreach (var (corruption, digit) in CorruptedDigits.Targets.Take(options.DigitTargets))
            {
                (TaskBatch[] Sources, TaskBatch Target, TaskBatch Test) data = tasks.Task(corruption, digit);
                foreach (var (name, strategy) in strategies)
                    results[name].Add(context.Arm($"digits {corruption} {digit}, {name}", seed, run => Digit(run, options, data, strategy, corruption, digit, known: name == SameDigit)));
            }
        }
        ReportDigits(options, context, results, seeds);
    }

    private static void Digit(ArmRun run, ActiveMultitaskRecipeOptions options, (TaskBatch[] Sources, TaskBatch Target, TaskBatch Test) data, SamplingStrategy strategy, ImageCorruption corruption, int digit, bool known)
    {
        Tensor same = tensor(Enumerable.Range(0, data.Sources.Length).Select(m => CorruptedDigits.Source(corruption, m).Digit == digit ? 1.0 : 0).ToArray());
        DeepErm erm = DigitErm(options, run.Seed, run.Device, run.Trainer, run.Cancellation);
        var settings = new ActiveMultiTaskOptions { Budget = options.DigitBudget, Strategy = strategy, ExploreFraction = options.Explore, MinPerTask = options.MinPerTask, LambdaRatio = options.LambdaRatio, Ridge = options.Ridge };
        ActiveMultiTaskResult result = new ActiveMultiTaskSampler(erm, settings).Run(new PoolOracle(data.Sources, run.Seed), data.Target, known ? same : null);
        result.Representation.cpu();
        Tensor wrong = result.Predict(data.Test.Inputs).sign().ne(data.Test.Labels);
        Tensor nu = Followed(result).abs();
        double all = nu.sum().item<double>();
        run.Metric("error", 100 * wrong.to(float64).mean().item<double>());
        run.Metric("same digit", all > 0 ? (nu * same).sum().item<double>() / all : 0);
        run.Metric("same digit, labels", result.Cost > 0 ? (tensor(result.Counts.Select(c => (double)c).ToArray()) * same).sum().item<double>() / result.Cost : 0);
        run.Metric("sources", nu.ne(0).sum().item<long>());
        run.Tensor("relevance", nu);
    }

    /// <summary>The deep representation of the digits.</summary>
    internal static DeepErm DigitErm(ActiveMultitaskRecipeOptions options, int seed, Device device, Func<TrainerOptions, Trainer>? trainer, CancellationToken cancellation)
    {
        Module<Tensor, Tensor> Trunk() => options.DigitModel == "mlp"
            ? Sequential(("flatten", Flatten()), ("hidden", Linear(14 * 14, options.Hidden)), ("relu", ReLU()), ("features", Linear(options.Hidden, options.DigitDim)))
            : Sequential(("conv1", Conv2d(1, 32, 3, stride: 2, padding: 1)), ("relu1", ReLU()), ("conv2", Conv2d(32, 64, 3, stride: 2, padding: 1)), ("relu2", ReLU()), ("flatten", Flatten()), ("features", Linear(64 * 7 * 7, options.DigitDim)));
        return new DeepErm(Trunk, options.DigitDim, options.Deep(seed, device), trainer) { Cancellation = cancellation };
    }

    private static void ReportDigits(ActiveMultitaskRecipeOptions options, RunContext context, Dictionary<string, List<ArmResult>> results, int[] seeds)
    {
        var targets = CorruptedDigits.Targets.Take(options.DigitTargets).ToArray();
        if (results.TryGetValue("nu1 lasso", out List<ArmResult>? lasso))
        {
            // An arm a target and seed: pairs are of the same target and seed.
            foreach (string baseline in results.Keys.Where(k => k != "nu1 lasso"))
                context.Compare(baseline == "uniform" ? "digits-uniform" : null, $"digits: {baseline} - nu1 lasso", results[baseline], lasso, "error", baseline == "uniform" ? .5 : 0);
            context.Check("digits-same", lasso.Average(r => r["same digit"]), Comparison.AtLeast, .5, [.. lasso.Select(r => r["same digit"])]);
        }
        ArmResult[] Of(string name, int target) => [.. seeds.Select((_, s) => results[name][(s * targets.Length) + target])];
        context.Table("digits", $"Corrupted digits: target error in %, {options.DigitBudget} source labels, {options.DigitTargetLabels} of the target, mean over {seeds.Length} seeds; share of |nu| and of the labels at sources of the target's digit, and sources in use",
            ["strategy", .. targets.Select(t => $"{t.Corruption} {t.Digit}"), "mean", "|nu| at the same digit", "labels at the same digit", "sources"],
            [.. DigitStrategies.Where(s => results.ContainsKey(s.Name)).Select(s => (IReadOnlyList<string>)[s.Name, .. targets.Select((_, t) => Numbers.MeanAndDeviation(Of(s.Name, t), "error", "F2")), Numbers.Text(results[s.Name].Average(r => r["error"]), "F2"),
                .. s.Strategy == SamplingStrategy.TargetOnly ? ["", "", ""] : new[] { Numbers.Text(results[s.Name].Average(r => r["same digit"]), "P0"), Numbers.Text(results[s.Name].Average(r => r["same digit, labels"]), "P0"), Numbers.Text(results[s.Name].Average(r => r["sources"]), "F0") }])]);
        context.Figure("digits", "Target error of each strategy on corrupted digits; a dot is a target and seed.", Charts.Bars("Corrupted digits", "target error, %", [.. results.Keys.Select(s => (s, (IReadOnlyList<double>)[.. results[s].Select(r => r["error"])]))]));
        if (lasso is null) return;
        var (corruption, digit) = targets[0];
        double[] nu = [.. lasso[0].Tensor("relevance").data<double>()];
        var map = new double[nu.Length / 10, 10];
        for (int m = 0; m < nu.Length; m++) map[m / 10, m % 10] = nu[m];
        context.Figure("digits-relevance", $"Relevance |nu| of each source for the target {corruption} {digit} (lasso, seed {seeds[0]}).",
            Charts.Heatmap($"Relevance for {corruption} {digit}", map, "digit", "", [.. Enumerable.Range(0, 10).Select(d => $"{d}")], [.. Enumerable.Range(0, nu.Length / 10).Select(c => $"{CorruptedDigits.Source(corruption, c * 10).Corruption}")]));
    }
}
