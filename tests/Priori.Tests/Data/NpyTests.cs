using System.IO.Compression;
using System.Text;
using Priori.Data;

namespace Priori.Tests.Data;

public sealed class NpyTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    internal static byte[] Raw(string header, byte[] data, byte version = 1)
    {
        byte[] text = Encoding.Latin1.GetBytes(header);
        byte[] length = version == 1 ? BitConverter.GetBytes((ushort)text.Length) : BitConverter.GetBytes(text.Length);
        return [0x93, .. "NUMPY"u8, version, 0, .. length, .. text, .. data];
    }

    private Tensor Read(string header, byte[] data, byte version = 1) => Npy.Read(folder.File("a.npy", Raw(header, data, version)));

    [Fact]
    public void What_is_written_comes_back()
    {
        using var scope = NewDisposeScope();
        Tensor[] tensors =
        [
            tensor(3.5), arange(3), randn(2, 0, 3), randn(4, 5).t(), tensor(new[] { true, false }), randn(3).to(ScalarType.Float16),
            arange(200, ScalarType.Byte), tensor(new sbyte[] { -1 }), tensor(new short[] { -1 }), tensor(new[] { -1 }), complex(randn(2), randn(2)),
        ];
        foreach (Tensor expected in tensors)
        {
            Npy.Write(folder.File("t.npy"), expected);
            Tensor read = Npy.Read(folder.File("t.npy"));
            Assert.Equal(expected.dtype, read.dtype);
            Assert.Equal(expected.shape, read.shape);
            Assert.True(expected.NumberOfElements == 0 || expected.contiguous().bytes.SequenceEqual(read.bytes));
        }
        Assert.Throws<ArgumentException>(() => Npy.Write(folder.File("b.npy"), ones(1, ScalarType.BFloat16)));
    }

    [Fact]
    public void The_header_is_the_one_NumPy_writes()
    {
        using Tensor one = zeros(3, ScalarType.Float32), two = zeros([2, 3], ScalarType.Int64), scalar = tensor(1.0);
        Assert.StartsWith("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", Encoding.ASCII.GetString(Npy.Header(one)[10..]), StringComparison.Ordinal);
        Assert.StartsWith("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }", Encoding.ASCII.GetString(Npy.Header(two)[10..]), StringComparison.Ordinal);
        Assert.StartsWith("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", Encoding.ASCII.GetString(Npy.Header(scalar)[10..]), StringComparison.Ordinal);
        Assert.Equal(0, Npy.Header(two).Length % 64);
    }

    [Fact]
    public void Fortran_order_and_big_endian_are_understood()
    {
        byte[] data = [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6];
        Tensor tensor = Read("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3)}", data);
        Assert.Equal(new short[] { 1, 3, 5, 2, 4, 6 }, tensor.data<short>().ToArray());
        Assert.Equal(new long[] { 2, 3 }, tensor.shape);
        Assert.True(tensor.is_contiguous());
        foreach (byte version in new byte[] { 2, 3 })
            Assert.Equal(new short[] { 1, 2, 3, 4, 5, 6 }, Read("{\"shape\": (6L,), 'fortran_order':False,'descr':'>i2'}\n", data, version).data<short>().ToArray());
        // Two complex numbers 1+2i, each part big-endian.
        Tensor complex = Read("{'descr': '>c8', 'fortran_order': False, 'shape': (1,)}", [0x3F, 0x80, 0, 0, 0x40, 0, 0, 0]);
        Assert.Equal((1f, 2f), (complex.real[0].item<float>(), complex.imag[0].item<float>()));
    }

    [Fact]
    public void Unsigned_integers_become_the_next_wider_type()
    {
        Assert.Equal(65535, Read("{'descr': '<u2', 'fortran_order': False, 'shape': (1,)}", [255, 255])[0].item<int>());
        Assert.Equal(4294967295, Read("{'descr': '<u4', 'fortran_order': False, 'shape': (1,)}", [255, 255, 255, 255])[0].item<long>());
        Assert.Equal(1, Read("{'descr': '<u8', 'fortran_order': False, 'shape': (1,)}", [1, 0, 0, 0, 0, 0, 0, 0])[0].item<long>());
        Assert.Contains("2^63", Assert.Throws<InvalidDataException>(() => Read("{'descr': '<u8', 'fortran_order': False, 'shape': (1,)}", [255, 255, 255, 255, 255, 255, 255, 255])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "'|O'")]
    [InlineData("{'descr': '<U3', 'fortran_order': False, 'shape': (1,)}", "'<U3'")]
    [InlineData("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "structured")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "8 bytes, but 4 bytes follow")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", "not possible")]
    [InlineData("{'descr': '<c16', 'fortran_order': False, 'shape': (4611686018427387904,)}", "not possible")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "a size is expected")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "a size is expected")]
    [InlineData("{'descr': '<f4', 'fortran_order': False}", "'shape' is missing")]
    [InlineData("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "repeated")]
    [InlineData("{'descr': '<f4', 'fortran_order': __import__('os'), 'shape': (1,)}", "True or False")]
    [InlineData("{'descr': '<f4", "not closed")]
    [InlineData("", "'{' is expected")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", "follows")]
    public void A_damaged_header_is_refused_by_name(string header, string reason)
    {
        string message = Assert.Throws<InvalidDataException>(() => Read(header, new byte[4])).Message;
        Assert.StartsWith(folder.File("a.npy"), message, StringComparison.Ordinal);
        Assert.Contains(reason, message, StringComparison.Ordinal);
    }

    [Fact]
    public void Npz_comes_back_and_is_the_same_every_time()
    {
        using Tensor a = randn(3, 4), b = arange(5);
        foreach (bool compress in new[] { false, true })
        {
            Npz.Write(folder.File("1.npz"), new Dictionary<string, Tensor> { ["a"] = a, ["part/b"] = b }, compress);
            Npz.Write(folder.File("2.npz"), new Dictionary<string, Tensor> { ["part/b"] = b, ["a"] = a }, compress);
            Assert.Equal(File.ReadAllBytes(folder.File("1.npz")), File.ReadAllBytes(folder.File("2.npz")));
            Dictionary<string, Tensor> read = Npz.Read(folder.File("1.npz"));
            Assert.Equal(["a", "part/b"], read.Keys.Order(StringComparer.Ordinal));
            Assert.True(read["a"].equal(a).all().item<bool>());
            Assert.True(read["part/b"].equal(b).all().item<bool>());
        }
    }

    [Fact]
    public void An_array_that_declares_more_than_it_can_inflate_to_is_refused()
    {
        string path = folder.File("bomb.npz");
        using (ZipArchive zip = ZipFile.Open(path, ZipArchiveMode.Create))
        using (Stream entry = zip.CreateEntry("x.npy").Open())
            entry.Write(Raw("{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000)}", new byte[4]));
        string message = Assert.Throws<InvalidDataException>(() => Npz.Read(path)).Message;
        Assert.StartsWith($"{path}: array 'x'", message, StringComparison.Ordinal);
        Assert.Contains("compressed bytes can hold", message, StringComparison.Ordinal);
    }
}
