namespace Priori.Interpretability;

/// <summary>How pixels become inputs of a network: (pixel - mean) / deviation for each channel.</summary>
/// <param name="Mean">Mean of each channel in pixel units; empty for 0.</param>
/// <param name="Deviation">Deviation of each channel in pixel units, not 0; empty for 1.</param>
public sealed record ImageNormalization(IReadOnlyList<double> Mean, IReadOnlyList<double> Deviation)
{
    /// <summary>Pixels are the inputs.</summary>
    public static ImageNormalization None { get; } = new([], []);

    /// <summary>Applies the normalisation.</summary>
    /// <param name="pixels">[b, channels, height, width].</param>
    /// <returns>The same shape, differentiable.</returns>
    /// <exception cref="ArgumentException">There are not as many numbers as channels, or a deviation is 0.</exception>
    public Tensor Apply(Tensor pixels)
    {
        ArgumentNullException.ThrowIfNull(pixels);
        if (Mean.Count == 0 && Deviation.Count == 0) return pixels;
        Tensor Channels(IReadOnlyList<double> values, double otherwise)
        {
            if (values.Count == 0) return tensor(otherwise, pixels.dtype, pixels.device);
            if (values.Count != pixels.shape[1]) throw new ArgumentException($"The normalisation has {values.Count} numbers for {pixels.shape[1]} channels.");
            return tensor(values.ToArray(), pixels.dtype, pixels.device).view(1, -1, 1, 1);
        }
        if (Deviation.Any(d => d == 0 || !double.IsFinite(d))) throw new ArgumentException("The deviation of a channel must not be 0.");
        return (pixels - Channels(Mean, 0)) / Channels(Deviation, 1);
    }
}
