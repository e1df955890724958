using System.Diagnostics;
using System.Globalization;
using Priori.Reproduction;
using Priori.Training;
using Spectre.Console;

namespace Priori.Cli;

/// <summary>Shows a run: one live line with time left on a terminal, plain lines elsewhere.</summary>
internal sealed class ConsoleObserver(IAnsiConsole console, bool live) : IRunObserver
{
    private static readonly TimeSpan s_plainEvery = TimeSpan.FromSeconds(10);
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private string _arm = "";
    private TimeSpan _next = s_plainEvery;

    public void ArmStarted(string arm, int seed)
    {
        _arm = $"{arm}, seed {seed}";
        if (live) Line(_arm);
    }

    public void ArmFinished(ArmResult result)
    {
        Clear();
        console.WriteLine($"{result.Arm}, seed {result.Seed}: {string.Join(", ", result.Metrics.Take(4).Select(m => $"{m.Key} {m.Value.ToString("G4", CultureInfo.InvariantCulture)}"))} ({result.Seconds:F1} s)");
    }

    public void Report(TrainingProgress value)
    {
        string text = $"{_arm}: epoch {Math.Min(value.Epoch + 1, value.Epochs)}/{value.Epochs}, step {value.Step}/{value.TotalSteps}, {Time(value.Elapsed)} gone, {Time(value.Remaining)} left";
        if (live)
        {
            Line(text);
        }
        else if (_clock.Elapsed >= _next)
        {
            console.WriteLine(text);
            _next = _clock.Elapsed + s_plainEvery;
        }
    }

    public void Table(TableInfo table)
    {
        Clear();
        Tables.Write(console, table);
    }

    public void Message(string text)
    {
        Clear();
        console.WriteLine(text);
    }

    public void Clear()
    {
        if (live) Console.Error.Write("\r\u001b[K");
    }

    private static void Line(string text)
    {
        int width = Math.Max(20, Console.IsErrorRedirected ? 120 : Console.WindowWidth - 1);
        Console.Error.Write("\r\u001b[K" + (text.Length > width ? text[..width] : text));
    }

    private static string Time(TimeSpan time) => time.TotalHours >= 1 ? $"{(int)time.TotalHours} h {time.Minutes} min" : time.TotalMinutes >= 1 ? $"{(int)time.TotalMinutes} min {time.Seconds} s" : $"{time.TotalSeconds:F0} s";
}
