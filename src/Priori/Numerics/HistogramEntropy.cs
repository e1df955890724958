using Priori.Runtime;

namespace Priori.Numerics;

/// <summary>The groups of equal rows of a matrix.</summary>
/// <param name="Ids">Group of each row, int64 [n], in 0..g-1; rows have the same number exactly if they are equal.</param>
/// <param name="Counts">Rows in each group, int64 [g].</param>
public sealed record RowGroups(Tensor Ids, Tensor Counts);

/// <summary>Plug-in (maximum likelihood) entropies of discrete samples, in bits: every sample has probability 1/n.</summary>
public static class HistogramEntropy
{
    private const int RowsPerBlock = 4096;

    /// <summary>Entropy of the distribution that is proportional to <paramref name="counts"/>, in bits; empty cells add nothing.</summary>
    /// <param name="counts">Frequencies of the outcomes, any shape, at least 0 and not all 0.</param>
    /// <exception cref="ArgumentException">The counts sum to 0.</exception>
    public static double OfCounts(Tensor counts)
    {
        using var scope = NewDisposeScope();
        Tensor weights = counts.to(ScalarType.Float64);
        double total = weights.sum().item<double>();
        if (!(total > 0)) throw new ArgumentException("The counts must be non-negative and not all 0.", nameof(counts));
        return Math.Log2(total) - weights.xlogy(weights).sum().item<double>() / (total * Math.Log(2));
    }

    /// <summary>Joint entropy of the columns, from the frequencies of identical rows, in bits; at most log2 n.</summary>
    /// <param name="codes">Discrete samples [n, d] or [n], integer type.</param>
    /// <exception cref="ArgumentException">The codes are not integers or there is no row.</exception>
    public static double OfRows(Tensor codes)
    {
        using var scope = NewDisposeScope();
        return OfCounts(GroupRows(codes).Counts);
    }

    /// <summary>Mutual information H(A) + H(B) - H(A, B) of two discrete variables, in bits; at least 0.</summary>
    /// <param name="a">Groups of the first variable.</param>
    /// <param name="b">Groups of the second variable, the same samples in the same order.</param>
    /// <exception cref="ArgumentException">The numbers of samples differ.</exception>
    public static double MutualInformation(RowGroups a, RowGroups b)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        if (a.Ids.shape[0] != b.Ids.shape[0])
            throw new ArgumentException($"The variables have {a.Ids.shape[0]} and {b.Ids.shape[0]} samples; they must have the same.", nameof(b));
        using var scope = NewDisposeScope();
        Tensor joint = a.Ids * b.Counts.shape[0] + b.Ids;
        double information = OfCounts(a.Counts) + OfCounts(b.Counts) - OfRows(joint);
        return Math.Max(0, information); // Rounding of the last bit.
    }

    /// <summary>
    /// Groups identical rows: rows are sorted by a 64-bit hash (a random linear form modulo 2^64) and each is then compared with
    /// the representative of its group, so that a collision of hashes can't merge different rows.
    /// </summary>
    /// <param name="codes">Discrete samples [n, d] or [n], integer type, n at least 1.</param>
    /// <exception cref="ArgumentException">The codes are not integers or there is no row.</exception>
    public static RowGroups GroupRows(Tensor codes)
    {
        ArgumentNullException.ThrowIfNull(codes);
        if (!IsDiscrete(codes)) throw new ArgumentException($"Codes must be integers, not {codes.dtype}.", nameof(codes));
        if (codes.dim() is not (1 or 2) || codes.shape[0] == 0)
            throw new ArgumentException($"Codes must be [n] or [n, d] with n at least 1, not [{string.Join(", ", codes.shape)}].", nameof(codes));
        using var scope = NewDisposeScope();
        Tensor rows = codes.reshape(codes.shape[0], -1);
        for (int salt = 0; ; salt++)
        {
            RowGroups groups = GroupBy(rows.shape[1] == 1 ? rows[.., 0].to(ScalarType.Int64) : Hash(rows, salt));
            if (rows.shape[1] == 1 || IsExact(rows, groups))
            {
                groups.Ids.MoveToOuterDisposeScope();
                groups.Counts.MoveToOuterDisposeScope();
                return groups;
            }
        }
    }

    private static bool IsDiscrete(Tensor t) => t.dtype is ScalarType.Byte or ScalarType.Int8 or ScalarType.Int16 or ScalarType.Int32 or ScalarType.Int64 or ScalarType.Bool;

    private static RowGroups GroupBy(Tensor keys)
    {
        (_, Tensor? ids, Tensor? counts) = keys.unique(sorted: true, return_inverse: true, return_counts: true);
        return new RowGroups(ids!, counts!);
    }

    private static Tensor Hash(Tensor rows, int salt)
    {
        var random = SplitMix64.For(salt);
        long[] odd = new long[rows.shape[1]];
        for (int i = 0; i < odd.Length; i++) odd[i] = (long)(random.NextUInt64() | 1);
        Tensor multipliers = tensor(odd, device: rows.device);
        return cat([.. rows.split(RowsPerBlock).Select(block => (block * multipliers).sum(1))]);
    }

    private static bool IsExact(Tensor rows, RowGroups groups)
    {
        Tensor representative = empty(groups.Counts.shape[0], dtype: ScalarType.Int64, device: rows.device)
            .scatter_(0, groups.Ids, arange(rows.shape[0], dtype: ScalarType.Int64, device: rows.device));
        for (long start = 0; start < rows.shape[0]; start += RowsPerBlock)
        {
            using var scope = NewDisposeScope();
            long length = Math.Min(RowsPerBlock, rows.shape[0] - start);
            Tensor representatives = rows.index_select(0, representative.index_select(0, groups.Ids.narrow(0, start, length)));
            if (!representatives.eq(rows.narrow(0, start, length)).all().item<bool>()) return false;
        }
        return true;
    }
}
