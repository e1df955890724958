using Priori.Data;
using Priori.Nn;
using Priori.Recommendation;
using Priori.Tests.Data;
using Priori.Tests.Nn;
using Priori.Training;

namespace Priori.Tests.Recommendation;

public class JobMatchingTests
{
    private static readonly IReadOnlyList<string>[] LeftKeywords = [["sql", "c"], ["java"], []], RightKeywords = [["sql"], ["c", "java", "c"]];

    [Fact]
    public void The_graph_joins_documents_with_keywords_and_categories_both_ways_and_holds_no_labels()
    {
        using var graph = MatchingGraph.FromKeywords(LeftKeywords, RightKeywords, ["it", null, "it"], ["it", "law"]);
        Assert.Equal(["c", "java", "sql"], graph.Keywords);
        Assert.Equal(["it", "law"], graph.Categories);
        Assert.Equal(10, graph.Nodes);
        Assert.Equal([3, 3, 3, 3, 2, 2, 2, 2], graph.Graph.EdgesOfRelation);
        Assert.Equal(0, graph.Isolated);
        // Documents are joined with keywords (nodes 5-7) and categories (8, 9) only: never with each other.
        long[] edges = graph.Edges.data<long>().ToArray();
        Assert.All(Enumerable.Range(0, edges.Length / 3), e => Assert.True(edges[3 * e] < 5 != edges[3 * e + 1] < 5));
        Tensor h = eye(10);
        Assert.Equal([1f, 0, 0, 0, 0, 0, 0, 0, 0, 0], graph.Graph.Messages(h, 0)[5].data<float>().ToArray()); // c: left document 0 alone has it
        Assert.Equal([0f, 0, 0, 0, 0, .5f, 0, .5f, 0, 0], graph.Graph.Messages(h, 1)[0].data<float>().ToArray()); // left document 0: mean of c and sql
        Assert.Equal(0, graph.Graph.Messages(h, 1)[2].sum().ToSingle());
        using var copy = new MatchingGraph(3, 2, graph.Keywords, graph.Categories, graph.Edges);
        Assert.Equal(edges, copy.Edges.data<long>().ToArray());
        Assert.Throws<ArgumentException>(() => new MatchingGraph(3, 2, [], [], tensor(new long[] { 0, 1, 8 }, [1, 3])));
        Assert.Throws<ArgumentException>(() => MatchingGraph.FromKeywords([], RightKeywords));
        Assert.Throws<ArgumentException>(() => MatchingGraph.FromKeywords(LeftKeywords, RightKeywords, ["it"]));
    }

    [Fact]
    public void Pairs_have_binary_labels_and_negatives_are_new_each_round()
    {
        Assert.Contains("pair 1 is 2", Assert.Throws<ArgumentException>(() => Pairs([0, 1], [0, 0], [1, 2])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => Pairs([], [], []));
        MatchingPairs known = Pairs([0, 1, 2, 3], [0, 1, 2, 3], [1, 1, 1, 1]);
        MatchingPairs negatives = MatchingPairs.Negatives(6, 6, known, 10, 3, seed: 1);
        Assert.Equal((30, 0.0), (negatives.Count, negatives.PositiveShare));
        var drawn = negatives.Left.data<long>().ToArray().Zip(negatives.Right.data<long>().ToArray()).ToArray();
        Assert.DoesNotContain(drawn, p => p.First == p.Second && p.First < 4);
        Assert.All(drawn.Chunk(10), round => Assert.Equal(10, round.Distinct().Count()));
        Assert.NotEqual(drawn[..10], drawn[10..20]);
        Assert.Throws<ArgumentException>(() => MatchingPairs.Negatives(3, 3, known, 5, 1, 0));

        var sampler = new FreshNegativesSampler(4, 10);
        Assert.Equal([.. Enumerable.Range(0, 4), .. Enumerable.Range(14, 10)], sampler.Order(34, 1, 1, 0).data<long>().ToArray().Order().Select(r => (int)r));
        Assert.Equal(sampler.Order(34, 1, 0, 0).data<long>().ToArray().Order(), sampler.Order(34, 1, 3, 0).data<long>().ToArray().Order());
        Assert.NotEqual(sampler.Order(34, 1, 0, 0).data<long>().ToArray(), sampler.Order(34, 2, 0, 0).data<long>().ToArray());
    }

    [Fact]
    public void Every_encoder_gives_documents_vectors_that_padding_does_not_change()
    {
        manual_seed(1);
        var random = randint(1, 9, [5, 3, 14], ScalarType.Int64);
        foreach (DocumentEncoderKind kind in Enum.GetValues<DocumentEncoderKind>())
        {
            using var encoder = DocumentEncoder.Create(new DocumentEncoderOptions { Kind = kind, Words = 9, Dim = 8, MaxSentences = 3, MaxWords = 14, Heads = 2, Bert = BertTests.Tiny });
            encoder.eval();
            Tensor documents = random.clone();
            documents[1, 1..].zero_(); // one sentence
            documents[2].zero_(); // no word
            Tensor vectors = encoder.forward(documents, DocumentSide.Right);
            Assert.Equal([5, 8], vectors.shape);
            vectors.sum().backward();
            Assert.All(encoder.parameters().Where(p => p.grad is not null), p => Assert.False(p.grad!.isnan().any().item<bool>()));
            if (kind == DocumentEncoderKind.Cnn)
            {
                Assert.NotEqual(vectors[0].data<float>().ToArray(), encoder.forward(documents, DocumentSide.Left)[0].data<float>().ToArray());
                Assert.Throws<ArgumentException>(() => encoder.forward(documents[.., ..2], DocumentSide.Left));
                continue;
            }
            Assert.Equal(0, vectors[2].abs().sum().ToSingle());
            Assert.Equal(vectors[1].data<float>().ToArray(), encoder.forward(documents[1..2, ..1], DocumentSide.Right)[0].data<float>().ToArray(), (a, b) => Math.Abs(a - b) < 1e-5);
            // The order of sentences matters exactly where there is a Transformer with positions.
            Tensor swapped = encoder.forward(documents.index_select(1, tensor(new long[] { 1, 0, 2 })), DocumentSide.Right);
            Assert.Equal(kind == DocumentEncoderKind.Attention, allclose(vectors[0], swapped[0], atol: 1e-5));
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => new TextCnnEncoder(9, 8, 3, 13));
        Assert.Throws<ArgumentException>(() => DocumentEncoder.Create(new DocumentEncoderOptions { Kind = DocumentEncoderKind.Bert }));
    }

    [Fact]
    public void The_convolutional_encoder_is_the_public_code_s()
    {
        manual_seed(2);
        using var encoder = new TextCnnEncoder(20, 4, 2, 16);
        encoder.eval();
        Tensor documents = randint(0, 20, [3, 2, 16], ScalarType.Int64);
        var w = encoder.state_dict();
        foreach (var (side, name, kernel) in new[] { (DocumentSide.Left, "left", 5), (DocumentSide.Right, "right", 3) })
        {
            Tensor x = w["embedding.weight"].index_select(0, documents.view(-1)).view(3, 2, 16, 4);
            Tensor Layer(Tensor input, int index, int size) // convolution over words, batch normalisation at rest (mean 0, variance 1), ReLU
            {
                long outLength = input.shape[2] - size + 1;
                Tensor sum = w[$"{name}.{index}.bias"].view(1, 2, 1, 1).expand(3, 2, outLength, 4);
                for (int t = 0; t < size; t++) sum = sum + einsum("oc,nclj->nolj", w[$"{name}.{index}.weight"][.., .., t, 0], input.narrow(2, t, outLength));
                return functional.relu(sum / Math.Sqrt(1 + 1e-5));
            }
            x = Layer(x, 0, 5);
            x = maximum(x.index_select(2, arange(0, 12, 2, ScalarType.Int64)), x.index_select(2, arange(1, 12, 2, ScalarType.Int64)));
            x = Layer(x, 4, kernel).amax([2]);
            Assert.True(allclose(side == DocumentSide.Left ? x.mean([1]) : x.amax([1]), encoder.forward(documents, side), atol: 1e-5));
        }
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, true)]
    public void A_view_s_loss_moves_its_own_weights_alone(bool init, bool features)
    {
        using var model = Model(new MultiViewOptions { NodeDim = 6, MatchHidden = 6, ShareInit = init, ShareFeatures = features });
        var (text, relation) = model.Logits(tensor(new long[] { 0, 1, 1, 2 }), tensor(new long[] { 0, 0, 1, 1 }));
        text.sum().backward(retain_graph: true);
        Assert.Contains(model.Text.parameters(), p => p.grad is not null);
        Assert.All(model.Relation.parameters(), p => Assert.Null(p.grad));
        foreach (var p in model.Text.parameters()) p.grad = null;
        relation.sum().backward();
        Assert.All(model.Text.parameters(), p => Assert.Null(p.grad));
        Assert.Contains(model.Relation.parameters(), p => p.grad is not null);
    }

    [Fact]
    public void With_the_gradient_option_the_relation_view_trains_the_text_encoder_too()
    {
        using var model = Model(new MultiViewOptions { NodeDim = 6, MatchHidden = 6, InitGradient = true });
        model.Logits(tensor(new long[] { 0 }), tensor(new long[] { 0 })).Relation.sum().backward();
        Assert.Contains(model.Text.Encoder.parameters(), p => p.grad is not null && p.grad.abs().sum().ToSingle() > 0);
        Assert.All(model.Text.Matcher.parameters(), p => Assert.Null(p.grad));
        Assert.Throws<ArgumentException>(() => Model(new MultiViewOptions { InitGradient = true, ShareInit = false }));
        Assert.Throws<ArgumentException>(() => Model(new MultiViewOptions { InitGradient = true, RefreshEvery = 2 }));
    }

    [Fact]
    public void In_joint_training_without_sharing_the_text_view_does_not_know_of_the_relation_view()
    {
        var options = new MultiViewOptions { NodeDim = 6, MatchHidden = 6, ShareInit = false, ShareFeatures = false };
        byte[] two = Train(options, CoTeachingMode.Joint).Text, one = Train(options with { GraphLayers = 1 }, CoTeachingMode.Joint).Text;
        Assert.Equal(two, one);
        Assert.NotEqual(two, Train(options, CoTeachingMode.Filter).Text);
        Assert.NotEqual(two, Train(options with { ShareFeatures = true }, CoTeachingMode.Joint).Text);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_killed_run_ends_with_the_weights_of_one_that_was_not(int refreshEvery)
    {
        using var folder = new TemporaryFolder();
        var options = new MultiViewOptions { NodeDim = 6, MatchHidden = 6, RefreshEvery = refreshEvery };
        byte[] whole = Train(options, CoTeachingMode.Filter).All;
        Assert.Throws<OperationCanceledException>(() => Train(options, CoTeachingMode.Filter, folder.File("checkpoints"), stopAt: 8));
        Assert.Equal(whole, Train(options, CoTeachingMode.Filter, folder.File("checkpoints")).All);
        Assert.NotEqual(whole, Train(options with { RefreshEvery = 4 - refreshEvery }, CoTeachingMode.Filter).All);
    }

    [Fact]
    public void Ranking_a_known_document_anew_gives_its_scores_and_new_documents_do_not_touch_each_other()
    {
        using var model = Model(new MultiViewOptions { NodeDim = 6, MatchHidden = 6, ShareFeatures = false });
        Tensor documents = Documents().Left;
        MatchScores known = model.Predict(tensor(new long[] { 0, 0 }), tensor(new long[] { 0, 1 }));
        MatchScores ranked = model.Rank(documents, [LeftKeywords[0], ["unknown"], []], null);
        Assert.Equal([3, 2], ranked.Ensemble.shape);
        Assert.True(allclose(known.Text, ranked.Text[0], atol: 1e-6));
        Assert.True(allclose(ranked.Ensemble[1], model.Rank(documents[1..2], [["unknown"]], [null]).Ensemble[0], atol: 1e-6));
        Assert.True(allclose(ranked.Relation[1], model.Rank(documents[1..2], [[]], ["no such category"]).Relation[0], atol: 1e-6));
        Assert.InRange(known.Disagreement, 0, 1);
        Assert.True(allclose((known.Text + known.Relation) / 2, known.Ensemble));
        // Nodes start from texts, and one layer deep a copy hears what the original hears: it is as good.
        using var shallow = Model(new MultiViewOptions { NodeDim = 6, MatchHidden = 6, GraphLayers = 1 });
        Assert.True(allclose(shallow.Predict(tensor(new long[] { 0, 0 }), tensor(new long[] { 0, 1 })).Relation, shallow.Rank(documents[0..1], [LeftKeywords[0]], ["it"]).Relation[0], atol: 1e-6));

        using var learned = Model(new MultiViewOptions { NodeDim = 6, MatchHidden = 6, ShareInit = false });
        Assert.Equal([1, 2], learned.Rank(documents[..1], [["sql"]]).Ensemble.shape);
        Assert.Throws<ArgumentException>(() => model.Rank(documents, [[]]));
        using var graph = MatchingGraph.FromKeywords(LeftKeywords, RightKeywords);
        using var encoder = DocumentEncoder.Create(new DocumentEncoderOptions { Words = 9, Dim = 8 });
        Assert.Throws<ArgumentException>(() => new MultiViewMatcher(encoder, graph, documents[..2], Documents().Right));
        Assert.Throws<ArgumentException>(() => new MultiViewMatcher(encoder, graph, documents[..0], Documents().Right));
    }

    [Fact]
    public void A_saved_matcher_gives_the_same_scores()
    {
        var options = new MultiViewOptions { NodeDim = 6, MatchHidden = 6, Bases = 2 };
        using var model = Model(options);
        manual_seed(9);
        using var other = Model(options, seed: 9);
        Tensor left = tensor(new long[] { 0, 1 }), right = tensor(new long[] { 1, 0 });
        float[] scores = model.Predict(left, right).Ensemble.data<float>().ToArray();
        Assert.NotEqual(scores, other.Predict(left, right).Ensemble.data<float>().ToArray());
        other.Load(model.State());
        Assert.Equal(scores, other.Predict(left, right).Ensemble.data<float>().ToArray());
    }

    private static MatchingPairs Pairs(long[] left, long[] right, float[] labels) => new(tensor(left), tensor(right), tensor(labels));

    private static (Tensor Left, Tensor Right) Documents()
        => (tensor(new long[] { 1, 2, 3, 4, 0, 0, 5, 6, 7, 8, 1, 0, 2, 2, 0, 0, 0, 0 }, [3, 2, 3]), tensor(new long[] { 3, 3, 1, 0, 0, 0, 8, 7, 6, 2, 0, 0 }, [2, 2, 3]));

    private static MultiViewMatcher Model(MultiViewOptions options, int seed = 5)
    {
        manual_seed(seed);
        var graph = MatchingGraph.FromKeywords(LeftKeywords, RightKeywords, ["it", null, "it"], ["it", "law"]);
        var (left, right) = Documents();
        return new MultiViewMatcher(DocumentEncoder.Create(new DocumentEncoderOptions { Words = 9, Dim = 8, MaxSentences = 2, MaxWords = 3 }), graph, left, right, options);
    }

    private static (byte[] Text, byte[] All) Train(MultiViewOptions options, CoTeachingMode mode, string? folder = null, int? stopAt = null)
    {
        JobMarket market = JobMarket.Generate(3, new JobMarketOptions { Jobs = 30, Resumes = 30, Words = 60, DocumentWords = 8, Keywords = 12 });
        var (jobs, resumes, labels) = market.Pairs(96, 1);
        var vocabulary = WordVocabulary.Learn(market.Jobs.Concat(market.Resumes).Select(d => d.Text), 1);
        Tensor Encode(IReadOnlyList<JobMarketDocument> of) => vocabulary.Documents([.. of.Select(d => d.Text)], 1, 8);
        using var graph = MatchingGraph.FromKeywords([.. market.Jobs.Select(d => d.KeywordNames)], [.. market.Resumes.Select(d => d.KeywordNames)]);
        manual_seed(5);
        var encoder = DocumentEncoder.Create(new DocumentEncoderOptions { Words = vocabulary.Count, Dim = 6, MaxSentences = 1, MaxWords = 8 });
        var matcher = new MultiViewMatcher(encoder, graph, Encode(market.Jobs), Encode(market.Resumes), options);
        using var learner = new MultiViewLearner(matcher, 96, new CoTeachingOptions { Mode = mode, WarmupEpochs = 2 }, 1e-2);
        using var stop = new CancellationTokenSource();
        int steps = 0;
        IBatchSource source = new MatchingPairs(tensor(jobs), tensor(resumes), tensor(labels)).Source();
        new Trainer(new TrainerOptions { Epochs = 4, BatchSize = 16, Seed = 2, CheckpointFolder = folder }).Fit(learner, new Counting(source, () =>
        {
            if (++steps == stopAt) stop.Cancel();
        }), _ => new Dictionary<string, double> { ["x"] = matcher.Predict(tensor(jobs), tensor(resumes)).Ensemble.mean().ToDouble() }, stop.Token);
        byte[] text = [.. matcher.Text.parameters().SelectMany(p => p.bytes.ToArray())];
        return (text, [.. learner.Modules.Values.SelectMany(m => m.state_dict().Values).SelectMany(t => t.bytes.ToArray())]);
    }

    private sealed class Counting(IBatchSource source, Action seen) : IBatchSource
    {
        public long Count => source.Count;

        public Batch Get(Tensor rows, Device device)
        {
            seen();
            return source.Get(rows, device);
        }
    }
}
