using Priori.Data;

namespace Priori.Tests.Data;

public class BinaryVectorsTests
{
    [Fact]
    public void All_vectors_occur_once_and_the_label_is_balanced()
    {
        (Tensor x, Tensor y) = BinaryVectors.Generate();
        Assert.Equal([4096, 12], x.shape);
        Assert.Equal(4096, x.unique(dim: 0).output.shape[0]);
        Assert.Equal(2048, y.sum().item<long>());
    }

    [Fact]
    public void A_seed_names_the_data_and_the_label_is_not_linear()
    {
        Tensor y = BinaryVectors.Generate(8, 3).Labels;
        Assert.True(y.eq(BinaryVectors.Generate(8, 3).Labels).all().item<bool>());
        Assert.False(y.eq(BinaryVectors.Generate(8, 4).Labels).all().item<bool>());
        // A linear rule gives x and its complement opposite labels; the quadratic term breaks that for some.
        Assert.InRange(y.eq(y.flip(0)).sum().item<long>(), 20, 236);
        Assert.Throws<ArgumentOutOfRangeException>(() => BinaryVectors.Generate(0));
    }
}
