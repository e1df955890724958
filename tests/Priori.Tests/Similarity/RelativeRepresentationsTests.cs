using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Runtime;
using Priori.Similarity;
using Priori.Training;

namespace Priori.Tests.Similarity;

public class RelativeRepresentationsTests
{
    private static readonly double[,] s_z = { { 1, 0 }, { 1, 1 }, { 0, 2 }, { -1, 1 } };
    private static readonly double[,] s_anchors = { { 1, 0 }, { 0, 1 }, { 1, -1 } };
    private static readonly RelativeProjectionOptions s_plain = new() { OutputNormalization = OutputNormalization.None };

    private static Tensor Z => tensor(s_z);

    private static Tensor Anchors => tensor(s_anchors);

    private static Tensor Gaussian(int seed, params long[] shape) => randn(shape, float64, generator: new Generator((ulong)seed));

    private static void Near(double[,] expected, Tensor actual, double tolerance = 1e-6) => Assert.True(tensor(expected).allclose(actual, rtol: 0, atol: tolerance), $"expected {tensor(expected).ToString(TorchSharp.TensorStringStyle.Numpy)}, got {actual.ToString(TorchSharp.TensorStringStyle.Numpy)}");

    // Check 1
    [Fact]
    public void Cosines_of_the_worked_example()
    {
        double[,] expected = { { 1, 0, .707107 }, { .707107, .707107, 0 }, { 0, 1, -.707107 }, { -.707107, .707107, -1 } };
        Near(expected, RelativeProjection.Project(Z, Anchors));
        using var projection = new RelativeProjection(3, s_plain);
        Near(expected, projection.call(Z, Anchors));
        Assert.Equal(3, projection.OutputWidth);
    }

    // Check 2
    [Fact]
    public void Rotation_and_scaling_change_nothing_but_shifts_and_single_features_do()
    {
        Tensor before = RelativeProjection.Project(Z, Anchors);
        double c = Math.Cos(.7), s = Math.Sin(.7);
        Tensor rotation = tensor(new double[,] { { c, s }, { -s, c } }), shift = tensor(new double[] { .5, .2 }), stretch = tensor(new double[] { 1, 3 });
        Assert.True(before.allclose(RelativeProjection.Project(3.7 * Z.matmul(rotation), 3.7 * Anchors.matmul(rotation)), rtol: 0, atol: 1e-12));
        Tensor shifted = RelativeProjection.Project(Z + shift, Anchors + shift);
        Assert.Equal(.503239, (shifted - before).abs().max().item<double>(), 1e-6);
        Near(new double[,] { { 1, .503239, .812418 } }, shifted.narrow(0, 0, 1));
        Assert.Equal(.8, (RelativeProjection.Project(Z * stretch, Anchors * stretch) - before).abs().max().item<double>(), 1e-6);
        // What the options are for:
        foreach (SpaceNormalization space in new[] { SpaceNormalization.Center, SpaceNormalization.Standardize })
        {
            Tensor normalized = RelativeProjection.Project(Z, Anchors, space: space);
            Assert.True(normalized.allclose(RelativeProjection.Project(Z + shift, Anchors + shift, space: space), rtol: 0, atol: 1e-12));
            bool unchanged = normalized.allclose(RelativeProjection.Project(Z * stretch, Anchors * stretch, space: space), rtol: 0, atol: 1e-12);
            Assert.Equal(space == SpaceNormalization.Standardize, unchanged);
            using var projection = new RelativeProjection(3, s_plain with { Space = space });
            Assert.True(normalized.allclose(projection.call(Z, Anchors), rtol: 0, atol: 1e-12));
        }
    }

    // Check 3
    [Fact]
    public void Layer_normalisation_of_the_worked_example()
    {
        using var projection = new RelativeProjection(3);
        Near(new double[,] { { .707075, .707075, -1.414150 } }, projection.call(Z.to(float32), Anchors.to(float32)).narrow(0, 1, 1).to(float64), 2e-5);
        using var exact = new RelativeProjection(3).to(float64);
        Near(new double[,] { { .707075, .707075, -1.414150 } }, exact.call(Z, Anchors).narrow(0, 1, 1));
    }

    // Check 4
    [Fact]
    public void The_gradient_is_that_of_a_cosine_and_anchors_get_none()
    {
        Tensor z = tensor(new double[,] { { 1, 2 } }).requires_grad_(), anchor = tensor(new double[,] { { 1, 1 } }).requires_grad_();
        using var projection = new RelativeProjection(1, s_plain);
        Tensor cosine = projection.call(z, anchor);
        Assert.Equal(.948683, cosine.item<double>(), 1e-6);
        cosine.sum().backward();
        Near(new double[,] { { .126491, -.063246 } }, z.grad!);
        Assert.Equal(0, (z.grad! * z).sum().item<double>(), 1e-12);
        Assert.Null(anchor.grad);
    }

    // Check 5
    [Fact]
    public void Coordinates_of_least_norm_in_the_anchors()
    {
        Tensor coordinates = RelativeProjection.Project(Z, Anchors, RelativeSimilarity.BasisChange);
        Near(new double[,] { { .666667, .333333, .333333 }, { 1, 1, 0 }, { .666667, 1.333333, -.666667 }, { -.333333, .333333, -.666667 } }, coordinates);
        Assert.True(coordinates.matmul(Anchors).allclose(Z, atol: 1e-12));
        // Independent anchors: every invertible linear map leaves the coordinates.
        Tensor map = Gaussian(1, 5, 5), z = Gaussian(2, 7, 5), anchors = Gaussian(3, 4, 5);
        Tensor inside = z.narrow(1, 0, 4).matmul(anchors); // in the anchors' span
        Assert.True(RelativeProjection.Project(inside, anchors, RelativeSimilarity.BasisChange).allclose(RelativeProjection.Project(inside.matmul(map), anchors.matmul(map), RelativeSimilarity.BasisChange), rtol: 0, atol: 1e-8));
        // Collinear anchors share their coordinate: 2 = 0.4 * 1 + 0.8 * 2.
        Near(new double[,] { { .4, .8 } }, RelativeProjection.Project(tensor(new double[,] { { 2, 0 } }), tensor(new double[,] { { 1, 0 }, { 2, 0 } }), RelativeSimilarity.BasisChange), 1e-9);
    }

    [Fact]
    public void Inner_products_are_divided_by_the_root_of_the_width()
    {
        double root = Math.Sqrt(2);
        Near(new double[,] { { 0, 2 / root, -2 / root } }, RelativeProjection.Project(Z, Anchors, RelativeSimilarity.Inner).narrow(0, 2, 1), 1e-12);
        using var projection = new RelativeProjection(3, s_plain with { Similarity = RelativeSimilarity.Inner });
        Assert.True(projection.call(Z, Anchors).allclose(RelativeProjection.Project(Z, Anchors, RelativeSimilarity.Inner)));
    }

    // Check 6 is in FarthestPointSamplingTests; here through the anchors.
    [Fact]
    public void Anchors_by_every_strategy()
    {
        Tensor data = tensor(new double[,] { { 0, 0 }, { 1, 0 }, { 5, 0 }, { 0, 4 }, { 5, 4 } });
        for (int seed = 0; seed < 20; seed++)
        {
            long[] farthest = [.. AnchorSet.Select(data, AnchorStrategy.FarthestPoint, 4, seed).Indices];
            if (farthest[0] == 0) Assert.Equal([0, 4, 2, 3], farthest);
        }
        Assert.Contains(Enumerable.Range(0, 20), seed => AnchorSet.Select(data, AnchorStrategy.FarthestPoint, 4, seed).Indices[0] == 0);

        Tensor many = randn(200, 3, 2), labels = cat([zeros(120, int64), ones(75, int64), full(5, 2, int64)]);
        AnchorSet random = AnchorSet.Select(many, AnchorStrategy.Random, 50, seed: 3);
        Assert.Equal(50, random.Indices.Distinct().Count());
        Assert.Equal(random.Indices, AnchorSet.Select(many, AnchorStrategy.Random, 50, seed: 3).Indices);
        Assert.NotEqual(random.Indices, AnchorSet.Select(many, AnchorStrategy.Random, 50, seed: 4).Indices);
        AnchorSet stratified = AnchorSet.Select(many, AnchorStrategy.Stratified, 31, labels: labels); // the third class has only 5
        Assert.Equal([13, 13, 5], stratified.TakeParallel(labels).bincount(null).data<long>().ToArray());
        Assert.Equal(31, stratified.Indices.Distinct().Count());
        Assert.Equal(stratified.TakeParallel(labels).data<long>().ToArray().Order(), stratified.TakeParallel(labels).data<long>().ToArray()); // class by class

        Tensor clusters = cat([randn(30, 2) * .01, randn(30, 2) * .01 + 10, randn(30, 2) * .01 - 10]);
        Assert.Equal([0, 1, 2], AnchorSet.Select(clusters, AnchorStrategy.KMeans, 3).Indices.Select(i => i / 30).Order());
        Assert.Equal(90, AnchorSet.Select(clusters, AnchorStrategy.KMeans, 90).Indices.Distinct().Count());
    }

    [Fact]
    public void A_set_of_anchors_knows_its_data()
    {
        Tensor data = randn(10, 4), parallel = randn(10, 7);
        AnchorSet set = AnchorSet.Select(data, AnchorStrategy.Random, 3);
        AnchorSet read = AnchorSet.FromJson(set.ToJson());
        Assert.Equal(set.Indices, read.Indices);
        Assert.Equal((set.RowCount, set.DataHash, set.Strategy, set.Seed), (read.RowCount, read.DataHash, read.Strategy, read.Seed));
        Assert.True(read.Take(data).equal(data.index_select(0, tensor(set.Indices.ToArray()))).all().item<bool>());
        Assert.Equal([3, 7], read.TakeParallel(parallel).shape);
        Assert.Contains("hash", Assert.Throws<ArgumentException>(() => read.Take(data + 1)).Message);
        Assert.Contains("10 samples", Assert.Throws<ArgumentException>(() => read.TakeParallel(randn(9, 4))).Message);
        Assert.NotEqual(AnchorSet.Hash(data), AnchorSet.Hash(data.t()));
        Assert.Equal([5L], AnchorSet.Provided(data, [5, 2, 5]).Duplicates);
        Assert.Empty(set.Duplicates);
    }

    [Fact]
    public void Anchors_that_cannot_be_are_refused()
    {
        Tensor data = randn(10, 4);
        Assert.Contains("1..10", Assert.Throws<ArgumentOutOfRangeException>(() => AnchorSet.Select(data, AnchorStrategy.Random, 11)).Message);
        Assert.Contains("1..10", Assert.Throws<ArgumentOutOfRangeException>(() => AnchorSet.Select(data, AnchorStrategy.KMeans, 0)).Message);
        Assert.Contains("class of each sample", Assert.Throws<ArgumentException>(() => AnchorSet.Select(data, AnchorStrategy.Stratified, 2)).Message);
        Assert.Contains("labels [3]", Assert.Throws<ArgumentException>(() => AnchorSet.Select(data, AnchorStrategy.Stratified, 2, labels: zeros(3, int64))).Message);
        Assert.Contains("AnchorSet.Provided", Assert.Throws<ArgumentException>(() => AnchorSet.Select(data, AnchorStrategy.Provided, 2)).Message);
        Assert.Contains("row 10", Assert.Throws<ArgumentOutOfRangeException>(() => AnchorSet.Provided(data, [1, 10])).Message);
        Assert.Throws<ArgumentException>(() => AnchorSet.Provided(data, []));
        Assert.Throws<ArgumentException>(() => AnchorSet.FromJson("{}"));
        Assert.Throws<ArgumentOutOfRangeException>(() => AnchorSet.FromJson("{\"indices\":[7],\"rowCount\":5,\"dataHash\":\"x\",\"strategy\":\"random\",\"seed\":0}"));
    }

    // Check 7
    [Fact]
    public void Similarity_of_two_spaces_of_the_worked_example()
    {
        Tensor a = tensor(new double[,] { { 1, 0 }, { 0, 1 }, { 1, 1 }, { -1, 1 } }), b = tensor(new double[,] { { .2, 1 }, { .1, 1 }, { 1, .9 }, { -1, .2 } });
        Assert.Equal([1 / 3.0, 1, 1, 1], LatentSpaceComparison.JaccardPerRow(a, b, 2).data<double>().ToArray());
        Assert.Equal(10 / 12.0, LatentSpaceComparison.Jaccard(a, b, 2), 1e-12);
        Assert.Equal([4, 1, 1, 1], LatentSpaceComparison.Ranks(a, b));
        Assert.Equal(.8125, LatentSpaceComparison.Mrr(a, b), 1e-12);
        Assert.Equal(.755455, LatentSpaceComparison.Cosine(a, b), 1e-6);
        Assert.Equal(.75, LatentSpaceComparison.RecallAt(a, b, 3), 1e-12);
        Assert.Equal([2L], LatentSpaceComparison.Nearest(a, b, 1)[2].data<long>().ToArray());
        Assert.Equal(RepresentationSimilarity.LinearCka(a, b).item<double>(), LatentSpaceComparison.Cka(a, b));
        Assert.Equal(1, LatentSpaceComparison.OwnNeighbours(a, cat([a, zeros(4, 1, float64)], 1), 2), 1e-12); // another width
    }

    [Fact]
    public void Blocks_of_rows_give_what_all_rows_give()
    {
        Tensor a = Gaussian(4, 1300, 6), b = a + .3 * Gaussian(5, 1300, 6);
        Tensor s = functional.normalize(b, dim: 1).matmul(functional.normalize(a, dim: 1).t());
        int[] expected = [.. (s > s.diagonal().unsqueeze(1)).sum(1).data<long>().ToArray().Select(r => (int)r + 1)];
        Assert.Equal(expected, LatentSpaceComparison.Ranks(a, b));
        Assert.Equal(s.argmax(1).data<long>().ToArray(), LatentSpaceComparison.Nearest(a, b, 3).select(1, 0).data<long>().ToArray());
        Assert.Equal(1, LatentSpaceComparison.Ranks(ones(5, 2), ones(5, 2))[0]);
        Assert.Equal(5, LatentSpaceComparison.Ranks(ones(5, 2), ones(5, 2))[4]); // a space without differences finds nothing
        Tensor blocks = RelativeProjection.Project(Gaussian(6, 9000, 4), a.narrow(0, 0, 7).narrow(1, 0, 4));
        Assert.True(blocks.allclose(functional.normalize(Gaussian(6, 9000, 4), dim: 1).matmul(functional.normalize(a.narrow(0, 0, 7).narrow(1, 0, 4), dim: 1).t()), rtol: 0, atol: 1e-12));
    }

    [Fact]
    public void Similarity_to_a_good_network_and_its_performance()
    {
        Tensor reference = tensor(new double[,] { { 1, 0 } });
        Tensor At(double degrees) => tensor(new double[,] { { Math.Cos(degrees * Math.PI / 180), Math.Sin(degrees * Math.PI / 180) } });
        PerformanceProxy proxy = LatentSpaceComparison.PerformanceProxy(reference, [At(0), At(60), At(90)], [.9, .7, .5]);
        Assert.Equal([1, .5, 0], proxy.Similarities.Select(s => Math.Round(s, 9)));
        Assert.Equal(1, proxy.Pearson, 1e-9);
        Assert.Equal(-1, LatentSpaceComparison.PerformanceProxy(reference, [At(0), At(60), At(90)], [.5, .7, .9]).Pearson, 1e-9);
        Assert.Throws<ArgumentException>(() => LatentSpaceComparison.PerformanceProxy(reference, [At(0)], [.5]));
    }

    [Fact]
    public void Spaces_that_cannot_be_compared_are_refused()
    {
        Tensor a = randn(5, 3), zero = randn(5, 3);
        zero[3] = zeros(3);
        Assert.Contains("different widths", Assert.Throws<ArgumentException>(() => LatentSpaceComparison.Mrr(a, randn(5, 4))).Message);
        Assert.Contains("[4, 3]", Assert.Throws<ArgumentException>(() => LatentSpaceComparison.Cosine(a, randn(4, 3))).Message);
        Assert.Contains("1..5", Assert.Throws<ArgumentOutOfRangeException>(() => LatentSpaceComparison.Jaccard(a, a, 6)).Message);
        Assert.Contains("1..5", Assert.Throws<ArgumentOutOfRangeException>(() => LatentSpaceComparison.Jaccard(a, a, 0)).Message);
        Assert.Contains("Row 3", Assert.Throws<ArgumentException>(() => LatentSpaceComparison.Ranks(a, zero)).Message);
        Assert.Contains("Embedding 3", Assert.Throws<ArgumentException>(() => RelativeProjection.Project(zero, a)).Message);
        Assert.Contains("Anchor 3", Assert.Throws<ArgumentException>(() => RelativeProjection.Project(a, zero)).Message);
        zero[1, 2] = float.NaN;
        Assert.Contains("Embedding 1 holds NaN", Assert.Throws<ArgumentException>(() => RelativeProjection.Project(zero, a, RelativeSimilarity.Inner)).Message);
        Assert.Contains("same encoder", Assert.Throws<ArgumentException>(() => RelativeProjection.Project(a, randn(5, 4))).Message);
        Assert.Contains("one floating-point type", Assert.Throws<ArgumentException>(() => RelativeProjection.Project(a, randn(5, 3, float64))).Message);
        using var projection = new RelativeProjection(4);
        Assert.Contains("4 anchors, but there are 5", Assert.Throws<ArgumentException>(() => projection.call(a, a)).Message);
    }

    // Check 8
    [Fact]
    public void Permuting_anchors_permutes_coordinates_and_an_anchors_own_coordinate_is_one()
    {
        Tensor z = Gaussian(7, 9, 4), anchors = Gaussian(8, 5, 4), order = tensor(new long[] { 3, 0, 4, 1, 2 });
        foreach (RelativeSimilarity similarity in Enum.GetValues<RelativeSimilarity>())
        {
            Tensor permuted = RelativeProjection.Project(z, anchors.index_select(0, order), similarity);
            Assert.True(permuted.allclose(RelativeProjection.Project(z, anchors, similarity).index_select(1, order), atol: 1e-10));
        }
        Assert.True(RelativeProjection.Project(anchors, anchors).diagonal().allclose(ones(5, float64), rtol: 0, atol: 1e-14));
    }

    // Check 8
    [Fact]
    public void A_model_stitched_with_itself_is_the_model()
    {
        Seeds.Set(0);
        Tensor anchors = randn(6, 5), x = randn(8, 5);
        using RelativeModel a = Model(anchors), b = Model(anchors);
        using StitchedModel self = ModelStitcher.Stitch(a, a), ab = ModelStitcher.Stitch(a, b);
        Assert.True(self.call(x).equal(a.call(x)).all().item<bool>());
        // The normalisation and the head are the decoder's, the embeddings of the anchors the encoder's.
        Tensor relative = functional.normalize(a.Encoder.call(x), dim: 1).matmul(functional.normalize(a.Encoder.call(anchors), dim: 1).t());
        Tensor weight = b.Projection.get_parameter("normalization.weight")!, bias = b.Projection.get_parameter("normalization.bias")!;
        Tensor expected = b.Head.call(functional.layer_norm(relative, [6], weight, bias));
        Assert.True(ab.call(x).allclose(expected, atol: 1e-6));
        Assert.False(ab.call(x).allclose(a.call(x), atol: 1e-3));
        using RelativeModel other = Model(randn(7, 5));
        Assert.Contains("6 anchors and the decoder 7", Assert.Throws<ArgumentException>(() => ModelStitcher.Stitch(a, other)).Message);
        using StitchedModel absolute = AbsoluteStitcher.Stitch(a.Encoder, z => 2 * z, nn.Identity());
        Assert.True(absolute.call(x).allclose(2 * a.Encoder.call(x)));
    }

    [Fact]
    public void Encoders_that_differ_by_a_rotation_stitch_without_loss()
    {
        Seeds.Set(1);
        Tensor anchors = randn(6, 5), x = randn(8, 5), turn = 3 * linalg.qr(randn(4, 4)).Q;
        using RelativeModel a = Model(anchors), b = Model(anchors);
        using (no_grad())
        {
            b.load_state_dict(a.state_dict());
            b.Encoder.get_parameter("2.weight")!.copy_(turn.t().matmul(a.Encoder.get_parameter("2.weight")!));
            b.Encoder.get_parameter("2.bias")!.copy_(turn.t().matmul(a.Encoder.get_parameter("2.bias")!));
        }
        using StitchedModel stitched = ModelStitcher.Stitch(b, a);
        Assert.True(stitched.call(x).allclose(a.call(x), atol: 1e-4));
        Assert.False(b.Encoder.call(x).allclose(a.Encoder.call(x), atol: .1));
    }

    [Fact]
    public void Anchors_follow_the_weights_and_carry_no_gradient()
    {
        Seeds.Set(2);
        Tensor anchors = randn(6, 5), x = randn(8, 5);
        using RelativeModel model = Model(anchors);
        model.eval();
        Tensor first = model.call(x), cached = model.AnchorEmbeddings();
        Assert.Same(cached, model.AnchorEmbeddings()); // once in evaluation
        model.train();
        Tensor output = model.call(x);
        output.sum().backward();
        Tensor onlyThroughZ = model.Encoder.get_parameter("0.weight")!.grad!.clone();
        using (enable_grad())
        {
            // By hand: anchors as constants.
            foreach (var p in model.parameters()) p.grad = null;
            Tensor constant = model.Encoder.call(anchors).detach();
            model.Head.call(model.Projection.call(model.Encoder.call(x), constant)).sum().backward();
        }
        Assert.True(onlyThroughZ.allclose(model.Encoder.get_parameter("0.weight")!.grad!, atol: 1e-6));
        using (no_grad()) model.Encoder.get_parameter("0.weight")!.add_(.5);
        model.eval();
        Assert.False(model.call(x).allclose(first)); // computed anew after training
        Assert.Contains("6 anchors", Assert.Throws<ArgumentException>(() => new RelativeModel(nn.Linear(5, 4), new RelativeProjection(6), nn.Linear(6, 2), randn(5, 5))).Message);
    }

    [Fact]
    public void Anchors_are_refreshed_every_s_steps_and_a_resumed_training_goes_on_alike()
    {
        Seeds.Set(3);
        Tensor anchors = randn(6, 5), x = randn(8, 5);
        using RelativeModel model = Model(anchors, refreshEvery: 3);
        model.train();
        int anew = 0;
        Tensor? last = null;
        RelativeModel? resumed = null;
        List<bool> refreshed = [];
        for (int step = 0; step < 6; step++)
        {
            if (step == 2)
            {
                resumed = Model(anchors, refreshEvery: 3);
                resumed.load_state_dict(model.state_dict());
                resumed.train();
            }
            _ = model.call(x);
            Tensor now = model.AnchorEmbeddingsOfLastRefresh();
            refreshed.Add(last is null || !now.equal(last).all().item<bool>());
            if (refreshed[^1]) anew++;
            last = now.clone();
            if (resumed is not null)
            {
                _ = resumed.call(x);
                Assert.True(resumed.AnchorEmbeddingsOfLastRefresh().equal(now).all().item<bool>());
            }
            using (no_grad())
                foreach (RelativeModel? m in new[] { model, resumed }) m?.Encoder.get_parameter("0.weight")!.mul_(1.1);
        }
        Assert.Equal([true, false, false, true, false, false], refreshed);
        resumed!.Dispose();
    }

    [Theory]
    [InlineData(OutputNormalization.None)]
    [InlineData(OutputNormalization.L2)]
    [InlineData(OutputNormalization.BatchNorm)]
    [InlineData(OutputNormalization.LayerNorm)]
    [InlineData(OutputNormalization.InstanceNorm)]
    public void Output_normalisations(OutputNormalization normalization)
    {
        Tensor z = randn(40, 4), anchors = randn(6, 4), plain = RelativeProjection.Project(z, anchors);
        using var projection = new RelativeProjection(6, new RelativeProjectionOptions { OutputNormalization = normalization });
        Tensor output = projection.call(z, anchors);
        Tensor expected = normalization switch
        {
            OutputNormalization.None => plain,
            OutputNormalization.L2 => plain / plain.norm(1, keepdim: true),
            OutputNormalization.LayerNorm => (plain - plain.mean([1L], true)) / (plain.var(1, false, true) + 1e-5).sqrt(),
            _ => (plain - plain.mean([0L], true)) / (plain.var(0, false, true) + 1e-5).sqrt(),
        };
        Assert.True(output.allclose(expected, atol: 1e-5));
        projection.eval();
        Assert.Equal(normalization != OutputNormalization.BatchNorm, projection.call(z, anchors).allclose(expected, atol: 1e-5)); // running statistics
        Assert.Equal(normalization is OutputNormalization.None or OutputNormalization.L2 ? 0 : 2, projection.parameters().Count());
    }

    [Fact]
    public void Quantisation_rounds_and_lets_gradients_pass()
    {
        Tensor z = Gaussian(9, 5, 4).requires_grad_(), same = z.detach().clone().requires_grad_(), anchors = Gaussian(10, 6, 4), weights = Gaussian(11, 5, 6);
        using var rounded = new RelativeProjection(6, s_plain with { QuantizationBin = .25 });
        using var plain = new RelativeProjection(6, s_plain);
        Tensor output = rounded.call(z, anchors), smooth = plain.call(same, anchors);
        Assert.True((output * 4).allclose((smooth * 4).round(), atol: 1e-12));
        (output * weights).sum().backward();
        (smooth * weights).sum().backward();
        Assert.True(z.grad!.allclose(same.grad!, atol: 1e-12));
        Assert.Contains("above 0", Assert.Throws<ArgumentOutOfRangeException>(() => new RelativeProjection(6, s_plain with { QuantizationBin = 0 })).Message);
    }

    [Fact]
    public void Similarities_are_averaged_over_the_anchors_of_a_class()
    {
        using var projection = new RelativeProjection(3, s_plain with { AnchorClasses = [1, 0, 1] });
        Assert.Equal(2, projection.OutputWidth);
        Near(new double[,] { { 0, (1 + .707107) / 2 }, { .707107, .707107 / 2 }, { 1, -.707107 / 2 }, { .707107, (-.707107 - 1) / 2 } }, projection.call(Z, Anchors));
        Assert.Contains("classes of 2", Assert.Throws<ArgumentException>(() => new RelativeProjection(3, s_plain with { AnchorClasses = [0, 1] })).Message);
        Assert.Contains("Class 1 has no anchor", Assert.Throws<ArgumentException>(() => new RelativeProjection(3, s_plain with { AnchorClasses = [0, 2, 2] })).Message);
        Assert.Contains("anchor 1", Assert.Throws<ArgumentException>(() => new RelativeProjection(3, s_plain with { AnchorClasses = [0, -1, 2] })).Message);
    }

    [Fact]
    public void Values_in_place_of_similarities()
    {
        Tensor weights = RelativeProjection.Project(Z, Anchors).softmax(1), unit = functional.normalize(Anchors, dim: 1);
        using var anchors = new RelativeProjection(3, s_plain with { Values = RelativeValues.Anchors }, embeddingWidth: 2);
        Assert.True(anchors.call(Z, Anchors).allclose(weights.matmul(unit)));
        using var trainable = new RelativeProjection(3, s_plain with { Values = RelativeValues.Trainable, ValueWidth = 5 }).to(float64);
        Assert.True(trainable.call(Z, Anchors).allclose(weights.matmul(trainable.get_parameter("values")!)));
        Assert.Equal(5, trainable.OutputWidth);

        Seeds.Set(4);
        using var attention = new RelativeProjection(3, s_plain with { Values = RelativeValues.SelfAttention, ValueWidth = 8, Heads = 2 });
        Tensor z = Z.to(float32).requires_grad_();
        Tensor output = attention.call(z, Anchors.to(float32));
        Assert.Equal([4, 3], output.shape);
        output.sum().backward();
        Assert.All(attention.parameters(), p => Assert.NotNull(p.grad));
        // The same through torch's own attention.
        Tensor W(string name) => attention.get_parameter($"attention.{name}")!;
        Tensor s = functional.layer_norm(RelativeProjection.Project(Z.to(float32), Anchors.to(float32)), [3]).unsqueeze(-1);
        Tensor Part(string map, string tokens) => functional.linear(s * W(tokens), W($"{map}.weight"), W($"{map}.bias")).view(4, 3, 2, 4).transpose(1, 2);
        Tensor attended = functional.scaled_dot_product_attention(Part("query", "to_queries"), Part("key", "to_keys"), Part("value", "to_values")).transpose(1, 2).flatten(2);
        Tensor expected = functional.linear(functional.linear(attended, W("output.weight"), W("output.bias")), W("aggregation.weight")).squeeze(-1);
        Assert.True(output.allclose(expected, atol: 1e-5));

        Assert.Contains("width of the embeddings", Assert.Throws<ArgumentException>(() => new RelativeProjection(3, s_plain with { Values = RelativeValues.Anchors })).Message);
        Assert.Contains("single anchors", Assert.Throws<ArgumentException>(() => new RelativeProjection(3, s_plain with { Values = RelativeValues.Anchors, AnchorClasses = [0, 0, 1] }, 2)).Message);
        Assert.Contains("3 heads", Assert.Throws<ArgumentException>(() => new RelativeProjection(3, s_plain with { Values = RelativeValues.SelfAttention, ValueWidth = 8, Heads = 3 })).Message);
        Assert.Contains("width 2", Assert.Throws<ArgumentException>(() => new RelativeProjection(3, s_plain with { Values = RelativeValues.Anchors }, 7).call(Z, Anchors)).Message);
    }

    [Fact]
    public void Embeddings_are_translated_through_parallel_anchors()
    {
        Tensor a = Gaussian(12, 40, 5), b = 2 * a.matmul(linalg.qr(Gaussian(13, 7, 7)).Q.narrow(0, 0, 5)); // the same space, turned, in seven dimensions
        AnchorTranslation translation = AnchorTranslation.Fit(a.narrow(0, 0, 20), b.narrow(0, 0, 20));
        Tensor translated = translation.Apply(a.narrow(0, 20, 20)), truth = b.narrow(0, 20, 20);
        Assert.Equal(1, LatentSpaceComparison.Cosine(truth, translated), 1e-9);
        Assert.True(translated.norm(1).allclose(b.narrow(0, 0, 20).norm(1).mean(), atol: 1e-9));
        // With as many anchors as dimensions the pseudo-inverse amplifies noise, a ridge does not; a vanishing one is the pseudo-inverse.
        Tensor noisy = b + Gaussian(14, 40, 7), exact = AnchorTranslation.Fit(a.narrow(0, 0, 7), noisy.narrow(0, 0, 7)).Apply(a.narrow(0, 20, 20));
        Assert.True(exact.allclose(AnchorTranslation.Fit(a.narrow(0, 0, 7), noisy.narrow(0, 0, 7), 1e-9).Apply(a.narrow(0, 20, 20)), atol: 1e-3));
        Assert.True(LatentSpaceComparison.Cosine(truth, AnchorTranslation.Fit(a.narrow(0, 0, 7), noisy.narrow(0, 0, 7), .3).Apply(a.narrow(0, 20, 20))) > LatentSpaceComparison.Cosine(truth, exact) + .02);
        Assert.Throws<ArgumentOutOfRangeException>(() => AnchorTranslation.Fit(a, b, -1));
        Assert.Contains("[k, b]", Assert.Throws<ArgumentException>(() => AnchorTranslation.Fit(a.narrow(0, 0, 4), b.narrow(0, 0, 5))).Message);
        Assert.Contains("Embedding 2", Assert.Throws<ArgumentException>(() => AnchorTranslation.Fit(a.narrow(0, 0, 4), cat([b.narrow(0, 0, 2), zeros(2, 7, float64)]))).Message);
        Assert.Contains("same encoder", Assert.Throws<ArgumentException>(() => translation.Apply(randn(3, 7, float64))).Message);
    }

    [Fact]
    public void The_optimal_sigma_likelihood_is_what_its_formula_says()
    {
        Tensor x = tensor(new double[] { 1, 2, 4 }), prediction = tensor(new double[] { 1, 3, 2 }).requires_grad_(); // squares 0, 1, 4
        double mse = 5 / 3.0, logSigma = .5 * Math.Log(mse);
        Assert.Equal(.5 * 5 / mse + 3 * logSigma, Reconstruction.OptimalSigmaNll(prediction, x).item<double>(), 1e-12);
        Reconstruction.OptimalSigmaNll(prediction, x).backward();
        // n / 2 + n / 2 log(SSE / n): the derivative is n (prediction - x) / SSE.
        Assert.True(prediction.grad!.allclose(tensor(new double[] { 0, 3 / 5.0, -6 / 5.0 }), atol: 1e-12));
        Assert.Equal(.5 * (Math.Exp(.3) + .04 - 1 - .3), Reconstruction.KullbackLeibler(tensor(new double[] { .2 }), tensor(new double[] { .3 })).item<double>(), 1e-12);
        Assert.Throws<ArgumentException>(() => Reconstruction.OptimalSigmaNll(prediction, ones(2)));
    }

    [Theory]
    [InlineData(ReconstructionLoss.MeanSquaredError, false)]
    [InlineData(ReconstructionLoss.OptimalSigmaNll, false)]
    [InlineData(ReconstructionLoss.OptimalSigmaNll, true)]
    public void An_autoencoder_learns(ReconstructionLoss loss, bool variational)
    {
        Seeds.Set(5);
        Tensor data = randn(200, 2).matmul(randn(2, 10)).tanh();
        Module<Tensor, Tensor> decoder = new Mlp(20, [32], 10);
        var model = new RelativeModel(new Mlp(10, [32], 4), new RelativeProjection(20), variational ? new VariationalDecoder(20, decoder) : decoder, data.narrow(0, 0, 20));
        using var learner = new ReconstructionLearner(model, optim.Adam(model.parameters(), 3e-3), loss);
        double before = functional.mse_loss(Inference.Outputs(model, data), data).item<float>();
        TrainingHistory history = new Trainer(new TrainerOptions { Epochs = 30, BatchSize = 50 }).Fit(learner, new TensorSource(data));
        double after = functional.mse_loss(Inference.Outputs(model, data), data).item<float>();
        Assert.True(after < (variational ? .6 : .35) * before, $"{before} to {after}");
        Assert.Equal(variational, history.Series.ContainsKey("kl"));
        model.eval();
        Assert.True(model.call(data).equal(model.call(data)).all().item<bool>()); // evaluation does not sample
    }

    private static RelativeModel Model(Tensor anchors, int refreshEvery = 1)
        => new(nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 4)), new RelativeProjection(anchors.shape[0]), nn.Linear(anchors.shape[0], 3), anchors, refreshEvery);
}

internal static class RelativeModelState
{
    public static Tensor AnchorEmbeddingsOfLastRefresh(this RelativeModel model) => model.state_dict()["anchor_embeddings"];
}
