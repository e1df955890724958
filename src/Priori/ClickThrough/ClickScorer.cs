using Priori.Data;

namespace Priori.ClickThrough;

/// <summary>
/// A click model ready to score: weights in memory, evaluation mode, no graph. Any number of threads may score at once; nothing touches the disk.
/// With a saved run: <c>new ClickScorer(run.Description&lt;ClickModelDescription&gt;(name), run.Model(name))</c>.
/// </summary>
public sealed class ClickScorer : IDisposable
{
    private readonly Device device;

    /// <summary>Builds the model and takes the weights.</summary>
    /// <param name="description">What the model is.</param>
    /// <param name="weights">Its weights by name; they are copied.</param>
    /// <param name="device">Where it computes; the CPU by default.</param>
    /// <exception cref="ArgumentException">The weights are not those of such a model.</exception>
    public ClickScorer(ClickModelDescription description, IReadOnlyDictionary<string, Tensor> weights, Device? device = null)
    {
        ArgumentNullException.ThrowIfNull(description);
        ArgumentNullException.ThrowIfNull(weights);
        this.device = device ?? CPU;
        Description = description;
        Model = description.Build();
        var own = Model.state_dict();
        foreach (var (name, tensor) in own)
        {
            if (!weights.TryGetValue(name, out Tensor? saved) || !saved.shape.SequenceEqual(tensor.shape))
                throw new ArgumentException($"The weights are not those of the model: '{name}' should be [{string.Join(", ", tensor.shape)}] and is {(saved is null ? "absent" : $"[{string.Join(", ", saved.shape)}]")}.", nameof(weights));
        }
        Model.load_state_dict(weights.ToDictionary());
        Model.to(this.device);
        Model.eval();
        foreach (Tensor parameter in Model.parameters()) parameter.requires_grad = false;
        foreach (Tensor state in Model.state_dict().Values) state.DetachFromDisposeScope();
    }

    /// <summary>What the model is.</summary>
    public ClickModelDescription Description { get; }

    /// <summary>The model, in evaluation mode on its device.</summary>
    public Module<Tensor, Tensor, Tensor> Model { get; }

    /// <summary>Predictions of encoded rows (see <see cref="TabularTask.Predict"/>) on the CPU: [rows], or [rows, classes] for more than two classes.</summary>
    /// <param name="ids">Ids, int64 [rows, fields].</param>
    /// <param name="values">Values [rows, fields].</param>
    /// <exception cref="ArgumentException">The rows do not fit the model.</exception>
    public Tensor Score(Tensor ids, Tensor values)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        return Description.Task.Predict(TabularLearner.Forward(Model, ids, values, device)).cpu().MoveToOuterDisposeScope();
    }

    /// <summary>Predictions of a table's rows; unseen categories and missing values are treated as the schema says.</summary>
    /// <param name="rows">Has the columns that the model was trained with; the target may be absent.</param>
    /// <exception cref="InvalidOperationException">The model was trained on (id, value) pairs and has no schema.</exception>
    /// <exception cref="Priori.Runtime.BadInputException">A column does not fit.</exception>
    public Tensor Score(Table rows)
    {
        using DisposeScope scope = NewDisposeScope();
        var (ids, values) = Description.Encode(Model, rows);
        return Score(ids, values).MoveToOuterDisposeScope();
    }

    /// <summary>Frees the model.</summary>
    public void Dispose() => Model.Dispose();
}
