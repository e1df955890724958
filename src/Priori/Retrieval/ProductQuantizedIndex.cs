using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// Exhaustive search over product-quantized vectors. Codes lie in blocks of 64 vectors, group after group, so that one vector register holds one group of a whole block.
/// With AVX-512 VBMI the scan looks 64 codes up at once in the query's table rounded to bytes, two instructions a group, which keeps pace with memory; vectors whose rounded score comes within
/// the rounding's spread of the best are then scored with the float table. Elsewhere the scan uses the float table throughout.
/// Scores are inner products with the decoded vectors.
/// </summary>
public sealed unsafe class ProductQuantizedIndex : MipsIndex
{
    private const int Block = 64;
    private readonly NativeBuffer<byte> _codes; // [blocks, groups, 64]

    /// <summary>An empty index.</summary>
    /// <param name="quantizer">A trained quantizer.</param>
    /// <exception cref="ArgumentException">The quantizer is not trained.</exception>
    public ProductQuantizedIndex(ProductQuantizer quantizer) : this(quantizer, new NativeBuffer<byte>(), null) { }

    internal ProductQuantizedIndex(ProductQuantizer quantizer, NativeBuffer<byte> codes, NativeBuffer<byte>? removed) : base(removed)
    {
        ArgumentNullException.ThrowIfNull(quantizer);
        if (quantizer.Codebook is null) throw new ArgumentException("The quantizer is not trained; call Fit first.", nameof(quantizer));
        (Quantizer, _codes) = (quantizer, codes);
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
        using var table = new NativeBuffer<float>(groups * 256L); // always 256 columns, so that no byte of a damaged file reads beyond it
        using var scores = new NativeBuffer<float>((Count + Block - 1) / Block * (long)Block);
        for (var i = 0; i < result.Length; i++)
        {
            using var scope = NewDisposeScope();
            var entries = Quantizer.Table(queries[i]);
            for (var g = 0; g < groups; g++) new Span<float>(TensorMemory.Pointer<float>(entries) + (long)g * Quantizer.Centers, Quantizer.Centers).CopyTo(table.Slice(g * 256L, 256));
            result[i] = ByteScan ? SearchBytes(table.Pointer, scores.Pointer, count) : SearchFloats(table.Pointer, scores.Pointer, count);
        }
        return result;
    }

    private Neighbors SearchFloats(float* table, float* scores, int count)
    {
        var groups = Quantizer.Groups;
        Parallel.For(0, (Count + Block - 1) / Block, TensorMemory.Threads, block =>
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
        var range = 0f;
        for (var g = 0; g < groups; g++)
        {
            var row = new ReadOnlySpan<float>(table + g * 256L, Quantizer.Centers);
            var (low, high) = Extremes(row);
            range = Math.Max(range, high - low);
        }
        var step = range > 0 && float.IsFinite(range) ? range / 255 : 1;
        for (var g = 0; g < groups; g++)
        {
            var row = new ReadOnlySpan<float>(table + g * 256L, Quantizer.Centers);
            var (low, _) = Extremes(row);
            for (var c = 0; c < row.Length; c++) bytes[g * 256L + c] = (byte)Math.Clamp((row[c] - low) / step + 0.5f, 0, 255);
        }
        var blocks = (Count + Block - 1) / Block;
        const int chunk = 32;
        Parallel.For(0, (blocks + chunk - 1) / chunk, TensorMemory.Threads, c =>
        {
            var end = Math.Min(blocks, (c + 1) * chunk);
            for (var block = c * chunk; block < end; block += 4)
                ScanBlocks(_codes.Pointer + (long)block * groups * Block, groups, Math.Min(4, end - block), bytes.Pointer, scores + (long)block * Block);
        });
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
        Parallel.For(0, candidates.Count, TensorMemory.Threads, i => exact[i] = Score(table, candidates[i]));
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

    private static (float Low, float High) Extremes(ReadOnlySpan<float> row)
    {
        var (low, high) = (row[0], row[0]);
        foreach (var value in row) (low, high) = (Math.Min(low, value), Math.Max(high, value));
        return (low, high);
    }

    /// <summary>Sums of looked-up bytes for up to four blocks of 64 codes; the four share each group's table in registers.</summary>
    private static void ScanBlocks(byte* codes, int groups, int blocks, byte* table, float* scores)
    {
        var next = (long)groups * Block;
        var (i1, i2, i3) = (blocks > 1 ? next : 0, blocks > 2 ? 2 * next : 0, blocks > 3 ? 3 * next : 0);
        var sums = stackalloc float[4 * Block]; // per block: 32 even, then 32 odd vectors
        new Span<float>(sums, 4 * Block).Clear();
        var low = Vector512.Create((ushort)0x00FF);
        for (var start = 0; start < groups; start += 256) // 256 bytes of at most 255 fit an unsigned short
        {
            var end = Math.Min(groups, start + 256);
            Vector512<ushort> e0 = default, o0 = default, e1 = default, o1 = default, e2 = default, o2 = default, e3 = default, o3 = default;
            for (var g = start; g < end; g++)
            {
                var (t0, t1, t2, t3) = (Vector512.Load(table + g * 256L), Vector512.Load(table + g * 256L + 64), Vector512.Load(table + g * 256L + 128), Vector512.Load(table + g * 256L + 192));
                var code = codes + (long)g * Block;
                var v = Look(t0, t1, t2, t3, Vector512.Load(code)).AsUInt16();
                e0 += v & low;
                o0 += v >> 8;
                v = Look(t0, t1, t2, t3, Vector512.Load(code + i1)).AsUInt16();
                e1 += v & low;
                o1 += v >> 8;
                v = Look(t0, t1, t2, t3, Vector512.Load(code + i2)).AsUInt16();
                e2 += v & low;
                o2 += v >> 8;
                v = Look(t0, t1, t2, t3, Vector512.Load(code + i3)).AsUInt16();
                e3 += v & low;
                o3 += v >> 8;
            }
            Flush(e0, o0, sums);
            Flush(e1, o1, sums + Block);
            Flush(e2, o2, sums + 2 * Block);
            Flush(e3, o3, sums + 3 * Block);
        }
        for (var block = 0; block < blocks; block++)
        {
            for (var i = 0; i < 32; i++)
            {
                scores[block * Block + 2 * i] = sums[block * Block + i];
                scores[block * Block + 2 * i + 1] = sums[block * Block + 32 + i];
            }
        }
    }

    private static Vector512<byte> Look(Vector512<byte> t0, Vector512<byte> t1, Vector512<byte> t2, Vector512<byte> t3, Vector512<byte> code) =>
        Vector512.ConditionalSelect(Vector512.LessThan(code.AsSByte(), Vector512<sbyte>.Zero).AsByte(), // codes from 128 up
            Avx512Vbmi.PermuteVar64x8x2(t2, code, t3), Avx512Vbmi.PermuteVar64x8x2(t0, code, t1));

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
        base.Dispose();
    }
}
