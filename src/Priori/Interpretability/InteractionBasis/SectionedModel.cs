using Priori.Nn;

namespace Priori.Interpretability;

/// <summary>A linear map and, if <paramref name="Relu"/>, the ReLU after it: max(0, x W^T + b). Such sections have closed forms.</summary>
/// <param name="Weight">W [outputs, inputs].</param>
/// <param name="Bias">b [outputs]; null for none.</param>
/// <param name="Relu">Whether a ReLU follows.</param>
public sealed record LinearSection(Tensor Weight, Tensor? Bias, bool Relu)
{
    /// <summary>The section's function.</summary>
    /// <param name="x">[n, inputs].</param>
    public Tensor Apply(Tensor x)
    {
        Tensor y = functional.linear(x, Weight, Bias);
        return Relu ? y.relu() : y;
    }

    /// <summary>1 where the ReLU is on, [n, outputs]; ones without one.</summary>
    /// <param name="x">[n, inputs].</param>
    public Tensor Mask(Tensor x)
    {
        Tensor y = functional.linear(x, Weight, Bias);
        return Relu ? y.gt(0).to(y.dtype) : ones_like(y);
    }
}

/// <summary>
/// A network cut into sections: node layer l has the activation f^l, and section l maps f^l to f^(l+1). Activations are [n, d], or [n, positions, d] in networks over sequences; a cut through several
/// streams is their concatenation. Everything is computed in double precision on the CPU, as eigenvectors need it.
/// </summary>
public sealed class SectionedModel
{
    private readonly Func<Tensor, Tensor> _first;

    /// <summary>Cuts given by functions.</summary>
    /// <param name="nodes">Names of the node layers, at least two.</param>
    /// <param name="sections">Section l from node layer l to l + 1, one fewer than the nodes. Rows of a batch are independent.</param>
    /// <param name="first">From the inputs of the network to the first node layer; the identity when null.</param>
    /// <param name="linear">The section as a linear map with or without ReLU, where it is one.</param>
    /// <exception cref="ArgumentException">The numbers of nodes and sections do not fit.</exception>
    public SectionedModel(IReadOnlyList<string> nodes, IReadOnlyList<Func<Tensor, Tensor>> sections, Func<Tensor, Tensor>? first = null, IReadOnlyList<LinearSection?>? linear = null)
    {
        ArgumentNullException.ThrowIfNull(nodes);
        ArgumentNullException.ThrowIfNull(sections);
        if (nodes.Count < 2) throw new ArgumentException($"At least two node layers are needed, not {nodes.Count}.", nameof(nodes));
        if (sections.Count != nodes.Count - 1) throw new ArgumentException($"{nodes.Count} node layers have {nodes.Count - 1} sections between them, not {sections.Count}.", nameof(sections));
        if (linear is not null && linear.Count != sections.Count) throw new ArgumentException($"{linear.Count} linear forms for {sections.Count} sections.", nameof(linear));
        (Nodes, Sections, _first) = (nodes, sections, first ?? (x => x));
        Linear = linear ?? new LinearSection?[sections.Count];
        Isolated = [.. nodes.Select(_ => Array.Empty<int>())];
        Constants = [.. sections.Select(_ => Array.Empty<Tensor>())];
    }

    /// <summary>Ending of a cut through the middle of a layer normalisation.</summary>
    private const string NormInput = ".in";

    /// <summary>Coordinates of each node layer that no basis mixes with others, like the constant: the variances of layer normalisations that are cut in two.</summary>
    public IReadOnlyList<IReadOnlyList<int>> Isolated { get; init; }

    /// <summary>Parameters of each section that multiply the constant 1 (biases), in double precision.</summary>
    public IReadOnlyList<IReadOnlyList<Tensor>> Constants { get; init; }

    /// <summary>Modules in a row; module l is section l. They must be in double precision (<c>module.to(ScalarType.Float64)</c>) and in evaluation mode.</summary>
    /// <param name="nodes">Names of the node layers, one more than modules.</param>
    /// <param name="modules">The sections.</param>
    /// <param name="first">From the inputs to the first node layer; the identity when null.</param>
    /// <exception cref="ArgumentException">A parameter is not float64, or the numbers of nodes and modules do not fit.</exception>
    public static SectionedModel Of(IReadOnlyList<string> nodes, IReadOnlyList<Module<Tensor, Tensor>> modules, Module<Tensor, Tensor>? first = null)
    {
        ArgumentNullException.ThrowIfNull(modules);
        foreach (Module module in modules)
            foreach ((string name, TorchSharp.Modules.Parameter parameter) in module.named_parameters())
                if (parameter.dtype != ScalarType.Float64) throw new ArgumentException($"Parameter '{name}' is {parameter.dtype}; convert the modules with to(ScalarType.Float64).", nameof(modules));
        static LinearSection? Known(Module module) => module switch
        {
            TorchSharp.Modules.Linear linear => new LinearSection(linear.weight!.detach(), linear.bias?.detach(), false),
            TorchSharp.Modules.Sequential sequence => sequence.children().ToArray() switch
            {
                [TorchSharp.Modules.Linear linear] => Known(linear),
                [TorchSharp.Modules.Linear linear, TorchSharp.Modules.ReLU] => new LinearSection(linear.weight!.detach(), linear.bias?.detach(), true),
                _ => null,
            },
            _ => null,
        };
        return new SectionedModel(nodes, [.. modules.Select(m => (Func<Tensor, Tensor>)m.call)], first is null ? null : first.call, [.. modules.Select(Known)])
        {
            Constants = [.. modules.Select(m => (IReadOnlyList<Tensor>)[.. m.named_parameters().Where(p => p.name == "bias" || p.name.EndsWith(".bias", StringComparison.Ordinal)).Select(p => (Tensor)p.parameter)])],
        };
    }

    /// <summary>Names of the node layers.</summary>
    public IReadOnlyList<string> Nodes { get; }

    /// <summary>Functions from each node layer to the next.</summary>
    public IReadOnlyList<Func<Tensor, Tensor>> Sections { get; }

    /// <summary>Sections that are a linear map with or without ReLU; null for others.</summary>
    public IReadOnlyList<LinearSection?> Linear { get; }

    /// <summary>Sections that are all linear maps with or without ReLU, as in a perceptron.</summary>
    /// <param name="nodes">Names of the node layers, at least two.</param>
    /// <param name="sections">The maps, one fewer.</param>
    /// <param name="first">From the inputs to the first node layer; the identity when null.</param>
    public static SectionedModel OfLinear(IReadOnlyList<string> nodes, IReadOnlyList<LinearSection> sections, Func<Tensor, Tensor>? first = null)
    {
        ArgumentNullException.ThrowIfNull(sections);
        LinearSection[] own = [.. sections.Select(s => new LinearSection(s.Weight.detach().to(float64), s.Bias?.detach().to(float64), s.Relu))];
        return new SectionedModel(nodes, [.. own.Select(s => (Func<Tensor, Tensor>)s.Apply)], first, own);
    }

    /// <summary>A network cut at layers: the node layer of a name is that layer's output. Images' activations are flattened.</summary>
    /// <param name="network">The network; a copy in double precision on the CPU is used, in evaluation mode.</param>
    /// <param name="layers">
    /// Names of its layers in their order, at least two; <c>input</c> is its input. Everything after a cut must be computed from it alone: where several streams pass, join them with <c>+</c>
    /// (<c>norm2.in+add1</c>). The ending <c>.in</c> cuts a layer normalisation in two, giving what it normalises less its mean, and the variance, which stays a coordinate of its own (<see cref="Isolated"/>).
    /// </param>
    /// <exception cref="ArgumentException">A layer does not exist, layers are not in order, or a layer after a cut reads one before it.</exception>
    public static SectionedModel Of(Network network, IReadOnlyList<string> layers)
    {
        ArgumentNullException.ThrowIfNull(network);
        ArgumentNullException.ThrowIfNull(layers);
        Architecture architecture = network.Architecture;
        Cut[] cuts = [.. layers.Select(l => Cut.Parse(architecture, l))];
        for (int i = 1; i < cuts.Length; i++) cuts[i - 1].CheckSeparates(architecture, cuts[i]);

        var copy = new Network(architecture);
        copy.to(ScalarType.Float64);
        copy.Load(network.State().ToDictionary(p => p.Key, p => p.Value.cpu())).eval();
        foreach (var parameter in copy.parameters()) parameter.requires_grad_(false);
        var sections = new List<Func<Tensor, Tensor>>();
        var linear = new List<LinearSection?>();
        var constants = new List<IReadOnlyList<Tensor>>();
        foreach ((Cut from, Cut to) in cuts.Zip(cuts.Skip(1)))
        {
            sections.Add(x => to.Read(copy.EvaluateFrom(from.Values(copy, x), to.Sources)));
            linear.Add(from.IsLayer && to.IsLayer ? AsLinear(copy, from.Last(architecture), to.Last(architecture)) : null);
            constants.Add(ConstantsOf(copy, from.Last(architecture), to.Last(architecture)));
        }
        return new SectionedModel(layers, sections, x => cuts[0].Read(copy.EvaluateFrom(new Dictionary<string, Tensor> { [Architecture.InputName] = Checked(architecture, x) }, cuts[0].Sources)), linear)
        {
            Isolated = [.. cuts.Select(c => c.Isolated)],
            Constants = constants,
        };
    }

    private static Tensor Checked(Architecture architecture, Tensor x) => x.dim() > 0 && x.shape.AsSpan(1).SequenceEqual([.. architecture.Input])
        ? x : throw new ArgumentException($"The inputs are [{string.Join(", ", x.shape)}]; the network takes [n, {string.Join(", ", architecture.Input)}].", nameof(x));

    // Parameters that a constant 1 would carry: biases of all kinds, learned tokens and positions.
    private static Tensor[] ConstantsOf(Network network, int from, int to)
    {
        var between = network.Architecture.Layers.Skip(from + 1).Take(to - from).Select(l => l.Name).ToHashSet();
        if (from >= 0 && network.Architecture.Layers[from].Kind == LayerKind.LayerNorm) between.Add(network.Architecture.Layers[from].Name); // cut in two: its bias comes after
        return [.. network.named_parameters().Where(p => between.Contains(p.name) || (p.name.EndsWith(".bias", StringComparison.Ordinal) && between.Contains(p.name[..^".bias".Length]))).Select(p => (Tensor)p.parameter)];
    }

    // Between two layers: [flatten]*, one linear layer, and perhaps a ReLU, each reading the one before it.
    private static LinearSection? AsLinear(Network network, int from, int to)
    {
        Architecture architecture = network.Architecture;
        TorchSharp.Modules.Linear? found = null;
        bool relu = false;
        for (int i = from + 1; i <= to; i++)
        {
            Layer layer = architecture.Layers[i];
            if (architecture.InputsOf(i) is not [var input] || input != (i == 0 ? Architecture.InputName : architecture.Layers[i - 1].Name)) return null;
            if (layer.Kind == LayerKind.Linear && found is null && !relu) found = (TorchSharp.Modules.Linear)network.WeightedLayers[layer.Name];
            else if (layer.Kind == LayerKind.Relu && found is not null && !relu) relu = true;
            else if (!(layer.Kind == LayerKind.Flatten && found is null)) return null;
        }
        return found is null ? null : new LinearSection(found.weight!.detach(), found.bias?.detach(), relu);
    }

    /// <summary>Runs an action while everything that the constant 1 carries in a section (biases) is scaled: the point of the integration path at which the constant has this value.</summary>
    internal T WithConstant<T>(int section, double value, Func<T> action)
    {
        IReadOnlyList<Tensor> constants = Constants[section];
        if (value == 1 || constants.Count == 0) return action();
        Tensor[] before = [.. constants.Select(c => c.detach().clone())];
        void Set(double factor)
        {
            using var ungraphed = no_grad();
            for (int i = 0; i < before.Length; i++) constants[i].copy_(before[i] * factor);
        }
        Set(value);
        try
        {
            return action();
        }
        finally
        {
            Set(1);
        }
    }

    // What a node layer of a network consists of: outputs of layers, or the two halves of a layer normalisation's input.
    private sealed record Part(string Source, Layer? Norm, long[] Shape)
    {
        public long Width => (Norm is not null || Shape.Length == 2 ? Shape[^1] : Shape.Aggregate(1L, (a, b) => a * b)) + (Norm is null ? 0 : 1);

        public string Name => Norm?.Name ?? Source;

        public Tensor Read(Tensor value)
        {
            if (Norm is null) return value.dim() == 4 ? value.flatten(1) : value;
            Tensor centred = value - value.mean([-1], keepdim: true);
            return cat([centred, centred.square().mean([-1], keepdim: true)], -1);
        }

        public Tensor Value(Network network, Tensor rows)
        {
            if (Norm is null) return rows.reshape([rows.shape[0], .. Shape]);
            var layer = (TorchSharp.Modules.LayerNorm)network.WeightedLayers[Norm.Name];
            return rows.narrow(-1, 0, Width - 1) / (rows.narrow(-1, Width - 1, 1) + Norm.Epsilon).sqrt() * layer.weight! + layer.bias!;
        }
    }

    private sealed record Cut(string Name, Part[] Parts)
    {
        public IReadOnlyList<string> Sources => [.. Parts.Select(p => p.Source)];

        public bool IsLayer => Parts is [{ Norm: null }];

        public IReadOnlyList<int> Isolated
        {
            get
            {
                var found = new List<int>();
                long end = 0;
                foreach (Part part in Parts)
                {
                    end += part.Width;
                    if (part.Norm is not null) found.Add((int)end - 1);
                }
                return found;
            }
        }

        public static Cut Parse(Architecture architecture, string name)
        {
            IReadOnlyDictionary<string, long[]> shapes = architecture.Shapes();
            Part One(string part)
            {
                if (shapes.TryGetValue(part, out long[]? shape)) return new Part(part, null, shape);
                int norm = part.EndsWith(NormInput, StringComparison.Ordinal) ? architecture.Layers.ToList().FindIndex(l => l.Kind == LayerKind.LayerNorm && l.Name == part[..^NormInput.Length]) : -1;
                return norm >= 0 ? new Part(architecture.InputsOf(norm)[0], architecture.Layers[norm], shapes[architecture.Layers[norm].Name])
                    : throw new ArgumentException($"The network has no layer '{part}'; it has: {string.Join(", ", architecture.Layers.Select(l => l.Name))}.", nameof(name));
            }
            return new Cut(name, [.. name.Split('+').Select(One)]);
        }

        // Index of the last of its layers; -1 for the input.
        public int Last(Architecture architecture) => Parts.Max(p => architecture.Layers.ToList().FindIndex(l => l.Name == p.Name));

        public Tensor Read(IReadOnlyList<Tensor> values) => Parts.Length == 1 ? Parts[0].Read(values[0]) : cat([.. Parts.Zip(values, (p, v) => p.Read(v))], -1);

        public Dictionary<string, Tensor> Values(Network network, Tensor rows)
        {
            var values = new Dictionary<string, Tensor>();
            long at = 0;
            foreach (Part part in Parts)
            {
                values[part.Name] = part.Value(network, rows.narrow(-1, at, part.Width));
                at += part.Width;
            }
            return values;
        }

        public void CheckSeparates(Architecture architecture, Cut next)
        {
            var index = architecture.Layers.Select((l, i) => (l.Name, i)).Append((Name: Architecture.InputName, i: -1)).ToDictionary(p => p.Name, p => p.i);
            int start = Last(architecture);
            if (next.Last(architecture) <= start) throw new ArgumentException($"Layer '{next.Name}' does not come after '{Name}'.", nameof(next));
            var known = Parts.Select(p => p.Name).ToHashSet();
            int end = next.Parts.Max(p => index[p.Source]);
            for (int i = start + 1; i <= end; known.Add(architecture.Layers[i++].Name))
                if (architecture.InputsOf(i).FirstOrDefault(n => !known.Contains(n)) is { } before)
                    throw new ArgumentException($"Layer '{architecture.Layers[i].Name}' reads '{before}', which comes before the cut at '{Name}': cut where the streams join, or take both as '{Name}+{before}'.", nameof(next));
            if (next.Parts.FirstOrDefault(p => !known.Contains(p.Source)) is { } missing)
                throw new ArgumentException($"Layer '{next.Name}' reads '{missing.Source}', which comes before the cut at '{Name}': cut where the streams join, or take both as '{Name}+{missing.Source}'.", nameof(next));
        }
    }

    /// <summary>Activations of all node layers for some inputs, float64, without a graph.</summary>
    /// <param name="inputs">Inputs [n, ...].</param>
    /// <param name="batchSize">Inputs at a time.</param>
    /// <exception cref="ArgumentException">An activation is not finite, complex, or not [n, d] or [n, positions, d], or sections do not chain.</exception>
    public IReadOnlyList<Tensor> Activations(Tensor inputs, int batchSize = 1024)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        if (inputs.is_complex()) throw new ArgumentException("Complex inputs are not supported.", nameof(inputs));
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        var parts = Enumerable.Range(0, Nodes.Count).Select(_ => new List<Tensor>()).ToArray();
        for (long start = 0; start < inputs.shape[0]; start += batchSize)
        {
            Tensor f = Checked(0, () => _first(inputs.narrow(0, start, Math.Min(batchSize, inputs.shape[0] - start)).to(float64)));
            parts[0].Add(f);
            for (int l = 0; l < Sections.Count; l++)
            {
                Tensor input = f;
                parts[l + 1].Add(f = Checked(l + 1, () => Sections[l](input)));
            }
        }
        return [.. parts.Select(p => cat(p, 0).MoveToOuterDisposeScope())];
    }

    private Tensor Checked(int layer, Func<Tensor> compute)
    {
        Tensor f;
        try
        {
            f = compute();
        }
        catch (System.Runtime.InteropServices.ExternalException exception)
        {
            throw new ArgumentException($"Node layer '{Nodes[layer]}' cannot be computed from the one before it: {exception.Message.Split('\n')[0]}", exception);
        }
        if (f.is_complex() || f.dim() is not (2 or 3)) throw new ArgumentException($"Node layer '{Nodes[layer]}' is {f.dtype} [{string.Join(", ", f.shape)}]; it must be real, [n, d] or [n, positions, d].");
        if (!f.isfinite().all().ToBoolean()) throw new ArgumentException($"Node layer '{Nodes[layer]}' has activations that are not finite.");
        return f.to(float64);
    }

    /// <summary>The network's output (the last node layer) from the activation of a node layer.</summary>
    /// <param name="layer">Index of the node layer.</param>
    /// <param name="activation">Its activation.</param>
    public Tensor Continue(int layer, Tensor activation)
    {
        for (int l = layer; l < Sections.Count; l++) activation = Sections[l](activation);
        return activation;
    }
}
