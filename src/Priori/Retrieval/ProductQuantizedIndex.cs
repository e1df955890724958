using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// Exhaustive search over product-quantized vectors. Codes lie in blocks of 256 vectors, group after group, so that a scan reads memory in order.
/// With AVX-512 VBMI the scan looks 64 codes up at once in the query's table rounded to bytes, two instructions a group, which keeps pace with memory; vectors whose rounded score comes within
/// the rounding's spread of the best are then scored with the float table. Elsewhere the scan uses the float table throughout.
/// Scores are inner products with the decoded vectors.
/// </summary>
public sealed unsafe class ProductQuantizedIndex : MipsIndex
{
    private const int Block = 256;
    private readonly NativeBuffer<byte> _codes; // [blocks, groups, 256]
    private readonly NativeBuffer<float> _columns; // the codebook by coordinate, [groups, G, 256], zeros beyond the centres: no byte of a damaged file reads beyond a table

    /// <summary>An empty index.</summary>
    /// <param name="quantizer">A trained quantizer.</param>
    /// <exception cref="ArgumentException">The quantizer is not trained.</exception>
    public ProductQuantizedIndex(ProductQuantizer quantizer) : this(quantizer, new NativeBuffer<byte>(), null) { }

    internal ProductQuantizedIndex(ProductQuantizer quantizer, NativeBuffer<byte> codes, NativeBuffer<byte>? removed) : base(removed)
    {
        ArgumentNullException.ThrowIfNull(quantizer);
        if (quantizer.Codebook is null) throw new ArgumentException("The quantizer is not trained; call Fit first.", nameof(quantizer));
        (Quantizer, _codes, _columns) = (quantizer, codes, new NativeBuffer<float>((long)quantizer.Groups * quantizer.GroupSize * 256));
        var centers = TensorMemory.Pointer<float>(quantizer.Codebook);
        for (var g = 0; g < quantizer.Groups; g++)
        {
            for (var c = 0; c < quantizer.Centers; c++)
            {
                for (var j = 0; j < quantizer.GroupSize; j++) _columns[((long)g * quantizer.GroupSize + j) * 256 + c] = *centers++;
            }
        }
    }

    /// <summary>The quantizer.</summary>
    public ProductQuantizer Quantizer { get; }

    /// <inheritdoc/>
    public override int Dimension => Quantizer.Dimension;

    /// <inheritdoc/>
    public override long BytesPerVector => Quantizer.Groups;

    /// <summary>Whether the byte scan is used; the tests also run the other one.</summary>
    internal bool ByteScan { get; set; } = Avx512Vbmi.IsSupported;

    internal static long CodeBytes(long count, int groups) => (count + Block - 1) / Block * Block * groups;

    private protected override void AddCore(Tensor vectors)
    {
        using var codes = Quantizer.Encode(vectors);
        AddCodes(codes);
    }

    /// <summary>Adds vectors that are codes already.</summary>
    /// <param name="codes">[n, groups] uint8.</param>
    /// <exception cref="ArgumentException">The shape or type is another.</exception>
    public void AddEncoded(Tensor codes)
    {
        if (codes.dim() != 2 || codes.shape[1] != Quantizer.Groups || codes.dtype != ScalarType.Byte)
            throw new ArgumentException($"Codes must be uint8 [n, {Quantizer.Groups}], not {codes.dtype} [{string.Join(", ", codes.shape)}].", nameof(codes));
        using var scope = NewDisposeScope();
        AddCodes(codes.cpu().contiguous());
        Removed.Resize(Count + codes.shape[0]);
    }

    private void AddCodes(Tensor codes)
    {
        var (n, groups, first) = ((int)codes.shape[0], Quantizer.Groups, Count);
        _codes.Resize(CodeBytes((long)first + n, groups));
        var source = TensorMemory.Pointer<byte>(codes);
        for (var i = 0; i < n; i++)
        {
            var target = _codes.Pointer + (long)((first + i) / Block) * groups * Block + (first + i) % Block;
            for (var g = 0; g < groups; g++) target[(long)g * Block] = source[(long)i * groups + g];
        }
    }

    private protected override Neighbors[] SearchCore(Tensor queries, int count)
    {
        var groups = Quantizer.Groups;
        var result = new Neighbors[queries.shape[0]];
        var q = TensorMemory.Pointer<float>(queries);
        using var table = new NativeBuffer<float>(groups * 256L);
        using var scores = new NativeBuffer<float>((Count + Block - 1) / Block * (long)Block);
        for (var i = 0; i < result.Length; i++)
        {
            FillTable(q + (long)i * Dimension, table.Pointer);
            result[i] = ByteScan ? SearchBytes(table.Pointer, scores.Pointer, count) : SearchFloats(table.Pointer, scores.Pointer, count);
        }
        GC.KeepAlive(queries);
        return result;
    }

    private void FillTable(float* query, float* table)
    {
        var size = Quantizer.GroupSize;
        for (var g = 0; g < Quantizer.Groups; g++, table += 256)
        {
            var (first, count) = (g * size, Math.Min(size, Dimension - g * size));
            for (var c = 0; c < 256; c += 16)
            {
                var sum = Vector512<float>.Zero;
                for (var j = 0; j < count; j++) sum = Vector512.FusedMultiplyAdd(Vector512.Create(query[first + j]), Vector512.Load(_columns.Pointer + (long)(first + j) * 256 + c), sum);
                sum.Store(table + c);
            }
        }
    }

    private Neighbors SearchFloats(float* table, float* scores, int count)
    {
        var groups = Quantizer.Groups;
        Parallel.For(0, (Count + Block - 1) / Block, TensorMemory.Threads((double)Count * groups), block =>
        {
            var sums = scores + (long)block * Block;
            new Span<float>(sums, Block).Clear();
            var codes = _codes.Pointer + (long)block * groups * Block;
            for (var g = 0; g < groups; g++, codes += Block)
            {
                var row = table + g * 256L;
                for (var i = 0; i < Block; i += 4)
                {
                    sums[i] += row[codes[i]];
                    sums[i + 1] += row[codes[i + 1]];
                    sums[i + 2] += row[codes[i + 2]];
                    sums[i + 3] += row[codes[i + 3]];
                }
            }
        });
        return Best(scores, count).Sorted();
    }

    private TopK Best(float* scores, int count)
    {
        var best = new TopK(count);
        for (var i = 0; i < Count; i++)
        {
            if (scores[i] >= best.Threshold && !IsRemoved(i)) best.Push(i, scores[i]);
        }
        return best;
    }

    private Neighbors SearchBytes(float* table, float* scores, int count)
    {
        var groups = Quantizer.Groups;
        // One step for all groups, so that rounded entries may be added as integers: entry = least of the group + step * byte.
        using var bytes = new NativeBuffer<byte>(groups * 256L);
        var (lows, range) = (new float[groups], 0f);
        for (var g = 0; g < groups; g++)
        {
            (lows[g], var high) = Extremes(table + g * 256L);
            range = Math.Max(range, high - lows[g]);
        }
        var scale = range > 0 && float.IsFinite(range) ? 255 / range : 1;
        for (var g = 0; g < groups; g++)
        {
            for (var c = 0; c < 256; c += 64)
                Round(table + g * 256L + c, lows[g], scale).Store(bytes.Pointer + g * 256L + c);
        }
        Parallel.For(0, (Count + Block - 1) / Block, TensorMemory.Threads((double)Count * groups), block => ScanBlock(_codes.Pointer + (long)block * groups * Block, groups, bytes.Pointer, scores + (long)block * Block));
        // Rounding errors are at most half a step each and independent of one another: their sum over the groups has a standard deviation of sqrt(groups / 12) steps.
        // Twice five of them below the best count is still looked at with the float table.
        var margin = 10 * MathF.Sqrt(groups / 12f) + 1;
        var threshold = Best(scores, count).Threshold - margin;
        var candidates = new List<int>();
        for (var i = 0; i < Count; i++)
        {
            if (scores[i] >= threshold && !IsRemoved(i)) candidates.Add(i);
        }
        var best = new TopK(count);
        var exact = new float[candidates.Count];
        Parallel.For(0, candidates.Count, TensorMemory.Threads((double)candidates.Count * groups * 8), i => exact[i] = Score(table, candidates[i]));
        for (var i = 0; i < exact.Length; i++) best.Push(candidates[i], exact[i]);
        return best.Sorted();
    }

    private float Score(float* table, int position)
    {
        var groups = Quantizer.Groups;
        var code = _codes.Pointer + (long)(position / Block) * groups * Block + position % Block;
        float sum = 0;
        for (var g = 0; g < groups; g++) sum += table[g * 256L + code[(long)g * Block]];
        return sum;
    }

    private static (float Low, float High) Extremes(float* row)
    {
        var low = Vector512.Load(row);
        var high = low;
        for (var c = 16; c < 256; c += 16)
        {
            low = Vector512.Min(low, Vector512.Load(row + c));
            high = Vector512.Max(high, Vector512.Load(row + c));
        }
        var (least, most) = (low[0], high[0]);
        for (var lane = 1; lane < 16; lane++) (least, most) = (Math.Min(least, low[lane]), Math.Max(most, high[lane]));
        return (least, most);
    }

    private static Vector512<byte> Round(float* entries, float low, float scale)
    {
        var (least, half, top) = (Vector512.Create(low), Vector512.Create(0.5f), Vector512.Create(255f));
        Vector512<ushort> Pair(float* at) => Vector512.Narrow(Four(at), Four(at + 16));
        Vector512<uint> Four(float* at) => Vector512.ConvertToInt32(Vector512.Min(Vector512.Max((Vector512.Load(at) - least) * scale + half, Vector512<float>.Zero), top)).AsUInt32();
        return Vector512.Narrow(Pair(entries), Pair(entries + 32));
    }

    /// <summary>Sums of looked-up bytes for a block of 256 codes: each group's table is loaded once for four vectors of codes.</summary>
    private static void ScanBlock(byte* codes, int groups, byte* table, float* scores)
    {
        var sums = stackalloc float[Block]; // for each 64 vectors: 32 even, then 32 odd ones
        new Span<float>(sums, Block).Clear();
        var low = Vector512.Create((ushort)0x00FF);
        for (var start = 0; start < groups; start += 256) // 256 bytes of at most 255 fit an unsigned short
        {
            var end = Math.Min(groups, start + 256);
            Vector512<ushort> e0 = default, o0 = default, e1 = default, o1 = default, e2 = default, o2 = default, e3 = default, o3 = default;
            for (var g = start; g < end; g++, table += 256, codes += Block)
            {
                var t0 = Vector512.Load(table);
                var t1 = Vector512.Load(table + 64);
                var t2 = Vector512.Load(table + 128);
                var t3 = Vector512.Load(table + 192);
                var v = Look(t0, t1, t2, t3, Vector512.Load(codes));
                e0 += v & low;
                o0 += v >> 8;
                v = Look(t0, t1, t2, t3, Vector512.Load(codes + 64));
                e1 += v & low;
                o1 += v >> 8;
                v = Look(t0, t1, t2, t3, Vector512.Load(codes + 128));
                e2 += v & low;
                o2 += v >> 8;
                v = Look(t0, t1, t2, t3, Vector512.Load(codes + 192));
                e3 += v & low;
                o3 += v >> 8;
            }
            Flush(e0, o0, sums);
            Flush(e1, o1, sums + 64);
            Flush(e2, o2, sums + 128);
            Flush(e3, o3, sums + 192);
        }
        for (var part = 0; part < Block; part += 64)
        {
            for (var i = 0; i < 32; i++)
            {
                scores[part + 2 * i] = sums[part + i];
                scores[part + 2 * i + 1] = sums[part + 32 + i];
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ushort> Look(Vector512<byte> t0, Vector512<byte> t1, Vector512<byte> t2, Vector512<byte> t3, Vector512<byte> code) =>
        Vector512.ConditionalSelect(Vector512.LessThan(code.AsSByte(), Vector512<sbyte>.Zero).AsByte(), // codes from 128 up
            Avx512Vbmi.PermuteVar64x8x2(t2, code, t3), Avx512Vbmi.PermuteVar64x8x2(t0, code, t1)).AsUInt16();

    private static void Flush(Vector512<ushort> even, Vector512<ushort> odd, float* sums)
    {
        var (a, b) = Vector512.Widen(even);
        var (c, d) = Vector512.Widen(odd);
        (Vector512.Load(sums) + Vector512.ConvertToSingle(a.AsInt32())).Store(sums);
        (Vector512.Load(sums + 16) + Vector512.ConvertToSingle(b.AsInt32())).Store(sums + 16);
        (Vector512.Load(sums + 32) + Vector512.ConvertToSingle(c.AsInt32())).Store(sums + 32);
        (Vector512.Load(sums + 48) + Vector512.ConvertToSingle(d.AsInt32())).Store(sums + 48);
    }

    internal override IEnumerable<(string Name, Action<Stream> Write)> Files => [("codes.bin", _codes.Write)];

    /// <inheritdoc/>
    public override void Dispose()
    {
        _codes.Dispose();
        _columns.Dispose();
        base.Dispose();
    }
}
