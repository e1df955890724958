using Priori.Nn;
using Priori.Numerics;

namespace Priori.ClickThrough;

/// <summary>
/// ARM-Net (Cai et al., SIGMOD 2021): exponential neurons y_i = exp(sum_j w_ij e_j) are cross features whose powers w depend on the row through
/// sparse attention, so that each row uses its own interactions and shows which. With <see cref="BackboneOptions.SharedKey"/> it is ARM-Net-1h, with
/// <see cref="BackboneOptions.Ensemble"/> ARM-Net+.
/// <code>
/// z_kij = d_k^-1/2 q_ki^T W_k^T e_j        attention logits of field j for neuron i of head k
/// g_ki  = alpha-entmax(z_ki)               gates over the fields, some exactly zero when alpha &gt; 1
/// w_kij = g_kij v_kij                      powers; v is learned, shared by all rows
/// y_ki  = exp(sum_j w_kij e_j)             in R^n_e; then BatchNorm over the K o neurons, and an MLP
/// </code>
/// </summary>
public sealed class ArmNet : Backbone
{
    /// <summary>Exponents above this are clamped: e^30 = 1e13 still leaves room for sums and squares in float.</summary>
    public const double LargestExponent = 30;

    private readonly TorchSharp.Modules.Parameter query, values;
    private readonly TorchSharp.Modules.Parameter? headKeys;
    private readonly TorchSharp.Modules.Linear? sharedKey;
    private readonly TorchSharp.Modules.BatchNorm1d norm;
    private readonly Mlp mlp;
    private readonly DeepEnsemble? ensemble;
    private long clampedExponents;

    /// <summary>
    /// Creates the model; it takes dim numbers of each field, twice as many with the deep part. Queries, keys and values are Xavier uniform with gain 1.414,
    /// as in the authors' code.
    /// </summary>
    /// <param name="options">Sizes and switches.</param>
    /// <exception cref="ArgumentException">A size is below 1, alpha is below 1, or a shared key is asked of several heads.</exception>
    public ArmNet(BackboneOptions options) : base(nameof(ArmNet), options, (options?.EmbeddingDim ?? 0) * (options?.Ensemble == true ? 2 : 1))
    {
        options = Options;
        long keyDim = options.KeyDim ?? options.EmbeddingDim;
        if (options.Heads < 1 || options.Neurons < 1) throw new ArgumentException($"There must be at least one head and one neuron, not {options.Heads} x {options.Neurons}.", nameof(options));
        if (keyDim < 1) throw new ArgumentException($"The key width must be at least 1, not {keyDim}.", nameof(options));
        if (!(options.Alpha >= 1) || !double.IsFinite(options.Alpha)) throw new ArgumentException($"alpha must be at least 1, not {options.Alpha}.", nameof(options));
        if (options.SharedKey && options.Heads != 1) throw new ArgumentException($"A shared key has one head, not {options.Heads}.", nameof(options));

        long[] head = options.SharedKey ? [] : [options.Heads];
        query = Xavier([.. head, options.Neurons, keyDim]);
        values = Xavier([.. head, options.Neurons, options.Fields]);
        if (options.SharedKey) sharedKey = Linear(options.EmbeddingDim, keyDim, hasBias: false);
        else headKeys = Xavier([options.Heads, options.EmbeddingDim, keyDim]);
        long neurons = options.Heads * options.Neurons;
        norm = BatchNorm1d(neurons);
        mlp = Tower(neurons * options.EmbeddingDim, options.Outputs);
        if (options.Ensemble) ensemble = new DeepEnsemble(options);
        RegisterComponents();
    }

    /// <summary>How many exponents have been clamped to <see cref="LargestExponent"/> so far; more than a few means that training diverges.</summary>
    public long ClampedExponents => Interlocked.Read(ref clampedExponents);

    /// <summary>Gates and powers of the neurons for given rows: the model's own account of what it used.</summary>
    /// <param name="embeddings">Embeddings [batch, fields, <see cref="Backbone.InputDim"/>].</param>
    /// <returns>Gates g and powers w = g v, both [batch, heads * neurons, fields], without a graph.</returns>
    public (Tensor Gates, Tensor Powers) Attend(Tensor embeddings)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor gates = Gates(Own(embeddings));
        return (gates.MoveToOuterDisposeScope(), Powers(gates).MoveToOuterDisposeScope());
    }

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e)
    {
        Tensor own = Own(e);
        Tensor logits = mlp.forward(norm.forward(Neurons(own, Powers(Gates(own)))));
        return ensemble is null ? logits : ensemble.forward(logits, e.narrow(2, Options.EmbeddingDim, Options.EmbeddingDim));
    }

    /// <summary>Attention logits z [batch, heads * neurons, fields] of embeddings [batch, fields, dim]. q^T W^T does not depend on the row: it is one small product, and the logits are one large one.</summary>
    internal Tensor AttentionLogits(Tensor e)
    {
        Tensor probes = sharedKey is null ? query.matmul(headKeys!.transpose(1, 2)) : query.matmul(sharedKey.weight!);
        probes = probes.view(-1, Options.EmbeddingDim) * Math.Pow(query.shape[^1], -0.5);
        return e.matmul(probes.t()).transpose(1, 2);
    }

    /// <summary>The embeddings of the interaction part, without those of the deep part.</summary>
    private Tensor Own(Tensor e) => ensemble is null ? e : e.narrow(2, 0, Options.EmbeddingDim);

    private Tensor Gates(Tensor e) => Sparse.Entmax(AttentionLogits(e), Options.Alpha);

    private Tensor Powers(Tensor gates) => gates * values.view(-1, Options.Fields);

    /// <summary>Exponential neurons [batch, neurons, dim] of embeddings [batch, fields, dim] and powers [batch, neurons, fields].</summary>
    internal Tensor Neurons(Tensor e, Tensor powers)
    {
        Tensor exponents = powers.bmm(e);
        using (no_grad())
        using (NewDisposeScope())
        {
            Tensor detached = exponents.detach();
            if (detached.numel() > 0 && detached.max().ToDouble() > LargestExponent) Interlocked.Add(ref clampedExponents, detached.gt(LargestExponent).sum().item<long>());
        }
        return exponents.clamp_max(LargestExponent).exp();
    }

    private static TorchSharp.Modules.Parameter Xavier(long[] shape) => Parameter(init.xavier_uniform_(empty(shape), gain: 1.414));
}
