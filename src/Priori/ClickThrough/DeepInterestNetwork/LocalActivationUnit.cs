using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>The hidden nonlinearity of a deep interest network.</summary>
public enum InterestActivation
{
    /// <summary>PReLU with a slope for each channel, initially 0.25.</summary>
    PRelu,

    /// <summary><see cref="Nn.Dice"/>.</summary>
    Dice,

    /// <summary>Sigmoid, as in the authors' code.</summary>
    Sigmoid,
}

/// <summary>What becomes of the scores that a local activation unit gives to past behaviors.</summary>
public enum ActivationNormalization
{
    /// <summary>They are the weights (Zhou et al., KDD 2018, section 4.3): their sum keeps the intensity of the interest.</summary>
    None,

    /// <summary>Softmax over the history.</summary>
    Softmax,

    /// <summary>Softmax of the scores divided by the square root of the width, as in the authors' demo.</summary>
    ScaledSoftmax,
}

/// <summary>
/// The local activation unit (Zhou et al., KDD 2018, eq. 3 and fig. 2): <c>v_U(A) = sum_j a(e_j, v_A) e_j</c>, the history's embeddings e_j weighted for a candidate v_A by
/// a small network a of [q, k, q - k, q * k]. Its first layer is computed as (W1 + W3) q + (W2 - W3) k + W4 (q * k), the query's part once a candidate and the key's once a position.
/// Padded positions have weight 0 and touch no statistics; an empty history gives 0.
/// </summary>
public sealed class LocalActivationUnit : Module<Tensor, Tensor, Tensor, (Tensor Pooled, Tensor Weights)>
{
    private readonly TorchSharp.Modules.Linear first;
    private readonly Module<Tensor, Tensor> activation;
    private readonly Mlp rest;
    private readonly ActivationNormalization normalization;
    private readonly bool overPadding;
    private readonly long dim;

    /// <summary>Creates the unit.</summary>
    /// <param name="dim">Width d of a behavior's and a candidate's embedding.</param>
    /// <param name="hidden">Hidden widths, at least one; 80, 40 by default, as in the authors' code. The paper's figure has 36.</param>
    /// <param name="kind">Hidden nonlinearity.</param>
    /// <param name="normalization">What becomes of the scores; the paper normalises nothing.</param>
    /// <param name="statisticsOverPadding">Whether Dice's statistics in training are over all positions, padding included (the authors' code), and not over the valid ones.</param>
    /// <exception cref="ArgumentException">A width is less than 1 or there is no hidden layer.</exception>
    public LocalActivationUnit(long dim, IReadOnlyList<long>? hidden = null, InterestActivation kind = InterestActivation.PRelu, ActivationNormalization normalization = ActivationNormalization.None, bool statisticsOverPadding = false)
        : base(nameof(LocalActivationUnit))
    {
        hidden ??= [80, 40];
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        if (hidden.Count == 0 || hidden.Any(h => h < 1)) throw new ArgumentException("A local activation unit needs at least one hidden width, each at least 1.", nameof(hidden));
        (this.dim, this.normalization, overPadding) = (dim, normalization, statisticsOverPadding);
        first = nn.Linear(4 * dim, hidden[0]);
        activation = Create(kind, hidden[0]);
        rest = new Mlp(hidden[0], [.. hidden.Skip(1)], 1, width => Create(kind, width));
        RegisterComponents();
    }

    /// <summary>Pools histories for candidates.</summary>
    /// <param name="query">Candidates [batch, d], or several of each row [batch, candidates, d].</param>
    /// <param name="keys">Histories [batch, T, d]; what is in padded positions has no effect.</param>
    /// <param name="mask">Valid positions, bool [batch, T].</param>
    /// <returns>The user's vector of each candidate, of the query's shape, and the weights [batch, T] or [batch, candidates, T].</returns>
    /// <exception cref="ArgumentException">Shapes do not fit.</exception>
    public override (Tensor Pooled, Tensor Weights) forward(Tensor query, Tensor keys, Tensor mask)
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(mask);
        if (keys.dim() != 3 || keys.size(2) != dim) throw new ArgumentException($"keys must be [batch, T, {dim}], not [{string.Join(", ", keys.shape)}].", nameof(keys));
        if (mask.dtype != ScalarType.Bool || !mask.shape.AsSpan().SequenceEqual(keys.shape.AsSpan()[..2]))
            throw new ArgumentException($"mask must be bool [{keys.size(0)}, {keys.size(1)}] like the keys, not {mask.dtype} [{string.Join(", ", mask.shape)}].", nameof(mask));
        if (query.dim() is not (2 or 3) || query.size(0) != keys.size(0) || query.size(-1) != dim)
            throw new ArgumentException($"query must be [{keys.size(0)}, {dim}] or [{keys.size(0)}, candidates, {dim}], not [{string.Join(", ", query.shape)}].", nameof(query));
        if (query.dim() == 3) return Attend(query, keys, mask);
        var (pooled, weights) = Attend(query.unsqueeze(1), keys, mask);
        return (pooled.squeeze(1), weights.squeeze(1));
    }

    internal static Module<Tensor, Tensor> Create(InterestActivation kind, long width) => kind switch
    {
        InterestActivation.PRelu => nn.PReLU(width),
        InterestActivation.Dice => new Dice(width),
        _ => nn.Sigmoid(),
    };

    private (Tensor Pooled, Tensor Weights) Attend(Tensor query, Tensor keys, Tensor mask)
    {
        Tensor valid = mask.unsqueeze(1).expand(-1, query.size(1), -1);                // [batch, candidates, T]
        Tensor scores = Scores(query, keys, valid);
        Tensor weights = normalization switch
        {
            ActivationNormalization.None => scores * valid,
            ActivationNormalization.Softmax => Masked.Softmax(scores, valid),
            _ => Masked.Softmax(scores / Math.Sqrt(dim), valid),
        };
        return (weights.matmul(keys), weights);
    }

    /// <summary>a(e_j, v_A) [batch, candidates, T]; 0 in padded positions, unless statistics are over these too.</summary>
    private Tensor Scores(Tensor query, Tensor keys, Tensor valid)
    {
        Tensor[] w = first.weight!.chunk(4, 1);
        Tensor hidden = functional.linear(query.unsqueeze(2) * keys.unsqueeze(1), w[3])
            + functional.linear(keys, w[1] - w[2]).unsqueeze(1)
            + functional.linear(query, w[0] + w[2], first.bias).unsqueeze(2);
        Tensor rows = hidden.reshape(-1, hidden.size(-1));
        if (overPadding) return rest.forward(activation.forward(rows)).view(valid.shape);
        Tensor positions = valid.reshape(-1).nonzero().squeeze(1);
        Tensor none = zeros(rows.size(0), rows.dtype, rows.device);
        return (positions.size(0) == 0 ? none : none.index_add(0, positions, rest.forward(activation.forward(rows.index_select(0, positions))).squeeze(-1), 1)).view(valid.shape);
    }
}
