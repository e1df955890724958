using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class LassoCoordinateDescentTests
{
    [Theory]
    [InlineData(.2, new[] { 0, 0, .9, .5 }, .29)]
    [InlineData(.01, new[] { 0, 0, .995, .5 }, .014975)]
    [InlineData(4, new double[] { 0, 0, 0, 0 }, 2.5)]
    [InlineData(7, new double[] { 0, 0, 0, 0 }, 2.5)]
    public void Hand_computed_solutions(double lambda, double[] expected, double objective)
    {
        using Tensor x = tensor(new double[,] { { 1, 0, 1, 2 }, { 0, 1, 1, 0 } }), y = tensor(new double[] { 2, 1 });
        LassoSolution solution = LassoCoordinateDescent.Solve(x, y, lambda);
        Assert.All(solution.Coefficients.Zip(expected), p => Assert.Equal(p.Second, p.First, 1e-10));
        Assert.Equal(objective, solution.Objective, 1e-12);
        Assert.True(solution.Converged);
        Assert.Equal(4, LassoCoordinateDescent.LargestPenalty(x, y));
    }

    [Fact]
    public void Orthonormal_columns_are_soft_thresholded()
    {
        double[] b = LassoCoordinateDescent.Solve(eye(3, dtype: float64), tensor(new[] { 2, -.5, .1 }), .3).Coefficients;
        Assert.All(b.Zip([1.7, -.2, 0]), p => Assert.Equal(p.Second, p.First, 1e-12));
    }

    [Fact]
    public void Optimality_conditions_hold_on_correlated_columns()
    {
        using Tensor common = randn([30, 1], float64, generator: new Generator(1)), x = randn([30, 200], float64, generator: new Generator(2)) * .4 + common, y = randn([30], float64, generator: new Generator(3));
        double largest = LassoCoordinateDescent.LargestPenalty(x, y);
        double[] lambdas = [.. Enumerable.Range(0, 20).Select(i => largest * Math.Pow(1e-3, i / 19.0))];
        foreach (LassoSolution solution in LassoCoordinateDescent.Path(x, y, lambdas))
        {
            Assert.True(solution.Converged);
            Assert.InRange(solution.DualityGap, 0, 1e-10 * .5 * y.square().sum().item<double>());
            Tensor b = tensor(solution.Coefficients), correlation = x.t().mv(y - x.mv(b));
            Assert.InRange(correlation.abs().max().item<double>(), 0, solution.Penalty * (1 + 1e-6) + 1e-12);
            Tensor support = b.nonzero().squeeze(1);
            Assert.True((correlation - b.sign() * solution.Penalty).index_select(0, support).abs().lt(1e-6 * largest).all().item<bool>());
            Assert.Equal(solution.Objective, LassoCoordinateDescent.Solve(x, y, solution.Penalty).Objective, 1e-9); // cold
        }
    }

    [Fact]
    public void Columns_of_norm_zero_stay_out_and_bad_arguments_are_refused()
    {
        using Tensor x = tensor(new double[,] { { 0, 1 }, { 0, 1 } }), y = tensor(new double[] { 1, 1 });
        LassoSolution solution = LassoCoordinateDescent.Solve(x, y, 0);
        Assert.Equal([0, 1], solution.Coefficients);
        Assert.Throws<ArgumentOutOfRangeException>(() => LassoCoordinateDescent.Solve(x, y, -1));
        Assert.Throws<ArgumentException>(() => LassoCoordinateDescent.Solve(x, ones(3, float64), 1));
        Assert.Throws<ArgumentException>(() => LassoCoordinateDescent.Solve(x, y * double.NaN, 1));
        Assert.Throws<ArgumentException>(() => LassoCoordinateDescent.Solve(x, y, 1, start: [1]));
    }
}
