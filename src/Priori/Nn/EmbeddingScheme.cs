using Priori.Data;

namespace Priori.Nn;

/// <summary>Where the numbers of an embedding come from.</summary>
public enum EmbeddingSchemeKind
{
    /// <summary>A row of its own for every value of every feature; values outside the vocabularies are zero vectors.</summary>
    Collisionless,

    /// <summary>The hashing trick (Weinberger et al. 2009): a table for each feature, its rows in proportion to the feature's vocabulary.</summary>
    HashSeparate,

    /// <summary>Feature multiplexing (Coleman et al. 2023): one table for all features; with several chunks, Unified Embedding.</summary>
    Multiplexed,

    /// <summary>Hash embeddings (Svenstrup et al. 2017): several hashed rows, summed with learned weights.</summary>
    MultiHash,

    /// <summary>HashedNet (Chen et al. 2015): every number of an embedding is hashed by itself into one array.</summary>
    HashedNet,

    /// <summary>ROBE-Z (Desai et al. 2022): blocks of Z neighbouring numbers of one circular array, at hashed places.</summary>
    RobeZ,

    /// <summary>The quotient-remainder trick (Shi et al. 2020): the elementwise product of a row of quotients and a row of remainders.</summary>
    QuotientRemainder,
}

/// <summary>How the values of a feature with several values in one example are joined, chunk by chunk.</summary>
public enum Pooling
{
    /// <summary>The sum of their embeddings; zero for no value.</summary>
    Sum,

    /// <summary>The mean of their embeddings; zero for no value.</summary>
    Mean,
}

/// <summary>A categorical feature of an embedding scheme.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Chunks">Lookups c_t, at least 1; they are concatenated, so its width is Chunks times the width of a row.</param>
/// <param name="Pooling">How several values are joined.</param>
/// <param name="Vocabulary">Number of its values |V_t|, where the scheme divides its memory by it; 0 where it does not.</param>
public sealed record EmbeddingFeature(string Name, int Chunks = 1, Pooling Pooling = Pooling.Sum, long Vocabulary = 0);

/// <summary>Embeds values of categorical features: raw values become codes once, codes become vectors in every step.</summary>
public interface IEmbeddingScheme
{
    /// <summary>Where the numbers come from.</summary>
    EmbeddingSchemeKind Kind { get; }

    /// <summary>Whether all features share one array of parameters.</summary>
    bool Multiplexed { get; }

    /// <summary>The features, in the order of their indices.</summary>
    IReadOnlyList<EmbeddingFeature> Features { get; }

    /// <summary>Width d of a chunk.</summary>
    long Dim { get; }

    /// <summary>Codes k that name the numbers of one chunk.</summary>
    int CodesPerChunk { get; }

    /// <summary>Trained numbers, counted exactly.</summary>
    long ParameterCount { get; }

    /// <summary>Codes of a value; the same in every process.</summary>
    /// <param name="feature">Index of the feature.</param>
    /// <param name="value">The value, as text; any value is allowed.</param>
    /// <param name="codes">Receives Chunks times <see cref="CodesPerChunk"/> codes.</param>
    void Encode(int feature, ReadOnlySpan<char> value, Span<long> codes);

    /// <summary>Vectors [..., d] of codes, int64 [..., k].</summary>
    /// <param name="codes">Codes from <see cref="Encode"/>.</param>
    Tensor Lookup(Tensor codes);
}

/// <summary>What <see cref="EmbeddingScheme.Create"/> builds: the kind of table, its features and its budget.</summary>
public sealed record EmbeddingSchemeOptions
{
    /// <summary>The kind.</summary>
    public EmbeddingSchemeKind Kind { get; init; } = EmbeddingSchemeKind.Multiplexed;

    /// <summary>MultiHash, HashedNet, RobeZ, QuotientRemainder: whether all features share one array (with the feature in the hashed key) or each has its share.</summary>
    public bool Multiplexed { get; init; } = true;

    /// <summary>The features; their order is part of the hash.</summary>
    public required IReadOnlyList<EmbeddingFeature> Features { get; init; }

    /// <summary>Width d of a chunk.</summary>
    public long Dim { get; init; } = 16;

    /// <summary>Most trained numbers, over all features; of no effect for Collisionless, whose vocabularies decide. A remainder that fills no row is left unused.</summary>
    public long Parameters { get; init; }

    /// <summary>Multiplexed: physical tables; see <see cref="UnifiedEmbeddingConfig"/>.</summary>
    public int Tables { get; init; } = 1;

    /// <summary>Which hash function is used; see <see cref="FeatureHash.Prefix"/>.</summary>
    public int Seed { get; init; }

    /// <summary>Whether the feature is part of the hashed key; false for ablations only.</summary>
    public bool Salted { get; init; } = true;

    /// <summary>MultiHash: rows k that are summed. 2, as the paper recommends.</summary>
    public int Hashes { get; init; } = 2;

    /// <summary>RobeZ: numbers Z of a block.</summary>
    public int BlockSize { get; init; } = 8;

    /// <summary>Collisionless: the values of each feature, without repeats.</summary>
    public IReadOnlyList<IReadOnlyList<string>>? Vocabularies { get; init; }
}

/// <summary>
/// Base of the schemes. It encodes values into codes, looks batches of codes up in one gather, and counts collisions; a scheme says which codes a value has
/// and what they mean.
/// </summary>
public abstract class EmbeddingScheme : Module<Tensor, Tensor>, IEmbeddingScheme
{
    /// <summary>Tables are initialised uniformly in plus or minus this number.</summary>
    public const double InitialRange = 0.05;

    private readonly ulong[][] prefixes;
    private readonly Dictionary<string, int> indices;

    private protected EmbeddingScheme(EmbeddingSchemeKind kind, bool multiplexed, IReadOnlyList<EmbeddingFeature> features, long dim, int codesPerChunk, int hashesPerChunk, int seed, bool salted)
        : base(kind.ToString())
    {
        indices = Check(features);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        (Kind, Multiplexed, Features, Dim, CodesPerChunk, HashesPerChunk) = (kind, multiplexed, features, dim, codesPerChunk, hashesPerChunk);
        Chunks = features.Sum(f => f.Chunks);
        prefixes = Prefixes(features, hashesPerChunk, seed, salted);
    }

    /// <inheritdoc/>
    public EmbeddingSchemeKind Kind { get; }

    /// <inheritdoc/>
    public bool Multiplexed { get; }

    /// <inheritdoc/>
    public IReadOnlyList<EmbeddingFeature> Features { get; }

    /// <inheritdoc/>
    public long Dim { get; }

    /// <inheritdoc/>
    public int CodesPerChunk { get; }

    /// <summary>Chunks of an example: the sum of the features' chunks.</summary>
    public int Chunks { get; }

    /// <inheritdoc/>
    public long ParameterCount => parameters().Sum(p => p.numel());

    /// <summary>Codes are in [0, this); collisionless tables also have -1, for a value outside the vocabulary.</summary>
    public abstract long CodeCount { get; }

    private protected int HashesPerChunk { get; }

    /// <summary>Builds a scheme.</summary>
    /// <param name="options">Kind, features and budget.</param>
    /// <exception cref="ArgumentException">A number is out of range, names repeat, the budget is below one row for each feature that needs its own, or vocabularies are missing.</exception>
    public static EmbeddingScheme Create(EmbeddingSchemeOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Dim, 1, nameof(options));
        return options.Kind switch
        {
            EmbeddingSchemeKind.Collisionless => new CollisionlessEmbedding(options),
            EmbeddingSchemeKind.HashSeparate => new SeparateEmbedding(options),
            EmbeddingSchemeKind.Multiplexed => new UnifiedEmbedding(UnifiedEmbeddingConfig.From(options)),
            EmbeddingSchemeKind.MultiHash => new MultiHashEmbedding(options),
            EmbeddingSchemeKind.HashedNet => new ScalarHashEmbedding(options, 1),
            EmbeddingSchemeKind.RobeZ => new ScalarHashEmbedding(options, options.BlockSize),
            EmbeddingSchemeKind.QuotientRemainder => new QuotientRemainderEmbedding(options),
            _ => throw new ArgumentOutOfRangeException(nameof(options), options.Kind, "Unknown kind of scheme."),
        };
    }

    /// <summary>Index of a feature.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="ArgumentException">There is none of this name.</exception>
    public int IndexOf(string name) => indices.TryGetValue(name, out int index) ? index : throw Unknown(name, Features);

    /// <summary>Codes of a value, [chunks of the feature times codes of a chunk].</summary>
    /// <param name="feature">Name of the feature.</param>
    /// <param name="value">The value; any value is allowed.</param>
    public long[] Encode(string feature, ReadOnlySpan<char> value)
    {
        int index = IndexOf(feature);
        long[] codes = new long[Features[index].Chunks * CodesPerChunk];
        Encode(index, value, codes);
        return codes;
    }

    /// <inheritdoc/>
    public void Encode(int feature, ReadOnlySpan<char> value, Span<long> codes)
    {
        for (int chunk = 0; chunk < Features[feature].Chunks; chunk++) Encode(feature, chunk, value, codes.Slice(chunk * CodesPerChunk, CodesPerChunk));
    }

    /// <inheritdoc/>
    public abstract Tensor Lookup(Tensor codes);

    /// <summary>Embeds a batch in one gather: codes, int64 [batch, chunks * k], to vectors [batch, chunks * d]. The chunks of the first feature come first.</summary>
    /// <param name="input">Codes from <see cref="Encode(string, ReadOnlySpan{char})"/>, feature after feature.</param>
    /// <exception cref="ArgumentException">The shape differs, or a code is outside [0, <see cref="CodeCount"/>).</exception>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (input.dim() != 2 || input.size(1) != Chunks * CodesPerChunk || input.dtype != ScalarType.Int64)
            throw new ArgumentException($"Codes must be int64 [batch, {Chunks * CodesPerChunk}], not {input.dtype} [{string.Join(", ", input.shape)}].", nameof(input));
        if (input.size(0) > 0)
        {
            using var ungraphed = no_grad();
            using DisposeScope scope = NewDisposeScope();
            long least = input.min().item<long>(), most = input.max().item<long>(), lowest = Kind == EmbeddingSchemeKind.Collisionless ? -1 : 0;
            if (least < lowest || most >= CodeCount) throw new ArgumentException($"Codes must be in {lowest}..{CodeCount - 1}; {(least < lowest ? least : most)} is not.", nameof(input));
        }
        return Lookup(input.view(input.size(0), Chunks, CodesPerChunk)).flatten(1);
    }

    /// <summary>Counts the collisions of vocabularies.</summary>
    /// <param name="vocabularies">The values of each feature, in the order of the features.</param>
    public CollisionReport CollisionReport(IReadOnlyList<IReadOnlyList<string>> vocabularies) => Nn.CollisionReport.Of(this, vocabularies);

    private protected abstract void Encode(int feature, int chunk, ReadOnlySpan<char> value, Span<long> codes);

    /// <summary>The number of a hash function is the chunk's number in the key; a chunk that needs several has several consecutive ones.</summary>
    private protected ulong Hash(int feature, int chunk, int number, ReadOnlySpan<char> value) => FeatureHash.Hash(prefixes[feature][chunk * HashesPerChunk + number], value);

    internal static ulong[][] Prefixes(IReadOnlyList<EmbeddingFeature> features, int hashesPerChunk, int seed, bool salted)
        => [.. features.Select((f, t) => Enumerable.Range(0, f.Chunks * hashesPerChunk).Select(n => FeatureHash.Prefix(t, n, seed, salted)).ToArray())];

    internal static ArgumentException Unknown(string name, IReadOnlyList<EmbeddingFeature> features)
        => new($"There is no feature '{name}'; the features are: {string.Join(", ", features.Select(f => f.Name))}.", nameof(name));

    private protected static TorchSharp.Modules.Embedding Table(long rows, long dim, bool sparse = false)
    {
        TorchSharp.Modules.Embedding table = nn.Embedding(rows, dim, sparse: sparse);
        init.uniform_(table.weight!, -InitialRange, InitialRange);
        return table;
    }

    private static Dictionary<string, int> Check(IReadOnlyList<EmbeddingFeature> features)
    {
        ArgumentNullException.ThrowIfNull(features);
        if (features.Count == 0) throw new ArgumentException("An embedding needs at least one feature.", nameof(features));
        var indices = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int t = 0; t < features.Count; t++)
        {
            if (features[t].Chunks < 1) throw new ArgumentOutOfRangeException(nameof(features), features[t].Chunks, $"Feature '{features[t].Name}' needs at least one chunk.");
            if (!indices.TryAdd(features[t].Name, t)) throw new ArgumentException($"Two features are named '{features[t].Name}'.", nameof(features));
        }
        return indices;
    }
}

/// <summary>The part of an array of rows (or numbers) that a feature hashes into.</summary>
internal readonly record struct HashRegion(long Offset, long Size)
{
    public long Row(ulong hash) => Offset + FeatureHash.Row(hash, Size);

    /// <summary>One region for all features, or one for each in proportion to its vocabulary.</summary>
    /// <param name="size">Rows of the whole array.</param>
    /// <param name="multiplexed">Whether the features share it.</param>
    /// <param name="features">The features.</param>
    /// <param name="least">Fewest rows of a region.</param>
    /// <returns>A region for each feature. Separate regions are max(least, round(size * |V_t| / sum |V_s|)); the largest takes up what rounding left over, so that they fill the array exactly.</returns>
    public static HashRegion[] Of(long size, bool multiplexed, IReadOnlyList<EmbeddingFeature> features, long least = 1)
    {
        if (multiplexed)
        {
            if (size < least) throw new ArgumentException($"The budget gives {size} rows; at least {least} {(least == 1 ? "is" : "are")} needed.", nameof(size));
            return [.. features.Select(_ => new HashRegion(0, size))];
        }
        if (features.Any(f => f.Vocabulary < 1)) throw new ArgumentException($"Separate tables need the size of each vocabulary; that of '{features.First(f => f.Vocabulary < 1).Name}' is missing.", nameof(features));
        if (size < least * features.Count) throw new ArgumentException($"The budget gives {size} rows, but {features.Count} separate tables need at least {least * features.Count}.", nameof(size));
        double total = features.Sum(f => (double)f.Vocabulary);
        long[] sizes = [.. features.Select(f => Math.Max(least, (long)Math.Round(size * (f.Vocabulary / total))))];
        for (long excess = sizes.Sum() - size; excess != 0; excess = sizes.Sum() - size)
        {
            int largest = Array.IndexOf(sizes, sizes.Max());
            sizes[largest] -= excess < 0 ? excess : Math.Min(excess, sizes[largest] - least);
        }
        long offset = 0;
        return [.. sizes.Select(rows => new HashRegion((offset += rows) - rows, rows))];
    }
}
