using System.Text;

namespace Priori.Data;

/// <summary>How a text table is read. Parquet files describe themselves; of these, only <see cref="Missing"/> applies to them.</summary>
public sealed record TableOptions
{
    /// <summary>The character between fields; null finds it: comma, tab, semicolon or bar.</summary>
    public char? Delimiter { get; init; }

    /// <summary>Whether the first row holds the names; null finds out: it does unless one of its fields is a number.</summary>
    public bool? Header { get; init; }

    /// <summary>Names for the columns, in place of the header's. Without header and names, columns are called column1, column2, ...</summary>
    public IReadOnlyList<string>? Names { get; init; }

    /// <summary>Texts that mean "no value", beside the empty one.</summary>
    public IReadOnlyList<string> Missing { get; init; } = ["?", "NA", "NaN", "nan"];

    /// <summary>The encoding of the text; null is UTF-8, with or without a byte order mark.</summary>
    public Encoding? Encoding { get; init; }

    /// <summary>Whether rows with too few or too many fields are passed over instead of refused.</summary>
    public bool SkipRaggedRows { get; init; }
}

/// <summary>A table of named columns, stored column by column.</summary>
public sealed class Table
{
    private readonly Dictionary<string, TableColumn> byName;

    /// <summary>Makes a table of columns of equal length.</summary>
    /// <param name="columns">The columns, at least one.</param>
    /// <param name="source">Where it comes from, for messages: a file name.</param>
    /// <param name="firstRow">The number of rows of the source before this block, for messages.</param>
    /// <exception cref="ArgumentException">There is no column, a name occurs twice, or the lengths differ.</exception>
    public Table(IReadOnlyList<TableColumn> columns, string source = "the table", long firstRow = 0)
    {
        ArgumentNullException.ThrowIfNull(columns);
        if (columns.Count == 0) throw new ArgumentException("A table has at least one column.", nameof(columns));
        byName = new Dictionary<string, TableColumn>(columns.Count, StringComparer.Ordinal);
        foreach (TableColumn column in columns)
        {
            if (column.Count != columns[0].Count) throw new ArgumentException($"Column '{column.Name}' has {column.Count} rows; '{columns[0].Name}' has {columns[0].Count}.", nameof(columns));
            if (!byName.TryAdd(column.Name, column)) throw new ArgumentException($"Two columns are named '{column.Name}'.", nameof(columns));
        }
        (Columns, RowCount, Source, FirstRow) = (columns.Select(column => column.Name).ToArray(), columns[0].Count, source, firstRow);
    }

    /// <summary>The names, in the order of the file.</summary>
    public IReadOnlyList<string> Columns { get; }

    /// <summary>The number of rows, without the header.</summary>
    public int RowCount { get; }

    /// <summary>Where the table comes from, for messages.</summary>
    public string Source { get; }

    /// <summary>The number of rows of the source before this block.</summary>
    public long FirstRow { get; }

    /// <summary>A column by its name.</summary>
    /// <param name="column">The name, as in the header.</param>
    /// <exception cref="KeyNotFoundException">There is none; the message lists the names that exist.</exception>
    public TableColumn this[string column] => byName.TryGetValue(column, out TableColumn? found)
        ? found
        : throw new KeyNotFoundException($"{Source} has no column '{column}'; it has: {string.Join(", ", Columns)}.");

    /// <summary>Whether there is a column of this name.</summary>
    /// <param name="column">The name.</param>
    public bool Has(string column) => byName.ContainsKey(column);

    /// <summary>Reads a whole file: Parquet (known by its first bytes), or text such as CSV and TSV, plain or gzipped.</summary>
    /// <param name="path">The file.</param>
    /// <param name="options">How text is read; by default everything is found out.</param>
    /// <exception cref="InvalidDataException">The file is damaged or a row has the wrong number of fields; the message names file and line.</exception>
    public static Table Read(string path, TableOptions? options = null) => TableReader.Blocks(path, int.MaxValue, options).First();
}
