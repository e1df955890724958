using Priori.Training;

namespace Priori.Recommendation;

/// <summary>
/// Two-tower retrieval (Yi et al., RecSys 2019; Yao et al., CIKM 2021, section 3.3): a query tower and an item tower, trained so that the inner product of their vectors finds a query's item among
/// those of the batch. Item vectors are computed offline and searched by inner product.
/// </summary>
public sealed class TwoTowerModel : Module<ItemFeatures, ItemFeatures, Tensor>
{
    private readonly FeatureTower query, item;

    /// <summary>Joins two towers. They may share embeddings, or be the same tower.</summary>
    /// <param name="query">The query tower.</param>
    /// <param name="item">The item tower, with vectors of the same width.</param>
    /// <param name="temperature">tau, above 0; 0.05 or more is stable with cosines. Default 0.1.</param>
    /// <param name="maskAccidentalHits">Whether the same item in another row of the batch is no negative.</param>
    /// <exception cref="ArgumentException">The widths differ.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The temperature is not above 0.</exception>
    public TwoTowerModel(FeatureTower query, FeatureTower item, double temperature = 0.1, bool maskAccidentalHits = true) : base(nameof(TwoTowerModel))
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(item);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
        if (query.OutputDim != item.OutputDim) throw new ArgumentException($"The towers' vectors must have one width; they have {query.OutputDim} and {item.OutputDim}.", nameof(item));
        (this.query, this.item, Temperature, MaskAccidentalHits) = (query, item, temperature, maskAccidentalHits);
        RegisterComponents();
    }

    /// <summary>The query tower.</summary>
    public FeatureTower Query => query;

    /// <summary>The item tower.</summary>
    public FeatureTower Item => item;

    /// <summary>The temperature tau.</summary>
    public double Temperature { get; }

    /// <summary>Whether the same item in another row of the batch is no negative.</summary>
    public bool MaskAccidentalHits { get; }

    /// <summary>Scores [queries, items]: inner products of the vectors over the temperature.</summary>
    public override Tensor forward(ItemFeatures input1, ItemFeatures input2) => query.Encode(input1).matmul(item.Encode(input2).t()) / Temperature;

    /// <summary>The main loss of a batch of (query, item) pairs, L_main.</summary>
    /// <param name="queries">Queries of the pairs, n.</param>
    /// <param name="items">Items of the pairs, n.</param>
    /// <param name="itemRows">Which item of the catalogue each is, int64 [n].</param>
    /// <param name="logQ">log of the training frequency of each pair's item, [n], to correct for popular items being negatives more often; null (the paper's equation) for no correction.</param>
    /// <param name="maskedFeatures">Features of the items to mask, bool [n, features]: feature dropout on the main task; null for none.</param>
    /// <returns>A scalar.</returns>
    public Tensor Loss(ItemFeatures queries, ItemFeatures items, Tensor itemRows, Tensor? logQ = null, Tensor? maskedFeatures = null)
    {
        Tensor logits = query.Encode(queries).matmul(item.Encode(items, maskedFeatures).t()) / Temperature;
        return InBatchSoftmax.Loss(logits, logQ, MaskAccidentalHits ? itemRows : null);
    }
}
