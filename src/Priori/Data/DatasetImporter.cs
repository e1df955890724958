using System.Formats.Tar;
using System.IO.Compression;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>Puts datasets from a folder or an archive into the data folder, without network.</summary>
public static class DatasetImporter
{
    /// <summary>The most that an archive may unpack to, as for <see cref="SafeZip"/>.</summary>
    private const long MaximumBytes = 64L << 30;

    /// <summary>Copies the files of a dataset from a folder (or out of its archive, when the folder holds that) and compares their checksums.</summary>
    /// <param name="dataset">The dataset.</param>
    /// <param name="source">A folder that holds the dataset's files or its archive; the archive itself is accepted too.</param>
    /// <param name="folder">The data folder to put it into.</param>
    /// <returns>The files and how far each is known to be right.</returns>
    /// <exception cref="BadInputException">The source does not exist or lacks a file.</exception>
    /// <exception cref="InvalidDataException">A file's content is not the official one, or the archive is not safe to extract. Nothing of that file is kept.</exception>
    public static DatasetReport Import(Dataset dataset, string source, DataFolder folder)
    {
        ArgumentNullException.ThrowIfNull(dataset);
        ArgumentNullException.ThrowIfNull(folder);
        string? archive = File.Exists(source) ? source
            : dataset.Archive is { } known && File.Exists(Path.Combine(source, known.FileName)) ? Path.Combine(source, known.FileName) : null;
        if (archive is null && !Directory.Exists(source)) throw new BadInputException($"{source} does not exist; give the folder that holds the files of {dataset.Name}.");
        string target = folder.PathOf(dataset.Name);
        if (archive is null || (Directory.Exists(source) && dataset.IsPresent(source))) return Place(dataset, source, target);

        string temporary = Path.Combine(folder.Root, $".{dataset.Name}-{Path.GetRandomFileName()}");
        try
        {
            Extract(archive, temporary);
            string root = Path.Combine(temporary, dataset.Archive?.Root ?? "");
            return Place(dataset, dataset.IsPresent(temporary) || !Directory.Exists(root) ? temporary : root, target);
        }
        finally
        {
            if (Directory.Exists(temporary)) Directory.Delete(temporary, recursive: true);
        }
    }

    /// <summary>Extracts a .zip, .tar, .tar.gz or .tgz into a folder. Entries that lie outside it, and links, are refused before anything is written.</summary>
    /// <param name="archive">The archive.</param>
    /// <param name="folder">The folder; made when it does not exist.</param>
    /// <exception cref="InvalidDataException">An entry lies outside the folder or is a link, or the archive is damaged or unpacks to more than 64 GiB.</exception>
    public static void Extract(string archive, string folder)
    {
        string root = Path.GetFullPath(folder);
        if (archive.EndsWith(".zip", StringComparison.OrdinalIgnoreCase))
        {
            // A link would be written as a file that holds its target: harmless, but not what the archive means.
            // The upper half of the attributes is the Unix mode; 0xA000 marks a symbolic link.
            using (SafeZip zip = SafeZip.Open(archive))
                if (zip.Files.FirstOrDefault(e => ((e.ExternalAttributes >> 16) & 0xF000) == 0xA000) is { } link)
                    throw new InvalidDataException($"{archive}: the entry '{link.FullName}' is a link, which is not extracted.");
            SafeZip.Extract(archive, root);
            return;
        }
        bool compressed = archive.EndsWith("gz", StringComparison.OrdinalIgnoreCase);
        if (!compressed && !archive.EndsWith(".tar", StringComparison.OrdinalIgnoreCase)) throw new InvalidDataException($"{archive}: not a .zip, .tar, .tar.gz or .tgz.");
        foreach (bool write in (ReadOnlySpan<bool>)[false, true])
        {
            using FileStream file = File.OpenRead(archive);
            using Stream content = compressed ? new GZipStream(file, CompressionMode.Decompress) : file;
            using TarReader tar = new(content);
            long left = MaximumBytes;
            while (Named(archive, () => tar.GetNextEntry()) is { } entry)
            {
                string path = Inside(archive, root, entry.Name);
                bool plain = entry.EntryType is TarEntryType.RegularFile or TarEntryType.V7RegularFile or TarEntryType.ContiguousFile;
                if (!plain && entry.EntryType is not (TarEntryType.Directory or TarEntryType.GlobalExtendedAttributes))
                    throw new InvalidDataException($"{archive}: the entry '{entry.Name}' is a {entry.EntryType}, which is not extracted.");
                if ((left -= entry.Length) < 0) throw new InvalidDataException($"{archive}: holds more than the limit of {MaximumBytes} bytes.");
                if (!write || !plain) continue;
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                Named(archive, () => { entry.ExtractToFile(path, overwrite: true); return true; });
            }
        }
    }

    /// <summary>Copies the files into the dataset's folder, each through a temporary file that is renamed once its checksum holds.</summary>
    internal static DatasetReport Place(Dataset dataset, string source, string target)
    {
        List<(DatasetFile File, string Path)> found = [];
        foreach (DatasetFile file in dataset.Files)
        {
            if (file.Resolve(source) is { } path) found.Add((file, path));
            else if (!file.Optional) throw new BadInputException($"{source} has no {file.Path}; {dataset.Name} needs {string.Join(", ", dataset.Files.Where(f => !f.Optional).Select(f => f.Path))}.");
        }
        return new DatasetReport(target, [.. found.Select(f => Place(f.File, f.Path, target))]);
    }

    /// <summary>Brings one file into its form on disk, compares its checksum and puts it in its place.</summary>
    internal static DatasetFileStatus Place(DatasetFile file, string source, string target)
    {
        string path = Path.Combine(target, source.EndsWith(".gz", StringComparison.Ordinal) || !file.Path.EndsWith(".gz", StringComparison.Ordinal) ? file.Path : file.Path[..^3]);
        if (Path.GetFullPath(source) == Path.GetFullPath(path)) return file.Verify(path);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        // The name keeps its ending, by which the content is read.
        string temporary = Path.Combine(target, $".{Path.GetRandomFileName()}-{Path.GetFileName(path)}");
        try
        {
            if (file.Prepare is null) File.Copy(source, temporary);
            else File.WriteAllBytes(temporary, file.Prepare(File.ReadAllBytes(source)));
            if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(temporary, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
            DatasetFileStatus status;
            try
            {
                status = file.Verify(temporary);
            }
            catch (InvalidDataException exception)
            {
                throw new InvalidDataException(exception.Message.Replace(temporary, source, StringComparison.Ordinal), exception);
            }
            File.Move(temporary, path, overwrite: true);
            return status;
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    private static string Inside(string archive, string root, string entry)
    {
        string normal = entry.Replace('\\', '/');
        string path = Path.GetFullPath(Path.Combine(root, normal));
        bool absolute = normal.StartsWith('/') || (normal.Length > 1 && normal[1] == ':');
        if (absolute || normal.Split('/').Contains("..") || (path != root && !path.StartsWith(root + Path.DirectorySeparatorChar, StringComparison.Ordinal)))
            throw new InvalidDataException($"{archive}: the entry '{entry}' lies outside the archive's own folder.");
        return path;
    }

    private static T Named<T>(string archive, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception exception) when (exception is InvalidDataException or EndOfStreamException or FormatException)
        {
            throw new InvalidDataException($"{archive}: the archive is damaged.", exception);
        }
    }
}
