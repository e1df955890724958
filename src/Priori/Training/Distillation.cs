namespace Priori.Training;

/// <summary>Losses that pull a network to the outputs of another one, the teacher; gradients flow into the student alone.</summary>
public static class Distillation
{
    /// <summary>Hinton, Vinyals, Dean (2015): T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.</summary>
    /// <param name="student">Logits [batch, classes].</param>
    /// <param name="teacher">Logits of the teacher, of the same shape.</param>
    /// <param name="temperature">T, above 0. Li and Hoiem (Learning without Forgetting, 2016): 2.</param>
    /// <returns>A scalar, at least 0; 0 where both agree.</returns>
    /// <exception cref="ArgumentException">The shapes differ or are not [batch, classes].</exception>
    public static Tensor Softmax(Tensor student, Tensor teacher, double temperature = 2)
    {
        Check(student, teacher);
        if (!(temperature > 0 && double.IsFinite(temperature))) throw new ArgumentOutOfRangeException(nameof(temperature), temperature, "The temperature must be above 0.");
        Tensor target = (teacher.detach() / temperature).log_softmax(1), output = (student / temperature).log_softmax(1);
        return temperature * temperature * (target.exp() * (target - output)).sum(1).mean();
    }

    /// <summary>Each class by itself: sum over classes of the binary cross-entropy of sigmoid(student) against sigmoid(teacher), mean over the batch (iCaRL, Rebuffi et al., CVPR 2017).</summary>
    /// <param name="student">Logits [batch, classes].</param>
    /// <param name="teacher">Logits of the teacher, of the same shape.</param>
    /// <returns>A scalar, at its least (the entropy of the teacher) where both agree.</returns>
    /// <exception cref="ArgumentException">The shapes differ or are not [batch, classes].</exception>
    public static Tensor Sigmoid(Tensor student, Tensor teacher)
    {
        Check(student, teacher);
        return functional.binary_cross_entropy_with_logits(student, teacher.detach().sigmoid(), reduction: Reduction.Sum) / student.shape[0];
    }

    /// <summary>Squared Euclidean distance of the features, mean over the batch.</summary>
    /// <param name="student">Features [batch, features].</param>
    /// <param name="teacher">Features of the teacher, of the same shape.</param>
    /// <returns>A scalar, at least 0.</returns>
    /// <exception cref="ArgumentException">The shapes differ or are not [batch, features].</exception>
    public static Tensor Features(Tensor student, Tensor teacher)
    {
        Check(student, teacher);
        return (student - teacher.detach()).square().sum(1).mean();
    }

    private static void Check(Tensor student, Tensor teacher)
    {
        ArgumentNullException.ThrowIfNull(student);
        ArgumentNullException.ThrowIfNull(teacher);
        if (student.dim() != 2 || student.shape[0] == 0 || !student.shape.AsSpan().SequenceEqual(teacher.shape))
            throw new ArgumentException($"Student and teacher must be of one shape [batch, n]; got [{string.Join(", ", student.shape)}] and [{string.Join(", ", teacher.shape)}].", nameof(teacher));
    }
}
