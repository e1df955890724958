using Priori.Nn;

namespace Priori.Similarity;

/// <summary>What the incremental and the recomputed loop share: which weights count, how a pair is combined, and which pair is the closest.</summary>
internal static class MergeSteps
{
    /// <summary>Whether merged features have the sum, and not the mean, of the entries along an axis.</summary>
    public static bool Sums(PermutationAxis axis, MergeRule rule) => !axis.Depthwise && (axis.Role == AxisRole.Output) == (rule == MergeRule.SumInMeanOut);

    /// <summary>Whether a tensor is part of the distance: weights, without biases, normalisation vectors and shortcuts.</summary>
    public static bool InDistance(string name, Tensor tensor, IfmOptions options) => tensor.dim() > 1 && !options.IgnoredInDistance.Any(part => name.Contains(part, StringComparison.Ordinal));

    /// <summary>The entries of the merged feature.</summary>
    public static Tensor Combine(PermutationAxis axis, Tensor a, Tensor b, double countA, double countB, IfmOptions options)
    {
        (double weightA, double weightB) = Sums(axis, options.MergeRule) ? (1, 1) : (countA / (countA + countB), countB / (countA + countB));
        bool deviations = options.BatchNormMerge == BatchNormMerge.Exact && axis.Tensor.EndsWith("running_var", StringComparison.Ordinal);
        return deviations ? (a.sqrt() * weightA + b.sqrt() * weightB).square() : a * weightA + b * weightB;
    }

    /// <summary>Factor on the summed weights of a feature in the distance.</summary>
    public static double Scale(double count, DistanceMode mode) => mode == DistanceMode.CountNormalized ? 1 / count : 1;

    /// <summary>
    /// The closest pair, earliest first, and the largest distance. Inner products tell distances up to rounding of the largest of them; among the pairs that
    /// this leaves open the weights themselves decide, so that duplicates have distance 0 and both loops choose alike.
    /// </summary>
    /// <param name="summed">Inner products of the summed weights, [slots, slots].</param>
    /// <param name="averaged">Inner products of the averaged weights, [slots, slots].</param>
    /// <param name="slots">Row length.</param>
    /// <param name="order">Slots of the features in their order.</param>
    /// <param name="scales">Factor on the summed weights, by slot.</param>
    /// <param name="distance">The squared distance of two slots from the weights.</param>
    public static Closest Select(ReadOnlySpan<double> summed, ReadOnlySpan<double> averaged, int slots, IReadOnlyList<int> order, double[] scales, Func<int, int, double> distance)
    {
        int n = order.Count;
        int[] slot = [.. order];
        var norms = new double[n];
        for (int a = 0; a < n; a++)
        {
            int s = slot[a];
            norms[a] = (scales[s] * scales[s] * summed[(s * slots) + s]) + averaged[(s * slots) + s];
        }
        double rounding = 1e-12 * norms.Max(), smallest = double.PositiveInfinity, largest = 0;
        var candidates = new List<(int First, int Second, double Distance)>();
        for (int a = 0; a < n; a++)
        {
            ReadOnlySpan<double> rowSummed = summed.Slice(slot[a] * slots, slots), rowAveraged = averaged.Slice(slot[a] * slots, slots);
            double scale = 2 * scales[slot[a]], norm = norms[a];
            for (int b = a + 1; b < n; b++)
            {
                int s = slot[b];
                double d = norm + norms[b] - (scale * scales[s] * rowSummed[s]) - (2 * rowAveraged[s]);
                if (d > largest) largest = d;
                if (d > smallest + rounding) continue;
                if (d < smallest) smallest = d;
                candidates.Add((a, b, d));
            }
        }
        Closest closest = new(0, 0, double.PositiveInfinity, largest, 0);
        foreach ((int a, int b, double d) in candidates)
        {
            if (d > smallest + rounding) continue;
            double exact = distance(slot[a], slot[b]);
            if (exact < closest.Distance) closest = new Closest(a, b, exact, Math.Max(largest, exact), norms[a] + norms[b]);
            if (exact == 0) break;
        }
        return closest;
    }

    /// <summary>The closest pair of a group.</summary>
    /// <param name="First">Position of the first feature.</param>
    /// <param name="Second">Position of the second, above the first.</param>
    /// <param name="Distance">Its squared distance.</param>
    /// <param name="Largest">The largest squared distance in the group.</param>
    /// <param name="SquaredNorms">The squared norms of both together.</param>
    internal readonly record struct Closest(int First, int Second, double Distance, double Largest, double SquaredNorms)
    {
        /// <summary>Whether the pair is merged. Averages of duplicates differ by rounding, 1e-12 of their norm at most, and still are duplicates.</summary>
        public bool Within(double beta) => Distance <= Math.Max(beta * Largest, 1e-24 * SquaredNorms);
    }
}
