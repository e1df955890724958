using Priori.Nn;
using Priori.Numerics;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Tests.Similarity;

public class ConvergentLearningTests
{
    private static readonly Tensor s_greedyFails = tensor(new[,] { { .9, .8, .1 }, { .85, .3, .2 }, { .4, .35, .05 } });

    [Fact]
    public void The_matching_is_optimal_where_greedy_is_not_and_the_semi_matching_is_above_it()
    {
        MatchingResult matching = UnitMatching.Bipartite(s_greedyFails);
        Assert.Equal([1, 0, 2], matching.Assignment);
        Assert.Equal(1.70, matching.Score.Sum(), 1e-12); // greedy: 0 to 0, 1 to 2, 2 to 1, 1.45
        Assert.Equal(.566667, matching.Mean, 1e-6);
        Assert.Equal([2], matching.Unique);
        MatchingResult semi = UnitMatching.SemiMatching(s_greedyFails);
        Assert.Equal([0, 0, 0], semi.Assignment);
        Assert.Equal(.716667, semi.Mean, 1e-6);
        Assert.Equal([2], semi.Unique);
    }

    [Fact]
    public void Rectangular_layers_and_dead_units_leave_units_without_a_partner()
    {
        MatchingResult tall = UnitMatching.Bipartite(s_greedyFails.narrow(1, 0, 2));
        Assert.Equal([1, 0, -1], tall.Assignment);
        Assert.Equal((.8 + .85) / 2, tall.Mean, 1e-12);
        Assert.Equal([2], tall.Unique);
        MatchingResult wide = UnitMatching.Bipartite(s_greedyFails.narrow(0, 1, 2));
        Assert.Equal([0, 1], wide.Assignment);
        Assert.Equal([0, 1, 2], wide.AlignedOrder(3));
        MatchingResult live = UnitMatching.Bipartite(s_greedyFails, [true, false, false], [false, true, false]);
        Assert.Equal([-1, 0, 2], live.Assignment);
        Assert.Equal((.85 + .05) / 2, live.Mean, 1e-12);
        Assert.Equal([0, 2, 1], live.AlignedOrder(3));
        Assert.Contains("second layer", Assert.Throws<ArgumentException>(() => UnitMatching.Bipartite(s_greedyFails, null, [true, true, true])).Message);
    }

    [Fact]
    public void A_layer_matched_with_itself_pairs_near_duplicates()
    {
        Tensor c = tensor(new[,] { { 1, .1, .9, .2 }, { .1, 1, .3, .8 }, { .9, .3, 1, .1 }, { .2, .8, .1, 1 } });
        MatchingResult self = UnitMatching.SelfMatching(c);
        Assert.Equal([2, 3, 0, 1], self.Assignment);
        Assert.Equal([[0, 2], [1, 3]], UnitMatching.Cycles(self.Assignment));
        Assert.Equal([[0, 3, 1], [2]], UnitMatching.Cycles([3, 0, 2, 1]));
        Assert.Equal([3, -1, -1, 0], UnitMatching.SelfMatching(c, [false, true, true, false]).Assignment);
        Assert.Throws<ArgumentException>(() => UnitMatching.Cycles([1, 1]));
        Assert.Throws<ArgumentException>(() => UnitMatching.SelfMatching(ones(1, 1)));
    }

    [Theory]
    [InlineData(0, .75, .25, .15, 2)]
    [InlineData(.1, .6875, .1875, .1625, 2)]
    [InlineData(.2, .625, .125, .20, 2)]
    [InlineData(.5, .4, 0, .44, 1)]
    [InlineData(.95, 0, 0, 1, 0)]
    public void Sparse_prediction_of_one_unit_from_two(double lambda, double first, double second, double error, int units)
    {
        Tensor g = tensor(new[,] { { 1, .6 }, { .6, 1 } }), c = tensor(new[,] { { .9 }, { .7 } });
        StitchPath path = SparseStitching.Fit(g, c, [lambda]);
        StitchMap map = path[lambda];
        Assert.Equal(first, map.W[0, 0].item<double>(), 1e-8);
        Assert.Equal(second, map.W[1, 0].item<double>(), 1e-8);
        Assert.Equal(error, map.Error[0], 1e-8);
        Assert.Equal(units, map.NonZeros[0]);
        Assert.Equal(.19, path.MeanBestSingle, 1e-12);
        Assert.Throws<ArgumentException>(() => path[.77]);
    }

    [Fact]
    public void Units_are_told_apart_by_how_many_predict_them()
    {
        // Sources 0-39 are independent; the targets are one of them, the sum of two, the sum of forty, and noise.
        Tensor c = zeros([40, 5], float64);
        c[0, 0] = .95;
        c[1, 1] = c[2, 1] = .65;
        c[.., 2] = 1 / Math.Sqrt(40);
        c[3, 3] = .2;
        StitchPath path = SparseStitching.Fit(eye(40, dtype: float64), c, [0, .05, .3]);
        Assert.Equal([UnitCode.Local, UnitCode.Subspace, UnitCode.Distributed, UnitCode.Unique, UnitCode.Dead], path.Codes());
        Assert.True(double.IsNaN(path[0].Error[4]));
        Assert.Equal((1 - .95 * .95 + 1 - 2 * .65 * .65 + 0 + .96) / 4, path[0].MeanError, 1e-9);
    }

    [Fact]
    public void Plug_in_information_of_a_table_and_its_published_bias()
    {
        double nats = MutualInformation.OfCounts(new long[,] { { 30, 10 }, { 10, 50 } });
        Assert.Equal(.177741, nats, 1e-6);
        Assert.Equal(.256426, nats / Math.Log(2), 1e-6);
        // The same table as activations: zeros, and ones.
        float[] x = [.. Enumerable.Repeat(0f, 40), .. Enumerable.Repeat(1f, 60)], y = [.. Enumerable.Repeat(0f, 30), .. Enumerable.Repeat(1f, 10), .. Enumerable.Repeat(0f, 10), .. Enumerable.Repeat(1f, 50)];
        var information = UnitInformation.Estimate(tensor(x).view(-1, 1), tensor(y).view(-1, 1), bins: 2);
        Assert.Equal(.177741, information.Nats.item<double>(), 1e-6);
        Assert.Equal(4 / (200 * Math.Log(2)), information.ApproximateBias, 1e-12);
        Assert.Equal(.177741 - .028854, information.BiasReduced.item<double>(), 1e-6);
    }

    [Fact]
    public void Zeros_have_a_bin_of_their_own_and_the_others_hold_equally_many()
    {
        float[] values = [.. Enumerable.Repeat(0f, 400), .. Enumerable.Range(1, 600).Select(i => (float)Math.Sqrt(i))];
        long[] codes = UnitInformation.Codes(tensor(values).view(-1, 1)).flatten().data<long>().ToArray();
        int[] counts = [.. codes.GroupBy(c => c).OrderBy(g => g.Key).Select(g => g.Count())];
        Assert.Equal(10, counts.Length);
        Assert.Equal(400, counts[0]);
        Assert.All(counts.Skip(1), count => Assert.InRange(count, 66, 67));
        Assert.All(Enumerable.Range(0, 400), i => Assert.Equal(0, codes[i]));
        // Without zeros bin 0 stays empty, of a silent unit all are in it, and a monotone map changes no bin.
        Tensor positive = tensor(values).narrow(0, 400, 600).view(-1, 1);
        Assert.Equal(1, UnitInformation.Codes(positive).min().item<long>());
        Assert.Equal(0, UnitInformation.Codes(zeros(50, 1)).unique(sorted: true, return_inverse: false, return_counts: false).output.item<long>());
        Assert.True(UnitInformation.Codes(positive.square()).eq(UnitInformation.Codes(positive)).all().item<bool>());
    }

    [Fact]
    public void Two_blocks_are_two_clusters()
    {
        Tensor affinity = Numerics.SpectralEmbeddingTests.Blocks();
        int[] labels = UnitSpectralClustering.Fit(affinity, 2);
        Assert.Equal(labels[0], Assert.Single(labels[..3].Distinct()));
        Assert.Equal(labels[3], Assert.Single(labels[3..].Distinct()));
        Assert.NotEqual(labels[0], labels[3]);
    }

    [Fact]
    public void A_network_against_its_permuted_copy_is_itself()
    {
        Seeds.Set(1);
        Architecture architecture = Architectures.ConvNet([1, 12, 12], [6, 8], 4);
        using Network a = new(architecture), b = new(architecture);
        a.eval();
        b.eval();
        int[] permutation = [3, 0, 7, 1, 5, 2, 6, 4];
        Dictionary<string, Tensor> state = a.State();
        foreach (string name in new[] { "conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var" }) state[name] = state[name].index_select(0, tensor(permutation).to(int64));
        b.Load(state);
        using Tensor inputs = randn([40, 1, 12, 12]);
        LayerConvergence report = ConvergenceReport.Build(LayerActivations.Of(a, ["bn1", "bn2"]), LayerActivations.Of(b, ["bn1", "bn2"]), ["1", "2"], inputs, new ConvergenceOptions { Lambdas = [1e-9, 0] }, batchSize: 16)[1];
        int[] inverse = [.. Enumerable.Range(0, 8).Select(u => Array.IndexOf(permutation, u))];
        Assert.Equal(inverse, report.Matching.Assignment);
        Assert.Equal(inverse, report.InformationMatching!.Assignment);
        Assert.All(report.Matching.Score, s => Assert.Equal(1, s, 1e-6));
        Assert.All(report.StitchAtoB[1e-9].Error, e => Assert.Equal(0, e, 1e-6));
        Assert.All(report.StitchBtoA[0].Error, e => Assert.Equal(0, e, 1e-6));
        Assert.True(report.Aligned().diagonal().gt(1 - 1e-6).all().item<bool>());
        Assert.Equal(1, report.InformationAgreement);
        Assert.Equal(1, report.Spectral.SharedFraction);
        // The map turns activations of A into those of B.
        Tensor x = a.Evaluate(inputs, "bn2"), y = b.Evaluate(inputs, "bn2");
        Tensor translated = report.StitchAtoB[1e-9].Translate(ActivationRecorder.Flatten(x), report.Correlation.A, report.Correlation.B);
        Assert.True(translated.allclose(ActivationRecorder.Flatten(y), 0, 1e-3));
    }

    [Fact]
    public void Streaming_equals_a_single_pass_and_positive_scales_change_nothing()
    {
        using Tensor a = randn([90, 5, 3, 3], generator: new Generator(1)).relu(), b = (randn([90, 4, 3, 3], generator: new Generator(2)) + a.narrow(1, 0, 4)).relu();
        a[.., 2] = 0.1;  // constant
        b[.., 3] = 0;    // never active
        var single = CrossCorrelation.Of(a, b);
        using var sums = new StreamingCorrelation();
        long start = 0;
        foreach (long size in new long[] { 5, 1, 30, 2, 20, 25, 7 })
        {
            sums.Add(ActivationRecorder.Flatten(a.narrow(0, start, size)), ActivationRecorder.Flatten(b.narrow(0, start, size)));
            start += size;
        }
        Assert.Equal(90, start);
        var streamed = CrossCorrelation.Of(sums);
        Assert.Equal(810, streamed.Observations);
        foreach ((Tensor x, Tensor y) in new[] { (single.Between, streamed.Between), (single.A.Correlation, streamed.A.Correlation), (single.B.Correlation, streamed.B.Correlation) })
        {
            Assert.True(x.isfinite().all().item<bool>());
            Assert.True(x.allclose(y, 0, 1e-10));
        }
        Assert.Equal([false, false, true, false, false], streamed.A.Dead);
        Assert.Equal([0, 1, 2], streamed.B.Alive);
        Assert.Equal(0, streamed.Between[2].abs().max().item<double>());
        var scaled = CrossCorrelation.Of(a * tensor(new[] { 3f, .01f, 5, 100, 1 }).view(1, 5, 1, 1), b * 7);
        Assert.True(scaled.Between.allclose(single.Between, 0, 1e-6));
        Tensor u = a[.., 0].flatten().to(float64), v = b[.., 0].flatten().to(float64);
        (u, v) = (u - u.mean(), v - v.mean());
        Assert.Equal(((u * v).sum() / (u.square().sum() * v.square().sum()).sqrt()).item<double>(), single.Between[0, 0].item<double>(), 1e-9); // over all positions, not over means of images
        Assert.Equal([-1], single.A.Dead.Select((dead, i) => dead ? UnitMatching.Bipartite(single).Assignment[i] : 0).Where(x => x < 0));
        UnitClusters clusters = UnitSpectralClustering.Fit(single, 3);
        Assert.Equal(-1, clusters.LabelsA[2]);
        Assert.Equal(-1, clusters.LabelsB[3]);
        Assert.Equal(7, clusters.Clusters.Sum(c => c.UnitsA.Count + c.UnitsB.Count));
        Assert.Equal(-1, UnitSpectralClustering.Hierarchical(single, 2).LabelsA[2]);
        Assert.Throws<ArgumentOutOfRangeException>(() => UnitSpectralClustering.Fit(single, 8));
    }

    [Fact]
    public void Clusters_join_units_of_both_layers_that_share_a_subspace()
    {
        // Two independent pairs of latent signals; each layer mixes each pair into three units of its own.
        using Tensor latent = randn([2000, 4], float64, generator: new Generator(3)), mixA = randn([2, 3], float64, generator: new Generator(4)), mixB = randn([2, 3], float64, generator: new Generator(5));
        Tensor Layer(Tensor mix) => cat([latent.narrow(1, 0, 2).matmul(mix), latent.narrow(1, 2, 2).matmul(mix)], 1);
        var correlation = CrossCorrelation.Of(Layer(mixA), Layer(mixB));
        foreach (UnitClusters clusters in new[] { UnitSpectralClustering.Fit(correlation, 2), UnitSpectralClustering.Hierarchical(correlation, 2) })
        {
            Assert.Equal(1, clusters.SharedFraction);
            Assert.Single(clusters.LabelsA[..3].Concat(clusters.LabelsB[..3]).Distinct());
            Assert.Single(clusters.LabelsA[3..].Concat(clusters.LabelsB[3..]).Distinct());
            Assert.All(clusters.Clusters, c => Assert.InRange(c.Affinity, .3, 1));
        }
        Assert.InRange(SparseStitching.Fit(correlation, [0])[0].MeanError, -1e-9, 1e-9); // the same subspace in another basis
        Assert.InRange(SparseStitching.Fit(correlation, [0]).MeanBestSingle, .02, 1);
    }

    [Fact]
    public void The_stitch_layer_descends_to_the_lasso_and_repeats()
    {
        using Tensor x = randn([4000, 6], generator: new Generator(1)), w = randn([6, 3], generator: new Generator(2)), y = x.matmul(w) + .3 * randn([4000, 3], generator: new Generator(3));
        Tensor Standard(Tensor t) => (t - t.mean([0L])) / t.std(0, unbiased: false);
        Tensor source = Standard(x), target = Standard(y);
        float[] Train(double lambda, int steps)
        {
            Seeds.Set(4);
            using var layer = new SgdStitchLayer(6, 3, new SgdStitchOptions { Lambda = lambda });
            double first = layer.Step(source, target), last = 0;
            for (int i = 1; i < steps; i++) last = layer.Step(source, target);
            Assert.True(last < first);
            Assert.Equal([5, 3, 2, 2], layer.call(ones(5, 6, 2, 2)).shape);
            Assert.True(layer.call(ones(5, 6, 2, 2))[0, .., 0, 0].allclose(layer.call(ones(5, 6))[0], 1e-4, 1e-5));
            return layer.Weight.t().contiguous().data<float>().ToArray();
        }
        foreach (double lambda in new[] { 0, .1 })
        {
            float[] descended = Train(lambda, 3000);
            Tensor exact = SparseStitching.Fit(CrossCorrelation.Of(x, y), [lambda])[lambda].W;
            Assert.True(tensor(descended).view(6, 3).to(float64).allclose(exact, 0, 3e-3), $"{lambda}");
        }
        Assert.Equal(Train(.1, 20), Train(.1, 20));
        using var fresh = new SgdStitchLayer(6, 3);
        Assert.InRange(fresh.Weight.std().item<float>(), .004, .02);
        Assert.Throws<ArgumentException>(() => fresh.Step(source, target.narrow(0, 0, 5)));
        Assert.Throws<ArgumentException>(() => fresh.Step(target, source));
        Assert.Throws<ArgumentException>(() => fresh.Step(source * float.NaN, target));
        Assert.Throws<ArgumentOutOfRangeException>(() => new SgdStitchLayer(6, 3, new SgdStitchOptions { Momentum = 1 }));
    }

    [Fact]
    public void Activations_of_any_module_are_recorded_by_hooks_and_of_a_network_in_one_pass()
    {
        Seeds.Set(2);
        using Network network = new(Architectures.Mlp([5], [7, 6], 3));
        using Tensor x = randn(4, 5);
        IReadOnlyList<Tensor> layers = LayerActivations.Of(network, ["layers.2", "layers.4", "layers.1"])(x), hooked = LayerActivations.Of((Module<Tensor, Tensor>)network, ["layers.1"])(x);
        Assert.Equal([4, 7], layers[0].shape);
        Assert.Equal([4, 6], layers[1].shape);
        Assert.True(layers[2].allclose(hooked[0], 0, 0));
        Assert.True(layers[0].allclose(hooked[0].relu(), 0, 0));
        Assert.True(network.Evaluate(x, "layers.5").allclose(network.call(x), 0, 0));
        Assert.Throws<ArgumentException>(() => network.Evaluate(x, ["layers.2", "nothing"]));
        Assert.Throws<ArgumentException>(() => network.Evaluate(x, Array.Empty<string>()));
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        static string Message(Action action) => Assert.ThrowsAny<ArgumentException>(action).Message;
        Assert.Contains("5 and 6 samples", Message(() => CrossCorrelation.Of(rand(5, 2), rand(6, 2))));
        Assert.Contains("positions [4, 4] and [2, 2]", Message(() => CrossCorrelation.Of(rand(5, 2, 4, 4), rand(5, 2, 2, 2))));
        Assert.Contains("at least 2", Message(() => CrossCorrelation.Of(rand(1, 2), rand(1, 2))));
        Assert.Contains("NaN", Message(() => CrossCorrelation.Of(rand(5, 2) * float.NaN, rand(5, 2))));
        Assert.Contains("finite", Message(() => UnitInformation.Codes(rand(5, 2) / 0)));
        Assert.Contains("finite", Message(() => UnitMatching.Bipartite(ones(2, 2) * double.NaN)));
        Assert.Contains("dead", Message(() => UnitMatching.Bipartite(CrossCorrelation.Of(rand(5, 2), ones(5, 2)))));
        var few = CrossCorrelation.Of(rand(5, 8), rand(5, 2));
        Assert.Contains("more than 8 observations; there are 5", Message(() => SparseStitching.Fit(few, [.1, 0])));
        Assert.Contains("at least 0", Message(() => SparseStitching.Fit(few, [-.1])));
        Assert.Contains("1..10 clusters", Message(() => UnitSpectralClustering.Fit(few, 11)));
        Assert.Contains("1..10 clusters", Message(() => UnitSpectralClustering.Hierarchical(few, 0)));
        Assert.Contains("no inputs", Message(() => CrossCorrelation.Collect(x => [x], x => [x], zeros(0, 3))));
        Assert.Contains("1 layers and the second 2", Message(() => CrossCorrelation.Collect(x => [x], x => [x, x], rand(3, 3))));
        using var cross = new StreamingCorrelation(within: false);
        cross.Add(rand(3, 2), rand(3, 2));
        Assert.Contains("within", Message(() => CrossCorrelation.Of(cross)));
    }
}
