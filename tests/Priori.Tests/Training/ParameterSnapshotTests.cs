using Priori.Training;

namespace Priori.Tests.Training;

public sealed class ParameterSnapshotTests
{
    [Fact]
    public void A_module_is_rewound_bit_by_bit_with_its_buffers()
    {
        using var network = Network();
        using var snapshot = new ParameterSnapshot(network);
        Dictionary<string, byte[]> before = Bytes(network);
        Train(network, 3);
        Assert.All(Bytes(network), t => Assert.NotEqual(before[t.Key], t.Value));
        snapshot.Restore(network);
        Assert.Equal(before, Bytes(network));
        Assert.Contains("1.running_mean", before.Keys);
    }

    [Fact]
    public void Taking_again_moves_the_point_to_rewind_to_and_names_choose_tensors()
    {
        using var network = Network();
        using var weights = new ParameterSnapshot(network, name => !name.StartsWith("2.", StringComparison.Ordinal));
        Train(network, 2);
        weights.Take(network);
        Dictionary<string, byte[]> taken = Bytes(network);
        Train(network, 2);
        byte[] last = Bytes(network)["2.weight"];
        weights.Restore(network);
        Dictionary<string, byte[]> after = Bytes(network);
        Assert.All(after.Keys.Where(k => !k.StartsWith("2.", StringComparison.Ordinal)), k => Assert.Equal(taken[k], after[k]));
        Assert.Equal(last, after["2.weight"]);
    }

    [Fact]
    public void Checkpoints_carry_a_snapshot_and_another_architecture_is_refused()
    {
        using var network = Network();
        using var snapshot = new ParameterSnapshot(network);
        Assert.Equal(network.state_dict().Count, snapshot.state_dict().Count);
        Assert.Empty(snapshot.parameters());
        using var other = Sequential(Linear(3, 4), BatchNorm1d(4), Linear(4, 2));
        Assert.Throws<ArgumentException>(() => { snapshot.Restore(other); });
        Assert.Throws<ArgumentException>(() => { snapshot.Take(other); });
        Assert.Throws<ArgumentException>(() => { new ParameterSnapshot(network, _ => false).Dispose(); });
    }

    private static TorchSharp.Modules.Sequential Network()
    {
        manual_seed(1);
        return Sequential(Linear(3, 5), BatchNorm1d(5), Linear(5, 2));
    }

    private static void Train(TorchSharp.Modules.Sequential network, int steps)
    {
        using var scope = NewDisposeScope();
        using var adam = optim.Adam(network.parameters(), 1e-2);
        network.train();
        for (int i = 0; i < steps; i++)
        {
            adam.zero_grad();
            network.forward(randn(8, 3)).square().sum().backward();
            adam.step();
        }
    }

    private static Dictionary<string, byte[]> Bytes(Module module) => module.state_dict().ToDictionary(t => t.Key, t => t.Value.bytes.ToArray());
}
