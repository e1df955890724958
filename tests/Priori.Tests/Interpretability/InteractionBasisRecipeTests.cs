using System.Globalization;
using System.Text.Json;
using Priori.Data;
using Priori.Interpretability;
using Priori.Nn;
using Priori.Recipes.Interpretability;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;

namespace Priori.Tests.Interpretability;

public sealed class InteractionBasisRecipeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly InteractionBasisRecipe _recipe = new();

    private static InteractionBasisRecipeOptions Small => new()
    {
        Hidden = [10, 10], TrainImages = 600, Epochs = 1, BasisRows = 200, TestRows = 150, Tolerance = .02, ToyRows = 500, Modulus = 5, ModularWidth = 12, ModularEpochs = 30,
    };

    public void Dispose() => _folder.Dispose();

    private (RunResult Result, string Folder) Run(InteractionBasisRecipeOptions options, string? data = null, IReadOnlyDictionary<string, string>? parts = null, Budget budget = Budget.Smoke, IReadOnlyList<int>? seeds = null)
        => RecipeRunner.Run(_recipe, new RunRequest
        {
            Options = options, Budget = budget, Seeds = seeds ?? [0], Root = _folder.File("runs"), DataFolder = _folder.File("none"),
            Data = data is null ? null : new UserData(data, new Dictionary<string, string>()) { Parts = parts ?? new Dictionary<string, string>() },
        }, new SilentObserver());

    private string Checkpoint(Architecture architecture, string name = "m")
    {
        Seeds.Set(3);
        using var network = new Network(architecture);
        Safetensors.Write(_folder.File($"{name}.safetensors"), network.State());
        File.WriteAllText(_folder.File($"{name}.arch.json"), architecture.ToJson());
        return _folder.File($"{name}.safetensors");
    }

    private static Tensor Inputs(int count, int seed, params long[] shape) => rand([count, .. shape], generator: new Generator((ulong)seed));

    private static void Refused(string expected, Action run) => Assert.Contains(expected, Assert.Throws<BadInputException>(run).Message);

    [Fact]
    public void Default_data_measure_every_claim_and_leave_a_basis_for_new_rows()
    {
        (RunResult result, string run) = Run(Small, seeds: [0, 1]);
        Assert.Equal(["blocks, interaction basis", "blocks, principal components", "digits network", "digits, interaction basis", "digits, principal components", "modular addition network",
            "modular addition, interaction basis", "modular addition, principal components", "planted degeneracies"], result.Arms.Select(a => a.Arm).Distinct().Order(StringComparer.Ordinal));
        Assert.All(result.Claims, c => Assert.Equal((Verdict.NotJudged, 2), (c.Verdict, c.PerSeed.Count == 0 ? 2 : c.PerSeed.Count)));
        Assert.Equal(0, result.Claims.Single(c => c.Id == "planted").Measured);
        // The claims of the two blocks hold with few rows already.
        Assert.True(result.Claims.Single(c => c.Id == "crossing").Measured < .2);
        Assert.All(result.Figures, f => Assert.True(File.Exists(Path.Combine(run, f.File))));
        foreach (string figure in new[] { "digits-graph", "digits-edges-lib", "digits-edges-pca", "blocks-graph", "modular-addition-graph" }) Assert.Contains(result.Figures, f => f.Name == figure);
        foreach (ArmResult arm in result.Arms.Where(a => a.Arm.StartsWith("digits, ", StringComparison.Ordinal)))
        {
            (double[] kept, double[] metric) = arm.Series("edge curve 0");
            Assert.Equal(arm["whole network"], metric[^1], 1e-9); // all edges
            Assert.Equal(arm.Tensor("edges 0").numel(), kept[^1]);
            Assert.True(metric[Array.IndexOf(kept, Math.Max(1, arm["edges 0"]))] >= arm["whole network"] - .02);
        }

        Npy.Write(_folder.File("new.npy"), Inputs(7, 1, 1, 28, 28));
        string output = _folder.File("coordinates");
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(_folder.File("new.npy"), new Dictionary<string, string>()), output, CPU, _ => { }));
        Dictionary<string, Tensor> coordinates = Npz.Read(Path.Combine(output, "coordinates.npz"));
        Assert.Equal(["layers.2", "layers.4", "layers.5"], coordinates.Keys.Order());
        Assert.Equal([7L, 10L], coordinates["layers.5"].shape);
        // The last layer keeps its own units: coordinates are the logits less their mean, so their differences are those of the network.
        SavedRun saved = SavedRun.Open(run);
        using Network network = new Network(Architectures.Mlp([1, 28, 28], [10, 10], 10)).Load(saved.Model("network"));
        network.eval();
        Tensor logits = network.call(Npy.Read(_folder.File("new.npy"))).detach(), given = coordinates["layers.5"];
        Assert.True((logits - logits[0] - (given - given[0])).abs().max().item<float>() < 1e-4);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Own_network_and_rows_give_basis_edges_modules_degeneracy_and_curves(bool labels)
    {
        string model = Checkpoint(Architectures.Mlp([6], [8, 7], 3));
        var arrays = new Dictionary<string, Tensor> { ["inputs"] = Inputs(120, 2, 6) };
        if (labels) arrays["labels"] = arange(120) % 3;
        Npz.Write(_folder.File("x.npz"), arrays);
        (RunResult result, string run) = Run(Small with { Layers = labels ? ["layers.2", "layers.4", "layers.5"] : [] }, _folder.File("x.npz"), new Dictionary<string, string> { ["model"] = model });
        string[] Lines(string name) => File.ReadAllLines(Path.Combine(run, "outputs", name));
        Assert.Equal("from_layer,from_direction,to_layer,to_direction,weight", Lines("edges.csv")[0]);
        Assert.Equal("layer,direction,importance,module", Lines("modules.csv")[0]);
        Assert.Equal("layer,kind,kept,metric", Lines("ablation.csv")[0]);
        Assert.All(Lines("edges.csv").Skip(1), l => Assert.True(double.Parse(l.Split(',')[4], CultureInfo.InvariantCulture) >= 0));
        using JsonDocument degeneracy = JsonDocument.Parse(File.ReadAllText(Path.Combine(run, "outputs", "degeneracy.json")));
        Assert.Equal(3, degeneracy.RootElement.GetArrayLength());
        Assert.Equal(8 * 7, degeneracy.RootElement[0].GetProperty("outputs").GetInt64() * degeneracy.RootElement[0].GetProperty("inputs").GetInt64());
        Assert.Contains(result.Figures, f => f.Name == "graph");
        Assert.Empty(result.Claims);
        Dictionary<string, Tensor> basis = SavedRun.Open(run).Model("basis");
        Assert.Equal(8, basis["layers.2/C"].shape[0]);
        double whole = result.Arms[0]["whole network"];
        if (!labels) Assert.Equal(1, whole, 1e-9); // explained variance of its own outputs
    }

    [Fact]
    public void A_network_of_another_run_is_taken_with_its_description()
    {
        (_, string first) = Run(Small);
        Npy.Write(_folder.File("x.npy"), Inputs(40, 1, 1, 28, 28));
        (RunResult result, _) = Run(Small, _folder.File("x.npy"), new Dictionary<string, string> { ["model"] = Path.Combine(first, "model", "network.safetensors") });
        Assert.Equal(2, result.Arms.Count);
    }

    [Fact]
    public void Bad_input_is_refused_in_one_sentence()
    {
        string model = Checkpoint(Architectures.Mlp([6], [8, 7], 3));
        var parts = new Dictionary<string, string> { ["model"] = model };
        Npy.Write(_folder.File("x.npy"), Inputs(30, 2, 6));
        Npy.Write(_folder.File("one.npy"), Inputs(1, 2, 6));
        Npy.Write(_folder.File("wide.npy"), Inputs(30, 2, 5));
        Npy.Write(_folder.File("nan.npy"), full([30, 6], float.NaN));
        Refused("--data.model", () => Run(Small, _folder.File("x.npy")));
        Refused("at least", () => Run(Small, _folder.File("one.npy"), parts));
        Refused("takes [n, 6]", () => Run(Small, _folder.File("wide.npy"), parts));
        Refused("not finite", () => Run(Small, _folder.File("nan.npy"), parts));
        Refused("no layer 'h9'", () => Run(Small with { Layers = ["h9", "layers.5"] }, _folder.File("x.npy"), parts));
        Refused("does not come after", () => Run(Small with { Layers = ["layers.4", "layers.2"] }, _folder.File("x.npy"), parts));
        File.WriteAllText(_folder.File("other.json"), Architectures.Mlp([6], [9, 7], 3).ToJson());
        Refused("layers.1.weight", () => Run(Small, _folder.File("x.npy"), new Dictionary<string, string> { ["model"] = model, ["arch"] = _folder.File("other.json") }));
        // A network whose output ignores its hidden layer.
        using (var network = new Network(Architectures.Mlp([6], [8, 7], 3)))
        {
            using (no_grad()) network.get_parameter("layers.5.weight")!.zero_();
            Safetensors.Write(_folder.File("m.safetensors"), network.State());
        }
        Refused("does not depend on layer 'layers.4'", () => Run(Small, _folder.File("x.npy"), parts));
    }

    [Fact]
    public void The_paper_s_network_for_modular_addition_is_cut_and_takes_a_step()
    {
        InteractionBasisRecipeOptions paper = _recipe.Defaults(Budget.Paper);
        Assert.Equal((113, 60_000, .001), (paper.Modulus, paper.ModularEpochs, paper.Tolerance));
        var tiny = paper with { Hidden = [100, 100], TrainImages = 200, Epochs = 1, BasisRows = 150, TestRows = 60, ToyRows = 200, Modulus = 5, ModularWidth = 16, ModularEpochs = 2 };
        (RunResult result, _) = Run(tiny, budget: Budget.Paper);
        Assert.Equal(9, result.Arms.Count);
    }
}
