using Priori.Data;
using Priori.Runtime;

namespace Priori.Recipes;

/// <summary>Inputs of a network, float32 [n, ...], and, where known, their labels, int64 [n].</summary>
internal sealed record Examples(Tensor Inputs, Tensor? Labels)
{
    private static readonly string[] InputNames = ["inputs", "images", "x"];

    /// <summary>Number of inputs.</summary>
    public long Count => Inputs.shape[0];

    /// <summary>Reads inputs of a network: arrays (npz, npy, safetensors), a folder of IDX files, a folder or zip of images. Bytes become numbers in 0..1.</summary>
    public static Examples Read(string path, IReadOnlyList<long> shape, IReadOnlyList<double>? mean = null, IReadOnlyList<double>? deviation = null)
    {
        Tensor inputs;
        Tensor? labels = null;
        switch (Path.GetExtension(path).ToLowerInvariant())
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
                bool zip = Path.GetExtension(path).Equals(".zip", StringComparison.OrdinalIgnoreCase);
                if (!Directory.Exists(path) && !zip) throw new BadInputException($"{path} is no .npz, .npy or .safetensors file and no folder or zip of images.");
                ImageDataset images = !zip && Directory.EnumerateFiles(path, "*images*idx3*").Any() ? Mnist.Read(path).Test
                    : ImageFolder.Read(path, (int)shape[^1], grayscale: shape.Count == 3 && shape[0] == 1);
                (inputs, labels) = (images.Images, images.Labels);
                break;
        }
        if (inputs.dim() == 3 && shape.Count == 3 && shape[0] == 1) inputs = inputs.unsqueeze(1);
        if (inputs.dim() < 2 || inputs.shape[0] < 1 || !inputs.shape.AsSpan(1).SequenceEqual([.. shape]))
            throw new BadInputException($"{path} holds inputs [{string.Join(", ", inputs.shape)}]; the network takes [n, {string.Join(", ", shape)}].");
        if (labels is not null && (labels.dim() != 1 || labels.shape[0] != inputs.shape[0])) throw new BadInputException($"{path} has labels [{string.Join(", ", labels.shape)}] for {inputs.shape[0]} inputs.");
        inputs = inputs.dtype == ScalarType.Byte ? inputs.to(float32) / 255 : inputs.to(float32);
        if (mean is { Count: > 0 })
        {
            if (mean.Count != inputs.shape[1] || deviation?.Count != mean.Count) throw new BadInputException($"Options 'mean' and 'deviation' need one number for each of the {inputs.shape[1]} channels.");
            long[] channels = [1, mean.Count, .. Enumerable.Repeat(1L, (int)inputs.dim() - 2)];
            inputs = (inputs - tensor(mean.ToArray(), float32).view(channels)) / tensor(deviation.ToArray(), float32).view(channels);
        }
        if (!inputs.isfinite().all().item<bool>()) throw new BadInputException($"{path} holds numbers that are not finite.");
        return new Examples(inputs, labels?.to(int64));
    }
}
