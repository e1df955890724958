using Priori.Training;

namespace Priori.NoisyLabels;

/// <summary>
/// ELR+ (Liu et al., NeurIPS 2020, sec. 4.3): two networks, each with a weight average, a target table, an optimizer and an order of rows of its own. An epoch trains network 1 over
/// all batches, then network 2. Each learns from mixed batches, and its targets come from the other network's weight average on the unmixed batch, so neither confirms itself.
/// Batches hold inputs and given labels (int64).
/// </summary>
public sealed class EarlyLearningPlusLearner : Learner
{
    private readonly Module<Tensor, Tensor>[] _networks = new Module<Tensor, Tensor>[2];
    private readonly Module<Tensor, Tensor>[] _averages = new Module<Tensor, Tensor>[2];
    private readonly ExponentialMovingAverage[] _averaging = new ExponentialMovingAverage[2];
    private readonly EarlyLearningPlusLoss[] _losses = new EarlyLearningPlusLoss[2];
    private readonly StepCounter[] _steps = new StepCounter[2];
    private readonly EarlyLearningPlusOptions _options;
    private readonly Func<Tensor, Tensor>? _augment;

    /// <summary>Makes both networks, their averages and tables.</summary>
    /// <param name="factory">Makes one network, inputs [batch, ...] to logits [batch, C], with a fresh initialisation; called four times (networks 1 and 2, then their averages, which start as copies).</param>
    /// <param name="exampleCount">Number of training rows n, at least 1.</param>
    /// <param name="classCount">Number of classes C, at least 2.</param>
    /// <param name="optimization">Makes the optimizer of one network.</param>
    /// <param name="options">Settings; the defaults when null.</param>
    /// <param name="augment">Random augmentation of the inputs, if any; the teacher sees the same augmented rows, unmixed.</param>
    /// <param name="checkRows">Whether row ids and labels are checked at each step.</param>
    /// <exception cref="ArgumentException">An argument or a setting is outside its range.</exception>
    public EarlyLearningPlusLearner(
        Func<Module<Tensor, Tensor>> factory, long exampleCount, int classCount, Func<Module<Tensor, Tensor>, Optimization> optimization,
        EarlyLearningPlusOptions? options = null, Func<Tensor, Tensor>? augment = null, bool checkRows = true)
    {
        ArgumentNullException.ThrowIfNull(factory);
        ArgumentNullException.ThrowIfNull(optimization);
        _options = options ?? new EarlyLearningPlusOptions();
        _options.Validate();
        _augment = augment;
        var modules = new Dictionary<string, Module>();
        var optimizers = new Dictionary<string, Optimization>();
        for (int i = 0; i < 2; i++)
        {
            modules[$"network{i + 1}"] = _networks[i] = factory();
            modules[$"loss{i + 1}"] = _losses[i] = new EarlyLearningPlusLoss(exampleCount, classCount, _options, checkRows);
            modules[$"steps{i + 1}"] = _steps[i] = new StepCounter();
            optimizers[$"loss{i + 1}"] = optimization(_networks[i]);
        }
        for (int i = 0; i < 2; i++)
        {
            modules[$"average{i + 1}"] = _averages[i] = factory();
            _averaging[i] = new ExponentialMovingAverage(_networks[i], _averages[i], _options.AverageBuffers);
        }
        Modules = modules;
        Optimizers = optimizers;
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <inheritdoc/>
    public override int PassesPerEpoch => 2;

    /// <summary>Sum of both target tables, [n, C], for <see cref="LabelErrorReport"/>.</summary>
    public Tensor Targets => _losses[0].Targets + _losses[1].Targets;

    /// <summary>Mean logits of both networks in evaluation mode, [batch, C] (or of network 1 and the average of network 2, see <see cref="EarlyLearningPlusOptions.UseAveragedWeights"/>).</summary>
    /// <param name="inputs">Inputs [batch, ...].</param>
    public Tensor Predict(Tensor inputs)
    {
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        Module<Tensor, Tensor>[] pair = [_networks[0], _options.UseAveragedWeights ? _averages[1] : _networks[1]];
        foreach (var network in pair) network.eval();
        Tensor logits = (pair[0].forward(inputs) + pair[1].forward(inputs)) / 2;
        foreach (var network in pair) network.train();
        return logits.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        int own = step.Pass, other = 1 - own;
        long done = _steps[own].Next();
        Tensor inputs = _augment is null ? batch[0] : _augment(batch[0]);
        Tensor loss;
        if (step.Epoch < _options.WarmUpEpochs)
        {
            loss = _losses[own].WarmUp(batch.Rows, _networks[own].forward(inputs), batch[1]);
        }
        else
        {
            Mixup mixup = Mixup.Sample(inputs.shape[0], _options.MixupAlpha, inputs.device, keepLarger: true);
            Tensor logits = _networks[own].forward(mixup.Mix(inputs));
            Tensor teacherLogits;
            using (no_grad()) teacherLogits = _averages[other].forward(inputs);
            loss = _losses[own].forward(batch.Rows, logits, batch[1], teacherLogits, mixup, done);
        }
        step.Minimize($"loss{own + 1}", loss);
        _averaging[own].Update(_options.DecayAt(done));
    }

    /// <summary>Steps of one network, kept as a buffer so that checkpoints carry it.</summary>
    private sealed class StepCounter : Module
    {
        public StepCounter() : base(nameof(StepCounter)) => register_buffer("steps", zeros(1, ScalarType.Int64));

        public long Next() => get_buffer("steps")!.add_(1).ToInt64();
    }
}
