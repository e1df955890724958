using System.Text.Json;
using Priori.Data;
using Priori.Runtime;

namespace Priori.Tests.Data;

public class HashedSchemaTests
{
    private static readonly Table Log = new(
    [
        TableColumn.Texts("click", ["0", "1", "0", "1"]),
        TableColumn.Texts("price", ["0", "", "3.5", "-3.5"]),
        TableColumn.Texts("user_id", ["7", "8", "7", null]),
        TableColumn.Texts("tags", ["a|b", "b", null, " c | a | |b "]),
        TableColumn.Texts("empty", [null, null, null, null]),
    ], "log.csv");

    private static HashedSchema Learn() => HashedSchema.Learn(Log, new HashedSchemaOptions { Target = "click", Bags = ["tags"] });

    [Fact]
    public void Categories_bags_and_numbers_become_ids_and_values()
    {
        HashedSchema schema = Learn();
        Assert.Equal(["user_id", "tags", "empty", "price"], schema.Columns.Select(c => c.Name));
        Assert.Equal([HashedColumnKind.Category, HashedColumnKind.Bag, HashedColumnKind.Category, HashedColumnKind.Number], schema.Columns.Select(c => c.Kind));
        HashedTable table = schema.Encode(Log);
        Assert.Equal(["7", "8", ""], table.Vocabularies[0]);
        Assert.Equal(["a", "b", "c"], table.Vocabularies[1]);
        Assert.Equal([""], table.Vocabularies[2]);
        Assert.Equal([1, 4, 1], table.Lengths); // "c | a | |b" could hold four values
        Assert.Equal([0, 3, 4, 3, 3, 6, 0, 1, 4, 3, 3, 3, 6, 0, 0, 3, 3, 3, 3, 6, 0, 2, 5, 3, 4, 3, 6, 0], table.Ids.reshape(-1).data<long>().ToArray());
        float z = (float)(Math.Log(4.5) / Math.Sqrt(2 * Math.Log(4.5) * Math.Log(4.5) / 3)); // logarithms 0, log 4.5, -log 4.5
        float[] expected = [1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, z, 1, 1, 1, 1, 0, 1, -z];
        Assert.True(table.Values.reshape(-1).allclose(tensor(expected), 1e-6));
        Assert.Equal([0, 1, 0, 1], table.Target!.data<long>().ToArray());
    }

    [Fact]
    public void It_is_saved_without_any_category_and_takes_new_values()
    {
        string json = JsonSerializer.Serialize(Learn());
        Assert.DoesNotContain("\"7\"", json, StringComparison.Ordinal);
        HashedSchema schema = JsonSerializer.Deserialize<HashedSchema>(json)!;
        HashedTable fresh = schema.Encode(new Table([TableColumn.Texts("tags", ["x"]), TableColumn.Texts("user_id", ["never seen"]), TableColumn.Texts("empty", ["y"]), TableColumn.Texts("price", ["1"])]));
        Assert.Equal([["never seen"], ["x"], ["y"]], fresh.Vocabularies);
        Assert.Null(fresh.Target);
    }

    [Fact]
    public void Bad_input_is_named()
    {
        HashedSchema schema = Learn();
        Table Changed(string? price) => new([TableColumn.Texts("tags", ["x"]), TableColumn.Texts("user_id", ["7"]), TableColumn.Texts("empty", ["y"]), TableColumn.Texts("price", [price])], "new.csv");
        Assert.Contains("'cheap'", Assert.Throws<BadInputException>(() => schema.Encode(Changed("cheap"))).Message, StringComparison.Ordinal);
        Assert.Contains("tags", Assert.Throws<BadInputException>(() => schema.Encode(new Table([TableColumn.Texts("user_id", ["7"])]))).Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => HashedSchema.Learn(Log, new HashedSchemaOptions { Categories = ["nothing"] }));
        Assert.Throws<BadInputException>(() => HashedSchema.Learn(new Table([TableColumn.Numbers("x", [1, 2])])));
        Assert.Throws<BadInputException>(() => HashedSchema.Learn(new Table([TableColumn.Texts("a", ["u", "v"]), TableColumn.Texts("click", ["1", "1"])]), new HashedSchemaOptions { Target = "click" }));
        Assert.Throws<ArgumentException>(() => new HashedSchema([new("x", HashedColumnKind.Number), new("a", HashedColumnKind.Category)], null));
    }
}
