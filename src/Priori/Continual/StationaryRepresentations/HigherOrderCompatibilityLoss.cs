namespace Priori.Continual;

/// <summary>What becomes of pairs of one class among the negatives.</summary>
public enum HocNegatives
{
    /// <summary>As published: their similarity is multiplied by 0, so each of them, the pair of a sample with itself included, adds exp(0) = 1 to the denominator.</summary>
    ZeroMasked,

    /// <summary>They are left out of the denominator. A sample without a negative is treated as with <see cref="ZeroMasked"/>.</summary>
    Excluded,
}

/// <summary>
/// The higher-order compatibility loss (Biondi et al., Stationary Representations, CVPR 2024, eq. 4): a contrastive alignment of the new model's features with the old model's of the same
/// sample, mean_i [ -S_ii + log sum_j exp(S_ij 1[y_i != y_j]) ] with S_ij = mu cos(old_i, new_j). Cross-entropy with the fixed classifier aligns class means only; this aligns the rest.
/// </summary>
public sealed class HigherOrderCompatibilityLoss : Module<Tensor, Tensor, Tensor, Tensor>
{
    private readonly double mu;
    private readonly HocNegatives negatives;

    /// <summary>Makes the loss.</summary>
    /// <param name="mu">Inverse temperature, above 0; 10 in the paper.</param>
    /// <param name="negatives">What becomes of pairs of one class.</param>
    public HigherOrderCompatibilityLoss(double mu = 10, HocNegatives negatives = HocNegatives.ZeroMasked) : base(nameof(HigherOrderCompatibilityLoss))
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(mu);
        (this.mu, this.negatives) = (mu, negatives);
    }

    /// <summary>The mean loss of a batch; a scalar. No gradient flows to the old features.</summary>
    /// <param name="newFeatures">Features of the model in training [batch, D], batch at least 2; normalised here.</param>
    /// <param name="oldFeatures">Features of the frozen old model for the same samples [batch, D].</param>
    /// <param name="labels">Classes, int64 [batch].</param>
    /// <exception cref="ArgumentException">Shapes do not fit, there are fewer than two samples, or a row of features has no length.</exception>
    public override Tensor forward(Tensor newFeatures, Tensor oldFeatures, Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(newFeatures);
        ArgumentNullException.ThrowIfNull(oldFeatures);
        ArgumentNullException.ThrowIfNull(labels);
        if (newFeatures.dim() != 2 || !newFeatures.shape.SequenceEqual(oldFeatures.shape) || labels.dim() != 1 || labels.size(0) != newFeatures.size(0))
            throw new ArgumentException($"Features must be [batch, D] and labels [batch], not [{string.Join(", ", newFeatures.shape)}], [{string.Join(", ", oldFeatures.shape)}] and [{string.Join(", ", labels.shape)}].", nameof(newFeatures));
        if (labels.size(0) < 2) throw new ArgumentException("The loss compares samples with one another: a batch needs at least two.", nameof(labels));
        Tensor u = Unit(newFeatures, nameof(newFeatures)), v = Unit(oldFeatures.detach(), nameof(oldFeatures));
        Tensor similarity = mu * v.matmul(u.t()); // rows: old, columns: new
        Tensor different = labels.unsqueeze(1).ne(labels.unsqueeze(0));
        Tensor masked = similarity * different.to(similarity.dtype);
        if (negatives == HocNegatives.Excluded)
        {
            Tensor alone = different.any(1, keepdim: true).logical_not();
            masked = masked.masked_fill(different.logical_or(alone).logical_not(), double.NegativeInfinity);
        }
        return (masked.logsumexp(1) - similarity.diagonal()).mean();
    }

    private static Tensor Unit(Tensor features, string name)
    {
        Tensor norms = features.norm(1, keepdim: true);
        using (Tensor zero = norms.detach().eq(0).any())
            if (zero.ToBoolean()) throw new ArgumentException("A row of features has no length, so it has no direction.", name);
        return features / norms;
    }
}
