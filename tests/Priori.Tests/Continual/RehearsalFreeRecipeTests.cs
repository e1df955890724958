using System.Text.Json;
using Priori.Data;
using Priori.Nn;
using Priori.Recipes.Continual;
using Priori.Reproduction;
using Priori.Runtime;
using SkiaSharp;

namespace Priori.Tests.Continual;

public sealed class RehearsalFreeRecipeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-rehearsal-free-").FullName;
    private readonly RehearsalFreeRecipe _recipe = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_smoke_run_measures_all_methods_and_leaves_models()
    {
        RehearsalFreeOptions options = _recipe.Defaults(Budget.Smoke) with { TrainImages = 600, TestImages = 100, Hidden = [16], PretrainSteps = 5, Steps = 3, ImagesPerClass = 20, TestPerClass = 5, VitPretrainSteps = 2, VitSteps = 2, FisherSamples = 20 };
        (RunResult result, string run) = Run(options, null);
        Assert.Contains("glyph digits", result.Data);
        string[] arms = [.. result.Arms.Select(a => a.Arm)];
        Assert.All(options.DigitMethods, m => Assert.Contains($"digits: {m}", arms));
        Assert.All(options.ImageMethods, m => Assert.Contains($"images: {m}", arms));
        Assert.Equal(_recipe.Claims.Count, result.Claims.Count(c => c.Verdict == Verdict.NotJudged));
        foreach (string figure in new[] { "digits-matrix-ft", "digits-matrix-predkd-l2", "digits-curves", "digits-drift", "digits-sweep-predkd-l2", "images-matrix-l2-qkv", "images-curves", "images-drift" })
            Assert.Contains(result.Figures, f => Path.GetFileName(f.File).StartsWith(figure, StringComparison.Ordinal));
        Assert.Contains(result.Tables, t => t.Name == "digits-weights");
        ArmResult ft = result.Arms.Single(a => a.Arm == "digits: ft");
        Assert.Equal(4, ft.Tensor("global").numel());

        string data = Path.Combine(_folder, "new.npz"), output = Path.Combine(_folder, "predictions.csv");
        Npz.Write(data, new Dictionary<string, Tensor> { ["images"] = GlyphDigits.Generate(6, 9).Images });
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
        string[] lines = File.ReadAllLines(output);
        Assert.Equal("row,class,probability", lines[0]);
        Assert.Equal(7, lines.Length);
        string[] seen = [.. SavedRun.Open(run).Description<RehearsalFreeModel>("final").Classes];
        Assert.Equal(4, seen.Length); // two tasks of two digits
        Assert.All(lines.Skip(1), l => Assert.Contains(l.Split(',')[1], seen));
    }

    [Fact]
    public void A_folder_of_tasks_gives_checkpoints_a_matrix_and_a_summary()
    {
        string tasks = Tasks(("01-animals", ["cat", "dog"]), ("02-tools", ["axe", "saw"]), ("03-cars", ["bus"]));
        (RunResult result, string run) = Run(Own() with { Methods = ["predkd+l2", "ft"] }, Data(tasks));
        Assert.Contains("3 tasks, 5 classes", result.Data);
        string[] matrix = File.ReadAllLines(Path.Combine(run, "outputs", "accuracy-matrix.csv"));
        Assert.Equal("after,01-animals,02-tools,03-cars", matrix[0]);
        Assert.Equal(4, matrix.Length);
        Assert.EndsWith(",,", matrix[1]);
        using JsonDocument summary = JsonDocument.Parse(File.ReadAllText(Path.Combine(run, "outputs", "summary.json")));
        JsonElement method = summary.RootElement.GetProperty("methods").GetProperty("predkd+l2")[0];
        foreach (string name in new[] { "finalAverage", "averageIncremental", "forgettingGlobal", "forgettingLocal", "backwardTransfer" }) Assert.Equal(JsonValueKind.Number, method.GetProperty(name).ValueKind);
        Assert.Contains(result.Figures, f => f.Name == "matrix-predkd+l2");
        SavedRun saved = SavedRun.Open(run);
        Assert.Equal(["final", "task-1", "task-2", "task-3"], saved.Models.Order());
        Assert.Equal(["axe", "bus", "cat", "dog", "saw"], saved.Description<RehearsalFreeModel>("final").Classes.Order());
        Assert.Equal(["01-animals", "02-tools"], saved.Description<RehearsalFreeModel>("task-2").Tasks);

        string output = Path.Combine(_folder, "p.csv");
        _recipe.Apply(saved, new ApplyContext(Data(Path.Combine(tasks, "03-cars")), output, CPU, _ => { }));
        Assert.Equal(7, File.ReadAllLines(output).Length);
        // The checkpoint of a task is a network that others can start from.
        string checkpoint = Path.Combine(run, "model", "final.safetensors");
        (RunResult again, _) = Run(Own() with { Methods = ["l2"] }, Data(Tasks(("a", ["x", "y"]), ("b", ["z"]))) with { Parts = new Dictionary<string, string> { ["model"] = checkpoint } });
        Assert.Contains("2 tasks", again.Data);
    }

    [Fact]
    public void A_transformer_of_ones_own_is_tuned_in_its_attention_and_one_file_is_split()
    {
        Seeds.Set(1);
        string model = Path.Combine(_folder, "vit.safetensors"), data = Path.Combine(_folder, "data.npz");
        Architecture architecture = Architectures.VisionTransformer(1, 8, 4, 8, 1, 2, 12, 7);
        using (var network = new Network(architecture)) Safetensors.Write(model, network.State());
        File.WriteAllText(Path.Combine(_folder, "vit.arch.json"), architecture.ToJson());
        Npz.Write(data, new Dictionary<string, Tensor> { ["inputs"] = rand(60, 1, 8, 8), ["labels"] = arange(60, int64).remainder(6) * 10 });
        (RunResult result, string run) = Run(Own() with { Tasks = 3 }, Data(data) with { Parts = new Dictionary<string, string> { ["model"] = model } });
        Assert.Equal(["l2-qkv", "ft"], result.Arms.Select(a => a.Arm));
        Assert.Contains("3 tasks, 6 classes, 48 training and 12 test", result.Data);
        SavedRun saved = SavedRun.Open(run);
        Dictionary<string, Tensor> before = Safetensors.Read(model), after = saved.Model("final");
        Assert.Equal(before["blocks.0.mlp.linear1.weight"].bytes.ToArray(), after["blocks.0.mlp.linear1.weight"].bytes.ToArray());
        Assert.NotEqual(before["blocks.0.attention.value.weight"].bytes.ToArray(), after["blocks.0.attention.value.weight"].bytes.ToArray());
        Assert.Equal([6L, 8], after["head.weight"].shape);
        Assert.Equal(["0", "10", "20", "30", "40", "50"], saved.Description<RehearsalFreeModel>("final").Classes.Order());
    }

    [Fact]
    public void Bad_input_is_named()
    {
        string empty = Tasks(("a", ["x"]), ("b", ["y"]));
        Directory.CreateDirectory(Path.Combine(empty, "c"));
        Refused("no samples", Own(), empty);
        string twice = Tasks(("a", ["x", "y"]), ("b", ["y", "z"]));
        Refused("class 'y' of task 'b' was in task 'a'", Own(), twice);
        Run(Own() with { Reappearing = "allow", Methods = ["predkd+l2"] }, Data(twice));
        Refused("No parameter is chosen by names that match 'conv9'", Own() with { Params = "conv9", Methods = ["l2"] }, Tasks(("a", ["x"])));
        Refused("No parameter is chosen by the attention projections", Own() with { Methods = ["l2-qkv"] }, Tasks(("a", ["x"])));
        Refused("needs a pre-trained transformer", Own() with { Methods = ["prompts"] }, Tasks(("a", ["x"])));
        string unlabelled = Path.Combine(_folder, "u.npz");
        Npz.Write(unlabelled, new Dictionary<string, Tensor> { ["inputs"] = rand(4, 3) });
        Refused("no array 'labels'", Own(), unlabelled);
        Assert.Contains("'nonsense' is none of", Assert.Throws<BadInputException>(() => (Own() with { Methods = ["l2+nonsense"] }).Validate()).Message);
        Assert.Contains("stand alone", Assert.Throws<BadInputException>(() => (Own() with { Methods = ["ft+l2"] }).Validate()).Message);
        Assert.Contains("regular expression", Assert.Throws<BadInputException>(() => (Own() with { Params = "(" }).Validate()).Message);
        foreach (string lambda in new[] { "lambda-l2", "lambda-kd", "lambda-ewc", "lambda-feat" })
            Assert.Contains("at least 0", Assert.Throws<BadInputException>(() => OptionSet.With(Own(), [new(lambda, "-1")])).Message);
        Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Paper), null, Budget.Paper));
    }

    [Fact]
    public void Feature_rows_are_learned_with_a_perceptron()
    {
        string data = Path.Combine(_folder, "rows.npz");
        Npz.Write(data, new Dictionary<string, Tensor> { ["x"] = randn(40, 5), ["y"] = arange(40, int64).remainder(4) });
        (RunResult result, _) = Run(Own() with { Tasks = 2, Methods = ["predkd+ewc", "featkd", "probe", "joint"], Params = "all", FreezeBatchNorm = true, EwcMemory = Priori.Continual.EwcMemory.Separate, Fisher = Priori.Training.FisherKind.True }, Data(data));
        Assert.All(result.Arms, a => Assert.InRange(a["accuracy"], 0, 1));
    }

    [Fact]
    public void The_papers_network_takes_a_step()
    {
        RehearsalFreeOptions options = _recipe.Defaults(Budget.Paper) with { Steps = 1, BatchSize = 2 };
        (RunResult result, _) = Run(options, Data(Tasks(("a", ["x"]))), Budget.Paper);
        Assert.Equal(["l2-qkv"], result.Arms.Select(a => a.Arm));
    }

    private RehearsalFreeOptions Own() => _recipe.Defaults(Budget.Smoke) with { Size = 8, Steps = 2, BatchSize = 4, Hidden = [8], FisherSamples = 8 };

    private static UserData Data(string path) => new(path, new Dictionary<string, string>());

    private void Refused(string message, RehearsalFreeOptions options, string path) => Assert.Contains(message, Assert.Throws<BadInputException>(() => Run(options, Data(path))).Message);

    private string Tasks(params (string Task, string[] Classes)[] tasks)
    {
        string root = Directory.CreateDirectory(Path.Combine(_folder, Guid.NewGuid().ToString("N"))).FullName;
        foreach ((string task, string[] classes) in tasks)
            foreach (string name in classes)
                for (int i = 0; i < 6; i++)
                {
                    string folder = Directory.CreateDirectory(Path.Combine(root, task, name)).FullName;
                    using var bitmap = new SKBitmap(10, 10);
                    bitmap.Erase(new SKColor((byte)(name[0] * 2), (byte)(40 * i), (byte)(name[1 % name.Length] * 2)));
                    using FileStream file = File.Create(Path.Combine(folder, $"{i}.png"));
                    bitmap.Encode(file, SKEncodedImageFormat.Png, 100);
                }
        return root;
    }

    private (RunResult Result, string Folder) Run(RehearsalFreeOptions options, UserData? data, Budget budget = Budget.Smoke)
    {
        options.Validate();
        return RecipeRunner.Run(_recipe, new RunRequest { Budget = budget, Options = options, Seeds = [0], Root = Path.Combine(_folder, "runs"), DataFolder = Path.Combine(_folder, "none"), Data = data }, new SilentObserver());
    }
}
