using System.Text.Json.Serialization;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>How a column goes into a model with hashed features.</summary>
public enum HashedColumnKind
{
    /// <summary>One value, as text; a missing one is the empty text, a value like any other.</summary>
    Category,

    /// <summary>Several values in one cell; a missing cell has none.</summary>
    Bag,

    /// <summary>A number x, as (log(1 + |x|) sign(x) - mean) / deviation; a missing one is 0, the mean.</summary>
    Number,
}

/// <summary>A column of a <see cref="HashedSchema"/>.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Kind">How it goes into the model.</param>
/// <param name="Mean">Numbers: mean of the logarithms over the training rows.</param>
/// <param name="Deviation">Numbers: their standard deviation, above 0.</param>
public sealed record HashedColumn(string Name, HashedColumnKind Kind, double Mean = 0, double Deviation = 1);

/// <summary>What <see cref="HashedSchema.Learn"/> cannot find out by itself.</summary>
public sealed record HashedSchemaOptions
{
    /// <summary>The column to predict; null for none.</summary>
    public string? Target { get; init; }

    /// <summary>Columns to leave out.</summary>
    public IReadOnlyCollection<string> Ignore { get; init; } = [];

    /// <summary>
    /// Columns of numbers that are categories all the same. Columns named id, or something that ends in "_id" or "Id", are taken for categories without being named.
    /// </summary>
    public IReadOnlyCollection<string> Categories { get; init; } = [];

    /// <summary>Columns with several values in a cell.</summary>
    public IReadOnlyCollection<string> Bags { get; init; } = [];

    /// <summary>What separates the values of a bag.</summary>
    public char Separator { get; init; } = '|';
}

/// <summary>A table as tensors and the values that occur in it.</summary>
/// <param name="Vocabularies">The values of each categorical column (bags included), in order of appearance.</param>
/// <param name="Lengths">Columns of <paramref name="Ids"/> that each categorical column has: the most values in a cell, at least 1.</param>
/// <param name="Ids">int64 [n, columns]: ids of the values, each column's after those of the column before; 0 for numbers.</param>
/// <param name="Values">float32 [n, columns]: 1, or 0 where a bag has fewer values; then the scaled numbers.</param>
/// <param name="Target">int64 [n] class indices or float32 [n] numbers; null without target.</param>
public sealed record HashedTable(IReadOnlyList<IReadOnlyList<string>> Vocabularies, IReadOnlyList<int> Lengths, Tensor Ids, Tensor Values, Tensor? Target);

/// <summary>
/// How the columns of a table become the inputs of a model with hashed features. In contrast to <see cref="ColumnSchema"/> it keeps no categories: any value
/// is allowed at any time, and there is no "unknown".
/// </summary>
public sealed class HashedSchema
{
    /// <summary>Makes a schema of known columns; <see cref="Learn"/> finds them from data.</summary>
    /// <param name="columns">The columns, at least one; numbers after all others.</param>
    /// <param name="target">The target, if any.</param>
    /// <param name="separator">What separates the values of a bag.</param>
    /// <exception cref="ArgumentException">There is no categorical column, two have one name, or a number comes before a category.</exception>
    [JsonConstructor]
    public HashedSchema(IReadOnlyList<HashedColumn> columns, SchemaTarget? target, char separator = '|')
    {
        ArgumentNullException.ThrowIfNull(columns);
        if (columns.All(c => c.Kind == HashedColumnKind.Number)) throw new ArgumentException("Hashed features need at least one categorical column.", nameof(columns));
        if (columns.Select(c => c.Name).Distinct().Count() != columns.Count) throw new ArgumentException("Two columns have one name.", nameof(columns));
        if (!columns.OrderBy(c => c.Kind == HashedColumnKind.Number).SequenceEqual(columns)) throw new ArgumentException("Columns of numbers come after the others.", nameof(columns));
        (Columns, Target, Separator) = (columns, target, separator);
    }

    /// <summary>The columns: categories and bags first, in the order that is part of their hash, then numbers.</summary>
    public IReadOnlyList<HashedColumn> Columns { get; }

    /// <summary>The target, if any.</summary>
    public SchemaTarget? Target { get; }

    /// <summary>What separates the values of a bag.</summary>
    public char Separator { get; }

    /// <summary>The categorical columns, bags included.</summary>
    [JsonIgnore]
    public IReadOnlyList<HashedColumn> Categories => [.. Columns.Where(c => c.Kind != HashedColumnKind.Number)];

    /// <summary>The columns of numbers.</summary>
    [JsonIgnore]
    public IReadOnlyList<HashedColumn> Numbers => [.. Columns.Where(c => c.Kind == HashedColumnKind.Number)];

    /// <summary>Learns from the training rows which columns are numbers, and how these are scaled.</summary>
    /// <param name="table">The table.</param>
    /// <param name="options">Target, columns to ignore, and what the columns are.</param>
    /// <param name="rows">The training rows; null for all.</param>
    /// <exception cref="BadInputException">A named column does not exist, there is no categorical column, or the target has no value, is missing in a row or always the same.</exception>
    public static HashedSchema Learn(Table table, HashedSchemaOptions? options = null, Tensor? rows = null)
    {
        ArgumentNullException.ThrowIfNull(table);
        options ??= new HashedSchemaOptions();
        foreach (string name in options.Ignore.Concat(options.Categories).Concat(options.Bags).Concat(options.Target is null ? [] : [options.Target]))
            if (!table.Has(name)) throw new BadInputException($"{table.Source} has no column '{name}'; it has: {string.Join(", ", table.Columns)}.");
        int[] training = ColumnSchema.TrainingRows(table, rows);
        if (training.Length == 0) throw new BadInputException($"{table.Source} has no rows to learn from.");
        SchemaTarget? target = options.Target is null ? null : ColumnSchema.LearnTarget(table, table[options.Target], new ColumnSchemaOptions(), training);
        HashedColumn[] columns = [.. table.Columns.Where(name => name != options.Target && !options.Ignore.Contains(name)).Select(Learned).OrderBy(c => c.Kind == HashedColumnKind.Number)];
        if (columns.All(c => c.Kind == HashedColumnKind.Number))
            throw new BadInputException($"{table.Source} has only columns of numbers beside the target; name the columns that are categories.");
        return new HashedSchema(columns, target, options.Separator);

        HashedColumn Learned(string name)
        {
            if (options.Bags.Contains(name)) return new HashedColumn(name, HashedColumnKind.Bag);
            TableColumn column = table[name];
            bool identifier = options.Categories.Contains(name) || name.Equals("id", StringComparison.OrdinalIgnoreCase) || name.EndsWith("_id", StringComparison.OrdinalIgnoreCase) || name.EndsWith("Id", StringComparison.Ordinal);
            if (identifier || !Array.Exists(training, row => !column.IsMissing(row)) || !Array.TrueForAll(training, row => column.IsMissing(row) || column.TryGetNumber(row, out _)))
                return new HashedColumn(name, HashedColumnKind.Category);
            double[] numbers = [.. training.Where(row => !column.IsMissing(row)).Select(row => Logarithm(ColumnSchema.Number(table, column, row)))];
            double mean = numbers.Average(), deviation = Math.Sqrt(numbers.Average(x => (x - mean) * (x - mean)));
            return new HashedColumn(name, HashedColumnKind.Number, mean, deviation > 0 ? deviation : 1);
        }
    }

    /// <summary>Encodes a table, which may have other columns too.</summary>
    /// <param name="table">The table.</param>
    /// <exception cref="BadInputException">A column is missing, a cell of a numeric column is no number, or a target is missing or of an unknown class.</exception>
    public HashedTable Encode(Table table)
    {
        ArgumentNullException.ThrowIfNull(table);
        string[] absent = [.. Columns.Select(c => c.Name).Where(name => !table.Has(name))];
        if (absent.Length > 0) throw new BadInputException($"{table.Source} lacks the column{(absent.Length == 1 ? "" : "s")} {string.Join(", ", absent)}, which the model was trained with; it has: {string.Join(", ", table.Columns)}.");
        HashedColumn[] categories = [.. Categories], numbers = [.. Numbers];
        int rows = table.RowCount;
        int[] lengths = [.. categories.Select(c => c.Kind == HashedColumnKind.Bag ? Longest(table[c.Name]) : 1)];
        int width = lengths.Sum() + numbers.Length, first = 0;
        long[] ids = new long[(long)rows * width];
        float[] values = new float[ids.Length];
        var vocabularies = new List<string>[categories.Length];
        long offset = 0;
        for (int t = 0; t < categories.Length; t++)
        {
            TableColumn column = table[categories[t].Name];
            List<string> vocabulary = vocabularies[t] = [];
            Dictionary<string, int> known = new(StringComparer.Ordinal);
            var bySpan = known.GetAlternateLookup<ReadOnlySpan<char>>();
            for (int row = 0; row < rows; row++)
            {
                int cell = row * width + first;
                ids.AsSpan(cell, lengths[t]).Fill(offset);
                ReadOnlySpan<char> text = column.IsMissing(row) ? [] : column.Characters(row);
                if (categories[t].Kind == HashedColumnKind.Category)
                {
                    Put(cell, text);
                    continue;
                }
                foreach (Range part in text.Split(Separator))
                {
                    ReadOnlySpan<char> value = text[part].Trim();
                    if (!value.IsEmpty) Put(cell++, value);
                }
            }
            if (vocabulary.Count == 0) vocabulary.Add(""); // Bags that are all empty: id 0 must name something.
            offset += vocabulary.Count;
            first += lengths[t];

            void Put(int cell, ReadOnlySpan<char> value)
            {
                if (!bySpan.TryGetValue(value, out int id))
                {
                    bySpan[value] = id = vocabulary.Count;
                    vocabulary.Add(value.ToString());
                }
                ids[cell] = offset + id;
                values[cell] = 1;
            }
        }
        for (int j = 0; j < numbers.Length; j++)
        {
            TableColumn column = table[numbers[j].Name];
            for (int row = 0; row < rows; row++)
                if (!column.IsMissing(row)) values[row * width + first + j] = (float)((Logarithm(ColumnSchema.Number(table, column, row)) - numbers[j].Mean) / numbers[j].Deviation);
        }
        return new HashedTable(vocabularies, lengths, torch.tensor(ids, [rows, width], ScalarType.Int64), torch.tensor(values, [rows, width]), ColumnSchema.EncodeTarget(table, Target));
    }

    private static double Logarithm(double x) => Math.CopySign(double.LogP1(Math.Abs(x)), x);

    private int Longest(TableColumn column)
    {
        int most = 1;
        for (int row = 0; row < column.Count; row++)
            if (!column.IsMissing(row)) most = Math.Max(most, column.Characters(row).Count(Separator) + 1);
        return most;
    }
}
