using Priori.Data;
using Priori.Nn;
using Priori.Runtime;

namespace Priori.Recipes.Merging;

/// <summary>The user's network: layers of an <see cref="Nn.Architecture"/>, or the image encoder of CLIP, whose logits are cosines with the text features of the classes.</summary>
internal sealed class AtlasNetwork : IDisposable
{
    private readonly Network? _network;
    private readonly ClipVision? _clip;

    private AtlasNetwork(Network? network, ClipVision? clip) => (_network, _clip) = (network, clip);

    public Module<Tensor, Tensor> Module => (Module<Tensor, Tensor>?)_network ?? _clip!;

    /// <summary>Shape of one input.</summary>
    public IReadOnlyList<long> Input => _network?.Architecture.Input ?? [3, _clip!.ImageSize, _clip.ImageSize];

    public long Outputs => _clip?.Outputs ?? _network!.Architecture.Shapes()[_network.Architecture.Layers[^1].Name][^1];

    public bool NeedsHeads => _clip is not null;

    public bool HasBatchNorm => _network?.Architecture.Layers.Any(l => l.Kind == LayerKind.BatchNorm) ?? false;

    /// <summary>The JSON of the layers; empty for CLIP.</summary>
    public string Layers => _network?.Architecture.ToJson() ?? "";

    public static AtlasNetwork Open(string path, string? architecture)
    {
        using (SafetensorsFile file = SafetensorsFile.Open(path))
            if (architecture is null && ClipVision.Is(file.Names))
            {
                try
                {
                    return new AtlasNetwork(null, ClipVision.FromState(file.Names.Where(n => n.StartsWith("vis", StringComparison.Ordinal)).ToDictionary(n => n, file.Get)));
                }
                catch (ArgumentException exception)
                {
                    throw new BadInputException($"{path}: {exception.Message}", exception);
                }
            }
        return new AtlasNetwork(UserModel.Load(path, UserModel.Describe(path, architecture)), null);
    }

    /// <summary>A saved model's network.</summary>
    public static AtlasNetwork Of(string layers, Dictionary<string, Tensor> state)
        => layers.Length == 0 ? new AtlasNetwork(null, ClipVision.FromState(state)) : new AtlasNetwork(new Network(Architecture.FromJson(layers)).Load(state), null);

    /// <summary>Another network of the same kind.</summary>
    public AtlasNetwork Another() => Of(Layers, State());

    public Dictionary<string, Tensor> State() => _network?.State() ?? _clip!.State();

    public void Load(IReadOnlyDictionary<string, Tensor> state)
    {
        _ = _network?.Load(state);
        _ = _clip?.Load(state);
    }

    /// <summary>The tensors of a checkpoint that are this network's.</summary>
    public Dictionary<string, Tensor> Own(Dictionary<string, Tensor> state) => _clip is null ? state : ClipVision.Own(state);

    /// <summary>Features of a batch: what the head reads.</summary>
    public Tensor Features(Tensor x) => _network is { Architecture.Layers.Count: > 1 } network ? network.Evaluate(x, network.Architecture.Layers[^2].Name) : Module.call(x);

    /// <summary>Logits as cosines with the text features of the classes, at CLIP's temperature of 1/100.</summary>
    public static Func<Tensor, Tensor> Head(Tensor textFeatures)
    {
        Tensor unit = functional.normalize(textFeatures.to(float32), dim: 1);
        return outputs => 100 * functional.normalize(outputs, dim: 1).matmul(unit.to(outputs.device).t());
    }

    public void Dispose() => Module.Dispose();
}
