using Priori.Data;
using Priori.Nn;
using Priori.Recipes.Similarity;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Tests.Similarity;

public sealed class IterativeFeatureMergingRecipeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-ifm-").FullName;
    private readonly IterativeFeatureMergingRecipe _recipe = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_smoke_run_sweeps_and_leaves_a_network()
    {
        IterativeFeatureMergingRecipeOptions options = _recipe.Defaults(Budget.Smoke) with { Width = 12, TrainImages = 200, TestImages = 60, Epochs = 1, ConvTrainImages = 100, Betas = [.1, .9] };
        (RunResult result, string run) = Run(options, null);
        ArmResult arm = result.Arms.Single(a => a.Arm == "perceptron, weight decay 0.001");
        Assert.True(arm.Series("parameters").Y[1] < arm.Series("parameters").Y[0]);
        Assert.Equal(3, result.Arms.Count(a => a.Arm.StartsWith("perceptron", StringComparison.Ordinal)));
        foreach (string figure in new[] { "accuracy-parameters", "complexity", "layers", "batch-norm" }) Assert.True(File.Exists(Path.Combine(run, "figures", $"{figure}.png")));

        string data = Path.Combine(_folder, "new.npy"), output = Path.Combine(_folder, "out.csv");
        Npy.Write(data, GlyphDigits.Generate(5, 9).Images);
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
        Assert.Equal(6, File.ReadAllLines(output).Length);
    }

    // Unit 1 is a copy of unit 0: merged at beta 0 without any change of the function.
    private (Architecture Architecture, string Path) Checkpoint()
    {
        Seeds.Set(2);
        Architecture architecture = Architectures.Mlp([5], [8], 3);
        using var network = new Network(architecture);
        using (no_grad())
            foreach (string name in new[] { "layers.1.weight", "layers.1.bias" }) network.get_parameter(name)![1] = network.get_parameter(name)![0];
        using (no_grad()) network.get_parameter("layers.3.weight")!.select(1, 1).copy_(network.get_parameter("layers.3.weight")!.select(1, 0));
        string path = Path.Combine(_folder, "model.safetensors");
        Safetensors.Write(path, network.State());
        File.WriteAllText(Path.Combine(_folder, "arch.json"), architecture.ToJson());
        return (architecture, path);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_own_checkpoint_becomes_narrower_with_or_without_data(bool evaluated)
    {
        (_, string checkpoint) = Checkpoint();
        string inputs = Path.Combine(_folder, "eval.npz");
        Npz.Write(inputs, new Dictionary<string, Tensor> { ["inputs"] = randn(40, 5), ["labels"] = arange(40, int64).remainder(3) });
        (RunResult result, string run) = Run(_recipe.Defaults(Budget.Smoke) with { Beta = 0, Betas = [.1] }, Own(evaluated ? inputs : "", ("model", checkpoint)));
        string Output(string name) => Path.Combine(run, "outputs", name);
        Architecture merged = Architecture.FromJson(File.ReadAllText(Output("arch.merged.json")));
        Assert.Equal(7, merged.Layers[1].Width);
        Dictionary<string, Tensor> state = Safetensors.Read(Output("merged.safetensors"));
        using Network narrow = new Network(merged).Load(state);
        Assert.StartsWith("beta,group,features,size,ratio", File.ReadAllText(Output("complexity.csv")), StringComparison.Ordinal);
        Assert.Contains("layers.1", File.ReadAllText(Output("groups.json")), StringComparison.Ordinal);
        ArmResult arm = result.Arms[0];
        Assert.Equal(evaluated, arm.Curves.ContainsKey("metric"));
        if (evaluated) Assert.Equal(arm["whole network"], arm.Series("metric").Y[0], 1e-9);

        string again = Path.Combine(_folder, "again");
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(Own("", ("model", checkpoint)), again, CPU, _ => { }));
        Assert.Equal(File.ReadAllBytes(Output("merged.safetensors")), File.ReadAllBytes(Path.Combine(again, "merged.safetensors")));
    }

    [Fact]
    public void A_foreign_checkpoint_needs_only_its_wiring()
    {
        (Architecture architecture, string checkpoint) = Checkpoint();
        string wiring = Path.Combine(_folder, "wiring.json");
        File.WriteAllText(wiring, architecture.Wiring().ToJson());
        (_, string run) = Run(_recipe.Defaults(Budget.Smoke) with { Beta = 0 }, Own("", ("model", checkpoint), ("wiring", wiring)));
        PermutationSpec merged = PermutationSpec.FromJson(File.ReadAllText(Path.Combine(run, "outputs", "wiring.merged.json")));
        Assert.Equal(7, merged.Groups.Single().Size);
        merged.Validate(Safetensors.Read(Path.Combine(run, "outputs", "merged.safetensors")));
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        (Architecture architecture, string checkpoint) = Checkpoint();
        string Message(UserData data) => Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Smoke), data)).Message;
        string inputs = Path.Combine(_folder, "eval.npz");
        Npz.Write(inputs, new Dictionary<string, Tensor> { ["inputs"] = randn(4, 6) });
        Assert.Contains("--data.model", Message(Own(inputs)));
        Assert.Contains("[4, 6]", Message(Own(inputs, ("model", checkpoint))));
        Dictionary<string, Tensor> state = Safetensors.Read(checkpoint);
        state["layers.1.weight"][0, 0] = float.NaN;
        Safetensors.Write(checkpoint, state);
        Assert.Contains("layers.1.weight", Message(Own("", ("model", checkpoint))));
        File.WriteAllText(Path.Combine(_folder, "arch.json"), Architectures.Mlp([5], [9], 3).ToJson());
        Assert.Contains("[8, 5] in the checkpoint and [9, 5]", Message(Own("", ("model", checkpoint))));
        Assert.Throws<BadInputException>(() => (_recipe.Defaults(Budget.Smoke) with { Betas = [.2, .1] }).Validate());
    }

    [Fact]
    public void The_papers_network_merges()
    {
        IterativeFeatureMergingRecipeOptions paper = _recipe.Defaults(Budget.Paper);
        Assert.Equal(160, paper.Epochs);
        Seeds.Set(0);
        long[] widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]; // VGG16's convolutions, an eighth as wide here
        List<Layer> layers = [];
        for (int i = 0; i < widths.Length; i++)
        {
            layers.Add(new Layer($"conv{i}", LayerKind.Conv2d) { Width = widths[i] / 8, Kernel = 3, Padding = 1 });
            layers.Add(new Layer($"bn{i}", LayerKind.BatchNorm));
            layers.Add(new Layer($"relu{i}", LayerKind.Relu));
            if (i is 1 or 3 or 6 or 9 or 12) layers.Add(new Layer($"pool{i}", LayerKind.MaxPool) { Kernel = 2, Stride = 2 });
        }
        layers.AddRange([new Layer("flatten", LayerKind.Flatten), new Layer("fc", LayerKind.Linear) { Width = 10 }]);
        var architecture = new Architecture([3, 32, 32], layers);
        using var network = new Network(architecture);
        IfmResult merged = IterativeFeatureMerging.Run(architecture, network.State(), new IfmOptions { Beta = .9 });
        Assert.Equal(13, merged.WidthByGroup.Count);
        using Network narrow = merged.ToNetwork();
        Assert.Equal([2L, 10], narrow.call(randn(2, 3, 32, 32)).shape);
    }

    private static UserData Own(string path, params (string Name, string Path)[] parts) => new(path, new Dictionary<string, string>()) { Parts = parts.ToDictionary(p => p.Name, p => p.Path) };

    private (RunResult Result, string Folder) Run(IterativeFeatureMergingRecipeOptions options, UserData? data)
    {
        options.Validate();
        return RecipeRunner.Run(_recipe, new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = [0], Root = Path.Combine(_folder, "runs"), DataFolder = Path.Combine(_folder, "none"), Data = data }, new SilentObserver());
    }
}
