using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class StreamingCorrelationTests
{
    [Fact]
    public void Seven_uneven_batches_equal_a_single_pass_also_far_from_zero()
    {
        using Tensor x = randn([211, 5], float64, generator: new Generator(1)) + tensor(new[] { 0, 1e6, -1e6, 3, 0.5 }), y = randn([211, 4], float64, generator: new Generator(2)) * .5 + x.narrow(1, 0, 4);
        using var single = new StreamingCorrelation();
        single.Add(x, y);
        using var streamed = new StreamingCorrelation();
        long start = 0;
        foreach (long size in new long[] { 1, 2, 50, 3, 100, 7, 48 })
        {
            streamed.Add(x.narrow(0, start, size), y.narrow(0, start, size));
            start += size;
        }
        CrossMoments a = single.Moments(), b = streamed.Moments();
        Assert.Equal(211, b.Count);
        Tensor centredX = x - x.mean([0L], keepdim: true), centredY = y - y.mean([0L], keepdim: true);
        foreach ((Tensor expected, Tensor once, Tensor many) in new[]
        {
            (centredX.t().matmul(centredX) / 211, a.XX!, b.XX!), (centredY.t().matmul(centredY) / 211, a.YY!, b.YY!), (centredX.t().matmul(centredY) / 211, a.XY, b.XY),
            (x.mean([0L]), a.MeanX, b.MeanX), (y.var(0, unbiased: false), a.VarianceY, b.VarianceY),
        })
        {
            Assert.True(once.allclose(expected, 1e-9, 1e-9), $"{once - expected}");
            Assert.True(many.allclose(once, 0, 1e-10), $"{many - once}");
        }
    }

    [Fact]
    public void A_constant_column_has_variance_zero_exactly_and_correlation_zero()
    {
        using var sums = new StreamingCorrelation();
        using Tensor x = cat([full([30, 1], .1, float32), arange(30, float32).unsqueeze(1)], 1);
        sums.Add(x.narrow(0, 0, 17), x.narrow(0, 0, 17));
        sums.Add(x.narrow(0, 17, 13), x.narrow(0, 17, 13));
        CrossMoments moments = sums.Moments();
        Assert.Equal(0, moments.VarianceX[0].item<double>());
        Tensor correlation = CrossMoments.Correlation(moments.XY, moments.VarianceX.sqrt(), moments.VarianceY.sqrt());
        Assert.Equal([0, 0, 0, 1], correlation.flatten().data<double>().ToArray().Select(c => Math.Round(c, 12)));
    }

    [Fact]
    public void Products_in_single_precision_keep_six_digits()
    {
        using Tensor x = randn([1000, 8], generator: new Generator(1)) + 100, y = x + randn([1000, 8], generator: new Generator(2));
        using var exact = new StreamingCorrelation(within: false);
        using var single = new StreamingCorrelation(within: false, float32);
        for (int b = 0; b < 10; b++)
        {
            exact.Add(x.narrow(0, 100 * b, 100), y.narrow(0, 100 * b, 100));
            single.Add(x.narrow(0, 100 * b, 100), y.narrow(0, 100 * b, 100));
        }
        Assert.Null(single.Moments().XX);
        Assert.InRange((exact.Moments().XY - single.Moments().XY).abs().max().item<double>(), 1e-12, 2e-6);
    }

    [Fact]
    public void Bad_batches_are_refused_and_leave_the_sums_as_they_were()
    {
        using var sums = new StreamingCorrelation();
        Assert.Throws<InvalidOperationException>(() => sums.Moments());
        Assert.Throws<ArgumentException>(() => sums.Add(ones(3, 2), ones(4, 2)));
        using Tensor bad = ones(3, 2);
        bad[1, 1] = float.NaN;
        Assert.Contains("Column 1 of X", Assert.Throws<ArgumentException>(() => sums.Add(bad, ones(3, 2))).Message);
        sums.Add(rand(3, 2), rand(3, 2));
        Assert.Throws<ArgumentException>(() => sums.Add(ones(3, 3), ones(3, 2)));
        Assert.Throws<ArgumentException>(() => sums.Add(ones(3, 2), bad * float.PositiveInfinity));
        Assert.Equal(3, sums.Count);
        Assert.True(sums.Moments().XX!.isfinite().all().item<bool>());
        Assert.Throws<ArgumentException>(() => new StreamingCorrelation(products: ScalarType.Float16));
    }
}
