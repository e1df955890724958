using Priori.Data;
using Priori.Merging;
using Priori.Nn;
using Priori.Recipes.Merging;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Merging;

public sealed class PleasRecipeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-pleas-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_smoke_run_trains_merges_and_leaves_a_model()
    {
        var recipe = new PleasRecipe();
        PleasRecipeOptions options = recipe.Defaults(Budget.Smoke) with { Width = 16, TrainImages = 300, CalibrationImages = 100, TestImages = 60, ConvTrainImages = 100, ConvWidths = [2, 4], Batches = 2, AdamSteps = 3 };
        (RunResult result, string run) = Run(recipe, options, (UserData?)null);
        Assert.Contains("glyph", result.Data);
        Assert.Contains(result.Arms, a => a.Arm == "conv pleas r=0.5");
        Assert.Contains(result.Arms, a => a.Arm == "heads pleas");
        ArmResult ensemble = result.Arms.Single(a => a.Arm == "ensemble");
        Assert.Equal(2, ensemble["flops"], 1e-9);
        Assert.All(result.Arms.Where(a => a.Metrics.ContainsKey("accuracy")), a => Assert.InRange(a["accuracy"], 0, 1));
        Assert.True(File.Exists(Path.Combine(run, "figures", "accuracy-flops.png")));

        string data = Path.Combine(_folder, "new.npy"), output = Path.Combine(_folder, "predictions.csv");
        Npy.Write(data, GlyphDigits.Generate(5, 9).Images);
        recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
        string[] lines = File.ReadAllLines(output);
        Assert.Equal("row,class,probability", lines[0]);
        Assert.Equal(6, lines.Length);
    }

    [Theory]
    [InlineData("shared")]
    [InlineData("separate")]
    public void Own_checkpoints_become_one(string heads)
    {
        Architecture a = Architectures.ConvNet([1, 8, 8], [4, 6], 3), b = heads == "shared" ? a : Architectures.ConvNet([1, 8, 8], [4, 6], 2);
        string folder = WriteFolder(a, b);
        var recipe = new PleasRecipe();
        (RunResult result, string run) = Run(recipe, recipe.Defaults(Budget.Smoke) with { Budget = 1.6, Heads = heads }, folder);
        string Output(string name) => Path.Combine(run, "outputs", name);
        Architecture merged = Architecture.FromJson(File.ReadAllText(Output("arch.merged.json")));
        using Network network = new Network(merged).Load(Safetensors.Read(Output("merged.safetensors")));
        network.eval();
        Assert.Equal([5, heads == "shared" ? 3 : 5], network.call(randn(5, 1, 8, 8)).shape);
        Assert.Equal("group,width,merged_width,ratio", File.ReadLines(Output("widths.csv")).First());
        Assert.Equal(heads == "shared" ? 4 : 3, File.ReadLines(Output("layer_loss.csv")).Count()); // header, two convolutions and, in one label space, the head
        Assert.InRange(result.Arms[0]["flops"], 1, 1.6);
        Assert.Equal(heads == "shared", File.Exists(Path.Combine(run, "figures", "accuracy-budget.png"))); // the calibration data have labels

        string predictions = Path.Combine(_folder, "p.csv"), again = Path.Combine(_folder, "again");
        recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(Path.Combine(folder, "calib.npz"), new Dictionary<string, string>()), predictions, CPU, _ => { }));
        Assert.Equal(heads == "shared" ? "row,class,probability" : "row,class_a,probability_a,class_b,probability_b", File.ReadLines(predictions).First());
        recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(folder, new Dictionary<string, string>()), again, CPU, _ => { }));
        Assert.Equal(File.ReadAllBytes(Output("merged.safetensors")), File.ReadAllBytes(Path.Combine(again, "merged.safetensors")));
    }

    [Fact]
    public void Three_tuned_checkpoints_become_one_and_the_layers_that_differ_are_named()
    {
        Architecture architecture = Architectures.Mlp([4], [6, 5], 2);
        string tuned = Directory.CreateDirectory(Path.Combine(_folder, "tuned")).FullName, validation = Path.Combine(_folder, "validation.npz");
        Seeds.Set(1);
        using var network = new Network(architecture);
        foreach (string name in new[] { "one", "two", "three" })
        {
            using (no_grad()) network.get_parameter("layers.3.weight")!.add_(.1 * randn(5, 6)); // tuned in one layer
            Safetensors.Write(Path.Combine(tuned, $"{name}.safetensors"), network.State());
        }
        File.WriteAllText(Path.Combine(tuned, "arch.json"), architecture.ToJson());
        Npz.Write(validation, new Dictionary<string, Tensor> { ["inputs"] = randn(80, 4), ["labels"] = arange(80, int64).remainder(2) });
        var recipe = new PleasRecipe();
        var data = new UserData(validation, new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["tuned"] = tuned } };
        (RunResult result, string run) = Run(recipe, recipe.Defaults(Budget.Smoke) with { Matching = MatchingMethod.Weights }, data);
        ArmResult originals = result.Arms.Single(a => a.Arm == "originals");
        Assert.Equal(["merged", "one", "three", "two"], originals.Metrics.Keys.Order());
        Assert.True(File.Exists(Path.Combine(run, "outputs", "merged.safetensors")));
        TableInfo layers = result.Tables.Single(t => t.Name == "layers");
        Assert.Equal("layers.3.weight", layers.Rows[0][0]);
        Assert.Equal(3, layers.Rows.Count);
        Assert.Contains("budget 1", Assert.Throws<BadInputException>(() => Run(recipe, recipe.Defaults(Budget.Smoke) with { Budget = 1.5 }, data)).Message);
    }

    [Fact]
    public void A_foreign_checkpoint_needs_only_its_wiring()
    {
        Architecture architecture = Architectures.Mlp([4], [6], 2);
        string folder = WriteFolder(architecture, architecture);
        File.WriteAllText(Path.Combine(folder, "wiring.json"), architecture.Wiring().ToJson());
        File.Delete(Path.Combine(folder, "arch.json"));
        var recipe = new PleasRecipe();
        Assert.Contains("arch.json", Assert.Throws<BadInputException>(() => Run(recipe, recipe.Defaults(Budget.Smoke), folder)).Message);
        (_, string run) = Run(recipe, recipe.Defaults(Budget.Smoke) with { Method = MergeMethod.PartialMerge, Ratio = .5 }, folder);
        PermutationSpec merged = PermutationSpec.FromJson(File.ReadAllText(Path.Combine(run, "outputs", "wiring.merged.json")));
        Assert.Equal(9, merged.Groups.Single().Size);
        merged.Validate(Safetensors.Read(Path.Combine(run, "outputs", "merged.safetensors")));
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        var recipe = new PleasRecipe();
        string Message(string folder, Func<PleasRecipeOptions, PleasRecipeOptions>? change = null) =>
            Assert.Throws<BadInputException>(() => Run(recipe, (change ?? (o => o))(recipe.Defaults(Budget.Smoke)), folder)).Message;
        string empty = Directory.CreateDirectory(Path.Combine(_folder, "empty")).FullName;
        Assert.Contains("a.safetensors", Message(empty));
        Architecture architecture = Architectures.Mlp([4], [6], 2);
        string folder = WriteFolder(architecture, architecture);
        Npz.Write(Path.Combine(folder, "calib.npz"), new Dictionary<string, Tensor> { ["inputs"] = randn(5, 3) });
        Assert.Contains("[5, 3]", Message(folder));
        File.Delete(Path.Combine(folder, "calib.npz"));
        Assert.Contains("unlabelled inputs", Message(folder));
        File.WriteAllText(Path.Combine(folder, "arch.json"), Architectures.Mlp([4], [7], 2).ToJson());
        Assert.Contains("layers.1.weight", Message(folder, o => o with { Matching = MatchingMethod.Weights, Method = MergeMethod.GitReBasin }));
        File.WriteAllText(Path.Combine(folder, "arch.json"), "{");
        Assert.Contains("arch.json", Message(folder));
        Assert.Throws<BadInputException>(() => (recipe.Defaults(Budget.Smoke) with { Ratios = [.5, 0] }).Validate());
        Assert.Contains("--data", Assert.Throws<BadInputException>(() => Run(recipe, recipe.Defaults(Budget.Paper), (UserData?)null, Budget.Paper)).Message);
    }

    [Theory]
    [InlineData(18)]
    [InlineData(50)]
    public void The_papers_networks_take_one_step(int depth)
    {
        Architecture architecture = ResNet.Describe(depth, 345, ResNetStem.ImageNet, width: 16, imageSize: 32); // DomainNet has 345 classes
        Seeds.Set(0);
        using Network a = new(architecture), b = new(architecture);
        PleasRecipeOptions paper = new PleasRecipe().Defaults(Budget.Paper);
        MergeResult merged = ModelMerger.Merge(architecture, a.State(), b.State(), randn(4, 3, 32, 32), new MergeOptions
        {
            Budget = 1.24, Allocation = BudgetAllocationMethod.Zip, BatchSize = 4,
            LeastSquares = new LeastSquaresOptions { Solver = paper.Solver, AdamSteps = 1, BatchSize = 4 },
        });
        Assert.InRange(merged.FlopsFactor, 1.05, 1.24);
        long stream = depth == 18 ? 128 : 4 * 128;
        Assert.Equal(2 * stream, merged.State[depth == 18 ? "layer4.1.bn2.weight" : "layer4.2.bn3.weight"].shape[0]); // the last stage is separate
        Assert.True(merged.LayerLosses.Count > depth - 1);
        Assert.All(merged.LayerLosses, l => Assert.True(double.IsFinite(l.After)));
    }

    private string WriteFolder(Architecture a, Architecture b)
    {
        string folder = Directory.CreateDirectory(Path.Combine(_folder, Guid.NewGuid().ToString("N"))).FullName;
        Seeds.Set(3);
        foreach ((string name, Architecture architecture) in new[] { ("a", a), ("b", b) })
        {
            using var network = new Network(architecture);
            Safetensors.Write(Path.Combine(folder, $"{name}.safetensors"), network.State());
        }
        File.WriteAllText(Path.Combine(folder, "arch.json"), a.ToJson());
        if (a != b) File.WriteAllText(Path.Combine(folder, "arch.b.json"), b.ToJson());
        Npz.Write(Path.Combine(folder, "calib.npz"), new Dictionary<string, Tensor> { ["inputs"] = randn([80, .. a.Input]), ["labels"] = arange(80, int64).remainder(2) });
        return folder;
    }

    private (RunResult Result, string Folder) Run(PleasRecipe recipe, PleasRecipeOptions options, string? data, Budget budget = Budget.Smoke) =>
        Run(recipe, options, data is null ? null : new UserData(data, new Dictionary<string, string>()), budget);

    private (RunResult Result, string Folder) Run(PleasRecipe recipe, PleasRecipeOptions options, UserData? data, Budget budget = Budget.Smoke)
    {
        options.Validate();
        return RecipeRunner.Run(recipe, new RunRequest
        {
            Budget = budget, Options = options, Seeds = [0], Root = Path.Combine(_folder, "runs"), DataFolder = Path.Combine(_folder, "none"),
            Data = data,
        }, new SilentObserver());
    }
}
