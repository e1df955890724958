namespace Priori.Runtime;

/// <summary>
/// The SplitMix64 generator (Steele, Lea, Flood, OOPSLA 2014): 64 bits of state, the same sequence on every system and version.
/// Used wherever data are generated, so that a seed names the same data everywhere.
/// </summary>
/// <param name="seed">The initial state.</param>
public sealed class SplitMix64(ulong seed)
{
    private ulong _state = seed;
    private double? _spare;

    /// <summary>A generator for one purpose of a seed: streams of different purposes are independent.</summary>
    /// <param name="seed">The seed of the whole.</param>
    /// <param name="streams">What the numbers are for, as integers.</param>
    public static SplitMix64 For(int seed, params ReadOnlySpan<long> streams) => new(Mix(seed, streams));

    /// <summary>The next 64 random bits.</summary>
    public ulong NextUInt64()
    {
        _state += 0x9E3779B97F4A7C15UL;
        return Finalize(_state);
    }

    /// <summary>Uniform in [0, 1), 53 random bits.</summary>
    public double NextDouble() => (NextUInt64() >> 11) * (1.0 / (1UL << 53));

    /// <summary>Uniform integer in [0, <paramref name="n"/>).</summary>
    /// <param name="n">The number of values, at least 1.</param>
    public int Next(int n)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        return (int)(NextDouble() * n);
    }

    /// <summary>Standard normal (Box-Muller, both values of a pair are used).</summary>
    public double NextGaussian()
    {
        if (_spare is { } spare)
        {
            _spare = null;
            return spare;
        }
        double radius = Math.Sqrt(-2 * Math.Log(1 - NextDouble()));
        (double sine, double cosine) = Math.SinCos(2 * Math.PI * NextDouble());
        _spare = radius * sine;
        return radius * cosine;
    }

    /// <summary>Shuffles in place (Fisher-Yates).</summary>
    /// <param name="values">The values to shuffle.</param>
    public void Shuffle<T>(Span<T> values)
    {
        for (int i = values.Length - 1; i > 0; i--)
        {
            int j = Next(i + 1);
            (values[i], values[j]) = (values[j], values[i]);
        }
    }

    internal static ulong Mix(int seed, ReadOnlySpan<long> streams)
    {
        ulong hash = Finalize((ulong)(uint)seed + 0x9E3779B97F4A7C15UL);
        foreach (long stream in streams) hash = Finalize(hash ^ ((ulong)stream * 0x9E3779B97F4A7C15UL + 0xD1B54A32D192ED03UL));
        return hash;
    }

    private static ulong Finalize(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return z ^ (z >> 31);
    }
}
