using Priori.Metrics;

namespace Priori.Tests.Metrics;

public class RegressionMetricsTests
{
    [Fact]
    public void R2_and_root_mean_squared_error_match_hand_counts()
    {
        Tensor y = tensor(new double[] { 1, 2, 3, 6 }), p = tensor(new double[] { 1, 3, 3, 4 });
        Assert.Equal(1 - 5.0 / 14, RegressionMetrics.R2(p, y), 1e-12);
        Assert.Equal(Math.Sqrt(5.0 / 4), RegressionMetrics.RootMeanSquaredError(p, y), 1e-12);
        Assert.Equal(0, RegressionMetrics.R2(full(4, 3.0), y), 1e-12);
        Assert.True(double.IsNaN(RegressionMetrics.R2(p, ones(4))));
        Assert.Throws<ArgumentException>(() => RegressionMetrics.R2(p, ones(3)));
    }
}
