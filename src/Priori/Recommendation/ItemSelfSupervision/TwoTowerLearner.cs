using Priori.Runtime;
using Priori.Training;

namespace Priori.Recommendation;

/// <summary>What <see cref="TwoTowerLearner"/> minimises beside the main loss.</summary>
public sealed record TwoTowerLearnerOptions
{
    /// <summary>Adam's learning rate. Default 0.003.</summary>
    public double LearningRate { get; init; } = 3e-3;

    /// <summary>Weight of the self-supervised loss, at least 0. Default 0.3.</summary>
    public double Alpha { get; init; } = 0.3;

    /// <summary>Items drawn uniformly for the self-supervised task in each step, at most the catalogue; by default as many as the batch has pairs.</summary>
    public int? TaskBatchSize { get; init; }

    /// <summary>Probability with which each feature of an item is masked in the main task (the "feature dropout" baseline). Default 0.</summary>
    public double FeatureDropout { get; init; }

    /// <summary>log of the training frequency of each item of the catalogue, [items]; null for no correction of the main loss.</summary>
    public Tensor? LogQ { get; init; }
}

/// <summary>
/// Minimises L = L_main + alpha L_self (Yao et al., CIKM 2021, eq. 4) over both towers with one Adam: the main loss on a batch of (query, item) pairs, the self-supervised one on items drawn
/// uniformly from the catalogue. The batch columns are rows of the queries, int64 [batch], and rows of the items, int64 [batch].
/// </summary>
public sealed class TwoTowerLearner : Learner
{
    private const long MaskStream = 0x4D41534B;
    private readonly TwoTowerModel model;
    private readonly ItemFeatures queries, items;
    private readonly ItemContrastiveTask? task;
    private readonly TwoTowerLearnerOptions options;

    /// <summary>Makes a learner; it owns the model.</summary>
    /// <param name="model">The towers, on the device of training.</param>
    /// <param name="queries">Features of all queries, on the same device.</param>
    /// <param name="items">Features of the whole catalogue, on the same device.</param>
    /// <param name="task">The self-supervised task on the model's item tower; null for none.</param>
    /// <param name="options">Weights and rates.</param>
    /// <exception cref="ArgumentException">The batch of the task is larger than the catalogue, or LogQ is not [items].</exception>
    /// <exception cref="ArgumentOutOfRangeException">Alpha is negative, the learning rate not above 0, or the dropout outside [0, 1).</exception>
    public TwoTowerLearner(TwoTowerModel model, ItemFeatures queries, ItemFeatures items, ItemContrastiveTask? task = null, TwoTowerLearnerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(queries);
        ArgumentNullException.ThrowIfNull(items);
        this.options = options ??= new TwoTowerLearnerOptions();
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.LearningRate);
        ArgumentOutOfRangeException.ThrowIfNegative(options.Alpha);
        if (options.FeatureDropout is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(options), options.FeatureDropout, "The feature dropout must be in [0, 1).");
        if (options.TaskBatchSize > items.Count) throw new ArgumentException($"A batch of {options.TaskBatchSize} different items cannot be drawn from a catalogue of {items.Count}.", nameof(options));
        if (options.LogQ is { } q && (q.dim() != 1 || q.size(0) != items.Count)) throw new ArgumentException($"LogQ must be [{items.Count}], not [{string.Join(", ", q.shape)}].", nameof(options));
        (this.model, this.queries, this.items, this.task) = (model, queries, items, task);
        Modules = new Dictionary<string, Module> { ["model"] = model };
        Optimizers = new Dictionary<string, Optimization> { ["loss"] = new(optim.Adam(model.parameters(), options.LearningRate)) };
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
        Tensor rows = batch[1];
        Tensor? masked = options.FeatureDropout > 0 ? rand(rows.size(0), model.Item.Embedding.Schema.Features.Count, device: rows.device).lt(options.FeatureDropout) : null;
        Tensor loss = model.Loss(queries.Select(batch[0]), items.Select(rows), rows, options.LogQ?.index_select(0, rows), masked);
        if (task is not null)
        {
            step.Log("main", loss);
            // Masks and items have random numbers of their own, so the main batches are the same with and without the task.
            var random = SplitMix64.For(step.Seed, step.Index, MaskStream);
            int count = options.TaskBatchSize ?? (int)Math.Min(rows.size(0), items.Count);
            Tensor self = task.Loss(items.Select(ItemContrastiveTask.Sample(items.Count, count, random).to(rows.device)), random);
            step.Log("self", self);
            loss = loss + options.Alpha * self;
        }
        step.Minimize("loss", loss);
    }
}
