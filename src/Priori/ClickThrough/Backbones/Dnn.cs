using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>The deep baseline (FNN): field embeddings, concatenated, and an MLP.</summary>
public sealed class Dnn : Backbone
{
    private readonly Mlp mlp;

    /// <summary>Creates the model.</summary>
    /// <param name="options">Fields, embedding width, MLP, outputs.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1 or the dropout probability is outside its range.</exception>
    public Dnn(BackboneOptions options) : base(nameof(Dnn), options, options?.EmbeddingDim ?? 0)
    {
        mlp = Tower(Options.Fields * Options.EmbeddingDim, Options.Outputs);
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e) => mlp.forward(e);
}
