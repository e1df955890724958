using System.Globalization;
using Priori.Data;
using Priori.Recommendation;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Recipes.Recommendation;

/// <summary>Bundles with everything that is known about their items.</summary>
/// <param name="Name">Short name.</param>
/// <param name="Bundles">Bundles and feedback.</param>
/// <param name="Modalities">Features [items, width] by name.</param>
/// <param name="Factors">Item vectors from feedback that the data bring; null to learn them.</param>
/// <param name="Styles">Style of each item, where the data are generated.</param>
internal sealed record ClheData(string Name, BundleDataset Bundles, IReadOnlyDictionary<string, Tensor> Modalities, Tensor? Factors, IReadOnlyList<int>? Styles)
{
    public const int TestBundles = 500, ValidationBundles = 130;
    private const int GeneratedBundles = 1500, GeneratedUsers = 800;
    private static readonly string[] s_featureFiles = ["features.safetensors", "features.npz"];
    private static readonly string[] s_factors = ["cf", "item_cf", "item_cf_feature", "collaborative"];

    public int ItemCount => Bundles.Items.Count;

    public bool HasFeedback => Factors is not null || Bundles.FeedbackUsers.numel() > 0;

    public string Description => string.Create(CultureInfo.InvariantCulture,
        $"{Name}: {ItemCount:N0} items with {(Modalities.Count == 0 ? "no features" : string.Join(", ", Modalities.Select(m => $"{m.Key} ({m.Value.size(1)})")))}, {Bundles.FeedbackUsers.numel():N0} user-item pairs, {Bundles.Train.Count:N0} training, {Bundles.Validation.Partial.Count:N0} validation and {Bundles.Test.Partial.Count:N0} test bundles");

    /// <summary>A generated world: the first bundles for training, the last 500 for testing, 130 before them for validation.</summary>
    public static ClheData Generated(int seed, int items, int trainingBundles, double missingText, double missingContent)
    {
        BundleWorldData world = BundleWorld.Generate(seed, new BundleWorldOptions { Items = items, Bundles = GeneratedBundles, Users = GeneratedUsers, MissingText = missingText, MissingContent = missingContent });
        var bundles = new BundleDataset([.. Enumerable.Range(0, items).Select(i => i.ToString(CultureInfo.InvariantCulture))], [.. world.Bundles.Take(trainingBundles)],
            BundleQueries.Halves(world.Bundles.SkipLast(TestBundles).TakeLast(ValidationBundles)), BundleQueries.Halves(world.Bundles.TakeLast(TestBundles)), world.FeedbackUsers, world.FeedbackItems, GeneratedUsers);
        return new ClheData($"generated world {seed}", bundles, new Dictionary<string, Tensor> { ["content"] = world.Content, ["text"] = world.Text }, null, world.Styles);
    }

    /// <summary>The user's bundles (a table, or a folder in the layout of CLHE's data), item features and feedback.</summary>
    public static ClheData Read(UserData data, Action<string> note)
    {
        if (data.Path.Length == 0) throw new BadInputException("Bundles are needed: give --data with a table of bundle-item pairs or a folder in the layout of CLHE's data.");
        string? itemsPath = data.Parts.GetValueOrDefault("items"), feedbackPath = data.Parts.GetValueOrDefault("feedback");
        try
        {
            return Directory.Exists(data.Path) ? ReadFolder(data.Path, itemsPath, feedbackPath) : ReadTables(data, itemsPath, feedbackPath, note);
        }
        catch (ArgumentException e)
        {
            throw new BadInputException($"{Path.GetFileName(data.Path)}: {e.Message}", e);
        }
    }

    private static ClheData ReadFolder(string folder, string? itemsPath, string? feedbackPath)
    {
        if (!BundleDataset.IsFolder(folder)) throw new BadInputException($"{folder} has not the layout of CLHE's data: count.json, ui_full.txt, bi_train.txt, bi_valid_input.txt, bi_valid_gt.txt, bi_test_input.txt, bi_test_gt.txt.");
        if (feedbackPath is not null) throw new BadInputException("A folder in the layout of CLHE's data has its feedback in ui_full.txt; leave out --data.feedback.");
        BundleDataset bundles = BundleDataset.Load(folder);
        itemsPath ??= s_featureFiles.Select(f => Path.Combine(folder, f)).FirstOrDefault(File.Exists) ?? (Directory.EnumerateFiles(folder, "*.npy").Any() ? folder : null);
        if (itemsPath is null) return new ClheData(Path.GetFileName(Path.TrimEndingDirectorySeparator(folder)), bundles, new Dictionary<string, Tensor>(), null, null);
        FeatureFile features = FeatureFile.Read(itemsPath);
        if (features.Count != bundles.Items.Count) throw new BadInputException($"{itemsPath} has {features.Count} rows, but {Path.Combine(folder, "count.json")} says {bundles.Items.Count} items.");
        return With(Path.GetFileName(Path.TrimEndingDirectorySeparator(folder)), bundles, features.Features);
    }

    private static ClheData ReadTables(UserData data, string? itemsPath, string? feedbackPath, Action<string> note)
    {
        string name = Path.GetFileName(data.Path);
        string? itemColumn = data.Roles.GetValueOrDefault("item"), userColumn = data.Roles.GetValueOrDefault("user");
        IReadOnlyList<ItemList> bundles = ItemLists.Read(data.Path, null, itemColumn);
        IReadOnlyList<ItemList> feedback = feedbackPath is null ? [] : ItemLists.Read(feedbackPath, userColumn, itemColumn);
        FeatureFile? features = itemsPath is null ? null : FeatureFile.Read(itemsPath);
        var number = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int i = 0; i < features?.Count; i++) number[features.Ids?[i] ?? i.ToString(CultureInfo.InvariantCulture)] = i;
        int described = number.Count;
        foreach (string item in bundles.Concat(feedback).SelectMany(list => list.Items))
        {
            if (number.TryAdd(item, number.Count) && features is { Ids: null })
                throw new BadInputException($"{itemsPath} has {described} rows without names, which are the items 0..{described - 1}; item '{item}' of the bundles or feedback is none of them. Name the rows in a column or array called ids.");
        }
        if (number.Count > described && features is not null) note($"{number.Count - described} of {number.Count} items have no row in {Path.GetFileName(itemsPath)}: they are known by bundles and feedback alone.");
        if (number.Count < 3) throw new BadInputException($"{name} has {number.Count} items; nothing can be completed.");
        string[] items = [.. number.OrderBy(n => n.Value).Select(n => n.Key)];
        int[][] Numbers(IReadOnlyList<ItemList> lists) => [.. lists.Select(list => list.Items.Select(item => number[item]).ToArray())];
        BundleDataset dataset = BundleDataset.Split(items, Numbers(bundles), Numbers(feedback));
        var rows = (features?.Features ?? new Dictionary<string, Tensor>()).ToDictionary(f => f.Key, f => number.Count == described ? f.Value : cat([f.Value, zeros(number.Count - described, f.Value.size(1))]));
        return With(name, dataset, rows);
    }

    private static ClheData With(string name, BundleDataset bundles, IReadOnlyDictionary<string, Tensor> features)
    {
        string? factors = features.Keys.FirstOrDefault(key => s_factors.Contains(key, StringComparer.OrdinalIgnoreCase));
        return new ClheData(name, bundles, features.Where(f => f.Key != factors).ToDictionary(f => f.Key, f => f.Value), factors is null ? null : features[factors], null);
    }
}
