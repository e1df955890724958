using Priori.Data;

namespace Priori.Tests.Data;

public sealed class ClickLogTests
{
    private static readonly ClickLogData s_log = ClickLog.Generate(40_000, seed: 1);

    [Fact]
    public void The_probability_is_the_sigmoid_of_the_stated_terms()
    {
        Tensor logit = s_log.MainEffects.sum(1) + s_log.InteractionEffects.sum(1) + s_log.Bias;
        Assert.True(torch.allclose(torch.sigmoid(logit), s_log.Probabilities, rtol: 1e-4, atol: 1e-5));
        Assert.Equal(0.25, s_log.Probabilities.mean().item<float>(), 3);
    }

    [Fact]
    public void Strengths_are_standard_deviations_and_noise_fields_do_nothing()
    {
        float[] interactions = s_log.InteractionEffects.std(0).data<float>().ToArray();
        for (int i = 0; i < interactions.Length; i++) Assert.Equal(s_log.Interactions[i].Strength, interactions[i], 0.05);
        float[] main = s_log.MainEffects.std(0).data<float>().ToArray();
        for (int f = 0; f < main.Length; f++) Assert.Equal(s_log.Fields[f].MainEffect, main[f], 0.02);
    }

    [Fact]
    public void Interactions_are_pure()
    {
        // Given any one of its fields, the mean effect of an interaction is zero: the share of its variance that the field explains is only noise.
        for (int i = 0; i < s_log.Interactions.Count; i++)
        {
            Tensor effect = s_log.InteractionEffects[.., i];
            foreach (string name in s_log.Interactions[i].Fields)
            {
                int f = s_log.Fields.ToList().FindIndex(x => x.Name == name);
                Tensor ids = s_log.Ids[.., f], count = torch.zeros(100).index_add_(0, ids, torch.ones(40_000), 1), sum = torch.zeros(100).index_add_(0, ids, effect, 1);
                double explained = (sum * sum / count.clamp(1)).sum().item<float>() / 40_000;
                Assert.InRange(explained / effect.square().mean().item<float>(), 0, 0.01);
            }
        }
    }

    [Fact]
    public void Values_follow_Zipf_and_labels_follow_the_probabilities()
    {
        Tensor counts = s_log.Ids[.., 1].bincount(null);
        double harmonic = Enumerable.Range(1, 8).Sum(k => 1.0 / k);
        Assert.Equal(1 / harmonic, counts[0].item<long>() / 40_000.0, 0.01);
        Assert.Equal(1 / (8 * harmonic), counts[7].item<long>() / 40_000.0, 0.005);
        Tensor sure = s_log.Probabilities > 0.8;
        Assert.Equal(s_log.Probabilities[sure].mean().item<float>(), s_log.Labels[sure].mean().item<float>(), 0.03);
    }

    [Fact]
    public void Knowing_the_interactions_is_worth_much_more_than_the_main_effects()
    {
        double Auc(Tensor score)
        {
            Tensor ranks = score.argsort().argsort().to(ScalarType.Float64) + 1, positive = s_log.Labels.to(ScalarType.Float64);
            double p = positive.sum().item<double>(), n = 40_000 - p;
            return ((ranks * positive).sum().item<double>() - (p * (p + 1) / 2)) / (p * n);
        }
        double main = Auc(s_log.MainEffects.sum(1)), all = Auc(s_log.Probabilities);
        Assert.InRange(main, 0.55, 0.7);
        Assert.InRange(all, main + 0.1, 0.95);
    }

    [Fact]
    public void A_world_is_shared_by_seeds()
    {
        ClickLogData a = ClickLog.Generate(500, 1), b = ClickLog.Generate(500, 2), other = ClickLog.Generate(500, 1, world: 1);
        Assert.True(a.Ids.Equals(ClickLog.Generate(500, 1).Ids));
        Assert.False(a.Ids.Equals(b.Ids));
        Assert.True(a.Ids.Equals(other.Ids));
        float Effect(ClickLogData d) => d.MainEffects[.., 0][d.Ids[.., 0] == 0][0].item<float>();
        Assert.Equal(Effect(a), Effect(b));
        Assert.NotEqual(Effect(a), Effect(other));
        Assert.Equal([0L, 40, 48, 72, 79, 91, 111, 211, 227, 257], a.Offsets.data<long>().ToArray());
    }

    [Fact]
    public void The_csv_holds_the_log()
    {
        string path = Path.Combine(Directory.CreateTempSubdirectory().FullName, "clicks.csv");
        ClickLogData log = ClickLog.Generate(30, 4);
        log.WriteCsv(path);
        string[] lines = File.ReadAllLines(path);
        Assert.Equal(31, lines.Length);
        Assert.Equal("user_segment,device,hour,weekday,placement,ad_category,advertiser,region,noise_a,noise_b,click", lines[0]);
        Assert.StartsWith($"user_segment_{log.Ids[6, 0].item<long>()},device_{log.Ids[6, 1].item<long>()},", lines[7], StringComparison.Ordinal);
        Assert.EndsWith($",{(int)log.Labels[6].item<float>()}", lines[7], StringComparison.Ordinal);
    }

    [Fact]
    public void Bad_options_are_named()
    {
        Assert.Contains("'moon'", Assert.Throws<ArgumentException>(() => ClickLog.Generate(10, 0, new ClickLogOptions { Interactions = [new(["device", "moon"], 1)] })).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => ClickLog.Generate(10, 0, new ClickLogOptions { ClickRate = 1 }));
        Assert.Throws<ArgumentException>(() => ClickLog.Generate(10, 0, new ClickLogOptions { Interactions = [new(["device", "device"], 1)] }));
        Assert.Throws<ArgumentException>(() => ClickLog.Generate(10, 0, new ClickLogOptions { Fields = [new("a", 1)], Interactions = [] }));
    }
}
