namespace Priori.ClickThrough;

/// <summary>How much a field is used.</summary>
/// <param name="Field">Index of the field.</param>
/// <param name="Importance">Its share of the mean absolute power, in [0, 1]; the shares of all fields sum to 1.</param>
public sealed record FieldImportance(int Field, double Importance);

/// <summary>A cross feature (interaction term) in use: the set of fields whose gates are open together.</summary>
/// <param name="Fields">Indices of the fields, ascending.</param>
/// <param name="Frequency">Share of all (row, neuron) pairs whose open gates are exactly this set, in (0, 1].</param>
/// <param name="MeanPower">Mean |w| of its fields where it is in use.</param>
public sealed record CrossFeature(IReadOnlyList<int> Fields, double Frequency, double MeanPower)
{
    /// <summary>Order of the interaction: the number of fields.</summary>
    public int Order => Fields.Count;
}

/// <summary>
/// What an <see cref="ArmNet"/> used, over the rows asked about (ARMOR, Cai et al., section 4.4): for one row the local explanation, for a data set the global one.
/// A field's importance is mean |w| over rows and neurons, normalised to sum 1: the paper's aggregation without weights of its own for neurons or rows.
/// </summary>
/// <param name="Fields">Importance of each field, in field order.</param>
/// <param name="CrossFeatures">Cross features in use, the most frequent first.</param>
/// <param name="JointPower">Mean |w_j| |w_k| of fields j and k over rows and neurons, [fields, fields]: which fields are used together, also when no gate is closed.</param>
/// <param name="ZeroFraction">Measured share of gates that are exactly zero; 0 means that every neuron uses all fields, whatever alpha is.</param>
/// <param name="Rows">Rows it was measured over.</param>
public sealed record ArmNetExplanation(IReadOnlyList<FieldImportance> Fields, IReadOnlyList<CrossFeature> CrossFeatures, double[,] JointPower, double ZeroFraction, long Rows)
{
    private const long Block = 4096;

    /// <summary>Measures it over a set of rows. Rows are read in blocks; memory does not grow with them.</summary>
    /// <param name="model">A model whose backbone is an <see cref="ArmNet"/>.</param>
    /// <param name="ids">Ids, int64 [rows, fields].</param>
    /// <param name="values">Values [rows, fields].</param>
    /// <exception cref="ArgumentException">The model is none of an ARM-Net, there are no rows, or the rows do not fit the model.</exception>
    public static ArmNetExplanation Of(ClickModel model, Tensor ids, Tensor values)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(ids);
        ArgumentNullException.ThrowIfNull(values);
        var tally = new InteractionTally((int)model.Backbone.Options.Fields);
        Device device = model.parameters().First().device;
        for (long start = 0; start < ids.size(0); start += Block)
        {
            using DisposeScope scope = NewDisposeScope();
            long count = Math.Min(Block, ids.size(0) - start);
            var (gates, powers) = Attend(model, ids.narrow(0, start, count).to(device), values.narrow(0, start, count).to(device));
            tally.Add(gates, powers);
        }
        return tally.Explanation();
    }

    /// <summary>Share of each field in a row's absolute powers: the local explanations of many rows at once.</summary>
    /// <param name="model">A model whose backbone is an <see cref="ArmNet"/>.</param>
    /// <param name="ids">Ids, int64 [rows, fields].</param>
    /// <param name="values">Values [rows, fields].</param>
    /// <returns>Shares [rows, fields] that sum to 1 over the fields, on the model's device.</returns>
    /// <exception cref="ArgumentException">As <see cref="Of"/>.</exception>
    public static Tensor LocalImportance(ClickModel model, Tensor ids, Tensor values)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(ids);
        ArgumentNullException.ThrowIfNull(values);
        using DisposeScope scope = NewDisposeScope();
        Device device = model.parameters().First().device;
        Tensor use = Attend(model, ids.to(device), values.to(device)).Powers.abs().sum(1);
        return (use / use.sum(-1, keepdim: true).clamp_min(1e-12)).MoveToOuterDisposeScope();
    }

    private static (Tensor Gates, Tensor Powers) Attend(ClickModel model, Tensor ids, Tensor values)
    {
        if (model.Backbone is not ArmNet network) throw new ArgumentException($"Only an ARM-Net explains itself by its powers; the model is a {model.Backbone.GetType().Name}.", nameof(model));
        using var ungraphed = no_grad();
        return network.Attend(model.Embedding.forward(ids, values));
    }
}

/// <summary>Adds up gates and powers over blocks of rows.</summary>
internal sealed class InteractionTally(int fields)
{
    private const int BitsPerWord = 62;
    private readonly double[] power = new double[fields];
    private readonly double[,] joint = new double[fields, fields];
    private readonly Dictionary<string, (int[] Fields, long Count, double Power)> sets = [];
    private long rows, gatesSeen, closed;

    /// <summary>Adds a block: gates and powers [rows, neurons, fields].</summary>
    internal void Add(Tensor gates, Tensor powers)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor absolute = powers.abs().reshape(-1, fields);
        Tensor open = gates.ne(0).reshape(-1, fields);
        rows += gates.size(0);
        gatesSeen += gates.numel();
        closed += gates.numel() - open.sum().item<long>();
        double[] sums = absolute.sum(0, type: ScalarType.Float64).cpu().data<double>().ToArray();
        double[] products = absolute.t().matmul(absolute).to(ScalarType.Float64).cpu().reshape(-1).data<double>().ToArray();
        for (int j = 0; j < fields; j++)
        {
            power[j] += sums[j];
            for (int k = 0; k < fields; k++) joint[j, k] += products[j * fields + k];
        }

        // A set of open gates is a bit mask of one or more words; equal masks are counted together.
        int words = (fields + BitsPerWord - 1) / BitsPerWord;
        Tensor bits = zeros(fields, words, ScalarType.Int64);
        for (int j = 0; j < fields; j++) bits[j, j / BitsPerWord] = 1L << (j % BitsPerWord);
        Tensor masks = stack([.. Enumerable.Range(0, words).Select(word =>
            where(open, bits.select(1, word).to(open.device), 0L).sum(1))], 1);
        var (unique, inverse, counts) = masks.unique(return_inverse: true, return_counts: true, dim: 0);
        Tensor mean = absolute.sum(1, type: ScalarType.Float64) / open.sum(1);
        double[] total = zeros(unique.size(0), ScalarType.Float64, device: open.device).index_add_(0, inverse!, mean, 1).cpu().data<double>().ToArray();
        long[] mask = unique.cpu().data<long>().ToArray();
        long[] count = counts!.cpu().data<long>().ToArray();
        for (int i = 0; i < count.Length; i++)
        {
            int[] members = [.. Enumerable.Range(0, fields).Where(j => (mask[i * words + j / BitsPerWord] >> (j % BitsPerWord) & 1) == 1)];
            string key = string.Join(',', members);
            var known = sets.GetValueOrDefault(key, (members, 0, 0));
            sets[key] = (members, known.Count + count[i], known.Power + total[i]);
        }
    }

    internal ArmNetExplanation Explanation()
    {
        if (rows == 0) throw new ArgumentException("An explanation needs at least one row.");
        double sum = power.Sum();
        double pairs = gatesSeen / (double)fields;
        var jointMean = new double[fields, fields];
        for (int j = 0; j < fields; j++)
            for (int k = 0; k < fields; k++) jointMean[j, k] = joint[j, k] / pairs;
        return new ArmNetExplanation(
            [.. power.Select((p, j) => new FieldImportance(j, sum > 0 ? p / sum : 1.0 / fields))],
            [.. sets.Values.Select(s => new CrossFeature(s.Fields, s.Count / pairs, s.Power / s.Count)).OrderByDescending(c => c.Frequency).ThenBy(c => c.Order).ThenBy(c => string.Join(',', c.Fields), StringComparer.Ordinal)],
            jointMean,
            closed / (double)gatesSeen,
            rows);
    }
}
