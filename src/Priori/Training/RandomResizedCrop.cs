namespace Priori.Training;

/// <summary>Random resized crops (Szegedy et al., CVPR 2015, as in torchvision's RandomResizedCrop): a random part of each image at its original size, and a horizontal flip of every second one at random.</summary>
public static class RandomResizedCrop
{
    /// <summary>Augments a batch; every image gets its own crop and flip, drawn from libtorch's generator. Bilinear sampling.</summary>
    /// <param name="images">Images [batch, channels, height, width], of a floating-point type.</param>
    /// <param name="smallest">Least share of the area that a crop keeps, in (0, 1]. Default 0.5; torchvision 0.08.</param>
    /// <param name="flip">Whether images are flipped; leave it off for digits and letters.</param>
    /// <param name="ratio">Largest aspect ratio of a crop, at least 1; the smallest is its inverse. torchvision: 4/3.</param>
    /// <returns>Images of the same shape.</returns>
    /// <exception cref="ArgumentException">The images are not [batch, channels, height, width].</exception>
    /// <exception cref="ArgumentOutOfRangeException">The share is outside (0, 1] or the ratio below 1.</exception>
    public static Tensor Apply(Tensor images, double smallest = 0.5, bool flip = true, double ratio = 4.0 / 3)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(smallest);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(smallest, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ratio, 1);
        if (images.dim() != 4) throw new ArgumentException($"Images must be [batch, channels, height, width]; got [{string.Join(", ", images.shape)}].", nameof(images));
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        (long count, Device device) = (images.shape[0], images.device);
        Tensor Uniform(double low, double high) => rand(count, ScalarType.Float32, device) * (high - low) + low;
        Tensor area = Uniform(smallest, 1), aspect = Uniform(-Math.Log(ratio), Math.Log(ratio)).exp();
        Tensor height = (area / aspect).sqrt().clamp_max(1), width = (area * aspect).sqrt().clamp_max(1); // Shares of the sides.
        Tensor top = Uniform(-1, 1) * (1 - height), left = Uniform(-1, 1) * (1 - width), zero = zeros(count, device: device);
        if (flip) width = width * (1 - 2 * randint(2, count, ScalarType.Float32, device));
        Tensor map = stack([width, zero, left, zero, height, top], 1).view(count, 2, 3).to(images.dtype);
        Tensor grid = functional.affine_grid(map, images.shape, align_corners: false);
        return functional.grid_sample(images, grid, GridSampleMode.Bilinear, GridSamplePaddingMode.Border, align_corners: false).MoveToOuterDisposeScope();
    }
}
