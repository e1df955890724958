using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class TruncatedSvdTests
{
    [Fact]
    public void A_sparse_matrix_gives_the_triples_of_its_dense_form()
    {
        var generator = new Generator(3);
        using Tensor rows = randint(0, 60, [400], ScalarType.Int64, generator: generator), columns = randint(0, 40, [400], ScalarType.Int64, generator: generator);
        using Tensor sparse = BipartiteGraph.Normalized(rows, columns, 60, 40);
        Assert.True(sparse.is_sparse);
        Tensor dense = sparse.to_dense();
        SvdFactors exact = TruncatedSvd.Compute(sparse, 10, oversampling: 40, seed: 1), fast = TruncatedSvd.Compute(sparse, 5, iterations: 30, seed: 2);
        Tensor s = linalg.svdvals(dense);
        Assert.True(exact.S.allclose(s.narrow(0, 0, 10), rtol: 1e-4));
        Assert.True(fast.S.allclose(s.narrow(0, 0, 5), rtol: 1e-3));
        foreach (SvdFactors f in new[] { exact, fast })
        {
            Assert.True(f.V.t().matmul(f.V).allclose(eye(f.S.numel()), atol: 1e-4));
            Assert.True(dense.matmul(f.V).allclose(f.U * f.S, atol: 2e-3));
            Assert.True(f.V.amax([0]).allclose(f.V.abs().amax([0]))); // signs are settled
        }
        Assert.True(exact.V.narrow(1, 0, 3).allclose(fast.V.narrow(1, 0, 3), atol: 2e-2)); // whatever the seed
        Assert.Throws<ArgumentOutOfRangeException>(() => TruncatedSvd.Compute(sparse, 41));
    }

    [Fact]
    public void A_matrix_of_low_rank_is_recovered()
    {
        using Tensor a = randn(50, 3, generator: new Generator(1)).matmul(randn(3, 80, generator: new Generator(2)));
        SvdFactors f = TruncatedSvd.Compute(a, 3, iterations: 1, oversampling: 2);
        Assert.True((f.U * f.S).matmul(f.V.t()).allclose(a, atol: 1e-4));
    }

    [Fact]
    public void Normalised_pairs_count_once_and_divide_by_their_degrees()
    {
        using Tensor m = BipartiteGraph.Normalized(tensor(new long[] { 0, 0, 1, 0 }), tensor(new long[] { 0, 1, 1, 0 }), 3, 2).to_dense();
        Assert.True(m.allclose(tensor(new[,] { { 1 / MathF.Sqrt(2), .5f }, { 0, 1 / MathF.Sqrt(2) }, { 0, 0 } })));
        Assert.Throws<ArgumentException>(() => BipartiteGraph.Normalized(tensor(new long[] { 3 }), tensor(new long[] { 0 }), 3, 2));
        Assert.Throws<ArgumentException>(() => BipartiteGraph.Normalized(zeros(0, ScalarType.Int64), zeros(0, ScalarType.Int64), 3, 2));
    }
}
