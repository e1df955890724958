using System.Text.Json;
using Priori.Training;

namespace Priori.Reproduction;

/// <summary>The run's log: <c>log.jsonl</c>, one line an epoch, flushed.</summary>
internal sealed class RunLog(string folder) : IDisposable
{
    private static readonly JsonSerializerOptions s_json = new(RunResult.Json) { WriteIndented = false };
    private readonly StreamWriter _lines = new(new FileStream(Path.Combine(folder, "log.jsonl"), FileMode.Append, FileAccess.Write, FileShare.Read)) { AutoFlush = true };

    public void Epoch(string arm, int seed, int trainer, EpochReport report)
    {
        _lines.WriteLine(JsonSerializer.Serialize(new { Time = DateTimeOffset.Now, Arm = arm, Seed = seed, Trainer = trainer, report.Epoch, report.Step, report.Seconds, report.Values, report.LearningRates }, s_json));
    }

    public void Dispose() => _lines.Dispose();
}
