using Priori.Training;

namespace Priori.Tests.Training;

public sealed class LabelNoiseTests
{
    private static readonly Tensor s_labels = arange(1000, ScalarType.Int64).remainder(10);

    [Fact]
    public void Symmetric_noise_with_self_redraws_the_exact_share()
    {
        double mean = Enumerable.Range(0, 20).Average(seed => LabelNoise.Symmetric(s_labels, .4, 10, seed).ne(s_labels).sum().ToInt64());
        Assert.InRange(mean, 355, 365);
        Assert.InRange(LabelNoise.Symmetric(s_labels, .4, 10, 0).ne(s_labels).sum().ToInt64(), 340, 380);
    }

    [Fact]
    public void Symmetric_noise_without_self_changes_the_exact_share_to_every_other_class()
    {
        Tensor noisy = LabelNoise.Symmetric(s_labels, .4, 10, 1, includeSelf: false);
        Assert.Equal(400, noisy.ne(s_labels).sum().ToInt64());
        Assert.Equal(10, noisy.masked_select(noisy.ne(s_labels)).unique().output.shape[0]);
        Assert.InRange((noisy - s_labels).remainder(10).masked_select(noisy.ne(s_labels)).bincount(null, 10)[5].ToInt64(), 20, 70);
    }

    [Fact]
    public void A_seed_names_one_corruption()
    {
        Assert.True(LabelNoise.Symmetric(s_labels, .4, 10, 3).Equals(LabelNoise.Symmetric(s_labels, .4, 10, 3)));
        Assert.False(LabelNoise.Symmetric(s_labels, .4, 10, 3).Equals(LabelNoise.Symmetric(s_labels, .4, 10, 4)));
        Assert.True(LabelNoise.Symmetric(s_labels, 0, 10, 3).Equals(s_labels));
    }

    [Fact]
    public void Asymmetric_noise_moves_the_exact_share_of_each_mapped_class_of_the_true_labels()
    {
        Tensor noisy = LabelNoise.Asymmetric(s_labels, .4, LabelNoise.Cifar10Map, 10, 1);
        for (int c = 0; c < 10; c++)
        {
            Tensor now = noisy.masked_select(s_labels.eq(c));
            bool mapped = LabelNoise.Cifar10Map.TryGetValue(c, out int target);
            Assert.Equal(mapped ? 60 : 100, now.eq(c).sum().ToInt64());
            if (mapped) Assert.Equal(40, now.eq(target).sum().ToInt64());
        }
    }

    [Fact]
    public void Pair_flip_moves_each_class_to_the_next()
    {
        Tensor noisy = LabelNoise.PairFlip(s_labels, .45, 10, 1);
        Assert.Equal(450, noisy.ne(s_labels).sum().ToInt64());
        Assert.Equal(450, (noisy - s_labels).remainder(10).eq(1).sum().ToInt64());
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => LabelNoise.Symmetric(s_labels, 1.5, 10, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => LabelNoise.Symmetric(s_labels, double.NaN, 10, 0));
        Assert.Contains("Label 5 of row 5 is outside 0..4", Assert.Throws<ArgumentException>(() => LabelNoise.Symmetric(s_labels, .4, 5, 0)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => LabelNoise.Symmetric(s_labels.to(ScalarType.Int32), .4, 10, 0));
        Assert.Throws<ArgumentException>(() => LabelNoise.Asymmetric(s_labels, .4, new Dictionary<int, int> { [0] = 10 }, 10, 0));
    }
}
