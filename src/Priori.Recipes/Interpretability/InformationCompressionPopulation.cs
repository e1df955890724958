using System.Globalization;
using System.Text.RegularExpressions;
using Priori.Data;
using Priori.Interpretability;
using Priori.Nn;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Interpretability;

/// <summary>Rows that a network is trained on, rows that its accuracy is measured on, and the population whose information its layers carry.</summary>
internal sealed record Population(Tensor Inputs, Tensor Labels, (Tensor Inputs, Tensor Labels) Train, (Tensor Inputs, Tensor Labels) Test, int Classes, string Description)
{
    /// <summary>How the columns of the user's table became inputs; null for arrays.</summary>
    public ColumnSchema? Schema { get; init; }

    /// <summary>All 12-bit vectors as -1 and 1.</summary>
    public static Population BinaryVectors(double trainFraction)
    {
        (Tensor x, Tensor y) = Data.BinaryVectors.Generate();
        return Split(2 * x - 1, y, 2, trainFraction, "all 4,096 vectors of 12 bits with a random quadratic rule as label (BinaryVectors, seed 0)");
    }

    /// <summary>MNIST; the population is the first <paramref name="samples"/> test images.</summary>
    public static Population Digits(string folder, int samples)
    {
        (ImageDataset train, ImageDataset test) = Mnist.Read(folder);
        (Tensor, Tensor) Scaled(ImageDataset part) => (part.Images.to(ScalarType.Float32) / 255, part.Labels);
        (Tensor images, Tensor labels) = Scaled(test);
        return new(images[..samples], labels[..samples], Scaled(train), (images, labels), test.Classes.Count, $"MNIST (IDX files), {train.Labels.shape[0]} training rows; information on {samples} test rows");
    }

    /// <summary>The user's labelled rows, all of which are the population: an .npz of inputs and labels, or a table with a target column.</summary>
    public static Population Read(UserData data, double trainFraction)
    {
        string name = Path.GetFileName(data.Path);
        if (IsArrays(data.Path))
        {
            (Tensor inputs, Tensor labels) = ReadArrays(data.Path);
            long classes = labels.max().item<long>() + 1;
            if (classes < 2) throw new BadInputException($"{data.Path}: the labels have one class; at least two are needed.");
            return Split(inputs, labels, (int)classes, trainFraction, $"{name}, {labels.shape[0]} rows");
        }
        if (Directory.Exists(data.Path)) throw new BadInputException($"{data.Path} has no epoch_*.safetensors; give such a folder, an .npz file or a table.");
        if (data.Target is null) throw new BadInputException($"Name the class column of {data.Path} with --target COLUMN.");
        Table table = Table.Read(data.Path);
        if (table.RowCount < 2) throw new BadInputException($"{data.Path} has {table.RowCount} row(s); at least two are needed.");
        ColumnSchema schema = ColumnSchema.Learn(table,
            new ColumnSchemaOptions { Target = data.Target, TargetKind = TargetKind.Classes, Scaling = NumericScaling.Standardize }, SplitRows(table.RowCount, trainFraction).Train);
        (Tensor rows, Tensor targets) = Encode(table, schema);
        return Split(rows, targets, schema.Target!.Classes.Count, trainFraction, $"{name}, {table.RowCount} rows, target {data.Target}") with { Schema = schema };
    }

    /// <summary>Inputs and labels of new rows, for a network that was trained on rows of this schema (null: arrays).</summary>
    public static (Tensor Inputs, Tensor Labels) ReadNew(string path, ColumnSchema? schema)
    {
        if (schema is null != IsArrays(path))
            throw new BadInputException($"{path}: the network was trained on {(schema is null ? "arrays; give an .npz of inputs and labels" : "a table; give a table with the same columns")}.");
        return schema is null ? ReadArrays(path) : Encode(Table.Read(path), schema);
    }

    private static bool IsArrays(string path) => Path.GetExtension(path).Equals(".npz", StringComparison.OrdinalIgnoreCase);

    /// <summary>Numbers standardised and categories as indicators, float32 [n, ids of the schema].</summary>
    private static (Tensor Inputs, Tensor Labels) Encode(Table table, ColumnSchema schema)
    {
        EncodedTable encoded = schema.Encode(table);
        Tensor labels = encoded.Target ?? throw new BadInputException($"{table.Source} has no values in the target column '{schema.Target!.Name}'.");
        return (zeros(table.RowCount, schema.TotalIds).scatter_(1, encoded.Ids, encoded.Values), labels);
    }

    /// <summary>Inputs float32 [n, ...] and labels int64 [n], 0 to classes - 1, from an .npz file.</summary>
    public static (Tensor Inputs, Tensor Labels) ReadArrays(string path)
    {
        Dictionary<string, Tensor> arrays = Npz.Read(path);
        Tensor One(params string[] names) => names.Select(name => arrays.GetValueOrDefault(name)).FirstOrDefault(array => array is not null)
            ?? throw new BadInputException($"{path} has no array '{names[0]}' (or {string.Join(", ", names[1..])}); it has: {string.Join(", ", arrays.Keys)}.");
        Tensor inputs = One("inputs", "x", "X").to(ScalarType.Float32), labels = Discrete(One("labels", "y", "Y").flatten(), path);
        if (inputs.dim() < 2 || inputs.shape[0] != labels.shape[0] || labels.shape[0] < 2)
            throw new BadInputException($"{path}: inputs are [{string.Join(", ", inputs.shape)}] and labels [{string.Join(", ", labels.shape)}]; they must be [n, ...] and [n] with n at least 2.");
        if (labels.min().item<long>() < 0) throw new BadInputException($"{path}: a label is negative; labels are 0 to the number of classes - 1.");
        return (inputs, labels);
    }

    private static Tensor Discrete(Tensor labels, string path)
    {
        if (labels.is_floating_point() && !labels.eq(labels.round()).all().item<bool>()) throw new BadInputException($"{path}: a label is not a whole number; information about labels is estimated for classes only.");
        return labels.to(ScalarType.Int64);
    }

    private static Population Split(Tensor inputs, Tensor labels, int classes, double trainFraction, string description)
    {
        (Tensor train, Tensor test) = SplitRows(labels.shape[0], trainFraction);
        (Tensor, Tensor) Part(Tensor rows) => (inputs.index_select(0, rows), labels.index_select(0, rows));
        return new(inputs, labels, Part(train), Part(test), classes, description);
    }

    /// <summary>The same split for every seed: runs differ in their initialisation and the order of their batches.</summary>
    internal static (Tensor Train, Tensor Test) SplitRows(long count, double trainFraction)
    {
        int[] order = [.. Enumerable.Range(0, (int)count)];
        SplitMix64.For(0, 58).Shuffle<int>(order);
        int train = Math.Clamp((int)(trainFraction * count), 1, (int)count - 1);
        return (tensor(order[..train], int64), tensor(order[train..], int64));
    }
}

/// <summary>A folder of activations: epoch_N.safetensors with one tensor [n, units] for each layer, and labels.npy or labels.csv (the last column, or the named one).</summary>
internal sealed partial record ActivationFolder(IReadOnlyList<(int Epoch, IReadOnlyDictionary<string, Tensor> Activations)> Snapshots, Tensor Labels)
{
    [GeneratedRegex(@"^epoch_?(\d+)\.safetensors$", RegexOptions.IgnoreCase)]
    private static partial Regex EpochFile();

    public static bool Is(string path) => Directory.Exists(path) && Directory.EnumerateFiles(path, "*.safetensors").Any(file => EpochFile().IsMatch(Path.GetFileName(file)));

    public static ActivationFolder Read(string path, string? target)
    {
        var snapshots = Directory.EnumerateFiles(path, "*.safetensors")
            .Select(file => (File: file, Match: EpochFile().Match(Path.GetFileName(file)))).Where(f => f.Match.Success)
            .Select(f => (Epoch: int.Parse(f.Match.Groups[1].Value, CultureInfo.InvariantCulture), Activations: (IReadOnlyDictionary<string, Tensor>)Safetensors.Read(f.File)))
            .OrderBy(s => s.Epoch).ToList();
        Tensor labels = ReadLabels(path, target);
        foreach ((int epoch, IReadOnlyDictionary<string, Tensor> activations) in snapshots)
            foreach ((string layer, Tensor t) in activations)
                if (t.dim() == 0 || t.shape[0] != labels.shape[0])
                    throw new BadInputException($"{path}: layer '{layer}' of epoch {epoch} is [{string.Join(", ", t.shape)}], but there are {labels.shape[0]} labels.");
        return new(snapshots, labels);
    }

    private static Tensor ReadLabels(string folder, string? target)
    {
        string npy = Path.Combine(folder, "labels.npy"), csv = Path.Combine(folder, "labels.csv");
        if (File.Exists(npy))
        {
            Tensor labels = Npy.Read(npy).flatten();
            return labels.is_floating_point() ? throw new BadInputException($"{npy} holds {labels.dtype}; labels are whole numbers.") : labels;
        }
        if (!File.Exists(csv)) throw new BadInputException($"{folder} has epoch_*.safetensors but neither labels.csv nor labels.npy: one label for each row.");
        Table table = Table.Read(csv);
        TableColumn column = table[target ?? table.Columns[^1]];
        if (column.Any(label => label is null)) throw new BadInputException($"{csv}: a label is missing.");
        string[] classes = [.. column.Select(label => label!).Distinct().Order(StringComparer.Ordinal)];
        return tensor(column.Select(label => (long)Array.IndexOf(classes, label)).ToArray());
    }
}

/// <summary>How a network of the study is built.</summary>
internal sealed record StudyNetwork(HiddenActivation Activation, int Inputs, IReadOnlyList<long> Hidden, int Classes, bool Convolutional, int Epochs, ColumnSchema? Schema)
{
    /// <summary>Channels, kernel and dense width of the convolutional net: TensorFlow's MNIST tutorial, which the released code takes.</summary>
    private const int FirstChannels = 32, SecondChannels = 64, Kernel = 5, DenseWidth = 1024, ImageSide = 28;

    /// <summary>Names of the recorded modules, input side first, and what they are called in tables.</summary>
    public IReadOnlyList<(string Module, string Label)> Layers => Convolutional
        ? [("pool1", "conv1"), ("pool2", "conv2"), ("activation3", "dense")]
        : [.. Hidden.Select((width, i) => ($"layers.{2 * (i + 1)}", $"hidden{i + 1}"))];

    public Module<Tensor, Tensor> Create()
    {
        if (!Convolutional) return new Mlp(Inputs, Hidden, Classes, _ => Activation.Create());
        return Sequential(
            ("conv1", Conv2d(1, FirstChannels, Kernel, padding: Kernel / 2)), ("activation1", Activation.Create()), ("pool1", MaxPool2d(2)),
            ("conv2", Conv2d(FirstChannels, SecondChannels, Kernel, padding: Kernel / 2)), ("activation2", Activation.Create()), ("pool2", MaxPool2d(2)),
            ("flatten", Flatten()), ("dense", Linear(SecondChannels * ImageSide / 4 * (ImageSide / 4), DenseWidth)), ("activation3", Activation.Create()),
            ("output", Linear(DenseWidth, Classes)));
    }
}

/// <summary>Cross-entropy plus half the L2 penalty times the squared weights of all but the last layer, with Adam; keeps the weights of the scheduled epochs.</summary>
internal sealed class StudyLearner : Learner
{
    private readonly Module<Tensor, Tensor> network;
    private readonly Tensor[] penalized;
    private readonly double penalty;

    public StudyLearner(Module<Tensor, Tensor> network, WeightHistory history, double learningRate, double penalty)
    {
        (this.network, this.penalty) = (network, penalty);
        Tensor[] weights = [.. network.parameters().Where(p => p.dim() > 1)];
        penalized = weights[..^1];
        Modules = new Dictionary<string, Module> { ["network"] = network, ["history"] = history };
        Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(optim.Adam(network.parameters(), learningRate)) };
    }

    public override IReadOnlyDictionary<string, Module> Modules { get; }

    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    public override void Step(Batch batch, TrainingStep step)
    {
        Tensor loss = functional.cross_entropy(network.call(batch[0]), batch[1]);
        if (penalty > 0) loss += penalty / 2 * penalized.Select(w => w.square().sum()).Aggregate((a, b) => a + b);
        step.Minimize("loss", loss);
    }
}

/// <summary>
/// The weights of a network at scheduled epochs, as a buffer: part of the checkpoint, so that a training that was interrupted still has its early epochs.
/// </summary>
internal sealed class WeightHistory : Module
{
    private readonly Module network;
    private readonly IReadOnlyList<int> schedule;
    private readonly Tensor weights;

    public WeightHistory(Module network, IReadOnlyList<int> schedule) : base(nameof(WeightHistory))
    {
        (this.network, this.schedule) = (network, schedule);
        Tensor first = network.parameters().First();
        weights = zeros([schedule.Count, network.parameters().Sum(p => p.numel())], dtype: first.dtype, device: first.device);
        register_buffer(nameof(weights), weights); // Alone: the network is another's module.
    }

    public void Record(int epoch)
    {
        if (Index(epoch) is not (>= 0 and int index)) return;
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        weights[index].copy_(nn.utils.parameters_to_vector(network.parameters()));
    }

    public void Restore(int epoch)
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        Tensor vector = weights[Index(epoch)];
        long start = 0;
        foreach (Tensor parameter in network.parameters())
        {
            parameter.copy_(vector.narrow(0, start, parameter.numel()).reshape(parameter.shape));
            start += parameter.numel();
        }
    }

    private int Index(int epoch) => schedule.ToList().IndexOf(epoch);
}
