using Priori.Nn;

namespace Priori.Recommendation;

/// <summary>
/// The relation graph of two kinds of documents: nodes are the left documents, the right documents, the keywords and the categories, in this order. An edge joins a document with each of its keywords and with its category;
/// every edge type has an inverse of its own. Labels are no edges: they would leak what is to be predicted.
/// </summary>
public sealed class MatchingGraph : IDisposable
{
    /// <summary>Names of the relations, by index.</summary>
    public static readonly IReadOnlyList<string> RelationNames = ["left to keyword", "keyword to left", "right to keyword", "keyword to right", "left to category", "category to left", "right to category", "category to right"];

    private const int KeywordToLeft = 1, CategoryToLeft = 5;

    private readonly List<(long Source, long Target, int Relation)> edges;

    /// <summary>Takes known nodes and edges, as saved.</summary>
    /// <param name="left">Left documents, at least 1.</param>
    /// <param name="right">Right documents, at least 1.</param>
    /// <param name="keywords">The keywords.</param>
    /// <param name="categories">The categories.</param>
    /// <param name="edges">int64 [edges, 3]: source, target, relation.</param>
    /// <param name="device">Where the graph lies; the CPU when null.</param>
    /// <exception cref="ArgumentException">There is no document on a side, or an edge names a node or relation that does not exist.</exception>
    public MatchingGraph(int left, int right, IReadOnlyList<string> keywords, IReadOnlyList<string> categories, Tensor edges, Device? device = null)
        : this(left, right, keywords, categories, ToList(edges), device)
    {
    }

    private MatchingGraph(int left, int right, IReadOnlyList<string> keywords, IReadOnlyList<string> categories, List<(long, long, int)> edges, Device? device)
    {
        if (left < 1 || right < 1) throw new ArgumentException($"Both sides need a document; there are {left} left and {right} right ones.", nameof(left));
        (Left, Right, Keywords, Categories, this.edges) = (left, right, keywords, categories, edges);
        Device = device ?? CPU;
        Graph = Lay(Nodes, edges);
    }

    /// <summary>Left documents: nodes 0..Left-1.</summary>
    public int Left { get; }

    /// <summary>Right documents: the nodes after them.</summary>
    public int Right { get; }

    /// <summary>The keywords: the nodes after those.</summary>
    public IReadOnlyList<string> Keywords { get; }

    /// <summary>The categories: the last nodes.</summary>
    public IReadOnlyList<string> Categories { get; }

    /// <summary>Number of nodes.</summary>
    public int Nodes => Left + Right + Keywords.Count + Categories.Count;

    /// <summary>Where the graph lies.</summary>
    public Device Device { get; }

    /// <summary>The graph.</summary>
    public RelationalGraph Graph { get; }

    /// <summary>Edges as int64 [edges, 3]: source, target, relation.</summary>
    public Tensor Edges => tensor(edges.SelectMany(e => new[] { e.Source, e.Target, e.Relation }).ToArray(), [edges.Count, 3]);

    /// <summary>Documents without any edge.</summary>
    public int Isolated
    {
        get
        {
            var joined = edges.Select(e => e.Source).ToHashSet();
            return Enumerable.Range(0, Left + Right).Count(i => !joined.Contains(i));
        }
    }

    /// <summary>Builds the graph of keywords and categories. A keyword or category of either side is one node.</summary>
    /// <param name="left">Keywords of each left document; a keyword counts once.</param>
    /// <param name="right">Keywords of each right document.</param>
    /// <param name="leftCategories">Category of each left document, null for none.</param>
    /// <param name="rightCategories">Category of each right document.</param>
    /// <param name="device">Where the graph lies; the CPU when null.</param>
    /// <exception cref="ArgumentException">There is no document on a side, or the counts do not fit.</exception>
    public static MatchingGraph FromKeywords(IReadOnlyList<IReadOnlyList<string>> left, IReadOnlyList<IReadOnlyList<string>> right,
        IReadOnlyList<string?>? leftCategories = null, IReadOnlyList<string?>? rightCategories = null, Device? device = null)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        if ((leftCategories is not null && leftCategories.Count != left.Count) || (rightCategories is not null && rightCategories.Count != right.Count))
            throw new ArgumentException("There must be as many categories as documents.", nameof(leftCategories));
        string[] keywords = [.. left.Concat(right).SelectMany(k => k).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        string[] categories = [.. (leftCategories ?? []).Concat(rightCategories ?? []).OfType<string>().Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        int documents = left.Count + right.Count;
        var keywordNode = keywords.Select((k, i) => (k, Node: (long)documents + i)).ToDictionary(k => k.k, k => k.Node, StringComparer.Ordinal);
        var categoryNode = categories.Select((c, i) => (c, Node: (long)documents + keywords.Length + i)).ToDictionary(c => c.c, c => c.Node, StringComparer.Ordinal);
        var edges = new List<(long, long, int)>();
        void Join(long document, long node, int relation)
        {
            edges.Add((document, node, relation));
            edges.Add((node, document, relation + 1));
        }
        for (int side = 0; side < 2; side++)
        {
            var (documentKeywords, documentCategories, offset) = side == 0 ? (left, leftCategories, 0) : (right, rightCategories, left.Count);
            for (int i = 0; i < documentKeywords.Count; i++)
            {
                foreach (string keyword in documentKeywords[i].Distinct(StringComparer.Ordinal)) Join(offset + i, keywordNode[keyword], 2 * side);
                if (documentCategories?[i] is { } category) Join(offset + i, categoryNode[category], 4 + 2 * side);
            }
        }
        return new MatchingGraph(left.Count, right.Count, keywords, categories, edges, device);
    }

    /// <summary>
    /// The graph with new left documents as its last nodes. Edges lead only to them, from keywords and categories that the graph knows: so they change nothing in the rest of it, and not each other.
    /// </summary>
    /// <param name="keywords">Keywords of each new document; unknown ones are passed over.</param>
    /// <param name="categories">Category of each, null for none.</param>
    public RelationalGraph WithNewLeft(IReadOnlyList<IReadOnlyList<string>> keywords, IReadOnlyList<string?>? categories = null)
    {
        ArgumentNullException.ThrowIfNull(keywords);
        var keywordNode = Keywords.Select((k, i) => (k, Node: (long)Left + Right + i)).ToDictionary(k => k.k, k => k.Node, StringComparer.Ordinal);
        var categoryNode = Categories.Select((c, i) => (c, Node: (long)Left + Right + Keywords.Count + i)).ToDictionary(c => c.c, c => c.Node, StringComparer.Ordinal);
        List<(long, long, int)> extended = [.. edges];
        for (int i = 0; i < keywords.Count; i++)
        {
            foreach (string keyword in keywords[i].Distinct(StringComparer.Ordinal))
                if (keywordNode.TryGetValue(keyword, out long node)) extended.Add((node, Nodes + i, KeywordToLeft));
            if (categories?[i] is { } category && categoryNode.TryGetValue(category, out long at)) extended.Add((at, Nodes + i, CategoryToLeft));
        }
        return Lay(Nodes + keywords.Count, extended);
    }

    /// <inheritdoc/>
    public void Dispose() => Graph.Dispose();

    private RelationalGraph Lay(long nodes, List<(long Source, long Target, int Relation)> list)
        => new(nodes, RelationNames.Count, [.. list.Select(e => e.Source)], [.. list.Select(e => e.Target)], [.. list.Select(e => e.Relation)], Device);

    private static List<(long, long, int)> ToList(Tensor edges)
    {
        ArgumentNullException.ThrowIfNull(edges);
        if (edges.dim() != 2 || edges.shape[1] != 3) throw new ArgumentException($"Edges must be [edges, 3]; got [{string.Join(",", edges.shape)}].", nameof(edges));
        long[] values = edges.cpu().contiguous().data<long>().ToArray();
        return [.. Enumerable.Range(0, values.Length / 3).Select(e => (values[3 * e], values[3 * e + 1], (int)values[3 * e + 2]))];
    }
}
