using Priori.Metrics;

namespace Priori.Tests.Metrics;

public sealed class ClassificationTests
{
    [Fact]
    public void Accuracy_is_the_share_of_rows_whose_largest_score_is_at_the_label()
    {
        Tensor scores = tensor(new float[,] { { 1, 2 }, { 3, 0 }, { 0, 1 }, { 5, 4 } });
        Assert.Equal(.75, Classification.Accuracy(scores, tensor(new long[] { 1, 0, 0, 0 })), 1e-12);
        Assert.Throws<ArgumentException>(() => Classification.Accuracy(scores, tensor(new long[] { 1 })));
    }

    [Fact]
    public void Memorization_separates_right_and_wrong_labels()
    {
        Memorization m = Memorization.Of(tensor(new long[] { 0, 1, 2, 3, 1 }), tensor(new long[] { 0, 0, 2, 3, 2 }), tensor(new long[] { 0, 0, 1, 1, 1 }));
        Assert.Equal((.5, 1.0 / 3, 2.0 / 3), (m.CleanCorrect, m.FlippedCorrect, m.FlippedMemorized));
        Assert.True(double.IsNaN(Memorization.Of(zeros(2, ScalarType.Int64), zeros(2, ScalarType.Int64), zeros(2, ScalarType.Int64)).FlippedMemorized));
    }
}
