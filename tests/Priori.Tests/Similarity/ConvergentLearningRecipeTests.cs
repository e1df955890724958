using System.Text.Json;
using Priori.Data;
using Priori.Nn;
using Priori.Recipes.Similarity;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Tests.Similarity;

public sealed class ConvergentLearningRecipeTests : IDisposable
{
    private readonly ConvergentLearningRecipe _recipe = new();
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-convergent-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_smoke_run_compares_two_networks_and_leaves_maps()
    {
        ConvergentLearningRecipeOptions options = _recipe.Defaults(Budget.Smoke) with { Widths = [4, 6], TrainImages = 300, TestImages = 60, StitchSteps = 5, Clusters = 3 };
        (RunResult result, string run) = Run(options, null, seeds: [0, 1]);
        Assert.Contains("glyph", result.Data);
        Assert.Equal(["network", "network", "networks 0 and 1", "untrained 0 and 1", "permuted copy", "permuted copy", "stitching layer"], result.Arms.Select(a => a.Arm));
        Assert.All(result.Arms.Where(a => a.Arm == "permuted copy"), a => Assert.Equal(1, a["match"], 1e-6));
        ArmResult pair = result.Arms.Single(a => a.Arm == "networks 0 and 1");
        foreach (string layer in new[] { "relu1", "relu2" })
        {
            Assert.InRange(pair[$"{layer} match"], pair[$"{layer} random"], pair[$"{layer} semi"] + 1e-12);
            Assert.InRange(pair[$"{layer} lasso error"], pair[$"{layer} dense error"], 1);
            Assert.True(File.Exists(Path.Combine(run, "outputs", $"matching_{layer}.csv")));
            Assert.True(File.Exists(Path.Combine(run, "figures", $"aligned-{layer}.png")));
            Assert.True(File.Exists(Path.Combine(run, "figures", $"clusters-{layer}.png")));
        }
        Assert.Equal(7, result.Claims.Count(c => !double.IsNaN(c.Measured)));

        // The run's own networks on new images: what A's units say of B's, and whether the pairs still correspond.
        string images = Path.Combine(_folder, "new.npy"), a = Path.Combine(run, "model", "network-0.safetensors"), b = Path.Combine(run, "model", "network-1.safetensors"), output = Path.Combine(_folder, "translated.npz");
        Npy.Write(images, GlyphDigits.Generate(40, 9).Images);
        _ = Apply(run, images, output, ("a", a));
        Dictionary<string, Tensor> translated = Npz.Read(output);
        Assert.Equal(["relu1", "relu1.matched", "relu2", "relu2.matched"], translated.Keys.Order());
        Assert.Equal([40, 6, 7, 7], translated["relu2"].shape);
        List<string> said = Apply(run, images, Path.Combine(_folder, "again"), ("a", a), ("b", b));
        Assert.Contains(said, line => line.StartsWith("relu1: the run's pairs correlate 0.", StringComparison.Ordinal));
        Assert.Equal(1 + 4 + 6, File.ReadLines(Path.Combine(_folder, "again", "correspondence.csv")).Count());
    }

    [Fact]
    public void Own_networks_of_other_widths_are_compared_and_their_activations_translated()
    {
        Seeds.Set(1);
        string images = Path.Combine(_folder, "images.npz"), a = Network("a", Architectures.ConvNet([1, 10, 10], [5, 6], 3)), b = Network("b", Architectures.ConvNet([1, 10, 10], [4, 7], 2));
        Npz.Write(images, new Dictionary<string, Tensor> { ["inputs"] = randn(40, 1, 10, 10), ["labels"] = arange(40, int64).remainder(2) });
        (RunResult result, string run) = Run(Options with { Clusters = 4 }, images, ("a", a), ("b", b));
        using JsonDocument summary = JsonDocument.Parse(File.ReadAllText(Path.Combine(run, "outputs", "summary.json")));
        Assert.Equal(["relu1", "relu2"], summary.RootElement.EnumerateArray().Select(l => l.GetProperty("layer").GetString()));
        Assert.Equal(4000, summary.RootElement[0].GetProperty("observations").GetInt64());
        string[] matching = File.ReadAllLines(Path.Combine(run, "outputs", "matching_relu1.csv"));
        Assert.Equal("unit_a,unit_b,correlation,best_unit_b,best_correlation,information_unit_b,information_nats,dead,unique", matching[0]);
        Assert.Equal(5 + 1, matching.Length);
        Assert.Single(matching.Skip(1), line => line.Split(',')[1].Length == 0); // five units, four partners
        Assert.Equal(1 + 7 * (4 + 5), File.ReadLines(Path.Combine(run, "outputs", "stitch_relu1.csv")).Count());
        Assert.Equal(1 + 9, File.ReadLines(Path.Combine(run, "outputs", "clusters_relu1.csv")).Count());
        Assert.Contains(result.Tables, t => t.Name == "matched" && t.Rows.Count == 4 + 6);
        Assert.Contains(result.Tables, t => t.Name == "clusters");

        string output = Path.Combine(_folder, "out.safetensors");
        Apply(run, images, output, ("b", b)); // the other direction
        Assert.Equal([40, 5, 10, 10], Safetensors.Read(output)["relu1"].shape);
        Assert.Contains("no layer", Assert.Throws<BadInputException>(() => Run(Options with { Layers = ["relu9"] }, images, ("a", a), ("b", b))).Message);
        Assert.Contains("positions", Assert.Throws<BadInputException>(() => Run(Options with { Layers = ["relu1"], LayersB = ["relu2"] }, images, ("a", a), ("b", b))).Message);
        string other = Network("c", Architectures.Mlp([4], [5], 2));
        Assert.Contains("same inputs", Assert.Throws<BadInputException>(() => Run(Options, images, ("a", a), ("b", other))).Message);
        (RunResult crossed, _) = Run(Options with { Layers = ["pool"], LayersB = ["fc"], Clusters = 2, Lambdas = [.1] }, images, ("a", a), ("b", b));
        Assert.True(crossed.Arms.Single().Metrics.ContainsKey("pool match"));
    }

    [Fact]
    public void Two_files_of_activations_are_paired_by_their_row_names()
    {
        // B holds A's units 2, 0, 1 and noise, its rows in another order.
        using Tensor x = randn([50, 3], generator: new Generator(1)), y = cat([x.index_select(1, tensor(new long[] { 2, 0, 1 })), randn([50, 1], generator: new Generator(2))], 1);
        string a = Path.Combine(_folder, "a.csv"), b = Path.Combine(_folder, "b.npz");
        File.WriteAllLines(a, ["id,u0,u1,u2", .. Enumerable.Range(0, 50).Select(r => FormattableString.Invariant($"{r},{x[r, 0].item<float>()},{x[r, 1].item<float>()},{x[r, 2].item<float>()}"))]);
        Tensor order = randperm(50, int64, generator: new Generator(3));
        Npz.Write(b, new Dictionary<string, Tensor> { ["acts"] = y.index_select(0, order), ["ids"] = order });
        (RunResult result, string run) = Run(Options with { Clusters = 3 }, "", ("a", a), ("b", b));
        Assert.Equal(["0,1,1", "1,2,1", "2,0,1"], File.ReadLines(Path.Combine(run, "outputs", "matching_u.csv")).Skip(1).Select(l => string.Join(',', l.Split(',').Take(3))));
        Assert.Equal(0, result.Arms.Single()["u dense error, back"], 1e-6);

        string output = Path.Combine(_folder, "in-b.csv");
        Apply(run, a, output); // --data alone: activations of A
        string[] lines = File.ReadAllLines(output);
        Assert.Equal("unit_0,unit_1,unit_2,unit_3", lines[0]);
        Assert.Equal(x[7, 0].item<float>() * .9, double.Parse(lines[8].Split(',')[1], System.Globalization.CultureInfo.InvariantCulture), .05); // shrunk by lambda 0.1
        List<string> said = Apply(run, "", Path.Combine(_folder, "both"), ("a", a), ("b", b));
        Assert.Contains(said, line => line.Contains("correlate 1.000") && line.Contains("3 of 3 the same"));
        Assert.Contains("has 3 units; the run compared 4", Refusal(() => Apply(run, "", Path.Combine(_folder, "x.csv"), ("b", a))));
    }

    [Fact]
    public void Arrays_with_positions_are_paired_by_name()
    {
        Seeds.Set(3);
        using Tensor x = rand(12, 3, 4, 4), y = rand(12, 4, 4, 4), tokens = rand(12, 9, 5);
        string a = Save("a.safetensors", ("conv", x), ("tokens", tokens), ("only", x)), b = Save("b.safetensors", ("conv", y), ("tokens", tokens * 2));
        (RunResult result, string run) = Run(Options with { Clusters = 2 }, "", ("a", a), ("b", b));
        Assert.Equal(1, result.Arms.Single()["tokens match"], 1e-6);
        string output = Path.Combine(_folder, "t");
        Apply(run, "", output, ("a", a));
        Dictionary<string, Tensor> translated = Npz.Read(Path.Combine(output, "translated.npz"));
        Assert.Equal([12, 4, 4, 4], translated["conv"].shape);
        Assert.True(translated["tokens.matched"].allclose(tokens * 2, 1e-4, 1e-5));
        Assert.Contains("holds one layer", Refusal(() => Apply(run, "", Path.Combine(_folder, "t.csv"), ("a", a))));
        Assert.Contains("positions [4, 4] and [2, 2]", Refusal(() => Run(Options, "", ("a", a), ("b", Save("c.safetensors", ("conv", rand(12, 3, 2, 2)))))));
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        string a = Save("a.npz", ("x", rand(20, 3)));
        string Message(Tensor b, Func<ConvergentLearningRecipeOptions, ConvergentLearningRecipeOptions>? change = null) => Refusal(() => Run((change ?? (o => o))(Options with { Clusters = 2 }), "", ("a", a), ("b", Save("b.npz", ("x", b)))));
        Assert.Contains("20 samples", Message(rand(19, 3)));
        Tensor bad = rand(20, 3);
        bad[4, 1] = float.NaN;
        Assert.Contains("[4, 1]", Message(bad));
        Assert.Contains("dead", Message(ones(20, 3)));
        Assert.Contains("1..6 clusters", Message(rand(20, 3), o => o with { Clusters = 7 }));
        Assert.Contains("bring more, or leave lambda 0 out", Refusal(() => Run(Options with { Clusters = 2 }, "", ("a", Save("wide.npz", ("x", rand(20, 30)))), ("b", Save("w.npz", ("x", rand(20, 3)))))));
        Assert.Contains("--data.b", Refusal(() => Run(Options, "", ("a", a))));
        Assert.Contains("no name is in both", Refusal(() => Run(Options, "", ("a", Save("two.npz", ("x", rand(5, 2)), ("y", rand(5, 2)))), ("b", Save("z.npz", ("z", rand(5, 2)))))));
        Assert.Contains("no array 'q'", Refusal(() => Run(Options with { Layers = ["q"] }, "", ("a", a), ("b", a))));
        Assert.Contains("arch.json", Refusal(() => Run(Options, a, ("a", Save("m.safetensors", ("w", rand(2, 2)))), ("b", a))));
        Assert.Contains("at least two seeds", Refusal(() => Run(Options, null, seeds: [0])));
        Assert.Contains("ImageNet", Refusal(() => Run(_recipe.Defaults(Budget.Paper), null, Budget.Paper)));
        Assert.Contains("cifar10", Refusal(() => Run(Options with { Images = "cifar10" }, null, seeds: [0, 1])));
        Assert.Throws<BadInputException>(() => (Options with { Lambda = .5 }).Validate());
        Assert.Throws<BadInputException>(() => (Options with { Bins = 1 }).Validate());
        Assert.Throws<BadInputException>(() => (Options with { Layers = ["a"], LayersB = ["a", "b"] }).Validate());
        Assert.Throws<BadInputException>(() => (Options with { Mean = [1] }).Validate());
    }

    [Fact]
    public void The_papers_networks_are_compared_at_all_layers()
    {
        Architecture architecture = ConvergentLearningRecipe.AlexNet(1000);
        IReadOnlyDictionary<string, long[]> shapes = architecture.Shapes();
        Assert.Equal([96, 55, 55], shapes["relu1"]);
        Assert.Equal([256, 13, 13], shapes["relu5"]);
        Assert.Equal([4096], shapes["relu7"]);
        Architecture narrow = ConvergentLearningRecipe.AlexNet(10, scale: 1.0 / 32, size: 67);
        Seeds.Set(0);
        using Network a = new(narrow), b = new(narrow);
        string[] layers = ["relu1", "relu2", "relu3", "relu4", "relu5"];
        IReadOnlyList<LayerConvergence> report = ConvergenceReport.Build(LayerActivations.Of(a, layers), LayerActivations.Of(b, layers), layers, randn(3, 3, 67, 67), _recipe.Defaults(Budget.Paper).Analysis(0) with { Clusters = 3, Lambdas = [.1, .01] }, batchSize: 2);
        Assert.Equal(layers, report.Select(r => r.Layer));
        Assert.All(report, r => Assert.InRange(r.Matching.Mean, r.RandomPairing, 1));
    }

    private ConvergentLearningRecipeOptions Options => _recipe.Defaults(Budget.Smoke);

    private static string Refusal(Action action) => Assert.Throws<BadInputException>(action).Message;

    private string Network(string name, Architecture architecture)
    {
        string path = Path.Combine(_folder, $"{name}.safetensors");
        using var network = new Network(architecture);
        Safetensors.Write(path, network.State());
        File.WriteAllText(Path.Combine(_folder, $"{name}.arch.json"), architecture.ToJson());
        return path;
    }

    private string Save(string name, params (string Name, Tensor Values)[] arrays)
    {
        string path = Path.Combine(_folder, name);
        if (name.EndsWith(".npz", StringComparison.Ordinal)) Npz.Write(path, arrays.ToDictionary(a => a.Name, a => a.Values));
        else Safetensors.Write(path, arrays.ToDictionary(a => a.Name, a => a.Values));
        return path;
    }

    private static UserData Data(string path, (string Name, string Path)[] parts) => new(path, new Dictionary<string, string>()) { Parts = parts.ToDictionary(p => p.Name, p => p.Path) };

    private List<string> Apply(string run, string data, string output, params (string Name, string Path)[] parts)
    {
        var said = new List<string>();
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(Data(data, parts), output, CPU, said.Add));
        return said;
    }

    private (RunResult Result, string Folder) Run(ConvergentLearningRecipeOptions options, string data, params (string Name, string Path)[] parts) => Run(options, Data(data, parts), Budget.Smoke, [0]);

    private (RunResult Result, string Folder) Run(ConvergentLearningRecipeOptions options, UserData? data, Budget budget = Budget.Smoke, int[]? seeds = null)
    {
        options.Validate();
        return RecipeRunner.Run(_recipe, new RunRequest
        {
            Budget = budget, Options = options, Seeds = seeds ?? [0, 1], Root = Path.Combine(_folder, "runs"), DataFolder = Path.Combine(_folder, "none"), Data = data,
        }, new SilentObserver());
    }
}
