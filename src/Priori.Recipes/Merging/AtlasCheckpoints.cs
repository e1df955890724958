using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Priori.Data;
using Priori.Merging;
using Priori.Metrics;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;
using static Priori.Recipes.BadInput;

namespace Priori.Recipes.Merging;

/// <summary>How the changes of one tensor go together.</summary>
/// <param name="Block">Name of the tensor.</param>
/// <param name="Relative">Norm of each task vector's change relative to the base tensor's norm.</param>
/// <param name="Cosines">Cosine of each pair of task vectors (0, 1), (0, 2), ..., (1, 2), ....</param>
/// <param name="Cancelled">Share of the changes that cancel in their sum, 1 - sum |sum_i tau_i| / sum_i |tau_i|: 0 where all agree.</param>
internal sealed record LayerAgreement(string Block, double[] Relative, double[] Cosines, double Cancelled);

/// <summary>The user's own base and fine-tuned checkpoints.</summary>
internal sealed partial class AtlasCheckpoints
{
    public const string BasePart = "base", TunedPart = "tuned", LayersPart = "arch", ControlPart = "control", ValidationPart = "validation", HeadsPart = "heads";

    private static readonly string[] Extensions = [".npz", ".npy", ".safetensors", ".zip", ""];

    private readonly AtlasRecipeOptions _options;
    private readonly RunContext _context;
    private readonly UserData _data;
    private readonly string _basePath;
    private readonly (string Name, string Path)[] _tuned;

    private AtlasCheckpoints(AtlasRecipeOptions options, RunContext context, UserData data)
    {
        (_options, _context, _data) = (options, context, data);
        _basePath = data.Part(BasePart);
        if (!File.Exists(_basePath)) throw new BadInputException($"The base checkpoint {_basePath} is no file.");
        string[] paths = [.. UserModel.Checkpoints(data.Part(TunedPart)).Where(p => Path.GetFullPath(p) != Path.GetFullPath(_basePath))];
        if (paths.Length == 0) throw new BadInputException($"{data.Part(TunedPart)} holds no checkpoint besides the base.");
        string[] names = [.. paths.Select(p => Path.GetFileNameWithoutExtension(p))];
        if (names.Distinct().Count() < names.Length) names = [.. paths.Select(p => $"{Path.GetFileName(Path.GetDirectoryName(Path.GetFullPath(p)))}-{Path.GetFileNameWithoutExtension(p)}")];
        _tuned = [.. names.Zip(paths)];
    }

    public static void Run(AtlasRecipeOptions options, RunContext context, UserData data)
    {
        var own = new AtlasCheckpoints(options, context, data);
        if (options.Mode == AtlasMode.Merge) own.Merge();
        else own.Learn();
    }

    public static void Apply(SavedRun run, ApplyContext context)
    {
        AtlasModel model = run.Description<AtlasModel>("merged");
        using var network = AtlasNetwork.Of(model.Architecture, run.Model("merged"));
        Examples examples = Examples.Read(context.DataPath, network.Input, model.Mean, model.Deviation);
        network.Module.to(context.Device).eval();
        using var _ = no_grad();
        Tensor outputs = Inference.Outputs(network.Module, examples.Inputs);
        List<(string Name, Tensor Logits)> heads = run.Models.Contains("heads")
            ? [.. run.Model("heads").Select(h => (Name: h.Key, Logits: AtlasNetwork.Head(h.Value)(outputs)))]
            : [("", outputs)];
        if (heads.Count == 1) heads[0] = ("", heads[0].Logits);
        if (run.Models.Contains("adapter"))
        {
            using Module<Tensor, Tensor, Tensor> adapter = LoadAdapter(run.Description<AtlasAdapterModel>("adapter"), run.Model("adapter"));
            heads[0] = ("", adapter.call(Inference.Outputs(network.Module, network.Features, examples.Inputs), heads[0].Logits));
        }
        (long[] Class, float[] Probability)[] columns = [.. heads.Select(h =>
        {
            (Tensor values, Tensor indexes) = h.Logits.softmax(1).max(1);
            return (indexes.data<long>().ToArray(), values.data<float>().ToArray());
        })];
        string Suffix(string name) => name.Length == 0 ? "" : $"_{name}";
        var text = new StringBuilder("row").AppendJoin("", heads.Select(h => $",class{Suffix(h.Name)},probability{Suffix(h.Name)}")).Append('\n');
        for (int row = 0; row < outputs.shape[0]; row++)
        {
            text.Append(row);
            foreach ((long[] classes, float[] probabilities) in columns) text.Append(CultureInfo.InvariantCulture, $",{classes[row]},{probabilities[row]:0.######}");
            text.Append('\n');
        }
        AtomicFile.WriteText(context.OutPath, text.ToString());
        context.Report($"Predicted {outputs.shape[0]} rows.");
        if (examples.Labels is { } labels)
            foreach ((string name, Tensor logits) in heads)
                if (labels.max().item<long>() < logits.shape[1]) context.Report(FormattableString.Invariant($"Accuracy{(name.Length == 0 ? "" : $" as {name}")} {Classification.Accuracy(logits, labels):0.0000}."));
    }

    // Task arithmetic on files alone, in constant memory.
    private void Merge()
    {
        using SafetensorsFile start = SafetensorsFile.Open(_basePath);
        SafetensorsFile[] files = [.. _tuned.Select(t => SafetensorsFile.Open(t.Path))];
        try
        {
            _context.UsedData($"{_basePath} and {files.Length} fine-tuned checkpoints of {start.Names.Count} tensors");
            string merged = _context.OutputPath("merged.safetensors");
            // theta_0 + alpha sum_i (theta_i - theta_0)
            Refusing(_data.Part(TunedPart), () => StateDict.LinearCombination(merged, [(1 - _options.Alpha * files.Length, start), .. files.Select(f => (_options.Alpha, f))]));
            ShowLayers([.. start.Names.Where(n => start.ElementType(n) is ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 or ScalarType.Float64).Select(name =>
            {
                using var scope = NewDisposeScope();
                Tensor origin = start.Get(name).to(float32);
                return Agreement(name, origin, [.. files.Select(f => f.Get(name).to(float32) - origin)]);
            })], null);
            _context.Note(FormattableString.Invariant($"Wrote {merged}: the base plus {_options.Alpha} times the sum of {files.Length} task vectors."));
        }
        finally
        {
            foreach (SafetensorsFile file in files) file.Dispose();
        }
    }

    private void Learn()
    {
        using var network = AtlasNetwork.Open(_basePath, _data.Parts.GetValueOrDefault(LayersPart));
        network.Module.to(_context.Device).eval();
        Dictionary<string, Tensor> start = network.State();
        TaskVector[] vectors = [.. _tuned.Select(t => Read(t.Name, t.Path, network, start))];
        _context.UsedData($"{_basePath} and {vectors.Length} fine-tuned checkpoints ({string.Join(", ", vectors.Select(v => v.Name))}) of {start.Count} tensors");
        if (_data.Path.Length == 0) throw new BadInputException($"Mode {_options.Mode.ToString().ToLowerInvariant()} learns from data: give --data PATH (mode merge needs none).");
        OwnTask[] tasks = ReadTasks(network);
        if (_options.Mode is AtlasMode.Tta or AtlasMode.Fewshot && _options.Crop < 1 && network.Input.Count != 3 && (_options.Mode == AtlasMode.Fewshot || _options.Objective != TestTimeObjective.Sar))
            throw new BadInputException($"The network takes [{string.Join(", ", network.Input)}], and random crops are for images [channels, height, width]: set crop=1{(_options.Mode == AtlasMode.Tta ? " with objective=sar" : "")}.");

        Granularity granularity = _options.Scaling switch { AtlasScaling.Global => Granularity.Global, AtlasScaling.Block => Granularity.Block, _ => Granularity.Partition(_options.Groups) };
        var table = new List<(string Model, ArmResult Result)>();
        void Arm(string name, Action<ArmRun> body) => table.Add((name, _context.Arm(name, _context.Seeds[0], body)));
        void Measure(ArmRun run, Dictionary<string, Tensor> state)
        {
            network.Load(state);
            Report(run, task => task.Test.Accuracy(network.Module));
        }
        void Report(ArmRun run, Func<OwnTask, double> accuracy)
        {
            OwnTask[] measured = [.. tasks.Where(t => t.Test.Labels.numel() > 0)];
            double[] values = [.. measured.Select(accuracy)];
            foreach ((OwnTask task, double value) in measured.Zip(values)) run.Metric(task.Name, value);
            if (measured.Length > 1 && _options.Mode == AtlasMode.Add) run.Metric("mean", values.Average());
        }

        Arm("base", run => Measure(run, start));
        foreach (TaskVector vector in vectors) Arm(vector.Name, run => Measure(run, vector.ApplyTo(start)));
        if (_options.Mode is AtlasMode.Add or AtlasMode.Negate)
        {
            bool negate = _options.Mode == AtlasMode.Negate;
            Arm("best scale (search)", run =>
            {
                network.Load(start);
                double[] own = Own(vectors, start, network, tasks), floor = negate ? [_options.ControlShare * tasks[1].Validation.Accuracy(network.Module)] : [];
                ScaleSearch found = TaskArithmetic.SearchScale(start, negate ? [-vectors[0]] : vectors, state =>
                {
                    network.Load(state);
                    return negate ? tasks[1].Validation.Accuracy(network.Module) >= floor[0] ? -tasks[0].Validation.Accuracy(network.Module) : double.NegativeInfinity
                        : tasks.Select((task, t) => task.Validation.Accuracy(network.Module) / own[t]).Average();
                });
                Measure(run, (negate ? -vectors[0] : vectors.Aggregate((a, b) => a + b)).ApplyTo(start, found.Alpha));
                run.Metric("alpha", found.Alpha);
            });
        }
        Arm("aTLAS", run =>
        {
            network.Load(start);
            using AnisotropicComposition composition = Refusing(_data.Part(TunedPart), () => new AnisotropicComposition(network.Module, vectors, granularity, _options.MatricesOnly, run.Seed));
            CompositionResult result = Fit(run, network, composition, tasks, vectors, start);
            run.Include(result.History);
            run.Metric("epoch", result.Epoch);
            run.Metric("trained values", composition.Coefficients.numel());
            Dictionary<string, Tensor> merged = composition.Fold();
            if (_options.ResetBatchNorm)
            {
                network.Load(merged);
                if (BatchNormReset.Run(network.Module, cat([.. tasks.Select(t => t.Validation.Inputs)], 0), seed: run.Seed) > 0) merged = network.State();
            }
            Measure(run, merged);
            run.Tensor("coefficients", composition.BlockCoefficients());
            Save(run, composition, network, tasks, merged);
            if (_options is { Mode: AtlasMode.Fewshot, Adapter: not AtlasAdapter.None }) FitAdapter(run, network, tasks[0]);
        });
        Show(table, network, vectors, start);
        if (network.HasBatchNorm && !_options.ResetBatchNorm)
            _context.Note("The statistics of batch normalisation are the base's; --set reset-batch-norm=true estimates them anew on the data.");
    }

    private CompositionResult Fit(ArmRun run, AtlasNetwork network, AnisotropicComposition composition, OwnTask[] tasks, TaskVector[] vectors, Dictionary<string, Tensor> start)
    {
        CompositionOptions Options(double rate, int epochs) => new()
        {
            LearningRate = rate, WeightDecay = _options.WeightDecay, Epochs = epochs, BatchSize = _options.BatchSize, Penalty = _options.Penalty, Trainer = run.Trainer, Cancellation = run.Cancellation,
        };
        Tensor Augment(Tensor x) => _options.Crop < 1 ? RandomResizedCrop.Apply(x, _options.Crop, _options.Flip) : x;
        CompositionTask[] training = [.. tasks.Select(t => t.Training)], validation = [.. tasks.Select(t => t.Validation)];
        switch (_options.Mode)
        {
            case AtlasMode.Negate:
                return TaskNegationTrainer.Fit(composition, training[0], training[1], validation[0], validation[1], _options.ControlShare, Options(_options.NegationRate, _options.NegationEpochs));
            case AtlasMode.Fewshot:
                return Refusing(_data.Part(TunedPart), () => FewShotTrainer.Fit(composition, training[0] with { Name = _options.Target }, _data.Parts.ContainsKey(ValidationPart) ? validation[0] : null, Augment, _options.AllowTarget, Options(_options.FewShotRate, _options.AdaptationEpochs)));
            case AtlasMode.Tta:
                CompositionOptions how = Options(_options.TestTimeRate, _options.AdaptationEpochs);
                return TestTimeAdapter.Fit(composition, training[0].Inputs, Augment, new TestTimeOptions
                {
                    LearningRate = how.LearningRate, WeightDecay = how.WeightDecay, Epochs = how.Epochs, BatchSize = how.BatchSize, Penalty = how.Penalty, Trainer = how.Trainer, Cancellation = how.Cancellation,
                    Objective = _options.Objective, Reference = _options.Reference,
                }, training[0].Head);
            default:
                using (AtlasNetwork other = network.Another())
                {
                    other.Module.to(run.Device).eval();
                    return TaskAdditionTrainer.Fit(composition, training, validation, Own(vectors, start, other, tasks), Options(_options.AdditionRate, _options.Epochs));
                }
        }
    }

    // The best accuracy that one of the given networks has on each task (its own network's, if fine-tuning went well), by which the mean is normalised; 1 where there is one set for all.
    private double[] Own(TaskVector[] vectors, Dictionary<string, Tensor> start, AtlasNetwork network, OwnTask[] tasks)
    {
        double[] best = [.. tasks.Select(_ => 1.0)];
        if (_options.Mode != AtlasMode.Add || tasks.Length == 1) return best;
        Array.Fill(best, 1e-3);
        foreach (Dictionary<string, Tensor> state in vectors.Select(v => v.ApplyTo(start)).Prepend(start))
        {
            network.Load(state);
            for (int t = 0; t < tasks.Length; t++) best[t] = Math.Max(best[t], tasks[t].Validation.Accuracy(network.Module));
        }
        network.Load(start);
        return best;
    }

    private static TaskVector Read(string name, string path, AtlasNetwork network, Dictionary<string, Tensor> start)
    {
        Dictionary<string, Tensor> state = Safetensors.Read(path);
        return Refusing(path, () =>
        {
            if (!state.Keys.Any(k => k.Contains(".lora_A", StringComparison.Ordinal)))
            {
                // Counters may be missing, as in Network.Load.
                foreach ((string key, Tensor tensor) in start.Where(p => p.Key.EndsWith(".num_batches_tracked", StringComparison.Ordinal))) state.TryAdd(key, tensor);
                return TaskVector.FromCheckpoints(start, network.Own(state), name);
            }
            string config = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, "adapter_config.json");
            double scale = 1;
            if (File.Exists(config))
            {
                using JsonDocument json = JsonDocument.Parse(File.ReadAllText(config));
                if (json.RootElement.TryGetProperty("lora_alpha", out JsonElement alpha) && json.RootElement.TryGetProperty("r", out JsonElement rank)) scale = alpha.GetDouble() / rank.GetDouble();
            }
            TaskVector vector = TaskVector.FromLora(state, scale, name);
            _ = vector.ApplyTo(start, 0); // refuses factors that do not fit
            return vector;
        });
    }

    // Parts of the user's data that a task is learned, selected and measured on.
    private sealed record OwnTask(string Name, CompositionTask Training, CompositionTask Validation, CompositionTask Test);

    private OwnTask[] ReadTasks(AtlasNetwork network)
    {
        Examples Labelled(string path, string name, bool needed = true)
        {
            long classes = ReadHead(network, name)?.shape[0] ?? network.Outputs;
            Examples examples = Examples.Read(path, network.Input, _options.Mean, _options.Deviation);
            if (examples.Labels is null && needed) throw new BadInputException($"{path} has no labels, which mode {_options.Mode.ToString().ToLowerInvariant()} needs: an array 'labels', or a folder for each class.");
            if (examples.Labels is { } labels && (labels.min().item<long>() < 0 || labels.max().item<long>() >= classes))
                throw new BadInputException($"{path} has labels {labels.min().item<long>()}..{labels.max().item<long>()}; there are {classes} classes.");
            return examples;
        }
        OwnTask Split(string name, Examples examples)
        {
            long count = examples.Count, held = (long)(_options.Holdout * count);
            if (count - held < 1) throw new BadInputException($"The data of '{name}' are {count} rows, of which a share of {_options.Holdout} is held out: too few.");
            Seeds.Set(Seeds.Derive(_context.Seeds[0], 0x484F));
            Tensor order = randperm(count, ScalarType.Int64);
            CompositionTask Part(long from, long size) => new(name, examples.Inputs.index_select(0, order.narrow(0, from, size)), examples.Labels!.index_select(0, order.narrow(0, from, size)), Head(name));
            CompositionTask learned = Part(0, count - held);
            return new OwnTask(name, learned, learned, held > 0 ? Part(count - held, held) : learned);
        }
        Func<Tensor, Tensor>? Head(string name) => ReadHead(network, name) is { } head ? AtlasNetwork.Head(head) : null;
        CompositionTask Whole(string name, Examples examples) => new(name, examples.Inputs, examples.Labels ?? zeros(0, ScalarType.Int64), Head(name));
        string path = _data.Path;
        switch (_options.Mode)
        {
            case AtlasMode.Negate:
                if (_tuned.Length != 1) throw new BadInputException($"Mode negate removes one task: --data.tuned names {_tuned.Length} checkpoints.");
                return [Split("target", Labelled(path, "target")), Split("control", Labelled(_data.Part(ControlPart), "control"))];
            case AtlasMode.Fewshot:
                CompositionTask examples = Whole("target", Labelled(path, "target"));
                if (!_data.Parts.TryGetValue(ValidationPart, out string? validation)) return [new OwnTask("target", examples, examples, examples)];
                OwnTask split = Split("target", Labelled(validation, "target"));
                return [new OwnTask("target", examples, split.Training, split.Test)];
            case AtlasMode.Tta:
                CompositionTask inputs = Whole("target", Labelled(path, "target", needed: false));
                return [new OwnTask("target", inputs, inputs, inputs)];
            default:
                string?[] own = [.. _tuned.Select(t => Extensions.Select(e => Path.Combine(path, t.Name + e)).FirstOrDefault(f => File.Exists(f) || Directory.Exists(f)))];
                if (!Directory.Exists(path) || own.All(o => o is null)) return [Split("validation", Labelled(path, "validation"))];
                if (Array.IndexOf(own, null) is >= 0 and var missing) throw new BadInputException($"{path} has data for some checkpoints but none for '{_tuned[missing].Name}': {_tuned[missing].Name}.npz, .npy, .safetensors, .zip or a folder {_tuned[missing].Name}.");
                return [.. _tuned.Select((t, i) => Split(t.Name, Labelled(own[i]!, t.Name)))];
        }
    }

    // Text features of a task's classes, [classes, outputs]: one file for all, or NAME.npy, .npz or .safetensors in a folder.
    private Tensor? ReadHead(AtlasNetwork network, string name)
    {
        if (!_data.Parts.TryGetValue(HeadsPart, out string? path))
            return network.NeedsHeads ? throw new BadInputException($"{_basePath} is an image encoder of CLIP, which gives features: give --data.heads PATH, the text features [classes, {network.Outputs}] of the classes.") : null;
        string? file = Directory.Exists(path) ? Extensions.Select(e => Path.Combine(path, name + e)).FirstOrDefault(File.Exists) : path;
        if (file is null) throw new BadInputException($"{path} has no text features for '{name}': {name}.npy, .npz or .safetensors.");
        Tensor head = Path.GetExtension(file).ToLowerInvariant() switch
        {
            ".npy" => Npy.Read(file),
            ".npz" => Npz.Read(file).Values.First(),
            _ => Safetensors.Read(file).Values.First(),
        };
        return head.dim() == 2 && head.shape[1] == network.Outputs ? head : throw new BadInputException($"{file} holds [{string.Join(", ", head.shape)}]; text features are [classes, {network.Outputs}].");
    }

    private void Save(ArmRun run, AnisotropicComposition composition, AtlasNetwork network, OwnTask[] tasks, Dictionary<string, Tensor> merged)
    {
        using (SafetensorsFile start = SafetensorsFile.Open(_basePath))
        {
            // In the types of the base's file, with everything else that it holds.
            Safetensors.Write(_context.OutputPath("merged.safetensors"), start.Names.Union(merged.Keys).ToDictionary(n => n, n =>
                !merged.TryGetValue(n, out Tensor? value) ? start.Get(n) : start.Names.Contains(n) && start.ElementType(n) is { } type ? value.to(type) : value), start.Metadata);
        }
        if (network.Layers.Length > 0) AtomicFile.WriteText(_context.OutputPath("arch.json"), network.Layers);
        run.SaveModel("merged", merged, new AtlasModel(network.Layers, _options.Mean, _options.Deviation));
        if (_data.Parts.ContainsKey(HeadsPart))
            run.SaveModel("heads", tasks.Where(t => t.Name != "control").ToDictionary(t => t.Name, t => ReadHead(network, t.Name)!), new { Temperature = 0.01 });
        Safetensors.Write(_context.OutputPath("coefficients.safetensors"), new Dictionary<string, Tensor>(composition.Masks.Select(m => KeyValuePair.Create($"mask.{m.Key}", m.Value))) { ["coefficients"] = composition.Coefficients });
        var text = new StringBuilder("task").AppendJoin("", composition.Blocks.SelectMany(b => Enumerable.Range(0, (int)composition.BlockCoefficients().shape[2]).Select(k => composition.Masks.Count == 0 ? $",{b}" : $",{b}#{k}"))).Append('\n');
        float[] values = composition.BlockCoefficients().flatten().data<float>().ToArray();
        int each = values.Length / composition.Vectors.Count;
        for (int i = 0; i < composition.Vectors.Count; i++)
            text.Append(composition.Vectors[i].Name).AppendJoin("", values.Skip(i * each).Take(each).Select(v => v.ToString(",0.######;,-0.######", CultureInfo.InvariantCulture))).Append('\n');
        AtomicFile.WriteText(_context.OutputPath("coefficients.csv"), text.ToString());
    }

    private void FitAdapter(ArmRun run, AtlasNetwork network, OwnTask task)
    {
        Tensor FeaturesOf(Tensor x) => Inference.Outputs(network.Module, network.Features, x);
        Tensor LogitsOf(Tensor x) => task.Training.Logits(Inference.Outputs(network.Module, x));
        (Tensor features, Tensor logits) = (FeaturesOf(task.Training.Inputs), LogitsOf(task.Training.Inputs));
        using Module<Tensor, Tensor, Tensor> adapter = _options.Adapter == AtlasAdapter.Tip
            ? TipAdapter.Fit(features, task.Training.Labels, logits, new CompositionOptions { Epochs = 10, Trainer = run.Trainer, Cancellation = run.Cancellation })
            : new LinearProbePlusPlus(features, task.Training.Labels, logits);
        using var ungraphed = no_grad();
        run.Metric($"with {_options.Adapter}", Classification.Accuracy(adapter.call(FeaturesOf(task.Test.Inputs), LogitsOf(task.Test.Inputs)), task.Test.Labels));
        run.SaveModel("adapter", adapter.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone()), new AtlasAdapterModel(_options.Adapter, features.shape[0], features.shape[1], logits.shape[1]));
    }

    private static Module<Tensor, Tensor, Tensor> LoadAdapter(AtlasAdapterModel model, Dictionary<string, Tensor> state)
    {
        (Tensor features, Tensor labels, Tensor logits) = (ones(model.Examples, model.Width), zeros(model.Examples, ScalarType.Int64), zeros(model.Examples, model.Classes));
        Module<Tensor, Tensor, Tensor> adapter = model.Adapter == AtlasAdapter.Tip ? new TipAdapter(features, labels, model.Classes) : new LinearProbePlusPlus(features, labels, logits, epochs: 0);
        adapter.load_state_dict(state);
        return adapter;
    }

    private static LayerAgreement Agreement(string block, Tensor origin, Tensor[] changes)
    {
        double norm = Math.Max(1e-30, origin.to(float64).norm().item<double>());
        Tensor all = stack([.. changes.Select(c => c.to(float64).flatten())]);
        Tensor gram = all.matmul(all.t());
        double Inner(int i, int j) => gram[i, j].item<double>();
        int n = changes.Length;
        double[] cosines = [.. Enumerable.Range(0, n).SelectMany(i => Enumerable.Range(i + 1, n - i - 1).Select(j => Inner(i, j) / Math.Max(1e-30, Math.Sqrt(Inner(i, i) * Inner(j, j)))))];
        double total = all.abs().sum().item<double>();
        return new LayerAgreement(block, [.. Enumerable.Range(0, n).Select(i => Math.Sqrt(Inner(i, i)) / norm)], cosines, total > 0 ? 1 - all.sum(dim: 0).abs().sum().item<double>() / total : 0);
    }

    private void Show(List<(string Model, ArmResult Result)> table, AtlasNetwork network, TaskVector[] vectors, Dictionary<string, Tensor> start)
    {
        string[] columns = [.. table.SelectMany(t => t.Result.Metrics.Keys).Distinct().Where(k => k is not ("epoch" or "trained values"))];
        if (columns.Length > 0)
            _context.Table("accuracy", _options.Mode is AtlasMode.Add or AtlasMode.Negate && _options.Holdout > 0 ? FormattableString.Invariant($"Accuracy on the {_options.Holdout:0%} of the data that nothing was learned on.") : "Accuracy on the data.", ["model", .. columns],
                [.. table.Select(t => (IReadOnlyList<string>)[t.Model, .. columns.Select(c => t.Result.Metrics.TryGetValue(c, out double v) ? v.ToString("0.0000", CultureInfo.InvariantCulture) : "")])]);
        using var scope = NewDisposeScope();
        Tensor coefficients = table[^1].Result.Tensor("coefficients");
        string[] blocks = [.. AnisotropicComposition.BlocksOf(network.Module, vectors, _options.MatricesOnly)];
        ShowLayers([.. blocks.Select(b => Agreement(b, start[b], [.. vectors.Select(v => v.Delta(b)?.view(start[b].shape) ?? zeros_like(start[b]))]))], coefficients);
        var values = new double[vectors.Length, blocks.Length];
        for (int i = 0; i < vectors.Length; i++)
            for (int j = 0; j < blocks.Length; j++) values[i, j] = coefficients[i, j].mean().ToDouble();
        _context.Figure("coefficients", "Learned coefficient of every task vector in every block.", Charts.Heatmap("Learned coefficients", values, "block", "task vector", blocks, [.. vectors.Select(v => v.Name)]), Math.Max(900, 24 * blocks.Length));
        IReadOnlyList<(string, IReadOnlyList<double>)> Grouped(Func<string, string?> key) =>
            [.. blocks.Select((b, j) => (Key: key(b), j)).Where(p => p.Key is not null).GroupBy(p => p.Key!).Select(g => (g.Key, (IReadOnlyList<double>)[.. g.SelectMany(p => Enumerable.Range(0, vectors.Length).Select(i => values[i, p.j]))]))];
        _context.Figure("coefficients-by-type", "Learned coefficients by type of block: mean and every value.", Charts.Bars("Coefficients by type of block", "coefficient", Grouped(b => Digits().Replace(b, "*"))));
        IReadOnlyList<(string, IReadOnlyList<double>)> depths = Grouped(b => Digits().Match(b) is { Success: true } m ? m.Value : null);
        if (depths.Count > 1) _context.Figure("coefficients-by-depth", "Learned coefficients by depth (the number in the block's name): mean and every value.", Charts.Bars("Coefficients by depth", "coefficient", depths));
    }

    // Which layers disagree.
    private void ShowLayers(IReadOnlyList<LayerAgreement> layers, Tensor? coefficients)
    {
        string[] names = [.. _tuned.Select(t => t.Name)];
        string[] pairs = [.. names.SelectMany((a, i) => names.Skip(i + 1).Select(b => $"{a} / {b}"))];
        double?[] spread = [.. layers.Select((_, j) => coefficients is null ? (double?)null : (coefficients.select(1, j).max() - coefficients.select(1, j).min()).ToDouble())];
        string Number(double value) => value.ToString("0.####", CultureInfo.InvariantCulture);
        IReadOnlyList<string> Row(LayerAgreement layer, int j) => [layer.Block, Number(layer.Cancelled), pairs.Length == 0 ? "" : Number(layer.Cosines.Average()), .. spread[j] is { } s ? [Number(s)] : Array.Empty<string>(), .. layer.Relative.Select(Number)];
        string[] header = ["block", "cancelled", "mean cosine", .. coefficients is null ? Array.Empty<string>() : ["coefficient spread"], .. names.Select(n => $"change by {n}")];
        (LayerAgreement Layer, int Index)[] ranked = [.. layers.Select((l, j) => (l, j)).OrderByDescending(l => l.l.Cancelled)];
        _context.Table("layers", "Which layers disagree, most first: share of the changes that cancel in their sum, mean cosine of the task vectors, spread of the learned coefficients, and size of each change relative to the base.",
            header, [.. ranked.Take(40).Select(r => Row(r.Layer, r.Index))]);
        var text = new StringBuilder().AppendJoin(',', header).Append('\n');
        foreach ((LayerAgreement layer, int j) in layers.Select((l, j) => (l, j))) text.AppendJoin(',', Row(layer, j)).Append('\n');
        AtomicFile.WriteText(_context.OutputPath("layers.csv"), text.ToString());
        if (pairs.Length == 0) return;
        var cosines = new double[pairs.Length, layers.Count];
        for (int p = 0; p < pairs.Length; p++)
            for (int j = 0; j < layers.Count; j++) cosines[p, j] = layers[j].Cosines[p];
        _context.Figure("cosines", "Cosine of each pair of task vectors in every block: below 0 they pull against each other.", Charts.Heatmap("Agreement of the task vectors", cosines, "block", "pair", [.. layers.Select(l => l.Block)], pairs), Math.Max(900, 24 * layers.Count));
    }

    [GeneratedRegex(@"\d+")]
    private static partial Regex Digits();
}

/// <summary>How a saved adapter is rebuilt.</summary>
/// <param name="Adapter">Which one.</param>
/// <param name="Examples">Number of examples.</param>
/// <param name="Width">Width of the features.</param>
/// <param name="Classes">Number of classes.</param>
public sealed record AtlasAdapterModel(AtlasAdapter Adapter, long Examples, long Width, long Classes);
