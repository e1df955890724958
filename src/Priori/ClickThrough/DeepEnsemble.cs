namespace Priori.ClickThrough;

/// <summary>
/// The "+" of ARM-Net+ and AFN+: a linear layer over the logits of an interaction model and of a <see cref="Dnn"/> with its own embedding table,
/// trained jointly. It starts as their mean: weights 0.5, bias 0.
/// </summary>
internal sealed class DeepEnsemble : Module<Tensor, Tensor, Tensor, Tensor>
{
    private readonly Dnn deep;
    private readonly TorchSharp.Modules.Linear combine;

    internal DeepEnsemble(Dnn deep, long outputs) : base(nameof(DeepEnsemble))
    {
        this.deep = deep;
        combine = Linear(2 * outputs, outputs);
        using (no_grad())
        {
            using Tensor half = eye(outputs) / 2;
            combine.weight!.copy_(cat([half, half], 1));
            combine.bias!.zero_();
        }
        RegisterComponents();
    }

    /// <summary>Logits [batch, outputs] of the other model's logits [batch, outputs], ids and values [batch, fields].</summary>
    public override Tensor forward(Tensor input1, Tensor input2, Tensor input3) => combine.forward(cat([input1, deep.forward(input2, input3)], 1));
}
