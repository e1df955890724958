using System.Globalization;
using Priori.Data;
using Priori.Nn;
using Priori.Numerics;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Recipes.Similarity;

/// <summary>Options of <see cref="RelativeRepresentationsRecipe"/>.</summary>
public sealed record RelativeRepresentationsRecipeOptions : RecipeOptions
{
    /// <summary>Number of anchors.</summary>
    [Option("Anchors k.", Min = 1)]
    public int Anchors { get; init; } = 300;

    /// <summary>How anchors are chosen.</summary>
    [Option("How anchors are chosen where no file names them.")]
    public AnchorStrategy Strategy { get; init; } = AnchorStrategy.Random;

    /// <summary>Coordinates.</summary>
    [Option("What a coordinate of a relative representation is.")]
    public RelativeSimilarity Similarity { get; init; } = RelativeSimilarity.Cosine;

    /// <summary>Normalisation of each space.</summary>
    [Option("What is done to each space before similarities, with the statistics of its anchors.")]
    public SpaceNormalization Space { get; init; } = SpaceNormalization.None;

    /// <summary>Ridge of the translation.</summary>
    [Option("Own embeddings: ridge of the translation through the anchors, relative to the mean eigenvalue of their Gram matrix; 0 is the pseudo-inverse.", Min = 0)]
    public double Ridge { get; init; } = 0.3;

    /// <summary>Matrix of own files.</summary>
    [Option("Own embeddings: name of the matrix in files that hold several.")]
    public string Matrix { get; init; } = "";

    /// <summary>Held-out rows.</summary>
    [Option("Own data: most held-out rows that are searched with.", Min = 1)]
    public int HeldOut { get; init; } = 5000;

    /// <summary>Neighbours.</summary>
    [Option("Neighbours k of recall and of the Jaccard index.", Min = 1)]
    public int Neighbours { get; init; } = 10;

    /// <summary>When an index is kept.</summary>
    [Option("Own embeddings: mean reciprocal rank from which the old index is kept.", Min = 0, Max = 1)]
    public double KeepMrr { get; init; } = 0.9;

    /// <summary>Training images.</summary>
    [Option("Training images of each network.", Min = 20)]
    public int TrainImages { get; init; } = 15_000;

    /// <summary>Test images.</summary>
    [Option("Test images.", Min = 10)]
    public int TestImages { get; init; } = 2000;

    /// <summary>Encoder of the main experiments.</summary>
    [Option("Encoder of the main experiments.", Choices = ["mlp", "cnn"])]
    public string Encoder { get; init; } = "mlp";

    /// <summary>Hidden width.</summary>
    [Option("Width of the hidden layers.", Min = 2)]
    public long Hidden { get; init; } = 256;

    /// <summary>Latent width.</summary>
    [Option("Width d of the embeddings.", Min = 2)]
    public long Latent { get; init; } = 64;

    /// <summary>Epochs of autoencoders.</summary>
    [Option("Epochs of an autoencoder.", Min = 1)]
    public int AutoencoderEpochs { get; init; } = 5;

    /// <summary>Epochs of classifiers.</summary>
    [Option("Epochs of a classifier.", Min = 1)]
    public int ClassifierEpochs { get; init; } = 3;

    /// <summary>Loss of autoencoders.</summary>
    [Option("What the autoencoders minimise.")]
    public ReconstructionLoss Loss { get; init; } = ReconstructionLoss.MeanSquaredError;

    /// <summary>Learning rate.</summary>
    [Option("Adam's learning rate.", Min = 1e-8)]
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Batch size.</summary>
    [Option("Images in a training batch.", Min = 2)]
    public int BatchSize { get; init; } = 128;

    /// <summary>Refresh of anchors.</summary>
    [Option("Training steps between embeddings of the anchors.", Min = 1)]
    public int RefreshEvery { get; init; } = 1;

    /// <summary>Seed of the anchors.</summary>
    [Option("Seed of the choice of anchors, shared by all networks.")]
    public int AnchorSeed { get; init; }

    /// <summary>Numbers of anchors.</summary>
    [Option("Numbers of anchors that are compared.", Min = 1)]
    public IReadOnlyList<int> AnchorCounts { get; init; } = [10, 30, 100, 300];

    /// <summary>Strategies.</summary>
    [Option("Strategies that are compared.")]
    public IReadOnlyList<AnchorStrategy> Strategies { get; init; } = [AnchorStrategy.Random, AnchorStrategy.Stratified, AnchorStrategy.FarthestPoint, AnchorStrategy.KMeans];

    /// <summary>Variants.</summary>
    [Option("Settings of the projection that are compared on the classifier.", Choices = ["inner", "basis change", "centred", "standardised", "quantised", "class means", "anchor values", "trainable values", "self-attention", "no norm", "l2", "batch norm", "instance norm"])]
    public IReadOnlyList<string> Variants { get; init; } = ["inner", "basis change", "centred", "standardised", "quantised", "class means", "anchor values", "trainable values", "no norm", "l2", "batch norm", "instance norm"];

    /// <summary>Bin of the quantised variant.</summary>
    [Option("Bin of the quantised similarities.", Min = 1e-6)]
    public double QuantizationBin { get; init; } = 0.1;

    /// <summary>Images of the proxy's networks.</summary>
    [Option("Training images of the networks whose similarity is compared with their accuracy.", Min = 10)]
    public int ProxyImages { get; init; } = 4000;

    /// <summary>Learning rates of the proxy's networks.</summary>
    [Option("Learning rates of those networks, two widths each.", Min = 1e-8)]
    public IReadOnlyList<double> ProxyRates { get; init; } = [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 3e-2];

    /// <summary>Texts.</summary>
    [Option("Most texts for word vectors.", Min = 10)]
    public int WordTexts { get; init; } = 1400;

    /// <summary>Least count of a word.</summary>
    [Option("Least count of a word in each half of the corpus.", Min = 1)]
    public int WordMinimumCount { get; init; } = 10;

    /// <summary>Width of word vectors.</summary>
    [Option("Width of the word vectors.", Min = 2)]
    public int WordWidth { get; init; } = 100;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Anchors > TrainImages) throw new BadInputException($"There are {TrainImages} training images, so at most as many anchors, not {Anchors}.");
        if (AnchorCounts.Count == 0 || AnchorCounts.Max() > TrainImages) throw new BadInputException($"Option 'anchor-counts' needs numbers from 1 to the {TrainImages} training images.");
        if (Strategies.Contains(AnchorStrategy.Provided) || Strategy == AnchorStrategy.Provided) throw new BadInputException("Anchors are provided by a file (--data.anchors), not by an option: strategies are random, stratified, farthest-point and k-means.");
    }
}

/// <summary>Relative representations: networks of different seeds stitched without training, word spaces compared, and the user's own change of an embedding model.</summary>
public sealed class RelativeRepresentationsRecipe : Recipe<RelativeRepresentationsRecipeOptions>
{
    private const string AbsoluteAutoencoder = "autoencoder absolute", RelativeAutoencoder = "autoencoder relative", VariationalAutoencoder = "variational autoencoder relative",
        AbsoluteClassifier = "classifier absolute", RelativeClassifier = "classifier relative";

    private static readonly string[] s_spaceMetrics = ["cosine", "mrr", "jaccard", "cka"];

    /// <inheritdoc/>
    public override string Id => "relative-representations";

    /// <inheritdoc/>
    public override string Area => "Similarity";

    /// <inheritdoc/>
    public override string Title => "Relative representations";

    /// <inheritdoc/>
    public override string Summary => "Makes embeddings of separately trained models comparable through shared anchors: stitches encoders with foreign decoders, and tells whether an old index survives a new embedding model.";

    /// <inheritdoc/>
    public override Paper Paper => new("Relative representations enable zero-shot latent space communication", "Moschella, Maiorca, Fumero, Norelli, Locatello, Rodolà", "ICLR", 2023, "https://arxiv.org/abs/2209.15430");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("reconstruction", "On every pair of seeds the stitched relative autoencoder's error is at most twice that of either network by itself (the largest ratio)."),
        new("reconstruction-absolute", "On every pair it is at most a third of the stitched absolute autoencoder's (the largest ratio)."),
        new("classification", "On every pair the stitched relative classifier is at most 0.04 less accurate than either network by itself (the smallest difference)."),
        new("classification-absolute", "On every pair it is at least 0.6 more accurate than the stitched absolute classifier (the smallest difference)."),
        new("end-to-end", "By itself the relative classifier is at most 0.02 less accurate than the absolute one, on every seed (the smallest difference)."),
        new("anchors-classifier", "Stitched classifiers become more accurate with every larger number of anchors, averaged over the pairs (the smallest step is above 0)."),
        new("anchors-autoencoder", "Stitched autoencoders reconstruct better with every larger number of anchors, averaged over the pairs (the largest step is below 0)."),
        new("words", "Between word vectors of two halves of a corpus the relative MRR of counterparts is at least 0.2 above the absolute one."),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        ["a"] = "Embeddings by the old model (npz, npy, safetensors, CSV, Parquet), the index that might be kept; for apply, new rows of the old model.",
        ["b"] = "Embeddings of the same things by the new model, rows paired by id or by order.",
        ["anchors"] = "A table with the ids (or row numbers from 0) of the rows that are the anchors; chosen when not given.",
        ["encoder"] = "A network (safetensors with its layers) whose encoder is stitched; --data gives inputs with labels.",
        ["decoder"] = "The network whose classifier is stitched onto that encoder.",
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0, 1] : [10, 11, 12]; // the thresholds were found on other seeds

    /// <inheritdoc/>
    public override RelativeRepresentationsRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new RelativeRepresentationsRecipeOptions
        {
            TrainImages = 1000, TestImages = 200, Anchors = 60, AnchorCounts = [10, 60], AutoencoderEpochs = 1, ClassifierEpochs = 1, Hidden = 64, Latent = 16, ProxyImages = 300, ProxyRates = [1e-4, 1e-2], WordTexts = 300, WordWidth = 16, WordMinimumCount = 4,
            Variants = ["inner", "basis change", "centred", "standardised", "quantised", "class means", "anchor values", "trainable values", "self-attention", "no norm", "l2", "batch norm", "instance norm"],
        },
        // Appendix A of the paper and its published configuration: 500 stratified anchors, a convolutional encoder with 500 latents, at most 100 epochs.
        Budget.Paper => new RelativeRepresentationsRecipeOptions { TrainImages = 60_000, TestImages = 10_000, Encoder = "cnn", Latent = 500, Anchors = 500, Strategy = AnchorStrategy.Stratified, Loss = ReconstructionLoss.OptimalSigmaNll, AutoencoderEpochs = 100, ClassifierEpochs = 100, AnchorCounts = [10, 30, 100, 300, 500] },
        _ => new RelativeRepresentationsRecipeOptions(),
    };

    /// <inheritdoc/>
    public override void Run(RelativeRepresentationsRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        if (context.Data is { } data)
        {
            if (data.Parts.ContainsKey("encoder") || data.Parts.ContainsKey("decoder")) NetworkStitching.Run(options, context, data);
            else EmbeddingMigration.Run(options, context, data);
            return;
        }
        if (context.Seeds.Distinct().Count() < 2) throw new BadInputException("Stitching needs networks of at least two seeds: --seeds 0,1.");
        RunDigits(options, context);
        RunWords(options, context);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        if (run.Models.Contains(EmbeddingMigration.ModelName)) EmbeddingMigration.Apply(run, context);
        else if (run.Models.Contains(NetworkStitching.ModelName)) NetworkStitching.Apply(run, context);
        else ApplyDigits(run, context);
    }

    private static void RunDigits(RelativeRepresentationsRecipeOptions options, RunContext context)
    {
        var digits = new DigitSpaces(options, context);
        var projection = new RelativeProjectionOptions { Similarity = options.Similarity, Space = options.Space };
        StitchSpec Autoencoder(string name, RelativeProjectionOptions? p) => new(name, true, p) { Anchors = options.Anchors, Strategy = options.Strategy, Loss = options.Loss, Encoder = options.Encoder };
        StitchSpec Classifier(string name, RelativeProjectionOptions? p) => new(name, false, p) { Anchors = options.Anchors, Strategy = options.Strategy, Encoder = options.Encoder };
        var results = new Dictionary<string, ArmResult[]>();
        void Run(StitchSpec spec)
        {
            foreach (int seed in context.Seeds) digits.Train(spec, seed);
            results[spec.Name] = [.. context.Seeds.Select(seed => digits.Stitch(spec, seed))];
        }
        StitchSpec[] main =
        [
            Autoencoder(AbsoluteAutoencoder, null) with { Compared = true }, Autoencoder(RelativeAutoencoder, projection) with { Compared = true },
            Classifier(AbsoluteClassifier, null) with { Compared = true }, Classifier(RelativeClassifier, projection) with { Compared = true },
        ];
        foreach (StitchSpec spec in main) Run(spec);
        MainTable(context, main, results);
        MainClaims(context, results);
        MainFigures(context, digits, main, results);

        Run(Autoencoder(VariationalAutoencoder, projection) with { Variational = true });

        // The number of anchors; that of the main experiment is already there.
        string Counted(string name, int count) => count == options.Anchors ? name : FormattableString.Invariant($"{name}, {count} anchors");
        foreach (int count in options.AnchorCounts.Where(c => c != options.Anchors))
        {
            Run(Autoencoder(Counted(RelativeAutoencoder, count), projection) with { Anchors = count });
            Run(Classifier(Counted(RelativeClassifier, count), projection) with { Anchors = count });
        }
        int[] counts = [.. options.AnchorCounts.Order()];
        AnchorCountFigures(context, counts, Counted, results);

        string Chosen(string name, AnchorStrategy strategy) => strategy == options.Strategy ? name : $"{name}, {Name(strategy)} anchors";
        foreach (AnchorStrategy strategy in options.Strategies.Where(s => s != options.Strategy))
        {
            Run(Autoencoder(Chosen(RelativeAutoencoder, strategy), projection) with { Strategy = strategy });
            Run(Classifier(Chosen(RelativeClassifier, strategy), projection) with { Strategy = strategy });
        }
        context.Table("strategies", $"How {options.Anchors} anchors are chosen: by itself and stitched (mean over pairs, worst pair)", ["anchors", "MSE", "MSE stitched", "worst", "accuracy", "accuracy stitched", "worst"],
            [.. options.Strategies.Select(s => (IReadOnlyList<string>)[Name(s), .. Cells(results[Chosen(RelativeAutoencoder, s)], "mse"), .. Cells(results[Chosen(RelativeClassifier, s)], "accuracy")])]);

        foreach (string variant in options.Variants) Run(Classifier($"classifier, {variant}", Variant(variant)));
        context.Table("variants", "Settings of the projection, classifier: by itself and stitched (mean over pairs, worst pair)", ["projection", "accuracy", "accuracy stitched", "worst"],
            [(IReadOnlyList<string>)["default", .. Cells(results[RelativeClassifier], "accuracy")], .. options.Variants.Select(v => (IReadOnlyList<string>)[v, .. Cells(results[$"classifier, {v}"], "accuracy")])]);

        // Encoders of another architecture, in both directions, and the absolute baseline.
        string other = options.Encoder == "mlp" ? "cnn" : "mlp";
        StitchSpec relative = Classifier($"{other} classifier relative", projection) with { Encoder = other }, absolute = Classifier($"{other} classifier absolute", null) with { Encoder = other };
        List<IReadOnlyList<string>> rows = [];
        foreach ((StitchSpec own, StitchSpec foreign) in new[] { (main[3], relative), (main[2], absolute) })
        {
            Run(foreign);
            foreach ((StitchSpec encoder, StitchSpec head) in new[] { (own, foreign), (foreign, own) })
            {
                ArmResult[] cross = [.. context.Seeds.Select(seed => digits.Stitch(encoder, seed, head))];
                rows.Add([encoder.Name, head.Name, Numbers.MeanAndDeviation(results[encoder.Name], "accuracy"), Numbers.MeanAndDeviation(results[head.Name], "accuracy"), Numbers.MeanAndDeviation(cross, "stitched"), Numbers.Text(cross.Min(c => c["worst stitched"]), "F4")]);
            }
        }
        context.Table("architectures", $"The {options.Encoder} and the {other} encoder with each other's classifiers, all pairs of seeds", ["encoder of", "head of", "encoder's own accuracy", "head's own accuracy", "stitched", "worst pair"], rows);

        ArmResult[] proxies = [.. context.Seeds.Select(seed => digits.Proxy(main[2], seed))];
        context.Figure("proxy", "Mean cosine of a network's relative representations and those of a well-trained one, against its accuracy; a colour is a seed.",
            Charts.Scatter("Latent similarity and performance", "similarity to the well-trained network", "accuracy", [.. proxies.Select(p => ($"seed {p.Seed}", p.Series("proxy").X, p.Series("proxy").Y))]));
        context.Table("proxy", "Latent similarity as a proxy of performance: Pearson correlation over networks", ["seed", "Pearson"], [.. proxies.Select(p => (IReadOnlyList<string>)[Numbers.Text(p.Seed, "F0"), Numbers.Text(p["pearson"], "F3")])]);
        context.Table("variational", "The variational autoencoder (sampling after the projection)", ["model", "MSE", "MSE stitched", "worst"], [(IReadOnlyList<string>)[VariationalAutoencoder, .. Cells(results[VariationalAutoencoder], "mse")]]);
        context.Compare(null, "relative - absolute classifier, by itself", results[RelativeClassifier], results[AbsoluteClassifier], "accuracy");
        context.Compare(null, "relative - absolute classifier, stitched", results[RelativeClassifier], results[AbsoluteClassifier], "stitched");
        context.Compare(null, "relative - absolute autoencoder, by itself (error)", results[RelativeAutoencoder], results[AbsoluteAutoencoder], "mse");
        context.Compare(null, "relative - absolute autoencoder, stitched (error)", results[RelativeAutoencoder], results[AbsoluteAutoencoder], "stitched");
        digits.Clean();

        RelativeProjectionOptions Variant(string name) => name switch
        {
            "inner" => projection with { Similarity = RelativeSimilarity.Inner },
            "basis change" => projection with { Similarity = RelativeSimilarity.BasisChange },
            "centred" => projection with { Space = SpaceNormalization.Center },
            "standardised" => projection with { Space = SpaceNormalization.Standardize },
            "quantised" => projection with { QuantizationBin = options.QuantizationBin },
            "class means" => projection with { AnchorClasses = digits.AnchorClasses(options.Strategy, options.Anchors) },
            "anchor values" => projection with { Values = RelativeValues.Anchors },
            "trainable values" => projection with { Values = RelativeValues.Trainable, ValueWidth = options.Latent },
            "self-attention" => projection with { Values = RelativeValues.SelfAttention, ValueWidth = 4 },
            "no norm" => projection with { OutputNormalization = OutputNormalization.None },
            "l2" => projection with { OutputNormalization = OutputNormalization.L2 },
            "batch norm" => projection with { OutputNormalization = OutputNormalization.BatchNorm },
            "instance norm" => projection with { OutputNormalization = OutputNormalization.InstanceNorm },
            _ => throw new BadInputException($"Variant '{name}' is unknown."),
        };
    }

    private static string[] Cells(ArmResult[] arm, string metric) =>
        [Numbers.MeanAndDeviation(arm, metric), Numbers.MeanAndDeviation(arm, "stitched"), Numbers.Text(metric == "mse" ? arm.Max(a => a["worst stitched"]) : arm.Min(a => a["worst stitched"]), "F4")];

    private static string Name(AnchorStrategy strategy) => strategy switch { AnchorStrategy.FarthestPoint => "farthest-point", AnchorStrategy.KMeans => "k-means", _ => strategy.ToString().ToLowerInvariant() };

    private static void MainTable(RunContext context, StitchSpec[] main, Dictionary<string, ArmResult[]> results)
        => context.Table("stitching", $"Networks of {context.Seeds.Count} seeds by themselves and stitched: mean over {context.Seeds.Count * (context.Seeds.Count - 1)} ordered pairs, worst pair; and how similar the spaces are (counterparts among the test images)",
            ["model", "metric", "by itself", "stitched", "worst pair", "cosine", "MRR", "Jaccard", "CKA"],
            [.. main.Select(s => (IReadOnlyList<string>)[s.Name, s.Metric, .. Cells(results[s.Name], s.Metric), .. s_spaceMetrics.Select(m => Numbers.MeanAndDeviation(results[s.Name], m, "F3"))])]);

    // Every ordered pair (encoder i, decoder j), i != j: its figure and the two networks' own.
    private static IEnumerable<(double Stitched, double EncoderOwn, double DecoderOwn, double Baseline)> Pairs(ArmResult[] arm, ArmResult[] baseline)
    {
        double[][] rows = [.. arm.Select(a => a.Series("row").Y)], others = [.. baseline.Select(a => a.Series("row").Y)];
        for (int i = 0; i < rows.Length; i++)
            for (int j = 0; j < rows.Length; j++)
                if (i != j) yield return (rows[i][j], rows[i][i], rows[j][j], others[i][j]);
    }

    private static void MainClaims(RunContext context, Dictionary<string, ArmResult[]> results)
    {
        void Largest(string claim, IEnumerable<double> pairs, double threshold)
        {
            double[] values = [.. pairs];
            context.Check(claim, values.Max(), Comparison.AtMost, threshold, values);
        }
        void Smallest(string claim, IEnumerable<double> pairs, double threshold)
        {
            double[] values = [.. pairs];
            context.Check(claim, values.Min(), Comparison.AtLeast, threshold, values);
        }
        var reconstruction = Pairs(results[RelativeAutoencoder], results[AbsoluteAutoencoder]).ToArray();
        Largest("reconstruction", reconstruction.Select(p => p.Stitched / Math.Min(p.EncoderOwn, p.DecoderOwn)), 2);
        Largest("reconstruction-absolute", reconstruction.Select(p => p.Stitched / p.Baseline), 1.0 / 3);
        var classification = Pairs(results[RelativeClassifier], results[AbsoluteClassifier]).ToArray();
        Smallest("classification", classification.Select(p => p.Stitched - Math.Max(p.EncoderOwn, p.DecoderOwn)), -.04);
        Smallest("classification-absolute", classification.Select(p => p.Stitched - p.Baseline), .6);
        Smallest("end-to-end", results[RelativeClassifier].Zip(results[AbsoluteClassifier], (r, a) => r["accuracy"] - a["accuracy"]), -.02);
    }

    private static void MainFigures(RunContext context, DigitSpaces digits, StitchSpec[] main, Dictionary<string, ArmResult[]> results)
    {
        string[] seeds = [.. context.Seeds.Select(s => $"seed {s}")];
        foreach (StitchSpec spec in main)
        {
            var values = new double[seeds.Length, seeds.Length];
            for (int i = 0; i < seeds.Length; i++)
            {
                double[] row = results[spec.Name][i].Series("row").Y;
                for (int j = 0; j < seeds.Length; j++) values[i, j] = row[j];
            }
            context.Figure($"stitching-{spec.Name.Replace(' ', '-')}", $"{spec.Name}: {(spec.Autoencoder ? "mean squared error" : "accuracy")} of the encoder of each seed (rows) with the decoder of each seed (columns); the diagonal is the network itself.",
                Charts.Heatmap($"{spec.Name}, {spec.Metric}", values, "decoder", "encoder", seeds, seeds), 560, 460);
            Csv.Write(context.OutputPath($"stitching-{spec.Name.Replace(' ', '-')}.csv"), ["encoder", .. seeds], Enumerable.Range(0, seeds.Length).Select(i => (IReadOnlyList<string>)[seeds[i], .. Enumerable.Range(0, seeds.Length).Select(j => Numbers.Text(values[i, j], "G6"))]));
        }

        // Latents of the autoencoders on the components of the first seed's: what is one space coincides.
        (_, Tensor labels) = digits.Test;
        foreach (StitchSpec spec in main.Where(s => s.Autoencoder))
        {
            Pca? plane = null;
            foreach (ArmResult result in results[spec.Name])
            {
                using Tensor space = result.Tensor("space");
                plane ??= Pca.Fit(space, 2);
                Tensor points = plane.Transform(space).to(float64);
                long[] classes = labels.narrow(0, 0, space.shape[0]).data<long>().ToArray();
                double[] x = points.select(1, 0).contiguous().data<double>().ToArray(), y = points.select(1, 1).contiguous().data<double>().ToArray();
                context.Figure($"latent-{(spec.Projection is null ? "absolute" : "relative")}-{result.Seed}", $"{spec.Name}, seed {result.Seed}: test images on the first two principal components of seed {context.Seeds[0]}'s space; a colour is a digit.",
                    Charts.Scatter($"{spec.Name}, seed {result.Seed}", "first component", "second component", [.. classes.Distinct().Order().Select(c => ($"{c}", x.Where((_, i) => classes[i] == c).ToArray(), y.Where((_, i) => classes[i] == c).ToArray()))]), 560, 480);
            }
        }

        ArmResult absolute = results[AbsoluteAutoencoder][0], relative = results[RelativeAutoencoder][0];
        Tensor own = absolute.Tensor("own");
        int columns = (int)own.shape[0];
        Tensor grid = cat([digits.Test.Images.narrow(0, 0, columns).flatten(1), own, absolute.Tensor("stitched"), relative.Tensor("own"), relative.Tensor("stitched")]).view(-1, 1, 28, 28);
        context.Figure("reconstructions", $"Test images, and reconstructions by the autoencoder of seed {context.Seeds[0]} and by its encoder with the decoder of seed {context.Seeds[1]}.",
            Charts.Images("Reconstructions", grid, columns, ["image", "absolute", "absolute, stitched", "relative", "relative, stitched"]), 1000, 620);
    }

    private static void AnchorCountFigures(RunContext context, int[] counts, Func<string, int, string> name, Dictionary<string, ArmResult[]> results)
    {
        double[] x = [.. counts.Select(c => (double)c)];
        foreach ((string model, string metric, string label) in new[] { (RelativeAutoencoder, "mse", "mean squared error"), (RelativeClassifier, "accuracy", "accuracy") })
        {
            Curve Line(string series, string value) => new(series, x, [.. context.Seeds.Select((_, s) => (IReadOnlyList<double>)[.. counts.Select(c => results[name(model, c)][s][value])])]);
            context.Figure($"anchors-{metric}", $"{model}: {label} against the number of anchors, by itself and stitched (mean over the other seeds' decoders); the band is over seeds.",
                Charts.Lines($"{model}: number of anchors", "anchors", label, [Line("by itself", metric), Line("stitched", "stitched")], logX: true));
        }
        context.Table("anchors", "Number of anchors: by itself and stitched (mean over pairs, worst pair)", ["anchors", "MSE", "MSE stitched", "worst", "accuracy", "accuracy stitched", "worst"],
            [.. counts.Select(c => (IReadOnlyList<string>)[c.ToString(CultureInfo.InvariantCulture), .. Cells(results[name(RelativeAutoencoder, c)], "mse"), .. Cells(results[name(RelativeClassifier, c)], "accuracy")])]);
        if (counts.Length < 2) return;
        double[] Steps(string model) => [.. counts.Zip(counts.Skip(1), (low, high) => results[name(model, high)].Average(r => r["stitched"]) - results[name(model, low)].Average(r => r["stitched"]))];
        double[] classifier = Steps(RelativeClassifier), autoencoder = Steps(RelativeAutoencoder);
        context.Check("anchors-classifier", classifier.Min(), Comparison.AtLeast, 1e-9, classifier);
        context.Check("anchors-autoencoder", autoencoder.Max(), Comparison.AtMost, -1e-9, autoencoder);
    }

    private static void RunWords(RelativeRepresentationsRecipeOptions options, RunContext context)
    {
        Dictionary<string, List<ArmResult>> results = WordSpaces.Run(options, context);
        string[] metrics = ["mrr", "recall@1", "jaccard", "cosine", "cka"];
        context.Table("words", $"Word vectors (PPMI, SVD, {options.WordWidth} dimensions) of two halves of a corpus: {Numbers.Text(results[WordSpaces.Relative].Average(r => r["words"]), "F0")} words that are no anchors, {Numbers.Text(results[WordSpaces.Relative].Average(r => r["anchors"]), "F0")} anchors",
            ["way", .. metrics], [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. metrics.Select(m => Numbers.MeanAndDeviation(r.Value, m))])]);
        context.Compare("words", "words: relative - absolute", results[WordSpaces.Relative], results[WordSpaces.Absolute], "mrr", .2);
        context.Compare(null, "words: relative - procrustes", results[WordSpaces.Relative], results[WordSpaces.Orthogonal], "mrr");
    }

    // Classes of new images by the first seed's relative classifier, and by its encoder with the second seed's head.
    private static void ApplyDigits(SavedRun run, ApplyContext context)
    {
        string[] names = [.. run.Models.Where(m => m.StartsWith(RelativeClassifier, StringComparison.Ordinal)).Take(2)];
        if (names.Length < 2) throw new BadInputException($"Run {run.Folder} has no two relative classifiers.");
        using RelativeModel first = Restore(run, names[0]), second = Restore(run, names[1]);
        Examples examples = Examples.Read(context.DataPath, [1, 28, 28]);
        using StitchedModel stitched = ModelStitcher.Stitch(first, second);
        WriteClasses(context, examples.Inputs, ("class", first), ("stitched_class", stitched));
        context.Report($"{examples.Count} images classified by {names[0]}, and by its encoder with the head of {names[1]}: {context.OutPath}");
    }

    internal static RelativeModel Restore(SavedRun run, string name)
    {
        var description = run.Description<RelativeNetwork>(name);
        Dictionary<string, Tensor> state = run.Model(name);
        RelativeModel model = description.Build(state["anchors"]);
        model.load_state_dict(state);
        model.eval();
        return model;
    }

    internal static void WriteClasses(ApplyContext context, Tensor inputs, params (string Name, Module<Tensor, Tensor> Model)[] models)
    {
        var columns = models.Select(m =>
        {
            (Tensor shares, Tensor classes) = Inference.Outputs(m.Model, inputs).softmax(1).max(1);
            return (Classes: classes.cpu().data<long>().ToArray(), Shares: shares.cpu().data<float>().ToArray());
        }).ToArray();
        Csv.Write(context.OutPath, ["row", .. models.SelectMany(m => new[] { m.Name, $"{m.Name[..^"class".Length]}probability" })],
            Enumerable.Range(0, (int)inputs.shape[0]).Select(row => (IReadOnlyList<string>)[Numbers.Text(row, "F0"), .. columns.SelectMany(c => new[] { Numbers.Text(c.Classes[row], "F0"), Numbers.Text(c.Shares[row], "F4") })]));
    }
}
