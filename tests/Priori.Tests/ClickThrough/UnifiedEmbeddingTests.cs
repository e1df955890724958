using Priori.ClickThrough;

namespace Priori.Tests.ClickThrough;

public class UnifiedEmbeddingTests
{
    [Fact]
    public void Block_cosines_compare_the_columns_of_each_feature()
    {
        // Three features of width 2, two outputs: blocks [[1,0],[0,1]], [[2,0],[0,2]] and [[0,1],[1,0]].
        Tensor weight = tensor(new float[,] { { 1, 0, 2, 0, 0, 1 }, { 0, 1, 0, 2, 1, 0 } });
        Tensor cosines = InterferenceReport.BlockCosines(weight, 2);
        Assert.True(cosines.allclose(tensor(new double[,] { { 1, 1, 0 }, { 1, 1, 0 }, { 0, 0, 1 } })));
        InterferenceReport report = InterferenceReport.Of(weight, 2, tensor(new float[,] { { 3, 4 }, { 0, 1 } }));
        Assert.Equal(1 / 3.0, report.MeanAbsoluteCosine, 12);
        Assert.Equal(13, report.MeanSquaredRowNorm, 12);
        Assert.Throws<ArgumentException>(() => InterferenceReport.BlockCosines(weight, 4));
    }
}
