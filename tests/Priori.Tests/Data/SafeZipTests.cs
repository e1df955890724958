using System.IO.Compression;
using Priori.Data;

namespace Priori.Tests.Data;

public sealed class SafeZipTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    private string Zip(params (string Name, byte[] Content)[] files)
    {
        string path = folder.File($"{Guid.NewGuid():N}.zip");
        using ZipArchive zip = ZipFile.Open(path, ZipArchiveMode.Create);
        foreach ((string name, byte[] content) in files)
        {
            using Stream entry = zip.CreateEntry(name).Open();
            entry.Write(content);
        }
        return path;
    }

    [Fact]
    public void Files_are_unpacked_with_their_folders()
    {
        SafeZip.Extract(Zip(("a.txt", [1]), ("deep/er/b.txt", [2, 3])), folder.File("out"));
        Assert.Equal(new byte[] { 2, 3 }, File.ReadAllBytes(folder.File("out/deep/er/b.txt")));
    }

    [Theory]
    [InlineData("../evil.txt")]
    [InlineData("a/../../evil.txt")]
    [InlineData("/tmp/evil.txt")]
    [InlineData("..\\evil.txt")]
    [InlineData("C:\\evil.txt")]
    public void A_name_outside_the_folder_is_refused_before_anything_is_written(string name)
    {
        string zip = Zip(("good.txt", [1]), (name, [2]));
        Assert.StartsWith(zip, Assert.Throws<InvalidDataException>(() => SafeZip.Extract(zip, folder.File("out"))).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(folder.File("out")));
    }

    [Fact]
    public void Limits_and_doubled_names_are_enforced()
    {
        string zip = Zip(("a", new byte[600]), ("b", new byte[600]));
        Assert.Contains("limit", Assert.Throws<InvalidDataException>(() => SafeZip.Extract(zip, folder.File("o"), maximumBytes: 1000)).Message, StringComparison.Ordinal);
        Assert.Contains("2 files", Assert.Throws<InvalidDataException>(() => SafeZip.Extract(zip, folder.File("o"), maximumFiles: 1)).Message, StringComparison.Ordinal);
        Assert.Contains("two entries", Assert.Throws<InvalidDataException>(() => SafeZip.Extract(Zip(("a", [1]), ("A", [2])), folder.File("o"))).Message, StringComparison.Ordinal);
    }
}
