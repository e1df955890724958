using BenchmarkDotNet.Attributes;
using Priori.ClickThrough;
using Priori.Runtime;

namespace Priori.Benchmarks.ClickThrough;

/// <summary>
/// Scoring rows of Frappe's shape (10 fields, 5,382 ids) in batches of 1,000 through one <see cref="ClickScorer"/>, from one thread and from two. A time is that of one row:
/// 3.33 us are 300,000 rows a second. Embeddings of width 10 and MLPs of 256-256; ARM-Net is the recipe's (one head of 32 neurons, sparsemax) and, as "ArmNet4x128", of 512 neurons and alpha = 1.7.
/// </summary>
public class ScoringBenchmark
{
    private const int Fields = 10, Ids = 5382, BatchRows = 1000, Batches = 100;
    private ClickScorer _scorer = null!;
    private Tensor[] _ids = [];
    private Tensor _values = null!;

    [Params("Fm", "DeepFm", "DcnV2", "ArmNet", "ArmNet4x128")]
    public string Model { get; set; } = "Fm";

    [Params(1, 2)]
    public int Threads { get; set; } = 1;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        bool large = Model == "ArmNet4x128";
        var description = new BackboneDescription
        {
            Task = TabularTask.Binary,
            Fields = [.. Enumerable.Range(0, Fields).Select(field => $"f{field}")],
            Ids = Ids,
            Kind = large ? BackboneKind.ArmNet : Enum.Parse<BackboneKind>(Model),
            Backbone = new BackboneOptions { Fields = Fields, Heads = large ? 4 : 1, Neurons = large ? 128 : 32, Alpha = large ? 1.7 : 2 },
        };
        using var untrained = description.Build();
        _scorer = new ClickScorer(description, untrained.state_dict());
        _ids = [.. Enumerable.Range(0, Batches).Select(_ => randint(0, Ids, [BatchRows, Fields], ScalarType.Int64))];
        _values = ones(BatchRows, Fields);
    }

    [GlobalCleanup]
    public void Cleanup() => _scorer.Dispose();

    [Benchmark(OperationsPerInvoke = Batches * BatchRows)]
    public void Score()
    {
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(thread => new Thread(() =>
        {
            for (int batch = thread; batch < Batches; batch += Threads) _scorer.Score(_ids[batch], _values).Dispose();
        }))];
        foreach (Thread thread in threads) thread.Start();
        foreach (Thread thread in threads) thread.Join();
    }
}
