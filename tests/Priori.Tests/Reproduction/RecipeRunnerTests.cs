using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Reproduction;

public sealed class RecipeRunnerTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("priori-run-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void A_run_leaves_result_report_figures_log_and_model()
    {
        (RunResult result, string folder) = RecipeRunner.Run(new LinearRecipe(), Request(), new SilentObserver());
        foreach (string file in new[] { "run.json", "result.json", "report.html", "log.jsonl", "figures/curve.png", "model/line.safetensors", "model/model.json" })
            Assert.True(File.Exists(Path.Combine(folder, file)), file);
        Assert.NotEmpty(Directory.GetFiles(Path.Combine(folder, "tensorboard"), "*tfevents*", SearchOption.AllDirectories));
        Assert.Equal(["line 0", "line 1"], result.Arms.Select(a => $"{a.Arm} {a.Seed}"));
        SavedRun saved = SavedRun.Open(folder);
        Assert.Equal(result.Arms[1]["slope"], saved.Result.Arms[1]["slope"]);
        Assert.Equal(0.1, saved.Options<LinearOptions>().Rate);
        Assert.Equal("a line", saved.Description<Description>("line").What);
        Assert.Equal(1, saved.Model("line")["weight"].numel());
        Assert.DoesNotContain("checkpoints", Directory.GetDirectories(folder).Select(Path.GetFileName).Where(d => Directory.GetFiles(Path.Combine(folder, d!), "*.safetensors", SearchOption.AllDirectories).Length > 0));
    }

    [Theory]
    [InlineData(Budget.Full, 3.0, Verdict.Holds)]
    [InlineData(Budget.Full, 2.0, Verdict.DoesNotHold)]
    [InlineData(Budget.Smoke, 2.0, Verdict.NotJudged)]
    public void A_claim_is_judged_in_the_full_budget_only(Budget budget, double slope, Verdict verdict)
    {
        (RunResult result, _) = RecipeRunner.Run(new LinearRecipe { Slope = slope }, Request() with { Budget = budget }, new SilentObserver());
        Assert.Equal(verdict, result.Claims.Single(c => c.Id == "slope").Verdict);
        Assert.Equal(Verdict.NotMeasured, result.Claims.Single(c => c.Id == "forgotten").Verdict);
    }

    [Fact]
    public void An_interrupted_run_continues_and_gives_the_same_numbers()
    {
        (RunResult whole, _) = RecipeRunner.Run(new LinearRecipe(), Request(), new SilentObserver());
        using var cancel = new CancellationTokenSource();
        var recipe = new LinearRecipe { OnEpoch = (arm, epoch) => { if (arm.Seed == 1 && epoch == 3) cancel.Cancel(); } };
        Assert.Throws<OperationCanceledException>(() => RecipeRunner.Run(recipe, Request(), new SilentObserver(), cancel.Token));
        string folder = Directory.GetDirectories(Path.Combine(_root, "linear")).Single(f => !File.Exists(Path.Combine(f, "result.json")));
        Assert.Contains("--resume", Assert.Throws<BadInputException>(() => SavedRun.Open(folder)).Message, StringComparison.Ordinal);
        var again = new LinearRecipe();
        RunResult resumed = RecipeRunner.Resume([again], folder, new SilentObserver());
        Assert.Equal([1], again.Trained);
        Assert.Equal(whole.Arms.Select(a => a["slope"]), resumed.Arms.Select(a => a["slope"]));
        Assert.Equal(whole.Arms[1].Series("loss").Y, resumed.Arms[1].Series("loss").Y);
        Assert.Throws<BadInputException>(() => RecipeRunner.Resume([again], folder, new SilentObserver()));
    }

    [Fact]
    public void Bad_input_leaves_nothing_behind()
    {
        Assert.Throws<BadInputException>(() => RecipeRunner.Run(new LinearRecipe { Fail = true }, Request(), new SilentObserver()));
        Assert.Throws<BadInputException>(() => RecipeRunner.Run(new LinearRecipe(), Request() with { Data = new UserData(Path.Combine(_root, "nowhere"), new Dictionary<string, string>()) }, new SilentObserver()));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_root));
    }

    [Fact]
    public void Further_files_are_those_that_the_recipe_takes()
    {
        string file = Path.Combine(_root, "items.csv");
        File.WriteAllText(file, "a");
        UserData With(string name, string path) => new("", new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { [name] = path } };
        Assert.Contains("no use for --data.users", Assert.Throws<BadInputException>(() => RecipeRunner.Run(new LinearRecipe(), Request() with { Data = With("users", file) }, new SilentObserver())).Message, StringComparison.Ordinal);
        Assert.Contains("does not exist", Assert.Throws<BadInputException>(() => RecipeRunner.Run(new LinearRecipe(), Request() with { Data = With("items", file + "x") }, new SilentObserver())).Message, StringComparison.Ordinal);
        (RunResult result, string folder) = RecipeRunner.Run(new LinearRecipe(), Request() with { Data = With("items", file), Options = new LinearOptions { Rate = 0.05 } }, new SilentObserver());
        Assert.Null(result.DataPath);
        Assert.Contains($"<pre>priori run linear --budget full --seeds 0,1 --data.items {file} --set rate=0.05<", File.ReadAllText(Path.Combine(folder, "report.html")), StringComparison.Ordinal);
        Assert.Contains("--data.users", Assert.Throws<BadInputException>(() => With("items", file).Part("users")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_paired_comparison_is_a_claim_and_a_row()
    {
        (RunResult result, _) = RecipeRunner.Run(new LinearRecipe { Compared = true }, Request(), new SilentObserver());
        TableInfo paired = result.Tables.Single(t => t.Name == "paired");
        Assert.Equal(["line against itself", "slope", "0.0000", "0.0000 .. 0.0000", "0 of 2", "-0.1000"], paired.Rows.Single());
        Assert.Equal(Verdict.Holds, result.Claims.Single(c => c.Id == "forgotten").Verdict);
        Assert.Equal([0.0, 0.0], result.Claims.Single(c => c.Id == "forgotten").PerSeed);
    }

    [Fact]
    public void A_run_of_another_version_or_a_damaged_one_is_refused()
    {
        (_, string folder) = RecipeRunner.Run(new LinearRecipe(), Request(), new SilentObserver());
        string file = Path.Combine(folder, "result.json");
        string text = File.ReadAllText(file);
        File.WriteAllText(file, text.Replace("\"schemaVersion\": 1", "\"schemaVersion\": 99", StringComparison.Ordinal));
        Assert.Contains("another version", Assert.Throws<BadInputException>(() => SavedRun.Open(folder)).Message, StringComparison.Ordinal);
        File.WriteAllText(file, text[..(text.Length / 2)]);
        Assert.Contains("damaged", Assert.Throws<BadInputException>(() => SavedRun.Open(folder)).Message, StringComparison.Ordinal);
        Assert.Contains("no run folder", Assert.Throws<BadInputException>(() => SavedRun.Open(_root)).Message, StringComparison.Ordinal);
    }

    private RunRequest Request() => new() { Options = new LinearOptions(), Seeds = [0, 1], Budget = Budget.Full, Root = _root };

    private sealed record Description(string What);

    public sealed record LinearOptions : RecipeOptions
    {
        [Option("Learning rate.", Min = 0)]
        public double Rate { get; init; } = 0.1;
    }

    private sealed class LinearRecipe : Recipe<LinearOptions>
    {
        public double Slope { get; init; } = 3;

        public bool Fail { get; init; }

        public bool Compared { get; init; }

        public Action<ArmRun, int>? OnEpoch { get; init; }

        public List<int> Trained { get; } = [];

        public override string Id => "linear";

        public override string Area => "Tests";

        public override string Title => "Least squares";

        public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string> { ["items"] = "a table of items" };

        public override string Summary => "Fits a line.";

        public override Paper Paper => new("Least squares", "Gauss", "Theoria Motus", 1809, "https://example.org");

        public override IReadOnlyList<Claim> Claims => [new("slope", "The slope is found within 0.1."), new("forgotten", "Nobody measures this.")];

        public override LinearOptions Defaults(Budget budget) => new();

        public override void Run(LinearOptions options, RunContext context)
        {
            if (Fail) throw new BadInputException("No such column.");
            context.UsedData("a line");
            var slopes = context.Seeds.Select(seed => context.Arm("line", seed, arm => Fit(arm, options))).ToList();
            context.Check("slope", slopes.Average(s => s["slope"]), Comparison.AtLeast, 2.9, [.. slopes.Select(s => s["slope"])]);
            if (Compared) context.Compare("forgotten", "line against itself", slopes, slopes, "slope", -0.1);
            context.Figure("curve", "The loss.", Charts.Lines("Loss", "epoch", "loss", [new Curve("line", slopes[0].Series("loss").X, [.. slopes.Select(s => (IReadOnlyList<double>)s.Series("loss").Y)])]));
        }

        public override void Apply(SavedRun run, ApplyContext context)
        {
        }

        private void Fit(ArmRun arm, LinearOptions options)
        {
            Trained.Add(arm.Seed);
            Tensor x = randn(64, 1);
            using var learner = new LineLearner(options.Rate);
            var trainer = arm.Trainer(new TrainerOptions { Epochs = 8, BatchSize = 16, OnEpoch = r => OnEpoch?.Invoke(arm, r.Epoch) });
            arm.Include(trainer.Fit(learner, new TensorSource(x, x * Slope), cancellation: arm.Cancellation));
            arm.Metric("slope", learner.Line.weight.ToDouble());
            if (arm.Seed == 0) arm.SaveModel("line", learner.Line.state_dict(), new Description("a line"));
        }
    }

    private sealed class LineLearner : Learner
    {
        public LineLearner(double rate)
        {
            Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(optim.Adam(Line.parameters(), rate * 3)) };
            Modules = new Dictionary<string, Module> { ["line"] = Line };
        }

        public TorchSharp.Modules.Linear Line { get; } = Linear(1, 1, hasBias: false);

        public override IReadOnlyDictionary<string, Module> Modules { get; }

        public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

        public override void Step(Batch batch, TrainingStep step) => step.Minimize("loss", functional.mse_loss(Line.forward(batch[0]), batch[1]));
    }
}
