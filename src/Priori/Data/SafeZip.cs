using System.IO.Compression;

namespace Priori.Data;

/// <summary>
/// A zip file from an unknown hand: names that leave the folder are refused, and no entry may inflate beyond what it declares, nor all of them beyond a limit.
/// </summary>
public sealed class SafeZip : IDisposable
{
    private readonly ZipArchive archive;

    private SafeZip(ZipArchive archive, IReadOnlyList<ZipArchiveEntry> files) => (this.archive, Files) = (archive, files);

    /// <summary>The entries that are files, in the order of the archive, each with a relative name inside the folder, each once.</summary>
    internal IReadOnlyList<ZipArchiveEntry> Files { get; }

    /// <summary>Unpacks a zip file into a folder, never outside it.</summary>
    /// <param name="path">The zip file.</param>
    /// <param name="folder">The folder; it is created. Files that exist are replaced.</param>
    /// <param name="maximumBytes">The most that all files together may inflate to; 64 GiB by default.</param>
    /// <param name="maximumFiles">The most files; ten million by default.</param>
    /// <exception cref="InvalidDataException">The archive is damaged, climbs out of the folder, or is larger than a limit.</exception>
    public static void Extract(string path, string folder, long maximumBytes = 64L << 30, int maximumFiles = 10_000_000)
    {
        using SafeZip zip = Open(path);
        if (zip.Files.Count > maximumFiles) throw new InvalidDataException($"{path}: has {zip.Files.Count} files; {maximumFiles} is the limit.");
        // The declared sizes are a promise that OpenFile enforces, entry by entry.
        long left = maximumBytes;
        foreach (ZipArchiveEntry entry in zip.Files)
            if ((left -= entry.Length) < 0) throw new InvalidDataException($"{path}: inflates to more than the limit of {maximumBytes} bytes.");
        string root = Path.GetFullPath(folder);
        foreach (ZipArchiveEntry entry in zip.Files)
        {
            string target = Path.GetFullPath(Path.Combine(root, entry.FullName.Replace('\\', '/')));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            using var output = new FileStream(target, FileMode.Create, FileAccess.Write);
            FileFormat.Named(path, () =>
            {
                using Stream input = OpenFile(entry);
                input.CopyTo(output);
                return true;
            });
        }
    }

    /// <summary>Opens a zip file and checks its directory.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is damaged, has two entries of one name, or a name that is absolute or climbs out with "..".</exception>
    internal static SafeZip Open(string path)
    {
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        try
        {
            return FileFormat.NamedAny(path, () =>
            {
                var archive = new ZipArchive(stream, ZipArchiveMode.Read);
                HashSet<string> names = new(StringComparer.OrdinalIgnoreCase);
                List<ZipArchiveEntry> files = [];
                long compressed = 0;
                foreach (ZipArchiveEntry entry in archive.Entries)
                {
                    string name = entry.FullName.Replace('\\', '/');
                    if (name.Length == 0 || name[0] == '/' || name.AsSpan().ContainsAny(':', '\0') || name.Split('/').Contains(".."))
                        throw new InvalidDataException($"the entry '{entry.FullName}' lies outside the archive's own folder");
                    if (name.EndsWith('/')) continue;
                    if (!names.Add(name)) throw new InvalidDataException($"has two entries named '{entry.FullName}'");
                    // Entries that share their bytes are how a small archive inflates without bound.
                    compressed += entry.CompressedLength;
                    if (entry.Length < 0 || entry.CompressedLength < 0 || compressed < 0 || compressed > stream.Length)
                        throw new InvalidDataException($"the entries up to '{entry.FullName}' declare more bytes than the archive has");
                    FileFormat.CheckInflated(entry.Length, entry.CompressedLength);
                    files.Add(entry);
                }
                return new SafeZip(archive, files);
            });
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    /// <summary>Opens one entry; reading it throws <see cref="InvalidDataException"/> if it is damaged or inflates beyond what it declares.</summary>
    internal static Stream OpenFile(ZipArchiveEntry entry) => new BoundedStream(Checked(entry, entry.Open), entry);

    /// <summary>Closes the file.</summary>
    public void Dispose() => archive.Dispose();

    private static T Checked<T>(ZipArchiveEntry entry, Func<T> read) => FileFormat.NamedAny($"the entry '{entry.FullName}'", read);

    private sealed class BoundedStream(Stream inner, ZipArchiveEntry entry) : Stream
    {
        private long left = entry.Length;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => entry.Length;

        public override long Position { get => entry.Length - left; set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count)
        {
            int got = Checked(entry, () => inner.Read(buffer, offset, count));
            if ((left -= got) < 0) throw new InvalidDataException($"the entry '{entry.FullName}' inflates to more than the {entry.Length} bytes it declares");
            return got;
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            inner.Dispose();
            base.Dispose(disposing);
        }
    }
}
