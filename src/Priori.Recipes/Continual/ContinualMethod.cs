using Priori.Continual;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Continual;

/// <summary>The weights of the penalties.</summary>
internal sealed record PenaltyWeights(double Kd, double Features, double L2, double L2Qkv, double Ewc);

/// <summary>Where a backbone starts: fresh, or pre-trained weights with their Fisher information where known.</summary>
internal sealed record BackboneStart(Architecture Trunk, IReadOnlyDictionary<string, Tensor>? State, IReadOnlyDictionary<string, Tensor>? Fisher)
{
    public long FeatureDim => Trunk.Shapes()[Trunk.Layers[^1].Name][0];

    public bool Pretrained => State is not null;

    public Network Build(int seed)
    {
        Seeds.Set(Seeds.Derive(seed, 0x4E4554));
        var network = new Network(Trunk);
        return State is null ? network : network.Load(State);
    }
}

/// <summary>How a method trains: everything that methods share.</summary>
internal sealed record ContinualTraining(int Steps, int BatchSize, double LearningRate, ClassificationLoss LocalLoss, int FisherSamples)
{
    public PenaltyWeights Weights { get; init; } = new(1, 1e-3, .1, .1, 100);

    /// <summary>What l2 and ewc regularise, and what may move; null: the backbone.</summary>
    public ParameterSelector? Regularised { get; init; }

    public bool FreezeBatchNorm { get; init; }

    public bool AllowReappearing { get; init; }

    public EwcMemory EwcMemory { get; init; } = EwcMemory.Online;

    public FisherKind FisherKind { get; init; } = FisherKind.Empirical;

    public DistillationForm KdForm { get; init; } = DistillationForm.Sigmoid;

    public AnchorMode Anchor { get; init; } = AnchorMode.Previous;
}

/// <summary>
/// A named method, written as its parts joined by '+': ft (softmax over all classes seen), ft-labels (the labels trick alone), predkd, featkd, l2, l2-qkv, ewc, probe (frozen backbone), prompts, joint (all tasks at once).
/// The suffix -scratch leaves the pre-training out.
/// </summary>
internal sealed record ContinualMethod(string Name)
{
    public static readonly string[] Parts = ["ft", "ft-labels", "predkd", "featkd", "l2", "l2-qkv", "ewc", "probe", "prompts", "joint"];

    private static readonly string[] Weighted = ["l2", "l2-qkv", "ewc", "featkd", "predkd"];

    private const string ScratchSuffix = "-scratch";

    public bool Scratch => Name.EndsWith(ScratchSuffix, StringComparison.Ordinal);

    public string Base => Scratch ? Name[..^ScratchSuffix.Length] : Name;

    public IReadOnlyList<string> Tokens => Base.Split('+');

    public bool Joint => Has("joint");

    public bool Has(string part) => Tokens.Contains(part);

    /// <summary>The part whose weight is chosen on held-out seeds; null when the method has none.</summary>
    public string? Tuned => Weighted.FirstOrDefault(Has);

    public static ContinualMethod Parse(string name)
    {
        var method = new ContinualMethod(name);
        if (method.Tokens.FirstOrDefault(t => !Parts.Contains(t)) is { } unknown)
            throw new BadInputException($"Method '{name}': '{unknown}' is none of {string.Join(", ", Parts)} (joined by '+', -scratch for no pre-training).");
        if (method.Tokens.Count > 1 && method.Tokens.Any(t => t is "ft" or "joint" or "prompts")) throw new BadInputException($"Method '{name}': ft, joint and prompts stand alone.");
        return method;
    }

    /// <summary>Learns all tasks and measures after each; the caller owns the learner.</summary>
    public ContinualLearner Run(ArmRun run, IReadOnlyList<ContinualTask> tasks, BackboneStart start, ContinualTraining training, Action<int, ContinualLearner>? afterTask = null)
    {
        BackboneStart from = Scratch ? start with { State = null, Fisher = null } : start;
        if (Has("prompts") && !from.Pretrained) throw new BadInputException("Method 'prompts' needs a pre-trained transformer.");
        var penalties = new List<ContinualPenalty>();
        PenaltyWeights weights = training.Weights;
        if (Has("predkd")) penalties.Add(new PredictionDistillation(weights.Kd, training.KdForm));
        if (Has("featkd")) penalties.Add(new FeatureDistillation(weights.Features));
        if (Has("l2")) penalties.Add(new L2Anchor(weights.L2, training.Regularised, training.Anchor));
        if (Has("l2-qkv")) penalties.Add(new L2Anchor(weights.L2Qkv, ParameterSelector.Attention(), training.Anchor));
        if (Has("ewc")) penalties.Add(new ElasticWeightConsolidation(weights.Ewc, training.Regularised, training.FisherKind, training.EwcMemory, anchor: training.Anchor, samples: training.FisherSamples, pretrainedFisher: from.Fisher));
        if (Has("prompts")) penalties.Add(new PromptMatching());
        var learner = new ContinualLearner(
            () =>
            {
                Network network = from.Build(run.Seed);
                Module<Tensor, Tensor> backbone = Has("prompts") ? new PromptedTransformer(network) : network;
                return backbone.to(run.Device);
            },
            from.FeatureDim,
            new ContinualOptions
            {
                Loss = Has("ft") || Joint ? ClassificationLoss.GlobalCE : training.LocalLoss,
                Penalties = penalties,
                Trainable = Has("probe") ? ParameterSelector.None : Has("prompts") ? PromptedTransformer.Prompts : Has("l2-qkv") ? ParameterSelector.Attention() : ParameterSelector.Backbone,
                Pretrained = from.Pretrained,
                FreezeBatchNorm = training.FreezeBatchNorm,
                AllowReappearing = training.AllowReappearing,
                Optimizer = parameters => optim.Adam(parameters, training.LearningRate),
                Schedule = new CosineSchedule(),
            });
        try
        {
            Dictionary<string, Tensor> initial = learner.Model.Backbone.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());
            long began = System.Diagnostics.Stopwatch.GetTimestamp();
            if (Joint)
            {
                Tensor x = cat([.. tasks.Select(t => t.Inputs)]), y = cat([.. tasks.Select(t => t.Labels)]);
                Fit(run, learner, x, y, training with { Steps = training.Steps * tasks.Count });
                double[][] accuracies = [.. tasks.Select(t => learner.Accuracies(t.TestInputs.to(run.Device), t.TestLabels, t.Classes)).Select(a => new[] { a.Global, a.Local })];
                run.Metric("accuracy", accuracies.Average(a => a[0]));
                run.Metric("local_accuracy", accuracies.Average(a => a[1]));
                afterTask?.Invoke(0, learner);
                return learner;
            }
            for (int t = 0; t < tasks.Count; t++)
            {
                Fit(run, learner, tasks[t].Inputs, tasks[t].Labels, training);
                learner.Evaluate([.. tasks.Take(t + 1).Select(x => (x.TestInputs, x.TestLabels))]);
                afterTask?.Invoke(t, learner);
            }
            run.Metric("seconds", System.Diagnostics.Stopwatch.GetElapsedTime(began).TotalSeconds);
            Report(run, learner.GlobalAccuracy, learner.LocalAccuracy);
            (string Name, double Drift)[] drift = [.. initial.Where(p => p.Value.is_floating_point() && p.Value.dim() > 1).Select(p => (p.Key, ((learner.Model.Backbone.state_dict()[p.Key] - p.Value).norm() / p.Value.norm()).ToDouble()))];
            run.Tensor("drift", tensor(drift.Select(d => d.Drift).ToArray()));
            return learner;
        }
        catch
        {
            learner.Dispose();
            throw;
        }
    }

    private static void Fit(ArmRun run, ContinualLearner learner, Tensor inputs, Tensor labels, ContinualTraining training)
    {
        int batch = (int)Math.Min(training.BatchSize, inputs.shape[0]);
        Trainer trainer = run.Trainer(new TrainerOptions { BatchSize = batch, Sampler = new StepSampler(training.Steps, batch) });
        learner.FitTask(inputs, labels, trainer, run.Seed, run.Cancellation);
    }

    private static void Report(ArmRun run, AccuracyMatrix global, AccuracyMatrix local)
    {
        run.Metric("accuracy", global.FinalAverage);
        run.Metric("average_incremental", global.AverageIncremental);
        run.Metric("forgetting_global", global.Forgetting);
        run.Metric("forgetting_local", local.Forgetting);
        run.Metric("backward_transfer", global.BackwardTransfer);
        run.Metric("local_accuracy", local.FinalAverage);
        run.Metric("plasticity", Enumerable.Range(0, global.Tasks).Average(n => global[n, n]));
        run.Metric("stability", global.Tasks < 2 ? global.FinalAverage : Enumerable.Range(0, global.Tasks - 1).Average(j => global[global.Tasks - 1, j]));
        run.Series("average", [.. Enumerable.Range(1, global.Tasks).Select(n => (double)n)], [.. Enumerable.Range(0, global.Tasks).Select(global.Average)]);
        run.Tensor("global", Matrix(global));
        run.Tensor("local", Matrix(local));
    }

    private static Tensor Matrix(AccuracyMatrix matrix) => from_array(matrix.ToArray());
}
