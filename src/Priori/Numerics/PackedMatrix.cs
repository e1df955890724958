using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Priori.Numerics;

/// <summary>
/// A right-hand matrix W [rows, columns] (float32) packed once into column panels, so that many products X·W run at the speed of
/// the processor's fused multiply-add units on the calling thread. It exists beside torch's product because its callers run one
/// product per document inside their own parallel loop, where a threaded library call is the wrong unit of work.
/// A panel is three vectors wide and four rows of X are multiplied at a time: twelve accumulators, which fit AVX2's sixteen registers.
/// </summary>
internal sealed unsafe class PackedMatrix : IDisposable
{
    private static readonly int Lanes = Vector512.IsHardwareAccelerated ? 16 : 8;
    private readonly float* _panels;

    /// <summary>Packs W; element (r, c) is read at matrix[r * rowStride + c * columnStride], so a transpose is a matter of strides.</summary>
    public PackedMatrix(float* matrix, int rows, int columns, long rowStride, long columnStride)
    {
        Rows = rows;
        Columns = columns;
        var width = 3 * Lanes;
        Stride = (columns + 47) / 48 * 48;
        _panels = (float*)NativeMemory.AlignedAlloc((nuint)rows * (nuint)Stride * sizeof(float), 64);
        var target = _panels;
        for (var start = 0; start < Stride; start += width)
        {
            for (var r = 0; r < rows; r++)
            {
                for (var c = start; c < start + width; c++) *target++ = c < columns ? matrix[r * rowStride + c * columnStride] : 0;
            }
        }
    }

    /// <summary>Rows of W, the inner dimension of the product.</summary>
    public int Rows { get; }

    /// <summary>Columns of W.</summary>
    public int Columns { get; }

    /// <summary>Columns of W rounded up to a multiple of 48: the least row stride of a product, in floats.</summary>
    public int Stride { get; }

    /// <summary>Computes Y = X·W. Columns of Y from <see cref="Columns"/> to <see cref="Stride"/> become zero.</summary>
    /// <param name="x">X [count, Rows], rows <paramref name="xStride"/> floats apart.</param>
    /// <param name="count">Rows of X.</param>
    /// <param name="xStride">Distance of two rows of X, in floats.</param>
    /// <param name="y">Y [count, Stride], rows <paramref name="yStride"/> floats apart.</param>
    /// <param name="yStride">Distance of two rows of Y, in floats, at least <see cref="Stride"/>.</param>
    public void Multiply(float* x, int count, long xStride, float* y, long yStride)
    {
        var width = 3 * Lanes;
        for (var column = 0; column < Stride; column += width)
        {
            var panel = _panels + (long)column * Rows;
            var row = 0;
            for (; row + 4 <= count; row += 4)
                Tile(x + row * xStride, xStride, panel, y + row * yStride + column, yStride);
            for (; row < count; row++)
                Tile(x + row * xStride, 0, panel, y + row * yStride + column, 0); // four times the same row
        }
    }

    private void Tile(float* x, long xStride, float* panel, float* y, long yStride)
    {
        if (Vector512.IsHardwareAccelerated)
            Tile512(x, x + xStride, x + 2 * xStride, x + 3 * xStride, panel, Rows, y, yStride);
        else
            Tile256(x, x + xStride, x + 2 * xStride, x + 3 * xStride, panel, Rows, y, yStride);
    }

    private static void Tile512(float* x0, float* x1, float* x2, float* x3, float* w, int inner, float* y, long yStride)
    {
        Vector512<float> a0 = default, a1 = default, a2 = default, b0 = default, b1 = default, b2 = default;
        Vector512<float> c0 = default, c1 = default, c2 = default, d0 = default, d1 = default, d2 = default;
        for (nint i = 0; i < inner; i++, w += 48)
        {
            var w0 = Vector512.Load(w);
            var w1 = Vector512.Load(w + 16);
            var w2 = Vector512.Load(w + 32);
            var v = Vector512.Create(x0[i]);
            a0 = Vector512.FusedMultiplyAdd(v, w0, a0);
            a1 = Vector512.FusedMultiplyAdd(v, w1, a1);
            a2 = Vector512.FusedMultiplyAdd(v, w2, a2);
            v = Vector512.Create(x1[i]);
            b0 = Vector512.FusedMultiplyAdd(v, w0, b0);
            b1 = Vector512.FusedMultiplyAdd(v, w1, b1);
            b2 = Vector512.FusedMultiplyAdd(v, w2, b2);
            v = Vector512.Create(x2[i]);
            c0 = Vector512.FusedMultiplyAdd(v, w0, c0);
            c1 = Vector512.FusedMultiplyAdd(v, w1, c1);
            c2 = Vector512.FusedMultiplyAdd(v, w2, c2);
            v = Vector512.Create(x3[i]);
            d0 = Vector512.FusedMultiplyAdd(v, w0, d0);
            d1 = Vector512.FusedMultiplyAdd(v, w1, d1);
            d2 = Vector512.FusedMultiplyAdd(v, w2, d2);
        }
        a0.Store(y);
        a1.Store(y + 16);
        a2.Store(y + 32);
        b0.Store(y += yStride);
        b1.Store(y + 16);
        b2.Store(y + 32);
        c0.Store(y += yStride);
        c1.Store(y + 16);
        c2.Store(y + 32);
        d0.Store(y += yStride);
        d1.Store(y + 16);
        d2.Store(y + 32);
    }

    private static void Tile256(float* x0, float* x1, float* x2, float* x3, float* w, int inner, float* y, long yStride)
    {
        Vector256<float> a0 = default, a1 = default, a2 = default, b0 = default, b1 = default, b2 = default;
        Vector256<float> c0 = default, c1 = default, c2 = default, d0 = default, d1 = default, d2 = default;
        for (nint i = 0; i < inner; i++, w += 24)
        {
            var w0 = Vector256.Load(w);
            var w1 = Vector256.Load(w + 8);
            var w2 = Vector256.Load(w + 16);
            var v = Vector256.Create(x0[i]);
            a0 = Vector256.FusedMultiplyAdd(v, w0, a0);
            a1 = Vector256.FusedMultiplyAdd(v, w1, a1);
            a2 = Vector256.FusedMultiplyAdd(v, w2, a2);
            v = Vector256.Create(x1[i]);
            b0 = Vector256.FusedMultiplyAdd(v, w0, b0);
            b1 = Vector256.FusedMultiplyAdd(v, w1, b1);
            b2 = Vector256.FusedMultiplyAdd(v, w2, b2);
            v = Vector256.Create(x2[i]);
            c0 = Vector256.FusedMultiplyAdd(v, w0, c0);
            c1 = Vector256.FusedMultiplyAdd(v, w1, c1);
            c2 = Vector256.FusedMultiplyAdd(v, w2, c2);
            v = Vector256.Create(x3[i]);
            d0 = Vector256.FusedMultiplyAdd(v, w0, d0);
            d1 = Vector256.FusedMultiplyAdd(v, w1, d1);
            d2 = Vector256.FusedMultiplyAdd(v, w2, d2);
        }
        a0.Store(y);
        a1.Store(y + 8);
        a2.Store(y + 16);
        b0.Store(y += yStride);
        b1.Store(y + 8);
        b2.Store(y + 16);
        c0.Store(y += yStride);
        c1.Store(y + 8);
        c2.Store(y + 16);
        d0.Store(y += yStride);
        d1.Store(y + 8);
        d2.Store(y + 16);
    }

    /// <summary>Frees the packed copy.</summary>
    public void Dispose()
    {
        NativeMemory.AlignedFree(_panels);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the packed copy.</summary>
    ~PackedMatrix() => NativeMemory.AlignedFree(_panels);
}
