using Priori.Numerics;

namespace Priori.Tests.Numerics;

public sealed class SinkhornTests : IDisposable
{
    private readonly DisposeScope _scope = torch.NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Plan_has_the_form_of_the_optimum_and_its_marginals()
    {
        torch.manual_seed(0);
        Tensor a = torch.rand(5, dtype: ScalarType.Float64) + .1, b = torch.rand(7, dtype: ScalarType.Float64) + .1, cost = torch.rand(2, 5, 7, dtype: ScalarType.Float64);
        b = b * a.sum() / b.sum();
        Tensor plan = Sinkhorn.Plan(a, b, cost, .05, 20_000, 1e-12);
        Assert.True((plan.sum(-1) - a).abs().max().item<double>() < 1e-11);
        Assert.True((plan.sum(-2) - b).abs().max().item<double>() < 1e-12);
        // log T + C / gamma is a sum of a row and a column vector: all its 2x2 interactions vanish.
        Tensor potentials = plan.log() + cost / .05;
        Tensor interaction = potentials - potentials[.., 0..1] - potentials[.., .., 0..1] + potentials[.., 0..1, 0..1];
        Assert.True(interaction.abs().max().item<double>() < 1e-9);
    }

    [Fact]
    public void Tiny_regularisation_does_not_underflow()
    {
        Tensor masses = torch.full(3, 1 / 3.0, dtype: ScalarType.Float64), cost = 1 - torch.eye(3, dtype: ScalarType.Float64);
        Tensor plan = Sinkhorn.Plan(masses, masses, cost, 1e-4);
        Assert.True((plan - torch.eye(3, dtype: ScalarType.Float64) / 3).abs().max().item<double>() < 1e-9);
    }

    [Fact]
    public void Rounding_repairs_both_marginals_and_keeps_a_feasible_plan()
    {
        torch.manual_seed(1);
        Tensor a = torch.tensor(new[] { .2, .3, .5 }), b = torch.tensor(new[] { .6, .4 }), rough = torch.rand(3, 2, dtype: ScalarType.Float64);
        rough[0] = 0;
        Tensor rounded = Sinkhorn.Round(rough, a, b);
        Assert.True(rounded.ge(0).all().item<bool>());
        Assert.True((rounded.sum(1) - a).abs().max().item<double>() < 1e-14);
        Assert.True((rounded.sum(dim: 0) - b).abs().max().item<double>() < 1e-14);
        Tensor feasible = a.unsqueeze(1) * b;
        Assert.True(torch.allclose(Sinkhorn.Round(feasible, a, b), feasible));
    }

    [Fact]
    public void Linear_program_matches_the_assignment_found_by_enumeration()
    {
        torch.manual_seed(2);
        Tensor cost = torch.rand(4, 4, dtype: ScalarType.Float64);
        var costs = new double[4, 4];
        for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) costs[i, j] = cost[i, j].item<double>();
        double best = double.PositiveInfinity;
        for (int code = 0; code < 256; code++)
        {
            int[] to = [code & 3, (code >> 2) & 3, (code >> 4) & 3, (code >> 6) & 3];
            if (to.Distinct().Count() == 4) best = Math.Min(best, Enumerable.Range(0, 4).Sum(i => costs[i, to[i]]));
        }
        double[] ones = [1, 1, 1, 1];
        var solution = TransportationProblem.Solve(ones, ones, costs);
        Assert.Equal(best, solution.Value, 9);
        Assert.Equal(best, solution.Alpha.Sum() + solution.Beta.Sum(), 9);
        Assert.Throws<ArgumentException>(() => TransportationProblem.Solve(ones, [1, 1, 1, 2], costs));
    }
}
