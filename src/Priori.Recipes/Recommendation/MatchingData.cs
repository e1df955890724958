using System.Globalization;
using Priori.Data;
using Priori.Nn;
using Priori.Recommendation;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Recommendation;

/// <summary>Documents of one kind.</summary>
/// <param name="Ids">Their names.</param>
/// <param name="Texts">Their texts.</param>
/// <param name="Keywords">Keywords of each; null where the file has none.</param>
/// <param name="Categories">Category of each, null for none; null where the file has none.</param>
internal sealed record MatchingDocuments(IReadOnlyList<string> Ids, IReadOnlyList<string> Texts, IReadOnlyList<IReadOnlyList<string>>? Keywords, IReadOnlyList<string?>? Categories)
{
    private static readonly char[] Separators = [',', ';', '|'];

    /// <summary>Reads a table with columns id and text, and perhaps category and keywords (separated by commas, semicolons or bars).</summary>
    public static MatchingDocuments Read(string path)
    {
        Table table = Table.Read(path);
        foreach (string column in new[] { "id", "text" })
            if (!table.Has(column)) throw new BadInputException($"{path} has no column '{column}'; documents are tables with the columns id and text, and perhaps category and keywords. It has: {string.Join(", ", table.Columns)}.");
        if (table.RowCount == 0) throw new BadInputException($"{path} holds no documents.");
        string[] ids = [.. table["id"].Select((id, row) => id ?? throw new BadInputException($"{path}, row {row + 1}: the document has no id."))];
        if (ids.GroupBy(i => i, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1) is { } twice) throw new BadInputException($"{path}: the id '{twice.Key}' occurs more than once.");
        return new MatchingDocuments(ids, [.. table["text"].Select(t => t ?? "")],
            table.Has("keywords") ? [.. table["keywords"].Select(k => (IReadOnlyList<string>)[.. (k ?? "").Split(Separators, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(word => word.ToLowerInvariant())])] : null,
            table.Has("category") ? [.. table["category"]] : null);
    }
}

/// <summary>Pairs, documents and their relations, ready for training.</summary>
internal sealed record MatchingData(string Description, MatchingDocuments Left, MatchingDocuments Right, MatchingPairs Train, MatchingPairs Valid, MatchingPairs Test, MatchingGraph Graph, TextTokenizer Tokenizer)
{
    private const int FewestPairs = 30;

    /// <summary>Training pairs that were given; the others are sampled negatives.</summary>
    public long Given { get; init; }

    /// <summary>Order of the training pairs.</summary>
    public Sampler Sampler { get; init; } = new ShuffledSampler();

    /// <summary>Which of the given training pairs have a wrong label, bool [given], where it is known.</summary>
    public Tensor? Flipped { get; init; }

    /// <summary>Document frequencies that keywords were chosen by; null where all were given.</summary>
    public TfIdf? TfIdf { get; init; }

    /// <summary>Generates a job market; a share of the training and validation labels is flipped, of the test labels none.</summary>
    public static MatchingData Generate(JobMatchingRecipeOptions options, int seed, double noise, Device device)
    {
        JobMarket market = JobMarket.Generate(seed, new JobMarketOptions { KeywordsOfTopic = options.KeywordsOfTopic, DocumentKeywords = options.DocumentKeywords });
        int train = options.Pairs, valid = Math.Max(train / 6, 1), test = Math.Max(train * 2 / 3, 1);
        var (jobs, resumes, labels) = market.Pairs(train + valid + test, seed);
        Tensor left = tensor(jobs), right = tensor(resumes), truth = tensor(labels);
        Tensor noisy = cat([LabelNoise.Symmetric(truth.narrow(0, 0, train), noise, 2, seed, includeSelf: false), LabelNoise.Symmetric(truth.narrow(0, train, valid), noise, 2, seed + 1, includeSelf: false), truth.narrow(0, train + valid, test)]);
        MatchingPairs Part(int start, int count) => new(left.narrow(0, start, count), right.narrow(0, start, count), noisy.narrow(0, start, count));
        MatchingDocuments Documents(IReadOnlyList<JobMarketDocument> of, string name) => new([.. of.Select((_, i) => $"{name}{i}")], [.. of.Select(d => d.Text)], [.. of.Select(d => d.KeywordNames)], null);
        MatchingDocuments l = Documents(market.Jobs, "job"), r = Documents(market.Resumes, "resume");
        return new MatchingData($"a generated job market ({market.Jobs.Count} jobs, {market.Resumes.Count} resumes, {train:N0} training, {valid:N0} validation and {test:N0} test pairs; {noise:P0} of the training and validation labels flipped, no test label)",
            l, r, Part(0, train), Part(train, valid), Part(train + valid, test), MatchingGraph.FromKeywords(l.Keywords!, r.Keywords!, device: device), WordVocabulary.Learn(l.Texts.Concat(r.Texts), 1))
        {
            Given = train,
            Flipped = noisy.ne(truth).narrow(0, 0, train),
        };
    }

    /// <summary>Reads the user's pairs and documents, and splits the pairs 80 : 10 : 10.</summary>
    public static MatchingData Read(UserData own, JobMatchingRecipeOptions options, int epochs, Device device)
    {
        if (own.Path.Length == 0) throw new BadInputException("The pairs are missing: give --data PAIRS, a table with the columns left, right and label.");
        MatchingDocuments left = MatchingDocuments.Read(own.Part("left")), right = MatchingDocuments.Read(own.Part("right"));
        Table table = Table.Read(own.Path);
        foreach (string column in new[] { "left", "right" })
            if (!table.Has(column)) throw new BadInputException($"{own.Path} has no column '{column}'; pairs have the columns left, right and label. It has: {string.Join(", ", table.Columns)}.");
        if (own.Target is { } named && !table.Has(named)) throw new BadInputException($"{own.Path} has no column '{named}'; it has: {string.Join(", ", table.Columns)}.");
        string? target = own.Target ?? (table.Has("label") ? "label" : null);
        if (table.RowCount < FewestPairs) throw new BadInputException($"{own.Path} holds {table.RowCount} pairs; at least {FewestPairs} are needed.");
        long[] leftRows = Rows(table["left"], left, own.Path), rightRows = Rows(table["right"], right, own.Path), labels = target is null ? [.. leftRows.Select(_ => 1L)] : Labels(table[target], own.Path);
        long[]? clean = table.Has("clean") ? Labels(table["clean"], own.Path) : null;

        int[] order = [.. Enumerable.Range(0, labels.Length)];
        SplitMix64.For(0, 0x53504C).Shuffle(order.AsSpan());
        int valid = labels.Length / 10, train = labels.Length - 2 * valid;
        Tensor l = tensor(leftRows), r = tensor(rightRows), y = tensor(labels);
        MatchingPairs Part(int start, int count)
        {
            Tensor rows = tensor(order.Skip(start).Take(count).Select(i => (long)i).ToArray());
            return new MatchingPairs(l.index_select(0, rows), r.index_select(0, rows), y.index_select(0, rows));
        }
        MatchingPairs all = new(l, r, y), trainPairs = Part(0, train), validPairs = Part(train, valid), testPairs = Part(train + valid, valid);
        Sampler sampler = new ShuffledSampler();
        double ratio = options.Negatives ?? (labels.Any(label => label == 0) ? 0 : 1);
        if (ratio > 0)
        {
            int Count(MatchingPairs of) => Math.Max(1, (int)Math.Round(ratio * of.PositiveShare * of.Count));
            try
            {
                int perEpoch = Count(trainPairs), rounds = options.Resample ? epochs : 1;
                sampler = new FreshNegativesSampler(train, perEpoch);
                trainPairs = trainPairs.With(MatchingPairs.Negatives(left.Ids.Count, right.Ids.Count, all, perEpoch, rounds, 0));
                validPairs = validPairs.With(MatchingPairs.Negatives(left.Ids.Count, right.Ids.Count, all, Count(validPairs), 1, 1));
                testPairs = testPairs.With(MatchingPairs.Negatives(left.Ids.Count, right.Ids.Count, all, Count(testPairs), 1, 2));
            }
            catch (ArgumentException e)
            {
                throw new BadInputException($"Negatives cannot be sampled: {e.Message}", e);
            }
        }
        foreach (var (part, name) in new[] { (trainPairs, "training"), (validPairs, "validation"), (testPairs, "test") })
            if (part.PositiveShare is 0 or 1) throw new BadInputException($"All {part.Count} {name} pairs of {own.Path} have the same label: give more pairs, or set negatives=1 to sample pairs that do not match.");

        TfIdf? tfIdf = left.Keywords is null || right.Keywords is null ? TfIdf.Learn([.. left.Texts, .. right.Texts]) : null;
        MatchingDocuments WithKeywords(MatchingDocuments of) => of.Keywords is not null ? of : of with { Keywords = [.. of.Texts.Select(t => tfIdf!.Keywords(t, options.Keywords))] };
        (left, right) = (WithKeywords(left), WithKeywords(right));
        MatchingGraph graph = MatchingGraph.FromKeywords(left.Keywords!, right.Keywords!, left.Categories, right.Categories, device);
        string description = $"own pairs {Path.GetFileName(own.Path)} ({trainPairs.Count:N0} training{(ratio > 0 ? " with sampled negatives" : "")}, {validPairs.Count:N0} validation, {testPairs.Count:N0} test; {left.Ids.Count:N0} left and {right.Ids.Count:N0} right documents; {(tfIdf is null ? "given keywords" : "TF-IDF keywords")})";
        return new MatchingData(description, left, right, trainPairs, validPairs, testPairs, graph, LearnTokenizer(options, left, right))
        {
            Given = train,
            Sampler = sampler,
            TfIdf = tfIdf,
            Flipped = clean is null ? null : tensor(order.Take(train).Select(i => clean[i] != labels[i]).ToArray()),
        };
    }

    private static TextTokenizer LearnTokenizer(JobMatchingRecipeOptions options, MatchingDocuments left, MatchingDocuments right)
    {
        if (options.TextEncoder != DocumentEncoderKind.Bert) return WordVocabulary.Learn(left.Texts.Concat(right.Texts));
        string path = Path.Combine(options.Bert!, "vocab.txt");
        return File.Exists(path) ? new WordPieceTokenizer(File.ReadAllLines(path)) : throw new BadInputException($"{options.Bert} has no vocab.txt.");
    }

    private static long[] Rows(TableColumn column, MatchingDocuments documents, string path)
    {
        var index = documents.Ids.Select((id, i) => (id, i)).ToDictionary(d => d.id, d => (long)d.i, StringComparer.Ordinal);
        return [.. column.Select((id, row) => id is not null && index.TryGetValue(id, out long at) ? at : throw new BadInputException($"{path}, row {row + 1}: there is no {column.Name} document '{id}'."))];
    }

    private static long[] Labels(TableColumn column, string path)
        => [.. Enumerable.Range(0, column.Count).Select(row => column.TryGetNumber(row, out double label) && label is 0 or 1 ? (long)label : throw new BadInputException($"{path}, row {row + 1}: '{column.Name}' must be 0 or 1; it is '{column[row]}'."))];
}
