using System.Globalization;
using System.Text;
using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.NoisyLabels;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using ScottPlot;

namespace Priori.Recipes.NoisyLabels;

/// <summary>How labels are corrupted.</summary>
public enum NoiseKind
{
    /// <summary>A share of rows gets a label drawn from all classes, the true one included.</summary>
    Symmetric,

    /// <summary>A share of rows gets a label drawn from the other classes.</summary>
    SymmetricOthers,

    /// <summary>A share of each class becomes the next class.</summary>
    PairFlip,

    /// <summary>A share of each class of the class map becomes the class it is mapped to.</summary>
    Asymmetric,
}

/// <summary>The networks of the recipe.</summary>
public enum NoisyLabelNetwork
{
    /// <summary>A perceptron with two hidden layers.</summary>
    Mlp,

    /// <summary>ResNet-34 with the stem for small images.</summary>
    Resnet34,

    /// <summary>PreActResNet-18.</summary>
    PreactResnet18,
}

/// <summary>Options of <see cref="EarlyLearningRegularizationRecipe"/>.</summary>
public sealed record EarlyLearningRegularizationOptions : RecipeOptions
{
    /// <summary>Noise rate.</summary>
    [Option("Share of training and validation labels that is corrupted; empty: 0.4 on the recipe's data, 0 (your labels as they are) on your own.", Min = 0, Max = 1)]
    public double? Noise { get; init; }

    /// <summary>Kind of noise.</summary>
    [Option("How labels are corrupted.")]
    public NoiseKind NoiseKind { get; init; }

    /// <summary>Class map of asymmetric noise.</summary>
    [Option("Class map of asymmetric noise, such as 9:1,2:0 (class indices); the default is CIFAR-10's of the paper.")]
    public IReadOnlyList<string> ClassMap { get; init; } = ["9:1", "2:0", "3:5", "5:3", "4:7"];

    /// <summary>Training rows.</summary>
    [Option("Training rows; empty: 6000 on the recipe's data, all on your own.", Min = 2)]
    public int? TrainRows { get; init; }

    /// <summary>Validation share.</summary>
    [Option("Held-out rows with labels as noisy as the training rows, as a share of these; 0 for none.", Min = 0, Max = 1)]
    public double Validation { get; init; } = 0.1;

    /// <summary>Test file.</summary>
    [Option("Clean test data in the format of --data, if there are any.")]
    public string? Test { get; init; }

    /// <summary>True labels.</summary>
    [Option("Column (or array) of true labels of the training rows, if known: draws memorisation curves.")]
    public string? Truth { get; init; }

    /// <summary>Ignored columns.</summary>
    [Option("Columns of a table that are no inputs.")]
    public IReadOnlyList<string> Ignore { get; init; } = [];

    /// <summary>Image size.</summary>
    [Option("Height and width to which images of a folder or zip are brought; empty leaves them as they are.", Min = 4)]
    public int? ImageSize { get; init; }

    /// <summary>Network of CE and ELR.</summary>
    [Option("Network of cross-entropy and ELR.")]
    public NoisyLabelNetwork Network { get; init; }

    /// <summary>Network of ELR+.</summary>
    [Option("Network of ELR+.")]
    public NoisyLabelNetwork PlusNetwork { get; init; }

    /// <summary>Hidden width.</summary>
    [Option("Width of the perceptron's two hidden layers.", Min = 1)]
    public int Hidden { get; init; } = 256;

    /// <summary>Augmentation.</summary>
    [Option("Whether images are cropped at random (4 pixels of padding) and flipped.")]
    public bool Augment { get; init; }

    /// <summary>Epochs of CE and ELR.</summary>
    [Option("Epochs of cross-entropy and ELR.", Min = 1)]
    public int Epochs { get; init; } = 50;

    /// <summary>Epochs of ELR+.</summary>
    [Option("Epochs of ELR+.", Min = 1)]
    public int PlusEpochs { get; init; } = 50;

    /// <summary>Batch size.</summary>
    [Option("Rows in a batch.", Min = 2)]
    public int BatchSize { get; init; } = 128;

    /// <summary>Learning rate.</summary>
    [Option("Learning rate of SGD with momentum 0.9.", Min = 1e-9)]
    public double LearningRate { get; init; } = 0.05;

    /// <summary>Weight decay of CE and ELR.</summary>
    [Option("Weight decay of cross-entropy and ELR.", Min = 0)]
    public double WeightDecay { get; init; }

    /// <summary>Weight decay of ELR+.</summary>
    [Option("Weight decay of ELR+.", Min = 0)]
    public double PlusWeightDecay { get; init; }

    /// <summary>Rate drop.</summary>
    [Option("Where the learning rate is multiplied by 0.1, as a share of the epochs; 1 for never.", Min = 0, Max = 1)]
    public double DropAt { get; init; } = 0.75;

    /// <summary>Cosine restarts of CE and ELR.</summary>
    [Option("Epochs between warm restarts of a cosine schedule (down to a rate of 0.001) for cross-entropy and ELR, in place of the drop; 0 for none.", Min = 0)]
    public int RestartEvery { get; init; }

    /// <summary>Momentum of the targets.</summary>
    [Option("Momentum of the running targets.", Min = 0, Max = 0.999999)]
    public double Beta { get; init; } = 0.7;

    /// <summary>Weights of the regularizer.</summary>
    [Option("Weights of the regularizer; one ELR arm each.", Min = 0)]
    public IReadOnlyList<double> Lambda { get; init; } = [3, 7];

    /// <summary>Weight in ELR+.</summary>
    [Option("Weight of the regularizer in ELR+.", Min = 0)]
    public double PlusLambda { get; init; } = 7;

    /// <summary>Mixup.</summary>
    [Option("Parameter of mixup's Beta distribution in ELR+.", Min = 0)]
    public double MixupAlpha { get; init; } = 1;

    /// <summary>Weight averaging.</summary>
    [Option("Decay of the weight averages in ELR+.", Min = 0, Max = 0.999999)]
    public double EmaDecay { get; init; } = 0.997;

    /// <summary>Ramp of the decay.</summary>
    [Option("Steps over which that decay ramps up; 0 for at once.", Min = 0)]
    public int EmaRampUpSteps { get; init; } = 500;

    /// <summary>Ramp of lambda.</summary>
    [Option("Steps over which the regularizer of ELR+ ramps up.", Min = 0)]
    public int CoefficientRampUpSteps { get; init; }

    /// <summary>Label reweighting.</summary>
    [Option("Whether ELR+ multiplies labels by the targets, as the official code does for 100 classes.")]
    public bool ReweightLabels { get; init; }

    /// <summary>Ablations.</summary>
    [Option("Whether the ablations are trained too: ELR and ELR+ without temporal ensembling, ELR+ without weight averaging, ELR+ without mixup.")]
    public bool Ablations { get; init; }

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Lambda.Count == 0) throw new BadInputException("Option 'lambda' needs at least one weight.");
        ParseClassMap();
    }

    internal Dictionary<int, int> ParseClassMap()
    {
        var map = new Dictionary<int, int>();
        foreach (string pair in ClassMap)
        {
            string[] parts = pair.Split(':');
            if (parts.Length != 2 || !int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int from) || !int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int to))
                throw new BadInputException($"Option 'class-map' is made of pairs such as 9:1 (class 9 becomes class 1); it was given '{pair}'.");
            map[from] = to;
        }
        return map;
    }
}

/// <summary>
/// Cross-entropy, ELR and ELR+ side by side on noisy labels: test accuracy, memorisation of wrong labels, and the label errors found.
/// Default data: MNIST where it is registered, glyph digits otherwise.
/// </summary>
public sealed class EarlyLearningRegularizationRecipe : Recipe<EarlyLearningRegularizationOptions>
{
    private const string CrossEntropy = "CE";
    private const string Plus = "ELR+";
    private const string LinearModel = "linear model";
    private const int PathRows = 8;

    private static readonly CultureInfo s_culture = CultureInfo.InvariantCulture;

    /// <inheritdoc/>
    public override string Id => "early-learning-regularization";

    /// <inheritdoc/>
    public override string Area => "NoisyLabels";

    /// <inheritdoc/>
    public override string Title => "Early-learning regularization";

    /// <inheritdoc/>
    public override string Summary => "Trains a classifier on partly wrong labels without memorising them, and names the rows whose label is probably wrong.";

    /// <inheritdoc/>
    public override Paper Paper => new(
        "Early-Learning Regularization Prevents Memorization of Noisy Labels", "Liu, Niles-Weed, Razavian, Fernandez-Granda", "NeurIPS", 2020, "https://arxiv.org/abs/2007.00151");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims { get; } =
    [
        new("elr-over-ce", "Last-epoch test accuracy: ELR (largest lambda) - cross-entropy >= 0.10, mean over seeds."),
        new("elr-over-ce-every-seed", "Last-epoch test accuracy: ELR (largest lambda) - cross-entropy >= 0.15 on every seed."),
        new("elr-forgets", "Share of wrong labels memorised by ELR (largest lambda) <= 0.25."),
        new("ce-memorises", "Share of wrong labels memorised by cross-entropy >= 0.90."),
        new("early-learning", "Cross-entropy's best test accuracy over epochs - its last >= 0.10."),
        new("plus", "Last-epoch test accuracy: ELR+ - ELR (largest lambda) >= -0.01."),
        new("linear-early", "Linear model, step 1: share of flipped rows predicted as their true class >= 0.75."),
        new("linear-late", "Linear model, step 1000: share of flipped rows predicted as their true class <= 0.02."),
        new("linear-memorises", "Linear model, step 1000: share of flipped rows predicted as their given label >= 0.98."),
    ];

    /// <inheritdoc/>
    public override EarlyLearningRegularizationOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { TrainRows = 500, Epochs = 10, PlusEpochs = 10, Hidden = 64, EmaRampUpSteps = 20, Ablations = true },
        Budget.Full => new(),
        // Official configurations for CIFAR-10 with symmetric noise: ELR with cosine restarts (config_cifar10.json), ELR+ with one drop at 150 of 200 epochs.
        _ => new()
        {
            TrainRows = 45_000,
            Validation = 5_000.0 / 45_000,
            Network = NoisyLabelNetwork.Resnet34,
            PlusNetwork = NoisyLabelNetwork.PreactResnet18,
            Augment = true,
            Epochs = 150,
            PlusEpochs = 200,
            LearningRate = 0.02,
            WeightDecay = 1e-3,
            PlusWeightDecay = 5e-4,
            RestartEvery = 10,
            Lambda = [3],
            PlusLambda = 3,
            EmaRampUpSteps = 40_000,
        },
    };

    /// <inheritdoc/>
    public override void Run(EarlyLearningRegularizationOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        Problem problem = Load(options, context);
        List<Arm> arms = [new(CrossEntropy, options, Lambda: 0)];
        arms.AddRange(options.Lambda.Select(lambda => new Arm(ElrName(lambda), options, lambda)));
        double strongest = options.Lambda.Max();
        if (options.Ablations) arms.Add(new("ELR without temporal ensembling", options, strongest, Beta: 0));
        EarlyLearningPlusOptions plus = PlusOptions(options);
        arms.Add(new(Plus, options, PlusOptions: plus));
        if (options.Ablations)
        {
            arms.Add(new("ELR+ without temporal ensembling", options, PlusOptions: plus with { Beta = 0 }));
            arms.Add(new("ELR+ without weight averaging", options, PlusOptions: plus with { EmaDecay = 0 }));
            arms.Add(new("ELR+ without mixup", options, PlusOptions: plus with { MixupAlpha = 0 }));
        }

        var results = arms.ToDictionary(a => a.Name, _ => new List<ArmResult>());
        foreach (int seed in context.Seeds)
        {
            using var scope = NewDisposeScope();
            Split split = problem.Split(seed);
            foreach (Arm arm in arms)
                results[arm.Name].Add(context.Arm(arm.Name, seed, run => Train(arm, problem, split, run, keepModel: seed == context.Seeds[0] && arm.Name != CrossEntropy)));
        }

        Report(context, problem, arms, results);
        Judge(context, problem, results, ElrName(strongest));
        if (context.Data is null) ShowLinearModel(context);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        // The model that agrees best with the noisy validation labels; the last (ELR+ or its ablation) where there were none.
        (string name, ModelDescription model) = run.Models.Select(m => (m, run.Description<ModelDescription>(m))).OrderBy(m => m.Item2.ValidationAccuracy ?? 0).Last();
        LabeledData data = LabeledData.ReadMore(context.DataPath, model.Input, model.Classes, context.Data.Target);
        using var scope = NewDisposeScope();
        Dictionary<string, Tensor> weights = run.Model(name);
        Tensor logits = zeros(data.Count, model.Classes.Count);
        for (int i = 0; i < model.Networks; i++)
        {
            using Module<Tensor, Tensor> network = Build(model.Network, model.Input.Shape, model.Hidden, model.Classes.Count);
            string prefix = $"{i}/";
            network.load_state_dict(weights.Where(w => w.Key.StartsWith(prefix, StringComparison.Ordinal)).ToDictionary(w => w.Key[prefix.Length..], w => w.Value));
            network.to(context.Device);
            network.eval();
            logits.add_(Forward(network.forward, data.Inputs, context.Device) / model.Networks);
        }
        Tensor probabilities = functional.softmax(logits, 1);
        (Tensor best, Tensor predicted) = probabilities.max(1);
        float[] probability = best.data<float>().ToArray();
        long[] classes = predicted.data<long>().ToArray();
        var text = new StringBuilder(data.Labels is null ? "row,class,probability\n" : "row,class,probability,given,suspect,score\n");
        LabelErrorReport? report = data.Labels is null ? null : LabelErrorReport.From(probabilities, data.Labels);
        long[] given = report?.Given.data<long>().ToArray() ?? [];
        float[] scores = report?.Scores.data<float>().ToArray() ?? [];
        for (int row = 0; row < classes.Length; row++)
        {
            text.Append(s_culture, $"{row},{Csv(model.Classes[(int)classes[row]])},{probability[row]:0.#####}");
            if (report is not null) text.Append(s_culture, $",{Csv(model.Classes[(int)given[row]])},{(classes[row] == given[row] ? "no" : "yes")},{scores[row]:0.#####}");
            text.Append('\n');
        }
        AtomicFile.WriteText(context.OutPath, text.ToString());
        context.Report($"Model '{name}': {data.Count} rows predicted{(report is null ? "" : $", {report.Suspect.sum().ToInt64()} of their labels are suspect, {(100 * Classification.Accuracy(logits, data.Labels!)).ToString("0.0", s_culture)}% agree")}; written to {context.OutPath}.");
    }

    private static string ElrName(double lambda) => string.Create(s_culture, $"ELR lambda {lambda}");

    private static EarlyLearningPlusOptions PlusOptions(EarlyLearningRegularizationOptions options) => new()
    {
        Beta = options.Beta,
        Lambda = options.PlusLambda,
        MixupAlpha = options.MixupAlpha,
        EmaDecay = options.EmaDecay,
        EmaRampUpSteps = options.EmaRampUpSteps,
        CoefficientRampUpSteps = options.CoefficientRampUpSteps,
        ReweightLabelsByTarget = options.ReweightLabels,
    };

    // ---- data ----

    private sealed record Problem(EarlyLearningRegularizationOptions Options, LabeledData Train, LabeledData? Test, double Noise, long[] TrainRows, long[] ValidationRows)
    {
        /// <summary>Labels before corruption: known to be true only if they are the recipe's, or corruption was asked for.</summary>
        public bool TruthKnown => Noise > 0 || Train.Truth is not null;

        /// <summary>Given labels of one seed: each seed draws its own noise, for training and validation rows apart.</summary>
        public Split Split(int seed)
        {
            Tensor train = tensor(TrainRows), validation = tensor(ValidationRows);
            Tensor trainLabels = Train.Labels!.index_select(0, train), validationLabels = Train.Labels.index_select(0, validation);
            return new Split(
                Train.Inputs.index_select(0, train), Corrupt(trainLabels, Runtime.Seeds.Derive(seed, 0)), TruthKnown ? (Train.Truth ?? Train.Labels).index_select(0, train) : null,
                Train.Inputs.index_select(0, validation), ValidationRows.Length == 0 ? validationLabels : Corrupt(validationLabels, Runtime.Seeds.Derive(seed, 1)));
        }

        private Tensor Corrupt(Tensor labels, int seed)
        {
            int classes = Train.Classes.Count;
            return Noise == 0 ? labels : Options.NoiseKind switch
            {
                NoiseKind.Symmetric => LabelNoise.Symmetric(labels, Noise, classes, seed),
                NoiseKind.SymmetricOthers => LabelNoise.Symmetric(labels, Noise, classes, seed, includeSelf: false),
                NoiseKind.PairFlip => LabelNoise.PairFlip(labels, Noise, classes, seed),
                _ => LabelNoise.Asymmetric(labels, Noise, Options.ParseClassMap(), classes, seed),
            };
        }
    }

    private sealed record Split(Tensor Inputs, Tensor Given, Tensor? Truth, Tensor ValidationInputs, Tensor ValidationGiven);

    private static Problem Load(EarlyLearningRegularizationOptions options, RunContext context)
    {
        bool convolutional = options.Network != NoisyLabelNetwork.Mlp || options.PlusNetwork != NoisyLabelNetwork.Mlp;
        LabeledData train;
        LabeledData? test;
        string source;
        if (context.Data is { } own)
        {
            (train, test) = LabeledData.ReadTraining(own.Path, own.Target, options.Truth, options.Ignore, options.ImageSize, convolutional);
            if (options.Test is { } path)
            {
                if (!File.Exists(path) && !Directory.Exists(path)) throw new BadInputException($"Test data {path} do not exist: give a file or a folder.");
                test = LabeledData.ReadMore(path, train.Input, train.Classes, own.Target);
            }
            if (test is { Labels: null } || (test is { } t && t.Labels!.max().ToInt64() >= train.Classes.Count))
                throw new BadInputException($"The test data need labels within the classes of the training data: {string.Join(", ", train.Classes)}.");
            source = own.Path;
        }
        else if (options.Test is not null || options.Truth is not null)
        {
            throw new BadInputException("Options 'test' and 'truth' belong to your own data: give --data too.");
        }
        else if (context.Budget == Budget.Paper)
        {
            string folder = context.DataFolder.Find("cifar10-jpeg")
                ?? throw new BadInputException($"The paper budget needs CIFAR-10 as a zip of images in {Path.Combine(context.DataFolder.Root, "cifar10-jpeg")}: priori data import cifar10-jpeg DIR.");
            (train, test) = LabeledData.ReadTraining(Path.Combine(folder, "cifar10-jpeg.zip"), null, null, [], null, standardizeImages: true);
            source = "CIFAR-10 (JPEG copy)";
        }
        else if (context.DataFolder.Find("mnist") is { } mnist)
        {
            (train, test) = LabeledData.ReadTraining(mnist, null, null, [], null, convolutional);
            source = "MNIST (IDX files)";
        }
        else
        {
            int rows = (int)Math.Ceiling((options.TrainRows ?? 6000) * (1 + options.Validation));
            train = LabeledData.OfImages(GlyphDigits.Generate(rows, seed: 1), convolutional);
            test = LabeledData.OfImages(GlyphDigits.Generate(context.Budget == Budget.Smoke ? 500 : 10_000, seed: 2), convolutional);
            source = "glyph digits (procedural)";
        }
        if (train.Labels is null) throw new BadInputException($"{source} has no labels.");

        // The recipe's digits come in random order: the first rows are used. Images by class and tables are in any order: rows are drawn, the same for every seed.
        long wanted = options.TrainRows ?? (context.Data is null ? 6000 : train.Count);
        long validation = (long)Math.Round(options.Validation * wanted);
        if (wanted + validation > train.Count)
        {
            validation = (long)(train.Count * options.Validation / (1 + options.Validation));
            wanted = train.Count - validation;
        }
        long[] order = [.. Enumerable.Range(0, (int)train.Count).Select(i => (long)i)];
        if (context.Data is not null || context.Budget == Budget.Paper) SplitMix64.For(0, 7).Shuffle<long>(order);
        double noise = options.Noise ?? (context.Data is null ? 0.4 : 0);
        if (noise > 0 && options.NoiseKind == NoiseKind.Asymmetric && options.ParseClassMap().Any(m => Math.Max(m.Key, m.Value) >= train.Classes.Count))
            throw new BadInputException($"Option 'class-map' names a class outside 0..{train.Classes.Count - 1}.");
        context.UsedData(string.Create(s_culture, $"{source}, {wanted:N0} training and {validation:N0} validation rows{(noise > 0 ? $" with {100 * noise:0.##}% {Kebab(options.NoiseKind)} label noise" : ", labels as given")}, {(test is null ? "no" : test.Count.ToString("N0", s_culture))} test rows"));
        return new Problem(options, train, test, noise, order[..(int)wanted], order[(int)wanted..(int)(wanted + validation)]);
    }

    private static string Kebab(NoiseKind kind) => kind switch { NoiseKind.PairFlip => "pair-flip", NoiseKind.SymmetricOthers => "symmetric (other classes)", _ => kind.ToString().ToLowerInvariant() };

    // ---- one arm ----

    private sealed record Arm(string Name, EarlyLearningRegularizationOptions Options, double Lambda = 0, double? Beta = null, EarlyLearningPlusOptions? PlusOptions = null)
    {
        public int Epochs => PlusOptions is null ? Options.Epochs : Options.PlusEpochs;

        public NoisyLabelNetwork Network => PlusOptions is null ? Options.Network : Options.PlusNetwork;
    }

    private sealed record ModelDescription(NoisyLabelNetwork Network, int Networks, int Hidden, InputDescription Input, IReadOnlyList<string> Classes, double? ValidationAccuracy);

    private static Module<Tensor, Tensor> Build(NoisyLabelNetwork network, long[] shape, int hidden, int classes)
    {
        if (network == NoisyLabelNetwork.Mlp) return new Mlp(shape.Aggregate(1L, (a, b) => a * b), [hidden, hidden], classes);
        if (shape.Length != 3 || shape[1] != shape[2]) throw new BadInputException($"The network {network} takes square images [channels, size, size]; a row of the data is [{string.Join(", ", shape)}]. Use --set network=mlp --set plus-network=mlp.");
        return network == NoisyLabelNetwork.Resnet34 ? ResNet.ResNet34(classes, inputChannels: shape[0], imageSize: shape[1]) : new PreActResNet(classes, channels: shape[0]);
    }

    private static void Train(Arm arm, Problem problem, Split split, ArmRun run, bool keepModel)
    {
        EarlyLearningRegularizationOptions options = arm.Options;
        InputDescription input = problem.Train.Input;
        int classes = problem.Train.Classes.Count;
        Module<Tensor, Tensor> Network() => Build(arm.Network, input.Shape, options.Hidden, classes).to(run.Device);
        Optimization Optimizer(Module<Tensor, Tensor> network)
        {
            Schedule? schedule = arm.PlusOptions is null && options.RestartEvery > 0 ? new CosineRestarts(options.RestartEvery, Math.Min(1, 0.001 / options.LearningRate))
                : options.DropAt < 1 ? new StepSchedule([options.DropAt * arm.Epochs]) : null;
            return new Optimization(optim.SGD(network.parameters(), options.LearningRate, momentum: 0.9, weight_decay: arm.PlusOptions is null ? options.WeightDecay : options.PlusWeightDecay), schedule);
        }

        Func<Tensor, Tensor>? augment = options.Augment && input.Shape.Length == 3 ? images => RandomCropFlip.Apply(images, padding: 4, input.Standardize(zeros(1, input.Shape[0], 1, 1))) : null;
        Learner learner;
        Func<Tensor, Tensor> predict;
        Func<Tensor> targets;
        Module<Tensor, Tensor>[] networks;
        if (arm.PlusOptions is { } plus)
        {
            var both = new EarlyLearningPlusLearner(Network, split.Inputs.shape[0], classes, Optimizer, plus, augment);
            (learner, predict, targets) = (both, both.Predict, () => both.Targets);
            networks = [(Module<Tensor, Tensor>)both.Modules["network1"], (Module<Tensor, Tensor>)both.Modules["network2"]];
            foreach (Module module in both.Modules.Values) module.to(run.Device);
        }
        else
        {
            Module<Tensor, Tensor> network = Network();
            var loss = new EarlyLearningRegularizationLoss(split.Inputs.shape[0], classes, arm.Beta ?? options.Beta, arm.Lambda);
            loss.to(run.Device);
            (learner, networks, targets) = (new EarlyLearningLearner(network, loss, Optimizer(network), augment: augment), [network], () => loss.Targets);
            predict = inputs =>
            {
                network.eval();
                Tensor logits = network.forward(inputs);
                network.train();
                return logits;
            };
        }

        using (learner)
        {
            long[] flipped = split.Truth is null ? [] : [.. split.Given.ne(split.Truth).nonzero().flatten().data<long>().Take(PathRows)];
            TrainingHistory history = run.Trainer(new TrainerOptions { Epochs = arm.Epochs, BatchSize = options.BatchSize }).Fit(
                learner, new TensorSource(split.Inputs, split.Given), _ => Evaluate(predict, problem, split, flipped, run.Device), run.Cancellation);
            run.Include(history);

            if (problem.Test is not null)
            {
                double[] test = history.Series["test"];
                run.Metric("test", test[^1]);
                run.Metric("best test", test.Max());
                if (history.Series.TryGetValue("validation", out double[]? validation)) run.Metric("test at best validation", test[Array.IndexOf(validation, validation.Max())]);
            }
            if (history.Series.TryGetValue("validation", out double[]? agreement)) run.Metric("validation", agreement[^1]);
            if (split.Truth is not null && flipped.Length > 0)
            {
                run.Metric("memorised", history.Last("flipped memorised"));
                run.Metric("corrected", history.Last("flipped correct"));
            }

            using var scope = NewDisposeScope();
            LabelErrorReport report = LabelErrorReport.From(targets().cpu(), split.Given);
            if (split.Truth is not null)
            {
                run.Metric("detection accuracy", report.DetectionAccuracy(split.Truth));
                if (flipped.Length > 0) run.Metric("detection recall", report.Recall(split.Truth));
                if (report.Suspect.any().ToBoolean()) run.Metric("detection precision", report.Precision(split.Truth));
            }
            Tensor suggested = report.Suggested, scores = report.Scores;
            if (split.ValidationGiven.shape[0] > 0)
            {
                LabelErrorReport heldOut = LabelErrorReport.From(functional.softmax(Forward(predict, split.ValidationInputs, run.Device), 1), split.ValidationGiven);
                (suggested, scores) = (cat([suggested, heldOut.Suggested]), cat([scores, heldOut.Scores]));
            }
            run.Tensor("suggested", suggested);
            run.Tensor("scores", scores);
            if (keepModel)
            {
                run.SaveModel(
                    arm.Name,
                    networks.SelectMany((network, i) => network.state_dict().Select(t => (Name: $"{i}/{t.Key}", Value: t.Value.cpu()))).ToDictionary(t => t.Name, t => t.Value),
                    new ModelDescription(arm.Network, networks.Length, options.Hidden, input, problem.Train.Classes, agreement?[^1]));
            }
        }
    }

    private static Dictionary<string, double> Evaluate(Func<Tensor, Tensor> predict, Problem problem, Split split, long[] flipped, Device device)
    {
        using var scope = NewDisposeScope();
        var metrics = new Dictionary<string, double>();
        if (problem.Test is { } test) metrics["test"] = Classification.Accuracy(Forward(predict, test.Inputs, device), test.Labels!);
        if (split.ValidationGiven.shape[0] > 0) metrics["validation"] = Classification.Accuracy(Forward(predict, split.ValidationInputs, device), split.ValidationGiven);
        if (split.Truth is null) return metrics;
        Tensor logits = Forward(predict, split.Inputs, device);
        Memorization memorization = Memorization.Of(logits.argmax(1), split.Given, split.Truth);
        if (double.IsFinite(memorization.CleanCorrect)) metrics["clean correct"] = memorization.CleanCorrect;
        if (flipped.Length == 0) return metrics;
        metrics["flipped correct"] = memorization.FlippedCorrect;
        metrics["flipped memorised"] = memorization.FlippedMemorized;
        for (int i = 0; i < flipped.Length; i++)
        {
            Tensor probabilities = functional.softmax(logits[flipped[i]], 0);
            metrics[$"row {i} true"] = probabilities[split.Truth[flipped[i]].ToInt64()].ToDouble();
            metrics[$"row {i} given"] = probabilities[split.Given[flipped[i]].ToInt64()].ToDouble();
        }
        return metrics;
    }

    private static Tensor Forward(Func<Tensor, Tensor> predict, Tensor inputs, Device device)
    {
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        return cat([.. inputs.split(1000).Select(rows => predict(rows.to(device)).cpu())]).MoveToOuterDisposeScope();
    }

    // ---- results ----

    private static void Report(RunContext context, Problem problem, List<Arm> arms, Dictionary<string, List<ArmResult>> results)
    {
        (string Header, string Metric)[] columns =
        [
            ("test, last epoch", "test"), ("test at best noisy validation", "test at best validation"), ("noisy validation", "validation"), ("wrong labels memorised", "memorised"),
            ("wrong labels corrected", "corrected"), ("label errors: accuracy", "detection accuracy"), ("precision", "detection precision"), ("recall", "detection recall"),
        ];
        columns = [.. columns.Where(c => results.Values.Any(r => r.Any(a => a.Metrics.ContainsKey(c.Metric))))];
        context.Table(
            "arms", $"Mean over {context.Seeds.Count} seed(s), with the standard deviation.", ["arm", .. columns.Select(c => c.Header), "seconds"],
            [.. arms.Select(arm => (IReadOnlyList<string>)[arm.Name, .. columns.Select(c => Spread(results[arm.Name], c.Metric)), results[arm.Name].Average(r => r.Seconds).ToString("0.0", s_culture)])]);

        Curve Curve(Arm arm, string series, string label, bool dashed = false)
            => new(label, results[arm.Name][0].Series(series).X, [.. results[arm.Name].Select(r => (IReadOnlyList<double>)r.Series(series).Y)], dashed);
        Arm[] main = [.. arms.Where(a => !a.Name.Contains("without", StringComparison.Ordinal))];
        if (problem.Test is not null)
            context.Figure("test-accuracy", "Test accuracy over epochs; bands span the seeds.", Charts.Lines("Test accuracy", "epoch", "accuracy", [.. main.Select(a => Curve(a, "test", a.Name))]));
        if (results[CrossEntropy][0].Metrics.ContainsKey("memorised"))
        {
            foreach (Arm arm in (Arm[])[main[0], main[^2]])
            {
                Plot plot = Charts.Lines(
                    $"{arm.Name}: training rows with right and with wrong labels", "epoch", "share of rows",
                    [Curve(arm, "clean correct", "right label, predicted correctly", dashed: true), Curve(arm, "flipped correct", "wrong label, true class predicted"), Curve(arm, "flipped memorised", "wrong label, memorised")]);
                plot.Axes.SetLimitsY(0, 1.02);
                context.Figure($"memorisation-{(arm == main[0] ? "ce" : "elr")}", $"{arm.Name}: what becomes of training rows over epochs.", plot);
            }
            context.Figure("simplex-path", "Predictions for one wrongly labelled training row over epochs, between its true class, its given label and all others; the dot is the last epoch.", SimplexPath(main, results));
        }
        WriteLabelErrors(context, problem, arms, results);
    }

    private static Plot SimplexPath(Arm[] main, Dictionary<string, List<ArmResult>> results)
    {
        // Of the first wrongly labelled rows: the first one that cross-entropy learns rightly and then memorises, if there is one.
        ArmResult reference = results[CrossEntropy][0];
        int rows = Enumerable.Range(0, PathRows).Count(i => reference.Curves.ContainsKey($"row {i} true"));
        int row = Enumerable.Range(0, rows).FirstOrDefault(i => reference.Series($"row {i} true").Y.Any(p => p > 0.5) && reference.Series($"row {i} given").Y[^1] > 0.5);
        double height = Math.Sqrt(3) / 2;
        List<Curve> curves = [new Curve("simplex", [0, 1, 0.5, 0], (double[])[0, 0, height, 0], dashed: true)];
        foreach (Arm arm in (Arm[])[main[0], main[^2], main[^1]])
        {
            double[] truth = results[arm.Name][0].Series($"row {row} true").Y, given = results[arm.Name][0].Series($"row {row} given").Y;
            curves.Add(new Curve(arm.Name, [.. truth.Select((t, e) => t + (1 - t - given[e]) / 2)], (double[])[.. truth.Select((t, e) => (1 - t - given[e]) * height)]));
        }
        Plot plot = Charts.Lines("Path of one wrongly labelled row", "", "", curves);
        foreach (Curve curve in curves.Skip(1)) plot.Add.Marker(curve.X[^1], curve.Ys[0][^1], MarkerShape.FilledCircle, 11, Charts.Color(curves.IndexOf(curve)));
        plot.HideAxesAndGrid();
        plot.Add.Text("given label", 0, -0.03);
        plot.Add.Text("true class", 0.9, -0.03);
        plot.Add.Text("other classes", 0.5, height + 0.06);
        plot.Axes.SetLimits(-0.1, 1.1, -0.12, 1.0);
        return plot;
    }

    private static void WriteLabelErrors(RunContext context, Problem problem, List<Arm> arms, Dictionary<string, List<ArmResult>> results)
    {
        // The arm whose model `priori apply` uses: see Apply.
        ArmResult best = arms.Skip(1).Select(a => results[a.Name][0]).OrderBy(r => r.Metrics.GetValueOrDefault("validation")).Last();
        using var scope = NewDisposeScope();
        Split split = problem.Split(context.Seeds[0]);
        long[] given = cat([split.Given, split.ValidationGiven]).data<long>().ToArray(), suggested = best.Tensor("suggested").data<long>().ToArray();
        float[] scores = best.Tensor("scores").data<float>().ToArray();
        long[] rows = [.. problem.TrainRows, .. problem.ValidationRows];
        var suspects = Enumerable.Range(0, rows.Length).Where(i => suggested[i] != given[i]).OrderByDescending(i => scores[i]).ThenBy(i => rows[i]).ToList();
        var text = new StringBuilder("row,given,suggested,score\n");
        IReadOnlyList<string> classes = problem.Train.Classes;
        foreach (int i in suspects) text.Append(s_culture, $"{rows[i]},{Csv(classes[(int)given[i]])},{Csv(classes[(int)suggested[i]])},{scores[i]:0.#####}\n");
        AtomicFile.WriteText(context.OutputPath("label_errors.csv"), text.ToString());
        context.Note($"label_errors.csv lists {suspects.Count} suspect labels of {rows.Length} (rows counted from 0, most suspect first), found by {best.Arm} with seed {best.Seed}.");
    }

    private static void Judge(RunContext context, Problem problem, Dictionary<string, List<ArmResult>> results, string elr)
    {
        void Check(string claim, Func<int, double> measure, Comparison comparison, double threshold, bool everySeed = false)
        {
            double[] values = [.. Enumerable.Range(0, context.Seeds.Count).Select(measure)];
            context.Check(claim, everySeed ? values.Min() : values.Average(), comparison, threshold, values);
        }

        List<ArmResult> ce = results[CrossEntropy], best = results[elr], plus = results[Plus];
        if (problem.Test is not null)
        {
            Check("elr-over-ce", i => best[i]["test"] - ce[i]["test"], Comparison.AtLeast, 0.10);
            Check("elr-over-ce-every-seed", i => best[i]["test"] - ce[i]["test"], Comparison.AtLeast, 0.15, everySeed: true);
            Check("early-learning", i => ce[i]["best test"] - ce[i]["test"], Comparison.AtLeast, 0.10);
            Check("plus", i => plus[i]["test"] - best[i]["test"], Comparison.AtLeast, -0.01);
        }
        if (ce[0].Metrics.ContainsKey("memorised"))
        {
            Check("elr-forgets", i => best[i]["memorised"], Comparison.AtMost, 0.25);
            Check("ce-memorises", i => ce[i]["memorised"], Comparison.AtLeast, 0.90);
        }
    }

    private static void ShowLinearModel(RunContext context)
    {
        const int Steps = 1000;
        ArmResult[] results = [.. context.Seeds.Select(seed => context.Arm(LinearModel, seed, run =>
        {
            LinearEarlyLearning path = LinearEarlyLearning.Run(Steps, seed);
            double[] steps = [.. Enumerable.Range(1, Steps).Select(s => (double)s)];
            run.Series("flipped correct", steps, path.FlippedTrue);
            run.Series("flipped memorised", steps, path.FlippedMemorized);
            run.Series("clean correct", steps, path.CleanCorrect);
        }))];
        void Check(string claim, string series, int step, Comparison comparison, double threshold)
        {
            double[] values = [.. results.Select(r => r.Series(series).Y[step - 1])];
            context.Check(claim, values.Average(), comparison, threshold, values);
        }

        Check("linear-early", "flipped correct", 1, Comparison.AtLeast, 0.75);
        Check("linear-late", "flipped correct", Steps, Comparison.AtMost, 0.02);
        Check("linear-memorises", "flipped memorised", Steps, Comparison.AtLeast, 0.98);
        Curve Curve(string series, string label) => new(label, results[0].Series(series).X, [.. results.Select(r => (IReadOnlyList<double>)r.Series(series).Y)]);
        context.Figure(
            "linear-model", "The linear model of the paper's theory: flipped rows are first predicted as their true class and then memorised.",
            Charts.Lines("Linear model, n = p = 400, 30% flipped", "step of gradient descent", "share of rows", [Curve("clean correct", "right label, predicted correctly"), Curve("flipped correct", "flipped, true class predicted"), Curve("flipped memorised", "flipped, memorised")], logX: true));
    }

    private static string Spread(List<ArmResult> results, string metric)
    {
        double[] values = [.. results.Where(r => r.Metrics.ContainsKey(metric)).Select(r => r[metric])];
        if (values.Length == 0) return "";
        double mean = values.Average();
        return values.Length == 1 ? mean.ToString("0.000", s_culture) : string.Create(s_culture, $"{mean:0.000} ± {Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (values.Length - 1)):0.000}");
    }

    private static string Csv(string text) => text.AsSpan().IndexOfAny(",\"\n\r") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
