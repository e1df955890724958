using Priori.Training;

namespace Priori.Interpretability;

/// <summary>In which basis the directions of a node layer are described.</summary>
public enum BasisKind
{
    /// <summary>The local interaction basis: orthogonal in the activations and in the gradients of the next layer's coordinates.</summary>
    Local,

    /// <summary>The interaction basis with the gradients of the network's output in place of the next layer's.</summary>
    Final,

    /// <summary>Principal components of the activations, for comparison.</summary>
    Pca,

    /// <summary>The neurons themselves, for comparison.</summary>
    Neuron,
}

/// <summary>How the gradient is averaged along the path from 0 to the activation.</summary>
public enum IntegrationMethod
{
    /// <summary>At the activation alone, as in the published experiments.</summary>
    Gradient,

    /// <summary>The trapezoidal rule.</summary>
    Trapezoidal,

    /// <summary>Gauss-Legendre quadrature.</summary>
    GaussLegendre,
}

/// <summary>Settings of <see cref="InteractionBasis.Compute"/>.</summary>
public sealed record InteractionBasisOptions
{
    /// <summary>The basis.</summary>
    public BasisKind Basis { get; init; } = BasisKind.Local;

    /// <summary>Whether the mean is taken off first; it then is a direction of its own that is never rotated or dropped.</summary>
    public bool Center { get; init; } = true;

    /// <summary>Eigenvalues below this share of the largest are dropped, at least 0; 1e-10. (The published code drops below 1e-15 absolutely.)</summary>
    public double Truncation { get; init; } = 1e-10;

    /// <summary>How edges are integrated.</summary>
    public IntegrationMethod Integration { get; init; } = IntegrationMethod.Gradient;

    /// <summary>Intervals (trapezoidal) or points (Gauss-Legendre) of the integration, at least 1.</summary>
    public int Intervals { get; init; } = 8;

    /// <summary>Random sources for the Gram matrix of the Jacobian, in place of one pass a target coordinate; null for the exact matrix. Not used where a section has a closed form.</summary>
    public int? StochasticSources { get; init; }

    /// <summary>Whether the last node layer gets its principal components; otherwise it keeps its coordinates.</summary>
    public bool RotateFinalLayer { get; init; }

    /// <summary>Whether edges are computed too.</summary>
    public bool Edges { get; init; } = true;

    /// <summary>Rows at a time.</summary>
    public int ChunkSize { get; init; } = 1000;

    /// <summary>Seed of the random sources.</summary>
    public int Seed { get; init; }
}

/// <summary>The directions of one node layer: coordinates fhat = (f - mean) C, most important first.</summary>
/// <param name="Name">The node layer.</param>
/// <param name="C">[d, r].</param>
/// <param name="CPinv">The pseudo-inverse [r, d]; C CPinv is a projector of rank r.</param>
/// <param name="Lambda">Importance of each direction [r], descending: the mean square of its coordinate where the gradients have unit length.</param>
/// <param name="Mean">[d]; zeros without centring.</param>
/// <param name="Isolated">How many of the first directions are isolated coordinates (variances of layer normalisations); they are kept in every ablation, like the mean.</param>
public sealed record LayerBasis(string Name, Tensor C, Tensor CPinv, Tensor Lambda, Tensor Mean, int Isolated = 0)
{
    /// <summary>Number of directions.</summary>
    public int Size => (int)Lambda.shape[0];

    /// <summary>The smallest relative gap (Lambda_k - Lambda_k+1) / Lambda_k; 1 for a single direction. Where it is tiny, directions of the same importance are arbitrary mixtures of one another.</summary>
    public double SmallestGap
    {
        get
        {
            double[] values = [.. Lambda.cpu().data<double>().Skip(Isolated).OrderDescending()];
            return values.Zip(values.Skip(1), (a, b) => (a - b) / Math.Max(a, double.Epsilon)).DefaultIfEmpty(1).Min();
        }
    }

    /// <summary>Coordinates fhat [n, r] or [n, positions, r].</summary>
    /// <param name="activations">f [n, d] or [n, positions, d].</param>
    public Tensor Coordinates(Tensor activations)
    {
        ArgumentNullException.ThrowIfNull(activations);
        return (activations.to(C.dtype) - Mean).matmul(C);
    }

    /// <summary>Activations from coordinates; what the basis dropped is at its mean.</summary>
    /// <param name="coordinates">fhat [n, r] or [n, positions, r].</param>
    public Tensor Activations(Tensor coordinates)
    {
        ArgumentNullException.ThrowIfNull(coordinates);
        return Mean + coordinates.matmul(CPinv);
    }
}

/// <summary>Interactions from one node layer to the next.</summary>
/// <param name="From">Index of the earlier node layer.</param>
/// <param name="Weights">E [r of the later, r of the earlier]: mean square of what coordinate j contributes to coordinate i through its gradient.</param>
/// <param name="Constant">[r of the later]: the same for the constant direction (mean and biases).</param>
public sealed record EdgeMatrix(int From, Tensor Weights, Tensor Constant);

/// <summary>Bases of all node layers and the interactions between them.</summary>
/// <param name="Layers">A basis for each node layer.</param>
/// <param name="Edges">Edges of each section; empty when they were not asked for.</param>
public sealed record InteractionGraph(IReadOnlyList<LayerBasis> Layers, IReadOnlyList<EdgeMatrix> Edges);

/// <summary>
/// The (local) interaction basis (Bushnaq et al., Using Degeneracy in the Loss Landscape for Mechanistic Interpretability, 2024, section 4; Bushnaq et al., The Local Interaction Basis, 2024,
/// section 3): a basis of each layer in which activations are uncorrelated, gradients of the next layer's coordinates are orthonormal, and what does not matter has been dropped.
/// </summary>
public static class InteractionBasis
{
    /// <summary>Computes bases, last node layer first, and the edges between them.</summary>
    /// <param name="model">The network.</param>
    /// <param name="calibration">Inputs [n, ...], n at least 2.</param>
    /// <param name="options">Settings; null for the defaults.</param>
    /// <param name="cancellation">Stops between layers.</param>
    /// <exception cref="ArgumentException">There are fewer than two inputs, activations are not finite, or the output of a section does not depend on its input at all.</exception>
    public static InteractionGraph Compute(SectionedModel model, Tensor calibration, InteractionBasisOptions? options = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(calibration);
        options ??= new InteractionBasisOptions();
        if (calibration.dim() == 0 || calibration.shape[0] < 2) throw new ArgumentException($"A basis needs at least two calibration inputs, not {(calibration.dim() == 0 ? 0 : calibration.shape[0])}.", nameof(calibration));
        if (options.Truncation is not (>= 0 and < 1)) throw new ArgumentOutOfRangeException(nameof(options), options.Truncation, "The truncation must be in [0, 1).");
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Intervals, 1, nameof(options));
        using var scope = NewDisposeScope();
        IReadOnlyList<Tensor> activations = model.Activations(calibration, options.ChunkSize);
        int last = model.Nodes.Count - 1;
        var bases = new LayerBasis[last + 1];
        bases[last] = Plain(model.Nodes[last], activations[last], options.RotateFinalLayer, model.Isolated[last], options);
        for (int l = last - 1; l >= 0; l--)
        {
            cancellation.ThrowIfCancellationRequested();
            bases[l] = options.Basis switch
            {
                BasisKind.Pca => Plain(model.Nodes[l], activations[l], rotate: true, model.Isolated[l], options),
                BasisKind.Neuron => Plain(model.Nodes[l], activations[l], rotate: false, [], options),
                _ => Interaction(model, l, activations[l], options.Basis == BasisKind.Local ? bases[l + 1] : bases[last], options.Basis == BasisKind.Local ? l + 1 : last, options),
            };
        }
        EdgeMatrix[] edges = options.Edges ? [.. Enumerable.Range(0, last).Select(l => Edges(model, l, activations[l], bases[l], bases[l + 1], options, cancellation))] : [];
        foreach (LayerBasis basis in bases)
            foreach (Tensor tensor in new[] { basis.C, basis.CPinv, basis.Lambda, basis.Mean }) tensor.MoveToOuterDisposeScope();
        foreach (EdgeMatrix edge in edges)
            foreach (Tensor tensor in new[] { edge.Weights, edge.Constant }) tensor.MoveToOuterDisposeScope();
        return new InteractionGraph(bases, edges);
    }

    private static Tensor Rows(Tensor f) => f.dim() == 2 ? f : f.flatten(0, 1);

    private static Tensor MeanOf(Tensor f, bool center) => center ? Rows(f).mean([0]) : zeros(f.shape[^1], f.dtype);

    // Eigenvalues above the truncation with their vectors, descending; symmetrised first.
    private static (Tensor Values, Tensor Vectors) Eigen(Tensor matrix, double truncation)
    {
        (Tensor values, Tensor vectors) = linalg.eigh((matrix + matrix.t()) / 2);
        Tensor order = values.argsort(descending: true);
        values = values.index_select(0, order);
        double largest = values[0].ToDouble();
        long kept = largest <= 0 ? 0 : values.gt(truncation * largest).sum().ToInt64();
        return (values.narrow(0, 0, kept), vectors.index_select(1, order.narrow(0, 0, kept)));
    }

    // Principal components or the neurons.
    private static LayerBasis Plain(string name, Tensor f, bool rotate, IReadOnlyList<int> isolated, InteractionBasisOptions options)
    {
        Tensor mean = MeanOf(f, options.Center), a = Rows(f) - mean;
        if (rotate)
            return Isolate(name, mean, a, null, isolated, (gram, _) =>
            {
                (Tensor values, Tensor u) = Eigen(gram, options.Truncation);
                if (values.shape[0] == 0) throw new ArgumentException($"Node layer '{name}' does not vary over the calibration inputs.");
                return (u, u.t().contiguous(), values);
            });
        Tensor unit = eye(f.shape[^1], dtype: f.dtype);
        return new LayerBasis(name, unit, unit.clone(), a.square().mean([0]), mean);
    }

    // Whitening by R, then the eigenvectors of the Jacobian's Gram matrix in whitened coordinates.
    private static LayerBasis Interaction(SectionedModel model, int layer, Tensor f, LayerBasis target, int targetLayer, InteractionBasisOptions options)
    {
        Tensor mean = MeanOf(f, options.Center), a = Rows(f) - mean;
        return Isolate(model.Nodes[layer], mean, a, () => JacobianGram(model, layer, targetLayer, f, target.C, options), model.Isolated[layer], (gram, jacobian) =>
        {
            (Tensor d, Tensor u) = Eigen(gram, options.Truncation);
            if (d.shape[0] == 0) throw new ArgumentException($"Node layer '{model.Nodes[layer]}' does not vary over the calibration inputs.");
            Tensor r = u / d.sqrt(), rPinv = d.sqrt().unsqueeze(1) * u.t();
            (Tensor lambda, Tensor v) = Eigen(rPinv.matmul(jacobian!).matmul(rPinv.t()), options.Truncation);
            if (lambda.shape[0] == 0) throw new ArgumentException($"The output of the section after '{model.Nodes[layer]}' does not depend on layer '{model.Nodes[layer]}'.");
            Tensor root = lambda.sqrt();
            return (r.matmul(v) * root, (v / root).t().matmul(rPinv), lambda);
        });
    }

    // The basis of all coordinates but the isolated ones, which come first, each scaled so that the Jacobian with respect to it has mean square 1.
    private static LayerBasis Isolate(string name, Tensor mean, Tensor a, Func<Tensor>? jacobianGram, IReadOnlyList<int> isolated, Func<Tensor, Tensor?, (Tensor C, Tensor CPinv, Tensor Lambda)> rotate)
    {
        Tensor gram = a.t().matmul(a) / a.shape[0];
        if (gram.diagonal().max().ToDouble() <= 1e-26 * mean.square().max().ToDouble()) gram.zero_(); // rounding of a constant layer
        if (isolated.Count == 0)
        {
            (Tensor c, Tensor cPinv, Tensor lambda) = rotate(gram, jacobianGram?.Invoke());
            return new LayerBasis(name, c, cPinv, lambda, mean);
        }
        Tensor? jacobian = jacobianGram?.Invoke();
        long[] apart = [.. isolated.Select(i => (long)i)], others = [.. Enumerable.Range(0, (int)gram.shape[0]).Except(isolated).Select(i => (long)i)];
        Tensor columns = tensor(apart), rest = tensor(others);
        Tensor Inner(Tensor matrix) => matrix.index_select(0, rest).index_select(1, rest);
        (Tensor inner, Tensor innerPinv, Tensor importance) = rotate(Inner(gram), jacobian is null ? null : Inner(jacobian));
        Tensor slope = jacobian is null ? ones(apart.Length, gram.dtype) : jacobian.diagonal().index_select(0, columns).sqrt();
        slope = slope.where(slope.gt(0), ones_like(slope)); // without influence: its own unit
        Tensor whole = zeros(gram.shape[0], apart.Length + inner.shape[1], gram.dtype), inverse = zeros(apart.Length + inner.shape[1], gram.shape[0], gram.dtype);
        for (int k = 0; k < apart.Length; k++) (whole[apart[k], k], inverse[k, apart[k]]) = (slope[k], 1 / slope[k]);
        whole.narrow(1, apart.Length, inner.shape[1]).index_copy_(0, rest, inner);
        inverse.narrow(0, apart.Length, inner.shape[1]).index_copy_(1, rest, innerPinv);
        return new LayerBasis(name, whole, inverse, cat([gram.diagonal().index_select(0, columns) * slope.square(), importance], 0), mean, apart.Length);
    }

    /// <summary>M' = (1/n) sum_x J^T J for the Jacobian of a target layer's coordinates with respect to a layer's activation; with positions, summed over output and input positions and divided by them.</summary>
    /// <param name="model">The network.</param>
    /// <param name="layer">Index of the node layer.</param>
    /// <param name="targetLayer">Index of the target node layer, above it.</param>
    /// <param name="f">Activations of the layer, float64 [n, d] or [n, positions, d].</param>
    /// <param name="c">C of the target layer [d of the target, r].</param>
    /// <param name="options">Chunks, random sources and their seed.</param>
    /// <param name="closedForm">Whether the closed form of a linear section may be used.</param>
    /// <returns>[d, d].</returns>
    public static Tensor JacobianGram(SectionedModel model, int layer, int targetLayer, Tensor f, Tensor c, InteractionBasisOptions options, bool closedForm = true)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(f);
        ArgumentNullException.ThrowIfNull(c);
        ArgumentNullException.ThrowIfNull(options);
        long n = f.shape[0], rows = Rows(f).shape[0], d = f.shape[^1];
        using var scope = NewDisposeScope();
        if (closedForm && targetLayer == layer + 1 && model.Linear[layer] is { } section)
        {
            // sum_x W^T diag(m) C C^T diag(m) W = W^T [(m^T m) o (C C^T)] W.
            Tensor masks = section.Mask(Rows(f));
            return section.Weight.t().matmul(masks.t().matmul(masks) / rows * c.matmul(c.t())).matmul(section.Weight).MoveToOuterDisposeScope();
        }
        Tensor gram = zeros(d, d, f.dtype);
        using var generator = new Generator((ulong)Runtime.Seeds.Derive(options.Seed, layer, 4));
        for (long start = 0; start < n; start += options.ChunkSize)
        {
            using var chunk = NewDisposeScope();
            Tensor x = f.narrow(0, start, Math.Min(options.ChunkSize, n - start)).detach().clone().requires_grad_();
            Tensor target = x;
            for (int l = layer; l < targetLayer; l++) target = model.Sections[l](target);
            target = target.matmul(c).reshape(x.shape[0], -1);
            if (!target.requires_grad) throw new ArgumentException($"The output of the section after '{model.Nodes[layer]}' does not depend on layer '{model.Nodes[layer]}'.");
            int passes = options.StochasticSources ?? (int)target.shape[1];
            for (int k = 0; k < passes; k++)
            {
                using var pass = NewDisposeScope();
                Tensor source = options.StochasticSources is null
                    ? zeros_like(target).index_fill_(1, tensor((long)k).reshape(1), 1)
                    : randint(0, 2, target.shape, target.dtype, generator: generator) * 2 - 1;
                Tensor g = Rows(JacobianProducts.Vjp(target, [x], source)[0]);
                gram.add_(g.t().matmul(g) / (options.StochasticSources ?? 1));
            }
        }
        return (gram / rows).MoveToOuterDisposeScope();
    }

    private static EdgeMatrix Edges(SectionedModel model, int layer, Tensor f, LayerBasis from, LayerBasis to, InteractionBasisOptions options, CancellationToken cancellation)
    {
        if (model.Linear[layer] is { } section) return LinearEdges(layer, section, f, from, to, cancellation);
        int outputs = to.Size, inputs = from.Size;
        Tensor weights = zeros(outputs, inputs, f.dtype), constant = zeros(outputs, f.dtype);
        (double Position, double Weight)[] path = Path(options);
        for (long start = 0; start < f.shape[0]; start += options.ChunkSize)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            Tensor x = f.narrow(0, start, Math.Min(options.ChunkSize, f.shape[0] - start)), coordinates = from.Coordinates(x);
            Tensor reached = to.Coordinates(model.Sections[layer](x));
            // Contribution of coordinate j to coordinate i: [n, (output positions *) i, j], integrated over the path and summed over input positions.
            Tensor contributions = path.Select(p => model.WithConstant(layer, p.Position, () => Contributions(model, layer, x, coordinates, from, to, p.Position)) * p.Weight).Aggregate((a, b) => a + b);
            Tensor remainder = reached.reshape(x.shape[0], -1) - contributions.sum(-1); // what is left is the constant's
            weights.add_(contributions.square().reshape(-1, outputs, inputs).sum(dim: 0));
            constant.add_(remainder.square().reshape(-1, outputs).sum(dim: 0));
        }
        return new EdgeMatrix(layer, weights / f.shape[0], constant / f.shape[0]);
    }

    // With its bias scaled along, a ReLU map is homogeneous: its gradient C'^T diag(m) W C+^T is the same on the whole path, and positions do not mix.
    private static EdgeMatrix LinearEdges(int layer, LinearSection section, Tensor f, LayerBasis from, LayerBasis to, CancellationToken cancellation)
    {
        using var ungraphed = no_grad();
        int outputs = to.Size, inputs = from.Size;
        Tensor rows = Rows(f), left = to.C.t().contiguous(), right = section.Weight.matmul(from.CPinv.t());
        Tensor weights = zeros(outputs, inputs, f.dtype), constant = zeros(outputs, f.dtype);
        long size = Math.Max(1, (1 << 18) / Math.Max(1, outputs * Math.Max(inputs, left.shape[1]))); // Jacobians of a chunk stay in the cache
        for (long start = 0; start < rows.shape[0]; start += size)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            Tensor x = rows.narrow(0, start, Math.Min(size, rows.shape[0] - start)), coordinates = from.Coordinates(x), masks = section.Mask(x);
            Tensor jacobian = (left.unsqueeze(0) * masks.unsqueeze(1)).view(-1, left.shape[1]).matmul(right).view(-1, outputs, inputs);
            weights.add_(jacobian.pow_(2).mul_(coordinates.square().unsqueeze(1)).sum(dim: 0));
            Tensor remainder = to.Coordinates(section.Apply(x)) - (masks * coordinates.matmul(right.t())).matmul(to.C); // what is left is the constant's
            constant.add_(remainder.square().sum(dim: 0));
        }
        return new EdgeMatrix(layer, weights / f.shape[0], constant / f.shape[0]);
    }

    private static Tensor Contributions(SectionedModel model, int layer, Tensor x, Tensor coordinates, LayerBasis from, LayerBasis to, double position)
    {
        Tensor at = (x * position).detach().clone().requires_grad_();
        Tensor target = model.Sections[layer](at).matmul(to.C).reshape(x.shape[0], -1);
        var columns = new List<Tensor>();
        for (long k = 0; k < target.shape[1]; k++)
        {
            using var pass = NewDisposeScope();
            Tensor one = target.select(1, k);
            Tensor contribution = JacobianProducts.Vjp(one, [at], ones_like(one))[0].matmul(from.CPinv.t()) * coordinates;
            columns.Add((x.dim() == 3 ? contribution.sum(1) : contribution).MoveToOuterDisposeScope());
        }
        return stack([.. columns], 1);
    }

    private static (double Position, double Weight)[] Path(InteractionBasisOptions options)
    {
        int n = options.Intervals;
        switch (options.Integration)
        {
            case IntegrationMethod.Gradient: return [(1, 1)];
            case IntegrationMethod.Trapezoidal: return [.. Enumerable.Range(0, n + 1).Select(i => (i / (double)n, (i == 0 || i == n ? .5 : 1) / n))];
            default:
                // Nodes and weights on [-1, 1] from the symmetric tridiagonal matrix of the Legendre recurrence (Golub, Welsch, 1969).
                using (NewDisposeScope())
                {
                    double[] off = [.. Enumerable.Range(1, n - 1).Select(k => k / Math.Sqrt(4.0 * k * k - 1))];
                    Tensor jacobi = zeros(n, n, float64);
                    for (int k = 0; k < off.Length; k++) jacobi[k, k + 1] = jacobi[k + 1, k] = off[k];
                    (Tensor nodes, Tensor vectors) = linalg.eigh(jacobi);
                    double[] x = nodes.data<double>().ToArray(), w = vectors[0].square().data<double>().ToArray();
                    return [.. x.Zip(w, (node, weight) => ((node + 1) / 2, weight))];
                }
        }
    }
}
