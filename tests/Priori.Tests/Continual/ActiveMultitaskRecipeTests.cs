using System.Globalization;
using System.Text.Json;
using Priori.Continual;
using Priori.Data;
using Priori.Recipes.Continual;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;

namespace Priori.Tests.Continual;

public class ActiveMultitaskRecipeTests
{
    private static readonly ActiveMultitaskRecipeOptions Small = new ActiveMultitaskRecipe().Defaults(Budget.Smoke);

    [Fact]
    public void The_smoke_run_measures_every_claim_and_leaves_a_model()
    {
        using var folder = new TemporaryFolder();
        var (result, run) = Run(folder, Small with { Budgets = [400], DigitPool = 40, DigitTest = 50, Steps = 20, DigitBudget = 550 }, null, [0, 12]);
        Assert.All(result.Claims, c => Assert.True(double.IsFinite(c.Measured), c.Id));
        Assert.Equal(14, result.Claims.Count);
        Assert.Equal(1, result.Arms.Single(a => a.Arm == "digits GaussianNoise 3, uniform" && a.Seed == 0)["same digit, labels"] * 10, 1e-9);
        foreach (string figure in new[] { "known", "estimated", "sources", "relevance", "digits", "digits-relevance" }) Assert.True(File.Exists(Path.Combine(run, "figures", figure + ".png")), figure);
        string data = folder.File("new.csv", string.Join(',', Enumerable.Range(0, 20).Select(i => $"x_{i}")) + "\n" + string.Join(',', Enumerable.Repeat("0", 20)) + "\n" + string.Join(',', Enumerable.Repeat("1", 20)) + "\n");
        string[] lines = Apply(folder, run, data);
        Assert.Equal("row,prediction", lines[0]);
        Assert.Equal("1,0", lines[1]); // no intercept: 0 stays 0
        Assert.Equal(3, lines.Length);
    }

    [Theory]
    [InlineData("linear")]
    [InlineData("mlp")]
    public void Own_tasks_are_ranked_and_the_target_is_predicted(string model)
    {
        using var folder = new TemporaryFolder();
        UserData data = Own(folder, unlabelled: _ => false, classes: false);
        ActiveMultitaskRecipeOptions options = Small with { Budget = 900, Dim = 3, Model = model, Steps = 150, LearningRate = 1e-2, Ridge = .1 };
        var (result, run) = Run(folder, options, data, model == "mlp" ? [0] : [0, 1]);
        Assert.Empty(result.Claims);
        string[][] relevance = Rows(Path.Combine(run, "outputs", "relevance.csv"));
        Assert.Equal(["task_id", "nu", "labels", "cost"], relevance[0]);
        Assert.Equal(9, relevance.Length);
        Assert.Equal(900, relevance.Skip(1).Sum(r => long.Parse(r[2], CultureInfo.InvariantCulture)));
        if (model == "linear") Assert.Equal(["near", "nearer"], relevance.Skip(1).Take(2).Select(r => r[0]).Order());
        Assert.NotEmpty(Safetensors.Read(Path.Combine(run, "outputs", "representation.safetensors")));
        Assert.Equal(3, JsonDocument.Parse(File.ReadAllText(Path.Combine(run, "outputs", "target-head.json"))).RootElement.GetProperty("weight").GetArrayLength());
        Assert.True(File.Exists(Path.Combine(run, "figures", "error-budget.png")));
        Assert.True(File.Exists(Path.Combine(run, "figures", "relevance.png")));
        double[] predicted = [.. Apply(folder, run, folder.File("test.csv")).Skip(1).Select(l => double.Parse(l.Split(',')[1], CultureInfo.InvariantCulture))];
        double[] truth = Table.Read(folder.File("test.csv"))["y"].ToNumbers();
        double mean = truth.Average(), r2 = 1 - predicted.Zip(truth, (p, t) => (p - t) * (p - t)).Sum() / truth.Sum(t => (t - mean) * (t - mean));
        Assert.InRange(r2, model == "linear" ? .9 : .7, 1);
    }

    [Fact]
    public void A_plan_names_the_rows_to_label_and_labels_bring_the_next_plan_and_then_the_model()
    {
        using var folder = new TemporaryFolder();
        var bought = new HashSet<int>();
        ActiveMultitaskRecipeOptions options = Small with { Budget = 600, Dim = 3, Plan = true, Ridge = .1 };
        string[][] plan = [];
        var phases = new List<int>();
        while (true)
        {
            UserData data = Own(folder, row => !bought.Contains(row), classes: false);
            var (_, run) = Run(folder, options, data, [0]);
            int[] rows = [.. Rows(Path.Combine(run, "outputs", "to_label.csv")).Skip(1).Select(r => int.Parse(r[0], CultureInfo.InvariantCulture))];
            Assert.Throws<BadInputException>(() => Apply(folder, run, folder.File("test.csv"))); // a plan has no model
            if (rows.Length == 0) break;
            phases.Add(rows.Length);
            plan = Rows(Path.Combine(run, "outputs", "plan.csv"));
            Assert.Equal(rows.Length, plan.Skip(1).Sum(r => int.Parse(r[4], CultureInfo.InvariantCulture)));
            Assert.All(rows, r => Assert.True(bought.Add(r)));
        }
        Assert.Equal([150, 450], phases); // a quarter explores
        Assert.Equal(["near", "nearer"], plan.Skip(1).Take(2).Select(r => r[0]).Order());
        var (result, final) = Run(folder, options with { Plan = false }, Own(folder, row => !bought.Contains(row), classes: false), [0]);
        Assert.InRange(result.Arms.Single(a => a.Arm == "model")["test error"], 0, .5); // noise .01, variance of y about 10
        Assert.Equal(600, Rows(Path.Combine(final, "outputs", "relevance.csv")).Skip(1).Sum(r => int.Parse(r[2], CultureInfo.InvariantCulture)));
    }

    [Fact]
    public void Two_classes_prices_and_fees()
    {
        using var folder = new TemporaryFolder();
        UserData data = Own(folder, _ => false, classes: true);
        folder.File("prices.csv", "task_id,price\n" + string.Join('\n', Rows(folder.File("pool.csv")).Skip(1).Select(r => r[0]).Distinct().Select((t, i) => $"{t},{1 + i % 2}")));
        data = data with { Parts = new Dictionary<string, string>(data.Parts) { ["prices"] = folder.File("prices.csv") } };
        var (result, run) = Run(folder, Small with { Budget = 1200, Dim = 3, OpeningFee = 5 }, data, [0]);
        Assert.InRange(result.Arms.Single(a => a.Arm == "model")["cost"], 1100, 1200);
        Assert.InRange(result.Arms.Single(a => a.Arm == "model")["test error"], 0, 15);
        string[][] lines = [.. Apply(folder, run, folder.File("test.csv")).Select(l => l.Split(','))];
        Assert.Equal(["row", "prediction", "score"], lines[0]);
        Assert.All(lines.Skip(1), l => Assert.Contains(l[1], new[] { "no", "yes" }));
    }

    [Fact]
    public void Bad_input_is_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        UserData good = Own(folder, _ => false, classes: false);
        string Error(UserData data, ActiveMultitaskRecipeOptions? options = null) => Assert.Throws<BadInputException>(() => Run(folder, options ?? Small with { Dim = 3 }, data, [0])).Message;
        Assert.Contains("--data.target", Error(good with { Parts = new Dictionary<string, string>() }), StringComparison.Ordinal);
        Assert.Contains("no column 'task_id'", Error(good with { Path = folder.File("a.csv", "task,y,x_0\na,1,2\nb,1,2\n") }), StringComparison.Ordinal);
        Assert.Contains("no column 'x_1'", Error(With("target", "y,x_0\n1,2\n2,3\n")), StringComparison.Ordinal);
        Assert.Contains("row 2: the target's 'y' is missing", Error(With("target", "y,x_0,x_1,x_2,x_3,x_4,x_5\n1,1,1,1,1,1,1\n,1,1,1,1,1,1\n")), StringComparison.Ordinal);
        Assert.Contains("only 6 inputs", Error(good, Small with { Dim = 7 }), StringComparison.Ordinal);
        Assert.Contains("at least 160 is needed", Error(good, Small with { Dim = 3, Budget = 159, MinPerTask = 20 }), StringComparison.Ordinal);
        Assert.Contains("under-determined", Error(With("target", "y,x_0,x_1,x_2,x_3,x_4,x_5\n1,1,1,1,1,1,1\n3,1,2,1,1,1,1\n"), Small with { Dim = 3, Ridge = 0 }), StringComparison.Ordinal);
        Assert.Contains("nothing to plan", Error(good, Small with { Dim = 3, Plan = true }), StringComparison.Ordinal);
        Assert.Contains("no labels yet", Error(Own(folder, _ => true, classes: false)), StringComparison.Ordinal);
        Assert.Contains("no price for task", Error(With("prices", "task_id,price\nnear,1\n")), StringComparison.Ordinal);
        Assert.Contains("row 1: 'x_1' is no number", Error(good with { Path = folder.File("b.csv", "task_id,y,x_0,x_1\na,1,2,red\nb,1,2,3\n") }), StringComparison.Ordinal);
        Assert.Contains("must be numbers or two classes", Error(good with { Path = folder.File("c.csv", "task_id,y,x_0\na,red,2\nb,green,2\nb,blue,2\n"), Parts = new Dictionary<string, string> { ["target"] = folder.File("d.csv", "y,x_0\nred,1\ngreen,2\n") } }), StringComparison.Ordinal);
        UserData With(string part, string text) => good with { Parts = new Dictionary<string, string>(good.Parts) { [part] = folder.File($"{part}-bad.csv", text) } };
    }

    [Fact]
    public void The_paper_s_network_trains()
    {
        ActiveMultitaskRecipeOptions paper = new ActiveMultitaskRecipe().Defaults(Budget.Paper);
        Assert.Equal(("cnn", 50), (paper.DigitModel, paper.DigitDim));
        DeepErm erm = ActiveMultitaskRecipe.DigitErm(paper with { Steps = 1 }, 0, CPU, null, default);
        MultiTaskFit fit = erm.Fit([.. Enumerable.Range(0, 3).Select(_ => new TaskBatch(rand(8, 1, 28, 28), (rand(8) > .5).to(float32) * 2 - 1))]);
        Assert.Equal([50L, 3], fit.Heads.shape);
    }

    // y = x B w with noise .1: "near" and "nearer" share the target's direction, six others do not; inputs have means and scales of their own.
    private static UserData Own(TemporaryFolder folder, Func<int, bool> unlabelled, bool classes)
    {
        var random = new SplitMix64(5);
        string[] tasks = ["a", "b", "near", "c", "d", "nearer", "e", "f"];
        double[][] heads = [.. tasks.Select(t => t == "near" ? new[] { 3.0, .2, 0 } : t == "nearer" ? [2.5, -.4, .3] : [.1 * random.NextGaussian(), random.NextGaussian(), random.NextGaussian()])];
        string Row(double[] head)
        {
            double[] x = [.. Enumerable.Range(0, 6).Select(_ => random.NextGaussian())];
            double y = head[0] * (x[0] - x[3]) / Math.Sqrt(2) + head[1] * x[1] + head[2] * x[4] + .1 * random.NextGaussian();
            string label = classes ? (y > 0 ? "yes" : "no") : (y + 7).ToString("R", CultureInfo.InvariantCulture);
            return $"{label},{string.Join(',', x.Select((v, i) => (v * (i + 1) + i).ToString("R", CultureInfo.InvariantCulture)))}";
        }
        const string Columns = "y,x_0,x_1,x_2,x_3,x_4,x_5";
        var pool = new List<string> { "task_id," + Columns };
        for (int i = 0; i < 3200; i++)
        {
            string row = Row(heads[i % 8]);
            pool.Add($"{tasks[i % 8]},{(unlabelled(i + 1) ? row[row.IndexOf(',', StringComparison.Ordinal)..] : row)}");
        }
        double[] target = [3, 0, .1];
        string Own(int count) => Columns + "\n" + string.Join('\n', Enumerable.Range(0, count).Select(_ => Row(target)));
        return new UserData(folder.File("pool.csv", string.Join('\n', pool)), new Dictionary<string, string>())
        {
            Parts = new Dictionary<string, string> { ["target"] = folder.File("target.csv", Own(60)), ["test"] = folder.File("test.csv", Own(200)) },
        };
    }

    private static string[][] Rows(string file) => [.. File.ReadAllLines(file).Select(l => l.Split(','))];

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, ActiveMultitaskRecipeOptions options, UserData? data, IReadOnlyList<int> seeds)
        => RecipeRunner.Run(new ActiveMultitaskRecipe(), new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = seeds, Data = data, DataFolder = folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static string[] Apply(TemporaryFolder folder, string run, string data)
    {
        string output = folder.File("predictions.csv");
        new ActiveMultitaskRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
        return File.ReadAllLines(output);
    }
}
