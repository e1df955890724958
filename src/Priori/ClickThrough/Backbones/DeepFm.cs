using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>DeepFM (Guo et al., IJCAI 2017): a <see cref="FactorizationMachine"/> and an MLP over the same embeddings; their logits are added.</summary>
public sealed class DeepFm : Backbone
{
    private readonly FactorizationMachine fm;
    private readonly Mlp mlp;
    private readonly long width;

    /// <summary>Creates the model; it takes of each field what <see cref="FactorizationMachine"/> takes.</summary>
    /// <param name="options">Fields, embedding width, MLP, outputs, first order.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1 or the dropout probability is outside its range.</exception>
    public DeepFm(BackboneOptions options) : base(nameof(DeepFm), options, FactorizationMachine.Width(options))
    {
        width = Options.Outputs * Options.EmbeddingDim;
        fm = new FactorizationMachine(Options);
        mlp = Tower(Options.Fields * width, Options.Outputs);
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e) => fm.forward(e) + mlp.forward(e.narrow(2, 0, width));
}
