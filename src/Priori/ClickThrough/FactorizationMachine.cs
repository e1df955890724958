using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>
/// Factorization machine (Rendle, ICDM 2010, eq. 1): logistic regression plus the dot products of all pairs of field embeddings,
/// computed in linear time as ((sum_j e_j)^2 - sum_j e_j^2) / 2 (lemma 3.1).
/// </summary>
public sealed class FactorizationMachine : Module<Tensor, Tensor, Tensor>
{
    private readonly LogisticRegression linear;
    private readonly FieldEmbedding embedding;
    private readonly long outputs;

    /// <summary>Creates the model.</summary>
    /// <param name="fields">Fields of a row.</param>
    /// <param name="ids">Number of ids over all fields.</param>
    /// <param name="embeddingDim">Width of an embedding.</param>
    /// <param name="outputs">Logits of a row; each output has embeddings of its own.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is less than 1.</exception>
    public FactorizationMachine(long fields, long ids, long embeddingDim = 10, long outputs = 1) : base(nameof(FactorizationMachine))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(embeddingDim, 1);
        this.outputs = outputs;
        linear = new LogisticRegression(fields, ids, outputs);
        embedding = new FieldEmbedding(fields, ids, outputs * embeddingDim);
        RegisterComponents();
    }

    /// <summary>Logits [batch, outputs] of ids, int64 [batch, fields], and values [batch, fields].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields].</param>
    /// <exception cref="ArgumentException">As <see cref="FieldEmbedding.forward"/>.</exception>
    public override Tensor forward(Tensor input1, Tensor input2)
    {
        Tensor e = embedding.forward(input1, input2);
        Tensor pairs = (e.sum(1).square() - e.square().sum(1)) / 2;
        return linear.forward(input1, input2) + pairs.view(pairs.size(0), outputs, -1).sum(-1);
    }
}
