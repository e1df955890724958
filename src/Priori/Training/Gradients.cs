namespace Priori.Training;

/// <summary>Derivatives of tensors with respect to tensors.</summary>
public static class Gradients
{
    /// <summary>
    /// d sum(<paramref name="output"/>) / d <paramref name="inputs"/>, through <c>autograd.grad</c>.
    /// With <paramref name="createGraph"/> the result can be differentiated again (the graph is then retained, which TorchSharp does not do by itself).
    /// </summary>
    /// <param name="output">Any shape; a non-scalar is summed.</param>
    /// <param name="inputs">Tensors of its graph that require gradients.</param>
    /// <param name="createGraph">Whether the gradients are themselves differentiable.</param>
    /// <exception cref="ArgumentException">The output or an input does not require gradients (checked here, since libtorch would end the process).</exception>
    public static Tensor[] Of(Tensor output, IReadOnlyList<Tensor> inputs, bool createGraph = false)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(inputs);
        if (!output.requires_grad) throw new ArgumentException("The output depends on nothing that requires gradients.", nameof(output));
        if (inputs.Any(i => !i.requires_grad)) throw new ArgumentException("Every input must require gradients.", nameof(inputs));
        Tensor scalar = output.numel() == 1 ? output : output.sum();
        Tensor[] gradients = [.. autograd.grad([scalar], [.. inputs], retain_graph: createGraph, create_graph: createGraph, allow_unused: true)];
        for (int i = 0; i < gradients.Length; i++)
            if (gradients[i] is null || gradients[i].IsInvalid) gradients[i] = zeros_like(inputs[i]);
        return gradients;
    }

    /// <summary>A scalar with a given value and given gradients, for gradients that were found by other means than differentiating the value.</summary>
    /// <param name="value">The value, a scalar.</param>
    /// <param name="parameters">Tensors that require gradients.</param>
    /// <param name="gradients">The gradient of each, of its shape.</param>
    public static Tensor With(Tensor value, IReadOnlyList<Tensor> parameters, IReadOnlyList<Tensor> gradients)
    {
        ArgumentNullException.ThrowIfNull(value);
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentNullException.ThrowIfNull(gradients);
        if (parameters.Count != gradients.Count) throw new ArgumentException($"{parameters.Count} parameters have {gradients.Count} gradients.", nameof(gradients));
        return parameters.Zip(gradients, (p, g) => ((p - p.detach()) * g.detach()).sum()).Aggregate(value.detach(), (sum, term) => sum + term);
    }
}
