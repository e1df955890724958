using Priori.Continual;
using Priori.Data;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes.Continual;

/// <summary>How a table's rows become inputs and its labels numbers, and back: kept with the model.</summary>
internal sealed record TaskColumns(IReadOnlyList<string> Inputs, string Label, IReadOnlyList<double> Mean, IReadOnlyList<double> Deviation, double LabelScale, IReadOnlyList<string>? Classes)
{
    /// <summary>Standardised inputs, float64 [n, d].</summary>
    public Tensor Read(Table table)
    {
        double[] values = new double[(long)table.RowCount * Inputs.Count];
        for (int c = 0; c < Inputs.Count; c++)
        {
            if (!table.Has(Inputs[c])) throw new BadInputException($"{table.Source} has no column '{Inputs[c]}'; it has: {string.Join(", ", table.Columns)}.");
            for (int row = 0; row < table.RowCount; row++)
            {
                if (!table[Inputs[c]].TryGetNumber(row, out double value) || !double.IsFinite(value)) throw new BadInputException($"{table.Source}, row {row + 1}: '{Inputs[c]}' is no number.");
                values[(row * Inputs.Count) + c] = (value - Mean[c]) / Deviation[c];
            }
        }
        return tensor(values).view(table.RowCount, Inputs.Count);
    }

    /// <summary>Labels: numbers over the scale, or -1 and 1 for two classes; NaN where missing.</summary>
    public double[] ReadLabels(Table table)
    {
        if (!table.Has(Label)) throw new BadInputException($"{table.Source} has no column '{Label}'; it has: {string.Join(", ", table.Columns)}. Name it with --target.");
        return [.. Enumerable.Range(0, table.RowCount).Select(row =>
        {
            TableColumn column = table[Label];
            if (column.IsMissing(row)) return double.NaN;
            if (Classes is not null)
            {
                int place = Classes.ToList().IndexOf(column[row]!);
                return place >= 0 ? (2 * place) - 1 : throw new BadInputException($"{table.Source}, row {row + 1}: '{column[row]}' is neither '{Classes[0]}' nor '{Classes[1]}'.");
            }
            return column.TryGetNumber(row, out double value) && double.IsFinite(value) ? value / LabelScale : throw new BadInputException($"{table.Source}, row {row + 1}: label '{column[row]}' is no number.");
        })];
    }
}

/// <summary>The user's own data: a long table of source tasks, of which some rows may lack a label, and a table of the target.</summary>
internal sealed record TaskPool
{
    public required TaskColumns Columns { get; init; }

    public required IReadOnlyList<string> Tasks { get; init; }

    /// <summary>Labelled rows of each source; null where there are none.</summary>
    public required TaskBatch?[] Labelled { get; init; }

    /// <summary>Rows without a label of each source, from 0 in the order of the file.</summary>
    public required int[][] Unlabelled { get; init; }

    public required TaskBatch Target { get; init; }

    /// <summary>Test rows of the target, where a file of its own gives them.</summary>
    public TaskBatch? Test { get; init; }

    public double[]? Prices { get; init; }

    public bool FullyLabelled => Unlabelled.All(u => u.Length == 0);

    public static TaskPool Read(UserData data, ActiveMultitaskRecipeOptions options)
    {
        if (data.Path.Length == 0) throw new BadInputException("The pool of source tasks is missing: give --data pool.csv.");
        Table pool = Table.Read(data.Path), target = Table.Read(data.Part("target"));
        string label = data.Target ?? "y";
        if (!pool.Has(options.TaskColumn)) throw new BadInputException($"{pool.Source} has no column '{options.TaskColumn}' that names the source task; it has: {string.Join(", ", pool.Columns)}. Name it with --set task-column=NAME.");
        string[] inputs = [.. pool.Columns.Where(c => c != options.TaskColumn && c != label && !options.Ignore.Contains(c))];
        if (inputs.Length == 0) throw new BadInputException($"{pool.Source} has no input columns beside '{options.TaskColumn}' and '{label}'.");
        if (pool.RowCount < 2 || target.RowCount < 2) throw new BadInputException($"{(pool.RowCount < 2 ? pool.Source : target.Source)} has fewer than two rows.");

        string[] known = [.. new[] { pool, target }.Where(t => t.Has(label)).SelectMany(t => t[label]).Where(v => v is not null).Select(v => v!).Distinct().Take(3)];
        bool numbers = new[] { pool, target }.Where(t => t.Has(label)).All(t => Enumerable.Range(0, t.RowCount).All(r => t[label].IsMissing(r) || t[label].TryGetNumber(r, out _)));
        if (!numbers && known.Length != 2) throw new BadInputException($"Labels '{label}' must be numbers or two classes; there are '{string.Join("', '", known)}'{(known.Length > 2 ? ", ..." : "")}.");
        IReadOnlyList<string>? classes = known.Length != 2 ? null : numbers ? [.. known.OrderBy(v => double.Parse(v, System.Globalization.CultureInfo.InvariantCulture))] : [.. known.Order(StringComparer.Ordinal)];
        var columns = new TaskColumns(inputs, label, [.. inputs.Select(_ => 0.0)], [.. inputs.Select(_ => 1.0)], 1, classes);
        using DisposeScope scope = NewDisposeScope();
        Tensor raw = columns.Read(pool), mean = raw.mean([0L]), deviation = raw.std(0, unbiased: false);
        deviation = where(deviation.gt(1e-12), deviation, ones_like(deviation));
        columns = columns with { Mean = [.. mean.data<double>()], Deviation = [.. deviation.data<double>()] };
        double[] labels = pool.Has(label) ? columns.ReadLabels(pool) : [.. Enumerable.Repeat(double.NaN, pool.RowCount)];
        if (classes is null)
        {
            double[] given = [.. labels.Concat(columns.ReadLabels(target)).Where(double.IsFinite)];
            double scale = Math.Sqrt(given.Select(v => v * v).DefaultIfEmpty(1).Average() - Math.Pow(given.DefaultIfEmpty(0).Average(), 2));
            columns = columns with { LabelScale = scale > 1e-12 ? scale : 1 };
            labels = [.. labels.Select(v => v / columns.LabelScale)];
        }
        Tensor x = (raw - mean) / deviation;
        string[] names = [.. Enumerable.Range(0, pool.RowCount).Select(r => pool[options.TaskColumn][r] ?? throw new BadInputException($"{pool.Source}, row {r + 1}: '{options.TaskColumn}' is missing."))];
        string[] tasks = [.. names.Distinct()];
        ILookup<string, int> rows = Enumerable.Range(0, names.Length).ToLookup(r => names[r]);
        TaskBatch? Labelled(string task)
        {
            int[] known = [.. rows[task].Where(r => double.IsFinite(labels[r]))];
            return known.Length == 0 ? null : new TaskBatch(x.index_select(0, tensor(known.Select(r => (long)r).ToArray())).MoveToOuterDisposeScope(), tensor(known.Select(r => labels[r]).ToArray()).MoveToOuterDisposeScope());
        }
        return new TaskPool
        {
            Columns = columns,
            Tasks = tasks,
            Labelled = [.. tasks.Select(Labelled)],
            Unlabelled = [.. tasks.Select(t => rows[t].Where(r => double.IsNaN(labels[r])).ToArray())],
            Target = Complete(target, columns),
            Test = data.Parts.TryGetValue("test", out string? test) ? Complete(Table.Read(test), columns) : null,
            Prices = data.Parts.TryGetValue("prices", out string? prices) ? ReadPrices(Table.Read(prices), options.TaskColumn, tasks) : null,
        };
    }

    private static TaskBatch Complete(Table table, TaskColumns columns)
    {
        double[] labels = columns.ReadLabels(table);
        if (Array.FindIndex(labels, double.IsNaN) is >= 0 and var row) throw new BadInputException($"{table.Source}, row {row + 1}: the target's '{columns.Label}' is missing; every row of this file needs it.");
        return new TaskBatch(columns.Read(table).MoveToOuterDisposeScope(), tensor(labels).MoveToOuterDisposeScope());
    }

    private static double[] ReadPrices(Table table, string taskColumn, string[] tasks)
    {
        if (!table.Has(taskColumn) || !table.Has("price")) throw new BadInputException($"{table.Source} must have the columns '{taskColumn}' and 'price'; it has: {string.Join(", ", table.Columns)}.");
        var prices = new Dictionary<string, double>();
        for (int row = 0; row < table.RowCount; row++)
        {
            if (!table["price"].TryGetNumber(row, out double price) || !(price > 0) || double.IsInfinity(price)) throw new BadInputException($"{table.Source}, row {row + 1}: price '{table["price"][row]}' is no number above 0.");
            prices[table[taskColumn][row] ?? ""] = price;
        }
        return [.. tasks.Select(t => prices.TryGetValue(t, out double price) ? price : throw new BadInputException($"{table.Source} has no price for task '{t}'."))];
    }
}
