using Priori.Data;
using Priori.Nn;
using Priori.Tests.Data;

namespace Priori.Tests.Nn;

public class BertTests
{
    internal static readonly BertConfig Tiny = new() { VocabSize = 11, HiddenSize = 8, NumHiddenLayers = 2, NumAttentionHeads = 2, IntermediateSize = 12, MaxPositionEmbeddings = 16 };

    /// <summary>Random weights under the names of Hugging Face's BertForPreTraining.</summary>
    internal static Dictionary<string, Tensor> Weights(BertConfig c, string prefix = "bert.")
    {
        manual_seed(4);
        var w = new Dictionary<string, Tensor>();
        void Add(string name, params long[] shape) => w[prefix + name] = randn(shape) * .3;
        void Dense(string name, long to, long from)
        {
            Add(name + ".weight", to, from);
            Add(name + ".bias", to);
        }
        void Norm(string name)
        {
            Add(name + ".weight", c.HiddenSize);
            Add(name + ".bias", c.HiddenSize);
        }
        Add("embeddings.word_embeddings.weight", c.VocabSize, c.HiddenSize);
        Add("embeddings.position_embeddings.weight", c.MaxPositionEmbeddings, c.HiddenSize);
        Add("embeddings.token_type_embeddings.weight", 2, c.HiddenSize);
        Norm("embeddings.LayerNorm");
        for (int i = 0; i < c.NumHiddenLayers; i++)
        {
            foreach (string part in new[] { "self.query", "self.key", "self.value", "output.dense" }) Dense($"encoder.layer.{i}.attention.{part}", c.HiddenSize, c.HiddenSize);
            Norm($"encoder.layer.{i}.attention.output.LayerNorm");
            Dense($"encoder.layer.{i}.intermediate.dense", c.IntermediateSize, c.HiddenSize);
            Dense($"encoder.layer.{i}.output.dense", c.HiddenSize, c.IntermediateSize);
            Norm($"encoder.layer.{i}.output.LayerNorm");
        }
        Dense("pooler.dense", c.HiddenSize, c.HiddenSize);
        return w;
    }

    internal static string Folder(TemporaryFolder folder, IReadOnlyList<string> pieces)
    {
        BertConfig c = Tiny with { VocabSize = pieces.Count };
        string path = folder.File("bert");
        Directory.CreateDirectory(path);
        Safetensors.Write(Path.Combine(path, "model.safetensors"), Weights(c));
        File.WriteAllText(Path.Combine(path, "config.json"), $$"""{"architectures":["BertModel"],"vocab_size":{{c.VocabSize}},"hidden_size":8,"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":12,"max_position_embeddings":16,"type_vocab_size":2,"layer_norm_eps":1e-12,"hidden_act":"gelu"}""");
        File.WriteAllLines(Path.Combine(path, "vocab.txt"), pieces);
        return path;
    }

    [Fact]
    public void A_published_file_loads_by_its_names_and_gives_the_paper_s_function()
    {
        using var folder = new TemporaryFolder();
        using Bert bert = Bert.Open(Folder(folder, [.. Enumerable.Range(0, 11).Select(i => $"{i}")]));
        bert.eval();
        Assert.Equal(Tiny, bert.Config);
        Dictionary<string, Tensor> w = Weights(Tiny);
        Assert.Equal(w.Keys.Where(k => !k.Contains("pooler", StringComparison.Ordinal)).Order(), bert.named_parameters().Select(p => "bert." + p.name).Order());
        Tensor ids = tensor(new long[] { 2, 5, 7, 3, 0, 0 }, [1, 6]);
        using var off = no_grad();
        Assert.True(allclose(Reference(w, [2, 5, 7, 3]), bert.forward(ids)[0].narrow(0, 0, 4), atol: 1e-5)); // padding has no influence
    }

    [Fact]
    public void Files_without_prefix_or_with_old_names_load_and_others_are_refused()
    {
        using var folder = new TemporaryFolder();
        using var bert = new Bert(Tiny);
        using var other = new Bert(Tiny);
        Safetensors.Write(folder.File("plain.safetensors"), Weights(Tiny, ""));
        Safetensors.Write(folder.File("old.safetensors"), Weights(Tiny).ToDictionary(t => t.Key.Replace("LayerNorm.weight", "LayerNorm.gamma", StringComparison.Ordinal).Replace("LayerNorm.bias", "LayerNorm.beta", StringComparison.Ordinal), t => t.Value));
        bert.LoadPretrained(folder.File("plain.safetensors"));
        other.LoadPretrained(folder.File("old.safetensors"));
        foreach (var (a, b) in bert.parameters().Zip(other.parameters())) Assert.Equal(a.bytes.ToArray(), b.bytes.ToArray());

        Dictionary<string, Tensor> lacking = Weights(Tiny);
        lacking.Remove("bert.encoder.layer.1.output.dense.bias");
        Safetensors.Write(folder.File("lacking.safetensors"), lacking);
        Assert.Contains("encoder.layer.1.output.dense.bias", Assert.Throws<InvalidDataException>(() => bert.LoadPretrained(folder.File("lacking.safetensors"))).Message, StringComparison.Ordinal);
        Safetensors.Write(folder.File("wide.safetensors"), Weights(Tiny with { HiddenSize = 10 }));
        Assert.Throws<InvalidDataException>(() => bert.LoadPretrained(folder.File("wide.safetensors")));
        Assert.Throws<InvalidDataException>(() => Bert.Open(folder.Root));
        Assert.Throws<ArgumentException>(() => bert.forward(ones([1, 17], ScalarType.Int64)));
        Assert.Throws<ArgumentException>(() => new TransformerLayer(8, 3));
    }

    [Fact]
    public void Attention_pooling_is_a_softmax_of_the_real_entries()
    {
        manual_seed(1);
        using var pooling = new AttentionPooling(3);
        Tensor x = randn(2, 4, 3), mask = tensor(new[] { true, true, false, false, false, false, false, false }, [2, 4]);
        var p = pooling.state_dict();
        Tensor scores = x[0].narrow(0, 0, 2).matmul(p["hidden.weight"].t()).add(p["hidden.bias"]).tanh().matmul(p["score.weight"].t()).squeeze(-1).softmax(0);
        Tensor result = pooling.forward(x, mask);
        Assert.True(allclose(scores.matmul(x[0].narrow(0, 0, 2)), result[0], atol: 1e-6));
        Assert.Equal([0f, 0, 0], result[1].data<float>().ToArray());
    }

    /// <summary>BERT written head by head and token by token from the paper's formulas, without padding.</summary>
    private static Tensor Reference(Dictionary<string, Tensor> w, long[] ids)
    {
        Tensor Linear(Tensor x, string name) => x.matmul(w["bert." + name + ".weight"].t()) + w["bert." + name + ".bias"];
        Tensor Norm(Tensor x, string name)
        {
            Tensor centred = x - x.mean([-1], keepdim: true);
            return centred / (centred.square().mean([-1], keepdim: true) + 1e-12).sqrt() * w["bert." + name + ".weight"] + w["bert." + name + ".bias"];
        }
        Tensor h = Norm(w["bert.embeddings.word_embeddings.weight"].index_select(0, tensor(ids)) + w["bert.embeddings.position_embeddings.weight"].narrow(0, 0, ids.Length) + w["bert.embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm");
        for (int i = 0; i < 2; i++)
        {
            string layer = $"encoder.layer.{i}.";
            Tensor q = Linear(h, layer + "attention.self.query"), k = Linear(h, layer + "attention.self.key"), v = Linear(h, layer + "attention.self.value");
            Tensor context = cat([.. Enumerable.Range(0, 2).Select(head => (q.narrow(1, 4 * head, 4).matmul(k.narrow(1, 4 * head, 4).t()) / 2).softmax(-1).matmul(v.narrow(1, 4 * head, 4)))], 1);
            h = Norm(h + Linear(context, layer + "attention.output.dense"), layer + "attention.output.LayerNorm");
            Tensor inner = Linear(h, layer + "intermediate.dense");
            inner = inner * (1 + (inner / Math.Sqrt(2)).erf()) / 2;
            h = Norm(h + Linear(inner, layer + "output.dense"), layer + "output.LayerNorm");
        }
        return h;
    }
}
