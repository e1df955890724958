using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Data;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Reproduction;

/// <summary>What one arm (the method, a variant or a baseline) gave with one seed. Figures are drawn from these alone, so a resumed run draws the same.</summary>
public sealed record ArmResult
{
    /// <summary>The arm.</summary>
    public required string Arm { get; init; }

    /// <summary>The seed.</summary>
    public required int Seed { get; init; }

    /// <summary>Its figures.</summary>
    public required IReadOnlyDictionary<string, double> Metrics { get; init; }

    /// <summary>Its curves.</summary>
    public required IReadOnlyDictionary<string, SeriesData> Curves { get; init; }

    /// <summary>Wall-clock seconds.</summary>
    public required double Seconds { get; init; }

    /// <summary>A figure.</summary>
    /// <param name="metric">Its name.</param>
    public double this[string metric] => Metrics.TryGetValue(metric, out double value) ? value : throw new KeyNotFoundException($"Arm '{Arm}' has no metric '{metric}'; it has: {string.Join(", ", Metrics.Keys)}.");

    /// <summary>A curve.</summary>
    /// <param name="name">Its name.</param>
    public (double[] X, double[] Y) Series(string name) => Curves.TryGetValue(name, out SeriesData? c) ? ([.. c.X], [.. c.Y]) : throw new KeyNotFoundException($"Arm '{Arm}' has no series '{name}'; it has: {string.Join(", ", Curves.Keys)}.");

    /// <summary>A small array kept for figures, on the CPU.</summary>
    /// <param name="name">Its name.</param>
    public Tensor Tensor(string name)
    {
        using SafetensorsFile file = SafetensorsFile.Open(TensorFile ?? throw new KeyNotFoundException($"Arm '{Arm}' kept no arrays."));
        return file.Get(name).clone();
    }

    [JsonIgnore]
    internal string? TensorFile { get; init; }
}

/// <summary>One arm with one seed, while it runs: training, measuring, keeping results.</summary>
public sealed class ArmRun
{
    private readonly RunContext _context;
    private readonly string _file;
    private readonly Dictionary<string, double> _metrics = [];
    private readonly Dictionary<string, SeriesData> _curves = [];
    private readonly Dictionary<string, Tensor> _tensors = [];
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private int _trainers;

    internal ArmRun(RunContext context, string arm, int seed, string file)
    {
        _context = context;
        _file = file;
        Arm = arm;
        Seed = seed;
    }

    /// <summary>The arm's name.</summary>
    public string Arm { get; }

    /// <summary>The seed. libtorch's generators are seeded from it alone, so arms of one seed start from the same weights.</summary>
    public int Seed { get; }

    /// <summary>The device.</summary>
    public Device Device => _context.Device;

    /// <summary>Cancelled by Ctrl+C.</summary>
    public CancellationToken Cancellation => _context.Cancellation;

    private string CheckpointFolder => Path.Combine(_context.Folder, "checkpoints", Path.GetFileNameWithoutExtension(_file));

    /// <summary>A trainer with this arm's seed, device, checkpoints, progress and run log.</summary>
    /// <param name="options">Everything else.</param>
    public Trainer Trainer(TrainerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        int number = _trainers++;
        return new Trainer(options with
        {
            Seed = Seeds.Derive(Seed, number),
            Device = Device,
            CheckpointFolder = Path.Combine(CheckpointFolder, $"{number}"),
            CheckpointEvery = _context.CheckpointEvery,
            Progress = _context.Observer,
            Warn = _context.Observer.Message,
            OnEpoch = report =>
            {
                _context.Log.Epoch(Arm, Seed, number, report);
                options.OnEpoch?.Invoke(report);
            },
        });
    }

    /// <summary>Keeps a figure.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="value">Its value.</param>
    public void Metric(string name, double value) => _metrics[name] = value;

    /// <summary>Keeps a curve.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="x">Abscissae.</param>
    /// <param name="y">Ordinates, as many.</param>
    public void Series(string name, IReadOnlyList<double> x, IReadOnlyList<double> y)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(y);
        if (x.Count != y.Count) throw new ArgumentException($"Series '{name}' has {x.Count} abscissae and {y.Count} ordinates.");
        _curves[name] = new SeriesData([.. x], [.. y]);
    }

    /// <summary>Keeps a small array for figures.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="value">The array; it is copied.</param>
    public void Tensor(string name, Tensor value)
    {
        ArgumentNullException.ThrowIfNull(value);
        _tensors[name] = value.detach().cpu().clone().DetachFromDisposeScope();
    }

    /// <summary>Keeps the series of a training, over epochs from 1.</summary>
    /// <param name="history">The training's history.</param>
    public void Include(TrainingHistory history)
    {
        ArgumentNullException.ThrowIfNull(history);
        foreach ((string name, double[] values) in history.Series)
            Series(name, [.. Enumerable.Range(1, values.Length).Select(e => (double)e)], values);
    }

    /// <summary>Keeps a model of the run for <c>priori apply</c>; see <see cref="RunContext.SaveModel"/>.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="tensors">Its weights.</param>
    /// <param name="description">A record that says how to build it.</param>
    public void SaveModel(string name, IReadOnlyDictionary<string, Tensor> tensors, object description) => _context.SaveModel(name, tensors, description);

    internal ArmResult Finish()
    {
        string tensorFile = Path.ChangeExtension(_file, ".safetensors");
        if (_tensors.Count > 0)
        {
            Safetensors.Write(tensorFile, _tensors);
            foreach (Tensor tensor in _tensors.Values) tensor.Dispose();
        }
        var result = new ArmResult { Arm = Arm, Seed = Seed, Metrics = _metrics, Curves = _curves, Seconds = _clock.Elapsed.TotalSeconds, TensorFile = tensorFile };
        AtomicFile.WriteText(_file, JsonSerializer.Serialize(result, RunResult.Json));
        if (Directory.Exists(CheckpointFolder)) Directory.Delete(CheckpointFolder, recursive: true);
        return result;
    }

    internal static ArmResult? Load(string file)
        => File.Exists(file) ? JsonSerializer.Deserialize<ArmResult>(File.ReadAllText(file), RunResult.Json)! with { TensorFile = Path.ChangeExtension(file, ".safetensors") } : null;
}
