using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>
/// Reads and writes NumPy's .npy files (NumPy Enhancement Proposal 1, format versions 1.0 to 3.0). Arrays of Python objects, which NumPy stores as
/// pickles that run code, are refused.
/// </summary>
public static class Npy
{
    /// <summary>The header is one line that describes an array; no honest one is longer.</summary>
    private const int MaximumHeader = 1 << 16;

    private static ReadOnlySpan<byte> Magic => [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    /// <summary>Reads an array of booleans, integers, floating-point or complex numbers, in either byte order, in C or Fortran order.</summary>
    /// <param name="path">The file.</param>
    /// <returns>
    /// A contiguous CPU tensor. Unsigned integers that TorchSharp lacks become the next wider signed type: uint16 int32, uint32 int64, uint64 int64.
    /// </returns>
    /// <exception cref="InvalidDataException">The file is damaged, holds other things than numbers, or an uint64 above 2^63 - 1.</exception>
    public static Tensor Read(string path) => FileFormat.Read(path, file => Read(file, file.Length, compressed: false));

    /// <summary>Writes a tensor in format version 1.0, C order, whole or not at all.</summary>
    /// <param name="path">The file; it is replaced if it exists.</param>
    /// <param name="tensor">Any shape and device; every element type but bfloat16 and the quantised ones.</param>
    /// <exception cref="ArgumentException">NumPy has no such element type.</exception>
    public static void Write(string path, Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        byte[] header = Header(tensor);
        AtomicFile.Write(path, stream =>
        {
            stream.Write(header);
            FileFormat.WriteTensor(stream, tensor);
        });
    }

    /// <summary>Reads one array that takes a whole stream of <paramref name="bytes"/> bytes (of compressed bytes, if it is being inflated).</summary>
    internal static Tensor Read(Stream stream, long bytes, bool compressed)
    {
        Span<byte> start = stackalloc byte[8];
        stream.ReadExactly(start);
        if (!start[..6].SequenceEqual(Magic)) throw new InvalidDataException("does not begin as a .npy file does, with 93 'NUMPY'");
        if (start[6] is < 1 or > 3) throw new InvalidDataException($"has format version {start[6]}.{start[7]}; 1.0 to 3.0 exist");
        Span<byte> word = stackalloc byte[start[6] == 1 ? 2 : 4];
        stream.ReadExactly(word);
        uint length = word.Length == 2 ? BinaryPrimitives.ReadUInt16LittleEndian(word) : BinaryPrimitives.ReadUInt32LittleEndian(word);
        if (length > MaximumHeader) throw new InvalidDataException($"declares a header of {length} bytes; {MaximumHeader} is the limit");
        byte[] header = new byte[length];
        stream.ReadExactly(header);
        var (description, fortran, shape) = new HeaderParser(Encoding.Latin1.GetString(header)).Parse();
        ElementType element = ElementType.Parse(description);

        long count = FileFormat.ElementCount(shape, Math.Max(64, 8 * element.Bytes));
        if (count < 0) throw new InvalidDataException($"declares the shape ({string.Join(", ", shape)}), which is not possible");
        long declared = count * element.Bytes, rest = bytes - 8 - word.Length - length;
        if (compressed) FileFormat.CheckInflated(declared, bytes);
        else if (declared != rest) throw new InvalidDataException($"declares '{description}' ({string.Join(", ", shape)}), {declared} bytes, but {rest} bytes follow the header");
        if (fortran) Array.Reverse(shape);
        using var scope = NewDisposeScope();
        Tensor tensor = element.Widen(FileFormat.ReadTensor(stream, shape, element.Stored, element.BigEndian));
        if (stream.ReadByte() >= 0) throw new InvalidDataException($"holds more than the declared {declared} bytes");
        if (fortran) tensor = tensor.permute(Enumerable.Range(0, shape.Length).Select(axis => (long)(shape.Length - 1 - axis)).ToArray()).contiguous();
        return tensor.MoveToOuterDisposeScope();
    }

    /// <summary>The bytes before the data.</summary>
    internal static byte[] Header(Tensor tensor)
    {
        string type = tensor.dtype switch
        {
            ScalarType.Bool => "|b1",
            ScalarType.Byte => "|u1",
            ScalarType.Int8 => "|i1",
            ScalarType.Int16 => "<i2",
            ScalarType.Int32 => "<i4",
            ScalarType.Int64 => "<i8",
            ScalarType.Float16 => "<f2",
            ScalarType.Float32 => "<f4",
            ScalarType.Float64 => "<f8",
            ScalarType.ComplexFloat32 => "<c8",
            ScalarType.ComplexFloat64 => "<c16",
            ScalarType other => throw new ArgumentException($"NumPy has no element type for {other}; convert the tensor first, for example to Float32.", nameof(tensor)),
        };
        string sizes = string.Concat(tensor.shape.Select(size => string.Create(CultureInfo.InvariantCulture, $"{size}, ")));
        string text = $"{{'descr': '{type}', 'fortran_order': False, 'shape': ({(tensor.dim() == 1 ? sizes.TrimEnd() : sizes.TrimEnd(' ', ','))}), }}";
        // The data begins at a multiple of 64 bytes; the header ends with a line feed.
        int padded = (10 + text.Length + 1 + 63) / 64 * 64;
        byte[] header = new byte[padded];
        Magic.CopyTo(header);
        header[6] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), checked((ushort)(padded - 10)));
        Encoding.ASCII.GetBytes(text.PadRight(padded - 11) + "\n", header.AsSpan(10));
        return header;
    }

    /// <summary>A NumPy type text such as "&lt;f4": how it lies in the file, and what it becomes.</summary>
    private sealed record ElementType(ScalarType Stored, int Bytes, bool BigEndian, bool Unsigned)
    {
        public static ElementType Parse(string text)
        {
            if (text.Length >= 3 && text[0] is '<' or '>' or '|' or '=')
            {
                (ScalarType Stored, int Bytes, bool Unsigned)? known = text[1..] switch
                {
                    "b1" => (ScalarType.Bool, 1, false),
                    "u1" => (ScalarType.Byte, 1, false),
                    "i1" => (ScalarType.Int8, 1, false),
                    "i2" => (ScalarType.Int16, 2, false),
                    "i4" => (ScalarType.Int32, 4, false),
                    "i8" => (ScalarType.Int64, 8, false),
                    "u2" => (ScalarType.Int16, 2, true),
                    "u4" => (ScalarType.Int32, 4, true),
                    "u8" => (ScalarType.Int64, 8, true),
                    "f2" => (ScalarType.Float16, 2, false),
                    "f4" => (ScalarType.Float32, 4, false),
                    "f8" => (ScalarType.Float64, 8, false),
                    "c8" => (ScalarType.ComplexFloat32, 8, false),
                    "c16" => (ScalarType.ComplexFloat64, 16, false),
                    _ => null,
                };
                if (known is { } type && (text[0] != '|' || type.Bytes == 1)) return new ElementType(type.Stored, type.Bytes, text[0] == '>', type.Unsigned);
            }
            throw new InvalidDataException($"holds elements of type '{text}'; only booleans and numbers (b1, i1 to i8, u1 to u8, f2 to f8, c8, c16) can be read");
        }

        public Tensor Widen(Tensor tensor)
        {
            if (!Unsigned) return tensor;
            if (Bytes == 2) return tensor.to(ScalarType.Int32).bitwise_and(0xFFFF);
            if (Bytes == 4) return tensor.to(ScalarType.Int64).bitwise_and(0xFFFF_FFFFL);
            if (tensor.lt(0).any().item<bool>()) throw new InvalidDataException("holds an uint64 above 2^63 - 1, which no tensor can hold");
            return tensor;
        }
    }

    /// <summary>The header is a Python dictionary of three known entries; this reads that and nothing else of Python.</summary>
    private ref struct HeaderParser(string text)
    {
        private int position;

        public (string Description, bool Fortran, long[] Shape) Parse()
        {
            string? description = null;
            bool? fortran = null;
            long[]? shape = null;
            Expect('{');
            while (!Accept('}'))
            {
                string key = Quoted();
                Expect(':');
                switch (key)
                {
                    case "descr" when description is null: description = Quoted(); break;
                    case "fortran_order" when fortran is null: fortran = Boolean(); break;
                    case "shape" when shape is null: shape = Tuple(); break;
                    default: throw Bad($"the entry '{key}' is unknown or repeated");
                }
                if (Accept(',')) continue;
                Expect('}');
                break;
            }
            if (Next() != '\0') throw Bad("text follows the closing brace");
            return (description ?? throw Bad("'descr' is missing"), fortran ?? throw Bad("'fortran_order' is missing"), shape ?? throw Bad("'shape' is missing"));
        }

        private char Next()
        {
            while (position < text.Length && text[position] is ' ' or '\n' or '\t' or '\r') position++;
            return position < text.Length ? text[position] : '\0';
        }

        private bool Accept(char expected)
        {
            if (Next() != expected) return false;
            position++;
            return true;
        }

        private void Expect(char expected)
        {
            if (!Accept(expected)) throw Bad($"'{expected}' is expected");
        }

        private string Quoted()
        {
            char quote = Next();
            if (quote == '[') throw Bad("structured arrays cannot be read");
            if (quote is not ('\'' or '"')) throw Bad("a text in quotes is expected");
            int end = text.IndexOf(quote, position + 1);
            if (end < 0) throw Bad("a text is not closed");
            string value = text[(position + 1)..end];
            position = end + 1;
            return value;
        }

        private bool Boolean()
        {
            Next();
            foreach (string word in (ReadOnlySpan<string>)["True", "False"])
            {
                if (string.CompareOrdinal(text, position, word, 0, word.Length) != 0) continue;
                position += word.Length;
                return word == "True";
            }
            throw Bad("True or False is expected");
        }

        private long[] Tuple()
        {
            List<long> sizes = [];
            Expect('(');
            while (!Accept(')'))
            {
                if (sizes.Count == 64) throw Bad("an array has at most 64 dimensions");
                Next();
                int start = position;
                while (position < text.Length && char.IsAsciiDigit(text[position])) position++;
                if (!long.TryParse(text.AsSpan(start, position - start), NumberStyles.None, CultureInfo.InvariantCulture, out long size)) throw Bad("a size is expected");
                Accept('L'); // Python 2 wrote long integers so.
                sizes.Add(size);
                if (Accept(',')) continue;
                Expect(')');
                break;
            }
            return [.. sizes];
        }

        private readonly InvalidDataException Bad(string what) => new($"the header cannot be read at character {position}: {what}");
    }
}
