namespace Priori.Nn;

/// <summary>Descriptions of common networks.</summary>
public static class Architectures
{
    /// <summary>The multilayer perceptron <see cref="Nn.Mlp"/> (ReLU), with the tensor names of that module.</summary>
    /// <param name="input">Shape of one input, [features] or [channels, height, width]; it is flattened.</param>
    /// <param name="hidden">Hidden widths, in order.</param>
    /// <param name="outputs">Number of logits.</param>
    /// <param name="batchNorm">Whether batch normalisation follows each hidden layer.</param>
    public static Architecture Mlp(IReadOnlyList<long> input, IReadOnlyList<long> hidden, long outputs, bool batchNorm = false)
    {
        ArgumentNullException.ThrowIfNull(hidden);
        List<Layer> layers = [new("layers.0", LayerKind.Flatten)];
        void Add(LayerKind kind, long width = 0) => layers.Add(new Layer($"layers.{layers.Count}", kind) { Width = width });
        foreach (long width in hidden)
        {
            Add(LayerKind.Linear, width);
            if (batchNorm) Add(LayerKind.BatchNorm);
            Add(LayerKind.Relu);
        }
        Add(LayerKind.Linear, outputs);
        return new Architecture(input, layers);
    }

    /// <summary>A plain convolutional network: [3x3 convolution, batch normalisation, ReLU] for each width, every one after the first (or all) with stride 2, then global average pooling and a linear head.</summary>
    /// <param name="input">[channels, height, width].</param>
    /// <param name="widths">Channels of each convolution.</param>
    /// <param name="classes">Number of logits.</param>
    /// <param name="firstStride">Stride of the first convolution.</param>
    public static Architecture ConvNet(IReadOnlyList<long> input, IReadOnlyList<long> widths, long classes, long firstStride = 1)
    {
        ArgumentNullException.ThrowIfNull(widths);
        List<Layer> layers = [];
        for (int i = 0; i < widths.Count; i++)
        {
            layers.Add(new Layer($"conv{i + 1}", LayerKind.Conv2d) { Width = widths[i], Kernel = 3, Padding = 1, Stride = i == 0 ? firstStride : 2, Bias = false });
            layers.Add(new Layer($"bn{i + 1}", LayerKind.BatchNorm));
            layers.Add(new Layer($"relu{i + 1}", LayerKind.Relu));
        }
        layers.Add(new Layer("pool", LayerKind.GlobalAvgPool));
        layers.Add(new Layer("fc", LayerKind.Linear) { Width = classes });
        return new Architecture(input, layers);
    }

    /// <summary>
    /// VGG for images of 32 x 32 (Simonyan, Zisserman, ICLR 2015, table 1, with batch normalisation and one linear layer, as is usual for CIFAR):
    /// 3x3 convolutions in five stages of 1, 2, 4, 8 and 8 times the width, max pooling after each. Tensors are named <c>features.0.weight</c> ... and <c>classifier.weight</c>.
    /// </summary>
    /// <param name="depth">11, 13, 16 or 19.</param>
    /// <param name="classes">Number of logits.</param>
    /// <param name="width">Channels of the first stage; 64 in the paper.</param>
    /// <param name="inputChannels">Channels of the image.</param>
    /// <param name="imageSize">Side of the image, at least 32.</param>
    /// <exception cref="ArgumentOutOfRangeException">An unknown depth.</exception>
    public static Architecture Vgg(int depth, long classes, long width = 64, long inputChannels = 3, long imageSize = 32)
    {
        int[] stages = depth switch
        {
            11 => [1, 1, 2, 2, 2],
            13 => [2, 2, 2, 2, 2],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            _ => throw new ArgumentOutOfRangeException(nameof(depth), depth, "The depth must be 11, 13, 16 or 19."),
        };
        List<Layer> layers = [];
        void Add(LayerKind kind, long channels = 0, long kernel = 1) =>
            layers.Add(new Layer($"features.{layers.Count}", kind) { Width = channels, Kernel = kernel, Padding = kernel / 2 });
        for (int stage = 0; stage < stages.Length; stage++)
        {
            for (int i = 0; i < stages[stage]; i++)
            {
                Add(LayerKind.Conv2d, width << Math.Min(stage, 3), 3);
                Add(LayerKind.BatchNorm);
                Add(LayerKind.Relu);
            }
            layers.Add(new Layer($"features.{layers.Count}", LayerKind.MaxPool) { Kernel = 2, Stride = 2 });
        }
        layers.Add(new Layer("flatten", LayerKind.Flatten));
        layers.Add(new Layer("classifier", LayerKind.Linear) { Width = classes });
        return new Architecture([inputChannels, imageSize, imageSize], layers);
    }

    /// <summary>A pre-norm vision transformer (Dosovitskiy et al., ICLR 2021) with a class token and separate query, key and value projections.</summary>
    /// <param name="channels">Channels of the image.</param>
    /// <param name="imageSize">Side of the image.</param>
    /// <param name="patchSize">Side of a patch; must divide the image.</param>
    /// <param name="width">Width of the token vectors; must be a multiple of the heads.</param>
    /// <param name="depth">Number of blocks.</param>
    /// <param name="heads">Heads of each block.</param>
    /// <param name="mlpWidth">Hidden width of the block's perceptron.</param>
    /// <param name="classes">Number of logits.</param>
    public static Architecture VisionTransformer(long channels, long imageSize, long patchSize, long width, int depth, long heads, long mlpWidth, long classes)
    {
        List<Layer> layers = [];
        string Add(string name, LayerKind kind, long layerWidth = 0, params string[] inputs)
        {
            layers.Add(new Layer(name, kind) { Width = layerWidth, Inputs = inputs.Length == 0 ? null : inputs });
            return name;
        }
        layers.Add(new Layer("patch_embedding", LayerKind.Conv2d) { Width = width, Kernel = patchSize, Stride = patchSize });
        Add("tokens", LayerKind.Tokens);
        Add("class_token", LayerKind.ClassToken);
        string stream = Add("position_embedding", LayerKind.Position);
        for (int i = 0; i < depth; i++)
        {
            string block = $"blocks.{i}", norm = Add($"{block}.norm1", LayerKind.LayerNorm, 0, stream);
            string[] projections = [
                Add($"{block}.attention.query", LayerKind.Linear, width, norm),
                Add($"{block}.attention.key", LayerKind.Linear, width, norm),
                Add($"{block}.attention.value", LayerKind.Linear, width, norm),
            ];
            layers.Add(new Layer($"{block}.attention.heads", LayerKind.Attention) { Inputs = projections, Heads = heads });
            stream = Add($"{block}.add1", LayerKind.Add, 0, Add($"{block}.attention.output", LayerKind.Linear, width), stream);
            Add($"{block}.norm2", LayerKind.LayerNorm);
            Add($"{block}.mlp.linear1", LayerKind.Linear, mlpWidth);
            Add($"{block}.mlp.gelu", LayerKind.Gelu);
            stream = Add($"{block}.add2", LayerKind.Add, 0, Add($"{block}.mlp.linear2", LayerKind.Linear, width), stream);
        }
        Add("norm", LayerKind.LayerNorm);
        Add("features", LayerKind.FirstToken);
        Add("head", LayerKind.Linear, classes);
        return new Architecture([channels, imageSize, imageSize], layers);
    }
}
