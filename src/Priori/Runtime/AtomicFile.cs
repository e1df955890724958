using System.Text;

namespace Priori.Runtime;

/// <summary>Writes files whole or not at all: to a temporary file in the same folder, then a rename.</summary>
public static class AtomicFile
{
    /// <summary>Writes a file through <paramref name="write"/>. The target appears, or is replaced, only when all of it is on disk.</summary>
    /// <param name="path">The file to write; its folder is created.</param>
    /// <param name="write">Writes the content to the stream.</param>
    /// <exception cref="IOException">The disk is full or the folder cannot be written; the target is as it was.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        string full = Path.GetFullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        string temporary = $"{full}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }
            File.Move(temporary, full, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>Writes a UTF-8 text file (no byte order mark) whole or not at all.</summary>
    /// <param name="path">The file to write; its folder is created.</param>
    /// <param name="text">The content.</param>
    public static void WriteText(string path, string text) => Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text)));
}
