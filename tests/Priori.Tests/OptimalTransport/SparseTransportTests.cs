using Priori.Numerics;
using Priori.OptimalTransport;
using Ot = Priori.OptimalTransport.OptimalTransport;

namespace Priori.Tests.OptimalTransport;

public sealed class SparseTransportTests : IDisposable
{
    private readonly DisposeScope _scope = torch.NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    private static Tensor Vector(params double[] values) => torch.tensor(values);

    private static OtOptions Sparse(int k, double gamma = 1, OtForm form = OtForm.SemiDual) => new(OtRegularization.SparsityConstrained, gamma, k, form) { Relax = true };

    private static double Number(Tensor scalar) => scalar.item<double>();

    /// <summary>The 4x3 problem: A, B are not uniform; k = 1 and 2 lie on ties.</summary>
    private static (Tensor A, Tensor B, Tensor C) Small() => (Vector(.4, .3, .2, .1), Vector(.5, .25, .25),
        torch.tensor(new double[,] { { 0, 2, 3 }, { 1, 0, 2 }, { 4, 1, 0 }, { 2, 3, 1 } }));

    /// <summary>Eight and four points of two low-discrepancy sequences, squared Euclidean cost, uniform masses.</summary>
    private static (Tensor A, Tensor B, Tensor C) Points()
    {
        var cost = new double[8, 4];
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 4; j++)
                cost[i, j] = Math.Pow(.7 * i % 1 - (.45 * j + .2) % 1, 2) + Math.Pow((.37 * i + .1) % 1 - (.81 * j + .3) % 1, 2);
        return (torch.full(8, 1 / 8.0, dtype: ScalarType.Float64), torch.full(4, 1 / 4.0, dtype: ScalarType.Float64), torch.tensor(cost));
    }

    [Theory]
    [InlineData(1, 4.5)]
    [InlineData(2, 6.5)]
    [InlineData(3, 7.0)]
    [InlineData(4, 7.0)]
    public void Conjugate_matches_the_worked_example(int k, double expected)
    {
        Assert.Equal(expected, Number(new SparsityConstrainedRegularizer(k, 1).Conjugate(Vector(3, 1, 2, -1).unsqueeze(0)).Value), 12);
    }

    [Theory]
    [InlineData(1, 0.4, new[] { 1.0, 0, 0, 0 })]
    [InlineData(2, 0.56, new[] { .6, .4, 0, 0 })]
    [InlineData(3, 0.5633333333, new[] { .566666667, .366666667, .066666667, 0 })]
    [InlineData(4, 0.5633333333, new[] { .566666667, .366666667, .066666667, 0 })]
    public void Conjugate_with_mass_matches_the_worked_example(int k, double value, double[] column)
    {
        ColumnSolution solution = new SparsityConstrainedRegularizer(k, 1).MassConjugate(Vector(.9, .7, .4, .1).unsqueeze(0), Vector(1));
        Assert.Equal(value, Number(solution.Value), 1e-9);
        Assert.Equal(column, solution.Columns(4)[0].data<double>().ToArray(), (e, a) => Math.Abs(e - a) < 1e-8);
        // The multiplier of the mass turns the column into the clipped scores: t = max(s + beta, 0) / gamma on the kept entries.
        Assert.Equal(column[0], .9 + Number(solution.Beta), 1e-8);
    }

    [Fact]
    public void Linear_program_gives_the_known_value_and_potentials_that_prove_it()
    {
        (Tensor a, Tensor b, Tensor cost) = Small();
        OtResult result = Ot.Solve(a, b, cost, new(OtRegularization.None));
        Assert.Equal(.2, Number(result.PrimalValue), 1e-9);
        Assert.Equal(.2, Number(result.DualValue), 1e-9);
        Assert.True((result.Alpha.unsqueeze(1) + result.Beta - cost).max().item<double>() < 1e-9);
        (a, b, cost) = Points();
        Assert.Equal(.1179, Number(Ot.Solve(a, b, cost, new(OtRegularization.None)).PrimalValue), 5e-5);
    }

    [Theory]
    [InlineData(OtForm.SemiDual)]
    [InlineData(OtForm.Dual)]
    public void Non_uniform_problem_reaches_the_known_values_and_reports_its_ties(OtForm form)
    {
        (Tensor a, Tensor b, Tensor cost) = Small();
        foreach ((int k, double expected, bool ties) in ((int, double, bool)[])[(1, .3875, true), (2, .3375, true), (3, .335, false), (4, .335, false)])
        {
            OtResult result = Ot.Solve(a, b, cost, Sparse(k, form: form));
            Assert.Equal(expected, Number(result.DualValue), ties ? 1e-6 : 1e-9);
            Assert.Equal(ties, result.HasTies.item<bool>());
            Assert.True(result.Converged.item<bool>());
            Assert.True(Number(result.ColMarginalError) < 1e-8);
            Assert.True(result.NonZeros.le(k).all().item<bool>());
            Assert.Equal(expected, Number(result.RelaxedValue), 1e-6);
            Assert.True((result.RelaxedPlan.sum(1) - a).abs().max().item<double>() < 1e-7);
            if (ties) continue;
            double[,] plan = { { .4, 0, 0 }, { .05, .25, 0 }, { 0, 0, .2 }, { .05, 0, .05 } };
            Assert.True((result.Plan - torch.tensor(plan)).abs().max().item<double>() < 1e-8);
            Assert.True(Number(result.DualityGap) < 1e-8);
            Assert.Equal([0, .65, .8, 1.65], (result.Alpha - result.Alpha[0]).data<double>().ToArray(), (e, x) => Math.Abs(e - x) < 1e-7);
        }
    }

    [Fact]
    public void A_polished_plan_that_misses_row_masses_always_reports_ties()
    {
        torch.manual_seed(6);
        Tensor mass = torch.full(16, 1 / 16.0, dtype: ScalarType.Float64), costs = torch.cdist(torch.randn(8, 16, 2, dtype: ScalarType.Float64), torch.randn(8, 16, 2, dtype: ScalarType.Float64)).square();
        OtResult result = Ot.Solve(mass, mass, costs, Sparse(2, 5));
        Assert.True(result.Converged.all().item<bool>());
        Tensor wrong = result.RowMarginalError.gt(1e-7);
        Assert.True(wrong.any().item<bool>());
        Assert.True(result.HasTies.logical_or(wrong.logical_not()).all().item<bool>());
        Assert.True((result.RelaxedValue - result.DualValue).abs().max().item<double>() < 1e-6);
    }

    [Fact]
    public void Without_polishing_a_tie_is_reported_as_not_converged()
    {
        (Tensor a, Tensor b, Tensor cost) = Small();
        OtResult result = Ot.Solve(a, b, cost, Sparse(1) with { Polish = false });
        Assert.False(result.Converged.item<bool>());
        Assert.True(Number(result.RowMarginalError) > 1e-3);
        Assert.True(Number(result.DualValue) < .3875 - 1e-6);
    }

    [Theory]
    [InlineData(.5, 1, .1804, 5e-5)]
    [InlineData(.5, 2, .14915, 5e-6)]
    [InlineData(.5, 3, .1476754, 5e-8)]
    [InlineData(.5, 4, .14765695, 5e-9)]
    [InlineData(.5, 8, .14765695, 5e-9)]
    [InlineData(2, 2, .2429, 5e-5)]
    [InlineData(2, 3, .2218751, 5e-8)]
    [InlineData(2, 8, .21316369, 5e-9)]
    public void Point_problem_reaches_the_known_values(double gamma, int k, double expected, double precision)
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        foreach (OtForm form in Enum.GetValues<OtForm>())
        {
            OtResult result = Ot.Solve(a, b, cost, Sparse(k, gamma, form));
            Assert.Equal(expected, Number(result.DualValue), precision);
            Assert.True(result.NonZeros.le(k).all().item<bool>());
            Assert.Equal(Number(result.DualValue), Number(result.RelaxedValue), 1e-7);
        }
    }

    [Fact]
    public void Point_problem_without_ties_is_solved_to_optimality()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        OtResult result = Ot.Solve(a, b, cost, Sparse(2, .5));
        Assert.False(result.HasTies.item<bool>());
        Assert.Equal([2L, 2, 2, 2], result.NonZeros.data<long>().ToArray());
        Assert.True(Number(result.RowMarginalError) < 1e-8);
        Assert.True(Math.Abs(Number(result.DualityGap)) < 1e-8);
        Assert.Equal([3L, 6, 4, 5], Ot.Solve(a, b, cost, new(OtRegularization.Quadratic, 2)).NonZeros.data<long>().ToArray());
    }

    [Fact]
    public void Smallest_sparsity_is_plain_transport_plus_a_constant_and_largest_is_quadratic()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        double linear = Number(Ot.Solve(a, b, cost, new(OtRegularization.None)).DualValue);
        Assert.Equal(linear + .5 / 2 * 4 / 16.0, Number(Ot.Solve(a, b, cost, Sparse(1, .5)).DualValue), 1e-6);
        Assert.Equal(Number(Ot.Solve(a, b, cost, new(OtRegularization.Quadratic, .5)).DualValue), Number(Ot.Solve(a, b, cost, Sparse(99, .5)).DualValue), 1e-12);
    }

    [Theory]
    [InlineData(OtRegularization.SparsityConstrained)]
    [InlineData(OtRegularization.Quadratic)]
    [InlineData(OtRegularization.Entropic)]
    public void Gradients_of_both_forms_match_central_differences(OtRegularization regularization)
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        torch.manual_seed(3);
        foreach (OtForm form in Enum.GetValues<OtForm>())
        {
            var objective = Ot.Objective(a, b, cost, new(regularization, .5, 2, form));
            Tensor x = torch.randn(form == OtForm.Dual ? 12 : 8, dtype: ScalarType.Float64) * .3;
            AssertGradient(y => objective(y).Value, x, objective(x).Gradient);
        }
        ColumnRegularizer regularizer = regularization == OtRegularization.Entropic ? new EntropicRegularizer(.5) : new SparsityConstrainedRegularizer(regularization == OtRegularization.Quadratic ? 8 : 3, .5);
        Tensor scores = torch.randn(8, dtype: ScalarType.Float64);
        AssertGradient(s => regularizer.Conjugate(s.unsqueeze(0)).Value.squeeze(), scores, regularizer.Conjugate(scores.unsqueeze(0)).Columns(8)[0]);
        AssertGradient(s => regularizer.MassConjugate(s.unsqueeze(0), Vector(.7)).Value.squeeze(), scores, regularizer.MassConjugate(scores.unsqueeze(0), Vector(.7)).Columns(8)[0]);
    }

    private static void AssertGradient(Func<Tensor, Tensor> function, Tensor x, Tensor gradient, double tolerance = 1e-6, double step = 1e-6)
    {
        for (long i = 0; i < x.shape[0]; i++)
        {
            Tensor shift = torch.zeros_like(x);
            shift[i] = step;
            Assert.Equal(Number((function(x + shift) - function(x - shift)) / (2 * step)), gradient[i].item<double>(), tolerance);
        }
    }

    [Fact]
    public void Value_is_differentiable_with_the_plan_and_the_potentials_as_gradients()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        OtOptions options = Sparse(2, .5);
        (Tensor p, Tensor q, Tensor c) = (a.clone().requires_grad_(), b.clone().requires_grad_(), cost.clone().requires_grad_());
        (Ot.Value(p, q, c, options) * 3).backward();
        OtResult result = Ot.Solve(a, b, cost, options);
        Assert.True(torch.allclose(c.grad!, result.Plan * 3));
        foreach ((long i, long j) in ((long, long)[])[(0, 0), (2, 1), (5, 3)])
        {
            Tensor shift = torch.zeros_like(cost);
            shift[i, j] = 1e-5;
            double slope = Number((Ot.Value(a, b, cost + shift, options) - Ot.Value(a, b, cost - shift, options)) / 2e-5);
            Assert.Equal(slope, result.Plan[i, j].item<double>(), 1e-6);
        }
        // Masses: only shifts that keep the sums equal are feasible.
        Tensor exchange = torch.zeros_like(a);
        exchange[0] = 1e-5;
        exchange[3] = -1e-5;
        double moved = Number((Ot.Value(a + exchange, b, cost, options) - Ot.Value(a - exchange, b, cost, options)) / 2e-5);
        Assert.Equal(moved, (p.grad![0] - p.grad[3]).item<double>() / 3, 1e-6);
    }

    [Fact]
    public void Matching_layer_returns_the_plan_and_sends_gradients_to_the_kept_entries()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        OtOptions options = Sparse(2, .5);
        Tensor c = cost.clone().requires_grad_();
        Tensor plan = Ot.Match(a, b, c, options);
        Assert.True((plan - Ot.Solve(a, b, cost, options).Plan).abs().max().item<double>() < 1e-10);
        Tensor weights = torch.arange(32, dtype: ScalarType.Float64).reshape(8, 4);
        (plan * weights).sum().backward();
        Tensor kept = plan.gt(0).to(ScalarType.Float64);
        Tensor expected = -kept * (weights - (weights * kept).sum(dim: 0) / 2) / .5;
        Assert.Equal(expected.data<double>().ToArray(), c.grad!.data<double>().ToArray(), (e, x) => Math.Abs(e - x) < 1e-9);
        Tensor rows = Ot.Match(b, a, cost.mT, options with { PerRow = true });
        Assert.True((rows - plan.detach().mT).abs().max().item<double>() < 1e-10);
    }

    [Fact]
    public void Relaxed_primal_at_the_plan_equals_the_dual()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        OtResult result = Ot.Solve(a, b, cost, Sparse(2, .5));
        Tensor relaxed = (result.Plan * cost).sum() + Norms.KSupport(result.Plan.mT, 2).square().sum() * .25;
        Assert.Equal(Number(result.DualValue), Number(relaxed), 1e-8);
    }

    [Fact]
    public void Shifting_potentials_changes_nothing_and_shifting_costs_adds_the_mass()
    {
        (Tensor a, Tensor b, Tensor cost) = Small();
        torch.manual_seed(4);
        Tensor x = torch.randn(4, dtype: ScalarType.Float64);
        foreach (OtRegularization regularization in (OtRegularization[])[OtRegularization.Entropic, OtRegularization.Quadratic, OtRegularization.SparsityConstrained])
        {
            OtOptions options = new(regularization, 1, 3);
            var objective = Ot.Objective(a, b, cost, options);
            Assert.Equal(Number(objective(x).Value), Number(objective(x + 5).Value), 1e-10);
            Assert.Equal(Number(Ot.Solve(a, b, cost, options).DualValue) + 2.5, Number(Ot.Solve(a, b, cost + 2.5, options).DualValue), 1e-8);
        }
    }

    [Fact]
    public void Entropic_forms_agree_with_Sinkhorn()
    {
        (Tensor a, Tensor b, Tensor cost) = Small();
        Tensor plan = Sinkhorn.Plan(a, b, cost, .3, 10_000, 1e-12);
        Assert.True((plan.sum(1) - a).abs().max().item<double>() < 1e-11);
        foreach (OtForm form in Enum.GetValues<OtForm>())
        {
            OtResult result = Ot.Solve(a, b, cost, new(OtRegularization.Entropic, .3, Form: form));
            Assert.True(result.Converged.item<bool>());
            Assert.True((result.Plan - plan).abs().max().item<double>() < 1e-7);
            Assert.True(Math.Abs(Number(result.DualityGap)) < 1e-7);
            // The plan is exp((alpha + beta - C) / gamma - 1).
            Assert.True((((result.Alpha.unsqueeze(1) + result.Beta - cost) / .3 - 1).exp() - plan).abs().max().item<double>() < 1e-7);
        }
    }

    [Fact]
    public void A_batch_is_solved_as_its_problems_one_by_one()
    {
        (Tensor a, Tensor b, Tensor cost) = Small();
        torch.manual_seed(5);
        Tensor costs = torch.stack([cost, torch.rand(4, 3, dtype: ScalarType.Float64), cost.flip(0)]);
        foreach (OtOptions options in (OtOptions[])[Sparse(2), Sparse(3, .1), new(OtRegularization.Quadratic, .5, Form: OtForm.Dual), new(OtRegularization.None)])
        {
            OtResult batch = Ot.Solve(a, b, costs, options);
            Assert.Equal([3, 4, 3], batch.Plan.shape);
            for (int p = 0; p < 3; p++)
            {
                OtResult single = Ot.Solve(a, b, costs[p], options);
                Assert.Equal(Number(single.DualValue), batch.DualValue[p].item<double>(), 1e-7);
                Assert.Equal(single.HasTies.item<bool>(), batch.HasTies[p].item<bool>());
            }
        }
    }

    [Fact]
    public void Per_row_solves_the_transposed_problem()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        OtResult columns = Ot.Solve(a, b, cost, Sparse(2, .5)), rows = Ot.Solve(b, a, cost.mT, Sparse(2, .5) with { PerRow = true });
        Assert.True((rows.Plan - columns.Plan.mT).abs().max().item<double>() < 1e-12);
        Assert.Equal([4L, 8], rows.Plan.shape);
        Assert.True(rows.Plan.ne(0).sum(1).le(2).all().item<bool>());
        Assert.Equal(Number(columns.RowMarginalError), Number(rows.ColMarginalError));
    }

    [Fact]
    public void Truncating_a_quadratic_plan_is_a_different_and_infeasible_plan()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        Tensor quadratic = Ot.Solve(a, b, cost, new(OtRegularization.Quadratic, 2)).Plan;
        (Tensor values, Tensor rows) = quadratic.topk(2, 0);
        Tensor truncated = torch.zeros_like(quadratic).scatter(0, rows, values);
        OtResult result = Ot.Solve(a, b, cost, Sparse(2, 2));
        Assert.True(Number(result.ColMarginalError) < 1e-14);
        Assert.True((truncated.sum(dim: 0) - b).abs().max().item<double>() > 1e-2);
    }

    [Fact]
    public void Rounding_on_request_makes_both_marginals_exact()
    {
        (Tensor a, Tensor b, Tensor cost) = Small();
        OtResult result = Ot.Solve(a, b, cost, Sparse(1) with { Round = true });
        Assert.True(Number(result.RowMarginalError) < 1e-12);
        Assert.True(Number(result.ColMarginalError) < 1e-12);
    }

    [Fact]
    public void Extension_of_the_training_columns_is_their_plan()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        OtOptions options = Sparse(2, .5);
        OtResult result = Ot.Solve(a, b, cost, options);
        Assert.True((Ot.Extend(result.Alpha, cost, options, .25) * .25 - result.Plan).abs().max().item<double>() < 1e-10);
    }

    [Fact]
    public void Results_have_the_type_of_the_cost_and_no_native_memory_is_left()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        (a, b, cost) = (a.@float(), b.@float(), cost.@float());
        Assert.Equal(ScalarType.Float32, Ot.Solve(a, b, cost, Sparse(2, .5)).Plan.dtype);
        for (int i = 0; i < 2; i++)
        {
            long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
            using (torch.NewDisposeScope()) Ot.Solve(a, b, cost, Sparse(1, .5));
            Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        }
    }

    [Fact]
    public void Impossible_and_malformed_problems_are_refused()
    {
        (Tensor a, Tensor b, Tensor cost) = Points();
        Assert.Contains("at least 2", Assert.Throws<InfeasibleTransportException>(() => Ot.Solve(a, b, cost, Sparse(1, .5) with { Relax = false })).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => Ot.Solve(a, b, cost, Sparse(0)));
        Assert.Throws<ArgumentOutOfRangeException>(() => Ot.Solve(a, b, cost, new(OtRegularization.SparsityConstrained)));
        Assert.Throws<ArgumentOutOfRangeException>(() => Ot.Solve(a, b, cost, Sparse(2, 0)));
        Assert.Throws<ArgumentException>(() => Ot.Solve(a * 2, b, cost, Sparse(2)));
        Assert.Throws<ArgumentException>(() => Ot.Solve(a - 1 / 8.0, b, cost, Sparse(2)));
        Assert.Throws<ArgumentException>(() => Ot.Solve(b, a, cost, Sparse(2)));
        Assert.Throws<ArgumentException>(() => Ot.Solve(a, b, cost * double.NaN, Sparse(2)));
        Assert.Throws<ArgumentException>(() => Ot.Match(a, b, cost, new(OtRegularization.None)));
    }
}
