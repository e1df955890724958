using Priori.Data;
using Priori.Metrics;

namespace Priori.Retrieval;

/// <summary>One configuration of a grid and what it reached.</summary>
/// <param name="Config">The configuration.</param>
/// <param name="Dimension">The length of its encodings.</param>
/// <param name="Recall">The part of the queries whose exact Chamfer nearest neighbour was among the candidates.</param>
/// <param name="Pareto">Whether no shorter or equally long encoding reached more.</param>
public sealed record TunePoint(FdeConfig Config, int Dimension, double Recall, bool Pareto);

/// <summary>Tries configurations of the encoding on a sample and marks the Pareto front of length and recall (MUVERA, section 3.1 and figure 3).</summary>
public static class FdeTuner
{
    /// <summary>Runs a grid.</summary>
    /// <param name="documents">A sample of the documents.</param>
    /// <param name="queries">A sample of the queries.</param>
    /// <param name="grid">The configurations; see <see cref="Grid"/>.</param>
    /// <param name="candidates">N of recall@N.</param>
    /// <param name="cancellation">Stops between configurations.</param>
    /// <returns>The points, shortest encoding first.</returns>
    public static IReadOnlyList<TunePoint> Run(MultiVectorSet documents, MultiVectorSet queries, IEnumerable<FdeConfig> grid, int candidates = 10, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        var truth = MaxSim.Scores(queries.Vectors, queries.Offsets, documents.Vectors, documents.Offsets).argmax(1).data<long>().ToArray();
        var points = new List<TunePoint>();
        foreach (var config in grid)
        {
            cancellation.ThrowIfCancellationRequested();
            using var encoder = new FixedDimensionalEncoder(config);
            using var index = new FlatIndex(encoder.OutputDimension);
            using (var encoded = encoder.EncodeDocuments(documents.Vectors, documents.Offsets)) index.Add(encoded);
            using var query = encoder.EncodeQueries(queries.Vectors, queries.Offsets);
            var ranks = index.Search(query, candidates).Select((found, i) => Array.IndexOf(found.Positions, (int)truth[i])).Select(at => at < 0 ? int.MaxValue : at + 1).ToArray();
            points.Add(new TunePoint(config, encoder.OutputDimension, RetrievalMetrics.RecallAtN(ranks, candidates), false));
        }
        return [.. points.Select(point => point with { Pareto = !points.Exists(other => other.Dimension <= point.Dimension && other.Recall >= point.Recall && (other.Dimension < point.Dimension || other.Recall > point.Recall)) })
            .OrderBy(point => point.Dimension).ThenByDescending(point => point.Recall)];
    }

    /// <summary>All combinations of the given parameters. Paper: R in 1, 5, 10, 15, 20; k in 2 ... 6; d_proj in 8, 16, 32, 64.</summary>
    /// <param name="dimension">d. Values of d_proj above it are left out.</param>
    /// <param name="repetitions">Values of R.</param>
    /// <param name="simHashBits">Values of k.</param>
    /// <param name="projectionDimensions">Values of d_proj.</param>
    public static IEnumerable<FdeConfig> Grid(int dimension, IReadOnlyList<int> repetitions, IReadOnlyList<int> simHashBits, IReadOnlyList<int> projectionDimensions) =>
        from projection in projectionDimensions
        where projection <= dimension
        from bits in simHashBits
        from repetition in repetitions
        select new FdeConfig(dimension, repetition, bits, projection);
}
