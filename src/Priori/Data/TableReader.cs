using System.Globalization;
using System.IO.Compression;
using System.Text;
using Parquet;
using Parquet.Schema;
using Sylvan.Data.Csv;

namespace Priori.Data;

/// <summary>Reads tables in blocks of rows, so that files larger than memory can be processed.</summary>
public static class TableReader
{
    private const int PrefixCharacters = 1 << 16;
    private const int MaximumRecord = 1 << 24;
    private const int MaximumColumns = 1 << 16;

    /// <summary>
    /// The rows of a file in blocks. Memory does not grow with the file: text is held a block at a time, Parquet a row group and a block.
    /// A file without rows gives one empty block.
    /// </summary>
    /// <param name="path">The file, as for <see cref="Table.Read"/>.</param>
    /// <param name="rowsPerBlock">Rows of each block but the last, at least 1.</param>
    /// <param name="options">How text is read; by default everything is found out, from the beginning of the file.</param>
    /// <exception cref="InvalidDataException">As for <see cref="Table.Read"/>, when the faulty row is reached.</exception>
    public static IEnumerable<Table> Blocks(string path, int rowsPerBlock, TableOptions? options = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rowsPerBlock, 1);
        options ??= new TableOptions();
        return IsParquet(path) ? ParquetBlocks(path, rowsPerBlock, options) : TextBlocks(path, rowsPerBlock, options);
    }

    private static bool IsParquet(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        Span<byte> start = stackalloc byte[4];
        bool parquet = file.ReadAtLeast(start, 4, throwOnEndOfStream: false) == 4 && start.SequenceEqual("PAR1"u8);
        if (!parquet && Path.GetExtension(path).ToUpperInvariant() is ".PARQUET" or ".PQ") throw new InvalidDataException($"{path}: does not begin with 'PAR1', as a Parquet file does.");
        return parquet;
    }

    // ---- text ----

    private static IEnumerable<Table> TextBlocks(string path, int rowsPerBlock, TableOptions options)
    {
        using var file = new TextFile(path, options);
        bool any = false;
        Table table;
        do
        {
            table = file.ReadBlock(rowsPerBlock);
            if (table.RowCount > 0 || !any) yield return table;
            any = true;
        }
        while (table.RowCount == rowsPerBlock);
    }

    private sealed class TextFile : IDisposable
    {
        private readonly string path;
        private readonly TableOptions options;
        private readonly StreamReader text;
        private readonly CsvDataReader csv;
        private readonly TextBuilder[] columns;
        private readonly char delimiter;
        private readonly bool firstRowIsData;
        private long line;
        private long rowsRead;
        private bool started;

        public TextFile(string path, TableOptions options)
        {
            (this.path, this.options) = (path, options);
            delimiter = options.Delimiter ?? Named(() => FindDelimiter(path, options));
            text = OpenText(path, options);
            try
            {
                csv = Named(() => CsvDataReader.Create(text, new CsvDataReaderOptions
                {
                    Delimiter = delimiter,
                    HasHeaders = false,
                    Comment = '\0', // A '#' in the first column is data.
                    BufferSize = 1 << 16,
                    MaxBufferSize = MaximumRecord,
                    OwnsReader = true,
                }));
                if (!Named(Read)) throw new InvalidDataException($"{path}: has no rows.");
                string[] first = Named(() => Enumerable.Range(0, csv.RowFieldCount).Select(i => csv.GetFieldSpan(i).Trim().ToString()).ToArray());
                if (first.Length > MaximumColumns) throw new InvalidDataException($"{path}: has {first.Length} columns; {MaximumColumns} is the limit.");
                bool header = options.Header ?? !first.Any(field => double.TryParse(field, NumberStyles.Float, CultureInfo.InvariantCulture, out _));
                if (options.Names is { } given && given.Count != first.Length)
                    throw new InvalidDataException($"{path}: has {first.Length} columns; {given.Count} names were given.");
                string[] names = first.Select((field, i) => options.Names?[i] ?? (header && field.Length > 0 ? field : string.Create(CultureInfo.InvariantCulture, $"column{i + 1}"))).ToArray();
                if (names.GroupBy(name => name, StringComparer.Ordinal).FirstOrDefault(group => group.Count() > 1) is { } twice)
                    throw new InvalidDataException($"{path}, line {line}: two columns are named '{twice.Key}'.");
                columns = names.Select(name => new TextBuilder(name, [.. options.Missing])).ToArray();
                firstRowIsData = !header;
            }
            catch
            {
                text.Dispose();
                throw;
            }
        }

        public Table ReadBlock(int rows) => Named(() =>
        {
            int count = 0;
            if (!started && firstRowIsData) count += Append();
            started = true;
            while (count < rows && Read()) count += Append();
            (long before, rowsRead) = (rowsRead, rowsRead + count);
            return new Table([.. columns.Select(column => column.Build())], path, before);
        });

        public void Dispose() => csv.Dispose();

        /// <summary>Goes to the next row that is not blank, and counts the lines.</summary>
        private bool Read()
        {
            while (csv.Read())
            {
                ReadOnlySpan<char> record = csv.GetRawRecordSpan();
                line += Math.Max(1, record.Count('\n'));
                if (!record.Trim().IsEmpty) return true;
            }
            return false;
        }

        private int Append()
        {
            int fields = csv.RowFieldCount;
            if (fields != columns.Length)
            {
                if (options.SkipRaggedRows) return 0;
                throw new InvalidDataException($"{path}, line {line}: has {fields} fields; the first row has {columns.Length}.");
            }
            ReadOnlySpan<char> record = csv.GetRawRecordSpan();
            if (record.Contains('"'))
            {
                for (int i = 0; i < columns.Length; i++) columns[i].Append(csv.GetFieldSpan(i));
                return 1;
            }
            // Without quotes the fields are what lies between delimiters.
            foreach (TextBuilder column in columns)
            {
                int length = record.IndexOf(delimiter);
                column.Append(length < 0 ? record : record[..length]);
                record = record[(length + 1)..];
            }
            return 1;
        }

        private T Named<T>(Func<T> read)
        {
            try
            {
                return read();
            }
            catch (Exception exception) when (exception is CsvFormatException or DecoderFallbackException or InvalidDataException)
            {
                throw exception is InvalidDataException damaged ? FileFormat.Bad(path, damaged) : Bad(exception);
            }
        }

        private InvalidDataException Bad(Exception exception) => exception is DecoderFallbackException
            ? new InvalidDataException($"{path}: is not {(options.Encoding ?? Encoding.UTF8).WebName} text after line {line}; give its encoding.", exception)
            : new InvalidDataException($"{path}, line {line + 1}: {exception.Message}", exception);
    }

    private static StreamReader OpenText(string path, TableOptions options)
    {
        var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16, FileOptions.SequentialScan);
        bool compressed = file.ReadByte() == 0x1f && file.ReadByte() == 0x8b;
        file.Position = 0;
        Encoding encoding = options.Encoding ?? new UTF8Encoding(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);
        return new StreamReader(compressed ? new GZipStream(file, CompressionMode.Decompress) : file, encoding, detectEncodingFromByteOrderMarks: true, 1 << 16);
    }

    /// <summary>The candidate that splits every one of the first ten lines, into the most fields; comma if none does.</summary>
    private static char FindDelimiter(string path, TableOptions options)
    {
        using StreamReader text = OpenText(path, options);
        char[] prefix = new char[PrefixCharacters];
        int length = text.ReadBlock(prefix);
        const string Candidates = ",\t;|";
        int[] least = [.. Candidates.Select(_ => int.MaxValue)], counts = new int[Candidates.Length];
        bool quoted = false, blank = true;
        int lines = 0;
        for (int i = 0; i <= length && lines < 10; i++)
        {
            char character = i < length ? prefix[i] : '\n';
            if (i == length && (length == PrefixCharacters || blank) && lines > 0) break;
            if (character == '"') quoted = !quoted;
            if (quoted && i < length) continue;
            if (character == '\n')
            {
                if (!blank)
                {
                    for (int c = 0; c < counts.Length; c++) least[c] = Math.Min(least[c], counts[c]);
                    lines++;
                }
                Array.Clear(counts);
                blank = true;
                continue;
            }
            int candidate = Candidates.IndexOf(character, StringComparison.Ordinal);
            if (candidate >= 0) counts[candidate]++;
            if (!char.IsWhiteSpace(character) || candidate >= 0) blank = false;
        }
        return lines == 0 ? ',' : Candidates[Array.IndexOf(least, least.Max())];
    }

    // ---- Parquet ----

    private static IEnumerable<Table> ParquetBlocks(string path, int rowsPerBlock, TableOptions options)
    {
        using var file = new ParquetFile(path, options);
        int filled = 0;
        bool any = false;
        for (int group = 0; group < file.GroupCount; group++)
        {
            int rows = file.ReadGroup(group);
            for (int start = 0; start < rows;)
            {
                int count = Math.Min(rows - start, rowsPerBlock - filled);
                file.Append(start, count);
                (start, filled) = (start + count, filled + count);
                if (filled < rowsPerBlock) continue;
                yield return file.Build();
                (filled, any) = (0, true);
            }
        }
        if (filled > 0 || !any) yield return file.Build();
    }

    private sealed class ParquetFile : IDisposable
    {
        private const int MaximumPageHeader = 1 << 16;

        /// <summary>Pages of up to this many bytes may compress by any ratio; writers aim at 1 MiB.</summary>
        private const int OrdinaryPage = 1 << 26;

        private readonly string path;
        private readonly FileStream stream;
        private readonly ParquetReader reader;
        private readonly ParquetColumn[] columns;
        private long rowsRead;

        public ParquetFile(string path, TableOptions options)
        {
            this.path = path;
            stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            try
            {
                (reader, columns) = FileFormat.NamedAny(path, () =>
                {
                    CheckFooter(stream);
                    ParquetReader opened = ParquetReader.CreateAsync(stream, new ParquetOptions { TreatByteArrayAsString = true }, leaveStreamOpen: true).GetAwaiter().GetResult();
                    if (opened.Schema.Fields.Count == 0) throw new InvalidDataException("has no columns");
                    string[] missing = [.. options.Missing];
                    ParquetColumn[] found = opened.Schema.Fields.Select(field => field is DataField { IsArray: false } flat
                        ? ParquetColumn.Of(flat, missing)
                        : throw new InvalidDataException($"column '{field.Name}' is nested; only flat columns can be read")).ToArray();
                    if (found.GroupBy(column => column.Name, StringComparer.Ordinal).FirstOrDefault(group => group.Count() > 1) is { } twice)
                        throw new InvalidDataException($"two columns are named '{twice.Key}'");
                    return (opened, found);
                });
            }
            catch
            {
                stream.Dispose();
                throw;
            }
        }

        public int GroupCount => reader.RowGroupCount;

        public int ReadGroup(int index) => FileFormat.NamedAny(path, () =>
        {
            using ParquetRowGroupReader group = reader.OpenRowGroupReader(index);
            // Runs compress without bound, but no writer makes groups of more rows than this from so few bytes.
            long limit = Math.Min((1L << 22) + (stream.Length * 8), Array.MaxLength);
            if (group.RowCount < 0 || group.RowCount > limit) throw new InvalidDataException($"row group {index} declares {group.RowCount} rows in a file of {stream.Length} bytes");
            foreach (ParquetColumn column in columns)
            {
                CheckPages(group, column);
                column.Read(group, (int)group.RowCount);
            }
            return (int)group.RowCount;
        });

        public void Append(int start, int count)
        {
            foreach (ParquetColumn column in columns) column.Append(start, count);
        }

        /// <summary>The file ends in its metadata, their length, and PAR1.</summary>
        private static void CheckFooter(FileStream stream)
        {
            if (stream.Length < 12) throw new InvalidDataException("ends in the middle of its footer");
            byte[] tail = new byte[8];
            stream.Position = stream.Length - 8;
            stream.ReadExactly(tail);
            int length = BitConverter.ToInt32(tail);
            if (!tail.AsSpan(4).SequenceEqual("PAR1"u8) || length <= 0 || length > stream.Length - 12) throw new InvalidDataException("does not end in a Parquet footer");
            byte[] metadata = new byte[length];
            stream.Position = stream.Length - 8 - length;
            stream.ReadExactly(metadata);
            new ThriftCheck(metadata).Struct();
            stream.Position = 0;
        }

        /// <summary>Every page of a column lies within its chunk and declares a size that its bytes can hold.</summary>
        private void CheckPages(ParquetRowGroupReader group, ParquetColumn column)
        {
            Parquet.Meta.ColumnMetaData chunk = group.GetMetadata(column.Field)?.MetaData ?? throw new InvalidDataException($"column '{column.Name}' has no metadata");
            long at = chunk.DictionaryPageOffset is > 0 and { } dictionary ? Math.Min(dictionary, chunk.DataPageOffset) : chunk.DataPageOffset;
            long end = at + chunk.TotalCompressedSize;
            if (at < 4 || chunk.TotalCompressedSize < 0 || end < at || end > stream.Length) throw new InvalidDataException($"column '{column.Name}' lies outside the file");
            byte[] header = new byte[MaximumPageHeader];
            while (at < end)
            {
                stream.Position = at;
                int length = (int)Math.Min(header.Length, end - at);
                stream.ReadExactly(header, 0, length);
                var thrift = new ThriftCheck(header.AsSpan(0, length));
                Dictionary<int, long> integers = [];
                thrift.Struct(integers);
                // PageHeader (parquet.thrift): 2 is uncompressed_page_size, 3 is compressed_page_size.
                long inflated = integers.GetValueOrDefault(2, -1), compressed = integers.GetValueOrDefault(3, -1);
                at += thrift.Position + compressed;
                if (compressed < 0 || at > end || inflated < 0) throw new InvalidDataException($"a page of column '{column.Name}' lies outside its column");
                if (inflated > OrdinaryPage) FileFormat.CheckInflated(inflated, compressed);
            }
        }

        public Table Build()
        {
            var table = new Table([.. columns.Select(column => column.Build())], path, rowsRead);
            rowsRead += table.RowCount;
            return table;
        }

        public void Dispose()
        {
            reader.DisposeAsync().AsTask().GetAwaiter().GetResult();
            stream.Dispose();
        }
    }

    private abstract class ParquetColumn(DataField schema, ColumnBuilder builder)
    {
        private Array values = Array.Empty<string>();

        public DataField Field => schema;

        public string Name => schema.Name;

        public void Read(ParquetRowGroupReader group, int rows) => values = ReadValues(group, schema, rows);

        public void Append(int start, int count) => builder.Append(values, start, count);

        public TableColumn Build() => builder.Build();

        public static ParquetColumn Of(DataField field, string[] missing)
        {
            Type type = field.ClrType;
            if (type == typeof(string) || type == typeof(ReadOnlyMemory<char>)) return new Texts(field, missing);
            if (type == typeof(bool)) return new Values<bool>(field, value => value ? 1 : 0);
            if (type == typeof(sbyte)) return new Values<sbyte>(field, value => value);
            if (type == typeof(byte)) return new Values<byte>(field, value => value);
            if (type == typeof(short)) return new Values<short>(field, value => value);
            if (type == typeof(ushort)) return new Values<ushort>(field, value => value);
            if (type == typeof(int)) return new Values<int>(field, value => value);
            if (type == typeof(uint)) return new Values<uint>(field, value => value);
            if (type == typeof(long)) return new Values<long>(field, value => value);
            if (type == typeof(ulong)) return new Values<ulong>(field, value => value);
            if (type == typeof(float)) return new Values<float>(field, value => value);
            if (type == typeof(double)) return new Values<double>(field, value => value);
            if (type == typeof(decimal)) return new Values<decimal>(field, value => (double)value);
            if (type == typeof(DateTime)) return new Values<DateTime>(field, null);
            if (type == typeof(DateOnly)) return new Values<DateOnly>(field, null);
            if (type == typeof(TimeSpan)) return new Values<TimeSpan>(field, null);
            throw new InvalidDataException($"column '{field.Name}' holds {type.Name}; only texts, numbers, booleans and dates can be read");
        }

        protected abstract Array ReadValues(ParquetRowGroupReader group, DataField field, int rows);

        private sealed class Texts(DataField field, string[] missing) : ParquetColumn(field, new TextBuilder(field.Name, missing))
        {
            protected override Array ReadValues(ParquetRowGroupReader group, DataField field, int rows)
            {
                string?[] values = new string?[rows];
                group.ReadAsync(field, new Memory<string?>(values), null).AsTask().GetAwaiter().GetResult();
                return values;
            }
        }

        private sealed class Values<T>(DataField field, Func<T, double>? toNumber) : ParquetColumn(field, new ValueBuilder<T>(field.Name, toNumber))
            where T : struct
        {
            protected override Array ReadValues(ParquetRowGroupReader group, DataField field, int rows)
            {
                T?[] values = new T?[rows];
                if (field.IsNullable)
                {
                    group.ReadAsync<T>(field, new Memory<T?>(values), null).AsTask().GetAwaiter().GetResult();
                    return values;
                }
                T[] plain = new T[rows];
                group.ReadAsync<T>(field, new Memory<T>(plain), null).AsTask().GetAwaiter().GetResult();
                for (int row = 0; row < rows; row++) values[row] = plain[row];
                return values;
            }
        }
    }
}
