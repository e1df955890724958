using System.IO.Hashing;
using Priori.Data;

namespace Priori.Tests.Data;

public sealed class GlyphDigitsTests
{
    [Fact]
    public void A_seed_names_the_same_bytes_on_every_machine()
    {
        ImageDataset data = GlyphDigits.Generate(200, seed: 7);
        Assert.Equal("ac4a991c7df7ead4", Convert.ToHexStringLower(XxHash64.Hash(data.Images.data<byte>().ToArray())));
    }

    [Fact]
    public void The_first_images_do_not_depend_on_the_count()
    {
        ImageDataset few = GlyphDigits.Generate(37, seed: 3), many = GlyphDigits.Generate(120, seed: 3);
        Assert.True(few.Images.Equals(many.Images[..37]));
        Assert.True(few.Labels.Equals(many.Labels[..37]));
        Assert.False(few.Images.Equals(GlyphDigits.Generate(37, seed: 4).Images));
    }

    [Fact]
    public void Labels_are_balanced_and_images_are_of_the_stated_kind()
    {
        ImageDataset data = GlyphDigits.Generate(500, seed: 1, size: 20);
        Assert.Equal([500, 1, 20, 20], data.Images.shape);
        Assert.Equal(ScalarType.Byte, data.Images.dtype);
        Assert.Equal(Enumerable.Repeat(50L, 10), data.Labels.bincount(null).data<long>().ToArray());
        Assert.Equal("3", data.Classes[3]);
    }

    [Fact]
    public void Ink_stays_inside_the_image_and_no_image_is_empty()
    {
        Tensor images = GlyphDigits.Generate(2000, seed: 5).Images.to(ScalarType.Float32);
        Tensor ink = (images > 100).to(ScalarType.Float32);
        Assert.InRange(ink.sum([1, 2, 3]).min().item<float>(), 15, 200);
        Tensor border = ink.sum() - ink[.., .., 1..27, 1..27].sum();
        Assert.InRange((border / ink.sum()).item<float>(), 0, 0.01);
    }

    [Fact]
    public void A_small_network_learns_the_digits_and_does_not_find_them_trivial()
    {
        torch.manual_seed(0);
        ImageDataset train = GlyphDigits.Generate(5000, seed: 0), test = GlyphDigits.Generate(2000, seed: 1);
        Tensor x = train.Images.to(ScalarType.Float32).reshape(-1, 784) / 255, xTest = test.Images.to(ScalarType.Float32).reshape(-1, 784) / 255;
        using Module<Tensor, Tensor> model = Sequential(Linear(784, 128), ReLU(), Linear(128, 10));
        using torch.optim.Optimizer optimizer = torch.optim.Adam(model.parameters(), lr: 2e-3);
        for (int epoch = 0; epoch < 8; epoch++)
        {
            foreach (Tensor rows in torch.randperm(5000).split(100))
            {
                using DisposeScope scope = torch.NewDisposeScope();
                optimizer.zero_grad();
                functional.cross_entropy(model.call(x[rows]), train.Labels[rows]).backward();
                optimizer.step();
            }
        }
        float Accuracy(Tensor input, Tensor labels) => (model.call(input).argmax(1) == labels).to(ScalarType.Float32).mean().item<float>();
        float accuracy = Accuracy(xTest, test.Labels);
        TestContext.Current.TestOutputHelper?.WriteLine($"train {Accuracy(x, train.Labels):P2}, test {accuracy:P2}");
        Assert.InRange(accuracy, 0.92f, 0.985f);
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => GlyphDigits.Generate(0, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => GlyphDigits.Generate(10, 0, size: 4));
    }
}
