using System.Buffers.Binary;
using System.Globalization;
using System.IO.MemoryMappedFiles;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>Reads and writes safetensors files (Hugging Face): a JSON header of names, types, shapes and offsets, then the raw tensors.</summary>
public static class Safetensors
{
    /// <summary>The specification's limit on the header, in bytes.</summary>
    internal const long MaximumHeader = 100_000_000;

    internal const string MetadataKey = "__metadata__";

    /// <summary>Every element type of the format: its name, its bits, and the type that holds it here (null where TorchSharp has none).</summary>
    private static readonly Dictionary<string, (int Bits, ScalarType? Type)> Types = new(StringComparer.Ordinal)
    {
        ["BOOL"] = (8, ScalarType.Bool), ["U8"] = (8, ScalarType.Byte), ["I8"] = (8, ScalarType.Int8),
        ["I16"] = (16, ScalarType.Int16), ["I32"] = (32, ScalarType.Int32), ["I64"] = (64, ScalarType.Int64),
        ["F16"] = (16, ScalarType.Float16), ["BF16"] = (16, ScalarType.BFloat16), ["F32"] = (32, ScalarType.Float32),
        ["F64"] = (64, ScalarType.Float64), ["C64"] = (64, ScalarType.ComplexFloat32),
        ["U16"] = (16, null), ["U32"] = (32, null), ["U64"] = (64, null),
        ["F8_E5M2"] = (8, null), ["F8_E4M3"] = (8, null), ["F8_E8M0"] = (8, null), ["F6_E2M3"] = (6, null), ["F6_E3M2"] = (6, null), ["F4"] = (4, null),
    };

    private static readonly string Supported = string.Join(", ", Types.Where(type => type.Value.Type is not null).Select(type => type.Key));

    /// <summary>Writes tensors to a file, whole or not at all. The same tensors give the same bytes: widest elements first, then by name.</summary>
    /// <param name="path">The file; it is replaced if it exists.</param>
    /// <param name="tensors">The tensors by name; any device, any strides. A view is written as the elements it shows.</param>
    /// <param name="metadata">Texts to keep in the header.</param>
    /// <exception cref="ArgumentException">A tensor's element type does not exist in the format, or a name is "__metadata__".</exception>
    public static void Write(string path, IReadOnlyDictionary<string, Tensor> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        using var writer = new SafetensorsWriter(path, tensors.Select(pair => new TensorInfo(pair.Key, pair.Value.dtype, pair.Value.shape)), metadata);
        foreach (TensorInfo info in writer.Tensors) writer.Write(info.Name, tensors[info.Name]);
        writer.Complete();
    }

    /// <summary>Reads all tensors of a file into CPU memory, in the order of the file.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is damaged, or holds an element type that TorchSharp cannot hold.</exception>
    public static Dictionary<string, Tensor> Read(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Dictionary<string, Tensor> tensors = new(file.Names.Count, StringComparer.Ordinal);
        try
        {
            foreach (string name in file.Names) tensors.Add(name, file.Get(name));
            return tensors;
        }
        catch
        {
            foreach (Tensor tensor in tensors.Values) tensor.Dispose();
            throw;
        }
    }

    /// <summary>Reads the header's entries in file order and checks that they cover the data without gap or overlap.</summary>
    internal static (List<(string Name, SafetensorsEntry Entry)> Entries, Dictionary<string, string> Metadata) ParseHeader(ReadOnlyMemory<byte> header, long dataBytes)
    {
        if (!Utf8.IsValid(header.Span)) throw new InvalidDataException("the header is not UTF-8 text");
        // Escapes of half a surrogate pair are valid UTF-8, but no text.
        try
        {
            return ParseEntries(header, dataBytes);
        }
        catch (InvalidOperationException exception)
        {
            throw new InvalidDataException("the header holds a text that is not Unicode", exception);
        }
    }

    private static (List<(string Name, SafetensorsEntry Entry)> Entries, Dictionary<string, string> Metadata) ParseEntries(ReadOnlyMemory<byte> header, long dataBytes)
    {
        using JsonDocument document = JsonDocument.Parse(header, new JsonDocumentOptions { AllowDuplicateProperties = false, MaxDepth = 8 });
        if (document.RootElement.ValueKind != JsonValueKind.Object) throw new InvalidDataException("the header is not a JSON object");
        List<(string Name, SafetensorsEntry Entry)> entries = [];
        Dictionary<string, string> metadata = new(StringComparer.Ordinal);
        foreach (JsonProperty property in document.RootElement.EnumerateObject())
        {
            if (property.Name != MetadataKey)
            {
                entries.Add((property.Name, ParseEntry(property)));
                continue;
            }
            if (property.Value.ValueKind != JsonValueKind.Object) throw new InvalidDataException($"{MetadataKey} is not a JSON object");
            foreach (JsonProperty text in property.Value.EnumerateObject())
                metadata[text.Name] = text.Value.ValueKind == JsonValueKind.String
                    ? text.Value.GetString()!
                    : throw new InvalidDataException($"{MetadataKey} '{text.Name}' is not a text");
        }
        entries.Sort((a, b) => (a.Entry.Start, a.Entry.End).CompareTo((b.Entry.Start, b.Entry.End)));
        long end = 0;
        foreach ((string name, SafetensorsEntry entry) in entries)
        {
            if (entry.Start != end) throw new InvalidDataException($"tensor '{name}' begins at byte {entry.Start} of the data; the tensor before it ends at {end}");
            end = entry.End;
        }
        if (end != dataBytes) throw new InvalidDataException($"the tensors take {end} bytes, but {dataBytes} bytes of data follow the header");
        return (entries, metadata);
    }

    private static SafetensorsEntry ParseEntry(JsonProperty property)
    {
        string name = property.Name;
        if (property.Value.ValueKind != JsonValueKind.Object) throw new InvalidDataException($"tensor '{name}' is not described by a JSON object");
        if (!property.Value.TryGetProperty("dtype", out JsonElement dtype) || dtype.ValueKind != JsonValueKind.String)
            throw new InvalidDataException($"tensor '{name}' has no dtype");
        if (!Types.TryGetValue(dtype.GetString()!, out (int Bits, ScalarType? Type) type))
            throw new InvalidDataException($"tensor '{name}' has the unknown dtype '{dtype.GetString()}'");
        long[] shape = Integers(property, "shape"), offsets = Integers(property, "data_offsets");
        if (offsets.Length != 2 || offsets[0] < 0 || offsets[1] < offsets[0])
            throw new InvalidDataException($"the data_offsets of tensor '{name}' are not a begin and an end");
        long count = FileFormat.ElementCount(shape, type.Bits);
        if (count < 0) throw new InvalidDataException($"the shape [{string.Join(", ", shape)}] of tensor '{name}' is not possible");
        long bits = count * type.Bits;
        if (bits % 8 != 0 || bits / 8 != offsets[1] - offsets[0])
            throw new InvalidDataException($"tensor '{name}' of {dtype.GetString()} [{string.Join(", ", shape)}] has {offsets[1] - offsets[0]} bytes; {Math.Ceiling(bits / 8.0)} would be right");
        return new SafetensorsEntry(dtype.GetString()!, type.Type, shape, offsets[0], offsets[1]);
    }

    private static long[] Integers(JsonProperty property, string key)
    {
        if (!property.Value.TryGetProperty(key, out JsonElement list) || list.ValueKind != JsonValueKind.Array)
            throw new InvalidDataException($"tensor '{property.Name}' has no {key}");
        return list.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.Number && item.TryGetInt64(out long value)
            ? value
            : throw new InvalidDataException($"the {key} of tensor '{property.Name}' holds {item}, which is not a 64-bit integer")).ToArray();
    }

    /// <summary>The sentence for an element type that cannot be held.</summary>
    internal static InvalidDataException Unsupported(string path, string name, string type) =>
        new($"{path}: tensor '{name}' has element type {type}, which TorchSharp cannot hold; it can hold {Supported}.");

    /// <summary>The format's name of an element type.</summary>
    internal static string TypeName(string name, ScalarType type)
    {
        if (name == MetadataKey) throw new ArgumentException($"A tensor cannot be named '{MetadataKey}'.", nameof(name));
        foreach ((string key, (_, ScalarType? known)) in Types)
            if (known == type) return key;
        throw new ArgumentException($"Tensor '{name}' has element type {type}; safetensors files hold {Supported}.", nameof(type));
    }

    /// <summary>The header of tensors in the order of the file.</summary>
    internal static byte[] Header(IReadOnlyList<(string Name, SafetensorsEntry Entry)> ordered, IReadOnlyDictionary<string, string>? metadata)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject(MetadataKey);
                foreach ((string key, string value) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal)) json.WriteString(key, value);
                json.WriteEndObject();
            }
            foreach ((string name, SafetensorsEntry entry) in ordered)
            {
                json.WriteStartObject(name);
                json.WriteString("dtype", entry.Dtype);
                json.WriteStartArray("shape");
                foreach (long size in entry.Shape) json.WriteNumberValue(size);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(entry.Start);
                json.WriteNumberValue(entry.End);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        // Blanks after the header keep the data aligned to 8 bytes.
        while (buffer.Length % 8 != 0) buffer.WriteByte((byte)' ');
        if (buffer.Length > MaximumHeader)
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"The header takes {buffer.Length} bytes; {MaximumHeader} is the format's limit."));
        return buffer.ToArray();
    }
}

/// <summary>Where a tensor lies in a safetensors file, and as what.</summary>
internal sealed record SafetensorsEntry(string Dtype, ScalarType? Type, long[] Shape, long Start, long End);

/// <summary>A memory-mapped safetensors file: only the tensors that are asked for are read.</summary>
public sealed class SafetensorsFile : IDisposable
{
    private readonly string path;
    private readonly MemoryMappedFile map;
    private readonly long dataStart;
    private readonly Dictionary<string, SafetensorsEntry> entries;

    private SafetensorsFile(string path, MemoryMappedFile map, long dataStart, List<(string Name, SafetensorsEntry Entry)> ordered, Dictionary<string, string> metadata)
    {
        (this.path, this.map, this.dataStart, Metadata) = (path, map, dataStart, metadata);
        entries = ordered.ToDictionary(entry => entry.Name, entry => entry.Entry, StringComparer.Ordinal);
        Names = ordered.Select(entry => entry.Name).ToArray();
    }

    /// <summary>The names of the tensors, in the order of the file.</summary>
    public IReadOnlyCollection<string> Names { get; }

    /// <summary>The texts of the header; empty if there are none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Maps a file and checks its whole header.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is damaged; the message says how.</exception>
    public static SafetensorsFile Open(string path)
    {
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        try
        {
            return FileFormat.Named(path, () =>
            {
                long fileBytes = stream.Length;
                if (fileBytes < 8) throw new InvalidDataException($"has {fileBytes} bytes; a safetensors file begins with 8 bytes of header length");
                Span<byte> prefix = stackalloc byte[8];
                stream.ReadExactly(prefix);
                ulong length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
                if (length > Safetensors.MaximumHeader) throw new InvalidDataException($"declares a header of {length} bytes; the limit is {Safetensors.MaximumHeader}");
                if ((long)length > fileBytes - 8) throw new InvalidDataException($"declares a header of {length} bytes, but has {fileBytes - 8} bytes after the length");
                byte[] header = new byte[length];
                stream.ReadExactly(header);
                var (entries, metadata) = Safetensors.ParseHeader(header, fileBytes - 8 - (long)length);
                MemoryMappedFile map = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
                return new SafetensorsFile(path, map, 8 + (long)length, entries, metadata);
            });
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    /// <summary>The shape of a tensor, without reading it.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="KeyNotFoundException">There is no tensor of that name.</exception>
    public IReadOnlyList<long> Shape(string name) => Entry(name).Shape;

    /// <summary>The element type of a tensor; null where TorchSharp has none.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="KeyNotFoundException">There is no tensor of that name.</exception>
    public ScalarType? ElementType(string name) => Entry(name).Type;

    /// <summary>Reads one tensor into CPU memory.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="KeyNotFoundException">There is no tensor of that name.</exception>
    /// <exception cref="InvalidDataException">TorchSharp cannot hold its element type.</exception>
    public Tensor Get(string name)
    {
        SafetensorsEntry entry = Entry(name);
        if (entry.Type is not { } type) throw Safetensors.Unsupported(path, name, entry.Dtype);
        if (entry.Start == entry.End) return torch.empty(entry.Shape, type);
        using MemoryMappedViewStream view = map.CreateViewStream(dataStart + entry.Start, entry.End - entry.Start, MemoryMappedFileAccess.Read);
        return FileFormat.ReadTensor(view, entry.Shape, type);
    }

    /// <summary>Reads consecutive elements of a tensor, in row-major order, into CPU memory.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="start">The first element.</param>
    /// <param name="count">How many, at least 1.</param>
    /// <returns>[count].</returns>
    /// <exception cref="KeyNotFoundException">There is no tensor of that name.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The tensor does not have these elements.</exception>
    /// <exception cref="InvalidDataException">TorchSharp cannot hold its element type.</exception>
    public Tensor Slice(string name, long start, long count)
    {
        SafetensorsEntry entry = Entry(name);
        if (entry.Type is not { } type) throw Safetensors.Unsupported(path, name, entry.Dtype);
        long elements = FileFormat.ElementCount(entry.Shape);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, elements - start);
        long width = (entry.End - entry.Start) / elements;
        using MemoryMappedViewStream view = map.CreateViewStream(dataStart + entry.Start + start * width, count * width, MemoryMappedFileAccess.Read);
        return FileFormat.ReadTensor(view, [count], type);
    }

    /// <summary>The path of the file.</summary>
    public override string ToString() => path;

    /// <summary>Unmaps the file; tensors that were read stay valid.</summary>
    public void Dispose() => map.Dispose();

    internal ScalarType RequireElementType(string name) => Entry(name) is { Type: { } type } ? type : throw Safetensors.Unsupported(path, name, Entry(name).Dtype);

    private SafetensorsEntry Entry(string name) => entries.TryGetValue(name, out SafetensorsEntry? entry)
        ? entry
        : throw new KeyNotFoundException($"{path} has no tensor '{name}'; it has: {string.Join(", ", Names.Take(20))}{(Names.Count > 20 ? ", ..." : "")}.");
}
