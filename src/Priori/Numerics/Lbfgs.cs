namespace Priori.Numerics;

/// <summary>Settings of <see cref="Lbfgs"/>.</summary>
public sealed record LbfgsOptions
{
    /// <summary>Iterations at most, at least 1. Default 500.</summary>
    public int MaxIterations { get; init; } = 500;

    /// <summary>Converged when no entry of the gradient is larger in magnitude. Default 1e-9.</summary>
    public double Tolerance { get; init; } = 1e-9;

    /// <summary>Pairs of steps and gradient changes that model the curvature, at least 1. Default 10.</summary>
    public int History { get; init; } = 10;

    /// <summary>Evaluations of one line search at most. Default 25.</summary>
    public int MaxLineSearch { get; init; } = 25;
}

/// <summary>Where <see cref="Lbfgs.Minimize"/> ended; [...] is the batch shape of the problem.</summary>
/// <param name="X">The minimisers, [..., d].</param>
/// <param name="Value">The objective there, [...].</param>
/// <param name="Gradient">The gradient there, [..., d].</param>
/// <param name="Iterations">Iterations of each problem, int64 [...].</param>
/// <param name="Converged">Whether each problem reached the tolerance, bool [...]; one that did not ran out of iterations or cannot be improved further (a kink).</param>
/// <param name="Trace">The objective before the first and after each iteration, [1 + iterations, ...].</param>
public sealed record LbfgsResult(Tensor X, Tensor Value, Tensor Gradient, Tensor Iterations, Tensor Converged, Tensor Trace);

/// <summary>
/// Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 7.5) for a batch of independent problems
/// that are evaluated together; each keeps its own step length and curvature, and rests when it has converged.
/// </summary>
public static class Lbfgs
{
    private const double SufficientDecrease = 1e-4, Curvature = 0.9; // Nocedal and Wright, section 3.1
    private const double ValueRounding = 1e-13;                      // relative; below it values cannot be compared any more
    private const int Patience = 10;                                 // iterations without measurable decrease of value or gradient before a problem is left alone

    /// <summary>Minimises a function; strong Wolfe conditions hold after every step, except at kinks of non-smooth functions.</summary>
    /// <param name="objective">Gives value [...] and gradient [..., d] at x [..., d]; each problem depends on its own x only.</param>
    /// <param name="start">The first x, [..., d], floating point (float64 for tolerances below 1e-6).</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is outside its range, or the objective is not finite at the start or has the wrong shape.</exception>
    public static LbfgsResult Minimize(Func<Tensor, (Tensor Value, Tensor Gradient)> objective, Tensor start, LbfgsOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(objective);
        options ??= new();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxIterations, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.History, 1, nameof(options));
        using var noGradient = torch.no_grad();
        using var scope = torch.NewDisposeScope();

        Tensor x = start.detach().clone();
        (Tensor value, Tensor gradient) = objective(x);
        if (!gradient.shape.SequenceEqual(x.shape) || !value.shape.AsSpan().SequenceEqual(x.shape.AsSpan()[..^1]))
            throw new ArgumentException($"For x [{string.Join(',', x.shape)}] the objective gave value [{string.Join(',', value.shape)}] and gradient [{string.Join(',', gradient.shape)}].", nameof(objective));
        if (!value.isfinite().all().item<bool>()) throw new ArgumentException("The objective is not finite at the start.", nameof(start));
        value = value.unsqueeze(-1);
        List<Tensor> trace = [value];
        List<(Tensor Step, Tensor Change, Tensor InverseCurvature)> history = [];
        Tensor scale = 1 / gradient.norm(-1, keepdim: true).clamp_min(1); // of the first, steepest-descent step: at most unit length
        Tensor active = LargestEntry(gradient).gt(options.Tolerance);
        Tensor flattest = LargestEntry(gradient), failures = torch.zeros_like(value), iterations = torch.zeros_like(value, ScalarType.Int64);

        for (int iteration = 0; iteration < options.MaxIterations && active.any().item<bool>(); iteration++)
        {
            using var step = torch.NewDisposeScope();
            Tensor direction = Direction(gradient, history, scale);
            Tensor slope = Dot(direction, gradient);
            Tensor uphill = slope.ge(0);
            direction = torch.where(uphill, -gradient * scale, direction).masked_fill(active.logical_not(), 0);
            slope = Dot(direction, gradient);
            (Tensor nextX, Tensor nextValue, Tensor nextGradient) = LineSearch(objective, x, value, gradient, direction, slope, options.MaxLineSearch);

            Tensor moved = nextX - x, change = nextGradient - gradient;
            Tensor curvature = Dot(moved, change), squared = Dot(change, change);
            Tensor valid = curvature.gt(squared * 1e-12).logical_and(curvature.gt(0));
            Tensor inverse = torch.where(valid, 1 / curvature, 0); // a pair that is not valid is without effect
            Tensor steepness = LargestEntry(nextGradient);
            Tensor improved = (value - nextValue).gt(ValueRounding * (1 + value.abs())).logical_or(steepness.lt(0.99 * flattest));
            Tensor stuck = active.logical_and(moved.eq(0).all(-1, keepdim: true));

            iterations = (iterations + active.to(ScalarType.Int64)).MoveToOuterDisposeScope();
            failures = torch.where(improved, 0, failures + 1 + stuck.to(failures.dtype) * (Patience / 2)).MoveToOuterDisposeScope();
            scale = torch.where(valid, curvature / squared, torch.where(stuck, 1 / gradient.norm(-1, keepdim: true).clamp_min(1), scale)).MoveToOuterDisposeScope();
            flattest = torch.minimum(flattest, steepness).MoveToOuterDisposeScope();
            (x, value, gradient) = (nextX.MoveToOuterDisposeScope(), nextValue.MoveToOuterDisposeScope(), nextGradient.MoveToOuterDisposeScope());
            trace.Add(value);
            if (stuck.any().item<bool>()) // forget the curvature of problems that found no step
                history = [.. history.Select(pair => (pair.Step, pair.Change, pair.InverseCurvature.masked_fill(stuck, 0).MoveToOuterDisposeScope()))];
            history.Add((moved.MoveToOuterDisposeScope(), change.MoveToOuterDisposeScope(), inverse.MoveToOuterDisposeScope()));
            if (history.Count > options.History) history.RemoveAt(0);
            active = active.logical_and(steepness.gt(options.Tolerance)).logical_and(failures.lt(Patience)).MoveToOuterDisposeScope();
        }
        Tensor converged = LargestEntry(gradient).le(options.Tolerance).squeeze(-1);
        var result = new LbfgsResult(x, value.squeeze(-1), gradient, iterations.squeeze(-1), converged, torch.stack(trace).squeeze(-1));
        foreach (Tensor tensor in (Tensor[])[result.X, result.Value, result.Gradient, result.Iterations, result.Converged, result.Trace]) tensor.MoveToOuterDisposeScope();
        return result;
    }

    /// <summary>The two-loop recursion: minus the inverse Hessian model times the gradient.</summary>
    private static Tensor Direction(Tensor gradient, List<(Tensor Step, Tensor Change, Tensor InverseCurvature)> history, Tensor scale)
    {
        Tensor q = gradient;
        var weights = new Tensor[history.Count];
        for (int i = history.Count - 1; i >= 0; i--)
        {
            weights[i] = history[i].InverseCurvature * Dot(history[i].Step, q);
            q = q - weights[i] * history[i].Change;
        }
        q = q * scale;
        for (int i = 0; i < history.Count; i++)
            q = q + history[i].Step * (weights[i] - history[i].InverseCurvature * Dot(history[i].Change, q));
        return -q;
    }

    /// <summary>
    /// Brackets a strong Wolfe point between a low end (enough decrease, still descending) and a high end (too little decrease, or
    /// ascending), by doubling, then by turns of regula falsi on the slope and bisection. If none is found, the low end is the step.
    /// </summary>
    private static (Tensor X, Tensor Value, Tensor Gradient) LineSearch(Func<Tensor, (Tensor Value, Tensor Gradient)> objective,
        Tensor x, Tensor value, Tensor gradient, Tensor direction, Tensor slope, int evaluations)
    {
        Tensor low = torch.zeros_like(value), lowSlope = slope, high = torch.full_like(value, double.PositiveInfinity), highSlope = low;
        Tensor done = slope.ge(0), length = torch.ones_like(value), allowed = value + ValueRounding * (1 + value.abs());
        (Tensor bestX, Tensor bestValue, Tensor bestGradient) = (x, value, gradient);
        for (int evaluation = 1; ; evaluation++)
        {
            Tensor trial = x + length * direction;
            (Tensor trialValue, Tensor trialGradient) = objective(trial);
            trialValue = trialValue.unsqueeze(-1);
            Tensor trialSlope = Dot(trialGradient, direction);
            Tensor decreased = trialValue.le(value + SufficientDecrease * length * slope);
            // Close to a minimum values differ by rounding only: then the slope decides (Hager and Zhang, 2005, eq. 4).
            decreased = decreased.logical_or(trialValue.le(allowed).logical_and(trialSlope.le((2 * SufficientDecrease - 1) * slope)));
            Tensor flat = decreased.logical_and(trialSlope.abs().le(-Curvature * slope));
            Tensor pending = done.logical_not();
            Tensor accept = pending.logical_and(decreased).logical_and(flat.logical_or(trialSlope.lt(0)));
            bestX = torch.where(accept, trial, bestX);
            bestValue = torch.where(accept, trialValue, bestValue);
            bestGradient = torch.where(accept, trialGradient, bestGradient);
            done = done.logical_or(flat);
            if (evaluation == evaluations || done.all().item<bool>()) return (bestX, bestValue, bestGradient);

            Tensor raise = pending.logical_and(accept);
            low = torch.where(raise, length, low);
            lowSlope = torch.where(raise, trialSlope, lowSlope);
            Tensor lower = pending.logical_and(accept.logical_not());
            high = torch.where(lower, length, high);
            highSlope = torch.where(lower, trialSlope, highSlope);
            Tensor fraction = torch.where(highSlope.gt(0), -lowSlope / (highSlope - lowSlope), 0.5);
            if (evaluation % 3 == 0) fraction = torch.full_like(fraction, 0.5);
            length = torch.where(high.isinf(), length * 2, low + (high - low) * fraction.clamp(0.1, 0.9));
        }
    }

    private static Tensor Dot(Tensor left, Tensor right) => (left * right).sum(-1, keepdim: true);

    private static Tensor LargestEntry(Tensor gradient) => gradient.abs().amax([-1], keepdim: true);
}
