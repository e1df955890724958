using TorchSharp.Modules;

namespace Priori.Similarity;

/// <summary>What a coordinate of a relative representation is.</summary>
public enum RelativeSimilarity
{
    /// <summary>Cosine of the embedding and the anchor (section 3 of the paper): unchanged by rotation about the origin and by scaling.</summary>
    Cosine,

    /// <summary>Inner product over the square root of the width: unchanged by rotation only.</summary>
    Inner,

    /// <summary>
    /// Coordinates c of the embedding in the anchors, z = sum_i c_i a_i, by least squares with the least norm: unchanged by every invertible linear map where the anchors are independent.
    /// Collinear anchors (singular values below max(k, d) machine epsilons of the largest) share their coordinate instead of making it infinite.
    /// </summary>
    BasisChange,
}

/// <summary>What normalises relative representations before the decoder.</summary>
public enum OutputNormalization
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>Unit length.</summary>
    L2,

    /// <summary>Batch normalisation of each coordinate.</summary>
    BatchNorm,

    /// <summary>Layer normalisation over the coordinates, with learned scale and shift; the default.</summary>
    LayerNorm,

    /// <summary>Each coordinate over the samples of the batch, in evaluation too, with learned scale and shift (as in the published code); the result depends on the batch.</summary>
    InstanceNorm,
}

/// <summary>What is done to a space before similarities, with the statistics of its anchors.</summary>
public enum SpaceNormalization
{
    /// <summary>Nothing; the default. Cosines change when a space is shifted.</summary>
    None,

    /// <summary>The anchors' mean is subtracted: unchanged by shifts.</summary>
    Center,

    /// <summary>Subtracts the anchors' mean and divides by their deviation, feature by feature: unchanged by shifts and by scaling of single features, but no longer by rotation.</summary>
    Standardize,
}

/// <summary>What a decoder sees.</summary>
public enum RelativeValues
{
    /// <summary>The similarities; the default.</summary>
    Similarities,

    /// <summary>The anchors, averaged with the softmax of the similarities. Not comparable between spaces.</summary>
    Anchors,

    /// <summary>Learned vectors, one an anchor, averaged with the softmax of the similarities.</summary>
    Trainable,

    /// <summary>The similarities after multi-head self-attention among them.</summary>
    SelfAttention,
}

/// <summary>Settings of a <see cref="RelativeProjection"/>; the defaults are those of the paper.</summary>
public sealed record RelativeProjectionOptions
{
    /// <summary>What a coordinate is.</summary>
    public RelativeSimilarity Similarity { get; init; } = RelativeSimilarity.Cosine;

    /// <summary>What is done to the space first.</summary>
    public SpaceNormalization Space { get; init; } = SpaceNormalization.None;

    /// <summary>Class of each anchor from 0, k of them: similarities are averaged over the anchors of each class. Null: not averaged. Several groups a class are classes of their own here.</summary>
    public IReadOnlyList<int>? AnchorClasses { get; init; }

    /// <summary>Similarities are rounded to multiples of this; gradients pass as if they were not (straight-through). Null: not rounded.</summary>
    public double? QuantizationBin { get; init; }

    /// <summary>What the decoder sees.</summary>
    public RelativeValues Values { get; init; } = RelativeValues.Similarities;

    /// <summary>Width of trainable values, and of the self-attention.</summary>
    public long ValueWidth { get; init; } = 64;

    /// <summary>Heads of the self-attention; they divide its width.</summary>
    public int Heads { get; init; } = 1;

    /// <summary>What comes last.</summary>
    public OutputNormalization OutputNormalization { get; init; } = OutputNormalization.LayerNorm;
}

/// <summary>
/// Relative representations (Moschella et al., ICLR 2023, eq. 2): an embedding is expressed by its similarities to the embeddings of k anchors in the same space. Anchors carry no gradient, as in the published code.
/// </summary>
public sealed class RelativeProjection : Module<Tensor, Tensor, Tensor>
{
    private const double Epsilon = 1e-12; // least length that a vector is divided by
    private const int BlockRows = 4096;

    private readonly Tensor? averaging;
    private readonly Parameter? values;
    private readonly SimilarityAttention? attention;
    private readonly Module<Tensor, Tensor>? normalization;

    /// <summary>Makes a projection onto k anchors.</summary>
    /// <param name="anchors">Number of anchors k, at least 1.</param>
    /// <param name="options">Settings; null for the paper's.</param>
    /// <param name="embeddingWidth">Width d of embeddings; needed by <see cref="RelativeValues.Anchors"/> only.</param>
    /// <exception cref="ArgumentException">A setting is outside its range, or settings do not fit together.</exception>
    public RelativeProjection(long anchors, RelativeProjectionOptions? options = null, long? embeddingWidth = null)
        : base(nameof(RelativeProjection))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(anchors, 1);
        options ??= new RelativeProjectionOptions();
        (AnchorCount, Options) = (anchors, options);
        if (options.QuantizationBin is <= 0) throw new ArgumentOutOfRangeException(nameof(options), options.QuantizationBin, "The bin of the quantisation must be above 0.");
        long width = anchors;
        if (options.AnchorClasses is { } classes)
        {
            averaging = Averaging(classes, anchors);
            width = averaging.shape[1];
        }
        switch (options.Values)
        {
            case RelativeValues.Anchors:
                if (averaging is not null) throw new ArgumentException("Averages over classes cannot weigh single anchors: choose other values.", nameof(options));
                width = embeddingWidth ?? throw new ArgumentException("Values that are anchors need the width of the embeddings.", nameof(embeddingWidth));
                break;
            case RelativeValues.Trainable:
                ArgumentOutOfRangeException.ThrowIfLessThan(options.ValueWidth, 1, nameof(options));
                values = new Parameter(randn(width, options.ValueWidth));
                width = options.ValueWidth;
                break;
            case RelativeValues.SelfAttention:
                attention = new SimilarityAttention(width, options.ValueWidth, options.Heads);
                break;
        }
        OutputWidth = width;
        normalization = options.OutputNormalization switch
        {
            OutputNormalization.BatchNorm => nn.BatchNorm1d(width),
            OutputNormalization.LayerNorm => nn.LayerNorm(width),
            OutputNormalization.InstanceNorm => new BatchStatistics(width),
            _ => null,
        };
        RegisterComponents();
    }

    /// <summary>Number of anchors k.</summary>
    public long AnchorCount { get; }

    /// <summary>The settings.</summary>
    public RelativeProjectionOptions Options { get; }

    /// <summary>Width of the result: k, or that of averages or values.</summary>
    public long OutputWidth { get; }

    /// <summary>Relative representations [b, <see cref="OutputWidth"/>].</summary>
    /// <param name="z">Embeddings [b, d].</param>
    /// <param name="anchorEmbeddings">Embeddings of the anchors by the same encoder [k, d]; they get no gradient.</param>
    /// <exception cref="ArgumentException">The number of anchors or the widths do not fit.</exception>
    public override Tensor forward(Tensor z, Tensor anchorEmbeddings)
    {
        Check(z, anchorEmbeddings);
        if (anchorEmbeddings.shape[0] != AnchorCount) throw new ArgumentException($"The projection is made for {AnchorCount} anchors, but there are {anchorEmbeddings.shape[0]}.", nameof(anchorEmbeddings));
        if (Options.Values == RelativeValues.Anchors && z.shape[1] != OutputWidth) throw new ArgumentException($"The values are anchors of width {OutputWidth}, but embeddings have width {z.shape[1]}.", nameof(z));
        (z, Tensor anchors) = Prepared(z, anchorEmbeddings.detach());
        Tensor s = Coordinates(z, anchors, Options.Similarity);
        if (averaging is not null) s = s.matmul(averaging.to(s.dtype));
        if (Options.QuantizationBin is { } bin) s = s + ((s / bin).round() * bin - s).detach();
        Tensor output = Options.Values switch
        {
            RelativeValues.Anchors => s.softmax(-1).matmul(anchors),
            RelativeValues.Trainable => s.softmax(-1).matmul(values!),
            RelativeValues.SelfAttention => attention!.call(s),
            _ => s,
        };
        if (Options.OutputNormalization == OutputNormalization.L2) return functional.normalize(output, dim: -1);
        return normalization is null ? output : normalization.call(output);

        (Tensor, Tensor) Prepared(Tensor z, Tensor anchors)
        {
            (z, anchors) = Normalized(z, anchors, Options.Space);
            return Options.Similarity == RelativeSimilarity.Cosine ? (functional.normalize(z, dim: -1, eps: Epsilon), functional.normalize(anchors, dim: -1, eps: Epsilon)) : (z, anchors);
        }
    }

    /// <summary>
    /// Relative representations of stored embeddings, without a module and without a graph: similarities only. The time is that of one product [n, d] x [d, k]; rows are done in blocks, so little more memory
    /// than the result is needed.
    /// </summary>
    /// <param name="z">Embeddings, floating point [n, d].</param>
    /// <param name="anchorEmbeddings">Embeddings of the anchors in the same space [k, d].</param>
    /// <param name="similarity">What a coordinate is.</param>
    /// <param name="space">What is done to the space first.</param>
    /// <returns>[n, k], with the type and on the device of the embeddings.</returns>
    /// <exception cref="ArgumentException">Widths or types differ, a number is not finite, or an embedding has length zero where cosines are wanted; the message names the row.</exception>
    public static Tensor Project(Tensor z, Tensor anchorEmbeddings, RelativeSimilarity similarity = RelativeSimilarity.Cosine, SpaceNormalization space = SpaceNormalization.None)
    {
        Check(z, anchorEmbeddings);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        long n = z.shape[0];
        Finite(anchorEmbeddings, "Anchor", 0);
        (_, Tensor anchors) = Normalized(anchorEmbeddings, anchorEmbeddings, space);
        if (similarity == RelativeSimilarity.Cosine)
        {
            NotZero(anchors.norm(1), "Anchor", 0);
            anchors = functional.normalize(anchors, dim: -1, eps: Epsilon);
        }
        Tensor right = Right(anchors, similarity);
        Tensor result = empty([n, right.shape[1]], z.dtype, z.device);
        for (long start = 0; start < n; start += BlockRows)
        {
            using DisposeScope block = NewDisposeScope();
            long rows = Math.Min(BlockRows, n - start);
            Tensor x = z.narrow(0, start, rows);
            if (space != SpaceNormalization.None) (x, _) = Normalized(x, anchorEmbeddings, space);
            Tensor product = x.matmul(right);
            if (similarity == RelativeSimilarity.Cosine)
            {
                Tensor lengths = x.norm(1);
                NotZero(lengths, "Embedding", start);
                product.div_(lengths.unsqueeze(1));
            }
            else
            {
                Finite(x, "Embedding", start);
            }
            result.narrow(0, start, rows).copy_(product);
        }
        return result.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) averaging?.Dispose();
        base.Dispose(disposing);
    }

    private static Tensor Coordinates(Tensor z, Tensor anchors, RelativeSimilarity similarity) => z.matmul(Right(anchors, similarity));

    // Every similarity is a linear map of the (normalised) embedding: [d, k].
    private static Tensor Right(Tensor anchors, RelativeSimilarity similarity) => similarity switch
    {
        RelativeSimilarity.Cosine => anchors.t(),
        RelativeSimilarity.Inner => anchors.t() / Math.Sqrt(anchors.shape[1]),
        RelativeSimilarity.BasisChange => PseudoInverse(anchors),
        _ => throw new ArgumentOutOfRangeException(nameof(similarity), similarity, "There is no such similarity."),
    };

    /// <summary>The Moore-Penrose inverse of a matrix [k, d]: [d, k]. Singular values below max(k, d) machine epsilons of the largest count as zero.</summary>
    internal static Tensor PseudoInverse(Tensor matrix)
    {
        (Tensor u, Tensor s, Tensor vt) = linalg.svd(matrix, fullMatrices: false);
        double epsilon = matrix.dtype == ScalarType.Float64 ? double.BitIncrement(1) - 1 : float.BitIncrement(1) - 1;
        Tensor kept = s > s.max() * (epsilon * Math.Max(matrix.shape[0], matrix.shape[1]));
        Tensor inverse = where(kept, 1 / where(kept, s, ones_like(s)), zeros_like(s));
        return (vt.t() * inverse).matmul(u.t());
    }

    private static (Tensor Z, Tensor Anchors) Normalized(Tensor z, Tensor anchors, SpaceNormalization space)
    {
        if (space == SpaceNormalization.None) return (z, anchors);
        Tensor mean = anchors.mean([0L], keepdim: true);
        if (space == SpaceNormalization.Center) return (z - mean, anchors - mean);
        Tensor deviation = anchors.std(0, unbiased: false, keepdim: true);
        deviation = where(deviation > 0, deviation, ones_like(deviation)); // a feature that all anchors share stays as it is
        return ((z - mean) / deviation, (anchors - mean) / deviation);
    }

    private static Tensor Averaging(IReadOnlyList<int> classes, long anchors)
    {
        if (classes.Count != anchors) throw new ArgumentException($"There are {anchors} anchors, but classes of {classes.Count}.", nameof(classes));
        if (classes.Min() < 0) throw new ArgumentException($"Classes count from 0; anchor {classes.ToList().IndexOf(classes.Min())} has class {classes.Min()}.", nameof(classes));
        int count = classes.Max() + 1;
        int[] sizes = new int[count];
        foreach (int c in classes) sizes[c]++;
        if (sizes.Contains(0)) throw new ArgumentException($"Class {sizes.ToList().IndexOf(0)} has no anchor.", nameof(classes));
        float[] weights = new float[classes.Count * count];
        for (int i = 0; i < classes.Count; i++) weights[i * count + classes[i]] = 1f / sizes[classes[i]];
        return tensor(weights, [classes.Count, count]);
    }

    private static void Check(Tensor z, Tensor anchorEmbeddings)
    {
        ArgumentNullException.ThrowIfNull(z);
        ArgumentNullException.ThrowIfNull(anchorEmbeddings);
        if (z.dim() != 2 || anchorEmbeddings.dim() != 2 || z.shape[1] != anchorEmbeddings.shape[1] || anchorEmbeddings.shape[0] < 1)
            throw new ArgumentException($"Embeddings [{string.Join(", ", z.shape)}] and those of the anchors [{string.Join(", ", anchorEmbeddings.shape)}] must be [n, d] and [k, d]: anchors are embedded by the same encoder.", nameof(anchorEmbeddings));
        if (!z.is_floating_point() || z.dtype != anchorEmbeddings.dtype) throw new ArgumentException($"Embeddings ({z.dtype}) and those of the anchors ({anchorEmbeddings.dtype}) must be of one floating-point type.", nameof(anchorEmbeddings));
    }

    private static void NotZero(Tensor lengths, string what, long first)
    {
        Finite(lengths.unsqueeze(1), what, first);
        if ((lengths > 0).all().item<bool>()) return;
        throw new ArgumentException($"{what} {first + (lengths > 0).to(ScalarType.Int32).argmin().item<long>()} has length zero, so it has no cosine.");
    }

    private static void Finite(Tensor x, string what, long first)
    {
        if (x.isfinite().all().item<bool>()) return;
        throw new ArgumentException($"{what} {first + x.isfinite().all(1).to(ScalarType.Int32).argmin().item<long>()} holds NaN or infinity.");
    }

    // Each coordinate over the batch, in training and evaluation.
    private sealed class BatchStatistics : Module<Tensor, Tensor>
    {
        private readonly Parameter weight, bias;

        public BatchStatistics(long width) : base(nameof(BatchStatistics))
        {
            (weight, bias) = (new Parameter(ones(width)), new Parameter(zeros(width)));
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            Tensor centered = input - input.mean([0L], keepdim: true);
            return centered * (centered.square().mean([0L], keepdim: true) + 1e-5).rsqrt() * weight + bias;
        }
    }

    // Each similarity becomes a token (its value times a learned vector of its anchor), tokens attend to one another, and each token becomes a number again.
    private sealed class SimilarityAttention : Module<Tensor, Tensor>
    {
        private readonly int _heads;
        private readonly Module<Tensor, Tensor> norm, query, key, value, output, aggregation;
        private readonly Parameter to_queries, to_keys, to_values;

        public SimilarityAttention(long tokens, long width, int heads) : base(nameof(SimilarityAttention))
        {
            if (heads < 1 || width < 1 || width % heads != 0) throw new ArgumentException($"{heads} heads do not divide a width of {width}.", nameof(heads));
            _heads = heads;
            norm = nn.LayerNorm(tokens);
            (to_queries, to_keys, to_values) = (new Parameter(randn(tokens, width)), new Parameter(randn(tokens, width)), new Parameter(randn(tokens, width)));
            (query, key, value, output) = (nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width));
            aggregation = nn.Linear(width, 1, hasBias: false);
            RegisterComponents();
        }

        public override Tensor forward(Tensor similarities)
        {
            Tensor s = norm.call(similarities).unsqueeze(-1);
            Tensor Split(Tensor t) => t.view(t.shape[0], t.shape[1], _heads, -1).transpose(1, 2);
            Tensor q = Split(query.call(s * to_queries)), k = Split(key.call(s * to_keys)), v = Split(value.call(s * to_values));
            Tensor attended = (q.matmul(k.transpose(2, 3)) / Math.Sqrt(q.shape[3])).softmax(-1).matmul(v);
            return aggregation.call(output.call(attended.transpose(1, 2).flatten(2))).squeeze(-1);
        }
    }
}
