using System.Globalization;
using System.Text;
using Priori.Merging;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Merging;

/// <summary>What is done with own checkpoints.</summary>
public enum AtlasMode
{
    /// <summary>One model for all tasks.</summary>
    Add,

    /// <summary>A model that has lost a task.</summary>
    Negate,

    /// <summary>A model for a new task with few labels.</summary>
    Fewshot,

    /// <summary>A model for a new task without labels.</summary>
    Tta,

    /// <summary>Task arithmetic with a given scale, for checkpoints of any size and without data.</summary>
    Merge,
}

/// <summary>What has a coefficient of its own.</summary>
public enum AtlasScaling
{
    /// <summary>A task vector.</summary>
    Global,

    /// <summary>A parameter tensor of a task vector.</summary>
    Block,

    /// <summary>A random part of a parameter tensor of a task vector.</summary>
    Partition,
}

/// <summary>What is put on the features after few-shot adaptation.</summary>
public enum AtlasAdapter
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>Tip-Adapter.</summary>
    Tip,

    /// <summary>LP++.</summary>
    Lpp,
}

/// <summary>Options of <see cref="AtlasRecipe"/>.</summary>
public sealed record AtlasRecipeOptions : RecipeOptions
{
    /// <summary>Mode.</summary>
    [Option("Own checkpoints: what is made of them.")]
    public AtlasMode Mode { get; init; } = AtlasMode.Add;

    /// <summary>Scaling.</summary>
    [Option("Own checkpoints: what has a coefficient of its own.")]
    public AtlasScaling Scaling { get; init; } = AtlasScaling.Block;

    /// <summary>Groups.</summary>
    [Option("K: parts of each parameter tensor with scaling=partition.", Min = 1)]
    public int Groups { get; init; } = 5;

    /// <summary>Matrices only.</summary>
    [Option("Own checkpoints: keep the base's biases and normalisations.")]
    public bool MatricesOnly { get; init; }

    /// <summary>Scale of the mode merge.</summary>
    [Option("Mode merge: the scale of the sum of the task vectors.")]
    public double Alpha { get; init; } = 0.3;

    /// <summary>Holdout.</summary>
    [Option("Own checkpoints: share of the labelled data that is kept for the final measurement.", Min = 0, Max = 0.9)]
    public double Holdout { get; init; } = 0.3;

    /// <summary>Control share.</summary>
    [Option("Mode negate: least share of the base's control accuracy.", Min = 0, Max = 1)]
    public double ControlShare { get; init; } = 0.95;

    /// <summary>Target's name.</summary>
    [Option("Mode fewshot: name of the target; a task vector of that name is refused.")]
    public string Target { get; init; } = "";

    /// <summary>Whether the target's own vector may be used.</summary>
    [Option("Mode fewshot: let the target's own task vector take part.")]
    public bool AllowTarget { get; init; }

    /// <summary>Adapter.</summary>
    [Option("Mode fewshot: what is put on the frozen features afterwards.")]
    public AtlasAdapter Adapter { get; init; } = AtlasAdapter.None;

    /// <summary>Objective at test time.</summary>
    [Option("Mode tta: what is minimised on unlabelled data.")]
    public TestTimeObjective Objective { get; init; } = TestTimeObjective.Ufm;

    /// <summary>Released code.</summary>
    [Option("Mode tta: follow the authors' released code where it differs from the paper.")]
    public bool Reference { get; init; }

    /// <summary>Smallest crop.</summary>
    [Option("Few-shot and tta: least share of an image that a random crop keeps; 1 augments nothing.", Min = 0.05, Max = 1)]
    public double Crop { get; init; } = 0.5;

    /// <summary>Flip.</summary>
    [Option("Few-shot and tta: flip every second image.")]
    public bool Flip { get; init; }

    /// <summary>Batch normalisation reset.</summary>
    [Option("Own checkpoints: estimate the batch normalisation statistics of the merged model anew on the data.")]
    public bool ResetBatchNorm { get; init; }

    /// <summary>Rate in addition.</summary>
    [Option("AdamW's learning rate in addition.", Min = 1e-8)]
    public double AdditionRate { get; init; } = 1e-1;

    /// <summary>Rate in negation.</summary>
    [Option("AdamW's learning rate in negation.", Min = 1e-8)]
    public double NegationRate { get; init; } = 3e-3;

    /// <summary>Rate with few labels.</summary>
    [Option("AdamW's learning rate in few-shot adaptation.", Min = 1e-8)]
    public double FewShotRate { get; init; } = 1e-1;

    /// <summary>Rate at test time.</summary>
    [Option("AdamW's learning rate at test time.", Min = 1e-8)]
    public double TestTimeRate { get; init; } = 1e-3;

    /// <summary>Weight decay.</summary>
    [Option("AdamW's weight decay on the coefficients.", Min = 0)]
    public double WeightDecay { get; init; } = 0.1;

    /// <summary>Epochs of addition.</summary>
    [Option("Epochs of addition.", Min = 1)]
    public int Epochs { get; init; } = 13;

    /// <summary>Epochs of negation.</summary>
    [Option("Most epochs of negation, which ends when the control falls.", Min = 1)]
    public int NegationEpochs { get; init; } = 40;

    /// <summary>Epochs of adaptation.</summary>
    [Option("Epochs of few-shot and test-time adaptation.", Min = 1)]
    public int AdaptationEpochs { get; init; } = 10;

    /// <summary>Batch size.</summary>
    [Option("Inputs in a batch, over all tasks.", Min = 2)]
    public int BatchSize { get; init; } = 160;

    /// <summary>Penalty.</summary>
    [Option("gamma of the penalty on the norm of a block's coefficients.", Min = 0)]
    public double Penalty { get; init; }

    /// <summary>Mean of each channel.</summary>
    [Option("Own data: mean of each channel, subtracted from inputs in 0..1; empty for none.")]
    public IReadOnlyList<double> Mean { get; init; } = [];

    /// <summary>Deviation of each channel.</summary>
    [Option("Own data: deviation of each channel, which inputs are divided by.")]
    public IReadOnlyList<double> Deviation { get; init; } = [];

    /// <summary>Width of the perceptron.</summary>
    [Option("Width of both hidden layers of the perceptron.", Min = 2)]
    public int Width { get; init; } = 128;

    /// <summary>Widths of the convolutional network.</summary>
    [Option("Channels of the convolutional network.", Min = 2)]
    public IReadOnlyList<long> ConvWidths { get; init; } = [16, 32, 32];

    /// <summary>Experiments.</summary>
    [Option("Which experiments are run on digits.", Choices = ["addition", "negation", "adaptation", "convolutional"])]
    public IReadOnlyList<string> Experiments { get; init; } = ["addition", "negation", "adaptation", "convolutional"];

    /// <summary>Tasks.</summary>
    [Option("How many of the tasks of each experiment are used.", Min = 2, Max = 5)]
    public int Tasks { get; init; } = 5;

    /// <summary>Training images.</summary>
    [Option("Training images of the base and of every task.", Min = 100)]
    public int TrainImages { get; init; } = 12_000;

    /// <summary>Epochs of the base.</summary>
    [Option("Epochs of the base network.", Min = 1)]
    public int BaseEpochs { get; init; } = 3;

    /// <summary>Rate in training.</summary>
    [Option("Adam's learning rate in training and fine-tuning.", Min = 1e-8)]
    public double TrainingRate { get; init; } = 1e-3;

    /// <summary>Batch in training.</summary>
    [Option("Images in a batch of training and fine-tuning.", Min = 2)]
    public int TrainingBatch { get; init; } = 128;

    /// <summary>Validation images.</summary>
    [Option("Validation images of each task, on which coefficients are learned and scales searched.", Min = 20)]
    public int ValidationImages { get; init; } = 500;

    /// <summary>Test images.</summary>
    [Option("Test images of each task.", Min = 20)]
    public int TestImages { get; init; } = 3000;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Mean.Count != Deviation.Count) throw new BadInputException("Options 'mean' and 'deviation' must have as many numbers.");
    }
}

/// <summary>How a merged model of <see cref="AtlasRecipe"/> is rebuilt and fed.</summary>
/// <param name="Architecture">The description of the network (JSON); empty for the image encoder of CLIP.</param>
/// <param name="Mean">Mean of each channel that was subtracted.</param>
/// <param name="Deviation">Deviation of each channel.</param>
public sealed record AtlasModel(string Architecture, IReadOnlyList<double> Mean, IReadOnlyList<double> Deviation);

/// <summary>aTLAS and its baselines on digits seen in several ways, and on the user's own base and fine-tuned checkpoints.</summary>
public sealed class AtlasRecipe : Recipe<AtlasRecipeOptions>
{
    /// <inheritdoc/>
    public override string Id => "atlas";

    /// <inheritdoc/>
    public override string Area => "Merging";

    /// <inheritdoc/>
    public override string Title => "aTLAS";

    /// <inheritdoc/>
    public override string Summary => "Merges fine-tuned copies of one base by learning a coefficient for every layer of every copy: adds tasks, removes one, or adapts to a new one.";

    /// <inheritdoc/>
    public override Paper Paper => new("Knowledge Composition using Task Vectors with Learned Anisotropic Scaling", "Zhang, Albert, Rodriguez-Opazo, van den Hengel, Abbasnejad", "NeurIPS", 2024, "https://arxiv.org/abs/2407.02880");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("above-search", "Mean accuracy over five tasks: a coefficient for every block is at least 0.015 above the best single scale (mean over seeds)."),
        new("partitions", "Five coefficients for every block are at least 0.01 above one (mean over seeds)."),
        new("above-zero-shot", "A coefficient for every block is at least 0.10 above the base network (mean over seeds)."),
        new("negation", "Forgetting a task, with 95 % of the control accuracy kept on validation data: the target accuracy is below that of the best single scale (mean over tasks and seeds)."),
        new("negation-control", "The networks of the claim before keep 95 % of the base's control accuracy on test data (mean over tasks and seeds)."),
        new("test-time", "Without labels, UFM on the coefficients is at least 0.02 above the base network on digits turned by 45 degrees (mean over seeds)."),
        new("convolutional", "A convolutional base and milder tasks: mean of accuracy relative to each fine-tuned network above 0.8 (mean over seeds)."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        [AtlasCheckpoints.BasePart] = "The base checkpoint (.safetensors), with --data.tuned.",
        [AtlasCheckpoints.TunedPart] = "The checkpoints fine-tuned from the base: a folder of .safetensors files, or paths with commas between them. LoRA adapters of the PEFT library will do.",
        [AtlasCheckpoints.LayersPart] = "arch.json, the layers of the checkpoints; found beside the base when not given, and not needed for the image encoder of CLIP.",
        [AtlasCheckpoints.HeadsPart] = "CLIP: text features [classes, dim] of the classes (npy, npz, safetensors), or a folder with a file for each task under its name.",
        [AtlasCheckpoints.ControlPart] = "Mode negate: labelled data of the task to keep.",
        [AtlasCheckpoints.ValidationPart] = "Mode fewshot: labelled data that choose the epoch and measure the result.",
    };

    /// <inheritdoc/>
    public override AtlasRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new AtlasRecipeOptions { Tasks = 2, Width = 32, ConvWidths = [4, 8], TrainImages = 600, BaseEpochs = 2, ValidationImages = 100, TestImages = 200, Epochs = 8, NegationEpochs = 8, AdaptationEpochs = 2 },
        // Section 4 of the paper: CLIP with AdamW 1e-3, weight decay 0.1, 20 epochs, batches of 128. The checkpoints come with --data.
        Budget.Paper => new AtlasRecipeOptions { AdditionRate = 1e-3, Epochs = 20, NegationEpochs = 20, BatchSize = 128, Flip = true, Mean = [.48145466, .4578275, .40821073], Deviation = [.26862954, .26130258, .27577711] },
        _ => new AtlasRecipeOptions(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Full ? [0, 1, 2, 3, 4] : base.Seeds(budget);

    /// <inheritdoc/>
    public override void Run(AtlasRecipeOptions options, RunContext context)
    {
        if (context.Data is { } data)
        {
            AtlasCheckpoints.Run(options, context, data);
            return;
        }
        if (context.Budget == Budget.Paper)
            throw new BadInputException("The paper composes fine-tuned CLIP models: bring them with --data VALIDATION --data.base base.safetensors --data.tuned FOLDER.");
        Digits digits = Digits.Load(context, options.TrainImages + options.ValidationImages, options.TestImages);
        context.UsedData($"the last {options.ValidationImages} training images validate");
        foreach ((string name, Action<AtlasRecipeOptions, RunContext, Digits> run) in (ReadOnlySpan<(string, Action<AtlasRecipeOptions, RunContext, Digits>)>)[("addition", RunAddition), ("negation", RunNegation), ("adaptation", RunAdaptation), ("convolutional", RunConvolutional)])
            if (options.Experiments.Contains(name)) run(options, context, digits);
    }

    // The card's main experiment: one perceptron for five views of the digits.
    private static void RunAddition(AtlasRecipeOptions options, RunContext context, Digits digits)
    {
        Architecture architecture = Architectures.Mlp([1, 28, 28], [options.Width, options.Width], 10);
        DigitTask[] tasks = [.. DigitTask.Five.Take(options.Tasks)];
        var results = new ArmTable();
        foreach (int seed in context.Seeds)
        {
            AtlasSetting setting = AtlasSetting.Train("mlp", context, options, digits, architecture, tasks, seed, linear: true);
            void Arm(string name, Action<ArmRun, Additions> body) => results.Add(name, context.Arm(name, seed, run => body(run, new Additions(options, setting, run))));
            Arm("zero-shot", (run, a) => a.Measure(setting.State("base")));
            Arm("fine-tuned, each its own", (run, a) => a.MeasureTuned());
            Arm("best scale (search)", (run, a) => a.Search());
            Arm("learned scale", (run, a) => a.Learn(setting.Vectors(), Granularity.Global));
            Arm("aTLAS", (run, a) => a.Learn(setting.Vectors(), Granularity.Block, save: seed == context.Seeds[0]));
            Arm("aTLAS, weights only", (run, a) => a.Learn(setting.Vectors(), Granularity.Block, matricesOnly: true));
            Arm($"aTLAS x{options.Groups}", (run, a) => a.Learn(setting.Vectors(), Granularity.Partition(options.Groups)));
            Arm("linearised, best scale (search)", (run, a) => a.SearchLinear());
            Arm("linearised, aTLAS", (run, a) => a.Learn(setting.Vectors("linear "), Granularity.Block, linear: true));
            foreach (int count in new[] { tasks.Length, 5 * tasks.Length })
                Arm($"{count} random directions", (run, a) => a.Learn([.. Enumerable.Range(0, count).Select(i => TaskArithmetic.RandomVector(setting.State("base"), Runtime.Seeds.Derive(seed, i)))], Granularity.Block));
        }
        context.Compare("above-search", "aTLAS against the best scale", results["aTLAS"], results["best scale (search)"], "accuracy", .015);
        context.Compare("partitions", $"aTLAS x{options.Groups} against aTLAS", results[$"aTLAS x{options.Groups}"], results["aTLAS"], "accuracy", .01);
        context.Compare("above-zero-shot", "aTLAS against the base", results["aTLAS"], results["zero-shot"], "accuracy", .10);
        context.Compare(null, "aTLAS against a learned scale", results["aTLAS"], results["learned scale"], "accuracy");
        context.Compare(null, "aTLAS against weights only", results["aTLAS"], results["aTLAS, weights only"], "accuracy");
        context.Compare(null, "aTLAS against as many random directions", results["aTLAS"], results[$"{tasks.Length} random directions"], "accuracy");
        context.Compare(null, "disentanglement error, best scale less aTLAS", results["best scale (search)"], results["aTLAS"], "disentanglement error");
        results.Write(context, "addition", "One perceptron for five views of the digits: mean test accuracy, accuracy relative to the fine-tuned networks, accuracy on upright digits, and what it took.",
            ["relative accuracy", "upright", "disentanglement error", "trained values", "alpha", "seconds"]);
        context.Figure("accuracy", "Mean accuracy over the tasks.", Charts.Bars("One network for five views of the digits", "mean test accuracy", results.Bars("accuracy")));
        context.Figure("tasks", "Accuracy on each task.", Charts.GroupedBars("Accuracy on each task", "test accuracy", [.. tasks.Select(t => t.Name)],
            [.. new[] { "zero-shot", "best scale (search)", "aTLAS", $"aTLAS x{options.Groups}", "fine-tuned, each its own" }.Select(arm => (arm, (IReadOnlyList<IReadOnlyList<double>>)[.. tasks.Select(t => (IReadOnlyList<double>)[.. results[arm].Select(r => r[t.Name])])]))]));
        Heatmap(context, "coefficients", results["aTLAS"], architecture, tasks);
    }

    // Forgetting a view that the base knows, while upright digits stay.
    private static void RunNegation(AtlasRecipeOptions options, RunContext context, Digits digits)
    {
        Architecture architecture = Architectures.Mlp([1, 28, 28], [options.Width, options.Width], 10);
        DigitTask[] tasks = [.. DigitTask.Five.Take(options.Tasks)];
        var results = new ArmTable();
        foreach (int seed in context.Seeds)
        {
            AtlasSetting setting = AtlasSetting.Train("negation", context, options, digits, architecture, tasks, seed, mixture: tasks);
            void Arm(string name, Func<TaskVector, DigitTask, (Network Network, Dictionary<string, Tensor> Base, double Floor), ArmRun, Dictionary<string, Tensor>> merge) => results.Add(name, context.Arm($"negation, {name}", seed, run =>
            {
                using Network network = setting.Base(run.Device);
                Dictionary<string, Tensor> start = setting.State("base");
                CompositionTask control = setting.Test(DigitTask.Upright), controlValidation = setting.Validation(DigitTask.Upright);
                double before = control.Accuracy(network), floor = 0.95 * controlValidation.Accuracy(network);
                List<double> forgotten = [], kept = [];
                foreach ((TaskVector vector, DigitTask task) in setting.Vectors().Zip(tasks))
                {
                    using var scope = NewDisposeScope();
                    network.Load(start);
                    Dictionary<string, Tensor> state = merge(vector, task, (network, start, floor), run);
                    network.Load(state);
                    forgotten.Add(setting.Test(task).Accuracy(network));
                    kept.Add(control.Accuracy(network));
                    run.Metric($"{task.Name} target", forgotten[^1]);
                    run.Metric($"{task.Name} control", kept[^1]);
                }
                run.Metric("target", forgotten.Average());
                run.Metric("forgotten", 1 - forgotten.Average());
                run.Metric("control", kept.Average());
                run.Metric("control kept", kept.Average() / before);
            }));
            Arm("base", (_, _, model, _) => model.Base);
            foreach ((string name, IReadOnlyList<double> alphas) in new[] { ("best scale (search)", TaskArithmetic.Alphas), ("best scale, steps of 0.01", [.. Enumerable.Range(0, 101).Select(i => i / 100.0)]) })
                Arm(name, (vector, task, model, run) =>
                {
                    CompositionTask target = setting.Validation(task), control = setting.Validation(DigitTask.Upright);
                    ScaleSearch found = TaskArithmetic.SearchScale(model.Base, [-vector], state =>
                    {
                        model.Network.Load(state);
                        return control.Accuracy(model.Network) >= model.Floor ? -target.Accuracy(model.Network) : double.NegativeInfinity;
                    }, alphas);
                    run.Metric($"{task.Name} alpha", found.Alpha);
                    return (-vector).ApplyTo(model.Base, found.Alpha);
                });
            foreach (Granularity granularity in new[] { Granularity.Global, Granularity.Block, Granularity.Partition(options.Groups) })
                Arm(granularity == Granularity.Global ? "learned scale" : granularity == Granularity.Block ? "aTLAS" : $"aTLAS x{options.Groups}", (vector, task, model, run) =>
                {
                    using var composition = new AnisotropicComposition(model.Network, [vector], granularity, seed: seed);
                    CompositionTask target = setting.Validation(task), control = setting.Validation(DigitTask.Upright);
                    TaskNegationTrainer.Fit(composition, target, control, target, control, 0.95,
                        new CompositionOptions { LearningRate = options.NegationRate, WeightDecay = options.WeightDecay, Epochs = options.NegationEpochs, BatchSize = options.BatchSize * 2 / 5, Trainer = run.Trainer, Cancellation = run.Cancellation });
                    return composition.Fold();
                });
        }
        context.Compare("negation", "forgetting: aTLAS against the best scale", results["aTLAS"], results["best scale (search)"], "forgotten", 1e-9);
        double[] kept = [.. results["aTLAS"].Select(r => r["control kept"])];
        context.Check("negation-control", kept.Average(), Comparison.AtLeast, .95, kept);
        context.Compare(null, "forgetting: aTLAS against the best scale in steps of 0.01", results["aTLAS"], results["best scale, steps of 0.01"], "forgotten");
        context.Compare(null, $"forgetting: aTLAS x{options.Groups} against the best scale", results[$"aTLAS x{options.Groups}"], results["best scale (search)"], "forgotten");
        results.Write(context, "negation", "Forgetting one view (mean over the five as targets) while upright digits stay; base trained on all views.", ["target", "control", "control kept", "seconds"], "target");
        context.Figure("negation", "Accuracy on the view to forget (lower is better) and on upright digits.", Charts.GroupedBars("Forgetting a view", "test accuracy", ["target", "control"],
            [.. results.Names.Select(arm => (arm, (IReadOnlyList<IReadOnlyList<double>>)[[.. results[arm].Select(r => r["target"])], [.. results[arm].Select(r => r["control"])]]))]));
    }

    // A new task, digits turned by 45 degrees, with task vectors of other rotations: without labels and with few.
    private static void RunAdaptation(AtlasRecipeOptions options, RunContext context, Digits digits)
    {
        Architecture architecture = Architectures.Mlp([1, 28, 28], [options.Width, options.Width], 10);
        DigitTask[] tasks = [.. DigitTask.Rotations.Take(options.Tasks)];
        DigitTask target = DigitTask.Rotation(45);
        string feature = architecture.Layers[^2].Name;
        Tensor Augment(Tensor x) => RandomResizedCrop.Apply(x, options.Crop, options.Flip);
        ArmTable testTime = new(), fewShot = new();
        foreach (int seed in context.Seeds)
        {
            AtlasSetting setting = AtlasSetting.Train("rotations", context, options, digits, architecture, tasks, seed);
            CompositionTask test = setting.Test(target);
            void Arm(ArmTable table, string kind, string name, Action<ArmRun, Network> body) => table.Add(name, context.Arm($"{kind}, {name}", seed, run =>
            {
                using Network network = setting.Base(run.Device);
                body(run, network);
            }));
            void Adapt(string name, Granularity granularity, TestTimeOptions how) => Arm(testTime, "test time", name, (run, network) =>
            {
                using var composition = new AnisotropicComposition(network, setting.Vectors(), granularity, seed: seed);
                TestTimeAdapter.Fit(composition, test.Inputs, Augment, how with { LearningRate = options.TestTimeRate, WeightDecay = options.WeightDecay, Epochs = options.AdaptationEpochs, Trainer = run.Trainer, Cancellation = run.Cancellation });
                run.Metric("accuracy", test.Accuracy(composition));
                run.Tensor("coefficients", composition.BlockCoefficients());
            });
            Arm(testTime, "test time", "zero-shot", (run, network) => run.Metric("accuracy", test.Accuracy(network)));
            Adapt("UFM, learned scale", Granularity.Global, new TestTimeOptions());
            Adapt("UFM", Granularity.Block, new TestTimeOptions());
            Adapt("UFM as in the released code", Granularity.Block, new TestTimeOptions { Reference = true });
            Adapt("SAR", Granularity.Block, new TestTimeOptions { Objective = TestTimeObjective.Sar });
            Adapt("SimCLR", Granularity.Block, new TestTimeOptions { Objective = TestTimeObjective.SimClr });

            void Shots(string name, int k, Func<IReadOnlyList<TaskVector>, Network, CompositionTask, IReadOnlyList<TaskVector>>? select = null, bool adapters = false)
            {
                Arm(fewShot, "few-shot", name, (run, network) =>
                {
                    CompositionTask examples = setting.Shots(target, k);
                    IReadOnlyList<TaskVector> vectors = select is null ? setting.Vectors() : select(setting.Vectors(), network, examples);
                    using var composition = new AnisotropicComposition(network, vectors);
                    FewShotTrainer.Fit(composition, examples, setting.Validation(target), Augment, options: new CompositionOptions { LearningRate = options.FewShotRate, WeightDecay = options.WeightDecay, Epochs = options.AdaptationEpochs, BatchSize = 128, Trainer = run.Trainer, Cancellation = run.Cancellation });
                    run.Metric("accuracy", test.Accuracy(composition));
                    if (!adapters) return;
                    composition.Install();
                    Tensor Features(Tensor x) => Inference.Outputs(network, batch => network.Evaluate(batch, feature), x);
                    (Tensor f, Tensor logits, Tensor testF, Tensor testLogits) = (Features(examples.Inputs), composition.Outputs(examples.Inputs), Features(test.Inputs), composition.Outputs(test.Inputs));
                    using TipAdapter tip = TipAdapter.Fit(f, examples.Labels, logits, new CompositionOptions { Epochs = 10, Trainer = run.Trainer, Cancellation = run.Cancellation });
                    using var probe = new LinearProbePlusPlus(f, examples.Labels, logits);
                    using var ungraphed = no_grad();
                    run.Metric("with Tip-Adapter", Classification.Accuracy(tip.call(testF, testLogits), test.Labels));
                    run.Metric("with LP++", Classification.Accuracy(probe.call(testF, testLogits), test.Labels));
                });
            }
            Arm(fewShot, "few-shot", "zero-shot", (run, network) => run.Metric("accuracy", test.Accuracy(network)));
            foreach (int k in new[] { 1, 4, 16 }) Shots($"{k} a class", k, adapters: true);
            Tensor Loss(Func<Tensor, Tensor> f, CompositionTask examples) => functional.cross_entropy(f(examples.Inputs), examples.Labels);
            const int Budget = 2;
            Shots($"16 a class, {Budget} random vectors", 16, (v, _, _) => [.. TaskVectorSelector.Random(v.Count, Budget, seed).Select(i => v[i])]);
            Shots($"16 a class, {Budget} by features", 16, (v, network, examples) =>
            {
                Tensor Mean(Tensor x) => Inference.Outputs(network, batch => network.Evaluate(batch, feature), x).mean([0]);
                return [.. TaskVectorSelector.FeatureSimilarity(Mean(examples.Inputs), stack([.. tasks.Select(t => Mean(setting.Validation(t).Inputs))]), Budget).Select(i => v[i])];
            });
            Shots($"16 a class, {Budget} by gradient", 16, (v, network, examples) =>
            {
                using var all = new AnisotropicComposition(network, v);
                return [.. TaskVectorSelector.Gradient(TaskVectorSelector.GradientAtBase(all, f => Loss(f, examples)), Budget).Select(i => v[i])];
            });
            Shots($"16 a class, {Budget} of blocks by gradient", 16, (v, network, examples) =>
            {
                using var all = new AnisotropicComposition(network, v);
                return TaskVectorSelector.BlockwiseGradient(all, TaskVectorSelector.GradientAtBase(all, f => Loss(f, examples)), Budget);
            });
        }
        context.Compare("test-time", "without labels: UFM against the base", testTime["UFM"], testTime["zero-shot"], "accuracy", .02);
        foreach (string other in new[] { "UFM, learned scale", "UFM as in the released code", "SAR", "SimCLR" })
            context.Compare(null, $"without labels: UFM against {other}", testTime["UFM"], testTime[other], "accuracy");
        testTime.Write(context, "test-time", "Digits turned by 45 degrees, without labels, with task vectors of 30 to 150 degrees.", ["seconds"]);
        fewShot.Write(context, "few-shot", "Digits turned by 45 degrees, with few labels, with task vectors of 30 to 150 degrees.", ["with Tip-Adapter", "with LP++", "seconds"]);
        context.Figure("test-time", "Accuracy on digits turned by 45 degrees without labels.", Charts.Bars("Adaptation without labels", "test accuracy", testTime.Bars("accuracy")));
        context.Figure("few-shot", "Accuracy on digits turned by 45 degrees with few labels.", Charts.Bars("Adaptation with few labels", "test accuracy", fewShot.Bars("accuracy")));
    }

    private static void RunConvolutional(AtlasRecipeOptions options, RunContext context, Digits digits)
    {
        // Without batch normalisation, whose statistics would have to be estimated anew.
        Architecture normalised = Architectures.ConvNet([1, 28, 28], options.ConvWidths, 10);
        Architecture architecture = normalised with { Layers = [.. normalised.Layers.Where(l => l.Kind != LayerKind.BatchNorm).Select(l => l.Kind == LayerKind.Conv2d ? l with { Bias = true, Stride = 2 } : l.Kind == LayerKind.GlobalAvgPool ? new Layer("flatten", LayerKind.Flatten) : l)] };
        DigitTask[] tasks = [.. DigitTask.Mild.Take(options.Tasks)];
        var results = new ArmTable();
        foreach (int seed in context.Seeds)
        {
            AtlasSetting setting = AtlasSetting.Train("conv", context, options, digits, architecture, tasks, seed);
            void Arm(string name, Action<ArmRun, Additions> body) => results.Add(name, context.Arm($"conv, {name}", seed, run => body(run, new Additions(options, setting, run))));
            Arm("zero-shot", (run, a) => a.Measure(setting.State("base")));
            Arm("fine-tuned, each its own", (run, a) => a.MeasureTuned());
            Arm("best scale (search)", (run, a) => a.Search());
            Arm("aTLAS", (run, a) => a.Learn(setting.Vectors(), Granularity.Block));
            Arm($"aTLAS x{options.Groups}", (run, a) => a.Learn(setting.Vectors(), Granularity.Partition(options.Groups)));
        }
        double[] relative = [.. results["aTLAS"].Select(r => r["relative accuracy"])];
        context.Check("convolutional", relative.Average(), Comparison.AtLeast, .8, relative);
        context.Compare(null, "convolutional: aTLAS against the best scale", results["aTLAS"], results["best scale (search)"], "accuracy");
        context.Compare(null, $"convolutional: aTLAS x{options.Groups} against aTLAS", results[$"aTLAS x{options.Groups}"], results["aTLAS"], "accuracy");
        results.Write(context, "convolutional", "One convolutional network for five milder views.", ["relative accuracy", "upright", "disentanglement error", "trained values", "alpha", "seconds"]);
    }

    private static void Heatmap(RunContext context, string name, IReadOnlyList<ArmResult> arm, Architecture architecture, DigitTask[] tasks)
    {
        using var scope = NewDisposeScope();
        Tensor mean = stack([.. arm.Select(r => r.Tensor("coefficients"))]).mean([0]).mean([2]);
        using var network = new Network(architecture);
        string[] blocks = [.. network.named_parameters().Select(p => p.name)];
        var values = new double[tasks.Length, blocks.Length];
        for (int i = 0; i < tasks.Length; i++)
            for (int j = 0; j < blocks.Length; j++) values[i, j] = mean[i, j].ToDouble();
        context.Figure(name, "Learned coefficients, mean over seeds.", Charts.Heatmap("Coefficients of aTLAS", values, "block", "task vector", blocks, [.. tasks.Select(t => t.Name)]));
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context) => AtlasCheckpoints.Apply(run, context);

    // Learns and measures in one arm.
    private sealed class Additions(AtlasRecipeOptions options, AtlasSetting setting, ArmRun run)
    {
        private readonly double[] _tuned = [.. setting.Tasks.Select(t => Tuned(setting, t, setting.Validation(t)))];

        public void Measure(Dictionary<string, Tensor> state)
        {
            using Network network = new Network(setting.Architecture).Load(state);
            network.to(run.Device).eval();
            Measure(task => task.Accuracy(network));
        }

        public void MeasureTuned() => Measure(task => setting.Tasks.FirstOrDefault(t => t.Name == task.Name) is { } own ? Tuned(setting, own, task) : double.NaN);

        public void Search()
        {
            using Network network = setting.Base(run.Device);
            CompositionTask[] validation = [.. setting.Tasks.Select(setting.Validation)];
            TaskVector[] vectors = setting.Vectors();
            ScaleSearch found = TaskArithmetic.SearchScale(setting.State("base"), vectors, state =>
            {
                network.Load(state);
                return validation.Select((task, t) => task.Accuracy(network) / _tuned[t]).Average();
            });
            run.Metric("alpha", found.Alpha);
            run.Series("search", [.. found.Curve.Select(c => c.Alpha)], [.. found.Curve.Select(c => c.Score)]);
            network.Load(setting.State("base"));
            using var composition = new AnisotropicComposition(network, vectors, Granularity.Global);
            composition.Set(full(1, found.Alpha));
            Measure(composition);
        }

        public void SearchLinear()
        {
            using Network network = setting.Base(run.Device);
            CompositionTask[] validation = [.. setting.Tasks.Select(setting.Validation)];
            using var composition = new LinearizedComposition(network, setting.Vectors("linear "), Granularity.Global);
            (double alpha, _) = TaskArithmetic.Alphas.Select(alpha =>
            {
                composition.Set(full(1, alpha));
                return (alpha, Score: validation.Select((task, t) => task.Accuracy(composition) / _tuned[t]).Average());
            }).MaxBy(p => p.Score);
            run.Metric("alpha", alpha);
            composition.Set(full(1, alpha));
            Measure(composition);
        }

        public void Learn(TaskVector[] vectors, Granularity granularity, bool matricesOnly = false, bool linear = false, bool save = false)
        {
            using Network network = setting.Base(run.Device);
            CompositionTask[] validation = [.. setting.Tasks.Select(setting.Validation)];
            using AnisotropicComposition composition = linear ? new LinearizedComposition(network, vectors, granularity, matricesOnly, run.Seed) : new AnisotropicComposition(network, vectors, granularity, matricesOnly, run.Seed);
            CompositionResult result = TaskAdditionTrainer.Fit(composition, validation, validation, _tuned, new CompositionOptions
            {
                LearningRate = options.AdditionRate, WeightDecay = options.WeightDecay, Epochs = options.Epochs, BatchSize = options.BatchSize, Penalty = options.Penalty, Trainer = run.Trainer, Cancellation = run.Cancellation,
            });
            run.Include(result.History);
            run.Metric("epoch", result.Epoch);
            run.Metric("trained values", composition.Coefficients.numel());
            run.Tensor("coefficients", composition.BlockCoefficients());
            Measure(composition, vectors.Length == setting.Tasks.Count);
            if (save) run.SaveModel("merged", composition.Fold(), new AtlasModel(setting.Architecture.ToJson(), [], []));
        }

        private void Measure(AnisotropicComposition composition, bool ofTasks = true)
        {
            Measure(task => task.Accuracy(composition));
            if (!ofTasks) return;
            double[,] errors = TaskArithmetic.DisentanglementErrors(composition, [.. setting.Tasks.Select(t => setting.Test(t).Inputs)]);
            int n = setting.Tasks.Count;
            run.Metric("disentanglement error", errors.Cast<double>().Sum() / (n * (n - 1)));
        }

        private void Measure(Func<CompositionTask, double> accuracy)
        {
            double[] each = [.. setting.Tasks.Select(t => accuracy(setting.Test(t)))];
            foreach ((DigitTask task, double value) in setting.Tasks.Zip(each)) run.Metric(task.Name, value);
            run.Metric("accuracy", each.Average());
            run.Metric("relative accuracy", each.Select((a, t) => a / Tuned(setting, setting.Tasks[t], setting.Test(setting.Tasks[t]))).Average());
            if (accuracy(setting.Test(DigitTask.Upright)) is var upright && double.IsFinite(upright)) run.Metric("upright", upright);
        }

        private static double Tuned(AtlasSetting setting, DigitTask task, CompositionTask on)
        {
            using Network network = new Network(setting.Architecture).Load(setting.State(task.Name));
            network.eval();
            return on.Accuracy(network);
        }
    }

    // Results of arms in the order of their first appearance.
    private sealed class ArmTable
    {
        private readonly Dictionary<string, List<ArmResult>> _results = [];

        public IEnumerable<string> Names => _results.Keys;

        public IReadOnlyList<ArmResult> this[string arm] => _results[arm];

        public void Add(string name, ArmResult result)
        {
            if (!_results.TryGetValue(name, out List<ArmResult>? list)) _results[name] = list = [];
            list.Add(result);
        }

        public IReadOnlyList<(string, IReadOnlyList<double>)> Bars(string metric) => [.. _results.Select(r => (r.Key, (IReadOnlyList<double>)[.. r.Value.Select(x => x[metric])]))];

        public void Write(RunContext context, string name, string caption, IReadOnlyList<string> metrics, string main = "accuracy")
        {
            string Mean(List<ArmResult> arm, string metric) => metric == "seconds" ? arm.Average(r => r.Seconds).ToString("0.0", CultureInfo.InvariantCulture)
                : arm.All(r => r.Metrics.ContainsKey(metric)) ? arm.Average(r => r[metric]).ToString("0.####", CultureInfo.InvariantCulture) : "";
            context.Table(name, caption, ["arm", main, .. context.Seeds.Select(s => $"seed {s}"), .. metrics.Where(m => m != main)],
                [.. _results.Select(r => (IReadOnlyList<string>)[r.Key, Mean(r.Value, main), .. r.Value.Select(x => x[main].ToString("0.000", CultureInfo.InvariantCulture)), .. metrics.Where(m => m != main).Select(m => Mean(r.Value, m))])]);
        }
    }
}
