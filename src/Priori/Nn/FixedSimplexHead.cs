namespace Priori.Nn;

/// <summary>The vertices of a regular simplex: K unit vectors in K - 1 dimensions, each pair with the inner product -1 / (K - 1).</summary>
public static class Simplex
{
    /// <summary>The d-Simplex of Pernici et al. (Regular Polytope Networks, IEEE TNNLS 2021), as the stationary classifier of Biondi et al. (CVPR 2024) uses it.</summary>
    /// <param name="classes">K, at least 2.</param>
    /// <param name="dtype">Element type; float32 by default. The vertices are computed in double precision.</param>
    /// <param name="device">Device; the CPU by default.</param>
    /// <returns>One vertex a row, [K, K - 1]. Row i below K - 1 is a shifted unit vector e_i, the last row is constant.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There are fewer than two classes.</exception>
    public static Tensor Vertices(long classes, ScalarType dtype = ScalarType.Float32, Device? device = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(classes, 2);
        using var scope = NewDisposeScope();
        (double shift, double scale, double last) = Constants(classes);
        Tensor vertices = full([classes, classes - 1], -shift * scale, dtype: float64);
        vertices.narrow(0, 0, classes - 1).diagonal().add_(scale);
        vertices.select(0, classes - 1).fill_(last);
        return vertices.to(dtype).to(device ?? CPU).MoveToOuterDisposeScope();
    }

    // Rows e_0..e_(n-1) and a(1, ..., 1), minus their mean, divided by their norm: entries (e_ij - shift) * scale, and the constant last row.
    internal static (double Shift, double Scale, double Last) Constants(long classes)
    {
        double n = classes - 1, a = (1 - Math.Sqrt(1 + n)) / n, shift = (1 + a) / (n + 1);
        double scale = 1 / Math.Sqrt((1 - shift) * (1 - shift) + (n - 1) * shift * shift);
        return (shift, scale, Math.Sign(a - shift) / Math.Sqrt(n));
    }
}

/// <summary>
/// A classifier that never changes: its weights are the vertices of a regular simplex (Biondi et al., Stationary Representations, CVPR 2024, section 3). It has no parameters, no bias, no
/// normalisation and no temperature, and is described by K alone. Logits cost O(batch K): W rows are shifted unit vectors, so z W^T needs no matrix product.
/// </summary>
public sealed class FixedSimplexHead : Module<Tensor, Tensor>
{
    private readonly double shift;
    private readonly double scale;
    private readonly double last;

    /// <summary>Makes the head of a number of preallocated classes.</summary>
    /// <param name="classes">K, at least 2, and at least all classes that will ever be learned; it can never be changed, since all prototypes depend on it.</param>
    public FixedSimplexHead(long classes) : base(nameof(FixedSimplexHead))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(classes, 2);
        Classes = classes;
        (shift, scale, last) = Simplex.Constants(classes);
    }

    /// <summary>Number of preallocated classes K.</summary>
    public long Classes { get; }

    /// <summary>Logits z W^T [batch, K].</summary>
    /// <param name="z">Features [batch, K - 1], not normalised.</param>
    /// <exception cref="ArgumentException">The features have another width.</exception>
    public override Tensor forward(Tensor z)
    {
        ArgumentNullException.ThrowIfNull(z);
        if (z.dim() != 2 || z.size(1) != Classes - 1) throw new ArgumentException($"A simplex of {Classes} classes takes features [batch, {Classes - 1}], not [{string.Join(", ", z.shape)}].", nameof(z));
        Tensor sum = z.sum(1, keepdim: true);
        return cat([(z - shift * sum) * scale, sum * last], 1);
    }
}
