using System.CommandLine;
using Priori.Recipes;
using Priori.Reproduction;
using Priori.Runtime;
using Spectre.Console;

namespace Priori.Cli.Commands;

/// <summary><c>priori verify ID...|--all</c>: runs recipes and prints the claims.</summary>
internal static class VerifyCommand
{
    public static Command Create(IAnsiConsole console)
    {
        var ids = new Argument<string[]>("ids") { Description = "The methods.", Arity = ArgumentArity.ZeroOrMore };
        var all = new Option<bool>("--all") { Description = "All built methods." };
        var budget = CommonOptions.Budget(Budget.Full);
        var device = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var folder = CommonOptions.DataFolder();
        var root = new Option<string>("--out") { Description = "Folder under which the run folders are made.", DefaultValueFactory = _ => "runs", HelpName = "DIR" };
        var json = CommonOptions.Json();
        var command = new Command("verify", "Runs recipes and prints their claims: measured, threshold, verdict. Exit code 1 when one does not hold.") { ids, all, budget, device, threads, folder, root, json };
        command.SetAction((parsed, cancellation) =>
        {
            RunCommand.SetThreads(parsed.GetValue(threads));
            string[] named = parsed.GetValue(ids) ?? [];
            if (named.Length == 0 != parsed.GetValue(all)) throw new BadInputException("Name the methods to verify, or give --all.");
            IReadOnlyList<IRecipe> recipes = named.Length == 0 ? RecipeCatalog.All : [.. named.Select(MethodCatalog.Recipe)];
            bool silent = parsed.GetValue(json);
            Budget wanted = parsed.GetValue(budget);
            List<RunResult> results = [];
            foreach (IRecipe recipe in recipes)
            {
                (RunResult result, _) = RecipeRunner.Run(recipe, new RunRequest
                {
                    Budget = wanted,
                    Options = OptionSet.With(recipe.Defaults(wanted), []),
                    Seeds = recipe.Seeds(wanted),
                    Device = parsed.GetValue(device)!,
                    DataFolder = parsed.GetValue(folder),
                    Root = parsed.GetValue(root)!,
                }, RunCommand.Observer(console, silent), cancellation);
                results.Add(result);
                if (!silent) Tables.WriteClaims(console, result);
            }
            if (silent) CommonOptions.WriteJson(results.Select(r => new { r.Id, r.Budget, r.Data, r.Seeds, r.Seconds, r.Claims }));
            bool failed = results.Any(r => r.Claims.Any(c => c.Verdict is Verdict.DoesNotHold or Verdict.NotMeasured));
            return Task.FromResult(failed && wanted != Budget.Smoke ? Failures.ClaimDoesNotHold : Failures.Done);
        });
        return command;
    }
}
