using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Interpretability;

/// <summary>The behavioural loss (Bushnaq et al., 2024, section 2): how far a network's outputs are from those of the trained network itself. It is 0 there, and needs no labels.</summary>
public static class BehavioralLoss
{
    /// <summary>(1/n) sum_x |F(x) - F*(x)|^2.</summary>
    /// <param name="outputs">Outputs of the changed network [n, ...].</param>
    /// <param name="reference">Outputs of the trained network, of the same shape.</param>
    /// <returns>A scalar.</returns>
    /// <exception cref="ArgumentException">The shapes differ or there is no row.</exception>
    public static Tensor Of(Tensor outputs, Tensor reference)
    {
        ArgumentNullException.ThrowIfNull(outputs);
        ArgumentNullException.ThrowIfNull(reference);
        if (outputs.dim() == 0 || outputs.shape[0] == 0 || !outputs.shape.SequenceEqual(reference.shape))
            throw new ArgumentException($"Outputs and reference must have the same shape [n, ...], not [{string.Join(", ", outputs.shape)}] and [{string.Join(", ", reference.shape)}].", nameof(outputs));
        return (outputs - reference).square().sum() / outputs.shape[0];
    }
}

/// <summary>
/// The Hessian of the behavioural loss at the trained network: 2/n sum_x J^T J with J = d outputs / d parameters, exactly, since residuals vanish there. Directions in its null space are degenerate to
/// second order, and its rank is the effective number of parameters of a quadratic basin (2 lambda of singular learning theory).
/// </summary>
public static class BehavioralHessian
{
    private const long MostParameters = 20_000;

    /// <summary>The Hessian over some parameters; for small layers, since it is [p, p].</summary>
    /// <param name="model">The network, in the mode in which it should be looked at.</param>
    /// <param name="parameters">Parameters of it, with p numbers together; they must require gradients.</param>
    /// <param name="data">Inputs [n, ...], n at least 1.</param>
    /// <returns>Float64 [p, p].</returns>
    /// <exception cref="ArgumentException">There are no inputs, the outputs do not depend on the parameters, or p is above 20,000.</exception>
    public static Tensor Matrix(Module<Tensor, Tensor> model, IReadOnlyList<Parameter> parameters, Tensor data)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentNullException.ThrowIfNull(data);
        long size = parameters.Sum(p => p.numel());
        if (size > MostParameters) throw new ArgumentException($"A Hessian over {size} parameters does not fit; {MostParameters} at most.", nameof(parameters));
        if (data.dim() == 0 || data.shape[0] == 0) throw new ArgumentException("There are no inputs.", nameof(data));
        using var scope = NewDisposeScope();
        Tensor hessian = zeros(size, size, dtype: float64);
        for (long row = 0; row < data.shape[0]; row++)
        {
            using var one = NewDisposeScope();
            Tensor jacobian = JacobianProducts.Rows(model.call(data.narrow(0, row, 1)), [.. parameters]).to(float64).cpu();
            hessian.addmm_(jacobian.t(), jacobian);
        }
        return (hessian * (2.0 / data.shape[0])).MoveToOuterDisposeScope();
    }

    /// <summary>The rank of the Hessian: how many directions change the outputs to second order.</summary>
    /// <param name="model">The network.</param>
    /// <param name="parameters">Parameters of it.</param>
    /// <param name="data">Inputs [n, ...].</param>
    /// <param name="tolerance">Eigenvalues below this share of the largest are 0.</param>
    public static int Rank(Module<Tensor, Tensor> model, IReadOnlyList<Parameter> parameters, Tensor data, double tolerance = 1e-10)
    {
        using var scope = NewDisposeScope();
        return DegeneracyReport.Rank(Matrix(model, parameters, data), tolerance);
    }
}
