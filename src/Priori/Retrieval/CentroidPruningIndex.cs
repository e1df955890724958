using Priori.Data;
using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>
/// A small two-stage search in the manner of PLAID (Santhanam et al., CIKM 2022), MUVERA's main comparator: tokens are replaced by their nearest k-means centre; a query looks at the documents of the centres
/// nearest to its tokens, scores them by the Chamfer similarity of their centres, and reranks the best exactly. It leaves out PLAID's residual compression and its kernels, so it compares candidates, not speed.
/// </summary>
public sealed class CentroidPruningIndex
{
    private readonly MultiVectorSet _documents;
    private readonly Tensor _centers;
    private readonly int[][] _documentCenters; // the distinct centres of a document
    private readonly int[][] _lists; // the documents of a centre

    /// <summary>Builds the index.</summary>
    /// <param name="documents">The documents, on the CPU.</param>
    /// <param name="centroids">Centres; PLAID takes about 16 sqrt(tokens).</param>
    /// <param name="seed">Seed of k-means.</param>
    public CentroidPruningIndex(MultiVectorSet documents, int centroids, int seed = 0)
    {
        var found = KMeans.Fit(documents.Vectors, centroids, iterations: 8, seed: seed);
        var labels = found.Labels.data<long>().ToArray();
        _documents = documents;
        _centers = found.Centers;
        _documentCenters = [.. Enumerable.Range(0, documents.Count).Select(i => labels[(int)documents.Offsets[i]..(int)documents.Offsets[i + 1]].Select(c => (int)c).Distinct().ToArray())];
        _lists = new int[centroids][];
        var members = Enumerable.Range(0, documents.Count).SelectMany(i => _documentCenters[i].Select(c => (Center: c, Document: i))).ToLookup(pair => pair.Center, pair => pair.Document);
        for (var c = 0; c < centroids; c++) _lists[c] = [.. members[c]];
    }

    /// <summary>Candidates: documents of the probed centres, by the Chamfer similarity of their centres.</summary>
    /// <param name="query">[|Q|, d].</param>
    /// <param name="probes">Centres looked at for every query token.</param>
    /// <param name="count">Candidates wanted.</param>
    /// <returns>Document positions, best first.</returns>
    public int[] Candidates(Tensor query, int probes, int count)
    {
        using var scope = NewDisposeScope();
        var similarity = query.matmul(_centers.t());
        var probed = similarity.topk((int)Math.Min(probes, _centers.shape[0]), 1).indexes.flatten().data<long>().ToArray();
        var (scores, centers, tokens) = (similarity.contiguous().data<float>().ToArray(), (int)_centers.shape[0], (int)query.shape[0]);
        return [.. probed.SelectMany(c => _lists[c]).Distinct()
            .Select(document => (document, Score: Approximate(_documentCenters[document], scores, tokens, centers)))
            .OrderByDescending(item => item.Score).ThenBy(item => item.document).Take(count).Select(item => item.document)];
    }

    private static float Approximate(int[] documentCenters, float[] scores, int tokens, int centers)
    {
        float sum = 0;
        for (var q = 0; q < tokens; q++)
        {
            var best = float.NegativeInfinity;
            foreach (var c in documentCenters) best = Math.Max(best, scores[q * centers + c]);
            sum += best;
        }
        return sum;
    }

    /// <summary>The best documents: candidates reranked by the exact Chamfer similarity.</summary>
    /// <param name="query">[|Q|, d].</param>
    /// <param name="topK">Documents wanted.</param>
    /// <param name="probes">Centres looked at for every query token. PLAID: 1 to 4.</param>
    /// <param name="candidates">Documents reranked.</param>
    public Neighbors Search(Tensor query, int topK = 10, int probes = 4, int candidates = 100)
    {
        using var scope = NewDisposeScope();
        var best = new TopK(topK);
        foreach (var document in Candidates(query, probes, candidates)) best.Push(document, MaxSim.Score(query, _documents[document]).item<float>());
        return best.Sorted();
    }
}
