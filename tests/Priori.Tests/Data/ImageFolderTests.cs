using System.IO.Compression;
using Priori.Data;
using SkiaSharp;

namespace Priori.Tests.Data;

public sealed class ImageFolderTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    internal static byte[] Encode(int width, int height, Func<int, int, SKColor> pixel, SKEncodedImageFormat format = SKEncodedImageFormat.Png)
    {
        using var bitmap = new SKBitmap(width, height);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) bitmap.SetPixel(x, y, pixel(x, y));
        using SKData data = bitmap.Encode(format, 100);
        return data.ToArray();
    }

    private string Folder(string name, params (string Name, byte[] Content)[] files)
    {
        foreach ((string file, byte[] content) in files)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(folder.File($"{name}/{file}"))!);
            File.WriteAllBytes(folder.File($"{name}/{file}"), content);
        }
        return folder.File(name);
    }

    [Fact]
    public void Images_labels_and_classes_are_those_of_the_folders()
    {
        byte[] red = Encode(3, 2, (_, _) => SKColors.Red), gradient = Encode(3, 2, (x, y) => new SKColor((byte)(10 * x), (byte)(100 * y), 7));
        string path = Folder("a", ("cat/1.png", red), ("cat/.hidden.png", [1]), ("dog/0.PNG", gradient), ("notes.txt", [1]), ("cat/Thumbs.db", [2]));
        ImageDataset data = ImageFolder.Read(path);
        Assert.Equal(new long[] { 2, 3, 2, 3 }, data.Images.shape);
        Assert.Equal(["cat", "dog"], data.Classes);
        Assert.Equal(new long[] { 0, 1 }, data.Labels.data<long>().ToArray());
        Assert.Equal(new byte[] { 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, data.Images[0].contiguous().data<byte>().ToArray());
        Assert.Equal(new byte[] { 0, 10, 20, 0, 10, 20, 0, 0, 0, 100, 100, 100, 7, 7, 7, 7, 7, 7 }, data.Images[1].contiguous().data<byte>().ToArray());
        Assert.Equal(76, ImageFolder.Read(path, grayscale: true).Images[0, 0, 0, 0].item<byte>());
    }

    [Fact]
    public void A_zip_is_as_good_as_its_folder_and_splits_share_their_classes()
    {
        byte[] Shade(byte value) => Encode(4, 4, (_, _) => new SKColor(value, value, value), SKEncodedImageFormat.Jpeg);
        string path = Folder("b", ("train/a/1.jpg", Shade(10)), ("train/b/1.jpeg", Shade(20)), ("test/b/1.jpg", Shade(30)));
        ZipFile.CreateFromDirectory(path, folder.File("b.zip"));
        foreach (string source in new[] { path, folder.File("b.zip") })
        {
            Assert.Equal(["test", "train"], ImageFolder.Splits(source));
            ImageDataset test = ImageFolder.Read(source, split: "test");
            Assert.Equal(["a", "b"], test.Classes);
            Assert.Equal(1, test.Labels.item<long>());
            Assert.Equal(30, test.Images[0, 0, 0, 0].item<byte>());
            Assert.Equal(2, ImageFolder.Read(source, split: "train").Images.shape[0]);
            Assert.Contains("test, train", Assert.Throws<ArgumentException>(() => ImageFolder.Read(source)).Message, StringComparison.Ordinal);
            Assert.Contains("'valid'", Assert.Throws<ArgumentException>(() => ImageFolder.Read(source, split: "valid")).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_common_size_crops_to_the_centre_and_keeps_proportions()
    {
        // A white square in the middle third of a black band.
        string path = Folder("c", ("x/wide.png", Encode(30, 10, (x, _) => x is >= 10 and < 20 ? SKColors.White : SKColors.Black)), ("x/small.png", Encode(5, 5, (_, _) => SKColors.White)));
        ImageDataset data = ImageFolder.Read(path, size: 5);
        Assert.Equal(new long[] { 2, 3, 5, 5 }, data.Images.shape);
        Assert.Equal(255, data.Images.min().item<byte>());
        string message = Assert.Throws<InvalidDataException>(() => ImageFolder.Read(path)).Message;
        Assert.Contains("x/wide.png: is 30 x 10 pixels and the first image 5 x 5", message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_wrong_is_named()
    {
        byte[] good = Encode(8, 8, (x, y) => new SKColor((byte)(x * y), (byte)x, (byte)y), SKEncodedImageFormat.Jpeg);
        string Message(string path) => Assert.Throws<InvalidDataException>(() => ImageFolder.Read(path)).Message;
        Assert.Contains("x/b.jpg: cannot be decoded", Message(Folder("d", ("x/a.jpg", good), ("x/b.jpg", good[..^40]))), StringComparison.Ordinal);
        Assert.Contains("x/b.jpg: cannot be decoded", Message(Folder("e", ("x/a.jpg", good), ("x/b.jpg", "text"u8.ToArray()))), StringComparison.Ordinal);
        Assert.Contains("a.jpg is not in a folder of its class", Message(Folder("f", ("a.jpg", good))), StringComparison.Ordinal);
        Assert.Contains("has no images", Message(Folder("g", ("a.txt", good))), StringComparison.Ordinal);
    }

    [Fact]
    public void An_image_of_a_billion_pixels_is_refused_before_it_is_decoded()
    {
        byte[] png = Encode(1, 1, (_, _) => SKColors.Red);
        // The width and height of the header, and its checksum.
        new byte[] { 0, 0, 0x80, 0, 0, 0, 0x80, 0 }.CopyTo(png, 16);
        byte[] crc = System.IO.Hashing.Crc32.Hash(png.AsSpan(12, 17));
        Array.Reverse(crc);
        crc.CopyTo(png, 29);
        string message = Assert.Throws<InvalidDataException>(() => ImageFolder.Read(Folder("h", ("x/a.png", png)))).Message;
        Assert.Contains("32768 x 32768", message, StringComparison.Ordinal);
    }
}
