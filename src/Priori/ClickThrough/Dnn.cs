using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>The deep baseline: field embeddings, concatenated, and an MLP of [Linear, BatchNorm, ReLU, Dropout] layers.</summary>
public sealed class Dnn : Module<Tensor, Tensor, Tensor>
{
    private readonly FieldEmbedding embedding;
    private readonly Mlp mlp;

    /// <summary>Creates the model.</summary>
    /// <param name="fields">Fields of a row.</param>
    /// <param name="ids">Number of ids over all fields.</param>
    /// <param name="embeddingDim">Width of an embedding.</param>
    /// <param name="mlpHidden">Hidden widths; 256, 256 by default.</param>
    /// <param name="dropout">Dropout probability in [0, 1).</param>
    /// <param name="outputs">Logits of a row.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1 or the probability is outside its range.</exception>
    public Dnn(long fields, long ids, long embeddingDim = 10, IReadOnlyList<long>? mlpHidden = null, double dropout = 0, long outputs = 1) : base(nameof(Dnn))
    {
        embedding = new FieldEmbedding(fields, ids, embeddingDim);
        mlp = new Mlp(fields * embeddingDim, mlpHidden ?? [256, 256], outputs, normalization: Normalization.BatchNorm, dropout: dropout);
        RegisterComponents();
    }

    /// <summary>Logits [batch, outputs] of ids, int64 [batch, fields], and values [batch, fields].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields].</param>
    /// <exception cref="ArgumentException">As <see cref="FieldEmbedding.forward"/>.</exception>
    public override Tensor forward(Tensor input1, Tensor input2) => mlp.forward(embedding.forward(input1, input2));
}
