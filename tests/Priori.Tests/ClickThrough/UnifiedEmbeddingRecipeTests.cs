using System.Globalization;
using Priori.ClickThrough;
using Priori.Metrics;
using Priori.Nn;
using Priori.Recipes.ClickThrough;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;

namespace Priori.Tests.ClickThrough;

public class UnifiedEmbeddingRecipeTests
{
    private static readonly UnifiedEmbeddingRecipeOptions Small = new() { Rows = 3000, Epochs = 1, Sizes = [0.5, 0.1], EmbeddingDim = 6, MlpHidden = [16], BatchSize = 256 };

    [Fact]
    public void The_smoke_run_trains_every_scheme_at_equal_memory_and_draws_its_figures()
    {
        using var folder = new TemporaryFolder();
        var (result, run) = Run(folder, Small with { Arms = new UnifiedEmbeddingRecipe().Defaults(Budget.Smoke).Arms }, null);
        Assert.Contains("click-log", result.Data, StringComparison.Ordinal);
        Assert.Equal(1 + 3 * 2 + 10, result.Arms.Count);
        double whole = result.Arms.Single(a => a.Arm == "collisionless")["table_parameters"];
        foreach (ArmResult arm in result.Arms.Where(a => a.Arm.EndsWith("0.1x", StringComparison.Ordinal))) Assert.InRange(arm["table_parameters"], whole * 0.1 - 12, whole * 0.1 + 6);
        Assert.Equal(result.Arms.Single(a => a.Arm == "separate 0.5x")["table_parameters"], result.Arms.Single(a => a.Arm == "multiplexed 0.5x")["table_parameters"]);
        ArmResult split = result.Arms.Single(a => a.Arm == "unified 0.1x"), same = result.Arms.Single(a => a.Arm == "multiplexed 0.1x");
        Assert.Equal((same["table_parameters"], same["parameters"]), (split["table_parameters"], split["parameters"])); // as many numbers in all, as wide
        Assert.True(split["indistinguishable"] < 0.2 * same["indistinguishable"]);
        Assert.Equal(["above-separate", "every-seed"], result.Claims.Where(c => c.Verdict != Verdict.NotMeasured).Select(c => c.Id));
        foreach (string figure in new[] { "auc", "auc-parameters", "row-norms", "cosines-multiplexed-start", "cosines-multiplexed-end", "cosines-logistic-end" })
            Assert.True(File.Exists(Path.Combine(run, "figures", $"{figure}.png")), figure);
        Assert.Contains(result.Tables, t => t.Name == "paired" && t.Rows.Any(r => r[0].StartsWith("robe-z+", StringComparison.Ordinal)));
        Assert.DoesNotContain(SavedRun.Open(run).Models, m => m.Contains("no-salt", StringComparison.Ordinal) || m.Contains("collisionless", StringComparison.Ordinal));
    }

    [Fact]
    public void Raw_values_of_an_own_table_are_hashed_and_new_ones_predicted()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Log(3000, withTarget: true, seed: 1));
        UnifiedEmbeddingRecipeOptions options = Small with
        {
            Rows = 0, TableRows = [120], Arms = ["collisionless", "separate", "multiplexed"], Chunks = ["user_id=2"], Bags = ["tags"], Backbone = BackboneKind.Dnn, Epochs = 12, LearningRate = 1e-2, Patience = 12, Pooling = Pooling.Mean,
        };
        var (result, run) = Run(folder, options, new UserData(data, new Dictionary<string, string> { ["target"] = "click" }));
        Assert.All(result.Arms.Where(a => a.Arm != "collisionless"), a => Assert.Equal(120 * 6, a["table_parameters"]));
        Assert.Empty(result.Claims);

        string fresh = folder.File("new.csv", Log(5000, withTarget: false, seed: 2)), output = folder.File("predictions.csv");
        Apply(run, fresh, output);
        string[] lines = File.ReadAllLines(output);
        Assert.Equal("row,prediction,probability of yes", lines[0]);
        Assert.Equal(5001, lines.Length); // more than one block
        string[][] rows = [.. File.ReadAllLines(fresh).Skip(1).Select(l => l.Split(','))];
        float[] truth = [.. rows.Select(c => Clicked(c[1], c[2]) ? 1f : 0f)], probability = [.. lines.Skip(1).Select(l => float.Parse(l.Split(',')[2], CultureInfo.InvariantCulture))];
        Assert.True(RankingMetrics.Auc(tensor(probability), tensor(truth)) > .9);

        // A value that no one has seen needs no place of its own.
        Apply(run, folder.File("odd.csv", "user_id,tags,price\nsomeone new,zürich|東京|a|b|c|d|e|f|g,3\n,,\n"), output);
        Assert.Equal(3, File.ReadAllLines(output).Length);
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("other.csv", "user_id,price\n1,2\n"), output));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("text.csv", "user_id,tags,price\n1,a,cheap\n"), output));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("none.csv"), output));
    }

    [Fact]
    public void The_paper_s_network_trains_on_movies_in_the_form_of_ML_1M()
    {
        using var folder = new TemporaryFolder();
        string movies = Directory.CreateDirectory(folder.File("data/ml-1m")).FullName;
        var random = new SplitMix64(3);
        File.WriteAllText(Path.Combine(movies, "users.dat"), string.Concat(Enumerable.Range(1, 20).Select(u => $"{u}::{"MF"[u % 2]}::{u % 7}::{u % 5}::{10000 + u}\n")));
        File.WriteAllText(Path.Combine(movies, "movies.dat"), string.Concat(Enumerable.Range(1, 30).Select(m => $"{m}::Movie {m} (1999)::{(m % 2 == 0 ? "Drama" : "Comedy|Crime")}\n")));
        File.WriteAllText(Path.Combine(movies, "ratings.dat"), string.Concat(Enumerable.Range(0, 400).Select(i => $"{1 + random.Next(20)}::{1 + random.Next(30)}::{1 + i % 5}::9783\n")));
        UnifiedEmbeddingRecipeOptions paper = new UnifiedEmbeddingRecipe().Defaults(Budget.Paper);
        Assert.Equal((30, 1e-3, (int?)128, 30, "ml-1m", 1), (paper.EmbeddingDim, paper.LearningRate, paper.BatchSize, paper.Epochs, paper.Dataset, paper.CrossLayers));
        var (result, _) = Run(folder, paper with { Epochs = 1 }, null, dataFolder: folder.File("data"));
        Assert.Contains("256 training", result.Data, StringComparison.Ordinal); // threes are left out
        Assert.Contains("7 categorical columns", result.Data, StringComparison.Ordinal);
        Assert.Equal(1 + 2 * 3, result.Arms.Count);
    }

    [Fact]
    public void A_seed_gives_the_same_figures_again()
    {
        using var folder = new TemporaryFolder();
        UnifiedEmbeddingRecipeOptions options = Small with { Arms = ["multiplexed"], Sizes = [0.1], Epochs = 2 };
        var (whole, _) = Run(folder, options, null);
        var (again, _) = Run(folder, options, null);
        Assert.Equal(whole.Arms[0]["auc"], again.Arms[0]["auc"]);
        var (other, _) = Run(folder, options, null, seeds: [1]);
        Assert.NotEqual(whole.Arms[0]["auc"], other.Arms[0]["auc"]);
    }

    [Fact]
    public void Wrong_data_and_options_are_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Log(100, withTarget: true, seed: 1));
        var target = new Dictionary<string, string> { ["target"] = "click" };
        Assert.Contains("user_id, tags, price, click", Assert.Throws<BadInputException>(() => Run(folder, Small, new UserData(data, new Dictionary<string, string>()))).Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => Run(folder, Small, new UserData(data, new Dictionary<string, string> { ["target"] = "x" })));
        Assert.Throws<BadInputException>(() => Run(folder, Small with { Chunks = ["x=2"] }, new UserData(data, target)));
        Assert.Throws<BadInputException>(() => Run(folder, Small with { TableRows = [1], Arms = ["separate"] }, new UserData(data, target)));
        Assert.Throws<BadInputException>(() => Run(folder, Small with { Dataset = "ml-100k" }, null));
        Assert.Throws<BadInputException>(() => Run(folder, Small, new UserData(folder.File("log.libfm", "1 0:1\n"), target)));
        foreach (var (name, value) in new[] { ("chunks", "user_id"), ("chunks", "user_id=0"), ("sizes", "0"), ("arms", "md5"), ("numbers", "quantiles"), ("separator", "||"), ("backbone", "bert"), ("embedding-dim", "10") })
            Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new(name, value)]));
        Assert.Equal(["user_id=3", "movie_id=2"], ((UnifiedEmbeddingRecipeOptions)OptionSet.With(Small, [new("chunks", "user_id=3,movie_id=2"), new("backbone", "dcn-v2")])).Chunks);
    }

    private static bool Clicked(string tags, string price) => tags.Contains('a', StringComparison.Ordinal) == (int.Parse(price, CultureInfo.InvariantCulture) > 50);

    private static string Log(int rows, bool withTarget, int seed)
    {
        var random = new SplitMix64((ulong)seed);
        var lines = new List<string> { withTarget ? "user_id,tags,price,click" : "user_id,tags,price" };
        for (int i = 0; i < rows; i++)
        {
            string tags = string.Join('|', "abc".Where(_ => random.Next(2) == 0)), price = random.Next(100).ToString(CultureInfo.InvariantCulture);
            lines.Add($"{random.Next(200 * seed)},{tags},{price}{(withTarget ? Clicked(tags, price) ? ",yes" : ",no" : "")}");
        }
        return string.Join('\n', lines);
    }

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, UnifiedEmbeddingRecipeOptions options, UserData? data, IReadOnlyList<int>? seeds = null, string? dataFolder = null)
        => RecipeRunner.Run(new UnifiedEmbeddingRecipe(), new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = seeds ?? [0], Data = data, DataFolder = dataFolder ?? folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static void Apply(string run, string data, string output)
        => new UnifiedEmbeddingRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
}
