using Priori.Runtime;
using Priori.Training;

namespace Priori.Recommendation;

/// <summary>
/// The self-supervised task (Yao et al., CIKM 2021, section 3.1): two views of each item of a batch, made by masking features and then dropping values, must find each other among the other
/// items' views; L_self is <see cref="InfoNce"/> of the first views on the second. It uses the items' features only. The batch must be drawn uniformly from the catalogue, not from the
/// interactions (section 3.4); <see cref="Sample"/> does so.
/// </summary>
public sealed class ItemContrastiveTask
{
    private readonly FeatureTower _first, _second;

    /// <summary>Makes the task.</summary>
    /// <param name="tower">The item tower: H and G share its embeddings and MLP.</param>
    /// <param name="policy">Which features each view masks.</param>
    /// <param name="temperature">tau of the task, above 0. Default 0.1.</param>
    /// <param name="valueDropout">Probability with which each view drops a value of a multi-valued feature, in [0, 1). Default 0.3.</param>
    /// <param name="second">Another tower for the second view, sharing the embeddings; by default the same.</param>
    /// <exception cref="ArgumentOutOfRangeException">The temperature or the probability is outside its range.</exception>
    public ItemContrastiveTask(FeatureTower tower, IFeatureMaskPolicy policy, double temperature = 0.1, double valueDropout = 0.3, FeatureTower? second = null)
    {
        ArgumentNullException.ThrowIfNull(tower);
        ArgumentNullException.ThrowIfNull(policy);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
        if (valueDropout is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(valueDropout), valueDropout, "The probability must be in [0, 1).");
        (_first, _second, Policy, Temperature, ValueDropout) = (tower, second ?? tower, policy, temperature, valueDropout);
    }

    /// <summary>Which features each view masks.</summary>
    public IFeatureMaskPolicy Policy { get; }

    /// <summary>tau of the task.</summary>
    public double Temperature { get; }

    /// <summary>Probability with which each view drops a value of a multi-valued feature.</summary>
    public double ValueDropout { get; }

    /// <summary>L_self of a batch.</summary>
    /// <param name="items">Different items, drawn uniformly from the catalogue.</param>
    /// <param name="random">Random numbers of the masks; those of the dropout are libtorch's.</param>
    /// <returns>A scalar.</returns>
    public Tensor Loss(ItemFeatures items, SplitMix64 random)
    {
        ArgumentNullException.ThrowIfNull(items);
        (bool[] maskA, bool[] maskB) = Policy.Draw(random);
        return InfoNce.Loss(View(_first, items, maskA), View(_second, items, maskB), Temperature);
    }

    /// <summary>Draws different items uniformly from a catalogue (Floyd's algorithm): the cost depends on the batch only.</summary>
    /// <param name="catalogue">Number of items.</param>
    /// <param name="count">Items drawn, 1..catalogue.</param>
    /// <param name="random">Random numbers.</param>
    /// <returns>Rows int64 [count].</returns>
    /// <exception cref="ArgumentException">More items are asked for than there are.</exception>
    public static Tensor Sample(long catalogue, int count, SplitMix64 random)
    {
        ArgumentNullException.ThrowIfNull(random);
        if (count < 1 || count > catalogue) throw new ArgumentException($"A batch of {count} different items cannot be drawn from a catalogue of {catalogue}.", nameof(count));
        var drawn = new HashSet<long>(count);
        for (long last = catalogue - count; last < catalogue; last++)
        {
            long item = (long)(random.NextDouble() * (last + 1));
            if (!drawn.Add(item)) drawn.Add(last);
        }
        return tensor(drawn.ToArray());
    }

    private Tensor View(FeatureTower tower, ItemFeatures items, bool[] masked)
        => tower.Encode(tower.Embedding.Schema.DropValues(items, ValueDropout), masked.Contains(true) ? tensor(masked, device: items.Ids.device) : null);
}
