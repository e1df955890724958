using Priori.Training;

namespace Priori.ClickThrough;

/// <summary>The product of two embeddings in a factorized interaction.</summary>
public enum Factorization
{
    /// <summary>a_i * a_j, entry by entry: the paper's default.</summary>
    Hadamard,

    /// <summary>The inner product, repeated over the width of an interaction.</summary>
    InnerProduct,

    /// <summary>a_i + a_j.</summary>
    Sum,
}

/// <summary>How architecture parameters become weights of a mixture.</summary>
public enum Relaxation
{
    /// <summary>softmax(alpha / tau): what the authors' search code does.</summary>
    AnnealedSoftmax,

    /// <summary>softmax((alpha + Gumbel noise) / tau) while training: what the paper describes.</summary>
    GumbelSoftmax,
}

/// <summary>Which rows the architecture parameters learn from.</summary>
public enum SearchMode
{
    /// <summary>One level: the same batch as the weights. Only for rows that are seen once; rows that repeat make everything look worth memorizing.</summary>
    Joint,

    /// <summary>Two levels, first order: alternately a batch of rows that the weights never learn from (for alpha) and a batch of the others (for the weights).</summary>
    BiLevel,
}

/// <summary>The network of OptInter. Defaults are the paper's on Criteo.</summary>
public sealed record OptInterOptions
{
    /// <summary>Fields of a row, at least 2.</summary>
    public required long Fields { get; init; }

    /// <summary>Number of ids over all fields.</summary>
    public required long Ids { get; init; }

    /// <summary>Width s1 of an original embedding.</summary>
    public long OriginalDim { get; init; } = 20;

    /// <summary>Width s2 of an interaction.</summary>
    public long CrossDim { get; init; } = 10;

    /// <summary>Hidden widths of the classifier, each with layer normalisation and ReLU.</summary>
    public IReadOnlyList<long> Hidden { get; init; } = [700, 700, 700, 700, 700];

    /// <summary>Dropout probability after each hidden layer, in [0, 1). Paper: none.</summary>
    public double Dropout { get; init; }

    /// <summary>The product of a factorized interaction.</summary>
    public Factorization Factorization { get; init; } = Factorization.Hadamard;

    /// <summary>Logits of a row.</summary>
    public long Outputs { get; init; } = 1;

    internal OptInterOptions Checked()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Fields, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(Ids, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(OriginalDim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(CrossDim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(Outputs, 1);
        return this;
    }
}

/// <summary>How an OptInter network is trained: Adam, weight decay on the tables of the interactions only. Defaults are the paper's for re-training on Criteo.</summary>
public record OptInterTraining
{
    /// <summary>Adam's learning rate. Paper: 1e-3.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>L2 penalty of the memorized pairs and the factors. Paper: 3e-8 (Criteo), 0 (Avazu).</summary>
    public double CrossWeightDecay { get; init; } = 3e-8;

    /// <summary>Rows of a batch. Paper: 2000.</summary>
    public int BatchSize { get; init; } = 2000;

    /// <summary>Most epochs. Paper: 10.</summary>
    public int Epochs { get; init; } = 10;

    /// <summary>Epochs without a better validation figure before training stops. Paper: 1.</summary>
    public int Patience { get; init; } = 1;

    internal virtual void Check()
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(LearningRate);
        ArgumentOutOfRangeException.ThrowIfNegative(CrossWeightDecay);
        ArgumentOutOfRangeException.ThrowIfLessThan(BatchSize, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(Epochs, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(Patience, 1);
    }
}

/// <summary>How OptInter searches. Defaults are the paper's on Criteo, in one epoch.</summary>
public sealed record OptInterSearchOptions : OptInterTraining
{
    /// <summary>The paper's search: learning rate 1e-4 and one epoch, which the authors' early stopping comes to.</summary>
    public OptInterSearchOptions() => (LearningRate, Epochs) = (1e-4, 1);

    /// <summary>Adam's learning rate of the architecture parameters. Paper: 1e-3.</summary>
    public double ArchLearningRate { get; init; } = 1e-3;

    /// <summary>The temperature at step t is max(<see cref="TauMin"/>, 1 - rate t); null falls to <see cref="TauMin"/> with the last step. Paper: 5e-5.</summary>
    public double? TauRate { get; init; } = 5e-5;

    /// <summary>The least temperature, in (0, 1]. Paper: 0.01.</summary>
    public double TauMin { get; init; } = 0.01;

    /// <summary>How architecture parameters become weights.</summary>
    public Relaxation Relaxation { get; init; } = Relaxation.AnnealedSoftmax;

    /// <summary>Which rows the architecture parameters learn from; null is <see cref="SearchMode.Joint"/> for one epoch and <see cref="SearchMode.BiLevel"/> for more.</summary>
    public SearchMode? Mode { get; init; }

    /// <summary>Share of the rows that the architecture parameters learn from in <see cref="SearchMode.BiLevel"/>, in (0, 1).</summary>
    public double ArchShare { get; init; } = 0.5;

    /// <summary>The mode that is used.</summary>
    public SearchMode EffectiveMode => Mode ?? (Epochs == 1 ? SearchMode.Joint : SearchMode.BiLevel);

    /// <summary>The temperature of a step.</summary>
    /// <param name="step">Steps done before it.</param>
    /// <param name="totalSteps">Steps of the whole search; of effect only without <see cref="TauRate"/>.</param>
    public double Temperature(long step, long totalSteps)
        => Math.Max(TauMin, 1 - (TauRate ?? (1 - TauMin) / Math.Max(1, totalSteps - 1)) * step);

    internal override void Check()
    {
        base.Check();
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(ArchLearningRate);
        if (TauRate is not (null or >= 0)) throw new ArgumentOutOfRangeException(nameof(TauRate), TauRate, "The rate is at least 0.");
        if (TauMin is not (> 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(TauMin), TauMin, "The least temperature is in (0, 1].");
        if (ArchShare is not (> 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(ArchShare), ArchShare, "The share is in (0, 1).");
    }
}
