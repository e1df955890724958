using Priori.Training;
using Adam = TorchSharp.Modules.Adam;

namespace Priori.ClickThrough;

/// <summary>
/// One step of OptFS. While the gates are trained: task loss + lambda * sum over all ids of sigmoid(t gamma), Adam with weight decay on the weights and without it
/// on the gates, the temperature constant within an epoch. With fixed gates, or on a model without any: the task loss and Adam with weight decay, as the baselines are trained.
/// Gradients are not clipped. The batch columns are ids, values and targets.
/// </summary>
public sealed class OptFsLearner : Learner
{
    private readonly Module<Tensor, Tensor, Tensor> model;
    private readonly TabularTask task;
    private readonly OptFsOptions options;

    /// <summary>Makes a learner; it owns the model: do not dispose it if you go on with the model.</summary>
    /// <param name="model">Maps ids int64 [batch, fields] and values [batch, fields] to logits [batch, outputs].</param>
    /// <param name="task">What the logits mean.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentException">An option is outside its range, or the model has several gates.</exception>
    public OptFsLearner(Module<Tensor, Tensor, Tensor> model, TabularTask task, OptFsOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        (this.model, this.task, this.options) = (model, task, options);
        var modules = new Dictionary<string, Module> { ["model"] = model };
        var groups = new List<Adam.ParamGroup>();
        Gate = model.modules().Any(m => m is FeatureGate) && FeatureGate.Of(model) is { Weight.requires_grad: true } gate ? gate : null;
        groups.Add(new Adam.ParamGroup(model.parameters().Where(p => p.requires_grad && !ReferenceEquals(p, Gate?.Weight)), options.LearningRate, weight_decay: options.WeightDecay));
        if (Gate is not null)
        {
            groups.Add(new Adam.ParamGroup([Gate.Weight], options.GateLearningRate ?? options.LearningRate, weight_decay: 0));
            string path = model.named_modules().First(m => ReferenceEquals(m.module, Gate)).name + ".";
            bool IsWeight(string name) => !name.StartsWith(path, StringComparison.Ordinal);
            modules["initial"] = Initial = new ParameterSnapshot(model, IsWeight);
            modules["rewind"] = Rewind = new ParameterSnapshot(model, IsWeight);
        }
        Modules = modules;
        Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(optim.Adam(groups, options.LearningRate)) };
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <summary>The gates in training; null if there are none or they are fixed.</summary>
    public FeatureGate? Gate { get; }

    /// <summary>All weights but the gates as training began; null without gates in training.</summary>
    public ParameterSnapshot? Initial { get; }

    /// <summary>All weights but the gates at the beginning of the rewind epoch; null without gates in training.</summary>
    public ParameterSnapshot? Rewind { get; }

    /// <inheritdoc/>
    public override void BeginEpoch(int epoch)
    {
        if (Gate is null) return;
        (Gate.Temperature, Gate.Hard) = (OptFs.Temperature(epoch, options.SearchEpochs, options.FinalTemperature), false);
    }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        // The first step of the rewind epoch, also in a run that is continued.
        if (Rewind is not null && step.Index == options.RewindEpoch * (step.TotalSteps / options.SearchEpochs)) Rewind.Take(model);
        model.train();
        Tensor loss = task.Loss(model.forward(batch[0], batch[1]), batch[2]);
        if (Gate is null)
        {
            step.Minimize("loss", loss);
            return;
        }
        step.Log("task_loss", loss);
        step.Minimize("loss", loss + options.Lambda * Gate.Penalty());
    }
}
