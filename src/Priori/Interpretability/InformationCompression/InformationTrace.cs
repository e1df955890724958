using System.Globalization;
using System.Text;
using MathNet.Numerics.Statistics;

namespace Priori.Interpretability;

/// <summary>One point of an information plane.</summary>
/// <param name="Epoch">Epochs of training done.</param>
/// <param name="Layer">Name of the layer.</param>
/// <param name="Ixt">I(X;T), bits; NaN where the estimator has none.</param>
/// <param name="Ity">I(T;Y), bits.</param>
/// <param name="Cap">H(X) of the samples, bits: log2 n for n distinct inputs. No estimate of I(X;T) can be above it.</param>
/// <param name="UniqueRows">Distinct rows as the estimator sees them.</param>
public sealed record InformationPoint(int Epoch, string Layer, double Ixt, double Ity, double Cap, long UniqueRows);

/// <summary>Compression of one layer over a run: how far I(X;T) ends below its maximum.</summary>
/// <param name="Layer">Name of the layer.</param>
/// <param name="Maximum">Largest I(X;T) of the recorded epochs, bits.</param>
/// <param name="Final">I(X;T) at the last recorded epoch, bits.</param>
public readonly record struct LayerCompression(string Layer, double Maximum, double Final)
{
    /// <summary>Maximum less final I(X;T), bits, at least 0.</summary>
    public double Bits => Maximum - Final;

    /// <summary>The same as a fraction of the maximum, in [0, 1]; 0 for a layer that never carried information.</summary>
    public double Fraction => Maximum > 0 ? Bits / Maximum : 0;
}

/// <summary>I(X;T) and I(T;Y) of the layers of one training run over its recorded epochs.</summary>
public sealed class InformationTrace
{
    /// <summary>A trace of given points.</summary>
    /// <param name="points">One for each layer and epoch; layers keep the order of their first point.</param>
    /// <exception cref="ArgumentException">There is no point.</exception>
    public InformationTrace(IEnumerable<InformationPoint> points)
    {
        Points = [.. points.OrderBy(p => p.Epoch)];
        if (Points.Count == 0) throw new ArgumentException("A trace has at least one point.", nameof(points));
        Layers = [.. Points.Select(p => p.Layer).Distinct()];
    }

    /// <summary>All points, in the order of their epochs.</summary>
    public IReadOnlyList<InformationPoint> Points { get; }

    /// <summary>Names of the layers, input side first.</summary>
    public IReadOnlyList<string> Layers { get; }

    /// <summary>The points of one layer, in the order of their epochs.</summary>
    /// <param name="layer">Name of the layer.</param>
    public IReadOnlyList<InformationPoint> this[string layer] => [.. Points.Where(p => p.Layer == layer)];

    /// <summary>
    /// Estimates the trace of a run whose activations were stored. Statistics over the run are taken over all <paramref name="snapshots"/>, so that epochs are comparable.
    /// </summary>
    /// <param name="snapshots">Epoch and activations [n, units] by layer, the same samples at every epoch.</param>
    /// <param name="labels">Class of each sample, integers [n].</param>
    /// <param name="estimator">The estimator.</param>
    /// <param name="cap">H(X), bits; log2 n, that of distinct inputs, by default.</param>
    /// <param name="progress">Told the epoch that was just estimated.</param>
    /// <param name="cancellation">Stops between layers.</param>
    /// <exception cref="ArgumentException">As the estimator's, or a layer is missing at an epoch.</exception>
    public static InformationTrace Of(
        IReadOnlyList<(int Epoch, IReadOnlyDictionary<string, Tensor> Activations)> snapshots, Tensor labels, IMutualInformationEstimator estimator,
        double? cap = null, IProgress<int>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(snapshots);
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentNullException.ThrowIfNull(estimator);
        if (snapshots.Count == 0) throw new ArgumentException("There is no snapshot.", nameof(snapshots));
        string[] layers = [.. snapshots[0].Activations.Keys];
        foreach ((int epoch, IReadOnlyDictionary<string, Tensor> activations) in snapshots)
            if (!activations.Keys.ToHashSet().SetEquals(layers))
                throw new ArgumentException($"Epoch {epoch} has the layers {string.Join(", ", activations.Keys)}; the first has {string.Join(", ", layers)}.", nameof(snapshots));
        var run = layers.ToDictionary(layer => layer, layer => LayerRunStatistics.Of(snapshots.Select(s => s.Activations[layer])));
        List<InformationPoint> points = [];
        foreach ((int epoch, IReadOnlyDictionary<string, Tensor> activations) in snapshots.OrderBy(s => s.Epoch))
        {
            foreach (string layer in layers)
            {
                cancellation.ThrowIfCancellationRequested();
                LayerInformation information = estimator.Estimate(activations[layer], labels, run[layer]);
                points.Add(new(epoch, layer, information.Ixt, information.Ity, cap ?? Math.Log2(labels.shape[0]), information.UniqueRows));
            }
            progress?.Report(epoch);
        }
        return new(points);
    }

    /// <summary>Compression of every layer: maximum over the epochs of I(X;T) against its value at the last epoch.</summary>
    public IReadOnlyList<LayerCompression> Compression()
        => [.. Layers.Select(layer => this[layer]).Select(points => new LayerCompression(points[0].Layer, points.Max(p => p.Ixt), points[^1].Ixt))];

    /// <summary>Pearson correlation, for each layer, of compression (bits) with a metric such as test accuracy, across runs that differ in their initialisation (paper, section 4).</summary>
    /// <param name="runs">Traces of at least 3 runs, all with the same layers.</param>
    /// <param name="metric">The metric of each run.</param>
    /// <returns>The correlation by layer; NaN where compression or the metric does not vary.</returns>
    /// <exception cref="ArgumentException">There are fewer than 3 runs, another number of metrics, or the layers differ.</exception>
    public static IReadOnlyDictionary<string, double> Correlate(IReadOnlyList<InformationTrace> runs, IReadOnlyList<double> metric)
    {
        ArgumentNullException.ThrowIfNull(runs);
        ArgumentNullException.ThrowIfNull(metric);
        if (runs.Count < 3 || metric.Count != runs.Count)
            throw new ArgumentException($"A correlation needs at least 3 runs and a metric for each, not {runs.Count} and {metric.Count}.", nameof(runs));
        if (runs.Any(run => !run.Layers.SequenceEqual(runs[0].Layers))) throw new ArgumentException("The runs have different layers.", nameof(runs));
        var compression = runs.Select(run => run.Compression()).ToArray();
        return runs[0].Layers.Select((layer, i) => (layer, i))
            .ToDictionary(l => l.layer, l => Correlation.Pearson(compression.Select(c => c[l.i].Bits), metric));
    }

    /// <summary>The trace as CSV text with the header epoch,layer,ixt,ity,cap,uniqueRows; a value that the estimator does not have is empty.</summary>
    public string ToCsv()
    {
        static string Number(double value) => double.IsFinite(value) ? value.ToString("R", CultureInfo.InvariantCulture) : "";
        var text = new StringBuilder("epoch,layer,ixt,ity,cap,uniqueRows\n");
        foreach (InformationPoint p in Points)
        {
            string layer = p.Layer.AsSpan().IndexOfAny(",\"\r\n") < 0 ? p.Layer : $"\"{p.Layer.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
            text.Append(CultureInfo.InvariantCulture, $"{p.Epoch},{layer},{Number(p.Ixt)},{Number(p.Ity)},{Number(p.Cap)},{p.UniqueRows}\n");
        }
        return text.ToString();
    }
}
