namespace Priori.Training;

/// <summary>The augmentation of small images since He et al. (CVPR 2016, sec. 4.2): padding, a random crop of the original size, and a horizontal flip of every second image at random.</summary>
public static class RandomCropFlip
{
    /// <summary>Augments a batch; every image gets its own crop and flip, drawn from libtorch's generator.</summary>
    /// <param name="images">Images [batch, channels, height, width], of a floating-point type.</param>
    /// <param name="padding">Pixels added on each side, at least 0. He et al.: 4 for 32 x 32 images.</param>
    /// <param name="border">Value of the added pixels for each channel, such as what black became by standardisation: any shape that broadcasts to the images; 0 when null.</param>
    /// <returns>Images of the same shape.</returns>
    /// <exception cref="ArgumentException">The images are not [batch, channels, height, width] or the padding is negative.</exception>
    public static Tensor Apply(Tensor images, int padding = 4, Tensor? border = null)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentOutOfRangeException.ThrowIfNegative(padding);
        if (images.dim() != 4) throw new ArgumentException($"Images must be [batch, channels, height, width]; got [{string.Join(",", images.shape)}].", nameof(images));
        using var scope = NewDisposeScope();
        (long count, long channels, long height, long width) = (images.shape[0], images.shape[1], images.shape[2], images.shape[3]);
        Device device = images.device;
        Tensor value = border is null ? zeros(1, images.dtype, device) : border.to(images.dtype, device);
        Tensor padded = functional.pad(images - value, [padding, padding, padding, padding]) + value;
        Tensor top = randint(2 * padding + 1, [count, 1], ScalarType.Int64, device), left = randint(2 * padding + 1, [count, 1], ScalarType.Int64, device);
        Tensor flip = randint(2, [count, 1], ScalarType.Int64, device);
        Tensor columns = arange(width, ScalarType.Int64, device).unsqueeze(0);
        columns = left + flip * (width - 1 - columns) + (1 - flip) * columns;
        Tensor rows = top + arange(height, ScalarType.Int64, device).unsqueeze(0);
        Tensor cropped = padded.gather(2, rows.reshape(count, 1, height, 1).expand(count, channels, height, width + 2 * padding))
            .gather(3, columns.reshape(count, 1, 1, width).expand(count, channels, height, width));
        return cropped.MoveToOuterDisposeScope();
    }
}
