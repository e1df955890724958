namespace Priori.Training;

/// <summary>
/// What is trained and what one step does. A learner owns its modules and its optimizers; the <see cref="Trainer"/> owns the loop.
/// </summary>
public abstract class Learner : IDisposable
{
    /// <summary>Everything whose parameters and buffers are state (networks, running targets, weight averages), by name. Checkpoints carry exactly these.</summary>
    public abstract IReadOnlyDictionary<string, Module> Modules { get; }

    /// <summary>The optimizers by name; a step names the one it uses.</summary>
    public abstract IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <summary>How often an epoch goes over the data, each time in an order of its own; <see cref="TrainingStep.Pass"/> tells which.</summary>
    public virtual int PassesPerEpoch => 1;

    /// <summary>Called before the first step of each epoch (epochs count from 0), also when training is resumed at its beginning.</summary>
    /// <param name="epoch">The epoch.</param>
    public virtual void BeginEpoch(int epoch)
    {
    }

    /// <summary>One step: losses on the batch, minimised through <see cref="TrainingStep.Minimize(string, Tensor)"/>. Temporaries are freed after it.</summary>
    /// <param name="batch">The batch, on the trainer's device.</param>
    /// <param name="step">Where training stands, and what a step may do.</param>
    public abstract void Step(Batch batch, TrainingStep step);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the modules and optimizers.</summary>
    /// <param name="disposing">Whether called by <see cref="Dispose()"/>.</param>
    protected virtual void Dispose(bool disposing)
    {
        if (!disposing) return;
        foreach (Optimization optimization in Optimizers.Values) optimization.Optimizer.Dispose();
        foreach (Module module in Modules.Values) module.Dispose();
    }
}

/// <summary>An optimizer with its schedule and gradient clipping.</summary>
public sealed class Optimization
{
    private readonly double[] _rates;
    private readonly optim.ILearningRateController[] _groups;

    /// <summary>Takes the optimizer's present learning rates as the ones the schedule multiplies.</summary>
    /// <param name="optimizer">A TorchSharp optimizer.</param>
    /// <param name="schedule">Factor on the learning rate; constant when null.</param>
    /// <param name="clipNorm">Largest total gradient norm; no clipping when null.</param>
    /// <param name="clipValue">Largest absolute value of a gradient entry; no clipping when null.</param>
    public Optimization(optim.Optimizer optimizer, Schedule? schedule = null, double? clipNorm = null, double? clipValue = null)
    {
        ArgumentNullException.ThrowIfNull(optimizer);
        Optimizer = optimizer;
        Schedule = schedule;
        ClipNorm = clipNorm;
        ClipValue = clipValue;
        _groups = [.. optimizer.ParamGroups];
        _rates = [.. _groups.Select(g => g.LearningRate)];
    }

    /// <summary>The optimizer.</summary>
    public optim.Optimizer Optimizer { get; }

    /// <summary>Its schedule, if any.</summary>
    public Schedule? Schedule { get; }

    /// <summary>Largest total gradient norm, if clipped.</summary>
    public double? ClipNorm { get; }

    /// <summary>Largest absolute gradient entry, if clipped.</summary>
    public double? ClipValue { get; }

    internal void SetRate(long step, long totalSteps, double epoch)
    {
        if (Schedule is null) return;
        double factor = Schedule.Factor(step, totalSteps, epoch);
        for (int g = 0; g < _groups.Length; g++) _groups[g].LearningRate = _rates[g] * factor;
    }

    /// <summary>Drops the gradients. (TorchSharp's zero_grad leaves zeros: then momentum would move a parameter that a step does not use, except just after a resume, when it has no gradient yet.)</summary>
    internal void Clear()
    {
        foreach (var parameter in Optimizer.parameters()) parameter.grad = null;
    }

    internal void Step(Tensor loss)
    {
        Clear();
        loss.backward();
        Update();
    }

    internal void Update()
    {
        if (ClipValue is not null || ClipNorm is not null) Clip();
        Optimizer.step();
    }

    // Equal rows of a sparse gradient are summed first: clipping is that of the gradient, however it is stored.
    private void Clip()
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        List<Tensor> entries = [];
        foreach (TorchSharp.Modules.Parameter parameter in Optimizer.parameters())
        {
            if (parameter.grad is not { } gradient) continue;
            if (gradient.is_sparse)
            {
                (Tensor rows, Tensor sums) = SparseRows.Sum(gradient.SparseIndices, gradient.SparseValues);
                parameter.grad = gradient = sparse_coo_tensor(rows.unsqueeze(0), sums, gradient.shape);
                gradient = gradient.SparseValues;
            }
            entries.Add(gradient);
        }
        if (entries.Count == 0) return;
        if (ClipValue is { } value) entries.ForEach(entry => entry.clamp_(-value, value));
        if (ClipNorm is not { } norm) return;
        Tensor factor = (norm / (stack(entries.Select(entry => entry.norm())).norm() + 1e-6)).clamp_max(1); // 1e-6 as in torch
        entries.ForEach(entry => entry.mul_(factor));
    }
}

/// <summary>Where training stands, and what a step may do.</summary>
public sealed class TrainingStep
{
    private readonly Learner _learner;
    private readonly EpochAverages _averages;

    internal TrainingStep(Learner learner, EpochAverages averages, int seed, Device device)
    {
        _learner = learner;
        _averages = averages;
        Seed = seed;
        Device = device;
    }

    /// <summary>Steps done before this one, over all epochs and passes.</summary>
    public long Index { get; internal set; }

    /// <summary>Steps of the whole training.</summary>
    public long TotalSteps { get; internal set; }

    /// <summary>Epoch, from 0.</summary>
    public int Epoch { get; internal set; }

    /// <summary>Pass within the epoch, from 0.</summary>
    public int Pass { get; internal set; }

    /// <summary>The run's seed; libtorch's generators are already seeded for this step.</summary>
    public int Seed { get; }

    /// <summary>The trainer's device.</summary>
    public Device Device { get; }

    /// <summary>Clears the gradients of an optimizer's parameters, differentiates the loss, clips, and takes the optimizer's step. Logs the loss under the optimizer's name.</summary>
    /// <param name="optimizer">Its name in <see cref="Learner.Optimizers"/>.</param>
    /// <param name="loss">A scalar.</param>
    /// <exception cref="NonFiniteLossException">The loss is NaN or infinite; nothing has been changed.</exception>
    public void Minimize(string optimizer, Tensor loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        Log(optimizer, loss);
        _learner.Optimizers[optimizer].Step(loss);
    }

    /// <summary>
    /// Minimises several losses from one forward pass: clears the gradients of all the optimizers, differentiates the sum of the losses, then clips and steps each optimizer.
    /// So no loss is differentiated through parameters that another has already moved. Logs each loss under its optimizer's name.
    /// </summary>
    /// <param name="losses">A scalar for each optimizer, by its name in <see cref="Learner.Optimizers"/>.</param>
    /// <exception cref="NonFiniteLossException">A loss is NaN or infinite; nothing has been changed.</exception>
    public void Minimize(params IReadOnlyList<(string Optimizer, Tensor Loss)> losses)
    {
        ArgumentNullException.ThrowIfNull(losses);
        foreach (var (name, loss) in losses) Log(name, loss);
        foreach (var (name, _) in losses) _learner.Optimizers[name].Clear();
        losses.Select(l => l.Loss).Aggregate((a, b) => a + b).backward();
        foreach (var (name, _) in losses) _learner.Optimizers[name].Update();
    }

    /// <summary>Adds a scalar to the epoch's average of that name; the averages are the series of the training history.</summary>
    /// <param name="name">Name of the series.</param>
    /// <param name="scalar">A scalar tensor.</param>
    /// <exception cref="NonFiniteLossException">The value is NaN or infinite.</exception>
    public void Log(string name, Tensor scalar) => _averages.Add(name, scalar, this);

    /// <summary>Adds a value to the epoch's average of that name.</summary>
    /// <param name="name">Name of the series.</param>
    /// <param name="value">The value.</param>
    public void Log(string name, double value) => _averages.Add(name, value);
}

/// <summary>A loss or logged value became NaN or infinite.</summary>
/// <param name="part">The learner's part that produced it.</param>
/// <param name="step">The step, from 0.</param>
/// <param name="epoch">The epoch, from 0.</param>
/// <param name="checkpoint">Newest good checkpoint, if there is one.</param>
public sealed class NonFiniteLossException(string part, long step, int epoch, string? checkpoint)
    : Exception($"'{part}' became NaN or infinite at step {step} (epoch {epoch + 1}); {(checkpoint is null ? "no checkpoint was written before" : $"newest good checkpoint: {checkpoint}")}. Lower the learning rate or clip the gradients.")
{
    /// <summary>The learner's part that produced it.</summary>
    public string Part { get; } = part;

    /// <summary>The step, from 0.</summary>
    public long Step { get; } = step;

    /// <summary>The epoch, from 0.</summary>
    public int Epoch { get; } = epoch;

    /// <summary>Newest good checkpoint, if there is one.</summary>
    public string? Checkpoint { get; } = checkpoint;
}
