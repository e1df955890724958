using System.Text.Json;
using System.Text.RegularExpressions;
using Priori.Reporting;
using Priori.Reproduction;

namespace Priori.Tests.Reporting;

public sealed class HtmlReportTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static ArmResult Arm(string arm, int seed, double accuracy, double loss) => new()
    {
        Arm = arm, Seed = seed, Seconds = 41.2 + seed, Curves = new Dictionary<string, SeriesData>(),
        Metrics = new Dictionary<string, double> { ["test-accuracy"] = accuracy, ["test-loss"] = loss },
    };

    private RunResult Example()
    {
        double[] epochs = [.. Enumerable.Range(1, 30).Select(e => (double)e)];
        Directory.CreateDirectory(Path.Combine(_folder, "figures"));
        Charts.Lines("Test accuracy", "Epoch", "Accuracy", [new Curve("cross-entropy", epochs, [.. epochs.Select(e => 0.6 + (0.2 * Math.Exp(-e / 9)))], true), new Curve("elr", epochs, [.. epochs.Select(e => 0.9 - (0.3 * Math.Exp(-e / 5)))])])
            .SavePng(Path.Combine(_folder, "figures", "accuracy.png"), 900, 560);
        return new RunResult
        {
            Id = "early-learning-regularization", Title = "Early-learning regularization", Budget = Budget.Full, Seeds = [0, 1, 2], Data = "MNIST (IDX files), 6,000 training rows, 40 % labels wrong",
            Paper = new Paper("Early-Learning Regularization Prevents Memorization of Noisy Labels", "Liu, Niles-Weed, Razavian, Fernandez-Granda", "NeurIPS", 2020, "https://arxiv.org/abs/2007.00151"),
            Options = JsonSerializer.Deserialize<JsonElement>("""{"hiddenUnits":256,"lambda":3.0,"earlyStop":false,"noise":"symmetric"}"""),
            Environment = new EnvironmentInfo("Debian GNU/Linux 12", "AMD EPYC", 2, "cpu", 1, "10.0.0", "0.107.0", "0.1.0"),
            Arms = [Arm("cross-entropy", 0, 0.661, 1.2), Arm("cross-entropy", 1, 0.655, 1.3), Arm("cross-entropy", 2, 0.672, 1.1), Arm("elr", 0, 0.912, 0.4), Arm("elr", 1, 0.905, 0.42), Arm("elr", 2, 0.917, 0.39)],
            Claims =
            [
                new ClaimResult("accuracy", "ELR exceeds cross-entropy by at least 0.10 of test accuracy", 0.2486, Comparison.AtLeast, 0.10, [0.251, 0.25, 0.245], Verdict.Holds),
                new ClaimResult("memorised", "ELR memorises at most 5 % of the wrong labels", 0.071, Comparison.AtMost, 0.05, [], Verdict.DoesNotHold),
            ],
            Figures = [new FigureInfo("accuracy", "Test accuracy over epochs; band: smallest to largest of three seeds.", "figures/accuracy.png")],
            Tables = [new TableInfo("label-errors", "Most suspicious labels.", ["row", "given", "suggested", "score"], [["17", "3", "8", "0.98"], ["203", "1", "7", "0.95"]])],
            Notes = ["The paper trains ResNet-34 on CIFAR-10; this run trains an MLP on digits."],
            Started = new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero), Seconds = 254, PeakMemoryBytes = 700L << 20,
        };
    }

    private string Render(RunResult result) => HtmlReport.Render(result, _folder);

    [Fact]
    public void The_verdicts_come_first_and_everything_the_run_found_is_there()
    {
        string html = Render(Example());
        if (Environment.GetEnvironmentVariable("PRIORI_TEST_FIGURES") is { } folder) File.WriteAllText(Path.Combine(folder, "report.html"), html);
        string[] order = ["Early-learning regularization</h1>", "1 of 2 claims holds", "✓ holds", "at least <b>0.1</b>", "0.251, 0.25, 0.245", "✗ does not hold", "at most <b>0.05</b>", "0.6627 &#177; 0.0086", "0.9113 &#177; 0.0060", "data:image/png;base64,iVBOR", "Label errors", "ResNet-34", "priori run early-learning-regularization --budget full --seeds 0,1,2", "hidden-units", "AMD EPYC", "700 MiB"];
        int at = -1;
        foreach (string part in order)
        {
            int next = html.IndexOf(part, at + 1, StringComparison.Ordinal);
            Assert.True(next > at, $"'{part}' is missing or out of order");
            at = next;
        }
        Assert.Contains("All 2 claims hold", Render(Example() with { Claims = [.. Example().Claims.Select(c => c with { Verdict = Verdict.Holds })] }), StringComparison.Ordinal);
        Assert.Contains("A smoke run judges no claim", Render(Example() with { Budget = Budget.Smoke, Claims = [.. Example().Claims.Select(c => c with { Verdict = Verdict.NotJudged })] }), StringComparison.Ordinal);
    }

    [Fact]
    public void The_page_needs_no_network_and_no_script()
    {
        string html = Render(Example());
        Assert.Contains("default-src 'none'", html, StringComparison.Ordinal);
        Assert.DoesNotContain("<script", html, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotMatch("(src|href)=\"(?!data:image/png;base64,|https://arxiv.org)", html);
        Assert.DoesNotContain("url(", html, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_text_is_escaped()
    {
        const string evil = "<script>alert('1')</script>\"&";
        RunResult example = Example();
        RunResult result = example with
        {
            Id = evil, Title = evil, Data = evil, DataPath = evil, Roles = new Dictionary<string, string> { [evil] = evil }, Notes = [evil],
            Paper = new Paper(evil, evil, evil, 2020, "javascript:alert(1)"),
            Arms = [example.Arms[0] with { Arm = evil, Metrics = new Dictionary<string, double> { [evil] = 1 } }],
            Claims = [new ClaimResult(evil, evil, double.NaN, Comparison.AtMost, 1, [], Verdict.NotJudged)],
            Figures = [new FigureInfo(evil, evil, "figures/accuracy.png"), new FigureInfo(evil, evil, evil)],
            Tables = [new TableInfo(evil, evil, [evil], [[evil, evil]])],
            Options = JsonSerializer.SerializeToElement(new Dictionary<string, string> { [evil] = evil }),
            Environment = new EnvironmentInfo(evil, evil, 1, evil, 1, evil, evil, evil),
        };
        string html = HtmlReport.Render(result, _folder);
        Assert.DoesNotContain("<script", html, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("javascript:", html, StringComparison.Ordinal);
        Assert.Equal(["charset", "name", "http-equiv"], Regex.Matches(html, "<meta ([a-z-]+)").Select(m => m.Groups[1].Value));
        Assert.DoesNotContain("alert('", html, StringComparison.Ordinal);
    }

    [Fact]
    public void A_figure_outside_the_run_folder_or_missing_is_not_shown()
    {
        string secret = Path.Combine(Path.GetTempPath(), $"priori-{Guid.NewGuid():N}.png");
        File.WriteAllText(secret, "secret");
        string html = HtmlReport.Render(Example() with { Figures = [new FigureInfo("a", "a", $"../{Path.GetFileName(secret)}"), new FigureInfo("b", "b", "figures/none.png")] }, _folder);
        File.Delete(secret);
        Assert.Equal(2, Regex.Count(html, "is missing"));
        Assert.DoesNotContain("base64", html, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(new[] { 0.661, 0.655, 0.672 }, "0.6627 ± 0.0086")]
    [InlineData(new[] { 1200.0, 1300.0 }, "1250 ± 71")]
    [InlineData(new[] { 5.0 }, "5")]
    [InlineData(new[] { 2.0, 2.0 }, "2 ± 0")]
    [InlineData(new[] { 1e-9, 3e-9 }, "2E-09 ± 1.4E-09")]
    public void A_mean_is_written_to_two_digits_of_its_deviation(double[] values, string expected) => Assert.Equal(expected, Numbers.MeanAndDeviation(values));

    [Fact]
    public void A_finished_run_leaves_its_report_in_the_run_folder()
    {
        var request = new RunRequest { Budget = Budget.Full, Options = new NoOptions(), Seeds = [3, 4], Root = _folder };
        (RunResult result, string folder) = RecipeRunner.Run(new CoinRecipe(), request, new SilentObserver());
        string html = File.ReadAllText(Path.Combine(folder, "report.html"));
        Assert.Equal(HtmlReport.Render(result, folder), html);
        Assert.Contains("The claim holds", html, StringComparison.Ordinal);
        Assert.Contains("data:image/png;base64,", html, StringComparison.Ordinal);
        Assert.Contains("A coin was tossed.", html, StringComparison.Ordinal);
    }

    private sealed record NoOptions : RecipeOptions;

    private sealed class CoinRecipe : Recipe<NoOptions>
    {
        public override string Id => "coin";

        public override string Area => "Tests";

        public override string Title => "A coin";

        public override string Summary => "Tosses a coin.";

        public override Paper Paper => new("Coins", "A. Uthor", "Nowhere", 2000, "https://example.org/coins");

        public override IReadOnlyList<Claim> Claims => [new("fair", "Heads is at least 0")];

        public override NoOptions Defaults(Budget budget) => new();

        public override void Run(NoOptions options, RunContext context)
        {
            ArmResult[] arms = [.. context.Seeds.Select(seed => context.Arm("coin", seed, run => run.Metric("heads", 0.5 + (0.01 * seed))))];
            context.Figure("heads", "Share of heads.", Charts.Bars("Heads", "Share", [("coin", [.. arms.Select(a => a["heads"])])]));
            context.Check("fair", arms.Average(a => a["heads"]), Comparison.AtLeast, 0);
            context.Note("A coin was tossed.");
        }

        public override void Apply(SavedRun run, ApplyContext context) => throw new NotSupportedException();
    }
}
