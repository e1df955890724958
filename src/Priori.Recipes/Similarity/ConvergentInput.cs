using Priori.Data;
using Priori.Nn;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;
using static Priori.Recipes.BadInput;

namespace Priori.Recipes.Similarity;

/// <summary>The user's two networks with inputs, or two files of activations.</summary>
internal sealed class ConvergentInput
{
    private readonly Func<ConvergenceOptions, IReadOnlyList<LayerConvergence>> _build;

    private ConvergentInput(string what, IReadOnlyList<string> layersB, Func<ConvergenceOptions, IReadOnlyList<LayerConvergence>> build) => (What, LayersB, _build) = (what, layersB, build);

    /// <summary>What is compared, for messages.</summary>
    public string What { get; }

    /// <summary>Names of the layers of the second network.</summary>
    public IReadOnlyList<string> LayersB { get; }

    public IReadOnlyList<LayerConvergence> Build(ConvergenceOptions options) => _build(options);

    public static ConvergentInput Read(UserData data, ConvergentLearningRecipeOptions options, Device device)
    {
        string a = data.Part(ConvergentLearningRecipe.A), b = data.Part(ConvergentLearningRecipe.B), what = $"{a} and {b}";
        if (data.Path.Length == 0)
        {
            IReadOnlyList<(string Layer, string LayerB, Tensor A, Tensor B)> tables = Tables(a, b, options.Layers, options.LayersB);
            return new ConvergentInput(what, [.. tables.Select(t => t.LayerB)], analysis => [.. tables.Select(t => ConvergenceReport.Build(t.A.to(device), t.B.to(device), t.Layer, analysis))]);
        }
        string? arch = data.Parts.GetValueOrDefault(ConvergentLearningRecipe.Arch);
        Network first = UserModel.Load(a, arch), second = UserModel.Load(b, data.Parts.GetValueOrDefault(ConvergentLearningRecipe.ArchB) ?? arch);
        if (!first.Architecture.Input.SequenceEqual(second.Architecture.Input))
            throw new BadInputException($"{what}: the networks take inputs [{string.Join(", ", first.Architecture.Input)}] and [{string.Join(", ", second.Architecture.Input)}]; both must see the same inputs.");
        Examples examples = Examples.Read(data.Path, first.Architecture.Input, options.Mean, options.Deviation);
        (string[] layers, string[] layersB) = Layers(first.Architecture, second.Architecture, options, what);
        first.to(device);
        second.to(device);
        return new ConvergentInput(what, layersB, analysis => ConvergenceReport.Build(x => first.Evaluate(x.to(device), layers), x => second.Evaluate(x.to(device), layersB), layers, examples.Inputs, analysis));
    }

    /// <summary>Activations of one network at layers, by name: of a file of activations, or of a checkpoint on inputs.</summary>
    public static IReadOnlyDictionary<string, Tensor> Activations(string path, UserData data, IReadOnlyList<string> layers, ConvergentLearningRecipeOptions options, Device device, string? arch)
    {
        if (data.Path.Length == 0 || path == data.Path) return ReadTables(path).Arrays;
        using Network network = UserModel.Load(path, arch);
        network.to(device);
        Examples examples = Examples.Read(data.Path, network.Architecture.Input, options.Mean, options.Deviation);
        if (layers.FirstOrDefault(l => network.Architecture.Layers.All(x => x.Name != l)) is { } missing) throw new BadInputException($"{path} has no layer '{missing}'; the run compared: {string.Join(", ", layers)}.");
        return layers.ToDictionary(l => l, l => Inference.Outputs(network, x => network.Evaluate(x, l), examples.Inputs));
    }

    private static (string[] A, string[] B) Layers(Architecture a, Architecture b, ConvergentLearningRecipeOptions options, string what)
    {
        IReadOnlyDictionary<string, long[]> shapesA = a.Shapes(), shapesB = b.Shapes();
        if (options.Layers.Count > 0)
        {
            string[] first = [.. options.Layers], second = options.LayersB.Count > 0 ? [.. options.LayersB] : first;
            foreach ((string layer, IReadOnlyDictionary<string, long[]> shapes, string part) in first.Select(l => (l, shapesA, "first")).Concat(second.Select(l => (l, shapesB, "second"))))
                if (!shapes.ContainsKey(layer)) throw new BadInputException($"The {part} network has no layer '{layer}'; it has: {string.Join(", ", shapes.Keys)}.");
            foreach ((string one, string other) in first.Zip(second))
                if (!Positions(shapesA[one]).SequenceEqual(Positions(shapesB[other])))
                    throw new BadInputException($"Layers '{one}' [{string.Join(", ", shapesA[one])}] and '{other}' [{string.Join(", ", shapesB[other])}] have other positions; units correspond over the same height and width (or tokens).");
            return (first, second);
        }
        bool Comparable(string name) => shapesB.TryGetValue(name, out long[]? shape) && Positions(shapesA[name]).SequenceEqual(Positions(shape));
        LayerKind[] functions = [LayerKind.Relu, LayerKind.Gelu, LayerKind.Silu, LayerKind.Tanh];
        string[] found = [.. a.Layers.Where(l => functions.Contains(l.Kind) && Comparable(l.Name)).Select(l => l.Name)];
        if (found.Length == 0) found = [.. a.Layers.SkipLast(1).Where(l => l.Kind is LayerKind.Linear or LayerKind.Conv2d && Comparable(l.Name)).Select(l => l.Name)];
        return found.Length > 0 ? (found, found) : throw new BadInputException($"{what}: no activation function has one name and the same positions in both networks; name pairs of layers with --set layers=... --set layers-b=...");
    }

    private static IEnumerable<long> Positions(long[] shape) => shape.Length switch { 3 => shape.Skip(1), 2 => shape.Take(1), _ => [] };

    /// <summary>The arrays of two files that correspond.</summary>
    public static IReadOnlyList<(string Layer, string LayerB, Tensor A, Tensor B)> Tables(string a, string b, IReadOnlyList<string> layers, IReadOnlyList<string> layersB)
    {
        (IReadOnlyDictionary<string, Tensor> first, IReadOnlyList<string>? ids) = ReadTables(a);
        (IReadOnlyDictionary<string, Tensor> second, IReadOnlyList<string>? otherIds) = ReadTables(b);
        string[] names = [.. layers], namesB = layersB.Count > 0 ? [.. layersB] : names;
        if (names.Length == 0 && first.Count == 1 && second.Count == 1) (names, namesB) = ([first.Keys.Single()], [second.Keys.Single()]);
        if (names.Length == 0) names = namesB = [.. first.Keys.Where(second.ContainsKey)];
        if (names.Length == 0) throw new BadInputException($"{a} has {string.Join(", ", first.Keys)} and {b} has {string.Join(", ", second.Keys)}: no name is in both; name pairs with --set layers=... --set layers-b=...");
        Tensor Find(IReadOnlyDictionary<string, Tensor> arrays, string name, string path) => arrays.TryGetValue(name, out Tensor? array) ? array : throw new BadInputException($"{path} has no array '{name}'; it has: {string.Join(", ", arrays.Keys)}.");
        Tensor? order = Order(a, ids, b, otherIds);
        return [.. names.Zip(namesB, (n, m) =>
        {
            Tensor x = Find(first, n, a), y = Find(second, m, b);
            if (x.shape[0] != y.shape[0]) throw new BadInputException($"{a} has {x.shape[0]} samples and {b} has {y.shape[0]}; both must be the same samples in the same order.");
            return (n, m, x, order is null ? y : y.index_select(0, order));
        })];
    }

    // The rows of the second file in the order of the first, where both name them.
    private static Tensor? Order(string a, IReadOnlyList<string>? ids, string b, IReadOnlyList<string>? otherIds)
    {
        if (ids is null || otherIds is null || ids.SequenceEqual(otherIds)) return null;
        var places = otherIds.Select((id, i) => (id, (long)i)).ToDictionary();
        if (ids.FirstOrDefault(id => !places.ContainsKey(id)) is { } missing) throw new BadInputException($"{b} has no row '{missing}', which {a} has; both must be of the same samples.");
        if (otherIds.Count != ids.Count) throw new BadInputException($"{a} has {ids.Count} samples and {b} has {otherIds.Count}; both must be the same samples.");
        return tensor((long[])[.. ids.Select(id => places[id])]);
    }

    private static (IReadOnlyDictionary<string, Tensor> Arrays, IReadOnlyList<string>? Ids) ReadTables(string path)
    {
        string extension = Path.GetExtension(path).ToLowerInvariant();
        Dictionary<string, Tensor> arrays = extension switch { ".npz" => Npz.Read(path), ".safetensors" => Safetensors.Read(path), ".npy" => new() { ["features"] = Npy.Read(path) }, _ => [] };
        IReadOnlyDictionary<string, Tensor> found;
        IReadOnlyList<string>? ids = null;
        if (arrays.Values.Any(t => t.dim() is 3 or 4)) found = arrays.Where(p => p.Value.dim() is >= 2 and <= 4).ToDictionary(p => p.Key, p => p.Value.is_floating_point() ? p.Value : p.Value.to(float32)); // with positions
        else
        {
            FeatureFile file = FeatureFile.Read(path);
            (found, ids) = (file.Features, file.Ids);
        }
        foreach ((string name, Tensor array) in found)
        {
            using DisposeScope scope = NewDisposeScope();
            Tensor bad = array.isfinite().logical_not();
            if (bad.any().item<bool>()) throw new BadInputException($"{path}: '{name}' holds NaN or infinity (or a missing value) at [{string.Join(", ", bad.nonzero()[0].data<long>().ToArray())}].");
        }
        return (found, ids);
    }
}
