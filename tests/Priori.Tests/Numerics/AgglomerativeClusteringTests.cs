using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class AgglomerativeClusteringTests
{
    [Fact]
    public void Average_linkage_of_points_on_a_line()
    {
        // Points 0, 1, 5, 5.5, 12: {2,3} at .5, {0,1} at 1, both pairs at 4.75, the last at 12 - mean of the four.
        Dendrogram tree = AgglomerativeClustering.Fit(OnLine(0, 1, 5, 5.5, 12));
        ClusterMerge[] expected = [new(2, 3, .5, 2), new(0, 1, 1, 2), new(5, 6, 4.75, 4), new(4, 7, 9.125, 5)];
        Assert.All(tree.Merges.Zip(expected), p =>
        {
            Assert.Equal((p.Second.Left, p.Second.Right, p.Second.Size), (p.First.Left, p.First.Right, p.First.Size));
            Assert.Equal(p.Second.Distance, p.First.Distance, 1e-12);
        });
        Assert.Equal([0, 0, 0, 0, 0], tree.Cut(1));
        Assert.Equal([0, 0, 0, 0, 1], tree.Cut(2));
        Assert.Equal([0, 0, 1, 1, 2], tree.Cut(3));
        Assert.Equal([0, 1, 2, 3, 4], tree.Cut(5));
        Assert.Equal([4, 2, 3, 0, 1], tree.Leaves());
    }

    [Theory]
    [InlineData(Linkage.AverageLink)]
    [InlineData(Linkage.SingleLink)]
    [InlineData(Linkage.CompleteLink)]
    public void It_agrees_with_merging_the_nearest_clusters_one_by_one(Linkage linkage)
    {
        using Tensor x = randn([40, 3], float64, generator: new Generator(5)), d = cdist(x, x);
        double[,] distance = new double[40, 40];
        for (int i = 0; i < 40; i++)
            for (int j = 0; j < 40; j++) distance[i, j] = d[Math.Max(i, j), Math.Min(i, j)].item<double>();
        List<List<int>> clusters = [.. Enumerable.Range(0, 40).Select(i => new List<int> { i })];
        double Between(List<int> a, List<int> b)
        {
            IEnumerable<double> pairs = a.SelectMany(i => b.Select(j => distance[i, j]));
            return linkage switch { Linkage.SingleLink => pairs.Min(), Linkage.CompleteLink => pairs.Max(), _ => pairs.Average() };
        }
        var heights = new List<double>();
        while (clusters.Count > 1)
        {
            (List<int> a, List<int> b, double height) = clusters.SelectMany((a, i) => clusters.Skip(i + 1).Select(b => (a, b, Between(a, b)))).MinBy(p => p.Item3);
            heights.Add(height);
            a.AddRange(b);
            clusters.Remove(b);
            if (clusters.Count != 7) continue;
            int[] cut = AgglomerativeClustering.Fit((d + d.t()) / 2, linkage).Cut(7);
            Assert.Equal(7, clusters.Select(c => Assert.Single(c.Select(i => cut[i]).Distinct())).Distinct().Count());
        }
        Assert.All(AgglomerativeClustering.Fit((d + d.t()) / 2, linkage).Merges.Zip(heights), p => Assert.Equal(p.Second, p.First.Distance, 1e-9));
    }

    [Fact]
    public void Bad_distances_are_refused()
    {
        Assert.Single(AgglomerativeClustering.Fit(zeros(1, 1)).Cut(1));
        Assert.Throws<ArgumentException>(() => AgglomerativeClustering.Fit(ones(2, 3)));
        Assert.Throws<ArgumentException>(() => AgglomerativeClustering.Fit(-ones(2, 2)));
        Assert.Throws<ArgumentException>(() => AgglomerativeClustering.Fit(tensor(new[,] { { 0, 1.0 }, { 2, 0 } })));
        Assert.Throws<ArgumentOutOfRangeException>(() => AgglomerativeClustering.Fit(OnLine(1, 2)).Cut(3));
    }

    private static Tensor OnLine(params double[] points)
    {
        Tensor x = tensor(points);
        return (x.unsqueeze(0) - x.unsqueeze(1)).abs();
    }
}
