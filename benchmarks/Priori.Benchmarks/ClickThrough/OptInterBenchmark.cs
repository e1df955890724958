using BenchmarkDotNet.Attributes;
using Priori.ClickThrough;
using Priori.Nn;
using Priori.Runtime;
using TorchSharp.Modules;

namespace Priori.Benchmarks.ClickThrough;

/// <summary>
/// A step of OptInter's search (forward, backward, Adam) on 26 fields, 325 pairs: all pairs by two index_selects, combinations looked up in the step, against a loop that
/// concatenates pair after pair to combinations that were looked up before, as the authors' PyTorch code does.
/// </summary>
public class OptInterBenchmark
{
    private const int Fields = 26, Values = 40, Batch = 1000, OriginalDim = 20, CrossDim = 10;
    private Tensor _ids = null!, _values = null!, _clicks = null!, _rows = null!;
    private OptInterSearchModel _vectorized = null!;
    private ConcatenatingSearch _loop = null!;
    private optim.Optimizer _vectorizedAdam = null!, _loopAdam = null!;

    /// <summary>The classifier: the paper's five layers of 700, or the small one of the recipe, where the interactions are the larger part.</summary>
    [Params("64-32", "700-700-700-700-700")]
    public string Hidden { get; set; } = "64-32";

    [GlobalSetup]
    public void Setup()
    {
        Devices.SetThreads(1);
        Seeds.Set(0);
        long[] hidden = [.. Hidden.Split('-').Select(long.Parse)];
        Tensor log = randint(Values, [20_000, Fields], ScalarType.Int64) + arange(Fields, ScalarType.Int64) * Values;
        var vocabulary = CrossVocabulary.Build(log, FieldPair.All(Fields), Fields * Values, minCount: 8);
        _ids = log.narrow(0, 0, Batch).contiguous();
        _values = ones(Batch, Fields);
        _clicks = rand(Batch).round();
        _rows = vocabulary.forward(_ids);
        _vectorized = new OptInterSearchModel(new OptInterOptions { Fields = Fields, Ids = Fields * Values, OriginalDim = OriginalDim, CrossDim = CrossDim, Hidden = hidden }, vocabulary);
        _loop = new ConcatenatingSearch(vocabulary, hidden);
        _vectorizedAdam = optim.Adam(_vectorized.parameters());
        _loopAdam = optim.Adam(_loop.parameters());
    }

    [Benchmark(Baseline = true)]
    public double Vectorized() => Step(_vectorizedAdam, () => _vectorized.forward(_ids, _values));

    [Benchmark]
    public double Loop() => Step(_loopAdam, () => _loop.forward(_ids, _rows));

    private double Step(optim.Optimizer adam, Func<Tensor> forward)
    {
        using var scope = NewDisposeScope();
        Tensor loss = functional.binary_cross_entropy_with_logits(forward().squeeze(-1), _clicks);
        adam.zero_grad();
        loss.backward();
        adam.step();
        return loss.ToDouble();
    }

    private sealed class ConcatenatingSearch : Module<Tensor, Tensor, Tensor>
    {
        private readonly IReadOnlyList<FieldPair> _pairs;
        private readonly Embedding original, memorized, factors;
        private readonly Parameter alpha;
        private readonly Mlp classifier;

        public ConcatenatingSearch(CrossVocabulary vocabulary, long[] hidden) : base(nameof(ConcatenatingSearch))
        {
            _pairs = vocabulary.Pairs;
            original = nn.Embedding(vocabulary.Ids, OriginalDim);
            memorized = nn.Embedding(vocabulary.Rows, CrossDim);
            factors = nn.Embedding(vocabulary.Ids, CrossDim);
            alpha = Parameter(init.xavier_normal_(empty(_pairs.Count, 3)));
            classifier = new Mlp(Fields * OriginalDim + _pairs.Count * CrossDim, hidden, 1, normalization: Normalization.LayerNorm);
            RegisterComponents();
        }

        public override Tensor forward(Tensor ids, Tensor rows)
        {
            Tensor e = original.forward(ids), m = memorized.forward(rows), a = factors.forward(ids);
            Tensor? f = null;
            foreach (var (first, second) in _pairs)
            {
                Tensor product = a.select(1, first).mul(a.select(1, second)).unsqueeze(1);
                f = f is null ? product : cat([f, product], 1);
            }
            Tensor weights = alpha.softmax(1);
            Tensor Weighted(Tensor interaction, long method) => interaction.mul(weights.select(1, method).unsqueeze(0).unsqueeze(2));
            Tensor z = Weighted(m, 0) + Weighted(f!, 1) + Weighted(zeros_like(m), 2);
            return classifier.forward(cat([e.flatten(1), z.flatten(1)], 1));
        }
    }
}
