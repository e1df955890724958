namespace Priori.Metrics;

/// <summary>How close predicted numbers are to a numeric target.</summary>
public static class RegressionMetrics
{
    /// <summary>Coefficient of determination 1 - sum (y - p)^2 / sum (y - mean y)^2: 1 is perfect, 0 is the mean; NaN when the target is constant.</summary>
    /// <param name="predictions">Predictions [n].</param>
    /// <param name="targets">Targets [n].</param>
    /// <exception cref="ArgumentException">Shapes differ or are empty.</exception>
    public static double R2(Tensor predictions, Tensor targets)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        var (p, y) = Flat(predictions, targets);
        double total = (y - y.mean()).square().sum().item<double>();
        return total > 0 ? 1 - (y - p).square().sum().item<double>() / total : double.NaN;
    }

    /// <summary>Root of the mean squared error, in the target's unit.</summary>
    /// <param name="predictions">Predictions [n].</param>
    /// <param name="targets">Targets [n].</param>
    /// <exception cref="ArgumentException">Shapes differ or are empty.</exception>
    public static double RootMeanSquaredError(Tensor predictions, Tensor targets)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        var (p, y) = Flat(predictions, targets);
        return Math.Sqrt((y - p).square().mean().item<double>());
    }

    private static (Tensor Predictions, Tensor Targets) Flat(Tensor predictions, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(predictions);
        ArgumentNullException.ThrowIfNull(targets);
        if (predictions.numel() != targets.numel() || targets.numel() == 0)
            throw new ArgumentException($"Predictions [{string.Join(", ", predictions.shape)}] and targets [{string.Join(", ", targets.shape)}] must be as many and at least one.", nameof(predictions));
        return (predictions.reshape(-1).to(ScalarType.Float64), targets.reshape(-1).to(ScalarType.Float64));
    }
}
