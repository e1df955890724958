using Priori.Nn;
using Priori.Numerics;

namespace Priori.ClickThrough;

/// <summary>Sizes and switches of an <see cref="ArmNet"/>. Defaults are those of the authors' code.</summary>
public sealed record ArmNetOptions
{
    /// <summary>Fields m of a row.</summary>
    public required long Fields { get; init; }

    /// <summary>Number of ids over all fields together.</summary>
    public required long Ids { get; init; }

    /// <summary>Width n_e of an embedding.</summary>
    public long EmbeddingDim { get; init; } = 10;

    /// <summary>Attention heads K.</summary>
    public long Heads { get; init; } = 4;

    /// <summary>Exponential neurons o of each head.</summary>
    public long Neurons { get; init; } = 128;

    /// <summary>Sparsity of the gates, at least 1: 1 is softmax (never sparse), 2 is sparsemax.</summary>
    public double Alpha { get; init; } = 1.7;

    /// <summary>Width d_k of keys and queries; the embedding width by default.</summary>
    public long? KeyDim { get; init; }

    /// <summary>Hidden widths of the prediction head (and of the deep part of ARM-Net+).</summary>
    public IReadOnlyList<long> MlpHidden { get; init; } = [256, 256];

    /// <summary>Dropout probability of the MLPs, in [0, 1).</summary>
    public double Dropout { get; init; }

    /// <summary>ARM-Net+: a <see cref="Dnn"/> with its own embedding table is trained jointly.</summary>
    public bool Ensemble { get; init; }

    /// <summary>ARM-Net-1h: one head whose keys come from a linear layer without bias. Needs <see cref="Heads"/> = 1.</summary>
    public bool SharedKey { get; init; }

    /// <summary>Logits of a row: 1 for binary targets and regression, the number of classes otherwise.</summary>
    public long Outputs { get; init; } = 1;

    /// <summary>Whether values are used clamped to [1e-3, 1], as for categories and min-max scaled numbers. Switch it off for standardised numbers.</summary>
    public bool ClampValues { get; init; } = true;
}

/// <summary>
/// ARM-Net (Cai et al., SIGMOD 2021): exponential neurons y_i = exp(sum_j w_ij e_j) are cross features whose powers w depend on the row through
/// sparse attention, so that each row uses its own interactions and shows which. With <see cref="ArmNetOptions.SharedKey"/> it is ARM-Net-1h, with
/// <see cref="ArmNetOptions.Ensemble"/> ARM-Net+.
/// <code>
/// z_kij = d_k^-1/2 q_ki^T W_k^T e_j        attention logits of field j for neuron i of head k
/// g_ki  = alpha-entmax(z_ki)               gates over the fields, some exactly zero when alpha &gt; 1
/// w_kij = g_kij v_kij                      powers; v is learned, shared by all rows
/// y_ki  = exp(sum_j w_kij e_j)             in R^n_e; then BatchNorm over the K o neurons, and an MLP
/// </code>
/// </summary>
public sealed class ArmNet : Module<Tensor, Tensor, Tensor>
{
    /// <summary>Values are clamped to [this, 1], so that a field never vanishes (the authors' code).</summary>
    public const double SmallestValue = 1e-3;

    /// <summary>Exponents above this are clamped: e^30 = 1e13 still leaves room for sums and squares in float.</summary>
    public const double LargestExponent = 30;

    private readonly FieldEmbedding embedding;
    private readonly TorchSharp.Modules.Parameter query, values;
    private readonly TorchSharp.Modules.Parameter? headKeys;
    private readonly TorchSharp.Modules.Linear? sharedKey;
    private readonly TorchSharp.Modules.BatchNorm1d norm;
    private readonly Mlp mlp;
    private readonly DeepEnsemble? ensemble;

    /// <summary>Creates the model. Queries, keys and values are Xavier uniform with gain 1.414, as in the authors' code.</summary>
    /// <param name="options">Sizes and switches.</param>
    /// <exception cref="ArgumentException">A size is below 1, alpha is below 1, or a shared key is asked of several heads.</exception>
    public ArmNet(ArmNetOptions options) : base(nameof(ArmNet))
    {
        ArgumentNullException.ThrowIfNull(options);
        Options = options;
        long keyDim = options.KeyDim ?? options.EmbeddingDim;
        if (options.Heads < 1 || options.Neurons < 1) throw new ArgumentException($"There must be at least one head and one neuron, not {options.Heads} x {options.Neurons}.", nameof(options));
        if (keyDim < 1) throw new ArgumentException($"The key width must be at least 1, not {keyDim}.", nameof(options));
        if (!(options.Alpha >= 1) || !double.IsFinite(options.Alpha)) throw new ArgumentException($"alpha must be at least 1, not {options.Alpha}.", nameof(options));
        if (options.SharedKey && options.Heads != 1) throw new ArgumentException($"A shared key has one head, not {options.Heads}.", nameof(options));

        embedding = new FieldEmbedding(options.Fields, options.Ids, options.EmbeddingDim);
        long[] head = options.SharedKey ? [] : [options.Heads];
        query = Xavier([.. head, options.Neurons, keyDim]);
        values = Xavier([.. head, options.Neurons, options.Fields]);
        if (options.SharedKey) sharedKey = Linear(options.EmbeddingDim, keyDim, hasBias: false);
        else headKeys = Xavier([options.Heads, options.EmbeddingDim, keyDim]);
        long neurons = options.Heads * options.Neurons;
        norm = BatchNorm1d(neurons);
        mlp = new Mlp(neurons * options.EmbeddingDim, options.MlpHidden, options.Outputs, normalization: Normalization.BatchNorm, dropout: options.Dropout);
        if (options.Ensemble)
            ensemble = new DeepEnsemble(new Dnn(options.Fields, options.Ids, options.EmbeddingDim, options.MlpHidden, options.Dropout, options.Outputs), options.Outputs);
        RegisterComponents();
    }

    /// <summary>The options the model was made with.</summary>
    public ArmNetOptions Options { get; }

    /// <summary>How many exponents have been clamped to <see cref="LargestExponent"/> so far; more than a few means that training diverges.</summary>
    public long ClampedExponents { get; private set; }

    /// <summary>Logits [batch, outputs] of ids, int64 [batch, fields], and values [batch, fields].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields]: 1 for categories, the scaled number for numeric columns. Never modified.</param>
    /// <exception cref="ArgumentException">As <see cref="FieldEmbedding.forward"/>.</exception>
    public override Tensor forward(Tensor input1, Tensor input2)
    {
        Tensor used = Options.ClampValues ? input2.clamp(SmallestValue, 1) : input2;
        Tensor e = embedding.forward(input1, used);
        Tensor logits = mlp.forward(norm.forward(Neurons(e, Powers(Gates(e)))));
        return ensemble is null ? logits : ensemble.forward(logits, input1, used);
    }

    /// <summary>Gates and powers of the neurons for given rows: the model's own account of what it used.</summary>
    /// <param name="ids">Ids, int64 [batch, fields].</param>
    /// <param name="values">Values [batch, fields].</param>
    /// <returns>Gates g and powers w = g v, both [batch, heads * neurons, fields], without a graph.</returns>
    /// <exception cref="ArgumentException">As <see cref="FieldEmbedding.forward"/>.</exception>
    public (Tensor Gates, Tensor Powers) Attend(Tensor ids, Tensor values)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor gates = Gates(embedding.forward(ids, Options.ClampValues ? values.clamp(SmallestValue, 1) : values));
        return (gates.MoveToOuterDisposeScope(), Powers(gates).MoveToOuterDisposeScope());
    }

    /// <summary>What the model uses over a set of rows: see <see cref="ArmNetExplanation"/>. Rows are read in blocks; memory does not grow with them.</summary>
    /// <param name="ids">Ids, int64 [rows, fields].</param>
    /// <param name="values">Values [rows, fields].</param>
    /// <exception cref="ArgumentException">There are no rows, or as <see cref="FieldEmbedding.forward"/>.</exception>
    public ArmNetExplanation Explain(Tensor ids, Tensor values)
    {
        const long block = 4096;
        ArgumentNullException.ThrowIfNull(ids);
        ArgumentNullException.ThrowIfNull(values);
        var tally = new InteractionTally((int)Options.Fields);
        Device device = query.device;
        for (long start = 0; start < ids.size(0); start += block)
        {
            using DisposeScope scope = NewDisposeScope();
            long count = Math.Min(block, ids.size(0) - start);
            var (gates, powers) = Attend(ids.narrow(0, start, count).to(device), values.narrow(0, start, count).to(device));
            tally.Add(gates, powers);
        }
        return tally.Explanation();
    }

    /// <summary>Attention logits z [batch, heads * neurons, fields] of embeddings [batch, fields, dim]. q^T W^T does not depend on the row: it is one small product, and the logits are one large one.</summary>
    internal Tensor AttentionLogits(Tensor e)
    {
        Tensor probes = sharedKey is null ? query.matmul(headKeys!.transpose(1, 2)) : query.matmul(sharedKey.weight!);
        probes = probes.view(-1, Options.EmbeddingDim) * Math.Pow(query.shape[^1], -0.5);
        return e.matmul(probes.t()).transpose(1, 2);
    }

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
            if (detached.numel() > 0 && detached.max().ToDouble() > LargestExponent) ClampedExponents += detached.gt(LargestExponent).sum().item<long>();
        }
        return exponents.clamp_max(LargestExponent).exp();
    }

    private static TorchSharp.Modules.Parameter Xavier(long[] shape) => Parameter(init.xavier_uniform_(empty(shape), gain: 1.414));
}
