namespace Priori.Continual;

/// <summary>What a linear task needs to know of its rows: they can be added up and then forgotten.</summary>
/// <param name="Count">Rows n.</param>
/// <param name="Gram">X^T X, float64 [d, d].</param>
/// <param name="Cross">X^T y, float64 [d].</param>
/// <param name="InputSum">Sum of the rows of X, float64 [d].</param>
/// <param name="LabelSum">Sum of y.</param>
/// <param name="LabelSquares">y^T y.</param>
public sealed record TaskMoments(long Count, Tensor Gram, Tensor Cross, Tensor InputSum, double LabelSum, double LabelSquares)
{
    /// <summary>The moments of rows.</summary>
    /// <param name="batch">Inputs [n, d] and labels [n].</param>
    public static TaskMoments Of(TaskBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        batch.Check("Task");
        if (batch.Inputs.dim() != 2) throw new ArgumentException($"A linear task has inputs [n, d], not [{string.Join(", ", batch.Inputs.shape)}].", nameof(batch));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = batch.Inputs.detach().to(float64).cpu(), y = batch.Labels.detach().to(float64).cpu();
        return new TaskMoments(batch.Count, x.t().matmul(x).MoveToOuterDisposeScope(), x.t().mv(y).MoveToOuterDisposeScope(), x.sum(dim: 0).MoveToOuterDisposeScope(), y.sum().item<double>(), y.dot(y).item<double>());
    }

    /// <summary>The moments of the rows of both.</summary>
    /// <param name="a">Moments of some rows.</param>
    /// <param name="b">Moments of other rows of the task.</param>
    public static TaskMoments operator +(TaskMoments a, TaskMoments b)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        return new TaskMoments(a.Count + b.Count, a.Gram + b.Gram, a.Cross + b.Cross, a.InputSum + b.InputSum, a.LabelSum + b.LabelSum, a.LabelSquares + b.LabelSquares);
    }

    /// <summary>The moments of the rows of both; the same as the operator.</summary>
    /// <param name="a">Moments of some rows.</param>
    /// <param name="b">Moments of other rows of the task.</param>
    public static TaskMoments Add(TaskMoments a, TaskMoments b) => a + b;

    /// <summary>The moments about the means, for heads with an intercept.</summary>
    internal TaskMoments Centred() => this with
    {
        Gram = Gram - (InputSum.outer(InputSum) / Count),
        Cross = Cross - (InputSum * (LabelSum / Count)),
        LabelSquares = LabelSquares - (LabelSum * LabelSum / Count),
    };
}

/// <summary>A fitted linear multi-task model: y = x B w_m + b_m.</summary>
/// <param name="Basis">B, float64 [d, k] with orthonormal columns.</param>
/// <param name="Heads">W, float64 [k, M].</param>
/// <param name="Intercepts">b, float64 [M]; zeros without intercepts.</param>
/// <param name="NoiseVariance">Residual sum of squares over the degrees of freedom; NaN where there are none.</param>
/// <param name="ResidualSquares">Residual sum of squares over all samples.</param>
/// <param name="Sweeps">Alternations.</param>
public sealed record LinearMultiTaskFit(Tensor Basis, Tensor Heads, Tensor Intercepts, double NoiseVariance, double ResidualSquares, int Sweeps);

/// <summary>
/// Multi-task empirical risk minimisation with a linear representation: argmin over B and W of the sum over all samples of (y - x B w_m)^2, every sample with the same weight.
/// Alternating least squares on the tasks' Gram matrices: heads per task, then B from the joint normal equations sum_m (X_m^T X_m) kron (w_m w_m^T), then a QR factorisation.
/// </summary>
public static class LinearMultiTask
{
    private const long DirectUnknowns = 512; // beyond it the normal equations of B are solved by conjugate gradients
    private const int MaxConjugateGradients = 500;

    /// <summary>Fits B and W.</summary>
    /// <param name="tasks">Moments of each task, all with samples.</param>
    /// <param name="dim">Dimension k of the representation, 1..d. With fewer tasks than k it is the number of tasks: more directions are not determined.</param>
    /// <param name="intercept">Whether each task has an intercept.</param>
    /// <param name="maxSweeps">Alternations at most.</param>
    /// <param name="tolerance">Stops when an alternation lowers the residual sum of squares by less than this share of the labels' sum of squares.</param>
    /// <exception cref="ArgumentException">k is above d, a task has no samples (named), or the tasks' dimensions differ.</exception>
    public static LinearMultiTaskFit Fit(IReadOnlyList<TaskMoments> tasks, int dim, bool intercept = false, int maxSweeps = 100, double tolerance = 1e-9)
    {
        ArgumentNullException.ThrowIfNull(tasks);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxSweeps, 1);
        if (tasks.Count == 0) throw new ArgumentException("There is no task.", nameof(tasks));
        long d = tasks[0].Cross.shape[0];
        if (dim > d) throw new ArgumentException($"A representation of {dim} dimensions is larger than its {d} inputs.", nameof(dim));
        for (int m = 0; m < tasks.Count; m++)
        {
            if (tasks[m].Count < 1) throw new ArgumentException($"Task {m} has no samples.", nameof(tasks));
            if (tasks[m].Cross.shape[0] != d) throw new ArgumentException($"Task {m} has {tasks[m].Cross.shape[0]} inputs, task 0 has {d}.", nameof(tasks));
        }
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        TaskMoments[] centred = [.. tasks.Select(t => intercept ? t.Centred() : t)];
        Tensor grams = stack(centred.Select(t => t.Gram)), crosses = stack(centred.Select(t => t.Cross)); // [M, d, d], [M, d]
        double squares = centred.Sum(t => t.LabelSquares);
        int k = Math.Min(dim, tasks.Count);
        Tensor basis = Start(grams, crosses, tensor(tasks.Select(t => (double)t.Count).ToArray()), k), heads = null!;
        double residual = double.PositiveInfinity;
        int sweep = 1;
        for (; ; sweep++)
        {
            Tensor projected = basis.t().matmul(grams).matmul(basis), right = crosses.matmul(basis); // [M, k, k], [M, k]
            heads = linalg.solve(Ridged(projected), right.unsqueeze(2)).squeeze(2);
            double before = residual;
            residual = Math.Max(0, squares - (2 * (heads * right).sum().item<double>()) + heads.unsqueeze(1).matmul(projected).matmul(heads.unsqueeze(2)).sum().item<double>());
            if (sweep >= maxSweeps || before - residual <= tolerance * squares) break;
            (Tensor q, Tensor r) = linalg.qr(Directions(grams, crosses, heads, basis));
            Tensor next = q;
            (basis, heads) = (next, heads.matmul(r.t()));
        }
        double freedom = tasks.Sum(t => t.Count) - ((d * k) + (tasks.Count * (double)k) - (k * (double)k)) - (intercept ? tasks.Count : 0);
        Tensor means = stack(tasks.Select(t => t.InputSum / t.Count)), levels = tensor(tasks.Select(t => t.LabelSum / t.Count).ToArray());
        Tensor intercepts = intercept ? levels - (means.matmul(basis) * heads).sum(dim: 1) : zeros(tasks.Count, float64);
        return new LinearMultiTaskFit(basis.MoveToOuterDisposeScope(), heads.t().contiguous().MoveToOuterDisposeScope(), intercepts.MoveToOuterDisposeScope(), freedom > 0 ? residual / freedom : double.NaN, residual, sweep);
    }

    // The leading left singular vectors of the tasks' own ridge regressions, each weighted by the root of its sample size.
    private static Tensor Start(Tensor grams, Tensor crosses, Tensor counts, int k)
    {
        long d = crosses.shape[1];
        Tensor scale = grams.diagonal(0, 1, 2).mean([1L]) / counts; // mean square of an input
        Tensor ridge = scale.clamp_min(1e-12).view(-1, 1, 1) * eye(d, dtype: float64);
        Tensor own = linalg.solve(grams + ridge, crosses.unsqueeze(2)).squeeze(2) * counts.sqrt().unsqueeze(1); // [M, d]
        return linalg.svd(own.t(), fullMatrices: false).U.narrow(1, 0, k).contiguous();
    }

    private static Tensor Directions(Tensor grams, Tensor crosses, Tensor heads, Tensor basis)
    {
        (long tasks, long d, long k) = (grams.shape[0], crosses.shape[1], heads.shape[1]);
        Tensor right = crosses.t().matmul(heads); // [d, k]
        Tensor outer = heads.unsqueeze(2) * heads.unsqueeze(1); // [M, k, k]
        if (d * k > DirectUnknowns) return ConjugateGradients(v => grams.matmul(v).matmul(outer).sum(dim: 0), right, basis);
        Tensor normal = grams.view(tasks, d * d).t().matmul(outer.view(tasks, k * k)).view(d, d, k, k).permute(0, 2, 1, 3).reshape(d * k, d * k);
        return linalg.solve(Ridged(normal), right.reshape(d * k, 1)).view(d, k);
    }

    // A ridge of rounding size: directions that no sample touches get nothing instead of anything.
    private static Tensor Ridged(Tensor matrices)
    {
        long size = matrices.shape[^1];
        return matrices + (matrices.diagonal(0, -2, -1).mean([-1L], keepdim: true).unsqueeze(-1) * 1e-11 + 1e-300) * eye(size, dtype: float64);
    }

    private static Tensor ConjugateGradients(Func<Tensor, Tensor> multiply, Tensor right, Tensor start)
    {
        Tensor x = start, r = right - multiply(x), p = r;
        double square = r.square().sum().item<double>(), enough = 1e-22 * right.square().sum().item<double>();
        for (int i = 0; i < MaxConjugateGradients && square > enough; i++)
        {
            Tensor product = multiply(p);
            double curvature = (p * product).sum().item<double>();
            if (!(curvature > 0)) break;
            x = x + (p * (square / curvature));
            r = r - (product * (square / curvature));
            double next = r.square().sum().item<double>();
            p = r + (p * (next / square));
            square = next;
        }
        return x;
    }
}
