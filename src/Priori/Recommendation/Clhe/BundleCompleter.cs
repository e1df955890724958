using Priori.Metrics;
using Priori.Nn;

namespace Priori.Recommendation;

/// <summary>
/// A trained <see cref="Clhe"/> frozen for use: the vectors of all items as members of bundles and as candidates, and the bundle encoder. It needs no features, is small, and may be used by several threads.
/// </summary>
public sealed class BundleCompleter : IDisposable
{
    private const string MemberKey = "members", CandidateKey = "candidates", EncoderPrefix = "bundles.";
    private readonly Tensor members, candidates;
    private readonly SetEncoder bundles;
    private readonly int maxItems;

    /// <summary>Freezes a model: everything is copied.</summary>
    /// <param name="model">The model; it stays the caller's.</param>
    public BundleCompleter(Clhe model)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        members = model.Encoder.All().detach().DetachFromDisposeScope();
        candidates = model.Decoder.All().detach().DetachFromDisposeScope();
        bundles = Clhe.BundleEncoder(model.Options.EmbeddingDim, model.Options.BundleLayers);
        bundles.to(model.Device);
        bundles.load_state_dict(model.Bundles.state_dict());
        maxItems = model.Options.MaxItems;
    }

    /// <summary>Rebuilds a frozen model from <see cref="State"/>.</summary>
    /// <param name="state">Its tensors.</param>
    /// <param name="maxItems">Most items of a query that are read.</param>
    /// <param name="device">The device; CPU by default.</param>
    /// <exception cref="ArgumentException">A tensor is missing or has another shape.</exception>
    public BundleCompleter(IReadOnlyDictionary<string, Tensor> state, int maxItems = 200, Device? device = null)
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxItems, 1);
        if (!state.TryGetValue(MemberKey, out Tensor? member) || !state.TryGetValue(CandidateKey, out Tensor? candidate) || member.dim() != 2 || !member.shape.SequenceEqual(candidate.shape))
            throw new ArgumentException($"'{MemberKey}' and '{CandidateKey}' must be matrices of one shape.", nameof(state));
        device ??= CPU;
        members = member.to(device).clone().DetachFromDisposeScope();
        candidates = candidate.to(device).clone().DetachFromDisposeScope();
        Dictionary<string, Tensor> weights = state.Where(t => t.Key.StartsWith(EncoderPrefix, StringComparison.Ordinal)).ToDictionary(t => t.Key[EncoderPrefix.Length..], t => t.Value);
        bundles = Clhe.BundleEncoder(member.size(1), weights.Keys.Count(k => k.EndsWith("query.weight", StringComparison.Ordinal)));
        bundles.load_state_dict(weights);
        bundles.to(device);
        this.maxItems = maxItems;
    }

    /// <summary>Number of items N.</summary>
    public int ItemCount => (int)members.size(0);

    /// <summary>Everything it consists of, by name.</summary>
    public IReadOnlyDictionary<string, Tensor> State()
        => bundles.state_dict().ToDictionary(t => EncoderPrefix + t.Key, t => t.Value).Append(new(MemberKey, members)).Append(new(CandidateKey, candidates)).ToDictionary(t => t.Key, t => t.Value);

    /// <summary>Scores of all items, [queries, N], those of the query's own items included.</summary>
    /// <param name="queries">Partial bundles, at least one item each.</param>
    /// <exception cref="ArgumentException">A query is empty or an item is outside the catalogue.</exception>
    public Tensor Score(IReadOnlyList<IReadOnlyCollection<int>> queries)
    {
        ArgumentNullException.ThrowIfNull(queries);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        int[][] read = [.. queries.Select((query, q) => Checked(query, ItemCount, $"Query {q}")).Select(query => query.Length > maxItems ? query[..maxItems] : query)];
        PaddedSets sets = PaddedSets.Of(read, members.device);
        Tensor items = members.index_select(0, sets.Items.reshape(-1)).view(sets.Items.size(0), sets.Items.size(1), -1);
        return bundles.forward(items, sets.Mask).matmul(candidates.t()).MoveToOuterDisposeScope();
    }

    /// <summary>The items that complete a partial bundle best, best first, without its own.</summary>
    /// <param name="partial">At least one item.</param>
    /// <param name="topK">How many; fewer where the catalogue ends.</param>
    /// <exception cref="ArgumentException">The bundle is empty or an item is outside the catalogue.</exception>
    public IReadOnlyList<(int Item, double Score)> Complete(IReadOnlyCollection<int> partial, int topK)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor scores = Score([partial]);
        int[] ranked = TopKEvaluator.Rank(scores, _ => partial, topK)[0];
        float[] values = scores.cpu().data<float>().ToArray();
        return [.. ranked.Select(item => (item, (double)values[item]))];
    }

    /// <summary>Ranks all items but the query's own for every query.</summary>
    /// <param name="queries">Partial bundles.</param>
    /// <param name="truth">The items that complete each.</param>
    /// <param name="k">Length of the rankings.</param>
    public TopKResult Evaluate(IReadOnlyList<int[]> queries, IReadOnlyList<int[]> truth, int k)
    {
        ArgumentNullException.ThrowIfNull(queries);
        return TopKEvaluator.Evaluate(rows => Score([.. rows.data<long>().ToArray().Select(row => queries[(int)row])]), truth, queries, k);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        members.Dispose();
        candidates.Dispose();
        bundles.Dispose();
    }

    internal static int[] Checked(IReadOnlyCollection<int> bundle, long itemCount, string name)
    {
        if (bundle.Count == 0) throw new ArgumentException($"{name} is empty.", nameof(bundle));
        if (bundle.Any(item => item < 0 || item >= itemCount)) throw new ArgumentException($"{name} has an item outside 0..{itemCount - 1}.", nameof(bundle));
        return [.. bundle.Distinct()];
    }
}
