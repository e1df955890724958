using Priori.Nn;

namespace Priori.Merging;

/// <summary>Which of the two originals a head belongs to.</summary>
public enum MergeSource
{
    /// <summary>Network A.</summary>
    A,
    /// <summary>Network B.</summary>
    B,
}

/// <summary>Heads of their own on a merged trunk, for networks with different label spaces (PLeaS, section 4.2).</summary>
public static class SeparateHeads
{
    /// <summary>The features of a merged trunk in the order of one original: merged units and that network's separate units, back in their places.</summary>
    /// <param name="features">Features of the merged trunk [batch, merged width].</param>
    /// <param name="partition">The split of the feature group.</param>
    /// <param name="source">The original.</param>
    /// <returns>[batch, original width].</returns>
    public static Tensor Unpermute(Tensor features, UnitPartition partition, MergeSource source)
    {
        ArgumentNullException.ThrowIfNull(features);
        ArgumentNullException.ThrowIfNull(partition);
        (Tensor from, Tensor to) = Places(partition, source, features.shape[^1]);
        return features.index_select(-1, from.index_select(0, to.argsort()).to(features.device));
    }

    /// <summary>The head of one original rewritten to read the merged features, so that it needs no reordering: head(Unpermute(features)) for every input.</summary>
    /// <param name="weight">The original head's weight [classes, original width].</param>
    /// <param name="partition">The split of the feature group; null when features have no group (they are all merged).</param>
    /// <param name="source">The original.</param>
    /// <returns>[classes, merged width], zero for the other network's separate units.</returns>
    public static Tensor FoldHead(Tensor weight, UnitPartition? partition, MergeSource source)
    {
        ArgumentNullException.ThrowIfNull(weight);
        if (partition is null) return weight.clone();
        long size = partition.MergedA.Length + partition.SeparateA.Length;
        (Tensor from, Tensor to) = Places(partition, source, weight.shape[1] / size * partition.Size);
        Tensor folded = zeros([weight.shape[0], weight.shape[1] / size * partition.Size], dtype: weight.dtype, device: weight.device);
        folded.index_copy_(1, from.to(weight.device), weight.index_select(1, to.to(weight.device)));
        return folded;
    }

    // Positions in the merged features, and the positions of the same units in the original.
    private static (Tensor From, Tensor To) Places(UnitPartition partition, MergeSource source, long mergedWidth)
    {
        long merged = partition.MergedA.Length, separate = partition.SeparateA.Length;
        bool isA = source == MergeSource.A;
        Tensor from = cat([arange(merged, int64), arange(separate, int64) + (isA ? merged : merged + separate)]);
        Tensor to = tensor(isA ? [.. partition.MergedA, .. partition.SeparateA] : (long[])[.. partition.MergedB, .. partition.SeparateB]);
        return (PermutationSpec.Positions(from, partition.Size, mergedWidth), PermutationSpec.Positions(to, merged + separate, mergedWidth / partition.Size * (merged + separate)));
    }

    /// <summary>
    /// Trains a linear probe on frozen features with cross-entropy: Adam with learning rate 1e-3 and cosine decay to a tenth, 10 epochs, as published.
    /// Labels are used, so a probe is an evaluation of features and no part of merging.
    /// </summary>
    /// <param name="features">[n, width].</param>
    /// <param name="labels">Classes 0 .. classes - 1, int64 [n].</param>
    /// <param name="classes">Number of classes.</param>
    /// <param name="epochs">Passes over the data.</param>
    /// <param name="batchSize">Samples a step.</param>
    /// <param name="learningRate">Initial learning rate.</param>
    /// <param name="seed">Seed of the initialisation and of the order.</param>
    /// <exception cref="ArgumentException">Features and labels differ in number or a label is outside its range.</exception>
    public static TorchSharp.Modules.Linear FitProbe(Tensor features, Tensor labels, long classes, int epochs = 10, int batchSize = 128, double learningRate = 1e-3, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(features);
        ArgumentNullException.ThrowIfNull(labels);
        if (features.dim() != 2 || labels.dim() != 1 || features.shape[0] != labels.shape[0] || features.shape[0] < 1)
            throw new ArgumentException($"Features [{string.Join(", ", features.shape)}] and labels [{string.Join(", ", labels.shape)}] must be [n, width] and [n].", nameof(labels));
        if (labels.min().item<long>() < 0 || labels.max().item<long>() >= classes) throw new ArgumentException($"A label is outside 0..{classes - 1}.", nameof(labels));
        Runtime.Seeds.Set(seed);
        TorchSharp.Modules.Linear probe = nn.Linear(features.shape[1], classes);
        probe.to(features.device);
        using var adam = optim.Adam(probe.parameters(), learningRate);
        long n = features.shape[0], steps = epochs * ((n + batchSize - 1) / batchSize), step = 0;
        for (int epoch = 0; epoch < epochs; epoch++)
        {
            using Tensor order = randperm(n, device: features.device);
            for (long at = 0; at < n; at += batchSize, step++)
            {
                using var scope = NewDisposeScope();
                foreach (var group in adam.ParamGroups) group.LearningRate = learningRate * (0.1 + 0.45 * (1 + Math.Cos(Math.PI * step / steps)));
                Tensor rows = order.narrow(0, at, Math.Min(batchSize, n - at));
                Tensor loss = functional.cross_entropy(probe.call(features.index_select(0, rows)), labels.index_select(0, rows));
                adam.zero_grad();
                loss.backward();
                adam.step();
            }
        }
        return probe;
    }
}
