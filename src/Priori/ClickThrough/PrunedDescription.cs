namespace Priori.ClickThrough;

/// <summary>A model that <see cref="OptFs.Export"/> left: a <see cref="PrunedEmbedding"/> and a backbone. It takes ids of the full vocabulary.</summary>
public sealed record PrunedDescription : ClickModelDescription
{
    /// <summary>The backbone.</summary>
    public required BackboneKind Kind { get; init; }

    /// <summary>Its sizes and switches.</summary>
    public required BackboneOptions Backbone { get; init; }

    /// <summary>Number of kept ids.</summary>
    public required long Kept { get; init; }

    /// <inheritdoc/>
    public override Module<Tensor, Tensor, Tensor> Build()
    {
        var backbone = ClickThrough.Backbone.Create(Kind, Backbone);
        return new ClickModel(new PrunedEmbedding(Backbone.Fields, Kept, backbone.InputDim), backbone);
    }
}
