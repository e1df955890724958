using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Data;
using Priori.Runtime;

namespace Priori.Nn;

/// <summary>
/// The features of a <see cref="UnifiedEmbedding"/> and where their values live in its table: row = hash("{feature}|{chunk}|{value}") mod M
/// (Coleman et al., NeurIPS 2023). No vocabulary is kept, and values never seen before have rows too.
/// With several physical tables, chunks are dealt to them in turn, by a counter that runs over the chunks of all features in order of registration.
/// Save it beside the table: the order of the features and the hash are part of the model.
/// </summary>
public sealed class UnifiedEmbeddingConfig
{
    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase, Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) } };
    private readonly List<EmbeddingFeature> features = [];
    private readonly List<(ulong[] Prefixes, int FirstChunk)> hashes = [];
    private readonly Dictionary<string, int> indices = new(StringComparer.Ordinal);

    /// <summary>An empty configuration; <see cref="AddFeature"/> fills it.</summary>
    /// <param name="rows">Rows M of each table, at least 1.</param>
    /// <param name="chunkDim">Width d of a row, at least 1.</param>
    /// <param name="tables">Physical tables, at least 1.</param>
    /// <param name="seed">Which hash function is used; see <see cref="FeatureHash.Prefix"/>.</param>
    /// <param name="salted">Whether the feature is part of the hashed key; false for ablations only.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number is less than 1.</exception>
    public UnifiedEmbeddingConfig(long rows, long chunkDim, int tables = 1, int seed = 0, bool salted = true)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(chunkDim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(tables, 1);
        (Rows, ChunkDim, Tables, Seed, Salted) = (rows, chunkDim, tables, seed, salted);
    }

    /// <summary>Rows M of each table.</summary>
    public long Rows { get; }

    /// <summary>Width d of a row.</summary>
    public long ChunkDim { get; }

    /// <summary>Physical tables.</summary>
    public int Tables { get; }

    /// <summary>Which hash function is used.</summary>
    public int Seed { get; }

    /// <summary>Whether the feature is part of the hashed key.</summary>
    public bool Salted { get; }

    /// <summary>The features, in order of registration: a feature's index is part of its hash.</summary>
    public IReadOnlyList<EmbeddingFeature> Features => features;

    /// <summary>Chunks of an example: the sum of the features' chunks.</summary>
    public int Chunks { get; private set; }

    /// <summary>Registers the next feature.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="chunks">Lookups that are concatenated, at least 1.</param>
    /// <param name="pooling">How several values of one example are joined.</param>
    /// <returns>This configuration.</returns>
    /// <exception cref="ArgumentException">The name is taken, or there is no chunk.</exception>
    public UnifiedEmbeddingConfig AddFeature(string name, int chunks = 1, Pooling pooling = Pooling.Sum)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentOutOfRangeException.ThrowIfLessThan(chunks, 1);
        if (!indices.TryAdd(name, features.Count)) throw new ArgumentException($"Two features are named '{name}'.", nameof(name));
        hashes.Add(([.. Enumerable.Range(0, chunks).Select(chunk => FeatureHash.Prefix(features.Count, chunk, Seed, Salted))], Chunks));
        features.Add(new EmbeddingFeature(name, chunks, pooling));
        Chunks += chunks;
        return this;
    }

    /// <summary>Row numbers of a value, one for each chunk of its feature.</summary>
    /// <param name="feature">Name of the feature.</param>
    /// <param name="value">The value; any value is allowed.</param>
    /// <exception cref="ArgumentException">There is no feature of this name.</exception>
    public long[] Encode(string feature, ReadOnlySpan<char> value)
    {
        if (!indices.TryGetValue(feature, out int index)) throw EmbeddingScheme.Unknown(feature, features);
        long[] codes = new long[features[index].Chunks];
        for (int chunk = 0; chunk < codes.Length; chunk++) codes[chunk] = Row(index, chunk, value);
        return codes;
    }

    /// <summary>Row numbers of a whole number, which is hashed as its decimal digits.</summary>
    /// <param name="feature">Name of the feature.</param>
    /// <param name="value">The number.</param>
    public long[] Encode(string feature, long value)
    {
        Span<char> digits = stackalloc char[20];
        value.TryFormat(digits, out int length, provider: System.Globalization.CultureInfo.InvariantCulture);
        return Encode(feature, digits[..length]);
    }

    /// <summary>Row numbers of a batch of single-valued features, int64 [batch, chunks]. Each distinct value is hashed once.</summary>
    /// <param name="columns">The values of each feature, in order of registration, all of one length.</param>
    public Tensor Encode(IReadOnlyList<IReadOnlyList<string>> columns)
    {
        ArgumentNullException.ThrowIfNull(columns);
        if (columns.Count != features.Count || columns.Any(c => c.Count != columns[0].Count))
            throw new ArgumentException($"{features.Count} columns of one length are needed; got {columns.Count} of {string.Join(", ", columns.Select(c => c.Count))} rows.", nameof(columns));
        int rows = columns[0].Count;
        long[] codes = new long[(long)rows * Chunks];
        for (int t = 0; t < features.Count; t++)
        {
            Dictionary<string, long[]> seen = new(StringComparer.Ordinal);
            for (int row = 0; row < rows; row++)
            {
                string value = columns[t][row];
                if (!seen.TryGetValue(value, out long[]? of)) seen[value] = of = Encode(features[t].Name, value);
                of.CopyTo(codes, (long)row * Chunks + hashes[t].FirstChunk);
            }
        }
        return tensor(codes, [rows, Chunks], ScalarType.Int64);
    }

    /// <summary>Refuses tables that were trained with other features: another order, other chunks, another size or another hash give every value another row.</summary>
    /// <param name="saved">The configuration of the saved table.</param>
    /// <exception cref="ArgumentException">They differ; the message says where.</exception>
    public void RequireSame(UnifiedEmbeddingConfig saved)
    {
        ArgumentNullException.ThrowIfNull(saved);
        if ((Rows, ChunkDim, Tables, Seed, Salted) != (saved.Rows, saved.ChunkDim, saved.Tables, saved.Seed, saved.Salted))
            throw new ArgumentException($"The saved table has {saved.Tables} x {saved.Rows} rows of {saved.ChunkDim} (seed {saved.Seed}); this one {Tables} x {Rows} rows of {ChunkDim} (seed {Seed}).", nameof(saved));
        if (features.SequenceEqual(saved.features)) return;
        static string List(IEnumerable<EmbeddingFeature> all) => string.Join(", ", all.Select(f => $"{f.Name}={f.Chunks}"));
        throw new ArgumentException($"The saved table has the features {List(saved.features)}; these are {List(features)}. Their order and chunks are part of the hash.", nameof(saved));
    }

    /// <summary>Writes the configuration as JSON (features.json beside a saved table), whole or not at all.</summary>
    /// <param name="path">The file.</param>
    public void Save(string path) => AtomicFile.WriteText(path, JsonSerializer.Serialize(new Saved(FeatureHash.Id, Rows, ChunkDim, Tables, Seed, Salted, features), s_json));

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is no configuration, or one of another hash.</exception>
    public static UnifiedEmbeddingConfig Load(string path)
    {
        try
        {
            Saved saved = JsonSerializer.Deserialize<Saved>(File.ReadAllText(path), s_json) ?? throw new InvalidDataException($"{path} is empty.");
            if (saved.Hash != FeatureHash.Id) throw new InvalidDataException($"{path} is of the hash '{saved.Hash}'; this version has '{FeatureHash.Id}'.");
            var config = new UnifiedEmbeddingConfig(saved.Rows, saved.ChunkDim, saved.Tables, saved.Seed, saved.Salted);
            foreach (EmbeddingFeature feature in saved.Features) config.AddFeature(feature.Name, feature.Chunks, feature.Pooling);
            return config;
        }
        catch (Exception e) when (e is JsonException or ArgumentException or NullReferenceException)
        {
            throw new InvalidDataException($"{path} is no configuration of a unified embedding: {e.Message}", e);
        }
    }

    internal static UnifiedEmbeddingConfig From(EmbeddingSchemeOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Tables, 1, nameof(options));
        long rows = options.Parameters / options.Dim / options.Tables;
        if (rows < 1) throw new ArgumentException($"A budget of {options.Parameters} parameters is less than one row of {options.Dim} in each of {options.Tables} tables.", nameof(options));
        var config = new UnifiedEmbeddingConfig(rows, options.Dim, options.Tables, options.Seed, options.Salted);
        foreach (EmbeddingFeature feature in options.Features) config.AddFeature(feature.Name, feature.Chunks, feature.Pooling);
        return config;
    }

    /// <summary>The row of a chunk of a value; table i's rows begin at i * M.</summary>
    internal long Row(int feature, int chunk, ReadOnlySpan<char> value)
    {
        (ulong[] prefixes, int first) = hashes[feature];
        return (first + chunk) % Tables * Rows + FeatureHash.Row(FeatureHash.Hash(prefixes[chunk], value), Rows);
    }

    private sealed record Saved(string Hash, long Rows, long ChunkDim, int Tables, int Seed, bool Salted, IReadOnlyList<EmbeddingFeature> Features);
}
