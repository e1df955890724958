namespace Priori.Numerics;

/// <summary>
/// Principal component analysis, exact: the eigenvectors of the covariance or of the Gram matrix, whichever is smaller, in double precision.
/// Device and type of all results follow the data; the sign of each component makes its largest entry by absolute value positive, so results repeat.
/// </summary>
public sealed class Pca
{
    private Pca(Tensor mean, Tensor components, Tensor explainedVariance, double totalVariance)
        => (Mean, Components, ExplainedVariance, TotalVariance) = (mean, components, explainedVariance, totalVariance);

    /// <summary>Mean of the rows [d].</summary>
    public Tensor Mean { get; }

    /// <summary>Orthonormal directions [k, d], the one of the largest variance first.</summary>
    public Tensor Components { get; }

    /// <summary>Variance along each component [k], with divisor n - 1.</summary>
    public Tensor ExplainedVariance { get; }

    /// <summary>Variance of the data along all directions together, with divisor n - 1.</summary>
    public double TotalVariance { get; }

    /// <summary>Fits the components.</summary>
    /// <param name="data">Floating point [n, d], n at least 2.</param>
    /// <param name="components">Components k, 1 to min(n, d).</param>
    /// <exception cref="ArgumentException">The data are no matrix of finite numbers, or k is outside its range.</exception>
    public static Pca Fit(Tensor data, int components)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (data.dim() != 2 || !data.is_floating_point() || data.shape[0] < 2) throw new ArgumentException($"Data must be floating point [n, d] with n at least 2, not {data.dtype} [{string.Join(", ", data.shape)}].", nameof(data));
        long n = data.shape[0], d = data.shape[1];
        if (components < 1 || components > Math.Min(n, d)) throw new ArgumentOutOfRangeException(nameof(components), components, $"Data [{n}, {d}] have 1..{Math.Min(n, d)} components.");
        if (!data.isfinite().all().item<bool>()) throw new ArgumentException("The data hold NaN or infinity.", nameof(data));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = data.to(float64);
        Tensor mean = x.mean([0L]);
        x = x - mean;
        (Tensor values, Tensor vectors) = linalg.eigh(d <= n ? x.t().matmul(x) : x.matmul(x.t())); // ascending
        values = values.flip(0).narrow(0, 0, components).clamp_min(0);
        vectors = vectors.flip(1).narrow(1, 0, components);
        if (d > n)
        {
            // X^T u has the length of the singular value. QR restores orthonormal directions where that is zero, up to signs, which are settled below.
            vectors = linalg.qr(x.t().matmul(vectors) / values.sqrt().clamp_min(1e-300)).Q;
        }
        Tensor rows = vectors.t();
        rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim: true)).sign();
        Tensor Result(Tensor t) => t.to(data.dtype).contiguous().MoveToOuterDisposeScope();
        return new Pca(Result(mean), Result(rows), Result(values / (n - 1)), x.square().sum().item<double>() / (n - 1));
    }

    /// <summary>Components known from before, such as those of a saved model.</summary>
    /// <param name="mean">Mean of the rows [d].</param>
    /// <param name="components">Orthonormal directions [k, d].</param>
    /// <param name="explainedVariance">Variance along each [k].</param>
    /// <param name="totalVariance">Variance along all directions together.</param>
    /// <exception cref="ArgumentException">The shapes do not fit together.</exception>
    public static Pca Of(Tensor mean, Tensor components, Tensor explainedVariance, double totalVariance)
    {
        ArgumentNullException.ThrowIfNull(mean);
        ArgumentNullException.ThrowIfNull(components);
        ArgumentNullException.ThrowIfNull(explainedVariance);
        if (mean.dim() != 1 || components.dim() != 2 || explainedVariance.dim() != 1 || components.shape[1] != mean.shape[0] || components.shape[0] != explainedVariance.shape[0])
            throw new ArgumentException($"Mean [{string.Join(", ", mean.shape)}], components [{string.Join(", ", components.shape)}] and variances [{string.Join(", ", explainedVariance.shape)}] must be [d], [k, d] and [k].", nameof(components));
        return new Pca(mean, components, explainedVariance, totalVariance);
    }

    /// <summary>Coordinates along the components.</summary>
    /// <param name="data">[n, d].</param>
    /// <returns>[n, k].</returns>
    /// <exception cref="ArgumentException">The width differs from that of the fitted data.</exception>
    public Tensor Transform(Tensor data)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (data.dim() != 2 || data.shape[1] != Mean.shape[0]) throw new ArgumentException($"Data must be [n, {Mean.shape[0]}], not [{string.Join(", ", data.shape)}].", nameof(data));
        using DisposeScope scope = NewDisposeScope();
        return (data - Mean).matmul(Components.t()).MoveToOuterDisposeScope();
    }

    /// <summary>Back from coordinates to rows: the nearest point of the components' plane.</summary>
    /// <param name="coordinates">[n, k].</param>
    /// <returns>[n, d].</returns>
    /// <exception cref="ArgumentException">There are not as many coordinates as components.</exception>
    public Tensor Inverse(Tensor coordinates)
    {
        ArgumentNullException.ThrowIfNull(coordinates);
        if (coordinates.dim() != 2 || coordinates.shape[1] != Components.shape[0]) throw new ArgumentException($"Coordinates must be [n, {Components.shape[0]}], not [{string.Join(", ", coordinates.shape)}].", nameof(coordinates));
        using DisposeScope scope = NewDisposeScope();
        return (coordinates.matmul(Components) + Mean).MoveToOuterDisposeScope();
    }
}
