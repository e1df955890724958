using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>A click model: an input layer that embeds a row's fields, and a <see cref="ClickThrough.Backbone"/> over the embeddings.</summary>
public sealed class ClickModel : Module<Tensor, Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor, Tensor> embedding;
    private readonly Backbone backbone;

    /// <summary>Joins the parts; the model owns them.</summary>
    /// <param name="embedding">Maps ids int64 [batch, fields] and values [batch, fields] to embeddings [batch, fields, <see cref="ClickThrough.Backbone.InputDim"/>].</param>
    /// <param name="backbone">The backbone.</param>
    public ClickModel(Module<Tensor, Tensor, Tensor> embedding, Backbone backbone) : base(nameof(ClickModel))
    {
        ArgumentNullException.ThrowIfNull(embedding);
        ArgumentNullException.ThrowIfNull(backbone);
        (this.embedding, this.backbone) = (embedding, backbone);
        RegisterComponents();
    }

    /// <summary>The input layer.</summary>
    public Module<Tensor, Tensor, Tensor> Embedding => embedding;

    /// <summary>The backbone.</summary>
    public Backbone Backbone => backbone;

    /// <summary>A model with one plain table over all ids.</summary>
    /// <param name="kind">The backbone.</param>
    /// <param name="options">Its sizes and switches.</param>
    /// <param name="ids">Number of ids over all fields.</param>
    /// <param name="clampValues">Whether values are used clamped to [1e-3, 1]: see <see cref="FieldEmbedding"/>.</param>
    /// <exception cref="ArgumentException">A size or switch does not fit.</exception>
    public static ClickModel Create(BackboneKind kind, BackboneOptions options, long ids, bool clampValues = false)
    {
        var backbone = Backbone.Create(kind, options);
        return new ClickModel(new FieldEmbedding(backbone.Options.Fields, ids, backbone.InputDim, clampValues), backbone);
    }

    /// <summary>Logits [batch, outputs].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields]: 1 for categories, the scaled number for numeric columns. Never modified.</param>
    public override Tensor forward(Tensor input1, Tensor input2) => backbone.forward(embedding.forward(input1, input2));
}
