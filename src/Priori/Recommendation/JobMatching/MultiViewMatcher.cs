using Priori.Nn;
using Priori.Training;
using Parameter = TorchSharp.Modules.Parameter;

namespace Priori.Recommendation;

/// <summary>Settings of <see cref="MultiViewMatcher"/>.</summary>
public sealed record MultiViewOptions
{
    /// <summary>Width of node states; default 64.</summary>
    public long NodeDim { get; init; } = 64;

    /// <summary>Layers of the relational graph network; default 2.</summary>
    public int GraphLayers { get; init; } = 2;

    /// <summary>Bases of its relation matrices; null gives each relation its own.</summary>
    public int? Bases { get; init; }

    /// <summary>Hidden width of the match networks; default 64.</summary>
    public long MatchHidden { get; init; } = 64;

    /// <summary>Representation enhancement, first part: document nodes start from the text view's document vectors instead of learned vectors. Default true.</summary>
    public bool ShareInit { get; init; } = true;

    /// <summary>Representation enhancement, second part: each view's match network also sees the other view's pair features, without gradient. Default true.</summary>
    public bool ShareFeatures { get; init; } = true;

    /// <summary>With <see cref="ShareInit"/>: whether the relation view's loss trains the text encoder through the documents of the batch. Otherwise document vectors are constants, refreshed every epoch. Default false.</summary>
    public bool InitGradient { get; init; }

    /// <summary>Node states are computed anew every so many batches; in between they are constants, and only the match network of the relation view learns. Default 1.</summary>
    public int RefreshEvery { get; init; } = 1;
}

/// <summary>Match probabilities of both views, of any shape.</summary>
/// <param name="Text">By the text view.</param>
/// <param name="Relation">By the relation view.</param>
public sealed record MatchScores(Tensor Text, Tensor Relation)
{
    /// <summary>Their mean: the prediction.</summary>
    public Tensor Ensemble => (Text + Relation) / 2;

    /// <summary>Share of pairs on which the views decide differently at 0.5. Views that never differ cannot teach each other.</summary>
    public double Disagreement => Text.ge(0.5).ne(Relation.ge(0.5)).to(ScalarType.Float64).mean().ToDouble();
}

/// <summary>Scores a pair from its features [h_l * h_r, |h_l - h_r|] by a network with one hidden layer.</summary>
public sealed class PairMatcher : Module<Tensor, Tensor>
{
    private readonly Mlp network;

    /// <summary>Creates the network.</summary>
    /// <param name="features">Width of the features.</param>
    /// <param name="hidden">Hidden width.</param>
    public PairMatcher(long features, long hidden) : base(nameof(PairMatcher))
    {
        network = new Mlp(features, [hidden], 1);
        RegisterComponents();
    }

    /// <summary>Features [n, 2 d] of pairs.</summary>
    /// <param name="left">Left vectors [n, d], or [1, d] for all.</param>
    /// <param name="right">Right vectors [n, d].</param>
    public static Tensor Features(Tensor left, Tensor right)
    {
        using var scope = NewDisposeScope();
        return cat([left * right, (left - right).abs()], -1).MoveToOuterDisposeScope();
    }

    /// <summary>Logits [n] of pair features [n, features].</summary>
    public override Tensor forward(Tensor input) => network.forward(input).squeeze(-1);
}

/// <summary>View A: documents by their texts.</summary>
public sealed class TextView : Module
{
    private readonly DocumentEncoder encoder;
    private readonly PairMatcher matcher;

    internal TextView(DocumentEncoder encoder, long otherFeatures, MultiViewOptions options) : base(nameof(TextView))
    {
        this.encoder = encoder;
        matcher = new PairMatcher(2 * encoder.Dim + otherFeatures, options.MatchHidden);
        RegisterComponents();
    }

    /// <summary>The document encoder.</summary>
    public DocumentEncoder Encoder => encoder;

    /// <summary>The match network.</summary>
    public PairMatcher Matcher => matcher;
}

/// <summary>View B: documents by their place in the relation graph.</summary>
public sealed class RelationView : Module
{
    private readonly Parameter nodes;
    private readonly Module<Tensor, Tensor>? projection;
    private readonly RelationalGraphConv[] convolutions;
    private readonly TorchSharp.Modules.ModuleList<Module<Tensor, RelationalGraph, Tensor>> layers;
    private readonly PairMatcher matcher;
    private readonly MatchingGraph graph;
    private readonly Tensor documents, refreshed, states, step;

    internal RelationView(MatchingGraph graph, long textDim, long otherFeatures, MultiViewOptions options) : base(nameof(RelationView))
    {
        this.graph = graph;
        int documentNodes = graph.Left + graph.Right, learned = options.ShareInit ? graph.Nodes - documentNodes : graph.Nodes;
        nodes = new Parameter(randn(Math.Max(learned, 1), options.NodeDim));
        if (options.ShareInit) projection = nn.Linear(textDim, options.NodeDim);
        convolutions = [.. Enumerable.Range(0, options.GraphLayers).Select(_ => new RelationalGraphConv(options.NodeDim, options.NodeDim, MatchingGraph.RelationNames.Count, options.Bases))];
        layers = ModuleList<Module<Tensor, RelationalGraph, Tensor>>([.. convolutions]);
        matcher = new PairMatcher(2 * options.NodeDim + otherFeatures, options.MatchHidden);
        // What is carried from batch to batch and epoch to epoch, so that a run that was killed continues alike.
        documents = zeros(options.ShareInit ? documentNodes : 0, textDim);
        refreshed = full([1], -1, ScalarType.Int64);
        states = zeros(options.RefreshEvery > 1 ? graph.Nodes : 0, options.NodeDim);
        step = zeros(1, ScalarType.Int64);
        RegisterComponents();
    }

    /// <summary>The match network.</summary>
    public PairMatcher Matcher => matcher;

    internal bool SharesInit => projection is not null;

    /// <summary>Whether the document vectors of this epoch are still to be set.</summary>
    internal bool IsStale(int epoch) => SharesInit && refreshed.item<long>() != epoch;

    /// <summary>Sets the text view's vectors of all documents.</summary>
    internal void SetDocuments(Tensor vectors, int epoch)
    {
        using var gradientsOff = no_grad();
        documents.copy_(vectors);
        refreshed.fill_(epoch);
    }

    /// <summary>Node states [nodes, d] for one training batch: of this batch, or those of an earlier one.</summary>
    internal Tensor BatchStates(int refreshEvery, (Tensor Rows, Tensor Vectors)? live)
    {
        if (refreshEvery == 1) return States(live is { } batch ? documents.index_copy(0, batch.Rows, batch.Vectors) : documents);
        using var gradientsOff = no_grad();
        bool fresh = step.item<long>() % refreshEvery == 0;
        step.add_(1);
        if (!fresh) return states.clone();
        Tensor current;
        using (enable_grad()) current = States(documents);
        states.copy_(current);
        return current;
    }

    /// <summary>Node states from document vectors (where they are shared). New left documents, if any, are the last nodes of their graph.</summary>
    internal Tensor States(Tensor vectors, RelationalGraph? extended = null, Tensor? newVectors = null)
    {
        Tensor h = nodes;
        if (projection is not null)
        {
            Tensor learned = nodes.narrow(0, 0, graph.Keywords.Count + graph.Categories.Count);
            h = cat([projection.forward(vectors), learned]);
            if (newVectors is not null) h = cat([h, projection.forward(newVectors)]);
        }
        else if (extended is not null)
        {
            h = cat([h, zeros([extended.Nodes - graph.Nodes, h.shape[1]], device: h.device)]); // unseen documents have no learned vector
        }
        foreach (RelationalGraphConv convolution in convolutions) h = functional.relu(convolution.forward(h, extended ?? graph.Graph));
        return h;
    }
}

/// <summary>
/// Matching of two kinds of documents from two views (MV-CoN: Bian et al., CIKM 2020): <see cref="TextView"/> and <see cref="RelationView"/>, which share representations and, trained by <see cref="MultiViewLearner"/>, choose training pairs for each other.
/// The views are modules of their own; what they have in common are documents and graph.
/// </summary>
public sealed class MultiViewMatcher : IDisposable
{
    private const int Block = 4096;
    private readonly MultiViewOptions options;
    private readonly MatchingGraph graph;
    private readonly Tensor leftDocuments, rightDocuments;

    /// <summary>Makes both views, on the graph's device.</summary>
    /// <param name="encoder">Encoder of the texts; the matcher owns it.</param>
    /// <param name="graph">Relations of the documents; it stays the caller's.</param>
    /// <param name="left">Left documents, int64 [left, S, L], padded with 0.</param>
    /// <param name="right">Right documents, int64 [right, S, L].</param>
    /// <param name="options">Settings; the defaults when null.</param>
    /// <exception cref="ArgumentException">Documents and graph do not fit, a set is empty, or a setting is out of range.</exception>
    public MultiViewMatcher(DocumentEncoder encoder, MatchingGraph graph, Tensor left, Tensor right, MultiViewOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(encoder);
        ArgumentNullException.ThrowIfNull(graph);
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        this.options = options ?? new MultiViewOptions();
        if (this.options.RefreshEvery < 1 || this.options.GraphLayers < 1) throw new ArgumentException("RefreshEvery and GraphLayers must be at least 1.", nameof(options));
        if (this.options.InitGradient && (!this.options.ShareInit || this.options.RefreshEvery > 1)) throw new ArgumentException("InitGradient needs ShareInit and RefreshEvery 1.", nameof(options));
        if (left.dim() != 3 || right.dim() != 3 || left.shape[0] == 0 || right.shape[0] == 0) throw new ArgumentException($"Documents must be [n, sentences, words] with n at least 1; got [{string.Join(",", left.shape)}] and [{string.Join(",", right.shape)}].", nameof(left));
        if (left.shape[0] != graph.Left || right.shape[0] != graph.Right) throw new ArgumentException($"The graph has {graph.Left} left and {graph.Right} right documents; there are {left.shape[0]} and {right.shape[0]}.", nameof(graph));
        this.graph = graph;
        Text = new TextView(encoder, this.options.ShareFeatures ? 2 * this.options.NodeDim : 0, this.options);
        Relation = new RelationView(graph, encoder.Dim, this.options.ShareFeatures ? 2 * encoder.Dim : 0, this.options);
        leftDocuments = left.to(graph.Device).DetachFromDisposeScope();
        rightDocuments = right.to(graph.Device).DetachFromDisposeScope();
        Text.to(graph.Device);
        Relation.to(graph.Device);
    }

    /// <summary>View A.</summary>
    public TextView Text { get; }

    /// <summary>View B.</summary>
    public RelationView Relation { get; }

    /// <summary>Logits of both views on training pairs, with their graphs, [n] each. Each document of the batch is encoded once.</summary>
    /// <param name="left">Left documents of the pairs, int64 [n].</param>
    /// <param name="right">Right documents, int64 [n].</param>
    public (Tensor Text, Tensor Relation) Logits(Tensor left, Tensor right)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        using var scope = NewDisposeScope();
        var (leftRows, leftOf, _) = left.unique(return_inverse: true);
        var (rightRows, rightOf, _) = right.unique(return_inverse: true);
        Tensor leftVectors = Encode(leftDocuments, leftRows, DocumentSide.Left), rightVectors = Encode(rightDocuments, rightRows, DocumentSide.Right);
        Tensor states = Relation.BatchStates(options.RefreshEvery, options.InitGradient ? (cat([leftRows, rightRows + graph.Left]), cat([leftVectors, rightVectors])) : null);
        Tensor text = PairMatcher.Features(leftVectors.index_select(0, leftOf!), rightVectors.index_select(0, rightOf!));
        Tensor relation = PairMatcher.Features(states.index_select(0, left), states.index_select(0, right + graph.Left));
        var (a, b) = Match(text, relation);
        return (a.MoveToOuterDisposeScope(), b.MoveToOuterDisposeScope());
    }

    /// <summary>Vectors of all documents by the text view in evaluation mode, [left + right, d].</summary>
    public Tensor DocumentVectors()
    {
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        Text.eval();
        return cat([EncodeAll(leftDocuments, DocumentSide.Left), EncodeAll(rightDocuments, DocumentSide.Right)]).MoveToOuterDisposeScope();
    }

    /// <summary>Match probabilities of pairs of known documents, [n] each, in evaluation mode.</summary>
    /// <param name="left">Left documents, int64 [n].</param>
    /// <param name="right">Right documents, int64 [n].</param>
    public MatchScores Predict(Tensor left, Tensor right)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        Relation.eval();
        Tensor vectors = DocumentVectors(), states = Relation.States(vectors);
        var parts = new List<(Tensor A, Tensor B)>();
        for (long start = 0; start < left.shape[0]; start += Block)
        {
            long count = Math.Min(Block, left.shape[0] - start);
            Tensor l = left.narrow(0, start, count).to(graph.Device), r = right.narrow(0, start, count).to(graph.Device) + graph.Left;
            parts.Add(Match(PairMatcher.Features(vectors.index_select(0, l), vectors.index_select(0, r)), PairMatcher.Features(states.index_select(0, l), states.index_select(0, r))));
        }
        return new MatchScores(cat([.. parts.Select(p => p.A)]).sigmoid().MoveToOuterDisposeScope(), cat([.. parts.Select(p => p.B)]).sigmoid().MoveToOuterDisposeScope());
    }

    /// <summary>Match probabilities of new left documents with every right document, [new, right] each, in evaluation mode. The new documents have no influence on each other.</summary>
    /// <param name="documents">The new documents, int64 [new, S, L].</param>
    /// <param name="keywords">Their keywords; unknown ones are passed over.</param>
    /// <param name="categories">Their categories, null for none.</param>
    public MatchScores Rank(Tensor documents, IReadOnlyList<IReadOnlyList<string>> keywords, IReadOnlyList<string?>? categories = null)
    {
        ArgumentNullException.ThrowIfNull(documents);
        ArgumentNullException.ThrowIfNull(keywords);
        if (documents.dim() != 3 || documents.shape[0] == 0 || documents.shape[0] != keywords.Count || (categories is not null && categories.Count != keywords.Count))
            throw new ArgumentException($"There must be at least one document, and keywords and a category for each; got [{string.Join(",", documents.shape)}], {keywords.Count} and {categories?.Count}.", nameof(documents));
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        Text.eval();
        Relation.eval();
        Tensor vectors = EncodeAll(documents.to(graph.Device), DocumentSide.Left), known = DocumentVectors(), candidates = known.narrow(0, graph.Left, graph.Right);
        using RelationalGraph extended = graph.WithNewLeft(keywords, categories);
        Tensor states = Relation.States(known, extended, vectors), right = states.narrow(0, graph.Left, graph.Right), added = states.narrow(0, graph.Nodes, keywords.Count);
        var parts = new List<(Tensor A, Tensor B)>();
        for (int i = 0; i < keywords.Count; i++)
        {
            using var row = NewDisposeScope();
            var (a, b) = Match(PairMatcher.Features(vectors.narrow(0, i, 1), candidates), PairMatcher.Features(added.narrow(0, i, 1), right));
            parts.Add((a.MoveToOuterDisposeScope(), b.MoveToOuterDisposeScope()));
        }
        return new MatchScores(stack([.. parts.Select(p => p.A)]).sigmoid().MoveToOuterDisposeScope(), stack([.. parts.Select(p => p.B)]).sigmoid().MoveToOuterDisposeScope());
    }

    /// <summary>Weights and states of both views, by name.</summary>
    public Dictionary<string, Tensor> State()
        => Text.state_dict().Select(t => (Name: "text." + t.Key, t.Value)).Concat(Relation.state_dict().Select(t => (Name: "relation." + t.Key, t.Value))).ToDictionary(t => t.Name, t => t.Value);

    /// <summary>Takes weights and states that <see cref="State"/> gave.</summary>
    /// <param name="state">Tensors by name; others are passed over.</param>
    public void Load(IReadOnlyDictionary<string, Tensor> state)
    {
        ArgumentNullException.ThrowIfNull(state);
        foreach (var (prefix, module) in new (string, Module)[] { ("text.", Text), ("relation.", Relation) })
            module.load_state_dict(state.Where(t => t.Key.StartsWith(prefix, StringComparison.Ordinal)).ToDictionary(t => t.Key[prefix.Length..], t => t.Value));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Text.Dispose();
        Relation.Dispose();
        leftDocuments.Dispose();
        rightDocuments.Dispose();
    }

    /// <summary>Document vectors for the start of an epoch, once an epoch.</summary>
    internal void Refresh(int epoch)
    {
        if (!Relation.IsStale(epoch)) return;
        using var scope = NewDisposeScope();
        Relation.SetDocuments(DocumentVectors(), epoch);
    }

    private (Tensor A, Tensor B) Match(Tensor text, Tensor relation) => options.ShareFeatures
        ? (Text.Matcher.forward(cat([text, relation.detach()], -1)), Relation.Matcher.forward(cat([relation, text.detach()], -1)))
        : (Text.Matcher.forward(text), Relation.Matcher.forward(relation));

    private Tensor Encode(Tensor documents, Tensor rows, DocumentSide side) => Text.Encoder.forward(documents.index_select(0, rows), side);

    private Tensor EncodeAll(Tensor documents, DocumentSide side)
    {
        const long Documents = 512;
        using var scope = NewDisposeScope();
        var parts = new List<Tensor>();
        for (long start = 0; start < documents.shape[0]; start += Documents) parts.Add(Text.Encoder.forward(documents.narrow(0, start, Math.Min(Documents, documents.shape[0] - start)), side));
        return cat(parts).MoveToOuterDisposeScope();
    }
}

/// <summary>Trains a <see cref="MultiViewMatcher"/> by co-teaching between its views: binary cross-entropy, Adam for each view. The batch columns are left documents, right documents, labels: <see cref="MatchingPairs.Source"/>.</summary>
public sealed class MultiViewLearner : CoTeachingLearner
{
    private readonly MultiViewMatcher matcher;

    /// <summary>Makes a learner; it owns the matcher.</summary>
    /// <param name="matcher">The matcher.</param>
    /// <param name="rows">Training pairs.</param>
    /// <param name="options">Co-teaching; the defaults when null.</param>
    /// <param name="learningRate">Adam's learning rate; default 3e-4, as in MV-CoN's public configuration.</param>
    /// <param name="weightDecay">Adam's L2 penalty; default 0.</param>
    /// <param name="textLearningRate">Adam's learning rate of the text view where it needs another one, as BERT does.</param>
    public MultiViewLearner(MultiViewMatcher matcher, long rows, CoTeachingOptions? options = null, double learningRate = 3e-4, double weightDecay = 0, double? textLearningRate = null)
        : base(matcher.Text, matcher.Relation, batch => Losses(matcher, batch), Adam(matcher.Text, textLearningRate ?? learningRate, weightDecay), Adam(matcher.Relation, learningRate, weightDecay), rows, options, batch => batch[2].to(ScalarType.Int64))
        => this.matcher = matcher;

    /// <inheritdoc/>
    public override void BeginEpoch(int epoch) => matcher.Refresh(epoch);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing) matcher.Dispose();
    }

    private static Optimization Adam(Module view, double learningRate, double weightDecay) => new(optim.Adam(view.parameters(), learningRate, weight_decay: weightDecay));

    private static (SampleLosses A, SampleLosses B) Losses(MultiViewMatcher matcher, Batch batch)
    {
        var (text, relation) = matcher.Logits(batch[0], batch[1]);
        return (Loss(text), Loss(relation));

        SampleLosses Loss(Tensor logits) => new(functional.binary_cross_entropy_with_logits(logits, batch[2], reduction: Reduction.None), logits.detach().gt(0).to(ScalarType.Int64));
    }
}
