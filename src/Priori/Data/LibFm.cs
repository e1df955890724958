using System.Buffers.Text;
using System.Runtime.InteropServices;

namespace Priori.Data;

/// <summary>Rows of a libFM file in which every row has the same number of fields, as click logs have.</summary>
/// <param name="Labels">float32 [n], as written in the file (often -1 and 1, or 0 and 1).</param>
/// <param name="Ids">int64 [n, fields], the feature ids in the order of the row.</param>
/// <param name="Values">float32 [n, fields].</param>
/// <param name="FeatureCount">One more than the greatest id.</param>
public sealed record LibFmData(Tensor Labels, Tensor Ids, Tensor Values, long FeatureCount);

/// <summary>Reads libFM files (Rendle, "libFM 1.4.2 manual", section 3.1): a label, then id:value pairs, a row a line.</summary>
public static class LibFm
{
    private const int MaximumLine = 1 << 24;

    /// <summary>Reads a whole file.</summary>
    /// <param name="path">The file; ids are integers from 0, values default to 1 where ":value" is left out. Blank lines are passed over.</param>
    /// <exception cref="InvalidDataException">A line cannot be read or has another number of fields than the first; the message names file and line.</exception>
    public static LibFmData Read(string path)
    {
        (long lines, long bytes) = CountLines(path);
        using var scope = NewDisposeScope();
        Tensor? labels = null, ids = null, values = null;
        long rows = 0, features = 0;
        foreach (Parser parser in Parse(path, 1 << 14))
        {
            // A row of f fields takes 2 f + 2 bytes at least, so blank lines cannot make this large.
            long capacity = Math.Min(lines, (bytes / ((2 * parser.Fields) + 2)) + 1);
            labels ??= torch.empty(capacity, ScalarType.Float32);
            ids ??= torch.empty([capacity, parser.Fields], ScalarType.Int64);
            values ??= torch.empty([capacity, parser.Fields], ScalarType.Float32);
            int count = parser.Rows;
            using Tensor labelBlock = labels.narrow(0, rows, count), idBlock = ids.narrow(0, rows, count), valueBlock = values.narrow(0, rows, count);
            features = parser.MoveTo(labelBlock, idBlock, valueBlock);
            rows += count;
        }
        Tensor Filled(Tensor tensor) => (tensor.shape[0] == rows ? tensor : tensor.narrow(0, 0, rows).clone()).MoveToOuterDisposeScope();
        return new LibFmData(Filled(labels!), Filled(ids!), Filled(values!), features);
    }

    /// <summary>Reads a file in blocks of rows, in memory that does not grow with the file. The tensors of a block are the caller's to dispose.</summary>
    /// <param name="path">The file, as for <see cref="Read"/>.</param>
    /// <param name="rowsPerBlock">Rows of each block but the last, at least 1.</param>
    /// <exception cref="InvalidDataException">As for <see cref="Read"/>, when the faulty line is reached.</exception>
    public static IEnumerable<LibFmData> Blocks(string path, int rowsPerBlock)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rowsPerBlock, 1);
        return Parse(path, rowsPerBlock).Select(parser => parser.Block());
    }

    private static (long Lines, long Bytes) CountLines(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.SequentialScan);
        byte[] buffer = new byte[1 << 20];
        long lines = 0;
        byte last = (byte)'\n';
        for (int got; (got = file.Read(buffer)) > 0; last = buffer[got - 1]) lines += buffer.AsSpan(0, got).Count((byte)'\n');
        return (last == '\n' ? lines : lines + 1, file.Length);
    }

    /// <summary>Yields the parser whenever it holds a block of rows, which must then be moved out of it.</summary>
    private static IEnumerable<Parser> Parse(string path, int rowsPerBlock)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.SequentialScan);
        var parser = new Parser(path, rowsPerBlock);
        byte[] buffer = new byte[1 << 20];
        int start = 0, filled = 0;
        bool any = false, end = false;
        while (true)
        {
            int used = parser.Take(buffer.AsSpan(start, filled - start), end);
            start += used;
            if (parser.Full || (end && parser.Rows > 0))
            {
                any = true;
                yield return parser;
                continue;
            }
            if (end) break;
            // The rest is the beginning of a line: keep it and read on.
            buffer.AsSpan(start, filled - start).CopyTo(buffer);
            (filled, start) = (filled - start, 0);
            if (filled == buffer.Length)
            {
                if (filled >= MaximumLine) throw new InvalidDataException($"{path}, line {parser.Line + 1}: is longer than {MaximumLine} bytes.");
                Array.Resize(ref buffer, filled * 2);
            }
            int got = file.Read(buffer, filled, buffer.Length - filled);
            filled += got;
            end = got == 0;
        }
        if (!any) throw new InvalidDataException($"{path}: has no rows.");
    }

    private sealed class Parser(string path, int rowsPerBlock)
    {
        private static readonly double[] PowersOfTen = Enumerable.Range(0, 23).Select(power => Math.Pow(10, power)).ToArray();
        private readonly List<float> labels = [];
        private readonly List<long> ids = [];
        private readonly List<float> values = [];
        private long greatest = -1;

        public long Line { get; private set; }

        public int Rows => labels.Count;

        public bool Full => Rows == rowsPerBlock;

        public int Fields { get; private set; } = -1;

        public LibFmData Block()
        {
            Tensor rows = torch.empty(Rows, ScalarType.Float32), columns = torch.empty([Rows, Fields], ScalarType.Int64), numbers = torch.empty([Rows, Fields], ScalarType.Float32);
            return new LibFmData(rows, columns, numbers, MoveTo(rows, columns, numbers));
        }

        /// <summary>Moves the rows into tensors of their number, and returns one more than the greatest id so far.</summary>
        public long MoveTo(Tensor rows, Tensor columns, Tensor numbers)
        {
            Copy(labels, rows);
            Copy(ids, columns);
            Copy(values, numbers);
            labels.Clear();
            ids.Clear();
            values.Clear();
            return greatest + 1;
        }

        /// <summary>Parses whole lines until the block is full, and returns the bytes used. The last line of a file need not end in a line feed.</summary>
        public int Take(ReadOnlySpan<byte> text, bool end)
        {
            int used = 0;
            while (!Full)
            {
                ReadOnlySpan<byte> rest = text[used..];
                int length = rest.IndexOf((byte)'\n');
                if (length < 0 && (!end || rest.IsEmpty)) break;
                if (length < 0) length = rest.Length;
                Line++;
                ParseLine(rest[..length]);
                used = Math.Min(used + length + 1, text.Length);
            }
            return used;
        }

        private void ParseLine(ReadOnlySpan<byte> line)
        {
            int at = 0;
            SkipBlanks(line, ref at);
            if (at == line.Length) return;
            labels.Add(Number(line, ref at, "label"));
            int count = 0;
            for (SkipBlanks(line, ref at); at < line.Length; SkipBlanks(line, ref at))
            {
                int start = at;
                long id = 0;
                for (; at < line.Length && (uint)(line[at] - '0') <= 9; at++) id = (id * 10) + (line[at] - '0');
                // 18 digits always fit.
                if (at == start || at - start > 18 || (at < line.Length && line[at] != ':' && !IsBlank(line[at])))
                    throw Bad(line, start, "is not an id:value pair");
                float value = 1;
                if (at < line.Length && line[at] == ':')
                {
                    at++;
                    value = Number(line, ref at, "value");
                }
                ids.Add(id);
                values.Add(value);
                greatest = Math.Max(greatest, id);
                count++;
            }
            if (Fields < 0) Fields = count;
            if (count != Fields) throw new InvalidDataException($"{path}, line {Line}: has {count} fields; the first row has {Fields}.");
        }

        /// <summary>A decimal number; the plain ones (up to 15 digits, no exponent) without the general parser: both operands of the quotient are exact, so it is rounded correctly.</summary>
        private float Number(ReadOnlySpan<byte> line, ref int at, string what)
        {
            int start = at;
            bool negative = at < line.Length && line[at] == '-';
            if (negative || (at < line.Length && line[at] == '+')) at++;
            long mantissa = 0;
            int digits = 0, decimals = 0;
            bool point = false;
            for (; at < line.Length && digits <= 15; at++)
            {
                uint digit = (uint)(line[at] - '0');
                if (digit <= 9)
                {
                    mantissa = (mantissa * 10) + digit;
                    digits++;
                    if (point) decimals++;
                }
                else if (line[at] == '.' && !point) point = true;
                else break;
            }
            if (digits is > 0 and <= 15 && (at == line.Length || IsBlank(line[at])))
            {
                double magnitude = mantissa / PowersOfTen[decimals];
                return (float)(negative ? -magnitude : magnitude);
            }
            at = start;
            while (at < line.Length && !IsBlank(line[at])) at++;
            ReadOnlySpan<byte> token = line[start..at];
            if (token.Length > 1 && token[0] == '+') token = token[1..];
            if (!Utf8Parser.TryParse(token, out double value, out int consumed) || consumed != token.Length || !float.IsFinite((float)value))
                throw Bad(line, start, $"is not a {what}");
            return (float)value;
        }

        private static bool IsBlank(byte character) => character is (byte)' ' or (byte)'\t' or (byte)'\r';

        private static void SkipBlanks(ReadOnlySpan<byte> line, ref int at)
        {
            while (at < line.Length && IsBlank(line[at])) at++;
        }

        private InvalidDataException Bad(ReadOnlySpan<byte> line, int start, string what)
        {
            int end = start;
            while (end < line.Length && end < start + 40 && !IsBlank(line[end])) end++;
            return new InvalidDataException($"{path}, line {Line}: '{System.Text.Encoding.Latin1.GetString(line[start..end])}' {what}.");
        }

        private static void Copy<T>(List<T> from, Tensor to)
            where T : unmanaged
        {
            if (from.Count > 0) MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(from)).CopyTo(to.bytes);
        }
    }
}
