using Priori.Nn;

namespace Priori.Continual;

/// <summary>A feature extractor with a growing linear classifier. Parameters are named <c>backbone.*</c> and <c>head.N.*</c>, N the expansion (task) that added the rows.</summary>
public sealed class ContinualModel : Module<Tensor, Tensor>
{
    /// <summary>Joins a backbone and a head that has no classes yet.</summary>
    /// <param name="backbone">Inputs [batch, ...] to features [batch, <paramref name="featureDim"/>]; it becomes this module's.</param>
    /// <param name="featureDim">Width of the features.</param>
    public ContinualModel(Module<Tensor, Tensor> backbone, long featureDim) : base(nameof(ContinualModel))
    {
        ArgumentNullException.ThrowIfNull(backbone);
        Backbone = backbone;
        Head = new ExpandingHead(featureDim);
        register_module("backbone", Backbone);
        register_module("head", Head);
    }

    /// <summary>The feature extractor.</summary>
    public Module<Tensor, Tensor> Backbone { get; }

    /// <summary>The classifier.</summary>
    public ExpandingHead Head { get; }

    /// <summary>Logits [batch, classes seen] of inputs [batch, ...].</summary>
    public override Tensor forward(Tensor input) => Head.call(Backbone.call(input));

    /// <summary>Becomes a copy of another model of the same architecture: expands the head to its size and takes all tensors.</summary>
    internal void CopyFrom(ContinualModel other)
    {
        foreach (long block in other.Head.Blocks.Skip(Head.Blocks.Count)) Head.Expand(block);
        using var ungraphed = no_grad();
        Dictionary<string, Tensor> mine = state_dict();
        foreach ((string name, Tensor tensor) in other.state_dict()) mine[name].copy_(tensor);
    }
}
