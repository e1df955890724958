namespace Priori.Metrics;

/// <summary>1:N identification against class templates (Biondi et al., CVPR 2024): the gallery becomes one mean of normalised features a class, and a query belongs to the most similar one.</summary>
public static class TemplateRetrieval
{
    /// <summary>The templates of a gallery: for each class that occurs, in ascending order, the mean of its normalised features, normalised again.</summary>
    /// <param name="gallery">Features [n, D], n at least 1.</param>
    /// <param name="labels">Classes, int64 [n].</param>
    /// <returns>Templates [classes, D] and their classes, int64 [classes].</returns>
    /// <exception cref="ArgumentException">Shapes do not fit, or a row has no length.</exception>
    public static (Tensor Templates, Tensor Classes) Templates(Tensor gallery, Tensor labels)
    {
        using var scope = NewDisposeScope();
        Tensor features = Unit(gallery, nameof(gallery));
        Require(features, labels, nameof(labels));
        (Tensor classes, Tensor? inverse, _) = labels.unique(return_inverse: true);
        Tensor sums = zeros([classes.size(0), features.size(1)], features.dtype, features.device).index_add_(0, inverse!, features, 1);
        return (functional.normalize(sums, dim: 1, eps: 1e-12).MoveToOuterDisposeScope(), classes.MoveToOuterDisposeScope());
    }

    /// <summary>Top-1 accuracy of queries against the templates of a gallery, in [0, 1]. Ties go to the smaller class.</summary>
    /// <param name="queries">Features [m, D] of the query model, m at least 1.</param>
    /// <param name="queryLabels">Their classes, int64 [m].</param>
    /// <param name="gallery">Features [n, D] of the gallery, possibly of another model.</param>
    /// <param name="galleryLabels">Their classes, int64 [n].</param>
    /// <exception cref="ArgumentException">Shapes do not fit, or a row has no length.</exception>
    public static double Accuracy(Tensor queries, Tensor queryLabels, Tensor gallery, Tensor galleryLabels)
    {
        using var scope = NewDisposeScope();
        (Tensor templates, Tensor classes) = Templates(gallery, galleryLabels);
        Tensor unit = Unit(queries, nameof(queries));
        Require(unit, queryLabels, nameof(queryLabels));
        if (unit.size(1) != templates.size(1)) throw new ArgumentException($"Queries have {unit.size(1)} dimensions and the gallery {templates.size(1)}.", nameof(queries));
        Tensor similarity = unit.matmul(templates.t());
        // The first of equal maxima: argmax does not promise which one it gives.
        Tensor first = similarity.eq(similarity.amax([1], keepdim: true)).to(ScalarType.Int8).cumsum(1).eq(0).sum(1);
        return classes.index_select(0, first).eq(queryLabels).to(float64).mean().ToDouble();
    }

    private static Tensor Unit(Tensor features, string name)
    {
        ArgumentNullException.ThrowIfNull(features);
        if (features.dim() != 2 || features.size(0) == 0) throw new ArgumentException($"Features must be [n, D] with n at least 1, not [{string.Join(", ", features.shape)}].", name);
        Tensor norms = features.norm(1, keepdim: true), empty = norms.flatten().eq(0).nonzero();
        if (empty.size(0) > 0) throw new ArgumentException($"Row {empty[0].ToInt64()} of the features has no length, so it has no direction.", name);
        return features / norms;
    }

    private static void Require(Tensor features, Tensor labels, string name)
    {
        ArgumentNullException.ThrowIfNull(labels, name);
        if (labels.dim() != 1 || labels.size(0) != features.size(0)) throw new ArgumentException($"{features.size(0)} rows of features need as many labels, not [{string.Join(", ", labels.shape)}].", name);
    }
}
