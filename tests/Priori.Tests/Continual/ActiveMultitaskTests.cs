using Priori.Continual;
using Priori.Numerics;

namespace Priori.Tests.Continual;

public class ActiveMultitaskTests
{
    private static readonly Tensor W = tensor(new double[,] { { 1, 0, 1, 2 }, { 0, 1, 1, 0 } }), Target = tensor(new double[] { 2, 1 });

    [Fact]
    public void Relevance_of_the_worked_example()
    {
        double[] dense = Values(Relevance.MinNorm(W, Target)), sparse = Values(Relevance.BasisPursuit(W, Target));
        Near([.272727, .363636, .636364, .545455], dense, 1e-6);
        Assert.Equal(.909091, dense.Sum(v => v * v), 1e-6);
        Assert.Equal(1.818182, dense.Sum(Math.Abs), 1e-6);
        Near([0, 0, 1, .5], sparse, 1e-12);
        Assert.Equal(1.5, sparse.Sum(Math.Abs), 1e-12);
    }

    [Fact]
    public void Variance_of_the_worked_example()
    {
        Tensor dense = Relevance.MinNorm(W, Target), sparse = Relevance.BasisPursuit(W, Target);
        double Of(Tensor nu, Tensor weights) => Relevance.Variance(nu, Values(weights / weights.sum() * 1000));
        Assert.Equal(.00225, Of(sparse, sparse.abs()), 1e-12);
        Assert.Equal(.00363636, Of(dense, dense.square()), 1e-8);
        Assert.Equal(.00330579, Of(dense, dense.abs()), 1e-8);
        Assert.Equal(.00363636, Of(dense, ones(4, float64)), 1e-8);
        Assert.Equal(double.PositiveInfinity, Relevance.Variance(sparse, [500, 500, 0, 0]));
    }

    [Theory]
    [InlineData(.2, new[] { 0, 0, .9, .5 }, .29, new[] { .1, .1, .2, .2 })]
    [InlineData(.01, new[] { 0, 0, .995, .5 }, .014975, null)]
    [InlineData(4, new double[] { 0, 0, 0, 0 }, 2.5, null)]
    [InlineData(9, new double[] { 0, 0, 0, 0 }, 2.5, null)]
    public void Lasso_of_the_worked_example(double lambda, double[] expected, double objective, double[]? correlations)
    {
        Tensor nu = Relevance.Lasso(W, Target, lambda), residual = Target - W.mv(nu);
        Near(expected, Values(nu), 1e-10);
        Assert.Equal(objective, .5 * residual.square().sum().item<double>() + lambda * nu.abs().sum().item<double>(), 1e-12);
        if (correlations is not null) Near(correlations, Values(W.t().mv(residual)), 1e-10);
        Assert.Equal(4, Relevance.LargestPenalty(W, Target), 1e-12);
    }

    [Fact]
    public void Lasso_with_orthonormal_sources_is_soft_thresholding()
        => Near([1.7, -.2, 0], Values(Relevance.Lasso(eye(3, dtype: float64), tensor(new[] { 2, -.5, .1 }), .3)), 1e-12);

    [Fact]
    public void The_path_to_small_penalties_ends_at_basis_pursuit()
    {
        foreach (var (heads, target) in new[] { (W, Target), (Normal(1, 5, 40), Normal(2, 5)) })
        {
            double largest = Relevance.LargestPenalty(heads, target);
            IReadOnlyList<LassoSolution> path = LassoCoordinateDescent.Path(heads, target, [.. Enumerable.Range(0, 30).Select(i => largest * Math.Pow(1e-4 / largest, i / 29.0))]);
            double enough = 1e-10 * .5 * target.square().sum().item<double>();
            Assert.All(path, s => Assert.InRange(s.DualityGap, 0, enough));
            Assert.Equal(1e-4, path[^1].Penalty, 1e-12);
            Near(Values(Relevance.BasisPursuit(heads, target)), path[^1].Coefficients, 1e-3);
        }
    }

    [Fact]
    public void Relevance_does_not_depend_on_the_coordinates_of_the_representation()
    {
        Tensor heads = Normal(3, 5, 40), target = Normal(4, 5), q = linalg.qr(Normal(5, 5, 5)).Q;
        Tensor turned = q.matmul(heads), turnedTarget = q.mv(target);
        double lambda = .05 * Relevance.LargestPenalty(heads, target);
        Assert.Equal(lambda, .05 * Relevance.LargestPenalty(turned, turnedTarget), 1e-12);
        Near(Values(Relevance.Lasso(heads, target, lambda)), Values(Relevance.Lasso(turned, turnedTarget, lambda)), 1e-8);
        Near(Values(Relevance.MinNorm(heads, target)), Values(Relevance.MinNorm(turned, turnedTarget)), 1e-10);
        Near(Values(Relevance.BasisPursuit(heads, target)), Values(Relevance.BasisPursuit(turned, turnedTarget)), 1e-10);
        // Scaling a source's head by s divides its relevance by s: heads are not normalised.
        heads.select(1, 7).mul_(10);
        Tensor scaled = heads.clone();
        scaled.select(1, 7).mul_(3);
        double before = Relevance.BasisPursuit(heads, heads.select(1, 7))[7].item<double>(), after = Relevance.BasisPursuit(scaled, heads.select(1, 7))[7].item<double>();
        Assert.Equal(1, before, 1e-9);
        Assert.Equal(1.0 / 3, after, 1e-9);
    }

    [Fact]
    public void One_norm_dominates_two_norm()
    {
        for (int seed = 0; seed < 10; seed++)
        {
            Tensor heads = Normal(10 + seed, 5, 40), target = Normal(50 + seed, 5);
            double one = Values(Relevance.BasisPursuit(heads, target)).Sum(Math.Abs), two = Values(Relevance.MinNorm(heads, target)).Sum(v => v * v);
            Assert.True(one * one <= 40 * two);
        }
    }

    [Fact]
    public void Infeasible_targets_name_the_residual()
    {
        var error = Assert.Throws<InvalidOperationException>(() => Relevance.BasisPursuit(tensor(new double[,] { { 1, 2 }, { 0, 0 } }), tensor(new double[] { 1, 3 })));
        Assert.Contains("residual of 3", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => Relevance.Lasso(W, Target, -.1));
        Assert.Throws<ArgumentException>(() => Relevance.Lasso(W, ones(3), .1));
    }

    [Fact]
    public void Allocation_of_the_worked_example()
    {
        Tensor nu = tensor(new double[] { 0, -3, 1 });
        Assert.Equal([0, 75, 25], Allocation.Proportional(nu, 100));
        Assert.Equal([0, 90, 10], Allocation.Proportional(nu, 100, rule: AllocationRule.Squared));
        long[] floored = Allocation.Proportional(nu, 100, 10);
        Assert.Equal(100, floored.Sum());
        Assert.Equal([10, 68, 22], floored); // 90 in 3 : 1, 67.5 : 22.5; of equal remainders the first is rounded up
        Assert.Equal([34, 33, 33], Allocation.Proportional(zeros(3), 100));
        Assert.Equal([30, 60, 10], Allocation.Proportional(nu, 100, 10, limits: [100, 60, 10])); // what relevant sources lack is spread over the others
        var error = Assert.Throws<ArgumentException>(() => Allocation.Proportional(nu, 29, 10));
        Assert.Contains("at least 30", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => Allocation.Proportional(nu, 100, limits: [10, 10, 10]));
    }

    [Fact]
    public void Budgets_are_kept_to_the_label()
    {
        var random = new Priori.Runtime.SplitMix64(4);
        for (int i = 0; i < 200; i++)
        {
            int sources = 1 + random.Next(40);
            double[] nu = [.. Enumerable.Range(0, sources).Select(_ => random.Next(3) == 0 ? 0 : random.NextGaussian())];
            long minimum = random.Next(20), total = sources * minimum + random.Next(5000);
            AllocationRule rule = i % 2 == 0 ? AllocationRule.Absolute : AllocationRule.Squared;
            long[] counts = Allocation.Proportional(tensor(nu), total, minimum, rule);
            Assert.Equal(total, counts.Sum());
            Assert.All(counts, n => Assert.True(n >= minimum));
            // Above the floor, shares are proportional to within one label.
            double[] weight = [.. nu.Select(v => rule == AllocationRule.Absolute ? Math.Abs(v) : v * v)];
            int[] above = [.. Enumerable.Range(0, sources).Where(m => counts[m] > minimum + 1 && weight[m] > 0)];
            if (above.Length > 0)
            {
                double rate = above.Sum(m => counts[m]) / above.Sum(m => weight[m]);
                Assert.All(above, m => Assert.InRange(counts[m] - rate * weight[m], -2, 2));
            }
            double[] prices = [.. Enumerable.Range(0, sources).Select(_ => .5 + random.NextDouble())];
            double budget = prices.Sum() * minimum + 100 + random.Next(1000);
            long[] priced = Allocation.Priced(tensor(nu), budget, prices, minimum: minimum);
            double cost = Allocation.Cost(priced, prices);
            Assert.InRange(cost, budget - prices.Max(), budget + 1e-6);
            Assert.All(priced, n => Assert.True(n >= minimum));
        }
    }

    [Fact]
    public void Prices_shift_labels_to_cheap_sources_and_fees_close_some()
    {
        // For nu = (1, 1) and prices (1, 4): N proportional to (1, 1/2), cost 1 * 2x + 4 * x = 600.
        Assert.Equal([200, 100], Allocation.Priced(ones(2), 600, [1, 4]));
        double Variance(long a, long b) => 1.0 / a + 1.0 / b;
        Assert.True(Variance(200, 100) < Variance(196, 101) && Variance(200, 100) < Variance(204, 99)); // the optimum at equal money
        // Two sources give the target, one costs less: the weighted 1-norm takes the cheap one.
        Tensor heads = tensor(new double[,] { { 1, 1, 0 }, { 0, 0, 1 } }), target = tensor(new double[] { 1, 0 });
        Near([0, 1, 0], Values(Relevance.BasisPursuit(heads, target, [9, 1, 1])), 1e-12);
        Near([1, 0, 0], Values(Relevance.BasisPursuit(heads, target, [1, 9, 1])), 1e-12);
        Near([0, .98, 0], Values(Relevance.Lasso(heads, target, .02, [9, 1, 1])), 1e-9);
        // Fees are paid before labels; a source that is not used costs none.
        Assert.Equal([0, 50, 50], Allocation.Priced(tensor(new double[] { 0, 1, 1 }), 120, [1, 1, 1], openingFee: 10));
        Assert.Equal(120, Allocation.Cost([0, 50, 50], null, 10));
        // The target needs (1, .1): the second source is worth its fee only while the budget is large or the noise small.
        Tensor plane = tensor(new double[,] { { 1, 0 }, { 0, 1 } }), mixed = tensor(new double[] { 1, .1 });
        Near([1, .1], Values(Relevance.WithOpeningFee(plane, mixed, 0, 1000, noise: 1)), 1e-9);
        Near([1, 0], Values(Relevance.WithOpeningFee(plane, mixed, 40, 100, noise: 1)), 1e-9); // .01 + 1 / 60 < 1.21 / 20
        Near([1, .1], Values(Relevance.WithOpeningFee(plane, mixed, 40, 100, noise: 1e-6)), 1e-9);
        Assert.Throws<ArgumentException>(() => Relevance.WithOpeningFee(plane, mixed, 10, 10, 1));
        Assert.Throws<ArgumentException>(() => Allocation.Priced(ones(2), 100, [1, 0]));
        Assert.Throws<ArgumentException>(() => Allocation.Priced(ones(2), 10, [1, 1], openingFee: 6));
    }

    [Fact]
    public void Noiseless_tasks_give_the_exact_span()
    {
        const int D = 20, K = 5, Tasks = 40;
        var (basis, _, tasks) = World(7, D, K, [.. Enumerable.Range(0, Tasks).Select(m => 12 + m % 5)], noise: 0); // fewer samples than inputs for each task
        LinearMultiTaskFit fit = LinearMultiTask.Fit([.. tasks.Select(TaskMoments.Of)], K, maxSweeps: 1000, tolerance: 1e-18);
        Assert.InRange((basis - fit.Basis.matmul(fit.Basis.t().matmul(basis))).norm().item<double>(), 0, 1e-6);
        Assert.True(fit.Basis.t().matmul(fit.Basis).allclose(eye(K, dtype: float64), atol: 1e-10));
    }

    [Fact]
    public void Every_sample_has_the_same_weight()
    {
        // Two tasks along different directions, one representation dimension: the direction is that of the joint least squares, so more samples of one task pull it over.
        TaskBatch[] tasks = [.. new[] { 400, 40 }.Select((n, m) =>
        {
            Tensor x = Normal(8 + m, n, 6);
            return new TaskBatch(x, x.select(1, m) + .1 * Normal(80 + m, n));
        })];
        Tensor few = LinearMultiTask.Fit([.. tasks.Select(TaskMoments.Of)], 1).Basis;
        TaskMoments[] repeated = [TaskMoments.Of(tasks[0]), .. new[] { TaskMoments.Of(tasks[1]) }.Select(t => Enumerable.Repeat(t, 20).Aggregate((a, b) => a + b))];
        Tensor many = LinearMultiTask.Fit(repeated, 1).Basis;
        Assert.InRange(few[0].abs().item<double>(), .95, 1);
        Assert.InRange(many[1].abs().item<double>(), .95, 1);
        // The fit is a stationary point of the sum over samples: the gradient with respect to B vanishes.
        LinearMultiTaskFit fit = LinearMultiTask.Fit([.. tasks.Select(TaskMoments.Of)], 1, tolerance: 1e-16);
        using Tensor b = fit.Basis.clone().requires_grad_();
        Tensor loss = tasks.Select((t, m) => (t.Labels - t.Inputs.matmul(b).mv(fit.Heads.select(1, m))).square().sum()).Aggregate((x, y) => x + y);
        loss.backward();
        Assert.InRange(b.grad!.abs().max().item<double>() / loss.item<double>(), 0, 1e-5);
        Assert.Equal(loss.item<double>(), fit.ResidualSquares, 1e-6);
    }

    [Fact]
    public void Conjugate_gradients_and_intercepts_agree_with_the_direct_solve()
    {
        var (basis, _, tasks) = World(9, 110, 5, [.. Enumerable.Repeat(150, 12)], noise: .1); // 550 unknowns: conjugate gradients
        LinearMultiTaskFit fit = LinearMultiTask.Fit([.. tasks.Select(TaskMoments.Of)], 5);
        Assert.InRange((basis - fit.Basis.matmul(fit.Basis.t().matmul(basis))).norm().item<double>(), 0, .2);
        var (small, heads, shifted) = World(10, 8, 2, [60, 60, 60], noise: 0);
        TaskBatch[] moved = [.. shifted.Select((t, m) => new TaskBatch(t.Inputs + 2, t.Labels + 5 * m))]; // y = (x - 2) theta + 5 m
        LinearMultiTaskFit centred = LinearMultiTask.Fit([.. moved.Select(TaskMoments.Of)], 2, intercept: true, maxSweeps: 1000, tolerance: 1e-16);
        Assert.InRange((small - centred.Basis.matmul(centred.Basis.t().matmul(small))).norm().item<double>(), 0, 1e-5);
        for (int m = 0; m < 3; m++)
            Assert.Equal(5 * m - 2 * small.mv(heads.select(1, m)).sum().item<double>(), centred.Intercepts[m].item<double>(), 1e-4);
    }

    [Fact]
    public void Bad_tasks_are_refused_by_name()
    {
        var (_, _, tasks) = World(11, 6, 2, [10, 10], noise: 1);
        TaskMoments[] moments = [.. tasks.Select(TaskMoments.Of)];
        Assert.Contains("larger than its 6 inputs", Assert.Throws<ArgumentException>(() => LinearMultiTask.Fit(moments, 7)).Message, StringComparison.Ordinal);
        var empty = new TaskBatch(zeros(0, 6, float64), zeros(0, float64));
        Assert.Contains("Task 1 has no samples", Assert.Throws<ArgumentException>(() => LinearMultiTask.Fit([moments[0], TaskMoments.Of(empty)], 2)).Message, StringComparison.Ordinal);
        Assert.Contains("Source 1 has no samples", Assert.Throws<ArgumentException>(() => new MultiTaskDataset([tasks[0], empty], tasks[1])).Message, StringComparison.Ordinal);
        Assert.Contains("pass ridge > 0", Assert.Throws<ArgumentException>(() => TargetHead.Fit(ones(3, 4), ones(3))).Message, StringComparison.Ordinal);
        Assert.True(TargetHead.Fit(ones(3, 4), ones(3), ridge: 1).weight.allclose(full(1, 4, 3f / 13))); // sum over equal features: 12 v + v = 3
        var oracle = new PoolOracle(tasks);
        var broke = new ActiveMultiTaskSampler(new LinearErm(2), new ActiveMultiTaskOptions { Budget = 39, MinPerTask = 20 });
        Assert.Contains("at least 40 is needed", Assert.Throws<ArgumentException>(() => broke.Run(oracle, tasks[0])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new ActiveMultiTaskSampler(new LinearErm(2), new ActiveMultiTaskOptions { Budget = 39, MinPerTask = 1, LambdaRatio = -1 }).Run(oracle, tasks[0]));
    }

    [Fact]
    public void Coordinates_of_the_representation_change_neither_predictions_nor_the_target()
    {
        var (_, _, tasks) = World(12, 10, 3, [50, 50, 50, 50, 50], noise: .5);
        MultiTaskFit fit = new LinearErm(3).Fit(tasks);
        Tensor basis = ((TorchSharp.Modules.Linear)fit.Representation).weight.detach().t(), q = linalg.qr(Normal(13, 3, 3)).Q, turned = basis.matmul(q);
        Tensor x = Normal(14, 100, 10), y = Normal(15, 100);
        Assert.True(x.matmul(basis).matmul(fit.Heads).allclose(x.matmul(turned).matmul(q.t().matmul(fit.Heads)), rtol: 0, atol: 1e-8));
        double Error(Tensor b)
        {
            using TorchSharp.Modules.Linear head = TargetHead.Fit(x.narrow(0, 0, 50).matmul(b), y.narrow(0, 0, 50));
            using var ungraphed = no_grad();
            return (head.call(x.narrow(0, 50, 50).matmul(b)).squeeze(1) - y.narrow(0, 50, 50)).square().mean().item<double>();
        }
        Assert.Equal(Error(basis), Error(turned), 1e-8);
    }

    [Fact]
    public void Heads_have_their_closed_forms()
    {
        Tensor z = Normal(16, 40, 3), y = z.mv(tensor(new double[] { 1, -2, 3 })) + 4;
        using TorchSharp.Modules.Linear exact = TargetHead.Fit(z, y, intercept: true);
        Near([1, -2, 3], Values(exact.weight.detach().squeeze(0)), 1e-10);
        Assert.Equal(4, exact.bias!.item<double>(), 1e-10);
        Tensor labels = (z.select(1, 0) + .5 * Normal(17, 40) > 0).to(float64) * 2 - 1;
        using TorchSharp.Modules.Linear logistic = TargetHead.Fit(z, labels, ridge: .5, intercept: true, loss: HeadLoss.Logistic);
        using Tensor w = logistic.weight.detach().clone().requires_grad_();
        Tensor loss = functional.softplus(-labels * (z.mv(w.squeeze(0)) + logistic.bias!.detach())).sum() + .25 * w.square().sum();
        loss.backward();
        Assert.InRange(w.grad!.abs().max().item<double>(), 0, 1e-6);
        Assert.Throws<ArgumentException>(() => TargetHead.Fit(z, y, loss: HeadLoss.Logistic));
    }

    [Theory]
    [InlineData(SamplingStrategy.Lasso, true, 1)]
    [InlineData(SamplingStrategy.Lasso, false, 1)]
    [InlineData(SamplingStrategy.Lasso, true, 4)]
    [InlineData(SamplingStrategy.MinNorm, true, 1)]
    [InlineData(SamplingStrategy.MinNormSquared, false, 2)]
    [InlineData(SamplingStrategy.TopTasks, true, 1)]
    [InlineData(SamplingStrategy.Uniform, true, 1)]
    [InlineData(SamplingStrategy.TargetOnly, true, 1)]
    public void No_strategy_asks_for_more_than_the_budget(SamplingStrategy strategy, bool reuse, int epochs)
    {
        var (_, _, tasks) = World(20, 10, 3, [.. Enumerable.Repeat(2000, 8)], noise: 1);
        var (_, _, own) = World(20, 10, 3, [60], noise: 1);
        var audit = new BudgetedOracle(new PoolOracle(tasks), 1003);
        ActiveMultiTaskResult result = new ActiveMultiTaskSampler(new LinearErm(3), new ActiveMultiTaskOptions { Budget = 1003, Strategy = strategy, ReuseExploration = reuse, Epochs = epochs, MinPerTask = 10 }).Run(audit, own[0]);
        long bought = strategy == SamplingStrategy.TargetOnly ? 0 : 1003;
        Assert.Equal(bought, audit.Counts.Sum());
        Assert.Equal(audit.Counts, result.Counts);
        Assert.Equal(bought, result.Cost);
        if (bought > 0) Assert.All(result.Counts, n => Assert.True(n >= 10));
        Assert.Equal(strategy switch { SamplingStrategy.TargetOnly => 0, SamplingStrategy.Uniform => 1, _ => 1 + epochs }, result.Plans.Count);
        if (epochs == 4) Assert.Equal([250, 50, 101, 200, 402], result.Plans.Select(p => p.Counts.Sum())); // a quarter, then 1 : 2 : 4 : 8
        if (strategy == SamplingStrategy.TopTasks) Assert.Equal(3, result.Plans[1].Counts.Count(c => c > 0));
        Assert.Equal([7L], result.Predict(Normal(1, 7, 10)).shape);
        Assert.Throws<InvalidOperationException>(() => audit.Query(0, 1004));
    }

    [Fact]
    public void A_known_relevance_is_followed_at_once()
    {
        var (_, _, tasks) = World(21, 10, 3, [.. Enumerable.Repeat(1000, 4)], noise: 1);
        Tensor nu = tensor(new double[] { 0, -3, 1, 0 });
        var sampler = new ActiveMultiTaskSampler(new LinearErm(3), new ActiveMultiTaskOptions { Budget = 400, MinPerTask = 0 });
        Assert.Equal([0, 300, 100, 0], sampler.Run(new PoolOracle(tasks), tasks[0], nu).Counts);
        var squared = new ActiveMultiTaskSampler(new LinearErm(3), new ActiveMultiTaskOptions { Budget = 400, MinPerTask = 0, Strategy = SamplingStrategy.MinNormSquared });
        Assert.Equal([0, 360, 40, 0], squared.Run(new PoolOracle(tasks), tasks[0], nu).Counts);
        var priced = new ActiveMultiTaskSampler(new LinearErm(3), new ActiveMultiTaskOptions { Budget = 420, MinPerTask = 0, UnitCosts = [1, 1, 1, 1], OpeningFee = 10 });
        Assert.Equal([0, 300, 100, 0], priced.Run(new PoolOracle(tasks), tasks[0], nu).Counts);
    }

    [Fact]
    public void Planning_and_labelling_by_hand_ends_where_a_run_with_an_oracle_does()
    {
        var (_, _, tasks) = World(22, 10, 3, [.. Enumerable.Repeat(1000, 6)], noise: 1);
        var (_, _, own) = World(22, 10, 3, [60], noise: 1);
        var sampler = new ActiveMultiTaskSampler(new LinearErm(3), new ActiveMultiTaskOptions { Budget = 900, MinPerTask = 10, Epochs = 2 });
        ActiveMultiTaskResult run = sampler.Run(new PoolOracle(tasks, 5), own[0]);
        var byHand = new PoolOracle(tasks, 5);
        var labelled = new TaskBatch?[6];
        for (LabelPlan plan = sampler.Plan(labelled, own[0]); !plan.Complete; plan = sampler.Plan(labelled, own[0]))
            for (int m = 0; m < 6; m++)
                if (plan.Counts[m] > 0) labelled[m] = labelled[m] is { } before ? TaskBatch.Concat(before, byHand.Query(m, plan.Counts[m])) : byHand.Query(m, plan.Counts[m]);
        ActiveMultiTaskResult resumed = sampler.Complete(labelled, own[0]);
        Assert.Equal(run.Counts, resumed.Counts);
        Assert.Equal(Values(run.Relevance), Values(resumed.Relevance));
        Assert.True(run.Predict(Normal(1, 9, 10)).allclose(resumed.Predict(Normal(1, 9, 10))));
        // Labels that the user has already count: exploration fills up the others.
        labelled = [tasks[0] with { Inputs = tasks[0].Inputs.narrow(0, 0, 30), Labels = tasks[0].Labels.narrow(0, 0, 30) }, null, null, null, null, null];
        IReadOnlyList<long> rest = sampler.Plan(labelled, own[0]).Counts; // 225 explore, 37.5 each
        Assert.Equal(195, rest.Sum());
        Assert.InRange(rest[0], 7, 8);
        Assert.All(rest.Skip(1), n => Assert.InRange(n, 37, 38));
    }

    [Fact]
    public void Prices_and_fees_are_kept_by_the_loop()
    {
        var (_, _, tasks) = World(23, 10, 3, [.. Enumerable.Repeat(3000, 6)], noise: 1);
        var (_, _, own) = World(23, 10, 3, [60], noise: 1);
        double[] prices = [1, 2, 1, 3, 1, 1];
        foreach (double fee in new[] { 0.0, 25 })
        {
            var sampler = new ActiveMultiTaskSampler(new LinearErm(3), new ActiveMultiTaskOptions { Budget = 2500, MinPerTask = 10, UnitCosts = prices, OpeningFee = fee });
            ActiveMultiTaskResult result = sampler.Run(new PoolOracle(tasks), own[0]);
            Assert.InRange(result.Cost, 2500 - 4 - 3, 2500);
            Assert.Equal(result.Plans.Sum(p => p.Cost), result.Cost, 1e-9);
            Assert.True(result.Plans[0].Counts.Max() - result.Plans[0].Counts.Min() <= 1); // exploration is equal in labels, not in money
            if (fee > 0) Assert.All(result.Plans[1].Counts.Zip(Values(result.Plans[1].Relevance!)), p => Assert.Equal(p.Second == 0, p.First == 0));
        }
    }

    [Fact]
    public void A_deep_representation_finds_the_sources_that_share_the_target_s_feature()
    {
        // Feature |x_0| for sources 0 and 1 and the target, x_1 x_2 for the others.
        Generator random = new(31);
        TaskBatch Task(bool first, long count, double scale)
        {
            Tensor x = randn([count, 3], generator: random);
            return new TaskBatch(x, scale * (first ? x.select(1, 0).abs() : x.select(1, 1) * x.select(1, 2)));
        }
        TaskBatch[] sources = [Task(true, 800, 1), Task(true, 800, 1), Task(false, 800, 1), Task(false, 800, -1)];
        TaskBatch target = Task(true, 60, 1), test = Task(true, 400, 1);
        var erm = new DeepErm(() => Sequential(("0", Linear(3, 32)), ("1", ReLU()), ("2", Linear(32, 4))), 4, new DeepErmOptions { Steps = 600, LearningRate = 1e-2 });
        ActiveMultiTaskResult result = new ActiveMultiTaskSampler(erm, new ActiveMultiTaskOptions { Budget = 1200, Ridge = 1e-3 }).Run(new PoolOracle(sources), target);
        double[] nu = [.. Values(result.Relevance).Select(Math.Abs)];
        Assert.True(nu[0] + nu[1] > .7 * nu.Sum(), string.Join(", ", nu));
        Assert.True(result.Counts[0] + result.Counts[1] > 700);
        double error = (result.Predict(test.Inputs).to(float32) - test.Labels).square().mean().item<float>();
        Assert.InRange(error, 0, .05 * test.Labels.square().mean().item<float>());
        MultiTaskFit fit = erm.Fit(sources), again = erm.Fit(sources);
        Assert.True(fit.Heads.equal(again.Heads).all().item<bool>());
        Assert.Throws<ArgumentException>(() => new DeepErm(() => Linear(3, 2), 4).Fit(sources));
    }

    [Fact]
    public void A_logistic_network_learns_classes()
    {
        Tensor x = Normal(32, 300, 2).to(float32);
        TaskBatch[] sources = [.. Enumerable.Range(0, 3).Select(m => new TaskBatch(x, (x.select(1, 0) * (m - 1) + x.select(1, 1)).sign()))];
        var erm = new DeepErm(() => Linear(2, 2), 2, new DeepErmOptions { Steps = 200, Loss = HeadLoss.Logistic, LearningRate = 5e-2 });
        ActiveMultiTaskResult result = new ActiveMultiTaskSampler(erm, new ActiveMultiTaskOptions { Budget = 300, Ridge = .1 }).Run(new PoolOracle(sources), sources[1]);
        Assert.InRange(result.Predict(x).sign().eq(sources[1].Labels).to(float32).mean().item<float>(), .95, 1);
    }

    [Fact]
    public void Cross_validation_prefers_small_penalties_without_noise_and_larger_ones_with_it()
    {
        Tensor heads = cat([eye(5, dtype: float64) * 2, Normal(40, 5, 60)], 1), z = Normal(41, 100, 5), w = tensor(new double[] { 2, 0, 0, 0, 0 });
        double clean = Relevance.CrossValidate(heads, z, z.mv(w)), noisy = Relevance.CrossValidate(heads, z, z.mv(w) * .3 + 3 * Normal(42, 100));
        Assert.True(clean < noisy, $"{clean} {noisy}");
    }

    private static (Tensor Basis, Tensor Heads, TaskBatch[] Tasks) World(int seed, int d, int k, int[] counts, double noise)
    {
        Tensor basis = linalg.qr(Normal(seed, d, k)).Q, heads = Normal(seed + 1000, k, counts.Length);
        return (basis, heads, [.. counts.Select((n, m) =>
        {
            Tensor x = Normal(seed * 100 + m, n, d);
            return new TaskBatch(x, x.matmul(basis).mv(heads.select(1, m)) + noise * Normal(seed * 100 + m + 50_000, n));
        })]);
    }

    private static Tensor Normal(int seed, params long[] shape) => randn(shape, float64, generator: new Generator((ulong)seed));

    private static double[] Values(Tensor t) => t.data<double>().ToArray();

    private static void Near(double[] expected, double[] actual, double tolerance) => Assert.All(expected.Zip(actual, (e, a) => Math.Abs(e - a)).Append(Math.Abs(expected.Length - actual.Length)), d => Assert.InRange(d, 0, tolerance));
}
