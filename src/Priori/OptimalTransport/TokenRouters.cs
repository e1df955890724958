using Priori.Numerics;

namespace Priori.OptimalTransport;

/// <summary>Which tokens go to which experts.</summary>
/// <param name="Gates">Softmax gates [m, n], differentiable.</param>
/// <param name="Assignment">Whether expert j processes token i, bool [m, n].</param>
/// <param name="Capacity">Tokens that an expert may process at most.</param>
public sealed record Routing(Tensor Gates, Tensor Assignment, int Capacity)
{
    /// <summary>Combine weights [m, n]: the gate of each assigned pair, 0 elsewhere. They, not the plan, carry the router's gradient.</summary>
    public Tensor Weights => Gates.masked_fill(Assignment.logical_not(), 0);

    /// <summary>Tokens that each expert processes, int64 [n].</summary>
    public Tensor Load => Assignment.sum(-2);

    /// <summary>The share of tokens that no expert processes, float32, scalar.</summary>
    public Tensor Uncovered => Assignment.any(-1).logical_not().to(ScalarType.Float32).mean();
}

/// <summary>
/// A router of a sparse mixture of experts: gates are softmax(x W), and a rule assigns tokens to experts with a capacity of
/// ceil(capacityFactor * m / n) tokens an expert. Input [m, d], output <see cref="Routing"/>.
/// </summary>
public abstract class TokenRouter : Module<Tensor, Routing>
{
    private readonly Module<Tensor, Tensor> scores;
    private readonly double capacityFactor;

    /// <summary>Creates the gate layer.</summary>
    /// <param name="name">Name of the module.</param>
    /// <param name="dim">Width d of a token.</param>
    /// <param name="experts">Number of experts n.</param>
    /// <param name="capacityFactor">Capacity relative to an even load, positive.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number is outside its range.</exception>
    protected TokenRouter(string name, long dim, int experts, double capacityFactor) : base(name)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(experts, 1);
        if (!(capacityFactor > 0)) throw new ArgumentOutOfRangeException(nameof(capacityFactor), capacityFactor, "The capacity factor must be positive.");
        (Experts, this.capacityFactor) = (experts, capacityFactor);
        scores = nn.Linear(dim, experts, hasBias: false);
    }

    /// <summary>Number of experts.</summary>
    public int Experts { get; }

    /// <summary>Routes tokens [m, d].</summary>
    /// <param name="tokens">[m, d] with m at least 1.</param>
    public override Routing forward(Tensor tokens)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        if (tokens.dim() != 2 || tokens.shape[0] < 1) throw new ArgumentException($"Tokens must be [m, d] with at least one row, not [{string.Join(',', tokens.shape)}].", nameof(tokens));
        Tensor gates = scores.call(tokens).softmax(-1);
        int capacity = (int)Math.Min(tokens.shape[0], Math.Ceiling(capacityFactor * tokens.shape[0] / Experts));
        using var noGradient = torch.no_grad();
        using var scope = torch.NewDisposeScope();
        return new(gates, Assign(gates.detach(), capacity).MoveToOuterDisposeScope(), capacity);
    }

    /// <summary>The assignment, bool [m, n], with at most <paramref name="capacity"/> tokens a column.</summary>
    protected abstract Tensor Assign(Tensor gates, int capacity);

    /// <summary>The <paramref name="count"/> largest entries of each column as a mask; entries that are 0 are not taken.</summary>
    private protected static Tensor LargestOfColumns(Tensor plan, int count)
    {
        (Tensor values, Tensor rows) = plan.topk(count, 0);
        return torch.zeros(plan.shape, dtype: ScalarType.Bool, device: plan.device).scatter(0, rows, values.gt(0));
    }
}

/// <summary>
/// Token choice (Shazeer et al., ICLR 2017; capacity as in Fedus et al., JMLR 2022): each token goes to its k experts with the
/// largest gates; an expert that is full drops what comes later in the batch (first choices before second choices).
/// </summary>
public sealed class TopKRouter : TokenRouter
{
    private readonly int k;

    /// <summary>Creates the router.</summary>
    /// <param name="dim">Width of a token.</param>
    /// <param name="experts">Number of experts.</param>
    /// <param name="k">Experts a token chooses, in [1, experts]. Default 1.</param>
    /// <param name="capacityFactor">Capacity relative to an even load of m * k / n tokens. Default 1.</param>
    public TopKRouter(long dim, int experts, int k = 1, double capacityFactor = 1.0) : base(nameof(TopKRouter), dim, experts, capacityFactor * k)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(k, experts);
        this.k = k;
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Assign(Tensor gates, int capacity)
    {
        Tensor choices = gates.topk(k, -1).indexes.t().reshape(-1);                              // all first choices, then all second ones
        Tensor wanted = functional.one_hot(choices, Experts);
        Tensor kept = wanted.to(ScalarType.Bool).logical_and(wanted.cumsum(0).le(capacity));
        return kept.reshape(k, -1, Experts).any(0);
    }
}

/// <summary>
/// S-BASE (Clark et al., ICML 2022) in the expert-choice form: a balanced plan by entropic optimal transport with cost minus the gates, then each
/// expert takes the tokens with the largest entries of its column.
/// </summary>
public sealed class SinkhornRouter : TokenRouter
{
    private readonly double gamma;
    private readonly int iterations;

    /// <summary>Creates the router.</summary>
    /// <param name="dim">Width of a token.</param>
    /// <param name="experts">Number of experts.</param>
    /// <param name="capacityFactor">Capacity relative to an even load. Default 1.</param>
    /// <param name="gamma">Strength of the entropy, in units of gates. Default 0.05.</param>
    /// <param name="iterations">Sinkhorn iterations. Default 30.</param>
    public SinkhornRouter(long dim, int experts, double capacityFactor = 1.0, double gamma = 0.05, int iterations = 30) : base(nameof(SinkhornRouter), dim, experts, capacityFactor)
    {
        if (!(gamma > 0)) throw new ArgumentOutOfRangeException(nameof(gamma), gamma, "The entropy's strength must be positive.");
        ArgumentOutOfRangeException.ThrowIfLessThan(iterations, 1);
        (this.gamma, this.iterations) = (gamma, iterations);
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Assign(Tensor gates, int capacity)
    {
        (long m, long n) = (gates.shape[0], gates.shape[1]);
        Tensor tokens = torch.full(m, 1.0 / m, dtype: gates.dtype, device: gates.device), experts = torch.full(n, 1.0 / n, dtype: gates.dtype, device: gates.device);
        return LargestOfColumns(Sinkhorn.Plan(tokens, experts, -gates, gamma, iterations, tolerance: 0), capacity);
    }
}

/// <summary>
/// Sparsity-constrained routing (Liu, Puigcerver and Blondel, ICLR 2023, section 6.3): the support of the plan between tokens of mass 1/m and experts of mass
/// 1/n, with cost minus the gates and at most <c>capacity</c> non-zeros an expert. Balance is a constraint, not a loss; the maximum load never exceeds the capacity.
/// </summary>
/// <remarks>
/// The semi-dual is maximised by a fixed number of Adam steps on the tokens' potentials. They start from the experts' potentials of earlier batches (a
/// buffer, updated in training mode), which carry over where tokens do not.
/// </remarks>
public sealed class SparseOtRouter : TokenRouter
{
    private const double LearningRate = 0.02, Decay = 50, Beta1 = 0.9, Beta2 = 0.999, Epsilon = 1e-12; // step s: rate 0.02 / (1 + s / 50)
    private readonly double gamma;
    private readonly int iterations;
    private readonly Tensor potentials;

    /// <summary>Creates the router.</summary>
    /// <param name="dim">Width of a token.</param>
    /// <param name="experts">Number of experts.</param>
    /// <param name="capacityFactor">Capacity relative to an even load. Default 1; 1.25 covers nearly every token.</param>
    /// <param name="gamma">Strength of the quadratic regularisation for unit total mass. Default 10: entries of the plan are about 1/m, so gamma / m must be comparable to differences of gates.</param>
    /// <param name="iterations">Adam steps on the semi-dual a batch. Default 60.</param>
    public SparseOtRouter(long dim, int experts, double capacityFactor = 1.0, double gamma = 10, int iterations = 60) : base(nameof(SparseOtRouter), dim, experts, capacityFactor)
    {
        if (!(gamma > 0)) throw new ArgumentOutOfRangeException(nameof(gamma), gamma, "The regularisation's strength must be positive.");
        ArgumentOutOfRangeException.ThrowIfLessThan(iterations, 1);
        (this.gamma, this.iterations) = (gamma, iterations);
        potentials = torch.zeros(experts);
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Assign(Tensor gates, int capacity)
    {
        (long m, long n) = (gates.shape[0], gates.shape[1]);
        Tensor mass = torch.full(n, 1.0 / n, dtype: gates.dtype, device: gates.device), scores = gates.t().contiguous(); // minus the cost, [n, m]
        var regularizer = new SparsityConstrainedRegularizer(capacity, gamma);
        // The tokens' potentials that match the experts' ones: the best offer of an expert (the c-transform).
        Tensor alpha = -(gates + potentials).amax([-1]), mean = torch.zeros_like(alpha), square = torch.zeros_like(alpha);
        for (int s = 0; s < iterations; s++)
        {
            using var step = torch.NewDisposeScope();
            Tensor gradient = 1.0 / m - regularizer.MassConjugate(scores + alpha, mass).RowSums(m);
            mean = mean * Beta1 + gradient * (1 - Beta1);
            square = square * Beta2 + gradient.square() * (1 - Beta2);
            double rate = LearningRate / (1 + s / Decay) / (1 - Math.Pow(Beta1, s + 1));
            alpha = alpha + rate * mean / ((square / (1 - Math.Pow(Beta2, s + 1))).sqrt() + Epsilon);
            (alpha, mean, square) = (alpha.MoveToOuterDisposeScope(), mean.MoveToOuterDisposeScope(), square.MoveToOuterDisposeScope());
        }
        ColumnSolution solution = regularizer.MassConjugate(scores + alpha, mass);
        if (training) potentials.copy_(solution.Beta - solution.Beta.mean());
        return solution.Columns(m).t().gt(0);
    }
}
