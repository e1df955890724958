using System.Text.RegularExpressions;
using Priori.Recipes;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Cli;

/// <summary>One of the methods: built, or planned.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Area">Its area.</param>
/// <param name="Title">The paper's title.</param>
/// <param name="Recipe">Its recipe; null when planned.</param>
/// <param name="LastVerified">Date of the measured table in its page.</param>
internal sealed record Method(string Id, string Area, string Title, IRecipe? Recipe, string? LastVerified)
{
    public string Status => Recipe is null ? "planned" : "built";

    /// <summary>Text of its page.</summary>
    public string? Page => MethodCatalog.Resource($"docs/{Id}.md");
}

/// <summary>The plan of sixty methods joined with the recipes that exist: a recipe needs no entry anywhere.</summary>
internal static partial class MethodCatalog
{
    public static IReadOnlyList<Method> All { get; } = Load();

    public static IRecipe Recipe(string id)
    {
        Method? method = All.FirstOrDefault(m => m.Id == id);
        if (method?.Recipe is { } recipe) return recipe;
        throw new BadInputException(method is not null
            ? $"Method '{id}' is planned, not built yet; the built ones are: {Built()}."
            : $"Method '{id}' is unknown; the built ones are: {Built()} (priori list shows all).");
    }

    internal static string? Resource(string name)
    {
        using Stream? stream = typeof(MethodCatalog).Assembly.GetManifestResourceStream(name);
        if (stream is null) return null;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    private static string Built() => string.Join(", ", RecipeCatalog.All.Select(r => r.Id));

    private static List<Method> Load()
    {
        var recipes = RecipeCatalog.All.ToDictionary(r => r.Id);
        var planned = Resource("methods.tsv")!.Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1).Select(line => line.Split('\t'))
            .Select(c => (Id: c[0], Area: c[1], Title: c[2])).ToList();
        planned.AddRange(recipes.Values.Where(r => planned.All(p => p.Id != r.Id)).Select(r => (r.Id, r.Area, r.Title)));
        return [.. planned.OrderBy(p => p.Area, StringComparer.Ordinal).ThenBy(p => p.Id, StringComparer.Ordinal).Select(p =>
        {
            IRecipe? recipe = recipes.GetValueOrDefault(p.Id);
            string? verified = recipe is null ? null : LastVerifiedLine().Match(Resource($"docs/{p.Id}.md") ?? "") is { Success: true } match ? match.Groups[1].Value : null;
            return new Method(p.Id, p.Area, p.Title, recipe, verified);
        })];
    }

    [GeneratedRegex(@"Last verified:\W*(\d{4}-\d{2}-\d{2})")]
    private static partial Regex LastVerifiedLine();
}
