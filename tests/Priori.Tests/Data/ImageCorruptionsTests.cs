using Priori.Data;

namespace Priori.Tests.Data;

public class ImageCorruptionsTests
{
    private static readonly Tensor Digits = GlyphDigits.Generate(20, 1).Images.to(float32) / 255;

    [Fact]
    public void Every_corruption_repeats_with_its_seed_stays_in_range_and_changes_the_images()
    {
        foreach (ImageCorruption corruption in ImageCorruptions.All)
        {
            using Tensor first = ImageCorruptions.Apply(Digits, corruption, 5), again = ImageCorruptions.Apply(Digits, corruption, 5), other = ImageCorruptions.Apply(Digits, corruption, 6);
            Assert.Equal(Digits.shape, first.shape);
            Assert.True(first.equal(again).all().item<bool>(), $"{corruption}");
            Assert.True(first.ge(0).logical_and(first.le(1)).all().item<bool>(), $"{corruption}");
            double change = (first - Digits).abs().mean().item<float>();
            Assert.True(corruption == ImageCorruption.Identity ? change == 0 : change > .005, $"{corruption} changes {change}");
            bool random = corruption is ImageCorruption.GaussianNoise or ImageCorruption.ImpulseNoise or ImageCorruption.DottedLine;
            Assert.Equal(!random, first.equal(other).all().item<bool>());
        }
        Assert.Equal(12, ImageCorruptions.All.Count);
    }

    [Fact]
    public void Moves_go_where_they_say()
    {
        using Tensor image = zeros(1, 1, 28, 28);
        image[0, 0, 4, 20] = 1; // upper right: 6.5 to the right and 9.5 up of the centre (13.5, 13.5)
        (int, int) Peak(ImageCorruption corruption, double strength)
        {
            long at = ImageCorruptions.Apply(image, corruption, strength: strength).argmax().item<long>();
            return ((int)at / 28, (int)at % 28);
        }
        Assert.Equal((8, 24), Peak(ImageCorruption.Translate, 4));
        Assert.Equal((7, 4), Peak(ImageCorruption.Rotate, 90)); // anticlockwise: 9.5 to the left, 6.5 up
        Assert.Equal((4, 20), Peak(ImageCorruption.Rotate, 0));
        Assert.Equal((4, 24), Peak(ImageCorruption.Shear, .4)); // 9.5 rows above the centre: 3.8 to the right
        using Tensor shrunk = ImageCorruptions.Apply(ones(1, 1, 28, 28), ImageCorruption.Scale, strength: .5);
        Assert.Equal(14 * 14, shrunk.sum().item<float>(), 1f);
        using Tensor wide = ImageCorruptions.Apply(zeros(1, 1, 10, 30), ImageCorruption.Rotate, strength: 90);
        Assert.Equal([1L, 1, 10, 30], wide.shape);
    }

    [Fact]
    public void Simple_corruptions_have_closed_forms()
    {
        Assert.True(ImageCorruptions.Apply(Digits, ImageCorruption.Invert).allclose(1 - Digits));
        Assert.True(ImageCorruptions.Apply(Digits, ImageCorruption.Brightness).allclose((Digits + .3).clamp(0, 1)));
        using Tensor stripe = ImageCorruptions.Apply(Digits, ImageCorruption.Stripe);
        Assert.True(stripe.narrow(3, 0, 9).equal(Digits.narrow(3, 0, 9)).all().item<bool>());
        Assert.True(stripe.narrow(3, 9, 10).allclose(1 - Digits.narrow(3, 9, 10)));
        using Tensor impulse = ImageCorruptions.Apply(full([50, 1, 28, 28], .5), ImageCorruption.ImpulseNoise);
        Assert.Equal(.1, impulse.ne(.5).to(float32).mean().item<float>(), .01);
        using Tensor noise = ImageCorruptions.Apply(full([50, 1, 28, 28], .5), ImageCorruption.GaussianNoise, strength: .1);
        Assert.Equal(.1, noise.std().item<float>(), .005);
        using Tensor point = zeros(1, 1, 9, 9);
        point[0, 0, 4, 4] = 1;
        Assert.Equal(3.0 / 81, ImageCorruptions.Apply(point, ImageCorruption.Blur)[0, 0, 4, 4].item<float>() / 3, 1e-6); // 9 paths of two steps of 1/9 lead back
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Assert.Throws<ArgumentException>(() => ImageCorruptions.Apply(Digits.squeeze(1), ImageCorruption.Blur));
        Assert.Throws<ArgumentOutOfRangeException>(() => ImageCorruptions.Apply(Digits, ImageCorruption.Scale, strength: 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => ImageCorruptions.Apply(Digits, ImageCorruption.ImpulseNoise, strength: 2));
    }
}
