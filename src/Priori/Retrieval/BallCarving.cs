using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// Ball carving of a query before the exact reranking (MUVERA, appendix C.3): near tokens are replaced by their sum, so fewer products are needed.
/// It is not meant for the encoding.
/// </summary>
public static unsafe class BallCarving
{
    /// <summary>Greedily takes the first token without a cluster and joins to it every remaining token with inner product at least tau.</summary>
    /// <param name="query">[|Q|, d], unit rows.</param>
    /// <param name="tau">The least inner product inside a cluster. Paper: 0.7. Above 1 every token stays alone and the score is exact.</param>
    /// <returns>[clusters, d], the sums of the members, in the order of the clusters' first tokens.</returns>
    public static Tensor Carve(Tensor query, double tau = 0.7)
    {
        using var scope = NewDisposeScope();
        var clusters = Clusters(query, tau);
        return zeros([clusters.Max() + 1, query.shape[1]], query.dtype, query.device)
            .index_add_(0, tensor(clusters, ScalarType.Int64).to(query.device), query, 1).MoveToOuterDisposeScope();
    }

    /// <summary>The cluster of every token, numbered from 0 in the order of their first tokens.</summary>
    /// <param name="query">[|Q|, d], at least one row.</param>
    /// <param name="tau">The least inner product inside a cluster.</param>
    /// <exception cref="ArgumentException">The query is empty or not [|Q|, d].</exception>
    public static int[] Clusters(Tensor query, double tau)
    {
        if (query.dim() != 2 || query.shape[0] == 0) throw new ArgumentException($"The query must be [|Q|, d] with at least one vector, not [{string.Join(", ", query.shape)}].", nameof(query));
        using var scope = NewDisposeScope();
        var (n, d) = ((int)query.shape[0], (int)query.shape[1]);
        var tokens = TensorMemory.ToFloat32(query);
        var x = TensorMemory.Pointer<float>(tokens);
        var cluster = Enumerable.Repeat(-1, n).ToArray();
        var next = 0;
        for (var i = 0; i < n; i++)
        {
            if (cluster[i] >= 0) continue;
            cluster[i] = next;
            for (var j = i + 1; j < n; j++)
            {
                if (cluster[j] < 0 && FlatIndex.Dot(x + (long)i * d, x + (long)j * d, d) >= tau) cluster[j] = next;
            }
            next++;
        }
        GC.KeepAlive(tokens);
        return cluster;
    }
}
