namespace Priori.Nn;

/// <summary>
/// The input layer of models of categorical and numeric columns: each field of a row is an (id, value) pair, embedded as
/// e_j = value_j * E[id_j]. A category has its own id and value 1; a numeric column has one id and its scaled number as value.
/// The table is initialised Xavier uniform. Some models (AFN, ARM-Net) want a field never to vanish or grow: they clamp values to [1e-3, 1].
/// </summary>
public sealed class FieldEmbedding : Module<Tensor, Tensor, Tensor>
{
    private const double SmallestValue = 1e-3;
    private readonly TorchSharp.Modules.Embedding table;

    /// <summary>Creates the layer.</summary>
    /// <param name="fields">Fields m of a row.</param>
    /// <param name="ids">Number of ids over all fields together; ids are 0 .. ids - 1.</param>
    /// <param name="dim">Width n_e of an embedding.</param>
    /// <param name="clampValues">Whether values are used clamped to [1e-3, 1], as for categories and min-max scaled numbers; not for standardised numbers.</param>
    /// <param name="sparse">Whether the table's gradient is a sparse tensor of the rows that occur, so that a step does not cost as much as the table;
    /// it takes <see cref="Training.RowwiseAdam"/> or <see cref="Training.RowwiseAdagrad"/>. Default false.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1.</exception>
    public FieldEmbedding(long fields, long ids, long dim, bool clampValues = false, bool sparse = false) : base(nameof(FieldEmbedding))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(fields, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(ids, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        (Fields, Ids, Dim, ClampsValues) = (fields, ids, dim, clampValues);
        table = nn.Embedding(ids, dim, sparse: sparse);
        init.xavier_uniform_(table.weight!);
        RegisterComponents();
    }

    /// <summary>Fields of a row.</summary>
    public long Fields { get; }

    /// <summary>Number of ids over all fields.</summary>
    public long Ids { get; }

    /// <summary>Width of an embedding.</summary>
    public long Dim { get; }

    /// <summary>Whether values are used clamped to [1e-3, 1].</summary>
    public bool ClampsValues { get; }

    /// <summary>The table E, [ids, dim].</summary>
    public TorchSharp.Modules.Parameter Weight => table.weight!;

    /// <summary>Embeds rows.</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values, floating point [batch, fields].</param>
    /// <returns>Embeddings [batch, fields, dim].</returns>
    /// <exception cref="ArgumentException">The number of fields differs, an id is outside its range, or a value is not finite.</exception>
    public override Tensor forward(Tensor input1, Tensor input2)
    {
        Check(input1, input2);
        return table.forward(input1).mul((ClampsValues ? input2.clamp(SmallestValue, 1) : input2).unsqueeze(-1));
    }

    private void Check(Tensor ids, Tensor values)
    {
        if (ids.dim() != 2 || ids.size(1) != Fields || ids.dtype != ScalarType.Int64)
            throw new ArgumentException($"ids must be int64 [batch, {Fields}], not {ids.dtype} [{string.Join(", ", ids.shape)}].", nameof(ids));
        if (values.dim() != 2 || values.size(0) != ids.size(0) || values.size(1) != Fields)
            throw new ArgumentException($"values must be [{ids.size(0)}, {Fields}] like the ids, not [{string.Join(", ", values.shape)}].", nameof(values));
        if (ids.size(0) == 0) return;
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        var (least, most) = (ids.min().item<long>(), ids.max().item<long>());
        if (least < 0 || most >= Ids) throw new ArgumentException($"ids must be in 0..{Ids - 1}; {(least < 0 ? least : most)} is not.", nameof(ids));
        if (!values.isfinite().all().item<bool>()) throw new ArgumentException("values must be finite; a value is NaN or infinite.", nameof(values));
    }
}
