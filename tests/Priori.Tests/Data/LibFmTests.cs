using Priori.Data;

namespace Priori.Tests.Data;

public sealed class LibFmTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Labels_ids_and_values_are_read_in_the_order_of_the_row()
    {
        string path = folder.File("a.libfm", "-1 204:1 4798:0.5 7\n\n1\t3:-2.5e-3  0:1.25 12:123456789.123456789\r\n0.5 1:1 2:+2 3:.5");
        LibFmData data = LibFm.Read(path);
        Assert.Equal(new[] { -1f, 1f, 0.5f }, data.Labels.data<float>().ToArray());
        Assert.Equal(new long[] { 3, 3 }, data.Ids.shape);
        Assert.Equal(new long[] { 204, 4798, 7, 3, 0, 12, 1, 2, 3 }, data.Ids.data<long>().ToArray());
        Assert.Equal(new[] { 1f, 0.5f, 1f, -2.5e-3f, 1.25f, 123456789.123456789f, 1f, 2f, 0.5f }, data.Values.data<float>().ToArray());
        Assert.Equal(4799, data.FeatureCount);
    }

    [Fact]
    public void Blocks_of_any_size_give_the_rows_of_the_whole()
    {
        var random = new Random(0);
        string path = folder.File("b.libfm", string.Concat(Enumerable.Range(0, 1000).Select(row => $"{row % 2} {random.Next(10)}:1 {10 + random.Next(90)}:{random.NextSingle():R}\n")));
        LibFmData whole = LibFm.Read(path);
        foreach (int rows in new[] { 1, 7, 1000, 5000 })
        {
            List<LibFmData> blocks = LibFm.Blocks(path, rows).ToList();
            Assert.Equal((1000 + rows - 1) / rows, blocks.Count);
            Assert.True(torch.cat(blocks.Select(block => block.Ids).ToArray()).equal(whole.Ids).all().item<bool>());
            Assert.True(torch.cat(blocks.Select(block => block.Values).ToArray()).equal(whole.Values).all().item<bool>());
        }
    }

    [Fact]
    public void A_plain_number_is_rounded_as_the_general_parser_rounds_it()
    {
        var random = new Random(1);
        string[] texts = Enumerable.Range(0, 2000).Select(_ => ((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-3, 6))).ToString("F" + random.Next(0, 9), System.Globalization.CultureInfo.InvariantCulture)).ToArray();
        LibFmData data = LibFm.Read(folder.File("n.libfm", string.Concat(texts.Select(text => $"{text} 1:{text}\n"))));
        float[] expected = texts.Select(text => (float)double.Parse(text, System.Globalization.CultureInfo.InvariantCulture)).ToArray();
        Assert.Equal(expected, data.Labels.data<float>().ToArray());
        Assert.Equal(expected, data.Values.data<float>().ToArray());
    }

    [Theory]
    [InlineData("1 1:1 2:1\n0 1:1\n", "line 2: has 1 fields; the first row has 2")]
    [InlineData("1 1:1\n\nx 1:1\n", "line 3: 'x' is not a label")]
    [InlineData("1 a:1\n", "line 1: 'a:1' is not an id:value pair")]
    [InlineData("1 -3:1\n", "'-3:1' is not an id:value pair")]
    [InlineData("1 3:\n", "is not a value")]
    [InlineData("1 3:1e999\n", "is not a value")]
    [InlineData("1 3:nan\n", "is not a value")]
    [InlineData("1 3:1:2\n", "is not a value")]
    [InlineData("1 99999999999999999999:1\n", "is not an id:value pair")]
    [InlineData("\n\n", "has no rows")]
    [InlineData("", "has no rows")]
    public void A_faulty_line_is_named(string content, string reason)
    {
        string path = folder.File("bad.libfm", content);
        string message = Assert.Throws<InvalidDataException>(() => LibFm.Read(path)).Message;
        Assert.StartsWith(path, message, StringComparison.Ordinal);
        Assert.Contains(reason, message, StringComparison.Ordinal);
    }
}
