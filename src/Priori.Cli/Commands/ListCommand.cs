using System.CommandLine;
using System.Text.Json;
using Spectre.Console;

namespace Priori.Cli.Commands;

/// <summary><c>priori list</c>: the methods.</summary>
internal static class ListCommand
{
    public static Command Create(IAnsiConsole console)
    {
        var area = new Option<string?>("--area") { Description = "Only the methods of this area.", HelpName = "AREA" };
        var json = CommonOptions.Json();
        var command = new Command("list", "The methods: id, area, status, last verified, claim.") { area, json };
        command.SetAction(parsed =>
        {
            string? wanted = parsed.GetValue(area);
            if (wanted is not null && MethodCatalog.All.All(m => !m.Area.Equals(wanted, StringComparison.OrdinalIgnoreCase)))
                throw new Runtime.BadInputException($"Area '{wanted}' is unknown; the areas are: {string.Join(", ", MethodCatalog.All.Select(m => m.Area).Distinct())}.");
            var methods = MethodCatalog.All.Where(m => wanted is null || m.Area.Equals(wanted, StringComparison.OrdinalIgnoreCase)).ToList();
            if (parsed.GetValue(json))
            {
                CommonOptions.WriteJson(methods.Select(m => new { m.Id, m.Area, m.Title, m.Status, m.LastVerified, Claims = m.Recipe?.Claims.Select(c => c.Text) }));
            }
            else
            {
                Tables.Write(console, "", ["id", "area", "title", "last verified", "claim"],
                    methods.Select(m => (IReadOnlyList<string>)[m.Id, m.Area, m.Title, m.Recipe is null ? "planned" : m.LastVerified ?? "never", m.Recipe?.Claims.Count > 0 ? m.Recipe.Claims[0].Text : ""]));
            }
            return Failures.Done;
        });
        return command;
    }
}
