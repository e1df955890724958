using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Priori.Numerics;

/// <summary>
/// Loops over all pairs of rows, each pair once: columns in memory, so that one row meets as many others as a vector register has lanes. Nothing of size n x n is kept.
/// Results are the same at every call with the same number of threads.
/// </summary>
internal sealed unsafe class RowPairs : IDisposable
{
    private static readonly int Lanes = Vector512<double>.Count;
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
        Vector512<double> lanes = Vector512<double>.Indices;
        double[][] sums = Parts(2 * stride, (part, parts, both) =>
        {
            double* all = both, own = both + stride;
            Columns at = new(x, stride, dim); // In registers: a store might change a field.
            int rows = n;
            for (int i = part; i < rows; i += parts)
            {
                Vector512<double> sumAll = Vector512<double>.Zero, sumOwn = Vector512<double>.Zero;
                for (int j = i + 1; j < rows; j += Lanes)
                {
                    Vector512<double> distance = at.Square(i, j);
                    if (Vector512.GreaterThanAll(distance, Vector512.Create(VectorMath.GreatestExponent))) continue;
                    Vector512<double> kernel = VectorMath.ExpNegative(distance);
                    sumAll += kernel;
                    Vector512.Store(Vector512.Load(all + j) + kernel, all + j);
                    if (j >= ends[i]) continue;
                    kernel = Vector512.ConditionalSelect(Vector512.LessThan(lanes, Vector512.Create((double)(ends[i] - j))), kernel, Vector512<double>.Zero);
                    sumOwn += kernel;
                    Vector512.Store(Vector512.Load(own + j) + kernel, own + j);
                }
                all[i] += Vector512.Sum(sumAll);
                own[i] += Vector512.Sum(sumOwn);
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
            Columns at = new(x, stride, dim);
            int rows = n, neighbours = k;
            for (int i = part; i < rows; i += parts)
            {
                for (int j = i + 1; j < rows; j += Lanes)
                {
                    Vector512<double> distance = at.Maximum(i, j);
                    if (!Vector512.LessThanAny(distance, Vector512.Max(Vector512.Load(furthest + j), Vector512.Create(furthest[i])))) continue;
                    for (int lane = 0; lane < Math.Min(Lanes, rows - j); lane++)
                    {
                        if (distance[lane] < furthest[i]) furthest[i] = Insert(nearest + ((long)i * neighbours), neighbours, distance[lane]);
                        if (distance[lane] < furthest[j + lane]) furthest[j + lane] = Insert(nearest + ((long)(j + lane) * neighbours), neighbours, distance[lane]);
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
                Columns at = new(x, stride, dim);
                int rows = n;
                for (int i = part; i < rows; i += parts)
                {
                    Vector512<double> own = Vector512<double>.Zero, reach = Vector512.Create(radii[i]);
                    for (int j = i + 1; j < rows; j += Lanes)
                    {
                        Vector512<double> distance = at.Maximum(i, j);
                        own += Vector512.ConditionalSelect(Vector512.LessThan(distance, reach), Vector512<double>.One, Vector512<double>.Zero);
                        Vector512.Store(Vector512.Load(count + j) + Vector512.ConditionalSelect(Vector512.LessThan(distance, Vector512.Load(radii + j)), Vector512<double>.One, Vector512<double>.Zero), count + j);
                    }
                    count[i] += Vector512.Sum(own);
                }
            }
        });
        return [.. Enumerable.Range(0, n).Select(i => (radius[i] > 0 ? 1 : 0) + counts.Sum(part => part[i]))];
    }

    public void Dispose() => columns.Dispose();

    /// <summary>Puts a distance into an ascending list in place of the last, and returns the new last.</summary>
    private static double Insert(double* list, int length, double distance)
    {
        int place = length - 1;
        for (; place > 0 && list[place - 1] > distance; place--) list[place] = list[place - 1];
        list[place] = distance;
        return list[length - 1];
    }

    /// <summary>Distances of row i to row j and its successors.</summary>
    private readonly struct Columns(double* x, long stride, int dim)
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<double> Square(int i, int j)
        {
            Vector512<double> distance = Vector512<double>.Zero;
            double* one = x + i, others = x + j;
            for (int c = 0; c < dim; c++, one += stride, others += stride)
            {
                Vector512<double> difference = Vector512.Load(others) - Vector512.Create(*one);
                distance = Vector512.FusedMultiplyAdd(difference, difference, distance);
            }
            return distance;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<double> Maximum(int i, int j)
        {
            Vector512<double> distance = Vector512<double>.Zero;
            double* one = x + i, others = x + j;
            for (int c = 0; c < dim; c++, one += stride, others += stride) distance = Vector512.Max(distance, Vector512.Abs(Vector512.Load(others) - Vector512.Create(*one)));
            return distance;
        }
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
