namespace Priori.Nn;

/// <summary>
/// A linear classifier that grows: each expansion adds rows for new classes, freshly initialised (PyTorch's default), and leaves the rows there are alone, to the bit.
/// The rows of one expansion are one Linear named by its number, so <c>0.weight</c> [first classes, features] and <c>0.bias</c>, then <c>1.weight</c>, ...
/// </summary>
public sealed class ExpandingHead : Module<Tensor, Tensor>
{
    private readonly List<TorchSharp.Modules.Linear> _blocks = [];
    private readonly bool _bias;

    /// <summary>A head without classes.</summary>
    /// <param name="features">Width of the features, at least 1.</param>
    /// <param name="bias">Whether classes have a bias.</param>
    public ExpandingHead(long features, bool bias = true) : base(nameof(ExpandingHead))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(features, 1);
        Features = features;
        _bias = bias;
    }

    /// <summary>Width of the features.</summary>
    public long Features { get; }

    /// <summary>Number of classes (rows), 0 before the first expansion.</summary>
    public long Classes => Blocks.Sum();

    /// <summary>Classes of each expansion.</summary>
    public IReadOnlyList<long> Blocks => [.. _blocks.Select(b => b.weight!.shape[0])];

    /// <summary>Adds rows for new classes after those there are, on their device. An optimizer made before does not know them.</summary>
    /// <param name="classes">Number of new classes, at least 1.</param>
    public void Expand(long classes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(classes, 1);
        TorchSharp.Modules.Linear block = nn.Linear(Features, classes, _bias);
        if (_blocks.Count > 0) block.to(_blocks[0].weight!.device);
        foreach (TorchSharp.Modules.Parameter parameter in block.parameters()) parameter.DetachFromDisposeScope();
        register_module($"{_blocks.Count}", block);
        _blocks.Add(block);
    }

    /// <summary>Logits [batch, classes] of features [batch, features].</summary>
    /// <exception cref="InvalidOperationException">The head has no classes yet.</exception>
    public override Tensor forward(Tensor input) => _blocks.Count switch
    {
        0 => throw new InvalidOperationException("The head has no classes yet: expand it first."),
        1 => _blocks[0].call(input),
        _ => cat([.. _blocks.Select(b => b.call(input))], -1),
    };

    /// <summary>Copies of all rows as the tensors of one Linear: weight [classes, features] and bias [classes], null without one.</summary>
    public (Tensor Weight, Tensor? Bias) Merged()
    {
        using var ungraphed = no_grad();
        return (cat([.. _blocks.Select(b => b.weight!)], 0), _bias ? cat([.. _blocks.Select(b => b.bias!)], 0) : null);
    }

    /// <summary>Checks that labels are rows of this head.</summary>
    /// <param name="labels">Labels, int64 [n].</param>
    /// <exception cref="ArgumentException">A label is negative or not below <see cref="Classes"/>: the head is smaller than the class id.</exception>
    public void Check(Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(labels);
        if (labels.numel() == 0) return;
        (long low, long high) = (labels.min().ToInt64(), labels.max().ToInt64());
        if (low < 0 || high >= Classes) throw new ArgumentException($"Class {(low < 0 ? low : high)} has no row in a head of {Classes} classes.", nameof(labels));
    }
}
