using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>Inner product-based neural network (Qu et al., ICDM 2016, section III-B): an MLP over the embeddings and all m (m - 1) / 2 inner products of two of them.</summary>
public sealed class Ipnn : Backbone
{
    private readonly Mlp mlp;
    private readonly Tensor pairs;

    /// <summary>Creates the model.</summary>
    /// <param name="options">At least two fields, embedding width, MLP, outputs.</param>
    /// <exception cref="ArgumentOutOfRangeException">There are fewer than two fields, a size is less than 1 or the dropout probability is outside its range.</exception>
    public Ipnn(BackboneOptions options) : base(nameof(Ipnn), options, options?.EmbeddingDim ?? 0)
    {
        long m = Options.Fields;
        ArgumentOutOfRangeException.ThrowIfLessThan(m, 2, nameof(options));
        // Places of the pairs i < j in the flattened m x m matrix, row by row.
        pairs = tensor([.. Enumerable.Range(0, (int)m).SelectMany(i => Enumerable.Range(i + 1, (int)m - i - 1).Select(j => i * m + j))], ScalarType.Int64);
        mlp = Tower(m * Options.EmbeddingDim + pairs.size(0), Options.Outputs);
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e)
        => mlp.forward(cat([e.flatten(1), e.bmm(e.transpose(1, 2)).flatten(1).index_select(1, pairs)], 1));
}
