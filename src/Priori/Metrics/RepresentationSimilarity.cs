namespace Priori.Metrics;

/// <summary>
/// Similarity of two representations of the same inputs: row i of both belongs to input i; the widths may differ. Results are scalars with the device and the type of the representations,
/// and can be differentiated.
/// </summary>
public static class RepresentationSimilarity
{
    /// <summary>
    /// Linear centred kernel alignment (Kornblith et al., ICML 2019, eq. 3-5): |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) of the centred representations. In 0..1; does not change under rotation, scaling and shifts.
    /// </summary>
    /// <param name="x">Floating point [n, a], n at least 2.</param>
    /// <param name="y">[n, b].</param>
    /// <returns>A scalar; NaN where all rows of a representation are equal.</returns>
    /// <exception cref="ArgumentException">The representations are not of the same inputs, type and device.</exception>
    public static Tensor LinearCka(Tensor x, Tensor y)
    {
        Check(x, y, 2);
        using DisposeScope scope = NewDisposeScope();
        Tensor a = Centered(x), b = Centered(y);
        // The two forms are equal; the one with the smaller matrices is taken.
        long n = x.shape[0];
        Tensor result;
        if (Math.Max(x.shape[1], y.shape[1]) <= n)
        {
            result = b.t().matmul(a).square().sum() / (a.t().matmul(a).norm() * b.t().matmul(b).norm());
        }
        else
        {
            Tensor k = a.matmul(a.t()), l = b.matmul(b.t());
            result = (k * l).sum() / (k.norm() * l.norm());
        }
        return result.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The unbiased estimator of the Hilbert-Schmidt independence criterion (Song et al., JMLR 2012, eq. 5): with zeroed diagonals,
    /// (tr(KL) + 1^T K 1 1^T L 1 / ((n - 1)(n - 2)) - 2 / (n - 2) 1^T K L 1) / (n (n - 3)).
    /// </summary>
    /// <param name="k">Kernel matrix [n, n] of one representation, symmetric; n at least 4.</param>
    /// <param name="l">Kernel matrix [n, n] of the other.</param>
    /// <exception cref="ArgumentException">The matrices are not square, not of one size, or too small.</exception>
    public static Tensor UnbiasedHsic(Tensor k, Tensor l)
    {
        Check(k, l, 4);
        long n = k.shape[0];
        if (k.shape[1] != n || l.shape[1] != n) throw new ArgumentException($"Kernels must be [n, n], not [{string.Join(", ", k.shape)}] and [{string.Join(", ", l.shape)}].", nameof(k));
        using DisposeScope scope = NewDisposeScope();
        Tensor off = 1 - eye(n, dtype: k.dtype, device: k.device), a = k * off, b = l * off;
        Tensor rows = a.sum(1), columns = b.sum(1);
        Tensor sum = (a * b).sum() + rows.sum() * columns.sum() / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * rows.dot(columns);
        return (sum / (n * (n - 3.0))).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Minibatch linear CKA (Nguyen, Raghu, Kornblith, ICLR 2021, eq. 2): the unbiased HSIC is averaged over batches, so the value does not depend on the batch size in expectation.
    /// </summary>
    /// <param name="x">Floating point [n, a].</param>
    /// <param name="y">[n, b].</param>
    /// <param name="batchSize">Rows of a batch, at least 4; a last batch of fewer than 4 is left out. Default: all rows at once.</param>
    /// <exception cref="ArgumentException">The representations do not fit together, or a batch has fewer than 4 rows.</exception>
    public static Tensor UnbiasedLinearCka(Tensor x, Tensor y, long? batchSize = null)
    {
        Check(x, y, 4);
        long n = x.shape[0], size = Math.Min(batchSize ?? n, n);
        if (size < 4) throw new ArgumentOutOfRangeException(nameof(batchSize), batchSize, "A batch needs at least 4 rows.");
        return UnbiasedLinearCka(Enumerable.Range(0, (int)((n + size - 1) / size)).Select(i => (Start: i * size, Rows: Math.Min(size, n - (i * size)))).Where(b => b.Rows >= 4)
            .Select(b => (x.narrow(0, b.Start, b.Rows), y.narrow(0, b.Start, b.Rows))));
    }

    /// <summary>Minibatch linear CKA over batches that need not be in memory together; see <see cref="UnbiasedLinearCka(Tensor, Tensor, long?)"/>.</summary>
    /// <param name="batches">Both representations of each batch, [b, a] and [b, c] with b at least 4.</param>
    /// <exception cref="ArgumentException">There is no batch, or one does not fit.</exception>
    public static Tensor UnbiasedLinearCka(IEnumerable<(Tensor X, Tensor Y)> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        using DisposeScope scope = NewDisposeScope();
        Tensor? xy = null, xx = null, yy = null;
        foreach ((Tensor x, Tensor y) in batches)
        {
            Check(x, y, 4);
            Tensor k = x.matmul(x.t()), l = y.matmul(y.t());
            xy = Plus(xy, UnbiasedHsic(k, l));
            xx = Plus(xx, UnbiasedHsic(k, k));
            yy = Plus(yy, UnbiasedHsic(l, l));
        }
        if (xy is null) throw new ArgumentException("There is no batch.", nameof(batches));
        return (xy / (xx!.sqrt() * yy!.sqrt())).MoveToOuterDisposeScope();

        static Tensor Plus(Tensor? sum, Tensor next) => sum is null ? next : sum + next;
    }

    /// <summary>
    /// Singular vector canonical correlation analysis (Raghu et al., NeurIPS 2017): of each centred representation the leading singular directions that hold a share of the variance are kept;
    /// the result is the mean canonical correlation between the two, over as many correlations as the smaller has directions. In 0..1.
    /// </summary>
    /// <param name="x">Floating point [n, a]; n well above the number of directions that are kept, or correlations are near 1 by chance.</param>
    /// <param name="y">[n, b].</param>
    /// <param name="variance">Share of the variance, above 0 and at most 1. Paper: 0.99.</param>
    /// <exception cref="ArgumentException">The representations do not fit together, or the share is outside its range.</exception>
    public static Tensor Svcca(Tensor x, Tensor y, double variance = 0.99)
    {
        Check(x, y, 2);
        if (variance is not (> 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(variance), variance, "A share of the variance lies above 0 and at most at 1.");
        using DisposeScope scope = NewDisposeScope();
        Tensor a = Directions(x, variance), b = Directions(y, variance);
        return linalg.svdvals(a.t().matmul(b)).clamp_max(1).mean().MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The orthogonal Procrustes distance (Ding, Denain, Steinhardt, NeurIPS 2021, eq. 3) of the centred representations at unit Frobenius norm: |X|^2 + |Y|^2 - 2 |X^T Y|_*, the least squared distance that
    /// a rotation leaves. 0 for representations that are equal up to rotation, scale and shift, at most 2.
    /// </summary>
    /// <param name="x">Floating point [n, a], n at least 2.</param>
    /// <param name="y">[n, b].</param>
    /// <exception cref="ArgumentException">The representations are not of the same inputs, type and device.</exception>
    public static Tensor ProcrustesDistance(Tensor x, Tensor y)
    {
        Check(x, y, 2);
        using DisposeScope scope = NewDisposeScope();
        Tensor a = Centered(x), b = Centered(y);
        return (2 - 2 * linalg.svdvals((a / a.norm()).t().matmul(b / b.norm())).sum()).MoveToOuterDisposeScope();
    }

    private static Tensor Centered(Tensor x) => x - x.mean([0L], keepdim: true);

    // Orthonormal columns [n, k] that span the leading directions.
    private static Tensor Directions(Tensor x, double variance)
    {
        (Tensor u, Tensor s, _) = linalg.svd(Centered(x), fullMatrices: false);
        double[] energy = s.detach().to(float64).square().cpu().data<double>().ToArray();
        double total = energy.Sum(), sum = 0, tiny = energy[0] * 1e-12;
        if (total == 0) throw new ArgumentException("All rows of a representation are equal: it has no direction.", nameof(x));
        int kept = 0;
        while (kept < energy.Length && sum < variance * total * (1 - 1e-12) && energy[kept] > tiny) sum += energy[kept++];
        return u.narrow(1, 0, kept);
    }

    private static void Check(Tensor x, Tensor y, long least)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(y);
        if (x.dim() != 2 || y.dim() != 2 || x.shape[0] != y.shape[0] || x.shape[0] < least)
            throw new ArgumentException($"Representations must be [n, a] and [n, b] of the same n >= {least} inputs, not [{string.Join(", ", x.shape)}] and [{string.Join(", ", y.shape)}].", nameof(y));
        if (!x.is_floating_point() || x.dtype != y.dtype || x.device.ToString() != y.device.ToString())
            throw new ArgumentException($"Representations must be of one floating-point type on one device, not {x.dtype} on {x.device} and {y.dtype} on {y.device}.", nameof(y));
    }
}
