using Priori.Runtime;

namespace Priori.Merging;

/// <summary>Ways to choose b of n task vectors (Zhang et al., NeurIPS 2024, appendix B: budget).</summary>
public static class TaskVectorSelector
{
    /// <summary>b vectors at random, ascending.</summary>
    /// <param name="count">n.</param>
    /// <param name="budget">b, in 1..n.</param>
    /// <param name="seed">The seed.</param>
    /// <exception cref="ArgumentOutOfRangeException">b is outside 1..n.</exception>
    public static int[] Random(int count, int budget, int seed)
    {
        Check(count, budget);
        int[] order = [.. Enumerable.Range(0, count)];
        SplitMix64.For(seed).Shuffle(order.AsSpan());
        return [.. order.Take(budget).Order()];
    }

    /// <summary>The b vectors whose data sets are most like the target: cosine of the mean features.</summary>
    /// <param name="target">Mean feature of the target data, [d].</param>
    /// <param name="sources">Mean feature of each vector's data, [n, d].</param>
    /// <param name="budget">b, in 1..n.</param>
    /// <returns>Indexes, the most similar first.</returns>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static int[] FeatureSimilarity(Tensor target, Tensor sources, int budget)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(sources);
        if (target.dim() != 1 || sources.dim() != 2 || sources.shape[1] != target.shape[0])
            throw new ArgumentException($"Mean features must be [d] and [n, d], not [{string.Join(", ", target.shape)}] and [{string.Join(", ", sources.shape)}].", nameof(sources));
        Check((int)sources.shape[0], budget);
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        return Largest(functional.cosine_similarity(sources, target.unsqueeze(0), 1, 1e-12), budget);
    }

    /// <summary>The gradient of a loss with respect to the coefficients at the base model (Lambda = 0), of the shape of the coefficients, which are as before after the call.</summary>
    /// <param name="composition">A composition of all n vectors.</param>
    /// <param name="loss">The loss on target data, as for <see cref="AnisotropicComposition.Loss(Func{Func{Tensor, Tensor}, Tensor})"/>.</param>
    public static Tensor GradientAtBase(AnisotropicComposition composition, Func<Func<Tensor, Tensor>, Tensor> loss)
    {
        ArgumentNullException.ThrowIfNull(composition);
        using var scope = NewDisposeScope();
        Tensor before = composition.Coefficients.detach().clone();
        composition.Set(zeros_like(before));
        try
        {
            return Training.Gradients.Of(composition.Loss(loss), [composition.Coefficients])[0].detach().MoveToOuterDisposeScope();
        }
        finally
        {
            composition.Set(before);
        }
    }

    /// <summary>The b vectors with the largest gradient: sum over blocks of |d L / d lambda|.</summary>
    /// <param name="gradient">Gradient at the base model, [n, ...].</param>
    /// <param name="budget">b, in 1..n.</param>
    /// <returns>Indexes, the largest first.</returns>
    public static int[] Gradient(Tensor gradient, int budget)
    {
        ArgumentNullException.ThrowIfNull(gradient);
        Check((int)gradient.shape[0], budget);
        using var scope = NewDisposeScope();
        return Largest(gradient.abs().flatten(1).sum(dim: 1), budget);
    }

    /// <summary>b vectors mixed of blocks of different ones: block j of the r-th is that of the vector with the r-th largest |d L / d lambda^(j)|.</summary>
    /// <param name="composition">A composition of all n vectors with a coefficient a block.</param>
    /// <param name="gradient">Gradient at the base model, [n, blocks] or [n, blocks, K].</param>
    /// <param name="budget">b, in 1..n.</param>
    /// <exception cref="ArgumentException">The gradient has no block axis.</exception>
    public static TaskVector[] BlockwiseGradient(AnisotropicComposition composition, Tensor gradient, int budget)
    {
        ArgumentNullException.ThrowIfNull(composition);
        ArgumentNullException.ThrowIfNull(gradient);
        if (gradient.dim() < 2 || gradient.shape[1] != composition.Blocks.Count) throw new ArgumentException($"The gradient must be [n, {composition.Blocks.Count}, ...], not [{string.Join(", ", gradient.shape)}].", nameof(gradient));
        Check(composition.Vectors.Count, budget);
        using var scope = NewDisposeScope();
        Tensor size = gradient.dim() == 3 ? gradient.abs().sum(dim: 2) : gradient.abs();
        int[][] chosen = [.. composition.Blocks.Select((_, j) => Largest(size.select(1, j), budget))];
        return [.. Enumerable.Range(0, budget).Select(r =>
        {
            Dictionary<string, Tensor> dense = [];
            Dictionary<string, LowRankDelta> factors = [];
            for (int j = 0; j < chosen.Length; j++)
            {
                (string block, TaskVector vector) = (composition.Blocks[j], composition.Vectors[chosen[j][r]]);
                if (vector.Dense.TryGetValue(block, out Tensor? tensor)) dense[block] = tensor;
                else if (vector.Factors.TryGetValue(block, out LowRankDelta? delta)) factors[block] = delta;
            }
            return TaskVector.FromChanges(dense, factors, $"blockwise {r + 1}");
        })];
    }

    private static int[] Largest(Tensor scores, int budget) => [.. scores.sort(dim: 0, descending: true, stable: true).Indices.narrow(0, 0, budget).cpu().data<long>().ToArray().Select(i => (int)i)];

    private static void Check(int count, int budget)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(budget, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(budget, count);
    }
}
