namespace Priori.Similarity;

/// <summary>
/// Translates embeddings of one space into another through parallel anchors: relative to the anchors in the source space, and back to the vector of the target space that is nearest to having these cosines to the anchors
/// there (the inverse relative projection: Maiorca et al., 2024, arXiv 2406.15057). Cosines know no lengths, so results have the mean length of the target's anchors.
/// Nothing is trained; <see cref="Numerics.Procrustes"/> is the baseline that fits an orthogonal map to the same pairs.
/// </summary>
public sealed class AnchorTranslation
{
    private readonly Tensor _source, _back;
    private readonly double _length;

    private AnchorTranslation(Tensor source, Tensor back, double length) => (_source, _back, _length) = (source, back, length);

    /// <summary>Prepares the translation.</summary>
    /// <param name="sourceAnchors">Anchors in the source space, floating point [k, a].</param>
    /// <param name="targetAnchors">The same anchors, in the same order, in the target space [k, b].</param>
    /// <param name="ridge">
    /// Ridge of the inverse, at least 0, relative to the mean eigenvalue k / b of the anchors' Gram matrix. 0, as in the paper, is the pseudo-inverse; with about as many anchors as dimensions it amplifies noise, which a ridge damps.
    /// </param>
    /// <exception cref="ArgumentException">The numbers of anchors or the types differ, the ridge is negative, or an anchor has length zero; the message names it.</exception>
    public static AnchorTranslation Fit(Tensor sourceAnchors, Tensor targetAnchors, double ridge = 0)
    {
        ArgumentNullException.ThrowIfNull(sourceAnchors);
        ArgumentNullException.ThrowIfNull(targetAnchors);
        if (sourceAnchors.dim() != 2 || targetAnchors.dim() != 2 || sourceAnchors.shape[0] != targetAnchors.shape[0] || sourceAnchors.dtype != targetAnchors.dtype)
            throw new ArgumentException($"Anchors must be [k, a] and [k, b] of one type, not {sourceAnchors.dtype} [{string.Join(", ", sourceAnchors.shape)}] and {targetAnchors.dtype} [{string.Join(", ", targetAnchors.shape)}].", nameof(targetAnchors));
        ArgumentOutOfRangeException.ThrowIfNegative(ridge);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        foreach (Tensor anchors in new[] { sourceAnchors, targetAnchors }) RelativeProjection.Project(anchors, anchors.narrow(0, 0, 1)); // its checks
        Tensor lengths = targetAnchors.norm(1, keepdim: true);
        Tensor unit = targetAnchors / lengths;
        (long k, long b) = (unit.shape[0], unit.shape[1]);
        Tensor back = ridge == 0 ? RelativeProjection.PseudoInverse(unit).t() // [k, b]
            : linalg.solve(unit.t().matmul(unit) + ridge * k / b * eye(b, dtype: unit.dtype, device: unit.device), unit.t()).t();
        return new AnchorTranslation(sourceAnchors.detach().clone().MoveToOuterDisposeScope(), back.MoveToOuterDisposeScope(), lengths.mean().to(ScalarType.Float64).item<double>());
    }

    /// <summary>Translates embeddings.</summary>
    /// <param name="z">Embeddings of the source space [n, a].</param>
    /// <returns>[n, b], all of one length.</returns>
    /// <exception cref="ArgumentException">The width or type differs from that of the anchors, or an embedding has length zero; the message names it.</exception>
    public Tensor Apply(Tensor z)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        return (_length * functional.normalize(RelativeProjection.Project(z, _source).matmul(_back), dim: 1)).MoveToOuterDisposeScope();
    }
}
