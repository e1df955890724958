namespace Priori.ClickThrough;

/// <summary>Two fields whose interaction is modelled.</summary>
/// <param name="First">Index of the first field.</param>
/// <param name="Second">Index of the second field, larger than the first.</param>
public readonly record struct FieldPair(int First, int Second)
{
    /// <summary>All pairs of fields, in the order (0,1), (0,2), ..., (m-2, m-1) of the given list: m (m - 1) / 2 of them.</summary>
    /// <param name="fields">Field indices, ascending: for OptInter the categorical fields.</param>
    /// <exception cref="ArgumentException">There are fewer than two fields, or they do not ascend from 0 or more.</exception>
    public static IReadOnlyList<FieldPair> All(IReadOnlyList<int> fields)
    {
        ArgumentNullException.ThrowIfNull(fields);
        if (fields.Count < 2) throw new ArgumentException($"Interactions need at least two categorical fields, not {fields.Count}.", nameof(fields));
        for (int i = 0; i < fields.Count; i++)
            if (fields[i] <= (i == 0 ? -1 : fields[i - 1])) throw new ArgumentException($"Field indices ascend from 0; {fields[i]} is out of order.", nameof(fields));
        return [.. fields.SelectMany((first, i) => fields.Skip(i + 1).Select(second => new FieldPair(first, second)))];
    }

    /// <summary>All pairs of fields 0 .. <paramref name="count"/> - 1.</summary>
    /// <param name="count">Number of fields, at least 2.</param>
    public static IReadOnlyList<FieldPair> All(int count) => All([.. Enumerable.Range(0, Math.Max(0, count))]);
}
