using System.Globalization;
using System.Text.Json;
using Priori.Data;
using Priori.Metrics;
using Priori.Recipes.ClickThrough;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;
using Priori.Training;

namespace Priori.Tests.ClickThrough;

public class ArmNetRecipeTests
{
    private static readonly ArmNetRecipeOptions Small = new()
    {
        Rows = 400, Epochs = 1, Neurons = 4, MlpHidden = [8], BatchSize = 64, Dataset = "click-log",
        Arms = ["lr", "fm", "dnn", "afn", "afn+", "arm-net", "arm-net-1h", "arm-net+", "dnn+noise", "arm-net+noise"],
    };

    [Fact]
    public void Every_arm_runs_on_the_generated_log_and_all_claims_are_measured()
    {
        using var folder = new TemporaryFolder();
        var (result, run) = Run(folder, Small, null, seeds: [0, 1]);
        Assert.Equal(20, result.Arms.Count);
        Assert.All(result.Claims, c => Assert.True(double.IsFinite(c.Measured), c.Id));
        Assert.All(result.Arms, a => Assert.InRange(a["auc"], 0, 1));
        Assert.Equal(10 + 1, File.ReadAllLines(Path.Combine(run, "outputs", "importance.csv")).Length);
        JsonElement interpretation = JsonDocument.Parse(File.ReadAllText(Path.Combine(run, "outputs", "interpretation.json"))).RootElement;
        Assert.Equal(4, interpretation.GetProperty("plantedInteractions").GetArrayLength());
        Assert.Equal(5, interpretation.GetProperty("rows").GetArrayLength());
        Assert.True(File.Exists(Path.Combine(run, "figures", "importance-noise.png")));
    }

    [Fact]
    public void A_table_is_learned_and_new_rows_are_predicted_with_the_columns_that_decided()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("loans.csv", Loans(1500, withTarget: true, seed: 1));
        ArmNetRecipeOptions options = Small with { Rows = 0, Epochs = 12, LearningRate = 1e-2, Arms = ["lr", "arm-net", "arm-net+"], Patience = 12 };
        var (_, run) = Run(folder, options, new UserData(data, new Dictionary<string, string> { ["target"] = "approved" }));
        string[] cross = File.ReadAllLines(Path.Combine(run, "outputs", "cross_features.csv"));
        Assert.Equal("fields,order,frequency,mean power", cross[0]);

        string fresh = folder.File("new.csv", Loans(5000, withTarget: false, seed: 2)), output = folder.File("predictions.csv");
        Apply(run, fresh, output);
        string[] lines = File.ReadAllLines(output);
        Assert.Equal("row,prediction,probability of yes,column 1,importance 1,column 2,importance 2,column 3,importance 3", lines[0]);
        Assert.Equal(5001, lines.Length); // more than one block
        string[][] cells = [.. lines.Skip(1).Select(l => l.Split(','))];
        Assert.Equal("5000", cells[^1][0]);
        float[] truth = [.. File.ReadAllLines(fresh).Skip(1).Select(l => l.Split(',')).Select(c => int.Parse(c[0], CultureInfo.InvariantCulture) > 50 && c[1] != "north" ? 1f : 0f)];
        float[] probability = [.. cells.Select(c => float.Parse(c[2], CultureInfo.InvariantCulture))];
        Assert.True(RankingMetrics.Auc(tensor(probability), tensor(truth)) > .95);
        Assert.All(cells, c => Assert.Equal(c[1], float.Parse(c[2], CultureInfo.InvariantCulture) > .5f ? "yes" : "no"));
        Assert.All(cells, c => Assert.InRange(float.Parse(c[4], CultureInfo.InvariantCulture) + float.Parse(c[6], CultureInfo.InvariantCulture) + float.Parse(c[8], CultureInfo.InvariantCulture), .999f, 1.001f));

        Assert.Throws<BadInputException>(() => Apply(run, folder.File("other.csv", "income,branch\n1,b0\n"), output));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("none.csv"), output));
    }

    [Fact]
    public void A_number_and_several_classes_are_targets()
    {
        using var folder = new TemporaryFolder();
        string text = "a,b,y,c\n" + string.Join('\n', Enumerable.Range(0, 300).Select(i => $"{i % 10},{i % 7},{3 * (i % 10) + .5},{"abc"[i % 10 / 4]}"));
        string data = folder.File("t.csv", text);
        foreach (var (target, ignore, header) in new[] { ("y", "c", "row,prediction,column 1"), ("c", "y", "row,prediction,probability of a,probability of b,probability of c,column 1") })
        {
            ArmNetRecipeOptions options = Small with { Rows = 0, Arms = ["lr", "fm", "dnn", "afn", "arm-net"], Ignore = [ignore], Epochs = 2 };
            var (_, run) = Run(folder, options, new UserData(data, new Dictionary<string, string> { ["target"] = target }));
            Apply(run, data, folder.File("p.csv"));
            string[] lines = File.ReadAllLines(folder.File("p.csv"));
            Assert.StartsWith(header, lines[0], StringComparison.Ordinal);
            Assert.Equal(301, lines.Length);
        }
    }

    [Fact]
    public void The_paper_s_network_trains_on_a_libFM_file()
    {
        using var folder = new TemporaryFolder();
        var random = new SplitMix64(1);
        string text = string.Join('\n', Enumerable.Range(0, 60).Select(_ => $"{(random.Next(2) == 0 ? -1 : 1)} {string.Join(' ', Enumerable.Range(0, 10).Select(f => $"{f * 5 + random.Next(5)}:1"))}"));
        string data = folder.File("log.libfm", text);
        var paper = (ArmNetRecipeOptions)new ArmNetRecipe().Defaults(Budget.Paper);
        Assert.Equal((8, 32, 2.0, 1e-3, (int?)4096), (paper.Heads, paper.Neurons, paper.Alpha, paper.LearningRate, paper.BatchSize));
        var (result, run) = Run(folder, paper with { Epochs = 1, Arms = ["arm-net"] }, new UserData(data, new Dictionary<string, string>()));
        Assert.True(double.IsFinite(result.Arms[0]["log_loss"]));
        Apply(run, data, folder.File("p.csv"));
        Assert.Equal(61, File.ReadAllLines(folder.File("p.csv")).Length);
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("few.libfm", "1 0:1 1:1\n"), folder.File("p.csv")));
    }

    [Fact]
    public void Missing_targets_and_wrong_options_are_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("loans.csv", Loans(100, withTarget: true, seed: 1));
        var none = Assert.Throws<BadInputException>(() => Run(folder, Small, new UserData(data, new Dictionary<string, string>())));
        Assert.Contains("income, region, branch, approved", none.Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => Run(folder, Small, new UserData(data, new Dictionary<string, string> { ["target"] = "x" })));
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("alpha", "0.5")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("arms", "xgboost")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("numbers", "categorical")]));
        Assert.Throws<BadInputException>(() => Run(folder, Small with { Dataset = "frappe" }, null));
    }

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, ArmNetRecipeOptions options, UserData? data, IReadOnlyList<int>? seeds = null)
        => RecipeRunner.Run(new ArmNetRecipe(), new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = seeds ?? [0], Data = data, DataFolder = folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static void Apply(string run, string data, string output)
        => new ArmNetRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));

    private static string Loans(int rows, bool withTarget, int seed)
    {
        var random = new SplitMix64((ulong)seed);
        var lines = new List<string> { withTarget ? "income,region,branch,approved" : "income,region,branch" };
        for (int i = 0; i < rows; i++)
        {
            int amount = random.Next(100), place = random.Next(3);
            string line = $"{amount},{new[] { "north", "south", "west" }[place]},b{random.Next(5)}";
            lines.Add(withTarget ? $"{line},{(amount > 50 && place != 0 ? "yes" : "no")}" : line);
        }
        return string.Join('\n', lines);
    }
}
