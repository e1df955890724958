using Priori.Data;
using Priori.Numerics;
using Priori.Reproduction;
using Priori.Retrieval;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Recipes.Similarity;

/// <summary>Word vectors (PPMI and SVD) of two halves of a corpus: two spaces with the same words that no rotation is shared by.</summary>
internal static class WordSpaces
{
    public const string Relative = "words relative", Centered = "words relative, centred", Absolute = "words absolute", Orthogonal = "words procrustes", Translated = "words anchor translation";

    public static Dictionary<string, List<ArmResult>> Run(RelativeRepresentationsRecipeOptions options, RunContext context)
    {
        string[] texts;
        if (context.DataFolder.Find("cranfield") is { } folder)
        {
            texts = [.. TextCollection.ReadCranfieldFolder(folder).Documents.Take(options.WordTexts).Select(d => d.Text)];
            context.UsedData($"Cranfield, {texts.Length} abstracts");
        }
        else
        {
            texts = Generate(options.WordTexts, seed: 3);
            context.UsedData($"generated texts ({texts.Length})");
        }
        string[] arms = [Relative, Centered, Absolute, Orthogonal, Translated];
        var results = arms.ToDictionary(a => a, _ => new List<ArmResult>());
        foreach (int seed in context.Seeds)
        {
            using DisposeScope scope = NewDisposeScope();
            (Tensor a, Tensor b, AnchorSet anchors) = Halves(texts, options, seed);
            foreach (string arm in arms)
            {
                results[arm].Add(context.Arm(arm, seed, run =>
                {
                    long[] rest = [.. Enumerable.Range(0, (int)a.shape[0]).Select(i => (long)i).Except(anchors.Indices)];
                    Tensor rows = tensor(rest), first = a.index_select(0, rows), second = b.index_select(0, rows), anchorsA = anchors.TakeParallel(a), anchorsB = anchors.TakeParallel(b);
                    run.Metric("words", rest.Length);
                    run.Metric("anchors", anchors.Count);
                    SpaceNormalization space = arm == Centered ? SpaceNormalization.Center : SpaceNormalization.None;
                    (Tensor index, Tensor queries) = arm switch
                    {
                        Absolute => (first, second),
                        Orthogonal => (first, Procrustes.Fit(anchorsB, anchorsA).Apply(second)),
                        Translated => (first, AnchorTranslation.Fit(anchorsB, anchorsA).Apply(second)),
                        _ => (RelativeProjection.Project(first, anchorsA, space: space), RelativeProjection.Project(second, anchorsB, space: space)),
                    };
                    SpaceMeasures.Record(run, index, queries, options.Neighbours);
                }));
            }
        }
        return results;
    }

    // Texts are dealt into two halves; words that both halves know, in the order of the first half's frequencies.
    private static (Tensor A, Tensor B, AnchorSet Anchors) Halves(string[] texts, RelativeRepresentationsRecipeOptions options, int seed)
    {
        string[] shuffled = [.. texts];
        SplitMix64.For(seed, 0x574F5244).Shuffle(shuffled.AsSpan());
        TokenEmbedder Train(int half) => TokenEmbedder.Train(shuffled.Where((_, i) => i % 2 == half), options.WordWidth, minimumCount: options.WordMinimumCount, seed: Seeds.Derive(seed, half));
        TokenEmbedder a = Train(0), b = Train(1);
        var at = b.Words.Select((word, i) => (word, i)).ToDictionary(p => p.word, p => (long)p.i);
        long[] rowsA = [.. Enumerable.Range(0, a.Words.Count).Where(i => at.ContainsKey(a.Words[i])).Select(i => (long)i)];
        // A word without company has no vector.
        Tensor first = a.Vectors.index_select(0, tensor(rowsA)), second = b.Vectors.index_select(0, tensor(rowsA.Select(i => at[a.Words[(int)i]]).ToArray()));
        Tensor kept = (first.norm(1).gt(1e-6) & second.norm(1).gt(1e-6)).nonzero().squeeze(1);
        (first, second) = (first.index_select(0, kept), second.index_select(0, kept));
        if (first.shape[0] < 4) throw new BadInputException("The two halves of the corpus have fewer than four words in common.");
        int k = (int)Math.Min(options.Anchors, first.shape[0] / 2);
        return (first, second, AnchorSet.Select(first, AnchorStrategy.Random, k, Seeds.Derive(seed, 2)));
    }

    /// <summary>
    /// Texts from a random walk over discourses (Arora et al., TACL 2016): words have directions, a text wanders slowly, and a word is drawn with probability proportional to exp(its direction times where the text is),
    /// rarer words less often.
    /// </summary>
    public static string[] Generate(int count, int seed)
    {
        const int Words = 600, Dimension = 16, Segments = 12, SegmentWords = 8;
        using DisposeScope scope = NewDisposeScope();
        var generator = new Generator((ulong)seed);
        Tensor directions = randn([Words, Dimension], generator: generator), offset = -0.7 * (arange(Words).to(float32) + 1).log();
        string[] texts = new string[count];
        for (int i = 0; i < count; i++)
        {
            using DisposeScope text = NewDisposeScope();
            Tensor walk = (randn([1, Dimension], generator: generator) + 0.3 * randn([Segments, Dimension], generator: generator).cumsum(0));
            Tensor probabilities = (2.5 * functional.normalize(walk, dim: 1).matmul(directions.t()) + offset).softmax(1);
            Tensor words = multinomial(probabilities, SegmentWords, true, generator);
            texts[i] = string.Join(' ', words.flatten().data<long>().ToArray().Select(w => $"word{w}"));
        }
        return texts;
    }
}
