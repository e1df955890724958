using System.Globalization;
using Priori.Data;
using Priori.Recipes.Recommendation;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;

namespace Priori.Tests.Recommendation;

public class ItemSelfSupervisionRecipeTests
{
    private static readonly ItemSelfSupervisionRecipeOptions Small = new() { Items = 200, Pairs = 600, Epochs = 1, BatchSize = 64, Alphas = [1], InitialDeviations = [1] };

    [Fact]
    public void Every_arm_runs_on_generated_pairs_and_all_claims_are_measured()
    {
        using var folder = new TemporaryFolder();
        var (result, run) = Run(folder, Small, null, seeds: [0, 1]);
        Assert.Equal(2 * (8 + 3 + 3), result.Arms.Count);
        Assert.All(result.Claims, c => Assert.True(double.IsFinite(c.Measured), c.Id));
        Assert.All(result.Arms, a => Assert.InRange(a["recall@50"], 0, 1));
        Assert.All(result.Arms, a => Assert.InRange(a["cold_correlation"], -1, 1));
        Assert.Contains(result.Tables, t => t.Name == "paired" && t.Rows.Count >= 8);
        TableInfo masks = result.Tables.Single(t => t.Name == "masks");
        Assert.Equal(5, masks.Rows.Count); // the id is no seed
        Assert.Contains("group", masks.Rows.Single(r => r[0] == "topic")[1], StringComparison.Ordinal);
        Dictionary<string, Tensor> vectors = Npz.Read(Path.Combine(run, "outputs", "item_vectors.npz"));
        Assert.Equal([200, 32], vectors["item_vectors"].shape);
        Assert.True(vectors["item_vectors"].eq(Safetensors.Read(Path.Combine(run, "outputs", "item_vectors.safetensors"))["item_vectors"]).all().item<bool>());
        Assert.Equal(201, File.ReadAllLines(Path.Combine(run, "outputs", "item_ids.csv")).Length);
        foreach (string figure in new[] { "recall-by-frequency", "mutual-information", "alpha-recall", "alpha-cold", "vectors-cfm", "self-loss" })
            Assert.True(File.Exists(Path.Combine(run, "figures", figure + ".png")), figure);
        // The queries are items: they are looked up in the catalogue, and an item does not recommend itself.
        Apply(run, folder.File("ask.csv", "query\nitem_7\nitem_9\n"), folder.File("answers.csv"), "query");
        string[][] answers = [.. File.ReadAllLines(folder.File("answers.csv")).Skip(1).Select(l => l.Split(','))];
        Assert.Equal(20, answers.Length);
        Assert.All(answers, a => Assert.NotEqual(a[0], a[2]));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("ask.csv", "query\nitem_700\n"), folder.File("answers.csv"), "query"));
    }

    [Fact]
    public void Own_pairs_are_learned_and_new_items_and_queries_are_served()
    {
        using var folder = new TemporaryFolder();
        var (pairs, items) = Shop(folder);
        ItemSelfSupervisionRecipeOptions options = Small with { Arms = ["none", "cfm", "rfm"], Alphas = [], InitialDeviations = [], Epochs = 30, LearningRate = 1e-2, Patience = 10, Categorical = ["year"] };
        var (result, run) = Run(folder, options, Data(pairs, items));
        Assert.All(result.Claims, c => Assert.Equal(Verdict.NotJudged, c.Verdict));
        // Users buy within one genre of five: far above chance (50 of 200 items is .25).
        Assert.All(result.Arms, a => Assert.True(a["recall@50"] > .6, $"{a.Arm}: {a["recall@50"]}"));
        string[][] recommended = [.. File.ReadAllLines(Path.Combine(run, "outputs", "recommendations.csv")).Skip(1).Select(l => l.Split(','))];
        HashSet<string> bought = [.. File.ReadAllLines(pairs).Skip(1).Select(l => string.Join(',', l.Split(',').Take(2)))];
        Assert.All(recommended.GroupBy(r => r[0]), g => Assert.Equal(10, g.Count()));
        // What a user is known to have bought is left out; what was held out may come back.
        Assert.True(recommended.Count(r => bought.Contains($"{r[0]},{r[2]}")) < recommended.Length / 5);

        // New items, one with unknown and missing values: their vectors, and the items of the catalogue that are like them.
        string fresh = folder.File("new.csv", "sku,genres,maker,year,price\nn1,g3|t1,m3,1993,3.5\nn2,g0|zz,m0,,\n");
        Apply(run, fresh, folder.File("out"));
        Tensor vectors = Npz.Read(folder.File("out/item_vectors.npz"))["item_vectors"];
        Assert.Equal([2, 32], vectors.shape);
        Assert.True(vectors.norm(1).allclose(ones(2)));
        Assert.Equal(["row,sku", "0,n1", "1,n2"], File.ReadAllLines(folder.File("out/item_ids.csv")));
        string[][] similar = [.. File.ReadAllLines(folder.File("out/similar_items.csv")).Skip(1).Select(l => l.Split(','))];
        Assert.True(similar.Where(s => s[0] == "n1").Count(s => int.Parse(s[2][1..], CultureInfo.InvariantCulture) % 5 == 3) >= 8);
        Apply(run, fresh, folder.File("vectors.csv"));
        string[] lines = File.ReadAllLines(folder.File("vectors.csv"));
        Assert.Equal(vectors[1, 31].item<float>(), float.Parse(lines[2].Split(',')[32], CultureInfo.InvariantCulture), 1e-6f);

        var said = new List<string>();
        Apply(run, folder.File("ask.csv", "user\nu3\nstranger\n"), folder.File("answers.csv"), "user", said);
        Assert.Contains(said, s => s.Contains("1 of 2 queries were not in training", StringComparison.Ordinal));
        string[][] answers = [.. File.ReadAllLines(folder.File("answers.csv")).Skip(1).Select(l => l.Split(','))];
        Assert.Equal(20, answers.Length);
        Assert.True(answers.Where(a => a[0] == "u3").Count(a => int.Parse(a[2][1..], CultureInfo.InvariantCulture) % 5 == 3) >= 8);

        Assert.Throws<BadInputException>(() => Apply(run, folder.File("other.csv", "sku,genres\nn1,g1\n"), folder.File("x.csv")));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("other.csv"), folder.File("x.csv"), "nobody"));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("absent.csv"), folder.File("x.csv")));
        Assert.Throws<BadInputException>(() => Apply(run, fresh, folder.File("x.npy")));
    }

    [Fact]
    public void Queries_may_have_features_or_be_items_and_pairs_may_be_split_by_time()
    {
        using var folder = new TemporaryFolder();
        var (pairs, items) = Shop(folder);
        ItemSelfSupervisionRecipeOptions options = Small with { Arms = ["cfm"], Alphas = [], InitialDeviations = [] };
        string users = folder.File("users.csv", "user,segment,age\n" + string.Join('\n', Enumerable.Range(0, 80).Select(u => $"u{u},s{u % 5},{20 + u * .5}")));
        UserData data = Data(pairs, items, ("time", "day")) with { Parts = new Dictionary<string, string> { ["items"] = items, ["queries"] = users } };
        var (result, run) = Run(folder, options, data);
        Assert.Contains("80 queries", result.Data, StringComparison.Ordinal);
        Apply(run, folder.File("ask.csv", "user,segment,age\nnew,s2,33\n"), folder.File("answers.csv"), "user");
        Assert.Equal(11, File.ReadAllLines(folder.File("answers.csv")).Length);
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("ask2.csv", "user\nu1\n"), folder.File("answers.csv"), "user"));

        string sessions = folder.File("sessions.csv", "user,sku\n" + string.Join('\n', Enumerable.Range(0, 400).Select(i => $"i{i % 200},i{(i * 7 + i / 200 + 5) % 200}")));
        (result, _) = Run(folder, options with { Queries = "items" }, Data(sessions, items));
        Assert.Contains("(items themselves)", result.Data, StringComparison.Ordinal);
    }

    [Fact]
    public void MovieLens_is_read_with_years_and_genres()
    {
        using var folder = new TemporaryFolder();
        folder.File("u.genre", "unknown|0\nAction|1\nWar|2\n");
        File.WriteAllText(folder.File("u.item"), "1|Café (1995)|01-Jan-1995||http://x|0|1|1\n2|War (1942)|01-Jan-1942||http://x|0|0|1\n3|unknown||||1|0|0\n", System.Text.Encoding.Latin1);
        folder.File("u.data", string.Concat(Enumerable.Range(0, 30).Select(i => $"{i}\t{1 + i % 3}\t{3 + i % 3}\t8\n")));
        RetrievalTables tables = RetrievalDataset.MovieLens(Path.GetDirectoryName(folder.File("u.item"))!);
        Assert.Equal(["1995", "1942", null], tables.Items["year"]);
        Assert.Equal(["1990s", "1940s", null], tables.Items["decade"]);
        Assert.Equal(["Action|War", "War", "unknown"], tables.Items["genres"]);
        Assert.Equal(20, tables.Pairs.RowCount); // ratings of 4 and 5
    }

    [Fact]
    public void The_paper_s_towers_train_a_step()
    {
        using var folder = new TemporaryFolder();
        var paper = (ItemSelfSupervisionRecipeOptions)new ItemSelfSupervisionRecipe().Defaults(Budget.Paper);
        Assert.Equal((1024L, 128, 1024), (paper.Hidden.Single(), paper.OutputDim, paper.BatchSize));
        var (result, _) = Run(folder, paper with { Items = 100, Pairs = 200, Epochs = 1, Arms = ["cfm"], Alphas = [], InitialDeviations = [] }, null);
        Assert.True(double.IsFinite(result.Arms[0]["recall@50"]));
    }

    [Fact]
    public void Bad_input_is_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        var (pairs, items) = Shop(folder);
        string Message(UserData data, ItemSelfSupervisionRecipeOptions? options = null) => Assert.Throws<BadInputException>(() => Run(folder, options ?? Small, data)).Message;
        Assert.Contains("--data.items", Message(Data(pairs, items) with { Parts = new Dictionary<string, string>() }), StringComparison.Ordinal);
        Assert.Contains("--item", Message(new UserData(pairs, new Dictionary<string, string> { ["user"] = "user" }) { Parts = Data(pairs, items).Parts }), StringComparison.Ordinal);
        Assert.Contains("no column 'sku'", Message(Data(pairs, folder.File("a.csv", "id,x\n1,2\n"))), StringComparison.Ordinal);
        Assert.Contains("was there before in row 1", Message(Data(pairs, folder.File("b.csv", "sku,x,y\ni1,a,b\ni1,a,c\n"))), StringComparison.Ordinal);
        Assert.Contains("needs at least two", Message(Data(pairs, folder.File("c.csv", "sku,x\ni1,a\ni2,b\n"))), StringComparison.Ordinal);
        Assert.Contains("right columns", Message(Data(pairs, folder.File("d.csv", "sku,x,y\nq1,a,b\nq2,b,c\n"))), StringComparison.Ordinal);
        Assert.Contains("no value in any row", Message(Data(pairs, folder.File("e.csv", "sku,x,y,z\ni1,a,b,\ni2,b,c,\n"))), StringComparison.Ordinal);
        Assert.Contains("neither a number nor a date", Message(Data(folder.File("f.csv", "user,sku,day\n" + string.Concat(Enumerable.Range(0, 30).Select(i => $"u{i},i{i},soon\n"))), items, ("time", "day"))), StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("arms", "simclr")]));
        Assert.Throws<BadInputException>(() => Run(folder, Small with { Dataset = "ml-100k" }, null));
    }

    /// <summary>200 items of five genres, 80 users who each buy ten times within one of them.</summary>
    private static (string Pairs, string Items) Shop(TemporaryFolder folder)
    {
        var random = new SplitMix64(1);
        string items = folder.File("items.csv", "sku,genres,maker,year,price\n" + string.Join('\n', Enumerable.Range(0, 200).Select(i => $"i{i},g{i % 5}|t{random.Next(4)},m{i % 5},{1990 + i % 5},{random.NextDouble():F2}")));
        var lines = new List<string>();
        for (int u = 0; u < 80; u++)
            for (int n = 0; n < 10; n++) lines.Add($"u{u},i{(random.Next(40) * 5) + (u % 5)},{lines.Count + 1}");
        return (folder.File("pairs.csv", "user,sku,day\n" + string.Join('\n', lines)), items);
    }

    private static UserData Data(string pairs, string items, params (string Role, string Column)[] roles)
        => new(pairs, new Dictionary<string, string>(roles.Select(r => KeyValuePair.Create(r.Role, r.Column))) { ["user"] = "user", ["item"] = "sku" }) { Parts = new Dictionary<string, string> { ["items"] = items } };

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, ItemSelfSupervisionRecipeOptions options, UserData? data, IReadOnlyList<int>? seeds = null)
        => RecipeRunner.Run(new ItemSelfSupervisionRecipe(), new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = seeds ?? [0], Data = data, DataFolder = folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static void Apply(string run, string data, string output, string? query = null, List<string>? said = null)
        => new ItemSelfSupervisionRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, query is null ? new Dictionary<string, string>() : new Dictionary<string, string> { ["user"] = query }), output, CPU, line => said?.Add(line)));
}
