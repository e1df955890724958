namespace Priori.Training;

/// <summary>
/// The contrastive loss InfoNCE (van den Oord, Li, Vinyals, 2018, eq. 4) with in-batch negatives, in one direction:
/// -(1/n) sum_i log( exp(s(a_i, b_i) / tau) / sum_j exp(s(a_i, b_j) / tau) ). Negatives of a_i are the other rows of b only.
/// </summary>
public static class InfoNce
{
    /// <summary>The mean loss over the rows. For the symmetric form, average it with the loss of the exchanged arguments.</summary>
    /// <param name="a">Anchors [n, dim], n at least 1.</param>
    /// <param name="b">Row i is the positive of anchor i, [n, dim].</param>
    /// <param name="temperature">tau, above 0.</param>
    /// <param name="normalize">Whether s is the cosine (rows are divided by their norm, at least 1e-12) or the inner product.</param>
    /// <returns>A scalar, in float32 or in float64 for such inputs.</returns>
    /// <exception cref="ArgumentException">The shapes are not [n, dim] and equal.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The temperature is not above 0.</exception>
    public static Tensor Loss(Tensor a, Tensor b, double temperature, bool normalize = true)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
        if (a.dim() != 2 || a.size(0) == 0 || !a.shape.SequenceEqual(b.shape))
            throw new ArgumentException($"Anchors and positives must both be [n, dim] with n at least 1, not [{string.Join(", ", a.shape)}] and [{string.Join(", ", b.shape)}].", nameof(b));
        Tensor left = AtLeastSingle(a), right = AtLeastSingle(b);
        if (normalize) (left, right) = (functional.normalize(left, dim: 1, eps: 1e-12), functional.normalize(right, dim: 1, eps: 1e-12));
        return InBatchSoftmax.Loss(left.matmul(right.t()) / temperature);
    }

    private static Tensor AtLeastSingle(Tensor t) => t.dtype is ScalarType.Float16 or ScalarType.BFloat16 ? t.to(ScalarType.Float32) : t;
}
