using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class LassoTests
{
    public static TheoryData<LassoSolver> Solvers => [LassoSolver.CoordinateDescent, LassoSolver.Fista];

    [Theory]
    [MemberData(nameof(Solvers))]
    public void Two_variables_follow_the_path_that_is_computed_by_hand(LassoSolver solver)
    {
        using Tensor g = tensor(new[,] { { 1, .6 }, { .6, 1 } }), c = tensor(new[,] { { .9 }, { .7 } });
        (double Lambda, double First, double Second, double Error)[] expected = [(0, .75, .25, .15), (.1, .6875, .1875, .1625), (.2, .625, .125, .20), (.5, .4, 0, .44), (.95, 0, 0, 1)];
        IReadOnlyList<LassoFit> path = Lasso.Path(g, c, [.. expected.Select(e => e.Lambda)], solver);
        foreach ((LassoFit fit, (double lambda, double first, double second, double error)) in path.Zip(expected))
        {
            Assert.True(fit.Converged);
            Assert.Equal(lambda, fit.Penalty);
            Tensor w = fit.Coefficients;
            Assert.Equal(first, w[0, 0].item<double>(), 1e-8);
            Assert.Equal(second, w[1, 0].item<double>(), 1e-8);
            Assert.Equal(second == 0, w[1, 0].item<double>() == 0); // thresholded least squares would keep it at 0.5
            Assert.Equal(error, (1 - 2 * (w * c).sum() + w.t().matmul(g).matmul(w)).item<double>(), 1e-8);
        }
    }

    [Theory]
    [MemberData(nameof(Solvers))]
    public void Uncorrelated_variables_are_soft_thresholded(LassoSolver solver)
    {
        using Tensor c = tensor(new[,] { { .9, -.05 }, { -.4, .2 }, { .1, -.8 } });
        Tensor w = Lasso.Solve(eye(3, dtype: float64), c, .15, solver).Coefficients;
        Assert.True(w.allclose(tensor(new[,] { { .75, 0 }, { -.25, .05 }, { 0, -.65 } }), 0, 1e-9));
    }

    [Theory]
    [MemberData(nameof(Solvers))]
    public void Optimality_conditions_hold_for_all_columns_and_warm_starts_change_nothing(LassoSolver solver)
    {
        (Tensor g, Tensor c) = Correlated();
        double largest = Lasso.LargestPenalty(c);
        double[] lambdas = [.3 * largest, .003 * largest, .9 * largest, .05 * largest];
        foreach (LassoFit fit in Lasso.Path(g, c, lambdas, solver))
        {
            Assert.True(fit.Converged);
            Tensor gradient = c - g.matmul(fit.Coefficients), off = fit.Coefficients == 0;
            Assert.InRange(where(off, gradient.abs(), zeros_like(gradient)).max().item<double>(), 0, fit.Penalty + 1e-9 * largest);
            Assert.InRange(where(off, zeros_like(gradient), gradient - fit.Penalty * fit.Coefficients.sign()).abs().max().item<double>(), 0, 1e-9 * largest);
            Assert.True(fit.Coefficients.allclose(Lasso.Solve(g, c, fit.Penalty, solver).Coefficients, 0, 1e-6));
        }
        Assert.Equal(0, Lasso.Solve(g, c, largest, solver).Coefficients.abs().max().item<double>());
        Assert.Equal(1, Lasso.Solve(g, c, .999 * largest, solver).Coefficients.count_nonzero().item<long>());
    }

    [Fact]
    public void Both_solvers_and_the_solver_on_rows_agree()
    {
        using Tensor x = randn([60, 12], float64, generator: new Generator(1)), y = randn([60, 3], float64, generator: new Generator(2)) + x.narrow(1, 0, 3);
        (Tensor g, Tensor c) = Lasso.SecondMoments(x, y);
        Tensor a = Lasso.Solve(g, c, 5).Coefficients, b = Lasso.Solve(g, c, 5, LassoSolver.Fista).Coefficients;
        Assert.True(a.allclose(b, 0, 1e-7));
        for (int k = 0; k < 3; k++) Assert.True(a[.., k].allclose(tensor(LassoCoordinateDescent.Solve(x, y[.., k].contiguous(), 5).Coefficients), 0, 1e-5));
    }

    [Fact]
    public void Without_penalty_a_singular_matrix_gets_the_solution_of_least_norm_and_an_empty_variable_stays_out()
    {
        using Tensor g = tensor(new[,] { { 1.0, 1, 0 }, { 1, 1, 0 }, { 0, 0, 0 } }), c = tensor(new[,] { { .8 }, { .8 }, { .5 } });
        Assert.True(Lasso.Solve(g, c, 0).Coefficients.allclose(tensor(new[,] { { .4 }, { .4 }, { 0 } }), 0, 1e-9));
        foreach (LassoSolver solver in Enum.GetValues<LassoSolver>())
        {
            Tensor w = Lasso.Solve(g, c, .2, solver).Coefficients;
            Assert.Equal(.6, (w[0, 0] + w[1, 0]).item<double>(), 1e-8);
            Assert.Equal(0, w[2, 0].item<double>());
        }
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Tensor g = eye(2, dtype: float64), c = ones([2, 1], float64);
        Assert.Throws<ArgumentOutOfRangeException>(() => Lasso.Solve(g, c, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => Lasso.Solve(g, c, double.NaN));
        Assert.Throws<ArgumentException>(() => Lasso.Solve(g, ones([3, 1], float64), 1));
        Assert.Throws<ArgumentException>(() => Lasso.Solve(g, c * double.NaN, 1));
        Assert.Throws<ArgumentException>(() => Lasso.Solve(g, c, 1, start: ones([1, 1], float64)));
        Assert.Throws<ArgumentException>(() => Lasso.SecondMoments(ones(3, 2), ones(4, 2)));
    }

    private static (Tensor G, Tensor C) Correlated()
    {
        Tensor common = randn([400, 1], float64, generator: new Generator(1)), x = randn([400, 37], float64, generator: new Generator(2)) + common, y = x.matmul(randn([37, 9], float64, generator: new Generator(3))) + randn([400, 9], float64, generator: new Generator(4));
        (Tensor g, Tensor c) = Lasso.SecondMoments(x, y);
        return (g / 400, c / 400);
    }
}
