using TorchSharp.Modules;

namespace Priori.Continual;

/// <summary>How labels are split over the sources.</summary>
public enum SamplingStrategy
{
    /// <summary>In proportion to |nu^1|, the relevance of smallest 1-norm: estimated by the lasso (Wang et al., ICML 2023).</summary>
    Lasso,
    /// <summary>In proportion to |nu^2|, the relevance of smallest 2-norm.</summary>
    MinNorm,
    /// <summary>In proportion to the square of nu^2 (Chen et al., ICML 2022).</summary>
    MinNormSquared,
    /// <summary>Equally over the sources with the largest |nu^1|.</summary>
    TopTasks,
    /// <summary>Equally over all sources, without exploration.</summary>
    Uniform,
    /// <summary>No source labels: the target's own only.</summary>
    TargetOnly,
}

/// <summary>Settings of <see cref="ActiveMultiTaskSampler"/>.</summary>
public sealed record ActiveMultiTaskOptions
{
    /// <summary>Labels that may be bought in all; money where prices are given.</summary>
    public required double Budget { get; init; }

    /// <summary>How the labels are split; default <see cref="SamplingStrategy.Lasso"/>.</summary>
    public SamplingStrategy Strategy { get; init; }

    /// <summary>Share of the budget that explores all sources equally, in (0, 1); it is raised to what <see cref="MinPerTask"/> needs. Default 0.25.</summary>
    public double ExploreFraction { get; init; } = 0.25;

    /// <summary>Labels of each source at least. Default 20.</summary>
    public int MinPerTask { get; init; } = 20;

    /// <summary>Penalty of the lasso as a share of the smallest one that gives 0. Default 0.05.</summary>
    public double LambdaRatio { get; init; } = 0.05;

    /// <summary>Penalty of the lasso; takes the place of the ratio when given.</summary>
    public double? Lambda { get; init; }

    /// <summary>Whether the ratio is chosen by cross-validation over the target's rows, where these are at least ten a dimension.</summary>
    public bool CrossValidate { get; init; }

    /// <summary>Rounds of exploitation, each with twice the budget of the one before; the relevance is estimated anew in each. Default 1.</summary>
    public int Epochs { get; init; } = 1;

    /// <summary>Whether the final fit, and every estimate, uses the labels of all purchases (default) or only those of the latest.</summary>
    public bool ReuseExploration { get; init; } = true;

    /// <summary>Price of a label of each source; all 1 when null.</summary>
    public IReadOnlyList<double>? UnitCosts { get; init; }

    /// <summary>Fee of each source that a purchase uses (setting up a labelling job). Default 0.</summary>
    public double OpeningFee { get; init; }

    /// <summary>Sources of <see cref="SamplingStrategy.TopTasks"/>; the representation's dimension when null.</summary>
    public int? TopTasks { get; init; }

    /// <summary>Ridge of the target's head; above 0 it may have fewer labels than dimensions.</summary>
    public double Ridge { get; init; }
}

/// <summary>What to buy next.</summary>
/// <param name="Counts">Labels of each source.</param>
/// <param name="Relevance">nu, float64 [M], that they follow; null while exploring.</param>
/// <param name="Cost">Money that they cost.</param>
public sealed record LabelPlan(IReadOnlyList<long> Counts, Tensor? Relevance, double Cost)
{
    /// <summary>Whether there is nothing left to buy.</summary>
    public bool Complete => Counts.All(c => c == 0);
}

/// <summary>What a run gives.</summary>
/// <param name="Relevance">nu, float64 [M], estimated with all labels.</param>
/// <param name="Counts">Labels bought of each source.</param>
/// <param name="Cost">Money spent.</param>
/// <param name="Representation">Inputs to features.</param>
/// <param name="Head">Features to the target's prediction [n, 1].</param>
/// <param name="Plans">The purchases in order.</param>
public sealed record ActiveMultiTaskResult(Tensor Relevance, IReadOnlyList<long> Counts, double Cost, Module<Tensor, Tensor> Representation, Linear Head, IReadOnlyList<LabelPlan> Plans)
{
    /// <summary>The target's predictions [n].</summary>
    /// <param name="inputs">[n, ...].</param>
    public Tensor Predict(Tensor inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Representation.eval();
        return Head.call(Representation.call(inputs.to(Representation.parameters().First().dtype)).to(Head.weight.dtype)).squeeze(1).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Active multi-task representation learning (Wang, Chen, Jamieson, Du, ICML 2023): buys labels of source tasks for the good of one target task that has few.
/// It explores all sources equally, fits a shared representation, estimates how relevant each source is for the target, buys the rest in proportion to |nu|, and fits again; the target's head comes last, on the frozen representation.
/// Whoever labels by hand uses <see cref="Plan"/> and <see cref="Complete"/>; <see cref="Run"/> plays all of it with an oracle.
/// </summary>
/// <param name="erm">Representation and how it is fitted.</param>
/// <param name="options">Settings.</param>
public sealed class ActiveMultiTaskSampler(IMultiTaskErm erm, ActiveMultiTaskOptions options)
{
    /// <summary>Runs all purchases and the final fit.</summary>
    /// <param name="oracle">Gives labels; it is never asked for more than the budget.</param>
    /// <param name="target">The target's labelled rows.</param>
    /// <param name="knownRelevance">nu [M] where it is known: then nothing is explored and the whole budget follows it.</param>
    /// <exception cref="ArgumentException">An option is outside its range, or the budget does not give every source its minimum.</exception>
    public ActiveMultiTaskResult Run(ILabelOracle oracle, TaskBatch target, Tensor? knownRelevance = null)
    {
        ArgumentNullException.ThrowIfNull(oracle);
        Validate(oracle.Tasks);
        var audited = new BudgetedOracle(oracle, options.Budget, options.UnitCosts, options.OpeningFee);
        var labelled = new TaskBatch?[oracle.Tasks];
        var plans = new List<LabelPlan>();
        while (true)
        {
            IReadOnlyList<long> available = [.. Enumerable.Range(0, oracle.Tasks).Select(audited.Available)];
            LabelPlan plan = Plan(labelled, target, available, knownRelevance, audited.Spent, audited.Counts);
            if (plan.Complete) break;
            plans.Add(plan);
            for (int m = 0; m < labelled.Length; m++)
            {
                TaskBatch? bought = plan.Counts[m] > 0 ? audited.Query(m, plan.Counts[m]) : null;
                labelled[m] = !options.ReuseExploration || labelled[m] is not { } before ? bought : bought is null ? before : TaskBatch.Concat(before, bought);
            }
        }
        return Complete(labelled, target) with { Counts = audited.Counts, Cost = audited.Spent, Plans = plans };
    }

    /// <summary>What to buy next, given the labels so far: first as many of every source as exploration asks for, then in proportion to the relevance that the labels show.</summary>
    /// <param name="labelled">Labelled rows of each source; null where there are none.</param>
    /// <param name="target">The target's labelled rows.</param>
    /// <param name="available">Samples of each source that can still be labelled; without end when null.</param>
    /// <param name="knownRelevance">nu [M] where it is known.</param>
    /// <param name="spent">Money spent so far; the price of the labelled rows, with one fee a source, when null.</param>
    /// <param name="counts">Labels bought so far; those of <paramref name="labelled"/> when null.</param>
    /// <exception cref="ArgumentException">An option is outside its range, or the budget does not give every source its minimum.</exception>
    public LabelPlan Plan(IReadOnlyList<TaskBatch?> labelled, TaskBatch target, IReadOnlyList<long>? available = null, Tensor? knownRelevance = null, double? spent = null, IReadOnlyList<long>? counts = null)
    {
        ArgumentNullException.ThrowIfNull(labelled);
        ArgumentNullException.ThrowIfNull(target);
        int tasks = labelled.Count;
        Validate(tasks);
        target.Check("Target");
        IReadOnlyList<long> have = counts ?? [.. labelled.Select(b => b?.Count ?? 0)];
        double paid = spent ?? Allocation.Cost(have, options.UnitCosts, options.OpeningFee);
        bool explored = knownRelevance is not null || options.Strategy is SamplingStrategy.Uniform;
        (double level, bool first) = NextLevel(paid, tasks);
        double money = (explored ? options.Budget : level) - paid;
        if (options.Strategy == SamplingStrategy.TargetOnly || money < options.OpeningFee + (options.UnitCosts?.Min() ?? 1) - 1e-9) return new LabelPlan(new long[tasks], null, 0);

        bool explore = options.Strategy == SamplingStrategy.Uniform || (knownRelevance is null && first);
        long floor = options.ReuseExploration && have.Any(n => n > 0) ? 0 : options.MinPerTask; // exploration has already given every source its minimum
        using DisposeScope scope = NewDisposeScope();
        Tensor? relevance = explore ? null : knownRelevance ?? Estimate(Fit(labelled), target, money);
        AllocationRule rule = options.Strategy == SamplingStrategy.MinNormSquared ? AllocationRule.Squared : AllocationRule.Absolute;
        Tensor shares = relevance is null ? ones(tasks, float64) : options.Strategy == SamplingStrategy.TopTasks ? Top(relevance) : rule == AllocationRule.Squared ? relevance.square() : relevance;
        if (explore && have.Any(n => n > 0))
        {
            // A user may bring labels: equal counts in all, not equal purchases.
            double each = (paid + money - (options.OpeningFee * tasks)) / (options.UnitCosts?.Sum() ?? tasks);
            shares = tensor(have.Select(n => Math.Max(0, each - n)).ToArray());
            floor = 0;
        }
        if (options.OpeningFee > 0 && !explore) shares = Affordable(shares, money);
        IReadOnlyList<long> bought = options.UnitCosts is null && options.OpeningFee == 0
            ? Allocation.Proportional(shares, (long)Math.Floor(money + 1e-9), floor, limits: available)
            : explore
                ? Allocation.Split([.. Relevance.Values(shares)], money - (options.OpeningFee * tasks), options.UnitCosts ?? [.. Enumerable.Repeat(1.0, tasks)], [.. Enumerable.Repeat(floor, tasks)], available)
                : Allocation.Priced(shares, money, options.UnitCosts ?? [.. Enumerable.Repeat(1.0, tasks)], options.OpeningFee, options.OpeningFee > 0 ? 0 : floor, available);
        return new LabelPlan(bought, relevance?.clone().MoveToOuterDisposeScope(), Allocation.Cost(bought, options.UnitCosts, options.OpeningFee));
    }

    /// <summary>The final fit: representation from the sources' labels, then the target's head on it.</summary>
    /// <param name="labelled">Labelled rows of each source; null where there are none.</param>
    /// <param name="target">The target's labelled rows.</param>
    /// <exception cref="ArgumentException">No source has labels, or the target has too few for a head without ridge.</exception>
    public ActiveMultiTaskResult Complete(IReadOnlyList<TaskBatch?> labelled, TaskBatch target)
    {
        ArgumentNullException.ThrowIfNull(labelled);
        ArgumentNullException.ThrowIfNull(target);
        Validate(labelled.Count);
        target.Check("Target");
        using DisposeScope scope = NewDisposeScope();
        bool alone = options.Strategy == SamplingStrategy.TargetOnly;
        MultiTaskFit fit = alone ? erm.Fit([target]) : Fit(labelled);
        Linear head = Head(fit.Representation, target);
        Tensor relevance = alone ? zeros(labelled.Count, float64) : Estimate(fit, target, options.Budget);
        long[] counts = [.. labelled.Select(b => alone ? 0 : b?.Count ?? 0)];
        return new ActiveMultiTaskResult(relevance.MoveToOuterDisposeScope(), counts, Allocation.Cost(counts, options.UnitCosts, options.OpeningFee),
            fit.Representation.ToOuterScope(), head.ToOuterScope(), []);
    }

    private void Validate(int tasks)
    {
        if (tasks < 1) throw new ArgumentException("There is no source task.");
        if (options.ExploreFraction is not (> 0 and < 1)) throw new ArgumentException(FormattableString.Invariant($"The share of exploration must be in (0, 1), not {options.ExploreFraction}."));
        if (options.MinPerTask < 0 || options.Epochs < 1 || options.OpeningFee < 0 || options.Ridge < 0) throw new ArgumentException("Minimum, fee and ridge must be at least 0, epochs at least 1.");
        if (options.Lambda is < 0 || options.LambdaRatio < 0) throw new ArgumentException(FormattableString.Invariant($"The penalty lambda must be at least 0, not {options.Lambda ?? options.LambdaRatio}."));
        if (options.UnitCosts is { } prices && (prices.Count != tasks || prices.Any(p => !(p > 0)))) throw new ArgumentException($"Each of the {tasks} sources needs a price above 0.");
        if (options.Strategy == SamplingStrategy.TargetOnly) return;
        double least = Least(tasks);
        if (options.Budget < least)
            throw new ArgumentException(FormattableString.Invariant($"A budget of {options.Budget} does not give each of the {tasks} sources {options.MinPerTask} labels: at least {least} is needed."));
    }

    private double Least(int tasks) => Allocation.Cost([.. Enumerable.Repeat((long)Math.Max(1, options.MinPerTask), tasks)], options.UnitCosts, options.OpeningFee);

    private double Exploration(int tasks) => Math.Max(options.ExploreFraction * options.Budget, Least(tasks));

    // Money that is spent after exploration, and after each round: budgets of 1 : 2 : 4 ... The first of these that leaves a label to buy.
    private (double Level, bool Explore) NextLevel(double spent, int tasks)
    {
        double exploration = Exploration(tasks), cheapest = options.UnitCosts?.Min() ?? 1;
        double Level(int round) => exploration + ((options.Budget - exploration) * (Math.Pow(2, round) - 1) / (Math.Pow(2, options.Epochs) - 1));
        int round = Enumerable.Range(0, options.Epochs).FirstOrDefault(i => Level(i) - spent >= options.OpeningFee + cheapest - 1e-9, options.Epochs);
        return (Level(round), round == 0);
    }

    private MultiTaskFit Fit(IReadOnlyList<TaskBatch?> labelled)
    {
        int[] used = [.. Enumerable.Range(0, labelled.Count).Where(m => labelled[m] is { Count: > 0 })];
        if (used.Length == 0) throw new ArgumentException("No source has labels.");
        MultiTaskFit fit = erm.Fit([.. used.Select(m => labelled[m]!)]);
        if (used.Length == labelled.Count) return fit;
        // Sources without labels have no head: zeros, which no relevance uses.
        Tensor heads = zeros(fit.Heads.shape[0], labelled.Count, fit.Heads.dtype).index_copy(1, tensor(used.Select(m => (long)m).ToArray()), fit.Heads);
        return fit with { Heads = heads };
    }

    private Linear Head(Module<Tensor, Tensor> representation, TaskBatch target)
        => TargetHead.Fit(Features(representation, target.Inputs), target.Labels, options.Ridge, erm.Intercept, erm.Loss);

    private static Tensor Features(Module<Tensor, Tensor> representation, Tensor inputs)
    {
        using var ungraphed = no_grad();
        representation.eval();
        Tensor like = representation.parameters().First();
        return representation.call(inputs.to(like.dtype).to(like.device)).cpu();
    }

    private Tensor Estimate(MultiTaskFit fit, TaskBatch target, double money)
    {
        using Linear head = Head(fit.Representation, target);
        Tensor heads = fit.Heads.to(float64), own = head.weight.detach().to(float64).squeeze(0);
        if (options.Strategy is SamplingStrategy.MinNorm or SamplingStrategy.MinNormSquared) return Relevance.MinNorm(heads, own);
        if (options.OpeningFee > 0 && money > options.OpeningFee)
            return Relevance.WithOpeningFee(heads, own, options.OpeningFee, money, double.IsNaN(fit.ParameterVariance) ? 0 : fit.ParameterVariance, options.UnitCosts);
        double ratio = options.LambdaRatio;
        if (options.CrossValidate && options.Lambda is null && target.Count >= 10 * erm.Dim && erm.Loss == HeadLoss.Squared)
            ratio = Relevance.CrossValidate(heads, Features(fit.Representation, target.Inputs), target.Labels, ridge: options.Ridge, intercept: erm.Intercept);
        return Relevance.Lasso(heads, own, options.Lambda ?? ratio * Relevance.LargestPenalty(heads, own, options.UnitCosts), options.UnitCosts);
    }

    // The most relevant sources whose fees and first labels the money pays for.
    private Tensor Affordable(Tensor shares, double money)
    {
        double[] weights = Relevance.Values(shares);
        if (weights.All(w => w == 0)) Array.Fill(weights, 1); // nothing is known: any source is as good
        foreach (int m in Enumerable.Range(0, weights.Length).OrderByDescending(m => Math.Abs(weights[m])).ToArray())
        {
            double least = options.OpeningFee + (options.UnitCosts?[m] ?? 1);
            if (weights[m] == 0 || money < least - 1e-9) weights[m] = 0;
            else money -= least;
        }
        return tensor(weights);
    }

    private Tensor Top(Tensor relevance)
    {
        int count = Math.Min(options.TopTasks ?? erm.Dim, (int)relevance.ne(0).sum().item<long>());
        Tensor chosen = zeros_like(relevance);
        return count == 0 ? chosen : chosen.index_fill(0, relevance.abs().topk(count).indexes, 1);
    }
}
