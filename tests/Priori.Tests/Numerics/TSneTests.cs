using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class TSneTests
{
    private static Tensor Blobs(int each, int d = 10)
    {
        Tensor noise = randn([3 * each, d], float32, generator: new Generator(7));
        return noise + 12 * eye(3, d).repeat_interleave(each, 0);
    }

    [Theory]
    [InlineData(5)]
    [InlineData(30)]
    public void Conditional_entropies_meet_the_perplexity(double perplexity)
    {
        using Tensor p = TSne.ConditionalProbabilities(Blobs(40), perplexity).to(float64);
        Tensor entropies = -xlogy(p, p).sum(dim: 1);
        Assert.True((entropies - Math.Log(perplexity)).abs().max().ToDouble() < 1e-4);
        Assert.True(p.sum(dim: 1).allclose(ones(120, float64), atol: 1e-5));
        Assert.Equal(0, p.diag().abs().max().ToDouble());
    }

    [Fact]
    public void Joint_probabilities_are_symmetric_and_sum_to_one()
    {
        using Tensor p = TSne.JointProbabilities(Blobs(40), 20);
        Assert.True(p.eq(p.t()).all().item<bool>());
        Assert.Equal(1, p.sum().ToDouble(), 1e-5);
    }

    [Fact]
    public void The_divergence_falls_after_exaggeration_ends_and_blobs_stay_together()
    {
        using Tensor data = Blobs(40);
        TSneResult found = TSne.Embed(data, new TSneOptions { Perplexity = 15, Iterations = 600, TraceEvery = 50 });
        (int Step, double Divergence)[] after = [.. found.Trace.Where(t => t.Step >= 250)];
        Assert.Equal(250, after[0].Step);
        Assert.True(after[^1].Divergence < after[0].Divergence - 0.05, string.Join(" ", after));
        Assert.All(after.Zip(after.Skip(1)), pair => Assert.True(pair.Second.Divergence < pair.First.Divergence + 1e-3, string.Join(" ", after)));
        // The nearest neighbour of each point in the plane is of its own blob.
        Tensor y = found.Embedding, distances = (y.unsqueeze(0) - y.unsqueeze(1)).square().sum(dim: 2) + 1e9f * eye(120);
        Assert.True((distances.argmin(1) / 40).floor().eq((arange(120, float32) / 40).floor()).all().item<bool>());
        Assert.Equal([120, 2], y.shape);
        Assert.True(y.mean([0L]).abs().max().ToDouble() < 1e-3);
    }

    [Fact]
    public void The_descent_follows_the_gradient_of_the_divergence()
    {
        // One step without momentum from a random start in double precision, against the divergence written out and differentiated.
        using Tensor data = randn([12, 4], float64, generator: new Generator(1));
        var options = new TSneOptions { Perplexity = 4, Iterations = 1, ExaggerationIterations = 0, LearningRate = 1, Start = TSneStart.Random, Seed = 3, TraceEvery = 1 };
        Tensor start = randn([12, 2], float64, generator: new Generator(3)).mul_(1e-4).requires_grad_();
        Tensor p = TSne.JointProbabilities(data, 4), kernel = 1 / (1 + (start.unsqueeze(0) - start.unsqueeze(1)).square().sum(dim: 2)) * (1 - eye(12, dtype: float64));
        Tensor divergence = xlogy(p, p).sum() - xlogy(p, kernel / kernel.sum() + eye(12, dtype: float64)).sum();
        divergence.backward();
        TSneResult found = TSne.Embed(data, options);
        // The first step's gains are 1.2 where the gradient is not zero (velocity 0 has no sign).
        Tensor expected = start.detach() - 1.2 * start.grad!;
        Assert.True(found.Embedding.allclose(expected - expected.mean([0L], keepdim: true), rtol: 1e-6, atol: 1e-12));
    }

    [Fact]
    public void The_same_seed_gives_the_same_embedding()
    {
        using Tensor data = Blobs(10);
        var options = new TSneOptions { Perplexity = 5, Iterations = 60, Start = TSneStart.Random, Seed = 4 };
        bool Same(TSneOptions a, TSneOptions b) => TSne.Embed(data, a).Embedding.eq(TSne.Embed(data, b).Embedding).all().item<bool>();
        Assert.True(Same(options, options));
        Assert.False(Same(options, options with { Seed = 5 }));
    }

    [Fact]
    public void Duplicates_and_single_columns_are_embedded_finitely()
    {
        using Tensor data = cat([zeros(20, 1), ones(20, 1)]);
        TSneResult found = TSne.Embed(data, new TSneOptions { Perplexity = 5, Iterations = 300 });
        Assert.True(found.Embedding.isfinite().all().item<bool>());
    }

    [Fact]
    public void Bad_data_are_refused()
    {
        Assert.Contains("below the 10 rows", Assert.Throws<ArgumentOutOfRangeException>(() => TSne.Embed(randn(10, 2), new TSneOptions { Perplexity = 10 })).Message);
        Assert.Contains("NaN", Assert.Throws<ArgumentException>(() => TSne.Embed(full([5, 2], float.NaN), new TSneOptions { Perplexity = 2 })).Message);
        Assert.Throws<ArgumentException>(() => TSne.Embed(ones([5, 2], ScalarType.Int64), new TSneOptions { Perplexity = 2 }));
    }
}
