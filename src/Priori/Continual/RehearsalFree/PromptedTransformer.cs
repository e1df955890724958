using Priori.Nn;
using Parameter = TorchSharp.Modules.Parameter;

namespace Priori.Continual;

/// <summary>
/// Learning to Prompt (Wang et al., CVPR 2022), the comparison of Smith et al.: a frozen vision transformer and a pool of learned prompts with keys. The transformer's own features of an image
/// are its query; the prompts whose keys are nearest (cosine) join its tokens. Learn <see cref="Prompts"/> alone and the head, and add <see cref="PromptMatching"/> as penalty.
/// The query is the class token after the last layer; the selected prompts stand between the class token and the patches (attention does not see their place).
/// </summary>
public sealed class PromptedTransformer : Module<Tensor, Tensor>
{
    private readonly Network _transformer;
    private readonly string _tokens;
    private readonly int _top;
    private readonly Parameter keys, pool;

    /// <summary>Adds a pool to a transformer.</summary>
    /// <param name="transformer">A network without its head whose layers have one <see cref="LayerKind.Position"/> and end in features [batch, width]; it becomes this module's and is frozen.</param>
    /// <param name="pool">Number of prompts M; 10 in L2P.</param>
    /// <param name="length">Tokens of a prompt; 5 in L2P.</param>
    /// <param name="top">Prompts a sample selects, at most <paramref name="pool"/>; 5 in L2P.</param>
    /// <exception cref="ArgumentException">The network has no position embedding, or more prompts are selected than there are.</exception>
    public PromptedTransformer(Network transformer, int pool = 10, int length = 5, int top = 5) : base(nameof(PromptedTransformer))
    {
        ArgumentNullException.ThrowIfNull(transformer);
        ArgumentOutOfRangeException.ThrowIfLessThan(pool, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(length, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(top, 1);
        if (top > pool) throw new ArgumentException($"A sample selects {top} prompts of a pool of {pool}.", nameof(top));
        _transformer = transformer;
        _tokens = transformer.Architecture.Layers.LastOrDefault(l => l.Kind == LayerKind.Position)?.Name ?? throw new ArgumentException("The network has no position embedding: prompts are for transformers.", nameof(transformer));
        _top = top;
        IReadOnlyDictionary<string, long[]> shapes = transformer.Architecture.Shapes();
        keys = new Parameter(init.uniform_(empty(pool, shapes[transformer.Architecture.Layers[^1].Name][^1]), -1, 1));
        this.pool = new Parameter(init.uniform_(empty(pool, length, shapes[_tokens][^1]), -1, 1) * 0.02);
        foreach (Parameter parameter in transformer.parameters()) parameter.requires_grad = false;
        register_module("transformer", transformer);
        register_parameter("keys", keys);
        register_parameter("pool", this.pool);
    }

    /// <summary>The parameters that are learned, within a <see cref="ContinualModel"/>.</summary>
    public static ParameterSelector Prompts => ParameterSelector.Regex(@"^backbone\.(keys|pool)$");

    /// <summary>1 - mean cosine between the queries and the keys they selected in the last forward pass: what pulls keys to queries.</summary>
    public Tensor? KeyDistance { get; private set; }

    /// <summary>Features [batch, width] of images with their prompts.</summary>
    public override Tensor forward(Tensor input)
    {
        string last = _transformer.Architecture.Layers[^1].Name;
        Tensor query, tokens;
        using (no_grad())
        {
            tokens = _transformer.Evaluate(input, _tokens);
            query = functional.normalize(_transformer.EvaluateFrom(tokens, _tokens, last), dim: 1);
        }
        Parameter allKeys = get_parameter("keys")!, prompts = get_parameter("pool")!; // looked up, because to(device) replaces them
        Tensor similarity = query.matmul(functional.normalize(allKeys, dim: 1).t());
        (Tensor nearest, Tensor rows) = similarity.topk(_top, 1);
        KeyDistance = 1 - nearest.mean();
        Tensor chosen = prompts.index_select(0, rows.flatten()).view(input.shape[0], -1, prompts.shape[2]);
        Tensor joined = cat([tokens.narrow(1, 0, 1), chosen, tokens.narrow(1, 1, tokens.shape[1] - 1)], 1);
        return _transformer.EvaluateFrom(joined, _tokens, last);
    }
}

/// <summary>The term of L2P that pulls the keys of selected prompts to the queries (Wang et al., CVPR 2022, eq. 5).</summary>
/// <param name="weight">lambda; 0.5 in L2P.</param>
public sealed class PromptMatching(double weight = 0.5) : ContinualPenalty(weight)
{
    /// <inheritdoc/>
    public override bool Begin(ContinualModel model)
        => model?.Backbone is PromptedTransformer ? true : throw new ArgumentException("The backbone has no prompts.", nameof(model));

    /// <inheritdoc/>
    public override Tensor Loss(PenaltyContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return ((PromptedTransformer)context.Model.Backbone).KeyDistance!;
    }
}
