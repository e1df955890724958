using System.CommandLine;
using System.Runtime.InteropServices;
using Priori.Cli.Commands;
using Spectre.Console;

namespace Priori.Cli;

/// <summary>The <c>priori</c> command: a thin face over the library and its recipes.</summary>
internal static class Program
{
    public static int Main(string[] args)
    {
        Console.OutputEncoding = System.Text.Encoding.UTF8;
        IAnsiConsole console = AnsiConsole.Console;
        if (Console.IsOutputRedirected) console.Profile.Width = 200;
        return Invoke(args, console, Console.Error);
    }

    internal static int Invoke(IReadOnlyList<string> args, IAnsiConsole console, TextWriter error)
    {
        using var interrupt = new CancellationTokenSource();
        void Cancel(PosixSignalContext context)
        {
            context.Cancel = !interrupt.IsCancellationRequested; // A second Ctrl+C ends at once.
            interrupt.Cancel();
        }
        using var signal = PosixSignalRegistration.Create(PosixSignal.SIGINT, Cancel);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Cancel);
        try
        {
            var root = new RootCommand("Published methods of representation learning and inductive bias: run them, verify their claims, use them on your own data.")
            {
                ListCommand.Create(console), ShowCommand.Create(console), RunCommand.Create(console), ApplyCommand.Create(console), VerifyCommand.Create(console), DataCommand.Create(console),
            };
            ParseResult parsed = root.Parse(args);
            if (parsed.Errors.Count > 0)
            {
                string wrong = parsed.UnmatchedTokens.Count > 0 ? $"'{parsed.UnmatchedTokens[0]}' is not a command or option here." : parsed.Errors[0].Message;
                string usage = parsed.CommandResult.Command == root ? "priori --help" : $"priori {parsed.CommandResult.Command.Name} --help";
                error.WriteLine($"priori: {wrong} ({usage} shows the usage.)");
                return Failures.BadInput;
            }
            return parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, interrupt.Token).GetAwaiter().GetResult();
        }
#pragma warning disable CA1031 // The one place where every failure becomes one sentence and an exit code.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            return Failures.Report(exception, error);
        }
    }
}
