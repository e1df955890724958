using Priori.Data;
using Priori.Merging;
using Priori.Nn;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Merging;

/// <summary>A task: the digits seen in another way.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="View">Images to images.</param>
/// <param name="Epochs">Epochs of fine-tuning.</param>
internal sealed record DigitTask(string Name, Func<Tensor, Tensor> View, int Epochs = 1)
{
    public static DigitTask Upright { get; } = new("upright", x => x);

    /// <summary>The five tasks of the main experiment.</summary>
    public static IReadOnlyList<DigitTask> Five { get; } =
    [
        new("rotate 90", x => x.rot90(1, (2, 3))),
        new("rotate 180", x => x.rot90(2, (2, 3))),
        new("invert", x => 1 - x, Epochs: 3),
        new("roll", x => x.roll([6L, 6], [2L, 3])),
        new("mirror", x => x.flip(3)),
    ];

    /// <summary>Milder tasks, for the convolutional network.</summary>
    public static IReadOnlyList<DigitTask> Mild { get; } =
        [Rotation(25), Rotation(-25), new("roll 2", x => x.roll([2L, 2], [2L, 3])), new("small", x => Affine(x, 1.3, 0)), new("slant", x => Affine(x, 1, 0, slant: 0.4))];

    /// <summary>Rotations around the target of the adaptation experiments, which is 45 degrees.</summary>
    public static IReadOnlyList<DigitTask> Rotations { get; } = [Rotation(30), Rotation(60), Rotation(90), Rotation(120), Rotation(150)];

    public static DigitTask Rotation(double degrees) => new(FormattableString.Invariant($"rotate {degrees}"), x => Affine(x, 1, degrees * Math.PI / 180));

    private static Tensor Affine(Tensor x, double scale, double angle, double slant = 0)
    {
        float c = (float)(scale * Math.Cos(angle)), s = (float)(scale * Math.Sin(angle));
        Tensor map = tensor(new[] { c, -s + (float)slant, 0, s, c, 0 }).view(1, 2, 3).expand(x.shape[0], 2, 3);
        return functional.grid_sample(x, functional.affine_grid(map, x.shape, align_corners: false), GridSampleMode.Bilinear, GridSamplePaddingMode.Zeros, align_corners: false);
    }
}

/// <summary>A base network and networks fine-tuned from it, with validation and test images of every task. Trained in an arm of its own and read from the run folder afterwards, also by a resumed run.</summary>
internal sealed class AtlasSetting
{
    private readonly RunContext _context;
    private readonly AtlasRecipeOptions _options;
    private readonly Digits _digits;

    private AtlasSetting(string name, RunContext context, AtlasRecipeOptions options, Digits digits, Architecture architecture, IReadOnlyList<DigitTask> tasks, int seed)
    {
        (Name, _context, _options, _digits, Architecture, Tasks, Seed) = (name, context, options, digits, architecture, tasks, seed);
    }

    public string Name { get; }

    public Architecture Architecture { get; }

    public IReadOnlyList<DigitTask> Tasks { get; }

    public int Seed { get; }

    private string File => _context.OutputPath($"originals-{Name}-{Seed}.safetensors");

    /// <summary>Trains the base on <paramref name="mixture"/> (upright digits when empty) and fine-tunes it for every task; <paramref name="linear"/> also fine-tunes the linearised base.</summary>
    public static AtlasSetting Train(string name, RunContext context, AtlasRecipeOptions options, Digits digits, Architecture architecture, IReadOnlyList<DigitTask> tasks, int seed, IReadOnlyList<DigitTask>? mixture = null, bool linear = false)
    {
        var setting = new AtlasSetting(name, context, options, digits, architecture, tasks, seed);
        context.Arm($"{name} originals", seed, run =>
        {
            var tensors = new Dictionary<string, Tensor>();
            void Keep(string of, Dictionary<string, Tensor> state)
            {
                foreach ((string key, Tensor value) in state) tensors[$"{of}/{key}"] = value.cpu();
            }
            (Tensor x, Tensor y) = digits.TrainPart(0, options.TrainImages);
            (Tensor X, Tensor Y) all = (x, y);
            if (mixture is not null)
            {
                long each = options.TrainImages / mixture.Count;
                all = (cat([x, .. mixture.Select((task, t) => task.View(x.narrow(0, t * each, each)))], 0), cat([y, .. mixture.Select((_, t) => y.narrow(0, t * each, each))], 0));
            }
            Network Fresh(Dictionary<string, Tensor>? state)
            {
                Seeds.Set(Seeds.Derive(seed, 1));
                var network = new Network(architecture);
                if (state is not null) network.Load(state);
                network.to(run.Device);
                return network;
            }
            Dictionary<string, Tensor> Fit(Dictionary<string, Tensor>? state, Tensor inputs, Tensor labels, int epochs)
            {
                Network network = Fresh(state);
                using var learner = new ClassifierLearner(network, optim.Adam(network.parameters(), options.TrainingRate));
                run.Trainer(new TrainerOptions { Epochs = epochs, BatchSize = options.TrainingBatch }).Fit(learner, new TensorSource(inputs, labels), cancellation: run.Cancellation);
                network.eval();
                return network.State();
            }
            Dictionary<string, Tensor> start = Fit(null, all.X, all.Y, options.BaseEpochs);
            Keep("base", start);
            foreach (DigitTask task in tasks)
            {
                Tensor viewed = task.View(x);
                Keep(task.Name, Fit(start, viewed, y, task.Epochs));
                if (!linear) continue;
                using Network anchor = Fresh(start);
                anchor.eval();
                using var learner = new LinearizedLearner(new LinearizedModel(anchor), options.TrainingRate);
                run.Trainer(new TrainerOptions { Epochs = task.Epochs, BatchSize = options.TrainingBatch }).Fit(learner, new TensorSource(viewed, y), cancellation: run.Cancellation);
                Keep($"linear {task.Name}", learner.Model.State());
            }
            Safetensors.Write(setting.File, tensors);
            foreach (DigitTask task in tasks)
            {
                using Network network = new Network(architecture).Load(setting.State(task.Name));
                run.Metric($"{task.Name} tuned", setting.Test(task).Accuracy(network));
            }
        });
        return setting;
    }

    /// <summary>A checkpoint: "base", a task's name, or "linear NAME".</summary>
    public Dictionary<string, Tensor> State(string of)
    {
        using SafetensorsFile file = SafetensorsFile.Open(File);
        return file.Names.Where(n => n.StartsWith(of + "/", StringComparison.Ordinal)).ToDictionary(n => n[(of.Length + 1)..], file.Get);
    }

    /// <summary>The base network, in evaluation mode.</summary>
    public Network Base(Device device)
    {
        Network network = new Network(Architecture).Load(State("base"));
        network.to(device).eval();
        return network;
    }

    public TaskVector[] Vectors(string prefix = "")
    {
        Dictionary<string, Tensor> start = State("base");
        return [.. Tasks.Select(t => TaskVector.FromCheckpoints(start, State(prefix + t.Name), t.Name))];
    }

    /// <summary>Labelled images for the coefficients, of a task in the given setting.</summary>
    public CompositionTask Validation(DigitTask task) => Of(task, _digits.TrainPart(_options.TrainImages, _options.ValidationImages));

    public CompositionTask Test(DigitTask task) => Of(task, _digits.TestPart(0, _options.TestImages));

    /// <summary>The first k validation images of every class.</summary>
    public CompositionTask Shots(DigitTask task, int k)
    {
        CompositionTask all = Of(task, _digits.TrainPart(_options.TrainImages, _options.ValidationImages));
        Tensor rows = cat([.. Enumerable.Range(0, 10).Select(c => all.Labels.eq(c).nonzero().flatten()).Select(r => r.narrow(0, 0, Math.Min(k, r.shape[0])))], 0);
        return all with { Inputs = all.Inputs.index_select(0, rows), Labels = all.Labels.index_select(0, rows) };
    }

    private static CompositionTask Of(DigitTask task, (Tensor Images, Tensor Labels) part) => new(task.Name, task.View(part.Images), part.Labels);

    private sealed class LinearizedLearner : Learner
    {
        public LinearizedLearner(LinearizedModel model, double rate)
        {
            Model = model;
            Modules = new Dictionary<string, Module> { ["model"] = model };
            Optimizers = new Dictionary<string, Optimization> { ["model"] = new(optim.Adam(model.parameters(), rate)) };
        }

        public LinearizedModel Model { get; }

        public override IReadOnlyDictionary<string, Module> Modules { get; }

        public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

        public override void Step(Batch batch, TrainingStep step) => step.Minimize("model", Model.Loss(g => functional.cross_entropy(g(batch[0]), batch[1])));
    }
}

internal static class AtlasMeasures
{
    /// <summary>Accuracy of a network on a task.</summary>
    public static double Accuracy(this CompositionTask task, Module<Tensor, Tensor> network)
    {
        using var scope = NewDisposeScope();
        return Metrics.Classification.Accuracy(task.Logits(Inference.Outputs(network, task.Inputs)), task.Labels);
    }
}
