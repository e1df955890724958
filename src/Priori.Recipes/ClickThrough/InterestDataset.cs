using System.Globalization;
using System.Text;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes.ClickThrough;

/// <summary>An event log with its samples.</summary>
/// <param name="Name">Short name.</param>
/// <param name="Log">The log.</param>
/// <param name="Samples">Its samples.</param>
/// <param name="Columns">The columns it was read from.</param>
internal sealed record InterestDataset(string Name, EventLog Log, InterestSamples Samples, EventColumns Columns)
{
    public const string Generated = "interest-log", MovieLens = "ml-100k";
    private const double LikedRating = 4;
    private static readonly EventColumns s_columns = new("user", "item", "time", ["category"]);

    public string Description => string.Create(CultureInfo.InvariantCulture,
        $"{Name}: {Log.Users.Count:N0} users, {Log.Items.Count:N0} items, {Log.EventCount:N0} events; {Samples.Train.Count:N0} training and {Samples.Test.Count:N0} test samples{(Samples.Validation is { } v ? $" and {v.Count:N0} to stop by" : "")}");

    /// <summary>Name of a behavior: the item, and its first category.</summary>
    public (string Item, string Category) Names(long behavior) => behavior == 0 ? ("unknown", "")
        : (Log.Items[(int)behavior - 1], Log.Categories.Count > 0 && Log.Categories[0].OfItem[(int)behavior - 1] is >= 0 and var c ? Log.Categories[0].Values[c] : "");

    public static InterestDataset Generate(int seed, InterestLogOptions log, InterestSampleOptions samples)
    {
        EventLog events = InterestLog.Generate(seed, log);
        return new InterestDataset(Generated, events, InterestSamples.Of(events, seed, samples), s_columns);
    }

    /// <summary>MovieLens 100K: ratings of 4 or 5 are events, a movie's category is the first of its genres.</summary>
    public static InterestDataset ReadMovieLens(string folder, int seed, InterestSampleOptions samples)
    {
        Table ratings = Table.Read(Path.Combine(folder, "u.data"), new TableOptions { Header = false, Delimiter = '\t', Names = ["user", "item", "rating", "time"] });
        Table movies = Table.Read(Path.Combine(folder, "u.item"), new TableOptions { Header = false, Delimiter = '|', Encoding = Encoding.Latin1 });
        string[] flags = [.. movies.Columns.Skip(5)];
        Dictionary<string, string?> genres = Enumerable.Range(0, movies.RowCount).ToDictionary(row => movies[movies.Columns[0]][row]!, row => flags.FirstOrDefault(flag => movies[flag][row] == "1"), StringComparer.Ordinal);
        int[] liked = [.. Enumerable.Range(0, ratings.RowCount).Where(row => ratings["rating"].TryGetNumber(row, out double stars) && stars >= LikedRating)];
        TableColumn Column(string name, Func<int, string?> value) => TableColumn.Texts(name, liked.Select(value));
        EventLog log = EventLog.Of(new Table([Column("user", row => ratings["user"][row]), Column("item", row => ratings["item"][row]), Column("time", row => ratings["time"][row]),
            Column("category", row => genres.GetValueOrDefault(ratings["item"][row]!))], MovieLens), s_columns);
        return new InterestDataset("MovieLens 100K (ratings of at least 4)", log, InterestSamples.Of(log, seed, samples), s_columns);
    }

    /// <summary>The columns of the user's own log, by role and option.</summary>
    public static EventColumns ColumnsOf(UserData data, IReadOnlyList<string> categories)
    {
        string name = Path.GetFileName(data.Path);
        if (!File.Exists(data.Path)) throw new BadInputException(Directory.Exists(data.Path) ? $"{data.Path} is a folder; a table of events (CSV, TSV, Parquet) is needed." : "These data need a table of events: give --data PATH.");
        string Role(string role) => data.Roles.GetValueOrDefault(role) ?? throw new BadInputException($"{name}: name the column of the {role} with --{role}.");
        return new EventColumns(Role("user"), Role("item"), data.Roles.GetValueOrDefault("time"), categories);
    }

    public static InterestDataset Read(UserData data, EventLog log, EventColumns columns, int seed, InterestSampleOptions samples)
    {
        string name = Path.GetFileName(data.Path);
        try
        {
            return new InterestDataset(name, log, InterestSamples.Of(log, seed, samples), columns);
        }
        catch (ArgumentException e)
        {
            throw new BadInputException($"{name} has too few events: training needs a user with at least {(samples.Validation ? 4 : 3)} of them, and an item that this user has not.", e);
        }
    }
}
