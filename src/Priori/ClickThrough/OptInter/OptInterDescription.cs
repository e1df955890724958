namespace Priori.ClickThrough;

/// <summary>How a saved <see cref="OptInterModel"/> is rebuilt. Its combinations are among its weights.</summary>
public sealed record OptInterDescription : ClickModelDescription
{
    /// <summary>The network.</summary>
    public required OptInterOptions Network { get; init; }

    /// <summary>The plan.</summary>
    public required InteractionPlan Plan { get; init; }

    /// <summary>Known combinations of each memorized pair, in the order of the plan.</summary>
    public required IReadOnlyList<long> Combinations { get; init; }

    /// <summary>Describes a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="task">What its logits mean.</param>
    /// <param name="fields">Names of the fields.</param>
    public static OptInterDescription Of(OptInterModel model, TabularTask task, IReadOnlyList<string> fields)
    {
        ArgumentNullException.ThrowIfNull(model);
        return new OptInterDescription { Network = model.Options, Plan = model.Plan, Combinations = model.Vocabulary?.Counts ?? [], Task = task, Fields = fields, Ids = model.Options.Ids };
    }

    /// <inheritdoc/>
    public override Module<Tensor, Tensor, Tensor> Build()
        => new OptInterModel(Network, Plan, Combinations.Count == 0 ? null : new CrossVocabulary(Plan.Pairs(InteractionMethod.Memorize), Ids, Combinations));
}
