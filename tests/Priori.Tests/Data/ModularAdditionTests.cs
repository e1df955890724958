using Priori.Data;

namespace Priori.Tests.Data;

public class ModularAdditionTests
{
    [Fact]
    public void Every_pair_occurs_once_with_its_sum()
    {
        ModularAddition task = ModularAddition.Generate(7, .3, seed: 2);
        Assert.Equal([15L, 2], task.TrainPairs.shape);
        Tensor pairs = cat([task.TrainPairs, task.TestPairs]), sums = cat([task.TrainSums, task.TestSums]);
        Assert.Equal(49, (pairs.select(1, 0) * 7 + pairs.select(1, 1)).unique().output.shape[0]);
        Assert.True(pairs.sum(1).remainder(7).eq(sums).all().ToBoolean());
        Tensor hot = task.OneHot(pairs);
        Assert.Equal([49L, 14], hot.shape);
        Assert.True(hot.sum(1).eq(2).all().ToBoolean());
        Assert.Equal(task.TrainSums.data<long>().ToArray(), ModularAddition.Generate(7, .3, seed: 2).TrainSums.data<long>().ToArray());
        Assert.Throws<ArgumentException>(() => ModularAddition.Generate(3, 1, 0));
    }
}
