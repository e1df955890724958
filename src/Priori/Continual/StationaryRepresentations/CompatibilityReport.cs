using Priori.Metrics;

namespace Priori.Continual;

/// <summary>Features of one model for the same gallery and the same queries as every other model's.</summary>
/// <param name="Gallery">[n, D].</param>
/// <param name="Queries">[m, D].</param>
public sealed record ModelFeatures(Tensor Gallery, Tensor Queries);

/// <summary>How often a pair of samples breaks the two inequalities of compatibility (Biondi et al., CVPR 2024, definition 1).</summary>
/// <param name="SameClass">Share of pairs of one class whose distance new to old is larger than old to old.</param>
/// <param name="DifferentClass">Share of pairs of two classes whose distance new to old is smaller than old to old.</param>
public sealed record CompatibilityViolations(double SameClass, double DifferentClass)
{
    private const int Block = 1024;

    /// <summary>Counts over all pairs of distinct samples, with Euclidean distances of normalised features.</summary>
    /// <param name="updated">Features of the new model [n, D].</param>
    /// <param name="old">Features of the old model for the same samples [n, D].</param>
    /// <param name="labels">Classes, int64 [n].</param>
    /// <exception cref="ArgumentException">Shapes do not fit.</exception>
    public static CompatibilityViolations Of(Tensor updated, Tensor old, Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(updated);
        ArgumentNullException.ThrowIfNull(old);
        ArgumentNullException.ThrowIfNull(labels);
        if (updated.dim() != 2 || !updated.shape.SequenceEqual(old.shape) || labels.dim() != 1 || labels.size(0) != old.size(0))
            throw new ArgumentException($"Features must be [n, D] and labels [n], not [{string.Join(", ", updated.shape)}], [{string.Join(", ", old.shape)}] and [{string.Join(", ", labels.shape)}].", nameof(updated));
        using var scope = NewDisposeScope();
        using var ungraphed = no_grad();
        Tensor u = functional.normalize(updated, dim: 1), v = functional.normalize(old, dim: 1);
        double[] broken = [0, 0], pairs = [0, 0];
        for (long start = 0; start < u.size(0); start += Block)
        {
            using var block = NewDisposeScope();
            long length = Math.Min(Block, u.size(0) - start);
            // Of unit vectors a larger inner product is a smaller distance.
            Tensor cross = u.narrow(0, start, length).matmul(v.t()), own = v.narrow(0, start, length).matmul(v.t());
            Tensor same = labels.narrow(0, start, length).unsqueeze(1).eq(labels.unsqueeze(0));
            Tensor distinct = arange(start, start + length, device: u.device).unsqueeze(1).ne(arange(u.size(0), device: u.device).unsqueeze(0));
            Tensor[] kinds = [same.logical_and(distinct), same.logical_not()];
            Tensor[] wrong = [cross.lt(own), cross.gt(own)];
            for (int k = 0; k < 2; k++)
            {
                broken[k] += kinds[k].logical_and(wrong[k]).sum().ToInt64();
                pairs[k] += kinds[k].sum().ToInt64();
            }
        }
        return new CompatibilityViolations(pairs[0] == 0 ? 0 : broken[0] / pairs[0], pairs[1] == 0 ? 0 : broken[1] / pairs[1]);
    }
}

/// <summary>
/// Whether galleries of old models can be searched with new ones (Biondi et al., CVPR 2024, section 5): the matrix C[i, j] is the accuracy of queries of model i in the gallery of model j.
/// </summary>
public sealed class CompatibilityReport
{
    /// <summary>Makes a report of measured accuracies.</summary>
    /// <param name="matrix">C[i][j] for j at most i, models in the order of their release; row i has i + 1 entries.</param>
    /// <exception cref="ArgumentException">There is no model, or a row has another length.</exception>
    public CompatibilityReport(IReadOnlyList<IReadOnlyList<double>> matrix)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        if (matrix.Count == 0) throw new ArgumentException("There is no model.", nameof(matrix));
        for (int i = 0; i < matrix.Count; i++)
            if (matrix[i].Count != i + 1) throw new ArgumentException($"Row {i} of a compatibility matrix has {i + 1} entries, not {matrix[i].Count}.", nameof(matrix));
        Matrix = matrix;
    }

    /// <summary>C[i][j]: accuracy of queries of model i in the gallery of model j, for j at most i.</summary>
    public IReadOnlyList<IReadOnlyList<double>> Matrix { get; }

    /// <summary>Whether the gallery of model j can stay when model i replaces it: C[i][j] is larger than C[j][j]. Equality is not enough.</summary>
    /// <param name="i">The newer model.</param>
    /// <param name="j">The older model.</param>
    public bool IsCompatible(int i, int j) => Matrix[i][j] > Matrix[j][j];

    /// <summary>Average compatibility AC: the share of pairs of models that are compatible; 1 for a single model.</summary>
    public double AverageCompatibility
    {
        get
        {
            int pairs = Matrix.Count * (Matrix.Count - 1) / 2;
            return pairs == 0 ? 1 : Enumerable.Range(0, Matrix.Count).Sum(i => Enumerable.Range(0, i).Count(j => IsCompatible(i, j))) / (double)pairs;
        }
    }

    /// <summary>Average accuracy AM: the mean of the lower triangle with the diagonal.</summary>
    public double AverageAccuracy => Matrix.SelectMany(row => row).Average();

    /// <summary>Measures the matrix by template retrieval.</summary>
    /// <param name="models">Features of each model, oldest first; all have the same number of dimensions.</param>
    /// <param name="galleryLabels">Classes of the gallery, int64 [n].</param>
    /// <param name="queryLabels">Classes of the queries, int64 [m].</param>
    /// <exception cref="ArgumentException">There is no model, shapes do not fit, or a row of features has no length.</exception>
    public static CompatibilityReport FromFeatures(IReadOnlyList<ModelFeatures> models, Tensor galleryLabels, Tensor queryLabels)
    {
        ArgumentNullException.ThrowIfNull(models);
        return new CompatibilityReport([.. models.Select((query, i) => (IReadOnlyList<double>)[.. models.Take(i + 1).Select(old => TemplateRetrieval.Accuracy(query.Queries, queryLabels, old.Gallery, galleryLabels))])]);
    }
}
