using BenchmarkDotNet.Attributes;
using Priori.Nn;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Benchmarks.Training;

/// <summary>
/// A training step on an embedding table of ten thousand or ten million rows of 16 numbers, 1,024 rows of 10 fields a batch. Ids are drawn uniformly, the worst case: in the
/// large table nearly every id is a row of its own that no cache holds. The whole step is that of a deep click model, embedding and 400-400-400; the table's step is its part of it:
/// look-up, gradient and optimizer.
/// </summary>
public class SparseGradientsBenchmark
{
    private const int Batch = 1024, Fields = 10, Dim = 16;
    private Tensor[] _ids = [];
    private Tensor _ones = null!, _labels = null!;
    private FieldEmbedding _table = null!;
    private Mlp _network = null!;
    private optim.Optimizer _optimizer = null!;
    private int _step;

    [Params(10_000, 10_000_000)]
    public long Rows { get; set; }

    [Params(nameof(RowwiseAdam), nameof(RowwiseAdagrad))]
    public string Optimizer { get; set; } = nameof(RowwiseAdam);

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        _ids = [.. Enumerable.Range(0, 64).Select(_ => randint(0, Rows, [Batch, Fields], ScalarType.Int64))];
        (_ones, _labels) = (ones(Batch, Fields), randint(0, 2, [Batch, 1], ScalarType.Float32));
        _table = new FieldEmbedding(Fields, Rows, Dim, sparse: true);
        _network = new Mlp(Fields * Dim, [400, 400, 400], 1);
        TorchSharp.Modules.Parameter[] parameters = [.. _table.parameters(), .. _network.parameters()];
        _optimizer = Optimizer == nameof(RowwiseAdam) ? new RowwiseAdam(parameters) : new RowwiseAdagrad(parameters);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _optimizer.Dispose();
        _network.Dispose();
        _table.Dispose();
    }

    [Benchmark]
    public void TableStep() => Step(embeddings => embeddings.square().sum());

    [Benchmark]
    public void WholeStep() => Step(embeddings => nn.functional.binary_cross_entropy_with_logits(_network.forward(embeddings.flatten(1)), _labels));

    private void Step(Func<Tensor, Tensor> loss)
    {
        using var scope = NewDisposeScope();
        _optimizer.zero_grad();
        loss(_table.forward(_ids[_step++ % _ids.Length], _ones)).backward();
        _optimizer.step();
    }
}
