using Priori.Interpretability;
using Priori.Nn;
using Priori.Runtime;

namespace Priori.Tests.Interpretability;

public class MultifacetedVisualizationTests
{
    private static readonly Octave s_plain = new(10) { StepStart = 0.02, StepEnd = 0.02 };

    // a(x) = w . x on [1, 3, 4] images, three units.
    private static (Network Network, Tensor Weights) Linear(long height = 3, long width = 4)
    {
        var network = new Network(new Architecture([1, height, width], [new Layer("flat", LayerKind.Flatten), new Layer("fc", LayerKind.Linear) { Width = 3 }]));
        Tensor w = randn([3, height * width], generator: new Generator(4));
        network.Load(new Dictionary<string, Tensor> { ["fc.weight"] = w, ["fc.bias"] = zeros(3) });
        return (network, w);
    }

    private static Network SmallConv(int seed = 0)
    {
        Seeds.Set(seed);
        return new Network(Architectures.ConvNet([1, 12, 12], [4, 6], 3));
    }

    [Fact]
    public void A_step_is_the_gradient_over_its_mean_absolute_value()
    {
        using Tensor g = tensor(new float[,] { { .2f, -.4f }, { 0, .6f } }).view(1, 1, 2, 2), x = zeros(1, 1, 2, 2);
        Assert.True(ActivationMaximizer.NormalizedStep(x, g, 1.5).view(2, 2).allclose(tensor(new float[,] { { 1, -2 }, { 0, 3 } }), atol: 1e-6));
        Assert.True(ActivationMaximizer.NormalizedStep(x + 5, zeros_like(g), 1.5).eq(5).all().item<bool>());
    }

    [Fact]
    public void A_linear_unit_ends_where_its_weights_point()
    {
        (Network network, Tensor w) = Linear();
        using var _ = network;
        using Tensor start = rand([2, 1, 3, 4], generator: new Generator(1)) * 0.2 + 0.4;
        AmResult result = new ActivationMaximizer(network, new UnitSelector("fc", 1)).Run(start, OctaveSchedule.Custom(s_plain));
        Tensor direction = (w[1] / w[1].abs().mean()).view(1, 1, 3, 4);
        Assert.True(result.Images.allclose((start + 10 * 0.02 * direction).clamp(0, 1), atol: 1e-5));
        Assert.Equal([10L, 2L], result.ActivationTrace.shape);
        Assert.Equal((start[1].flatten() * w[1]).sum().ToDouble(), result.ActivationTrace[0, 1].ToDouble(), 1e-5);
        Assert.Empty(result.Stops);
        // The same in network units: normalisation does not change the direction of one channel's gradient.
        AmResult scaled = new ActivationMaximizer(network, new UnitSelector("fc", 1), new ImageNormalization([.3], [.5])).Run(start, OctaveSchedule.Custom(s_plain));
        Assert.True(scaled.Images.allclose(result.Images, atol: 1e-5));
    }

    [Fact]
    public void Images_of_a_batch_are_as_if_alone_with_octaves_jitter_and_denoising()
    {
        using Network network = SmallConv();
        network.to(float64).train();
        using Tensor start = rand([3, 1, 12, 12], float64, generator: new Generator(3));
        OctaveSchedule schedule = OctaveSchedule.Custom(s_plain with { WeightStart = 20, WeightEnd = 60 }, s_plain with { Scale = 1.5, Iterations = 6 }, s_plain with { Iterations = 4, Margin = 3, Window = .1 });
        var maximizer = new ActivationMaximizer(network, new UnitSelector(null, 2)) { Denoiser = new() { Tolerance = 0, MaxIterations = 10 } };
        AmResult together = maximizer.Run(start, schedule, seed: 5), first = maximizer.Run(start.narrow(0, 0, 1), schedule, seed: 5);
        Assert.Equal([3L, 1L, 18L, 18L], together.Images.shape);
        Assert.True(together.Images[0].allclose(first.Images[0], atol: 1e-8));
        Assert.True(together.ActivationTrace.select(1, 0).allclose(first.ActivationTrace.select(1, 0), atol: 1e-3));
        Assert.True(network.training);
        Assert.True(maximizer.Run(start, schedule, seed: 5).Images.allclose(together.Images, rtol: 0, atol: 0));
        Assert.False(maximizer.Run(start, schedule, seed: 6).Images.allclose(together.Images));
        Assert.InRange(together.Images.min().ToDouble(), 0, 1);
        AmResult free = maximizer.Run(start, OctaveSchedule.Custom(s_plain));
        Assert.True((free.ActivationTrace[9] > free.ActivationTrace[0]).all().item<bool>());
    }

    [Fact]
    public void A_margin_keeps_the_border_and_small_weights_smooth()
    {
        (Network network, Tensor w) = Linear(8, 8);
        using var _ = network;
        using Tensor start = full([1, 1, 8, 8], 0.5);
        var maximizer = new ActivationMaximizer(network, new UnitSelector("fc", 0));
        Tensor changed = maximizer.Run(start, OctaveSchedule.Custom(s_plain with { Margin = 2 })).Images.ne(0.5f);
        Assert.Equal(16, changed.sum().ToInt64());
        Assert.Equal(16, changed[0, 0].narrow(0, 2, 4).narrow(1, 2, 4).sum().ToInt64());
        double Variation(double weight) => Priori.Numerics.TotalVariation.Of(maximizer.Run(start, OctaveSchedule.Custom(s_plain with { WeightStart = weight, WeightEnd = weight })).Images).sum().ToDouble();
        double strong = Variation(5), weak = Variation(50), none = Variation(double.PositiveInfinity);
        Assert.True(strong < 0.8 * weak && weak < 0.95 * none, $"{strong} {weak} {none}");
    }

    [Fact]
    public void Offsets_are_clipped_normal_and_rounded_down()
    {
        SplitMix64 random = SplitMix64.For(1);
        long[] offsets = [.. Enumerable.Range(0, 10_000).Select(_ => CropJitter.Offset(random, 40, .3))];
        Assert.InRange(offsets.Min(), 0, 0);
        Assert.InRange(offsets.Max(), 40, 40);
        Assert.InRange(offsets.Average(), 19.5 - .5, 20 + .5);
        // Normal(20, 12): P(offset < 8) = P(z < -1) and P(0) = P(x < 1) = P(z < -19/12).
        Assert.InRange(offsets.Count(o => o < 8) / 10_000.0, .1587 - .012, .1587 + .012);
        Assert.InRange(offsets.Count(o => o == 0) / 10_000.0, .0567 - .008, .0567 + .008);
        Assert.Equal(0, CropJitter.Offset(random, 0, .3));
    }

    [Theory]
    [InlineData(FacetSpace.Embedding)]
    [InlineData(FacetSpace.Codes)]
    public void Two_blobs_are_two_facets_and_means_are_those_of_the_exemplars(FacetSpace space)
    {
        using Tensor images = rand([60, 3, 5, 4], generator: new Generator(8));
        Tensor truth = (arange(60) % 3).eq(0).to(int64); // 40 and 20
        using Tensor codes = randn([60, 12], generator: new Generator(9)) + 30 * truth.unsqueeze(1);
        Facets facets = FacetDiscovery.Fit(images, codes, new FacetOptions { Count = 2, MeanOf = 15, Space = space });
        Assert.True(facets.Labels.eq(truth).all().item<bool>()); // the larger facet comes first
        Assert.Equal([60L, 2L], facets.Embedding.shape);
        for (int f = 0; f < 2; f++)
        {
            Assert.Equal(15, facets.Exemplars[f].Distinct().Count());
            Assert.All(facets.Exemplars[f], row => Assert.Equal(f, facets.Labels[row].ToInt64()));
            Assert.True(facets.MeanImages[f].allclose(images.index_select(0, tensor(facets.Exemplars[f])).mean([0L]), rtol: 0, atol: 0));
            Tensor space2 = space == FacetSpace.Embedding ? facets.Embedding : facets.Codes, own = space2.index_select(0, facets.Labels.eq(f).nonzero().flatten());
            double nearest = (own - own.mean([0L])).square().sum(dim: 1).min().ToDouble(), first = (space2[facets.Exemplars[f][0]] - own.mean([0L])).square().sum().ToDouble();
            Assert.Equal(nearest, first, 1e-3 * Math.Max(1, nearest));
        }
        Assert.True(facets.Assign(codes + 0.01).eq(truth).all().item<bool>());
        Assert.True(facets.Assign(codes, 1000).eq(0).all().item<bool>()); // all vote: the majority
    }

    [Fact]
    public void Small_clusters_are_dropped_and_means_capped()
    {
        using Tensor images = rand([9, 1, 2, 2], generator: new Generator(1));
        using Tensor codes = cat([randn([5, 4], generator: new Generator(2)), 500 + randn([3, 4], generator: new Generator(3)), full([1, 4], -900)]);
        Facets facets = FacetDiscovery.Fit(images, codes, new FacetOptions { Count = 3, MeanOf = 4, Space = FacetSpace.Codes });
        Assert.Equal(new long[] { 0, 0, 0, 0, 0, 1, 1, 1, -1 }, facets.Labels.data<long>().ToArray());
        Assert.Equal([4, 3], facets.Exemplars.Select(e => e.Length));
    }

    [Fact]
    public void Units_are_logits_probabilities_channels_and_positions()
    {
        using Tensor logits = randn([5, 4], generator: new Generator(1)), maps = randn([2, 3, 4, 5], generator: new Generator(2)), tokens = randn([2, 6, 3], generator: new Generator(3));
        Assert.True(UnitSelector.Parse("fc:2").Of(logits).allclose(logits.select(1, 2)));
        Assert.True((UnitSelector.Parse("fc:2") with { Objective = UnitObjective.Probability }).Of(logits).allclose(logits.softmax(1).select(1, 2)));
        Assert.True(UnitSelector.Parse("a.b.conv2:1").Of(maps).allclose(maps.select(1, 1).mean([1L, 2L])));
        Assert.True(UnitSelector.Parse("conv2:1@3x4").Of(maps).allclose(maps.select(1, 1).select(1, 3).select(1, 4)));
        Assert.True(UnitSelector.Parse("mlp:1@5x0").Of(tokens).allclose(tokens.select(1, 5).select(1, 1)));
        Assert.True(UnitSelector.Parse("mlp:1").Of(tokens).allclose(tokens.mean([1L]).select(1, 1)));
        Assert.Equal("conv2:1@3x4", UnitSelector.Parse("conv2:1@3x4").ToString());
        Assert.Null(UnitSelector.Parse(":7").Layer);
        foreach (string bad in new[] { "fc", "fc:", "fc:-1", "fc:1@2", "fc:1@2x3x4", "fc:1@2@3" }) Assert.Contains(bad, Assert.Throws<ArgumentException>(() => UnitSelector.Parse(bad)).Message);
        Assert.Contains("0..3", Assert.Throws<ArgumentOutOfRangeException>(() => UnitSelector.Parse("fc:4").Of(logits)).Message);
        Assert.Contains("position", Assert.Throws<ArgumentException>(() => UnitSelector.Parse("conv2:1@4x0").Of(maps)).Message);
    }

    [Fact]
    public void The_gradient_of_a_probability_points_as_that_of_its_logarithm()
    {
        (Network network, Tensor w) = Linear();
        using var _ = network;
        using Tensor start = full([1, 1, 3, 4], 0.5), x = start.clone().requires_grad_();
        network.call(x).softmax(1).select(1, 2).sum().backward();
        Tensor expected = ActivationMaximizer.NormalizedStep(start, x.grad!, 0.02);
        AmResult result = new ActivationMaximizer(network, new UnitSelector("fc", 2)).Run(start, OctaveSchedule.Custom(s_plain with { Iterations = 1, Objective = UnitObjective.Probability }));
        Assert.True(result.Images.allclose(expected, atol: 1e-5));
        Assert.Equal(network.call(start).softmax(1)[0, 2].ToDouble(), result.ActivationTrace[0, 0].ToDouble(), 1e-6);
    }

    [Fact]
    public void Layers_are_found_by_name_in_any_module()
    {
        using var module = new ByHand();
        using Tensor start = rand([2, 1, 3, 4], generator: new Generator(1));
        var maximizer = new ActivationMaximizer(module, UnitSelector.Parse("hidden:1"));
        Assert.True(maximizer.Evaluate(start).allclose(module.Hidden.call(start.flatten(1)).select(1, 1)));
        Assert.True(maximizer.Run(start, OctaveSchedule.Custom(s_plain)).ActivationTrace[9].gt(maximizer.Evaluate(start)).all().item<bool>());
        Assert.Contains("nowhere", Assert.Throws<ArgumentException>(() => new ActivationMaximizer(module, UnitSelector.Parse("nowhere:1")).Evaluate(start)).Message);
    }

    [Fact]
    public void A_dead_gradient_stops_its_image_and_says_so()
    {
        using var network = new Network(new Architecture([1, 2, 2], [new Layer("flat", LayerKind.Flatten), new Layer("fc", LayerKind.Linear) { Width = 2 }, new Layer("relu", LayerKind.Relu)]));
        network.Load(new Dictionary<string, Tensor> { ["fc.weight"] = ones(2, 4), ["fc.bias"] = full([2], -1.0f) });
        using Tensor start = cat([full([1, 1, 2, 2], 0.1), full([1, 1, 2, 2], 0.5)]);
        AmResult result = new ActivationMaximizer(network, UnitSelector.Parse("relu:0")).Run(start, OctaveSchedule.Custom(s_plain, s_plain with { Iterations = 2 }));
        Assert.True(result.Images[0].allclose(start[0], rtol: 0, atol: 0));
        Assert.True(result.Images[1].allclose(full([1, 2, 2], 0.74f), atol: 1e-5));
        Assert.Equal([(0, 0, 0), (0, 1, 0)], result.Stops.Select(s => (s.Image, s.Octave, s.Iteration)));
        Assert.Contains("zero everywhere", result.Stops[0].Reason);
        // All dead: the run ends early, the trace is full.
        AmResult dead = new ActivationMaximizer(network, UnitSelector.Parse("relu:0")).Run(start.narrow(0, 0, 1), OctaveSchedule.Custom(s_plain));
        Assert.True(dead.ActivationTrace.eq(0).all().item<bool>());
        Assert.Single(dead.Stops);
    }

    [Fact]
    public void Published_schedules_hold_the_papers_numbers_and_scale_their_margins()
    {
        OctaveSchedule mean = OctaveSchedule.MeanInit(224), center = OctaveSchedule.CenterBiased(112);
        Assert.Equal([190, 150, 20, 10], mean.Octaves.Select(o => o.Iterations));
        Assert.Equal([190, 150, 150, 30, 10], center.Octaves.Select(o => o.Iterations));
        Assert.Equal([0, 0, 50, 0], mean.Octaves.Select(o => o.Margin));
        Assert.Equal([0, 0, 0, 25, 0], center.Octaves.Select(o => o.Margin));
        Assert.Equal([1, 1.2, 1, 1], mean.Octaves.Select(o => o.Scale));
        Assert.Equal([1, 1.2, 1.2, 1, 1], center.Octaves.Select(o => o.Scale));
        Assert.Equal([.3, .3, .2, .3], mean.Octaves.Select(o => o.Window));
        Assert.Equal(.4 * 255, mean.Octaves[0].WeightStart, 1e-9);
        Assert.Equal(11 / 255.0, center.Octaves[0].StepEnd, 1e-12);
        Assert.Equal(UnitObjective.Probability, center.Octaves[1].Objective);
        Assert.Equal(UnitObjective.Activation, center.Octaves[2].Objective);
        Assert.Equal([95, 75, 10, 5], mean.Lengthened(.5).Octaves.Select(o => o.Iterations));
        using Tensor noise = OctaveSchedule.GreyNoise(4, 3, 50, 50, 1);
        Assert.Equal(175 / 255.0, noise.mean().ToDouble(), 1e-3);
        Assert.Equal(8 / 255.0, noise.std().ToDouble(), 1e-3);
    }

    [Fact]
    public void A_hidden_unit_shows_its_most_activating_images()
    {
        using Network network = SmallConv();
        using Tensor images = rand([40, 1, 12, 12], generator: new Generator(6));
        var options = new MultifacetedOptions { Facets = new() { Count = 2, Iterations = 50 }, Schedule = OctaveSchedule.Custom(s_plain), MostActivating = 20 };
        MultifacetedResult result = MultifacetedVisualizer.Visualize(network, UnitSelector.Parse("relu2:3"), images, "pool", options);
        Tensor all = new ActivationMaximizer(network, UnitSelector.Parse("relu2:3")).Evaluate(images);
        Assert.Equal(20, result.Rows.shape[0]);
        Assert.True(all.index_select(0, result.Rows).allclose(result.Activations));
        Assert.True(result.Activations.min().ToDouble() >= all.topk(20, 0).values.min().ToDouble());
        Assert.Equal(result.Facets.Count, result.Maximized.Images.shape[0]);
        Assert.Equal([20L, 6L], result.Facets.Codes.shape);
        // Octaves by default follow the size of the images.
        MultifacetedResult octaves = MultifacetedVisualizer.Visualize(network, UnitSelector.Parse("fc:1"), images, "pool", options with { Schedule = OctaveSchedule.MeanInit(12).Lengthened(0.01), MostActivating = null });
        Assert.Equal([14L, 14L], octaves.Maximized.Images.shape[2..]);
        Assert.Equal(40, octaves.Rows.shape[0]);
    }

    [Fact]
    public void Canvases_grow_and_come_back()
    {
        using Tensor images = rand([2, 3, 10, 10], generator: new Generator(6));
        Assert.Equal([2L, 3L, 12L, 12L], ImageZoom.Enlarge(images, 1.2).shape);
        Assert.True(ImageZoom.Enlarge(full([1, 1, 5, 5], 0.3), 1.2).allclose(full([1, 1, 6, 6], 0.3), atol: 1e-5));
        Assert.True(ImageZoom.Resize(images, 5, 5).mean([2L, 3L]).allclose(images.mean([2L, 3L]), atol: 1e-6)); // areas
        Assert.Contains("at least 1", Assert.Throws<ArgumentOutOfRangeException>(() => ImageZoom.Enlarge(images, 0.9)).Message);
    }

    [Fact]
    public void Bad_input_is_one_clear_error_each()
    {
        (Network network, Tensor _) = Linear();
        using var __ = network;
        using Tensor start = full([1, 1, 3, 4], 0.5);
        OctaveSchedule plain = OctaveSchedule.Custom(s_plain);
        Assert.Contains("units 0..2", Assert.Throws<ArgumentOutOfRangeException>(() => new ActivationMaximizer(network, UnitSelector.Parse("fc:3")).Run(start, plain)).Message);
        Assert.Contains("margin 2", Assert.Throws<ArgumentException>(() => new ActivationMaximizer(network, UnitSelector.Parse("fc:0")).Run(start, OctaveSchedule.Custom(s_plain with { Margin = 2 }))).Message);
        Assert.Contains("scale", Assert.Throws<ArgumentException>(() => OctaveSchedule.Custom(s_plain with { Scale = .9 })).Message);
        Assert.Contains("weights", Assert.Throws<ArgumentException>(() => OctaveSchedule.Custom(s_plain with { WeightStart = 0 })).Message);
        Assert.Contains("too few for 9 facets", Assert.Throws<ArgumentException>(() => FacetDiscovery.Fit(ones(8, 1, 2, 2), ones(8, 3), new FacetOptions { Count = 9 })).Message);
        Assert.Contains("one row for each of the 8 images", Assert.Throws<ArgumentException>(() => FacetDiscovery.Fit(ones(8, 1, 2, 2), ones(7, 3))).Message);
        Assert.Contains("No layer is named 'x'", Assert.Throws<ArgumentException>(() => MultifacetedVisualizer.Visualize(network, UnitSelector.Parse("fc:0"), ones(8, 1, 3, 4), "x")).Message);
        Assert.Contains("2 numbers for 1 channels", Assert.Throws<ArgumentException>(() => new ImageNormalization([1, 2], [1, 2]).Apply(start)).Message);
        network.Load(new Dictionary<string, Tensor> { ["fc.weight"] = full([3, 12], float.NaN), ["fc.bias"] = zeros(3) });
        Assert.Contains("not finite", Assert.Throws<ArgumentException>(() => new ActivationMaximizer(network, UnitSelector.Parse("fc:0")).Run(start, plain)).Message);
    }

    private sealed class ByHand : Module<Tensor, Tensor>
    {
        public readonly Module<Tensor, Tensor> Hidden;
        private readonly Module<Tensor, Tensor> _head;

        public ByHand() : base(nameof(ByHand))
        {
            Seeds.Set(1);
            (Hidden, _head) = (nn.Linear(12, 5), nn.Linear(5, 2));
            register_module("hidden", Hidden);
            register_module("head", _head);
        }

        public override Tensor forward(Tensor input) => _head.call(Hidden.call(input.flatten(1)).relu());
    }
}
