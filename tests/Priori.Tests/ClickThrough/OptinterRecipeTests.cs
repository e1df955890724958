using System.Globalization;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Metrics;
using Priori.Recipes.ClickThrough;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;

namespace Priori.Tests.ClickThrough;

public class OptinterRecipeTests
{
    private static readonly OptinterRecipeOptions Small = new() { Rows = 1000, Epochs = 1, MlpHidden = [8], BatchSize = 64, SearchBatchSize = 64 };

    [Fact]
    public void Every_plan_runs_on_the_generated_log_and_all_claims_are_measured()
    {
        using var folder = new TemporaryFolder();
        var (result, run) = Run(folder, Small, null, seeds: [0, 1]);
        Assert.Equal(16, result.Arms.Count);
        Assert.Equal(6, result.Claims.Count);
        Assert.All(result.Claims, c => Assert.True(double.IsFinite(c.Measured), c.Id));
        Assert.Equal(15 + 1, File.ReadAllLines(Path.Combine(run, "outputs", "interactions.csv")).Length);
        foreach (string figure in new[] { "pairs", "information", "parameters", "one-pass", "auc" }) Assert.True(File.Exists(Path.Combine(run, "figures", figure + ".png")), figure);
        foreach (int seed in new[] { 0, 1 })
        {
            InteractionPlan plan = InteractionPlan.Load(Path.Combine(run, "outputs", $"plan-{seed}.json"));
            Assert.Equal(FieldPair.All(6), plan.Choices.Select(c => c.Pair));
            ArmResult found = result.Arms.Single(a => a.Arm == "optinter" && a.Seed == seed);
            Assert.Equal(plan.Choices.Select(c => (long)c.Method), found.Tensor("methods").data<long>().ToArray());
        }
        ArmResult Arm(string arm) => result.Arms.First(a => a.Arm == arm);
        Assert.Equal((1, 0), (Arm("repeated")["rows_repeat"], Arm("optinter")["rows_repeat"]));
        Assert.Equal((2, 1), (Arm("bi-level")["search_levels"], Arm("optinter")["search_levels"]));
        Assert.Equal((1, 0), (Arm("memorize")["cross_share"], Arm("naive")["cross_share"]));
        // A naive plan has the parameters of a deep network on embeddings and no more.
        Assert.Equal(144 * 8 + (48 * 8 + 8) + 2 * 8 + (8 + 1), Arm("naive")["parameters"]);
        Assert.Equal(Arm("naive")["parameters"] + Arm("memorize")["cross_parameters"] + 15 * 4 * 8, Arm("memorize")["parameters"]);
    }

    [Fact]
    public void A_log_tells_which_pairs_matter_and_new_rows_are_scored()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Log(4000, withTarget: true, seed: 1));
        OptinterRecipeOptions options = Small with { Rows = 0, Epochs = 6, Patience = 6, Arms = ["optinter", "naive"], SearchEpochs = 8, MinPairCount = 2 };
        var (result, run) = Run(folder, options, Own(data, "click"));
        ArmResult found = result.Arms.Single(a => a.Arm == "optinter");
        Assert.Equal((2, 8), (found["search_levels"], found["search_epochs"])); // few rows: they repeat, and alpha learns from others
        Assert.True(found["auc"] > .8, $"{found["auc"]}");
        string[][] pairs = [.. File.ReadAllLines(Path.Combine(run, "outputs", "interactions.csv")).Select(l => l.Split(','))];
        Assert.Equal(["pair", "method (seeds)", "weight of naive", "MI of the pair with the target (mnat)", "MI of its columns alone (mnat)"], pairs[0]);
        Assert.Equal(3 + 1, pairs.Length); // age is a number: no pair has it
        Assert.Equal("device x site", pairs[1][0]);
        Assert.NotEqual("naive", pairs[1][1]);
        Assert.True(double.Parse(pairs[1][3], CultureInfo.InvariantCulture) > 100);
        Assert.All(pairs[2..], p => Assert.InRange(double.Parse(p[3], CultureInfo.InvariantCulture), -10, 10));

        string fresh = folder.File("new.csv", Log(5000, withTarget: false, seed: 2)), output = folder.File("predictions.csv");
        Apply(run, fresh, output);
        string[][] lines = [.. File.ReadAllLines(output).Select(l => l.Split(','))];
        Assert.Equal(["row", "prediction", "probability of yes"], lines[0]);
        Assert.Equal(5001, lines.Length);
        float[] truth = [.. File.ReadAllLines(fresh).Skip(1).Select(l => l.Split(',')).Select(c => Odd(c[0], c[1]) ? 1f : 0f)];
        Assert.True(RankingMetrics.Auc(tensor(lines.Skip(1).Select(l => float.Parse(l[2], CultureInfo.InvariantCulture)).ToArray()), tensor(truth)) > .95);

        Apply(run, folder.File("odd.csv", "device,site,hour,age\nd9,s9,,\nd0,s1,h1,1e9\n"), output); // unseen categories, missing values, numbers out of range
        Assert.All(File.ReadAllLines(output).Skip(1), l => Assert.InRange(float.Parse(l.Split(',')[2], CultureInfo.InvariantCulture), 0, 1));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("other.csv", "device,site\nd0,s0\n"), output));
    }

    [Fact]
    public void The_saved_model_has_only_the_tables_of_its_plan_and_scores_the_same()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Log(600, withTarget: true, seed: 1));
        var (result, run) = Run(folder, Small with { Rows = 0, Arms = ["memorize", "naive"], MinPairCount = 1 }, Own(data, "click"));
        SavedRun saved = SavedRun.Open(run);
        Dictionary<string, Tensor> weights = saved.Model("memorize-0");
        Assert.Equal(result.Arms[0]["cross_parameters"], weights["memorized.weight"].numel());
        Assert.DoesNotContain(weights.Keys, k => k.StartsWith("factors", StringComparison.Ordinal));
        var description = saved.Description<ClickModelDescription>("memorize-0");
        Assert.Equal(3, Assert.IsType<OptInterDescription>(description).Combinations.Count);
        using var scorer = new ClickScorer(description, weights);
        var table = Table.Read(data);
        Tensor scores = scorer.Score(table);
        Apply(run, data, folder.File("p.csv"));
        float[] written = [.. File.ReadAllLines(folder.File("p.csv")).Skip(1).Select(l => float.Parse(l.Split(',')[2], CultureInfo.InvariantCulture))];
        Assert.InRange((scores - tensor(written)).abs().max().ToDouble(), 0, 1e-5);
    }

    [Fact]
    public void A_number_and_several_classes_are_targets_and_numbers_may_be_buckets()
    {
        using var folder = new TemporaryFolder();
        string text = "a,b,y,c\n" + string.Join('\n', Enumerable.Range(0, 300).Select(i => $"{i % 10},v{i % 7},{3 * (i % 10) + .5},{"abc"[i % 10 / 4]}"));
        string data = folder.File("t.csv", text);
        foreach (var (target, ignore, header) in new[] { ("y", "c", "row,prediction"), ("c", "y", "row,prediction,probability of a,probability of b,probability of c") })
        {
            OptinterRecipeOptions options = Small with { Rows = 0, Arms = ["optinter"], Ignore = [ignore], Numbers = FieldKind.Quantiles };
            var (_, run) = Run(folder, options, Own(data, target));
            Apply(run, data, folder.File("p.csv"));
            string[] lines = File.ReadAllLines(folder.File("p.csv"));
            Assert.Equal(header, lines[0]);
            Assert.Equal(301, lines.Length);
        }
    }

    [Fact]
    public void The_paper_s_network_trains_and_stops_when_an_epoch_does_not_improve()
    {
        using var folder = new TemporaryFolder();
        var random = new SplitMix64(1);
        string text = string.Join('\n', Enumerable.Range(0, 60).Select(_ => $"{(random.Next(2) == 0 ? -1 : 1)} {string.Join(' ', Enumerable.Range(0, 6).Select(f => $"{f * 5 + random.Next(5)}:1"))}"));
        string data = folder.File("log.libfm", text);
        OptinterRecipeOptions paper = new OptinterRecipe().Defaults(Budget.Paper);
        Assert.Equal((20, 10, 20, (double?)5e-5), (paper.EmbeddingDim, paper.CrossDim, paper.MinPairCount, paper.TauRate));
        Assert.Equal([700, 700, 700, 700, 700], paper.MlpHidden);
        var (result, run) = Run(folder, paper with { Epochs = 1, Arms = ["optinter"], MinPairCount = 1 }, Own(data, null));
        Assert.True(double.IsFinite(result.Arms[0]["log_loss"]));
        Assert.InRange(result.Arms[0]["search_epochs"], 1, 9);
        Apply(run, data, folder.File("p.csv"));
        Assert.Equal(61, File.ReadAllLines(folder.File("p.csv")).Length);
    }

    [Fact]
    public void Missing_targets_too_few_categories_and_wrong_options_are_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Log(100, withTarget: true, seed: 1));
        Assert.Contains("device, site, hour, age, click", Assert.Throws<BadInputException>(() => Run(folder, Small, Own(data, null))).Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => Run(folder, Small, Own(data, "x")));
        var few = Assert.Throws<BadInputException>(() => Run(folder, Small with { Rows = 0, Ignore = ["device", "site"] }, Own(data, "click")));
        Assert.Contains("1 categorical column", few.Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("weight-decay", "0.1")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("search-mode", "three-level")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("min-pair-count", "0")]));
        Assert.Throws<BadInputException>(() => Run(folder, Small with { Dataset = "frappe" }, null));
    }

    private static bool Odd(string device, string site) => (device[1] + site[1]) % 2 == 1;

    /// <summary>Clicks depend on device and site together and on neither alone; hour and age mean nothing.</summary>
    private static string Log(int rows, bool withTarget, int seed)
    {
        var random = new SplitMix64((ulong)seed);
        var lines = new List<string> { "device,site,hour,age" + (withTarget ? ",click" : "") };
        for (int i = 0; i < rows; i++)
        {
            string device = $"d{random.Next(4)}", site = $"s{random.Next(4)}", line = $"{device},{site},h{random.Next(6)},{(random.Next(10) == 0 ? "" : random.Next(80).ToString(CultureInfo.InvariantCulture))}";
            lines.Add(withTarget ? $"{line},{(random.NextDouble() < (Odd(device, site) ? .95 : .05) ? "yes" : "no")}" : line);
        }
        return string.Join('\n', lines);
    }

    private static UserData Own(string path, string? target) => new(path, target is null ? new Dictionary<string, string>() : new Dictionary<string, string> { ["target"] = target });

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, OptinterRecipeOptions options, UserData? data, IReadOnlyList<int>? seeds = null)
        => RecipeRunner.Run(new OptinterRecipe(), new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = seeds ?? [0], Data = data, DataFolder = folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static void Apply(string run, string data, string output)
        => new OptinterRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
}
