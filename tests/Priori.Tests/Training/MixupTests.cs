using Priori.Training;

namespace Priori.Tests.Training;

public sealed class MixupTests
{
    [Fact]
    public void One_coefficient_and_one_permutation_mix_every_tensor()
    {
        manual_seed(2);
        Mixup mixup = Mixup.Sample(6, 1);
        Tensor x = randn(6, 2, 3), partner = x.index_select(0, mixup.Permutation);
        Assert.True((mixup.Mix(x) - (mixup.Coefficient * x + (1 - mixup.Coefficient) * partner)).abs().max().ToDouble() < 1e-7);
        Assert.Equal([0L, 1, 2, 3, 4, 5], mixup.Permutation.sort().Values.data<long>());
    }

    [Theory]
    [InlineData(.5)]
    [InlineData(1)]
    [InlineData(2)]
    public void Coefficients_follow_the_beta_distribution(double alpha)
    {
        manual_seed(4);
        double[] draws = [.. Enumerable.Range(0, 4000).Select(_ => Mixup.Sample(1, alpha).Coefficient)];
        Assert.InRange(draws.Average(), .48, .52);
        double variance = draws.Average(d => (d - .5) * (d - .5)), expected = 1 / (4 * (2 * alpha + 1));
        Assert.InRange(variance / expected, .9, 1.1);
        Assert.All(Enumerable.Range(0, 100), _ => Assert.InRange(Mixup.Sample(1, alpha, keepLarger: true).Coefficient, .5, 1));
    }

    [Fact]
    public void Alpha_zero_does_not_mix()
    {
        Tensor x = randn(5, 2);
        Assert.True(Mixup.Sample(5, 0).Mix(x).Equals(x));
        Assert.Throws<ArgumentOutOfRangeException>(() => Mixup.Sample(5, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => Mixup.Sample(0, 1));
    }
}
