namespace Priori.Data;

/// <summary>Feature vectors of things in one or several modalities (image, text, ...), and the names of the things where the file has them.</summary>
/// <param name="Ids">Name of each row; null where the file has none.</param>
/// <param name="Features">Float32 [rows, width] by modality. A missing value is NaN.</param>
/// <param name="Count">Number of rows.</param>
public sealed record FeatureFile(IReadOnlyList<string>? Ids, IReadOnlyDictionary<string, Tensor> Features, long Count)
{
    private static readonly string[] s_ids = ["ids", "id", "items", "item", "item_id", "item_ids"];

    /// <summary>
    /// Reads a file. In .npz and .safetensors every matrix is a modality by its name, and a vector of whole numbers named ids, id, items, item, item_id or item_ids names the rows; .npy is one modality;
    /// a folder is all its .npy files. In a table (CSV, TSV, Parquet) a column of one of those names (or the one given) names the rows, and the others, all numbers, form modalities by what stands before their trailing
    /// digits: image_0, image_1, text_0, ...
    /// </summary>
    /// <param name="path">The file or folder.</param>
    /// <param name="idColumn">Name of a table's column of names; null finds it.</param>
    /// <exception cref="InvalidDataException">The file is damaged, holds no features, row counts differ, a value is no number, or a name occurs twice.</exception>
    public static FeatureFile Read(string path, string? idColumn = null)
    {
        Dictionary<string, Tensor> arrays;
        switch (Path.GetExtension(path).ToUpperInvariant())
        {
            case ".NPZ": arrays = Npz.Read(path); break;
            case ".SAFETENSORS": arrays = Safetensors.Read(path); break;
            case ".NPY": arrays = new() { ["features"] = Npy.Read(path) }; break;
            case "" when Directory.Exists(path): arrays = Directory.EnumerateFiles(path, "*.npy").Order(StringComparer.Ordinal).ToDictionary(f => Path.GetFileNameWithoutExtension(f), Npy.Read); break;
            default: return FromTable(Table.Read(path), path, idColumn);
        }
        string[]? ids = null;
        var features = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        foreach (var (name, array) in arrays)
        {
            if (array.dim() == 1 && s_ids.Contains(name, StringComparer.OrdinalIgnoreCase) && !array.is_floating_point()) ids = [.. array.to(ScalarType.Int64).data<long>().ToArray().Select(i => i.ToString(System.Globalization.CultureInfo.InvariantCulture))];
            else if (array.dim() == 2 && !array.is_complex()) features[name] = array.to(ScalarType.Float32);
            else throw new InvalidDataException($"{path}: array '{name}' has the shape [{string.Join(", ", array.shape)}]; a modality is a matrix [rows, width], and row names are a vector of whole numbers called ids.");
        }
        return Checked(path, ids, features);
    }

    private static FeatureFile FromTable(Table table, string path, string? idColumn)
    {
        if (idColumn is not null && !table.Has(idColumn)) throw new InvalidDataException($"{path} has no column '{idColumn}'; it has: {string.Join(", ", table.Columns)}.");
        string? id = idColumn ?? table.Columns.FirstOrDefault(c => s_ids.Contains(c, StringComparer.OrdinalIgnoreCase));
        string[]? ids = id is null ? null : [.. Enumerable.Range(0, table.RowCount).Select(row => table[id][row] ?? throw new InvalidDataException($"{path}: row {row + 1} has no '{id}'."))];
        var features = table.Columns.Where(c => c != id).GroupBy(c => Modality(c)).ToDictionary(g => g.Key, g =>
        {
            string[] columns = [.. g];
            float[] values = new float[table.RowCount * columns.Length];
            for (int c = 0; c < columns.Length; c++)
            {
                double[] numbers = table[columns[c]].ToNumbers();
                for (int row = 0; row < numbers.Length; row++) values[row * columns.Length + c] = (float)numbers[row];
            }
            return tensor(values).view(table.RowCount, columns.Length);
        });
        return Checked(path, ids, features);
    }

    private static string Modality(string column)
    {
        string name = column.TrimEnd("0123456789".ToCharArray()).TrimEnd('_', '-', '.', ' ', '[', '(');
        return name.Length > 0 ? name : "features";
    }

    private static FeatureFile Checked(string path, string[]? ids, Dictionary<string, Tensor> features)
    {
        if (features.Count == 0) throw new InvalidDataException($"{path} holds no features.");
        long count = features.Values.First().size(0);
        if (features.FirstOrDefault(f => f.Value.size(0) != count) is { Key: not null } odd) throw new InvalidDataException($"{path}: '{features.Keys.First()}' has {count} rows, but '{odd.Key}' has {odd.Value.size(0)}.");
        if (ids is not null && ids.Length != count) throw new InvalidDataException($"{path}: there are {ids.Length} row names for {count} rows.");
        if (ids?.GroupBy(i => i).FirstOrDefault(g => g.Count() > 1) is { } twice) throw new InvalidDataException($"{path}: the row name '{twice.Key}' occurs more than once.");
        return new FeatureFile(ids, features, count);
    }
}
