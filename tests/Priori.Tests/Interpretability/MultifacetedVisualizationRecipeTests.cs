using Priori.Data;
using Priori.Interpretability;
using Priori.Nn;
using Priori.Recipes.Interpretability;
using Priori.Reproduction;
using Priori.Runtime;
using SkiaSharp;

namespace Priori.Tests.Interpretability;

public sealed class MultifacetedVisualizationRecipeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-facets-").FullName;
    private readonly MultifacetedVisualizationRecipe _recipe = new();

    private static MultifacetedVisualizationOptions Small => new() { Units = 2, Steps = 4, TrainImages = 300, TestImages = 100, Epochs = 1, ImagesPerUnit = 30, OctaveIterations = .01, Facets = 2, Widths = [4, 6] };

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(string name) => Path.Combine(_folder, name);

    private (RunResult Result, string Folder) Run(MultifacetedVisualizationOptions options, string? data = null, string? model = null, Budget budget = Budget.Smoke, IReadOnlyList<int>? seeds = null)
    {
        options.Validate();
        return RecipeRunner.Run(_recipe, new RunRequest
        {
            Options = options, Budget = budget, Seeds = seeds ?? [0], Root = At("runs"), DataFolder = At("none"),
            Data = data is null ? null : new UserData(data, new Dictionary<string, string>()) { Parts = model is null ? new Dictionary<string, string>() : new() { ["model"] = model } },
        }, new SilentObserver());
    }

    private string[] Apply(string run, string data)
    {
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), At("facets.csv"), CPU, _ => { }));
        return File.ReadAllLines(At("facets.csv"));
    }

    private string Checkpoint(Architecture architecture, string name = "m")
    {
        Seeds.Set(3);
        using var network = new Network(architecture);
        Safetensors.Write(At($"{name}.safetensors"), network.State());
        File.WriteAllText(At($"{name}.arch.json"), architecture.ToJson());
        return At($"{name}.safetensors");
    }

    [Fact]
    public void The_run_judges_all_starts_and_leaves_a_model_that_sorts_new_images()
    {
        (RunResult result, string run) = Run(Small, seeds: [0, 1]);
        string[] arms = [.. result.Arms.Select(a => a.Arm).Distinct()];
        Assert.Equal(["networks", "multifaceted", "random start", "class mean", "class mean with noise", "real images", "k-means of codes", "no denoising", "octaves", "hidden units", "centre-biased", "jittered"], arms);
        Assert.InRange(result.Arms.First(a => a.Arm == "hidden units")["digits of a unit's facets"], 1, 2);
        Assert.All(result.Claims, c => Assert.Equal((Verdict.NotJudged, 2), (c.Verdict, c.PerSeed.Count)));
        ArmResult made = result.Arms.First(a => a.Arm == "multifaceted");
        Assert.InRange(made["purity"], .5, 1);
        Assert.InRange(made["coverage"], 0, 1);
        Assert.Equal([2L, 1L, 28L, 28L], made.Tensor("images 1").shape);
        Assert.Equal([4L, 2L], made.Tensor("trace 1").shape);
        foreach (string arm in new[] { "centre-biased", "jittered" }) Assert.Equal([1L, 1L, 41L, 41L], result.Arms.First(a => a.Arm == arm).Tensor("images 0").shape); // 28, 34, 41
        Assert.All(result.Figures, f => Assert.True(File.Exists(Path.Combine(run, f.File))));
        Assert.Contains(result.Figures, f => f.Name == "unit-1");

        // The images that the facets were found in fall into their own facets, nearly all.
        Npy.Write(At("new.npy"), GlyphDigits.Generate(20, 9).Images);
        string[] lines = Apply(run, At("new.npy"));
        Assert.Equal("row,unit,facet,activation", lines[0]);
        Assert.Equal(1 + 2 * 20, lines.Length);
        Assert.All(lines.Skip(1), l => Assert.InRange(int.Parse(l.Split(',')[2], System.Globalization.CultureInfo.InvariantCulture), 0, 1));
    }

    [Theory]
    [InlineData("fc:1,conv2:3,conv1:2@1x4", 1)]
    [InlineData("", 3)]
    public void Own_network_and_images_give_pictures_and_tables(string units, int channels)
    {
        string model = Checkpoint(Architectures.ConvNet([channels, 14, 14], [4, 6], 2));
        Npz.Write(At("x.npz"), new Dictionary<string, Tensor> { ["images"] = rand([60, channels, 14, 14], generator: new Generator(2)), ["labels"] = arange(60) % 2 });
        (RunResult result, string run) = Run(Small with { Unit = units.Split(',', StringSplitOptions.RemoveEmptyEntries), ImagesPerUnit = 20, Mean = [.. Enumerable.Repeat(.4, channels)], Deviation = [.. Enumerable.Repeat(.5, channels)] }, At("x.npz"), model);
        string first = units.Length > 0 ? "fc-1" : "fc-0";
        string Output(string name) => Path.Combine(run, "outputs", name);
        using SKBitmap facet = SKBitmap.Decode(Output($"{first}/facet_00.png")), exemplars = SKBitmap.Decode(Output($"{first}/exemplars.png"));
        Assert.Equal((17, 17), (facet.Width, facet.Height)); // the canvas grew by 1.2
        Assert.Equal(2 * 14 + 2, exemplars.Height);
        Assert.Equal("unit,row,facet,x,y,activation", File.ReadLines(Output("embedding.csv")).First());
        int count = units.Length > 0 ? 3 : 2;
        Assert.Equal(1 + count * 20, File.ReadLines(Output("embedding.csv")).Count());
        Assert.Equal("unit,arm,image,step,value", File.ReadLines(Output("activations.csv")).First());
        Assert.Contains(File.ReadLines(Output("activations.csv")), l => l.Contains("centre-biased", StringComparison.Ordinal));
        Assert.Contains(result.Figures, f => f.Name == $"embedding-{first}");
        // A class unit is shown on the images of its class.
        if (units.Length > 0) Assert.All(File.ReadLines(Output("embedding.csv")).Where(l => l.StartsWith("fc:1", StringComparison.Ordinal)), l => Assert.Equal("1", $"{int.Parse(l.Split(',')[1], System.Globalization.CultureInfo.InvariantCulture) % 2}"));
        // The known images fall into their own facets.
        string[] known = [.. File.ReadLines(Output("embedding.csv")).Skip(1)], applied = Apply(run, At("x.npz"));
        int same = known.Count(k => applied.Any(a => a.Split(',') is var f && k.Split(',') is var g && f[0] == g[1] && f[1] == g[0] && f[2] == g[2]));
        Assert.True(same >= .6 * known.Length, $"{same} of {known.Length}");
    }

    [Fact]
    public void Without_a_network_one_is_trained_on_labelled_folders()
    {
        Seeds.Set(1);
        for (int i = 0; i < 40; i++)
        {
            string folder = Directory.CreateDirectory(At(Path.Combine("images", i % 2 == 0 ? "dark" : "light"))).FullName;
            FacetFiles.WritePng(Path.Combine(folder, $"{i:00}.png"), rand(3, 18, 16) * .4 + (i % 2 == 0 ? 0 : .6), (0, 1));
        }
        (RunResult result, string run) = Run(Small with { ImageSize = 12, Unit = ["fc:1"], ImagesPerUnit = 15, Epochs = 8, BatchSize = 8, Baselines = false, LearningRate = .01 }, At("images"));
        Assert.Equal(1, result.Arms.Single(a => a.Arm == "network")["accuracy"]);
        Assert.True(File.Exists(Path.Combine(run, "outputs", "fc-1", "facet_01.png")));
        Assert.False(result.Arms.Single(a => a.Arm == "unit fc-1").Curves.ContainsKey("trace centre-biased"));
        Assert.Equal(1 + 40, Apply(run, At("images")).Length);
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        string model = Checkpoint(Architectures.ConvNet([1, 12, 12], [4], 2)), flat = Checkpoint(Architectures.Mlp([5], [4], 2), "flat");
        Npy.Write(At("x.npy"), rand(30, 12, 12));
        string Message(MultifacetedVisualizationOptions options, string data, string? network) => Assert.Throws<BadInputException>(() => Run(options, At(data), network)).Message;
        Assert.Contains("units 0..1", Message(Small with { Unit = ["fc:2"] }, "x.npy", model));
        Assert.Contains("'fc2'", Message(Small with { Unit = ["fc2"] }, "x.npy", model));
        Assert.Contains("'nowhere'", Message(Small with { CodeLayer = "nowhere" }, "x.npy", model));
        Assert.Contains("no labels", Message(Small, "x.npy", null));
        Assert.Contains("networks of images", Message(Small, "x.npy", flat));
        Npy.Write(At("few.npy"), rand(4, 12, 12));
        Assert.Contains("too few for 2 facets", Message(Small, "few.npy", model));
        Npy.Write(At("small.npy"), rand(30, 8, 8));
        Assert.Contains("[n, 1, 12, 12]", Message(Small, "small.npy", model));
        Assert.Contains("images-per-unit", Assert.Throws<BadInputException>(() => (Small with { Facets = 40 }).Validate()).Message);
        Assert.Contains("alexnet", Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Paper), budget: Budget.Paper)).Message);
    }

    [Fact]
    public void The_papers_network_takes_a_step_of_every_octave()
    {
        Seeds.Set(0);
        using var network = new Network(FacetFiles.AlexNet());
        MultifacetedVisualizationOptions paper = _recipe.Defaults(Budget.Paper);
        using Tensor images = rand(12, 3, 224, 224);
        MultifacetedResult result = MultifacetedVisualizer.Visualize(network, UnitSelector.Parse("classifier.6:7"), images, paper.CodeLayer!, new MultifacetedOptions
        {
            Facets = new() { Count = 2, PcaDimensions = paper.PcaDimensions, MeanOf = paper.MeanOf, Perplexity = paper.Perplexity, Iterations = 10 },
            Schedule = OctaveSchedule.MeanInit(224).Lengthened(.001),
            Normalization = new ImageNormalization(paper.Mean, paper.Deviation),
        });
        Assert.Equal([result.Facets.Count, 3, 269, 269], result.Maximized.Images.shape);
        Assert.Equal(4, result.Maximized.ActivationTrace.shape[0]);
        Assert.Equal(4096, result.Facets.Components.Mean.shape[0]);
    }
}
