using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Merging;

/// <summary>
/// Tip-Adapter-F (Zhang et al., ECCV 2022) on frozen features: a cache of the training features corrects the model's logits,
/// logits + alpha exp(-beta (1 - &lt;f, F&gt;)) onehot(labels). The cache's keys F, alpha and beta are learned. Features are normalised to length 1.
/// </summary>
public sealed class TipAdapter : Module<Tensor, Tensor, Tensor>
{
    private readonly Parameter keys, sharpness;
    private readonly Tensor values;

    /// <summary>A cache of the given features, before learning: beta = 1 and alpha = 2, as in the released code of aTLAS.</summary>
    /// <param name="features">Training features, [n, dim].</param>
    /// <param name="labels">Their classes, int64 [n].</param>
    /// <param name="classes">Number of classes.</param>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public TipAdapter(Tensor features, Tensor labels, long classes) : base(nameof(TipAdapter))
    {
        ArgumentNullException.ThrowIfNull(features);
        ArgumentNullException.ThrowIfNull(labels);
        if (features.dim() != 2 || labels.dim() != 1 || labels.shape[0] != features.shape[0])
            throw new ArgumentException($"Features and labels must be [n, dim] and [n], not [{string.Join(", ", features.shape)}] and [{string.Join(", ", labels.shape)}].", nameof(labels));
        using (no_grad()) keys = new Parameter(functional.normalize(features.detach(), dim: 1).clone());
        sharpness = new Parameter(cat([ones(1), full(1, 2)]).to(features.device));
        values = functional.one_hot(labels, classes).to(features.dtype);
        RegisterComponents();
    }

    /// <summary>Corrected logits, [b, classes].</summary>
    /// <param name="features">Features of the inputs, [b, dim].</param>
    /// <param name="logits">The model's logits, [b, classes].</param>
    public override Tensor forward(Tensor features, Tensor logits)
    {
        Tensor affinity = functional.normalize(features, dim: 1).matmul(keys.t());
        return logits + sharpness[1] * (-sharpness[0] * (1 - affinity)).exp().matmul(values);
    }

    /// <summary>Builds the cache and learns it: AdamW 1e-3, weight decay 0.1, cosine schedule, 10 epochs (released code of aTLAS).</summary>
    /// <param name="features">Training features, [n, dim].</param>
    /// <param name="labels">Their classes, int64 [n].</param>
    /// <param name="logits">The model's logits for them, [n, classes].</param>
    /// <param name="options">Learning rate, weight decay, epochs and batch; null for the defaults.</param>
    public static TipAdapter Fit(Tensor features, Tensor labels, Tensor logits, CompositionOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(features);
        ArgumentNullException.ThrowIfNull(logits);
        options ??= new CompositionOptions { Epochs = 10 };
        var adapter = new TipAdapter(features, labels, logits.shape[1]);
        using var learner = new AdapterLearner(adapter, options);
        (options.Trainer ?? (o => new Trainer(o)))(new TrainerOptions { Epochs = options.Epochs, BatchSize = options.BatchSize, Seed = options.Seed, Device = features.device })
            .Fit(learner, new TensorSource(features.detach(), logits.detach(), labels), cancellation: options.Cancellation);
        return adapter;
    }

    private sealed class AdapterLearner(TipAdapter adapter, CompositionOptions options) : Learner
    {
        public override IReadOnlyDictionary<string, Module> Modules { get; } = new Dictionary<string, Module> { ["adapter"] = adapter };

        public override IReadOnlyDictionary<string, Optimization> Optimizers { get; } = new Dictionary<string, Optimization>
        {
            ["adapter"] = new(optim.AdamW(adapter.parameters(), options.LearningRate, weight_decay: options.WeightDecay), new CosineSchedule(), options.ClipNorm),
        };

        public override void Step(Batch batch, TrainingStep step) => step.Minimize("adapter", functional.cross_entropy(adapter.call(batch[0], batch[1]), batch[2]));

        protected override void Dispose(bool disposing)
        {
            base.Dispose(false); // The adapter is the caller's.
            if (disposing) Optimizers["adapter"].Optimizer.Dispose();
        }
    }
}

/// <summary>
/// LP++ (Huang et al., CVPR 2024) on frozen features: logits = f W^T + b + alpha * (model logits) / 100 with one alpha a class. W begins at the sums of the class's features;
/// step sizes follow from Lipschitz bounds, so there is nothing to tune. Features are normalised to length 1.
/// </summary>
public sealed class LinearProbePlusPlus : Module<Tensor, Tensor, Tensor>
{
    private readonly Parameter weight, bias, alpha;

    /// <summary>Fits the probe by gradient descent on all examples at once.</summary>
    /// <param name="features">Training features, [n, dim].</param>
    /// <param name="labels">Their classes, int64 [n].</param>
    /// <param name="logits">The model's logits for them, [n, classes].</param>
    /// <param name="epochs">Steps. Default 300, as in the paper.</param>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public LinearProbePlusPlus(Tensor features, Tensor labels, Tensor logits, int epochs = 300) : base(nameof(LinearProbePlusPlus))
    {
        ArgumentNullException.ThrowIfNull(features);
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentNullException.ThrowIfNull(logits);
        if (features.dim() != 2 || labels.dim() != 1 || logits.dim() != 2 || labels.shape[0] != features.shape[0] || logits.shape[0] != features.shape[0])
            throw new ArgumentException($"Features, labels and logits must be [n, dim], [n] and [n, classes], not [{string.Join(", ", features.shape)}], [{string.Join(", ", labels.shape)}] and [{string.Join(", ", logits.shape)}].", nameof(logits));
        Tensor f, text, onehot;
        double stepOfWeight, stepOfAlpha;
        using (no_grad())
        {
            f = functional.normalize(features.detach(), dim: 1);
            text = logits.detach() / 100;
            onehot = functional.one_hot(labels, logits.shape[1]).to(f.dtype);
            long n = f.shape[0];
            Tensor withBias = cat([f, ones(n, 1, f.dtype, f.device)], 1);
            stepOfWeight = 4 * n / linalg.eigvalsh(withBias.t().matmul(withBias)).max().to(float64).item<double>();
            stepOfAlpha = n / Math.Max(1e-12, 4 * text.square().sum(dim: 0).max().to(float64).item<double>());
            Tensor perClass = (onehot * text).sum(dim: 0) / onehot.sum(dim: 0).clamp_min(1); // Mean own logit of each class.
            weight = new Parameter(onehot.t().matmul(f));
            bias = new Parameter(zeros(logits.shape[1], f.dtype, f.device));
            alpha = new Parameter((250 * perClass.mean()).expand(logits.shape[1]).clone());
        }
        RegisterComponents();
        for (int epoch = 0; epoch < epochs; epoch++)
        {
            using var scope = NewDisposeScope();
            Tensor[] gradients = Gradients.Of(functional.cross_entropy(Logits(f, text), labels), [weight, bias, alpha]);
            using var ungraphed = no_grad();
            weight.sub_(gradients[0] * stepOfWeight);
            bias.sub_(gradients[1] * stepOfWeight);
            alpha.sub_(gradients[2] * stepOfAlpha);
        }
    }

    /// <summary>Logits of the probe, [b, classes].</summary>
    /// <param name="features">Features of the inputs, [b, dim].</param>
    /// <param name="logits">The model's logits, [b, classes].</param>
    public override Tensor forward(Tensor features, Tensor logits) => Logits(functional.normalize(features, dim: 1), logits / 100);

    private Tensor Logits(Tensor f, Tensor text) => functional.linear(f, weight, bias) + alpha * text;
}
