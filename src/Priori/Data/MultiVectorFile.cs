namespace Priori.Data;

/// <summary>Reads sets of vectors from files.</summary>
public static class MultiVectorFile
{
    private static readonly string[] VectorNames = ["vectors", "embeddings", "flat", "tokens"];
    private static readonly string[] IdNames = ["doc_id", "query_id", "id", "qid"];

    /// <summary>The endings that <see cref="Read"/> knows.</summary>
    public static IReadOnlyList<string> Endings { get; } = [".npz", ".safetensors", ".parquet", ".csv", ".tsv"];

    /// <summary>
    /// Reads sets of vectors. A .npz or .safetensors file holds vectors [T, d] (named vectors, embeddings, flat or tokens) and offsets [n + 1] (named offsets); sets are numbered from 0, or named by a .ids.txt file of the same
    /// name, one id a line. A table (.parquet, .csv, .tsv) holds one token a row: an id column (doc_id, query_id, id or qid), rows of a set together, and numeric columns for the d values.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is not in its format.</exception>
    public static MultiVectorSet Read(string path)
    {
        try
        {
            return Path.GetExtension(path).ToLowerInvariant() switch
            {
                ".npz" => FromArrays(path, Npz.Read(path)),
                ".safetensors" => FromArrays(path, Safetensors.Read(path)),
                ".parquet" or ".csv" or ".tsv" => FromTable(path, Table.Read(path)),
                _ => throw new InvalidDataException($"{path}: sets of vectors are {string.Join(", ", Endings)} files."),
            };
        }
        catch (ArgumentException e)
        {
            throw new InvalidDataException($"{path}: {e.Message}", e);
        }
    }

    private static MultiVectorSet FromArrays(string path, Dictionary<string, Tensor> arrays)
    {
        var vectors = VectorNames.Select(name => arrays.GetValueOrDefault(name)).FirstOrDefault(found => found is not null)
            ?? throw new InvalidDataException($"{path}: there is no array 'vectors' [T, d]; the file has {string.Join(", ", arrays.Keys)}.");
        if (!arrays.TryGetValue("offsets", out var offsets) || offsets.dim() != 1 || !offsets.is_integral())
            throw new InvalidDataException($"{path}: there is no array of integers 'offsets' [n + 1].");
        var ids = Path.ChangeExtension(path, ".ids.txt");
        return new MultiVectorSet(vectors.to(ScalarType.Float32), offsets.to(ScalarType.Int64).data<long>().ToArray(), File.Exists(ids) ? File.ReadAllLines(ids) : null);
    }

    private static MultiVectorSet FromTable(string path, Table table)
    {
        var id = IdNames.FirstOrDefault(table.Has) ?? throw new InvalidDataException($"{path}: there is no column doc_id, query_id, id or qid.");
        var columns = table.Columns.Where(column => column != id).Select(column => table[column]).ToArray();
        if (columns.Length == 0 || table.RowCount == 0) throw new InvalidDataException($"{path}: there are no columns of numbers beside '{id}', or no rows.");
        var values = new float[(long)table.RowCount * columns.Length];
        var (ids, offsets) = (new List<string>(), new List<long>());
        for (var row = 0; row < table.RowCount; row++)
        {
            var name = table[id][row] ?? throw new InvalidDataException($"{path}, row {row + 1}: '{id}' is missing.");
            if (ids.Count == 0 || ids[^1] != name)
            {
                ids.Add(name);
                offsets.Add(row);
            }
            for (var j = 0; j < columns.Length; j++)
            {
                if (!columns[j].TryGetNumber(row, out var number)) throw new InvalidDataException($"{path}, row {row + 1}: '{columns[j][row]}' in column '{columns[j].Name}' is not a number.");
                values[(long)row * columns.Length + j] = (float)number;
            }
        }
        if (ids.Distinct().Count() != ids.Count)
            throw new InvalidDataException($"{path}: the rows of '{ids.GroupBy(x => x).First(group => group.Count() > 1).Key}' are not together.");
        return new MultiVectorSet(tensor(values, [table.RowCount, columns.Length]), [.. offsets, table.RowCount], ids);
    }
}
