using System.Globalization;
using System.Text.Json;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>Partial bundles and what completes them.</summary>
/// <param name="Partial">Known items of each bundle, at least one.</param>
/// <param name="Truth">The items to find; may be empty.</param>
public sealed record BundleQueries(IReadOnlyList<int[]> Partial, IReadOnlyList<int[]> Truth)
{
    /// <summary>The first half of each bundle (rounded down) as query, the rest to be found.</summary>
    /// <param name="bundles">Bundles; those of one item are left out.</param>
    public static BundleQueries Halves(IEnumerable<int[]> bundles)
    {
        int[][] whole = [.. bundles.Where(b => b.Length > 1)];
        return new BundleQueries([.. whole.Select(b => b[..(b.Length / 2)])], [.. whole.Select(b => b[(b.Length / 2)..])]);
    }
}

/// <summary>Bundles for training, validation and test, and user-item feedback, over items numbered from 0.</summary>
/// <param name="Items">Name of each item.</param>
/// <param name="Train">Training bundles, each of different items.</param>
/// <param name="Validation">Bundles to complete for choosing an epoch; may be empty.</param>
/// <param name="Test">Bundles to complete for measuring.</param>
/// <param name="FeedbackUsers">User of each user-item pair, int64 [pairs]; may be empty.</param>
/// <param name="FeedbackItems">Item of each pair, int64 [pairs].</param>
/// <param name="UserCount">Number of users.</param>
public sealed record BundleDataset(
    IReadOnlyList<string> Items, IReadOnlyList<int[]> Train, BundleQueries Validation, BundleQueries Test, Tensor FeedbackUsers, Tensor FeedbackItems, long UserCount)
{
    private const string CountFile = "count.json";

    /// <summary>Whether a folder has the layout of CLHE's data.</summary>
    /// <param name="folder">The folder.</param>
    public static bool IsFolder(string folder) => File.Exists(Path.Combine(folder, CountFile)) && File.Exists(Path.Combine(folder, "bi_train.txt"));

    /// <summary>Reads a folder in the layout of CLHE's data: count.json, ui_full.txt, bi_train.txt, bi_valid_input.txt, bi_valid_gt.txt, bi_test_input.txt, bi_test_gt.txt.</summary>
    /// <param name="folder">The folder.</param>
    /// <exception cref="InvalidDataException">A file is missing, an id is outside its range, or a bundle to complete has no known item.</exception>
    public static BundleDataset Load(string folder)
    {
        string count = Path.Combine(folder, CountFile);
        long items, users;
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllText(Existing(count)));
            (items, users) = (json.RootElement.GetProperty("#I").GetInt64(), json.RootElement.GetProperty("#U").GetInt64());
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"{count}: '#I' and '#U' must be the numbers of items and users.", e);
        }
        string File_(string name) => Path.Combine(folder, name);
        return Load(File_("ui_full.txt"), File_("bi_train.txt"), (File_("bi_valid_input.txt"), File_("bi_valid_gt.txt")), (File_("bi_test_input.txt"), File_("bi_test_gt.txt")), items, users);
    }

    /// <summary>Reads lists (see <see cref="ItemLists"/>) whose items and users are numbers from 0.</summary>
    /// <param name="userItem">Items of each user.</param>
    /// <param name="bundleTrain">Training bundles.</param>
    /// <param name="bundleQuery">Known items of the test bundles.</param>
    /// <param name="bundleTruth">Items to find, by the same bundle names.</param>
    /// <exception cref="InvalidDataException">As for <see cref="Load(string)"/>.</exception>
    public static BundleDataset Load(string userItem, string bundleTrain, string bundleQuery, string bundleTruth) => Load(userItem, bundleTrain, null, (bundleQuery, bundleTruth), null, null);

    /// <summary>Splits bundles 80 : 10 : 10 for training, validation and test, by a seed; of each validation and test bundle a random half is the query.</summary>
    /// <param name="items">Name of each item.</param>
    /// <param name="bundles">Bundles of item numbers, at least 10 of them with two items or more; those with one are for training.</param>
    /// <param name="feedback">Item numbers of each user; may be empty.</param>
    /// <param name="seed">The seed of the split.</param>
    /// <exception cref="ArgumentException">There are too few bundles.</exception>
    public static BundleDataset Split(IReadOnlyList<string> items, IReadOnlyList<int[]> bundles, IReadOnlyList<int[]> feedback, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(bundles);
        ArgumentNullException.ThrowIfNull(feedback);
        SplitMix64 random = SplitMix64.For(seed, 0x42554E44);
        int[][] whole = [.. bundles.Where(b => b.Length > 1)];
        if (whole.Length < 10) throw new ArgumentException($"{whole.Length} bundles have two items or more; at least 10 are needed to train, validate and test.", nameof(bundles));
        random.Shuffle(whole.AsSpan());
        int held = whole.Length / 10;
        int[][] shuffled = [.. whole.Take(2 * held).Select(b => { int[] copy = [.. b]; random.Shuffle(copy.AsSpan()); return copy; })];
        var (users, things) = Pairs(feedback);
        return new BundleDataset(items, [.. whole.Skip(2 * held), .. bundles.Where(b => b.Length == 1)], BundleQueries.Halves(shuffled.Take(held)), BundleQueries.Halves(shuffled.Skip(held)), users, things, feedback.Count);
    }

    private static BundleDataset Load(string userItem, string bundleTrain, (string Query, string Truth)? validation, (string Query, string Truth) test, long? itemCount, long? userCount)
    {
        long largest = -1;
        var feedback = Numbers(userItem, "user");
        long users = userCount ?? feedback.Select(f => f.Owner + 1).DefaultIfEmpty(0).Max();
        if (feedback.FirstOrDefault(f => f.Owner >= users) is { Items: not null } stranger) throw new InvalidDataException($"{userItem}: user {stranger.Owner} is outside 0..{users - 1}.");
        var train = Numbers(bundleTrain, null);
        BundleQueries valid = validation is { } v ? Queries(v.Query, v.Truth) : new BundleQueries([], []), held = Queries(test.Query, test.Truth);
        long items = itemCount ?? largest + 1;
        long[] pairUsers = [.. feedback.SelectMany(f => f.Items.Select(_ => f.Owner))], pairItems = [.. feedback.SelectMany(f => f.Items.Select(i => (long)i))];
        return new BundleDataset([.. Enumerable.Range(0, (int)items).Select(i => i.ToString(CultureInfo.InvariantCulture))], [.. train.Select(b => b.Items)], valid, held, tensor(pairUsers), tensor(pairItems), users);

        BundleQueries Queries(string query, string truth)
        {
            var partial = Numbers(query, null);
            Dictionary<long, int[]> wanted = Numbers(truth, null).ToDictionary(b => b.Owner, b => b.Items);
            if (wanted.Keys.Except(partial.Select(b => b.Owner)).Cast<long?>().FirstOrDefault() is { } empty) throw new InvalidDataException($"{query}: bundle {empty} has items to find in {Path.GetFileName(truth)}, but no known item here; an empty bundle cannot be completed.");
            return new BundleQueries([.. partial.Select(b => b.Items)], [.. partial.Select(b => wanted.GetValueOrDefault(b.Owner, []))]);
        }

        List<(long Owner, int[] Items)> Numbers(string path, string? owner) => [.. ItemLists.Read(Existing(path)).Select(list =>
        {
            int[] numbers = [.. list.Items.Select(i => Number(path, i, "item"))];
            foreach (int number in numbers)
            {
                if (itemCount is { } limit && number >= limit) throw new InvalidDataException($"{path}: item {number} is outside 0..{limit - 1}, the items of {CountFile}.");
                largest = Math.Max(largest, number);
            }
            return ((long)Number(path, list.Owner, owner ?? "bundle"), numbers);
        })];
    }

    private static (Tensor Users, Tensor Items) Pairs(IReadOnlyList<int[]> feedback)
        => (tensor(feedback.SelectMany((items, u) => items.Select(_ => (long)u)).ToArray()), tensor(feedback.SelectMany(items => items.Select(i => (long)i)).ToArray()));

    private static int Number(string path, string text, string what)
        => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : throw new InvalidDataException($"{path}: {what} '{text}' is not a number from 0.");

    private static string Existing(string path) => File.Exists(path) ? path : throw new InvalidDataException($"{path} is missing; the layout of CLHE's data has it.");
}
