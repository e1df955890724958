using System.Globalization;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.ClickThrough;

/// <summary>Rows of (id, value) fields with their targets.</summary>
internal sealed record TabularRows(Tensor Ids, Tensor Values, Tensor Target)
{
    public long Count => Ids.size(0);

    public TensorSource Source() => new(Ids, Values, Target);

    public TabularRows Select(Tensor rows) => new(Ids[rows], Values[rows], Target[rows]);
}

/// <summary>Data of the recipes over fields: training, validation and test rows, and what the fields are called.</summary>
/// <param name="Name">Short name.</param>
/// <param name="Description">What it is, with sizes.</param>
/// <param name="Fields">Name of each field.</param>
/// <param name="Ids">Number of ids over all fields.</param>
/// <param name="Task">What is predicted.</param>
/// <param name="Schema">How columns became fields, for tables.</param>
/// <param name="Planted">The interactions that are in the data by construction, as field indices, for generated logs.</param>
/// <param name="Rows">The three parts.</param>
internal sealed record TabularDataset(
    string Name, string Description, IReadOnlyList<string> Fields, long Ids, TabularTask Task, ColumnSchema? Schema, IReadOnlyList<IReadOnlyList<int>>? Planted,
    (TabularRows Train, TabularRows Valid, TabularRows Test) Rows)
{
    public const string Frappe = "frappe", ClickLog = "click-log";
    private const double ValidationShare = 0.15, TestShare = 0.15;
    private const int MostClasses = 20, GeneratedRows = 60_000;

    // The order of the fields in the usual libFM files of Frappe (Xin et al.; He, Chua 2017).
    private static readonly string[] FrappeFields = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"];

    /// <summary>Whether it is the user's own.</summary>
    public bool Own { get; init; }

    /// <summary>Whether it is a second dataset of a run, so that its figures need names of their own.</summary>
    public bool Report { get; init; }

    public TabularRows Train => Rows.Train;

    public TabularRows Valid => Rows.Valid;

    public TabularRows Test => Rows.Test;

    /// <summary>A generated click log with planted interactions; the test rows are twice as many as the validation rows.</summary>
    public static TabularDataset Generated(int rows)
    {
        ClickLogData log = Data.ClickLog.Generate(rows, seed: 0), test = Data.ClickLog.Generate(Math.Max(200, rows / 2), seed: 1);
        string[] names = [.. log.Fields.Select(f => f.Name)];
        static TabularRows Rows(ClickLogData data) => new(data.Ids + data.Offsets, ones_like(data.Ids, ScalarType.Float32), data.Labels);
        var (train, valid) = Split(Rows(log), ValidationShare);
        return new TabularDataset(
            ClickLog, $"generated click log with {log.Interactions.Count} planted interactions and {names.Count(n => n.StartsWith("noise", StringComparison.Ordinal))} noise fields, {train.Count} training, {valid.Count} validation and {test.Labels.size(0)} test rows",
            names, log.Fields.Sum(f => (long)f.Cardinality), TabularTask.Binary, null,
            [.. log.Interactions.Select(i => (IReadOnlyList<int>)[.. i.Fields.Select(f => Array.IndexOf(names, f)).Order()])], (train, valid, Rows(test)));
    }

    /// <summary>Frappe: the validation file is split for training and validation, the test file is the test.</summary>
    public static TabularDataset ReadFrappe(string folder, int maximumRows)
    {
        LibFmData fit = LibFm.Read(Path.Combine(folder, "frappe.validation.libfm")), test = LibFm.Read(Path.Combine(folder, "frappe.test.libfm"));
        TabularRows Rows(LibFmData data) => First(new TabularRows(data.Ids, data.Values, data.Labels.gt(0).to(ScalarType.Float32)), maximumRows);
        var (train, valid) = Split(Rows(fit), ValidationShare);
        TabularRows held = Rows(test);
        return new TabularDataset(Frappe, $"Frappe (libFM files; validation part split for training, test part for testing), {train.Count} training, {valid.Count} validation and {held.Count} test rows",
            FrappeFields, Math.Max(fit.FeatureCount, test.FeatureCount), TabularTask.Binary, null, null, (train, valid, held));
    }

    /// <summary>The user's own table (CSV, TSV, Parquet) or libFM file, split 70 : 15 : 15. Columns are learned on the training rows only.</summary>
    public static TabularDataset Read(string method, UserData data, ColumnSchemaOptions columns, int maximumRows)
    {
        if (Directory.Exists(data.Path)) throw new BadInputException($"{data.Path} is a folder; {method} needs a table (CSV, TSV, Parquet) or a libFM file.");
        if (!File.Exists(data.Path)) throw new BadInputException($"{data.Path} does not exist.");
        string name = Path.GetFileName(data.Path);
        if (IsLibFm(data.Path))
        {
            LibFmData rows = LibFm.Read(data.Path);
            var (task, target) = LabelTask(rows.Labels, name);
            var (rest, test) = Split(First(new TabularRows(rows.Ids, rows.Values, target), maximumRows), TestShare);
            var (train, valid) = Split(rest, ValidationShare / (1 - TestShare));
            return new TabularDataset(name, Sizes(name, train, valid, test), [.. Enumerable.Range(1, (int)rows.Ids.size(1)).Select(i => $"field{i}")], rows.FeatureCount, task, null, null, (train, valid, test)) { Own = true };
        }

        Table table = Table.Read(data.Path);
        if (data.Target is null) throw new BadInputException($"{name}: name the column to predict with --target; the columns are: {string.Join(", ", table.Columns)}.");
        long count = maximumRows > 0 ? Math.Min(maximumRows, table.RowCount) : table.RowCount;
        if (count < 20) throw new BadInputException($"{name} has {count} rows; at least 20 are needed to train, validate and test.");
        Tensor order = randperm(table.RowCount, ScalarType.Int64, generator: new Generator(0)).narrow(0, 0, count);
        long held = Math.Max(3, (long)(count * TestShare)), watched = Math.Max(3, (long)(count * ValidationShare));
        Tensor fit = order.narrow(0, held + watched, count - held - watched);
        string[] empty = [.. table.Columns.Where(name => name != data.Target && !columns.Ignore.Contains(name) && HasNoValue(table[name], fit))];
        ColumnSchema schema = ColumnSchema.Learn(table, columns with { Target = data.Target, Ignore = [.. columns.Ignore, .. empty] }, fit);
        EncodedTable encoded = schema.Encode(table);
        var all = new TabularRows(encoded.Ids, encoded.Values, encoded.Target!);
        var parts = (Train: all.Select(fit), Valid: all.Select(order.narrow(0, held, watched)), Test: all.Select(order.narrow(0, 0, held)));
        return new TabularDataset(name, Sizes(name, parts.Train, parts.Valid, parts.Test) + $", target {data.Target}"
            + (empty.Length == 0 ? "" : $"; left out because no training row has a value: {string.Join(", ", empty)}"), [.. schema.Fields.Select(f => f.Name)], schema.TotalIds, TabularTask.Of(schema.Target!), schema, null, parts) { Own = true };
    }

    /// <summary>Default data of a recipe: Frappe, the generated click log, or (auto) Frappe where it is present.</summary>
    public static TabularDataset Default(string dataset, int rows, DataFolder folder)
    {
        string? frappe = dataset == ClickLog ? null : folder.Find(Frappe);
        if (frappe is not null) return ReadFrappe(frappe, rows);
        if (dataset == Frappe) throw new BadInputException("Frappe is not in the data folder: fetch it with priori data get frappe, or use --set dataset=click-log.");
        return Generated(rows > 0 ? rows : GeneratedRows);
    }

    public static bool IsLibFm(string path) => Path.GetExtension(path).ToUpperInvariant() is ".LIBFM" or ".LIBSVM" or ".SVM";

    /// <summary>The same data with fields of random values appended: nothing about the target is in them.</summary>
    public TabularDataset WithNoise(int fields, int values)
    {
        var generator = new Generator(20210618);
        TabularRows Append(TabularRows rows) => rows with
        {
            Ids = cat([rows.Ids, randint(values, [rows.Count, fields], ScalarType.Int64, generator: generator) + arange(fields, ScalarType.Int64) * values + Ids], 1),
            Values = cat([rows.Values, ones(rows.Count, fields)], 1),
        };
        return this with { Fields = [.. Fields, .. Enumerable.Range(1, fields).Select(i => $"random{i}")], Ids = Ids + (long)fields * values, Rows = (Append(Train), Append(Valid), Append(Test)) };
    }

    /// <summary>What a cell holds, in words: "occupation=Sales", "age=0.31", "item: id 1572".</summary>
    public string Cell(int field, long id, float value)
    {
        if (Schema is null || field >= Schema.Fields.Count)
            return string.Create(CultureInfo.InvariantCulture, $"{Fields[field]}: id {id}{(value == 1 ? "" : $", value {value:G4}")}");
        string name = Schema.Name(id);
        SchemaField column = Schema.Fields[field];
        return name != column.Name ? name : string.Create(CultureInfo.InvariantCulture, $"{name}={(column.Scale == 0 ? value : (value - column.Shift) / column.Scale):G6}");
    }

    /// <summary>Labels of a libFM file: two values are classes, up to twenty whole numbers too, anything else is a number to predict.</summary>
    private static (TabularTask Task, Tensor Target) LabelTask(Tensor labels, string name)
    {
        float[] distinct = [.. labels.data<float>().Distinct().Take(MostClasses + 1).Order()];
        if (distinct.Length < 2) throw new BadInputException($"{name}: every label is {distinct[0]}; there is nothing to learn.");
        if (distinct.Length == 2) return (TabularTask.Binary, labels.gt(distinct[0]).to(ScalarType.Float32));
        if (distinct.Length <= MostClasses && distinct.All(float.IsInteger))
            return (new TabularTask(TargetKind.Classes, distinct.Length), bucketize(labels, tensor(distinct)));
        return (new TabularTask(TargetKind.Regression, 2, labels.mean().ToDouble(), Math.Max(labels.std().ToDouble(), 1e-12)), labels);
    }

    private static bool HasNoValue(TableColumn column, Tensor rows) => rows.data<long>().All(row => column.IsMissing((int)row));

    private static string Sizes(string name, TabularRows train, TabularRows valid, TabularRows test) => $"{name}: {train.Count} training, {valid.Count} validation and {test.Count} test rows";

    private static TabularRows First(TabularRows rows, int maximum)
        => maximum > 0 && maximum < rows.Count ? rows.Select(randperm(rows.Count, ScalarType.Int64, generator: new Generator(1)).narrow(0, 0, maximum)) : rows;

    private static (TabularRows Others, TabularRows Part) Split(TabularRows rows, double share)
    {
        long part = Math.Max(3, (long)(rows.Count * share));
        if (rows.Count - part < 4) throw new BadInputException($"{rows.Count} rows are too few to train, validate and test; at least 20 are needed.");
        Tensor order = randperm(rows.Count, ScalarType.Int64, generator: new Generator(0));
        return (rows.Select(order.narrow(0, part, rows.Count - part)), rows.Select(order.narrow(0, 0, part)));
    }
}
