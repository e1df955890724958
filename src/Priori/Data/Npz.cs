using System.IO.Compression;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>Reads and writes NumPy's .npz files: a zip of .npy arrays, stored or deflated.</summary>
public static class Npz
{
    /// <summary>Reads all arrays by their names (without ".npy"); entries that are not .npy files are passed over.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is damaged, an array is not of numbers (see <see cref="Npy.Read(string)"/>), or a name occurs twice.</exception>
    public static Dictionary<string, Tensor> Read(string path)
    {
        Dictionary<string, Tensor> arrays = new(StringComparer.Ordinal);
        try
        {
            using SafeZip zip = SafeZip.Open(path);
            foreach (ZipArchiveEntry entry in zip.Files)
            {
                if (!entry.FullName.EndsWith(".npy", StringComparison.Ordinal)) continue;
                string name = entry.FullName[..^4];
                arrays.Add(name, FileFormat.Named($"{path}: array '{name}'", () =>
                {
                    using Stream stream = SafeZip.OpenFile(entry);
                    return Npy.Read(stream, entry.CompressedLength, compressed: true);
                }));
            }
            return arrays;
        }
        catch
        {
            foreach (Tensor array in arrays.Values) array.Dispose();
            throw;
        }
    }

    /// <summary>Writes arrays to a file, whole or not at all. The same arrays give the same bytes.</summary>
    /// <param name="path">The file; it is replaced if it exists.</param>
    /// <param name="arrays">The arrays by name, without ".npy".</param>
    /// <param name="compress">Whether to deflate them, as numpy.savez_compressed does.</param>
    /// <exception cref="ArgumentException">NumPy has no such element type.</exception>
    public static void Write(string path, IReadOnlyDictionary<string, Tensor> arrays, bool compress = false)
    {
        ArgumentNullException.ThrowIfNull(arrays);
        List<(string Name, Tensor Tensor, byte[] Header)> entries =
            arrays.OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => (pair.Key, pair.Value, Npy.Header(pair.Value))).ToList();
        AtomicFile.Write(path, stream =>
        {
            using var archive = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true);
            foreach ((string name, Tensor tensor, byte[] header) in entries)
            {
                ZipArchiveEntry entry = archive.CreateEntry($"{name}.npy", compress ? CompressionLevel.Optimal : CompressionLevel.NoCompression);
                entry.LastWriteTime = new DateTimeOffset(1980, 1, 1, 0, 0, 0, TimeSpan.Zero);
                using Stream content = entry.Open();
                content.Write(header);
                FileFormat.WriteTensor(content, tensor);
            }
        });
    }
}
