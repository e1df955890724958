using Priori.Data;
using Priori.Runtime;

namespace Priori.Retrieval;

/// <summary>
/// A small token embedder learned from a corpus alone, for text without a neural encoder: word vectors from the singular value decomposition of the positive pointwise mutual information
/// of word pairs (Levy, Goldberg, Dagan, TACL 2015), averaged over each token's neighbourhood so that the same word differs by context, with length 1.
/// Words are runs of letters and digits in lower case; nothing is stemmed or left out but rare words.
/// </summary>
public sealed class TokenEmbedder
{
    private readonly Dictionary<string, int> _words;

    /// <summary>Takes known word vectors.</summary>
    /// <param name="words">The vocabulary.</param>
    /// <param name="vectors">[words, d].</param>
    /// <param name="context">Neighbours on each side that are averaged into a token. Default 2.</param>
    /// <exception cref="ArgumentException">The counts differ or a word occurs twice.</exception>
    public TokenEmbedder(IReadOnlyList<string> words, Tensor vectors, int context = 2)
    {
        if (vectors.dim() != 2 || vectors.shape[0] != words.Count) throw new ArgumentException($"Vectors must be [{words.Count}, d], not [{string.Join(", ", vectors.shape)}].", nameof(vectors));
        ArgumentOutOfRangeException.ThrowIfNegative(context);
        _words = words.Select((word, i) => (word, i)).ToDictionary(pair => pair.word, pair => pair.i);
        (Words, Vectors, Context) = (words, vectors, context);
    }

    /// <summary>The vocabulary, most frequent word first.</summary>
    public IReadOnlyList<string> Words { get; }

    /// <summary>[words, d].</summary>
    public Tensor Vectors { get; }

    /// <summary>Neighbours on each side that are averaged into a token.</summary>
    public int Context { get; }

    /// <summary>d.</summary>
    public int Dimension => (int)Vectors.shape[1];

    /// <summary>The words of a text: runs of letters and digits, in lower case.</summary>
    public static IEnumerable<string> Tokenize(string text) => TextTokenizer.WordsOf(text);

    /// <summary>Learns word vectors.</summary>
    /// <param name="texts">The corpus.</param>
    /// <param name="dimension">d; fewer where the vocabulary is smaller. Default 128.</param>
    /// <param name="window">Words on each side that count as a word's company. Default 5.</param>
    /// <param name="minimumCount">Rarer words are left out. Default 2.</param>
    /// <param name="maximumWords">The most frequent words that are kept. Default 50,000.</param>
    /// <param name="seed">Seed of the randomised decomposition.</param>
    /// <exception cref="ArgumentException">No word is frequent enough.</exception>
    public static TokenEmbedder Train(IEnumerable<string> texts, int dimension = 128, int window = 5, int minimumCount = 2, int maximumWords = 50_000, int seed = 0)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dimension, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(window, 1);
        var tokenized = texts.Select(text => Tokenize(text).ToArray()).ToArray();
        var counts = new Dictionary<string, int>();
        foreach (var word in tokenized.SelectMany(words => words)) counts[word] = counts.GetValueOrDefault(word) + 1;
        var kept = counts.Where(entry => entry.Value >= minimumCount).OrderByDescending(entry => entry.Value).ThenBy(entry => entry.Key, StringComparer.Ordinal)
            .Take(maximumWords).Select(entry => entry.Key).ToArray();
        if (kept.Length < 2) throw new ArgumentException($"Fewer than two words occur at least {minimumCount} times.", nameof(texts));
        var index = kept.Select((word, i) => (word, i)).ToDictionary(pair => pair.word, pair => pair.i);

        var pairs = new Dictionary<long, double>(); // word * V + company; symmetric
        var totals = new double[kept.Length];
        foreach (var words in tokenized)
        {
            var ids = words.Where(index.ContainsKey).Select(word => index[word]).ToArray();
            for (var i = 0; i < ids.Length; i++)
            {
                for (var j = Math.Max(0, i - window); j <= Math.Min(ids.Length - 1, i + window); j++)
                {
                    if (i == j) continue;
                    var key = (long)ids[i] * kept.Length + ids[j];
                    pairs[key] = pairs.GetValueOrDefault(key) + 1;
                    totals[ids[i]]++;
                }
            }
        }
        var sum = totals.Sum();
        var entries = pairs.Select(pair => (pair.Key, Value: Math.Log(pair.Value * sum / (totals[pair.Key / kept.Length] * totals[pair.Key % kept.Length]))))
            .Where(entry => entry.Value > 0).OrderBy(entry => entry.Key).ToArray();
        return new TokenEmbedder(kept, Factorize(entries, kept.Length, Math.Min(dimension, kept.Length), seed));
    }

    /// <summary>
    /// U sqrt(S) of a symmetric sparse matrix by a randomised range finder with three power iterations (Halko, Martinsson, Tropp, SIAM Review 2011, algorithms 4.4 and 5.3).
    /// </summary>
    private static Tensor Factorize((long Key, double Value)[] entries, int n, int rank, int seed)
    {
        using var scope = NewDisposeScope();
        var rows = tensor(entries.Select(entry => entry.Key / n).ToArray());
        var columns = tensor(entries.Select(entry => entry.Key % n).ToArray());
        var values = tensor(entries.Select(entry => (float)entry.Value).ToArray());
        var matrix = sparse_coo_tensor(stack([rows, columns]), values, [n, n]);
        var random = SplitMix64.For(seed);
        var width = Math.Min(n, rank + 10);
        var basis = tensor(Enumerable.Range(0, n * width).Select(_ => (float)random.NextGaussian()).ToArray(), [n, width]);
        for (var i = 0; i < 4; i++) (basis, _) = linalg.qr(matrix.matmul(basis));
        var (eigenvalues, eigenvectors) = linalg.eigh(basis.t().matmul(matrix.matmul(basis)));
        var order = eigenvalues.abs().argsort(0, true).narrow(0, 0, rank);
        return (basis.matmul(eigenvectors.index_select(1, order)) * eigenvalues.index_select(0, order).abs().sqrt()).MoveToOuterDisposeScope();
    }

    /// <summary>The token vectors of a text; words outside the vocabulary are left out.</summary>
    /// <param name="text">The text.</param>
    /// <returns>[tokens, d], rows of length 1; no rows where no word is known.</returns>
    public Tensor Embed(string text)
    {
        using var scope = NewDisposeScope();
        var ids = Tokenize(text).Where(_words.ContainsKey).Select(word => (long)_words[word]).ToArray();
        if (ids.Length == 0) return zeros(0, Dimension).MoveToOuterDisposeScope();
        var vectors = Vectors.index_select(0, tensor(ids));
        var padded = functional.pad(vectors.cumsum(0), [0, 0, 1, 0]); // row i: the sum of the first i tokens
        var position = arange(ids.Length, ScalarType.Int64);
        var sums = padded.index_select(0, (position + Context + 1).clamp_max(ids.Length)) - padded.index_select(0, (position - Context).clamp_min(0));
        return functional.normalize(sums, dim: 1).MoveToOuterDisposeScope(); // the mean and the sum have one direction
    }

    /// <summary>The token vectors of many texts. Texts without a known word are left out.</summary>
    /// <param name="texts">The texts.</param>
    /// <exception cref="ArgumentException">No text has a known word.</exception>
    public MultiVectorSet Embed(IReadOnlyList<TextDocument> texts)
    {
        using var scope = NewDisposeScope();
        var sets = texts.Select(text => (text.Id, Tokens: Embed(text.Text))).Where(set => set.Tokens.shape[0] > 0).ToArray();
        if (sets.Length == 0) throw new ArgumentException("No text holds a word of the vocabulary.", nameof(texts));
        var joined = MultiVectorSet.From([.. sets.Select(set => set.Tokens)], [.. sets.Select(set => set.Id)]);
        joined.Vectors.MoveToOuterDisposeScope();
        return joined;
    }
}
