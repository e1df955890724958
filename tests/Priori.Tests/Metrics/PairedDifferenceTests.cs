using Priori.Metrics;

namespace Priori.Tests.Metrics;

public class PairedDifferenceTests
{
    [Fact]
    public void Interval_is_students_t()
    {
        // Differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.302653.
        var difference = PairedDifference.Of([2, 4, 6], [1, 2, 3]);
        Assert.Equal(2, difference.Mean, 12);
        Assert.Equal(1, difference.Deviation, 12);
        Assert.Equal(2 - 4.302652729911275 / Math.Sqrt(3), difference.Low, 6);
        Assert.Equal(2 + 4.302652729911275 / Math.Sqrt(3), difference.High, 6);
        Assert.Equal((3, 3), (difference.Wins, difference.Count));
        var wider = PairedDifference.Of([2, 4, 6], [1, 2, 3], 0.99);
        Assert.True(wider.Low < difference.Low && wider.High > difference.High);
    }

    [Fact]
    public void Ties_are_no_wins_and_one_pair_has_no_interval()
    {
        Assert.Equal(1, PairedDifference.Of([1, 2, 0], [1, 1, 1]).Wins);
        var one = PairedDifference.Of([1], [0.5]);
        Assert.Equal(0.5, one.Mean);
        Assert.True(double.IsNaN(one.Low) && double.IsNaN(one.High));
    }

    [Fact]
    public void Figures_must_be_paired()
    {
        Assert.Throws<ArgumentException>(() => PairedDifference.Of([1, 2], [1]));
        Assert.Throws<ArgumentException>(() => PairedDifference.Of([], []));
        Assert.Throws<ArgumentOutOfRangeException>(() => PairedDifference.Of([1, 2], [1, 2], 1));
    }
}
