using Priori.Data;
using Priori.Nn;

namespace Priori.Merging;

/// <summary>Which units of a group are merged in pairs and which are kept separate. The merged layer holds the pairs, then A's separate units, then B's.</summary>
/// <param name="MergedA">Merged units of A.</param>
/// <param name="MergedB">Their partners in B, in the same order.</param>
/// <param name="SeparateA">Units of A that are kept.</param>
/// <param name="SeparateB">Units of B that are kept; as many as of A.</param>
public sealed record UnitPartition(long[] MergedA, long[] MergedB, long[] SeparateA, long[] SeparateB)
{
    /// <summary>Number of units after merging: d (1 + r).</summary>
    public long Size => MergedA.Length + SeparateA.Length + SeparateB.Length;

    /// <summary>The realised ratio r of units that are kept separate.</summary>
    public double Ratio => SeparateA.Length / (double)(MergedA.Length + SeparateA.Length);
}

/// <summary>
/// Partial merging (PLeaS, section 3.2 and its block table): the best-matched units of two networks are averaged, the others are kept side by side.
/// With ratio 0 this is Git Re-Basin; with ratio 1 everywhere it is the ensemble of the two networks in one.
/// </summary>
public static class PartialMerge
{
    /// <summary>The same ratio for every group that may be split; 0 for those that may not.</summary>
    /// <param name="spec">The wiring.</param>
    /// <param name="ratio">Fraction of units kept separate, in [0, 1].</param>
    public static Dictionary<string, double> Uniform(PermutationSpec spec, double ratio)
    {
        ArgumentNullException.ThrowIfNull(spec);
        return spec.Groups.ToDictionary(g => g.Name, g => g.Inseparable ? 0 : ratio);
    }

    /// <summary>Splits each group: pairs whose score is at least the r-quantile of the group's matched scores are merged. At r = 1 nothing is merged and units keep their own order.</summary>
    /// <param name="spec">The wiring.</param>
    /// <param name="match">The matching and its scores.</param>
    /// <param name="ratios">Fraction of units kept separate by the group's name, in [0, 1]; groups without one are merged.</param>
    /// <exception cref="ArgumentException">A ratio is outside [0, 1] or above 0 for an inseparable group, a group is unknown, or a group has no matching.</exception>
    public static IReadOnlyDictionary<string, UnitPartition> Partition(PermutationSpec spec, MatchResult match, IReadOnlyDictionary<string, double> ratios)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(match);
        ArgumentNullException.ThrowIfNull(ratios);
        if (ratios.Keys.FirstOrDefault(k => spec.Groups.All(g => g.Name != k)) is { } unknown) throw new ArgumentException($"The wiring has no group '{unknown}'.", nameof(ratios));
        return spec.Groups.ToDictionary(g => g.Name, g => Partition(g, match, ratios.GetValueOrDefault(g.Name)));
    }

    private static UnitPartition Partition(PermutationGroup group, MatchResult match, double ratio)
    {
        if (ratio is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(ratio), ratio, $"The ratio of group '{group.Name}' must be in [0, 1].");
        if (ratio > 0 && group.Inseparable) throw new ArgumentException($"Group '{group.Name}' is mixed by layer normalisation; its ratio must be 0, not {ratio}.", nameof(ratio));
        long[] all = [.. Enumerable.Range(0, (int)group.Size).Select(i => (long)i)];
        if (ratio >= 1 - 1e-3) return new UnitPartition([], [], all, all);
        if (!match.Permutations.TryGetValue(group.Name, out long[]? partner)) throw new ArgumentException($"Group '{group.Name}' has no matching.", nameof(match));
        if (ratio == 0) return new UnitPartition(all, partner, [], []);
        using Tensor matched = match.Scores[group.Name].to(float64).cpu().gather(1, tensor(partner).unsqueeze(1)).squeeze(1);
        double[] scores = matched.data<double>().ToArray();
        double threshold = Quantile([.. scores.Order()], ratio);
        long[] merged = [.. all.Where(i => scores[i] >= threshold)], separate = [.. all.Where(i => scores[i] < threshold)];
        return new UnitPartition(merged, [.. merged.Select(i => partner[i])], separate, [.. separate.Select(i => partner[i])]);
    }

    private static double Quantile(double[] sorted, double q)
    {
        double position = q * (sorted.Length - 1);
        if (Math.Abs(position - Math.Round(position)) < 1e-9) position = Math.Round(position);
        int below = (int)position;
        return below + 1 >= sorted.Length ? sorted[^1] : sorted[below] + (position - below) * (sorted[below + 1] - sorted[below]);
    }

    /// <summary>Matches, splits and merges in one call. See <see cref="Partition(PermutationSpec, MatchResult, IReadOnlyDictionary{string, double})"/>.</summary>
    /// <param name="spec">The wiring.</param>
    /// <param name="a">Tensors of A by name.</param>
    /// <param name="b">Tensors of B by name, in B's own order of units.</param>
    /// <param name="match">The matching.</param>
    /// <param name="ratios">Fraction of units kept separate by the group's name.</param>
    public static Dictionary<string, Tensor> Build(PermutationSpec spec, IReadOnlyDictionary<string, Tensor> a, IReadOnlyDictionary<string, Tensor> b, MatchResult match, IReadOnlyDictionary<string, double> ratios) =>
        Build(spec, a, b, Partition(spec, match, ratios));

    /// <summary>
    /// Merges two checkpoints block by block. Between merged units weights are averaged; a merged unit reads half of each separate unit; a separate unit of A reads merged units
    /// and A's separate units with A's weights and nothing of B's. Vectors are averaged for merged and copied for separate units; axes without a group are merged.
    /// </summary>
    /// <param name="spec">The wiring.</param>
    /// <param name="a">Tensors of A by name.</param>
    /// <param name="b">Tensors of B by name, in B's own order of units.</param>
    /// <param name="partitions">The split of each group.</param>
    /// <returns>New tensors by name, of A's types. Integer tensors (counters) are A's.</returns>
    /// <exception cref="ArgumentException">The checkpoints have different tensors or do not fit the wiring; the message names the first.</exception>
    public static Dictionary<string, Tensor> Build(PermutationSpec spec, IReadOnlyDictionary<string, Tensor> a, IReadOnlyDictionary<string, Tensor> b, IReadOnlyDictionary<string, UnitPartition> partitions)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(partitions);
        StateDict.RequireSame(a, b, "checkpoint A", "checkpoint B");
        spec.Validate(a);
        using var _ = no_grad();
        var merged = new Dictionary<string, Tensor>();
        foreach ((string name, Tensor ofA) in a)
        {
            using var scope = NewDisposeScope();
            if (!ofA.is_floating_point())
            {
                merged[name] = ofA.clone().MoveToOuterDisposeScope();
                continue;
            }
            ScalarType type = ofA.dtype is ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
            var output = spec.AxisOf(name, AxisRole.Output);
            var input = spec.AxisOf(name, AxisRole.Input);
            merged[name] = Blocks(ofA.detach().to(type), b[name].detach().to(type), output, output is { } o ? partitions[o.Group.Name] : null, input, input is { } i ? partitions[i.Group.Name] : null)
                .to(ofA.dtype).contiguous().MoveToOuterDisposeScope();
        }
        return merged;
    }

    private static Tensor Blocks(Tensor a, Tensor b, (PermutationGroup Group, PermutationAxis Axis)? output, UnitPartition? rows, (PermutationGroup Group, PermutationAxis Axis)? input, UnitPartition? columns)
    {
        if (output is null && input is null) return (a + b) / 2;
        // Each grouped axis becomes three: repetitions, units, entries of a unit. Units are then axes of their own.
        var shape = new List<long>();
        int rowAxis = -1, columnAxis = -1;
        for (int axis = 0; axis < a.dim(); axis++)
        {
            bool isRow = output?.Axis.Axis == axis, isColumn = input?.Axis.Axis == axis;
            if (!isRow && !isColumn)
            {
                shape.Add(a.shape[axis]);
                continue;
            }
            (PermutationGroup group, PermutationAxis described) = isRow ? output!.Value : input!.Value;
            if (isRow) rowAxis = shape.Count + 1;
            else columnAxis = shape.Count + 1;
            shape.AddRange([described.Outer, group.Size, a.shape[axis] / (described.Outer * group.Size)]);
        }
        Tensor ofA = a.reshape([.. shape]), ofB = b.reshape([.. shape]);
        Tensor Take(Tensor t, long[]? row, long[]? column)
        {
            if (row is not null) t = t.index_select(rowAxis, tensor(row, device: t.device));
            return column is null ? t : t.index_select(columnAxis, tensor(column, device: t.device));
        }
        Tensor Row(long[]? rowsA, long[]? rowsB) // rowsA and rowsB: merged when both are given, else the separate units of one
        {
            Tensor Side(Func<UnitPartition, long[]>? of, bool isA) => Take(isA ? ofA : ofB, isA ? rowsA : rowsB, of is null ? null : of(columns!));
            bool merging = rows is null || (rowsA is not null && rowsB is not null);
            if (columns is null) return merging ? (Side(null, true) + Side(null, false)) / 2 : Side(null, rowsA is not null);
            if (merging)
                return cat([(Side(p => p.MergedA, true) + Side(p => p.MergedB, false)) / 2, Side(p => p.SeparateA, true) / 2, Side(p => p.SeparateB, false) / 2], columnAxis);
            return rowsA is not null
                ? cat([Side(p => p.MergedA, true), Side(p => p.SeparateA, true), zeros_like(Take(ofA, rowsA, columns.SeparateB))], columnAxis)
                : cat([Side(p => p.MergedB, false), zeros_like(Take(ofB, rowsB, columns.SeparateA)), Side(p => p.SeparateB, false)], columnAxis);
        }
        Tensor merged = rows is null ? Row(null, null) : cat([Row(rows.MergedA, rows.MergedB), Row(rows.SeparateA, null), Row(null, rows.SeparateB)], rowAxis);
        long[] final = [.. a.shape];
        if (rows is not null) final[output!.Value.Axis.Axis] = final[output.Value.Axis.Axis] / output.Value.Group.Size * rows.Size;
        if (columns is not null) final[input!.Value.Axis.Axis] = final[input.Value.Axis.Axis] / input.Value.Group.Size * columns.Size;
        return merged.reshape(final);
    }
}
