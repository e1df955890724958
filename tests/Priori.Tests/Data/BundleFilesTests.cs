using Priori.Data;

namespace Priori.Tests.Data;

public class BundleFilesTests
{
    [Fact]
    public void Lists_are_read_from_pairs_lists_and_lines()
    {
        using var folder = new TemporaryFolder();
        string[] expected = ["b1: x y", "b2: z"];
        string[] Read(string path, string? owner = null, string? item = null) => [.. ItemLists.Read(path, owner, item).Select(l => $"{l.Owner}: {string.Join(' ', l.Items)}")];
        Assert.Equal(expected, Read(folder.File("pairs.csv", "item,bundle_id,price\nx,b1,1\nz,b2,2\ny,b1,3\nx,b1,1\n,b2,4\n")));
        Assert.Equal(expected, Read(folder.File("lists.tsv", "bundle\titems\nb1\tx;y\nb2\tz\n")));
        Assert.Equal(expected, Read(folder.File("lines.txt", "b1, x, y, x\nb2, z\n\nb3\n")));
        Assert.Equal(expected, Read(folder.File("first.csv", "look,product\nb1,x\nb1,y\nb2,z\n")));
        Assert.Equal(["1: x", "2: z", "3: y"], Read(folder.File("named.csv", "item,bundle,n\nx,b1,1\nz,b2,2\ny,b1,3\n"), owner: "n"));
        Assert.Throws<InvalidDataException>(() => Read(folder.File("one.csv", "bundle\nb1\n")));
        Assert.Throws<InvalidDataException>(() => Read(folder.File("none.csv", "bundle,item\n")));
        Assert.Throws<InvalidDataException>(() => Read(folder.File("first.csv"), item: "sku"));
    }

    [Fact]
    public void Features_are_read_from_arrays_and_tables()
    {
        using var folder = new TemporaryFolder();
        Tensor image = rand(3, 4), text = rand(3, 2);
        var arrays = new Dictionary<string, Tensor> { ["image"] = image, ["text"] = text.to(ScalarType.Float64), ["ids"] = tensor(new[] { 10, 20, 30 }) };
        Npz.Write(folder.File("f.npz"), arrays);
        Safetensors.Write(folder.File("f.safetensors"), arrays);
        foreach (string path in new[] { folder.File("f.npz"), folder.File("f.safetensors") })
        {
            FeatureFile file = FeatureFile.Read(path);
            Assert.Equal(["10", "20", "30"], file.Ids);
            Assert.Equal(3, file.Count);
            Assert.True(file.Features["image"].equal(image).all().item<bool>());
            Assert.True(file.Features["text"].allclose(text));
        }
        Npy.Write(folder.File("image.npy"), image);
        Npy.Write(folder.File("text.npy"), text);
        Assert.Equal(["image", "text"], FeatureFile.Read(folder.Root).Features.Keys);
        Assert.Equal(["features"], FeatureFile.Read(folder.File("text.npy")).Features.Keys);

        FeatureFile table = FeatureFile.Read(folder.File("f.csv", "item_id,image_0,image_1,text.0,price\na,1,2,3,4\nb,5,6,,8\n"));
        Assert.Equal(["a", "b"], table.Ids);
        Assert.Equal(["image", "text", "price"], table.Features.Keys);
        Assert.Equal([2, 2], table.Features["image"].shape);
        Assert.Equal(6, table.Features["image"][1, 1].ToSingle());
        Assert.True(table.Features["text"][1, 0].isnan().item<bool>());

        Assert.Throws<InvalidDataException>(() => FeatureFile.Read(folder.File("bad.csv", "item,color_0\na,red\n")));
        Assert.Throws<InvalidDataException>(() => FeatureFile.Read(folder.File("twice.csv", "item,x\na,1\na,2\n")));
        Npz.Write(folder.File("rows.npz"), new Dictionary<string, Tensor> { ["a"] = zeros(3, 2), ["b"] = zeros(4, 2) });
        Assert.Throws<InvalidDataException>(() => FeatureFile.Read(folder.File("rows.npz")));
        Npz.Write(folder.File("shape.npz"), new Dictionary<string, Tensor> { ["a"] = zeros(3, 2, 2) });
        Assert.Throws<InvalidDataException>(() => FeatureFile.Read(folder.File("shape.npz")));
    }

    /// <summary>A small folder in the layout of CLHE's data: 4 users, 6 bundles, 8 items.</summary>
    internal static string ClheFolder(TemporaryFolder folder)
    {
        folder.File("count.json", """{"#U": 4, "#B": 6, "#I": 8}""");
        folder.File("ui_full.txt", "0, 0, 1, 2\n1, 3, 4\n2, 0, 5\n3, 6\n");
        folder.File("bi_train.txt", "0, 0, 1, 2\n1, 3, 4, 5\n2, 6\n");
        folder.File("bi_valid_input.txt", "3, 0\n");
        folder.File("bi_valid_gt.txt", "3, 2\n");
        folder.File("bi_test_input.txt", "4, 3\n5, 1, 7\n");
        folder.File("bi_test_gt.txt", "4, 4, 5\n");
        return folder.Root;
    }

    [Fact]
    public void A_folder_in_the_layout_of_clhe_is_read()
    {
        using var folder = new TemporaryFolder();
        BundleDataset data = BundleDataset.Load(ClheFolder(folder));
        Assert.Equal((8, 4L, 3), (data.Items.Count, data.UserCount, data.Train.Count));
        Assert.Equal([0, 1, 2], data.Train[0]);
        Assert.Equal([2], data.Validation.Truth[0]);
        Assert.Equal([4, 5], data.Test.Truth[0]);
        Assert.Empty(data.Test.Truth[1]); // nothing to find: passed over in the mean
        Assert.Equal([0, 0, 0, 1, 1, 2, 2, 3], data.FeedbackUsers.data<long>().ToArray());
        BundleDataset four = BundleDataset.Load(folder.File("ui_full.txt"), folder.File("bi_train.txt"), folder.File("bi_test_input.txt"), folder.File("bi_test_gt.txt"));
        Assert.Equal((8, 0), (four.Items.Count, four.Validation.Partial.Count));

        folder.File("bi_test_input.txt", "5, 1, 7\n");
        Assert.Contains("bundle 4", Assert.Throws<InvalidDataException>(() => BundleDataset.Load(folder.Root)).Message, StringComparison.Ordinal);
        folder.File("bi_train.txt", "0, 0, 8\n");
        Assert.Contains("item 8", Assert.Throws<InvalidDataException>(() => BundleDataset.Load(folder.Root)).Message, StringComparison.Ordinal);
        folder.File("count.json", "{}");
        Assert.Throws<InvalidDataException>(() => BundleDataset.Load(folder.Root));
    }

    [Fact]
    public void Bundles_are_split_without_leaking()
    {
        int[][] bundles = [.. Enumerable.Range(0, 50).Select(b => new[] { b, b + 1, b + 2, b + 3 }), [7]];
        BundleDataset data = BundleDataset.Split([.. Enumerable.Range(0, 60).Select(i => $"{i}")], bundles, [], seed: 1);
        Assert.Equal((41, 5, 5), (data.Train.Count, data.Validation.Partial.Count, data.Test.Partial.Count));
        Assert.All(data.Test.Partial.Zip(data.Test.Truth), q => Assert.Equal((2, 4), (q.First.Length, q.First.Concat(q.Second).Distinct().Count())));
        string[] all = [.. data.Train.Concat(data.Validation.Partial.Zip(data.Validation.Truth, (a, b) => a.Concat(b).ToArray())).Concat(data.Test.Partial.Zip(data.Test.Truth, (a, b) => a.Concat(b).ToArray())).Select(b => string.Join(',', b.Order()))];
        Assert.Equal(51, all.Distinct().Count());
        Assert.Throws<ArgumentException>(() => BundleDataset.Split(data.Items, bundles[..9], []));
    }
}
