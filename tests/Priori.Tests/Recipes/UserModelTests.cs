using System.Text.Json;
using Priori.Data;
using Priori.Nn;
using Priori.Recipes;
using Priori.Runtime;

namespace Priori.Tests.Recipes;

public sealed class UserModelTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-model-").FullName;
    private readonly Architecture _architecture = Architectures.Mlp([4], [3], 2);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Checkpoint(string name, Architecture architecture)
    {
        using var network = new Network(architecture);
        string path = Path.Combine(_folder, name);
        Safetensors.Write(path, network.State());
        return path;
    }

    [Theory]
    [InlineData("arch.json")]
    [InlineData("m.arch.json")]
    [InlineData("arch.m.json")]
    public void Layers_are_found_beside_the_checkpoint(string file)
    {
        string path = Checkpoint("m.safetensors", _architecture);
        File.WriteAllText(Path.Combine(_folder, file), _architecture.ToJson());
        using Network network = UserModel.Load(path);
        Assert.False(network.training);
        Assert.All(network.State(), t => Assert.Equal(Safetensors.Read(path)[t.Key].data<float>().ToArray(), t.Value.data<float>().ToArray()));
    }

    [Fact]
    public void A_model_of_a_run_is_described_by_the_run()
    {
        string path = Checkpoint("m.safetensors", _architecture);
        File.WriteAllText(Path.Combine(_folder, "model.json"), JsonSerializer.Serialize(new { m = new { file = "m.safetensors", description = new { architecture = _architecture.ToJson() } } }));
        using Network network = UserModel.Load(path);
        Assert.Equal(_architecture.ToJson(), network.Architecture.ToJson());
    }

    [Fact]
    public void What_is_missing_or_does_not_fit_is_said()
    {
        string path = Checkpoint("m.safetensors", _architecture), other = Path.Combine(_folder, "other.json");
        Assert.Contains("does not exist", Assert.Throws<BadInputException>(() => UserModel.Load(path + "x")).Message);
        Assert.Contains("--data.arch", Assert.Throws<BadInputException>(() => UserModel.Load(path)).Message);
        File.WriteAllText(other, Architectures.Mlp([4], [5], 2).ToJson());
        Assert.Contains("[3, 4] in the checkpoint and [5, 4]", Assert.Throws<BadInputException>(() => UserModel.Load(path, other)).Message);
        Assert.DoesNotContain("Parameter", Assert.Throws<BadInputException>(() => UserModel.Load(path, other)).Message);
        File.WriteAllText(other, "{");
        Assert.Contains("other.json", Assert.Throws<BadInputException>(() => UserModel.Load(path, other)).Message);
        File.WriteAllText(Path.Combine(_folder, "model.json"), "[1");
        Assert.Contains("is damaged", Assert.Throws<BadInputException>(() => UserModel.Load(path)).Message);
    }
}
