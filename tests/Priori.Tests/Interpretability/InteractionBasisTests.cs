using Priori.Interpretability;
using Priori.Nn;
using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Tests.Interpretability;

/// <summary>The exact checks of the interaction basis, in the order of the numbers.</summary>
public class InteractionBasisTests
{
    private static readonly Tensor s_x = tensor(new double[,] { { 1, 0 }, { 1, 1 }, { -1, 0 }, { -1, -1 }, { 0, 2 }, { 0, -2 } });
    private static readonly Tensor s_w = tensor(new double[,] { { 1, 2 }, { 0, 1 } });
    private static readonly InteractionBasisOptions s_raw = new() { Center = false };

    private static double[] Values(Tensor t) => t.to(float64).detach().cpu().contiguous().data<double>().ToArray();

    private static void AssertClose(double[] expected, Tensor actual, double tolerance)
    {
        double[] values = Values(actual);
        Assert.Equal(expected.Length, values.Length);
        for (int i = 0; i < values.Length; i++) Assert.Equal(expected[i], values[i], tolerance);
    }

    private static SectionedModel Linear(Tensor w) => SectionedModel.OfLinear(["f", "out"], [new LinearSection(w, null, Relu: false)]);

    private static SectionedModel Opaque(SectionedModel model) => new(model.Nodes, model.Sections);

    private static SectionedModel RandomNet(int seed, params long[] widths)
    {
        manual_seed(seed);
        LinearSection[] sections = [.. Enumerable.Range(0, widths.Length - 1).Select(l => new LinearSection(randn([widths[l + 1], widths[l]], float64), randn([widths[l + 1]], float64), Relu: l < widths.Length - 2))];
        return SectionedModel.OfLinear([.. widths.Select((_, l) => $"layer {l}")], sections);
    }

    [Theory] // 1, 2
    [InlineData(true)]
    [InlineData(false)]
    public void The_worked_example_has_these_directions_and_edges(bool closedForm)
    {
        SectionedModel model = closedForm ? Linear(s_w) : Opaque(Linear(s_w));
        InteractionGraph graph = InteractionBasis.Compute(model, s_x, s_raw);
        LayerBasis basis = graph.Layers[0];
        AssertClose([10.235635, .097698], basis.Lambda, 1e-6);
        Assert.Equal(10.333333, basis.Lambda.sum().ToDouble(), 1e-6);
        AssertClose([.919368, .393398, 2.232135, .132572], basis.C.abs(), 1e-6);
        Assert.True(basis.C[0, 0].ToDouble() * basis.C[1, 0].ToDouble() > 0 && basis.C[0, 1].ToDouble() * basis.C[1, 1].ToDouble() < 0);
        AssertClose([8.651547, .015120, 1.584089, .082578], graph.Edges[0].Weights, 1e-6);
        AssertClose([8.666667, 1.666667], graph.Edges[0].Weights.sum(1), 1e-6);
        AssertClose([0, 0], graph.Edges[0].Constant, 1e-12);
    }

    [Fact] // 3
    public void A_change_of_coordinates_changes_principal_components_and_not_the_interaction_basis()
    {
        Tensor a = tensor(new[,] { { 2, 1 }, { .5, -1 } });
        (SectionedModel before, SectionedModel after) = (Linear(s_w), Linear(s_w.matmul(linalg.inv(a))));
        Tensor moved = s_x.matmul(a.t());
        LayerBasis one = InteractionBasis.Compute(before, s_x, s_raw).Layers[0], two = InteractionBasis.Compute(after, moved, s_raw).Layers[0];
        AssertClose(Values(one.Lambda), two.Lambda, 1e-12);
        AssertClose(Values(one.Coordinates(s_x).abs()), two.Coordinates(moved).abs(), 1e-12);
        InteractionBasisOptions pca = s_raw with { Basis = BasisKind.Pca };
        AssertClose([1.767592, .565741], InteractionBasis.Compute(before, s_x, pca).Layers[0].Lambda, 1e-6);
        AssertClose([6.150487, 1.016180], InteractionBasis.Compute(after, moved, pca).Layers[0].Lambda, 1e-6);
    }

    [Fact] // 4
    public void A_dependent_activation_without_effect_changes_nothing()
    {
        Tensor x = cat([s_x, s_x.sum(1, keepdim: true)], 1), w = cat([s_w, zeros(2, 1, dtype: float64)], 1);
        LayerBasis one = InteractionBasis.Compute(Linear(s_w), s_x, s_raw).Layers[0], two = InteractionBasis.Compute(Linear(w), x, s_raw).Layers[0];
        Assert.Equal(2, two.Size);
        AssertClose(Values(one.Lambda), two.Lambda, 1e-10);
        AssertClose(Values(one.Coordinates(s_x).abs()), two.Coordinates(x).abs(), 1e-10);
    }

    [Theory] // 5
    [InlineData(1, BasisKind.Local)]
    [InlineData(2, BasisKind.Local)]
    [InlineData(3, BasisKind.Final)]
    public void Coordinates_are_uncorrelated_and_gradients_orthonormal(int seed, BasisKind kind)
    {
        SectionedModel model = RandomNet(seed, 5, 7, 6, 4);
        Tensor x = randn([200, 5], float64);
        InteractionGraph graph = InteractionBasis.Compute(model, x, new InteractionBasisOptions { Basis = kind, ChunkSize = 64 });
        IReadOnlyList<Tensor> activations = model.Activations(x);
        for (int l = 0; l < 3; l++)
        {
            LayerBasis basis = graph.Layers[l];
            Tensor fhat = basis.Coordinates(activations[l]);
            AssertClose(Values(diag(basis.Lambda)), fhat.t().matmul(fhat) / 200, 1e-10);
            int target = kind == BasisKind.Local ? l + 1 : 3;
            Tensor gram = InteractionBasis.JacobianGram(model, l, target, activations[l], graph.Layers[target].C, new InteractionBasisOptions(), closedForm: false);
            AssertClose(Values(eye(basis.Size, dtype: float64)), basis.CPinv.matmul(gram).matmul(basis.CPinv.t()), 1e-9);
            Tensor projector = basis.C.matmul(basis.CPinv);
            AssertClose(Values(projector), projector.matmul(projector), 1e-9);
            Assert.Equal(basis.Size, projector.trace().ToDouble(), 1e-8);
        }
    }

    [Fact]
    public void The_closed_form_is_the_sum_over_passes_and_random_sources_estimate_it()
    {
        SectionedModel model = RandomNet(4, 5, 7, 3);
        Tensor f = model.Activations(randn([300, 5], float64))[0], c = randn([7, 4], float64);
        var options = new InteractionBasisOptions { ChunkSize = 100 };
        Tensor closed = InteractionBasis.JacobianGram(model, 0, 1, f, c, options), exact = InteractionBasis.JacobianGram(model, 0, 1, f, c, options, closedForm: false);
        AssertClose(Values(exact), closed, 1e-9);
        Tensor estimate = InteractionBasis.JacobianGram(model, 0, 1, f, c, options with { StochasticSources = 100 }, closedForm: false);
        Assert.True((estimate - exact).norm().ToDouble() < .1 * exact.norm().ToDouble());
        AssertClose(Values(estimate), InteractionBasis.JacobianGram(model, 0, 1, f, c, options with { StochasticSources = 100 }, closedForm: false), 0);
    }

    [Fact]
    public void Integration_follows_the_path()
    {
        // One coordinate, f -> f^3: the gradient at the end is 3 f^2; averaged over the path it is f^2. So contributions are 3 f^3 and f^3.
        var cube = new SectionedModel(["f", "out"], [x => x.pow(3)]);
        Tensor x = tensor(new double[,] { { 1 }, { -1 }, { 2 }, { -2 } });
        double Edge(IntegrationMethod method, int n) => InteractionBasis.Compute(cube, x, new InteractionBasisOptions { Basis = BasisKind.Neuron, Center = false, Integration = method, Intervals = n }).Edges[0].Weights.ToDouble();
        double sixth = (1 + 1 + 64 + 64) / 4.0;
        Assert.Equal(9 * sixth, Edge(IntegrationMethod.Gradient, 1), 1e-9);
        Assert.Equal(sixth, Edge(IntegrationMethod.GaussLegendre, 2), 1e-9); // exact for cubics
        Assert.Equal(sixth, Edge(IntegrationMethod.Trapezoidal, 2000), 1e-3);
    }

    [Fact] // 6
    public void The_rank_of_the_behavioural_hessian_is_the_product_of_the_ranks()
    {
        Seeds.Set(5);
        var architecture = new Architecture([3], [new("w", LayerKind.Linear) { Width = 4, Bias = false }, new("relu", LayerKind.Relu), new("out", LayerKind.Linear) { Width = 3, Bias = false }]);
        using var network = new Network(architecture);
        network.to(ScalarType.Float64);
        Tensor x = randn([400, 2], float64).matmul(randn([2, 3], float64)); // rank 2
        using (no_grad()) network.get_parameter("out.weight")!.select(1, 3).zero_();
        Assert.Equal(6, BehavioralHessian.Rank(network, [network.get_parameter("w.weight")!], x.narrow(0, 0, 100)));
        IReadOnlyList<MapDegeneracy> report = DegeneracyReport.Analyze(network, x);
        Assert.Equal((2, 3, 6, 6), (report[0].ActivationRank, report[0].GradientRank, report[0].EffectiveParameters, report[0].FreeParameters));

        Tensor reference = network.call(x).detach();
        Assert.Equal(0, BehavioralLoss.Of(network.call(x), reference).ToDouble());
        // Along a null direction of the Hessian the loss stays 0 to second order; along its largest it grows as half v^T H v.
        Tensor hessian = BehavioralHessian.Matrix(network, [network.get_parameter("w.weight")!], x);
        (Tensor values, Tensor vectors) = linalg.eigh(hessian);
        double Moved(int k)
        {
            using var _ = no_grad();
            Tensor w = network.get_parameter("w.weight")!, step = 1e-4 * vectors.select(1, k).reshape(w.shape);
            w.add_(step);
            double loss = BehavioralLoss.Of(network.call(x), reference).ToDouble();
            w.sub_(step);
            return loss;
        }
        Assert.Equal(.5e-8 * values[11].ToDouble(), Moved(11), .02e-8 * values[11].ToDouble());
        Assert.True(Moved(0) < 1e-6 * Moved(11));
    }

    [Fact]
    public void Units_that_fire_together_and_units_that_never_fire_are_counted()
    {
        Seeds.Set(6);
        var architecture = new Architecture([3], [new("w", LayerKind.Linear) { Width = 6 }, new("relu", LayerKind.Relu), new("out", LayerKind.Linear) { Width = 2 }]);
        using var network = new Network(architecture);
        using (no_grad())
        {
            Tensor w = network.get_parameter("w.weight")!, b = network.get_parameter("w.bias")!;
            w[1] = w[0] * 2;
            b[1] = b[0] * 2; // the same pattern
            w[4] = w[0] * .5;
            b[4] = b[0] * .5;
            w[5] = zeros(3);
            b[5] = -1; // dead
        }
        MapDegeneracy map = DegeneracyReport.Analyze(network, randn(500, 3))[0];
        Assert.Equal([0, 1, 4], Assert.Single(map.SynchronizedBlocks));
        Assert.Equal([5], map.DeadUnits);
        Assert.Equal(6, map.SynchronizedDirections); // 3 * 2
        Assert.Equal((6, 4), (map.Outputs, map.Inputs));
        Assert.True(map.GradientRank <= 2 + 3); // the dead unit has no gradient and out has rank 2 a pattern
    }

    [Fact] // 7
    public void Modularity_has_the_worked_values()
    {
        var graph = new WeightedGraph(6);
        foreach ((int a, int b) in new[] { (0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3) }) graph.Add(a, b, 1);
        Assert.Equal(5 / 14.0, Leiden.Modularity(graph, [0, 0, 0, 1, 1, 1]), 1e-12);
        Assert.Equal(0, Leiden.Modularity(graph, [0, 0, 0, 0, 0, 0]), 1e-12);
        Assert.Equal([0, 0, 0, 1, 1, 1], Leiden.Communities(graph));
        AssertClose([4, 2, 0], ModularityAnalysis.Transform(tensor(new[] { 1e-1, 1e-3, 1e-7 }), EdgeTransform.Log), 1e-12);
        AssertClose([.2, .8], ModularityAnalysis.Transform(tensor(new[] { 1.0, 4 }), EdgeTransform.AbsSum), 1e-12);
        AssertClose([.25, 1], ModularityAnalysis.Transform(tensor(new[] { 1.0, 4 }), EdgeTransform.Max), 1e-12);
        AssertClose([1, 2], ModularityAnalysis.Transform(tensor(new[] { 1.0, 4 }), EdgeTransform.Sqrt), 1e-12);
    }

    [Fact]
    public void Blocks_of_a_network_are_its_modules()
    {
        manual_seed(7);
        Tensor Block() => block_diag(randn([4, 4], float64), randn([4, 4], float64));
        SectionedModel model = SectionedModel.OfLinear(["a", "b", "c"], [new LinearSection(Block(), null, true), new LinearSection(Block(), null, false)]);
        InteractionGraph graph = InteractionBasis.Compute(model, randn([3000, 8], float64), new InteractionBasisOptions { Basis = BasisKind.Neuron });
        ModulePartition partition = ModularityAnalysis.Detect(graph);
        Assert.All(partition.Modules, layer =>
        {
            Assert.Single(layer[..4].Distinct());
            Assert.Single(layer[4..].Distinct());
            Assert.NotEqual(layer[0], layer[4]);
        });
        Assert.True(partition.Modularity > .3);
        Assert.Equal(partition.Modules[0], ModularityAnalysis.Detect(graph).Modules[0]);
    }

    [Fact] // 8
    public void With_everything_kept_the_network_is_itself_and_with_nothing_it_is_constant()
    {
        SectionedModel model = RandomNet(8, 5, 6, 6, 3);
        Tensor x = randn([100, 5], float64);
        InteractionGraph graph = InteractionBasis.Compute(model, x, new InteractionBasisOptions { Truncation = 0 });
        Tensor reference = model.Activations(x)[^1];
        double Distance(Tensor outputs) => -(outputs - reference).square().mean().sqrt().ToDouble();
        var study = new AblationStudy(model, graph, x, Distance);
        Assert.Equal(0, study.Baseline);
        for (int l = 0; l < 3; l++)
        {
            Assert.True(Distance(study.WithNodes(l, graph.Layers[l].Size)) > -1e-8);
            Assert.True(Distance(study.WithEdges(l, (int)graph.Edges[l].Weights.numel())) > -1e-8);
            Assert.True(study.WithNodes(l, 0).std(0).max().ToDouble() < 1e-9);
            double[] curve = study.EdgeCurve(l, [0, (int)graph.Edges[l].Weights.numel()]);
            Assert.True(curve[0] < curve[1]);
        }
        int needed = study.EdgesNeeded(1, .05);
        Assert.True(Distance(study.WithEdges(1, needed)) >= -.05 && Distance(study.WithEdges(1, needed - 1)) < -.05);
        Assert.True(study.Resolution(1, .05) > 0);
    }

    [Fact]
    public void A_network_is_cut_at_its_layers()
    {
        Seeds.Set(9);
        Architecture mlp = Architectures.Mlp([1, 4, 4], [6, 5], 3);
        using var network = new Network(mlp);
        string[] names = [.. mlp.Layers.Select(l => l.Name)];
        SectionedModel model = SectionedModel.Of(network, [names[2], names[4], names[5]]);
        Assert.All(model.Linear, Assert.NotNull);
        Assert.True(model.Linear[0]!.Relu && !model.Linear[1]!.Relu);
        Tensor x = randn(20, 1, 4, 4);
        network.eval();
        AssertClose(Values(network.call(x)), model.Activations(x)[^1], 1e-5);

        Architecture transformer = Architectures.VisionTransformer(1, 8, 4, 8, 2, 2, 16, 3);
        using var vit = new Network(transformer);
        SectionedModel tokens = SectionedModel.Of(vit, ["blocks.0.add2", "blocks.1.add2", "features"]);
        Tensor images = randn(30, 1, 8, 8);
        InteractionGraph graph = InteractionBasis.Compute(tokens, images, new InteractionBasisOptions { ChunkSize = 16 });
        Assert.Equal([30, 5, 8], tokens.Activations(images)[0].shape);
        Tensor fhat = graph.Layers[0].Coordinates(tokens.Activations(images)[0]).flatten(0, 1);
        AssertClose(Values(diag(graph.Layers[0].Lambda)), fhat.t().matmul(fhat) / fhat.shape[0], 1e-9);
        var study = new AblationStudy(tokens, graph, images, o => -(o - tokens.Activations(images)[^1]).abs().max().ToDouble());
        Assert.True(study.EdgeCurve(1, [(int)graph.Edges[1].Weights.numel()])[0] > -1e-6);
        Assert.Contains("where the streams join", Assert.Throws<ArgumentException>(() => SectionedModel.Of(vit, ["blocks.0.mlp.linear1", "blocks.1.add2"])).Message);
    }

    [Fact]
    public void A_residual_stream_is_cut_inside_its_layer_normalisation_whose_variance_stays_apart()
    {
        Seeds.Set(2);
        using var network = new Network(Architectures.VisionTransformer(1, 6, 3, 8, 1, 2, 12, 3));
        network.eval();
        SectionedModel model = SectionedModel.Of(network, ["position_embedding", "blocks.0.norm2.in+blocks.0.add1", "blocks.0.add2", "head"]);
        Tensor x = randn(40, 1, 6, 6);
        IReadOnlyList<Tensor> f = model.Activations(x);
        AssertClose(Values(network.call(x)), f[^1], 1e-5);
        Assert.Equal([40, 5, 17], f[1].shape);
        Assert.Equal([8], model.Isolated[1]);
        InteractionGraph graph = InteractionBasis.Compute(model, x);
        LayerBasis middle = graph.Layers[1];
        Assert.Equal(1, middle.Isolated);
        double[] column = Values(middle.C.select(1, 0)), row = Values(middle.C[8]);
        Assert.True(column[8] > 0 && column.Where((_, i) => i != 8).All(v => v == 0)); // the variance alone
        Assert.True(row.Skip(1).All(v => v == 0)); // and nowhere else
        Tensor gram = InteractionBasis.JacobianGram(model, 1, 2, f[1], graph.Layers[2].C, new InteractionBasisOptions());
        AssertClose(Values(eye(middle.Size - 1, dtype: float64)), middle.CPinv.matmul(gram).matmul(middle.CPinv.t()).narrow(0, 1, middle.Size - 1).narrow(1, 1, middle.Size - 1), 1e-9);
        Assert.Equal(1, middle.CPinv.matmul(gram).matmul(middle.CPinv.t())[0, 0].ToDouble(), 1e-9);
        // What was dropped, such as the stream's mean, which the last normalisation takes away, has no influence.
        Assert.Equal(7, graph.Layers[2].Size);
        AssertClose(Values(model.Continue(1, f[1])), model.Continue(1, middle.Activations(middle.Coordinates(f[1]))), 1e-7);
        var study = new AblationStudy(model, graph, x, o => -(o - f[^1]).abs().max().ToDouble());
        Assert.Equal((middle.Size - 1, (middle.Size - 1) * 7), (study.NodeCount(1), study.EdgeCount(1)));
        Assert.True(study.NodeCurve(1, [middle.Size - 1])[0] > -1e-6);
        Assert.True(study.EdgeCurve(1, [study.EdgeCount(1)])[0] > -1e-6);
        // Without any other direction the variance still varies, so the output does.
        Assert.True(study.WithNodes(1, 0).std(0).max().ToDouble() > 1e-6);
        Assert.Contains("norm2+blocks.0.add1", Assert.Throws<ArgumentException>(() => SectionedModel.Of(network, ["position_embedding", "blocks.0.norm2", "head"])).Message);

        // The report covers maps over positions, and their values beside a residual stream.
        IReadOnlyList<MapDegeneracy> report = DegeneracyReport.Analyze(network, x);
        Assert.Equal(7, report.Count);
        MapDegeneracy query = report.Single(m => m.Layer.EndsWith("query", StringComparison.Ordinal)), first = report.Single(m => m.Layer.EndsWith("linear1", StringComparison.Ordinal));
        Assert.Equal((9, 8), (query.Inputs, query.ActivationRank)); // a normalised vector has no mean: 7 directions and the constant
        Assert.Equal((12, 12), (first.Outputs, first.GradientRank));
    }

    [Fact]
    public void Biases_are_scaled_along_the_path()
    {
        // ReLU maps are homogeneous in the activation and the constant 1 together, so that every rule gives the edges of the closed form; opaque sections have no bias to scale.
        Seeds.Set(3);
        using var network = new Network(Architectures.Mlp([4], [6, 5], 3));
        Tensor x = randn([150, 4], float64);
        string[] cuts = ["layers.2", "layers.5"]; // Linear, ReLU, Linear: no closed form
        SectionedModel model = SectionedModel.Of(network, cuts), opaque = new(model.Nodes, model.Sections, x => network.Evaluate(x.to(float32), cuts[0]).to(float64).detach());
        Assert.Null(model.Linear[0]);
        EdgeMatrix Edges(SectionedModel of, IntegrationMethod method) => InteractionBasis.Compute(of, x, new InteractionBasisOptions { Integration = method, Intervals = 4 }).Edges[0];
        EdgeMatrix gradient = Edges(model, IntegrationMethod.Gradient), quadrature = Edges(model, IntegrationMethod.GaussLegendre);
        AssertClose(Values(gradient.Weights), quadrature.Weights, 1e-10);
        AssertClose(Values(gradient.Constant), quadrature.Constant, 1e-10);
        Assert.True((Edges(opaque, IntegrationMethod.GaussLegendre).Weights - gradient.Weights).abs().max().ToDouble() > 1e-4 * gradient.Weights.max().ToDouble());
        AssertClose(Values(gradient.Weights), Edges(model, IntegrationMethod.Gradient).Weights, 0); // and are put back
    }

    [Fact]
    public void Modules_in_a_row_are_sections()
    {
        manual_seed(4);
        var first = nn.Sequential(nn.Linear(3, 5), nn.ReLU());
        var second = nn.Linear(5, 2);
        Assert.Contains("Float64", Assert.Throws<ArgumentException>(() => SectionedModel.Of(["a", "b", "c"], [first, second])).Message);
        first.to(ScalarType.Float64);
        second.to(ScalarType.Float64);
        SectionedModel model = SectionedModel.Of(["a", "b", "c"], [first, second]);
        Assert.True(model.Linear[0]!.Relu && !model.Linear[1]!.Relu);
        Tensor x = randn([50, 3], float64);
        AssertClose(Values(second.call(first.call(x))), model.Activations(x)[^1], 1e-12);
        InteractionGraph graph = InteractionBasis.Compute(model, x), open = InteractionBasis.Compute(Opaque(model), x);
        for (int l = 0; l < 2; l++) AssertClose(Values(open.Edges[l].Weights), graph.Edges[l].Weights, 1e-8 * open.Edges[l].Weights.max().ToDouble());
    }

    [Fact]
    public void Neurons_are_taken_away_in_the_order_of_their_variance()
    {
        var model = SectionedModel.OfLinear(["a", "b"], [new LinearSection(tensor(new double[,] { { 1, 1 } }), null, false)]);
        Tensor x = tensor(new double[,] { { 1, 10 }, { -1, -10 }, { 1, -10 }, { -1, 10 } });
        InteractionGraph graph = InteractionBasis.Compute(model, x, new InteractionBasisOptions { Basis = BasisKind.Neuron });
        var study = new AblationStudy(model, graph, x, o => -o.square().mean().ToDouble());
        AssertClose([10, -10, -10, 10], study.WithNodes(0, 1), 1e-12);
        Assert.Equal(.99, graph.Layers[0].SmallestGap, 1e-12);
    }

    [Fact]
    public void Random_ReLU_networks_keep_both_invariants()
    {
        for (int seed = 20; seed < 40; seed++)
        {
            var random = SplitMix64.For(seed, 1);
            SectionedModel model = RandomNet(seed, 2 + random.Next(5), 4 + random.Next(5), 4 + random.Next(5), 1 + random.Next(4));
            Tensor x = randn([80, model.Linear[0]!.Weight.shape[1]], float64);
            InteractionGraph graph = InteractionBasis.Compute(model, x, new InteractionBasisOptions { Truncation = 1e-8 });
            IReadOnlyList<Tensor> f = model.Activations(x);
            for (int l = 0; l < 3; l++)
            {
                LayerBasis basis = graph.Layers[l];
                Tensor fhat = basis.Coordinates(f[l]), gram = InteractionBasis.JacobianGram(model, l, l + 1, f[l], graph.Layers[l + 1].C, new InteractionBasisOptions(), closedForm: false);
                double scale = basis.Lambda.max().ToDouble();
                AssertClose(Values(diag(basis.Lambda / scale)), fhat.t().matmul(fhat) / 80 / scale, 1e-10);
                AssertClose(Values(eye(basis.Size, dtype: float64)), basis.CPinv.matmul(gram).matmul(basis.CPinv.t()), 1e-10 * Math.Max(1, scale / basis.Lambda.min().ToDouble()));
            }
        }
    }

    [Fact]
    public void Planted_degeneracies_are_counted_exactly()
    {
        Seeds.Set(8);
        using var network = new Network(Architectures.Mlp([6], [8], 5));
        using (no_grad())
        {
            Tensor w = network.get_parameter("layers.1.weight")!, b = network.get_parameter("layers.1.bias")!, after = network.get_parameter("layers.3.weight")!;
            (w[1], b[1]) = (w[0] * 2, b[0] * 2); // 0, 1 and 5 fire together
            (w[5], b[5]) = (w[0] * .5, b[0] * .5);
            (w[3], b[3]) = (w[2] * 3, b[2] * 3); // 2 and 3 too
            b[7] = -1000; // dead
            after.select(1, 6).zero_(); // not read
        }
        Tensor x = randn(600, 4);
        IReadOnlyList<MapDegeneracy> report = DegeneracyReport.Analyze(network, cat([x, x.narrow(1, 0, 2)], 1));
        MapDegeneracy hidden = report[0], last = report[1];
        Assert.Equal(2, hidden.SynchronizedBlocks.Count);
        Assert.Equal([0, 1, 5], hidden.SynchronizedBlocks[0]);
        Assert.Equal([2, 3], hidden.SynchronizedBlocks[1]);
        Assert.Equal([7], hidden.DeadUnits);
        Assert.Equal(6 + 2, hidden.SynchronizedDirections);
        Assert.Equal((7, 5, 6, 30, 56 - 30), (hidden.Inputs, hidden.ActivationRank, hidden.GradientRank, hidden.EffectiveParameters, hidden.FreeParameters)); // 4 inputs and the constant; 8 units less the dead and the unread one
        Assert.Equal((9, 5, 5), (last.Inputs, last.ActivationRank, last.GradientRank)); // {0, 1, 5}, {2, 3}, 4, 6 and the constant
        Assert.Empty(last.SynchronizedBlocks);
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        SectionedModel model = RandomNet(1, 3, 4, 2);
        Assert.Contains("at least two", Assert.Throws<ArgumentException>(() => InteractionBasis.Compute(model, randn([1, 3], float64))).Message);
        Assert.Contains("not finite", Assert.Throws<ArgumentException>(() => InteractionBasis.Compute(model, full(4, 3, double.NaN, dtype: float64))).Message);
        Assert.Contains("cannot be computed", Assert.Throws<ArgumentException>(() => InteractionBasis.Compute(model, randn([4, 5], float64))).Message);
        SectionedModel blind = SectionedModel.OfLinear(["a", "b"], [new LinearSection(zeros(2, 3, dtype: float64), null, false)]);
        Assert.Contains("does not depend on layer 'a'", Assert.Throws<ArgumentException>(() => InteractionBasis.Compute(blind, randn([9, 3], float64))).Message);
        Assert.Contains("does not vary", Assert.Throws<ArgumentException>(() => InteractionBasis.Compute(model, ones([5, 3], float64))).Message);
        Assert.Throws<ArgumentException>(() => new SectionedModel(["a"], []));
        Assert.Throws<ArgumentException>(() => new SectionedModel(["a", "b"], []));
        using var network = new Network(Architectures.Mlp([4], [3], 2));
        Assert.Contains("no layer 'x'", Assert.Throws<ArgumentException>(() => SectionedModel.Of(network, ["x", "y"])).Message);
        Assert.Contains("Complex", Assert.Throws<ArgumentException>(() => model.Activations(randn([4, 3], ScalarType.ComplexFloat64))).Message);
    }
}
