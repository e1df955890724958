using Priori.Numerics;

namespace Priori.Tests.Numerics;

public sealed class ProjectionsTests : IDisposable
{
    private readonly DisposeScope _scope = torch.NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Theory]
    [InlineData(1, new[] { 1.0, 0, 0, 0 })]
    [InlineData(2, new[] { 0.6, 0.4, 0, 0 })]
    [InlineData(3, new[] { 0.566667, 0.366667, 0.066667, 0 })]
    [InlineData(4, new[] { 0.566667, 0.366667, 0.066667, 0 })]
    public void Sparse_simplex_matches_the_worked_example(int k, double[] expected)
    {
        Tensor projected = Projections.SparseSimplex(torch.tensor(new[] { 0.9, 0.7, 0.4, 0.1 }), k);
        Assert.Equal(expected, projected.data<double>().ToArray(), (e, a) => Math.Abs(e - a) < 1e-6);
    }

    [Fact]
    public void Simplex_is_the_nearest_point_of_the_simplex()
    {
        torch.manual_seed(0);
        Tensor v = torch.randn(50, 7, dtype: ScalarType.Float64) * 2;
        Tensor projected = Projections.Simplex(v, 1.5);
        Assert.True(projected.ge(0).all().item<bool>());
        Assert.True(torch.allclose(projected.sum(1), torch.full(50, 1.5, dtype: ScalarType.Float64)));
        // Variational inequality <v - p, q - p> <= 0 at every vertex q.
        for (int i = 0; i < 7; i++)
        {
            Tensor vertex = torch.zeros_like(v);
            vertex[.., i] = 1.5;
            Assert.True(((v - projected) * (vertex - projected)).sum(1).max().item<double>() < 1e-12);
        }
    }

    [Fact]
    public void Every_dimension_and_a_mass_for_each_vector_work()
    {
        torch.manual_seed(1);
        Tensor v = torch.randn(3, 6, 4, dtype: ScalarType.Float64), z = torch.rand(3, 4, dtype: ScalarType.Float64) + 0.2;
        Tensor projected = Projections.SparseSimplex(v, 2, z, 1);
        for (int b = 0; b < 3; b++)
            for (int j = 0; j < 4; j++)
                Assert.True(torch.allclose(projected[b, .., j], Projections.SparseSimplex(v[b, .., j], 2, z[b, j].item<double>())));
        Assert.True(projected.gt(0).sum(1).le(2).all().item<bool>());
    }

    [Fact]
    public void Gradient_is_the_closed_form_Jacobian_and_matches_central_differences()
    {
        Tensor v = torch.tensor(new[] { 0.9, 0.7, 0.4, 0.1 }, requires_grad: true), z = torch.tensor(1.2, dtype: ScalarType.Float64, requires_grad: true);
        Tensor direction = torch.tensor(new[] { 0.3, -1.1, 0.8, 0.5 });
        (Projections.SparseSimplex(v, 2, z) * direction).sum().backward();
        // I - 11'/2 on the two kept entries: [(0.3 + 1.1) / 2, -(0.3 + 1.1) / 2, 0, 0]; the mass is shared equally.
        Assert.Equal([0.7, -0.7, 0, 0], v.grad!.data<double>().ToArray(), (e, a) => Math.Abs(e - a) < 1e-12);
        Assert.Equal(-0.4, z.grad!.item<double>(), 12);

        const double Step = 1e-6;
        Tensor x = torch.tensor(new[] { 0.9, 0.7, 0.4, 0.1 }, requires_grad: true);
        (Projections.Simplex(x) * direction).sum().backward();
        for (int i = 0; i < 4; i++)
        {
            Tensor shift = torch.zeros(4, dtype: ScalarType.Float64);
            shift[i] = Step;
            double slope = (((Projections.Simplex(x.detach() + shift) - Projections.Simplex(x.detach() - shift)) * direction).sum() / (2 * Step)).item<double>();
            Assert.Equal(slope, x.grad![i].item<double>(), 1e-8);
        }
    }

    [Fact]
    public void Single_precision_large_entries_masked_entries_and_NaN_are_handled()
    {
        Tensor large = Projections.Simplex(torch.tensor(new[] { 1e8f, 1e8f, 0f }));
        Assert.Equal([0.5f, 0.5f, 0f], large.data<float>().ToArray());
        Tensor masked = Projections.Simplex(torch.tensor(new[] { 0f, float.NegativeInfinity, 0.5f }));
        Assert.Equal([0.25f, 0f, 0.75f], masked.data<float>().ToArray());
        Assert.True(Projections.Simplex(torch.tensor(new[] { 0f, float.NaN, 0.5f })).isnan().all().item<bool>());
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Tensor v = torch.zeros(3);
        Assert.Throws<ArgumentOutOfRangeException>(() => Projections.SparseSimplex(v, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => Projections.Simplex(v, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => Projections.Simplex(v, 1, 1));
        Assert.Throws<ArgumentException>(() => Projections.Simplex(torch.zeros(3, dtype: ScalarType.Int64)));
    }

    [Theory]
    [InlineData(1, 6.0)]
    [InlineData(2, 4.242640687119285)]
    [InlineData(3, 3.7416573867739413)]
    [InlineData(9, 3.7416573867739413)]
    public void K_support_norm_matches_its_closed_forms(int k, double expected)
    {
        Assert.Equal(expected, Norms.KSupport(torch.tensor(new[] { 3.0, -2, 1 }), k).item<double>(), 12);
    }

    [Fact]
    public void K_support_norm_is_the_minimum_over_its_variational_form_and_never_increases_with_k()
    {
        torch.manual_seed(2);
        Tensor v = torch.randn(20, 6, dtype: ScalarType.Float64);
        Tensor previous = Norms.KSupport(v, 1);
        Assert.True(torch.allclose(previous, v.abs().sum(1)));
        Assert.True(torch.allclose(Norms.KSupport(v, 6), v.square().sum(1).sqrt()));
        for (int k = 2; k <= 6; k++)
        {
            Tensor norm = Norms.KSupport(v, k);
            Assert.True(norm.le(previous + 1e-12).all().item<bool>());
            // Optimal eta is min(1, |v| w) with sum eta = k (k < n): bisection on w.
            Tensor low = torch.zeros(20, 1, dtype: ScalarType.Float64), high = torch.full([20, 1], 1e6, dtype: ScalarType.Float64);
            for (int step = 0; step < 200; step++)
            {
                Tensor middle = (low + high) / 2, below = (v.abs() * middle).clamp_max(1).sum(1, keepdim: true).lt(k);
                (low, high) = (torch.where(below, middle, low), torch.where(below, high, middle));
            }
            Tensor eta = (v.abs() * high).clamp_max(1);
            Assert.True(torch.allclose(norm.square(), (v.square() / eta).sum(1), rtol: 1e-6));
            previous = norm;
        }
    }
}
