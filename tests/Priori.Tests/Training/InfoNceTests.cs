using Priori.Training;

namespace Priori.Tests.Training;

public class InfoNceTests
{
    [Theory]
    [InlineData(1, .3132617)]
    [InlineData(.5, .1269280)]
    [InlineData(.1, 4.5418e-5)]
    public void Orthonormal_pairs_have_a_known_loss(double temperature, double loss)
    {
        // The figures are of float32; in float64 the loss is log(1 + exp(-1/tau)), which at tau = .1 is 4.53989e-5.
        Assert.Equal(loss, InfoNce.Loss(eye(2), eye(2), temperature).item<float>(), 1e-7);
        Assert.Equal(Math.Log(1 + Math.Exp(-1 / temperature)), InfoNce.Loss(eye(2, dtype: ScalarType.Float64), eye(2, dtype: ScalarType.Float64), temperature).item<double>(), 1e-12);
    }

    [Fact]
    public void The_worked_example_runs_in_one_direction_with_negatives_across_views_only()
    {
        Tensor a = tensor(new double[,] { { 1, 0 }, { .6, .8 } }), b = tensor(new double[,] { { .8, .6 }, { 0, 1 } });
        Assert.Equal(.5248969, InfoNce.Loss(a, b, .5).item<double>(), 1e-6);
        Assert.Equal(.5248969, InfoNce.Loss(a * 3, b * .5, .5).item<double>(), 1e-6);
        Assert.Equal(.5248969, InfoNce.Loss(a, b, .5, normalize: false).item<double>(), 1e-6);
        Assert.NotEqual(.5248969, InfoNce.Loss(a * 3, b, .5, normalize: false).item<double>(), 1e-3);

        // s = [[1, .6], [1, .6]]: the rows of the first argument choose among those of the second.
        Tensor same = tensor(new double[,] { { 1, 0 }, { 1, 0 } }), differ = tensor(new double[,] { { 1, 0 }, { .6, .8 } });
        Assert.Equal((Math.Log(1 + Math.Exp(-.4)) + Math.Log(1 + Math.Exp(.4))) / 2, InfoNce.Loss(same, differ, 1).item<double>(), 1e-12);
        Assert.Equal(Math.Log(2), InfoNce.Loss(differ, same, 1).item<double>(), 1e-12);
    }

    [Fact]
    public void Half_precision_is_scored_in_single_precision_and_zero_rows_stay_finite()
    {
        Tensor loss = InfoNce.Loss(eye(2, dtype: ScalarType.BFloat16), eye(2, dtype: ScalarType.BFloat16), .1);
        Assert.Equal(ScalarType.Float32, loss.dtype);
        Assert.Equal(4.5418e-5, loss.item<float>(), 1e-7);
        Tensor zero = zeros(2, 3, requires_grad: true), zeroLoss = InfoNce.Loss(zero, ones(2, 3), .1);
        zeroLoss.backward();
        Assert.True(zero.grad!.isfinite().all().item<bool>());
    }

    [Fact]
    public void Wrong_arguments_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => InfoNce.Loss(eye(2), eye(2), 0));
        Assert.Throws<ArgumentException>(() => InfoNce.Loss(eye(2), eye(3), 1));
        Assert.Throws<ArgumentException>(() => InfoNce.Loss(ones(2), ones(2), 1));
    }

    [Fact]
    public void The_batch_softmax_subtracts_the_log_of_the_sampling_probability()
    {
        Tensor logits = tensor(new double[,] { { 2, 1 }, { 0, 1 } });
        Assert.Equal(.3132617, InBatchSoftmax.Loss(logits).item<double>(), 1e-6);
        Assert.Equal(.5572934, InBatchSoftmax.Loss(logits, tensor(new double[] { .5, .1 }).log()).item<double>(), 1e-6);
    }

    [Fact]
    public void An_accidental_hit_is_no_negative_and_the_positive_stays()
    {
        Tensor logits = tensor(new double[,] { { 2, 1, 5 }, { 0, 1, 3 }, { 4, 1, 2 } }).requires_grad_();
        Tensor masked = InBatchSoftmax.Loss(logits, items: tensor(new long[] { 7, 8, 7 }));
        double expected = (Math.Log(1 + Math.Exp(-1)) + Math.Log(Math.Exp(-1) + 1 + Math.Exp(2)) + Math.Log(1 + Math.Exp(-1))) / 3;
        Assert.Equal(expected, masked.item<double>(), 1e-9);
        masked.backward();
        Assert.Equal(0, logits.grad![0, 2].item<double>());
        Assert.Equal(0, logits.grad![2, 0].item<double>());
        Assert.Throws<ArgumentException>(() => InBatchSoftmax.Loss(logits, items: tensor(new long[] { 7, 8 })));
        Assert.Throws<ArgumentException>(() => InBatchSoftmax.Loss(ones(2, 3)));
    }
}
