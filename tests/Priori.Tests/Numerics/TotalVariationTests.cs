using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class TotalVariationTests
{
    private static readonly TotalVariationSolver[] s_solvers = Enum.GetValues<TotalVariationSolver>();

    public static TheoryData<TotalVariationSolver> Solvers => [.. s_solvers];

    private static TotalVariationDenoiser Exact(TotalVariationSolver solver) => new() { Solver = solver, MaxIterations = 20_000, Tolerance = 1e-9 };

    private static Tensor Picture() => rand([2, 3, 12, 9], float64, generator: new Generator(2)) + (arange(9, float64) / 4).round();

    [Fact]
    public void The_variation_of_a_staircase_is_4_and_the_isotropic_one_2_828427()
    {
        using Tensor u = tensor(new double[,] { { 0, 0, 1 }, { 0, 1, 1 }, { 1, 1, 1 } });
        Assert.Equal(4, TotalVariation.Of(u, isotropic: false).ToDouble(), 1e-12);
        Assert.Equal(2.828427, TotalVariation.Of(u).ToDouble(), 1e-6);
        Assert.Equal([2L, 3L], TotalVariation.Of(Picture()).shape);
        using Tensor row = tensor(new double[] { 0, 3, 1 });
        Assert.Equal(5, TotalVariation.Of(row, dimensions: 1).ToDouble(), 1e-12);
    }

    [Fact]
    public void Its_gradient_is_that_of_finite_differences()
    {
        using Tensor u = rand([4, 5], float64, generator: new Generator(1)).requires_grad_();
        TotalVariation.Of(u).backward();
        Tensor bump = zeros(4, 5, float64);
        bump[2, 3] = 1e-6;
        double slope = (TotalVariation.Of(u.detach() + bump) - TotalVariation.Of(u.detach() - bump)).ToDouble() / 2e-6;
        Assert.Equal(slope, u.grad![2, 3].ToDouble(), 1e-6);
    }

    [Theory]
    [MemberData(nameof(Solvers))]
    public void A_step_signal_moves_by_one_over_weight_times_length(TotalVariationSolver solver)
    {
        TotalVariationDenoiser denoiser = Exact(solver) with { Dimensions = 1 };
        using Tensor f = tensor(new double[] { 0, 0, 1, 1 });
        Assert.True(denoiser.Denoise(f, 2).allclose(tensor(new[] { .25, .25, .75, .75 }), atol: 1e-6));
        // Plateaus of 3 and 2: moved by 1 / (4 * 3) and 1 / (4 * 2); at weight 0.5 they meet at the mean.
        using Tensor g = tensor(new[] { 0.0, 0, 0, 1, 1 });
        Assert.True(denoiser.Denoise(g, 4).allclose(tensor(new[] { 1 / 12.0, 1 / 12.0, 1 / 12.0, 1 - 1 / 8.0, 1 - 1 / 8.0 }), atol: 1e-6));
        Assert.True(denoiser.Denoise(g, 0.5).allclose(full([5], 0.4, float64), atol: 1e-5));
        // On a scale s times as large the weight is that over s.
        Assert.True(denoiser.Denoise(g * 255, 4 / 255.0).allclose(denoiser.Denoise(g, 4) * 255, atol: 1e-3));
    }

    [Theory]
    [MemberData(nameof(Solvers))]
    public void Constants_stay_means_stay_and_weights_go_from_the_mean_to_the_input(TotalVariationSolver solver)
    {
        TotalVariationDenoiser denoiser = Exact(solver);
        using Tensor f = Picture(), constant = full([1, 1, 6, 5], 0.3, float64);
        Assert.True(denoiser.Denoise(constant, 3).allclose(constant, atol: 1e-9));
        foreach (bool isotropic in new[] { true, false })
            Assert.True((denoiser with { Isotropic = isotropic, MaxIterations = 40 }).Denoise(f, 5).mean([2L, 3L]).allclose(f.mean([2L, 3L]), atol: 1e-9));
        Assert.True(denoiser.Denoise(f, 1e9).allclose(f, atol: 1e-6));
        Assert.True(denoiser.Denoise(f, double.PositiveInfinity).allclose(f, rtol: 0, atol: 0));
        Assert.True(denoiser.Denoise(f, 1e-3).allclose(f.mean([2L, 3L], keepdim: true).expand_as(f), atol: 1e-3));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Split_Bregman_and_Chambolle_agree_and_nothing_near_is_better(bool isotropic)
    {
        using Tensor f = Picture();
        const double Weight = 4;
        Tensor[] found = [.. s_solvers.Select(s => (Exact(s) with { Isotropic = isotropic }).Denoise(f, Weight))];
        Assert.True((found[0] - found[1]).abs().max().ToDouble() < 1e-3);
        double Objective(Tensor u) => (TotalVariation.Of(u, isotropic).sum() + Weight / 2 * (u - f).square().sum()).ToDouble();
        double least = Objective(found[0]);
        Assert.Equal(least, Objective(found[1]), 1e-4);
        for (int seed = 0; seed < 5; seed++) Assert.True(Objective(found[0] + 0.01 * randn(f.shape, float64, generator: new Generator((ulong)seed))) > least);
    }

    [Theory]
    [MemberData(nameof(Solvers))]
    public void Images_of_a_batch_are_independent(TotalVariationSolver solver)
    {
        var denoiser = new TotalVariationDenoiser { Solver = solver, Tolerance = 0, MaxIterations = 30 };
        using Tensor f = Picture().to(float32);
        Assert.True(denoiser.Denoise(f, 3)[1, 2].allclose(denoiser.Denoise(f[1, 2], 3), atol: 1e-5));
        Assert.Equal(float32, denoiser.Denoise(f, 3).dtype);
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        var denoiser = new TotalVariationDenoiser();
        Assert.Throws<ArgumentOutOfRangeException>(() => denoiser.Denoise(ones(3, 3), 0));
        Assert.Contains("2 dimensions", Assert.Throws<ArgumentException>(() => denoiser.Denoise(ones(3), 1)).Message);
        Assert.Throws<ArgumentException>(() => (denoiser with { Penalty = 0 }).Denoise(ones(3, 3), 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => (denoiser with { MaxIterations = 0 }).Denoise(ones(3, 3), 1));
    }
}
