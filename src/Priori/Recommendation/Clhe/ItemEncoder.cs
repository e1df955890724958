namespace Priori.Recommendation;

/// <summary>
/// The item encoder of CLHE (section 3.2), the lower level of its hierarchy. An item has up to three tokens:
/// <code>
/// m_i = sum over its modalities x of norm(MLP_x(x_i))      (early fusion; a modality that the item lacks adds nothing)
/// v_i   a free vector, which learns what goes with what in bundles
/// p_i = W_cf cf_i + b, and m_i for an item without feedback
/// </code>
/// and its vector is their <see cref="TokenSelfFusion"/>. Modalities or feedback that no item has make no token.
/// </summary>
public sealed class ItemEncoder : Module<Tensor, Tensor>
{
    private const int HiddenWidth = 256;
    private readonly TorchSharp.Modules.ModuleDict<Module<Tensor, Tensor>> modalities;
    private readonly TorchSharp.Modules.Parameter embedding;
    private readonly TorchSharp.Modules.Linear? feedback;
    private readonly TokenSelfFusion fusion;
    private readonly Inputs inputs;

    // Features are data, not state: held apart, so that they are neither buffers nor part of checkpoints.
    private sealed record Inputs(ItemModalities Features);

    /// <summary>Creates the encoder: Xavier normal weights and zero biases, Xavier uniform item vectors.</summary>
    /// <param name="features">The items; they stay the caller's and must live as long as the encoder.</param>
    /// <param name="options">Width and fusion.</param>
    public ItemEncoder(ItemModalities features, ClheOptions? options = null)
        : base(nameof(ItemEncoder))
    {
        ArgumentNullException.ThrowIfNull(features);
        options ??= new ClheOptions();
        options.Validate();
        inputs = new Inputs(features);
        long dim = options.EmbeddingDim;
        modalities = ModuleDict<Module<Tensor, Tensor>>([.. features.Modalities.Select(m => (Key(m.Name), Tower(m.Rows.size(1), dim)))]);
        embedding = Parameter(empty(features.ItemCount, dim));
        init.xavier_uniform_(embedding);
        if (features.Collaborative is { } collaborative) feedback = Initialized(Linear(collaborative.Rows.size(1), dim));
        fusion = new TokenSelfFusion(dim, options.TokenLayerNorm, options.TokenValueProjection);
        RegisterComponents();
        this.to(features.Device);
    }

    /// <summary>The fusion of tokens.</summary>
    public TokenSelfFusion Fusion => fusion;

    /// <summary>Vectors [n, d] of items.</summary>
    /// <param name="items">Items int64 [n], on the features' device.</param>
    public override Tensor forward(Tensor items) => fusion.forward(Tokens(items));

    /// <summary>Vectors [N, d] of all items.</summary>
    public Tensor All() => fusion.forward(TokensOf(null));

    /// <summary>Tokens [n, tokens, d] of items, in the order m, v, p, before normalisation.</summary>
    /// <param name="items">Items int64 [n], on the features' device.</param>
    public Tensor Tokens(Tensor items)
    {
        ArgumentNullException.ThrowIfNull(items);
        return TokensOf(items);
    }

    internal static TorchSharp.Modules.Linear Initialized(TorchSharp.Modules.Linear linear)
    {
        init.xavier_normal_(linear.weight!);
        init.zeros_(linear.bias!);
        return linear;
    }

    private Tensor TokensOf(Tensor? items)
    {
        ItemModalities features = inputs.Features;
        Tensor Rows(Tensor matrix) => items is null ? matrix : matrix.index_select(0, items);
        Tensor? media = null;
        foreach (ItemModalities.Modality modality in features.Modalities)
        {
            Tensor encoded = functional.normalize(modalities[Key(modality.Name)].forward(Rows(modality.Rows)), dim: -1);
            encoded = encoded.masked_fill(Rows(modality.Present).logical_not(), 0);
            media = media is null ? encoded : media + encoded;
        }
        Tensor own = Rows(embedding);
        List<Tensor> tokens = media is null ? [own] : [media, own];
        if (features.Collaborative is { } collaborative)
            tokens.Add(where(Rows(collaborative.Present), feedback!.forward(Rows(collaborative.Rows)), media ?? zeros_like(own)));
        return stack(tokens, 1);
    }

    private static Module<Tensor, Tensor> Tower(long width, long dim)
        => Sequential(Initialized(Linear(width, width)), nn.ReLU(), Initialized(Linear(width, HiddenWidth)), nn.ReLU(), Initialized(Linear(HiddenWidth, dim)));

    private static string Key(string name) => name.Replace('.', '_'); // a dot would separate modules in a state dictionary
}
