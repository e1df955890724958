namespace Priori.ClickThrough;

/// <summary>
/// The "+" of ARM-Net+ and AFN+: a linear layer over the logits of an interaction model and of a <see cref="Dnn"/> with embeddings of its own,
/// trained jointly. It starts as their mean: weights 0.5, bias 0.
/// </summary>
internal sealed class DeepEnsemble : Module<Tensor, Tensor, Tensor>
{
    private readonly Dnn deep;
    private readonly TorchSharp.Modules.Linear combine;

    internal DeepEnsemble(BackboneOptions options) : base(nameof(DeepEnsemble))
    {
        deep = new Dnn(options);
        combine = Linear(2 * options.Outputs, options.Outputs);
        using (no_grad())
        {
            using Tensor half = eye(options.Outputs) / 2;
            combine.weight!.copy_(cat([half, half], 1));
            combine.bias!.zero_();
        }
        RegisterComponents();
    }

    /// <summary>Logits [batch, outputs] of the other model's logits [batch, outputs] and the deep part's embeddings [batch, fields, dim].</summary>
    public override Tensor forward(Tensor input1, Tensor input2) => combine.forward(cat([input1, deep.forward(input2)], 1));
}
