namespace Priori.ClickThrough;

/// <summary>
/// Keeps a large embedding table from memorising its training data; the base class does nothing. Four ways of Zhou et al. (KDD 2018, sections 5.2 and 6.5): <see cref="MiniBatchAwareL2"/>,
/// <see cref="DiFactoL2"/>, <see cref="IdDropout"/>, <see cref="FrequencyFilter"/>.
/// </summary>
/// <param name="name">Name of the module.</param>
public abstract class EmbeddingRegularizer(string name) : Module(name)
{
    /// <summary>The rows that ids read; by default their own.</summary>
    /// <param name="ids">Ids, int64 of any shape.</param>
    public virtual Tensor Rows(Tensor ids) => ids;

    /// <summary>What is left of embeddings in training; by default all.</summary>
    /// <param name="embedded">Embeddings [..., d].</param>
    public virtual Tensor Drop(Tensor embedded) => embedded;

    /// <summary>The batch's penalty, a scalar to add to the mean loss; null for none.</summary>
    /// <param name="table">The table [ids, d].</param>
    /// <param name="ids">Ids of the batch without padding, int64 [n], repeated as they occur.</param>
    /// <exception cref="ArgumentException">An id is outside the table.</exception>
    public Tensor? Penalty(Tensor table, Tensor ids)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(ids);
        if (table.dim() != 2 || ids.dim() != 1) throw new ArgumentException($"The table must be [ids, d] and the ids [n], not [{string.Join(", ", table.shape)}] and [{string.Join(", ", ids.shape)}].", nameof(ids));
        if (ids.numel() > 0 && (ids.min().item<long>() < 0 || ids.max().item<long>() >= table.size(0))) throw new ArgumentException($"ids must be in 0..{table.size(0) - 1}.", nameof(ids));
        return Penalty(rows => table.index_select(0, rows), ids);
    }

    internal Tensor? Penalty(Func<Tensor, Tensor> lookUp, Tensor ids)
    {
        if (Strengths(ids) is not { } penalised) return null;
        Tensor norms = lookUp(penalised.Ids).square().sum(1);
        return (norms * penalised.Strengths.to(norms.dtype)).sum() / 2;
    }

    /// <summary>The L2 norms that a batch adds: sum over i of strength_i / 2 * ||w of id_i||^2; null for none.</summary>
    /// <param name="ids">Ids of the batch without padding, int64 [n], repeated as they occur.</param>
    /// <returns>Ids, int64 [m], and the strength of each [m].</returns>
    protected virtual (Tensor Ids, Tensor Strengths)? Strengths(Tensor ids) => null;

    private protected static Tensor CheckedCounts(Tensor counts)
    {
        ArgumentNullException.ThrowIfNull(counts);
        if (counts.dim() != 1 || counts.lt(0).any().item<bool>()) throw new ArgumentException("Counts must be [ids] and not negative.", nameof(counts));
        return counts.to(ScalarType.Float32).clone();
    }
}

/// <summary>
/// Mini-batch aware regularization (eq. 6 and 7): <c>lambda / 2 * sum over the ids j of the batch of ||w_j||^2 / n_j</c>, each id once however often it occurs in the batch, with n_j its
/// number of samples in the whole training set. An epoch of single samples adds up to the exact L2 norm, while a step touches only the rows that the batch uses.
/// </summary>
public sealed class MiniBatchAwareL2 : EmbeddingRegularizer
{
    private readonly Tensor counts;
    private readonly double lambda;

    /// <summary>Creates the regularizer.</summary>
    /// <param name="counts">n_j [ids]: training samples in which each id occurs.</param>
    /// <param name="lambda">Strength, at least 0. Paper: 0.01.</param>
    /// <exception cref="ArgumentException">A count is negative or the strength is.</exception>
    public MiniBatchAwareL2(Tensor counts, double lambda = 0.01) : base(nameof(MiniBatchAwareL2))
    {
        ArgumentOutOfRangeException.ThrowIfNegative(lambda);
        this.counts = CheckedCounts(counts);
        this.lambda = lambda;
        RegisterComponents();
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">An id has no count, or a count of 0 although it is in the batch.</exception>
    protected override (Tensor Ids, Tensor Strengths)? Strengths(Tensor ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        Tensor touched = ids.unique().output;
        if (touched.numel() > 0 && touched.max().item<long>() >= counts.size(0)) throw new ArgumentException($"There are counts of {counts.size(0)} ids; id {touched.max().item<long>()} is not one of them.", nameof(ids));
        Tensor n = counts.index_select(0, touched);
        if (n.eq(0).any().item<bool>())
            throw new ArgumentException($"Id {touched[n.eq(0)][0].item<long>()} is in the batch but has a count of 0; counts are over the whole training set.", nameof(ids));
        return (touched, lambda / n.to(ScalarType.Float64));
    }
}

/// <summary>
/// The L2 norm of DiFacto (Li et al., WSDM 2016) as the paper compares it: <c>lambda / 2 * ||w_j||^2</c> for every occurrence of an id, so that frequent ids are penalised more.
/// </summary>
public sealed class DiFactoL2 : EmbeddingRegularizer
{
    private readonly double lambda;

    /// <summary>Creates the regularizer.</summary>
    /// <param name="lambda">Strength of one occurrence in a batch, at least 0.</param>
    public DiFactoL2(double lambda = 1e-4) : base(nameof(DiFactoL2))
    {
        ArgumentOutOfRangeException.ThrowIfNegative(lambda);
        this.lambda = lambda;
    }

    /// <inheritdoc/>
    protected override (Tensor Ids, Tensor Strengths)? Strengths(Tensor ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return (ids, full(ids.size(0), lambda, ScalarType.Float64, ids.device));
    }
}

/// <summary>Discards each id of each sample with a probability in training: its embedding is 0, and the others are scaled up so that sums keep their expectation.</summary>
public sealed class IdDropout : EmbeddingRegularizer
{
    private readonly double probability;

    /// <summary>Creates the regularizer.</summary>
    /// <param name="probability">Probability in [0, 1). Paper: 0.5.</param>
    public IdDropout(double probability = 0.5) : base(nameof(IdDropout))
    {
        if (probability is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(probability), probability, "The probability must be in [0, 1).");
        this.probability = probability;
    }

    /// <inheritdoc/>
    public override Tensor Drop(Tensor embedded)
    {
        ArgumentNullException.ThrowIfNull(embedded);
        return training ? embedded * functional.dropout(ones([.. embedded.shape[..^1], 1], embedded.dtype, embedded.device), probability, training: true) : embedded;
    }
}

/// <summary>Keeps the rows of the most frequent ids; all others read the common row 0, in training and after it.</summary>
public sealed class FrequencyFilter : EmbeddingRegularizer
{
    private readonly Tensor row_of;

    /// <summary>Creates the regularizer.</summary>
    /// <param name="counts">Training samples in which each id occurs [ids].</param>
    /// <param name="keep">How many ids keep a row of their own, at least 1.</param>
    /// <exception cref="ArgumentException">A count is negative or nothing is kept.</exception>
    public FrequencyFilter(Tensor counts, long keep) : base(nameof(FrequencyFilter))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(keep, 1);
        using DisposeScope scope = NewDisposeScope();
        Tensor n = CheckedCounts(counts);
        Tensor kept = n.sort(0, descending: true, stable: true).Indices.narrow(0, 0, Math.Min(keep, n.size(0)));
        row_of = zeros(n.size(0), ScalarType.Int64).index_copy(0, kept, kept).MoveToOuterDisposeScope();
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override Tensor Rows(Tensor ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return row_of.index_select(0, ids.reshape(-1)).view(ids.shape);
    }
}

/// <summary>An embedding table with its regularizer.</summary>
public sealed class RegularizedEmbedding : Module<Tensor, Tensor>
{
    private readonly TorchSharp.Modules.Embedding table;
    private readonly EmbeddingRegularizer? regularizer;

    /// <summary>Creates the table.</summary>
    /// <param name="ids">Number of ids.</param>
    /// <param name="dim">Width of an embedding.</param>
    /// <param name="deviation">Standard deviation of a normal initialisation, at least 0; null for Xavier uniform, the default of the authors' code.</param>
    /// <param name="regularizer">Its regularizer; null for none. It becomes part of this module.</param>
    /// <param name="sparse">Whether the table's gradient is a sparse tensor of the rows that occur, as <see cref="Training.RowwiseAdam"/> takes it.</param>
    public RegularizedEmbedding(long ids, long dim, double? deviation = null, EmbeddingRegularizer? regularizer = null, bool sparse = false) : base(nameof(RegularizedEmbedding))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(ids, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        if (deviation is < 0) throw new ArgumentOutOfRangeException(nameof(deviation), deviation, "A standard deviation is at least 0.");
        table = nn.Embedding(ids, dim, sparse: sparse);
        if (deviation is { } spread) init.normal_(table.weight!, 0, spread);
        else init.xavier_uniform_(table.weight!);
        this.regularizer = regularizer;
        RegisterComponents();
    }

    /// <summary>Whether the table has a regularizer.</summary>
    public bool IsRegularized => regularizer is not null;

    /// <summary>The table [ids, dim].</summary>
    public TorchSharp.Modules.Parameter Weight => table.weight!;

    /// <summary>Embeddings [..., dim] of ids, int64 [...].</summary>
    /// <exception cref="ArgumentException">An id is outside the table.</exception>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (input.dtype != ScalarType.Int64 || (input.numel() > 0 && (input.min().item<long>() < 0 || input.max().item<long>() >= Weight.size(0))))
            throw new ArgumentException($"ids must be int64 in 0..{Weight.size(0) - 1}.", nameof(input));
        return regularizer is null ? table.forward(input) : regularizer.Drop(table.forward(regularizer.Rows(input)));
    }

    /// <summary>The regularizer's penalty of a batch; null for none.</summary>
    /// <param name="ids">Ids of the batch without padding, int64 [n].</param>
    public Tensor? Penalty(Tensor ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return regularizer?.Penalty(table.forward, ids);
    }
}
