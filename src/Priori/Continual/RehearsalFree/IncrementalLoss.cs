using F = TorchSharp.torch.nn.functional;

namespace Priori.Continual;

/// <summary>Which logits take part in the classification loss of a task (Smith et al., 2023, sec. 3).</summary>
public enum ClassificationLoss
{
    /// <summary>Softmax cross-entropy over the classes of the task alone: logits of other classes are left out (the "labels trick").</summary>
    LocalCE,

    /// <summary>A sigmoid for each class of the task alone: binary cross-entropy, summed over classes.</summary>
    LocalBCE,

    /// <summary>Softmax cross-entropy over all classes seen: plain fine-tuning, which collapses to the newest task.</summary>
    GlobalCE,
}

/// <summary>The classification losses of class-incremental learning.</summary>
public static class IncrementalLoss
{
    /// <summary>The loss of a batch, mean over samples.</summary>
    /// <param name="logits">Logits of all classes seen, [batch, classes].</param>
    /// <param name="targets">Row of the true class in the logits, int64 [batch]; one of <paramref name="current"/>.</param>
    /// <param name="current">Rows of the task's classes, int64 [classes of the task].</param>
    /// <param name="loss">Which logits take part.</param>
    /// <returns>A scalar. With a local loss the gradient at all other logits is exactly 0.</returns>
    /// <exception cref="ArgumentException">The shapes do not fit, or a row is outside the logits: the head is smaller than a class id.</exception>
    public static Tensor Of(Tensor logits, Tensor targets, Tensor current, ClassificationLoss loss)
    {
        ArgumentNullException.ThrowIfNull(logits);
        ArgumentNullException.ThrowIfNull(targets);
        ArgumentNullException.ThrowIfNull(current);
        if (logits.dim() != 2 || targets.dim() != 1 || targets.shape[0] != logits.shape[0] || targets.dtype != ScalarType.Int64 || current.dim() != 1 || current.shape[0] == 0)
            throw new ArgumentException($"Logits must be [batch, classes], targets int64 [batch] and current rows [classes of the task]; got [{string.Join(", ", logits.shape)}], [{string.Join(", ", targets.shape)}] and [{string.Join(", ", current.shape)}].", nameof(logits));
        if (current.max().ToInt64() >= logits.shape[1] || targets.max().ToInt64() >= logits.shape[1] || targets.min().ToInt64() < 0)
            throw new ArgumentException($"A class is outside 0..{logits.shape[1] - 1}, the rows of the head.", nameof(targets));
        if (loss == ClassificationLoss.GlobalCE) return F.cross_entropy(logits, targets);
        Tensor own = targets.unsqueeze(1).eq(current); // [batch, classes of the task]: at the true class
        if (!own.any(1).all().item<bool>()) throw new ArgumentException("A target is not among the classes of the task.", nameof(targets));
        Tensor local = logits.index_select(1, current);
        return loss == ClassificationLoss.LocalCE
            ? F.cross_entropy(local, own.to(ScalarType.Int64).argmax(1))
            : F.binary_cross_entropy_with_logits(local, own.to(local.dtype), reduction: Reduction.Sum) / local.shape[0];
    }
}
