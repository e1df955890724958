using System.Buffers.Binary;
using System.Text;
using Priori.Data;

namespace Priori.Tests.Data;

public sealed class SafetensorsTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    private static byte[] Raw(string header, int dataBytes, long? length = null)
    {
        byte[] json = Encoding.UTF8.GetBytes(header), file = new byte[8 + json.Length + dataBytes];
        BinaryPrimitives.WriteInt64LittleEndian(file, length ?? json.Length);
        json.CopyTo(file, 8);
        return file;
    }

    [Fact]
    public void Every_element_type_comes_back_bit_for_bit()
    {
        using var scope = NewDisposeScope();
        Dictionary<string, Tensor> tensors = new()
        {
            ["bool"] = tensor(new[] { true, false, true }), ["u8"] = arange(5, ScalarType.Byte), ["i8"] = arange(-3, 4, dtype: ScalarType.Int8),
            ["i16"] = tensor(new short[] { -32768, 32767 }), ["i32"] = tensor(new[] { int.MinValue, int.MaxValue }), ["i64"] = tensor(new[] { long.MinValue, long.MaxValue }),
            ["f16"] = tensor(new[] { 1.5f, -0.25f }).to(ScalarType.Float16), ["bf16"] = tensor(new[] { 3f, float.NegativeInfinity }).to(ScalarType.BFloat16),
            ["f32"] = randn(2, 3, 4), ["f64"] = randn(3, ScalarType.Float64), ["c64"] = complex(tensor(new[] { 1f, 2f }), tensor(new[] { -1f, 0.5f })),
            ["scalar"] = tensor(7.25f), ["empty"] = zeros(0, 3), ["Umlaut ä/\"q\""] = ones(1),
            ["strided"] = arange(12, ScalarType.Float32).view(3, 4).t(), ["gradient"] = ones(2, requires_grad: true),
        };
        string path = folder.File("all.safetensors");
        Safetensors.Write(path, tensors, new Dictionary<string, string> { ["format"] = "pt", ["note"] = "ü" });
        Dictionary<string, Tensor> read = Safetensors.Read(path);
        Assert.Equal(tensors.Keys.Order(StringComparer.Ordinal), read.Keys.Order(StringComparer.Ordinal));
        foreach ((string name, Tensor expected) in tensors)
        {
            Assert.Equal(expected.dtype, read[name].dtype);
            Assert.Equal(expected.shape, read[name].shape);
            Assert.True(expected.NumberOfElements == 0 || expected.detach().contiguous().bytes.SequenceEqual(read[name].bytes), name);
        }
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Equal("ü", file.Metadata["note"]);
        Assert.Equal(new long[] { 2, 3, 4 }, file.Shape("f32"));
        Assert.Contains("'nope'", Assert.Throws<KeyNotFoundException>(() => file.Get("nope")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_file_does_not_depend_on_the_order_of_the_dictionary()
    {
        using Tensor a = ones(3), b = zeros(2, ScalarType.Int64);
        Safetensors.Write(folder.File("1"), new Dictionary<string, Tensor> { ["a"] = a, ["b"] = b });
        Safetensors.Write(folder.File("2"), new Dictionary<string, Tensor> { ["b"] = b, ["a"] = a });
        byte[] bytes = File.ReadAllBytes(folder.File("1"));
        Assert.Equal(bytes, File.ReadAllBytes(folder.File("2")));
        Assert.Equal(0, BinaryPrimitives.ReadInt64LittleEndian(bytes) % 8);
        Assert.StartsWith("{\"b\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[16,28]}}",
            Encoding.UTF8.GetString(bytes, 8, bytes.Length - 8), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{", 0, null, "")]
    [InlineData("[]", 0, null, "JSON object")]
    [InlineData("{\"a\":1}", 0, null, "'a'")]
    [InlineData("{}", 0, 3L, "header of 3 bytes")]
    [InlineData("{}", 0, 200_000_000L, "limit")]
    [InlineData("{}", 0, -1L, "limit")]
    [InlineData("{}", 4, null, "4 bytes of data")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, null, "")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}", 6, null, "'b' begins at byte 2")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 12, null, "'b' begins at byte 8")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, null, "take 8 bytes")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, null, "12 would be right")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, null, "not possible")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, null, "not possible")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, null, "1.5")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, null, "data_offsets")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, null, "data_offsets")]
    [InlineData("{\"a\":{\"dtype\":\"X9\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, null, "X9")]
    [InlineData("{\"a\":{\"dtype\":\"U16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, null, "U16, which TorchSharp cannot hold")]
    [InlineData("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, null, "F8_E4M3, which TorchSharp cannot hold")]
    [InlineData("{\"__metadata__\":{\"k\":1}}", 0, null, "'k'")]
    [InlineData("{\"\\ud800\":{}}", 0, null, "not Unicode")]
    [InlineData("{\"\u00e9\":1}", 0, 3L, "not UTF-8")]
    public void A_damaged_file_is_refused_by_name(string header, int dataBytes, long? length, string reason)
    {
        string path = folder.File("bad.safetensors", Raw(header, dataBytes, length));
        string message = Assert.Throws<InvalidDataException>(() => Safetensors.Read(path)).Message;
        Assert.StartsWith(path, message, StringComparison.Ordinal);
        Assert.Contains(reason, message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_unsupported_element_type_does_not_block_the_other_tensors()
    {
        string path = folder.File("mixed", Raw("{\"a\":{\"dtype\":\"U16\",\"shape\":[2],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8));
        using SafetensorsFile file = SafetensorsFile.Open(path);
        using Tensor b = file.Get("b");
        Assert.Equal(0, b.item<float>());
    }

    [Fact]
    public void What_the_format_cannot_hold_is_refused_before_anything_is_written()
    {
        using Tensor wide = zeros(1, ScalarType.ComplexFloat64), one = ones(1);
        Assert.Contains("ComplexFloat64", Assert.Throws<ArgumentException>(() => Safetensors.Write(folder.File("x"), new Dictionary<string, Tensor> { ["w"] = wide })).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => Safetensors.Write(folder.File("x"), new Dictionary<string, Tensor> { ["__metadata__"] = one }));
        Assert.False(File.Exists(folder.File("x")));
    }

    [Fact]
    public void Reading_leaves_no_tensors_behind_but_its_own()
    {
        string path = folder.File("a.safetensors");
        using (Tensor a = ones(3)) Safetensors.Write(path, new Dictionary<string, Tensor> { ["a"] = a });
        long before = Tensor.TotalCount;
        using Tensor read = Safetensors.Read(path)["a"];
        Assert.Equal(before + 1, Tensor.TotalCount);
    }
}
