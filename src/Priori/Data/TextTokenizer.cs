using System.Globalization;

namespace Priori.Data;

/// <summary>Turns sentences into ids of a vocabulary. Id 0 is padding.</summary>
public abstract class TextTokenizer
{
    /// <summary>Number of ids, padding included.</summary>
    public abstract int Count { get; }

    /// <summary>Ids of a sentence, none of them 0.</summary>
    /// <param name="sentence">The sentence.</param>
    /// <param name="longest">Most ids; the rest of the sentence is cut off.</param>
    public abstract IReadOnlyList<long> Encode(string sentence, int longest);

    /// <summary>Ids of documents, sentence by sentence.</summary>
    /// <param name="texts">The documents.</param>
    /// <param name="maxSentences">Sentences S of a document; further ones are left out.</param>
    /// <param name="maxWords">Ids L of a sentence; further ones are left out.</param>
    /// <returns>int64 [documents, S, L], padded with 0. A document without a word is all 0.</returns>
    public Tensor Documents(IReadOnlyList<string> texts, int maxSentences, int maxWords)
    {
        ArgumentNullException.ThrowIfNull(texts);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxSentences, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxWords, 1);
        long[] ids = new long[(long)texts.Count * maxSentences * maxWords];
        for (int i = 0; i < texts.Count; i++)
        {
            int s = 0;
            foreach (string sentence in SentencesOf(texts[i]))
            {
                if (s == maxSentences) break;
                IReadOnlyList<long> encoded = Encode(sentence, maxWords);
                if (encoded.Count == 0) continue;
                for (int w = 0; w < encoded.Count; w++) ids[((long)i * maxSentences + s) * maxWords + w] = encoded[w];
                s++;
            }
        }
        return tensor(ids, [texts.Count, maxSentences, maxWords]);
    }

    /// <summary>The words of a text: runs of letters and digits, in lower case.</summary>
    /// <param name="text">The text.</param>
    public static IEnumerable<string> WordsOf(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        for (int start = 0, end; start < text.Length; start = end + 1)
        {
            for (end = start; end < text.Length && char.IsLetterOrDigit(text[end]); end++) { }
            if (end > start) yield return text[start..end].ToLowerInvariant();
        }
    }

    /// <summary>The sentences of a text: it is cut at line ends, at semicolons, and at full stops, question and exclamation marks before a blank or the end.</summary>
    /// <param name="text">The text.</param>
    public static IEnumerable<string> SentencesOf(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        int start = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            bool cut = i == text.Length || text[i] is '\n' or '\r' or ';' or '。' or '！' or '？' or '；' || (text[i] is '.' or '!' or '?' && (i + 1 == text.Length || char.IsWhiteSpace(text[i + 1])));
            if (!cut) continue;
            string sentence = text[start..i].Trim();
            if (sentence.Length > 0) yield return sentence;
            start = i + 1;
        }
    }
}

/// <summary>A vocabulary of words. Words that are not in it are left out: nothing is known of them.</summary>
public sealed class WordVocabulary : TextTokenizer
{
    private const int Reserved = 1;
    private readonly Dictionary<string, int> ids;

    /// <summary>Takes words; word i has id i + 1.</summary>
    /// <param name="words">The words.</param>
    /// <exception cref="ArgumentException">A word occurs twice.</exception>
    public WordVocabulary(IReadOnlyList<string> words)
    {
        ArgumentNullException.ThrowIfNull(words);
        ids = new Dictionary<string, int>(words.Count, StringComparer.Ordinal);
        for (int i = 0; i < words.Count; i++)
            if (!ids.TryAdd(words[i], i + Reserved)) throw new ArgumentException($"The word '{words[i]}' occurs twice.", nameof(words));
        Words = words;
    }

    /// <summary>The words of texts, most frequent first.</summary>
    /// <param name="texts">The texts.</param>
    /// <param name="minimumCount">Rarer words are left out. Default 2.</param>
    /// <param name="maximumWords">The most frequent words that are kept. Default 90,000, about the size in MV-CoN's public code.</param>
    public static WordVocabulary Learn(IEnumerable<string> texts, int minimumCount = 2, int maximumWords = 90_000)
        => new([.. texts.SelectMany(WordsOf).CountBy(w => w, StringComparer.Ordinal).Where(w => w.Value >= minimumCount).OrderByDescending(w => w.Value).ThenBy(w => w.Key, StringComparer.Ordinal).Take(maximumWords).Select(w => w.Key)]);

    /// <summary>The words.</summary>
    public IReadOnlyList<string> Words { get; }

    /// <inheritdoc/>
    public override int Count => Words.Count + Reserved;

    /// <inheritdoc/>
    public override IReadOnlyList<long> Encode(string sentence, int longest) => [.. WordsOf(sentence).Select(w => (long)ids.GetValueOrDefault(w)).Where(id => id > 0).Take(longest)];
}

/// <summary>
/// BERT's WordPiece tokenizer (Devlin et al., 2019; Wu et al., 2016): text is cleaned, cut at blanks and punctuation, and each word is cut greedily into its longest pieces; pieces within a word begin with ##.
/// A sentence is [CLS] pieces [SEP]. The vocabulary is a text file, one piece a line, as published with the models; its [PAD] must be the first line.
/// </summary>
public sealed class WordPieceTokenizer : TextTokenizer
{
    private const int LongestWord = 100;

    // Latin letters that decompose into a plain one and accents; a table, since normalisation needs the system's ICU.
    private const string Accented = "àáâãäåçèéêëìíîïñòóôõöùúûüýÿāăąćĉċčďēĕėęěĝğġģĥĩīĭįĵķĺļľńņňōŏőŕŗřśŝşšţťũūŭůűųŵŷźżžơưǎǐǒǔșț";
    private const string Plain = "aaaaaaceeeeiiiinooooouuuuyyaaaccccdeeeeegggghiiiijklllnnnooorrrssssttuuuuuuwyzzzouaioust";
    private readonly Dictionary<string, int> ids = new(StringComparer.Ordinal);
    private readonly bool lowerCase;
    private readonly long unknown, first, last;

    /// <summary>Takes the pieces.</summary>
    /// <param name="pieces">The pieces, by id.</param>
    /// <param name="lowerCase">Whether text is lower-cased and freed of accents ("uncased" models).</param>
    /// <exception cref="ArgumentException">A special piece is missing or [PAD] is not the first.</exception>
    public WordPieceTokenizer(IReadOnlyList<string> pieces, bool lowerCase = true)
    {
        ArgumentNullException.ThrowIfNull(pieces);
        for (int i = 0; i < pieces.Count; i++) ids.TryAdd(pieces[i], i);
        if (ids.GetValueOrDefault("[PAD]", -1) != 0) throw new ArgumentException("The first piece of a WordPiece vocabulary must be [PAD].", nameof(pieces));
        long Special(string piece) => ids.TryGetValue(piece, out int id) ? id : throw new ArgumentException($"The WordPiece vocabulary lacks {piece}.", nameof(pieces));
        (Pieces, this.lowerCase, unknown, first, last) = (pieces, lowerCase, Special("[UNK]"), Special("[CLS]"), Special("[SEP]"));
    }

    /// <summary>The pieces.</summary>
    public IReadOnlyList<string> Pieces { get; }

    /// <inheritdoc/>
    public override int Count => Pieces.Count;

    /// <inheritdoc/>
    public override IReadOnlyList<long> Encode(string sentence, int longest)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(longest, 3);
        long[] pieces = [.. BasicTokens(sentence).SelectMany(PiecesOf).Take(longest - 2)];
        return pieces.Length == 0 ? [] : [first, .. pieces, last];
    }

    private IEnumerable<string> BasicTokens(string text)
    {
        if (lowerCase) text = string.Concat(text.ToLowerInvariant().Where(c => CharUnicodeInfo.GetUnicodeCategory(c) != UnicodeCategory.NonSpacingMark).Select(c => Accented.IndexOf(c, StringComparison.Ordinal) is >= 0 and var at ? Plain[at] : c));
        int start = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            bool blank = i == text.Length || char.IsWhiteSpace(text[i]) || char.IsControl(text[i]);
            bool alone = !blank && (char.IsPunctuation(text[i]) || (char.IsAscii(text[i]) && char.IsSymbol(text[i])) || text[i] is >= '\u4E00' and <= '\u9FFF' or >= '\u3400' and <= '\u4DBF');
            if (!blank && !alone) continue;
            if (i > start) yield return text[start..i];
            if (alone) yield return text[i].ToString();
            start = i + 1;
        }
    }

    private List<long> PiecesOf(string word)
    {
        if (word.Length > LongestWord) return [unknown];
        var result = new List<long>();
        for (int start = 0; start < word.Length;)
        {
            int end = word.Length, id = -1;
            for (; end > start; end--)
                if (ids.TryGetValue((start > 0 ? "##" : "") + word[start..end], out id)) break;
            if (end == start) return [unknown];
            result.Add(id);
            start = end;
        }
        return result;
    }
}
