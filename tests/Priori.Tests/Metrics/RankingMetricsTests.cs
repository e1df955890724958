using Priori.Metrics;

namespace Priori.Tests.Metrics;

public class RankingMetricsTests
{
    [Fact]
    public void Auc_counts_ordered_pairs_and_half_of_ties()
    {
        // positives .8 .4 .4, negatives .4 .1: 2 + 1.5 + 1.5 of 6 pairs
        Tensor scores = tensor(new float[] { .8f, .4f, .4f, .4f, .1f }), targets = tensor(new float[] { 1, 1, 1, 0, 0 });
        Assert.Equal(5 / 6.0, RankingMetrics.Auc(scores, targets), 1e-12);
        Assert.Equal(1 - 5 / 6.0, RankingMetrics.Auc(-scores, targets), 1e-12);
        Assert.Equal(.5, RankingMetrics.Auc(zeros(5), targets), 1e-12);
        Assert.True(double.IsNaN(RankingMetrics.Auc(scores, ones(5))));
    }

    [Fact]
    public void Auc_equals_the_count_over_all_pairs()
    {
        var generator = new Generator(4);
        Tensor scores = (randn([200], generator: generator) * 4).round(), targets = rand([200], generator: generator).gt(.6).to(ScalarType.Int64);
        float[] s = scores.data<float>().ToArray();
        long[] t = targets.data<long>().ToArray();
        double wins = 0, pairs = 0;
        for (int i = 0; i < 200; i++)
            for (int j = 0; j < 200; j++)
                if (t[i] == 1 && t[j] == 0) { pairs++; wins += s[i] > s[j] ? 1 : s[i] == s[j] ? .5 : 0; }
        Assert.Equal(wins / pairs, RankingMetrics.Auc(scores, targets), 1e-12);
    }

    [Fact]
    public void Log_loss_is_mean_cross_entropy() =>
        Assert.Equal(-(Math.Log(.8) + Math.Log(.7)) / 2, RankingMetrics.LogLoss(tensor(new double[] { .8, .3 }), tensor(new double[] { 1, 0 })), 1e-12);

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Assert.Throws<ArgumentException>(() => RankingMetrics.Auc(zeros(3), zeros(4)));
        Assert.Throws<ArgumentException>(() => RankingMetrics.Auc(tensor(new float[] { float.NaN, 1 }), tensor(new float[] { 0, 1 })));
    }
}
