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
    public void Group_auc_weights_users_by_their_impressions_and_skips_those_with_one_class()
    {
        // AUC 1/2 of 3 rows, 1 of 2 rows, none (only positives), 7/8 of 4 rows with a tie.
        Tensor targets = tensor(new float[] { 1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 0 }), groups = tensor(new long[] { 7, 7, 7, -2, -2, 30, 30, 5, 5, 5, 5 });
        Tensor scores = tensor(new[] { .9f, .8f, .95f, .2f, .1f, .3f, .4f, .5f, .5f, .6f, .4f });
        Assert.Equal(.7777778, RankingMetrics.GroupAuc(scores, targets, groups), 1e-7);
        Tensor order = tensor(new long[] { 10, 3, 0, 8, 6, 5, 1, 9, 2, 4, 7 });
        Assert.Equal(.7777778, RankingMetrics.GroupAuc(scores[order], targets[order], groups[order]), 1e-7);
        Assert.True(double.IsNaN(RankingMetrics.GroupAuc(scores[5..7], targets[5..7], groups[5..7])));
        Assert.Equal(RankingMetrics.Auc(scores, targets), RankingMetrics.GroupAuc(scores, targets, zeros(11, ScalarType.Int64)), 1e-12);
    }

    [Fact]
    public void Group_auc_equals_the_mean_of_each_group()
    {
        var generator = new Generator(5);
        Tensor scores = (randn([500], generator: generator) * 4).round(), targets = rand([500], generator: generator).gt(.6).to(ScalarType.Float32), groups = randint(40, [500], ScalarType.Int64, generator: generator);
        double sum = 0, rows = 0;
        for (int g = 0; g < 40; g++)
        {
            Tensor own = groups.eq(g);
            double auc = RankingMetrics.Auc(scores[own], targets[own]);
            if (double.IsNaN(auc)) continue;
            sum += auc * own.sum().item<long>();
            rows += own.sum().item<long>();
        }
        Assert.Equal(sum / rows, RankingMetrics.GroupAuc(scores, targets, groups), 1e-12);
    }

    [Fact]
    public void Relative_improvement_is_of_what_is_above_chance()
    {
        Assert.Equal(5.353, RankingMetrics.RelaImpr(.8818, .8624), 5e-4);
        Assert.Equal(2.087, RankingMetrics.RelaImpr(.7348, .73), 5e-4);
        Assert.True(double.IsNaN(RankingMetrics.RelaImpr(.7, .5)));
    }

    [Fact]
    public void Log_loss_is_mean_cross_entropy() =>
        Assert.Equal(-(Math.Log(.8) + Math.Log(.7)) / 2, RankingMetrics.LogLoss(tensor(new double[] { .8, .3 }), tensor(new double[] { 1, 0 })), 1e-12);

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Assert.Throws<ArgumentException>(() => RankingMetrics.Auc(zeros(3), zeros(4)));
        Assert.Throws<ArgumentException>(() => RankingMetrics.GroupAuc(zeros(3), zeros(3), zeros(2)));
        Assert.Throws<ArgumentException>(() => RankingMetrics.GroupAuc(tensor(new float[] { float.NaN, 1 }), tensor(new float[] { 0, 1 }), zeros(2)));
        Assert.Throws<ArgumentException>(() => RankingMetrics.Auc(tensor(new float[] { float.NaN, 1 }), tensor(new float[] { 0, 1 })));
    }
}
