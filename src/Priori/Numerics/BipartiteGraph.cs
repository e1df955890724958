namespace Priori.Numerics;

/// <summary>Pairs between two kinds of things (users and items) as a sparse matrix.</summary>
public static class BipartiteGraph
{
    /// <summary>
    /// The symmetrically normalised incidence matrix D_r^(-1/2) A D_c^(-1/2) (LightGCN, He et al., SIGIR 2020, eq. 3): entry (r, c) of a pair is 1 / sqrt(degree of r * degree of c).
    /// A pair that occurs more than once counts once.
    /// </summary>
    /// <param name="rows">Row of each pair, int64 [pairs].</param>
    /// <param name="columns">Column of each pair, int64 [pairs].</param>
    /// <param name="rowCount">Number of rows.</param>
    /// <param name="columnCount">Number of columns.</param>
    /// <returns>Sparse float32 [rowCount, columnCount]; multiply with <c>matmul</c>.</returns>
    /// <exception cref="ArgumentException">There is no pair, the lengths differ, or an index is outside its range.</exception>
    public static Tensor Normalized(Tensor rows, Tensor columns, long rowCount, long columnCount)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentNullException.ThrowIfNull(columns);
        if (rows.dim() != 1 || columns.dim() != 1 || rows.numel() != columns.numel() || rows.numel() == 0)
            throw new ArgumentException($"Pairs need as many rows as columns and at least one, not [{string.Join(", ", rows.shape)}] and [{string.Join(", ", columns.shape)}].", nameof(columns));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Check(rows, rowCount, nameof(rows));
        Check(columns, columnCount, nameof(columns));
        Tensor pairs = (rows * columnCount + columns).unique(sorted: true).output;
        Tensor r = pairs.div(columnCount, RoundingMode.floor), c = pairs - r * columnCount;
        Tensor rowDegree = r.bincount(null, rowCount), columnDegree = c.bincount(null, columnCount);
        Tensor values = (rowDegree[r] * columnDegree[c]).to(ScalarType.Float64).rsqrt().to(ScalarType.Float32);
        return sparse_coo_tensor(stack([r, c]), values, [rowCount, columnCount]).MoveToOuterDisposeScope();
    }

    private static void Check(Tensor index, long count, string name)
    {
        if (index.min().ToInt64() < 0 || index.max().ToInt64() >= count) throw new ArgumentException($"An index is outside 0..{count - 1}.", name);
    }
}
