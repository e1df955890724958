using Priori.Numerics;

namespace Priori.Interpretability;

/// <summary>
/// Records the layers' activations on one fixed population during training, and estimates the information plane afterwards, when the range of every
/// layer over the run is known (Chelombiev et al., ICLR 2019, section 3).
/// </summary>
/// <example>
/// <code>
/// using var plane = InformationPlane.Track(model, layers, inputs, labels, InformationPlane.LogSpaced(400, 12));
/// for (int epoch = 1; epoch &lt;= 400; epoch++) { TrainOneEpoch(); plane.Record(epoch); }
/// InformationTrace trace = plane.Estimate(EntropyBasedAdaptiveBinning.For(HiddenActivation.Tanh));
/// </code>
/// </example>
public sealed class InformationPlane : IDisposable
{
    /// <summary>Name under which the softmax of the model's output is recorded.</summary>
    public const string Output = "output";

    private const long RowsPerBatch = 4096;

    private readonly Module<Tensor, Tensor> model;
    private readonly IReadOnlyList<(string Name, Module<Tensor, Tensor> Module)> layers;
    private readonly Tensor inputs, labels;
    private readonly HashSet<int> schedule;
    private readonly SortedDictionary<int, IReadOnlyDictionary<string, Tensor>> snapshots = [];

    private InformationPlane(Module<Tensor, Tensor> model, IReadOnlyList<(string, Module<Tensor, Tensor>)> layers, Tensor inputs, Tensor labels, HashSet<int> schedule)
        => (this.model, this.layers, this.inputs, this.labels, this.schedule) = (model, layers, inputs, labels, schedule);

    /// <summary>Starts tracking a model: activations are those that its layers return in evaluation mode.</summary>
    /// <param name="model">Maps inputs to logits [n, classes]; it stays the caller's, and its training mode is restored after each recording.</param>
    /// <param name="layers">Names of the submodules to record, as <c>named_modules</c> gives them, input side first; the softmax of the output, by rows, is always recorded as <see cref="Output"/>.</param>
    /// <param name="inputs">The population X, [n, ...], on the model's device.</param>
    /// <param name="labels">Its classes, integers [n].</param>
    /// <param name="schedule">The epochs to record (<see cref="LogSpaced"/>).</param>
    /// <exception cref="ArgumentException">A layer does not exist or does not map a tensor to a tensor, or labels and inputs differ in length.</exception>
    public static InformationPlane Track(Module<Tensor, Tensor> model, IEnumerable<string> layers, Tensor inputs, Tensor labels, IEnumerable<int> schedule)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(labels);
        if (inputs.shape[0] != labels.shape[0])
            throw new ArgumentException($"There are {inputs.shape[0]} inputs and {labels.shape[0]} labels.", nameof(labels));
        var modules = model.named_modules().ToDictionary(m => m.name, m => m.module);
        List<(string, Module<Tensor, Tensor>)> tracked = [];
        foreach (string name in layers)
        {
            if (!modules.TryGetValue(name, out Module? module))
                throw new ArgumentException($"The model has no layer {name}; it has {string.Join(", ", modules.Keys)}.", nameof(layers));
            tracked.Add((name, module as Module<Tensor, Tensor> ?? throw new ArgumentException($"The layer {name} does not map one tensor to one tensor.", nameof(layers))));
        }
        return new(model, tracked, inputs, labels, [.. schedule]);
    }

    /// <summary>About <paramref name="count"/> distinct epochs from 1 to <paramref name="epochs"/>, equally spaced in their logarithm; 0, the untrained net, comes first.</summary>
    /// <param name="epochs">Last epoch, at least 1.</param>
    /// <param name="count">Epochs wanted besides 0, at least 2; fewer come out where early ones coincide.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number is below its range.</exception>
    public static IReadOnlyList<int> LogSpaced(int epochs, int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(epochs, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 2);
        return [.. Enumerable.Range(0, count).Select(i => (int)Math.Round(Math.Pow(epochs, i / (count - 1.0)))).Prepend(0).Distinct()];
    }

    /// <summary>Records the activations, if <paramref name="epoch"/> is in the schedule; recording an epoch again replaces it.</summary>
    /// <param name="epoch">Epochs of training done; 0 for the untrained model.</param>
    public void Record(int epoch)
    {
        if (!schedule.Contains(epoch)) return;
        Dictionary<string, Tensor> activations = Activations(model, layers, inputs);
        if (snapshots.Remove(epoch, out IReadOnlyDictionary<string, Tensor>? old)) Dispose(old);
        snapshots[epoch] = activations;
    }

    /// <summary>What was recorded: activations [n, units] by layer, for each epoch. They stay this object's.</summary>
    public IReadOnlyList<(int Epoch, IReadOnlyDictionary<string, Tensor> Activations)> Snapshots => [.. snapshots.Select(s => (s.Key, s.Value))];

    /// <summary>The information plane of what was recorded so far.</summary>
    /// <param name="estimator">The estimator.</param>
    /// <param name="progress">Told the epoch that was just estimated.</param>
    /// <param name="cancellation">Stops between layers.</param>
    /// <exception cref="ArgumentException">Nothing was recorded, or as the estimator's.</exception>
    public InformationTrace Estimate(IMutualInformationEstimator estimator, IProgress<int>? progress = null, CancellationToken cancellation = default)
        => InformationTrace.Of(Snapshots, labels, estimator, InputEntropy(inputs), progress, cancellation);

    /// <summary>Entropy of the population, bits: log2 n where all inputs [n, ...] are distinct, less where some occur more than once.</summary>
    /// <param name="inputs">The population, [n, ...].</param>
    public static double InputEntropy(Tensor inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        using var scope = NewDisposeScope();
        (_, Tensor? levels, _) = inputs.unique(sorted: true, return_inverse: true);
        return HistogramEntropy.OfRows(levels!.reshape(inputs.shape[0], -1));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IReadOnlyDictionary<string, Tensor> snapshot in snapshots.Values) Dispose(snapshot);
        snapshots.Clear();
    }

    /// <summary>Activations [n, units] of the named layers and the softmax of the output, in evaluation mode, by hooks on the layers.</summary>
    internal static Dictionary<string, Tensor> Activations(Module<Tensor, Tensor> model, IReadOnlyList<(string Name, Module<Tensor, Tensor> Module)> layers, Tensor inputs)
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        var parts = layers.Select(l => l.Name).Append(Output).ToDictionary(name => name, _ => new List<Tensor>());
        var hooks = layers.Select(layer => layer.Module.register_forward_hook((_, _, output) =>
        {
            parts[layer.Name].Add(output.detach().reshape(output.shape[0], -1).clone()); // A copy: an in-place layer may follow.
            return output;
        })).ToList();
        bool training = model.training;
        model.eval();
        try
        {
            foreach (Tensor batch in inputs.split(RowsPerBatch)) parts[Output].Add(model.call(batch).softmax(1));
        }
        finally
        {
            model.train(training);
            foreach (var hook in hooks) hook.remove();
        }
        foreach ((string name, List<Tensor> batches) in parts)
            if (batches.Sum(b => b.shape[0]) != inputs.shape[0])
                throw new InvalidOperationException($"The model's forward must call the layer {name} once for each batch.");
        return parts.ToDictionary(p => p.Key, p => cat(p.Value).DetachFromDisposeScope());
    }

    private static void Dispose(IReadOnlyDictionary<string, Tensor> activations)
    {
        foreach (Tensor t in activations.Values) t.Dispose();
    }
}
