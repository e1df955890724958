using Priori.Runtime;
using Priori.Training;

namespace Priori.Recommendation;

/// <summary>Pairs of a left and a right document with a label.</summary>
public sealed record MatchingPairs
{
    /// <summary>Takes pairs.</summary>
    /// <param name="left">Left documents, int64 [n].</param>
    /// <param name="right">Right documents, int64 [n].</param>
    /// <param name="labels">1 for a match, 0 for none, [n] of any number type.</param>
    /// <exception cref="ArgumentException">Shapes differ, there is no pair, or a label is neither 0 nor 1.</exception>
    public MatchingPairs(Tensor left, Tensor right, Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        ArgumentNullException.ThrowIfNull(labels);
        if (left.dim() != 1 || left.shape[0] == 0 || !left.shape.SequenceEqual(right.shape) || !left.shape.SequenceEqual(labels.shape))
            throw new ArgumentException($"Pairs need a left document, a right document and a label each, and there must be one; got [{string.Join(",", left.shape)}], [{string.Join(",", right.shape)}] and [{string.Join(",", labels.shape)}].", nameof(left));
        Tensor numbers = labels.to(ScalarType.Float32);
        using (NewDisposeScope())
        {
            Tensor wrong = numbers.ne(0).logical_and(numbers.ne(1)).nonzero();
            if (wrong.shape[0] > 0)
            {
                long row = wrong[0, 0].ToInt64();
                throw new ArgumentException($"Labels must be 0 or 1; that of pair {row} is {numbers[row].ToSingle()}.", nameof(labels));
            }
        }
        (Left, Right, Labels) = (left, right, numbers);
    }

    /// <summary>Left documents, int64 [n].</summary>
    public Tensor Left { get; }

    /// <summary>Right documents, int64 [n].</summary>
    public Tensor Right { get; }

    /// <summary>Labels, float32 [n].</summary>
    public Tensor Labels { get; }

    /// <summary>Number of pairs.</summary>
    public long Count => Left.shape[0];

    /// <summary>Share of matches.</summary>
    public double PositiveShare => Labels.mean().ToDouble();

    /// <summary>The pairs as batches: left, right, labels.</summary>
    public TensorSource Source() => new(Left, Right, Labels);

    /// <summary>These pairs, then others.</summary>
    /// <param name="others">The others.</param>
    public MatchingPairs With(MatchingPairs others)
    {
        ArgumentNullException.ThrowIfNull(others);
        return new(cat([Left, others.Left]), cat([Right, others.Right]), cat([Labels, others.Labels]));
    }

    /// <summary>Some of the pairs.</summary>
    /// <param name="rows">Their positions, int64.</param>
    public MatchingPairs Select(Tensor rows) => new(Left.index_select(0, rows), Right.index_select(0, rows), Labels.index_select(0, rows));

    /// <summary>Random pairs that do not interact, labelled 0: no two are the same within a round, and none is among the known pairs. Some of them may be matches that were never tried: they are noisy.</summary>
    /// <param name="leftCount">Left documents.</param>
    /// <param name="rightCount">Right documents.</param>
    /// <param name="known">Pairs with a label, left out.</param>
    /// <param name="count">Pairs of a round.</param>
    /// <param name="rounds">Rounds, one after the other: one for each epoch when negatives are to be drawn anew.</param>
    /// <param name="seed">The same seed gives the same pairs on every system.</param>
    /// <exception cref="ArgumentException">Too few pairs are left.</exception>
    public static MatchingPairs Negatives(int leftCount, int rightCount, MatchingPairs known, int count, int rounds, int seed)
    {
        ArgumentNullException.ThrowIfNull(known);
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(rounds, 1);
        long[] knownLeft = known.Left.cpu().data<long>().ToArray(), knownRight = known.Right.cpu().data<long>().ToArray();
        var taken = knownLeft.Zip(knownRight).ToHashSet();
        if ((long)leftCount * rightCount - taken.Count < 2L * count) throw new ArgumentException($"{leftCount} x {rightCount} documents with {taken.Count} known pairs leave too few others for {count} negatives.", nameof(count));
        var (left, right) = (new long[(long)count * rounds], new long[(long)count * rounds]);
        for (int round = 0; round < rounds; round++)
        {
            SplitMix64 random = SplitMix64.For(seed, 0x4E4547, round);
            var drawn = new HashSet<(long, long)>();
            for (int i = round * count; i < (round + 1) * count;)
            {
                (long, long) pair = (random.Next(leftCount), random.Next(rightCount));
                if (taken.Contains(pair) || !drawn.Add(pair)) continue;
                (left[i], right[i]) = pair;
                i++;
            }
        }
        return new(tensor(left), tensor(right), zeros(left.Length));
    }
}

/// <summary>Every epoch visits the fixed rows and its own share of the others, shuffled: rows fixed + epoch * perEpoch and on, beginning anew when they are used up. For negatives that are drawn anew each epoch.</summary>
/// <param name="fixedRows">Rows that every epoch visits: the first ones.</param>
/// <param name="perEpoch">Rows of each epoch alone.</param>
public sealed class FreshNegativesSampler(long fixedRows, long perEpoch) : Sampler
{
    /// <inheritdoc/>
    public override Tensor Order(long count, int seed, int epoch, int pass)
    {
        long rounds = (count - fixedRows) / perEpoch;
        if (rounds < 1) throw new ArgumentException($"{count} rows do not hold {fixedRows} fixed ones and {perEpoch} of an epoch.");
        Seeds.Set(Seeds.Derive(seed, epoch, pass, 3));
        using var scope = NewDisposeScope();
        long start = fixedRows + epoch % rounds * perEpoch;
        Tensor rows = cat([arange(fixedRows, ScalarType.Int64), arange(start, start + perEpoch, ScalarType.Int64)]);
        return rows.index_select(0, randperm(rows.shape[0], ScalarType.Int64)).MoveToOuterDisposeScope();
    }
}
