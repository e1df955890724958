using Priori.Nn;

namespace Priori.Recommendation;

/// <summary>What stands in the place of a feature that is masked, missing or unknown.</summary>
public enum MaskEmbedding
{
    /// <summary>A learned default embedding for each feature (Yao et al., section 3.2).</summary>
    Learned,

    /// <summary>A vector of zeros that stays so.</summary>
    Zero,
}

/// <summary>
/// The embedding layer of a tower: one vector a feature. The vectors of a feature's (id, value) pairs, value * E[id], are summed; a feature that is masked or has no value is replaced by its mask
/// embedding. Towers of one catalogue share it.
/// </summary>
public sealed class FeatureEmbedding : Module<Tensor, Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor, Tensor> table;
    private readonly Tensor mask, pooling, categorical;
    private readonly bool singleValued;

    /// <summary>Creates the layer.</summary>
    /// <param name="schema">The features.</param>
    /// <param name="dim">Width d of a feature's embedding; default 16.</param>
    /// <param name="maskEmbedding">What replaces a feature that is masked or missing; a learned one begins at zero.</param>
    /// <param name="initialDeviation">Standard deviation of the normal numbers that the default table begins with, above 0. Default 0.1.</param>
    /// <param name="table">
    /// Any module (ids int64 [batch, slots], values [batch, slots]) -> [batch, slots, dim], or [batch, features, dim] if it joins the values of a feature itself, such as a
    /// <see cref="HashedFieldEmbedding"/> with one chunk a feature; by default a <see cref="FieldEmbedding"/>.
    /// </param>
    public FeatureEmbedding(ItemFeatureSchema schema, long dim = 16, MaskEmbedding maskEmbedding = MaskEmbedding.Learned, double initialDeviation = 0.1, Module<Tensor, Tensor, Tensor>? table = null)
        : base(nameof(FeatureEmbedding))
    {
        ArgumentNullException.ThrowIfNull(schema);
        ArgumentOutOfRangeException.ThrowIfLessThan(dim, 1);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(initialDeviation);
        (Schema, Dim) = (schema, dim);
        this.table = table ?? Table(schema, dim, initialDeviation);
        int k = schema.Features.Count;
        singleValued = schema.Slots == k;
        mask = maskEmbedding == MaskEmbedding.Learned ? Parameter(zeros(k, dim)) : zeros(k, dim);
        pooling = zeros(k, schema.Slots);
        for (int f = 0; f < k; f++) pooling[f].narrow(0, schema.FirstSlots[f], schema.Features[f].Slots).fill_(1);
        categorical = tensor(schema.Features.Select(f => f.Kind != ItemFeatureKind.Numeric).ToArray());
        RegisterComponents();
    }

    /// <summary>The features.</summary>
    public ItemFeatureSchema Schema { get; }

    /// <summary>Width d of a feature's embedding.</summary>
    public long Dim { get; }

    /// <summary>Embeds items without masking: [batch, features, d] of ids and values [batch, slots].</summary>
    public override Tensor forward(Tensor input1, Tensor input2) => Embed(new ItemFeatures(input1, input2));

    /// <summary>Embeds items.</summary>
    /// <param name="items">Items of the schema.</param>
    /// <param name="masked">Features to replace: bool [features], or [batch, features] for each item its own; null for none.</param>
    /// <returns>[batch, features, d].</returns>
    public Tensor Embed(ItemFeatures items, Tensor? masked = null)
    {
        Schema.Check(items);
        Tensor looked = table.forward(items.Ids, items.Values);
        Tensor features = looked.size(1) == Schema.Features.Count ? looked : pooling.matmul(looked);
        Tensor weights = singleValued ? items.Values : items.Values.abs().matmul(pooling.t());
        Tensor replaced = weights.eq(0).logical_and(categorical);
        if (masked is not null) replaced = replaced.logical_or(masked);
        return where(replaced.unsqueeze(-1), mask, features);
    }

    private static FieldEmbedding Table(ItemFeatureSchema schema, long dim, double deviation)
    {
        var table = new FieldEmbedding(schema.Slots, schema.Ids, dim);
        init.normal_(table.Weight, 0, deviation);
        return table;
    }
}

/// <summary>A tower of a two-tower model: the features' embeddings, concatenated, through an MLP to a vector, of length 1 so that the inner product of two is their cosine.</summary>
public sealed class FeatureTower : Module<Tensor, Tensor, Tensor>
{
    private readonly FeatureEmbedding embedding;
    private readonly Mlp mlp;
    private readonly bool normalize;

    /// <summary>Creates a tower.</summary>
    /// <param name="embedding">Its embeddings; towers that are given the same ones share them.</param>
    /// <param name="hidden">Hidden widths of the MLP.</param>
    /// <param name="outDim">Width of the vector.</param>
    /// <param name="normalize">Whether vectors are divided by their norm (at least 1e-12).</param>
    public FeatureTower(FeatureEmbedding embedding, IReadOnlyList<long> hidden, long outDim, bool normalize = true) : base(nameof(FeatureTower))
    {
        ArgumentNullException.ThrowIfNull(embedding);
        ArgumentOutOfRangeException.ThrowIfLessThan(outDim, 1);
        this.embedding = embedding;
        this.normalize = normalize;
        mlp = new Mlp(embedding.Schema.Features.Count * embedding.Dim, hidden, outDim);
        RegisterComponents();
    }

    /// <summary>Its embeddings.</summary>
    public FeatureEmbedding Embedding => embedding;

    /// <summary>Width of the vector.</summary>
    public long OutputDim => mlp.OutputDim;

    /// <summary>Vectors [batch, <see cref="OutputDim"/>] of ids and values [batch, slots].</summary>
    public override Tensor forward(Tensor input1, Tensor input2) => Encode(new ItemFeatures(input1, input2));

    /// <summary>Vectors of items.</summary>
    /// <param name="items">Items of the schema.</param>
    /// <param name="masked">Features to mask: bool [features], or [batch, features]; null for none.</param>
    /// <returns>[batch, <see cref="OutputDim"/>].</returns>
    public Tensor Encode(ItemFeatures items, Tensor? masked = null)
    {
        Tensor vectors = mlp.forward(embedding.Embed(items, masked));
        return normalize ? functional.normalize(vectors, dim: 1, eps: 1e-12) : vectors;
    }

    /// <summary>Vectors of any number of items, for an index: in evaluation mode, without a graph, in blocks.</summary>
    /// <param name="items">Items of the schema, on any device.</param>
    /// <param name="block">Items of a block.</param>
    /// <returns>[n, <see cref="OutputDim"/>] on the CPU.</returns>
    public Tensor Vectors(ItemFeatures items, int block = 4096)
    {
        ArgumentNullException.ThrowIfNull(items);
        ArgumentOutOfRangeException.ThrowIfLessThan(block, 1);
        using var ungraphed = no_grad();
        using var scope = NewDisposeScope();
        Device device = mlp.parameters().First().device;
        bool mode = training;
        eval();
        var parts = new List<Tensor> { empty(0, OutputDim) };
        for (long start = 0; start < items.Count; start += block)
        {
            long count = Math.Min(block, items.Count - start);
            parts.Add(Encode(new ItemFeatures(items.Ids.narrow(0, start, count), items.Values.narrow(0, start, count)).To(device)).cpu());
        }
        train(mode);
        return cat(parts).MoveToOuterDisposeScope();
    }
}
