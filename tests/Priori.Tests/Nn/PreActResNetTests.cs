using Priori.Nn;

namespace Priori.Tests.Nn;

public sealed class PreActResNetTests
{
    [Fact]
    public void PreActResNet18_has_its_known_size_and_shape()
    {
        using var scope = NewDisposeScope();
        using var network = new PreActResNet(10);
        // Convolutions 11,164,352 + batch norms 2 x 3,904 + linear 5,130.
        long convolutions = 3 * 64 * 9 + 4L * 64 * 64 * 9 + Stage(64) + Stage(128) + Stage(256);
        long norms = 2 * (64 + 4 * 64 + (64 + 3 * 128) + (128 + 3 * 256) + (256 + 3 * 512));
        Assert.Equal(convolutions + norms + 512 * 10 + 10, network.parameters().Sum(p => p.numel()));
        using var small = new PreActResNet(7, [1, 1], channels: 1, width: 4);
        Assert.Equal([2L, 7], small.forward(randn(2, 1, 16, 16)).shape);
        Assert.Throws<ArgumentOutOfRangeException>(() => new PreActResNet(0));

        static long Stage(long inputs) => inputs * 2 * inputs * 9 + 3 * (2 * inputs) * (2 * inputs) * 9 + inputs * 2 * inputs;
    }

    [Fact]
    public void With_zero_second_convolutions_a_block_is_the_identity()
    {
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        using var network = new PreActResNet(3, [2], channels: 1, width: 4);
        network.eval();
        foreach ((string name, var parameter) in network.named_parameters().Where(p => p.name.Contains("conv2", StringComparison.Ordinal))) parameter.zero_();
        Tensor x = randn(2, 1, 8, 8);
        var modules = network.named_children().ToDictionary(c => c.name, c => (Module<Tensor, Tensor>)c.module);
        Assert.True(modules["stages"].forward(modules["stem"].forward(x)).Equals(modules["stem"].forward(x)));
    }
}
