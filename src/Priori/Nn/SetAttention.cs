namespace Priori.Nn;

/// <summary>What a <see cref="SetAttention"/> layer has beside its queries and keys.</summary>
public sealed record SetAttentionOptions
{
    /// <summary>Heads; divides the width. Default 1.</summary>
    public int Heads { get; init; } = 1;

    /// <summary>Whether the input is layer-normalised (without affine) first. Default false.</summary>
    public bool LayerNorm { get; init; }

    /// <summary>Epsilon of the layer normalisation. Default 1e-5, PyTorch's.</summary>
    public double Epsilon { get; init; } = 1e-5;

    /// <summary>Whether values are a linear map of the input; otherwise they are the (normalised) input itself. Default false.</summary>
    public bool ValueProjection { get; init; }

    /// <summary>Whether the (normalised) input is added to the output. Default false.</summary>
    public bool Residual { get; init; }
}

/// <summary>
/// Self-attention over sets without positions: softmax(X Wq (X Wk)^T / sqrt(d)) X, padding masked along the keys. Permuting a set permutes the output; padding changes nothing.
/// The queries and keys have no bias and start Xavier normal; at the default options there is nothing else.
/// </summary>
public sealed class SetAttention : Module<Tensor, Tensor?, Tensor>
{
    private readonly Module<Tensor, Tensor> query, key;
    private readonly Module<Tensor, Tensor>? value;
    private readonly SetAttentionOptions options;
    private readonly long dim;

    /// <summary>Creates the layer.</summary>
    /// <param name="dim">Width d.</param>
    /// <param name="options">Everything else.</param>
    /// <exception cref="ArgumentException">The heads do not divide the width.</exception>
    public SetAttention(long dim, SetAttentionOptions? options = null)
        : base(nameof(SetAttention))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        this.options = options ?? new SetAttentionOptions();
        this.dim = dim;
        ArgumentOutOfRangeException.ThrowIfLessThan(this.options.Heads, 1);
        if (dim % this.options.Heads != 0) throw new ArgumentException($"{this.options.Heads} heads do not divide the width {dim}.", nameof(options));
        (query, key) = (Projection(), Projection());
        if (this.options.ValueProjection) value = Projection();
        RegisterComponents();

        Module<Tensor, Tensor> Projection()
        {
            TorchSharp.Modules.Linear linear = Linear(dim, dim, hasBias: false);
            init.xavier_normal_(linear.weight!);
            return linear;
        }
    }

    /// <summary>Attends within each set.</summary>
    /// <param name="x">Elements [sets, n, d].</param>
    /// <param name="mask">Which elements are real, bool [sets, n]; null for all.</param>
    /// <returns>Elements [sets, n, d]; those of padded positions mean nothing.</returns>
    public override Tensor forward(Tensor x, Tensor? mask)
    {
        x = Normalized(x);
        Tensor v = value is null ? x : value.forward(x);
        long sets = x.size(0), n = x.size(1), heads = options.Heads;
        Tensor attended = heads == 1 ? Weights(x, mask).matmul(v)
            : Weights(x, mask).matmul(v.view(sets, n, heads, -1).transpose(1, 2)).transpose(1, 2).reshape(sets, n, dim);
        return options.Residual ? attended + x : attended;
    }

    /// <summary>The attention weights A.</summary>
    /// <param name="x">Elements [sets, n, d], before the layer normalisation.</param>
    /// <param name="mask">Which elements are real, bool [sets, n]; null for all.</param>
    /// <returns>[sets, n, n], or [sets, heads, n, n] for several heads; each row sums to one over the real elements.</returns>
    public Tensor Attention(Tensor x, Tensor? mask = null) => Weights(Normalized(x), mask);

    private Tensor Normalized(Tensor x)
    {
        ArgumentNullException.ThrowIfNull(x);
        if (x.dim() != 3 || x.size(2) != dim) throw new ArgumentException($"Sets [sets, n, {dim}] were expected, not [{string.Join(", ", x.shape)}].", nameof(x));
        return options.LayerNorm ? functional.layer_norm(x, [dim], eps: options.Epsilon) : x;
    }

    private Tensor Weights(Tensor x, Tensor? mask)
    {
        long sets = x.size(0), n = x.size(1), heads = options.Heads;
        if (mask is not null && (mask.dim() != 2 || mask.size(0) != sets || mask.size(1) != n)) throw new ArgumentException($"A mask [{sets}, {n}] was expected, not [{string.Join(", ", mask.shape)}].", nameof(mask));
        Tensor q = query.forward(x) * (1 / Math.Sqrt(dim)), k = key.forward(x);
        if (heads > 1) (q, k) = (q.view(sets, n, heads, -1).transpose(1, 2), k.view(sets, n, heads, -1).transpose(1, 2));
        Tensor logits = q.matmul(k.transpose(-2, -1));
        if (mask is null) return functional.softmax(logits, -1);
        return Masked.Softmax(logits, heads > 1 ? mask.view(sets, 1, 1, n) : mask.view(sets, 1, n));
    }
}

/// <summary>Vectors of sets: layers of <see cref="SetAttention"/>, then the mean over the real elements. The order of a set and its padding do not matter.</summary>
public sealed class SetEncoder : Module<Tensor, Tensor?, Tensor>
{
    private readonly SetAttention[] attention;
    private readonly TorchSharp.Modules.ModuleList<Module<Tensor, Tensor?, Tensor>> layers;

    /// <summary>Creates the encoder.</summary>
    /// <param name="dim">Width d.</param>
    /// <param name="count">Number of layers; 0 is the plain mean.</param>
    /// <param name="options">Of each layer.</param>
    public SetEncoder(long dim, int count = 1, SetAttentionOptions? options = null)
        : base(nameof(SetEncoder))
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        attention = [.. Enumerable.Range(0, count).Select(_ => new SetAttention(dim, options))];
        layers = ModuleList<Module<Tensor, Tensor?, Tensor>>([.. attention]);
        RegisterComponents();
    }

    /// <summary>Vectors [sets, d] of sets [sets, n, d]; 0 for an empty set.</summary>
    /// <param name="x">Elements [sets, n, d].</param>
    /// <param name="mask">Which elements are real, bool [sets, n]; null for all.</param>
    public override Tensor forward(Tensor x, Tensor? mask)
    {
        foreach (SetAttention layer in attention) x = layer.forward(x, mask);
        return mask is null ? x.mean([1]) : Masked.Mean(x, mask);
    }
}
