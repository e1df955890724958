namespace Priori.Continual;

/// <summary>What a source's share of the labels is proportional to.</summary>
public enum AllocationRule
{
    /// <summary>|nu|, the best for a given nu (Wang et al., ICML 2023).</summary>
    Absolute,
    /// <summary>nu^2 (Chen et al., ICML 2022).</summary>
    Squared,
}

/// <summary>Splits a budget of labels over the sources.</summary>
public static class Allocation
{
    /// <summary>
    /// N_m = max(share of |nu_m| or nu_m^2, min): what the floors (and limits) take is shared by the others in proportion. Rounded by largest remainder, so that the counts sum to the total exactly.
    /// </summary>
    /// <param name="relevance">nu [M]; if all are 0, every source gets the same.</param>
    /// <param name="total">Labels in all.</param>
    /// <param name="minimum">Labels of each source at least.</param>
    /// <param name="rule">What shares are proportional to.</param>
    /// <param name="limits">Labels that each source has; unlimited when null. Labels that the relevant sources do not have are spread over the others.</param>
    /// <exception cref="ArgumentException">The total is below M * minimum or above the sum of the limits, or an argument is negative or not finite.</exception>
    public static long[] Proportional(Tensor relevance, long total, long minimum = 0, AllocationRule rule = AllocationRule.Absolute, IReadOnlyList<long>? limits = null)
    {
        double[] nu = Relevance.Values(relevance);
        ArgumentOutOfRangeException.ThrowIfNegative(minimum);
        if (total < nu.Length * minimum) throw new ArgumentException($"{total} labels do not give {nu.Length} sources {minimum} each: at least {nu.Length * minimum} are needed.", nameof(total));
        return Split([.. nu.Select(v => rule == AllocationRule.Squared ? v * v : Math.Abs(v))], total, null, [.. nu.Select(_ => minimum)], limits);
    }

    /// <summary>
    /// N_m proportional to |nu_m| / sqrt(price_m) with sum price_m N_m at most the budget: the smallest variance for the money. What is left is less than the price of a further label of a source in use.
    /// </summary>
    /// <param name="relevance">nu [M]; if all are 0, the sources count as equally relevant.</param>
    /// <param name="budget">Money.</param>
    /// <param name="prices">Price of a label of each source, above 0.</param>
    /// <param name="openingFee">Fee of each source in use. Only sources with nu not 0 are used then, unless a minimum asks for all.</param>
    /// <param name="minimum">Labels of each source at least.</param>
    /// <param name="limits">Labels that each source has; unlimited when null.</param>
    /// <exception cref="ArgumentException">The budget does not pay for the fees and minimums, or an argument is negative or not finite.</exception>
    public static long[] Priced(Tensor relevance, double budget, IReadOnlyList<double> prices, double openingFee = 0, long minimum = 0, IReadOnlyList<long>? limits = null)
    {
        ArgumentNullException.ThrowIfNull(prices);
        double[] nu = Relevance.Values(relevance);
        ArgumentOutOfRangeException.ThrowIfNegative(openingFee);
        ArgumentOutOfRangeException.ThrowIfNegative(minimum);
        if (prices.Count != nu.Length || prices.Any(p => !(p > 0) || double.IsInfinity(p))) throw new ArgumentException($"Each of the {nu.Length} sources needs a price above 0.", nameof(prices));
        bool all = minimum > 0 || nu.All(v => v == 0);
        double money = budget - (openingFee * (all ? nu.Length : nu.Count(v => v != 0)));
        if (money < minimum * prices.Sum() || money <= 0)
            throw new ArgumentException(FormattableString.Invariant($"A budget of {budget} does not pay for the opening fees ({budget - money}) and {minimum} labels of each source ({minimum * prices.Sum()})."), nameof(budget));
        IReadOnlyList<long>? open = openingFee > 0 && !all ? [.. nu.Select((v, m) => v == 0 ? 0 : limits?[m] ?? long.MaxValue)] : limits;
        return Split([.. nu.Select((v, m) => Math.Abs(v) / Math.Sqrt(prices[m]))], money, prices, [.. nu.Select(_ => minimum)], open);
    }

    /// <summary>Money that a purchase costs: price times labels, and the fee of each source that is bought from.</summary>
    /// <param name="counts">Labels of each source.</param>
    /// <param name="prices">Price of a label of each; all 1 when null.</param>
    /// <param name="openingFee">Fee of each source that is bought from.</param>
    public static double Cost(IReadOnlyList<long> counts, IReadOnlyList<double>? prices = null, double openingFee = 0)
    {
        ArgumentNullException.ThrowIfNull(counts);
        return counts.Select((n, m) => n == 0 ? 0 : openingFee + (n * (prices?[m] ?? 1))).Sum();
    }

    // x_m = clamp(t * weight_m, lower_m, upper_m) with sum price_m x_m = total: the bounds that are broken most in sum are fixed first (Bitran and Hax, Management Science 1981), until none is.
    internal static long[] Split(double[] weights, double total, IReadOnlyList<double>? prices, IReadOnlyList<long> lower, IReadOnlyList<long>? limits)
    {
        int count = weights.Length;
        if (weights.Any(w => !double.IsFinite(w))) throw new ArgumentException("The relevance must be finite.", nameof(weights));
        if (limits is not null && limits.Count != count) throw new ArgumentException($"There are {limits.Count} limits for {count} sources.", nameof(limits));
        double Price(int m) => prices?[m] ?? 1;
        double Upper(int m) => limits?[m] ?? double.PositiveInfinity;
        double[] least = [.. lower.Select((l, m) => Math.Min(l, Upper(m)))];
        double capacity = Enumerable.Range(0, count).Sum(m => Price(m) * Upper(m));
        if (prices is null && total > capacity) throw new ArgumentException(FormattableString.Invariant($"The sources have {capacity} labels, not {total}."), nameof(total));
        total = Math.Min(total, capacity);
        // Labels that the relevant sources do not have go to the others.
        double[] share = [.. weights];
        if (Enumerable.Range(0, count).Sum(m => Price(m) * (weights[m] > 0 ? Upper(m) : least[m])) < total)
        {
            for (int m = 0; m < count; m++)
            {
                if (weights[m] > 0) least[m] = Upper(m);
                share[m] = weights[m] > 0 ? 0 : 1;
            }
        }
        double[] x = new double[count];
        List<int> free = [.. Enumerable.Range(0, count)];
        double left = total;
        while (free.Count > 0)
        {
            double sum = free.Sum(m => Price(m) * share[m]);
            foreach (int m in free) x[m] = sum > 0 ? left * share[m] / sum : 0;
            int[] below = [.. free.Where(m => x[m] < least[m])], above = [.. free.Where(m => x[m] > Upper(m))];
            if (below.Length + above.Length == 0) break;
            int[] broken = below.Sum(m => Price(m) * (least[m] - x[m])) >= above.Sum(m => Price(m) * (x[m] - Upper(m))) ? below : above;
            foreach (int m in broken)
            {
                x[m] = x[m] < least[m] ? least[m] : Upper(m);
                left -= Price(m) * x[m];
                free.Remove(m);
            }
        }
        long[] whole = [.. x.Select(v => (long)Math.Floor(v + 1e-9))];
        double rest = total - Enumerable.Range(0, count).Sum(m => Price(m) * whole[m]);
        int[] order = [.. Enumerable.Range(0, count).OrderByDescending(m => Math.Round(x[m] - whole[m], 9))];
        // Once round by largest remainder; again only where prices or limits have left enough for a whole label.
        for (bool bought = true; bought && rest > 1e-6;)
        {
            bought = false;
            foreach (int m in order)
            {
                if (share[m] == 0 || whole[m] >= Upper(m) || Price(m) > rest + 1e-6) continue;
                whole[m]++;
                rest -= Price(m);
                bought = true;
                if (rest <= 1e-6) break;
            }
        }
        return whole;
    }
}
