using System.Buffers.Binary;
using System.IO.Compression;

namespace Priori.Data;

/// <summary>Reads IDX files, the format of MNIST (LeCun et al., "The MNIST database", section "The IDX file format"), plain or gzipped.</summary>
public static class Idx
{
    /// <summary>Reads a file of any element type of the format.</summary>
    /// <param name="path">The file; gzip is recognised by its first bytes, not by its name.</param>
    /// <returns>A tensor of the file's shape: uint8, int8, int16, int32, float32 or float64.</returns>
    /// <exception cref="InvalidDataException">The file is damaged; the message says how.</exception>
    public static Tensor Read(string path) => FileFormat.Read(path, file =>
    {
        bool compressed = file.ReadByte() == 0x1f && file.ReadByte() == 0x8b;
        file.Position = 0;
        using Stream stream = compressed ? new GZipStream(file, CompressionMode.Decompress) : file;
        Span<byte> word = stackalloc byte[4];
        stream.ReadExactly(word);
        int dimensions = word[3];
        if (word[0] != 0 || word[1] != 0 || dimensions == 0)
            throw new InvalidDataException($"begins with {Convert.ToHexString(word)}; an IDX file begins with 0000, its element type and its number of dimensions");
        ScalarType type = word[2] switch
        {
            0x08 => ScalarType.Byte,
            0x09 => ScalarType.Int8,
            0x0B => ScalarType.Int16,
            0x0C => ScalarType.Int32,
            0x0D => ScalarType.Float32,
            0x0E => ScalarType.Float64,
            byte other => throw new InvalidDataException($"has the unknown element type 0x{other:X2}; 08, 09, 0B, 0C, 0D and 0E exist"),
        };
        int width = word[2] switch { 0x08 or 0x09 => 1, 0x0B => 2, 0x0E => 8, _ => 4 };
        long[] shape = new long[dimensions];
        foreach (ref long size in shape.AsSpan())
        {
            stream.ReadExactly(word);
            size = BinaryPrimitives.ReadUInt32BigEndian(word);
        }
        long count = FileFormat.ElementCount(shape);
        if (count < 0) throw new InvalidDataException($"declares the shape [{string.Join(", ", shape)}], which is not possible");
        long declared = count * width, header = 4 + (4 * dimensions);
        if (compressed) FileFormat.CheckInflated(declared, file.Length);
        else if (declared != file.Length - header)
            throw new InvalidDataException($"declares the shape [{string.Join(", ", shape)}], {declared} bytes, but {file.Length - header} bytes follow the header");
        Tensor tensor = FileFormat.ReadTensor(stream, shape, type, bigEndian: true);
        if (stream.ReadByte() < 0) return tensor;
        tensor.Dispose();
        throw new InvalidDataException($"holds more than the declared {declared} bytes");
    });
}
