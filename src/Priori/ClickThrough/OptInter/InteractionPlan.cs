using System.Text.Json;
using System.Text.Json.Serialization;
using Priori.Runtime;

namespace Priori.ClickThrough;

/// <summary>How the interaction of a pair of fields is modelled; the order is that of the columns of the architecture parameters.</summary>
public enum InteractionMethod
{
    /// <summary>An embedding of its own for each combination of values.</summary>
    Memorize,

    /// <summary>The product of embeddings of the two values.</summary>
    Factorize,

    /// <summary>Not at all.</summary>
    Naive,
}

/// <summary>The method of a pair.</summary>
/// <param name="First">Index of the first field.</param>
/// <param name="Second">Index of the second field.</param>
/// <param name="Method">How their interaction is modelled.</param>
/// <param name="Probabilities">What the search gave to each <see cref="InteractionMethod"/>, softmax of the architecture parameters at temperature 1; empty if the plan was not searched for.</param>
public sealed record PairChoice(int First, int Second, InteractionMethod Method, IReadOnlyList<double> Probabilities)
{
    /// <summary>The pair.</summary>
    [JsonIgnore]
    public FieldPair Pair => new(First, Second);
}

/// <summary>The method of every pair of fields: what OptInter searches for.</summary>
public sealed class InteractionPlan
{
    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    /// <summary>Makes a plan.</summary>
    /// <param name="choices">One choice a pair, at least one, all pairs different.</param>
    /// <exception cref="ArgumentException">A pair is wrong or twice, or probabilities are neither none nor three finite ones.</exception>
    [JsonConstructor]
    public InteractionPlan(IReadOnlyList<PairChoice> choices)
    {
        ArgumentNullException.ThrowIfNull(choices);
        if (choices.Count == 0 || choices.Select(c => c.Pair).Distinct().Count() != choices.Count || choices.Any(c => c.First < 0 || c.Second <= c.First))
            throw new ArgumentException("The pairs of a plan are different, at least one, and each has 0 <= First < Second.", nameof(choices));
        if (choices.Any(c => c.Probabilities.Count is not (0 or 3) || c.Probabilities.Any(p => !double.IsFinite(p)) || !Enum.IsDefined(c.Method)))
            throw new ArgumentException("A choice has a method, and three finite probabilities or none.", nameof(choices));
        Choices = [.. choices];
    }

    /// <summary>The choices.</summary>
    public IReadOnlyList<PairChoice> Choices { get; }

    /// <summary>One method for all pairs: all memorized is the paper's OptInter-M, all factorized OptInter-F, all naive a deep network on embeddings (FNN).</summary>
    /// <param name="pairs">The pairs.</param>
    /// <param name="method">The method.</param>
    public static InteractionPlan All(IReadOnlyList<FieldPair> pairs, InteractionMethod method) => new([.. Checked(pairs).Select(p => new PairChoice(p.First, p.Second, method, []))]);

    /// <summary>Each pair's method drawn uniformly: the baseline of a search.</summary>
    /// <param name="pairs">The pairs.</param>
    /// <param name="seed">The seed.</param>
    public static InteractionPlan Random(IReadOnlyList<FieldPair> pairs, int seed)
    {
        SplitMix64 random = SplitMix64.For(seed, 0);
        return new InteractionPlan([.. Checked(pairs).Select(p => new PairChoice(p.First, p.Second, (InteractionMethod)random.Next(3), []))]);
    }

    /// <summary>The most probable method of each pair (the paper's sec. III-D: argmax of the architecture parameters).</summary>
    /// <param name="pairs">The pairs.</param>
    /// <param name="alpha">Architecture parameters [pairs, 3], columns in the order of <see cref="InteractionMethod"/>.</param>
    /// <exception cref="ArgumentException">The shape does not fit or a parameter is not finite.</exception>
    public static InteractionPlan From(IReadOnlyList<FieldPair> pairs, Tensor alpha)
    {
        ArgumentNullException.ThrowIfNull(alpha);
        using DisposeScope scope = NewDisposeScope();
        using var ungraphed = no_grad();
        if (alpha.dim() != 2 || alpha.size(0) != Checked(pairs).Count || alpha.size(1) != 3)
            throw new ArgumentException($"alpha must be [{pairs.Count}, 3], not [{string.Join(", ", alpha.shape)}].", nameof(alpha));
        if (!alpha.isfinite().all().item<bool>()) throw new ArgumentException("alpha must be finite; a parameter is NaN or infinite.", nameof(alpha));
        double[] probabilities = alpha.cpu().to(ScalarType.Float64).softmax(1).flatten().data<double>().ToArray();
        return new InteractionPlan([.. pairs.Select((pair, i) =>
        {
            double[] p = probabilities[(3 * i)..(3 * i + 3)];
            return new PairChoice(pair.First, pair.Second, (InteractionMethod)Array.IndexOf(p, p.Max()), p);
        })]);
    }

    /// <summary>The pairs of a method.</summary>
    /// <param name="method">The method.</param>
    public IReadOnlyList<FieldPair> Pairs(InteractionMethod method) => [.. Choices.Where(c => c.Method == method).Select(c => c.Pair)];

    /// <summary>Parameters of the interactions: the rows of the memorized pairs, and, if any pair is factorized, the table of factors.</summary>
    /// <param name="vocabulary">A vocabulary with all memorized pairs of the plan.</param>
    /// <param name="crossDim">Width s2 of an interaction.</param>
    /// <exception cref="ArgumentException">The vocabulary lacks a pair.</exception>
    public long ParameterCount(CrossVocabulary vocabulary, long crossDim)
    {
        ArgumentNullException.ThrowIfNull(vocabulary);
        return crossDim * (Pairs(InteractionMethod.Memorize).Sum(vocabulary.RowsOf) + (Pairs(InteractionMethod.Factorize).Count > 0 ? vocabulary.Ids : 0));
    }

    /// <summary>Writes the plan as JSON, whole or not at all.</summary>
    /// <param name="path">The file.</param>
    public void Save(string path) => AtomicFile.WriteText(path, JsonSerializer.Serialize(this, Json));

    /// <summary>Reads a plan that <see cref="Save"/> wrote.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file holds no plan; the message says why.</exception>
    public static InteractionPlan Load(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<InteractionPlan>(File.ReadAllText(path), Json) ?? throw new InvalidDataException($"{path} holds no plan.");
        }
        catch (Exception e) when (e is JsonException or ArgumentException)
        {
            throw new InvalidDataException($"{path} holds no plan: {e.Message}", e);
        }
    }

    private static IReadOnlyList<FieldPair> Checked(IReadOnlyList<FieldPair> pairs)
    {
        ArgumentNullException.ThrowIfNull(pairs);
        return pairs;
    }
}
