using System.Globalization;

namespace Priori.Data;

/// <summary>Reads MNIST and every dataset that is published as the same four IDX files (Fashion-MNIST, KMNIST).</summary>
public static class Mnist
{
    /// <summary>Reads the training and the test part.</summary>
    /// <param name="folder">
    /// The folder of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each with or without
    /// ".gz"; the variant with a dot, "train-images.idx3-ubyte", is known too.
    /// </param>
    /// <returns>Images [n, 1, height, width]; the classes are named "0", "1", ... up to the greatest label of both parts.</returns>
    /// <exception cref="FileNotFoundException">One of the four files is not there.</exception>
    /// <exception cref="InvalidDataException">A file is damaged, or images and labels do not belong together.</exception>
    public static (ImageDataset Train, ImageDataset Test) Read(string folder)
    {
        var (trainImages, trainLabels) = ReadPart(folder, "train");
        var (testImages, testLabels) = ReadPart(folder, "t10k");
        long greatest = Math.Max(Greatest(trainLabels), Greatest(testLabels));
        string[] classes = Enumerable.Range(0, (int)greatest + 1).Select(label => label.ToString(CultureInfo.InvariantCulture)).ToArray();
        return (new ImageDataset(trainImages, trainLabels, classes), new ImageDataset(testImages, testLabels, classes));
    }

    private static long Greatest(Tensor labels)
    {
        using Tensor greatest = labels.max();
        return greatest.item<long>();
    }

    private static (Tensor Images, Tensor Labels) ReadPart(string folder, string part)
    {
        string imagesPath = Find(folder, $"{part}-images", "idx3-ubyte"), labelsPath = Find(folder, $"{part}-labels", "idx1-ubyte");
        using Tensor images = Idx.Read(imagesPath), labels = Idx.Read(labelsPath);
        if (images.dtype != ScalarType.Byte || images.dim() != 3)
            throw new InvalidDataException($"{imagesPath}: holds {images.dtype} [{string.Join(", ", images.shape)}]; images are bytes [n, height, width].");
        if (labels.dtype != ScalarType.Byte || labels.dim() != 1)
            throw new InvalidDataException($"{labelsPath}: holds {labels.dtype} [{string.Join(", ", labels.shape)}]; labels are bytes [n].");
        if (images.shape[0] != labels.shape[0] || labels.shape[0] == 0)
            throw new InvalidDataException($"{labelsPath}: has {labels.shape[0]} labels for the {images.shape[0]} images of {imagesPath}.");
        return (images.unsqueeze(1), labels.to(ScalarType.Int64));
    }

    private static string Find(string folder, string name, string kind)
    {
        foreach (string candidate in (string[])[$"{name}-{kind}", $"{name}.{kind}", $"{name}-{kind}.gz", $"{name}.{kind}.gz"])
            if (File.Exists(Path.Combine(folder, candidate))) return Path.Combine(folder, candidate);
        throw new FileNotFoundException($"{folder} has no {name}-{kind} (or {name}-{kind}.gz, {name}.{kind}, {name}.{kind}.gz).", Path.Combine(folder, $"{name}-{kind}"));
    }
}
