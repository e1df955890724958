using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class BasisPursuitTests
{
    [Fact]
    public void The_smallest_one_norm_among_all_solutions_is_found()
    {
        using Tensor a = tensor(new double[,] { { 1, 0, 1, 2 }, { 0, 1, 1, 0 } }), b = tensor(new double[] { 2, 1 });
        Tensor x = BasisPursuit.Solve(a, b);
        Assert.True(x.allclose(tensor(new[] { 0, 0, 1, 0.5 }), rtol: 0, atol: 1e-12), x.ToString(TorchSharp.TensorStringStyle.Numpy));
        Assert.True(BasisPursuit.Solve(a * 1e-6, b * 1e3).allclose(x * 1e9, rtol: 1e-10), "scale");
        Assert.Equal(0, BasisPursuit.Solve(a, zeros(2, float64)).abs().sum().item<double>());
    }

    [Fact]
    public void A_vertex_has_at_most_rank_entries_and_no_other_solution_is_smaller()
    {
        using Tensor a = randn([5, 40], float64, generator: new Generator(3)), b = randn([5], float64, generator: new Generator(4));
        Tensor x = BasisPursuit.Solve(a, b);
        Assert.True(a.mv(x).allclose(b, rtol: 1e-12, atol: 1e-12));
        Assert.Equal(5, x.ne(0).sum().item<long>());
        // The dual certificate: A^T z with |.| <= 1 and equality, with the sign of x, on the support proves the optimum.
        Tensor support = x.nonzero().squeeze(1);
        Tensor z = linalg.solve(a.index_select(1, support).t(), x.index_select(0, support).sign());
        Assert.InRange(a.t().mv(z).abs().max().item<double>(), 1 - 1e-9, 1 + 1e-9);
        Tensor q = linalg.qr(randn([5, 5], float64, generator: new Generator(5))).Q;
        Assert.True(BasisPursuit.Solve(q.matmul(a), q.mv(b)).allclose(x, atol: 1e-10));
        Assert.True(BasisPursuit.Solve(cat([a, a]), cat([b, b])).allclose(x, atol: 1e-10)); // dependent rows
    }

    [Fact]
    public void An_infeasible_system_names_its_residual_and_bad_arguments_are_refused()
    {
        using Tensor a = tensor(new double[,] { { 1, 2, 3 }, { 2, 4, 6 } });
        Assert.True(BasisPursuit.Solve(a, tensor(new double[] { 3, 6 })).allclose(tensor(new double[] { 0, 0, 1 })));
        var error = Assert.Throws<InvalidOperationException>(() => BasisPursuit.Solve(a, tensor(new double[] { 2, -1 }))); // orthogonal to (1, 2): the residual is b
        Assert.Contains("residual of 2.236", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => BasisPursuit.Solve(a, tensor(new double[] { 1 })));
        Assert.Throws<ArgumentException>(() => BasisPursuit.Solve(a, tensor(new[] { 1, double.NaN })));
    }
}
