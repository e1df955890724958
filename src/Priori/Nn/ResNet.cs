namespace Priori.Nn;

/// <summary>The first layers of a residual network.</summary>
public enum ResNetStem
{
    /// <summary>One 3x3 convolution of stride 1, for images of about 32x32 (He et al., section 4.2, as widely used for CIFAR).</summary>
    Cifar,
    /// <summary>A 7x7 convolution of stride 2 and 3x3 max pooling of stride 2 (He et al., table 1).</summary>
    ImageNet,
}

/// <summary>
/// Residual networks (He et al., CVPR 2016, table 1) with the layer names of torchvision, so that its checkpoints load:
/// basic blocks in 18 and 34 layers, bottleneck blocks (stride in the 3x3 convolution) in 50 and 101.
/// </summary>
public static class ResNet
{
    /// <summary>ResNet-18. See <see cref="Describe"/> for the parameters.</summary>
    public static Network ResNet18(long classes, ResNetStem stem = ResNetStem.Cifar, long width = 64, long inputChannels = 3, long? imageSize = null) => Build(18, classes, stem, width, inputChannels, imageSize);

    /// <summary>ResNet-34. See <see cref="Describe"/> for the parameters.</summary>
    public static Network ResNet34(long classes, ResNetStem stem = ResNetStem.Cifar, long width = 64, long inputChannels = 3, long? imageSize = null) => Build(34, classes, stem, width, inputChannels, imageSize);

    /// <summary>ResNet-50. See <see cref="Describe"/> for the parameters.</summary>
    public static Network ResNet50(long classes, ResNetStem stem = ResNetStem.ImageNet, long width = 64, long inputChannels = 3, long? imageSize = null) => Build(50, classes, stem, width, inputChannels, imageSize);

    /// <summary>ResNet-101. See <see cref="Describe"/> for the parameters.</summary>
    public static Network ResNet101(long classes, ResNetStem stem = ResNetStem.ImageNet, long width = 64, long inputChannels = 3, long? imageSize = null) => Build(101, classes, stem, width, inputChannels, imageSize);

    /// <summary>The architecture of a residual network. The layer <c>avgpool</c> holds the features, <c>fc</c> the logits.</summary>
    /// <param name="depth">18, 34, 50 or 101.</param>
    /// <param name="classes">Number of logits.</param>
    /// <param name="stem">The first layers.</param>
    /// <param name="width">Channels of the first stage (the stages have 1, 2, 4 and 8 times as many); 64 in the paper.</param>
    /// <param name="inputChannels">Channels of the image.</param>
    /// <param name="imageSize">Side of the image; default 32 for the CIFAR stem and 224 for ImageNet's. The weights do not depend on it.</param>
    /// <exception cref="ArgumentOutOfRangeException">An unknown depth, or a number below 1.</exception>
    public static Architecture Describe(int depth, long classes, ResNetStem stem, long width = 64, long inputChannels = 3, long? imageSize = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(classes, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(inputChannels, 1);
        int[] blocks = depth switch
        {
            18 => [2, 2, 2, 2],
            34 or 50 => [3, 4, 6, 3],
            101 => [3, 4, 23, 3],
            _ => throw new ArgumentOutOfRangeException(nameof(depth), depth, "The depth must be 18, 34, 50 or 101."),
        };
        bool bottleneck = depth >= 50;
        var layers = new List<Layer>();
        string Convolution(string name, string norm, long channels, long kernel, long stride, string? input = null)
        {
            layers.Add(new Layer(name, LayerKind.Conv2d) { Inputs = input is null ? null : [input], Width = channels, Kernel = kernel, Stride = stride, Padding = kernel / 2, Bias = false });
            layers.Add(new Layer(norm, LayerKind.BatchNorm));
            return norm;
        }
        string Add(Layer layer)
        {
            layers.Add(layer);
            return layer.Name;
        }

        Convolution("conv1", "bn1", width, stem == ResNetStem.Cifar ? 3 : 7, stem == ResNetStem.Cifar ? 1 : 2);
        string stream = Add(new Layer("relu", LayerKind.Relu));
        if (stem == ResNetStem.ImageNet) stream = Add(new Layer("maxpool", LayerKind.MaxPool) { Kernel = 3, Stride = 2, Padding = 1 });
        for (int stage = 1; stage <= 4; stage++)
        {
            long inner = width << (stage - 1), outer = bottleneck ? 4 * inner : inner;
            for (int block = 0; block < blocks[stage - 1]; block++)
            {
                string prefix = $"layer{stage}.{block}";
                long stride = block == 0 && stage > 1 ? 2 : 1;
                Convolution($"{prefix}.conv1", $"{prefix}.bn1", inner, bottleneck ? 1 : 3, bottleneck ? 1 : stride, stream);
                Add(new Layer($"{prefix}.relu1", LayerKind.Relu));
                string residual = Convolution($"{prefix}.conv2", $"{prefix}.bn2", inner, 3, bottleneck ? stride : 1);
                if (bottleneck)
                {
                    Add(new Layer($"{prefix}.relu2", LayerKind.Relu));
                    residual = Convolution($"{prefix}.conv3", $"{prefix}.bn3", outer, 1, 1);
                }
                if (block == 0 && (bottleneck || stage > 1)) stream = Convolution($"{prefix}.downsample.0", $"{prefix}.downsample.1", outer, 1, stride, stream);
                Add(new Layer($"{prefix}.add", LayerKind.Add) { Inputs = [residual, stream] });
                stream = Add(new Layer($"{prefix}.relu", LayerKind.Relu));
            }
        }
        Add(new Layer("avgpool", LayerKind.GlobalAvgPool));
        Add(new Layer("fc", LayerKind.Linear) { Width = classes });
        long size = imageSize ?? (stem == ResNetStem.Cifar ? 32 : 224);
        return new Architecture([inputChannels, size, size], layers);
    }

    private static Network Build(int depth, long classes, ResNetStem stem, long width, long inputChannels, long? imageSize)
    {
        var network = new Network(Describe(depth, classes, stem, width, inputChannels, imageSize));
        foreach (TorchSharp.Modules.Conv2d convolution in network.WeightedLayers.Values.OfType<TorchSharp.Modules.Conv2d>())
            init.kaiming_normal_(convolution.weight, mode: init.FanInOut.FanOut, nonlinearity: init.NonlinearityType.ReLU); // He et al., ICCV 2015
        return network;
    }
}
