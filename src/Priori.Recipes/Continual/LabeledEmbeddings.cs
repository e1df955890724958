using Priori.Data;
using Priori.Runtime;

namespace Priori.Recipes.Continual;

/// <summary>Embeddings with classes: features float32 [n, D], labels int64 [n].</summary>
internal sealed record LabeledEmbeddings(Tensor Features, Tensor Labels)
{
    /// <summary>Reads arrays (npz, safetensors: one matrix, and whole numbers called labels or as named) or a table with a column of classes.</summary>
    public static LabeledEmbeddings Read(string path, string? target)
    {
        if (!File.Exists(path)) throw new BadInputException($"{path} does not exist.");
        if (Path.GetExtension(path).ToLowerInvariant() is not (".npz" or ".safetensors" or ".npy")) return FromTable(Table.Read(path), target);
        if (path.EndsWith(".npy", StringComparison.OrdinalIgnoreCase)) throw new BadInputException($"{path} has no labels; give .npz or .safetensors with a matrix and labels.");
        Dictionary<string, Tensor> arrays = path.EndsWith(".npz", StringComparison.OrdinalIgnoreCase) ? Npz.Read(path) : Safetensors.Read(path);
        string names = string.Join(", ", arrays.Select(a => $"{a.Key} [{string.Join(", ", a.Value.shape)}]"));
        Tensor[] matrices = [.. arrays.Values.Where(a => a.dim() == 2)];
        if (matrices.Length != 1) throw new BadInputException($"{path} must hold one matrix of embeddings [n, D]; it has: {names}.");
        if (!arrays.TryGetValue(target ?? "labels", out Tensor? labels)) throw new BadInputException($"{path} has no array '{target ?? "labels"}' of classes; it has: {names}.");
        if (labels.dim() != 1 || labels.size(0) != matrices[0].size(0) || labels.is_floating_point()) throw new BadInputException($"{path}: labels must be whole numbers [{matrices[0].size(0)}]; it has: {names}.");
        return Checked(path, matrices[0].to(float32), labels.to(int64));
    }

    private static LabeledEmbeddings FromTable(Table table, string? target)
    {
        string column = target ?? (table.Has("label") ? "label" : throw new BadInputException($"{table.Source} has no column 'label'; name the column of classes with --target."));
        if (!table.Has(column)) throw new BadInputException($"{table.Source} has no column '{column}'; it has: {string.Join(", ", table.Columns)}.");
        string[] features = [.. table.Columns.Where(c => c != column && c is not ("id" or "row" or "task"))];
        if (features.Length == 0) throw new BadInputException($"{table.Source} has no columns of features beside '{column}'.");
        // Classes by their text, in ascending order, so that files with the same rows have the same numbers.
        string[] classes = [.. table[column].Select((c, row) => c ?? throw new BadInputException($"{table.Source}, row {row + 1} has no '{column}'."))];
        Dictionary<string, long> index = classes.Distinct().Order(StringComparer.Ordinal).Select((c, i) => (c, i)).ToDictionary(p => p.c, p => (long)p.i);
        return Checked(table.Source, stack([.. features.Select(f => tensor(table[f].ToNumbers()).to(float32))], 1), tensor([.. classes.Select(c => index[c])]));
    }

    private static LabeledEmbeddings Checked(string path, Tensor features, Tensor labels)
    {
        if (!features.isfinite().all().ToBoolean()) throw new BadInputException($"{path} holds numbers that are missing or not finite.");
        Tensor empty = features.norm(1).eq(0).nonzero().flatten();
        if (empty.size(0) > 0) throw new BadInputException($"{path}: row {empty[0].ToInt64() + 1} is zero, so it has no direction.");
        return new LabeledEmbeddings(features, labels);
    }

    /// <summary>Refuses embeddings of other rows or of another width.</summary>
    public void RequireSameRows(string path, LabeledEmbeddings other, string otherPath)
    {
        if (Labels.size(0) != other.Labels.size(0)) throw new BadInputException($"{otherPath} has {other.Labels.size(0)} rows and {path} {Labels.size(0)}; they must be the same rows in the same order.");
        Tensor differing = Labels.ne(other.Labels).nonzero().flatten();
        if (differing.size(0) > 0) throw new BadInputException($"{otherPath} and {path} have different labels in row {differing[0].ToInt64() + 1}; they must be the same rows in the same order.");
        if (Features.size(1) != other.Features.size(1))
            throw new BadInputException($"{otherPath} has {other.Features.size(1)} dimensions and {path} {Features.size(1)}: queries of one cannot be compared with a gallery of the other; index again, or translate (priori show relative-representations).");
    }
}
