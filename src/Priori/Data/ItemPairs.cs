using Priori.Runtime;

namespace Priori.Data;

/// <summary>A generated catalogue with item-to-item pairs, and everything that is true about it.</summary>
/// <param name="Names">Names of the features, in the order of the columns of <paramref name="Features"/>.</param>
/// <param name="Features">int64 [items, features]: categories, counted from 0 within each feature. The id of an item is its row.</param>
/// <param name="Topics">int64 [items]: the true topic of each item.</param>
/// <param name="Vectors">float64 [items, 10]: the true vector z of each item.</param>
/// <param name="Popularity">float64 [items]: the probability with which each item begins a pair.</param>
/// <param name="Pairs">int64 [pairs, 2]: seed item and target item of each pair, in random order.</param>
public sealed record ItemPairsData(IReadOnlyList<string> Names, Tensor Features, Tensor Topics, Tensor Vectors, Tensor Popularity, Tensor Pairs)
{
    /// <summary>The catalogue as a table: the column item (item_0, item_1, ...) and one for each feature (topic_3, ...).</summary>
    public Table Items()
    {
        long[] codes = Features.t().contiguous().data<long>().ToArray();
        int items = (int)Features.size(0);
        return new Table([TableColumn.Texts("item", Enumerable.Range(0, items).Select(i => $"item_{i}")),
            .. Names.Select((name, f) => TableColumn.Texts(name, Enumerable.Range(0, items).Select(i => $"{name}_{codes[f * items + i]}")))], "generated items");
    }

    /// <summary>The pairs as a table: the columns query and item.</summary>
    public Table PairTable()
    {
        long[] rows = Pairs.data<long>().ToArray();
        IEnumerable<string> Column(int side) => Enumerable.Range(0, rows.Length / 2).Select(i => $"item_{rows[2 * i + side]}");
        return new Table([TableColumn.Texts("query", Column(0)), TableColumn.Texts("item", Column(1))], "generated pairs");
    }
}

/// <summary>
/// Generates an item catalogue with correlated features and a long tail of rarely seen items, with item-to-item pairs ("who took i also took j"). An item has a topic and a brand;
/// z = centre[topic] + 0.4 e + 0.5 style[brand] with standard normal centres, styles and e in ten dimensions. Its features are topic (right for 85 %, else random), group (half the topic's number, for 85 %),
/// brand, maker (the brand's number modulo 15, for 90 %) and colour (random). Item i begins a pair with probability proportional to rank^-1.1, the ranks being random, and its target j is another item
/// with probability proportional to exp(0.6 z_i . z_j + log popularity_j).
/// </summary>
public static class ItemPairs
{
    private const int Dimension = 10, Topics = 40, Groups = 20, Brands = 50, Makers = 15, Colours = 8;
    private const double TopicRight = 0.85, MakerRight = 0.9, Noise = 0.4, Style = 0.5, PopularityExponent = 1.1, Affinity = 0.6;

    /// <summary>Draws a catalogue and its pairs.</summary>
    /// <param name="seed">The seed of everything.</param>
    /// <param name="items">Items of the catalogue, at least 2.</param>
    /// <param name="pairs">Number of pairs, at least 1; a pair may occur several times.</param>
    public static ItemPairsData Generate(int seed, int items = 2000, int pairs = 8000)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(items, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(pairs, 1);
        SplitMix64 world = SplitMix64.For(seed, 0), features = SplitMix64.For(seed, 1), log = SplitMix64.For(seed, 2);
        double[] centres = Normals(world, Topics * Dimension), styles = Normals(world, Brands * Dimension);

        long[] codes = new long[items * 5], topics = new long[items];
        double[] z = new double[items * Dimension];
        for (int i = 0; i < items; i++)
        {
            int topic = features.Next(Topics), brand = features.Next(Brands);
            topics[i] = topic;
            long[] row =
            [
                features.NextDouble() < TopicRight ? topic : features.Next(Topics), features.NextDouble() < TopicRight ? topic / 2 : features.Next(Groups),
                brand, features.NextDouble() < MakerRight ? brand % Makers : features.Next(Makers), features.Next(Colours),
            ];
            row.CopyTo(codes, i * 5);
            for (int d = 0; d < Dimension; d++)
                z[i * Dimension + d] = centres[topic * Dimension + d] + Noise * features.NextGaussian() + Style * styles[brand * Dimension + d];
        }

        int[] ranks = [.. Enumerable.Range(1, items)];
        log.Shuffle(ranks.AsSpan());
        double[] popularity = [.. ranks.Select(r => Math.Pow(r, -PopularityExponent))];
        double total = popularity.Sum();
        for (int i = 0; i < items; i++) popularity[i] /= total;
        double[] begins = Cumulative(popularity);
        long[] drawn = new long[2 * pairs];
        for (int p = 0; p < pairs; p++) drawn[2 * p] = Draw(begins, log.NextDouble());
        double[] luck = [.. Enumerable.Range(0, pairs).Select(_ => log.NextDouble())];
        foreach (IGrouping<long, int> group in Enumerable.Range(0, pairs).GroupBy(p => drawn[2 * p]))
        {
            double[] cumulative = Cumulative(Weights(z, popularity, (int)group.Key));
            foreach (int p in group) drawn[2 * p + 1] = Draw(cumulative, luck[p]);
        }
        return new ItemPairsData(["topic", "group", "brand", "maker", "colour"], tensor(codes, [items, 5], ScalarType.Int64), tensor(topics), tensor(z, [items, Dimension], ScalarType.Float64),
            tensor(popularity), tensor(drawn, [pairs, 2], ScalarType.Int64));
    }

    /// <summary>How likely each item is the target of a pair that begins with one, up to a factor.</summary>
    private static double[] Weights(double[] z, double[] popularity, int begin)
    {
        double[] logits = new double[popularity.Length];
        for (int j = 0; j < logits.Length; j++)
        {
            double affinity = 0;
            for (int d = 0; d < Dimension; d++) affinity += z[begin * Dimension + d] * z[j * Dimension + d];
            logits[j] = j == begin ? double.NegativeInfinity : Affinity * affinity + Math.Log(popularity[j]);
        }
        double largest = logits.Max();
        return [.. logits.Select(l => Math.Exp(l - largest))];
    }

    private static double[] Normals(SplitMix64 random, int count) => [.. Enumerable.Range(0, count).Select(_ => random.NextGaussian())];

    private static double[] Cumulative(double[] weights)
    {
        double sum = 0;
        return [.. weights.Select(w => sum += w)];
    }

    private static int Draw(double[] cumulative, double luck)
    {
        int index = Array.BinarySearch(cumulative, luck * cumulative[^1]);
        return Math.Min(index >= 0 ? index + 1 : ~index, cumulative.Length - 1);
    }
}
