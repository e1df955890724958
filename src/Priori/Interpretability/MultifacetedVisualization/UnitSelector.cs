using System.Globalization;
using Priori.Nn;

namespace Priori.Interpretability;

/// <summary>What of a unit is made large.</summary>
public enum UnitObjective
{
    /// <summary>Its activation; for a class unit the logit before the softmax.</summary>
    Activation,

    /// <summary>Its share in the softmax over the units of its layer. (Its gradient is taken of the logarithm, which has the same direction and does not vanish for small shares.)</summary>
    Probability,
}

/// <summary>A unit of a network: an entry of the last axis of vectors and tokens, or a channel of images.</summary>
/// <param name="Layer">Name of the layer, as in <c>named_modules()</c> or in the network's <see cref="Architecture"/>; null for the network's output.</param>
/// <param name="Index">Index of the unit or channel, from 0.</param>
public sealed record UnitSelector(string? Layer, long Index)
{
    /// <summary>What is made large. Default the activation.</summary>
    public UnitObjective Objective { get; init; }

    /// <summary>Row and column of a channel (for tokens the row is the token); null for the mean over all positions.</summary>
    public (long Row, long Column)? Position { get; init; }

    /// <summary>Reads <c>LAYER:INDEX</c>, or <c>LAYER:INDEX@ROWxCOLUMN</c> for a channel at one position; an empty layer is the network's output.</summary>
    /// <param name="text">The text, such as <c>fc:3</c>, <c>conv2:5</c> or <c>conv2:5@4x7</c>.</param>
    /// <exception cref="ArgumentException">The text names no unit.</exception>
    public static UnitSelector Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentException Bad() => new($"'{text}' is no unit; write LAYER:INDEX, such as fc:3, or LAYER:INDEX@ROWxCOLUMN for a channel at one position.", nameof(text));
        long Number(string digits) => long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out long n) ? n : throw Bad();
        int colon = text.LastIndexOf(':');
        if (colon < 0) throw Bad();
        string[] parts = text[(colon + 1)..].Split('@');
        if (parts.Length > 2) throw Bad();
        string layer = text[..colon];
        var unit = new UnitSelector(layer.Length == 0 ? null : layer, Number(parts[0]));
        if (parts.Length == 1) return unit;
        string[] place = parts[1].Split('x');
        if (place.Length != 2) throw Bad();
        return unit with { Position = (Number(place[0]), Number(place[1])) };
    }

    /// <summary>The text that <see cref="Parse"/> reads.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Layer}:{Index}{(Position is { } p ? $"@{p.Row}x{p.Column}" : "")}");

    /// <summary>The value of the unit for each input.</summary>
    /// <param name="activations">What its layer gave: [b, units], [b, tokens, units] or [b, channels, height, width].</param>
    /// <param name="objective">What of it; the selector's own when null.</param>
    /// <returns>[b], differentiable.</returns>
    /// <exception cref="ArgumentException">The layer has no such unit or position, or another shape.</exception>
    public Tensor Of(Tensor activations, UnitObjective? objective = null)
        => (objective ?? Objective) == UnitObjective.Activation ? Select(activations) : Units(activations).softmax(1).select(1, Index);

    /// <summary>What is differentiated: the activation, or the logarithm of the probability.</summary>
    internal Tensor Ascended(Tensor activations, UnitObjective? objective)
        => (objective ?? Objective) == UnitObjective.Activation ? Select(activations) : Units(activations).log_softmax(1).select(1, Index);

    private Tensor Select(Tensor activations) => Units(activations).select(1, Index);

    /// <summary>[b, units]: positions are averaged, or one is taken.</summary>
    private Tensor Units(Tensor activations)
    {
        ArgumentNullException.ThrowIfNull(activations);
        long[] shape = activations.shape;
        Tensor units = activations.dim() switch
        {
            2 when Position is null => activations,
            3 when Position is null => activations.mean([1L]),
            3 when Position is (var row, 0) && row < shape[1] => activations.select(1, row),
            4 when Position is null => activations.mean([2L, 3L]),
            4 when Position is (var row, var column) && row < shape[2] && column < shape[3] => activations.select(3, column).select(2, row),
            2 or 3 or 4 => throw new ArgumentException($"Unit {this} is at a position that its layer, [{string.Join(", ", shape)}], does not have."),
            _ => throw new ArgumentException($"Unit {this} is in a layer of shape [{string.Join(", ", shape)}]; [b, units], [b, tokens, units] and [b, channels, height, width] have units."),
        };
        if (Index < 0 || Index >= units.shape[1]) throw new ArgumentOutOfRangeException(nameof(activations), $"Unit {this} is out of range: {(Layer is null ? "the output" : $"layer '{Layer}'")} has units 0..{units.shape[1] - 1}.");
        return units;
    }
}

/// <summary>What a layer gives for a batch, with its graph.</summary>
internal static class LayerOutput
{
    /// <summary>Runs a network up to a layer (a <see cref="Network"/>), or whole with a hook on the layer.</summary>
    /// <param name="model">The network.</param>
    /// <param name="input">Its inputs.</param>
    /// <param name="layer">Name of the layer; null for the output.</param>
    public static Tensor Of(Module<Tensor, Tensor> model, Tensor input, string? layer)
    {
        if (layer is null) return model.call(input);
        if (model is Network network) return network.Evaluate(input, layer);
        Module? module = model.named_modules().FirstOrDefault(m => m.name == layer).module;
        if (module is not Module<Tensor, Tensor> found) throw new ArgumentException($"The network has no layer '{layer}' that maps one tensor to one tensor.", nameof(layer));
        Tensor? output = null;
        var hook = found.register_forward_hook((_, _, y) => output = y);
        try
        {
            _ = model.call(input);
        }
        finally
        {
            hook.remove();
        }
        return output ?? throw new ArgumentException($"Layer '{layer}' was not run.", nameof(layer));
    }
}
