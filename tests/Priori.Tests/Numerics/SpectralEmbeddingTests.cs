using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class SpectralEmbeddingTests
{
    // Two blocks of three nodes that are joined weakly.
    internal static Tensor Blocks()
    {
        Tensor a = zeros([6, 6], float64);
        foreach ((int i, int j, double w) in new[] { (0, 1, .9), (0, 2, .8), (1, 2, .85), (3, 4, .7), (3, 5, .75), (4, 5, .9), (0, 3, .05), (0, 5, .1), (1, 4, .1), (1, 5, .05), (2, 3, .1), (2, 4, .05) })
            a[i, j] = a[j, i] = w;
        return a;
    }

    [Fact]
    public void Eigenvalues_of_two_blocks_and_the_signs_of_the_second_vector()
    {
        SpectralNodes nodes = SpectralEmbedding.Fit(Blocks(), 6);
        Assert.All(nodes.Eigenvalues.data<double>().ToArray().Zip([0, .168426, 1.374013, 1.423140, 1.495615, 1.538807]), p => Assert.Equal(p.Second, p.First, 1e-6));
        double[] fiedler = nodes.Vectors[.., 1].data<double>().ToArray();
        Assert.Single(fiedler[..3].Select(Math.Sign).Distinct());
        Assert.Single(fiedler[3..].Select(Math.Sign).Distinct());
        Assert.NotEqual(Math.Sign(fiedler[0]), Math.Sign(fiedler[3]));
        Assert.True(nodes.UnitRows().norm(1, p: 2).allclose(ones(6, float64)));
    }

    [Fact]
    public void A_node_without_edges_is_a_component_of_its_own()
    {
        Tensor a = zeros([7, 7], float64);
        a[..6, ..6] = Blocks();
        double[] values = SpectralEmbedding.Fit(a, 3).Eigenvalues.data<double>().ToArray();
        Assert.Equal([0, 0, .168426], values.Select(v => Math.Round(v, 6)));
    }

    [Fact]
    public void The_iteration_for_large_graphs_agrees_with_the_whole_decomposition()
    {
        const int n = 1100;
        Tensor block = arange(n, int64).remainder(5), same = block.unsqueeze(0).eq(block.unsqueeze(1));
        Tensor noise = rand([n, n], float64, generator: new Generator(1)) * .1, a = noise + noise.t() + same.to(float64);
        SpectralNodes few = SpectralEmbedding.Fit(a, 5);
        Tensor all = linalg.eigvalsh(SpectralEmbedding.NormalizedLaplacian(a));
        Assert.True(few.Eigenvalues.allclose(all.narrow(0, 0, 5), 0, 1e-9));
        Tensor rows = few.UnitRows();
        Assert.True(rows.matmul(rows.t()).gt(.5).eq(same).all().item<bool>());
    }

    [Fact]
    public void Bad_graphs_are_refused()
    {
        Assert.Throws<ArgumentException>(() => SpectralEmbedding.Fit(ones(2, 3), 1));
        Assert.Throws<ArgumentException>(() => SpectralEmbedding.Fit(-ones(2, 2), 1));
        Assert.Throws<ArgumentException>(() => SpectralEmbedding.Fit(ones(2, 2) * double.NaN, 1));
        Assert.Throws<ArgumentException>(() => SpectralEmbedding.NormalizedLaplacian(tensor(new[,] { { 0, 1.0 }, { .5, 0 } })));
        Assert.Throws<ArgumentOutOfRangeException>(() => SpectralEmbedding.Fit(Blocks(), 7));
    }
}
