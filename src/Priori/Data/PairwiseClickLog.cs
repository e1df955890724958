using Priori.Runtime;

namespace Priori.Data;

/// <summary>What a planted pair of <see cref="PairwiseClickLog"/> adds to the logit.</summary>
public enum PairEffect
{
    /// <summary>1.3 R[x_i, x_j] with independent standard normal R: a number of its own for each combination, of full rank. It can be memorized, not factorized.</summary>
    Table,

    /// <summary>0.9 a[x_i] . b[x_j] with two-dimensional standard normal a and b: a product of low rank. It can be factorized, and memorized too.</summary>
    LowRank,
}

/// <summary>A pair of fields that interact by construction.</summary>
/// <param name="First">Index of the first field.</param>
/// <param name="Second">Index of the second field, larger.</param>
/// <param name="Effect">How they interact.</param>
public sealed record PlantedPair(int First, int Second, PairEffect Effect);

/// <summary>Rows of <see cref="PairwiseClickLog"/>.</summary>
/// <param name="Ids">int64 [n, 6]: ids in one vocabulary of all fields; field f has 24 f .. 24 f + 23.</param>
/// <param name="Labels">float32 [n]: 1 for a click, 0 for none.</param>
/// <param name="Probabilities">float32 [n]: the true click probability of each row; no model can rank better than these.</param>
public sealed record PairwiseClickData(Tensor Ids, Tensor Labels, Tensor Probabilities);

/// <summary>
/// A click log of six fields with 24 equally likely values each. Of its 15 pairs three interact by a table, (0,1), (2,3), (4,5), three by a
/// product of low rank, (0,2), (1,3), (2,4), and nine not at all:
/// <code>
/// logit = (sum_f l_f[x_f] + 1.3 sum_table R_ij[x_i, x_j] + 0.9 sum_low-rank a_i[x_i] . b_j[x_j]) / 1.3,   click ~ Bernoulli(sigmoid(logit)),
/// </code>
/// with l normal of standard deviation 0.25 and R, a, b standard normal, all independent.
/// </summary>
public static class PairwiseClickLog
{
    /// <summary>Number of fields.</summary>
    public const int Fields = 6;

    /// <summary>Values of each field.</summary>
    public const int Values = 24;

    private const int Rank = 2;
    private const double MainDeviation = 0.25, TableStrength = 1.3, LowRankStrength = 0.9, Scale = 1.3;

    /// <summary>The pairs that interact.</summary>
    public static IReadOnlyList<PlantedPair> Planted { get; } =
        [new(0, 1, PairEffect.Table), new(2, 3, PairEffect.Table), new(4, 5, PairEffect.Table), new(0, 2, PairEffect.LowRank), new(1, 3, PairEffect.LowRank), new(2, 4, PairEffect.LowRank)];

    /// <summary>Draws rows.</summary>
    /// <param name="rows">Number of rows n, at least 1.</param>
    /// <param name="world">Seed of the effects: logs of one world are draws from one distribution.</param>
    /// <param name="sample">Which draw; rows of different samples are independent.</param>
    public static PairwiseClickData Generate(int rows, int world, int sample = 0)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, 1);
        SplitMix64 effects = SplitMix64.For(world, 0);
        double[] Normal(int count, double deviation = 1) => [.. Enumerable.Range(0, count).Select(_ => deviation * effects.NextGaussian())];
        double[] main = Normal(Fields * Values, MainDeviation);
        double[][] pairs = [.. Planted.Select(pair => pair.Effect == PairEffect.Table ? Normal(Values * Values) : LowRank(Normal(Values * Rank), Normal(Values * Rank)))];

        SplitMix64 random = SplitMix64.For(world, 1, sample);
        long[] ids = new long[(long)rows * Fields];
        float[] labels = new float[rows], probabilities = new float[rows];
        Span<int> x = stackalloc int[Fields];
        for (int row = 0; row < rows; row++)
        {
            double logit = 0;
            for (int f = 0; f < Fields; f++)
            {
                x[f] = random.Next(Values);
                ids[(row * Fields) + f] = (f * Values) + x[f];
                logit += main[(f * Values) + x[f]];
            }
            for (int p = 0; p < pairs.Length; p++)
                logit += (Planted[p].Effect == PairEffect.Table ? TableStrength : LowRankStrength) * pairs[p][(x[Planted[p].First] * Values) + x[Planted[p].Second]];
            double probability = 1 / (1 + Math.Exp(-logit / Scale));
            probabilities[row] = (float)probability;
            labels[row] = random.NextDouble() < probability ? 1 : 0;
        }
        return new PairwiseClickData(torch.tensor(ids, [rows, Fields], ScalarType.Int64), torch.tensor(labels), torch.tensor(probabilities));
    }

    private static double[] LowRank(double[] a, double[] b)
        => [.. Enumerable.Range(0, Values * Values).Select(cell => Enumerable.Range(0, Rank).Sum(k => a[(cell / Values * Rank) + k] * b[(cell % Values * Rank) + k]))];
}
