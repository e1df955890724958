using System.Globalization;
using Priori.Data;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes.NoisyLabels;

/// <summary>How rows become the inputs of a network; saved with a model, so that new rows become the same.</summary>
internal sealed record InputDescription
{
    /// <summary>Shape of one row.</summary>
    public required long[] Shape { get; init; }

    /// <summary>Fields of a table; null for images and arrays.</summary>
    public ColumnSchema? Schema { get; init; }

    /// <summary>Mean of each feature or channel, subtracted first.</summary>
    public float[] Mean { get; init; } = [];

    /// <summary>Deviation of each feature or channel, divided by.</summary>
    public float[] Deviation { get; init; } = [];

    public Tensor Standardize(Tensor inputs)
    {
        if (Mean.Length == 0) return inputs;
        long[] shape = [1, Mean.Length, .. Enumerable.Repeat(1L, Shape.Length - 1)];
        return (inputs - tensor(Mean).reshape(shape)) / tensor(Deviation).reshape(shape);
    }
}

/// <summary>Rows with class labels. Inputs are float32 [n, ...], labels int64 [n] or null where unknown, true labels int64 [n] or null.</summary>
internal sealed record LabeledData(Tensor Inputs, Tensor? Labels, IReadOnlyList<string> Classes, InputDescription Input)
{
    /// <summary>Greatest number of inputs that the categories of a table may become.</summary>
    private const int MostTableInputs = 16_384;

    public Tensor? Truth { get; init; }

    public long Count => Inputs.shape[0];

    public static LabeledData OfImages(ImageDataset images, bool standardize)
    {
        using var scope = NewDisposeScope();
        Tensor inputs = images.Images.to(ScalarType.Float32) / 255;
        var description = new InputDescription { Shape = [.. inputs.shape.Skip(1)] };
        if (standardize)
        {
            description = description with
            {
                Mean = inputs.mean([0, 2, 3]).data<float>().ToArray(),
                Deviation = [.. inputs.transpose(0, 1).flatten(1).std(1).data<float>().Select(d => Math.Max(d, 1e-3f))],
            };
        }
        return new LabeledData(description.Standardize(inputs).MoveToOuterDisposeScope(), images.Labels, images.Classes, description);
    }

    /// <summary>Reads the user's training rows, and test rows where the data bring them (IDX files, image folders with "train" and "test").</summary>
    public static (LabeledData Train, LabeledData? Test) ReadTraining(string path, string? target, string? truth, IReadOnlyList<string> ignore, int? imageSize, bool standardizeImages)
    {
        if (Directory.Exists(path) && HasIdx(path))
        {
            (ImageDataset train, ImageDataset test) = Mnist.Read(path);
            LabeledData first = OfImages(train, standardizeImages);
            return (first, OfImages(test, first.Input, first.Classes));
        }
        if (IsImages(path))
        {
            IReadOnlyList<string> splits = ImageFolder.Splits(path);
            LabeledData first = OfImages(ImageFolder.Read(path, imageSize, splits.Count == 1 ? null : splits.FirstOrDefault(s => s == "train") ?? throw NoTrain(path, splits)), standardizeImages);
            return (first, splits.Contains("test") ? OfImages(ImageFolder.Read(path, imageSize, "test"), first.Input, first.Classes) : null);
        }
        switch (Extension(path))
        {
            case ".npz" or ".safetensors":
                return (Arrays(path, target, truth, null), null);
            case ".csv" or ".tsv" or ".data" or ".txt" or ".parquet":
                if (target is null) throw new BadInputException($"{path} is a table: name the column of labels with --target COLUMN.");
                Table table = Table.Read(path);
                if (truth is not null && !table.Has(truth)) throw new BadInputException($"{path} has no column '{truth}' of true labels; it has: {string.Join(", ", table.Columns)}.");
                ColumnSchema schema = ColumnSchema.Learn(table, new ColumnSchemaOptions
                {
                    Target = target,
                    TargetKind = TargetKind.Classes,
                    Scaling = NumericScaling.Standardize,
                    Ignore = truth is null ? ignore : [.. ignore, truth],
                });
                if (schema.TotalIds > MostTableInputs)
                    throw new BadInputException($"{path}: the columns have {schema.TotalIds} categories together, more than {MostTableInputs}; leave identifiers out with --set ignore=COLUMN,...");
                return (OfTable(table, schema, truth), null);
            default:
                throw Unknown(path);
        }
    }

    /// <summary>Reads further rows for a model: test rows, or rows to apply it to. Labels are null when the data have none.</summary>
    public static LabeledData ReadMore(string path, InputDescription input, IReadOnlyList<string> classes, string? target)
    {
        if (Directory.Exists(path) && HasIdx(path)) return OfImages(Mnist.Read(path).Test, input, classes);
        if (IsImages(path) && input is { Schema: null, Shape: [var channels, var height, var width] } && height == width)
        {
            IReadOnlyList<string> splits = ImageFolder.Splits(path);
            ImageDataset images = ImageFolder.Read(path, (int)height, splits.Count == 1 ? null : splits.Contains("test") ? "test" : splits[0], grayscale: channels == 1);
            LabeledData read = OfImages(images, input, classes);
            long[] index = [.. images.Classes.Select(name => (long)classes.ToList().IndexOf(name))];
            return index.Contains(-1) ? read with { Labels = null } : read with { Labels = tensor(index).index_select(0, images.Labels) };
        }
        switch (Extension(path))
        {
            case ".npz" or ".safetensors":
                LabeledData arrays = Arrays(path, target, null, input);
                return arrays with { Classes = classes };
            case ".csv" or ".tsv" or ".data" or ".txt" or ".parquet" when input.Schema is not null:
                return OfTable(Table.Read(path), input.Schema, null);
            case ".gz" or ".idx3-ubyte" when input.Schema is null:
                Tensor images = Idx.Read(path);
                return OfImages(new ImageDataset(images.dim() == 3 ? images.unsqueeze(1) : images, zeros(images.shape[0], ScalarType.Int64), classes), input, classes) with { Labels = null };
            default:
                throw Unknown(path);
        }
    }

    private static LabeledData OfImages(ImageDataset images, InputDescription input, IReadOnlyList<string> classes)
    {
        if (!images.Images.shape.Skip(1).SequenceEqual(input.Shape))
            throw new BadInputException($"The images are [{string.Join(", ", images.Images.shape.Skip(1))}]; the model takes [{string.Join(", ", input.Shape)}] (channels, height, width).");
        return new LabeledData(input.Standardize(images.Images.to(ScalarType.Float32) / 255), images.Labels, classes, input);
    }

    private static LabeledData OfTable(Table table, ColumnSchema schema, string? truth)
    {
        EncodedTable encoded = schema.Encode(table);
        Tensor inputs = zeros(table.RowCount, schema.TotalIds).scatter_(1, encoded.Ids, encoded.Values);
        IReadOnlyList<string> classes = schema.Target!.Classes;
        Tensor? trueLabels = null;
        if (truth is not null)
        {
            var index = classes.Select((name, c) => (name, c)).ToDictionary(p => p.name, p => (long)p.c, StringComparer.Ordinal);
            trueLabels = tensor([.. table[truth].Select((name, row) => name is not null && index.TryGetValue(name, out long c)
                ? c
                : throw new BadInputException($"{table.Source}, row {row + 1}: true label '{name}' is none of the classes {string.Join(", ", classes)}."))]);
        }
        return new LabeledData(inputs, encoded.Target, classes, new InputDescription { Shape = [schema.TotalIds], Schema = schema }) { Truth = trueLabels };
    }

    private static LabeledData Arrays(string path, string? target, string? truth, InputDescription? input)
    {
        Dictionary<string, Tensor> arrays = Extension(path) == ".npz" ? Npz.Read(path) : Safetensors.Read(path);
        string names = string.Join(", ", arrays.Select(a => $"{a.Key} [{string.Join(", ", a.Value.shape)}]"));
        string[] matrices = [.. arrays.Where(a => a.Value.dim() >= 2).Select(a => a.Key)];
        if (matrices.Length != 1) throw new BadInputException($"{path} must hold one array of inputs [n, ...] beside labels [n]; it has: {names}.");
        Tensor raw = arrays[matrices[0]];
        long count = raw.shape[0];

        string? labelName = target ?? (arrays.ContainsKey("labels") ? "labels" : arrays.Where(a => a.Value.dim() == 1 && a.Key != (truth ?? "true_labels")).Select(a => a.Key).SingleOrDefault());
        Tensor? Find(string? name, bool required)
        {
            if (name is null || !arrays.TryGetValue(name, out Tensor? labels))
                return required ? throw new BadInputException($"{path} has no array of labels{(name is null ? "" : $" '{name}'")}: name it with --target; it has: {names}.") : null;
            if (labels.dim() != 1 || labels.shape[0] != count || labels.is_floating_point())
                throw new BadInputException($"{path}: labels '{name}' must be whole numbers [{count}]; they are {labels.dtype} [{string.Join(", ", labels.shape)}].");
            labels = labels.to(ScalarType.Int64);
            return labels.min().ToInt64() >= 0 ? labels : throw new BadInputException($"{path}: label {labels.min().ToInt64()} in '{name}' is negative; classes are 0, 1, ...");
        }

        Tensor? given = Find(labelName, required: input is null);
        Tensor? trueLabels = truth is not null ? Find(truth, required: true) : Find("true_labels", required: false);
        Tensor inputs = raw.to(ScalarType.Float32);
        if (!inputs.isfinite().all().ToBoolean()) throw new BadInputException($"{path}: array '{matrices[0]}' has values that are not finite numbers.");
        if (input is null)
        {
            long[] others = [.. Enumerable.Range(0, (int)inputs.dim()).Where(d => d != 1).Select(d => (long)d)];
            input = new InputDescription
            {
                Shape = [.. inputs.shape.Skip(1)],
                Mean = inputs.mean(others).data<float>().ToArray(),
                Deviation = [.. inputs.transpose(0, 1).flatten(1).std(1).data<float>().Select(d => d > 1e-6f ? d : 1)],
            };
        }
        else if (!inputs.shape.Skip(1).SequenceEqual(input.Shape))
        {
            throw new BadInputException($"{path}: rows are [{string.Join(", ", inputs.shape.Skip(1))}]; the model takes [{string.Join(", ", input.Shape)}].");
        }
        long classes = Math.Max(given is null ? 0 : given.max().ToInt64(), trueLabels is null ? 0 : trueLabels.max().ToInt64()) + 1;
        return new LabeledData(input.Standardize(inputs), given, [.. Enumerable.Range(0, (int)Math.Max(classes, 2)).Select(c => c.ToString(CultureInfo.InvariantCulture))], input) { Truth = trueLabels };
    }

    private static bool IsImages(string path) => Directory.Exists(path) || Extension(path) == ".zip";

    private static BadInputException NoTrain(string path, IReadOnlyList<string> splits) => new($"{path} has the parts {string.Join(", ", splits)}; one must be named train.");

    private static bool HasIdx(string folder) => Directory.EnumerateFiles(folder, "*-ubyte*").Any();

    private static string Extension(string path) => Path.GetExtension(path).ToLowerInvariant();

    private static BadInputException Unknown(string path)
        => new($"{path} is none of: a folder with the four IDX files of MNIST, a folder or zip of images by class, a table (.csv, .tsv, .parquet) with --target, arrays (.npz, .safetensors).");
}
