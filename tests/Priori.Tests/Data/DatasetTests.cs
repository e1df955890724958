using System.Formats.Tar;
using System.IO.Compression;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Priori.Data;
using Priori.Runtime;

namespace Priori.Tests.Data;

public sealed class DatasetTests : IDisposable
{
    private readonly TemporaryFolder _temporary = new();
    private readonly FileServer _server = new();

    public void Dispose()
    {
        _server.Dispose();
        _temporary.Dispose();
    }

    private DataFolder Folder => new(_temporary.File("data"));

    private static string Sha(byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content));

    private static byte[] Bytes(int count) => [.. Enumerable.Range(0, count).Select(i => (byte)((i * 31) + (i / 251)))];

    private static byte[] Gzip(byte[] content, CompressionLevel level)
    {
        using MemoryStream stream = new();
        using (GZipStream gzip = new(stream, level)) gzip.Write(content);
        return stream.ToArray();
    }

    /// <summary>A registered dataset with other files: the name must be known, the content is the test's.</summary>
    private static Dataset Ett(params DatasetFile[] files) => new("ett", "", "", "", files);

    // --- registry and folder

    [Fact]
    public void Every_registered_dataset_is_described_and_its_checksums_are_well_formed()
    {
        Assert.Equal(DatasetRegistry.All.Count, DatasetRegistry.All.Select(d => d.Name).Distinct().Count());
        foreach (Dataset dataset in DatasetRegistry.All)
        {
            Assert.NotEmpty(dataset.Licence);
            Assert.True(dataset.HasAddress || dataset.Note is not null, dataset.Name);
            Assert.Contains(dataset.Files, f => !f.Optional);
            foreach (DatasetFile file in dataset.Files)
            {
                foreach (string? sum in new[] { file.Sha256, file.KnownSha256 }) Assert.Matches("^[0-9a-f]{64}$", sum ?? new string('0', 64));
                Assert.All(file.Urls, url => Assert.True(Uri.TryCreate(url, UriKind.Absolute, out _)));
            }
        }
        Assert.Contains("the datasets are adult, ", Assert.Throws<BadInputException>(() => DatasetRegistry.Get("minst")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_dataset_is_found_when_all_its_files_are_there_compressed_or_not()
    {
        string folder = Directory.CreateDirectory(Path.Combine(Folder.Root, "mnist")).FullName;
        foreach (string name in new[] { "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte.gz" }) File.WriteAllText(Path.Combine(folder, name), "");
        Assert.Null(Folder.Find("mnist"));
        File.WriteAllText(Path.Combine(folder, "t10k-labels-idx1-ubyte.gz"), "");
        Assert.Equal(folder, Folder.Find("mnist"));
        Assert.Null(Folder.Find("adult"));
        Assert.Throws<BadInputException>(() => Folder.Find("no-such-set"));
    }

    // --- import

    [Fact]
    public void The_checksum_of_gzip_content_survives_recompression_and_damage_does_not_pass()
    {
        byte[] content = Bytes(5000);
        Dataset dataset = Ett(new DatasetFile("x.gz") { Sha256 = Sha(content), ChecksumOfContent = true });
        string source = Directory.CreateDirectory(_temporary.File("in")).FullName;
        foreach (CompressionLevel level in new[] { CompressionLevel.NoCompression, CompressionLevel.SmallestSize })
        {
            File.WriteAllBytes(Path.Combine(source, "x.gz"), Gzip(content, level));
            Assert.Equal(FileVerification.Verified, DatasetImporter.Import(dataset, source, Folder).Files.Single().Verification);
        }
        byte[] before = File.ReadAllBytes(Path.Combine(Folder.Root, "ett", "x.gz"));
        content[17] ^= 1;
        File.WriteAllBytes(Path.Combine(source, "x.gz"), Gzip(content, CompressionLevel.Fastest));
        string message = Assert.Throws<InvalidDataException>(() => DatasetImporter.Import(dataset, source, Folder)).Message;
        Assert.StartsWith(Path.Combine(source, "x.gz"), message, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(Path.Combine(Folder.Root, "ett", "x.gz")));
        Assert.Single(Directory.GetFiles(Path.Combine(Folder.Root, "ett")));
    }

    [Fact]
    public void What_is_not_known_to_be_official_is_said_to_be_so()
    {
        byte[] content = Bytes(100);
        string source = Directory.CreateDirectory(_temporary.File("in")).FullName;
        File.WriteAllBytes(Path.Combine(source, "a"), content);
        File.WriteAllBytes(Path.Combine(source, "b"), content);
        DatasetReport report = DatasetImporter.Import(Ett(new DatasetFile("a") { KnownSha256 = Sha(content) }, new DatasetFile("b"), new DatasetFile("c") { Optional = true }), source, Folder);
        Assert.Equal([FileVerification.KnownCopy, FileVerification.Unverified], report.Files.Select(f => f.Verification));
        Assert.Contains("has no z; ett needs z", Assert.Throws<BadInputException>(() => DatasetImporter.Import(Ett(new DatasetFile("z")), source, Folder)).Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => DatasetImporter.Import(Ett(new DatasetFile("z")), _temporary.File("nowhere"), Folder));
    }

    [Fact]
    public void Official_content_is_brought_into_the_form_on_disk()
    {
        DatasetFile adult = DatasetRegistry.Get("adult").Files[0], housing = DatasetRegistry.Get("california-housing").Files[0];
        byte[] withHeader = adult.Prepare!("39, State-gov\n"u8.ToArray());
        Assert.StartsWith("age, workclass,", Encoding.ASCII.GetString(withHeader), StringComparison.Ordinal);
        Assert.EndsWith("Salary\n39, State-gov\n", Encoding.ASCII.GetString(withHeader), StringComparison.Ordinal);
        Assert.Equal(withHeader, adult.Prepare(withHeader));
        Assert.Equal("longitude\n1\n"u8.ToArray(), housing.Prepare!("b'longitude\n1\n'\n"u8.ToArray()));
        Assert.Equal("longitude\n1\n"u8.ToArray(), housing.Prepare("longitude\n1\n"u8.ToArray()));
    }

    [Fact]
    public void Real_copies_verify_where_they_are_present()
    {
        if (Environment.GetEnvironmentVariable("PRIORI_DATA") is not { Length: > 0 } root) return;
        foreach (Dataset dataset in DatasetRegistry.All.Where(d => d.Name != "cifar10-jpeg" && Directory.Exists(Path.Combine(root, d.Name))))
        {
            DatasetReport report = DatasetImporter.Import(dataset, Path.Combine(root, dataset.Name), Folder);
            Assert.DoesNotContain(report.Files, f => f.Verification == FileVerification.Unverified);
            Assert.NotNull(Folder.Find(dataset.Name));
        }
    }

    // --- archives

    [Theory]
    [InlineData("../evil")]
    [InlineData("a/../../evil")]
    [InlineData("/tmp/priori-evil")]
    [InlineData("..\\evil")]
    [InlineData("C:\\evil")]
    public void An_entry_that_leads_out_of_the_folder_is_refused_before_anything_is_written(string name)
    {
        string zip = _temporary.File("a.zip"), tar = _temporary.File("a.tar.gz");
        using (ZipArchive archive = ZipFile.Open(zip, ZipArchiveMode.Create))
        {
            archive.CreateEntry("good.txt");
            archive.CreateEntry(name);
        }
        using (FileStream file = File.Create(tar))
        using (GZipStream gzip = new(file, CompressionMode.Compress))
        using (TarWriter writer = new(gzip))
        {
            writer.WriteEntry(new PaxTarEntry(TarEntryType.RegularFile, "good.txt") { DataStream = new MemoryStream([1]) });
            writer.WriteEntry(new PaxTarEntry(TarEntryType.RegularFile, name) { DataStream = new MemoryStream([1]) });
        }
        foreach (string archive in new[] { zip, tar })
        {
            string target = _temporary.File("out");
            string message = Assert.Throws<InvalidDataException>(() => DatasetImporter.Extract(archive, target)).Message;
            Assert.Contains("lies outside", message, StringComparison.Ordinal);
            Assert.False(Directory.Exists(target));
        }
        Assert.False(File.Exists("/tmp/priori-evil"));
        Assert.Equal(["a.tar.gz", "a.zip"], Directory.GetFileSystemEntries(_temporary.Root).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void Links_in_archives_are_refused()
    {
        string zip = _temporary.File("a.zip"), tar = _temporary.File("a.tar");
        using (ZipArchive archive = ZipFile.Open(zip, ZipArchiveMode.Create))
        {
            ZipArchiveEntry entry = archive.CreateEntry("link");
            entry.ExternalAttributes = unchecked((int)0xA1FF0000);
            using Stream stream = entry.Open();
            stream.Write("/etc/passwd"u8);
        }
        foreach (TarEntryType type in new[] { TarEntryType.SymbolicLink, TarEntryType.HardLink })
        {
            using (FileStream file = File.Create(tar))
            using (TarWriter writer = new(file))
                writer.WriteEntry(new PaxTarEntry(type, "link") { LinkName = "/etc/passwd" });
            Assert.Contains("is not extracted", Assert.Throws<InvalidDataException>(() => DatasetImporter.Extract(tar, _temporary.File("out"))).Message, StringComparison.Ordinal);
        }
        Assert.Contains("is a link", Assert.Throws<InvalidDataException>(() => DatasetImporter.Extract(zip, _temporary.File("out"))).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_temporary.File("out")));
    }

    [Fact]
    public void A_damaged_archive_is_named()
    {
        foreach (string name in new[] { "a.zip", "a.tar.gz", "a.tar" })
        {
            string path = _temporary.File(name, Bytes(700));
            Assert.StartsWith(path, Assert.Throws<InvalidDataException>(() => DatasetImporter.Extract(path, _temporary.File("out"))).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_dataset_is_imported_out_of_its_archive()
    {
        Dataset dataset = Ett(new DatasetFile("u.data")) with { Archive = new DatasetArchive("set.zip", [], "set") };
        string source = Directory.CreateDirectory(_temporary.File("in")).FullName;
        using (ZipArchive archive = ZipFile.Open(Path.Combine(source, "set.zip"), ZipArchiveMode.Create))
        {
            using Stream stream = archive.CreateEntry("set/u.data").Open();
            stream.Write("1\t2\n"u8);
        }
        DatasetImporter.Import(dataset, source, Folder);
        Assert.Equal("1\t2\n", File.ReadAllText(Path.Combine(Folder.Root, "ett", "u.data")));
        Assert.Equal(["ett"], Directory.GetFileSystemEntries(Folder.Root).Select(Path.GetFileName));
    }

    // --- download

    [Fact]
    public async Task A_download_that_was_cut_off_continues_where_it_stopped()
    {
        byte[] content = Bytes(400_000);
        _server.Files["/f"] = content;
        _server.CutAfter.Enqueue(150_000);
        Dataset dataset = Ett(new DatasetFile("f") { Urls = [_server.Address + "/f"], Sha256 = Sha(content) });
        List<DownloadProgress> seen = [];
        DatasetReport report = await DatasetDownloader.DownloadAsync(dataset, Folder, progress: new Immediate(seen.Add));
        Assert.Equal(FileVerification.Verified, report.Files.Single().Verification);
        Assert.Equal(2, _server.Ranges.Count);
        Assert.Equal("", _server.Ranges[0]);
        Assert.Matches("^bytes=[1-9][0-9]*-$", _server.Ranges[1]);
        Assert.True(_server.Sent < 400_000 + 160_000, "the second request must not have started from the beginning");
        Assert.Equal(new DownloadProgress("f", 400_000, 400_000), seen[^1]);
        Assert.Equal(["ett"], Directory.GetFileSystemEntries(Folder.Root).Select(Path.GetFileName));
    }

    [Fact]
    public async Task A_part_of_a_file_that_has_changed_since_is_not_continued()
    {
        byte[] old = Bytes(100_000), changed = [.. old.Reverse()];
        _server.Files["/f"] = old;
        for (int i = 0; i < 3; i++) _server.CutAfter.Enqueue(20_000); // every attempt of the first call
        Dataset dataset = Ett(new DatasetFile("f") { Urls = [_server.Address + "/f"], Sha256 = Sha(changed) });
        await Assert.ThrowsAnyAsync<IOException>(() => DatasetDownloader.DownloadAsync(dataset, Folder));
        _server.Files["/f"] = changed;
        DatasetReport report = await DatasetDownloader.DownloadAsync(dataset, Folder);
        Assert.Equal(FileVerification.Verified, report.Files.Single().Verification);
    }

    [Fact]
    public async Task Wrong_content_is_refused_and_not_kept()
    {
        _server.Files["/f"] = Bytes(1000);
        Dataset dataset = Ett(new DatasetFile("f") { Urls = [_server.Address + "/f"], Sha256 = Sha(Bytes(999)) });
        Assert.Contains("SHA-256 is", (await Assert.ThrowsAsync<InvalidDataException>(() => DatasetDownloader.DownloadAsync(dataset, Folder))).Message, StringComparison.Ordinal);
        Assert.Null(Folder.Find("ett"));
        Assert.DoesNotContain(Directory.GetFiles(Folder.Root, "*", SearchOption.AllDirectories), f => Path.GetFileName(f).EndsWith('f'));
        // A second call downloads afresh instead of continuing with what was wrong.
        _server.Files["/f"] = Bytes(999);
        await DatasetDownloader.DownloadAsync(dataset, Folder);
    }

    [Fact]
    public async Task The_second_address_is_used_when_the_first_fails_and_every_failure_is_named()
    {
        _server.Files["/good"] = Bytes(10);
        Dataset dataset = Ett(new DatasetFile("f") { Urls = [_server.Address + "/missing", _server.Address + "/good"] });
        DatasetReport report = await DatasetDownloader.DownloadAsync(dataset, Folder);
        Assert.Equal(FileVerification.Unverified, report.Files.Single().Verification);
        Dataset nowhere = Ett(new DatasetFile("g") { Urls = [_server.Address + "/a", _server.Address + "/b"] });
        string message = (await Assert.ThrowsAsync<IOException>(() => DatasetDownloader.DownloadAsync(nowhere, Folder))).Message;
        Assert.Contains("/a: 404", message, StringComparison.Ordinal);
        Assert.Contains("/b: 404", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_mirror_replaces_all_addresses_and_may_hold_the_files_or_the_archive()
    {
        Dataset dataset = Ett(new DatasetFile("u.data"), new DatasetFile("extra") { Optional = true }) with { Archive = new DatasetArchive("set.zip", ["http://127.0.0.1:1/never"], "set") };
        _server.Files["/m/ett/u.data"] = Bytes(50);
        await DatasetDownloader.DownloadAsync(dataset, Folder, _server.Address + "/m/");
        Assert.Equal(Bytes(50), File.ReadAllBytes(Path.Combine(Folder.Root, "ett", "u.data")));

        using MemoryStream zip = new();
        using (ZipArchive archive = new(zip, ZipArchiveMode.Create, leaveOpen: true))
        {
            using Stream stream = archive.CreateEntry("set/u.data").Open();
            stream.Write(Bytes(60));
        }
        _server.Files["/m/ett/set.zip"] = zip.ToArray();
        DataFolder other = new(_temporary.File("other"));
        await DatasetDownloader.DownloadAsync(dataset, other, _server.Address + "/m");
        Assert.Equal(Bytes(60), File.ReadAllBytes(Path.Combine(other.Root, "ett", "u.data")));
        Assert.Equal(["ett"], Directory.GetFileSystemEntries(other.Root).Select(Path.GetFileName));
    }

    [Fact]
    public async Task Cancelling_keeps_what_has_arrived()
    {
        byte[] content = Bytes(3_000_000);
        _server.Files["/f"] = content;
        Dataset dataset = Ett(new DatasetFile("f") { Urls = [_server.Address + "/f"], Sha256 = Sha(content) });
        using CancellationTokenSource source = new();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => DatasetDownloader.DownloadAsync(dataset, Folder, progress: new Immediate(p => { if (p.Received > 500_000) source.Cancel(); }), cancellationToken: source.Token));
        Assert.True(new FileInfo(Path.Combine(Folder.Root, ".ett.download", "f.part")).Length > 500_000);
        await DatasetDownloader.DownloadAsync(dataset, Folder);
        Assert.Matches("^bytes=[1-9]", _server.Ranges[^1]);
    }

    [Fact]
    public async Task Without_an_address_the_way_out_is_named()
    {
        Assert.Contains("priori data import cifar10-jpeg DIR", (await Assert.ThrowsAsync<BadInputException>(() => DatasetDownloader.DownloadAsync(DatasetRegistry.Get("cifar10-jpeg"), Folder))).Message, StringComparison.Ordinal);
        Assert.Contains("is not an address", (await Assert.ThrowsAsync<BadInputException>(() => DatasetDownloader.DownloadAsync(DatasetRegistry.Get("mnist"), Folder, "ftp://x"))).Message, StringComparison.Ordinal);
    }

    private sealed class Immediate(Action<DownloadProgress> action) : IProgress<DownloadProgress>
    {
        public void Report(DownloadProgress value) => action(value);
    }

    /// <summary>A file server on the loopback interface with ranges, version tags and connections that break on demand.</summary>
    private sealed class FileServer : IDisposable
    {
        private readonly HttpListener _listener = new();

        public FileServer()
        {
            using (TcpListener probe = new(IPAddress.Loopback, 0))
            {
                probe.Start();
                Address = $"http://127.0.0.1:{((IPEndPoint)probe.LocalEndpoint).Port}";
            }
            _listener.Prefixes.Add(Address + "/");
            _listener.Start();
            _ = Task.Run(Serve);
        }

        public string Address { get; }

        public Dictionary<string, byte[]> Files { get; } = [];

        public Queue<int> CutAfter { get; } = new();

        public List<string> Ranges { get; } = [];

        public long Sent { get; private set; }

        public void Dispose() => ((IDisposable)_listener).Dispose();

        private async Task Serve()
        {
            while (_listener.IsListening)
            {
                HttpListenerContext context;
                try
                {
                    context = await _listener.GetContextAsync();
                }
                catch (Exception exception) when (exception is HttpListenerException or ObjectDisposedException)
                {
                    return;
                }
                try
                {
                    Answer(context);
                }
                catch (Exception exception) when (exception is HttpListenerException or IOException or ObjectDisposedException)
                {
                    // The client went away.
                }
            }
        }

        private void Answer(HttpListenerContext context)
        {
            using HttpListenerResponse response = context.Response;
            if (!Files.TryGetValue(context.Request.Url!.AbsolutePath, out byte[]? content))
            {
                response.StatusCode = 404;
                return;
            }
            string range = context.Request.Headers["Range"] ?? "", tag = $"\"{Sha(content)[..16]}\"";
            Ranges.Add(range);
            int from = range.Length > 0 && context.Request.Headers["If-Range"] == tag ? int.Parse(range[6..^1], System.Globalization.CultureInfo.InvariantCulture) : 0;
            response.Headers["ETag"] = tag;
            if (from > 0)
            {
                response.StatusCode = 206;
                response.Headers["Content-Range"] = $"bytes {from}-{content.Length - 1}/{content.Length}";
            }
            response.ContentLength64 = content.Length - from;
            int until = CutAfter.TryDequeue(out int cut) ? Math.Min(from + cut, content.Length) : content.Length;
            response.OutputStream.Write(content, from, until - from);
            response.OutputStream.Flush();
            Sent += until - from;
            if (until < content.Length) response.Abort();
        }
    }
}
