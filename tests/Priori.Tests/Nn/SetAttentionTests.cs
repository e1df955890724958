using Priori.Nn;

namespace Priori.Tests.Nn;

public class SetAttentionTests
{
    [Fact]
    public void Masked_softmax_and_mean_see_real_entries_only()
    {
        using Tensor logits = tensor(new float[,] { { 1, 2, 50 }, { 3, 4, 5 } }).requires_grad_(), mask = tensor(new[,] { { true, true, false }, { false, false, false } });
        Tensor p = Masked.Softmax(logits, mask);
        Assert.True(p.allclose(tensor(new float[,] { { 0.2689414f, 0.7310586f, 0 }, { 0, 0, 0 } })));
        p.square().sum().backward();
        Assert.False(logits.grad!.isnan().any().item<bool>());
        Assert.Equal(0, logits.grad[.., 2].abs().sum().item<float>());
        Assert.Equal(0, logits.grad[1].abs().sum().item<float>());

        using Tensor x = tensor(new[,,] { { { 1f, 2 }, { 3, 6 }, { float.NaN, 9 } }, { { 1, 1 }, { 1, 1 }, { 1, 1 } } });
        Assert.True(Masked.Mean(x, mask).allclose(tensor(new float[,] { { 2, 4 }, { 0, 0 } })));
    }

    [Theory]
    [InlineData(1, false, false, false)]
    [InlineData(2, true, true, true)]
    public void Order_and_padding_of_a_set_do_not_matter(int heads, bool layerNorm, bool value, bool residual)
    {
        manual_seed(1);
        using var encoder = new SetEncoder(8, 2, new SetAttentionOptions { Heads = heads, LayerNorm = layerNorm, ValueProjection = value, Residual = residual });
        using Tensor x = randn(3, 5, 8), mask = ones(3, 5, ScalarType.Bool);
        Tensor expected = encoder.forward(x, mask);
        Assert.True(encoder.forward(x, null).allclose(expected, atol: 1e-6));
        Assert.True(encoder.forward(x.index_select(1, tensor(new long[] { 3, 0, 4, 1, 2 })), mask).allclose(expected, atol: 1e-6));
        Tensor padded = encoder.forward(cat([x, full([3, 2, 8], 100f)], 1), cat([mask, zeros(3, 2, ScalarType.Bool)], 1));
        Assert.True(padded.allclose(expected, atol: 1e-6));
        Assert.False(encoder.forward(cat([x, full([3, 2, 8], 100f)], 1), null).allclose(expected, atol: 1e-3));
    }

    [Fact]
    public void A_layer_has_queries_and_keys_and_no_more()
    {
        using var plain = new SetAttention(8);
        Assert.Equal(["query.weight", "key.weight"], plain.named_parameters().Select(p => p.name));
        using var full = new SetAttention(8, new SetAttentionOptions { LayerNorm = true, ValueProjection = true });
        Assert.Equal(["query.weight", "key.weight", "value.weight"], full.named_parameters().Select(p => p.name));
        Assert.Throws<ArgumentException>(() => new SetAttention(8, new SetAttentionOptions { Heads = 3 }));
        Assert.Throws<ArgumentException>(() => plain.forward(zeros(2, 3, 4), null));
        Assert.Throws<ArgumentException>(() => plain.forward(zeros(2, 3, 8), ones(2, 4, ScalarType.Bool)));
    }

    [Fact]
    public void The_values_are_the_normalised_input()
    {
        using var layer = new SetAttention(4, new SetAttentionOptions { LayerNorm = true, Epsilon = 1e-9 });
        using Tensor x = randn(2, 3, 4) * 5 + 1;
        Tensor y = (x - x.mean([2], keepdim: true)) / x.var(2, unbiased: false, keepdim: true).sqrt();
        Assert.True(layer.forward(x, null).allclose(layer.Attention(x).matmul(y), atol: 1e-5));
    }
}
