using Priori.Data;
using Priori.Merging;
using Priori.Nn;
using Priori.Recipes.Merging;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Tests.Merging;

public sealed class AtlasRecipeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-atlas-").FullName;
    private readonly AtlasRecipe _recipe = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string InFolder(string name) => Path.Combine(_folder, name);

    [Fact]
    public void The_smoke_run_trains_composes_and_leaves_a_model()
    {
        AtlasRecipeOptions options = _recipe.Defaults(Budget.Smoke) with { Width = 16, ConvWidths = [2, 4], TrainImages = 300, ValidationImages = 60, TestImages = 60, Epochs = 2, NegationEpochs = 2, AdaptationEpochs = 1 };
        (RunResult result, string run) = Run(options, null);
        Assert.Contains("glyph", result.Data);
        foreach (string arm in new[] { "aTLAS x5", "linearised, aTLAS", "10 random directions", "negation, aTLAS", "test time, SAR", "few-shot, 16 a class, 2 of blocks by gradient", "conv, aTLAS" })
            Assert.Contains(result.Arms, a => a.Arm == arm);
        Assert.All(result.Arms.Where(a => a.Metrics.ContainsKey("accuracy")), a => Assert.InRange(a["accuracy"], 0, 1));
        Assert.Equal(12, result.Arms.Single(a => a.Arm == "aTLAS")["trained values"]);
        Assert.Equal(1, result.Arms.Single(a => a.Arm == "fine-tuned, each its own")["relative accuracy"], 1e-9);
        Assert.Equal(7, result.Claims.Count);
        Assert.True(File.Exists(Path.Combine(run, "figures", "coefficients.png")));

        string data = InFolder("new.npy"), output = InFolder("predictions.csv");
        Npy.Write(data, GlyphDigits.Generate(5, 9).Images);
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, new Dictionary<string, string>()), output, CPU, _ => { }));
        Assert.Equal(6, File.ReadAllLines(output).Length);
        Assert.Throws<BadInputException>(() => Run(_recipe.Defaults(Budget.Paper), null, Budget.Paper));
    }

    // Three networks fine-tuned from one base on images seen in three ways.
    private (string Base, string Tuned, string Validation) WriteCheckpoints(bool halfPrecision = false, Architecture? given = null)
    {
        Architecture architecture = given ?? Architectures.Mlp([1, 28, 28], [16], 10);
        Func<Tensor, Tensor>[] views = [x => x, x => x.flip(3), x => x.transpose(2, 3)];
        string tuned = Directory.CreateDirectory(InFolder("tuned")).FullName, validation = Directory.CreateDirectory(InFolder("validation")).FullName;
        ImageDataset digits = GlyphDigits.Generate(400, 1);
        Tensor images = digits.Images.to(float32) / 255;
        Seeds.Set(0);
        using var network = new Network(architecture);
        void Train(Func<Tensor, Tensor> view, int steps)
        {
            using optim.Optimizer optimizer = optim.Adam(network.parameters(), 3e-3);
            for (int i = 0; i < steps; i++)
            {
                using var scope = NewDisposeScope();
                optimizer.zero_grad();
                functional.cross_entropy(network.call(view(images)), digits.Labels).backward();
                optimizer.step();
            }
        }
        Dictionary<string, Tensor> Kept() => network.State().ToDictionary(p => p.Key, p => halfPrecision && p.Value.is_floating_point() ? p.Value.to(float16) : p.Value);
        Train(views[0], 60);
        network.eval();
        Safetensors.Write(InFolder("base.safetensors"), Kept(), new Dictionary<string, string> { ["format"] = "pt" });
        File.WriteAllText(InFolder("arch.json"), architecture.ToJson());
        Dictionary<string, Tensor> start = network.State();
        for (int i = 0; i < 3; i++)
        {
            network.Load(start);
            Train(views[i], 40);
            Safetensors.Write(Path.Combine(tuned, $"t{i + 1}.safetensors"), Kept());
            Npz.Write(Path.Combine(validation, $"t{i + 1}.npz"), new Dictionary<string, Tensor> { ["inputs"] = views[i](images).narrow(0, 0, 100), ["labels"] = digits.Labels.narrow(0, 0, 100) });
        }
        return (InFolder("base.safetensors"), tuned, validation);
    }

    private static UserData Data(string path, params (string Name, string Path)[] parts) => new(path, new Dictionary<string, string>()) { Parts = parts.ToDictionary(p => p.Name, p => p.Path) };

    [Fact]
    public void Three_checkpoints_of_one_base_become_one()
    {
        (string start, string tuned, string validation) = WriteCheckpoints(halfPrecision: true);
        AtlasRecipeOptions options = _recipe.Defaults(Budget.Full) with { Epochs = 10, BatchSize = 30, Holdout = 0.4, Scaling = AtlasScaling.Partition, Groups = 2 };
        (RunResult result, string run) = Run(options, Data(validation, ("base", start), ("tuned", tuned)));
        Assert.Equal(["base", "t1", "t2", "t3", "best scale (search)", "aTLAS"], result.Arms.Select(a => a.Arm));
        ArmResult learned = result.Arms[^1];
        Assert.True(learned["mean"] > result.Arms[0]["mean"], string.Join("; ", result.Arms.Select(a => $"{a.Arm}: {string.Join(", ", a.Metrics)}")));
        Assert.Equal(3 * 4 * 2, learned["trained values"]);
        string Output(string name) => Path.Combine(run, "outputs", name);
        Dictionary<string, Tensor> merged = Safetensors.Read(Output("merged.safetensors"));
        Assert.All(merged.Values, t => Assert.Equal(ScalarType.Float16, t.dtype)); // as the base's file
        string[] table = File.ReadAllLines(Output("coefficients.csv"));
        Assert.Equal(4, table.Length);
        Assert.StartsWith("task,layers.1.weight#0,layers.1.weight#1,layers.1.bias#0", table[0]);
        Dictionary<string, Tensor> coefficients = Safetensors.Read(Output("coefficients.safetensors"));
        Assert.Equal([3, 4, 2], coefficients["coefficients"].shape);
        Assert.Equal([16, 784], coefficients["mask.layers.1.weight"].shape);
        string[] layers = File.ReadAllLines(Output("layers.csv"));
        Assert.Equal("block,cancelled,mean cosine,coefficient spread,change by t1,change by t2,change by t3", layers[0]);
        Assert.Equal(5, layers.Length);
        foreach (string figure in new[] { "coefficients", "cosines", "coefficients-by-type", "coefficients-by-depth" }) Assert.True(File.Exists(Path.Combine(run, "figures", figure + ".png")), figure);

        // The merged file is an ordinary checkpoint, which predicts what the run measured with.
        string predictions = InFolder("p.csv"), said = "";
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(Path.Combine(validation, "t2.npz"), new Dictionary<string, string>()), predictions, CPU, line => said += line));
        Assert.Equal(101, File.ReadAllLines(predictions).Length);
        Assert.Contains("Accuracy", said);

        // One labelled set for all, and a list of paths.
        string list = string.Join(',', Directory.GetFiles(tuned).Order().Take(2));
        (result, _) = Run(options with { Scaling = AtlasScaling.Global }, Data(Path.Combine(validation, "t1.npz"), ("base", start), ("tuned", list), ("arch", InFolder("arch.json"))));
        Assert.Equal(2, result.Arms[^1]["trained values"]);
        Assert.True(result.Arms[^1].Metrics.ContainsKey("validation"));
    }

    [Fact]
    public void Files_alone_are_merged_without_a_network()
    {
        (string start, string tuned, _) = WriteCheckpoints();
        File.Delete(InFolder("arch.json"));
        (_, string run) = Run(_recipe.Defaults(Budget.Full) with { Mode = AtlasMode.Merge, Alpha = 0.5 }, Data("", ("base", start), ("tuned", tuned)));
        Dictionary<string, Tensor> merged = Safetensors.Read(Path.Combine(run, "outputs", "merged.safetensors")), origin = Safetensors.Read(start);
        TaskVector sum = Directory.GetFiles(tuned).Select(f => TaskVector.FromCheckpoints(origin, Safetensors.Read(f))).Aggregate((a, b) => a + b);
        Assert.All(sum.ApplyTo(origin, 0.5), p => Assert.True(p.Value.allclose(merged[p.Key], 1e-5, 1e-6), p.Key));
        Assert.True(File.Exists(Path.Combine(run, "figures", "cosines.png")));
    }

    [Fact]
    public void A_task_is_forgotten_adapted_to_and_predicted_with_an_adapter()
    {
        (string start, string tuned, string validation) = WriteCheckpoints();
        AtlasRecipeOptions options = _recipe.Defaults(Budget.Full) with { Epochs = 3, NegationEpochs = 3, AdaptationEpochs = 2 };
        string mirrored = Path.Combine(validation, "t2.npz"), upright = Path.Combine(validation, "t1.npz");
        (RunResult result, _) = Run(options with { Mode = AtlasMode.Negate }, Data(mirrored, ("base", start), ("tuned", Path.Combine(tuned, "t2.safetensors")), ("control", upright)));
        Assert.InRange(result.Arms[^1]["control"], 0, 1);

        AtlasRecipeOptions fewShot = options with { Mode = AtlasMode.Fewshot, Target = "t2", Adapter = AtlasAdapter.Tip };
        UserData data = Data(mirrored, ("base", start), ("tuned", tuned), ("validation", mirrored));
        Assert.Contains("'t2'", Assert.Throws<BadInputException>(() => Run(fewShot, data)).Message);
        foreach (AtlasAdapter adapter in new[] { AtlasAdapter.Tip, AtlasAdapter.Lpp })
        {
            (result, string run) = Run(fewShot with { AllowTarget = true, Adapter = adapter }, data);
            Assert.True(result.Arms[^1]["target"] >= result.Arms[0]["target"]);
            Assert.True(result.Arms[^1].Metrics.ContainsKey($"with {adapter}"));
            string said = "";
            _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(mirrored, new Dictionary<string, string>()), InFolder("p.csv"), CPU, line => said += line));
            Assert.Contains("Accuracy", said);
        }
        Npz.Write(InFolder("unlabelled.npz"), new Dictionary<string, Tensor> { ["inputs"] = Npz.Read(mirrored)["inputs"] });
        (result, _) = Run(options with { Mode = AtlasMode.Tta, Objective = TestTimeObjective.Sar }, Data(InFolder("unlabelled.npz"), ("base", start), ("tuned", tuned)));
        Assert.Equal(["epoch", "trained values"], result.Arms[^1].Metrics.Keys); // nothing to measure without labels
    }

    [Fact]
    public void Lora_adapters_and_batch_normalisation_take_part()
    {
        (string start, string tuned, string validation) = WriteCheckpoints(given: Architectures.ConvNet([1, 28, 28], [4, 6], 10, firstStride: 2));
        File.Delete(Path.Combine(tuned, "t3.safetensors"));
        File.Delete(Path.Combine(validation, "t3.npz"));
        string lora = Directory.CreateDirectory(InFolder("lora")).FullName, list = string.Join(',', Directory.GetFiles(tuned).Append(Path.Combine(lora, "adapter_model.safetensors")));
        Safetensors.Write(Path.Combine(lora, "adapter_model.safetensors"), new Dictionary<string, Tensor> { ["base_model.model.fc.lora_A.weight"] = randn(2, 6), ["base_model.model.fc.lora_B.weight"] = randn(10, 2) });
        File.WriteAllText(Path.Combine(lora, "adapter_config.json"), """{ "lora_alpha": 8, "r": 2 }""");
        (RunResult result, _) = Run(_recipe.Defaults(Budget.Full) with { Epochs = 2, ResetBatchNorm = true }, Data(Path.Combine(validation, "t1.npz"), ("base", start), ("tuned", list)));
        Assert.Equal("adapter_model", result.Arms[3].Arm);
        Assert.Equal(3 * 8, result.Arms[^1]["trained values"]);
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        (string start, string tuned, string validation) = WriteCheckpoints();
        AtlasRecipeOptions options = _recipe.Defaults(Budget.Full) with { Epochs = 1 };
        string Message(UserData data, Func<AtlasRecipeOptions, AtlasRecipeOptions>? change = null) => Assert.Throws<BadInputException>(() => Run((change ?? (o => o))(options), data)).Message;
        string one = Path.Combine(validation, "t1.npz");
        Assert.Contains("--data.base", Message(Data(one, ("tuned", tuned))));
        Assert.Contains("--data.tuned", Message(Data(one, ("base", start))));
        Assert.Contains("does not exist", Message(Data(one, ("base", start), ("tuned", $"{start},nowhere.safetensors"))));
        Assert.Contains("besides the base", Message(Data(one, ("base", start), ("tuned", start))));
        Assert.Contains("--data PATH", Message(Data("", ("base", start), ("tuned", tuned))));
        Assert.Contains("names 3 checkpoints", Message(Data(one, ("base", start), ("tuned", tuned)), o => o with { Mode = AtlasMode.Negate }));
        File.Delete(Path.Combine(validation, "t3.npz"));
        Assert.Contains("'t3'", Message(Data(validation, ("base", start), ("tuned", tuned))));
        Npz.Write(InFolder("unlabelled.npz"), new Dictionary<string, Tensor> { ["inputs"] = zeros(4, 1, 28, 28) });
        Assert.Contains("no labels", Message(Data(InFolder("unlabelled.npz"), ("base", start), ("tuned", tuned))));
        Npz.Write(InFolder("labels.npz"), new Dictionary<string, Tensor> { ["inputs"] = zeros(4, 1, 28, 28), ["labels"] = full(4, 10, ScalarType.Int64) });
        Assert.Contains("10 classes", Message(Data(InFolder("labels.npz"), ("base", start), ("tuned", tuned))));

        Dictionary<string, Tensor> state = Safetensors.Read(start);
        string Other(Action<Dictionary<string, Tensor>> change)
        {
            var changed = new Dictionary<string, Tensor>(state);
            change(changed);
            Safetensors.Write(InFolder("other.safetensors"), changed);
            return InFolder("other.safetensors");
        }
        string keys = Message(Data(one, ("base", start), ("tuned", Other(s => s.Remove("layers.3.bias")))));
        Assert.Contains("other.safetensors", keys);
        Assert.Contains("'layers.3.bias'", keys);
        string shapes = Message(Data(one, ("base", start), ("tuned", Other(s => s["layers.3.weight"] = zeros(7, 16)))));
        Assert.Contains("[10, 16]", shapes);
        Assert.Contains("[7, 16]", shapes);
        Assert.Contains("'layers.3.weight'", Message(Data("", ("base", start), ("tuned", InFolder("other.safetensors"))), o => o with { Mode = AtlasMode.Merge }));
        Assert.Throws<BadInputException>(() => (options with { Mean = [1] }).Validate());
    }

    [Fact]
    public void Clip_encoders_are_composed_with_heads_of_text_features()
    {
        Seeds.Set(0);
        using var clip = new ClipVision(16, 8, 64, 1, 1, 32, 12);
        Dictionary<string, Tensor> state = clip.State();
        Safetensors.Write(InFolder("base.safetensors"), new Dictionary<string, Tensor>(state) { ["text_model.x"] = ones(2) });
        string tuned = Directory.CreateDirectory(InFolder("tuned")).FullName, data = Directory.CreateDirectory(InFolder("validation")).FullName, heads = Directory.CreateDirectory(InFolder("heads")).FullName;
        foreach ((string name, int classes) in new[] { ("cars", 3), ("signs", 4) })
        {
            Safetensors.Write(Path.Combine(tuned, name + ".safetensors"), new Dictionary<string, Tensor>(state.ToDictionary(p => p.Key, p => p.Value + 0.05 * randn_like(p.Value))) { ["text_model.x"] = ones(2) });
            Npz.Write(Path.Combine(data, name + ".npz"), new Dictionary<string, Tensor> { ["inputs"] = rand(40, 3, 16, 16), ["labels"] = arange(40, int64).remainder(classes) });
            Npy.Write(Path.Combine(heads, name + ".npy"), randn(classes, 12));
        }
        AtlasRecipeOptions options = _recipe.Defaults(Budget.Paper) with { Epochs = 2 };
        UserData given = Data(data, ("base", InFolder("base.safetensors")), ("tuned", tuned), ("heads", heads));
        (RunResult result, string run) = Run(options, given);
        Assert.Equal(2 * clip.named_parameters().Count(), result.Arms[^1]["trained values"]);
        Assert.Contains("text_model.x", Safetensors.Read(Path.Combine(run, "outputs", "merged.safetensors")).Keys);
        _recipe.Apply(SavedRun.Open(run), new ApplyContext(new UserData(Path.Combine(data, "cars.npz"), new Dictionary<string, string>()), InFolder("p.csv"), CPU, _ => { }));
        Assert.Equal("row,class_cars,probability_cars,class_signs,probability_signs", File.ReadLines(InFolder("p.csv")).First());
        string Message(UserData wrong) => Assert.Throws<BadInputException>(() => Run(options, wrong)).Message;
        Assert.Contains("--data.heads", Message(Data(data, ("base", InFolder("base.safetensors")), ("tuned", tuned))));
        Npy.Write(Path.Combine(heads, "signs.npy"), randn(4, 5));
        Assert.Contains("[4, 5]", Message(given));
        File.Delete(Path.Combine(heads, "signs.npy"));
        Assert.Contains("'signs'", Message(given));
    }

    [Fact]
    public void The_papers_options_train_one_step_on_the_papers_encoder()
    {
        AtlasRecipeOptions paper = _recipe.Defaults(Budget.Paper);
        Seeds.Set(0);
        using var network = new ClipVision(32, 16, 64, 2, 1, 96, 24); // ViT-B/32: 224, 32, 768, 12, 12, 3072, 512
        network.eval();
        Dictionary<string, Tensor> state = network.State();
        TaskVector[] vectors = [.. Enumerable.Range(0, 8).Select(i => TaskVector.FromChanges(state.ToDictionary(p => p.Key, p => 0.02 * randn_like(p.Value)), name: $"{i}"))];
        using var composition = new AnisotropicComposition(network, vectors, storage: ScalarType.Float16);
        CompositionTask[] tasks = [.. vectors.Select(v => new CompositionTask(v.Name, randn(paper.BatchSize / 8, 3, 32, 32), randint(10, [paper.BatchSize / 8], ScalarType.Int64), x => 100 * functional.normalize(x, dim: 1).matmul(functional.normalize(ones(10, 24) + eye(10, 24), dim: 1).t())))];
        CompositionResult result = TaskAdditionTrainer.Fit(composition, tasks, tasks, null, new CompositionOptions { LearningRate = paper.AdditionRate, WeightDecay = paper.WeightDecay, BatchSize = paper.BatchSize, Epochs = 1 });
        Assert.Equal(1, result.History.Steps);
        Assert.True(composition.Coefficients.detach().abs().max().item<float>() is > 0 and < 2e-3f || result.Epoch == 0);
    }

    private (RunResult Result, string Folder) Run(AtlasRecipeOptions options, UserData? data, Budget budget = Budget.Smoke)
    {
        options.Validate();
        return RecipeRunner.Run(_recipe, new RunRequest { Budget = budget, Options = options, Seeds = [0], Root = InFolder("runs"), DataFolder = InFolder("none"), Data = data }, new SilentObserver());
    }
}
