namespace Priori.ClickThrough;

/// <summary>
/// A gate for each feature, that is for each value of each column (OptFS, Lyu et al., WWW 2023, section 3.2):
/// <code>
/// search: G_k = sigmoid(t gamma_k) / sigmoid(gamma_0)        hard: G_k = 1[gamma_k > 0] / sigmoid(gamma_0)
/// </code>
/// At the start (t = 1, gamma = gamma_0) every gate is exactly 1. As the temperature t grows from epoch to epoch the soft gates approach the hard ones
/// without the bias of straight-through or sampled gates. Multiplying embeddings by their gates multiplies each interaction of k and l by G_k G_l, so that no
/// search over pairs is needed.
/// </summary>
public sealed class FeatureGate : Module<Tensor, Tensor>
{
    private readonly TorchSharp.Modules.Parameter weight;
    private readonly Tensor scale;

    /// <summary>Creates the gates, all open.</summary>
    /// <param name="ids">Number of ids over all fields, at least 1.</param>
    /// <param name="initial">gamma_0, above 0 (a hard gate is open where gamma is above 0). Paper: 0.5.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is outside its range.</exception>
    public FeatureGate(long ids, double initial = 0.5) : base(nameof(FeatureGate))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(ids, 1);
        if (!(initial > 0) || !double.IsFinite(initial)) throw new ArgumentOutOfRangeException(nameof(initial), initial, "The initial gate parameter must be above 0.");
        weight = Parameter(full(ids, initial));
        using Tensor gamma = full(1, initial);
        scale = gamma.sigmoid();
        RegisterComponents();
    }

    /// <summary>Number of ids.</summary>
    public long Ids => weight.size(0);

    /// <summary>The gate parameters gamma, float32 [ids].</summary>
    public TorchSharp.Modules.Parameter Weight => weight;

    /// <summary>sigmoid(gamma_0), by which every gate is divided; float32 [1].</summary>
    public Tensor Scale => scale;

    /// <summary>The temperature t, at least 1 (<see cref="OptFs.Temperature"/>); of no effect on hard gates.</summary>
    public double Temperature { get; set; } = 1;

    /// <summary>Whether gates are hard.</summary>
    public bool Hard { get; set; }

    /// <summary>Share of all ids with gamma above 0.</summary>
    public double KeepRatio
    {
        get
        {
            using var ungraphed = no_grad();
            using DisposeScope scope = NewDisposeScope();
            return weight.gt(0).sum().item<long>() / (double)Ids;
        }
    }

    /// <summary>The gate of each id, of the ids' shape.</summary>
    /// <param name="input">Ids, int64 [...].</param>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor gamma = weight.index_select(0, input.flatten()).view(input.shape);
        return (Hard ? gamma.gt(0).to(gamma.dtype) : (Temperature * gamma).sigmoid()) / scale;
    }

    /// <summary>The sparsity penalty sum_k sigmoid(t gamma_k) over all ids, also those that no row of the batch has: a scalar, without the factor lambda.</summary>
    public Tensor Penalty() => (Temperature * weight).sigmoid().sum();

    /// <summary>The one gate of a model.</summary>
    /// <param name="model">A model that has one.</param>
    /// <exception cref="ArgumentException">It has none or several.</exception>
    public static FeatureGate Of(Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        FeatureGate[] gates = [.. model.modules().Append(model).OfType<FeatureGate>().Distinct()];
        return gates.Length == 1 ? gates[0] : throw new ArgumentException($"The model needs one {nameof(FeatureGate)} and has {gates.Length}: put its input layer into a {nameof(GatedEmbedding)}.", nameof(model));
    }
}
