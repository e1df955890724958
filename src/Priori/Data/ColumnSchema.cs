using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>How a column becomes a field of a model.</summary>
public enum FieldKind
{
    /// <summary>One id for each category that was seen, and one for all others; the value is 1.</summary>
    Categorical,

    /// <summary>One id; the value is the number, scaled.</summary>
    Numeric,

    /// <summary>One id for each bucket of the number; the value is 1. The buckets hold equally many training rows.</summary>
    Quantiles,

    /// <summary>One id for each value of floor(ln(v)^2) of numbers v above 2 and of the whole part of others, as for a category of that name; the value is 1. The usual treatment of Criteo's counts.</summary>
    LogSquares,
}

/// <summary>How the values of numeric fields are scaled.</summary>
public enum NumericScaling
{
    /// <summary>The training range onto [0.001, 1], inside the (0, 1] that ARM-Net asks for; values outside it are clamped.</summary>
    MinMax,

    /// <summary>Zero mean and unit standard deviation over the training rows.</summary>
    Standardize,

    /// <summary>The training range onto [0, 1]; values outside it are clamped, and a missing value is 0.</summary>
    ZeroToOne,
}

/// <summary>What a target column holds.</summary>
public enum TargetKind
{
    /// <summary>Two or more classes.</summary>
    Classes,

    /// <summary>A number.</summary>
    Regression,
}

/// <summary>What <see cref="ColumnSchema.Learn"/> cannot find out by itself.</summary>
public sealed record ColumnSchemaOptions
{
    /// <summary>The column to predict; null for none.</summary>
    public string? Target { get; init; }

    /// <summary>Classes or a number; null finds out: a number if every value is one and there are fractions or more than 20 different values.</summary>
    public TargetKind? TargetKind { get; init; }

    /// <summary>Columns to leave out, such as row numbers.</summary>
    public IReadOnlyCollection<string> Ignore { get; init; } = [];

    /// <summary>The kind of single columns, where <see cref="FieldKind.Categorical"/> for columns of text and <see cref="NumericKind"/> for columns of numbers is wrong.</summary>
    public IReadOnlyDictionary<string, FieldKind> Kinds { get; init; } = new Dictionary<string, FieldKind>();

    /// <summary>What columns of numbers become.</summary>
    public FieldKind NumericKind { get; init; } = FieldKind.Numeric;

    /// <summary>How numeric fields are scaled.</summary>
    public NumericScaling Scaling { get; init; } = NumericScaling.MinMax;

    /// <summary>The most buckets of a <see cref="FieldKind.Quantiles"/> field, at least 2; equal quantiles are merged.</summary>
    public int Buckets { get; init; } = 10;

    /// <summary>Categories with fewer training rows than this share the id of the unknown ones; at least 1.</summary>
    public int MinimumFrequency { get; init; } = 1;
}

/// <summary>One field of a schema. Its ids are counted from 0 here; <see cref="ColumnSchema.Offsets"/> makes them global.</summary>
/// <param name="Name">The column.</param>
/// <param name="Kind">How it is encoded.</param>
/// <param name="HasMissing">Whether training rows lacked a value; then the last id stands for "missing", and otherwise a missing value is taken as unknown (categorical) or as the median.</param>
public sealed record SchemaField(string Name, FieldKind Kind, bool HasMissing)
{
    /// <summary>Categorical and log squares: the known categories, sorted by ordinal; category i has id i + 1, and id 0 is every other one.</summary>
    public IReadOnlyList<string> Categories { get; init; } = [];

    /// <summary>Quantiles: the inner edges of the buckets, ascending; id i holds the numbers from edge i - 1 up to, but not including, edge i.</summary>
    public IReadOnlyList<double> Edges { get; init; } = [];

    /// <summary>Numeric: what a number is multiplied with before <see cref="Shift"/> is added.</summary>
    public double Scale { get; init; } = 1;

    /// <summary>Numeric: what is added to the scaled number.</summary>
    public double Shift { get; init; }

    /// <summary>Numeric: the least scaled value, at which values are clamped; null for no limit.</summary>
    public double? Least { get; init; }

    /// <summary>Numeric: the greatest scaled value; null for no limit.</summary>
    public double? Greatest { get; init; }

    /// <summary>Numeric and quantiles: what a missing value is taken as, before scaling: the median of the training rows, and with <see cref="NumericScaling.ZeroToOne"/> their least number.</summary>
    public double Median { get; init; }

    /// <summary>The number of ids.</summary>
    [JsonIgnore]
    public int Size => (HasMissing ? 1 : 0) + (Kind switch { FieldKind.Categorical or FieldKind.LogSquares => Categories.Count + 1, FieldKind.Quantiles => Edges.Count + 1, _ => 1 });

    /// <summary>What an id stands for, such as "Sales", "&lt;unknown&gt;", "&lt;missing&gt;" or "[20, 35)"; empty for the one id of a number.</summary>
    /// <param name="id">The id within the field, from 0.</param>
    public string Meaning(int id)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(id);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(id, Size);
        if (HasMissing && id == Size - 1) return "<missing>";
        return Kind switch
        {
            FieldKind.Categorical or FieldKind.LogSquares => id == 0 ? "<unknown>" : Categories[id - 1],
            FieldKind.Quantiles => string.Create(CultureInfo.InvariantCulture,
                $"{(id == 0 ? "(-inf" : "[" + Edges[id - 1].ToString("R", CultureInfo.InvariantCulture))}, {(id == Edges.Count ? "inf" : Edges[id].ToString("R", CultureInfo.InvariantCulture))})"),
            _ => "",
        };
    }
}

/// <summary>The target of a schema.</summary>
/// <param name="Name">The column.</param>
/// <param name="Kind">What it holds.</param>
/// <param name="Classes">The names of the classes, sorted: by value if all are numbers, otherwise by ordinal. Empty for regression.</param>
/// <param name="Mean">Regression: the mean of the training rows; targets are encoded unscaled.</param>
/// <param name="Deviation">Regression: their standard deviation.</param>
public sealed record SchemaTarget(string Name, TargetKind Kind, IReadOnlyList<string> Classes, double Mean = 0, double Deviation = 1);

/// <summary>A table as tensors.</summary>
/// <param name="Ids">int64 [n, fields]: global ids, each field in a range of its own.</param>
/// <param name="Values">float32 [n, fields]: 1 for categories and buckets, the scaled number for numeric fields.</param>
/// <param name="Target">int64 [n] class indices or float32 [n] numbers; null if the schema or the table has no target.</param>
public sealed record EncodedTable(Tensor Ids, Tensor Values, Tensor? Target);

/// <summary>
/// How the columns of a table become the inputs of a model: each column a field of (id, value) pairs, as factorization machines, ARM-Net and
/// their kin take them. It is learned from training rows only, saved beside the model, and applied unchanged to new rows.
/// </summary>
public sealed class ColumnSchema
{
    /// <summary>The least scaled value of <see cref="NumericScaling.MinMax"/>.</summary>
    private const double LeastMinMax = 0.001;

    private const int RowsPerChunk = 1 << 16;
    private const int MostClassesOfNumbers = 20;

    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, Converters = { new JsonStringEnumConverter() }, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true };

    private readonly CategoryIndex[] categories;

    /// <summary>Makes a schema of known fields; <see cref="Learn"/> finds them from data.</summary>
    /// <param name="fields">The fields, in the order of the columns of ids and values; at least one.</param>
    /// <param name="target">The target, if any.</param>
    /// <exception cref="ArgumentException">There is no field, two have one name, or a field contradicts itself.</exception>
    [JsonConstructor]
    public ColumnSchema(IReadOnlyList<SchemaField> fields, SchemaTarget? target)
    {
        ArgumentNullException.ThrowIfNull(fields);
        if (fields.Count == 0 || fields.Any(field => field is null)) throw new ArgumentException("A schema has at least one field, and none is null.", nameof(fields));
        HashSet<string> names = new(StringComparer.Ordinal);
        if (target is not null) names.Add(target.Name);
        long[] offsets = new long[fields.Count];
        categories = new CategoryIndex[fields.Count];
        for (int i = 0; i < fields.Count; i++)
        {
            SchemaField field = fields[i];
            if (!names.Add(field.Name)) throw new ArgumentException($"Two columns of the schema are named '{field.Name}'.", nameof(fields));
            for (int edge = 1; edge < field.Edges.Count; edge++)
                if (!(field.Edges[edge] > field.Edges[edge - 1])) throw new ArgumentException($"The edges of field '{field.Name}' do not ascend.", nameof(fields));
            offsets[i] = TotalIds;
            TotalIds += field.Size;
            if (field.Categories.GroupBy(category => category, StringComparer.Ordinal).FirstOrDefault(group => group.Count() > 1) is { } twice)
                throw new ArgumentException($"Field '{field.Name}' has the category '{twice.Key}' twice.", nameof(fields));
            categories[i] = new CategoryIndex(field.Categories);
        }
        if (target is { Kind: TargetKind.Classes, Classes.Count: < 2 }) throw new ArgumentException($"Target '{target.Name}' has fewer than two classes.", nameof(target));
        (Fields, Target, Offsets) = (fields, target, offsets);
    }

    /// <summary>The fields, in the order of the columns of ids and values.</summary>
    public IReadOnlyList<SchemaField> Fields { get; }

    /// <summary>The target, if any.</summary>
    public SchemaTarget? Target { get; }

    /// <summary>The first global id of each field.</summary>
    [JsonIgnore]
    public IReadOnlyList<long> Offsets { get; }

    /// <summary>The number of global ids: the rows of an embedding table.</summary>
    [JsonIgnore]
    public long TotalIds { get; }

    /// <summary>Learns a schema from the training rows of a table.</summary>
    /// <param name="table">The table.</param>
    /// <param name="options">The target, columns to ignore, and kinds; by default all columns are fields and there is no target.</param>
    /// <param name="rows">int64 [k]: the training rows; null for all.</param>
    /// <exception cref="BadInputException">A named column does not exist, a column or the target has no value, or the target is the same in all rows.</exception>
    /// <exception cref="ArgumentException">An option or a row is outside its range.</exception>
    public static ColumnSchema Learn(Table table, ColumnSchemaOptions? options = null, Tensor? rows = null)
    {
        ArgumentNullException.ThrowIfNull(table);
        options ??= new ColumnSchemaOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Buckets, 2, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MinimumFrequency, 1, nameof(options));
        if (options.NumericKind == FieldKind.Categorical) throw new ArgumentException("NumericKind is Numeric or Quantiles; single columns are made categorical by Kinds.", nameof(options));
        foreach (string name in options.Ignore.Concat(options.Kinds.Keys).Concat(options.Target is null ? [] : [options.Target]))
            if (!table.Has(name)) throw new BadInputException($"{table.Source} has no column '{name}'; it has: {string.Join(", ", table.Columns)}.");
        int[] training = TrainingRows(table, rows);
        if (training.Length == 0) throw new BadInputException($"{table.Source} has no rows to learn from.");
        SchemaTarget? target = options.Target is null ? null : LearnTarget(table, table[options.Target], options, training);
        SchemaField[] fields = table.Columns.Where(name => name != options.Target && !options.Ignore.Contains(name))
            .Select(name => LearnField(table, table[name], options, training)).ToArray();
        if (fields.Length == 0) throw new BadInputException($"{table.Source} has no column to learn from beside the target and the ignored ones.");
        return new ColumnSchema(fields, target);
    }

    /// <summary>Encodes a table, which may have other columns too.</summary>
    /// <param name="table">The table.</param>
    /// <returns>The tensors; the target is null if the schema has none, or the table's target column is absent or wholly empty.</returns>
    /// <exception cref="BadInputException">A column of the schema is not in the table, a numeric column holds a text, or a target is missing or of a class that training did not have.</exception>
    public EncodedTable Encode(Table table)
    {
        ArgumentNullException.ThrowIfNull(table);
        string[] absent = Fields.Select(field => field.Name).Where(name => !table.Has(name)).ToArray();
        if (absent.Length > 0)
            throw new BadInputException($"{table.Source} lacks the column{(absent.Length == 1 ? "" : "s")} {string.Join(", ", absent)}, which the model was trained with; it has: {string.Join(", ", table.Columns)}.");
        using var scope = NewDisposeScope();
        Tensor ids = torch.empty([table.RowCount, Fields.Count], ScalarType.Int64), values = torch.empty([table.RowCount, Fields.Count], ScalarType.Float32);
        for (int start = 0; start < table.RowCount; start += RowsPerChunk)
        {
            int count = Math.Min(RowsPerChunk, table.RowCount - start);
            using Tensor idBlock = ids.narrow(0, start, count), valueBlock = values.narrow(0, start, count);
            Span<long> idSpan = MemoryMarshal.Cast<byte, long>(idBlock.bytes);
            Span<float> valueSpan = MemoryMarshal.Cast<byte, float>(valueBlock.bytes);
            for (int field = 0; field < Fields.Count; field++) EncodeField(table, field, start, count, idSpan, valueSpan);
        }
        Tensor? target = EncodeTarget(table, Target);
        return new EncodedTable(ids.MoveToOuterDisposeScope(), values.MoveToOuterDisposeScope(), target?.MoveToOuterDisposeScope());
    }

    /// <summary>The field that a global id belongs to, and the id within it.</summary>
    /// <param name="id">The global id, in [0, <see cref="TotalIds"/>).</param>
    public (int Field, int LocalId) Locate(long id)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(id);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(id, TotalIds);
        int field = Array.BinarySearch((long[])Offsets, id);
        if (field < 0) field = ~field - 1;
        return (field, (int)(id - Offsets[field]));
    }

    /// <summary>The name of a global id: "occupation=Sales", or "age" for the one id of a number.</summary>
    /// <param name="id">The global id, in [0, <see cref="TotalIds"/>).</param>
    public string Name(long id)
    {
        (int field, int local) = Locate(id);
        string meaning = Fields[field].Meaning(local);
        return meaning.Length == 0 ? Fields[field].Name : $"{Fields[field].Name}={meaning}";
    }

    /// <summary>Writes the schema as JSON, whole or not at all.</summary>
    /// <param name="path">The file.</param>
    public void Save(string path) => AtomicFile.WriteText(path, JsonSerializer.Serialize(this, Json));

    /// <summary>Reads a schema that <see cref="Save"/> wrote.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is no schema; the message says why.</exception>
    public static ColumnSchema Load(string path) => FileFormat.Read(path, stream =>
    {
        try
        {
            return JsonSerializer.Deserialize<ColumnSchema>(stream, Json) ?? throw new InvalidDataException("holds no schema");
        }
        catch (ArgumentException exception)
        {
            throw new InvalidDataException(exception.Message, exception);
        }
    });

    internal static int[] TrainingRows(Table table, Tensor? rows)
    {
        if (rows is null) return Enumerable.Range(0, table.RowCount).ToArray();
        if (rows.dtype != ScalarType.Int64 || rows.dim() != 1) throw new ArgumentException($"Rows are int64 [k], not {rows.dtype} [{string.Join(", ", rows.shape)}].", nameof(rows));
        using Tensor local = rows.cpu();
        return local.data<long>().Select(row => row >= 0 && row < table.RowCount
            ? (int)row
            : throw new ArgumentOutOfRangeException(nameof(rows), row, $"Rows are in [0, {table.RowCount}).")).ToArray();
    }

    private static SchemaField LearnField(Table table, TableColumn column, ColumnSchemaOptions options, int[] rows)
    {
        int present = rows.Count(row => !column.IsMissing(row));
        if (present == 0) throw new BadInputException($"{table.Source}: column '{column.Name}' has no value in the training rows; ignore it.");
        bool hasMissing = present < rows.Length;
        if (!options.Kinds.TryGetValue(column.Name, out FieldKind kind))
            kind = Array.TrueForAll(rows, row => column.IsMissing(row) || column.TryGetNumber(row, out _)) ? options.NumericKind : FieldKind.Categorical;
        if (kind == FieldKind.Categorical)
            return new SchemaField(column.Name, kind, hasMissing) { Categories = Frequent(column, rows, options.MinimumFrequency) };

        double[] numbers = rows.Where(row => !column.IsMissing(row)).Select(row => Number(table, column, row)).ToArray();
        if (kind == FieldKind.LogSquares)
            return new SchemaField(column.Name, kind, hasMissing) { Categories = [.. numbers.Select(LogSquare).CountBy(name => name).Where(c => c.Value >= options.MinimumFrequency).Select(c => c.Key).Order(StringComparer.Ordinal)] };
        Array.Sort(numbers);
        var field = new SchemaField(column.Name, kind, hasMissing) { Median = Quantile(numbers, 0.5) };
        if (kind == FieldKind.Quantiles)
        {
            // An edge at the least number would leave the bucket below it empty: that number has a bucket of its own, as the zeros of a column that is mostly zero.
            int above = Array.FindIndex(numbers, number => number > numbers[0]);
            if (above < 0) return field;
            return field with { Edges = [.. Enumerable.Range(1, options.Buckets - 1).Select(i => Math.Max(Quantile(numbers, (double)i / options.Buckets), numbers[above])).Distinct()] };
        }
        if (options.Scaling == NumericScaling.Standardize)
        {
            (double mean, double deviation) = Moments(numbers);
            double scale = deviation > 0 ? 1 / deviation : 1;
            return field with { Scale = scale, Shift = -mean * scale };
        }
        double range = numbers[^1] - numbers[0];
        if (options.Scaling == NumericScaling.ZeroToOne)
        {
            double unit = range > 0 ? 1 / range : 0;
            return field with { HasMissing = false, Median = numbers[0], Scale = unit, Shift = -numbers[0] * unit, Least = 0, Greatest = 1 };
        }
        double slope = range > 0 ? (1 - LeastMinMax) / range : 0;
        return field with { Scale = slope, Shift = range > 0 ? LeastMinMax - (numbers[0] * slope) : 1, Least = LeastMinMax, Greatest = 1 };
    }

    private static string[] Frequent(TableColumn column, int[] rows, int minimum)
    {
        Dictionary<string, int> counts = new(StringComparer.Ordinal);
        var bySpan = counts.GetAlternateLookup<ReadOnlySpan<char>>();
        foreach (int row in rows)
            if (!column.IsMissing(row)) CollectionsMarshal.GetValueRefOrAddDefault(bySpan, column.Characters(row), out _)++;
        string[] frequent = counts.Where(pair => pair.Value >= minimum).Select(pair => pair.Key).ToArray();
        Array.Sort(frequent, StringComparer.Ordinal);
        return frequent;
    }

    internal static SchemaTarget LearnTarget(Table table, TableColumn column, ColumnSchemaOptions options, int[] rows)
    {
        if (Array.TrueForAll(rows, column.IsMissing)) throw new BadInputException($"{table.Source}: the target '{column.Name}' has no value in the training rows.");
        foreach (int row in rows)
            if (column.IsMissing(row)) throw new BadInputException($"{table.Source}, row {table.FirstRow + row + 1}: the target '{column.Name}' is missing; remove the row or fill it in.");
        string[] classes = Frequent(column, rows, 1);
        bool numeric = Array.TrueForAll(rows, row => column.TryGetNumber(row, out _));
        TargetKind kind = options.TargetKind ?? (numeric && (classes.Length > MostClassesOfNumbers || rows.Any(row => !double.IsInteger(column.Number(row)))) ? TargetKind.Regression : TargetKind.Classes);
        if (classes.Length < 2)
            throw new BadInputException($"{table.Source}: the target '{column.Name}' is {classes[0]} in every training row; there is nothing to learn from fewer than two different values.");
        if (kind == TargetKind.Regression)
        {
            (double mean, double deviation) = Moments(rows.Select(row => Number(table, column, row)).ToArray());
            return new SchemaTarget(column.Name, kind, [], mean, deviation > 0 ? deviation : 1);
        }
        if (numeric) classes = [.. classes.OrderBy(name => double.Parse(name, CultureInfo.InvariantCulture)).ThenBy(name => name, StringComparer.Ordinal)];
        return new SchemaTarget(column.Name, kind, classes);
    }

    private void EncodeField(Table table, int index, int start, int count, Span<long> ids, Span<float> values)
    {
        SchemaField field = Fields[index];
        TableColumn column = table[field.Name];
        CategoryIndex known = categories[index];
        double[] edges = [.. field.Edges];
        for (int i = 0; i < count; i++)
        {
            int row = start + i, id = 0;
            float value = 1;
            bool missing = column.IsMissing(row);
            if (missing && field.HasMissing) id = field.Size - 1;
            else if (field.Kind == FieldKind.Categorical)
            {
                if (!missing) id = known.Find(column.Characters(row));
            }
            else if (field.Kind == FieldKind.LogSquares)
            {
                if (!missing) id = known.Find(LogSquare(Number(table, column, row)));
            }
            else
            {
                double number = missing ? field.Median : Number(table, column, row);
                if (field.Kind == FieldKind.Numeric)
                {
                    number = (number * field.Scale) + field.Shift;
                    value = (float)Math.Clamp(number, field.Least ?? double.NegativeInfinity, field.Greatest ?? double.PositiveInfinity);
                }
                else
                {
                    int at = Array.BinarySearch(edges, number);
                    id = at < 0 ? ~at : at + 1;
                }
            }
            int cell = (i * Fields.Count) + index;
            ids[cell] = Offsets[index] + id;
            values[cell] = value;
        }
    }

    internal static Tensor? EncodeTarget(Table table, SchemaTarget? target)
    {
        if (target is null || !table.Has(target.Name)) return null;
        TableColumn column = table[target.Name];
        if (Enumerable.Range(0, table.RowCount).All(column.IsMissing)) return null;
        BadInputException Bad(int row, string what) => new($"{table.Source}, row {table.FirstRow + row + 1}: the target '{target.Name}' is {what}.");
        if (target.Kind == TargetKind.Regression)
            return torch.tensor(Enumerable.Range(0, table.RowCount).Select(row => column.IsMissing(row) ? throw Bad(row, "missing") : (float)Number(table, column, row)).ToArray());
        Dictionary<string, long> classes = target.Classes.Select((name, i) => (name, (long)i)).ToDictionary(StringComparer.Ordinal);
        var known = classes.GetAlternateLookup<ReadOnlySpan<char>>();
        long[] labels = new long[table.RowCount];
        for (int row = 0; row < labels.Length; row++)
        {
            if (column.IsMissing(row)) throw Bad(row, "missing");
            if (!known.TryGetValue(column.Characters(row), out labels[row])) throw Bad(row, $"'{column[row]}'; training had the classes {string.Join(", ", target.Classes.Take(20))}");
        }
        return torch.tensor(labels);
    }

    /// <summary>A number that is there and finite.</summary>
    internal static double Number(Table table, TableColumn column, int row) => column.TryGetNumber(row, out double number) && double.IsFinite(number)
        ? number
        : throw new BadInputException($"{table.Source}, row {table.FirstRow + row + 1}: column '{column.Name}' is '{column[row]}', which is not a finite number.");

    private static string LogSquare(double number) => Math.Truncate(number > 2 ? Math.Pow(Math.Log(number), 2) : number).ToString("0", CultureInfo.InvariantCulture);

    /// <summary>The quantile of sorted numbers, linear between neighbours.</summary>
    private static double Quantile(double[] sorted, double probability)
    {
        double position = probability * (sorted.Length - 1);
        int below = (int)position;
        double above = sorted[Math.Min(below + 1, sorted.Length - 1)];
        return sorted[below] + ((position - below) * (above - sorted[below]));
    }

    private static (double Mean, double Deviation) Moments(double[] numbers)
    {
        double mean = numbers.Average();
        return (mean, Math.Sqrt(numbers.Average(number => (number - mean) * (number - mean))));
    }
}
