using Priori.Data;
using Priori.Metrics;

namespace Priori.Tests.Data;

public class PairwiseClickLogTests
{
    [Fact]
    public void Rows_are_of_the_described_distribution()
    {
        PairwiseClickData log = PairwiseClickLog.Generate(30_000, world: 0);
        Assert.Equal([30_000, 6], log.Ids.shape);
        for (int f = 0; f < 6; f++)
        {
            Tensor counts = bincount(log.Ids.select(1, f), minlength: 144);
            Assert.Equal(30_000, counts.narrow(0, f * 24, 24).sum().ToInt64());
            Assert.InRange(counts.narrow(0, f * 24, 24).min().ToInt64(), 1050, 1250);
            Assert.InRange(counts.narrow(0, f * 24, 24).max().ToInt64(), 1250, 1450);
        }
        Tensor residual = log.Labels - log.Probabilities;
        Assert.InRange(residual.mean().ToDouble(), -.01, .01);
        double[] best = [.. Enumerable.Range(0, 8).Select(world => PairwiseClickLog.Generate(20_000, world)).Select(l => RankingMetrics.Auc(l.Probabilities, l.Labels))];
        Assert.InRange(best.Average(), .88, .905); // normal logits of variance 10.3 / 1.69 give .893
    }

    [Fact]
    public void Only_planted_pairs_interact()
    {
        // Pure interaction of a pair: variance over cells of the mean residual beyond row and column effects of the logit, against what noise gives.
        PairwiseClickData log = PairwiseClickLog.Generate(60_000, world: 1);
        Tensor logit = (log.Probabilities.to(ScalarType.Float64) / (1 - log.Probabilities.to(ScalarType.Float64))).log();
        var strength = new Dictionary<(int, int), double>();
        for (int i = 0; i < 6; i++)
            for (int j = i + 1; j < 6; j++)
            {
                Tensor cell = ((log.Ids.select(1, i) - 24 * i) * 24) + log.Ids.select(1, j) - 24 * j;
                Tensor mean = (bincount(cell, logit, 576) / bincount(cell, minlength: 576)).view(24, 24);
                Tensor pure = mean - mean.mean([0], keepdim: true) - mean.mean([1], keepdim: true) + mean.mean();
                strength[(i, j)] = pure.square().mean().ToDouble();
            }
        double least = PairwiseClickLog.Planted.Min(p => strength[(p.First, p.Second)]);
        double most = strength.Where(s => !PairwiseClickLog.Planted.Any(p => (p.First, p.Second) == s.Key)).Max(s => s.Value);
        Assert.True(least > 4 * most, $"{least} and {most}");
    }

    [Fact]
    public void A_world_fixes_the_effects_and_a_sample_the_rows()
    {
        PairwiseClickData a = PairwiseClickLog.Generate(500, 3, 0), again = PairwiseClickLog.Generate(500, 3, 0), other = PairwiseClickLog.Generate(500, 3, 1), world = PairwiseClickLog.Generate(500, 4, 0);
        Assert.Equal(a.Labels.data<float>().ToArray(), again.Labels.data<float>().ToArray());
        Assert.False(a.Ids.equal(other.Ids).all().ToBoolean());
        Assert.False(a.Probabilities.allclose(world.Probabilities));
    }
}
