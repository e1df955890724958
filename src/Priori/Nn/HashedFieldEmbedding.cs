using Priori.Data;

namespace Priori.Nn;

/// <summary>
/// Any <see cref="EmbeddingScheme"/> in the place of a <see cref="FieldEmbedding"/>: rows of (id, value) columns to embeddings [batch, fields, d] for the model
/// behind. Ids name the values of the vocabularies that are bound to it; each value was hashed once, when they were bound, and never in a step. Without
/// vocabularies the ids are what <see cref="Encode"/> makes of a table of any values. Every chunk of a feature is a field of its own. A feature with several
/// values has several columns, whose embeddings are weighted by the values (0 for none) and pooled chunk by chunk. Columns of numbers bypass the scheme: number j
/// is x_j times a learned vector of its own, initialised like a row. The state is the scheme's parameters (and the vectors of the numbers) alone.
/// </summary>
public sealed class HashedFieldEmbedding : Module<Tensor, Tensor, Tensor>
{
    private readonly EmbeddingScheme scheme;
    private readonly TorchSharp.Modules.Parameter? numbers;
    private readonly int numberCount;
    private Binding? binding;

    /// <summary>Creates the layer without vocabularies: its ids come from <see cref="Encode"/>. It owns the scheme.</summary>
    /// <param name="scheme">The scheme.</param>
    /// <param name="numbers">Columns of numbers, after those of the features.</param>
    public HashedFieldEmbedding(EmbeddingScheme scheme, int numbers = 0) : base(nameof(HashedFieldEmbedding))
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
    }

    /// <summary>Creates the layer over vocabularies; it owns the scheme.</summary>
    /// <param name="scheme">The scheme.</param>
    /// <param name="vocabularies">The values of each feature. Ids count them on: those of the second feature follow the last of the first.</param>
    /// <param name="lengths">Columns of each feature, at least 1: as many values as one row may have. 1 for all by default.</param>
    /// <param name="numbers">Columns of numbers, after those of the features.</param>
    /// <exception cref="ArgumentException">A count differs or is out of range.</exception>
    public HashedFieldEmbedding(EmbeddingScheme scheme, IReadOnlyList<IReadOnlyList<string>> vocabularies, IReadOnlyList<int>? lengths = null, int numbers = 0)
        : this(scheme, numbers) => Bind(vocabularies, lengths);

    /// <summary>The scheme.</summary>
    public EmbeddingScheme Scheme => scheme;

    /// <summary>Fields of the output: the chunks of all features, and the numbers.</summary>
    public int Fields => scheme.Chunks + numberCount;

    /// <summary>Different codes that the values of the bound vocabularies have: the rows in use.</summary>
    /// <exception cref="InvalidOperationException">No vocabularies are bound.</exception>
    public Tensor OccupiedCodes()
    {
        if (binding is null) throw new InvalidOperationException("No vocabularies are bound.");
        using Tensor all = binding.Codes.unique().output;
        return all[all.ge(0)];
    }

    /// <summary>Takes vocabularies, and hashes each of their values once. Parameters stay as they are.</summary>
    /// <param name="vocabularies">The values of each feature.</param>
    /// <param name="lengths">Columns of each feature, at least 1; 1 for all by default.</param>
    /// <exception cref="ArgumentException">A count differs or is out of range.</exception>
    public void Bind(IReadOnlyList<IReadOnlyList<string>> vocabularies, IReadOnlyList<int>? lengths = null)
    {
        var next = Binding.Of(scheme, vocabularies, lengths);
        binding?.Dispose();
        binding = next;
    }

    /// <summary>
    /// Rows of any values as input of a layer without vocabularies: the codes of each value, which say their field too. It reads no parameters, and any number of
    /// threads may call it.
    /// </summary>
    /// <param name="table">The rows.</param>
    /// <returns>Ids, int64 [n, positions * k + numbers], and values [n, positions + numbers].</returns>
    public (Tensor Ids, Tensor Values) Encode(HashedTable table)
    {
        ArgumentNullException.ThrowIfNull(table);
        using DisposeScope scope = NewDisposeScope();
        using var own = Binding.Of(scheme, table.Vocabularies, table.Lengths);
        long rows = table.Ids.size(0), categories = table.Ids.size(1) - numberCount;
        Tensor codes = own.CodesOf(table.Ids.narrow(1, 0, categories)) + (own.Slot * Span + 1).unsqueeze(-1);
        Tensor values = cat([table.Values.narrow(1, 0, categories).index_select(1, own.Column), table.Values.narrow(1, categories, numberCount)], 1);
        return (cat([codes.view(rows, -1), zeros([rows, numberCount], ScalarType.Int64)], 1).MoveToOuterDisposeScope(), values.MoveToOuterDisposeScope());
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
        if (input1.dim() != 2 || input1.dtype != ScalarType.Int64 || input2.dim() != 2 || input2.size(0) != input1.size(0))
            throw new ArgumentException($"ids must be int64 [batch, columns] and values [batch, columns], not {input1.dtype} [{string.Join(", ", input1.shape)}] and [{string.Join(", ", input2.shape)}].", nameof(input1));
        if (input1.size(0) > 0)
        {
            using Tensor finite = input2.isfinite(), all = finite.all();
            if (!all.item<bool>()) throw new ArgumentException("values must be finite; a value is NaN or infinite.", nameof(input2));
        }
        Tensor embedded = binding is null ? Coded(input1, input2) : Bound(binding, input1, input2);
        return numbers is null ? embedded : cat([embedded, input2.narrow(1, input2.size(1) - numberCount, numberCount).unsqueeze(-1) * numbers], 1);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) binding?.Dispose();
        base.Dispose(disposing);
    }

    private long Span => scheme.CodeCount + 1; // -1, for a value outside a collisionless vocabulary, is a code too.

    private Tensor Bound(Binding bound, Tensor ids, Tensor values)
    {
        bound.MoveTo(ids.device);
        int categories = bound.Columns;
        if (ids.size(1) != categories + numberCount || values.size(1) != categories + numberCount)
            throw new ArgumentException($"ids and values must be [batch, {categories + numberCount}], not [{string.Join(", ", ids.shape)}] and [{string.Join(", ", values.shape)}].", nameof(ids));
        Tensor known = ids.narrow(1, 0, categories), weights = values.narrow(1, 0, categories);
        if (ids.size(0) > 0)
        {
            using var ungraphed = no_grad();
            using DisposeScope scope = NewDisposeScope();
            if ((known.lt(bound.First) | known.ge(bound.End)).any().item<bool>())
                throw new ArgumentException("An id is not one of its column's feature: ids count the values of all features on, feature after feature.", nameof(ids));
        }
        if (!bound.Plain) weights = weights.index_select(1, bound.Column);
        Tensor looked = scheme.Lookup(bound.CodesOf(known)) * weights.unsqueeze(-1);
        if (bound.Slot.size(0) == scheme.Chunks) return looked;
        Tensor pooled = zeros([ids.size(0), scheme.Chunks, scheme.Dim], looked.dtype, looked.device).index_add(1, bound.Slot, looked, 1);
        return Average(pooled, () => zeros([ids.size(0), scheme.Chunks], looked.dtype, looked.device).index_add(1, bound.Slot, weights, 1));
    }

    private Tensor Coded(Tensor ids, Tensor values)
    {
        long positions = values.size(1) - numberCount, k = scheme.CodesPerChunk;
        if (positions < 0 || ids.size(1) != positions * k + numberCount)
            throw new ArgumentException($"For {positions} values of {k} codes and {numberCount} numbers ids must be [batch, {positions * k + numberCount}], not [{string.Join(", ", ids.shape)}].", nameof(ids));
        Tensor coded = ids.narrow(1, 0, positions * k).view(ids.size(0), positions, k), weights = values.narrow(1, 0, positions);
        Tensor slot = coded.select(-1, 0).div(Span, RoundingMode.floor), codes = coded - slot.unsqueeze(-1) * Span - 1;
        if (ids.size(0) > 0 && positions > 0)
        {
            using var ungraphed = no_grad();
            using DisposeScope scope = NewDisposeScope();
            long lowest = scheme.Kind == EmbeddingSchemeKind.Collisionless ? -1 : 0;
            if ((slot.lt(0) | slot.ge(scheme.Chunks)).any().item<bool>() || (codes.lt(lowest) | codes.ge(scheme.CodeCount)).any().item<bool>())
                throw new ArgumentException("ids are not codes of this scheme; make them with Encode, or bind vocabularies.", nameof(ids));
        }
        Tensor looked = scheme.Lookup(codes) * weights.unsqueeze(-1);
        Tensor pooled = zeros([ids.size(0), scheme.Chunks, scheme.Dim], looked.dtype, looked.device).scatter_add(1, slot.unsqueeze(-1).expand_as(looked), looked);
        return Average(pooled, () => zeros([ids.size(0), scheme.Chunks], looked.dtype, looked.device).scatter_add(1, slot, weights));
    }

    /// <summary>Divides the chunks of features with mean pooling by the sum of their weights.</summary>
    private Tensor Average(Tensor pooled, Func<Tensor> totals)
    {
        if (scheme.Features.All(f => f.Pooling == Pooling.Sum)) return pooled;
        Tensor total = totals(), mean = tensor([.. scheme.Features.SelectMany(f => Enumerable.Repeat(f.Pooling == Pooling.Mean, f.Chunks))], device: pooled.device);
        return pooled / where(mean & total.ne(0), total, ones_like(total)).unsqueeze(-1);
    }

    /// <summary>
    /// Codes of all values of vocabularies, end to end, and how positions (feature, column, chunk) find theirs: position p reads k codes from place
    /// Scale[p] * id + Start[p] on.
    /// </summary>
    private sealed class Binding : IDisposable
    {
        private readonly Tensor[] tensors;
        private readonly int codesPerChunk;

        private Binding(int columns, int codesPerChunk, params long[][] arrays)
        {
            (Columns, this.codesPerChunk) = (columns, codesPerChunk);
            tensors = [.. arrays.Select(a => tensor(a, ScalarType.Int64).DetachFromDisposeScope())];
            Plain = arrays[1].Length == columns;
        }

        public Tensor Codes => tensors[0];

        public Tensor Column => tensors[1];

        public Tensor Slot => tensors[2];

        public Tensor First => tensors[5];

        public Tensor End => tensors[6];

        public int Columns { get; }

        /// <summary>Whether every feature has one chunk, so that positions are columns.</summary>
        public bool Plain { get; }

        public static Binding Of(EmbeddingScheme scheme, IReadOnlyList<IReadOnlyList<string>> vocabularies, IReadOnlyList<int>? lengths)
        {
            ArgumentNullException.ThrowIfNull(vocabularies);
            IReadOnlyList<EmbeddingFeature> features = scheme.Features;
            lengths ??= [.. features.Select(_ => 1)];
            if (vocabularies.Count != features.Count || lengths.Count != features.Count)
                throw new ArgumentException($"{features.Count} features need as many vocabularies and lengths, not {vocabularies.Count} and {lengths.Count}.", nameof(vocabularies));
            if (lengths.Any(l => l < 1)) throw new ArgumentOutOfRangeException(nameof(lengths), "A feature has at least one column.");
            long[] codes = new long[features.Zip(vocabularies, (f, v) => (long)v.Count * f.Chunks * scheme.CodesPerChunk).Sum()];
            List<long> column = [], slot = [], scale = [], start = [], first = [], end = [];
            int next = 0, firstSlot = 0;
            long firstId = 0;
            for (int t = 0; t < features.Count; t++)
            {
                int chunks = features[t].Chunks, width = chunks * scheme.CodesPerChunk;
                for (int l = 0; l < lengths[t]; l++)
                {
                    for (int chunk = 0; chunk < chunks; chunk++)
                    {
                        column.Add(first.Count);
                        slot.Add(firstSlot + chunk);
                        scale.Add(width);
                        start.Add(next - firstId * width + chunk * scheme.CodesPerChunk);
                    }
                    first.Add(firstId);
                    end.Add(firstId + vocabularies[t].Count);
                }
                foreach (string value in vocabularies[t])
                {
                    scheme.Encode(t, value, codes.AsSpan(next, width));
                    next += width;
                }
                firstId += vocabularies[t].Count;
                firstSlot += chunks;
            }
            return new Binding(first.Count, scheme.CodesPerChunk, codes, [.. column], [.. slot], [.. scale], [.. start], [.. first], [.. end]);
        }

        /// <summary>Codes [n, positions, k] of ids [n, columns].</summary>
        public Tensor CodesOf(Tensor ids)
        {
            Tensor places = (Plain ? ids : ids.index_select(1, Column)).mul(tensors[3]).add(tensors[4]).unsqueeze(-1);
            if (codesPerChunk > 1) places = places + arange(codesPerChunk, ScalarType.Int64, device: places.device);
            return Codes.index_select(0, places.reshape(-1)).view(places.shape);
        }

        public void MoveTo(Device device)
        {
            for (int i = 0; i < tensors.Length; i++)
            {
                if (tensors[i].device_type == device.type) continue;
                using Tensor before = tensors[i];
                tensors[i] = before.to(device).DetachFromDisposeScope();
            }
        }

        public void Dispose()
        {
            foreach (Tensor t in tensors) t.Dispose();
        }
    }
}
