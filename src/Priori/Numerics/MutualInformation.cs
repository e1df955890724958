using System.Runtime.InteropServices;

namespace Priori.Numerics;

/// <summary>
/// Mutual information of discrete variables from their frequencies (plug-in), in nats:
/// MI(A, B) = sum P(a, b) log( P(a, b) / (P(a) P(b)) ), cells that do not occur are skipped. It overestimates where variables have many values for the number of samples.
/// </summary>
public static class MutualInformation
{
    /// <summary>Mutual information of every pair of columns; MI of a column with itself is its entropy. Pairs are counted in parallel.</summary>
    /// <param name="codes">Samples of discrete variables, integers [n, k] with n, k at least 1; the codes are names only, any integers.</param>
    /// <param name="normalize">Whether to divide MI(i, j) by sqrt(H(i) H(j)) (Strehl and Ghosh, JMLR 2002): 1 for variables that determine each other, 0 where one is constant.</param>
    /// <returns>Symmetric [k, k], at least 0.</returns>
    /// <exception cref="ArgumentException">The codes are not integers [n, k], or there are none.</exception>
    public static double[,] Matrix(Tensor codes, bool normalize = false)
    {
        (int[] Codes, int[] Counts)[] columns = Columns(codes, nameof(codes));
        (int n, int k) = (columns[0].Codes.Length, columns.Length);
        double[] entropy = [.. columns.Select(c => Entropy(c.Counts, n))];
        var matrix = new double[k, k];
        (int A, int B)[] pairs = [.. Enumerable.Range(0, k).SelectMany(a => Enumerable.Range(a, k - a).Select(b => (a, b)))];
        Parallel.ForEach(pairs, pair =>
        {
            (int a, int b) = pair;
            double information = a == b ? entropy[a] : Math.Max(0, entropy[a] + entropy[b] - JointEntropy(columns[a], columns[b], n)); // rounding of the last bit
            if (normalize) information = entropy[a] > 0 && entropy[b] > 0 ? information / Math.Sqrt(entropy[a] * entropy[b]) : 0;
            matrix[a, b] = matrix[b, a] = information;
        });
        return matrix;
    }

    /// <summary>Mutual information of every column of one table with every column of another. Pairs are counted in parallel.</summary>
    /// <param name="a">Samples of discrete variables, integers [n, p] with n, p at least 1.</param>
    /// <param name="b">The same samples of other variables, integers [n, q].</param>
    /// <returns>[p, q], at least 0.</returns>
    /// <exception cref="ArgumentException">The codes are not integers, there are none, or the numbers of samples differ.</exception>
    public static double[,] Between(Tensor a, Tensor b)
    {
        (int[] Codes, int[] Counts)[] left = Columns(a, nameof(a)), right = Columns(b, nameof(b));
        int n = left[0].Codes.Length;
        if (right[0].Codes.Length != n) throw new ArgumentException($"The tables have {n} and {right[0].Codes.Length} samples; they must have the same.", nameof(b));
        double[] first = [.. left.Select(c => Entropy(c.Counts, n))], second = [.. right.Select(c => Entropy(c.Counts, n))];
        var matrix = new double[left.Length, right.Length];
        Parallel.For(0, left.Length, i =>
        {
            for (int j = 0; j < right.Length; j++) matrix[i, j] = Math.Max(0, first[i] + second[j] - JointEntropy(left[i], right[j], n)); // rounding of the last bit
        });
        return matrix;
    }

    /// <summary>Mutual information of the two variables of a contingency table.</summary>
    /// <param name="counts">How often each pair of values occurred, at least 0 and not all 0.</param>
    /// <exception cref="ArgumentException">A count is negative, or all are 0.</exception>
    public static double OfCounts(long[,] counts)
    {
        ArgumentNullException.ThrowIfNull(counts);
        (int rows, int columns) = (counts.GetLength(0), counts.GetLength(1));
        long[] cells = [.. counts.Cast<long>()], left = new long[rows], right = new long[columns];
        for (int i = 0; i < cells.Length; i++)
        {
            left[i / columns] += cells[i];
            right[i % columns] += cells[i];
        }
        double total = cells.Sum(c => c >= 0 ? (double)c : throw new ArgumentException($"Counts must not be negative; one is {c}.", nameof(counts)));
        if (total == 0) throw new ArgumentException("All counts are 0.", nameof(counts));
        double information = 0;
        for (int i = 0; i < cells.Length; i++)
            if (cells[i] > 0) information += cells[i] / total * Math.Log(cells[i] * total / ((double)left[i / columns] * right[i % columns]));
        return Math.Max(0, information);
    }

    private static (int[] Codes, int[] Counts)[] Columns(Tensor codes, string name)
    {
        ArgumentNullException.ThrowIfNull(codes, name);
        if (codes.dim() != 2 || codes.numel() == 0 || codes.is_floating_point())
            throw new ArgumentException($"Codes must be integers [n, k] with n and k at least 1, not {codes.dtype} [{string.Join(", ", codes.shape)}].", name);
        int n = (int)codes.size(0), k = (int)codes.size(1);
        long[] flat;
        using (NewDisposeScope()) flat = codes.cpu().to(ScalarType.Int64).t().contiguous().data<long>().ToArray();
        var columns = new (int[] Codes, int[] Counts)[k];
        Parallel.For(0, k, c => columns[c] = Dense(flat.AsSpan(c * n, n)));
        return columns;
    }

    /// <summary>Codes renamed 0, 1, ... in order of appearance, and how often each occurs.</summary>
    private static (int[] Codes, int[] Counts) Dense(ReadOnlySpan<long> codes)
    {
        var names = new Dictionary<long, int>();
        var counts = new List<int>();
        int[] dense = new int[codes.Length];
        for (int i = 0; i < codes.Length; i++)
        {
            ref int name = ref CollectionsMarshal.GetValueRefOrAddDefault(names, codes[i], out bool known);
            if (!known)
            {
                name = counts.Count;
                counts.Add(0);
            }
            dense[i] = name;
            counts[name]++;
        }
        return (dense, [.. counts]);
    }

    private static double JointEntropy((int[] Codes, int[] Counts) a, (int[] Codes, int[] Counts) b, int n)
    {
        if (a.Counts.Length == n || b.Counts.Length == n) return Math.Log(n); // an id: every pair is different
        long cells = (long)a.Counts.Length * b.Counts.Length;
        if (cells <= Math.Max(1 << 16, 4L * n) && cells <= Array.MaxLength)
        {
            int[] table = new int[cells];
            for (int i = 0; i < n; i++) table[a.Codes[i] * b.Counts.Length + b.Codes[i]]++;
            return Entropy(table, n);
        }
        var counts = new Dictionary<long, int>();
        for (int i = 0; i < n; i++) CollectionsMarshal.GetValueRefOrAddDefault(counts, a.Codes[i] * (long)b.Counts.Length + b.Codes[i], out _)++;
        return Entropy([.. counts.Values], n);
    }

    private static double Entropy(int[] counts, int n)
    {
        double sum = 0;
        foreach (int count in counts)
            if (count > 0) sum += count * Math.Log(count);
        return Math.Log(n) - sum / n;
    }
}
