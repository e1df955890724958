using Priori.Data;
using Priori.Numerics;

namespace Priori.Tests.Data;

public class ItemPairsTests
{
    [Fact]
    public void The_catalogue_has_the_planted_correlations_and_a_long_tail()
    {
        ItemPairsData data = ItemPairs.Generate(seed: 3), again = ItemPairs.Generate(seed: 3), other = ItemPairs.Generate(seed: 4);
        Assert.True(data.Pairs.eq(again.Pairs).all().item<bool>() && data.Features.eq(again.Features).all().item<bool>());
        Assert.False(data.Pairs.eq(other.Pairs).all().item<bool>());
        Assert.Equal([2000, 5], data.Features.shape);
        Assert.Equal([8000, 2], data.Pairs.shape);
        Assert.Equal(.85 + .15 / 40, data.Features[.., 0].eq(data.Topics).to(ScalarType.Float64).mean().item<double>(), .025);
        Assert.Equal(.9 + .1 / 15, data.Features[.., 3].eq(data.Features[.., 2].remainder(15)).to(ScalarType.Float64).mean().item<double>(), .025);
        double[,] information = MutualInformation.Matrix(data.Features);
        Assert.True(information[0, 1] > 1.5 && information[2, 3] > 1.5);     // topic and group, brand and maker
        Assert.True(information[0, 2] < .8 && information[4, 0] < .2);      // what is left is the bias of small samples

        Tensor begins = data.Pairs[.., 0].bincount(null, 2000), ends = data.Pairs[.., 1].bincount(null, 2000);
        double head = begins.topk(200).values.sum().item<long>() / 8000.0, expected = data.Popularity.topk(200).values.sum().item<double>();
        Assert.Equal(expected, head, .02);
        Assert.True(ends.eq(0).sum().item<long>() > 200);
        Assert.False(data.Pairs[.., 0].eq(data.Pairs[.., 1]).any().item<bool>());
        // Targets are close to where they came from: far more often of the same topic than 1 in 40.
        Assert.True(data.Topics[data.Pairs[.., 0]].eq(data.Topics[data.Pairs[.., 1]]).to(ScalarType.Float64).mean().item<double>() > .3);
    }

    [Fact]
    public void Tables_name_the_same_items_as_the_tensors()
    {
        ItemPairsData data = ItemPairs.Generate(seed: 0, items: 30, pairs: 20);
        Table items = data.Items(), pairs = data.PairTable();
        Assert.Equal(["item", "topic", "group", "brand", "maker", "colour"], items.Columns);
        Assert.Equal($"brand_{data.Features[7, 2].item<long>()}", items["brand"][7]);
        Assert.Equal($"item_{data.Pairs[19, 1].item<long>()}", pairs["item"][19]);
        Assert.Throws<ArgumentOutOfRangeException>(() => ItemPairs.Generate(0, items: 1));
    }
}
