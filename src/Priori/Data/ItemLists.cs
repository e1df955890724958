namespace Priori.Data;

/// <summary>The different items of one owner: a bundle, a playlist, a user.</summary>
/// <param name="Owner">Its name.</param>
/// <param name="Items">Its items, each once, in the order of the file.</param>
public sealed record ItemList(string Owner, IReadOnlyList<string> Items);

/// <summary>Reads who has which items, from tables of pairs, tables of lists, and lines of lists.</summary>
public static class ItemLists
{
    private static readonly string[] s_owners = ["bundle", "bundle_id", "user", "user_id", "playlist", "basket", "id"];
    private static readonly string[] s_items = ["item", "item_id", "items"];
    private static readonly char[] s_separators = [' ', ';', '|', ','];

    /// <summary>
    /// Reads a file. Text files (.txt) have a line "owner, item, item, ..." each, without header (the layout of CLHE's data). Tables (CSV, TSV, Parquet) have a column of owners (bundle, bundle_id, user, user_id,
    /// playlist, basket, id, or else the first) and one of items (item, item_id, or else the second): one item a row, or, in a column named items, several separated by blanks, semicolons, bars or commas.
    /// Rows without owner or item are passed over.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="owner">Name of the column of owners; null finds it.</param>
    /// <param name="item">Name of the column of items; null finds it.</param>
    /// <exception cref="InvalidDataException">The file is damaged, a named column is not there, or no row has an item.</exception>
    public static IReadOnlyList<ItemList> Read(string path, string? owner = null, string? item = null)
    {
        var order = new List<string>();
        var lists = new Dictionary<string, (List<string> Items, HashSet<string> Seen)>(StringComparer.Ordinal);
        if (Path.GetExtension(path).Equals(".txt", StringComparison.OrdinalIgnoreCase))
        {
            foreach (string line in File.ReadLines(path))
            {
                string[] parts = line.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
                foreach (string entry in parts.Skip(1)) Add(parts[0], entry);
            }
        }
        else
        {
            foreach (Table table in TableReader.Blocks(path, 1 << 16))
            {
                string owners = Column(table, path, owner, s_owners, null), things = Column(table, path, item, s_items, owners);
                bool several = things.Equals("items", StringComparison.OrdinalIgnoreCase);
                for (int row = 0; row < table.RowCount; row++)
                {
                    if (table[owners][row] is not { } name || table[things][row] is not { } value) continue;
                    foreach (string entry in several ? value.Split(s_separators, StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) : [value]) Add(name, entry);
                }
            }
        }
        if (order.Count == 0) throw new InvalidDataException($"{path}: no row names an owner and an item.");
        return [.. order.Select(name => new ItemList(name, lists[name].Items))];

        void Add(string name, string entry)
        {
            if (!lists.TryGetValue(name, out var list))
            {
                lists[name] = list = ([], new HashSet<string>(StringComparer.Ordinal));
                order.Add(name);
            }
            if (list.Seen.Add(entry)) list.Items.Add(entry);
        }
    }

    private static string Column(Table table, string path, string? named, string[] usual, string? taken)
    {
        if (named is not null) return table.Has(named) ? named : throw new InvalidDataException($"{path} has no column '{named}'; it has: {string.Join(", ", table.Columns)}.");
        return table.Columns.FirstOrDefault(c => c != taken && usual.Contains(c, StringComparer.OrdinalIgnoreCase)) ?? table.Columns.FirstOrDefault(c => c != taken)
            ?? throw new InvalidDataException($"{path} has one column only, '{table.Columns[0]}'; owners and their items need two.");
    }
}
