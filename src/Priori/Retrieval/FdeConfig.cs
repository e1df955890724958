namespace Priori.Retrieval;

/// <summary>The inner projection psi of a fixed dimensional encoding (MUVERA, section 2), R^d to R^d_proj, one per repetition.</summary>
public enum InnerProjection
{
    /// <summary>psi(x) = S x / sqrt(d_proj), S in {+1, -1}^(d_proj x d): the paper's.</summary>
    DenseSign,

    /// <summary>Every input coordinate is added, with a random sign, to one random output coordinate: the reference code's.</summary>
    AmsSketch,

    /// <summary>psi(x) = x; d_proj is d.</summary>
    Identity,
}

/// <summary>The final projection of a fixed dimensional encoding to fewer dimensions (MUVERA, section 2 and appendix C.2).</summary>
public enum FinalProjection
{
    /// <summary>Every coordinate is added, with a random sign, to one random output coordinate: the reference code's.</summary>
    CountSketch,

    /// <summary>A dense matrix of random signs over sqrt(d_final): the paper's experiments. It costs d_FDE * d_final multiply-adds a set.</summary>
    DenseSign,
}

/// <summary>
/// The parameters of a fixed dimensional encoding (Dhulipala et al., "MUVERA: Multi-Vector Retrieval via Fixed Dimensional Encodings",
/// NeurIPS 2024, section 2). The defaults give 10240 dimensions, which the paper compares with the other methods.
/// </summary>
/// <param name="Dimension">d, the length of one token vector.</param>
/// <param name="Repetitions">R, the number of independent repetitions, at least 1.</param>
/// <param name="SimHashBits">k, the number of hyperplanes of a repetition, 0 to 24; they cut space into 2^k partitions.</param>
/// <param name="ProjectionDimension">d_proj, the length of one block; null means d, without projection.</param>
/// <param name="Projection">The kind of inner projection; not used where d_proj is d.</param>
/// <param name="FillEmptyPartitions">Whether a document's empty partitions take the projected token whose bits disagree least. It never applies to queries.</param>
/// <param name="FinalDimension">d_final, the length after the final projection; null means none.</param>
/// <param name="Final">The kind of final projection.</param>
/// <param name="Seed">Repetition r draws its matrices from the generator seeded with Seed + r; queries and documents share them.</param>
public sealed record FdeConfig(
    int Dimension,
    int Repetitions = 20,
    int SimHashBits = 5,
    int? ProjectionDimension = 16,
    InnerProjection Projection = InnerProjection.DenseSign,
    bool FillEmptyPartitions = true,
    int? FinalDimension = null,
    FinalProjection Final = FinalProjection.CountSketch,
    ulong Seed = 1)
{
    /// <summary>d_proj: the length of one block.</summary>
    public int BlockDimension => ProjectionDimension ?? Dimension;

    /// <summary>Whether tokens enter their blocks as they are (d_proj = d).</summary>
    public bool IsIdentity => BlockDimension == Dimension;

    /// <summary>B = 2^k: the partitions of one repetition.</summary>
    public int Partitions => 1 << SimHashBits;

    /// <summary>d_FDE = R * 2^k * d_proj, before the final projection.</summary>
    public int EncodedDimension => checked(Repetitions * Partitions * BlockDimension);

    /// <summary>Checks every range and combination.</summary>
    /// <exception cref="ArgumentException">A parameter is out of range, or two do not fit each other.</exception>
    public void Validate()
    {
        if (Dimension < 1) throw new ArgumentException($"Dimension is {Dimension}; a token vector has at least 1 value.", nameof(Dimension));
        if (Repetitions < 1) throw new ArgumentException($"Repetitions is {Repetitions}; at least 1 is needed.", nameof(Repetitions));
        if (SimHashBits is < 0 or > 24) throw new ArgumentException($"SimHashBits is {SimHashBits}; it must lie in 0..24.", nameof(SimHashBits));
        if (ProjectionDimension is < 1) throw new ArgumentException($"ProjectionDimension is {ProjectionDimension}; at least 1 is needed.", nameof(ProjectionDimension));
        if (FinalDimension is < 1) throw new ArgumentException($"FinalDimension is {FinalDimension}; at least 1 is needed.", nameof(FinalDimension));
        if (Projection == InnerProjection.Identity && !IsIdentity)
            throw new ArgumentException($"ProjectionDimension is {ProjectionDimension}, but the identity projection keeps the {Dimension} dimensions of a token.", nameof(ProjectionDimension));
        if (Projection == InnerProjection.AmsSketch && BlockDimension > Dimension)
            throw new ArgumentException($"ProjectionDimension is {ProjectionDimension}, but an AMS sketch of {Dimension} dimensions has at most as many.", nameof(ProjectionDimension));
        if ((long)Repetitions * Partitions * BlockDimension > int.MaxValue)
            throw new ArgumentException($"R * 2^k * d_proj is {Repetitions} * {Partitions} * {BlockDimension}, more than {int.MaxValue} dimensions.", nameof(Repetitions));
    }
}
