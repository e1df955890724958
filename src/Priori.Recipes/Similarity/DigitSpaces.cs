using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;
using Priori.Training;

namespace Priori.Recipes.Similarity;

/// <summary>How a relative network is rebuilt.</summary>
/// <param name="Encoder">Layers of the encoder (JSON).</param>
/// <param name="Head">Layers of the head or decoder (JSON), after the projection.</param>
/// <param name="Anchors">Number of anchors.</param>
/// <param name="Projection">Settings of the projection.</param>
/// <param name="Variational">Whether the decoder is variational.</param>
/// <param name="RefreshEvery">Training steps between embeddings of the anchors.</param>
public sealed record RelativeNetwork(string Encoder, string Head, int Anchors, RelativeProjectionOptions Projection, bool Variational, int RefreshEvery)
{
    /// <summary>Builds the network around anchors [k, ...] with fresh weights.</summary>
    /// <param name="anchors">The anchors.</param>
    public RelativeModel Build(Tensor anchors)
    {
        Architecture encoder = Architecture.FromJson(Encoder);
        var network = new Network(encoder);
        var projection = new RelativeProjection(Anchors, Projection, encoder.Shapes()[encoder.Layers[^1].Name][0]);
        var head = new Network(Architecture.FromJson(Head));
        return new RelativeModel(network, projection, Variational ? new VariationalDecoder(projection.OutputWidth, head) : head, anchors, RefreshEvery);
    }
}

/// <summary>How an absolute network is rebuilt.</summary>
/// <param name="Architecture">All its layers (JSON); the encoder ends with the layer named embedding.</param>
public sealed record AbsoluteNetwork(string Architecture);

/// <summary>A setting of the experiments on digits: one network a seed, stitched with those of the other seeds.</summary>
internal sealed record StitchSpec(string Name, bool Autoencoder, RelativeProjectionOptions? Projection)
{
    public AnchorStrategy Strategy { get; init; } = AnchorStrategy.Random;

    public int Anchors { get; init; }

    public string Encoder { get; init; } = "mlp";

    public bool Variational { get; init; }

    public ReconstructionLoss Loss { get; init; }

    /// <summary>Whether the spaces themselves are compared and drawn.</summary>
    public bool Compared { get; init; }

    /// <summary>The metric's name; of accuracy more is better, of error less.</summary>
    public string Metric => Autoencoder ? "mse" : "accuracy";
}

/// <summary>A trained network and its two parts.</summary>
internal sealed record Halves(Module<Tensor, Tensor> Model, Module<Tensor, Tensor> Encoder, Module<Tensor, Tensor> Head) : IDisposable
{
    public RelativeModel? Relative => Model as RelativeModel;

    public void Dispose() => Model.Dispose();
}

/// <summary>Autoencoders and classifiers of digits: training, stitching, measuring.</summary>
internal sealed class DigitSpaces
{
    private const int Drawn = 400, Reconstructed = 8; // test images in the scatter plots and in the grid
    private readonly RelativeRepresentationsRecipeOptions _options;
    private readonly RunContext _context;
    private readonly Tensor _images, _labels, _testImages, _testLabels;
    private readonly Dictionary<(AnchorStrategy, int), AnchorSet> _anchors = [];

    public DigitSpaces(RelativeRepresentationsRecipeOptions options, RunContext context)
    {
        (_options, _context) = (options, context);
        Digits digits = Digits.Load(context, options.TrainImages, options.TestImages);
        (_images, _labels) = digits.TrainPart(0, options.TrainImages);
        (_testImages, _testLabels) = digits.TestPart(0, options.TestImages);
    }

    /// <summary>Test images and labels.</summary>
    public (Tensor Images, Tensor Labels) Test => (_testImages, _testLabels);

    /// <summary>The anchors of a strategy: one choice for all seeds, or their spaces could not be compared.</summary>
    public AnchorSet Anchors(AnchorStrategy strategy, int count)
    {
        if (!_anchors.TryGetValue((strategy, count), out AnchorSet? set)) _anchors[(strategy, count)] = set = AnchorSet.Select(_images, strategy, count, _options.AnchorSeed, _labels);
        return set;
    }

    /// <summary>Class of each anchor, numbered without gaps.</summary>
    public int[] AnchorClasses(AnchorStrategy strategy, int count)
    {
        long[] classes = Anchors(strategy, count).TakeParallel(_labels).data<long>().ToArray();
        long[] present = [.. classes.Distinct().Order()];
        return [.. classes.Select(c => Array.IndexOf(present, c))];
    }

    /// <summary>Trains the network of a seed, once; later arms read it from the run folder.</summary>
    public ArmResult Train(StitchSpec spec, int seed) => _context.Arm($"{spec.Name}: training", seed, run =>
    {
        using Halves built = Build(spec);
        built.Model.to(run.Device);
        var adam = optim.Adam(built.Model.parameters(), _options.LearningRate);
        using Learner learner = spec.Autoencoder ? new ReconstructionLearner(built.Model, adam, spec.Loss) : new ClassifierLearner(built.Model, adam);
        Trainer trainer = run.Trainer(new TrainerOptions { Epochs = spec.Autoencoder ? _options.AutoencoderEpochs : _options.ClassifierEpochs, BatchSize = _options.BatchSize });
        TensorSource source = spec.Autoencoder ? new(_images) : new(_images, _labels);
        run.Include(trainer.Fit(learner, source, cancellation: run.Cancellation));
        run.Metric(spec.Metric, Score(spec, built.Model));
        Dictionary<string, Tensor> state = built.Model.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().cpu());
        Safetensors.Write(StatePath(spec, seed), state);
        // Those that apply uses, and other methods may: one network a kind.
        if (!spec.Compared) return;
        if (spec.Projection is not null) run.SaveModel($"{spec.Name}-{seed}", state, Describe(spec));
        else run.SaveModel($"{spec.Name}-{seed}", state.ToDictionary(p => p.Key[(p.Key.IndexOf('.', StringComparison.Ordinal) + 1)..], p => p.Value), new AbsoluteNetwork(new Architecture([1, 28, 28], [.. EncoderLayers(spec.Encoder).Layers, .. HeadLayers(spec, 0).Layers]).ToJson()));
    });

    /// <summary>The network of a seed as it was trained, in evaluation mode.</summary>
    public Halves Load(StitchSpec spec, int seed, Device device)
    {
        Halves halves = Build(spec);
        Dictionary<string, Tensor> state = Safetensors.Read(StatePath(spec, seed));
        halves.Model.load_state_dict(state);
        foreach (Tensor tensor in state.Values) tensor.Dispose();
        halves.Model.to(device);
        halves.Model.eval();
        return halves;
    }

    /// <summary>The score of a network on the test images.</summary>
    public double Score(StitchSpec spec, Module<Tensor, Tensor> model)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor output = Inference.Outputs(model, _testImages);
        return spec.Autoencoder ? functional.mse_loss(output, _testImages.flatten(1)).item<float>() : Classification.Accuracy(output, _testLabels);
    }

    /// <summary>One row of the stitching matrix: the encoder of a seed with the decoders of all seeds (of another setting, where one is given).</summary>
    public ArmResult Stitch(StitchSpec spec, int seed, StitchSpec? decoders = null) => _context.Arm(decoders is null ? spec.Name : $"{spec.Name} with the head of {decoders.Name}", seed, run =>
    {
        using Halves encoder = Load(spec, seed, run.Device);
        double[] row = new double[_context.Seeds.Count];
        var (cosine, mrr, jaccard, cka) = (new List<double>(), new List<double>(), new List<double>(), new List<double>());
        Tensor space = Space(encoder);
        if (spec.Compared && decoders is null)
        {
            run.Tensor("space", space.narrow(0, 0, Math.Min(Drawn, space.shape[0])));
            if (spec.Autoencoder) run.Tensor("own", Inference.Outputs(encoder.Model, _testImages.narrow(0, 0, Reconstructed)));
        }
        for (int j = 0; j < row.Length; j++)
        {
            using DisposeScope scope = NewDisposeScope();
            bool own = decoders is null && _context.Seeds[j] == seed;
            using Halves decoder = Load(decoders ?? spec, _context.Seeds[j], run.Device);
            using StitchedModel stitched = encoder.Relative is { } relative ? ModelStitcher.Stitch(relative, decoder.Relative!) : AbsoluteStitcher.Stitch(encoder.Encoder, decoder.Head);
            row[j] = Score(spec, stitched);
            if (own || decoders is not null) continue;
            if (!spec.Compared) continue;
            Tensor other = Space(decoder);
            cosine.Add(LatentSpaceComparison.Cosine(space, other));
            mrr.Add(LatentSpaceComparison.Mrr(space, other));
            jaccard.Add(LatentSpaceComparison.Jaccard(space, other, (int)Math.Min(10, space.shape[0])));
            cka.Add(LatentSpaceComparison.Cka(space, other));
            if (spec.Autoencoder && cosine.Count == 1) run.Tensor("stitched", Inference.Outputs(stitched, _testImages.narrow(0, 0, Reconstructed)));
        }
        run.Series("row", [.. _context.Seeds.Select(s => (double)s)], row);
        int self = _context.Seeds.ToList().IndexOf(seed);
        if (decoders is null) run.Metric(spec.Metric, row[self]);
        double[] others = [.. row.Where((_, j) => decoders is not null || j != self)];
        run.Metric("stitched", others.Average());
        run.Metric("worst stitched", spec.Autoencoder ? others.Max() : others.Min());
        if (cosine.Count == 0) return;
        run.Metric("cosine", cosine.Average());
        run.Metric("mrr", mrr.Average());
        run.Metric("jaccard", jaccard.Average());
        run.Metric("cka", cka.Average());
    });

    /// <summary>
    /// Latent similarity as a proxy of performance (section 4.2): networks of other learning rates and widths against the well-trained one of the same seed, all seen through the same anchors.
    /// </summary>
    public ArmResult Proxy(StitchSpec good, int seed) => _context.Arm("performance proxy", seed, run =>
    {
        Tensor anchors = Anchors(AnchorStrategy.Random, _options.Anchors).Take(_images);
        Tensor Relative(Module<Tensor, Tensor> encoder) => RelativeProjection.Project(Inference.Outputs(encoder, _testImages), Inference.Outputs(encoder, anchors));
        Tensor reference;
        using (Halves trained = Load(good, seed, run.Device)) reference = Relative(trained.Encoder);
        List<Tensor> candidates = [];
        List<double> scores = [];
        long count = Math.Min(_options.ProxyImages, _images.shape[0]);
        foreach (double rate in _options.ProxyRates)
        {
            foreach (long width in new[] { _options.Hidden / 8, _options.Hidden })
            {
                Runtime.Seeds.Set(Runtime.Seeds.Derive(seed, candidates.Count, 7));
                Architecture layers = EncoderLayers("mlp", Math.Max(2, width));
                using var encoder = new Network(layers);
                Module<Tensor, Tensor> model = nn.Sequential(("encoder", encoder), ("head", new Network(HeadLayers(good, 0))));
                model.to(run.Device);
                using var learner = new ClassifierLearner(model, optim.Adam(model.parameters(), rate));
                run.Trainer(new TrainerOptions { Epochs = 1, BatchSize = _options.BatchSize }).Fit(learner, new TensorSource(_images.narrow(0, 0, count), _labels.narrow(0, 0, count)), cancellation: run.Cancellation);
                scores.Add(Score(good, model));
                candidates.Add(Relative(encoder));
            }
        }
        PerformanceProxy proxy = LatentSpaceComparison.PerformanceProxy(reference, candidates, scores);
        run.Series("proxy", proxy.Similarities, scores);
        run.Metric("pearson", proxy.Pearson);
    });

    /// <summary>Drops the trained networks that only this run needed.</summary>
    public void Clean()
    {
        string folder = Path.Combine(_context.Folder, "networks");
        if (Directory.Exists(folder)) Directory.Delete(folder, recursive: true); // a run that was interrupted later has none
    }

    // What is compared: similarities to the anchors as they are, or the embeddings.
    private Tensor Space(Halves halves)
    {
        Tensor z = Inference.Outputs(halves.Encoder, _testImages);
        return halves.Relative is { } relative ? RelativeProjection.Project(z, relative.AnchorEmbeddings().to(z.device)) : z;
    }

    private Halves Build(StitchSpec spec)
    {
        if (spec.Projection is null)
        {
            var (encoder, head) = (new Network(EncoderLayers(spec.Encoder)), new Network(HeadLayers(spec, 0)));
            return new Halves(nn.Sequential(("encoder", encoder), ("head", head)), encoder, head);
        }
        RelativeModel model = Describe(spec).Build(Anchors(spec.Strategy, spec.Anchors).Take(_images));
        return new Halves(model, model.Encoder, model.Head);
    }

    private RelativeNetwork Describe(StitchSpec spec)
    {
        using var projection = new RelativeProjection(spec.Anchors, spec.Projection, _options.Latent);
        return new RelativeNetwork(EncoderLayers(spec.Encoder).ToJson(), HeadLayers(spec, projection.OutputWidth).ToJson(), spec.Anchors, spec.Projection!, spec.Variational, _options.RefreshEvery);
    }

    private Architecture EncoderLayers(string kind, long? hidden = null) => kind == "cnn"
        ? new Architecture([1, 28, 28],
        [
            new Layer("conv1", LayerKind.Conv2d) { Width = 16, Kernel = 3, Stride = 2, Padding = 1 }, new Layer("gelu1", LayerKind.Gelu),
            new Layer("conv2", LayerKind.Conv2d) { Width = 32, Kernel = 3, Stride = 2, Padding = 1 }, new Layer("gelu2", LayerKind.Gelu),
            new Layer("flatten", LayerKind.Flatten), new Layer("embedding", LayerKind.Linear) { Width = _options.Latent },
        ])
        : new Architecture([1, 28, 28], [new Layer("flatten", LayerKind.Flatten), new Layer("hidden", LayerKind.Linear) { Width = hidden ?? _options.Hidden }, new Layer("gelu", LayerKind.Gelu), new Layer("embedding", LayerKind.Linear) { Width = _options.Latent }]);

    // Relative representations come normalised from the projection; an absolute classifier has its own layer normalisation, as many parameters for as many inputs.
    private Architecture HeadLayers(StitchSpec spec, long width)
    {
        List<Layer> layers = [];
        if (spec.Autoencoder)
        {
            layers.Add(new Layer("decoder1", LayerKind.Linear) { Width = _options.Hidden });
            layers.Add(new Layer("decoder_gelu", LayerKind.Gelu));
            layers.Add(new Layer("decoder2", LayerKind.Linear) { Width = 784 });
        }
        else
        {
            if (width == 0) layers.Add(new Layer("norm", LayerKind.LayerNorm));
            layers.Add(new Layer("logits", LayerKind.Linear) { Width = 10 });
        }
        return new Architecture([width == 0 ? _options.Latent : width], layers);
    }

    private string StatePath(StitchSpec spec, int seed)
    {
        string folder = Path.Combine(_context.Folder, "networks");
        Directory.CreateDirectory(folder);
        return Path.Combine(folder, $"{string.Concat(spec.Name.Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-'))}-{seed}.safetensors");
    }
}
