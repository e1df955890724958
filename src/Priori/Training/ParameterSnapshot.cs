namespace Priori.Training;

/// <summary>
/// A copy of a module's parameters and buffers, to which the module can be rewound bit by bit (lottery-ticket rewinding, Frankle et al., 2020).
/// It is itself a module that holds the copies as buffers: a <see cref="Learner"/> that lists it among its modules carries it in its checkpoints.
/// </summary>
public sealed class ParameterSnapshot : Module
{
    private readonly Func<string, bool> include;

    /// <summary>Copies the module's present state.</summary>
    /// <param name="module">The module.</param>
    /// <param name="include">Which tensors, by their name in <c>state_dict</c>; null for every parameter and buffer.</param>
    /// <exception cref="ArgumentException">No tensor is included.</exception>
    public ParameterSnapshot(Module module, Func<string, bool>? include = null) : base(nameof(ParameterSnapshot))
    {
        ArgumentNullException.ThrowIfNull(module);
        this.include = include ?? (_ => true);
        using var ungraphed = no_grad();
        Dictionary<string, Tensor> state = State(module);
        if (state.Count == 0) throw new ArgumentException("The module has no parameter or buffer to keep.", nameof(module));
        foreach ((string name, Tensor tensor) in state) register_buffer(name, tensor.detach().clone().DetachFromDisposeScope());
    }

    /// <summary>Replaces the copies by the module's present state.</summary>
    /// <param name="module">The module, or one of the same architecture.</param>
    /// <exception cref="ArgumentException">Its tensors differ in names, shapes or types from the copied ones.</exception>
    public void Take(Module module) => Copy(State(module), state_dict());

    /// <summary>Sets the module's parameters and buffers to the copies; all others, and optimizers, stay as they are.</summary>
    /// <param name="module">The module, or one of the same architecture.</param>
    /// <exception cref="ArgumentException">Its tensors differ in names, shapes or types from the copied ones.</exception>
    public void Restore(Module module) => Copy(state_dict(), State(module));

    // A buffer's name has no dots.
    private Dictionary<string, Tensor> State(Module module)
    {
        ArgumentNullException.ThrowIfNull(module);
        return module.state_dict().Where(t => include(t.Key)).ToDictionary(t => t.Key.Replace('.', '/'), t => t.Value);
    }

    private static void Copy(Dictionary<string, Tensor> from, Dictionary<string, Tensor> to)
    {
        if (!from.Keys.ToHashSet().SetEquals(to.Keys) || from.Any(t => !t.Value.shape.SequenceEqual(to[t.Key].shape) || t.Value.dtype != to[t.Key].dtype))
            throw new ArgumentException("The module is of another architecture than the one in the snapshot: names, shapes or types of its tensors differ.");
        using var ungraphed = no_grad();
        foreach ((string name, Tensor tensor) in from) to[name].copy_(tensor);
    }
}
