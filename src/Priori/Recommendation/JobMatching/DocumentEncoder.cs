using Priori.Nn;

namespace Priori.Recommendation;

/// <summary>Which of the two kinds of documents.</summary>
public enum DocumentSide
{
    /// <summary>Jobs, tickets, queries.</summary>
    Left,

    /// <summary>Resumes, experts, advertisements.</summary>
    Right,
}

/// <summary>Kinds of document encoders.</summary>
public enum DocumentEncoderKind
{
    /// <summary>Trainable word embeddings, self-attention pooling of each sentence, and of the sentences.</summary>
    Attention,

    /// <summary>The same sentence vectors, then a Transformer over the sentences.</summary>
    Hierarchical,

    /// <summary>The convolutional encoder of PJFNN (Zhu et al., 2018), as in MV-CoN's public code.</summary>
    Cnn,

    /// <summary>BERT sentence vectors, then a Transformer over the sentences: the paper's encoder.</summary>
    Bert,
}

/// <summary>Which encoder turns documents into vectors.</summary>
public sealed record DocumentEncoderOptions
{
    /// <summary>The kind; default <see cref="DocumentEncoderKind.Attention"/>.</summary>
    public DocumentEncoderKind Kind { get; init; }

    /// <summary>Number of word ids, padding included. BERT has its own.</summary>
    public int Words { get; init; }

    /// <summary>Width d of words, sentences and documents; default 64. BERT has its own.</summary>
    public long Dim { get; init; } = 64;

    /// <summary>Most sentences S of a document; default 20, as in MV-CoN's public configuration.</summary>
    public int MaxSentences { get; init; } = 20;

    /// <summary>Most words L of a sentence; default 50, as in MV-CoN's public configuration.</summary>
    public int MaxWords { get; init; } = 50;

    /// <summary>Layers of the Transformer over sentences; default 1.</summary>
    public int Layers { get; init; } = 1;

    /// <summary>Its heads; default 4.</summary>
    public int Heads { get; init; } = 4;

    /// <summary>Dropout probability of embeddings and of the Transformer over sentences; default 0.</summary>
    public double Dropout { get; init; }

    /// <summary>Sizes of <see cref="DocumentEncoderKind.Bert"/>.</summary>
    public BertConfig? Bert { get; init; }
}

/// <summary>Turns documents into vectors. Documents are int64 [n, sentences, words], padded with 0.</summary>
public abstract class DocumentEncoder(string name) : Module<Tensor, DocumentSide, Tensor>(name)
{
    /// <summary>Width of the vectors.</summary>
    public abstract long Dim { get; }

    /// <summary>Document vectors [n, <see cref="Dim"/>].</summary>
    /// <param name="input1">Documents int64 [n, S, L].</param>
    /// <param name="input2">Which kind of documents.</param>
    public abstract override Tensor forward(Tensor input1, DocumentSide input2);

    /// <summary>Creates an encoder.</summary>
    /// <param name="options">Which.</param>
    /// <exception cref="ArgumentException">Options are missing or do not fit.</exception>
    public static DocumentEncoder Create(DocumentEncoderOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        switch (options.Kind)
        {
            case DocumentEncoderKind.Cnn:
                return new TextCnnEncoder(options.Words, options.Dim, options.MaxSentences, options.MaxWords);
            case DocumentEncoderKind.Bert:
                return new HierarchicalTextEncoder(new BertSentenceEncoder(new Bert(options.Bert ?? throw new ArgumentException("A BERT encoder needs its configuration.", nameof(options)))), options.MaxSentences, options.Layers, options.Heads, options.Dropout);
            default:
                var sentences = new AttentionSentenceEncoder(options.Words, options.Dim, options.Dropout);
                return new HierarchicalTextEncoder(sentences, options.MaxSentences, options.Kind == DocumentEncoderKind.Hierarchical ? options.Layers : 0, options.Heads, options.Dropout);
        }
    }
}

/// <summary>Turns sentences, int64 [n, words] padded with 0, into vectors [n, <see cref="Dim"/>]. Every sentence has at least one word.</summary>
public abstract class SentenceEncoder(string name) : Module<Tensor, Tensor>(name)
{
    /// <summary>Width of the vectors.</summary>
    public abstract long Dim { get; }
}

/// <summary>Trainable word embeddings pooled by self-attention.</summary>
public sealed class AttentionSentenceEncoder : SentenceEncoder
{
    private readonly Module<Tensor, Tensor> embedding, dropout;
    private readonly AttentionPooling pooling;

    /// <summary>Creates the encoder; embeddings start standard normal.</summary>
    /// <param name="words">Number of word ids, padding included.</param>
    /// <param name="dim">Width d.</param>
    /// <param name="dropout">Dropout probability of the embeddings.</param>
    public AttentionSentenceEncoder(int words, long dim, double dropout = 0) : base(nameof(AttentionSentenceEncoder))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(words, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        Dim = dim;
        embedding = nn.Embedding(words, dim, padding_idx: 0);
        pooling = new AttentionPooling(dim);
        this.dropout = nn.Dropout(dropout);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override long Dim { get; }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var scope = NewDisposeScope();
        return pooling.forward(dropout.forward(embedding.forward(input)), input.ne(0)).MoveToOuterDisposeScope();
    }
}

/// <summary>BERT; the vector of a sentence is the last hidden state of its first token, [CLS].</summary>
public sealed class BertSentenceEncoder : SentenceEncoder
{
    private readonly Bert bert;

    /// <summary>Takes the encoder.</summary>
    /// <param name="bert">BERT, pre-trained or not.</param>
    public BertSentenceEncoder(Bert bert) : base(nameof(BertSentenceEncoder))
    {
        this.bert = bert;
        RegisterComponents();
    }

    /// <summary>The encoder.</summary>
    public Bert Bert => bert;

    /// <inheritdoc/>
    public override long Dim => bert.Config.HiddenSize;

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        return bert.forward(input).select(1, 0).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Hierarchical self-attention (MV-CoN, text-based matching): sentence vectors, a Transformer over the sentences of a document with learned positions, and self-attention pooling to a document vector.
/// Empty sentences cost nothing and have no influence; a document without words is 0. Both kinds of documents share the encoder.
/// </summary>
public sealed class HierarchicalTextEncoder : DocumentEncoder
{
    private readonly SentenceEncoder sentence;
    private readonly Module<Tensor, Tensor>? position;
    private readonly TransformerLayer[] blocks;
    private readonly TorchSharp.Modules.ModuleList<Module<Tensor, Tensor, Tensor>> layers;
    private readonly AttentionPooling pooling;

    /// <summary>Creates the encoder.</summary>
    /// <param name="sentence">Encoder of sentences.</param>
    /// <param name="maxSentences">Most sentences S of a document.</param>
    /// <param name="layerCount">Layers of the Transformer over sentences; with 0 sentences are only pooled.</param>
    /// <param name="heads">Its heads.</param>
    /// <param name="dropout">Its dropout probability.</param>
    public HierarchicalTextEncoder(SentenceEncoder sentence, int maxSentences, int layerCount = 1, int heads = 4, double dropout = 0) : base(nameof(HierarchicalTextEncoder))
    {
        ArgumentNullException.ThrowIfNull(sentence);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxSentences, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(layerCount);
        this.sentence = sentence;
        if (layerCount > 0) position = nn.Embedding(maxSentences, sentence.Dim);
        blocks = [.. Enumerable.Range(0, layerCount).Select(_ => new TransformerLayer(sentence.Dim, heads, dropout: dropout))];
        layers = ModuleList<Module<Tensor, Tensor, Tensor>>([.. blocks]);
        pooling = new AttentionPooling(sentence.Dim);
        RegisterComponents();
    }

    /// <summary>Encoder of sentences.</summary>
    public SentenceEncoder Sentence => sentence;

    /// <inheritdoc/>
    public override long Dim => sentence.Dim;

    /// <inheritdoc/>
    public override Tensor forward(Tensor input1, DocumentSide input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        if (input1.dim() != 3) throw new ArgumentException($"Documents must be [n, sentences, words]; got [{string.Join(",", input1.shape)}].", nameof(input1));
        using var scope = NewDisposeScope();
        // Only as many sentences and words as the longest of these documents has.
        Tensor filled = input1.ne(0);
        long n = input1.shape[0], s = filled.any(2).any(0).sum().ToInt64(), words = filled.any(1).any(0).sum().ToInt64();
        if (s == 0) return zeros([n, Dim], device: input1.device).MoveToOuterDisposeScope();
        Tensor flat = input1.narrow(1, 0, s).narrow(2, 0, words).reshape(n * s, words), real = flat.ne(0).any(1), rows = real.nonzero().squeeze(1);
        Tensor vectors = sentence.forward(flat.index_select(0, rows));
        Tensor x = zeros([n * s, Dim], vectors.dtype, vectors.device).index_copy(0, rows, vectors).view(n, s, Dim), mask = real.view(n, s);
        if (position is not null) x = x + position.forward(arange(s, ScalarType.Int64, x.device));
        foreach (TransformerLayer block in blocks) x = block.forward(x, mask);
        return pooling.forward(x, mask).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The convolutional encoder of PJFNN (Zhu et al., TMIS 2018) as in MV-CoN's public code: sentences are channels of an image of words x d; convolution over 5 words, batch normalisation, ReLU, pooling of 2 words;
/// convolution over 5 (left) or 3 (right) words, batch normalisation, ReLU, largest value over the words; then the mean (left) or largest value (right) over the sentences. The word embeddings are shared.
/// </summary>
public sealed class TextCnnEncoder : DocumentEncoder
{
    private const int FirstKernel = 5, LeftKernel = 5, RightKernel = 3;
    private readonly Module<Tensor, Tensor> embedding, left, right;

    /// <summary>Creates the encoder.</summary>
    /// <param name="words">Number of word ids, padding included.</param>
    /// <param name="dim">Width d.</param>
    /// <param name="sentences">Sentences S of each document: the channels.</param>
    /// <param name="maxWords">Words L of each sentence, at least 14.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is too small.</exception>
    public TextCnnEncoder(int words, long dim, int sentences, int maxWords) : base(nameof(TextCnnEncoder))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(words, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(sentences, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxWords, FirstKernel - 1 + 2 * LeftKernel);
        (Dim, Sentences, MaxWords) = (dim, sentences, maxWords);
        embedding = nn.Embedding(words, dim, padding_idx: 0);
        (left, right) = (Layers(LeftKernel), Layers(RightKernel));
        RegisterComponents();

        Module<Tensor, Tensor> Layers(int kernel) => nn.Sequential(
            nn.Conv2d(sentences, sentences, (FirstKernel, 1)), nn.BatchNorm2d(sentences), nn.ReLU(), nn.MaxPool2d((2, 1)),
            nn.Conv2d(sentences, sentences, (kernel, 1)), nn.BatchNorm2d(sentences), nn.ReLU());
    }

    /// <inheritdoc/>
    public override long Dim { get; }

    /// <summary>Sentences of each document.</summary>
    public int Sentences { get; }

    /// <summary>Words of each sentence.</summary>
    public int MaxWords { get; }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input1, DocumentSide input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        if (input1.dim() != 3 || input1.shape[1] != Sentences || input1.shape[2] != MaxWords)
            throw new ArgumentException($"Documents must be [n, {Sentences}, {MaxWords}]; got [{string.Join(",", input1.shape)}].", nameof(input1));
        using var scope = NewDisposeScope();
        Tensor words = (input2 == DocumentSide.Left ? left : right).forward(embedding.forward(input1)).amax([2]);
        return (input2 == DocumentSide.Left ? words.mean([1]) : words.amax([1])).MoveToOuterDisposeScope();
    }
}
