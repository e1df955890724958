using System.Collections;
using System.Diagnostics.CodeAnalysis;

namespace Priori.Data;

/// <summary>
/// Tensors by name (a checkpoint) with the arithmetic of a vector space: +, -, * on tensors and <c>LinearCombination</c> on files of any size.
/// Only floating-point tensors take part; all others (counters) are those of the first operand. Sums are formed in float32 (float64 for such tensors) and have the type of the first operand.
/// </summary>
[SuppressMessage("Naming", "CA1710", Justification = "state_dict is PyTorch's name for it.")]
public sealed class StateDict : IReadOnlyDictionary<string, Tensor>, IDisposable
{
    /// <summary>Elements of a tensor that a combination of files holds at once: 1 MB in float32, so that blocks stay in the cache and their memory is reused.</summary>
    private const long BlockElements = 1 << 18;

    private readonly Dictionary<string, Tensor> _tensors;

    /// <summary>A state of the given tensors, which are not copied.</summary>
    /// <param name="tensors">Tensors by name.</param>
    public StateDict(IEnumerable<KeyValuePair<string, Tensor>> tensors) => _tensors = new Dictionary<string, Tensor>(tensors, StringComparer.Ordinal);

    /// <inheritdoc/>
    public IEnumerable<string> Keys => _tensors.Keys;

    /// <inheritdoc/>
    public IEnumerable<Tensor> Values => _tensors.Values;

    /// <inheritdoc/>
    public int Count => _tensors.Count;

    /// <inheritdoc/>
    public Tensor this[string key] => _tensors[key];

    /// <summary>The sum, in new tensors.</summary>
    /// <param name="left">A state.</param>
    /// <param name="right">One with the same names and shapes.</param>
    /// <exception cref="ArgumentException">Names or shapes differ; the message gives the first that do.</exception>
    public static StateDict operator +(StateDict left, StateDict right) => Combine([(1, left), (1, right)]);

    /// <summary>The difference, in new tensors.</summary>
    /// <param name="left">A state.</param>
    /// <param name="right">One with the same names and shapes.</param>
    /// <exception cref="ArgumentException">Names or shapes differ; the message gives the first that do.</exception>
    public static StateDict operator -(StateDict left, StateDict right) => Combine([(1, left), (-1, right)]);

    /// <summary>The multiple, in new tensors.</summary>
    /// <param name="factor">The factor.</param>
    /// <param name="state">A state.</param>
    public static StateDict operator *(double factor, StateDict state) => Combine([(factor, state)]);

    /// <summary>sum_k weight_k state_k, in new tensors.</summary>
    /// <param name="terms">Weights and states of the same names and shapes, at least one.</param>
    /// <exception cref="ArgumentException">There is no term, or names or shapes differ; the message gives the first that do.</exception>
    public static StateDict Combine(params IReadOnlyList<(double Weight, IReadOnlyDictionary<string, Tensor> State)> terms)
    {
        ArgumentNullException.ThrowIfNull(terms);
        if (terms.Count == 0) throw new ArgumentException("A linear combination needs at least one term.", nameof(terms));
        IReadOnlyDictionary<string, Tensor> first = terms[0].State;
        for (int k = 1; k < terms.Count; k++) RequireSame(first, terms[k].State, "the first state", $"state {k + 1}");
        using var ungraphed = no_grad();
        return new StateDict(first.Select(pair => KeyValuePair.Create(pair.Key, pair.Value.is_floating_point()
            ? Sum(pair.Value.dtype, terms.Count, k => (terms[k].Weight, terms[k].State[pair.Key]))
            : pair.Value.detach().clone())));
    }

    /// <summary>
    /// Writes sum_k weight_k file_k to a new file: memory-mapped in, streamed out, a block of a tensor at a time. Memory stays the same for checkpoints of any size.
    /// </summary>
    /// <param name="path">The new file, written whole or not at all.</param>
    /// <param name="terms">Files of the same names and shapes, at least one, and the weight of each tensor by its name.</param>
    /// <param name="metadata">Texts for the header; those of the first file when null.</param>
    /// <exception cref="ArgumentException">There is no term, or names or shapes differ; the message gives the first that do.</exception>
    /// <exception cref="InvalidDataException">A file holds an element type that TorchSharp cannot hold.</exception>
    public static void LinearCombination(string path, IReadOnlyList<(Func<string, double> Weight, SafetensorsFile File)> terms, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(terms);
        if (terms.Count == 0) throw new ArgumentException("A linear combination needs at least one term.", nameof(terms));
        SafetensorsFile first = terms[0].File;
        for (int k = 1; k < terms.Count; k++) RequireSame(Shapes(first), Shapes(terms[k].File), first.ToString(), terms[k].File.ToString());
        using var ungraphed = no_grad();
        using var writer = new SafetensorsWriter(path, first.Names.Select(name => new TensorInfo(name, first.RequireElementType(name), first.Shape(name))), metadata ?? first.Metadata);
        foreach (TensorInfo info in writer.Tensors)
        {
            long count = info.Shape.Aggregate(1L, (product, size) => product * size);
            double[] weights = [.. terms.Select(term => term.Weight(info.Name))];
            for (long start = 0; start < count; start += BlockElements)
            {
                using var scope = NewDisposeScope();
                long length = Math.Min(BlockElements, count - start);
                Tensor block = first.Slice(info.Name, start, length);
                writer.Append(info.Name, block.is_floating_point()
                    ? Sum(info.Type, terms.Count, k => (weights[k], k == 0 ? block : terms[k].File.Slice(info.Name, start, length)))
                    : block);
            }
        }
        writer.Complete();
    }

    /// <inheritdoc cref="LinearCombination(string, IReadOnlyList{ValueTuple{Func{string, double}, SafetensorsFile}}, IReadOnlyDictionary{string, string})"/>
    public static void LinearCombination(string path, IReadOnlyList<(double Weight, SafetensorsFile File)> terms, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(terms);
        LinearCombination(path, [.. terms.Select(term => ((Func<string, double>)(_ => term.Weight), term.File))], metadata);
    }

    /// <summary>Refuses states that do not have the same names and shapes, so that nothing can be added to them.</summary>
    /// <param name="left">A state.</param>
    /// <param name="right">The other.</param>
    /// <param name="leftName">What the first is called in the message.</param>
    /// <param name="rightName">What the other is called.</param>
    /// <exception cref="ArgumentException">Names or shapes differ; the message gives the first that do.</exception>
    public static void RequireSame(IReadOnlyDictionary<string, Tensor> left, IReadOnlyDictionary<string, Tensor> right, string leftName = "the first state", string rightName = "the second state")
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        RequireSame(left.ToDictionary(p => p.Key, p => (IReadOnlyList<long>)p.Value.shape), right.ToDictionary(p => p.Key, p => (IReadOnlyList<long>)p.Value.shape), leftName, rightName);
    }

    /// <inheritdoc/>
    public bool ContainsKey(string key) => _tensors.ContainsKey(key);

    /// <inheritdoc/>
    public bool TryGetValue(string key, [MaybeNullWhen(false)] out Tensor value) => _tensors.TryGetValue(key, out value);

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, Tensor>> GetEnumerator() => _tensors.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>Frees the tensors.</summary>
    public void Dispose()
    {
        foreach (Tensor tensor in _tensors.Values) tensor.Dispose();
    }

    private static Dictionary<string, IReadOnlyList<long>> Shapes(SafetensorsFile file) => file.Names.ToDictionary(name => name, file.Shape);

    private static void RequireSame(Dictionary<string, IReadOnlyList<long>> left, Dictionary<string, IReadOnlyList<long>> right, string leftName, string rightName)
    {
        static string List(IEnumerable<string> names)
        {
            string[] all = [.. names];
            return $"{string.Join(", ", all.Take(3).Select(name => $"'{name}'"))}{(all.Length > 3 ? $" and {all.Length - 3} more" : "")}";
        }
        string[] onlyLeft = [.. left.Keys.Where(name => !right.ContainsKey(name))], onlyRight = [.. right.Keys.Where(name => !left.ContainsKey(name))];
        if (onlyLeft.Length + onlyRight.Length > 0)
            throw new ArgumentException(string.Join("; ", (string[])[
                .. onlyLeft.Length > 0 ? [$"{rightName} lacks {List(onlyLeft)} of {leftName}"] : Array.Empty<string>(),
                .. onlyRight.Length > 0 ? [$"{leftName} lacks {List(onlyRight)} of {rightName}"] : Array.Empty<string>()]) + ".");
        string[] shaped = [.. left.Keys.Where(name => !left[name].SequenceEqual(right[name]))];
        if (shaped.Length > 0)
            throw new ArgumentException($"Tensor '{shaped[0]}' is [{string.Join(", ", left[shaped[0]])}] in {leftName} and [{string.Join(", ", right[shaped[0]])}] in {rightName}{(shaped.Length > 1 ? $"; {shaped.Length - 1} more differ: {List(shaped.Skip(1))}" : "")}.");
    }

    private static Tensor Sum(ScalarType type, int count, Func<int, (double Weight, Tensor Tensor)> term)
    {
        using var scope = NewDisposeScope();
        ScalarType precise = type == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
        Tensor? sum = null;
        for (int k = 0; k < count; k++)
        {
            (double weight, Tensor value) = term(k);
            if (weight == 0 && k > 0) continue;
            Tensor exact = value.detach().to(precise);
            sum = sum is null ? (weight == 1 ? exact.clone() : exact * weight) : sum.add_(exact, weight);
        }
        return sum!.to(type).MoveToOuterDisposeScope();
    }
}
