namespace Priori.Data;

/// <summary>Labelled images of one size.</summary>
/// <param name="Images">uint8 [n, channels, height, width], 0 to 255.</param>
/// <param name="Labels">int64 [n]: for each image the index of its class.</param>
/// <param name="Classes">The names of the classes; their order is that of the labels.</param>
public sealed record ImageDataset(Tensor Images, Tensor Labels, IReadOnlyList<string> Classes);
