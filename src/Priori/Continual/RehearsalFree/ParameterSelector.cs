using System.Text.RegularExpressions;
using Priori.Nn;

namespace Priori.Continual;

/// <summary>Chooses parameters of a <see cref="ContinualModel"/> by name: which are regularised, or which may move.</summary>
public sealed partial class ParameterSelector
{
    private readonly Func<ContinualModel, Func<string, bool>> _match;
    private readonly bool _mayBeEmpty;

    private ParameterSelector(string description, Func<ContinualModel, Func<string, bool>> match, bool mayBeEmpty = false)
    {
        Description = description;
        _match = match;
        _mayBeEmpty = mayBeEmpty;
    }

    /// <summary>Backbone and head. As anchors of a penalty these are the rows of classes that were learned before; rows of new classes have no anchor.</summary>
    public static ParameterSelector All { get; } = new("all parameters", _ => _ => true);

    /// <summary>The backbone, without the head.</summary>
    public static ParameterSelector Backbone { get; } = new("the backbone", _ => InBackbone);

    /// <summary>Nothing: as the choice of what may move, only the head is trained (linear probe).</summary>
    public static ParameterSelector None { get; } = new("nothing", _ => _ => false, mayBeEmpty: true);

    /// <summary>What it chooses, in words.</summary>
    public string Description { get; }

    /// <summary>
    /// The query, key and value projections of every self-attention block, weights and biases (Smith et al., 2023, L2 in self-attention). In a <see cref="Network"/> these are
    /// the linear layers that an attention layer reads; in other backbones they are told by the usual names (qkv, in_proj, q_proj, query, to_q, ...). A packed projection [3 width, width] is one of them as a whole.
    /// </summary>
    /// <param name="output">Whether the output projection (out_proj) belongs to the group too; not by default.</param>
    public static ParameterSelector Attention(bool output = false) => new($"the attention projections (query, key, value{(output ? ", output" : "")})", model => AttentionOf(model.Backbone, output));

    /// <summary>Parameters whose full name (<c>backbone.*</c>, <c>head.N.*</c>) a regular expression matches.</summary>
    /// <param name="pattern">The expression; it may match any part of the name.</param>
    /// <exception cref="ArgumentException">It is not a regular expression.</exception>
    public static ParameterSelector Regex(string pattern)
    {
        var expression = new Regex(pattern, RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1));
        return new ParameterSelector($"names that match '{pattern}'", _ => expression.IsMatch);
    }

    /// <summary>The chosen parameters in the order of the model.</summary>
    /// <param name="model">The model.</param>
    /// <exception cref="ArgumentException">Nothing matches.</exception>
    public IReadOnlyList<(string Name, TorchSharp.Modules.Parameter Parameter)> Select(ContinualModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        Func<string, bool> match = _match(model);
        (string Name, TorchSharp.Modules.Parameter Parameter)[] chosen = [.. model.named_parameters().Where(p => match(p.name)).Select(p => (p.name, p.parameter))];
        if (chosen.Length == 0 && !_mayBeEmpty)
            throw new ArgumentException($"No parameter is chosen by {Description}; the model has: {string.Join(", ", model.named_parameters().Take(12).Select(p => p.name))}{(model.named_parameters().Count() > 12 ? ", ..." : "")}.");
        return chosen;
    }

    private static bool InBackbone(string name) => name.StartsWith("backbone.", StringComparison.Ordinal);

    private static Func<string, bool> AttentionOf(Module backbone, bool output)
    {
        if (backbone is not Network network)
            return name => InBackbone(name) && (InputProjection().IsMatch(name) || (output && OutputProjection().IsMatch(name)));
        var layers = new HashSet<string>();
        Architecture architecture = network.Architecture;
        for (int i = 0; i < architecture.Layers.Count; i++)
        {
            if (architecture.Layers[i].Kind == LayerKind.Attention) layers.UnionWith(architecture.InputsOf(i));
            else if (output && architecture.Layers[i].Kind == LayerKind.Linear && architecture.Layers.Any(l => l.Kind == LayerKind.Attention && l.Name == architecture.InputsOf(i)[0])) layers.Add(architecture.Layers[i].Name);
        }
        return name => InBackbone(name) && layers.Contains(name[name.IndexOf('.')..name.LastIndexOf('.')].TrimStart('.'));
    }

    [GeneratedRegex(@"(^|\.)(qkv|in_proj|(q|k|v)(_proj|_linear)?|query|key|value|to_(q|k|v|qkv))(\.|_)(weight|bias)$", RegexOptions.CultureInvariant)]
    private static partial Regex InputProjection();

    [GeneratedRegex(@"(^|\.)(attn|attention|self_attn|self_attention)\.(proj|out_proj|output|to_out)(\.\d+)?\.(weight|bias)$|(^|\.)out_proj\.(weight|bias)$", RegexOptions.CultureInvariant)]
    private static partial Regex OutputProjection();
}
