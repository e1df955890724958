using TorchSharp.Modules;

namespace Priori.Similarity;

/// <summary>Training of <see cref="SgdStitchLayer"/>; the defaults are the published solver's.</summary>
public sealed record SgdStitchOptions
{
    /// <summary>L1 decay of the weights (not of the bias), at least 0. Published: 0 and 1e-5 to 1e-1.</summary>
    public double Lambda { get; init; } = 1e-2;

    /// <summary>Learning rate. Published 1e-3.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Momentum, in [0, 1). Published 0.98.</summary>
    public double Momentum { get; init; } = .98;

    /// <summary>Iterations after which the learning rate is multiplied by <see cref="Decay"/>, again and again. Published 1,500.</summary>
    public int DecayEvery { get; init; } = 1500;

    /// <summary>Factor of the learning rate. Published 0.5.</summary>
    public double Decay { get; init; } = .5;
}

/// <summary>
/// The published stitching layer: a 1x1 convolution, which is a linear map of the units at every position, trained by stochastic gradient descent on 1/(2 b) sum |b - W a - bias|^2 + lambda |W|_1 for
/// activations that do not fit into memory at once or come as a stream. Weights begin as N(0, 0.01^2), the bias as 0. Unlike <see cref="SparseStitching"/> its weights become small, not exactly 0.
/// </summary>
public sealed class SgdStitchLayer : Module<Tensor, Tensor>
{
    private readonly SgdStitchOptions _options;
    private readonly Parameter weight, bias;
    private readonly Tensor weight_velocity, bias_velocity, iterations;

    /// <summary>Makes a layer.</summary>
    /// <param name="sourceUnits">Units p of the source layer.</param>
    /// <param name="targetUnits">Units q of the target layer.</param>
    /// <param name="options">The training; published settings when null.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number of units or an option is outside its range.</exception>
    public SgdStitchLayer(long sourceUnits, long targetUnits, SgdStitchOptions? options = null) : base(nameof(SgdStitchLayer))
    {
        _options = options ?? new SgdStitchOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(sourceUnits, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(targetUnits, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(_options.Lambda);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(_options.LearningRate);
        if (!(_options.Momentum is >= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(options), _options.Momentum, "The momentum must be in [0, 1).");
        ArgumentOutOfRangeException.ThrowIfLessThan(_options.DecayEvery, 1);
        weight = new Parameter(init.normal_(empty(targetUnits, sourceUnits), 0, .01));
        bias = new Parameter(zeros(targetUnits));
        weight_velocity = zeros(targetUnits, sourceUnits);
        bias_velocity = zeros(targetUnits);
        iterations = zeros(1, int64);
        RegisterComponents();
    }

    /// <summary>W [q, p].</summary>
    public Tensor Weight => weight;

    /// <summary>The bias [q].</summary>
    public Tensor Bias => bias;

    /// <summary>Predicted units of the target layer.</summary>
    /// <param name="input">Activations of the source layer [b, p] or [b, p, height, width].</param>
    /// <returns>[b, q] or [b, q, height, width].</returns>
    public override Tensor forward(Tensor input) => input.dim() == 4 ? functional.conv2d(input, weight.unsqueeze(-1).unsqueeze(-1), bias) : functional.linear(input, weight, bias);

    /// <summary>One step on a batch: velocity = momentum velocity + rate gradient, parameter -= velocity, as Caffe's solver.</summary>
    /// <param name="source">Activations [b, p] or [b, p, height, width]; standardise both sides to compare penalties over layers.</param>
    /// <param name="target">The same samples of the target layer [b, q] or [b, q, height, width].</param>
    /// <returns>Half the squared error of an observation, summed over the target units, before the step.</returns>
    /// <exception cref="ArgumentException">Samples, positions or units do not fit, or the error is not finite.</exception>
    public double Step(Tensor source, Tensor target)
    {
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        (Tensor x, Tensor y) = CrossCorrelation.Paired(source, target);
        if (x.shape[1] != weight.shape[1] || y.shape[1] != weight.shape[0]) throw new ArgumentException($"The layer maps {weight.shape[1]} to {weight.shape[0]} units; the activations have {x.shape[1]} and {y.shape[1]}.", nameof(source));
        Tensor residual = functional.linear(x, weight, bias) - y;
        double loss = residual.square().sum().item<float>() / (2.0 * x.shape[0]);
        if (!double.IsFinite(loss)) throw new ArgumentException($"The error is not finite at iteration {iterations.item<long>()}: activations are not, or the learning rate is too large for their scale.", nameof(source));
        double rate = _options.LearningRate * Math.Pow(_options.Decay, iterations.item<long>() / _options.DecayEvery);
        weight_velocity.mul_(_options.Momentum).add_(residual.t().matmul(x) / x.shape[0] + _options.Lambda * weight.sign(), alpha: rate);
        bias_velocity.mul_(_options.Momentum).add_(residual.mean([0L]), alpha: rate);
        weight.sub_(weight_velocity);
        bias.sub_(bias_velocity);
        iterations.add_(1);
        return loss;
    }
}
