using System.Buffers;
using System.Numerics;

namespace Priori.Training;

/// <summary>The rows of a sparse gradient: a row that occurs several times stands several times in what backpropagation leaves.</summary>
internal static unsafe class SparseRows
{
    /// <summary>The distinct rows in ascending order, int64 [u], and the sums of their values, [u, ...].</summary>
    /// <param name="indices">int64 [1, n], as of a sparse tensor.</param>
    /// <param name="values">[n, ...].</param>
    public static (Tensor Rows, Tensor Sums) Sum(Tensor indices, Tensor values)
    {
        (Tensor rows, Tensor? inverse, _) = indices.view(-1).unique(sorted: true, return_inverse: true);
        return (rows, zeros([rows.size(0), .. values.shape[1..]], values.dtype, values.device).index_add_(0, inverse!, values, 1));
    }

    /// <summary>The distinct rows in the order of first appearance, and the sums of their values in the order of appearance.</summary>
    /// <returns>The number of distinct rows.</returns>
    public static int Sum<T>(long* indices, T* values, int count, int dim, Span<long> rows, Span<T> sums)
        where T : unmanaged, INumber<T>
    {
        int bits = BitOperations.Log2((uint)count) + 2; // At least twice as many places as rows.
        int[] places = ArrayPool<int>.Shared.Rent(1 << bits);
        Span<int> table = places.AsSpan(0, 1 << bits);
        table.Clear();
        int distinct = 0;
        for (int i = 0; i < count; i++)
        {
            long row = indices[i];
            var from = new ReadOnlySpan<T>(values + ((long)i * dim), dim);
            uint place = (uint)(((ulong)row * 0x9E3779B97F4A7C15) >> (64 - bits)); // Fibonacci hashing (Knuth, volume 3, section 6.4).
            while (table[(int)place] != 0 && rows[table[(int)place] - 1] != row) place = (place + 1) & (uint)(table.Length - 1);
            ref int found = ref table[(int)place];
            if (found == 0)
            {
                rows[distinct] = row;
                from.CopyTo(sums.Slice(distinct * dim, dim));
                found = ++distinct;
                continue;
            }
            Span<T> to = sums.Slice((found - 1) * dim, dim);
            for (int j = 0; j < dim; j++) to[j] += from[j];
        }
        ArrayPool<int>.Shared.Return(places);
        return distinct;
    }
}
