using System.Text.Json;
using System.Text.Json.Serialization;

namespace Priori.Nn;

/// <summary>Whether the units along a tensor axis are produced or read by the tensor's layer.</summary>
public enum AxisRole
{
    /// <summary>The layer produces the units: rows of a weight, biases, normalisation vectors.</summary>
    Output,
    /// <summary>The layer reads the units: columns of a weight.</summary>
    Input,
}

/// <summary>One tensor axis of a permutation group. The axis has length outer * units * inner: every unit owns <c>inner</c> consecutive
/// entries (positions behind a flatten, dimensions of an attention head), repeated <c>outer</c> times (query, key and value in one tensor).</summary>
/// <param name="Tensor">Name of the tensor in the checkpoint.</param>
/// <param name="Axis">The axis, counted from 0.</param>
/// <param name="Role">Whether the axis is of the units that the layer produces or reads.</param>
/// <param name="Outer">How many times the units are repeated along the axis; 1 except for fused tensors.</param>
/// <param name="Depthwise">Whether the tensor multiplies the units it is indexed by, as a depthwise convolution does, and does not produce them from others.</param>
public sealed record PermutationAxis(string Tensor, int Axis, AxisRole Role, int Outer = 1, bool Depthwise = false)
{
    /// <summary>A tensor with the units along an axis of their own: a view [repeats, units, entries].</summary>
    /// <param name="tensor">The tensor, contiguous.</param>
    /// <param name="size">Number of units.</param>
    public Tensor View(Tensor tensor, long size)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return tensor.view(tensor.shape.Take(Axis).Aggregate((long)Outer, (a, b) => a * b), size, -1);
    }

    /// <summary>A tensor as a table of one row a unit: [units, entries].</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="size">Number of units.</param>
    public Tensor Units(Tensor tensor, long size)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return View(tensor.contiguous(), size).transpose(0, 1).reshape(size, -1);
    }
}

/// <summary>Units of one layer (or of tied layers) and all tensor axes that move with them (Ainsworth et al., ICLR 2023).</summary>
/// <param name="Name">Name of the group: its first producing layer.</param>
/// <param name="Size">Number of units.</param>
/// <param name="Axes">The tensor axes.</param>
/// <param name="Sites">Layers whose inputs are the units' activations, each distinct value once; <see cref="OutputSite"/> is the network's output.</param>
/// <param name="Inseparable">Whether the units must stay one set (layer normalisation mixes them), so that partial merging keeps all of them merged.</param>
public sealed record PermutationGroup(string Name, long Size, IReadOnlyList<PermutationAxis> Axes, IReadOnlyList<string> Sites, bool Inseparable = false)
{
    /// <summary>The site that stands for the output of the network.</summary>
    public const string OutputSite = "output";
}

/// <summary>The wiring of a network: its permutation groups. Read and written as JSON, so that any checkpoint can be described.</summary>
public sealed class PermutationSpec
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        WriteIndented = true,
    };

    private readonly Dictionary<(string Tensor, AxisRole Role), (PermutationGroup Group, PermutationAxis Axis)> _axes = [];

    /// <summary>Makes a wiring of groups.</summary>
    /// <param name="groups">The groups; every tensor may occur once a role.</param>
    /// <exception cref="ArgumentException">A group has no units or no name of its own, or a tensor occurs twice in one role.</exception>
    public PermutationSpec(IReadOnlyList<PermutationGroup> groups)
    {
        ArgumentNullException.ThrowIfNull(groups);
        Groups = groups;
        if (groups.Select(g => g.Name).Distinct().Count() != groups.Count) throw new ArgumentException("Two permutation groups have the same name.", nameof(groups));
        foreach (PermutationGroup group in groups)
        {
            if (group.Size < 1) throw new ArgumentException($"Group '{group.Name}' has {group.Size} units; at least 1 is needed.", nameof(groups));
            foreach (PermutationAxis axis in group.Axes)
                if (!_axes.TryAdd((axis.Tensor, axis.Role), (group, axis)))
                    throw new ArgumentException($"Tensor '{axis.Tensor}' has two {axis.Role} axes.", nameof(groups));
        }
    }

    /// <summary>The groups, in the order of the network.</summary>
    public IReadOnlyList<PermutationGroup> Groups { get; }

    /// <summary>The group that a tensor's axis belongs to, or null.</summary>
    /// <param name="tensor">Name of the tensor.</param>
    /// <param name="role">The role of the axis.</param>
    public PermutationGroup? GroupOf(string tensor, AxisRole role) => _axes.TryGetValue((tensor, role), out var found) ? found.Group : null;

    /// <summary>The axis of a tensor in a role with its group, or null.</summary>
    /// <param name="tensor">Name of the tensor.</param>
    /// <param name="role">The role of the axis.</param>
    public (PermutationGroup Group, PermutationAxis Axis)? AxisOf(string tensor, AxisRole role) => _axes.TryGetValue((tensor, role), out var found) ? found : null;

    /// <summary>Positions along an axis of given units: [outer * units.Length * inner].</summary>
    /// <param name="units">Units in the wanted order, int64 [k].</param>
    /// <param name="size">Number of units of the group.</param>
    /// <param name="length">Length of the axis.</param>
    /// <param name="outer">Repetitions of the units along the axis.</param>
    /// <exception cref="ArgumentException">The length is not a multiple of outer * size.</exception>
    public static Tensor Positions(Tensor units, long size, long length, int outer = 1)
    {
        ArgumentNullException.ThrowIfNull(units);
        if (length % (size * outer) != 0) throw new ArgumentException($"An axis of length {length} does not hold {outer} x {size} units.", nameof(length));
        return arange(length, int64, units.device).view(outer, size, length / (size * outer)).index_select(1, units).reshape(-1);
    }

    /// <summary>Checks that a checkpoint has every tensor of the wiring with axes that fit.</summary>
    /// <param name="state">Tensors by name.</param>
    /// <exception cref="ArgumentException">A tensor is missing or an axis does not hold the group's units.</exception>
    public void Validate(IReadOnlyDictionary<string, Tensor> state)
    {
        ArgumentNullException.ThrowIfNull(state);
        foreach (PermutationGroup group in Groups)
            foreach (PermutationAxis axis in group.Axes)
            {
                if (!state.TryGetValue(axis.Tensor, out Tensor? tensor)) throw new ArgumentException($"The checkpoint has no tensor '{axis.Tensor}', which group '{group.Name}' names.", nameof(state));
                if (axis.Axis < 0 || axis.Axis >= tensor.dim() || axis.Outer < 1 || tensor.shape[axis.Axis] % (group.Size * axis.Outer) != 0)
                    throw new ArgumentException($"Axis {axis.Axis} of tensor '{axis.Tensor}' [{string.Join(", ", tensor.shape)}] does not hold the {group.Size} units of group '{group.Name}'.", nameof(state));
            }
    }

    /// <summary>The wiring of the same network with other numbers of units.</summary>
    /// <param name="sizes">New number of units by the group's name; groups without one stay.</param>
    /// <exception cref="ArgumentException">A size is below 1.</exception>
    public PermutationSpec WithSizes(IReadOnlyDictionary<string, long> sizes)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        return new PermutationSpec([.. Groups.Select(g => g with { Size = sizes.GetValueOrDefault(g.Name, g.Size) })]);
    }

    /// <summary>
    /// The checkpoint with units reordered: unit i of a group becomes the old unit permutation[i]. The function is unchanged.
    /// A list of some of the units keeps those and removes the others.
    /// </summary>
    /// <param name="state">Tensors by name.</param>
    /// <param name="permutations">The new order by the group's name, int64 [units]; groups without one stay.</param>
    /// <returns>New tensors for what moved; the others are the given ones.</returns>
    public Dictionary<string, Tensor> Permute(IReadOnlyDictionary<string, Tensor> state, IReadOnlyDictionary<string, long[]> permutations)
    {
        ArgumentNullException.ThrowIfNull(permutations);
        Validate(state);
        var permuted = state.ToDictionary();
        foreach (PermutationGroup group in Groups)
        {
            if (!permutations.TryGetValue(group.Name, out long[]? permutation)) continue;
            using Tensor units = tensor(permutation);
            foreach (PermutationAxis axis in group.Axes)
            {
                Tensor old = permuted[axis.Tensor];
                using Tensor positions = Positions(units, group.Size, old.shape[axis.Axis], axis.Outer).to(old.device);
                permuted[axis.Tensor] = old.index_select(axis.Axis, positions);
            }
        }
        return permuted;
    }

    /// <summary>The JSON of this wiring.</summary>
    public string ToJson() => JsonSerializer.Serialize(Groups, Json);

    /// <summary>Reads a wiring from JSON.</summary>
    /// <param name="json">A list of groups, as <see cref="ToJson"/> writes it.</param>
    /// <exception cref="ArgumentException">The JSON is not a wiring.</exception>
    public static PermutationSpec FromJson(string json)
    {
        try
        {
            return new PermutationSpec(JsonSerializer.Deserialize<List<PermutationGroup>>(json, Json) ?? throw new ArgumentException("Not a wiring: null.", nameof(json)));
        }
        catch (JsonException exception)
        {
            throw new ArgumentException($"Not a wiring: {exception.Message}", nameof(json), exception);
        }
    }
}
