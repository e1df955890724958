namespace Priori.Nn;

/// <summary>Counts the trained numbers of a network from its description, without building it; running statistics are not counted.</summary>
public static class ParameterCounter
{
    /// <summary>Number of parameters.</summary>
    /// <param name="architecture">The network.</param>
    public static long Count(Architecture architecture)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        IReadOnlyDictionary<string, long[]> shapes = architecture.Shapes();
        long Of(Layer layer, long[] input)
        {
            long units = Architecture.UnitCount(input);
            return layer.Kind switch
            {
                LayerKind.Linear => layer.Width * (units + (layer.Bias ? 1 : 0)),
                LayerKind.Conv2d => layer.Width * ((units / layer.Groups * layer.Kernel * layer.Kernel) + (layer.Bias ? 1 : 0)),
                LayerKind.BatchNorm or LayerKind.LayerNorm => 2 * units,
                LayerKind.ClassToken => units,
                LayerKind.Position => input[0] * units,
                _ => 0,
            };
        }
        return Enumerable.Range(0, architecture.Layers.Count).Sum(i => Of(architecture.Layers[i], shapes[architecture.InputsOf(i)[0]]));
    }
}
