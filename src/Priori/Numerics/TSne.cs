namespace Priori.Numerics;

/// <summary>Where t-SNE starts.</summary>
public enum TSneStart
{
    /// <summary>The leading principal components, scaled to a standard deviation of 1e-4 along the first (Kobak and Linderman, 2021).</summary>
    Pca,

    /// <summary>A normal distribution of standard deviation 1e-4, drawn from the seed.</summary>
    Random,
}

/// <summary>Options of <see cref="TSne"/>; the defaults are those of van der Maaten and Hinton (JMLR 2008) with the later conventions for learning rate and start.</summary>
public sealed record TSneOptions
{
    /// <summary>Dimensions of the embedding, at least 1. Default 2.</summary>
    public int Dimensions { get; init; } = 2;

    /// <summary>Effective number of neighbours, above 1 and below n. Default 30.</summary>
    public double Perplexity { get; init; } = 30;

    /// <summary>Gradient steps. Default 1000.</summary>
    public int Iterations { get; init; } = 1000;

    /// <summary>Factor on P in the first steps, at least 1. Default 12.</summary>
    public double EarlyExaggeration { get; init; } = 12;

    /// <summary>Steps with early exaggeration and momentum 0.5; afterwards the momentum is 0.8. Default 250.</summary>
    public int ExaggerationIterations { get; init; } = 250;

    /// <summary>Learning rate; when null, max(n / early exaggeration / 4, 50) (Belkina et al., 2019).</summary>
    public double? LearningRate { get; init; }

    /// <summary>Start of the embedding.</summary>
    public TSneStart Start { get; init; } = TSneStart.Pca;

    /// <summary>Seed of the random start.</summary>
    public int Seed { get; init; }

    /// <summary>The Kullback-Leibler divergence is kept every so many steps, at least 1. Default 50.</summary>
    public int TraceEvery { get; init; } = 50;
}

/// <summary>What t-SNE found.</summary>
/// <param name="Embedding">[n, dimensions], centred.</param>
/// <param name="Trace">KL(P || Q) after so many steps, without exaggeration; the last entry is that of the embedding.</param>
public sealed record TSneResult(Tensor Embedding, IReadOnlyList<(int Step, double Divergence)> Trace)
{
    /// <summary>KL(P || Q) of the embedding, in nats.</summary>
    public double Divergence => Trace[^1].Divergence;
}

/// <summary>
/// t-distributed stochastic neighbour embedding (van der Maaten and Hinton, JMLR 2008), exact: O(n^2) time and memory, for up to some 5,000 points.
/// Distances and forces are matrix products. Device and floating type follow the data; the same data and seed give the same embedding on the same machine.
/// </summary>
public static class TSne
{
    private const int BlockRows = 128; // 1 MB of float32 for 2,000 points
    private const double MinimumGain = 0.01, EntropyTolerance = 1e-5; // Gains as in the authors' code; log-perplexity met to 1e-5 nats.

    /// <summary>Embeds the rows of a matrix.</summary>
    /// <param name="data">Floating point [n, d], n at least 3.</param>
    /// <param name="options">Options; defaults when null.</param>
    /// <param name="cancellation">Ends the descent with an exception.</param>
    /// <exception cref="ArgumentException">The data are no matrix of finite numbers, or an option is outside its range.</exception>
    public static TSneResult Embed(Tensor data, TSneOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new TSneOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Dimensions, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Iterations, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.TraceEvery, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.EarlyExaggeration, 1);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor p = JointProbabilities(data, options.Perplexity);
        long n = data.shape[0];
        int dimensions = options.Dimensions;
        Tensor y = Start(data, options);
        double entropy = xlogy(p, p).sum().ToDouble(), rate = options.LearningRate ?? Math.Max(n / options.EarlyExaggeration / 4, 50);
        Tensor velocity = zeros_like(y), gains = ones_like(y), one = ones([n, 1], y.dtype, y.device);
        Tensor buffers = empty([2, Math.Min(BlockRows, n), n], p.dtype, device: p.device);
        var trace = new List<(int, double)>();
        for (int step = 0; step < options.Iterations; step++)
        {
            cancellation.ThrowIfCancellationRequested();
            using DisposeScope temporaries = NewDisposeScope();
            bool early = step < options.ExaggerationIterations;
            Tensor gradient = Gradient(p, y, one, buffers, early ? options.EarlyExaggeration : 1);
            Tensor same = gradient.sign().eq(velocity.sign());
            gains.copy_(where(same, gains * 0.8, gains + 0.2).clamp_min_(MinimumGain));
            velocity.mul_(early ? 0.5 : 0.8).add_(gradient.mul_(gains), -rate);
            y.add_(velocity);
            y.sub_(y.mean([0L], keepdim: true));
            if ((step + 1) % options.TraceEvery == 0 || step + 1 == options.Iterations) trace.Add((step + 1, Divergence(p, entropy, y, one, buffers)));
        }
        return new TSneResult(y.MoveToOuterDisposeScope(), trace);
    }

    /// <summary>
    /// Probabilities p(j | i) of the neighbours of each row: a Gaussian around the row whose width gives it the wanted perplexity, found by bisection.
    /// </summary>
    /// <param name="data">Floating point [n, d], n at least 3.</param>
    /// <param name="perplexity">exp of the entropy of every row, in nats; above 1 and below n. (Where a row has so many exact duplicates that its entropy cannot fall that far, it stays above.)</param>
    /// <returns>[n, n]; rows sum to 1, the diagonal is 0.</returns>
    /// <exception cref="ArgumentException">The data are no matrix of finite numbers, or the perplexity is outside its range.</exception>
    public static Tensor ConditionalProbabilities(Tensor data, double perplexity)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (data.dim() != 2 || !data.is_floating_point() || data.shape[0] < 3) throw new ArgumentException($"Data must be floating point [n, d] with n at least 3, not {data.dtype} [{string.Join(", ", data.shape)}].", nameof(data));
        long n = data.shape[0];
        if (!(perplexity > 1 && perplexity < n)) throw new ArgumentOutOfRangeException(nameof(perplexity), perplexity, $"The perplexity must be above 1 and below the {n} rows.");
        if (!data.isfinite().all().item<bool>()) throw new ArgumentException("The data hold NaN or infinity.", nameof(data));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = data - data.mean([0L], keepdim: true); // Centred, so that the expanded square loses fewer digits.
        Tensor norms = x.square().sum(dim: 1, keepdim: true);
        Tensor distances = addmm(norms + norms.t(), x, x.t(), beta: 1, alpha: -2).clamp_min_(0);
        distances.diagonal().fill_(double.PositiveInfinity);
        distances.sub_(distances.amin([1], keepdim: true)); // The nearest neighbour has weight 1: nothing underflows entirely.
        Tensor finite = distances.masked_fill(distances.isinf(), 0);
        double target = Math.Log(perplexity);
        Tensor scale = finite.sum(dim: 1, keepdim: true) / (n - 1);
        Tensor beta = 1 / scale.clamp_min(1e-20), low = zeros_like(beta), high = full_like(beta, double.PositiveInfinity);
        Tensor p = empty_like(distances);
        for (int round = 0; round < 100; round++)
        {
            using DisposeScope temporaries = NewDisposeScope();
            p.copy_(distances).mul_(-beta).exp_();
            Tensor total = p.sum(dim: 1, keepdim: true);
            // H = -sum p log p = log total + beta E[distance], p = exp(-beta distance) / total.
            Tensor excess = total.log() + beta * (p * finite).sum(dim: 1, keepdim: true) / total - target;
            p.div_(total);
            if (excess.abs().max().ToDouble() < EntropyTolerance) break;
            Tensor wide = excess.gt(0); // too many neighbours: narrower, a larger beta
            low.copy_(where(wide, beta, low));
            high.copy_(where(wide, high, beta));
            beta.copy_(where(high.isinf(), beta * 2, (low + high) / 2).clamp_max_(1e30));
        }
        return p.MoveToOuterDisposeScope();
    }

    /// <summary>Symmetric probabilities p_ij = (p(j | i) + p(i | j)) / 2n.</summary>
    /// <param name="data">Floating point [n, d], n at least 3.</param>
    /// <param name="perplexity">Effective number of neighbours, above 1 and below n.</param>
    /// <returns>[n, n], symmetric; all entries sum to 1.</returns>
    /// <exception cref="ArgumentException">As for <see cref="ConditionalProbabilities"/>.</exception>
    public static Tensor JointProbabilities(Tensor data, double perplexity)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor conditional = ConditionalProbabilities(data, perplexity);
        return (conditional + conditional.t()).div_(2 * data.shape[0]).MoveToOuterDisposeScope();
    }

    private static Tensor Start(Tensor data, TSneOptions options)
    {
        const double Spread = 1e-4;
        long n = data.shape[0], k = options.Dimensions, from = Math.Min(k, Math.Min(n, data.shape[1]));
        if (options.Start == TSneStart.Random) return randn([n, k], data.dtype, device: CPU, generator: new Generator((ulong)options.Seed)).mul_(Spread).to(data.device);
        Tensor y = Pca.Fit(data, (int)from).Transform(data);
        y = y * (Spread / Math.Max(y.select(1, 0).std().ToDouble(), 1e-30));
        // Fewer columns than dimensions: the others start at random.
        return from == k ? y : cat([y, randn([n, k - from], data.dtype, device: CPU, generator: new Generator((ulong)options.Seed)).mul_(Spread).to(data.device)], 1);
    }

    /// <summary>
    /// Eq. 5: dC/dy_i = 4 sum_j (p_ij - k_ij / z) k_ij (y_i - y_j) with the kernel k_ij = 1 / (1 + |y_i - y_j|^2) and z its sum. Attraction (p k) and repulsion (k^2) are
    /// summed block by block and joined when z is known, so that the kernel stays in the cache.
    /// </summary>
    private static Tensor Gradient(Tensor p, Tensor y, Tensor one, Tensor buffers, double exaggeration)
    {
        long dimensions = y.shape[1];
        Tensor points = cat([y, one], 1), attraction = empty_like(points), repulsion = empty_like(points), z = zeros([], y.dtype, y.device);
        foreach ((long first, Tensor kernel) in Kernel(y, one, buffers[0]))
        {
            Tensor weights = buffers[1].narrow(0, 0, kernel.shape[0]);
            z.add_(kernel.sum());
            weights.copy_(kernel).mul_(p.narrow(0, first, kernel.shape[0]));
            attraction.narrow(0, first, kernel.shape[0]).addmm_(weights, points, beta: 0);
            repulsion.narrow(0, first, kernel.shape[0]).addmm_(kernel.mul_(kernel), points, beta: 0);
        }
        Tensor sums = attraction.mul_(exaggeration).sub_(repulsion.div_(z));
        return y.mul(sums.narrow(1, dimensions, 1)).sub_(sums.narrow(1, 0, dimensions)).mul_(4);
    }

    /// <summary>sum p log(p / q) = sum p log p - sum p log kernel + log z, as p sums to 1.</summary>
    private static double Divergence(Tensor p, double entropy, Tensor y, Tensor one, Tensor buffers)
    {
        double z = 0, cross = 0;
        foreach ((long first, Tensor kernel) in Kernel(y, one, buffers[0]))
        {
            z += kernel.sum().ToDouble();
            kernel.diagonal(first).fill_(1); // p is 0 there
            cross += kernel.log_().mul_(p.narrow(0, first, kernel.shape[0])).sum().ToDouble();
        }
        return entropy - cross + Math.Log(z);
    }

    /// <summary>1 / (1 + |y_i - y_j|^2) with 0 on the diagonal, in blocks of rows that share the buffer [rows, n].</summary>
    private static IEnumerable<(long First, Tensor Kernel)> Kernel(Tensor y, Tensor one, Tensor buffer)
    {
        Tensor norms = y.square().sum(dim: 1, keepdim: true);
        // 1 + |a|^2 + |b|^2 - 2 a b as one product of rows (a, |a|^2, 1) and (-2 b, 1, 1 + |b|^2).
        Tensor left = cat([y, norms, one], 1), right = cat([y * -2, one, norms + 1], 1).t();
        for (long first = 0; first < y.shape[0]; first += buffer.shape[0])
        {
            long rows = Math.Min(buffer.shape[0], y.shape[0] - first);
            Tensor kernel = buffer.narrow(0, 0, rows);
            kernel.addmm_(left.narrow(0, first, rows), right, beta: 0).reciprocal_().diagonal(first).fill_(0);
            yield return (first, kernel);
        }
    }
}
