namespace Priori.Numerics;

/// <summary>
/// The orthogonal Procrustes problem (Schönemann, Psychometrika 1966): the orthogonal map, with a scale and a shift where wanted, that brings one set of points nearest to another in least squares.
/// The widths of the two spaces may differ: the map is then orthogonal on the smaller one.
/// </summary>
public sealed class Procrustes
{
    private Procrustes(Tensor rotation, double scale, Tensor sourceMean, Tensor targetMean)
        => (Rotation, Scale, SourceMean, TargetMean) = (rotation, scale, sourceMean, targetMean);

    /// <summary>Orthonormal rows or columns, whichever are fewer [source width, target width].</summary>
    public Tensor Rotation { get; }

    /// <summary>Scale, 1 where none was fitted.</summary>
    public double Scale { get; }

    /// <summary>What is subtracted from source points [source width]; zeros where no shift was fitted.</summary>
    public Tensor SourceMean { get; }

    /// <summary>What is added to mapped points [target width]; zeros where no shift was fitted.</summary>
    public Tensor TargetMean { get; }

    /// <summary>Fits the map from pairs: row i of the source belongs to row i of the target.</summary>
    /// <param name="source">Floating point [n, a].</param>
    /// <param name="target">[n, b] of the same type and device.</param>
    /// <param name="scaled">Whether a common scale is fitted. Default false.</param>
    /// <param name="centered">Whether the means are brought onto each other. Default false: the origin stays.</param>
    /// <exception cref="ArgumentException">Row counts, types or devices differ, or a number is not finite.</exception>
    public static Procrustes Fit(Tensor source, Tensor target, bool scaled = false, bool centered = false)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(target);
        if (source.dim() != 2 || target.dim() != 2 || source.shape[0] != target.shape[0] || source.shape[0] < 1)
            throw new ArgumentException($"Source [{string.Join(", ", source.shape)}] and target [{string.Join(", ", target.shape)}] must be [n, a] and [n, b].", nameof(target));
        if (!source.is_floating_point() || source.dtype != target.dtype || source.device.ToString() != target.device.ToString())
            throw new ArgumentException($"Source ({source.dtype}, {source.device}) and target ({target.dtype}, {target.device}) must be of one floating-point type on one device.", nameof(target));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        if (!(source.isfinite().all() & target.isfinite().all()).item<bool>()) throw new ArgumentException("The points hold NaN or infinity.", nameof(source));
        Tensor sourceMean = centered ? source.mean([0L]) : zeros_like(source[0]), targetMean = centered ? target.mean([0L]) : zeros_like(target[0]);
        Tensor x = source - sourceMean, y = target - targetMean;
        (Tensor u, Tensor s, Tensor vt) = linalg.svd(x.t().matmul(y), fullMatrices: false);
        double scale = 1;
        if (scaled)
        {
            double energy = x.square().sum().to(float64).item<double>();
            scale = energy > 0 ? s.sum().to(float64).item<double>() / energy : throw new ArgumentException("All source points are one point, so there is no scale.", nameof(source));
        }
        return new Procrustes(u.matmul(vt).MoveToOuterDisposeScope(), scale, sourceMean.MoveToOuterDisposeScope(), targetMean.MoveToOuterDisposeScope());
    }

    /// <summary>Maps points of the source space into the target space.</summary>
    /// <param name="points">[m, a].</param>
    /// <returns>[m, b].</returns>
    /// <exception cref="ArgumentException">The width is not that of the source.</exception>
    public Tensor Apply(Tensor points)
    {
        ArgumentNullException.ThrowIfNull(points);
        if (points.dim() != 2 || points.shape[1] != Rotation.shape[0]) throw new ArgumentException($"Points must be [m, {Rotation.shape[0]}], not [{string.Join(", ", points.shape)}].", nameof(points));
        using DisposeScope scope = NewDisposeScope();
        return (Scale * (points - SourceMean).matmul(Rotation) + TargetMean).MoveToOuterDisposeScope();
    }
}
