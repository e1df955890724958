using Priori.Metrics;

namespace Priori.Tests.Metrics;

public sealed class AccuracyMatrixTests
{
    [Fact]
    public void The_worked_example_of_three_tasks()
    {
        var matrix = new AccuracyMatrix([[.9], [.6, .8], [.5, .6, .85]]);
        Assert.Equal(.65, matrix.FinalAverage, 12);
        Assert.Equal(.30, matrix.Forgetting, 12);
        Assert.Equal(-.30, matrix.BackwardTransfer, 12);
        Assert.Equal((.9 + .7 + .65) / 3, matrix.AverageIncremental, 12);
        Assert.True(double.IsNaN(matrix.ToArray()[0, 2]));
        Assert.Equal(.6, matrix.ToArray()[2, 1]);
    }

    [Fact]
    public void Forgetting_counts_from_the_best_earlier_accuracy_and_backward_transfer_from_the_first()
    {
        var matrix = new AccuracyMatrix([[.5], [.8, .9], [.6, .95, .7]]);
        Assert.Equal(((.8 - .6) + (.9 - .95)) / 2, matrix.Forgetting, 12);
        Assert.Equal(((.6 - .5) + (.95 - .9)) / 2, matrix.BackwardTransfer, 12);
        Assert.Equal(0, new AccuracyMatrix([[.5]]).Forgetting);
    }

    [Fact]
    public void Rows_must_have_one_more_entry_each()
    {
        Assert.Throws<ArgumentException>(() => new AccuracyMatrix([]));
        Assert.Contains("Row 1", Assert.Throws<ArgumentException>(() => new AccuracyMatrix([[.5], [.5]])).Message);
        Assert.Throws<ArgumentException>(() => new AccuracyMatrix([[double.NaN]]));
    }
}
