using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Priori.Runtime;

namespace Priori.Reproduction;

/// <summary>What to run.</summary>
public sealed record RunRequest
{
    /// <summary>The budget.</summary>
    public Budget Budget { get; init; } = Budget.Full;

    /// <summary>The options.</summary>
    public required RecipeOptions Options { get; init; }

    /// <summary>The seeds, at least one.</summary>
    public required IReadOnlyList<int> Seeds { get; init; }

    /// <summary>The device by name.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>The user's data; default data when null.</summary>
    public UserData? Data { get; init; }

    /// <summary>Where real datasets are looked for; <c>PRIORI_DATA</c> or the user's folder when null.</summary>
    public string? DataFolder { get; init; }

    /// <summary>Seconds between checkpoints.</summary>
    public double CheckpointSeconds { get; init; } = 20;

    /// <summary>Folder under which run folders are made.</summary>
    public string Root { get; init; } = "runs";
}

/// <summary>Runs recipes into run folders, and continues runs that were interrupted.</summary>
public static class RecipeRunner
{
    private const int RunFileVersion = 1;

    /// <summary>All recipes of the assemblies, by id.</summary>
    /// <param name="assemblies">Assemblies to search.</param>
    public static IReadOnlyList<IRecipe> Find(params IReadOnlyList<Assembly> assemblies)
        => [.. assemblies.SelectMany(a => a.GetTypes())
            .Where(t => t is { IsAbstract: false, IsClass: true } && t.IsAssignableTo(typeof(IRecipe)) && t.GetConstructor([]) is not null)
            .Select(t => (IRecipe)Activator.CreateInstance(t)!).OrderBy(r => r.Id, StringComparer.Ordinal)];

    /// <summary>Runs a recipe into a new run folder.</summary>
    /// <param name="recipe">The recipe.</param>
    /// <param name="request">What to run.</param>
    /// <param name="observer">Told what happens.</param>
    /// <param name="cancellation">Cancels after the step in progress; the run can be continued.</param>
    /// <returns>The result and its folder.</returns>
    /// <exception cref="BadInputException">The request cannot be run; nothing is left behind.</exception>
    public static (RunResult Result, string Folder) Run(IRecipe recipe, RunRequest request, IRunObserver observer, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(recipe);
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(observer);
        if (request.Seeds.Count == 0) throw new BadInputException("At least one seed is needed.");
        request.Data?.CheckFor(recipe);
        Devices.Parse(request.Device);
        if (request.Data is { } relative) request = request with { Data = relative.WithFullPaths() };
        var started = DateTimeOffset.Now;
        var run = new RunFile(RunFileVersion, recipe.Id, request.Budget, JsonSerializer.SerializeToElement(request.Options, recipe.OptionsType, RunResult.Json), request.Seeds, request.Device, request.Data, request.DataFolder, request.CheckpointSeconds, started);
        string json = JsonSerializer.Serialize(run, RunResult.Json);
        string folder = NewFolder(Path.Combine(request.Root, recipe.Id), started, json);
        AtomicFile.WriteText(Path.Combine(folder, "run.json"), json);
        try
        {
            return (Execute(recipe, request, folder, started, observer, cancellation), folder);
        }
        catch (Exception e) when (e is BadInputException or InvalidDataException or ArgumentException or FileNotFoundException && !Directory.Exists(Path.Combine(folder, "arms")))
        {
            Directory.Delete(folder, recursive: true); // Nothing was computed: leave nothing behind.
            string parent = Path.GetDirectoryName(folder)!;
            if (!Directory.EnumerateFileSystemEntries(parent).Any()) Directory.Delete(parent);
            throw;
        }
    }

    /// <summary>Continues an interrupted run where its newest checkpoint stands.</summary>
    /// <param name="recipes">All recipes.</param>
    /// <param name="folder">The run folder.</param>
    /// <param name="observer">Told what happens.</param>
    /// <param name="cancellation">Cancels after the step in progress; the run can be continued again.</param>
    /// <exception cref="BadInputException">The folder is no unfinished run of this version.</exception>
    public static RunResult Resume(IReadOnlyList<IRecipe> recipes, string folder, IRunObserver observer, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(recipes);
        string file = Path.Combine(folder, "run.json");
        if (!File.Exists(file)) throw new BadInputException($"{folder} is no run folder: it has no run.json.");
        if (File.Exists(Path.Combine(folder, "result.json"))) throw new BadInputException($"Run {folder} is finished; there is nothing to continue.");
        RunFile run = SavedRun.ReadJson<RunFile>(file, RunFileVersion);
        IRecipe recipe = recipes.FirstOrDefault(r => r.Id == run.Id) ?? throw new BadInputException($"Run {folder} is of method '{run.Id}', which this version does not have.");
        RecipeOptions options;
        try
        {
            options = (RecipeOptions)(run.Options.Deserialize(recipe.OptionsType, RunResult.Json) ?? throw new JsonException("no options"));
        }
        catch (Exception e) when (e is JsonException or NotSupportedException)
        {
            throw new BadInputException($"{file} has options of another version: {e.Message}", e);
        }
        var request = new RunRequest { Budget = run.Budget, Options = options, Seeds = run.Seeds, Device = run.Device, Data = run.Data, DataFolder = run.DataFolder, CheckpointSeconds = run.CheckpointSeconds };
        return Execute(recipe, request, folder, run.Started, observer, cancellation);
    }

    private sealed record RunFile(int SchemaVersion, string Id, Budget Budget, JsonElement Options, IReadOnlyList<int> Seeds, string Device, UserData? Data, string? DataFolder, double CheckpointSeconds, DateTimeOffset Started);

    private static RunResult Execute(IRecipe recipe, RunRequest request, string folder, DateTimeOffset started, IRunObserver observer, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        string times = Path.Combine(folder, "seconds.txt");
        double before = File.Exists(times) && double.TryParse(File.ReadAllText(times), CultureInfo.InvariantCulture, out double s) ? s : 0;
        try
        {
            using var scope = NewDisposeScope();
            using var log = new RunLog(folder);
            var context = new RunContext(recipe, request, folder, observer, log, cancellation);
            recipe.Run(request.Options, context);
            RunResult result = context.Result(request, started, before + clock.Elapsed.TotalSeconds);
            AtomicFile.WriteText(Path.Combine(folder, "report.html"), Reporting.HtmlReport.Render(result, folder));
            AtomicFile.WriteText(Path.Combine(folder, "result.json"), JsonSerializer.Serialize(result, RunResult.Json));
            File.Delete(times);
            return result;
        }
        catch (Exception)
        {
            TryWrite(times, (before + clock.Elapsed.TotalSeconds).ToString("R", CultureInfo.InvariantCulture));
            throw;
        }
    }

    private static void TryWrite(string path, string text)
    {
        try
        {
            AtomicFile.WriteText(path, text);
        }
        catch (IOException)
        {
            // The reason for the failure under way may be a full disk; it is the one to report.
        }
    }

    private static string NewFolder(string parent, DateTimeOffset started, string json)
    {
        string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(json + Guid.NewGuid())))[..6];
        string folder = Path.Combine(parent, $"{started.ToString("yyyyMMdd-HHmmss", CultureInfo.InvariantCulture)}-{hash}");
        Directory.CreateDirectory(folder);
        return folder;
    }
}
