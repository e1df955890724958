using Priori.Nn;

namespace Priori.ClickThrough;

/// <summary>
/// Deep and cross network: cross layers over the concatenated embeddings x_0 in parallel with an MLP, and a linear layer over both.
/// <code>
/// DCN    (Wang et al., ADKDD 2017, eq. 3): x_{l+1} = x_0 (w_l . x_l) + b_l + x_l
/// DCN-v2 (Wang et al., WWW 2021, eq. 1):   x_{l+1} = x_0 * (W_l x_l + b_l) + x_l
/// </code>
/// </summary>
public sealed class DeepCross : Backbone
{
    private readonly TorchSharp.Modules.ModuleList<CrossLayer> cross;
    private readonly Mlp? mlp;
    private readonly TorchSharp.Modules.Linear output;

    /// <summary>Creates the model.</summary>
    /// <param name="options">Fields, embedding width, cross layers, MLP (no hidden width: cross layers alone), outputs.</param>
    /// <param name="matrix">DCN-v2, with a full matrix W_l for each layer; otherwise DCN, with a vector.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1 or the dropout probability is outside its range.</exception>
    public DeepCross(BackboneOptions options, bool matrix = true) : base(nameof(DeepCross), options, options?.EmbeddingDim ?? 0)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Options.CrossLayers, 1, nameof(options));
        long width = Options.Fields * Options.EmbeddingDim;
        cross = new([.. Enumerable.Range(0, Options.CrossLayers).Select(_ => new CrossLayer(width, matrix))]);
        if (Options.MlpHidden.Count > 0) mlp = Tower(width, 0);
        output = Linear(width + (mlp?.OutputDim ?? 0), Options.Outputs);
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e)
    {
        Tensor first = e.flatten(1), x = first;
        foreach (CrossLayer layer in cross) x = layer.forward(first, x);
        return output.forward(mlp is null ? x : cat([x, mlp.forward(first)], 1));
    }
}

/// <summary>One cross layer of <see cref="DeepCross"/>.</summary>
public sealed class CrossLayer : Module<Tensor, Tensor, Tensor>
{
    private readonly TorchSharp.Modules.Linear weight;
    private readonly TorchSharp.Modules.Parameter? bias;

    /// <summary>Creates the layer, Xavier normal with bias 0.</summary>
    /// <param name="width">Width of x, at least 1.</param>
    /// <param name="matrix">DCN-v2's x_0 * (W x + b) + x; otherwise DCN's x_0 (w . x) + b + x.</param>
    public CrossLayer(long width, bool matrix = true) : base(nameof(CrossLayer))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        weight = Linear(width, matrix ? width : 1, hasBias: matrix);
        init.xavier_normal_(weight.weight!);
        if (matrix) init.zeros_(weight.bias!);
        else bias = Parameter(zeros(width));
        RegisterComponents();
    }

    /// <summary>The next x [batch, width].</summary>
    /// <param name="input1">x_0 [batch, width].</param>
    /// <param name="input2">x [batch, width].</param>
    public override Tensor forward(Tensor input1, Tensor input2)
    {
        Tensor crossed = addcmul(input2, input1, weight.forward(input2), 1);
        return bias is null ? crossed : crossed + bias;
    }
}
