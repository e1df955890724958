using Priori.Data;

namespace Priori.Merging;

/// <summary>A low-rank change of a matrix, B A (LoRA; Hu et al., ICLR 2022).</summary>
/// <param name="B">[out, rank].</param>
/// <param name="A">[rank, in].</param>
public sealed record LowRankDelta(Tensor B, Tensor A)
{
    /// <summary>B A, [out, in].</summary>
    public Tensor Product() => B.matmul(A);
}

/// <summary>
/// A task vector, tau = theta_tuned - theta_base (Ilharco et al., ICLR 2023), over the floating-point tensors of a checkpoint; counters have none.
/// Changes by LoRA are kept as factors. Tensors that are not named are zero. Vectors form a space: +, -, * and the inner product.
/// </summary>
public sealed class TaskVector
{
    private readonly Dictionary<string, Tensor> _dense;
    private readonly Dictionary<string, LowRankDelta> _factors;

    private TaskVector(string name, Dictionary<string, Tensor> dense, Dictionary<string, LowRankDelta> factors)
    {
        Name = name;
        _dense = dense;
        _factors = factors;
    }

    /// <summary>What it is called, for tables and for leaving out a target's own vector.</summary>
    public string Name { get; }

    /// <summary>Names of the tensors that it changes.</summary>
    public IEnumerable<string> Keys => _dense.Keys.Concat(_factors.Keys);

    /// <summary>Changes that are kept whole, float32 or float64, by name.</summary>
    public IReadOnlyDictionary<string, Tensor> Dense => _dense;

    /// <summary>Changes that are kept as factors, by name.</summary>
    public IReadOnlyDictionary<string, LowRankDelta> Factors => _factors;

    /// <summary>tuned - base, in float32 (float64 for such tensors).</summary>
    /// <param name="baseState">Tensors of the base model by name.</param>
    /// <param name="tunedState">Tensors of the fine-tuned model: the same names and shapes.</param>
    /// <param name="name">What the vector is called.</param>
    /// <exception cref="ArgumentException">Names or shapes differ (the message gives the first that do), or no tensor is floating-point.</exception>
    public static TaskVector FromCheckpoints(IReadOnlyDictionary<string, Tensor> baseState, IReadOnlyDictionary<string, Tensor> tunedState, string name = "")
    {
        ArgumentNullException.ThrowIfNull(baseState);
        ArgumentNullException.ThrowIfNull(tunedState);
        StateDict.RequireSame(baseState, tunedState, "the base checkpoint", name.Length == 0 ? "the tuned checkpoint" : $"the tuned checkpoint '{name}'");
        string[] floating = [.. baseState.Where(p => p.Value.is_floating_point()).Select(p => p.Key)];
        if (floating.Length == 0) throw new ArgumentException("The checkpoints have no floating-point tensor in common.", nameof(tunedState));
        using var ungraphed = no_grad();
        return new TaskVector(name, floating.ToDictionary(key => key, key => Exact(tunedState[key]) - Exact(baseState[key])), []);
    }

    /// <summary>A vector of given changes.</summary>
    /// <param name="changes">Changes by the tensor's name, floating-point; not copied.</param>
    /// <param name="factors">Low-rank changes by the tensor's name; null for none.</param>
    /// <param name="name">What the vector is called.</param>
    /// <exception cref="ArgumentException">There is no change, a tensor is changed twice, is not floating-point, or factors do not fit together.</exception>
    public static TaskVector FromChanges(IReadOnlyDictionary<string, Tensor> changes, IReadOnlyDictionary<string, LowRankDelta>? factors = null, string name = "")
    {
        ArgumentNullException.ThrowIfNull(changes);
        factors ??= new Dictionary<string, LowRankDelta>();
        if (changes.Count + factors.Count == 0) throw new ArgumentException("A task vector changes at least one tensor.", nameof(changes));
        if (factors.Keys.FirstOrDefault(changes.ContainsKey) is { } twice) throw new ArgumentException($"Tensor '{twice}' is changed twice.", nameof(factors));
        if (changes.FirstOrDefault(c => !c.Value.is_floating_point()) is { Key: { } integer }) throw new ArgumentException($"The change of tensor '{integer}' is not floating-point.", nameof(changes));
        foreach ((string key, LowRankDelta f) in factors)
            if (f.B.dim() != 2 || f.A.dim() != 2 || f.B.shape[1] != f.A.shape[0])
                throw new ArgumentException($"The factors of tensor '{key}' must be B [out, rank] and A [rank, in], not [{string.Join(", ", f.B.shape)}] and [{string.Join(", ", f.A.shape)}].", nameof(factors));
        return new TaskVector(name, changes.ToDictionary(), factors.ToDictionary());
    }

    /// <summary>The vector of a LoRA adapter with the tensor names of the PEFT library (<c>base_model.model.NAME.lora_A.weight</c> and <c>lora_B</c>): scale B A for tensor <c>NAME.weight</c>.</summary>
    /// <param name="adapter">Tensors of the adapter by name.</param>
    /// <param name="scale">alpha / rank of the adapter's configuration.</param>
    /// <param name="name">What the vector is called.</param>
    /// <exception cref="ArgumentException">A factor has no partner, or a tensor is no factor.</exception>
    public static TaskVector FromLora(IReadOnlyDictionary<string, Tensor> adapter, double scale = 1, string name = "")
    {
        ArgumentNullException.ThrowIfNull(adapter);
        const string Down = ".lora_A", Up = ".lora_B", Prefix = "base_model.model.";
        var factors = new Dictionary<string, LowRankDelta>();
        using var ungraphed = no_grad();
        foreach ((string key, Tensor a) in adapter)
        {
            int at = key.IndexOf(Down, StringComparison.Ordinal);
            if (at < 0)
            {
                if (!key.Contains(Up, StringComparison.Ordinal)) throw new ArgumentException($"Tensor '{key}' is no factor of a LoRA adapter.", nameof(adapter));
                if (!adapter.ContainsKey(key.Replace(Up, Down, StringComparison.Ordinal))) throw new ArgumentException($"The adapter has '{key}' without its lora_A.", nameof(adapter));
                continue;
            }
            if (!adapter.TryGetValue(key.Replace(Down, Up, StringComparison.Ordinal), out Tensor? b)) throw new ArgumentException($"The adapter has '{key}' without its lora_B.", nameof(adapter));
            string target = key[..at] + ".weight";
            if (target.StartsWith(Prefix, StringComparison.Ordinal)) target = target[Prefix.Length..];
            factors.Add(target, new LowRankDelta(scale * Exact(b), Exact(a)));
        }
        return FromChanges(new Dictionary<string, Tensor>(), factors, name);
    }

    /// <summary>The sum.</summary>
    /// <param name="left">A vector.</param>
    /// <param name="right">Another; tensors that only one names are that one's.</param>
    public static TaskVector operator +(TaskVector left, TaskVector right)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        using var ungraphed = no_grad();
        Dictionary<string, Tensor> dense = [];
        Dictionary<string, LowRankDelta> factors = [];
        foreach (string key in left.Keys.Union(right.Keys))
        {
            LowRankDelta? f = left._factors.GetValueOrDefault(key), g = right._factors.GetValueOrDefault(key);
            bool isDense = left._dense.ContainsKey(key) || right._dense.ContainsKey(key);
            if (isDense) dense[key] = left.Delta(key) is { } x ? right.Delta(key) is { } y ? x + y.view_as(x) : x : right.Delta(key)!;
            else factors[key] = f is null ? g! : g is null ? f : new LowRankDelta(cat([f.B, g.B], 1), cat([f.A, g.A], 0));
        }
        return new TaskVector($"{left.Name}+{right.Name}", dense, factors);
    }

    /// <summary>The difference.</summary>
    /// <param name="left">A vector.</param>
    /// <param name="right">Another.</param>
    public static TaskVector operator -(TaskVector left, TaskVector right) => left + -right;

    /// <summary>The opposite: negating a task.</summary>
    /// <param name="vector">A vector.</param>
    public static TaskVector operator -(TaskVector vector) => -1 * vector;

    /// <summary>The multiple.</summary>
    /// <param name="factor">The factor.</param>
    /// <param name="vector">A vector.</param>
    public static TaskVector operator *(double factor, TaskVector vector)
    {
        ArgumentNullException.ThrowIfNull(vector);
        using var ungraphed = no_grad();
        return new TaskVector(vector.Name, vector._dense.ToDictionary(p => p.Key, p => p.Value * factor), vector._factors.ToDictionary(p => p.Key, p => p.Value with { B = p.Value.B * factor }));
    }

    /// <summary>The change of one tensor, whole ([out, in] where it is kept as factors); null if the vector does not name it.</summary>
    /// <param name="key">The tensor's name.</param>
    public Tensor? Delta(string key) => _dense.TryGetValue(key, out Tensor? dense) ? dense : _factors.TryGetValue(key, out LowRankDelta? f) ? f.Product() : null;

    /// <summary>The inner product, in float64. Factors are not multiplied out: &lt;B A, D C&gt; = sum (B^T D) * (A C^T).</summary>
    /// <param name="other">Another vector.</param>
    /// <param name="key">Only over this tensor; null for all.</param>
    public double Dot(TaskVector other, string? key = null)
    {
        ArgumentNullException.ThrowIfNull(other);
        using var ungraphed = no_grad();
        double sum = 0;
        foreach (string name in key is null ? Keys : [key])
        {
            using var scope = NewDisposeScope();
            if (_factors.TryGetValue(name, out LowRankDelta? f) && other._factors.TryGetValue(name, out LowRankDelta? g))
                sum += (f.B.to(float64).t().matmul(g.B.to(float64)) * f.A.to(float64).matmul(g.A.to(float64).t())).sum().item<double>();
            else if (Delta(name) is { } x && other.Delta(name) is { } y)
                sum += x.to(float64).flatten().dot(y.to(float64).flatten()).item<double>();
        }
        return sum;
    }

    /// <summary>The Euclidean norm.</summary>
    /// <param name="key">Only of this tensor; null for all.</param>
    public double Norm(string? key = null) => Math.Sqrt(Math.Max(0, Dot(this, key)));

    /// <summary>The cosine of the angle to another vector; 0 if one of them is zero.</summary>
    /// <param name="other">Another vector.</param>
    /// <param name="key">Only over this tensor; null for all.</param>
    public double Cosine(TaskVector other, string? key = null)
    {
        ArgumentNullException.ThrowIfNull(other);
        double norms = Norm(key) * other.Norm(key);
        return norms == 0 ? 0 : Math.Clamp(Dot(other, key) / norms, -1, 1);
    }

    /// <summary>base + alpha tau, in new tensors of the base's types; tensors that the vector does not name are copied.</summary>
    /// <param name="baseState">Tensors by name.</param>
    /// <param name="alpha">The scale.</param>
    /// <exception cref="ArgumentException">The vector changes a tensor that the base lacks or that has another shape.</exception>
    public Dictionary<string, Tensor> ApplyTo(IReadOnlyDictionary<string, Tensor> baseState, double alpha = 1)
    {
        ArgumentNullException.ThrowIfNull(baseState);
        RequireFits(baseState);
        using var ungraphed = no_grad();
        return baseState.ToDictionary(p => p.Key, p =>
        {
            using var scope = NewDisposeScope();
            return (Delta(p.Key) is { } delta ? Exact(p.Value).add(delta.view(p.Value.shape).to(p.Value.device), alpha).to(p.Value.dtype) : p.Value.detach().clone()).MoveToOuterDisposeScope();
        });
    }

    internal void RequireFits(IReadOnlyDictionary<string, Tensor> state)
    {
        string Called() => Name.Length == 0 ? "The task vector" : $"Task vector '{Name}'";
        string[] unknown = [.. Keys.Where(key => !state.ContainsKey(key))];
        if (unknown.Length > 0)
            throw new ArgumentException($"{Called()} changes {string.Join(", ", unknown.Take(3).Select(key => $"'{key}'"))}{(unknown.Length > 3 ? $" and {unknown.Length - 3} more" : "")}, which the model does not have.");
        foreach (string key in Keys)
        {
            long[] shape = state[key].shape;
            if (_dense.TryGetValue(key, out Tensor? dense) && !dense.shape.AsSpan().SequenceEqual(shape))
                throw new ArgumentException($"{Called()} has [{string.Join(", ", dense.shape)}] for '{key}', which is [{string.Join(", ", shape)}] in the model.");
            if (_factors.TryGetValue(key, out LowRankDelta? f) && (shape.Length < 2 || f.B.shape[0] != shape[0] || f.A.shape[1] != shape.Skip(1).Aggregate(1L, (a, b) => a * b)))
                throw new ArgumentException($"{Called()} has factors [{string.Join(", ", f.B.shape)}] and [{string.Join(", ", f.A.shape)}] for '{key}', which is [{string.Join(", ", shape)}] in the model.");
        }
    }

    private static Tensor Exact(Tensor tensor) => tensor.detach().to(tensor.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32);
}
