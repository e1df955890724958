namespace Priori.ClickThrough;

/// <summary>An input layer whose embeddings are multiplied by the gates of their ids: (ids, values) to G[id] * e(id, value), [batch, fields, dim]. Any <see cref="Backbone"/> over it is gated without change.</summary>
public sealed class GatedEmbedding : Module<Tensor, Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor, Tensor> embedding;
    private readonly FeatureGate gate;

    /// <summary>Joins the parts; the layer owns them.</summary>
    /// <param name="embedding">Maps ids int64 [batch, fields] and values [batch, fields] to embeddings [batch, fields, dim].</param>
    /// <param name="gate">A gate for each id.</param>
    public GatedEmbedding(Module<Tensor, Tensor, Tensor> embedding, FeatureGate gate) : base(nameof(GatedEmbedding))
    {
        ArgumentNullException.ThrowIfNull(embedding);
        ArgumentNullException.ThrowIfNull(gate);
        (this.embedding, this.gate) = (embedding, gate);
        RegisterComponents();
    }

    /// <summary>The layer below.</summary>
    public Module<Tensor, Tensor, Tensor> Embedding => embedding;

    /// <summary>The gates.</summary>
    public FeatureGate Gate => gate;

    /// <summary>Gated embeddings [batch, fields, dim].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields].</param>
    public override Tensor forward(Tensor input1, Tensor input2) => embedding.forward(input1, input2) * gate.forward(input1).unsqueeze(-1);
}
