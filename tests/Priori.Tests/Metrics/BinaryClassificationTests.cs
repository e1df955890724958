using Priori.Metrics;

namespace Priori.Tests.Metrics;

public class BinaryClassificationTests
{
    [Fact]
    public void Decisions_are_counted()
    {
        var scores = BinaryClassification.Of(tensor(new[] { .9f, .6f, .5f, .4f, .1f }), tensor(new long[] { 1, 0, 1, 1, 0 }));
        Assert.Equal((.6, 2.0 / 3, 2.0 / 3), (scores.Accuracy, scores.Precision, scores.Recall));
        Assert.Equal(2.0 / 3, scores.F1, 12);
        Assert.Equal(new BinaryClassification(.5, 0, 0, 0), BinaryClassification.Of(tensor(new[] { .1f, .2f }), tensor(new[] { 1f, 0 })));
        Assert.Throws<ArgumentException>(() => BinaryClassification.Of(zeros(2), zeros(3)));
    }
}
