namespace Priori.Runtime;

/// <summary>Seeds in one place: every random number of the library follows from a seed and what it is for.</summary>
public static class Seeds
{
    /// <summary>A seed for one purpose: a stable 31-bit hash of the seed and of what it is for (epoch, pass, arm, ...).</summary>
    /// <param name="seed">The seed of the whole.</param>
    /// <param name="streams">What the numbers are for, as integers.</param>
    public static int Derive(int seed, params ReadOnlySpan<long> streams) => (int)(SplitMix64.Mix(seed, streams) >> 33);

    /// <summary>Seeds libtorch's generators on all devices.</summary>
    /// <param name="seed">The seed.</param>
    public static void Set(int seed) => torch.manual_seed(seed).Dispose();
}
