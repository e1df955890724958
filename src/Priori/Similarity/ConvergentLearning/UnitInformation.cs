using Priori.Numerics;

namespace Priori.Similarity;

/// <summary>
/// Mutual information between the units of two layers by histograms (supplement S.1). Each unit has one bin for (near-)zeros and <c>bins - 1</c> bins that hold equally many of the other values.
/// </summary>
/// <param name="Nats">I(X_i; X_j), plug-in, in nats [p, q], float64.</param>
/// <param name="Observations">Number of observations N.</param>
/// <param name="Bins">Bins of each unit.</param>
public sealed record UnitInformation(Tensor Nats, long Observations, int Bins)
{
    private const double ZeroBelow = 1e-6; // values below count as zero, as in the published code

    /// <summary>What the published code subtracts for the bias of the plug-in estimate, bins^2 / (2 N ln 2). (That is the first-order bias in bits while the estimate is in nats, as published.)</summary>
    public double ApproximateBias => Bias(Bins, Bins, Observations);

    /// <summary>The information less <see cref="ApproximateBias"/>.</summary>
    public Tensor BiasReduced => Nats - ApproximateBias;

    /// <summary>n_x n_y / (2 N ln 2).</summary>
    /// <param name="binsX">Bins of one unit.</param>
    /// <param name="binsY">Bins of the other.</param>
    /// <param name="observations">N.</param>
    public static double Bias(int binsX, int binsY, long observations) => (double)binsX * binsY / (2 * observations * Math.Log(2));

    /// <summary>Estimates the information of all pairs of units.</summary>
    /// <param name="a">Activations of the first layer, as in <see cref="CrossCorrelation.Of(Tensor, Tensor)"/>, in memory.</param>
    /// <param name="b">The same samples of the second layer.</param>
    /// <param name="bins">Bins of each unit, at least 2. Published: 10.</param>
    /// <exception cref="ArgumentException">Samples or positions differ, or a value is NaN or infinite.</exception>
    public static UnitInformation Estimate(Tensor a, Tensor b, int bins = 10)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bins, 2);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        (Tensor x, Tensor y) = CrossCorrelation.Paired(a, b);
        return new UnitInformation(tensor(MutualInformation.Between(Codes(x, bins), Codes(y, bins))).MoveToOuterDisposeScope(), x.shape[0], bins);
    }

    /// <summary>
    /// The bin of each value: edges are the percentiles 0 and <c>bins</c> points from the share of zeros to 100 (linear interpolation), bins are half-open, the last is closed. Zeros are in bin 0.
    /// </summary>
    /// <param name="activations">[observations, units].</param>
    /// <param name="bins">At least 2.</param>
    /// <returns>int64 [observations, units] in 0..bins-1.</returns>
    /// <exception cref="ArgumentException">There are no observations, or a value is NaN or infinite.</exception>
    public static Tensor Codes(Tensor activations, int bins = 10)
    {
        ArgumentNullException.ThrowIfNull(activations);
        ArgumentOutOfRangeException.ThrowIfLessThan(bins, 2);
        if (activations.dim() != 2 || activations.numel() == 0) throw new ArgumentException($"Activations must be [observations, units], not [{string.Join(", ", activations.shape)}].", nameof(activations));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor values = activations.detach().t().contiguous(); // [units, observations]
        if (!values.isfinite().all().item<bool>()) throw new ArgumentException("Activations must be finite.", nameof(activations));
        long n = values.shape[1];
        Tensor sorted = values.sort(1).Values;
        // Inner edges: `bins` points less the last, which is the maximum. The published code starts 0.1 % of the share above it, so that interpolation leaves the zeros.
        Tensor share = (values.lt(ZeroBelow).to(float64).mean([1L], keepdim: true) * 1.001).clamp_max_(1);
        Tensor place = (share + (1 - share) * linspace(0, 1, bins, dtype: float64, device: values.device).narrow(0, 0, bins - 1)) * (n - 1);
        Tensor below = place.floor().to(int64), above = (below + 1).clamp_max_(n - 1), part = place - below.to(float64);
        Tensor low = sorted.gather(1, below).to(float64), edges = low + part * (sorted.gather(1, above).to(float64) - low);
        return searchsorted(edges.contiguous(), values.to(float64), right: true).masked_fill_(values < ZeroBelow, 0).t().contiguous().MoveToOuterDisposeScope();
    }
}
