using Priori.Data;
using Priori.Runtime;

namespace Priori.Recipes.OptimalTransport;

/// <summary>The cost of moving one point to another.</summary>
public enum TransportMetric
{
    /// <summary>Squared Euclidean distance.</summary>
    SquaredEuclidean,

    /// <summary>Euclidean distance.</summary>
    Euclidean,

    /// <summary>1 minus the cosine of the angle.</summary>
    Cosine,
}

/// <summary>A transport problem that the user brought: a cost matrix, or two sets of points, and masses.</summary>
/// <param name="Cost">C [m, n].</param>
/// <param name="X">Points of the rows [m, d]; null if only costs are given.</param>
/// <param name="Y">Points of the columns [n, d].</param>
/// <param name="A">Row masses [m], summing to 1.</param>
/// <param name="B">Column masses [n], summing to 1.</param>
/// <param name="Rows">Names of the rows; null numbers them.</param>
/// <param name="Columns">Names of the columns; null numbers them.</param>
internal sealed record TransportData(Tensor Cost, Tensor? X, Tensor? Y, Tensor A, Tensor B, IReadOnlyList<string>? Rows, IReadOnlyList<string>? Columns)
{
    private sealed record Part(Tensor Values, IReadOnlyList<string>? Rows, IReadOnlyList<string>? Columns);

    private static readonly string[] s_tables = [".csv", ".tsv", ".data", ".txt", ".parquet"];

    /// <summary>
    /// Reads a cost matrix (.csv, .npy), or an .npz or .safetensors file or a folder of such files that holds C, or X and Y, and optionally the masses a and b.
    /// </summary>
    public static TransportData Read(string path, TransportMetric metric)
    {
        Dictionary<string, Part> parts = Directory.Exists(path) ? ReadFolder(path) : ReadFile(path);
        Part? Find(string name) => parts.FirstOrDefault(part => part.Key.Equals(name, StringComparison.OrdinalIgnoreCase)).Value;
        (Part? c, Part? x, Part? y) = (Find("C") ?? Find("cost"), Find("X") ?? Find("source"), Find("Y") ?? Find("target"));
        if (c is null && (x is null || y is null))
            throw new BadInputException($"{path} holds {(parts.Count == 0 ? "no arrays" : string.Join(", ", parts.Keys))}; a transport problem needs a cost matrix C, or points X and Y (and masses a and b, if they are not even).");
        if (c is null && (x!.Values.dim() != 2 || y!.Values.dim() != 2 || x.Values.shape[1] != y.Values.shape[1]))
            throw new BadInputException($"{path}: X is [{string.Join(", ", x!.Values.shape)}] and Y is [{string.Join(", ", y!.Values.shape)}]; both must be tables of points with as many coordinates.");
        Tensor cost = c?.Values ?? CostBetween(x!.Values, y!.Values, metric);
        if (cost.dim() != 2 || cost.numel() == 0) throw new BadInputException($"{path}: the cost matrix is [{string.Join(", ", cost.shape)}]; it must have rows and columns.");
        if (!cost.isfinite().all().item<bool>()) throw new BadInputException($"{path}: some costs are missing or not finite; every pair of row and column needs a number.");
        return new(cost, x?.Values, y?.Values, Mass("a", Find("a"), cost.shape[0]), Mass("b", Find("b"), cost.shape[1]), c?.Rows ?? x?.Rows, c is null ? y!.Rows : c.Columns);

        Tensor Mass(string name, Part? part, long count)
        {
            if (part is null) return torch.full(count, 1.0 / count, dtype: ScalarType.Float64);
            Tensor mass = part.Values.reshape(-1);
            if (mass.shape[0] != count) throw new BadInputException($"{path}: {name} has {mass.shape[0]} masses for {count} {(name == "a" ? "rows" : "columns")}.");
            if (!mass.isfinite().all().item<bool>() || mass.min().item<double>() <= 0) throw new BadInputException($"{path}: all masses of {name} must be positive; leave out what has none.");
            return mass / mass.sum();
        }
    }

    /// <summary>A table of numbers from a .csv or .npy file, or the named array of an .npz or .safetensors file.</summary>
    public static Tensor ReadMatrix(string path, params string[] names)
    {
        Dictionary<string, Part> parts = ReadFile(path);
        Part? part = parts.Count == 1 ? parts.Values.Single() : parts.FirstOrDefault(p => names.Contains(p.Key, StringComparer.OrdinalIgnoreCase)).Value;
        if (part is null) throw new BadInputException($"{path} holds {string.Join(", ", parts.Keys)}; one array, or one called {string.Join(" or ", names)}, is needed.");
        if (part.Values.dim() != 2) throw new BadInputException($"{path}: the array is [{string.Join(", ", part.Values.shape)}]; a table with rows and columns is needed.");
        return part.Values;
    }

    /// <summary>Costs [m, n] between points [m, d] and [n, d].</summary>
    public static Tensor CostBetween(Tensor x, Tensor y, TransportMetric metric)
    {
        if (metric == TransportMetric.Cosine) return 1 - functional.normalize(x, dim: 1).mm(functional.normalize(y, dim: 1).t());
        Tensor distance = torch.cdist(x, y);
        return metric == TransportMetric.Euclidean ? distance : distance.square();
    }

    private static Dictionary<string, Part> ReadFolder(string folder)
        => Directory.EnumerateFiles(folder).Where(file => s_tables.Append(".npy").Contains(Path.GetExtension(file).ToLowerInvariant())).Order(StringComparer.Ordinal)
            .GroupBy(file => Path.GetFileNameWithoutExtension(file)!).ToDictionary(group => group.Key, group => ReadFile(group.First()).Values.Single());

    private static Dictionary<string, Part> ReadFile(string path)
    {
        static Dictionary<string, Part> Arrays(Dictionary<string, Tensor> arrays) => arrays.ToDictionary(a => a.Key, a => new Part(a.Value.to(ScalarType.Float64), null, null));
        string extension = Path.GetExtension(path).ToLowerInvariant();
        return extension switch
        {
            ".npz" => Arrays(Npz.Read(path)),
            ".safetensors" => Arrays(Safetensors.Read(path)),
            ".npy" => Arrays(new() { ["C"] = Npy.Read(path) }),
            _ when s_tables.Contains(extension) => new() { ["C"] = ReadTable(path) },
            _ => throw new BadInputException($"{path} is no .csv, .npy, .npz or .safetensors file, and no folder."),
        };
    }

    /// <summary>All columns must be numbers, save a first one of names.</summary>
    private static Part ReadTable(string path)
    {
        Table table = Table.Read(path);
        bool named = table.Columns.Count > 1 && !table[table.Columns[0]].IsNumeric();
        string[] columns = [.. table.Columns.Skip(named ? 1 : 0)];
        if (columns.FirstOrDefault(name => !table[name].IsNumeric()) is { } text)
            throw new BadInputException($"{path}: column '{text}' holds no numbers; only the first column may hold names.");
        Tensor values = torch.stack([.. columns.Select(name => torch.tensor(table[name].ToNumbers()))], 1);
        bool header = columns[0] != (named ? "column2" : "column1");
        return new(values, named ? [.. table[table.Columns[0]].Select(name => name ?? "")] : null, header ? columns : null);
    }
}
