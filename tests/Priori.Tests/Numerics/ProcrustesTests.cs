using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class ProcrustesTests
{
    private static Tensor Gaussian(int seed, params long[] shape) => randn(shape, float64, generator: new Generator((ulong)seed));

    [Theory]
    [InlineData(5, 5)]
    [InlineData(3, 6)] // into a wider space
    public void A_planted_map_is_found(long a, long b)
    {
        Tensor points = Gaussian(1, 40, a), map = linalg.qr(Gaussian(2, b, b)).Q.narrow(0, 0, a), shift = Gaussian(3, b);
        Tensor target = 2.5 * points.matmul(map) + shift;
        Procrustes fit = Procrustes.Fit(points, target, scaled: true, centered: true);
        Assert.Equal(2.5, fit.Scale, 1e-9);
        Assert.True(fit.Rotation.allclose(map, atol: 1e-9));
        Tensor fresh = Gaussian(4, 7, a);
        Assert.True(fit.Apply(fresh).allclose(2.5 * fresh.matmul(map) + shift, atol: 1e-9));
    }

    [Fact]
    public void No_other_rotation_is_nearer()
    {
        Tensor x = Gaussian(5, 30, 4), y = Gaussian(6, 30, 4);
        Procrustes fit = Procrustes.Fit(x, y);
        Assert.True(fit.Rotation.matmul(fit.Rotation.t()).allclose(eye(4, dtype: float64), atol: 1e-10));
        double best = (fit.Apply(x) - y).square().sum().item<double>();
        for (int seed = 10; seed < 30; seed++)
        {
            Tensor near = linalg.qr(fit.Rotation + 0.1 * Gaussian(seed, 4, 4)).Q;
            near = near * (near * fit.Rotation).sum(0, true).sign(); // the sign that QR leaves open
            Assert.True((x.matmul(near) - y).square().sum().item<double>() >= best);
        }
    }

    [Fact]
    public void A_narrower_target_is_reached_by_orthonormal_columns()
    {
        Procrustes fit = Procrustes.Fit(Gaussian(7, 30, 6), Gaussian(8, 30, 2));
        Assert.Equal([6, 2], fit.Rotation.shape);
        Assert.True(fit.Rotation.t().matmul(fit.Rotation).allclose(eye(2, dtype: float64), atol: 1e-10));
    }

    [Fact]
    public void Bad_points_are_refused()
    {
        Assert.Contains("[3, 2]", Assert.Throws<ArgumentException>(() => Procrustes.Fit(ones(3, 2), ones(4, 2))).Message);
        Assert.Contains("one floating-point type", Assert.Throws<ArgumentException>(() => Procrustes.Fit(ones(3, 2), ones(3, 2, dtype: float64))).Message);
        Assert.Contains("NaN", Assert.Throws<ArgumentException>(() => Procrustes.Fit(full([2, 2], float.NaN), ones(2, 2))).Message);
        Assert.Contains("scale", Assert.Throws<ArgumentException>(() => Procrustes.Fit(zeros(2, 2), ones(2, 2), scaled: true)).Message);
        Assert.Contains("[m, 2]", Assert.Throws<ArgumentException>(() => Procrustes.Fit(ones(3, 2), ones(3, 2)).Apply(ones(1, 3))).Message);
    }
}
