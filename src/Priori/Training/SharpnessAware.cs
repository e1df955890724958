namespace Priori.Training;

/// <summary>
/// Sharpness-aware minimization (Foret, Kleiner, Mobahi, Neyshabur, ICLR 2021, eq. 2-3): the gradient is taken at w + rho g / ||g||,
/// where the loss is about the highest in a ball of radius rho around w, and applied at w.
/// </summary>
public static class SharpnessAware
{
    /// <summary>
    /// A scalar whose value is the loss at the present parameters and whose gradient is that at the perturbed ones: minimise it with any optimizer (<see cref="TrainingStep.Minimize(string, Tensor)"/>).
    /// The loss is computed twice; the parameters are the same, to the bit, after the call, and their gradients are dropped.
    /// </summary>
    /// <param name="parameters">The parameters w; ones that the loss does not depend on are left alone.</param>
    /// <param name="loss">Computes the loss from the parameters as they are. It is called twice.</param>
    /// <param name="rho">Radius of the ball, at least 0. Default 0.05, as in the paper; 0 gives the plain gradient.</param>
    /// <exception cref="ArgumentException">No parameter requires a gradient.</exception>
    /// <exception cref="ArgumentOutOfRangeException">rho is negative.</exception>
    public static Tensor Loss(IEnumerable<TorchSharp.Modules.Parameter> parameters, Func<Tensor> loss, double rho = 0.05)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentNullException.ThrowIfNull(loss);
        ArgumentOutOfRangeException.ThrowIfNegative(rho);
        TorchSharp.Modules.Parameter[] trained = [.. parameters.Where(p => p.requires_grad)];
        if (trained.Length == 0) throw new ArgumentException("No parameter requires a gradient.", nameof(parameters));
        Tensor value = loss();
        if (!value.requires_grad) return value + 0 * trained[0].sum(); // Nothing to learn from: a gradient of 0.
        Tensor[] gradients = Gradients.Of(value, trained);
        Tensor norm = stack(gradients.Select(g => g.norm())).norm();
        double length = norm.ToDouble();
        if (rho > 0 && length > 0 && double.IsFinite(length))
        {
            Tensor[] before = [.. trained.Select(p => p.detach().clone())];
            using (no_grad())
                for (int i = 0; i < trained.Length; i++) trained[i].add_(gradients[i], rho / length);
            try
            {
                Tensor perturbed = loss();
                gradients = perturbed.requires_grad ? Gradients.Of(perturbed, trained) : [.. trained.Select(p => zeros_like(p))];
            }
            finally
            {
                using (no_grad())
                    for (int i = 0; i < trained.Length; i++) trained[i].copy_(before[i]);
            }
        }
        return Gradients.With(value, trained, gradients);
    }
}
