using Priori.Metrics;

namespace Priori.Tests.Metrics;

public class ClusteringMetricsTests
{
    private static readonly Tensor s_clusters = tensor(new long[] { 0, 0, 1, 1, 2, 2 }), s_classes = tensor(new long[] { 0, 0, 0, 1, 1, 1 });

    [Fact]
    public void Worked_values()
    {
        Assert.Equal(.24242424, ClusteringMetrics.AdjustedRandIndex(s_clusters, s_classes), 1e-8);
        // Contingency (2,0), (1,1), (0,2): I = ln 2 - (1/3) ln 2, entropies ln 3 and ln 2.
        Assert.Equal(2 * (2 / 3.0 * Math.Log(2)) / (Math.Log(3) + Math.Log(2)), ClusteringMetrics.NormalizedMutualInformation(s_clusters, s_classes), 1e-12);
        Assert.Equal(5 / 6.0, ClusteringMetrics.Purity(s_clusters, s_classes), 1e-12);
        Assert.Equal(4 / 6.0, ClusteringMetrics.Accuracy(s_clusters, s_classes), 1e-12);
    }

    [Fact]
    public void The_same_partition_under_other_names_is_perfect()
    {
        Tensor renamed = tensor(new long[] { 7, 7, 3, 3, 5, 5 });
        Assert.Equal(1, ClusteringMetrics.AdjustedRandIndex(renamed, s_clusters), 1e-12);
        Assert.Equal(1, ClusteringMetrics.NormalizedMutualInformation(renamed, s_clusters), 1e-12);
        Assert.Equal(1, ClusteringMetrics.Accuracy(renamed, s_clusters), 1e-12);
        Assert.Throws<ArgumentException>(() => ClusteringMetrics.Purity(renamed, s_clusters.narrow(0, 0, 3)));
    }

    [Fact]
    public void Chance_has_index_zero_in_the_mean()
    {
        manual_seed(0);
        double mean = Enumerable.Range(0, 200).Average(_ => ClusteringMetrics.AdjustedRandIndex(randint(0, 3, 60, int64), randint(0, 4, 60, int64)));
        Assert.Equal(0, mean, .01);
    }
}
