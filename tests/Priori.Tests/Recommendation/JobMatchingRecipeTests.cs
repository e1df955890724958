using System.Globalization;
using Priori.Recipes.Recommendation;
using Priori.Recommendation;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;
using Priori.Tests.Nn;

namespace Priori.Tests.Recommendation;

public class JobMatchingRecipeTests
{
    private static readonly JobMatchingRecipeOptions Small = new() { Pairs = 240, Epochs = 2, WarmupEpochs = 1, Dim = 8, Sweep = [0, .3], BatchSize = 64 };
    private static readonly string[] Fields = ["sql", "nursing", "law", "welding"];

    [Fact]
    public void Every_arm_runs_on_the_generated_market_and_all_claims_are_measured()
    {
        using var folder = new TemporaryFolder();
        var (result, run) = Run(folder, Small, null);
        Assert.Equal(14 + 3, result.Arms.Count); // the sweep reuses joint and filter at the main noise
        Assert.Equal(3, result.Claims.Count);
        Assert.All(result.Claims, c => Assert.True(double.IsFinite(c.Measured), c.Id));
        Assert.All(result.Arms, a => Assert.InRange(a["auc"], 0, 1));
        ArmResult Arm(string name) => result.Arms.First(a => a.Arm == name && a.Seed == 0);
        Assert.Equal(Arm("joint @ 0")["auc"], Arm("filter @ 0")["auc"]); // rate 0 discards nothing
        Assert.Equal(.3, Arm("joint")["flipped_kept_text"], 2);
        Assert.NotEqual(Arm("mv-con")["auc"], Arm("filter")["auc"]);
        Assert.True(File.Exists(Path.Combine(run, "figures", "purity.png")) && File.Exists(Path.Combine(run, "figures", "sweep.png")));
        string[] noise = File.ReadAllLines(Path.Combine(run, "outputs", "noise.csv"));
        Assert.Equal(241, noise.Length);
        double[] suspicion = [.. noise.Skip(1).Select(l => double.Parse(l.Split(',')[3], CultureInfo.InvariantCulture))];
        Assert.Equal(suspicion.OrderDescending(), suspicion);
    }

    [Fact]
    public void Own_pairs_are_learned_and_new_postings_ranked()
    {
        using var folder = new TemporaryFolder();
        UserData data = Own(folder, 900, label: true);
        var (result, run) = Run(folder, Small with { Epochs = 10, LearningRate = 1e-2, Dim = 16, TextEncoder = DocumentEncoderKind.Attention, Arms = ["filter", "mv-con"] }, data);
        Assert.Empty(result.Claims);
        Assert.True(result.Arms.Max(a => a["auc"]) > .8); // a tenth of the test labels is wrong too
        Assert.True(result.Arms.All(a => a["best_auc"] >= 0 && a.Metrics.ContainsKey("detection_auc"))); // a clean column was given
        string fresh = folder.File("new.csv", "id,text\nn1,\"We need law. law and word3\"\nn2,welding word7 welding word1\n"), output = folder.File("ranking.csv");
        Apply(run, fresh, output);
        string[] lines = File.ReadAllLines(output);
        Assert.Equal("left,rank,right,probability,text,relation", lines[0]);
        Assert.Equal(1 + 2 * 10, lines.Length);
        Assert.All(lines.Skip(1).Where(l => l.StartsWith("n1,", StringComparison.Ordinal)).Take(5), l => Assert.Equal(2, int.Parse(l.Split(',')[2][1..], CultureInfo.InvariantCulture) % 4));
        Assert.All(lines.Where(l => l.StartsWith("n2,", StringComparison.Ordinal)).Take(5), l => Assert.Equal(3, int.Parse(l.Split(',')[2][1..], CultureInfo.InvariantCulture) % 4));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("other.csv", "id,words\n1,b\n"), output));
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("none.csv"), output));
    }

    [Theory]
    [InlineData(DocumentEncoderKind.Attention, true)]
    [InlineData(DocumentEncoderKind.Cnn, false)]
    [InlineData(DocumentEncoderKind.Hierarchical, false)]
    public void Positive_pairs_alone_get_negatives_and_keywords_and_categories_are_used(DocumentEncoderKind encoder, bool resample)
    {
        using var folder = new TemporaryFolder();
        UserData data = Own(folder, 300, label: false, keywords: true);
        var (result, run) = Run(folder, Small with { TextEncoder = encoder, Resample = resample, Arms = ["filter", "mv-con"], RefreshEvery = 2, Bases = 2, PerClass = true }, data);
        Assert.Contains("sampled negatives", result.Data, StringComparison.Ordinal);
        Assert.Contains("given keywords", result.Data, StringComparison.Ordinal);
        Assert.Equal(241, File.ReadAllLines(Path.Combine(run, "outputs", "noise.csv")).Length); // the given pairs, not the sampled ones
        Apply(run, folder.File("new.csv", "id,text,keywords,category\nn1,law,\"law; word1\",c2\n"), folder.File("ranking"));
        Assert.Equal(11, File.ReadAllLines(Path.Combine(folder.File("ranking"), "ranking.csv")).Length);
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("bare.csv", "id,text\nn1,law\n"), folder.File("r.csv")));
    }

    [Fact]
    public void The_paper_s_network_takes_a_step_on_own_pairs()
    {
        using var folder = new TemporaryFolder();
        string bert = BertTests.Folder(folder, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "law", "sql", "word", "##1", "##2", "##3"]);
        var paper = (JobMatchingRecipeOptions)new JobMatchingRecipe().Defaults(Budget.Paper);
        Assert.Equal((DocumentEncoderKind.Bert, 20, 50, 32, 1e-5), (paper.TextEncoder, paper.MaxSentences, paper.MaxWords, paper.BatchSize, paper.WeightDecay));
        UserData data = Own(folder, 40, label: true);
        var (result, run) = Run(folder, paper with { Bert = bert, Epochs = 1, MaxWords = 16, Arms = ["mv-con"] }, data, budget: Budget.Paper);
        Assert.True(double.IsFinite(result.Arms[0]["auc"]));
        Apply(run, folder.File("new.csv", "id,text\nn1,law word1\n"), folder.File("r.csv"));
        Assert.Equal(11, File.ReadAllLines(folder.File("r.csv")).Length);
        Assert.Throws<BadInputException>(() => Run(folder, paper, null, budget: Budget.Paper));
    }

    [Fact]
    public void Wrong_input_is_said_in_one_sentence()
    {
        using var folder = new TemporaryFolder();
        UserData data = Own(folder, 100, label: true);
        string Message(UserData own, JobMatchingRecipeOptions? options = null) => Assert.Throws<BadInputException>(() => Run(folder, options ?? Small, own)).Message;
        UserData Pairs(string text) => data with { Path = folder.File("bad.csv", text) };
        Assert.Contains("--data.right", Message(data with { Parts = new Dictionary<string, string> { ["left"] = data.Parts["left"] } }), StringComparison.Ordinal);
        Assert.Contains("no column 'right'", Message(Pairs("left,label\na,1\n")), StringComparison.Ordinal);
        Assert.Contains("at least 30", Message(Pairs("left,right,label\nj0,r0,1\n")), StringComparison.Ordinal);
        string many = string.Concat(Enumerable.Range(0, 40).Select(i => $"j{i % 20},r{i % 30},{i % 2}\n"));
        Assert.Contains("row 41: there is no right document 'nobody'", Message(Pairs("left,right,label\n" + many + "j0,nobody,1\n")), StringComparison.Ordinal);
        Assert.Contains("row 41: 'label' must be 0 or 1", Message(Pairs("left,right,label\n" + many + "j0,r0,2\n")), StringComparison.Ordinal);
        Assert.Contains("same label", Message(Pairs("left,right,label\n" + string.Concat(Enumerable.Range(0, 40).Select(i => $"j{i % 20},r{i % 30},0\n")))), StringComparison.Ordinal);
        Assert.Contains("occurs more than once", Message(data with { Parts = new Dictionary<string, string> { ["left"] = folder.File("twice.csv", "id,text\na,b\na,c\n"), ["right"] = data.Parts["right"] } }), StringComparison.Ordinal);
        Assert.Contains("no column 'text'", Message(data with { Parts = new Dictionary<string, string> { ["left"] = folder.File("none.csv", "id,body\na,b\n"), ["right"] = data.Parts["right"] } }), StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("text-encoder", "bert")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("rate", "1")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("arms", "pjfnn")]));
    }

    private static (RunResult Result, string Folder) Run(TemporaryFolder folder, JobMatchingRecipeOptions options, UserData? data, IReadOnlyList<int>? seeds = null, Budget budget = Budget.Smoke)
        => RecipeRunner.Run(new JobMatchingRecipe(), new RunRequest { Budget = budget, Options = options, Seeds = seeds ?? [0], Data = data, DataFolder = folder.File("no data"), Root = folder.File("runs") }, new SilentObserver());

    private static void Apply(string run, string data, string output)
        => new JobMatchingRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));

    /// <summary>Document i is of field i mod 4; a pair matches when the fields are the same. One label in ten is wrong; the column clean tells the truth.</summary>
    private static UserData Own(TemporaryFolder folder, int pairs, bool label, bool keywords = false)
    {
        var random = new SplitMix64(7);
        string Documents(string name, int count) => (keywords ? "id,text,keywords,category\n" : "id,text\n") + string.Concat(Enumerable.Range(0, count).Select(i =>
            $"{name}{i},\"{Fields[i % 4]} word{random.Next(9)} word{random.Next(9)}. word{random.Next(9)} {Fields[i % 4]}\"{(keywords ? $",{Fields[i % 4]}|word{random.Next(9)},c{i % 4}" : "")}\n"));
        string left = folder.File("left.csv", Documents("j", 40)), right = folder.File("right.csv", Documents("r", 60));
        var lines = new List<string> { label ? "left,right,label,clean" : "left,right" };
        for (int i = 0; i < pairs; i++)
        {
            int j = random.Next(40), r = i % 2 == 0 || !label ? j % 4 + 4 * random.Next(15) : random.Next(60), clean = j % 4 == r % 4 ? 1 : 0;
            lines.Add(label ? $"j{j},r{r},{(random.Next(10) == 0 ? 1 - clean : clean)},{clean}" : $"j{j},r{r}");
        }
        return new UserData(folder.File("pairs.csv", string.Join('\n', lines)), new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["left"] = left, ["right"] = right } };
    }
}
