using Priori.Training;

namespace Priori.ClickThrough;

/// <summary>What a search found.</summary>
/// <param name="Plan">The method of each pair.</param>
/// <param name="Alpha">Architecture parameters [pairs, 3], columns in the order of <see cref="InteractionMethod"/>.</param>
/// <param name="Trajectory">Softmax of alpha at temperature 1 over the search, [points, pairs, 3].</param>
/// <param name="Mode">Which rows alpha learned from.</param>
/// <param name="RowsRepeat">Whether alpha learned in <see cref="SearchMode.Joint"/> from rows seen more than once: then do not trust the plan, it memorizes too much.</param>
/// <param name="History">Loss and validation figures of each epoch.</param>
public sealed record OptInterSearch(InteractionPlan Plan, Tensor Alpha, Tensor Trajectory, SearchMode Mode, bool RowsRepeat, TrainingHistory History);

/// <summary>
/// OptInter (Lyu, Tang, Guo, Tang, He, Zhang, Liu, ICDE 2022): for each pair of categorical fields, whether to memorize, factorize or ignore its interaction.
/// <see cref="Search"/> learns a mixture of the three with a weight a pair and method; <see cref="Retrain"/> trains the chosen plan anew, with only the tables it needs.
/// </summary>
public static class OptInter
{
    /// <summary>Searches for a plan.</summary>
    /// <param name="options">The network.</param>
    /// <param name="vocabulary">Combinations of the training rows; its pairs are searched.</param>
    /// <param name="ids">Ids of the training rows, int64 [rows, fields].</param>
    /// <param name="values">Values of the training rows [rows, fields].</param>
    /// <param name="target">Targets [rows].</param>
    /// <param name="search">How it is searched; the paper's by default.</param>
    /// <param name="task">What is predicted; clicks by default.</param>
    /// <param name="evaluate">Figures of a model on validation rows, with <see cref="TabularTask.Metric"/> among them: the search stops when it does not improve. Null runs all epochs.</param>
    /// <param name="trainer">Makes the trainer: seed, device, checkpoints, progress. Its device is where the model goes.</param>
    /// <param name="device">The device of the trainer; CPU by default.</param>
    /// <param name="cancellation">Stops the search.</param>
    /// <exception cref="ArgumentException">A setting is outside its range, or sizes do not fit.</exception>
    public static OptInterSearch Search(
        OptInterOptions options, CrossVocabulary vocabulary, Tensor ids, Tensor values, Tensor target, OptInterSearchOptions? search = null, TabularTask? task = null,
        Func<Module<Tensor, Tensor, Tensor>, IReadOnlyDictionary<string, double>>? evaluate = null, Func<TrainerOptions, Trainer>? trainer = null, Device? device = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(vocabulary);
        ArgumentNullException.ThrowIfNull(ids);
        search ??= new OptInterSearchOptions();
        task ??= TabularTask.Binary;
        using DisposeScope scope = NewDisposeScope();
        var model = new OptInterSearchModel(options, vocabulary.Select(vocabulary.Pairs), search.Relaxation);
        model.to(device ?? CPU);
        Tensor[] data = [ids, values, target];
        (Tensor, Tensor, Tensor)? archRows = null;
        if (search.EffectiveMode == SearchMode.BiLevel)
        {
            long forArch = Math.Clamp((long)(ids.size(0) * search.ArchShare), 1, ids.size(0) - 1);
            Tensor order = randperm(ids.size(0), ScalarType.Int64, generator: new Generator(0)).to(ids.device);
            Tensor[] held = [.. data.Select(column => column.index_select(0, order.narrow(0, 0, forArch)))];
            archRows = (held[0], held[1], held[2]);
            data = [.. data.Select(column => column.index_select(0, order.narrow(0, forArch, ids.size(0) - forArch)))];
        }
        using var learner = new OptInterLearner(model, task, search, archRows);
        TrainingHistory history = Fit(learner, model, data, search, task, evaluate, trainer, device, cancellation);
        return new OptInterSearch(model.Plan(), model.Alpha.detach().cpu().clone().MoveToOuterDisposeScope(), learner.Trajectory!.cpu().clone().MoveToOuterDisposeScope(),
            search.EffectiveMode, search.EffectiveMode == SearchMode.Joint && history.Series.Values.First().Length > 1, history);
    }

    /// <summary>Trains the model of a plan from new weights.</summary>
    /// <param name="model">The model, on the trainer's device.</param>
    /// <param name="ids">Ids of the training rows, int64 [rows, fields].</param>
    /// <param name="values">Values of the training rows [rows, fields].</param>
    /// <param name="target">Targets [rows].</param>
    /// <param name="training">How it is trained; the paper's by default.</param>
    /// <param name="task">What is predicted; clicks by default.</param>
    /// <param name="evaluate">Figures of a model on validation rows, with <see cref="TabularTask.Metric"/> among them: training stops when it does not improve, and the best epoch's weights are kept. Null runs all epochs.</param>
    /// <param name="trainer">Makes the trainer: seed, device, checkpoints, progress.</param>
    /// <param name="device">The device of the trainer; CPU by default.</param>
    /// <param name="cancellation">Stops the training.</param>
    public static TrainingHistory Retrain(
        OptInterModel model, Tensor ids, Tensor values, Tensor target, OptInterTraining? training = null, TabularTask? task = null,
        Func<Module<Tensor, Tensor, Tensor>, IReadOnlyDictionary<string, double>>? evaluate = null, Func<TrainerOptions, Trainer>? trainer = null, Device? device = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        training ??= new OptInterTraining();
        task ??= TabularTask.Binary;
        var learner = new OptInterLearner(model, task, training); // Not disposed: the model outlives it.
        TrainingHistory history = Fit(learner, model, [ids, values, target], training, task, evaluate, trainer, device, cancellation);
        foreach (Optimization optimization in learner.Optimizers.Values) optimization.Optimizer.Dispose();
        return history;
    }

    private static TrainingHistory Fit(
        OptInterLearner learner, OptInterNetwork model, Tensor[] data, OptInterTraining training, TabularTask task,
        Func<Module<Tensor, Tensor, Tensor>, IReadOnlyDictionary<string, double>>? evaluate, Func<TrainerOptions, Trainer>? trainer, Device? device, CancellationToken cancellation)
    {
        trainer ??= settings => new Trainer(settings with { Device = device ?? CPU });
        var settings = new TrainerOptions
        {
            Epochs = training.Epochs,
            BatchSize = training.BatchSize,
            EarlyStopping = evaluate is null ? null : new EarlyStopping(task.Metric, training.Patience),
        };
        return trainer(settings).Fit(learner, new TensorSource(data), evaluate is null ? null : _ => evaluate(model), cancellation);
    }
}
