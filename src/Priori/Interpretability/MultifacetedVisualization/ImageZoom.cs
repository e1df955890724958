using F = TorchSharp.torch.nn.functional;

namespace Priori.Interpretability;

/// <summary>Resampling of canvases between octaves, and back to the network's size.</summary>
public static class ImageZoom
{
    /// <summary>Enlarges images.</summary>
    /// <param name="images">[b, channels, height, width].</param>
    /// <param name="scale">Factor on both sides, at least 1; sizes are rounded.</param>
    /// <param name="cubic">Bicubic rather than bilinear. Default true.</param>
    /// <exception cref="ArgumentException">The scale is below 1, or the images have another shape.</exception>
    public static Tensor Enlarge(Tensor images, double scale, bool cubic = true)
    {
        ArgumentNullException.ThrowIfNull(images);
        if (!(scale >= 1) || !double.IsFinite(scale)) throw new ArgumentOutOfRangeException(nameof(scale), scale, "The scale must be at least 1.");
        if (images.dim() != 4) throw new ArgumentException($"Images must be [b, channels, height, width], not [{string.Join(", ", images.shape)}].", nameof(images));
        return Resize(images, (long)Math.Round(images.shape[2] * scale), (long)Math.Round(images.shape[3] * scale), cubic);
    }

    /// <summary>Resamples images to a size.</summary>
    /// <param name="images">[b, channels, height, width].</param>
    /// <param name="height">Height, at least 1.</param>
    /// <param name="width">Width, at least 1.</param>
    /// <param name="cubic">Bicubic rather than bilinear. Smaller sizes are averages over areas instead. Default true.</param>
    public static Tensor Resize(Tensor images, long height, long width, bool cubic = true)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentOutOfRangeException.ThrowIfLessThan(height, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        if (images.shape[2] == height && images.shape[3] == width) return images.clone();
        if (height <= images.shape[2] && width <= images.shape[3]) return F.adaptive_avg_pool2d(images, [height, width]);
        return F.interpolate(images, size: [height, width], mode: cubic ? InterpolationMode.Bicubic : InterpolationMode.Bilinear, align_corners: false);
    }
}
