using System.Globalization;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Metrics;
using Priori.Recipes.ClickThrough;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;

namespace Priori.Tests.ClickThrough;

public class OptfsRecipeTests
{
    private static readonly OptfsRecipeOptions s_small = new OptfsRecipe().Defaults(Budget.Smoke) with { Rows = 900, SearchEpochs = 2, Epochs = 1, BatchSize = 100, MlpHidden = [8], EmbeddingDim = 4 };

    [Fact]
    public void Every_arm_runs_and_all_claims_are_measured()
    {
        using var folder = new TemporaryFolder();
        Write(folder, "no data/frappe/frappe.validation.libfm", LibFm(300, 1));
        Write(folder, "no data/frappe/frappe.test.libfm", LibFm(100, 2));
        var (result, run) = Run(folder, s_small with { Frappe = true }, null, seeds: [0, 1]);
        // Two, four variants, two further lambdas, three further models twice; on Frappe neither variants nor further models.
        Assert.Equal(2 * (2 + 4 + 2 + 6 + 2 + 2), result.Arms.Count);
        Assert.Equal(5, result.Claims.Count);
        Assert.All(result.Claims, c => Assert.True(double.IsFinite(c.Measured), c.Id));
        Assert.All(result.Arms.Where(a => a.Metrics.ContainsKey("export_error")), a => Assert.InRange(a["export_error"], 0, 2e-6));
        Assert.All(result.Arms.Where(a => a.Arm.Contains("optfs", StringComparison.Ordinal)), a => Assert.InRange(a["keep_ratio"], 1e-9, 1));
        string[] set = File.ReadAllLines(Path.Combine(run, "outputs", "feature_set.csv"));
        Assert.Equal("field,value,frequency,gamma,kept", set[0]);
        Assert.InRange(set.Length, 2000, 2401); // Values that no row has are left out.
        Assert.Equal(600 * 12, set.Skip(1).Sum(l => int.Parse(l.Split(',')[2], CultureInfo.InvariantCulture)));
        foreach (string figure in new[] { "pareto", "trajectories", "gate-histogram", "kept-by-column", "kept-by-frequency", "pareto-frappe", "kept-by-column-frappe" })
            Assert.True(File.Exists(Path.Combine(run, "figures", figure + ".png")), figure);
    }

    [Fact]
    public void A_table_is_searched_and_the_smaller_model_predicts_new_rows()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Clicks(3000, withTarget: true, seed: 1));
        OptfsRecipeOptions options = s_small with { Rows = 0, SearchEpochs = 6, Epochs = 6, Lambda = 1e-3, Sweep = [.3], Variants = [], FurtherModels = [], LearningRate = 1e-2, BatchSize = 64 };
        var (result, run) = Run(folder, options, Roles(data, "click"));
        ArmResult found = result.Arms.Single(a => a.Arm == "optfs");
        Assert.Equal(["backbone", "optfs", "optfs lambda 0.0003"], result.Arms.Select(a => a.Arm));
        Assert.InRange(found["keep_ratio"], .01, .8);
        Assert.True(found["bytes"] < result.Arms.Single(a => a.Arm == "backbone")["bytes"]);
        string[][] set = [.. File.ReadAllLines(Path.Combine(run, "outputs", "feature_set.csv")).Skip(1).Select(l => l.Split(','))];
        double Kept(string field) => set.Where(l => l[0] == field && l[1] != "<unknown>").Average(l => double.Parse(l[4], CultureInfo.InvariantCulture));
        Assert.True(Kept("site") > .9 && Kept("session") < .5, $"{Kept("site")} {Kept("session")}");
        Assert.Contains(result.Tables, t => t.Name == "columns" && t.Rows[0][0] == "site");
        Assert.Contains(result.Notes, n => n.Contains("values are kept", StringComparison.Ordinal));

        string fresh = folder.File("new.csv", Clicks(5000, withTarget: false, seed: 2)), output = folder.File("predictions.csv");
        Apply(run, fresh, output);
        string[] lines = File.ReadAllLines(output);
        Assert.Equal("row,prediction,probability of yes", lines[0]);
        Assert.Equal(5001, lines.Length); // More than one block.
        float[] probability = [.. lines.Skip(1).Select(l => float.Parse(l.Split(',')[2], CultureInfo.InvariantCulture))];
        float[] truth = [.. File.ReadAllLines(fresh).Skip(1).Select(l => Good(l.Split(',')[0]) ? 1f : 0f)];
        Assert.True(RankingMetrics.Auc(tensor(probability), tensor(truth)) > .95);

        // The saved model scores in memory, and unseen values count as dropped or unknown.
        SavedRun saved = SavedRun.Open(run);
        string name = Assert.Single(saved.Models);
        var description = Assert.IsType<PrunedDescription>(saved.Description<ClickModelDescription>(name));
        using var scorer = new ClickScorer(description, saved.Model(name));
        Assert.Equal(probability[0], scorer.Score(Table.Read(fresh))[0].ToSingle(), 1e-4);
        Assert.True(double.IsFinite(scorer.Score(Table.Read(folder.File("odd.csv", "site,session,age\nnever seen,,\n")))[0].ToDouble()));
        Assert.Throws<BadInputException>(() => { Apply(run, folder.File("other.csv", "session\nx\n"), output); });
    }

    [Fact]
    public void A_column_that_is_not_needed_is_named()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Clicks(2000, withTarget: true, seed: 1));
        var (result, _) = Run(folder, s_small with { Rows = 0, SearchEpochs = 6, Epochs = 2, Lambda = 3e-3, Sweep = [], Variants = [], FurtherModels = [], LearningRate = 1e-2, BatchSize = 64 }, Roles(data, "click"));
        Assert.Contains(result.Notes, n => n.Contains("no value is kept of", StringComparison.Ordinal) && n.Contains("session", StringComparison.Ordinal) && !n.Contains("site", StringComparison.Ordinal));
    }

    [Fact]
    public void The_paper_s_model_trains_on_a_libFM_file_and_several_classes_on_a_table()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.libfm", LibFm(80, 1));
        OptfsRecipeOptions paper = new OptfsRecipe().Defaults(Budget.Paper);
        Assert.Equal((16, (int?)4096, "criteo"), (paper.EmbeddingDim, paper.BatchSize, paper.Published));
        Assert.Equal([1024, 512, 256], paper.MlpHidden);
        var (result, run) = Run(folder, paper with { Epochs = 1, Variants = [], FurtherModels = [] }, new UserData(data, new Dictionary<string, string>()));
        Assert.Equal(15, result.Arms.Single(a => a.Arm == "optfs").Series("search loss").Y.Length);
        Apply(run, data, folder.File("p.csv"));
        Assert.Equal(81, File.ReadAllLines(folder.File("p.csv")).Length);

        string table = folder.File("t.csv", "a,b,c\n" + string.Join('\n', Enumerable.Range(0, 300).Select(i => $"v{i % 10},w{i % 7},{"xyz"[i % 10 / 4]}")));
        var (classes, _) = Run(folder, s_small with { Rows = 0, Sweep = [], Lambda = 1e-5, Variants = ["random", "lottery", "no-retrain"], FurtherModels = ["ipnn"] }, Roles(table, "c"));
        Assert.All(classes.Arms, a => Assert.InRange(a["accuracy"], 0, 1));
    }

    [Fact]
    public void Wrong_input_is_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Clicks(200, withTarget: true, seed: 1));
        var large = Assert.Throws<BadInputException>(() => { Run(folder, s_small with { Rows = 0, Lambda = 100, GateLearningRate = 1 }, Roles(data, "click")); });
        Assert.Contains("is too large: no value is left", large.Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => { Run(folder, s_small, new UserData(data, new Dictionary<string, string>())); });
        Assert.Throws<BadInputException>(() => { RecipeRunner.Run(new OptfsRecipe(), new RunRequest { Budget = Budget.Paper, Options = new OptfsRecipe().Defaults(Budget.Paper), Seeds = [0], Root = folder.File("runs") }, new SilentObserver()); });
        Assert.Throws<BadInputException>(() => { OptionSet.With(s_small, [new("rewind-epoch", "9")]); });
        Assert.Throws<BadInputException>(() => { OptionSet.With(s_small, [new("search-epochs", "1")]); });
        Assert.Throws<BadInputException>(() => { OptionSet.With(s_small, [new("model", "afn")]); });
        Assert.Throws<BadInputException>(() => { OptionSet.With(s_small, [new("further-models", "deep-fm")]); });
    }

    private static bool Good(string site) => int.Parse(site[1..], CultureInfo.InvariantCulture) % 2 == 0;

    /// <summary>Clicks depend on the site alone; sessions are nearly unique.</summary>
    private static string Clicks(int rows, bool withTarget, int seed)
    {
        var random = new SplitMix64((ulong)seed);
        var lines = new List<string> { withTarget ? "site,session,age,click" : "site,session,age" };
        for (int i = 0; i < rows; i++)
        {
            string site = $"s{random.Next(12)}", line = $"{site},n{random.Next(rows / 4)},{18 + random.Next(60)}";
            lines.Add(withTarget ? $"{line},{(random.NextDouble() < (Good(site) ? .9 : .1) ? "yes" : "no")}" : line);
        }
        return string.Join('\n', lines);
    }

    private static string LibFm(int rows, int seed)
    {
        var random = new SplitMix64((ulong)seed);
        return string.Join('\n', Enumerable.Range(0, rows).Select(_ => $"{(random.Next(2) == 0 ? -1 : 1)} {string.Join(' ', Enumerable.Range(0, 10).Select(f => $"{f * 5 + random.Next(5)}:1"))}"));
    }

    private static void Write(TemporaryFolder folder, string name, string text)
    {
        string path = folder.File(name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    private static UserData Roles(string path, string target) => new(path, new Dictionary<string, string> { ["target"] = target });

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, OptfsRecipeOptions options, UserData? data, IReadOnlyList<int>? seeds = null)
        => RecipeRunner.Run(new OptfsRecipe(), new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = seeds ?? [0], Data = data, DataFolder = folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static void Apply(string run, string data, string output)
        => new OptfsRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
}
