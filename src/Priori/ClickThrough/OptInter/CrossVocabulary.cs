namespace Priori.ClickThrough;

/// <summary>
/// The cross-product transformed features of OptInter (Lyu et al., ICDE 2022, sec. III-B): which combinations of two fields' values have a row of their own
/// in the table of memorized pairs. A combination that has fewer than a least number of training rows shares the out-of-vocabulary row of its pair, as does one that training never had.
/// <para>
/// The combination (a, b) of pair p is the 64-bit key (p V + a) V + b for V ids. All keys lie in one sorted buffer, so a batch is looked up for all pairs by one
/// binary search on the model's device, and the vocabulary is saved with the model. Row r &lt; <see cref="Known"/> is the combination of the r-th key; row <see cref="Known"/> + p is pair p's
/// out-of-vocabulary row.
/// </para>
/// </summary>
public sealed class CrossVocabulary : Module<Tensor, Tensor>
{
    /// <summary>Makes a vocabulary of the right size whose keys are to be loaded; <see cref="Build"/> makes one from data.</summary>
    /// <param name="pairs">The pairs, at least one, all different.</param>
    /// <param name="ids">Number of ids V over all fields.</param>
    /// <param name="counts">Known combinations of each pair, as many as pairs.</param>
    /// <exception cref="ArgumentException">There is no pair, a pair is wrong or twice, or the sizes do not fit.</exception>
    public CrossVocabulary(IReadOnlyList<FieldPair> pairs, long ids, IReadOnlyList<long> counts) : this(pairs, ids, counts, Unloaded(counts))
    {
    }

    private CrossVocabulary(IReadOnlyList<FieldPair> pairs, long ids, IReadOnlyList<long> counts, Tensor keys) : base(nameof(CrossVocabulary))
    {
        ArgumentNullException.ThrowIfNull(pairs);
        ArgumentNullException.ThrowIfNull(counts);
        ArgumentOutOfRangeException.ThrowIfLessThan(ids, 1);
        if (pairs.Count == 0 || pairs.Distinct().Count() != pairs.Count || pairs.Any(p => p.First < 0 || p.Second <= p.First))
            throw new ArgumentException("Pairs are different, at least one, and each has 0 <= First < Second.", nameof(pairs));
        if (counts.Count != pairs.Count || counts.Any(c => c < 0)) throw new ArgumentException($"{pairs.Count} pairs need as many counts of at least 0.", nameof(counts));
        if ((Int128)pairs.Count * ids * ids > long.MaxValue) throw new ArgumentException($"{pairs.Count} pairs of {ids} ids do not fit into 64-bit keys.", nameof(ids));
        (Pairs, Ids, Counts, Known) = ([.. pairs], ids, [.. counts], counts.Sum());
        using DisposeScope scope = NewDisposeScope();
        Register("keys", keys, persistent: true);
        Register("firsts", tensor(pairs.Select(p => (long)p.First).ToArray()));
        Register("seconds", tensor(pairs.Select(p => (long)p.Second).ToArray()));
        Register("bases", arange(pairs.Count, ScalarType.Int64) * ids * ids);
        Register("unseen", arange(pairs.Count, ScalarType.Int64) + Known);
    }

    /// <summary>The pairs, in the order of the columns of <see cref="forward"/>.</summary>
    public IReadOnlyList<FieldPair> Pairs { get; }

    /// <summary>Number of ids over all fields.</summary>
    public long Ids { get; }

    /// <summary>Known combinations of each pair.</summary>
    public IReadOnlyList<long> Counts { get; }

    /// <summary>Known combinations of all pairs.</summary>
    public long Known { get; }

    /// <summary>Rows of a table of memorized pairs: <see cref="Known"/>, and one out-of-vocabulary row a pair.</summary>
    public long Rows => Known + Pairs.Count;

    /// <summary>Finds the combinations of training rows. Give no other rows: ids of validation or test rows would leak.</summary>
    /// <param name="ids">Ids of the training rows, int64 [rows, fields], in 0 .. idCount - 1.</param>
    /// <param name="pairs">The pairs.</param>
    /// <param name="idCount">Number of ids over all fields.</param>
    /// <param name="minCount">Training rows that a combination needs for a row of its own; at least 1. Paper: Y = 20 (Criteo), 1 (Avazu).</param>
    /// <exception cref="ArgumentException">An argument is outside its range.</exception>
    public static CrossVocabulary Build(Tensor ids, IReadOnlyList<FieldPair> pairs, long idCount, int minCount = 1)
    {
        ArgumentNullException.ThrowIfNull(pairs);
        ArgumentOutOfRangeException.ThrowIfLessThan(minCount, 1);
        Check(ids, pairs, idCount);
        using DisposeScope scope = NewDisposeScope();
        using var ungraphed = no_grad();
        List<Tensor> known = [];
        for (int p = 0; p < pairs.Count; p++)
        {
            using DisposeScope pairScope = NewDisposeScope();
            Tensor key = (ids.select(1, pairs[p].First) + (p * idCount)) * idCount + ids.select(1, pairs[p].Second);
            var (distinct, _, counts) = key.unique(sorted: true, return_counts: true);
            known.Add((minCount > 1 ? distinct[counts!.ge(minCount)] : distinct).cpu().MoveToOuterDisposeScope());
        }
        return new CrossVocabulary(pairs, idCount, [.. known.Select(k => k.size(0))], cat(known)).to(ids.device);
    }

    /// <summary>The vocabulary of some of the pairs.</summary>
    /// <param name="pairs">Pairs of this vocabulary, at least one.</param>
    /// <exception cref="ArgumentException">A pair is not in this vocabulary.</exception>
    public CrossVocabulary Select(IReadOnlyList<FieldPair> pairs)
    {
        ArgumentNullException.ThrowIfNull(pairs);
        using DisposeScope scope = NewDisposeScope();
        using var ungraphed = no_grad();
        List<Tensor> chosen = [];
        List<long> counts = [];
        foreach (FieldPair pair in pairs)
        {
            int p = IndexOf(pair);
            chosen.Add(get_buffer("keys")!.narrow(0, Counts.Take(p).Sum(), Counts[p]) + (counts.Count - p) * Ids * Ids);
            counts.Add(Counts[p]);
        }
        if (chosen.Count == 0) throw new ArgumentException("At least one pair is needed.", nameof(pairs));
        return new CrossVocabulary(pairs, Ids, counts, cat(chosen).cpu()).to(get_buffer("keys")!.device);
    }

    /// <summary>Rows of a pair in a table of memorized pairs: its known combinations and its out-of-vocabulary row.</summary>
    /// <param name="pair">A pair of this vocabulary.</param>
    /// <exception cref="ArgumentException">The pair is not in this vocabulary.</exception>
    public long RowsOf(FieldPair pair) => Counts[IndexOf(pair)] + 1;

    /// <summary>Rows of the table of memorized pairs, int64 [batch, pairs].</summary>
    /// <param name="input">Ids, int64 [batch, fields].</param>
    /// <exception cref="ArgumentException">The ids have another type or shape, or one is outside its range.</exception>
    public override Tensor forward(Tensor input)
    {
        Check(input, Pairs, Ids);
        return Lookup(input);
    }

    /// <summary>As <see cref="forward"/>, for ids that were checked.</summary>
    internal Tensor Lookup(Tensor ids)
    {
        using DisposeScope scope = NewDisposeScope();
        using var ungraphed = no_grad();
        Tensor unseen = get_buffer("unseen")!, keys = get_buffer("keys")!;
        if (Known == 0) return unseen.expand(ids.size(0), -1).contiguous().MoveToOuterDisposeScope();
        Tensor key = ids.index_select(1, get_buffer("firsts")!).mul_(Ids).add_(ids.index_select(1, get_buffer("seconds")!)).add_(get_buffer("bases")!);
        Tensor at = searchsorted(keys, key).clamp_max_(Known - 1);
        return where(keys.take(at).eq(key), at, unseen).MoveToOuterDisposeScope();
    }

    private void Register(string name, Tensor buffer, bool persistent = false) => register_buffer(name, buffer.DetachFromDisposeScope(), persistent); // What follows from the pairs is not saved.

    private int IndexOf(FieldPair pair)
    {
        for (int p = 0; p < Pairs.Count; p++)
            if (Pairs[p] == pair) return p;
        throw new ArgumentException($"The pair ({pair.First}, {pair.Second}) is not in the vocabulary.", nameof(pair));
    }

    private static void Check(Tensor ids, IReadOnlyList<FieldPair> pairs, long idCount)
    {
        ArgumentNullException.ThrowIfNull(ids);
        if (ids.dim() != 2 || ids.dtype != ScalarType.Int64 || pairs.Any(p => p.Second >= ids.size(1)))
            throw new ArgumentException($"ids must be int64 [rows, fields] with the fields of all pairs, not {ids.dtype} [{string.Join(", ", ids.shape)}].", nameof(ids));
        if (ids.size(0) == 0) return;
        using DisposeScope scope = NewDisposeScope();
        if (ids.min().item<long>() < 0 || ids.max().item<long>() >= idCount) throw new ArgumentException($"ids must be in 0..{idCount - 1}.", nameof(ids));
    }

    private static Tensor Unloaded(IReadOnlyList<long> counts)
    {
        ArgumentNullException.ThrowIfNull(counts);
        return zeros(counts.Sum(c => Math.Max(0, c)), ScalarType.Int64);
    }
}
