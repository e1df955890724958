using Priori.Numerics;
using Priori.Runtime;

namespace Priori.Retrieval;

/// <summary>
/// Product quantization (Jégou, Douze, Schmid, TPAMI 2011) as MUVERA uses it (section 3.2, "PQ-C-G"): groups of G consecutive dimensions, k-means with C centres in each, one
/// byte per group. PQ-256-8 is 32 times smaller than float32. If G does not divide the dimension the last group is shorter.
/// It runs on the CPU; vectors from another device are copied there and results moved back.
/// </summary>
public sealed unsafe class ProductQuantizer
{
    /// <summary>An untrained quantizer.</summary>
    /// <param name="centers">C, centres of a group, 1 to 256.</param>
    /// <param name="groupSize">G, dimensions of a group.</param>
    public ProductQuantizer(int centers = 256, int groupSize = 8)
    {
        if (centers is < 1 or > 256) throw new ArgumentOutOfRangeException(nameof(centers), centers, "A code is one byte: 1 to 256 centres.");
        ArgumentOutOfRangeException.ThrowIfLessThan(groupSize, 1);
        (Centers, GroupSize) = (centers, groupSize);
    }

    /// <summary>A trained quantizer from its codebook.</summary>
    /// <param name="codebook">[groups, C, G] float32; a shorter last group is padded with zeros.</param>
    /// <param name="dimension">The length of a vector, above (groups - 1) * G and at most groups * G.</param>
    /// <exception cref="ArgumentException">The shape does not fit.</exception>
    public ProductQuantizer(Tensor codebook, int dimension) : this(
        codebook.dim() == 3 ? (int)codebook.shape[1] : throw new ArgumentException("A codebook is [groups, C, G].", nameof(codebook)), (int)codebook.shape[2])
    {
        if (dimension < 1 || codebook.shape[0] != (dimension + GroupSize - 1) / GroupSize)
            throw new ArgumentException($"A codebook of {codebook.shape[0]} groups of {GroupSize} does not fit vectors of {dimension} dimensions.", nameof(dimension));
        Codebook = TensorMemory.ToFloat32(codebook).clone().DetachFromDisposeScope();
        Dimension = dimension;
    }

    /// <summary>C.</summary>
    public int Centers { get; }

    /// <summary>G.</summary>
    public int GroupSize { get; }

    /// <summary>The length of a vector; 0 before training.</summary>
    public int Dimension { get; private set; }

    /// <summary>Groups of a vector: the bytes of its code.</summary>
    public int Groups => (Dimension + GroupSize - 1) / GroupSize;

    /// <summary>[groups, C, G] float32 on the CPU; null before training.</summary>
    public Tensor? Codebook { get; private set; }

    /// <summary>Learns the centres, all groups in parallel.</summary>
    /// <param name="samples">[n, D], n at least C. Paper: at most 100,000 sampled documents.</param>
    /// <param name="iterations">Most k-means iterations of a group.</param>
    /// <param name="seed">Group g has a seed derived from it and g.</param>
    /// <exception cref="ArgumentException">There are fewer samples than centres.</exception>
    public void Fit(Tensor samples, int iterations = 15, int seed = 0)
    {
        if (samples.dim() != 2 || samples.shape[1] < 1) throw new ArgumentException($"Samples must be [n, D], not [{string.Join(", ", samples.shape)}].", nameof(samples));
        if (samples.shape[0] < Centers) throw new ArgumentException($"There are {samples.shape[0]} samples for {Centers} centres; at least as many are needed.", nameof(samples));
        using var scope = NewDisposeScope();
        var x = TensorMemory.ToFloat32(samples);
        var (n, dimension) = ((int)x.shape[0], (int)x.shape[1]);
        Dimension = dimension;
        var codebook = zeros([Groups, Centers, GroupSize]);
        var from = TensorMemory.Pointer<float>(x);
        var to = TensorMemory.Pointer<float>(codebook);
        Parallel.For(0, Groups, TensorMemory.Threads((double)n * dimension * Centers), () => new int[n], (g, _, labels) =>
        {
            var width = Math.Min(GroupSize, dimension - g * GroupSize);
            using var centers = new NativeBuffer<float>(Centers * (long)width);
            KMeans.Fit(from + g * GroupSize, n, dimension, width, Centers, iterations, Seeds.Derive(seed, g), centers.Pointer, labels);
            for (var c = 0; c < Centers; c++) centers.Slice(c * (long)width, width).CopyTo(new Span<float>(to + ((long)g * Centers + c) * GroupSize, width));
            return labels;
        }, _ => { });
        GC.KeepAlive(x);
        Codebook?.Dispose();
        Codebook = codebook.DetachFromDisposeScope();
    }

    /// <summary>The nearest centre of every group.</summary>
    /// <param name="vectors">[n, D].</param>
    /// <returns>[n, groups] uint8.</returns>
    public Tensor Encode(Tensor vectors)
    {
        var codebook = Trained(vectors);
        using var scope = NewDisposeScope();
        var x = TensorMemory.ToFloat32(vectors);
        var n = (int)x.shape[0];
        var codes = empty([n, Groups], ScalarType.Byte);
        var from = TensorMemory.Pointer<float>(x);
        var centers = TensorMemory.Pointer<float>(codebook);
        var to = TensorMemory.Pointer<byte>(codes);
        Parallel.For(0, Groups, TensorMemory.Threads((double)n * Dimension * Centers), () => new int[n], (g, _, labels) =>
        {
            var width = Math.Min(GroupSize, Dimension - g * GroupSize);
            KMeans.Assign(from + g * GroupSize, n, Dimension, width, centers + (long)g * Centers * GroupSize, Centers, GroupSize, labels);
            for (var i = 0; i < n; i++) to[(long)i * Groups + g] = (byte)labels[i];
            return labels;
        }, _ => { });
        GC.KeepAlive(x);
        return codes.to(vectors.device).MoveToOuterDisposeScope();
    }

    /// <summary>The centres that codes stand for.</summary>
    /// <param name="codes">[n, groups] uint8.</param>
    /// <returns>[n, D] float32.</returns>
    public Tensor Decode(Tensor codes)
    {
        var codebook = Codebook ?? throw new InvalidOperationException("The quantizer is not trained; call Fit first.");
        using var scope = NewDisposeScope();
        var flat = codes.to(ScalarType.Int64).cpu() + arange(Groups, ScalarType.Int64) * Centers;
        return codebook.view(-1, GroupSize).index_select(0, flat.flatten()).view(codes.shape[0], -1).narrow(1, 0, Dimension).contiguous().to(codes.device).MoveToOuterDisposeScope();
    }

    /// <summary>The table of a query: T[g, c] = inner product of the query's group g with its centre c.</summary>
    /// <param name="query">[D].</param>
    /// <returns>[groups, C] float32.</returns>
    public Tensor Table(Tensor query)
    {
        using var scope = NewDisposeScope();
        var codebook = Trained(query.unsqueeze(0));
        var padded = functional.pad(query.to(ScalarType.Float32).cpu(), [0, Groups * GroupSize - Dimension]).view(Groups, 1, GroupSize);
        return (codebook * padded).sum(2).to(query.device).MoveToOuterDisposeScope();
    }

    /// <summary>Scores by table lookup: sum over groups of T[g, code], the inner product of the query with the decoded vectors.</summary>
    /// <param name="query">[D].</param>
    /// <param name="codes">[n, groups] uint8.</param>
    /// <returns>[n] float32.</returns>
    public Tensor Scores(Tensor query, Tensor codes)
    {
        using var scope = NewDisposeScope();
        return Table(query).expand(codes.shape[0], Groups, Centers).gather(2, codes.to(ScalarType.Int64).unsqueeze(2)).sum([1, 2]).MoveToOuterDisposeScope();
    }

    private Tensor Trained(Tensor vectors)
    {
        var codebook = Codebook ?? throw new InvalidOperationException("The quantizer is not trained; call Fit first.");
        if (vectors.dim() != 2 || vectors.shape[1] != Dimension)
            throw new ArgumentException($"Vectors are [{string.Join(", ", vectors.shape)}], but the quantizer was trained on [n, {Dimension}].", nameof(vectors));
        return codebook;
    }
}
