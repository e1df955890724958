using Priori.Nn;

namespace Priori.Interpretability;

/// <summary>Options of <see cref="MultifacetedVisualizer"/>.</summary>
public sealed record MultifacetedOptions
{
    /// <summary>Discovery of the facets.</summary>
    public FacetOptions Facets { get; init; } = new();

    /// <summary>Octaves; <see cref="OctaveSchedule.MeanInit"/> of the images' smaller side when null.</summary>
    public OctaveSchedule? Schedule { get; init; }

    /// <summary>Only so many images, those with the highest activation, are used (hidden units); null for all (class units, given the images of their class).</summary>
    public int? MostActivating { get; init; }

    /// <summary>How pixels become inputs.</summary>
    public ImageNormalization Normalization { get; init; } = ImageNormalization.None;

    /// <summary>The valid range of a pixel. Default 0..1.</summary>
    public (double Low, double High) PixelRange { get; init; } = (0, 1);

    /// <summary>Images a batch when activations are computed. Default 256.</summary>
    public int BatchSize { get; init; } = 256;

    /// <summary>Seed of the jitter.</summary>
    public int Seed { get; init; }
}

/// <summary>The facets of a unit, made visible.</summary>
/// <param name="Facets">The facets of the images in <paramref name="Rows"/>.</param>
/// <param name="Maximized">A synthesized image for each facet, from its mean image.</param>
/// <param name="Rows">int64 [n]: rows of the given images that were used.</param>
/// <param name="Activations">[n]: the unit's value for each of them.</param>
public sealed record MultifacetedResult(Facets Facets, AmResult Maximized, Tensor Rows, Tensor Activations);

/// <summary>
/// Multifaceted feature visualization (Nguyen, Yosinski and Clune, 2016): shows the different kinds of images that one unit responds to, each as a synthesized image
/// that starts from the mean of real ones.
/// </summary>
public static class MultifacetedVisualizer
{
    /// <summary>Finds the facets of a unit and maximises its activation from each.</summary>
    /// <param name="model">Network of [b, channels, height, width].</param>
    /// <param name="unit">The unit: a class with the images of that class, or a hidden unit with any images and <see cref="MultifacetedOptions.MostActivating"/>.</param>
    /// <param name="images">Floating-point pixels [n, channels, height, width] at the size of the network's input.</param>
    /// <param name="codeLayer">Name of the late layer whose activations are the codes; other than vectors are flattened.</param>
    /// <param name="options">Options; defaults when null.</param>
    /// <param name="cancellation">Ends the run with an exception.</param>
    /// <exception cref="ArgumentException">The layer or the unit does not exist, or there are too few images; see <see cref="FacetDiscovery.Fit"/> and <see cref="ActivationMaximizer.Run"/>.</exception>
    public static MultifacetedResult Visualize(Module<Tensor, Tensor> model, UnitSelector unit, Tensor images, string codeLayer, MultifacetedOptions? options = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(unit);
        ArgumentNullException.ThrowIfNull(images);
        options ??= new MultifacetedOptions();
        if (images.dim() != 4 || images.shape[0] == 0) throw new ArgumentException($"Images must be [n, channels, height, width], not [{string.Join(", ", images.shape)}].", nameof(images));
        var maximizer = new ActivationMaximizer(model, unit, options.Normalization) { PixelRange = options.PixelRange };
        Tensor activations = maximizer.Evaluate(images, batchSize: options.BatchSize), rows = arange(images.shape[0], int64, images.device);
        if (options.MostActivating is { } top)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(top, 1, nameof(options));
            (activations, rows) = activations.topk((int)Math.Min(top, images.shape[0]), 0);
            images = images.index_select(0, rows);
        }
        Tensor codes = Codes(model, images, codeLayer, options.Normalization, options.BatchSize);
        Facets facets = FacetDiscovery.Fit(images, codes, options.Facets, cancellation);
        OctaveSchedule schedule = options.Schedule ?? OctaveSchedule.MeanInit((int)Math.Min(images.shape[2], images.shape[3]));
        return new MultifacetedResult(facets, maximizer.Run(facets.MeanImages, schedule, options.Seed, cancellation), rows, activations);
    }

    /// <summary>Activations of a layer as one vector an image.</summary>
    /// <param name="model">The network.</param>
    /// <param name="images">Pixels [n, channels, height, width].</param>
    /// <param name="layer">Name of the layer.</param>
    /// <param name="normalization">How pixels become inputs; none when null.</param>
    /// <param name="batchSize">Images a batch.</param>
    /// <returns>[n, d].</returns>
    public static Tensor Codes(Module<Tensor, Tensor> model, Tensor images, string layer, ImageNormalization? normalization = null, int batchSize = 256)
        => Inference.Outputs(model, x => LayerOutput.Of(model, (normalization ?? ImageNormalization.None).Apply(x), layer).flatten(1), images, batchSize);
}
