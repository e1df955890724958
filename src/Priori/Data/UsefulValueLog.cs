using Priori.Runtime;

namespace Priori.Data;

/// <summary>What a log of <see cref="UsefulValueLog"/> looks like. The defaults are 12 columns of 200 values, a third of which matter.</summary>
public sealed record UsefulValueLogOptions
{
    /// <summary>Columns, at least 1.</summary>
    public int Fields { get; init; } = 12;

    /// <summary>Values of each column, at least 2.</summary>
    public int Values { get; init; } = 200;

    /// <summary>The last so many columns have no useful value at all.</summary>
    public int NoiseFields { get; init; } = 4;

    /// <summary>Probability that a value of another column is useful.</summary>
    public double UsefulShare { get; init; } = 0.5;

    /// <summary>The value of popularity rank r (from 1) is drawn with probability proportional to r to the minus this; the ranks are shuffled in each column.</summary>
    public double PopularityExponent { get; init; } = 0.8;

    /// <summary>Standard deviation of a useful value's own effect on the logit.</summary>
    public double MainEffect { get; init; } = 1;

    /// <summary>Width of a useful value's factor.</summary>
    public int FactorDim { get; init; } = 4;

    /// <summary>Standard deviation of each number of a factor.</summary>
    public double FactorDeviation { get; init; } = 0.45;
}

/// <summary>A generated log and everything that is true about it.</summary>
/// <param name="Ids">int64 [n, fields]: ids in one vocabulary of all columns; value v of column f is f * values + v.</param>
/// <param name="Labels">float32 [n]: 1 for a click, 0 for none.</param>
/// <param name="Probabilities">float32 [n]: the true click probability of each row.</param>
/// <param name="Useful">bool [fields * values]: whether a value has any effect.</param>
public sealed record UsefulValueLogData(Tensor Ids, Tensor Labels, Tensor Probabilities, Tensor Useful);

/// <summary>
/// Generates click logs in which it is known which values of which columns matter. A useful value k has an effect w_k and a factor v_k, both Gaussian; others have none:
/// <code>
/// logit = sum_i w_(x_i) + sum_(i &lt; j) v_(x_i) . v_(x_j) - mean over rows,   click ~ Bernoulli(sigmoid(logit)).
/// </code>
/// </summary>
public static class UsefulValueLog
{
    /// <summary>Draws the effects and a log.</summary>
    /// <param name="rows">Number of rows n, at least 1.</param>
    /// <param name="seed">Seed of the effects and of the rows.</param>
    /// <param name="options">What the log looks like; null for the defaults.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is outside its range.</exception>
    public static UsefulValueLogData Generate(int rows, int seed, UsefulValueLogOptions? options = null)
    {
        options ??= new UsefulValueLogOptions();
        int fields = options.Fields, values = options.Values, dim = options.FactorDim;
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(fields, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(values, 2, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1, nameof(options));
        if (options.NoiseFields < 0 || options.NoiseFields > fields) throw new ArgumentOutOfRangeException(nameof(options), options.NoiseFields, $"Noise fields must be in 0..{fields}.");
        if (options.UsefulShare is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(options), options.UsefulShare, "The useful share must be in [0, 1].");

        SplitMix64 world = SplitMix64.For(seed, 0);
        bool[] useful = new bool[fields * values];
        double[] effect = new double[useful.Length], factor = new double[useful.Length * dim];
        for (int id = 0; id < useful.Length; id++)
        {
            useful[id] = world.NextDouble() < options.UsefulShare && id / values < fields - options.NoiseFields;
            if (!useful[id]) continue;
            effect[id] = options.MainEffect * world.NextGaussian();
            for (int d = 0; d < dim; d++) factor[(id * dim) + d] = options.FactorDeviation * world.NextGaussian();
        }
        double[] popularity = [.. Enumerable.Range(1, values).Select(rank => Math.Pow(rank, -options.PopularityExponent))];
        double sum = 0, total = popularity.Sum();
        double[] cumulative = [.. popularity.Select(p => sum += p / total)];
        int[][] ranked = [.. Enumerable.Range(0, fields).Select(_ =>
        {
            int[] order = [.. Enumerable.Range(0, values)];
            world.Shuffle(order.AsSpan());
            return order;
        })];

        SplitMix64 random = SplitMix64.For(seed, 1);
        long[] ids = new long[(long)rows * fields];
        double[] logits = new double[rows], squares = new double[dim], sums = new double[dim];
        for (int row = 0; row < rows; row++)
        {
            Array.Clear(sums);
            Array.Clear(squares);
            for (int f = 0; f < fields; f++)
            {
                int place = Array.BinarySearch(cumulative, random.NextDouble());
                int id = (f * values) + ranked[f][Math.Min(place >= 0 ? place + 1 : ~place, values - 1)];
                ids[(row * fields) + f] = id;
                logits[row] += effect[id];
                for (int d = 0; d < dim; d++)
                {
                    double v = factor[(id * dim) + d];
                    sums[d] += v;
                    squares[d] += v * v;
                }
            }
            for (int d = 0; d < dim; d++) logits[row] += ((sums[d] * sums[d]) - squares[d]) / 2;
        }
        double mean = logits.Average();
        double[] probabilities = [.. logits.Select(l => 1 / (1 + Math.Exp(mean - l)))];
        SplitMix64 coin = SplitMix64.For(seed, 2);
        float[] labels = [.. probabilities.Select(p => coin.NextDouble() < p ? 1f : 0f)];
        return new UsefulValueLogData(torch.tensor(ids, [rows, fields]), torch.tensor(labels), torch.tensor(probabilities, ScalarType.Float32), torch.tensor(useful));
    }
}
