using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>Logistic regression over fields: logit = b + sum_j value_j * w[id_j]. The first-order baseline of click-through models.</summary>
public sealed class LogisticRegression : Module<Tensor, Tensor, Tensor>
{
    private readonly FieldEmbedding weight;
    private readonly TorchSharp.Modules.Parameter bias;

    /// <summary>Creates the model.</summary>
    /// <param name="fields">Fields of a row.</param>
    /// <param name="ids">Number of ids over all fields.</param>
    /// <param name="outputs">Logits of a row: 1 for binary targets and regression, the number of classes otherwise.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is less than 1.</exception>
    public LogisticRegression(long fields, long ids, long outputs = 1) : base(nameof(LogisticRegression))
    {
        weight = new FieldEmbedding(fields, ids, outputs);
        bias = Parameter(zeros(outputs));
        RegisterComponents();
    }

    /// <summary>Logits [batch, outputs] of ids, int64 [batch, fields], and values [batch, fields].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields].</param>
    /// <exception cref="ArgumentException">As <see cref="FieldEmbedding.forward"/>.</exception>
    public override Tensor forward(Tensor input1, Tensor input2) => weight.forward(input1, input2).sum(1) + bias;
}
