using Priori.Numerics;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recommendation;

/// <summary>
/// LightGCN (He, Deng, Wang, Li, Zhang, Wang, SIGIR 2020): free vectors of users and items, smoothed over the user-item graph by powers of its symmetrically normalised adjacency
/// without weights or nonlinearity; a vector is the mean of its layers (eq. 3, 4), a score the inner product (eq. 5).
/// </summary>
public sealed class LightGcn : Module<Tensor, Tensor, Tensor>
{
    private readonly TorchSharp.Modules.Parameter user, item;
    private readonly (Tensor UserItem, Tensor ItemUser) graph;
    private readonly int layers;

    /// <summary>Creates the model with normal initialisation of deviation 0.1.</summary>
    /// <param name="users">User of each pair, int64 [pairs].</param>
    /// <param name="items">Item of each pair, int64 [pairs].</param>
    /// <param name="userCount">Number of users.</param>
    /// <param name="itemCount">Number of items.</param>
    /// <param name="dim">Width; 64 in the paper.</param>
    /// <param name="layers">Layers; 3 in the paper, 0 is matrix factorisation.</param>
    /// <param name="device">The device; CPU by default.</param>
    public LightGcn(Tensor users, Tensor items, long userCount, long itemCount, long dim = 64, int layers = 3, Device? device = null)
        : base(nameof(LightGcn))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(layers);
        this.layers = layers;
        Tensor matrix = BipartiteGraph.Normalized(users, items, userCount, itemCount).to(device ?? CPU);
        graph = (matrix, matrix.t());
        user = Parameter(randn([userCount, dim], device: device) * 0.1);
        item = Parameter(randn([itemCount, dim], device: device) * 0.1);
        RegisterComponents();
    }

    /// <summary>Vectors of all users and items after smoothing: [users, dim], [items, dim].</summary>
    public (Tensor Users, Tensor Items) Propagate()
    {
        Tensor u = user, i = item, sumU = user, sumI = item;
        for (int layer = 0; layer < layers; layer++)
        {
            (u, i) = (graph.UserItem.matmul(i), graph.ItemUser.matmul(u));
            (sumU, sumI) = (sumU + u, sumI + i);
        }
        return (sumU / (layers + 1), sumI / (layers + 1));
    }

    /// <summary>Vectors before smoothing, which the regularizer acts on.</summary>
    /// <param name="users">Users int64 [n].</param>
    /// <param name="items">Items int64 [m].</param>
    public (Tensor Users, Tensor Items) Initial(Tensor users, Tensor items) => (user.index_select(0, users), item.index_select(0, items));

    /// <summary>Scores [n] of user-item pairs.</summary>
    /// <param name="users">Users int64 [n].</param>
    /// <param name="items">Items int64 [n].</param>
    public override Tensor forward(Tensor users, Tensor items)
    {
        var (u, i) = Propagate();
        return (u.index_select(0, users) * i.index_select(0, items)).sum(dim: -1);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            graph.UserItem.Dispose();
            graph.ItemUser.Dispose();
        }
        base.Dispose(disposing);
    }
}

/// <summary>
/// Trains <see cref="LightGcn"/> by Bayesian personalised ranking (eq. 15): -ln sigmoid(y_ui - y_uj) for each pair with one item j that the user did not take, plus the weighted
/// squares of the vectors before smoothing. Its rows are the pairs: columns users, items.
/// </summary>
public sealed class LightGcnLearner : Learner
{
    private const int Attempts = 20;
    private readonly LightGcn model;
    private readonly HashSet<(long User, long Item)> pairs;
    private readonly int itemCount;
    private readonly double regularization;

    /// <summary>Prepares training with Adam.</summary>
    /// <param name="model">The model; the learner owns it.</param>
    /// <param name="users">User of each pair, int64 [pairs].</param>
    /// <param name="items">Item of each pair, int64 [pairs].</param>
    /// <param name="itemCount">Number of items.</param>
    /// <param name="learningRate">1e-3 in the paper.</param>
    /// <param name="regularization">Weight of the squares; 1e-4 in the paper.</param>
    public LightGcnLearner(LightGcn model, Tensor users, Tensor items, int itemCount, double learningRate = 1e-3, double regularization = 1e-4)
    {
        ArgumentNullException.ThrowIfNull(model);
        this.model = model;
        this.itemCount = itemCount;
        this.regularization = regularization;
        pairs = [.. users.cpu().data<long>().ToArray().Zip(items.cpu().data<long>().ToArray())];
        Modules = new Dictionary<string, Module> { ["model"] = model };
        Optimizers = new Dictionary<string, Optimization> { ["bpr"] = new(optim.Adam(model.parameters(), learningRate)) };
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        SplitMix64 random = SplitMix64.For(step.Seed, 1, step.Index);
        long[] negatives = [.. batch[0].cpu().data<long>().ToArray().Select(Negative)];
        Tensor other = tensor(negatives).to(step.Device);
        var (u, i) = model.Propagate();
        Tensor users = u.index_select(0, batch[0]);
        Tensor margin = (users * (i.index_select(0, batch[1]) - i.index_select(0, other))).sum(dim: -1);
        var (plainUsers, plainItems) = model.Initial(batch[0], batch[1]);
        Tensor squares = (plainUsers.square().sum() + plainItems.square().sum() + model.Initial(batch[0], other).Items.square().sum()) / (2.0 * negatives.Length);
        step.Minimize("bpr", -functional.logsigmoid(margin).mean() + regularization * squares);

        long Negative(long user)
        {
            int drawn = random.Next(itemCount);
            for (int i = 0; i < Attempts && pairs.Contains((user, drawn)); i++) drawn = random.Next(itemCount);
            return drawn;
        }
    }
}
