using Priori.Runtime;
using Priori.Training;

namespace Priori.Recommendation;

/// <summary>
/// One step of CLHE's training: reconstruction of whole bundles, plus the contrast of two views of every item in the batch, plus the contrast of every bundle with a modified one:
/// L + item alpha L_item + bundle alpha L_bundle. Each item is encoded once a step; only the items of the batch pass the bundle side's encoder, all items pass the decoder.
/// </summary>
public sealed class ClheLearner : Learner
{
    private const long ViewStream = 1, OrderStream = 2;
    private readonly Clhe model;
    private readonly int[][] training;
    private readonly int longest;

    /// <summary>Prepares training with Adam.</summary>
    /// <param name="model">The model; the learner owns it.</param>
    /// <param name="training">Training bundles; an item counts once. Rows of the learner are their numbers: <see cref="Rows"/>.</param>
    /// <exception cref="ArgumentException">There is no bundle, one is empty, or an item is outside the catalogue.</exception>
    public ClheLearner(Clhe model, IReadOnlyList<IReadOnlyCollection<int>> training)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(training);
        if (training.Count == 0) throw new ArgumentException("There is no training bundle.", nameof(training));
        this.model = model;
        this.training = [.. training.Select((bundle, b) => BundleCompleter.Checked(bundle, model.ItemCount, $"Training bundle {b}"))];
        longest = this.training.Max(b => b.Length);
        Rows = new TensorSource(arange(training.Count, ScalarType.Int64));
        Modules = new Dictionary<string, Module> { ["clhe"] = model };
        ClheOptions options = model.Options;
        Optimizers = new Dictionary<string, Optimization>
        {
            ["loss"] = new(optim.Adam(model.parameters().Where(p => p.requires_grad), options.LearningRate, weight_decay: options.WeightDecay)),
        };
    }

    /// <summary>The rows to train on: numbers of the training bundles.</summary>
    public IBatchSource Rows { get; }

    /// <summary>Training bundles with one item: they have no smaller bundle, so they are reconstructed but not contrasted.</summary>
    public int Singletons => training.Count(b => b.Length == 1);

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    internal string SingletonWarning => $"{Singletons} of {training.Length} training bundles have one item: they are reconstructed, but left out of the bundle-level contrast.";

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        ClheOptions options = model.Options;
        long[] rows = batch.Rows.cpu().data<long>().ToArray();
        int[][] full = [.. rows.Select(row => Read(training[row], SplitMix64.For(step.Seed, OrderStream, step.Index, row)))];
        int[] contrasted = options.BundleAlpha > 0 ? [.. Enumerable.Range(0, full.Length).Where(b => full[b].Length > 1)] : [];
        int[][] views = [.. contrasted.Select(b => View(full[b], SplitMix64.For(step.Seed, ViewStream, step.Index, rows[b])))];

        // Items of the bundles come first, those that only views have after them.
        var number = new Dictionary<int, int>();
        int[][] local = Local(full);
        int own = number.Count;
        int[][] localViews = Local(views);
        Tensor tokens = model.Encoder.Tokens(tensor(number.Keys.Select(item => (long)item).ToArray()).to(model.Device));
        Tensor vectors = model.Encoder.Fusion.forward(tokens);

        PaddedSets members = PaddedSets.Of(local, model.Device);
        Tensor bundles = Encode(members);
        Tensor scores = bundles.matmul(model.Decoder.All().t());
        PaddedSets targets = PaddedSets.Of([.. rows.Select(row => training[row])], model.Device);
        Tensor loss = Clhe.ReconstructionLoss(scores, targets.Items, targets.Mask);
        step.Log("reconstruction", loss);
        if (options.ItemAlpha > 0)
        {
            var (a, b) = ItemViews(tokens.narrow(0, 0, own), vectors.narrow(0, 0, own));
            Tensor contrast = InfoNce.Loss(a, b, options.ItemTemperature);
            step.Log("item_contrast", contrast);
            loss += options.ItemAlpha * contrast;
        }
        if (contrasted.Length > 0)
        {
            Tensor first = contrasted.Length == full.Length ? bundles : bundles.index_select(0, tensor(contrasted.Select(b => (long)b).ToArray()).to(model.Device));
            Tensor contrast = InfoNce.Loss(first, Encode(PaddedSets.Of(localViews, model.Device)), options.BundleTemperature);
            step.Log("bundle_contrast", contrast);
            loss += options.BundleAlpha * contrast;
        }
        step.Minimize("loss", loss);

        int[][] Local(int[][] sets) => [.. sets.Select(set => set.Select(item =>
        {
            if (!number.TryGetValue(item, out int at)) number[item] = at = number.Count;
            return at;
        }).ToArray())];

        Tensor Encode(PaddedSets sets) => model.Bundles.forward(vectors.index_select(0, sets.Items.reshape(-1)).view(sets.Items.size(0), sets.Items.size(1), -1), sets.Mask);
    }

    /// <summary>The two views of items (section 3.4).</summary>
    /// <param name="tokens">Their tokens [n, tokens, d].</param>
    /// <param name="vectors">Their vectors [n, d].</param>
    internal (Tensor A, Tensor B) ItemViews(Tensor tokens, Tensor vectors)
    {
        ClheOptions options = model.Options;
        return options.ItemAugmentation switch
        {
            ItemAugmentation.ModalityDropout => (Dropped(), Dropped()),
            ItemAugmentation.FeatureDropout => (Projected(functional.dropout(vectors, options.DropoutRate, training: true)), Projected(functional.dropout(vectors, options.DropoutRate, training: true))),
            ItemAugmentation.FeatureNoise => (Projected(vectors + options.NoiseWeight * randn_like(vectors)), Projected(vectors + options.NoiseWeight * randn_like(vectors))),
            _ => (vectors, vectors),
        };

        Tensor Dropped()
        {
            Tensor dropped = rand(tokens.size(0), tokens.size(1), 1, device: tokens.device).lt(options.DropoutRate);
            return model.Encoder.Fusion.forward(tokens.masked_fill(dropped, 0));
        }

        Tensor Projected(Tensor x) => model.Projector.forward(x);
    }

    private int[] Read(int[] bundle, SplitMix64 random)
    {
        if (bundle.Length <= model.Options.MaxItems) return bundle;
        int[] shuffled = [.. bundle];
        random.Shuffle(shuffled.AsSpan());
        return shuffled[..model.Options.MaxItems];
    }

    private int[] View(int[] bundle, SplitMix64 random)
    {
        ClheOptions options = model.Options;
        int[] view = SubBundles.Draw(bundle, options.BundleRatio, options.BundleAugmentation, (int)model.ItemCount, longest, random);
        return options.ReferenceCompatibility ? [.. view.Take(bundle.Length), .. Enumerable.Repeat(0, Math.Max(0, bundle.Length - view.Length))] : view;
    }
}
