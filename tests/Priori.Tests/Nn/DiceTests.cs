using Priori.Nn;

namespace Priori.Tests.Nn;

/// <summary>Dice (DIN, section 5.3) with the numbers of its definition: mean 1, biased variance 3.5.</summary>
public class DiceTests
{
    private static readonly double[] s_inputs = [-1, 0, 1, 4];

    [Theory]
    [InlineData(0.25, new[] { -.441689, 0, .625, 3.497549 })]
    [InlineData(1.0, new[] { -1.0, 0, 1, 4 })]
    [InlineData(0.0, new[] { -.255585, 0, .5, 3.330065 })]
    public void Values(double alpha, double[] expected)
    {
        using var dice = new Dice(1, alphaInit: alpha);
        dice.train();
        double[] output = dice.forward(tensor(s_inputs).to(ScalarType.Float32).view(4, 1)).to(ScalarType.Float64).view(-1).data<double>().ToArray();
        for (int i = 0; i < 4; i++) Assert.Equal(expected[i], output[i], 1e-5);
    }

    [Fact]
    public void Evaluation_uses_running_statistics_so_that_a_row_does_not_depend_on_its_batch()
    {
        using var dice = new Dice(3, alphaInit: .25);
        dice.train();
        for (int i = 0; i < 5; i++) dice.forward(randn(32, 3) * 2 + 1);
        dice.eval();
        Tensor rows = randn(8, 3);
        Assert.True(dice.forward(rows)[2].allclose(dice.forward(rows.narrow(0, 2, 1))[0]));
        dice.train();
        Assert.False(dice.forward(rows)[2].allclose(dice.forward(rows.narrow(0, 2, 2))[0]));
    }

    [Fact]
    public void Masked_positions_change_nothing()
    {
        using var dice = new Dice(2, alphaInit: .25);
        dice.train();
        Tensor rows = randn(2, 3, 2), mask = tensor(new float[] { 1, 1, 0, 1, 0, 0 }).view(2, 3);
        Tensor garbage = where(mask.unsqueeze(-1).gt(0), rows, tensor(1e3f));
        Tensor a = dice.forward(rows, mask), b = dice.forward(garbage, mask), valid = mask.unsqueeze(-1);
        Assert.True((a * valid).allclose(b * valid));
        Assert.False((dice.forward(rows) * valid).allclose(dice.forward(garbage) * valid));
        Tensor statistics = dice.state_dict()["running_mean"].clone();
        dice.forward(rows, zeros_like(mask));
        Assert.True(statistics.allclose(dice.state_dict()["running_mean"], 0, 0));
    }

    [Fact]
    public void Gradient_flows_through_mean_and_variance()
    {
        using var dice = new Dice(1, alphaInit: .25);
        dice.to(ScalarType.Float64);
        dice.train();
        Tensor x = tensor(s_inputs).view(4, 1).requires_grad_();
        dice.forward(x).square().sum().backward();
        for (int i = 0; i < 4; i++)
        {
            double Loss(double shift) { Tensor moved = x.detach().clone(); moved[i, 0] += shift; return dice.forward(moved).square().sum().ToDouble(); }
            Assert.Equal((Loss(1e-5) - Loss(-1e-5)) / 2e-5, x.grad![i, 0].ToDouble(), 1e-6);
        }
    }

    [Fact]
    public void One_training_row_has_gate_one_half()
    {
        using var dice = new Dice(2);
        dice.train();
        Assert.True(dice.forward(tensor(new float[] { 3, -2 }).view(1, 2)).allclose(tensor(new float[] { 1.5f, -1 }).view(1, 2)));
    }
}
