namespace Priori.Merging;

/// <summary>A searched scale.</summary>
/// <param name="Alpha">The best scale.</param>
/// <param name="Score">Its score.</param>
/// <param name="Curve">Score of each scale, in order.</param>
public sealed record ScaleSearch(double Alpha, double Score, IReadOnlyList<(double Alpha, double Score)> Curve);

/// <summary>Task arithmetic (Ilharco et al., ICLR 2023): theta_0 + alpha sum_i tau_i with one scale, found by search on validation data. The baseline of aTLAS.</summary>
public static class TaskArithmetic
{
    /// <summary>The scales that are searched by default: 0, 0.05, ..., 1.</summary>
    public static IReadOnlyList<double> Alphas { get; } = [.. Enumerable.Range(0, 21).Select(i => i / 20.0)];

    /// <summary>Tries every scale and keeps the one with the highest score, the smaller of equals.</summary>
    /// <param name="baseState">Tensors of the base model by name.</param>
    /// <param name="vectors">Task vectors, at least one; negate one to remove its task.</param>
    /// <param name="score">Higher is better, for a merged state; measured on validation data. Negative infinity excludes a scale.</param>
    /// <param name="alphas">The scales; <see cref="Alphas"/> by default.</param>
    /// <exception cref="ArgumentException">There is no vector or no scale, or every scale is excluded.</exception>
    public static ScaleSearch SearchScale(IReadOnlyDictionary<string, Tensor> baseState, IReadOnlyList<TaskVector> vectors, Func<IReadOnlyDictionary<string, Tensor>, double> score, IReadOnlyList<double>? alphas = null)
    {
        ArgumentNullException.ThrowIfNull(vectors);
        ArgumentNullException.ThrowIfNull(score);
        alphas ??= Alphas;
        if (vectors.Count == 0 || alphas.Count == 0) throw new ArgumentException("The search needs a task vector and a scale.", nameof(vectors));
        using var scope = NewDisposeScope();
        TaskVector sum = vectors.Aggregate((a, b) => a + b);
        List<(double Alpha, double Score)> curve = [];
        foreach (double alpha in alphas)
        {
            using var one = NewDisposeScope();
            curve.Add((alpha, score(sum.ApplyTo(baseState, alpha))));
        }
        (double best, double reached) = curve.Where(c => c.Score > double.NegativeInfinity).OrderByDescending(c => c.Score).Select(c => c).DefaultIfEmpty((double.NaN, double.NaN)).First();
        return double.IsNaN(best) ? throw new ArgumentException("Every scale is excluded.", nameof(score)) : new ScaleSearch(best, reached, curve);
    }

    /// <summary>A random direction for the comparison with task vectors: Gaussian, with the mean and the standard deviation of each base tensor (random bases of the intrinsic dimension; Li et al., ICLR 2018).</summary>
    /// <param name="baseState">Tensors of the base model by name; only floating-point ones get a direction.</param>
    /// <param name="seed">The seed.</param>
    public static TaskVector RandomVector(IReadOnlyDictionary<string, Tensor> baseState, int seed)
    {
        ArgumentNullException.ThrowIfNull(baseState);
        using var ungraphed = no_grad();
        Dictionary<string, Tensor> changes = [];
        foreach ((string name, Tensor tensor) in baseState.Where(p => p.Value.is_floating_point()))
        {
            using var scope = NewDisposeScope();
            using var generator = new Generator((ulong)Runtime.Seeds.Derive(seed, changes.Count), CPU);
            Tensor values = tensor.detach().to(float32), noise = torch.randn(values.shape, generator: generator).to(values.device);
            changes.Add(name, (noise * values.std(unbiased: false) + values.mean()).MoveToOuterDisposeScope());
        }
        return TaskVector.FromChanges(changes, name: $"random {seed}");
    }

    /// <summary>
    /// Disentanglement errors (Ortiz-Jimenez et al., NeurIPS 2023; figure 4 of Zhang et al.): the share of a task's inputs whose prediction changes when a second task vector joins the task's own, both with the composition's coefficients.
    /// The error of a pair is the mean of [i, j] and [j, i]; that of the composition is the mean over all pairs.
    /// </summary>
    /// <param name="composition">The composition; its coefficients are as before after the call.</param>
    /// <param name="inputs">Inputs of each task, in the order of the task vectors.</param>
    /// <param name="heads">The task's own head on the model's outputs; null for none.</param>
    /// <returns>[i, j]: the share of inputs of task i whose prediction vector j changes; 0 on the diagonal.</returns>
    /// <exception cref="ArgumentException">There are not as many inputs as task vectors.</exception>
    public static double[,] DisentanglementErrors(AnisotropicComposition composition, IReadOnlyList<Tensor> inputs, IReadOnlyList<Func<Tensor, Tensor>>? heads = null)
    {
        ArgumentNullException.ThrowIfNull(composition);
        ArgumentNullException.ThrowIfNull(inputs);
        int n = composition.Vectors.Count;
        if (inputs.Count != n || (heads is not null && heads.Count != n)) throw new ArgumentException($"{n} task vectors need inputs of {n} tasks, not {inputs.Count}.", nameof(inputs));
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        Tensor all = composition.Coefficients.detach().clone();
        Tensor Predictions(int task, params long[] kept)
        {
            Tensor index = tensor(kept);
            composition.Set(zeros_like(all).index_copy(0, index, all.index_select(0, index)));
            Tensor outputs = composition.Outputs(inputs[task]);
            return (heads is null ? outputs : heads[task](outputs)).argmax(1);
        }
        var errors = new double[n, n];
        for (int i = 0; i < n; i++)
        {
            Tensor own = Predictions(i, i);
            for (int j = 0; j < n; j++)
                if (j != i) errors[i, j] = Predictions(i, i, j).ne(own).to(float64).mean().item<double>();
        }
        composition.Set(all);
        return errors;
    }
}
