using TorchSharp.Modules;
using F = TorchSharp.torch.nn.functional;

namespace Priori.Nn;

/// <summary>
/// A 2-D convolution with the parameters, names and initialisation of PyTorch's <c>Conv2d</c>, which is right on every processor.
/// </summary>
/// <remarks>
/// The oneDNN library in libtorch 2.10 gives wrong results, sometimes NaN, forward and backward, for kernels larger than 1x1 in single precision when a number of channels is above the width of a vector
/// register and not a multiple of it (measured on AMD EPYC with AVX-512 and AVX2: 24 input channels differ by more than 1; the SSE4.1 kernels are right). Such channels
/// are filled up with zeros to a multiple of 16, which changes no result. Networks of odd widths are the rule after merging.
/// </remarks>
public sealed class AlignedConvolution : Module<Tensor, Tensor>
{
    private const long VectorWidth = 16, SmallestVectorWidth = 8;
    private readonly long _stride, _padding, _dilation, _groups;

    /// <summary>Creates the layer.</summary>
    /// <param name="inputs">Input channels.</param>
    /// <param name="outputs">Output channels.</param>
    /// <param name="kernel">Side of the kernel.</param>
    /// <param name="stride">Stride.</param>
    /// <param name="padding">Zero padding on every side.</param>
    /// <param name="dilation">Dilation.</param>
    /// <param name="groups">Groups.</param>
    /// <param name="bias">Whether there is a bias.</param>
    public AlignedConvolution(long inputs, long outputs, long kernel, long stride = 1, long padding = 0, long dilation = 1, long groups = 1, bool bias = true) : base(nameof(AlignedConvolution))
    {
        (_stride, _padding, _dilation, _groups) = (stride, padding, dilation, groups);
        using Conv2d start = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups: groups, bias: bias);
        register_parameter("weight", new Parameter(start.weight.detach().clone()));
        if (bias) register_parameter("bias", new Parameter(start.bias!.detach().clone()));
    }

    /// <summary>The kernel [outputs, inputs / groups, kernel, kernel].</summary>
    public Parameter Weight => get_parameter("weight")!;

    /// <summary>[batch, outputs, height, width] of [batch, inputs, height, width].</summary>
    public override Tensor forward(Tensor input) => Apply(input, Weight, has_parameter("bias") ? get_parameter("bias") : null, _stride, _padding, _dilation, _groups);

    /// <summary>The convolution as a function.</summary>
    /// <param name="input">[batch, inputs, height, width].</param>
    /// <param name="weight">[outputs, inputs / groups, kernel, kernel].</param>
    /// <param name="bias">[outputs], or null.</param>
    /// <param name="stride">Stride.</param>
    /// <param name="padding">Zero padding on every side.</param>
    /// <param name="dilation">Dilation.</param>
    /// <param name="groups">Groups; channels of grouped convolutions are not filled up.</param>
    public static Tensor Apply(Tensor input, Tensor weight, Tensor? bias, long stride = 1, long padding = 0, long dilation = 1, long groups = 1)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(weight);
        long inputs = weight.shape[1], outputs = weight.shape[0];
        long fillInputs = Missing(inputs), fillOutputs = Missing(outputs);
        bool fill = fillInputs + fillOutputs > 0 && groups == 1 && weight.shape[^1] > 1 && input.dtype == ScalarType.Float32 && input.device_type == DeviceType.CPU;
        if (!fill) return F.conv2d(input, weight, bias, [stride, stride], [padding, padding], [dilation, dilation], groups);
        Tensor output = F.conv2d(F.pad(input, [0, 0, 0, 0, 0, fillInputs]), F.pad(weight, [0, 0, 0, 0, 0, fillInputs, 0, fillOutputs]), null, [stride, stride], [padding, padding], [dilation, dilation]);
        if (fillOutputs > 0) output = output.narrow(1, 0, outputs);
        return bias is null ? output : output + bias.view(1, -1, 1, 1);
    }

    private static long Missing(long channels) => channels <= SmallestVectorWidth ? 0 : (VectorWidth - channels % VectorWidth) % VectorWidth;
}
