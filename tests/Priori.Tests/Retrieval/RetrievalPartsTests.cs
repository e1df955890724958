using System.Linq.Expressions;
using Microsoft.Extensions.VectorData;
using Priori.Data;
using Priori.Metrics;
using Priori.Numerics;
using Priori.Retrieval;

namespace Priori.Tests.Retrieval;

public sealed class RetrievalPartsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-retrieval-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(string name, string text)
    {
        var path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return path;
    }

    // ---- metrics ----

    [Fact]
    public void Metrics_of_worked_rankings()
    {
        Assert.Equal(0.5, RetrievalMetrics.RecallAtN(["a", "b", "c"], new[] { "b", "x" }, 2));
        Assert.Equal(0, RetrievalMetrics.RecallAtN(["a", "b", "c"], new[] { "b", "x" }, 1));
        int[] ranks = [1, 3, 2, int.MaxValue, 8];
        Assert.Equal(0.6, RetrievalMetrics.RecallAtN(ranks, 3));
        Assert.Equal(8, RetrievalMetrics.CandidatesForRecall(ranks, 0.8));
        Assert.Equal(3, RetrievalMetrics.CandidatesForRecall(ranks, 0.6));
        Assert.Equal(int.MaxValue, RetrievalMetrics.CandidatesForRecall(ranks, 0.81));
        Assert.Equal((1 + 1 / 3.0 + 0.5 + 0.125) / 5, RetrievalMetrics.Mrr(ranks), 12);
        var gains = new Dictionary<string, double> { ["a"] = 3, ["b"] = 1 };
        Assert.Equal(1, RetrievalMetrics.NdcgAtK(["a", "b", "z"], gains, 3), 12);
        Assert.Equal((1 + 3 / Math.Log2(3)) / (3 + 1 / Math.Log2(3)), RetrievalMetrics.NdcgAtK(["b", "a", "z"], gains, 3), 12);
        Assert.Equal(3 / Math.Log2(4) / 3, RetrievalMetrics.NdcgAtK(["y", "z", "a"], new Dictionary<string, double> { ["a"] = 3 }, 3), 12);
        Assert.Throws<ArgumentException>(() => RetrievalMetrics.Mrr([]));
        Assert.Throws<ArgumentOutOfRangeException>(() => RetrievalMetrics.CandidatesForRecall(ranks, 0));
    }

    // ---- k-means ----

    [Fact]
    public void K_means_finds_separate_groups_and_is_deterministic()
    {
        manual_seed(1);
        var centers = tensor(new float[] { 0, 0, 10, 0, 0, 10 }, [3, 2]);
        var data = cat([.. Enumerable.Range(0, 3).Select(c => centers[c] + randn(50, 2) * 0.5)]);
        var result = KMeans.Fit(data, 3, seed: 4);
        var labels = result.Labels.data<long>().ToArray();
        for (var c = 0; c < 3; c++) Assert.Single(labels.Skip(50 * c).Take(50).Distinct());
        Assert.Equal(3, labels.Distinct().Count());
        for (var c = 0; c < 3; c++) // every centre is the mean of its rows
            Assert.True((data[result.Labels == c].mean([0]) - result.Centers[c]).abs().max().item<float>() < 1e-4);
        var distances = cdist(data, result.Centers).square().min(1).values.sum().item<float>();
        Assert.Equal(distances, result.Inertia, 1);
        var again = KMeans.Fit(data, 3, seed: 4);
        Assert.True(result.Centers.Equals(again.Centers));
        Assert.True(KMeans.Assign(data, result.Centers).Equals(result.Labels));
        Assert.True(KMeans.Fit(data, 5, restarts: 4, seed: 4).Inertia <= KMeans.Fit(data, 5, seed: 4).Inertia);
    }

    [Fact]
    public void K_means_bears_fewer_distinct_rows_than_clusters_and_names_bad_arguments()
    {
        Assert.Equal(0, KMeans.Fit(ones(10, 3), 4).Inertia, 6);
        Assert.Throws<ArgumentOutOfRangeException>(() => KMeans.Fit(ones(3, 2), 4));
        Assert.Throws<ArgumentException>(() => KMeans.Fit(full([3, 2], float.NaN), 2));
        Assert.Throws<ArgumentException>(() => KMeans.Assign(ones(3, 2), ones(2, 3)));
    }

    // ---- baselines and tuning ----

    [Fact]
    public void The_single_vector_heuristic_interleaves_neighbours()
    {
        var documents = MultiVectorSet.From([tensor(new float[] { 1, 0, 0, .5f }, [2, 2]), tensor(new float[] { 0, 1 }, [1, 2]), tensor(new float[] { .9f, .1f }, [1, 2])]);
        var query = tensor(new float[] { 1, 0, 0, 1 }, [2, 2]);
        // First neighbours: document 0 (1.0), document 1 (1.0); second: document 2 (0.9), document 0 (0.5).
        Assert.Equal([0, 1, 2, 0], SingleVectorHeuristic.Rank(query, documents, 2));
        Assert.Equal([0, 1, 2], SingleVectorHeuristic.Deduplicate([0, 1, 2, 0]));
    }

    [Fact]
    public void Centroid_pruning_with_all_probes_and_candidates_is_exact()
    {
        var corpus = ConceptCorpus.Generate(new ConceptCorpusOptions(80, 6, 16, 20));
        var index = new CentroidPruningIndex(corpus.Documents, 24);
        for (var i = 0; i < 6; i++)
        {
            var exact = MaxSim.Scores(corpus.Queries[i], corpus.Documents.Vectors, corpus.Documents.Offsets);
            Assert.Equal(exact.argmax().item<long>(), index.Search(corpus.Queries[i], 1, probes: 24, candidates: 80).Positions[0]);
            Assert.True(index.Candidates(corpus.Queries[i][..1], 1, 80).Length < 80); // fewer probes prune
        }
    }

    [Fact]
    public void The_concept_corpus_is_the_same_for_a_seed_and_its_sources_are_the_best_answers()
    {
        var corpus = ConceptCorpus.Generate(new ConceptCorpusOptions(300, 40));
        Assert.True(corpus.Documents.Vectors.Equals(ConceptCorpus.Generate(new ConceptCorpusOptions(300, 40)).Documents.Vectors));
        Assert.All(Enumerable.Range(0, 300), i => Assert.InRange(corpus.Documents[i].shape[0], 16, 40));
        Assert.All(Enumerable.Range(0, 40), i => Assert.Equal(16, corpus.Queries[i].shape[0]));
        Assert.True((corpus.Documents.Vectors.norm(1) - 1).abs().max().item<float>() < 1e-5);
        var best = MaxSim.Scores(corpus.Queries.Vectors, corpus.Queries.Offsets, corpus.Documents.Vectors, corpus.Documents.Offsets).argmax(1).data<long>().ToArray();
        Assert.True(best.Zip(corpus.Sources).Count(pair => pair.First == pair.Second) >= 39);
    }

    [Fact]
    public void The_tuner_marks_the_Pareto_front()
    {
        var corpus = ConceptCorpus.Generate(new ConceptCorpusOptions(150, 30));
        var points = FdeTuner.Run(corpus.Documents, corpus.Queries, FdeTuner.Grid(64, [1, 10], [2, 4], [8, 128]), 5);
        Assert.Equal(4, points.Count); // 128 is above the dimension
        Assert.Equal(points.OrderBy(point => point.Dimension).Select(point => point.Dimension), points.Select(point => point.Dimension));
        foreach (var point in points)
            Assert.Equal(point.Pareto, !points.Any(other => other.Dimension <= point.Dimension && other.Recall >= point.Recall && (other.Dimension, other.Recall) != (point.Dimension, point.Recall)));
        Assert.True(points[^1].Recall > points[0].Recall);
    }

    // ---- text ----

    [Fact]
    public void Texts_are_read_from_Cranfield_JSON_lines_and_tables()
    {
        var cranfield = TextCollection.Read(Write("c.all", ".I 1\n.T\nwing flow\n.A\nsomeone\n.B\nj. ae\n.W\nthe flow past a wing .\n.I 2\n.W\nheat\n"));
        Assert.Equal(["1", "2"], cranfield.Select(text => text.Id));
        Assert.DoesNotContain("someone", cranfield[0].Text, StringComparison.Ordinal);
        Assert.Equal(["wing", "flow", "the", "flow", "past", "a", "wing"], TokenEmbedder.Tokenize(cranfield[0].Text));
        var json = TextCollection.Read(Write("d.jsonl", "{\"_id\": \"x\", \"title\": \"T\", \"text\": \"one\"}\n\n{\"id\": 7, \"contents\": \"two\"}\n"));
        Assert.Equal([new TextDocument("x", "T\none"), new TextDocument("7", "two")], json);
        Assert.Equal([new TextDocument("a", "hello, you"), new TextDocument("b", "x")], TextCollection.Read(Write("e.csv", "doc_id,text\na,\"hello, you\"\nb,x\n")));
        Assert.Contains("line 1", Assert.Throws<InvalidDataException>(() => TextCollection.Read(Write("f.txt", "hello"))).Message, StringComparison.Ordinal);
        Assert.Contains("line 2", Assert.Throws<InvalidDataException>(() => TextCollection.Read(Write("g.jsonl", "{\"text\":\"a\"}\n[1"))).Message, StringComparison.Ordinal);
        Assert.Contains("more than once", Assert.Throws<InvalidDataException>(() => TextCollection.Read(Write("h.csv", "id,text\na,b\na,c\n"))).Message, StringComparison.Ordinal);
        Assert.Contains("text column", Assert.Throws<InvalidDataException>(() => TextCollection.Read(Write("i.csv", "id,words\na,b\n"))).Message, StringComparison.Ordinal);
        var qrels = TextCollection.ReadJudgments(Write("qrels", "q1 0 d1 2\nq1 d2  1\nq2\td1\t0\n"));
        Assert.Equal(2, qrels["q1"]["d1"]);
        Assert.Equal(1, qrels["q1"]["d2"]);
        Assert.Contains("line 2", Assert.Throws<InvalidDataException>(() => TextCollection.ReadJudgments(Write("bad", "q d 1\nq d\n"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_Cranfield_folder_names_queries_by_position_and_turns_codes_into_gains()
    {
        Write("cran.all.1400", ".I 1\n.W\na\n.I 2\n.W\nb\n");
        Write("cran.qry", ".I 001\n.W\nfirst\n.I 004\n.W\nsecond\n");
        Write("cranqrel", "1 2 1\n2 1 4 \n2 2  -1\n");
        var collection = TextCollection.ReadCranfieldFolder(_folder);
        Assert.Equal([new TextDocument("1", "first"), new TextDocument("2", "second")], collection.Queries);
        Assert.Equal(4, collection.Judgments["1"]["2"]);
        Assert.Equal(new Dictionary<string, double> { ["1"] = 1 }, collection.Judgments["2"]);
    }

    [Fact]
    public void Word_vectors_put_words_of_one_company_together()
    {
        var random = new Priori.Runtime.SplitMix64(3);
        string[][] topics = [["wing", "lift", "drag", "flow"], ["heat", "slab", "cooling", "conduction"]];
        var texts = Enumerable.Range(0, 300).Select(i => string.Join(' ', Enumerable.Range(0, 12).Select(_ => topics[i % 2][random.Next(4)]))).ToArray();
        var embedder = TokenEmbedder.Train(texts, dimension: 6);
        Assert.Equal(8, embedder.Words.Count);
        float Cosine(string a, string b) => embedder.Embed(a)[0].dot(embedder.Embed(b)[0]).item<float>();
        Assert.True(Cosine("wing", "lift") > Cosine("wing", "slab") + 0.5f);
        var tokens = embedder.Embed("Wing unknown, heat wing slab");
        Assert.Equal([4L, 6], tokens.shape);
        Assert.True((tokens.norm(1) - 1).abs().max().item<float>() < 1e-5);
        var words = new[] { "wing", "heat", "wing", "slab" }.Select(word => embedder.Vectors[embedder.Words.ToList().IndexOf(word)]).ToArray();
        Assert.True((functional.normalize(words[0] + words[1] + words[2], dim: 0) - tokens[0]).abs().max().item<float>() < 1e-5); // two neighbours on the right, none on the left
        Assert.Equal(0, embedder.Embed("nothing known").shape[0]);
        Assert.Throws<ArgumentException>(() => TokenEmbedder.Train(["one two three"]));
    }

    [Fact]
    public void Token_vectors_are_read_from_arrays_and_tables()
    {
        var set = new MultiVectorSet(arange(8, ScalarType.Float32).view(4, 2), [0, 1, 4], ["a", "b"]);
        Npz.Write(Path.Combine(_folder, "v.npz"), new Dictionary<string, Tensor> { ["vectors"] = set.Vectors, ["offsets"] = tensor(set.Offsets) });
        Safetensors.Write(Path.Combine(_folder, "v.safetensors"), new Dictionary<string, Tensor> { ["flat"] = set.Vectors, ["offsets"] = tensor(set.Offsets) });
        Write("v.ids.txt", "a\nb\n");
        var table = Write("t.csv", "doc_id,vec_0,vec_1\na,0,1\nb,2,3\nb,4,5\nb,6,7\n");
        foreach (var path in new[] { Path.Combine(_folder, "v.npz"), Path.Combine(_folder, "v.safetensors"), table })
        {
            var read = MultiVectorFile.Read(path);
            Assert.Equal(set.Ids, read.Ids);
            Assert.Equal(set.Offsets, read.Offsets);
            Assert.True(set.Vectors.Equals(read.Vectors));
        }
        Assert.Contains("not together", Assert.Throws<InvalidDataException>(() => MultiVectorFile.Read(Write("u.csv", "id,x\na,0\nb,2\na,4\n"))).Message, StringComparison.Ordinal);
        Assert.Contains("row 2", Assert.Throws<InvalidDataException>(() => MultiVectorFile.Read(Write("w.csv", "id,x\na,0\nb,no\n"))).Message, StringComparison.Ordinal);
        Npz.Write(Path.Combine(_folder, "bad.npz"), new Dictionary<string, Tensor> { ["vectors"] = set.Vectors, ["offsets"] = tensor(new long[] { 0, 9, 4 }) });
        Assert.Contains("bad.npz", Assert.Throws<InvalidDataException>(() => MultiVectorFile.Read(Path.Combine(_folder, "bad.npz"))).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidDataException>(() => MultiVectorFile.Read(Write("x.txt", "")));
    }

    // ---- vector stores ----

    [Fact]
    public async Task Any_vector_store_serves_multi_vector_search()
    {
        var corpus = ConceptCorpus.Generate(new ConceptCorpusOptions(60, 10, 16, 30));
        using var encoder = new FixedDimensionalEncoder(new FdeConfig(16, 10, 3, 8));
        using var store = new InMemoryCollection();
        var documents = new MultiVectorCollection(store, encoder);
        for (var i = 0; i < 60; i++) await documents.UpsertAsync(corpus.Documents.Ids[i], corpus.Documents[i]);
        for (var i = 0; i < 10; i++)
        {
            var exact = MaxSim.Scores(corpus.Queries[i], corpus.Documents.Vectors, corpus.Documents.Offsets);
            var found = await documents.SearchAsync(corpus.Queries[i], topK: 3, candidates: 60);
            Assert.Equal(exact.topk(3).indexes.data<long>().Select(p => corpus.Documents.Ids[(int)p]), found.Select(item => item.Id));
            Assert.Equal(exact.max().item<float>(), found[0].Score, 3);
        }
        var id = (await documents.SearchAsync(corpus.Queries[0], 1))[0].Id;
        await documents.DeleteAsync(id);
        Assert.NotEqual(id, (await documents.SearchAsync(corpus.Queries[0], 1))[0].Id);
        var vector = Assert.Single(MultiVectorRecord.Definition(encoder).Properties.OfType<VectorStoreVectorProperty>());
        Assert.Equal((encoder.OutputDimension, DistanceFunction.DotProductSimilarity), (vector.Dimensions, vector.DistanceFunction));
        await store.UpsertAsync(new MultiVectorRecord { Key = "broken", Encoding = new float[encoder.OutputDimension], Tokens = [1, 2, 3] });
        await Assert.ThrowsAsync<InvalidDataException>(() => documents.SearchAsync(corpus.Queries[0], 60));
    }

    private sealed class InMemoryCollection : VectorStoreCollection<string, MultiVectorRecord>
    {
        private readonly Dictionary<string, MultiVectorRecord> _records = [];

        public override string Name => "documents";

        public override Task<bool> CollectionExistsAsync(CancellationToken cancellationToken = default) => Task.FromResult(true);

        public override Task EnsureCollectionExistsAsync(CancellationToken cancellationToken = default) => Task.CompletedTask;

        public override Task EnsureCollectionDeletedAsync(CancellationToken cancellationToken = default) => Task.CompletedTask;

        public override Task<MultiVectorRecord?> GetAsync(string key, RecordRetrievalOptions? options = null, CancellationToken cancellationToken = default) => Task.FromResult(_records.GetValueOrDefault(key));

        public override IAsyncEnumerable<MultiVectorRecord> GetAsync(Expression<Func<MultiVectorRecord, bool>> filter, int top, FilteredRecordRetrievalOptions<MultiVectorRecord>? options = null, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override Task DeleteAsync(string key, CancellationToken cancellationToken = default)
        {
            _records.Remove(key);
            return Task.CompletedTask;
        }

        public override Task UpsertAsync(MultiVectorRecord record, CancellationToken cancellationToken = default)
        {
            _records[record.Key] = record;
            return Task.CompletedTask;
        }

        public override async Task UpsertAsync(IEnumerable<MultiVectorRecord> records, CancellationToken cancellationToken = default)
        {
            foreach (var record in records) await UpsertAsync(record, cancellationToken);
        }

        public override async IAsyncEnumerable<VectorSearchResult<MultiVectorRecord>> SearchAsync<TInput>(
            TInput searchValue, int top, VectorSearchOptions<MultiVectorRecord>? options = null, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken = default)
        {
            var query = ((ReadOnlyMemory<float>)(object)searchValue!).ToArray();
            await Task.Yield();
            foreach (var (record, score) in _records.Values.Select(record => (record, record.Encoding.ToArray().Zip(query, (a, b) => a * b).Sum())).OrderByDescending(item => item.Item2).Take(top))
                yield return new VectorSearchResult<MultiVectorRecord>(record, score);
        }

        public override object? GetService(Type serviceType, object? serviceKey = null) => null;
    }
}
