using Priori.Nn;

namespace Priori.Recommendation;

/// <summary>
/// Fuses the modality tokens of an item (CLHE, section 3.2): tokens are L2-normalised, attend to each other, and are averaged.
/// A dropped token is a vector of zeros; it stays zero.
/// </summary>
public sealed class TokenSelfFusion : Module<Tensor, Tensor>
{
    private readonly SetAttention attention;

    /// <summary>Creates the fusion.</summary>
    /// <param name="dim">Width d.</param>
    /// <param name="layerNorm">Whether tokens are layer-normalised after the L2 normalisation.</param>
    /// <param name="valueProjection">Whether values are a linear map of the tokens.</param>
    public TokenSelfFusion(long dim, bool layerNorm = false, bool valueProjection = false)
        : base(nameof(TokenSelfFusion))
    {
        attention = new SetAttention(dim, new SetAttentionOptions { LayerNorm = layerNorm, ValueProjection = valueProjection });
        RegisterComponents();
    }

    /// <summary>Item vectors [items, d] of tokens [items, tokens, d].</summary>
    public override Tensor forward(Tensor tokens) => attention.forward(functional.normalize(tokens, dim: -1), null).mean([1]);

    /// <summary>Attention weights A [items, tokens, tokens].</summary>
    /// <param name="tokens">Tokens [items, tokens, d].</param>
    public Tensor Attention(Tensor tokens) => attention.Attention(functional.normalize(tokens, dim: -1));
}
