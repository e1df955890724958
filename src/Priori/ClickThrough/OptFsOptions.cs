namespace Priori.ClickThrough;

/// <summary>Settings of <see cref="OptFs"/>.</summary>
public sealed record OptFsOptions
{
    /// <summary>Weight lambda of the penalty: what a feature must save of the mean loss to be kept. The paper's 1e-9 to 1e-8 are for 4e7 rows; it scales with one over the rows, 3e-5 at 20,000.</summary>
    public double Lambda { get; init; } = 5e-9;

    /// <summary>Temperature T of the last search epoch.</summary>
    public double FinalTemperature { get; init; } = 200;

    /// <summary>Search epochs E.</summary>
    public int SearchEpochs { get; init; } = 15;

    /// <summary>The epoch, from 0, at whose beginning the weights are kept for the customised initialisation.</summary>
    public int RewindEpoch { get; init; } = 1;

    /// <summary>Adam's learning rate of the weights.</summary>
    public double LearningRate { get; init; } = 3e-4;

    /// <summary>Adam's learning rate of the gates; null for that of the weights, as in the paper. Short searches need a larger one: a gate must travel from 0.5 past 0.</summary>
    public double? GateLearningRate { get; init; }

    /// <summary>L2 penalty on all weights but the gates (added to the gradient).</summary>
    public double WeightDecay { get; init; } = 3e-5;

    /// <summary>Checks the ranges.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than two search epochs (the temperature would have no step), a rewind epoch outside them, a negative lambda or weight decay, a final temperature below 1, or a learning rate that is not above 0.</exception>
    public void Validate()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(SearchEpochs, 2);
        ArgumentOutOfRangeException.ThrowIfNegative(RewindEpoch);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(RewindEpoch, SearchEpochs);
        if (!(Lambda >= 0)) throw new ArgumentOutOfRangeException(nameof(Lambda), Lambda, "Lambda must be at least 0.");
        if (!(FinalTemperature >= 1)) throw new ArgumentOutOfRangeException(nameof(FinalTemperature), FinalTemperature, "The final temperature must be at least 1.");
        if (!(LearningRate > 0)) throw new ArgumentOutOfRangeException(nameof(LearningRate), LearningRate, "The learning rate must be above 0.");
        if (!(GateLearningRate is null or > 0)) throw new ArgumentOutOfRangeException(nameof(GateLearningRate), GateLearningRate, "The learning rate of the gates must be above 0.");
        if (!(WeightDecay >= 0)) throw new ArgumentOutOfRangeException(nameof(WeightDecay), WeightDecay, "The weight decay must be at least 0.");
    }

    /// <summary>The authors' settings for a dataset and model: learning rate, L2, lambda, final temperature, search epochs and rewind epoch, from the table in the README of their code.</summary>
    /// <param name="dataset">criteo, avazu or kdd12.</param>
    /// <param name="model">FM, DeepFM, DCN or IPNN.</param>
    /// <exception cref="ArgumentException">The authors give none for it.</exception>
    public static OptFsOptions Published(string dataset, BackboneKind model) => (dataset, model) switch
    {
        ("criteo", BackboneKind.Fm) => Of(3e-4, 1e-5, 2e-9, 1000, 10, 1),
        ("criteo", BackboneKind.DeepFm) => Of(3e-4, 3e-5, 5e-9, 200, 15, 1),
        ("criteo", BackboneKind.Dcn) => Of(3e-4, 3e-6, 1e-8, 10000, 5, 2),
        ("criteo", BackboneKind.Ipnn) => Of(3e-4, 3e-6, 5e-9, 2000, 10, 1),
        ("avazu", BackboneKind.Fm) => Of(3e-4, 1e-6, 2e-9, 5000, 5, 4),
        ("avazu", BackboneKind.DeepFm) => Of(3e-4, 3e-6, 2e-9, 5000, 5, 3),
        ("avazu", BackboneKind.Dcn) => Of(3e-4, 3e-6, 2e-9, 5000, 5, 2),
        ("avazu", BackboneKind.Ipnn) => Of(3e-4, 3e-6, 2e-9, 5000, 5, 2),
        ("kdd12", BackboneKind.Fm) => Of(3e-5, 1e-5, 2e-9, 1000, 10, 0),
        ("kdd12", BackboneKind.DeepFm) => Of(3e-5, 1e-5, 2e-9, 1000, 10, 0),
        ("kdd12", BackboneKind.Dcn) => Of(3e-5, 1e-5, 5e-9, 1000, 5, 2),
        ("kdd12", BackboneKind.Ipnn) => Of(3e-5, 1e-5, 2e-9, 1000, 10, 2),
        _ => throw new ArgumentException($"The authors give settings for criteo, avazu and kdd12 with Fm, DeepFm, Dcn and Ipnn, not for {dataset} with {model}."),
    };

    private static OptFsOptions Of(double learningRate, double weightDecay, double lambda, double finalTemperature, int searchEpochs, int rewindEpoch) => new()
    {
        LearningRate = learningRate,
        WeightDecay = weightDecay,
        Lambda = lambda,
        FinalTemperature = finalTemperature,
        SearchEpochs = searchEpochs,
        RewindEpoch = rewindEpoch,
    };
}
