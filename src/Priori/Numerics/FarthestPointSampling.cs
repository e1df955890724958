namespace Priori.Numerics;

/// <summary>
/// Farthest point sampling (Gonzalez, Theoretical Computer Science 1985): every next row is the one with the largest Euclidean distance to the rows chosen so far.
/// It covers the data within twice the smallest radius that as many rows could. Cost: one pass over the data for each chosen row.
/// </summary>
public static class FarthestPointSampling
{
    /// <summary>Chooses rows of a matrix.</summary>
    /// <param name="data">Floating point [n, d]; normalise the rows before where directions count and lengths do not.</param>
    /// <param name="count">Rows to choose, 1 to n.</param>
    /// <param name="start">The first chosen row, 0 to n - 1. Default 0.</param>
    /// <returns>Indices int64 [count] in the order of choice, all different, on the device of the data; of rows equally far, the first.</returns>
    /// <exception cref="ArgumentException">The data are no matrix of finite numbers, or the count or the start is outside its range.</exception>
    public static Tensor Select(Tensor data, int count, int start = 0)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (data.dim() != 2 || !data.is_floating_point()) throw new ArgumentException($"Data must be floating point [n, d], not {data.dtype} [{string.Join(", ", data.shape)}].", nameof(data));
        long n = data.shape[0];
        if (count < 1 || count > n) throw new ArgumentOutOfRangeException(nameof(count), count, $"There are {n} rows, so 1..{n} can be chosen.");
        if (start < 0 || start >= n) throw new ArgumentOutOfRangeException(nameof(start), start, $"There are {n} rows, so the first is one of 0..{n - 1}.");
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        if (!data.isfinite().all().item<bool>()) throw new ArgumentException("The data hold NaN or infinity.", nameof(data));
        Tensor nearest = full([n], double.PositiveInfinity, data.dtype, data.device);
        long[] chosen = new long[count];
        chosen[0] = start;
        for (int i = 1; i < count; i++)
        {
            using DisposeScope step = NewDisposeScope();
            long last = chosen[i - 1];
            // The differences themselves: |x|^2 - 2 <x, c> + |c|^2 would tell equal distances apart.
            Tensor distances = cdist(data, data.narrow(0, last, 1), 2, compute_mode.donot_use_mm_for_euclid_dist).squeeze(1);
            nearest.copy_(minimum(nearest, distances));
            nearest[last] = double.NegativeInfinity; // never again, even where rows coincide
            chosen[i] = nearest.argmax().item<long>();
        }
        return tensor(chosen).to(data.device).MoveToOuterDisposeScope();
    }
}
