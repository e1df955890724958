using System.Globalization;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>Which columns of a table are an event.</summary>
/// <param name="User">Column of the user.</param>
/// <param name="Item">Column of the item.</param>
/// <param name="Time">Column of the time: numbers, or dates that .NET's invariant culture reads (ISO 8601; without zone they are UTC). Null: the order of the file.</param>
/// <param name="Categories">Columns that describe the item (category, brand, shop).</param>
public sealed record EventColumns(string User, string Item, string? Time = null, IReadOnlyList<string>? Categories = null);

/// <summary>A category of the items.</summary>
/// <param name="Name">Its name, such as that of the column.</param>
/// <param name="Values">Its values; code c is the c-th.</param>
/// <param name="OfItem">Code of each item; -1 where the item has none.</param>
public sealed record ItemCategory(string Name, IReadOnlyList<string> Values, IReadOnlyList<int> OfItem);

/// <summary>
/// What users did with items, in the order of time: views, purchases, ratings. Users and items are coded by their first appearance, events are sorted by time within their user
/// (those of equal time stay in the order of the file) and stored end to end.
/// </summary>
public sealed class EventLog
{
    private readonly long[] offsets;
    private readonly int[] items;
    private readonly double[] times;

    /// <summary>Sorts events, given in any order.</summary>
    /// <param name="users">User of each event.</param>
    /// <param name="items">Item of each event, as many.</param>
    /// <param name="times">Time of each event, as many, finite; in any unit.</param>
    /// <param name="userNames">Name of each user; users without an event are allowed.</param>
    /// <param name="itemNames">Name of each item; items without an event are allowed.</param>
    /// <param name="categories">Categories of the items.</param>
    /// <param name="skippedRows">Rows of the source that were no event because a value was missing.</param>
    /// <exception cref="ArgumentException">The lists differ in length, a code has no name, or a time is not finite.</exception>
    public EventLog(IReadOnlyList<int> users, IReadOnlyList<int> items, IReadOnlyList<double> times, IReadOnlyList<string> userNames, IReadOnlyList<string> itemNames, IReadOnlyList<ItemCategory>? categories = null, long skippedRows = 0)
    {
        ArgumentNullException.ThrowIfNull(users);
        ArgumentNullException.ThrowIfNull(items);
        ArgumentNullException.ThrowIfNull(times);
        ArgumentNullException.ThrowIfNull(userNames);
        ArgumentNullException.ThrowIfNull(itemNames);
        categories ??= [];
        if (users.Count != items.Count || users.Count != times.Count) throw new ArgumentException($"{users.Count} users, {items.Count} items and {times.Count} times must be as many.", nameof(items));
        if (users.Any(u => (uint)u >= userNames.Count)) throw new ArgumentException($"A user is outside 0..{userNames.Count - 1}.", nameof(users));
        if (items.Any(i => (uint)i >= itemNames.Count)) throw new ArgumentException($"An item is outside 0..{itemNames.Count - 1}.", nameof(items));
        if (times.Any(t => !double.IsFinite(t))) throw new ArgumentException("Every time must be finite.", nameof(times));
        if (categories.FirstOrDefault(c => c.OfItem.Count != itemNames.Count || c.OfItem.Any(v => v < -1 || v >= c.Values.Count)) is { } wrong)
            throw new ArgumentException($"Category '{wrong.Name}' needs a code of -1..{wrong.Values.Count - 1} for each of {itemNames.Count} items.", nameof(categories));

        offsets = new long[userNames.Count + 1];
        foreach (int user in users) offsets[user + 1]++;
        for (int user = 0; user < userNames.Count; user++) offsets[user + 1] += offsets[user];
        long[] next = offsets[..^1];
        int[] order = new int[users.Count];
        for (int row = 0; row < order.Length; row++) order[next[users[row]]++] = row;
        for (int user = 0; user < userNames.Count; user++)
            order.AsSpan((int)offsets[user]..(int)offsets[user + 1]).Sort((a, b) => times[a].CompareTo(times[b]) is var c && c != 0 ? c : a.CompareTo(b));
        this.items = [.. order.Select(row => items[row])];
        this.times = [.. order.Select(row => times[row])];
        (Users, Items, Categories, SkippedRows) = (userNames, itemNames, categories, skippedRows);
    }

    /// <summary>Name of each user.</summary>
    public IReadOnlyList<string> Users { get; }

    /// <summary>Name of each item.</summary>
    public IReadOnlyList<string> Items { get; }

    /// <summary>Categories of the items.</summary>
    public IReadOnlyList<ItemCategory> Categories { get; }

    /// <summary>Number of events.</summary>
    public long EventCount => items.Length;

    /// <summary>Rows of the source that were no event because user, item or time was missing.</summary>
    public long SkippedRows { get; }

    /// <summary>Where the events of each user begin, then <see cref="EventCount"/>: users + 1 numbers.</summary>
    public ReadOnlySpan<long> Offsets => offsets;

    /// <summary>Items of all events, user by user; the events of user u are at <c>Offsets[u]..Offsets[u + 1]</c>.</summary>
    public ReadOnlySpan<int> EventItems => items;

    /// <summary>Times of all events, user by user; dates are seconds since 1970-01-01 UTC.</summary>
    public ReadOnlySpan<double> EventTimes => times;

    /// <summary>Items of a user, oldest first; empty for a user without an event.</summary>
    /// <param name="user">The user's code.</param>
    public ReadOnlySpan<int> ItemsOf(int user) => items.AsSpan((int)offsets[user]..(int)offsets[user + 1]);

    /// <summary>Times of a user's events, ascending.</summary>
    /// <param name="user">The user's code.</param>
    public ReadOnlySpan<double> TimesOf(int user) => times.AsSpan((int)offsets[user]..(int)offsets[user + 1]);

    /// <summary>
    /// Reads a table of events (CSV, TSV, Parquet), a block at a time. Rows without user, item or time are skipped and counted. An item's category is the first that a row
    /// gives for it.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="columns">Which columns are an event.</param>
    /// <param name="options">How text is read; by default everything is found out.</param>
    /// <exception cref="BadInputException">A column is not there, a time cannot be read, no row is an event, or a category has no value in any row.</exception>
    /// <exception cref="InvalidDataException">The file is damaged.</exception>
    public static EventLog Read(string path, EventColumns columns, TableOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(columns);
        if (!File.Exists(path)) throw new BadInputException($"{path} does not exist; a table of events is needed.");
        return Of(TableReader.Blocks(path, 1 << 16, options), columns);
    }

    /// <summary>The events of a file in its order, in constant memory, for files larger than memory. Rows without user, item or time are skipped.</summary>
    /// <param name="path">The file.</param>
    /// <param name="columns">Which columns are an event; categories are not read.</param>
    /// <param name="options">How text is read; by default everything is found out.</param>
    /// <exception cref="BadInputException">A column is not there or a time cannot be read, when the row is reached.</exception>
    public static IEnumerable<(string User, string Item, double Time)> Stream(string path, EventColumns columns, TableOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(columns);
        if (!File.Exists(path)) throw new BadInputException($"{path} does not exist; a table of events is needed.");
        return Rows(TableReader.Blocks(path, 1 << 14, options), columns with { Categories = null }).Select(e => (e.Block[columns.User][e.Row]!, e.Block[columns.Item][e.Row]!, e.Time));
    }

    /// <summary>The events of a table; as <see cref="Read"/>.</summary>
    /// <param name="table">The table.</param>
    /// <param name="columns">Which columns are an event.</param>
    /// <exception cref="BadInputException">As for <see cref="Read"/>.</exception>
    public static EventLog Of(Table table, EventColumns columns)
    {
        ArgumentNullException.ThrowIfNull(table);
        return Of([table], columns);
    }

    private static EventLog Of(IEnumerable<Table> blocks, EventColumns columns)
    {
        ArgumentNullException.ThrowIfNull(columns);
        Vocabulary users = new(), things = new();
        Vocabulary[] values = [.. (columns.Categories ?? []).Select(_ => new Vocabulary())];
        List<int>[] ofItem = [.. values.Select(_ => new List<int>())];
        List<int> user = [], item = [];
        List<double> time = [];
        long rows = 0;
        string source = "";
        foreach (var (block, row, when) in Rows(blocks, columns, block => (source, rows) = (block.Source, block.FirstRow + block.RowCount)))
        {
            time.Add(when);
            user.Add(users.Code(block[columns.User].Characters(row)));
            int code = things.Code(block[columns.Item].Characters(row));
            item.Add(code);
            for (int c = 0; c < values.Length; c++)
            {
                if (code == ofItem[c].Count) ofItem[c].Add(-1);
                TableColumn category = block[columns.Categories![c]];
                if (ofItem[c][code] < 0 && !category.IsMissing(row)) ofItem[c][code] = values[c].Code(category.Characters(row));
            }
        }
        if (user.Count == 0)
            throw new BadInputException($"{source}: no row has a value in each of the columns {string.Join(", ", new[] { columns.User, columns.Item, columns.Time }.OfType<string>())}; an event needs them all.");
        for (int c = 0; c < values.Length; c++)
            if (values[c].Names.Count == 0) throw new BadInputException($"{source}: column '{columns.Categories![c]}' has no value in any row; leave it out of the categories.");
        return new EventLog(user, item, time, users.Names, things.Names, [.. values.Select((v, c) => new ItemCategory(columns.Categories![c], v.Names, ofItem[c]))], rows - user.Count);
    }

    /// <summary>The rows that are events, in the order of the file, with their times.</summary>
    private static IEnumerable<(Table Block, int Row, double Time)> Rows(IEnumerable<Table> blocks, EventColumns columns, Action<Table>? begin = null)
    {
        var clock = new EventClock(columns.Time);
        foreach (Table block in blocks)
        {
            begin?.Invoke(block);
            TableColumn user = Column(block, columns.User), item = Column(block, columns.Item);
            TableColumn? time = columns.Time is null ? null : Column(block, columns.Time);
            foreach (string category in columns.Categories ?? []) Column(block, category);
            for (int row = 0; row < block.RowCount; row++)
            {
                if (user.IsMissing(row) || item.IsMissing(row) || (time?.IsMissing(row) ?? false)) continue;
                yield return (block, row, time is null ? block.FirstRow + row : clock.Read(block, time, row));
            }
        }
    }

    private static TableColumn Column(Table table, string name) => table.Has(name)
        ? table[name]
        : throw new BadInputException($"{table.Source} has no column '{name}'; it has: {string.Join(", ", table.Columns)}.");

    /// <summary>Texts coded by their first appearance.</summary>
    private sealed class Vocabulary
    {
        private readonly Dictionary<string, int> codes;
        private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> bySpan;

        public Vocabulary()
        {
            codes = new Dictionary<string, int>(StringComparer.Ordinal);
            bySpan = codes.GetAlternateLookup<ReadOnlySpan<char>>();
        }

        public List<string> Names { get; } = [];

        public int Code(ReadOnlySpan<char> text)
        {
            if (bySpan.TryGetValue(text, out int code)) return code;
            string name = text.ToString();
            Names.Add(name);
            return codes[name] = Names.Count - 1;
        }
    }
}

/// <summary>Reads a column of times: all numbers, or all dates.</summary>
internal sealed class EventClock(string? name)
{
    private bool? dates;

    /// <summary>The number, or the date's seconds since 1970-01-01 UTC, of a row that has one.</summary>
    public double Read(Table table, TableColumn column, int row)
    {
        bool number = column.TryGetNumber(row, out double value) && double.IsFinite(value);
        if (!number)
        {
            if (!DateTimeOffset.TryParse(column.Characters(row), CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out DateTimeOffset date))
                throw Bad("is neither a number nor a date such as 2026-11-25T14:30:00Z");
            value = (date - DateTimeOffset.UnixEpoch).TotalSeconds;
        }
        if (dates == number) throw Bad(number ? "is a number; rows before it have dates" : "is a date; rows before it have numbers");
        dates = !number;
        return value;

        BadInputException Bad(string what) => new($"{table.Source}, row {table.FirstRow + row + 1}: the time '{column[row]}' in column '{name}' {what}.");
    }
}
