namespace Priori.Data;

/// <summary>
/// Sets of vectors (documents or queries with one vector per token): all vectors in one tensor, set i being rows Offsets[i] up to Offsets[i + 1].
/// </summary>
public sealed class MultiVectorSet
{
    /// <summary>Makes a collection of sets.</summary>
    /// <param name="vectors">[T, d], the vectors of all sets one after the other.</param>
    /// <param name="offsets">n + 1 row numbers, from 0 to T, never falling.</param>
    /// <param name="ids">n names, each one once; null numbers the sets from 0.</param>
    /// <exception cref="ArgumentException">The offsets or ids do not fit the vectors.</exception>
    public MultiVectorSet(Tensor vectors, long[] offsets, IReadOnlyList<string>? ids = null)
    {
        if (vectors.dim() != 2) throw new ArgumentException($"Vectors must be [T, d], not [{string.Join(", ", vectors.shape)}].", nameof(vectors));
        CheckOffsets(offsets, vectors.shape[0]);
        Ids = ids ?? [.. Enumerable.Range(0, offsets.Length - 1).Select(i => i.ToString(System.Globalization.CultureInfo.InvariantCulture))];
        if (Ids.Count != offsets.Length - 1) throw new ArgumentException($"There are {Ids.Count} ids for {offsets.Length - 1} sets.", nameof(ids));
        var repeated = Ids.GroupBy(id => id).FirstOrDefault(group => group.Count() > 1);
        if (repeated != null) throw new ArgumentException($"The id '{repeated.Key}' occurs {repeated.Count()} times.", nameof(ids));
        (Vectors, Offsets) = (vectors, offsets);
    }

    /// <summary>[T, d], the vectors of all sets.</summary>
    public Tensor Vectors { get; }

    /// <summary>n + 1 row numbers: set i is rows Offsets[i] up to Offsets[i + 1].</summary>
    public long[] Offsets { get; }

    /// <summary>The n names.</summary>
    public IReadOnlyList<string> Ids { get; }

    /// <summary>n, the number of sets.</summary>
    public int Count => Ids.Count;

    /// <summary>d, the length of a vector.</summary>
    public int Dimension => (int)Vectors.shape[1];

    /// <summary>Set i: [m_i, d], a view.</summary>
    public Tensor this[int i] => Vectors.narrow(0, Offsets[i], Offsets[i + 1] - Offsets[i]);

    /// <summary>Sets <paramref name="start"/> up to <paramref name="start"/> + <paramref name="count"/>; the vectors are a view.</summary>
    public MultiVectorSet Slice(int start, int count) => new(
        Vectors.narrow(0, Offsets[start], Offsets[start + count] - Offsets[start]),
        [.. Offsets[start..(start + count + 1)].Select(o => o - Offsets[start])],
        [.. Ids.Skip(start).Take(count)]);

    /// <summary>Joins sets given one by one.</summary>
    /// <param name="sets">Each [m_i, d].</param>
    /// <param name="ids">Their names; null numbers them from 0.</param>
    public static MultiVectorSet From(IReadOnlyList<Tensor> sets, IReadOnlyList<string>? ids = null)
    {
        var offsets = new long[sets.Count + 1];
        for (var i = 0; i < sets.Count; i++) offsets[i + 1] = offsets[i] + sets[i].shape[0];
        return new MultiVectorSet(cat([.. sets]), offsets, ids);
    }

    /// <summary>Refuses offsets that do not cut <paramref name="rows"/> rows into sets.</summary>
    internal static void CheckOffsets(long[] offsets, long rows)
    {
        if (offsets.Length == 0 || offsets[0] != 0 || offsets[^1] != rows)
            throw new ArgumentException($"Offsets must run from 0 to the {rows} rows of the vectors.", nameof(offsets));
        for (var i = 1; i < offsets.Length; i++)
        {
            if (offsets[i] < offsets[i - 1]) throw new ArgumentException($"Offset {i} is {offsets[i]}, less than the one before it, {offsets[i - 1]}.", nameof(offsets));
        }
    }
}
