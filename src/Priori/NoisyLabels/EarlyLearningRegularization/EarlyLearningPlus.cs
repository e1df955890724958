using Priori.Training;

namespace Priori.NoisyLabels;

/// <summary>Settings of ELR+ (Liu et al., NeurIPS 2020, sec. 4.3). The defaults are the paper's for CIFAR-10 with symmetric noise.</summary>
public sealed record EarlyLearningPlusOptions
{
    /// <summary>Momentum of the running targets, in [0, 1). 0 is the ablation without temporal ensembling. Paper: 0.7 (CIFAR-10 symmetric), 0.9 (CIFAR-10 asymmetric, CIFAR-100).</summary>
    public double Beta { get; init; } = 0.7;

    /// <summary>Weight of the regularizer, at least 0. Paper: 3 (CIFAR-10 symmetric), 1 (CIFAR-10 asymmetric), 7 (CIFAR-100).</summary>
    public double Lambda { get; init; } = 3;

    /// <summary>Parameter of mixup's Beta distribution, at least 0. 0 is the ablation without mixup. Paper: 1 (CIFAR), 1.5 (WebVision).</summary>
    public double MixupAlpha { get; init; } = 1;

    /// <summary>Final decay of the weight averages, in [0, 1). 0 is the ablation without weight averaging: targets come from the other network itself. Paper: 0.997, 0.9999 (Clothing1M).</summary>
    public double EmaDecay { get; init; } = 0.997;

    /// <summary>Whether the decay ramps up over <see cref="EmaRampUpSteps"/>; otherwise it is min(1 - 1/(step + 1), <see cref="EmaDecay"/>).</summary>
    public bool EmaRampUp { get; init; } = true;

    /// <summary>Steps of a network over which the decay ramps up, at least 0. Paper: 40,000 (CIFAR).</summary>
    public long EmaRampUpSteps { get; init; } = 40_000;

    /// <summary>Steps of a network over which the regularizer's weight ramps up, at least 0. Paper: 0 (CIFAR-10), 40,000 (CIFAR-100).</summary>
    public long CoefficientRampUpSteps { get; init; }

    /// <summary>Whether labels are multiplied by the targets and renormalised; the official code does so for CIFAR-100 only.</summary>
    public bool ReweightLabelsByTarget { get; init; }

    /// <summary>Whether batch-norm statistics are averaged too; the official code leaves the averages their own statistics.</summary>
    public bool AverageBuffers { get; init; }

    /// <summary>Whether inference uses network 1 with the average of network 2 (the official two-process code) rather than both networks.</summary>
    public bool UseAveragedWeights { get; init; }

    /// <summary>Epochs of cross-entropy alone, at least 0, in which the targets average the network's own predictions already. Paper: 0.</summary>
    public int WarmUpEpochs { get; init; }

    /// <summary>Decay of the weight average after a step.</summary>
    /// <param name="step">Steps of the network done so far, this one included: 1, 2, ...</param>
    public double DecayAt(long step) => EmaRampUp ? SigmoidRampUp.At(step + 1, EmaRampUpSteps) * EmaDecay : Math.Min(1 - 1.0 / (step + 1), EmaDecay);

    /// <summary>Checks the ranges.</summary>
    /// <exception cref="ArgumentException">A setting is outside its range.</exception>
    public void Validate()
    {
        Require(Beta is >= 0 and < 1, $"{nameof(Beta)} must be in [0, 1); got {Beta}.");
        Require(double.IsFinite(Lambda) && Lambda >= 0, $"{nameof(Lambda)} must be at least 0; got {Lambda}.");
        Require(double.IsFinite(MixupAlpha) && MixupAlpha >= 0, $"{nameof(MixupAlpha)} must be at least 0; got {MixupAlpha}.");
        Require(EmaDecay is >= 0 and < 1, $"{nameof(EmaDecay)} must be in [0, 1); got {EmaDecay}.");
        Require(EmaRampUpSteps >= 0, $"{nameof(EmaRampUpSteps)} must be at least 0; got {EmaRampUpSteps}.");
        Require(CoefficientRampUpSteps >= 0, $"{nameof(CoefficientRampUpSteps)} must be at least 0; got {CoefficientRampUpSteps}.");
        Require(WarmUpEpochs >= 0, $"{nameof(WarmUpEpochs)} must be at least 0; got {WarmUpEpochs}.");
    }

    private static void Require(bool condition, string message)
    {
        if (!condition) throw new ArgumentException(message);
    }
}

/// <summary>
/// The loss of one network of ELR+: soft cross-entropy to mixed labels + ramp(step) * lambda * mean log(1 - &lt;q, p&gt;), where q mixes the running targets,
/// which average the predictions of the <em>other</em> network's weight average on the unmixed batch.
/// </summary>
public sealed class EarlyLearningPlusLoss : Module
{
    private readonly TemporalEnsemble ensemble;
    private readonly EarlyLearningPlusOptions _options;
    private readonly bool _checkRows;

    /// <summary>Creates the loss with a table of zeros for all rows.</summary>
    /// <param name="exampleCount">Number of training rows n, at least 1.</param>
    /// <param name="classCount">Number of classes C, at least 2.</param>
    /// <param name="options">Settings; the defaults when null.</param>
    /// <param name="checkRows">Whether row ids and labels are checked at each call (one or two booleans read back from the device).</param>
    /// <exception cref="ArgumentException">An argument or a setting is outside its range.</exception>
    public EarlyLearningPlusLoss(long exampleCount, int classCount, EarlyLearningPlusOptions? options = null, bool checkRows = true) : base(nameof(EarlyLearningPlusLoss))
    {
        _options = options ?? new EarlyLearningPlusOptions();
        _options.Validate();
        _checkRows = checkRows;
        ensemble = new TemporalEnsemble(exampleCount, classCount, _options.Beta, checkRows);
        RegisterComponents();
    }

    /// <summary>The running targets T, [n, C].</summary>
    public Tensor Targets => ensemble.Targets;

    /// <summary>Updates the targets of the batch's rows from the teacher, then gives the loss.</summary>
    /// <param name="rowIds">Stable ids of the rows, int64 [batch], each at most once.</param>
    /// <param name="logits">The network's outputs for the mixed inputs, [batch, C].</param>
    /// <param name="labels">Given labels of the unmixed rows, int64 [batch].</param>
    /// <param name="teacherLogits">Outputs of the other network's weight average for the unmixed inputs, [batch, C]; their gradient is not followed.</param>
    /// <param name="mixup">How the inputs were mixed.</param>
    /// <param name="step">Steps of this network, this one included: 1, 2, ...</param>
    /// <returns>A scalar; it may be negative.</returns>
    /// <exception cref="ArgumentException">An id is outside the table or occurs twice, a label is not a class, or shapes do not fit; nothing has been changed.</exception>
    public Tensor forward(Tensor rowIds, Tensor logits, Tensor labels, Tensor teacherLogits, Mixup mixup, long step)
    {
        ArgumentNullException.ThrowIfNull(teacherLogits);
        ArgumentNullException.ThrowIfNull(mixup);
        EarlyLearning.CheckLabels(logits, labels, ensemble.ClassCount, _checkRows);
        Tensor targets = mixup.Mix(Observe(rowIds, teacherLogits));
        Tensor mixed = mixup.Mix(functional.one_hot(labels, ensemble.ClassCount).to(logits.dtype));
        if (_options.ReweightLabelsByTarget)
        {
            mixed = mixed * targets;
            mixed = mixed / mixed.sum(1, keepdim: true).clamp_min(1e-12);
        }
        Tensor crossEntropy = -(mixed * functional.log_softmax(logits, 1)).sum(1).mean();
        double weight = SigmoidRampUp.At(step, _options.CoefficientRampUpSteps) * _options.Lambda;
        return weight == 0 ? crossEntropy : crossEntropy + weight * EarlyLearning.Regularizer(EarlyLearning.ClampedProbabilities(logits), targets);
    }

    /// <summary>Cross-entropy alone on the unmixed batch while the targets average the network's own predictions: a warm-up step.</summary>
    /// <param name="rowIds">Stable ids of the rows, int64 [batch], each at most once.</param>
    /// <param name="logits">The network's outputs for the unmixed inputs, [batch, C].</param>
    /// <param name="labels">Given labels, int64 [batch].</param>
    /// <returns>A scalar.</returns>
    /// <exception cref="ArgumentException">As <see cref="forward"/>.</exception>
    public Tensor WarmUp(Tensor rowIds, Tensor logits, Tensor labels)
    {
        EarlyLearning.CheckLabels(logits, labels, ensemble.ClassCount, _checkRows);
        Observe(rowIds, logits);
        return functional.cross_entropy(logits, labels);
    }

    private Tensor Observe(Tensor rowIds, Tensor logits)
    {
        using var gradientsOff = no_grad();
        return ensemble.Update(rowIds, functional.softmax(logits, 1));
    }
}
