using Priori.Runtime;

namespace Priori.Data;

/// <summary>What a generated world of bundles looks like.</summary>
public sealed record BundleWorldOptions
{
    /// <summary>Number of items. Default 1200.</summary>
    public int Items { get; init; } = 1200;

    /// <summary>Number of styles; a bundle has one. Default 30.</summary>
    public int Styles { get; init; } = 30;

    /// <summary>Number of types (shirt, shoe, ...), which say nothing about bundles. Default 6.</summary>
    public int Types { get; init; } = 6;

    /// <summary>Number of bundles. Default 1500.</summary>
    public int Bundles { get; init; } = 1500;

    /// <summary>Number of users. Default 800.</summary>
    public int Users { get; init; } = 800;

    /// <summary>Items a user took, from three styles. Default 25.</summary>
    public int ItemsPerUser { get; init; } = 25;

    /// <summary>Part of the items without text. Default 0.4.</summary>
    public double MissingText { get; init; } = 0.4;

    /// <summary>Part of the items with text that have no content. Default 0.4.</summary>
    public double MissingContent { get; init; } = 0.4;
}

/// <summary>A generated world of bundles and what is true about it.</summary>
/// <param name="Styles">Style of each item.</param>
/// <param name="Types">Type of each item.</param>
/// <param name="Content">Content features float32 [items, 32], as of an image: style and type, noisy. Rows of zeros are missing.</param>
/// <param name="Text">Text features float32 [items, 32]: style alone, noisier. Rows of zeros are missing.</param>
/// <param name="Bundles">The bundles, each of different items in random order.</param>
/// <param name="FeedbackUsers">User of each user-item pair, int64 [pairs].</param>
/// <param name="FeedbackItems">Item of each user-item pair, int64 [pairs].</param>
public sealed record BundleWorldData(
    IReadOnlyList<int> Styles, IReadOnlyList<int> Types, Tensor Content, Tensor Text, IReadOnlyList<int[]> Bundles, Tensor FeedbackUsers, Tensor FeedbackItems);

/// <summary>
/// Generates items with two kinds of features, bundles of one style, and users who took items of a few styles. An item has a style (a 12-dimensional vector) and a type
/// (6-dimensional); its latent vector is both with noise of deviation 0.3. Content is a random linear image of the latent vector with noise 1.5, text one of the style vector with noise 2.
/// Popularity falls as rank^-0.6. A bundle takes 4 to 8 items of one style by popularity, and every second one a random item besides.
/// Every part has random numbers of its own: worlds of one seed that differ in what is missing have the same items, bundles and users.
/// </summary>
public static class BundleWorld
{
    private const int StyleDim = 12, TypeDim = 6, FeatureDim = 32, StylesPerUser = 3, SmallestBundle = 4, LargestBundle = 8;
    private const double LatentNoise = 0.3, ContentNoise = 1.5, TextNoise = 2, PopularityExponent = 0.6;

    /// <summary>Draws a world.</summary>
    /// <param name="seed">Its seed.</param>
    /// <param name="options">Sizes and missing parts; null for the defaults.</param>
    /// <exception cref="ArgumentException">A size is below 1, a part is outside [0, 1], or there are fewer than 9 items.</exception>
    public static BundleWorldData Generate(int seed, BundleWorldOptions? options = null)
    {
        options ??= new BundleWorldOptions();
        if (options.Items <= LargestBundle || options.Styles < 1 || options.Types < 1 || options.Bundles < 1 || options.Users < 1 || options.ItemsPerUser < 1)
            throw new ArgumentException($"A world needs more than {LargestBundle} items and at least one style, type, bundle, user and item a user.", nameof(options));
        if (options.MissingText is not (>= 0 and <= 1) || options.MissingContent is not (>= 0 and <= 1)) throw new ArgumentException("A missing part lies in [0, 1].", nameof(options));

        int n = options.Items;
        SplitMix64 random = SplitMix64.For(seed, 0);
        int[] styles = Draw(options.Styles), types = Draw(options.Types), ranks = [.. Enumerable.Range(0, n)];
        random.Shuffle(ranks.AsSpan());
        double[] popularity = [.. ranks.Select(rank => Math.Pow(rank + 1, -PopularityExponent))];

        random = SplitMix64.For(seed, 1);
        double[,] styleVectors = Gaussian(random, options.Styles, StyleDim), typeVectors = Gaussian(random, options.Types, TypeDim);
        double[,] toContent = Gaussian(random, StyleDim + TypeDim, FeatureDim), toText = Gaussian(random, StyleDim, FeatureDim);
        SplitMix64 missing = SplitMix64.For(seed, 2);
        float[] content = new float[n * FeatureDim], text = new float[n * FeatureDim];
        double[] latent = new double[StyleDim + TypeDim], style = new double[StyleDim];
        for (int item = 0; item < n; item++)
        {
            for (int i = 0; i < StyleDim; i++) style[i] = styleVectors[styles[item], i];
            for (int i = 0; i < latent.Length; i++) latent[i] = (i < StyleDim ? style[i] : typeVectors[types[item], i - StyleDim]) + LatentNoise * random.NextGaussian();
            double textDraw = missing.NextDouble(), contentDraw = missing.NextDouble();
            bool withoutText = textDraw < options.MissingText, withoutContent = !withoutText && contentDraw < options.MissingContent;
            Feature(content, item, latent, toContent, ContentNoise, withoutContent);
            Feature(text, item, style, toText, TextNoise, withoutText);
        }

        int[][] ofStyle = [.. Enumerable.Range(0, options.Styles).Select(s => Enumerable.Range(0, n).Where(item => styles[item] == s).ToArray())];
        int[] inhabited = [.. Enumerable.Range(0, options.Styles).Where(s => ofStyle[s].Length > 1)];
        if (inhabited.Length == 0) throw new ArgumentException("No style has two items; ask for more items or fewer styles.", nameof(options));
        SplitMix64 bundling = SplitMix64.For(seed, 3);
        var bundles = new int[options.Bundles][];
        for (int b = 0; b < bundles.Length; b++)
        {
            int[] candidates = ofStyle[inhabited[bundling.Next(inhabited.Length)]];
            List<int> bundle = Take(bundling, candidates, popularity, SmallestBundle + bundling.Next(LargestBundle - SmallestBundle + 1));
            if (bundling.NextDouble() < 0.5)
            {
                int stranger = bundling.Next(n);
                while (bundle.Contains(stranger)) stranger = bundling.Next(n);
                bundle.Add(stranger);
            }
            bundles[b] = [.. bundle];
            bundling.Shuffle(bundles[b].AsSpan());
        }

        SplitMix64 feedback = SplitMix64.For(seed, 4);
        List<long> users = [], items = [];
        for (int user = 0; user < options.Users; user++)
        {
            int[] liked = [.. Enumerable.Range(0, StylesPerUser).SelectMany(_ => ofStyle[feedback.Next(options.Styles)]).Distinct()];
            foreach (int item in Take(feedback, liked, popularity, options.ItemsPerUser))
            {
                users.Add(user);
                items.Add(item);
            }
        }
        return new BundleWorldData(styles, types, tensor(content).view(n, FeatureDim), tensor(text).view(n, FeatureDim), bundles, tensor(users.ToArray()), tensor(items.ToArray()));

        int[] Draw(int count) => [.. Enumerable.Range(0, n).Select(_ => random.Next(count))];

        void Feature(float[] features, int item, double[] source, double[,] map, double noise, bool absent)
        {
            for (int d = 0; d < FeatureDim; d++)
            {
                double value = noise * random.NextGaussian();
                for (int i = 0; i < source.Length; i++) value += source[i] * map[i, d];
                features[item * FeatureDim + d] = absent ? 0 : (float)value;
            }
        }
    }

    /// <summary>Draws different candidates one after the other, each with probability proportional to its weight; all of them where there are too few.</summary>
    private static List<int> Take(SplitMix64 random, int[] candidates, double[] weights, int count)
    {
        var left = candidates.ToList();
        var taken = new List<int>(count);
        while (taken.Count < count && left.Count > 0)
        {
            double point = random.NextDouble() * left.Sum(item => weights[item]);
            int i = 0;
            while (i < left.Count - 1 && (point -= weights[left[i]]) >= 0) i++;
            taken.Add(left[i]);
            left.RemoveAt(i);
        }
        return taken;
    }

    private static double[,] Gaussian(SplitMix64 random, int rows, int columns)
    {
        var matrix = new double[rows, columns];
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) matrix[i, j] = random.NextGaussian();
        return matrix;
    }
}
