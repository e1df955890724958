using Priori.Numerics;

namespace Priori.Interpretability;

/// <summary>
/// Nearest-neighbour estimators with the maximum norm, in bits: entropy (Kozachenko and Leonenko, 1987), mutual information of two continuous variables
/// (Kraskov, Stögbauer, Grassberger, 2004, algorithm 1) and of a continuous and a discrete one (Ross, 2014). They adapt to the scale of the activations through the distance to
/// the k-th neighbour. For a deterministic continuous T the true I(X;T) is infinite, so as an <see cref="IMutualInformationEstimator"/> this one
/// reports I(X;T) as NaN, unless noise is asked for.
/// </summary>
public sealed class KnnMutualInformation : IMutualInformationEstimator
{
    private const double RelativeJitter = 1e-10; // Breaks ties, e.g. of dead units.

    private readonly int k;
    private readonly double? noise;

    /// <summary>Creates the estimator.</summary>
    /// <param name="k">Neighbours, at least 1. Default 3, as in the paper's toolbox.</param>
    /// <param name="noise">
    /// Standard deviation of Gaussian noise added to T in <see cref="Estimate"/>, as a fraction of the layer's largest activation over the run; the samples
    /// are the same at every call. By default none.
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="k"/> is less than 1 or <paramref name="noise"/> is not above 0.</exception>
    public KnnMutualInformation(int k = 3, double? noise = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        if (noise is { } fraction && (!(fraction > 0) || !double.IsFinite(fraction))) throw new ArgumentOutOfRangeException(nameof(noise), noise, "The noise must be above 0.");
        (this.k, this.noise) = (k, noise);
    }

    /// <summary>Differential entropy of continuous samples: psi(n) - psi(k) + d log 2 + d mean log (distance to the k-th neighbour). Bits; may be negative.</summary>
    /// <param name="samples">Samples [n, d], n above k.</param>
    /// <exception cref="ArgumentException">There are no more than k samples, or one is NaN or infinite.</exception>
    public double Entropy(Tensor samples)
    {
        using var scope = NewDisposeScope();
        Tensor rows = Jittered(Enough(Population.Rows(samples)));
        double nats = Digamma(rows.shape[0]) - Digamma(k) + rows.shape[1] * (Math.Log(2) + NeighbourDistances(rows, k).Average(Math.Log));
        return nats / Math.Log(2);
    }

    /// <summary>Mutual information of two continuous variables: psi(k) + psi(n) - mean (psi(n_x + 1) + psi(n_y + 1)). Bits; noise may make it negative.</summary>
    /// <param name="x">Samples [n, d], n above k.</param>
    /// <param name="y">Samples [n, e] of the second variable, in the same order.</param>
    /// <exception cref="ArgumentException">Lengths differ, there are no more than k samples, or one is NaN or infinite.</exception>
    public double MutualInformation(Tensor x, Tensor y)
    {
        using var scope = NewDisposeScope();
        Tensor a = Jittered(Enough(Population.Rows(x))), b = Jittered(Population.Rows(y), stream: 1);
        if (a.shape[0] != b.shape[0]) throw new ArgumentException($"The variables have {a.shape[0]} and {b.shape[0]} samples; they must have the same.", nameof(y));
        double[] radius = NeighbourDistances(cat([a, b], 1), k);
        // Points strictly nearer than the k-th neighbour, the point itself included: n_x + 1.
        double nats = Digamma(k) + Digamma(a.shape[0]) - DigammaOfNearer(a, radius) - DigammaOfNearer(b, radius);
        return nats / Math.Log(2);
    }

    /// <summary>
    /// Mutual information of a continuous and a discrete variable: psi(n) + psi(k) - mean psi(n_y) - mean psi(m_i), where m_i counts the points of
    /// all classes as near as the k-th neighbour of the own class. Classes of one sample are left out; classes of k or fewer use all their points. Bits; noise may make it negative.
    /// </summary>
    /// <param name="t">Samples [n, d], n at least 2.</param>
    /// <param name="labels">Classes, integers [n].</param>
    /// <exception cref="ArgumentException">As <see cref="Estimate"/>, or no class has two samples.</exception>
    public double MutualInformationWithLabels(Tensor t, Tensor labels)
    {
        using var scope = NewDisposeScope();
        Tensor rows = Population.Rows(t);
        return Ross(Jittered(rows), Population.Classes(labels, rows));
    }

    /// <inheritdoc/>
    public LayerInformation Estimate(Tensor t, Tensor labels, LayerRunStatistics run)
    {
        using var scope = NewDisposeScope();
        Tensor rows = Population.Rows(t);
        RowGroups classes = Population.Classes(labels, rows);
        long unique = Population.UniqueRows(rows);
        if (unique == 1) return new(noise is null ? double.NaN : 0, 0, unique);
        if (noise is null) return new(double.NaN, Ross(Jittered(rows), classes), unique);
        double deviation = noise.Value * run.Magnitude;
        Tensor noisy = rows + Gaussian(rows, stream: 2) * deviation;
        double entropyOfNoise = rows.shape[1] * Math.Log2(2 * Math.PI * Math.E * deviation * deviation) / 2;
        return new(Entropy(noisy) - entropyOfNoise, Ross(noisy, classes), unique);
    }

    private double Ross(Tensor rows, RowGroups classes)
    {
        rows = rows.index_select(0, classes.Ids.argsort());
        List<(double[] Radius, double Count, double Neighbours)> kept = [];
        List<Tensor> members = [];
        long start = 0;
        foreach (long count in classes.Counts.cpu().data<long>().ToArray())
        {
            if (count > 1)
            {
                long neighbours = Math.Min(k, count - 1);
                members.Add(rows.narrow(0, start, count));
                kept.Add((NeighbourDistances(members[^1], neighbours), count, neighbours));
            }
            start += count;
        }
        if (kept.Count == 0) throw new ArgumentException("No class has two samples.", nameof(classes));
        double n = kept.Sum(c => c.Count);
        double nats = Digamma(n) - DigammaOfNearer(cat(members), [.. kept.SelectMany(c => c.Radius)])
            + kept.Sum(c => c.Count * (Digamma(c.Neighbours) - Digamma(c.Count))) / n;
        return nats / Math.Log(2);
    }

    private Tensor Enough(Tensor rows) => rows.shape[0] > k
        ? rows
        : throw new ArgumentException($"{rows.shape[0]} samples have no neighbour number {k}; there must be more than k samples.", nameof(rows));

    private static double[] NeighbourDistances(Tensor rows, long k)
    {
        using var pairs = new RowPairs(rows);
        return pairs.NeighbourDistances((int)k);
    }

    /// <summary>Mean digamma of the number of rows, each itself included, nearer to a row than its radius.</summary>
    private static double DigammaOfNearer(Tensor rows, double[] radius)
    {
        using var pairs = new RowPairs(rows);
        return pairs.CountNearer(radius).Average(Digamma);
    }

    private static Tensor Jittered(Tensor rows, int stream = 0) => rows + Gaussian(rows, stream) * (RelativeJitter * Math.Max(rows.abs().max().item<double>(), double.Epsilon));

    private static Tensor Gaussian(Tensor rows, int stream)
    {
        using var generator = new Generator((ulong)stream + 1, CPU);
        return randn(rows.shape, ScalarType.Float64, generator: generator).to(rows.device);
    }

    private static double Digamma(double x) => MathNet.Numerics.SpecialFunctions.DiGamma(x);
}
