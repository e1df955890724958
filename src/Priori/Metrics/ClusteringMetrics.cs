using Priori.Numerics;

namespace Priori.Metrics;

/// <summary>How well a clustering agrees with classes. Both are labels 0, 1, ... of the same things, int64 [n], n at least 1; their numbering does not matter.</summary>
public static class ClusteringMetrics
{
    /// <summary>The adjusted Rand index (Hubert, Arabie, 1985): agreement over pairs, corrected for chance. 1: the same partition; 0: as by chance.</summary>
    /// <param name="clusters">The clustering.</param>
    /// <param name="classes">The classes.</param>
    /// <exception cref="ArgumentException">The labels are not int64 [n] of the same n.</exception>
    public static double AdjustedRandIndex(Tensor clusters, Tensor classes)
    {
        using var scope = NewDisposeScope();
        Tensor table = Contingency(clusters, classes);
        static double Pairs(Tensor counts) => (counts * (counts - 1)).sum().ToDouble() / 2;
        double together = Pairs(table), rows = Pairs(table.sum(1)), columns = Pairs(table.sum(dim: 0)), all = Pairs(table.sum().reshape(1));
        if (all == 0) return 1;
        double expected = rows * columns / all, most = (rows + columns) / 2;
        return most == expected ? 1 : (together - expected) / (most - expected);
    }

    /// <summary>Normalised mutual information, I / mean of the two entropies (arithmetic mean, scikit-learn's default), in [0, 1]; 1 when both are one cluster.</summary>
    /// <param name="clusters">The clustering.</param>
    /// <param name="classes">The classes.</param>
    /// <exception cref="ArgumentException">The labels are not int64 [n] of the same n.</exception>
    public static double NormalizedMutualInformation(Tensor clusters, Tensor classes)
    {
        using var scope = NewDisposeScope();
        Tensor table = Contingency(clusters, classes);
        Tensor joint = table / table.sum();
        static double Entropy(Tensor p) => -p.xlogy(p).sum().ToDouble();
        double ofRows = Entropy(joint.sum(1)), ofColumns = Entropy(joint.sum(dim: 0));
        return ofRows + ofColumns == 0 ? 1 : Math.Clamp((ofRows + ofColumns - Entropy(joint)) * 2 / (ofRows + ofColumns), 0, 1);
    }

    /// <summary>Purity: the share of things that are in the largest class of their cluster.</summary>
    /// <param name="clusters">The clustering.</param>
    /// <param name="classes">The classes.</param>
    /// <exception cref="ArgumentException">The labels are not int64 [n] of the same n.</exception>
    public static double Purity(Tensor clusters, Tensor classes)
    {
        using var scope = NewDisposeScope();
        Tensor table = Contingency(clusters, classes);
        return table.amax([1]).sum().ToDouble() / table.sum().ToDouble();
    }

    /// <summary>Clustering accuracy: the share of things that are right under the best one-to-one assignment of clusters to classes.</summary>
    /// <param name="clusters">The clustering.</param>
    /// <param name="classes">The classes.</param>
    /// <exception cref="ArgumentException">The labels are not int64 [n] of the same n.</exception>
    public static double Accuracy(Tensor clusters, Tensor classes)
    {
        using var scope = NewDisposeScope();
        Tensor table = Contingency(clusters, classes);
        long size = Math.Max(table.size(0), table.size(1));
        Tensor square = zeros(size, size, dtype: float64);
        square.narrow(0, 0, table.size(0)).narrow(1, 0, table.size(1)).copy_(table);
        Tensor partners = tensor(Array.ConvertAll(LinearAssignment.Maximize(square), j => (long)j)).unsqueeze(1);
        return square.gather(1, partners).sum().ToDouble() / table.sum().ToDouble();
    }

    // Counts of things by cluster and class, float64 [clusters, classes].
    private static Tensor Contingency(Tensor clusters, Tensor classes)
    {
        ArgumentNullException.ThrowIfNull(clusters);
        ArgumentNullException.ThrowIfNull(classes);
        if (clusters.dim() != 1 || classes.dim() != 1 || clusters.size(0) != classes.size(0) || clusters.size(0) == 0 || clusters.dtype != int64 || classes.dtype != int64)
            throw new ArgumentException($"Clusters and classes must be int64 [n] of the same n, not {clusters.dtype} [{string.Join(", ", clusters.shape)}] and {classes.dtype} [{string.Join(", ", classes.shape)}].", nameof(clusters));
        (_, Tensor? rows, _) = clusters.cpu().unique(return_inverse: true);
        (_, Tensor? columns, _) = classes.cpu().unique(return_inverse: true);
        long width = columns!.max().ToInt64() + 1;
        return (rows! * width + columns).bincount(null, minlength: (rows!.max().ToInt64() + 1) * width).view(-1, width).to(float64);
    }
}
