namespace Priori.Nn;

/// <summary>
/// Unified Embedding (Coleman, Kang, Fahrbach, Wang, Hong, Chi, Cheng, NeurIPS 2023): one table E of M rows for the values of all features,
/// <code>
/// g_t(v) = concat_{k &lt; c_t} E[h_{t,k}(v) mod M]
/// </code>
/// where feature t may take several lookups (chunks) c_t. Rows are shared by values of one feature, which is noise as in the hashing trick but rarer,
/// and by values of different features, which the model behind can tell apart, because it multiplies each feature with weights of its own.
/// It has tables * M * d parameters, all in <c>table.weight</c>, and a batch is one gather.
/// </summary>
public sealed class UnifiedEmbedding : EmbeddingScheme
{
    private readonly UnifiedEmbeddingConfig config;
    private readonly TorchSharp.Modules.Embedding table;

    /// <summary>Creates the table, rows uniform in plus or minus 0.05. Features that are added to the configuration later are unknown to it.</summary>
    /// <param name="config">Features, rows and width; at least one feature.</param>
    /// <param name="sparse">
    /// Whether the table's gradient is a sparse tensor of the rows that occur, so that a step does not cost as much as the table; needs an optimizer that takes
    /// it, such as a row-wise one.
    /// </param>
    /// <exception cref="ArgumentException">There is no feature.</exception>
    public UnifiedEmbedding(UnifiedEmbeddingConfig config, bool sparse = false)
        : base(EmbeddingSchemeKind.Multiplexed, true, [.. (config ?? throw new ArgumentNullException(nameof(config))).Features], config.ChunkDim, 1, 1, config.Seed, config.Salted)
    {
        this.config = config;
        table = Table(config.Rows * config.Tables, config.ChunkDim, sparse: sparse);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override long CodeCount => config.Rows * config.Tables;

    /// <summary>The table E, [tables * M, d].</summary>
    public TorchSharp.Modules.Parameter Weight => table.weight!;

    /// <inheritdoc/>
    public override Tensor Lookup(Tensor codes)
    {
        ArgumentNullException.ThrowIfNull(codes);
        return table.forward(codes.squeeze(-1));
    }

    private protected override void Encode(int feature, int chunk, ReadOnlySpan<char> value, Span<long> codes) => codes[0] = config.Row(feature, chunk, value);
}
