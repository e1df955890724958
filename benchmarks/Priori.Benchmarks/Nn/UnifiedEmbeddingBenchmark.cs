using BenchmarkDotNet.Attributes;
using Priori.Nn;

namespace Priori.Benchmarks.Nn;

/// <summary>Forward and backward of 26 features (as in Criteo) of width 16, batch 512, 100,000 rows in all: one table and one gather against a table and a gather for each feature.</summary>
public class UnifiedEmbeddingBenchmark
{
    private const int Features = 26, Rows = 99_996, Dim = 16, Batch = 512;
    private UnifiedEmbedding _unified = null!;
    private TorchSharp.Modules.Embedding[] _separate = null!;
    private Tensor _codes = null!, _upstream = null!;
    private Tensor[] _columns = null!;

    /// <summary>Whether gradients are computed too, by sparse tensors so that the table's size is of no account.</summary>
    [Params(false, true)]
    public bool Backward { get; set; }

    /// <summary>Makes both, on one thread.</summary>
    [GlobalSetup]
    public void Setup()
    {
        set_num_threads(1);
        var config = new UnifiedEmbeddingConfig(Rows, Dim);
        for (int t = 0; t < Features; t++) config.AddFeature($"f{t}");
        _unified = new UnifiedEmbedding(config, sparse: true);
        _separate = [.. Enumerable.Range(0, Features).Select(_ => nn.Embedding(Rows / Features, Dim, sparse: true))];
        _codes = randint(Rows, [Batch, Features], ScalarType.Int64);
        _columns = [.. Enumerable.Range(0, Features).Select(t => _codes.select(1, t).remainder(Rows / Features).contiguous())];
        _upstream = randn(Batch, Features * Dim);
    }

    /// <summary>A gather for each feature, concatenated.</summary>
    [Benchmark(Baseline = true)]
    public void SeparateGathers() => Run(() => cat([.. _separate.Select((table, t) => table.forward(_columns[t]))], 1), _separate);

    /// <summary>One gather, with its check of the codes.</summary>
    [Benchmark]
    public void OneGather() => Run(() => _unified.forward(_codes), _unified);

    /// <summary>One gather without the check.</summary>
    [Benchmark]
    public void OneGatherUnchecked() => Run(() => _unified.Lookup(_codes.unsqueeze(-1)).flatten(1), _unified);

    private void Run(Func<Tensor> embed, params Module[] modules)
    {
        using var scope = NewDisposeScope();
        if (!Backward)
        {
            using var ungraphed = no_grad();
            embed();
            return;
        }
        embed().mul(_upstream).sum().backward();
        foreach (Module module in modules)
            foreach (var parameter in module.parameters()) parameter.grad = null;
    }
}
