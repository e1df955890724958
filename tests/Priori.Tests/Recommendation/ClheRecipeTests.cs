using System.Globalization;
using Priori.Data;
using Priori.Recipes.Recommendation;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;

namespace Priori.Tests.Recommendation;

public class ClheRecipeTests
{
    private static readonly ClheRecipeOptions s_small = new() { Items = 90, Bundles = 20, BundleCounts = [10], MissingParts = [0.2], EmbeddingDim = 8, Epochs = 1, LightGcnEpochs = 1, FactorDim = 8, BatchSize = 250 };

    [Fact]
    public void Every_variant_runs_on_generated_worlds_and_all_claims_are_measured()
    {
        using var folder = new TemporaryFolder();
        var (result, run) = Run(folder, s_small, null);
        Assert.Equal(13 + 4 + 4, result.Arms.Count);
        Assert.All(result.Claims, c => Assert.True(double.IsFinite(c.Measured), c.Id));
        Assert.All(result.Arms, a => Assert.InRange(a["recall20"], 0.05, 1));
        Assert.All(result.Arms.Where(a => !a.Arm.Contains(',', StringComparison.Ordinal)), a => Assert.True(a.Metrics.ContainsKey("recall20 cold"), a.Arm));
        Assert.Equal(["completions", "missing-modalities", "recall", "training-bundles"], result.Figures.Select(f => f.Name).Order());
        Assert.Equal(1 + 500 * 20, File.ReadAllLines(Path.Combine(run, "outputs", "completions.csv")).Length);
    }

    [Fact]
    public void Own_bundles_are_learned_and_partial_ones_completed()
    {
        using var folder = new TemporaryFolder();
        UserData data = OwnData(folder);
        var (result, run) = Run(folder, s_small with { Epochs = 40, EmbeddingDim = 16, LearningRate = 1e-2, BatchSize = 64, Suggestions = 4 }, data);
        Assert.Equal(["clhe", "no-contrast"], result.Arms.Select(a => a.Arm));
        Assert.All(result.Arms, a => Assert.True(a["recall20"] > .9, $"{a.Arm} {a["recall20"]}"));
        Assert.Contains(result.Notes, n => n.StartsWith("1 of 31 items have no row", StringComparison.Ordinal));
        Assert.Contains(result.Notes, n => n.StartsWith("1 of ", StringComparison.Ordinal) && n.Contains("one item", StringComparison.Ordinal));

        string output = folder.File("completions.csv");
        List<string> said = [];
        Apply(run, folder.File("partial.csv", "bundle,item\nnew,i0\nnew,i1\nnew,unheard\n\"odd, one\",i12\nlost,unheard\n"), output, said);
        string[][] rows = [.. File.ReadAllLines(output).Skip(1).Select(l => l.Replace("\"odd, one\"", "odd", StringComparison.Ordinal).Split(','))];
        Assert.Equal("bundle,rank,item,score", File.ReadAllLines(output)[0]);
        Assert.Equal(8, rows.Length);
        Assert.All(rows, r => Assert.Equal(r[0] == "new" ? 0 : 1, int.Parse(r[2][1..], CultureInfo.InvariantCulture) / 10)); // of the same group
        Assert.DoesNotContain(rows, r => r[0] == "new" && r[2] is "i0" or "i1");
        Assert.Contains(said, s => s.Contains("lost", StringComparison.Ordinal));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("strange.csv", "bundle,item\nlost,unheard\n"), output, []));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("absent.csv"), output, []));
    }

    [Fact]
    public void Bundles_alone_features_in_tables_and_light_gcn_work()
    {
        using var folder = new TemporaryFolder();
        UserData data = OwnData(folder);
        var (result, _) = Run(folder, s_small with { Arms = ["clhe", "without-feedback"] }, data with { Parts = new Dictionary<string, string>() });
        Assert.All(result.Arms, a => Assert.True(double.IsFinite(a["recall20"])));
        string table = folder.File("features.csv", "item,look_0,look_1\n" + string.Join('\n', Enumerable.Range(0, 30).Select(i => $"i{i},{i / 10},{(i % 3 == 0 ? "" : "1")}")));
        (result, _) = Run(folder, s_small with { Arms = ["light-gcn"] }, data with { Parts = new Dictionary<string, string> { ["items"] = table, ["feedback"] = data.Parts["feedback"] } });
        Assert.True(result.Arms[0].Metrics.ContainsKey("recall20 lacking look"));
    }

    [Fact]
    public void The_paper_s_setting_trains_on_a_folder_of_its_layout()
    {
        using var folder = new TemporaryFolder();
        var paper = (ClheRecipeOptions)new ClheRecipe().Defaults(Budget.Paper);
        Assert.Equal((64, 256, 50, .05, 2.0, .5, .1, .5), (paper.EmbeddingDim, paper.BatchSize, paper.Epochs, paper.BundleTemperature, paper.BundleAlpha, paper.ItemTemperature, paper.ItemAlpha, paper.BundleRatio));
        using var layout = new TemporaryFolder();
        BundleFilesTests.ClheFolder(layout);
        Npy.Write(layout.File("content_feature.npy"), randn(8, 16));
        Npy.Write(layout.File("description_feature.npy"), randn(8, 12));
        Npy.Write(layout.File("item_cf_feature.npy"), randn(8, 64));
        var (result, _) = Run(folder, paper with { Epochs = 1, Arms = ["clhe"] }, new UserData(layout.Root, new Dictionary<string, string>()), Budget.Paper);
        Assert.True(double.IsFinite(result.Arms[0]["recall20"]));
        Assert.Contains("content_feature (16), description_feature (12)", result.Data, StringComparison.Ordinal);

        Npy.Write(layout.File("content_feature.npy"), randn(7, 16));
        File.Delete(layout.File("description_feature.npy"));
        File.Delete(layout.File("item_cf_feature.npy"));
        Assert.Contains("7 rows", Assert.Throws<BadInputException>(() => Run(folder, paper, new UserData(layout.Root, new Dictionary<string, string>()), Budget.Paper)).Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => Run(folder, paper, null, Budget.Paper));
    }

    [Fact]
    public void Bad_input_is_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        UserData data = OwnData(folder);
        Npz.Write(folder.File("unnamed.npz"), new Dictionary<string, Tensor> { ["look"] = randn(30, 2) });
        Assert.Contains("ids", Assert.Throws<BadInputException>(() => Run(folder, s_small, data with { Parts = new Dictionary<string, string> { ["items"] = folder.File("unnamed.npz") } })).Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => Run(folder, s_small, new UserData("", new Dictionary<string, string>()) { Parts = data.Parts }));
        Assert.Throws<BadInputException>(() => Run(folder, s_small, new UserData(folder.File("few.csv", "bundle,item\na,x\na,y\nb,z\n"), new Dictionary<string, string>())));
        Assert.Throws<BadInputException>(() => Run(folder, s_small, new UserData(folder.Root, new Dictionary<string, string>())));
        Assert.Throws<BadInputException>(() => Run(folder, s_small with { Arms = ["light-gcn"] }, data with { Parts = new Dictionary<string, string>() }));
        Assert.Throws<BadInputException>(() => OptionSet.With(s_small, [new("item-temperature", "0")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(s_small, [new("arms", "bert4rec")]));
    }

    /// <summary>Three groups of ten items; bundles are within a group; item i30 has no features; users take items of a group.</summary>
    private static UserData OwnData(TemporaryFolder folder)
    {
        SplitMix64 random = new(4);
        string Pairs(string owner, int owners, int count) => $"{owner},item\n" + string.Concat(Enumerable.Range(0, owners).SelectMany(o => Enumerable.Range(0, count).Select(_ => $"{owner[0]}{o},i{o % 3 * 10 + random.Next(10)}\n")));
        string bundles = folder.File("bundles.csv", Pairs("bundle", 90, 7) + "b0,i30\nsingle,i3\n"), feedback = folder.File("ui.csv", Pairs("user", 60, 5));
        string table = "item," + string.Join(',', Enumerable.Range(0, 3).Select(d => $"look_{d}")) + "," + string.Join(',', Enumerable.Range(0, 2).Select(d => $"text_{d}")) + "\n"
            + string.Concat(Enumerable.Range(0, 30).Select(i => $"i{i},{string.Join(',', Enumerable.Range(0, 3).Select(d => i / 10 == d ? 1 : 0))},{(i % 4 == 0 ? "," : "0.5,1")}\n"));
        return new UserData(bundles, new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["items"] = folder.File("features-table.csv", table), ["feedback"] = feedback } };
    }

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, ClheRecipeOptions options, UserData? data, Budget budget = Budget.Smoke)
        => RecipeRunner.Run(new ClheRecipe(), new RunRequest { Budget = budget, Options = options, Seeds = [0], Data = data, DataFolder = folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static void Apply(string run, string data, string output, List<string> said)
        => new ClheRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, said.Add));
}
