using System.Globalization;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>A categorical field of a generated click log.</summary>
/// <param name="Name">Column name.</param>
/// <param name="Cardinality">Number of values, at least 2. Value k (from 0) is drawn with probability proportional to 1/(k + 1): Zipf's law.</param>
/// <param name="MainEffect">Standard deviation over rows of what the field alone adds to the logit; 0 for none.</param>
public sealed record ClickField(string Name, int Cardinality, double MainEffect = 0);

/// <summary>A planted interaction of a generated click log.</summary>
/// <param name="Fields">Names of the fields that interact, two or more.</param>
/// <param name="Strength">Standard deviation over rows of what the interaction adds to the logit.</param>
public sealed record ClickInteraction(IReadOnlyList<string> Fields, double Strength);

/// <summary>What a generated click log looks like.</summary>
public sealed record ClickLogOptions
{
    /// <summary>The fields. By default eight informative ones and two, noise_a and noise_b, that have no effect at all.</summary>
    public IReadOnlyList<ClickField> Fields { get; init; } =
    [
        new("user_segment", 40, 0.4), new("device", 8, 0.2), new("hour", 24, 0.2), new("weekday", 7, 0), new("placement", 12, 0.3),
        new("ad_category", 20, 0.4), new("advertiser", 100, 0.3), new("region", 16, 0), new("noise_a", 30), new("noise_b", 60),
    ];

    /// <summary>The planted interactions. By default three pairs and one triple.</summary>
    public IReadOnlyList<ClickInteraction> Interactions { get; init; } =
    [
        new(["user_segment", "ad_category"], 1.2), new(["device", "placement"], 1.0), new(["hour", "weekday"], 0.8), new(["region", "device", "ad_category"], 0.8),
    ];

    /// <summary>Mean click probability over the generated rows, in (0, 1). Default 0.25.</summary>
    public double ClickRate { get; init; } = 0.25;
}

/// <summary>A generated click log and everything that is true about it.</summary>
/// <param name="Fields">The fields, in the order of the columns of <paramref name="Ids"/>.</param>
/// <param name="Interactions">The planted interactions.</param>
/// <param name="Ids">int64 [n, fields]: the value of each field, counted from 0 within the field.</param>
/// <param name="Offsets">int64 [fields]: added to <paramref name="Ids"/> it gives ids in one vocabulary of all fields.</param>
/// <param name="Labels">float32 [n]: 1 for a click, 0 for none.</param>
/// <param name="Probabilities">float32 [n]: the true click probability of each row; no model can have a lower expected log-loss.</param>
/// <param name="InteractionEffects">float32 [n, interactions]: what each interaction adds to the logit of each row.</param>
/// <param name="MainEffects">float32 [n, fields]: what each field alone adds to the logit of each row.</param>
/// <param name="Bias">The constant of the logit.</param>
public sealed record ClickLogData(
    IReadOnlyList<ClickField> Fields,
    IReadOnlyList<ClickInteraction> Interactions,
    Tensor Ids,
    Tensor Offsets,
    Tensor Labels,
    Tensor Probabilities,
    Tensor InteractionEffects,
    Tensor MainEffects,
    double Bias)
{
    /// <summary>Writes the log as CSV: one column per field (values such as device_3, so that no reader takes them for numbers) and the column click (0 or 1).</summary>
    /// <param name="path">The file to write; replaced when it exists.</param>
    public void WriteCsv(string path) => AtomicFile.Write(path, stream =>
    {
        using StreamWriter writer = new(stream, leaveOpen: true) { NewLine = "\n" };
        writer.WriteLine(string.Join(',', Fields.Select(f => f.Name).Append("click")));
        long[] ids = Ids.data<long>().ToArray();
        float[] labels = Labels.data<float>().ToArray();
        for (int row = 0; row < labels.Length; row++)
        {
            for (int f = 0; f < Fields.Count; f++)
                writer.Write(string.Create(CultureInfo.InvariantCulture, $"{Fields[f].Name}_{ids[(row * Fields.Count) + f]},"));
            writer.WriteLine(labels[row] > 0 ? '1' : '0');
        }
    });
}

/// <summary>
/// Generates click logs whose interactions are known. With independent fields v_1..v_m,
/// <code>
/// logit = bias + sum_f s_f u_f[v_f] + sum_I s_I prod_{f in I} w_{I,f}[v_f],   click ~ Bernoulli(sigmoid(logit)).
/// </code>
/// Every table u_f and w_{I,f} is drawn uniformly and then shifted and scaled to mean 0 and variance 1 under the field's own
/// distribution. So the terms are uncorrelated, a strength s is the standard deviation of its term, and an interaction is
/// pure: given all but one of its fields its mean is 0, and no model of lower order sees any of it.
/// The bias makes the mean probability the asked click rate.
/// </summary>
public static class ClickLog
{
    /// <summary>Draws a click log.</summary>
    /// <param name="rows">Number of rows n, at least 1.</param>
    /// <param name="seed">Seed of the rows.</param>
    /// <param name="options">Fields and interactions; null for the defaults.</param>
    /// <param name="world">Seed of the effect tables: logs of one world and different <paramref name="seed"/> are draws from the same distribution.</param>
    /// <exception cref="ArgumentException">A field or interaction is not as <see cref="ClickLogOptions"/> says.</exception>
    public static ClickLogData Generate(int rows, int seed, ClickLogOptions? options = null, int world = 0)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, 1);
        options ??= new ClickLogOptions();
        IReadOnlyList<ClickField> fields = options.Fields;
        IReadOnlyList<ClickInteraction> interactions = options.Interactions;
        if (fields.Count == 0 || fields.Any(f => f.Cardinality < 2 || f.MainEffect < 0))
            throw new ArgumentException("Every field needs at least 2 values and a main effect of at least 0.", nameof(options));
        if (fields.Select(f => f.Name).Distinct().Count() != fields.Count) throw new ArgumentException("Two fields have the same name.", nameof(options));
        if (options.ClickRate is not (> 0 and < 1)) throw new ArgumentException($"The click rate {options.ClickRate} is outside (0, 1).", nameof(options));
        int[][] members = [.. interactions.Select(i => i.Fields.Select(name => IndexOf(fields, name)).ToArray())];
        if (members.Any(m => m.Length < 2 || m.Distinct().Count() != m.Length)) throw new ArgumentException("An interaction needs two or more different fields.", nameof(options));

        double[][] frequencies = [.. fields.Select(f => Zipf(f.Cardinality))];
        double[][] main = [.. fields.Select((f, i) => Effects(SplitMix64.For(world, 0, i), frequencies[i]))];
        double[][][] factors = [.. members.Select((m, i) => m.Select(f => Effects(SplitMix64.For(world, 1, i, f), frequencies[f])).ToArray())];

        double[][] cumulative = [.. frequencies.Select(p => { double sum = 0; return p.Select(x => sum += x).ToArray(); })];
        int m = fields.Count;
        long[] ids = new long[(long)rows * m];
        float[] mainEffects = new float[ids.Length], interactionEffects = new float[(long)rows * interactions.Count];
        double[] logits = new double[rows];
        SplitMix64 random = SplitMix64.For(seed, 2);
        for (int row = 0; row < rows; row++)
        {
            Span<long> id = ids.AsSpan(row * m, m);
            for (int f = 0; f < m; f++)
            {
                int index = Array.BinarySearch(cumulative[f], random.NextDouble());
                id[f] = Math.Min(index >= 0 ? index + 1 : ~index, fields[f].Cardinality - 1);
                double effect = fields[f].MainEffect * main[f][id[f]];
                mainEffects[(row * m) + f] = (float)effect;
                logits[row] += effect;
            }
            for (int i = 0; i < interactions.Count; i++)
            {
                double effect = interactions[i].Strength;
                for (int k = 0; k < members[i].Length; k++) effect *= factors[i][k][id[members[i][k]]];
                interactionEffects[(row * interactions.Count) + i] = (float)effect;
                logits[row] += effect;
            }
        }

        double low = -50, high = 50;
        for (int step = 0; step < 60; step++)
        {
            double middle = (low + high) / 2;
            if (logits.Average(l => Sigmoid(l + middle)) < options.ClickRate) low = middle;
            else high = middle;
        }
        double bias = (low + high) / 2;
        SplitMix64 coin = SplitMix64.For(seed, 3);
        float[] probabilities = [.. logits.Select(l => (float)Sigmoid(l + bias))];
        float[] labels = [.. logits.Select(l => coin.NextDouble() < Sigmoid(l + bias) ? 1f : 0f)];
        long[] offsets = new long[m];
        for (int f = 1; f < m; f++) offsets[f] = offsets[f - 1] + fields[f - 1].Cardinality;

        return new ClickLogData(
            fields, interactions, torch.tensor(ids, [rows, m], ScalarType.Int64), torch.tensor(offsets, ScalarType.Int64), torch.tensor(labels), torch.tensor(probabilities),
            torch.tensor(interactionEffects, [rows, interactions.Count]), torch.tensor(mainEffects, [rows, m]), bias);
    }

    private static int IndexOf(IReadOnlyList<ClickField> fields, string name)
    {
        for (int f = 0; f < fields.Count; f++)
            if (fields[f].Name == name) return f;
        throw new ArgumentException($"An interaction names the field '{name}', which is not one of {string.Join(", ", fields.Select(f => f.Name))}.", nameof(fields));
    }

    private static double[] Zipf(int cardinality)
    {
        double total = Enumerable.Range(1, cardinality).Sum(k => 1.0 / k);
        return [.. Enumerable.Range(1, cardinality).Select(k => 1.0 / k / total)];
    }

    /// <summary>Uniform numbers, shifted and scaled to mean 0 and variance 1 under the probabilities.</summary>
    private static double[] Effects(SplitMix64 random, double[] probabilities)
    {
        double[] values = [.. probabilities.Select(_ => random.NextDouble())];
        double mean = values.Zip(probabilities, (v, p) => v * p).Sum();
        double deviation = Math.Sqrt(values.Zip(probabilities, (v, p) => (v - mean) * (v - mean) * p).Sum());
        return [.. values.Select(v => (v - mean) / deviation)];
    }

    private static double Sigmoid(double logit) => 1 / (1 + Math.Exp(-logit));
}
