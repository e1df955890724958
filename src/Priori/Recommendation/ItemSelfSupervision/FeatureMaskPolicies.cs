using Priori.Runtime;

namespace Priori.Recommendation;

/// <summary>Chooses which features of the items of a batch each of two views masks.</summary>
public interface IFeatureMaskPolicy
{
    /// <summary>Draws the masks of one batch; the same for all its items.</summary>
    /// <param name="random">Random numbers.</param>
    /// <returns>For each view and feature whether it is masked.</returns>
    (bool[] MaskA, bool[] MaskB) Draw(SplitMix64 random);
}

/// <summary>No mask: both views are the item, so the loss only spreads items (the "spread-out" baseline).</summary>
/// <param name="features">Number of features.</param>
public sealed class NoMask(int features) : IFeatureMaskPolicy
{
    /// <inheritdoc/>
    public (bool[] MaskA, bool[] MaskB) Draw(SplitMix64 random) => (new bool[features], new bool[features]);
}

/// <summary>Random feature masking (RFM): the features are split at random into halves, and each view sees one. Each feature, the id among them, is in exactly one view.</summary>
public sealed class RandomComplementaryMask : IFeatureMaskPolicy
{
    private readonly int _features;

    /// <summary>Makes the policy.</summary>
    /// <param name="features">Number of features k, at least 2; floor(k/2) are masked in one view, chosen at random, and the others in the other.</param>
    /// <exception cref="ArgumentException">There are fewer than two features.</exception>
    public RandomComplementaryMask(int features) => _features = MaskDraws.AtLeastTwo(features);

    /// <inheritdoc/>
    public (bool[] MaskA, bool[] MaskB) Draw(SplitMix64 random)
    {
        ArgumentNullException.ThrowIfNull(random);
        bool[] masked = MaskDraws.Half(random, [.. Enumerable.Range(0, _features)], _features);
        bool[] others = [.. masked.Select(m => !m)];
        return random.Next(2) == 0 ? (masked, others) : (others, masked);
    }
}

/// <summary>Random feature masking with two independent halves: a feature may be in both views or in none.</summary>
public sealed class RandomIndependentMask : IFeatureMaskPolicy
{
    private readonly int _features;
    private readonly int[] _candidates;
    private readonly int? _id;

    /// <summary>Makes the policy.</summary>
    /// <param name="features">Number of features, at least 2 beside the id.</param>
    /// <param name="idFeature">The item's id, masked in exactly one view chosen at random (it would give the item away if both saw it); null if there is none.</param>
    /// <exception cref="ArgumentException">There are fewer than two features beside the id, or the id is none of them.</exception>
    public RandomIndependentMask(int features, int? idFeature = null)
    {
        _candidates = MaskDraws.WithoutId(features, idFeature);
        MaskDraws.AtLeastTwo(_candidates.Length);
        (_features, _id) = (features, idFeature);
    }

    /// <inheritdoc/>
    public (bool[] MaskA, bool[] MaskB) Draw(SplitMix64 random)
    {
        ArgumentNullException.ThrowIfNull(random);
        bool[] first = MaskDraws.Half(random, _candidates, _features), second = MaskDraws.Half(random, _candidates, _features);
        if (_id is { } id) (random.Next(2) == 0 ? first : second)[id] = true;
        return (first, second);
    }
}

/// <summary>
/// Correlated feature masking (CFM; Yao et al., section 3.2): a seed feature is drawn uniformly, and the n features with the largest mutual information to it are masked with it in the first view;
/// the second view masks the others. So one view cannot be told from the other by features that say the same.
/// </summary>
public sealed class CorrelatedFeatureMask : IFeatureMaskPolicy
{
    private readonly int _features;
    private readonly int? _id;
    private readonly Dictionary<int, int[]> _maskedWith;

    /// <summary>Makes the policy.</summary>
    /// <param name="mutualInformation">Mutual information of the features over the catalogue, [k, k]; see <see cref="Numerics.MutualInformation.Matrix"/>.</param>
    /// <param name="n">Features masked with the seed; by default half of those beside the id, rounded down, but so that one is left.</param>
    /// <param name="idFeature">
    /// The item's id: its mutual information to every feature is that feature's entropy, so it would always be chosen. It is kept out of the choice and masked in exactly one view, drawn at random
    /// (a rule of this library; the paper does not say). Null if there is none.
    /// </param>
    /// <exception cref="ArgumentException">There are fewer than two features beside the id, n leaves none, the matrix is not square, or the id is no feature.</exception>
    public CorrelatedFeatureMask(double[,] mutualInformation, int? n = null, int? idFeature = null)
    {
        ArgumentNullException.ThrowIfNull(mutualInformation);
        _features = mutualInformation.GetLength(0);
        if (mutualInformation.GetLength(1) != _features) throw new ArgumentException($"Mutual information must be [k, k], not [{_features}, {mutualInformation.GetLength(1)}].", nameof(mutualInformation));
        int[] candidates = MaskDraws.WithoutId(_features, idFeature);
        MaskDraws.AtLeastTwo(candidates.Length);
        int count = n ?? Math.Min(candidates.Length / 2, candidates.Length - 2);
        if (count < 0 || count > candidates.Length - 2) throw new ArgumentException($"n must be in 0..{candidates.Length - 2}, so that the view that masks the seed and n features sees one; it is {count}.", nameof(n));
        _id = idFeature;
        _maskedWith = candidates.ToDictionary(seed => seed, seed => (int[])[seed, .. candidates.Where(f => f != seed).OrderByDescending(f => mutualInformation[seed, f]).Take(count)]);
    }

    /// <summary>The features that the first view masks for each seed feature, the seed first.</summary>
    public IReadOnlyDictionary<int, int[]> MaskedWith => _maskedWith;

    /// <inheritdoc/>
    public (bool[] MaskA, bool[] MaskB) Draw(SplitMix64 random)
    {
        ArgumentNullException.ThrowIfNull(random);
        int[] masked = _maskedWith.Values.ElementAt(random.Next(_maskedWith.Count));
        bool[] first = new bool[_features];
        foreach (int feature in masked) first[feature] = true;
        if (_id is { } id) first[id] = random.Next(2) == 0;
        return (first, [.. first.Select(m => !m)]);
    }
}

internal static class MaskDraws
{
    public static int AtLeastTwo(int features)
        => features >= 2 ? features : throw new ArgumentException($"Masking features needs at least two of them beside the id; there {(features == 1 ? "is 1" : $"are {features}")}.", nameof(features));

    public static int[] WithoutId(int features, int? id)
        => id is null or >= 0 && id.GetValueOrDefault() < features ? [.. Enumerable.Range(0, features).Where(f => f != id)] : throw new ArgumentException($"The id must be in 0..{features - 1}, not {id}.", nameof(id));

    /// <summary>Half of the candidates, rounded down, at random.</summary>
    public static bool[] Half(SplitMix64 random, int[] candidates, int features)
    {
        int[] order = [.. candidates];
        random.Shuffle(order.AsSpan());
        bool[] masked = new bool[features];
        foreach (int feature in order.Take(candidates.Length / 2)) masked[feature] = true;
        return masked;
    }
}
