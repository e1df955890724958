namespace Priori.Nn;

/// <summary>
/// Records what goes into and comes out of named layers of a network, through forward hooks. Each forward pass replaces the record of the one before;
/// the recorded tensors are detached and belong to the caller's dispose scope. Dispose removes the hooks.
/// </summary>
public sealed class ActivationRecorder : IDisposable
{
    private readonly Dictionary<string, Tensor> _inputs = [];
    private readonly Dictionary<string, Tensor> _outputs = [];
    private readonly List<Action> _removals = [];

    /// <summary>Starts recording.</summary>
    /// <param name="model">The network; its layers must be run with <c>call</c>, as TorchSharp's own containers do.</param>
    /// <param name="layers">Names of the layers as in <c>named_modules()</c>.</param>
    /// <exception cref="ArgumentException">No layer has the name, or it does not map one tensor to one tensor.</exception>
    public ActivationRecorder(Module model, IEnumerable<string> layers)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(layers);
        var modules = model.named_modules().ToDictionary(m => m.name, m => m.module);
        foreach (string name in layers)
        {
            if (!modules.TryGetValue(name, out Module? module)) throw new ArgumentException($"The network has no layer '{name}'.", nameof(layers));
            if (module is not Module<Tensor, Tensor> layer) throw new ArgumentException($"Layer '{name}' does not map one tensor to one tensor.", nameof(layers));
            var hook = layer.register_forward_hook((_, input, output) =>
            {
                _inputs[name] = input.detach();
                _outputs[name] = output.detach();
                return output;
            });
            _removals.Add(hook.remove);
        }
    }

    /// <summary>Inputs of the layers in the last forward pass, by name.</summary>
    public IReadOnlyDictionary<string, Tensor> Inputs => _inputs;

    /// <summary>Outputs of the layers in the last forward pass, by name.</summary>
    public IReadOnlyDictionary<string, Tensor> Outputs => _outputs;

    /// <summary>Activations as a table of observations: [batch, units], [batch, units, height, width] or [batch, tokens, units] to [batch * positions, units].</summary>
    /// <param name="activations">What a layer got or gave.</param>
    /// <exception cref="ArgumentException">The tensor has fewer than 2 or more than 4 dimensions.</exception>
    public static Tensor Flatten(Tensor activations)
    {
        ArgumentNullException.ThrowIfNull(activations);
        return activations.dim() switch
        {
            2 => activations,
            3 => activations.flatten(0, 1),
            4 => activations.permute(0, 2, 3, 1).flatten(0, 2),
            _ => throw new ArgumentException($"Activations must have 2 to 4 dimensions, not {activations.dim()}.", nameof(activations)),
        };
    }

    /// <summary>Removes the hooks.</summary>
    public void Dispose()
    {
        foreach (Action remove in _removals) remove();
        _removals.Clear();
    }
}
