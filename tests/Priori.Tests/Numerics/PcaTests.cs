using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class PcaTests
{
    [Fact]
    public void Points_on_a_line_have_one_component()
    {
        using Tensor data = tensor(new float[,] { { 1, 2 }, { 2, 4 }, { 3, 6 }, { 4, 8 } });
        Pca pca = Pca.Fit(data, 2);
        double root = Math.Sqrt(5);
        Assert.True(pca.Mean.allclose(tensor(new float[] { 2.5f, 5 })));
        Assert.True(pca.Components[0].allclose(tensor(new float[] { (float)(1 / root), (float)(2 / root) }), atol: 1e-6));
        Assert.True(pca.ExplainedVariance.allclose(tensor(new float[] { 25f / 3, 0 }), atol: 1e-5)); // (5 + 20) / (4 - 1)
        Assert.Equal(25.0 / 3, pca.TotalVariance, 1e-9);
        Assert.True(pca.Inverse(pca.Transform(data)).allclose(data, atol: 1e-5));
    }

    [Theory]
    [InlineData(40, 7, ScalarType.Float32)] // through the covariance
    [InlineData(12, 30, ScalarType.Float64)] // through the Gram matrix; the last component has no variance
    public void Both_ways_agree_with_the_singular_values(long n, long d, ScalarType type)
    {
        using Tensor data = (randn([n, d], float64, generator: new Generator(5)) * arange(1, d + 1, float64)).to(type);
        int k = (int)Math.Min(n, d);
        Pca pca = Pca.Fit(data, k);
        Assert.Equal(type, pca.Components.dtype);
        Tensor singular = linalg.svdvals((data - data.mean([0L])).to(float64));
        Assert.True(pca.ExplainedVariance.to(float64).allclose(singular.square() / (n - 1), rtol: 1e-5, atol: 1e-6));
        Assert.True(pca.Components.matmul(pca.Components.t()).allclose(eye(k, dtype: type), atol: 1e-5));
        Tensor scores = pca.Transform(data).to(float64);
        Assert.True((scores.t().matmul(scores) / (n - 1)).allclose(diag(pca.ExplainedVariance.to(float64)), atol: 1e-3));
        Assert.Equal(pca.TotalVariance, pca.ExplainedVariance.sum().ToDouble(), 1e-2);
        Assert.True(pca.Components.amax([1]).allclose(pca.Components.abs().amax([1]))); // signs are settled
    }

    [Fact]
    public void Bad_data_are_refused()
    {
        Assert.Contains("1..2", Assert.Throws<ArgumentOutOfRangeException>(() => Pca.Fit(ones(3, 2), 3)).Message);
        Assert.Contains("NaN", Assert.Throws<ArgumentException>(() => Pca.Fit(full([3, 2], float.NaN), 1)).Message);
        Assert.Throws<ArgumentException>(() => Pca.Fit(ones(1, 2), 1));
        Assert.Contains("[n, 2]", Assert.Throws<ArgumentException>(() => Pca.Fit(randn(3, 2), 1).Transform(ones(3, 4))).Message);
    }
}
