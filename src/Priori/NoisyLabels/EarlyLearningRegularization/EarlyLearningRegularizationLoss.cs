namespace Priori.NoisyLabels;

/// <summary>
/// Early-learning regularization (Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, eq. 6):
/// mean cross-entropy + lambda * mean log(1 - &lt;p, t&gt;), where p are the predicted probabilities and t is a running average of the model's own
/// predictions for that row (<see cref="TemporalEnsemble"/>), this step's included. Where a label is right the second term keeps the gradient alive;
/// where it is wrong, the term cancels the pull towards it, so wrong labels are not memorised.
/// </summary>
/// <example>
/// <code>
/// var loss = new EarlyLearningRegularizationLoss(exampleCount: 50_000, classCount: 10);
/// Tensor value = loss.forward(rowIds, network.forward(inputs), labels);
/// </code>
/// </example>
public sealed class EarlyLearningRegularizationLoss : Module<Tensor, Tensor, Tensor, Tensor>
{
    private readonly TemporalEnsemble ensemble;
    private readonly double _lambda;

    /// <summary>Creates the loss with a table of zeros for all rows.</summary>
    /// <param name="exampleCount">Number of training rows n, at least 1.</param>
    /// <param name="classCount">Number of classes C, at least 2.</param>
    /// <param name="beta">Momentum of the running targets, in [0, 1). Paper: 0.7 (CIFAR-10, symmetric noise), 0.9 (CIFAR-100 and asymmetric noise).</param>
    /// <param name="lambda">Weight of the regularizer, at least 0; 0 is plain cross-entropy, whose targets are still kept. Paper: 3 (CIFAR-10), 7 (CIFAR-100).</param>
    /// <param name="checkRows">Whether row ids and labels are checked at each call (one or two booleans read back from the device).</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is outside its range.</exception>
    public EarlyLearningRegularizationLoss(long exampleCount, int classCount, double beta = 0.7, double lambda = 3, bool checkRows = true)
        : base(nameof(EarlyLearningRegularizationLoss))
    {
        if (!double.IsFinite(lambda) || lambda < 0) throw new ArgumentOutOfRangeException(nameof(lambda), lambda, "Lambda must be a finite number of at least 0.");
        _lambda = lambda;
        CheckLabels = checkRows;
        ensemble = new TemporalEnsemble(exampleCount, classCount, beta, checkRows);
        RegisterComponents();
    }

    /// <summary>The running targets T, [n, C]. A row sums to 1 - beta^visits.</summary>
    public Tensor Targets => ensemble.Targets;

    private bool CheckLabels { get; }

    /// <summary>Updates the targets of the batch's rows, then gives the loss.</summary>
    /// <param name="rowIds">Stable ids of the rows, int64 [batch], each at most once.</param>
    /// <param name="logits">The network's outputs, [batch, C].</param>
    /// <param name="labels">Given labels, int64 [batch].</param>
    /// <returns>A scalar; it may be negative.</returns>
    /// <exception cref="ArgumentException">An id is outside the table or occurs twice, a label is not a class, or shapes do not fit; nothing has been changed.</exception>
    public override Tensor forward(Tensor rowIds, Tensor logits, Tensor labels)
    {
        EarlyLearning.CheckLabels(logits, labels, ensemble.ClassCount, CheckLabels);
        Tensor probabilities = EarlyLearning.ClampedProbabilities(logits);
        Tensor targets = Observe(rowIds, probabilities);
        Tensor crossEntropy = functional.cross_entropy(logits, labels);
        return _lambda == 0 ? crossEntropy : crossEntropy + _lambda * EarlyLearning.Regularizer(probabilities, targets);
    }

    /// <summary>Cross-entropy alone while the targets are averaged already: a warm-up step.</summary>
    /// <param name="rowIds">Stable ids of the rows, int64 [batch], each at most once.</param>
    /// <param name="logits">The network's outputs, [batch, C].</param>
    /// <param name="labels">Given labels, int64 [batch].</param>
    /// <returns>A scalar.</returns>
    /// <exception cref="ArgumentException">As <see cref="forward"/>.</exception>
    public Tensor WarmUp(Tensor rowIds, Tensor logits, Tensor labels)
    {
        EarlyLearning.CheckLabels(logits, labels, ensemble.ClassCount, CheckLabels);
        Observe(rowIds, EarlyLearning.ClampedProbabilities(logits));
        return functional.cross_entropy(logits, labels);
    }

    private Tensor Observe(Tensor rowIds, Tensor probabilities)
    {
        using var gradientsOff = no_grad();
        return ensemble.Update(rowIds, probabilities / probabilities.sum(1, keepdim: true));
    }
}

/// <summary>What ELR and ELR+ share.</summary>
internal static class EarlyLearning
{
    // The official code's clamp: keeps log(1 - <p, t>) finite; no gradient flows through clamped entries.
    private const double Margin = 1e-4;

    public static Tensor ClampedProbabilities(Tensor logits) => functional.softmax(logits, 1).clamp(Margin, 1 - Margin);

    public static Tensor Regularizer(Tensor probabilities, Tensor targets) => (1 - (targets * probabilities).sum(1)).log().mean();

    public static void CheckLabels(Tensor logits, Tensor labels, int classCount, bool checkValues)
    {
        ArgumentNullException.ThrowIfNull(logits);
        ArgumentNullException.ThrowIfNull(labels);
        if (logits.dim() != 2 || logits.shape[1] != classCount)
            throw new ArgumentException($"Logits must be [batch, {classCount}]; got [{string.Join(",", logits.shape)}].", nameof(logits));
        if (labels.dtype != ScalarType.Int64 || labels.dim() != 1 || labels.shape[0] != logits.shape[0])
            throw new ArgumentException($"Labels must be int64 [{logits.shape[0]}]; got {labels.dtype} [{string.Join(",", labels.shape)}].", nameof(labels));
        if (!checkValues) return;
        using var scope = NewDisposeScope();
        Tensor outside = labels.lt(0).logical_or(labels.ge(classCount));
        if (outside.any().ToBoolean())
            throw new ArgumentException($"Label {labels.masked_select(outside)[0].ToInt64()} is outside 0..{classCount - 1}.", nameof(labels));
    }
}
