using System.Text.Json.Serialization;
using Priori.Data;

namespace Priori.ClickThrough;

/// <summary>What a saved click model needs beside its weights: how it is built, what it is fed, what its logits mean. As JSON it names its own kind.</summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "model")]
[JsonDerivedType(typeof(BackboneDescription), "backbone")]
[JsonDerivedType(typeof(PrunedDescription), "pruned")]
public abstract record ClickModelDescription
{
    /// <summary>What the logits mean.</summary>
    public required TabularTask Task { get; init; }

    /// <summary>Names of the fields.</summary>
    public required IReadOnlyList<string> Fields { get; init; }

    /// <summary>Number of ids over all fields that rows may hold.</summary>
    public required long Ids { get; init; }

    /// <summary>How the columns of a table become fields; null where rows are (id, value) pairs already, as in libFM files.</summary>
    public ColumnSchema? Schema { get; init; }

    /// <summary>The model's figure (<see cref="TabularTask.Metric"/>) on its validation rows.</summary>
    public double Validation { get; init; }

    /// <summary>Builds the model, untrained: (ids int64 [batch, fields], values [batch, fields]) to logits [batch, outputs].</summary>
    public abstract Module<Tensor, Tensor, Tensor> Build();

    /// <summary>What a class of the target is called.</summary>
    /// <param name="index">The class, from 0.</param>
    public string ClassName(int index) => Schema?.Target?.Classes[index] ?? index.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>A <see cref="ClickModel"/> with one plain table.</summary>
public sealed record BackboneDescription : ClickModelDescription
{
    /// <summary>The backbone.</summary>
    public required BackboneKind Kind { get; init; }

    /// <summary>Its sizes and switches.</summary>
    public required BackboneOptions Backbone { get; init; }

    /// <summary>Whether values are used clamped to [1e-3, 1].</summary>
    public bool ClampValues { get; init; }

    /// <inheritdoc/>
    public override Module<Tensor, Tensor, Tensor> Build() => ClickModel.Create(Kind, Backbone, Ids, ClampValues);
}
