using System.Buffers.Binary;
using System.IO.Compression;
using Priori.Data;

namespace Priori.Tests.Data;

public sealed class IdxTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    internal static byte[] Bytes(byte type, uint[] shape, params byte[] data)
    {
        byte[] file = new byte[4 + (4 * shape.Length) + data.Length];
        file[2] = type;
        file[3] = (byte)shape.Length;
        for (int i = 0; i < shape.Length; i++) BinaryPrimitives.WriteUInt32BigEndian(file.AsSpan(4 + (4 * i)), shape[i]);
        data.CopyTo(file, 4 + (4 * shape.Length));
        return file;
    }

    internal static byte[] Gzip(byte[] content)
    {
        using var buffer = new MemoryStream();
        using (var gzip = new GZipStream(buffer, CompressionLevel.Optimal)) gzip.Write(content);
        return buffer.ToArray();
    }

    [Fact]
    public void Every_element_type_is_read_as_big_endian()
    {
        Tensor Read(byte type, params byte[] data) => Idx.Read(folder.File("x", Bytes(type, [1], data)));
        Assert.Equal(200, Read(0x08, 200)[0].item<byte>());
        Assert.Equal(-2, Read(0x09, 0xFE)[0].item<sbyte>());
        Assert.Equal(0x0102, Read(0x0B, 1, 2)[0].item<short>());
        Assert.Equal(0x01020304, Read(0x0C, 1, 2, 3, 4)[0].item<int>());
        Assert.Equal(1.5f, Read(0x0D, 0x3F, 0xC0, 0, 0)[0].item<float>());
        Assert.Equal(-2.0, Read(0x0E, 0xC0, 0, 0, 0, 0, 0, 0, 0)[0].item<double>());
    }

    [Fact]
    public void Gzip_is_recognised_whatever_the_name()
    {
        byte[] plain = Bytes(0x08, [2, 3], 1, 2, 3, 4, 5, 6);
        foreach (string path in new[] { folder.File("plain.gz", plain), folder.File("zipped", Gzip(plain)) })
        {
            Tensor tensor = Idx.Read(path);
            Assert.Equal(new long[] { 2, 3 }, tensor.shape);
            Assert.Equal(new byte[] { 1, 2, 3, 4, 5, 6 }, tensor.data<byte>().ToArray());
        }
    }

    public static TheoryData<string, byte[], string> Damaged => new()
    {
        { "empty", [], "ends in the middle" },
        { "magic", [1, 0, 8, 1, 0, 0, 0, 0], "begins with 01000801" },
        { "type", Bytes(0x0A, [1], 1), "0x0A" },
        { "no dimensions", [0, 0, 8, 0], "begins with" },
        { "short", Bytes(0x08, [3], 1, 2), "2 bytes follow" },
        { "long", Bytes(0x08, [1], 1, 2), "2 bytes follow" },
        { "overflow", Bytes(0x0E, [uint.MaxValue, uint.MaxValue, uint.MaxValue], 1), "not possible" },
        { "huge", Bytes(0x08, [uint.MaxValue, 1000], 1), "bytes follow" },
        { "bomb", Gzip(Bytes(0x08, [uint.MaxValue, 1000], 1)), "compressed bytes can hold" },
        { "zipped short", Gzip(Bytes(0x08, [3], 1, 2)), "ends in the middle" },
        { "zipped long", Gzip(Bytes(0x08, [1], 1, 2)), "more than the declared 1 bytes" },
    };

    [Theory]
    [MemberData(nameof(Damaged))]
    public void A_damaged_file_is_refused_by_name(string name, byte[] content, string reason)
    {
        string path = folder.File(name, content);
        string message = Assert.Throws<InvalidDataException>(() => Idx.Read(path)).Message;
        Assert.StartsWith(path, message, StringComparison.Ordinal);
        Assert.Contains(reason, message, StringComparison.Ordinal);
    }

    [Fact]
    public void Mnist_is_found_under_its_usual_names()
    {
        folder.File("train-images-idx3-ubyte.gz", Gzip(Bytes(0x08, [2, 2, 2], 1, 2, 3, 4, 5, 6, 7, 8)));
        folder.File("train-labels.idx1-ubyte", Bytes(0x08, [2], 2, 0));
        folder.File("t10k-images.idx3-ubyte.gz", Gzip(Bytes(0x08, [1, 2, 2], 9, 9, 9, 9)));
        Assert.Contains("t10k-labels-idx1-ubyte", Assert.Throws<FileNotFoundException>(() => Mnist.Read(folder.Root)).Message, StringComparison.Ordinal);
        folder.File("t10k-labels-idx1-ubyte", Bytes(0x08, [1], 1));
        var (train, test) = Mnist.Read(folder.Root);
        Assert.Equal(new long[] { 2, 1, 2, 2 }, train.Images.shape);
        Assert.Equal(new long[] { 2, 0 }, train.Labels.data<long>().ToArray());
        Assert.Equal(["0", "1", "2"], test.Classes);
        folder.File("t10k-labels-idx1-ubyte", Bytes(0x08, [2], 1, 1));
        Assert.Contains("2 labels for the 1 images", Assert.Throws<InvalidDataException>(() => Mnist.Read(folder.Root)).Message, StringComparison.Ordinal);
    }
}
