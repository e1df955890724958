namespace Priori.Nn;

/// <summary>
/// A multilayer perceptron: [Linear, BatchNorm?, activation, Dropout?] for each hidden width, then Linear.
/// Inputs of more than two dimensions are flattened to [batch, inputs]; 1-dimensional hidden widths may be empty (a linear model).
/// </summary>
public sealed class Mlp : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> layers;

    /// <summary>Creates the network with PyTorch's default initialisation.</summary>
    /// <param name="inputs">Input width.</param>
    /// <param name="hidden">Hidden widths, in order; empty for a linear model.</param>
    /// <param name="outputs">Output width.</param>
    /// <param name="activation">Makes one activation; ReLU by default.</param>
    /// <param name="batchNorm">Whether BatchNorm1d follows each hidden Linear.</param>
    /// <param name="dropout">Dropout probability after each activation, in [0, 1); 0 adds no layer.</param>
    /// <exception cref="ArgumentOutOfRangeException">A width is less than 1 or the probability is outside its range.</exception>
    public Mlp(long inputs, IReadOnlyList<long> hidden, long outputs, Func<Module<Tensor, Tensor>>? activation = null, bool batchNorm = false, double dropout = 0)
        : base(nameof(Mlp))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(inputs, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(outputs, 1);
        if (dropout is < 0 or >= 1) throw new ArgumentOutOfRangeException(nameof(dropout), dropout, "The probability must be in [0, 1).");
        activation ??= () => nn.ReLU();
        List<Module<Tensor, Tensor>> parts = [nn.Flatten()];
        long width = inputs;
        foreach (long next in hidden)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(next, 1, nameof(hidden));
            parts.Add(nn.Linear(width, next));
            if (batchNorm) parts.Add(nn.BatchNorm1d(next));
            parts.Add(activation());
            if (dropout > 0) parts.Add(nn.Dropout(dropout));
            width = next;
        }
        parts.Add(nn.Linear(width, outputs));
        layers = nn.Sequential(parts);
        RegisterComponents();
    }

    /// <summary>Logits [batch, outputs] of inputs [batch, ...].</summary>
    public override Tensor forward(Tensor input) => layers.forward(input);
}
