using Priori.Nn;
using Priori.Runtime;

namespace Priori.Tests.Nn;

public class ClipVisionTests
{
    [Fact]
    public void The_tensors_have_hugging_faces_names_and_shapes()
    {
        using var scope = NewDisposeScope();
        using var encoder = new ClipVision(64, 16, 128, 2, 2, 256, 32);
        Dictionary<string, Tensor> state = encoder.State();
        Assert.Equal([128], state["vision_model.embeddings.class_embedding"].shape);
        Assert.Equal([128, 3, 16, 16], state["vision_model.embeddings.patch_embedding.weight"].shape);
        Assert.Equal([17, 128], state["vision_model.embeddings.position_embedding.weight"].shape);
        Assert.Equal([32, 128], state["visual_projection.weight"].shape);
        string[] ofLayer = ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"];
        string[] expected = [.. new[] { "vision_model.embeddings.class_embedding", "vision_model.embeddings.patch_embedding.weight", "vision_model.embeddings.position_embedding.weight", "visual_projection.weight" },
            .. new[] { "vision_model.pre_layrnorm", "vision_model.post_layernorm" }.Concat(ofLayer.SelectMany(n => Enumerable.Range(0, 2).Select(i => $"vision_model.encoder.layers.{i}.{n}"))).SelectMany(n => new[] { n + ".weight", n + ".bias" })];
        Assert.Equal(expected.Order(), state.Keys.Order());
    }

    [Fact]
    public void A_checkpoint_with_a_text_tower_loads_and_computes_the_transformer()
    {
        using var scope = NewDisposeScope();
        Seeds.Set(1);
        using var made = new ClipVision(32, 16, 128, 2, 2, 64, 8);
        Dictionary<string, Tensor> state = made.State().ToDictionary(p => p.Key, p => p.Value + 0.1 * randn_like(p.Value));
        var file = new Dictionary<string, Tensor>(state) { ["text_model.final_layer_norm.weight"] = ones(3), ["logit_scale"] = ones(1), ["vision_model.embeddings.position_ids"] = arange(5, int64).unsqueeze(0) };
        Assert.True(ClipVision.Is(file.Keys));
        using ClipVision encoder = ClipVision.FromState(file);
        Assert.Equal(32, encoder.ImageSize);
        Tensor x = randn(3, 3, 32, 32);
        // The same by hand: tokens one at a time, attention head by head.
        Tensor T(string name) => state["vision_model." + name];
        Tensor Norm(Tensor t, string name) => functional.layer_norm(t, [128], T(name + ".weight"), T(name + ".bias"));
        Tensor Lin(Tensor t, string name) => t.matmul(T(name + ".weight").t()) + T(name + ".bias");
        Tensor[] tokens = [T("embeddings.class_embedding").expand(3, 128), .. Enumerable.Range(0, 4).Select(p =>
            x.narrow(2, p / 2 * 16, 16).narrow(3, p % 2 * 16, 16).reshape(3, -1).matmul(T("embeddings.patch_embedding.weight").view(128, -1).t()))];
        Tensor h = Norm(stack(tokens, 1) + T("embeddings.position_embedding.weight"), "pre_layrnorm");
        for (int i = 0; i < 2; i++)
        {
            string layer = $"encoder.layers.{i}.";
            Tensor n = Norm(h, layer + "layer_norm1"), q = Lin(n, layer + "self_attn.q_proj"), k = Lin(n, layer + "self_attn.k_proj"), v = Lin(n, layer + "self_attn.v_proj");
            Tensor heads = cat([.. Enumerable.Range(0, 2).Select(a => (q.narrow(2, a * 64, 64).matmul(k.narrow(2, a * 64, 64).transpose(1, 2)) / 8).softmax(-1).matmul(v.narrow(2, a * 64, 64)))], 2);
            h = h + Lin(heads, layer + "self_attn.out_proj");
            Tensor up = Lin(Norm(h, layer + "layer_norm2"), layer + "mlp.fc1");
            h = h + Lin(up * (1.702 * up).sigmoid(), layer + "mlp.fc2");
        }
        Tensor expected = Norm(h.select(1, 0), "post_layernorm").matmul(state["visual_projection.weight"].t());
        using var ungraphed = no_grad();
        Assert.True(expected.allclose(encoder.call(x), 1e-3, 1e-4));

        file.Remove("vision_model.encoder.layers.1.mlp.fc2.bias");
        Assert.Contains("layers.1.mlp.fc2.bias", Assert.Throws<ArgumentException>(() => ClipVision.FromState(file)).Message);
        Assert.Throws<ArgumentException>(() => new ClipVision(30, 16, 128, 1, 2, 64, 8));
    }
}
