namespace Priori.Training;

/// <summary>Plain training of a classifier: cross-entropy of the logits against class indexes. A batch is (inputs [b, ...], labels int64 [b]).</summary>
public class ClassifierLearner : Learner
{
    /// <summary>Makes a learner; both the model and the optimizer become its own.</summary>
    /// <param name="model">Inputs to logits [b, classes].</param>
    /// <param name="optimizer">An optimizer of the model's parameters.</param>
    /// <param name="schedule">Factor on its learning rate; constant when null.</param>
    /// <param name="clipNorm">Largest total gradient norm; no clipping when null.</param>
    public ClassifierLearner(Module<Tensor, Tensor> model, optim.Optimizer optimizer, Schedule? schedule = null, double? clipNorm = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        Model = model;
        Modules = new Dictionary<string, Module> { ["model"] = model };
        Optimizers = new Dictionary<string, Optimization> { ["model"] = new(optimizer, schedule, clipNorm) };
    }

    /// <summary>The classifier.</summary>
    public Module<Tensor, Tensor> Model { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        Model.train();
        step.Minimize("model", functional.cross_entropy(Model.call(batch[0]), batch[1]));
    }
}
