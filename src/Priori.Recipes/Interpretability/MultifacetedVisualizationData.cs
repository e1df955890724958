using System.Globalization;
using System.Text;
using Priori.Data;
using Priori.Interpretability;
using Priori.Nn;
using Priori.Runtime;
using SkiaSharp;

namespace Priori.Recipes.Interpretability;

/// <summary>A network whose units are shown, as it is saved with a run.</summary>
/// <param name="Architecture">Its layers (JSON).</param>
/// <param name="CodeLayer">The layer whose activations are the codes.</param>
/// <param name="Mean">Mean of each channel that is subtracted from pixels.</param>
/// <param name="Deviation">Deviation of each channel.</param>
public sealed record FacetNetwork(string Architecture, string CodeLayer, IReadOnlyList<double> Mean, IReadOnlyList<double> Deviation);

/// <summary>The facets of one unit, as they are saved with a run: components of the codes, the known codes, and their labels.</summary>
/// <param name="Unit">The unit.</param>
/// <param name="TotalVariance">Total variance of the codes.</param>
public sealed record UnitFacets(string Unit, double TotalVariance);

/// <summary>Reading images for the recipe, and writing what it finds.</summary>
internal static class FacetFiles
{
    private const int Gap = 2;
    private static readonly string[] s_names = ["inputs", "images", "x"];

    /// <summary>The small convolutional classifier of the recipe: two convolutions of stride 2 and a code of 64 units.</summary>
    public static Architecture Classifier(IReadOnlyList<long> input, IReadOnlyList<long> widths, long classes)
    {
        List<Layer> layers = [];
        for (int i = 0; i < widths.Count; i++)
        {
            layers.Add(new Layer($"conv{i + 1}", LayerKind.Conv2d) { Width = widths[i], Kernel = 3, Padding = 1, Stride = 2 });
            layers.Add(new Layer($"relu{i + 1}", LayerKind.Relu));
        }
        layers.Add(new Layer("flat", LayerKind.Flatten));
        layers.Add(new Layer("hidden", LayerKind.Linear) { Width = 64 });
        layers.Add(new Layer("code", LayerKind.Relu));
        layers.Add(new Layer("fc", LayerKind.Linear) { Width = classes });
        return new Architecture(input, layers);
    }

    /// <summary>AlexNet as torchvision has it (Krizhevsky, 2014), for 224 x 224 images and 1,000 classes; <c>classifier.5</c> is fc7, <c>classifier.6</c> fc8.</summary>
    public static Architecture AlexNet()
    {
        List<Layer> layers = [];
        void Conv(int index, long width, long kernel, long stride, long padding)
        {
            layers.Add(new Layer($"features.{index}", LayerKind.Conv2d) { Width = width, Kernel = kernel, Stride = stride, Padding = padding });
            layers.Add(new Layer($"features.{index + 1}", LayerKind.Relu));
        }
        void Pool(int index) => layers.Add(new Layer($"features.{index}", LayerKind.MaxPool) { Kernel = 3, Stride = 2 });
        Conv(0, 64, 11, 4, 2);
        Pool(2);
        Conv(3, 192, 5, 1, 2);
        Pool(5);
        Conv(6, 384, 3, 1, 1);
        Conv(8, 256, 3, 1, 1);
        Conv(10, 256, 3, 1, 1);
        Pool(12);
        layers.Add(new Layer("flat", LayerKind.Flatten));
        foreach ((int index, long width) in new[] { (1, 4096L), (4, 4096L) })
        {
            layers.Add(new Layer($"classifier.{index}", LayerKind.Linear) { Width = width });
            layers.Add(new Layer($"classifier.{index + 1}", LayerKind.Relu));
        }
        layers.Add(new Layer("classifier.6", LayerKind.Linear) { Width = 1000 });
        return new Architecture([3, 224, 224], layers);
    }

    /// <summary>The layer that the output layer reads: the latest codes there are.</summary>
    public static string LastCodes(Architecture architecture)
    {
        string name = architecture.InputsOf(architecture.Layers.Count - 1)[0];
        return name != Architecture.InputName ? name : throw new BadInputException("The network has a single layer, so it has no codes to find facets in.");
    }

    /// <summary>Images float32 [n, channels, height, width] of any size, folders in 0..1, with their labels and the names of the classes where they have any.</summary>
    public static (Examples Examples, IReadOnlyList<string>? Classes) Read(string path, int? size)
    {
        if (!IsFolderOfImages(path)) return (Examples.Read(path, ShapeOf(path)), null);
        ImageDataset read = ReadFolder(path, size, grayscale: false);
        bool grey = read.Images.narrow(1, 0, 2).eq(read.Images.narrow(1, 1, 2)).all().item<bool>();
        return (new Examples((grey ? read.Images.narrow(1, 0, 1) : read.Images).to(float32).div_(255), read.Labels), read.Classes);
    }

    /// <summary>Images for a network, of its own input size.</summary>
    public static (Examples Examples, IReadOnlyList<string>? Classes) ReadFor(Architecture architecture, string path)
    {
        IReadOnlyList<long> input = architecture.Input;
        if (input.Count != 3) throw new BadInputException($"The network takes [{string.Join(", ", input)}]; only networks of images [channels, height, width] can be shown.");
        if (!IsFolderOfImages(path)) return (Examples.Read(path, input), null);
        if (input[1] != input[2] || input[0] is not (1 or 3))
            throw new BadInputException($"The network takes images [{string.Join(", ", input)}]; folders of images are read as squares of 1 or 3 channels, so give arrays (.npz, .npy, .safetensors).");
        ImageDataset read = ReadFolder(path, (int)input[1], grayscale: input[0] == 1);
        return (new Examples(read.Images.to(float32).div_(255), read.Labels), read.Classes);
    }

    private static bool IsFolderOfImages(string path)
        => Path.GetExtension(path).Equals(".zip", StringComparison.OrdinalIgnoreCase) || (Directory.Exists(path) && !Directory.EnumerateFiles(path, "*images*idx3*").Any());

    /// <summary>The part "train" where there are several.</summary>
    private static ImageDataset ReadFolder(string path, int? size, bool grayscale)
    {
        IReadOnlyList<string> splits = ImageFolder.Splits(path);
        return ImageFolder.Read(path, size, splits.Contains("train") ? "train" : splits[0], grayscale);
    }

    private static long[] ShapeOf(string path)
    {
        Tensor first;
        switch (Path.GetExtension(path).ToLowerInvariant())
        {
            case ".npz" or ".safetensors":
                Dictionary<string, Tensor> arrays = path.EndsWith(".npz", StringComparison.OrdinalIgnoreCase) ? Npz.Read(path) : Safetensors.Read(path);
                first = s_names.Select(name => arrays.GetValueOrDefault(name)).FirstOrDefault(t => t is not null)
                    ?? (arrays.Count == 1 ? arrays.Values.First() : throw new BadInputException($"{path} has no array 'inputs', 'images' or 'x'; it has: {string.Join(", ", arrays.Keys)}."));
                break;
            case ".npy":
                first = Npy.Read(path);
                break;
            default:
                if (!Directory.Exists(path)) throw new BadInputException($"{path} is no .npz, .npy or .safetensors file and no folder or zip of images.");
                return [1, 28, 28]; // IDX files, as MNIST
        }
        return first.dim() switch
        {
            3 => [1, first.shape[1], first.shape[2]],
            4 => first.shape[1..],
            _ => throw new BadInputException($"{path} holds [{string.Join(", ", first.shape)}]; images are [n, height, width] or [n, channels, height, width]."),
        };
    }

    /// <summary>Writes one image [channels, height, width] as PNG; channels other than 1 and 3 as the mean over all.</summary>
    public static void WritePng(string path, Tensor image, (double Low, double High) range)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor bytes = (Visible(image.unsqueeze(0), range)[0] * 255).round().to(ScalarType.Byte).cpu().contiguous();
        int channels = (int)bytes.shape[0], height = (int)bytes.shape[1], width = (int)bytes.shape[2];
        byte[] pixels = bytes.data<byte>().ToArray();
        using var bitmap = new SKBitmap(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        Span<byte> target = bitmap.GetPixelSpan();
        for (int i = 0; i < height * width; i++)
        {
            for (int c = 0; c < 3; c++) target[4 * i + c] = pixels[Math.Min(c, channels - 1) * height * width + i];
            target[4 * i + 3] = 255;
        }
        using SKData data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        AtomicFile.Write(path, data.SaveTo);
    }

    /// <summary>Pixels as 1 or 3 channels in 0..1.</summary>
    public static Tensor Visible(Tensor images, (double Low, double High) range)
    {
        Tensor unit = ((images - range.Low) / (range.High - range.Low)).clamp(0, 1);
        return images.shape[1] is 1 or 3 ? unit : unit.mean([1L], keepdim: true);
    }

    /// <summary>Rows of images as one: a row for each facet, white where a row is shorter.</summary>
    public static Tensor Montage(Tensor images, IReadOnlyList<long[]> rows)
    {
        long columns = rows.Max(r => r.Length), channels = images.shape[1], height = images.shape[2], width = images.shape[3];
        Tensor sheet = full([channels, rows.Count * (height + Gap) - Gap, columns * (width + Gap) - Gap], 1f);
        for (int r = 0; r < rows.Count; r++)
            for (int c = 0; c < rows[r].Length; c++)
                sheet.narrow(1, r * (height + Gap), height).narrow(2, c * (width + Gap), width).copy_(images[rows[r][c]]);
        return sheet;
    }

    /// <summary>A table of numbers.</summary>
    public static void WriteCsv(string path, string header, IEnumerable<object[]> rows)
    {
        var text = new StringBuilder(header).Append('\n');
        foreach (object[] row in rows) text.AppendJoin(',', row.Select(v => v is IFormattable f ? f.ToString(v is float ? "R" : null, CultureInfo.InvariantCulture) : v.ToString())).Append('\n');
        AtomicFile.WriteText(path, text.ToString());
    }
}
