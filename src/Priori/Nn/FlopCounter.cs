namespace Priori.Nn;

/// <summary>The cost of one layer and the permutation groups it depends on.</summary>
/// <param name="Layer">Name of the layer.</param>
/// <param name="Flops">Multiplications and additions of one input (two a multiply-accumulate).</param>
/// <param name="OutputGroup">Group of the units the layer produces; null when they are fixed.</param>
/// <param name="InputGroup">Group of the units the layer reads; null when they are fixed.</param>
public sealed record FlopTerm(string Layer, double Flops, string? OutputGroup, string? InputGroup);

/// <summary>Counts the floating-point operations of linear, convolution and attention layers; normalisations, activations and pools are not counted.</summary>
public static class FlopCounter
{
    /// <summary>The cost of every counted layer for one input.</summary>
    /// <param name="architecture">The network.</param>
    /// <param name="spec">Its wiring, which names the groups of each layer.</param>
    public static IReadOnlyList<FlopTerm> Terms(Architecture architecture, PermutationSpec spec)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        ArgumentNullException.ThrowIfNull(spec);
        IReadOnlyDictionary<string, long[]> shapes = architecture.Shapes();
        var terms = new List<FlopTerm>();
        for (int i = 0; i < architecture.Layers.Count; i++)
        {
            Layer layer = architecture.Layers[i];
            IReadOnlyList<string> inputs = architecture.InputsOf(i);
            long[] input = shapes[inputs[0]], output = shapes[layer.Name];
            string? produced = spec.GroupOf($"{layer.Name}.weight", AxisRole.Output)?.Name, read = spec.GroupOf($"{layer.Name}.weight", AxisRole.Input)?.Name;
            switch (layer.Kind)
            {
                case LayerKind.Linear:
                    terms.Add(new FlopTerm(layer.Name, 2.0 * output.Aggregate(1L, (a, b) => a * b) * input[^1], produced, read));
                    break;
                case LayerKind.Conv2d:
                    terms.Add(new FlopTerm(layer.Name, 2.0 * output[0] * output[1] * output[2] * input[0] / layer.Groups * layer.Kernel * layer.Kernel, produced, read));
                    break;
                case LayerKind.Attention: // scores and weighted sums
                    terms.Add(new FlopTerm(layer.Name, 4.0 * output[0] * output[0] * output[1], spec.GroupOf($"{inputs[0]}.weight", AxisRole.Output)?.Name, null));
                    break;
            }
        }
        return terms;
    }

    /// <summary>Floating-point operations of one input.</summary>
    /// <param name="architecture">The network.</param>
    public static double Count(Architecture architecture) => Terms(architecture, new PermutationSpec([])).Sum(t => t.Flops);
}
