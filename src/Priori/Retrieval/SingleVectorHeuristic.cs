using Priori.Data;
using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// The single-vector heuristic, the candidate generation that MUVERA replaces (section 3.1): every query token looks up its nearest document tokens, and the
/// documents of all first neighbours come first, then those of all second neighbours, and so on.
/// </summary>
public static class SingleVectorHeuristic
{
    /// <summary>Ranks documents for one query.</summary>
    /// <param name="query">[|Q|, d].</param>
    /// <param name="documents">The documents.</param>
    /// <param name="neighbors">Nearest tokens looked up for every query token; at most all.</param>
    /// <returns>The document (position) of every neighbour in interleaved order: |Q| * neighbors entries. <see cref="Deduplicate"/> keeps first occurrences.</returns>
    public static int[] Rank(Tensor query, MultiVectorSet documents, int neighbors) => Rank(MultiVectorSet.From([query]), documents, neighbors)[0];

    /// <summary>Ranks documents for many queries.</summary>
    /// <param name="queries">The queries.</param>
    /// <param name="documents">The documents.</param>
    /// <param name="neighbors">Nearest tokens looked up for every query token; at most all.</param>
    /// <returns>As in the other overload, one array a query.</returns>
    /// <exception cref="ArgumentException">The dimensions differ.</exception>
    public static int[][] Rank(MultiVectorSet queries, MultiVectorSet documents, int neighbors)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(neighbors, 1);
        if (queries.Dimension != documents.Dimension)
            throw new ArgumentException($"Queries have {queries.Dimension} dimensions, documents {documents.Dimension}.", nameof(documents));
        neighbors = (int)Math.Min(neighbors, documents.Vectors.shape[0]);
        var owner = new int[documents.Offsets[^1]];
        for (var i = 0; i < documents.Count; i++) owner.AsSpan((int)documents.Offsets[i]..(int)documents.Offsets[i + 1]).Fill(i);
        var result = new int[queries.Count][];
        for (var i = 0; i < result.Length; i++)
        {
            using var scope = NewDisposeScope();
            var nearest = Nearest(queries[i].matmul(documents.Vectors.t()), neighbors);
            result[i] = [.. Enumerable.Range(0, neighbors).SelectMany(rank => nearest.Select(tokens => owner[tokens[rank]]))];
        }
        return result;
    }

    /// <summary>The columns of the largest values of every row. On the CPU a heap that few values enter is many times faster than torch's partial sort.</summary>
    private static unsafe int[][] Nearest(Tensor similarities, int count)
    {
        var (rows, length) = ((int)similarities.shape[0], (int)similarities.shape[1]);
        var result = new int[rows][];
        if (similarities.device.type != DeviceType.CPU)
        {
            var columns = similarities.topk(count, 1).indexes.cpu().data<long>().ToArray();
            for (var row = 0; row < rows; row++) result[row] = [.. columns.AsSpan(row * count, count).ToArray().Select(column => (int)column)];
            return result;
        }
        var contiguous = TensorMemory.ToFloat32(similarities);
        var values = TensorMemory.Pointer<float>(contiguous);
        Parallel.For(0, rows, TensorMemory.Threads((double)rows * length), row =>
        {
            var best = new TopK(count);
            var from = values + (long)row * length;
            for (var column = 0; column < length; column++)
            {
                if (from[column] >= best.Threshold) best.Push(column, from[column]);
            }
            result[row] = best.Sorted().Positions;
        });
        GC.KeepAlive(contiguous);
        return result;
    }

    /// <summary>Keeps the first occurrence of every document.</summary>
    public static int[] Deduplicate(int[] ranking) => [.. ranking.Distinct()];
}
