using Priori.Data;
using Priori.Retrieval;
using Priori.Runtime;

namespace Priori.Recipes.Retrieval;

/// <summary>The user's documents, queries and judgments, as token vectors.</summary>
internal sealed record MuveraData(MultiVectorSet Documents, MultiVectorSet? Queries, IReadOnlyDictionary<string, IReadOnlyDictionary<string, double>> Judgments, TokenEmbedder? Embedder, string Description)
{
    private static readonly string[] TextEndings = [".jsonl", ".ndjson"];
    private static readonly string[] TextColumns = ["text", "contents", "content", "body", "query", "abstract"];
    private static readonly string[] TableEndings = [".csv", ".tsv", ".parquet"];

    /// <summary>
    /// A file of documents, or a folder with docs.* (or documents.*), and if wanted queries.* and qrels.*; or the files of the Cranfield collection. Token vectors are taken as they are, text is embedded by word vectors learned from the documents.
    /// </summary>
    public static MuveraData Read(string path, int seed)
    {
        var (documents, queries, judgments) = (path, (string?)null, (string?)null);
        if (Directory.Exists(path))
        {
            if (File.Exists(Path.Combine(path, "cran.all.1400"))) return FromText(TextCollection.ReadCranfieldFolder(path), seed);
            string? Find(params string[] names) => Directory.EnumerateFiles(path).Where(file => !file.EndsWith(".ids.txt", StringComparison.Ordinal)).Order(StringComparer.Ordinal)
                .FirstOrDefault(file => names.Contains(Path.GetFileNameWithoutExtension(file).ToLowerInvariant()));
            documents = Find("docs", "documents", "corpus") ?? throw new BadInputException($"{path}: the folder has no docs.* file (or documents.*, corpus.*); see priori show muvera.");
            (queries, judgments) = (Find("queries", "query"), Find("qrels"));
        }
        var gains = judgments == null ? new Dictionary<string, IReadOnlyDictionary<string, double>>() : TextCollection.ReadJudgments(judgments);
        if (IsText(documents)) return FromText(new TextCollection(TextCollection.Read(documents), queries == null ? [] : TextCollection.Read(queries), gains), seed);
        var vectors = MultiVectorFile.Read(documents);
        var queryVectors = queries == null ? null : MultiVectorFile.Read(queries);
        if (queryVectors != null && queryVectors.Dimension != vectors.Dimension)
            throw new BadInputException($"{queries}: the queries have {queryVectors.Dimension} dimensions, but the documents {vectors.Dimension}.");
        return new MuveraData(vectors, queryVectors, gains, null, $"{Path.GetFileName(documents)}: {vectors.Count} documents, {vectors.Vectors.shape[0]} tokens of {vectors.Dimension} dimensions");
    }

    /// <summary>Embeds a text collection with word vectors learned from its documents.</summary>
    public static MuveraData FromText(TextCollection collection, int seed)
    {
        try
        {
            var embedder = TokenEmbedder.Train(collection.Documents.Select(document => document.Text), seed: seed);
            var documents = embedder.Embed(collection.Documents);
            return new MuveraData(documents, collection.Queries.Count == 0 ? null : embedder.Embed(collection.Queries), collection.Judgments, embedder,
                $"{documents.Count} texts, {documents.Vectors.shape[0]} tokens of {documents.Dimension} dimensions ({embedder.Words.Count} words)");
        }
        catch (ArgumentException e)
        {
            throw new BadInputException($"The texts cannot be embedded: {e.Message}", e);
        }
    }

    /// <summary>Queries of a file, for an index of token vectors (embedder null) or of text.</summary>
    public static MultiVectorSet ReadQueries(string path, TokenEmbedder? embedder)
    {
        if (Directory.Exists(path))
        {
            path = Directory.EnumerateFiles(path).Order(StringComparer.Ordinal).FirstOrDefault(file => Path.GetFileNameWithoutExtension(file).ToLowerInvariant() is "queries" or "query" || Path.GetFileName(file) == "cran.qry")
                ?? throw new BadInputException($"{path}: the folder has no queries.* file.");
        }
        if (IsText(path) != (embedder != null))
            throw new BadInputException($"{path}: the index was built from {(embedder == null ? "token vectors" : "text")}, but this file holds {(embedder == null ? "text" : "token vectors")}.");
        try
        {
            return embedder == null ? MultiVectorFile.Read(path) : embedder.Embed(TextCollection.Read(path));
        }
        catch (ArgumentException e)
        {
            throw new BadInputException($"{path}: {e.Message}", e);
        }
    }

    private static bool IsText(string path)
    {
        var ending = Path.GetExtension(path).ToLowerInvariant();
        if (TextEndings.Contains(ending)) return true;
        if (!TableEndings.Contains(ending)) return !MultiVectorFile.Endings.Contains(ending); // anything else is tried as a Cranfield file
        return TextColumns.Any(Table.Read(path).Has);
    }
}
