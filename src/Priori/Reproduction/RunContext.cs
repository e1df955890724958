using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Data;
using Priori.Metrics;
using Priori.Runtime;
using Priori.Training;
using ScottPlot;

namespace Priori.Reproduction;

/// <summary>Data that the user brought.</summary>
/// <param name="Path">A file or folder; empty when only <see cref="Parts"/> were given.</param>
/// <param name="Roles">Columns by role: target, user, item, time.</param>
public sealed record UserData(string Path, IReadOnlyDictionary<string, string> Roles)
{
    /// <summary>The target column, if named.</summary>
    [JsonIgnore]
    public string? Target => Roles.GetValueOrDefault("target");

    /// <summary>Further files or folders by name (<c>--data.NAME PATH</c>): those of <see cref="IRecipe.DataParts"/> that were given. A value may be several paths with commas between them (<see cref="Paths"/>).</summary>
    public IReadOnlyDictionary<string, string> Parts { get; init; } = new Dictionary<string, string>();

    /// <summary>Path of a part that the recipe cannot do without.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="BadInputException">It was not given.</exception>
    public string Part(string name) => Parts.TryGetValue(name, out string? path) ? path : throw new BadInputException($"These data need a further file: give --data.{name} PATH.");

    /// <summary>The paths in the value of a part: one that exists as it stands, or several with commas between them.</summary>
    /// <param name="value">The value.</param>
    public static IReadOnlyList<string> Paths(string value) => File.Exists(value) || Directory.Exists(value) ? [value] : value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    internal void CheckFor(IRecipe recipe)
    {
        string known = recipe.DataParts.Count == 0 ? "it takes --data only" : $"it takes {string.Join(", ", recipe.DataParts.Keys.Select(name => $"--data.{name}"))}";
        if (Parts.Keys.FirstOrDefault(name => !recipe.DataParts.ContainsKey(name)) is { } unknown)
            throw new BadInputException($"Method '{recipe.Id}' has no use for --data.{unknown}; {known}.");
        if (Path.Length == 0 && Parts.Count == 0) throw new BadInputException("The data have no path: give a file or a folder.");
        foreach (string path in Parts.Values.SelectMany(Paths).Concat(Path.Length > 0 ? [Path] : []))
            if (!File.Exists(path) && !Directory.Exists(path)) throw new BadInputException($"Data {path} does not exist: give a file or a folder.");
    }

    internal UserData WithFullPaths() => this with { Path = Path.Length == 0 ? "" : System.IO.Path.GetFullPath(Path), Parts = Parts.ToDictionary(p => p.Key, p => string.Join(',', Paths(p.Value).Select(System.IO.Path.GetFullPath))) };
}

/// <summary>Told what a run does: the face of the command line, or of another program.</summary>
public interface IRunObserver : IProgress<TrainingProgress>
{
    /// <summary>An arm starts.</summary>
    /// <param name="arm">The arm.</param>
    /// <param name="seed">The seed.</param>
    void ArmStarted(string arm, int seed);

    /// <summary>An arm is done, now or in the run that is continued.</summary>
    /// <param name="result">Its result.</param>
    void ArmFinished(ArmResult result);

    /// <summary>A table is ready.</summary>
    /// <param name="table">The table.</param>
    void Table(TableInfo table);

    /// <summary>Something to say.</summary>
    /// <param name="text">One line.</param>
    void Message(string text);
}

/// <summary>Says nothing; a base for observers that care for some of it.</summary>
public class SilentObserver : IRunObserver
{
    /// <inheritdoc/>
    public virtual void ArmStarted(string arm, int seed)
    {
    }

    /// <inheritdoc/>
    public virtual void ArmFinished(ArmResult result)
    {
    }

    /// <inheritdoc/>
    public virtual void Report(TrainingProgress value)
    {
    }

    /// <inheritdoc/>
    public virtual void Table(TableInfo table)
    {
    }

    /// <inheritdoc/>
    public virtual void Message(string text)
    {
    }
}

/// <summary>What a recipe's run has: data, seeds, device, and where results go.</summary>
public sealed class RunContext
{
    private readonly IRecipe _recipe;
    private readonly List<ArmResult> _arms = [];
    private readonly List<ClaimResult> _checks = [];
    private readonly List<FigureInfo> _figures = [];
    private readonly List<TableInfo> _tables = [];
    private readonly List<string> _notes = [];
    private readonly List<IReadOnlyList<string>> _comparisons = [];
    private string _data = "";

    internal RunContext(IRecipe recipe, RunRequest request, string folder, IRunObserver observer, RunLog log, CancellationToken cancellation)
    {
        _recipe = recipe;
        Budget = request.Budget;
        Seeds = request.Seeds;
        Device = Devices.Parse(request.Device);
        Data = request.Data;
        DataFolder = request.DataFolder is null ? DataFolder.Default : new DataFolder(request.DataFolder);
        CheckpointEvery = TimeSpan.FromSeconds(request.CheckpointSeconds);
        Folder = folder;
        Observer = observer;
        Log = log;
        Cancellation = cancellation;
    }

    /// <summary>The budget.</summary>
    public Budget Budget { get; }

    /// <summary>The seeds, at least one.</summary>
    public IReadOnlyList<int> Seeds { get; }

    /// <summary>The device.</summary>
    public Device Device { get; }

    /// <summary>The user's data; null for default data.</summary>
    public UserData? Data { get; }

    /// <summary>Where real datasets are looked for.</summary>
    public DataFolder DataFolder { get; }

    /// <summary>Cancelled by Ctrl+C.</summary>
    public CancellationToken Cancellation { get; }

    /// <summary>The run folder.</summary>
    public string Folder { get; }

    internal TimeSpan CheckpointEvery { get; }

    internal IRunObserver Observer { get; }

    internal RunLog Log { get; }

    /// <summary>
    /// Runs one arm with one seed, once: its results are stored, and a run that is continued reads them instead.
    /// Native memory that the body allocates is freed after it.
    /// </summary>
    /// <param name="arm">The method, a variant or a baseline.</param>
    /// <param name="seed">The seed; libtorch's generators are seeded from it.</param>
    /// <param name="body">Builds, trains, measures.</param>
    public ArmResult Arm(string arm, int seed, Action<ArmRun> body)
    {
        ArgumentNullException.ThrowIfNull(body);
        Cancellation.ThrowIfCancellationRequested();
        string file = Path.Combine(Folder, "arms", $"{FileName(arm)}-{seed}.json");
        ArmResult? result = ArmRun.Load(file);
        if (result is null)
        {
            Observer.ArmStarted(arm, seed);
            using var scope = NewDisposeScope();
            Runtime.Seeds.Set(Runtime.Seeds.Derive(seed, 0x41524D));
            var run = new ArmRun(this, arm, seed, file);
            body(run);
            result = run.Finish();
        }
        _arms.Add(result);
        Observer.ArmFinished(result);
        return result;
    }

    /// <summary>Says which data were used.</summary>
    /// <param name="description">In words, with sizes.</param>
    public void UsedData(string description) => _data = _data.Length == 0 ? description : $"{_data}; {description}";

    /// <summary>Records a claim's figure. It is judged in the full and paper budgets on the recipe's own data.</summary>
    /// <param name="claimId">Id of a claim that the recipe declares.</param>
    /// <param name="measured">The figure, averaged over seeds.</param>
    /// <param name="comparison">Its relation to the threshold.</param>
    /// <param name="threshold">The threshold.</param>
    /// <param name="perSeed">The figure of each seed.</param>
    /// <exception cref="ArgumentException">The recipe declares no such claim.</exception>
    public void Check(string claimId, double measured, Comparison comparison, double threshold, IReadOnlyList<double>? perSeed = null)
    {
        Claim claim = _recipe.Claims.FirstOrDefault(c => c.Id == claimId) ?? throw new ArgumentException($"Recipe '{_recipe.Id}' declares no claim '{claimId}'.", nameof(claimId));
        bool holds = comparison == Comparison.AtLeast ? measured >= threshold : measured <= threshold;
        Verdict verdict = Budget == Budget.Smoke || Data is not null ? Verdict.NotJudged : holds ? Verdict.Holds : Verdict.DoesNotHold;
        _checks.RemoveAll(c => c.Id == claimId);
        _checks.Add(new ClaimResult(claimId, claim.Text, measured, comparison, threshold, perSeed ?? [], verdict));
    }

    /// <summary>
    /// Checks a claim that an arm is better than another by a margin: paired by seed, mean difference at least the margin. The difference and its 95 % confidence
    /// interval (Student's t) become a row of the table "paired", which the report shows after the others.
    /// </summary>
    /// <param name="claimId">Id of a claim that the recipe declares; null to show the comparison without judging it.</param>
    /// <param name="label">What is compared, in a few words.</param>
    /// <param name="arm">Results of the arm, one a seed.</param>
    /// <param name="baseline">Results of the other arm, in the same order of seeds.</param>
    /// <param name="metric">A metric of both arms.</param>
    /// <param name="margin">The least difference that is claimed.</param>
    public PairedDifference Compare(string? claimId, string label, IReadOnlyList<ArmResult> arm, IReadOnlyList<ArmResult> baseline, string metric, double margin = 0)
    {
        ArgumentNullException.ThrowIfNull(arm);
        ArgumentNullException.ThrowIfNull(baseline);
        if (!arm.Select(a => a.Seed).SequenceEqual(baseline.Select(b => b.Seed))) throw new ArgumentException("Both arms need results of the same seeds in the same order.", nameof(baseline));
        double[] a = [.. arm.Select(r => r[metric])], b = [.. baseline.Select(r => r[metric])];
        var difference = PairedDifference.Of(a, b);
        if (claimId is not null) Check(claimId, difference.Mean, Comparison.AtLeast, margin, [.. a.Zip(b, (x, y) => x - y)]);
        static string Number(double value) => value.ToString("+0.0000;-0.0000;0.0000", CultureInfo.InvariantCulture);
        _comparisons.Add([label, metric, Number(difference.Mean), difference.Count < 2 ? "" : $"{Number(difference.Low)} .. {Number(difference.High)}", $"{difference.Wins} of {difference.Count}", claimId is null ? "" : Number(margin)]);
        return difference;
    }

    /// <summary>Draws a figure into the run folder and the report.</summary>
    /// <param name="name">Its name: letters, digits, hyphens.</param>
    /// <param name="caption">What it shows.</param>
    /// <param name="plot">The plot.</param>
    /// <param name="width">Width in pixels.</param>
    /// <param name="height">Height in pixels.</param>
    public void Figure(string name, string caption, Plot plot, int width = 900, int height = 560)
    {
        ArgumentNullException.ThrowIfNull(plot);
        Image(name, caption, plot.GetImageBytes(width, height, ImageFormat.Png));
    }

    /// <summary>Puts a PNG image into the run folder and the report.</summary>
    /// <param name="name">Its name: letters, digits, hyphens.</param>
    /// <param name="caption">What it shows.</param>
    /// <param name="png">The file's bytes.</param>
    public void Image(string name, string caption, byte[] png)
    {
        string file = $"figures/{FileName(name)}.png";
        AtomicFile.Write(Path.Combine(Folder, file), stream => stream.Write(png));
        _figures.RemoveAll(f => f.Name == name);
        _figures.Add(new FigureInfo(name, caption, file));
    }

    /// <summary>Puts a table into the report and shows it.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="caption">What it shows.</param>
    /// <param name="header">Column names.</param>
    /// <param name="rows">The cells.</param>
    public void Table(string name, string caption, IReadOnlyList<string> header, IReadOnlyList<IReadOnlyList<string>> rows)
    {
        var table = new TableInfo(name, caption, header, rows);
        _tables.Add(table);
        Observer.Table(table);
    }

    /// <summary>Puts a remark into the report.</summary>
    /// <param name="text">One or two sentences.</param>
    public void Note(string text)
    {
        _notes.Add(text);
        Observer.Message(text);
    }

    /// <summary>Where a further output goes; the folder exists. Write it with <see cref="AtomicFile"/>.</summary>
    /// <param name="fileName">File name.</param>
    public string OutputPath(string fileName)
    {
        string folder = Path.Combine(Folder, "outputs");
        Directory.CreateDirectory(folder);
        return Path.Combine(folder, fileName);
    }

    /// <summary>Keeps a model for <c>priori apply</c>: <c>model/NAME.safetensors</c>, described in <c>model/model.json</c>.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="tensors">Its weights.</param>
    /// <param name="description">A record that says how to build it.</param>
    public void SaveModel(string name, IReadOnlyDictionary<string, Tensor> tensors, object description)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        ArgumentNullException.ThrowIfNull(description);
        string file = FileName(name) + ".safetensors";
        Safetensors.Write(Path.Combine(Folder, "model", file), tensors);
        string index = Path.Combine(Folder, "model", "model.json");
        var models = File.Exists(index) ? JsonSerializer.Deserialize<Dictionary<string, SavedModel>>(File.ReadAllText(index), RunResult.Json)! : [];
        models[name] = new SavedModel(file, JsonSerializer.SerializeToElement(description, DeclaredType(description.GetType()), RunResult.Json));
        AtomicFile.WriteText(index, JsonSerializer.Serialize(models, RunResult.Json));
    }

    internal RunResult Result(RunRequest request, DateTimeOffset started, double seconds)
    {
        if (_comparisons.Count > 0)
            Table("paired", "Differences paired by seed, with their 95 % confidence interval", ["comparison", "metric", "mean difference", "95 % interval", "seeds in favour", "claimed"], _comparisons);
        return new RunResult
        {
            Id = _recipe.Id,
            Title = _recipe.Title,
            Paper = _recipe.Paper,
            Budget = Budget,
            Options = JsonSerializer.SerializeToElement(request.Options, _recipe.OptionsType, RunResult.Json),
            Seeds = Seeds,
            Data = _data,
            DataPath = Data is { Path.Length: > 0 } own ? own.Path : null,
            Roles = Data?.Roles ?? new Dictionary<string, string>(),
            DataParts = Data?.Parts ?? new Dictionary<string, string>(),
            Settings = OptionSet.Differences(_recipe.Defaults(Budget), request.Options),
            Environment = EnvironmentInfo.Of(Device),
            Arms = _arms,
            // On the user's own data a recipe measures the claims that make sense there; the others are left out.
            Claims = [.. _recipe.Claims.Where(claim => Data is null || _checks.Any(c => c.Id == claim.Id)).Select(claim => _checks.FirstOrDefault(c => c.Id == claim.Id)
                ?? new ClaimResult(claim.Id, claim.Text, double.NaN, Comparison.AtLeast, double.NaN, [], Verdict.NotMeasured))],
            Figures = _figures,
            Tables = _tables,
            Notes = _notes,
            Started = started,
            Seconds = seconds,
            PeakMemoryBytes = RunResult.PeakMemory(),
        };
    }

    /// <summary>The type to serialise a record as, so that a polymorphic one says of which kind it is.</summary>
    private static Type DeclaredType(Type type)
    {
        for (Type? t = type.BaseType; t is not null; t = t.BaseType)
            if (t.IsDefined(typeof(JsonPolymorphicAttribute), inherit: false)) return t;
        return type;
    }

    private static string FileName(string name)
    {
        string plain = string.Concat(name.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '-')).Trim('.');
        return plain == name ? plain : $"{plain}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(name)))[..6]}";
    }
}
