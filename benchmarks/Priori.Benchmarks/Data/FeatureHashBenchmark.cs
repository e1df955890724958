using System.Globalization;
using BenchmarkDotNet.Attributes;
using Priori.Data;

namespace Priori.Benchmarks.Data;

/// <summary>Rows of a million keys: one feature, one chunk, M = 100,000.</summary>
public class FeatureHashBenchmark
{
    private const int Keys = 1_000_000, Rows = 100_000;
    private readonly string[] _ids = [.. Enumerable.Range(0, Keys).Select(i => i.ToString(CultureInfo.InvariantCulture))];
    private readonly string[] _words = [.. Enumerable.Range(0, Keys).Select(i => $"zürich-{i % 1000}")];
    private readonly ulong _prefix = FeatureHash.Prefix(0, 0);

    /// <summary>Numbers of up to six digits, as text.</summary>
    [Benchmark(Baseline = true, OperationsPerInvoke = Keys)]
    public long Ids() => Sum(_ids);

    /// <summary>Texts of up to ten characters with one outside ASCII.</summary>
    [Benchmark(OperationsPerInvoke = Keys)]
    public long Words() => Sum(_words);

    private long Sum(string[] keys)
    {
        long sum = 0;
        foreach (string key in keys) sum += FeatureHash.Row(FeatureHash.Hash(_prefix, key), Rows);
        return sum;
    }
}
