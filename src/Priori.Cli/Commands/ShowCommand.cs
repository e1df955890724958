using System.CommandLine;
using Priori.Reproduction;
using Spectre.Console;

namespace Priori.Cli.Commands;

/// <summary><c>priori show ID</c>: the page of a method, with its options and defaults.</summary>
internal static class ShowCommand
{
    public static Command Create(IAnsiConsole console)
    {
        var id = new Argument<string>("id") { Description = "The method." };
        var budget = CommonOptions.Budget(Budget.Full);
        var json = CommonOptions.Json();
        var command = new Command("show", "The page of a method in the terminal, with its options and defaults.") { id, budget, json };
        command.SetAction(parsed =>
        {
            IRecipe recipe = MethodCatalog.Recipe(parsed.GetRequiredValue(id));
            var options = OptionSet.Describe(recipe.Defaults(parsed.GetValue(budget)));
            if (parsed.GetValue(json))
            {
                CommonOptions.WriteJson(new { recipe.Id, recipe.Area, recipe.Title, recipe.Summary, recipe.Paper, recipe.Claims, recipe.DataParts, Options = options });
                return Failures.Done;
            }
            string? page = MethodCatalog.All.First(m => m.Id == recipe.Id).Page;
            if (page is not null)
            {
                console.WriteLine(page);
            }
            else
            {
                console.WriteLine($"{recipe.Title}\n{recipe.Summary}\n{recipe.Paper.Authors}, {recipe.Paper.Venue} {recipe.Paper.Year}, {recipe.Paper.Url}");
                foreach (Claim claim in recipe.Claims) console.WriteLine($"- {claim.Text}");
            }
            if (recipe.DataParts.Count > 0)
                Tables.Write(console, "Further files of your own data (--data.NAME PATH)", ["name", "what it is"], recipe.DataParts.Select(p => (IReadOnlyList<string>)[p.Key, p.Value]));
            Tables.Write(console, $"Options (--set name=value), {parsed.GetValue(budget).ToString().ToLowerInvariant()} budget", ["name", "default", "kind", "range", "what it is"],
                options.Select(o => (IReadOnlyList<string>)[o.Name, o.Default, o.Kind, o.Range, o.Description]));
            return Failures.Done;
        });
        return command;
    }
}
