using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Runtime;
using Priori.Training;
using Parameter = TorchSharp.Modules.Parameter;

namespace Priori.Continual;

/// <summary>How a <see cref="ContinualLearner"/> learns its tasks.</summary>
public sealed record ContinualOptions
{
    /// <summary>Classification loss; default local cross-entropy (the labels trick).</summary>
    public ClassificationLoss Loss { get; init; } = ClassificationLoss.LocalCE;

    /// <summary>Penalties; none by default (fine-tuning). They become the learner's.</summary>
    public IReadOnlyList<ContinualPenalty> Penalties { get; init; } = [];

    /// <summary>Which parameters of the backbone may move; all by default. The head always may.</summary>
    public ParameterSelector Trainable { get; init; } = ParameterSelector.Backbone;

    /// <summary>Whether the backbone starts pre-trained: penalties then act in the first task already, with the pre-trained weights as anchor. Default false.</summary>
    public bool Pretrained { get; init; }

    /// <summary>
    /// Whether the running statistics of batch normalisation stay what they are after the first task (with a pre-trained start: from the beginning). They drift even where parameters are held. Default false, as the reference protocol; a backbone of which nothing may move keeps them always.
    /// </summary>
    public bool FreezeBatchNorm { get; init; }

    /// <summary>Whether a task may bring classes of an earlier one; refused by default. Their rows in the head are then trained further.</summary>
    public bool AllowReappearing { get; init; }

    /// <summary>Makes the optimizer of a task, anew for each; default Adam with rate 5e-5 and no weight decay (Smith et al.'s fine-tuning of a ViT).</summary>
    public Func<IEnumerable<Parameter>, optim.Optimizer> Optimizer { get; init; } = parameters => optim.Adam(parameters, 5e-5);

    /// <summary>Factor on its learning rate over a task; a cosine by default, constant when null.</summary>
    public Schedule? Schedule { get; init; } = new CosineSchedule();

    /// <summary>Augmentation of a batch of inputs, drawn from libtorch's generator; both the model and the previous model see the same result. None when null.</summary>
    public Func<Tensor, Tensor>? Augment { get; init; }
}

/// <summary>
/// Class-incremental learning without rehearsal (Smith, Tian, Halbe, Hsu, Kira, CVPR Workshops 2023): one classifier learns tasks with new classes one after another, keeps no sample of earlier ones,
/// and chooses among all classes seen without knowing the task. The loss is classification on the present task plus any mix of penalties: <see cref="PredictionDistillation"/>, <see cref="FeatureDistillation"/>,
/// <see cref="L2Anchor"/>, <see cref="ElasticWeightConsolidation"/>.
/// </summary>
public sealed class ContinualLearner : IDisposable
{
    private readonly Func<Module<Tensor, Tensor>> _backbone;
    private readonly ContinualOptions _options;
    private readonly List<IReadOnlyList<long>> _tasks = [];
    private readonly List<long> _classes = [];
    private readonly List<double[]> _global = [], _local = [];
    private readonly bool _needsPrevious;
    private ContinualModel? _previous;

    /// <summary>A learner that has seen no task.</summary>
    /// <param name="backbone">Makes the feature extractor, inputs [batch, ...] to features [batch, <paramref name="featureDim"/>], with its pre-trained weights if there are any, on its device. Called once, and once more when a penalty compares with the previous model.</param>
    /// <param name="featureDim">Width of the features.</param>
    /// <param name="options">How to learn; defaults when null.</param>
    /// <exception cref="ArgumentException">A selector matches nothing.</exception>
    public ContinualLearner(Func<Module<Tensor, Tensor>> backbone, long featureDim, ContinualOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(backbone);
        _backbone = backbone;
        _options = options ?? new ContinualOptions();
        Model = new ContinualModel(backbone(), featureDim);
        _needsPrevious = _options.Penalties.Any(p => p.NeedsPrevious && p.Weight > 0);
        HashSet<string> trainable = [.. _options.Trainable.Select(Model).Select(p => p.Name)];
        foreach (AnchoredPenalty penalty in _options.Penalties.OfType<AnchoredPenalty>()) penalty.Selector.Select(Model); // matches something
        foreach (var (name, parameter) in Model.named_parameters())
            if (!trainable.Contains(name)) parameter.requires_grad = false;
        if (!_options.Pretrained) return;
        foreach (ContinualPenalty penalty in Active) penalty.OnPretrained(Model);
        if (_needsPrevious) KeepPrevious();
    }

    /// <summary>The model after the tasks so far.</summary>
    public ContinualModel Model { get; }

    /// <summary>Class ids of each task so far.</summary>
    public IReadOnlyList<IReadOnlyList<long>> Tasks => _tasks;

    /// <summary>Class id of each row of the head.</summary>
    public IReadOnlyList<long> Classes => _classes;

    /// <summary>Accuracy among all classes seen (no task identity), after each evaluated task.</summary>
    /// <exception cref="InvalidOperationException">No task has been evaluated.</exception>
    public AccuracyMatrix GlobalAccuracy => Matrix(_global);

    /// <summary>Accuracy among the classes of the sample's own task: what is lost in the representation rather than in the bias between heads.</summary>
    /// <exception cref="InvalidOperationException">No task has been evaluated.</exception>
    public AccuracyMatrix LocalAccuracy => Matrix(_local);

    private IEnumerable<ContinualPenalty> Active => _options.Penalties.Where(p => p.Weight > 0);

    private Device Device => Model.parameters().First().device;

    /// <summary>Learns the next task.</summary>
    /// <param name="inputs">Its inputs [n, ...], n at least 1.</param>
    /// <param name="labels">Class ids, int64 [n]; any integers.</param>
    /// <param name="trainer">The loop: epochs, batch size, seed, device, checkpoints.</param>
    /// <param name="seed">Seed of new head rows; with the trainer's, all that is random in the task.</param>
    /// <param name="cancellation">Stops the training.</param>
    /// <returns>The task's training: the losses of classification and of each penalty, by epoch.</returns>
    /// <exception cref="ArgumentException">The task has no samples, or one of its classes was in an earlier task and <see cref="ContinualOptions.AllowReappearing"/> is false.</exception>
    public TrainingHistory FitTask(Tensor inputs, Tensor labels, Trainer trainer, int seed, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentNullException.ThrowIfNull(trainer);
        if (inputs.dim() == 0 || inputs.shape[0] == 0) throw new ArgumentException($"Task {_tasks.Count + 1} has no samples.", nameof(inputs));
        if (labels.dim() != 1 || labels.shape[0] != inputs.shape[0]) throw new ArgumentException($"Task {_tasks.Count + 1} has {inputs.shape[0]} inputs and labels [{string.Join(", ", labels.shape)}].", nameof(labels));
        long[] classes = TaskSplits.Classes(labels), fresh = [.. classes.Except(_classes)];
        if (fresh.Length < classes.Length && !_options.AllowReappearing)
        {
            long again = classes.First(_classes.Contains);
            throw new ArgumentException($"Class {again} of task {_tasks.Count + 1} was in task {_tasks.FindIndex(t => t.Contains(again)) + 1} already.", nameof(labels));
        }
        using var scope = NewDisposeScope();
        int known = _classes.Count, taskSeed = Seeds.Derive(seed, _tasks.Count);
        Device device = Device;
        Seeds.Set(taskSeed);
        if (fresh.Length > 0)
        {
            Model.Head.Expand(fresh.Length);
            Model.Head.to(device);
        }
        _classes.AddRange(fresh);
        _tasks.Add(classes);
        Tensor targets = Rows(labels), current = tensor(classes.Select(c => (long)_classes.IndexOf(c)).ToArray(), device: device);
        Model.Head.Check(targets);
        Tensor old = tensor(Enumerable.Range(0, known).Select(r => (long)r).Except(classes.Select(c => (long)_classes.IndexOf(c))).ToArray(), ScalarType.Int64, device);

        ContinualPenalty[] penalties = [.. Active.Where(p => p.Begin(Model))];
        bool frozen = (_options.FreezeBatchNorm && (_tasks.Count > 1 || _options.Pretrained)) || !Model.Backbone.parameters().Any(p => p.requires_grad);
        TrainingHistory history;
        var learner = new TaskLearner(Model, penalties.Any(p => p.NeedsPrevious) ? _previous : null, penalties, current, old, _options, frozen);
        using (learner.Optimizers["loss"].Optimizer) // the modules outlive the task
            history = trainer.Fit(learner, new TensorSource(inputs, targets), cancellation: cancellation);

        Tensor likelihood = _options.Loss == ClassificationLoss.GlobalCE ? arange(_classes.Count, ScalarType.Int64, device) : current;
        foreach (ContinualPenalty penalty in Active) penalty.OnTaskEnd(new LearnedTask(Model, inputs, targets, likelihood, taskSeed));
        if (_needsPrevious) KeepPrevious();
        return history;
    }

    /// <summary>Logits of all classes seen, in the order of <see cref="Classes"/>.</summary>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <returns>Logits [n, classes] on the device of the inputs.</returns>
    public Tensor Logits(Tensor inputs) => Inference.Outputs(Model, inputs, batchSize: 64);

    /// <summary>Class ids among all classes seen; no task identity is used.</summary>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <returns>Class ids, int64 [n].</returns>
    public Tensor Predict(Tensor inputs)
    {
        using var scope = NewDisposeScope();
        return tensor(_classes.ToArray(), device: inputs.device).index_select(0, Logits(inputs).argmax(1)).MoveToOuterDisposeScope();
    }

    /// <summary>Measures the model on the test data of every task so far, and adds a row to <see cref="GlobalAccuracy"/> and <see cref="LocalAccuracy"/>. Call it after each task.</summary>
    /// <param name="tests">Inputs and class ids of each task so far, in their order.</param>
    /// <exception cref="ArgumentException">There are not as many as tasks, or a task was left out before.</exception>
    public void Evaluate(IReadOnlyList<(Tensor Inputs, Tensor Labels)> tests)
    {
        ArgumentNullException.ThrowIfNull(tests);
        if (tests.Count != _tasks.Count || _global.Count != _tasks.Count - 1) throw new ArgumentException($"Evaluate needs the test data of all {_tasks.Count} tasks seen, once after each task; got {tests.Count}.", nameof(tests));
        var rows = tests.Select((test, task) => Accuracies(test.Inputs, test.Labels, task)).ToArray();
        _global.Add([.. rows.Select(r => r.Global)]);
        _local.Add([.. rows.Select(r => r.Local)]);
    }

    /// <summary>Accuracy among all classes seen, and among the classes of one task.</summary>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <param name="labels">Class ids, int64 [n].</param>
    /// <param name="task">The samples' task, from 0: for the local accuracy alone.</param>
    public (double Global, double Local) Accuracies(Tensor inputs, Tensor labels, int task)
    {
        ArgumentNullException.ThrowIfNull(labels);
        return Accuracies(inputs, labels, _tasks[task]);
    }

    /// <summary>Accuracy among all classes seen, and among some of them.</summary>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <param name="labels">Class ids, int64 [n].</param>
    /// <param name="among">Class ids for the local accuracy.</param>
    public (double Global, double Local) Accuracies(Tensor inputs, Tensor labels, IReadOnlyList<long> among)
    {
        ArgumentNullException.ThrowIfNull(among);
        using var scope = NewDisposeScope();
        Tensor logits = Logits(inputs), targets = Rows(labels).to(logits.device);
        Tensor own = tensor(among.Select(c => (long)_classes.IndexOf(c)).ToArray(), device: logits.device);
        return (Classification.Accuracy(logits, targets), own.index_select(0, logits.index_select(1, own).argmax(1)).eq(targets).to(ScalarType.Float64).mean().ToDouble());
    }

    /// <summary>Rows of the head of some class ids.</summary>
    /// <param name="labels">Class ids, int64 [n].</param>
    /// <returns>Rows, int64 [n], on the device of the labels.</returns>
    /// <exception cref="ArgumentException">A class has not been seen.</exception>
    public Tensor Rows(Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(labels);
        using Tensor host = labels.to(ScalarType.Int64).cpu();
        long[] values = host.data<long>().ToArray();
        for (int i = 0; i < values.Length; i++)
        {
            int row = _classes.IndexOf(values[i]);
            values[i] = row >= 0 ? row : throw new ArgumentException($"Class {values[i]} has no row in a head of {_classes.Count} classes: it was in no task so far.", nameof(labels));
        }
        return tensor(values, device: labels.device);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Model.Dispose();
        _previous?.Dispose();
        foreach (ContinualPenalty penalty in _options.Penalties) penalty.Dispose();
    }

    private static AccuracyMatrix Matrix(List<double[]> rows) => rows.Count > 0 ? new AccuracyMatrix(rows) : throw new InvalidOperationException("No task has been evaluated yet.");

    private void KeepPrevious()
    {
        if (_previous is null)
        {
            _previous = new ContinualModel(_backbone(), Model.Head.Features);
            _previous.to(Device);
        }
        _previous.CopyFrom(Model);
        _previous.to(Device);
        foreach (Parameter parameter in _previous.parameters()) parameter.requires_grad = false;
        _previous.eval();
    }

    /// <summary>One task of training. The model, the previous one and the penalties outlive it.</summary>
    private sealed class TaskLearner : Learner
    {
        private readonly ContinualModel _model;
        private readonly ContinualModel? _previous;
        private readonly ContinualPenalty[] _penalties;
        private readonly Tensor _current, _old;
        private readonly ContinualOptions _options;
        private readonly Module[] _frozen;

        public TaskLearner(ContinualModel model, ContinualModel? previous, ContinualPenalty[] penalties, Tensor current, Tensor old, ContinualOptions options, bool freezeBatchNorm)
        {
            (_model, _previous, _penalties, _current, _old, _options) = (model, previous, penalties, current, old, options);
            _frozen = freezeBatchNorm ? [.. model.modules().Where(m => m is TorchSharp.Modules.BatchNorm1d or TorchSharp.Modules.BatchNorm2d or TorchSharp.Modules.BatchNorm3d)] : [];
            var modules = new Dictionary<string, Module> { ["model"] = model };
            if (previous is not null) modules["previous"] = previous;
            for (int i = 0; i < penalties.Length; i++)
                if (penalties[i].State is { } state) modules[$"penalty{i}"] = state;
            Modules = modules;
            Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(options.Optimizer(model.parameters().Where(p => p.requires_grad)), options.Schedule) };
        }

        public override IReadOnlyDictionary<string, Module> Modules { get; }

        public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

        public override void Step(Batch batch, TrainingStep step)
        {
            _model.train();
            foreach (Module module in _frozen) module.eval();
            Tensor input = _options.Augment is null ? batch[0] : _options.Augment(batch[0]);
            Tensor? previousFeatures = null, previousLogits = null;
            if (_previous is not null)
                using (no_grad())
                {
                    previousFeatures = _previous.Backbone.call(input);
                    if (_previous.Head.Classes > 0) previousLogits = _previous.Head.call(previousFeatures);
                }
            Tensor features = _model.Backbone.call(input), logits = _model.Head.call(features);
            Tensor loss = IncrementalLoss.Of(logits, batch[1], _current, _options.Loss);
            if (_penalties.Length > 0)
            {
                step.Log("classification", loss);
                var context = new PenaltyContext(logits, features, previousLogits, previousFeatures, _old, _model);
                foreach (ContinualPenalty penalty in _penalties)
                {
                    Tensor value = penalty.Loss(context);
                    step.Log(penalty.GetType().Name, value);
                    loss = loss + penalty.Weight * value;
                }
            }
            step.Minimize("loss", loss);
        }
    }
}
