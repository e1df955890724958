using System.Runtime.Intrinsics;
using Priori.Runtime;

namespace Priori.Numerics;

/// <summary>What k-means found.</summary>
/// <param name="Centers">[k, d] float32.</param>
/// <param name="Labels">[n] int64, the nearest centre of every row.</param>
/// <param name="Inertia">Sum of squared distances to the nearest centres.</param>
public sealed record KMeansResult(Tensor Centers, Tensor Labels, double Inertia);

/// <summary>
/// k-means by Lloyd's iterations from k-means++ seeds (Arthur and Vassilvitskii, SODA 2007). The same seed gives the same result on the same
/// machine, whatever the number of threads. It runs on the CPU; data from another device are copied there and the results moved back.
/// </summary>
public static unsafe class KMeans
{
    /// <summary>Clusters the rows of a matrix.</summary>
    /// <param name="data">[n, d].</param>
    /// <param name="clusters">k, 1 to n.</param>
    /// <param name="iterations">Most Lloyd iterations; it ends before when no label changes. Default 25.</param>
    /// <param name="restarts">Runs from other seeds; the one with the least inertia is kept. Default 1.</param>
    /// <param name="seed">The seed of the first run; run i has seed + i.</param>
    /// <exception cref="ArgumentException">The shape or the number of clusters does not fit, or the data hold NaN or infinity.</exception>
    public static KMeansResult Fit(Tensor data, int clusters, int iterations = 25, int restarts = 1, int seed = 0)
    {
        if (data.dim() != 2) throw new ArgumentException($"Data must be [n, d], not [{string.Join(", ", data.shape)}].", nameof(data));
        var (n, d) = (checked((int)data.shape[0]), (int)data.shape[1]);
        if (clusters < 1 || clusters > n) throw new ArgumentOutOfRangeException(nameof(clusters), clusters, $"There are {n} rows, so 1..{n} clusters are possible.");
        ArgumentOutOfRangeException.ThrowIfLessThan(restarts, 1);
        using var scope = NewDisposeScope();
        var x = TensorMemory.ToFloat32(data);
        if (!isfinite(x).all().item<bool>()) throw new ArgumentException("The data hold NaN or infinity.", nameof(data));
        KMeansResult? best = null;
        for (var i = 0; i < restarts; i++)
        {
            var centers = empty([clusters, d]);
            var labels = new int[n];
            var inertia = Fit(TensorMemory.Pointer<float>(x), n, d, d, clusters, iterations, seed + i, TensorMemory.Pointer<float>(centers), labels);
            if (best is null || inertia < best.Inertia) best = new KMeansResult(centers, tensor(labels).to(ScalarType.Int64), inertia);
        }
        return new KMeansResult(best!.Centers.to(data.device).MoveToOuterDisposeScope(), best.Labels.to(data.device).MoveToOuterDisposeScope(), best.Inertia);
    }

    /// <summary>The nearest centre of every row.</summary>
    /// <param name="data">[n, d].</param>
    /// <param name="centers">[k, d].</param>
    /// <returns>[n] int64; of centres equally near, the first.</returns>
    public static Tensor Assign(Tensor data, Tensor centers)
    {
        if (data.dim() != 2 || centers.dim() != 2 || data.shape[1] != centers.shape[1])
            throw new ArgumentException($"Data [{string.Join(", ", data.shape)}] and centres [{string.Join(", ", centers.shape)}] must be [n, d] and [k, d].", nameof(centers));
        using var scope = NewDisposeScope();
        var (x, c) = (TensorMemory.ToFloat32(data), TensorMemory.ToFloat32(centers));
        var labels = new int[x.shape[0]];
        Assign(TensorMemory.Pointer<float>(x), labels.Length, x.shape[1], (int)x.shape[1], TensorMemory.Pointer<float>(c), (int)c.shape[0], c.shape[1], labels);
        return tensor(labels).to(ScalarType.Int64).to(data.device).MoveToOuterDisposeScope();
    }

    /// <summary>The kernel: rows of x are <paramref name="stride"/> floats apart; centres [clusters, d] are written. Returns the inertia.</summary>
    internal static double Fit(float* x, int n, long stride, int d, int clusters, int iterations, int seed, float* centers, int[] labels)
    {
        Seed(x, n, stride, d, clusters, SplitMix64.For(seed), centers);
        var previous = new int[n];
        var sums = new double[clusters * d];
        var counts = new int[clusters];
        for (var iteration = 0; ; iteration++)
        {
            Assign(x, n, stride, d, centers, clusters, d, labels);
            if (iteration >= iterations || (iteration > 0 && labels.AsSpan().SequenceEqual(previous))) break;
            labels.CopyTo(previous, 0);
            Array.Clear(sums);
            Array.Clear(counts);
            for (var i = 0; i < n; i++)
            {
                counts[labels[i]]++;
                for (var j = 0; j < d; j++) sums[labels[i] * d + j] += x[i * stride + j];
            }
            for (var c = 0; c < clusters; c++)
            {
                for (var j = 0; j < d && counts[c] > 0; j++) centers[c * (long)d + j] = (float)(sums[c * d + j] / counts[c]);
            }
            for (var c = 0; c < clusters; c++)
            {
                if (counts[c] > 0) continue;
                // An empty cluster restarts at the row farthest from its centre, if any row is away from its centre.
                var (farthest, distance) = (-1, 0.0);
                for (var i = 0; i < n; i++)
                {
                    var squared = counts[labels[i]] > 1 ? SquaredDistance(x + i * stride, centers + labels[i] * (long)d, d) : 0;
                    if (squared > distance) (farthest, distance) = (i, squared);
                }
                if (farthest < 0) break;
                counts[labels[farthest]]--;
                counts[c] = 1;
                labels[farthest] = c;
                Buffer.MemoryCopy(x + farthest * stride, centers + c * (long)d, d * sizeof(float), d * sizeof(float));
            }
        }
        var inertia = 0.0;
        for (var i = 0; i < n; i++) inertia += SquaredDistance(x + i * stride, centers + labels[i] * (long)d, d);
        return inertia;
    }

    /// <summary>k-means++: every next centre is a row drawn with probability proportional to its squared distance from the centres so far.</summary>
    private static void Seed(float* x, int n, long stride, int d, int clusters, SplitMix64 random, float* centers)
    {
        var nearest = new float[n];
        Array.Fill(nearest, float.PositiveInfinity);
        var chosen = random.Next(n);
        for (var c = 0; ; c++)
        {
            var center = centers + c * (long)d;
            Buffer.MemoryCopy(x + chosen * stride, center, d * sizeof(float), d * sizeof(float));
            if (c == clusters - 1) return;
            var total = 0.0;
            for (var i = 0; i < n; i++)
            {
                var squared = SquaredDistance(x + i * stride, center, d);
                if (squared < nearest[i]) nearest[i] = squared;
                total += nearest[i];
            }
            if (total == 0) // fewer distinct rows than clusters
            {
                chosen = random.Next(n);
                continue;
            }
            var left = random.NextDouble() * total;
            chosen = -1;
            for (var i = 0; i < n; i++)
            {
                if (nearest[i] == 0) continue;
                chosen = i;
                if ((left -= nearest[i]) < 0) break;
            }
        }
    }

    /// <summary>Labels by the largest &lt;x, c&gt; - |c|^2 / 2, blocks of rows in parallel.</summary>
    internal static void Assign(float* x, int n, long stride, int d, float* centers, int clusters, long centerStride, int[] labels)
    {
        using var packed = new PackedMatrix(centers, d, clusters, 1, centerStride);
        using var halfNorms = new NativeBuffer<float>(packed.Stride);
        for (var c = 0; c < packed.Stride; c++)
        {
            halfNorms[c] = float.PositiveInfinity;
            if (c >= clusters) continue;
            double norm = 0;
            for (var j = 0; j < d; j++) norm += (double)centers[c * centerStride + j] * centers[c * centerStride + j];
            halfNorms[c] = (float)(norm / 2);
        }
        const int block = 64;
        var blocks = (n + block - 1) / block;
        Parallel.For(0, blocks, TensorMemory.Threads((double)n * packed.Stride * d), () => new NativeBuffer<float>((long)block * packed.Stride), (b, _, product) =>
        {
            AssignBlock(b, product.Pointer);
            return product;
        }, product => product.Dispose());

        void AssignBlock(int b, float* product)
        {
            var (first, rows) = (b * block, Math.Min(block, n - b * block));
            packed.Multiply(x + first * stride, rows, stride, product, packed.Stride);
            for (var i = 0; i < rows; i++) labels[first + i] = ArgMax(product + (long)i * packed.Stride, halfNorms.Pointer, packed.Stride);
        }
    }

    /// <summary>The first index of the largest value - bias; length is a multiple of 16.</summary>
    private static int ArgMax(float* values, float* bias, int length)
    {
        var best = Vector512.Create(float.NegativeInfinity);
        var where = Vector512<int>.Zero;
        var index = Vector512<int>.Indices;
        for (var i = 0; i < length; i += 16, index += Vector512.Create(16))
        {
            var value = Vector512.Load(values + i) - Vector512.Load(bias + i);
            var greater = Vector512.GreaterThan(value, best);
            best = Vector512.ConditionalSelect(greater, value, best);
            where = Vector512.ConditionalSelect(greater.AsInt32(), index, where);
        }
        var (top, at) = (best[0], where[0]);
        for (var lane = 1; lane < 16; lane++)
        {
            if (best[lane] > top || (best[lane] == top && where[lane] < at)) (top, at) = (best[lane], where[lane]);
        }
        return at;
    }

    private static float SquaredDistance(float* a, float* b, int d)
    {
        var sum = Vector256<float>.Zero;
        var j = 0;
        for (; j + 8 <= d; j += 8)
        {
            var difference = Vector256.Load(a + j) - Vector256.Load(b + j);
            sum = Vector256.FusedMultiplyAdd(difference, difference, sum);
        }
        var total = Vector256.Sum(sum);
        for (; j < d; j++) total += (a[j] - b[j]) * (a[j] - b[j]);
        return total;
    }
}
