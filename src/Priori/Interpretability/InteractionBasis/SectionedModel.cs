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

    /// <summary>A network cut at layers: the node layer of a name is that layer's output. Everything after a cut must be computed from it alone. Images' activations are flattened.</summary>
    /// <param name="network">The network; a copy in double precision on the CPU is used, in evaluation mode.</param>
    /// <param name="layers">Names of its layers in their order, at least two.</param>
    /// <exception cref="ArgumentException">A layer does not exist, layers are not in order, or a layer after a cut reads one before it.</exception>
    public static SectionedModel Of(Network network, IReadOnlyList<string> layers)
    {
        ArgumentNullException.ThrowIfNull(network);
        ArgumentNullException.ThrowIfNull(layers);
        Architecture architecture = network.Architecture;
        IReadOnlyDictionary<string, long[]> shapes = architecture.Shapes();
        var index = architecture.Layers.Select((l, i) => (l.Name, i)).ToDictionary(p => p.Name, p => p.i);
        if (layers.FirstOrDefault(n => !index.ContainsKey(n)) is { } unknown)
            throw new ArgumentException($"The network has no layer '{unknown}'; it has: {string.Join(", ", architecture.Layers.Select(l => l.Name))}.", nameof(layers));
        for (int i = 1; i < layers.Count; i++)
        {
            if (index[layers[i]] <= index[layers[i - 1]]) throw new ArgumentException($"Layer '{layers[i]}' does not come after '{layers[i - 1]}'.", nameof(layers));
            for (int j = index[layers[i - 1]] + 1; j <= index[layers[i]]; j++)
                if (architecture.InputsOf(j).FirstOrDefault(n => n == Architecture.InputName || index[n] < index[layers[i - 1]]) is { } before)
                    throw new ArgumentException($"Layer '{architecture.Layers[j].Name}' reads '{before}', which comes before the cut at '{layers[i - 1]}': cut where the streams join.", nameof(layers));
        }

        var copy = new Network(architecture);
        copy.to(ScalarType.Float64);
        copy.Load(network.State().ToDictionary(p => p.Key, p => p.Value.cpu())).eval();
        foreach (var parameter in copy.parameters()) parameter.requires_grad_(false);
        static Tensor Flat(Tensor value) => value.dim() == 4 ? value.flatten(1) : value;
        var sections = new List<Func<Tensor, Tensor>>();
        var linear = new List<LinearSection?>();
        for (int i = 0; i + 1 < layers.Count; i++)
        {
            (string from, string to) = (layers[i], layers[i + 1]);
            sections.Add(x => Flat(copy.EvaluateFrom(x.reshape([x.shape[0], .. shapes[from]]), from, to)));
            linear.Add(AsLinear(copy, index[from], index[to]));
        }
        return new SectionedModel(layers, sections, x => Flat(copy.Evaluate(x, layers[0])), linear);
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
            if (architecture.InputsOf(i) is not [var input] || input != architecture.Layers[i - 1].Name) return null;
            if (layer.Kind == LayerKind.Linear && found is null && !relu) found = (TorchSharp.Modules.Linear)network.WeightedLayers[layer.Name];
            else if (layer.Kind == LayerKind.Relu && found is not null && !relu) relu = true;
            else if (!(layer.Kind == LayerKind.Flatten && found is null)) return null;
        }
        return found is null ? null : new LinearSection(found.weight!.detach(), found.bias?.detach(), relu);
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
