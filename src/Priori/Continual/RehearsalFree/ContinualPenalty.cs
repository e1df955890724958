using Priori.Training;

namespace Priori.Continual;

/// <summary>What a penalty sees of a training step.</summary>
/// <param name="Logits">Logits of all classes seen, [batch, classes].</param>
/// <param name="Features">Features [batch, features].</param>
/// <param name="PreviousLogits">Logits of the model as it was after the task before, for the classes it knew; null when there is no such model or no penalty asked for it.</param>
/// <param name="PreviousFeatures">Its features.</param>
/// <param name="OldRows">Rows of the logits of earlier classes that are not in the present task, int64; they come first in every head.</param>
/// <param name="Model">The model in training.</param>
public sealed record PenaltyContext(Tensor Logits, Tensor Features, Tensor? PreviousLogits, Tensor? PreviousFeatures, Tensor OldRows, ContinualModel Model);

/// <summary>A task that has just been learned.</summary>
/// <param name="Model">The model after it.</param>
/// <param name="Inputs">Its training inputs [n, ...].</param>
/// <param name="Targets">Rows of the true classes, int64 [n].</param>
/// <param name="LikelihoodRows">Rows of the classes among which the training loss chose: those of the task for a local loss, all otherwise; int64.</param>
/// <param name="Seed">Seed of this task.</param>
public sealed record LearnedTask(ContinualModel Model, Tensor Inputs, Tensor Targets, Tensor LikelihoodRows, int Seed);

/// <summary>
/// A term of the loss that keeps what was learned before, without old samples. A <see cref="ContinualLearner"/> adds <see cref="Weight"/> times its loss at every step; any number may be combined.
/// A penalty belongs to one learner, since it remembers.
/// </summary>
public abstract class ContinualPenalty : IDisposable
{
    /// <summary>A penalty of some weight.</summary>
    /// <param name="weight">lambda, at least 0; with 0 it is skipped, and training is that without it, to the bit.</param>
    protected ContinualPenalty(double weight)
    {
        if (!(weight >= 0 && double.IsFinite(weight))) throw new ArgumentOutOfRangeException(nameof(weight), weight, "The weight lambda of a penalty must be at least 0.");
        Weight = weight;
    }

    /// <summary>lambda.</summary>
    public double Weight { get; }

    /// <summary>Whether it compares with the outputs of the previous model, which then runs at every step.</summary>
    public virtual bool NeedsPrevious => false;

    /// <summary>What it remembers, as buffers; null when nothing.</summary>
    public virtual Module? State => null;

    /// <summary>Called before the first task when the backbone is pre-trained.</summary>
    /// <param name="model">The model; its head has no classes yet.</param>
    public virtual void OnPretrained(ContinualModel model)
    {
    }

    /// <summary>Called before each task, when the head has its rows.</summary>
    /// <param name="model">The model.</param>
    /// <returns>Whether the penalty applies to this task.</returns>
    public abstract bool Begin(ContinualModel model);

    /// <summary>The penalty of a step, without its weight: a scalar.</summary>
    /// <param name="context">The step.</param>
    public abstract Tensor Loss(PenaltyContext context);

    /// <summary>Called after each task.</summary>
    /// <param name="task">The task.</param>
    public virtual void OnTaskEnd(LearnedTask task)
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        State?.Dispose();
        GC.SuppressFinalize(this);
    }
}

/// <summary>The form of <see cref="PredictionDistillation"/>.</summary>
public enum DistillationForm
{
    /// <summary>Each old class by itself: sum of binary cross-entropies of sigmoids.</summary>
    Sigmoid,

    /// <summary>T^2 KL between softmaxes over the old classes at temperature T (Learning without Forgetting).</summary>
    Softmax,
}

/// <summary>
/// PredKD (Li and Hoiem, 2016): on the present task's samples, the logits of earlier classes stay what the previous model gave. It never touches logits of new classes.
/// </summary>
/// <param name="weight">lambda_kd; 1 by default.</param>
/// <param name="form">Sigmoids or softmax. The paper replaces the softmax by sigmoids where task-recency bias would come in; ours by default with local losses.</param>
/// <param name="temperature">Temperature of the softmax form; 2.</param>
public sealed class PredictionDistillation(double weight = 1, DistillationForm form = DistillationForm.Sigmoid, double temperature = 2) : ContinualPenalty(weight)
{
    private bool _learned;

    /// <inheritdoc/>
    public override bool NeedsPrevious => true;

    /// <inheritdoc/>
    public override bool Begin(ContinualModel model) => _learned;

    /// <inheritdoc/>
    public override Tensor Loss(PenaltyContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        if (context.OldRows.shape[0] == 0) return context.Logits.new_zeros([]); // every earlier class is in the present task
        Tensor student = context.Logits.index_select(1, context.OldRows), teacher = context.PreviousLogits!.index_select(1, context.OldRows);
        return form == DistillationForm.Sigmoid ? Distillation.Sigmoid(student, teacher) : Distillation.Softmax(student, teacher, temperature);
    }

    /// <inheritdoc/>
    public override void OnTaskEnd(LearnedTask task) => _learned = true;
}

/// <summary>FeatKD: the squared distance between the features of the present and the previous (or pre-trained) model, mean over the batch.</summary>
/// <param name="weight">lambda_f.</param>
public sealed class FeatureDistillation(double weight) : ContinualPenalty(weight)
{
    private bool _learned;

    /// <inheritdoc/>
    public override bool NeedsPrevious => true;

    /// <inheritdoc/>
    public override void OnPretrained(ContinualModel model) => _learned = true;

    /// <inheritdoc/>
    public override bool Begin(ContinualModel model) => _learned;

    /// <inheritdoc/>
    public override Tensor Loss(PenaltyContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return Distillation.Features(context.Features, context.PreviousFeatures!);
    }

    /// <inheritdoc/>
    public override void OnTaskEnd(LearnedTask task) => _learned = true;
}
