using System.Runtime.InteropServices;
using Microsoft.Extensions.VectorData;
using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>A document as a vector store keeps it: one vector to search by, and the tokens to rerank with.</summary>
public sealed class MultiVectorRecord
{
    /// <summary>The document's id.</summary>
    public string Key { get; set; } = "";

    /// <summary>Its fixed dimensional encoding.</summary>
    public ReadOnlyMemory<float> Encoding { get; set; }

    /// <summary>Its tokens [m, d], row-major float32, little-endian.</summary>
    public byte[] Tokens { get; set; } = [];

    /// <summary>The definition that a store needs to make the collection: the encoding is searched by dot product.</summary>
    /// <param name="encoder">The encoder, for the vectors' length.</param>
    public static VectorStoreCollectionDefinition Definition(FixedDimensionalEncoder encoder) => new()
    {
        Properties =
        [
            new VectorStoreKeyProperty(nameof(Key), typeof(string)),
            new VectorStoreVectorProperty(nameof(Encoding), typeof(ReadOnlyMemory<float>), encoder.OutputDimension) { DistanceFunction = DistanceFunction.DotProductSimilarity },
            new VectorStoreDataProperty(nameof(Tokens), typeof(byte[])),
        ],
    };
}

/// <summary>
/// Multi-vector retrieval in any store of Microsoft.Extensions.VectorData: documents are stored with their fixed dimensional encodings, the store finds candidates by dot product, and the exact
/// Chamfer similarity ranks them here.
/// </summary>
/// <param name="collection">A collection of the store, made with <see cref="MultiVectorRecord.Definition"/>. The caller disposes of it.</param>
/// <param name="encoder">The encoder; searches need the one that the documents were stored with.</param>
public sealed class MultiVectorCollection(VectorStoreCollection<string, MultiVectorRecord> collection, FixedDimensionalEncoder encoder)
{
    /// <summary>Stores a document, in the place of one with the same id.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="document">[m, d].</param>
    /// <param name="cancellation">Cancels the store's work.</param>
    /// <exception cref="ArgumentException">The document is empty, holds NaN, or has another d.</exception>
    public async Task UpsertAsync(string id, Tensor document, CancellationToken cancellation = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        await collection.UpsertAsync(Record(id, document), cancellation).ConfigureAwait(false);
    }

    /// <summary>Removes a document.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="cancellation">Cancels the store's work.</param>
    public Task DeleteAsync(string id, CancellationToken cancellation = default) => collection.DeleteAsync(id, cancellation);

    /// <summary>The best documents for a query.</summary>
    /// <param name="query">[|Q|, d].</param>
    /// <param name="topK">Documents wanted.</param>
    /// <param name="candidates">Documents that the store returns for reranking; at least topK are.</param>
    /// <param name="cancellation">Cancels the store's work.</param>
    /// <returns>Ids and Chamfer similarities, best first.</returns>
    /// <exception cref="ArgumentException">The query is empty, holds NaN, or has another d.</exception>
    /// <exception cref="InvalidDataException">The store returned a record whose tokens are not [m, d].</exception>
    public async Task<IReadOnlyList<(string Id, float Score)>> SearchAsync(Tensor query, int topK = 10, int candidates = 100, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(topK, 1);
        using var encoded = encoder.EncodeQuery(query);
        using var onCpu = encoded.cpu();
        var found = new List<(string Id, float Score)>();
        await foreach (var result in collection.SearchAsync(new ReadOnlyMemory<float>(onCpu.data<float>().ToArray()), Math.Max(topK, candidates), cancellationToken: cancellation).ConfigureAwait(false))
            found.Add((result.Record.Key, Score(query, result.Record)));
        return [.. found.OrderByDescending(item => item.Score).ThenBy(item => item.Id, StringComparer.Ordinal).Take(topK)];
    }

    private MultiVectorRecord Record(string id, Tensor document)
    {
        using var scope = NewDisposeScope();
        return new MultiVectorRecord
        {
            Key = id,
            Encoding = encoder.EncodeDocument(document).cpu().data<float>().ToArray(),
            Tokens = MemoryMarshal.AsBytes<float>(TensorMemory.ToFloat32(document).data<float>().ToArray()).ToArray(),
        };
    }

    private static float Score(Tensor query, MultiVectorRecord record)
    {
        using var scope = NewDisposeScope();
        var tokens = MemoryMarshal.Cast<byte, float>(record.Tokens);
        if (tokens.Length == 0 || tokens.Length % query.shape[1] != 0)
            throw new InvalidDataException($"Record '{record.Key}' has {record.Tokens.Length} bytes of tokens, which are no rows of {query.shape[1]} values.");
        return MaxSim.Score(query, tensor(tokens.ToArray(), [tokens.Length / query.shape[1], query.shape[1]]).to(query.device)).item<float>();
    }
}
