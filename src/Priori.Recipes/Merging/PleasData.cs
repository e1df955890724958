using System.Globalization;
using System.Text;
using Priori.Data;
using Priori.Merging;
using Priori.Nn;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes.Merging;

/// <summary>A checkpoint of the user.</summary>
internal sealed record Checkpoint(string Name, Dictionary<string, Tensor> State);

/// <summary>What the user brings to be merged: checkpoints, what they are, and calibration data.</summary>
internal sealed record MergeFolder(string Path, IReadOnlyList<Checkpoint> Checkpoints, Architecture? Architecture, Architecture? ArchitectureB, PermutationSpec? Wiring, Examples? Calibration)
{
    /// <summary>Names of the further files on the command line.</summary>
    public const string Tuned = "tuned", Layers = "arch";

    private static readonly string[] CalibrationFiles = ["calib.npz", "calib.npy", "calib.safetensors", "calib"];

    public Dictionary<string, Tensor> A => Checkpoints[0].State;

    public Dictionary<string, Tensor> B => Checkpoints[1].State;

    /// <summary>Whether the data bring checkpoints: named ones, or a folder of them.</summary>
    public static bool Is(UserData data) => data.Parts.ContainsKey(Tuned) || File.Exists(System.IO.Path.Combine(data.Path, "a.safetensors"));

    /// <summary>
    /// Reads a folder of <c>a.safetensors</c>, <c>b.safetensors</c> (and c, d, ...), <c>arch.json</c> (and <c>arch.b.json</c> for another head) or <c>wiring.json</c>, and <c>calib.*</c>;
    /// or the checkpoints that <c>--data.tuned</c> names, with the inputs of <c>--data</c>.
    /// </summary>
    public static MergeFolder Read(UserData data, IReadOnlyList<double> mean, IReadOnlyList<double> deviation)
    {
        string path = data.Path;
        if (data.Parts.TryGetValue(Tuned, out string? tuned))
        {
            IReadOnlyList<string> paths = UserModel.Checkpoints(tuned);
            if (paths.Count < 2) throw new BadInputException($"{tuned} holds one checkpoint; at least two are merged.");
            Architecture described = UserModel.Describe(paths[0], data.Parts.GetValueOrDefault(Layers));
            return new MergeFolder(path.Length > 0 ? path : tuned, [.. paths.Select(Open)], described, described, null, path.Length > 0 ? Examples.Read(path, described.Input, mean, deviation) : null);
        }
        if (!Is(data)) throw new BadInputException($"{path} has no a.safetensors; a folder to merge holds a.safetensors, b.safetensors, arch.json (or wiring.json) and calib.npz, .npy, .safetensors or a folder calib of images. Or name the checkpoints with --data.tuned.");
        string File(string name) => System.IO.Path.Combine(path, name);
        if (!System.IO.File.Exists(File("b.safetensors"))) throw new BadInputException($"{path} has no b.safetensors, the second checkpoint.");
        Architecture? Describe(string name) => System.IO.File.Exists(File(name)) ? BadInput.Refusing(File(name), () => Architecture.FromJson(System.IO.File.ReadAllText(File(name)))) : null;
        Architecture? architecture = Describe("arch.json");
        PermutationSpec? wiring = System.IO.File.Exists(File("wiring.json")) ? BadInput.Refusing(File("wiring.json"), () => PermutationSpec.FromJson(System.IO.File.ReadAllText(File("wiring.json")))) : null;
        if (architecture is null && wiring is null) throw new BadInputException($"{path} has neither arch.json (layers of the network) nor wiring.json (permutation groups).");
        string? calibration = CalibrationFiles.Select(File).FirstOrDefault(f => System.IO.File.Exists(f) || Directory.Exists(f));
        string[] checkpoints = [.. Enumerable.Range('a', 26).Select(letter => File($"{(char)letter}.safetensors")).TakeWhile(System.IO.File.Exists)];
        return new MergeFolder(path, [.. checkpoints.Select(Open)], architecture, Describe("arch.b.json") ?? architecture, wiring,
            calibration is null || architecture is null ? null : Examples.Read(calibration, architecture.Input, mean, deviation));
    }

    private static Checkpoint Open(string path) => new(System.IO.Path.GetFileNameWithoutExtension(path), Safetensors.Read(path));

    /// <summary>How far the checkpoints are apart in each weight once their units correspond: the root mean square distance from their mean, relative to their root mean square norm. 0: equal; sqrt((n - 1) / n): unrelated.</summary>
    public static IReadOnlyList<(string Tensor, double Disagreement)> Disagreements(IReadOnlyList<IReadOnlyDictionary<string, Tensor>> aligned)
    {
        using var scope = NewDisposeScope();
        var found = new List<(string, double)>();
        foreach (string name in aligned[0].Keys.Where(k => aligned[0][k].is_floating_point() && aligned[0][k].dim() > 1))
        {
            Tensor all = stack([.. aligned.Select(s => s[name].to(float64).cpu().flatten())]);
            double norm = all.square().sum().item<double>(), distance = (all - all.mean([0], keepdim: true)).square().sum().item<double>();
            found.Add((name, norm > 0 ? Math.Sqrt(distance / norm) : 0));
        }
        return found;
    }

    /// <summary>One line a group: width before and after, ratio.</summary>
    public static void WriteWidths(string path, PermutationSpec spec, IReadOnlyDictionary<string, UnitPartition> partitions)
    {
        var text = new StringBuilder("group,width,merged_width,ratio\n");
        foreach (PermutationGroup group in spec.Groups)
            text.Append(CultureInfo.InvariantCulture, $"{group.Name},{group.Size},{partitions[group.Name].Size},{partitions[group.Name].Ratio:0.######}\n");
        AtomicFile.WriteText(path, text.ToString());
    }

    /// <summary>One line a layer: loss with the averaged and with the fitted weights.</summary>
    public static void WriteLosses(string path, IReadOnlyList<LayerLoss> losses)
    {
        var text = new StringBuilder("layer,mse_before,mse_after\n");
        foreach (LayerLoss loss in losses) text.Append(CultureInfo.InvariantCulture, $"{loss.Layer},{loss.Before:R},{loss.After:R}\n");
        AtomicFile.WriteText(path, text.ToString());
    }
}
