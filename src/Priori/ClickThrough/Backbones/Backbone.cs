using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>The models of the <see cref="Backbone"/> family.</summary>
public enum BackboneKind
{
    /// <summary><see cref="LogisticRegression"/>.</summary>
    Lr,

    /// <summary><see cref="FactorizationMachine"/>.</summary>
    Fm,

    /// <summary><see cref="ClickThrough.Dnn"/>.</summary>
    Dnn,

    /// <summary><see cref="ClickThrough.DeepFm"/>.</summary>
    DeepFm,

    /// <summary><see cref="DeepCross"/> with vector cross layers.</summary>
    Dcn,

    /// <summary><see cref="DeepCross"/> with matrix cross layers.</summary>
    DcnV2,

    /// <summary><see cref="ClickThrough.Ipnn"/>.</summary>
    Ipnn,

    /// <summary><see cref="ClickThrough.Afn"/>.</summary>
    Afn,

    /// <summary><see cref="ClickThrough.ArmNet"/>.</summary>
    ArmNet,
}

/// <summary>Sizes and switches of a <see cref="Backbone"/>; each model reads those that concern it.</summary>
public sealed record BackboneOptions
{
    /// <summary>Fields m of a row.</summary>
    public required long Fields { get; init; }

    /// <summary>Width D of an embedding.</summary>
    public long EmbeddingDim { get; init; } = 10;

    /// <summary>Logits of a row: 1 for binary targets and regression, the number of classes otherwise.</summary>
    public long Outputs { get; init; } = 1;

    /// <summary>Hidden widths of every MLP.</summary>
    public IReadOnlyList<long> MlpHidden { get; init; } = [256, 256];

    /// <summary>Dropout probability of the MLPs, in [0, 1).</summary>
    public double Dropout { get; init; }

    /// <summary>What follows each hidden linear layer of the MLPs.</summary>
    public Normalization Normalization { get; init; } = Normalization.BatchNorm;

    /// <summary>FM, DeepFM: whether there is a bias and a first-order weight of each id, as in the papers; without it the logit is the sum of pairwise products alone.</summary>
    public bool FirstOrder { get; init; } = true;

    /// <summary>DCN, DCN-v2: number of cross layers, at least 1.</summary>
    public int CrossLayers { get; init; } = 3;

    /// <summary>ARM-Net: attention heads K.</summary>
    public long Heads { get; init; } = 4;

    /// <summary>ARM-Net: exponential neurons o of each head. AFN: logarithmic neurons.</summary>
    public long Neurons { get; init; } = 128;

    /// <summary>ARM-Net: sparsity of the gates, at least 1: 1 is softmax (never sparse), 2 is sparsemax.</summary>
    public double Alpha { get; init; } = 1.7;

    /// <summary>ARM-Net: width d_k of keys and queries; the embedding width by default.</summary>
    public long? KeyDim { get; init; }

    /// <summary>ARM-Net-1h: one head whose keys come from a linear layer without bias. Needs <see cref="Heads"/> = 1.</summary>
    public bool SharedKey { get; init; }

    /// <summary>ARM-Net+, AFN+: a <see cref="ClickThrough.Dnn"/> with embeddings of its own is trained jointly.</summary>
    public bool Ensemble { get; init; }
}

/// <summary>
/// A click model without its input layer: maps the embeddings of a row's fields to logits. What gives the embeddings (a table, a gated, a hashed one) is
/// free: see <see cref="ClickModel"/>. A backbone asks for <see cref="InputDim"/> numbers a field; where a model has first-order weights or a second set of
/// embeddings, they are further columns of the same table, so that whatever is done to the table is done to them too.
/// </summary>
public abstract class Backbone : Module<Tensor, Tensor>
{
    /// <summary>Sets the sizes.</summary>
    /// <param name="name">Name of the module.</param>
    /// <param name="options">Sizes and switches.</param>
    /// <param name="inputDim">Width of what it takes of each field.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1.</exception>
    protected Backbone(string name, BackboneOptions options, long inputDim) : base(name)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Fields, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.EmbeddingDim, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Outputs, 1, nameof(options));
        (Options, InputDim) = (options, inputDim);
    }

    /// <summary>The options it was made with.</summary>
    public BackboneOptions Options { get; }

    /// <summary>Width of what it takes of each field.</summary>
    public long InputDim { get; }

    /// <summary>Logits [batch, outputs] of embeddings [batch, fields, <see cref="InputDim"/>].</summary>
    /// <param name="input">The embeddings.</param>
    /// <exception cref="ArgumentException">The shape differs.</exception>
    public sealed override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (input.dim() != 3 || input.size(1) != Options.Fields || input.size(2) != InputDim)
            throw new ArgumentException($"Embeddings must be [batch, {Options.Fields}, {InputDim}], not [{string.Join(", ", input.shape)}].", nameof(input));
        return Logits(input);
    }

    /// <summary>Makes a backbone.</summary>
    /// <param name="kind">Which.</param>
    /// <param name="options">Sizes and switches.</param>
    /// <exception cref="ArgumentException">A size or switch does not fit.</exception>
    public static Backbone Create(BackboneKind kind, BackboneOptions options) => kind switch
    {
        BackboneKind.Lr => new LogisticRegression(options),
        BackboneKind.Fm => new FactorizationMachine(options),
        BackboneKind.Dnn => new Dnn(options),
        BackboneKind.DeepFm => new DeepFm(options),
        BackboneKind.Dcn => new DeepCross(options, matrix: false),
        BackboneKind.DcnV2 => new DeepCross(options, matrix: true),
        BackboneKind.Ipnn => new Ipnn(options),
        BackboneKind.Afn => new Afn(options),
        BackboneKind.ArmNet => new ArmNet(options),
        _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "There is no such backbone."),
    };

    /// <summary>Logits [batch, outputs] of embeddings whose shape is right.</summary>
    /// <param name="e">Embeddings [batch, fields, <see cref="InputDim"/>].</param>
    protected abstract Tensor Logits(Tensor e);

    /// <summary>An MLP with the options' hidden widths.</summary>
    private protected Mlp Tower(long inputs, long outputs) => new(inputs, Options.MlpHidden, outputs, normalization: Options.Normalization, dropout: Options.Dropout);

    /// <summary>Sum of the dot products of all pairs of fields, [batch, blocks], of embeddings [batch, fields, blocks * dim]: ((sum_j e_j)^2 - sum_j e_j^2) / 2 (Rendle, ICDM 2010, lemma 3.1).</summary>
    private protected static Tensor PairwiseProducts(Tensor e, long blocks)
        => ((e.sum(1).square() - e.square().sum(1)) / 2).view(e.size(0), blocks, -1).sum(-1);
}
