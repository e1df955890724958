using Priori.Nn;
using Priori.Runtime;
using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Merging;

/// <summary>How finely task vectors are scaled.</summary>
public abstract record Granularity
{
    private Granularity()
    {
    }

    /// <summary>One coefficient for each task vector (isotropic scaling).</summary>
    public static Granularity Global { get; } = new WholeVector();

    /// <summary>One coefficient for each task vector and parameter tensor: aTLAS.</summary>
    public static Granularity Block { get; } = new Partitioned(1);

    /// <summary>aTLAS x K: the elements of every tensor are split at random into K groups with a coefficient each. Tensors of fewer than K elements leave groups unused.</summary>
    /// <param name="groups">K, at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">K is below 1.</exception>
    public static Granularity Partition(int groups)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(groups, 1);
        return new Partitioned(groups);
    }

    internal sealed record WholeVector : Granularity;

    internal sealed record Partitioned(int Groups) : Granularity;
}

/// <summary>
/// A model whose weights are a learned combination of task vectors, theta^(j) = theta_0^(j) + sum_i lambda_i^(j) tau_i^(j) (Zhang et al., NeurIPS 2024, eq. 2).
/// A block j is one named parameter. Only the coefficients are trained; the base weights and task vectors are fixed, and buffers (batch normalisation) are those of the base.
/// The composed values are put into the parameters of the module itself, so any module will do: gradients of the coefficients are
/// inner products of the parameters' gradients with the task vectors, d L / d lambda_i^(j) = &lt;d L / d theta^(j), tau_i^(j)&gt;, one matrix-vector product a block.
/// </summary>
public class AnisotropicComposition : Module<Tensor, Tensor>
{
    private const string CoefficientsName = "coefficients";
    private readonly Module _model;
    private readonly List<CompositionBlock> _blocks = [];
    private readonly int _groups;

    /// <summary>Begins at the base model: all coefficients are 0.</summary>
    /// <param name="model">The base model, whose present parameters are theta_0. It stays the caller's; its parameters are overwritten by composed values and no longer require gradients.</param>
    /// <param name="vectors">The n task vectors, at least one, over parameters of the model; entries for its buffers are not used.</param>
    /// <param name="granularity">What has a coefficient of its own; <see cref="Granularity.Block"/> by default.</param>
    /// <param name="matricesOnly">Whether tensors of one axis (biases, normalisations) keep their base values: the variant "weight matrices only".</param>
    /// <param name="seed">Seed of the random split for <see cref="Granularity.Partition"/>; every tensor has a split of its own.</param>
    /// <param name="storage">Type in which task vectors are held, for example a half precision; float32 (float64 for such parameters), in which they are composed, when null.</param>
    /// <exception cref="ArgumentException">There is no vector, one does not fit the model, or none changes a parameter.</exception>
    public AnisotropicComposition(Module model, IReadOnlyList<TaskVector> vectors, Granularity? granularity = null, bool matricesOnly = false, int seed = 0, ScalarType? storage = null)
        : base(nameof(AnisotropicComposition))
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(vectors);
        if (vectors.Count == 0) throw new ArgumentException("A composition needs at least one task vector.", nameof(vectors));
        Dictionary<string, Tensor> state = model.state_dict();
        foreach (TaskVector vector in vectors) vector.RequireFits(state);
        _model = model;
        Vectors = [.. vectors];
        Granularity = granularity ?? Granularity.Block;
        _groups = Granularity is Granularity.Partitioned { Groups: var groups } ? groups : 1;
        using var ungraphed = no_grad();
        Dictionary<string, Parameter> parameters = model.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        foreach (Parameter parameter in parameters.Values) parameter.requires_grad = false;
        foreach (string name in BlocksOf(model, vectors, matricesOnly)) _blocks.Add(new CompositionBlock(name, parameters[name], vectors, _groups, Seeds.Derive(seed, _blocks.Count), storage));
        if (_blocks.Count == 0) throw new ArgumentException("No task vector changes a parameter of the model.", nameof(vectors));
        Device device = _blocks[0].Parameter.device;
        long n = vectors.Count, m = _blocks.Count;
        Tensor start = Granularity is Granularity.WholeVector ? zeros(n, device: device) : _groups == 1 ? zeros([n, m], device: device) : zeros([n, m, _groups], device: device);
        register_parameter(CoefficientsName, new Parameter(start.DetachFromDisposeScope()));
    }

    /// <summary>The coefficients Lambda: [n] (global), [n, blocks], or [n, blocks, K]. The only thing to train.</summary>
    public Parameter Coefficients => get_parameter(CoefficientsName)!;

    /// <summary>The task vectors.</summary>
    public IReadOnlyList<TaskVector> Vectors { get; }

    /// <summary>What has a coefficient of its own.</summary>
    public Granularity Granularity { get; }

    /// <summary>Names of the blocks, in the order of the coefficients' second axis.</summary>
    public IReadOnlyList<string> Blocks => [.. _blocks.Select(b => b.Name)];

    /// <summary>Names of the blocks of a composition: the model's floating-point parameters that a vector changes, in the order of the model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="vectors">The task vectors.</param>
    /// <param name="matricesOnly">Whether tensors of one axis are left out.</param>
    public static IReadOnlyList<string> BlocksOf(Module model, IReadOnlyList<TaskVector> vectors, bool matricesOnly = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(vectors);
        return [.. model.named_parameters().Where(p => p.parameter.is_floating_point() && (!matricesOnly || p.parameter.dim() > 1) && vectors.Any(v => v.Dense.ContainsKey(p.name) || v.Factors.ContainsKey(p.name))).Select(p => p.name)];
    }

    /// <summary>The random split of <see cref="Granularity.Partition"/>: the group of each element by block, of the block's shape; it follows from the seed. Empty for one group.</summary>
    public IReadOnlyDictionary<string, Tensor> Masks => _groups == 1 ? new Dictionary<string, Tensor>() : _blocks.ToDictionary(b => b.Name, b => b.Mask!.view(b.Parameter.shape));

    /// <summary>The module that carries the composed weights.</summary>
    public Module Model => _model;

    /// <summary>The coefficients of every block, also where blocks share them: [n, blocks, K], a copy.</summary>
    public Tensor BlockCoefficients()
    {
        using var ungraphed = no_grad();
        return Expanded().clone();
    }

    /// <summary>Sets the coefficients.</summary>
    /// <param name="values">A tensor that expands to the shape of <see cref="Coefficients"/>.</param>
    public void Set(Tensor values)
    {
        using var ungraphed = no_grad();
        Coefficients.copy_(values);
    }

    /// <summary>The composed parameters of all blocks by name, in new tensors of the parameters' types.</summary>
    public Dictionary<string, Tensor> Compose()
    {
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        Tensor coefficients = Expanded();
        return _blocks.Select((block, j) => (block, Value: block.Value(coefficients.select(1, j)).view(block.Parameter.shape).to(block.Parameter.dtype).MoveToOuterDisposeScope()))
            .ToDictionary(p => p.block.Name, p => p.Value);
    }

    /// <summary>Puts the composed values into the model's parameters, for use of the model itself.</summary>
    public virtual void Install()
    {
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        Tensor coefficients = Expanded();
        for (int j = 0; j < _blocks.Count; j++) _blocks[j].Parameter.copy_(_blocks[j].Value(coefficients.select(1, j)).view(_blocks[j].Parameter.shape));
    }

    /// <summary>Puts the base weights back into the model.</summary>
    public void Restore()
    {
        using var ungraphed = no_grad();
        foreach (CompositionBlock block in _blocks) block.Parameter.copy_(block.Base.view(block.Parameter.shape));
    }

    /// <summary>Outputs of the composed model, without gradients; to learn, use <see cref="Loss(Func{Func{Tensor, Tensor}, Tensor})"/>.</summary>
    /// <param name="input">Inputs of the model.</param>
    /// <exception cref="InvalidOperationException">The model is not a module of one tensor.</exception>
    public override Tensor forward(Tensor input)
    {
        using var ungraphed = no_grad();
        Install();
        return Single.call(input);
    }

    /// <summary>Outputs of the composed model for many inputs, batch by batch in evaluation mode, without gradients, on the device of the inputs.</summary>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <param name="batchSize">Inputs a batch.</param>
    public virtual Tensor Outputs(Tensor inputs, int batchSize = 256)
    {
        Install();
        return Inference.Outputs(Single, inputs, batchSize);
    }

    /// <summary>
    /// A loss of the composed model as a scalar whose gradient reaches the coefficients (and nothing else): minimise it with any optimizer.
    /// </summary>
    /// <param name="loss">Computes a scalar from the model's function, which it may call several times.</param>
    /// <exception cref="InvalidOperationException">The model is not a module of one tensor.</exception>
    public virtual Tensor Loss(Func<Func<Tensor, Tensor>, Tensor> loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        Module<Tensor, Tensor> model = Single;
        return Loss(() => loss(model.call));
    }

    /// <summary>As <see cref="Loss(Func{Func{Tensor, Tensor}, Tensor})"/>, for modules of any signature: the function calls the model itself, whose parameters hold the composed values.</summary>
    /// <param name="loss">Computes a scalar with the model.</param>
    public Tensor Loss(Func<Tensor> loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        using var graphed = enable_grad();
        Install();
        Tensor value = WithGradients(loss);
        return Gradients.With(value, [Coefficients], [TakeGradient()]);
    }

    /// <summary>The composed model as one checkpoint: all parameters and buffers, in new tensors.</summary>
    public virtual Dictionary<string, Tensor> Fold()
    {
        Dictionary<string, Tensor> composed = Compose();
        using var ungraphed = no_grad();
        return _model.state_dict().ToDictionary(p => p.Key, p => composed.TryGetValue(p.Key, out Tensor? value) ? value : p.Value.detach().clone());
    }

    private protected Module<Tensor, Tensor> Single => _model as Module<Tensor, Tensor> ?? throw new InvalidOperationException("The model is not a module of one tensor: call it within Loss(() => ...).");

    private protected IReadOnlyList<Parameter> Parameters => [.. _blocks.Select(b => b.Parameter)];

    // sum_i lambda_i tau_i of each block, of its parameter's shape.
    private protected Tensor[] Changes()
    {
        using var ungraphed = no_grad();
        Tensor coefficients = Expanded();
        return [.. _blocks.Select((block, j) => (block.Value(coefficients.select(1, j)) - block.Base).view(block.Parameter.shape))];
    }

    // Runs a loss and its differentiation with the blocks' parameters as the only leaves; their gradients stay in them until they are taken.
    private Tensor WithGradients(Func<Tensor> loss)
    {
        foreach (CompositionBlock block in _blocks)
        {
            block.Parameter.grad = null;
            block.Parameter.requires_grad = true;
        }
        try
        {
            Tensor value = loss();
            if (value.requires_grad) value.backward();
            return value.detach();
        }
        finally
        {
            foreach (CompositionBlock block in _blocks) block.Parameter.requires_grad = false;
        }
    }

    // d L / d Lambda from the gradients of the parameters, which are dropped.
    private protected Tensor TakeGradient()
    {
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        List<Tensor> columns = [];
        foreach (CompositionBlock block in _blocks)
        {
            columns.Add(block.Parameter.grad is { } gradient ? block.Gradient(gradient).to(float32) : zeros([Vectors.Count, _groups], device: Coefficients.device));
            block.Parameter.grad = null;
        }
        Tensor all = stack(columns, 1); // [n, blocks, K]
        return (Granularity is Granularity.WholeVector ? all.sum([1, 2]) : all.view(Coefficients.shape)).MoveToOuterDisposeScope();
    }

    private Tensor Expanded() => Granularity is Granularity.WholeVector ? Coefficients.view(-1, 1, 1).expand(-1, _blocks.Count, 1) : Coefficients.view(Vectors.Count, _blocks.Count, _groups);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
            foreach (CompositionBlock block in _blocks) block.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>
/// One block of a composition: the base values and the task vectors' changes, stacked. With K groups the elements are sorted by group, so that each group is a range and has its own matrix-vector product.
/// </summary>
internal sealed class CompositionBlock : IDisposable
{
    private readonly int _vectors, _groups;
    private readonly long[] _dense; // The vectors that are stacked; others are zero here, or low-rank.
    private readonly Tensor[] _stacks; // For each group [dense vectors, elements of the group].
    private readonly Tensor? _denseIndex, _order, _inverse;
    private readonly List<(int Vector, LowRankDelta Delta)> _lowRank = [];

    public CompositionBlock(string name, Parameter parameter, IReadOnlyList<TaskVector> vectors, int groups, int seed, ScalarType? storage)
    {
        Name = name;
        Parameter = parameter;
        _vectors = vectors.Count;
        _groups = groups;
        ScalarType exact = parameter.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
        Device device = parameter.device;
        Base = parameter.detach().to(exact).flatten().clone().DetachFromDisposeScope();
        _dense = [.. Enumerable.Range(0, vectors.Count).Where(i => vectors[i].Dense.ContainsKey(name)).Select(i => (long)i)];
        for (int i = 0; i < vectors.Count; i++)
            if (vectors[i].Factors.TryGetValue(name, out LowRankDelta? f)) _lowRank.Add((i, new LowRankDelta(f.B.to(exact, device).DetachFromDisposeScope(), f.A.to(exact, device).DetachFromDisposeScope())));
        if (_dense.Length > 0 && _dense.Length < vectors.Count) _denseIndex = tensor(_dense, device: device).DetachFromDisposeScope();
        using var scope = NewDisposeScope();
        Tensor? stacked = _dense.Length == 0 ? null : stack(_dense.Select(i => vectors[(int)i].Dense[name].to(storage ?? exact, device).flatten()));
        if (groups == 1)
        {
            _stacks = stacked is null ? [] : [stacked.DetachFromDisposeScope()];
            return;
        }
        using var generator = new Generator((ulong)seed, CPU);
        Tensor groupOf = randint(groups, [Base.numel()], ScalarType.Int64, generator: generator);
        Mask = groupOf.to(groups <= 256 ? ScalarType.Byte : ScalarType.Int32).to(device).DetachFromDisposeScope();
        (_, Tensor order) = groupOf.sort(stable: true);
        _order = order.to(device).DetachFromDisposeScope();
        _inverse = order.argsort().to(device).DetachFromDisposeScope();
        Tensor? sorted = stacked?.index_select(1, _order);
        long[] sizes = [.. Enumerable.Range(0, groups).Select(g => groupOf.eq(g).sum().item<long>())];
        _stacks = new Tensor[sorted is null ? 0 : groups];
        for (long g = 0, start = 0; g < _stacks.Length; start += sizes[g], g++) _stacks[g] = sorted!.narrow(1, start, sizes[g]).contiguous().DetachFromDisposeScope();
    }

    public string Name { get; }

    public Parameter Parameter { get; }

    /// <summary>theta_0, [elements], float32 (float64 for such parameters).</summary>
    public Tensor Base { get; }

    /// <summary>The group of each element, [elements]; null for one group.</summary>
    public Tensor? Mask { get; }

    /// <summary>theta_0 + sum_i lambda_i tau_i, [elements], for coefficients [n, K].</summary>
    public Tensor Value(Tensor coefficients)
    {
        Tensor value = Base, lambda = coefficients.to(Base.dtype);
        if (_dense.Length > 0)
        {
            Tensor dense = _denseIndex is null ? lambda : lambda.index_select(0, _denseIndex);
            value = _order is null
                ? value.addmv(Exact(_stacks[0]).t(), dense.select(1, 0), 1, 1)
                : value + cat([.. _stacks.Select((s, g) => Exact(s).t().mv(dense.select(1, g)))], 0).index_select(0, _inverse!);
        }
        foreach ((int i, LowRankDelta delta) in _lowRank)
            value = _order is null
                ? (value.view(delta.B.shape[0], -1) + delta.B.matmul(delta.A * lambda[i, 0])).flatten()
                : value + delta.Product().flatten() * lambda[i].index_select(0, Mask!.to(int64));
        return value;
    }

    /// <summary>&lt;gradient, tau_i&gt; in each group, [n, K], for a gradient of the parameter's shape.</summary>
    public Tensor Gradient(Tensor gradient)
    {
        Tensor flat = gradient.to(Base.dtype).flatten();
        Tensor result = zeros([_vectors, _groups], Base.dtype, Base.device);
        if (_dense.Length > 0)
        {
            Tensor dense;
            if (_order is null) dense = Exact(_stacks[0]).mv(flat).unsqueeze(1);
            else
            {
                Tensor sorted = flat.index_select(0, _order);
                long start = 0;
                dense = stack([.. _stacks.Select(s => Exact(s).mv(sorted.narrow(0, (start += s.shape[1]) - s.shape[1], s.shape[1])))], 1);
            }
            result = _denseIndex is null ? dense : result.index_copy(0, _denseIndex, dense);
        }
        foreach ((int i, LowRankDelta delta) in _lowRank)
            if (_order is null) result[i, 0] = (delta.B.t().matmul(flat.view(delta.B.shape[0], -1)) * delta.A).sum(); // <G, B A> = <B^T G, A>
            else result[i] = zeros(_groups, Base.dtype, Base.device).index_add(0, Mask!.to(int64), delta.Product().flatten() * flat, 1);
        return result;
    }

    public void Dispose()
    {
        foreach (Tensor? tensor in (Tensor?[])[Base, Mask, _denseIndex, _order, _inverse, .. _stacks, .. _lowRank.SelectMany(l => new[] { l.Delta.B, l.Delta.A })]) tensor?.Dispose();
    }

    private Tensor Exact(Tensor stack) => stack.to(Base.dtype);
}
