using Priori.Numerics;

namespace Priori.OptimalTransport;

/// <summary>
/// Optimal transport with at most k non-zeros in each column of the plan (Liu, Puigcerver and Blondel, "Sparsity-Constrained Optimal
/// Transport", ICLR 2023), and the unregularised, entropic and quadratic problems it is compared with.
/// </summary>
/// <remarks>
/// The primal is min over T >= 0, T1 = a, T'1 = b of &lt;T, C&gt; + sum_j O(t_j). With the cardinality constraint it is not convex; its dual is, and
/// has the same value whenever the plan read from the dual is feasible. Several problems of one size are solved together: leading dimensions are the batch.
/// Computed in float64. Tensors must not be modified while a call runs.
/// </remarks>
public static class OptimalTransport
{
    private const double TieTolerance = 1e-6; // of two scores, relative to the scores' range; of an entry, relative to its column's mass

    /// <summary>Solves a transport problem.</summary>
    /// <param name="a">Row masses, [m] or [..., m], positive.</param>
    /// <param name="b">Column masses, [n] or [..., n], positive; their sum is a's to 1e-6 relative and is then made equal.</param>
    /// <param name="cost">C, [m, n] or [..., m, n], finite, float32 or float64.</param>
    /// <param name="options">Regularisation and solver.</param>
    /// <returns>Plan, potentials, values and how exact they are. Constant: see <see cref="Value"/> and <see cref="Match"/> for gradients.</returns>
    /// <exception cref="InfeasibleTransportException">n * k is less than m (no plan with so few non-zeros reaches every row) and <see cref="OtOptions.Relax"/> is not set.</exception>
    /// <exception cref="ArgumentException">Masses that are not positive or differ in sum, costs that are not finite, shapes that do not fit, options out of range.</exception>
    public static OtResult Solve(Tensor a, Tensor b, Tensor cost, OtOptions options)
    {
        using var noGradient = torch.no_grad();
        using var scope = torch.NewDisposeScope();
        Problem problem = Prepare(a, b, cost, options);
        OtResult result = options.Reg == OtRegularization.None ? SolveLinear(problem) : SolveRegularized(problem, options);
        if (options.PerRow)
            result = result with
            {
                Plan = result.Plan.mT.contiguous(), RelaxedPlan = result.RelaxedPlan.mT.contiguous(), Alpha = result.Beta, Beta = result.Alpha,
                RowMarginalError = result.ColMarginalError, ColMarginalError = result.RowMarginalError,
            };
        Tensor Given(Tensor tensor) => tensor.to(cost.dtype, cost.device).MoveToOuterDisposeScope();
        return new(Given(result.Plan), Given(result.RelaxedPlan), Given(result.Alpha), Given(result.Beta), Given(result.DualValue), Given(result.PrimalValue),
            Given(result.RelaxedValue), Given(result.RowMarginalError), Given(result.ColMarginalError), result.Iterations.MoveToOuterDisposeScope(),
            result.Converged.MoveToOuterDisposeScope(), result.HasTies.MoveToOuterDisposeScope(), Given(result.Trace));
    }

    /// <summary>
    /// The optimal value as a differentiable number: its gradients are T* in the cost, alpha in a and beta in b (envelope theorem), so that the solver is not unrolled.
    /// </summary>
    /// <param name="a">As in <see cref="Solve"/>.</param>
    /// <param name="b">As in <see cref="Solve"/>.</param>
    /// <param name="cost">As in <see cref="Solve"/>.</param>
    /// <param name="options">As in <see cref="Solve"/>.</param>
    /// <returns>The dual value, [...].</returns>
    /// <exception cref="ArgumentException">As in <see cref="Solve"/>.</exception>
    public static Tensor Value(Tensor a, Tensor b, Tensor cost, OtOptions options)
    {
        using var scope = torch.NewDisposeScope();
        OtResult result = Solve(a.detach(), b.detach(), cost.detach(), options);
        Tensor value = result.DualValue + (result.RelaxedPlan * (cost - cost.detach())).sum([-2, -1])
            + (result.Alpha * (a - a.detach())).sum(-1) + (result.Beta * (b - b.detach())).sum(-1);
        return value.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The plan as a differentiable matching layer: each column is the (top-k) projection of its scores alpha - c_j with alpha held constant, so gradients flow
    /// through the kept entries, (I - 11'/rho) / gamma on the rho positive entries of a column.
    /// </summary>
    /// <param name="a">As in <see cref="Solve"/>.</param>
    /// <param name="b">As in <see cref="Solve"/>.</param>
    /// <param name="cost">As in <see cref="Solve"/>.</param>
    /// <param name="options">As in <see cref="Solve"/>, with a regularisation.</param>
    /// <returns>The plan [..., m, n]: column sums b (row sums a, if per row) exactly.</returns>
    /// <exception cref="ArgumentException">As in <see cref="Solve"/>, or there is no regularisation (such a plan is piecewise constant).</exception>
    public static Tensor Match(Tensor a, Tensor b, Tensor cost, OtOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Reg == OtRegularization.None) throw new ArgumentException("A plan without regularisation is piecewise constant in the cost and has no useful gradient.", nameof(options));
        using var scope = torch.NewDisposeScope();
        OtResult result = Solve(a.detach(), b.detach(), cost.detach(), options);
        Tensor plan = options.PerRow
            ? Columns(result.Beta, cost.mT, a, options).mT
            : Columns(result.Alpha, cost, b, options);
        return plan.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// How new columns would be matched, given the potentials of a solved problem: the same projection of scores, for costs that were not part of it
    /// (the out-of-sample extension of Seguy et al., ICLR 2018). Multiplied with the rows' coordinates it is the barycentric map.
    /// </summary>
    /// <param name="alpha">Potentials of the m rows (of the columns, for a problem solved per row).</param>
    /// <param name="cost">Costs between the m rows and q new columns, [m, q].</param>
    /// <param name="options">The options the problem was solved with.</param>
    /// <param name="mass">Mass of a new column, positive: that of the columns of the solved problem.</param>
    /// <returns>[m, q]: how each new column's mass is shared among the rows; columns sum to 1.</returns>
    /// <exception cref="ArgumentException">Shapes do not fit or the mass is not positive.</exception>
    public static Tensor Extend(Tensor alpha, Tensor cost, OtOptions options, double mass)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (cost.dim() != 2 || alpha.dim() != 1 || alpha.shape[0] != cost.shape[0])
            throw new ArgumentException($"Potentials [{string.Join(',', alpha.shape)}] do not fit costs [{string.Join(',', cost.shape)}].", nameof(cost));
        if (!(mass > 0)) throw new ArgumentOutOfRangeException(nameof(mass), mass, "The mass of a column must be positive.");
        using var scope = torch.NewDisposeScope();
        if (options.Reg == OtRegularization.None)
        {
            Tensor best = (alpha.unsqueeze(-1) - cost).argmax(0, keepdim: true);
            return torch.zeros_like(cost).scatter(0, best, torch.ones_like(best, cost.dtype)).MoveToOuterDisposeScope();
        }
        Tensor masses = torch.full([cost.shape[1]], mass, dtype: cost.dtype, device: cost.device);
        return (Columns(alpha, cost, masses, options) / mass).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Minus the dual (or semi-dual) objective of a regularised problem and its gradient, for solvers of one's own: x is alpha [..., m], or [alpha; beta]
    /// [..., m + n] in the dual form. Arguments as in <see cref="Solve"/>.
    /// </summary>
    /// <exception cref="ArgumentException">As in <see cref="Solve"/>, or there is no regularisation.</exception>
    public static Func<Tensor, (Tensor Value, Tensor Gradient)> Objective(Tensor a, Tensor b, Tensor cost, OtOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Reg == OtRegularization.None) throw new ArgumentException("The problem without regularisation is solved as a linear program.", nameof(options));
        using var noGradient = torch.no_grad();
        using var scope = torch.NewDisposeScope();
        Problem problem = Prepare(a, b, cost, options);
        foreach (Tensor tensor in (Tensor[])[problem.A, problem.B, problem.Cost]) tensor.DetachFromDisposeScope();
        return Objective(problem, Regularizer(options, problem.A.shape[^1]), options.Form);
    }

    /// <summary>Masses [..., m] and [..., n] and the costs of each column, [..., n, m], in float64.</summary>
    private sealed record Problem(Tensor A, Tensor B, Tensor Cost);

    private static Problem Prepare(Tensor a, Tensor b, Tensor cost, OtOptions options)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        ArgumentNullException.ThrowIfNull(cost);
        ArgumentNullException.ThrowIfNull(options);
        string shapes = $"a [{string.Join(',', a.shape)}], b [{string.Join(',', b.shape)}], cost [{string.Join(',', cost.shape)}]";
        if (cost.dim() < 2 || a.dim() < 1 || b.dim() < 1 || a.shape[^1] != cost.shape[^2] || b.shape[^1] != cost.shape[^1] || cost.numel() == 0)
            throw new ArgumentException($"Shapes do not fit: {shapes}; a [..., m], b [..., n] and cost [..., m, n] would.", nameof(cost));
        if (!cost.is_floating_point()) throw new ArgumentException($"The cost must be floating point, not {cost.dtype}.", nameof(cost));
        long[] batch = cost.shape[..^2];
        if (a.dim() > batch.Length + 1 || b.dim() > batch.Length + 1) throw new ArgumentException($"The masses have more batch dimensions than the cost: {shapes}.", nameof(a));
        if (options.Reg != OtRegularization.None && !(options.Gamma > 0 && double.IsFinite(options.Gamma)))
            throw new ArgumentOutOfRangeException(nameof(options), options.Gamma, "Gamma must be positive and finite.");
        if (options.Reg == OtRegularization.SparsityConstrained)
        {
            if (options.MaxNonZeros is not { } k || k < 1) throw new ArgumentOutOfRangeException(nameof(options), options.MaxNonZeros, "A sparsity-constrained problem needs MaxNonZeros of at least 1.");
            (long reached, long columns) = options.PerRow ? (b.shape[^1], a.shape[^1]) : (a.shape[^1], b.shape[^1]);
            if (!options.Relax && columns * Math.Min(k, reached) < reached)
                throw new InfeasibleTransportException($"{columns} {(options.PerRow ? "rows" : "columns")} with at most {k} non-zeros each cannot reach {reached} {(options.PerRow ? "columns" : "rows")}; MaxNonZeros must be at least {(reached + columns - 1) / columns}.");
        }
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxIter, 1, nameof(options));
        if (!(options.Tolerance > 0)) throw new ArgumentOutOfRangeException(nameof(options), options.Tolerance, "The tolerance must be positive.");

        Tensor rowMass = a.to(ScalarType.Float64).expand([.. batch, a.shape[^1]]).contiguous(), columnMass = b.to(ScalarType.Float64).expand([.. batch, b.shape[^1]]).contiguous();
        CheckMasses(rowMass, nameof(a));
        CheckMasses(columnMass, nameof(b));
        Tensor costs = cost.to(ScalarType.Float64);
        if (!costs.isfinite().all().item<bool>()) throw new ArgumentException("The cost has entries that are not finite.", nameof(cost));
        Tensor ratio = rowMass.sum(-1, keepdim: true) / columnMass.sum(-1, keepdim: true);
        if ((ratio - 1).abs().max().item<double>() > 1e-6)
            throw new ArgumentException($"a sums to {rowMass.sum(-1).max().item<double>()}, b to {columnMass.sum(-1).max().item<double>()}; transport needs equal sums (to 1e-6 relative).", nameof(b));
        columnMass = columnMass * ratio;
        return options.PerRow ? new(columnMass, rowMass, costs.contiguous()) : new(rowMass, columnMass, costs.mT.contiguous());
    }

    private static void CheckMasses(Tensor mass, string name)
    {
        if (!mass.isfinite().all().item<bool>() || mass.min().item<double>() <= 0)
            throw new ArgumentException($"All masses of {name} must be positive and finite; leave out rows or columns without mass.", name);
    }

    private static ColumnRegularizer Regularizer(OtOptions options, long rows) => options.Reg switch
    {
        OtRegularization.Entropic => new EntropicRegularizer(options.Gamma),
        OtRegularization.Quadratic => new SparsityConstrainedRegularizer((int)rows, options.Gamma),
        _ => new SparsityConstrainedRegularizer(options.MaxNonZeros!.Value, options.Gamma),
    };

    private static Func<Tensor, (Tensor Value, Tensor Gradient)> Objective(Problem problem, ColumnRegularizer regularizer, OtForm form) => x =>
    {
        using var scope = torch.NewDisposeScope();
        long m = problem.A.shape[^1];
        ColumnSolution solution = Maximise(problem, regularizer, form, x);
        Tensor value = solution.Value.sum(-1) - (x.narrow(-1, 0, m) * problem.A).sum(-1), gradient = solution.RowSums(m) - problem.A;
        if (form == OtForm.Dual)
        {
            value = value - (x.narrow(-1, m, problem.B.shape[^1]) * problem.B).sum(-1);
            gradient = torch.cat([gradient, solution.Entries.sum(-1) - problem.B], -1);
        }
        return (value.MoveToOuterDisposeScope(), gradient.MoveToOuterDisposeScope());
    };

    /// <summary>The columns that attain the (semi-)dual at x.</summary>
    private static ColumnSolution Maximise(Problem problem, ColumnRegularizer regularizer, OtForm form, Tensor x)
    {
        (long m, long n) = (problem.A.shape[^1], problem.B.shape[^1]);
        Tensor scores = x.narrow(-1, 0, m).unsqueeze(-2) - problem.Cost;
        return form == OtForm.SemiDual
            ? regularizer.MassConjugate(scores, problem.B)
            : regularizer.Conjugate(scores + x.narrow(-1, m, n).unsqueeze(-1));
    }

    private static OtResult SolveRegularized(Problem problem, OtOptions options)
    {
        (long m, long n) = (problem.A.shape[^1], problem.B.shape[^1]);
        ColumnRegularizer regularizer = Regularizer(options, m);
        long[] start = [.. problem.A.shape[..^1], options.Form == OtForm.SemiDual ? m : m + n];
        LbfgsResult solved = Lbfgs.Minimize(Objective(problem, regularizer, options.Form), torch.zeros(start, dtype: ScalarType.Float64, device: problem.A.device),
            new() { MaxIterations = options.MaxIter, Tolerance = options.Tolerance });
        ColumnSolution solution = Maximise(problem, regularizer, options.Form, solved.X);
        Tensor alpha = solved.X.narrow(-1, 0, m), beta = options.Form == OtForm.Dual ? solved.X.narrow(-1, m, n) : solution.Beta;
        Tensor columns = solution.Columns(m), relaxed = columns, dual = -solved.Value, converged = solved.Converged;
        Tensor ties = torch.zeros_like(converged);

        if (options.Reg == OtRegularization.SparsityConstrained && options.MaxNonZeros < m)
        {
            int k = options.MaxNonZeros!.Value;
            var sparse = (SparsityConstrainedRegularizer)regularizer;
            if (options.Polish && !converged.all().item<bool>())
            {
                (Tensor potentials, Tensor polishedColumns, Tensor settled) = RelaxedTransport.Solve(problem.A, problem.B, problem.Cost, sparse, k, options.Gamma,
                    torch.cat([alpha, beta], -1), columns, options.Tolerance);
                Tensor polishedAlpha = potentials.narrow(-1, 0, m);
                ColumnSolution polished = sparse.MassConjugate(polishedAlpha.unsqueeze(-2) - problem.Cost, problem.B);
                Tensor value = (polishedAlpha * problem.A).sum(-1) - polished.Value.sum(-1);
                Tensor take = converged.logical_not().logical_and(settled.logical_or(value.ge(dual)));
                alpha = torch.where(take.unsqueeze(-1), polishedAlpha, alpha);
                beta = torch.where(take.unsqueeze(-1), polished.Beta, beta);
                dual = torch.where(take, value, dual);
                relaxed = torch.where(take.unsqueeze(-1).unsqueeze(-1), polishedColumns, relaxed);
                columns = torch.where(take.unsqueeze(-1).unsqueeze(-1), TieBroken(problem, alpha, k, options.Gamma, polishedColumns), columns);
                converged = converged.logical_or(settled);
            }
            // A relaxed plan with more than k partners proves a tie that rounding of the potentials may blur.
            ties = HasTies(alpha.unsqueeze(-2) + beta.unsqueeze(-1) - problem.Cost, k)
                .logical_or(relaxed.gt(problem.B.unsqueeze(-1) * TieTolerance).sum(-1).gt(k).any(-1));
        }
        Tensor plan = columns.mT.contiguous();
        if (options.Round) columns = (plan = Sinkhorn.Round(plan, problem.A, problem.B)).mT;
        return new(plan, relaxed.mT.contiguous(), alpha, beta, dual,
            (columns * problem.Cost).sum([-2, -1]) + regularizer.Penalty(columns).sum(-1),
            (relaxed * problem.Cost).sum([-2, -1]) + regularizer.RelaxedPenalty(relaxed).sum(-1),
            MarginalError(columns.sum(-2), problem.A), MarginalError(columns.sum(-1), problem.B), solved.Iterations, converged, ties, -solved.Trace);
    }

    /// <summary>Columns of at most k non-zeros with exact mass: the top-k of the scores, tied scores in the order of the relaxed plan.</summary>
    private static Tensor TieBroken(Problem problem, Tensor alpha, int k, double gamma, Tensor relaxed)
    {
        const double Preference = 1e-4; // of the relaxed plan, against scores over gamma: decides between equal scores only
        Tensor scores = (alpha.unsqueeze(-2) - problem.Cost) / gamma;
        Tensor kept = (scores + relaxed * Preference).topk(k, -1).indexes;
        Tensor outside = torch.ones_like(scores, ScalarType.Bool).scatter(-1, kept, torch.zeros_like(kept, ScalarType.Bool));
        return Projections.SparseSimplex(scores.masked_fill(outside, double.NegativeInfinity), k, problem.B);
    }

    /// <summary>Whether in some column the (k+1)-th score equals the k-th and that one carries mass (is above 0 after adding beta).</summary>
    private static Tensor HasTies(Tensor scores, int k)
    {
        Tensor top = scores.topk(k + 1, -1).values, range = scores.amax([-1]) - scores.amin([-1]);
        Tensor last = top.select(-1, k - 1), next = top.select(-1, k);
        return (last - next).le(TieTolerance * range).logical_and(last.gt(TieTolerance * range)).any(-1);
    }

    private static OtResult SolveLinear(Problem problem)
    {
        (long m, long n) = (problem.A.shape[^1], problem.B.shape[^1]);
        long[] batch = problem.A.shape[..^1];
        Tensor a = problem.A.reshape(-1, m).cpu(), b = problem.B.reshape(-1, n).cpu(), cost = problem.Cost.reshape(-1, n, m).cpu();
        List<Tensor> plans = [], alphas = [], betas = [], values = [], iterations = [];
        for (long p = 0; p < a.shape[0]; p++)
        {
            var costs = new double[m, n];
            double[] flat = [.. cost[p].mT.contiguous().data<double>()];
            Buffer.BlockCopy(flat, 0, costs, 0, flat.Length * sizeof(double));
            (double[,] plan, double[] alpha, double[] beta, double value, long count) = TransportationProblem.Solve(a[p].data<double>().ToArray(), b[p].data<double>().ToArray(), costs);
            plans.Add(torch.tensor(plan));
            alphas.Add(torch.tensor(alpha));
            betas.Add(torch.tensor(beta));
            values.Add(torch.tensor(value, dtype: ScalarType.Float64));
            iterations.Add(torch.tensor(count, dtype: ScalarType.Int64));
        }
        Tensor Stack(List<Tensor> parts, params long[] shape) => torch.stack(parts).reshape([.. batch, .. shape]).to(problem.A.device);
        Tensor solved = Stack(plans, m, n), potentials = Stack(alphas, m), multipliers = Stack(betas, n);
        Tensor primal = (solved * problem.Cost.mT).sum([-2, -1]);
        Tensor dual = (potentials * problem.A).sum(-1) + (multipliers * problem.B).sum(-1);
        return new(solved, solved, potentials, multipliers, dual, primal, primal, MarginalError(solved.sum(-1), problem.A), MarginalError(solved.sum(-2), problem.B),
            Stack(iterations), torch.ones(batch, dtype: ScalarType.Bool), torch.zeros(batch, dtype: ScalarType.Bool), dual.unsqueeze(0));
    }

    private static Tensor MarginalError(Tensor sums, Tensor masses) => (sums - masses).abs().amax([-1]);

    /// <summary>Columns [..., m, n] with masses [..., n] that maximise the scores alpha - c_j minus the regularisation.</summary>
    private static Tensor Columns(Tensor alpha, Tensor cost, Tensor masses, OtOptions options)
    {
        Tensor scores = (alpha.unsqueeze(-1) - cost) / options.Gamma;
        return options.Reg == OtRegularization.Entropic
            ? scores.softmax(-2) * masses.unsqueeze(-2)
            : Projections.SparseSimplex(scores, options.Reg == OtRegularization.Quadratic ? int.MaxValue : options.MaxNonZeros!.Value, masses, -2);
    }
}
