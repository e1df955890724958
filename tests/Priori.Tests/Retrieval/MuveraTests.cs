using Priori.Data;
using Priori.Numerics;
using Priori.Retrieval;
using Priori.Runtime;

namespace Priori.Tests.Retrieval;

public sealed class MuveraTests
{
    private static readonly Tensor Q = tensor(new float[] { 1, 0, .6f, .8f, 0, 1 }, [3, 2]);
    private static readonly Tensor P = tensor(new float[] { .8f, .6f, .96f, .28f, -.6f, .8f }, [3, 2]);

    private static Tensor Gaussian(int seed, params long[] shape)
    {
        var random = SplitMix64.For(seed);
        var values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        foreach (ref var value in values.AsSpan()) value = (float)random.NextGaussian();
        return tensor(values, shape);
    }

    private static Tensor Unit(int seed, params long[] shape) => functional.normalize(Gaussian(seed, shape), dim: shape.Length - 1);

    private static MultiVectorSet Documents(int count, int dimension, int seed)
    {
        var random = SplitMix64.For(seed);
        return MultiVectorSet.From([.. Enumerable.Range(0, count).Select(i => Unit(seed * 10_007 + i, 1 + random.Next(12), dimension))]);
    }

    private static FixedDimensionalEncoder Worked(bool fill) => new(
        new FdeConfig(2, Repetitions: 1, SimHashBits: 2, ProjectionDimension: null, Projection: InnerProjection.Identity, FillEmptyPartitions: fill),
        tensor(new float[] { 1, .5f, -.5f, 1 }, [1, 2, 2]), null); // columns (1, -0.5) and (0.5, 1)

    private static void Near(float[] expected, Tensor actual, float tolerance = 1e-6f)
    {
        var values = actual.cpu().to(ScalarType.Float32).flatten().data<float>().ToArray();
        Assert.Equal(expected.Length, values.Length);
        for (var i = 0; i < values.Length; i++) Assert.True(Math.Abs(expected[i] - values[i]) <= tolerance, $"value {i} is {values[i]}, not {expected[i]}");
    }

    private static void Near(Tensor expected, Tensor actual, float tolerance) => Near(expected.flatten().data<float>().ToArray(), actual, tolerance);

    private static double Dot(Tensor a, Tensor b) => a.dot(b).item<float>();

    // ---- exact check 1 ----

    [Fact]
    public void Partition_indices_are_the_Gray_code_of_the_bits()
    {
        // The hyperplanes are the axes, so the signs of a token are its bits, b_0 first.
        var encoder = new FixedDimensionalEncoder(new FdeConfig(3, 1, 3, null, InnerProjection.Identity), eye(3).unsqueeze(0), null);
        var tokens = tensor(Enumerable.Range(0, 8).SelectMany(i => new[] { i >> 2 & 1, i >> 1 & 1, i & 1 }).Select(b => b == 1 ? 1f : -1f).ToArray(), [8, 3]);
        Assert.Equal([0L, 1, 3, 2, 7, 6, 4, 5], encoder.Partition(tokens).data<long>().ToArray());
        for (var i = 0; i < 8; i++) Assert.Equal(1, encoder.EncodeQuery(tokens[i].unsqueeze(0)).view(8, 3).abs().sum(1).gt(0).sum().item<long>());
        for (var bits = 0; bits < 32; bits++)
        {
            var index = 0;
            for (var i = 4; i >= 0; i--) index = (index << 1) + ((bits >> i & 1) ^ (index & 1));
            Assert.Equal(index, FixedDimensionalEncoder.FromGray(bits));
            Assert.Equal(bits, FixedDimensionalEncoder.ToGray(index));
        }
        Assert.Equal(0b110, FixedDimensionalEncoder.ToGray(4)); // a prefix-xor loop gives 111
    }

    [Fact]
    public void A_zero_vector_has_no_bits() =>
        Assert.Equal(0, new FixedDimensionalEncoder(new FdeConfig(4, 3, 5)).Partition(zeros(1, 4)).sum().item<long>());

    // ---- exact check 2 ----

    [Fact]
    public void The_worked_example()
    {
        using var plain = Worked(fill: false);
        using var filled = Worked(fill: true);
        Assert.Equal([2L, 2, 1], plain.Partition(Q).data<long>().ToArray());
        Assert.Equal([2L, 2, 1], plain.Partition(P).data<long>().ToArray());
        Near([0, 0, 0, 1, 1.6f, .8f, 0, 0], plain.EncodeQuery(Q));
        Near([0, 0, 0, 1, 1.6f, .8f, 0, 0], filled.EncodeQuery(Q)); // queries are never filled
        Near([0, 0, -.6f, .8f, .88f, .44f, 0, 0], plain.EncodeDocument(P));
        Near([-.6f, .8f, -.6f, .8f, .88f, .44f, .8f, .6f], filled.EncodeDocument(P));
        Assert.Equal(2.56, Dot(plain.EncodeQuery(Q), plain.EncodeDocument(P)), 5);
        Assert.Equal(2.56, Dot(filled.EncodeQuery(Q), filled.EncodeDocument(P)), 5);
        Assert.Equal(2.72, MaxSim.Score(Q, P).item<float>(), 5);
        Near([2.72f], MaxSim.Scores(Q, P, [0, 3]));
    }

    // ---- exact check 3 ----

    [Fact]
    public void Without_hyperplanes_the_score_is_sum_times_mean()
    {
        using var encoder = new FixedDimensionalEncoder(new FdeConfig(2, 1, 0, null, InnerProjection.Identity));
        Assert.Equal(1.6266667, Dot(encoder.EncodeQuery(Q), encoder.EncodeDocument(P)), 5);
        Assert.Equal(2, encoder.OutputDimension);
    }

    // ---- exact check 4 ----

    [Theory]
    [InlineData(1, 1)]
    [InlineData(7, 3)]
    [InlineData(20, 5)]
    [InlineData(3, 8)]
    public void A_document_of_one_vector_is_scored_exactly(int repetitions, int bits)
    {
        var (query, document) = (Unit(1, 9, 12), Unit(2, 1, 12));
        var config = new FdeConfig(12, repetitions, bits, null, InnerProjection.Identity);
        using var filled = new FixedDimensionalEncoder(config);
        using var plain = new FixedDimensionalEncoder(config with { FillEmptyPartitions = false });
        var chamfer = MaxSim.Score(query, document).item<float>();
        Assert.Equal(chamfer, Dot(filled.EncodeQuery(query), filled.EncodeDocument(document)) / repetitions, 4);
        Assert.True(Math.Abs(chamfer - Dot(plain.EncodeQuery(query), plain.EncodeDocument(document)) / repetitions) > 1e-3);
    }

    // ---- exact check 5 ----

    [Theory]
    [InlineData(InnerProjection.DenseSign)]
    [InlineData(InnerProjection.AmsSketch)]
    public void Inner_projections_keep_inner_products_on_average(InnerProjection projection)
    {
        var (x, y) = (Unit(3, 1, 16), functional.normalize(Unit(3, 1, 16) + Unit(4, 1, 16), dim: 1));
        CheckUnbiased(x, y, seed => new FdeConfig(16, 1, 0, 4, projection, Seed: seed));
    }

    [Theory]
    [InlineData(FinalProjection.CountSketch)]
    [InlineData(FinalProjection.DenseSign)]
    public void Final_projections_keep_inner_products_on_average(FinalProjection final)
    {
        var (x, y) = (Unit(3, 1, 16), functional.normalize(Unit(3, 1, 16) + Unit(4, 1, 16), dim: 1));
        CheckUnbiased(x, y, seed => new FdeConfig(16, 1, 0, null, InnerProjection.Identity, FinalDimension: 5, Final: final, Seed: seed));
    }

    private static void CheckUnbiased(Tensor x, Tensor y, Func<ulong, FdeConfig> config)
    {
        const int seeds = 2000;
        var products = new double[seeds];
        for (var i = 0; i < seeds; i++)
        {
            using var scope = NewDisposeScope();
            using var encoder = new FixedDimensionalEncoder(config((ulong)i * 1000));
            products[i] = Dot(encoder.EncodeQuery(x), encoder.EncodeQuery(y)); // one token and one partition: psi itself
        }
        var mean = products.Average();
        var error = Math.Sqrt(products.Average(p => (p - mean) * (p - mean)) / seeds);
        Assert.InRange(mean - x.mul(y).sum().item<float>(), -4 * error, 4 * error);
        Assert.True(error > 1e-4); // the projection is random at all
    }

    // ---- exact check 6 ----

    [Fact]
    public void Query_encodings_add_and_document_encodings_ignore_order_and_copies()
    {
        using var encoder = new FixedDimensionalEncoder(new FdeConfig(24, 5, 4, 8));
        var (q1, q2, p) = (Unit(5, 7, 24), Unit(6, 4, 24), Unit(7, 11, 24));
        Near(encoder.EncodeQuery(q1) + encoder.EncodeQuery(q2), encoder.EncodeQuery(cat([q1, q2])), 1e-5f);
        Near(encoder.EncodeDocument(p), encoder.EncodeDocument(cat([p, p])), 1e-5f);
        using var plain = new FixedDimensionalEncoder(new FdeConfig(24, 5, 4, 8, FillEmptyPartitions: false)); // ties of the filling go by row
        Near(plain.EncodeDocument(p), plain.EncodeDocument(p.flip(0)), 1e-5f);
    }

    // ---- exact check 7 ----

    [Fact]
    public void Ball_carving_of_the_worked_example()
    {
        var query = tensor(new float[] { 1, 0, .8f, .6f, .6f, .8f, 0, 1, -1, 0 }, [5, 2]);
        Assert.Equal([0, 0, 1, 1, 2], BallCarving.Clusters(query, 0.7));
        Near([1.8f, .6f, .6f, 1.8f, -1, 0], BallCarving.Carve(query, 0.7));
        Near(query, BallCarving.Carve(query, 1.1), 0);
    }

    // ---- exact check 8 ----

    [Fact]
    public void A_quantizer_with_a_centre_for_every_vector_is_exact()
    {
        var distinct = Gaussian(8, 12, 20);
        var samples = distinct.repeat(5, 1);
        var quantizer = new ProductQuantizer(16, 8); // 20 = 8 + 8 + 4: a shorter last group
        quantizer.Fit(samples);
        var codes = quantizer.Encode(samples);
        var query = Gaussian(9, 20);
        Assert.Equal(ScalarType.Byte, codes.dtype);
        Assert.Equal([60L, 3], codes.shape);
        Near(samples, quantizer.Decode(codes), 1e-5f);
        Near(samples.matmul(query), quantizer.Scores(query, codes), 1e-4f);
    }

    [Fact]
    public void Table_lookup_is_the_product_with_the_decoded_vector()
    {
        var vectors = Gaussian(10, 300, 37);
        var quantizer = new ProductQuantizer(16, 8);
        quantizer.Fit(vectors);
        var codes = quantizer.Encode(vectors);
        var query = Gaussian(11, 37);
        Near(quantizer.Decode(codes).matmul(query), quantizer.Scores(query, codes), 1e-4f);
        foreach (var bytes in new[] { true, false })
        {
            using var index = new ProductQuantizedIndex(quantizer);
            if (bytes && !index.ByteScan) continue; // a machine without AVX-512 VBMI
            index.ByteScan = bytes;
            index.Add(vectors[..100]);
            index.Add(vectors[100..]);
            var found = index.Search(query.unsqueeze(0), 25)[0];
            var (values, positions) = quantizer.Scores(query, codes).topk(25);
            Assert.Equal(positions.data<long>().Select(i => (int)i), found.Positions);
            Near(values, tensor(found.Scores), 1e-4f);
            Assert.Equal(5, index.BytesPerVector);
        }
    }

    // ---- the kernel against torch, and against the definition ----

    public static TheoryData<FdeConfig> Configurations() => new(
        new FdeConfig(24, 4, 3, 8), new FdeConfig(24, 3, 7, 5), new FdeConfig(24, 2, 0, 8), new FdeConfig(24, 6, 4, null, InnerProjection.Identity),
        new FdeConfig(24, 4, 3, 8, InnerProjection.AmsSketch, FillEmptyPartitions: false), new FdeConfig(24, 4, 3, 8, FinalDimension: 50),
        new FdeConfig(24, 4, 3, 8, FinalDimension: 50, Final: FinalProjection.DenseSign), new FdeConfig(24, 2, 10, 3));

    [Theory]
    [MemberData(nameof(Configurations))]
    public void The_kernel_the_torch_path_and_one_by_one_encoding_agree(FdeConfig config)
    {
        using var encoder = new FixedDimensionalEncoder(config);
        var sets = Documents(40, 24, 3);
        foreach (var document in new[] { true, false })
        {
            var batch = document ? encoder.EncodeDocuments(sets.Vectors, sets.Offsets) : encoder.EncodeQueries(sets.Vectors, sets.Offsets);
            Assert.Equal([40, encoder.OutputDimension], batch.shape);
            Near(batch, encoder.EncodeTorch(sets.Vectors, sets.Offsets, document), 1e-4f);
            for (var i = 0; i < 40; i += 13) Near(batch[i], document ? encoder.EncodeDocument(sets[i]) : encoder.EncodeQuery(sets[i]), 1e-5f);
        }
        Near(encoder.EncodeDocument(sets[0]), encoder.EncodeDocument(sets[0]), 0); // the same matrices every time
    }

    [Fact]
    public void Filling_takes_the_first_row_with_the_fewest_disagreeing_bits()
    {
        const int bits = 4;
        var config = new FdeConfig(6, 3, bits, null, InnerProjection.Identity);
        using var encoder = new FixedDimensionalEncoder(config);
        var document = Gaussian(12, 5, 6);
        var partitions = encoder.Partition(document);
        var blocks = encoder.EncodeDocument(document).view(3, 1 << bits, 6);
        for (var r = 0; r < 3; r++)
        {
            var own = Enumerable.Range(0, 5).Select(t => (int)partitions[t, r].item<long>()).ToArray();
            for (var c = 0; c < 1 << bits; c++)
            {
                if (own.Contains(c)) continue;
                var nearest = Enumerable.Range(0, 5).MinBy(t => int.PopCount(own[t] ^ own[t] >> 1 ^ c ^ c >> 1));
                Near(document[nearest], blocks[r, c], 1e-6f);
            }
        }
    }

    [Fact]
    public void Partitions_by_learned_centres_fill_with_the_nearest_token()
    {
        var sets = Documents(60, 24, 4);
        var partition = KMeansPartition.Learn(sets.Vectors, 3, 8);
        using var encoder = new FixedDimensionalEncoder(new FdeConfig(24, 3, ProjectionDimension: null, Projection: InnerProjection.Identity), partition);
        var batch = encoder.EncodeDocuments(sets.Vectors, sets.Offsets);
        Near(batch, encoder.EncodeTorch(sets.Vectors, sets.Offsets, document: true), 1e-4f);
        var document = sets[0];
        var distances = cdist(document, partition.Centers[1]); // [m, B]
        var own = distances.argmin(1).data<long>().ToArray();
        for (var c = 0; c < 8; c++)
        {
            var expected = own.Contains(c)
                ? stack([.. Enumerable.Range(0, own.Length).Where(t => own[t] == c).Select(t => document[t])]).mean([0])
                : document[distances.select(1, c).argmin()];
            Near(expected, batch[0].view(3, 8, 24)[1, c], 1e-5f);
        }
    }

    [Fact]
    public void Chamfer_scores_agree_with_the_definition_for_many_queries_and_documents()
    {
        var (queries, documents) = (Documents(30, 20, 5), Documents(70, 20, 6));
        var scores = MaxSim.Scores(queries.Vectors, queries.Offsets, documents.Vectors, documents.Offsets);
        Near(scores, MaxSim.PaddedScores(queries.Vectors, queries.Offsets, documents.Vectors, documents.Offsets), 1e-4f);
        for (var i = 0; i < 30; i += 7)
        {
            for (var j = 0; j < 70; j += 11) Assert.Equal(MaxSim.Score(queries[i], documents[j]).item<float>(), scores[i, j].item<float>(), 4);
        }
        Assert.NotEqual(MaxSim.Score(queries[0], documents[0]).item<float>(), MaxSim.Score(documents[0], queries[0]).item<float>(), 3); // not symmetric
    }

    // ---- searches ----

    [Fact]
    public void The_exact_search_agrees_with_a_matrix_product_for_one_and_for_many_queries()
    {
        var (vectors, queries) = (Gaussian(13, 501, 70), Gaussian(14, 130, 70));
        using var index = new FlatIndex(70);
        index.Add(vectors);
        foreach (var count in new[] { 3, 130 })
        {
            var found = index.Search(queries[..count], 10);
            var (values, positions) = queries[..count].matmul(vectors.t()).topk(10);
            for (var i = 0; i < count; i++)
            {
                Assert.Equal(positions[i].data<long>().Select(p => (int)p), found[i].Positions);
                Near(values[i], tensor(found[i].Scores), 1e-3f);
            }
        }
    }

    [Fact]
    public void The_graph_finds_nearly_all_neighbours_and_is_the_same_with_any_number_of_threads()
    {
        var (vectors, queries) = (Gaussian(15, 1500, 24), Gaussian(16, 50, 24));
        using var index = new GraphIndex(24);
        using var flat = new FlatIndex(24);
        index.Add(vectors[..1000]);
        index.Add(vectors[1000..]);
        flat.Add(vectors);
        var (found, truth) = (index.Search(queries, 10), flat.Search(queries, 10));
        var recall = found.Zip(truth).Average(pair => pair.First.Positions.Intersect(pair.Second.Positions).Count() / 10.0);
        Assert.True(recall >= 0.95, $"recall@10 is {recall}");
        var threads = get_num_threads();
        set_num_threads(2);
        using var again = new GraphIndex(24);
        again.Add(vectors[..1000]);
        again.Add(vectors[1000..]);
        set_num_threads(threads);
        Assert.Equal(Bytes(index), Bytes(again));

        static byte[] Bytes(GraphIndex graph)
        {
            using var stream = new MemoryStream();
            graph.Files.Last().Write(stream);
            return stream.ToArray();
        }
    }

    [Theory]
    [InlineData(MuveraSearch.Exact)]
    [InlineData(MuveraSearch.ProductQuantized)]
    [InlineData(MuveraSearch.Graph)]
    public void An_index_finds_adds_deletes_and_comes_back_from_its_files(MuveraSearch search)
    {
        var documents = Documents(120, 16, 7);
        var options = new MuveraOptions(new FdeConfig(16, 10, 3, 8), search, Centers: 64, Degree: 16, BuildBeam: 64);
        var folder = Path.Combine(Path.GetTempPath(), $"priori-{Guid.NewGuid():N}");
        try
        {
            using (var index = MuveraIndex.Build(documents.Slice(0, 100), options))
            {
                CheckSearches(index, 100);
                index.Add(documents.Slice(100, 20));
                CheckSearches(index, 120);
                Assert.True(index.Delete("17"));
                Assert.False(index.Delete("17"));
                Assert.Equal(119, index.Count);
                index.Save(folder);
                index.Save(folder); // an existing folder is replaced
            }
            using (var loaded = MuveraIndex.Load(folder))
            {
                Assert.Equal(119, loaded.Count);
                Assert.DoesNotContain("17", loaded.Search(documents[17], 5).Ids);
                Assert.Equal("18", loaded.Search(documents[18], 5).Ids[0]);
                loaded.Add(new MultiVectorSet(documents[17].clone(), [0, documents[17].shape[0]], ["17"])); // mapped arrays grow
                loaded.Delete("18");
                Assert.Equal("17", loaded.Search(documents[17], 5).Ids[0]);
                Assert.DoesNotContain("18", loaded.Search(documents[18], 5).Ids);
            }
            using (var untouched = MuveraIndex.Load(folder)) Assert.Equal(119, untouched.Count); // the files were not written
        }
        finally
        {
            if (Directory.Exists(folder)) Directory.Delete(folder, recursive: true);
        }

        void CheckSearches(MuveraIndex index, int count)
        {
            Assert.Equal(count, index.Count);
            for (var i = 0; i < count; i += 9)
            {
                var result = index.Search(documents[i], topK: 3, candidates: 20, ballCarving: null);
                Assert.Equal(i.ToString(System.Globalization.CultureInfo.InvariantCulture), result.Ids[0]); // a document is its own best answer
                Assert.Equal(documents[i].shape[0], result.Scores[0], 3);
                Assert.Equal(20, result.Statistics.Candidates);
            }
        }
    }

    [Theory]
    [InlineData("index.json", "{ \"SchemaVersion\": 2 }")]
    [InlineData("index.json", "[")]
    [InlineData("ids.json", "[\"a\"]")]
    [InlineData("ids.json", "null")]
    [InlineData("encoder.json", "{}")]
    [InlineData("encoder.safetensors", "no tensors here")]
    [InlineData("quantizer.safetensors", "")]
    [InlineData("codes.bin", "short")]
    [InlineData("offsets.bin", null)]
    [InlineData("tokens.bin", "")]
    [InlineData("removed.bin", null)]
    public void A_damaged_index_is_refused_by_name(string file, string? content)
    {
        var folder = Saved(MuveraSearch.ProductQuantized);
        try
        {
            if (content == null) File.Delete(Path.Combine(folder, file));
            else File.WriteAllText(Path.Combine(folder, file), content);
            Assert.Contains(file, Assert.Throws<InvalidDataException>(() => MuveraIndex.Load(folder)).Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Hostile_numbers_in_an_index_do_not_reach_beyond_its_arrays()
    {
        var folder = Saved(MuveraSearch.Graph);
        var query = Unit(17, 3, 16);
        try
        {
            Overwrite("graph.bin", 8, BitConverter.GetBytes(1_000_000_000)); // a neighbour that does not exist
            using (var index = MuveraIndex.Load(folder)) Assert.Throws<InvalidDataException>(() => Inner(() => index.Search(query)));
            Overwrite("graph.bin", 0, BitConverter.GetBytes(-5)); // a negative number of neighbours
            using (var index = MuveraIndex.Load(folder)) Assert.Throws<InvalidDataException>(() => Inner(() => index.Search(query)));
            Overwrite("offsets.bin", 8, BitConverter.GetBytes(long.MaxValue)); // a document of more tokens than there are
            Assert.Contains("offsets.bin", Assert.Throws<InvalidDataException>(() => MuveraIndex.Load(folder)).Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        void Overwrite(string file, int at, byte[] bytes)
        {
            using var stream = File.OpenWrite(Path.Combine(folder, file));
            stream.Position = at;
            stream.Write(bytes);
        }

        static void Inner(Action action)
        {
            try
            {
                action();
            }
            catch (AggregateException e)
            {
                throw e.InnerException!;
            }
        }
    }

    private static string Saved(MuveraSearch search)
    {
        var folder = Path.Combine(Path.GetTempPath(), $"priori-{Guid.NewGuid():N}");
        using var index = MuveraIndex.Build(Documents(70, 16, 8), new MuveraOptions(new FdeConfig(16, 4, 2, 8), search, Centers: 16, Degree: 8, BuildBeam: 16));
        index.Save(folder);
        return folder;
    }

    [Fact]
    public void An_encoder_comes_back_from_its_files()
    {
        var path = Path.Combine(Path.GetTempPath(), $"priori-{Guid.NewGuid():N}");
        var set = Unit(18, 9, 24);
        using var encoder = new FixedDimensionalEncoder(new FdeConfig(24, 4, 3, 8), Gaussian(19, 4, 24, 3), Gaussian(20, 4, 24, 8));
        using var learned = new FixedDimensionalEncoder(new FdeConfig(24, 2, ProjectionDimension: 8), new KMeansPartition(Gaussian(21, 2, 6, 24)));
        try
        {
            foreach (var original in new[] { encoder, learned })
            {
                original.Save(path);
                using var loaded = FixedDimensionalEncoder.Load(path);
                Near(original.EncodeDocument(set), loaded.EncodeDocument(set), 0);
            }
        }
        finally
        {
            File.Delete(path + ".json");
            File.Delete(path + ".safetensors");
        }
    }

    // ---- errors ----

    [Fact]
    public void Bad_arguments_are_named()
    {
        using var encoder = new FixedDimensionalEncoder(new FdeConfig(8, 2, 2, 4));
        var bad = Gaussian(22, 5, 8);
        bad[3, 2] = float.NaN;
        Assert.Contains("encoder was made for", Assert.Throws<ArgumentException>(() => encoder.EncodeQuery(zeros(3, 7))).Message, StringComparison.Ordinal);
        Assert.Contains("query at position 0 is empty", Assert.Throws<ArgumentException>(() => encoder.EncodeQuery(zeros(0, 8))).Message, StringComparison.Ordinal);
        Assert.Contains("document at position 1 is empty", Assert.Throws<ArgumentException>(() => encoder.EncodeDocuments(zeros(3, 8), [0, 2, 2, 3])).Message, StringComparison.Ordinal);
        Assert.Contains("Row 1 of the document at position 1", Assert.Throws<ArgumentException>(() => encoder.EncodeDocuments(bad, [0, 2, 5])).Message, StringComparison.Ordinal);
        Assert.Contains("Offset 2", Assert.Throws<ArgumentException>(() => encoder.EncodeDocuments(zeros(3, 8), [0, 2, 1, 3])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new FixedDimensionalEncoder(new FdeConfig(8, SimHashBits: 25)));
        Assert.Throws<ArgumentException>(() => new FixedDimensionalEncoder(new FdeConfig(8, SimHashBits: -1)));
        Assert.Throws<ArgumentException>(() => new FixedDimensionalEncoder(new FdeConfig(128, 100, 24, 16)));
        Assert.Throws<ArgumentException>(() => new FixedDimensionalEncoder(new FdeConfig(8, ProjectionDimension: 9, Projection: InnerProjection.AmsSketch)));
        Assert.Throws<ArgumentException>(() => new FixedDimensionalEncoder(new FdeConfig(8, ProjectionDimension: 4, Projection: InnerProjection.Identity)));
        Assert.Throws<ArgumentException>(() => new FixedDimensionalEncoder(new FdeConfig(8, 2, 2, 4), zeros(2, 8, 3), zeros(2, 8, 4)));
        Assert.Throws<ArgumentException>(() => new FixedDimensionalEncoder(new FdeConfig(8, 2, 2, 4), zeros(2, 8, 2), null));
        Assert.Contains("256 centres", Assert.Throws<ArgumentException>(() => new ProductQuantizer().Fit(zeros(100, 16))).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => new ProductQuantizer().Encode(zeros(1, 16)));
        Assert.Throws<ArgumentException>(() => new ProductQuantizedIndex(new ProductQuantizer()));
        Assert.Throws<ArgumentException>(() => MaxSim.Score(zeros(0, 4), zeros(2, 4)));
        Assert.Throws<ArgumentException>(() => MaxSim.Score(zeros(2, 4), zeros(2, 5)));
        using var index = MuveraIndex.Build(Documents(5, 8, 9), new MuveraOptions(new FdeConfig(8, 2, 2, 4)));
        Assert.Contains("'3'", Assert.Throws<ArgumentException>(() => index.Add(new MultiVectorSet(zeros(1, 8), [0, 1], ["3"]))).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => index.Search(bad));
    }
}
