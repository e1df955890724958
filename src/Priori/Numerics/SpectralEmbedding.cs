namespace Priori.Numerics;

/// <summary>Coordinates of the nodes of a weighted graph.</summary>
/// <param name="Eigenvalues">The k smallest eigenvalues of the normalised Laplacian, ascending, in 0..2 [k], float64.</param>
/// <param name="Vectors">Their eigenvectors, orthonormal columns [n, k], float64; the largest entry of each by absolute value is positive.</param>
public sealed record SpectralNodes(Tensor Eigenvalues, Tensor Vectors)
{
    /// <summary>The vectors with rows of length 1 (Ng, Jordan and Weiss, NIPS 2001), ready for k-means; a row of zeros stays.</summary>
    public Tensor UnitRows()
    {
        using DisposeScope scope = NewDisposeScope();
        return (Vectors / Vectors.norm(1, keepdim: true, p: 2).clamp_min(1e-12)).MoveToOuterDisposeScope();
    }
}

/// <summary>Spectral embedding of a graph by the symmetric normalised Laplacian L = D^(-1/2) (D - A) D^(-1/2).</summary>
public static class SpectralEmbedding
{
    private const int Dense = 1024; // nodes up to which the whole decomposition is the quicker way

    /// <summary>The symmetric normalised Laplacian [n, n], float64. A node without edges has a zero row, thus the eigenvalue 0: it is a component of its own.</summary>
    /// <param name="affinity">A [n, n], symmetric, finite, at least 0; its diagonal counts as given.</param>
    /// <exception cref="ArgumentException">The matrix is not of this kind.</exception>
    public static Tensor NormalizedLaplacian(Tensor affinity)
    {
        using DisposeScope scope = NewDisposeScope();
        (Tensor scaled, Tensor degree) = Scaled(affinity);
        return ((degree > 0).to(float64).diag() - scaled).MoveToOuterDisposeScope();
    }

    /// <summary>The k smallest eigenvalues and eigenvectors: all by a dense decomposition up to 1,024 nodes, by subspace iteration above.</summary>
    /// <param name="affinity">A [n, n], symmetric, finite, at least 0.</param>
    /// <param name="dimensions">k, 1 to n.</param>
    /// <exception cref="ArgumentException">The matrix is not of this kind, or k is outside its range.</exception>
    public static SpectralNodes Fit(Tensor affinity, int dimensions)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        (Tensor scaled, Tensor degree) = Scaled(affinity);
        long n = scaled.shape[0];
        if (dimensions < 1 || dimensions > n) throw new ArgumentOutOfRangeException(nameof(dimensions), dimensions, $"A graph of {n} nodes has 1..{n} dimensions.");
        Tensor edges = (degree > 0).to(float64).diag(), values, vectors;
        if (n <= Dense || dimensions > n / 8)
        {
            (values, vectors) = linalg.eigh(edges - scaled);
            (values, vectors) = (values.narrow(0, 0, dimensions), vectors.narrow(1, 0, dimensions));
        }
        else
        {
            // 2 - L is positive semidefinite: its largest singular vectors are the smallest eigenvectors of L.
            Tensor shifted = 2 * eye(n, dtype: float64, device: scaled.device) - edges + scaled;
            SvdFactors leading = TruncatedSvd.Compute(shifted, dimensions, iterations: 40, oversampling: Math.Max(16, dimensions));
            (values, vectors) = (2 - leading.S, leading.V);
        }
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim: true)).sign();
        return new SpectralNodes(values.clamp(0, 2).MoveToOuterDisposeScope(), vectors.MoveToOuterDisposeScope());
    }

    private static (Tensor Scaled, Tensor Degree) Scaled(Tensor affinity)
    {
        ArgumentNullException.ThrowIfNull(affinity);
        if (affinity.dim() != 2 || affinity.shape[0] != affinity.shape[1] || affinity.numel() == 0) throw new ArgumentException($"The affinity must be [n, n], not [{string.Join(", ", affinity.shape)}].", nameof(affinity));
        Tensor a = affinity.detach().to(float64);
        if (!a.isfinite().all().item<bool>() || (a < 0).any().item<bool>()) throw new ArgumentException("Affinities must be finite and at least 0.", nameof(affinity));
        if ((a - a.t()).abs().max().item<double>() > 1e-9 * a.max().item<double>()) throw new ArgumentException("The affinity must be symmetric.", nameof(affinity));
        Tensor degree = a.sum(dim: 1), root = where(degree > 0, degree.rsqrt(), zeros_like(degree));
        return (a * root.unsqueeze(1) * root, degree);
    }
}
