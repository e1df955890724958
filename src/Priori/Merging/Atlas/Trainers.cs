using Priori.Training;

namespace Priori.Merging;

/// <summary>Task addition: one model for all tasks. Coefficients minimise sum_t CE_t, each task with its own frozen head, on equally large parts of the batch.</summary>
public static class TaskAdditionTrainer
{
    /// <summary>Trains the coefficients; those of the epoch with the best mean of accuracy_t / tuned accuracy_t on validation data are kept.</summary>
    /// <param name="composition">The composition, usually with coefficients of 0; it holds the result.</param>
    /// <param name="training">Labelled data of every task.</param>
    /// <param name="validation">Validation data of every task, which may be the training data.</param>
    /// <param name="tunedAccuracies">Accuracy of each task's fine-tuned model on its validation data, above 0; null compares absolute accuracies.</param>
    /// <param name="options">How coefficients are trained; null for the paper's defaults: AdamW 1e-3, weight decay 0.1, 20 epochs, batches of 128, no schedule.</param>
    /// <exception cref="ArgumentException">There is no task, or as many accuracies as tasks are not given.</exception>
    public static CompositionResult Fit(AnisotropicComposition composition, IReadOnlyList<CompositionTask> training, IReadOnlyList<CompositionTask> validation, IReadOnlyList<double>? tunedAccuracies = null, CompositionOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(composition);
        ArgumentNullException.ThrowIfNull(training);
        ArgumentNullException.ThrowIfNull(validation);
        options ??= new CompositionOptions();
        if (training.Count == 0 || validation.Count == 0) throw new ArgumentException("Addition needs training and validation data of at least one task.", nameof(training));
        if (tunedAccuracies is not null && (tunedAccuracies.Count != validation.Count || tunedAccuracies.Any(a => !(a > 0))))
            throw new ArgumentException($"{validation.Count} tasks need {validation.Count} accuracies above 0 of their fine-tuned models.", nameof(tunedAccuracies));
        return CompositionLearner.Fit(composition, new TaskSource(training), new TrainerOptions { BatchSize = Math.Max(1, options.BatchSize / training.Count) }, options,
            (batch, _) => composition.Loss(f =>
            {
                long each = batch[0].shape[0];
                Tensor outputs = f(cat([.. training.Select((_, t) => batch[2 * t])], 0));
                return training.Select((task, t) => functional.cross_entropy(task.Logits(outputs.narrow(0, t * each, each)), batch[2 * t + 1])).Aggregate((a, b) => a + b);
            }), null,
            () =>
            {
                double[] accuracies = [.. validation.Select(task => task.Accuracy(composition))];
                double score = accuracies.Select((a, t) => a / (tunedAccuracies?[t] ?? 1)).Average();
                return (score, false, validation.Select((task, t) => (task.Name, Value: accuracies[t])).Append(("score", score)).ToDictionary(p => $"validation {p.Item1}", p => p.Item2));
            });
    }
}

/// <summary>Task negation: a model that has lost one task and kept another. Coefficients of the task's vector minimise -CE_target + CE_control.</summary>
public static class TaskNegationTrainer
{
    /// <summary>
    /// Trains the coefficients; those of the epoch with the lowest target accuracy are kept, among epochs whose control accuracy is at least <paramref name="controlShare"/> of the base model's.
    /// Training stops when an epoch falls below it.
    /// </summary>
    /// <param name="composition">The composition of the target's task vector, with coefficients of 0; it holds the result.</param>
    /// <param name="target">Training data of the task to forget.</param>
    /// <param name="control">Training data of the task to keep.</param>
    /// <param name="targetValidation">Validation data of the task to forget.</param>
    /// <param name="controlValidation">Validation data of the task to keep.</param>
    /// <param name="controlShare">Share of the base model's control accuracy that is kept, in 0..1. Paper: 0.95.</param>
    /// <param name="options">How coefficients are trained; a batch is half target, half control. Null for AdamW 1e-2, weight decay 0.1, 20 epochs, batches of 128.</param>
    public static CompositionResult Fit(AnisotropicComposition composition, CompositionTask target, CompositionTask control, CompositionTask targetValidation, CompositionTask controlValidation, double controlShare = 0.95, CompositionOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(composition);
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(control);
        ArgumentNullException.ThrowIfNull(targetValidation);
        ArgumentNullException.ThrowIfNull(controlValidation);
        ArgumentOutOfRangeException.ThrowIfNegative(controlShare);
        options ??= new CompositionOptions { LearningRate = 1e-2 };
        double floor = controlShare * controlValidation.Accuracy(composition);
        return CompositionLearner.Fit(composition, new TaskSource([target, control]), new TrainerOptions { BatchSize = Math.Max(1, options.BatchSize / 2) }, options,
            (batch, _) => composition.Loss(f =>
            {
                long each = batch[0].shape[0];
                Tensor outputs = f(cat([batch[0], batch[2]], 0));
                return functional.cross_entropy(control.Logits(outputs.narrow(0, each, each)), batch[3]) - functional.cross_entropy(target.Logits(outputs.narrow(0, 0, each)), batch[1]);
            }), null,
            () =>
            {
                double forgotten = targetValidation.Accuracy(composition), kept = controlValidation.Accuracy(composition);
                return (kept >= floor ? -forgotten : double.NegativeInfinity, kept < floor, new Dictionary<string, double> { ["validation target"] = forgotten, ["validation control"] = kept });
            });
    }
}

/// <summary>Few-shot adaptation: coefficients for a new task from a few labelled examples, with task vectors of other tasks.</summary>
public static class FewShotTrainer
{
    /// <summary>Fewest batches an epoch; smaller sets are gone over more than once (released code).</summary>
    private const int LeastBatches = 10;

    /// <summary>Trains the coefficients on cross-entropy; those of the best validation epoch, or of the base model, are kept.</summary>
    /// <param name="composition">The composition, with coefficients of 0; it holds the result.</param>
    /// <param name="examples">The k examples of each class; its name is the target's.</param>
    /// <param name="validation">Validation data; null keeps the last epoch.</param>
    /// <param name="augment">Augments a batch of inputs, for example <see cref="RandomResizedCrop.Apply"/>; null for none. Paper: crop of half to all of the image, horizontal flip.</param>
    /// <param name="allowTarget">Whether the target's own task vector may be among those of the composition. It knows the answer, so the result is no transfer.</param>
    /// <param name="options">How coefficients are trained, with a cosine schedule; null for the paper's defaults: AdamW 1e-1, weight decay 0.1, 10 epochs, batches of 128.</param>
    /// <exception cref="ArgumentException">A task vector has the name of the target and <paramref name="allowTarget"/> is false.</exception>
    public static CompositionResult Fit(AnisotropicComposition composition, CompositionTask examples, CompositionTask? validation, Func<Tensor, Tensor>? augment = null, bool allowTarget = false, CompositionOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(composition);
        ArgumentNullException.ThrowIfNull(examples);
        options ??= new CompositionOptions { LearningRate = 0.1, Epochs = 10 };
        if (!allowTarget && composition.Vectors.Any(v => v.Name.Length > 0 && v.Name == examples.Name))
            throw new ArgumentException($"Task vector '{examples.Name}' is the target's own: leave it out, or set {nameof(allowTarget)}.", nameof(composition));
        long count = examples.Inputs.shape[0];
        double batches = (double)count / options.BatchSize;
        int times = batches < LeastBatches ? (int)(LeastBatches / batches) + 1 : 1;
        return CompositionLearner.Fit(composition, new TaskSource([examples], times), new TrainerOptions { BatchSize = options.BatchSize }, options,
            (batch, _) =>
            {
                Tensor inputs = augment is null ? batch[0] : augment(batch[0]);
                return composition.Loss(f => functional.cross_entropy(examples.Logits(f(inputs)), batch[1]));
            }, new CosineSchedule(),
            validation is null ? null : () =>
            {
                double accuracy = validation.Accuracy(composition);
                return (accuracy, false, new Dictionary<string, double> { ["validation accuracy"] = accuracy });
            });
    }
}
