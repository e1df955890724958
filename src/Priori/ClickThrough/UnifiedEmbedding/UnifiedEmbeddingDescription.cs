using System.Text.Json.Serialization;
using Priori.Data;
using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>A <see cref="ClickModel"/> whose embeddings come from an <see cref="EmbeddingScheme"/>. It keeps no vocabulary: new values of new rows are hashed like all others.</summary>
public sealed record UnifiedEmbeddingDescription : ClickModelDescription
{
    /// <summary>The backbone.</summary>
    public required BackboneKind Kind { get; init; }

    /// <summary>Its sizes and switches; its fields are the chunks of all features and the numbers.</summary>
    public required BackboneOptions Backbone { get; init; }

    /// <summary>The scheme: its features, in the order that is part of their hash, and its budget.</summary>
    public required EmbeddingSchemeOptions Scheme { get; init; }

    /// <summary>How the columns of a table become features and numbers.</summary>
    public required HashedSchema Columns { get; init; }

    /// <summary>The hash that gave the values their rows.</summary>
    public string Hash { get; init; } = FeatureHash.Id;

    /// <inheritdoc/>
    [JsonIgnore]
    public override bool TakesTables => true;

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">The model is of another hash, or its features are not those of its columns.</exception>
    public override Module<Tensor, Tensor, Tensor> Build()
    {
        if (Hash != FeatureHash.Id) throw new InvalidOperationException($"The model was trained with the hash '{Hash}'; this version has '{FeatureHash.Id}'.");
        if (!Scheme.Features.Select(f => f.Name).SequenceEqual(Columns.Categories.Select(c => c.Name)))
            throw new InvalidOperationException($"The features {string.Join(", ", Scheme.Features.Select(f => f.Name))} are not the categorical columns {string.Join(", ", Columns.Categories.Select(c => c.Name))}: their order is part of the hash.");
        var backbone = ClickThrough.Backbone.Create(Kind, Backbone);
        return new ClickModel(new HashedFieldEmbedding(EmbeddingScheme.Create(Scheme with { Dim = backbone.InputDim }), Columns.Numbers.Count), backbone);
    }

    /// <inheritdoc/>
    public override (Tensor Ids, Tensor Values) Encode(Module<Tensor, Tensor, Tensor> model, Table rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        using DisposeScope scope = NewDisposeScope();
        var (ids, values) = ((HashedFieldEmbedding)((ClickModel)model).Embedding).Encode(Columns.Encode(rows));
        return (ids.MoveToOuterDisposeScope(), values.MoveToOuterDisposeScope());
    }

    /// <inheritdoc/>
    public override string ClassName(int index) => Columns.Target?.Classes[index] ?? base.ClassName(index);
}
