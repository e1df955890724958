using System.Globalization;
using System.Text;
using Priori.Interpretability;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using ScottPlot;

namespace Priori.Recipes.Interpretability;

/// <summary>Which estimator draws the information plane.</summary>
public enum InformationEstimator
{
    /// <summary>Entropy-based adaptive binning.</summary>
    Ebab,

    /// <summary>Adaptive kernel density estimation, upper bound.</summary>
    Akde,

    /// <summary>Nearest neighbours: I(T;Y) only.</summary>
    Knn,
}

/// <summary>Options of <see cref="InformationCompressionRecipe"/>.</summary>
public sealed record InformationCompressionOptions : RecipeOptions
{
    /// <summary>Estimator.</summary>
    [Option("Estimator of the information plane.")]
    public InformationEstimator Estimator { get; init; } = InformationEstimator.Ebab;

    /// <summary>Activations.</summary>
    [Option("Activation functions of the hidden layers, each an arm.")]
    public IReadOnlyList<HiddenActivation> Activations { get; init; }
        = [HiddenActivation.Tanh, HiddenActivation.Elu, HiddenActivation.Relu, HiddenActivation.Softplus, HiddenActivation.Swish, HiddenActivation.CentredSoftplus];

    /// <summary>Hidden widths.</summary>
    [Option("Hidden widths.", Min = 1)]
    public IReadOnlyList<long> Hidden { get; init; } = [10, 7, 5, 4, 3];

    /// <summary>L2 penalty.</summary>
    [Option("L2 penalty of the regularised arms, on half the squared weights of all but the last layer; 0 leaves these arms out.", Min = 0)]
    public double L2 { get; init; } = 0.015;

    /// <summary>L2 penalty for tanh.</summary>
    [Option("The same for tanh, which collapses at larger ones.", Min = 0)]
    public double TanhL2 { get; init; } = 0.003;

    /// <summary>Epochs.</summary>
    [Option("Epochs.", Min = 1)]
    public int Epochs { get; init; } = 400;

    /// <summary>Batch size.</summary>
    [Option("Rows of a batch.", Min = 1)]
    public int BatchSize { get; init; } = 512;

    /// <summary>Learning rate.</summary>
    [Option("Learning rate of Adam.", Min = 1e-8, Max = 1)]
    public double LearningRate { get; init; } = 2e-3;

    /// <summary>Training share.</summary>
    [Option("Share of the rows that are trained on; information is measured on all.", Min = 0.05, Max = 0.95)]
    public double TrainFraction { get; init; } = 0.8;

    /// <summary>Recorded epochs.</summary>
    [Option("Epochs recorded, spaced logarithmically, besides the untrained net.", Min = 2)]
    public int Snapshots { get; init; } = 12;

    /// <summary>Bins.</summary>
    [Option("Bins of the binning estimators.", Min = 2)]
    public int Bins { get; init; } = 30;

    /// <summary>Noise.</summary>
    [Option("Noise of the adaptive KDE for a largest activation of 1.", Min = 1e-12)]
    public double Kappa { get; init; } = 1e-3;

    /// <summary>Scaling of the noise.</summary>
    [Option("How the noise of the adaptive KDE follows the largest activation.")]
    public NoiseScaling NoiseScaling { get; init; } = NoiseScaling.Variance;

    /// <summary>Neighbours.</summary>
    [Option("Neighbours of the nearest-neighbour estimator.", Min = 1)]
    public int Neighbours { get; init; } = 3;

    /// <summary>Lower edge for activations from files.</summary>
    [Option("Lower edge of the adaptive bins for activations from files, such as 0 for ReLU; just below the smallest when empty.")]
    public double? Low { get; init; }

    /// <summary>Compared arms.</summary>
    [Option("Arms on whose last hidden layer all estimators are compared, with the first seed.", Min = 0)]
    public int Compared { get; init; } = 4;

    /// <summary>Rows of the comparison.</summary>
    [Option("Rows on which the estimators are compared, at random if there are more; the kernel and neighbour estimators cost their square.", Min = 10)]
    public int ComparedRows { get; init; } = 2048;

    /// <summary>Whether the MNIST study is part.</summary>
    [Option("Whether a convolutional net is studied on MNIST too, where that dataset is present.")]
    public bool Convolutional { get; init; }

    /// <summary>Epochs of the convolutional net.</summary>
    [Option("Epochs of the convolutional net.", Min = 1)]
    public int ConvolutionalEpochs { get; init; } = 20;

    /// <summary>Population of the convolutional net.</summary>
    [Option("Test images on which the convolutional net's information is measured.", Min = 2, Max = 10000)]
    public int ConvolutionalSamples { get; init; } = 2000;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Activations.Count == 0) throw new BadInputException("Option 'activations' names none; give at least one.");
        if (Activations.Distinct().Count() < Activations.Count) throw new BadInputException("Option 'activations' names one twice.");
        if (Hidden.Count == 0) throw new BadInputException("Option 'hidden' is empty; at least one hidden layer is needed.");
    }
}

/// <summary>Trains small nets with many activation functions and follows what their layers carry about input and label.</summary>
public sealed class InformationCompressionRecipe : Recipe<InformationCompressionOptions>
{
    private const double TanhCompression = 1.5, EluCompression = 0.5, EluDifference = 0.5, AccuracyDifference = 0.04, FixedChange = 1; // Bits and shares that the claims name.

    /// <inheritdoc/>
    public override string Id => "information-compression";

    /// <inheritdoc/>
    public override string Area => "Interpretability";

    /// <inheritdoc/>
    public override string Title => "Adaptive estimators of information compression";

    /// <inheritdoc/>
    public override string Summary => "Measures how much each layer of a network knows of its input and of the label during training, whatever its activation function.";

    /// <inheritdoc/>
    public override Paper Paper => new("Adaptive Estimators Show Information Compression in Deep Neural Networks", "Ivan Chelombiev, Conor Houghton, Cian O'Donnell", "ICLR", 2019, "https://arxiv.org/abs/1902.09037");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims { get; } =
    [
        new("tanh-compresses", "tanh: I(X;T) of the last hidden layer ends at least 1.5 bits below its maximum, on every seed."),
        new("elu-l2-compresses", "ELU with L2, which does not saturate above: the last hidden layer ends at least 0.5 bit below its maximum, on every seed."),
        new("l2-lowers-information", "ELU: L2 lowers the final I(X;T), mean of the last two hidden layers, by at least 0.5 bit, on every seed."),
        new("l2-keeps-accuracy", "ELU: L2 changes the test accuracy by at most 0.04, on every seed."),
        new("adaptive-bins-ignore-scale", "tanh: activations times 1000 change the estimate of adaptive binning by exactly 0, on every seed."),
        new("fixed-bins-do-not", "tanh: activations times 1000 change the estimate of fixed bins on [-1, 1] by at least 1 bit, on every seed."),
    ];

    /// <inheritdoc/>
    public override InformationCompressionOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Activations = [HiddenActivation.Tanh, HiddenActivation.Elu], Epochs = 120, Snapshots = 5, Compared = 1, ComparedRows = 512 },
        Budget.Paper => new() { Epochs = 8000, BatchSize = 256, LearningRate = 4e-4, Snapshots = 400, Convolutional = true },
        _ => new(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget switch { Budget.Smoke => [0], Budget.Full => [0, 1, 2, 3], _ => [.. Enumerable.Range(0, 50)] };

    /// <inheritdoc/>
    public override void Run(InformationCompressionOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        if (context.Data is { } data && ActivationFolder.Is(data.Path))
        {
            RunOnActivations(options, context, data);
            return;
        }
        Population population = context.Data is { } table ? Population.Read(table, options.TrainFraction) : Population.BinaryVectors(options.TrainFraction);
        context.UsedData(population.Description);
        List<Study> studies = RunStudies(options, context, population, convolutional: false);
        if (options.Convolutional && context.Data is null)
        {
            if (context.DataFolder.Find("mnist") is { } folder)
            {
                Population digits = Population.Digits(folder, options.ConvolutionalSamples);
                context.UsedData(digits.Description);
                studies.AddRange(RunStudies(options, context, digits, convolutional: true));
            }
            else
            {
                context.Note("The study of a convolutional net was left out: the dataset mnist is not in the data folder.");
            }
        }
        Report(studies, options, context);
        if (options.Estimator == InformationEstimator.Ebab) CheckClaims(studies, context);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        using var scope = NewDisposeScope();
        var options = run.Options<InformationCompressionOptions>();
        List<InformationPoint> points = [];
        if (ActivationFolder.Is(context.DataPath))
        {
            ActivationFolder folder = ActivationFolder.Read(context.DataPath, context.Data.Target);
            points.AddRange(InformationTrace.Of(folder.Snapshots, folder.Labels, Estimator(options, options.Low), cancellation: context.Cancellation).Points);
        }
        else
        {
            if (run.Models.Count == 0) throw new BadInputException($"Run {run.Folder} was made from stored activations and has no network; give a folder of epoch_*.safetensors.");
            foreach (string name in run.Models)
            {
                var description = run.Description<StudyNetwork>(name);
                if (description.Convolutional) continue; // Its data are images, the others' are rows.
                (Tensor inputs, Tensor labels) = Population.ReadNew(context.DataPath, description.Schema);
                if (inputs.numel() / inputs.shape[0] != description.Inputs)
                    throw new BadInputException($"{context.DataPath} has {inputs.numel() / inputs.shape[0]} numbers a row; the network was trained with {description.Inputs}.");
                Module<Tensor, Tensor> network = description.Create();
                network.load_state_dict(run.Model(name));
                network.to(context.Device);
                using InformationPlane plane = InformationPlane.Track(network, description.Layers.Select(l => l.Module), inputs.to(context.Device), labels, [description.Epochs]);
                plane.Record(description.Epochs);
                InformationTrace trace = Named(plane.Estimate(Estimator(options, description.Activation), cancellation: context.Cancellation), description);
                points.AddRange(trace.Points.Select(p => p with { Layer = $"{name}/{p.Layer}" }));
            }
        }
        string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "information.csv");
        AtomicFile.WriteText(path, new InformationTrace(points).ToCsv());
        context.Report($"{points.Count} estimates of {points.Select(p => p.Layer).Distinct().Count()} layers: {path}");
    }

    private static IMutualInformationEstimator Estimator(InformationCompressionOptions options, double? low) => options.Estimator switch
    {
        InformationEstimator.Akde => new AdaptiveKde(options.Kappa, options.NoiseScaling),
        InformationEstimator.Knn => new KnnMutualInformation(options.Neighbours),
        _ => new EntropyBasedAdaptiveBinning(options.Bins, low),
    };

    private static IMutualInformationEstimator Estimator(InformationCompressionOptions options, HiddenActivation activation) => Estimator(options, activation.LowerEdge());

    private static InformationTrace Named(InformationTrace trace, StudyNetwork network)
    {
        var labels = network.Layers.ToDictionary(l => l.Module, l => l.Label);
        return new(trace.Points.Select(p => p with { Layer = labels.GetValueOrDefault(p.Layer, p.Layer) }));
    }

    /// <summary>One arm of the study with its runs, one for each seed.</summary>
    private sealed record Study(string Arm, HiddenActivation Activation, double L2, StudyNetwork Network, IReadOnlyList<ArmResult> Runs)
    {
        public string LastHidden => Network.Layers[^1].Label;

        public IReadOnlyList<InformationTrace> Traces { get; } = [.. Runs.Select(Trace)];

        public IReadOnlyList<double> Compression(string layer) => [.. Traces.Select(t => t.Compression().First(c => c.Layer == layer).Bits)];

        public IReadOnlyList<double> Final(string layer) => [.. Traces.Select(t => t[layer][^1].Ixt)];

        public IReadOnlyList<double> Metric(string name) => [.. Runs.Select(r => r[name])];

        private static InformationTrace Trace(ArmResult run) => new(run.Curves.Keys.Where(k => k.StartsWith("ixt ", StringComparison.Ordinal)).Select(k => k[4..]).SelectMany(layer =>
        {
            (double[] epochs, double[] ixt) = run.Series($"ixt {layer}");
            double[] ity = run.Series($"ity {layer}").Y, rows = run.Series($"rows {layer}").Y;
            return epochs.Select((epoch, i) => new InformationPoint((int)epoch, layer, ixt[i], ity[i], run["cap"], (long)rows[i]));
        }));
    }

    private static List<Study> RunStudies(InformationCompressionOptions options, RunContext context, Population population, bool convolutional)
    {
        List<Study> studies = [];
        foreach (HiddenActivation activation in options.Activations)
        {
            double penalty = activation == HiddenActivation.Tanh ? options.TanhL2 : options.L2;
            foreach (double l2 in penalty > 0 ? (double[])[0, penalty] : [0])
            {
                string arm = $"{(convolutional ? "convolutional " : "")}{Name(activation)}{(l2 > 0 ? " L2" : "")}";
                var network = new StudyNetwork(activation, (int)(population.Inputs.numel() / population.Inputs.shape[0]), options.Hidden, population.Classes, convolutional, convolutional ? options.ConvolutionalEpochs : options.Epochs, population.Schema);
                bool compared = studies.Count < options.Compared && !convolutional;
                studies.Add(new(arm, activation, l2, network,
                    [.. context.Seeds.Select(seed => context.Arm(arm, seed, run => Train(run, options, population, network, l2, save: seed == context.Seeds[0], compare: compared && seed == context.Seeds[0])))]));
            }
        }
        return studies;
    }

    private static void Train(ArmRun run, InformationCompressionOptions options, Population population, StudyNetwork description, double l2, bool save, bool compare)
    {
        Module<Tensor, Tensor> network = description.Create();
        HiddenActivations.Initialize(network, description.Activation);
        network.to(run.Device);
        IReadOnlyList<int> schedule = InformationPlane.LogSpaced(description.Epochs, options.Snapshots);
        var history = new WeightHistory(network, schedule);
        history.Record(0);
        using var learner = new StudyLearner(network, history, options.LearningRate, l2);
        var trainer = run.Trainer(new TrainerOptions { Epochs = description.Epochs, BatchSize = options.BatchSize });
        trainer.Fit(learner, new TensorSource(population.Train.Inputs, population.Train.Labels), epoch =>
        {
            history.Record(epoch);
            return new Dictionary<string, double>();
        }, run.Cancellation);

        using InformationPlane plane = InformationPlane.Track(network, description.Layers.Select(l => l.Module), population.Inputs.to(run.Device), population.Labels.to(run.Device), schedule);
        foreach (int epoch in schedule)
        {
            history.Restore(epoch);
            plane.Record(epoch);
        }
        InformationTrace trace = Named(plane.Estimate(Estimator(options, description.Activation), cancellation: run.Cancellation), description);
        run.Metric("accuracy", Accuracy(network, population.Test, run.Device));
        run.Metric("cap", trace.Points[0].Cap);
        run.Metric("samples", population.Labels.shape[0]);
        foreach (string layer in trace.Layers)
        {
            IReadOnlyList<InformationPoint> points = trace[layer];
            double[] epochs = [.. points.Select(p => (double)p.Epoch)];
            run.Series($"ixt {layer}", epochs, [.. points.Select(p => p.Ixt)]);
            run.Series($"ity {layer}", epochs, [.. points.Select(p => p.Ity)]);
            run.Series($"rows {layer}", epochs, [.. points.Select(p => (double)p.UniqueRows)]);
        }
        MeasureScale(run, options, plane, description, population.Labels.to(run.Device));
        if (compare) CompareEstimators(run, options, plane, description, population.Labels.to(run.Device));
        if (save) run.SaveModel(run.Arm, network.state_dict(), description);
    }

    private static double Accuracy(Module<Tensor, Tensor> network, (Tensor Inputs, Tensor Labels) test, Device device)
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        network.eval();
        double correct = 0;
        foreach ((Tensor inputs, Tensor labels) in test.Inputs.split(4096).Zip(test.Labels.split(4096)))
            correct += network.call(inputs.to(device)).argmax(1).eq(labels.to(device)).sum().item<long>();
        return correct / test.Labels.shape[0];
    }

    /// <summary>How the estimates of the last hidden layer at the last epoch change when its activations are multiplied by 1000.</summary>
    private static void MeasureScale(ArmRun run, InformationCompressionOptions options, InformationPlane plane, StudyNetwork network, Tensor labels)
    {
        const double Factor = 1000;
        using var scope = NewDisposeScope();
        Tensor t = plane.Snapshots[^1].Activations[network.Layers[^1].Module].to(ScalarType.Float64);
        LayerRunStatistics range = LayerRunStatistics.Of(t);
        double Change(IMutualInformationEstimator estimator)
            => Math.Abs(estimator.Estimate(t * Factor, labels, new(range.Minimum * Factor, range.Maximum * Factor)).Ixt - estimator.Estimate(t, labels, range).Ixt);
        run.Metric("scale adaptive", Change(new EntropyBasedAdaptiveBinning(options.Bins)));
        run.Metric("scale fixed", Change(new EqualWidthBinning(options.Bins, -1, 1)));
    }

    private static readonly string[] s_compared = ["ebab", "equal-width", "akde upper", "akde lower", "fixed kde", "knn"];

    private static void CompareEstimators(ArmRun run, InformationCompressionOptions options, InformationPlane plane, StudyNetwork network, Tensor labels)
    {
        string layer = network.Layers[^1].Module;
        long n = labels.shape[0];
        Tensor rows = options.ComparedRows < n ? Population.SplitRows(n, (double)options.ComparedRows / n).Train : arange(n, dtype: ScalarType.Int64);
        rows = rows.to(labels.device);
        labels = labels.index_select(0, rows);
        var snapshots = plane.Snapshots.Select(s => (s.Epoch, T: s.Activations[layer].index_select(0, rows))).ToList();
        LayerRunStatistics range = LayerRunStatistics.Of(snapshots.Select(s => s.T));
        IMutualInformationEstimator[] estimators =
        [
            EntropyBasedAdaptiveBinning.For(network.Activation, options.Bins), new EqualWidthBinning(options.Bins), new AdaptiveKde(options.Kappa, options.NoiseScaling),
            new AdaptiveKde(options.Kappa, options.NoiseScaling, EntropyBound.Lower), new FixedNoiseKde(), new KnnMutualInformation(options.Neighbours),
        ];
        foreach ((string name, IMutualInformationEstimator estimator) in s_compared.Zip(estimators))
        {
            List<LayerInformation> estimates = [];
            foreach ((_, Tensor t) in snapshots)
            {
                run.Cancellation.ThrowIfCancellationRequested();
                estimates.Add(estimator.Estimate(t, labels, range));
            }
            double[] epochs = [.. snapshots.Select(s => (double)s.Epoch)];
            run.Series($"compare ixt {name}", epochs, [.. estimates.Select(e => e.Ixt)]);
            run.Series($"compare ity {name}", epochs, [.. estimates.Select(e => e.Ity)]);
        }
    }

    private static void CheckClaims(List<Study> studies, RunContext context)
    {
        Study? Arm(HiddenActivation activation, bool l2) => studies.FirstOrDefault(s => s.Activation == activation && s.L2 > 0 == l2 && !s.Network.Convolutional);
        Study? tanh = Arm(HiddenActivation.Tanh, false), elu = Arm(HiddenActivation.Elu, false), eluL2 = Arm(HiddenActivation.Elu, true);
        void AtLeast(string claim, IReadOnlyList<double> perSeed, double threshold) => context.Check(claim, perSeed.Min(), Comparison.AtLeast, threshold, perSeed);
        void AtMost(string claim, IReadOnlyList<double> perSeed, double threshold) => context.Check(claim, perSeed.Max(), Comparison.AtMost, threshold, perSeed);
        if (tanh is not null)
        {
            AtLeast("tanh-compresses", tanh.Compression(tanh.LastHidden), TanhCompression);
            AtMost("adaptive-bins-ignore-scale", tanh.Metric("scale adaptive"), 0);
            AtLeast("fixed-bins-do-not", tanh.Metric("scale fixed"), FixedChange);
        }
        if (elu is null || eluL2 is null) return;
        string[] lastTwo = [.. elu.Network.Layers.TakeLast(2).Select(l => l.Label)];
        double[] Mean(Study s) => [.. Enumerable.Range(0, s.Runs.Count).Select(i => lastTwo.Average(layer => s.Final(layer)[i]))];
        AtLeast("elu-l2-compresses", eluL2.Compression(eluL2.LastHidden), EluCompression);
        AtLeast("l2-lowers-information", [.. Mean(elu).Zip(Mean(eluL2), (without, with) => without - with)], EluDifference);
        AtMost("l2-keeps-accuracy", [.. elu.Metric("accuracy").Zip(eluL2.Metric("accuracy"), (a, b) => Math.Abs(a - b))], AccuracyDifference);
    }

    private static void Report(List<Study> studies, InformationCompressionOptions options, RunContext context)
    {
        WriteCsv(studies, context);
        foreach (var group in studies.GroupBy(s => s.Network.Convolutional))
        {
            string suffix = group.Key ? "-convolutional" : "";
            string[] layers = [.. group.First().Traces[0].Layers];
            context.Table($"information{suffix}", $"Final I(X;T) in bits, and in brackets how far it fell from its maximum; mean over {context.Seeds.Count} seed(s). Cap {Number(group.First().Runs[0]["cap"])} bits.",
                ["arm", "test accuracy", .. layers],
                [.. group.Select(s => (string[])[s.Arm, $"{s.Metric("accuracy").Average():F3}", .. layers.Select(l => $"{Number(s.Final(l).Average())} ({Number(s.Compression(l).Average())})")])]);
            context.Table($"label{suffix}", "Final I(T;Y) in bits, and in brackets the share of samples whose row the estimator tells from all others' (1: I(X;T) is at its cap and says nothing of the layer).",
                ["arm", .. layers],
                [.. group.Select(s => (string[])[s.Arm, .. layers.Select(l => $"{Number(s.Traces.Average(t => t[l][^1].Ity))} ({s.Traces.Average(t => t[l][^1].UniqueRows / s.Runs[0]["samples"]):F2})")])]);
            if (context.Seeds.Count > 2)
                context.Table($"correlation{suffix}", $"Pearson correlation of compression with test accuracy across {context.Seeds.Count} initialisations; {(context.Seeds.Count < 20 ? "so few say little" : "by layer")}.",
                    ["arm", .. layers], [.. group.Select(s => InformationTrace.Correlate(s.Traces, s.Metric("accuracy"))).Zip(group, (r, s) => (string[])[s.Arm, .. layers.Select(l => Number(r[l]))])]);
            if (options.Estimator == InformationEstimator.Knn) continue; // No I(X;T) to draw.
            context.Figure($"compression{suffix}", "Compression: maximum less final I(X;T). Bars: mean over seeds; dots: seeds.",
                Charts.GroupedBars("Compression by layer", "maximum - final I(X;T), bits", [.. group.Select(s => s.Arm)],
                    [.. layers.Select(l => (l, (IReadOnlyList<IReadOnlyList<double>>)[.. group.Select(s => s.Compression(l))]))]), width: 1200);
            foreach (bool l2 in (bool[])[false, true])
            {
                Study[] arms = [.. group.Where(s => s.L2 > 0 == l2)];
                if (arms.Length == 0) continue;
                context.Figure($"epochs{(l2 ? "-l2" : "")}{suffix}", $"I(X;T) of the last hidden layer during training{(l2 ? " with L2" : "")}: mean and range over seeds.",
                    Charts.Lines($"I(X;T) of {arms[0].LastHidden}{(l2 ? ", L2" : "")}", "epoch", "bits", [.. arms.Select(s => Course(s, s.LastHidden))], logX: true));
            }
            foreach (Study study in group)
                context.Figure($"plane-{study.Arm.Replace(' ', '-').ToLowerInvariant()}", $"Information plane of {study.Arm}, seed {study.Runs[0].Seed}: dark is the start of training, yellow the end.", Plane(study.Arm, study.Traces[0]), width: 760, height: 600);
        }
        ReportComparison(studies, context);
    }

    private static void ReportComparison(List<Study> studies, RunContext context)
    {
        Study[] compared = [.. studies.Where(s => s.Runs[0].Curves.ContainsKey($"compare ixt {s_compared[0]}"))];
        if (compared.Length == 0) return;
        string Cell(Study s, string estimator)
        {
            (_, double[] ixt) = s.Runs[0].Series($"compare ixt {estimator}");
            double ity = s.Runs[0].Series($"compare ity {estimator}").Y[^1];
            return double.IsNaN(ixt[^1]) ? $"- / {Number(ity)}" : $"{Number(ixt.Max())} → {Number(ixt[^1])} / {Number(ity)}";
        }
        context.Table("estimators", $"Last hidden layer, seed {compared[0].Runs[0].Seed}: maximum → final I(X;T) / final I(T;Y), bits. Nearest neighbours have no I(X;T) of a deterministic layer.",
            ["arm", .. s_compared], [.. compared.Select(s => (string[])[s.Arm, .. s_compared.Select(e => Cell(s, e))])]);
        Study first = compared[0];
        context.Figure("estimators", $"I(X;T) of the last hidden layer by estimator: {first.Arm}, seed {first.Runs[0].Seed}.",
            Charts.Lines($"I(X;T) of {first.LastHidden} ({first.Arm}) by estimator", "epoch", "bits", [.. s_compared[..^1].Select(e =>
            {
                (double[] x, double[] y) = first.Runs[0].Series($"compare ixt {e}");
                return new Curve(e, x[1..], y[1..]); // Epoch 0 has no place on a logarithmic axis.
            })], logX: true));
    }

    private static Curve Course(Study study, string layer)
    {
        var after = study.Traces.Select(t => t[layer].Where(p => p.Epoch > 0).ToList()).ToList();
        return new(study.Arm, [.. after[0].Select(p => (double)p.Epoch)], [.. after.Select(points => (IReadOnlyList<double>)[.. points.Select(p => p.Ixt)])]);
    }

    private static Plot Plane(string arm, InformationTrace trace)
    {
        Plot plot = Charts.Create($"Information plane: {arm}", "I(X;T), bits", "I(T;Y), bits");
        var colors = new ScottPlot.Colormaps.Viridis();
        for (int i = 0; i < trace.Layers.Count; i++)
        {
            IReadOnlyList<InformationPoint> points = trace[trace.Layers[i]];
            var path = plot.Add.ScatterLine(points.Select(p => p.Ixt).ToArray(), points.Select(p => p.Ity).ToArray(), Colors.LightGray);
            path.LineWidth = 1;
            for (int k = 0; k < points.Count; k++)
                plot.Add.Marker(points[k].Ixt, points[k].Ity, MarkerShape.FilledCircle, 9, colors.GetColor(points.Count == 1 ? 1 : k / (points.Count - 1.0)));
        }
        // Layers that end at the same place share a label.
        foreach (var place in trace.Layers.Select(l => trace[l][^1]).GroupBy(p => (Math.Round(p.Ixt), Math.Round(p.Ity, 1))))
        {
            var name = plot.Add.Text(string.Join(", ", place.Select(p => p.Layer)), place.Last().Ixt, place.Last().Ity);
            name.LabelAlignment = Alignment.LowerRight;
            name.LabelFontSize = 12;
            (name.OffsetX, name.OffsetY) = (-6, -5);
        }
        plot.Axes.Margins(0.05, 0.12);
        plot.HideLegend();
        return plot;
    }

    private static void WriteCsv(List<Study> studies, RunContext context)
    {
        var text = new StringBuilder("arm,seed,epoch,layer,ixt,ity,cap,uniqueRows\n");
        foreach (Study study in studies)
            foreach ((ArmResult run, InformationTrace trace) in study.Runs.Zip(study.Traces))
                foreach (string line in trace.ToCsv().Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1))
                    text.Append(CultureInfo.InvariantCulture, $"{study.Arm},{run.Seed},{line}\n");
        AtomicFile.WriteText(context.OutputPath("information.csv"), text.ToString());
    }

    private static void RunOnActivations(InformationCompressionOptions options, RunContext context, UserData data)
    {
        using var scope = NewDisposeScope();
        ActivationFolder folder = ActivationFolder.Read(data.Path, data.Target);
        string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(data.Path));
        context.UsedData($"activations of {folder.Snapshots.Count} epochs in {name}, {folder.Labels.shape[0]} samples");
        InformationTrace trace = InformationTrace.Of(folder.Snapshots, folder.Labels, Estimator(options, options.Low), cancellation: context.Cancellation);
        AtomicFile.WriteText(context.OutputPath("information.csv"), trace.ToCsv());
        context.Table("information", $"Information at epoch {folder.Snapshots[^1].Epoch} in bits; cap {Number(trace.Points[0].Cap)} bits.", ["layer", "I(X;T)", "I(T;Y)", "compression", "distinct rows"],
            [.. trace.Compression().Select(c => (string[])[c.Layer, Number(c.Final), Number(trace[c.Layer][^1].Ity), Number(c.Bits), $"{trace[c.Layer][^1].UniqueRows}"])]);
        if (options.Estimator == InformationEstimator.Knn) return;
        context.Figure("plane", "Information plane: dark is the first epoch, yellow the last.", Plane(name, trace), width: 760, height: 600);
        context.Figure("compression", "Compression: maximum less final I(X;T).", Charts.Bars("Compression by layer", "maximum - final I(X;T), bits", [.. trace.Compression().Select(c => (c.Layer, (IReadOnlyList<double>)[c.Bits]))]));
    }

    private static string Name(HiddenActivation activation) => activation switch
    {
        HiddenActivation.Relu => "ReLU",
        HiddenActivation.Elu => "ELU",
        HiddenActivation.CentredSoftplus => "centred softplus",
        _ => activation.ToString().ToLowerInvariant(),
    };

    private static string Number(double value) => double.IsFinite(value) ? value.ToString("F2", CultureInfo.InvariantCulture) : "-";
}
