using Priori.Training;

namespace Priori.ClickThrough;

/// <summary>Where the weights of the retrained model start (OptFS, section 3.3.3 and its ablation).</summary>
public enum RetrainInit
{
    /// <summary>The weights that the search had at the beginning of its rewind epoch: the paper's customised initialisation.</summary>
    Customised,

    /// <summary>Weights that no search has touched: those of the fresh model that is given.</summary>
    Random,

    /// <summary>The weights that the search began with (rewind to epoch 0).</summary>
    LotteryTicket,

    /// <summary>No retraining: the weights at the end of the search, with hard gates.</summary>
    None,
}

/// <summary>What a search found.</summary>
public sealed class FeatureSetResult : IDisposable
{
    internal FeatureSetResult(Tensor gamma, ParameterSnapshot initial, ParameterSnapshot rewind, TrainingHistory history)
    {
        (Gamma, Initial, Snapshot, History) = (gamma, initial, rewind, history);
        Keep = [.. gamma.data<float>().Select(g => g > 0)];
        KeepRatio = Keep.Count(k => k) / (double)Keep.Count;
    }

    /// <summary>Gate parameters at the end, float32 [ids] on the CPU.</summary>
    public Tensor Gamma { get; }

    /// <summary>Which ids are kept: those with gamma above 0.</summary>
    public IReadOnlyList<bool> Keep { get; }

    /// <summary>Share of all ids that are kept.</summary>
    public double KeepRatio { get; }

    /// <summary>Every weight but the gates as the search began.</summary>
    public ParameterSnapshot Initial { get; }

    /// <summary>Every weight but the gates at the beginning of the rewind epoch.</summary>
    public ParameterSnapshot Snapshot { get; }

    /// <summary>Series of the search, a value an epoch.</summary>
    public TrainingHistory History { get; }

    /// <summary>Share of each field's ids that are kept; NaN for a field without ids.</summary>
    /// <param name="fieldOfId">The field of each id, int64 [ids]; negative for none.</param>
    /// <param name="fields">Number of fields.</param>
    public IReadOnlyList<double> KeepRatioByField(Tensor fieldOfId, int fields)
    {
        ArgumentNullException.ThrowIfNull(fieldOfId);
        if (fieldOfId.dtype != ScalarType.Int64 || !fieldOfId.shape.SequenceEqual(Gamma.shape)) throw new ArgumentException($"The fields must be int64 [{Gamma.size(0)}].", nameof(fieldOfId));
        long[] field = [.. fieldOfId.data<long>()];
        var counts = new long[fields, 2];
        for (int id = 0; id < field.Length; id++)
        {
            if (field[id] < 0) continue;
            counts[field[id], 0]++;
            if (Keep[id]) counts[field[id], 1]++;
        }
        return [.. Enumerable.Range(0, fields).Select(f => counts[f, 1] / (double)counts[f, 0])];
    }

    /// <summary>Frees the gates and snapshots.</summary>
    public void Dispose()
    {
        Gamma.Dispose();
        Initial.Dispose();
        Snapshot.Dispose();
    }
}

/// <summary>
/// OptFS (Lyu, Tang, Liu, Chen, He, Liu, "Optimizing Feature Set for Click-Through Rate Prediction", WWW 2023): which values of which columns a click model needs.
/// <see cref="Search"/> trains gates and weights together while the temperature rises; <see cref="Retrain"/> fixes the gates, rewinds the weights and trains them again;
/// <see cref="Export"/> leaves a model without the dropped values. In a training loop of your own, use <see cref="FeatureGate"/> and <see cref="GatedEmbedding"/>.
/// </summary>
public static class OptFs
{
    internal const string EmptySet = "Every gate is closed: lambda is too large and the feature set is empty. Search with a smaller lambda.";

    /// <summary>The temperature of a search epoch: t_0 = 1 and t_e = t_(e-1) T^(1/(E-1)), so that the last epoch has T.</summary>
    /// <param name="epoch">The epoch, from 0.</param>
    /// <param name="epochs">Search epochs E, at least 2.</param>
    /// <param name="finalTemperature">T, at least 1.</param>
    public static double Temperature(int epoch, int epochs, double finalTemperature)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(epochs, 2);
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(epoch, epochs);
        ArgumentOutOfRangeException.ThrowIfLessThan(finalTemperature, 1);
        return Math.Pow(finalTemperature, epoch / (epochs - 1.0));
    }

    /// <summary>Searches the feature set. Afterwards the model has the weights and gates of the end of the search, and hard gates.</summary>
    /// <param name="model">A model with a <see cref="GatedEmbedding"/>; it stays the caller's.</param>
    /// <param name="task">What its logits mean.</param>
    /// <param name="train">Training rows; the columns are ids, values and targets.</param>
    /// <param name="options">Settings.</param>
    /// <param name="training">Batch size, seed, device, ...; epochs and early stopping are not read.</param>
    /// <param name="evaluate">Called after each epoch (from 1), with hard gates: it never sees soft ones.</param>
    /// <param name="trainer">Makes the trainer; a plain one by default.</param>
    /// <param name="cancellation">Stops after the step in progress.</param>
    /// <returns>The gates, the snapshots to retrain from, and the series loss, task_loss, temperature, keep_ratio and those of <paramref name="evaluate"/>.</returns>
    /// <exception cref="ArgumentException">The model has no gate, or an option is outside its range.</exception>
    public static FeatureSetResult Search(Module<Tensor, Tensor, Tensor> model, TabularTask task, IBatchSource train, OptFsOptions options, TrainerOptions training,
        Func<int, IReadOnlyDictionary<string, double>>? evaluate = null, Func<TrainerOptions, Trainer>? trainer = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(training);
        _ = FeatureGate.Of(model);
        var learner = new OptFsLearner(model, task, options);
        FeatureGate gate = learner.Gate ?? throw new ArgumentException("The gates are fixed: they were searched before.", nameof(model));
        TrainingHistory history = Fit(learner, trainer, training with { Epochs = options.SearchEpochs, EarlyStopping = null }, train, Evaluate, cancellation);
        gate.Hard = true;
        using var ungraphed = no_grad();
        return new FeatureSetResult(gate.Weight.detach().cpu().clone(), learner.Initial!, learner.Rewind!, history);

        IReadOnlyDictionary<string, double> Evaluate(int epoch)
        {
            gate.Hard = true;
            var metrics = new Dictionary<string, double>(evaluate?.Invoke(epoch) ?? new Dictionary<string, double>()) { ["keep_ratio"] = gate.KeepRatio, ["temperature"] = gate.Temperature };
            gate.Hard = false;
            return metrics;
        }
    }

    /// <summary>Trains the weights for the found set: hard gates that stay as they are, a new Adam, early stopping at the first epoch without a better validation figure.</summary>
    /// <param name="model">The model that was searched, or one of the same architecture; for <see cref="RetrainInit.Random"/> a fresh one, for <see cref="RetrainInit.None"/> the one that was searched.</param>
    /// <param name="result">What the search found.</param>
    /// <param name="init">Where the weights start.</param>
    /// <param name="task">What the logits mean.</param>
    /// <param name="train">Training rows; the columns are ids, values and targets.</param>
    /// <param name="options">Settings, as for the search.</param>
    /// <param name="training">Most epochs, batch size, seed, device. Early stopping is the paper's unless given: on <see cref="TabularTask.Metric"/> with patience 1, which <paramref name="evaluate"/> must give.</param>
    /// <param name="evaluate">Called after each epoch (from 1).</param>
    /// <param name="trainer">Makes the trainer; a plain one by default.</param>
    /// <param name="cancellation">Stops after the step in progress.</param>
    /// <returns>Series of the training; null for <see cref="RetrainInit.None"/>.</returns>
    /// <exception cref="InvalidOperationException">The feature set is empty.</exception>
    /// <exception cref="ArgumentException">The model has no gate or is of another architecture.</exception>
    public static TrainingHistory? Retrain(Module<Tensor, Tensor, Tensor> model, FeatureSetResult result, RetrainInit init, TabularTask task, IBatchSource train, OptFsOptions options, TrainerOptions training,
        Func<int, IReadOnlyDictionary<string, double>>? evaluate = null, Func<TrainerOptions, Trainer>? trainer = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(result);
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(training);
        if (result.KeepRatio == 0) throw new InvalidOperationException(EmptySet);
        FeatureGate gate = FeatureGate.Of(model);
        if (init == RetrainInit.Customised) result.Snapshot.Restore(model);
        if (init == RetrainInit.LotteryTicket) result.Initial.Restore(model);
        Fix(gate, result.Gamma);
        if (init == RetrainInit.None) return null;
        return Fit(new OptFsLearner(model, task, options), trainer, training with { EarlyStopping = training.EarlyStopping ?? new EarlyStopping(task.Metric, Patience: 1) }, train, evaluate, cancellation);
    }

    /// <summary>Makes gates hard and fixed: they are no longer trained.</summary>
    /// <param name="gate">The gates.</param>
    /// <param name="gamma">Their parameters [ids]: open where above 0.</param>
    public static void Fix(FeatureGate gate, Tensor gamma)
    {
        ArgumentNullException.ThrowIfNull(gate);
        using var ungraphed = no_grad();
        gate.Weight.copy_(gamma);
        gate.Weight.requires_grad = false;
        gate.Hard = true;
    }

    /// <summary>
    /// The model without its dropped values: the same outputs as with hard gates, from a table of the kept rows, with 1 / sigmoid(gamma_0) in them.
    /// The vocabulary map is <see cref="PrunedEmbedding.Kept"/>. The backbone is shared with the given model.
    /// </summary>
    /// <param name="model">A model whose input layer is a <see cref="GatedEmbedding"/> over a <see cref="Nn.FieldEmbedding"/>.</param>
    /// <exception cref="InvalidOperationException">The feature set is empty.</exception>
    /// <exception cref="ArgumentException">The input layer is another.</exception>
    public static ClickModel Export(ClickModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        return model.Embedding is GatedEmbedding gated
            ? new ClickModel(PrunedEmbedding.From(gated), model.Backbone)
            : throw new ArgumentException($"The model's input layer is {model.Embedding.GetType().Name}, not a {nameof(GatedEmbedding)}.", nameof(model));
    }

    // The learner's modules stay alive: the model is the caller's, and the snapshots are the result's.
    private static TrainingHistory Fit(OptFsLearner learner, Func<TrainerOptions, Trainer>? trainer, TrainerOptions training, IBatchSource train, Func<int, IReadOnlyDictionary<string, double>>? evaluate, CancellationToken cancellation)
    {
        using var optimizer = learner.Optimizers["loss"].Optimizer;
        return (trainer?.Invoke(training) ?? new Trainer(training)).Fit(learner, train, evaluate, cancellation);
    }
}
