using System.Globalization;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>What a generated interest log looks like.</summary>
public sealed record InterestLogOptions
{
    /// <summary>Users. Default 3000.</summary>
    public int Users { get; init; } = 3000;

    /// <summary>Categories. Default 20.</summary>
    public int Categories { get; init; } = 20;

    /// <summary>Items of each category. Default 30.</summary>
    public int ItemsPerCategory { get; init; } = 30;

    /// <summary>Events of each user. Default 20.</summary>
    public int Events { get; init; } = 20;

    /// <summary>Fewest categories that interest a user. Default 2.</summary>
    public int FewestInterests { get; init; } = 2;

    /// <summary>Most categories that interest a user, at most <see cref="Categories"/>. Default 4.</summary>
    public int MostInterests { get; init; } = 4;

    /// <summary>A user's favourite items in each category of interest, at most <see cref="ItemsPerCategory"/>. Default 8.</summary>
    public int Favorites { get; init; } = 8;

    /// <summary>Probability that an event is one of the favourites, in [0, 1]. Default 0.8.</summary>
    public double FavoriteShare { get; init; } = 0.8;
}

/// <summary>
/// Generates event logs of users with several interests. A user has 2 to 4 categories with weights from Dirichlet(2, ..., 2) and 8 favourite items in each. An event is in a category
/// drawn by weight, and its item is a favourite with probability 0.8, any item of the category otherwise. So the past events of a candidate's own category say much about it, the others little.
/// </summary>
public static class InterestLog
{
    /// <summary>Draws a log. Users are user_0, ..., items item_0, ..., categories category_0, ...; item i is in category i / (items per category); an event's time is its number within the user.</summary>
    /// <param name="seed">The same seed gives the same log on every system.</param>
    /// <param name="options">Sizes; null for the defaults.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is below 1 or above what it is drawn from, or the share is outside [0, 1].</exception>
    public static EventLog Generate(int seed, InterestLogOptions? options = null)
    {
        options ??= new InterestLogOptions();
        foreach (int size in new[] { options.Users, options.Categories, options.ItemsPerCategory, options.Events, options.FewestInterests, options.Favorites }) ArgumentOutOfRangeException.ThrowIfLessThan(size, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MostInterests, options.FewestInterests, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.MostInterests, options.Categories, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.Favorites, options.ItemsPerCategory, nameof(options));
        if (options.FavoriteShare is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(options), options.FavoriteShare, "A probability lies in [0, 1].");

        int events = options.Users * options.Events, perCategory = options.ItemsPerCategory;
        int[] users = new int[events], items = new int[events];
        double[] times = new double[events];
        int[] categories = [.. Enumerable.Range(0, options.Categories)], things = [.. Enumerable.Range(0, perCategory)];
        for (int user = 0, at = 0; user < options.Users; user++)
        {
            SplitMix64 random = SplitMix64.For(seed, 0x494E54, user);
            int[] interests = Draw(random, categories, options.FewestInterests + random.Next(options.MostInterests - options.FewestInterests + 1));
            double[] weights = [.. interests.Select(_ => Gamma2(random))];
            int[][] favorites = [.. interests.Select(_ => Draw(random, things, options.Favorites))];
            double total = weights.Sum();
            for (int e = 0; e < options.Events; e++, at++)
            {
                double position = random.NextDouble() * total;
                int interest = 0;
                while (interest < weights.Length - 1 && (position -= weights[interest]) >= 0) interest++;
                int item = random.NextDouble() < options.FavoriteShare ? favorites[interest][random.Next(options.Favorites)] : random.Next(perCategory);
                (users[at], items[at], times[at]) = (user, (interests[interest] * perCategory) + item, e);
            }
        }
        int count = options.Categories * perCategory;
        return new EventLog(users, items, times, Names("user", options.Users), Names("item", count),
            [new ItemCategory("category", Names("category", options.Categories), [.. Enumerable.Range(0, count).Select(i => i / perCategory)])]);
    }

    private static string[] Names(string kind, int count) => [.. Enumerable.Range(0, count).Select(i => string.Create(CultureInfo.InvariantCulture, $"{kind}_{i}"))];

    private static int[] Draw(SplitMix64 random, int[] values, int count)
    {
        int[] copy = [.. values];
        random.Shuffle<int>(copy);
        return copy[..count];
    }

    /// <summary>Gamma with shape 2 and scale 1, the sum of two exponentials; normalised to sum 1 they are Dirichlet(2, ..., 2).</summary>
    private static double Gamma2(SplitMix64 random) => -Math.Log(1 - random.NextDouble()) - Math.Log(1 - random.NextDouble());
}
