using System.Text.Json;
using Priori.Data;
using Priori.Nn;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes;

/// <summary>A network that the user brings: a safetensors checkpoint and the description of its layers.</summary>
internal static class UserModel
{
    /// <summary>
    /// The layers of a checkpoint: the given file; else NAME.arch.json, arch.NAME.json or arch.json beside NAME.safetensors; else, for a model in a run folder, what the run wrote about it.
    /// </summary>
    public static Architecture Describe(string checkpoint, string? architecture = null)
    {
        if (!File.Exists(checkpoint)) throw new BadInputException($"The checkpoint {checkpoint} does not exist.");
        string folder = Path.GetDirectoryName(Path.GetFullPath(checkpoint))!, name = Path.GetFileNameWithoutExtension(checkpoint);
        if (architecture is not null && !File.Exists(architecture)) throw new BadInputException($"The description of layers {architecture} does not exist.");
        string? file = architecture ?? new[] { $"{name}.arch.json", $"arch.{name}.json", "arch.json" }.Select(f => Path.Combine(folder, f)).FirstOrDefault(File.Exists);
        if (file is not null) return Parsed(file, File.ReadAllText(file));
        string run = Path.Combine(folder, "model.json");
        if (File.Exists(run) && OfRun(run, Path.GetFileName(checkpoint)) is { } json) return Parsed(run, json);
        throw new BadInputException($"{checkpoint}: the layers of this checkpoint are not described: give --data.arch arch.json, or put arch.json beside it (priori show pleas tells what it holds).");
    }

    /// <summary>Several checkpoints: the .safetensors files of a folder in the order of their names, or paths with commas between them.</summary>
    public static IReadOnlyList<string> Checkpoints(string folderOrList)
    {
        IReadOnlyList<string> paths = Directory.Exists(folderOrList) ? [.. Directory.EnumerateFiles(folderOrList, "*.safetensors").Order(StringComparer.Ordinal)] : UserData.Paths(folderOrList);
        if (paths.Count == 0) throw new BadInputException($"{folderOrList} holds no .safetensors files.");
        return paths.FirstOrDefault(p => !File.Exists(p)) is { } missing ? throw new BadInputException($"The checkpoint {missing} does not exist.") : paths;
    }

    /// <summary>The network of a checkpoint, in evaluation mode, on the CPU.</summary>
    public static Network Load(string checkpoint, string? architecture = null) => Load(checkpoint, Describe(checkpoint, architecture));

    /// <summary>The network of a checkpoint whose layers are known.</summary>
    public static Network Load(string checkpoint, Architecture architecture)
    {
        if (!File.Exists(checkpoint)) throw new BadInputException($"The checkpoint {checkpoint} does not exist.");
        Dictionary<string, Tensor> state = Safetensors.Read(checkpoint);
        try
        {
            return BadInput.Refusing(checkpoint, () =>
            {
                var network = new Network(architecture);
                network.Load(state).eval();
                return network;
            });
        }
        finally
        {
            foreach (Tensor tensor in state.Values) tensor.Dispose();
        }
    }

    // A run's models are described by records of their recipes; those of a Network hold its layers under this name.
    private static string? OfRun(string index, string file)
    {
        try
        {
            using JsonDocument models = JsonDocument.Parse(File.ReadAllText(index));
            foreach (JsonProperty model in models.RootElement.EnumerateObject())
                if (Property(model.Value, "File") is { ValueKind: JsonValueKind.String } name && name.GetString() == file
                    && Property(model.Value, "Description") is { ValueKind: JsonValueKind.Object } description
                    && Property(description, nameof(Network.Architecture)) is { ValueKind: JsonValueKind.String } layers)
                    return layers.GetString();
            return null;
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            throw new BadInputException($"{index} is damaged: {exception.Message}", exception);
        }
    }

    private static JsonElement? Property(JsonElement element, string name)
    {
        if (element.ValueKind == JsonValueKind.Object)
            foreach (JsonProperty property in element.EnumerateObject())
                if (property.Name.Equals(name, StringComparison.OrdinalIgnoreCase)) return property.Value;
        return null;
    }

    private static Architecture Parsed(string file, string json) => BadInput.Refusing(file, () => Architecture.FromJson(json));
}
