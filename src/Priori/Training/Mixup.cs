namespace Priori.Training;

/// <summary>
/// One draw of mixup (Zhang et al., ICLR 2018): every tensor of the batch is mixed with the same coefficient and the same partners,
/// x~ = l x + (1 - l) x[permutation].
/// </summary>
/// <param name="Coefficient">l in [0, 1].</param>
/// <param name="Permutation">Partner of each row, int64 [batch].</param>
public sealed record Mixup(double Coefficient, Tensor Permutation)
{
    /// <summary>Draws l ~ Beta(alpha, alpha), one for the batch, and a random permutation from libtorch's generator of the device.</summary>
    /// <param name="count">Rows of the batch.</param>
    /// <param name="alpha">Parameter of the Beta distribution, at least 0; 0 draws l = 1 (no mixing).</param>
    /// <param name="device">Device of the batch; CPU by default.</param>
    /// <param name="keepLarger">Whether l is replaced by max(l, 1 - l), so that a row keeps the larger part of itself.</param>
    /// <exception cref="ArgumentOutOfRangeException">The count is less than 1 or alpha is negative or not finite.</exception>
    public static Mixup Sample(long count, double alpha, Device? device = null, bool keepLarger = false)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        if (!double.IsFinite(alpha) || alpha < 0) throw new ArgumentOutOfRangeException(nameof(alpha), alpha, "Alpha must be a finite number of at least 0.");
        double coefficient = 1;
        if (alpha > 0)
        {
            using var scope = NewDisposeScope();
            coefficient = distributions.Beta(tensor(alpha, ScalarType.Float64), tensor(alpha, ScalarType.Float64)).sample().ToDouble();
        }
        return new Mixup(keepLarger ? Math.Max(coefficient, 1 - coefficient) : coefficient, randperm(count, ScalarType.Int64, device ?? CPU));
    }

    /// <summary>l values + (1 - l) values[permutation].</summary>
    /// <param name="values">Floating-point values, [batch, ...].</param>
    /// <returns>Mixed values, [batch, ...].</returns>
    public Tensor Mix(Tensor values)
    {
        ArgumentNullException.ThrowIfNull(values);
        return Coefficient == 1 ? values : Coefficient * values + (1 - Coefficient) * values.index_select(0, Permutation);
    }
}
