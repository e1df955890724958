using System.Globalization;
using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Recommendation;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.Recommendation;

/// <summary>Options of <see cref="JobMatchingRecipe"/>.</summary>
public sealed record JobMatchingRecipeOptions : RecipeOptions
{
    /// <summary>Arms to train.</summary>
    [Option("Arms; by default the modes, the ablations of sharing and three text encoders, on own data joint, filter, filter-init and mv-con.", Choices = ["joint", "self-paced", "filter", "reweight", "decoupled", "filter-per-class", "filter-init", "filter-features", "mv-con", "mv-con-gradient", "mv-con-reweight", "joint-shared", "filter-hierarchical", "filter-cnn"])]
    public IReadOnlyList<string> Arms { get; init; } = [];

    /// <summary>Training pairs generated.</summary>
    [Option("Training pairs of the generated market; a sixth as many validate, two thirds as many test.", Min = 60)]
    public int Pairs { get; init; } = 6000;

    /// <summary>Label noise of the generated pairs.</summary>
    [Option("Share of flipped training and validation labels of the generated market.", Min = 0, Max = 0.49)]
    public double Noise { get; init; } = 0.3;

    /// <summary>Noise rates of the sweep.</summary>
    [Option("Noise rates at which joint and filter are compared; none for no sweep.", Min = 0, Max = 0.49)]
    public IReadOnlyList<double> Sweep { get; init; } = [0, 0.1, 0.2, 0.3, 0.4];

    /// <summary>Keywords of a generated document.</summary>
    [Option("Keywords of each generated document.", Min = 1)]
    public int DocumentKeywords { get; init; } = 3;

    /// <summary>Share of keywords from the topic.</summary>
    [Option("Share of a generated document's keywords that come from its topic.", Min = 0, Max = 1)]
    public double KeywordsOfTopic { get; init; } = 0.6;

    /// <summary>Share discarded.</summary>
    [Option("Share of each batch that filter and self-paced discard in the end.", Min = 0, Max = 0.99)]
    public double Rate { get; init; } = 0.3;

    /// <summary>Warm-up.</summary>
    [Option("Epochs T_k over which the discarded share grows.", Min = 1)]
    public int WarmupEpochs { get; init; } = 6;

    /// <summary>Strength of re-weighting.</summary>
    [Option("beta of re-weighting: w = max(0, 1 - beta loss).", Min = 0)]
    public double Beta { get; init; } = 0.2;

    /// <summary>Selection within classes.</summary>
    [Option("Whether small losses are selected within each class; by default on own data, and where a class has less than 30 % of the pairs.")]
    public bool? PerClass { get; init; }

    /// <summary>Text encoder.</summary>
    [Option("Own data: how texts become vectors.")]
    public DocumentEncoderKind TextEncoder { get; init; } = DocumentEncoderKind.Hierarchical;

    /// <summary>Folder of a BERT model.</summary>
    [Option("Own data, text-encoder=bert: folder with model.safetensors, config.json and vocab.txt.")]
    public string? Bert { get; init; }

    /// <summary>Width of the views.</summary>
    [Option("Width of words, documents and nodes (not of BERT); by default 24, on own data 64.", Min = 1)]
    public int? Dim { get; init; }

    /// <summary>Layers of the graph network.</summary>
    [Option("Layers of the relational graph network.", Min = 1)]
    public int GraphLayers { get; init; } = 2;

    /// <summary>Bases of the relations.</summary>
    [Option("Bases that the relation matrices share; empty for a matrix each.", Min = 1)]
    public int? Bases { get; init; }

    /// <summary>Refresh of node states.</summary>
    [Option("Batches from one computation of the node states to the next.", Min = 1)]
    public int RefreshEvery { get; init; } = 1;

    /// <summary>Most sentences.</summary>
    [Option("Most sentences of a document.", Min = 1)]
    public int MaxSentences { get; init; } = 20;

    /// <summary>Most words.</summary>
    [Option("Most words of a sentence.", Min = 14)]
    public int MaxWords { get; init; } = 50;

    /// <summary>TF-IDF keywords.</summary>
    [Option("TF-IDF keywords of a document where the file has no keywords column.", Min = 1)]
    public int Keywords { get; init; } = 10;

    /// <summary>Sampled negatives.</summary>
    [Option("Sampled pairs labelled 0 for each pair labelled 1; by default 1 where all labels are 1, else 0.", Min = 0)]
    public double? Negatives { get; init; }

    /// <summary>Fresh negatives.</summary>
    [Option("Whether negatives are sampled anew each epoch.")]
    public bool Resample { get; init; } = true;

    /// <summary>Learning rate.</summary>
    [Option("Adam's learning rate.", Min = 1e-8)]
    public double LearningRate { get; init; } = 3e-3;

    /// <summary>Learning rate of the text view.</summary>
    [Option("Adam's learning rate of the text view, where it needs another one.", Min = 1e-8)]
    public double? TextLearningRate { get; init; }

    /// <summary>Weight decay.</summary>
    [Option("Adam's L2 penalty.", Min = 0)]
    public double WeightDecay { get; init; }

    /// <summary>Batch size.</summary>
    [Option("Pairs in a batch.", Min = 4)]
    public int BatchSize { get; init; } = 128;

    /// <summary>Epochs.</summary>
    [Option("Epochs; by default 14, on own data at most 50.", Min = 1)]
    public int? Epochs { get; init; }

    /// <summary>Patience.</summary>
    [Option("Own data: epochs without a better validation AUC before training stops.", Min = 1)]
    public int Patience { get; init; } = 5;

    /// <summary>Candidates of a ranking.</summary>
    [Option("Candidates listed for each new posting.", Min = 1)]
    public int Top { get; init; } = 10;

    /// <inheritdoc/>
    public override void Validate()
    {
        if (TextEncoder == DocumentEncoderKind.Bert && Bert is null) throw new BadInputException("Option 'text-encoder=bert' needs a published model: set bert=FOLDER, with model.safetensors, config.json and vocab.txt.");
        if (RefreshEvery > 1 && Arms.Contains("mv-con-gradient")) throw new BadInputException("Arm 'mv-con-gradient' computes node states at every batch; leave refresh-every at 1.");
    }
}

/// <summary>How a saved model of <see cref="JobMatchingRecipe"/> is rebuilt and fed.</summary>
/// <param name="Encoder">The text encoder.</param>
/// <param name="Views">The views.</param>
/// <param name="Right">Names of the right documents.</param>
/// <param name="Left">Number of left documents.</param>
/// <param name="Keywords">Keywords of the graph.</param>
/// <param name="Categories">Categories of the graph.</param>
/// <param name="Vocabulary">Words, or pieces of BERT.</param>
/// <param name="Documents">Number of texts behind the document frequencies; 0 where keywords were given.</param>
/// <param name="Frequencies">Document frequency of each word.</param>
/// <param name="Validation">AUC on the validation pairs.</param>
public sealed record JobMatchingModel(DocumentEncoderOptions Encoder, MultiViewOptions Views, IReadOnlyList<string> Right, int Left, IReadOnlyList<string> Keywords, IReadOnlyList<string> Categories,
    IReadOnlyList<string> Vocabulary, int Documents, IReadOnlyDictionary<string, int> Frequencies, double Validation);

/// <summary>MV-CoN and its variants on a generated job market with flipped labels, and on the user's own pairs of documents.</summary>
public sealed class JobMatchingRecipe : Recipe<JobMatchingRecipeOptions>
{
    private const string Joint = "joint", SelfPaced = "self-paced", Filter = "filter", FixedRate = "filter, rate .3";
    private const double RareClass = 0.3;
    private static readonly (string Name, string Prefix)[] Views = [("text", "text_"), ("relation", "relation_"), ("ensemble", "")];
    private static readonly string[] Decisions = ["accuracy", "precision", "recall", "f1"];
    private const int SweepSeeds = 3;
    private const double LargestLossShown = 8;
    private static readonly string[] AllArms = [Joint, SelfPaced, Filter, "reweight", "decoupled", "filter-per-class", "filter-init", "filter-features", "mv-con", "mv-con-gradient", "mv-con-reweight", "joint-shared", "filter-hierarchical", "filter-cnn"];

    /// <inheritdoc/>
    public override string Id => "job-matching";

    /// <inheritdoc/>
    public override string Area => "Recommendation";

    /// <inheritdoc/>
    public override string Title => "MV-CoN: multi-view co-teaching";

    /// <inheritdoc/>
    public override string Summary => "Matches two kinds of documents (jobs and resumes, tickets and experts) from few and noisy labels: a text model and a relation-graph model choose training pairs for each other.";

    /// <inheritdoc/>
    public override Paper Paper => new("Learning to Match Jobs with Resumes from Sparse Interaction Data using Multi-View Co-Teaching Network", "Bian, Chen, Zhao, Zhou, Hou, Song, Zhang, Wen", "CIKM", 2020, "https://arxiv.org/abs/2009.13299");

    /// <inheritdoc/>
    public override IReadOnlyList<Claim> Claims =>
    [
        new("filter-above-joint", "In each seed, the last-epoch test AUC of the ensemble is at least 0.04 higher with co-teaching (filter) than with joint training. (The smallest difference.)"),
        new("cross-teaching", "Being taught by the other view helps the weak view: the relation view's last-epoch test AUC is on average at least 0.03 higher with filter than with self-paced learning."),
        new("kept-purity", "In each seed and for both views, at most 20 % of the training pairs that filter keeps in the last epoch have a flipped label (30 % of all have). (The largest share.)"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>
    {
        ["left"] = "Left documents (jobs): a table with columns id, text, and perhaps category and keywords.",
        ["right"] = "Right documents (resumes): the same columns.",
    };

    /// <inheritdoc/>
    public override JobMatchingRecipeOptions Defaults(Budget budget) => budget switch
    {
        Budget.Smoke => new JobMatchingRecipeOptions { Pairs = 1500, Epochs = 4, WarmupEpochs = 2, Sweep = [0, 0.4] },
        // The paper's data are private and its settings could not be read: its encoder, and the learning rate, batch size, decay and lengths of its public configuration.
        Budget.Paper => new JobMatchingRecipeOptions { TextEncoder = DocumentEncoderKind.Bert, Bert = "bert", Dim = 64, LearningRate = 3e-4, TextLearningRate = 2e-5, WeightDecay = 1e-5, BatchSize = 32, Epochs = 200 },
        _ => new JobMatchingRecipeOptions(),
    };

    /// <inheritdoc/>
    public override IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2, 3, 4];

    /// <inheritdoc/>
    public override void Run(JobMatchingRecipeOptions options, RunContext context)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(context);
        bool own = context.Data is not null;
        if (context.Budget == Budget.Paper && !own) throw new BadInputException("The paper's data are private: give your own pairs with --data, --data.left and --data.right, and a BERT model with --set bert=FOLDER.");
        IReadOnlyList<string> arms = options.Arms.Count > 0 ? [.. options.Arms.Distinct()] : own ? [Joint, Filter, "filter-init", "mv-con"] : options.RefreshEvery > 1 ? [.. AllArms.Where(a => a != "mv-con-gradient")] : AllArms;
        MatchingData? read = own ? MatchingData.Read(context.Data!, options, Epochs(options, own), context.Device) : null;
        MatchingData Data(int seed, double noise) => read ?? MatchingData.Generate(options, seed, noise, context.Device);
        MatchingData first = Data(context.Seeds[0], options.Noise);
        context.UsedData(first.Description);
        ReportGraph(context, first);
        Dictionary<string, ArmResult[]> results = arms.ToDictionary(arm => arm, arm => context.Seeds.Select(seed => context.Arm(arm, seed, run => Train(run, arm, Data(seed, options.Noise), options, options.Rate, own, save: true))).ToArray());
        ReportArms(context, results);
        if (!own) Sweep(options, context, results);
        Compare(context, results);
        WriteNoise(context, first, results);
        ReportCurves(context, results);
    }

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        if (!File.Exists(context.DataPath)) throw new BadInputException($"{context.DataPath} does not exist.");
        JobMatchingRecipeOptions options = run.Options<JobMatchingRecipeOptions>();
        var (name, saved) = run.Models.Select(m => (Name: m, Model: run.Description<JobMatchingModel>(m))).MaxBy(m => m.Model.Validation);
        MatchingDocuments posted = MatchingDocuments.Read(context.DataPath);
        TextTokenizer tokenizer = saved.Encoder.Kind == DocumentEncoderKind.Bert ? new WordPieceTokenizer(saved.Vocabulary) : new WordVocabulary(saved.Vocabulary);
        if (posted.Keywords is null && saved.Documents == 0) throw new BadInputException($"{context.DataPath} has no column 'keywords', which the documents of the run had.");
        IReadOnlyList<IReadOnlyList<string>> keywords = posted.Keywords ?? [.. posted.Texts.Select(t => new TfIdf(saved.Documents, saved.Frequencies).Keywords(t, options.Keywords))];
        Dictionary<string, Tensor> tensors = run.Model(name);
        using var graph = new MatchingGraph(saved.Left, saved.Right.Count, saved.Keywords, saved.Categories, tensors["graph"], context.Device);
        using var matcher = new MultiViewMatcher(DocumentEncoder.Create(saved.Encoder), graph, tensors["documents.left"], tensors["documents.right"], saved.Views);
        matcher.Load(tensors);

        string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "ranking.csv");
        const int Block = 64;
        AtomicFile.Write(path, stream =>
        {
            using var writer = new StreamWriter(stream, leaveOpen: true) { NewLine = "\n" };
            writer.WriteLine("left,rank,right,probability,text,relation");
            for (int start = 0; start < posted.Ids.Count; start += Block)
            {
                context.Cancellation.ThrowIfCancellationRequested();
                using var scope = NewDisposeScope();
                int count = Math.Min(Block, posted.Ids.Count - start);
                MatchScores scores = matcher.Rank(tokenizer.Documents([.. posted.Texts.Skip(start).Take(count)], saved.Encoder.MaxSentences, saved.Encoder.MaxWords),
                    [.. keywords.Skip(start).Take(count)], posted.Categories is null ? null : [.. posted.Categories.Skip(start).Take(count)]);
                var (values, at) = scores.Ensemble.cpu().topk(Math.Min(options.Top, saved.Right.Count), 1);
                Tensor text = scores.Text.cpu().gather(1, at), relation = scores.Relation.cpu().gather(1, at);
                for (int i = 0; i < count; i++)
                    for (int k = 0; k < at.shape[1]; k++)
                        writer.WriteLine(string.Join(',', Quote(posted.Ids[start + i]), k + 1, Quote(saved.Right[(int)at[i, k].ToInt64()]), Text(values[i, k].ToDouble()), Text(text[i, k].ToDouble()), Text(relation[i, k].ToDouble())));
            }
        });
        int unknown = keywords.Count(k => !k.Any(saved.Keywords.Contains));
        context.Report($"{posted.Ids.Count} new documents ranked against {saved.Right.Count} by {name} (AUC {Text(saved.Validation)} on its validation pairs): {path}{(unknown > 0 ? $"; {unknown} of them have no keyword that the graph knows" : "")}");
    }

    private static int Epochs(JobMatchingRecipeOptions options, bool own) => options.Epochs ?? (own ? 50 : 14);

    private static void Train(ArmRun run, string arm, MatchingData data, JobMatchingRecipeOptions options, double rate, bool own, bool save)
    {
        DocumentEncoderOptions encoding = Encoding(arm, data, options, own);
        (CoTeachingOptions teaching, MultiViewOptions views) = Settings(arm, data, options, rate, own);
        DocumentEncoder encoder = DocumentEncoder.Create(encoding);
        if (encoding.Kind == DocumentEncoderKind.Bert) ((BertSentenceEncoder)((HierarchicalTextEncoder)encoder).Sentence).Bert.LoadPretrained(Path.Combine(options.Bert!, "model.safetensors"));
        Tensor Documents(MatchingDocuments of) => data.Tokenizer.Documents(arm == "filter-hierarchical" && !own ? [.. of.Texts.Select(InSentences)] : of.Texts, encoding.MaxSentences, encoding.MaxWords);
        Tensor left = Documents(data.Left), right = Documents(data.Right);
        var matcher = new MultiViewMatcher(encoder, data.Graph, left, right, views);
        using var learner = new MultiViewLearner(matcher, data.Train.Count, teaching, options.LearningRate, options.WeightDecay, options.TextLearningRate);
        TrainingHistory history = run.Trainer(new TrainerOptions
        {
            Epochs = Epochs(options, own),
            BatchSize = options.BatchSize,
            Sampler = data.Sampler,
            EarlyStopping = own ? new EarlyStopping("valid_auc", options.Patience) : null,
        }).Fit(learner, data.Train.Source(), _ => Evaluate(), run.Cancellation);
        run.Include(history);

        // The last epoch is what the claims speak of; the best one is chosen by the AUC on validation pairs, whose labels are noisy too.
        double[] valid = history.Series["valid_auc"];
        int best = Array.IndexOf(valid, valid.Max());
        foreach (string name in history.Series.Keys.Where(name => name is not ("a" or "b")))
        {
            double[] values = history.Series[name];
            run.Metric(name, values[^1]);
            run.Metric("best_" + name, values[best]);
        }
        run.Metric("best_epoch", best + 1);
        run.Metric("seconds_per_epoch", history.Seconds / valid.Length);
        NoiseReport report = learner.Report;
        Tensor seen = cat([report.Suspicion.unsqueeze(1), report.MeanLosses, report.KeptShares, report.LastLosses], 1).narrow(0, 0, data.Given).cpu();
        run.Tensor("noise", seen);
        if (data.Flipped is { } wrong)
        {
            run.Tensor("flipped", wrong.to(ScalarType.Int64));
            run.Metric("detection_auc", RankingMetrics.Auc(seen[.., 0], wrong.to(ScalarType.Int64)));
        }
        if (save)
        {
            Dictionary<string, Tensor> state = matcher.State();
            (state["graph"], state["documents.left"], state["documents.right"]) = (data.Graph.Edges, left, right);
            run.SaveModel($"{arm}-{run.Seed}", state, new JobMatchingModel(encoding, views, data.Right.Ids, data.Left.Ids.Count, data.Graph.Keywords, data.Graph.Categories,
                data.Tokenizer is WordPieceTokenizer pieces ? pieces.Pieces : ((WordVocabulary)data.Tokenizer).Words, data.TfIdf?.Documents ?? 0, data.TfIdf?.Frequencies ?? new Dictionary<string, int>(), own ? valid[best] : valid[^1]));
        }
        if (!own) data.Graph.Dispose();

        Dictionary<string, double> Evaluate()
        {
            var values = new Dictionary<string, double>();
            MatchScores all = matcher.Predict(cat([data.Valid.Left, data.Test.Left]), cat([data.Valid.Right, data.Test.Right]));
            MatchScores Part(long start, long count) => new(all.Text.narrow(0, start, count), all.Relation.narrow(0, start, count));
            MatchScores valid = Part(0, data.Valid.Count), test = Part(data.Valid.Count, data.Test.Count);
            values["valid_auc"] = RankingMetrics.Auc(valid.Ensemble.cpu(), data.Valid.Labels);
            foreach (var (view, p) in new[] { ("", test.Ensemble.cpu()), ("text_", test.Text.cpu()), ("relation_", test.Relation.cpu()) })
            {
                values[view + "auc"] = RankingMetrics.Auc(p, data.Test.Labels);
                var decided = BinaryClassification.Of(p, data.Test.Labels);
                (values[view + "accuracy"], values[view + "precision"], values[view + "recall"], values[view + "f1"]) = (decided.Accuracy, decided.Precision, decided.Recall, decided.F1);
            }
            values["disagreement"] = test.Disagreement;
            if (data.Flipped is { } flipped)
            {
                Tensor weights = learner.Report.LastWeights.narrow(0, 0, data.Given).cpu(), share = flipped.to(ScalarType.Float32).unsqueeze(1).mul(weights).sum(dim: 0) / weights.sum(dim: 0).clamp_min(1e-12);
                (values["flipped_kept_text"], values["flipped_kept_relation"]) = (share[0].ToDouble(), share[1].ToDouble());
            }
            return values;
        }
    }

    private static (CoTeachingOptions, MultiViewOptions) Settings(string arm, MatchingData data, JobMatchingRecipeOptions options, double rate, bool own)
    {
        bool mvCon = arm.StartsWith("mv-con", StringComparison.Ordinal) || arm == "joint-shared";
        long dim = options.Dim ?? (own ? 64 : 24);
        return (new CoTeachingOptions
        {
            Mode = arm switch { Joint or "joint-shared" => CoTeachingMode.Joint, SelfPaced => CoTeachingMode.SelfPaced, "reweight" or "mv-con-reweight" => CoTeachingMode.Reweight, "decoupled" => CoTeachingMode.Decoupled, _ => CoTeachingMode.Filter },
            NoiseRate = rate,
            WarmupEpochs = options.WarmupEpochs,
            Beta = options.Beta,
            PerClass = arm == "filter-per-class" || (options.PerClass ?? (own || Math.Min(data.Train.PositiveShare, 1 - data.Train.PositiveShare) < RareClass)),
        }, new MultiViewOptions
        {
            NodeDim = dim,
            MatchHidden = dim,
            GraphLayers = options.GraphLayers,
            Bases = options.Bases,
            ShareInit = mvCon || arm == "filter-init",
            ShareFeatures = mvCon || arm == "filter-features",
            InitGradient = arm == "mv-con-gradient",
            RefreshEvery = options.RefreshEvery,
        });
    }

    /// <summary>On the generated market a document is one sentence of 25 words, for the Transformer over sentences five of five.</summary>
    private static DocumentEncoderOptions Encoding(string arm, MatchingData data, JobMatchingRecipeOptions options, bool own) => new()
    {
        Kind = arm switch { "filter-cnn" => DocumentEncoderKind.Cnn, "filter-hierarchical" => DocumentEncoderKind.Hierarchical, _ => own ? options.TextEncoder : DocumentEncoderKind.Attention },
        Words = data.Tokenizer.Count,
        Dim = options.Dim ?? (own ? 64 : 24),
        MaxSentences = own ? options.MaxSentences : arm == "filter-hierarchical" ? 5 : 1,
        MaxWords = own ? options.MaxWords : arm == "filter-hierarchical" ? 5 : 25,
        Bert = own && options.TextEncoder == DocumentEncoderKind.Bert ? BertConfig.Read(Path.Combine(options.Bert!, "config.json")) : null,
    };

    private static string InSentences(string text) => string.Join(". ", text.Split(' ').Chunk(5).Select(words => string.Join(' ', words)));

    private static void Sweep(JobMatchingRecipeOptions options, RunContext context, Dictionary<string, ArmResult[]> results)
    {
        if (options.Sweep.Count == 0) return;
        double[] rates = [.. options.Sweep.Distinct().Order()];
        string[] arms = [Joint, Filter, FixedRate];
        var swept = rates.ToDictionary(noise => noise, noise => arms.ToDictionary(arm => arm, arm =>
        {
            if (noise == options.Noise && options.Rate == noise && results.TryGetValue(arm == FixedRate ? Filter : arm, out ArmResult[]? known)) return known.Take(SweepSeeds).ToArray();
            double rate = arm == FixedRate ? 0.3 : noise;
            return context.Seeds.Take(SweepSeeds).Select(seed => context.Arm($"{arm} @ {noise.ToString(CultureInfo.InvariantCulture)}", seed,
                run => Train(run, arm == Joint ? Joint : Filter, MatchingData.Generate(options, seed, noise, context.Device), options, rate, own: false, save: false))).ToArray();
        }));
        context.Table("sweep", $"Last-epoch test AUC of the ensemble by the share of flipped labels, mean ± standard deviation over {Math.Min(SweepSeeds, context.Seeds.Count)} seeds; filter discards as large a share as is flipped, or 30 %", ["flipped", .. arms],
            [.. rates.Select(noise => (IReadOnlyList<string>)[noise.ToString("P0", CultureInfo.InvariantCulture), .. arms.Select(arm => MeanAndDeviation(swept[noise][arm], "auc"))])]);
        context.Figure("sweep", "Last-epoch test AUC of the ensemble by the share of flipped labels, mean and range over seeds.", Charts.Lines("Robustness to label noise", "share of flipped labels", "test AUC",
            [.. arms.Select(arm => new Curve(arm == Filter ? "filter, rate = noise" : arm, rates, [.. context.Seeds.Take(SweepSeeds).Select((_, s) => (IReadOnlyList<double>)[.. rates.Select(noise => swept[noise][arm][s]["auc"])])], arm == Joint))]));
    }

    private static void Compare(RunContext context, Dictionary<string, ArmResult[]> results)
    {
        bool generated = context.Data is null;
        if (results.TryGetValue(Filter, out ArmResult[]? filter))
        {
            if (results.TryGetValue(Joint, out ArmResult[]? joint))
            {
                context.Compare(generated ? "filter-above-joint" : null, "filter - joint", filter, joint, "auc", 0.04);
                double[] gains = [.. filter.Zip(joint, (f, j) => f["auc"] - j["auc"])];
                if (generated) context.Check("filter-above-joint", gains.Min(), Comparison.AtLeast, 0.04, gains);
                foreach (string metric in new[] { "text_auc", "relation_auc", "best_auc" }) context.Compare(null, "filter - joint", filter, joint, metric);
            }
            if (results.TryGetValue(SelfPaced, out ArmResult[]? selfPaced))
            {
                context.Compare(generated ? "cross-teaching" : null, "filter - self-paced", filter, selfPaced, "relation_auc", 0.03);
                foreach (string metric in new[] { "text_auc", "auc" }) context.Compare(null, "filter - self-paced", filter, selfPaced, metric);
            }
            foreach (string arm in results.Keys.Where(arm => arm is not (Filter or Joint or SelfPaced))) context.Compare(null, $"{arm} - filter", results[arm], filter, "auc");
            if (generated)
            {
                double[] flipped = [.. filter.Select(f => Math.Max(f["flipped_kept_text"], f["flipped_kept_relation"]))];
                context.Check("kept-purity", flipped.Max(), Comparison.AtMost, 0.20, flipped);
            }
        }
        if (results.TryGetValue("mv-con", out ArmResult[]? mvCon) && results.TryGetValue("joint-shared", out ArmResult[]? shared)) context.Compare(null, "mv-con - joint-shared", mvCon, shared, "auc");
    }

    private static void ReportGraph(RunContext context, MatchingData data) => context.Table("graph", "The relation graph (first seed): edges of each type; every type has an inverse",
        ["relation", "edges"], [.. MatchingGraph.RelationNames.Select((name, r) => (IReadOnlyList<string>)[name, data.Graph.Graph.EdgesOfRelation[r].ToString("N0", CultureInfo.InvariantCulture)]).Where((_, r) => r % 2 == 0),
            (IReadOnlyList<string>)["documents without an edge", data.Graph.Isolated.ToString("N0", CultureInfo.InvariantCulture)],
            (IReadOnlyList<string>)["keywords", data.Graph.Keywords.Count.ToString("N0", CultureInfo.InvariantCulture)],
            (IReadOnlyList<string>)["categories", data.Graph.Categories.Count.ToString("N0", CultureInfo.InvariantCulture)]]);

    private static void ReportArms(RunContext context, Dictionary<string, ArmResult[]> results)
    {
        bool known = results.Values.First()[0].Metrics.ContainsKey("flipped_kept_text");
        string note = context.Data is null ? "" : " The test labels are as noisy as the others.";
        (string Name, string Metric)[] columns =
        [
            ("AUC text", "text_auc"), ("AUC relation", "relation_auc"), ("AUC ensemble", "auc"), ("best epoch's AUC", "best_auc"), ("accuracy", "accuracy"), ("F1", "f1"), ("views differ", "disagreement"),
            .. known ? new[] { ("flipped kept, text", "flipped_kept_text"), ("flipped kept, relation", "flipped_kept_relation"), ("detection AUC", "detection_auc") } : [],
        ];
        context.Table("arms", $"Test figures of the last epoch, and of the epoch with the best AUC on (noisy) validation pairs, mean ± standard deviation over {context.Seeds.Count} seeds.{note} In joint training without sharing the views do not touch: its columns text and relation are the single views",
            ["arm", .. columns.Select(c => c.Name), "s per epoch"],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. columns.Select(c => MeanAndDeviation(r.Value, c.Metric)), r.Value.Average(a => a["seconds_per_epoch"]).ToString("F2", CultureInfo.InvariantCulture)])]);
        var decisions = Views.SelectMany(v => Decisions.Select(d => (Name: $"{v.Name} {d}", Metric: v.Prefix + d))).ToArray();
        context.Table("decisions", "Decisions at 0.5 of each view, last epoch", ["arm", .. decisions.Select(d => d.Name)], [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. decisions.Select(d => Text(r.Value.Average(a => a[d.Metric])))])]);
    }

    private static void ReportCurves(RunContext context, Dictionary<string, ArmResult[]> results)
    {
        Curve Of(string label, ArmResult[] runs, string series, bool dashed = false)
        {
            int length = runs.Min(r => r.Series(series).X.Length); // early stopping ends seeds at different epochs
            return new Curve(label, runs[0].Series(series).X[..length], [.. runs.Select(r => (IReadOnlyList<double>)r.Series(series).Y[..length])], dashed);
        }
        foreach (var (series, title) in new[] { ("auc", "ensemble"), ("text_auc", "text view"), ("relation_auc", "relation view") })
            context.Figure(series.Replace('_', '-'), $"Test AUC of the {title} after each epoch, mean and range over seeds.", Charts.Lines($"Test AUC, {title}", "epoch", "test AUC", [.. results.Where(r => r.Key is Joint or SelfPaced or Filter or "reweight" or "mv-con").Select(r => Of(r.Key, r.Value, series, r.Key == Joint))]));
        if (results.Values.First()[0].Curves.ContainsKey("flipped_kept_text"))
        {
            context.Figure("purity", "Share of flipped labels among the training pairs that each view keeps, by epoch.", Charts.Lines("Flipped labels among kept pairs", "epoch", "share flipped",
                [.. results.Where(r => r.Key is SelfPaced or Filter or "mv-con").SelectMany(r => new[] { Of($"{r.Key}, text", r.Value, "flipped_kept_text"), Of($"{r.Key}, relation", r.Value, "flipped_kept_relation", true) })]));
            foreach (string arm in results.Keys.Where(a => a is Joint or Filter))
            {
                Tensor noise = results[arm][0].Tensor("noise"), flipped = results[arm][0].Tensor("flipped");
                double[] Losses(int column, int flag) => noise[.., column].masked_select(flipped.eq(flag)).data<float>().Select(v => Math.Min(v, LargestLossShown)).ToArray();
                context.Figure($"losses-{arm}", $"Losses of the training pairs in the last epoch of {arm}, first seed; larger ones are counted at {LargestLossShown}.", Charts.Histogram($"Losses of the last epoch, {arm}", "loss",
                    [("text, clean", Losses(5, 0)), ("text, flipped", Losses(5, 1)), ("relation, clean", Losses(6, 0)), ("relation, flipped", Losses(6, 1))]));
            }
        }
    }

    /// <summary>Training pairs by suspicion, from the arm that selects and validates best.</summary>
    private static void WriteNoise(RunContext context, MatchingData data, Dictionary<string, ArmResult[]> results)
    {
        ArmResult best = results.Where(r => r.Key is not (Joint or "joint-shared")).DefaultIfEmpty(results.First()).Select(r => r.Value[0]).MaxBy(r => r["best_valid_auc"])!;
        float[] seen = best.Tensor("noise").contiguous().data<float>().ToArray();
        long[] left = data.Train.Left.data<long>().ToArray(), right = data.Train.Right.data<long>().ToArray();
        float[] labels = data.Train.Labels.data<float>().ToArray();
        const int Columns = 7;
        string Cell(int row, int column) => Text(seen[row * Columns + column]);
        string path = context.OutputPath("noise.csv");
        AtomicFile.WriteText(path, string.Concat(Enumerable.Range(0, (int)data.Given).OrderByDescending(row => seen[row * Columns])
            .Select(row => string.Join(',', Quote(data.Left.Ids[(int)left[row]]), Quote(data.Right.Ids[(int)right[row]]), labels[row].ToString(CultureInfo.InvariantCulture), Cell(row, 0), Cell(row, 1), Cell(row, 2), Cell(row, 3), Cell(row, 4)) + "\n")
            .Prepend("left,right,label,suspicion,mean loss text,mean loss relation,kept by text,kept by relation\n")));
        context.Note($"Training pairs by suspicion (mean loss over epochs and views), from {best.Arm}, seed {best.Seed}: {path}.");
    }

    private static string MeanAndDeviation(ArmResult[] runs, string metric)
    {
        double mean = runs.Average(r => r[metric]);
        return runs.Length > 1 ? $"{Text(mean)} ± {Text(Math.Sqrt(runs.Sum(r => Math.Pow(r[metric] - mean, 2)) / (runs.Length - 1)))}" : Text(mean);
    }

    private static string Quote(string text) => text.AsSpan().ContainsAny(",\"\r\n") ? $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : text;

    private static string Text(double value) => value.ToString("F4", CultureInfo.InvariantCulture);
}
