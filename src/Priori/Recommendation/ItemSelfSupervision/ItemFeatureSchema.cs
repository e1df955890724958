using System.Globalization;
using System.Text.Json.Serialization;
using Priori.Data;
using Priori.Nn;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Recommendation;

/// <summary>What a feature of an item holds.</summary>
public enum ItemFeatureKind
{
    /// <summary>One value of a vocabulary.</summary>
    Categorical,

    /// <summary>A set of values of a vocabulary, such as genres or tags.</summary>
    MultiValued,

    /// <summary>A number, standardised.</summary>
    Numeric,
}

/// <summary>One feature of an item. It takes <paramref name="Slots"/> (id, value) pairs of a row.</summary>
/// <param name="Name">The column.</param>
/// <param name="Kind">What it holds.</param>
/// <param name="Slots">Pairs it takes: 1, and for a multi-valued feature the most values of an item.</param>
public sealed record ItemFeature(string Name, ItemFeatureKind Kind, int Slots = 1)
{
    /// <summary>The vocabulary, sorted by ordinal; empty for a number.</summary>
    public IReadOnlyList<string> Vocabulary { get; init; } = [];

    /// <summary>Numeric: mean over the catalogue.</summary>
    public double Mean { get; init; }

    /// <summary>Numeric: standard deviation over the catalogue, above 0.</summary>
    public double Deviation { get; init; } = 1;

    /// <summary>Numeric: inner edges of the buckets by which mutual information is counted, of the standardised number, ascending.</summary>
    public IReadOnlyList<double> Edges { get; init; } = [];

    /// <summary>The number of ids.</summary>
    [JsonIgnore]
    public int Ids => Kind == ItemFeatureKind.Numeric ? 1 : Vocabulary.Count;
}

/// <summary>What <see cref="ItemFeatureSchema.Learn"/> cannot find out by itself.</summary>
public sealed record ItemFeatureOptions
{
    /// <summary>Column of the item's id, which becomes a feature too; null for none.</summary>
    public string? Id { get; init; }

    /// <summary>Columns to leave out.</summary>
    public IReadOnlyCollection<string> Ignore { get; init; } = [];

    /// <summary>
    /// Kinds of single columns. By default a column is multi-valued if a cell has the separator, numeric if every value is a number and there are fractions or more
    /// than 20 different ones, and categorical otherwise.
    /// </summary>
    public IReadOnlyDictionary<string, ItemFeatureKind> Kinds { get; init; } = new Dictionary<string, ItemFeatureKind>();

    /// <summary>What separates the values of a multi-valued cell.</summary>
    public string Separator { get; init; } = "|";

    /// <summary>How the embeddings of a multi-valued feature are joined.</summary>
    public Pooling Pooling { get; init; } = Pooling.Mean;

    /// <summary>The most values of a multi-valued cell; further ones are left out. Default 32.</summary>
    public int MostValues { get; init; } = 32;

    /// <summary>Buckets of equal frequency by which mutual information with a number is counted. Default 10.</summary>
    public int Buckets { get; init; } = 10;
}

/// <summary>
/// Items as tensors, for any <see cref="ItemFeatureSchema"/>. A pair with value 0 is empty: padding, or a value that is missing or not in the vocabulary.
/// </summary>
/// <param name="Ids">int64 [n, slots]: ids in one range over all features.</param>
/// <param name="Values">float32 [n, slots]: the weight of each id's embedding; 1 for a category, 1 or one over their number for several, the standardised number.</param>
public sealed record ItemFeatures(Tensor Ids, Tensor Values)
{
    /// <summary>The number of items n.</summary>
    public long Count => Ids.size(0);

    /// <summary>Some of the items.</summary>
    /// <param name="rows">Rows, int64 [m], on the tensors' device.</param>
    public ItemFeatures Select(Tensor rows) => new(Ids.index_select(0, rows), Values.index_select(0, rows));

    /// <summary>The same on a device.</summary>
    /// <param name="device">The device.</param>
    public ItemFeatures To(Device device) => new(Ids.to(device), Values.to(device));
}

/// <summary>How the columns of an item table (or of a table of queries) become the inputs of a tower. It is learned from the catalogue and applied unchanged to new items.</summary>
public sealed class ItemFeatureSchema
{
    private const int MostCategoriesOfNumbers = 20;
    private readonly Dictionary<string, int>[] _codes;

    /// <summary>Makes a schema of known features; <see cref="Learn"/> finds them from a table.</summary>
    /// <param name="features">The features, at least one.</param>
    /// <param name="idFeature">Index of the feature that is the item's id; null if there is none.</param>
    /// <param name="separator">What separates the values of a multi-valued cell.</param>
    /// <param name="pooling">How the embeddings of a multi-valued feature are joined.</param>
    /// <exception cref="ArgumentException">There is no feature, two have one name, one has no vocabulary, slots or spread, or the id is none of them.</exception>
    [JsonConstructor]
    public ItemFeatureSchema(IReadOnlyList<ItemFeature> features, int? idFeature = null, string separator = "|", Pooling pooling = Pooling.Mean)
    {
        ArgumentNullException.ThrowIfNull(features);
        ArgumentException.ThrowIfNullOrEmpty(separator);
        if (features.Count == 0) throw new ArgumentException("A schema has at least one feature.", nameof(features));
        if (features.Select(f => f.Name).Distinct().Count() != features.Count) throw new ArgumentException("Two features have one name.", nameof(features));
        if (features.FirstOrDefault(f => f.Ids == 0 || f.Slots < 1 || (f.Slots > 1 && f.Kind != ItemFeatureKind.MultiValued) || !(f.Deviation > 0)) is { } wrong)
            throw new ArgumentException($"Feature '{wrong.Name}' needs a vocabulary, at least one slot (one unless it is multi-valued) and a deviation above 0.", nameof(features));
        if (idFeature is { } id && (id < 0 || id >= features.Count || features[id].Kind != ItemFeatureKind.Categorical))
            throw new ArgumentException($"The id must be one of the {features.Count} features and categorical; it is number {id}.", nameof(idFeature));
        (Features, IdFeature, Separator, Pooling) = (features, idFeature, separator, pooling);
        int[] offsets = new int[features.Count], slots = new int[features.Count];
        for (int f = 0; f < features.Count; f++)
        {
            (offsets[f], slots[f]) = (Ids, Slots);
            Ids += features[f].Ids;
            Slots += features[f].Slots;
        }
        (Offsets, FirstSlots) = (offsets, slots);
        _codes = [.. features.Select(f => f.Vocabulary.Select((value, i) => (value, i)).ToDictionary(v => v.value, v => v.i, StringComparer.Ordinal))];
    }

    /// <summary>The features.</summary>
    public IReadOnlyList<ItemFeature> Features { get; }

    /// <summary>Index of the feature that is the item's id, if there is one.</summary>
    public int? IdFeature { get; }

    /// <summary>What separates the values of a multi-valued cell.</summary>
    public string Separator { get; }

    /// <summary>How the embeddings of a multi-valued feature are joined.</summary>
    public Pooling Pooling { get; }

    /// <summary>The number of ids over all features: the rows of an embedding table.</summary>
    [JsonIgnore]
    public int Ids { get; }

    /// <summary>(id, value) pairs of a row.</summary>
    [JsonIgnore]
    public int Slots { get; }

    /// <summary>The first id of each feature.</summary>
    [JsonIgnore]
    public IReadOnlyList<int> Offsets { get; }

    /// <summary>The first slot of each feature.</summary>
    [JsonIgnore]
    public IReadOnlyList<int> FirstSlots { get; }

    /// <summary>Learns a schema from a catalogue: the features are its columns, those of numbers last.</summary>
    /// <param name="table">One row an item.</param>
    /// <param name="options">The id column and kinds; by default everything is found out.</param>
    /// <exception cref="BadInputException">A named column does not exist, a column has no value at all, or a column said to be numeric holds text.</exception>
    public static ItemFeatureSchema Learn(Table table, ItemFeatureOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(table);
        options ??= new ItemFeatureOptions();
        foreach (string name in options.Ignore.Concat(options.Kinds.Keys).Concat(options.Id is null ? [] : [options.Id]))
            if (!table.Has(name)) throw new BadInputException($"{table.Source} has no column '{name}'; it has: {string.Join(", ", table.Columns)}.");
        string[] columns = [.. table.Columns.Where(c => c == options.Id || !options.Ignore.Contains(c))];
        if (columns.Length == 0) throw new BadInputException($"{table.Source} has no column beside the ignored ones.");
        ItemFeature[] features = [.. columns.Select(name => LearnFeature(table, table[name], options)).OrderBy(f => f.Kind == ItemFeatureKind.Numeric)];
        return new ItemFeatureSchema(features, options.Id is null ? null : Array.FindIndex(features, f => f.Name == options.Id), options.Separator, options.Pooling);
    }

    /// <summary>
    /// Encodes a table, which may have other columns too. Missing and unknown categories are empty pairs (a tower replaces their feature by its mask embedding); a missing number is taken as
    /// the mean.
    /// </summary>
    /// <param name="table">One row an item.</param>
    /// <exception cref="BadInputException">A column of the schema is not in the table, or a numeric column holds a text.</exception>
    public ItemFeatures Encode(Table table)
    {
        ArgumentNullException.ThrowIfNull(table);
        string[] absent = [.. Features.Select(f => f.Name).Where(name => !table.Has(name))];
        if (absent.Length > 0) throw new BadInputException($"{table.Source} lacks the column{(absent.Length == 1 ? "" : "s")} {string.Join(", ", absent)}, which the model was trained with; it has: {string.Join(", ", table.Columns)}.");
        int rows = table.RowCount;
        long[] ids = new long[(long)rows * Slots];
        float[] values = new float[(long)rows * Slots];
        for (int f = 0; f < Features.Count; f++)
        {
            ItemFeature feature = Features[f];
            TableColumn column = table[feature.Name];
            for (int row = 0; row < rows; row++)
            {
                Span<long> id = ids.AsSpan(row * Slots + FirstSlots[f], feature.Slots);
                Span<float> value = values.AsSpan(row * Slots + FirstSlots[f], feature.Slots);
                id.Fill(Offsets[f]);
                if (column.IsMissing(row)) continue;
                if (feature.Kind == ItemFeatureKind.Numeric)
                {
                    value[0] = (float)((Number(table, column, row) - feature.Mean) / feature.Deviation);
                    continue;
                }
                int[] codes = [.. Cells(column, row, feature.Kind, Separator).Select(v => _codes[f].GetValueOrDefault(v, -1)).Where(c => c >= 0).Distinct().Take(feature.Slots).Order()];
                for (int i = 0; i < codes.Length; i++)
                {
                    id[i] += codes[i];
                    value[i] = Pooling == Pooling.Mean ? 1f / codes.Length : 1;
                }
            }
        }
        return new ItemFeatures(tensor(ids, [rows, Slots], ScalarType.Int64), tensor(values, [rows, Slots]));
    }

    /// <summary>
    /// One discrete code for each feature of each item, as mutual information needs them: the category, the set of values of a multi-valued feature as a whole, the bucket of a number;
    /// -1 or a code of its own for "no value".
    /// </summary>
    /// <param name="items">Items of this schema.</param>
    /// <returns>int64 [n, features].</returns>
    public Tensor Codes(ItemFeatures items)
    {
        Check(items);
        using var scope = NewDisposeScope();
        return stack([.. Features.Select((feature, f) =>
        {
            Tensor values = items.Values.narrow(1, FirstSlots[f], feature.Slots);
            if (feature.Kind == ItemFeatureKind.Numeric) return bucketize(values[.., 0].to(ScalarType.Float64), tensor(feature.Edges.ToArray(), device: values.device));
            Tensor codes = (items.Ids.narrow(1, FirstSlots[f], feature.Slots) - Offsets[f]).masked_fill(values.eq(0), -1);
            return feature.Slots == 1 ? codes[.., 0] : HistogramEntropy.GroupRows(codes).Ids;
        })], 1).MoveToOuterDisposeScope();
    }

    /// <summary>Removes each value of the multi-valued features with a probability, independently; at least one value of a feature stays (Yao et al., section 3.2, dropout).</summary>
    /// <param name="items">Items of this schema.</param>
    /// <param name="probability">Probability, in [0, 1). Random numbers are libtorch's.</param>
    public ItemFeatures DropValues(ItemFeatures items, double probability)
    {
        Check(items);
        if (probability is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(probability), probability, "The probability must be in [0, 1).");
        if (probability == 0 || Features.All(f => f.Slots == 1)) return items;
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        Tensor dropped = items.Values.clone();
        for (int f = 0; f < Features.Count; f++)
        {
            if (Features[f].Slots == 1) continue;
            Tensor values = dropped.narrow(1, FirstSlots[f], Features[f].Slots), present = values.ne(0);
            Tensor luck = rand_like(values).masked_fill(present.logical_not(), -1);
            Tensor kept = values * luck.ge(probability).logical_or(luck.eq(luck.amax([1], keepdim: true))).to(values.dtype);
            if (Pooling == Pooling.Mean) kept = kept / kept.sum(1, keepdim: true).clamp_min(1e-12);
            values.copy_(kept);
        }
        return items with { Values = dropped.MoveToOuterDisposeScope() };
    }

    internal void Check(ItemFeatures items)
    {
        ArgumentNullException.ThrowIfNull(items);
        if (items.Ids.dim() != 2 || items.Ids.size(1) != Slots || !items.Ids.shape.SequenceEqual(items.Values.shape))
            throw new ArgumentException($"Items of this schema are ids and values [n, {Slots}], not [{string.Join(", ", items.Ids.shape)}] and [{string.Join(", ", items.Values.shape)}].", nameof(items));
    }

    private static ItemFeature LearnFeature(Table table, TableColumn column, ItemFeatureOptions options)
    {
        int[] rows = [.. Enumerable.Range(0, table.RowCount).Where(row => !column.IsMissing(row))];
        if (rows.Length == 0) throw new BadInputException($"{table.Source}: column '{column.Name}' has no value in any row; leave it out.");
        ItemFeatureKind kind = column.Name == options.Id ? ItemFeatureKind.Categorical
            : options.Kinds.TryGetValue(column.Name, out ItemFeatureKind given) ? given
            : rows.Any(row => column.Characters(row).Contains(options.Separator, StringComparison.Ordinal)) ? ItemFeatureKind.MultiValued
            : column.IsNumeric() && (rows.Any(row => !double.IsInteger(column.Number(row))) || rows.Select(column.Number).Distinct().Take(MostCategoriesOfNumbers + 1).Count() > MostCategoriesOfNumbers) ? ItemFeatureKind.Numeric
            : ItemFeatureKind.Categorical;
        if (kind != ItemFeatureKind.Numeric)
        {
            string[][] cells = [.. rows.Select(row => Cells(column, row, kind, options.Separator))];
            string[] vocabulary = [.. cells.SelectMany(c => c).Distinct().Order(StringComparer.Ordinal)];
            return new ItemFeature(column.Name, kind, kind == ItemFeatureKind.MultiValued ? Math.Clamp(cells.Max(c => c.Length), 1, options.MostValues) : 1) { Vocabulary = vocabulary };
        }
        double[] numbers = [.. rows.Select(row => Number(table, column, row)).Order()];
        double mean = numbers.Average(), deviation = Math.Sqrt(numbers.Average(x => (x - mean) * (x - mean)));
        if (!(deviation > 0)) deviation = 1;
        double[] edges = [.. Enumerable.Range(1, options.Buckets - 1).Select(b => (numbers[b * numbers.Length / options.Buckets] - mean) / deviation).Distinct()];
        return new ItemFeature(column.Name, kind) { Mean = mean, Deviation = deviation, Edges = edges };
    }

    private static string[] Cells(TableColumn column, int row, ItemFeatureKind kind, string separator)
        => kind == ItemFeatureKind.MultiValued ? [.. column[row]!.Split(separator, StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Distinct()] : [column[row]!];

    private static double Number(Table table, TableColumn column, int row) => column.TryGetNumber(row, out double number) && double.IsFinite(number)
        ? number
        : throw new BadInputException(string.Create(CultureInfo.InvariantCulture, $"{table.Source}, row {table.FirstRow + row + 1}: column '{column.Name}' is '{column[row]}', which is not a finite number."));
}
