using System.Text.Json;

namespace Priori.Data;

/// <summary>What the readers share: every complaint about a file names the file, and no length it declares is trusted.</summary>
internal static class FileFormat
{
    /// <summary>Deflate's best possible compression is 1032:1 (zlib, technical details), so a larger declared size is a lie.</summary>
    private const long MaximumInflation = 1032;

    /// <summary>Opens a file for one pass from front to back and parses it; what is wrong with its content becomes an <see cref="InvalidDataException"/> that names it.</summary>
    public static T Read<T>(string path, Func<FileStream, T> parse)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16, FileOptions.SequentialScan);
        return Named(path, () => parse(stream));
    }

    /// <summary>Runs <paramref name="parse"/>; what it finds wrong becomes an <see cref="InvalidDataException"/> that names the file.</summary>
    public static T Named<T>(string path, Func<T> parse)
    {
        try
        {
            return parse();
        }
        catch (Exception exception) when (exception is InvalidDataException or EndOfStreamException or JsonException)
        {
            throw Bad(path, exception);
        }
    }

    /// <summary>As <see cref="Named"/>, for foreign parsers, which answer damaged files with any exception.</summary>
    public static T NamedAny<T>(string path, Func<T> parse)
    {
        try
        {
            return parse();
        }
        catch (Exception exception) when (exception is not (OutOfMemoryException or OperationCanceledException))
        {
            throw Bad(path, exception);
        }
    }

    /// <summary>The exception for a damaged file: its name and what is wrong.</summary>
    public static InvalidDataException Bad(string path, Exception cause)
    {
        if (cause is InvalidDataException named && named.Message.StartsWith(path, StringComparison.Ordinal)) return named;
        string what = cause is EndOfStreamException ? "the file ends in the middle of its data" : cause.Message.TrimEnd('.');
        return new InvalidDataException($"{path}: {what}.", cause);
    }

    /// <summary>Number of elements of a shape, or -1 if a dimension is negative or the product times <paramref name="elementBits"/> overflows.</summary>
    public static long ElementCount(ReadOnlySpan<long> shape, int elementBits = 64)
    {
        Int128 count = 1;
        bool empty = false;
        foreach (long size in shape)
        {
            if (size < 0) return -1;
            if (size == 0) empty = true;
            else count *= size;
            if (count * elementBits > long.MaxValue) return -1;
        }
        return empty ? 0 : (long)count;
    }

    /// <summary>Refuses a declared size that <paramref name="compressedBytes"/> of a deflate stream cannot inflate to.</summary>
    public static void CheckInflated(long declaredBytes, long compressedBytes)
    {
        if (declaredBytes / MaximumInflation > compressedBytes)
            throw new InvalidDataException($"declares {declaredBytes:N0} bytes of data, more than its {compressedBytes:N0} compressed bytes can hold");
    }

    /// <summary>A new tensor filled with the next elements of a stream (little-endian, or big-endian if <paramref name="bigEndian"/>). The caller has checked that the stream can hold them.</summary>
    public static Tensor ReadTensor(Stream stream, long[] shape, ScalarType type, bool bigEndian = false)
    {
        Tensor tensor = torch.empty(shape, type);
        try
        {
            // Complex numbers are pairs: the order of bytes is that of one part.
            int width = (int)tensor.ElementSize / (type is ScalarType.ComplexFloat32 or ScalarType.ComplexFloat64 ? 2 : 1);
            ForEachBlock(tensor, block =>
            {
                stream.ReadExactly(block);
                // A byte other than 0 and 1 is no boolean for libtorch.
                if (type == ScalarType.Bool)
                    foreach (ref byte item in block) item = item == 0 ? (byte)0 : (byte)1;
                if (bigEndian && width > 1)
                    for (int i = 0; i < block.Length; i += width) block.Slice(i, width).Reverse();
            });
            return tensor;
        }
        catch
        {
            tensor.Dispose();
            throw;
        }
    }

    /// <summary>Writes a tensor's elements in row-major order, little-endian.</summary>
    public static void WriteTensor(Stream stream, Tensor tensor)
    {
        using Tensor detached = tensor.detach();
        using Tensor local = detached.cpu();
        using Tensor dense = local.contiguous();
        ForEachBlock(dense, block => stream.Write(block));
    }

    /// <summary>Visits the bytes of a contiguous CPU tensor in blocks that a span can hold.</summary>
    public static void ForEachBlock(Tensor tensor, Action<Span<byte>> visit)
    {
        long count = tensor.NumberOfElements, width = tensor.ElementSize, step = (1 << 28) / width;
        if (count == 0) return;
        if (count <= step)
        {
            visit(tensor.bytes);
            return;
        }
        using Tensor flat = tensor.view(-1);
        for (long start = 0; start < count; start += step)
        {
            using Tensor block = flat.narrow(0, start, Math.Min(step, count - start));
            visit(block.bytes);
        }
    }
}
