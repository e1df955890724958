namespace Priori.Interpretability;

/// <summary>The activation functions of the paper's study.</summary>
public enum HiddenActivation
{
    /// <summary>tanh, saturating on both sides.</summary>
    Tanh,

    /// <summary>max(0, x).</summary>
    Relu,

    /// <summary>log(1 + e^x).</summary>
    Softplus,

    /// <summary>x above 0, e^x - 1 below.</summary>
    Elu,

    /// <summary>x sigmoid(x).</summary>
    Swish,

    /// <summary>log(1 + e^x) - log 2, which is 0 at 0.</summary>
    CentredSoftplus,
}

/// <summary>What the study needs to know of its activation functions.</summary>
public static class HiddenActivations
{
    /// <summary>Probability that a normal variable lies within two deviations: its quantiles up to there give the truncated normal.</summary>
    private static readonly double s_withinTwo = MathNet.Numerics.SpecialFunctions.Erf(Math.Sqrt(2));

    /// <summary>A module that computes the activation.</summary>
    /// <param name="activation">The activation.</param>
    public static Module<Tensor, Tensor> Create(this HiddenActivation activation) => activation switch
    {
        HiddenActivation.Tanh => Tanh(),
        HiddenActivation.Relu => ReLU(),
        HiddenActivation.Softplus => Softplus(),
        HiddenActivation.Elu => ELU(),
        HiddenActivation.Swish => SiLU(),
        HiddenActivation.CentredSoftplus => new CentredSoftplus(),
        _ => throw new ArgumentOutOfRangeException(nameof(activation), activation, "Unknown activation."),
    };

    /// <summary>
    /// Lower edge for <see cref="EntropyBasedAdaptiveBinning"/>: 0 for ReLU and softplus and -1.000001 for tanh and ELU (paper's code), -log 2 - 1e-6 for centred softplus, none for swish, whose minimum
    /// -0.278 no unit need reach.
    /// </summary>
    /// <param name="activation">The activation.</param>
    public static double? LowerEdge(this HiddenActivation activation) => activation switch
    {
        HiddenActivation.Relu or HiddenActivation.Softplus => 0,
        HiddenActivation.Tanh or HiddenActivation.Elu => -1.000001,
        HiddenActivation.CentredSoftplus => -Math.Log(2) - 1e-6,
        _ => null,
    };

    /// <summary>
    /// Initialises every Linear and Conv2d as the paper's code does: weights from a normal of standard deviation he / sqrt(fan in), truncated at two deviations,
    /// with he = 1 for tanh and 2 otherwise; biases 0. Uses libtorch's generator.
    /// </summary>
    /// <param name="model">The network, changed in place.</param>
    /// <param name="activation">The activation of its hidden layers.</param>
    public static void Initialize(Module model, HiddenActivation activation)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        foreach (Module module in model.modules())
        {
            (Tensor? weight, Tensor? bias) = module switch
            {
                TorchSharp.Modules.Linear linear => (linear.weight, linear.bias),
                TorchSharp.Modules.Conv2d convolution => (convolution.weight, convolution.bias),
                _ => ((Tensor?)null, (Tensor?)null),
            };
            if (weight is null) continue;
            double deviation = (activation == HiddenActivation.Tanh ? 1 : 2) / Math.Sqrt(weight.numel() / weight.shape[0]);
            weight.uniform_(-s_withinTwo, s_withinTwo).erfinv_().mul_(Math.Sqrt(2) * deviation);
            bias?.zero_();
        }
    }

    private sealed class CentredSoftplus() : Module<Tensor, Tensor>(nameof(CentredSoftplus))
    {
        public override Tensor forward(Tensor input) => functional.softplus(input) - Math.Log(2);
    }
}
