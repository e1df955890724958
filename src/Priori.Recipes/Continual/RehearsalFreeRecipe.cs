using System.Globalization;
using System.Text.Json;
using Priori.Continual;
using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Continual;

/// <summary>Options of <see cref="RehearsalFreeRecipe"/>.</summary>
public sealed record RehearsalFreeOptions : RecipeOptions
{
    /// <summary>Methods.</summary>
    [Option("Methods: parts joined by '+' of ft, ft-labels, predkd, featkd, l2, l2-qkv, ewc, probe, prompts, joint; -scratch: without pre-training. On own data the first one gives the model; predkd+l2 unless given, l2-qkv for a transformer of your own.")]
    public IReadOnlyList<string> Methods { get; init; } = [];

    /// <summary>Experiments on default data.</summary>
    [Option("Default data: digits with a perceptron (A), images with a small vision transformer (B), or both.", Choices = ["both", "digits", "images"])]
    public string Experiment { get; init; } = "both";

    /// <summary>Number of tasks.</summary>
    [Option("Own data in one folder or file: number of tasks that the classes are split into.", Min = 1)]
    public int Tasks { get; init; } = 5;

    /// <summary>Reappearing classes.</summary>
    [Option("Own tasks: a class that occurs in a later task again is refused, or trained further.", Choices = ["refuse", "allow"])]
    public string Reappearing { get; init; } = "refuse";

    /// <summary>Steps of a task.</summary>
    [Option("Training steps of a task; on own data 10 epochs of the first task unless given.", Min = 1)]
    public int? Steps { get; init; }

    /// <summary>Batch size.</summary>
    [Option("Samples of a batch.", Min = 1)]
    public int BatchSize { get; init; } = 64;

    /// <summary>Learning rate.</summary>
    [Option("Adam's learning rate.", Min = 1e-8)]
    public double LearningRate { get; init; } = 3e-4;

    /// <summary>Classification loss.</summary>
    [Option("Classification loss of all methods but ft and joint: softmax or sigmoids over the task's classes.", Choices = ["local-bce", "local-ce"])]
    public string Loss { get; init; } = "local-bce";

    /// <summary>Form of PredKD.</summary>
    [Option("Form of prediction distillation.")]
    public DistillationForm KdForm { get; init; } = DistillationForm.Sigmoid;

    /// <summary>Weight of PredKD.</summary>
    [Option("Weight of prediction distillation (own data).", Min = 0)]
    public double LambdaKd { get; init; } = 1;

    /// <summary>Weight of FeatKD.</summary>
    [Option("Weight of feature distillation (own data).", Min = 0)]
    public double LambdaFeat { get; init; } = 1e-3;

    /// <summary>Weight of L2.</summary>
    [Option("Weight of L2 to the anchor (own data).", Min = 0)]
    public double LambdaL2 { get; init; } = .1;

    /// <summary>Weight of EWC.</summary>
    [Option("Weight of elastic weight consolidation (own data).", Min = 0)]
    public double LambdaEwc { get; init; } = 100;

    /// <summary>Regularised parameters.</summary>
    [Option("What l2 and ewc regularise: backbone, all (with the head rows of earlier classes), qkv, or a regular expression on parameter names.")]
    public string Params { get; init; } = "backbone";

    /// <summary>Anchor.</summary>
    [Option("Where l2 and ewc pull to: the weights after the previous task, or always the first ones.")]
    public AnchorMode Anchor { get; init; } = AnchorMode.Previous;

    /// <summary>Memory of EWC.</summary>
    [Option("One running Fisher information, or one a task.")]
    public EwcMemory EwcMemory { get; init; } = EwcMemory.Online;

    /// <summary>Kind of Fisher information.</summary>
    [Option("Fisher information of the labels, or of the model's own predictions.")]
    public FisherKind Fisher { get; init; } = FisherKind.Empirical;

    /// <summary>Samples of the Fisher information.</summary>
    [Option("Samples of a task that its Fisher information is estimated from.", Min = 1)]
    public int FisherSamples { get; init; } = 2000;

    /// <summary>Batch normalisation.</summary>
    [Option("Whether running statistics of batch normalisation stay what they are after the first task.")]
    public bool FreezeBatchNorm { get; init; }

    /// <summary>Network for own data.</summary>
    [Option("Own data without a model: the network; vit-b16 is the paper's (224 x 224).", Choices = ["auto", "mlp", "conv", "vit", "vit-b16"])]
    public string Network { get; init; } = "auto";

    /// <summary>Image size.</summary>
    [Option("Own images without a model: height and width they are brought to.", Min = 8)]
    public int Size { get; init; } = 32;

    /// <summary>Held-out share.</summary>
    [Option("Own data without a test part: share of each class held out for the accuracy matrix.", Min = 0.01, Max = 0.9)]
    public double TestShare { get; init; } = .2;

    /// <summary>Mean of each channel.</summary>
    [Option("Own data: mean of each channel, subtracted from inputs in 0..1; empty for none.")]
    public IReadOnlyList<double> Mean { get; init; } = [];

    /// <summary>Deviation of each channel.</summary>
    [Option("Own data: deviation of each channel, which inputs are divided by.")]
    public IReadOnlyList<double> Deviation { get; init; } = [];

    /// <summary>Training images.</summary>
    [Option("Digits: training images.", Min = 500)]
    public int TrainImages { get; init; } = 60_000;

    /// <summary>Test images.</summary>
    [Option("Digits: test images.", Min = 100)]
    public int TestImages { get; init; } = 10_000;

    /// <summary>Hidden widths.</summary>
    [Option("Digits: hidden widths of the perceptron.", Min = 2)]
    public IReadOnlyList<long> Hidden { get; init; } = [256, 256];

    /// <summary>Steps of the pre-training.</summary>
    [Option("Digits: steps of the pre-training on seven turned and mirrored copies (70 classes), batch 128, Adam 1e-3.", Min = 1)]
    public int PretrainSteps { get; init; } = 1500;

    /// <summary>Classes of a task.</summary>
    [Option("Classes of a task of the default data.", Min = 1)]
    public int ClassesPerTask { get; init; } = 2;

    /// <summary>Most tasks.</summary>
    [Option("Most tasks of the default data.", Min = 1)]
    public int MostTasks { get; init; } = 5;

    /// <summary>Methods on digits.</summary>
    [Option("Digits: methods when 'methods' is empty.")]
    public IReadOnlyList<string> DigitMethods { get; init; } =
        ["ft", "ft-labels", "predkd", "l2", "ewc", "featkd", "predkd+l2", "predkd+ewc", "predkd+featkd", "probe", "joint", "ft-scratch", "predkd-scratch", "predkd+l2-scratch", "predkd+ewc-scratch"];

    /// <summary>Methods on images.</summary>
    [Option("Images: methods when 'methods' is empty.")]
    public IReadOnlyList<string> ImageMethods { get; init; } = ["ft", "ft-labels", "l2", "l2-qkv", "ewc", "probe", "prompts", "joint"];

    /// <summary>Grid of PredKD.</summary>
    [Option("Weights tried for predkd on the held-out seeds.", Min = 0)]
    public IReadOnlyList<double> KdGrid { get; init; } = [.3, 1, 3, 10];

    /// <summary>Grid of FeatKD.</summary>
    [Option("Weights tried for featkd.", Min = 0)]
    public IReadOnlyList<double> FeatGrid { get; init; } = [1e-4, 1e-3, 1e-2, 1e-1];

    /// <summary>Grid of L2.</summary>
    [Option("Weights tried for l2 and l2-qkv.", Min = 0)]
    public IReadOnlyList<double> L2Grid { get; init; } = [.01, .03, .1, .3];

    /// <summary>Grid of EWC.</summary>
    [Option("Weights tried for ewc.", Min = 0)]
    public IReadOnlyList<double> EwcGrid { get; init; } = [1, 10, 100, 1000];

    /// <summary>Held-out seeds.</summary>
    [Option("Seeds on which the weights are chosen, on samples kept back from training; none of them is measured.")]
    public IReadOnlyList<int> TuneSeeds { get; init; } = [1000, 1001];

    /// <summary>Images of a class.</summary>
    [Option("Images: training images of a class.", Min = 20)]
    public int ImagesPerClass { get; init; } = 2500;

    /// <summary>Test images of a class.</summary>
    [Option("Images: test images of a class.", Min = 5)]
    public int TestPerClass { get; init; } = 200;

    /// <summary>Pre-training steps of the transformer.</summary>
    [Option("Images: steps of the pre-training on four classes in four rotations (16 classes), Adam 1e-3.", Min = 1)]
    public int VitPretrainSteps { get; init; } = 1000;

    /// <summary>Steps of a task of the transformer.</summary>
    [Option("Images: training steps of a task.", Min = 1)]
    public int VitSteps { get; init; } = 60;

    /// <summary>Seeds of the experiment on images.</summary>
    [Option("Images: how many of the run's seeds are used.", Min = 1)]
    public int ImageSeeds { get; init; } = 5;

    /// <summary>Batch size of the transformer.</summary>
    [Option("Images: samples of a batch.", Min = 1)]
    public int VitBatchSize { get; init; } = 64;

    /// <summary>Learning rate of the transformer.</summary>
    [Option("Images: Adam's learning rate in the tasks.", Min = 1e-8)]
    public double VitLearningRate { get; init; } = 3e-4;

    /// <summary>Width of the transformer.</summary>
    [Option("Images: width of the transformer's tokens.", Min = 4)]
    public int VitWidth { get; init; } = 64;

    /// <summary>Depth of the transformer.</summary>
    [Option("Images: blocks of the transformer.", Min = 1)]
    public int VitDepth { get; init; } = 4;

    /// <summary>Patch of the transformer.</summary>
    [Option("Images: side of a patch; must divide 32.", Min = 1)]
    public int VitPatch { get; init; } = 8;

    /// <inheritdoc/>
    public override void Validate()
    {
        foreach (string name in Methods.Concat(DigitMethods).Concat(ImageMethods)) ContinualMethod.Parse(name);
        if (Mean.Count != Deviation.Count) throw new BadInputException("Options 'mean' and 'deviation' must have as many numbers.");
        if (32 % VitPatch != 0) throw new BadInputException($"Option 'vit-patch' must divide 32; it was {VitPatch}.");
        _ = Selector();
        if (KdGrid.Count == 0 || FeatGrid.Count == 0 || L2Grid.Count == 0 || EwcGrid.Count == 0) throw new BadInputException("Each grid needs at least one weight.");
    }

    internal ParameterSelector Selector()
    {
        try
        {
            return Params switch
            {
                "backbone" => ParameterSelector.Backbone,
                "all" => ParameterSelector.All,
                "qkv" => ParameterSelector.Attention(),
                _ => ParameterSelector.Regex(Params),
            };
        }
        catch (ArgumentException exception)
        {
            throw new BadInputException($"Option 'params' is backbone, all, qkv or a regular expression; '{Params}' is none: {exception.Message}", exception);
        }
    }
}

/// <summary>What is known of a saved model of <see cref="RehearsalFreeRecipe"/>.</summary>
/// <param name="Architecture">The network with its head, as JSON.</param>
/// <param name="Classes">Name of the class of each output.</param>
/// <param name="Tasks">Names of the tasks it has learned.</param>
/// <param name="Mean">Mean of each channel that was subtracted.</param>
/// <param name="Deviation">Deviation of each channel.</param>
public sealed record RehearsalFreeModel(string Architecture, IReadOnlyList<string> Classes, IReadOnlyList<string> Tasks, IReadOnlyList<double> Mean, IReadOnlyList<double> Deviation);

/// <summary>Rehearsal-free continual learning: regularisation, distillation and their baselines on sequences of tasks, and on the user's own sequence.</summary>
public sealed class RehearsalFreeRecipe : Recipe<RehearsalFreeOptions>
{
    private const string ModelPart = "model", LayersPart = "arch", Final = "final", Best = "predkd+l2";
    private const int VitFisherSamples = 256; // position and class token take a pass a sample
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    /// <inheritdoc/>
    public override string Id => "rehearsal-free";

    /// <inheritdoc/>
    public override string Area => "Continual";

    /// <inheritdoc/>
    public override string Title => "Rehearsal-free continual learning";

    /// <inheritdoc/>
    public override string Summary => "Learns tasks with new classes one after another without keeping old samples: any mix of distillation, L2 and Fisher anchors, measured by accuracy and forgetting.";

    /// <inheritdoc/>
    public override Paper Paper => new("A Closer Look at Rehearsal-Free Continual Learning", "Smith, Tian, Halbe, Hsu, Kira", "CVPR Workshops", 2023, "https://arxiv.org/abs/2203.17269");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("above-ft", "Digits: the final accuracy of PredKD+L2 is at least 0.20 above plain fine-tuning."),
        new("above-predkd", "Digits: PredKD+L2 is at least 0.01 above PredKD."),
        new("with-ewc", "Digits: PredKD+L2 is at most 0.015 below PredKD+EWC."),
        new("above-featkd", "Digits: PredKD+L2 is at least as good as PredKD+FeatKD."),
        new("qkv-above-ft", "Images, small vision transformer: L2 on the attention projections alone is at least 0.05 above fine-tuning the whole network with the same local loss."),
        new("qkv-with-ewc", "Images: L2 on the attention projections is at most 0.01 below EWC on the whole network."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        [ModelPart] = "A pre-trained network to start from (safetensors), for example a vision transformer; its last linear layer is replaced by the growing head.",
        [LayersPart] = "arch.json, the layers of that network; found beside it when not given.",
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2, 3, 4];

    /// <inheritdoc/>
    public override RehearsalFreeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new RehearsalFreeOptions
        {
            Steps = 20, PretrainSteps = 30, TrainImages = 3000, TestImages = 500, MostTasks = 2, Hidden = [64, 64], FisherSamples = 100, TuneSeeds = [1000],
            KdGrid = [1], FeatGrid = [1e-3], L2Grid = [.1, 1], EwcGrid = [1e3],
            ImagesPerClass = 60, TestPerClass = 10, VitPretrainSteps = 4, VitSteps = 3, VitBatchSize = 16, VitWidth = 16, VitDepth = 1, VitPatch = 8, BatchSize = 16,
        },
        // Ten tasks of ImageNet-R or CIFAR-100 with ViT-B/16, fine-tuned with Adam at 5e-5; the data and the pre-trained model come with --data and --data.model.
        Budget.Paper => new RehearsalFreeOptions { Methods = ["l2-qkv"], Network = "vit-b16", Size = 224, Tasks = 10, BatchSize = 128, LearningRate = 5e-5, Loss = "local-ce", Mean = [.5, .5, .5], Deviation = [.5, .5, .5] },
        _ => new RehearsalFreeOptions(),
    };

    /// <inheritdoc/>
    public override void Run(RehearsalFreeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        if (context.Data is { } data) RunOwn(options, context, data);
        else if (context.Budget == Budget.Paper) throw new BadInputException("The paper learns ImageNet-R and CIFAR-100 from a pre-trained ViT-B/16: bring the images with --data FOLDER and the network with --data.model vit.safetensors.");
        else
        {
            if (options.Experiment != "images") RunDigits(options, context);
            if (options.Experiment != "digits") RunImages(options, context);
        }
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        string name = run.Models.Contains(Final) ? Final : throw new BadInputException($"Run {run.Folder} kept no final model.");
        RehearsalFreeModel model = run.Description<RehearsalFreeModel>(name);
        Architecture architecture = Architecture.FromJson(model.Architecture);
        Examples examples = Examples.Read(context.DataPath, architecture.Input, model.Mean, model.Deviation);
        using Network network = new Network(architecture).Load(run.Model(name));
        network.to(context.Device);
        using var ungraphed = no_grad();
        Tensor logits = Inference.Outputs(network, examples.Inputs);
        (Tensor probabilities, Tensor rows) = logits.softmax(1).max(1);
        long[] row = rows.data<long>().ToArray();
        float[] probability = probabilities.data<float>().ToArray();
        Csv.Write(context.OutPath, ["row", "class", "probability"], row.Select((r, i) => (string[])[$"{i}", model.Classes[(int)r], Numbers.Text(probability[i], "0.######")]));
        context.Report($"Predicted {row.Length} rows among {model.Classes.Count} classes.");
    }

    // A. Split-MNIST with a pre-trained perceptron.
    private static void RunDigits(RehearsalFreeOptions options, RunContext context)
    {
        Digits digits = Digits.Load(context, options.TrainImages, options.TestImages);
        (Tensor x, Tensor y) = digits.TrainPart(0, options.TrainImages);
        (Tensor testX, Tensor testY) = digits.TestPart(0, options.TestImages);
        var experiment = new Experiment("digits", options, context)
        {
            Data = new LabelledParts(x, y, testX, testY, digits.Train.Classes),
            Network = Architectures.Mlp([1, 28, 28], options.Hidden, 70),
            Methods = [.. Chosen(options, options.DigitMethods).Where(m => !m.Has("prompts") && !m.Has("l2-qkv"))],
            Training = Training(options) with { Steps = options.Steps ?? 100 },
            Pretraining = new SymmetrySource(x, y, 10, [1, 2, 3, 4, 5, 6, 7]),
            PretrainSteps = options.PretrainSteps,
        };
        experiment.Run();
        experiment.Compare("above-ft", Best, "ft", .20);
        experiment.Compare("above-predkd", Best, "predkd", .01);
        experiment.Compare("with-ewc", Best, "predkd+ewc", -.015);
        experiment.Compare("above-featkd", Best, "predkd+featkd", 0);
        foreach (string other in new[] { "ft-labels", "l2", "ewc", "probe", "joint" }) experiment.Compare(null, Best, other, 0);
        experiment.Compare(null, "l2", "ewc", 0);
        experiment.Compare(null, "l2", "featkd", 0);
        experiment.Compare(null, "predkd+l2-scratch", "predkd-scratch", 0);
        experiment.Compare(null, "predkd+l2-scratch", "predkd+ewc-scratch", 0);
        experiment.Report(Best);
    }

    // B. CIFAR-10 (or larger generated digits) with a pre-trained small vision transformer.
    private static void RunImages(RehearsalFreeOptions options, RunContext context)
    {
        (LabelledParts data, IReadOnlyList<long> pretraining) = Images(options, context);
        LabelledParts first = data.Only(pretraining);
        Tensor classes = tensor(pretraining.ToArray());
        long channels = data.Inputs.shape[1];
        var experiment = new Experiment("images", options, context)
        {
            Data = data.Only([.. Enumerable.Range(0, 10).Select(c => (long)c).Except(pretraining)]),
            Network = Architectures.VisionTransformer(channels, 32, options.VitPatch, options.VitWidth, options.VitDepth, 4, 2 * options.VitWidth, 4 * pretraining.Count),
            Methods = [.. Chosen(options, options.ImageMethods)],
            Seeds = [.. context.Seeds.Take(options.ImageSeeds)],
            Pretraining = new SymmetrySource(first.Inputs, first.Labels.unsqueeze(1).eq(classes).to(int64).argmax(1), pretraining.Count, [0, 1, 2, 3]),
            PretrainSteps = options.VitPretrainSteps,
            SharedPretraining = true,
            Training = Training(options) with { Steps = options.VitSteps, FisherSamples = Math.Min(options.FisherSamples, VitFisherSamples), LearningRate = options.VitLearningRate, BatchSize = options.VitBatchSize },
        };
        experiment.Run();
        experiment.Compare("qkv-above-ft", "l2-qkv", "ft-labels", .05);
        experiment.Compare("qkv-with-ewc", "l2-qkv", "ewc", -.01);
        foreach (string other in new[] { "ft", "l2", "probe", "prompts", "joint" }) experiment.Compare(null, "l2-qkv", other, 0);
        experiment.Report("l2-qkv");
    }

    private static (LabelledParts Data, IReadOnlyList<long> Pretraining) Images(RehearsalFreeOptions options, RunContext context)
    {
        int train = 10 * options.ImagesPerClass, test = 10 * options.TestPerClass;
        if (context.DataFolder.Find("cifar10-jpeg") is { } folder)
        {
            string zip = Path.Combine(folder, "cifar10-jpeg.zip");
            (Tensor x, Tensor y, IReadOnlyList<string> names) = FirstOfEach(ImageFolder.Read(zip, null, "train"), options.ImagesPerClass);
            (Tensor testX, Tensor testY, _) = FirstOfEach(ImageFolder.Read(zip, null, "test"), options.TestPerClass);
            context.UsedData($"CIFAR-10 (JPEG), {x.shape[0]} training and {testX.shape[0]} test images");
            return (new LabelledParts(x, y, testX, testY, names), [0, 3, 7, 8]); // airplane, cat, horse, ship
        }
        context.UsedData($"glyph digits at 32 x 32 (generated), {train} training and {test} test images");
        ImageDataset digits = GlyphDigits.Generate(train, seed: 3, size: 32), more = GlyphDigits.Generate(test, seed: 4, size: 32);
        return (new LabelledParts(Scaled(digits.Images), digits.Labels, Scaled(more.Images), more.Labels, digits.Classes), [2, 4, 5, 7]);
    }

    private static (Tensor X, Tensor Y, IReadOnlyList<string> Classes) FirstOfEach(ImageDataset images, int count)
    {
        using var scope = NewDisposeScope();
        // Interleaved, so that the last rows hold all classes.
        Tensor[] rows = [.. Enumerable.Range(0, images.Classes.Count).Select(c => TaskSplits.Rows(images.Labels, [c])).Select(r => r.narrow(0, 0, Math.Min(count, r.shape[0])))];
        long each = rows.Min(r => r.shape[0]);
        Tensor order = stack([.. rows.Select(r => r.narrow(0, 0, each))], 1).flatten();
        Tensor x = Scaled(images.Images.index_select(0, order)), y = images.Labels.index_select(0, order);
        return (x.MoveToOuterDisposeScope(), y.MoveToOuterDisposeScope(), images.Classes);
    }

    private static Tensor Scaled(Tensor bytes) => bytes.to(float32).div_(255).sub_(.5).div_(.25);

    private static IEnumerable<ContinualMethod> Chosen(RehearsalFreeOptions options, IReadOnlyList<string> standard)
        => (options.Methods.Count > 0 ? options.Methods : standard).Distinct().Select(ContinualMethod.Parse);

    private static ContinualTraining Training(RehearsalFreeOptions options) => new(options.Steps ?? 100, options.BatchSize, options.LearningRate,
        options.Loss == "local-ce" ? ClassificationLoss.LocalCE : ClassificationLoss.LocalBCE, options.FisherSamples)
    {
        Weights = new PenaltyWeights(options.LambdaKd, options.LambdaFeat, options.LambdaL2, options.LambdaL2, options.LambdaEwc),
        Regularised = options.Selector(),
        FreezeBatchNorm = options.FreezeBatchNorm,
        AllowReappearing = options.Reappearing == "allow",
        EwcMemory = options.EwcMemory,
        FisherKind = options.Fisher,
        KdForm = options.KdForm,
        Anchor = options.Anchor,
    };

    private static void RunOwn(RehearsalFreeOptions options, RunContext context, UserData data)
    {
        if (data.Path.Length == 0) throw new BadInputException("Give the tasks with --data FOLDER: one folder a task (each a folder of images by class), or one folder, zip, .npz or .safetensors file that is split.");
        Network? model = data.Parts.TryGetValue(ModelPart, out string? checkpoint) ? UserModel.Load(checkpoint, data.Parts.GetValueOrDefault(LayersPart)) : null;
        try
        {
            OwnSequence own = Refusing(data.Path, () => OwnSequence.Read(data.Path, model?.Architecture.Input, options.Size, options.TestShare, context.Seeds[0], options.Mean, options.Deviation));
            Architecture full = model?.Architecture ?? Refusing(data.Path, () => Describe(options, own.Shape));
            Architecture trunk = Refusing(checkpoint ?? data.Path, full.Trunk);
            string head = full.Layers[^1].Name + ".";
            var start = new BackboneStart(trunk, model?.State().Where(p => !p.Key.StartsWith(head, StringComparison.Ordinal)).ToDictionary(p => p.Key, p => p.Value), null);
            bool transformer = trunk.Layers.Any(l => l.Kind == LayerKind.Attention);
            ContinualMethod[] methods = [.. Chosen(options, [transformer && model is not null ? "l2-qkv" : Best, "ft"])];
            IReadOnlyList<ContinualTask> Sequence(int seed) => own.Sequence ?? Refusing(data.Path, () => own.Whole!.Split(Math.Max(1, (int)Math.Ceiling((double)own.Classes.Count / options.Tasks)), seed));
            IReadOnlyList<ContinualTask> first = Sequence(context.Seeds[0]);
            CheckReappearing(data.Path, first, own.Classes, options.Reappearing == "allow");
            context.UsedData($"{data.Path}: {first.Count} tasks, {own.Classes.Count} classes, {first.Sum(t => t.Inputs.shape[0])} training and {first.Sum(t => t.TestInputs.shape[0])} test samples");
            int steps = options.Steps ?? (int)Math.Max(1, 10 * first[0].Inputs.shape[0] / options.BatchSize);
            var results = methods.ToDictionary(m => m.Name, _ => new List<ArmResult>());
            foreach (int seed in context.Seeds)
            {
                IReadOnlyList<ContinualTask> tasks = Sequence(seed);
                foreach (ContinualMethod method in methods)
                    results[method.Name].Add(context.Arm(method.Name, seed, run => Refusing(data.Path, () =>
                    {
                        Action<int, ContinualLearner>? save = method == methods[0] && seed == context.Seeds[0] && !method.Has("prompts")
                            ? (task, learner) =>
                            {
                                string[] learned = [.. tasks.Take(method.Joint ? tasks.Count : task + 1).Select(t => t.Name)];
                                Save(run, learner, full, own.Classes, learned, options, $"task-{task + 1}");
                                if (method.Joint || task == tasks.Count - 1) Save(run, learner, full, own.Classes, learned, options, Final);
                            }
                        : null;
                        method.Run(run, tasks, start, Training(options) with { Steps = steps }, save).Dispose();
                        return true;
                    })));
            }
            ReportOwn(context, first, methods, results);
        }
        finally
        {
            model?.Dispose();
        }
    }

    private static void ReportOwn(RunContext context, IReadOnlyList<ContinualTask> tasks, ContinualMethod[] methods, Dictionary<string, List<ArmResult>> results)
    {
        MethodTable(context, "methods", "Accuracy among all classes seen, no task identity; means over seeds.", methods.Select(m => (m.Name, (IReadOnlyList<ArmResult>)results[m.Name])));
        foreach (ContinualMethod method in methods.Where(m => !m.Joint))
            Matrix(context, $"matrix-{method.Name}", method.Name, results[method.Name], [.. tasks.Select((t, i) => t.Name.Length <= 16 ? t.Name : $"task {i + 1}")]);
        if (methods.Any(m => !m.Joint)) Curves(context, "curves", [.. methods.Where(m => !m.Joint).Select(m => (m.Name, (IReadOnlyList<ArmResult>)results[m.Name]))]);
        ArmResult main = results[methods[0].Name][0];
        if (!methods[0].Joint)
        {
            double[] global = main.Tensor("global").data<double>().ToArray();
            Csv.Write(context.OutputPath("accuracy-matrix.csv"), ["after", .. tasks.Select(t => t.Name)],
                tasks.Select((task, n) => (string[])[task.Name, .. Enumerable.Range(0, tasks.Count).Select(j => j <= n ? Numbers.Text(global[n * tasks.Count + j], "0.####") : "")]));
        }
        AtomicFile.WriteText(context.OutputPath("summary.json"), JsonSerializer.Serialize(new
        {
            Tasks = tasks.Select(t => new { t.Name, Classes = t.Classes.Count, Training = t.Inputs.shape[0], Test = t.TestInputs.shape[0] }),
            Methods = methods.ToDictionary(m => m.Name, m => results[m.Name].Select(r => new
            {
                r.Seed,
                FinalAverage = r["accuracy"],
                AverageIncremental = Optional(r, "average_incremental"),
                ForgettingGlobal = Optional(r, "forgetting_global"),
                ForgettingLocal = Optional(r, "forgetting_local"),
                BackwardTransfer = Optional(r, "backward_transfer"),
            })),
        }, Json));
    }

    private static double? Optional(ArmResult result, string metric) => result.Metrics.TryGetValue(metric, out double value) ? value : null;

    private static void CheckReappearing(string path, IReadOnlyList<ContinualTask> tasks, IReadOnlyList<string> classes, bool allow)
    {
        if (allow) return;
        var seen = new Dictionary<long, string>();
        foreach (ContinualTask task in tasks)
            foreach (long c in task.Classes)
                if (!seen.TryAdd(c, task.Name)) throw new BadInputException($"{path}: class '{classes[(int)c]}' of task '{task.Name}' was in task '{seen[c]}' already; tasks bring new classes, or set reappearing=allow.");
    }

    private static Architecture Describe(RehearsalFreeOptions options, IReadOnlyList<long> shape) => (options.Network, shape.Count) switch
    {
        ("vit-b16", 3) => Architectures.VisionTransformer(shape[0], shape[1], 16, 768, 12, 12, 3072, 2),
        ("vit", 3) => Architectures.VisionTransformer(shape[0], shape[1], options.VitPatch, options.VitWidth, options.VitDepth, 4, 2 * options.VitWidth, 2),
        ("mlp", _) or ("auto", 1) => Architectures.Mlp(shape, options.Hidden, 2),
        ("conv" or "auto", 3) => Architectures.ConvNet(shape, [32, 64, 128], 2),
        _ => throw new BadInputException($"Network '{options.Network}' takes images; the inputs are [{string.Join(", ", shape)}]."),
    };

    private static void Save(ArmRun run, ContinualLearner learner, Architecture full, IReadOnlyList<string> classes, IReadOnlyList<string> tasks, RehearsalFreeOptions options, string name)
    {
        (Tensor weight, Tensor? bias) = learner.Model.Head.Merged();
        Layer head = full.Layers[^1] with { Width = weight.shape[0], Bias = true };
        Architecture architecture = full with { Layers = [.. full.Layers.SkipLast(1), head] };
        Dictionary<string, Tensor> state = ((Network)learner.Model.Backbone).State();
        state[$"{head.Name}.weight"] = weight;
        state[$"{head.Name}.bias"] = bias!;
        run.SaveModel(name, state, new RehearsalFreeModel(architecture.ToJson(), [.. learner.Classes.Select(c => classes[(int)c])], tasks, options.Mean, options.Deviation));
    }

    private static void MethodTable(RunContext context, string name, string caption, IEnumerable<(string Name, IReadOnlyList<ArmResult> Runs)> methods)
    {
        static string Cell(IReadOnlyList<ArmResult> runs, string metric) => runs[0].Metrics.ContainsKey(metric) ? Numbers.MeanAndDeviation(runs, metric, "F3") : "";
        context.Table(name, caption, ["method", "A_N", "A_1:N", "forgetting, global", "forgetting, local", "backward transfer", "accuracy within tasks"],
            [.. methods.Select(m => (IReadOnlyList<string>)[m.Name, Cell(m.Runs, "accuracy"), Cell(m.Runs, "average_incremental"), Cell(m.Runs, "forgetting_global"), Cell(m.Runs, "forgetting_local"), Cell(m.Runs, "backward_transfer"), Cell(m.Runs, "local_accuracy")])]);
    }

    private static void Matrix(RunContext context, string name, string method, List<ArmResult> runs, string[] tasks)
    {
        var mean = new double[tasks.Length, tasks.Length];
        foreach (ArmResult run in runs)
        {
            double[] values = run.Tensor("global").data<double>().ToArray();
            for (int i = 0; i < values.Length; i++) mean[i / tasks.Length, i % tasks.Length] += values[i] / runs.Count;
        }
        context.Figure(name, $"{method}: accuracy on each task after each task, among all classes seen, mean over {runs.Count} seed(s).",
            Charts.Heatmap($"Accuracy matrix, {method}", mean, "task", "after task", tasks, tasks), width: 760, height: 620);
    }

    private static void Curves(RunContext context, string name, IReadOnlyList<(string Name, IReadOnlyList<ArmResult> Runs)> methods)
        => context.Figure(name, "Mean accuracy over the tasks seen so far, among all classes seen; mean over seeds with their range.",
            Charts.Lines("Average accuracy", "tasks learned", "accuracy", [.. methods.Select(m => new Curve(m.Name, m.Runs[0].Series("average").X, [.. m.Runs.Select(r => (IReadOnlyList<double>)r.Series("average").Y)]))]), width: 1000, height: 640);

    private static T Refusing<T>(string path, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (Exception exception) when (exception is ArgumentException or InvalidDataException)
        {
            throw new BadInputException($"{path}: {exception.Message}", exception);
        }
    }

    /// <summary>One of the two experiments on default data: pre-training, weights chosen on held-out seeds, all methods on the seeds of the run.</summary>
    private sealed class Experiment(string name, RehearsalFreeOptions options, RunContext context)
    {
        private readonly Dictionary<string, List<ArmResult>> _results = [];
        private readonly List<IReadOnlyList<string>> _verdicts = [];
        private readonly Dictionary<int, BackboneStart> _starts = [];
        private readonly Dictionary<string, double> _chosen = [];

        public required LabelledParts Data { get; init; }

        public required Architecture Network { get; init; }

        public required IReadOnlyList<ContinualMethod> Methods { get; init; }

        public required ContinualTraining Training { get; init; }

        public required SymmetrySource Pretraining { get; init; }

        public required int PretrainSteps { get; init; }

        public IReadOnlyList<int> Seeds { get; init; } = context.Seeds;

        /// <summary>Whether all seeds start from one pre-trained network, as one published checkpoint does; the order of the classes and the new head rows still differ.</summary>
        public bool SharedPretraining { get; init; }

        private string Arm(string method) => $"{name}: {method}";

        private string Choice(string method, double weight) => Arm($"choose {method} {weight.ToString(CultureInfo.InvariantCulture)}");

        public void Run()
        {
            Choose();
            foreach (int seed in Seeds)
            {
                BackboneStart start = Start(seed);
                using var scope = NewDisposeScope();
                IReadOnlyList<ContinualTask> tasks = Tasks(Data, seed);
                foreach (ContinualMethod method in Methods)
                {
                    ArmResult result = context.Arm(Arm(method.Name), seed, run =>
                    {
                        bool keep = seed == Seeds[0] && (method.Name == Best || method.Name == "l2-qkv");
                        Action<int, ContinualLearner>? save = keep && (name == "digits" || method.Name != Best) ? (task, learner) =>
                        {
                            string saved = name == "digits" && task == tasks.Count - 1 ? Final : $"{name}-task-{task + 1}";
                            Save(run, learner, Network, Data.Classes, [.. tasks.Take(task + 1).Select(t => t.Name)], options, saved);
                        }
                        : null;
                        method.Run(run, tasks, start, Training with { Weights = Weights(method) }, save).Dispose();
                    });
                    if (!_results.TryGetValue(method.Name, out List<ArmResult>? list)) _results[method.Name] = list = [];
                    list.Add(result);
                }
            }
        }

        /// <summary>A comparison paired by seed: the claim, and a row that says tie where the difference is within its standard error.</summary>
        public void Compare(string? claim, string method, string other, double margin)
        {
            if (!_results.TryGetValue(method, out List<ArmResult>? a) || !_results.TryGetValue(other, out List<ArmResult>? b)) return;
            PairedDifference difference = context.Compare(claim, $"{name}: {method} - {other}", a, b, "accuracy", margin);
            double error = difference.Deviation / Math.Sqrt(difference.Count);
            _verdicts.Add([$"{method} - {other}", Numbers.Text(difference.Mean, "+0.000;-0.000;0.000"), double.IsNaN(error) ? "" : Numbers.Text(error, "F3"),
                double.IsNaN(error) ? "" : Math.Abs(difference.Mean) < error ? "tie" : difference.Mean > 0 ? method : other]);
        }

        public void Report(string main)
        {
            MethodTable(context, $"{name}-methods", $"{name}: accuracy among all classes seen without task identity (A_N at the end, A_1:N averaged over tasks), forgetting with global and with local heads, mean and deviation over seeds.",
                Methods.Select(m => (m.Name, (IReadOnlyList<ArmResult>)_results[m.Name])));
            context.Table($"{name}-verdicts", $"{name}: final accuracy paired by seed; a tie is a difference below its standard error", ["comparison", "mean difference", "standard error", "better"], _verdicts);
            int tasks = (int)_results[Methods[0].Name][0].Metrics.Count is > 0 && Methods.FirstOrDefault(m => !m.Joint) is { } some ? _results[some.Name][0].Series("average").X.Length : 0;
            if (tasks == 0) return;
            string[] ticks = [.. Enumerable.Range(1, tasks).Select(t => $"{t}")];
            foreach (string method in new[] { "ft", main }.Where(_results.ContainsKey)) Matrix(context, $"{name}-matrix-{method}", method, _results[method], ticks);
            (string, IReadOnlyList<ArmResult>)[] shown = [.. Methods.Where(m => !m.Joint && !m.Scratch).Take(8).Select(m => (m.Name, (IReadOnlyList<ArmResult>)_results[m.Name]))];
            Curves(context, $"{name}-curves", shown);
            ReportDrift();
        }

        private void ReportDrift()
        {
            string[] layers = [.. new Network(Network.Trunk()) is var network ? network.State().Where(p => p.Value.is_floating_point() && p.Value.dim() > 1).Select(p => p.Key) : []];
            string[] methods = [.. new[] { "ft-labels", "predkd", "l2", "l2-qkv", "ewc", Best }.Where(_results.ContainsKey).Take(5)];
            if (methods.Length == 0) return;
            // A transformer has many tensors: those of a kind are averaged over the blocks.
            string[] kinds = [.. layers.Select(Kind)], groups = [.. kinds.Distinct()];
            context.Figure($"{name}-drift", "How far each weight is from its pre-trained value at the end, relative to its norm; a dot is a seed.",
                Charts.GroupedBars("Drift from the pre-trained weights", "|theta - theta_0| / |theta_0|", groups, [.. methods.Select(m => (m, (IReadOnlyList<IReadOnlyList<double>>)[.. groups.Select(g =>
                    (IReadOnlyList<double>)[.. _results[m].Select(r => r.Tensor("drift").data<double>().ToArray() is var d ? d.Where((_, i) => kinds[i] == g).Average() : 0)])]))]), width: 1200, height: 640);

            static string Kind(string layer)
            {
                string[] parts = layer.Replace(".weight", "", StringComparison.Ordinal).Split('.');
                return parts[0] == "blocks" ? string.Join('.', parts.Skip(2)) : string.Join('.', parts);
            }
        }

        private IReadOnlyList<ContinualTask> Tasks(LabelledParts data, int seed) => [.. data.Split(options.ClassesPerTask, seed).Take(options.MostTasks)];

        private BackboneStart Start(int seed)
        {
            int from = SharedPretraining ? 0 : seed;
            return _starts.TryGetValue(from, out BackboneStart? start) ? start : _starts[from] = Pretrain(from);
        }

        private BackboneStart Pretrain(int from)
        {
            ArmResult result = context.Arm(Arm("pre-training"), from, run =>
            {
                using var network = new Network(Network);
                network.to(run.Device);
                using var learner = new ClassifierLearner(network, optim.Adam(network.parameters(), 1e-3), new CosineSchedule());
                int batch = (int)Math.Min(128, Pretraining.Count);
                run.Include(run.Trainer(new TrainerOptions { BatchSize = batch, Sampler = new StepSampler(PretrainSteps, batch) }).Fit(learner, Pretraining, cancellation: run.Cancellation));
                Runtime.Seeds.Set(Runtime.Seeds.Derive(from, 0x50524546));
                Batch sample = Pretraining.Get(randperm(Pretraining.Count, ScalarType.Int64).narrow(0, 0, Math.Min(Training.FisherSamples, Pretraining.Count)), run.Device);
                Tensor logits = Inference.Outputs(network, sample[0]);
                run.Metric("training_accuracy", Classification.Accuracy(logits, sample[1]));
                string head = Network.Layers[^1].Name + ".";
                bool InTrunk(string tensor) => !tensor.StartsWith(head, StringComparison.Ordinal);
                foreach ((string tensor, Tensor value) in network.State().Where(p => InTrunk(p.Key))) run.Tensor(tensor, value);
                foreach ((string tensor, Tensor value) in DiagonalFisher.Estimate(network, network.call, sample[0], sample[1], options.Fisher, include: InTrunk)) run.Tensor($"fisher/{tensor}", value);
            });
            Architecture trunk = Network.Trunk();
            using var shape = new Network(trunk);
            string[] names = [.. shape.state_dict().Keys], parameters = [.. shape.named_parameters().Select(p => p.name)];
            return new BackboneStart(trunk, names.ToDictionary(n => n, result.Tensor), parameters.ToDictionary(n => $"backbone.{n}", n => result.Tensor($"fisher/{n}")));
        }

        // Every method with a weight gets as many values to choose from, on other seeds and on samples that no training and no test uses.
        private void Choose()
        {
            var tuned = Methods.Where(m => m.Tuned is not null && Grid(m.Tuned).Count > 1).OrderBy(m => m.Tuned == "predkd" ? 0 : 1).ToArray();
            if (tuned.Length == 0 || options.TuneSeeds.Count == 0) return;
            var scores = new Dictionary<string, List<ArmResult>>();
            LabelledParts parts = Data.Validation(1.0 / 12);
            var tasks = options.TuneSeeds.ToDictionary(seed => seed, seed => Tasks(parts, seed));
            foreach (ContinualMethod method in tuned)
            {
                foreach (double weight in Grid(method.Tuned!))
                {
                    string arm = Choice(method.Name, weight);
                    scores[arm] = [];
                    foreach (int seed in options.TuneSeeds)
                    {
                        BackboneStart start = Start(seed);
                        scores[arm].Add(context.Arm(arm, seed, run => method.Run(run, tasks[seed], start, Training with { Weights = With(Weights(method), method.Tuned!, weight) }).Dispose()));
                    }
                }
                _chosen[method.Name] = Grid(method.Tuned!).MaxBy(weight => scores[Choice(method.Name, weight)].Average(r => r["accuracy"]));
            }
            context.Table($"{name}-weights", $"{name}: accuracy by the weight of the penalty on the held-out seeds {string.Join(", ", options.TuneSeeds)} and samples kept back from training; the best is used",
                ["method", "part", "weights", "accuracy", "used"],
                [.. tuned.Select(m => (IReadOnlyList<string>)[m.Name, m.Tuned!, string.Join(" / ", Grid(m.Tuned!).Select(w => w.ToString("G4", CultureInfo.InvariantCulture))),
                    string.Join(" / ", Grid(m.Tuned!).Select(w => Numbers.Text(scores[Choice(m.Name, w)].Average(r => r["accuracy"]), "F3"))), _chosen[m.Name].ToString("G4", CultureInfo.InvariantCulture)])]);
            foreach (string shown in new[] { Best, "predkd+ewc", "l2-qkv" }.Where(m => tuned.Any(t => t.Name == m)))
            {
                ContinualMethod method = ContinualMethod.Parse(shown);
                double[] weights = [.. Grid(method.Tuned!).Where(w => w > 0)];
                Curve Line(string label, string metric) => new(label, weights, [.. options.TuneSeeds.Select((_, s) => (IReadOnlyList<double>)[.. weights.Select(w => scores[Choice(shown, w)][s][metric])])]);
                context.Figure($"{name}-sweep-{shown}", $"{shown}: what the weight of {method.Tuned} trades, on the held-out seeds: accuracy on a task just after learning it (plasticity) and on earlier tasks at the end (stability).",
                    Charts.Lines($"Plasticity against stability, {shown}", $"weight of {method.Tuned}", "accuracy", [Line("new task", "plasticity"), Line("earlier tasks", "stability"), Line("all tasks at the end", "accuracy")], logX: true));
            }
        }

        private IReadOnlyList<double> Grid(string part) => part switch { "predkd" => options.KdGrid, "featkd" => options.FeatGrid, "ewc" => options.EwcGrid, _ => options.L2Grid };

        private PenaltyWeights Weights(ContinualMethod method)
        {
            PenaltyWeights weights = Training.Weights;
            string kd = method.Scratch ? "predkd-scratch" : "predkd";
            if (method.Has("predkd") && _chosen.TryGetValue(kd, out double distillation)) weights = weights with { Kd = distillation };
            if (method.Tuned is { } part) weights = With(weights, part, _chosen.TryGetValue(method.Name, out double weight) ? weight : Of(weights, part));
            return weights;
        }

        private static PenaltyWeights With(PenaltyWeights weights, string part, double weight) => part switch
        {
            "predkd" => weights with { Kd = weight },
            "featkd" => weights with { Features = weight },
            "ewc" => weights with { Ewc = weight },
            "l2-qkv" => weights with { L2Qkv = weight },
            _ => weights with { L2 = weight },
        };

        private static double Of(PenaltyWeights weights, string part) => part switch { "predkd" => weights.Kd, "featkd" => weights.Features, "ewc" => weights.Ewc, "l2-qkv" => weights.L2Qkv, _ => weights.L2 };
    }
}
