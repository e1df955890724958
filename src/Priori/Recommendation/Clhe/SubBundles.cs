using Priori.Runtime;

namespace Priori.Recommendation;

/// <summary>The second view of a bundle for the bundle-level contrast (CLHE, section 3.4).</summary>
public static class SubBundles
{
    /// <summary>How many items of a bundle the view keeps: round(|b| ratio + 0.5) to even, at most |b| - 1.</summary>
    /// <param name="size">Number of items of the bundle, at least 2.</param>
    /// <param name="ratio">Part that is kept, in (0, 1).</param>
    public static int Kept(int size, double ratio)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(size, 2);
        if (ratio is not (> 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(ratio), ratio, "The part that is kept lies in (0, 1).");
        return Math.Min((int)Math.Round(size * ratio + 0.5, MidpointRounding.ToEven), size - 1);
    }

    /// <summary>Draws the view of a bundle.</summary>
    /// <param name="bundle">Different items, at least 2.</param>
    /// <param name="ratio">Below 1 the part that is kept; 1 keeps the bundle; above 1 items are added.</param>
    /// <param name="augmentation">What becomes of the items left out.</param>
    /// <param name="itemCount">Number of items in all; new items are drawn from those not in the bundle.</param>
    /// <param name="longest">Items of the longest training bundle: above 1, max(1, round(longest (ratio - 1))) items are added.</param>
    /// <param name="random">The random numbers.</param>
    public static int[] Draw(ReadOnlySpan<int> bundle, double ratio, BundleAugmentation augmentation, int itemCount, int longest, SplitMix64 random)
    {
        ArgumentNullException.ThrowIfNull(random);
        int[] view = bundle.ToArray();
        random.Shuffle(view.AsSpan());
        if (ratio == 1) return view;
        if (ratio > 1) return [.. view, .. Strangers(view, Math.Max(1, (int)Math.Round(longest * (ratio - 1), MidpointRounding.ToEven)))];
        int kept = Kept(view.Length, ratio);
        return augmentation == BundleAugmentation.ItemDropout ? view[..kept] : [.. view[..kept], .. Strangers(view, view.Length - kept)];

        List<int> Strangers(int[] known, int count)
        {
            var seen = known.ToHashSet();
            count = Math.Min(count, itemCount - seen.Count);
            var drawn = new List<int>(count);
            while (drawn.Count < count)
            {
                int item = random.Next(itemCount);
                if (seen.Add(item)) drawn.Add(item);
            }
            return drawn;
        }
    }
}
