using Priori.Continual;
using Priori.Data;
using Priori.Runtime;

namespace Priori.Recipes.Continual;

/// <summary>
/// One-vs-rest tasks on corrupted digits, as on MNIST-C: task (corruption, digit) asks for images of that corruption whether they show that digit, -1 or 1.
/// The target is one of them, the sources are all tasks of the other corruptions. Each corruption has training images of its own; the target's labelled and test images are apart.
/// </summary>
internal sealed class CorruptedDigits
{
    /// <summary>The targets in the order of use.</summary>
    public static readonly (ImageCorruption Corruption, int Digit)[] Targets =
        [(ImageCorruption.GaussianNoise, 3), (ImageCorruption.Rotate, 5), (ImageCorruption.Stripe, 8), (ImageCorruption.Scale, 2)];

    private readonly Dictionary<ImageCorruption, (Tensor Inputs, Tensor Digits)> _train = [];
    private readonly Digits _digits;
    private readonly ActiveMultitaskRecipeOptions _options;
    private readonly int _seed;

    public CorruptedDigits(Digits digits, ActiveMultitaskRecipeOptions options, int seed) => (_digits, _options, _seed) = (digits, options, seed);

    /// <summary>Training images that all corruptions together and a target need.</summary>
    public static int TrainImages(ActiveMultitaskRecipeOptions options) => (ImageCorruptions.All.Count * options.DigitPool) + options.DigitTargetLabels;

    /// <summary>Name of source m of a target.</summary>
    public static (ImageCorruption Corruption, int Digit) Source(ImageCorruption target, int m) => (ImageCorruptions.All.Where(c => c != target).ElementAt(m / 10), m % 10);

    /// <summary>Number of sources of a target.</summary>
    public static int Sources => (ImageCorruptions.All.Count - 1) * 10;

    /// <summary>Pools of the sources, the target's labelled rows, and its test rows.</summary>
    public (TaskBatch[] Sources, TaskBatch Target, TaskBatch Test) Task(ImageCorruption corruption, int digit)
    {
        int pool = _options.DigitPool, labels = _options.DigitTargetLabels;
        TaskBatch[] sources = [.. Enumerable.Range(0, Sources).Select(m =>
        {
            (ImageCorruption other, int own) = Source(corruption, m);
            if (!_train.TryGetValue(other, out var images))
            {
                int index = ImageCorruptions.All.ToList().IndexOf(other);
                _train[other] = images = Prepare(_digits.TrainPart(index * pool, pool), other, index);
            }
            return OneVsRest(images.Inputs, images.Digits, own);
        })];
        var target = Prepare(_digits.TrainPart(ImageCorruptions.All.Count * pool, labels), corruption, 100);
        var test = Prepare(_digits.TestPart(0, _options.DigitTest), corruption, 101);
        return (sources, OneVsRest(target.Inputs, target.Digits, digit), OneVsRest(test.Inputs, test.Digits, digit));
    }

    private (Tensor Inputs, Tensor Digits) Prepare((Tensor Images, Tensor Labels) part, ImageCorruption corruption, int stream)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor images = ImageCorruptions.Apply(part.Images, corruption, Seeds.Derive(_seed, 0x4344, stream));
        if (_options.DigitModel == "mlp") images = functional.avg_pool2d(images, 2);
        return (images.MoveToOuterDisposeScope(), part.Labels);
    }

    private static TaskBatch OneVsRest(Tensor inputs, Tensor digits, int digit) => new(inputs, (digits.eq(digit).to(float32) * 2) - 1);
}
