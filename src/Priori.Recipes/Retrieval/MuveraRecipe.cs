using System.Globalization;
using System.Text;
using System.Text.Json;
using Priori.Data;
using Priori.Metrics;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Retrieval;
using Priori.Runtime;

namespace Priori.Recipes.Retrieval;

/// <summary>Options of <see cref="MuveraRecipe"/>.</summary>
public sealed record MuveraRecipeOptions : RecipeOptions
{
    /// <summary>Documents of the synthetic corpus.</summary>
    [Option("Documents of the synthetic corpus.", Min = 20)]
    public int Documents { get; init; } = 3000;

    /// <summary>Queries of the synthetic corpus.</summary>
    [Option("Queries of the synthetic corpus.", Min = 5)]
    public int Queries { get; init; } = 300;

    /// <summary>Vector length of the synthetic corpus.</summary>
    [Option("Vector length of the synthetic corpus.", Min = 8)]
    public int Dimension { get; init; } = 64;

    /// <summary>Concepts of the synthetic corpus.</summary>
    [Option("Concepts of the synthetic corpus.", Min = 2)]
    public int Concepts { get; init; } = 400;

    /// <summary>Repetitions.</summary>
    [Option("R, repetitions of an encoding.", Min = 1, Max = 1000)]
    public int Repetitions { get; init; } = 20;

    /// <summary>Hyperplanes of the index of one's own data.</summary>
    [Option("k, hyperplanes of a repetition, for the index of your own data.", Min = 0, Max = 24)]
    public int SimHashBits { get; init; } = 5;

    /// <summary>Block length of the index of one's own data.</summary>
    [Option("d_proj, length of a block, for the index of your own data; at most the vectors' length.", Min = 1)]
    public int ProjectionDimension { get; init; } = 16;

    /// <summary>Search of the index of one's own data.</summary>
    [Option("How the index of your own data searches encodings.")]
    public MuveraSearch Search { get; init; } = MuveraSearch.Exact;

    /// <summary>Candidates.</summary>
    [Option("W, candidates that are reranked.", Min = 1)]
    public int Candidates { get; init; } = 100;

    /// <summary>Results.</summary>
    [Option("Results of a query.", Min = 1)]
    public int TopK { get; init; } = 10;

    /// <summary>Ball carving.</summary>
    [Option("Threshold of ball carving; above 1 none.")]
    public double BallCarving { get; init; } = 0.7;

    /// <summary>Centres of a product-quantization group.</summary>
    [Option("Centres of a product-quantization group.", Min = 1, Max = 256)]
    public int Centers { get; init; } = 256;

    /// <summary>Encoder seeds.</summary>
    [Option("Encoder seeds whose spread is measured.", Min = 2)]
    public int EncoderSeeds { get; init; } = 5;

    /// <summary>Neighbours of the single-vector heuristic.</summary>
    [Option("Neighbours of a query vector in the single-vector heuristic.", Min = 1)]
    public int Neighbors { get; init; } = 200;
}

/// <summary>Reproduces MUVERA: fixed dimensional encodings against the single-vector heuristic, their compression, their reranking.</summary>
public sealed class MuveraRecipe : Recipe<MuveraRecipeOptions>
{
    private static readonly (int Bits, int Block)[] Encodings = [(3, 8), (4, 16), (5, 16), (6, 16)]; // with R = 20: 1280, 5120, 10240, 20480 dimensions
    private static readonly string[] Heuristics = ["SV non-dedup", "SV dedup"], Recalls = ["recall1", "recall10", "recall100"], Rankings = ["exact", "muvera", "muvera carved"], Judged = ["ndcg10", "recall100", "mrr"];
    private static readonly int[] RecallCounts = [1, 10, 50, 100];
    private static readonly double[] Levels = [0.80, 0.90, 0.95, 0.99];
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    /// <inheritdoc/>
    public override string Id => "muvera";

    /// <inheritdoc/>
    public override string Area => "Retrieval";

    /// <inheritdoc/>
    public override string Title => "MUVERA: multi-vector retrieval by fixed dimensional encodings";

    /// <inheritdoc/>
    public override string Summary => "Finds the best documents when documents and queries are sets of vectors, by one vector for each and an exact reranking.";

    /// <inheritdoc/>
    public override Paper Paper => new("MUVERA: Multi-Vector Retrieval via Fixed Dimensional Encodings", "Dhulipala, Hadian, Jayaram, Lee, Mirrokni", "NeurIPS", 2024, "https://arxiv.org/abs/2405.19504");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("candidates-90", "Candidates for 90 % recall: the 5120-dimensional encoding needs at most half of the deduplicated single-vector heuristic's (ratio of the worst seed)."),
        new("candidates-95", "The same for 95 % recall."),
        new("dimension", "Recall@1 of 5120 dimensions is at least 2 points above that of 1280 (worst seed)."),
        new("pq-recall", "PQ-256-8 of the 5120-dimensional encoding loses at most 2 points of recall@50 (worst seed)."),
        new("pq-bytes", "Its codes take d/8 bytes: 640 bytes a document (bytes above that)."),
        new("rerank", "The reranked best of 100 candidates is the exact best for at least 98 % of the queries (worst seed)."),
        new("carving-clusters", "Ball carving at 0.7 leaves at most 10 of 16 query vectors on average (worst seed)."),
        new("carving-agreement", "The best document after ball carving is the exact best for at least 97 % of the queries (worst seed)."),
        new("encoder-spread", "The standard deviation of recall@10 over encoder seeds is at most 2 points (worst seed)."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2, 3, 4];

    /// <inheritdoc/>
    public override MuveraRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new() { Documents = 400, Queries = 40, Repetitions = 5, EncoderSeeds = 2, Neighbors = 50, Centers = 64 },
        Budget.Full => new(),
        _ => new() { Documents = 100_000, Queries = 1000, Dimension = 128, Concepts = 5000 }, // ColBERT's vector length; MS MARCO's own token embeddings come with --data
    };

    /// <inheritdoc/>
    public override void Run(MuveraRecipeOptions options, RunContext context)
    {
        if (context.Data is { } data)
        {
            RunOwn(options, context, MuveraData.Read(data.Path, context.Seeds[0]), data.Path);
            return;
        }
        context.UsedData($"synthetic concept corpus: {options.Documents} documents, {options.Queries} queries, {options.Dimension} dimensions, {options.Concepts} concepts");
        var results = new Dictionary<string, List<ArmResult>>();
        void Arm(string name, int seed, Action<ArmRun> body)
        {
            if (!results.TryGetValue(name, out var list)) results[name] = list = [];
            list.Add(context.Arm(name, seed, body));
        }
        foreach (var seed in context.Seeds)
        {
            using var scope = NewDisposeScope();
            var bench = Bench.Synthetic(options, seed);
            RunComparison(options, context, bench, seed, "", Arm);
            Arm("quantized", seed, run => Quantized(run, bench, options));
            Arm("rerank", seed, run => Rerank(run, bench, options));
            Arm("graph", seed, run => Graph(run, bench, options));
            Arm("encoder seeds", seed, run => EncoderSeeds(run, bench, options));
            Arm("grid", seed, run => Grid(run, bench, options, context.Budget));
            if (seed == context.Seeds[0]) SaveIndex(options, context, bench);
        }
        Report(options, context, results);
        Cranfield(options, context);
    }

    // ---- the comparison of candidates ----

    /// <summary>Documents and queries of one seed with the exact answer: the position of every query's Chamfer nearest neighbour.</summary>
    private sealed record Bench(MultiVectorSet Documents, MultiVectorSet Queries, int[] Truth)
    {
        public static Bench Synthetic(MuveraRecipeOptions options, int seed)
        {
            var corpus = ConceptCorpus.Generate(new ConceptCorpusOptions(options.Documents, options.Queries, options.Dimension, options.Concepts, seed));
            return Of(corpus.Documents, corpus.Queries);
        }

        public static Bench Of(MultiVectorSet documents, MultiVectorSet queries)
        {
            using var scores = MaxSim.Scores(queries.Vectors, queries.Offsets, documents.Vectors, documents.Offsets);
            using var best = scores.argmax(1);
            return new Bench(documents, queries, [.. best.data<long>().Select(i => (int)i)]);
        }

        /// <summary>Rank of the exact answer in lists of candidates.</summary>
        public int[] Ranks(IEnumerable<int[]> lists) => [.. lists.Select((list, i) => Array.IndexOf(list, Truth[i])).Select(at => at < 0 ? int.MaxValue : at + 1)];
    }

    private static FdeConfig Config(MuveraRecipeOptions options, int dimension, int bits, int block, int seed) =>
        new(dimension, options.Repetitions, bits, Math.Min(block, dimension), Seed: (ulong)Runtime.Seeds.Derive(seed, 1));

    private static string Name(MuveraRecipeOptions options, int bits, int block) => $"FDE {options.Repetitions * (1 << bits) * Math.Min(block, options.Dimension)}";

    private static void RunComparison(MuveraRecipeOptions options, RunContext context, Bench bench, int seed, string prefix, Action<string, int, Action<ArmRun>> arm)
    {
        var rankings = new Lazy<int[][]>(() => SingleVectorHeuristic.Rank(bench.Queries, bench.Documents, options.Neighbors));
        arm(prefix + "SV non-dedup", seed, run => Measure(run, bench, rankings.Value));
        arm(prefix + "SV dedup", seed, run => Measure(run, bench, rankings.Value.Select(SingleVectorHeuristic.Deduplicate)));
        foreach (var (bits, block) in Encodings)
            arm(prefix + Name(options, bits, block), seed, run => Encoded(run, bench, new FixedDimensionalEncoder(Config(options, bench.Documents.Dimension, bits, block, seed))));
        arm(prefix + Name(options, 4, 16) + ", no fill", seed, run => Encoded(run, bench, new FixedDimensionalEncoder(Config(options, bench.Documents.Dimension, 4, 16, seed) with { FillEmptyPartitions = false })));
        arm(prefix + Name(options, 4, 16) + " by k-means", seed, run =>
        {
            var tokens = bench.Documents.Vectors;
            var sample = tokens.index_select(0, randperm(tokens.shape[0]).narrow(0, 0, Math.Min(10_000, tokens.shape[0])));
            Encoded(run, bench, new FixedDimensionalEncoder(Config(options, (int)tokens.shape[1], 4, 16, seed), KMeansPartition.Learn(sample, options.Repetitions, 16, seed)));
        });
        arm(prefix + Name(options, 6, 16) + " to a quarter", seed, run => Encoded(run, bench, new FixedDimensionalEncoder(Config(options, bench.Documents.Dimension, 6, 16, seed) with { FinalDimension = options.Repetitions * 16 * Math.Min(16, options.Dimension) })));
        arm(prefix + "centroid pruning", seed, run =>
        {
            var documents = bench.Documents;
            var index = new CentroidPruningIndex(documents, (int)Math.Min(1024, documents.Vectors.shape[0] / 16 + 1), seed);
            Measure(run, bench, Enumerable.Range(0, bench.Queries.Count).Select(i => index.Candidates(bench.Queries[i], 4, documents.Count)));
        });
    }

    private static void Encoded(ArmRun run, Bench bench, FixedDimensionalEncoder encoder)
    {
        using (encoder)
        {
            run.Metric("dimension", encoder.OutputDimension);
            Measure(run, bench, Search(bench, encoder, bench.Documents.Count));
        }
    }

    private static IEnumerable<int[]> Search(Bench bench, FixedDimensionalEncoder encoder, int count)
    {
        using var index = new FlatIndex(encoder.OutputDimension);
        for (var start = 0; start < bench.Documents.Count; start += 2000)
        {
            var part = bench.Documents.Slice(start, Math.Min(2000, bench.Documents.Count - start));
            using var encoded = encoder.EncodeDocuments(part.Vectors, part.Offsets);
            index.Add(encoded);
        }
        using var queries = encoder.EncodeQueries(bench.Queries.Vectors, bench.Queries.Offsets);
        return [.. index.Search(queries, count).Select(found => found.Positions)];
    }

    private static void Measure(ArmRun run, Bench bench, IEnumerable<int[]> lists)
    {
        run.Cancellation.ThrowIfCancellationRequested();
        var ranks = bench.Ranks(lists);
        foreach (var level in Levels)
        {
            var candidates = RetrievalMetrics.CandidatesForRecall(ranks, level);
            run.Metric($"candidates{level:0.00}", candidates == int.MaxValue ? bench.Documents.Count : candidates);
        }
        foreach (var n in RecallCounts) run.Metric($"recall{n}", RetrievalMetrics.RecallAtN(ranks, n));
        run.Metric("mrr", RetrievalMetrics.Mrr(ranks));
        var counts = Enumerable.Range(0, 28).Select(i => (int)Math.Round(Math.Pow(10, i / 9.0))).Distinct().Where(n => n <= bench.Documents.Count).ToArray();
        run.Series("recall", [.. counts.Select(n => (double)n)], [.. counts.Select(n => RetrievalMetrics.RecallAtN(ranks, n))]);
    }

    // ---- compression, reranking, graph, spread, grid ----

    private static void Quantized(ArmRun run, Bench bench, MuveraRecipeOptions options)
    {
        var encoding = Config(options, bench.Documents.Dimension, 4, 16, run.Seed);
        using var index = MuveraIndex.Build(bench.Documents, new MuveraOptions(encoding, MuveraSearch.ProductQuantized, options.Centers));
        var positions = bench.Documents.Ids.Select((id, i) => (id, i)).ToDictionary(pair => pair.id, pair => pair.i);
        Measure(run, bench, index.Candidates(bench.Queries, 200).Select(ids => ids.Select(id => positions[id]).ToArray()));
        run.Metric("bytes", index.EncodingBytes);
    }

    private static void Rerank(ArmRun run, Bench bench, MuveraRecipeOptions options)
    {
        using var index = MuveraIndex.Build(bench.Documents, new MuveraOptions(Config(options, bench.Documents.Dimension, 4, 16, run.Seed)));
        var (exact, carved, vectors, time) = (0, 0, 0, 0.0);
        for (var i = 0; i < bench.Queries.Count; i++)
        {
            var truth = bench.Documents.Ids[bench.Truth[i]];
            var plain = index.Search(bench.Queries[i], 1, options.Candidates, ballCarving: null);
            var balls = index.Search(bench.Queries[i], 1, options.Candidates, options.BallCarving);
            exact += plain.Ids[0] == truth ? 1 : 0;
            carved += balls.Ids[0] == truth ? 1 : 0;
            vectors += balls.Statistics.QueryVectors;
            time += balls.Statistics.EncodeMilliseconds + balls.Statistics.ScanMilliseconds + balls.Statistics.RerankMilliseconds;
        }
        run.Metric("agreement", (double)exact / bench.Queries.Count);
        run.Metric("carved agreement", (double)carved / bench.Queries.Count);
        run.Metric("clusters", (double)vectors / bench.Queries.Count);
        run.Metric("milliseconds", time / bench.Queries.Count);
    }

    private static void Graph(ArmRun run, Bench bench, MuveraRecipeOptions options)
    {
        using var index = MuveraIndex.Build(bench.Documents, new MuveraOptions(Config(options, bench.Documents.Dimension, 3, 8, run.Seed), MuveraSearch.Graph));
        var positions = bench.Documents.Ids.Select((id, i) => (id, i)).ToDictionary(pair => pair.id, pair => pair.i);
        Measure(run, bench, index.Candidates(bench.Queries, 100).Select(ids => ids.Select(id => positions[id]).ToArray()));
    }

    private static void EncoderSeeds(ArmRun run, Bench bench, MuveraRecipeOptions options)
    {
        var recalls = new double[options.EncoderSeeds];
        for (var i = 0; i < recalls.Length; i++)
        {
            using var encoder = new FixedDimensionalEncoder(Config(options, bench.Documents.Dimension, 4, 16, 0) with { Seed = (ulong)Runtime.Seeds.Derive(run.Seed, 2, i) });
            recalls[i] = RetrievalMetrics.RecallAtN(bench.Ranks(Search(bench, encoder, 10)), 10);
        }
        var mean = recalls.Average();
        run.Metric("recall10", mean);
        run.Metric("deviation", Math.Sqrt(recalls.Sum(recall => (recall - mean) * (recall - mean)) / (recalls.Length - 1)));
    }

    private static void Grid(ArmRun run, Bench bench, MuveraRecipeOptions options, Budget budget)
    {
        var (repetitions, bits, blocks) = budget == Budget.Smoke ? (new[] { 1, options.Repetitions }, new[] { 2, 4 }, new[] { 8 }) : (new[] { 1, 5, 10, 20 }, new[] { 2, 3, 4, 5, 6 }, new[] { 8, 16 });
        var (documents, queries) = (bench.Documents.Slice(0, Math.Min(1000, bench.Documents.Count)), bench.Queries.Slice(0, Math.Min(100, bench.Queries.Count)));
        var points = FdeTuner.Run(documents, queries, FdeTuner.Grid(bench.Documents.Dimension, repetitions, bits, blocks), 10, run.Cancellation);
        foreach (var block in blocks)
        {
            foreach (var k in bits)
            {
                var line = points.Where(point => point.Config.SimHashBits == k && point.Config.BlockDimension == block).ToArray();
                run.Series($"k={k} d_proj={block}", [.. line.Select(point => (double)point.Dimension)], [.. line.Select(point => point.Recall)]);
            }
        }
        var front = points.Where(point => point.Pareto).ToArray();
        run.Series("front", [.. front.Select(point => (double)point.Dimension)], [.. front.Select(point => point.Recall)]);
    }

    // ---- report ----

    private static void Report(MuveraRecipeOptions options, RunContext context, Dictionary<string, List<ArmResult>> results)
    {
        var (medium, small) = (Name(options, 4, 16), Name(options, 3, 8));
        double[] Of(string arm, string metric) => [.. results[arm].Select(result => result[metric])];
        double[] Ratio(string metric) => [.. Of(medium, metric).Zip(Of("SV dedup", metric), (a, b) => a / b)];
        double[] Difference(string a, string b, string metric) => [.. Of(a, metric).Zip(Of(b, metric), (x, y) => x - y)];
        void AtMost(string claim, double[] perSeed, double threshold) => context.Check(claim, perSeed.Max(), Comparison.AtMost, threshold, perSeed);
        void AtLeast(string claim, double[] perSeed, double threshold) => context.Check(claim, perSeed.Min(), Comparison.AtLeast, threshold, perSeed);

        AtMost("candidates-90", Ratio("candidates0.90"), 0.5);
        AtMost("candidates-95", Ratio("candidates0.95"), 0.5);
        AtLeast("dimension", Difference(medium, small, "recall1"), 0.02);
        AtMost("pq-recall", Difference(medium, "quantized", "recall50"), 0.02);
        AtMost("pq-bytes", [.. Of("quantized", "bytes").Zip(Of(medium, "dimension"), (bytes, dimension) => Math.Abs(bytes - dimension / 8))], 0);
        AtLeast("rerank", Of("rerank", "agreement"), 0.98);
        AtMost("carving-clusters", Of("rerank", "clusters"), 10);
        AtLeast("carving-agreement", Of("rerank", "carved agreement"), 0.97);
        AtMost("encoder-spread", Of("encoder seeds", "deviation"), 0.02);

        Candidates(context, "candidates", "Candidates needed for a part of the queries to contain their exact Chamfer nearest neighbour (mean over seeds, least to most), and recall at fixed numbers.",
            results.Where(entry => entry.Value[0].Curves.ContainsKey("recall")).Select(entry => (entry.Key, entry.Value)));
        context.Figure("recall-candidates", "Recall of the exact Chamfer nearest neighbour over candidates.", Charts.Lines("Recall against candidates", "candidates", "recall",
            [.. Heuristics.Concat(Encodings.Select(e => Name(options, e.Bits, e.Block))).Select(arm => Curve(arm, results[arm], "recall", arm.StartsWith("SV", StringComparison.Ordinal)))], logX: true));
        context.Figure("recall-dimension", "Recall@10 over the length of the encoding, on a sample of documents and queries; a line's points differ in repetitions.", Charts.Lines("Recall@10 against encoding length", "dimensions", "recall@10",
            [.. results["grid"][0].Curves.Keys.Where(name => name != "front").Select(name => Curve(name, results["grid"], name, name.EndsWith("=8", StringComparison.Ordinal)))], logX: true));
        context.Table("rerank", $"Reranking {options.Candidates} candidates of the 5120-dimensional encoding, and its compression (mean over seeds).", ["what", "value"],
        [
            ["best document is the exact best", Percent(Of("rerank", "agreement").Average())],
            [$"the same after ball carving at {options.BallCarving.ToString(CultureInfo.InvariantCulture)}", Percent(Of("rerank", "carved agreement").Average())],
            ["query vectors after ball carving", Of("rerank", "clusters").Average().ToString("0.0", CultureInfo.InvariantCulture)],
            ["milliseconds a query", Of("rerank", "milliseconds").Average().ToString("0.00", CultureInfo.InvariantCulture)],
            ["bytes of a product-quantized encoding", Of("quantized", "bytes").Average().ToString("0", CultureInfo.InvariantCulture)],
            [$"recall@10 over {options.EncoderSeeds} encoder seeds", $"{Percent(Of("encoder seeds", "recall10").Average())}, deviation {Percent(Of("encoder seeds", "deviation").Average())}"],
        ]);
    }

    private static Curve Curve(string label, List<ArmResult> results, string series, bool dashed)
    {
        var x = results.Select(result => result.Series(series).X).MinBy(xs => xs.Length)!;
        return new Curve(label, x, [.. results.Select(result => result.Series(series).Y.Take(x.Length).ToArray())], dashed);
    }

    private static string Percent(double value) => (100 * value).ToString("0.0", CultureInfo.InvariantCulture) + " %";

    private static void Candidates(RunContext context, string name, string caption, IEnumerable<(string Arm, List<ArmResult> Results)> arms) => context.Table(name, caption,
        ["candidates by", .. Levels.Select(level => Percent(level)), "recall@1", "recall@10", "recall@100"],
        [.. arms.Select(arm => (IReadOnlyList<string>)[arm.Arm, .. Levels.Select(level => Range(arm.Results.Select(result => result[$"candidates{level:0.00}"]).ToArray())),
            .. Recalls.Select(metric => Percent(arm.Results.Average(result => result[metric])))])]);

    private static string Range(double[] values) => values.Min() == values.Max()
        ? values[0].ToString("0", CultureInfo.InvariantCulture)
        : string.Create(CultureInfo.InvariantCulture, $"{values.Average():0.#} ({values.Min():0}-{values.Max():0})");

    // ---- real text ----

    private static void Cranfield(MuveraRecipeOptions options, RunContext context)
    {
        if (context.Budget == Budget.Smoke || context.DataFolder.Find("cranfield") is not { } folder) return;
        var seed = context.Seeds[0];
        using var scope = NewDisposeScope();
        var data = MuveraData.FromText(TextCollection.ReadCranfieldFolder(folder), seed);
        var bench = Bench.Of(data.Documents, data.Queries!);
        var results = new List<ArmResult>();
        RunComparison(options, context, bench, seed, "Cranfield ", (name, s, body) => results.Add(context.Arm(name, s, body)));
        var judged = context.Arm("Cranfield judged", seed, run =>
        {
            var (documents, queries, judgments) = (data.Documents, data.Queries!, data.Judgments);
            using var index = MuveraIndex.Build(documents, new MuveraOptions(Config(options, documents.Dimension, 5, 16, seed)));
            using var scores = MaxSim.Scores(queries.Vectors, queries.Offsets, documents.Vectors, documents.Offsets);
            var exact = scores.topk(100, 1).indexes.data<long>().ToArray();
            Judge(run, "exact", queries, judgments, i => exact[(i * 100)..(i * 100 + 100)].Select(p => documents.Ids[(int)p]).ToArray());
            Judge(run, "muvera", queries, judgments, i => index.Search(queries[i], 100, options.Candidates, null).Ids);
            Judge(run, "muvera carved", queries, judgments, i => index.Search(queries[i], 100, options.Candidates, options.BallCarving).Ids);
        });
        context.UsedData("Cranfield 1400 (tokens embedded by word vectors of the collection)");
        Candidates(context, "cranfield-candidates", "Cranfield: candidates needed for a part of the queries to contain their exact Chamfer nearest neighbour.", results.Select(result => (result.Arm["Cranfield ".Length..], new List<ArmResult> { result })));
        context.Table("cranfield-judged", "Cranfield: rankings against the collection's relevance judgments.", ["ranking", "NDCG@10", "recall@100", "MRR"],
            [.. Rankings.Select(way => (IReadOnlyList<string>)[way, .. Judged.Select(metric => judged[$"{way} {metric}"].ToString("0.000", CultureInfo.InvariantCulture))])]);
        context.Figure("cranfield-recall", "Cranfield: recall of the exact Chamfer nearest neighbour over candidates.", Charts.Lines("Recall against candidates, Cranfield", "candidates", "recall",
            [.. results.Where(result => !result.Arm.Contains("k-means", StringComparison.Ordinal)).Select(result => Curve(result.Arm["Cranfield ".Length..], [result], "recall", result.Arm.Contains("SV", StringComparison.Ordinal)))], logX: true));
    }

    private static void Judge(ArmRun run, string way, MultiVectorSet queries, IReadOnlyDictionary<string, IReadOnlyDictionary<string, double>> judgments, Func<int, string[]> rank)
    {
        var (ndcg, recall, ranks) = (new List<double>(), new List<double>(), new List<int>());
        for (var i = 0; i < queries.Count; i++)
        {
            if (!judgments.TryGetValue(queries.Ids[i], out var gains) || !gains.Values.Any(gain => gain > 0)) continue;
            var ranking = rank(i);
            var relevant = gains.Where(entry => entry.Value > 0).Select(entry => entry.Key).ToHashSet();
            ndcg.Add(RetrievalMetrics.NdcgAtK(ranking, gains, 10));
            recall.Add(RetrievalMetrics.RecallAtN(ranking, relevant, 100));
            var first = Array.FindIndex(ranking, relevant.Contains);
            ranks.Add(first < 0 ? int.MaxValue : first + 1);
        }
        if (ndcg.Count == 0) return;
        run.Metric($"{way} ndcg10", ndcg.Average());
        run.Metric($"{way} recall100", recall.Average());
        run.Metric($"{way} mrr", RetrievalMetrics.Mrr(ranks));
    }

    // ---- the user's data ----

    private sealed record IndexDescription(string Folder, IReadOnlyList<string>? Words, int TopK, int Candidates, double? BallCarving);

    private static void SaveIndex(MuveraRecipeOptions options, RunContext context, Bench bench)
    {
        var folder = context.OutputPath("index");
        if (Directory.Exists(folder)) return;
        using var index = MuveraIndex.Build(bench.Documents, new MuveraOptions(Config(options, bench.Documents.Dimension, 4, 16, context.Seeds[0])));
        index.Save(folder);
        Describe(options, context, null);
    }

    private static void Describe(MuveraRecipeOptions options, RunContext context, TokenEmbedder? embedder) => context.SaveModel("index",
        new Dictionary<string, Tensor> { ["words"] = embedder?.Vectors ?? zeros(0, 1) },
        new IndexDescription("outputs/index", embedder?.Words, options.TopK, options.Candidates, options.BallCarving > 1 ? null : options.BallCarving));

    private static void RunOwn(MuveraRecipeOptions options, RunContext context, MuveraData data, string path)
    {
        context.UsedData(data.Description);
        var encoding = new FdeConfig(data.Documents.Dimension, options.Repetitions, options.SimHashBits, Math.Min(options.ProjectionDimension, data.Documents.Dimension), Seed: (ulong)Runtime.Seeds.Derive(context.Seeds[0], 1));
        var folder = context.OutputPath("index");
        MuveraIndex Build()
        {
            try
            {
                return MuveraIndex.Build(data.Documents, new MuveraOptions(encoding, options.Search, Math.Min(options.Centers, data.Documents.Count)));
            }
            catch (ArgumentException e)
            {
                throw new BadInputException($"{path}: {e.Message}", e);
            }
        }
        using var index = Build();
        index.Save(folder);
        Describe(options, context, data.Embedder);

        // Without queries, documents ask for themselves: every third token of up to a hundred of them.
        var queries = data.Queries ?? MultiVectorSet.From([.. Enumerable.Range(0, Math.Min(100, data.Documents.Count)).Select(i => data.Documents[(int)((long)i * data.Documents.Count / Math.Min(100, data.Documents.Count))][TensorIndex.Slice(0, null, 3)])]);
        if (data.Queries == null) context.Note("There is no queries file: up to 100 documents, a third of their tokens each, stand in as queries.");
        var bench = Bench.Of(data.Documents, queries);
        var positions = data.Documents.Ids.Select((id, i) => (id, i)).ToDictionary(pair => pair.id, pair => pair.i);
        var result = context.Arm("index", context.Seeds[0], run =>
        {
            var count = Math.Min(data.Documents.Count, Math.Max(1000, options.Candidates));
            Measure(run, bench, index.Candidates(queries, count).Select(ids => ids.Select(id => positions[id]).ToArray()));
            run.Metric("bytes a document", index.EncodingBytes);
            var milliseconds = 0.0;
            for (var i = 0; i < Math.Min(100, queries.Count); i++)
            {
                var s = index.Search(queries[i], options.TopK, options.Candidates, options.BallCarving > 1 ? null : options.BallCarving).Statistics;
                milliseconds += s.EncodeMilliseconds + s.ScanMilliseconds + s.RerankMilliseconds;
            }
            run.Metric("milliseconds a query", milliseconds / Math.Min(100, queries.Count));
            if (data.Queries != null) Judge(run, "judged", queries, data.Judgments, i => index.Search(queries[i], 100, options.Candidates, options.BallCarving > 1 ? null : options.BallCarving).Ids);
        });
        var sample = bench with { Documents = data.Documents.Slice(0, Math.Min(2000, data.Documents.Count)), Queries = queries.Slice(0, Math.Min(100, queries.Count)) };
        var points = FdeTuner.Run(sample.Documents, sample.Queries, FdeTuner.Grid(data.Documents.Dimension, [1, 5, 20], [2, 4, 5], [8, 16]), 10, context.Cancellation);
        context.Table("tune", "Configurations on a sample: recall@10 of the exact Chamfer nearest neighbour; * marks the Pareto front.", ["R", "k", "d_proj", "dimensions", "recall@10", ""],
            [.. points.Select(p => (IReadOnlyList<string>)[$"{p.Config.Repetitions}", $"{p.Config.SimHashBits}", $"{p.Config.BlockDimension}", $"{p.Dimension}", Percent(p.Recall), p.Pareto ? "*" : ""])]);
        context.Table("index", "The index against exact Chamfer search.", ["what", "value"], [.. result.Metrics.Select(metric => (IReadOnlyList<string>)[metric.Key, metric.Value.ToString("0.####", CultureInfo.InvariantCulture)])]);
        context.Figure("recall-candidates", "Recall of the exact Chamfer nearest neighbour over candidates.", Charts.Lines("Recall against candidates", "candidates", "recall", [Curve($"FDE {encoding.EncodedDimension}", [result], "recall", false)], logX: true));
        if (data.Queries != null) Write(context.OutputPath("run.trec"), context.OutputPath("results.jsonl"), index, queries, options.TopK, options.Candidates, options.BallCarving > 1 ? null : options.BallCarving, context.Cancellation);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        var description = run.Description<IndexDescription>("index");
        using var scope = NewDisposeScope();
        var embedder = description.Words == null ? null : new TokenEmbedder(description.Words, run.Model("index")["words"]);
        using var index = MuveraIndex.Load(Path.Combine(run.Folder, description.Folder));
        var queries = MuveraData.ReadQueries(context.DataPath, embedder);
        Directory.CreateDirectory(context.OutPath);
        try
        {
            Write(Path.Combine(context.OutPath, "run.trec"), Path.Combine(context.OutPath, "results.jsonl"), index, queries, description.TopK, description.Candidates, description.BallCarving, context.Cancellation);
        }
        catch (ArgumentException e)
        {
            throw new BadInputException($"{context.DataPath}: {e.Message}", e);
        }
        context.Report($"{queries.Count} queries answered from {index.Count} documents: {Path.Combine(context.OutPath, "run.trec")}, results.jsonl");
    }

    private static void Write(string trec, string jsonl, MuveraIndex index, MultiVectorSet queries, int topK, int candidates, double? ballCarving, CancellationToken cancellation)
    {
        var (lines, objects) = (new StringBuilder(), new StringBuilder());
        for (var i = 0; i < queries.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            var result = index.Search(queries[i], topK, candidates, ballCarving);
            for (var rank = 0; rank < result.Ids.Length; rank++)
                lines.Append(CultureInfo.InvariantCulture, $"{queries.Ids[i]} Q0 {result.Ids[rank]} {rank + 1} {result.Scores[rank]:0.######} muvera\n");
            objects.AppendLine(JsonSerializer.Serialize(new { Query = queries.Ids[i], Results = result.Ids.Zip(result.Scores, (id, score) => new { Id = id, Score = score }) }, Json));
        }
        AtomicFile.WriteText(trec, lines.ToString());
        AtomicFile.WriteText(jsonl, objects.ToString());
    }
}
