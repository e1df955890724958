using Priori.Runtime;

namespace Priori.Data;

/// <summary>Parameters of a synthetic multi-vector corpus.</summary>
/// <param name="Documents">Documents.</param>
/// <param name="Queries">Queries, each made from one document.</param>
/// <param name="Dimension">d, the length of a vector.</param>
/// <param name="Concepts">Concepts; concept i has probability proportional to (i + 1)^-0.7.</param>
/// <param name="Seed">The same seed gives the same corpus on every system.</param>
public sealed record ConceptCorpusOptions(int Documents = 3000, int Queries = 300, int Dimension = 64, int Concepts = 400, int Seed = 0);

/// <summary>
/// A synthetic corpus for multi-vector retrieval. With N(x) = x / |x|: every concept has a direction N(gauss), every document a direction dv and 16 to 40 tokens
/// N(concept + 0.5 dv + 0.5 N(gauss)). A query takes 8 tokens of one document, x = N(concept + 0.3 dv + N(gauss)), and holds each twice with noise, N(x + 0.3 N(gauss)):
/// 16 vectors. All vectors have length 1.
/// </summary>
/// <param name="Documents">The documents.</param>
/// <param name="Queries">The queries.</param>
/// <param name="Sources">The document (position) that each query was made from.</param>
public sealed record ConceptCorpus(MultiVectorSet Documents, MultiVectorSet Queries, int[] Sources)
{
    /// <summary>Generates a corpus.</summary>
    /// <param name="options">Its parameters.</param>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is below 1.</exception>
    public static ConceptCorpus Generate(ConceptCorpusOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        var (n, count, d, concepts, seed) = options;
        foreach (var value in new[] { n, count, d, concepts }) ArgumentOutOfRangeException.ThrowIfLessThan(value, 1, nameof(options));
        var random = SplitMix64.For(seed, 0x4D5556);
        var centers = Enumerable.Range(0, concepts).Select(_ => Unit(Gaussian(random, d))).ToArray();
        var cumulative = new double[concepts];
        for (var i = 0; i < concepts; i++) cumulative[i] = (i == 0 ? 0 : cumulative[i - 1]) + Math.Pow(i + 1, -0.7);
        var (directions, tokens) = (new double[n][], new int[n][]);
        List<double[]> documents = [], queries = [];
        var (offsets, queryOffsets, sources) = (new long[n + 1], new long[count + 1], new int[count]);
        for (var i = 0; i < n; i++)
        {
            directions[i] = Unit(Gaussian(random, d));
            tokens[i] = new int[16 + random.Next(25)];
            for (var t = 0; t < tokens[i].Length; t++)
            {
                var found = Array.BinarySearch(cumulative, random.NextDouble() * cumulative[^1]);
                var concept = tokens[i][t] = Math.Min(concepts - 1, found < 0 ? ~found : found);
                documents.Add(Unit(Sum(centers[concept], 0.5, directions[i], 0.5, Unit(Gaussian(random, d)))));
            }
            offsets[i + 1] = documents.Count;
        }
        for (var q = 0; q < count; q++)
        {
            var source = sources[q] = random.Next(n);
            var order = Enumerable.Range(0, tokens[source].Length).ToArray();
            random.Shuffle(order.AsSpan());
            foreach (var t in order.Take(8))
            {
                var x = Unit(Sum(centers[tokens[source][t]], 0.3, directions[source], 1.0, Unit(Gaussian(random, d))));
                for (var copy = 0; copy < 2; copy++) queries.Add(Unit(Sum(x, 0.3, Unit(Gaussian(random, d)), 0, x)));
            }
            queryOffsets[q + 1] = queries.Count;
        }
        return new ConceptCorpus(new MultiVectorSet(ToTensor(documents, d), offsets), new MultiVectorSet(ToTensor(queries, d), queryOffsets), sources);
    }

    private static double[] Gaussian(SplitMix64 random, int d) => [.. Enumerable.Range(0, d).Select(_ => random.NextGaussian())];

    private static double[] Sum(double[] a, double s, double[] b, double t, double[] c) => [.. a.Select((x, i) => x + s * b[i] + t * c[i])];

    private static double[] Unit(double[] x)
    {
        var norm = Math.Sqrt(x.Sum(value => value * value));
        return [.. x.Select(value => value / norm)];
    }

    private static Tensor ToTensor(List<double[]> rows, int d)
    {
        var values = new float[(long)rows.Count * d];
        for (var i = 0; i < rows.Count; i++)
        {
            for (var j = 0; j < d; j++) values[i * d + j] = (float)rows[i][j];
        }
        return tensor(values, [rows.Count, d]);
    }
}
