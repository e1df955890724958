using System.Text.Json;
using Priori.Data;
using Priori.Runtime;

namespace Priori.Reproduction;

internal sealed record SavedModel(string File, JsonElement Description);

/// <summary>A finished run on disk.</summary>
public sealed class SavedRun
{
    private readonly Dictionary<string, SavedModel> _models;

    private SavedRun(string folder, RunResult result, Dictionary<string, SavedModel> models)
    {
        Folder = folder;
        Result = result;
        _models = models;
    }

    /// <summary>The run folder.</summary>
    public string Folder { get; }

    /// <summary>What the run found.</summary>
    public RunResult Result { get; }

    /// <summary>Names of its models.</summary>
    public IReadOnlyCollection<string> Models => _models.Keys;

    /// <summary>Opens a run folder.</summary>
    /// <param name="folder">The folder.</param>
    /// <exception cref="BadInputException">It is no finished run, or one of another version.</exception>
    public static SavedRun Open(string folder)
    {
        string file = Path.Combine(folder, "result.json");
        if (!Directory.Exists(folder)) throw new BadInputException($"Run folder {folder} does not exist.");
        if (!File.Exists(file))
        {
            throw new BadInputException(File.Exists(Path.Combine(folder, "run.json"))
                ? $"Run {folder} is not finished: continue it with priori run --resume {folder}."
                : $"{folder} is no run folder: it has no result.json.");
        }
        RunResult result = ReadJson<RunResult>(file, RunResult.CurrentSchemaVersion);
        string index = Path.Combine(folder, "model", "model.json");
        return new SavedRun(folder, result, File.Exists(index) ? ReadJson<Dictionary<string, SavedModel>>(index, null) : []);
    }

    /// <summary>The options of the run.</summary>
    /// <typeparam name="T">The recipe's options.</typeparam>
    public T Options<T>()
        where T : RecipeOptions => Read<T>(Result.Options, "options");

    /// <summary>Weights of a model.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="BadInputException">The run has no such model, or its file is damaged.</exception>
    public Dictionary<string, Tensor> Model(string name)
    {
        string file = Path.Combine(Folder, "model", Path.GetFileName(Find(name).File));
        if (!File.Exists(file)) throw new BadInputException($"Run {Folder} has lost its model file {file}.");
        return Safetensors.Read(file);
    }

    /// <summary>What the recipe wrote about a model.</summary>
    /// <param name="name">The model's name.</param>
    /// <typeparam name="T">The record that was given to <see cref="RunContext.SaveModel"/>.</typeparam>
    public T Description<T>(string name) => Read<T>(Find(name).Description, $"description of model '{name}'");

    internal static T ReadJson<T>(string file, int? schemaVersion)
    {
        try
        {
            string text = File.ReadAllText(file);
            if (schemaVersion is { } expected)
            {
                using var document = JsonDocument.Parse(text);
                if (document.RootElement.ValueKind != JsonValueKind.Object || !document.RootElement.TryGetProperty("schemaVersion", out JsonElement version)
                    || version.ValueKind != JsonValueKind.Number || version.GetInt32() != expected)
                    throw new BadInputException($"{file} is of another version of Priori; this one reads schema version {expected}.");
            }
            return JsonSerializer.Deserialize<T>(text, RunResult.Json) ?? throw new BadInputException($"{file} is empty.");
        }
        catch (Exception e) when (e is JsonException or FormatException or NotSupportedException)
        {
            throw new BadInputException($"{file} is damaged: {e.Message}", e);
        }
    }

    private SavedModel Find(string name)
        => _models.TryGetValue(name, out SavedModel? model) ? model : throw new BadInputException($"Run {Folder} has no model '{name}'{(_models.Count == 0 ? "" : $"; it has: {string.Join(", ", _models.Keys)}")}.");

    private T Read<T>(JsonElement json, string what)
    {
        try
        {
            return json.Deserialize<T>(RunResult.Json) ?? throw new BadInputException($"The {what} in run {Folder} is empty.");
        }
        catch (Exception e) when (e is JsonException or NotSupportedException)
        {
            throw new BadInputException($"The {what} in run {Folder} is of another version: {e.Message}", e);
        }
    }
}

/// <summary>What applying a run's model has: new data, and where the output goes.</summary>
/// <param name="Data">The new data.</param>
/// <param name="OutPath">Where the output goes: a file, or a folder for methods that write several files.</param>
/// <param name="Device">The device.</param>
/// <param name="Report">Says a line to the user.</param>
/// <param name="Cancellation">Cancelled by Ctrl+C.</param>
public sealed record ApplyContext(UserData Data, string OutPath, Device Device, Action<string> Report, CancellationToken Cancellation = default)
{
    /// <summary>The context of a recipe, with the data's paths checked and made absolute.</summary>
    /// <param name="recipe">The recipe.</param>
    /// <param name="data">The new data.</param>
    /// <param name="outPath">Where the output goes.</param>
    /// <param name="device">The device.</param>
    /// <param name="report">Says a line to the user.</param>
    /// <param name="cancellation">Cancelled by Ctrl+C.</param>
    /// <exception cref="BadInputException">A path does not exist, or the recipe has no use for one.</exception>
    public static ApplyContext For(IRecipe recipe, UserData data, string outPath, Device device, Action<string> report, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(data);
        data.CheckFor(recipe);
        return new ApplyContext(data.WithFullPaths(), outPath, device, report, cancellation);
    }

    /// <summary>Path of the new data.</summary>
    public string DataPath => Data.Path;
}
