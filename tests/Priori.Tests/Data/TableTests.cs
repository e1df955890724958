using System.Text;
using Parquet;
using Parquet.Schema;
using Priori.Data;

namespace Priori.Tests.Data;

public sealed class TableTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    private Table Read(string content, TableOptions? options = null) => Table.Read(folder.File("t.csv", content), options);

    [Fact]
    public void Quotes_blanks_and_missing_values_are_understood()
    {
        Table table = Read("age, job, \"note\"\n39, Sales, \"a, \"\"b\"\"\nc\"\n?, , x\r\nNA, NaN, -1.5e3\n".Replace(", \"", ",\"", StringComparison.Ordinal));
        Assert.Equal(["age", "job", "note"], table.Columns);
        Assert.Equal(["39", null, null], table["age"]);
        Assert.Equal(["Sales", null, null], table["job"]);
        Assert.Equal(["a, \"b\"\nc".Replace(", \"", ",\"", StringComparison.Ordinal), "x", "-1.5e3"], table["note"]);
        Assert.Equal([39, double.NaN, double.NaN], table["age"].ToNumbers());
        Assert.True(table["age"].IsNumeric());
        Assert.False(table["note"].IsNumeric());
        Assert.False(table["job"].IsNumeric());
        Assert.Contains("age, job, note", Assert.Throws<KeyNotFoundException>(() => table["wage"]).Message, StringComparison.Ordinal);
        Assert.Contains("row 1", Assert.Throws<InvalidDataException>(() => table["job"].ToNumbers()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Numbers_are_those_of_the_general_parser()
    {
        var random = new Random(2);
        string[] texts =
        [
            "0", "-0", "+7", "1.", ".5", "-.25", "000123.4500", "123456789012345", "1234567890123456", "0.1234567890123456", "1e3", "-2.5E-7", "Infinity",
            .. Enumerable.Range(0, 3000).Select(_ => ((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-3, 9))).ToString("F" + random.Next(0, 9), System.Globalization.CultureInfo.InvariantCulture)),
        ];
        double[] expected = [.. texts.Select(text => double.Parse(text, System.Globalization.CultureInfo.InvariantCulture))];
        Assert.Equal(expected, TableColumn.Texts("x", texts).ToNumbers());
        foreach (string text in new[] { "-", "+", ".", "--1", "1.2.3", "1 2", "0x1", "1,000" }) Assert.False(TableColumn.Texts("x", [text]).IsNumeric());
    }

    [Theory]
    [InlineData("1\t2.5\ta,b\n3\t4\tc\n")]
    [InlineData("1;2.5;a,b\n3;4;c,d\n")]
    [InlineData("1|2.5|a\n3|4|c\n")]
    [InlineData("1,2.5,a\n3,4,c")]
    public void Delimiter_and_absent_header_are_found(string content)
    {
        Table table = Read(content);
        Assert.Equal(["column1", "column2", "column3"], table.Columns);
        Assert.Equal(["1", "3"], table["column1"]);
        Assert.Equal(2.5, table["column2"].ToNumbers()[0]);
    }

    [Fact]
    public void A_column_of_several_pieces_keeps_its_rows()
    {
        string?[] texts = [.. Enumerable.Range(0, 40_000).Select(row => row % 7 == 0 ? null : row.ToString(System.Globalization.CultureInfo.InvariantCulture))];
        TableColumn column = TableColumn.Texts("x", texts);
        Assert.Equal(texts.Length, column.Count);
        Assert.Equal(texts, column);
        Assert.Throws<IndexOutOfRangeException>(() => column[65_536]);
    }

    [Fact]
    public void Rows_with_and_without_quotes_read_alike()
    {
        Table table = Read("a,b,c\n 1 ,NA,\u00a0x\u00a0\n\" 1 \",\"NA\",\"\u00a0x\u00a0\"\r\n,?,\"y\"\nNAN,N,nan\n,,\n1,2,3");
        Assert.Equal(["1", "1", null, "NAN", null, "1"], table["a"]);
        Assert.Equal([null, null, null, "N", null, "2"], table["b"]);
        Assert.Equal(["x", "x", "y", null, null, "3"], table["c"]);
    }

    [Fact]
    public void A_header_with_an_unnamed_column_is_a_header()
    {
        Table table = Read(",a\n0,x\n");
        Assert.Equal(["column1", "a"], table.Columns);
        Assert.Equal(1, table.RowCount);
        Assert.Equal(["user", "item"], Read("0,x\n", new TableOptions { Names = ["user", "item"] }).Columns);
        Assert.Equal(["x", "y"], Read("#a\nx\ny\n")["#a"]);
    }

    [Fact]
    public void Byte_order_mark_gzip_and_other_encodings_are_read()
    {
        byte[] text = Encoding.UTF8.GetBytes("größe,b\n1,é\n");
        Assert.Equal(["größe", "b"], Table.Read(folder.File("bom.csv", [0xEF, 0xBB, 0xBF, .. text])).Columns);
        Assert.Equal(["é"], Table.Read(folder.File("zipped.csv", IdxTests.Gzip(text)))["b"]);
        string latin = folder.File("latin.csv", Encoding.Latin1.GetBytes("a,b\n1,é\n"));
        Assert.Contains("encoding", Assert.Throws<InvalidDataException>(() => Table.Read(latin)).Message, StringComparison.Ordinal);
        Assert.Equal(["é"], Table.Read(latin, new TableOptions { Encoding = Encoding.Latin1 })["b"]);
    }

    [Theory]
    [InlineData("a,b\n1,2\n\n\"x\ny\",3\n4\n", "line 6: has 1 fields; the first row has 2")]
    [InlineData("a,b\n1,2,3\n", "line 2: has 3 fields; the first row has 2")]
    [InlineData("a,a\n1,2\n", "line 1: two columns are named 'a'")]
    [InlineData("a,b\n1,\"2\n", "line 2")]
    [InlineData("a,b\n1,\"2\"x\n", "line 2")]
    [InlineData("", "no rows")]
    [InlineData("\n \n", "no rows")]
    public void A_faulty_line_is_named(string content, string reason)
    {
        string message = Assert.Throws<InvalidDataException>(() => Read(content)).Message;
        Assert.StartsWith(folder.File("t.csv"), message, StringComparison.Ordinal);
        Assert.Contains(reason, message, StringComparison.Ordinal);
    }

    [Fact]
    public void Ragged_rows_are_passed_over_only_if_asked()
    {
        Table table = Read("a,b\n1,2\n'\n3,4\n", new TableOptions { SkipRaggedRows = true });
        Assert.Equal(["1", "3"], table["a"]);
    }

    [Fact]
    public void A_header_alone_is_a_table_without_rows()
    {
        Assert.Equal(0, Read("a,b\n").RowCount);
        Assert.Single(TableReader.Blocks(folder.File("t.csv"), 10));
    }

    [Fact]
    public void Blocks_of_any_size_give_the_rows_of_the_whole()
    {
        string path = folder.File("b.csv", "id,text\n" + string.Concat(Enumerable.Range(0, 500).Select(row => $"{row},\"{new string('x', row % 7)}\"\n")));
        Table whole = Table.Read(path);
        foreach (int rows in new[] { 1, 7, 250, 500, 501 })
        {
            List<Table> blocks = TableReader.Blocks(path, rows).ToList();
            Assert.Equal((500 + rows - 1) / rows, blocks.Count);
            Assert.Equal(whole["id"], blocks.SelectMany(block => block["id"]));
            Assert.Equal(whole["text"], blocks.SelectMany(block => block["text"]));
            Assert.Equal(500, blocks[^1].FirstRow + blocks[^1].RowCount);
        }
    }

    internal static async Task<byte[]> Parquet(int groups = 2)
    {
        DataField[] fields =
        [
            new DataField<string>("text"), new DataField<int?>("count"), new DataField<double>("price"), new DataField<bool?>("flag"), new DataField<DateTime>("day"), new DataField<long>("id"), new DataField<float?>("ratio"),
        ];
        using var buffer = new MemoryStream();
        ParquetWriter writer = await ParquetWriter.CreateAsync(new ParquetSchema(fields), buffer);
        for (int g = 0; g < groups; g++)
        {
            using ParquetRowGroupWriter group = writer.CreateRowGroup();
            await group.WriteAsync(fields[0], new string[] { "a", null!, $"c{g}" });
            await group.WriteAsync<int>(fields[1], new int?[] { 1, null, -3 });
            await group.WriteAsync<double>(fields[2], new[] { 0.5, double.NaN, 1e300 });
            await group.WriteAsync<bool>(fields[3], new bool?[] { true, false, null });
            await group.WriteAsync<DateTime>(fields[4], new[] { new DateTime(2020, 1, 2, 0, 0, 0, DateTimeKind.Utc), new DateTime(2020, 1, 2, 3, 4, 5, DateTimeKind.Utc), DateTime.UnixEpoch });
            await group.WriteAsync<long>(fields[5], new[] { 1L, 2L, 1L << 60 });
            await group.WriteAsync<float>(fields[6], new float?[] { 0.1f, null, 2f });
        }
        await writer.DisposeAsync();
        return buffer.ToArray();
    }

    [Fact]
    public async Task Parquet_columns_keep_their_values()
    {
        string path = folder.File("t.parquet", await Parquet());
        Table table = Table.Read(path);
        Assert.Equal(["text", "count", "price", "flag", "day", "id", "ratio"], table.Columns);
        Assert.Equal(["a", null, "c0", "a", null, "c1"], table["text"]);
        Assert.Equal(["1", null, "-3"], table["count"].Take(3));
        Assert.Equal(["0.5", null, "1E+300"], table["price"].Take(3));
        Assert.Equal(["true", "false", null], table["flag"].Take(3));
        Assert.Equal([1, 0, double.NaN], table["flag"].ToNumbers()[..3]);
        Assert.Equal(["2020-01-02", "2020-01-02T03:04:05", "1970-01-01"], table["day"].Take(3));
        Assert.False(table["day"].IsNumeric());
        Assert.Equal(["1", "2", "1152921504606846976"], table["id"].Take(3));
        Assert.Equal(["0.1", null, "2"], table["ratio"].Take(3));
        foreach (int rows in new[] { 1, 2, 4, 6, 7 })
        {
            List<Table> blocks = TableReader.Blocks(path, rows).ToList();
            Assert.Equal((6 + rows - 1) / rows, blocks.Count);
            Assert.Equal(table["text"], blocks.SelectMany(block => block["text"]));
            Assert.Equal(table["count"], blocks.SelectMany(block => block["count"]));
        }
    }

    [Fact]
    public void A_text_named_parquet_is_refused()
    {
        string path = folder.File("x.parquet", "a,b\n1,2\n");
        Assert.StartsWith(path, Assert.Throws<InvalidDataException>(() => Table.Read(path)).Message, StringComparison.Ordinal);
    }
}
