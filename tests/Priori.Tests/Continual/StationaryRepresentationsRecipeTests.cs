using Priori.Data;
using Priori.Nn;
using Priori.Recipes.Continual;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Tests.Continual;

public sealed class StationaryRepresentationsRecipeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-stationary-").FullName;
    private readonly StationaryRepresentationsRecipe _recipe = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_smoke_run_compares_and_leaves_an_encoder()
    {
        StationaryRepresentationsRecipeOptions options = _recipe.Defaults(Budget.Smoke) with { Hidden = [16], Epochs = 1, ImagesPerClass = 20, PreTrainingImages = 100, PreTrainingSteps = [2, 2], TestImages = 100 };
        (RunResult result, string run) = Run(options, null);
        Assert.Contains(result.Arms, a => a.Arm == "hoc, lambda 0.5");
        Assert.All(result.Arms.Where(a => a.Metrics.ContainsKey("AC")), a => Assert.InRange(a["AM"], 0, 1));
        Assert.Equal(2, result.Arms.Count(a => a.Arm.StartsWith("pre-training simplex", StringComparison.Ordinal))); // each party's model once
        foreach (string figure in new[] { "matrix-hoc", "distances", "lambda" }) Assert.True(File.Exists(Path.Combine(run, "figures", $"{figure}.png")));

        string data = Path.Combine(_folder, "new.npy"), output = Path.Combine(_folder, "out.csv");
        Npy.Write(data, GlyphDigits.Generate(5, 9).Images);
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
        string[] lines = File.ReadAllLines(output);
        Assert.Equal(6, lines.Length);
        Assert.Equal(64, lines[1].Split(',').Length); // the row and 63 dimensions
    }

    [Fact]
    public void The_paper_budget_takes_a_step()
    {
        StationaryRepresentationsRecipeOptions paper = _recipe.Defaults(Budget.Paper);
        Assert.Equal((1024, 70, 128), (paper.Classes, paper.Epochs, paper.BatchSize));
        (RunResult result, _) = Run(paper with { Epochs = 1, ImagesPerClass = 20, PreTrainingImages = 60, PreTrainingSteps = [1, 1], TestImages = 40 }, null);
        Assert.Contains(result.Arms, a => a.Arm == "hoc");
    }

    [Fact]
    public void Embeddings_of_two_models_are_judged()
    {
        Seeds.Set(0);
        Tensor labels = arange(60, int64).remainder(3), means = eye(3).index_select(0, labels);
        Tensor old = means + .9 * randn(60, 3), better = means + .2 * randn(60, 3), foreign = better.index_select(1, tensor(new long[] { 1, 2, 0 }));
        string folder = Directory.CreateDirectory(Path.Combine(_folder, "models")).FullName;
        void Write(string name, Tensor features) => Npz.Write(Path.Combine(folder, name), new Dictionary<string, Tensor> { ["features"] = features, ["labels"] = labels });
        Write("1-old.npz", old);
        Write("2-new.npz", better);
        (RunResult result, string run) = Run(_recipe.Defaults(Budget.Smoke), Models(folder));
        Assert.Contains(result.Notes, n => n.Contains("The gallery of 1-old can stay"));
        Assert.Equal(4, File.ReadLines(Path.Combine(run, "outputs", "compatibility-matrix.csv")).Count());
        Assert.Equal(1, result.Arms[0]["AC"]);
        Write("2-new.npz", foreign);
        Assert.Contains(Run(_recipe.Defaults(Budget.Smoke), Models(folder)).Result.Notes, n => n.Contains("must be indexed again"));
    }

    [Fact]
    public void Tables_of_embeddings_are_read_too()
    {
        string[] names = ["a.csv", "b.csv"];
        foreach (string name in names) File.WriteAllText(Path.Combine(_folder, name), "kind,x_0,x_1\ncat,1,0\ndog,0,1\ncat,.9,.1\ndog,.1,.9\n");
        string list = string.Join(",", names.Select(n => Path.Combine(_folder, n)));
        LabeledEmbeddings read = LabeledEmbeddings.Read(Path.Combine(_folder, "a.csv"), "kind");
        Assert.Equal([0L, 1, 0, 1], read.Labels.data<long>().ToArray());
        Assert.Equal([4L, 2], read.Features.shape);
        Assert.Contains("no column 'label'", Assert.Throws<BadInputException>(() => LabeledEmbeddings.Read(Path.Combine(_folder, "a.csv"), null)).Message);
        Assert.Contains(list.Split(',')[0], Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Smoke), Models(list.Split(',')[0]))).Message);
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        string Message(params (Tensor Features, Tensor Labels)[] models)
        {
            string folder = Directory.CreateDirectory(Path.Combine(_folder, Guid.NewGuid().ToString("N"))).FullName;
            for (int i = 0; i < models.Length; i++) Npz.Write(Path.Combine(folder, $"{i}.npz"), new Dictionary<string, Tensor> { ["features"] = models[i].Features, ["labels"] = models[i].Labels });
            return Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Smoke), Models(folder))).Message;
        }
        Tensor labels = arange(6, int64).remainder(2);
        Assert.Contains("at least two", Message((ones(6, 2), labels)));
        Assert.Contains("4 rows", Message((ones(6, 2), labels), (ones(4, 2), labels.narrow(0, 0, 4))));
        Assert.Contains("different labels in row 1", Message((ones(6, 2), labels), (ones(6, 2), 1 - labels)));
        Assert.Contains("index again, or translate", Message((ones(6, 2), labels), (ones(6, 3), labels)));
        Assert.Contains("row 1 is zero", Message((zeros(6, 2), labels), (ones(6, 2), labels)));
        Assert.Contains("replace-at", Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Smoke) with { ReplaceAt = [7] }, null)).Message);
        Assert.Contains("'classes' is 40", Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Smoke) with { Classes = 40, PreTrainingImages = 60, PreTrainingSteps = [1, 1], ImagesPerClass = 10, TestImages = 40 }, null)).Message);
        Assert.Throws<BadInputException>(() => (_recipe.Defaults(Budget.Smoke) with { ReplaceAt = [2, 1] }).Validate());
    }

    private static UserData Models(string path) => new("", new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["models"] = path } };

    private (RunResult Result, string Folder) Run(StationaryRepresentationsRecipeOptions options, UserData? data)
    {
        options.Validate();
        return RecipeRunner.Run(_recipe, new RunRequest { Budget = Budget.Smoke, Options = options, Seeds = [0], Root = Path.Combine(_folder, "runs"), DataFolder = Path.Combine(_folder, "none"), Data = data }, new SilentObserver());
    }
}
