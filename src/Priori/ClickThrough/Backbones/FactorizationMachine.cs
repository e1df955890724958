namespace Priori.ClickThrough;

/// <summary>
/// Factorization machine (Rendle, ICDM 2010, eq. 1): the dot products of all pairs of field embeddings in linear time, and with
/// <see cref="BackboneOptions.FirstOrder"/> a bias and first-order weights. Each output has embeddings of its own.
/// </summary>
public sealed class FactorizationMachine : Backbone
{
    private readonly TorchSharp.Modules.Parameter? bias;
    private readonly long width;

    /// <summary>Creates the model; it takes outputs * dim numbers of each field, and one more for each output with first-order weights.</summary>
    /// <param name="options">Fields, embedding width, outputs, first order.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1.</exception>
    public FactorizationMachine(BackboneOptions options) : base(nameof(FactorizationMachine), options, Width(options))
    {
        width = Options.Outputs * Options.EmbeddingDim;
        if (Options.FirstOrder) bias = Parameter(zeros(Options.Outputs));
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e)
    {
        if (bias is null) return PairwiseProducts(e, Options.Outputs);
        return PairwiseProducts(e.narrow(2, 0, width), Options.Outputs) + e.narrow(2, width, Options.Outputs).sum(1) + bias;
    }

    internal static long Width(BackboneOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.Outputs * (options.EmbeddingDim + (options.FirstOrder ? 1 : 0));
    }
}
