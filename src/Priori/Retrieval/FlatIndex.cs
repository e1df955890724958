using System.Runtime.Intrinsics;
using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// The exact search: float32 vectors, scanned in blocks, in parallel. Few queries are limited by memory bandwidth; many share each block as one matrix product.
/// </summary>
public sealed unsafe class FlatIndex : MipsIndex
{
    private const int Block = 64;
    private readonly NativeBuffer<float> _vectors;

    /// <summary>An empty index.</summary>
    /// <param name="dimension">The length of a vector.</param>
    public FlatIndex(int dimension) : this(dimension, new NativeBuffer<float>(), null) { }

    internal FlatIndex(int dimension, NativeBuffer<float> vectors, NativeBuffer<byte>? removed) : base(removed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dimension, 1);
        (Dimension, _vectors) = (dimension, vectors);
    }

    /// <inheritdoc/>
    public override int Dimension { get; }

    /// <inheritdoc/>
    public override long BytesPerVector => (long)Dimension * sizeof(float);

    private protected override void AddCore(Tensor vectors)
    {
        var start = _vectors.Length;
        _vectors.Resize(start + vectors.numel());
        Buffer.MemoryCopy(TensorMemory.Pointer<float>(vectors), _vectors.Pointer + start, vectors.numel() * sizeof(float), vectors.numel() * sizeof(float));
    }

    private protected override Neighbors[] SearchCore(Tensor queries, int count)
    {
        var q = TensorMemory.Pointer<float>(queries);
        var result = new List<Neighbors>();
        for (var first = 0; first < queries.shape[0]; first += 96)
        {
            var group = (int)Math.Min(96, queries.shape[0] - first);
            result.AddRange(Scan(q + (long)first * Dimension, group, count));
        }
        GC.KeepAlive(queries);
        return [.. result];
    }

    private IEnumerable<Neighbors> Scan(float* queries, int group, int count)
    {
        using var packed = group < 8 ? null : new PackedMatrix(queries, Dimension, group, 1, Dimension);
        var best = Enumerable.Range(0, group).Select(_ => new TopK(count)).ToArray();
        Parallel.For(0, (Count + Block - 1) / Block, TensorMemory.Threads((double)Count * Dimension * group), () => (Scores: new NativeBuffer<float>(Block * (packed?.Stride ?? 8)), Best: best.Select(_ => new TopK(count)).ToArray()), (block, _, local) =>
        {
            var (first, rows) = (block * Block, Math.Min(Block, Count - block * Block));
            var (scores, stride) = (local.Scores, packed?.Stride ?? 8);
            var x = _vectors.Pointer + (long)first * Dimension;
            packed?.Multiply(x, rows, Dimension, scores.Pointer, stride);
            for (var row = 0; row < rows && packed == null; row++)
            {
                for (var query = 0; query < group; query++) scores[row * stride + query] = Dot(x + (long)row * Dimension, queries + (long)query * Dimension, Dimension);
            }
            for (var row = 0; row < rows; row++)
            {
                if (IsRemoved(first + row)) continue;
                for (var query = 0; query < group; query++) local.Best[query].Push(first + row, scores[row * stride + query]);
            }
            return local;
        }, local =>
        {
            local.Scores.Dispose();
            lock (best)
            {
                for (var query = 0; query < group; query++) best[query].Push(local.Best[query]);
            }
        });
        return [.. best.Select(top => top.Sorted())];
    }

    internal static float Dot(float* a, float* b, int length)
    {
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default;
        var i = 0;
        for (; i + 64 <= length; i += 64)
        {
            s0 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i), Vector512.Load(b + i), s0);
            s1 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 16), Vector512.Load(b + i + 16), s1);
            s2 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 32), Vector512.Load(b + i + 32), s2);
            s3 = Vector512.FusedMultiplyAdd(Vector512.Load(a + i + 48), Vector512.Load(b + i + 48), s3);
        }
        var sum = Vector512.Sum(s0 + s1 + (s2 + s3));
        for (; i < length; i++) sum += a[i] * b[i];
        return sum;
    }

    internal override IEnumerable<(string Name, Action<Stream> Write)> Files => [("vectors.bin", _vectors.Write)];

    /// <inheritdoc/>
    public override void Dispose()
    {
        _vectors.Dispose();
        base.Dispose();
    }
}
