using System.Numerics;
using System.Runtime.InteropServices;
using DenseMatrix = MathNet.Numerics.LinearAlgebra.Double.DenseMatrix;
using DenseVector = MathNet.Numerics.LinearAlgebra.Double.DenseVector;

namespace Priori.Numerics;

/// <summary>A solution of the lasso.</summary>
/// <param name="Coefficients">b, one a column.</param>
/// <param name="Penalty">lambda.</param>
/// <param name="Objective">1/2 |y - X b|^2 + lambda |b|_1.</param>
/// <param name="DualityGap">Objective minus the dual objective of the rescaled residual: at least 0, and an upper bound on how far the objective is from its minimum.</param>
/// <param name="Sweeps">Passes over the columns, those over the active ones included.</param>
/// <param name="Converged">Whether the gap reached its tolerance.</param>
public sealed record LassoSolution(double[] Coefficients, double Penalty, double Objective, double DualityGap, int Sweeps, bool Converged);

/// <summary>
/// The lasso, argmin 1/2 |y - X b|^2 + lambda |b|_1 (no factor 1/n, no intercept), by cyclic coordinate descent (Friedman, Hastie, Tibshirani, JSS 2010) on the residual, for few rows and many columns.
/// Sweeps over the columns in use alternate with sweeps over all. Once the support rests, its coefficients follow from a linear system, which replaces the slow last digits
/// of the descent wherever the solution proves better.
/// </summary>
public static class LassoCoordinateDescent
{
    private const int ActiveSweeps = 50; // over the support between two over all columns, at most

    /// <summary>The smallest lambda whose solution is 0: max_j |x_j . y|.</summary>
    /// <param name="x">X [n, p].</param>
    /// <param name="y">y [n].</param>
    public static double LargestPenalty(Tensor x, Tensor y) => new Problem(x, y).LargestPenalty;

    /// <summary>Solves for one penalty.</summary>
    /// <param name="x">X [n, p], finite; columns of norm 0 keep the coefficient 0.</param>
    /// <param name="y">y [n], finite.</param>
    /// <param name="lambda">Penalty, at least 0. (scikit-learn's alpha is lambda / n.)</param>
    /// <param name="start">Coefficients [p] to begin from, such as those of a nearby penalty; zeros when null.</param>
    /// <param name="tolerance">Duality gap at exit, relative to 1/2 |y|^2. Default 1e-10.</param>
    /// <param name="maxSweeps">Passes over the columns at most.</param>
    /// <exception cref="ArgumentException">Shapes do not fit, an entry is not finite, or lambda is negative.</exception>
    public static LassoSolution Solve(Tensor x, Tensor y, double lambda, IReadOnlyList<double>? start = null, double tolerance = 1e-10, int maxSweeps = 100_000)
        => new Problem(x, y).Solve(lambda, start, tolerance, maxSweeps);

    /// <summary>Solves for several penalties, each beginning from the solution before it.</summary>
    /// <param name="x">X [n, p], finite.</param>
    /// <param name="y">y [n], finite.</param>
    /// <param name="lambdas">Penalties; from large to small is fast.</param>
    /// <param name="tolerance">Duality gap at exit, relative to 1/2 |y|^2.</param>
    /// <param name="maxSweeps">Passes over the columns at most, for each penalty.</param>
    /// <exception cref="ArgumentException">Shapes do not fit, an entry is not finite, or a lambda is negative.</exception>
    public static IReadOnlyList<LassoSolution> Path(Tensor x, Tensor y, IReadOnlyList<double> lambdas, double tolerance = 1e-10, int maxSweeps = 100_000)
    {
        ArgumentNullException.ThrowIfNull(lambdas);
        var problem = new Problem(x, y);
        var path = new List<LassoSolution>(lambdas.Count);
        foreach (double lambda in lambdas) path.Add(problem.Solve(lambda, path.LastOrDefault()?.Coefficients, tolerance, maxSweeps));
        return path;
    }

    private sealed class Problem
    {
        private readonly int _rows, _count;
        private readonly double[] _columns, _target, _squares; // X^T, one column after the other

        public Problem(Tensor x, Tensor y)
        {
            ArgumentNullException.ThrowIfNull(x);
            ArgumentNullException.ThrowIfNull(y);
            if (x.dim() != 2 || y.dim() != 1 || x.shape[0] != y.shape[0] || x.numel() == 0)
                throw new ArgumentException($"X must be [n, p] and y [n], not [{string.Join(", ", x.shape)}] and [{string.Join(", ", y.shape)}].", nameof(y));
            using DisposeScope scope = NewDisposeScope();
            (_rows, _count) = ((int)x.shape[0], (int)x.shape[1]);
            _columns = x.detach().to(float64).cpu().t().contiguous().data<double>().ToArray();
            _target = y.detach().to(float64).cpu().contiguous().data<double>().ToArray();
            if (_columns.Concat(_target).Any(value => !double.IsFinite(value))) throw new ArgumentException("X and y must be finite.", nameof(x));
            _squares = [.. Enumerable.Range(0, _count).Select(j => Dot(Column(j), Column(j)))];
        }

        public double LargestPenalty => Enumerable.Range(0, _count).Max(j => Math.Abs(Dot(Column(j), _target)));

        public LassoSolution Solve(double lambda, IReadOnlyList<double>? start, double tolerance, int maxSweeps)
        {
            if (!(lambda >= 0) || double.IsInfinity(lambda)) throw new ArgumentOutOfRangeException(nameof(lambda), lambda, "The penalty lambda must be at least 0.");
            if (start is not null && start.Count != _count) throw new ArgumentException($"The start has {start.Count} coefficients for {_count} columns.", nameof(start));
            ArgumentOutOfRangeException.ThrowIfNegative(tolerance);
            double[] b = start is null ? new double[_count] : [.. start];
            double[] residual = Residual(b);
            double enough = tolerance * 0.5 * Dot(_target, _target);
            int[] all = [.. Enumerable.Range(0, _count)];
            int[] before = [];
            int sweeps = 0;
            while (true)
            {
                Sweep(all, b, residual, lambda);
                sweeps++;
                int[] active = [.. all.Where(j => b[j] != 0)];
                for (int i = 0; i < ActiveSweeps && sweeps < maxSweeps; i++, sweeps++)
                    if (Sweep(active, b, residual, lambda) <= 1e-3 * enough) break;
                (double objective, double gap) = Judge(b, residual, lambda);
                if (gap > 0 && active.AsSpan().SequenceEqual(before) && Polish(b, lambda) is { } polished && Judge(polished, Residual(polished), lambda) is var (better, smaller) && smaller < gap)
                    (b, residual, objective, gap) = (polished, Residual(polished), better, smaller);
                before = active;
                if (gap <= enough || sweeps >= maxSweeps) return new LassoSolution(b, lambda, objective, gap, sweeps, gap <= enough);
            }
        }

        // Returns the largest gain of objective of a single step.
        private double Sweep(int[] order, double[] b, double[] residual, double lambda)
        {
            double largest = 0;
            foreach (int j in order)
            {
                double square = _squares[j];
                if (square == 0) continue;
                ReadOnlySpan<double> column = Column(j);
                double old = b[j], gradient = Dot(column, residual);
                if (old == 0 && Math.Abs(gradient) <= lambda) continue;
                double z = gradient + (square * old), updated = Math.Abs(z) <= lambda ? 0 : (z - Math.CopySign(lambda, z)) / square;
                if (updated == old) continue;
                b[j] = updated;
                AddScaled(residual, column, old - updated);
                largest = Math.Max(largest, square * (updated - old) * (updated - old));
            }
            return largest;
        }

        private (double Objective, double Gap) Judge(double[] b, double[] residual, double lambda)
        {
            double square = Dot(residual, residual), penalty = lambda * b.Sum(Math.Abs), objective = (0.5 * square) + penalty;
            double correlation = Enumerable.Range(0, _count).Max(j => Math.Abs(Dot(Column(j), residual)));
            double scale = correlation <= lambda ? 1 : lambda / correlation; // puts the residual into the dual's feasible set
            double dual = (scale * Dot(residual, _target)) - (0.5 * scale * scale * square);
            return (objective, Math.Max(0, objective - dual));
        }

        // With the support S and its signs the minimiser solves X_S^T X_S b = X_S^T y - lambda sign.
        private double[]? Polish(double[] b, double lambda)
        {
            int[] support = [.. Enumerable.Range(0, _count).Where(j => b[j] != 0)];
            if (support.Length == 0 || support.Length > _rows) return null;
            var gram = new double[support.Length, support.Length];
            var right = new double[support.Length];
            for (int i = 0; i < support.Length; i++)
            {
                ReadOnlySpan<double> column = Column(support[i]);
                right[i] = Dot(column, _target) - Math.CopySign(lambda, b[support[i]]);
                for (int j = 0; j <= i; j++) gram[i, j] = gram[j, i] = Dot(column, Column(support[j]));
            }
            double[] solved;
            try
            {
                solved = [.. DenseMatrix.OfArray(gram).Cholesky().Solve(DenseVector.OfArray(right))];
            }
            catch (ArgumentException) // dependent columns
            {
                return null;
            }
            for (int i = 0; i < solved.Length; i++)
                if (!(solved[i] * b[support[i]] > 0)) return null; // another support
            var polished = new double[_count];
            for (int i = 0; i < solved.Length; i++) polished[support[i]] = solved[i];
            return polished;
        }

        private double[] Residual(double[] b)
        {
            double[] residual = [.. _target];
            for (int j = 0; j < _count; j++)
                if (b[j] != 0) AddScaled(residual, Column(j), -b[j]);
            return residual;
        }

        private ReadOnlySpan<double> Column(int j) => _columns.AsSpan(j * _rows, _rows);
    }

    private static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        ReadOnlySpan<Vector<double>> x = MemoryMarshal.Cast<double, Vector<double>>(a), y = MemoryMarshal.Cast<double, Vector<double>>(b);
        Vector<double> first = default, second = default;
        int i = 0;
        for (; i + 1 < x.Length; i += 2)
        {
            first = Vector.FusedMultiplyAdd(x[i], y[i], first);
            second = Vector.FusedMultiplyAdd(x[i + 1], y[i + 1], second);
        }
        if (i < x.Length) first = Vector.FusedMultiplyAdd(x[i], y[i], first);
        double sum = Vector.Sum(first + second);
        for (int rest = x.Length * Vector<double>.Count; rest < a.Length; rest++) sum += a[rest] * b[rest];
        return sum;
    }

    private static void AddScaled(Span<double> target, ReadOnlySpan<double> column, double scale)
    {
        Span<Vector<double>> t = MemoryMarshal.Cast<double, Vector<double>>(target);
        ReadOnlySpan<Vector<double>> c = MemoryMarshal.Cast<double, Vector<double>>(column);
        var factor = new Vector<double>(scale);
        for (int i = 0; i < t.Length; i++) t[i] = Vector.FusedMultiplyAdd(c[i], factor, t[i]);
        for (int rest = t.Length * Vector<double>.Count; rest < target.Length; rest++) target[rest] += column[rest] * scale;
    }
}
