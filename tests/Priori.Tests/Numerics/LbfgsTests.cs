using Priori.Numerics;

namespace Priori.Tests.Numerics;

public sealed class LbfgsTests : IDisposable
{
    private readonly DisposeScope _scope = torch.NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Rosenbrock_valleys_of_a_batch_are_followed_to_their_minima()
    {
        Tensor steepness = torch.tensor(new[] { 1.0, 100, 1000 });
        (Tensor, Tensor) Rosenbrock(Tensor x)
        {
            (Tensor u, Tensor v) = (x.select(-1, 0), x.select(-1, 1));
            Tensor bend = v - u.square();
            return ((1 - u).square() + steepness * bend.square(), torch.stack([-2 * (1 - u) - 4 * steepness * u * bend, 2 * steepness * bend], -1));
        }
        LbfgsResult result = Lbfgs.Minimize(Rosenbrock, torch.tensor(new[,] { { -1.2, 1 }, { -1.2, 1 }, { 1, 1 } }));
        Assert.True(result.Converged.all().item<bool>());
        Assert.True((result.X - 1).abs().max().item<double>() < 1e-8);
        Assert.Equal(0, result.Iterations[2].item<long>());
        Assert.InRange(result.Iterations[1].item<long>(), 10, 60);
        // Descent: every step decreases the value.
        Tensor trace = result.Trace[.., 1];
        Assert.True((trace[1..] - trace[..^1]).max().item<double>() <= 1e-13);
    }

    [Fact]
    public void A_quadratic_needs_few_iterations()
    {
        Tensor scales = torch.logspace(0, 2, 8, dtype: ScalarType.Float64);
        LbfgsResult result = Lbfgs.Minimize(x => ((scales * x.square()).sum(-1) / 2, scales * x), torch.ones(8, dtype: ScalarType.Float64));
        Assert.True(result.Converged.all().item<bool>());
        Assert.InRange(result.Iterations.item<long>(), 5, 80);
        Assert.True(result.X.abs().max().item<double>() < 1e-8);
    }

    [Fact]
    public void A_kink_is_reported_as_not_converged()
    {
        LbfgsResult result = Lbfgs.Minimize(x => ((x - .3).abs().sum(-1), (x - .3).sign()), torch.zeros(3, dtype: ScalarType.Float64));
        Assert.False(result.Converged.item<bool>());
        Assert.True(result.Value.item<double>() < 1e-3);
    }

    [Fact]
    public void Wrong_shapes_and_infinite_starts_are_refused()
    {
        Assert.Throws<ArgumentException>(() => Lbfgs.Minimize(x => (x.sum(), x), torch.zeros(2, 3)));
        Assert.Throws<ArgumentException>(() => Lbfgs.Minimize(x => (x.sum(-1) / 0, x), torch.ones(3)));
    }
}
