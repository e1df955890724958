using Priori.Nn;
using Priori.Training;

namespace Priori.Merging;

/// <summary>What is minimised on unlabelled data.</summary>
public enum TestTimeObjective
{
    /// <summary>Unsupervised FixMatch: pseudo-labels from the plain view for the augmented view, with trusted samples.</summary>
    Ufm,

    /// <summary>Sharpness-aware entropy minimisation of confident samples (Niu et al., ICLR 2023).</summary>
    Sar,

    /// <summary>The contrastive loss of two augmented views (Chen et al., ICML 2020).</summary>
    SimClr,
}

/// <summary>Options of <see cref="TestTimeAdapter"/>.</summary>
public sealed record TestTimeOptions : CompositionOptions
{
    /// <summary>The paper's defaults: AdamW 1e-3 with a cosine schedule, weight decay 0.1, 10 epochs, batches of 128.</summary>
    public TestTimeOptions() => Epochs = 10;

    /// <summary>What is minimised.</summary>
    public TestTimeObjective Objective { get; init; } = TestTimeObjective.Ufm;

    /// <summary>UFM: temperature T of the sharpening p^(1/T) / Z. Paper: 0.5.</summary>
    public double Sharpening { get; init; } = 0.5;

    /// <summary>UFM: least confidence of a pseudo-label. Paper: 0.99.</summary>
    public double Threshold { get; init; } = 0.99;

    /// <summary>
    /// UFM: follow the authors' released code where it differs from the paper: no sharpening (it multiplies by 0.5 before normalising), and all samples are trusted with the base model's labels
    /// (it marks the whole ranking of the last class).
    /// </summary>
    public bool Reference { get; init; }

    /// <summary>SAR: largest entropy of a sample that is used, as a share of ln(classes). Default 0.4, as in Niu et al.</summary>
    public double EntropyMargin { get; init; } = 0.4;

    /// <summary>SAR: radius of the sharpness-aware perturbation of the coefficients. Default 0.05, as in Niu et al. for weights.</summary>
    public double Rho { get; init; } = 0.05;

    /// <summary>SimCLR: temperature. Default 0.1.</summary>
    public double Temperature { get; init; } = 0.1;
}

/// <summary>Test-time adaptation: coefficients for a new task from unlabelled data alone. No epoch is selected, since that would need labels.</summary>
public static class TestTimeAdapter
{
    /// <summary>Trains the coefficients.</summary>
    /// <param name="composition">The composition, with coefficients of 0; it holds the result.</param>
    /// <param name="inputs">Unlabelled inputs, [n, ...].</param>
    /// <param name="augment">The strong augmentation, for example <see cref="RandomResizedCrop.Apply"/>. SAR does not use it.</param>
    /// <param name="options">How coefficients are trained; null for the paper's defaults.</param>
    /// <param name="head">The task's frozen head on the model's outputs; null when the outputs are the logits. SimCLR contrasts the outputs themselves.</param>
    public static CompositionResult Fit(AnisotropicComposition composition, Tensor inputs, Func<Tensor, Tensor> augment, TestTimeOptions? options = null, Func<Tensor, Tensor>? head = null)
    {
        ArgumentNullException.ThrowIfNull(composition);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(augment);
        options ??= new TestTimeOptions();
        head ??= x => x;
        var schedule = new CosineSchedule();
        switch (options.Objective)
        {
            case TestTimeObjective.Sar:
                return CompositionLearner.Fit(composition, new TensorSource(inputs), new TrainerOptions { BatchSize = options.BatchSize }, options, (batch, _) =>
                {
                    Tensor? kept = null;
                    return SharpnessAware.Loss([composition.Coefficients], () => composition.Loss(f =>
                    {
                        Tensor logits = head(f(batch[0])), entropy = Entropy(logits);
                        // The second, perturbed pass only sees samples of the first.
                        Tensor sure = entropy.detach().lt(options.EntropyMargin * Math.Log(logits.shape[1]));
                        kept = (kept is null ? sure : kept.logical_and(sure)).detach();
                        return MaskedMean(entropy, kept.to(entropy.dtype));
                    }), options.Rho);
                }, schedule, null);
            case TestTimeObjective.SimClr:
                return CompositionLearner.Fit(composition, new TensorSource(inputs), new TrainerOptions { BatchSize = options.BatchSize }, options, (batch, _) =>
                {
                    Tensor views = cat([augment(batch[0]), augment(batch[0])], 0);
                    return composition.Loss(f => ContrastiveLoss(f(views), options.Temperature));
                }, schedule, null);
            default:
                using (var scope = NewDisposeScope())
                {
                    Tensor probabilities = head(composition.Outputs(inputs)).softmax(1), labels = probabilities.argmax(1);
                    Tensor trusted = options.Reference ? ones_like(labels).to(ScalarType.Bool) : TrustedSamples(probabilities);
                    var streams = new TwoStreamSampler(TrustedSamples(probabilities), options.BatchSize);
                    return CompositionLearner.Fit(composition, new TensorSource(inputs, labels, trusted), new TrainerOptions { BatchSize = streams.BatchSize, Sampler = streams }, options, (batch, _) =>
                    {
                        Tensor strong = augment(batch[0]);
                        return composition.Loss(f =>
                        {
                            Tensor weak;
                            using (no_grad()) weak = head(f(batch[0]));
                            return UfmLoss(weak, head(f(strong)), options.Reference ? 1 : options.Sharpening, options.Threshold, batch[2], batch[1]);
                        });
                    }, schedule, null);
                }
        }
    }

    /// <summary>
    /// The loss of UFM: with p the prediction for the plain view, q = p^(1/T) / Z or the trusted label, the mean cross-entropy of the augmented view's prediction with q over samples whose largest q exceeds the threshold. 0 if there is none.
    /// </summary>
    /// <param name="weakLogits">Logits of the plain view, [batch, classes]; a constant.</param>
    /// <param name="strongLogits">Logits of the augmented view, [batch, classes].</param>
    /// <param name="temperature">T, above 0; 1 is no sharpening.</param>
    /// <param name="threshold">Least confidence.</param>
    /// <param name="trusted">Which samples are trusted, bool [batch]; null for none.</param>
    /// <param name="labels">Their labels, int64 [batch].</param>
    public static Tensor UfmLoss(Tensor weakLogits, Tensor strongLogits, double temperature = 0.5, double threshold = 0.99, Tensor? trusted = null, Tensor? labels = null)
    {
        ArgumentNullException.ThrowIfNull(weakLogits);
        ArgumentNullException.ThrowIfNull(strongLogits);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
        if (weakLogits.dim() != 2 || !weakLogits.shape.AsSpan().SequenceEqual(strongLogits.shape))
            throw new ArgumentException($"Logits of both views must be [batch, classes], not [{string.Join(", ", weakLogits.shape)}] and [{string.Join(", ", strongLogits.shape)}].", nameof(strongLogits));
        Tensor target = (weakLogits.detach() / temperature).softmax(1); // p^(1/T) / Z
        if (trusted is not null)
            target = where(trusted.unsqueeze(1), functional.one_hot(labels ?? throw new ArgumentNullException(nameof(labels), "Trusted samples need labels."), weakLogits.shape[1]).to(target.dtype), target);
        Tensor confident = target.amax([1]).gt(threshold).to(target.dtype);
        return MaskedMean(-(target * strongLogits.log_softmax(1)).sum(dim: 1), confident);
    }

    /// <summary>The contrastive loss of SimCLR (Chen et al., ICML 2020, eq. 1): the two views of a sample against all other views of the batch, cosine similarity.</summary>
    /// <param name="features">First views, then second views in the same order, [2 batch, dim].</param>
    /// <param name="temperature">Above 0.</param>
    public static Tensor ContrastiveLoss(Tensor features, double temperature)
    {
        ArgumentNullException.ThrowIfNull(features);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
        long views = features.shape[0];
        if (features.dim() != 2 || views % 2 != 0 || views == 0) throw new ArgumentException($"Features of both views must be [2 batch, dim], not [{string.Join(", ", features.shape)}].", nameof(features));
        Tensor unit = functional.normalize(features, dim: 1), self = eye(views, views, ScalarType.Bool, features.device);
        return functional.cross_entropy((unit.matmul(unit.t()) / temperature).masked_fill(self, double.NegativeInfinity), arange(views, ScalarType.Int64, features.device).roll(views / 2));
    }

    /// <summary>Which samples UFM trusts: for every class the k = min(floor(n / classes / 10), 100) with its highest probability; bool [n].</summary>
    /// <param name="probabilities">The base model's predictions, [n, classes].</param>
    public static Tensor TrustedSamples(Tensor probabilities)
    {
        ArgumentNullException.ThrowIfNull(probabilities);
        (long count, long classes) = (probabilities.shape[0], probabilities.shape[1]);
        long each = Math.Min(count / classes / 10, 100);
        Tensor trusted = zeros(count, ScalarType.Bool, probabilities.device);
        return each == 0 ? trusted : trusted.index_fill(0, probabilities.topk((int)each, 0).indexes.flatten(), true);
    }

    private static Tensor Entropy(Tensor logits) => -(logits.softmax(1) * logits.log_softmax(1)).sum(dim: 1);

    private static Tensor MaskedMean(Tensor values, Tensor mask) => (values * mask).sum() / mask.sum().clamp_min(1);

    // Batches of 3/4 untrusted and 1/4 trusted samples; an epoch goes once over the untrusted ones.
    private sealed class TwoStreamSampler : Sampler
    {
        private readonly Tensor _untrusted, _trusted;
        private readonly long _first, _second;

        public TwoStreamSampler(Tensor trusted, int batchSize)
        {
            _trusted = trusted.cpu().nonzero().flatten().DetachFromDisposeScope();
            _untrusted = trusted.cpu().logical_not().nonzero().flatten().DetachFromDisposeScope();
            _second = _trusted.shape[0] == 0 ? 0 : Math.Max(1, Math.Min(batchSize / 4, _untrusted.shape[0] / 3));
            _first = Math.Min(batchSize - _second, _untrusted.shape[0]);
        }

        public int BatchSize => (int)(_first + _second);

        public override Tensor Order(long count, int seed, int epoch, int pass)
        {
            Runtime.Seeds.Set(Runtime.Seeds.Derive(seed, epoch, pass, 3));
            using var scope = NewDisposeScope();
            long batches = Math.Max(1, _untrusted.shape[0] / _first);
            Tensor first = _untrusted.index_select(0, randperm(_untrusted.shape[0], ScalarType.Int64)).narrow(0, 0, batches * _first).view(batches, _first);
            if (_second == 0) return first.flatten().MoveToOuterDisposeScope();
            long needed = batches * _second, size = _trusted.shape[0];
            Tensor second = cat([.. Enumerable.Range(0, (int)((needed + size - 1) / size)).Select(_ => randperm(size, ScalarType.Int64))], 0).narrow(0, 0, needed);
            return cat([first, _trusted.index_select(0, second).view(batches, _second)], 1).flatten().MoveToOuterDisposeScope();
        }
    }
}
