namespace Priori.Training;

/// <summary>The sigmoid-shaped ramp-up of Laine and Aila (ICLR 2017): exp(-5 (1 - min(step, length) / length)^2), from 0.0067 to 1.</summary>
public static class SigmoidRampUp
{
    /// <summary>The factor at a step.</summary>
    /// <param name="step">Position, from 0; steps beyond the length give 1.</param>
    /// <param name="length">Length of the ramp in the same unit; 0 gives 1 everywhere.</param>
    /// <exception cref="ArgumentOutOfRangeException">The length is negative.</exception>
    public static double At(double step, double length)
    {
        if (double.IsNaN(length) || length < 0) throw new ArgumentOutOfRangeException(nameof(length), length, "The length must be at least 0.");
        if (length == 0) return 1;
        double rest = 1 - Math.Clamp(step, 0, length) / length;
        return Math.Exp(-5 * rest * rest);
    }
}
