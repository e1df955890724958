using System.Globalization;
using Priori.Data;
using Priori.Interpretability;
using Priori.Recipes.Interpretability;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Tests.Data;
using Priori.Training;

namespace Priori.Tests.Interpretability;

public sealed class InformationCompressionRecipeTests : IDisposable
{
    private readonly TemporaryFolder folder = new();
    private readonly InformationCompressionRecipe recipe = new();

    private static InformationCompressionOptions Small => new() { Activations = [HiddenActivation.Tanh, HiddenActivation.Elu], Epochs = 3, Snapshots = 3, Compared = 1, ComparedRows = 100 };

    public void Dispose() => folder.Dispose();

    private (RunResult Result, string Folder) Run(InformationCompressionOptions options, string? data = null, string? target = null, Budget budget = Budget.Smoke, IReadOnlyList<int>? seeds = null)
        => RecipeRunner.Run(recipe, new RunRequest
        {
            Options = options,
            Budget = budget,
            Seeds = seeds ?? [0],
            Root = folder.File("runs"),
            DataFolder = folder.File("data"),
            Data = data is null ? null : new(data, target is null ? new Dictionary<string, string>() : new Dictionary<string, string> { ["target"] = target }),
        }, new SilentObserver());

    private string[] Apply(string run, string data)
    {
        string output = folder.File("applied.csv");
        recipe.Apply(SavedRun.Open(run), new ApplyContext(new(data, new Dictionary<string, string>()), output, CPU, _ => { }));
        return File.ReadAllLines(output);
    }

    [Fact]
    public void Default_data_give_traces_figures_claims_and_a_model_for_new_data()
    {
        (RunResult result, string run) = Run(Small, seeds: [0, 1, 2]);
        Assert.Equal(["tanh", "tanh L2", "ELU", "ELU L2"], result.Arms.Select(a => a.Arm).Distinct());
        Assert.All(result.Claims, claim => Assert.Equal(Verdict.NotJudged, claim.Verdict));
        Assert.All(result.Claims, claim => Assert.Equal(3, claim.PerSeed.Count));
        Assert.Equal(0, result.Claims.Single(c => c.Id == "adaptive-bins-ignore-scale").Measured);
        Assert.Contains(result.Tables, t => t.Name == "correlation");
        Assert.All(result.Figures, figure => Assert.True(File.Exists(Path.Combine(run, figure.File))));
        string[] lines = File.ReadAllLines(Path.Combine(run, "outputs", "information.csv"));
        Assert.Equal("arm,seed,epoch,layer,ixt,ity,cap,uniqueRows", lines[0]);
        Assert.Equal(1 + 4 * 3 * 4 * 6, lines.Length); // Arms, seeds, epochs 0 to 3, layers.

        // Its last estimate comes again from the saved network.
        (Tensor x, Tensor y) = BinaryVectors.Generate();
        Npz.Write(folder.File("new.npz"), new Dictionary<string, Tensor> { ["inputs"] = 2 * x - 1, ["labels"] = y });
        string[] applied = Apply(run, folder.File("new.npz"));
        string[] expected = lines.Single(l => l.StartsWith("tanh,0,3,hidden5,", StringComparison.Ordinal)).Split(',')[2..];
        Assert.Equal([expected[0], "tanh/hidden5", .. expected[2..]], applied.Single(l => l.Contains("tanh/hidden5", StringComparison.Ordinal)).Split(','));
    }

    [Fact]
    public void A_run_that_is_interrupted_keeps_its_early_epochs()
    {
        using var scope = NewDisposeScope();
        manual_seed(0);
        var network = new Priori.Nn.Mlp(3, [2], 2);
        var history = new WeightHistory(network, [0, 2]);
        history.Record(0);
        Tensor first = network.parameters().First().detach().clone();
        using (no_grad()) network.parameters().First().add_(1);
        history.Record(1); // Not in the schedule.
        history.Record(2);
        history.Restore(0);
        Assert.True(first.eq(network.parameters().First()).all().item<bool>());
        history.Restore(2);
        Assert.True((first + 1).eq(network.parameters().First()).all().item<bool>());
        Assert.Equal(["weights"], history.state_dict().Keys); // In every checkpoint.
    }

    [Theory]
    [InlineData(InformationEstimator.Ebab)]
    [InlineData(InformationEstimator.Akde)]
    [InlineData(InformationEstimator.Knn)]
    public void A_folder_of_activations_is_measured_without_training(InformationEstimator estimator)
    {
        string data = Directory.CreateDirectory(folder.File("activations")).FullName;
        manual_seed(0);
        Tensor t = randn(60, 2);
        Safetensors.Write(Path.Combine(data, "epoch_1.safetensors"), new Dictionary<string, Tensor> { ["a"] = t, ["b"] = zeros(60, 3) });
        Safetensors.Write(Path.Combine(data, "epoch_20.safetensors"), new Dictionary<string, Tensor> { ["a"] = t.sign(), ["b"] = zeros(60, 3) });
        File.WriteAllLines(Path.Combine(data, "labels.csv"), ["id,class", .. Enumerable.Range(0, 60).Select(i => string.Create(CultureInfo.InvariantCulture, $"{i},{(t[i, 0].item<float>() > 0 ? "yes" : "no")}"))]);
        (RunResult result, string run) = Run(new() { Estimator = estimator, Low = -10 }, data);
        string[] lines = File.ReadAllLines(Path.Combine(run, "outputs", "information.csv"));
        Assert.Equal("epoch,layer,ixt,ity,cap,uniqueRows", lines[0]);
        Assert.Equal(5, lines.Length);
        string[] last = lines[3].Split(',');
        Assert.Equal(["20", "a"], last[..2]);
        Assert.Equal("4", last[5]);
        if (estimator == InformationEstimator.Knn) Assert.Equal("", last[2]);
        else Assert.InRange(double.Parse(last[3], CultureInfo.InvariantCulture), .9, 1); // The sign of the first unit is the label.
        if (estimator != InformationEstimator.Knn) Assert.NotEmpty(result.Figures);
        Assert.Equal(lines, Apply(run, data));
    }

    [Fact]
    public void A_table_is_trained_on_and_its_network_takes_new_rows()
    {
        string Rows(int n) => "size,colour,class\n" + string.Concat(Enumerable.Range(0, n).Select(i => string.Create(CultureInfo.InvariantCulture, $"{i % 17 / 3.0},{(i % 3 == 0 ? "red" : "blue")},{(i % 17 > 8 ? "big" : "small")}\n")));
        string table = folder.File("table.csv", Rows(80));
        (_, string run) = Run(Small with { Activations = [HiddenActivation.Relu], Hidden = [4] }, table, "class");
        string[] lines = Apply(run, folder.File("new.csv", Rows(30)));
        Assert.Contains(lines, l => l.StartsWith("3,ReLU/hidden1,", StringComparison.Ordinal));
        Assert.Equal(1 + 2 * 2, lines.Length); // Two arms, hidden layer and output.
        Assert.Throws<BadInputException>(() => Apply(run, folder.File("other.csv", "size,class\n1,big\n2,small\n")));
        Assert.Throws<BadInputException>(() => Run(Small, table));
        Assert.Throws<BadInputException>(() => Run(Small, table, "weight"));
    }

    [Fact]
    public void The_paper_budget_trains_its_dense_and_convolutional_nets()
    {
        InformationCompressionOptions paper = recipe.Defaults(Budget.Paper);
        Assert.Equal((8000, 256, 4e-4, 50), (paper.Epochs, paper.BatchSize, paper.LearningRate, recipe.Seeds(Budget.Paper).Count));
        string mnist = Directory.CreateDirectory(folder.File(Path.Combine("data", "mnist"))).FullName;
        foreach (string part in (string[])["train", "t10k"])
        {
            WriteIdx(Path.Combine(mnist, $"{part}-images-idx3-ubyte"), [12, 28, 28], i => (byte)(i * 31));
            WriteIdx(Path.Combine(mnist, $"{part}-labels-idx1-ubyte"), [12], i => (byte)(i % 10));
        }
        (RunResult result, _) = Run(paper with { Activations = [HiddenActivation.Swish], Epochs = 1, Snapshots = 2, L2 = 0, ConvolutionalEpochs = 1, ConvolutionalSamples = 12, Compared = 0 }, budget: Budget.Paper);
        ArmResult convolutional = result.Arms.Single(a => a.Arm == "convolutional swish");
        Assert.Equal(["conv1", "conv2", "dense", "output"], convolutional.Curves.Keys.Where(k => k.StartsWith("ixt ", StringComparison.Ordinal)).Select(k => k[4..]));
        Assert.Contains("MNIST", result.Data, StringComparison.Ordinal);
    }

    [Fact]
    public void Bad_data_are_refused_in_one_sentence()
    {
        string data = Directory.CreateDirectory(folder.File("activations")).FullName;
        Assert.Throws<BadInputException>(() => Run(Small, data)); // No epoch.
        Safetensors.Write(Path.Combine(data, "epoch_1.safetensors"), new Dictionary<string, Tensor> { ["a"] = rand(4, 2) });
        Assert.Contains("labels", Assert.Throws<BadInputException>(() => Run(Small, data)).Message, StringComparison.Ordinal);
        Npy.Write(Path.Combine(data, "labels.npy"), zeros(3, int64));
        Assert.Contains("epoch 1", Assert.Throws<BadInputException>(() => Run(Small, data)).Message, StringComparison.Ordinal);
        Npy.Write(Path.Combine(data, "labels.npy"), zeros(4));
        Assert.Throws<BadInputException>(() => Run(Small, data)); // Continuous labels.
        Npz.Write(folder.File("a.npz"), new Dictionary<string, Tensor> { ["inputs"] = rand(4, 2) });
        Assert.Contains("labels", Assert.Throws<BadInputException>(() => Run(Small, folder.File("a.npz"))).Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("activations", "tanh,tanh")]));
        Assert.Throws<BadInputException>(() => OptionSet.With(Small, [new("bins", "1")]));
    }

    private static void WriteIdx(string path, int[] shape, Func<int, byte> value)
    {
        using FileStream file = File.Create(path);
        file.Write([0, 0, 8, (byte)shape.Length]);
        foreach (int size in shape) file.Write([(byte)(size >> 24), (byte)(size >> 16), (byte)(size >> 8), (byte)size]);
        file.Write([.. Enumerable.Range(0, shape.Aggregate(1, (a, b) => a * b)).Select(value)]);
    }
}
