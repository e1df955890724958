using Priori.Data;
using Priori.Metrics;
using Priori.Nn;
using Priori.Numerics;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;
using Priori.Training;

namespace Priori.Recipes.Similarity;

/// <summary>A stitched pair of the user's own networks: the encoder's layers (JSON), the anchors and the head over relative representations are saved beside.</summary>
/// <param name="Encoder">Layers of the encoder (JSON).</param>
/// <param name="Similarity">What a coordinate is.</param>
/// <param name="Space">What is done to each space first.</param>
/// <param name="Classes">Number of classes.</param>
/// <param name="Anchors">Number of anchors.</param>
public sealed record StitchedNetworks(string Encoder, RelativeSimilarity Similarity, SpaceNormalization Space, int Classes, int Anchors);

/// <summary>
/// The encoder of one of the user's classifiers with the classifier of another. A network that was trained on absolute embeddings has no relative head: one is trained on the decoder network's own relative representations,
/// once, and the foreign encoder is then used with it without training.
/// </summary>
internal static class NetworkStitching
{
    public const string ModelName = "stitched";

    public static void Run(RelativeRepresentationsRecipeOptions options, RunContext context, UserData data)
    {
        if (data.Path.Length == 0) throw new BadInputException("Stitching networks needs inputs with labels: --data FILE.");
        using Network a = UserModel.Load(data.Part("encoder")), b = UserModel.Load(data.Part("decoder"));
        Architecture trunkA = Trunk(a, data.Part("encoder")), trunkB = Trunk(b, data.Part("decoder"));
        int classes = (int)b.Architecture.Layers[^1].Width;
        Examples examples = Examples.Read(data.Path, a.Architecture.Input);
        if (!a.Architecture.Input.SequenceEqual(b.Architecture.Input)) throw new BadInputException("The two networks take inputs of different shapes, so the same inputs cannot be anchors of both.");
        if (examples.Labels is not { } labels) throw new BadInputException($"{data.Path} has no labels (an array 'labels' or 'y').");
        long n = examples.Count;
        if (options.Anchors >= n / 2) throw new BadInputException($"{data.Path} has {n} inputs; {options.Anchors} anchors leave too few: --set anchors=N with N below {n / 2}.");
        context.UsedData($"{n} inputs, {options.Anchors} of them anchors; half of the others train the head over relative representations, half test");
        Tensor featuresA = Features(a, trunkA, examples.Inputs), featuresB = Features(b, trunkB, examples.Inputs);
        bool sameWidth = featuresA.shape[1] == featuresB.shape[1];

        string[] arms = ["encoder's own classifier", "decoder's own classifier", "relative head on its own encoder", "relative, stitched", .. sameWidth ? ["absolute, stitched"] : Array.Empty<string>(), "procrustes, stitched", "anchor translation, stitched"];
        var results = arms.ToDictionary(x => x, _ => new List<ArmResult>());
        foreach (int seed in context.Seeds)
        {
            AnchorSet anchors = AnchorSet.Select(examples.Inputs, options.Strategy, options.Anchors, Seeds.Derive(seed, 1), labels);
            var taken = anchors.Indices.ToHashSet();
            long[] rest = [.. Enumerable.Range(0, (int)n).Select(i => (long)i).Where(i => !taken.Contains(i))];
            SplitMix64.For(seed, 2).Shuffle(rest.AsSpan());
            Tensor train = tensor(rest[..(rest.Length / 2)]), test = tensor(rest[(rest.Length / 2)..]), answers = labels.index_select(0, test);
            Tensor anchorsA = anchors.TakeParallel(featuresA), anchorsB = anchors.TakeParallel(featuresB);
            Tensor RelativeA(Tensor rows) => RelativeProjection.Project(featuresA.index_select(0, rows), anchorsA, options.Similarity, options.Space);
            Tensor RelativeB(Tensor rows) => RelativeProjection.Project(featuresB.index_select(0, rows), anchorsB, options.Similarity, options.Space);
            string headFile = context.OutputPath($"relative-head-{seed}.safetensors");
            results[arms[2]].Add(context.Arm(arms[2], seed, run =>
            {
                using Module<Tensor, Tensor> head = Head(options.Anchors, classes);
                using var learner = new ClassifierLearner(head, optim.Adam(head.parameters(), options.LearningRate));
                run.Trainer(new TrainerOptions { Epochs = 20, BatchSize = options.BatchSize }).Fit(learner, new TensorSource(RelativeB(train), labels.index_select(0, train)), cancellation: run.Cancellation);
                run.Metric("accuracy", Classification.Accuracy(Inference.Outputs(head, RelativeB(test)), answers));
                Dictionary<string, Tensor> state = head.state_dict().ToDictionary(p => p.Key, p => p.Value.detach());
                Safetensors.Write(headFile, state);
                if (seed != context.Seeds[0]) return;
                foreach ((string name, Tensor value) in a.State().Where(p => !p.Key.StartsWith(a.Architecture.Layers[^1].Name + ".", StringComparison.Ordinal))) state[$"encoder.{name}"] = value;
                state["anchors"] = anchorsA;
                run.SaveModel(ModelName, state, new StitchedNetworks(trunkA.ToJson(), options.Similarity, options.Space, classes, options.Anchors));
            }));
            foreach (string arm in arms.Where(x => x != arms[2]))
            {
                results[arm].Add(context.Arm(arm, seed, run =>
                {
                    Tensor Logits(Network network, Tensor features) => network.WeightedLayers[network.Architecture.Layers[^1].Name].call(features);
                    using var ungraphed = no_grad();
                    Tensor foreign = featuresA.index_select(0, test);
                    Tensor logits;
                    if (arm == "relative, stitched")
                    {
                        using Module<Tensor, Tensor> head = Head(options.Anchors, classes);
                        head.load_state_dict(Safetensors.Read(headFile));
                        logits = Inference.Outputs(head, RelativeA(test));
                    }
                    else
                    {
                        logits = arm switch
                        {
                            "encoder's own classifier" => Logits(a, foreign),
                            "decoder's own classifier" => Logits(b, featuresB.index_select(0, test)),
                            "absolute, stitched" => Logits(b, foreign),
                            "procrustes, stitched" => Logits(b, EmbeddingMigration.Map(anchorsA, anchorsB).Apply(foreign)),
                            _ => Logits(b, AnchorTranslation.Fit(anchorsA, anchorsB).Apply(foreign)),
                        };
                    }
                    run.Metric("accuracy", Classification.Accuracy(logits, answers));
                }));
            }
        }
        context.Table("stitching", $"Accuracy on {(n - options.Anchors + 1) / 2} held-out inputs, {context.Seeds.Count} draws of anchors and splits", ["model", "accuracy"], [.. results.Select(r => (IReadOnlyList<string>)[r.Key, Numbers.MeanAndDeviation(r.Value, "accuracy")])]);
        Csv.Write(context.OutputPath("stitching.csv"), ["model", "seed", "accuracy"], results.SelectMany(r => r.Value.Select(x => (IReadOnlyList<string>)[r.Key, Numbers.Text(x.Seed, "F0"), Numbers.Text(x["accuracy"], "G6")])));
        context.Figure("stitching", "Accuracy of the networks by themselves and stitched; a dot is a draw of anchors.", Charts.Bars("Encoder and classifier of two networks", "accuracy", [.. results.Select(r => (r.Key, (IReadOnlyList<double>)[.. r.Value.Select(x => x["accuracy"])]))]), 1000, 560);
        double Mean(string arm) => results[arm].Average(r => r["accuracy"]);
        context.Note($"The foreign encoder with a head over relative representations reaches {Numbers.Text(Mean(arms[3]), "P1")}, that head's own encoder {Numbers.Text(Mean(arms[2]), "P1")}; the decoder network by itself {Numbers.Text(Mean(arms[1]), "P1")}{(sameWidth ? $", and its classifier on the foreign embeddings as they are {Numbers.Text(Mean("absolute, stitched"), "P1")}" : "")}.");
    }

    /// <summary>Classes of new inputs by the stitched networks.</summary>
    public static void Apply(SavedRun run, ApplyContext context)
    {
        var model = run.Description<StitchedNetworks>(ModelName);
        Dictionary<string, Tensor> state = run.Model(ModelName);
        using Network encoder = new Network(Architecture.FromJson(model.Encoder)).Load(state.Where(p => p.Key.StartsWith("encoder.", StringComparison.Ordinal)).ToDictionary(p => p.Key["encoder.".Length..], p => p.Value));
        using Module<Tensor, Tensor> head = Head(model.Anchors, model.Classes);
        head.load_state_dict(state.Where(p => p.Key.StartsWith("norm.", StringComparison.Ordinal) || p.Key.StartsWith("logits.", StringComparison.Ordinal)).ToDictionary());
        Examples examples = Examples.Read(context.DataPath, encoder.Architecture.Input);
        using StitchedModel stitched = AbsoluteStitcher.Stitch(encoder, z => RelativeProjection.Project(z, state["anchors"], model.Similarity, model.Space), head);
        RelativeRepresentationsRecipe.WriteClasses(context, examples.Inputs, ("class", stitched));
        context.Report($"{examples.Count} inputs classified by the stitched networks: {context.OutPath}");
    }

    private static Module<Tensor, Tensor> Head(long anchors, long classes) => nn.Sequential(("norm", nn.LayerNorm(anchors)), ("logits", nn.Linear(anchors, classes)));

    private static Architecture Trunk(Network network, string path)
    {
        try
        {
            return network.Architecture.Trunk();
        }
        catch (ArgumentException exception)
        {
            throw new BadInputException($"{path}: {exception.Message}", exception);
        }
    }

    private static Tensor Features(Network network, Architecture trunk, Tensor inputs)
    {
        Tensor features = Inference.Outputs(network, x => network.Evaluate(x, trunk.Layers[^1].Name), inputs);
        return features.dim() == 2 ? features : throw new BadInputException($"The layer before the classifier gives [{string.Join(", ", features.shape)}]; embeddings [n, d] are needed.");
    }
}
