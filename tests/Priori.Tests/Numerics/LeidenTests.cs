using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Tests.Numerics;

public class LeidenTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Planted_communities_are_found(int seed)
    {
        const int groups = 6, size = 12;
        var graph = new WeightedGraph(groups * size);
        SplitMix64 random = SplitMix64.For(seed, 1);
        for (int a = 0; a < graph.Nodes; a++)
            for (int b = 0; b < a; b++)
                if (random.NextDouble() < (a / size == b / size ? .7 : .03)) graph.Add(a, b, 1);
        int[] found = Leiden.Communities(graph, seed: seed);
        for (int g = 0; g < groups; g++) Assert.Single(found[(g * size)..((g + 1) * size)].Distinct());
        Assert.Equal(groups, found.Distinct().Count());
        Assert.Equal(found, Leiden.Communities(graph, seed: seed));
    }

    [Fact]
    public void The_best_of_all_partitions_of_a_small_graph_is_found()
    {
        SplitMix64 random = SplitMix64.For(3, 2);
        for (int trial = 0; trial < 10; trial++)
        {
            var graph = new WeightedGraph(7);
            for (int a = 0; a < 7; a++)
                for (int b = 0; b < a; b++)
                    if (random.NextDouble() < .45) graph.Add(a, b, random.NextDouble());
            double best = Partitions(7).Max(p => Leiden.Modularity(graph, p));
            double found = Enumerable.Range(0, 5).Max(s => Leiden.Modularity(graph, Leiden.Communities(graph, seed: s)));
            Assert.Equal(best, found, 1e-9);
        }
    }

    [Fact]
    public void A_ring_of_cliques_and_nodes_without_edges()
    {
        var graph = new WeightedGraph(22);
        for (int c = 0; c < 4; c++)
        {
            for (int a = 0; a < 5; a++)
                for (int b = 0; b < a; b++) graph.Add(5 * c + a, 5 * c + b, 1);
            graph.Add(5 * c, (5 * c + 9) % 20, 1);
        }
        int[] found = Leiden.Communities(graph);
        Assert.Equal(6, found.Distinct().Count()); // four cliques and two loners
        Assert.Equal([.. Enumerable.Range(0, 3)], Leiden.Communities(new WeightedGraph(3)));
        Assert.Throws<ArgumentOutOfRangeException>(() => graph.Add(0, 1, -1));
    }

    private static IEnumerable<int[]> Partitions(int n)
    {
        int[] labels = new int[n];
        IEnumerable<int[]> Extend(int at, int used)
        {
            if (at == n)
            {
                yield return [.. labels];
                yield break;
            }
            for (int l = 0; l <= used; l++)
            {
                labels[at] = l;
                foreach (int[] whole in Extend(at + 1, Math.Max(used, l + 1))) yield return whole;
            }
        }
        return Extend(0, 0);
    }
}
