namespace Priori.ClickThrough;

/// <summary>
/// The model in which the theory of feature multiplexing is stated (Coleman et al., NeurIPS 2023, sec. 4): logit = b + sum_t theta_t . E[h_t(v_t)].
/// All theta_t start as the same vector, the worst case: every row then serves all features alike, and only training can turn the theta_t apart.
/// </summary>
public sealed class BlockLogistic : Backbone
{
    private readonly TorchSharp.Modules.Parameter theta, bias;

    /// <summary>Creates the model; theta_t is one standard normal vector, scaled to length 1, for every field.</summary>
    /// <param name="options">Fields, embedding width and outputs.</param>
    public BlockLogistic(BackboneOptions options) : base(nameof(BlockLogistic), options, options?.EmbeddingDim ?? 0)
    {
        Tensor one = randn(Options.Outputs, Options.EmbeddingDim);
        theta = Parameter((one / one.norm(1, keepdim: true, p: 2)).repeat(1, Options.Fields));
        bias = Parameter(zeros(Options.Outputs));
        RegisterComponents();
    }

    /// <summary>The theta_t side by side, [outputs, fields * dim].</summary>
    public TorchSharp.Modules.Parameter Theta => theta;

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e) => e.flatten(1).matmul(theta.t()) + bias;
}
