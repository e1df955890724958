using Priori.Data;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Continual;

/// <summary>One task: training and test samples, float32 [n, ...], and their class ids, int64 [n].</summary>
internal sealed record ContinualTask(string Name, IReadOnlyList<long> Classes, Tensor Inputs, Tensor Labels, Tensor TestInputs, Tensor TestLabels);

/// <summary>Labelled samples with a training and a test part.</summary>
internal sealed record LabelledParts(Tensor Inputs, Tensor Labels, Tensor TestInputs, Tensor TestLabels, IReadOnlyList<string> Classes)
{
    /// <summary>Tasks of new classes in an order drawn from the seed.</summary>
    public IReadOnlyList<ContinualTask> Split(int classesPerTask, int seed) => Split(TaskSplits.ClassIncremental(Labels, classesPerTask, seed));

    /// <summary>Tasks of given classes.</summary>
    public IReadOnlyList<ContinualTask> Split(IReadOnlyList<IReadOnlyList<long>> tasks)
    {
        TaskSplits.CheckDisjoint(tasks);
        return [.. tasks.Select(classes =>
        {
            (Tensor x, Tensor y) = Of(Inputs, Labels, classes);
            (Tensor testX, Tensor testY) = Of(TestInputs, TestLabels, classes);
            return new ContinualTask(string.Join(" ", classes.Select(c => Classes[(int)c])), classes, x, y, testX, testY);
        })];
    }

    /// <summary>The samples of some classes.</summary>
    public LabelledParts Only(IReadOnlyList<long> classes)
    {
        (Tensor x, Tensor y) = Of(Inputs, Labels, classes);
        (Tensor testX, Tensor testY) = Of(TestInputs, TestLabels, classes);
        return new LabelledParts(x, y, testX, testY, Classes);
    }

    /// <summary>The same classes with the last samples of the training part as test part: to choose settings without the test part.</summary>
    public LabelledParts Validation(double share)
    {
        long count = Inputs.shape[0], held = Math.Max(1, (long)(count * share));
        return new LabelledParts(Inputs.narrow(0, 0, count - held), Labels.narrow(0, 0, count - held), Inputs.narrow(0, count - held, held), Labels.narrow(0, count - held, held), Classes);
    }

    private static (Tensor, Tensor) Of(Tensor inputs, Tensor labels, IReadOnlyList<long> classes)
    {
        using Tensor rows = TaskSplits.Rows(labels, classes);
        return (inputs.index_select(0, rows), labels.index_select(0, rows));
    }
}

/// <summary>Images under some symmetries of the square, each symmetry with classes of its own: a pre-training problem that never shows an upright image unless asked to. Nothing is copied ahead.</summary>
internal sealed class SymmetrySource(Tensor images, Tensor labels, int classes, IReadOnlyList<int> symmetries) : IBatchSource
{
    private readonly long _images = images.shape[0];

    public long Count => _images * symmetries.Count;

    public Batch Get(Tensor rows, Device device)
    {
        using var scope = NewDisposeScope();
        Tensor element = rows.div(_images, RoundingMode.floor), image = rows.remainder(_images);
        Tensor x = images.index_select(0, image), y = labels.index_select(0, image) + element * classes;
        for (int s = 0; s < symmetries.Count; s++)
        {
            if (symmetries[s] == 0) continue;
            Tensor at = element.eq(s).nonzero().flatten();
            if (at.shape[0] > 0) x.index_copy_(0, at, TaskSplits.Dihedral(x.index_select(0, at), symmetries[s]));
        }
        return new Batch(rows.to(device).MoveToOuterDisposeScope(), [x.to(device).MoveToOuterDisposeScope(), y.to(device).MoveToOuterDisposeScope()]);
    }
}

/// <summary>A fixed number of batches, whatever the size of the data: rows without replacement, anew when they are used up.</summary>
internal sealed class StepSampler(int steps, int batchSize) : Sampler
{
    public override Tensor Order(long count, int seed, int epoch, int pass)
    {
        Seeds.Set(Seeds.Derive(seed, epoch, pass, 3));
        long wanted = (long)steps * batchSize;
        using var scope = NewDisposeScope();
        return cat([.. Enumerable.Range(0, (int)((wanted + count - 1) / count)).Select(_ => randperm(count, ScalarType.Int64))]).narrow(0, 0, wanted).clone().MoveToOuterDisposeScope();
    }
}

/// <summary>The user's tasks: a folder of tasks, each a folder of images by class; or one folder, zip or array file, split into tasks.</summary>
internal sealed record OwnSequence(IReadOnlyList<string> Classes, IReadOnlyList<long> Shape, LabelledParts? Whole, IReadOnlyList<ContinualTask>? Sequence)
{
    private static readonly string[] TrainNames = ["train", "training"], TestNames = ["test", "val", "valid", "validation"];

    /// <summary>Reads the data. The input shape is that of the user's model; without one, images get the given size and arrays keep theirs.</summary>
    public static OwnSequence Read(string path, IReadOnlyList<long>? shape, int size, double testShare, int seed, IReadOnlyList<double> mean, IReadOnlyList<double> deviation)
    {
        if (File.Exists(path) && !path.EndsWith(".zip", StringComparison.OrdinalIgnoreCase)) return OfArrays(path, shape, testShare, seed, mean, deviation);
        if (shape is { Count: not 3 }) throw new BadInputException($"{path} holds images; the model takes inputs [{string.Join(", ", shape)}].");
        IReadOnlyList<string> splits = ImageFolder.Splits(path);
        bool grayscale = shape is [1, ..];
        int side = (int)(shape?[^1] ?? size);
        (Tensor X, Tensor Y, IReadOnlyList<string> Classes) Part(string split)
        {
            ImageDataset images = ImageFolder.Read(path, side, split, grayscale);
            using Tensor bytes = images.Images;
            return (Standardised(bytes.to(float32).div_(255), mean, deviation), images.Labels, images.Classes);
        }
        string[] leaves = [.. splits.Select(s => s.Split('/')[^1])];
        if (splits is [""] || splits.All(s => TrainNames.Contains(s) || TestNames.Contains(s)))
        {
            string train = splits.FirstOrDefault(TrainNames.Contains) ?? splits[0];
            (Tensor x, Tensor y, IReadOnlyList<string> classes) = Part(train);
            string? test = splits.FirstOrDefault(s => s != train && TestNames.Contains(s));
            LabelledParts whole = test is null ? HoldOut(x, y, classes, testShare, seed) : Part(test) is var part ? new LabelledParts(x, y, part.X, part.Y, classes) : null!;
            return new OwnSequence(classes, [.. x.shape.Skip(1)], whole, null);
        }
        if (Directory.Exists(path))
            foreach (string task in Directory.EnumerateDirectories(path).Select(Path.GetFileName).OfType<string>().Where(n => !n.StartsWith('.')).Order(StringComparer.Ordinal))
                if (!splits.Any(s => s.Split('/')[0] == task)) throw new BadInputException($"{Path.Combine(path, task)}: this task has no samples; a task is a folder of images by class (task/class/image).");
        var tasks = new List<ContinualTask>();
        IReadOnlyList<string> all = [];
        foreach (IGrouping<string, string> task in splits.GroupBy(s => s.Split('/')[0]))
        {
            string[] parts = [.. task];
            string? test = parts.Length > 1 ? parts.FirstOrDefault(s => TestNames.Contains(s.Split('/')[^1])) : null;
            string[] train = [.. parts.Where(s => s != test)];
            if (train.Length != 1) throw new BadInputException($"{path}: task '{task.Key}' has the parts {string.Join(", ", parts)}; it may hold classes, or train and test.");
            (Tensor x, Tensor y, all) = Part(train[0]);
            LabelledParts own = test is null ? HoldOut(x, y, all, testShare, seed) : Part(test) is var part ? new LabelledParts(x, y, part.X, part.Y, all) : null!;
            tasks.Add(new ContinualTask(task.Key, TaskSplits.Classes(own.Labels), own.Inputs, own.Labels, own.TestInputs, own.TestLabels));
        }
        return new OwnSequence(all, [.. tasks[0].Inputs.shape.Skip(1)], null, tasks);
    }

    private static OwnSequence OfArrays(string path, IReadOnlyList<long>? shape, double testShare, int seed, IReadOnlyList<double> mean, IReadOnlyList<double> deviation)
    {
        if (shape is null)
        {
            Dictionary<string, Tensor> arrays = Path.GetExtension(path).ToLowerInvariant() switch
            {
                ".npz" => Npz.Read(path),
                ".safetensors" => Safetensors.Read(path),
                _ => throw new BadInputException($"{path} is no .npz or .safetensors file with inputs and labels, and no folder or zip of images."),
            };
            Tensor inputs = arrays.Where(a => a.Value.dim() >= 2).Select(a => a.Value).FirstOrDefault() ?? throw new BadInputException($"{path} has no array of inputs [n, ...].");
            shape = inputs.dim() == 3 ? [1, .. inputs.shape.Skip(1)] : [.. inputs.shape.Skip(1)];
        }
        Examples examples = Examples.Read(path, shape, mean, deviation);
        if (examples.Labels is null) throw new BadInputException($"{path} has no array 'labels' or 'y'; tasks are made of labelled samples.");
        long[] classes = TaskSplits.Classes(examples.Labels);
        // Class ids become 0, 1, ... in ascending order of the labels, which are their names.
        Tensor ids = examples.Labels.unsqueeze(1).eq(tensor(classes)).to(int64).argmax(1);
        return new OwnSequence([.. classes.Select(c => $"{c}")], shape, HoldOut(examples.Inputs, ids, [.. classes.Select(c => $"{c}")], testShare, seed), null);
    }

    private static LabelledParts HoldOut(Tensor x, Tensor y, IReadOnlyList<string> classes, double share, int seed)
    {
        // Of each class the same share, at least one sample of each part.
        var train = new List<long>();
        var test = new List<long>();
        foreach (long c in TaskSplits.Classes(y))
        {
            long[] rows = TaskSplits.Rows(y, [c]).data<long>().ToArray();
            if (rows.Length < 2) throw new BadInputException($"Class '{classes[(int)c]}' has one sample; at least two are needed, one to learn and one to test.");
            SplitMix64.For(seed, c, 0x54455354).Shuffle<long>(rows);
            int held = Math.Clamp((int)Math.Round(rows.Length * share), 1, rows.Length - 1);
            test.AddRange(rows.Take(held));
            train.AddRange(rows.Skip(held));
        }
        Tensor trainRows = tensor(train.Order().ToArray()), testRows = tensor(test.Order().ToArray());
        return new LabelledParts(x.index_select(0, trainRows), y.index_select(0, trainRows), x.index_select(0, testRows), y.index_select(0, testRows), classes);
    }

    private static Tensor Standardised(Tensor inputs, IReadOnlyList<double> mean, IReadOnlyList<double> deviation)
    {
        if (mean.Count == 0) return inputs;
        if (mean.Count != inputs.shape[1]) throw new BadInputException($"Options 'mean' and 'deviation' need one number for each of the {inputs.shape[1]} channels.");
        return (inputs - tensor(mean.ToArray(), float32).view(1, -1, 1, 1)) / tensor(deviation.ToArray(), float32).view(1, -1, 1, 1);
    }
}
