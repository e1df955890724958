namespace Priori.Nn;

/// <summary>What normalises the hidden layers of a network.</summary>
public enum Normalization
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>Batch normalisation (Ioffe, Szegedy, 2015).</summary>
    BatchNorm,

    /// <summary>Layer normalisation (Ba, Kiros, Hinton, 2016).</summary>
    LayerNorm,
}

/// <summary>
/// A multilayer perceptron (tower): [Linear, normalisation?, activation, Dropout?] for each hidden width, then Linear.
/// Inputs of more than two dimensions are flattened to [batch, inputs]; hidden widths may be empty (a linear model).
/// </summary>
public sealed class Mlp : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> layers;

    /// <summary>Creates the network with PyTorch's default initialisation.</summary>
    /// <param name="inputs">Input width.</param>
    /// <param name="hidden">Hidden widths, in order; empty for a linear model.</param>
    /// <param name="outputs">Output width; 0 for no last Linear, so that the output is the last hidden layer.</param>
    /// <param name="activation">Makes one activation of a width (<see cref="Dice"/> needs it); ReLU by default.</param>
    /// <param name="normalization">What follows each hidden Linear.</param>
    /// <param name="dropout">Dropout probability after each activation, in [0, 1); 0 adds no layer.</param>
    /// <exception cref="ArgumentException">A width is less than 1, there is no layer at all, or the probability is outside its range.</exception>
    public Mlp(long inputs, IReadOnlyList<long> hidden, long outputs, Func<long, Module<Tensor, Tensor>>? activation = null, Normalization normalization = Normalization.None, double dropout = 0)
        : base(nameof(Mlp))
    {
        ArgumentNullException.ThrowIfNull(hidden);
        ArgumentOutOfRangeException.ThrowIfLessThan(inputs, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(outputs);
        if (outputs == 0 && hidden.Count == 0) throw new ArgumentException("A network without a last layer needs at least one hidden width.", nameof(hidden));
        if (dropout is < 0 or >= 1) throw new ArgumentOutOfRangeException(nameof(dropout), dropout, "The probability must be in [0, 1).");
        activation ??= _ => nn.ReLU();
        List<Module<Tensor, Tensor>> parts = [nn.Flatten()];
        long width = inputs;
        foreach (long next in hidden)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(next, 1, nameof(hidden));
            parts.Add(nn.Linear(width, next));
            if (normalization == Normalization.BatchNorm) parts.Add(nn.BatchNorm1d(next));
            if (normalization == Normalization.LayerNorm) parts.Add(nn.LayerNorm(next));
            parts.Add(activation(next));
            if (dropout > 0) parts.Add(nn.Dropout(dropout));
            width = next;
        }
        if (outputs > 0) parts.Add(nn.Linear(width, outputs));
        OutputDim = outputs > 0 ? outputs : width;
        layers = nn.Sequential(parts);
        RegisterComponents();
    }

    /// <summary>Width of the output.</summary>
    public long OutputDim { get; }

    /// <summary>Outputs [batch, <see cref="OutputDim"/>] of inputs [batch, ...].</summary>
    public override Tensor forward(Tensor input) => layers.forward(input);
}
