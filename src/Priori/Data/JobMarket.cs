using Priori.Runtime;

namespace Priori.Data;

/// <summary>What a generated job market looks like.</summary>
public sealed record JobMarketOptions
{
    /// <summary>Job postings. Default 600.</summary>
    public int Jobs { get; init; } = 600;

    /// <summary>Resumes. Default 600.</summary>
    public int Resumes { get; init; } = 600;

    /// <summary>Topics; each document has one. Default 12.</summary>
    public int Topics { get; init; } = 12;

    /// <summary>Words of the vocabulary. Default 600.</summary>
    public int Words { get; init; } = 600;

    /// <summary>Words of a document. Default 25.</summary>
    public int DocumentWords { get; init; } = 25;

    /// <summary>Concentration of the symmetric Dirichlet that a topic's word distribution is drawn from. Default 0.03.</summary>
    public double WordConcentration { get; init; } = 0.03;

    /// <summary>Share of a document's words that are drawn from its topic; the others are uniform. Default 0.55.</summary>
    public double WordsOfTopic { get; init; } = 0.55;

    /// <summary>Keywords of the vocabulary. Default 60.</summary>
    public int Keywords { get; init; } = 60;

    /// <summary>Keywords of a document. Default 3.</summary>
    public int DocumentKeywords { get; init; } = 3;

    /// <summary>Concentration of the Dirichlet of a topic's keywords. Default 0.08.</summary>
    public double KeywordConcentration { get; init; } = 0.08;

    /// <summary>Share of a document's keywords that are drawn from its topic. Default 0.6.</summary>
    public double KeywordsOfTopic { get; init; } = 0.6;
}

/// <summary>A generated document.</summary>
/// <param name="Topic">Its topic.</param>
/// <param name="Words">Its words, from 0.</param>
/// <param name="Keywords">Its keywords, from 0; a keyword may occur twice.</param>
public sealed record JobMarketDocument(int Topic, IReadOnlyList<int> Words, IReadOnlyList<int> Keywords)
{
    /// <summary>Its words as a text: word 7 is w7.</summary>
    public string Text => string.Join(' ', Words.Select(w => $"w{w}"));

    /// <summary>Its keywords by name, each once: keyword 7 is k7.</summary>
    public IReadOnlyList<string> KeywordNames => [.. Keywords.Distinct().Select(k => $"k{k}")];
}

/// <summary>
/// Job postings and resumes with known topics, for matching from noisy labels: a job and a resume match when they have the same topic. Text and keywords are two views of the topic, each blurred on its own.
/// </summary>
/// <param name="Jobs">The postings.</param>
/// <param name="Resumes">The resumes.</param>
public sealed record JobMarket(IReadOnlyList<JobMarketDocument> Jobs, IReadOnlyList<JobMarketDocument> Resumes)
{
    /// <summary>Generates a market.</summary>
    /// <param name="seed">The same seed gives the same market on every system.</param>
    /// <param name="options">Its sizes; the defaults when null.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is below 1 or a share outside [0, 1].</exception>
    public static JobMarket Generate(int seed, JobMarketOptions? options = null)
    {
        JobMarketOptions o = options ?? new JobMarketOptions();
        foreach (int size in new[] { o.Jobs, o.Resumes, o.Topics, o.Words, o.DocumentWords, o.Keywords, o.DocumentKeywords }) ArgumentOutOfRangeException.ThrowIfLessThan(size, 1, nameof(options));
        foreach (double share in new[] { o.WordsOfTopic, o.KeywordsOfTopic }) if (share is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(options), share, "A share must be in [0, 1].");
        SplitMix64 random = SplitMix64.For(seed, 0x4A4F42);
        double[][] words = [.. Enumerable.Range(0, o.Topics).Select(_ => Cumulative(Dirichlet(random, o.Words, o.WordConcentration)))];
        double[][] keywords = [.. Enumerable.Range(0, o.Topics).Select(_ => Cumulative(Dirichlet(random, o.Keywords, o.KeywordConcentration)))];
        JobMarketDocument Document()
        {
            int topic = random.Next(o.Topics);
            int Draw(double[] cumulative, double ofTopic) => random.NextDouble() < ofTopic ? Pick(random, cumulative) : random.Next(cumulative.Length);
            return new JobMarketDocument(topic, [.. Enumerable.Range(0, o.DocumentWords).Select(_ => Draw(words[topic], o.WordsOfTopic))], [.. Enumerable.Range(0, o.DocumentKeywords).Select(_ => Draw(keywords[topic], o.KeywordsOfTopic))]);
        }
        return new JobMarket([.. Enumerable.Range(0, o.Jobs).Select(_ => Document())], [.. Enumerable.Range(0, o.Resumes).Select(_ => Document())]);
    }

    /// <summary>Draws different pairs: every second one has a resume of the job's topic, the others any resume. The label is 1 where the topics are the same.</summary>
    /// <param name="count">Number of pairs.</param>
    /// <param name="seed">Seed of the pairs.</param>
    /// <returns>Jobs, resumes and labels, int64 [count] each.</returns>
    /// <exception cref="ArgumentException">The market has too few pairs.</exception>
    public (long[] Jobs, long[] Resumes, long[] Labels) Pairs(int count, int seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        int[][] ofTopic = [.. Enumerable.Range(0, Jobs.Concat(Resumes).Max(d => d.Topic) + 1).Select(t => Enumerable.Range(0, Resumes.Count).Where(r => Resumes[r].Topic == t).ToArray())];
        SplitMix64 random = SplitMix64.For(seed, 0x4A4F43);
        var seen = new HashSet<(int, int)>();
        var (jobs, resumes, labels) = (new long[count], new long[count], new long[count]);
        for (int i = 0, tries = 0; i < count;)
        {
            if (++tries > 20L * count + 1000) throw new ArgumentException($"{Jobs.Count} jobs and {Resumes.Count} resumes do not give {count} different pairs.", nameof(count));
            int job = random.Next(Jobs.Count);
            int[] same = ofTopic[Jobs[job].Topic];
            int resume = i % 2 == 0 && same.Length > 0 ? same[random.Next(same.Length)] : random.Next(Resumes.Count);
            if (!seen.Add((job, resume))) continue;
            (jobs[i], resumes[i], labels[i]) = (job, resume, Jobs[job].Topic == Resumes[resume].Topic ? 1 : 0);
            i++;
        }
        return (jobs, resumes, labels);
    }

    private static double[] Dirichlet(SplitMix64 random, int size, double concentration)
    {
        double[] draws = [.. Enumerable.Range(0, size).Select(_ => Gamma(random, concentration))];
        double sum = draws.Sum();
        return sum > 0 ? [.. draws.Select(d => d / sum)] : [.. Enumerable.Repeat(1.0 / size, size)];
    }

    /// <summary>Gamma(shape, 1) by Marsaglia and Tsang (2000); below shape 1 through Gamma(shape + 1) U^(1/shape).</summary>
    private static double Gamma(SplitMix64 random, double shape)
    {
        if (shape < 1) return Gamma(random, shape + 1) * Math.Pow(1 - random.NextDouble(), 1 / shape);
        double d = shape - 1.0 / 3, c = 1 / Math.Sqrt(9 * d);
        while (true)
        {
            double x = random.NextGaussian(), v = Math.Pow(1 + c * x, 3);
            if (v > 0 && Math.Log(1 - random.NextDouble()) < 0.5 * x * x + d - d * v + d * Math.Log(v)) return d * v;
        }
    }

    private static double[] Cumulative(double[] probabilities)
    {
        double sum = 0;
        return [.. probabilities.Select(p => sum += p)];
    }

    private static int Pick(SplitMix64 random, double[] cumulative)
    {
        int at = Array.BinarySearch(cumulative, random.NextDouble() * cumulative[^1]);
        return Math.Min(cumulative.Length - 1, at < 0 ? ~at : at + 1);
    }
}
