using System.Runtime.InteropServices;
using Priori.Nn;

namespace Priori.Similarity;

/// <summary>The loop as published: every round computes the inner products of every group from its current weights.</summary>
internal static class PublishedMerging
{
    public static (Dictionary<string, int[][]> Members, List<MergeStep> Log) Run(Dictionary<string, Tensor> tensors, IReadOnlyList<PermutationGroup> groups, IfmOptions options)
    {
        var members = groups.ToDictionary(g => g.Name, g => Enumerable.Range(0, (int)g.Size).Select(i => new[] { i }).ToList());
        var log = new List<MergeStep>();
        bool merged = true;
        for (int round = 0; merged; round++)
        {
            merged = false;
            foreach (PermutationGroup group in groups)
            {
                List<int[]> features = members[group.Name];
                int n = features.Count;
                if (round >= options.MaxRatio * group.Size || n <= options.MinimumWidth) continue;
                using var scope = NewDisposeScope();
                Tensor Table(bool summed) => cat([zeros(n, 1, float64), .. group.Axes
                    .Where(x => MergeSteps.InDistance(x.Tensor, tensors[x.Tensor], options) && MergeSteps.Sums(x, options.MergeRule) == summed).Select(x => x.Units(tensors[x.Tensor], n))], 1);
                Tensor sums = Table(true), means = Table(false);
                if (sums.shape[1] + means.shape[1] == 2) continue;
                double[] scales = [.. features.Select(f => MergeSteps.Scale(f.Length, options.DistanceMode))];
                double Distance(int a, int b) => ((sums[a] * scales[a] - sums[b] * scales[b]).square().sum() + (means[a] - means[b]).square().sum()).item<double>();
                MergeSteps.Closest pair = MergeSteps.Select(Doubles(sums.matmul(sums.t())), Doubles(means.matmul(means.t())), n, [.. Enumerable.Range(0, n)], scales, Distance);
                if (!pair.Within(options.Beta)) continue;
                merged = true;
                log.Add(new MergeStep(round, group.Name, pair.First, pair.Second, pair.Distance, pair.Largest));
                (int[] a, int[] b) = (features[pair.First], features[pair.Second]);
                using Tensor others = tensor([.. Enumerable.Range(0, n).Where(i => i != pair.First && i != pair.Second).Select(i => (long)i)]);
                foreach (PermutationAxis axis in group.Axes)
                {
                    Tensor old = tensors[axis.Tensor], view = axis.View(old, n);
                    Tensor last = MergeSteps.Combine(axis, view.select(1, pair.First), view.select(1, pair.Second), a.Length, b.Length, options);
                    long[] shape = [.. old.shape];
                    shape[axis.Axis] = shape[axis.Axis] / n * (n - 1);
                    tensors[axis.Tensor] = cat([view.index_select(1, others), last.unsqueeze(1)], 1).view(shape).MoveToOuterDisposeScope();
                    old.Dispose();
                }
                features.RemoveAt(pair.Second);
                features.RemoveAt(pair.First);
                features.Add([.. a, .. b]);
            }
        }
        return (members.ToDictionary(m => m.Key, m => m.Value.ToArray()), log);
    }

    private static ReadOnlySpan<double> Doubles(Tensor tensor) => MemoryMarshal.Cast<byte, double>(tensor.bytes);
}
