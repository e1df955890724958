using System.Runtime.InteropServices;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Cli;

/// <summary>Exit codes, and what an exception means to a user: one sentence and a code.</summary>
internal static class Failures
{
    public const int Done = 0, ClaimDoesNotHold = 1, BadInput = 2, Machine = 3, Interrupted = 130;

    public static int Report(Exception exception, TextWriter error)
    {
        if (exception is AggregateException { InnerExceptions: [Exception single] }) return Report(single, error);
        (int code, string message) = exception switch
        {
            OperationCanceledException => (Interrupted, "Interrupted. A run that was under way can be continued with priori run --resume RUN."),
            BadInputException or InvalidDataException or ArgumentException or NonFiniteLossException => (BadInput, exception.Message),
            FileNotFoundException or DirectoryNotFoundException or UnauthorizedAccessException => (BadInput, exception.Message),
            HttpRequestException => (Machine, $"The network failed: {exception.Message}"),
            OutOfMemoryException => (Machine, "Out of memory: use a smaller batch size or fewer rows."),
            ExternalException when exception.Message.Contains("allocate", StringComparison.OrdinalIgnoreCase) || exception.Message.Contains("out of memory", StringComparison.OrdinalIgnoreCase)
                => (Machine, "Out of memory: use a smaller batch size or fewer rows."),
            IOException => (Machine, exception.Message),
            _ => (Machine, $"Unexpected failure ({exception.GetType().Name}): {exception.Message}"),
        };
        error.WriteLine("priori: " + OneLine(message));
        if (Environment.GetEnvironmentVariable("PRIORI_DEBUG") == "1") error.WriteLine(exception);
        return code;
    }

    private static string OneLine(string message) => string.Join(' ', message.Split(['\r', '\n'], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Take(3));
}
