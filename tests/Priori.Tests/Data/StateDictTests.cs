using Priori.Data;

namespace Priori.Tests.Data;

public sealed class StateDictTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_file_is_written_tensor_by_tensor_and_whole_or_not_at_all()
    {
        using var scope = NewDisposeScope();
        string path = _folder.File("w.safetensors");
        TensorInfo[] announced = [new("a", ScalarType.Float32, [3]), new("b", ScalarType.Int64, [2, 2]), new("empty", ScalarType.Float32, [0])];
        using (var writer = new SafetensorsWriter(path, announced))
        {
            Assert.Equal(["b", "a", "empty"], writer.Tensors.Select(t => t.Name)); // widest first, as in Safetensors.Write
            writer.Append("a", ones(2));
            Assert.Contains("'b'", Assert.Throws<InvalidOperationException>(writer.Complete).Message);
            Assert.Contains("more elements", Assert.Throws<ArgumentException>(() => writer.Append("a", ones(2))).Message);
            Assert.Contains("[4]", Assert.Throws<ArgumentException>(() => writer.Write("b", arange(4, int64))).Message);
            Assert.Contains("'c'", Assert.Throws<ArgumentException>(() => writer.Write("c", ones(1))).Message);
            Assert.Throws<ArgumentException>(() => writer.Append("b", ones(2)));
        }
        Assert.Empty(Directory.GetFiles(_folder.Root)); // not completed: nothing is left
        using (var writer = new SafetensorsWriter(path, announced, new Dictionary<string, string> { ["k"] = "v" }))
        {
            writer.Append("a", ones(1)); // any order, in parts
            writer.Write("b", arange(4, int64).view(2, 2).t());
            writer.Append("a", 2 * ones(2));
            writer.Complete();
        }
        Safetensors.Write(_folder.File("all.safetensors"), new Dictionary<string, Tensor> { ["a"] = tensor(new[] { 1f, 2, 2 }), ["b"] = arange(4, int64).view(2, 2).t(), ["empty"] = zeros(0) }, new Dictionary<string, string> { ["k"] = "v" });
        Assert.Equal(File.ReadAllBytes(_folder.File("all.safetensors")), File.ReadAllBytes(path));
        Assert.Equal(2, Directory.GetFiles(_folder.Root).Length);
        Assert.Throws<ArgumentException>(() => new SafetensorsWriter(path, [new("a", ScalarType.Float32, [1]), new("a", ScalarType.Float32, [1])]));
    }

    [Fact]
    public void Slices_are_the_tensors_elements()
    {
        using var scope = NewDisposeScope();
        string path = _folder.File("s.safetensors");
        Tensor values = randn(4, 5).to(float16);
        Safetensors.Write(path, new Dictionary<string, Tensor> { ["x"] = values, ["y"] = ones(3) });
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.True(values.flatten().slice(0, 7, 12, 1).equal(file.Slice("x", 7, 5)).all().item<bool>());
        Assert.Equal(ScalarType.Float16, file.ElementType("x"));
        Assert.Throws<ArgumentOutOfRangeException>(() => file.Slice("x", 18, 3));
        Assert.Throws<ArgumentOutOfRangeException>(() => file.Slice("x", 0, 0));
    }

    [Fact]
    public void States_add_up_and_counters_stay()
    {
        using var scope = NewDisposeScope();
        var a = new StateDict(new Dictionary<string, Tensor> { ["w"] = tensor(new[] { 1f, 2 }), ["n"] = tensor(7L), ["h"] = tensor(new[] { 2048f }).to(float16) });
        var b = new StateDict(new Dictionary<string, Tensor> { ["w"] = tensor(new[] { 10f, -4 }), ["n"] = tensor(9L), ["h"] = tensor(new[] { 1f }) });
        Assert.Equal([11f, -2f], (a + b)["w"].data<float>().ToArray());
        Assert.Equal([-9f, 6f], (a - b)["w"].data<float>().ToArray());
        Assert.Equal([.5f, 1f], (.5 * a)["w"].data<float>().ToArray());
        Assert.Equal(7, (a - b)["n"].item<long>());
        // 2048 + 1 + 1 in float32, then rounded: half precision sums would stay at 2048.
        StateDict sum = StateDict.Combine((1, a), (1, b), (1, b));
        Assert.Equal(ScalarType.Float16, sum["h"].dtype);
        Assert.Equal(2050f, sum["h"].to(float32).item<float>());
        Assert.Equal(2048f, a["h"].to(float32).item<float>()); // operands are as they were
    }

    [Fact]
    public void Mismatches_name_the_first_keys_and_shapes()
    {
        using var scope = NewDisposeScope();
        StateDict State(params (string Name, long[] Shape)[] tensors) => new(tensors.Select(t => KeyValuePair.Create(t.Name, zeros(t.Shape))));
        Assert.Equal("the second state lacks 'b', 'c', 'd' and 1 more of the first state; the first state lacks 'x' of the second state.",
            Assert.Throws<ArgumentException>(() => State(("a", [1]), ("b", [1]), ("c", [1]), ("d", [1]), ("e", [1])) + State(("a", [1]), ("x", [1]))).Message.Replace("state 2", "the second state", StringComparison.Ordinal));
        Assert.Contains("'a' is [2, 3] in the first state and [3, 2]", Assert.Throws<ArgumentException>(() => State(("a", [2, 3])) - State(("a", [3, 2]))).Message);
        Assert.Throws<ArgumentException>(() => StateDict.Combine());
    }

    [Fact]
    public void Files_combine_as_tensors_do()
    {
        using var scope = NewDisposeScope();
        StateDict[] states = [.. Enumerable.Range(0, 3).Select(i => new StateDict(new Dictionary<string, Tensor>
        {
            ["big"] = randn(1500, 3000), // more than one block
            ["half"] = randn(5).to(float16), ["double"] = randn(2, float64), ["scalar"] = randn(1).squeeze(), ["steps"] = tensor((long)i), ["none"] = zeros(0, 2),
        }))];
        string[] paths = [.. states.Select((state, i) =>
        {
            Safetensors.Write(_folder.File($"{i}.safetensors"), state, new Dictionary<string, string> { ["i"] = $"{i}" });
            return _folder.File($"{i}.safetensors");
        })];
        double[] weights = [1, -.75, .5];
        StateDict expected = StateDict.Combine([.. weights.Zip(states, (w, s) => (w, (IReadOnlyDictionary<string, Tensor>)s))]);
        SafetensorsFile[] files = [.. paths.Select(SafetensorsFile.Open)];
        string sum = _folder.File("sum.safetensors");
        StateDict.LinearCombination(sum, [.. weights.Zip(files)]);
        Dictionary<string, Tensor> read = Safetensors.Read(sum);
        Assert.Equal(expected.Keys.Order(), read.Keys.Order());
        Assert.All(expected, pair => Assert.True(pair.Value.equal(read[pair.Key]).all().item<bool>() && pair.Value.dtype == read[pair.Key].dtype, pair.Key));
        using (SafetensorsFile file = SafetensorsFile.Open(sum)) Assert.Equal("0", file.Metadata["i"]);
        // A weight a tensor: only "half" gets the second file.
        StateDict.LinearCombination(sum, [(_ => 1, files[0]), (name => name == "half" ? 1 : 0, files[1])]);
        read = Safetensors.Read(sum);
        Assert.True(read["big"].equal(states[0]["big"]).all().item<bool>());
        Assert.True(read["half"].equal((states[0]["half"].to(float32) + states[1]["half"].to(float32)).to(float16)).all().item<bool>());
        foreach (SafetensorsFile file in files) file.Dispose();

        Safetensors.Write(_folder.File("other.safetensors"), new Dictionary<string, Tensor> { ["big"] = ones(2) });
        using SafetensorsFile first = SafetensorsFile.Open(paths[0]), other = SafetensorsFile.Open(_folder.File("other.safetensors"));
        string message = Assert.Throws<ArgumentException>(() => StateDict.LinearCombination(sum, [(1.0, first), (1.0, other)])).Message;
        Assert.Contains("other.safetensors lacks", message);
        Assert.Contains("2 more of", message);
    }
}
