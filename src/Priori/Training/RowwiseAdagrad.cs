using System.Numerics;
using TorchSharp.Modules;

namespace Priori.Training;

/// <summary>
/// Row-wise Adagrad, the optimizer of large embedding tables (Gupta et al., "Training Recommender Systems at Scale: Communication-Efficient Model and Data Parallelism", KDD 2021;
/// the default of DLRM, Naumov et al., 2019): Adagrad (Duchi, Hazan, Singer, JMLR 2011) with one accumulator a row instead of one a weight.
/// <code>a += mean_j g_j^2,  w_j -= lr g_j / (sqrt(a) + eps)</code>
/// Only the rows of the batch are touched; state is a number a row. Parameters with dense gradients are updated by plain Adagrad, as are tables of width 1.
/// </summary>
public sealed class RowwiseAdagrad : RowwiseOptimizer
{
    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Tables, and any other parameters.</param>
    /// <param name="lr">Learning rate, at least 0; default 1e-2.</param>
    /// <param name="eps">Added to the root of the accumulator, at least 0; default 1e-10.</param>
    /// <param name="weight_decay">Times the weights is added to the gradients (L2 penalty), of a table in the rows of the batch only; default 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is outside its range.</exception>
    public RowwiseAdagrad(IEnumerable<Parameter> parameters, double lr = 1e-2, double eps = 1e-10, double weight_decay = 0)
        : base(parameters, lr, eps, weight_decay)
    {
    }

    private protected override long[] Shape(long elements) => [elements, 1];

    private protected override long StateWidth(long dim) => 1;

    private protected override void Update(Tensor weights, Tensor gradients, Tensor state, long step, double lr)
    {
        if (WeightDecay != 0) gradients = gradients.add(weights, WeightDecay);
        state.add_(weights.size(1) == 1 ? gradients.square() : gradients.square().mean([1], keepdim: true));
        weights.addcdiv_(gradients, state.sqrt().add_(Eps), -lr);
    }

    private protected override unsafe void Update<T>(T* weights, T* gradients, T* state, ReadOnlySpan<long> rows, int dim, long step, double lr)
    {
        T decay = T.CreateTruncating(WeightDecay), eps = T.CreateTruncating(Eps), rate = T.CreateTruncating(lr), width = T.CreateTruncating(dim);
        for (int i = 0; i < rows.Length; i++)
        {
            Prefetch(weights, rows, i, dim);
            Prefetch(state, rows, i, 1);
            T* w = weights + (rows[i] * dim), g = gradients + ((long)i * dim);
            Vector<T> squares = Vector<T>.Zero;
            T rest = T.Zero;
            int j = 0;
            for (; j <= dim - Vector<T>.Count; j += Vector<T>.Count)
            {
                Vector<T> gradient = Vector.Load(g + j) + (Vector.Load(w + j) * decay);
                Vector.Store(gradient, g + j);
                squares += gradient * gradient;
            }
            for (; j < dim; j++)
            {
                g[j] += w[j] * decay;
                rest += g[j] * g[j];
            }
            T accumulator = state[rows[i]] += (Vector.Sum(squares) + rest) / width;
            T factor = rate / (T.Sqrt(accumulator) + eps);
            for (j = 0; j <= dim - Vector<T>.Count; j += Vector<T>.Count) Vector.Store(Vector.Load(w + j) - (Vector.Load(g + j) * factor), w + j);
            for (; j < dim; j++) w[j] -= g[j] * factor;
        }
    }
}
