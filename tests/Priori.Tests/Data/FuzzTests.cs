using System.IO.Compression;
using System.Text;
using Priori.Data;
using SkiaSharp;

namespace Priori.Tests.Data;

/// <summary>Damaged files are read or refused by name: never another exception, never an allocation out of proportion.</summary>
public sealed class FuzzTests : IDisposable
{
    private const int Mutations = 300;
    private const long MaximumAllocation = 1L << 29;

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    private static byte[] Mutate(byte[] original, Random random)
    {
        List<byte> bytes = [.. original];
        for (int edits = random.Next(1, 4); edits > 0 && bytes.Count > 0; edits--)
        {
            // Headers and directories are at the ends of files: aim there half of the time.
            int at = random.Next(4) switch { 0 => random.Next(Math.Min(64, bytes.Count)), 1 => bytes.Count - 1 - random.Next(Math.Min(96, bytes.Count)), _ => random.Next(bytes.Count) };
            switch (random.Next(6))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                case 3:
                    bytes.RemoveRange(at, Math.Min(random.Next(1, 9), bytes.Count - at));
                    break;
                case 4:
                    bytes.InsertRange(at, bytes.GetRange(at, Math.Min(random.Next(1, 17), bytes.Count - at)));
                    break;
                default:
                    // A length that lies.
                    byte fill = new byte[] { 0x00, 0x7F, 0x80, 0xFF }[random.Next(4)];
                    for (int i = at; i < Math.Min(at + (1 << random.Next(4)), bytes.Count); i++) bytes[i] = fill;
                    break;
            }
        }
        return [.. bytes];
    }

    private void Fuzz(byte[] original, string name, Action<string> read, int mutations = Mutations)
    {
        var random = new Random(12345);
        string path = folder.File(name, original);
        read(path);
        int refused = 0;
        for (int i = 0; i < mutations; i++)
        {
            File.WriteAllBytes(path, Mutate(original, random));
            long before = GC.GetTotalAllocatedBytes();
            try
            {
                using var scope = NewDisposeScope();
                read(path);
            }
            catch (InvalidDataException exception)
            {
                Assert.StartsWith(path, exception.Message, StringComparison.Ordinal);
                refused++;
            }
            catch (Exception exception)
            {
                Assert.Fail($"mutation {i}: {exception}");
            }
            Assert.True(GC.GetTotalAllocatedBytes() - before < MaximumAllocation, $"mutation {i} allocated {GC.GetTotalAllocatedBytes() - before:N0} bytes");
        }
        Assert.True(refused > mutations / 20, $"only {refused} of {mutations} damaged files were refused");
    }

    [Fact]
    public void Idx_files()
    {
        byte[] plain = IdxTests.Bytes(0x0C, [3, 4], [.. Enumerable.Range(0, 48).Select(i => (byte)i)]);
        Fuzz(plain, "a.idx", path => Idx.Read(path));
        Fuzz(IdxTests.Gzip(plain), "a.idx.gz", path => Idx.Read(path));
    }

    [Fact]
    public void Npy_and_npz_files()
    {
        using Tensor a = torch.arange(60).view(3, 4, 5), b = torch.ones(7, ScalarType.Float64);
        Npy.Write(folder.File("a.npy"), a);
        Fuzz(File.ReadAllBytes(folder.File("a.npy")), "a.npy", path => Npy.Read(path));
        foreach (bool compress in new[] { false, true })
        {
            Npz.Write(folder.File("a.npz"), new Dictionary<string, Tensor> { ["a"] = a, ["b"] = b }, compress);
            Fuzz(File.ReadAllBytes(folder.File("a.npz")), "a.npz", path => Npz.Read(path));
        }
    }

    [Fact]
    public void Safetensors_files()
    {
        using Tensor a = torch.ones(3, 4), b = torch.arange(5);
        Safetensors.Write(folder.File("a"), new Dictionary<string, Tensor> { ["weight"] = a, ["bias"] = b }, new Dictionary<string, string> { ["format"] = "pt" });
        Fuzz(File.ReadAllBytes(folder.File("a")), "a.safetensors", path => Safetensors.Read(path), 600);
    }

    [Fact]
    public void Csv_files()
    {
        byte[] text = Encoding.UTF8.GetBytes("id,name,\"quoted, field\",x\n" + string.Concat(Enumerable.Range(0, 40).Select(i => $"{i},\"n{i}\",\"a \"\"b\"\"\nc\",{i / 7.0:R}\r\n")));
        void Read(string path)
        {
            foreach (Table block in TableReader.Blocks(path, 16))
                foreach (string column in block.Columns) Assert.Equal(block.RowCount, block[column].ToArray().Length);
        }
        Fuzz(text, "a.csv", Read);
        Fuzz(IdxTests.Gzip(text), "a.csv.gz", Read);
    }

    [Fact]
    public async Task Parquet_files()
    {
        byte[] file = await TableTests.Parquet();
        Fuzz(file, "a.parquet", path =>
        {
            foreach (Table block in TableReader.Blocks(path, 4))
                foreach (string column in block.Columns) Assert.Equal(block.RowCount, block[column].ToArray().Length);
        });
    }

    [Fact]
    public void LibFm_files()
    {
        byte[] text = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 50).Select(i => $"{i % 2} {i}:1 {100 + i}:{i / 7.0:R} {200 + i}:-2.5e-3\n")));
        Fuzz(text, "a.libfm", path => LibFm.Read(path));
    }

    [Fact]
    public void Zipped_image_folders()
    {
        using var buffer = new MemoryStream();
        using (var zip = new ZipArchive(buffer, ZipArchiveMode.Create))
        {
            foreach ((string name, SKEncodedImageFormat format) in new[] { ("train/a/1.png", SKEncodedImageFormat.Png), ("train/b/2.jpg", SKEncodedImageFormat.Jpeg), ("test/a/3.webp", SKEncodedImageFormat.Webp) })
            {
                using Stream entry = zip.CreateEntry(name, CompressionLevel.NoCompression).Open();
                entry.Write(ImageFolderTests.Encode(6, 5, (x, y) => new SKColor((byte)(40 * x), (byte)(50 * y), 9), format));
            }
        }
        void Read(string path)
        {
            foreach (string split in ImageFolder.Splits(path)) ImageFolder.Read(path, size: 4, split: split);
            SafeZip.Extract(path, folder.File("out"), maximumBytes: 1 << 20);
        }
        Fuzz(buffer.ToArray(), "a.zip", Read);
        Assert.Equal(["a.zip", "out"], Directory.EnumerateFileSystemEntries(folder.Root).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }
}
