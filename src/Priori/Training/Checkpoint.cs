using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Priori.Data;
using Priori.Runtime;

namespace Priori.Training;

/// <summary>Where a training stood when its checkpoint was written.</summary>
internal sealed record TrainingPosition
{
    public int Epoch { get; init; }
    public int Pass { get; init; }
    public long BatchIndex { get; init; }
    public long Step { get; init; }
    public double Seconds { get; init; }
    public Dictionary<string, double[]> Averages { get; init; } = [];
    public Dictionary<string, List<double>> Series { get; init; } = [];
    public int BestEpoch { get; init; }
    public double BestValue { get; init; }
    public int EpochsWithoutGain { get; init; }
    public bool Stopped { get; init; }
}

/// <summary>
/// Checkpoints in a folder: safetensors files named <c>step-N.HASH.safetensors</c>, where HASH is the start of the file's SHA-256.
/// A file is written under a temporary name and renamed; one that does not match its hash is refused and the one before it is used. The newest two are kept.
/// </summary>
internal static class Checkpoint
{
    private const string FormatVersion = "1";

    public static string Save(string folder, Learner learner, TrainingPosition position, IReadOnlyDictionary<string, Tensor>? best)
    {
        Directory.CreateDirectory(folder);
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        Dictionary<string, Tensor> tensors = [];
        foreach ((string name, Tensor tensor) in State(learner)) tensors["module/" + name] = tensor;
        foreach ((string name, Optimization optimization) in learner.Optimizers)
        {
            using var blob = new MemoryStream();
            using (var writer = new BinaryWriter(blob))
                ((TorchSharp.Modules.OptimizerHelper)optimization.Optimizer).save_state_dict(writer);
            tensors["optimizer/" + name] = tensor(blob.ToArray());
        }
        foreach ((string name, Tensor tensor) in best ?? new Dictionary<string, Tensor>()) tensors["best/" + name] = tensor;
        string temporary = Path.Combine(folder, $"{Guid.NewGuid():N}.tmp");
        try
        {
            Safetensors.Write(temporary, tensors, new Dictionary<string, string>
            {
                ["format"] = "priori-checkpoint",
                ["version"] = FormatVersion,
                ["position"] = JsonSerializer.Serialize(position, s_json),
            });
            string path = Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"step-{position.Step:D9}-{position.Epoch:D6}.{Hash(temporary)}.safetensors"));
            File.Move(temporary, path, overwrite: true);
            foreach (string old in Newest(folder).Skip(2)) File.Delete(old);
            return path;
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>Restores the newest undamaged checkpoint of the folder; null when there is none. Damaged ones are named through <paramref name="warn"/>.</summary>
    /// <exception cref="BadInputException">The checkpoint is of another architecture, optimizer or version.</exception>
    public static (TrainingPosition Position, Dictionary<string, Tensor>? Best)? Restore(string folder, Learner learner, Device device, Action<string> warn)
    {
        if (!Directory.Exists(folder)) return null;
        foreach (string stray in Directory.EnumerateFiles(folder, "*.tmp")) File.Delete(stray);
        foreach (string path in Newest(folder))
        {
            if (Path.GetFileName(path).Split('.') is not [_, string hash, _] || Hash(path) != hash)
            {
                warn($"Checkpoint {path} is damaged (its checksum does not match); using the one before it.");
                continue;
            }
            return Load(path, learner, device);
        }
        return null;
    }

    /// <summary>All tensors of a learner's modules by name: <c>module.key</c>.</summary>
    public static Dictionary<string, Tensor> State(Learner learner)
        => learner.Modules.SelectMany(m => m.Value.state_dict().Select(t => (Name: m.Key + "/" + t.Key, t.Value))).ToDictionary(t => t.Name, t => t.Value);

    public static void Copy(IReadOnlyDictionary<string, Tensor> from, Learner learner, string source)
    {
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        Dictionary<string, Tensor> to = State(learner);
        foreach ((string name, Tensor target) in to)
        {
            if (!from.TryGetValue(name, out Tensor? saved))
                throw new BadInputException($"{source} is of another architecture: it has no tensor '{name}'.");
            if (!saved.shape.SequenceEqual(target.shape) || saved.dtype != target.dtype)
                throw new BadInputException($"{source} is of another architecture: '{name}' is {saved.dtype} [{string.Join(",", saved.shape)}], the model needs {target.dtype} [{string.Join(",", target.shape)}].");
            target.copy_(saved);
        }
        if (from.Keys.FirstOrDefault(name => !to.ContainsKey(name)) is { } extra)
            throw new BadInputException($"{source} is of another architecture: the model has no tensor '{extra}'.");
    }

    private static readonly JsonSerializerOptions s_json = new() { NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals };

    private static (TrainingPosition, Dictionary<string, Tensor>?) Load(string path, Learner learner, Device device)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        if (!file.Metadata.TryGetValue("version", out string? version) || version != FormatVersion || !file.Metadata.TryGetValue("position", out string? json))
            throw new BadInputException($"{path} is no checkpoint of this version (format {FormatVersion}).");
        TrainingPosition position = JsonSerializer.Deserialize<TrainingPosition>(json, s_json) ?? throw new BadInputException($"{path} has no position.");
        Dictionary<string, Tensor> best;
        Dictionary<string, byte[]> optimizers = [];
        using (NewDisposeScope())
        {
            Copy(file.Names.Where(n => n.StartsWith("module/", StringComparison.Ordinal)).ToDictionary(n => n["module/".Length..], file.Get), learner, path);
            best = file.Names.Where(n => n.StartsWith("best/", StringComparison.Ordinal)).ToDictionary(n => n["best/".Length..], n => file.Get(n).to(device).clone().DetachFromDisposeScope());
            foreach (string name in learner.Optimizers.Keys)
            {
                if (!file.Names.Contains("optimizer/" + name)) throw new BadInputException($"{path} is of another learner: it has no optimizer '{name}'.");
                optimizers[name] = file.Get("optimizer/" + name).data<byte>().ToArray();
            }
        }
        // Outside the scope: the tensors read here become the optimizer's own.
        foreach ((string name, Optimization optimization) in learner.Optimizers)
        {
            using var reader = new BinaryReader(new MemoryStream(optimizers[name]));
            ((TorchSharp.Modules.OptimizerHelper)optimization.Optimizer).load_state_dict(reader);
        }
        return (position, best.Count == 0 ? null : best);
    }

    private static IEnumerable<string> Newest(string folder)
        => Directory.GetFiles(folder, "step-*.safetensors").OrderByDescending(Path.GetFileName, StringComparer.Ordinal);

    private static string Hash(string path)
    {
        using FileStream stream = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(stream))[..32];
    }
}
