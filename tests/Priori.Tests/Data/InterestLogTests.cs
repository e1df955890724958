using Priori.Data;

namespace Priori.Tests.Data;

public class InterestLogTests
{
    [Fact]
    public void Users_have_two_to_four_categories_and_return_to_their_favourites()
    {
        EventLog log = InterestLog.Generate(3, new InterestLogOptions { Users = 500, Events = 60 });
        Assert.Equal((500, 600, 20, 30_000), (log.Users.Count, log.Items.Count, log.Categories[0].Values.Count, log.EventCount));
        Assert.Equal("item_599", log.Items[599]);
        Assert.Equal(19, log.Categories[0].OfItem[599]);
        int[] interests = new int[5];
        double favourite = 0;
        for (int user = 0; user < 500; user++)
        {
            int[] items = log.ItemsOf(user).ToArray();
            int[][] byCategory = [.. items.GroupBy(i => i / 30).Select(g => g.ToArray())];
            interests[byCategory.Length]++;
            // The eight most frequent items of each category hold about .8 + .2 * 8 / 30 of its events.
            favourite += byCategory.Sum(own => own.GroupBy(i => i).Select(g => g.Count()).OrderDescending().Take(8).Sum());
        }
        Assert.Equal(0, interests[0]);
        Assert.InRange(interests[1], 0, 5);                                   // weights near 0 hide a few categories
        Assert.All(interests[2..], count => Assert.InRange(count, 110, 230)); // a third each
        Assert.InRange(favourite / 30_000, .8, .95);
    }

    [Fact]
    public void A_seed_names_the_same_log_and_bad_sizes_are_refused()
    {
        int[] once = InterestLog.Generate(1).EventItems[..100].ToArray();
        Assert.Equal(once, InterestLog.Generate(1).EventItems[..100].ToArray());
        Assert.NotEqual(once, InterestLog.Generate(2).EventItems[..100].ToArray());
        Assert.Throws<ArgumentOutOfRangeException>(() => InterestLog.Generate(0, new InterestLogOptions { Favorites = 31 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => InterestLog.Generate(0, new InterestLogOptions { MostInterests = 21 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => InterestLog.Generate(0, new InterestLogOptions { FavoriteShare = 2 }));
    }
}
