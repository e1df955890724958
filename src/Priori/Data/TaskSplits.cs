using Priori.Runtime;

namespace Priori.Data;

/// <summary>
/// How a dataset becomes a sequence of tasks for continual learning (van de Ven, Tolias, 2019): new classes a task (class-incremental), or the same
/// classes under another transformation of the inputs (domain-incremental). A split is a function of the seed alone, so every method sees the same one.
/// </summary>
public static class TaskSplits
{
    /// <summary>Disjoint groups of classes, in an order drawn from the seed.</summary>
    /// <param name="labels">Class of each row, int64 [n], on any device; the classes that occur are split.</param>
    /// <param name="classesPerTask">Classes of a task, at least 1; the last task has the rest.</param>
    /// <param name="seed">Seed of the order. The same seed and classes give the same tasks on every system.</param>
    /// <returns>Class ids of each task, in ascending order within a task.</returns>
    /// <exception cref="ArgumentException">The labels are not int64 [n] with n at least 1.</exception>
    public static IReadOnlyList<IReadOnlyList<long>> ClassIncremental(Tensor labels, int classesPerTask, int seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(classesPerTask, 1);
        long[] classes = Classes(labels);
        SplitMix64.For(seed, 0x5441534B).Shuffle<long>(classes);
        return [.. classes.Chunk(classesPerTask).Select(task => (IReadOnlyList<long>)[.. task.Order()])];
    }

    /// <summary>The classes that occur, in ascending order.</summary>
    /// <param name="labels">Class of each row, int64 [n], n at least 1.</param>
    /// <exception cref="ArgumentException">The labels are not int64 [n] with n at least 1.</exception>
    public static long[] Classes(Tensor labels)
    {
        using Tensor host = CheckLabels(labels).cpu();
        return [.. host.data<long>().Distinct().Order()];
    }

    /// <summary>Rows of some classes, in the order of the dataset.</summary>
    /// <param name="labels">Class of each row, int64 [n].</param>
    /// <param name="classes">The classes of a task.</param>
    /// <returns>Row indexes, int64 [m], m at least 1, on the device of the labels.</returns>
    /// <exception cref="ArgumentException">No row is of these classes: the task would be empty.</exception>
    public static Tensor Rows(Tensor labels, IReadOnlyList<long> classes)
    {
        ArgumentNullException.ThrowIfNull(classes);
        using var scope = NewDisposeScope();
        Tensor wanted = tensor(classes.ToArray(), ScalarType.Int64, CheckLabels(labels).device);
        Tensor rows = labels.unsqueeze(1).eq(wanted).any(1).nonzero().flatten();
        if (rows.shape[0] == 0) throw new ArgumentException($"The task of classes {string.Join(", ", classes)} has no samples.", nameof(classes));
        return rows.MoveToOuterDisposeScope();
    }

    /// <summary>Checks that tasks are not empty and share no class.</summary>
    /// <param name="tasks">Class ids of each task.</param>
    /// <exception cref="ArgumentException">A task has no class, or a class occurs in two tasks; the message names them (tasks count from 1).</exception>
    public static void CheckDisjoint(IReadOnlyList<IReadOnlyList<long>> tasks)
    {
        ArgumentNullException.ThrowIfNull(tasks);
        var taskOf = new Dictionary<long, int>();
        for (int t = 0; t < tasks.Count; t++)
        {
            if (tasks[t].Count == 0) throw new ArgumentException($"Task {t + 1} has no class.", nameof(tasks));
            foreach (long c in tasks[t])
                if (!taskOf.TryAdd(c, t)) throw new ArgumentException($"Class {c} occurs in task {taskOf[c] + 1} and in task {t + 1}.", nameof(tasks));
        }
    }

    /// <summary>One of the eight symmetries of the square: exact, without interpolation.</summary>
    /// <param name="images">Images [..., size, size].</param>
    /// <param name="element">0 to 3: turned by so many quarter turns counter-clockwise; 4 to 7: mirrored left to right, then turned by <paramref name="element"/> - 4 quarter turns.</param>
    /// <returns>Images of the same shape and type; a copy except for element 0.</returns>
    /// <exception cref="ArgumentException">The images are not square.</exception>
    public static Tensor Dihedral(Tensor images, int element)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentOutOfRangeException.ThrowIfNegative(element);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(element, 7);
        if (images.dim() < 2 || images.shape[^1] != images.shape[^2]) throw new ArgumentException($"Images must be square; got [{string.Join(", ", images.shape)}].", nameof(images));
        if (element == 0) return images.alias();
        using var scope = NewDisposeScope();
        Tensor mirrored = element >= 4 ? images.flip(-1) : images;
        return mirrored.rot90(element % 4, (-2, -1)).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>Rotated images, for the domain-incremental Rotated MNIST: bilinear, around the centre, zeros outside.</summary>
    /// <param name="images">Images [n, channels, height, width], floating point.</param>
    /// <param name="degrees">Angle, counter-clockwise.</param>
    /// <returns>Images of the same shape.</returns>
    /// <exception cref="ArgumentException">The images are not [n, channels, height, width].</exception>
    public static Tensor Rotated(Tensor images, double degrees)
    {
        ArgumentNullException.ThrowIfNull(images);
        if (images.dim() != 4 || !images.is_floating_point()) throw new ArgumentException($"Images must be floating point [n, channels, height, width]; got {images.dtype} [{string.Join(", ", images.shape)}].", nameof(images));
        using var scope = NewDisposeScope();
        (double sine, double cosine) = Math.SinCos(degrees * Math.PI / 180);
        double aspect = (double)images.shape[2] / images.shape[3];
        // The grid holds, for each target pixel in -1..1 coordinates (y down), where it comes from.
        Tensor map = tensor(new[] { cosine, -sine * aspect, 0, sine / aspect, cosine, 0 }, images.dtype, images.device).view(1, 2, 3).expand(images.shape[0], 2, 3);
        Tensor grid = functional.affine_grid(map, images.shape, align_corners: false);
        return functional.grid_sample(images, grid, GridSampleMode.Bilinear, GridSamplePaddingMode.Zeros, align_corners: false).MoveToOuterDisposeScope();
    }

    /// <summary>Images with their positions shuffled, all in the same way and all channels alike, for the domain-incremental Permuted MNIST.</summary>
    /// <param name="images">Images [n, channels, height, width] of any type.</param>
    /// <param name="seed">Seed of the permutation: one a task.</param>
    /// <returns>Images of the same shape.</returns>
    /// <exception cref="ArgumentException">The images are not [n, channels, height, width].</exception>
    public static Tensor Permuted(Tensor images, int seed)
    {
        ArgumentNullException.ThrowIfNull(images);
        if (images.dim() != 4) throw new ArgumentException($"Images must be [n, channels, height, width]; got [{string.Join(", ", images.shape)}].", nameof(images));
        using var scope = NewDisposeScope();
        long[] order = [.. Enumerable.Range(0, (int)(images.shape[2] * images.shape[3])).Select(i => (long)i)];
        SplitMix64.For(seed, 0x5045524D).Shuffle<long>(order);
        return images.flatten(2).index_select(2, tensor(order, device: images.device)).view(images.shape).MoveToOuterDisposeScope();
    }

    private static Tensor CheckLabels(Tensor labels)
    {
        ArgumentNullException.ThrowIfNull(labels);
        if (labels.dtype != ScalarType.Int64 || labels.dim() != 1 || labels.shape[0] == 0)
            throw new ArgumentException($"Labels must be int64 [n] with n at least 1; got {labels.dtype} [{string.Join(", ", labels.shape)}].", nameof(labels));
        return labels;
    }
}
