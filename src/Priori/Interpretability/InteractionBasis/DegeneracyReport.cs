using Priori.Nn;
using Priori.Training;

namespace Priori.Interpretability;

/// <summary>How degenerate one linear map is: parameters that can change without changing what the network does on the data.</summary>
/// <param name="Layer">Name of the layer.</param>
/// <param name="Outputs">d_out.</param>
/// <param name="Inputs">d_in, with one for the bias where there is one.</param>
/// <param name="ActivationRank">r_f: rank of the Gram matrix of its inputs.</param>
/// <param name="GradientRank">r_g: rank of the Gram matrix of the network's gradients with respect to its outputs.</param>
/// <param name="SynchronizedBlocks">Groups of two or more of its ReLUs with the same firing pattern on all inputs; empty without ReLUs.</param>
/// <param name="DeadUnits">ReLUs that are never on: all weights in and out of them are free.</param>
public sealed record MapDegeneracy(
    string Layer, long Outputs, long Inputs, int ActivationRank, int GradientRank, IReadOnlyList<IReadOnlyList<int>> SynchronizedBlocks, IReadOnlyList<int> DeadUnits)
{
    /// <summary>Upper bound of the effective parameters: r_f r_g, since the map's block of the Hessian is a sum of Kronecker products.</summary>
    public long EffectiveParameters => (long)ActivationRank * GradientRank;

    /// <summary>Lower bound of the free parameters: d_out d_in - r_f r_g.</summary>
    public long FreeParameters => Outputs * Inputs - EffectiveParameters;

    /// <summary>Free directions beyond the rescaling of single ReLUs: b (b - 1) for each block of b synchronized ones, which can be mixed by any invertible matrix near the identity.</summary>
    public long SynchronizedDirections => SynchronizedBlocks.Sum(b => (long)b.Count * (b.Count - 1));
}

/// <summary>
/// The three sources of degeneracy of each linear map of a network (Bushnaq et al., 2024, section 3): dependent activations, dependent gradients, and ReLUs that fire together. The counts of free
/// directions of synchronized blocks follow from the freedom of mixing them; the paper's own convention was not available.
/// </summary>
public static class DegeneracyReport
{
    /// <summary>Analyzes every linear layer of a network. In networks over sequences all positions count together, and the product of the ranks stays a bound.</summary>
    /// <param name="network">The network; a copy in double precision is used.</param>
    /// <param name="data">Inputs [n, ...], n at least 2.</param>
    /// <param name="tolerance">Eigenvalues below this share of the largest are 0; 1e-10.</param>
    /// <param name="patternTolerance">Share of the inputs (and positions) on which two synchronized ReLUs may differ; 0.</param>
    /// <param name="batchSize">Inputs at a time.</param>
    /// <param name="cancellation">Stops between batches.</param>
    /// <returns>A record for each linear layer, in order.</returns>
    /// <exception cref="ArgumentException">There are fewer than two inputs, or the output is not finite.</exception>
    public static IReadOnlyList<MapDegeneracy> Analyze(Network network, Tensor data, double tolerance = 1e-10, double patternTolerance = 0, int batchSize = 500, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(network);
        ArgumentNullException.ThrowIfNull(data);
        if (data.dim() == 0 || data.shape[0] < 2) throw new ArgumentException("Ranks need at least two inputs.", nameof(data));
        using var scope = NewDisposeScope();
        Architecture architecture = network.Architecture;
        using var copy = new Network(architecture);
        copy.to(ScalarType.Float64);
        copy.Load(network.State().ToDictionary(p => p.Key, p => p.Value.cpu())).eval();
        foreach (var parameter in copy.parameters()) parameter.requires_grad_(false);
        var readers = architecture.Layers.SelectMany((layer, i) => architecture.InputsOf(i).Select(n => (Read: n, layer.Kind))).ToLookup(r => r.Read, r => r.Kind);
        Map[] maps = [.. architecture.Layers.Where(l => l.Kind == LayerKind.Linear).Select(l => new Map(l, readers[l.Name].Any() && readers[l.Name].All(k => k == LayerKind.Relu)))];
        foreach (Map map in maps)
            copy.WeightedLayers[map.Layer.Name].register_forward_hook((_, input, output) =>
            {
                map.See(input, output);
                return output.alias(); // the network frees what it has used
            });
        for (long start = 0; start < data.shape[0]; start += batchSize)
        {
            cancellation.ThrowIfCancellationRequested();
            using var batch = NewDisposeScope();
            Tensor x = data.narrow(0, start, Math.Min(batchSize, data.shape[0] - start)).cpu().to(float64).detach().clone().requires_grad_();
            Tensor output = copy.call(x).flatten(1);
            if (!output.isfinite().all().ToBoolean()) throw new ArgumentException("The network's output is not finite.", nameof(data));
            for (long k = 0; k < output.shape[1]; k++)
            {
                using var pass = NewDisposeScope();
                Tensor one = output.select(1, k);
                Tensor[] gradients = JacobianProducts.Vjp(one, [.. maps.Select(m => m.Output!)], ones_like(one));
                for (int i = 0; i < maps.Length; i++) maps[i].Gradients.add_(Gram(gradients[i]));
            }
        }
        return [.. maps.Select(m =>
        {
            (IReadOnlyList<IReadOnlyList<int>> blocks, IReadOnlyList<int> dead) = m.Rectified ? Synchronized(cat(m.Firing, 0), patternTolerance) : ([], []);
            return new MapDegeneracy(m.Layer.Name, m.Layer.Width, m.Activations!.shape[0], Rank(m.Activations, tolerance), Rank(m.Gradients, tolerance), blocks, dead);
        })];
    }

    private static Tensor Gram(Tensor values)
    {
        Tensor rows = values.detach().reshape(-1, values.shape[^1]);
        return rows.t().matmul(rows);
    }

    // What is gathered for one linear layer; its sums are made outside of the scopes of batches.
    private sealed class Map(Layer layer, bool rectified)
    {
        public Layer Layer => layer;
        public bool Rectified => rectified;
        public Tensor Gradients { get; } = zeros(layer.Width, layer.Width, dtype: float64);
        public Tensor? Activations { get; private set; }
        public List<Tensor> Firing { get; } = [];
        public Tensor? Output { get; private set; }

        public void See(Tensor input, Tensor output)
        {
            Output = output;
            using var scope = NewDisposeScope();
            using var ungraphed = no_grad();
            Tensor f = layer.Bias ? cat([input, ones([.. input.shape[..^1], 1], dtype: float64)], -1) : input, gram = Gram(f);
            if (Activations is null) Activations = gram.MoveToOtherDisposeScope(Gradients);
            else Activations.add_(gram);
            if (rectified) Firing.Add(output.detach().reshape(-1, output.shape[^1]).gt(0).MoveToOtherDisposeScope(Gradients));
        }
    }

    /// <summary>Groups ReLUs by their firing patterns.</summary>
    /// <param name="on">Whether each ReLU is on for each input, bool [n, units].</param>
    /// <param name="tolerance">Share of the inputs on which two of a group may differ; a group is what differs that little from its first unit.</param>
    /// <returns>Groups of two or more that fire at least once, and the units that never do.</returns>
    public static (IReadOnlyList<IReadOnlyList<int>> Blocks, IReadOnlyList<int> Dead) Synchronized(Tensor on, double tolerance = 0)
    {
        ArgumentNullException.ThrowIfNull(on);
        ArgumentOutOfRangeException.ThrowIfNegative(tolerance);
        using var scope = NewDisposeScope();
        Tensor pattern = on.to(float64);
        double n = pattern.shape[0];
        Tensor counts = pattern.sum(dim: 0), both = pattern.t().matmul(pattern);
        Tensor together = (counts.unsqueeze(0) + counts.unsqueeze(1) - 2 * both).le(tolerance * n + 1e-9).cpu(); // Hamming distances
        bool[] same = together.flatten().data<bool>().ToArray();
        double[] fired = counts.cpu().data<double>().ToArray();
        int units = fired.Length;
        var taken = new bool[units];
        var blocks = new List<IReadOnlyList<int>>();
        for (int i = 0; i < units; i++)
        {
            if (taken[i] || fired[i] == 0) continue;
            int[] block = [.. Enumerable.Range(i, units - i).Where(j => !taken[j] && fired[j] > 0 && same[i * units + j])];
            foreach (int j in block) taken[j] = true;
            if (block.Length > 1) blocks.Add(block);
        }
        return (blocks, [.. Enumerable.Range(0, units).Where(i => fired[i] == 0)]);
    }

    /// <summary>Rank of a symmetric positive semidefinite matrix.</summary>
    internal static int Rank(Tensor gram, double tolerance)
    {
        using var scope = NewDisposeScope();
        Tensor values = linalg.eigvalsh((gram + gram.t()) / 2);
        double largest = values.max().ToDouble();
        return largest <= 0 ? 0 : (int)values.gt(tolerance * largest).sum().ToInt64();
    }
}
