using System.Text.Json;
using Priori.Data;

namespace Priori.Nn;

/// <summary>Sizes of a BERT encoder, with the names of Hugging Face's config.json.</summary>
public sealed record BertConfig
{
    /// <summary>vocab_size.</summary>
    public long VocabSize { get; init; } = 30522;

    /// <summary>hidden_size.</summary>
    public long HiddenSize { get; init; } = 768;

    /// <summary>num_hidden_layers.</summary>
    public int NumHiddenLayers { get; init; } = 12;

    /// <summary>num_attention_heads; divides the hidden size.</summary>
    public int NumAttentionHeads { get; init; } = 12;

    /// <summary>intermediate_size.</summary>
    public long IntermediateSize { get; init; } = 3072;

    /// <summary>max_position_embeddings.</summary>
    public long MaxPositionEmbeddings { get; init; } = 512;

    /// <summary>type_vocab_size.</summary>
    public long TypeVocabSize { get; init; } = 2;

    /// <summary>layer_norm_eps.</summary>
    public double LayerNormEps { get; init; } = 1e-12;

    /// <summary>hidden_dropout_prob; also used for attention.</summary>
    public double HiddenDropoutProb { get; init; } = 0.1;

    /// <summary>Reads config.json.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is not such a configuration.</exception>
    public static BertConfig Read(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<BertConfig>(File.ReadAllText(path), s_json) ?? throw new InvalidDataException($"{path} is empty.");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path} is no BERT configuration: {e.Message}", e);
        }
    }

    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };
}

/// <summary>Modules under names, so that weights have the keys of a published file.</summary>
internal sealed class NamedModules : Module
{
    public NamedModules(params IReadOnlyList<(string Name, Module Module)> modules) : base(nameof(NamedModules))
    {
        foreach (var (name, module) in modules) register_module(name, module);
    }
}

/// <summary>
/// A layer of a Transformer encoder with normalisation after each part (Vaswani et al., 2017), GELU, and the weight names of BERT: attention.self.query, ..., output.LayerNorm.
/// Attention is written out as two products, so that it can be differentiated twice.
/// </summary>
public sealed class TransformerLayer : Module<Tensor, Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> query, key, value, attended, attendedNorm, up, down, norm, dropout;
    private readonly int heads;

    /// <summary>Creates the layer.</summary>
    /// <param name="dim">Width d.</param>
    /// <param name="heads">Attention heads; divides the width.</param>
    /// <param name="intermediate">Width of the inner layer; 4 d when null.</param>
    /// <param name="dropout">Dropout probability, in [0, 1).</param>
    /// <param name="eps">Epsilon of the layer normalisation.</param>
    /// <exception cref="ArgumentException">The heads do not divide the width.</exception>
    public TransformerLayer(long dim, int heads, long? intermediate = null, double dropout = 0, double eps = 1e-12) : base(nameof(TransformerLayer))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(heads, 1);
        if (dim % heads != 0) throw new ArgumentException($"{heads} heads do not divide the width {dim}.", nameof(heads));
        this.heads = heads;
        (query, key, value, attended) = (nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim));
        (attendedNorm, norm) = (nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps));
        (up, down) = (nn.Linear(dim, intermediate ?? 4 * dim), nn.Linear(intermediate ?? 4 * dim, dim));
        this.dropout = nn.Dropout(dropout);
        register_module("attention", new NamedModules(
            ("self", new NamedModules(("query", query), ("key", key), ("value", value))),
            ("output", new NamedModules(("dense", attended), ("LayerNorm", attendedNorm)))));
        register_module("intermediate", new NamedModules(("dense", up)));
        register_module("output", new NamedModules(("dense", down), ("LayerNorm", norm)));
        register_module("dropout", this.dropout);
    }

    /// <summary>New states [n, length, d].</summary>
    /// <param name="x">States [n, length, d].</param>
    /// <param name="mask">Which entries are real, bool [n, length]; the others are not attended to.</param>
    public override Tensor forward(Tensor x, Tensor mask)
    {
        using var scope = NewDisposeScope();
        long n = x.shape[0], length = x.shape[1], d = x.shape[2];
        Tensor Heads(Module<Tensor, Tensor> of) => of.forward(x).view(n, length, heads, d / heads).transpose(1, 2);
        Tensor weights = Masked.Softmax(Heads(query).matmul(Heads(key).transpose(-2, -1)) / Math.Sqrt((double)d / heads), mask.view(n, 1, 1, length));
        Tensor context = dropout.forward(weights).matmul(Heads(value)).transpose(1, 2).reshape(n, length, d);
        Tensor middle = attendedNorm.forward(x + dropout.forward(attended.forward(context)));
        return norm.forward(middle + dropout.forward(down.forward(functional.gelu(up.forward(middle))))).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The BERT encoder (Devlin et al., NAACL 2019). Its weights have the names of Hugging Face's BertModel (embeddings.word_embeddings.weight, encoder.layer.0.attention.self.query.weight, ...), so that
/// published safetensors files load; the pooler and the heads of pre-training are not part of it.
/// </summary>
public sealed class Bert : Module<Tensor, Tensor>
{
    private const string Prefix = "bert.";
    private readonly Module<Tensor, Tensor> words, positions, types, norm, dropout;
    private readonly TransformerLayer[] layers;

    /// <summary>Creates the encoder with weights drawn as BERT's: normal with deviation 0.02.</summary>
    /// <param name="config">Its sizes.</param>
    public Bert(BertConfig config) : base(nameof(Bert))
    {
        ArgumentNullException.ThrowIfNull(config);
        Config = config;
        words = nn.Embedding(config.VocabSize, config.HiddenSize, padding_idx: 0);
        positions = nn.Embedding(config.MaxPositionEmbeddings, config.HiddenSize);
        types = nn.Embedding(config.TypeVocabSize, config.HiddenSize);
        norm = nn.LayerNorm(config.HiddenSize, config.LayerNormEps);
        dropout = nn.Dropout(config.HiddenDropoutProb);
        layers = [.. Enumerable.Range(0, config.NumHiddenLayers).Select(_ => new TransformerLayer(config.HiddenSize, config.NumAttentionHeads, config.IntermediateSize, config.HiddenDropoutProb, config.LayerNormEps))];
        register_module("embeddings", new NamedModules(("word_embeddings", words), ("position_embeddings", positions), ("token_type_embeddings", types), ("LayerNorm", norm)));
        register_module("encoder", new NamedModules(("layer", new NamedModules([.. layers.Select((layer, i) => ($"{i}", (Module)layer))]))));
        register_module("dropout", dropout);
        using var gradientsOff = no_grad();
        foreach (var (name, parameter) in named_parameters())
        {
            if (name.Contains("LayerNorm", StringComparison.Ordinal)) continue;
            if (name.EndsWith("bias", StringComparison.Ordinal)) parameter.zero_();
            else parameter.normal_(0, 0.02);
        }
    }

    /// <summary>Its sizes.</summary>
    public BertConfig Config { get; }

    /// <summary>Opens a published model: a folder with model.safetensors and config.json.</summary>
    /// <param name="folder">The folder.</param>
    /// <exception cref="InvalidDataException">A file is missing or does not fit.</exception>
    public static Bert Open(string folder)
    {
        string config = Path.Combine(folder, "config.json"), weights = Path.Combine(folder, "model.safetensors");
        foreach (string file in new[] { config, weights }) if (!File.Exists(file)) throw new InvalidDataException($"{folder} is no BERT model: it has no {Path.GetFileName(file)}.");
        var bert = new Bert(BertConfig.Read(config));
        bert.LoadPretrained(weights);
        return bert;
    }

    /// <summary>Loads weights by their Hugging Face names, with or without the prefix "bert."; LayerNorm may have its old names gamma and beta. Tensors of other parts are passed over.</summary>
    /// <param name="path">A safetensors file.</param>
    /// <exception cref="InvalidDataException">A tensor is missing or has another shape.</exception>
    public void LoadPretrained(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        var names = file.Names.ToHashSet(StringComparer.Ordinal);
        foreach (var (name, parameter) in named_parameters())
        {
            string old = name.Replace("LayerNorm.weight", "LayerNorm.gamma", StringComparison.Ordinal).Replace("LayerNorm.bias", "LayerNorm.beta", StringComparison.Ordinal);
            string key = new[] { Prefix + name, name, Prefix + old, old }.FirstOrDefault(names.Contains) ?? throw new InvalidDataException($"{path} has no tensor '{name}' (or '{Prefix}{name}').");
            Tensor saved = file.Get(key);
            if (!saved.shape.SequenceEqual(parameter.shape)) throw new InvalidDataException($"{path}: '{key}' is [{string.Join(",", saved.shape)}]; the configuration asks for [{string.Join(",", parameter.shape)}].");
            parameter.copy_(saved);
        }
    }

    /// <summary>Hidden states of the last layer [n, length, hidden].</summary>
    /// <param name="input">Ids int64 [n, length]; 0 is padding.</param>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (input.dim() != 2 || input.shape[1] > Config.MaxPositionEmbeddings) throw new ArgumentException($"Ids must be [n, length] with length at most {Config.MaxPositionEmbeddings}; got [{string.Join(",", input.shape)}].", nameof(input));
        using var scope = NewDisposeScope();
        Tensor mask = input.ne(0);
        Tensor at = arange(input.shape[1], ScalarType.Int64, input.device);
        Tensor x = dropout.forward(norm.forward(words.forward(input) + positions.forward(at) + types.forward(zeros_like(at))));
        foreach (TransformerLayer layer in layers) x = layer.forward(x, mask);
        return x.MoveToOuterDisposeScope();
    }
}
