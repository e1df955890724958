using Priori.Metrics;
using Priori.Nn;
using Priori.Training;

namespace Priori.Recommendation;

/// <summary>Sets of items as a padded matrix.</summary>
/// <param name="Items">Items int64 [sets, longest]; 0 where padded.</param>
/// <param name="Mask">Which positions are real, bool [sets, longest].</param>
public sealed record PaddedSets(Tensor Items, Tensor Mask)
{
    /// <summary>Pads sets to the longest of them.</summary>
    /// <param name="sets">The sets; may be of different sizes.</param>
    /// <param name="device">The device; CPU by default.</param>
    public static PaddedSets Of(IReadOnlyList<IReadOnlyCollection<int>> sets, Device? device = null)
    {
        ArgumentNullException.ThrowIfNull(sets);
        int width = Math.Max(1, sets.Count == 0 ? 0 : sets.Max(s => s.Count));
        long[] items = new long[sets.Count * width];
        bool[] mask = new bool[items.Length];
        for (int s = 0; s < sets.Count; s++)
        {
            int at = s * width;
            foreach (int item in sets[s]) (items[at], mask[at++]) = (item, true);
        }
        return new PaddedSets(tensor(items).view(sets.Count, width).to(device ?? CPU), tensor(mask).view(sets.Count, width).to(device ?? CPU));
    }
}

/// <summary>
/// CLHE (Ma, Liu, Wei, Tao, Wang, Chua, WSDM 2024): completes bundles (outfits, playlists, baskets) from item features, user feedback and existing bundles.
/// An <see cref="ItemEncoder"/> makes vectors of a bundle's items and a <see cref="SetEncoder"/> makes the bundle's vector u_b of them; a second item encoder with parameters of its own makes the
/// vectors that are retrieved: s_b = u_b F^T over all items.
/// </summary>
public sealed class Clhe : Module<Tensor, Tensor, Tensor>
{
    private const double Epsilon = 1e-9; // of the bundle encoder's layer normalisation, as the authors'
    private readonly ItemEncoder encoder, decoder;
    private readonly SetEncoder bundles;
    private readonly TorchSharp.Modules.Linear projector;

    /// <summary>Creates the model on the features' device.</summary>
    /// <param name="features">The items; they stay the caller's and must live as long as the model.</param>
    /// <param name="options">Widths and variants; the paper's defaults when null.</param>
    public Clhe(ItemModalities features, ClheOptions? options = null)
        : base(nameof(Clhe))
    {
        ArgumentNullException.ThrowIfNull(features);
        Options = options ?? new ClheOptions();
        Options.Validate();
        ItemCount = features.ItemCount;
        Device = features.Device;
        encoder = new ItemEncoder(features, Options);
        decoder = new ItemEncoder(features, Options);
        bundles = BundleEncoder(Options.EmbeddingDim, Options.BundleLayers);
        projector = ItemEncoder.Initialized(Linear(Options.EmbeddingDim, Options.EmbeddingDim));
        RegisterComponents();
        if (Options.ReferenceCompatibility)
            foreach (TorchSharp.Modules.Parameter parameter in bundles.parameters()) parameter.requires_grad = false;
        this.to(Device);
    }

    /// <summary>The settings.</summary>
    public ClheOptions Options { get; }

    /// <summary>Number of items N.</summary>
    public long ItemCount { get; }

    /// <summary>The device.</summary>
    public Device Device { get; }

    /// <summary>Makes vectors of a bundle's members.</summary>
    public ItemEncoder Encoder => encoder;

    /// <summary>Makes the vectors that are retrieved.</summary>
    public ItemEncoder Decoder => decoder;

    /// <summary>Makes a bundle's vector of its members': one attention layer over layer-normalised vectors, without affine, residual or feed-forward network, then the mean.</summary>
    public SetEncoder Bundles => bundles;

    /// <summary>The projector of the item-level views FD and FN.</summary>
    public Module<Tensor, Tensor> Projector => projector;

    /// <summary>Trains a model and returns what completes bundles.</summary>
    /// <param name="features">The items.</param>
    /// <param name="training">Training bundles: different items, at least one each.</param>
    /// <param name="options">Settings; the paper's defaults when null.</param>
    /// <param name="trainer">The loop: by default 50 epochs in batches of 256. With validation bundles the best epoch is kept.</param>
    /// <param name="validation">Partial bundles and the items that complete them; null for none.</param>
    /// <param name="warn">Told about training bundles with one item, which are left out of the bundle-level contrast.</param>
    /// <param name="cancellation">Stops training.</param>
    /// <exception cref="ArgumentException">There is no training bundle, one is empty, or an item is outside the catalogue.</exception>
    public static BundleCompleter Fit(ItemModalities features, IReadOnlyList<int[]> training, ClheOptions? options = null, TrainerOptions? trainer = null,
        (IReadOnlyList<int[]> Queries, IReadOnlyList<int[]> Truth)? validation = null, Action<string>? warn = null, CancellationToken cancellation = default)
    {
        var model = new Clhe(features, options);
        using var learner = new ClheLearner(model, training);
        if (learner.Singletons > 0) warn?.Invoke(learner.SingletonWarning);
        trainer ??= new TrainerOptions { Epochs = 50, BatchSize = 256 };
        Func<int, IReadOnlyDictionary<string, double>>? evaluate = null;
        if (validation is { } held)
        {
            trainer = trainer with { EarlyStopping = trainer.EarlyStopping ?? new EarlyStopping("validation", trainer.Epochs) };
            evaluate = _ => Validate(model, held.Queries, held.Truth);
        }
        new Trainer(trainer).Fit(learner, learner.Rows, evaluate, cancellation);
        return new BundleCompleter(model);
    }

    /// <summary>Recall and NDCG at 20 on held-out bundles, and their sum "validation", by which an epoch is chosen.</summary>
    /// <param name="model">The model.</param>
    /// <param name="queries">Partial bundles.</param>
    /// <param name="truth">The items that complete each.</param>
    public static IReadOnlyDictionary<string, double> Validate(Clhe model, IReadOnlyList<int[]> queries, IReadOnlyList<int[]> truth)
    {
        using var completer = new BundleCompleter(model);
        TopKMetrics at = completer.Evaluate(queries, truth, 20).At(20);
        return new Dictionary<string, double> { ["valid_recall20"] = at.Recall, ["valid_ndcg20"] = at.Ndcg, ["validation"] = at.Recall + at.Ndcg };
    }

    /// <summary>Scores of all items, [bundles, N].</summary>
    /// <param name="items">Items of each partial bundle, int64 [bundles, n], any item where padded.</param>
    /// <param name="mask">Which positions are real, bool [bundles, n].</param>
    public override Tensor forward(Tensor items, Tensor mask) => BundleVectors(items, mask).matmul(decoder.All().t());

    /// <summary>Vectors u_b [bundles, d].</summary>
    /// <param name="items">Items of each partial bundle, int64 [bundles, n], any item where padded.</param>
    /// <param name="mask">Which positions are real, bool [bundles, n].</param>
    public Tensor BundleVectors(Tensor items, Tensor mask)
    {
        ArgumentNullException.ThrowIfNull(items);
        return bundles.forward(encoder.forward(items.reshape(-1)).view(items.size(0), items.size(1), -1), mask);
    }

    /// <summary>The multinomial likelihood of the bundles' own items: -mean_b 1/|b| sum_(i in b) log softmax(s_b)_i.</summary>
    /// <param name="scores">Scores [bundles, N].</param>
    /// <param name="items">Items of each bundle, int64 [bundles, n], any item where padded.</param>
    /// <param name="mask">Which positions are real, bool [bundles, n]; every bundle has at least one.</param>
    public static Tensor ReconstructionLoss(Tensor scores, Tensor items, Tensor mask)
    {
        ArgumentNullException.ThrowIfNull(scores);
        Tensor own = scores.gather(1, items) - scores.logsumexp(1, keepdim: true);
        return -Masked.Mean(own.unsqueeze(-1), mask).mean();
    }

    internal static SetEncoder BundleEncoder(long dim, int layers) => new(dim, layers, new SetAttentionOptions { LayerNorm = true, Epsilon = Epsilon });
}
