using System.Runtime.Intrinsics;
using Priori.Data;
using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// The Chamfer similarity, ColBERT's MaxSim: CHAMFER(Q, P) = sum over q in Q of max over p in P of &lt;q, p&gt;. It sums over the query and takes the maximum over the
/// document, so it is not symmetric.
/// </summary>
public static unsafe class MaxSim
{
    /// <summary>CHAMFER(Q, P). Differentiable.</summary>
    /// <param name="query">[|Q|, d].</param>
    /// <param name="document">[m, d].</param>
    /// <returns>A scalar on the tensors' device.</returns>
    /// <exception cref="ArgumentException">A set is empty or the dimensions differ.</exception>
    public static Tensor Score(Tensor query, Tensor document)
    {
        Check(query, document);
        if (document.shape[0] == 0) throw new ArgumentException("The document is empty; a set has at least one vector.", nameof(document));
        using var scope = NewDisposeScope();
        return query.matmul(document.t()).amax([1]).sum().MoveToOuterDisposeScope();
    }

    /// <summary>CHAMFER of one query with many documents.</summary>
    /// <param name="query">[|Q|, d].</param>
    /// <param name="flat">[T, d], the tokens of all documents.</param>
    /// <param name="offsets">n + 1 row numbers: document i is rows offsets[i] up to offsets[i + 1].</param>
    /// <returns>[n] float32.</returns>
    /// <exception cref="ArgumentException">A set is empty, the dimensions differ, or the offsets do not fit.</exception>
    public static Tensor Scores(Tensor query, Tensor flat, long[] offsets)
    {
        using var scope = NewDisposeScope();
        return Scores(query, [0, query.shape[0]], flat, offsets).squeeze(0).MoveToOuterDisposeScope();
    }

    /// <summary>CHAMFER of every query with every document.</summary>
    /// <param name="queries">[S, d], the tokens of all queries.</param>
    /// <param name="queryOffsets">Row numbers of the queries.</param>
    /// <param name="flat">[T, d], the tokens of all documents, on the queries' device.</param>
    /// <param name="offsets">Row numbers of the documents.</param>
    /// <returns>[queries, documents] float32.</returns>
    /// <exception cref="ArgumentException">A set is empty, the dimensions differ, or the offsets do not fit.</exception>
    public static Tensor Scores(Tensor queries, long[] queryOffsets, Tensor flat, long[] offsets)
    {
        Check(queries, flat);
        MultiVectorSet.CheckOffsets(queryOffsets, queries.shape[0]);
        MultiVectorSet.CheckOffsets(offsets, flat.shape[0]);
        CheckNotEmpty(queryOffsets, "query");
        CheckNotEmpty(offsets, "document");
        using var scope = NewDisposeScope();
        var (count, n) = (queryOffsets.Length - 1, offsets.Length - 1);
        if (queries.device.type != DeviceType.CPU) return PaddedScores(queries, queryOffsets, flat, offsets).MoveToOuterDisposeScope();
        var (q, p) = (TensorMemory.ToFloat32(queries), TensorMemory.ToFloat32(flat));
        var result = empty([count, n]);
        var tokens = TensorMemory.Pointer<float>(p);
        var scores = TensorMemory.Pointer<float>(result);
        var d = (int)q.shape[1];
        // About four panels of query tokens at a time: one pass over the documents serves several queries.
        for (int start = 0, end; start < count; start = end)
        {
            for (end = start + 1; end < count && queryOffsets[end + 1] - queryOffsets[start] <= 192; end++) { }
            using var scorer = new Scorer(TensorMemory.Pointer<float>(q) + queryOffsets[start] * d, [.. queryOffsets[start..(end + 1)].Select(o => (int)(o - queryOffsets[start]))], d);
            var first = start;
            Parallel.For(0, (n + 15) / 16, TensorMemory.Threads((double)offsets[n] * d * (queryOffsets[end] - queryOffsets[first])), () => new NativeBuffer<float>(), (block, _, scratch) =>
            {
                for (var i = block * 16; i < Math.Min(n, block * 16 + 16); i++)
                    scorer.Score(tokens + offsets[i] * d, (int)(offsets[i + 1] - offsets[i]), scores + (long)first * n + i, n, scratch);
                return scratch;
            }, scratch => scratch.Dispose());
        }
        GC.KeepAlive(p);
        GC.KeepAlive(q);
        return result.MoveToOuterDisposeScope();
    }

    private static void Check(Tensor query, Tensor document)
    {
        if (query.dim() != 2 || document.dim() != 2 || query.shape[1] != document.shape[1])
            throw new ArgumentException($"Query [{string.Join(", ", query.shape)}] and document [{string.Join(", ", document.shape)}] must be [|Q|, d] and [m, d].", nameof(document));
        if (query.shape[0] == 0) throw new ArgumentException("The query is empty; a set has at least one vector.", nameof(query));
    }

    private static void CheckNotEmpty(long[] offsets, string kind)
    {
        for (var i = 0; i + 1 < offsets.Length; i++)
        {
            if (offsets[i] == offsets[i + 1]) throw new ArgumentException($"The {kind} at position {i} is empty; a set has at least one vector.", nameof(offsets));
        }
    }

    /// <summary>The scores by torch's operations on documents padded to the longest, for tensors on any device.</summary>
    internal static Tensor PaddedScores(Tensor queries, long[] queryOffsets, Tensor flat, long[] offsets)
    {
        var (n, device) = (offsets.Length - 1, flat.device);
        var longest = Enumerable.Range(0, n).Max(i => offsets[i + 1] - offsets[i]);
        var place = tensor(Enumerable.Range(0, n).SelectMany(i => Enumerable.Range(0, (int)(offsets[i + 1] - offsets[i])).Select(t => i * longest + t)).ToArray()).to(device);
        var rows = new List<Tensor>();
        for (var i = 0; i + 1 < queryOffsets.Length; i++)
        {
            using var scope = NewDisposeScope();
            var query = queries.narrow(0, queryOffsets[i], queryOffsets[i + 1] - queryOffsets[i]).to(ScalarType.Float32);
            var padded = full([n * longest, query.shape[0]], float.NegativeInfinity, device: device).index_copy(0, place, flat.to(ScalarType.Float32).matmul(query.t()));
            rows.Add(padded.view(n, longest, -1).amax([1]).sum(1).MoveToOuterDisposeScope());
        }
        return stack(rows);
    }

    /// <summary>Packed tokens of one or several queries, to be scored with document after document.</summary>
    internal sealed class Scorer(float* queries, int[] offsets, int dimension) : IDisposable
    {
        private readonly PackedMatrix _tokens = new(queries, dimension, offsets[^1], 1, dimension);

        /// <summary>Writes the score of query i to scores[i * stride]. One scratch a thread.</summary>
        public void Score(float* document, int rows, float* scores, long stride, NativeBuffer<float> scratch)
        {
            var width = _tokens.Stride;
            if (scratch.Length < (long)rows * width) scratch.Resize((long)rows * width);
            var y = scratch.Pointer;
            _tokens.Multiply(document, rows, dimension, y, width);
            for (var row = 1; row < rows; row++)
            {
                var next = y + (long)row * width;
                for (var i = 0; i < width; i += 16)
                    Vector512.Max(Vector512.Load(y + i), Vector512.Load(next + i)).Store(y + i);
            }
            for (var query = 0; query + 1 < offsets.Length; query++)
            {
                float sum = 0;
                for (var i = offsets[query]; i < offsets[query + 1]; i++) sum += y[i];
                scores[query * stride] = sum;
            }
        }

        public void Dispose() => _tokens.Dispose();
    }
}
