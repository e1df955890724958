namespace Priori.Training;

/// <summary>An exponential decay from 1 to <paramref name="last"/> over the training.</summary>
/// <param name="last">Factor at the end, above 0.</param>
public sealed class ExponentialSchedule(double last) : Schedule
{
    /// <inheritdoc/>
    public override double Factor(long step, long totalSteps, double epoch) => Math.Pow(last, (double)step / Math.Max(1, totalSteps));
}
