using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>
/// What <see cref="OptFs.Export"/> leaves of a gated table: the rows of the kept ids, densely, behind one row of zeros that all other ids share.
/// It gives what the table with hard gates gave, and is smaller by the dropped rows.
/// </summary>
public sealed class PrunedEmbedding : Module<Tensor, Tensor, Tensor>
{
    private readonly FieldEmbedding table;
    private readonly Tensor kept;

    /// <summary>Creates a layer of this size, to be filled by <c>load_state_dict</c>.</summary>
    /// <param name="fields">Fields of a row.</param>
    /// <param name="kept">Number of kept ids, at least 1.</param>
    /// <param name="dim">Width of an embedding.</param>
    /// <param name="clampValues">As in <see cref="FieldEmbedding"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1.</exception>
    public PrunedEmbedding(long fields, long kept, long dim, bool clampValues = false) : base(nameof(PrunedEmbedding))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(kept, 1);
        table = new FieldEmbedding(fields, kept + 1, dim, clampValues);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(kept, int.MaxValue);
        this.kept = arange(kept, ScalarType.Int32);
        RegisterComponents();
    }

    /// <summary>The kept ids, ascending, int32 [kept]: the vocabulary map. The id at place i has row i + 1 of the table.</summary>
    public Tensor Kept => kept;

    /// <summary>The table [kept + 1, dim]; row 0 is zero.</summary>
    public TorchSharp.Modules.Parameter Weight => table.Weight;

    /// <summary>Rows of the table, int64 of the ids' shape: 0 for every id that was dropped.</summary>
    /// <param name="ids">Ids of the full vocabulary, int64 [...].</param>
    public Tensor Remap(Tensor ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        using DisposeScope scope = NewDisposeScope();
        Tensor small = ids.clamp(-1, int.MaxValue).to(ScalarType.Int32);
        Tensor place = searchsorted(kept, small, false, false).clamp_max(kept.size(0) - 1);
        Tensor found = kept.index_select(0, place.flatten()).view(ids.shape).eq(ids);
        return ((place + 1) * found).MoveToOuterDisposeScope();
    }

    /// <summary>Embeddings [batch, fields, dim]; zero for dropped ids.</summary>
    /// <param name="input1">Ids of the full vocabulary, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields].</param>
    /// <exception cref="ArgumentException">The shapes differ from the layer's.</exception>
    public override Tensor forward(Tensor input1, Tensor input2) => table.forward(Remap(input1), input2);

    /// <summary>Prunes a gated table; 1 / sigmoid(gamma_0) goes into the kept rows.</summary>
    internal static PrunedEmbedding From(GatedEmbedding gated)
    {
        if (gated.Embedding is not FieldEmbedding full)
            throw new ArgumentException($"Only a table with a row for each id can be pruned, not {gated.Embedding.GetType().Name}.", nameof(gated));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        if (full.Ids > int.MaxValue) throw new ArgumentException($"A table of {full.Ids} ids is too large: ids are kept as 32-bit integers.", nameof(gated));
        Tensor ids = gated.Gate.Weight.gt(0).nonzero().flatten();
        if (ids.size(0) == 0) throw new InvalidOperationException(OptFs.EmptySet);
        var pruned = new PrunedEmbedding(full.Fields, ids.size(0), full.Dim, full.ClampsValues);
        pruned.to(full.Weight.device);
        pruned.kept.copy_(ids);
        pruned.Weight.copy_(cat([zeros(1, full.Dim, device: full.Weight.device), full.Weight.index_select(0, ids) / gated.Gate.Scale]));
        foreach (Tensor state in pruned.state_dict().Values) state.MoveToOuterDisposeScope();
        return pruned;
    }
}
