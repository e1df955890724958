namespace Priori.Metrics;

/// <summary>How often an item occurred in training.</summary>
public enum FrequencySlice
{
    /// <summary>One of the most frequent items.</summary>
    Head,

    /// <summary>Neither head nor tail.</summary>
    Mid,

    /// <summary>One of the least frequent items that occurred at all.</summary>
    Tail,

    /// <summary>Never seen in training.</summary>
    Cold,
}

/// <summary>Divides a catalogue by training frequency, so that measures can be told by head, mid, tail and cold items.</summary>
public static class FrequencySlices
{
    /// <summary>The slice of each item. Items that occurred are ranked by count, of equal counts the lower index first; items without an occurrence are cold.</summary>
    /// <param name="counts">Occurrences of each item in the training data only, at least 0.</param>
    /// <param name="headShare">Part of the items that occurred that is the head; default a tenth.</param>
    /// <param name="tailShare">Part of the items that occurred that is the tail; default half.</param>
    /// <exception cref="ArgumentOutOfRangeException">A share is negative, they sum to more than 1, or a count is negative.</exception>
    public static FrequencySlice[] Of(IReadOnlyList<long> counts, double headShare = 0.1, double tailShare = 0.5)
    {
        ArgumentNullException.ThrowIfNull(counts);
        if (!(headShare >= 0) || !(tailShare >= 0) || headShare + tailShare > 1)
            throw new ArgumentOutOfRangeException(nameof(headShare), $"The shares of head and tail must be at least 0 and together at most 1; they are {headShare} and {tailShare}.");
        if (counts.Any(c => c < 0)) throw new ArgumentOutOfRangeException(nameof(counts), counts.Min(), "Counts must not be negative.");
        int[] ranked = [.. Enumerable.Range(0, counts.Count).Where(i => counts[i] > 0).OrderByDescending(i => counts[i])];
        int head = (int)Math.Round(headShare * ranked.Length), tail = (int)Math.Round(tailShare * ranked.Length);
        var slices = new FrequencySlice[counts.Count];
        Array.Fill(slices, FrequencySlice.Cold);
        for (int rank = 0; rank < ranked.Length; rank++)
            slices[ranked[rank]] = rank < head ? FrequencySlice.Head : rank < ranked.Length - tail ? FrequencySlice.Mid : FrequencySlice.Tail;
        return slices;
    }
}
