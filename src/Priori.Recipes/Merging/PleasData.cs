using System.Globalization;
using System.Text;
using Priori.Data;
using Priori.Merging;
using Priori.Nn;
using Priori.Runtime;

namespace Priori.Recipes.Merging;

/// <summary>What the user brings to be merged: two checkpoints, what they are, and calibration data.</summary>
internal sealed record MergeFolder(string Path, Dictionary<string, Tensor> A, Dictionary<string, Tensor> B, Architecture? Architecture, Architecture? ArchitectureB, PermutationSpec? Wiring, Examples? Calibration)
{
    private static readonly string[] CalibrationFiles = ["calib.npz", "calib.npy", "calib.safetensors", "calib"];

    /// <summary>Whether a path is a folder with two checkpoints.</summary>
    public static bool Is(string path) => File.Exists(System.IO.Path.Combine(path, "a.safetensors"));

    /// <summary>Reads <c>a.safetensors</c>, <c>b.safetensors</c>, <c>arch.json</c> (and <c>arch.b.json</c> for another head) or <c>wiring.json</c>, and <c>calib.*</c>.</summary>
    public static MergeFolder Read(string path, IReadOnlyList<double> mean, IReadOnlyList<double> deviation)
    {
        if (!Is(path)) throw new BadInputException($"{path} has no a.safetensors; a folder to merge holds a.safetensors, b.safetensors, arch.json (or wiring.json) and calib.npz, .npy, .safetensors or a folder calib of images.");
        string File(string name) => System.IO.Path.Combine(path, name);
        if (!System.IO.File.Exists(File("b.safetensors"))) throw new BadInputException($"{path} has no b.safetensors, the second checkpoint.");
        Architecture? Describe(string name) => System.IO.File.Exists(File(name)) ? Checked(File(name), Architecture.FromJson) : null;
        Architecture? architecture = Describe("arch.json");
        PermutationSpec? wiring = System.IO.File.Exists(File("wiring.json")) ? Checked(File("wiring.json"), PermutationSpec.FromJson) : null;
        if (architecture is null && wiring is null) throw new BadInputException($"{path} has neither arch.json (layers of the network) nor wiring.json (permutation groups).");
        string? calibration = CalibrationFiles.Select(File).FirstOrDefault(f => System.IO.File.Exists(f) || Directory.Exists(f));
        return new MergeFolder(path, Safetensors.Read(File("a.safetensors")), Safetensors.Read(File("b.safetensors")), architecture, Describe("arch.b.json") ?? architecture, wiring,
            calibration is null || architecture is null ? null : Examples.Read(calibration, architecture.Input, mean, deviation));
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

    private static T Checked<T>(string path, Func<string, T> parse)
    {
        try
        {
            return parse(System.IO.File.ReadAllText(path));
        }
        catch (ArgumentException exception)
        {
            throw new BadInputException($"{path}: {exception.Message}", exception);
        }
    }
}
