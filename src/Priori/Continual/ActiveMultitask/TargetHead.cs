using Priori.Numerics;
using TorchSharp.Modules;

namespace Priori.Continual;

/// <summary>The loss of heads.</summary>
public enum HeadLoss
{
    /// <summary>Squared error; of -1 and 1 for two classes.</summary>
    Squared,
    /// <summary>Logistic loss log(1 + exp(-y f)) of labels -1 and 1.</summary>
    Logistic,
}

/// <summary>The linear head of one task on frozen features.</summary>
public static class TargetHead
{
    /// <summary>argmin over (w, b) of the sum of the losses of w . z + b, plus ridge/2 |w|^2: in closed form for squared error (half the square), by L-BFGS for the logistic loss.</summary>
    /// <param name="features">z [n, k].</param>
    /// <param name="labels">y [n]; -1 and 1 for the logistic loss.</param>
    /// <param name="ridge">Ridge, at least 0.</param>
    /// <param name="intercept">Whether there is b; it is not penalised.</param>
    /// <param name="loss">The loss.</param>
    /// <returns>A head to [n, 1] of the features' type, on their device.</returns>
    /// <exception cref="ArgumentException">The shapes do not fit, the ridge is negative, or fewer rows than dimensions come without ridge.</exception>
    public static Linear Fit(Tensor features, Tensor labels, double ridge = 0, bool intercept = false, HeadLoss loss = HeadLoss.Squared)
    {
        ArgumentNullException.ThrowIfNull(features);
        ArgumentNullException.ThrowIfNull(labels);
        if (features.dim() != 2 || labels.dim() != 1 || features.shape[0] != labels.shape[0]) throw new ArgumentException($"Features must be [n, k] and labels [n], not [{string.Join(", ", features.shape)}] and [{string.Join(", ", labels.shape)}].", nameof(labels));
        ArgumentOutOfRangeException.ThrowIfNegative(ridge);
        (long n, long k) = (features.shape[0], features.shape[1]);
        if (ridge == 0 && n < k) throw new ArgumentException($"{n} labelled rows leave a least squares head of {k} dimensions under-determined; pass ridge > 0.", nameof(ridge));
        if (loss == HeadLoss.Logistic && !labels.abs().eq(1).all().item<bool>()) throw new ArgumentException("The logistic loss takes labels -1 and 1.", nameof(labels));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor z = features.detach().to(float64), y = labels.detach().to(float64).to(z.device);
        (Tensor weight, Tensor bias) = loss == HeadLoss.Squared ? LeastSquares(z, y, ridge, intercept) : Logistic(z, y, ridge, intercept);
        Linear head = Linear(k, 1, intercept, features.device, features.dtype);
        head.weight.copy_(weight.unsqueeze(0));
        if (intercept) head.bias!.copy_(bias.view(1));
        return head.ToOuterScope();
    }

    private static (Tensor Weight, Tensor Bias) LeastSquares(Tensor z, Tensor y, double ridge, bool intercept)
    {
        Tensor mean = intercept ? z.mean([0L]) : zeros_like(z[0]), level = intercept ? y.mean() : zeros([], float64, z.device);
        Tensor centred = z - mean;
        long k = z.shape[1];
        // As one least squares problem, so that the condition is not squared; the driver of minimal norm also takes dependent features.
        Tensor rows = ridge > 0 ? cat([centred, eye(k, dtype: float64, device: z.device) * Math.Sqrt(ridge)]) : centred;
        Tensor right = ridge > 0 ? cat([y - level, zeros(k, float64, z.device)]) : y - level;
        Tensor weight = linalg.pinv(rows).mv(right);
        return (weight, level - mean.dot(weight));
    }

    private static (Tensor Weight, Tensor Bias) Logistic(Tensor z, Tensor y, double ridge, bool intercept)
    {
        long k = z.shape[1];
        Tensor rows = intercept ? cat([z, ones(z.shape[0], 1, float64, z.device)], 1) : z;
        Tensor penalty = ones(rows.shape[1], float64, z.device) * ridge;
        if (intercept) penalty[k] = 0;
        LbfgsResult result = Lbfgs.Minimize(
            b =>
            {
                Tensor margin = y * rows.mv(b);
                Tensor value = functional.softplus(-margin).sum() + (0.5 * (penalty * b.square()).sum());
                return (value, rows.t().mv(-y * (-margin).sigmoid()) + (penalty * b));
            },
            zeros(rows.shape[1], float64, z.device),
            new LbfgsOptions { Tolerance = 1e-8 });
        return (result.X.narrow(0, 0, k), intercept ? result.X[k] : zeros([], float64, z.device));
    }
}
