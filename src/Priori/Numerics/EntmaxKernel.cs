using System.Numerics;
using System.Runtime.CompilerServices;

namespace Priori.Numerics;

/// <summary>
/// alpha-entmax of short rows in memory, as many rows side by side as a vector register has lanes: tau by Newton's method, kept in a bracket.
/// With u_j = z_j - tau and q_j = u_j^(1 / (alpha - 1) - 1) on the support, p_j = q_j u_j, the slope of sum p is -sum q / (alpha - 1), and p_j^(2 - alpha), which the backward pass needs, is q_j.
/// </summary>
internal static unsafe class EntmaxKernel
{
    /// <summary>Longest row for which a thread's buffers stay in its nearest cache.</summary>
    public const int LongestRow = 512;

    /// <summary>Writes p = entmax(x) and, unless null, s = p^(2 - alpha) on the support and s / sum(s), all [rows, m].</summary>
    public static void Project<T>(T* x, T* p, T* s, T* weights, long rows, int m, double alpha)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        long groups = (rows + Vector<T>.Count - 1) / Vector<T>.Count;
        const double multiplyAddsAnElement = 100; // About five evaluations of a power.
        ParallelOptions threads = TensorMemory.Threads(rows * m * multiplyAddsAnElement);
        int parts = (int)Math.Clamp(groups, 1, threads.MaxDegreeOfParallelism);
        void Part(int part)
        {
            T* buffer = stackalloc T[2 * m * Vector<T>.Count];
            for (long group = groups * part / parts; group < groups * (part + 1) / parts; group++)
            {
                long first = group * Vector<T>.Count;
                Group(x + (first * m), p + (first * m), s == null ? null : s + (first * m), s == null ? null : weights + (first * m), (int)Math.Min(Vector<T>.Count, rows - first), m, alpha, buffer);
            }
        }
        if (parts == 1) Part(0);
        else Parallel.For(0, parts, threads, Part);
    }

    private static void Group<T>(T* x, T* p, T* s, T* weights, int rows, int m, double alpha, T* buffer)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int lanes = Vector<T>.Count;
        T* z = buffer, q = buffer + (m * lanes);
        for (int lane = 0; lane < lanes; lane++)
        {
            T* row = x + (Math.Min(lane, rows - 1) * m); // Idle lanes repeat the last row.
            for (int j = 0; j < m; j++) z[(j * lanes) + lane] = row[j];
        }
        Vector<T> most = Vector.Load(z), mean = Vector<T>.Zero;
        for (int j = 1; j < m; j++) most = Vector.Max(most, Vector.Load(z + (j * lanes)));
        for (int j = 0; j < m; j++)
        {
            Vector<T> logit = (Vector.Load(z + (j * lanes)) - most) * T.CreateTruncating(alpha - 1);
            Vector.Store(logit, z + (j * lanes));
            mean += logit;
        }
        Vector<T> tau = Solve(z, mean / T.CreateTruncating(m), m, alpha);
        T power = T.CreateTruncating((1 / (alpha - 1)) - 1);
        Vector<T> sum = Vector<T>.Zero, slope = Vector<T>.Zero;
        for (int j = 0; j < m; j++)
        {
            Vector<T> u = Vector.Load(z + (j * lanes)) - tau, power1 = Power(u, power);
            Vector.Store(power1, q + (j * lanes));
            Vector.Store(power1 * u, z + (j * lanes));
            slope += power1;
            sum += power1 * u;
        }
        for (int lane = 0; lane < rows; lane++)
        {
            T total = sum[lane], rest = slope[lane];
            for (int j = 0; j < m; j++)
            {
                int to = (lane * m) + j, from = (j * lanes) + lane;
                p[to] = z[from] / total;
                if (s == null) continue;
                s[to] = q[from];
                weights[to] = q[from] / rest;
            }
        }
    }

    /// <summary>tau of each lane. A lane that has converged is left alone, so a row's result does not depend on its neighbours.</summary>
    private static Vector<T> Solve<T>(T* z, Vector<T> mean, int m, double alpha)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        T power = T.CreateTruncating((1 / (alpha - 1)) - 1), exponent = T.CreateTruncating(1 / (alpha - 1)), uniform = T.CreateTruncating(Math.Pow(m, 1 - alpha));
        // The largest logit is 0: at tau = -1 its share alone is 1, and at the other end m equal shares are.
        Vector<T> low = new(-T.One), high = new(-uniform);
        // Below alpha = 2, sum p is convex in tau: by Jensen's inequality Newton starts left of the solution at the mean's tau too, and comes from the left.
        bool convex = alpha <= 2;
        Vector<T> tau = convex ? Vector.Max(low, mean - new Vector<T>(uniform)) : (low + high) * T.CreateTruncating(0.5);
        bool single = typeof(T) == typeof(float);
        var tolerance = new Vector<T>(T.CreateTruncating(alpha < 2 ? single ? 1e-6 : 1e-12 : single ? 1.2e-7 : 1e-15)); // At kinks (alpha >= 2) a step's error is not of higher order than the step.
        Vector<T> active = Vector.Equals(tau, tau), before = high - low, last = before;
        int most = single ? 60 : 120;
        for (int i = 0; i < most && active != Vector<T>.Zero; i++)
        {
            Vector<T> sum = Vector<T>.Zero, slope = Vector<T>.Zero;
            for (int j = 0; j < m; j++)
            {
                Vector<T> u = Vector.Load(z + (j * Vector<T>.Count)) - tau, q = Power(u, power);
                slope += q;
                sum += q * u;
            }
            Vector<T> excess = sum - Vector<T>.One, left = Vector.GreaterThanOrEqual(excess, Vector<T>.Zero);
            low = Vector.ConditionalSelect(left, tau, low);
            high = Vector.ConditionalSelect(left, high, tau);
            Vector<T> next = tau + (excess / (slope * exponent)), middle = (low + high) * T.CreateTruncating(0.5);
            Vector<T> inside = Vector.GreaterThanOrEqual(next, low) & Vector.LessThanOrEqual(next, high);
            if (!convex) inside &= Vector.LessThanOrEqual(Vector.Abs(next - tau) * T.CreateTruncating(2), before); // Steps must halve, at every other one (Press et al., Numerical Recipes, section 9.4).
            next = Vector.ConditionalSelect(inside, next, middle);
            Vector<T> step = Vector.Abs(next - tau);
            tau = Vector.ConditionalSelect(active, next, tau);
            active = Vector.AndNot(active, Vector.LessThanOrEqual(Vector.Min(step, high - low), tolerance));
            (before, last) = (last, step);
        }
        return tau;
    }

    /// <summary>u^power where u is positive, else 0; u is at most 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<T> Power<T>(Vector<T> u, T power)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        Vector<T> support = Vector.GreaterThan(u, Vector<T>.Zero);
        if (power == T.Zero) return support & Vector<T>.One;
        if (power == T.One) return support & u;
        if (typeof(T) == typeof(float)) return support & VectorMath.Exp2(VectorMath.Log2(u.As<T, float>()) * float.CreateTruncating(power)).As<float, T>();
        Vector<double> logarithm = Vector.Log(Vector.Max(u.As<T, double>(), new Vector<double>(1e-300)));
        return support & Vector.Exp(logarithm * double.CreateTruncating(power)).As<double, T>();
    }
}
