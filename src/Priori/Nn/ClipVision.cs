using TorchSharp.Modules;
using F = TorchSharp.torch.nn.functional;

namespace Priori.Nn;

/// <summary>
/// The image encoder of CLIP (Radford et al., ICML 2021), a pre-norm vision transformer with a norm before its first block, under the tensor names of Hugging Face's <c>CLIPVisionModelWithProjection</c>
/// (<c>vision_model.encoder.layers.N.self_attn.q_proj.weight</c>, ..., <c>visual_projection.weight</c>), so that its checkpoints load as they are. Text towers in a checkpoint are left out.
/// </summary>
public sealed class ClipVision : Module<Tensor, Tensor>
{
    private const string PatchName = "vision_model.embeddings.patch_embedding.weight";
    private readonly Conv2d _patches;
    private readonly Scope _embeddings, _positions;
    private readonly LayerNorm _first, _last;
    private readonly Linear _projection;
    private readonly List<(LayerNorm Norm1, Linear Query, Linear Key, Linear Value, Linear Out, LayerNorm Norm2, Linear Up, Linear Down)> _layers = [];
    private readonly long _heads;
    private readonly bool _quickGelu;

    /// <summary>An encoder with random weights.</summary>
    /// <param name="imageSize">Side of the image, a multiple of the patch.</param>
    /// <param name="patchSize">Side of a patch. ViT-B/32: 32.</param>
    /// <param name="width">Width of the token vectors. ViT-B: 768.</param>
    /// <param name="depth">Number of blocks. ViT-B: 12.</param>
    /// <param name="heads">Heads of each block; width / 64 in all published models.</param>
    /// <param name="mlpWidth">Hidden width of a block's perceptron. ViT-B: 3072.</param>
    /// <param name="outputs">Width of the features. ViT-B: 512.</param>
    /// <param name="quickGelu">x sigmoid(1.702 x) as in OpenAI's models; false is GELU, as in later ones.</param>
    /// <exception cref="ArgumentException">The patch does not divide the image, or the heads the width.</exception>
    public ClipVision(long imageSize, long patchSize, long width, int depth, long heads, long mlpWidth, long outputs, bool quickGelu = true) : base(nameof(ClipVision))
    {
        if (imageSize % patchSize != 0) throw new ArgumentException($"Patches of {patchSize} do not divide an image of {imageSize}.", nameof(patchSize));
        if (width % heads != 0) throw new ArgumentException($"{heads} heads do not divide a width of {width}.", nameof(heads));
        (_heads, _quickGelu, ImageSize, Outputs) = (heads, quickGelu, imageSize, outputs);
        long tokens = imageSize / patchSize * (imageSize / patchSize) + 1;
        Module vision = Add(this, "vision_model", new Scope("vision_model"));
        _embeddings = Add(vision, "embeddings", new Scope("embeddings"));
        _embeddings.register_parameter("class_embedding", new Parameter(randn(width) * 0.02));
        _patches = Add(_embeddings, "patch_embedding", Conv2d(3, width, patchSize, stride: patchSize, bias: false));
        _positions = Add(_embeddings, "position_embedding", new Scope("position_embedding"));
        _positions.register_parameter("weight", new Parameter(randn(tokens, width) * 0.02));
        _first = Add(vision, "pre_layrnorm", LayerNorm(width)); // the misspelling is that of the checkpoints
        Module encoder = Add(vision, "encoder", new Scope("encoder")), layers = Add(encoder, "layers", new Scope("layers"));
        for (int i = 0; i < depth; i++)
        {
            Module layer = Add(layers, $"{i}", new Scope("layer")), attention = Add(layer, "self_attn", new Scope("self_attn")), mlp = Add(layer, "mlp", new Scope("mlp"));
            Linear Project(string name) => Add(attention, name, Linear(width, width));
            _layers.Add((Add(layer, "layer_norm1", LayerNorm(width)), Project("q_proj"), Project("k_proj"), Project("v_proj"), Project("out_proj"),
                Add(layer, "layer_norm2", LayerNorm(width)), Add(mlp, "fc1", Linear(width, mlpWidth)), Add(mlp, "fc2", Linear(mlpWidth, width))));
        }
        _last = Add(vision, "post_layernorm", LayerNorm(width));
        _projection = Add(this, "visual_projection", Linear(width, outputs, hasBias: false));
    }

    /// <summary>Side of the image.</summary>
    public long ImageSize { get; }

    /// <summary>Width of the features.</summary>
    public long Outputs { get; }

    /// <summary>Whether a checkpoint holds an image encoder of CLIP under Hugging Face's names.</summary>
    /// <param name="names">Names of its tensors.</param>
    public static bool Is(IEnumerable<string> names) => names.Contains(PatchName);

    /// <summary>The tensors of a checkpoint that belong to the image encoder.</summary>
    /// <param name="state">Tensors by name.</param>
    public static Dictionary<string, Tensor> Own(IReadOnlyDictionary<string, Tensor> state)
    {
        ArgumentNullException.ThrowIfNull(state);
        return state.Where(p => (p.Key.StartsWith("vision_model.", StringComparison.Ordinal) || p.Key.StartsWith("visual_projection.", StringComparison.Ordinal)) && !p.Key.EndsWith(".position_ids", StringComparison.Ordinal)).ToDictionary();
    }

    /// <summary>The encoder of a checkpoint, in evaluation mode; its sizes follow from the tensors.</summary>
    /// <param name="state">Tensors by name.</param>
    /// <param name="quickGelu">See the constructor; a checkpoint does not tell.</param>
    /// <exception cref="ArgumentException">A tensor is missing or of an unexpected shape; the message names it.</exception>
    public static ClipVision FromState(IReadOnlyDictionary<string, Tensor> state, bool quickGelu = true)
    {
        Dictionary<string, Tensor> own = Own(state);
        Tensor Needed(string name) => own.TryGetValue(name, out Tensor? tensor) ? tensor : throw new ArgumentException($"The checkpoint has no tensor '{name}', which the image encoder of CLIP needs.", nameof(state));
        Tensor patches = Needed(PatchName), positions = Needed("vision_model.embeddings.position_embedding.weight");
        if (patches.dim() != 4 || positions.dim() != 2) throw new ArgumentException($"'{PatchName}' is [{string.Join(", ", patches.shape)}] and the position embedding [{string.Join(", ", positions.shape)}]; 4 and 2 axes would be right.", nameof(state));
        int depth = Enumerable.Range(0, int.MaxValue).First(i => !own.ContainsKey($"vision_model.encoder.layers.{i}.layer_norm1.weight"));
        long width = patches.shape[0], side = (long)Math.Round(Math.Sqrt(positions.shape[0] - 1)) * patches.shape[2];
        long mlpWidth = depth == 0 ? width : Needed("vision_model.encoder.layers.0.mlp.fc1.weight").shape[0];
        var encoder = new ClipVision(side, patches.shape[2], width, depth, Math.Max(1, width / 64), mlpWidth, Needed("visual_projection.weight").shape[0], quickGelu);
        encoder.Load(own);
        encoder.eval();
        return encoder;
    }

    /// <summary>Copies of all tensors by name, detached.</summary>
    public Dictionary<string, Tensor> State() => state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());

    /// <summary>Loads a checkpoint, whose text tower is left out.</summary>
    /// <param name="state">Tensors by name.</param>
    /// <exception cref="ArgumentException">A tensor is missing, unknown or of another shape; the message names it.</exception>
    public ClipVision Load(IReadOnlyDictionary<string, Tensor> state)
    {
        Dictionary<string, Tensor> own = Own(state), target = state_dict();
        if (own.Keys.FirstOrDefault(k => !target.ContainsKey(k)) is { } unknown) throw new ArgumentException($"The checkpoint has a tensor '{unknown}' that the image encoder of CLIP has no place for.", nameof(state));
        using var ungraphed = no_grad();
        foreach ((string name, Tensor tensor) in target)
        {
            if (!own.TryGetValue(name, out Tensor? source)) throw new ArgumentException($"The checkpoint has no tensor '{name}', which the image encoder of CLIP needs.", nameof(state));
            if (!source.shape.AsSpan().SequenceEqual(tensor.shape)) throw new ArgumentException($"Tensor '{name}' is [{string.Join(", ", source.shape)}] in the checkpoint; [{string.Join(", ", tensor.shape)}] would be right.", nameof(state));
            tensor.copy_(source);
        }
        return this;
    }

    /// <summary>Features [batch, outputs], not normalised.</summary>
    /// <param name="input">Images [batch, 3, side, side], standardised with the mean and deviation of the model.</param>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor patches = _patches.call(input).flatten(2).transpose(1, 2);
        Tensor token = _embeddings.get_parameter("class_embedding")!.expand(input.shape[0], 1, -1);
        Tensor x = _first.call(cat([token, patches], 1) + _positions.get_parameter("weight")!);
        foreach (var layer in _layers)
        {
            Tensor normed = layer.Norm1.call(x);
            x = x + layer.Out.call(Attend(layer.Query.call(normed), layer.Key.call(normed), layer.Value.call(normed)));
            Tensor hidden = layer.Up.call(layer.Norm2.call(x));
            x = x + layer.Down.call(_quickGelu ? hidden * (1.702 * hidden).sigmoid() : F.gelu(hidden));
        }
        return _projection.call(_last.call(x.select(1, 0)));
    }

    private Tensor Attend(Tensor query, Tensor key, Tensor value)
    {
        Tensor Split(Tensor t) => t.view(t.shape[0], t.shape[1], _heads, -1).transpose(1, 2);
        Tensor scores = Split(query).matmul(Split(key).transpose(2, 3)) / Math.Sqrt(query.shape[2] / _heads);
        return scores.softmax(-1).matmul(Split(value)).transpose(1, 2).flatten(2);
    }

    private static T Add<T>(Module parent, string name, T child)
        where T : Module
    {
        parent.register_module(name, child);
        return child;
    }

    private sealed class Scope(string name) : Module(name);
}
