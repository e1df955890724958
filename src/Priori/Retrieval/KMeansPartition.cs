using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// Partitions of space by nearest centre, learned from document tokens: MUVERA's alternative to random hyperplanes (section 2). It depends on
/// the data; the paper finds no gain over SimHash. Empty partitions are filled with the token nearest to the centre.
/// </summary>
public sealed class KMeansPartition
{
    /// <summary>Takes given centres.</summary>
    /// <param name="centers">[R, B, d]: the B centres of each of R repetitions.</param>
    /// <exception cref="ArgumentException">The shape is another.</exception>
    public KMeansPartition(Tensor centers)
    {
        if (centers.dim() != 3) throw new ArgumentException($"Centres must be [R, B, d], not [{string.Join(", ", centers.shape)}].", nameof(centers));
        Centers = centers;
    }

    /// <summary>[R, B, d].</summary>
    public Tensor Centers { get; }

    /// <summary>R.</summary>
    public int Repetitions => (int)Centers.shape[0];

    /// <summary>B.</summary>
    public int Partitions => (int)Centers.shape[1];

    /// <summary>d.</summary>
    public int Dimension => (int)Centers.shape[2];

    /// <summary>Learns the centres by k-means, one run with a seed of its own for every repetition.</summary>
    /// <param name="tokens">[T, d], tokens of the documents or a sample of them.</param>
    /// <param name="repetitions">R.</param>
    /// <param name="partitions">B, at most T.</param>
    /// <param name="seed">Repetition r has seed + r.</param>
    public static KMeansPartition Learn(Tensor tokens, int repetitions, int partitions, int seed = 0) =>
        new(stack([.. Enumerable.Range(0, repetitions).Select(r => KMeans.Fit(tokens, partitions, seed: seed + r).Centers)]));
}
