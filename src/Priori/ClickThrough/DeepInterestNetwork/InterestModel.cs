using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>One feature of a behavior and of a candidate: its id, category, shop, ...</summary>
/// <param name="Name">Its name.</param>
/// <param name="Ids">Number of ids.</param>
/// <param name="Dim">Width of its embedding.</param>
public sealed record BehaviorFeature(string Name, long Ids, long Dim);

/// <summary>Architecture of the models of user histories. The defaults are the paper's and its authors' code's for Amazon.</summary>
public sealed record DinOptions
{
    /// <summary>Features of a behavior; candidates have the same ones.</summary>
    public required IReadOnlyList<BehaviorFeature> Features { get; init; }

    /// <summary>Features that are attended to together, by index: one local activation unit each. Null: one unit of all features; [[0], [1]] has one of its own for each of two.</summary>
    public IReadOnlyList<IReadOnlyList<int>>? Units { get; init; }

    /// <summary>Fields of the user's profile and of the context; 0 for none.</summary>
    public long ContextFields { get; init; }

    /// <summary>Number of ids over all fields of profile and context.</summary>
    public long ContextIds { get; init; }

    /// <summary>Width of a field's embedding.</summary>
    public long ContextDim { get; init; } = 8;

    /// <summary>Hidden widths of a local activation unit.</summary>
    public IReadOnlyList<long> UnitHidden { get; init; } = [80, 40];

    /// <summary>Hidden widths of the network on top.</summary>
    public IReadOnlyList<long> MlpHidden { get; init; } = [200, 80];

    /// <summary>Hidden nonlinearity, of the units and of the network on top.</summary>
    public InterestActivation Activation { get; init; }

    /// <summary>What becomes of the units' scores.</summary>
    public ActivationNormalization Normalization { get; init; }

    /// <summary>Whether Dice's statistics in the units are over padded positions too.</summary>
    public bool StatisticsOverPadding { get; init; }

    /// <summary>Standard deviation of the embeddings' initialisation; null for Xavier uniform.</summary>
    public double? EmbeddingDeviation { get; init; }

    /// <summary>
    /// Whether the tables' gradients are sparse tensors of the rows that occur in a batch, so that with <see cref="Training.RowwiseAdam"/> a step touches only these (eq. 7) and costs no more for a larger table.
    /// </summary>
    public bool Sparse { get; init; }

    /// <summary>Width of a behavior's embedding: all features together.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public long Dim => Features.Sum(f => f.Dim);
}

/// <summary>
/// Predicts clicks from a history of behaviors: [profile and context, the pooled history, the candidate] go through an MLP to a logit (Zhou et al., KDD 2018, section 4).
/// Models differ in how they pool.
/// </summary>
public abstract class InterestModel : Module<Tensor, Tensor, Tensor, Tensor>
{
    private readonly RegularizedEmbedding[] tables;
    private readonly FieldEmbedding? context;
    private readonly Mlp mlp;

    /// <summary>Creates what the models share.</summary>
    /// <param name="name">Name of the module.</param>
    /// <param name="options">The architecture.</param>
    /// <param name="regularizers">Regularizer of each feature's table; null, or null entries, for none.</param>
    /// <exception cref="ArgumentException">There is no feature, or a size is less than 1.</exception>
    protected InterestModel(string name, DinOptions options, IReadOnlyList<EmbeddingRegularizer?>? regularizers) : base(name)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Features.Count == 0) throw new ArgumentException("A behavior has at least one feature.", nameof(options));
        if (regularizers is not null && regularizers.Count != options.Features.Count)
            throw new ArgumentException($"{options.Features.Count} features need as many regularizers (null for none), not {regularizers.Count}.", nameof(regularizers));
        Options = options;
        tables = [.. options.Features.Select((f, i) => new RegularizedEmbedding(f.Ids, f.Dim, options.EmbeddingDeviation, regularizers?[i], options.Sparse))];
        for (int i = 0; i < tables.Length; i++) register_module($"table{i}", tables[i]);
        if (options.ContextFields > 0) register_module("context", context = new FieldEmbedding(options.ContextFields, options.ContextIds, options.ContextDim));
        mlp = new Mlp(2 * options.Dim + options.ContextFields * options.ContextDim, options.MlpHidden, 1, width => LocalActivationUnit.Create(options.Activation, width));
        register_module("mlp", mlp);
    }

    /// <summary>The architecture.</summary>
    public DinOptions Options { get; }

    /// <summary>Embedding table of a feature [ids, dim].</summary>
    /// <param name="feature">Index of the feature.</param>
    public TorchSharp.Modules.Parameter Table(int feature) => tables[feature].Weight;

    /// <summary>Logits of clicks.</summary>
    /// <param name="candidate">Features of the candidate, int64 [batch, features], or of several for each history, [batch, candidates, features].</param>
    /// <param name="history">Features of past behaviors, int64 [batch, T, features]; padded positions hold any ids of the tables.</param>
    /// <param name="mask">Valid positions, bool [batch, T]; none for an empty history.</param>
    /// <returns>Logits [batch] or [batch, candidates].</returns>
    /// <exception cref="ArgumentException">Shapes do not fit, an id is outside its table, or the model has context fields.</exception>
    public override Tensor forward(Tensor candidate, Tensor history, Tensor mask) => Logits(candidate, history, mask, null);

    /// <summary>Logits of clicks of a model with profile and context fields.</summary>
    /// <param name="candidate">As for the other overload.</param>
    /// <param name="history">As for the other overload.</param>
    /// <param name="mask">As for the other overload.</param>
    /// <param name="contextIds">Ids of the profile and context fields, int64 [batch, fields].</param>
    public Tensor forward(Tensor candidate, Tensor history, Tensor mask, Tensor contextIds) => Logits(candidate, history, mask, contextIds);

    /// <summary>What the tables' regularizers add to the loss of a batch: a scalar, 0 without one.</summary>
    /// <param name="candidate">Features of the candidates, int64 [batch, features].</param>
    /// <param name="history">Features of past behaviors, int64 [batch, T, features].</param>
    /// <param name="mask">Valid positions, bool [batch, T].</param>
    public Tensor Penalty(Tensor candidate, Tensor history, Tensor mask)
    {
        Check(candidate, history, mask);
        Tensor sum = tensor(0f, device: candidate.device);
        if (!tables.Any(table => table.IsRegularized)) return sum;
        Tensor behaviors = history.flatten(0, 1).index_select(0, mask.reshape(-1).nonzero().squeeze(1));
        for (int i = 0; i < tables.Length; i++)
            if (tables[i].Penalty(cat([candidate.reshape(-1, tables.Length).select(1, i), behaviors.select(1, i)])) is { } penalty) sum = sum + penalty;
        return sum;
    }

    /// <summary>Scores many candidates for each history, in evaluation mode and without a graph, in blocks that bound the memory.</summary>
    /// <param name="candidates">Features of the candidates, int64 [candidates, features].</param>
    /// <param name="history">Features of past behaviors, int64 [batch, T, features].</param>
    /// <param name="mask">Valid positions, bool [batch, T].</param>
    /// <param name="positions">Most positions (batch x candidates x T) that are activated at once.</param>
    /// <returns>Logits [batch, candidates].</returns>
    public Tensor Score(Tensor candidates, Tensor history, Tensor mask, long positions = 1 << 16)
    {
        ArgumentNullException.ThrowIfNull(candidates);
        ArgumentNullException.ThrowIfNull(history);
        if (candidates.dim() != 2 || candidates.size(0) == 0) throw new ArgumentException($"candidates must be [candidates, {tables.Length}] and at least one, not [{string.Join(", ", candidates.shape)}].", nameof(candidates));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        eval();
        long block = Math.Max(1, positions / Math.Max(1, history.size(0) * history.size(1)));
        var parts = new List<Tensor>();
        for (long start = 0; start < candidates.size(0); start += block)
        {
            Tensor part = candidates.narrow(0, start, Math.Min(block, candidates.size(0) - start));
            using DisposeScope step = NewDisposeScope();
            parts.Add(forward(part.unsqueeze(0).expand(history.size(0), -1, -1), history, mask).MoveToOuterDisposeScope());
        }
        return cat(parts, 1).MoveToOuterDisposeScope();
    }

    /// <summary>The user's vector for each candidate.</summary>
    /// <param name="query">Candidates' embeddings [batch, candidates, d].</param>
    /// <param name="keys">Behaviors' embeddings [batch, T, d].</param>
    /// <param name="mask">Valid positions, bool [batch, T].</param>
    /// <returns>Vectors [batch, candidates, d], 0 for an empty history.</returns>
    protected abstract Tensor Pool(Tensor query, Tensor keys, Tensor mask);

    /// <summary>Embeddings [..., d] of features, int64 [..., features].</summary>
    /// <param name="features">The features' ids.</param>
    protected Tensor Embed(Tensor features)
    {
        ArgumentNullException.ThrowIfNull(features);
        return cat([.. tables.Select((table, i) => table.forward(features.select(-1, i)))], -1);
    }

    /// <summary>Checks the shapes of a batch.</summary>
    /// <param name="candidate">The candidates.</param>
    /// <param name="history">The histories.</param>
    /// <param name="mask">The valid positions.</param>
    /// <exception cref="ArgumentException">They do not fit.</exception>
    protected void Check(Tensor candidate, Tensor history, Tensor mask)
    {
        ArgumentNullException.ThrowIfNull(candidate);
        ArgumentNullException.ThrowIfNull(history);
        ArgumentNullException.ThrowIfNull(mask);
        int features = tables.Length;
        if (candidate.dim() is not (2 or 3) || candidate.size(-1) != features)
            throw new ArgumentException($"candidate must be [batch, {features}] or [batch, candidates, {features}], not [{string.Join(", ", candidate.shape)}].", nameof(candidate));
        if (history.dim() != 3 || history.size(0) != candidate.size(0) || history.size(2) != features)
            throw new ArgumentException($"history must be [{candidate.size(0)}, T, {features}], not [{string.Join(", ", history.shape)}].", nameof(history));
        if (mask.dtype != ScalarType.Bool || !mask.shape.AsSpan().SequenceEqual(history.shape.AsSpan()[..2]))
            throw new ArgumentException($"mask must be bool [{history.size(0)}, {history.size(1)}] like the history, not {mask.dtype} [{string.Join(", ", mask.shape)}].", nameof(mask));
    }

    private Tensor Logits(Tensor candidate, Tensor history, Tensor mask, Tensor? contextIds)
    {
        Check(candidate, history, mask);
        if (context is null != contextIds is null) throw new ArgumentException($"The model has {Options.ContextFields} context fields; give the ids of as many.", nameof(contextIds));
        bool several = candidate.dim() == 3;
        Tensor query = Embed(several ? candidate : candidate.unsqueeze(1));                // [batch, candidates, d]
        List<Tensor> parts = [Pool(query, Embed(history), mask), query];
        if (contextIds is not null)
            parts.Insert(0, context!.forward(contextIds, ones(contextIds.shape, device: contextIds.device)).flatten(1).unsqueeze(1).expand(-1, query.size(1), -1));
        Tensor logits = mlp.forward(cat(parts, -1).flatten(0, 1)).view(query.size(0), query.size(1));
        return several ? logits : logits.squeeze(1);
    }
}

/// <summary>How <see cref="BaseInterestModel"/> pools.</summary>
public enum InterestPooling
{
    /// <summary>The sum of the behaviors.</summary>
    Sum,

    /// <summary>Their mean.</summary>
    Mean,
}

/// <summary>The base model (Zhou et al., KDD 2018, section 4.2): the user's vector is the sum or mean of the behaviors' embeddings, the same for every candidate.</summary>
public sealed class BaseInterestModel : InterestModel
{
    private readonly InterestPooling pooling;

    /// <summary>Creates the model.</summary>
    /// <param name="options">The architecture; units and their normalisation are of no effect.</param>
    /// <param name="pooling">Sum or mean.</param>
    /// <param name="regularizers">Regularizer of each feature's table; null, or null entries, for none.</param>
    public BaseInterestModel(DinOptions options, InterestPooling pooling = InterestPooling.Sum, IReadOnlyList<EmbeddingRegularizer?>? regularizers = null)
        : base(nameof(BaseInterestModel), options, regularizers) => this.pooling = pooling;

    /// <inheritdoc/>
    protected override Tensor Pool(Tensor query, Tensor keys, Tensor mask)
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(mask);
        Tensor pooled = pooling == InterestPooling.Mean ? Masked.Mean(keys, mask) : keys.masked_fill(mask.logical_not().unsqueeze(-1), 0).sum(dim: 1);
        return pooled.unsqueeze(1).expand(-1, query.size(1), -1);
    }
}

/// <summary>
/// Deep interest network (Zhou, Zhu, Song, Fan, Zhu, Ma, Yan, Jin, Li, Gai, KDD 2018, section 4.3): past behaviors are weighted for each candidate by <see cref="LocalActivationUnit"/>s,
/// so that the user's vector shows the interests that matter to it.
/// </summary>
public sealed class DeepInterestNetwork : InterestModel
{
    private readonly int[][] groups;
    private readonly LocalActivationUnit[] units;

    /// <summary>Creates the network.</summary>
    /// <param name="options">The architecture.</param>
    /// <param name="regularizers">Regularizer of each feature's table; null, or null entries, for none.</param>
    /// <exception cref="ArgumentException">The units do not have each feature once, or a size is less than 1.</exception>
    public DeepInterestNetwork(DinOptions options, IReadOnlyList<EmbeddingRegularizer?>? regularizers = null) : base(nameof(DeepInterestNetwork), options, regularizers)
    {
        ArgumentNullException.ThrowIfNull(options);
        int[] all = [.. Enumerable.Range(0, options.Features.Count)];
        groups = options.Units is null ? [all] : [.. options.Units.Select(u => u.ToArray())];
        if (!groups.SelectMany(g => g).Order().SequenceEqual(all) || groups.Any(g => g.Length == 0)) throw new ArgumentException("The units must have each feature exactly once.", nameof(options));
        units = [.. groups.Select(g => new LocalActivationUnit(g.Sum(f => options.Features[f].Dim), options.UnitHidden, options.Activation, options.Normalization, options.StatisticsOverPadding))];
        for (int i = 0; i < units.Length; i++) register_module($"unit{i}", units[i]);
    }

    /// <summary>Weights of past behaviors, [batch, T] or [batch, candidates, T] for each unit: 0 in padded positions.</summary>
    /// <param name="candidate">Features of the candidates, as for <see cref="InterestModel.forward(Tensor, Tensor, Tensor)"/>.</param>
    /// <param name="history">Features of past behaviors.</param>
    /// <param name="mask">Valid positions.</param>
    public IReadOnlyList<Tensor> Weights(Tensor candidate, Tensor history, Tensor mask)
    {
        Check(candidate, history, mask);
        Tensor query = Embed(candidate), keys = Embed(history);
        return [.. Attend(query, keys, mask).Select(a => a.Weights)];
    }

    /// <inheritdoc/>
    protected override Tensor Pool(Tensor query, Tensor keys, Tensor mask)
    {
        // Units pool their own features; these go back into the features' order.
        Tensor[] pooled = new Tensor[Options.Features.Count];
        foreach (var (group, (vector, _)) in groups.Zip(Attend(query, keys, mask)))
            foreach (var (feature, part) in group.Zip(vector.split([.. group.Select(f => Options.Features[f].Dim)], -1))) pooled[feature] = part;
        return cat(pooled, -1);
    }

    private IEnumerable<(Tensor Pooled, Tensor Weights)> Attend(Tensor query, Tensor keys, Tensor mask)
    {
        if (units.Length == 1 && groups[0].AsSpan().SequenceEqual(Enumerable.Range(0, groups[0].Length).ToArray())) return [units[0].forward(query, keys, mask)];
        long[] dims = [.. Options.Features.Select(f => f.Dim)];
        Tensor[] q = query.split(dims, -1), k = keys.split(dims, -1);
        return units.Zip(groups, (unit, group) => unit.forward(cat([.. group.Select(f => q[f])], -1), cat([.. group.Select(f => k[f])], -1), mask));
    }
}
