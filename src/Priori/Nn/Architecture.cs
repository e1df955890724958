using System.Text.Json;
using System.Text.Json.Serialization;

namespace Priori.Nn;

/// <summary>What a layer of an <see cref="Architecture"/> computes. Values are [batch, features], [batch, channels, height, width] or [batch, tokens, features].</summary>
public enum LayerKind
{
    /// <summary>y = x W^T + b over the last axis; tensors <c>name.weight</c> [width, inputs] and <c>name.bias</c>.</summary>
    Linear,
    /// <summary>2-D convolution with zero padding; tensors <c>name.weight</c> [width, channels / groups, kernel, kernel] and <c>name.bias</c>.</summary>
    Conv2d,
    /// <summary>Batch normalisation over channels (4-D values) or features (2-D values).</summary>
    BatchNorm,
    /// <summary>Layer normalisation over the last axis.</summary>
    LayerNorm,
    /// <summary>max(x, 0).</summary>
    Relu,
    /// <summary>Gaussian error linear unit (exact form).</summary>
    Gelu,
    /// <summary>x * sigmoid(x).</summary>
    Silu,
    /// <summary>Hyperbolic tangent.</summary>
    Tanh,
    /// <summary>Sum of all inputs.</summary>
    Add,
    /// <summary>Concatenation of 2-D inputs over features.</summary>
    Concat,
    /// <summary>[batch, channels, height, width] to [batch, channels * height * width].</summary>
    Flatten,
    /// <summary>Max pooling.</summary>
    MaxPool,
    /// <summary>Average pooling.</summary>
    AvgPool,
    /// <summary>Mean over all positions: [batch, channels, height, width] to [batch, channels].</summary>
    GlobalAvgPool,
    /// <summary>Multi-head scaled dot-product attention of three inputs (query, key, value), or of one input that holds the three one after another.</summary>
    Attention,
    /// <summary>[batch, channels, height, width] to [batch, height * width, channels].</summary>
    Tokens,
    /// <summary>Puts a learned token first; tensor <c>name</c> [1, 1, features].</summary>
    ClassToken,
    /// <summary>Adds a learned vector a position; tensor <c>name</c> [1, tokens, features].</summary>
    Position,
    /// <summary>The first token: [batch, tokens, features] to [batch, features].</summary>
    FirstToken,
    /// <summary>The mean over tokens: [batch, tokens, features] to [batch, features].</summary>
    MeanTokens,
}

/// <summary>One layer of an <see cref="Architecture"/>.</summary>
/// <param name="Name">Its name and the prefix of its tensors in a checkpoint, for example <c>layer1.0.conv1</c>.</param>
/// <param name="Kind">What it computes.</param>
public sealed record Layer(string Name, LayerKind Kind)
{
    /// <summary>Names of the layers it reads, or <c>input</c>; null: the layer before it.</summary>
    public IReadOnlyList<string>? Inputs { get; init; }

    /// <summary>Output width of <see cref="LayerKind.Linear"/> and <see cref="LayerKind.Conv2d"/>.</summary>
    public long Width { get; init; }

    /// <summary>Side of the square kernel of convolutions and pools.</summary>
    public long Kernel { get; init; } = 1;

    /// <summary>Stride of convolutions and pools.</summary>
    public long Stride { get; init; } = 1;

    /// <summary>Zero padding of convolutions and pools on every side.</summary>
    public long Padding { get; init; }

    /// <summary>Dilation of convolutions.</summary>
    public long Dilation { get; init; } = 1;

    /// <summary>Groups of convolutions.</summary>
    public long Groups { get; init; } = 1;

    /// <summary>Whether <see cref="LayerKind.Linear"/> and <see cref="LayerKind.Conv2d"/> have a bias.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Number of heads of <see cref="LayerKind.Attention"/>.</summary>
    public long Heads { get; init; } = 1;

    /// <summary>Width of one head of <see cref="LayerKind.Attention"/>; 0: input width / heads.</summary>
    public long HeadWidth { get; init; }

    /// <summary>Epsilon of the normalisations.</summary>
    public double Epsilon { get; init; } = 1e-5;
}

/// <summary>
/// A network as data: an input shape and a list of layers that name their inputs. From this one description follow the forward pass
/// (<see cref="Network"/>), the wiring of its units (<see cref="Wiring"/>), its cost (<see cref="FlopCounter"/>) and the same network at other widths.
/// It reads and writes JSON (<c>arch.json</c>), so that a checkpoint of another library can be described without code.
/// </summary>
/// <param name="Input">Shape of one input without the batch axis: [features] or [channels, height, width].</param>
/// <param name="Layers">The layers in order; the last one is the output.</param>
public sealed record Architecture(IReadOnlyList<long> Input, IReadOnlyList<Layer> Layers)
{
    /// <summary>The name under which layers read the network's input.</summary>
    public const string InputName = "input";

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingDefault,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        WriteIndented = true,
    };

    /// <summary>The JSON of this architecture.</summary>
    public string ToJson() => JsonSerializer.Serialize(new { Input, Layers = Layers.Select(WithoutDefaults) }, Json);

    /// <summary>Reads an architecture from JSON and checks it.</summary>
    /// <param name="json">The text of an <c>arch.json</c>.</param>
    /// <exception cref="ArgumentException">The JSON is not an architecture, or its layers do not fit together; the message names the layer.</exception>
    public static Architecture FromJson(string json)
    {
        Architecture? architecture;
        try
        {
            architecture = JsonSerializer.Deserialize<Architecture>(json, Json);
        }
        catch (JsonException exception)
        {
            throw new ArgumentException($"Not an architecture: {exception.Message}", nameof(json), exception);
        }
        _ = (architecture ?? throw new ArgumentException("Not an architecture: null.", nameof(json))).Shapes();
        return architecture;
    }

    /// <summary>The names of the layers that layer <paramref name="index"/> reads.</summary>
    /// <param name="index">Index of the layer.</param>
    public IReadOnlyList<string> InputsOf(int index) => Layers[index].Inputs ?? [index == 0 ? InputName : Layers[index - 1].Name];

    /// <summary>Output shape of every layer, and of <c>input</c>, without the batch axis.</summary>
    /// <exception cref="ArgumentException">A layer reads an unknown value, a name occurs twice, or shapes do not fit.</exception>
    public IReadOnlyDictionary<string, long[]> Shapes()
    {
        if (Layers.Count == 0) throw new ArgumentException("An architecture needs at least one layer.");
        if (Input.Count is not (1 or 3) || Input.Any(d => d < 1)) throw new ArgumentException($"The input shape must be [features] or [channels, height, width], not [{string.Join(", ", Input)}].");
        var shapes = new Dictionary<string, long[]> { [InputName] = [.. Input] };
        for (int i = 0; i < Layers.Count; i++)
        {
            Layer layer = Layers[i];
            long[][] inputs = [.. InputsOf(i).Select(n => shapes.TryGetValue(n, out long[]? s) ? s : throw Bad(layer, $"reads '{n}', which no layer before it has produced"))];
            if (inputs.Length == 0) throw Bad(layer, "has no input");
            if (!shapes.TryAdd(layer.Name, OutputShape(layer, inputs))) throw Bad(layer, "has a name that is taken");
        }
        return shapes;
    }

    /// <summary>
    /// The wiring of the units: which tensor axes move together when the units of a layer are permuted. Derived by following every layer:
    /// a linear or convolution layer starts a group, normalisations join it, the layers that read it join with their input axis, and sums
    /// (residual streams) tie groups. Attention heads are the units of attention. Inputs, outputs and concatenations are not permuted.
    /// </summary>
    /// <param name="fixOutput">False lets the output units be permuted too (a trunk without its head).</param>
    /// <exception cref="ArgumentException">A grouped convolution that is not depthwise.</exception>
    public PermutationSpec Wiring(bool fixOutput = true)
    {
        (List<Group> order, Dictionary<string, Group> groupOf) = Trace();
        Group output = groupOf[Layers[^1].Name].Root;
        if (fixOutput) output.Fixed = true;
        else if (output.Read.Add(Layers[^1].Name)) output.Sites.Add(PermutationGroup.OutputSite);
        return new PermutationSpec([.. order.Where(g => g.Root == g && !g.Fixed)
            .Select(g => new PermutationGroup(g.Name, g.Size, [.. g.Axes], [.. g.Sites], g.Inseparable))]);
    }

    /// <summary>The permutation group that the output units of each layer belong to, by the layer's name; layers whose units are fixed, as those of the output, are left out.</summary>
    public IReadOnlyDictionary<string, string> UnitGroups()
    {
        (_, Dictionary<string, Group> groupOf) = Trace();
        groupOf[Layers[^1].Name].Root.Fixed = true;
        return groupOf.Where(p => !p.Value.Root.Fixed).ToDictionary(p => p.Key, p => p.Value.Root.Name);
    }

    private (List<Group> Order, Dictionary<string, Group> GroupOf) Trace()
    {
        IReadOnlyDictionary<string, long[]> shapes = Shapes();
        var groupOf = new Dictionary<string, Group>();
        var order = new List<Group>();
        Group Start(string name, long size)
        {
            var group = new Group { Name = name, Size = size };
            order.Add(group);
            return group;
        }
        groupOf[InputName] = Start(InputName, UnitCount(shapes[InputName]));
        groupOf[InputName].Fixed = true;
        for (int i = 0; i < Layers.Count; i++)
        {
            Layer layer = Layers[i];
            IReadOnlyList<string> inputs = InputsOf(i);
            Group group = groupOf[inputs[0]].Root;
            switch (layer.Kind)
            {
                case LayerKind.Conv2d when layer.Groups > 1:
                    if (layer.Groups != layer.Width || layer.Groups != UnitCount(shapes[inputs[0]]))
                        throw Bad(layer, "is a grouped convolution; only depthwise ones can be wired automatically, so give the wiring explicitly");
                    group.Axes.Add(new PermutationAxis($"{layer.Name}.weight", 0, AxisRole.Output, Depthwise: true));
                    if (layer.Bias) group.Axes.Add(new PermutationAxis($"{layer.Name}.bias", 0, AxisRole.Output));
                    break;
                case LayerKind.Linear or LayerKind.Conv2d:
                    group.Axes.Add(new PermutationAxis($"{layer.Name}.weight", 1, AxisRole.Input));
                    if (group.Read.Add(inputs[0])) group.Sites.Add(layer.Name);
                    group = Start(layer.Name, layer.Width);
                    group.Axes.Add(new PermutationAxis($"{layer.Name}.weight", 0, AxisRole.Output));
                    if (layer.Bias) group.Axes.Add(new PermutationAxis($"{layer.Name}.bias", 0, AxisRole.Output));
                    break;
                case LayerKind.BatchNorm or LayerKind.LayerNorm:
                    string[] vectors = layer.Kind == LayerKind.BatchNorm ? ["weight", "bias", "running_mean", "running_var"] : ["weight", "bias"];
                    group.Axes.AddRange(vectors.Select(v => new PermutationAxis($"{layer.Name}.{v}", 0, AxisRole.Output)));
                    group.Inseparable |= layer.Kind == LayerKind.LayerNorm;
                    break;
                case LayerKind.ClassToken or LayerKind.Position:
                    group.Axes.Add(new PermutationAxis(layer.Name, 2, AxisRole.Output));
                    break;
                case LayerKind.Add:
                    foreach (string other in inputs.Skip(1)) group = Group.Union(group, groupOf[other].Root, order);
                    break;
                case LayerKind.Concat:
                    foreach (string other in inputs) groupOf[other].Root.Fixed = true;
                    group = Start(layer.Name, UnitCount(shapes[layer.Name]));
                    group.Fixed = true;
                    break;
                case LayerKind.Attention:
                    if (inputs.Count == 1)
                        for (int a = 0; a < group.Axes.Count; a++) group.Axes[a] = group.Axes[a] with { Outer = 3 };
                    foreach (string other in inputs.Skip(1)) group = Group.Union(group, groupOf[other].Root, order);
                    group.Size = layer.Heads;
                    break;
            }
            groupOf[layer.Name] = group;
        }
        return (order, groupOf);
    }

    /// <summary>The same network with other numbers of units, for example after partial merging.</summary>
    /// <param name="spec">The wiring of this architecture.</param>
    /// <param name="sizes">New number of units for each group that changes, by the group's name.</param>
    public Architecture WithWidths(PermutationSpec spec, IReadOnlyDictionary<string, long> sizes)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(sizes);
        IReadOnlyDictionary<string, long[]> shapes = Shapes();
        PermutationGroup? Produced(string layer) => spec.GroupOf($"{layer}.weight", AxisRole.Output);
        Layer Resize(int index)
        {
            Layer layer = Layers[index];
            if (layer.Kind is LayerKind.Linear or LayerKind.Conv2d)
            {
                if (Produced(layer.Name) is not { } group || !sizes.TryGetValue(group.Name, out long size)) return layer;
                return layer with { Width = layer.Width / group.Size * size, Groups = layer.Groups > 1 ? size : 1 };
            }
            if (layer.Kind is LayerKind.Attention)
            {
                string producer = InputsOf(index)[0];
                if (Produced(producer) is not { } group || !sizes.TryGetValue(group.Name, out long size)) return layer;
                return layer with { Heads = size, HeadWidth = HeadWidth(layer, shapes[layer.Name][^1]) };
            }
            return layer;
        }
        return this with { Layers = [.. Enumerable.Range(0, Layers.Count).Select(Resize)] };
    }

    /// <summary>The network without its last layer, which must be linear: the trunk that computes the features.</summary>
    /// <exception cref="ArgumentException">The last layer is not linear, or it does not read the layer before it.</exception>
    public Architecture Trunk()
    {
        Layer head = Layers[^1];
        if (head.Kind != LayerKind.Linear || Layers.Count < 2) throw Bad(head, "is not a linear head behind a trunk");
        int feature = Layers.ToList().FindIndex(l => l.Name == InputsOf(Layers.Count - 1)[0]);
        if (feature != Layers.Count - 2) throw Bad(head, "must read the layer before it");
        return this with { Layers = [.. Layers.SkipLast(1)] };
    }

    internal static long UnitCount(long[] shape) => shape.Length == 3 ? shape[0] : shape[^1];

    internal static long HeadWidth(Layer layer, long width) => layer.HeadWidth > 0 ? layer.HeadWidth : width / layer.Heads;

    private static ArgumentException Bad(Layer layer, string what) => new($"Layer '{layer.Name}' {what}.");

    private static long[] OutputShape(Layer layer, long[][] inputs)
    {
        long[] shape = inputs[0];
        void Need(bool fits, string what)
        {
            if (!fits) throw Bad(layer, $"({layer.Kind}) {what}, but its input is [{string.Join("], [", inputs.Select(s => string.Join(", ", s)))}]");
        }
        Need(inputs.Length == 1 || layer.Kind is LayerKind.Add or LayerKind.Concat or LayerKind.Attention, "takes one input");
        long[] Spatial(long channels)
        {
            Need(layer.Kernel >= 1 && layer.Stride >= 1 && layer.Padding >= 0 && layer.Dilation >= 1, "needs a positive kernel, stride and dilation");
            long Side(long side) => (side + 2 * layer.Padding - layer.Dilation * (layer.Kernel - 1) - 1) / layer.Stride + 1;
            Need(Side(shape[1]) >= 1 && Side(shape[2]) >= 1, "has a kernel that does not fit");
            return [channels, Side(shape[1]), Side(shape[2])];
        }
        switch (layer.Kind)
        {
            case LayerKind.Linear:
                Need(shape.Length is 1 or 2, "takes [features] or [tokens, features]");
                Need(layer.Width >= 1, "needs a width of at least 1");
                return [.. shape[..^1], layer.Width];
            case LayerKind.Conv2d:
                Need(shape.Length == 3, "takes [channels, height, width]");
                Need(layer.Width >= 1 && layer.Groups >= 1 && layer.Width % layer.Groups == 0 && shape[0] % layer.Groups == 0, "needs a width, and channels and width that its groups divide");
                return Spatial(layer.Width);
            case LayerKind.MaxPool or LayerKind.AvgPool:
                Need(shape.Length == 3, "takes [channels, height, width]");
                return Spatial(shape[0]);
            case LayerKind.BatchNorm:
                Need(shape.Length is 1 or 3, "takes [features] or [channels, height, width]");
                return shape;
            case LayerKind.LayerNorm:
                Need(shape.Length is 1 or 2, "takes [features] or [tokens, features]");
                return shape;
            case LayerKind.Add:
                Need(inputs.All(s => s.AsSpan().SequenceEqual(shape)), "takes inputs of one shape");
                return shape;
            case LayerKind.Concat:
                Need(inputs.All(s => s.Length == 1), "takes inputs [features]");
                return [inputs.Sum(s => s[0])];
            case LayerKind.Flatten:
                return [shape.Aggregate(1L, (a, b) => a * b)];
            case LayerKind.GlobalAvgPool:
                Need(shape.Length == 3, "takes [channels, height, width]");
                return [shape[0]];
            case LayerKind.Attention:
                Need(inputs.Length is 1 or 3 && inputs.All(s => s.Length == 2 && s.AsSpan().SequenceEqual(shape)), "takes one or three inputs [tokens, features]");
                long width = inputs.Length == 1 ? shape[1] / 3 : shape[1];
                Need(layer.Heads >= 1 && (inputs.Length == 3 || shape[1] % 3 == 0) && width == layer.Heads * HeadWidth(layer, width), "needs heads that divide its width");
                return [shape[0], width];
            case LayerKind.Tokens:
                Need(shape.Length == 3, "takes [channels, height, width]");
                return [shape[1] * shape[2], shape[0]];
            case LayerKind.ClassToken:
                Need(shape.Length == 2, "takes [tokens, features]");
                return [shape[0] + 1, shape[1]];
            case LayerKind.Position:
                Need(shape.Length == 2, "takes [tokens, features]");
                return shape;
            case LayerKind.FirstToken or LayerKind.MeanTokens:
                Need(shape.Length == 2, "takes [tokens, features]");
                return [shape[1]];
            default:
                return shape;
        }
    }

    // The defaults 1 and true are not the defaults of their types, so the serializer would write them on every layer.
    private static Dictionary<string, object> WithoutDefaults(Layer layer)
    {
        var written = new Dictionary<string, object> { ["name"] = layer.Name, ["kind"] = layer.Kind };
        if (layer.Inputs is not null) written["inputs"] = layer.Inputs;
        var standard = new Layer("", layer.Kind);
        void Write(string name, object value, object usual)
        {
            if (!value.Equals(usual)) written[name] = value;
        }
        Write("width", layer.Width, standard.Width);
        Write("kernel", layer.Kernel, standard.Kernel);
        Write("stride", layer.Stride, standard.Stride);
        Write("padding", layer.Padding, standard.Padding);
        Write("dilation", layer.Dilation, standard.Dilation);
        Write("groups", layer.Groups, standard.Groups);
        Write("bias", layer.Bias, standard.Bias);
        Write("heads", layer.Heads, standard.Heads);
        Write("headWidth", layer.HeadWidth, standard.HeadWidth);
        Write("epsilon", layer.Epsilon, standard.Epsilon);
        return written;
    }

    // A set of tied groups (union-find); the root holds the axes.
    private sealed class Group
    {
        private Group? _parent;

        public required string Name { get; init; }
        public long Size { get; set; }
        public bool Fixed { get; set; }
        public bool Inseparable { get; set; }
        public List<PermutationAxis> Axes { get; } = [];
        public List<string> Sites { get; } = [];
        public HashSet<string> Read { get; } = [];
        public Group Root => _parent?.Root ?? this;

        public static Group Union(Group a, Group b, List<Group> order)
        {
            if (a == b) return a;
            (Group first, Group second) = order.IndexOf(a) < order.IndexOf(b) ? (a, b) : (b, a);
            second._parent = first;
            first.Axes.AddRange(second.Axes);
            first.Sites.AddRange(second.Sites);
            first.Read.UnionWith(second.Read);
            first.Fixed |= second.Fixed;
            first.Inseparable |= second.Inseparable;
            return first;
        }
    }
}
