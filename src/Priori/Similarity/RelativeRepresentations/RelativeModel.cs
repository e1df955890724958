namespace Priori.Similarity;

/// <summary>
/// A network over relative representations (Moschella et al., ICLR 2023, section 3): encoder, <see cref="RelativeProjection"/> with its output normalisation, and a head or decoder. The anchors are embedded by the encoder
/// itself, without gradient, in the same mode as the batch (they pass its batch normalisation, too). In evaluation they are embedded once.
/// </summary>
public sealed class RelativeModel : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> encoder;
    private readonly RelativeProjection projection;
    private readonly Module<Tensor, Tensor> head;
    private readonly Tensor anchors;
    private readonly Tensor? anchor_embeddings, age; // of the last refresh, only where anchors are not refreshed in every step: state, so that a resumed training goes on alike
    private Tensor? _evaluated;

    /// <summary>Makes the model; it owns its parts.</summary>
    /// <param name="encoder">Inputs [b, ...] to embeddings [b, d].</param>
    /// <param name="projection">Onto as many anchors as are given.</param>
    /// <param name="head">Relative representations to outputs: a classifier or a decoder.</param>
    /// <param name="anchors">Inputs that are the anchors [k, ...]; copied, and part of the state.</param>
    /// <param name="refreshEvery">Training steps between embeddings of the anchors, at least 1. Paper: 1.</param>
    /// <exception cref="ArgumentException">The number of anchors is not that of the projection, or the encoder does not give [k, d].</exception>
    public RelativeModel(Module<Tensor, Tensor> encoder, RelativeProjection projection, Module<Tensor, Tensor> head, Tensor anchors, int refreshEvery = 1)
        : base(nameof(RelativeModel))
    {
        ArgumentNullException.ThrowIfNull(encoder);
        ArgumentNullException.ThrowIfNull(projection);
        ArgumentNullException.ThrowIfNull(head);
        ArgumentNullException.ThrowIfNull(anchors);
        ArgumentOutOfRangeException.ThrowIfLessThan(refreshEvery, 1);
        if (anchors.dim() < 2 || anchors.shape[0] != projection.AnchorCount) throw new ArgumentException($"The projection is made for {projection.AnchorCount} anchors, but they are [{string.Join(", ", anchors.shape)}].", nameof(anchors));
        (this.encoder, this.projection, this.head, RefreshEvery) = (encoder, projection, head, refreshEvery);
        this.anchors = anchors.detach().clone();
        if (refreshEvery > 1)
        {
            using var ungraphed = no_grad();
            bool training = encoder.training;
            encoder.eval();
            anchor_embeddings = encoder.call(this.anchors).clone();
            encoder.train(training);
            age = zeros(1, ScalarType.Int64);
        }
        RegisterComponents();
    }

    /// <summary>The encoder.</summary>
    public Module<Tensor, Tensor> Encoder => encoder;

    /// <summary>The projection and the output normalisation.</summary>
    public RelativeProjection Projection => projection;

    /// <summary>The head or decoder.</summary>
    public Module<Tensor, Tensor> Head => head;

    /// <summary>The anchors [k, ...].</summary>
    public Tensor Anchors => anchors;

    /// <summary>Training steps between embeddings of the anchors.</summary>
    public int RefreshEvery { get; }

    /// <summary>Outputs of inputs [b, ...].</summary>
    public override Tensor forward(Tensor input) => head.call(Represent(input));

    /// <summary>Relative representations [b, <see cref="RelativeProjection.OutputWidth"/>], after the output normalisation: what the head sees.</summary>
    /// <param name="input">Inputs [b, ...].</param>
    public Tensor Represent(Tensor input)
    {
        Tensor z = encoder.call(input);
        return projection.call(z, AnchorEmbeddings());
    }

    /// <summary>
    /// Embeddings of the anchors by the present weights [k, d], without gradient. In training they are computed anew, or every <see cref="RefreshEvery"/> calls; in evaluation once, until the next training step
    /// or <see cref="ForgetAnchors"/>. The model owns the tensor.
    /// </summary>
    public Tensor AnchorEmbeddings()
    {
        using var ungraphed = no_grad();
        if (training)
        {
            ForgetAnchors();
            if (anchor_embeddings is null) return encoder.call(anchors);
            if (age!.item<long>() % RefreshEvery == 0) anchor_embeddings.copy_(encoder.call(anchors));
            age.add_(1);
            return anchor_embeddings;
        }
        return _evaluated ??= encoder.call(anchors).DetachFromDisposeScope();
    }

    /// <summary>Drops the embeddings that evaluation keeps; call it after weights were loaded into a model that has been evaluated.</summary>
    public void ForgetAnchors()
    {
        _evaluated?.Dispose();
        _evaluated = null;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) ForgetAnchors();
        base.Dispose(disposing);
    }
}
