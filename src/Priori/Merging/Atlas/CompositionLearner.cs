using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Merging;

/// <summary>Labelled data of one task.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Inputs">Inputs of the model, [n, ...].</param>
/// <param name="Labels">Classes, int64 [n].</param>
/// <param name="Head">The task's own frozen head on the model's outputs; null when the outputs are the logits.</param>
public sealed record CompositionTask(string Name, Tensor Inputs, Tensor Labels, Func<Tensor, Tensor>? Head = null)
{
    /// <summary>Logits of the task from outputs of the model.</summary>
    /// <param name="outputs">Outputs of the model.</param>
    public Tensor Logits(Tensor outputs) => Head is null ? outputs : Head(outputs);

    /// <summary>The accuracy of a composed model on this task.</summary>
    /// <param name="composition">The composition.</param>
    public double Accuracy(AnisotropicComposition composition)
    {
        ArgumentNullException.ThrowIfNull(composition);
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        return Metrics.Classification.Accuracy(Logits(composition.Outputs(Inputs)), Labels);
    }
}

/// <summary>How coefficients are trained.</summary>
public record CompositionOptions
{
    /// <summary>AdamW's learning rate. Paper: 1e-3 (addition, test time), 1e-1 (few-shot), 2e-3 to 1e-2 (negation).</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>AdamW's weight decay, which pulls towards the base model. Paper: 0.1.</summary>
    public double WeightDecay { get; init; } = 0.1;

    /// <summary>Most epochs. Paper: 20 (addition), 2 to 20 (negation), 10 (few-shot, test time).</summary>
    public int Epochs { get; init; } = 20;

    /// <summary>Inputs in a batch, over all tasks. Paper: 128.</summary>
    public int BatchSize { get; init; } = 128;

    /// <summary>Largest norm of the coefficients' gradient. Paper: 1.</summary>
    public double ClipNorm { get; init; } = 1;

    /// <summary>gamma of the penalty gamma mean_j ||lambda^(j)||_p, at least 0. The released code has 0.5 where it is used.</summary>
    public double Penalty { get; init; }

    /// <summary>p of the penalty, at least 1. The paper uses 1 to draw sparse coefficients.</summary>
    public int PenaltyNorm { get; init; } = 1;

    /// <summary>Makes the trainer from the options that the method sets; null for <c>new Trainer(options)</c>.</summary>
    public Func<TrainerOptions, Trainer>? Trainer { get; init; }

    /// <summary>Seed of the order of the data, when <see cref="Trainer"/> is null.</summary>
    public int Seed { get; init; }

    /// <summary>Stops training between two steps.</summary>
    public CancellationToken Cancellation { get; init; }
}

/// <summary>What training coefficients left; the composition holds the selected ones.</summary>
/// <param name="Epoch">The selected epoch, from 1; 0: the base model was best.</param>
/// <param name="Score">Its score on validation data, as the mode defines it; NaN without selection.</param>
/// <param name="History">Series of the training.</param>
public sealed record CompositionResult(int Epoch, double Score, TrainingHistory History);

/// <summary>Trains the coefficients of a composition on any loss and keeps those of the best epoch.</summary>
internal sealed class CompositionLearner : Learner
{
    private readonly AnisotropicComposition _composition;
    private readonly Func<Batch, TrainingStep, Tensor> _loss;
    private readonly CompositionOptions _options;
    private readonly Selection _selection;

    private CompositionLearner(AnisotropicComposition composition, CompositionOptions options, Func<Batch, TrainingStep, Tensor> loss, Schedule? schedule)
    {
        (_composition, _options, _loss) = (composition, options, loss);
        _selection = new Selection(composition.Coefficients);
        Modules = new Dictionary<string, Module> { ["composition"] = composition, ["selection"] = _selection };
        Optimizers = new Dictionary<string, Optimization> { ["coefficients"] = new(optim.AdamW([composition.Coefficients], options.LearningRate, weight_decay: options.WeightDecay), schedule, options.ClipNorm) };
    }

    public override IReadOnlyDictionary<string, Module> Modules { get; }

    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    public override void Step(Batch batch, TrainingStep step)
    {
        if (_selection.Stopped) return;
        Tensor loss = _loss(batch, step);
        if (_options.Penalty > 0)
        {
            Parameter coefficients = _composition.Coefficients;
            loss = loss + _options.Penalty * (coefficients.dim() == 1 ? coefficients.unsqueeze(1) : coefficients).norm(0, keepdim: false, _options.PenaltyNorm).mean();
        }
        step.Minimize("coefficients", loss);
    }

    protected override void Dispose(bool disposing)
    {
        base.Dispose(false); // The composition is the caller's.
        if (!disposing) return;
        foreach (Optimization optimization in Optimizers.Values) optimization.Optimizer.Dispose();
        _selection.Dispose();
    }

    /// <summary>
    /// Trains. <paramref name="judge"/> gives the epoch's score (higher is better, negative infinity excludes it), whether to stop, and what to record; it is also asked about the coefficients that training begins with.
    /// </summary>
    public static CompositionResult Fit(AnisotropicComposition composition, IBatchSource data, TrainerOptions trainerOptions, CompositionOptions options, Func<Batch, TrainingStep, Tensor> loss, Schedule? schedule,
        Func<(double Score, bool Stop, IReadOnlyDictionary<string, double> Recorded)>? judge)
    {
        ArgumentNullException.ThrowIfNull(composition);
        trainerOptions = trainerOptions with { Epochs = options.Epochs, Seed = options.Seed, Device = composition.Coefficients.device };
        using var learner = new CompositionLearner(composition, options, loss, schedule);
        Selection selection = learner._selection;
        bool training = composition.Model.training;
        composition.Model.eval(); // Buffers stay those of the base.
        try
        {
            if (judge is not null) selection.Offer(composition.Coefficients, 0, judge().Score, false);
            TrainingHistory history = (options.Trainer ?? (o => new Trainer(o)))(trainerOptions).Fit(learner, data, judge is null ? null : epoch =>
            {
                if (selection.Stopped) return new Dictionary<string, double>();
                (double score, bool stop, IReadOnlyDictionary<string, double> recorded) = judge();
                selection.Offer(composition.Coefficients, epoch, score, stop);
                return recorded;
            }, options.Cancellation);
            if (judge is not null) composition.Set(selection.Best);
            composition.Install();
            return new CompositionResult(judge is null ? options.Epochs : selection.Epoch, judge is null ? double.NaN : selection.Score, history);
        }
        finally
        {
            composition.Model.train(training);
        }
    }

    // The best coefficients so far: buffers, so that a resumed training knows them.
    private sealed class Selection : Module
    {
        public Selection(Parameter coefficients) : base(nameof(Selection))
        {
            register_buffer("best", coefficients.detach().clone().DetachFromDisposeScope());
            register_buffer("state", tensor(new[] { double.NegativeInfinity, 0, 0 }).DetachFromDisposeScope()); // score, epoch, stopped
        }

        public Tensor Best => get_buffer("best")!;

        public double Score => State[0];

        public int Epoch => (int)State[1];

        public bool Stopped => State[2] > 0;

        private double[] State => get_buffer("state")!.data<double>().ToArray();

        public void Offer(Tensor coefficients, int epoch, double score, bool stop)
        {
            using var ungraphed = no_grad();
            double[] state = State;
            if (score > state[0])
            {
                Best.copy_(coefficients);
                (state[0], state[1]) = (score, epoch);
            }
            state[2] = stop ? 1 : 0;
            get_buffer("state")!.copy_(tensor(state));
        }
    }
}

/// <summary>A batch with the same number of inputs from each task, which are columns (inputs, labels) one task after another. Smaller tasks are gone over more than once.</summary>
internal sealed class TaskSource(IReadOnlyList<CompositionTask> tasks, int times = 1) : IBatchSource
{
    public long Count { get; } = times * tasks.Max(t => t.Inputs.shape[0]);

    public Batch Get(Tensor rows, Device device) => new(rows.to(device), [.. tasks.SelectMany(task =>
    {
        Tensor own = rows.remainder(task.Inputs.shape[0]).to(task.Inputs.device);
        return new[] { task.Inputs.index_select(0, own).to(device), task.Labels.index_select(0, own.to(task.Labels.device)).to(device) };
    })]);
}
