using System.Globalization;
using System.Text;
using Priori.Data;
using Priori.Merging;
using Priori.Nn;
using Priori.Runtime;

namespace Priori.Recipes.Merging;

/// <summary>Inputs of a network and, where known, their labels.</summary>
internal sealed record Examples(Tensor Inputs, Tensor? Labels);

/// <summary>What the user brings to be merged: two checkpoints, what they are, and calibration data.</summary>
internal sealed record MergeFolder(string Path, Dictionary<string, Tensor> A, Dictionary<string, Tensor> B, Architecture? Architecture, Architecture? ArchitectureB, PermutationSpec? Wiring, Examples? Calibration)
{
    private static readonly string[] CalibrationFiles = ["calib.npz", "calib.npy", "calib.safetensors", "calib"];
    private static readonly string[] InputNames = ["inputs", "images", "x"];

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
            calibration is null || architecture is null ? null : ReadInputs(calibration, architecture.Input, mean, deviation));
    }

    /// <summary>Reads inputs of a network: arrays, IDX files or folders of images. Bytes become numbers in 0..1.</summary>
    public static Examples ReadInputs(string path, IReadOnlyList<long> shape, IReadOnlyList<double> mean, IReadOnlyList<double> deviation)
    {
        Tensor inputs;
        Tensor? labels = null;
        switch (System.IO.Path.GetExtension(path).ToLowerInvariant())
        {
            case ".npz" or ".safetensors":
                Dictionary<string, Tensor> arrays = path.EndsWith(".npz", StringComparison.OrdinalIgnoreCase) ? Npz.Read(path) : Safetensors.Read(path);
                string? name = InputNames.FirstOrDefault(arrays.ContainsKey) ?? (arrays.Count == 1 ? arrays.Keys.First() : null);
                if (name is null) throw new BadInputException($"{path} has no array 'inputs', 'images' or 'x'; it has: {string.Join(", ", arrays.Keys)}.");
                inputs = arrays[name];
                labels = arrays.GetValueOrDefault("labels") ?? arrays.GetValueOrDefault("y");
                break;
            case ".npy":
                inputs = Npy.Read(path);
                break;
            default:
                if (!Directory.Exists(path)) throw new BadInputException($"{path} is no .npz, .npy or .safetensors file and no folder of images.");
                ImageDataset images = Directory.EnumerateFiles(path, "*images*idx3*").Any() ? Mnist.Read(path).Test
                    : ImageFolder.Read(path, (int)shape[^1], grayscale: shape.Count == 3 && shape[0] == 1);
                (inputs, labels) = (images.Images, images.Labels);
                break;
        }
        if (inputs.dim() == 3 && shape.Count == 3 && shape[0] == 1) inputs = inputs.unsqueeze(1);
        if (inputs.dim() < 2 || inputs.shape[0] < 1 || !inputs.shape.AsSpan(1).SequenceEqual([.. shape]))
            throw new BadInputException($"{path} holds inputs [{string.Join(", ", inputs.shape)}]; the network takes [n, {string.Join(", ", shape)}].");
        if (labels is not null && (labels.dim() != 1 || labels.shape[0] != inputs.shape[0])) throw new BadInputException($"{path} has labels [{string.Join(", ", labels.shape)}] for {inputs.shape[0]} inputs.");
        inputs = inputs.dtype == ScalarType.Byte ? inputs.to(float32) / 255 : inputs.to(float32);
        if (mean.Count > 0)
        {
            if (mean.Count != inputs.shape[1] || deviation.Count != mean.Count) throw new BadInputException($"Options 'mean' and 'deviation' need one number for each of the {inputs.shape[1]} channels.");
            long[] channels = [1, mean.Count, .. Enumerable.Repeat(1L, (int)inputs.dim() - 2)];
            inputs = (inputs - tensor(mean.ToArray(), float32).view(channels)) / tensor(deviation.ToArray(), float32).view(channels);
        }
        if (!inputs.isfinite().all().item<bool>()) throw new BadInputException($"{path} holds numbers that are not finite.");
        return new Examples(inputs, labels?.to(int64));
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
