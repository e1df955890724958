using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>
/// Adaptive factorization network (Cheng, Shen, Huang, AAAI 2020, eq. 6-8): logarithmic neurons exp(sum_j w_ij log e_j) learn cross features with
/// real powers that are the same for all rows. Embeddings are used positive, as max(|e|, 1e-4). With <see cref="BackboneOptions.Ensemble"/> it is AFN+.
/// </summary>
public sealed class Afn : Backbone
{
    private const double SmallestEmbedding = 1e-4;
    private readonly TorchSharp.Modules.BatchNorm1d logNorm, crossNorm;
    private readonly TorchSharp.Modules.Linear logarithmic;
    private readonly Mlp mlp;
    private readonly DeepEnsemble? ensemble;

    /// <summary>Creates the model; it takes dim numbers of each field, twice as many with the deep part.</summary>
    /// <param name="options">Fields, embedding width, neurons, MLP, ensemble, outputs.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1 or the dropout probability is outside its range.</exception>
    public Afn(BackboneOptions options) : base(nameof(Afn), options, (options?.EmbeddingDim ?? 0) * (options?.Ensemble == true ? 2 : 1))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Options.Neurons, 1, nameof(options));
        logNorm = BatchNorm1d(Options.Fields);
        logarithmic = Linear(Options.Fields, Options.Neurons);
        init.normal_(logarithmic.weight!, 0, 0.1);
        init.zeros_(logarithmic.bias!);
        crossNorm = BatchNorm1d(Options.Neurons);
        mlp = Tower(Options.Neurons * Options.EmbeddingDim, Options.Outputs);
        if (Options.Ensemble) ensemble = new DeepEnsemble(Options);
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e)
    {
        Tensor size = e.narrow(2, 0, Options.EmbeddingDim).abs();
        Tensor lift = size.detach().neg().add_(SmallestEmbedding).clamp_min_(0);                   // no gradient of its own: an embedding can leave 0
        Tensor log = logNorm.forward((size + lift).log());                                        // [batch, fields, dim]
        Tensor cross = logarithmic.forward(log.transpose(1, 2)).clamp_max(ArmNet.LargestExponent).exp();
        Tensor logits = mlp.forward(crossNorm.forward(cross.transpose(1, 2)));                     // [batch, neurons, dim]
        return ensemble is null ? logits : ensemble.forward(logits, e.narrow(2, Options.EmbeddingDim, Options.EmbeddingDim));
    }
}
