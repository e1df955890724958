using System.Numerics;
using TorchSharp.Modules;

namespace Priori.Training;

/// <summary>
/// Adam (Kingma and Ba, ICLR 2015, algorithm 1) for embedding tables, also known as lazy or sparse Adam: a step updates the moments and weights of the rows
/// that occur in the batch and of no others, so it costs the same for a table of ten thousand rows as for one of ten million.
/// <code>m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  w -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)</code>
/// t counts the steps of the table, as PyTorch's SparseAdam does; moments of a row do not decay while the row is absent. Where every row occurs in every step it is Adam.
/// </summary>
public sealed class RowwiseAdam : RowwiseOptimizer
{
    private readonly double _beta1, _beta2;

    /// <summary>Creates the optimizer. State takes twice the memory of the parameters, from their first gradient on.</summary>
    /// <param name="parameters">Tables, and any other parameters.</param>
    /// <param name="lr">Learning rate, at least 0; default 1e-3.</param>
    /// <param name="beta1">Decay of the first moment, in [0, 1); default 0.9.</param>
    /// <param name="beta2">Decay of the second moment, in [0, 1); default 0.999.</param>
    /// <param name="eps">Added to the root of the second moment, at least 0; default 1e-8.</param>
    /// <param name="weight_decay">Times the weights is added to the gradients (L2 penalty), of a table in the rows of the batch only; default 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is outside its range.</exception>
    public RowwiseAdam(IEnumerable<Parameter> parameters, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, double weight_decay = 0)
        : base(parameters, lr, eps, weight_decay)
    {
        if (beta1 is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(beta1), beta1, "beta1 must be in [0, 1).");
        if (beta2 is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(beta2), beta2, "beta2 must be in [0, 1).");
        (_beta1, _beta2) = (beta1, beta2);
    }

    private protected override long[] Shape(long elements) => [1, elements];

    private protected override long StateWidth(long dim) => 2 * dim; // m and v side by side: a row's state is one piece of memory.

    private protected override void Update(Tensor weights, Tensor gradients, Tensor state, long step, double lr)
    {
        long dim = weights.size(1);
        Tensor m = state.narrow(1, 0, dim), v = state.narrow(1, dim, dim);
        if (WeightDecay != 0) gradients = gradients.add(weights, WeightDecay);
        m.mul_(_beta1).add_(gradients, 1 - _beta1);
        v.mul_(_beta2).addcmul_(gradients, gradients, 1 - _beta2);
        Tensor deviation = v.sqrt().div_(Math.Sqrt(1 - Math.Pow(_beta2, step))).add_(Eps);
        weights.addcdiv_(m, deviation, -lr / (1 - Math.Pow(_beta1, step)));
    }

    private protected override unsafe void Update<T>(T* weights, T* gradients, T* state, ReadOnlySpan<long> rows, int dim, long step, double lr)
    {
        T beta1 = T.CreateTruncating(_beta1), beta2 = T.CreateTruncating(_beta2), rest1 = T.CreateTruncating(1 - _beta1), rest2 = T.CreateTruncating(1 - _beta2);
        T decay = T.CreateTruncating(WeightDecay), eps = T.CreateTruncating(Eps);
        T rate = T.CreateTruncating(lr / (1 - Math.Pow(_beta1, step))), scale = T.CreateTruncating(1 / Math.Sqrt(1 - Math.Pow(_beta2, step)));
        var epsilons = new Vector<T>(eps);
        for (int i = 0; i < rows.Length; i++)
        {
            Prefetch(weights, rows, i, dim);
            Prefetch(state, rows, i, 2 * dim);
            T* w = weights + (rows[i] * dim), g = gradients + ((long)i * dim), m = state + (rows[i] * 2 * dim), v = m + dim;
            int j = 0;
            for (; j <= dim - Vector<T>.Count; j += Vector<T>.Count)
            {
                Vector<T> weight = Vector.Load(w + j);
                Vector<T> gradient = Vector.Load(g + j) + (weight * decay);
                Vector<T> mean = (Vector.Load(m + j) * beta1) + (gradient * rest1);
                Vector<T> square = (Vector.Load(v + j) * beta2) + (gradient * gradient * rest2);
                Vector.Store(mean, m + j);
                Vector.Store(square, v + j);
                Vector.Store(weight - (mean * rate / ((Vector.SquareRoot(square) * scale) + epsilons)), w + j);
            }
            for (; j < dim; j++)
            {
                T gradient = g[j] + (w[j] * decay);
                m[j] = (m[j] * beta1) + (gradient * rest1);
                v[j] = (v[j] * beta2) + (gradient * gradient * rest2);
                w[j] -= m[j] * rate / ((T.Sqrt(v[j]) * scale) + eps);
            }
        }
    }
}
