using System.Text.Json.Serialization;
using Priori.Data;

namespace Priori.ClickThrough;

/// <summary>What a saved click model needs beside its weights: how it is built, what it is fed, what its logits mean. As JSON it names its own kind.</summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "model")]
[JsonDerivedType(typeof(BackboneDescription), "backbone")]
[JsonDerivedType(typeof(PrunedDescription), "pruned")]
[JsonDerivedType(typeof(UnifiedEmbeddingDescription), "unified-embedding")]
[JsonDerivedType(typeof(OptInterDescription), "optinter")]
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

    /// <summary>Whether the model takes the rows of a table, which <see cref="Encode"/> makes its input.</summary>
    [JsonIgnore]
    public virtual bool TakesTables => Schema is not null;

    /// <summary>The rows of a table as the model's input.</summary>
    /// <param name="model">The model that <see cref="Build"/> built.</param>
    /// <param name="rows">Has the columns that the model was trained with; the target may be absent.</param>
    /// <exception cref="InvalidOperationException">The model was trained on (id, value) pairs.</exception>
    /// <exception cref="Priori.Runtime.BadInputException">A column does not fit.</exception>
    public virtual (Tensor Ids, Tensor Values) Encode(Module<Tensor, Tensor, Tensor> model, Table rows)
    {
        if (Schema is null) throw new InvalidOperationException("The model was trained on (id, value) pairs, not on a table: score ids and values.");
        EncodedTable encoded = Schema.Encode(rows);
        encoded.Target?.Dispose();
        return (encoded.Ids, encoded.Values);
    }

    /// <summary>What a class of the target is called.</summary>
    /// <param name="index">The class, from 0.</param>
    public virtual string ClassName(int index) => Schema?.Target?.Classes[index] ?? index.ToString(System.Globalization.CultureInfo.InvariantCulture);
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
