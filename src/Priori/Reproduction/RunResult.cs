using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Priori.Reproduction;

/// <summary>How a measured figure stands to its threshold.</summary>
public enum Comparison
{
    /// <summary>The claim holds when the figure is at least the threshold.</summary>
    AtLeast,

    /// <summary>The claim holds when the figure is at most the threshold.</summary>
    AtMost,
}

/// <summary>What became of a claim.</summary>
public enum Verdict
{
    /// <summary>It holds.</summary>
    Holds,

    /// <summary>It does not hold.</summary>
    DoesNotHold,

    /// <summary>It was measured but not judged: the budget is smoke, or the data are the user's own.</summary>
    NotJudged,

    /// <summary>The run measured nothing for it.</summary>
    NotMeasured,
}

/// <summary>A claim as a run found it.</summary>
/// <param name="Id">The claim's id.</param>
/// <param name="Text">The inequality in words.</param>
/// <param name="Measured">The figure, averaged over seeds.</param>
/// <param name="Comparison">Its relation to the threshold.</param>
/// <param name="Threshold">The threshold.</param>
/// <param name="PerSeed">The figure of each seed, where there is one.</param>
/// <param name="Verdict">The verdict.</param>
public sealed record ClaimResult(string Id, string Text, double Measured, Comparison Comparison, double Threshold, IReadOnlyList<double> PerSeed, Verdict Verdict);

/// <summary>A figure of a run.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Caption">What it shows.</param>
/// <param name="File">Its file, relative to the run folder.</param>
public sealed record FigureInfo(string Name, string Caption, string File);

/// <summary>A table of a run.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Caption">What it shows.</param>
/// <param name="Header">Column names.</param>
/// <param name="Rows">The cells.</param>
public sealed record TableInfo(string Name, string Caption, IReadOnlyList<string> Header, IReadOnlyList<IReadOnlyList<string>> Rows);

/// <summary>A curve: y over x.</summary>
/// <param name="X">Abscissae.</param>
/// <param name="Y">Ordinates, as many.</param>
public sealed record SeriesData(IReadOnlyList<double> X, IReadOnlyList<double> Y);

/// <summary>Where a run ran.</summary>
/// <param name="System">Operating system.</param>
/// <param name="Processor">Processor model.</param>
/// <param name="Cores">Logical processors.</param>
/// <param name="Device">Device of the run.</param>
/// <param name="Threads">Threads of libtorch.</param>
/// <param name="DotNet">.NET version.</param>
/// <param name="Torch">TorchSharp version.</param>
/// <param name="Priori">Version of this library.</param>
public sealed record EnvironmentInfo(string System, string Processor, int Cores, string Device, int Threads, string DotNet, string Torch, string Priori)
{
    internal static EnvironmentInfo Of(Device device)
    {
        string processor = RuntimeInformation.ProcessArchitecture.ToString();
        if (OperatingSystem.IsLinux() && File.Exists("/proc/cpuinfo"))
            processor = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[^1].Trim() ?? processor;
        static string Version(Type type) => type.Assembly.GetName().Version!.ToString(3);
        return new EnvironmentInfo(RuntimeInformation.OSDescription, processor, Environment.ProcessorCount, device.ToString(), get_num_threads(), Environment.Version.ToString(), Version(typeof(torch)), Version(typeof(EnvironmentInfo)));
    }
}

/// <summary>Everything a run found: the content of <c>result.json</c>.</summary>
public sealed record RunResult
{
    /// <summary>Version of this layout.</summary>
    public const int CurrentSchemaVersion = 1;

    /// <summary>Layout version of the file.</summary>
    public int SchemaVersion { get; init; } = CurrentSchemaVersion;

    /// <summary>The method's id.</summary>
    public required string Id { get; init; }

    /// <summary>The method's name.</summary>
    public required string Title { get; init; }

    /// <summary>The paper.</summary>
    public required Paper Paper { get; init; }

    /// <summary>The budget.</summary>
    public required Budget Budget { get; init; }

    /// <summary>All options, by property name.</summary>
    public required JsonElement Options { get; init; }

    /// <summary>The seeds.</summary>
    public required IReadOnlyList<int> Seeds { get; init; }

    /// <summary>Which data were used, in words.</summary>
    public required string Data { get; init; }

    /// <summary>Path of the user's own data; null for default data.</summary>
    public string? DataPath { get; init; }

    /// <summary>Columns of the user's data by role (target, user, item, time).</summary>
    public IReadOnlyDictionary<string, string> Roles { get; init; } = new Dictionary<string, string>();

    /// <summary>Further files of the user's own data, by name.</summary>
    public IReadOnlyDictionary<string, string> DataParts { get; init; } = new Dictionary<string, string>();

    /// <summary>The options that are not the budget's defaults, as name=value.</summary>
    public IReadOnlyList<string> Settings { get; init; } = [];

    /// <summary>Where it ran.</summary>
    public required EnvironmentInfo Environment { get; init; }

    /// <summary>Results an arm and seed.</summary>
    public required IReadOnlyList<ArmResult> Arms { get; init; }

    /// <summary>The claims.</summary>
    public required IReadOnlyList<ClaimResult> Claims { get; init; }

    /// <summary>The figures.</summary>
    public required IReadOnlyList<FigureInfo> Figures { get; init; }

    /// <summary>The tables.</summary>
    public required IReadOnlyList<TableInfo> Tables { get; init; }

    /// <summary>Remarks of the recipe.</summary>
    public required IReadOnlyList<string> Notes { get; init; }

    /// <summary>When it started.</summary>
    public required DateTimeOffset Started { get; init; }

    /// <summary>Wall-clock seconds, over all processes that took part.</summary>
    public required double Seconds { get; init; }

    /// <summary>Largest resident memory of the process, in bytes.</summary>
    public required long PeakMemoryBytes { get; init; }

    /// <summary>How the project's JSON files are written and read.</summary>
    internal static JsonSerializerOptions Json { get; } = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    internal static long PeakMemory()
    {
        using var process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }

    internal static string Number(double value) => value.ToString("G5", CultureInfo.InvariantCulture);
}
