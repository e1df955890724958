using Priori.Metrics;

namespace Priori.Tests.Metrics;

public class FrequencySlicesTests
{
    [Fact]
    public void Items_are_divided_by_their_training_counts_and_unseen_ones_are_cold()
    {
        long[] counts = [0, 50, 1, 9, 2, 8, 2, 7, 3, 6, 5, 0];
        FrequencySlice[] slices = FrequencySlices.Of(counts, headShare: .2, tailShare: .5);
        Assert.Equal([1, 3], Items(FrequencySlice.Head));
        Assert.Equal([5, 7, 9], Items(FrequencySlice.Mid));
        Assert.Equal([2, 4, 6, 8, 10], Items(FrequencySlice.Tail));
        Assert.Equal([0, 11], Items(FrequencySlice.Cold));
        Assert.All(FrequencySlices.Of([0, 0]), s => Assert.Equal(FrequencySlice.Cold, s));
        Assert.Throws<ArgumentOutOfRangeException>(() => FrequencySlices.Of(counts, .6, .5));
        Assert.Throws<ArgumentOutOfRangeException>(() => FrequencySlices.Of([1, -1]));

        int[] Items(FrequencySlice slice) => [.. Enumerable.Range(0, counts.Length).Where(i => slices[i] == slice)];
    }
}
