using System.Globalization;
using System.IO.Compression;
using Priori.Data;
using Priori.Recipes.NoisyLabels;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using SkiaSharp;

namespace Priori.Tests.NoisyLabels;

public sealed class EarlyLearningRegularizationRecipeTests : IDisposable
{
    private readonly EarlyLearningRegularizationRecipe _recipe = new();
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-").FullName;
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose()
    {
        _scope.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private string In(string name) => Path.Combine(_folder, name);

    private (RunResult Result, string Folder) Run(Budget budget, string? data = null, string? target = null, params (string Name, string Value)[] settings)
        => RecipeRunner.Run(_recipe, new RunRequest
        {
            Budget = budget,
            Options = OptionSet.With(_recipe.Defaults(budget), settings.Select(s => KeyValuePair.Create(s.Name, s.Value))),
            Seeds = [0],
            Data = data is null ? null : new UserData(data, target is null ? new Dictionary<string, string>() : new Dictionary<string, string> { ["target"] = target }),
            DataFolder = In("data"),
            Root = In("runs"),
        }, new SilentObserver());

    private string[] Apply(string run, string data, string? target = null)
    {
        string file = In("out.csv");
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, target is null ? new Dictionary<string, string>() : new Dictionary<string, string> { ["target"] = target }), file, CPU, _ => { }));
        return File.ReadAllLines(file);
    }

    /// <summary>Two numeric columns and a category that tell three classes apart, 30% of the labels wrong.</summary>
    private string Table(string name, int rows, double noise, bool labels = true)
    {
        var random = new SplitMix64(4);
        using var writer = new StreamWriter(In(name));
        writer.WriteLine(labels ? "height,colour,width,label,truth" : "height,colour,width");
        for (int i = 0; i < rows; i++)
        {
            int truth = random.Next(3), given = random.NextDouble() < noise ? (truth + 1 + random.Next(2)) % 3 : truth;
            string[] colours = ["red", "green", "blue"];
            writer.Write(string.Create(CultureInfo.InvariantCulture, $"{truth + 0.2 * random.NextGaussian():0.###},{colours[truth]},{-truth + 0.3 * random.NextGaussian():0.###}"));
            writer.WriteLine(labels ? $",{"abc"[given]},{"abc"[truth]}" : "");
        }
        return In(name);
    }

    [Fact]
    public void Smoke_runs_every_arm_on_glyph_digits_and_its_model_can_be_applied()
    {
        (RunResult result, string folder) = Run(Budget.Smoke, settings: [("epochs", "4"), ("plus-epochs", "2")]);
        Assert.Equal(
            ["CE", "ELR lambda 3", "ELR lambda 7", "ELR without temporal ensembling", "ELR+", "ELR+ without temporal ensembling", "ELR+ without weight averaging", "ELR+ without mixup", "linear model"],
            result.Arms.Select(a => a.Arm));
        Assert.Contains("glyph digits", result.Data, StringComparison.Ordinal);
        Assert.All(result.Claims, claim => Assert.Equal(Verdict.NotJudged, claim.Verdict));
        Assert.Equal(_recipe.Claims.Count, result.Claims.Count);
        Assert.Equal(["linear-model", "memorisation-ce", "memorisation-elr", "simplex-path", "test-accuracy"], result.Figures.Select(f => f.Name).Order());
        Assert.All(result.Figures, f => Assert.True(new FileInfo(Path.Combine(folder, f.File)).Length > 1000));
        string[] errors = File.ReadAllLines(Path.Combine(folder, "outputs", "label_errors.csv"));
        Assert.Equal("row,given,suggested,score", errors[0]);
        Assert.All(errors.Skip(1).Select(line => line.Split(',')), cells => Assert.NotEqual(cells[1], cells[2]));

        ImageDataset digits = GlyphDigits.Generate(12, seed: 9);
        Npz.Write(In("new.npz"), new Dictionary<string, Tensor> { ["images"] = digits.Images / 255.0, ["labels"] = digits.Labels });
        string[] lines = Apply(folder, In("new.npz"));
        Assert.Equal("row,class,probability,given,suspect,score", lines[0]);
        Assert.Equal(13, lines.Length);
    }

    [Fact]
    public void A_table_with_wrong_labels_is_learnt_rightly_and_its_errors_are_found()
    {
        string data = Table("train.csv", 600, noise: .3);
        (RunResult result, string folder) = Run(Budget.Full, data, "label", ("truth", "truth"), ("test", Table("test.csv", 200, noise: 0)), ("epochs", "15"), ("plus-epochs", "8"), ("hidden", "32"));
        ArmResult elr = result.Arms.Single(a => a.Arm == "ELR lambda 3");
        Assert.True(elr["test"] > .95, $"test {elr["test"]}");
        Assert.True(elr["detection recall"] > .9, $"recall {elr["detection recall"]}");
        Assert.Equal(["CE", "ELR lambda 3", "ELR lambda 7", "ELR+"], result.Arms.Select(a => a.Arm));
        Assert.Contains("labels as given", result.Data, StringComparison.Ordinal);
        Assert.All(result.Claims, claim => Assert.Contains(claim.Verdict, (Verdict[])[Verdict.NotJudged, Verdict.NotMeasured]));

        // Rows of the report are rows of the file: the suggested class of the most suspect rows is the true one.
        string[] rows = [.. File.ReadAllLines(data).Skip(1)];
        string[][] suspects = [.. File.ReadAllLines(Path.Combine(folder, "outputs", "label_errors.csv")).Skip(1).Select(l => l.Split(','))];
        Assert.All(suspects, cells => Assert.Equal(cells[1], rows[int.Parse(cells[0], CultureInfo.InvariantCulture)].Split(',')[3]));
        Assert.All(suspects.Take(100), cells => Assert.Equal(cells[2], rows[int.Parse(cells[0], CultureInfo.InvariantCulture)].Split(',')[4]));

        string[] lines = Apply(folder, Table("new.csv", 50, noise: 0, labels: false));
        Assert.Equal("row,class,probability", lines[0]);
        Assert.Equal(51, lines.Length);

        string labelled = Table("labelled.csv", 50, noise: .3);
        string[][] cells = [.. Apply(folder, labelled).Skip(1).Select(l => l.Split(','))];
        string[][] known = [.. File.ReadAllLines(labelled).Skip(1).Select(l => l.Split(','))];
        Assert.All(cells.Zip(known), pair => Assert.Equal((pair.Second[4], pair.Second[3], pair.Second[3] == pair.Second[4] ? "no" : "yes"), (pair.First[1], pair.First[3], pair.First[4])));
    }

    [Fact]
    public void Folders_of_idx_files_and_embeddings_are_read_and_noise_can_be_added()
    {
        ImageDataset train = GlyphDigits.Generate(200, 1), test = GlyphDigits.Generate(50, 2);
        WriteIdx("train", train);
        WriteIdx("t10k", test);
        (RunResult result, string folder) = Run(Budget.Smoke, In("idx"), null, ("noise", "0.4"), ("epochs", "2"), ("plus-epochs", "1"), ("train-rows", "150"));
        Assert.Contains("150 training and 15 validation rows with 40% symmetric label noise, 50 test rows", result.Data, StringComparison.Ordinal);
        Assert.True(result.Arms[0].Metrics.ContainsKey("memorised"));
        Assert.Equal(51, Apply(folder, In("idx")).Length);

        Npz.Write(In("embeddings.npz"), new Dictionary<string, Tensor> { ["embeddings"] = randn(60, 5), ["labels"] = arange(60, ScalarType.Int64).remainder(4) });
        (result, folder) = Run(Budget.Smoke, In("embeddings.npz"), null, ("epochs", "1"), ("plus-epochs", "1"), ("validation", "0"));
        Assert.False(result.Arms[0].Metrics.ContainsKey("test"));
        Assert.False(result.Arms[0].Metrics.ContainsKey("memorised"));
        Safetensors.Write(In("new.safetensors"), new Dictionary<string, Tensor> { ["embeddings"] = randn(7, 5) });
        Assert.Equal(8, Apply(folder, In("new.safetensors")).Length);
        Safetensors.Write(In("wide.safetensors"), new Dictionary<string, Tensor> { ["embeddings"] = randn(7, 6) });
        Assert.Contains("the model takes [5]", Assert.Throws<BadInputException>(() => Apply(folder, In("wide.safetensors"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Paper_budget_builds_its_networks_and_trains_on_images()
    {
        WriteImages(In("data/cifar10-jpeg/cifar10-jpeg.zip"), 10, perClass: 4);
        (RunResult result, string folder) = Run(Budget.Paper, settings: [("epochs", "1"), ("plus-epochs", "1"), ("train-rows", "24"), ("batch-size", "12")]);
        Assert.Equal(["CE", "ELR lambda 3", "ELR+", "linear model"], result.Arms.Select(a => a.Arm));
        Assert.Contains("CIFAR-10", result.Data, StringComparison.Ordinal);
        Assert.Equal(11, Apply(folder, In("data/cifar10-jpeg/cifar10-jpeg.zip")).Length);
    }

    [Fact]
    public void Bad_input_is_refused_in_one_sentence_and_leaves_nothing()
    {
        void Refused(string message, string? data, string? target, params (string, string)[] settings)
        {
            Assert.Contains(message, Assert.ThrowsAny<Exception>(() => Run(Budget.Smoke, data, target, settings)).Message, StringComparison.Ordinal);
            Assert.False(Directory.Exists(In("runs/early-learning-regularization")) && Directory.EnumerateDirectories(In("runs/early-learning-regularization")).Any());
        }

        string table = Table("train.csv", 30, noise: 0);
        Refused("name the column of labels with --target", table, null);
        Refused("no column 'species'", table, "species");
        Refused("no column 'really'", table, "label", ("truth", "really"));
        Refused("Test data nowhere do not exist", table, "label", ("test", "nowhere"));
        Refused("Use --set network=mlp", table, "label", ("network", "resnet34"));
        Refused("belong to your own data", null, null, ("test", table));
        Refused("'lambda' needs at least one weight", null, null, ("lambda", ""));
        Refused("pairs such as 9:1", null, null, ("class-map", "9-1"));
        Refused("names a class outside 0..2", table, "label", ("noise", "0.2"), ("noise-kind", "asymmetric"));
        Refused("must be in 0..1", null, null, ("noise", "2"));
        File.WriteAllText(In("notes.docx"), "x");
        Refused("is none of: a folder with the four IDX files", In("notes.docx"), null);
        Safetensors.Write(In("two.safetensors"), new Dictionary<string, Tensor> { ["a"] = randn(3, 2), ["b"] = randn(3, 2) });
        Refused("one array of inputs", In("two.safetensors"), null);
        Safetensors.Write(In("none.safetensors"), new Dictionary<string, Tensor> { ["a"] = randn(3, 2) });
        Refused("no array of labels", In("none.safetensors"), null);
    }

    [Fact]
    public void Random_crop_and_flip_moves_pixels_and_fills_with_the_border()
    {
        manual_seed(0);
        Tensor image = arange(1, 26, ScalarType.Float32).reshape(1, 1, 5, 5);
        Tensor border = full([1, 1, 1, 1], -1f);
        bool flipped = false, shifted = false;
        for (int trial = 0; trial < 60; trial++)
        {
            Tensor one = RandomCropFlip.Apply(image, 1, border);
            flipped |= one.Equals(image.flip(3));
            shifted |= (one[0, 0, 0] + 1).abs().sum().ToDouble() == 0;
            Assert.All(one.data<float>(), v => Assert.True(v == -1 || (v >= 1 && v <= 25)));
        }
        Assert.True(flipped && shifted);
        Assert.True(RandomCropFlip.Apply(ones(3, 2, 4, 4), 0).Equals(ones(3, 2, 4, 4)));
    }

    private void WriteIdx(string part, ImageDataset data)
    {
        Directory.CreateDirectory(In("idx"));
        void Write(string name, byte[] header, Tensor values) => File.WriteAllBytes(In($"idx/{part}-{name}-ubyte"), [.. header, .. values.to(ScalarType.Byte).flatten().data<byte>()]);
        byte n = (byte)data.Labels.shape[0];
        Write("images-idx3", [0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 28, 0, 0, 0, 28], data.Images);
        Write("labels-idx1", [0, 0, 8, 1, 0, 0, 0, n], data.Labels);
    }

    private static void WriteImages(string path, int classes, int perClass)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using ZipArchive zip = ZipFile.Open(path, ZipArchiveMode.Create);
        using var bitmap = new SKBitmap(8, 8);
        for (int c = 0; c < classes; c++)
        {
            for (int i = 0; i < perClass; i++)
            {
                bitmap.Erase(new SKColor((byte)(25 * c), (byte)(255 - 25 * c), (byte)(60 * i)));
                using Stream entry = zip.CreateEntry($"{(i == 0 ? "test" : "train")}/class{c}/{i}.png").Open();
                bitmap.Encode(entry, SKEncodedImageFormat.Png, 100);
            }
        }
    }
}
