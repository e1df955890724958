using System.Collections;
using System.Globalization;

namespace Priori.Data;

/// <summary>One column of a <see cref="Table"/>: a text or nothing (null) for each row. Values are stored without an object per cell.</summary>
public abstract class TableColumn : IReadOnlyList<string?>
{
    private protected TableColumn(string name) => Name = name;

    /// <summary>The name in the header.</summary>
    public string Name { get; }

    /// <summary>The number of rows.</summary>
    public abstract int Count { get; }

    /// <summary>The text of a row, or null if it is missing. Numbers are written as short as they read back exactly, dates as ISO 8601.</summary>
    /// <param name="row">The row, from 0.</param>
    public abstract string? this[int row] { get; }

    /// <summary>Makes a column of texts; null is missing.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="values">A text or null for each row.</param>
    public static TableColumn Texts(string name, IEnumerable<string?> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        var builder = new TextBuilder(name, []);
        foreach (string? value in values) builder.Append(value);
        return builder.Build();
    }

    /// <summary>Makes a column of numbers; NaN is missing.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="values">A number for each row.</param>
    public static TableColumn Numbers(string name, IReadOnlyList<double> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        return new ValueColumn<double>(name, [.. values.Select(value => double.IsNaN(value) ? null : (double?)value)], value => value);
    }

    /// <summary>Whether a row has no value.</summary>
    /// <param name="row">The row, from 0.</param>
    public abstract bool IsMissing(int row);

    /// <summary>The number of a row; false if it is missing or not a number. Booleans are 0 and 1.</summary>
    /// <param name="row">The row, from 0.</param>
    /// <param name="number">The number.</param>
    public abstract bool TryGetNumber(int row, out double number);

    /// <summary>Whether at least one row has a value and every value is a number.</summary>
    public bool IsNumeric()
    {
        bool any = false;
        for (int row = 0; row < Count; row++)
        {
            if (IsMissing(row)) continue;
            if (!TryGetNumber(row, out _)) return false;
            any = true;
        }
        return any;
    }

    /// <summary>All rows as numbers; missing ones are NaN.</summary>
    /// <exception cref="InvalidDataException">A value is not a number; the message names column and row.</exception>
    public double[] ToNumbers()
    {
        double[] numbers = new double[Count];
        for (int row = 0; row < numbers.Length; row++) numbers[row] = Number(row);
        return numbers;
    }

    /// <inheritdoc/>
    public IEnumerator<string?> GetEnumerator()
    {
        for (int row = 0; row < Count; row++) yield return this[row];
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>The text of a row that is not missing, without allocating where it is stored as text.</summary>
    internal abstract ReadOnlySpan<char> Characters(int row);

    /// <summary>The number of a row, NaN if missing.</summary>
    internal double Number(int row)
    {
        if (IsMissing(row)) return double.NaN;
        return TryGetNumber(row, out double number)
            ? number
            : throw new InvalidDataException($"column '{Name}', row {row + 1}: '{this[row]}' is not a number.");
    }
}

/// <summary>Collects the rows of a column.</summary>
internal abstract class ColumnBuilder
{
    public abstract void Append(Array values, int start, int count);

    /// <summary>The column of the rows so far; the builder begins anew.</summary>
    public abstract TableColumn Build();
}

/// <summary>Texts in pieces of so many rows, which need not move when a column grows: in a piece they stand end to end, each with its end; a missing one has the complement of its end.</summary>
internal sealed class TextBuilder : ColumnBuilder
{
    private readonly string name;
    private readonly string[] missing;
    private readonly int longestMissing;
    private readonly bool[] beginsMissing = new bool[128];
    private List<TextPiece> pieces = [];
    private char[] characters = new char[256];
    private int[] ends = new int[16];
    private int length, count; // of the last piece

    public TextBuilder(string name, string[] missing)
    {
        (this.name, this.missing) = (name, missing);
        foreach (string token in missing.Where(token => token.Length > 0))
        {
            longestMissing = Math.Max(longestMissing, token.Length);
            beginsMissing[token[0] & 127] = true;
        }
    }

    public void Append(ReadOnlySpan<char> text)
    {
        if (count == ends.Length)
        {
            if (count == TextPiece.Rows) EndPiece();
            else Array.Resize(ref ends, Math.Min(count * 2, TextPiece.Rows));
        }
        if (text.Length > 0 && (IsBlank(text[0]) || IsBlank(text[^1]))) text = text.Trim();
        if (text.IsEmpty || (text.Length <= longestMissing && beginsMissing[text[0] & 127] && IsMissing(text)))
        {
            ends[count++] = ~length;
            return;
        }
        if (characters.Length - length < text.Length) Array.Resize(ref characters, (int)Math.Min(Array.MaxLength, Math.Max(2L * length, (long)length + text.Length)));
        text.CopyTo(characters.AsSpan(length));
        ends[count++] = length += text.Length;
    }

    public override void Append(Array values, int start, int count)
    {
        foreach (string? text in ((string?[])values).AsSpan(start, count)) Append(text);
    }

    public override TableColumn Build()
    {
        int rows = (pieces.Count * TextPiece.Rows) + count;
        EndPiece();
        var column = new TextColumn(name, [.. pieces], rows);
        pieces = [];
        return column;
    }

    private void EndPiece()
    {
        pieces.Add(new TextPiece(characters, ends));
        // The next piece is likely of the same size.
        (characters, ends) = (GC.AllocateUninitializedArray<char>(Math.Max(256, length + (length >> 3))), GC.AllocateUninitializedArray<int>(Math.Clamp(count, 16, TextPiece.Rows)));
        (length, count) = (0, 0);
    }

    private static bool IsBlank(char character) => character <= ' ' || (character >= '\x7f' && char.IsWhiteSpace(character));

    private bool IsMissing(ReadOnlySpan<char> text)
    {
        foreach (string token in missing)
            if (text.SequenceEqual(token)) return true;
        return false;
    }
}

/// <summary>Up to <see cref="Rows"/> texts.</summary>
internal readonly struct TextPiece(char[] characters, int[] ends)
{
    public const int Shift = 14, Rows = 1 << Shift;

    public bool IsMissing(int row) => ends[row] < 0;

    public ReadOnlySpan<char> Text(int row)
    {
        int start = row == 0 ? 0 : ends[row - 1], end = ends[row];
        start ^= start >> 31; // The complement where negative.
        return characters.AsSpan(start, (end ^ (end >> 31)) - start);
    }
}

internal sealed class TextColumn(string name, TextPiece[] pieces, int count) : TableColumn(name)
{
    public override int Count => count;

    public override string? this[int row] => IsMissing(row) ? null : Characters(row).ToString();

    public override bool IsMissing(int row) => pieces[row >> TextPiece.Shift].IsMissing(row & (TextPiece.Rows - 1));

    public override bool TryGetNumber(int row, out double number)
    {
        ReadOnlySpan<char> text = Characters(row);
        return PlainNumber.TryParse(text, out number) || double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out number);
    }

    /// <summary>The text; empty where it is missing.</summary>
    internal override ReadOnlySpan<char> Characters(int row) => pieces[row >> TextPiece.Shift].Text(row & (TextPiece.Rows - 1));
}

internal sealed class ValueBuilder<T>(string name, Func<T, double>? toNumber) : ColumnBuilder
    where T : struct
{
    private List<T?> values = [];

    public override void Append(Array values, int start, int count) => this.values.AddRange(((T?[])values).AsSpan(start, count));

    public override TableColumn Build()
    {
        var column = new ValueColumn<T>(name, [.. values], toNumber);
        values = new List<T?>(values.Count);
        return column;
    }
}

/// <summary>Typed values; <paramref name="toNumber"/> is null for types that are no numbers, such as dates.</summary>
internal sealed class ValueColumn<T>(string name, T?[] values, Func<T, double>? toNumber) : TableColumn(name)
    where T : struct
{
    public override int Count => values.Length;

    public override string? this[int row] => IsMissing(row) ? null : values[row] switch
    {
        null => null,
        bool flag => flag ? "true" : "false",
        DateTime time => time.ToString(time.TimeOfDay == TimeSpan.Zero ? "yyyy-MM-dd" : "yyyy-MM-dd'T'HH:mm:ss.FFFFFFF", CultureInfo.InvariantCulture),
        DateOnly date => date.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
        T value => Convert.ToString(value, CultureInfo.InvariantCulture),
    };

    public override bool IsMissing(int row) => values[row] is null || (toNumber is not null && double.IsNaN(toNumber(values[row]!.Value)));

    public override bool TryGetNumber(int row, out double number)
    {
        number = toNumber is not null && values[row] is { } value ? toNumber(value) : double.NaN;
        return !double.IsNaN(number);
    }

    internal override ReadOnlySpan<char> Characters(int row) => this[row];
}
