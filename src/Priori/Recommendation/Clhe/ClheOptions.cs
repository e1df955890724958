namespace Priori.Recommendation;

/// <summary>Which two views of an item the item-level contrast compares.</summary>
public enum ItemAugmentation
{
    /// <summary>MD: each modality token is dropped independently before fusion; no projector.</summary>
    ModalityDropout,

    /// <summary>FD: dropout on the item's vector, then a shared projector.</summary>
    FeatureDropout,

    /// <summary>FN: Gaussian noise on the item's vector, then a shared projector.</summary>
    FeatureNoise,

    /// <summary>NA: both views are the item's vector; only the other items' distances matter.</summary>
    None,
}

/// <summary>How the second view of a bundle differs from the bundle.</summary>
public enum BundleAugmentation
{
    /// <summary>ID: some items are left out.</summary>
    ItemDropout,

    /// <summary>IR: the items left out are replaced by random ones.</summary>
    ItemReplacement,
}

/// <summary>Settings of <see cref="Clhe"/> and its training. The defaults are the paper's for POG_dense; <see cref="Pog"/>, <see cref="Spotify"/> and <see cref="SpotifySparse"/> are its others.</summary>
public sealed record ClheOptions
{
    /// <summary>The paper's setting for POG_dense: the defaults.</summary>
    public static ClheOptions PogDense { get; } = new();

    /// <summary>The paper's setting for POG.</summary>
    public static ClheOptions Pog { get; } = new() { ItemAugmentation = ItemAugmentation.FeatureNoise, BundleTemperature = 0.01, BundleAlpha = 0.5, ItemTemperature = 0.5, ItemAlpha = 2 };

    /// <summary>The paper's setting for Spotify (100 epochs).</summary>
    public static ClheOptions Spotify { get; } = new() { BundleRatio = 0.05, BundleTemperature = 0.2, BundleAlpha = 0.5, ItemTemperature = 0.05, ItemAlpha = 0.1 };

    /// <summary>The paper's setting for Spotify_sparse (100 epochs).</summary>
    public static ClheOptions SpotifySparse { get; } = new() { BundleRatio = 0.05, BundleTemperature = 1, BundleAlpha = 1, ItemTemperature = 0.2, ItemAlpha = 0.1 };

    /// <summary>Width d of every vector.</summary>
    public int EmbeddingDim { get; init; } = 64;

    /// <summary>Views of an item.</summary>
    public ItemAugmentation ItemAugmentation { get; init; } = ItemAugmentation.ModalityDropout;

    /// <summary>Temperature of the item-level contrast.</summary>
    public double ItemTemperature { get; init; } = 0.5;

    /// <summary>Weight of the item-level contrast; 0 leaves it out.</summary>
    public double ItemAlpha { get; init; } = 0.1;

    /// <summary>Probability that a token (MD) or an entry (FD) is dropped, in [0, 1).</summary>
    public double DropoutRate { get; init; } = 0.2;

    /// <summary>Deviation of the noise of FN.</summary>
    public double NoiseWeight { get; init; } = 0.02;

    /// <summary>The second view of a bundle.</summary>
    public BundleAugmentation BundleAugmentation { get; init; } = BundleAugmentation.ItemDropout;

    /// <summary>Part of a bundle's items that its second view keeps; 1 is the bundle itself, above 1 random items are added: (ratio - 1) times the items of the longest training bundle.</summary>
    public double BundleRatio { get; init; } = 0.5;

    /// <summary>Temperature of the bundle-level contrast.</summary>
    public double BundleTemperature { get; init; } = 0.05;

    /// <summary>Weight of the bundle-level contrast; 0 leaves it out.</summary>
    public double BundleAlpha { get; init; } = 2;

    /// <summary>Whether the fusion of tokens layer-normalises them (the option "layernorm" of the authors' attention).</summary>
    public bool TokenLayerNorm { get; init; }

    /// <summary>Whether the fusion of tokens has a value projection (the option "w_v" of the authors' attention).</summary>
    public bool TokenValueProjection { get; init; }

    /// <summary>Attention layers of the bundle encoder.</summary>
    public int BundleLayers { get; init; } = 1;

    /// <summary>Most items of a bundle that the encoder reads; of longer training bundles a random part in each step, of longer queries the first ones.</summary>
    public int MaxItems { get; init; } = 200;

    /// <summary>Adam's learning rate.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Adam's weight decay (added to the gradient).</summary>
    public double WeightDecay { get; init; } = 1e-5;

    /// <summary>
    /// Reproduces two quirks of the authors' code: the second view of a bundle is averaged over as many positions as the bundle has items, missing ones filled with item 0; and the queries and keys
    /// of the bundle encoder are not trained. Default false.
    /// </summary>
    public bool ReferenceCompatibility { get; init; }

    /// <summary>Checks ranges.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A setting is outside its range; the message names it.</exception>
    public void Validate()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(EmbeddingDim, 1);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(ItemTemperature);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(BundleTemperature);
        ArgumentOutOfRangeException.ThrowIfNegative(ItemAlpha);
        ArgumentOutOfRangeException.ThrowIfNegative(BundleAlpha);
        if (DropoutRate is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(DropoutRate), DropoutRate, "A dropout probability lies in [0, 1).");
        ArgumentOutOfRangeException.ThrowIfNegative(NoiseWeight);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(BundleRatio);
        ArgumentOutOfRangeException.ThrowIfNegative(BundleLayers);
        ArgumentOutOfRangeException.ThrowIfLessThan(MaxItems, 1);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(LearningRate);
        ArgumentOutOfRangeException.ThrowIfNegative(WeightDecay);
    }
}
