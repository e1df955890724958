using System.Runtime.InteropServices;

namespace Priori.Nn;

/// <summary>
/// Any <see cref="EmbeddingScheme"/> in the place of a <see cref="FieldEmbedding"/>: rows of (id, value) fields to embeddings [batch, fields, d] for the model
/// behind. Ids name the values of a vocabulary; each value is hashed once, when the vocabulary is bound, and never in a step. Every chunk of a feature is a field
/// of its own. A feature with several values has several columns, whose embeddings are weighted by the values (0 for none) and pooled chunk by chunk.
/// Columns of numbers bypass the scheme: number j is x_j times a learned vector of its own, initialised like a row.
/// The state is the scheme's parameters (and the vectors of the numbers) alone; vocabularies are not saved, and other rows bring their own.
/// </summary>
public sealed class HashedFieldEmbedding : Module<Tensor, Tensor, Tensor>
{
    private readonly EmbeddingScheme scheme;
    private readonly TorchSharp.Modules.Parameter? numbers;
    private readonly int numberCount;
    private Tensor[] binding = [];
    private long idCount;

    /// <summary>Creates the layer; it owns the scheme.</summary>
    /// <param name="scheme">The scheme.</param>
    /// <param name="vocabularies">The values of each feature. Ids count them on: those of the second feature follow the last of the first.</param>
    /// <param name="lengths">Columns of each feature, at least 1: as many values as one row may have. 1 for all by default.</param>
    /// <param name="numbers">Columns of numbers, after those of the features.</param>
    /// <exception cref="ArgumentException">A count differs or is out of range.</exception>
    public HashedFieldEmbedding(EmbeddingScheme scheme, IReadOnlyList<IReadOnlyList<string>> vocabularies, IReadOnlyList<int>? lengths = null, int numbers = 0)
        : base(nameof(HashedFieldEmbedding))
    {
        ArgumentNullException.ThrowIfNull(scheme);
        ArgumentOutOfRangeException.ThrowIfNegative(numbers);
        (this.scheme, numberCount) = (scheme, numbers);
        if (numbers > 0)
        {
            this.numbers = new TorchSharp.Modules.Parameter(torch.empty(numbers, scheme.Dim));
            init.uniform_(this.numbers, -EmbeddingScheme.InitialRange, EmbeddingScheme.InitialRange);
        }
        RegisterComponents();
        Bind(vocabularies, lengths);
    }

    /// <summary>The scheme.</summary>
    public EmbeddingScheme Scheme => scheme;

    /// <summary>Fields of the output: the chunks of all features, and the numbers.</summary>
    public int Fields => scheme.Chunks + numberCount;

    /// <summary>Columns of the input: those of the features, and the numbers.</summary>
    public int Columns { get; private set; }

    /// <summary>Takes other vocabularies, as for new data: hashes each of their values once. Parameters stay as they are.</summary>
    /// <param name="vocabularies">The values of each feature.</param>
    /// <param name="lengths">Columns of each feature, at least 1; 1 for all by default.</param>
    /// <exception cref="ArgumentException">A count differs or is out of range.</exception>
    public void Bind(IReadOnlyList<IReadOnlyList<string>> vocabularies, IReadOnlyList<int>? lengths = null)
    {
        ArgumentNullException.ThrowIfNull(vocabularies);
        IReadOnlyList<EmbeddingFeature> features = scheme.Features;
        lengths ??= [.. features.Select(_ => 1)];
        if (vocabularies.Count != features.Count || lengths.Count != features.Count)
            throw new ArgumentException($"{features.Count} features need as many vocabularies and lengths, not {vocabularies.Count} and {lengths.Count}.", nameof(vocabularies));
        if (lengths.Any(l => l < 1)) throw new ArgumentOutOfRangeException(nameof(lengths), "A feature has at least one column.");
        // Codes of all values, end to end; position p of a row (feature, column, chunk) reads code i at scale[p] * id + start[p] + i.
        long total = features.Zip(vocabularies, (f, v) => (long)v.Count * f.Chunks * scheme.CodesPerChunk).Sum();
        long[] codes = new long[total];
        List<long> column = [], slot = [], scale = [], start = [];
        long next = 0, firstId = 0;
        int columns = 0, firstSlot = 0;
        for (int t = 0; t < features.Count; t++)
        {
            int chunks = features[t].Chunks, width = chunks * scheme.CodesPerChunk;
            for (int l = 0; l < lengths[t]; l++, columns++)
            {
                for (int chunk = 0; chunk < chunks; chunk++)
                {
                    column.Add(columns);
                    slot.Add(firstSlot + chunk);
                    scale.Add(width);
                    start.Add(next - firstId * width + chunk * scheme.CodesPerChunk);
                }
            }
            foreach (string value in vocabularies[t])
            {
                scheme.Encode(t, value, codes.AsSpan((int)next, width));
                next += width;
            }
            firstId += vocabularies[t].Count;
            firstSlot += chunks;
        }
        foreach (Tensor old in binding) old.Dispose();
        Tensor Keep(ReadOnlySpan<long> values) => tensor(values.ToArray(), ScalarType.Int64).DetachFromDisposeScope();
        binding = [Keep(codes), Keep(CollectionsMarshal.AsSpan(column)), Keep(CollectionsMarshal.AsSpan(slot)), Keep(CollectionsMarshal.AsSpan(scale)), Keep(CollectionsMarshal.AsSpan(start)), .. Bounds(vocabularies, lengths, Keep)];
        (Columns, idCount) = (columns + numberCount, firstId);
    }

    /// <summary>Embeds rows.</summary>
    /// <param name="input1">Ids, int64 [batch, columns]: an id of the column's feature, also where the value is 0; those of numbers are not read.</param>
    /// <param name="input2">Values [batch, columns]: weights of the categories (1, or 0 for none), and the numbers.</param>
    /// <returns>Embeddings [batch, fields, d]: the chunks of the features in their order, then the numbers.</returns>
    /// <exception cref="ArgumentException">The number of columns differs, an id is not of its column's feature, or a value is not finite.</exception>
    public override Tensor forward(Tensor input1, Tensor input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        for (int i = 0; i < binding.Length; i++)
        {
            if (binding[i].device_type == input1.device_type) continue;
            using Tensor before = binding[i];
            binding[i] = before.to(input1.device).DetachFromDisposeScope();
        }
        Check(input1, input2);
        (Tensor codes, Tensor column, Tensor slot, Tensor scale, Tensor start) = (binding[0], binding[1], binding[2], binding[3], binding[4]);
        int categories = Columns - numberCount;
        bool single = column.size(0) == categories; // One chunk and one column for each feature: positions are columns.
        Tensor ids = input1.narrow(1, 0, categories), weights = input2.narrow(1, 0, categories);
        Tensor places = (single ? ids : ids.index_select(1, column)).mul(scale).add(start).unsqueeze(-1);
        if (scheme.CodesPerChunk > 1) places = places + arange(scheme.CodesPerChunk, ScalarType.Int64, device: places.device);
        Tensor looked = scheme.Lookup(codes.index_select(0, places.reshape(-1)).view(places.shape));
        looked = looked * (single ? weights : weights.index_select(1, column)).unsqueeze(-1);
        if (column.size(0) != scheme.Chunks) looked = Pool(looked, weights.index_select(1, column), slot);
        return numbers is null ? looked : cat([looked, input2.narrow(1, categories, numberCount).unsqueeze(-1) * numbers], 1);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) foreach (Tensor tensor in binding) tensor.Dispose();
        base.Dispose(disposing);
    }

    private Tensor Pool(Tensor looked, Tensor weights, Tensor slot)
    {
        long batch = looked.size(0);
        Tensor pooled = zeros([batch, scheme.Chunks, scheme.Dim], looked.dtype, looked.device).index_add(1, slot, looked, 1);
        if (scheme.Features.All(f => f.Pooling == Pooling.Sum)) return pooled;
        Tensor total = zeros([batch, scheme.Chunks], looked.dtype, looked.device).index_add(1, slot, weights, 1);
        Tensor mean = tensor([.. scheme.Features.SelectMany(f => Enumerable.Repeat(f.Pooling == Pooling.Mean, f.Chunks))], device: looked.device) & total.ne(0);
        return pooled / where(mean, total, ones_like(total)).unsqueeze(-1);
    }

    private void Check(Tensor ids, Tensor values)
    {
        if (ids.dim() != 2 || ids.size(1) != Columns || ids.dtype != ScalarType.Int64)
            throw new ArgumentException($"ids must be int64 [batch, {Columns}], not {ids.dtype} [{string.Join(", ", ids.shape)}].", nameof(ids));
        if (values.dim() != 2 || values.size(0) != ids.size(0) || values.size(1) != Columns)
            throw new ArgumentException($"values must be [{ids.size(0)}, {Columns}] like the ids, not [{string.Join(", ", values.shape)}].", nameof(values));
        if (ids.size(0) == 0) return;
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor categories = ids.narrow(1, 0, Columns - numberCount);
        if ((categories.lt(binding[5]) | categories.ge(binding[6])).any().item<bool>())
            throw new ArgumentException($"An id is not one of its column's feature; the ids of all features are 0..{idCount - 1}, feature after feature.", nameof(ids));
        if (!values.isfinite().all().item<bool>()) throw new ArgumentException("values must be finite; a value is NaN or infinite.", nameof(values));
    }

    private delegate Tensor Keeper(ReadOnlySpan<long> values);

    /// <summary>First id and end of the ids of each column.</summary>
    private static Tensor[] Bounds(IReadOnlyList<IReadOnlyList<string>> vocabularies, IReadOnlyList<int> lengths, Keeper keep)
    {
        List<long> first = [], end = [];
        long id = 0;
        for (int t = 0; t < vocabularies.Count; t++)
        {
            for (int l = 0; l < lengths[t]; l++)
            {
                first.Add(id);
                end.Add(id + vocabularies[t].Count);
            }
            id += vocabularies[t].Count;
        }
        return [keep(CollectionsMarshal.AsSpan(first)), keep(CollectionsMarshal.AsSpan(end))];
    }
}
