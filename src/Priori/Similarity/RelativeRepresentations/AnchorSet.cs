using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Data;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Similarity;

/// <summary>How anchors are chosen from a set of samples.</summary>
public enum AnchorStrategy
{
    /// <summary>Uniformly, without replacement.</summary>
    Random,

    /// <summary>As many of each class, without replacement.</summary>
    Stratified,

    /// <summary>Each next one farthest from those before; see <see cref="FarthestPointSampling"/>.</summary>
    FarthestPoint,

    /// <summary>The samples nearest to the centres of k-means.</summary>
    KMeans,

    /// <summary>Given by the user.</summary>
    Provided,
}

/// <summary>
/// The anchors of relative representations (Moschella et al., ICLR 2023, section 3): a fixed, ordered list of samples. Spaces are comparable only through the same anchors in the same order,
/// so a set knows the rows and a hash of the data they were chosen from.
/// </summary>
public sealed record AnchorSet
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower, allowIntegerValues: false) },
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    /// <summary>A set as it was saved.</summary>
    /// <param name="indices">Rows of the data, in order.</param>
    /// <param name="rowCount">Rows of the data.</param>
    /// <param name="dataHash">Hash of the data, see <see cref="Hash"/>.</param>
    /// <param name="strategy">How they were chosen.</param>
    /// <param name="seed">The seed.</param>
    /// <exception cref="ArgumentException">There is no anchor, or a row is outside the data.</exception>
    public AnchorSet(IReadOnlyList<long> indices, long rowCount, string dataHash, AnchorStrategy strategy, int seed)
    {
        ArgumentNullException.ThrowIfNull(indices);
        ArgumentException.ThrowIfNullOrEmpty(dataHash);
        if (indices.Count < 1) throw new ArgumentException("There must be at least one anchor.", nameof(indices));
        for (int i = 0; i < indices.Count; i++)
            if (indices[i] < 0 || indices[i] >= rowCount) throw new ArgumentOutOfRangeException(nameof(indices), indices[i], $"Anchor {i} is row {indices[i]}; the data have rows 0..{rowCount - 1}.");
        (Indices, RowCount, DataHash, Strategy, Seed) = (indices, rowCount, dataHash, strategy, seed);
    }

    /// <summary>Rows of the data, in order.</summary>
    public IReadOnlyList<long> Indices { get; }

    /// <summary>Rows of the data.</summary>
    public long RowCount { get; }

    /// <summary>Hash of the data they were chosen from.</summary>
    public string DataHash { get; }

    /// <summary>How they were chosen.</summary>
    public AnchorStrategy Strategy { get; }

    /// <summary>The seed of the choice.</summary>
    public int Seed { get; }

    /// <summary>Number of anchors k.</summary>
    [JsonIgnore]
    public int Count => Indices.Count;

    /// <summary>Rows that are an anchor more than once. Their coordinates are equal and add nothing: a reason for a warning, not an error. Chosen sets have none.</summary>
    [JsonIgnore]
    public IReadOnlyList<long> Duplicates => [.. Indices.GroupBy(i => i).Where(g => g.Count() > 1).Select(g => g.Key)];

    /// <summary>Chooses anchors. The same data, strategy, number and seed give the same anchors.</summary>
    /// <param name="data">Floating point or bytes [n, ...]; rows are flattened.</param>
    /// <param name="strategy">How to choose; not <see cref="AnchorStrategy.Provided"/>.</param>
    /// <param name="k">Anchors, 1 to n. Paper: 300 or 500.</param>
    /// <param name="seed">The seed.</param>
    /// <param name="labels">Class of each row, int64 [n]; needed by <see cref="AnchorStrategy.Stratified"/> only.</param>
    /// <exception cref="ArgumentException">k is outside its range, labels are missing or do not fit, or the data hold NaN or infinity where distances are needed.</exception>
    public static AnchorSet Select(Tensor data, AnchorStrategy strategy, int k, int seed = 0, Tensor? labels = null)
    {
        ArgumentNullException.ThrowIfNull(data);
        long n = Rows(data);
        if (k < 1 || k > n) throw new ArgumentOutOfRangeException(nameof(k), k, $"There are {n} samples, so 1..{n} can be anchors.");
        using DisposeScope scope = NewDisposeScope();
        Tensor Flat() => data.flatten(1).to(data.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32);
        long[] indices = strategy switch
        {
            AnchorStrategy.Random => Shuffled(n, seed)[..k],
            AnchorStrategy.Stratified => Stratified(n, k, seed, labels),
            AnchorStrategy.FarthestPoint => FarthestPointSampling.Select(Flat(), k, (int)Shuffled(n, seed)[0]).cpu().data<long>().ToArray(),
            AnchorStrategy.KMeans => NearestToCenters(Flat(), k, seed),
            _ => throw new ArgumentException("Provided anchors are not chosen: use AnchorSet.Provided.", nameof(strategy)),
        };
        return new AnchorSet(indices, n, Hash(data), strategy, seed);
    }

    /// <summary>Anchors that the user names. A row may occur twice; see <see cref="Duplicates"/>.</summary>
    /// <param name="data">The data [n, ...].</param>
    /// <param name="indices">Rows in order.</param>
    /// <exception cref="ArgumentException">There is no anchor, or a row is outside the data.</exception>
    public static AnchorSet Provided(Tensor data, IReadOnlyList<long> indices)
    {
        ArgumentNullException.ThrowIfNull(data);
        return new AnchorSet(indices, Rows(data), Hash(data), AnchorStrategy.Provided, 0);
    }

    /// <summary>The anchors themselves.</summary>
    /// <param name="data">The data they were chosen from [n, ...].</param>
    /// <returns>[k, ...].</returns>
    /// <exception cref="ArgumentException">These are other data.</exception>
    public Tensor Take(Tensor data)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (Hash(data) != DataHash) throw new ArgumentException("These are not the data that the anchors were chosen from: their hash differs. For parallel data use TakeParallel.", nameof(data));
        return TakeParallel(data);
    }

    /// <summary>The anchors in data that are parallel to those they were chosen from: embeddings of the same samples by a model, translations, labels.</summary>
    /// <param name="data">[n, ...], row i belonging to row i of the data.</param>
    /// <returns>[k, ...].</returns>
    /// <exception cref="ArgumentException">The number of rows differs.</exception>
    public Tensor TakeParallel(Tensor data)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (Rows(data) != RowCount) throw new ArgumentException($"The anchors are rows of {RowCount} samples, but there are {Rows(data)}.", nameof(data));
        using Tensor rows = tensor(Indices.ToArray()).to(data.device);
        return data.index_select(0, rows);
    }

    /// <summary>The set as JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    /// <param name="json">The text.</param>
    /// <exception cref="ArgumentException">It is no set of anchors.</exception>
    public static AnchorSet FromJson(string json)
    {
        try
        {
            return JsonSerializer.Deserialize<AnchorSet>(json, Json) ?? throw new ArgumentException("Not a set of anchors: null.", nameof(json));
        }
        catch (JsonException exception)
        {
            throw new ArgumentException($"Not a set of anchors: {exception.Message}", nameof(json), exception);
        }
    }

    /// <summary>SHA-256 over type, shape and elements of data, as hexadecimal text.</summary>
    /// <param name="data">Any tensor.</param>
    public static string Hash(Tensor data)
    {
        ArgumentNullException.ThrowIfNull(data);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes($"{data.dtype}[{string.Join(",", data.shape)}]"));
        using Tensor detached = data.detach(), local = detached.cpu(), dense = local.contiguous();
        FileFormat.ForEachBlock(dense, block => hash.AppendData(block));
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static long Rows(Tensor data) => data.dim() >= 1 && data.shape[0] > 0 ? data.shape[0] : throw new ArgumentException($"Data must be [n, ...] with at least one row, not [{string.Join(", ", data.shape)}].", nameof(data));

    private static long[] Shuffled(long n, int seed)
    {
        long[] rows = new long[n];
        for (long i = 0; i < n; i++) rows[i] = i;
        SplitMix64.For(seed, 0x414E4348).Shuffle(rows.AsSpan());
        return rows;
    }

    // Shares of equal size, the remainder over the first classes; what a small class cannot give comes from the others.
    private static long[] Stratified(long n, int k, int seed, Tensor? labels)
    {
        if (labels is null) throw new ArgumentException("Stratified anchors need the class of each sample.", nameof(labels));
        if (labels.dim() != 1 || labels.shape[0] != n) throw new ArgumentException($"There are {n} samples, but labels [{string.Join(", ", labels.shape)}].", nameof(labels));
        long[] classes = labels.to(ScalarType.Int64).cpu().data<long>().ToArray();
        Queue<long>[] rows = [.. Shuffled(n, seed).GroupBy(row => classes[row]).OrderBy(g => g.Key).Select(g => new Queue<long>(g))];
        var chosen = rows.Select(_ => new List<long>()).ToArray();
        for (int taken = 0, c = 0; taken < k; c = (c + 1) % rows.Length)
        {
            if (!rows[c].TryDequeue(out long row)) continue;
            chosen[c].Add(row);
            taken++;
        }
        return [.. chosen.SelectMany(c => c)];
    }

    private static long[] NearestToCenters(Tensor data, int k, int seed)
    {
        Tensor centers = KMeans.Fit(data, k, seed: seed).Centers.to(data.dtype);
        Tensor distances = cdist(centers, data); // [k, n]
        long[] chosen = new long[k];
        for (int c = 0; c < k; c++)
        {
            chosen[c] = distances[c].argmin().item<long>();
            distances.select(1, chosen[c]).fill_(double.PositiveInfinity); // a sample is an anchor once
        }
        return chosen;
    }
}
