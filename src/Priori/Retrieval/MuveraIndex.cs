using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Data;
using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>How a <see cref="MuveraIndex"/> searches the encodings.</summary>
public enum MuveraSearch
{
    /// <summary>Exact, float32: <see cref="FlatIndex"/>.</summary>
    Exact,

    /// <summary>Exhaustive over product-quantized encodings: <see cref="ProductQuantizedIndex"/>.</summary>
    ProductQuantized,

    /// <summary>Approximate on a proximity graph: <see cref="GraphIndex"/>.</summary>
    Graph,
}

/// <summary>How to build a <see cref="MuveraIndex"/>.</summary>
/// <param name="Encoding">The fixed dimensional encoding.</param>
/// <param name="Search">The search over encodings.</param>
/// <param name="Centers">Product quantization: centres of a group, C.</param>
/// <param name="GroupSize">Product quantization: dimensions of a group, G.</param>
/// <param name="TrainingSamples">Product quantization: documents that train it. Paper: 100,000.</param>
/// <param name="Degree">Graph: most neighbours of a document.</param>
/// <param name="BuildBeam">Graph: documents kept while searching for neighbours.</param>
public sealed record MuveraOptions(
    FdeConfig Encoding,
    MuveraSearch Search = MuveraSearch.Exact,
    int Centers = 256,
    int GroupSize = 8,
    int TrainingSamples = 100_000,
    int Degree = 32,
    int BuildBeam = 64);

/// <summary>The answer of <see cref="MuveraIndex.Search"/>.</summary>
/// <param name="Ids">Documents, best first.</param>
/// <param name="Scores">Their Chamfer similarity with the (carved) query.</param>
/// <param name="Statistics">What the search cost.</param>
public sealed record MuveraResult(string[] Ids, float[] Scores, MuveraStatistics Statistics);

/// <summary>What one search cost.</summary>
/// <param name="Candidates">Documents that were reranked.</param>
/// <param name="QueryVectors">Query vectors after ball carving.</param>
/// <param name="EncodeMilliseconds">Time for the query's encoding.</param>
/// <param name="ScanMilliseconds">Time for the candidates.</param>
/// <param name="RerankMilliseconds">Time for the exact scores.</param>
public sealed record MuveraStatistics(int Candidates, int QueryVectors, double EncodeMilliseconds, double ScanMilliseconds, double RerankMilliseconds);

/// <summary>
/// Multi-vector retrieval (MUVERA, section 3): the query's fixed dimensional encoding finds candidates by maximum inner product, and the exact Chamfer similarity, after ball carving
/// if wanted, ranks them. The index holds the documents' tokens (float32) and encodings; it lives in native memory or in mapped files, and runs on the CPU.
/// Searches may run at the same time; adding and deleting may not run beside anything else.
/// </summary>
public sealed unsafe class MuveraIndex : IDisposable
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, Converters = { new JsonStringEnumConverter() } };

    private readonly MipsIndex _encodings;
    private readonly NativeBuffer<float> _tokens;
    private readonly NativeBuffer<long> _offsets;
    private readonly List<string> _ids;
    private readonly Dictionary<string, int> _positions = [];

    private MuveraIndex(MuveraOptions options, FixedDimensionalEncoder encoder, MipsIndex encodings, NativeBuffer<float> tokens, NativeBuffer<long> offsets, List<string> ids)
    {
        (Options, Encoder, _encodings, _tokens, _offsets, _ids) = (options, encoder, encodings, tokens, offsets, ids);
        for (var i = 0; i < ids.Count; i++)
        {
            if (encodings.Removed[i] == 0 && !_positions.TryAdd(ids[i], i)) throw new ArgumentException($"The id '{ids[i]}' occurs more than once.", nameof(ids));
        }
    }

    /// <summary>How it was built.</summary>
    public MuveraOptions Options { get; }

    /// <summary>The encoder of documents and queries.</summary>
    public FixedDimensionalEncoder Encoder { get; }

    /// <summary>Documents that can be found.</summary>
    public int Count => _positions.Count;

    /// <summary>The documents' ids.</summary>
    public IReadOnlyCollection<string> Ids => _positions.Keys;

    /// <summary>Bytes of one document's encoding, tokens not counted.</summary>
    public long EncodingBytes => _encodings.BytesPerVector;

    /// <summary>Builds an index.</summary>
    /// <param name="documents">The documents, none empty.</param>
    /// <param name="options">How to build it.</param>
    /// <param name="encoder">An encoder to use (for example with learned partitions); null makes one from the options. The index owns it.</param>
    /// <exception cref="ArgumentException">The options are not valid, a document is empty or holds NaN, the dimensions differ, or there are fewer documents than centres.</exception>
    public static MuveraIndex Build(MultiVectorSet documents, MuveraOptions options, FixedDimensionalEncoder? encoder = null)
    {
        encoder ??= new FixedDimensionalEncoder(options.Encoding);
        MipsIndex encodings;
        switch (options.Search)
        {
            case MuveraSearch.ProductQuantized:
                var quantizer = new ProductQuantizer(options.Centers, options.GroupSize);
                // Evenly spaced documents stand for the sample: no random choice, and the whole collection where it is small.
                var count = Math.Min(documents.Count, options.TrainingSamples);
                var sample = MultiVectorSet.From([.. Enumerable.Range(0, count).Select(i => documents[(int)((long)i * documents.Count / count)])]);
                using (var encoded = encoder.EncodeDocuments(sample.Vectors, sample.Offsets)) quantizer.Fit(encoded, seed: unchecked((int)options.Encoding.Seed));
                encodings = new ProductQuantizedIndex(quantizer);
                break;
            case MuveraSearch.Graph:
                encodings = new GraphIndex(encoder.OutputDimension, options.Degree, options.BuildBeam);
                break;
            default:
                encodings = new FlatIndex(encoder.OutputDimension);
                break;
        }
        var index = new MuveraIndex(options, encoder, encodings, new NativeBuffer<float>(), new NativeBuffer<long>(1), []);
        index.Add(documents);
        return index;
    }

    /// <summary>Adds documents. An index that was loaded moves into memory first.</summary>
    /// <param name="documents">The documents, none empty, with ids that the index does not hold.</param>
    /// <exception cref="ArgumentException">An id is taken, a document is empty or holds NaN, or the dimension is another.</exception>
    public void Add(MultiVectorSet documents)
    {
        foreach (var id in documents.Ids)
        {
            if (_positions.ContainsKey(id)) throw new ArgumentException($"The index already holds a document '{id}'; delete it first.", nameof(documents));
        }
        if (!isfinite(documents.Vectors).all().item<bool>()) throw new ArgumentException("The documents hold NaN or infinity.", nameof(documents)); // before anything is added
        var step = Math.Max(1, (1 << 28) / Encoder.EncodedDimension); // a gigabyte of encodings at a time
        for (var start = 0; start < documents.Count; start += step)
        {
            using var scope = NewDisposeScope();
            var part = documents.Slice(start, Math.Min(step, documents.Count - start));
            var vectors = TensorMemory.ToFloat32(part.Vectors);
            _encodings.Add(Encoder.EncodeDocuments(vectors, part.Offsets));
            var first = _tokens.Length;
            _tokens.Resize(first + vectors.numel());
            Buffer.MemoryCopy(TensorMemory.Pointer<float>(vectors), _tokens.Pointer + first, vectors.numel() * sizeof(float), vectors.numel() * sizeof(float));
            var rows = _offsets[_offsets.Length - 1];
            _offsets.Append([.. part.Offsets.Skip(1).Select(o => o + rows)]);
            foreach (var id in part.Ids)
            {
                _positions[id] = _ids.Count;
                _ids.Add(id);
            }
        }
    }

    /// <summary>Removes a document from all later searches. Its bytes stay until the index is built anew.</summary>
    /// <param name="id">The document.</param>
    /// <returns>Whether the index held it.</returns>
    public bool Delete(string id)
    {
        if (!_positions.Remove(id, out var position)) return false;
        _encodings.Remove(position);
        return true;
    }

    /// <summary>The best documents by encodings alone, for many queries at once.</summary>
    /// <param name="queries">The queries.</param>
    /// <param name="count">Documents wanted for each.</param>
    /// <returns>Ids, best first, one array a query.</returns>
    /// <exception cref="ArgumentException">A query is empty, holds NaN, or has another dimension.</exception>
    public string[][] Candidates(MultiVectorSet queries, int count)
    {
        using var encoded = Encoder.EncodeQueries(queries.Vectors, queries.Offsets);
        return [.. _encodings.Search(encoded, count).Select(found => found.Positions.Select(position => _ids[position]).ToArray())];
    }

    /// <summary>The best documents for a query: candidates by encodings, ranked by Chamfer similarity.</summary>
    /// <param name="query">[|Q|, d].</param>
    /// <param name="topK">Documents wanted.</param>
    /// <param name="candidates">Documents reranked, W; at least topK are.</param>
    /// <param name="ballCarving">The threshold of <see cref="BallCarving"/>, for unit vectors; null ranks with every query vector, exactly.</param>
    /// <exception cref="ArgumentException">The query is empty, holds NaN, or has another dimension.</exception>
    public MuveraResult Search(Tensor query, int topK = 10, int candidates = 100, double? ballCarving = 0.7)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(topK, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(candidates, 1);
        using var scope = NewDisposeScope();
        var start = Stopwatch.GetTimestamp();
        var encoded = Encoder.EncodeQuery(query);
        var encodeTime = Stopwatch.GetElapsedTime(start);
        var found = _encodings.Search(encoded.unsqueeze(0), Math.Max(topK, candidates))[0].Positions;
        var scanTime = Stopwatch.GetElapsedTime(start) - encodeTime;
        var carved = TensorMemory.ToFloat32(ballCarving is { } tau ? BallCarving.Carve(query, tau) : query);
        var best = new TopK(topK);
        foreach (var (position, score) in found.Zip(Rerank(carved, found))) best.Push(position, score);
        var (positions, scores) = best.Sorted();
        var total = Stopwatch.GetElapsedTime(start);
        return new MuveraResult([.. positions.Select(position => _ids[position])], scores,
            new MuveraStatistics(found.Length, (int)carved.shape[0], encodeTime.TotalMilliseconds, scanTime.TotalMilliseconds, (total - encodeTime - scanTime).TotalMilliseconds));
    }

    private float[] Rerank(Tensor query, int[] positions)
    {
        var d = (int)query.shape[1];
        var scores = new float[positions.Length];
        using var scorer = new MaxSim.Scorer(TensorMemory.Pointer<float>(query), [0, (int)query.shape[0]], d);
        Parallel.For(0, (positions.Length + 15) / 16, TensorMemory.Threads(positions.Sum(position => (double)(_offsets[position + 1] - _offsets[position])) * d * query.shape[0]), () => new NativeBuffer<float>(), (block, _, scratch) =>
        {
            for (var i = block * 16; i < Math.Min(positions.Length, block * 16 + 16); i++)
            {
                var (from, to) = (_offsets[positions[i]], _offsets[positions[i] + 1]);
                float score;
                scorer.Score(_tokens.Pointer + from * d, (int)(to - from), &score, 0, scratch);
                scores[i] = score;
            }
            return scratch;
        }, scratch => scratch.Dispose());
        GC.KeepAlive(query);
        return scores;
    }

    // ---- files ----

    private sealed record Manifest(int SchemaVersion, MuveraOptions Options, int Documents, long Tokens);

    /// <summary>
    /// Writes the index into a folder: index.json (options and counts), the encoder, and one file of little-endian numbers an array. The folder appears when it is complete; one that exists is replaced.
    /// </summary>
    /// <param name="folder">The folder.</param>
    public void Save(string folder)
    {
        folder = Path.GetFullPath(folder);
        var temporary = $"{folder}.{Guid.NewGuid():N}.tmp";
        Directory.CreateDirectory(temporary);
        try
        {
            Encoder.Save(Path.Combine(temporary, "encoder"));
            if (_encodings is ProductQuantizedIndex quantized)
                Safetensors.Write(Path.Combine(temporary, "quantizer.safetensors"), new Dictionary<string, Tensor> { ["codebook"] = quantized.Quantizer.Codebook! });
            foreach (var (name, write) in _encodings.Files.Concat([("tokens.bin", _tokens.Write), ("offsets.bin", _offsets.Write), ("removed.bin", _encodings.Removed.Write)]))
            {
                using var stream = File.Create(Path.Combine(temporary, name));
                write(stream);
            }
            File.WriteAllText(Path.Combine(temporary, "ids.json"), JsonSerializer.Serialize(_ids));
            File.WriteAllText(Path.Combine(temporary, "index.json"), JsonSerializer.Serialize(new Manifest(1, Options, _ids.Count, _offsets[_offsets.Length - 1]), Json));
            if (Directory.Exists(folder)) Directory.Delete(folder, recursive: true);
            Directory.Move(temporary, folder);
        }
        catch
        {
            if (Directory.Exists(temporary)) Directory.Delete(temporary, recursive: true);
            throw;
        }
    }

    /// <summary>Opens what <see cref="Save"/> wrote. The large arrays are mapped, not read: pages come in when searches touch them.</summary>
    /// <param name="folder">The folder.</param>
    /// <exception cref="InvalidDataException">A file is missing, has another size than its contents need, or does not describe an index.</exception>
    public static MuveraIndex Load(string folder)
    {
        var file = Path.Combine(folder, "index.json");
        var opened = new List<IDisposable>();
        NativeBuffer<T> Map<T>(string name, long length) where T : unmanaged
        {
            file = Path.Combine(folder, name);
            var buffer = NativeBuffer<T>.Map(file, length);
            opened.Add(buffer);
            return buffer;
        }
        try
        {
            var manifest = JsonSerializer.Deserialize<Manifest>(File.ReadAllText(file), Json);
            if (manifest is not { SchemaVersion: 1, Options.Encoding: not null, Documents: >= 0, Tokens: >= 0 }) throw new InvalidDataException($"{file}: the file does not describe an index of schema version 1.");
            var (options, n) = (manifest.Options, manifest.Documents);
            var encoder = FixedDimensionalEncoder.Load(Path.Combine(folder, "encoder"));
            opened.Add(encoder);
            if (encoder.Config != options.Encoding) throw new InvalidDataException($"{file}: the options describe another encoding than the encoder's own file.");
            file = Path.Combine(folder, "ids.json");
            var ids = JsonSerializer.Deserialize<List<string>>(File.ReadAllText(file));
            if (ids?.Count != n || ids.Contains(null!)) throw new InvalidDataException($"{file}: the file has {ids?.Count} ids, but {n} documents belong to the index.");
            var offsets = Map<long>("offsets.bin", n + 1L);
            for (var i = 0; i <= n; i++)
            {
                if (i == 0 ? offsets[0] != 0 : offsets[i] <= offsets[i - 1] || offsets[i] - offsets[i - 1] > int.MaxValue) throw new InvalidDataException($"{file}: offset {i} is {offsets[i]}; offsets start at 0 and rise.");
            }
            if (offsets[n] != manifest.Tokens) throw new InvalidDataException($"{file}: the last offset is {offsets[n]}, but the index has {manifest.Tokens} tokens.");
            var tokens = Map<float>("tokens.bin", checked(manifest.Tokens * options.Encoding.Dimension));
            var removed = Map<byte>("removed.bin", n);
            var dimension = encoder.OutputDimension;
            MipsIndex encodings;
            switch (options.Search)
            {
                case MuveraSearch.ProductQuantized:
                    file = Path.Combine(folder, "quantizer.safetensors");
                    using (var scope = NewDisposeScope())
                    {
                        var quantizer = new ProductQuantizer(Safetensors.Read(file)["codebook"], dimension);
                        encodings = new ProductQuantizedIndex(quantizer, Map<byte>("codes.bin", ProductQuantizedIndex.CodeBytes(n, quantizer.Groups)), removed);
                    }
                    break;
                case MuveraSearch.Graph:
                    encodings = new GraphIndex(dimension, options.Degree, options.BuildBeam, Map<float>("vectors.bin", (long)n * dimension), Map<int>("graph.bin", n * (2L + options.Degree)), removed);
                    break;
                case MuveraSearch.Exact:
                    encodings = new FlatIndex(dimension, Map<float>("vectors.bin", (long)n * dimension), removed);
                    break;
                default:
                    throw new InvalidDataException($"{file}: the search '{options.Search}' is not known.");
            }
            file = Path.Combine(folder, "ids.json");
            return new MuveraIndex(options, encoder, encodings, tokens, offsets, ids!);
        }
        catch (Exception e)
        {
            foreach (var item in opened) item.Dispose();
            if (e is JsonException or ArgumentException or KeyNotFoundException or OverflowException or IOException) throw new InvalidDataException($"{file}: {e.Message}", e);
            throw;
        }
    }

    /// <summary>Frees the memory and closes the mapped files.</summary>
    public void Dispose()
    {
        _encodings.Dispose();
        _tokens.Dispose();
        _offsets.Dispose();
        Encoder.Dispose();
    }
}
