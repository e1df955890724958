namespace Priori.Data;

/// <summary>A corruption of <see cref="ImageCorruptions"/>. The strength in brackets is the default.</summary>
public enum ImageCorruption
{
    /// <summary>The image itself.</summary>
    Identity,
    /// <summary>Adds normal noise; strength: its standard deviation (0.3).</summary>
    GaussianNoise,
    /// <summary>Makes single pixels black or white; strength: their share (0.1).</summary>
    ImpulseNoise,
    /// <summary>Mean over 3 x 3 pixels, repeated; strength: how often (2).</summary>
    Blur,
    /// <summary>Turns about the centre; strength: degrees, anticlockwise (20).</summary>
    Rotate,
    /// <summary>Shifts rows in proportion to their height; strength: pixels a row (0.4).</summary>
    Shear,
    /// <summary>Shifts to the lower right; strength: pixels in both directions at 28 pixels a side, in proportion at others (4).</summary>
    Translate,
    /// <summary>Scales about the centre; strength: factor (0.7).</summary>
    Scale,
    /// <summary>Inverts the middle third of the columns, at least one; strength: share of the inversion (1).</summary>
    Stripe,
    /// <summary>Inverts all pixels; strength: share of the inversion (1).</summary>
    Invert,
    /// <summary>Adds a constant; strength: the constant (0.3).</summary>
    Brightness,
    /// <summary>Draws a dotted straight line at a random place of each image; strength: its brightness (1).</summary>
    DottedLine,
}

/// <summary>
/// Corruptions of images in the manner of MNIST-C (Mu and Gilmer, 2019). The result is a function of images, corruption, strength and seed; it is clipped to [0, 1].
/// </summary>
public static class ImageCorruptions
{
    /// <summary>All corruptions, the identity first.</summary>
    public static IReadOnlyList<ImageCorruption> All { get; } = Enum.GetValues<ImageCorruption>();

    /// <summary>Strength of a corruption where none is given; its unit is that of <see cref="ImageCorruption"/>.</summary>
    /// <param name="corruption">The corruption.</param>
    public static double DefaultStrength(ImageCorruption corruption) => corruption switch
    {
        ImageCorruption.GaussianNoise or ImageCorruption.Brightness => 0.3,
        ImageCorruption.ImpulseNoise => 0.1,
        ImageCorruption.Blur => 2,
        ImageCorruption.Rotate => 20,
        ImageCorruption.Shear => 0.4,
        ImageCorruption.Translate => 4,
        ImageCorruption.Scale => 0.7,
        _ => 1,
    };

    /// <summary>Corrupts every image.</summary>
    /// <param name="images">Floating point [n, channels, height, width] in [0, 1].</param>
    /// <param name="corruption">The corruption.</param>
    /// <param name="seed">Seed of random corruptions; what an image gets depends on its place in the batch.</param>
    /// <param name="strength">Strength in the unit of the corruption; null: the default. 0 changes nothing, except for <see cref="ImageCorruption.Scale"/>, which must be above 0.</param>
    /// <returns>[n, channels, height, width] in [0, 1], of the type and on the device of the images.</returns>
    /// <exception cref="ArgumentException">The images have another shape or type, or the strength is outside its range.</exception>
    public static Tensor Apply(Tensor images, ImageCorruption corruption, int seed = 0, double? strength = null)
    {
        ArgumentNullException.ThrowIfNull(images);
        if (images.dim() != 4 || !images.is_floating_point()) throw new ArgumentException($"Images must be floating point [n, channels, height, width], not {images.dtype} [{string.Join(", ", images.shape)}].", nameof(images));
        double amount = strength ?? DefaultStrength(corruption);
        bool share = corruption is ImageCorruption.ImpulseNoise or ImageCorruption.Stripe or ImageCorruption.Invert or ImageCorruption.DottedLine;
        if (!double.IsFinite(amount) || (share && amount is < 0 or > 1) || (corruption is ImageCorruption.GaussianNoise or ImageCorruption.Blur && amount < 0) || (corruption == ImageCorruption.Scale && amount <= 0))
            throw new ArgumentOutOfRangeException(nameof(strength), amount, $"{corruption} has no such strength.");
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        using var generator = new Generator((ulong)(uint)seed);
        (long n, long height, long width) = (images.shape[0], images.shape[2], images.shape[3]);
        Tensor Random(params long[] shape) => rand(shape, generator: generator).to(images.dtype).to(images.device);
        Tensor Move(double a, double b, double c, double d, double right = 0, double down = 0) => Affine(images, a, b, c, d, right, down);
        double angle = amount * Math.PI / 180;
        Tensor result = corruption switch
        {
            ImageCorruption.GaussianNoise => images + (randn(images.shape, generator: generator).to(images.dtype).to(images.device) * amount),
            ImageCorruption.ImpulseNoise => where(Random(n, 1, height, width) < amount, Random(n, 1, height, width).round(), images),
            ImageCorruption.Blur => Enumerable.Range(0, (int)amount).Aggregate(images, (x, _) => functional.avg_pool2d(functional.pad(x, [1, 1, 1, 1], PaddingModes.Replicate), 3, 1)),
            ImageCorruption.Rotate => Move(Math.Cos(angle), -Math.Sin(angle), Math.Sin(angle), Math.Cos(angle)),
            ImageCorruption.Shear => Move(1, amount, 0, 1),
            ImageCorruption.Translate => Move(1, 0, 0, 1, amount * width / 28, amount * height / 28),
            ImageCorruption.Scale => Move(1 / amount, 0, 0, 1 / amount),
            ImageCorruption.Stripe => Inverted(images, arange(width, device: images.device).ge(width / 3).logical_and(arange(width, device: images.device).lt(width - (width / 3))).to(images.dtype) * amount),
            ImageCorruption.Invert => Inverted(images, tensor(amount, images.dtype, images.device)),
            ImageCorruption.Brightness => images + amount,
            ImageCorruption.DottedLine => images.maximum(Line(Random(n, 4), height, width) * amount),
            _ => images,
        };
        return result.clamp(0, 1).MoveToOuterDisposeScope();
    }

    private static Tensor Inverted(Tensor images, Tensor share) => images + ((1 - (2 * images)) * share);

    // The pixel at p from the centre takes the colour of the source at M p - shift, interpolated; outside is black. Pixels are square also where the image is not.
    private static Tensor Affine(Tensor images, double a, double b, double c, double d, double right, double down)
    {
        (long n, double height, double width) = (images.shape[0], images.shape[2], images.shape[3]);
        Tensor map = tensor(new[] { a, b * height / width, -2 * right / width, c * width / height, d, -2 * down / height }, images.dtype, images.device).view(1, 2, 3).expand(n, 2, 3);
        Tensor grid = functional.affine_grid(map, [n, images.shape[1], images.shape[2], images.shape[3]], align_corners: false);
        return functional.grid_sample(images, grid, GridSampleMode.Bilinear, GridSamplePaddingMode.Zeros, align_corners: false);
    }

    // Dots of one pixel, every third column, on the line from the left edge at one random height to the right edge at another, sometimes transposed.
    private static Tensor Line(Tensor random, long height, long width)
    {
        Tensor along = arange(width, random.dtype, random.device).view(1, 1, width), down = arange(height, random.dtype, random.device).view(1, height, 1);
        Tensor from = (random.select(1, 0) * (height - 1)).view(-1, 1, 1), to = (random.select(1, 1) * (height - 1)).view(-1, 1, 1);
        Tensor phase = (random.select(1, 2) * 3).floor().view(-1, 1, 1);
        Tensor row = (from + ((to - from) * along / Math.Max(1, width - 1))).round();
        Tensor line = down.eq(row).logical_and((along + phase).remainder(3).eq(0)).to(random.dtype);
        if (height != width) return line.unsqueeze(1);
        return where(random.select(1, 3).lt(0.5).view(-1, 1, 1), line, line.transpose(1, 2)).unsqueeze(1);
    }
}
