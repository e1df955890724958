using Priori.Training;

namespace Priori.Similarity;

/// <summary>What an autoencoder minimises.</summary>
public enum ReconstructionLoss
{
    /// <summary>Mean squared error; the default.</summary>
    MeanSquaredError,

    /// <summary>Gaussian negative log-likelihood at the best common deviation; see <see cref="Reconstruction.OptimalSigmaNll"/>. That of the published code.</summary>
    OptimalSigmaNll,
}

/// <summary>Losses of autoencoders.</summary>
public static class Reconstruction
{
    /// <summary>
    /// Gaussian negative log-likelihood with the deviation that minimises it (Rybkin, Daniilidis, Levine, ICML 2021): log sigma = 0.5 log MSE, and the sum of 0.5 ((x - prediction) / sigma)^2 + log sigma.
    /// The deviation is part of the graph, as in the published code.
    /// </summary>
    /// <param name="prediction">Reconstructions, any shape.</param>
    /// <param name="target">Inputs, the same shape.</param>
    /// <returns>A scalar: a sum over all elements.</returns>
    /// <exception cref="ArgumentException">The shapes differ.</exception>
    public static Tensor OptimalSigmaNll(Tensor prediction, Tensor target)
    {
        ArgumentNullException.ThrowIfNull(prediction);
        ArgumentNullException.ThrowIfNull(target);
        if (!prediction.shape.AsSpan().SequenceEqual(target.shape)) throw new ArgumentException($"Reconstructions [{string.Join(", ", prediction.shape)}] and inputs [{string.Join(", ", target.shape)}] must have one shape.", nameof(target));
        Tensor squares = (target - prediction).square(), logSigma = 0.5 * squares.mean().log();
        return (0.5 * squares / (2 * logSigma).exp() + logSigma).sum();
    }

    /// <summary>Kullback-Leibler divergence of N(mean, exp(logVariance)) from N(0, 1), summed over all elements.</summary>
    /// <param name="mean">Means, any shape.</param>
    /// <param name="logVariance">Logarithms of variances, the same shape.</param>
    public static Tensor KullbackLeibler(Tensor mean, Tensor logVariance)
    {
        ArgumentNullException.ThrowIfNull(mean);
        ArgumentNullException.ThrowIfNull(logVariance);
        return -0.5 * (1 + logVariance - mean.square() - logVariance.exp()).sum();
    }

    internal static Tensor Of(ReconstructionLoss loss, Tensor prediction, Tensor target)
        => loss == ReconstructionLoss.OptimalSigmaNll ? OptimalSigmaNll(prediction, target) : functional.mse_loss(prediction, target);
}

/// <summary>
/// The decoder of a relative variational autoencoder, a head of <see cref="RelativeModel"/>: mean and log-variance are linear in the relative representation of the encoder's output, a sample of them is decoded in training
/// and the mean in evaluation.
/// </summary>
public sealed class VariationalDecoder : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> mean, log_variance, decoder;

    /// <summary>Makes the decoder.</summary>
    /// <param name="width">Width of relative representations.</param>
    /// <param name="decoder">Latents [b, width] to outputs; it becomes a part of this module.</param>
    public VariationalDecoder(long width, Module<Tensor, Tensor> decoder) : base(nameof(VariationalDecoder))
    {
        ArgumentNullException.ThrowIfNull(decoder);
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        (mean, log_variance, this.decoder) = (nn.Linear(width, width), nn.Linear(width, width), decoder);
        RegisterComponents();
    }

    /// <summary>Outputs of relative representations [b, width].</summary>
    public override Tensor forward(Tensor input) => Decode(input).Output;

    /// <summary>Outputs with the mean and log-variance [b, width] they were decoded from.</summary>
    /// <param name="relative">Relative representations [b, width].</param>
    public (Tensor Output, Tensor Mean, Tensor LogVariance) Decode(Tensor relative)
    {
        Tensor mu = mean.call(relative), logVariance = log_variance.call(relative);
        Tensor latent = training ? mu + (0.5 * logVariance).exp() * randn_like(mu) : mu;
        return (decoder.call(latent), mu, logVariance);
    }
}

/// <summary>Training of an autoencoder. A batch is (inputs [b, ...]); the model gives reconstructions [b, features]. Of a <see cref="RelativeModel"/> with a <see cref="VariationalDecoder"/> the divergence is added.</summary>
public sealed class ReconstructionLearner : Learner
{
    private readonly Module<Tensor, Tensor> _model;
    private readonly ReconstructionLoss _loss;

    /// <summary>Makes a learner; both the model and the optimizer become its own.</summary>
    /// <param name="model">Inputs [b, ...] to reconstructions [b, features].</param>
    /// <param name="optimizer">An optimizer of the model's parameters.</param>
    /// <param name="loss">What is minimised. A variational model always has <see cref="ReconstructionLoss.OptimalSigmaNll"/>.</param>
    /// <param name="clipNorm">Largest gradient norm. Published code: 10.</param>
    public ReconstructionLearner(Module<Tensor, Tensor> model, optim.Optimizer optimizer, ReconstructionLoss loss = ReconstructionLoss.MeanSquaredError, double? clipNorm = 10)
    {
        ArgumentNullException.ThrowIfNull(model);
        (_model, _loss) = (model, loss);
        Modules = new Dictionary<string, Module> { ["model"] = model };
        Optimizers = new Dictionary<string, Optimization> { ["model"] = new(optimizer, clipNorm: clipNorm) };
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        _model.train();
        Tensor target = batch[0].flatten(1);
        if (_model is RelativeModel { Head: VariationalDecoder decoder } variational)
        {
            (Tensor output, Tensor mean, Tensor logVariance) = decoder.Decode(variational.Represent(batch[0]));
            Tensor divergence = Reconstruction.KullbackLeibler(mean, logVariance);
            step.Log("kl", divergence / target.shape[0]);
            step.Minimize("model", Reconstruction.OptimalSigmaNll(output, target) + divergence);
        }
        else
        {
            step.Minimize("model", Reconstruction.Of(_loss, _model.call(batch[0]), target));
        }
    }
}
