using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using BenchmarkDotNet.Attributes;
using Priori.Retrieval;
using TorchSharp;
using static TorchSharp.torch;

namespace Priori.Benchmarks.Retrieval;

/// <summary>
/// Encoding of 256 documents of 128 tokens, d = 128, R = 20, k = 5, d_proj = 16: 256 * 2 * 128 * 128 * 20 * (5 + 16) = 3.523 GFLOP of hashing and projection. The peak runs as many fused multiply-adds from registers on one core;
/// torch's product alone does the same multiplications without hashing, sums and filling.
/// </summary>
public class FdeEncodeBenchmark
{
    private const int Documents = 256, Tokens = 128, Dimension = 128, Columns = 20 * (5 + 16);
    private const long Flops = 2L * Documents * Tokens * Dimension * Columns;
    private FixedDimensionalEncoder encoder = null!;
    private Tensor tokens = null!, matrix = null!;
    private long[] offsets = null!;

    [Params(1, 2)]
    public int Threads { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        manual_seed(0);
        set_num_threads(Threads);
        encoder = new FixedDimensionalEncoder(new FdeConfig(Dimension));
        tokens = nn.functional.normalize(randn(Documents * Tokens, Dimension), dim: 1);
        matrix = randn(Dimension, Columns);
        offsets = [.. Enumerable.Range(0, Documents + 1).Select(i => (long)i * Tokens)];
    }

    [Benchmark(Baseline = true)]
    public void EncodeDocuments() => encoder.EncodeDocuments(tokens, offsets).Dispose();

    [Benchmark]
    public void TorchProductAlone() => tokens.matmul(matrix).Dispose();

    [Benchmark]
    public float OneCorePeak() => Peak(Flops / (16 * 2 * 16));

    /// <summary>Sixteen independent chains of fused multiply-adds of sixteen lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Peak(long rounds)
    {
        Vector512<float> m = Vector512.Create(0.999f), c = Vector512.Create(0.001f);
        Vector512<float> a0 = c, a1 = c, a2 = c, a3 = c, a4 = c, a5 = c, a6 = c, a7 = c, b0 = c, b1 = c, b2 = c, b3 = c, b4 = c, b5 = c, b6 = c, b7 = c;
        for (long i = 0; i < rounds; i++)
        {
            a0 = Vector512.FusedMultiplyAdd(a0, m, c);
            a1 = Vector512.FusedMultiplyAdd(a1, m, c);
            a2 = Vector512.FusedMultiplyAdd(a2, m, c);
            a3 = Vector512.FusedMultiplyAdd(a3, m, c);
            a4 = Vector512.FusedMultiplyAdd(a4, m, c);
            a5 = Vector512.FusedMultiplyAdd(a5, m, c);
            a6 = Vector512.FusedMultiplyAdd(a6, m, c);
            a7 = Vector512.FusedMultiplyAdd(a7, m, c);
            b0 = Vector512.FusedMultiplyAdd(b0, m, c);
            b1 = Vector512.FusedMultiplyAdd(b1, m, c);
            b2 = Vector512.FusedMultiplyAdd(b2, m, c);
            b3 = Vector512.FusedMultiplyAdd(b3, m, c);
            b4 = Vector512.FusedMultiplyAdd(b4, m, c);
            b5 = Vector512.FusedMultiplyAdd(b5, m, c);
            b6 = Vector512.FusedMultiplyAdd(b6, m, c);
            b7 = Vector512.FusedMultiplyAdd(b7, m, c);
        }
        return Vector512.Sum(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + b0 + b1 + b2 + b3 + b4 + b5 + b6 + b7);
    }
}

/// <summary>
/// One query over a million product-quantized encodings of 1280 bytes (10240 dimensions, PQ-256-8): 1.28 GB of codes. The read benchmark only adds the same bytes up.
/// </summary>
public unsafe class PqScanBenchmark
{
    private const int Vectors = 1_000_000, Groups = 1280;
    private ProductQuantizedIndex index = null!;
    private Tensor query = null!;
    private ulong* bytes;

    [Params(1, 2)]
    public int Threads { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        manual_seed(0);
        set_num_threads(Threads);
        var quantizer = new ProductQuantizer(randn(Groups, 256, 8), Groups * 8);
        index = new ProductQuantizedIndex(quantizer);
        for (int start = 0; start < Vectors; start += 50_000)
        {
            using Tensor codes = randint(0, 256, [50_000, Groups], ScalarType.Byte);
            index.AddEncoded(codes);
        }
        query = randn(1, Groups * 8);
        bytes = (ulong*)NativeMemory.AlignedAlloc((nuint)Vectors * Groups, 64);
        NativeMemory.Fill(bytes, (nuint)Vectors * Groups, 1);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        index.Dispose();
        NativeMemory.AlignedFree(bytes);
    }

    [Benchmark(Baseline = true)]
    public Neighbors[] Search() => index.Search(query, 100);

    [Benchmark]
    public ulong ReadTheSameBytes()
    {
        long chunk = (long)Vectors * Groups / sizeof(ulong) / 64;
        ulong total = 0;
        Parallel.For(0, 64, new ParallelOptions { MaxDegreeOfParallelism = Threads }, part =>
        {
            ulong* from = bytes + part * chunk;
            Vector512<ulong> a = default, b = default, c = default, d = default;
            for (long i = 0; i + 32 <= chunk; i += 32)
            {
                a += Vector512.Load(from + i);
                b += Vector512.Load(from + i + 8);
                c += Vector512.Load(from + i + 16);
                d += Vector512.Load(from + i + 24);
            }
            Interlocked.Add(ref total, Vector512.Sum(a + b + c + d));
        });
        return total;
    }
}

/// <summary>One search of 16 query vectors in an index of 3,000 documents of about 28 tokens, d = 64, 5120 dimensions, 100 candidates.</summary>
public class MuveraSearchBenchmark
{
    private MuveraIndex index = null!;
    private Tensor query = null!;

    [Params(MuveraSearch.Exact, MuveraSearch.ProductQuantized, MuveraSearch.Graph)]
    public MuveraSearch Kind { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        set_num_threads(1);
        var corpus = Priori.Data.ConceptCorpus.Generate(new Priori.Data.ConceptCorpusOptions());
        index = MuveraIndex.Build(corpus.Documents, new MuveraOptions(new FdeConfig(64, 20, 4, 16), Kind));
        query = corpus.Queries[0].clone();
    }

    [GlobalCleanup]
    public void Cleanup() => index.Dispose();

    [Benchmark]
    public MuveraResult Search() => index.Search(query);
}
