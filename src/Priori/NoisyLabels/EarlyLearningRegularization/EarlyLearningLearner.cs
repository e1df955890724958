using Priori.Training;

namespace Priori.NoisyLabels;

/// <summary>
/// Trains one network with <see cref="EarlyLearningRegularizationLoss"/>. Batches hold inputs and given labels (int64); the batch's row ids name the rows of the target table.
/// With lambda 0 it trains with plain cross-entropy.
/// </summary>
/// <param name="network">Inputs [batch, ...] to logits [batch, C]; owned by the learner.</param>
/// <param name="loss">The loss with its table; owned by the learner.</param>
/// <param name="optimization">Optimizer of the network's parameters; owned by the learner.</param>
/// <param name="warmUpEpochs">Epochs of cross-entropy alone in which the targets are averaged already. Paper: 0.</param>
/// <param name="augment">Random augmentation of the inputs, if any.</param>
public sealed class EarlyLearningLearner(
    Module<Tensor, Tensor> network, EarlyLearningRegularizationLoss loss, Optimization optimization, int warmUpEpochs = 0, Func<Tensor, Tensor>? augment = null) : Learner
{
    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; } = new Dictionary<string, Module> { ["network"] = network, ["loss"] = loss };

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; } = new Dictionary<string, Optimization> { ["loss"] = optimization };

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        Tensor inputs = augment is null ? batch[0] : augment(batch[0]);
        Tensor logits = network.forward(inputs);
        step.Minimize("loss", step.Epoch < warmUpEpochs ? loss.WarmUp(batch.Rows, logits, batch[1]) : loss.forward(batch.Rows, logits, batch[1]));
    }
}
