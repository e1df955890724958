using System.Globalization;
using System.Text;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes.ClickThrough;

/// <summary>One split of a <see cref="HashedDataset"/>: rows of ids over the vocabularies of the whole table.</summary>
internal sealed record HashedSplit(TabularDataset Data, HashedSchema Schema, IReadOnlyList<IReadOnlyList<string>> Vocabularies, IReadOnlyList<int> Lengths);

/// <summary>A table of raw values, for models that hash them.</summary>
/// <param name="Name">Short name.</param>
/// <param name="Table">The rows.</param>
/// <param name="Columns">The target, and what the columns are.</param>
/// <param name="Own">Whether it is the user's own.</param>
internal sealed record HashedDataset(string Name, Table Table, HashedSchemaOptions Columns, bool Own)
{
    public const string Ml100k = "ml-100k", Ml1m = "ml-1m", Generated = "click-log";
    private const double HeldOut = 0.1;
    private const int GeneratedRows = 60_000;
    private static readonly string[] s_identifiers = ["user", "item"], s_ratings = ["ua.base", "ua.test"];

    /// <summary>80 : 10 : 10 by the seed; numbers are scaled and classes found on the training rows alone.</summary>
    public HashedSplit Split(int seed, int maximumRows)
    {
        long count = maximumRows > 0 ? Math.Min(maximumRows, Table.RowCount) : Table.RowCount, held = (long)(count * HeldOut);
        if (count < 20) throw new BadInputException($"{Name} has {count} rows; at least 20 are needed to train, validate and test.");
        Tensor order = randperm(Table.RowCount, ScalarType.Int64, generator: new Generator((ulong)seed)).narrow(0, 0, count);
        Tensor test = order.narrow(0, 0, held), valid = order.narrow(0, held, held), train = order.narrow(0, 2 * held, count - 2 * held);
        HashedSchema schema = HashedSchema.Learn(Table, Columns, train);
        HashedTable encoded = schema.Encode(Table);
        var all = new TabularRows(encoded.Ids, encoded.Values, encoded.Target!);
        var data = new TabularDataset(Name, $"{Name}: {train.size(0)} training, {held} validation and {held} test rows (split by seed), target {Columns.Target}, {encoded.Vocabularies.Sum(v => v.Count)} values of {encoded.Vocabularies.Count} categorical columns",
            [.. schema.Columns.Select(c => c.Name)], encoded.Vocabularies.Sum(v => (long)v.Count), TabularTask.Of(schema.Target!), null, null, (all.Select(train), all.Select(valid), all.Select(test))) { Own = Own };
        return new HashedSplit(data, schema, encoded.Vocabularies, encoded.Lengths);
    }

    /// <summary>The user's own table.</summary>
    public static HashedDataset Read(UserData data, HashedSchemaOptions columns)
    {
        string name = Path.GetFileName(data.Path);
        if (Directory.Exists(data.Path) || TabularDataset.IsLibFm(data.Path)) throw new BadInputException($"{data.Path} is no table; unified-embedding hashes the raw values of a CSV, TSV or Parquet file.");
        if (!File.Exists(data.Path)) throw new BadInputException($"{data.Path} does not exist.");
        Table table = Table.Read(data.Path);
        if (data.Target is null) throw new BadInputException($"{name}: name the column to predict with --target; the columns are: {string.Join(", ", table.Columns)}.");
        string[] roles = [.. s_identifiers.Select(role => data.Roles.GetValueOrDefault(role)).OfType<string>()];
        return new HashedDataset(name, table, columns with { Target = data.Target, Categories = [.. columns.Categories, .. roles] }, true);
    }

    /// <summary>MovieLens where it is present, or a generated log whose values are bare numbers too, so that different features share texts.</summary>
    public static HashedDataset Default(string dataset, int rows, DataFolder folder)
    {
        if (dataset is Ml100k or "auto" && folder.Find(Ml100k) is { } hundred) return MovieLens100k(hundred);
        if (dataset == Ml1m && folder.Find(Ml1m) is { } million) return MovieLens1m(million);
        if (dataset is Ml100k or Ml1m) throw new BadInputException($"{dataset} is not in the data folder: fetch it with priori data get {dataset}, or use --set dataset=click-log.");
        ClickLogData log = ClickLog.Generate(rows > 0 ? rows : GeneratedRows, seed: 0, new ClickLogOptions
        {
            Fields = [new("user", 1000, 0.7), new("item", 1500, 0.7), new("age", 60, 0.2), new("gender", 2, 0.1), new("occupation", 20, 0.2), new("place", 800)],
            Interactions = [new(["user", "item"], 0.7), new(["age", "item"], 0.5)],
            ClickRate = 0.5,
        });
        long[] ids = log.Ids.data<long>().ToArray();
        int width = log.Fields.Count;
        TableColumn[] columns = [.. log.Fields.Select((f, i) => TableColumn.Texts(f.Name, Enumerable.Range(0, ids.Length / width).Select(row => ids[row * width + i].ToString(CultureInfo.InvariantCulture))))];
        string[] labels = [.. log.Labels.data<float>().Select(y => y > 0 ? "1" : "0")];
        return Categorical(Generated, [.. columns, TableColumn.Texts("click", labels)]);
    }

    /// <summary>ML-100K (ua.base and ua.test, together its 100,000 ratings): ratings 4 and 5 are clicks, 1 and 2 are none, 3 is left out.</summary>
    private static HashedDataset MovieLens100k(string folder)
    {
        var users = Records(Path.Combine(folder, "u.user"), '|').ToDictionary(u => u[0]);
        var ratings = s_ratings.SelectMany(file => Records(Path.Combine(folder, file), '\t')).Where(r => r[2] != "3").ToList();
        return Categorical(Ml100k,
        [
            TableColumn.Texts("user_id", ratings.Select(r => r[0])), TableColumn.Texts("movie_id", ratings.Select(r => r[1])),
            TableColumn.Texts("age", ratings.Select(r => users[r[0]][1])), TableColumn.Texts("gender", ratings.Select(r => users[r[0]][2])),
            TableColumn.Texts("occupation", ratings.Select(r => users[r[0]][3])), TableColumn.Texts("zip", ratings.Select(r => users[r[0]][4])),
            TableColumn.Texts("click", ratings.Select(r => r[2] is "4" or "5" ? "1" : "0")),
        ]);
    }

    /// <summary>ML-1M as in the paper: seven features, the genres of a movie as one value.</summary>
    private static HashedDataset MovieLens1m(string folder)
    {
        var users = Records(Path.Combine(folder, "users.dat"), "::").ToDictionary(u => u[0]);
        var movies = Records(Path.Combine(folder, "movies.dat"), "::").ToDictionary(m => m[0]);
        var ratings = Records(Path.Combine(folder, "ratings.dat"), "::").Where(r => r[2] != "3").ToList();
        return Categorical(Ml1m,
        [
            TableColumn.Texts("user_id", ratings.Select(r => r[0])), TableColumn.Texts("movie_id", ratings.Select(r => r[1])),
            TableColumn.Texts("gender", ratings.Select(r => users[r[0]][1])), TableColumn.Texts("age", ratings.Select(r => users[r[0]][2])),
            TableColumn.Texts("occupation", ratings.Select(r => users[r[0]][3])), TableColumn.Texts("zip", ratings.Select(r => users[r[0]][4])),
            TableColumn.Texts("genres", ratings.Select(r => movies[r[1]][2])),
            TableColumn.Texts("click", ratings.Select(r => r[2] is "4" or "5" ? "1" : "0")),
        ]);
    }

    private static HashedDataset Categorical(string name, TableColumn[] columns)
        => new(name, new Table(columns, name), new HashedSchemaOptions { Target = "click", Categories = [.. columns.Select(c => c.Name).Where(c => c != "click")] }, false);

    private static IEnumerable<string[]> Records(string path, char separator) => Records(path, separator.ToString());

    private static IEnumerable<string[]> Records(string path, string separator)
        => File.ReadLines(path, Encoding.Latin1).Where(line => line.Length > 0).Select(line => line.Split(separator));
}
