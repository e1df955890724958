using System.Buffers.Binary;

namespace Priori.Data;

/// <summary>What a tensor of a safetensors file is, without its elements.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Its element type.</param>
/// <param name="Shape">Its shape.</param>
public sealed record TensorInfo(string Name, ScalarType Type, IReadOnlyList<long> Shape);

/// <summary>
/// Writes a safetensors file tensor by tensor, whole or not at all: the header first, then each tensor when it is there, so that no more than one has to be in memory.
/// The file is written under a temporary name and gets its own name in <see cref="Complete"/>; without it, it is removed.
/// </summary>
public sealed class SafetensorsWriter : IDisposable
{
    private readonly string path;
    private readonly string temporary;
    private readonly FileStream stream;
    private readonly long dataStart;
    private readonly Dictionary<string, Slot> slots;
    private bool completed;

    /// <summary>Creates the temporary file and writes the header. The same tensors give the same bytes: widest elements first, then by name.</summary>
    /// <param name="path">The file; it is replaced if it exists.</param>
    /// <param name="tensors">What will be written, in any order.</param>
    /// <param name="metadata">Texts to keep in the header.</param>
    /// <exception cref="ArgumentException">A tensor's element type does not exist in the format, a name comes twice or is "__metadata__".</exception>
    public SafetensorsWriter(string path, IEnumerable<TensorInfo> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        List<(TensorInfo Info, string Dtype, long Width)> ordered = tensors.Select(info => (info, Safetensors.TypeName(info.Name, info.Type), Width(info.Type)))
            .OrderByDescending(entry => entry.Item3).ThenBy(entry => entry.info.Name, StringComparer.Ordinal).ToList();
        slots = new Dictionary<string, Slot>(ordered.Count, StringComparer.Ordinal);
        List<(string Name, SafetensorsEntry Entry)> entries = [];
        long offset = 0;
        foreach ((TensorInfo info, string dtype, long width) in ordered)
        {
            long count = FileFormat.ElementCount([.. info.Shape], 8 * (int)width);
            if (count < 0) throw new ArgumentException($"The shape [{string.Join(", ", info.Shape)}] of tensor '{info.Name}' is not possible.", nameof(tensors));
            if (!slots.TryAdd(info.Name, new Slot(info, offset, offset + count * width))) throw new ArgumentException($"Tensor '{info.Name}' comes twice.", nameof(tensors));
            entries.Add((info.Name, new SafetensorsEntry(dtype, info.Type, [.. info.Shape], offset, offset += count * width)));
        }
        byte[] header = Safetensors.Header(entries, metadata);
        this.path = Path.GetFullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(this.path)!);
        temporary = $"{this.path}.{Guid.NewGuid():N}.tmp";
        dataStart = 8 + header.Length;
        stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 16);
        try
        {
            Span<byte> length = stackalloc byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
            stream.Write(length);
            stream.Write(header);
            stream.SetLength(dataStart + offset);
        }
        catch
        {
            Dispose();
            throw;
        }
        Tensors = ordered.Select(entry => entry.Info).ToArray();
    }

    /// <summary>The tensors in the order of the file. Writing them in this order writes the file from front to back.</summary>
    public IReadOnlyList<TensorInfo> Tensors { get; }

    /// <summary>Writes a whole tensor.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="tensor">The tensor; any device, any strides, of the announced type and shape.</param>
    /// <exception cref="ArgumentException">The name was not announced, the tensor is of another type or shape, or was written before.</exception>
    public void Write(string name, Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        Slot slot = Find(name);
        if (!tensor.shape.AsSpan().SequenceEqual([.. slot.Info.Shape]))
            throw new ArgumentException($"Tensor '{name}' is [{string.Join(", ", tensor.shape)}]; announced was [{string.Join(", ", slot.Info.Shape)}].", nameof(tensor));
        Append(name, tensor);
    }

    /// <summary>Writes the next elements of a tensor, in row-major order; for tensors that do not fit into memory.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="part">The elements, of the announced type and any shape.</param>
    /// <exception cref="ArgumentException">The name was not announced, the type is another, or there are more elements than announced.</exception>
    public void Append(string name, Tensor part)
    {
        ArgumentNullException.ThrowIfNull(part);
        Slot slot = Find(name);
        if (part.dtype != slot.Info.Type) throw new ArgumentException($"Tensor '{name}' is {part.dtype}; announced was {slot.Info.Type}.", nameof(part));
        long bytes = part.numel() * part.ElementSize;
        if (slot.Position + bytes > slot.End) throw new ArgumentException($"Tensor '{name}' gets more elements than its shape [{string.Join(", ", slot.Info.Shape)}] has.", nameof(part));
        stream.Seek(dataStart + slot.Position, SeekOrigin.Begin);
        FileFormat.WriteTensor(stream, part);
        slot.Position += bytes;
    }

    /// <summary>Gives the file its name.</summary>
    /// <exception cref="InvalidOperationException">A tensor has not been written, or only in part.</exception>
    public void Complete()
    {
        if (slots.Values.FirstOrDefault(slot => slot.Position < slot.End) is { } missing)
            throw new InvalidOperationException($"{path}: tensor '{missing.Info.Name}' of {missing.Info.Type} [{string.Join(", ", missing.Info.Shape)}] has not been written in full.");
        stream.Flush(flushToDisk: true);
        stream.Dispose();
        File.Move(temporary, path, overwrite: true);
        completed = true;
    }

    /// <summary>Removes the temporary file unless the writing was completed.</summary>
    public void Dispose()
    {
        stream.Dispose();
        if (!completed) File.Delete(temporary);
    }

    private static long Width(ScalarType type)
    {
        using Tensor empty = torch.empty(0, type);
        return empty.ElementSize;
    }

    private Slot Find(string name) => slots.TryGetValue(name, out Slot? slot) ? slot : throw new ArgumentException($"Tensor '{name}' was not announced.", nameof(name));

    private sealed class Slot(TensorInfo info, long start, long end)
    {
        public TensorInfo Info { get; } = info;

        public long Position { get; set; } = start;

        public long End { get; } = end;
    }
}
