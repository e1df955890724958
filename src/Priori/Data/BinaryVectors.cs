using Priori.Runtime;

namespace Priori.Data;

/// <summary>
/// All binary vectors of a length with a balanced label: the sign of a random quadratic form against its median. It takes the place of the 12-bit data set of
/// Shwartz-Ziv and Tishby (2017), the usual small population of information-plane studies.
/// </summary>
public static class BinaryVectors
{
    /// <summary>
    /// Inputs 0 or 1, float32 [2^bits, bits], and labels int64 [2^bits]. With s = 2x - 1, w ~ N(0, 1)^bits and A ~ N(0, 1)^(bits x bits) made symmetric as
    /// (A + A^T) / 2, the label is 1 where 0.5 s.w + 0.35 s^T A s is above its median.
    /// </summary>
    /// <param name="bits">Length of the vectors, 1 to 20. Default 12.</param>
    /// <param name="seed">Seed of w and A; the same data on every system.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="bits"/> is outside 1..20.</exception>
    public static (Tensor Inputs, Tensor Labels) Generate(int bits = 12, int seed = 0)
    {
        if (bits is < 1 or > 20) throw new ArgumentOutOfRangeException(nameof(bits), bits, "The length must be 1 to 20.");
        var random = SplitMix64.For(seed);
        double[] w = Normals(random, bits), a = Normals(random, bits * bits);
        int n = 1 << bits;
        float[] inputs = new float[n * bits];
        double[] scores = new double[n];
        for (int row = 0; row < n; row++)
        {
            Span<float> x = inputs.AsSpan(row * bits, bits);
            for (int i = 0; i < bits; i++) x[i] = row >> (bits - 1 - i) & 1;
            for (int i = 0; i < bits; i++)
            {
                double quadratic = 0;
                for (int j = 0; j < bits; j++) quadratic += (a[i * bits + j] + a[j * bits + i]) / 2 * (2 * x[j] - 1);
                scores[row] += (2 * x[i] - 1) * (0.5 * w[i] + 0.35 * quadratic);
            }
        }
        double[] sorted = [.. scores.Order()];
        double median = (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
        return (tensor(inputs).reshape(n, bits), tensor(scores.Select(score => score > median ? 1L : 0L).ToArray()));
    }

    private static double[] Normals(SplitMix64 random, int count)
    {
        double[] values = new double[count];
        for (int i = 0; i < count; i++) values[i] = random.NextGaussian();
        return values;
    }
}
