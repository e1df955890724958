namespace Priori.Training;

/// <summary>A learning-rate schedule: a factor on the optimizer's own rate, a pure function of the position in training.</summary>
public abstract class Schedule
{
    /// <summary>The factor, at least 0, for the coming step.</summary>
    /// <param name="step">Steps done so far, from 0.</param>
    /// <param name="totalSteps">Steps of the whole training.</param>
    /// <param name="epoch">Epochs done so far; the fraction is the part of the present epoch.</param>
    public abstract double Factor(long step, long totalSteps, double epoch);
}

/// <summary>Multiplies the rate by <paramref name="factor"/> at each milestone.</summary>
/// <param name="milestones">Epochs at which the rate changes.</param>
/// <param name="factor">What it is multiplied by.</param>
public sealed class StepSchedule(IReadOnlyList<double> milestones, double factor = 0.1) : Schedule
{
    /// <inheritdoc/>
    public override double Factor(long step, long totalSteps, double epoch) => Math.Pow(factor, milestones.Count(m => epoch >= m));
}

/// <summary>Half a cosine from 1 to <paramref name="minimum"/> over the training (Loshchilov and Hutter, ICLR 2017), after a linear warm-up.</summary>
/// <param name="warmupSteps">Steps of the linear warm-up from 0.</param>
/// <param name="minimum">Factor at the end.</param>
public sealed class CosineSchedule(long warmupSteps = 0, double minimum = 0) : Schedule
{
    /// <inheritdoc/>
    public override double Factor(long step, long totalSteps, double epoch)
        => step < warmupSteps
            ? (step + 1.0) / warmupSteps
            : minimum + (1 - minimum) * 0.5 * (1 + Math.Cos(Math.PI * (step - warmupSteps) / Math.Max(1, totalSteps - warmupSteps)));
}

/// <summary>Cosine with warm restarts every <paramref name="period"/> epochs (Loshchilov and Hutter, ICLR 2017), stepped by whole epochs.</summary>
/// <param name="period">Epochs between restarts, at least 1.</param>
/// <param name="minimum">Factor at the end of a period.</param>
public sealed class CosineRestarts(int period, double minimum = 0) : Schedule
{
    /// <inheritdoc/>
    public override double Factor(long step, long totalSteps, double epoch)
        => minimum + (1 - minimum) * 0.5 * (1 + Math.Cos(Math.PI * ((int)epoch % period) / period));
}

/// <summary>A linear warm-up from 0 over <paramref name="steps"/> steps, then constant.</summary>
/// <param name="steps">Steps of the warm-up, at least 1.</param>
public sealed class LinearWarmup(long steps) : Schedule
{
    /// <inheritdoc/>
    public override double Factor(long step, long totalSteps, double epoch) => Math.Min(1, (step + 1.0) / steps);
}
