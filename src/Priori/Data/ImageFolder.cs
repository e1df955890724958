using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using SkiaSharp;

namespace Priori.Data;

/// <summary>Reads labelled images as users have them: a folder for each class, in a folder or a zip, with or without a level for train and test.</summary>
public static class ImageFolder
{
    private const long MaximumPixels = 100_000_000;

    private static readonly HashSet<string> Extensions = new(StringComparer.OrdinalIgnoreCase) { ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp" };

    /// <summary>The parts that the images are split into, such as "test" and "train": the folders above the classes, sorted. One "" if there is no such level.</summary>
    /// <param name="folderOrZip">The folder or zip file.</param>
    /// <exception cref="InvalidDataException">There is no image, or one outside the folder of a class.</exception>
    public static IReadOnlyList<string> Splits(string folderOrZip)
    {
        using Source source = Source.Open(folderOrZip);
        return source.Splits;
    }

    /// <summary>Reads and decodes all images, in the order of their names, on all cores.</summary>
    /// <param name="folderOrZip">The folder or zip file: [split/]class/image, where an image is jpg, png, bmp, gif or webp. Other files are passed over.</param>
    /// <param name="size">Height and width of the result: images are cropped to their centred square and resampled. Null leaves them as they are; then all must be of one size.</param>
    /// <param name="split">The part to read, such as "train"; may be null if there is one only.</param>
    /// <param name="grayscale">Whether to keep only the luma (ITU-R BT.601) instead of red, green and blue. Transparent pixels are blended with black.</param>
    /// <returns>Images [n, 3 or 1, height, width]. The classes are those of all splits, sorted by ordinal, so that labels of train and test agree.</returns>
    /// <exception cref="InvalidDataException">There is no image, one cannot be decoded or is outside the folder of a class, or sizes differ; the message names the image.</exception>
    /// <exception cref="ArgumentException">The split does not exist, or there are several and none is named.</exception>
    public static ImageDataset Read(string folderOrZip, int? size = null, string? split = null, bool grayscale = false)
    {
        if (size is < 1) throw new ArgumentOutOfRangeException(nameof(size), size, "The size is at least 1 pixel.");
        using Source source = Source.Open(folderOrZip);
        if (split is null && source.Splits.Length > 1) throw new ArgumentException($"{folderOrZip} has the splits {string.Join(", ", source.Splits)}; name one.", nameof(split));
        split ??= source.Splits[0];
        if (!source.Splits.Contains(split)) throw new ArgumentException($"{folderOrZip} has no split '{split}'; it has: {string.Join(", ", source.Splits)}.", nameof(split));

        string[] classes = source.Images.Select(image => image.Class).Distinct().Order(StringComparer.Ordinal).ToArray();
        Image[] images = source.Images.Where(image => image.Split == split).OrderBy(image => image.Name, StringComparer.Ordinal).ToArray();
        (int height, int width) = size is { } side ? (side, side) : SizeOf(source, images[0]);
        using var scope = NewDisposeScope();
        Tensor labels = torch.tensor(images.Select(image => (long)Array.BinarySearch(classes, image.Class, StringComparer.Ordinal)).ToArray());
        Tensor pixels = torch.empty([images.Length, grayscale ? 1 : 3, height, width], ScalarType.Byte);
        // One core at a time reads (a zip has one stream); all decode.
        var loaded = Enumerable.Range(0, images.Length).Select(i => (Index: i, Content: source.Load(images[i])));
        try
        {
            Parallel.ForEach(Partitioner.Create(loaded, EnumerablePartitionerOptions.NoBuffering), item =>
            {
                using Tensor target = pixels.narrow(0, item.Index, 1);
                Decode(source, images[item.Index], item.Content, height, width, crop: size is not null, target.bytes);
            });
        }
        catch (AggregateException exception)
        {
            ExceptionDispatchInfo.Throw(exception.InnerExceptions[0]);
        }
        return new ImageDataset(pixels.MoveToOuterDisposeScope(), labels.MoveToOuterDisposeScope(), classes);
    }

    private static (int Height, int Width) SizeOf(Source source, Image image)
    {
        using SKData data = SKData.CreateCopy(source.Load(image));
        using SKCodec codec = OpenCodec(source, image, data);
        return (codec.Info.Height, codec.Info.Width);
    }

    private static SKCodec OpenCodec(Source source, Image image, SKData data)
    {
        SKCodec codec = SKCodec.Create(data) ?? throw source.Bad(image, "cannot be decoded");
        SKImageInfo info = codec.Info;
        if (info.Width > 0 && info.Height > 0 && (long)info.Width * info.Height <= MaximumPixels) return codec;
        codec.Dispose();
        throw source.Bad(image, $"declares {info.Width} x {info.Height} pixels; {MaximumPixels} pixels are the limit");
    }

    /// <summary>Decodes one image into planes of bytes, [channels, height, width].</summary>
    private static void Decode(Source source, Image image, byte[] content, int height, int width, bool crop, Span<byte> planes)
    {
        using SKData data = SKData.CreateCopy(content);
        using SKCodec codec = OpenCodec(source, image, data);
        using var bitmap = new SKBitmap(new SKImageInfo(codec.Info.Width, codec.Info.Height, SKColorType.Rgba8888, SKAlphaType.Premul));
        SKCodecResult result = codec.GetPixels(bitmap.Info, bitmap.GetPixels());
        if (result != SKCodecResult.Success) throw source.Bad(image, $"cannot be decoded ({result})");
        if (bitmap.Height == height && bitmap.Width == width)
        {
            CopyPlanes(bitmap, planes);
            return;
        }
        if (!crop) throw source.Bad(image, $"is {bitmap.Width} x {bitmap.Height} pixels and the first image {width} x {height}; give a common size");
        int side = Math.Min(bitmap.Width, bitmap.Height), left = (bitmap.Width - side) / 2, top = (bitmap.Height - side) / 2;
        using var square = new SKBitmap();
        bitmap.ExtractSubset(square, SKRectI.Create(left, top, side, side));
        using SKBitmap resized = square.Resize(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Premul), new SKSamplingOptions(SKFilterMode.Linear, SKMipmapMode.Linear))
            ?? throw source.Bad(image, $"cannot be resized to {width} x {height}");
        CopyPlanes(resized, planes);
    }

    private static void CopyPlanes(SKBitmap bitmap, Span<byte> planes)
    {
        int count = bitmap.Width * bitmap.Height;
        ReadOnlySpan<byte> pixels = bitmap.GetPixelSpan();
        if (planes.Length == count)
        {
            for (int i = 0; i < count; i++) planes[i] = (byte)(((299 * pixels[4 * i]) + (587 * pixels[(4 * i) + 1]) + (114 * pixels[(4 * i) + 2]) + 500) / 1000);
            return;
        }
        Span<byte> red = planes[..count], green = planes.Slice(count, count), blue = planes.Slice(2 * count, count);
        for (int i = 0; i < count; i++) (red[i], green[i], blue[i]) = (pixels[4 * i], pixels[(4 * i) + 1], pixels[(4 * i) + 2]);
    }

    private sealed record Image(string Name, string Split, string Class, Func<byte[]> Read);

    /// <summary>The images of a folder or of a zip file.</summary>
    private sealed class Source : IDisposable
    {
        private readonly string path;
        private readonly SafeZip? zip;

        private Source(string path, SafeZip? zip, IEnumerable<(string Name, Func<byte[]> Read)> files)
        {
            (this.path, this.zip) = (path, zip);
            foreach ((string name, Func<byte[]> read) in files)
            {
                string[] parts = name.Split('/');
                // Files of the systems themselves: .DS_Store, __MACOSX/._x.jpg.
                if (!Extensions.Contains(Path.GetExtension(name)) || parts[^1][0] == '.' || parts[0] == "__MACOSX") continue;
                if (parts.Length < 2) throw new InvalidDataException($"{path}: the image {name} is not in a folder of its class.");
                Images.Add(new Image(name, string.Join('/', parts[..^2]), parts[^2], read));
            }
            if (Images.Count == 0) throw new InvalidDataException($"{path}: has no images; each class needs a folder of {string.Join(", ", Extensions)} files.");
            Splits = Images.Select(image => image.Split).Distinct().Order(StringComparer.Ordinal).ToArray();
        }

        public List<Image> Images { get; } = [];

        public string[] Splits { get; }

        public static Source Open(string path)
        {
            if (Directory.Exists(path))
            {
                return new Source(path, null, Directory.EnumerateFiles(path, "*", new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 8, AttributesToSkip = 0 })
                    .Select(file => (Path.GetRelativePath(path, file).Replace('\\', '/'), (Func<byte[]>)(() => File.ReadAllBytes(file)))));
            }
            SafeZip zip = SafeZip.Open(path);
            try
            {
                return new Source(path, zip, zip.Files.Select(entry => (entry.FullName.Replace('\\', '/'), (Func<byte[]>)(() =>
                {
                    if (entry.Length > Array.MaxLength) throw new InvalidDataException($"the entry '{entry.FullName}' is larger than any image");
                    byte[] content = new byte[entry.Length];
                    using Stream stream = SafeZip.OpenFile(entry);
                    stream.ReadExactly(content);
                    return content;
                }))));
            }
            catch
            {
                zip.Dispose();
                throw;
            }
        }

        public byte[] Load(Image image) => FileFormat.Named($"{path}: {image.Name}", image.Read);

        public InvalidDataException Bad(Image image, string what) => new($"{path}: {image.Name}: {what}.");

        public void Dispose() => zip?.Dispose();
    }
}
