using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Data;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Retrieval;

/// <summary>
/// Fixed dimensional encodings (Dhulipala et al., "MUVERA: Multi-Vector Retrieval via Fixed Dimensional Encodings", NeurIPS 2024, section 2):
/// one vector for a whole set of vectors, such that the inner product of a query's and a document's encoding estimates
/// R * CHAMFER(Q, P) = R * sum over q of max over p of &lt;q, p&gt;.
/// Each of R repetitions cuts space into partitions; a query's block of a partition is the sum of the projected tokens in it, a document's their mean,
/// and a document's empty partitions take the projected token nearest to them. Output: repetition-major, then partition, then d_proj coordinates.
/// CPU tensors go through a hand-written kernel, parallel over documents (as many threads as torch uses); tensors elsewhere through torch on their device.
/// The encodings are float32, on the device of the tokens.
/// </summary>
public sealed unsafe class FixedDimensionalEncoder : IDisposable
{
    private const long OneBit = 1L << 40; // keys of the filling: disagreeing bits above, row number below
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, Converters = { new JsonStringEnumConverter() } };

    private readonly Tensor _partition; // SimHash planes [R, d, k] or k-means centres [R, B, d], float32, CPU
    private readonly Tensor? _projections; // [R, d, d_proj], null for the identity
    private readonly bool _kMeans;
    private readonly int _partitions, _hashColumns, _blockStart; // the product's columns: hashes, padding, projections
    private readonly float[]? _halfNorms; // k-means: |c|^2 / 2 of every centre
    private readonly PackedMatrix? _columns;
    private readonly int[]? _buckets;
    private readonly float[]? _signs;
    private readonly Dictionary<string, Tensor> _weights = []; // the product's matrix on other devices

    /// <summary>Draws the matrices of every repetition from the configuration's seed.</summary>
    /// <param name="config">The parameters.</param>
    /// <exception cref="ArgumentException">The configuration is not valid.</exception>
    public FixedDimensionalEncoder(FdeConfig config) : this(config, null, null, null) { }

    /// <summary>Takes explicit matrices, for tests and for interchange with other implementations.</summary>
    /// <param name="config">The parameters; its seed is used for the final projection only.</param>
    /// <param name="simHash">G [R, d, k]: bit i of a token x in repetition r is 1 where &lt;G[r, :, i], x&gt; &gt; 0.</param>
    /// <param name="projections">psi [R, d, d_proj], psi_r(x) = x·projections[r]; null for the identity (d_proj = d).</param>
    /// <exception cref="ArgumentException">The configuration is not valid or a matrix has another shape.</exception>
    public FixedDimensionalEncoder(FdeConfig config, Tensor simHash, Tensor? projections) : this(config, simHash, projections, null) { }

    /// <summary>Cuts space by nearest centres instead of hyperplanes (the paper's k-means alternative, which depends on the data).</summary>
    /// <param name="config">The parameters; SimHashBits is not used, the partitions of a repetition are the centres.</param>
    /// <param name="partition">The centres of every repetition.</param>
    /// <exception cref="ArgumentException">The configuration is not valid or the centres do not fit it.</exception>
    public FixedDimensionalEncoder(FdeConfig config, KMeansPartition partition) : this(config, null, null, partition) { }

    private FixedDimensionalEncoder(FdeConfig config, Tensor? simHash, Tensor? projections, KMeansPartition? kMeans)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.Validate();
        Config = config;
        var (d, reps, bits, block) = (config.Dimension, config.Repetitions, config.SimHashBits, config.BlockDimension);
        _kMeans = kMeans != null;
        _partitions = kMeans?.Partitions ?? config.Partitions;
        if (kMeans != null && (kMeans.Repetitions != reps || kMeans.Dimension != d))
            throw new ArgumentException($"The centres are [{kMeans.Repetitions}, B, {kMeans.Dimension}], but the configuration needs [{reps}, B, {d}].", nameof(kMeans));
        if ((long)reps * _partitions * block > int.MaxValue)
            throw new ArgumentException($"R * B * d_proj is {reps} * {_partitions} * {block}, more than {int.MaxValue} dimensions.", nameof(config));
        EncodedDimension = reps * _partitions * block;
        OutputDimension = config.FinalDimension ?? EncodedDimension;
        if (simHash is not null && !simHash.shape.SequenceEqual([reps, d, bits]))
            throw new ArgumentException($"The hash matrices are [{string.Join(", ", simHash.shape)}], but [R, d, k] is [{reps}, {d}, {bits}].", nameof(simHash));
        if (projections is not null && !projections.shape.SequenceEqual([reps, d, block]))
            throw new ArgumentException($"The projections are [{string.Join(", ", projections.shape)}], but [R, d, d_proj] is [{reps}, {d}, {block}].", nameof(projections));
        if (simHash is not null && projections is null && !config.IsIdentity)
            throw new ArgumentException($"Projections [{reps}, {d}, {block}] are missing; only d_proj = d goes without.", nameof(projections));

        using var scope = NewDisposeScope();
        if (simHash is null)
        {
            var planes = new float[reps * d * bits];
            var psi = config.IsIdentity ? null : new float[reps * d * block];
            for (var r = 0; r < reps; r++)
            {
                var random = new SplitMix64(config.Seed + (ulong)r);
                foreach (ref var value in planes.AsSpan(r * d * bits, d * bits)) value = (float)random.NextGaussian();
                if (psi != null) DrawProjection(config.Projection, psi.AsSpan(r * d * block, d * block), block, random);
            }
            simHash = tensor(planes, [reps, d, bits]);
            projections = psi == null ? null : tensor(psi, [reps, d, block]);
        }
        _partition = TensorMemory.ToFloat32(kMeans?.Centers ?? simHash).clone().DetachFromDisposeScope();
        _projections = projections is null ? null : TensorMemory.ToFloat32(projections).clone().DetachFromDisposeScope();

        // Columns of the product. SimHash bits are stored last bit first, so that the packed sign bits read as a number whose highest bit is b_0.
        _hashColumns = reps * (_kMeans ? _partitions : bits);
        _blockStart = (_hashColumns + 15) / 16 * 16;
        var hash = _kMeans ? _partition.permute(2, 0, 1) : _partition.flip(2).permute(1, 0, 2); // [d, R, B or k]
        if (_kMeans) _halfNorms = [.. _partition.square().sum(2).div(2).flatten().data<float>()];
        var weights = functional.pad(hash.reshape(d, _hashColumns), [0, _blockStart - _hashColumns]);
        if (_projections is not null) weights = cat([weights, _projections.permute(1, 0, 2).reshape(d, reps * block)], 1);
        _weights["cpu"] = weights.contiguous().clone().DetachFromDisposeScope();
        var columns = (int)weights.shape[1];
        if (columns > 0) _columns = new PackedMatrix(TensorMemory.Pointer<float>(_weights["cpu"]), d, columns, columns, 1);

        if (config is { FinalDimension: { } final, Final: FinalProjection.CountSketch })
        {
            var random = new SplitMix64(config.Seed);
            _buckets = new int[EncodedDimension];
            _signs = new float[EncodedDimension];
            for (var i = 0; i < EncodedDimension; i++)
            {
                _buckets[i] = random.Next(final);
                _signs[i] = random.NextUInt64() >> 63 == 0 ? 1 : -1;
            }
        }
    }

    /// <summary>The parameters.</summary>
    public FdeConfig Config { get; }

    /// <summary>The length of an encoding: d_final, or R * B * d_proj without a final projection.</summary>
    public int OutputDimension { get; }

    /// <summary>R * B * d_proj, the length before the final projection.</summary>
    public int EncodedDimension { get; }

    /// <summary>Encodes one query.</summary>
    /// <param name="query">[|Q|, d], at least one row.</param>
    /// <returns>[OutputDimension].</returns>
    /// <exception cref="ArgumentException">The query is empty, has another d, or holds NaN or infinity.</exception>
    public Tensor EncodeQuery(Tensor query) => EncodeOne(query, document: false);

    /// <summary>Encodes one document.</summary>
    /// <param name="document">[m, d], at least one row.</param>
    /// <returns>[OutputDimension].</returns>
    /// <exception cref="ArgumentException">The document is empty, has another d, or holds NaN or infinity.</exception>
    public Tensor EncodeDocument(Tensor document) => EncodeOne(document, document: true);

    /// <summary>Encodes many queries. Empty partitions stay zero: filling is for documents only (section 2).</summary>
    /// <param name="flat">[T, d], the tokens of all queries.</param>
    /// <param name="offsets">n + 1 row numbers: query i is rows offsets[i] up to offsets[i + 1].</param>
    /// <returns>[n, OutputDimension].</returns>
    /// <exception cref="ArgumentException">A query is empty, has another d, or holds NaN or infinity; or the offsets do not fit.</exception>
    public Tensor EncodeQueries(Tensor flat, long[] offsets) => Encode(flat, offsets, document: false);

    /// <summary>Encodes many documents.</summary>
    /// <param name="flat">[T, d], the tokens of all documents.</param>
    /// <param name="offsets">n + 1 row numbers: document i is rows offsets[i] up to offsets[i + 1].</param>
    /// <returns>[n, OutputDimension].</returns>
    /// <exception cref="ArgumentException">A document is empty, has another d, or holds NaN or infinity; or the offsets do not fit.</exception>
    public Tensor EncodeDocuments(Tensor flat, long[] offsets) => Encode(flat, offsets, document: true);

    /// <summary>The partition index of every token in every repetition: the hyperplane bits b_0 ... b_(k-1) read as a Gray code, g = (g &lt;&lt; 1) + (b_i xor (g and 1)).</summary>
    /// <param name="tokens">[T, d].</param>
    /// <returns>[T, R] int64.</returns>
    public Tensor Partition(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return ToPartition(Codes(tokens.to(ScalarType.Float32).matmul(Weights(tokens.device)))).MoveToOuterDisposeScope();
    }

    private Tensor EncodeOne(Tensor set, bool document)
    {
        if (set.dim() != 2) throw new ArgumentException($"A {(document ? "document" : "query")} is [tokens, {Config.Dimension}], not [{string.Join(", ", set.shape)}].", nameof(set));
        return Encode(set, [0, set.shape[0]], document).squeeze_(0);
    }

    private Tensor Encode(Tensor flat, long[] offsets, bool document)
    {
        var kind = document ? "document" : "query";
        if (flat.dim() != 2 || flat.shape[1] != Config.Dimension)
            throw new ArgumentException($"The {kind} vectors are [{string.Join(", ", flat.shape)}], but the encoder was made for [tokens, {Config.Dimension}].", nameof(flat));
        MultiVectorSet.CheckOffsets(offsets, flat.shape[0]);
        for (var i = 0; i + 1 < offsets.Length; i++)
        {
            if (offsets[i] == offsets[i + 1]) throw new ArgumentException($"The {kind} at position {i} is empty; a set has at least one vector.", nameof(offsets));
        }
        using var scope = NewDisposeScope();
        return (flat.device.type == DeviceType.CPU ? EncodeNative(flat, offsets, document) : EncodeTorch(flat, offsets, document)).MoveToOuterDisposeScope();
    }

    // ---- the CPU kernel: one product tokens x [G_0 | ... | psi_0 | ...] a group of documents, then sums of blocks and filling ----

    private Tensor EncodeNative(Tensor flat, long[] offsets, bool document)
    {
        var n = offsets.Length - 1;
        flat = TensorMemory.ToFloat32(flat);
        var tokens = TensorMemory.Pointer<float>(flat);
        if (Config.FinalDimension is not null && Config.Final == FinalProjection.DenseSign)
        {
            var step = Math.Max(1, (1 << 25) / EncodedDimension);
            var parts = new List<Tensor>();
            for (var start = 0; start < n; start += step)
            {
                var count = Math.Min(step, n - start);
                var encoded = empty([count, EncodedDimension]);
                EncodeRange(tokens, offsets, start, count, TensorMemory.Pointer<float>(encoded), document, sketch: false);
                parts.Add(DenseFinal(encoded));
                encoded.Dispose();
            }
            return cat(parts);
        }
        var result = empty([n, OutputDimension]);
        EncodeRange(tokens, offsets, 0, n, TensorMemory.Pointer<float>(result), document, sketch: _buckets != null);
        GC.KeepAlive(flat);
        return result;
    }

    private void EncodeRange(float* tokens, long[] offsets, int first, int count, float* output, bool document, bool sketch)
    {
        // Groups of about 128 tokens: enough rows for the product, few enough for its result to stay in the core's cache.
        var groups = new List<(int Start, int End)>();
        for (int start = first, end; start < first + count; start = end)
        {
            for (end = start + 1; end < first + count && offsets[end + 1] - offsets[start] <= 128; end++) { }
            groups.Add((start, end));
        }
        var notFinite = -1L;
        Parallel.For(0, groups.Count, TensorMemory.Threads((double)(offsets[first + count] - offsets[first]) * Config.Dimension * (_blockStart + Config.Repetitions * Config.BlockDimension)), () => new Workspace(this), (g, _, workspace) =>
        {
            var (start, end) = groups[g];
            var rows = (int)(offsets[end] - offsets[start]);
            var x = tokens + offsets[start] * Config.Dimension;
            if (!AllFinite(x, (long)rows * Config.Dimension))
            {
                Interlocked.CompareExchange(ref notFinite, start, -1);
                return workspace;
            }
            var y = workspace.Product(rows);
            _columns?.Multiply(x, rows, Config.Dimension, y, _columns.Stride);
            for (var i = start; i < end; i++)
            {
                var skip = offsets[i] - offsets[start];
                var target = output + (long)(i - first) * (sketch ? OutputDimension : EncodedDimension);
                EncodeSet(x + skip * Config.Dimension, y + skip * (_columns?.Stride ?? 0), (int)(offsets[i + 1] - offsets[i]), sketch ? workspace.Encoding : target, document, workspace);
                if (sketch) Sketch(workspace.Encoding, target);
            }
            return workspace;
        }, workspace => workspace.Dispose());
        if (notFinite >= 0) throw NotFinite(tokens, offsets, (int)notFinite, document);
    }

    private void EncodeSet(float* x, float* y, int rows, float* output, bool document, Workspace workspace)
    {
        var (reps, block, stride, size) = (Config.Repetitions, Config.BlockDimension, _columns?.Stride ?? 0, (long)_partitions * Config.BlockDimension);
        var slots = workspace.Slots(rows); // [rows, R]
        if (_kMeans) NearestCenters(y, rows, slots);
        else Hash(y, rows, slots, workspace.Bits(rows));
        var psi = _projections is null ? x : y + _blockStart; // psi_r of row t: psi + t * psiRow + r * psiRepetition
        var psiRow = _projections is null ? Config.Dimension : (long)stride;
        var psiRepetition = _projections is null ? 0 : block;
        NativeMemory.Clear(output, (nuint)EncodedDimension * sizeof(float));
        var counts = workspace.Counts; // [R, B]
        if (document) NativeMemory.Clear(counts, (nuint)reps * (nuint)_partitions * sizeof(int));
        for (var t = 0; t < rows; t++)
        {
            var source = psi + t * psiRow;
            var slot = slots + (long)t * reps;
            for (var r = 0; r < reps; r++)
            {
                Add(output + r * size + (long)slot[r] * block, source + (long)r * psiRepetition, block);
                if (document) counts[(long)r * _partitions + slot[r]]++;
            }
        }
        if (!document) return;
        for (var r = 0; r < reps; r++, output += size, counts += _partitions)
        {
            var empty = 0;
            for (var c = 0; c < _partitions; c++)
            {
                if (counts[c] > 1) Scale(output + (long)c * block, 1f / counts[c], block);
                else if (counts[c] == 0) empty++;
            }
            if (!Config.FillEmptyPartitions || empty == 0) continue;
            if (_kMeans) NearestRows(x, y, rows, r, workspace.Keys, counts);
            else NearestRows(slots + r, reps, rows, workspace.Keys);
            for (var c = 0; c < _partitions; c++)
            {
                if (counts[c] != 0) continue;
                var row = workspace.Keys[_kMeans ? c : ToGray(c)] & (OneBit - 1);
                Buffer.MemoryCopy(psi + row * psiRow + (long)r * psiRepetition, output + (long)c * block, block * sizeof(float), block * sizeof(float));
            }
        }
    }

    /// <summary>Sign bits to partition indices, [rows, R]. All signs are packed before any is read, so that no read waits for a narrower write.</summary>
    private void Hash(float* y, int rows, int* slots, byte* bits)
    {
        var (reps, k, mask, width, stride) = (Config.Repetitions, Config.SimHashBits, _partitions - 1, BitsWidth, _columns?.Stride ?? 0);
        for (var t = 0; t < rows; t++)
        {
            for (var column = 0; column < _blockStart; column += 16)
                *(ushort*)(bits + (long)t * width + column / 8) = (ushort)Vector512.GreaterThan(Vector512.Load(y + (long)t * stride + column), Vector512<float>.Zero).ExtractMostSignificantBits();
        }
        for (var t = 0; t < rows; t++)
        {
            for (int r = 0, position = 0; r < reps; r++, position += k)
                *slots++ = FromGray((int)(*(uint*)(bits + (long)t * width + (position >> 3)) >> (position & 7)) & mask);
        }
    }

    private int BitsWidth => _blockStart / 8 + 8; // a read of four bytes may start at the last one

    /// <summary>g with g xor (g >> 1) = bits, bit 0 of the card's loop being the highest.</summary>
    internal static int FromGray(int bits)
    {
        bits ^= bits >> 16;
        bits ^= bits >> 8;
        bits ^= bits >> 4;
        bits ^= bits >> 2;
        return bits ^ (bits >> 1);
    }

    /// <summary>The bits of partition index g.</summary>
    internal static int ToGray(int g) => g ^ (g >> 1);

    /// <summary>
    /// For every partition the token whose bits disagree least with the partition's (ties: the lowest row). A distance transform over the hypercube:
    /// after pass i every vertex knows its best source among those that differ in bits 0..i only, so k passes replace rows * 2^k comparisons.
    /// </summary>
    private void NearestRows(int* slot, int stride, int rows, long* keys)
    {
        new Span<long>(keys, _partitions).Fill(long.MaxValue / 2);
        for (var t = rows - 1; t >= 0; t--) keys[ToGray(slot[(long)t * stride])] = t;
        for (var bit = 1; bit < _partitions; bit <<= 1)
        {
            for (var high = 0; high < _partitions; high += 2 * bit)
            {
                for (var c = high; c < high + bit; c++)
                {
                    var (a, b) = (keys[c], keys[c + bit]);
                    keys[c] = Math.Min(a, b + OneBit);
                    keys[c + bit] = Math.Min(b, a + OneBit);
                }
            }
        }
    }

    private void NearestRows(float* x, float* y, int rows, int r, long* keys, int* counts)
    {
        for (var c = 0; c < _partitions; c++)
        {
            if (counts[c] != 0) continue;
            var column = r * _partitions + c;
            var best = float.NegativeInfinity;
            for (var t = 0; t < rows; t++)
            {
                // -|p - c|^2 / 2 = <p, c> - |c|^2 / 2 - |p|^2 / 2
                float norm = 0;
                for (var i = 0; i < Config.Dimension; i++) norm += x[(long)t * Config.Dimension + i] * x[(long)t * Config.Dimension + i];
                var near = y[(long)t * _columns!.Stride + column] - _halfNorms![column] - norm / 2;
                if (near > best) (best, keys[c]) = (near, t);
            }
        }
    }

    private void NearestCenters(float* y, int rows, int* slots)
    {
        for (var t = 0; t < rows; t++, y += _columns!.Stride)
        {
            for (var r = 0; r < Config.Repetitions; r++)
            {
                var (best, center) = (float.NegativeInfinity, 0);
                for (var c = 0; c < _partitions; c++)
                {
                    var near = y[r * _partitions + c] - _halfNorms![r * _partitions + c];
                    if (near > best) (best, center) = (near, c);
                }
                slots[(long)t * Config.Repetitions + r] = center;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add(float* target, float* source, int length)
    {
        var i = 0;
        for (; i + 16 <= length; i += 16) (Vector512.Load(target + i) + Vector512.Load(source + i)).Store(target + i);
        for (; i + 8 <= length; i += 8) (Vector256.Load(target + i) + Vector256.Load(source + i)).Store(target + i);
        for (; i < length; i++) target[i] += source[i];
    }

    private static void Scale(float* target, float factor, int length)
    {
        var i = 0;
        for (; i + 8 <= length; i += 8) (Vector256.Load(target + i) * factor).Store(target + i);
        for (; i < length; i++) target[i] *= factor;
    }

    private void Sketch(float* encoding, float* target)
    {
        new Span<float>(target, OutputDimension).Clear();
        fixed (int* buckets = _buckets)
        fixed (float* signs = _signs)
        {
            for (var i = 0; i < EncodedDimension; i++) target[buckets[i]] += signs[i] * encoding[i];
        }
    }

    private static bool AllFinite(float* x, long length)
    {
        var i = 0L;
        var bad = Vector512<float>.Zero;
        for (; i + 16 <= length; i += 16) bad += Vector512.Load(x + i) * 0f; // NaN and infinity times 0 are NaN
        var sum = Vector512.Sum(bad);
        for (; i < length; i++) sum += x[i] * 0f;
        return sum == 0;
    }

    private ArgumentException NotFinite(float* tokens, long[] offsets, int start, bool document)
    {
        var set = start;
        var row = offsets[start];
        while (AllFinite(tokens + row * Config.Dimension, Config.Dimension)) row++;
        while (offsets[set + 1] <= row) set++;
        return new ArgumentException($"Row {row - offsets[set]} of the {(document ? "document" : "query")} at position {set} holds NaN or infinity.");
    }

    private sealed class Workspace(FixedDimensionalEncoder encoder) : IDisposable
    {
        private readonly NativeBuffer<float> _product = new(), _encoding = new(encoder._buckets == null ? 0 : encoder.EncodedDimension);
        private readonly NativeBuffer<int> _slots = new(), _counts = new((long)encoder._partitions * encoder.Config.Repetitions);
        private readonly NativeBuffer<long> _keys = new(encoder._partitions);
        private readonly NativeBuffer<byte> _bits = new();

        public float* Encoding => _encoding.Pointer;
        public int* Counts => _counts.Pointer;
        public long* Keys => _keys.Pointer;

        public byte* Bits(int rows)
        {
            if (_bits.Length < (long)rows * encoder.BitsWidth) _bits.Resize((long)rows * encoder.BitsWidth);
            return _bits.Pointer;
        }

        public float* Product(int rows)
        {
            var length = (long)rows * (encoder._columns?.Stride ?? 0);
            if (_product.Length < length) _product.Resize(length);
            return _product.Pointer;
        }

        public int* Slots(int rows)
        {
            var length = (long)rows * encoder.Config.Repetitions;
            if (_slots.Length < length) _slots.Resize(length);
            return _slots.Pointer;
        }

        public void Dispose()
        {
            _product.Dispose();
            _encoding.Dispose();
            _slots.Dispose();
            _counts.Dispose();
            _keys.Dispose();
            _bits.Dispose();
        }
    }

    // ---- the same with torch's operations, for tensors on any device ----

    /// <summary>The encoding by torch's operations; on the CPU it is the tests' second opinion of the kernel.</summary>
    internal Tensor EncodeTorch(Tensor flat, long[] offsets, bool document)
    {
        var n = offsets.Length - 1;
        var step = (int)Math.Max(1, Math.Min(n, (1 << 26) / EncodedDimension)); // documents at a time: a quarter gigabyte
        var parts = new List<Tensor>();
        for (var start = 0; start < n; start += step)
        {
            using var scope = NewDisposeScope();
            var end = Math.Min(n, start + step);
            var part = offsets[start..(end + 1)].Select(o => o - offsets[start]).ToArray();
            var encoded = EncodeBlock(flat.narrow(0, offsets[start], part[^1]).to(ScalarType.Float32), part, document);
            if (Config.FinalDimension is { } final)
            {
                encoded = Config.Final == FinalProjection.DenseSign
                    ? DenseFinal(encoded)
                    : zeros([final, end - start], device: flat.device).index_add_(0, tensor(_buckets!).to(ScalarType.Int64).to(flat.device), (encoded * tensor(_signs!).to(flat.device)).t(), 1).t().contiguous();
            }
            parts.Add(encoded.MoveToOuterDisposeScope());
        }
        return cat(parts);
    }

    private Tensor EncodeBlock(Tensor flat, long[] offsets, bool document)
    {
        var (n, tokens, device) = (offsets.Length - 1, flat.shape[0], flat.device);
        var (reps, block) = (Config.Repetitions, Config.BlockDimension);
        if (!isfinite(flat).all().item<bool>()) throw new ArgumentException($"A {(document ? "document" : "query")} holds NaN or infinity.");
        var product = flat.matmul(Weights(device));
        var codes = Codes(product);
        var lengths = tensor(offsets[1..]).sub(tensor(offsets[..^1])).to(device);
        var owner = arange(n, ScalarType.Int64, device).repeat_interleave(lengths);
        var first = (owner.unsqueeze(1) * reps + arange(reps, ScalarType.Int64, device)) * _partitions; // the first partition of a token's document and repetition
        var slots = (first + ToPartition(codes)).flatten();
        var psi = _projections is null
            ? flat.unsqueeze(1).expand(tokens, reps, block).reshape(-1, block)
            : product.narrow(1, _blockStart, reps * block).reshape(-1, block);
        var cells = (long)n * reps * _partitions;
        var sums = zeros([cells, block], device: device).index_add_(0, slots, psi, 1);
        if (!document) return sums.view(n, EncodedDimension);
        var counts = zeros([cells], device: device).index_add_(0, slots, ones_like(slots, ScalarType.Float32), 1);
        var blocks = sums / counts.clamp_min(1).unsqueeze(1);
        if (!Config.FillEmptyPartitions || _partitions == 1) return blocks.view(n, EncodedDimension);

        var rows = arange(tokens, ScalarType.Int64, device);
        Tensor nearest;
        if (_kMeans)
        {
            var near = product.narrow(1, 0, _hashColumns) - tensor(_halfNorms!).to(device) - flat.square().sum(1, keepdim: true) / 2; // [T, R * B]
            var longest = (int)lengths.max().item<long>();
            var place = owner * longest + rows - tensor(offsets[..^1]).to(device).index_select(0, owner);
            var padded = full([n * longest, _hashColumns], float.NegativeInfinity, device: device).index_copy_(0, place, near);
            nearest = (padded.view(n, longest, _hashColumns).argmax(1) + tensor(offsets[..^1]).to(device).unsqueeze(1)).flatten();
        }
        else
        {
            // The first row of every occupied partition: sort by (partition, row) and keep where the partition changes.
            var order = ((first + codes) * tokens + rows.unsqueeze(1)).flatten().sort().Values;
            var cell = order.div(tokens, RoundingMode.floor);
            var leads = cat([ones([1], ScalarType.Bool, device), cell[1..] != cell[..^1]]).nonzero().flatten();
            var keys = full([cells], long.MaxValue / 2, ScalarType.Int64, device).index_copy_(0, cell.index_select(0, leads), order.index_select(0, leads).remainder(tokens));
            for (var bit = 1L; bit < _partitions; bit <<= 1)
            {
                var pairs = keys.view(-1, 2, bit);
                keys = minimum(pairs, pairs.flip(1) + OneBit).flatten();
            }
            var gray = arange(_partitions, ScalarType.Int64, device);
            nearest = keys.view(-1, _partitions).index_select(1, gray.bitwise_xor(gray.bitwise_right_shift(1))).flatten().bitwise_and(OneBit - 1);
        }
        var empties = (counts == 0).nonzero().flatten();
        var repetition = empties.div(_partitions, RoundingMode.floor).remainder(reps);
        blocks.index_copy_(0, empties, psi.index_select(0, nearest.index_select(0, empties) * reps + repetition));
        return blocks.view(n, EncodedDimension);
    }

    private Tensor Weights(Device device)
    {
        lock (_weights)
        {
            if (!_weights.TryGetValue(device.ToString(), out var weights))
                _weights[device.ToString()] = weights = _weights["cpu"].to(device).DetachFromDisposeScope();
            return weights;
        }
    }

    /// <summary>Hyperplane bits as numbers (b_0 highest), or nearest centres: [T, R] int64.</summary>
    private Tensor Codes(Tensor product)
    {
        var reps = Config.Repetitions;
        var hashes = product.narrow(1, 0, _hashColumns);
        if (_kMeans) return (hashes - tensor(_halfNorms!).to(product.device)).view(-1, reps, _partitions).argmax(2);
        if (_partitions == 1) return zeros([product.shape[0], reps], ScalarType.Int64, product.device);
        var powers = pow(2, arange(Config.SimHashBits, ScalarType.Float32, product.device)).to(ScalarType.Int64);
        return ((hashes > 0).view(-1, reps, Config.SimHashBits).to(ScalarType.Int64) * powers).sum(2);
    }

    private Tensor ToPartition(Tensor codes)
    {
        if (_kMeans) return codes;
        for (var shift = 16; shift >= 1; shift /= 2) codes = codes.bitwise_xor(codes.bitwise_right_shift(shift));
        return codes;
    }

    /// <summary>encoded·S / sqrt(d_final), S drawn in slices so that it need not fit in memory.</summary>
    private Tensor DenseFinal(Tensor encoded)
    {
        using var scope = NewDisposeScope();
        var final = Config.FinalDimension!.Value;
        var result = zeros([encoded.shape[0], final], device: encoded.device);
        var step = Math.Max(1, Math.Min(EncodedDimension, (1 << 24) / final));
        var signs = new float[step * final];
        var random = new SplitMix64(Config.Seed);
        for (var start = 0; start < EncodedDimension; start += step)
        {
            var count = Math.Min(step, EncodedDimension - start);
            DrawSigns(signs.AsSpan(0, count * final), 1 / MathF.Sqrt(final), random);
            using var slice = tensor(signs.AsSpan(0, count * final).ToArray(), [count, final], device: encoded.device);
            using var part = encoded.narrow(1, start, count);
            result.add_(part.matmul(slice));
        }
        return result.MoveToOuterDisposeScope();
    }

    private static void DrawProjection(InnerProjection kind, Span<float> psi, int block, SplitMix64 random)
    {
        if (kind == InnerProjection.DenseSign)
        {
            DrawSigns(psi, 1 / MathF.Sqrt(block), random);
            return;
        }
        for (var i = 0; i < psi.Length; i += block) psi[i + random.Next(block)] = random.NextUInt64() >> 63 == 0 ? 1 : -1; // row i of [d, d_proj]
    }

    private static void DrawSigns(Span<float> target, float scale, SplitMix64 random)
    {
        for (var i = 0; i < target.Length; i += 64)
        {
            var bits = random.NextUInt64();
            for (var j = i; j < Math.Min(i + 64, target.Length); j++, bits >>= 1) target[j] = (bits & 1) == 0 ? scale : -scale;
        }
    }

    // ---- files ----

    private sealed record Description(int SchemaVersion, FdeConfig Config, bool KMeans);

    /// <summary>Writes the encoder: <paramref name="path"/>.json (the configuration) and <paramref name="path"/>.safetensors (the matrices).</summary>
    /// <param name="path">The files' path without ending.</param>
    public void Save(string path)
    {
        var tensors = new Dictionary<string, Tensor> { [_kMeans ? "centers" : "simhash"] = _partition };
        if (_projections is not null) tensors["projections"] = _projections;
        Safetensors.Write(path + ".safetensors", tensors);
        AtomicFile.WriteText(path + ".json", JsonSerializer.Serialize(new Description(1, Config, _kMeans), Json));
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <param name="path">The files' path without ending.</param>
    /// <exception cref="InvalidDataException">A file is missing, damaged, or does not describe an encoder.</exception>
    public static FixedDimensionalEncoder Load(string path)
    {
        var file = path + ".json";
        using var scope = NewDisposeScope();
        try
        {
            var description = JsonSerializer.Deserialize<Description>(File.ReadAllText(file), Json) ?? throw new InvalidDataException($"{file}: the file is empty.");
            if (description.SchemaVersion != 1) throw new InvalidDataException($"{file}: schema version {description.SchemaVersion} is not 1.");
            file = path + ".safetensors";
            var tensors = Safetensors.Read(file);
            tensors.TryGetValue("projections", out var projections);
            var partition = tensors[description.KMeans ? "centers" : "simhash"];
            return description.KMeans
                ? new FixedDimensionalEncoder(description.Config, new KMeansPartition(partition)) // the projections follow from the seed
                : new FixedDimensionalEncoder(description.Config, partition, projections);
        }
        catch (Exception e) when (e is ArgumentException or JsonException or KeyNotFoundException or IOException)
        {
            throw new InvalidDataException($"{file}: {e.Message}", e);
        }
    }

    /// <summary>Frees the matrices.</summary>
    public void Dispose()
    {
        _partition.Dispose();
        _projections?.Dispose();
        _columns?.Dispose();
        foreach (var weights in _weights.Values) weights.Dispose();
    }
}
