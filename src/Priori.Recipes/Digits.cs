using Priori.Data;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes;

/// <summary>The default images of many recipes: MNIST where it is in the data folder, generated glyph digits otherwise.</summary>
internal sealed record Digits(ImageDataset Train, ImageDataset Test, bool Real)
{
    /// <summary>Loads at least so many images of each part, and says so in the result.</summary>
    public static Digits Load(RunContext context, int train, int test)
    {
        if (context.DataFolder.Find("mnist") is { } folder)
        {
            (ImageDataset first, ImageDataset second) = Mnist.Read(folder);
            if (train > first.Images.shape[0] || test > second.Images.shape[0])
                throw new BadInputException($"MNIST has {first.Images.shape[0]} training and {second.Images.shape[0]} test images; options ask for {train} and {test}.");
            context.UsedData($"MNIST (IDX files), {train} training and {test} test images");
            return new Digits(first, second, Real: true);
        }
        context.UsedData($"glyph digits (generated), {train} training and {test} test images");
        return new Digits(GlyphDigits.Generate(train, seed: 1), GlyphDigits.Generate(test, seed: 2), Real: false);
    }

    /// <summary>Training images float32 [count, 1, 28, 28] in 0..1 and labels int64 [count], from a first row on.</summary>
    public (Tensor Images, Tensor Labels) TrainPart(int first, int count) => Part(Train, first, count);

    /// <summary>Test images and labels, as <see cref="TrainPart"/>.</summary>
    public (Tensor Images, Tensor Labels) TestPart(int first, int count) => Part(Test, first, count);

    private static (Tensor Images, Tensor Labels) Part(ImageDataset part, int first, int count)
    {
        using Tensor bytes = part.Images.narrow(0, first, count);
        return (bytes.to(float32).div_(255), part.Labels.narrow(0, first, count));
    }
}
