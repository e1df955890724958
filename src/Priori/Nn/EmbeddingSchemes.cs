using Priori.Data;

namespace Priori.Nn;

/// <summary>A row of its own for each chunk of each value: as many rows as values. A value outside the vocabulary has none, and its embedding is zero.</summary>
public sealed class CollisionlessEmbedding : EmbeddingScheme
{
    private readonly TorchSharp.Modules.Embedding table;
    private readonly Dictionary<string, long>[] values;
    private readonly long[] offsets;

    internal CollisionlessEmbedding(EmbeddingSchemeOptions options)
        : base(EmbeddingSchemeKind.Collisionless, false, options.Features, options.Dim, 1, 1, 0, true)
    {
        if (options.Vocabularies is not { } vocabularies || vocabularies.Count != Features.Count) throw new ArgumentException($"A collisionless embedding needs the vocabularies of its {Features.Count} features.", nameof(options));
        values = [.. vocabularies.Select(v => v.Select((value, i) => (value, (long)i)).ToDictionary(StringComparer.Ordinal))];
        offsets = new long[Features.Count + 1];
        for (int t = 0; t < Features.Count; t++) offsets[t + 1] = offsets[t] + (long)values[t].Count * Features[t].Chunks;
        table = Table(Math.Max(1, CodeCount), Dim);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override long CodeCount => offsets[^1];

    /// <summary>The table, [sum of vocabulary sizes times chunks, d].</summary>
    public TorchSharp.Modules.Parameter Weight => table.weight!;

    /// <inheritdoc/>
    public override Tensor Lookup(Tensor codes)
    {
        ArgumentNullException.ThrowIfNull(codes);
        return table.forward(codes.squeeze(-1).clamp_min(0)) * codes.ge(0).to(Weight.dtype);
    }

    private protected override void Encode(int feature, int chunk, ReadOnlySpan<char> value, Span<long> codes)
        => codes[0] = values[feature].GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(value, out long index) ? offsets[feature] + (long)chunk * values[feature].Count + index : -1;
}

/// <summary>
/// The hashing trick with a table for each feature: row = h_t(v) mod M_t, M_t = max(1, round(M |V_t| / sum |V_s|)), the baseline that multiplexing is
/// measured against. The tables lie one after the other in one array, so that a batch is one gather here too.
/// </summary>
public sealed class SeparateEmbedding : EmbeddingScheme
{
    private readonly TorchSharp.Modules.Embedding table;
    private readonly HashRegion[] regions;

    internal SeparateEmbedding(EmbeddingSchemeOptions options)
        : base(EmbeddingSchemeKind.HashSeparate, false, options.Features, options.Dim, 1, 1, options.Seed, options.Salted)
    {
        CodeCount = options.Parameters / Dim;
        regions = HashRegion.Of(CodeCount, false, Features);
        table = Table(CodeCount, Dim);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override long CodeCount { get; }

    /// <summary>Rows M_t of each feature's table.</summary>
    public IReadOnlyList<long> TableRows => [.. regions.Select(r => r.Size)];

    /// <summary>The tables, one after the other, [M, d].</summary>
    public TorchSharp.Modules.Parameter Weight => table.weight!;

    /// <inheritdoc/>
    public override Tensor Lookup(Tensor codes)
    {
        ArgumentNullException.ThrowIfNull(codes);
        return table.forward(codes.squeeze(-1));
    }

    private protected override void Encode(int feature, int chunk, ReadOnlySpan<char> value, Span<long> codes) => codes[0] = regions[feature].Row(Hash(feature, chunk, 0, value));
}

/// <summary>
/// Hash embeddings (Svenstrup, Hansen, Winther, NeurIPS 2017): the sum of k hashed rows, each times a learned importance; the k importances of a value are
/// in a hashed slot too. There are as many slots as rows, so a budget of P parameters gives P / (d + k) of each. Importances start at k^-1/2.
/// </summary>
public sealed class MultiHashEmbedding : EmbeddingScheme
{
    private readonly TorchSharp.Modules.Embedding table, importance;
    private readonly HashRegion[] regions;

    internal MultiHashEmbedding(EmbeddingSchemeOptions options)
        : base(EmbeddingSchemeKind.MultiHash, options.Multiplexed, options.Features, options.Dim, options.Hashes + 1, options.Hashes + 1, options.Seed, options.Salted)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Hashes, 1, nameof(options));
        CodeCount = options.Parameters / (Dim + options.Hashes);
        regions = HashRegion.Of(CodeCount, Multiplexed, Features);
        table = Table(CodeCount, Dim);
        importance = nn.Embedding(CodeCount, options.Hashes);
        init.constant_(importance.weight!, Math.Pow(options.Hashes, -0.5));
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override long CodeCount { get; }

    /// <inheritdoc/>
    public override Tensor Lookup(Tensor codes)
    {
        ArgumentNullException.ThrowIfNull(codes);
        long hashes = CodesPerChunk - 1;
        Tensor rows = table.forward(codes.narrow(-1, 0, hashes)), weights = importance.forward(codes.select(-1, hashes));
        return rows.mul(weights.unsqueeze(-1)).sum(-2);
    }

    private protected override void Encode(int feature, int chunk, ReadOnlySpan<char> value, Span<long> codes)
    {
        for (int n = 0; n < codes.Length; n++) codes[n] = regions[feature].Row(Hash(feature, chunk, n, value));
    }
}

/// <summary>
/// Embeddings whose numbers are hashed into one array of numbers: one by one (HashedNet: Chen et al., ICML 2015) or in blocks of Z neighbours of a circular
/// array (ROBE-Z: Desai, Chou, Shrivastava, MLSys 2022). The codes of a chunk are the places of its d numbers.
/// </summary>
public sealed class ScalarHashEmbedding : EmbeddingScheme
{
    private readonly TorchSharp.Modules.Parameter weight;
    private readonly HashRegion[] regions;
    private readonly int blockSize;

    internal ScalarHashEmbedding(EmbeddingSchemeOptions options, int blockSize)
        : base(options.Kind, options.Multiplexed, options.Features, options.Dim, (int)options.Dim, HashesOf(options.Dim, blockSize), options.Seed, options.Salted)
    {
        this.blockSize = blockSize;
        regions = HashRegion.Of(options.Parameters, Multiplexed, Features);
        weight = new TorchSharp.Modules.Parameter(torch.empty(options.Parameters));
        init.uniform_(weight, -InitialRange, InitialRange);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override long CodeCount => weight.numel();

    /// <inheritdoc/>
    public override Tensor Lookup(Tensor codes)
    {
        ArgumentNullException.ThrowIfNull(codes);
        return weight.index_select(0, codes.reshape(-1)).view(codes.shape);
    }

    private protected override void Encode(int feature, int chunk, ReadOnlySpan<char> value, Span<long> codes)
    {
        HashRegion region = regions[feature];
        for (int i = 0; i < codes.Length; i += blockSize)
        {
            long start = FeatureHash.Row(Hash(feature, chunk, i / blockSize, value), region.Size);
            for (int j = i; j < Math.Min(i + blockSize, codes.Length); j++) codes[j] = region.Offset + (start + j - i) % region.Size;
        }
    }

    private static int HashesOf(long dim, int blockSize)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(blockSize, 1);
        return (int)((dim + blockSize - 1) / blockSize);
    }
}

/// <summary>
/// The quotient-remainder trick (Shi et al., KDD 2020): a bucket b of q * m is embedded as E1[b div m] times E2[b mod m], elementwise. Here b is the hashed
/// value, so that the vocabulary stays open; of R rows, m = ceil(R / 2) are remainders and q = R - m are quotients. E2 starts around 1.
/// </summary>
public sealed class QuotientRemainderEmbedding : EmbeddingScheme
{
    private readonly TorchSharp.Modules.Embedding table;
    private readonly HashRegion[] regions;

    internal QuotientRemainderEmbedding(EmbeddingSchemeOptions options)
        : base(EmbeddingSchemeKind.QuotientRemainder, options.Multiplexed, options.Features, options.Dim, 2, 1, options.Seed, options.Salted)
    {
        CodeCount = options.Parameters / Dim;
        regions = HashRegion.Of(CodeCount, Multiplexed, Features, least: 2);
        table = Table(CodeCount, Dim);
        using (no_grad())
            foreach (HashRegion region in regions.Distinct()) table.weight!.narrow(0, region.Offset, Remainders(region)).add_(1);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override long CodeCount { get; }

    /// <inheritdoc/>
    public override Tensor Lookup(Tensor codes)
    {
        ArgumentNullException.ThrowIfNull(codes);
        Tensor rows = table.forward(codes);
        return rows.select(-2, 0).mul(rows.select(-2, 1));
    }

    private protected override void Encode(int feature, int chunk, ReadOnlySpan<char> value, Span<long> codes)
    {
        HashRegion region = regions[feature];
        long remainders = Remainders(region), bucket = FeatureHash.Row(Hash(feature, chunk, 0, value), remainders * (region.Size - remainders));
        codes[0] = region.Offset + bucket % remainders;
        codes[1] = region.Offset + remainders + bucket / remainders;
    }

    private static long Remainders(HashRegion region) => (region.Size + 1) / 2;
}
