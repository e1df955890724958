using System.CommandLine;
using Priori.Recipes;
using Priori.Reproduction;
using Priori.Runtime;
using Spectre.Console;

namespace Priori.Cli.Commands;

/// <summary><c>priori run ID</c>: trains and reports.</summary>
internal static class RunCommand
{
    public static Command Create(IAnsiConsole console)
    {
        var id = new Argument<string?>("id") { Description = "The method.", Arity = ArgumentArity.ZeroOrOne };
        var data = new Option<string?>("--data") { Description = "Your own data: a file or a folder. Without it the recipe's default data are used.", HelpName = "PATH" };
        var roles = CommonOptions.Roles();
        var parts = CommonOptions.Parts();
        var settings = new Option<string[]>("--set") { Description = "Sets an option of the recipe (priori show ID lists them).", HelpName = "name=value" };
        var seeds = new Option<string?>("--seeds") { Description = "Seeds, separated by commas.", HelpName = "0,1,2" };
        var budget = CommonOptions.Budget(Budget.Full);
        var device = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var folder = CommonOptions.DataFolder();
        var root = new Option<string>("--out") { Description = "Folder under which the run folder is made.", DefaultValueFactory = _ => "runs", HelpName = "DIR" };
        var resume = new Option<string?>("--resume") { Description = "Continues the interrupted run in this folder.", HelpName = "RUN" };
        var checkpoints = new Option<double>("--checkpoint-every") { Description = "Seconds between checkpoints.", DefaultValueFactory = _ => 20, HelpName = "SECONDS" };
        var json = CommonOptions.Json();
        var command = new Command("run", "Trains a method and its baselines, measures, draws and reports.") { id, data, settings, seeds, budget, device, threads, folder, root, resume, checkpoints, json };
        foreach (var option in roles.Concat(parts)) command.Add(option);
        command.SetAction((parsed, cancellation) =>
        {
            SetThreads(parsed.GetValue(threads));
            bool silent = parsed.GetValue(json);
            IRunObserver observer = Observer(console, silent);
            (RunResult result, string where) = parsed.GetValue(resume) is { } interrupted
                ? (RecipeRunner.Resume(RecipeCatalog.All, interrupted, observer, cancellation), interrupted)
                : Start(parsed, observer, cancellation);
            if (silent)
            {
                CommonOptions.WriteJson(new { Folder = where, Result = result });
            }
            else
            {
                Tables.WriteClaims(console, result);
                console.WriteLine($"Report: {Path.Combine(where, "report.html")}");
                console.WriteLine($"Use its model on new data: priori apply {where} --data PATH");
            }
            return Task.FromResult(Failures.Done);

            (RunResult, string) Start(ParseResult parsed, IRunObserver observer, CancellationToken cancellation)
            {
                IRecipe recipe = MethodCatalog.Recipe(parsed.GetValue(id) ?? throw new BadInputException("Name a method (priori list shows them), or give --resume RUN."));
                Budget wanted = parsed.GetValue(budget);
                return RecipeRunner.Run(recipe, new RunRequest
                {
                    Budget = wanted,
                    Options = OptionSet.With(recipe.Defaults(wanted), CommonOptions.Settings(parsed.GetValue(settings))),
                    Seeds = parsed.GetValue(seeds) is { } list ? CommonOptions.Seeds(list) : recipe.Seeds(wanted),
                    Device = parsed.GetValue(device)!,
                    Data = CommonOptions.Data(parsed, parsed.GetValue(data), roles, parts),
                    DataFolder = parsed.GetValue(folder),
                    CheckpointSeconds = parsed.GetValue(checkpoints) is >= 0 and < 1e6 and var every ? every : throw new BadInputException("--checkpoint-every takes seconds, at least 0."),
                    Root = parsed.GetValue(root)!,
                }, observer, cancellation);
            }
        });
        return command;
    }

    public static IRunObserver Observer(IAnsiConsole console, bool silent)
        => silent ? new SilentObserver() : new ConsoleObserver(console, live: !Console.IsErrorRedirected && !Console.IsOutputRedirected);

    public static void SetThreads(int count)
        => Devices.SetThreads(count >= 1 ? count : throw new BadInputException($"--threads must be at least 1; it was {count}."));
}
