using Priori.Nn;
using Priori.Runtime;

namespace Priori.Tests.Nn;

public class RelationalGraphConvTests
{
    [Fact]
    public void Messages_are_means_over_the_neighbours()
    {
        // A = [[1,1,0],[0,1,1]]: node 3 has neighbours 0 and 1, node 4 has 1 and 2.
        using var graph = new RelationalGraph(5, 1, [0, 1, 1, 2], [3, 3, 4, 4], [0, 0, 0, 0]);
        Tensor states = tensor(new float[,] { { 1, 0 }, { 0, 2 }, { 3, 1 }, { 9, 9 }, { 9, 9 } });
        Assert.Equal(new float[] { 0, 0, 0, 0, 0, 0, .5f, 1, 1.5f, 1.5f }, graph.Messages(states, 0).data<float>().ToArray());
    }

    [Theory]
    [InlineData(null)]
    [InlineData(2)]
    public void The_layer_is_the_paper_s_sum_and_an_isolated_node_gets_its_own_part_alone(int? bases)
    {
        manual_seed(1);
        using var graph = new RelationalGraph(4, 3, [0, 1, 2, 2], [1, 2, 1, 1], [0, 2, 2, 0]);
        using var layer = new RelationalGraphConv(3, 2, 3, bases);
        Tensor h = randn(4, 3), result = layer.forward(h, graph), own = ((TorchSharp.Modules.Linear)layer.children().Single()).forward(h), w = layer.RelationWeights();
        Tensor[] expected = [own[0], own[1] + ((h[0] + h[2]) / 2).matmul(w[0]) + h[2].matmul(w[2]), own[2] + h[1].matmul(w[2]), own[3]];
        Assert.True(allclose(stack(expected), result, atol: 1e-6));
        Assert.Equal(own[3].data<float>().ToArray(), result[3].data<float>().ToArray());
        result.sum().backward();
        Assert.All(layer.parameters(), p => Assert.False(p.grad!.isnan().any().item<bool>()));
        Assert.Equal(bases is null ? 18 + 6 : 12 + 6 + 6, layer.parameters().Sum(p => p.numel()));
    }

    [Fact]
    public void Renaming_the_nodes_renames_the_result()
    {
        manual_seed(2);
        var random = new SplitMix64(3);
        const int Nodes = 30, Edges = 100;
        long[] source = [.. Enumerable.Range(0, Edges).Select(_ => (long)random.Next(Nodes))], target = [.. Enumerable.Range(0, Edges).Select(_ => (long)random.Next(Nodes))];
        int[] relation = [.. Enumerable.Range(0, Edges).Select(_ => random.Next(4))];
        long[] name = [.. Enumerable.Range(0, Nodes).Select(i => (long)i)];
        random.Shuffle(name.AsSpan());
        using var layer = new RelationalGraphConv(5, 6, 4);
        using var graph = new RelationalGraph(Nodes, 4, source, target, relation);
        using var renamed = new RelationalGraph(Nodes, 4, [.. source.Select(v => name[v])], [.. target.Select(v => name[v])], relation);
        Tensor h = randn(Nodes, 5), at = tensor(name);
        Tensor moved = zeros_like(h).index_copy(0, at, h);
        Assert.True(allclose(layer.forward(h, graph), layer.forward(moved, renamed).index_select(0, at), atol: 1e-5));
    }

    [Fact]
    public void Edges_outside_the_graph_and_states_that_do_not_fit_are_refused()
    {
        Assert.Contains("relation 2", Assert.Throws<ArgumentException>(() => new RelationalGraph(3, 2, [0], [1], [2])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new RelationalGraph(3, 2, [0], [3], [0]));
        Assert.Throws<ArgumentException>(() => new RelationalGraph(3, 2, [0, 1], [1], [0]));
        using var graph = new RelationalGraph(3, 2, [], [], []);
        using var layer = new RelationalGraphConv(4, 2, 2);
        Assert.Throws<ArgumentException>(() => layer.forward(zeros(2, 4), graph));
        Assert.Throws<ArgumentException>(() => graph.Messages(zeros(3, 4), 2));
        using var other = new RelationalGraphConv(4, 2, 1);
        Assert.Throws<ArgumentException>(() => other.forward(zeros(3, 4), graph));
        Assert.Equal([3, 2], layer.forward(ones(3, 4), graph).shape); // no edges at all
    }
}
