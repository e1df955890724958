using System.Globalization;
using System.Text;
using Priori.Data;
using Priori.Recommendation;
using Priori.Runtime;

namespace Priori.Recipes.Recommendation;

/// <summary>(query, item) pairs as rows of the queries and of the catalogue.</summary>
internal sealed record PairRows(int[] Queries, int[] Items)
{
    public int Count => Queries.Length;
}

/// <summary>Tables of a retrieval problem.</summary>
/// <param name="Name">Short name.</param>
/// <param name="Pairs">One row an interaction.</param>
/// <param name="Items">One row an item.</param>
/// <param name="Queries">One row a query; null when a query is an id only, or an item.</param>
/// <param name="Query">Column of the query in pairs (and queries).</param>
/// <param name="Item">Column of the item in pairs and items.</param>
/// <param name="Time">Column of the time in pairs, by which they are split; null for a random split.</param>
internal sealed record RetrievalTables(string Name, Table Pairs, Table Items, Table? Queries, string Query, string Item, string? Time = null);

/// <summary>How the tables of a retrieval problem are read and split.</summary>
/// <param name="QueriesAreItems">Whether queries are items of the catalogue: both towers share the embeddings.</param>
/// <param name="ItemFeatures">How the item table is read.</param>
/// <param name="ValidationShare">Share of the pairs for validation.</param>
/// <param name="TestShare">Share of the pairs for the test.</param>
/// <param name="Seed">Seed of the split.</param>
internal sealed record RetrievalSplit(bool QueriesAreItems, ItemFeatureOptions ItemFeatures, double ValidationShare, double TestShare, int Seed);

/// <summary>A catalogue, queries and their pairs: what the recipes of retrieval train and test on. Everything that is known of an item's popularity is counted on training pairs only.</summary>
internal sealed record RetrievalDataset(
    string Name, RetrievalTables Tables, ItemFeatureSchema ItemSchema, ItemFeatures Items, IReadOnlyList<string> ItemNames,
    ItemFeatureSchema? QuerySchema, ItemFeatures Queries, IReadOnlyList<string> QueryNames,
    PairRows Train, PairRows Valid, PairRows Test, ItemPairsData? Truth, IReadOnlyList<string> Remarks)
{
    /// <summary>Training pairs of each item.</summary>
    public long[] ItemCounts { get; } = Counts(Train.Items, ItemNames.Count);

    /// <summary>Items of each query's training pairs; of queries that are items the query itself too: they are not recommended.</summary>
    public HashSet<int>[] Known { get; } = KnownItems(QueryNames.Count, Train, QuerySchema is null);

    public string Description => string.Create(CultureInfo.InvariantCulture, $"{Name}: {ItemNames.Count:N0} items with {ItemSchema.Features.Count} features, {QueryNames.Count:N0} queries{(QuerySchema is null ? " (items themselves)" : "")}, {Train.Count:N0} training, {Valid.Count:N0} validation and {Test.Count:N0} unseen test pairs");

    public static RetrievalDataset Generated(int seed, int items, int pairs)
    {
        ItemPairsData data = ItemPairs.Generate(seed, items, pairs);
        var tables = new RetrievalTables("generated item-to-item pairs", data.PairTable(), data.Items(), null, "query", "item");
        return Of(tables, new RetrievalSplit(QueriesAreItems: true, new ItemFeatureOptions { Id = "item" }, 0, 0.2, seed), data);
    }

    /// <summary>MovieLens 100K: ratings of 4 and 5 are pairs; the features of a film are its year, its decade and its genres.</summary>
    public static RetrievalTables MovieLens(string folder)
    {
        string[] genres = [.. File.ReadLines(Path.Combine(folder, "u.genre")).Where(l => l.Length > 0).Select(l => l.Split('|')[0])];
        string[][] films = [.. File.ReadLines(Path.Combine(folder, "u.item"), Encoding.Latin1).Where(l => l.Length > 0).Select(l => l.Split('|'))];
        string?[] years = [.. films.Select(f => f[2].Length >= 4 ? f[2][^4..] : null)];
        var items = new Table([
            TableColumn.Texts("film", films.Select(f => f[0])), TableColumn.Texts("year", years), TableColumn.Texts("decade", years.Select(y => y?[..3] + (y is null ? null : "0s"))),
            TableColumn.Texts("genres", films.Select(f => string.Join('|', genres.Where((_, g) => f[5 + g] == "1"))))], "u.item");
        string[][] liked = [.. File.ReadLines(Path.Combine(folder, "u.data")).Where(l => l.Length > 0).Select(l => l.Split('\t')).Where(r => r[2] is "4" or "5")];
        var pairs = new Table([TableColumn.Texts("user", liked.Select(r => r[0])), TableColumn.Texts("film", liked.Select(r => r[1]))], "u.data");
        return new RetrievalTables("MovieLens 100K", pairs, items, null, "user", "film");
    }

    public static RetrievalDataset Of(RetrievalTables tables, RetrievalSplit split, ItemPairsData? truth = null)
    {
        var remarks = new List<string>();
        var (itemNames, itemRows) = Index(tables.Items, tables.Item);
        ItemFeatureSchema itemSchema = ItemFeatureSchema.Learn(tables.Items, split.ItemFeatures with { Id = tables.Item });
        if (itemSchema.Features.Count < 3) throw new BadInputException($"{tables.Items.Source} has {itemSchema.Features.Count - 1} feature{(itemSchema.Features.Count == 2 ? "" : "s")} beside the id '{tables.Item}'; the self-supervised task masks some features and needs at least two.");
        foreach (ItemFeature feature in itemSchema.Features.Where((f, i) => i != itemSchema.IdFeature && f.Kind == ItemFeatureKind.Categorical && f.Vocabulary.Count > 0.9 * tables.Items.RowCount && tables.Items.RowCount > 20))
            remarks.Add($"Column '{feature.Name}' has almost as many values as there are items: it tells nothing about other items; leave it out with --set ignore={feature.Name}.");

        TableColumn queryColumn = Column(tables.Pairs, tables.Query), itemColumn = Column(tables.Pairs, tables.Item);
        Table? queryTable = split.QueriesAreItems ? null : tables.Queries ?? new Table([TableColumn.Texts(tables.Query, queryColumn.Where(q => q is not null).Distinct())], tables.Pairs.Source);
        var (queryNames, queryRows) = queryTable is null ? (itemNames, itemRows) : Index(queryTable, tables.Query);
        ItemFeatureSchema? querySchema = queryTable is null ? null : ItemFeatureSchema.Learn(queryTable, new ItemFeatureOptions { Id = tables.Query, Separator = split.ItemFeatures.Separator });
        ItemFeatures items = itemSchema.Encode(tables.Items), queries = querySchema is null ? items : querySchema.Encode(queryTable!);

        var pairs = new List<(int Query, int Item, double Time)>();
        int lost = 0;
        TableColumn? time = tables.Time is null ? null : Column(tables.Pairs, tables.Time);
        for (int row = 0; row < tables.Pairs.RowCount; row++)
        {
            if (queryColumn[row] is not { } q || itemColumn[row] is not { } i || !queryRows.TryGetValue(q, out int query) || !itemRows.TryGetValue(i, out int item)) lost++;
            else pairs.Add((query, item, time is null ? 0 : Time(tables.Pairs, time, row)));
        }
        if (lost > 0) remarks.Add($"{lost} of {tables.Pairs.RowCount} pairs were left out: their query or item is missing or not in its table.");
        if (pairs.Count < 20) throw new BadInputException($"{tables.Pairs.Source} has {pairs.Count} pairs whose item is in {tables.Items.Source}; at least 20 are needed. Are '{tables.Query}' and '{tables.Item}' the right columns?");

        int[] order = [.. Enumerable.Range(0, pairs.Count)];
        if (time is null) SplitMix64.For(split.Seed, 0x53504C54).Shuffle(order.AsSpan());
        else order = [.. order.OrderBy(p => pairs[p].Time)];
        int test = Math.Max(1, (int)(pairs.Count * split.TestShare)), valid = split.ValidationShare > 0 ? Math.Max(1, (int)(pairs.Count * split.ValidationShare)) : 0;
        PairRows Rows(IEnumerable<int> which) => new([.. which.Select(p => pairs[p].Query)], [.. which.Select(p => pairs[p].Item)]);
        PairRows train = Rows(order[..^(test + valid)]);
        var seenPairs = train.Queries.Zip(train.Items).ToHashSet();
        HashSet<int> seenQueries = [.. train.Queries];
        // A pair of the training data is no test; a query that is nothing but an id must have been trained.
        PairRows Unseen(IEnumerable<int> which) => Rows([.. which.Where(p => !seenPairs.Contains((pairs[p].Query, pairs[p].Item)) && (querySchema is null || querySchema.Features.Count > 1 || seenQueries.Contains(pairs[p].Query)))
            .DistinctBy(p => (pairs[p].Query, pairs[p].Item))]);
        PairRows validRows = Unseen(order[^(test + valid)..^test]), testRows = Unseen(order[^test..]);
        if (testRows.Count == 0 || (valid > 0 && validRows.Count == 0)) throw new BadInputException($"{tables.Pairs.Source}: no pair is left to test with, as every one is in the training part too or its query is not.");
        return new RetrievalDataset(tables.Name, tables, itemSchema, items, itemNames, querySchema, queries, queryNames, train, validRows, testRows, truth, remarks);
    }

    public static TableColumn Column(Table table, string name) => table.Has(name) ? table[name] : throw new BadInputException($"{table.Source} has no column '{name}'; it has: {string.Join(", ", table.Columns)}.");

    private static (string[] Names, Dictionary<string, int> Rows) Index(Table table, string column)
    {
        TableColumn ids = Column(table, column);
        string[] names = new string[table.RowCount];
        var rows = new Dictionary<string, int>(names.Length, StringComparer.Ordinal);
        for (int row = 0; row < names.Length; row++)
        {
            names[row] = ids[row] ?? throw new BadInputException($"{table.Source}, row {row + 1}: the id in column '{column}' is missing.");
            if (!rows.TryAdd(names[row], row)) throw new BadInputException($"{table.Source}, row {row + 1}: '{names[row]}' in column '{column}' was there before in row {rows[names[row]] + 1}; it must have one row for each.");
        }
        return (names, rows);
    }

    private static double Time(Table table, TableColumn column, int row)
    {
        if (column.TryGetNumber(row, out double number) && double.IsFinite(number)) return number;
        if (DateTimeOffset.TryParse(column[row], CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out DateTimeOffset date)) return date.UtcTicks;
        throw new BadInputException($"{table.Source}, row {row + 1}: the time '{column[row]}' in column '{column.Name}' is neither a number nor a date.");
    }

    private static long[] Counts(int[] items, int count)
    {
        long[] counts = new long[count];
        foreach (int item in items) counts[item]++;
        return counts;
    }

    private static HashSet<int>[] KnownItems(int queries, PairRows train, bool queriesAreItems)
    {
        HashSet<int>[] known = [.. Enumerable.Range(0, queries).Select(q => queriesAreItems ? new HashSet<int> { q } : [])];
        for (int p = 0; p < train.Count; p++) known[train.Queries[p]].Add(train.Items[p]);
        return known;
    }
}
