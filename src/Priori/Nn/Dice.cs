namespace Priori.Nn;

/// <summary>
/// The data adaptive activation function (Zhou et al., KDD 2018, section 5.3): a PReLU whose rectifying point follows the input's distribution,
/// <code>f(s) = p(s) s + (1 - p(s)) alpha s,   p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps))</code>
/// per channel. Training uses the batch's mean and biased variance, through which the gradient flows, and updates running averages; evaluation uses those.
/// A training batch of one row has variance 0, so that p = 1/2.
/// </summary>
public sealed class Dice : Module<Tensor, Tensor>
{
    private const double Momentum = 0.1;
    private readonly TorchSharp.Modules.Parameter alpha;
    private readonly Tensor running_mean, running_var;
    private readonly double eps;

    /// <summary>Creates the activation.</summary>
    /// <param name="channels">Width of the last dimension, at least 1.</param>
    /// <param name="eps">Added to the variance, above 0.</param>
    /// <param name="alphaInit">Initial slope alpha of each channel.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is outside its range.</exception>
    public Dice(long channels, double eps = 1e-8, double alphaInit = 0) : base(nameof(Dice))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(channels, 1);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(eps);
        this.eps = eps;
        alpha = Parameter(full(channels, alphaInit));
        running_mean = zeros(channels);
        running_var = ones(channels);
        RegisterComponents();
    }

    /// <summary>Activates [..., channels]; the statistics are those of all positions.</summary>
    public override Tensor forward(Tensor input) => Activate(input, null);

    /// <summary>Activates [..., channels] with the statistics of the valid positions only, as padded sequences need.</summary>
    /// <param name="input">Inputs [..., channels].</param>
    /// <param name="mask">Valid positions, the input's shape without its last dimension: 1 or true where valid.</param>
    /// <exception cref="ArgumentException">The mask has another shape.</exception>
    public Tensor forward(Tensor input, Tensor mask)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(mask);
        if (!mask.shape.AsSpan().SequenceEqual(input.shape.AsSpan()[..^1]))
            throw new ArgumentException($"The mask must be [{string.Join(", ", input.shape.SkipLast(1))}], not [{string.Join(", ", mask.shape)}].", nameof(mask));
        return Activate(input, mask);
    }

    private Tensor Activate(Tensor input, Tensor? mask)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (input.dim() < 2 || input.size(-1) != alpha.size(0))
            throw new ArgumentException($"Inputs must be [..., {alpha.size(0)}], not [{string.Join(", ", input.shape)}].", nameof(input));
        var (mean, variance) = training ? BatchStatistics(input.reshape(-1, alpha.size(0)), mask) : (running_mean, running_var);
        Tensor p = ((input - mean) * (variance + eps).rsqrt()).sigmoid();
        return input * (p + (1 - p) * alpha);
    }

    private (Tensor Mean, Tensor Variance) BatchStatistics(Tensor rows, Tensor? mask)
    {
        Tensor mean, variance, count;
        if (mask is null)
        {
            mean = rows.mean([0]);
            variance = (rows - mean).square().mean([0]);
            count = tensor((double)rows.size(0), rows.dtype, rows.device);
        }
        else
        {
            Tensor valid = mask.reshape(-1, 1).to(rows.dtype);
            count = valid.sum();
            Tensor weight = valid / count.clamp_min(1);
            mean = (rows * weight).sum(dim: 0);
            variance = ((rows - mean).square() * weight).sum(dim: 0);
        }
        using (no_grad())
        using (NewDisposeScope())
        {
            // Like batch normalisation: the running variance is the unbiased one, and a batch without valid positions changes nothing.
            Tensor rate = count.gt(0).to(rows.dtype) * Momentum;
            running_mean.add_((mean.detach() - running_mean) * rate);
            running_var.add_((variance.detach() * (count / (count - 1).clamp_min(1)) - running_var) * rate);
        }
        return (mean, variance);
    }
}
