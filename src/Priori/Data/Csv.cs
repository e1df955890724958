using Priori.Runtime;

namespace Priori.Data;

/// <summary>Writes comma-separated values (RFC 4180, line feeds, UTF-8); <see cref="Table.Read"/> reads them.</summary>
public static class Csv
{
    private static readonly System.Buffers.SearchValues<char> s_special = System.Buffers.SearchValues.Create(",\"\r\n");

    /// <summary>A cell: quoted where it has to be.</summary>
    /// <param name="text">Its text.</param>
    public static string Cell(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return text.AsSpan().ContainsAny(s_special) ? $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : text;
    }

    /// <summary>A line without its end.</summary>
    /// <param name="cells">The cells.</param>
    public static string Line(IEnumerable<string> cells) => string.Join(',', cells.Select(Cell));

    /// <summary>Writes a file, whole or not at all.</summary>
    /// <param name="path">The file.</param>
    /// <param name="header">Column names.</param>
    /// <param name="rows">The rows; they are read once, as they are written.</param>
    public static void Write(string path, IReadOnlyList<string> header, IEnumerable<IReadOnlyList<string>> rows) => AtomicFile.Write(path, stream =>
    {
        using StreamWriter writer = new(stream, leaveOpen: true) { NewLine = "\n" };
        writer.WriteLine(Line(header));
        foreach (IReadOnlyList<string> row in rows) writer.WriteLine(Line(row));
    });
}
