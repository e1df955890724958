using Priori.Nn;
using Priori.OptimalTransport;
using TorchSharp.Modules;

namespace Priori.Tests.OptimalTransport;

public sealed class TokenRouterTests : IDisposable
{
    private readonly DisposeScope _scope = torch.NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    /// <summary>Tokens that nearly all prefer the first experts.</summary>
    private static Tensor Skewed(TokenRouter router, int tokens)
    {
        torch.manual_seed(0);
        using (torch.no_grad())
        {
            Tensor weight = router.parameters().Single();
            weight.copy_(torch.eye(weight.shape[0], weight.shape[1]) * 1.5f);
        }
        return torch.randn(tokens, 8) + torch.linspace(2, 0, 8);
    }

    [Fact]
    public void Token_choice_drops_what_exceeds_the_capacity_in_batch_order()
    {
        var router = new TopKRouter(3, 3);
        using (torch.no_grad()) router.parameters().Single().copy_(torch.eye(3));
        Tensor tokens = torch.eye(3).index_select(0, torch.tensor(new long[] { 0, 0, 0, 1, 0, 2 })) * 5;
        Routing routing = router.call(tokens);
        Assert.Equal(2, routing.Capacity);
        Assert.Equal([2L, 1, 1], routing.Load.data<long>().ToArray());
        Assert.Equal([true, true, false, true, false, true], routing.Assignment.any(-1).data<bool>().ToArray());
        Assert.Equal(2 / 6f, routing.Uncovered.item<float>(), 6);
    }

    [Fact]
    public void Second_choices_come_after_all_first_choices()
    {
        var router = new TopKRouter(2, 2, 2, .5);
        using (torch.no_grad()) router.parameters().Single().copy_(torch.eye(2));
        Routing routing = router.call(torch.tensor(new float[,] { { 1, 0 }, { 1, 0 }, { 0, 1 }, { 0, 1 } }));
        Assert.Equal(2, routing.Capacity);
        Assert.Equal([true, false, true, false, false, true, false, true], routing.Assignment.reshape(-1).data<bool>().ToArray());
    }

    [Fact]
    public void Balanced_routers_keep_the_capacity_and_cover_skewed_tokens()
    {
        const int Tokens = 256;
        TokenRouter[] routers = [new TopKRouter(8, 8), new SinkhornRouter(8, 8, 1.25), new SparseOtRouter(8, 8, 1.25)];
        double[] uncovered = [.. routers.Select(router =>
        {
            Routing routing = router.call(Skewed(router, Tokens));
            Assert.True(routing.Load.max().item<long>() <= routing.Capacity);
            return routing.Uncovered.item<float>();
        })];
        Assert.True(uncovered[0] > .3, $"top-1 drops {uncovered[0]}");
        Assert.True(uncovered[2] < .1, $"sparse transport drops {uncovered[2]}");
        Assert.True(uncovered[2] < uncovered[0] / 3);
    }

    [Fact]
    public void Sparse_routing_is_the_support_of_the_solved_plan_when_it_runs_to_convergence()
    {
        var router = new SparseOtRouter(8, 8, 1.25, gamma: 10, iterations: 3000);
        Tensor tokens = Skewed(router, 64);
        Routing routing = router.call(tokens);
        Tensor a = torch.full(64, 1 / 64.0), b = torch.full(8, 1 / 8.0);
        OtResult result = Priori.OptimalTransport.OptimalTransport.Solve(a, b, -routing.Gates.detach(), new(OtRegularization.SparsityConstrained, 10, routing.Capacity));
        Tensor different = routing.Assignment.logical_xor(result.Plan.gt(1e-7));
        Assert.True(different.sum().item<long>() <= 4, $"{different.sum().item<long>()} of {routing.Assignment.sum().item<long>()} pairs differ");
    }

    [Fact]
    public void Gates_receive_gradients_and_experts_see_only_their_tokens()
    {
        torch.manual_seed(1);
        foreach (TokenRouter router in (TokenRouter[])[new TopKRouter(6, 4, 2), new SinkhornRouter(6, 4), new SparseOtRouter(6, 4)])
        {
            var mixture = new MixtureOfExperts(router, [.. Enumerable.Range(0, 4).Select(_ => (Module<Tensor, Tensor>)new Mlp(6, [5], 2))]);
            Tensor tokens = torch.randn(40, 6);
            Routing routing = router.call(tokens);
            Tensor output = mixture.Combine(tokens, routing);
            Assert.Equal([40L, 2], output.shape);
            // The definition, densely: sum over experts of weight times expert.
            Tensor dense = torch.zeros(40, 2);
            int j = 0;
            foreach (Module<Tensor, Tensor> expert in mixture.children().OfType<ModuleList<Module<Tensor, Tensor>>>().Single()) dense += routing.Weights[.., j++].unsqueeze(1) * expert.call(tokens);
            Assert.True(torch.allclose(output, dense, atol: 1e-6));
            Assert.True(routing.Load.max().item<long>() <= routing.Capacity);
            output.square().sum().backward();
            Assert.True(router.parameters().Single().grad!.abs().max().item<float>() > 0);
        }
    }

    [Fact]
    public void Experts_potentials_are_kept_in_training_only_and_saved()
    {
        var router = new SparseOtRouter(8, 8);
        Tensor tokens = Skewed(router, 64);
        router.eval();
        router.call(tokens);
        Assert.Equal(0, router.get_buffer("potentials")!.abs().max().item<float>());
        router.train();
        router.call(tokens);
        Assert.True(router.state_dict()["potentials"].abs().max().item<float>() > 0);
    }

    [Fact]
    public void Bad_sizes_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new TopKRouter(4, 2, 3));
        Assert.Throws<ArgumentOutOfRangeException>(() => new SparseOtRouter(4, 2, 0));
        Assert.Throws<ArgumentException>(() => new MixtureOfExperts(new TopKRouter(4, 2), [new Mlp(4, [], 2)]));
        Assert.Throws<ArgumentException>(() => new TopKRouter(4, 2).call(torch.zeros(0, 4)));
    }
}
