using Priori.Nn;
using Priori.Runtime;
using TorchSharp.Modules;
using F = TorchSharp.torch.nn.functional;

namespace Priori.Merging;

/// <summary>How the least-squares problems are solved.</summary>
public enum LeastSquaresSolver
{
    /// <summary>Normal equations in double precision: exact, one pass over the inputs.</summary>
    ClosedForm,
    /// <summary>The published solver: Adam on all layers at once, gradients masked to the allowed blocks.</summary>
    Adam,
}

/// <summary>Which features and pre-activations a merged layer is fitted to.</summary>
public enum LeastSquaresTarget
{
    /// <summary>PLeaS: averaged features of matched units predict averaged pre-activations (one row an input).</summary>
    Averaged,
    /// <summary>Ablation <c>perm_separatels</c>: a row of A's features and one of B's, zeros in place of the other's separate units. With the identity matching and ratio 0: RegMean.</summary>
    Separate,
    /// <summary>Ablation <c>perm_mixedls</c>: averaged features of matched units, pre-activations of A and of B in rows of their own.</summary>
    Mixed,
}

/// <summary>Settings of <see cref="PermutedLeastSquares"/>.</summary>
public sealed record LeastSquaresOptions
{
    /// <summary>The solver.</summary>
    public LeastSquaresSolver Solver { get; init; } = LeastSquaresSolver.ClosedForm;

    /// <summary>What is fitted.</summary>
    public LeastSquaresTarget Target { get; init; } = LeastSquaresTarget.Averaged;

    /// <summary>Ridge of the closed form, as a fraction of the mean diagonal of the Gram matrix, at least 0. It pulls towards the partial merge (where the published solver starts), so directions that the inputs do not show keep the averaged weights. 0: minimum-norm change.</summary>
    public double Ridge { get; init; } = 1e-4;

    /// <summary>Steps of Adam; 400 in the published code.</summary>
    public int AdamSteps { get; init; } = 400;

    /// <summary>Learning rate of Adam, decayed to 0 by a cosine; 5e-4 in the published code.</summary>
    public double LearningRate { get; init; } = 5e-4;

    /// <summary>Inputs a step of Adam; 16 in the published code.</summary>
    public int BatchSize { get; init; } = 16;

    /// <summary>Seed of Adam's batches.</summary>
    public int Seed { get; init; }

    /// <summary>Most memory for Gram matrices at a time, in bytes; layers that do not fit together are solved in further passes over the inputs.</summary>
    public long GramMemory { get; init; } = 1L << 30;
}

/// <summary>Mean squared error of one merged layer against its target pre-activations.</summary>
/// <param name="Layer">Name of the layer.</param>
/// <param name="Before">With the weights of the partial merge.</param>
/// <param name="After">With the fitted weights.</param>
public sealed record LayerLoss(string Layer, double Before, double After);

/// <summary>
/// Permuted least squares (PLeaS, section 3.3, eq. 3): every linear and convolution layer of the merged network is fitted by itself so that, given the
/// ensemble's features of the permuted originals, it gives the ensemble's pre-activations. Inputs are the originals' features, never the merged network's,
/// so all layers are independent convex problems. Blocks between separate units of A and of B stay exactly zero. Normalisation layers are not fitted.
/// </summary>
public static class PermutedLeastSquares
{
    private const int ForwardBatch = 128;
    private const long UnfoldedElements = 1 << 22;

    /// <summary>Fits the layers of a partially merged network.</summary>
    /// <param name="a">Network A, put into evaluation mode.</param>
    /// <param name="b">Network B of the same architecture, put into evaluation mode.</param>
    /// <param name="spec">The wiring.</param>
    /// <param name="partitions">The split of each group.</param>
    /// <param name="merged">The partial merge of the two networks with these partitions.</param>
    /// <param name="inputs">Unlabelled inputs [n, ...].</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <returns>The merged checkpoint with fitted weights, and the loss of each layer before and after. Grouped convolutions keep their averages.</returns>
    /// <exception cref="ArgumentException">There are no inputs, or the ridge is negative.</exception>
    public static (Dictionary<string, Tensor> State, IReadOnlyList<LayerLoss> Losses) Fit(
        Network a, Network b, PermutationSpec spec, IReadOnlyDictionary<string, UnitPartition> partitions, IReadOnlyDictionary<string, Tensor> merged, Tensor inputs, LeastSquaresOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        return Fit([a, b], spec, partitions, merged, inputs, options ?? new LeastSquaresOptions());
    }

    /// <summary>Fits the average of several networks whose units already correspond (<see cref="ModelMerger.Align"/>) to their ensemble; all units are merged.</summary>
    /// <param name="networks">At least two networks of one architecture with corresponding units, put into evaluation mode.</param>
    /// <param name="spec">The wiring.</param>
    /// <param name="merged">The average of their tensors.</param>
    /// <param name="inputs">Unlabelled inputs [n, ...].</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <exception cref="ArgumentException">There are fewer than two networks or no inputs, or the ridge is negative.</exception>
    public static (Dictionary<string, Tensor> State, IReadOnlyList<LayerLoss> Losses) Fit(
        IReadOnlyList<Network> networks, PermutationSpec spec, IReadOnlyDictionary<string, Tensor> merged, Tensor inputs, LeastSquaresOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(spec);
        IReadOnlyDictionary<string, UnitPartition> whole = PartialMerge.Partition(spec, MatchResult.Identity(spec), PartialMerge.Uniform(spec, 0));
        return Fit(networks, spec, whole, merged, inputs, options ?? new LeastSquaresOptions());
    }

    private static (Dictionary<string, Tensor> State, IReadOnlyList<LayerLoss> Losses) Fit(
        IReadOnlyList<Network> networks, PermutationSpec spec, IReadOnlyDictionary<string, UnitPartition> partitions, IReadOnlyDictionary<string, Tensor> merged, Tensor inputs, LeastSquaresOptions options)
    {
        ArgumentNullException.ThrowIfNull(networks);
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(partitions);
        ArgumentNullException.ThrowIfNull(merged);
        Calibration.Require(inputs, "Permuted least squares");
        if (networks.Count < 2) throw new ArgumentException($"Merging takes at least two networks, not {networks.Count}.", nameof(networks));
        if (options.Ridge is not (>= 0 and < double.PositiveInfinity)) throw new ArgumentException($"The ridge must be at least 0, not {options.Ridge}.", nameof(options));
        MergedLayer[] layers = [.. networks[0].Architecture.Layers.Where(l => l.Kind is LayerKind.Linear || (l.Kind is LayerKind.Conv2d && l.Groups == 1)).Select(l => new MergedLayer(l, spec, partitions))];
        var fitted = merged.ToDictionary();
        using var source = new Source(networks, layers.Select(l => l.Name), inputs, options.Target);
        if (options.Solver == LeastSquaresSolver.Adam) FitByAdam(source, layers, fitted, options);
        else
            for (int first = 0; first < layers.Length;)
            {
                int count = 0;
                long memory = 0;
                do memory += 8 * layers[first + count++].GramElements(merged);
                while (first + count < layers.Length && memory + 8 * layers[first + count].GramElements(merged) <= options.GramMemory);
                FitClosedForm(source, layers[first..(first + count)], fitted, options.Ridge);
                first += count;
            }
        return (fitted, Losses(source, layers, merged, fitted));
    }

    private static void FitClosedForm(Source source, MergedLayer[] layers, Dictionary<string, Tensor> state, double ridge)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        Tensor[] start = [.. layers.Select(l => l.Stacked(state))]; // [outputs, columns], float64
        Tensor[] gram = [.. start.Select(w => zeros(w.shape[1], w.shape[1], dtype: float64, device: w.device))];
        Tensor[] cross = [.. start.Select(w => zeros(w.shape[1], w.shape[0], dtype: float64, device: w.device))];
        foreach (long[] rows in source.AllRows())
        {
            using var batch = NewDisposeScope();
            source.Forward(rows);
            for (int i = 0; i < layers.Length; i++)
                foreach ((Tensor z, Tensor y) in source.Pairs(layers[i]))
                    for (long at = 0, step = layers[i].SamplesAtOnce(z, y); at < z.shape[0]; at += step)
                    {
                        using var part = NewDisposeScope();
                        long length = Math.Min(step, z.shape[0] - at);
                        Tensor design = layers[i].Design(z.narrow(0, at, length)); // [observations, columns]
                        Tensor residual = ActivationRecorder.Flatten(y.narrow(0, at, length)).to(float64) - design.matmul(start[i].t());
                        gram[i].addmm_(design.t(), design);
                        cross[i].addmm_(design.t(), residual);
                    }
        }
        for (int i = 0; i < layers.Length; i++)
        {
            // The residual of the partial merge is fitted, which centres the ridge there and keeps precision when the fit is already good.
            Tensor change = zeros_like(cross[i]);
            foreach (long block in new[] { 0L, 1L, 2L })
            {
                Tensor outputs = layers[i].OutputBlocks.eq(block).nonzero().flatten().to(change.device);
                if (outputs.numel() == 0) continue;
                Tensor columns = (block == 0 ? layers[i].ColumnBlocks.ge(0) : layers[i].ColumnBlocks.eq(0).logical_or(layers[i].ColumnBlocks.eq(block))).nonzero().flatten().to(change.device);
                Tensor g = gram[i].index_select(0, columns).index_select(1, columns), r = cross[i].index_select(0, columns).index_select(1, outputs);
                Tensor solved = Solve(g, r, ridge);
                change.index_put_(solved, columns.unsqueeze(1), outputs.unsqueeze(0));
            }
            layers[i].Store(start[i] + change.t(), state);
        }
    }

    private static Tensor Solve(Tensor gram, Tensor cross, double ridge)
    {
        double level = ridge * gram.diagonal().mean().item<double>();
        if (level > 0)
        {
            (Tensor factor, Tensor info) = linalg.cholesky_ex(gram + level * eye(gram.shape[0], dtype: float64, device: gram.device));
            if (info.item<int>() == 0) return linalg.solve_triangular(factor.t(), linalg.solve_triangular(factor, cross, upper: false), upper: true);
        }
        (Tensor values, Tensor vectors) = linalg.eigh(gram);
        Tensor inverse = where(values > values.max() * 1e-12, 1 / values, zeros_like(values));
        return vectors.matmul(inverse.unsqueeze(1) * vectors.t().matmul(cross));
    }

    private static void FitByAdam(Source source, MergedLayer[] layers, Dictionary<string, Tensor> state, LeastSquaresOptions options)
    {
        using var scope = NewDisposeScope();
        var parameters = new List<Parameter>();
        var masks = new List<Tensor>();
        var weights = new List<(Parameter Weight, Parameter? Bias)>();
        foreach (MergedLayer layer in layers)
        {
            var weight = new Parameter(state[layer.Weight].clone());
            Parameter? bias = layer.Bias is { } name ? new Parameter(state[name].clone()) : null;
            weights.Add((weight, bias));
            parameters.Add(weight);
            masks.Add(layer.Mask(weight));
            if (bias is null) continue;
            parameters.Add(bias);
            masks.Add(ones_like(bias));
        }
        using var adam = optim.Adam(parameters, options.LearningRate);
        SplitMix64 random = SplitMix64.For(options.Seed, 48);
        int size = (int)Math.Min(options.BatchSize, source.Count);
        for (int step = 0; step < options.AdamSteps; step++)
        {
            using var batch = NewDisposeScope();
            foreach (var group in adam.ParamGroups) group.LearningRate = options.LearningRate * (1 + Math.Cos(Math.PI * step / options.AdamSteps)) / 2;
            long[] rows = [.. Enumerable.Range(0, size).Select(_ => (long)random.Next((int)source.Count))];
            source.Forward(rows);
            Tensor loss = zeros([]).to(parameters[0].device);
            for (int i = 0; i < layers.Length; i++)
            {
                (Tensor Z, Tensor Y)[] pairs = [.. source.Pairs(layers[i])];
                foreach ((Tensor z, Tensor y) in pairs)
                    loss = loss + (layers[i].Apply(z, weights[i].Weight, weights[i].Bias) - y).square().mean() / pairs.Length;
            }
            adam.zero_grad();
            loss.backward();
            using (no_grad())
                for (int p = 0; p < parameters.Count; p++) parameters[p].grad!.mul_(masks[p]);
            adam.step();
        }
        for (int i = 0; i < layers.Length; i++)
        {
            state[layers[i].Weight] = weights[i].Weight.detach().clone().MoveToOuterDisposeScope();
            if (layers[i].Bias is { } name) state[name] = weights[i].Bias!.detach().clone().MoveToOuterDisposeScope();
        }
    }

    private static List<LayerLoss> Losses(Source source, MergedLayer[] layers, IReadOnlyDictionary<string, Tensor> before, Dictionary<string, Tensor> after)
    {
        using var _ = no_grad();
        double[] count = new double[layers.Length];
        var sums = new double[layers.Length, 2];
        foreach (long[] rows in source.AllRows())
        {
            using var scope = NewDisposeScope();
            source.Forward(rows);
            for (int i = 0; i < layers.Length; i++)
                foreach ((Tensor z, Tensor y) in source.Pairs(layers[i]))
                {
                    count[i] += y.numel();
                    for (int k = 0; k < 2; k++)
                    {
                        IReadOnlyDictionary<string, Tensor> state = k == 0 ? before : after;
                        Tensor output = layers[i].Apply(z, state[layers[i].Weight], layers[i].Bias is { } bias ? state[bias] : null);
                        sums[i, k] += (output - y).to(float64).square().sum().item<double>();
                    }
                }
        }
        return [.. layers.Select((l, i) => new LayerLoss(l.Name, sums[i, 0] / count[i], sums[i, 1] / count[i]))];
    }

    // The features and pre-activations of the originals on the same inputs.
    private sealed class Source : IDisposable
    {
        private readonly IReadOnlyList<Network> _networks;
        private readonly ActivationRecorder[] _recorders;
        private readonly Tensor _inputs;
        private readonly LeastSquaresTarget _target;

        public Source(IReadOnlyList<Network> networks, IEnumerable<string> layers, Tensor inputs, LeastSquaresTarget target)
        {
            (_networks, _inputs, _target) = (networks, inputs, target);
            string[] names = [.. layers];
            foreach (Network network in networks) network.eval();
            _recorders = [.. networks.Select(n => new ActivationRecorder(n, names))];
        }

        public long Count => _inputs.shape[0];

        public IEnumerable<long[]> AllRows() => Enumerable.Range(0, (int)Count).Select(i => (long)i).Chunk(ForwardBatch);

        public void Forward(long[] rows)
        {
            using var _ = no_grad();
            Tensor x = _inputs.index_select(0, tensor(rows, device: _inputs.device));
            foreach (Network network in _networks) network.call(x);
        }

        public IEnumerable<(Tensor Z, Tensor Y)> Pairs(MergedLayer layer)
        {
            Tensor[] z = Array.ConvertAll(_recorders, r => r.Inputs[layer.Name]), y = Array.ConvertAll(_recorders, r => r.Outputs[layer.Name]);
            return z.Length == 2 ? PairsOfTwo(layer, z[0], z[1], y[0], y[1]) : _target switch
            {
                LeastSquaresTarget.Averaged => [(Mean(z), Mean(y))],
                LeastSquaresTarget.Separate => z.Zip(y),
                _ => y.Select(own => (Mean(z), own)),
            };
        }

        private IEnumerable<(Tensor Z, Tensor Y)> PairsOfTwo(MergedLayer layer, Tensor za, Tensor zb, Tensor ya, Tensor yb) => _target switch
        {
            LeastSquaresTarget.Averaged => [(layer.Input.Join(za, zb, Side.Both), layer.Output.Join(ya, yb, Side.Both))],
            LeastSquaresTarget.Separate => [(layer.Input.Join(za, zb, Side.A), layer.Output.Join(ya, yb, Side.A)), (layer.Input.Join(za, zb, Side.B), layer.Output.Join(ya, yb, Side.B))],
            _ => [(layer.Input.Join(za, zb, Side.AverageAndA), layer.Output.Join(ya, yb, Side.A)), (layer.Input.Join(za, zb, Side.AverageAndB), layer.Output.Join(ya, yb, Side.B))],
        };

        private static Tensor Mean(Tensor[] tensors) => tensors.Skip(1).Aggregate(tensors[0], (sum, next) => sum + next) / tensors.Length;

        public void Dispose()
        {
            foreach (ActivationRecorder recorder in _recorders) recorder.Dispose();
        }
    }

    private enum Side
    {
        Both,
        A,
        B,
        AverageAndA,
        AverageAndB,
    }

    // The units along one side of a layer: how activations of the originals become activations of the merged network.
    private sealed record Units(int Outer, long Size, UnitPartition? Partition)
    {
        // 0 merged, 1 only A, 2 only B, for every entry of an axis of this length in the originals.
        public Tensor Blocks(long length)
        {
            if (Partition is null) return zeros(length, int64);
            Tensor blocks = cat([zeros(Partition.MergedA.Length, int64), ones(Partition.SeparateA.Length, int64), full(Partition.SeparateB.Length, 2, int64)]);
            return blocks.view(1, -1, 1).expand(Outer, -1, length / (Outer * Size)).reshape(-1);
        }

        public Tensor Join(Tensor a, Tensor b, Side side)
        {
            if (Partition is not { } partition)
                return side switch { Side.A => a, Side.B => b, _ => (a + b) / 2 };
            int axis = a.dim() == 4 ? 1 : (int)a.dim() - 1;
            long[] split = [.. a.shape[..axis], Outer, Size, a.shape[axis] / (Outer * Size), .. a.shape[(axis + 1)..]];
            Tensor Take(Tensor t, long[] units) => t.reshape(split).index_select(axis + 1, tensor(units, device: t.device));
            Tensor separateA = Take(a, partition.SeparateA), separateB = Take(b, partition.SeparateB);
            Tensor both = side switch
            {
                Side.A => Take(a, partition.MergedA),
                Side.B => Take(b, partition.MergedB),
                _ => (Take(a, partition.MergedA) + Take(b, partition.MergedB)) / 2,
            };
            if (side is Side.A or Side.AverageAndA) separateB = zeros_like(separateB);
            if (side is Side.B or Side.AverageAndB) separateA = zeros_like(separateA);
            return cat([both, separateA, separateB], axis + 1).reshape([.. a.shape[..axis], -1, .. a.shape[(axis + 1)..]]);
        }
    }

    private sealed class MergedLayer
    {
        private readonly Layer _layer;

        public MergedLayer(Layer layer, PermutationSpec spec, IReadOnlyDictionary<string, UnitPartition> partitions)
        {
            _layer = layer;
            Units Of(AxisRole role) => spec.AxisOf(Weight, role) is { } axis ? new Units(axis.Axis.Outer, axis.Group.Size, partitions[axis.Group.Name]) : new Units(1, 1, null);
            Input = Of(AxisRole.Input);
            Output = Of(AxisRole.Output);
        }

        public string Name => _layer.Name;
        public string Weight => $"{Name}.weight";
        public string? Bias => _layer.Bias ? $"{Name}.bias" : null;
        public Units Input { get; }
        public Units Output { get; }
        public Tensor OutputBlocks { get; private set; } = null!;
        public Tensor ColumnBlocks { get; private set; } = null!;

        public long GramElements(IReadOnlyDictionary<string, Tensor> state)
        {
            long columns = state[Weight].numel() / state[Weight].shape[0] + 1;
            return columns * (columns + state[Weight].shape[0]);
        }

        // The weight as [outputs, inputs * kernel * kernel] with the bias as a last column; notes which block each row and column belongs to.
        public Tensor Stacked(Dictionary<string, Tensor> state)
        {
            Tensor weight = state[Weight];
            OutputBlocks = Blocks(Output, weight.shape[0]);
            ColumnBlocks = Blocks(Input, weight.shape[1]).repeat_interleave(_layer.Kernel * _layer.Kernel);
            Tensor rows = weight.detach().to(float64).flatten(1);
            if (Bias is null) return rows;
            ColumnBlocks = cat([ColumnBlocks, zeros(1, int64)]);
            return cat([rows, state[Bias].detach().to(float64).unsqueeze(1)], 1);
        }

        public void Store(Tensor stacked, Dictionary<string, Tensor> state)
        {
            Tensor weight = state[Weight];
            Tensor rows = Bias is null ? stacked : stacked.narrow(1, 0, stacked.shape[1] - 1);
            state[Weight] = rows.reshape(weight.shape).to(weight.dtype).contiguous().MoveToOuterDisposeScope();
            if (Bias is not null) state[Bias] = stacked.select(1, stacked.shape[1] - 1).to(weight.dtype).clone().MoveToOuterDisposeScope();
        }

        public Tensor Mask(Tensor weight)
        {
            Tensor rows = Blocks(Output, weight.shape[0]).unsqueeze(1), columns = Blocks(Input, weight.shape[1]).unsqueeze(0);
            Tensor forbidden = (rows + columns).eq(3); // 1 + 2: A reads B or B reads A
            Tensor mask = forbidden.logical_not().to(weight.dtype).to(weight.device);
            return mask.view([.. mask.shape, .. Enumerable.Repeat(1L, (int)weight.dim() - 2)]);
        }

        private static Tensor Blocks(Units units, long mergedLength)
        {
            long original = units.Partition is { } p ? mergedLength / p.Size * units.Size : mergedLength;
            return units.Blocks(original);
        }

        public long SamplesAtOnce(Tensor z, Tensor y)
        {
            long perSample = z.numel() / z.shape[0];
            if (_layer.Kind == LayerKind.Conv2d) perSample = z.shape[1] * _layer.Kernel * _layer.Kernel * y.shape[2] * y.shape[3];
            return Math.Max(1, UnfoldedElements / perSample);
        }

        public Tensor Design(Tensor z)
        {
            Tensor columns = _layer.Kind == LayerKind.Linear
                ? ActivationRecorder.Flatten(z)
                : F.unfold(z, (_layer.Kernel, _layer.Kernel), (_layer.Dilation, _layer.Dilation), (_layer.Padding, _layer.Padding), (_layer.Stride, _layer.Stride)).transpose(1, 2).flatten(0, 1);
            columns = columns.to(float64);
            return Bias is null ? columns : cat([columns, ones([columns.shape[0], 1], dtype: float64, device: columns.device)], 1);
        }

        public Tensor Apply(Tensor z, Tensor weight, Tensor? bias) => _layer.Kind == LayerKind.Linear
            ? F.linear(z, weight, bias)
            : F.conv2d(z, weight, bias, [_layer.Stride, _layer.Stride], [_layer.Padding, _layer.Padding], [_layer.Dilation, _layer.Dilation]);
    }
}
