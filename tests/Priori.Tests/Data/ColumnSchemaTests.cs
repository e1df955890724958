using System.Text.Json;
using Priori.Data;
using Priori.Runtime;

namespace Priori.Tests.Data;

public sealed class ColumnSchemaTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    private static Table Sample() => new(
    [
        TableColumn.Texts("job", ["Sales", "Tech", "Sales", null, "Law", "Never seen in training"]),
        TableColumn.Numbers("age", [20, 30, 40, 25, double.NaN, 90]),
        TableColumn.Texts("city", ["b", "a", "b", "a", "b", null]),
        TableColumn.Texts("income", [">50K", "<=50K", "<=50K", ">50K", "<=50K", ">50K"]),
    ], "people.csv");

    private static Tensor Training() => torch.arange(5);

    [Fact]
    public void Every_category_has_its_id_and_no_other_text_has_one()
    {
        string[] categories = [.. Enumerable.Range(0, 5000).Select(i => i.ToString("x", System.Globalization.CultureInfo.InvariantCulture)), "", "größe"];
        var index = new CategoryIndex(categories);
        for (int c = 0; c < categories.Length; c++) Assert.Equal(c + 1, index.Find(categories[c]));
        foreach (string other in new[] { "x", "1389", "00", "grösse", " " }) Assert.Equal(0, index.Find(other));
        Assert.Equal(0, new CategoryIndex([]).Find("a"));
    }

    [Fact]
    public void Ids_values_and_target_follow_the_training_rows_only()
    {
        ColumnSchema schema = ColumnSchema.Learn(Sample(), new ColumnSchemaOptions { Target = "income" }, Training());
        // job: unknown, Law, Sales, Tech, missing; age: number, missing; city: unknown, a, b.
        Assert.Equal(new long[] { 0, 5, 7 }, schema.Offsets);
        Assert.Equal(10, schema.TotalIds);
        Assert.Equal(["<=50K", ">50K"], schema.Target!.Classes);
        EncodedTable encoded = schema.Encode(Sample());
        Assert.Equal(new long[] { 2, 5, 9, 3, 5, 8, 2, 5, 9, 4, 5, 8, 1, 6, 9, 0, 5, 7 }, encoded.Ids.data<long>().ToArray());
        float[] values = encoded.Values.data<float>().ToArray();
        Assert.Equal(0.001f, values[1], 6);
        Assert.Equal(0.5005f, values[4], 6);
        Assert.Equal(1f, values[7], 6);
        Assert.Equal(1f, values[13], 6); // missing: the value of its id
        Assert.Equal(1f, values[16], 6); // 90 is clamped to the training range
        Assert.Equal(new long[] { 1, 0, 0, 1, 0, 1 }, encoded.Target!.data<long>().ToArray());
    }

    [Fact]
    public void Names_come_back_from_ids()
    {
        ColumnSchema schema = ColumnSchema.Learn(Sample(), new ColumnSchemaOptions { Target = "income", Kinds = new Dictionary<string, FieldKind> { ["age"] = FieldKind.Quantiles }, Buckets = 2 }, Training());
        Assert.Equal(
            ["job=<unknown>", "job=Law", "job=Sales", "job=Tech", "job=<missing>", "age=(-inf, 27.5)", "age=[27.5, inf)", "age=<missing>", "city=<unknown>", "city=a", "city=b"],
            Enumerable.Range(0, (int)schema.TotalIds).Select(id => schema.Name(id)));
        Assert.Equal((1, 2), schema.Locate(7));
        Assert.Throws<ArgumentOutOfRangeException>(() => schema.Locate(11));
        Assert.Equal(new long[] { 5, 6, 6, 5, 7, 6 }, schema.Encode(Sample()).Ids.select(1, 1).contiguous().data<long>().ToArray());
    }

    [Fact]
    public void Counts_become_the_whole_squares_of_their_logarithms()
    {
        var table = new Table([TableColumn.Numbers("count", [-1, 0, 2, 2.5, 3, 1000, 1001, double.NaN]), TableColumn.Texts("y", ["a", "b", "a", "b", "a", "b", "a", "b"])]);
        var options = new ColumnSchemaOptions { NumericKind = FieldKind.LogSquares, Target = "y" };
        ColumnSchema schema = ColumnSchema.Learn(table, options);
        // ln(2.5)^2 = .84, ln(3)^2 = 1.2, ln(1000)^2 = 47.7.
        Assert.Equal(["-1", "0", "1", "2", "47"], schema.Fields[0].Categories);
        Assert.Equal(new long[] { 1, 2, 4, 2, 3, 5, 5, 6 }, schema.Encode(table).Ids.flatten().data<long>().ToArray());
        Assert.Equal("count=47", schema.Name(5));
        Assert.Equal(["0", "47"], ColumnSchema.Learn(table, options with { MinimumFrequency = 2 }).Fields[0].Categories);
        Assert.Equal(0, schema.Encode(new Table([TableColumn.Numbers("count", [7e9])])).Ids.item<long>());
    }

    [Fact]
    public void Standardised_training_values_have_zero_mean_and_unit_deviation()
    {
        double[] numbers = Enumerable.Range(0, 50).Select(i => Math.Sqrt(i) * 100).ToArray();
        var table = new Table([TableColumn.Numbers("x", numbers)]);
        float[] values = ColumnSchema.Learn(table, new ColumnSchemaOptions { Scaling = NumericScaling.Standardize }).Encode(table).Values.data<float>().ToArray();
        Assert.Equal(0, values.Average(), 5);
        Assert.Equal(1, values.Average(value => (double)value * value), 5);
    }

    [Fact]
    public void Zero_to_one_scaling_clamps_and_takes_missing_values_as_zero()
    {
        ColumnSchema schema = ColumnSchema.Learn(new Table([TableColumn.Texts("x", ["-2", "6", "", "0"])]), new ColumnSchemaOptions { Scaling = NumericScaling.ZeroToOne });
        Assert.Equal(1, schema.TotalIds);
        Assert.Equal([0, 1, 0, .25f, 1, 0], schema.Encode(new Table([TableColumn.Texts("x", ["-2", "6", "", "0", "9", "-9"])])).Values.data<float>().ToArray());
    }

    [Fact]
    public void Quantile_buckets_hold_equally_many_rows()
    {
        var table = new Table([TableColumn.Numbers("x", Enumerable.Range(0, 1000).Select(i => Math.Pow(i, 3)).ToArray()), TableColumn.Numbers("constant", new double[1000])]);
        ColumnSchema schema = ColumnSchema.Learn(table, new ColumnSchemaOptions { NumericKind = FieldKind.Quantiles, Buckets = 8 });
        Assert.Equal(9, schema.TotalIds);
        Tensor counts = schema.Encode(table).Ids.select(1, 0).bincount(null, 0);
        Assert.All(counts.data<long>().ToArray(), count => Assert.Equal(125, count));
    }

    [Fact]
    public void Zeros_of_a_column_that_is_mostly_zero_have_a_bucket_of_their_own()
    {
        var table = new Table([TableColumn.Numbers("gain", [.. new double[95], 3, 7, 7, 9, 50]), TableColumn.Numbers("hours", [.. Enumerable.Repeat(40.0, 60), .. Enumerable.Range(41, 40).Select(i => (double)i)])]);
        ColumnSchema schema = ColumnSchema.Learn(table, new ColumnSchemaOptions { NumericKind = FieldKind.Quantiles, Buckets = 10 });
        Assert.Equal([3.0], schema.Fields[0].Edges);
        Assert.Equal(41, schema.Fields[1].Edges[0]);
        Assert.Equal(5, schema.Encode(table).Ids.select(1, 0).sum().item<long>());
    }

    [Fact]
    public void Rare_categories_share_the_id_of_the_unknown_ones()
    {
        var table = new Table([TableColumn.Texts("x", ["a", "a", "b", "c", "c"])]);
        ColumnSchema schema = ColumnSchema.Learn(table, new ColumnSchemaOptions { MinimumFrequency = 2 });
        Assert.Equal(["a", "c"], schema.Fields[0].Categories);
        Assert.Equal(new long[] { 1, 1, 0, 2, 2 }, schema.Encode(table).Ids.data<long>().ToArray());
    }

    [Fact]
    public void A_value_missing_only_after_training_is_unknown_or_the_median()
    {
        var training = new Table([TableColumn.Numbers("x", [0, 1, 10]), TableColumn.Texts("c", ["a", "b", "b"])]);
        var later = new Table([TableColumn.Numbers("x", [double.NaN]), TableColumn.Texts("c", [null])]);
        EncodedTable encoded = ColumnSchema.Learn(training).Encode(later);
        Assert.Equal(new long[] { 0, 1 }, encoded.Ids.data<long>().ToArray());
        Assert.Equal(0.001f + (0.999f / 10), encoded.Values[0, 0].item<float>(), 5);
    }

    [Fact]
    public void The_kind_of_a_target_is_found()
    {
        SchemaTarget Target(params double[] numbers) => ColumnSchema.Learn(new Table([TableColumn.Numbers("x", Enumerable.Range(0, numbers.Length).Select(i => (double)i).ToArray()), TableColumn.Numbers("y", numbers)]), new ColumnSchemaOptions { Target = "y" }).Target!;
        Assert.Equal(["2", "10"], Target(10, 2, 10).Classes);
        Assert.Equal(TargetKind.Regression, Target(0.5, 1, 2).Kind);
        Assert.Equal(TargetKind.Regression, Target(Enumerable.Range(0, 21).Select(i => (double)i).ToArray()).Kind);
        Assert.Equal(2, Target(0.5, 1.5, 4).Mean);
        var table = new Table([TableColumn.Numbers("x", [1, 2]), TableColumn.Numbers("y", [3, 4])]);
        EncodedTable encoded = ColumnSchema.Learn(table, new ColumnSchemaOptions { Target = "y", TargetKind = TargetKind.Regression }).Encode(table);
        Assert.Equal(new float[] { 3, 4 }, encoded.Target!.data<float>().ToArray());
    }

    [Fact]
    public void A_schema_survives_its_file()
    {
        var options = new ColumnSchemaOptions { Target = "income", Kinds = new Dictionary<string, FieldKind> { ["age"] = FieldKind.Quantiles } };
        foreach (ColumnSchema schema in new[] { ColumnSchema.Learn(Sample(), options, Training()), ColumnSchema.Learn(Sample(), null, Training()) })
        {
            string path = folder.File("schema.json");
            schema.Save(path);
            EncodedTable expected = schema.Encode(Sample()), actual = ColumnSchema.Load(path).Encode(Sample());
            Assert.Equal(expected.Ids.data<long>().ToArray(), actual.Ids.data<long>().ToArray());
            Assert.Equal(expected.Values.data<float>().ToArray(), actual.Values.data<float>().ToArray());
            // As a member of some other description, with the serializer's defaults.
            Assert.Equal(schema.TotalIds, JsonSerializer.Deserialize<ColumnSchema>(JsonSerializer.Serialize(schema))!.TotalIds);
        }
        foreach (string bad in new[] { "", "{}", "null", "[1]", "{\"Fields\":[],\"Target\":null}", "{\"Fields\":[null],\"Target\":null}", "{\"Fields\":[{\"Name\":\"a\",\"Kind\":\"Numeric\",\"HasMissing\":false},{\"Name\":\"a\",\"Kind\":\"Numeric\",\"HasMissing\":false}],\"Target\":null}" })
        {
            string path = folder.File("bad.json", bad);
            Assert.StartsWith(path, Assert.Throws<InvalidDataException>(() => ColumnSchema.Load(path)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void What_cannot_be_learned_is_said()
    {
        string Learn(ColumnSchemaOptions options, Table? table = null) => Assert.Throws<BadInputException>(() => ColumnSchema.Learn(table ?? Sample(), options)).Message;
        Assert.Equal("people.csv has no column 'wage'; it has: job, age, city, income.", Learn(new ColumnSchemaOptions { Target = "wage" }));
        Assert.Contains("'nope'", Learn(new ColumnSchemaOptions { Ignore = ["nope"] }), StringComparison.Ordinal);
        Assert.Contains("row 6: the target 'city' is missing", Learn(new ColumnSchemaOptions { Target = "city" }), StringComparison.Ordinal);
        Assert.Contains("is yes in every training row", Learn(new ColumnSchemaOptions { Target = "y" }, new Table([TableColumn.Numbers("x", [1, 2]), TableColumn.Texts("y", ["yes", "yes"])])), StringComparison.Ordinal);
        Assert.Contains("'x' has no value", Learn(new ColumnSchemaOptions(), new Table([TableColumn.Texts("x", [null, null])])), StringComparison.Ordinal);
        Assert.Contains("no rows", Learn(new ColumnSchemaOptions(), new Table([TableColumn.Texts("x", [])])), StringComparison.Ordinal);
        Assert.Contains("row 1: column 'job' is 'Sales'", Learn(new ColumnSchemaOptions { Kinds = new Dictionary<string, FieldKind> { ["job"] = FieldKind.Numeric } }), StringComparison.Ordinal);
        Assert.Contains("not a finite number", Learn(new ColumnSchemaOptions(), new Table([TableColumn.Numbers("x", [1, double.PositiveInfinity])])), StringComparison.Ordinal);
    }

    [Fact]
    public void What_does_not_fit_the_schema_is_said()
    {
        ColumnSchema schema = ColumnSchema.Learn(Sample(), new ColumnSchemaOptions { Target = "income" });
        string Encode(params TableColumn[] columns) => Assert.Throws<BadInputException>(() => schema.Encode(new Table(columns, "new.csv", firstRow: 100))).Message;
        TableColumn job = TableColumn.Texts("job", ["Law"]), city = TableColumn.Texts("city", ["a"]), age = TableColumn.Numbers("age", [3]);
        Assert.Equal("new.csv lacks the columns age, city, which the model was trained with; it has: job.", Encode(job));
        Assert.Contains("row 101: column 'age' is 'old'", Encode(job, city, TableColumn.Texts("age", ["old"])), StringComparison.Ordinal);
        Assert.Contains("the target 'income' is 'rich'", Encode(job, city, age, TableColumn.Texts("income", ["rich"])), StringComparison.Ordinal);
        Assert.Null(schema.Encode(new Table([age, TableColumn.Texts("other", ["x"]), city, job])).Target);
        Assert.Null(schema.Encode(new Table([age, TableColumn.Texts("income", [null]), city, job])).Target);
    }
}
