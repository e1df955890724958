using System.Globalization;
using Priori.Reproduction;

namespace Priori.Reporting;

/// <summary>Numbers as tables show them: invariant culture, as many digits as mean something.</summary>
public static class Numbers
{
    /// <summary>A number in a .NET format such as F4, N0, P1.</summary>
    /// <param name="value">The number.</param>
    /// <param name="format">The format.</param>
    public static string Text(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    /// <summary>Mean and sample standard deviation, to two digits of the deviation.</summary>
    /// <param name="values">The numbers; one gives itself, none gives nothing.</param>
    public static string MeanAndDeviation(IReadOnlyCollection<double> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        if (values.Count == 0) return "";
        double mean = values.Average();
        if (values.Count == 1) return Number(mean);
        double deviation = Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (values.Count - 1));
        if (!(deviation > 0) || double.IsInfinity(deviation)) return $"{Number(mean)} ± {Number(deviation)}";
        int digits = 1 - (int)Math.Floor(Math.Log10(deviation));
        if (digits is < 0 or > 6) return $"{Number(mean)} ± {deviation.ToString("G2", CultureInfo.InvariantCulture)}";
        return $"{mean.ToString($"F{digits}", CultureInfo.InvariantCulture)} ± {deviation.ToString($"F{digits}", CultureInfo.InvariantCulture)}";
    }

    /// <summary>Mean and deviation of a metric over the results of an arm, one a seed; in a given format.</summary>
    /// <param name="results">The results.</param>
    /// <param name="metric">The metric.</param>
    /// <param name="format">Format of both numbers.</param>
    public static string MeanAndDeviation(IReadOnlyCollection<ArmResult> results, string metric, string format = "F4")
    {
        ArgumentNullException.ThrowIfNull(results);
        double[] values = [.. results.Select(r => r[metric])];
        double mean = values.Average();
        return values.Length < 2 ? Text(mean, format) : $"{Text(mean, format)} ± {Text(Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (values.Length - 1)), format)}";
    }

    internal static string Number(double value) => double.IsNaN(value) ? "not a number" : RunResult.Number(value);
}
