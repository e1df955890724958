using Priori.Training;

namespace Priori.ClickThrough;

/// <summary>
/// Trains a model of (ids, values) fields as ARM-Net's authors do: Adam, the task's loss, gradients clamped elementwise to [-1, 1].
/// The batch columns are ids, values and targets. Give the trainer early stopping on <see cref="TabularTask.Metric"/>.
/// </summary>
public sealed class TabularLearner : Learner
{
    private const double LargestGradient = 1;
    private readonly Module<Tensor, Tensor, Tensor> model;
    private readonly TabularTask task;

    /// <summary>Makes a learner; it owns the model.</summary>
    /// <param name="model">Maps ids int64 [batch, fields] and values [batch, fields] to logits [batch, outputs].</param>
    /// <param name="task">What the logits mean.</param>
    /// <param name="learningRate">Adam's learning rate, above 0.</param>
    /// <param name="weightDecay">L2 penalty on all parameters (added to the gradient), at least 0.</param>
    public TabularLearner(Module<Tensor, Tensor, Tensor> model, TabularTask task, double learningRate = 1e-3, double weightDecay = 0)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(task);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(learningRate);
        ArgumentOutOfRangeException.ThrowIfNegative(weightDecay);
        (this.model, this.task) = (model, task);
        Modules = new Dictionary<string, Module> { ["model"] = model };
        Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(optim.Adam(model.parameters(), learningRate, weight_decay: weightDecay), clipValue: LargestGradient) };
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        model.train();
        step.Minimize("loss", task.Loss(model.forward(batch[0], batch[1]), batch[2]));
    }

    /// <summary>Logits of any number of rows in evaluation mode, without a graph, in blocks on the model's device.</summary>
    /// <param name="model">The model; it is left in evaluation mode.</param>
    /// <param name="ids">Ids, int64 [rows, fields].</param>
    /// <param name="values">Values [rows, fields].</param>
    /// <param name="block">Rows of a block.</param>
    /// <returns>Logits [rows, outputs].</returns>
    public static Tensor Logits(Module<Tensor, Tensor, Tensor> model, Tensor ids, Tensor values, int block = 4096)
    {
        ArgumentNullException.ThrowIfNull(model);
        model.eval();
        return Forward(model, ids, values, model.parameters().First().device, block);
    }

    /// <summary>The same without touching the model's mode, for several threads at once.</summary>
    internal static Tensor Forward(Module<Tensor, Tensor, Tensor> model, Tensor ids, Tensor values, Device device, int block = 4096)
    {
        ArgumentNullException.ThrowIfNull(ids);
        ArgumentNullException.ThrowIfNull(values);
        ArgumentOutOfRangeException.ThrowIfLessThan(block, 1);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        if (ids.size(0) <= block) return model.forward(ids.to(device), values.to(device)).MoveToOuterDisposeScope();
        var parts = new List<Tensor>();
        for (long start = 0; start < ids.size(0); start += block)
        {
            long count = Math.Min(block, ids.size(0) - start);
            parts.Add(model.forward(ids.narrow(0, start, count).to(device), values.narrow(0, start, count).to(device)));
        }
        return cat(parts).MoveToOuterDisposeScope();
    }
}
