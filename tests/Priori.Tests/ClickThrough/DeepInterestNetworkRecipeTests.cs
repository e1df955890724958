using System.Globalization;
using Priori.Data;
using Priori.Recipes.ClickThrough;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;

namespace Priori.Tests.ClickThrough;

public class DeepInterestNetworkRecipeTests
{
    private static readonly Dictionary<string, string> s_roles = new() { ["user"] = "user", ["item"] = "item", ["time"] = "time" };
    private static readonly DeepInterestNetworkRecipeOptions s_small = new() { ItemDim = 4, CategoryDim = 4, UnitHidden = [6], MlpHidden = [8], BatchSize = 64, Epochs = 1, RegularizerEpochs = 1, Users = 40 };

    [Fact]
    public void The_smoke_run_exercises_every_model_and_regularizer_and_measures_all_claims()
    {
        using var folder = new TemporaryFolder();
        var smoke = (DeepInterestNetworkRecipeOptions)new DeepInterestNetworkRecipe().Defaults(Budget.Smoke);
        var (result, run) = Run(folder, smoke with { Users = 80 }, null, seeds: [0, 1]);
        Assert.Equal(2 * (6 + 7), result.Arms.Count);
        Assert.All(result.Claims, c => Assert.True(double.IsFinite(c.Measured), c.Id));
        Assert.All(result.Arms, a => Assert.InRange(a["gauc"], 0, 1));
        foreach (string figure in new[] { "activation", "items", "models", "regularizers", "regularizers-training" }) Assert.True(File.Exists(Path.Combine(run, "figures", figure + ".png")), figure);
        Table activation = Table.Read(Path.Combine(run, "outputs", "activation.csv"));
        Assert.Equal(["user", "candidate", "candidate category", "label", "position", "past item", "category", "weight"], activation.Columns);
        Assert.Equal(20 * 2 * 19, activation.RowCount); // twenty users, a positive and a negative, nineteen past events

        Apply(run, folder.File("log.csv", Log(users: 30, events: 12)), folder.File("out.csv"), s_roles);
        Assert.Equal(30 * 10, Table.Read(folder.File("out.csv")).RowCount);
    }

    [Fact]
    public void An_own_log_is_learned_and_users_are_ranked_by_their_present_history()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Log(users: 300, events: 12, noTime: true));
        DeepInterestNetworkRecipeOptions options = s_small with { Arms = ["base-sum", "din", "din-softmax"], Category = ["group"], Epochs = 12, LearningRate = 1e-2, Regularizer = "mba-0.1", Top = 3, MaxHistory = 6, Repeats = true };
        var (result, run) = Run(folder, options, new UserData(data, s_roles));
        Assert.Contains(result.Notes, n => n.Contains("1 users give no sample", StringComparison.Ordinal));
        Assert.Contains(result.Notes, n => n.Contains("1 rows without user, item or time", StringComparison.Ordinal));
        Assert.True(result.Arms.Single(a => a.Arm == "din")["gauc"] > .8);

        // A user's group is 0..3; the present history says which, whatever the order of the rows, and old events do not count.
        string present = folder.File("now.csv", "user,item,time\n" + string.Join('\n', Enumerable.Range(0, 200).SelectMany(u => Enumerable.Range(0, 12)
            .Select(e => $"new{u},g{(e < 6 ? (u + 1) % 4 : u % 4)}_{(u + e) % 8},{e}").Reverse())) + "\nstranger,never seen,1\nnew0,never seen either,99\n");
        List<string> said = [];
        Apply(run, present, folder.File("rank.csv"), s_roles, said);
        Table ranking = Table.Read(folder.File("rank.csv"));
        Assert.Equal(["user", "rank", "item", "probability", "past item", "weight"], ranking.Columns);
        Assert.Equal(201 * 3, ranking.RowCount);
        int right = Enumerable.Range(0, 600).Count(row => ranking["item"][row]!.StartsWith($"g{int.Parse(ranking["user"][row]!["new".Length..], CultureInfo.InvariantCulture) % 4}_", StringComparison.Ordinal));
        Assert.True(right > 540, $"{right} of 600");
        Assert.True(ranking["past item"].IsMissing(600)); // the stranger's history is empty
        Assert.Contains(said, line => line.StartsWith("2 events are of items that the model does not know", StringComparison.Ordinal));
        Assert.Contains(said, line => line.StartsWith("1 users have no item that the model knows", StringComparison.Ordinal));

        // In parts of the users, as a large file is, and with a list of candidates, of which one is unknown.
        string list = folder.File("list.csv", "item,price\ng1_0,5\ng2_3,2\nnothing,1\n");
        Apply(run, present, folder.File("some.csv"), s_roles, candidates: list);
        Table some = Table.Read(folder.File("some.csv"));
        Assert.Equal(201 * 2, some.RowCount);
        Assert.All(some["item"], item => Assert.Contains(item, new[] { "g1_0", "g2_3" }));
        Assert.Throws<BadInputException>(() => Apply(run, present, folder.File("x.csv"), s_roles, candidates: folder.File("none.csv", "item\nnothing\n")));
        Assert.Throws<BadInputException>(() => Apply(run, present, folder.File("x.csv"), s_roles, candidates: folder.File("other.csv", "thing\ng1_0\n")));
    }

    [Fact]
    public void Parts_of_a_large_file_give_the_same_rankings_and_past_items_are_left_out()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Log(users: 60, events: 8));
        var (_, run) = Run(folder, s_small with { Arms = ["din-dice"], Regularizer = "filter-0.5", Patience = 0 }, new UserData(data, s_roles));
        SavedRun saved = SavedRun.Open(run);
        var description = saved.Description<DeepInterestNetworkModel>("din-dice-0");
        Assert.Equal(33, description.FilteredIds); // the filter's rows are part of the model
        using var scope = NewDisposeScope();
        Apply(run, data, folder.File("whole.csv"), s_roles);
        Apply(run, data, folder.File("parts.csv"), s_roles, partBytes: new FileInfo(data).Length / 4);
        Assert.Equal(File.ReadAllLines(folder.File("whole.csv")).Order(), File.ReadAllLines(folder.File("parts.csv")).Order());
        EventLog log = EventLog.Read(data, new EventColumns("user", "item", "time"));
        HashSet<(string, string)> past = [.. Enumerable.Range(0, log.Users.Count).SelectMany(u => log.ItemsOf(u).ToArray().Select(i => (log.Users[u], log.Items[i])))];
        Table ranking = Table.Read(folder.File("whole.csv"));
        Assert.DoesNotContain(Enumerable.Range(0, ranking.RowCount), row => past.Contains((ranking["user"][row]!, ranking["item"][row]!)));
        Assert.All(Enumerable.Range(0, ranking.RowCount), row => Assert.Contains((ranking["user"][row]!, ranking["past item"][row]!), past));
    }

    [Fact]
    public void The_paper_s_network_trains_on_an_own_log()
    {
        using var folder = new TemporaryFolder();
        var paper = (DeepInterestNetworkRecipeOptions)new DeepInterestNetworkRecipe().Defaults(Budget.Paper);
        Assert.Equal((64, 64, "sgd", 1.0, 32), (paper.ItemDim, paper.CategoryDim, paper.Optimizer, paper.LearningRate, paper.BatchSize));
        string data = folder.File("log.tsv", Log(users: 10, events: 5).Replace(',', '\t'));
        var (result, _) = Run(folder, paper with { Epochs = 1, Category = ["group"] }, new UserData(data, s_roles));
        Assert.Equal(4, result.Arms.Count);
    }

    [Fact]
    public void MovieLens_ratings_of_four_and_more_are_events_with_the_first_genre()
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder.File("ml"));
        folder.File("ml/u.data", "1\t10\t5\t3\n1\t20\t3\t1\n1\t30\t4\t1\n2\t10\t4\t1\n2\t30\t5\t2\n2\t20\t5\t9\n3\t40\t4\t1\n");
        folder.File("ml/u.item", "10|A (1990)|d||u|0|1|1\n20|B|d||u|0|0|1\n30|C|d||u|0|0|0\n40|D|d||u|1|0|0\n");
        EventLog log = InterestDataset.ReadMovieLens(folder.File("ml"), 0, new()).Log;
        Assert.Equal(["10", "30", "20", "40"], log.Items);
        Assert.Equal([1, 0], log.ItemsOf(0).ToArray());
        Assert.Equal(4, log.Categories[0].OfItem.Count);
        Assert.Equal(-1, log.Categories[0].OfItem[1]);
        Assert.NotEqual(log.Categories[0].OfItem[0], log.Categories[0].OfItem[2]);
        Assert.Throws<BadInputException>(() => Run(folder, s_small with { Dataset = "ml-100k" }, null));
    }

    [Fact]
    public void Bad_input_is_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        string data = folder.File("log.csv", Log(users: 10, events: 5));
        void Refused(string part, DeepInterestNetworkRecipeOptions options, string path, Dictionary<string, string> roles)
            => Assert.Contains(part, Assert.Throws<BadInputException>(() => Run(folder, options, new UserData(path, roles))).Message, StringComparison.Ordinal);
        Refused("name the column of the user with --user", s_small, data, []);
        Refused("has no column 'when'", s_small, data, new() { ["user"] = "user", ["item"] = "item", ["time"] = "when" });
        Refused("has no column 'brand'", s_small with { Category = ["brand"] }, data, s_roles);
        Refused("column 'group' has no value in any row", s_small with { Category = ["group"] }, folder.File("a.csv", "user,item,time,group\na,x,1,\na,y,2,\na,z,3,\n"), s_roles);
        Refused("the time 'noon' in column 'time' is neither", s_small, folder.File("b.csv", "user,item,time\na,x,noon\n"), s_roles);
        Refused("has too few events", s_small, folder.File("c.csv", "user,item,time\na,x,1\nb,y,1\n"), s_roles);
        Refused("is a folder", s_small, folder.Root, s_roles);
        Assert.Throws<BadInputException>(() => OptionSet.With(s_small, [new("regularizer", "mba")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(s_small, [new("regularizers", "none,dropout-1")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(s_small, [new("arms", "transformer")]));

        var (_, run) = Run(folder, s_small with { Arms = ["base-sum"], Patience = 0 }, new UserData(data, s_roles));
        Assert.Contains("trained no DIN", Assert.Throws<BadInputException>(() => Apply(run, data, folder.File("x.csv"), s_roles)).Message, StringComparison.Ordinal);
        (_, run) = Run(folder, s_small with { Arms = ["din"], Patience = 0 }, new UserData(data, s_roles));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("d.csv", "person,item,time\na,x,1\n"), folder.File("x.csv"), []));
    }

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, DeepInterestNetworkRecipeOptions options, UserData? data, IReadOnlyList<int>? seeds = null)
        => RecipeRunner.Run(new DeepInterestNetworkRecipe(), new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = seeds ?? [0], Data = data, DataFolder = folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static void Apply(string run, string data, string output, Dictionary<string, string> roles, List<string>? said = null, string? candidates = null, long partBytes = InterestRanker.PartBytes)
    {
        using DisposeScope scope = NewDisposeScope();
        var user = new UserData(data, roles) { Parts = candidates is null ? [] : new Dictionary<string, string> { ["candidates"] = candidates } };
        DeepInterestNetworkRecipe.Rank(SavedRun.Open(run), ApplyContext.For(new DeepInterestNetworkRecipe(), user, output, CPU, line => said?.Add(line)), partBytes);
    }

    /// <summary>Users who stay in one of four groups of eight items; one row has no item, one user one event.</summary>
    private static string Log(int users, int events, bool noTime = false)
    {
        var random = new SplitMix64(3);
        var lines = new List<string> { "user,item,time,group" };
        for (int user = 0; user < users; user++)
        {
            int group = random.Next(4);
            for (int e = 0; e < events; e++)
            {
                int from = random.NextDouble() < .9 ? group : random.Next(4);
                lines.Add($"u{user},g{from}_{random.Next(8)},{100 - e},{(random.Next(20) == 0 ? "" : $"group{from}")}");
            }
        }
        if (noTime) lines.AddRange(["u0,g0_0,,group0", "lonely,g1_1,5,group1"]);
        return string.Join('\n', lines) + "\n";
    }
}
