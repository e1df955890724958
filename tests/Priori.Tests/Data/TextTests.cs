using Priori.Data;

namespace Priori.Tests.Data;

public class TextTests
{
    [Fact]
    public void Documents_become_ids_sentence_by_sentence()
    {
        var vocabulary = WordVocabulary.Learn(["the cat sat. the cat", "The dog!"], minimumCount: 2);
        Assert.Equal(["the", "cat"], vocabulary.Words);
        Assert.Equal(3, vocabulary.Count);
        Tensor ids = vocabulary.Documents(["The cat sat on the mat, the cat. A dog. cat", "", "...\n\ncat"], 2, 4);
        Assert.Equal([3, 2, 4], ids.shape);
        Assert.Equal([1, 2, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], ids.data<long>().ToArray());
        Assert.Equal(["one", "two 3.5 x", "three", "four"], TextTokenizer.SentencesOf("one; two 3.5 x!\nthree?  four"));
        Assert.Throws<ArgumentException>(() => new WordVocabulary(["a", "a"]));
    }

    [Fact]
    public void Word_pieces_are_the_longest_ones()
    {
        // The example of the BERT repository, and accents, punctuation and unknown words.
        var pieces = new WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ",", "low", "lowest"]);
        Assert.Equal([2, 9, 6, 7, 10, 11, 3], pieces.Encode("UNwantéd running", 50));
        Assert.Equal([2, 14, 12, 13, 1, 3], pieces.Encode("lowest, low lower", 50));
        Assert.Equal([2, 9, 3], pieces.Encode("unwanted", 3));
        Assert.Empty(pieces.Encode("  ", 10));
        Assert.Throws<ArgumentException>(() => new WordPieceTokenizer(["[UNK]", "[PAD]", "[CLS]", "[SEP]"]));
        Assert.Throws<ArgumentException>(() => new WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]"]));
    }

    [Fact]
    public void Keywords_are_frequent_here_and_rare_elsewhere()
    {
        var tfIdf = TfIdf.Learn(["the c c sql", "the c java", "the sql sql go", "the java"]);
        Assert.False(tfIdf.Frequencies.ContainsKey("go")); // in one text: joins nothing
        Assert.Equal(["c", "sql"], tfIdf.Keywords("the c c sql rust", 5)); // 2 ln 2, ln 2; "the" is everywhere
        Assert.Equal(["c"], tfIdf.Keywords("c sql", 1)); // a tie: in the order of the alphabet
        Assert.Throws<ArgumentException>(() => TfIdf.Learn([]));
    }

    [Fact]
    public void A_job_market_has_the_pairs_and_topics_it_says()
    {
        JobMarket market = JobMarket.Generate(0), again = JobMarket.Generate(0);
        Assert.Equal(market.Jobs[5].Text, again.Jobs[5].Text);
        Assert.NotEqual(market.Jobs[5].Text, JobMarket.Generate(1).Jobs[5].Text);
        Assert.Equal((600, 600), (market.Jobs.Count, market.Resumes.Count));
        Assert.All(market.Jobs, j => Assert.True(j.Words.Count == 25 && j.Keywords.Count == 3 && j.Words.All(w => w is >= 0 and < 600) && j.Keywords.All(k => k is >= 0 and < 60) && j.Topic is >= 0 and < 12));
        var (jobs, resumes, labels) = market.Pairs(11_000, 0);
        Assert.Equal(11_000, jobs.Zip(resumes).Distinct().Count());
        Assert.All(Enumerable.Range(0, labels.Length), i => Assert.Equal(market.Jobs[(int)jobs[i]].Topic == market.Resumes[(int)resumes[i]].Topic ? 1 : 0, labels[i]));
        Assert.InRange(labels.Average(), .52, .57); // half forced, and one in twelve of the others
        // Words tell the topic: documents of one topic share more words than others.
        double Shared(bool same) => Enumerable.Range(0, 4000).Where(i => (labels[i] == 1) == same).Average(i => market.Jobs[(int)jobs[i]].Words.Intersect(market.Resumes[(int)resumes[i]].Words).Count());
        Assert.True(Shared(true) > 2 * Shared(false));
        Assert.Throws<ArgumentException>(() => JobMarket.Generate(0, new JobMarketOptions { Jobs = 2, Resumes = 2 }).Pairs(5, 0));
    }
}
