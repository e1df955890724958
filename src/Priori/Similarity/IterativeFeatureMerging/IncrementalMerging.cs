using System.Runtime.InteropServices;
using Priori.Nn;

namespace Priori.Similarity;

/// <summary>
/// The same merges with inner products that are updated: those of the merged group in one row and column, those of a group at the other axis of a changed tensor
/// by the outer products of the slices that came and went. A merged feature takes the slot of its first; free slots hold zeros until the group is compacted.
/// </summary>
internal sealed class IncrementalMerging
{
    private readonly Dictionary<string, Tensor> _tensors;
    private readonly PermutationSpec _spec;
    private readonly IfmOptions _options;
    private readonly List<Features> _groups;

    public IncrementalMerging(Dictionary<string, Tensor> tensors, PermutationSpec spec, IReadOnlyList<PermutationGroup> groups, IfmOptions options)
    {
        (_tensors, _spec, _options) = (tensors, spec, options);
        _groups = [.. groups.Select(g => new Features(g, [.. g.Axes.Where(x => MergeSteps.InDistance(x.Tensor, tensors[x.Tensor], options))]))];
    }

    public (Dictionary<string, int[][]> Members, List<MergeStep> Log) Run()
    {
        foreach (Features features in _groups) Compute(features);
        var log = new List<MergeStep>();
        bool merged = true;
        for (int round = 0; merged; round++)
        {
            merged = false;
            foreach (Features features in _groups)
            {
                if (round >= _options.MaxRatio * features.Group.Size || features.Order.Count <= _options.MinimumWidth || features.Weights.Length == 0 || !features.Changed) continue;
                MergeSteps.Closest pair = MergeSteps.Select(Doubles(features.Summed), Doubles(features.Averaged), features.Slots, features.Order, features.Scales, (a, b) => Distance(features, a, b));
                features.Changed = pair.Within(_options.Beta);
                if (!features.Changed) continue;
                merged = true;
                log.Add(new MergeStep(round, features.Group.Name, pair.First, pair.Second, pair.Distance, pair.Largest));
                if (Merge(features, pair.First, pair.Second)) Compute(features);
                if (features.Order.Count * 4 <= features.Slots * 3) Compact(features);
            }
        }
        foreach (Features features in _groups) Compact(features);
        return (_groups.ToDictionary(g => g.Group.Name, g => g.Members.Select(m => m.ToArray()).ToArray()), log);
    }

    private double Distance(Features features, int a, int b)
    {
        using var scope = NewDisposeScope();
        double total = 0;
        foreach (PermutationAxis axis in features.Weights)
        {
            Tensor view = axis.View(_tensors[axis.Tensor], features.Slots), first = view.select(1, a), second = view.select(1, b);
            if (MergeSteps.Sums(axis, _options.MergeRule)) (first, second) = (first * features.Scales[a], second * features.Scales[b]);
            total += (first - second).square().sum().item<double>();
        }
        return total;
    }

    // True when a tensor has both its axes in the group, so that rows and columns changed at once and the products must be computed anew.
    private bool Merge(Features features, int first, int second)
    {
        using var scope = NewDisposeScope();
        (int a, int b, int slots) = (features.Order[first], features.Order[second], features.Slots);
        (double countA, double countB) = (features.Counts[a], features.Counts[b]);
        bool tied = false;
        foreach (PermutationAxis axis in features.Group.Axes)
        {
            Tensor weights = _tensors[axis.Tensor], view = axis.View(weights, slots), kept = view.select(1, a), freed = view.select(1, b);
            PermutationAxis? across = null;
            Features? other = null;
            if (_spec.AxisOf(axis.Tensor, axis.Role == AxisRole.Input ? AxisRole.Output : AxisRole.Input) is { } found)
            {
                other = _groups.Find(g => g.Group.Name == found.Group.Name && g.Weights.Contains(found.Axis));
                across = found.Axis;
            }
            tied |= other == features;
            if (other == features) other = null;
            Tensor Slice(int slot) // of one feature, a row for each feature of the other group
            {
                using Tensor unit = tensor(new[] { (long)slot });
                return across!.Units(weights.index_select(axis.Axis, PermutationSpec.Positions(unit, slots, weights.shape[axis.Axis], axis.Outer)), other!.Slots);
            }
            Tensor[] before = other is null ? [] : [Slice(a), Slice(b)];
            kept.copy_(MergeSteps.Combine(axis, kept, freed, countA, countB, _options));
            freed.zero_();
            if (other is null) continue;
            Tensor after = Slice(a), products = MergeSteps.Sums(across!, _options.MergeRule) ? other.Summed : other.Averaged;
            products.add_(cat([after, .. before], 1).matmul(cat([after, .. before.Select(t => -t)], 1).t()));
            other.Changed = true;
        }
        Combine(Doubles(features.Summed), slots, a, b, 1, 1);
        Combine(Doubles(features.Averaged), slots, a, b, countA / (countA + countB), countB / (countA + countB));
        features.Counts[a] += countB;
        features.Scales[a] = MergeSteps.Scale(features.Counts[a], _options.DistanceMode);
        features.Members.Add([.. features.Members[first], .. features.Members[second]]);
        features.Order.Add(a);
        foreach (int gone in new[] { second, first })
        {
            features.Order.RemoveAt(gone);
            features.Members.RemoveAt(gone);
        }
        return tied;
    }

    private static void Combine(Span<double> products, int slots, int a, int b, double weightA, double weightB)
    {
        double own = (weightA * weightA * products[(a * slots) + a]) + (weightB * weightB * products[(b * slots) + b]) + (2 * weightA * weightB * products[(a * slots) + b]);
        for (int k = 0; k < slots; k++)
        {
            products[(a * slots) + k] = products[(k * slots) + a] = (weightA * products[(a * slots) + k]) + (weightB * products[(b * slots) + k]);
            products[(b * slots) + k] = products[(k * slots) + b] = 0;
        }
        products[(a * slots) + a] = own;
    }

    private void Compute(Features features)
    {
        using var scope = NewDisposeScope();
        Tensor Products(bool summed)
        {
            Tensor total = zeros(features.Slots, features.Slots, float64);
            foreach (PermutationAxis axis in features.Weights.Where(x => MergeSteps.Sums(x, _options.MergeRule) == summed))
            {
                Tensor table = axis.Units(_tensors[axis.Tensor], features.Slots);
                total.addmm_(table, table.t());
            }
            return total.MoveToOuterDisposeScope();
        }
        features.Replace(Products(true), Products(false));
    }

    private void Compact(Features features)
    {
        if (features.Order.Count == features.Slots && features.Order.SequenceEqual(Enumerable.Range(0, features.Slots))) return;
        using var scope = NewDisposeScope();
        Tensor order = tensor([.. features.Order.Select(s => (long)s)]);
        foreach (PermutationAxis axis in features.Group.Axes)
        {
            Tensor old = _tensors[axis.Tensor];
            _tensors[axis.Tensor] = old.index_select(axis.Axis, PermutationSpec.Positions(order, features.Slots, old.shape[axis.Axis], axis.Outer)).MoveToOuterDisposeScope();
            old.Dispose();
        }
        Tensor Kept(Tensor products) => products.index_select(0, order).index_select(1, order).MoveToOuterDisposeScope();
        features.Replace(Kept(features.Summed), Kept(features.Averaged));
        (features.Counts, features.Scales) = ([.. features.Order.Select(s => features.Counts[s])], [.. features.Order.Select(s => features.Scales[s])]);
        features.Order = [.. Enumerable.Range(0, features.Order.Count)];
    }

    private static Span<double> Doubles(Tensor tensor) => MemoryMarshal.Cast<byte, double>(tensor.bytes);

    private sealed class Features(PermutationGroup group, PermutationAxis[] weights)
    {
        public PermutationGroup Group => group;

        /// <summary>The axes that distances look at.</summary>
        public PermutationAxis[] Weights => weights;

        /// <summary>Slots of the features in their order.</summary>
        public List<int> Order { get; set; } = [.. Enumerable.Range(0, (int)group.Size)];

        /// <summary>Original features of each feature, in their order.</summary>
        public List<int[]> Members { get; } = [.. Enumerable.Range(0, (int)group.Size).Select(i => new[] { i })];

        /// <summary>Number of original features, by slot.</summary>
        public double[] Counts { get; set; } = [.. Enumerable.Repeat(1.0, (int)group.Size)];

        /// <summary>Factor on summed weights in the distance, by slot.</summary>
        public double[] Scales { get; set; } = [.. Enumerable.Repeat(1.0, (int)group.Size)];

        /// <summary>Inner products of summed weights, [slots, slots].</summary>
        public Tensor Summed { get; private set; } = null!;

        /// <summary>Inner products of averaged weights, [slots, slots].</summary>
        public Tensor Averaged { get; private set; } = null!;

        public int Slots => Counts.Length;

        /// <summary>Whether weights have changed since the closest pair was found too far apart.</summary>
        public bool Changed { get; set; } = true;

        public void Replace(Tensor summed, Tensor averaged)
        {
            Summed?.Dispose();
            Averaged?.Dispose();
            (Summed, Averaged) = (summed, averaged);
        }
    }
}
