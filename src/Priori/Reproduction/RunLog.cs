using System.Text.Json;
using Priori.Reporting;
using Priori.Training;

namespace Priori.Reproduction;

/// <summary>The run's log: <c>log.jsonl</c>, one line an epoch, flushed, and TensorBoard event files beside it.</summary>
internal sealed class RunLog(string folder) : IDisposable
{
    private static readonly JsonSerializerOptions s_json = new(RunResult.Json) { WriteIndented = false };
    private readonly StreamWriter _lines = new(new FileStream(Path.Combine(folder, "log.jsonl"), FileMode.Append, FileAccess.Write, FileShare.Read)) { AutoFlush = true };
    private readonly Dictionary<string, TensorBoardWriter> _events = [];

    public void Epoch(string arm, int seed, int trainer, EpochReport report)
    {
        _lines.WriteLine(JsonSerializer.Serialize(new { Time = DateTimeOffset.Now, Arm = arm, Seed = seed, Trainer = trainer, report.Epoch, report.Step, report.Seconds, report.Values, report.LearningRates }, s_json));
        string run = trainer == 0 ? $"{arm}-{seed}" : $"{arm}-{seed}-{trainer}";
        if (!_events.TryGetValue(run, out TensorBoardWriter? writer))
            _events[run] = writer = new TensorBoardWriter(Path.Combine(folder, "tensorboard", string.Concat(run.Select(c => Path.GetInvalidFileNameChars().Contains(c) ? '-' : c))));
        foreach ((string name, double value) in report.Values) writer.Scalar(name, value, report.Epoch);
    }

    public void Dispose()
    {
        _lines.Dispose();
        foreach (TensorBoardWriter writer in _events.Values) writer.Dispose();
    }
}
