using Priori.Nn;

namespace Priori.Merging;

/// <summary>A choice of ratios under a budget.</summary>
/// <param name="Ratios">Fraction of units kept separate by the group's name, in [0, 1].</param>
/// <param name="Objective">sum of weight times ratio.</param>
/// <param name="UpperBound">No choice within the budget exceeds this objective (a linear relaxation); the difference bounds what is lost.</param>
public sealed record BudgetAllocation(IReadOnlyDictionary<string, double> Ratios, double Objective, double UpperBound);

/// <summary>
/// Spends a compute budget over the layers of a partial merge (PLeaS, section 3.2 and appendix): maximise sum_i w_i r_i over ratios in [0, 1] such that
/// FLOPs(r) / FLOPs(0) is at most the budget. FLOPs are bilinear in the ratios (neighbouring separate layers have zero blocks between them), so the problem is not convex.
/// </summary>
/// <remarks>
/// The published code gives it to a commercial solver. Here: greedy by weight per cost, vertices of the Lagrangian relaxation with bisection on the multiplier, and for at most
/// 12 groups exhaustive enumeration on a grid; each is then improved by re-dividing the budget between pairs of groups, and the best is kept. <see cref="BudgetAllocation.UpperBound"/> certifies the gap of every answer.
/// </remarks>
public static class BudgetAllocator
{
    private const int ExactGroups = 12;
    private const int GridPoints = 600_000;
    private const int PairGrid = 20;
    private const double LeastGain = 1e-6; // relative; smaller improvements end the search
    private const double LeastWeight = 1e-5; // of the published code: no group is worth nothing

    /// <summary>
    /// FLOPs at given ratios: a layer between groups with ratios r1 and r2 costs base * ((1 + r1)(1 + r2) - 2 r1 r2), with one grouped axis base * (1 + r).
    /// The zero blocks are not counted, as a block-sparse implementation would not compute them.
    /// </summary>
    /// <param name="terms">The layers' costs before merging.</param>
    /// <param name="ratios">Ratios by the group's name; groups without one have 0.</param>
    public static double Flops(IReadOnlyList<FlopTerm> terms, IReadOnlyDictionary<string, double> ratios)
    {
        ArgumentNullException.ThrowIfNull(terms);
        ArgumentNullException.ThrowIfNull(ratios);
        double Ratio(string? group) => group is null ? 0 : ratios.GetValueOrDefault(group);
        return terms.Sum(t => t.Flops * ((1 + Ratio(t.OutputGroup)) * (1 + Ratio(t.InputGroup)) - 2 * Ratio(t.OutputGroup) * Ratio(t.InputGroup)));
    }

    /// <summary>The leave-one-out weight of each group: (R1 - merged)(2 - b) - (R0 - separate)(b - 1).</summary>
    /// <param name="onlySeparate">R1: accuracy with only this group separate.</param>
    /// <param name="onlyMerged">R0: accuracy with only this group merged.</param>
    /// <param name="merged">Accuracy with every group merged.</param>
    /// <param name="separate">Accuracy with every group separate.</param>
    /// <param name="budget">The budget b in [1, 2].</param>
    public static Dictionary<string, double> Weights(IReadOnlyDictionary<string, double> onlySeparate, IReadOnlyDictionary<string, double> onlyMerged, double merged, double separate, double budget)
    {
        ArgumentNullException.ThrowIfNull(onlySeparate);
        ArgumentNullException.ThrowIfNull(onlyMerged);
        RequireBudget(budget);
        return onlySeparate.ToDictionary(p => p.Key, p => (p.Value - merged) * (2 - budget) - (onlyMerged[p.Key] - separate) * (budget - 1));
    }

    /// <summary>Chooses the ratios.</summary>
    /// <param name="terms">The layers' costs before merging.</param>
    /// <param name="weights">Worth of each group that may be split; values below 1e-5 count as 1e-5.</param>
    /// <param name="budget">Allowed FLOPs relative to one network, in [1, 2].</param>
    /// <exception cref="ArgumentOutOfRangeException">The budget is outside [1, 2].</exception>
    /// <exception cref="ArgumentException">A weight is not finite.</exception>
    public static BudgetAllocation Allocate(IReadOnlyList<FlopTerm> terms, IReadOnlyDictionary<string, double> weights, double budget)
    {
        ArgumentNullException.ThrowIfNull(terms);
        ArgumentNullException.ThrowIfNull(weights);
        RequireBudget(budget);
        if (weights.FirstOrDefault(p => !double.IsFinite(p.Value)) is { Key: { } bad }) throw new ArgumentException($"The weight of group '{bad}' is not finite.", nameof(weights));
        string[] names = [.. weights.Keys];
        if (names.Length == 0) return new BudgetAllocation(new Dictionary<string, double>(), 0, 0);
        var problem = new Problem(terms, names, [.. names.Select(n => Math.Max(weights[n], LeastWeight))], budget);
        double[] best = [];
        foreach (double[] start in problem.Starts())
        {
            problem.Fill(start);
            problem.ImprovePairs(start);
            if (best.Length == 0 || problem.Objective(start) > problem.Objective(best)) best = start;
        }
        double objective = problem.Objective(best);
        return new BudgetAllocation(names.Zip(best).ToDictionary(), objective, Math.Max(objective, problem.UpperBound()));
    }

    /// <summary>The same ratio for all groups, as large as the budget allows.</summary>
    /// <param name="terms">The layers' costs before merging.</param>
    /// <param name="groups">Groups that may be split.</param>
    /// <param name="budget">Allowed FLOPs relative to one network, in [1, 2].</param>
    public static Dictionary<string, double> Uniform(IReadOnlyList<FlopTerm> terms, IReadOnlyList<string> groups, double budget)
    {
        RequireBudget(budget);
        double allowed = budget * Flops(terms, new Dictionary<string, double>());
        Dictionary<string, double> At(double ratio) => groups.ToDictionary(g => g, _ => ratio);
        if (Flops(terms, At(1)) <= allowed * (1 + 1e-12)) return At(1);
        double low = 0, high = 1;
        for (int i = 0; i < 60; i++)
        {
            double middle = (low + high) / 2;
            if (Flops(terms, At(middle)) <= allowed) low = middle;
            else high = middle;
        }
        return At(low);
    }

    /// <summary>Zip: the first groups are merged, the last ones separate, as many as the budget allows (ZipIt's prefix merging; the published budgets of ResNets are of this kind).</summary>
    /// <param name="terms">The layers' costs before merging.</param>
    /// <param name="groups">Groups that may be split, in the order of the network.</param>
    /// <param name="budget">Allowed FLOPs relative to one network, in [1, 2].</param>
    public static Dictionary<string, double> Zip(IReadOnlyList<FlopTerm> terms, IReadOnlyList<string> groups, double budget)
    {
        ArgumentNullException.ThrowIfNull(groups);
        RequireBudget(budget);
        double allowed = budget * Flops(terms, new Dictionary<string, double>()) * (1 + 1e-12);
        for (int first = 0; ; first++)
        {
            var ratios = groups.Select((g, i) => (g, i)).ToDictionary(p => p.g, p => p.i >= first ? 1.0 : 0.0);
            if (first == groups.Count || Flops(terms, ratios) <= allowed) return ratios;
        }
    }

    private static void RequireBudget(double budget)
    {
        if (budget is not (>= 1 and <= 2)) throw new ArgumentOutOfRangeException(nameof(budget), budget, "The budget must be in [1, 2].");
    }

    // Extra cost c(r) = sum_i linear_i r_i - sum_(i,j) product_ij r_i r_j, at most the capacity.
    private sealed class Problem
    {
        private readonly double[] _weights, _linear;
        private readonly List<(int I, int J, double Base)> _products = [];
        private readonly double _capacity;

        public Problem(IReadOnlyList<FlopTerm> terms, string[] names, double[] weights, double budget)
        {
            _weights = weights;
            _linear = new double[names.Length];
            double total = Flops(terms, new Dictionary<string, double>());
            _capacity = (budget - 1) * total;
            foreach (FlopTerm term in terms)
            {
                int i = Array.IndexOf(names, term.OutputGroup), j = Array.IndexOf(names, term.InputGroup);
                if (i >= 0) _linear[i] += term.Flops;
                if (j >= 0) _linear[j] += term.Flops;
                if (i >= 0 && j >= 0) _products.Add((i, j, term.Flops));
            }
        }

        public double Objective(double[] r) => _weights.Zip(r).Sum(p => p.First * p.Second);

        private double Cost(double[] r)
        {
            double cost = 0;
            for (int i = 0; i < r.Length; i++) cost += _linear[i] * r[i];
            foreach ((int i, int j, double product) in _products) cost -= product * r[i] * r[j];
            return cost;
        }

        public IEnumerable<double[]> Starts()
        {
            yield return new double[_weights.Length];
            // Vertices of max w.r - multiplier * cost(r), for multipliers between 'everything' and 'nothing'.
            double low = 0, high = _weights.Zip(_linear).Max(p => p.First / Math.Max(p.Second * 1e-3, double.Epsilon));
            double[] feasible = new double[_weights.Length];
            for (int step = 0; step < 60; step++)
            {
                double multiplier = (low + high) / 2;
                double[] vertex = Vertex(multiplier);
                if (Cost(vertex) <= _capacity * (1 + 1e-12)) (high, feasible) = (multiplier, vertex);
                else low = multiplier;
            }
            yield return feasible;
            if (_weights.Length <= ExactGroups) yield return BestOnGrid();
        }

        private double[] Vertex(double multiplier)
        {
            var r = Enumerable.Repeat(1.0, _weights.Length).ToArray();
            for (bool changed = true; changed;)
            {
                changed = false;
                for (int i = 0; i < r.Length; i++)
                    if (r[i] == 1 && _weights[i] < multiplier * (CostWith(r, i, 1) - CostWith(r, i, 0)))
                    {
                        r[i] = 0;
                        changed = true;
                    }
            }
            return r;
        }

        private double CostWith(double[] r, int i, double value)
        {
            double old = r[i];
            r[i] = value;
            double cost = Cost(r);
            r[i] = old;
            return cost;
        }

        private double[] BestOnGrid()
        {
            int n = _weights.Length, levels = 2;
            while (Math.Pow(levels + 1, n) <= GridPoints && levels < 101) levels++;
            double[] r = new double[n], best = new double[n];
            int[] digit = new int[n];
            double highest = 0;
            while (true)
            {
                double objective = 0;
                for (int i = 0; i < n; i++) objective += _weights[i] * r[i];
                if (objective > highest && Cost(r) <= _capacity * (1 + 1e-12))
                {
                    highest = objective;
                    r.CopyTo(best, 0);
                }
                int k = 0;
                while (k < n && ++digit[k] == levels) digit[k++] = 0;
                if (k == n) return best;
                for (int i = 0; i <= k; i++) r[i] = digit[i] / (levels - 1.0);
            }
        }

        // The largest ratio of group i within the capacity while the others stay.
        private double Largest(double[] r, int i)
        {
            double rest = CostWith(r, i, 0), slope = _linear[i], square = 0;
            foreach ((int a, int b, double product) in _products)
            {
                if (a == i && b == i) square += product;
                else if (a == i) slope -= product * r[b];
                else if (b == i) slope -= product * r[a];
            }
            double left = _capacity * (1 + 1e-12) - rest;
            if (left < 0) return -1;
            if (slope - square <= left) return 1; // the cost at ratio 1 (it never falls on the way)
            return square == 0 ? left / slope : (slope - Math.Sqrt(Math.Max(0, slope * slope - 4 * square * left))) / (2 * square);
        }

        public void Fill(double[] r)
        {
            var open = Enumerable.Range(0, r.Length).ToHashSet();
            while (open.Count > 0)
            {
                int next = open.MaxBy(i => _weights[i] * (1 - r[i]) / Math.Max(CostWith(r, i, 1) - Cost(r), 1e-300));
                r[next] = Math.Max(r[next], Largest(r, next));
                open.Remove(next);
            }
        }

        public void ImprovePairs(double[] r)
        {
            for (bool improved = true; improved;)
            {
                improved = false;
                for (int i = 0; i < r.Length; i++)
                    for (int j = 0; j < r.Length; j++)
                    {
                        if (i == j) continue;
                        (double oldI, double oldJ) = (r[i], r[j]);
                        double bestGain = LeastGain * Objective(r), bestI = oldI, bestJ = oldJ;
                        for (int step = 0; step <= PairGrid; step++)
                        {
                            r[i] = step / (double)PairGrid;
                            double largest = Largest(r, j);
                            double gain = _weights[i] * (r[i] - oldI) + _weights[j] * (largest - oldJ);
                            if (largest >= 0 && gain > bestGain) (bestGain, bestI, bestJ) = (gain, r[i], largest);
                        }
                        (r[i], r[j]) = (bestI, bestJ);
                        improved |= bestI != oldI || bestJ != oldJ;
                    }
            }
        }

        // On [0, 1], r1 + r2 - r1 r2 >= max(r1, r2) >= (r1 + r2) / 2 and 2 r - r^2 >= r: a linear cost that is never above the true one.
        // The best choice under it is a fractional knapsack.
        public double UpperBound()
        {
            double[] cost = [.. _linear];
            foreach ((int i, int j, double product) in _products)
            {
                cost[i] -= product / 2;
                cost[j] -= product / 2;
            }
            double left = _capacity * (1 + 1e-12), objective = 0;
            foreach (int i in Enumerable.Range(0, cost.Length).OrderByDescending(i => _weights[i] / cost[i]))
            {
                double ratio = cost[i] <= left ? 1 : left / cost[i];
                objective += ratio * _weights[i];
                left -= ratio * cost[i];
            }
            return objective;
        }
    }
}
