using Priori.Nn;
using Priori.Numerics;

namespace Priori.Similarity;

/// <summary>
/// Statistics of the units of one layer over all observations: all samples and, in convolutions, all positions. A unit is dead when its deviation is below 1e-8 of the layer's largest, so also when it
/// never is active; its correlations are 0, and averages, matchings and clusters leave it out.
/// </summary>
/// <param name="Observations">Number of observations N.</param>
/// <param name="Mean">mu [units], float64.</param>
/// <param name="Deviation">sigma [units], float64, with divisor N; 0 of dead units.</param>
/// <param name="Correlation">Correlation within the layer [units, units], float64; 0 of dead units.</param>
/// <param name="Dead">Which units are dead.</param>
public sealed record UnitStatistics(long Observations, Tensor Mean, Tensor Deviation, Tensor Correlation, IReadOnlyList<bool> Dead)
{
    private const double DeadBelow = 1e-8; // of the largest deviation of the layer

    /// <summary>Number of units.</summary>
    public int Count => Dead.Count;

    /// <summary>Indexes of the units that are not dead, ascending.</summary>
    public int[] Alive => [.. Enumerable.Range(0, Count).Where(i => !Dead[i])];

    internal static UnitStatistics Of(long observations, Tensor mean, Tensor variance, Tensor covariance)
    {
        Tensor deviation = variance.sqrt();
        Tensor dead = deviation.lt(DeadBelow * deviation.max()).logical_or_(deviation.eq(0));
        deviation.masked_fill_(dead, 0);
        return new UnitStatistics(observations, mean, deviation, CrossMoments.Correlation(covariance, deviation, deviation), dead.cpu().data<bool>().ToArray());
    }
}

/// <summary>The correlations between the units of two layers, of two networks or tables, over the same observations (section 2.1).</summary>
/// <param name="A">Statistics of the first layer, p units.</param>
/// <param name="B">Statistics of the second layer, q units.</param>
/// <param name="Between">Correlation of each unit of A with each of B [p, q], float64; 0 where one is dead.</param>
public sealed record CrossCorrelation(UnitStatistics A, UnitStatistics B, Tensor Between)
{
    /// <summary>Number of observations.</summary>
    public long Observations => A.Observations;

    /// <summary>The same with A and B exchanged.</summary>
    public CrossCorrelation Swapped => new(B, A, Between.t());

    /// <summary>Correlations of two tables of activations over the same samples.</summary>
    /// <param name="a">[n, units], [n, units, height, width] (every position is an observation) or [n, tokens, units].</param>
    /// <param name="b">The same samples and positions of the other layer; the number of units may differ.</param>
    /// <exception cref="ArgumentException">Samples or positions differ, there are fewer than 2 observations, or a value is NaN or infinite.</exception>
    public static CrossCorrelation Of(Tensor a, Tensor b)
    {
        using var sums = new StreamingCorrelation();
        using (NewDisposeScope())
        {
            (Tensor x, Tensor y) = Paired(a, b);
            const long Block = 1 << 16; // rows that are held in double precision at a time
            for (long start = 0; start < x.shape[0]; start += Block)
            {
                long rows = Math.Min(Block, x.shape[0] - start);
                sums.Add(x.narrow(0, start, rows), y.narrow(0, start, rows));
            }
        }
        return Of(sums);
    }

    /// <summary>Correlations from sums that were gathered batch by batch, with the covariances within both tables.</summary>
    /// <param name="sums">The sums.</param>
    /// <exception cref="ArgumentException">There are fewer than 2 observations, or only cross products were kept.</exception>
    public static CrossCorrelation Of(StreamingCorrelation sums)
    {
        ArgumentNullException.ThrowIfNull(sums);
        if (sums.Count < 2) throw new ArgumentException($"Correlations need at least 2 observations; there are {sums.Count}.", nameof(sums));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        CrossMoments moments = sums.Moments();
        if (moments.XX is null || moments.YY is null) throw new ArgumentException("The sums lack the products within each table.", nameof(sums));
        UnitStatistics a = UnitStatistics.Of(moments.Count, moments.MeanX, moments.VarianceX, moments.XX), b = UnitStatistics.Of(moments.Count, moments.MeanY, moments.VarianceY, moments.YY);
        Tensor between = CrossMoments.Correlation(moments.XY, a.Deviation, b.Deviation);
        foreach (Tensor kept in new[] { a.Mean, a.Deviation, a.Correlation, b.Mean, b.Deviation, b.Correlation, between }) kept.MoveToOuterDisposeScope();
        return new CrossCorrelation(a, b, between);
    }

    /// <summary>Runs two networks over the same inputs once, batch by batch, and gathers the correlations of pairs of layers.</summary>
    /// <param name="a">Activations of the layers of the first network for a batch; see <see cref="LayerActivations"/>.</param>
    /// <param name="b">Activations of the layers of the second network, as many.</param>
    /// <param name="inputs">Inputs [n, ...]; both networks see them in the same order.</param>
    /// <param name="batchSize">Inputs a batch, at least 1. Default 256.</param>
    /// <returns>One for each pair of layers.</returns>
    /// <exception cref="ArgumentException">The numbers of layers, samples or positions differ, there are fewer than 2 observations, or an activation is NaN or infinite.</exception>
    public static IReadOnlyList<CrossCorrelation> Collect(Func<Tensor, IReadOnlyList<Tensor>> a, Func<Tensor, IReadOnlyList<Tensor>> b, Tensor inputs, int batchSize = 256)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentOutOfRangeException.ThrowIfLessThan(batchSize, 1);
        if (inputs.dim() == 0 || inputs.shape[0] == 0) throw new ArgumentException("There are no inputs.", nameof(inputs));
        using var ungraphed = no_grad();
        var sums = new List<StreamingCorrelation>();
        try
        {
            for (long start = 0; start < inputs.shape[0]; start += batchSize)
            {
                using DisposeScope scope = NewDisposeScope();
                Tensor batch = inputs.narrow(0, start, Math.Min(batchSize, inputs.shape[0] - start));
                IReadOnlyList<Tensor> left = a(batch), right = b(batch);
                if (left.Count != right.Count) throw new ArgumentException($"The first network gives {left.Count} layers and the second {right.Count}.", nameof(b));
                for (int layer = 0; layer < left.Count; layer++)
                {
                    if (sums.Count == layer) sums.Add(new StreamingCorrelation());
                    (Tensor x, Tensor y) = Paired(left[layer], right[layer]);
                    sums[layer].Add(x, y);
                }
            }
            return [.. sums.Select(Of)];
        }
        finally
        {
            foreach (StreamingCorrelation sum in sums) sum.Dispose();
        }
    }

    // Both as [observations, units].
    internal static (Tensor A, Tensor B) Paired(Tensor a, Tensor b)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        static string Shape(IEnumerable<long> shape) => $"[{string.Join(", ", shape)}]";
        if (a.shape[0] != b.shape[0]) throw new ArgumentException($"The activations are of {a.shape[0]} and {b.shape[0]} samples; they must be the same samples in the same order.", nameof(b));
        IEnumerable<long> Positions(Tensor t) => t.dim() switch { 4 => t.shape.Skip(2), 3 => t.shape.Skip(1).Take(1), _ => [] };
        if (!Positions(a).SequenceEqual(Positions(b)))
            throw new ArgumentException($"The activations are {Shape(a.shape)} and {Shape(b.shape)}: their positions {Shape(Positions(a))} and {Shape(Positions(b))} do not correspond.", nameof(b));
        return (ActivationRecorder.Flatten(a), ActivationRecorder.Flatten(b));
    }
}

/// <summary>The activations of layers of a network, as a function of a batch of inputs.</summary>
public static class LayerActivations
{
    /// <summary>Of a <see cref="Network"/>: any layer of its description, so also functions such as ReLU.</summary>
    /// <param name="network">The network, in evaluation mode where it has batch normalisation.</param>
    /// <param name="layers">Names of layers.</param>
    public static Func<Tensor, IReadOnlyList<Tensor>> Of(Network network, IReadOnlyList<string> layers) => inputs => network.Evaluate(inputs, layers);

    /// <summary>Of any module: the outputs of named submodules, recorded by hooks during the pass.</summary>
    /// <param name="model">The network, in evaluation mode where it matters.</param>
    /// <param name="layers">Names as in <c>named_modules()</c>.</param>
    public static Func<Tensor, IReadOnlyList<Tensor>> Of(Module<Tensor, Tensor> model, IReadOnlyList<string> layers) => inputs =>
    {
        using var recorder = new ActivationRecorder(model, layers);
        _ = model.call(inputs);
        return [.. layers.Select(l => recorder.Outputs[l])];
    };
}
