using Priori.Data;
using Priori.Training;

namespace Priori.ClickThrough;

/// <summary>How <see cref="Armor.Fit"/> reads a table, builds an <see cref="ArmNet"/> and trains it.</summary>
public sealed record ArmorOptions
{
    /// <summary>Width of an embedding.</summary>
    public long EmbeddingDim { get; init; } = 10;

    /// <summary>Attention heads.</summary>
    public long Heads { get; init; } = 1;

    /// <summary>Exponential neurons of each head.</summary>
    public long Neurons { get; init; } = 32;

    /// <summary>Sparsity of the gates, at least 1.</summary>
    public double Alpha { get; init; } = 2;

    /// <summary>Hidden widths of the prediction head.</summary>
    public IReadOnlyList<long> MlpHidden { get; init; } = [128, 128];

    /// <summary>Dropout probability, in [0, 1).</summary>
    public double Dropout { get; init; }

    /// <summary>ARM-Net+: a <see cref="Dnn"/> is trained jointly.</summary>
    public bool Ensemble { get; init; }

    /// <summary>Adam's learning rate.</summary>
    public double LearningRate { get; init; } = 3e-3;

    /// <summary>Rows in a batch; null is a hundredth of the training rows, within 32..1024.</summary>
    public int? BatchSize { get; init; }

    /// <summary>Times over the training rows, at most.</summary>
    public int Epochs { get; init; } = 50;

    /// <summary>Epochs without a better validation figure that are waited for.</summary>
    public int Patience { get; init; } = 5;

    /// <summary>Share of the rows held out to stop by, in (0, 1).</summary>
    public double ValidationFraction { get; init; } = 0.15;

    /// <summary>Seed of the split and the training.</summary>
    public int Seed { get; init; }

    /// <summary>Where the model is trained and used.</summary>
    public Device Device { get; init; } = CPU;

    /// <summary>How columns become fields; the target is set by <see cref="Armor.Fit"/>.</summary>
    public ColumnSchemaOptions Columns { get; init; } = new();

    /// <summary>Told how far training is.</summary>
    public IProgress<TrainingProgress>? Progress { get; init; }

    /// <summary>The model of given fields and task.</summary>
    internal ClickModel Model(long fields, long ids, TabularTask task) => ClickModel.Create(BackboneKind.ArmNet, new BackboneOptions
    {
        Fields = fields,
        EmbeddingDim = EmbeddingDim,
        Heads = Heads,
        Neurons = Neurons,
        Alpha = Alpha,
        MlpHidden = MlpHidden,
        Dropout = Dropout,
        Ensemble = Ensemble,
        Outputs = task.Outputs,
    }, ids, clampValues: Columns.Scaling == NumericScaling.MinMax);
}

/// <summary>ARMOR (Cai et al., SIGMOD 2021): from a table and a target to a predictor that says which columns and which cross features it used.</summary>
public static class Armor
{
    /// <summary>Learns the columns, trains an <see cref="ArmNet"/> with early stopping on held-out rows, and keeps the weights of the best epoch.</summary>
    /// <param name="table">At least 4 rows.</param>
    /// <param name="target">The column to predict: classes or a number.</param>
    /// <param name="options">Sizes and training; null for the defaults.</param>
    /// <param name="cancellation">Stops the training.</param>
    /// <exception cref="Priori.Runtime.BadInputException">A column does not fit; see <see cref="ColumnSchema.Learn"/>.</exception>
    /// <exception cref="ArgumentException">The table has fewer than 4 rows, or an option is outside its range.</exception>
    public static ArmorModel Fit(Table table, string target, ArmorOptions? options = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentException.ThrowIfNullOrEmpty(target);
        options ??= new ArmorOptions();
        if (options.ValidationFraction is not (> 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(options), options.ValidationFraction, "The validation fraction must be in (0, 1).");
        if (table.RowCount < 4) throw new ArgumentException($"{table.RowCount} rows are too few to train and to validate on; at least 4 are needed.", nameof(table));
        using DisposeScope scope = NewDisposeScope();
        long held = Math.Clamp((long)(table.RowCount * options.ValidationFraction), 2, table.RowCount - 2);
        Tensor order = randperm(table.RowCount, ScalarType.Int64, generator: new Generator((ulong)options.Seed));
        Tensor valid = order.narrow(0, 0, held), train = order.narrow(0, held, table.RowCount - held);
        ColumnSchema schema = ColumnSchema.Learn(table, options.Columns with { Target = target }, train);
        EncodedTable data = schema.Encode(table);
        TabularTask task = TabularTask.Of(schema.Target!);

        manual_seed(options.Seed);
        ClickModel net = options.Model(schema.Fields.Count, schema.TotalIds, task);
        net.to(options.Device);
        var learner = new TabularLearner(net, task, options.LearningRate);
        var trainer = new Trainer(new TrainerOptions
        {
            Epochs = options.Epochs,
            BatchSize = options.BatchSize ?? (int)Math.Clamp((table.RowCount - held) / 100, 32, 1024),
            Seed = options.Seed,
            Device = options.Device,
            EarlyStopping = new EarlyStopping(task.Metric, options.Patience),
            Progress = options.Progress,
        });
        Tensor validIds = data.Ids[valid], validValues = data.Values[valid], validTarget = data.Target![valid];
        TrainingHistory history = trainer.Fit(learner, new TensorSource(data.Ids[train], data.Values[train], data.Target![train]),
            _ => task.Evaluate(TabularLearner.Logits(net, validIds, validValues).cpu(), validTarget), cancellation);
        foreach (Tensor state in net.state_dict().Values) state.DetachFromDisposeScope(); // the network outlives the training
        return new ArmorModel(schema, task, net, history);
    }
}

/// <summary>A trained ARMOR model of a table.</summary>
public sealed class ArmorModel : IDisposable
{
    internal ArmorModel(ColumnSchema schema, TabularTask task, ClickModel model, TrainingHistory history) => (Schema, Task, Model, History) = (schema, task, model, history);

    /// <summary>How columns become fields; field i of an explanation is <c>Schema.Fields[i]</c>.</summary>
    public ColumnSchema Schema { get; }

    /// <summary>What the logits mean.</summary>
    public TabularTask Task { get; }

    /// <summary>The model; its backbone is an <see cref="ArmNet"/>.</summary>
    public ClickModel Model { get; }

    /// <summary>Loss and validation figures of each epoch.</summary>
    public TrainingHistory History { get; }

    /// <summary>Predictions of a table's rows, on the CPU: see <see cref="TabularTask.Predict"/>.</summary>
    /// <param name="table">Has the columns of the training table; the target may be absent.</param>
    /// <exception cref="Priori.Runtime.BadInputException">A column does not fit.</exception>
    public Tensor Predict(Table table)
    {
        using DisposeScope scope = NewDisposeScope();
        EncodedTable data = Schema.Encode(table);
        return Task.Predict(TabularLearner.Logits(Model, data.Ids, data.Values).cpu()).MoveToOuterDisposeScope();
    }

    /// <summary>What the model uses over all rows of a table.</summary>
    /// <param name="table">Has the columns of the training table.</param>
    public ArmNetExplanation ExplainGlobal(Table table)
    {
        using DisposeScope scope = NewDisposeScope();
        EncodedTable data = Schema.Encode(table);
        return ArmNetExplanation.Of(Model, data.Ids, data.Values);
    }

    /// <summary>What the model uses for one row of a table.</summary>
    /// <param name="table">Has the columns of the training table.</param>
    /// <param name="row">The row, from 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">The table has no such row.</exception>
    public ArmNetExplanation ExplainRow(Table table, int row)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, table.RowCount);
        using DisposeScope scope = NewDisposeScope();
        EncodedTable data = Schema.Encode(table);
        return ArmNetExplanation.Of(Model, data.Ids.narrow(0, row, 1), data.Values.narrow(0, row, 1));
    }

    /// <summary>Frees the model.</summary>
    public void Dispose() => Model.Dispose();
}
