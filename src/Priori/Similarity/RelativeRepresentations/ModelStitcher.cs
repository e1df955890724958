namespace Priori.Similarity;

/// <summary>An encoder of one model with the decoder of another, neither trained further. It holds both and owns neither: dispose the models themselves.</summary>
public sealed class StitchedModel : Module<Tensor, Tensor>
{
    private readonly Func<Tensor, Tensor> _forward;

    internal StitchedModel(Func<Tensor, Tensor> forward) : base(nameof(StitchedModel)) => _forward = forward;

    /// <summary>Outputs of inputs [b, ...] of the encoder.</summary>
    public override Tensor forward(Tensor input) => _forward(input);
}

/// <summary>Zero-shot stitching through relative representations (Moschella et al., ICLR 2023, section 5): no fine-tuning, no alignment.</summary>
public static class ModelStitcher
{
    /// <summary>
    /// Encoder i with decoder j: y = head_j(norm_j(similarities of E_i(x) to E_i's own anchor embeddings)). The output normalisation, and everything else learned after the similarities, is the decoder's.
    /// Both models are put into evaluation mode.
    /// </summary>
    /// <param name="encoder">The model whose encoder is used.</param>
    /// <param name="decoder">The model whose projection settings, output normalisation and head are used.</param>
    /// <exception cref="ArgumentException">The numbers of anchors differ. (That anchors are parallel, row by row, is for the caller to see to.)</exception>
    public static StitchedModel Stitch(RelativeModel encoder, RelativeModel decoder)
    {
        ArgumentNullException.ThrowIfNull(encoder);
        ArgumentNullException.ThrowIfNull(decoder);
        if (encoder.Projection.AnchorCount != decoder.Projection.AnchorCount)
            throw new ArgumentException($"The encoder has {encoder.Projection.AnchorCount} anchors and the decoder {decoder.Projection.AnchorCount}: they must be the same ones, or parallel, in the same order.", nameof(decoder));
        encoder.eval();
        decoder.eval();
        return new StitchedModel(x => decoder.Head.call(decoder.Projection.call(encoder.Encoder.call(x), encoder.AnchorEmbeddings())));
    }
}

/// <summary>The baseline that fails: an encoder's own (absolute) embeddings given to another model's decoder.</summary>
public static class AbsoluteStitcher
{
    /// <summary>Encoder i with decoder j: y = head_j(E_i(x)). Both are put into evaluation mode.</summary>
    /// <param name="encoder">Inputs to embeddings [b, d].</param>
    /// <param name="head">Embeddings of another encoder [b, d] to outputs.</param>
    public static StitchedModel Stitch(Module<Tensor, Tensor> encoder, Module<Tensor, Tensor> head)
    {
        ArgumentNullException.ThrowIfNull(encoder);
        ArgumentNullException.ThrowIfNull(head);
        encoder.eval();
        head.eval();
        return new StitchedModel(x => head.call(encoder.call(x)));
    }

    /// <summary>Encoder i with decoder j through a map between their spaces, for example <see cref="Numerics.Procrustes.Apply"/> or <see cref="AnchorTranslation.Apply"/>: y = head_j(T(E_i(x))).</summary>
    /// <param name="encoder">Inputs to embeddings [b, d].</param>
    /// <param name="translate">Embeddings of this encoder to those of the decoder's encoder.</param>
    /// <param name="head">Embeddings of another encoder to outputs.</param>
    public static StitchedModel Stitch(Module<Tensor, Tensor> encoder, Func<Tensor, Tensor> translate, Module<Tensor, Tensor> head)
    {
        ArgumentNullException.ThrowIfNull(encoder);
        ArgumentNullException.ThrowIfNull(translate);
        ArgumentNullException.ThrowIfNull(head);
        encoder.eval();
        head.eval();
        return new StitchedModel(x => head.call(translate(encoder.call(x))));
    }
}
