using Priori.Data;

namespace Priori.Tests.Data;

public class BundleWorldTests
{
    [Fact]
    public void A_world_is_what_it_says()
    {
        BundleWorldData world = BundleWorld.Generate(0);
        Assert.Equal([1200, 32], world.Content.shape);
        Assert.Equal(1500, world.Bundles.Count);
        Assert.All(world.Bundles, b => Assert.Equal(b.Length, b.Distinct().Count()));
        // 4 to 8 of one style, half of the bundles with a random item besides
        int[] strangers = [.. world.Bundles.Select(b => b.Length - b.GroupBy(i => world.Styles[i]).Max(g => g.Count()))];
        Assert.All(world.Bundles.Zip(strangers), b => Assert.InRange(b.First.Length - b.Second, 4, 9));
        Assert.True(strangers.Max() == 1);
        Assert.InRange(strangers.Average(), .43, .54);
        Assert.Equal(800 * 25, world.FeedbackUsers.numel());

        bool[] noText = world.Text.eq(0).all(1).data<bool>().ToArray(), noContent = world.Content.eq(0).all(1).data<bool>().ToArray();
        Assert.InRange(noText.Average(m => m ? 1 : 0), .36, .44);
        Assert.InRange(noText.Zip(noContent).Where(m => !m.First).Average(m => m.Second ? 1 : 0), .35, .45);
        Assert.DoesNotContain((true, true), noText.Zip(noContent));

        // Popular items are in more bundles: the tenth in most has several times its share.
        int[] counts = [.. Enumerable.Range(0, 1200).Select(i => world.Bundles.Count(b => b.Contains(i))).OrderDescending()];
        Assert.InRange(counts.Take(120).Sum() / (double)counts.Sum(), .2, .5);
    }

    [Fact]
    public void Worlds_of_a_seed_differ_only_in_what_they_miss()
    {
        BundleWorldData a = BundleWorld.Generate(3), b = BundleWorld.Generate(3, new BundleWorldOptions { MissingText = 0, MissingContent = .9 }), other = BundleWorld.Generate(4);
        Assert.Equal(a.Bundles.SelectMany(x => x), b.Bundles.SelectMany(x => x));
        Assert.True(a.FeedbackItems.equal(b.FeedbackItems).all().item<bool>());
        Tensor known = a.Text.ne(0).any(1);
        Assert.True(a.Text[known].equal(b.Text[known]).all().item<bool>());
        Assert.False(b.Text.eq(0).all(1).any().item<bool>());
        Assert.NotEqual(a.Bundles[0], other.Bundles[0]);
        Assert.Throws<ArgumentException>(() => BundleWorld.Generate(0, new BundleWorldOptions { Items = 8 }));
        Assert.Throws<ArgumentException>(() => BundleWorld.Generate(0, new BundleWorldOptions { MissingText = 1.5 }));
    }
}
