using System.Globalization;
using Priori.Data;
using Priori.Recipes.OptimalTransport;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;
using Priori.Training;
using SkiaSharp;

namespace Priori.Tests.OptimalTransport;

public sealed class SparseTransportRecipeTests : IDisposable
{
    private readonly DisposeScope _scope = torch.NewDisposeScope();
    private readonly TemporaryFolder folder = new();
    private readonly SparseTransportRecipe recipe = new();

    public void Dispose()
    {
        folder.Dispose();
        _scope.Dispose();
    }

    private static SparseTransportOptions Small => new() { Points = 8, Sparsities = [1, 2, 8], TrainRows = 512, TestRows = 256, Experts = 4, Dim = 6, Hidden = 8, Epochs = 1, BatchSize = 128, RouterIterations = 20, DenseLearningRates = [5e-3] };

    private (RunResult Result, string Folder) Run(SparseTransportOptions options, string? data = null, string? target = null)
    {
        options.Validate();
        return RecipeRunner.Run(recipe, new RunRequest
        {
            Options = options,
            Budget = Budget.Smoke,
            Seeds = [0],
            Root = folder.File("runs"),
            Data = data is null ? null : new(data, target is null ? new Dictionary<string, string>() : new Dictionary<string, string> { ["target"] = target }),
        }, new SilentObserver());
    }

    private string Apply(string run, string data, string output)
    {
        recipe.Apply(SavedRun.Open(run), new ApplyContext(new(data, new Dictionary<string, string>()), folder.File(output), CPU, _ => { }));
        return folder.File(output);
    }

    private string Write(string name, string text)
    {
        string path = folder.File(name);
        AtomicFile.WriteText(path, text);
        return path;
    }

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

    [Fact]
    public void Smoke_run_measures_every_claim_and_its_models_take_new_rows()
    {
        (RunResult result, string run) = Run(Small);
        Assert.All(result.Claims, claim => Assert.Equal(Verdict.NotJudged, claim.Verdict));
        Assert.All((string[])["sparsity", "monotone", "relaxed", "plain-transport", "load"], id =>
        {
            ClaimResult claim = result.Claims.Single(c => c.Id == id);
            Assert.True(claim.Measured <= claim.Threshold, $"{id}: {claim.Measured}");
        });
        Assert.All(result.Figures, figure => Assert.True(File.Exists(Path.Combine(run, figure.File))));
        Assert.Contains(result.Figures, figure => figure.Name == "plan-k-2");

        // Rows of six numbers are routed; points of two coordinates are mapped.
        string rows = Write("rows.csv", string.Concat(Enumerable.Range(0, 10).Select(i => $"{i},{-i},0.5,1,2,{i % 3}\n")));
        string[] routed = File.ReadAllLines(Apply(run, rows, "routed.csv"));
        Assert.Equal("row,class,experts,gates", routed[0]);
        Assert.Equal(11, routed.Length);
        string[] mapped = File.ReadAllLines(Apply(run, Write("points.csv", "1.5,1\n2,0.5\n"), "mapped.csv"));
        Assert.Equal("row,x0,x1,partners", mapped[0]);
        Assert.InRange(mapped[1].Split(',')[3].Split(' ').Length, 1, 2);
        Assert.Contains("coordinates", Assert.Throws<BadInputException>(() => Apply(run, Write("wide.csv", "1,2,3\n4,5,6\n"), "none.csv")).Message + " coordinates", StringComparison.Ordinal);
    }

    [Fact]
    public void A_cost_matrix_gives_a_plan_of_named_triplets_and_new_targets_are_matched()
    {
        string cost = Write("C.csv", "job,ann,bob,cid\nw,0,2,3\nx,1,0,2\ny,4,1,0\nz,2,3,1\n");
        (RunResult result, string run) = Run(Small with { MaxNonZeros = 2, Gamma = 0.1 }, cost);
        string[] plan = File.ReadAllLines(Path.Combine(run, "outputs", "plan.csv"));
        Assert.Equal("row,column,mass", plan[0]);
        var triplets = plan.Skip(1).Select(line => line.Split(',')).ToArray();
        Assert.All(triplets.GroupBy(t => t[1]), column =>
        {
            Assert.InRange(column.Count(), 1, 2);
            Assert.Equal(1 / 3.0, column.Sum(t => Number(t[2])), 9);
        });
        Assert.Contains(triplets, t => t is ["w", "ann", _]);
        Assert.Contains("nonZeroHistogram", File.ReadAllText(Path.Combine(run, "outputs", "metrics.json")), StringComparison.Ordinal);

        string[] matched = File.ReadAllLines(Apply(run, Write("new.csv", "dan\n0\n4\n4\n4\n"), "matched.csv"));
        Assert.Equal(["column,partners", "0,w:1"], matched);
        Assert.Throws<BadInputException>(() => Apply(run, Write("short.csv", "dan\n0\n4\n"), "none.csv"));
    }

    [Fact]
    public void Points_with_masses_are_matched_per_row_and_new_points_are_mapped()
    {
        torch.manual_seed(0);
        Tensor x = torch.randn(6, 2, dtype: ScalarType.Float64), y = x + 3;
        string file = folder.File("points.npz");
        Npz.Write(file, new Dictionary<string, Tensor> { ["X"] = x, ["Y"] = y, ["a"] = torch.ones(6), ["b"] = torch.ones(6) });
        foreach (TransportMetric metric in Enum.GetValues<TransportMetric>()) Run(Small with { Metric = metric, MaxNonZeros = 6 }, file);
        (RunResult result, string run) = Run(Small with { MaxNonZeros = 2, PerRow = true, Gamma = 0.01 }, file);
        // A translation is undone by the optimal plan: row i is matched with target i.
        string[][] triplets = [.. File.ReadAllLines(Path.Combine(run, "outputs", "plan.csv")).Skip(1).Select(line => line.Split(','))];
        Assert.All(triplets, t => Assert.Equal(t[0], t[1]));
        Npy.Write(folder.File("new.npy"), x);
        string[] mapped = File.ReadAllLines(Apply(run, folder.File("new.npy"), "mapped.csv"));
        for (int i = 0; i < 6; i++) Assert.Equal(y[i, 0].item<double>(), Number(mapped[i + 1].Split(',')[1]), 1e-6);

        string parts = folder.File("parts");
        Npy.Write(Path.Combine(parts, "X.npy"), x);
        Write(Path.Combine("parts", "Y.csv"), "0,1\n1,0\n2,2\n");
        Assert.Contains("6 sources and 3 targets", Run(Small, parts).Result.Data, StringComparison.Ordinal);
    }

    [Fact]
    public void An_image_takes_the_colours_of_another_and_so_does_a_further_image()
    {
        string images = folder.File("images");
        Directory.CreateDirectory(images);
        void Draw(string name, Func<int, int, SKColor> color)
        {
            using var bitmap = new SKBitmap(24, 16);
            for (int i = 0; i < 24; i++) for (int j = 0; j < 16; j++) bitmap.SetPixel(i, j, color(i, j));
            using SKData png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
            AtomicFile.Write(Path.Combine(images, name), stream => png.SaveTo(stream));
        }
        Draw("src.png", (i, j) => new SKColor((byte)(i * 10), (byte)(j * 15), 0));
        Draw("dst.png", (i, j) => new SKColor(0, (byte)(j * 15), (byte)(i * 10)));
        (_, string run) = Run(Small with { Colors = 16, MaxNonZeros = 2 }, images);
        void AssertBlue(string path)
        {
            using SKBitmap image = SKBitmap.Decode(path);
            Assert.Equal((24, 16), (image.Width, image.Height));
            Assert.All(image.Pixels, pixel => Assert.Equal(0, pixel.Red)); // no colour of dst has red
            Assert.True(image.Pixels.Max(pixel => pixel.Blue) > 100);
        }
        AssertBlue(Path.Combine(run, "outputs", "recolored.png"));
        AssertBlue(Apply(run, Path.Combine(images, "src.png"), "again.png"));
        Assert.Throws<BadInputException>(() => Apply(run, Write("no.csv", "1,2\n"), "none.png"));
    }

    [Fact]
    public void A_table_with_a_target_trains_the_routers_on_it()
    {
        var random = new SplitMix64(1);
        string table = Write("t.csv", "height,kind,label\n" + string.Concat(Enumerable.Range(0, 200).Select(i => string.Create(CultureInfo.InvariantCulture, $"{random.NextDouble():F3},{"abc"[i % 3]},{(i % 3 == 0 ? "yes" : "no")}\n"))));
        (RunResult result, string run) = Run(Small with { BatchSize = 32, Epochs = 6, RouterIterations = 10, LearningRate = 2e-2 }, table, "label");
        Assert.True(result.Arms.Single(a => a.Arm == "SparseOT")["accuracy"] > .8);
        string[] routed = File.ReadAllLines(Apply(run, table, "routed.csv"));
        Assert.Equal(201, routed.Length);
        Assert.Contains(routed[1].Split(',')[1], (string[])["yes", "no"]);
        Assert.Throws<BadInputException>(() => Run(Small, table, "nothing"));
    }

    [Fact]
    public void Bad_problems_are_refused_with_one_sentence()
    {
        Assert.Contains("max-non-zeros", Assert.Throws<BadInputException>(() => Run(Small with { MaxNonZeros = 1 }, Write("C.csv", "1,2\n3,4\n5,6\n"))).Message, StringComparison.Ordinal);
        Assert.Contains("no numbers", Assert.Throws<BadInputException>(() => Run(Small, Write("text.csv", "a,b\n1,x\n2,y\n"))).Message, StringComparison.Ordinal);
        Assert.Contains("not finite", Assert.Throws<BadInputException>(() => Run(Small, Write("hole.csv", "a,b\n1,\n2,3\n"))).Message, StringComparison.Ordinal);
        Npz.Write(folder.File("one.npz"), new Dictionary<string, Tensor> { ["X"] = torch.ones(3, 2) });
        Assert.Contains("needs a cost matrix", Assert.Throws<BadInputException>(() => Run(Small, folder.File("one.npz"))).Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => Run(Small, Write("data.xyz", "1")));
        Assert.Throws<BadInputException>(() => (Small with { Sparsities = [2, 1] }).Validate());
    }

    [Fact]
    public void The_papers_setting_builds_its_experts_and_takes_a_step()
    {
        SparseTransportOptions paper = recipe.Defaults(Budget.Paper);
        Assert.Equal((32, 768, 3072), (paper.Experts, paper.Dim, paper.Hidden));
        const int Experts = 4; // of 32: the whole mixture takes 2.4 GB with Adam's moments
        ExpertTasks tasks = ExpertTasks.Generate(64, 8, 4, paper.Dim, 0);
        var model = new MixtureDescription(MixtureDescription.SparseOt, paper.Dim, Experts, paper.Hidden, 2, paper.CapacityFactor, paper.RouterGamma, 2, 64, null).Build();
        using var learner = new ExpertLearner(model, paper.LearningRate);
        TrainingHistory history = new Trainer(new TrainerOptions { BatchSize = 64 }).Fit(learner, new TensorSource(tasks.TrainX, tasks.TrainY));
        Assert.True(double.IsFinite(history.Series["loss"][0]));
        Assert.InRange(learner.LargestLoad, 1, 20); // ceil(1.25 * 64 / 4)
    }
}
