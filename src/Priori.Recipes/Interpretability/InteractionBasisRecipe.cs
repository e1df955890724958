using System.Globalization;
using System.Text;
using System.Text.Json;
using Priori.Data;
using Priori.Interpretability;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using static Priori.Recipes.BadInput;

namespace Priori.Recipes.Interpretability;

/// <summary>Options of <see cref="InteractionBasisRecipe"/>.</summary>
public sealed record InteractionBasisRecipeOptions : RecipeOptions
{
    /// <summary>Cuts.</summary>
    [Option("Own network: layers at whose outputs it is cut, in order; all activation functions (in transformers the sums) and the last layer unless given.")]
    public IReadOnlyList<string> Layers { get; init; } = [];

    /// <summary>Target.</summary>
    [Option("Whose gradients count: the next layer's (local, the published experiments) or the network's output (final).", Choices = ["local", "final"])]
    public string Target { get; init; } = "local";

    /// <summary>Truncation.</summary>
    [Option("Eigenvalues below this share of the largest are dropped.", Min = 0, Max = .1)]
    public double Truncation { get; init; } = 1e-10;

    /// <summary>Integration.</summary>
    [Option("How edges are integrated.")]
    public IntegrationMethod Integration { get; init; } = IntegrationMethod.Gradient;

    /// <summary>Edge transform.</summary>
    [Option("How edges become weights of the graph in which modules are sought.")]
    public EdgeTransform Transform { get; init; } = EdgeTransform.LogPerLayer;

    /// <summary>Tolerance.</summary>
    [Option("Loss of accuracy (own data without labels: of explained variance) that ablations may cause.", Min = 0)]
    public double Tolerance { get; init; } = .005;

    /// <summary>Rows for the basis.</summary>
    [Option("Rows from which bases are computed.", Min = 2)]
    public int BasisRows { get; init; } = 5000;

    /// <summary>Rows for ablations.</summary>
    [Option("Rows on which ablations are measured.", Min = 2)]
    public int TestRows { get; init; } = 4000;

    /// <summary>Hidden widths of the digits' network.</summary>
    [Option("Default data: hidden widths of the digits' network.", Min = 2)]
    public IReadOnlyList<int> Hidden { get; init; } = [60, 60];

    /// <summary>Training images.</summary>
    [Option("Default data: training images of the digits' network.", Min = 100)]
    public int TrainImages { get; init; } = 20_000;

    /// <summary>Epochs.</summary>
    [Option("Default data: epochs of the digits' network.", Min = 1)]
    public int Epochs { get; init; } = 4;

    /// <summary>Toy vectors.</summary>
    [Option("Default data: random vectors of the network of two blocks.", Min = 100)]
    public int ToyRows { get; init; } = 10_000;

    /// <summary>Modulus.</summary>
    [Option("Default data: modulus of modular addition; 113 in the paper.", Min = 3)]
    public int Modulus { get; init; } = 31;

    /// <summary>Width of the network for modular addition.</summary>
    [Option("Default data: hidden width of the network for modular addition.", Min = 2)]
    public int ModularWidth { get; init; } = 128;

    /// <summary>Training steps of modular addition.</summary>
    [Option("Default data: most epochs (full batch) of modular addition.", Min = 1)]
    public int ModularEpochs { get; init; } = 4000;
}

/// <summary>A network whose bases were computed.</summary>
/// <param name="Architecture">The layers (JSON).</param>
/// <param name="Layers">Layers at whose outputs it is cut.</param>
public sealed record InteractionBasisModel(string Architecture, IReadOnlyList<string> Layers);

/// <summary>The local interaction basis of networks, how few directions and edges they need in it, their modules and their degeneracies.</summary>
public sealed class InteractionBasisRecipe : Recipe<InteractionBasisRecipeOptions>
{
    private const string Lib = "interaction basis", Pca = "principal components", Model = "model", Layers = "arch";
    private const int ShownNodes = 24, ShownEdges = 160;
    private const long WidestLayer = 4096;

    /// <inheritdoc/>
    public override string Id => "interaction-basis";

    /// <inheritdoc/>
    public override string Area => "Interpretability";

    /// <inheritdoc/>
    public override string Title => "Local interaction basis and degeneracy";

    /// <inheritdoc/>
    public override string Summary => "Finds the directions that each layer of a network really uses, how they interact, which modules they form, and how many parameters are free.";

    /// <inheritdoc/>
    public override Paper Paper => new("Using Degeneracy in the Loss Landscape for Mechanistic Interpretability", "Bushnaq, Mendel, Heimersheim, Braun, Goldowsky-Dill, Hänni, Wu, Hobbhahn", "arXiv", 2024, "https://arxiv.org/abs/2405.10927");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("edges", "On digits the interaction basis needs at most 0.4 times as many edges between the hidden layers as principal components, on every seed (the largest ratio)."),
        new("nodes", "On digits the interaction basis needs no more directions of the first hidden layer than principal components, on every seed (the largest difference)."),
        new("crossing", "In a network of two blocks the share of edge weight that crosses them is at most a fifth of that with principal components, on every seed (the largest ratio)."),
        new("crossing-median", "The median of that share over the seeds is at most 0.002."),
        new("modules", "Modules found in the interaction basis agree with the two blocks better than those found in principal components (adjusted Rand index, mean over seeds)."),
        new("modular-addition", "For modular addition the interaction basis needs no more edges to the logits than principal components, in the mean (the ratio)."),
        new("planted", "Planted dependences (duplicate inputs, units without effect, tied and dead ReLUs) are counted exactly (wrong counts)."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        [Model] = "The network: a safetensors checkpoint.",
        [Layers] = "arch.json, its layers; found beside the checkpoint when not given.",
    };

    /// <inheritdoc/>
    public override InteractionBasisRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Hidden = [24, 24], TrainImages = 2000, Epochs = 1, BasisRows = 400, TestRows = 300, Tolerance = .02, ToyRows = 2000, Modulus = 7, ModularWidth = 32, ModularEpochs = 200 },
        // The configuration of the released modular-addition and MNIST experiments.
        Budget.Paper => new() { Hidden = [100, 100], TrainImages = 60_000, Epochs = 12, BasisRows = 60_000, TestRows = 10_000, Tolerance = .001, Modulus = 113, ModularWidth = 512, ModularEpochs = 60_000 },
        _ => new(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Full ? [0, 1, 2, 3, 4] : base.Seeds(budget);

    /// <inheritdoc/>
    public override void Run(InteractionBasisRecipeOptions options, RunContext context)
    {
        if (context.Data is { } data)
        {
            RunOwn(options, context, data);
            return;
        }
        RunDigits(options, context);
        RunBlocks(options, context);
        RunModularAddition(options, context);
        RunPlanted(context);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        InteractionBasisModel description = run.Description<InteractionBasisModel>("network");
        Architecture architecture = Architecture.FromJson(description.Architecture);
        Examples examples = Examples.Read(context.DataPath, architecture.Input);
        using Network network = new Network(architecture).Load(run.Model("network"));
        Dictionary<string, Tensor> tensors = run.Model("basis");
        IReadOnlyList<Tensor> activations = SectionedModel.Of(network, description.Layers).Activations(examples.Inputs);
        if (Path.HasExtension(context.OutPath)) throw new BadInputException($"Coordinates of several layers are written into a folder, not as {context.OutPath}.");
        Directory.CreateDirectory(context.OutPath);
        Npz.Write(Path.Combine(context.OutPath, "coordinates.npz"), description.Layers.Select((name, l) => (name, ReadBasis(tensors, name).Coordinates(activations[l]).to(float32))).ToDictionary(p => p.name, p => p.Item2));
        context.Report($"Coordinates of {examples.Count} rows in {description.Layers.Count} layers: {Path.Combine(context.OutPath, "coordinates.npz")}");
    }

    // ---- digits ----

    private static void RunDigits(InteractionBasisRecipeOptions options, RunContext context)
    {
        Digits digits = Digits.Load(context, Math.Max(options.TrainImages, options.BasisRows), options.TestRows);
        Architecture architecture = Architectures.Mlp([1, 28, 28], [.. options.Hidden.Select(h => (long)h)], 10);
        string[] cuts = DefaultCuts(architecture);
        (Tensor trainX, Tensor trainY) = digits.TrainPart(0, options.TrainImages);
        (Tensor testX, Tensor testY) = digits.TestPart(0, options.TestRows);
        Tensor calibration = digits.TrainPart(0, options.BasisRows).Images;
        var results = new Dictionary<string, List<ArmResult>> { [Lib] = [], [Pca] = [] };
        foreach (int seed in context.Seeds)
        {
            string path = context.OutputPath($"digits-{seed}.safetensors");
            context.Arm("digits network", seed, run => Safetensors.Write(path, TrainClassifier(run, architecture, trainX, trainY, testX, testY, options.Epochs, 100)));
            foreach (BasisKind kind in new[] { BasisKind.Local, BasisKind.Pca })
            {
                string name = kind == BasisKind.Pca ? Pca : Lib;
                results[name].Add(context.Arm($"digits, {name}", seed, run =>
                {
                    using Network network = new Network(architecture).Load(Safetensors.Read(path));
                    Examine(options, run, SectionedModel.Of(network, cuts), calibration, testX, Accuracy(testY), kind, save: seed == context.Seeds[0]);
                    if (kind != BasisKind.Pca && seed == context.Seeds[0]) run.SaveModel("network", network.State(), new InteractionBasisModel(architecture.ToJson(), cuts));
                }));
            }
        }
        double[] Ratios(string metric) => [.. results[Lib].Zip(results[Pca], (a, b) => a[metric] / Math.Max(1, b[metric]))];
        double[] edges = Ratios("edges 0");
        context.Check("edges", edges.Max(), Comparison.AtMost, .4, edges);
        double[] nodes = [.. results[Lib].Zip(results[Pca], (a, b) => a["nodes 0"] - b["nodes 0"])];
        context.Check("nodes", nodes.Max(), Comparison.AtMost, 0, nodes);
        Needed(context, "digits", $"Digits, {string.Join("-", options.Hidden)}: directions and edges needed for an accuracy within {options.Tolerance.ToString(CultureInfo.InvariantCulture)} of the network's.", cuts, results);
        Curves(context, "digits", results, cuts);
        EdgeMaps(context, "digits", results, cuts);
        Graph(context, "digits-graph", "Interactions of the digits' network in the interaction basis (first seed): the most important directions of each layer, strongest edges, colours are modules.", results[Lib][0], cuts);
    }

    private static Dictionary<string, Tensor> TrainClassifier(ArmRun run, Architecture architecture, Tensor x, Tensor y, Tensor testX, Tensor testY, int epochs, int batch, double weightDecay = 0, double learningRate = 1e-3)
    {
        Runtime.Seeds.Set(Runtime.Seeds.Derive(run.Seed, 4));
        var network = new Network(architecture);
        network.to(run.Device);
        optim.Optimizer optimizer = weightDecay > 0 ? optim.AdamW(network.parameters(), learningRate, weight_decay: weightDecay) : optim.Adam(network.parameters(), learningRate);
        using var learner = new ClassifierLearner(network, optimizer);
        run.Trainer(new TrainerOptions { Epochs = epochs, BatchSize = batch }).Fit(learner, new TensorSource(x, y), cancellation: run.Cancellation);
        run.Metric("accuracy", Classification.Accuracy(Inference.Outputs(network, testX), testY));
        return network.State().ToDictionary(p => p.Key, p => p.Value.cpu());
    }

    private static Func<Tensor, double> Accuracy(Tensor labels) => outputs => Classification.Accuracy(outputs, labels);

    // Basis, edges, ablations and modules of one network; everything the figures need is kept in the arm.
    private static void Examine(InteractionBasisRecipeOptions options, ArmRun run, SectionedModel model, Tensor calibration, Tensor inputs, Func<Tensor, double> metric, BasisKind kind, bool save)
    {
        InteractionGraph graph = InteractionBasis.Compute(model, calibration, new InteractionBasisOptions
        {
            Basis = kind == BasisKind.Local && options.Target == "final" ? BasisKind.Final : kind,
            Truncation = options.Truncation,
            Integration = options.Integration,
            Seed = run.Seed,
        }, run.Cancellation);
        var study = new AblationStudy(model, graph, inputs, metric);
        run.Metric("whole network", study.Baseline);
        var resolutions = new List<double>();
        for (int l = 0; l < graph.Edges.Count; l++)
        {
            int most = study.EdgeCount(l), size = study.NodeCount(l);
            int nodes = study.NodesNeeded(l, options.Tolerance), edges = study.EdgesNeeded(l, options.Tolerance);
            run.Metric($"nodes {l}", nodes);
            run.Metric($"edges {l}", edges);
            run.Metric($"size {l}", size);
            int[] counts = [.. Enumerable.Range(0, 12).Select(k => (int)Math.Round(Math.Pow(most, k / 11.0))).Append(Math.Max(1, edges)).Distinct().Order()]; // from 1 edge on, as the axis is logarithmic
            run.Series($"edge curve {l}", [.. counts.Select(c => (double)c)], study.EdgeCurve(l, counts));
            int[] directions = [.. Enumerable.Range(0, size + 1).Where(k => k <= 24 || k % Math.Max(1, size / 16) == 0)];
            run.Series($"node curve {l}", [.. directions.Select(c => (double)c)], study.NodeCurve(l, directions));
            double strongest = graph.Edges[l].Weights.max().ToDouble();
            resolutions.Add(Math.Max(edges == 0 ? strongest : study.WeakestOf(l, edges), strongest * 1e-12));
            run.Tensor($"edges {l}", graph.Edges[l].Weights);
            run.Tensor($"constant {l}", graph.Edges[l].Constant);
        }
        ModulePartition partition = ModularityAnalysis.Detect(graph, options.Transform, resolutions, seed: run.Seed);
        run.Metric("modules", partition.Modules.SelectMany(m => m).Distinct().Count());
        run.Metric("modularity", partition.Modularity);
        var tensors = new Dictionary<string, Tensor>();
        for (int l = 0; l < graph.Layers.Count; l++)
        {
            LayerBasis basis = graph.Layers[l];
            run.Tensor($"modules {l}", tensor(Array.ConvertAll(partition.Modules[l], m => (long)m)));
            run.Tensor($"lambda {l}", basis.Lambda);
            (tensors[$"{basis.Name}/C"], tensors[$"{basis.Name}/CPinv"], tensors[$"{basis.Name}/Lambda"], tensors[$"{basis.Name}/Mean"]) = (basis.C, basis.CPinv, basis.Lambda, basis.Mean);
            run.Metric($"smallest gap {l}", basis.SmallestGap);
        }
        if (kind != BasisKind.Pca && save) run.SaveModel("basis", tensors, new { Layers = model.Nodes });
    }

    private static LayerBasis ReadBasis(Dictionary<string, Tensor> tensors, string name) => new(name, tensors[$"{name}/C"], tensors[$"{name}/CPinv"], tensors[$"{name}/Lambda"], tensors[$"{name}/Mean"]);

    // ---- a network of two blocks that do not interact ----

    private static void RunBlocks(InteractionBasisRecipeOptions options, RunContext context)
    {
        const int block = 4, depth = 5;
        var results = new Dictionary<string, List<ArmResult>> { [Lib] = [], [Pca] = [] };
        foreach (int seed in context.Seeds)
            foreach (BasisKind kind in new[] { BasisKind.Local, BasisKind.Pca })
            {
                string name = kind == BasisKind.Pca ? Pca : Lib;
                results[name].Add(context.Arm($"blocks, {name}", seed, run =>
                {
                    Runtime.Seeds.Set(Runtime.Seeds.Derive(seed, 5));
                    LinearSection[] sections = [.. Enumerable.Range(0, depth).Select(l => new LinearSection(block_diag(2 * randn([block, block], float64), 2 * randn([block, block], float64)), null, Relu: l < depth - 1))];
                    SectionedModel model = SectionedModel.OfLinear([.. Enumerable.Range(0, depth + 1).Select(l => l == 0 ? "input" : l == depth ? "output" : $"hidden {l}")], sections);
                    InteractionGraph graph = InteractionBasis.Compute(model, randn([options.ToyRows, 2 * block], float64), new InteractionBasisOptions { Basis = kind, Truncation = options.Truncation });
                    // The block of a direction: where most of its vector in activation space lies.
                    Tensor[] blocks = [.. graph.Layers.Select(b => b.CPinv.square().reshape(b.Size, 2, block).sum(2).argmax(1))];
                    double[] crossing = [.. graph.Edges.Select(e => (e.Weights * blocks[e.From + 1].unsqueeze(1).ne(blocks[e.From].unsqueeze(0))).sum().ToDouble() / e.Weights.sum().ToDouble())];
                    run.Metric("crossing", crossing.Average());
                    double[] resolutions = [.. graph.Edges.Select(e => 1e-4 * e.Weights.max().ToDouble())];
                    ModulePartition partition = ModularityAnalysis.Detect(graph, EdgeTransform.LogPerLayer, resolutions, seed: seed);
                    run.Metric("adjusted Rand index", ClusteringMetrics.AdjustedRandIndex(tensor([.. partition.Modules.SelectMany(m => m).Select(m => (long)m)]), cat(blocks)));
                    run.Metric("modules", partition.Modules.SelectMany(m => m).Distinct().Count());
                    for (int l = 0; l < graph.Layers.Count; l++)
                    {
                        run.Tensor($"modules {l}", tensor(Array.ConvertAll(partition.Modules[l], m => (long)m)));
                        run.Tensor($"lambda {l}", graph.Layers[l].Lambda);
                        if (l < graph.Edges.Count) run.Tensor($"edges {l}", graph.Edges[l].Weights);
                    }
                }));
            }
        double[] ratios = [.. results[Lib].Zip(results[Pca], (a, b) => a["crossing"] / b["crossing"])];
        context.Check("crossing", ratios.Max(), Comparison.AtMost, .2, ratios);
        double[] shares = [.. results[Lib].Select(r => r["crossing"])];
        double[] ordered = [.. shares.Order()];
        context.Check("crossing-median", (ordered[(ordered.Length - 1) / 2] + ordered[ordered.Length / 2]) / 2, Comparison.AtMost, .002, shares);
        context.Compare("modules", "blocks: interaction basis - principal components", results[Lib], results[Pca], "adjusted Rand index", 1e-9);
        context.Table("blocks", "Random network of two blocks of four units a layer, five weight matrices: share of edge weight between the blocks, and agreement of the modules with them.",
            ["basis", .. context.Seeds.Select(s => $"crossing, seed {s}"), "adjusted Rand index", "modules"],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. r.Value.Select(a => a["crossing"].ToString("0.#####", CultureInfo.InvariantCulture)), Numbers.Text(r.Value.Average(a => a["adjusted Rand index"]), "F3"), Numbers.Text(r.Value.Average(a => a["modules"]), "F1")])]);
        string[] names = [.. Enumerable.Range(0, depth + 1).Select(l => l == 0 ? "input" : l == depth ? "output" : $"hidden {l}")];
        Graph(context, "blocks-graph", "The network of two blocks in the interaction basis (first seed): colours are the modules that were found.", results[Lib][0], names);
        Graph(context, "blocks-graph-pca", "The same network in principal components.", results[Pca][0], names);
    }

    // ---- modular addition ----

    private static void RunModularAddition(InteractionBasisRecipeOptions options, RunContext context)
    {
        var results = new Dictionary<string, List<ArmResult>> { [Lib] = [], [Pca] = [] };
        Architecture architecture = Architectures.Mlp([2 * options.Modulus], [options.ModularWidth, options.ModularWidth], options.Modulus);
        string[] cuts = DefaultCuts(architecture);
        foreach (int seed in context.Seeds)
        {
            var task = ModularAddition.Generate(options.Modulus, .8, seed);
            (Tensor x, Tensor testX) = (task.OneHot(task.TrainPairs), task.OneHot(task.TestPairs));
            string path = context.OutputPath($"modular-addition-{seed}.safetensors");
            context.Arm("modular addition network", seed, run =>
                Safetensors.Write(path, TrainClassifier(run, architecture, x, task.TrainSums, testX, task.TestSums, options.ModularEpochs, (int)x.shape[0], weightDecay: 1, learningRate: 3e-3)));
            foreach (BasisKind kind in new[] { BasisKind.Local, BasisKind.Pca })
            {
                string name = kind == BasisKind.Pca ? Pca : Lib;
                results[name].Add(context.Arm($"modular addition, {name}", seed, run =>
                {
                    using Network network = new Network(architecture).Load(Safetensors.Read(path));
                    Examine(options, run, SectionedModel.Of(network, cuts), x, cat([x, testX]), Accuracy(cat([task.TrainSums, task.TestSums])), kind, save: false);
                }));
            }
        }
        double[] ratios = [.. results[Lib].Zip(results[Pca], (a, b) => a["edges 1"] / Math.Max(1, b["edges 1"]))];
        context.Check("modular-addition", ratios.Average(), Comparison.AtMost, 1, ratios);
        Needed(context, "modular-addition", $"Addition modulo {options.Modulus}, two hidden layers of {options.ModularWidth}: directions and edges needed (accuracy over all pairs within {options.Tolerance.ToString(CultureInfo.InvariantCulture)}).", cuts, results);
        Graph(context, "modular-addition-graph", "Interactions of the network for modular addition in the interaction basis (first seed).", results[Lib][0], cuts);
    }

    // ---- planted degeneracies ----

    private static void RunPlanted(RunContext context)
    {
        var results = new List<ArmResult>();
        foreach (int seed in context.Seeds)
            results.Add(context.Arm("planted degeneracies", seed, run =>
            {
                Runtime.Seeds.Set(Runtime.Seeds.Derive(seed, 6));
                Architecture architecture = Architectures.Mlp([6], [8], 3);
                using var network = new Network(architecture);
                using (no_grad())
                {
                    Tensor w = network.get_parameter("layers.1.weight")!, b = network.get_parameter("layers.1.bias")!, after = network.get_parameter("layers.3.weight")!;
                    (w[1], b[1]) = (w[0] * 2, b[0] * 2); // units 0 and 1 fire together
                    w[2] = zeros(6);
                    b[2] = -1; // unit 2 never fires
                    after.select(1, 3).zero_(); // unit 3 has no effect
                }
                Tensor x = randn(2000, 4);
                MapDegeneracy map = DegeneracyReport.Analyze(network, cat([x, x.narrow(1, 0, 2)], 1))[0]; // inputs 4 and 5 repeat 0 and 1
                (int Found, int Planted)[] counts =
                [
                    (map.ActivationRank, 4 + 1), (map.GradientRank, 8 - 2), (map.SynchronizedBlocks.Count, 1), (map.SynchronizedBlocks.Sum(b => b.Count), 2), (map.DeadUnits.Count, 1),
                    ((int)map.EffectiveParameters, 5 * 6), ((int)map.FreeParameters, 8 * 7 - 5 * 6),
                ];
                run.Metric("wrong counts", counts.Count(c => c.Found != c.Planted));
                run.Metric("effective parameters", map.EffectiveParameters);
                run.Metric("parameters", map.Outputs * map.Inputs);
            }));
        double[] wrong = [.. results.Select(r => r["wrong counts"])];
        context.Check("planted", wrong.Max(), Comparison.AtMost, 0, wrong);
    }

    // ---- the user's own network ----

    private static void RunOwn(InteractionBasisRecipeOptions options, RunContext context, UserData data)
    {
        string checkpoint = data.Part(Model);
        using Network network = UserModel.Load(checkpoint, data.Parts.GetValueOrDefault(Layers));
        if (data.Path.Length == 0) throw new BadInputException("Give inputs of the network with --data.");
        Examples examples = Examples.Read(data.Path, network.Architecture.Input);
        if (examples.Count < 4) throw new BadInputException($"{data.Path} has {examples.Count} rows; at least 4 are needed.");
        string[] cuts = options.Layers.Count > 0 ? [.. options.Layers] : DefaultCuts(network.Architecture);
        foreach (string cut in cuts.SelectMany(c => c.Split('+')))
            if (network.Architecture.Shapes().TryGetValue(cut, out long[]? shape) && (shape.Length == 3 ? shape[0] * shape[1] * shape[2] : shape[^1]) is var width and > WidestLayer)
                throw new BadInputException($"Layer '{cut}' has {width} numbers; bases are computed for at most {WidestLayer}: choose layers with --set layers=NAME,NAME.");
        context.UsedData($"{checkpoint}, {examples.Count} rows of {data.Path}");
        long basisRows = Math.Min(options.BasisRows, examples.Count), testRows = Math.Min(options.TestRows, examples.Count), testStart = examples.Count - testRows;
        Tensor calibration = examples.Inputs.narrow(0, 0, basisRows), inputs = examples.Inputs.narrow(0, testStart, testRows);
        SectionedModel model = Refusing(checkpoint, () => SectionedModel.Of(network, cuts));
        Tensor reference = Inference.Outputs(network, inputs).to(float64);
        Func<Tensor, double> metric = examples.Labels is { } labels && reference.dim() == 2 ? Accuracy(labels.narrow(0, testStart, testRows))
            : outputs => 1 - (outputs.reshape(reference.shape) - reference).square().sum().ToDouble() / (reference - reference.mean([0], keepdim: true)).square().sum().clamp_min(1e-300).ToDouble();
        var results = new Dictionary<string, List<ArmResult>>();
        foreach (BasisKind kind in new[] { BasisKind.Local, BasisKind.Pca })
        {
            string name = kind == BasisKind.Pca ? Pca : Lib;
            results[name] = [context.Arm(name, context.Seeds[0], run =>
            {
                Refusing(checkpoint, () =>
                {
                    Examine(options, run, model, calibration, inputs, metric, kind, save: true);
                    return 0;
                });
                if (kind != BasisKind.Pca) run.SaveModel("network", network.State(), new InteractionBasisModel(network.Architecture.ToJson(), cuts));
            })];
        }
        IReadOnlyList<MapDegeneracy> degeneracy = DegeneracyReport.Analyze(network, calibration, cancellation: context.Cancellation);
        context.Table("degeneracy", "Linear layers: ranks of activations and gradients, effective and free parameters, ReLUs that fire together or never.", ["layer", "parameters", "activation rank", "gradient rank", "effective", "free at least", "synchronized blocks", "dead units"],
            [.. degeneracy.Select(m => (IReadOnlyList<string>)[m.Layer, $"{m.Outputs * m.Inputs}", $"{m.ActivationRank}", $"{m.GradientRank}", $"{m.EffectiveParameters}", $"{m.FreeParameters}", $"{m.SynchronizedBlocks.Count}", $"{m.DeadUnits.Count}"])]);
        AtomicFile.WriteText(context.OutputPath("degeneracy.json"), JsonSerializer.Serialize(degeneracy, s_json));
        Needed(context, "needed", $"Directions and edges needed to stay within {options.Tolerance.ToString(CultureInfo.InvariantCulture)} of the whole network's {(examples.Labels is null ? "outputs (explained variance)" : "accuracy")}.", cuts, results);
        Curves(context, "ablation", results, cuts);
        EdgeMaps(context, "own", results, cuts);
        Graph(context, "graph", "Interactions in the interaction basis: the most important directions of each layer, strongest edges, colours are modules.", results[Lib][0], cuts);
        WriteOwn(context, results[Lib][0], cuts);
    }

    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase, WriteIndented = true };

    private static void WriteOwn(RunContext context, ArmResult arm, string[] cuts)
    {
        var modules = new StringBuilder("layer,direction,importance,module\n");
        for (int l = 0; l < cuts.Length; l++)
        {
            double[] lambda = arm.Tensor($"lambda {l}").data<double>().ToArray();
            long[] module = arm.Tensor($"modules {l}").data<long>().ToArray();
            for (int k = 0; k < lambda.Length; k++) modules.Append(CultureInfo.InvariantCulture, $"{cuts[l]},{k},{lambda[k]:G9},{module[k]}\n");
        }
        AtomicFile.WriteText(context.OutputPath("modules.csv"), modules.ToString());
        var edges = new StringBuilder("from_layer,from_direction,to_layer,to_direction,weight\n");
        for (int l = 0; l + 1 < cuts.Length; l++)
        {
            Tensor weights = arm.Tensor($"edges {l}");
            double[] flat = weights.data<double>().ToArray(), constant = arm.Tensor($"constant {l}").data<double>().ToArray();
            int inputs = (int)weights.shape[1];
            for (int k = 0; k < flat.Length; k++) edges.Append(CultureInfo.InvariantCulture, $"{cuts[l]},{k % inputs},{cuts[l + 1]},{k / inputs},{flat[k]:G9}\n");
            for (int i = 0; i < constant.Length; i++) edges.Append(CultureInfo.InvariantCulture, $"{cuts[l]},constant,{cuts[l + 1]},{i},{constant[i]:G9}\n");
        }
        AtomicFile.WriteText(context.OutputPath("edges.csv"), edges.ToString());
        var curves = new StringBuilder("layer,kind,kept,metric\n");
        for (int l = 0; l + 1 < cuts.Length; l++)
            foreach (string kind in new[] { "node", "edge" })
            {
                (double[] x, double[] y) = arm.Series($"{kind} curve {l}");
                for (int k = 0; k < x.Length; k++) curves.Append(CultureInfo.InvariantCulture, $"{cuts[l]},{kind},{x[k]},{y[k]:G9}\n");
            }
        AtomicFile.WriteText(context.OutputPath("ablation.csv"), curves.ToString());
    }

    // ---- figures and tables ----

    // Activation functions, in transformers the sums of their streams, and the last layer: places where a network can be cut.
    private static string[] DefaultCuts(Architecture architecture)
    {
        bool transformer = architecture.Layers.Any(l => l.Kind == LayerKind.Attention);
        LayerKind[] kinds = transformer ? [LayerKind.Add] : [LayerKind.Relu, LayerKind.Gelu, LayerKind.Silu, LayerKind.Tanh];
        return [.. architecture.Layers.SkipLast(1).Where(l => kinds.Contains(l.Kind)).Select(l => l.Name), architecture.Layers[^1].Name];
    }

    private static void Needed(RunContext context, string name, string caption, string[] cuts, Dictionary<string, List<ArmResult>> results)
    {
        var header = new List<string> { "basis", "whole network" };
        for (int l = 0; l + 1 < cuts.Length; l++) header.AddRange([$"directions of {cuts[l]}", $"edges {cuts[l]} to {cuts[l + 1]}"]);
        header.AddRange(["modules", "modularity"]);
        string Seeds(List<ArmResult> arm, string metric) => string.Join(" / ", arm.Select(a => a[metric].ToString("0", CultureInfo.InvariantCulture)));
        context.Table(name, caption + " One number a seed.", header, [.. results.Select(r =>
        {
            var row = new List<string> { r.Key, Numbers.Text(r.Value.Average(a => a["whole network"]), "F4") };
            for (int l = 0; l + 1 < cuts.Length; l++) row.AddRange([Seeds(r.Value, $"nodes {l}"), Seeds(r.Value, $"edges {l}")]);
            row.AddRange([Seeds(r.Value, "modules"), Numbers.Text(r.Value.Average(a => a["modularity"]), "F3")]);
            return (IReadOnlyList<string>)row;
        })]);
    }

    private static void Curves(RunContext context, string name, Dictionary<string, List<ArmResult>> results, string[] cuts)
    {
        for (int l = 0; l + 1 < cuts.Length; l++)
        {
            Curve[] Of(string kind) => [.. results.Select((r, i) => new Curve(r.Key, r.Value[0].Series($"{kind} curve {l}").X, [r.Value[0].Series($"{kind} curve {l}").Y], Dashed: i > 0))];
            context.Figure($"{name}-edges-{l}", $"What the network keeps when only the strongest edges from {cuts[l]} to {cuts[l + 1]} stay (first seed).", Charts.Lines($"Edges {cuts[l]} to {cuts[l + 1]}", "edges kept", "metric", Of("edge"), logX: true));
            context.Figure($"{name}-nodes-{l}", $"What the network keeps when only the leading directions of {cuts[l]} stay (first seed).", Charts.Lines($"Directions of {cuts[l]}", "directions kept", "metric", Of("node")));
        }
    }

    private static void EdgeMaps(RunContext context, string name, Dictionary<string, List<ArmResult>> results, string[] cuts)
    {
        foreach ((string basis, List<ArmResult> arm) in results)
        {
            using var scope = NewDisposeScope();
            Tensor weights = arm[0].Tensor("edges 0");
            Tensor log = (weights / weights.max()).clamp_min(1e-6).log10();
            int rows = (int)Math.Min(40, log.shape[0]), columns = (int)Math.Min(40, log.shape[1]);
            double[] flat = log.narrow(0, 0, rows).narrow(1, 0, columns).contiguous().data<double>().ToArray();
            var values = new double[rows, columns];
            for (int k = 0; k < flat.Length; k++) values[k / columns, k % columns] = flat[k];
            context.Figure($"{name}-edges-{(basis == Lib ? "lib" : "pca")}", $"Strength of the edges from {cuts[0]} to {cuts[1]} in the {basis} (logarithm, relative to the strongest; first seed, leading directions).",
                Charts.Heatmap($"Edges, {basis}", values, $"direction of {cuts[0]}", $"direction of {cuts[1]}"));
        }
    }

    private static void Graph(RunContext context, string name, string caption, ArmResult arm, string[] cuts)
    {
        long[][] modules = [.. cuts.Select((_, l) => arm.Tensor($"modules {l}").data<long>().ToArray())];
        // Modules by their size, so that the largest have the first colours.
        long[] order = [.. modules.SelectMany(m => m).GroupBy(m => m).OrderByDescending(g => g.Count()).Select(g => g.Key)];
        var rank = order.Select((m, i) => (m, i)).ToDictionary(p => p.m, p => p.i);
        (string, IReadOnlyList<GraphNode>)[] layers = [.. cuts.Select((cut, l) => (cut, (IReadOnlyList<GraphNode>)[.. modules[l].Take(ShownNodes).Select(m => new GraphNode("", rank[m]))]))];
        var edges = new List<GraphEdge>();
        for (int l = 0; l + 1 < cuts.Length; l++)
        {
            using var scope = NewDisposeScope();
            Tensor weights = arm.Tensor($"edges {l}");
            int rows = (int)Math.Min(ShownNodes, weights.shape[0]), columns = (int)Math.Min(ShownNodes, weights.shape[1]);
            Tensor shown = weights.narrow(0, 0, rows).narrow(1, 0, columns).contiguous(), log = (shown / weights.max() / 1e-4).clamp_min(1e-9).log10().clamp_min(0) / 4;
            double[] strength = log.data<double>().ToArray();
            edges.AddRange(strength.Select((s, k) => new GraphEdge(l, k % columns, k / columns, Math.Min(1, s))).Where(e => e.Strength > 0).OrderByDescending(e => e.Strength).Take(ShownEdges));
        }
        context.Figure(name, caption, GraphChart.Layered("Interactions and modules", layers, edges), 1000, 640);
    }
}
