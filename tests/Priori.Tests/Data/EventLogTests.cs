using Priori.Data;
using Priori.Runtime;

namespace Priori.Tests.Data;

public class EventLogTests
{
    private static readonly EventColumns Columns = new("u", "i", "t", ["c"]);

    [Fact]
    public void Events_are_coded_by_appearance_and_sorted_by_time_within_their_user()
    {
        using var folder = new TemporaryFolder();
        EventLog log = EventLog.Read(folder.File("e.csv", "u,i,t,c\nann,pen,30,\nbob,ink,5,wet\nann,ink,10,dry\nann,cup,30,hot\nann,pen,20,wet\ncat,cup,1,cold\n"), Columns);
        Assert.Equal(["ann", "bob", "cat"], log.Users);
        Assert.Equal(["pen", "ink", "cup"], log.Items);
        Assert.Equal([0, 4, 5, 6], log.Offsets.ToArray());
        Assert.Equal([1, 0, 0, 2], log.ItemsOf(0).ToArray()); // 10, 20, then the two of 30 in the order of the file
        Assert.Equal([10, 20, 30, 30], log.TimesOf(0).ToArray());
        Assert.Equal([2], log.ItemsOf(2).ToArray());          // a user with one event
        Assert.Equal(6, log.EventCount);
        ItemCategory category = Assert.Single(log.Categories);
        Assert.Equal(["wet", "hot"], category.Values); // the first value of each item, by rows: pen's first row has none
        Assert.Equal([0, 0, 1], category.OfItem);
    }

    [Fact]
    public void Dates_are_seconds_since_1970_and_without_a_column_the_file_gives_the_order()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("e.csv", "u,i,t\na,x,2020-01-02\na,y,2020-01-01T23:00:00Z\na,z,2020-01-02T00:00:00+02:00\n");
        EventLog log = EventLog.Read(path, new EventColumns("u", "i", "t"));
        Assert.Equal([2, 1, 0], log.ItemsOf(0).ToArray());
        Assert.Equal([1577916000, 1577919600, 1577923200], log.TimesOf(0).ToArray());
        Assert.Equal([0, 1, 2], EventLog.Read(path, new EventColumns("u", "i")).ItemsOf(0).ToArray());
    }

    [Fact]
    public void Rows_without_user_item_or_time_are_skipped_and_counted()
    {
        using var folder = new TemporaryFolder();
        EventLog log = EventLog.Read(folder.File("e.csv", "u,i,t\na,x,1\n,x,2\na,,3\na,x,NA\na,y,4\n"), new EventColumns("u", "i", "t"));
        Assert.Equal(3, log.SkippedRows);
        Assert.Equal([0, 1], log.ItemsOf(0).ToArray());
    }

    [Fact]
    public void A_stream_gives_the_events_in_the_order_of_the_file()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("e.csv", "u,i,t\nb,x,7\n,x,2\na,y,3\n");
        Assert.Equal([("b", "x", 7.0), ("a", "y", 3.0)], EventLog.Stream(path, new EventColumns("u", "i", "t", ["c"])));
        Assert.Equal([0.0, 1, 2], EventLog.Stream(folder.File("f.csv", "u,i\na,x\na,y\nb,x\n"), new EventColumns("u", "i")).Select(e => e.Time));
    }

    [Theory]
    [InlineData("u,i,t\na,x,1\na,y,soon\n", "row 2: the time 'soon' in column 't' is neither a number nor a date")]
    [InlineData("u,i,t\na,x,1\na,y,2020-01-01\n", "row 2: the time '2020-01-01' in column 't' is a date; rows before it have numbers")]
    [InlineData("u,i,t\na,x,2020-01-01\na,y,7\n", "row 2: the time '7' in column 't' is a number; rows before it have dates")]
    [InlineData("u,i,t\na,x,1e999\n", "is neither a number nor a date")]
    [InlineData("u,i,t\na,x,\nb,y,\n", "no row has a value in each of the columns u, i, t")]
    [InlineData("u,i,time\na,x,1\n", "has no column 't'; it has: u, i, time")]
    public void Bad_files_are_said_in_one_sentence(string text, string message)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("e.csv", text);
        var bad = Assert.Throws<BadInputException>(() => EventLog.Read(path, new EventColumns("u", "i", "t")));
        Assert.Contains(message, bad.Message, StringComparison.Ordinal);
        Assert.Throws<BadInputException>(() => EventLog.Read(folder.File("none.csv"), new EventColumns("u", "i", "t")));
    }

    [Fact]
    public void A_category_that_is_missing_everywhere_is_refused()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("e.csv", "u,i,t,c\na,x,1,\na,y,2,?\n");
        Assert.Contains("column 'c' has no value in any row", Assert.Throws<BadInputException>(() => EventLog.Read(path, Columns)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Codes_without_a_name_and_lists_of_unequal_length_are_refused()
    {
        Assert.Throws<ArgumentException>(() => new EventLog([1], [0], [0], ["a"], ["x"]));
        Assert.Throws<ArgumentException>(() => new EventLog([0], [1], [0], ["a"], ["x"]));
        Assert.Throws<ArgumentException>(() => new EventLog([0], [0], [], ["a"], ["x"]));
        Assert.Throws<ArgumentException>(() => new EventLog([0], [0], [double.NaN], ["a"], ["x"]));
        Assert.Throws<ArgumentException>(() => new EventLog([0], [0], [0], ["a"], ["x"], [new ItemCategory("c", ["v"], [1])]));
        Assert.Equal(0, new EventLog([0], [0], [0], ["a", "b"], ["x"]).ItemsOf(1).Length); // a user without an event
    }
}
