namespace Priori.Data;

/// <summary>Keywords of texts: words with a large tf * ln(N / df), where tf is the count in the text, df the number of texts that hold the word, N the number of texts (Salton, Buckley, 1988).</summary>
public sealed class TfIdf
{
    /// <summary>Takes known document frequencies.</summary>
    /// <param name="documents">N, at least 1.</param>
    /// <param name="frequencies">df of each word.</param>
    public TfIdf(int documents, IReadOnlyDictionary<string, int> frequencies)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(documents, 1);
        ArgumentNullException.ThrowIfNull(frequencies);
        (Documents, Frequencies) = (documents, frequencies);
    }

    /// <summary>N.</summary>
    public int Documents { get; }

    /// <summary>df of each word.</summary>
    public IReadOnlyDictionary<string, int> Frequencies { get; }

    /// <summary>Counts the words of texts.</summary>
    /// <param name="texts">The texts, at least one.</param>
    /// <param name="minimumTexts">Words in fewer texts are left out: they connect nothing. Default 2.</param>
    /// <exception cref="ArgumentException">There is no text.</exception>
    public static TfIdf Learn(IReadOnlyList<string> texts, int minimumTexts = 2)
    {
        ArgumentNullException.ThrowIfNull(texts);
        if (texts.Count == 0) throw new ArgumentException("Keywords need at least one text to learn from.", nameof(texts));
        return new TfIdf(texts.Count, texts.SelectMany(t => TextTokenizer.WordsOf(t).Distinct(StringComparer.Ordinal)).CountBy(w => w, StringComparer.Ordinal).Where(w => w.Value >= minimumTexts).ToDictionary());
    }

    /// <summary>The words of a text with the largest tf * ln(N / df), largest first; words that are in every text, or unknown, are none.</summary>
    /// <param name="text">The text.</param>
    /// <param name="count">Most keywords.</param>
    public IReadOnlyList<string> Keywords(string text, int count)
        => [.. TextTokenizer.WordsOf(text).Where(Frequencies.ContainsKey).CountBy(w => w, StringComparer.Ordinal)
            .Select(w => (w.Key, Weight: w.Value * Math.Log((double)Documents / Frequencies[w.Key]))).Where(w => w.Weight > 0)
            .OrderByDescending(w => w.Weight).ThenBy(w => w.Key, StringComparer.Ordinal).Take(count).Select(w => w.Key)];
}
