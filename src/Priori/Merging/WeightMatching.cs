using Priori.Nn;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Merging;

/// <summary>
/// Weight matching (Ainsworth et al., Git Re-Basin, ICLR 2023, algorithm 1): coordinate ascent on the inner product of A's weights with B's permuted weights.
/// One group is solved exactly by linear assignment while all others stay; no data are needed. Running statistics are left out.
/// </summary>
public static class WeightMatching
{
    /// <summary>Matches the units of two checkpoints of the same wiring.</summary>
    /// <param name="spec">The wiring.</param>
    /// <param name="a">Tensors of A by name.</param>
    /// <param name="b">Tensors of B by name.</param>
    /// <param name="maxSweeps">Most sweeps over all groups; 100 in the published code.</param>
    /// <param name="seed">Seed of the random order of the groups.</param>
    /// <returns>Permutations, the similarities of the last sweep, and the objective after each sweep (it never falls).</returns>
    /// <exception cref="ArgumentException">A checkpoint does not fit the wiring.</exception>
    public static MatchResult Match(PermutationSpec spec, IReadOnlyDictionary<string, Tensor> a, IReadOnlyDictionary<string, Tensor> b, int maxSweeps = 100, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxSweeps, 1);
        spec.Validate(a);
        spec.Validate(b);
        using var scope = NewDisposeScope();
        string[] names = [.. spec.Groups.SelectMany(g => g.Axes).Select(x => x.Tensor).Distinct().Where(n => !IsRunningStatistic(n))];
        var fixedA = names.ToDictionary(n => n, n => a[n].detach().cpu().to(float64));
        var permutedB = names.ToDictionary(n => n, n => b[n].detach().cpu().to(float64));
        foreach (string name in names)
            if (!fixedA[name].shape.AsSpan().SequenceEqual(permutedB[name].shape)) throw new ArgumentException($"Tensor '{name}' has different shapes in the two checkpoints.", nameof(b));
        var permutations = MatchResult.Identity(spec).Permutations.ToDictionary();
        var scores = new Dictionary<string, Tensor>();
        var objective = new List<double>();
        SplitMix64 random = SplitMix64.For(seed, 47);
        PermutationGroup[] order = [.. spec.Groups];
        for (int sweep = 0; sweep < maxSweeps; sweep++)
        {
            random.Shuffle<PermutationGroup>(order);
            bool progress = false;
            foreach (PermutationGroup group in order)
            {
                PermutationAxis[] axes = [.. group.Axes.Where(x => !IsRunningStatistic(x.Tensor))];
                Tensor similarity = zeros(group.Size, group.Size, float64);
                foreach (PermutationAxis axis in axes)
                    similarity.add_(axis.Units(fixedA[axis.Tensor], group.Size).matmul(axis.Units(permutedB[axis.Tensor], group.Size).t()));
                int[] step = LinearAssignment.Maximize(similarity);
                using Tensor units = tensor(Array.ConvertAll(step, i => (long)i));
                double gain = (similarity.gather(1, units.unsqueeze(1)).sum() - similarity.diagonal().sum()).item<double>();
                long[] current = permutations[group.Name];
                // The similarities are of B's units in their current order; keep them in B's own order.
                scores[group.Name] = similarity.index_select(1, tensor(current).argsort()).MoveToOuterDisposeScope();
                if (gain <= 1e-12) continue;
                progress = true;
                permutations[group.Name] = Array.ConvertAll(step, i => current[i]);
                foreach (PermutationAxis axis in axes)
                {
                    using Tensor positions = PermutationSpec.Positions(units, group.Size, permutedB[axis.Tensor].shape[axis.Axis], axis.Outer);
                    permutedB[axis.Tensor] = permutedB[axis.Tensor].index_select(axis.Axis, positions);
                }
            }
            objective.Add(names.Sum(n => (fixedA[n] * permutedB[n]).sum().item<double>()));
            if (!progress) break;
        }
        return new MatchResult(permutations, scores, objective);
    }

    private static bool IsRunningStatistic(string name) => name.EndsWith("running_mean", StringComparison.Ordinal) || name.EndsWith("running_var", StringComparison.Ordinal);
}
