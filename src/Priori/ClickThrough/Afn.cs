using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>
/// Adaptive factorization network (Cheng, Shen, Huang, AAAI 2020, eq. 6-8): logarithmic neurons exp(sum_j w_ij log e_j) learn cross features with
/// real powers that are the same for all rows. Embeddings are kept positive, at least 1e-4: the table is replaced by its clamped absolute value
/// at the start of each pass, that is after every optimizer step. With <c>ensemble</c> it is AFN+.
/// </summary>
public sealed class Afn : Module<Tensor, Tensor, Tensor>
{
    private const double SmallestEmbedding = 1e-4;
    private readonly FieldEmbedding embedding;
    private readonly TorchSharp.Modules.BatchNorm1d logNorm, crossNorm;
    private readonly TorchSharp.Modules.Linear logarithmic;
    private readonly Mlp mlp;
    private readonly DeepEnsemble? ensemble;

    /// <summary>Creates the model.</summary>
    /// <param name="fields">Fields of a row.</param>
    /// <param name="ids">Number of ids over all fields.</param>
    /// <param name="embeddingDim">Width of an embedding.</param>
    /// <param name="neurons">Logarithmic neurons.</param>
    /// <param name="mlpHidden">Hidden widths of the head (and of the deep part); 256, 256 by default.</param>
    /// <param name="dropout">Dropout probability in [0, 1).</param>
    /// <param name="ensemble">Whether a <see cref="Dnn"/> with its own table is trained jointly (AFN+).</param>
    /// <param name="outputs">Logits of a row.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1 or the probability is outside its range.</exception>
    public Afn(long fields, long ids, long embeddingDim = 10, long neurons = 128, IReadOnlyList<long>? mlpHidden = null, double dropout = 0, bool ensemble = false, long outputs = 1)
        : base(nameof(Afn))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(neurons, 1);
        mlpHidden ??= [256, 256];
        embedding = new FieldEmbedding(fields, ids, embeddingDim);
        logNorm = BatchNorm1d(fields);
        logarithmic = Linear(fields, neurons);
        init.normal_(logarithmic.weight!, 0, 0.1);
        init.zeros_(logarithmic.bias!);
        crossNorm = BatchNorm1d(neurons);
        mlp = new Mlp(neurons * embeddingDim, mlpHidden, outputs, normalization: Normalization.BatchNorm, dropout: dropout);
        if (ensemble) this.ensemble = new DeepEnsemble(new Dnn(fields, ids, embeddingDim, mlpHidden, dropout, outputs), outputs);
        RegisterComponents();
    }

    /// <summary>Logits [batch, outputs] of ids, int64 [batch, fields], and values [batch, fields].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields]; the model uses them clamped to [1e-3, 1].</param>
    /// <exception cref="ArgumentException">As <see cref="FieldEmbedding.forward"/>.</exception>
    public override Tensor forward(Tensor input1, Tensor input2)
    {
        Tensor values = input2.clamp(ArmNet.SmallestValue, 1);
        using (no_grad()) embedding.Weight.abs_().clamp_min_(SmallestEmbedding);
        Tensor log = logNorm.forward(embedding.forward(input1, values).log());                      // [batch, fields, dim]
        Tensor cross = logarithmic.forward(log.transpose(1, 2)).clamp_max(ArmNet.LargestExponent).exp();
        Tensor logits = mlp.forward(crossNorm.forward(cross.transpose(1, 2)));                     // [batch, neurons, dim]
        return ensemble is null ? logits : ensemble.forward(logits, input1, values);
    }
}
