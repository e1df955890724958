using MathNet.Numerics.Distributions;

namespace Priori.Metrics;

/// <summary>The difference of two methods measured under the same conditions (seeds, folds, data sets), pair by pair.</summary>
/// <param name="Mean">Mean of the differences.</param>
/// <param name="Deviation">Their standard deviation (n - 1); NaN for one pair.</param>
/// <param name="Low">Lower end of the confidence interval of the mean (Student's t, n - 1 degrees of freedom); NaN for one pair.</param>
/// <param name="High">Its upper end; NaN for one pair.</param>
/// <param name="Wins">Pairs with a difference above 0.</param>
/// <param name="Count">Number of pairs.</param>
public sealed record PairedDifference(double Mean, double Deviation, double Low, double High, int Wins, int Count)
{
    /// <summary>Differences a - b.</summary>
    /// <param name="a">Figures of the first method.</param>
    /// <param name="b">Figures of the second one under the same conditions in the same order.</param>
    /// <param name="confidence">Level of the interval, in (0, 1).</param>
    /// <exception cref="ArgumentException">The lengths differ or are 0, or the level is outside its range.</exception>
    public static PairedDifference Of(IReadOnlyList<double> a, IReadOnlyList<double> b, double confidence = 0.95)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        if (a.Count != b.Count || a.Count == 0) throw new ArgumentException($"Pairs need as many figures of each method and at least one, not {a.Count} and {b.Count}.", nameof(b));
        if (confidence is not (> 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(confidence), confidence, "A confidence level lies in (0, 1).");
        double[] differences = [.. a.Zip(b, (x, y) => x - y)];
        int n = differences.Length;
        double mean = differences.Average();
        int wins = differences.Count(d => d > 0);
        if (n == 1) return new PairedDifference(mean, double.NaN, double.NaN, double.NaN, wins, n);
        double deviation = Math.Sqrt(differences.Sum(d => (d - mean) * (d - mean)) / (n - 1));
        double half = StudentT.InvCDF(0, 1, n - 1, (1 + confidence) / 2) * deviation / Math.Sqrt(n);
        return new PairedDifference(mean, deviation, mean - half, mean + half, wins, n);
    }
}
