using TorchSharp.Modules;
using F = TorchSharp.torch.nn.functional;

namespace Priori.Nn;

/// <summary>
/// The module of an <see cref="Nn.Architecture"/>. Its layers are TorchSharp's own modules, registered under the names of the description,
/// so that checkpoints of other libraries with the same names load and forward hooks work.
/// </summary>
public sealed class Network : Module<Tensor, Tensor>
{
    private readonly Dictionary<string, Func<IReadOnlyList<Tensor>, Tensor>> _operations = [];
    private readonly string[][] _inputs;
    private readonly string[][] _lastUsed;

    /// <summary>Builds the network with PyTorch's default initialisation.</summary>
    /// <param name="architecture">The description.</param>
    /// <exception cref="ArgumentException">Layers do not fit together.</exception>
    public Network(Architecture architecture) : base(nameof(Network))
    {
        ArgumentNullException.ThrowIfNull(architecture);
        Architecture = architecture;
        IReadOnlyDictionary<string, long[]> shapes = architecture.Shapes();
        var scopes = new Dictionary<string, Module> { [""] = this };
        _inputs = [.. Enumerable.Range(0, architecture.Layers.Count).Select(i => architecture.InputsOf(i).ToArray())];
        var last = new Dictionary<string, int>();
        for (int i = 0; i < _inputs.Length; i++)
            foreach (string name in _inputs[i].Where(n => n != Architecture.InputName)) last[name] = i;
        _lastUsed = [.. _inputs.Select((_, i) => last.Where(p => p.Value == i).Select(p => p.Key).ToArray())];
        for (int i = 0; i < architecture.Layers.Count; i++)
            _operations[architecture.Layers[i].Name] = Operation(architecture.Layers[i], shapes[_inputs[i][0]], scopes);
        RegisterComponents();
    }

    /// <summary>The description of this network.</summary>
    public Architecture Architecture { get; }

    /// <summary>The layers with weights that TorchSharp has as modules, by their name in the description.</summary>
    public IReadOnlyDictionary<string, Module<Tensor, Tensor>> WeightedLayers => _weighted;

    private readonly Dictionary<string, Module<Tensor, Tensor>> _weighted = [];

    /// <summary>The output of the last layer.</summary>
    /// <param name="input">[batch, ...] with the input shape of the architecture.</param>
    public override Tensor forward(Tensor input) => Evaluate(input, Architecture.Layers[^1].Name);

    /// <summary>The output of a layer; later layers are not computed.</summary>
    /// <param name="input">[batch, ...] with the input shape of the architecture.</param>
    /// <param name="layer">Name of the layer, for example the one before the head for features.</param>
    /// <exception cref="ArgumentException">No layer has this name, or the input has another shape.</exception>
    public Tensor Evaluate(Tensor input, string layer) => Evaluate(input, [layer])[0];

    /// <summary>The outputs of several layers in one pass; layers after the last of them are not computed.</summary>
    /// <param name="input">[batch, ...] with the input shape of the architecture.</param>
    /// <param name="layers">Names of layers, at least one.</param>
    /// <returns>Their outputs in the same order.</returns>
    /// <exception cref="ArgumentException">No layer has one of these names, none is given, or the input has another shape.</exception>
    public IReadOnlyList<Tensor> Evaluate(Tensor input, IReadOnlyList<string> layers)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(layers);
        if (layers.Count == 0) throw new ArgumentException("Name at least one layer.", nameof(layers));
        if (layers.FirstOrDefault(l => !_operations.ContainsKey(l)) is { } unknown) throw new ArgumentException($"No layer is named '{unknown}'.", nameof(layers));
        if (!input.shape.AsSpan(1).SequenceEqual([.. Architecture.Input]))
            throw new ArgumentException($"The input is [{string.Join(", ", input.shape)}]; the network takes [batch, {string.Join(", ", Architecture.Input)}].", nameof(input));
        return Run(new Dictionary<string, Tensor> { [Architecture.InputName] = input }, 0, layers);
    }

    /// <summary>The output of a layer, given that of an earlier one: only the layers after <paramref name="from"/> are computed. So a value can be changed on its way, for example tokens added.</summary>
    /// <param name="value">What layer <paramref name="from"/> gave; it stays the caller's.</param>
    /// <param name="from">Name of the earlier layer.</param>
    /// <param name="layer">Name of the layer.</param>
    /// <exception cref="ArgumentException">No layer has one of the names, or a layer between them reads one before <paramref name="from"/>.</exception>
    public Tensor EvaluateFrom(Tensor value, string from, string layer)
    {
        ArgumentNullException.ThrowIfNull(value);
        return EvaluateFrom(new Dictionary<string, Tensor> { [from] = value }, [layer])[0];
    }

    /// <summary>The outputs of several layers, given the values of earlier ones that together cut the network: no later layer reads another value from before the last of them.</summary>
    /// <param name="values">Values by the name of their layer (or <c>input</c>), at least one; they stay the caller's.</param>
    /// <param name="layers">Names of layers, at least one; given ones are handed back.</param>
    /// <returns>Their outputs in the same order.</returns>
    /// <exception cref="ArgumentException">No layer has one of the names, one is neither given nor after the given ones, or a layer reads a value from before that is not given.</exception>
    public IReadOnlyList<Tensor> EvaluateFrom(IReadOnlyDictionary<string, Tensor> values, IReadOnlyList<string> layers)
    {
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(layers);
        if (values.Count == 0) throw new ArgumentException("Give at least one value.", nameof(values));
        if (layers.Count == 0) throw new ArgumentException("Name at least one layer.", nameof(layers));
        int start = values.Keys.Max(n => n == Architecture.InputName ? -1 : Position(n)) + 1;
        string[] wanted = [.. layers.Where(l => !values.ContainsKey(l))];
        string given = string.Join("', '", values.Keys);
        if (wanted.FirstOrDefault(l => Position(l) < start) is { } early) throw new ArgumentException($"Layer '{early}' does not come after '{given}'.", nameof(layers));
        int end = wanted.Length == 0 ? -1 : wanted.Max(Position);
        var known = values.Keys.ToHashSet();
        for (int i = start; i <= end; known.Add(Architecture.Layers[i++].Name))
            if (_inputs[i].FirstOrDefault(n => !known.Contains(n)) is { } before) throw new ArgumentException($"Layer '{Architecture.Layers[i].Name}' reads '{before}', which comes before '{given}'.", nameof(values));
        return Run(new Dictionary<string, Tensor>(values), start, layers);
    }

    private int Position(string layer)
    {
        for (int i = 0; i < Architecture.Layers.Count; i++)
            if (Architecture.Layers[i].Name == layer) return i;
        throw new ArgumentException($"No layer is named '{layer}'.", nameof(layer));
    }

    private IReadOnlyList<Tensor> Run(Dictionary<string, Tensor> values, int start, IReadOnlyList<string> layers)
    {
        HashSet<string> kept = [.. values.Keys, .. layers], missing = [.. layers.Where(l => !values.ContainsKey(l))];
        for (int i = start; missing.Count > 0; i++)
        {
            string name = Architecture.Layers[i].Name;
            Tensor value = values[name] = _operations[name](Array.ConvertAll(_inputs[i], n => values[n]));
            missing.Remove(name);
            if (missing.Count == 0) break;
            foreach (string done in _lastUsed[i])
                if (!kept.Contains(done) && !ReferenceEquals(values[done], value)) values[done].Dispose();
        }
        return [.. layers.Select(l => values[l])];
    }

    /// <summary>Copies of all tensors by name (a checkpoint), detached, on the network's device.</summary>
    public Dictionary<string, Tensor> State() => state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());

    /// <summary>Loads a checkpoint. Counters of batch normalisation (<c>num_batches_tracked</c>) may be missing.</summary>
    /// <param name="state">Tensors by name.</param>
    /// <exception cref="ArgumentException">A tensor is missing, unknown or of another shape; the message names the first.</exception>
    public Network Load(IReadOnlyDictionary<string, Tensor> state)
    {
        ArgumentNullException.ThrowIfNull(state);
        Dictionary<string, Tensor> own = state_dict();
        if (state.Keys.FirstOrDefault(k => !own.ContainsKey(k)) is { } unknown) throw new ArgumentException($"The checkpoint has a tensor '{unknown}' that the architecture has no place for.", nameof(state));
        using (no_grad())
            foreach ((string name, Tensor target) in own)
            {
                if (!state.TryGetValue(name, out Tensor? source))
                {
                    if (name.EndsWith(".num_batches_tracked", StringComparison.Ordinal)) continue;
                    throw new ArgumentException($"The checkpoint has no tensor '{name}', which the architecture needs.", nameof(state));
                }
                if (!source.shape.AsSpan().SequenceEqual(target.shape))
                    throw new ArgumentException($"Tensor '{name}' is [{string.Join(", ", source.shape)}] in the checkpoint and [{string.Join(", ", target.shape)}] in the architecture.", nameof(state));
                target.copy_(source);
            }
        return this;
    }

    private Func<IReadOnlyList<Tensor>, Tensor> Operation(Layer layer, long[] input, Dictionary<string, Module> scopes)
    {
        long units = Architecture.UnitCount(input);
        Func<IReadOnlyList<Tensor>, Tensor> Call(Module<Tensor, Tensor> module)
        {
            (Module scope, string leaf) = Place(layer.Name, scopes);
            scope.register_module(leaf, module);
            _weighted[layer.Name] = module;
            return x => module.call(x[0]);
        }
        Func<Tensor> Learned(params long[] shape)
        {
            (Module scope, string leaf) = Place(layer.Name, scopes);
            scope.register_parameter(leaf, new Parameter(init.normal_(empty(shape), 0, 0.02))); // ViT's initialisation
            return () => scope.get_parameter(leaf)!; // looked up, because to(device) replaces it
        }
        switch (layer.Kind)
        {
            case LayerKind.Linear: return Call(nn.Linear(units, layer.Width, layer.Bias));
            case LayerKind.Conv2d: return Call(nn.Conv2d(units, layer.Width, layer.Kernel, layer.Stride, layer.Padding, layer.Dilation, groups: layer.Groups, bias: layer.Bias));
            case LayerKind.BatchNorm: return Call(input.Length == 1 ? nn.BatchNorm1d(units, layer.Epsilon) : nn.BatchNorm2d(units, layer.Epsilon));
            case LayerKind.LayerNorm: return Call(nn.LayerNorm(units, layer.Epsilon));
            case LayerKind.Relu: return x => F.relu(x[0]);
            case LayerKind.Gelu: return x => F.gelu(x[0]);
            case LayerKind.Silu: return x => F.silu(x[0]);
            case LayerKind.Tanh: return x => x[0].tanh();
            case LayerKind.Add: return x => x.Skip(1).Aggregate(x[0], (sum, next) => sum + next);
            case LayerKind.Concat: return x => cat([.. x], 1);
            case LayerKind.Flatten: return x => x[0].flatten(1);
            case LayerKind.MaxPool: return x => F.max_pool2d(x[0], layer.Kernel, layer.Stride, layer.Padding);
            case LayerKind.AvgPool: return x => F.avg_pool2d(x[0], layer.Kernel, layer.Stride, layer.Padding);
            case LayerKind.GlobalAvgPool: return x => x[0].mean([2, 3]);
            case LayerKind.Attention: return x => Attend(x.Count == 1 ? x[0].chunk(3, 2) : x, layer.Heads);
            case LayerKind.Tokens: return x => x[0].flatten(2).transpose(1, 2);
            case LayerKind.ClassToken:
                Func<Tensor> token = Learned(1, 1, units);
                return x => cat([token().expand(x[0].shape[0], 1, -1), x[0]], 1);
            case LayerKind.Position:
                Func<Tensor> positions = Learned(1, input[0], units);
                return x => x[0] + positions();
            case LayerKind.FirstToken: return x => x[0].select(1, 0);
            case LayerKind.MeanTokens: return x => x[0].mean([1]);
            default: throw new ArgumentException($"Layer '{layer.Name}' has the unknown kind {layer.Kind}.");
        }
    }

    private static Tensor Attend(IReadOnlyList<Tensor> x, long heads)
    {
        Tensor Split(Tensor t) => t.view(t.shape[0], t.shape[1], heads, -1).transpose(1, 2);
        Tensor query = Split(x[0]), key = Split(x[1]), value = Split(x[2]);
        Tensor scores = query.matmul(key.transpose(2, 3)) / Math.Sqrt(query.shape[3]);
        return scores.softmax(-1).matmul(value).transpose(1, 2).flatten(2);
    }

    // TorchSharp's modules may not have dots in their names, so "layer1.0.conv1" is conv1 in 0 in layer1.
    private static (Module Scope, string Leaf) Place(string name, Dictionary<string, Module> scopes)
    {
        int dot = name.LastIndexOf('.');
        string path = dot < 0 ? "" : name[..dot];
        if (!scopes.TryGetValue(path, out Module? scope))
        {
            (Module parent, string leaf) = Place(path, scopes);
            parent.register_module(leaf, scopes[path] = scope = new Scope(path));
        }
        return (scope, name[(dot + 1)..]);
    }

    private sealed class Scope(string name) : Module(name);
}
