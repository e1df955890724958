using Priori.Runtime;

namespace Priori.Training;

/// <summary>
/// Corrupts labels for experiments on noisy labels. The same seed gives the same corruption on every system; the given tensor is left alone.
/// Labels are int64 [n] in 0..classCount-1; the result lies on their device.
/// </summary>
public static class LabelNoise
{
    /// <summary>
    /// Symmetric noise: exactly round(rate * n) rows get a label drawn uniformly.
    /// With <paramref name="includeSelf"/> the draw is from all classes, so that a share rate * (C - 1) / C is wrong on average; without, from the other C - 1 classes.
    /// </summary>
    /// <param name="labels">True labels, int64 [n].</param>
    /// <param name="rate">Share of rows whose label is redrawn, in [0, 1].</param>
    /// <param name="classCount">Number of classes C, at least 2.</param>
    /// <param name="seed">Seed of the corruption.</param>
    /// <param name="includeSelf">Whether the true class may be drawn (Liu et al., NeurIPS 2020, do so; Han et al., NeurIPS 2018, do not).</param>
    /// <returns>Noisy labels, int64 [n].</returns>
    /// <exception cref="ArgumentException">Labels are not int64 [n] within the classes.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The rate or the class count is outside its range.</exception>
    public static Tensor Symmetric(Tensor labels, double rate, int classCount, int seed, bool includeSelf = true)
    {
        long[] noisy = Check(labels, rate, classCount);
        SplitMix64 random = SplitMix64.For(seed, 1);
        int[] rows = [.. Enumerable.Range(0, noisy.Length)];
        random.Shuffle<int>(rows);
        foreach (int row in rows.Take(Share(rate, rows.Length)))
            noisy[row] = includeSelf ? random.Next(classCount) : (noisy[row] + 1 + random.Next(classCount - 1)) % classCount;
        return tensor(noisy).to(labels.device);
    }

    /// <summary>Asymmetric noise: of each class that the map names, exactly round(rate * class size) rows get the class it is mapped to. Class sizes are those of the true labels.</summary>
    /// <param name="labels">True labels, int64 [n].</param>
    /// <param name="rate">Share of each mapped class that is relabelled, in [0, 1].</param>
    /// <param name="classMap">True class to wrong class, e.g. <see cref="Cifar10Map"/>.</param>
    /// <param name="classCount">Number of classes C, at least 2.</param>
    /// <param name="seed">Seed of the corruption.</param>
    /// <returns>Noisy labels, int64 [n].</returns>
    /// <exception cref="ArgumentException">Labels or the map name classes outside 0..classCount-1.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The rate or the class count is outside its range.</exception>
    public static Tensor Asymmetric(Tensor labels, double rate, IReadOnlyDictionary<int, int> classMap, int classCount, int seed)
    {
        ArgumentNullException.ThrowIfNull(classMap);
        long[] truth = Check(labels, rate, classCount);
        if (classMap.Any(m => m.Key < 0 || m.Key >= classCount || m.Value < 0 || m.Value >= classCount))
            throw new ArgumentException($"The map names a class outside 0..{classCount - 1}.", nameof(classMap));
        long[] noisy = [.. truth];
        SplitMix64 random = SplitMix64.For(seed, 2);
        foreach ((int from, int to) in classMap.OrderBy(m => m.Key))
        {
            int[] rows = [.. Enumerable.Range(0, truth.Length).Where(i => truth[i] == from)];
            random.Shuffle<int>(rows);
            foreach (int row in rows.Take(Share(rate, rows.Length))) noisy[row] = to;
        }
        return tensor(noisy).to(labels.device);
    }

    /// <summary>Pair flip (Han et al., NeurIPS 2018): asymmetric noise from each class c to (c + 1) mod C.</summary>
    /// <param name="labels">True labels, int64 [n].</param>
    /// <param name="rate">Share of each class that is relabelled, in [0, 1].</param>
    /// <param name="classCount">Number of classes C, at least 2.</param>
    /// <param name="seed">Seed of the corruption.</param>
    /// <returns>Noisy labels, int64 [n].</returns>
    /// <exception cref="ArgumentException">Labels are not int64 [n] within the classes.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The rate or the class count is outside its range.</exception>
    public static Tensor PairFlip(Tensor labels, double rate, int classCount, int seed)
        => Asymmetric(labels, rate, Enumerable.Range(0, Math.Max(classCount, 0)).ToDictionary(c => c, c => (c + 1) % classCount), classCount, seed);

    /// <summary>CIFAR-10's confusable classes (Patrini et al., CVPR 2017): truck to automobile, bird to airplane, cat to dog and back, deer to horse.</summary>
    public static IReadOnlyDictionary<int, int> Cifar10Map { get; } = new Dictionary<int, int> { [9] = 1, [2] = 0, [3] = 5, [5] = 3, [4] = 7 };

    private static int Share(double rate, int rows) => (int)Math.Round(rate * rows);

    private static long[] Check(Tensor labels, double rate, int classCount)
    {
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentOutOfRangeException.ThrowIfLessThan(classCount, 2);
        if (rate is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(rate), rate, "The noise rate must be in [0, 1].");
        if (labels.dtype != ScalarType.Int64 || labels.dim() != 1)
            throw new ArgumentException($"Labels must be int64 [n]; got {labels.dtype} [{string.Join(",", labels.shape)}].", nameof(labels));
        using Tensor host = labels.cpu();
        long[] values = host.data<long>().ToArray();
        int bad = Array.FindIndex(values, v => v < 0 || v >= classCount);
        return bad < 0 ? values : throw new ArgumentException($"Label {values[bad]} of row {bad} is outside 0..{classCount - 1}.", nameof(labels));
    }
}
