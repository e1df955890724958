using TorchSharp.Modules;

namespace Priori.OptimalTransport;

/// <summary>
/// A sparse mixture of experts, y_i = sum over assigned j of gate_ij * expert_j(x_i), with any <see cref="TokenRouter"/>. Each expert only processes the
/// tokens it is given; a token that no expert takes gives 0 (add a residual connection around the module where that matters).
/// </summary>
public sealed class MixtureOfExperts : Module<Tensor, Tensor>
{
    private readonly TokenRouter router;
    private readonly ModuleList<Module<Tensor, Tensor>> experts;

    /// <summary>Combines a router and its experts.</summary>
    /// <param name="router">Assigns tokens [m, d].</param>
    /// <param name="experts">As many networks [*, d] to [*, outputs] as the router has experts.</param>
    /// <exception cref="ArgumentException">The numbers of experts differ.</exception>
    public MixtureOfExperts(TokenRouter router, IReadOnlyList<Module<Tensor, Tensor>> experts) : base(nameof(MixtureOfExperts))
    {
        ArgumentNullException.ThrowIfNull(router);
        ArgumentNullException.ThrowIfNull(experts);
        if (experts.Count != router.Experts) throw new ArgumentException($"The router serves {router.Experts} experts, {experts.Count} are given.", nameof(experts));
        this.router = router;
        this.experts = nn.ModuleList([.. experts]);
        RegisterComponents();
    }

    /// <summary>The router; call it to see where tokens go, then <see cref="Combine"/>.</summary>
    public TokenRouter Router => router;

    /// <summary>Routes and processes tokens [m, d]; the result is [m, outputs].</summary>
    public override Tensor forward(Tensor tokens) => Combine(tokens, router.call(tokens));

    /// <summary>Processes tokens [m, d] as a routing of them says; the result is [m, outputs].</summary>
    public Tensor Combine(Tensor tokens, Routing routing)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        ArgumentNullException.ThrowIfNull(routing);
        Tensor? output = null;
        for (int j = 0; j < experts.Count; j++)
        {
            Tensor rows = routing.Assignment.select(1, j).nonzero().squeeze(1);
            if (rows.shape[0] == 0) continue;
            Tensor processed = experts[j].call(tokens.index_select(0, rows)) * routing.Gates.select(1, j).index_select(0, rows).unsqueeze(-1);
            output ??= torch.zeros([tokens.shape[0], .. processed.shape[1..]], dtype: processed.dtype, device: processed.device);
            output = output.index_add(0, rows, processed, 1);
        }
        return output ?? throw new ArgumentException("The routing assigns no token to any expert.", nameof(routing));
    }
}
