using Priori.Nn;

namespace Priori.Similarity;

/// <summary>What merged features respond to (section 5.4, figure 5): the average activation map of the features that became one.</summary>
public static class GroupActivations
{
    /// <summary>Mean activations of each merged feature's members in the original network.</summary>
    /// <param name="network">The original network.</param>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <param name="layer">A layer whose outputs are the features, [n, features] or [n, features, height, width]; see <see cref="Layer"/>.</param>
    /// <param name="groups">The members of each merged feature, as in <see cref="IfmResult.Groups"/>.</param>
    /// <returns>[n, groups] or [n, groups, height, width].</returns>
    /// <exception cref="ArgumentException">No layer has this name.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A member is no feature of the layer.</exception>
    public static Tensor Mean(Network network, Tensor inputs, string layer, IReadOnlyList<int[]> groups)
    {
        ArgumentNullException.ThrowIfNull(network);
        ArgumentNullException.ThrowIfNull(groups);
        using var scope = NewDisposeScope();
        Tensor activations = Inference.Outputs(network, x => network.Evaluate(x, layer), inputs);
        foreach (int member in groups.SelectMany(g => g))
            if (member < 0 || member >= activations.shape[1]) throw new ArgumentOutOfRangeException(nameof(groups), member, $"Layer '{layer}' has {activations.shape[1]} features.");
        return stack([.. groups.Select(g => activations.index_select(1, tensor(g.Select(i => (long)i).ToArray(), device: activations.device)).mean([1]))], 1).MoveToOuterDisposeScope();
    }

    /// <summary>The last layer with the features of a group as its units, not flattened: behind the activation, where there is one.</summary>
    /// <param name="architecture">The network.</param>
    /// <param name="group">Name of the group.</param>
    /// <exception cref="ArgumentException">The network has no such group.</exception>
    public static string Layer(Architecture architecture, string group)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        IReadOnlyDictionary<string, string> units = architecture.UnitGroups();
        return architecture.Layers.LastOrDefault(l => units.GetValueOrDefault(l.Name) == group && l.Kind is not (LayerKind.Flatten or LayerKind.GlobalAvgPool or LayerKind.MaxPool or LayerKind.AvgPool))?.Name
            ?? throw new ArgumentException($"The network has no group '{group}'.", nameof(group));
    }
}
