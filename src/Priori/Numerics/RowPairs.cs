using System.Numerics;
using System.Runtime.CompilerServices;

namespace Priori.Numerics;

/// <summary>
/// Loops over all pairs of rows, each pair once: columns in memory, so that one row meets as many others as a vector register has lanes. Nothing of size n x n is kept.
/// Results are the same at every call with the same number of threads.
/// </summary>
internal sealed unsafe class RowPairs : IDisposable
{
    private static readonly int Lanes = Vector<double>.Count;
    private readonly Tensor columns; // [dim, stride]; beyond the rows everything is infinitely far.
    private readonly double* x;
    private readonly int n, dim;
    private readonly long stride;
    private readonly ParallelOptions threads;

    /// <summary>Takes rows [n, dim].</summary>
    public RowPairs(Tensor rows)
    {
        (n, dim) = (checked((int)rows.size(0)), checked((int)rows.size(1)));
        stride = n + Lanes;
        using var scope = NewDisposeScope();
        columns = full([dim, stride], double.PositiveInfinity, ScalarType.Float64).DetachFromDisposeScope();
        columns.narrow(1, 0, n).copy_(rows.detach().t());
        x = TensorMemory.Pointer<double>(columns);
        threads = TensorMemory.Threads(0.5 * n * n * (dim + 10));
    }

    /// <summary>For each row the sums over j of exp(-|x_i - x_j|^2), over all rows and over those of its group, itself included.</summary>
    /// <param name="groups">Rows of each group; groups lie one after the other.</param>
    public (double[] All, double[] Own) KernelSums(ReadOnlySpan<long> groups)
    {
        int[] ends = new int[n];
        int start = 0;
        foreach (long count in groups)
        {
            ends.AsSpan(start, (int)count).Fill(start + (int)count);
            start += (int)count;
        }
        Vector<double> lanes = Vector<double>.Indices;
        double[][] sums = Parts(2 * stride, (part, parts, both) =>
        {
            double* all = both, own = both + stride;
            for (int i = part; i < n; i += parts)
            {
                Vector<double> sumAll = Vector<double>.Zero, sumOwn = Vector<double>.Zero;
                for (int j = i + 1; j < n; j += Lanes)
                {
                    Vector<double> distance = Vector<double>.Zero;
                    for (int c = 0; c < dim; c++)
                    {
                        Vector<double> difference = Vector.Load(x + (c * stride) + j) - new Vector<double>(x[(c * stride) + i]);
                        distance = Vector.FusedMultiplyAdd(difference, difference, distance);
                    }
                    if (Vector.GreaterThanAll(distance, new Vector<double>(VectorMath.GreatestExponent))) continue;
                    Vector<double> kernel = VectorMath.ExpNegative(distance);
                    sumAll += kernel;
                    Vector.Store(Vector.Load(all + j) + kernel, all + j);
                    if (j >= ends[i]) continue;
                    kernel = Vector.ConditionalSelect(Vector.LessThan(lanes, new Vector<double>(ends[i] - j)), kernel, Vector<double>.Zero);
                    sumOwn += kernel;
                    Vector.Store(Vector.Load(own + j) + kernel, own + j);
                }
                all[i] += Vector.Sum(sumAll);
                own[i] += Vector.Sum(sumOwn);
            }
        });
        double[] Total(long from) => [.. Enumerable.Range(0, n).Select(i => 1 + sums.Sum(part => part[from + i]))];
        return (Total(0), Total(stride));
    }

    /// <summary>Maximum-norm distance of each row to its neighbour number <paramref name="k"/> among the others; infinite where there are fewer.</summary>
    public double[] NeighbourDistances(int k)
    {
        // Of each row the k distances so far, ascending; the last of them apart, where it is compared.
        double[][] found = Parts(stride * (k + 1), (part, parts, nearest) =>
        {
            new Span<double>(nearest, checked((int)(stride * (k + 1)))).Fill(double.PositiveInfinity);
            double* furthest = nearest + (stride * k);
            void Insert(int row, double distance)
            {
                double* list = nearest + ((long)row * k);
                int at = k - 1;
                for (; at > 0 && list[at - 1] > distance; at--) list[at] = list[at - 1];
                list[at] = distance;
                furthest[row] = list[k - 1];
            }
            for (int i = part; i < n; i += parts)
            {
                for (int j = i + 1; j < n; j += Lanes)
                {
                    Vector<double> distance = Distance(i, j);
                    if (!Vector.LessThanAny(distance, Vector.Max(Vector.Load(furthest + j), new Vector<double>(furthest[i])))) continue;
                    for (int lane = 0; lane < Math.Min(Lanes, n - j); lane++)
                    {
                        if (distance[lane] < furthest[i]) Insert(i, distance[lane]);
                        if (distance[lane] < furthest[j + lane]) Insert(j + lane, distance[lane]);
                    }
                }
            }
        });
        if (found.Length == 1) return found[0].AsSpan((int)(stride * k), n).ToArray();
        return [.. Enumerable.Range(0, n).Select(i => found.SelectMany(part => part.Skip(i * k).Take(k)).Order().ElementAt(k - 1))];
    }

    /// <summary>Number of rows, each itself included, nearer to a row than its radius in the maximum norm.</summary>
    public double[] CountNearer(double[] radius)
    {
        double[] padded = [.. radius, .. new double[Lanes]];
        double[][] counts = Parts(stride, (part, parts, count) =>
        {
            fixed (double* radii = padded)
            {
                for (int i = part; i < n; i += parts)
                {
                    Vector<double> own = Vector<double>.Zero, reach = new(radii[i]);
                    for (int j = i + 1; j < n; j += Lanes)
                    {
                        Vector<double> distance = Distance(i, j);
                        own += Vector.ConditionalSelect(Vector.LessThan(distance, reach), Vector<double>.One, Vector<double>.Zero);
                        Vector.Store(Vector.Load(count + j) + Vector.ConditionalSelect(Vector.LessThan(distance, Vector.Load(radii + j)), Vector<double>.One, Vector<double>.Zero), count + j);
                    }
                    count[i] += Vector.Sum(own);
                }
            }
        });
        return [.. Enumerable.Range(0, n).Select(i => (radius[i] > 0 ? 1 : 0) + counts.Sum(part => part[i]))];
    }

    public void Dispose() => columns.Dispose();

    /// <summary>Maximum-norm distances of row i to row j and its successors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Vector<double> Distance(int i, int j)
    {
        Vector<double> distance = Vector<double>.Zero;
        for (int c = 0; c < dim; c++) distance = Vector.Max(distance, Vector.Abs(Vector.Load(x + (c * stride) + j) - new Vector<double>(x[(c * stride) + i])));
        return distance;
    }

    private delegate void Work(int part, int parts, double* results);

    /// <summary>Divides the rows among threads, each with an array of its own for results.</summary>
    private double[][] Parts(long length, Work work)
    {
        int parts = Math.Min(threads.MaxDegreeOfParallelism, n);
        double[][] results = [.. Enumerable.Range(0, parts).Select(_ => new double[length])];
        void Run(int part)
        {
            fixed (double* own = results[part]) work(part, parts, own);
        }
        if (parts == 1) Run(0);
        else Parallel.For(0, parts, threads, Run);
        return results;
    }
}
