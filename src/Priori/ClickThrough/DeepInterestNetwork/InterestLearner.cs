using Priori.Metrics;
using Priori.Training;

namespace Priori.ClickThrough;

/// <summary>
/// Trains an <see cref="InterestModel"/> on samples of a <see cref="HistorySource"/>: binary cross-entropy and what the tables' regularizers add. Positives and negatives of a batch go through
/// the model together, so Dice never sees them apart.
/// </summary>
public sealed class InterestLearner : Learner
{
    private readonly InterestModel model;

    /// <summary>Makes a learner; it owns the model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="optimization">Its optimizer; Adam with learning rate 0.001 by default, the paper's for its own data (there with a decay).</param>
    public InterestLearner(InterestModel model, Optimization? optimization = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        this.model = model;
        Modules = new Dictionary<string, Module> { ["model"] = model };
        Optimizers = new Dictionary<string, Optimization> { ["loss"] = optimization ?? new Optimization(optim.Adam(model.parameters(), 1e-3)) };
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        model.train();
        Tensor entropy = functional.binary_cross_entropy_with_logits(model.forward(batch[0], batch[1], batch[2]), batch[3]);
        step.Log("cross_entropy", entropy);
        step.Minimize("loss", entropy + model.Penalty(batch[0], batch[1], batch[2]));
    }

    /// <summary>Logits of all samples in evaluation mode, without a graph, in blocks.</summary>
    /// <param name="model">The model; it is left in evaluation mode.</param>
    /// <param name="samples">The samples.</param>
    /// <param name="block">Samples of a block.</param>
    /// <returns>Logits [samples], on the CPU.</returns>
    public static Tensor Logits(InterestModel model, HistorySource samples, int block = 1024)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(samples);
        ArgumentOutOfRangeException.ThrowIfLessThan(block, 1);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        model.eval();
        Device device = model.Table(0).device;
        var parts = new List<Tensor>();
        foreach (Tensor rows in arange(samples.Count, ScalarType.Int64).split(block))
        {
            using DisposeScope step = NewDisposeScope();
            Batch batch = samples.Get(rows, device);
            parts.Add(model.forward(batch[0], batch[1], batch[2]).cpu().MoveToOuterDisposeScope());
        }
        return cat(parts).MoveToOuterDisposeScope();
    }

    /// <summary>Figures of merit: gauc (AUC within users), auc and log_loss.</summary>
    /// <param name="model">The model; it is left in evaluation mode.</param>
    /// <param name="samples">The samples.</param>
    public static IReadOnlyDictionary<string, double> Evaluate(InterestModel model, HistorySource samples)
    {
        ArgumentNullException.ThrowIfNull(samples);
        using DisposeScope scope = NewDisposeScope();
        Tensor logits = Logits(model, samples);
        return new Dictionary<string, double>
        {
            ["gauc"] = RankingMetrics.GroupAuc(logits, samples.Labels, samples.Users),
            ["auc"] = RankingMetrics.Auc(logits, samples.Labels),
            ["log_loss"] = RankingMetrics.LogLoss(logits.sigmoid(), samples.Labels),
        };
    }
}
