namespace Priori.Recommendation;

/// <summary>
/// What is known about the items of a catalogue: any number of feature modalities (content, text, audio, ...) and vectors from user feedback, each of which an item may lack.
/// A row of zeros, or one with a NaN, says that the item lacks that modality.
/// </summary>
public sealed class ItemModalities : IDisposable
{
    internal sealed record Modality(string Name, Tensor Rows, Tensor Present);

    /// <summary>Checks and prepares features: rows of modalities are divided by their norm, once.</summary>
    /// <param name="itemCount">Number of items N.</param>
    /// <param name="modalities">Features [N, width] by name; may be empty.</param>
    /// <param name="collaborative">Item vectors from user-item feedback [N, width]; null for none.</param>
    /// <param name="hasFeedback">Which items have feedback, bool [N]; null takes those whose collaborative row is not zero.</param>
    /// <param name="device">The device; CPU by default.</param>
    /// <exception cref="ArgumentException">There is no item, or a matrix has another number of rows than items.</exception>
    public ItemModalities(long itemCount, IReadOnlyDictionary<string, Tensor>? modalities = null, Tensor? collaborative = null, Tensor? hasFeedback = null, Device? device = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(itemCount, 1);
        ItemCount = itemCount;
        Device = device ?? CPU;
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        var prepared = new List<Modality>();
        foreach (var (name, features) in modalities ?? new Dictionary<string, Tensor>())
        {
            var (rows, present) = Known(features, name);
            prepared.Add(new Modality(name, Kept(functional.normalize(rows, dim: 1)), Kept(present)));
        }
        Modalities = prepared;
        if (collaborative is null) return;
        var (vectors, known) = Known(collaborative, "collaborative");
        if (hasFeedback is not null)
        {
            if (hasFeedback.numel() != itemCount) throw new ArgumentException($"There are {itemCount} items, but hasFeedback has {hasFeedback.numel()} entries.", nameof(hasFeedback));
            known = known.logical_and(hasFeedback.reshape(-1, 1).to(ScalarType.Bool).to(Device));
        }
        Collaborative = new Modality("collaborative", Kept(vectors), Kept(known));
    }

    /// <summary>Number of items N.</summary>
    public long ItemCount { get; }

    /// <summary>The device.</summary>
    public Device Device { get; }

    /// <summary>Names of the modalities.</summary>
    public IReadOnlyList<string> Names => [.. Modalities.Select(m => m.Name)];

    /// <summary>Number of tokens an item has: one for all modalities, one of its own, one for feedback.</summary>
    public int TokenCount => 1 + (Modalities.Count > 0 ? 1 : 0) + (Collaborative is null ? 0 : 1);

    internal IReadOnlyList<Modality> Modalities { get; }

    internal Modality? Collaborative { get; }

    /// <summary>Which items have a modality, bool [N].</summary>
    /// <param name="name">Its name, or "collaborative".</param>
    public Tensor Has(string name) => (Modalities.Append(Collaborative).FirstOrDefault(m => m?.Name == name)
        ?? throw new KeyNotFoundException($"There is no modality '{name}'; there are: {string.Join(", ", Names)}.")).Present.squeeze(-1);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Modality? modality in Modalities.Append(Collaborative))
        {
            modality?.Rows.Dispose();
            modality?.Present.Dispose();
        }
    }

    private (Tensor Rows, Tensor Present) Known(Tensor features, string name)
    {
        if (features.dim() != 2 || features.size(0) != ItemCount || features.size(1) == 0)
            throw new ArgumentException($"There are {ItemCount} items, but '{name}' has the shape [{string.Join(", ", features.shape)}]; it must have a row for each item.", nameof(features));
        Tensor rows = features.to(ScalarType.Float32).to(Device);
        Tensor present = rows.isfinite().all(1, keepdim: true).logical_and(rows.ne(0).any(1, keepdim: true));
        return (rows.masked_fill(present.logical_not(), 0), present);
    }

    private static Tensor Kept(Tensor tensor) => tensor.clone().DetachFromDisposeScope();
}
