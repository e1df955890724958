using Priori.Data;
using Priori.Nn;
using Priori.Recipes.Similarity;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Tests.Similarity;

public sealed class RelativeRepresentationsRecipeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-relreps-").FullName;
    private readonly RelativeRepresentationsRecipe _recipe = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_smoke_run_stitches_and_leaves_models()
    {
        RelativeRepresentationsRecipeOptions options = _recipe.Defaults(Budget.Smoke) with { TrainImages = 200, TestImages = 40, Anchors = 30, AnchorCounts = [10, 30], Hidden = 16, Latent = 8, WordTexts = 120, ProxyImages = 100 };
        (RunResult result, string run) = Run(options, null);
        Assert.Contains("glyph", result.Data);
        Assert.Equal(_recipe.Claims.Select(c => c.Id).Order(), result.Claims.Where(c => double.IsFinite(c.Measured)).Select(c => c.Id).Order());
        ArmResult itself = result.Arms.First(a => a.Arm == "classifier relative");
        (double[] seeds, double[] row) = itself.Series("row");
        Assert.Equal([0, 1], seeds);
        Assert.Equal(itself["accuracy"], row[0]); // a network stitched with itself is the network, as it was trained
        Assert.Equal(result.Arms.First(a => a.Arm == "classifier relative: training")["accuracy"], row[0], 1e-9);
        Assert.Equal(itself["stitched"], row[1]);
        Assert.InRange(result.Arms.First(a => a.Arm == "performance proxy")["pearson"], -1, 1);
        foreach (string figure in new[] { "stitching-classifier-relative", "stitching-autoencoder-absolute", "latent-relative-1", "reconstructions", "anchors-mse", "proxy" })
            Assert.True(File.Exists(Path.Combine(run, "figures", $"{figure}.png")), figure);
        Assert.Equal(3, File.ReadAllLines(Path.Combine(run, "outputs", "stitching-classifier-relative.csv")).Length);
        Assert.False(Directory.Exists(Path.Combine(run, "networks")));

        // The absolute classifier is a Network that other recipes can read.
        SavedRun saved = SavedRun.Open(run);
        using (Network network = new Network(Architecture.FromJson(saved.Description<AbsoluteNetwork>("classifier absolute-0").Architecture)).Load(saved.Model("classifier absolute-0")))
            Assert.Equal([3, 10], network.call(randn(3, 1, 28, 28)).shape);

        string data = Path.Combine(_folder, "new.npy"), output = Path.Combine(_folder, "classes.csv");
        Npy.Write(data, GlyphDigits.Generate(5, 9).Images);
        _recipe.Apply(saved, Apply(new UserData(data, new Dictionary<string, string>()), output));
        string[] lines = File.ReadAllLines(output);
        Assert.Equal("row,class,probability,stitched_class,stitched_probability", lines[0]);
        Assert.Equal(6, lines.Length);
        Assert.Contains("two seeds", Assert.Throws<BadInputException>(() => Run(options, null, seeds: [3])).Message);
    }

    [Fact]
    public void An_old_index_is_kept_where_the_new_model_is_the_old_one_turned()
    {
        Tensor rows = Gaussian(1, 260, 8), turned = 2 * rows.matmul(linalg.qr(Gaussian(2, 8, 8)).Q) + .01 * Gaussian(3, 260, 8);
        UserData data = Files("old.npz", rows, Order(260), "new.csv", turned.flip(0), [.. Order(260).Reverse()]); // paired by id, not by order
        (RunResult result, string run) = Run(_recipe.Defaults(Budget.Smoke) with { Anchors = 60 }, data);
        Assert.Contains("260 parallel rows by id", result.Data);
        double Mean(string arm, string metric) => result.Arms.Where(a => a.Arm == arm).Average(a => a[metric]);
        Assert.True(Mean("relative", "mrr") > .98);
        Assert.True(Mean("procrustes", "mrr") > .98);
        Assert.True(Mean("anchor translation", "mrr") > .98);
        Assert.True(Mean("absolute", "mrr") < .2);
        Assert.Equal(1, Mean("re-embedded", "kept"), 1e-12);
        Assert.Equal(200, Mean("relative", "held out"));
        Assert.StartsWith("Keep the old index, searched in relative space", result.Notes.Single(n => n.StartsWith("Keep", StringComparison.Ordinal)));
        Assert.Contains("100.0 %", result.Notes.Single(n => n.StartsWith("Keep", StringComparison.Ordinal)).Replace("%", " %").Replace("  %", " %"));
        AnchorSet anchors = AnchorSet.FromJson(File.ReadAllText(Path.Combine(run, "outputs", "anchors.json")));
        Assert.Equal(60, anchors.Count);

        // New rows of the new model land on those of the old one.
        Tensor fresh = Gaussian(4, 3, 8), expected = fresh;
        string path = Path.Combine(_folder, "rows.npz"), output = Path.Combine(_folder, "out.npz");
        Npz.Write(path, new Dictionary<string, Tensor> { ["x"] = 2 * fresh.matmul(linalg.qr(Gaussian(2, 8, 8)).Q), ["ids"] = tensor(new long[] { 7, 9, 11 }) });
        _recipe.Apply(SavedRun.Open(run), Apply(new UserData(path, new Dictionary<string, string>()), output));
        Dictionary<string, Tensor> written = Npz.Read(output);
        Assert.Equal([3, 60], written["relative"].shape);
        Assert.True(LatentSpaceComparison.Cosine(expected, written["translated"]) > .999);
        Assert.Equal([7L, 9, 11], written["ids"].data<long>().ToArray());

        string csv = Path.Combine(_folder, "out.csv");
        Npz.Write(path, new Dictionary<string, Tensor> { ["x"] = fresh });
        _recipe.Apply(SavedRun.Open(run), Apply(new UserData("", new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["a"] = path } }, csv));
        Assert.Equal(61, File.ReadLines(csv).First().Split(',').Length); // id and 60 similarities: rows of the old model need no translation
        Tensor relativeOld = FeatureFile.Read(csv).Features["relative"];
        Assert.True(LatentSpaceComparison.Cosine(relativeOld, written["relative"]) > .99);

        Npz.Write(path, new Dictionary<string, Tensor> { ["x"] = randn(2, 5) });
        Assert.Contains("have 8", Assert.Throws<BadInputException>(() => _recipe.Apply(SavedRun.Open(run), Apply(new UserData(path, new Dictionary<string, string>()), output))).Message);
    }

    [Fact]
    public void An_index_is_re_embedded_where_the_models_have_nothing_in_common()
    {
        UserData data = Files("old.npz", Gaussian(5, 200, 6), null, "new.npz", Gaussian(6, 200, 9), null);
        (RunResult result, string run) = Run(_recipe.Defaults(Budget.Smoke) with { Anchors = 50, Strategy = AnchorStrategy.KMeans }, data);
        Assert.Contains("by order", result.Data);
        Assert.DoesNotContain(result.Arms, a => a.Arm == "absolute"); // other widths
        Assert.Contains(result.Notes, n => n.StartsWith("Re-embed the index", StringComparison.Ordinal));
        Assert.True(File.Exists(Path.Combine(run, "figures", "space-relative.png")));
    }

    [Fact]
    public void Anchors_may_be_named_and_a_repeated_one_is_used_once_with_a_warning()
    {
        Tensor rows = Gaussian(7, 40, 4);
        UserData data = Files("old.npz", rows, Order(40), "new.npz", rows * 2, Order(40));
        string anchors = Path.Combine(_folder, "anchors.csv");
        File.WriteAllLines(anchors, ["id", .. Enumerable.Range(100, 12).Select(i => $"{i}"), "105"]);
        UserData named = data with { Parts = data.Parts.Append(new("anchors", anchors)).ToDictionary() };
        (RunResult result, _) = Run(_recipe.Defaults(Budget.Smoke), named);
        Assert.Contains(result.Notes, n => n.StartsWith("Warning: 1 anchors are named more than once (105)", StringComparison.Ordinal));
        Assert.Contains("12 anchors from a file", result.Data);
        Assert.Equal(28, result.Arms.First(a => a.Arm == "relative")["held out"]);
        Assert.Equal(1, result.Arms.First(a => a.Arm == "relative")["mrr"], 1e-9);

        File.WriteAllLines(anchors, ["id", "100", "unknown"]);
        Assert.Contains("anchor 'unknown' (row 2)", Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Smoke), named)).Message);
    }

    [Fact]
    public void Bad_embeddings_are_refused_in_a_sentence()
    {
        RelativeRepresentationsRecipeOptions options = _recipe.Defaults(Budget.Smoke) with { Anchors = 10 };
        Tensor rows = Gaussian(8, 30, 4), zero = rows.clone(), missing = rows.clone();
        zero[7] = zeros(4);
        missing[3, 1] = float.NaN;
        string Message(Tensor a, long[]? idsA, Tensor b, long[]? idsB, RelativeRepresentationsRecipeOptions? changed = null)
            => Assert.Throws<BadInputException>(() => Run(changed ?? options, Files("old.npz", a, idsA, "new.npz", b, idsB))).Message;
        Assert.Contains("embedding 7 (id 107) has length zero", Message(zero, Order(30), rows, Order(30)));
        Assert.Contains("embedding 3 holds a missing", Message(rows, null, missing, null));
        Assert.Contains("30 rows and", Message(rows, null, rows.narrow(0, 0, 20), null));
        Assert.Contains("0 ids in common", Message(rows, Order(30), rows, [.. Order(30).Select(i => i + 1000)]));
        Assert.Contains("at most 29", Message(rows, null, rows, null, options with { Anchors = 30 }));
        Assert.Contains("stratified", Message(rows, null, rows, null, options with { Strategy = AnchorStrategy.Stratified }));
        Assert.Contains("no matrix 'y'", Message(rows, null, rows, null, options with { Matrix = "y" }));
        string two = Path.Combine(_folder, "two.npz");
        Npz.Write(two, new Dictionary<string, Tensor> { ["x"] = rows, ["y"] = rows });
        Assert.Contains("--set matrix", Assert.Throws<BadInputException>(() => Run(options, new UserData("", new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["a"] = two, ["b"] = two } })).Message);
        Assert.Contains("--data.b", Assert.Throws<BadInputException>(() => Run(options, new UserData("", new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["a"] = two } })).Message);
        Assert.Throws<BadInputException>(() => (options with { Anchors = 2000 }).Validate());
        Assert.Throws<BadInputException>(() => (options with { AnchorCounts = [] }).Validate());
        Assert.Throws<BadInputException>(() => (options with { Strategies = [AnchorStrategy.Provided] }).Validate());
        (RunResult result, string run) = Run(options, Files("old.npz", rows, null, "new.npz", rows, null));
        Assert.NotEmpty(result.Tables);
        Assert.Contains(".parquet", Assert.Throws<BadInputException>(() => _recipe.Apply(SavedRun.Open(run), Apply(new UserData(Path.Combine(_folder, "new.npz"), new Dictionary<string, string>()), Path.Combine(_folder, "x.parquet")))).Message);
    }

    [Fact]
    public void The_users_own_networks_are_stitched()
    {
        Seeds.Set(9);
        // Two networks of three classes: the second is the first behind a rotation of its features.
        Architecture linear = new([4], [new Layer("embedding", LayerKind.Linear) { Width = 5 }, new Layer("logits", LayerKind.Linear) { Width = 3 }]);
        using var a = new Network(linear);
        using var b = new Network(linear);
        using (no_grad())
        {
            Tensor turn = linalg.qr(randn(5, 5)).Q;
            Dictionary<string, Tensor> state = a.State();
            foreach (string name in new[] { "embedding.weight", "embedding.bias" }) state[name] = turn.matmul(state[name]);
            state["logits.weight"] = 5 * state["logits.weight"].matmul(turn.t());
            state["logits.bias"] = 5 * state["logits.bias"];
            b.Load(state);
        }
        foreach ((string name, Network network) in new[] { ("a", a), ("b", b) })
        {
            Safetensors.Write(Path.Combine(_folder, $"{name}.safetensors"), network.State());
            File.WriteAllText(Path.Combine(_folder, $"{name}.arch.json"), linear.ToJson());
        }
        Tensor inputs = randn(400, 4), labels = a.call(inputs).argmax(1).detach();
        string file = Path.Combine(_folder, "inputs.npz");
        Npz.Write(file, new Dictionary<string, Tensor> { ["inputs"] = inputs, ["labels"] = labels });
        var data = new UserData(file, new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["encoder"] = Path.Combine(_folder, "a.safetensors"), ["decoder"] = Path.Combine(_folder, "b.safetensors") } };
        RelativeRepresentationsRecipeOptions options = _recipe.Defaults(Budget.Smoke) with { Anchors = 40, LearningRate = .02 };
        (RunResult result, string run) = Run(options, data);
        double Accuracy(string arm) => result.Arms.Where(x => x.Arm == arm).Average(x => x["accuracy"]);
        Assert.Equal(1, Accuracy("encoder's own classifier"));
        Assert.Equal(1, Accuracy("decoder's own classifier"));
        Assert.Equal(Accuracy("relative head on its own encoder"), Accuracy("relative, stitched"), 1e-2); // the spaces are one up to a rotation
        Assert.True(Accuracy("relative, stitched") > .8);
        Assert.True(Accuracy("absolute, stitched") < Accuracy("relative, stitched"));
        Assert.True(Accuracy("procrustes, stitched") > .99);

        string output = Path.Combine(_folder, "classes.csv");
        _recipe.Apply(SavedRun.Open(run), Apply(new UserData(file, new Dictionary<string, string>()), output));
        long[] predicted = [.. File.ReadLines(output).Skip(1).Select(l => long.Parse(l.Split(',')[1], System.Globalization.CultureInfo.InvariantCulture))];
        Assert.True(predicted.Zip(labels.data<long>().ToArray(), (p, y) => p == y).Count(hit => hit) > 320);

        Assert.Contains("--data FILE", Assert.Throws<BadInputException>(() => Run(options, data with { Path = "" })).Message);
        Assert.Contains("--data.decoder", Assert.Throws<BadInputException>(() => Run(options, data with { Parts = new Dictionary<string, string> { ["encoder"] = Path.Combine(_folder, "a.safetensors") } })).Message);
        Assert.Contains("below 200", Assert.Throws<BadInputException>(() => Run(options with { Anchors = 300 }, data)).Message);
    }

    [Fact]
    public void The_papers_setting_builds_and_takes_a_step()
    {
        RelativeRepresentationsRecipeOptions paper = _recipe.Defaults(Budget.Paper);
        Assert.Equal((500, AnchorStrategy.Stratified, 500L, 1e-3), (paper.Anchors, paper.Strategy, paper.Latent, paper.LearningRate));
        (RunResult result, _) = Run(paper with { TrainImages = 64, TestImages = 10, Anchors = 20, AnchorCounts = [20], Strategies = [], Variants = [], AutoencoderEpochs = 1, ClassifierEpochs = 1, ProxyRates = [1e-3], WordTexts = 60, WordWidth = 8, WordMinimumCount = 2 }, null, [0, 1], Budget.Paper);
        Assert.True(double.IsFinite(result.Arms.First(a => a.Arm == "autoencoder relative")["stitched"]));
    }

    private static Tensor Gaussian(int seed, params long[] shape) => randn(shape, generator: new Generator((ulong)seed));

    private static long[] Order(int count) => [.. Enumerable.Range(100, count).Select(i => (long)i)];

    private static ApplyContext Apply(UserData data, string output) => new(data, output, CPU, _ => { });

    private UserData Files(string oldName, Tensor old, long[]? oldIds, string newName, Tensor fresh, long[]? newIds)
    {
        string Write(string name, Tensor rows, long[]? ids)
        {
            string path = Path.Combine(_folder, name);
            if (name.EndsWith(".csv", StringComparison.Ordinal))
            {
                float[] values = rows.contiguous().data<float>().ToArray();
                int width = (int)rows.shape[1];
                Csv.Write(path, ["id", .. Enumerable.Range(0, width).Select(i => $"e{i}")], ids!.Select((id, r) => (IReadOnlyList<string>)[$"{id}", .. values[(r * width)..((r + 1) * width)].Select(v => v.ToString("R", System.Globalization.CultureInfo.InvariantCulture))]));
            }
            else
            {
                var arrays = new Dictionary<string, Tensor> { ["x"] = rows };
                if (ids is not null) arrays["ids"] = tensor(ids);
                Npz.Write(path, arrays);
            }
            return path;
        }
        return new UserData("", new Dictionary<string, string>()) { Parts = new Dictionary<string, string> { ["a"] = Write(oldName, old, oldIds), ["b"] = Write(newName, fresh, newIds) } };
    }

    private (RunResult Result, string Folder) Run(RelativeRepresentationsRecipeOptions options, UserData? data, int[]? seeds = null, Budget budget = Budget.Smoke)
    {
        options.Validate();
        return RecipeRunner.Run(_recipe, new RunRequest
        {
            Budget = budget, Options = options, Seeds = seeds ?? [0, 1], Root = Path.Combine(_folder, "runs"), DataFolder = Path.Combine(_folder, "none"), Data = data,
        }, new SilentObserver());
    }
}
