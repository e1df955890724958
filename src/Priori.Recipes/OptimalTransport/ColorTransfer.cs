using Priori.Numerics;
using Priori.OptimalTransport;
using Priori.Runtime;
using SkiaSharp;
using Ot = Priori.OptimalTransport.OptimalTransport;

namespace Priori.Recipes.OptimalTransport;

/// <summary>
/// Recolours an image with the colours of another (Liu, Puigcerver and Blondel, ICLR 2023, section 6.2): the palette of the source is transported to the
/// palette of the reference, each source colour to at most k reference colours, and a pixel becomes the barycentre of its colour's partners.
/// </summary>
internal static class ColorTransfer
{
    private const int PaletteSample = 20_000, Chunk = 2048;

    private static readonly string[] s_images = [".png", ".jpg", ".jpeg", ".webp", ".bmp"];

    /// <summary>The images src.* and dst.* of a folder, if both are there.</summary>
    public static (string Source, string Reference)? Find(string folder)
    {
        string? Image(string name) => Directory.EnumerateFiles(folder, name + ".*").Where(IsImage).Order(StringComparer.Ordinal).FirstOrDefault();
        return Directory.Exists(folder) && Image("src") is { } source && Image("dst") is { } reference ? (source, reference) : null;
    }

    public static bool IsImage(string path) => s_images.Contains(Path.GetExtension(path).ToLowerInvariant());

    /// <summary>Pixels of an image [h * w, 4] uint8 (red, green, blue, alpha), its height and width.</summary>
    public static (Tensor Pixels, int Height, int Width) Read(string path)
    {
        using SKBitmap bitmap = SKBitmap.Decode(path) ?? throw new BadInputException($"{path} is no image that can be read; PNG, JPEG, WebP and BMP can.");
        using SKBitmap plain = new(new SKImageInfo(bitmap.Width, bitmap.Height, SKColorType.Rgba8888, SKAlphaType.Unpremul));
        using (SKPixmap pixels = bitmap.PeekPixels()) pixels.ReadPixels(plain.PeekPixels());
        return (torch.tensor(plain.Bytes).reshape(-1, 4), bitmap.Height, bitmap.Width);
    }

    /// <summary>Writes pixels [h * w, 4] as PNG.</summary>
    public static byte[] Png(Tensor pixels, int height, int width)
    {
        using SKBitmap bitmap = new(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Unpremul));
        pixels.contiguous().data<byte>().ToArray().CopyTo(bitmap.GetPixelSpan());
        using SKData data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        return data.ToArray();
    }

    /// <summary>k-means colours [k, 3] in [0, 1] and their shares [k] of the pixels.</summary>
    public static (Tensor Colors, Tensor Shares) Palette(Tensor pixels, int colors)
    {
        Tensor rgb = pixels.narrow(1, 0, 3).@float() / 255;
        Tensor sample = rgb.index_select(0, torch.linspace(0, rgb.shape[0] - 1, Math.Min(rgb.shape[0], PaletteSample), ScalarType.Float64).to(ScalarType.Int64));
        Tensor distinct = torch.unique(sample, dim: 0).output;
        Tensor centers = distinct.shape[0] <= colors ? distinct : KMeans.Fit(sample, colors).Centers;
        Tensor counts = KMeans.Assign(rgb.contiguous(), centers.contiguous()).bincount(null, centers.shape[0]);
        Tensor used = counts.nonzero().squeeze(1);
        Tensor shares = counts.index_select(0, used).to(ScalarType.Float64);
        return (centers.index_select(0, used).to(ScalarType.Float64), shares / shares.sum());
    }

    /// <summary>
    /// Recolours pixels [n, 4] with a solved problem: each different colour is a new column, whose partners among the reference colours [m, 3] follow from the
    /// potentials [m]. Alpha stays.
    /// </summary>
    public static Tensor Recolor(Tensor pixels, Tensor reference, Tensor potentials, OtOptions options, double scale, double mass)
    {
        using var whole = torch.NewDisposeScope();
        Tensor weights = torch.tensor(new[] { 1L << 16, 1L << 8, 1L });
        Tensor packed = (pixels.narrow(1, 0, 3).to(ScalarType.Int64) * weights).sum(-1);
        (Tensor colors, Tensor? which, _) = torch.unique(packed, return_inverse: true);
        Tensor mapped = torch.empty(colors.shape[0], 3, ScalarType.Byte);
        for (long start = 0; start < colors.shape[0]; start += Chunk)
        {
            using var scope = torch.NewDisposeScope();
            Tensor part = colors.narrow(0, start, Math.Min(Chunk, colors.shape[0] - start)).unsqueeze(-1);
            Tensor rgb = part.div(weights, RoundingMode.floor).remainder(256).to(ScalarType.Float64) / 255;
            Tensor shares = Ot.Extend(potentials, torch.cdist(reference, rgb).square() / scale, options, mass);
            mapped.narrow(0, start, part.shape[0]).copy_((shares.t().mm(reference) * 255).round().clamp(0, 255).to(ScalarType.Byte));
        }
        Tensor result = torch.cat([mapped.index_select(0, which!), pixels.narrow(1, 3, 1)], 1).MoveToOuterDisposeScope();
        return result;
    }
}
