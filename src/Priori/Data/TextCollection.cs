using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Priori.Data;

/// <summary>A named text: a document or a query.</summary>
/// <param name="Id">Its name.</param>
/// <param name="Text">Its text, the title first where there is one.</param>
public sealed record TextDocument(string Id, string Text);

/// <summary>Documents, queries and relevance judgments of a text retrieval collection.</summary>
/// <param name="Documents">The documents.</param>
/// <param name="Queries">The queries; empty where there are none.</param>
/// <param name="Judgments">Gain of each relevant document by query, larger is better; empty where there are none.</param>
public sealed record TextCollection(
    IReadOnlyList<TextDocument> Documents, IReadOnlyList<TextDocument> Queries, IReadOnlyDictionary<string, IReadOnlyDictionary<string, double>> Judgments)
{
    private static readonly string[] IdNames = ["id", "_id", "doc_id", "docid", "docno", "query_id", "qid"];
    private static readonly string[] TextNames = ["text", "contents", "content", "body", "query", "abstract"];

    /// <summary>
    /// Reads texts: a Cranfield file (.I id, then .T title and .W text among other fields), JSON lines, or a table (CSV, TSV, Parquet). Objects and tables have an id (id, _id, doc_id, docid, docno, query_id or qid;
    /// without one, rows are numbered from 1), a text (text, contents, content, body, query or abstract), and may have a title.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is not in its format.</exception>
    public static IReadOnlyList<TextDocument> Read(string path)
    {
        var texts = Path.GetExtension(path).ToLowerInvariant() switch
        {
            ".jsonl" or ".ndjson" => ReadJsonLines(path),
            ".csv" or ".tsv" or ".parquet" => ReadTable(path),
            _ => ReadCranfield(path),
        };
        if (texts.Count == 0) throw new InvalidDataException($"{path}: the file holds no texts.");
        var seen = new HashSet<string>();
        foreach (var text in texts)
        {
            if (!seen.Add(text.Id)) throw new InvalidDataException($"{path}: the id '{text.Id}' occurs more than once.");
        }
        return texts;
    }

    /// <summary>
    /// Reads the Cranfield collection: cran.all.1400, cran.qry, cranqrel. Judgments name queries by their position in the file, from 1, not by their .I number; so do these queries.
    /// Cleverdon's codes 1 (a complete answer) to 4 (minimum interest) become gains 4 to 1; other codes mean not relevant.
    /// </summary>
    /// <param name="folder">The folder.</param>
    public static TextCollection ReadCranfieldFolder(string folder)
    {
        var queries = Read(Path.Combine(folder, "cran.qry")).Select((query, i) => new TextDocument((i + 1).ToString(CultureInfo.InvariantCulture), query.Text)).ToArray();
        var judgments = ReadJudgments(Path.Combine(folder, "cranqrel"));
        return new TextCollection(Read(Path.Combine(folder, "cran.all.1400")), queries, judgments.ToDictionary(
            query => query.Key, query => (IReadOnlyDictionary<string, double>)query.Value.Where(entry => entry.Value is >= 1 and <= 4).ToDictionary(entry => entry.Key, entry => 5 - entry.Value)));
    }

    /// <summary>Reads judgments: lines of "query document gain" or TREC's "query 0 document gain", separated by blanks or tabs.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">A line has another form.</exception>
    public static IReadOnlyDictionary<string, IReadOnlyDictionary<string, double>> ReadJudgments(string path)
    {
        var result = new Dictionary<string, Dictionary<string, double>>();
        var number = 0;
        foreach (var line in File.ReadLines(path))
        {
            number++;
            var parts = line.Split([' ', '\t', ','], StringSplitOptions.RemoveEmptyEntries);
            if (parts.Length == 0) continue;
            if (parts.Length is not (3 or 4) || !double.TryParse(parts[^1], CultureInfo.InvariantCulture, out var gain))
            {
                if (number == 1) continue; // a header
                throw new InvalidDataException($"{path}, line {number}: '{line}' is not 'query document gain'.");
            }
            if (!result.TryGetValue(parts[0], out var gains)) result[parts[0]] = gains = [];
            gains[parts[^2]] = gain;
        }
        return result.ToDictionary(entry => entry.Key, entry => (IReadOnlyDictionary<string, double>)entry.Value);
    }

    private static List<TextDocument> ReadCranfield(string path)
    {
        var result = new List<TextDocument>();
        var (id, field, text, number) = ((string?)null, ' ', new StringBuilder(), 0);
        foreach (var line in File.ReadLines(path, Encoding.Latin1))
        {
            number++;
            if (line.StartsWith(".I ", StringComparison.Ordinal))
            {
                if (id != null) result.Add(new TextDocument(id, text.ToString().Trim()));
                (id, field) = (line[3..].Trim(), ' ');
                text.Clear();
            }
            else if (id == null && line.Trim().Length > 0)
            {
                throw new InvalidDataException($"{path}, line {number}: the file does not start with '.I id'; texts are Cranfield files, .jsonl, .csv, .tsv or .parquet.");
            }
            else if (line.Length == 2 && line[0] == '.' && char.IsAsciiLetterUpper(line[1])) field = line[1];
            else if (field is 'T' or 'W') text.AppendLine(line);
        }
        if (id != null) result.Add(new TextDocument(id, text.ToString().Trim()));
        return result;
    }

    private static List<TextDocument> ReadJsonLines(string path)
    {
        var result = new List<TextDocument>();
        var number = 0;
        foreach (var line in File.ReadLines(path))
        {
            number++;
            if (string.IsNullOrWhiteSpace(line)) continue;
            try
            {
                using var json = JsonDocument.Parse(line);
                string? Get(params ReadOnlySpan<string> names)
                {
                    foreach (var name in names)
                    {
                        if (json.RootElement.TryGetProperty(name, out var value)) return value.ValueKind == JsonValueKind.String ? value.GetString() : value.GetRawText();
                    }
                    return null;
                }
                var text = Get(TextNames) ?? throw new InvalidDataException($"{path}, line {number}: the object has no text; it is looked for under {string.Join(", ", TextNames)}.");
                result.Add(new TextDocument(Get(IdNames) ?? number.ToString(CultureInfo.InvariantCulture), Join(Get("title"), text)));
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException)
            {
                throw new InvalidDataException($"{path}, line {number}: the line is not a JSON object: {e.Message}", e);
            }
        }
        return result;
    }

    private static List<TextDocument> ReadTable(string path)
    {
        var table = Table.Read(path);
        string? Find(string[] names) => names.FirstOrDefault(table.Has);
        var text = Find(TextNames) ?? throw new InvalidDataException($"{path}: there is no text column; it is looked for under {string.Join(", ", TextNames)}.");
        var (id, title) = (Find(IdNames), Find(["title"]));
        return [.. Enumerable.Range(0, table.RowCount).Select(row => new TextDocument(
            (id == null ? null : table[id][row]) ?? (row + 1).ToString(CultureInfo.InvariantCulture), Join(title == null ? null : table[title][row], table[text][row] ?? "")))];
    }

    private static string Join(string? title, string text) => string.IsNullOrEmpty(title) ? text : $"{title}\n{text}";
}
