using Priori.Nn;
using Priori.Runtime;
using Priori.Training;
using TorchSharp.Modules;
using F = TorchSharp.torch.nn.functional;

namespace Priori.Continual;

/// <summary>A shared representation and a head for each task, fitted together.</summary>
/// <param name="Representation">Inputs [n, ...] to features [n, k].</param>
/// <param name="Heads">W [k, M]: the parameters of each task, without intercepts.</param>
/// <param name="ParameterVariance">Estimated variance of a task's parameter from one label: label noise times parameters a task has on its own; NaN where it cannot be estimated.</param>
public sealed record MultiTaskFit(Module<Tensor, Tensor> Representation, Tensor Heads, double ParameterVariance);

/// <summary>Multi-task empirical risk minimisation: a family of representations and how it is fitted. Every sample has the same weight, so tasks with more samples count more.</summary>
public interface IMultiTaskErm
{
    /// <summary>Dimension k of the representation.</summary>
    int Dim { get; }

    /// <summary>Whether heads have an intercept.</summary>
    bool Intercept { get; }

    /// <summary>The loss of the heads.</summary>
    HeadLoss Loss { get; }

    /// <summary>Fits representation and heads.</summary>
    /// <param name="tasks">Rows of each task, at least one of each.</param>
    MultiTaskFit Fit(IReadOnlyList<TaskBatch> tasks);
}

/// <summary>Linear representations, by <see cref="LinearMultiTask"/>; features are float64.</summary>
/// <param name="dim">Dimension k, at most the number of inputs.</param>
/// <param name="intercept">Whether each task has an intercept.</param>
public sealed class LinearErm(int dim, bool intercept = false) : IMultiTaskErm
{
    /// <inheritdoc/>
    public int Dim => dim;

    /// <inheritdoc/>
    public bool Intercept => intercept;

    /// <inheritdoc/>
    public HeadLoss Loss => HeadLoss.Squared;

    /// <summary>Alternations at most; default 100.</summary>
    public int MaxSweeps { get; init; } = 100;

    /// <inheritdoc/>
    public MultiTaskFit Fit(IReadOnlyList<TaskBatch> tasks)
    {
        ArgumentNullException.ThrowIfNull(tasks);
        using DisposeScope scope = NewDisposeScope();
        LinearMultiTaskFit fit = LinearMultiTask.Fit([.. tasks.Select(TaskMoments.Of)], dim, intercept, MaxSweeps);
        return new MultiTaskFit(Of(fit.Basis).ToOuterScope(), fit.Heads.MoveToOuterDisposeScope(), fit.NoiseVariance * fit.Basis.shape[0]);
    }

    /// <summary>The representation x B as a module.</summary>
    /// <param name="basis">B [d, k].</param>
    public static Linear Of(Tensor basis)
    {
        ArgumentNullException.ThrowIfNull(basis);
        using var ungraphed = no_grad();
        Linear module = Linear(basis.shape[0], basis.shape[1], hasBias: false, dtype: float64);
        module.weight.copy_(basis.t());
        return module;
    }
}

/// <summary>A trunk that all tasks share and a linear head for each.</summary>
public sealed class MultiTaskNetwork : Module<Tensor, Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> trunk;
    private readonly Parameter weight, bias;

    /// <summary>Makes a network; heads start as torch's linear layers do.</summary>
    /// <param name="trunk">Inputs [b, ...] to features [b, k].</param>
    /// <param name="dim">Dimension k.</param>
    /// <param name="tasks">Number of tasks M.</param>
    /// <param name="levels">Intercepts to start from [M], such as mean labels; zeros when null.</param>
    public MultiTaskNetwork(Module<Tensor, Tensor> trunk, int dim, int tasks, Tensor? levels = null) : base(nameof(MultiTaskNetwork))
    {
        ArgumentNullException.ThrowIfNull(trunk);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(tasks, 1);
        this.trunk = trunk;
        double bound = 1 / Math.Sqrt(dim);
        weight = Parameter(init.uniform_(empty(tasks, dim), -bound, bound));
        bias = Parameter(levels?.to(float32).clone() ?? zeros(tasks));
        RegisterComponents();
    }

    /// <summary>The trunk.</summary>
    public Module<Tensor, Tensor> Trunk => trunk;

    /// <summary>W [k, M], without intercepts.</summary>
    public Tensor Heads => weight.t();

    /// <summary>The prediction of each row by the head of its task.</summary>
    /// <param name="input">[b, ...].</param>
    /// <param name="tasks">Task of each row, int64 [b].</param>
    /// <returns>[b].</returns>
    public override Tensor forward(Tensor input, Tensor tasks)
        => (trunk.call(input) * weight.index_select(0, tasks)).sum(dim: 1) + bias.index_select(0, tasks);
}

/// <summary>Trains a <see cref="MultiTaskNetwork"/>; a batch is (inputs [b, ...], tasks int64 [b], labels [b]), drawn from the union of the tasks' rows.</summary>
public sealed class MultiTaskLearner : Learner
{
    private readonly HeadLoss _loss;

    /// <summary>Makes a learner; network and optimizer become its own.</summary>
    /// <param name="network">The network.</param>
    /// <param name="optimizer">An optimizer of its parameters.</param>
    /// <param name="loss">The heads' loss.</param>
    /// <param name="schedule">Factor on the learning rate; constant when null.</param>
    public MultiTaskLearner(MultiTaskNetwork network, optim.Optimizer optimizer, HeadLoss loss, Schedule? schedule = null)
    {
        ArgumentNullException.ThrowIfNull(network);
        (Network, _loss) = (network, loss);
        Modules = new Dictionary<string, Module> { ["network"] = network };
        Optimizers = new Dictionary<string, Optimization> { ["network"] = new(optimizer, schedule) };
    }

    /// <summary>The network.</summary>
    public MultiTaskNetwork Network { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        Network.train();
        Tensor predictions = Network.call(batch[0], batch[1]);
        step.Minimize("network", _loss == HeadLoss.Squared ? F.mse_loss(predictions, batch[2]) : F.softplus(-batch[2] * predictions).mean());
    }
}

/// <summary>Settings of <see cref="DeepErm"/>.</summary>
public sealed record DeepErmOptions
{
    /// <summary>Adam's steps, whatever the number of samples; rounded up to whole epochs.</summary>
    public int Steps { get; init; } = 1500;

    /// <summary>Rows in a batch.</summary>
    public int BatchSize { get; init; } = 64;

    /// <summary>Adam's learning rate at the start; it falls to 0 along a cosine.</summary>
    public double LearningRate { get; init; } = 2e-3;

    /// <summary>Decoupled weight decay of all parameters.</summary>
    public double WeightDecay { get; init; } = 1e-2;

    /// <summary>Loss of the heads.</summary>
    public HeadLoss Loss { get; init; } = HeadLoss.Squared;

    /// <summary>Ridge of the heads that are fitted once more on the trained representation, as the target's head is; the trained heads are kept when null.</summary>
    public double? HeadRidge { get; init; }

    /// <summary>Seed of initial weights and order.</summary>
    public int Seed { get; init; }

    /// <summary>The device.</summary>
    public Device Device { get; init; } = CPU;
}

/// <summary>Deep representations: a trunk trained together with the heads by AdamW on minibatches of the union of all tasks' rows; features are float32.</summary>
/// <param name="trunk">Builds a trunk from inputs [b, ...] to features [b, k].</param>
/// <param name="dim">Dimension k.</param>
/// <param name="options">Settings; null for the defaults.</param>
/// <param name="trainer">Makes the trainer from its options, for checkpoints and progress; plain trainers when null.</param>
public sealed class DeepErm(Func<Module<Tensor, Tensor>> trunk, int dim, DeepErmOptions? options = null, Func<TrainerOptions, Trainer>? trainer = null) : IMultiTaskErm
{
    private readonly DeepErmOptions _options = options ?? new();

    /// <inheritdoc/>
    public int Dim => dim;

    /// <inheritdoc/>
    public bool Intercept => true;

    /// <inheritdoc/>
    public HeadLoss Loss => _options.Loss;

    /// <summary>Cancels training.</summary>
    public CancellationToken Cancellation { get; init; }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">A task has no samples, or the trunk gives other features.</exception>
    public MultiTaskFit Fit(IReadOnlyList<TaskBatch> tasks)
    {
        ArgumentNullException.ThrowIfNull(tasks);
        for (int m = 0; m < tasks.Count; m++)
            if (tasks[m].Count < 1) throw new ArgumentException($"Task {m} has no samples.", nameof(tasks));
        using DisposeScope scope = NewDisposeScope();
        Tensor inputs = cat([.. tasks.Select(t => t.Inputs.to(float32))]), labels = cat([.. tasks.Select(t => t.Labels.to(float32))]);
        Tensor ids = cat([.. tasks.Select((t, m) => full([t.Count], m, int64))]);
        Seeds.Set(Seeds.Derive(_options.Seed, 1));
        Module<Tensor, Tensor> built = trunk();
        using (no_grad())
        {
            Tensor sample = built.call(inputs.narrow(0, 0, Math.Min(2, inputs.shape[0])));
            if (sample.dim() != 2 || sample.shape[1] != dim) throw new ArgumentException($"The trunk gives features [{string.Join(", ", sample.shape)}] instead of [n, {dim}].", nameof(tasks));
        }
        var network = new MultiTaskNetwork(built, dim, tasks.Count, _options.Loss == HeadLoss.Squared ? stack(tasks.Select(t => t.Labels.to(float32).mean())) : null);
        network.to(_options.Device);
        using var optimizer = optim.AdamW(network.parameters(), _options.LearningRate, weight_decay: _options.WeightDecay);
        var learner = new MultiTaskLearner(network, optimizer, _options.Loss, new CosineSchedule()); // not disposed: the trunk is the result
        long batches = Math.Max(1, (labels.shape[0] + _options.BatchSize - 1) / _options.BatchSize);
        var settings = new TrainerOptions { Epochs = (int)Math.Max(1, (_options.Steps + batches - 1) / batches), BatchSize = _options.BatchSize, Seed = _options.Seed, Device = _options.Device };
        (trainer ?? (o => new Trainer(o)))(settings).Fit(learner, new TensorSource(inputs, ids, labels), cancellation: Cancellation);
        using var ungraphed = no_grad();
        network.eval();
        Tensor heads = network.Heads.detach().cpu().clone();
        double error = 0;
        for (long start = 0; start < labels.shape[0]; start += 1024)
        {
            using DisposeScope part = NewDisposeScope();
            long size = Math.Min(1024, labels.shape[0] - start);
            error += (network.call(inputs.narrow(0, start, size).to(_options.Device), ids.narrow(0, start, size).to(_options.Device)).cpu() - labels.narrow(0, start, size)).square().sum().item<float>();
        }
        if (_options.HeadRidge is { } ridge)
        {
            Tensor[] features = [.. tasks.Select(t => Inference.Outputs(built, t.Inputs.to(float32)))];
            heads = stack(tasks.Select((t, m) => TargetHead.Fit(features[m], t.Labels, ridge, Intercept, Loss).weight.detach().squeeze(0)), 1);
        }
        double freedom = labels.shape[0] - (tasks.Count * (dim + 1.0));
        return new MultiTaskFit(built.ToOuterScope(), heads.MoveToOuterDisposeScope(), freedom > 0 ? error / freedom * dim : double.NaN);
    }
}
