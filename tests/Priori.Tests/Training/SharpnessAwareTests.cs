using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Tests.Training;

public class SharpnessAwareTests
{
    private static Tensor Curvature => diag(tensor(new[] { 1.0, 4.0, 9.0 }));

    [Theory]
    [InlineData(0.05)]
    [InlineData(0)]
    public void The_gradient_is_that_at_the_worst_point_of_the_ball(double rho)
    {
        using var scope = NewDisposeScope();
        var w = new Parameter(tensor(new[] { 1.0, -2.0, 0.5 }));
        Tensor before = w.detach().clone();
        Tensor Loss() => 0.5 * w.dot(Curvature.mv(w));
        Tensor surrogate = SharpnessAware.Loss([w], Loss, rho);
        Assert.Equal(Loss().ToDouble(), surrogate.ToDouble()); // the value is that at w
        surrogate.backward();
        // 1/2 w'Aw: the gradient at w + rho g / |g| with g = Aw is A (w + rho g / |g|).
        Tensor g = Curvature.mv(before);
        Tensor expected = Curvature.mv(before + rho * g / g.norm());
        Assert.True(expected.allclose(w.grad!, 1e-12, 1e-12));
        Assert.True(before.equal(w.detach()).all().item<bool>()); // to the bit
    }

    [Fact]
    public void Parameters_without_influence_and_flat_losses_do_no_harm()
    {
        using var scope = NewDisposeScope();
        Parameter used = new(ones(2)), unused = new(ones(3)), frozen = new(ones(1), requires_grad: false);
        SharpnessAware.Loss([used, unused, frozen], () => used.square().sum()).backward();
        Assert.Equal(0, unused.grad!.abs().sum().item<float>());
        Assert.Null(frozen.grad);
        SharpnessAware.Loss([used], () => used.sum() * 0).backward(); // a gradient of 0 has no direction
        Assert.True(used.grad!.isfinite().all().item<bool>());
        Assert.Equal(0, SharpnessAware.Loss([used], () => zeros(1).sum()).ToDouble()); // a loss of nothing
        Assert.Throws<ArgumentException>(() => SharpnessAware.Loss([frozen], () => frozen.sum()));
        Assert.Throws<ArgumentOutOfRangeException>(() => SharpnessAware.Loss([used], () => used.sum(), -1));
    }

    [Fact]
    public void A_failing_loss_leaves_the_parameters_as_they_were()
    {
        using var scope = NewDisposeScope();
        var w = new Parameter(tensor(new[] { 1f, 2f }));
        int calls = 0;
        Assert.Throws<InvalidOperationException>(() => SharpnessAware.Loss([w], () => calls++ == 0 ? w.square().sum() : throw new InvalidOperationException()));
        Assert.Equal([1f, 2f], w.detach().data<float>().ToArray());
    }
}
