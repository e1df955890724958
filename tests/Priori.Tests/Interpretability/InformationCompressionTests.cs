using System.Diagnostics;
using Priori.Data;
using Priori.Interpretability;
using Priori.Nn;
using Priori.Runtime;

namespace Priori.Tests.Interpretability;

public class InformationCompressionTests
{
    private static readonly LayerRunStatistics s_unit = new(-1, 1);

    private static Tensor Labels(params long[] y) => tensor(y);

    private static Tensor Normals(int n, int d, int seed = 0)
    {
        var random = SplitMix64.For(seed);
        return tensor(Enumerable.Range(0, n * d).Select(_ => random.NextGaussian()).ToArray()).reshape(n, d);
    }

    private static Tensor CodesOfTwoUnits() => tensor(new[,] { { 0, 0 }, { 0, .1 }, { .2, .4 }, { .3, .8 }, { 1.6, 3.2 }, { 0, 6.4 }, { 12.8, 0 }, { .2, .1 } });

    private static Tensor ThreePoints() => tensor(new double[,] { { 0, 0 }, { 1, 0 }, { 0, 2 } });

    // Exact check 1.
    [Fact]
    public void Edges_are_quantiles_of_unique_values_and_zeros_keep_a_bin_of_their_own()
    {
        Tensor t = tensor([0, 0, .1, .2, .3, .4, 5, 9]);
        var binning = new EntropyBasedAdaptiveBinning(bins: 2, low: 0);
        Assert.Equal([0, .1, .4, 9], binning.Edges(t).data<double>().ToArray());
        Assert.Equal([0, 0, 1, 1, 1, 2, 2, 3], binning.Digitize(t).data<int>().ToArray());
        Assert.Equal(1.905639, binning.Entropy(t), 6);
        LayerInformation information = binning.Estimate(t, Labels(0, 0, 0, 0, 1, 1, 1, 1), s_unit);
        Assert.Equal(1.905639, information.Ixt, 6);
        Assert.Equal(.655639, information.Ity, 6);
        Assert.Equal(4, information.UniqueRows);
    }

    // Exact check 2.
    [Fact]
    public void Units_share_the_layers_edges_and_entropy_is_that_of_joint_rows()
    {
        Tensor t = CodesOfTwoUnits();
        var binning = new EntropyBasedAdaptiveBinning(bins: 4, low: 0);
        Assert.Equal([0, .1, .3, .8, 3.2, 12.8], binning.Edges(t).data<double>().ToArray());
        Assert.Equal([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 0, 4, 5, 0, 1, 1], binning.Digitize(t).data<int>().ToArray());
        LayerInformation information = binning.Estimate(t, Labels(0, 0, 0, 0, 1, 1, 1, 0), s_unit);
        Assert.Equal(3, information.Ixt, 12);
        Assert.Equal(.954434, information.Ity, 6);
        Assert.Equal(1.548795, new EqualWidthBinning(4, 0, 12.8).Estimate(t, Labels(0, 0, 0, 0, 1, 1, 1, 0), s_unit).Ixt, 6);
        Assert.Equal(1.548795, new EqualWidthBinning(4).Estimate(t, Labels(0, 0, 0, 0, 1, 1, 1, 0), LayerRunStatistics.Of(t)).Ixt, 6);
    }

    // Exact check 3.
    [Fact]
    public void Increasing_maps_that_keep_the_lower_edge_leave_the_codes_unchanged()
    {
        Tensor t = Normals(500, 3).relu_();
        var binning = new EntropyBasedAdaptiveBinning(30, 0);
        Tensor codes = binning.Digitize(t);
        foreach (Func<Tensor, Tensor> map in new Func<Tensor, Tensor>[] { v => v * 1000, v => v.square(), v => v.expm1(), v => v.log1p() })
            Assert.True(codes.eq(binning.Digitize(map(t))).all().item<bool>());
    }

    [Theory]
    [InlineData(EntropyBound.Upper, .1, 1.578504)] // Exact check 4.
    [InlineData(EntropyBound.Lower, .1, 1.335274)]
    [InlineData(EntropyBound.Upper, 1, .971529)]
    [InlineData(EntropyBound.Lower, 1, .355606)]
    public void Bounds_of_three_points_are_the_closed_form(EntropyBound bound, double variance, double bits)
        => Assert.Equal(bits, new FixedNoiseKde(variance, bound).Estimate(ThreePoints(), Labels(0, 0, 1), s_unit).Ixt, 6);

    // Exact check 5.
    [Theory]
    [InlineData(EntropyBound.Upper)]
    [InlineData(EntropyBound.Lower)]
    public void Distant_points_carry_log2_n_and_identical_ones_nothing(EntropyBound bound)
    {
        var kde = new FixedNoiseKde(.1, bound);
        Assert.Equal(2, kde.Estimate(tensor([0.0, 100, 200, 300]), Labels(0, 1, 0, 1), s_unit).Ixt, 12);
        Assert.Equal(1, kde.Estimate(tensor([0.0, 100, 200, 300]), Labels(0, 1, 0, 1), s_unit).Ity, 12);
        Assert.Equal(0, kde.Estimate(ones(4, 2), Labels(0, 1, 0, 1), s_unit).Ixt, 12);
        // Identical but for the last bits, which rounding of the expanded square must not turn into information.
        Assert.Equal(0, kde.Estimate(ones(4, 2, float64) + tensor([0, 1e-15, 0, 1e-15]).unsqueeze(1), Labels(0, 1, 0, 1), s_unit).Ixt, 12);
    }

    // Exact check 6: Std has s2 = (kappa max)^2, so s2 = 0.1 max^2 is kappa = sqrt 0.1.
    [Fact]
    public void Noise_scaled_by_variance_depends_on_the_scale_and_by_deviation_does_not()
    {
        double Bits(AdaptiveKde kde, double scale)
        {
            Tensor t = ThreePoints() * scale;
            return kde.Estimate(t, Labels(0, 0, 1), LayerRunStatistics.Of(t)).Ixt;
        }
        var variance = new AdaptiveKde(.1, NoiseScaling.Variance);
        var std = new AdaptiveKde(Math.Sqrt(.1), NoiseScaling.Std);
        Assert.Equal(1.509041, Bits(variance, 1), 6);
        Assert.Equal(1.584963, Bits(variance, 10), 6);
        Assert.Equal(1.335274, Bits(std, 1), 6);
        Assert.Equal(1.335274, Bits(std, 10), 6);
    }

    // Exact check 7, on 2,000 normals of the portable generator: its numbers differ from numpy's, the inequality and the truth do not.
    [Fact]
    public void The_bounds_enclose_the_entropy_of_a_gaussian()
    {
        Tensor t = Normals(2000, 1);
        Tensor y = zeros(2000, int64);
        double truth = .5 * Math.Log2(11); // Variance 1 + 0.1 against 0.1.
        double upper = new FixedNoiseKde(.1).Estimate(t, y, s_unit).Ixt, lower = new FixedNoiseKde(.1, EntropyBound.Lower).Estimate(t, y, s_unit).Ixt;
        Assert.Equal(1.729716, truth, 6);
        Assert.InRange(truth, lower, upper);
        Assert.InRange(upper, 2.383017 - .1, 2.383017 + .1); // numpy's sample, seed 0.
        Assert.InRange(lower, 1.418322 - .1, 1.418322 + .1);
    }

    // Exact check 8.
    [Fact]
    public void Information_about_the_label_is_at_most_its_entropy_and_that_about_the_input()
    {
        Tensor t = Normals(300, 2);
        Tensor y = (t[.., 0] > .3).to(int64) + 2 * (t[.., 1] > 1).to(int64);
        double labelEntropy = Priori.Numerics.HistogramEntropy.OfRows(y);
        LayerRunStatistics run = LayerRunStatistics.Of(t);
        foreach (int bins in (int[])[2, 5, 30])
        {
            foreach (IMutualInformationEstimator estimator in (IMutualInformationEstimator[])[new EntropyBasedAdaptiveBinning(bins), new EqualWidthBinning(bins), new AdaptiveKde(1.0 / bins),
                new AdaptiveKde(1.0 / bins, NoiseScaling.Std, EntropyBound.Lower), new FixedNoiseKde(10.0 / bins)])
            {
                LayerInformation information = estimator.Estimate(t, y, run);
                Assert.InRange(information.Ity, 0, Math.Min(labelEntropy, information.Ixt) + 1e-12);
                Assert.InRange(information.Ixt, 1e-3, Math.Log2(300) + 1e-12);
            }
        }
    }

    [Fact]
    public void Constant_and_dead_layers_carry_nothing()
    {
        Tensor y = Labels(0, 1, 0, 1, 2);
        foreach (Tensor t in new[] { zeros(5, 3), full(5, 3, .7), zeros(5, 3).neg() })
        {
            foreach (IMutualInformationEstimator estimator in (IMutualInformationEstimator[])[new EntropyBasedAdaptiveBinning(30, 0), new EntropyBasedAdaptiveBinning(), new EqualWidthBinning(),
                new AdaptiveKde(), new FixedNoiseKde(), new KnnMutualInformation(noise: .1)])
                Assert.Equal(new LayerInformation(0, 0, 1), estimator.Estimate(t, y, LayerRunStatistics.Of(t)));
        }
    }

    // What toy versions get wrong.
    [Fact]
    public void Dead_zeros_do_not_collapse_the_edges()
    {
        Tensor t = cat([zeros(900, float64), arange(1, 101, dtype: float64)]);
        Tensor edges = new EntropyBasedAdaptiveBinning(10, 0).Edges(t);
        Assert.Equal([0, 1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100], edges.data<double>().ToArray());
    }

    [Fact]
    public void Bins_are_of_one_epoch_and_scaling_all_epochs_changes_only_the_fixed_ones()
    {
        Tensor t = Normals(1000, 2).tanh();
        Tensor y = (t[.., 0] > 0).to(int64);
        var adaptive = EntropyBasedAdaptiveBinning.For(HiddenActivation.Swish);
        Assert.Equal(adaptive.Estimate(t, y, s_unit), adaptive.Estimate(t * 1000, y, s_unit));
        var equalWidth = new EqualWidthBinning(30, -1, 1);
        Assert.True(equalWidth.Estimate(t, y, s_unit).Ixt - equalWidth.Estimate(t * 1000, y, s_unit).Ixt > 1);
    }

    [Theory]
    [InlineData(HiddenActivation.Tanh)]
    [InlineData(HiddenActivation.Relu)]
    [InlineData(HiddenActivation.Softplus)]
    [InlineData(HiddenActivation.Elu)]
    [InlineData(HiddenActivation.Swish)]
    [InlineData(HiddenActivation.CentredSoftplus)]
    public void Every_activation_is_binned_and_tracked(HiddenActivation activation)
    {
        using var scope = NewDisposeScope();
        manual_seed(0);
        (Tensor x, Tensor y) = BinaryVectors.Generate(6);
        var model = new Mlp(6, [4, 3], 2, _ => activation.Create());
        HiddenActivations.Initialize(model, activation);
        using var plane = InformationPlane.Track(model, ["layers.2", "layers.4"], x, y, [0, 1]);
        plane.Record(0);
        plane.Record(1);
        plane.Record(2); // Not in the schedule.
        InformationTrace trace = plane.Estimate(EntropyBasedAdaptiveBinning.For(activation));
        Assert.Equal(["layers.2", "layers.4", "output"], trace.Layers);
        Assert.Equal([0, 1], trace["output"].Select(p => p.Epoch));
        Assert.All(trace.Points, p => Assert.InRange(p.Ixt, .3, 6));
        Assert.All(trace.Points, p => Assert.Equal(6, p.Cap, 12));
        Tensor first = activation.Create().forward(functional.linear(x, model.get_parameter("layers.1.weight")!, model.get_parameter("layers.1.bias")));
        Assert.True(first.allclose(plane.Snapshots[0].Activations["layers.2"]));
        Assert.True(plane.Snapshots[0].Activations["output"].sum(1).allclose(ones(64)));
        if (activation.LowerEdge() is { } edge) Assert.True(activation.Create().forward(linspace(-50, 50, 1000)).min().item<float>() >= edge);
        if (activation == HiddenActivation.CentredSoftplus) Assert.Equal(0, activation.Create().forward(zeros(1)).item<float>(), 6);
    }

    [Fact]
    public void Weights_start_truncated_with_the_deviation_of_their_fan_in()
    {
        manual_seed(0);
        var model = new Mlp(400, [300], 2);
        HiddenActivations.Initialize(model, HiddenActivation.Elu);
        Tensor weight = model.get_parameter("layers.1.weight")!, bias = model.get_parameter("layers.1.bias")!;
        Assert.Equal(.2, weight.abs().max().item<float>(), 2); // 2 deviations of 2 / sqrt 400.
        Assert.Equal(.1 * .8796, weight.std().item<float>(), 3); // Deviation of a normal truncated at 2.
        Assert.Equal(0, bias.abs().max().item<float>());
        HiddenActivations.Initialize(model, HiddenActivation.Tanh);
        Assert.Equal(.05 * .8796, weight.std().item<float>(), 3);
    }

    [Fact]
    public void Nearest_neighbours_find_the_entropy_of_known_densities()
    {
        var knn = new KnnMutualInformation();
        Assert.InRange(knn.Entropy(Normals(4000, 1)), Math.Log2(2 * Math.PI * Math.E) / 2 - .06, Math.Log2(2 * Math.PI * Math.E) / 2 + .06);
        Assert.InRange(knn.Entropy(Normals(4000, 2) * 100), Math.Log2(2 * Math.PI * Math.E) + 2 * Math.Log2(100) - .1, Math.Log2(2 * Math.PI * Math.E) + 2 * Math.Log2(100) + .1);
        // Points 0, 1, 3, k = 1: distances 1, 1, 2, so psi(3) - psi(1) + log 2 + (log 2) / 3 nats.
        Assert.Equal((1.5 + Math.Log(2) * 4 / 3) / Math.Log(2), new KnnMutualInformation(1).Entropy(tensor([0.0, 1, 3])), 6);
    }

    [Fact]
    public void Nearest_neighbours_find_the_information_between_correlated_normals()
    {
        Tensor z = Normals(3000, 2, seed: 1);
        double rho = .8, truth = -Math.Log2(1 - rho * rho) / 2;
        Tensor x = z[.., 0], y = rho * z[.., 0] + Math.Sqrt(1 - rho * rho) * z[.., 1];
        var knn = new KnnMutualInformation();
        Assert.InRange(knn.MutualInformation(x, y), truth - .06, truth + .06);
        Assert.InRange(knn.MutualInformation(x, z[.., 1]), -.06, .06);
        Assert.Equal(knn.MutualInformation(x, y), knn.MutualInformation(x * 1000, y * 1000), 6);
    }

    [Fact]
    public void Nearest_neighbours_find_the_information_about_a_label()
    {
        Tensor y = arange(2000, dtype: int64).remainder(2);
        var knn = new KnnMutualInformation();
        Assert.InRange(knn.MutualInformationWithLabels(Normals(2000, 1) + 100 * y.unsqueeze(1), y), .99, 1.01);
        Assert.InRange(knn.MutualInformationWithLabels(Normals(2000, 1), y), -.05, .05);
        // Uniform on [0, 2] and [1, 3]: half of each class overlaps, so 1/2 bit.
        var random = SplitMix64.For(3);
        Tensor u = tensor(Enumerable.Range(0, 2000).Select(i => 2 * random.NextDouble() + i % 2).ToArray());
        Assert.InRange(knn.MutualInformationWithLabels(u, y), .45, .55);
        // By hand, k = 1, points 0, 1 | 3, 7: distances within the class 1, 1, 4, 4; m = 1, 1, 3, 1; psi(4) + psi(1) - psi(2) - mean psi(m) nats.
        Assert.Equal((11.0 / 6 - 1 - 1.5 / 4) / Math.Log(2), new KnnMutualInformation(1).MutualInformationWithLabels(tensor([0.0, 1, 3, 7]), Labels(0, 0, 1, 1)), 6);
        LayerInformation information = knn.Estimate(u, y, LayerRunStatistics.Of(u));
        Assert.True(double.IsNaN(information.Ixt)); // Infinite in truth: not an estimate.
        Assert.InRange(information.Ity, .45, .55);
        // T' = T + noise of standard deviation 1/2 of a normal of deviation 1: I = 1/2 log2(1 + 1 / s2).
        Tensor t = Normals(4000, 1);
        double s = .5 / LayerRunStatistics.Of(t).Magnitude;
        Assert.InRange(new KnnMutualInformation(noise: s).Estimate(t, zeros(4000, int64), LayerRunStatistics.Of(t)).Ixt, Math.Log2(5) / 2 - .08, Math.Log2(5) / 2 + .08);
    }

    [Fact]
    public void Compression_is_the_fall_from_the_maximum_and_correlates_across_runs()
    {
        InformationTrace Run(double final) => new(
        [
            new(0, "a", 2, .1, 5, 7), new(10, "a", 4, .5, 5, 9), new(100, "a", final, .9, 5, 8),
            new(0, "b", 0, 0, 5, 1), new(10, "b", 0, 0, 5, 1), new(100, "b", 0, 0, 5, 1),
        ]);
        LayerCompression a = Run(1).Compression()[0];
        Assert.Equal((3.0, .75), (a.Bits, a.Fraction));
        Assert.Equal((0.0, 0.0), (Run(1).Compression()[1].Bits, Run(1).Compression()[1].Fraction));
        IReadOnlyDictionary<string, double> r = InformationTrace.Correlate([Run(3), Run(2), Run(1)], [.1, .2, .4]);
        Assert.Equal(.98198, r["a"], 5);
        Assert.True(double.IsNaN(r["b"]));
        Assert.Equal("epoch,layer,ixt,ity,cap,uniqueRows\n0,a,2,0.1,5,7\n", new InformationTrace([Run(1).Points[0]]).ToCsv());
        Assert.Throws<ArgumentException>(() => InformationTrace.Correlate([Run(1), Run(2)], [.1, .2]));
    }

    [Fact]
    public void Duplicate_inputs_lower_the_cap()
    {
        Tensor x = tensor(new float[,] { { 0, 1 }, { 0, 1 }, { 1, 0 }, { -0f, 1 } });
        Assert.Equal(.811278, InformationPlane.InputEntropy(x), 6);
    }

    [Fact]
    public void The_schedule_is_logarithmic()
        => Assert.Equal([0, 1, 2, 3, 5, 9, 15, 26, 45, 78, 135, 232, 400], InformationPlane.LogSpaced(400, 12));

    [Fact]
    public void Tracking_leaves_the_model_as_it_was()
    {
        manual_seed(1);
        var model = new Mlp(4, [3], 2, dropout: .5);
        model.train();
        Tensor x = rand(10, 4);
        using var plane = InformationPlane.Track(model, ["layers.2"], x, zeros(10, int64), [1]);
        plane.Record(1);
        Assert.True(model.training);
        Tensor before = plane.Snapshots[0].Activations["layers.2"].clone();
        model.call(x).Dispose();
        Assert.True(before.equal(plane.Snapshots[0].Activations["layers.2"]).all().item<bool>());
        Assert.Throws<ArgumentException>(() => InformationPlane.Track(model, ["layers.9"], x, zeros(10, int64), [1]));
        Assert.Throws<ArgumentException>(() => InformationPlane.Track(model, ["layers.2"], x, zeros(9, int64), [1]));
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Tensor t = Normals(4, 2), y = Labels(0, 1, 0, 1);
        foreach (IMutualInformationEstimator estimator in (IMutualInformationEstimator[])[new EntropyBasedAdaptiveBinning(), new EqualWidthBinning(), new AdaptiveKde(), new FixedNoiseKde(), new KnnMutualInformation(1)])
        {
            Assert.Throws<ArgumentException>(() => estimator.Estimate(t, Labels(0, 1, 0), s_unit)); // Length.
            Assert.Throws<ArgumentException>(() => estimator.Estimate(t, tensor([.1, .2, .3, .4]), s_unit)); // Continuous labels.
            Assert.Throws<ArgumentException>(() => estimator.Estimate(t / zeros(4, 2), y, s_unit)); // Not finite.
            Assert.Throws<ArgumentException>(() => estimator.Estimate(t[..1], Labels(0), s_unit)); // n < 2.
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => new EntropyBasedAdaptiveBinning(1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new EqualWidthBinning(1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new EqualWidthBinning(30, 1, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new AdaptiveKde(0));
        Assert.Throws<ArgumentOutOfRangeException>(() => new FixedNoiseKde(double.NaN));
        Assert.Throws<ArgumentOutOfRangeException>(() => new KnnMutualInformation(0));
        Assert.Throws<ArgumentException>(() => new KnnMutualInformation(4).Entropy(t)); // No fourth neighbour.
        Assert.Throws<ArgumentException>(() => new KnnMutualInformation().MutualInformationWithLabels(t, Labels(0, 1, 2, 3)));
        Assert.Throws<ArgumentException>(() => new EntropyBasedAdaptiveBinning(30, 0).Digitize(tensor([-.2, 1]))); // Below the lower edge.
        Assert.Throws<ArgumentException>(() => LayerRunStatistics.Of());
        Assert.Throws<ArgumentException>(() => InformationTrace.Of([], y, new EntropyBasedAdaptiveBinning()));
    }

    [Fact]
    public void No_tensor_is_left_behind()
    {
        Tensor t = Normals(64, 3), y = (t[.., 0] > 0).to(int64);
        foreach (IMutualInformationEstimator estimator in (IMutualInformationEstimator[])[new EntropyBasedAdaptiveBinning(), new EqualWidthBinning(), new AdaptiveKde(), new KnnMutualInformation(noise: .1)])
        {
            estimator.Estimate(t, y, s_unit);
            long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
            estimator.Estimate(t, y, s_unit);
            Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        }
    }
}
