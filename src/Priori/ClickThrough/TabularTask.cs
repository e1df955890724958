using Priori.Data;
using Priori.Metrics;

namespace Priori.ClickThrough;

/// <summary>What the logits of a model over fields mean: how they become a loss, predictions and figures of merit.</summary>
/// <param name="Kind">Classes or a number.</param>
/// <param name="Classes">Number of classes, at least 2; of no effect for regression.</param>
/// <param name="Mean">Regression: logit 0 is this number.</param>
/// <param name="Deviation">Regression: one unit of the logit, above 0.</param>
public sealed record TabularTask(TargetKind Kind, int Classes = 2, double Mean = 0, double Deviation = 1)
{
    /// <summary>Two classes, one logit: clicked or not.</summary>
    public static TabularTask Binary { get; } = new(TargetKind.Classes);

    /// <summary>The task of a table's target.</summary>
    /// <param name="target">The target of a learned schema.</param>
    public static TabularTask Of(SchemaTarget target)
    {
        ArgumentNullException.ThrowIfNull(target);
        return new TabularTask(target.Kind, Math.Max(2, target.Classes.Count), target.Mean, target.Deviation);
    }

    /// <summary>Logits of a row: the number of classes if there are more than two, otherwise 1.</summary>
    public long Outputs => Kind == TargetKind.Classes && Classes > 2 ? Classes : 1;

    /// <summary>The figure that early stopping watches, larger is better: auc, accuracy (more than two classes) or r2.</summary>
    public string Metric => Kind == TargetKind.Regression ? "r2" : Outputs == 1 ? "auc" : "accuracy";

    /// <summary>Mean loss: binary cross-entropy, cross-entropy, or squared error of the standardised target.</summary>
    /// <param name="logits">Logits [batch, outputs].</param>
    /// <param name="targets">Targets [batch]: class indices or numbers.</param>
    public Tensor Loss(Tensor logits, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(logits);
        ArgumentNullException.ThrowIfNull(targets);
        if (Outputs > 1) return functional.cross_entropy(logits, targets.to(ScalarType.Int64));
        Tensor y = targets.to(logits.dtype);
        return Kind == TargetKind.Regression
            ? functional.mse_loss(logits.squeeze(-1), (y - Mean) / Deviation)
            : functional.binary_cross_entropy_with_logits(logits.squeeze(-1), y);
    }

    /// <summary>Predictions: the probability of class 1 [batch], of every class [batch, classes] if there are more than two, or the number [batch].</summary>
    /// <param name="logits">Logits [batch, outputs].</param>
    public Tensor Predict(Tensor logits)
    {
        ArgumentNullException.ThrowIfNull(logits);
        return Outputs > 1 ? logits.softmax(-1)
            : Kind == TargetKind.Regression ? logits.squeeze(-1) * Deviation + Mean
            : logits.squeeze(-1).sigmoid();
    }

    /// <summary>Figures of merit: auc, log_loss and accuracy (two classes), accuracy and log_loss (more), or r2 and rmse.</summary>
    /// <param name="logits">Logits [n, outputs].</param>
    /// <param name="targets">Targets [n]: class indices or numbers.</param>
    public IReadOnlyDictionary<string, double> Evaluate(Tensor logits, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(targets);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor predictions = Predict(logits);
        if (Kind == TargetKind.Regression)
            return new Dictionary<string, double> { ["r2"] = RegressionMetrics.R2(predictions, targets), ["rmse"] = RegressionMetrics.RootMeanSquaredError(predictions, targets) };
        if (Outputs > 1)
            return new Dictionary<string, double> { ["accuracy"] = Classification.Accuracy(predictions, targets), ["log_loss"] = Loss(logits, targets).ToDouble() };
        return new Dictionary<string, double>
        {
            ["auc"] = RankingMetrics.Auc(logits, targets),
            ["log_loss"] = RankingMetrics.LogLoss(predictions, targets),
            ["accuracy"] = predictions.gt(0.5).eq(targets.gt(0.5)).to(ScalarType.Float64).mean().ToDouble(),
        };
    }
}
