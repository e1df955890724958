using Priori.Numerics;
using Priori.Recommendation;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Recommendation;

public class CollaborativeFactorsTests
{
    // Two groups of users who take the items of their group; item 10 is taken by nobody.
    private static (Tensor Users, Tensor Items) Groups()
    {
        SplitMix64 random = new(1);
        (long User, long Item)[] pairs = [.. Enumerable.Range(0, 40).SelectMany(u => Enumerable.Range(0, 3).Select(_ => ((long)u, (long)(u % 2 * 5 + random.Next(5)))))];
        return (tensor(pairs.Select(p => p.User).ToArray()), tensor(pairs.Select(p => p.Item).ToArray()));
    }

    [Fact]
    public void Singular_vectors_group_items_by_their_users_and_leave_unseen_items_zero()
    {
        var (users, items) = Groups();
        using Tensor factors = CollaborativeFactors.Svd(users, items, 40, 11, dim: 2);
        Assert.Equal([11, 2], factors.shape);
        Assert.Equal(0, factors[10].abs().sum().item<float>());
        Tensor unit = functional.normalize(factors, dim: 1), cosine = unit.matmul(unit.t());
        Assert.True(cosine[TensorIndex.Slice(0, 5), TensorIndex.Slice(0, 5)].min().item<float>() > .99);
        Assert.True(cosine[TensorIndex.Slice(0, 5), TensorIndex.Slice(5, 10)].abs().max().item<float>() < .01);
        Assert.Equal(11 / 16.0 * 2, factors.square().sum().item<float>(), 3); // orthonormal columns times sqrt(N) / 4
        Assert.Equal([11, 11], CollaborativeFactors.Svd(users, items, 40, 11).shape); // no more directions than items
    }

    [Fact]
    public void Light_gcn_averages_powers_of_the_normalised_graph()
    {
        var (users, items) = Groups();
        Seeds.Set(1);
        using var model = new LightGcn(users, items, 40, 11, dim: 4, layers: 2);
        Tensor a = BipartiteGraph.Normalized(users, items, 40, 11).to_dense();
        var (u0, i0) = model.Initial(arange(40, ScalarType.Int64), arange(11, ScalarType.Int64));
        var (u, i) = model.Propagate();
        Tensor u1 = a.matmul(i0), i1 = a.t().matmul(u0), u2 = a.matmul(i1), i2 = a.t().matmul(u1);
        Assert.True(u.allclose((u0 + u1 + u2) / 3, atol: 1e-6));
        Assert.True(i.allclose((i0 + i1 + i2) / 3, atol: 1e-6));
    }

    [Fact]
    public void Light_gcn_learns_to_rank_a_user_s_items_above_others()
    {
        var (users, items) = Groups();
        Seeds.Set(1);
        var model = new LightGcn(users, items, 40, 11, dim: 8);
        using var learner = new LightGcnLearner(model, users, items, 11, learningRate: 1e-2);
        new Trainer(new TrainerOptions { Epochs = 30, BatchSize = 40 }).Fit(learner, new TensorSource(users, items));
        using var ungraphed = no_grad();
        var (u, i) = model.Propagate();
        Tensor scores = u.matmul(i.t());
        Assert.True(scores[0, TensorIndex.Slice(0, 5)].min().item<float>() > scores[0, TensorIndex.Slice(5, 11)].max().item<float>());
    }
}
