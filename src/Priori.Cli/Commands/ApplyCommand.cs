using System.CommandLine;
using Priori.Reproduction;
using Priori.Runtime;
using Spectre.Console;

namespace Priori.Cli.Commands;

/// <summary><c>priori apply RUN --data PATH</c>: uses the model of a run on new data.</summary>
internal static class ApplyCommand
{
    public static Command Create(IAnsiConsole console)
    {
        var run = new Argument<string>("run") { Description = "A run folder." };
        var data = new Option<string>("--data") { Description = "The new data.", Required = true, HelpName = "PATH" };
        var roles = CommonOptions.Roles();
        var parts = CommonOptions.Parts();
        var output = new Option<string?>("--out") { Description = "Where the output goes; RUN/applied/TIME when not given.", HelpName = "FILE" };
        var device = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var command = new Command("apply", "Uses the model of a run on new data: predictions, embeddings, clusters, a merged checkpoint, ...") { run, data, output, device, threads };
        foreach (var option in roles.Concat(parts)) command.Add(option);
        command.SetAction((parsed, cancellation) =>
        {
            RunCommand.SetThreads(parsed.GetValue(threads));
            SavedRun saved = SavedRun.Open(parsed.GetRequiredValue(run));
            IRecipe recipe = MethodCatalog.Recipe(saved.Result.Id);
            UserData user = CommonOptions.Data(parsed, parsed.GetRequiredValue(data), roles, parts)!;
            string where = parsed.GetValue(output) ?? Path.Combine(saved.Folder, "applied", DateTime.Now.ToString("yyyyMMdd-HHmmss", System.Globalization.CultureInfo.InvariantCulture));
            using var scope = NewDisposeScope();
            recipe.Apply(saved, ApplyContext.For(recipe, user, Path.GetFullPath(where), Devices.Parse(parsed.GetValue(device)!), console.WriteLine, cancellation));
            return Task.FromResult(Failures.Done);
        });
        return command;
    }
}
