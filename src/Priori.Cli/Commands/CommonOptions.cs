using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Recipes;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Cli.Commands;

/// <summary>Options that several commands share.</summary>
internal static class CommonOptions
{
    private static readonly string[] s_roles = ["target", "user", "item", "time"];
    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static Option<bool> Json() => new("--json") { Description = "Print JSON for machines." };

    public static Option<string> Device() => new("--device") { Description = "cpu, cuda or cuda:N.", DefaultValueFactory = _ => "cpu", HelpName = "DEVICE" };

    public static Option<int> Threads() => new("--threads") { Description = "Threads of libtorch; the number of processors when not given.", DefaultValueFactory = _ => Environment.ProcessorCount, HelpName = "N" };

    public static Option<string?> DataFolder() => new("--data-dir") { Description = "Folder of the real datasets; PRIORI_DATA or the user's data folder when not given.", HelpName = "DIR" };

    public static Option<Budget> Budget(Budget fallback) => new("--budget")
    {
        Description = "smoke (seconds), full (minutes; judges the claims) or paper (the paper's own setting, for a GPU).",
        DefaultValueFactory = _ => fallback,
        CustomParser = result => Enum.TryParse(result.Tokens[0].Value, ignoreCase: true, out Budget budget) && Enum.IsDefined(budget)
            ? budget
            : throw new BadInputException($"Budget '{result.Tokens[0].Value}' is unknown: use smoke, full or paper."),
        HelpName = "smoke|full|paper",
    };

    public static IReadOnlyList<Option<string?>> Roles() => [.. s_roles.Select(role => new Option<string?>("--" + role) { Description = $"Column of the data that holds the {role}.", HelpName = "COLUMN" })];

    /// <summary>One option for each further file that some recipe takes.</summary>
    public static IReadOnlyList<Option<string?>> Parts() => [.. RecipeCatalog.All.SelectMany(recipe => recipe.DataParts.Keys.Select(name => (Name: name, recipe.Id))).GroupBy(p => p.Name, p => p.Id)
        .Select(part => new Option<string?>("--data." + part.Key) { Description = $"A further file of your own data ({string.Join(", ", part)}; priori show ID says what it is).", HelpName = "PATH" })];

    public static UserData? Data(ParseResult parsed, string? path, IReadOnlyList<Option<string?>> roles, IReadOnlyList<Option<string?>> parts)
    {
        var files = parts.Select(p => (Name: p.Name["--data.".Length..], Path: parsed.GetValue(p))).Where(p => p.Path is not null).ToDictionary(p => p.Name, p => p.Path!);
        var columns = roles.Select(r => (Role: r.Name.TrimStart('-'), Column: parsed.GetValue(r))).Where(r => r.Column is not null).ToDictionary(r => r.Role, r => r.Column!);
        if (path is null && files.Count == 0) return columns.Count == 0 ? null : throw new BadInputException($"--{columns.Keys.First()} names a column of the user's data: give --data too.");
        return new UserData(path ?? "", columns) { Parts = files };
    }

    public static IReadOnlyList<KeyValuePair<string, string>> Settings(string[]? settings) => [.. (settings ?? []).Select(setting =>
    {
        int equals = setting.IndexOf('=', StringComparison.Ordinal);
        return equals > 0 ? KeyValuePair.Create(setting[..equals], setting[(equals + 1)..]) : throw new BadInputException($"--set takes name=value; it was given '{setting}'.");
    })];

    public static IReadOnlyList<int> Seeds(string text)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        int[] seeds = [.. parts.Select(p => int.TryParse(p, NumberStyles.None, CultureInfo.InvariantCulture, out int seed) ? seed : throw new BadInputException($"--seeds takes whole numbers from 0, separated by commas; it was given '{text}'."))];
        if (seeds.Length == 0) throw new BadInputException("--seeds needs at least one seed.");
        return seeds.Distinct().Count() == seeds.Length ? seeds : throw new BadInputException($"--seeds names a seed twice: '{text}'.");
    }

    public static void WriteJson(object value) => Console.Out.WriteLine(JsonSerializer.Serialize(value, s_json));
}
