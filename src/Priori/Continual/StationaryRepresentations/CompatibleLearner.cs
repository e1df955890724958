using Priori.Nn;
using Priori.Training;

namespace Priori.Continual;

/// <summary>How an encoder is trained so that it stays compatible with the model before.</summary>
public sealed record CompatibilityOptions
{
    /// <summary>lambda: weight of the cross-entropy, in [0, 1]; the rest is the higher-order compatibility loss. 0.1 in the paper; 1 is the d-Simplex baseline.</summary>
    public double Lambda { get; init; } = .1;

    /// <summary>mu of the compatibility loss; 10 in the paper.</summary>
    public double Mu { get; init; } = 10;

    /// <summary>Pairs of one class in the compatibility loss.</summary>
    public HocNegatives Negatives { get; init; } = HocNegatives.ZeroMasked;

    /// <summary>Learning rate of SGD with momentum 0.9; 1e-3 in the paper's configurations.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Learning rate at the end of the cosine; 1e-5 in the paper's configurations.</summary>
    public double MinimumLearningRate { get; init; } = 1e-5;

    /// <summary>Weight decay of matrices and kernels; 5e-4 in the paper. Vectors and normalisations have none.</summary>
    public double WeightDecay { get; init; } = 5e-4;
}

/// <summary>
/// One task of d-Simplex-HOC (Biondi et al., CVPR 2024, eq. 3): lambda CE(head(f(x)), y) + (1 - lambda) HOC(f_old(x), f(x), y), with SGD and a cosine schedule. Without an old model it is the
/// cross-entropy. The old model is frozen and in evaluation mode. A batch is (inputs [b, ...], labels int64 [b]) with the labels placed in the head's classes (<see cref="ClientLabel"/>).
/// </summary>
public sealed class CompatibleLearner : Learner
{
    private readonly Module<Tensor, Tensor> encoder;
    private readonly Module<Tensor, Tensor> head;
    private readonly Module<Tensor, Tensor>? old;
    private readonly HigherOrderCompatibilityLoss compatibility;
    private readonly double lambda;

    /// <summary>Makes the learner; encoder and head become its own, the old model stays the caller's.</summary>
    /// <param name="encoder">Inputs to features [b, D].</param>
    /// <param name="head">Features to logits: a <see cref="FixedSimplexHead"/>, or a learned one (the ER baseline).</param>
    /// <param name="old">The model before; null for none.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentOutOfRangeException">lambda is outside [0, 1].</exception>
    public CompatibleLearner(Module<Tensor, Tensor> encoder, Module<Tensor, Tensor> head, Module<Tensor, Tensor>? old, CompatibilityOptions options)
    {
        ArgumentNullException.ThrowIfNull(encoder);
        ArgumentNullException.ThrowIfNull(head);
        ArgumentNullException.ThrowIfNull(options);
        if (options.Lambda is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(options), options.Lambda, "lambda must be in [0, 1].");
        (this.encoder, this.head, this.old, lambda) = (encoder, head, old, options.Lambda);
        compatibility = new HigherOrderCompatibilityLoss(options.Mu, options.Negatives);
        Modules = new Dictionary<string, Module> { ["encoder"] = encoder, ["head"] = head };
        Optimizers = new Dictionary<string, Optimization> { ["encoder"] = new(Sgd([encoder, head], options), new CosineSchedule(minimum: options.MinimumLearningRate / options.LearningRate)) };
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <summary>The slot of a client's class: pre-training parties fill the classes of the head from 0 upward, the client from K - 1 downward, so that two parties do not collide.</summary>
    /// <param name="label">The client's classes, int64, in 0..K-1.</param>
    /// <param name="classes">K.</param>
    /// <param name="preTrained">Number of classes that pre-training used, from 0 upward.</param>
    /// <exception cref="ArgumentException">A label is negative, or its slot is taken by pre-training or does not exist.</exception>
    public static Tensor ClientLabel(Tensor label, long classes, long preTrained = 0)
    {
        ArgumentNullException.ThrowIfNull(label);
        if (label.numel() > 0 && (label.min().ToInt64() < 0 || classes - 1 - label.max().ToInt64() < preTrained))
            throw new ArgumentException($"Labels {label.min().ToInt64()}..{label.max().ToInt64()} do not fit beside {preTrained} pre-trained classes in a head of {classes}.", nameof(label));
        return classes - 1 - label;
    }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        encoder.train();
        Tensor features = encoder.call(batch[0]);
        Tensor loss = functional.cross_entropy(head.call(features), batch[1]);
        step.Log("cross_entropy", loss);
        if (old is not null && lambda < 1)
        {
            Tensor before;
            using (no_grad())
            {
                old.eval();
                before = old.call(batch[0]);
            }
            Tensor hoc = compatibility.call(features, before, batch[1]);
            step.Log("compatibility", hoc);
            loss = lambda * loss + (1 - lambda) * hoc;
        }
        step.Minimize("encoder", loss);
    }

    private static TorchSharp.Modules.SGD Sgd(IReadOnlyList<Module> modules, CompatibilityOptions options)
    {
        (string Name, TorchSharp.Modules.Parameter Value)[] all = [.. modules.SelectMany(m => m.named_parameters()).Select(p => (p.name, p.parameter))];
        static bool IsDecayed((string Name, TorchSharp.Modules.Parameter Value) p) =>
            p.Value.dim() >= 2 && !p.Name.Contains("bn", StringComparison.Ordinal) && !p.Name.Contains("ln", StringComparison.Ordinal) && !p.Name.Contains("bias", StringComparison.Ordinal);
        var groups = new List<TorchSharp.Modules.SGD.ParamGroup>();
        foreach (bool decayed in new[] { false, true })
        {
            TorchSharp.Modules.Parameter[] parameters = [.. all.Where(p => IsDecayed(p) == decayed).Select(p => p.Value)];
            if (parameters.Length > 0) groups.Add(new TorchSharp.Modules.SGD.ParamGroup(parameters, options.LearningRate, momentum: .9, weight_decay: decayed ? options.WeightDecay : 0));
        }
        return optim.SGD(groups, options.LearningRate, momentum: .9);
    }
}
