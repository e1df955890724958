using Priori.Data;
using Priori.Metrics;

namespace Priori.Tests.Data;

public sealed class UsefulValueLogTests
{
    [Fact]
    public void A_third_of_the_values_is_useful_and_none_of_the_noise_fields()
    {
        UsefulValueLogData log = UsefulValueLog.Generate(30_000, seed: 0);
        bool[] useful = log.Useful.data<bool>().ToArray();
        Assert.InRange(useful.Count(u => u) / 2400.0, .30, .37);
        Assert.DoesNotContain(true, useful[1600..]);
        Assert.Equal(new long[] { 30_000, 12 }, log.Ids.shape);
        Tensor field = log.Ids.div(200, RoundingMode.floor);
        Assert.True(field.eq(arange(12)).all().item<bool>());
        // Centred logits: about as many clicks as not. The best possible AUC is well below 1.
        Assert.InRange(log.Labels.mean().item<float>(), .45, .55);
        Assert.InRange(RankingMetrics.Auc(log.Probabilities, log.Labels), .82, .90);
        Assert.Equal(log.Labels.mean().item<float>(), log.Probabilities.mean().item<float>(), .01);
    }

    [Fact]
    public void Popularity_falls_with_the_rank_to_the_power_of_four_fifths()
    {
        UsefulValueLogData log = UsefulValueLog.Generate(30_000, seed: 1);
        double total = Enumerable.Range(1, 200).Sum(r => Math.Pow(r, -.8));
        for (int f = 0; f < 12; f++)
        {
            long[] counts = [.. log.Ids[.., f].sub(200 * f).bincount(null, 200).data<long>().OrderDescending()];
            Assert.Equal(1 / total, counts[0] / 30_000.0, .01);
            Assert.Equal(Math.Pow(10, -.8) / total, counts[9] / 30_000.0, .003);
        }
    }

    [Fact]
    public void Rows_differ_in_probability_only_by_their_useful_values_and_a_seed_names_its_rows()
    {
        var small = new UsefulValueLogOptions { Fields = 3, Values = 3, NoiseFields = 1 };
        UsefulValueLogData log = UsefulValueLog.Generate(500, 3, small), again = UsefulValueLog.Generate(500, 3, small);
        Assert.Equal(log.Ids.data<long>().ToArray(), again.Ids.data<long>().ToArray());
        Assert.Equal(log.Labels.data<float>().ToArray(), again.Labels.data<float>().ToArray());
        Assert.NotEqual(log.Ids.data<long>().ToArray(), UsefulValueLog.Generate(500, 4, small).Ids.data<long>().ToArray());
        bool[] useful = log.Useful.data<bool>().ToArray();
        long[] ids = log.Ids.data<long>().ToArray();
        float[] p = log.Probabilities.data<float>().ToArray();
        var groups = Enumerable.Range(0, 500).GroupBy(r => string.Join(',', Enumerable.Range(0, 3).Select(f => ids[r * 3 + f]).Where(id => useful[id])), r => p[r]).ToArray();
        Assert.True(groups.Length > 1);
        Assert.All(groups, g => Assert.Single(g.Distinct()));
        Assert.Equal(groups.Length, groups.Select(g => g.First()).Distinct().Count());
        Assert.Throws<ArgumentOutOfRangeException>(() => UsefulValueLog.Generate(10, 0, small with { NoiseFields = 4 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => UsefulValueLog.Generate(0, 0));
    }
}
