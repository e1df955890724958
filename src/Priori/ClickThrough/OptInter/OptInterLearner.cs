using Priori.Training;
using TorchSharp.Modules;

namespace Priori.ClickThrough;

/// <summary>
/// Trains an OptInter network: Adam, with weight decay on the interactions' tables and on nothing else. The batch columns are ids, values and targets.
/// For a search model it lowers the temperature and learns alpha too: from the same gradient as the weights (<see cref="SearchMode.Joint"/>; one Adam with a learning rate for alpha is
/// the same as two), or from batches of other rows (<see cref="SearchMode.BiLevel"/>).
/// </summary>
public sealed class OptInterLearner : Learner
{
    private readonly OptInterNetwork network;
    private readonly TabularTask task;
    private readonly OptInterSearchOptions? search;
    private readonly Tensor[] archRows = [];
    private readonly Recorder? recorder;

    /// <summary>Re-trains a model of a plan.</summary>
    /// <param name="model">The model; the learner owns it.</param>
    /// <param name="task">What the logits mean.</param>
    /// <param name="training">How it is trained.</param>
    public OptInterLearner(OptInterModel model, TabularTask task, OptInterTraining training)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(training);
        training.Check();
        (network, this.task) = (model, task);
        Modules = new Dictionary<string, Module> { ["model"] = model };
        Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(optim.Adam(Groups(training))) };
    }

    /// <summary>Searches for a plan.</summary>
    /// <param name="model">The model; the learner owns it.</param>
    /// <param name="task">What the logits mean.</param>
    /// <param name="search">How it is searched.</param>
    /// <param name="archRows">Ids, values and targets of the rows for alpha, in <see cref="SearchMode.BiLevel"/>.</param>
    /// <exception cref="ArgumentException">A setting is outside its range, or two levels have no rows for alpha.</exception>
    public OptInterLearner(OptInterSearchModel model, TabularTask task, OptInterSearchOptions search, (Tensor Ids, Tensor Values, Tensor Target)? archRows = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(search);
        search.Check();
        (network, this.task, this.search, recorder) = (model, task, search, new Recorder(model.Alpha));
        Modules = new Dictionary<string, Module> { ["model"] = model, ["trajectory"] = recorder };
        if (search.EffectiveMode == SearchMode.Joint)
        {
            Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(optim.Adam([.. Groups(search), new Adam.ParamGroup(model.ArchParameters, search.ArchLearningRate)])) };
            return;
        }
        if (archRows is not { } rows || rows.Ids.size(0) == 0) throw new ArgumentException("A search of two levels needs rows for the architecture parameters.", nameof(archRows));
        this.archRows = [rows.Ids, rows.Values, rows.Target];
        Optimizers = new Dictionary<string, Optimization>
        {
            ["arch"] = new(optim.Adam(model.ArchParameters, search.ArchLearningRate)),
            ["loss"] = new(optim.Adam(Groups(search))),
        };
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <summary>Softmax of alpha at temperature 1, [points, pairs, 3], at as many evenly spaced steps of a search; NaN after an early stop. Null when none is searched for.</summary>
    public Tensor? Trajectory => recorder?.Points;

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        network.train();
        if (network is OptInterSearchModel model)
        {
            model.Temperature = search!.Temperature(step.Index, step.TotalSteps);
            if (archRows.Length > 0)
            {
                Tensor rows = randint(archRows[0].size(0), batch[0].size(0), ScalarType.Int64, archRows[0].device);
                Tensor[] columns = [.. archRows.Select(column => column.index_select(0, rows).to(step.Device))];
                step.Minimize("arch", Loss(columns[0], columns[1], columns[2]));
            }
        }
        step.Minimize("loss", Loss(batch[0], batch[1], batch[2]));
        recorder?.Record(step);
    }

    private Tensor Loss(Tensor ids, Tensor values, Tensor target) => task.Loss(network.forward(ids, values), target);

    private Adam.ParamGroup[] Groups(OptInterTraining training)
    {
        Parameter[] cross = [.. network.CrossParameters], arch = [.. network.ArchParameters];
        bool Among(Parameter[] set, Parameter parameter) => set.Any(p => p.Handle == parameter.Handle);
        Parameter[] others = [.. network.parameters().Where(p => !Among(cross, p) && !Among(arch, p))];
        var plain = new Adam.ParamGroup(others, training.LearningRate);
        return cross.Length == 0 ? [plain] : [plain, new Adam.ParamGroup(cross, training.LearningRate, weight_decay: training.CrossWeightDecay)];
    }

    /// <summary>Keeps alpha's way in a buffer, so that checkpoints carry it.</summary>
    private sealed class Recorder : Module
    {
        private const int Count = 100;
        private readonly Parameter alpha;

        public Recorder(Parameter alpha) : base(nameof(Recorder))
        {
            this.alpha = alpha;
            register_buffer("points", full([Count, alpha.size(0), 3], double.NaN, ScalarType.Float32, alpha.device).DetachFromDisposeScope());
        }

        public Tensor Points => get_buffer("points")!;

        public void Record(TrainingStep step)
        {
            using var ungraphed = no_grad();
            long first = step.Index * Count / step.TotalSteps, after = (step.Index + 1) * Count / step.TotalSteps; // Few steps fill several points each.
            if (after > first) Points.narrow(0, first, after - first).copy_(alpha.softmax(1));
        }
    }
}
