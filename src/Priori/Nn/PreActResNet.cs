namespace Priori.Nn;

/// <summary>
/// Pre-activation residual network for 32 x 32 images (He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016) with basic blocks:
/// 3x3 stem, batch norm, ReLU, four stages that double the width and halve the size, global average pooling, one linear layer.
/// Stem normalisation and the absence of a final one follow the code of the noisy-label literature (Li et al., ICLR 2020; Liu et al., NeurIPS 2020).
/// </summary>
public sealed class PreActResNet : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> stem;
    private readonly Module<Tensor, Tensor> stages;
    private readonly Module<Tensor, Tensor> classifier;

    /// <summary>Creates the network with PyTorch's default initialisation.</summary>
    /// <param name="classes">Number of outputs.</param>
    /// <param name="blocks">Blocks of each stage; the default [2, 2, 2, 2] is PreActResNet-18, [3, 4, 6, 3] PreActResNet-34.</param>
    /// <param name="channels">Channels of the images.</param>
    /// <param name="width">Width of the first stage; doubled by each later one.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number is less than 1.</exception>
    public PreActResNet(long classes, IReadOnlyList<int>? blocks = null, long channels = 3, long width = 64) : base(nameof(PreActResNet))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(classes, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(channels, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        blocks ??= [2, 2, 2, 2];
        stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding: 1, bias: false), nn.BatchNorm2d(width), nn.ReLU());
        List<Module<Tensor, Tensor>> parts = [];
        long inputs = width;
        for (int stage = 0; stage < blocks.Count; stage++)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(blocks[stage], 1, nameof(blocks));
            long outputs = width << stage;
            for (int block = 0; block < blocks[stage]; block++, inputs = outputs)
                parts.Add(new Block(inputs, outputs, stride: stage > 0 && block == 0 ? 2 : 1));
        }
        stages = nn.Sequential(parts);
        classifier = nn.Linear(inputs, classes);
        RegisterComponents();
    }

    /// <summary>Logits [batch, classes] of images [batch, channels, height, width].</summary>
    public override Tensor forward(Tensor input) => classifier.forward(stages.forward(stem.forward(input)).mean([2, 3]));

    private sealed class Block : Module<Tensor, Tensor>
    {
        private readonly Module<Tensor, Tensor> norm1, conv1, norm2, conv2;
        private readonly Module<Tensor, Tensor>? shortcut;

        public Block(long inputs, long outputs, long stride) : base(nameof(Block))
        {
            norm1 = nn.BatchNorm2d(inputs);
            conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding: 1, bias: false);
            norm2 = nn.BatchNorm2d(outputs);
            conv2 = nn.Conv2d(outputs, outputs, 3, padding: 1, bias: false);
            if (stride != 1 || inputs != outputs) shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias: false);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            Tensor active = functional.relu(norm1.forward(input));
            Tensor skip = shortcut is null ? input : shortcut.forward(active);
            return conv2.forward(functional.relu(norm2.forward(conv1.forward(active)))) + skip;
        }
    }
}
