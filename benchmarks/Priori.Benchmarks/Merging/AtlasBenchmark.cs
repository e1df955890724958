using BenchmarkDotNet.Attributes;
using Priori.Data;
using Priori.Merging;
using Priori.Nn;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Benchmarks.Merging;

/// <summary>
/// The cost of composing task vectors, without that of the network: values of all parameters from the coefficients, and the coefficients' gradients from given gradients of the parameters.
/// Stacked matrix-vector products against sums over the vectors with a graph, as the authors' released code has them. Perceptron 784-1024-1024-10, 1.9 million weights, eight vectors, one thread.
/// </summary>
public class CompositionBenchmark
{
    private Network _network = null!;
    private AnisotropicComposition _composition = null!;
    private Tensor _coefficients = null!;
    private Tensor[] _base = null!, _gradients = null!;
    private Tensor[][] _vectors = null!;

    [Params(1, 5)]
    public int Groups { get; set; } = 1;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        _network = new Network(Architectures.Mlp([784], [1024, 1024], 10));
        TaskVector[] vectors = [.. Enumerable.Range(0, 8).Select(i => TaskArithmetic.RandomVector(_network.State(), i))];
        _composition = new AnisotropicComposition(_network, vectors, Granularity.Partition(Groups));
        _base = [.. _network.parameters().Select(p => p.detach().clone())];
        _gradients = [.. _base.Select(b => randn(b.shape))];
        _vectors = [.. _composition.Blocks.Select(b => vectors.Select(v => v.Delta(b)!).ToArray())];
        _coefficients = (0.1 * randn(_composition.Coefficients.shape)).requires_grad_(true);
        _composition.Set(_coefficients.detach());
    }

    [Benchmark]
    public float StackedProducts()
    {
        using var scope = NewDisposeScope();
        Tensor[] parameters = [.. _network.parameters()];
        Tensor loss = _composition.Loss(() => parameters.Zip(_gradients, (p, g) => p.flatten().dot(g.flatten())).Aggregate((a, b) => a + b));
        return Gradients.Of(loss, [_composition.Coefficients])[0].sum().item<float>();
    }

    [Benchmark(Baseline = true)]
    public float SumsWithGraph()
    {
        using var scope = NewDisposeScope();
        Tensor loss = zeros(1).sum();
        for (int j = 0; j < _base.Length; j++)
        {
            Tensor value = _base[j];
            for (int i = 0; i < 8; i++)
            {
                Tensor coefficient = Groups == 1 ? _coefficients[i, j] : _coefficients[i, j].index_select(0, _composition.Masks[_composition.Blocks[j]].to(ScalarType.Int64).flatten()).view(value.shape);
                value = value + coefficient * _vectors[j][i];
            }
            loss = loss + value.flatten().dot(_gradients[j].flatten());
        }
        return Gradients.Of(loss, [_coefficients])[0].sum().item<float>();
    }
}

/// <summary>Merging two checkpoints of 2 GB on disk into a third, against copying one of them: the merge reads twice what the copy reads and writes as much.</summary>
[WarmupCount(1)]
[IterationCount(3)]
[InvocationCount(1)]
public class MergeFilesBenchmark
{
    private const int Tensors = 64;
    private string _folder = null!;

    [Params(2048)]
    public int Megabytes { get; set; } = 2048;

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        _folder = Directory.CreateTempSubdirectory("priori-merge-").FullName;
        long rows = Megabytes * 1024L * 1024 / 2 / 1024 / Tensors; // half precision
        using Tensor block = randn(rows, 1024).to(ScalarType.Float16);
        foreach (string name in new[] { "base", "tuned" })
        {
            using var writer = new SafetensorsWriter(File(name), Enumerable.Range(0, Tensors).Select(i => new TensorInfo($"layers.{i}.weight", ScalarType.Float16, [rows, 1024])));
            foreach (TensorInfo info in writer.Tensors) writer.Write(info.Name, block);
            writer.Complete();
        }
    }

    [Benchmark(Baseline = true)]
    public void Copy()
    {
        using FileStream from = System.IO.File.OpenRead(File("base")), to = System.IO.File.Create(File("copy"));
        from.CopyTo(to, 1 << 20);
        to.Flush(flushToDisk: true);
    }

    [Benchmark]
    public void Merge()
    {
        using SafetensorsFile start = SafetensorsFile.Open(File("base")), tuned = SafetensorsFile.Open(File("tuned"));
        StateDict.LinearCombination(File("merged"), [(0.7, start), (0.3, tuned)]);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        Console.WriteLine($"// Peak memory of the process: {System.Diagnostics.Process.GetCurrentProcess().PeakWorkingSet64 / (1 << 20)} MB, of which mapped files count.");
        Directory.Delete(_folder, recursive: true);
    }

    private string File(string name) => Path.Combine(_folder, name + ".safetensors");
}
