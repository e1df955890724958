using System.Net;
using System.Net.Http.Headers;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>How far a download is.</summary>
/// <param name="File">The file that is being received.</param>
/// <param name="Received">Bytes of it that are on disk.</param>
/// <param name="Total">Its size in bytes; null when the server does not say.</param>
public readonly record struct DownloadProgress(string File, long Received, long? Total);

/// <summary>Downloads datasets into the data folder. A download that was cut off is continued, and nothing is put in place before its checksum holds.</summary>
public static class DatasetDownloader
{
    /// <summary>Attempts per address, each continuing where the last one was cut off.</summary>
    private const int Attempts = 3;

    private static readonly HttpClient s_client = new(new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(30) }) { Timeout = TimeSpan.FromMinutes(2) };

    /// <summary>Time without a byte after which a connection counts as lost.</summary>
    private static readonly TimeSpan s_silence = TimeSpan.FromSeconds(60);

    /// <summary>Downloads what is missing of a dataset.</summary>
    /// <param name="dataset">The dataset.</param>
    /// <param name="folder">The data folder to put it into.</param>
    /// <param name="mirror">Address of a mirror that holds each file at <c>mirror/dataset/file</c>; null for the official addresses.</param>
    /// <param name="progress">Told of every block that arrives; null for nobody.</param>
    /// <param name="cancellationToken">Stops the download; what has arrived is kept and continued next time.</param>
    /// <returns>The files and how far each is known to be right.</returns>
    /// <exception cref="BadInputException">The dataset has no address and no mirror is given, or the mirror is not an http or https address.</exception>
    /// <exception cref="IOException">No address could be reached, or the disk is full.</exception>
    /// <exception cref="InvalidDataException">What arrived is not the official content, or an archive is not safe to extract. It is not kept.</exception>
    public static async Task<DatasetReport> DownloadAsync(Dataset dataset, DataFolder folder, string? mirror = null, IProgress<DownloadProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(dataset);
        ArgumentNullException.ThrowIfNull(folder);
        if (mirror is not null && !(Uri.TryCreate(mirror, UriKind.Absolute, out Uri? parsed) && parsed.Scheme is "http" or "https"))
            throw new BadInputException($"The mirror '{mirror}' is not an address; give one such as https://example.org/datasets.");
        if (mirror is null && !dataset.HasAddress)
            throw new BadInputException($"{dataset.Name} has no official address; import it from a folder (priori data import {dataset.Name} DIR) or name a mirror.{(dataset.Note is null ? "" : " " + dataset.Note)}");

        string target = folder.PathOf(dataset.Name);
        if (dataset.IsPresent(target)) return dataset.Verify(target);
        string partial = Path.Combine(folder.Root, $".{dataset.Name}.download");
        Directory.CreateDirectory(partial);

        IReadOnlyList<string> Addresses(string file, IReadOnlyList<string> official) => mirror is null ? official : [$"{mirror.TrimEnd('/')}/{dataset.Name}/{Uri.EscapeDataString(file)}"];

        if (dataset.Archive is { } archive)
        {
            string path = Path.Combine(partial, archive.FileName);
            bool got = File.Exists(path);
            try
            {
                if (!got) await FetchAsync(Addresses(archive.FileName, archive.Urls), path, progress, cancellationToken).ConfigureAwait(false);
                got = true;
            }
            catch (IOException) when (mirror is not null)
            {
                // A mirror may be a plain copy of a data folder, which holds the files and not the archive.
            }
            if (got)
            {
                try
                {
                    DatasetReport report = DatasetImporter.Import(dataset, path, folder);
                    Directory.Delete(partial, recursive: true);
                    return report;
                }
                catch (Exception exception) when (exception is InvalidDataException or BadInputException)
                {
                    File.Delete(path);
                    throw exception is InvalidDataException ? exception : new InvalidDataException($"{archive.FileName} does not hold the files of {dataset.Name}: {exception.Message}", exception);
                }
            }
        }

        List<DatasetFileStatus> files = [];
        foreach (DatasetFile file in dataset.Files)
        {
            if (file.Resolve(target) is { } present)
            {
                files.Add(file.Verify(present));
                continue;
            }
            string path = Path.Combine(partial, file.Path);
            try
            {
                if (!File.Exists(path)) await FetchAsync(Addresses(file.Path, file.Urls), path, progress, cancellationToken).ConfigureAwait(false);
            }
            catch (IOException) when (file.Optional)
            {
                continue;
            }
            try
            {
                files.Add(DatasetImporter.Place(file, path, target));
            }
            finally
            {
                File.Delete(path);
            }
        }
        Directory.Delete(partial, recursive: true);
        return new DatasetReport(target, files);
    }

    /// <summary>Receives a file from the first address that has it, through <c>path.part</c>, which a later call continues.</summary>
    internal static async Task FetchAsync(IReadOnlyList<string> addresses, string path, IProgress<DownloadProgress>? progress, CancellationToken cancellationToken)
    {
        List<string> failures = [];
        foreach (string address in addresses)
        {
            for (int attempt = 1; attempt <= Attempts; attempt++)
            {
                try
                {
                    await ReceiveAsync(new Uri(address), path, progress, cancellationToken).ConfigureAwait(false);
                    return;
                }
                catch (HttpRequestException exception) when (exception.StatusCode is not null)
                {
                    failures.Add($"{address}: {(int)exception.StatusCode} {exception.StatusCode}");
                    break;
                }
                catch (Exception exception) when (exception is HttpRequestException or HttpIOException or TimeoutException)
                {
                    if (attempt == Attempts) failures.Add($"{address}: {exception.Message}");
                }
                catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
                {
                    if (attempt == Attempts) failures.Add($"{address}: no answer");
                }
            }
        }
        throw new IOException($"{Path.GetFileName(path)} could not be downloaded ({string.Join("; ", failures)}).");
    }

    private static async Task ReceiveAsync(Uri address, string path, IProgress<DownloadProgress>? progress, CancellationToken cancellationToken)
    {
        // Beside the part lies the address and the version it belongs to: another file must not be continued with it.
        string part = path + ".part", version = part + ".version";
        long have = File.Exists(part) ? new FileInfo(part).Length : 0;
        string[] known = have > 0 && File.Exists(version) ? await File.ReadAllLinesAsync(version, cancellationToken).ConfigureAwait(false) : [];

        using HttpRequestMessage request = new(HttpMethod.Get, address);
        if (known.Length == 2 && known[0] == address.AbsoluteUri && RangeConditionHeaderValue.TryParse(known[1], out RangeConditionHeaderValue? condition))
        {
            request.Headers.Range = new RangeHeaderValue(have, null);
            request.Headers.IfRange = condition;
        }
        using HttpResponseMessage response = await s_client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken).ConfigureAwait(false);
        if (response.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            if (response.Content.Headers.ContentRange?.Length == have)
            {
                Finish(path, part, version);
                return;
            }
            File.Delete(part);
            throw new HttpIOException(HttpRequestError.InvalidResponse, "the part on disk no longer fits the file");
        }
        response.EnsureSuccessStatusCode();
        bool continues = response.StatusCode == HttpStatusCode.PartialContent && response.Content.Headers.ContentRange?.From == have;
        if (!continues) have = 0;
        string? tag = response.Headers.ETag is { IsWeak: false } strong ? strong.ToString() : response.Content.Headers.LastModified?.ToString("R");
        await File.WriteAllLinesAsync(version, [address.AbsoluteUri, tag ?? ""], cancellationToken).ConfigureAwait(false);

        long? total = response.Content.Headers.ContentLength + have;
        await using (FileStream file = new(part, continues ? FileMode.Append : FileMode.Create, FileAccess.Write))
        {
            await using Stream body = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            byte[] buffer = new byte[1 << 16];
            while (true)
            {
                using CancellationTokenSource silence = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
                silence.CancelAfter(s_silence);
                int read = await body.ReadAsync(buffer, silence.Token).ConfigureAwait(false);
                if (read == 0) break;
                await file.WriteAsync(buffer.AsMemory(0, read), cancellationToken).ConfigureAwait(false);
                have += read;
                progress?.Report(new DownloadProgress(Path.GetFileName(path), have, total));
            }
        }
        Finish(path, part, version);
    }

    private static void Finish(string path, string part, string version)
    {
        File.Move(part, path, overwrite: true);
        File.Delete(version);
    }
}
