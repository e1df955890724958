using Priori.Metrics;

namespace Priori.Tests.Metrics;

public class RepresentationSimilarityTests
{
    private static Tensor Gaussian(int seed, params long[] shape) => randn(shape, float64, generator: new Generator((ulong)seed));

    private static Tensor Rotated(Tensor x, int seed) => 3.7 * x.matmul(linalg.qr(Gaussian(seed, x.shape[1], x.shape[1])).Q) + Gaussian(seed + 1, x.shape[1]);

    [Fact]
    public void Linear_cka_of_a_worked_example()
    {
        // Centred: x = (-1, 0, 1), y = (-1, 1, 0) and a second column (0, 1, -1): y^T x = (1, -1), y^T y = [[2, 1], [1, 2]].
        using Tensor x = tensor(new double[,] { { 0 }, { 1 }, { 2 } }), y = tensor(new double[,] { { 1, 5 }, { 3, 6 }, { 2, 4 } });
        Assert.Equal(2 / (2 * Math.Sqrt(10)), RepresentationSimilarity.LinearCka(x, y).item<double>(), 1e-12);
    }

    [Theory]
    [InlineData(30, 4, 6)] // products of features
    [InlineData(8, 20, 5)] // Gram matrices
    public void Both_forms_of_linear_cka_agree_with_hsic(long n, long a, long b)
    {
        Tensor x = Gaussian(1, n, a), y = Gaussian(2, n, b);
        Tensor h = eye(n, dtype: float64) - 1.0 / n;
        Tensor k = h.matmul(x).matmul(x.t()).matmul(h), l = h.matmul(y).matmul(y.t()).matmul(h);
        double expected = (k.matmul(l).trace() / (k.matmul(k).trace() * l.matmul(l).trace()).sqrt()).item<double>();
        Assert.Equal(expected, RepresentationSimilarity.LinearCka(x, y).item<double>(), 1e-12);
    }

    [Fact]
    public void Every_measure_ignores_rotation_scale_and_shift()
    {
        Tensor x = Gaussian(3, 50, 5), y = Rotated(x, 4);
        Assert.Equal(1, RepresentationSimilarity.LinearCka(x, y).item<double>(), 1e-10);
        Assert.Equal(1, RepresentationSimilarity.UnbiasedLinearCka(x, y).item<double>(), 1e-10);
        Assert.Equal(1, RepresentationSimilarity.Svcca(x, y, 1).item<double>(), 1e-10);
        Assert.Equal(0, RepresentationSimilarity.ProcrustesDistance(x, y).item<double>(), 1e-10);
    }

    [Fact]
    public void Unbiased_hsic_is_the_sum_over_distinct_tuples()
    {
        const int n = 6;
        Tensor x = Gaussian(5, n, 2), y = Gaussian(6, n, 3), k = x.matmul(x.t()), l = y.matmul(y.t());
        double[,] K = new double[n, n], L = new double[n, n];
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) (K[i, j], L[i, j]) = (k[i, j].item<double>(), l[i, j].item<double>());
        double pairs = 0, quadruples = 0, triples = 0;
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
            {
                if (i == j) continue;
                pairs += K[i, j] * L[i, j];
                for (int q = 0; q < n; q++)
                {
                    if (q == i || q == j) continue;
                    triples += K[i, j] * L[i, q];
                    for (int r = 0; r < n; r++) if (r != i && r != j && r != q) quadruples += K[i, j] * L[q, r];
                }
            }
        // U-statistics over tuples of different indexes (Song et al., theorem 2).
        double expected = pairs / (n * (n - 1)) + quadruples / (n * (n - 1) * (n - 2) * (n - 3)) - 2 * triples / (n * (n - 1) * (n - 2));
        Assert.Equal(expected, RepresentationSimilarity.UnbiasedHsic(k, l).item<double>(), 1e-12);
    }

    [Fact]
    public void Minibatch_cka_of_independent_representations_is_near_zero_where_the_biased_one_is_not()
    {
        Tensor x = Gaussian(7, 400, 30), y = Gaussian(8, 400, 30);
        double batches = RepresentationSimilarity.UnbiasedLinearCka(x, y, 20).item<double>(), biased = RepresentationSimilarity.LinearCka(x.narrow(0, 0, 20), y.narrow(0, 0, 20)).item<double>();
        Assert.InRange(batches, -0.1, 0.1);
        Assert.True(biased > 0.4);
        // A last batch of fewer than four rows is left out.
        Assert.Equal(RepresentationSimilarity.UnbiasedLinearCka(x.narrow(0, 0, 20), y.narrow(0, 0, 20), 10).item<double>(),
            RepresentationSimilarity.UnbiasedLinearCka(x.narrow(0, 0, 23), y.narrow(0, 0, 23), 10).item<double>(), 1e-12);
    }

    [Fact]
    public void Svcca_is_the_mean_canonical_correlation()
    {
        // Orthogonal columns: the first pair correlates by cos(60 degrees), the second not at all.
        Tensor q = linalg.qr(Gaussian(9, 20, 4) - Gaussian(9, 20, 4).mean([0L])).Q;
        q = linalg.qr(q - q.mean([0L])).Q;
        Tensor x = q.narrow(1, 0, 2), y = stack([0.5 * q.select(1, 0) + Math.Sqrt(0.75) * q.select(1, 2), q.select(1, 3)], 1);
        Assert.Equal(0.25, RepresentationSimilarity.Svcca(x, y, 1).item<double>(), 1e-9);
        Tensor weak = cat([x.narrow(1, 0, 1), 1e-3 * x.narrow(1, 1, 1)], 1); // its second direction holds a millionth of the variance
        Assert.Equal(0.5, RepresentationSimilarity.Svcca(weak, y).item<double>(), 1e-5);
    }

    [Fact]
    public void The_procrustes_distance_is_what_the_best_rotation_leaves()
    {
        Tensor x = Gaussian(10, 30, 4), y = Gaussian(11, 30, 4);
        Tensor a = x - x.mean([0L]), b = y - y.mean([0L]);
        a = a / a.norm();
        b = b / b.norm();
        double expected = (Priori.Numerics.Procrustes.Fit(a, b).Apply(a) - b).square().sum().item<double>();
        Assert.Equal(expected, RepresentationSimilarity.ProcrustesDistance(x, y).item<double>(), 1e-10);
    }

    [Fact]
    public void Gradients_are_those_of_finite_differences()
    {
        Tensor x0 = Gaussian(12, 9, 3), y = Gaussian(13, 9, 4);
        foreach (Func<Tensor, Tensor> measure in new Func<Tensor, Tensor>[]
        {
            x => RepresentationSimilarity.LinearCka(x, y), x => RepresentationSimilarity.UnbiasedLinearCka(x, y, 5), x => RepresentationSimilarity.Svcca(x, y, 1), x => RepresentationSimilarity.ProcrustesDistance(x, y),
        })
        {
            Tensor x = x0.clone().requires_grad_();
            measure(x).backward();
            const double h = 1e-6;
            Tensor step = zeros_like(x0);
            step[2, 1] = h;
            double expected = (measure(x0 + step) - measure(x0 - step)).item<double>() / (2 * h);
            Assert.Equal(expected, x.grad![2, 1].item<double>(), 1e-6);
        }
    }

    [Fact]
    public void Types_follow_and_bad_representations_are_refused()
    {
        Assert.Equal(ScalarType.Float32, RepresentationSimilarity.LinearCka(randn(8, 2), randn(8, 3)).dtype);
        Assert.Contains("same n", Assert.Throws<ArgumentException>(() => RepresentationSimilarity.LinearCka(ones(3, 2), ones(4, 2))).Message);
        Assert.Contains("one floating-point type", Assert.Throws<ArgumentException>(() => RepresentationSimilarity.Svcca(ones(5, 2), ones(5, 2, dtype: float64))).Message);
        Assert.Contains("at least 4", Assert.Throws<ArgumentOutOfRangeException>(() => RepresentationSimilarity.UnbiasedLinearCka(ones(9, 2), ones(9, 2), 3)).Message);
        Assert.Contains("[n, n]", Assert.Throws<ArgumentException>(() => RepresentationSimilarity.UnbiasedHsic(ones(5, 4), ones(5, 5))).Message);
        Assert.Contains("no direction", Assert.Throws<ArgumentException>(() => RepresentationSimilarity.Svcca(ones(5, 2), randn(5, 2))).Message);
    }
}
