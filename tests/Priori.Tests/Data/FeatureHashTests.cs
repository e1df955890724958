using System.Globalization;
using System.Text;
using Priori.Data;

namespace Priori.Tests.Data;

public class FeatureHashTests
{
    [Theory]
    [InlineData("", 0xcbf29ce484222325, 0xefd01f60ba992926)]
    [InlineData("a", 0xaf63dc4c8601ec8c, 0x82a2a958a9bece5b)]
    [InlineData("foobar", 0x85944171f73967e8, 0x2c22194922d1672b)]
    public void Known_answers(string text, ulong fnv, ulong finalized)
    {
        Assert.Equal(fnv, FeatureHash.Fnv1a(Encoding.UTF8.GetBytes(text)));
        Assert.Equal(finalized, FeatureHash.Finalize(fnv));
    }

    [Fact]
    public void Keys_have_the_same_rows_in_every_process()
    {
        Assert.Equal(12958581975926032871UL, FeatureHash.Hash(0, 0, "42"));
        Assert.Equal(871, FeatureHash.Row(FeatureHash.Hash(0, 0, "42"), 1000));
        Assert.Equal(263, FeatureHash.Row(FeatureHash.Hash(1, 0, "42"), 1000));
        Assert.Equal(486, FeatureHash.Row(FeatureHash.Hash(0, 1, "42"), 1000));
        Assert.Equal(904, FeatureHash.Row(FeatureHash.Hash(2, 0, "zürich"), 1000));
    }

    [Fact]
    public void Text_bytes_and_numbers_are_hashed_alike_in_any_culture()
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        try
        {
            var strange = (CultureInfo)CultureInfo.InvariantCulture.Clone();
            strange.NumberFormat.NegativeSign = "~";
            CultureInfo.CurrentCulture = strange;
            Assert.Equal(FeatureHash.Hash(3, 1, "-1234567890123"), FeatureHash.Hash(3, 1, -1234567890123L));
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
        foreach (string text in new[] { "", "plain", "zürich", "東京", "a😀b", "lone \ud800 surrogate" })
            Assert.Equal(FeatureHash.Finalize(FeatureHash.Fnv1a(Encoding.UTF8.GetBytes("5|2|" + text))), FeatureHash.Hash(5, 2, text));
        Assert.Equal(FeatureHash.Hash(5, 2, "zürich"), FeatureHash.Hash(FeatureHash.Prefix(5, 2), "zürich"u8));
    }

    [Fact]
    public void Rows_are_spread_as_at_random_and_features_are_independent()
    {
        string[] values = [.. Enumerable.Range(0, 500).Select(i => i.ToString(CultureInfo.InvariantCulture))];
        long Row(int feature, string value, bool salted = true) => FeatureHash.Row(FeatureHash.Hash(FeatureHash.Prefix(feature, 0, salted: salted), value), 1000);
        Assert.Equal(393, values.Select(v => Row(0, v)).Distinct().Count()); // M (1 - (1 - 1/M)^500) = 393.62
        Assert.Equal(0, values.Count(v => Row(0, v) == Row(1, v)));
        Assert.Equal(500, values.Count(v => Row(0, v, salted: false) == Row(1, v, salted: false)));
        Assert.NotEqual(FeatureHash.Prefix(0, 0), FeatureHash.Prefix(0, 0, seed: 1));
    }
}
