namespace Priori.Numerics;

/// <summary>Leading singular triples of a matrix: A ~ U diag(S) V^T.</summary>
/// <param name="U">Left singular vectors [rows, rank], orthonormal columns.</param>
/// <param name="S">Singular values [rank], descending.</param>
/// <param name="V">Right singular vectors [columns, rank], orthonormal columns; the largest entry of each by absolute value is positive.</param>
public sealed record SvdFactors(Tensor U, Tensor S, Tensor V);

/// <summary>
/// Truncated singular value decomposition by randomised subspace iteration (Halko, Martinsson, Tropp, SIAM Review 2011, algorithm 4.4 and 5.1).
/// The matrix is only multiplied, so a sparse one is never made dense; memory is (rows + columns) x (rank + oversampling).
/// </summary>
public static class TruncatedSvd
{
    /// <summary>Computes the leading triples. Exact (to rounding) where rank + oversampling reaches the smaller side of the matrix or its rank.</summary>
    /// <param name="matrix">Dense or sparse, floating point [rows, columns].</param>
    /// <param name="rank">Triples wanted, 1..min(rows, columns).</param>
    /// <param name="iterations">Passes of the subspace iteration over A and A^T; the error of a direction falls with (s_(rank + oversampling + 1) / s)^(2 iterations + 1). Default 8.</param>
    /// <param name="oversampling">Further directions that are carried along. Default 16.</param>
    /// <param name="seed">Seed of the first subspace.</param>
    /// <exception cref="ArgumentException">The matrix is not two-dimensional and floating point, or the rank is outside its range.</exception>
    public static SvdFactors Compute(Tensor matrix, int rank, int iterations = 8, int oversampling = 16, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        if (matrix.dim() != 2 || !matrix.is_floating_point()) throw new ArgumentException($"A floating-point matrix was expected, not {matrix.dtype} [{string.Join(", ", matrix.shape)}].", nameof(matrix));
        long smaller = Math.Min(matrix.size(0), matrix.size(1));
        if (rank < 1 || rank > smaller) throw new ArgumentOutOfRangeException(nameof(rank), rank, $"The rank must be in 1..{smaller}.");
        ArgumentOutOfRangeException.ThrowIfNegative(iterations);
        ArgumentOutOfRangeException.ThrowIfNegative(oversampling);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor transposed = matrix.t();
        Tensor basis = randn([matrix.size(1), Math.Min(rank + oversampling, smaller)], matrix.dtype, device: CPU, generator: new Generator((ulong)seed)).to(matrix.device);
        basis = Orthonormal(matrix.matmul(basis));
        for (int i = 0; i < iterations; i++) basis = Orthonormal(matrix.matmul(Orthonormal(transposed.matmul(basis))));
        // A ~ Q Q^T A, and A^T Q = V S W^T is small: U = Q W.
        var (v, s, wt) = linalg.svd(transposed.matmul(basis), fullMatrices: false);
        Tensor u = basis.matmul(wt.t()).narrow(1, 0, rank);
        v = v.narrow(1, 0, rank);
        Tensor sign = v.gather(0, v.abs().argmax(0, keepdim: true)).sign();
        return new SvdFactors((u * sign).MoveToOuterDisposeScope(), s.narrow(0, 0, rank).clone().MoveToOuterDisposeScope(), (v * sign).MoveToOuterDisposeScope());
    }

    private static Tensor Orthonormal(Tensor columns) => linalg.qr(columns).Q;
}
