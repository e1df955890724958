using System.Globalization;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.ClickThrough;

/// <summary>Options that all click models share.</summary>
public abstract record ClickOptions : RecipeOptions
{
    /// <summary>Rows used.</summary>
    [Option("Rows of the generated log, and most rows used of other data; 0 is all, and the recipe's own number of generated ones.", Min = 0)]
    public int Rows { get; init; }

    /// <summary>Embedding width.</summary>
    [Option("Width of an embedding.", Min = 1)]
    public int EmbeddingDim { get; init; } = 10;

    /// <summary>Hidden widths.</summary>
    [Option("Hidden widths of every MLP.", Min = 1)]
    public IReadOnlyList<long> MlpHidden { get; init; } = [128, 128];

    /// <summary>Dropout.</summary>
    [Option("Dropout probability of every MLP.", Min = 0, Max = 0.99)]
    public double Dropout { get; init; }

    /// <summary>Learning rate.</summary>
    [Option("Adam's learning rate.", Min = 1e-8)]
    public double LearningRate { get; init; } = 3e-3;

    /// <summary>Weight decay.</summary>
    [Option("L2 penalty of all weights, added to the gradient.", Min = 0)]
    public double WeightDecay { get; init; }

    /// <summary>Batch size.</summary>
    [Option("Rows in a batch; by default the recipe's, on own data a hundredth of the training rows within 32..1024.", Min = 2)]
    public int? BatchSize { get; init; }

    /// <summary>Epochs.</summary>
    [Option("Most epochs; by default the recipe's, on own data 50.", Min = 1)]
    public int? Epochs { get; init; }

    /// <summary>Patience.</summary>
    [Option("Epochs without a better validation figure before training stops; by default the recipe's, on own data 5.", Min = 1)]
    public int? Patience { get; init; }

    /// <summary>Encoding of numeric columns.</summary>
    [Option("Own tables: how columns of numbers become fields: one scaled value, quantile buckets, or whole squares of logarithms (counts).")]
    public FieldKind Numbers { get; init; } = FieldKind.Numeric;

    /// <summary>Scaling of numeric columns.</summary>
    [Option("Own tables: how numbers are scaled.")]
    public NumericScaling Scaling { get; init; } = NumericScaling.MinMax;

    /// <summary>Columns of ids.</summary>
    [Option("Own tables: columns of numbers that are categories, such as ids.")]
    public IReadOnlyList<string> Categories { get; init; } = [];

    /// <summary>Columns left out.</summary>
    [Option("Own tables: columns to leave out, such as row numbers.")]
    public IReadOnlyList<string> Ignore { get; init; } = [];

    /// <inheritdoc/>
    public override void Validate()
    {
        if (Numbers == FieldKind.Categorical) throw new BadInputException("Option 'numbers' is numeric, quantiles or log-squares; name single columns in option 'categories'.");
    }

    /// <summary>How the columns of a table are learned.</summary>
    internal ColumnSchemaOptions Columns => new()
    {
        NumericKind = Numbers, Scaling = Scaling, Ignore = [.. Ignore], Kinds = Categories.ToDictionary(name => name, _ => FieldKind.Categorical),
    };
}

/// <summary>What recipes of click models share: data, training with early stopping, the table of models, and scoring of new rows in blocks.</summary>
/// <typeparam name="TOptions">The recipe's options.</typeparam>
public abstract class ClickRecipe<TOptions> : Recipe<TOptions>
    where TOptions : ClickOptions, new()
{
    private const int ApplyBlock = 4096;

    /// <inheritdoc/>
    public override string Area => "ClickThrough";

    /// <summary>Whether the target must have two values. Otherwise several classes and numbers are predicted too.</summary>
    protected virtual bool BinaryTarget => true;

    /// <summary>The user's table or libFM file.</summary>
    internal TabularDataset ReadOwn(TOptions options, RunContext context)
    {
        var data = TabularDataset.Read(Id, context.Data!, options.Columns, options.Rows);
        if (BinaryTarget && data.Task.Metric != "auc")
            throw new BadInputException($"{data.Name}: the target {(context.Data!.Target is { } name ? $"'{name}' " : "")}has {(data.Task.Kind == TargetKind.Regression ? "many values" : $"{data.Task.Classes} classes")}; {Id} predicts a column of two values.");
        return data;
    }

    /// <summary>The trainer's settings for a dataset.</summary>
    internal static TrainerOptions Settings(TOptions options, TabularDataset data) => new()
    {
        Epochs = options.Epochs ?? (data.Own ? 50 : 8),
        BatchSize = options.BatchSize ?? (data.Own ? (int)Math.Clamp(data.Train.Count / 100, 32, 1024) : 1024),
        EarlyStopping = new EarlyStopping(data.Task.Metric, options.Patience ?? (data.Own ? 5 : 2)),
    };

    /// <summary>Trains a model on the run's device with Adam and early stopping on the validation rows, and records <see cref="Record"/>'s figures.</summary>
    /// <returns>Its best validation figure.</returns>
    internal static double Fit(ArmRun run, Module<Tensor, Tensor, Tensor> model, TabularDataset data, TOptions options)
    {
        model.to(run.Device);
        // The caller goes on with the model: the learner, which would free it, is left to the arm's dispose scope.
        var learner = new TabularLearner(model, data.Task, options.LearningRate, options.WeightDecay);
        TrainingHistory history = run.Trainer(Settings(options, data)).Fit(learner, data.Train.Source(), _ => Evaluate(model, data, data.Valid), run.Cancellation);
        return Record(run, model, data, history);
    }

    /// <summary>Records the test figures, the best validation figure, the parameters and the time of a step of a trained model.</summary>
    /// <returns>The best validation figure.</returns>
    internal static double Record(ArmRun run, Module<Tensor, Tensor, Tensor> model, TabularDataset data, TrainingHistory history)
    {
        run.Include(history);
        foreach (var (name, value) in Evaluate(model, data, data.Test)) run.Metric(name, value);
        double validation = history.Series[data.Task.Metric][history.BestEpoch - 1];
        run.Metric("validation", validation);
        run.Metric("parameters", model.parameters().Sum(p => p.numel()));
        run.Metric("ms_per_step", 1000 * history.Seconds / history.Steps);
        return validation;
    }

    /// <summary>Figures of merit of a model on some rows.</summary>
    internal static IReadOnlyDictionary<string, double> Evaluate(Module<Tensor, Tensor, Tensor> model, TabularDataset data, TabularRows rows)
        => data.Task.Evaluate(TabularLearner.Logits(model, rows.Ids, rows.Values).cpu(), rows.Target);

    /// <summary>The table of models, and their figures of merit as bars.</summary>
    internal static void ReportModels(RunContext context, TabularDataset data, IReadOnlyDictionary<string, ArmResult[]> results, params IReadOnlyList<(string Header, Func<ArmResult[], string> Cell)> further)
    {
        string[] metrics = data.Task.Metric switch { "auc" => ["auc", "log_loss", "accuracy"], "accuracy" => ["accuracy", "log_loss"], _ => ["r2", "rmse"] };
        context.Table($"models{Suffix(data)}", $"Test figures on {data.Name}, mean ± standard deviation over {context.Seeds.Count} seeds", ["model", .. metrics, "parameters", "ms per step", .. further.Select(f => f.Header)],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. metrics.Select(m => Numbers.MeanAndDeviation(r.Value, m)), Numbers.MeanAndDeviation(r.Value, "parameters", "N0"),
                Numbers.Text(r.Value.Average(a => a["ms_per_step"]), "F1"), .. further.Select(f => f.Cell(r.Value))])]);
        var bars = results.Select(r => (r.Key, (IReadOnlyList<double>)[.. r.Value.Select(a => a[data.Task.Metric])])).ToArray();
        ScottPlot.Plot plot = Charts.Bars($"Test {data.Task.Metric} on {data.Name}", data.Task.Metric, bars);
        double[] all = [.. bars.SelectMany(b => b.Item2)];
        double margin = Math.Max(1e-4, all.Max() - all.Min()) * 0.3;
        plot.Axes.SetLimitsY(all.Min() - margin, all.Max() + margin);
        context.Figure($"{data.Task.Metric}{Suffix(data)}", $"Test {data.Task.Metric} of each model on {data.Name}; a dot is a seed. The axis does not start at zero.", plot);
    }

    /// <summary>Columns that a recipe adds to the predictions of <see cref="Apply"/>.</summary>
    internal virtual IReadOnlyList<string> FurtherColumns(ClickModelDescription model) => [];

    /// <summary>The cells of those columns, row by row.</summary>
    internal virtual IEnumerable<IReadOnlyList<string>> FurtherCells(ClickScorer scorer, Tensor ids, Tensor values) => [];

    /// <inheritdoc/>
    public override void Apply(SavedRun run, ApplyContext context)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(context);
        if (!File.Exists(context.DataPath)) throw new BadInputException($"{context.DataPath} does not exist.");
        if (run.Models.Count == 0) throw new BadInputException($"Run {run.Folder} kept no model.");
        var (name, saved) = run.Models.Select(m => (Name: m, Model: run.Description<ClickModelDescription>(m))).MaxBy(m => m.Model.Validation);
        using var scorer = new ClickScorer(saved, run.Model(name), context.Device);

        string path = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "predictions.csv");
        int outputs = (int)saved.Task.Outputs;
        string[] predicted = saved.Task.Kind == TargetKind.Regression ? ["prediction"]
            : ["prediction", .. outputs == 1 ? [$"probability of {saved.ClassName(1)}"] : Enumerable.Range(0, outputs).Select(c => $"probability of {saved.ClassName(c)}")];
        string[] classes = saved.Task.Kind == TargetKind.Regression ? [] : [.. Enumerable.Range(0, saved.Task.Classes).Select(c => Csv.Cell(saved.ClassName(c)))];
        IReadOnlyList<string> further = FurtherColumns(saved);
        long rows = 0;
        AtomicFile.Write(path, stream =>
        {
            using var writer = new StreamWriter(stream, leaveOpen: true) { NewLine = "\n" };
            writer.WriteLine(Csv.Line(["row", .. predicted, .. further]));
            foreach (var (ids, values) in Blocks(context.DataPath, scorer))
            {
                context.Cancellation.ThrowIfCancellationRequested();
                using DisposeScope scope = NewDisposeScope();
                float[] predictions = scorer.Score(ids, values).reshape(-1).data<float>().ToArray();
                using IEnumerator<IReadOnlyList<string>> cells = (further.Count > 0 ? FurtherCells(scorer, ids, values) : []).GetEnumerator();
                for (int row = 0; row < ids.size(0); row++)
                {
                    ReadOnlySpan<float> p = predictions.AsSpan(row * outputs, outputs);
                    writer.Write(++rows);
                    if (classes.Length > 0)
                    {
                        writer.Write(',');
                        writer.Write(classes[outputs > 1 ? Greatest(p) : p[0] > 0.5f ? 1 : 0]);
                    }
                    foreach (float value in p)
                    {
                        writer.Write(',');
                        writer.Write(value.ToString("G6", CultureInfo.InvariantCulture));
                    }
                    if (cells.MoveNext())
                    {
                        writer.Write(',');
                        writer.Write(Csv.Line(cells.Current));
                    }
                    writer.WriteLine();
                }
                ids.Dispose();
                values.Dispose();
            }
        });
        context.Report($"{rows} rows predicted by {name} ({saved.Task.Metric} {Numbers.Text(saved.Validation, "F4")} on its validation rows): {path}");
    }

    private static int Greatest(ReadOnlySpan<float> values)
    {
        int best = 0;
        for (int i = 1; i < values.Length; i++)
            if (values[i] > values[best]) best = i;
        return best;
    }

    private static string Suffix(TabularDataset data) => data.Report ? $"-{data.Name}" : "";

    /// <summary>The rows of a file, encoded, block by block.</summary>
    private static IEnumerable<(Tensor Ids, Tensor Values)> Blocks(string path, ClickScorer scorer)
    {
        ClickModelDescription model = scorer.Description;
        if (model.TakesTables)
        {
            foreach (Table block in TableReader.Blocks(path, ApplyBlock)) yield return model.Encode(scorer.Model, block);
            yield break;
        }
        foreach (LibFmData block in LibFm.Blocks(path, ApplyBlock))
        {
            if (block.Ids.size(1) != model.Fields.Count || block.FeatureCount > model.Ids)
                throw new BadInputException($"{path}: the model has {model.Fields.Count} fields and ids below {model.Ids}; this file has {block.Ids.size(1)} fields and ids up to {block.FeatureCount - 1}.");
            block.Labels.Dispose();
            yield return (block.Ids, block.Values);
        }
    }
}
