namespace Priori.Metrics;

/// <summary>
/// Accuracies a[n, j] on task j after training on task n, for j up to n, and what continual learning reports of them: average accuracy,
/// forgetting (Chaudhry et al., ECCV 2018) and backward transfer (Lopez-Paz, Ranzato, NeurIPS 2017). Tasks count from 0.
/// </summary>
public sealed class AccuracyMatrix
{
    private readonly double[][] _rows;

    /// <summary>A matrix of given accuracies.</summary>
    /// <param name="rows">Row n: accuracies on tasks 0..n after task n, so row n has n + 1 entries.</param>
    /// <exception cref="ArgumentException">There is no row, a row is not of its length, or an entry is not finite.</exception>
    public AccuracyMatrix(IEnumerable<IReadOnlyList<double>> rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        _rows = [.. rows.Select(r => r.ToArray())];
        if (_rows.Length == 0) throw new ArgumentException("An accuracy matrix needs at least one task.", nameof(rows));
        for (int n = 0; n < _rows.Length; n++)
        {
            if (_rows[n].Length != n + 1) throw new ArgumentException($"Row {n} must have {n + 1} accuracies, one for each task seen, not {_rows[n].Length}.", nameof(rows));
            if (!_rows[n].All(double.IsFinite)) throw new ArgumentException($"Row {n} has an accuracy that is not finite.", nameof(rows));
        }
    }

    /// <summary>Number of tasks N.</summary>
    public int Tasks => _rows.Length;

    /// <summary>Accuracy on task <paramref name="task"/> after task <paramref name="after"/>.</summary>
    /// <param name="after">The task after which it was measured, from 0.</param>
    /// <param name="task">The task on whose test data it was measured, at most <paramref name="after"/>.</param>
    public double this[int after, int task] => _rows[after][task];

    /// <summary>A_n: mean accuracy over the tasks seen after task <paramref name="after"/>.</summary>
    /// <param name="after">The task, from 0.</param>
    public double Average(int after) => _rows[after].Average();

    /// <summary>A_N: mean accuracy over all tasks after the last one.</summary>
    public double FinalAverage => Average(Tasks - 1);

    /// <summary>A_1:N: mean of A_n over n, the average incremental accuracy.</summary>
    public double AverageIncremental => Enumerable.Range(0, Tasks).Average(Average);

    /// <summary>F_N: mean over the earlier tasks of (best accuracy before the last task - accuracy at the end). 0 for one task; below 0 when the last task improves earlier ones.</summary>
    public double Forgetting => OverEarlier(j => Enumerable.Range(j, Tasks - 1 - j).Max(n => _rows[n][j]) - _rows[^1][j]);

    /// <summary>Mean over the earlier tasks of (accuracy at the end - accuracy just after learning the task). 0 for one task.</summary>
    public double BackwardTransfer => OverEarlier(j => _rows[^1][j] - _rows[j][j]);

    /// <summary>The matrix [after, task]; NaN where the task was not seen yet.</summary>
    public double[,] ToArray()
    {
        var values = new double[Tasks, Tasks];
        for (int n = 0; n < Tasks; n++)
            for (int j = 0; j < Tasks; j++) values[n, j] = j <= n ? _rows[n][j] : double.NaN;
        return values;
    }

    private double OverEarlier(Func<int, double> of) => Tasks == 1 ? 0 : Enumerable.Range(0, Tasks - 1).Average(of);
}
